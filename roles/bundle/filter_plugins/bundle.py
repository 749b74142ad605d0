"""Filters that look at a bundle on the controller: which one it is, and whether it can be installed on a host."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ARCHIVE, MANIFEST, SUMS = "hosts.tar", "manifest.json", "SHA256SUMS"


def sums(directory: str) -> dict[str, str]:
    """Return the SHA-256 of each file as SHA256SUMS lists it; nothing where there is no such file."""
    path = Path(directory, SUMS)
    if not path.is_file():
        return {}
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def bundle_mistake(directory: str, roles: str, facts: Mapping[str, Any]) -> str:
    """Return why the bundle in a directory is not the one for a host, given its facts; nothing where it is.

    `roles` is the folder of the roles, whose lock files the bundle must have been made from.
    """
    listed = sums(directory)
    if not {ARCHIVE, MANIFEST} <= set(listed):
        return (
            f"bundle_directory is {directory}, where no bundle is: `make bundle` on a machine with a way out makes one."
        )
    for name in (ARCHIVE, MANIFEST):
        if _digest(Path(directory, name)) != listed[name]:
            return f"{directory}/{name} is damaged or incomplete: copy the bundle again."
    manifest = json.loads(Path(directory, MANIFEST).read_text(encoding="utf-8"))
    lists = (path.with_suffix(".txt") for path in Path(roles).glob("*/files/*.in"))
    locks = {str(path.relative_to(Path(roles).parent)): _digest(path) for path in lists}
    if manifest["locks"] != locks:
        return f"The bundle in {directory}, made {manifest['made']}, is for other lock files: run `make bundle` again."
    for_hosts = f"{manifest['distribution']} {manifest['release']} on {manifest['machine']}"
    found = f"{facts['distribution']} {facts['distribution_major_version']} on {facts['architecture']}"
    return "" if found == for_hosts else f"The bundle in {directory} is for {for_hosts}, and this host runs {found}."


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "bundle_digest": lambda directory: sums(directory).get(ARCHIVE, ""),
            "bundle_mistake": bundle_mistake,
        }
