#!/opt/litellm/venv/bin/python
"""What the request log adds to a call: two gateways side by side, one that logs and one that does not.

playbooks/evidence.yml runs this on the gateway's host, as root, with the gateway's Python, and stops the two units
afterwards whatever happens here; they end by themselves after five minutes. Both run the deployed configuration, on
loopback, with a model that LiteLLM answers itself. They are called in turn (on, off, off, on, ...), one call at a
time, and for longer where the machine is busy with other things. What the first one logs goes the way of all calls: to
the gateway's spool, and to the database from there.

Prints every latency as JSON; figures.py makes figures of them.
"""

# ruff: noqa: S603, S607  the commands are the host's own

from __future__ import annotations

import argparse
import gc
import http.client
import itertools
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path("/run/litellm-evidence")
CONFIGURATION = Path("/etc/litellm/config.yaml")
ENVIRONMENT_FILES = (Path("/etc/litellm/settings.env"), Path("/etc/litellm/litellm.env"))
CALLBACK = "litellm_sqlalchemy.callback.request_log"
HOOKS = "LITELLM_WORKER_STARTUP_HOOKS"
INSTALL = "litellm_sqlalchemy.callback:install"
USER = "litellm"
MODEL = "evidence-mock"
PATH = "/v1/chat/completions"
START_PATIENCE = 90.0
"""Seconds that both gateways may take to start."""
CALL_PATIENCE = 20.0
SETTLING = 1.0
"""Seconds after the last call, for what LiteLLM does after an answer."""
FILLER = "The quick brown fox jumps over the lazy dog. "
PAYLOAD_BYTES = 2048
FEWEST_PAIRS = 10
PAIRS_AT_ONCE = 50
"""Pairs between two looks at how sure the figure is."""
WIDEST_MS = 1.0
"""How wide the 95 % confidence interval of the median may be; wherever it lies, so that this favours no outcome."""
LONGEST_SECONDS = 30.0
"""When to leave it at the interval that there is."""
LONGEST_UNIT_SECONDS = 300
"""When the two units end by themselves."""
OK = 200


class MeasuringError(Exception):
    """Why there are no figures."""


@dataclass
class Side:
    """One of the two gateways."""

    name: str
    logs: bool
    port: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    cpu_before: int = 0
    connection: http.client.HTTPConnection | None = None

    @property
    def unit(self) -> str:
        """The name of its transient unit."""
        return f"litellm-evidence-{self.name}.service"

    def property(self, name: str) -> int:
        """A number that systemd knows of the unit."""
        show = ["systemctl", "show", "--value", f"--property={name}", self.unit]
        shown = subprocess.run(show, capture_output=True, text=True, check=True)
        return int(shown.stdout) if shown.stdout.strip().isdigit() else 0


def environment() -> dict[str, str]:
    """The environment of the gateway's unit, read as a shell reads it."""
    read = "set -a; " + "".join(f". {file}; " for file in ENVIRONMENT_FILES) + "exec env -0"
    done = subprocess.run(["sh", "-c", read], capture_output=True, text=True, check=True)
    known = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    if INSTALL not in known.get(HOOKS, ""):
        raise MeasuringError(f"{HOOKS} does not name {INSTALL}: the request log is off (litellm_request_log)")
    return known


def without_hook() -> str:
    """For env(1): the hooks of the gateway's start without ours."""
    return f"{HOOKS}=" + ",".join(hook for hook in environment()[HOOKS].split(",") if hook != INSTALL)


def systemd_run(unit: str, command: list[str], environment_files: tuple[Path, ...], longest_seconds: int) -> None:
    """Start a transient unit as the user of the service."""
    properties = [f"EnvironmentFile={file}" for file in environment_files]
    properties += [f"User={USER}", f"Group={USER}", "UMask=0077", "WorkingDirectory=/var/lib/litellm"]
    properties += [f"RuntimeMaxSec={longest_seconds}", "TimeoutStopSec=20"]
    run = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", *(f"--property={value}" for value in properties)]
    done = subprocess.run([*run, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasuringError(f"{unit} does not start: {done.stderr.strip()}")


def start_gateway(
    side: Side,
    file: Path,
    configuration: dict[str, Any],
    *,
    change: str | None,
    environment_files: tuple[Path, ...] = ENVIRONMENT_FILES,
    longest_seconds: int = LONGEST_UNIT_SECONDS,
) -> None:
    """Start a gateway on a free port of loopback; ``change`` is an argument of env(1) for its environment."""
    file.touch(mode=0o640)
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    shutil.chown(file, "root", USER)
    side.port = free_port()
    command = ["/opt/litellm/venv/bin/litellm", f"--config={file}", "--host=127.0.0.1", f"--port={side.port}"]
    changed = ["/usr/bin/env", change] if change else []
    systemd_run(side.unit, [*changed, *command, "--num_workers=1"], environment_files, longest_seconds)


def configuration(deployed: dict[str, Any], *, logs: bool) -> dict[str, Any]:
    """The deployed configuration with the mocked model, and without our callback where nothing is to be logged."""
    mock = {
        "model_name": MODEL,
        "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": FILLER * 5},
    }
    settings = dict(deployed.get("litellm_settings") or {})
    callbacks = settings.get("callbacks") or []
    if CALLBACK not in callbacks:
        raise MeasuringError(f"{CONFIGURATION} does not name {CALLBACK}: the request log is off (litellm_request_log)")
    if not logs:
        settings["callbacks"] = [callback for callback in callbacks if callback != CALLBACK]
    return deployed | {"litellm_settings": settings, "model_list": [*(deployed.get("model_list") or []), mock]}


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(side: Side, deployed: dict[str, Any]) -> None:
    """Start a gateway with the user and the environment of the deployed one."""
    change = None if side.logs else without_hook()
    changed = configuration(deployed, logs=side.logs)
    start_gateway(side, DIRECTORY / f"{side.name}.yaml", changed, change=change)


def wait_for(side: Side, deadline: float) -> None:
    """Return once a gateway answers."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=CALL_PATIENCE)
        try:
            connection.request("GET", "/health/readiness")
            if connection.getresponse().status == OK:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()
        if time.monotonic() > deadline or side.property("MainPID") == 0:
            journal = ["journalctl", f"--unit={side.unit}", "--lines=15", "--no-pager", "--output=cat"]
            said = subprocess.run(journal, capture_output=True, text=True, check=False).stdout
            raise MeasuringError(f"{side.unit} does not answer. Its journal ends with:\n{said}")


def call(side: Side, key: str, call_id: str) -> float:
    """One call over the side's connection; milliseconds as the client sees them."""
    text = f"{call_id} {FILLER * 50}"[: PAYLOAD_BYTES - 70]  # the rest is the frame
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "x-litellm-call-id": call_id}
    if side.connection is None:
        side.connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=CALL_PATIENCE)
        side.connection.connect()
    started = time.perf_counter_ns()
    side.connection.request("POST", PATH, body, headers)
    answer = side.connection.getresponse()
    content = answer.read()
    elapsed = time.perf_counter_ns() - started
    if answer.status != OK:
        said = content[:300].decode(errors="replace")
        raise MeasuringError(f"the {side.name} gateway answers {answer.status}: {said}")
    return elapsed / 1_000_000


def width_ms(sides: tuple[Side, Side]) -> float:
    """How wide the 95 % confidence interval of the median difference is, by the ranks of the differences."""
    on, off = (side.latencies_ms for side in sides)
    differences = sorted(with_log - without for with_log, without in zip(on, off, strict=True))
    reach = 0.98 * math.sqrt(len(differences))
    middle = (len(differences) - 1) / 2
    return differences[math.ceil(middle + reach)] - differences[math.floor(middle - reach)]


def compare(sides: tuple[Side, Side], key: str, run: str, warmup: int, fewest: int) -> int:
    """Call both in turn and note what each call took; returns how many pairs count, ``warmup`` came before them."""
    gc.disable()
    deadline = time.monotonic() + LONGEST_SECONDS
    for number in itertools.count():
        pairs = number - warmup
        if pairs == 0:
            for side in sides:
                side.cpu_before = side.property("CPUUsageNSec")
        enough = pairs >= fewest and pairs % PAIRS_AT_ONCE == 0
        if enough and (width_ms(sides) <= WIDEST_MS or time.monotonic() > deadline):
            break
        for side in sides if number % 2 == 0 else reversed(sides):
            latency = call(side, key, f"{run}-{side.name}-{number}")
            if pairs >= 0:
                side.latencies_ms.append(round(latency, 4))
    time.sleep(SETTLING)
    return pairs


def figures(side: Side, pairs: int) -> dict[str, Any]:
    """What is known of a side after the last call."""
    status = Path(f"/proc/{side.property('MainPID')}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return {
        "latencies_ms": side.latencies_ms,
        "cpu_ms_per_call": round((side.property("CPUUsageNSec") - side.cpu_before) / pairs / 1_000_000, 3),
        "resident_mb": round(resident / 1024, 1),
    }


def main() -> int:
    """Start, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="what the ids of the calls begin with")
    parser.add_argument("--pairs", type=int, required=True, help="how many pairs of calls count at least")
    parser.add_argument("--warmup", type=int, required=True, help="pairs of calls before them")
    given = parser.parse_args()
    if given.pairs < FEWEST_PAIRS:
        parser.error(f"--pairs: {FEWEST_PAIRS} at least, or there is no distribution")
    began = time.monotonic()
    load_before = [round(load, 2) for load in os.getloadavg()]
    try:
        known = environment()
        deployed = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
        DIRECTORY.mkdir(mode=0o750)
        shutil.chown(DIRECTORY, "root", USER)
        sides = (Side("on", logs=True), Side("off", logs=False))
        for side in sides:
            start(side, deployed)
        for side in sides:
            wait_for(side, began + START_PATIENCE)
        started = time.monotonic()
        pairs = compare(sides, known["LITELLM_MASTER_KEY"], given.run, given.warmup, given.pairs)
        report: dict[str, Any] = {side.name: figures(side, pairs) for side in sides}
    except (MeasuringError, OSError, subprocess.CalledProcessError, http.client.HTTPException) as error:
        print(error, file=sys.stderr)
        return 1
    report |= {
        "pairs": pairs,
        "warmup": given.warmup,
        "payload_bytes": PAYLOAD_BYTES,
        "concurrency": 1,
        "model": MODEL,
        "cpus": os.cpu_count(),
        "load_before": load_before,
        "starting_seconds": round(started - began, 1),
        "calling_seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
