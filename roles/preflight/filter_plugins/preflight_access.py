"""Mistakes in litellm_budgets, litellm_teams, litellm_keys and litellm_key_values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

LIMITS = {"max_budget": "amount", "budget_duration": "duration", "rpm_limit": "count", "tpm_limit": "count"}
IDENTITY = {"litellm_budgets": "budget_id", "litellm_teams": "team_alias", "litellm_keys": "key_alias"}
FIELDS: dict[str, dict[str, str]] = {
    "litellm_budgets": {**LIMITS, "soft_budget": "amount", "max_parallel_requests": "count"},
    "litellm_teams": {**LIMITS, "models": "names", "blocked": "switch", "metadata": "mapping"},
    "litellm_keys": {
        **LIMITS,
        "team": "name",
        "budget_id": "name",
        "models": "names",
        "max_parallel_requests": "count",
        "expires": "moment",
        "blocked": "switch",
        "metadata": "mapping",
    },
}
FORMS = {  # what a value must look like
    "amount": "a number of US dollars from 0 on, written without quotes",
    "count": "a whole number from 0 on, written without quotes",
    "duration": "a time such as 30s, 15m, 12h, 30d, 4w or 1mo",
    "moment": "a moment with its zone, in quotes, such as '2027-01-31T00:00:00Z'",
    "name": "text",
    "names": "a list of names",
    "switch": "true or false, written without quotes",
    "mapping": "a mapping of names to values",
}
CLEARABLE = ("amount", "count", "duration", "moment", "name")  # by null
DURATION = re.compile(r"0*[1-9][0-9]{0,8}(s|m|h|d|w|mo)")
UNSAFE_ALIAS = re.compile(r"[\x00-\x1f\x7f]|(^|[/\\])\.\.($|[/\\])")  # what LiteLLM refuses
SPECIAL_MODELS = ("all-proxy-models", "all-team-models", "no-default-models")
SHORTEST_VALUE = 16  # LiteLLM's MINIMUM_CUSTOM_KEY_LENGTH


def access_mistakes(hosts: Hosts, environment: Mapping[str, str]) -> list[Mistake]:
    """Return the mistakes in the budgets, teams and keys that are declared for the gateways."""
    checks = (_switched_off, _entries, _duplicates, _references, _models)
    return [
        (host, at, says)
        for host, variables in hosts.items()
        if "litellm" in variables["group_names"]
        for found in (*(check(variables) for check in checks), _values(variables, environment))
        for at, says in found
    ]


def _switched_off(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in IDENTITY:
        if variables.get(variable) and variables.get("litellm_virtual_keys") is False:
            yield variable, f"{variable} needs LiteLLM's database: set litellm_virtual_keys to true, or remove it."


def _entries(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable, identity in IDENTITY.items():
        for at, entry in _listed(variables, variable):
            name = entry.get(identity)
            if not isinstance(name, str) or not name:
                yield at, f"{at} has no {identity}: that is what it is known by."
            elif UNSAFE_ALIAS.search(name):
                yield at, f"{at}.{identity} holds control characters or a path with ..: LiteLLM refuses that."
            if entry.get("state", "present") not in ("present", "absent"):
                yield f"{at}.state", f"{at}.state is {entry['state']}: it must be present or absent."
            for field, value in entry.items():
                if field not in (identity, "state"):
                    yield from _field(f"{at}.{field}", field, value, FIELDS[variable])


def _field(at: str, field: str, value: Any, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if field in ("key", "token"):
        yield at, f"{at} would show the value of a key: put it into litellm_key_values, by its key_alias."
    elif field not in known:
        near = get_close_matches(field, known, n=1)
        says = f"did you mean {near[0]}?" if near else f"it may be {', '.join(known)}, state."
        yield at, f"{at} is not known: {says}"
    elif not (value is None and known[field] in CLEARABLE) and not _is(known[field], value):
        shown = "empty" if value is None else value if isinstance(value, str | int | float) else "of another kind"
        yield at, f"{at} is {shown}: it must be {FORMS[known[field]]}."


def _is(form: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = isinstance(value, str) and value != ""
    return {
        "amount": number and 0 <= value < float("inf"),
        "count": number and isinstance(value, int) and value >= 0,
        "duration": text and DURATION.fullmatch(value) is not None,
        "moment": text and _has_zone(value),
        "name": text,
        "names": isinstance(value, list) and all(isinstance(name, str) and name for name in value),
        "switch": isinstance(value, bool),
        "mapping": isinstance(value, Mapping),
    }[form]


def _has_zone(text: str) -> bool:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


def _duplicates(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable, identity in IDENTITY.items():
        names = Counter(str(entry[identity]) for _, entry in _listed(variables, variable) if entry.get(identity))
        for name, count in names.items():
            if count > 1:
                yield variable, f"{variable} has {count} entries with the {identity} {name}: each needs its own."


def _references(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield keys whose team or budget is not declared to be there."""
    for field, variable in (("team", "litellm_teams"), ("budget_id", "litellm_budgets")):
        identity = IDENTITY[variable]
        states = {entry.get(identity): entry.get("state", "present") for _, entry in _listed(variables, variable)}
        for at, key in _listed(variables, "litellm_keys"):
            name = key.get(field)
            if not isinstance(name, str) or key.get("state") == "absent":
                continue
            if name not in states:
                yield f"{at}.{field}", f"{at}.{field} names {name}, which is not in {variable}."
            elif states[name] == "absent":
                yield f"{at}.{field}", f"{at}.{field} names {name}, which is to be absent by {variable}."


def _models(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield models that the gateway does not have.

    With wildcards any may exist; those in the database only the gateway knows, and the role asks it.
    """
    models = [model for _, model in _listed(variables, "litellm_models")]
    names = {str(model.get("model_name")) for model in models} | set(SPECIAL_MODELS)
    names |= set(_mapping(_mapping(variables.get("litellm_router_settings")).get("model_group_alias")))
    for model in models:
        groups = _mapping(model.get("model_info")).get("access_groups")
        names |= set(map(str, groups)) if isinstance(groups, list) else set()
    if variables.get("litellm_store_model_in_db") or any("*" in name for name in names):
        return
    for variable in ("litellm_teams", "litellm_keys"):
        for at, entry in _listed(variables, variable):
            for name in entry["models"] if isinstance(entry.get("models"), list) else ():
                if isinstance(name, str) and name not in names:
                    yield f"{at}.models", f"{at}.models names {name}, which is not in litellm_models."


def _values(variables: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield keys without a value, and values that LiteLLM would refuse; none is shown."""
    if "litellm_key_values" in variables["unreadable"]:
        return
    values = _mapping(variables.get("litellm_key_values"))
    for at, key in _listed(variables, "litellm_keys"):
        name = key.get("key_alias")
        if isinstance(name, str) and key.get("state") != "absent" and not values.get(name):
            says = f"{at} ({name}) has no value: {environment['command']} makes one, in litellm_key_values in "
            yield "", f"{says}{environment['secrets']}."
    for name, value in values.items():
        at = f"litellm_key_values.{name}"
        if not isinstance(value, str):
            yield at, f"{at} must be text."
        elif value and (not value.startswith("sk-") or len(value) < SHORTEST_VALUE):
            yield at, f"{at} must begin with sk- and have at least {SHORTEST_VALUE} characters."
        elif value and value == variables.get("litellm_master_key"):
            yield at, f"{at} is the master key: a virtual key needs a value of its own."
    for value, count in Counter(value for value in values.values() if isinstance(value, str) and value).items():
        if count > 1:
            alike = ", ".join(sorted(name for name in values if values[name] == value))
            yield "litellm_key_values", f"litellm_key_values has the same value for {alike}: each needs its own."


def _listed(variables: Mapping[str, Any], variable: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of a list with their places; their types are checked elsewhere."""
    entries = variables.get(variable)
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, Mapping):
            yield f"{variable}[{index}]", entry


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"preflight_access_mistakes": access_mistakes}
