"""The two clients, each in a process of its own that runs the same program: Prisma's and ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from conformance.wire import decode, encode

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".cache" / "conformance"
DRIVER = Path(__file__).with_name("driver.py")

Step = dict[str, Any]
Result = dict[str, Any]


class Side:
    """One client, connected to a database of its own."""

    def __init__(self, name: str, python: str, environment: dict[str, str], url: str) -> None:
        self.name = name
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        self._process = subprocess.Popen(
            [python, str(DRIVER)],
            env={**kept, "PYTHONDONTWRITEBYTECODE": "", **environment, "DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the driver of {self.name} has ended with {self._process.wait()}: see its message above"
            )
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        assert self._line() == {"ready": True}
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, steps: list[Step]) -> None:
        """Send steps; answer() has the results."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"steps": encode(steps)}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> list[Result]:
        """The results of the steps that were sent."""
        found: list[Result] = decode(self._line()["results"])
        return found

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def prisma(url: str) -> Side:
    """Prisma's own client."""
    environment = {
        "PRISMA_ORACLE": str(INSTALLED),
        "PRISMA_QUERY_ENGINE_BINARY": str(Path(__file__).with_name("oracle") / "query-engine.mjs"),
    }
    return Side("Prisma", str(INSTALLED / "venv" / "bin" / "python"), environment, url)


def ours(url: str) -> Side:
    """The client of this repository."""
    return Side("ours", sys.executable, {"PYTHONPATH": str(ROOT / "files")}, url)
