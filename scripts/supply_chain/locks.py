"""Reads lock files: pip's requirements with one version and its hashes a package, as `make lock` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
HASH = re.compile(r"\s--hash=(\S+)")


class LockError(Exception):
    """A lock file with something else in it than pinned packages."""


@dataclass(frozen=True)
class Pin:
    """One version of a package, and where it is to be installed."""

    name: str
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the line of a requirements file, without the marker."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={one}" for one in self.hashes)])


def role_locks() -> list[Path]:
    """Return the lock files of the roles: all that hosts install."""
    return [path.with_suffix(".txt") for path in sorted(PROJECT.glob("roles/*/files/*.in"))]


def environment_locks() -> dict[str, Path]:
    """Return the lock files of the Python environments on hosts, by the role that makes them."""
    return {path.parts[-3]: path for path in role_locks() if path.name == "requirements.txt"}


def every_lock() -> list[Path]:
    """Return all lock files: those of hosts, of the controller and of the checks."""
    return role_locks() + [path.with_suffix(".txt") for path in sorted(PROJECT.glob("requirements/*.in"))]


def read_lock(path: Path) -> list[Pin]:
    """Return what a lock file pins; a package may have several versions, with markers that exclude each other."""
    text = re.sub(r"(^|\s)#.*$", "", path.read_text(encoding="utf-8").replace("\\\n", " "), flags=re.MULTILINE)
    return [_pin(line.strip(), path) for line in text.splitlines() if line.strip()]


def _pin(line: str, path: Path) -> Pin:
    try:
        requirement = Requirement(HASH.sub("", line))
    except InvalidRequirement as error:
        raise LockError(f"{path}: {line.split(maxsplit=1)[0]} is not a package with its version: {error}") from None
    specifiers = list(requirement.specifier)
    if requirement.url or [one.operator for one in specifiers] != ["=="] or specifiers[0].version.endswith("*"):
        raise LockError(f"{path}: {requirement.name} is not pinned to one version.")
    hashes = tuple(HASH.findall(line))
    if not hashes or not all(one.startswith("sha256:") for one in hashes):
        raise LockError(f"{path}: {requirement.name} has no SHA-256.")
    return Pin(canonicalize_name(requirement.name), specifiers[0].version, requirement.marker, hashes)


def chosen(pins: Iterable[Pin], environment: Mapping[str, str]) -> dict[str, Pin]:
    """Return the pins that pip installs where the markers' variables have these values (PEP 508), by name."""
    found: dict[str, Pin] = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(dict(environment)):
            if pin.name in found:
                raise LockError(f"{pin.name} is pinned twice for Python {environment['python_full_version']}.")
            found[pin.name] = pin
    return found
