"""The deployed gateway with other settings, for a while: a drop-in of its unit, which a restart takes away again."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from faults.machine import Machine

START_PATIENCE = 240.0
"""Seconds that a gateway may take to start, on a busy machine."""

_CHANGE = """
import json, re, sys, yaml
from pathlib import Path
given = json.load(sys.stdin)
config = yaml.safe_load(Path("/etc/litellm/config.yaml").read_text())
config["general_settings"].update(given["general_settings"])
unit = Path("/etc/systemd/system/litellm-gateway.service").read_text()
start = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1]
start = re.sub(r"--num_workers \\d+", f"--num_workers {given['workers']}", start)
folder = Path("/run/litellm-variant")
folder.mkdir(mode=0o755, exist_ok=True)
folder.joinpath("config.yaml").write_text(yaml.safe_dump(config))
start = start.replace("/etc/litellm/config.yaml", str(folder / "config.yaml"))
drop_in = Path("/run/systemd/system/litellm-gateway.service.d")
drop_in.mkdir(parents=True, exist_ok=True)
drop_in.joinpath("variant.conf").write_text(f"[Service]\\nExecStart=\\nExecStart={start}\\n")
"""
_RESTART = "systemctl daemon-reload && systemctl restart litellm-gateway"


def wait_until_ready(url: str, patience: float = START_PATIENCE) -> float:
    """Wait until the gateway answers; returns after how many seconds it did."""
    begun = time.monotonic()
    while True:
        try:
            if httpx.get(f"{url}/health/readiness", timeout=5, trust_env=False).status_code == 200:
                return time.monotonic() - begun
        except httpx.TransportError:
            pass
        if time.monotonic() - begun > patience:
            raise TimeoutError(f"{url} is not ready after {patience:.0f} s")
        time.sleep(0.2)


@contextmanager
def running(host: Machine, url: str, *, workers: int, general_settings: Mapping[str, Any]) -> Iterator[None]:
    """Run the gateway so within the block."""
    change = json.dumps({"workers": workers, "general_settings": dict(general_settings)})
    host.run('exec /opt/litellm/venv/bin/python -c "$1"', _CHANGE, data=change)
    try:
        host.run(_RESTART)
        wait_until_ready(url)
        yield
    finally:
        host.run(f"rm -rf /run/systemd/system/litellm-gateway.service.d/variant.conf /run/litellm-variant; {_RESTART}")
        wait_until_ready(url)
