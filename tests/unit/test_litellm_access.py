"""Keys as code: the module brings a gateway to the declared state, says what it changed, and shows no key.

The gateway is a double of LiteLLM's management API over HTTP, with its traps: an update replaces metadata as a whole,
telling a budget_duration again starts the period again, making a key whose value is there does nothing, and deleting
a team deletes its keys. tests/admin has the same against the real one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

MODULE = Path(__file__).resolve().parents[2] / "roles" / "litellm_access" / "library" / "litellm_access.py"
spec = importlib.util.spec_from_file_location("litellm_access", MODULE)
assert spec is not None
assert spec.loader is not None
litellm_access = importlib.util.module_from_spec(spec)
spec.loader.exec_module(litellm_access)

MASTER_KEY = "sk-master-of-the-double"
VALUES = {"ci": "sk-value-of-ci-0001", "cd": "sk-value-of-cd-0002"}


def token(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


class Double:
    """LiteLLM's budgets, teams and keys in memory."""

    def __init__(self) -> None:
        self.budgets: dict[str, dict[str, Any]] = {}
        self.teams: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.models = ["chat"]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.ignored: set[str] = set()  # fields that it takes and does not store

    @property
    def writes(self) -> list[str]:
        reads = ("/budget/info", "/v2/team/list", "/key/list", "/v1/models")
        return [path for path, _ in self.calls if path not in reads]

    def answer(self, path: str, given: dict[str, Any]) -> Any:
        self.calls.append((path, given))
        given = {name: value for name, value in given.items() if name not in self.ignored}
        return getattr(self, path.strip("/").replace("/", "_"))(given)

    def v1_models(self, given: dict[str, Any]) -> Any:
        return {"data": [{"id": name} for name in self.models]}

    def budget_info(self, given: dict[str, Any]) -> Any:
        return [self.budgets[name] for name in given["budgets"] if name in self.budgets]

    def budget_new(self, given: dict[str, Any]) -> Any:
        self.budgets[given["budget_id"]] = {"max_budget": None, "budget_duration": None, "rpm_limit": None, **given}

    def budget_update(self, given: dict[str, Any]) -> Any:
        self.budgets[given["budget_id"]].update(given)

    def budget_delete(self, given: dict[str, Any]) -> Any:
        del self.budgets[given["id"]]

    def v2_team_list(self, given: dict[str, Any]) -> Any:
        alike = [team for team in self.teams.values() if given["team_alias"].lower() in team["team_alias"].lower()]
        return self._page("teams", alike, int(given["page"]), 2)

    def team_new(self, given: dict[str, Any]) -> Any:
        identity = f"id-of-{given['team_alias']}-{len(self.teams)}"
        self.teams[identity] = {"models": [], "metadata": {}, "blocked": False, **given, "team_id": identity}

    def team_update(self, given: dict[str, Any]) -> Any:
        self.teams[given["team_id"]].update(given)

    def team_delete(self, given: dict[str, Any]) -> Any:
        for identity in given["team_ids"]:
            del self.teams[identity]
            self.keys = {name: key for name, key in self.keys.items() if key["team_id"] != identity}

    def key_list(self, given: dict[str, Any]) -> Any:
        wanted = {"key_alias": "key_alias", "key_hash": "token", "team_id": "team_id"}
        conditions = {wanted[name]: value for name, value in given.items() if name in wanted}
        found = [k for k in self.keys.values() if all(k[name] == value for name, value in conditions.items())]
        return self._page("keys", found, int(given["page"]), 2)

    def key_generate(self, given: dict[str, Any]) -> Any:
        value = given.pop("key")
        if token(value) not in self.keys:
            blank = {"spend": 0.0, "models": [], "metadata": {}, "team_id": None, "blocked": None, "expires": None}
            self.keys[token(value)] = {**blank, "key_name": f"sk-...{value[-4:]}", "token": token(value)}
            self.key_update({"key": token(value), **given})

    def key_update(self, given: dict[str, Any]) -> Any:
        key = self.keys[given.pop("key")]
        if "duration" in given:
            duration = given.pop("duration")
            moment = duration and datetime.now(timezone.utc) + timedelta(seconds=int(duration.rstrip("s")))
            key["expires"] = moment.isoformat() if moment else None
        if "budget_duration" in given:
            key["budget_reset_at"] = object.__repr__(object())  # another one each time
        key.update(given)

    def key_delete(self, given: dict[str, Any]) -> Any:
        for name in given["keys"]:
            del self.keys[name]

    @staticmethod
    def _page(part: str, found: list[Any], page: int, size: int) -> Any:
        return {part: found[(page - 1) * size : page * size], "total_pages": -(-len(found) // size)}


@pytest.fixture
def double() -> Double:
    return Double()


@pytest.fixture
def url(double: Double) -> Iterator[str]:
    """Where the double listens."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()})

        def do_POST(self) -> None:
            self._answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, path: str, given: dict[str, Any]) -> None:
            allowed = self.headers["Authorization"] == f"Bearer {MASTER_KEY}"
            answer = double.answer(path, given) if allowed else {"error": {"message": "Authentication Error"}}
            body = json.dumps(answer).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Apply:
    """One run of the module's engine; returns the sentences of what it changed."""

    def __init__(self, url: str) -> None:
        self.gateway = litellm_access.Gateway(url, MASTER_KEY, 5)
        self.values = dict(VALUES)
        self.last: Any = None

    def __call__(self, *, budgets: Any = (), teams: Any = (), keys: Any = (), check: bool = False) -> list[str]:
        self.last = litellm_access.Access(self.gateway, self.values, check=check)
        self.last.apply({"budget": list(budgets), "team": list(teams), "key": list(keys)})
        return list(self.last.changes)


@pytest.fixture
def apply(url: str) -> Apply:
    return Apply(url)


BUDGET = {"budget_id": "small", "max_budget": 5, "budget_duration": "30d"}
TEAM = {"team_alias": "research", "models": ["chat"], "metadata": {"cost_centre": "4711"}}
KEY = {"key_alias": "ci", "team": "research", "budget_id": "small", "rpm_limit": 60}
ALL: dict[str, Any] = {"budgets": [BUDGET], "teams": [TEAM], "keys": [KEY]}


def test_first_run_creates_everything(double: Double, apply: Apply) -> None:
    assert apply(**ALL) == ["budget small created", "team research created", "key ci created"]
    (team_id,) = double.teams
    key = double.keys[token(VALUES["ci"])]
    assert (key["key_alias"], key["team_id"], key["budget_id"], key["rpm_limit"]) == ("ci", team_id, "small", 60)


def test_second_run_changes_nothing_and_writes_nothing(double: Double, apply: Apply) -> None:
    apply(**ALL)
    double.calls.clear()
    assert apply(**ALL) == []
    assert double.writes == []


def test_drift_is_corrected_and_only_what_differs_is_sent(double: Double, apply: Apply) -> None:
    apply(**ALL)
    double.keys[token(VALUES["ci"])]["rpm_limit"] = 6000
    double.budgets["small"]["max_budget"] = 500.0
    double.calls.clear()
    assert apply(**ALL) == ["budget small updated: max_budget", "key ci updated: rpm_limit"]
    sent = dict(double.calls)
    assert sent["/budget/update"] == {"budget_id": "small", "max_budget": 5}
    assert "budget_duration" not in sent["/key/update"]
    assert double.keys[token(VALUES["ci"])]["rpm_limit"] == 60


def test_check_mode_says_the_same_and_writes_nothing(double: Double, apply: Apply) -> None:
    planned = apply(**ALL, check=True)
    assert double.writes == []
    assert apply(**ALL) == planned
    double.keys[token(VALUES["ci"])]["rpm_limit"] = 1
    double.calls.clear()
    assert apply(**ALL, check=True) == ["key ci updated: rpm_limit"]
    assert double.writes == []


def test_field_that_is_not_given_is_left_and_null_clears_it(double: Double, apply: Apply) -> None:
    apply(**ALL)
    assert apply(budgets=[{"budget_id": "small"}]) == []
    assert apply(budgets=[{"budget_id": "small", "max_budget": None}]) == ["budget small updated: max_budget"]
    assert double.budgets["small"] == {**BUDGET, "max_budget": None, "rpm_limit": None}


def test_metadata_of_others_is_kept(double: Double, apply: Apply) -> None:
    apply(**ALL)
    (team,) = double.teams.values()
    team["metadata"] = {"theirs": 1, "cost_centre": "12", "old": True}
    changed = {**TEAM, "metadata": {"cost_centre": "4711", "old": None}}
    assert apply(teams=[changed]) == ["team research updated: metadata"]
    assert team["metadata"] == {"theirs": 1, "cost_centre": "4711"}
    assert apply(teams=[changed]) == []


def test_what_is_not_listed_is_left_alone(double: Double, apply: Apply) -> None:
    apply(**ALL)
    assert apply() == []
    assert (len(double.budgets), len(double.teams), len(double.keys)) == (1, 1, 1)


def test_state_absent_removes_keys_before_their_team(double: Double, apply: Apply) -> None:
    apply(**ALL)
    gone: dict[str, Any] = {part: [{**entries[0], "state": "absent"}] for part, entries in ALL.items()}
    removed = ["key ci removed", "team research removed", "budget small removed"]
    assert apply(**gone, check=True) == removed
    assert len(double.keys) == 1
    assert apply(**gone) == removed
    assert (double.budgets, double.teams, double.keys) == ({}, {}, {})
    assert apply(**gone) == []


@pytest.mark.parametrize("check", [True, False])
def test_team_with_keys_is_not_removed(double: Double, apply: Apply, check: bool) -> None:
    apply(**ALL)
    with pytest.raises(litellm_access.AccessError, match="LiteLLM would delete its keys with it: give ci the state"):
        apply(teams=[{**TEAM, "state": "absent"}], check=check)
    assert len(double.keys) == 1


@pytest.mark.parametrize("check", [True, False])
def test_team_goes_once_its_keys_have_another(double: Double, apply: Apply, check: bool) -> None:
    apply(**ALL)
    new = {"team_alias": "platform"}
    teams, keys = [new, {**TEAM, "state": "absent"}], [{**KEY, "team": "platform"}]
    assert apply(teams=teams, keys=keys, check=check) == [
        "team platform created",
        "key ci updated: team_id",
        "team research removed",
    ]
    assert len(double.keys) == 1


def test_new_value_replaces_the_key_and_keeps_spend_and_terms(double: Double, apply: Apply) -> None:
    apply(**ALL)
    old = double.keys[token(VALUES["ci"])]
    old.update(spend=1.25, tpm_limit=1000)
    apply.values["ci"] = "sk-another-value-0003"
    assert apply(**ALL) == ["key ci removed, since its value has changed", "key ci created"]
    (key,) = double.keys.values()
    assert key["token"] == token("sk-another-value-0003")
    assert (key["spend"], key["tpm_limit"], key["rpm_limit"]) == (1.25, 1000, 60)
    assert apply(**ALL) == []


def test_key_with_another_name_is_renamed(double: Double, apply: Apply) -> None:
    apply(keys=[{"key_alias": "ci"}])
    apply.values["build"] = apply.values["ci"]
    assert apply(keys=[{"key_alias": "build"}]) == ["key build updated: key_alias"]
    assert [key["key_alias"] for key in double.keys.values()] == ["build"]


def test_value_of_another_key_is_refused(apply: Apply) -> None:
    apply(keys=[{"key_alias": "ci"}, {"key_alias": "cd"}])
    apply.values["ci"] = apply.values["cd"]
    with pytest.raises(litellm_access.AccessError, match="key ci is already that of the key cd") as caught:
        apply(keys=[{"key_alias": "ci"}])
    assert VALUES["cd"] not in str(caught.value)


def test_expiry_is_a_moment_and_is_told_once(double: Double, apply: Apply) -> None:
    until = (datetime.now(timezone.utc) + timedelta(days=30)).isoformat(timespec="seconds")
    assert apply(keys=[{"key_alias": "ci", "expires": until}]) == ["key ci created"]
    stored = datetime.fromisoformat(double.keys[token(VALUES["ci"])]["expires"])
    assert abs(stored - datetime.fromisoformat(until)) < timedelta(seconds=5)
    assert apply(keys=[{"key_alias": "ci", "expires": until}]) == []
    assert apply(keys=[{"key_alias": "ci", "expires": None}]) == ["key ci updated: expires"]
    assert double.keys[token(VALUES["ci"])]["expires"] is None


def test_team_is_found_among_similar_names_on_all_pages(double: Double, apply: Apply) -> None:
    for name in ("Research", "research-2", "research-3", "research"):
        double.team_new({"team_alias": name})
    assert apply(teams=[{"team_alias": "research", "models": []}]) == []


def test_two_teams_of_one_name_are_refused(double: Double, apply: Apply) -> None:
    for _ in range(2):
        double.team_new({"team_alias": "research"})
    with pytest.raises(litellm_access.AccessError, match="has 2 teams named research: rename all but one"):
        apply(teams=[TEAM])


def test_model_that_the_gateway_does_not_have_is_refused(double: Double, apply: Apply) -> None:
    declared: dict[str, Any] = {**ALL, "teams": [{**TEAM, "models": ["chat", "chatt", "all-proxy-models"]}]}
    with pytest.raises(litellm_access.AccessError, match="no model chatt, which litellm_teams or litellm_keys names"):
        apply(**declared)
    assert double.writes == []
    double.models.append("openai/*")
    assert len(apply(**declared)) == 3


def test_what_is_taken_and_not_stored_is_reported(double: Double, apply: Apply) -> None:
    double.ignored.add("rpm_limit")
    with pytest.raises(litellm_access.AccessError, match="accepted rpm_limit of the key ci and not stored it"):
        apply(keys=[{"key_alias": "ci", "rpm_limit": 1}])


def test_diff_shows_no_value_of_a_key(apply: Apply) -> None:
    apply(**ALL)
    apply.values["ci"] = "sk-another-value-0003"
    apply(**ALL)
    shown = json.dumps([apply.last.before, apply.last.after, apply.last.changes])
    assert not [value for value in (*VALUES.values(), "sk-another-value-0003") if value in shown]


def run_module(**arguments: Any) -> tuple[dict[str, Any], str]:
    """Run it as Ansible does: its arguments come by standard input."""
    document = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    done = subprocess.run([sys.executable, str(MODULE)], input=document, capture_output=True, text=True, check=False)
    return json.loads(done.stdout), done.stdout + done.stderr


def test_module_reports_changes_and_hides_its_secrets(url: str) -> None:
    given = {"url": url, "master_key": MASTER_KEY, "keys": [{"key_alias": "ci"}], "key_values": VALUES}
    result, printed = run_module(**given)
    assert (result["changed"], result["changes"]) == (True, ["key ci created"])
    assert not [secret for secret in (MASTER_KEY, *VALUES.values()) if secret in printed]
    assert run_module(**given)[0]["changed"] is False


def test_module_says_why_the_gateway_refused(url: str) -> None:
    result, _ = run_module(url=url, master_key="sk-wrong", budgets=[BUDGET])
    assert result["failed"] is True
    assert result["msg"] == "The gateway refused POST /budget/info with 401: Authentication Error"


def test_gateway_that_is_not_there_fails_but_for_check_mode() -> None:
    given = {"url": "http://127.0.0.1:9", "master_key": MASTER_KEY, "budgets": [BUDGET]}
    failed, _ = run_module(**given)
    assert failed["msg"].startswith("The gateway does not answer at http://127.0.0.1:9: ")
    planned, _ = run_module(**given, _ansible_check_mode=True)
    assert planned["changes"] == ["budget small created"]
    assert "without budgets, teams and keys" in str(planned["warnings"])
