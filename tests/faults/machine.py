"""A host of the lab: commands and scripts on it, as root, and its network, cut from outside."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

PROBES = Path(__file__).with_name("probes")
PATIENCE = 60.0
"""Seconds that a command on a host may take."""

_TABLE = "litellm_faults"
_AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


class CommandError(Exception):
    """A command on a host failed; the message says which and why."""


class Conversation:
    """A command that runs on a host and is spoken to, a line at a time; closing its input ends it."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, line: str) -> None:
        """Say a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """The next line that it says; CommandError where it has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CommandError(f"{self._process.args[3:]!r} has ended")  # type: ignore[index]
        return line.strip()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(timeout=PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Machine:
    """One host, entered by podman."""

    def __init__(self, podman: str, container: str, address: str) -> None:
        self.container = container
        self.address = address
        self._podman = podman

    def run(self, script: str, *arguments: str, data: str = "", patience: float = PATIENCE) -> str:
        """Run a shell script, with $1 … as its arguments and data on its standard input; CommandError if it fails."""
        command = self._enter("sh", "-euc", script, "sh", *arguments)
        try:
            done = subprocess.run(command, input=data, capture_output=True, text=True, check=False, timeout=patience)
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{self.container}: not done within {patience:.0f} s: {script}") from error
        if done.returncode != 0:
            raise CommandError(f"{self.container}: {script}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def probe(self, name: str, *arguments: str, user: str = "root", patience: float = PATIENCE) -> str:
        """Run a script of the folder probes with the host's Python; returns what it prints."""
        source = (PROBES / name).read_text()
        return self.run(
            'user=$1; shift; exec runuser -u "$user" -- python3 - "$@"',
            user,
            *arguments,
            data=source,
            patience=patience,
        )

    def talk(self, name: str, *arguments: str, user: str = "root") -> "Conversation":
        """Start a script of the folder probes, which runs until it is told to end."""
        source = (PROBES / name).read_text()
        return Conversation(self._enter("runuser", "-u", user, "--", "python3", "-c", source, *arguments))

    def hold(self) -> "Conversation":
        """A command that says nothing and ends when it is told to, or when the host does."""
        return Conversation(self._enter("cat"))

    @contextmanager
    def cut_from(self, address: str) -> Iterator[None]:
        """Drop every packet between this host and another one, in its network namespace, without a word."""
        self._filter(
            f"add table inet {_TABLE}\n"
            f"add chain inet {_TABLE} incoming {{ type filter hook input priority -300; }}\n"
            f"add chain inet {_TABLE} outgoing {{ type filter hook output priority -300; }}\n"
            f"add rule inet {_TABLE} incoming ip saddr {address} drop\n"
            f"add rule inet {_TABLE} outgoing ip daddr {address} drop\n"
        )
        try:
            yield
        finally:
            self._filter(f"delete table inet {_TABLE}\n")

    def _filter(self, rules: str) -> None:
        inspect = [self._podman, "inspect", "--format={{.State.Pid}}", self.container]
        process = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        command = [*_AS_ROOT, "nsenter", f"--target={process}", "--net", "nft", "--file=-"]
        done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False, timeout=PATIENCE)
        if done.returncode != 0:
            raise CommandError(f"nft in the network of {self.container}: {done.stderr.strip()}")

    def _enter(self, *command: str) -> list[str]:
        return [self._podman, "exec", "--interactive", self.container, *command]
