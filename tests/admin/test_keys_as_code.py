"""Keys as code against the real API: what tests/unit/test_litellm_access.py proves against a double of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.inventory import ROOT, Lab
from faults.machine import Machine
from management import Callers, Management, eventually, unique

spec = importlib.util.spec_from_file_location("access", ROOT / "roles/litellm_access/library/litellm_access.py")
assert spec is not None
assert spec.loader is not None
access = importlib.util.module_from_spec(spec)
spec.loader.exec_module(access)

Apply = Callable[..., list[str]]


class Declared:
    """A budget, a team and a key with names of their own, and the value of the key."""

    def __init__(self) -> None:
        self.budget: dict[str, Any] = {"budget_id": unique("budget"), "max_budget": 5, "budget_duration": "30d"}
        self.team: dict[str, Any] = {
            "team_alias": unique("team"),
            "models": ["lab-chat"],
            "max_budget": 50,
            "budget_duration": "1mo",
            "metadata": {"cost_centre": "4711"},
            "rpm_limit": 600,
            "tpm_limit": 60000,
            "blocked": False,
        }
        self.key: dict[str, Any] = {
            "key_alias": unique("key"),
            "team": self.team["team_alias"],
            "budget_id": self.budget["budget_id"],
            "models": ["lab-chat"],
            "max_budget": 2.5,
            "budget_duration": "7d",
            "rpm_limit": 60,
            "tpm_limit": 6000,
            "max_parallel_requests": 4,
            "metadata": {"owner": "ops"},
            "blocked": False,
            "expires": (datetime.now(timezone.utc) + timedelta(days=90)).isoformat(timespec="seconds"),
        }
        self.value = f"sk-{unique('value')}"


@pytest.fixture
def declared() -> Declared:
    return Declared()


@pytest.fixture
def apply(lab: Lab, declared: Declared) -> Apply:
    """Apply what is declared, or parts with another state; returns what was changed."""

    def apply(*, check: bool = False, state: str = "present") -> list[str]:
        run = access.Access(
            access.Gateway(lab.gateway_url, lab.master_key, 30),
            {declared.key["key_alias"]: declared.value},
            check=check,
        )
        parts = {"budget": declared.budget, "team": declared.team, "key": declared.key}
        run.apply({kind: [{**entry, "state": state}] for kind, entry in parts.items()})
        return list(run.changes)

    return apply


def test_keys_of_the_inventory_are_there(admin: Management) -> None:
    """What inventory/lab declares, and site.yml has applied."""
    (key,) = admin.get("/key/list", key_alias="lab-key", return_full_object=True)["keys"]
    (team,) = [t for t in admin.get("/v2/team/list", team_alias="lab-team")["teams"] if t["team_alias"] == "lab-team"]
    assert (key["team_id"], key["budget_id"]) == (team["team_id"], "lab-budget")
    assert team["models"] == ["lab-chat", "lab-embedding"]


def test_everything_is_made_once_and_as_declared(
    admin: Management, callers: Callers, apply: Apply, declared: Declared
) -> None:
    planned = apply(check=True)
    assert len(planned) == 3
    assert apply() == planned
    assert apply() == []
    assert apply(check=True) == []
    assert callers.admitted(declared.value)
    info = admin.get("/key/info", key=declared.value)["info"]
    assert {name: info[name] for name in ("models", "max_budget", "rpm_limit", "metadata", "budget_id")} == {
        name: declared.key[name] for name in ("models", "max_budget", "rpm_limit", "metadata", "budget_id")
    }


def test_every_drift_is_corrected_and_spend_is_left(
    admin: Management, callers: Callers, apply: Apply, declared: Declared
) -> None:
    apply()
    callers.chat(declared.value)
    eventually(lambda: admin.get("/key/info", key=declared.value)["info"]["spend"] > 0, "the spend is written")
    before = admin.get("/key/info", key=declared.value)["info"]
    drift: dict[str, Any] = {"max_budget": 1000, "rpm_limit": None, "models": [], "blocked": True, "team_id": None}
    drift |= {"budget_id": None, "duration": "1d", "metadata": {"owner": "me", "theirs": True}, "budget_duration": "1d"}
    for name, value in drift.items():
        admin.post("/key/update", key=declared.value, **{name: value})
    (changed,) = apply()
    assert changed.startswith(f"key {declared.key['key_alias']} updated: ")
    assert apply() == []
    after = admin.get("/key/info", key=declared.value)["info"]
    for name in ("max_budget", "rpm_limit", "models", "team_id", "budget_id", "budget_duration", "spend"):
        assert after[name] == before[name], name
    assert after["metadata"] == {"owner": "ops", "theirs": True}
    assert callers.admitted(declared.value)


def test_every_field_of_a_team_and_a_budget_is_corrected(admin: Management, apply: Apply, declared: Declared) -> None:
    apply()
    (team,) = admin.get("/v2/team/list", team_alias=declared.team["team_alias"])["teams"]
    admin.post(
        "/team/update",
        team_id=team["team_id"],
        models=[],
        max_budget=1,
        budget_duration=None,
        rpm_limit=1,
        tpm_limit=None,
        blocked=True,
        metadata={"cost_centre": "1"},
    )
    admin.post("/budget/update", budget_id=declared.budget["budget_id"], max_budget=1, budget_duration=None)
    fields = "blocked, budget_duration, max_budget, metadata, models, rpm_limit, tpm_limit"
    assert apply() == [
        f"budget {declared.budget['budget_id']} updated: budget_duration, max_budget",
        f"team {declared.team['team_alias']} updated: {fields}",
    ]
    assert apply() == []


def test_null_clears_a_field(admin: Management, apply: Apply, declared: Declared) -> None:
    apply()
    cleared = ("max_budget", "budget_duration", "rpm_limit", "tpm_limit", "max_parallel_requests", "expires")
    declared.key.update(dict.fromkeys(cleared), team=None, budget_id=None, models=[])
    declared.team.update(dict.fromkeys(("max_budget", "budget_duration", "rpm_limit", "tpm_limit")), models=[])
    assert len(apply()) == 2
    assert apply() == []
    info = admin.get("/key/info", key=declared.value)["info"]
    assert [info[name] for name in (*cleared, "team_id", "budget_id", "models")] == [*[None] * 8, []]


def test_new_value_replaces_the_key(admin: Management, callers: Callers, apply: Apply, declared: Declared) -> None:
    apply()
    callers.chat(declared.value)
    eventually(lambda: admin.get("/key/info", key=declared.value)["info"]["spend"] > 0, "the spend is written")
    former = declared.value
    before = admin.get("/key/info", key=former)["info"]
    declared.value = f"sk-{unique('value')}"
    assert len(apply()) == 2
    assert apply() == []
    after = admin.get("/key/info", key=declared.value)["info"]
    for name in ("spend", "max_budget", "team_id", "models", "metadata", "key_alias"):
        assert after[name] == before[name], name
    assert callers.admitted(declared.value)
    assert not callers.admitted(former)


def test_state_absent_removes(admin: Management, callers: Callers, apply: Apply, declared: Declared) -> None:
    apply()
    assert callers.admitted(declared.value)
    stranger = admin.post("/key/generate", key_alias=unique("unlisted"))["key"]
    planned = apply(check=True, state="absent")
    assert callers.admitted(declared.value)
    assert apply(state="absent") == planned
    assert apply(state="absent") == []
    assert not callers.admitted(declared.value)
    assert callers.admitted(stranger)


def test_team_with_an_unlisted_key_stays(admin: Management, callers: Callers, apply: Apply, declared: Declared) -> None:
    apply()
    (team,) = admin.get("/v2/team/list", team_alias=declared.team["team_alias"])["teams"]
    alias = unique("unlisted")
    unlisted = admin.post("/key/generate", key_alias=alias, team_id=team["team_id"])["key"]
    with pytest.raises(access.AccessError, match=f"give {alias} the state absent in litellm_keys"):
        apply(state="absent")
    assert callers.admitted(unlisted)


def test_model_that_is_not_there_is_refused(admin: Management, apply: Apply, declared: Declared) -> None:
    declared.key["models"] = ["lab-chat", "lab-chatt"]
    with pytest.raises(access.AccessError, match="no model lab-chatt"):
        apply()
    assert admin.post("/budget/info", budgets=[declared.budget["budget_id"]]) == []


def test_role_shows_no_value_in_its_output_nor_in_a_process_list(
    declared: Declared, gateway_host: Machine, lab: Lab, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    playbook, variables = ROOT / "playbooks/access.yml", tmp_path / "declared.yml"
    given = {"litellm_budgets": [declared.budget], "litellm_teams": [declared.team], "litellm_keys": [declared.key]}
    given["litellm_key_values"] = {declared.key["key_alias"]: declared.value}
    variables.write_text(yaml.safe_dump(given))
    inventory = pytestconfig.getoption("ansible_inventory") or os.environ["ANSIBLE_INVENTORY"]
    command = ["ansible-playbook", f"--inventory={inventory}", "-vvv", "--diff", f"--extra-vars=@{variables}"]
    done = threading.Event()
    lists: list[str] = []

    def look() -> None:
        while not done.is_set():
            # A process that ends while it is looked at is no failure; that lists were read is asserted below.
            lists.append(gateway_host.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        ran = subprocess.run([*command, str(playbook)], capture_output=True, text=True, check=False, cwd=ROOT)
    finally:
        done.set()
        watcher.join()
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    assert f"key {declared.key['key_alias']} created" in output
    assert len(lists) > 5
    for secret in (declared.value, lab.master_key):
        assert secret not in output
        assert not [True for processes in lists if secret in processes]
