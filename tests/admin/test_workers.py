"""Two workers without Redis, with `allow_requests_on_db_unavailable`: what they share and what each knows alone.

What is in the database is shared: keys, teams, budgets, spend. What is counted in memory is a worker's own: rate
limits, and for as long as `user_api_key_cache_ttl` what it knows of a key (60 s; here 4, so that the tests can wait).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest
import variant
from test_budgets import ONE_CALL, admits_one_call
from test_outage import RECOVERY_BAR, START, STOP

from faults.inventory import Lab
from faults.machine import Machine
from management import Callers, Management, eventually, unique

Make = Callable[..., str]

WORKERS = 2
CACHE_SECONDS = 4
CALLS = 16
"""So many connections that both workers have surely answered some."""


@pytest.fixture(scope="module")
def spent_before(callers: Callers, admin: Management) -> dict[str, str]:
    """Keys from before the restart: one whose budget is spent, one that is blocked, one in order."""
    keys = {name: admin.post("/key/generate")["key"] for name in ("spent", "blocked", "free")}
    admin.post("/key/update", key=keys["spent"], max_budget=ONE_CALL)
    admits_one_call(callers, keys["spent"])
    eventually(lambda: admin.get("/key/info", key=keys["spent"])["info"]["spend"] > 0, "the spend is written")
    admin.post("/key/block", key=keys["blocked"])
    return keys


@pytest.fixture(scope="module", autouse=True)
def two_workers(gateway_host: Machine, lab: Lab, spent_before: dict[str, str]) -> Iterator[None]:
    """The deployed gateway, so changed."""
    settings = {"allow_requests_on_db_unavailable": True, "user_api_key_cache_ttl": CACHE_SECONDS}
    with variant.running(gateway_host, lab.gateway_url, workers=WORKERS, general_settings=settings):
        yield


@pytest.fixture
def spread(lab: Lab) -> Callable[[str], Counter[int]]:
    """Calls over connections of their own, which the kernel spreads over the workers; returns the statuses."""

    def spread(key: str) -> Counter[int]:
        found: Counter[int] = Counter()
        for _ in range(CALLS):
            one = Callers(lab.gateway_url)
            try:
                found[one.chat(key).status_code] += 1
            except openai.APIStatusError as error:
                found[error.status_code] += 1
            finally:
                one.close()
        return found

    return spread


Spread = Callable[[str], Counter[int]]


def test_there_are_two(gateway_host: Machine) -> None:
    main = gateway_host.run("systemctl show --value --property=MainPID litellm-gateway")
    parents = 'grep -l "^PPid:[[:space:]]*$1$" /proc/[0-9]*/status'
    commands = gateway_host.run(f"for one in $({parents}); do tr '\\0' ' ' <${{one%status}}cmdline; echo; done", main)
    assert commands.count("--multiprocessing-fork") == WORKERS


def test_restart_forgets_nothing(spread: Spread, spent_before: dict[str, str]) -> None:
    assert spread(spent_before["free"]) == {200: CALLS}
    assert 200 not in spread(spent_before["spent"])
    assert 200 not in spread(spent_before["blocked"])


def test_key_made_by_one_is_known_to_the_other(spread: Spread, new_key: Make) -> None:
    assert spread(new_key()) == {200: CALLS}


def test_budget_holds_over_both(spread: Spread, new_key: Make) -> None:
    key = new_key(max_budget=ONE_CALL)
    spread(key)
    eventually(lambda: 200 not in spread(key), "both refuse", patience=40)


def test_blocked_and_deleted_keys_and_teams_are_refused_by_both_within_the_life_of_the_cache(
    admin: Management, spread: Spread, new_key: Make, new_team: Make
) -> None:
    team = new_team()
    blocked, deleted, of_the_team = new_key(), new_key(), new_key(team_id=team)
    assert spread(blocked) == spread(deleted) == spread(of_the_team) == {200: CALLS}
    admin.post("/key/block", key=blocked)
    admin.post("/key/delete", keys=[deleted])
    admin.post("/team/block", team_id=team)
    begun = time.monotonic()
    for key in (blocked, deleted, of_the_team):
        eventually(lambda key=key: 200 not in spread(key), "both refuse", patience=30)
    print(f"\nrefused by both workers after {time.monotonic() - begun:.1f} s (cache: {CACHE_SECONDS} s)")
    admin.post("/team/unblock", team_id=team)
    eventually(lambda: spread(of_the_team) == {200: CALLS}, "both let the team's key through", patience=30)


def test_rate_limit_is_a_workers_own(spread: Spread, new_key: Make) -> None:
    """Without Redis each worker counts for itself: up to as many times the limit as there are workers."""
    limit = 3
    found = spread(new_key(rpm_limit=limit))
    assert set(found) == {200, 429}
    assert limit <= found[200] <= WORKERS * limit


def test_team_made_by_one_restricts_keys_at_the_other(
    admin: Management, spread: Spread, new_team: Make, new_key: Make
) -> None:
    team = new_team(models=["lab-embedding"])
    key = new_key(team_id=team)
    assert spread(key) == {403: CALLS}
    admin.post("/team/update", team_id=team, models=["lab-chat"])
    eventually(lambda: spread(key) == {200: CALLS}, "both know the team's models", patience=30)


def test_outage_lets_every_key_through_but_no_administration(
    callers: Callers, lab: Lab, new_key: Make, database_host: Machine
) -> None:
    """That is what allow_requests_on_db_unavailable means: nobody can be looked up, so nobody is refused."""
    unknown, later = new_key(), new_key()
    database_host.run(STOP)
    try:
        begun = time.monotonic()
        assert callers.admitted(unknown)
        print(f"\na key that cannot be looked up is let through after {time.monotonic() - begun:.2f} s")
        assert callers.admitted(lab.master_key)
        assert callers.admitted(f"sk-{unique('stranger')}")
        readiness = httpx.get(f"{lab.gateway_url}/health/readiness", timeout=30, trust_env=False)
        assert readiness.status_code == 200
        answer = httpx.post(
            f"{lab.gateway_url}/key/generate", headers={"Authorization": f"Bearer {unknown}"}, json={}, trust_env=False
        )
        assert answer.is_error
    finally:
        database_host.run(START)
    begun = time.monotonic()
    eventually(lambda: not callers.admitted(f"sk-{unique('stranger')}"), "strangers are refused again", pause=0.1)
    recovered_after = time.monotonic() - begun
    print(f"\nstrangers are refused again {recovered_after:.2f} s after PostgreSQL was started")
    assert recovered_after < RECOVERY_BAR
    assert callers.admitted(later)
