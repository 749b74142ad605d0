"""Mistakes in what the playbook runs with and on: Ansible and collections here, lock files, the system of each host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

Mistake = tuple[str, str, str]

PINNED = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def ansible_mistakes(version: str, wanted: Mapping[str, str]) -> list[Mistake]:
    """Return what of Ansible on this machine, ansible-core or a collection, is not of the wanted version."""
    mistakes = []
    for name, versions in wanted.items():
        found = version if name == "ansible-core" else collection_version(name)
        if not SpecifierSet(versions).contains(found or "0", prereleases=True):
            says = f"This machine has {name} {found or '(none)'}, needed is {versions}: run the playbook with what "
            mistakes.append(("", "", says + "requirements/controller.txt installs."))
    return mistakes


def collection_version(name: str) -> str:
    """Return the version of the collection that Ansible would use, or nothing where there is none."""
    try:
        package = import_module(f"ansible_collections.{name}")
    except ImportError:
        return ""
    manifest = Path(next(iter(package.__path__)), "MANIFEST.json")
    if not manifest.is_file():  # a checkout of the collection's sources
        return ""
    return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])


def package_mistakes(locks: Iterable[str | Path], refused: Mapping[str, list[str]]) -> list[Mistake]:
    """Return the packages in lock files that are `refused`: in the versions given, or in every one where none is."""
    mistakes = []
    for lock in map(Path, locks):
        for pinned, version in PINNED.findall(lock.read_text(encoding="utf-8")):
            name = canonicalize_name(pinned)
            if name in refused and (not refused[name] or version in refused[name]):
                says = f"{'/'.join(lock.parts[-4:])} has {name} {version}, which preflight_refused_packages refuses: "
                mistakes.append(("", "", says + f"edit {lock.stem}.in beside it and run `make lock`."))
    return mistakes


def system_mistakes(
    facts: Mapping[str, Mapping[str, Any]],
    variables: Mapping[str, Mapping[str, Any]],
    supported: Mapping[str, list[Any]],
) -> list[Mistake]:
    """Return what the roles cannot work with on the hosts, as their facts tell it."""
    return [
        (host, at, says)
        for host, known in facts.items()
        for at, says in _system(host, known, variables[host], supported)
    ]


def _system(
    host: str, facts: Mapping[str, Any], variables: Mapping[str, Any], supported: Mapping[str, list[Any]]
) -> Iterator[tuple[str, str]]:
    if not facts:
        yield "", f"{host} has no facts: gather them before these checks."
        return
    name, version = facts["distribution"], facts["distribution_version"]
    releases = {str(version), str(facts["distribution_major_version"])}
    if releases.isdisjoint(map(str, supported.get(name, []))):
        choice = ", ".join(f"{system} {release}" for system, all_of_it in supported.items() for release in all_of_it)
        yield "hosts.yml", f"{host} runs {name} {version}, which is not supported: use one of {choice}."
    if facts["service_mgr"] != "systemd":
        yield "hosts.yml", f"{host} is run by {facts['service_mgr']}: the services need systemd."
    wanted, total = variables.get("postgresql_memory_mb"), facts["memtotal_mb"]
    if "postgresql" in variables["group_names"] and isinstance(wanted, int) and wanted > total:
        yield "postgresql_memory_mb", f"postgresql_memory_mb is {wanted}, but {host} has {total} MB."


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "preflight_ansible_mistakes": ansible_mistakes,
            "preflight_package_mistakes": lambda roles, refused: package_mistakes(
                [path.with_suffix(".txt") for path in sorted(Path(roles).glob("*/files/*.in"))], refused
            ),
            "preflight_system_mistakes": system_mistakes,
        }
