"""Finds out which Debian packages the roles install, by reading their tasks: there is no second list to keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined
from jinja2.exceptions import UndefinedError
from jinja2.nativetypes import NativeEnvironment

from supply_chain.locks import PROJECT

APT = ("ansible.builtin.apt", "apt")
LISTS_OF_TASKS = ("block", "rescue", "always")
NEEDED_BY_APT_ITSELF = "python3-apt"  # installed by Ansible's module where it is missing
ENGINE = NativeEnvironment(undefined=StrictUndefined)


class RolePackagesError(Exception):
    """A task whose packages cannot be told without a host."""


def role_packages(roles: Path = PROJECT / "roles") -> list[str]:
    """Return the Debian packages that the roles install, with the values of the roles' own variables."""
    found = {NEEDED_BY_APT_ITSELF}
    for role in sorted(roles.iterdir()):
        variables = {**_read(role / "defaults" / "main.yml", {}), **_read(role / "vars" / "main.yml", {})}
        for file in sorted(role.glob("tasks/*.yml")) + sorted(role.glob("handlers/*.yml")):
            for task in _apt_tasks(_read(file, [])):
                found.update(_names(task, variables, file))
    return sorted(found)


def _read(file: Path, nothing: Any) -> Any:
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or nothing) if file.is_file() else nothing


def _apt_tasks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        for inner in LISTS_OF_TASKS:
            yield from _apt_tasks(task.get(inner, []))
        if not task.keys().isdisjoint(APT):
            yield task


def _names(task: dict[str, Any], variables: dict[str, Any], file: Path) -> Iterator[str]:
    options = next(task[module] for module in APT if module in task)
    if options.get("state", "present") not in ("present", "latest"):
        return
    names = options.get("name", [])
    try:
        names = _value(names, variables)
    except UndefinedError as error:
        says = f"{file}: which packages '{task.get('name')}' installs depends on more than the role's own variables"
        raise RolePackagesError(f"{says} ({error}), so a bundle cannot be made for it.") from None
    yield from [names] if isinstance(names, str) else names


def _value(template: Any, variables: dict[str, Any]) -> Any:
    """Return a value with its expressions evaluated, and those of the variables that they name."""
    if isinstance(template, list):
        return [_value(item, variables) for item in template]
    if isinstance(template, str) and "{{" in template:
        return _value(ENGINE.from_string(template).render(variables), variables)
    return template
