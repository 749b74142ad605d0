"""Read an inventory as plain data: every value resolved, with the place where somebody wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from jinja2 import TemplateError, pass_context
from jinja2.runtime import Context

try:  # Where a value was written. Not a public interface: without it the usual files are named instead.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

UNDEFINED_NAME = re.compile(r"^'(\w+)' is undefined")


def specifications(roles: str, groups: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return every role variable as the roles' argument_specs declare it, with the group that runs the role."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(Path(roles).glob("*/meta/argument_specs.yml")):
        role = file.parent.parent.name
        for entry_point in _argument_specs(file).values():
            for name, option in (entry_point.get("options") or {}).items():
                found[name] = {**option, "prefix": f"{role}_", "group": groups.get(role)}
    return found


@cache
def _argument_specs(file: Path) -> dict[str, Any]:
    """Read a role's argument_specs, once: every expression that needs them asks again."""
    specs: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"]
    return specs


def environment(inventory: str, project: str) -> dict[str, Any]:
    """Return the names by which a user knows an inventory: its folder, secrets file and the command that makes it.

    `wired` are the variables that the project's own group_vars/all set for every environment.
    """
    path = Path(inventory)
    folder = path.parent if path.is_file() else path
    is_environment = folder.parent == Path(project, "inventory")
    shown = _shown(folder, project)
    return {
        "path": str(folder),
        "project": project,
        "folder": shown,
        "secrets": f"{shown}/group_vars/all/secrets.yml",
        "wired": [name for file in _variable_files(project) for name, _ in _top_level(file)],
        "command": f"make secrets ENV={folder.name if is_environment else shown}",
    }


@pass_context
def read(
    context: Context, declared: Mapping[str, Mapping[str, Any]], environment: Mapping[str, Any], others: Iterable[str]
) -> dict[str, Any]:
    """Return what this host's variables say: `variables`, the `places` they come from, `problems` of evaluation.

    Variables that are not set have their declared defaults. What cannot be evaluated is listed in
    `unreadable`, and is a problem unless it waits for facts. `names` are those set by somebody,
    misspelt ones included.
    """
    gathered = bool(context.get("ansible_facts"))
    names = sorted(_names(context.get_all(), declared, set(others)))
    variables: dict[str, Any] = {
        name: option["default"]
        for name, option in declared.items()
        if "default" in option and "{{" not in str(option["default"])
    }
    variables["group_names"] = list(context["group_names"])
    variables["unreadable"] = []
    places: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in names:
        variables.pop(name, None)
        try:
            value = context[name]
            _note_places(value, name, environment, places)
            variables[name] = _plain(value)
        except (TemplateError, AnsibleError) as error:
            variables["unreadable"].append(name)
            if gathered or not _needs_facts(str(error)):
                problems[name] = str(error).rstrip(".")
    return {"names": names, "variables": variables, "places": places, "problems": problems}


def put_together(read: Iterable[Mapping[str, Any]], hosts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Turn what the hosts say into `names`, `variables`, `places` and `problems` of all hosts, by host."""
    by_host = dict(zip(hosts, read, strict=True))
    return {
        part: {host: said[part] for host, said in by_host.items()}
        for part in ("names", "variables", "places", "problems")
    }


def _names(existing: Iterable[str], declared: Mapping[str, Mapping[str, Any]], others: set[str]) -> Iterator[str]:
    prefixes = tuple({option["prefix"] for option in declared.values() if "prefix" in option})
    unprefixed = [name for name, option in declared.items() if "prefix" not in option]
    for name in existing:
        if name.startswith(prefixes) or name in others or get_close_matches(name, unprefixed, n=1, cutoff=0.85):
            yield name


def overridden(environment: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the variables in an inventory's group_vars/all that have no effect, because the project's outrank them."""
    project = environment["project"]
    wired = {name: file for file in _variable_files(project) for name, _ in _top_level(file)}
    found = []
    for file in _variable_files(environment["path"]):
        for name, line in _top_level(file):
            if name in wired:
                says = f"{name} has no effect here, since {_shown(wired[name], project)} sets it everywhere"
                found.append(("", "", f"{says}: remove it from {_shown(file, project)}, line {line}."))
    return found


def _variable_files(folder: str) -> list[Path]:
    """Return the files that hold a folder's variables for all hosts, in the order in which Ansible reads them."""
    everywhere = Path(folder, "group_vars")
    return [*sorted(everywhere.glob("all.y*ml")), *sorted(everywhere.glob("all/*.y*ml"))]


def _top_level(file: Path) -> list[tuple[str, int]]:
    """Return the names of a YAML file with their lines; none of an encrypted file, which is text to YAML."""
    document = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        return []
    return [(str(key.value), key.start_mark.line + 1) for key, _ in document.value]


def _needs_facts(error: str) -> bool:
    """Tell whether an evaluation may succeed once facts are there: nothing is missing but a fact or a key."""
    undefined = UNDEFINED_NAME.match(error)
    return undefined.group(1).startswith("ansible_") if undefined else "has no attribute" in error


def _plain(value: Any) -> Any:
    """Resolve a value to the bottom, so that whatever cannot be evaluated shows here."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _note_places(value: Any, at: str, environment: Mapping[str, Any], places: dict[str, str]) -> None:
    """Note where a value and what is in it were written, unless that is in a role or the wiring."""
    place = _place(value, environment)
    if place:
        places[at] = place
    if isinstance(value, Mapping):
        for key, item in value.items():
            _note_places(item, f"{at}.{key}", environment, places)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            _note_places(item, f"{at}[{index}]", environment, places)


def _place(value: Any, environment: Mapping[str, Any]) -> str | None:
    origin = Origin.get_tag(value) if Origin else None
    if origin is None:
        return None
    if origin.path is None:
        return "the command line (-e)" if "CLI" in (origin.description or "") else None
    shown = _shown(Path(origin.path).resolve(), environment["project"])  # playbooks/group_vars is a link
    if shown.startswith(("roles/", "group_vars/")):
        return None
    return f"{shown}, line {origin.line_num}" if origin.line_num else shown


def _shown(path: Path, project: str) -> str:
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "preflight_specifications": specifications,
            "preflight_environment": environment,
            "preflight_read": read,
            "preflight_put_together": put_together,
            "preflight_overridden": overridden,
        }
