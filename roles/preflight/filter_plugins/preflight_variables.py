"""Mistakes in names and types: renamed and unknown variables, values of the wrong kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "a whole number, written without quotes"),
    "float": ((int, float), "a number, written without quotes"),
    "bool": (bool, "true or false, written without quotes"),
    "str": (str, "text"),
    "path": (str, "text"),
    "list": (list, "a list"),
    "dict": (dict, "a mapping of names to values"),
}
REQUIRED = ("database_password", "litellm_master_key", "litellm_models")  # reported as missing where they are
PORTS = range(1, 65536)
LONGEST_SHOWN = 60  # characters of a wrong text that are repeated in a sentence


def name_mistakes(
    names: Mapping[str, list[str]], declared: Mapping[str, Mapping[str, Any]], renamed: Mapping[str, str]
) -> list[Mistake]:
    """Return the variables that no role knows: those with a new name, those misspelt."""
    prefixes = tuple({option["prefix"] for option in declared.values() if "prefix" in option})
    return [
        (host, name, says)
        for host, set_here in names.items()
        for name in set_here
        if name not in declared and (says := _unknown(name, prefixes, declared, renamed))
    ]


def _unknown(name: str, prefixes: tuple[str, ...], declared: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    if name in renamed:
        return f"{name} is called {renamed[name]}: rename it."
    own = name.startswith(prefixes)
    near = difflib.get_close_matches(name, declared, n=1, cutoff=0.6 if own else 0.85)
    if near:
        return f"{name} is not a variable of any role: did you mean {near[0]}?"
    return f"{name} is not a variable of any role: give a variable of your own another prefix." if own else ""


def evaluation_mistakes(
    inventory: Mapping[str, Mapping[str, Any]], declared: Mapping[str, Mapping[str, Any]], wired: list[str]
) -> list[Mistake]:
    """Return the variables of a host's own roles whose expression fails.

    `wired` ones are left out where what they are made of is reported: as missing, or as failing for the same reason.
    """
    found = []
    for host, failed in inventory["problems"].items():
        reasons = {f"'{name}' is undefined" for name in REQUIRED}
        for name, error in sorted(failed.items(), key=lambda item: item[0] in wired):
            known = name in wired and error in reasons
            if not known and _concerns(inventory["variables"][host], declared.get(name)):
                found.append((host, name, f"{name} cannot be evaluated: {error}."))
            reasons.add(error)
    return found


def type_mistakes(
    hosts: Hosts, declared: Mapping[str, Mapping[str, Any]], secrets: list[str], wired: list[str]
) -> list[Mistake]:
    """Return the values that are not of the declared type, choice or range; a secret's value is never shown.

    `wired` variables are as right as those they are made of.
    """
    return [
        (host, name, says)
        for host, variables in hosts.items()
        for name, option in declared.items()
        if name in variables and name not in wired and _concerns(variables, option)
        for says in _type_mistakes(name, variables[name], option, secret=name in secrets or bool(option.get("no_log")))
    ]


def _concerns(variables: Mapping[str, Any], option: Mapping[str, Any] | None) -> bool:
    """Tell whether a host runs the role of a variable; variables of no role concern every host."""
    group = (option or {}).get("group")
    return group is None or group in variables["group_names"]


def _type_mistakes(name: str, value: Any, option: Mapping[str, Any], *, secret: bool) -> Iterator[str]:
    kind = option.get("type", "str")
    if kind not in KINDS:
        return
    if not _is(value, kind):
        yield f"{name} is {_shown(value, secret)}: it must be {KINDS[kind][1]}."
        return
    if kind == "list" and option.get("elements") in KINDS:
        for index, item in enumerate(value):
            if not _is(item, option["elements"]):
                yield f"{name}[{index}] is {_shown(item, secret)}: it must be {KINDS[option['elements']][1]}."
    if option.get("choices") and value not in option["choices"]:
        yield f"{name} is {_shown(value, secret)}: it must be one of {', '.join(map(str, option['choices']))}."
    if kind == "int":
        if name.endswith("_port") and value not in PORTS:
            yield f"{name} is {value}: a port is a number from 1 to 65535."
        elif value < 0:
            yield f"{name} is {value}: it cannot be negative."


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind != "bool":
        return False
    return isinstance(value, KINDS[kind][0])


def _shown(value: Any, secret: bool) -> str:
    """Describe a value: as it is where it is short and no secret, by its kind otherwise."""
    if value is None:
        return "empty"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, str):
        return "text" if secret or len(value) > LONGEST_SHOWN else f"the text '{value}'"
    return f"a {type(value).__name__}" if secret else str(value).lower() if isinstance(value, bool) else str(value)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "preflight_name_mistakes": name_mistakes,
            "preflight_evaluation_mistakes": evaluation_mistakes,
            "preflight_type_mistakes": type_mistakes,
        }
