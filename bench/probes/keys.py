#!/opt/litellm/venv/bin/python
"""What LiteLLM's own database costs a gateway: its start, its memory, and calls with a key that is looked up.

    keys.py starts --rounds N            starts a gateway with the database and one without, in turn
    keys.py calls --groups N --seconds S calls one gateway with a virtual key and with the master key, in turn

As in gateways.py, both run the deployed configuration on loopback, with models that LiteLLM answers itself. The calls
with a virtual key leave their spend with a key of the benchmark, which is deleted. Runs as root.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from gateways import ALL_ENVIRONMENT, CONFIGURATION, DIRECTORY, LONGEST_SECONDS, MODEL, models
from load import Neighbours, Side, bodies, request
from overhead import START_PATIENCE, MeasuringError, environment, start_gateway, wait_for
from overhead import Side as Unit

DATABASE = "DATABASE_URL"
CLIENTS = 16
CALLS = CLIENTS * 4
SIZE = 2048
MB = 1_000_000


class Gateway(Unit):
    """A gateway of this benchmark."""

    @property
    def unit(self) -> str:
        """The name of its transient unit."""
        return f"litellm-bench-keys-{self.name}.service"

    def start(self) -> float:
        """Start it; seconds until it is ready."""
        file = DIRECTORY / f"keys-{self.name}.yaml"
        configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
        configuration["model_list"] += models()
        change = None if self.name == "on" else f"--unset={DATABASE}"
        began = time.monotonic()
        start_gateway(
            self, file, configuration, change=change, environment_files=ALL_ENVIRONMENT, longest_seconds=LONGEST_SECONDS
        )
        wait_for(self, began + START_PATIENCE)
        return time.monotonic() - began

    def memory(self) -> float:
        """Resident memory of its one process, in MB (10^6 bytes)."""
        status = Path(f"/proc/{self.property('MainPID')}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS")) / MB

    def stop(self) -> None:
        """Stop it; it may not run."""
        subprocess.run(["systemctl", "stop", self.unit], capture_output=True, check=False)  # noqa: S603, S607

    def post(self, path: str, key: str, **body: Any) -> Any:
        """Call its management API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise MeasuringError(f"{path} answers {answer.status}: {said[:300]!r}")
        return json.loads(said)


def starts(rounds: int) -> list[dict[str, dict[str, float]]]:
    """Seconds to start and memory after some calls, with the database (on) and without (off)."""
    found = []
    for number in range(rounds):
        sides = [Gateway("on", logs=True), Gateway("off", logs=True)]
        one = {}
        for side in sides if number % 2 == 0 else reversed(sides):
            try:
                seconds = side.start()
                caller = Side(side.name, side.port, side.property("MainPID"), CLIENTS)
                asyncio.run(caller.block(_calls(environment()["LITELLM_MASTER_KEY"], CALLS * 4)))
                one[side.name] = {"seconds": seconds, "memory": side.memory()}
            finally:
                side.stop()
        found.append(one)
    return found


def calls(groups: int, seconds: float) -> list[dict[str, Any]]:
    """Blocks of calls with a virtual key (on) and with the master key (off), of one gateway."""
    gateway = Gateway("on", logs=True)
    master = environment()["LITELLM_MASTER_KEY"]
    try:
        gateway.start()
        virtual = gateway.post("/key/generate", master, key_alias=f"bench-{time.time_ns()}")["key"]
        process = gateway.property("MainPID")
        found = asyncio.run(_compare({"on": virtual, "off": master}, gateway.port, process, (groups, seconds)))
        gateway.post("/key/delete", master, keys=[virtual])
        return found
    finally:
        gateway.stop()


async def _compare(keys: dict[str, str], port: int, process: int, extent: tuple[int, float]) -> list[dict[str, Any]]:
    sides = {name: Side(name, port, process, CLIENTS) for name in keys}
    neighbours = Neighbours([process])
    found = []
    deadline = time.monotonic() + extent[1]
    for number in range(-2, extent[0]):  # the first two count for nothing
        if time.monotonic() > deadline:
            break
        group: dict[str, Any] = {}
        neighbours.share()
        for name in ("on", "off") if number % 2 == 0 else ("off", "on"):
            group[name] = await sides[name].block(_calls(keys[name], CALLS))
        group["others_ms"], group["machine_ms"] = neighbours.share()
        if number >= 0:
            found.append(group)
    return found


def _calls(key: str, count: int) -> list[tuple[bytes, float]]:
    run = time.time_ns()
    chosen = itertools.islice(bodies(SIZE, [MODEL]), count)
    return [(request(body, key, f"bench-{run}-{at}"), 0.0) for at, (body, _) in enumerate(chosen)]


def main() -> int:
    """Do what was asked for and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["starts", "calls"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    if DATABASE not in os.environ:
        print(f"{DATABASE} is not set: LiteLLM has no database (litellm_virtual_keys)", file=sys.stderr)
        return 1
    try:
        print(json.dumps(starts(given.rounds) if given.what == "starts" else calls(given.groups, given.seconds)))
    except (MeasuringError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
