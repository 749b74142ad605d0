#!/usr/bin/python
"""Bring budgets, teams and virtual keys of a LiteLLM Gateway to a declared state, through its HTTP API."""

from __future__ import annotations

import hashlib
import json
import math
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

DOCUMENTATION = r"""
module: litellm_access
short_description: Budgets, teams and virtual keys of a LiteLLM Gateway
description:
  - Budgets are known by their budget_id, teams by their team_alias, keys by their key_alias.
  - A field that is not given is left as it is; C(null) clears it. Entries of metadata likewise.
  - What is not listed is left alone; C(state=absent) removes.
  - A key whose value has changed is made anew with its spend; the former value stops working.
options:
  url: {type: str, required: true, description: Where the gateway answers.}
  master_key: {type: str, required: true, description: The gateway's master key.}
  budgets: {type: list, elements: dict, default: [], description: The budgets.}
  teams: {type: list, elements: dict, default: [], description: The teams.}
  keys: {type: list, elements: dict, default: [], description: The virtual keys; team names a team by its alias.}
  key_values: {type: dict, default: {}, description: The value of each key that is to be there, by its key_alias.}
  timeout: {type: int, default: 30, description: Seconds that an answer may take.}
author: The authors of this repository
"""
RETURN = r"""
changes: {type: list, returned: always, description: What was done, a sentence each.}
"""

IDENTITY = {"budget": "budget_id", "team": "team_alias", "key": "key_alias"}
SPECIAL_MODELS = {"all-proxy-models", "all-team-models", "no-default-models"}
PAGE = 100  # the most that LiteLLM lists at once
EXPIRY_TOLERANCE = timedelta(minutes=1)  # LiteLLM takes an expiry as seconds from now
PLANNED = "(to be created)"  # stands for the id of a team that check mode does not create


class AccessError(Exception):
    """The gateway cannot be brought to the declared state; the text says why."""


class Unreachable(AccessError):  # noqa: N818  a state of the gateway, which check mode can live with
    """Nothing listens at the gateway's address."""


class Gateway:
    """The management API of LiteLLM, https://docs.litellm.ai/docs/proxy/virtual_keys."""

    def __init__(self, url: str, master_key: str, timeout: int) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {master_key}", "Content-Type": "application/json"}
        self._timeout = timeout

    def get(self, path: str, **query: Any) -> Any:
        """Ask, and return the answer's JSON."""
        return self._call("GET", f"{path}?{urllib.parse.urlencode(query)}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a document, and return the answer's JSON."""
        return self._call("POST", path, json.dumps(body))

    def pages(self, path: str, part: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield what a list that comes in pages holds."""
        page, last = 1, 1
        while page <= last:
            answer = self.get(path, page=page, **query)
            yield from answer[part]
            page, last = page + 1, answer["total_pages"]

    def _call(self, method: str, path: str, body: str | None) -> Any:
        where = f"{method} {path.partition('?')[0]}"
        try:
            answer = open_url(
                self._url + path,
                method=method,
                data=body,
                headers=self._headers,
                timeout=self._timeout,
                use_proxy=False,
                http_agent="ansible-litellm-access",
            )
            return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AccessError(f"The gateway refused {where} with {error.code}: {_reason(error.read())}") from error
        except urllib.error.URLError as error:
            raise Unreachable(f"The gateway does not answer at {self._url}: {error.reason}") from error
        except (OSError, ValueError) as error:  # an answer that broke off, or that is no JSON
            raise AccessError(f"The gateway did not answer {where} properly: {error}") from error


class Access:
    """One run: what is declared, what was found, and what was changed.

    Without a gateway, where check mode is ahead of its installation, nothing is found.
    """

    def __init__(self, gateway: Gateway | None, values: Mapping[str, str], *, check: bool) -> None:
        self._gateway = gateway
        self._values = values
        self._check = check
        self._team_ids: dict[str, str] = {}
        self.changes: list[str] = []
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    def apply(self, declared: Mapping[str, list[dict[str, Any]]]) -> None:
        """Create and update first, so that keys have left a team before it is removed; then remove."""
        present, absent = (
            {kind: _in_state(declared[kind], state) for kind in IDENTITY} for state in ("present", "absent")
        )
        self._refuse_unknown_models([*present["team"], *present["key"]])
        for kind in ("budget", "team", "key"):
            for entry in present[kind]:
                self._ensure(kind, entry)
        gone = {entry["key_alias"] for entry in absent["key"]}
        moved = {entry["key_alias"] for entry in present["key"] if "team" in entry}
        for entry in absent["key"]:
            self._remove("key", entry, lambda key: ("/key/delete", {"keys": [key["token"]]}))
        for entry in absent["team"]:
            self._refuse_team_with_keys(entry, gone | moved if self._check else set())
            self._remove("team", entry, lambda team: ("/team/delete", {"team_ids": [team["team_id"]]}))
        for entry in absent["budget"]:
            self._remove("budget", entry, lambda budget: ("/budget/delete", {"id": budget["budget_id"]}))

    def _ensure(self, kind: str, entry: Mapping[str, Any]) -> None:
        name = entry[IDENTITY[kind]]
        wanted = self._as_stored(entry)
        found = self._find(kind, name)
        if kind == "key":
            found = self._with_value(name, wanted, found)
        if found is None:
            self._write(kind, name, wanted, {})
        elif changed := differences(wanted, found):
            self._write(kind, name, changed, found)
        if kind == "team":
            team = found or (None if self._check else self._find("team", name))
            self._team_ids[name] = team["team_id"] if team else PLANNED

    def _as_stored(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return a declared entry under the names of LiteLLM."""
        wanted = {name: value for name, value in entry.items() if name not in ("state", "team")}
        if "team" in entry:
            alias = entry["team"]
            wanted["team_id"] = None if alias is None else self._team_ids[alias]
        return wanted

    def _with_value(self, name: str, wanted: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the key that has both the name and the value, or nothing where it is to be made."""
        value = self._values[name]
        token = hashlib.sha256(value.encode()).hexdigest()
        if found is not None and found["token"] == token:
            return found
        same_value = next(iter(self._keys(key_hash=token)), None)
        if same_value is not None and found is not None:
            other = same_value["key_alias"]
            raise AccessError(f"The value of the key {name} is already that of the key {other}: each needs its own.")
        if same_value is not None:  # the key has another name so far
            return same_value
        wanted["key"] = value
        if found is not None:  # LiteLLM cannot change a value: what was spent goes over to the new key
            kept = {field: found[field] for field in KEPT if found.get(field) is not None}
            wanted.update({**kept, **wanted})
            self._remove(
                "key", {"key_alias": name}, lambda key: ("/key/delete", {"keys": [key["token"]]}), replaced=True
            )
        return None

    def _write(self, kind: str, name: str, fields: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Create or update, and see that it is stored: LiteLLM passes over in silence what it does not know."""
        shown = {field: value for field, value in fields.items() if field != "key"}
        self.changes.append(f"{kind} {name} " + (f"updated: {', '.join(sorted(shown))}" if found else "created"))
        self.before[f"{kind} {name}"] = {field: found.get(field) for field in shown} if found else None
        self.after[f"{kind} {name}"] = shown
        if self._check or self._gateway is None:
            return
        if found:
            target = {"key": found["token"]} if kind == "key" else {f"{kind}_id": found[f"{kind}_id"]}
            self._gateway.post(f"/{kind}/update", {**target, **as_request(fields, found)})
        else:
            self._gateway.post("/key/generate" if kind == "key" else f"/{kind}/new", as_request(fields, {}))
        stored = self._find(kind, name)
        if stored is None:
            raise AccessError(f"The gateway has accepted the {kind} {name} and not stored it.")
        if left := differences(shown, stored):
            raise AccessError(
                f"The gateway has accepted {', '.join(sorted(left))} of the {kind} {name} and not stored it."
            )

    def _remove(
        self, kind: str, entry: Mapping[str, Any], call: Callable[[Any], tuple[str, Any]], *, replaced: bool = False
    ) -> None:
        name = entry[IDENTITY[kind]]
        found = self._find(kind, name)
        if found is None:
            return
        self.changes.append(f"{kind} {name} removed" + (", since its value has changed" if replaced else ""))
        self.before[f"{kind} {name}"], self.after[f"{kind} {name}"] = {IDENTITY[kind]: name}, None
        if not self._check and self._gateway is not None:
            self._gateway.post(*call(found))

    def _refuse_unknown_models(self, entries: list[dict[str, Any]]) -> None:
        """Refuse names that lead nowhere, which LiteLLM accepts; where there are wildcards, any may lead somewhere."""
        named = {model for entry in entries for model in entry.get("models") or []} - SPECIAL_MODELS
        if not named or self._gateway is None:
            return
        listed = self._gateway.get("/v1/models", include_model_access_groups="true")["data"]
        known = {model["id"] for model in listed}
        if (unknown := named - known) and not any("*" in model for model in known):
            raise AccessError(
                f"The gateway has no model {', '.join(sorted(unknown))}, which litellm_teams or litellm_keys names."
            )

    def _refuse_team_with_keys(self, entry: Mapping[str, Any], leaving: set[str]) -> None:
        """Refuse to remove a team with keys, which LiteLLM would delete with it."""
        team = self._find("team", entry["team_alias"])
        left = list(self._keys(team_id=team["team_id"])) if team else []
        names = sorted(str(key["key_alias"] or key["key_name"]) for key in left if key["key_alias"] not in leaving)
        if names:
            raise AccessError(
                f"The team {entry['team_alias']} is to be absent, but LiteLLM would delete its keys with it: give "
                f"{', '.join(names)} the state absent in litellm_keys, or another team."
            )

    def _find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return what the gateway has under a name; where two teams share it, nobody can tell which is meant."""
        if self._gateway is None:
            return None
        if kind == "budget":
            found = self._gateway.post("/budget/info", {"budgets": [name]})
        elif kind == "team":
            listed = self._gateway.pages("/v2/team/list", "teams", team_alias=name, page_size=PAGE)
            found = [team for team in listed if team["team_alias"] == name]
        else:
            found = list(self._keys(key_alias=name))
        if len(found) > 1:
            raise AccessError(f"The gateway has {len(found)} {kind}s named {name}: rename all but one in the admin UI.")
        return found[0] if found else None

    def _keys(self, **query: Any) -> Iterator[dict[str, Any]]:
        if self._gateway is not None:
            yield from self._gateway.pages("/key/list", "keys", return_full_object="true", size=PAGE, **query)


KEPT = (
    *("spend", "team_id", "budget_id", "models", "max_budget", "budget_duration", "tpm_limit", "rpm_limit"),
    *("max_parallel_requests", "metadata", "blocked", "expires"),
)  # of a key that is made anew with another value


def differences(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have another value than is wanted."""
    return {name: value for name, value in wanted.items() if name != "key" and not _same(name, value, stored.get(name))}


def _same(name: str, wanted: Any, stored: Any) -> bool:
    if name == "metadata":
        return all((stored or {}).get(key) == value for key, value in (wanted or {}).items())
    if name == "models":
        return sorted(wanted or []) == sorted(stored or [])
    if name == "blocked":
        return bool(wanted) == bool(stored)
    if name == "expires" and wanted and stored:
        return abs(moment(wanted) - moment(stored)) <= EXPIRY_TOLERANCE
    return bool(wanted == stored)


def as_request(body: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what LiteLLM is sent: metadata is replaced as a whole there, an expiry is told as a duration."""
    request = dict(body)
    if "metadata" in request:
        merged = {**(found.get("metadata") or {}), **(request["metadata"] or {})}
        request["metadata"] = {key: value for key, value in merged.items() if value is not None}
    if "models" in request:
        request["models"] = request["models"] or []
    if "expires" in request:
        expires = request.pop("expires")
        seconds = (moment(expires) - datetime.now(timezone.utc)).total_seconds() if expires else 0
        request["duration"] = f"{max(0, math.ceil(seconds))}s" if expires else None
    return request


def moment(text: str) -> datetime:
    """Parse a time with its zone, as ISO 8601 has it; UTC where there is none."""
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def _in_state(entries: list[dict[str, Any]], state: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry.get("state", "present") == state]


def _reason(body: bytes) -> str:
    """Find LiteLLM's sentence in one of the forms of its errors."""
    try:
        document = json.loads(body)
        error = document.get("error", document.get("detail", document))
    except (ValueError, AttributeError):
        return body.decode(errors="replace")[:300]
    message = error.get("message", error.get("error", error)) if isinstance(error, Mapping) else error
    return str(message)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "master_key": {"type": "str", "required": True, "no_log": True},
            "budgets": {"type": "list", "elements": "dict", "default": []},
            "teams": {"type": "list", "elements": "dict", "default": []},
            "keys": {"type": "list", "elements": "dict", "default": [], "no_log": False},
            "key_values": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    given = module.params
    declared = {"budget": given["budgets"], "team": given["teams"], "key": given["keys"]}
    gateway = Gateway(given["url"], given["master_key"], given["timeout"])
    try:
        access = Access(gateway, given["key_values"], check=module.check_mode)
        try:
            access.apply(declared)
        except Unreachable as error:
            if not module.check_mode:
                raise
            module.warn(f"{error}. Shown is what would be done to a gateway without budgets, teams and keys.")
            access = Access(None, given["key_values"], check=True)
            access.apply(declared)
    except AccessError as error:
        module.fail_json(msg=str(error))
    diff = {"before": access.before, "after": access.after}
    module.exit_json(changed=bool(access.changes), changes=access.changes, diff=diff)


if __name__ == "__main__":
    main()
