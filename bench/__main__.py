"""Measures what the request log costs and what it brings; `make bench` runs it.

Every figure is a comparison with a baseline that takes turns with it in the same run; bench/README.md has the method.
Writes build/bench.json and build/bench.md. A missed bar is a result, not a failure: exit 1 says that something broke.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from bench.figures import Row, table
from bench.hosts import ROOT, Database, Gateway, HostError, Inventory, Watch
from bench.keys import keys
from bench.sections import FULL, FULL_SCHEMA, QUICK, SCHEMA, Bench, Extent
from bench.sections import SECTIONS as REQUEST_LOG

BUILD = ROOT / "build"
SECTIONS = {**REQUEST_LOG, "keys": keys}
BROKEN = (HostError, AnsibleError, RuntimeError, KeyboardInterrupt)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventory/lab", help="default: inventory/lab")
    parser.add_argument(
        "--only",
        default=",".join(SECTIONS),
        metavar="SECTION,…",
        help=f"measure only these: {', '.join(SECTIONS)}",
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: under three minutes, wide intervals")
    parser.add_argument(
        "--pairs",
        type=int,
        metavar="N",
        help="pairs that are stored while inserts are measured, in equal days of which one is dropped then; no more"
        " than time and disk allow;"
        f" default: {FULL.fill_days * FULL.fill_pairs:,}, --quick: {QUICK.fill_days * QUICK.fill_pairs:,}",
    )
    parser.add_argument("--output", type=Path, default=BUILD, help="default: build")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := set(given.only) - set(SECTIONS):
        parser.error(f"--only: there is no section {', '.join(sorted(unknown))}")
    if given.pairs is not None and given.pairs < FULL.fill_days:
        parser.error(f"--pairs: {given.pairs} is no number to spread over {FULL.fill_days} days")
    return given


def extent(given: argparse.Namespace) -> Extent:
    """How much is measured."""
    chosen = QUICK if given.quick else FULL
    return replace(chosen, fill_pairs=given.pairs // chosen.fill_days) if given.pairs else chosen


def say(message: str, *, began: float = time.monotonic()) -> None:
    """A line of progress."""
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"==> {minutes:2d}m{seconds:02d}s  {message}", flush=True)


def prepare(inventory: Inventory, given: argparse.Namespace) -> Bench:
    """Find the hosts and put everything in place there; what an earlier run has left goes."""
    gateway_name, database_name = inventory.first("litellm"), inventory.first("postgresql")
    port = inventory.value(database_name, "postgresql_port", 5432)
    owner, database = (inventory.value(database_name, name) for name in ("database_owner", "database_name"))
    url = f"postgresql+psycopg2://{owner}@/{database}?host=/var/run/postgresql&port={port}"
    bench = Bench(
        Gateway(inventory.connect(gateway_name)),
        Database(inventory.connect(database_name), url, inventory.value(database_name, "database_user")),
        extent(given),
        say,
        may_stop_services=bool(inventory.names("upstream")),
    )
    for host in {gateway_name: bench.gateway.host, database_name: bench.database.host}.values():
        host.install()
    bench.gateway.as_root("gateways.py", "stop")
    say("make the benchmark's own schemas")
    schemas = ("--schemas", SCHEMA, FULL_SCHEMA, f"--service={bench.database.service}")
    bench.raw["server"] = bench.database.tables("create", *schemas)
    bench.gateway.as_root("gateways.py", "room", f"--schema={SCHEMA}")
    return bench


@contextmanager
def watched(inventory: Inventory, bench: Bench, broken: list[str]) -> Iterator[None]:
    """Where one of the hosts goes within the block, what is left of the benchmark falls silent at once."""
    gateway = bench.gateway.host.name

    def lose(name: str) -> None:
        bench.gone = name
        if name != gateway:
            try:
                bench.gateway.fall_silent(inventory.connect(gateway))
            except BROKEN as error:
                broken.append(f"{type(error).__name__}: {error}")

    hosts = {host.name: host for host in (bench.gateway.host, bench.database.host)}
    watches = {name: Watch(inventory.connect(name), lose) for name in hosts}
    try:
        yield
    finally:
        for name, watch in watches.items():
            if name != bench.gone:
                watch.close(hosts[name])


def clean(bench: Bench) -> list[str]:
    """Leave nothing behind; returns what could not be removed, and why."""
    say("clean up")
    bench.gateway.is_silent = False  # what cleans up sends nothing to anybody
    steps = {
        "the gateways": lambda: bench.gateway.as_root("gateways.py", "stop"),
        "the schemas": lambda: bench.database.tables("drop", "--schemas", SCHEMA, FULL_SCHEMA),
        "the gateway's files": bench.gateway.host.remove,
        "the database host's files": bench.database.host.remove,
    }
    left = []
    for what, step in steps.items():
        try:
            step()
        except BROKEN as error:
            left.append(f"{what} are not removed: {error}")
    return left


def write(directory: Path, rows: list[Row], about: dict[str, Any], raw: dict[str, Any]) -> str:
    """Write the files; returns the table."""
    directory.mkdir(parents=True, exist_ok=True)
    text = table(rows)
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in about.items()]
    heading = "# Benchmark\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\n"
    (directory / "bench.json").write_text(
        json.dumps([row.as_json() for row in rows], indent=2, ensure_ascii=False) + "\n"
    )
    (directory / "bench.md").write_text(heading + text)
    (directory / "bench-samples.json").write_text(json.dumps({"about": about, "samples": raw}) + "\n")
    return text


def about(bench: Bench, given: argparse.Namespace, began: float) -> dict[str, Any]:
    """Under which circumstances the figures came about."""
    described = bench.gateway.host.run(
        "nproc; cut -d' ' -f1-3 /proc/loadavg; sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1"
    ).splitlines()
    names = ("cores", "load", "processor")
    return {
        "inventory": given.inventory.name,
        "extent": "quick: wide intervals" if given.quick else "full",
        "began": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time.time() - (time.monotonic() - began))),
        "minutes": round((time.monotonic() - began) / 60, 1),
        **dict(zip(names, described, strict=False)),
        "controller": platform.python_version(),
        **bench.raw["server"],
    }


def measure(bench: Bench, sections: list[str]) -> tuple[list[Row], list[str]]:
    """The rows of the sections, and what broke: then the rest is left out."""
    rows: list[Row] = []
    try:
        for name, section in SECTIONS.items():
            if name in sections:
                rows += section(bench)
                if bench.gone:
                    break
    except BROKEN as error:
        if not bench.gone:
            return rows, [f"{type(error).__name__}: {error}"]
    return rows, [f"the host {bench.gone} is gone, and nothing more was sent"] if bench.gone else []


def main() -> int:
    """Measure, clean up, report."""
    given = arguments()
    began = time.monotonic()
    try:
        inventory = Inventory(given.inventory)
        bench = prepare(inventory, given)
    except BROKEN as error:
        print(f"The benchmark cannot begin: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    broken: list[str] = []
    with watched(inventory, bench, broken):
        rows, said = measure(bench, given.only)
        broken += said
    if rows:
        try:
            print("\n" + write(given.output, rows, about(bench, given, began), bench.raw))
            say(f"written to {given.output}/bench.json, bench.md, bench-samples.json")
        except BROKEN as error:
            broken.append(f"{type(error).__name__}: {error}")
    broken += clean(bench)
    for text in broken:
        print(f"The benchmark broke: {text}", file=sys.stderr)
    missed = [row for row in rows if row.met is False]
    say(f"{sum(row.met is True for row in rows)} bars met, {len(missed)} missed")
    return 1 if broken else 0


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
