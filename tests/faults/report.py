"""Progress, the table and the JSON file."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from faults.count import Result

_COLUMNS = ("accepted", "stored", "lost", "duplicated", "orphaned", "client_errors", "recovered_s")
_BEGAN = time.monotonic()


def say(text: str) -> None:
    """A line of progress, with the time since the start."""
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"{minutes:2}m{seconds:02} {text}", flush=True)


def table(results: Sequence[Result]) -> str:
    """The results, a line each, and below it what has to be said of them."""
    widths = [max(len(column), 8) for column in _COLUMNS]
    name = max([len(result.fault) for result in results] + [5])
    lines = [f"{'fault':{name}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(_COLUMNS, widths, strict=True))]
    for result in results:
        values = ("-" if (value := getattr(result, column)) is None else str(value) for column in _COLUMNS)
        lines.append(f"{result.fault:{name}}  " + "  ".join(f"{v:>{w}}" for v, w in zip(values, widths, strict=True)))
        lines += [f"{'':{name}}    {note}" for note in result.notes]
        lines += [f"{'':{name}}    PROBLEM: {problem}" for problem in result.problems]
    return "\n" + "\n".join(lines) + "\n"


def write(results: Sequence[Result], path: Path) -> None:
    """The JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
