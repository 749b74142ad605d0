#!/opt/litellm/venv/bin/python
"""Calls both gateways in turn and prints what each call took, as JSON.

A group is a number of calls of one gateway and then as many of the other; which comes first alternates. With one call
a group this is on, off, off, on, …; with more, ``--clients`` of them are always under way. Every group also says how
much of the machine somebody else used meanwhile. What a model is told to think is taken off the latency.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from chat import compact, request_body

SETTLING = 0.15
"""Seconds after a block of calls, for what LiteLLM does after an answer."""
FEWEST_GROUPS = 4
CALL_PATIENCE = 60.0
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
OK = b" 200 "


class CallError(Exception):
    """A gateway did not answer as it should."""


class Client:
    """One keep-alive connection; as little work as can be, for it is in every latency."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, request: bytes, thinking_ms: float) -> float:
        """Send a request and read its answer; milliseconds as the client sees them, less those of the model."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        started = time.perf_counter_ns()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        elapsed = time.perf_counter_ns() - started
        if OK not in head.split(b"\r\n", 1)[0]:
            raise CallError(f"port {self._port} answers {head[:20]!r}: {body[:300]!r}")
        return round(elapsed / 1e6 - thinking_ms, 3)

    def close(self) -> None:
        """Close the connection; gateways drop idle ones after some seconds."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Side:
    """One of the two gateways, with its connections."""

    def __init__(self, name: str, port: int, process: int, clients: int) -> None:
        self.name = name
        self.process = process
        self._clients = [Client(port) for _ in range(clients)]

    async def one(self, request: bytes, thinking_ms: float) -> float:
        """A single call."""
        return await self._clients[0].call(request, thinking_ms)

    async def block(self, requests: list[tuple[bytes, float]]) -> dict[str, Any]:
        """Make these calls, as many at once as there are clients."""
        waiting = iter(requests)
        latencies: list[float] = []
        # Where models think, the clients do not all begin at once, as strangers to each other do not.
        apart = statistics.fmean(thinking_ms for _, thinking_ms in requests) / 1000 / len(self._clients)

        async def work(number: int, client: Client) -> None:
            await asyncio.sleep(number * apart)
            for request, thinking_ms in waiting:
                latencies.append(await client.call(request, thinking_ms))

        cpu, started = cpu_ms(self.process), time.perf_counter()
        await asyncio.gather(*(work(number, client) for number, client in enumerate(self._clients)))
        seconds = time.perf_counter() - started
        await asyncio.sleep(SETTLING)
        self.close()
        return {"latencies_ms": latencies, "seconds": seconds, "cpu_ms": cpu_ms(self.process) - cpu}

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()


def cpu_ms(process: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


class Neighbours:
    """How much of the machine is used by others than the processes given: the rest of the machine, and its host."""

    def __init__(self, processes: list[int]) -> None:
        self._processes = [*processes, os.getpid()]
        self._last = self._now()

    def _now(self) -> tuple[float, float, float]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return (sum(fields) - idle) * TICK_MS, sum(fields) * TICK_MS, sum(map(cpu_ms, self._processes))

    def share(self) -> tuple[float, float]:
        """Processor time of others since the last call, and all that there was, in ms."""
        last, self._last = self._last, self._now()
        busy, total, own = (now - before for now, before in zip(self._last, last, strict=True))
        return max(0.0, busy - own), total


def bodies(size: int, models: list[str]) -> Iterator[tuple[bytes, float]]:
    """Bodies of chats of that size, and how long their model thinks; a few different ones, again and again."""
    made = []
    for number in range(32):
        model = models[number % len(models)]
        thinking = model.rpartition("-")[2]
        body = compact(request_body(number, Random(number), size, model))  # noqa: S311  no secret
        made.append((body, float(thinking) if thinking.isdigit() else 0.0))
    return itertools.cycle(made)


def request(body: bytes, key: str, call_id: str) -> bytes:
    """The bytes of a call."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nx-litellm-call-id: {call_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def compare(given: argparse.Namespace, key: str) -> list[dict[str, Any]]:
    """Call both in turn until there are enough groups, or the time is over."""
    sides = [
        Side("on", given.on[0], given.on[1], given.clients),
        Side("off", given.off[0], given.off[1], given.clients),
    ]
    body = bodies(given.size, given.models.split(","))
    neighbours = Neighbours([*(side.process for side in sides), *given.shipper])
    run = time.time_ns() // 1000
    groups: list[dict[str, Any]] = []
    deadline = 0.0
    for number in range(-given.warmup, given.groups):
        if number == 0:
            deadline = time.monotonic() + given.seconds
        if number > FEWEST_GROUPS and time.monotonic() > deadline:
            break
        # Both get the same bodies.
        chosen = [next(body) for _ in range(given.calls)]
        group: dict[str, Any] = {}
        neighbours.share()
        for side in sides if number % 2 == 0 else reversed(sides):
            asked = [
                (request(one, key, f"bench-{run}-{side.name}-{number}-{at}"), thinking_ms)
                for at, (one, thinking_ms) in enumerate(chosen)
            ]
            if given.calls == 1:
                group[side.name] = {"latencies_ms": [await side.one(*asked[0])]}
            else:
                group[side.name] = await side.block(asked)
        group["others_ms"], group["machine_ms"] = neighbours.share()
        if number >= 0:
            groups.append(group)
    for side in sides:
        side.close()
    return groups


def port_and_process(text: str) -> tuple[int, int]:
    """PORT:PID."""
    port, process = text.split(":")
    return int(port), int(process)


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", type=port_and_process, required=True, help="port and process of the gateway that logs")
    parser.add_argument("--off", type=port_and_process, required=True)
    parser.add_argument("--shipper", type=int, nargs="*", default=[], help="its process, which belongs to us as well")
    parser.add_argument("--models", required=True, help="comma-separated; called in turn")
    parser.add_argument("--size", type=int, required=True, help="bytes of a request body")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1, help="calls of one gateway before it is the other's turn")
    parser.add_argument("--groups", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=1, help="groups that do not count")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for the groups that count")
    given = parser.parse_args()
    gc.disable()
    work = asyncio.wait_for(compare(given, os.environ["LITELLM_MASTER_KEY"]), given.seconds + CALL_PATIENCE)
    try:
        print(json.dumps(asyncio.run(work)))
    except (CallError, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
