#!/opt/litellm/venv/bin/python
"""Two gateways side by side on the gateway's host, one that logs and one that does not, and a shipper of their own.

    gateways.py room --schema NAME     makes the spool and the environment that leads to the schema
    gateways.py start                  prints the ports and processes of both
    gateways.py ship                   starts only the shipper, anew where it runs
    gateways.py memory                 what each of the three processes takes, in MB
    gateways.py stop

As in `make evidence`, both run the deployed configuration as the user of the service, on loopback, with models that
LiteLLM answers itself. What the first one logs goes to a spool of the benchmark and from there to a schema of the
benchmark: nothing of it is ever in the tables of the service. Runs as root; the units end by themselves after an hour.
"""

# ruff: noqa: S603, S607  the commands are the host's own

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import yaml
from chat import said
from overhead import (
    ENVIRONMENT_FILES,
    START_PATIENCE,
    USER,
    MeasuringError,
    Side,
    configuration,
    environment,
    start_gateway,
    systemd_run,
    wait_for,
    without_hook,
)

DIRECTORY = Path("/run/litellm-bench")
STATE = Path("/var/lib/litellm/bench")
SPOOL = STATE / "spool.sqlite3"
ENVIRONMENT = DIRECTORY / "environment"
ALL_ENVIRONMENT = (*ENVIRONMENT_FILES, ENVIRONMENT)
CONFIGURATION = Path("/etc/litellm/config.yaml")
SHIPPER = "litellm-bench-shipper.service"
MODEL = "bench"
DELAYS_MS = (200, 250, 300, 350, 400, 450, 500, 550)
"""How long the models that take their time think."""
ANSWER_CHARACTERS = 700
LONGEST_SECONDS = 3600


class Gateway(Side):
    """One of the two."""

    @property
    def unit(self) -> str:
        """The name of its transient unit."""
        return f"litellm-bench-{self.name}.service"


SIDES = (Gateway("on", logs=True), Gateway("off", logs=False))


def models() -> list[dict[str, Any]]:
    """Models that LiteLLM answers itself: at once, or as late as a provider would."""
    answer = said(Random(0), ANSWER_CHARACTERS)  # noqa: S311  no secret
    mocked = {"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": answer}
    late = [
        {"model_name": f"{MODEL}-{delay}", "litellm_params": {**mocked, "mock_delay": delay / 1000}}
        for delay in DELAYS_MS
    ]
    return [{"model_name": MODEL, "litellm_params": mocked}, *late]


def make_room(schema: str) -> None:
    """A spool of its own, and the environment that leads to it and to the benchmark's schema."""
    url = environment()["LITELLM_DB_URL"]
    url += ("&" if "?" in url else "?") + f"options=-csearch_path%3D{schema}"
    STATE.mkdir(mode=0o750, exist_ok=True)
    ENVIRONMENT.touch(mode=0o640)
    ENVIRONMENT.write_text(
        f'LITELLM_DB_SPOOL="{SPOOL}"\nLITELLM_DB_URL="{url}"\nLITELLM_DB_METRICS_PORT="0"\n', encoding="utf-8"
    )
    for path in (STATE, ENVIRONMENT):
        shutil.chown(path, USER if path == STATE else "root", USER)


def ship() -> None:
    """Start the shipper, anew where it runs."""
    subprocess.run(["systemctl", "stop", SHIPPER], capture_output=True, check=False)  # it may not run yet
    python = "/opt/litellm/venv/bin/python"
    systemd_run(SHIPPER, [python, "-m", "litellm_sqlalchemy", "ship"], ALL_ENVIRONMENT, LONGEST_SECONDS)


def start() -> dict[str, str]:
    """Start both gateways and the shipper; returns PORT:PROCESS of each gateway, once it answers, and the shipper's."""
    began = time.monotonic()
    deployed = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    for side in SIDES:
        file = DIRECTORY / f"{side.name}.yaml"
        with_models = configuration(deployed, logs=side.logs)
        with_models["model_list"] += models()
        change = None if side.logs else without_hook()
        start_gateway(
            side, file, with_models, change=change, environment_files=ALL_ENVIRONMENT, longest_seconds=LONGEST_SECONDS
        )
    ship()
    for side in SIDES:
        wait_for(side, began + START_PATIENCE)
    found = {side.name: f"{side.port}:{side.property('MainPID')}" for side in SIDES}
    return found | {"shipper": main_process(SHIPPER)}


def main_process(unit: str) -> str:
    """The process of a unit, 0 where it does not run."""
    show = ["systemctl", "show", "--value", "--property=MainPID", unit]
    return subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()


def memory() -> dict[str, dict[str, float]]:
    """Resident and proportional memory of each process, and the most that it ever had, in MB (10^6 bytes)."""
    found = {}
    for name, unit in (*((side.name, side.unit) for side in SIDES), ("shipper", SHIPPER)):
        process = main_process(unit)
        if process != "0":
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
            lines += Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
            names = {"resident": "VmRSS", "proportional": "Pss", "peak": "VmHWM"}
            found[name] = {meaning: int(sizes[field]) * 1024 / 1e6 for meaning, field in names.items()}
    return found


def stop() -> None:
    """Stop the three and remove what they have left."""
    units = [*(side.unit for side in SIDES), SHIPPER]
    subprocess.run(["systemctl", "stop", *units], capture_output=True, check=False)  # some may not run
    subprocess.run(["systemctl", "reset-failed", *units], capture_output=True, check=False)  # none may have failed
    if STATE.exists():
        shutil.rmtree(STATE)


def main() -> int:
    """Do what was asked for and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["room", "start", "ship", "memory", "stop"])
    parser.add_argument("--schema", help="the schema of the benchmark")
    given = parser.parse_args()
    try:
        if given.what == "room":
            make_room(given.schema)
        elif given.what == "start":
            print(json.dumps(start()))
        elif given.what == "ship":
            ship()
        elif given.what == "memory":
            print(json.dumps(memory()))
        else:
            stop()
    except (MeasuringError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
