"""Rate limits and expiry: requests and tokens a minute, requests at once, and the end of a key's life."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai

from faults.inventory import Lab
from management import Callers, Management, eventually, refusal, unique

Make = Callable[..., str]


def statuses(callers: Callers, key: str, count: int, prompt: str = "Hello") -> list[int]:
    """The statuses of calls one after the other."""
    found = []
    for _ in range(count):
        try:
            found.append(callers.chat(key, prompt).status_code)
        except openai.APIStatusError as error:
            found.append(error.status_code)
    return found


def test_requests_a_minute_of_a_key(callers: Callers, new_key: Make) -> None:
    key = new_key(rpm_limit=3)
    assert statuses(callers, key, 5) == [200, 200, 200, 429, 429]
    status, _, words = refusal(lambda: callers.chat(key))
    assert status == 429
    assert "rate limit" in words.lower()


def test_answer_tells_how_much_of_the_limit_is_left(callers: Callers, new_key: Make) -> None:
    headers = callers.chat(new_key(rpm_limit=3)).headers
    assert headers["x-ratelimit-api_key-limit-requests"] == "3"
    assert headers["x-ratelimit-api_key-remaining-requests"] == "2"


def test_tokens_a_minute_of_a_key(callers: Callers, new_key: Make) -> None:
    key = new_key(tpm_limit=40)
    assert callers.admitted(key, prompt="word " * 20)  # 20 tokens in, 22 out: the double counts words
    eventually(lambda: not callers.admitted(key), "the tokens of the minute are used up", patience=10)


def test_requests_a_minute_of_a_team_are_for_all_its_keys(callers: Callers, new_team: Make, new_key: Make) -> None:
    team = new_team(rpm_limit=3)
    first, second = new_key(team_id=team), new_key(team_id=team)
    assert statuses(callers, first, 2) == [200, 200]
    assert statuses(callers, second, 2) == [200, 429]


def test_requests_a_minute_of_a_user_are_for_all_keys(callers: Callers, new_user: Make, new_key: Make) -> None:
    user = new_user(rpm_limit=2)
    assert statuses(callers, new_key(user_id=user), 1) == [200]
    assert statuses(callers, new_key(user_id=user), 2) == [200, 429]


def test_requests_a_minute_of_a_customer(admin: Management, callers: Callers, new_key: Make) -> None:
    budget, customer = unique("budget"), unique("customer")
    admin.post("/budget/new", budget_id=budget, rpm_limit=1)
    admin.post("/customer/new", user_id=customer, budget_id=budget)
    key = new_key()
    assert callers.admitted(key, user=customer)
    assert refusal(lambda: callers.chat(key, user=customer))[0] == 429
    assert callers.admitted(key)


def test_requests_at_once_of_a_key(callers: Callers, new_key: Make) -> None:
    key = new_key(max_parallel_requests=1)
    with ThreadPoolExecutor(3) as pool:
        found = sorted(pool.map(lambda _: statuses(callers, key, 1, "[[delay=2]] slowly")[0], range(3)))
    assert found == [200, 429, 429]
    eventually(lambda: callers.admitted(key), "the key is free again", patience=10)


def test_limit_of_one_model_leaves_the_others(callers: Callers, new_key: Make) -> None:
    key = new_key(model_rpm_limit={"lab-chat": 1})
    assert statuses(callers, key, 2) == [200, 429]
    assert callers.admitted(key, model="lab-claude")


def test_limit_that_is_raised_counts_at_once(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key(rpm_limit=1)
    assert statuses(callers, key, 2) == [200, 429]
    admin.post("/key/update", key=key, rpm_limit=100)
    assert callers.admitted(key)


def test_expired_key_is_refused(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key(duration="3s")
    begun = time.monotonic()
    assert callers.admitted(key)
    eventually(lambda: not callers.admitted(key), "the key has expired", patience=15)
    assert time.monotonic() - begun >= 2.5
    status, kind, words = refusal(lambda: callers.chat(key))
    assert (status, kind) == (401, "expired_key")
    assert "Expired Key" in words
    assert admin.get("/key/info", key=key)["info"]["status"] == "expired"


def test_limits_of_one_key_are_not_those_of_another(callers: Callers, new_key: Make) -> None:
    busy, other = new_key(rpm_limit=1), new_key(rpm_limit=1)
    assert statuses(callers, busy, 3) == [200, 429, 429]
    assert statuses(callers, other, 1) == [200]


def test_refused_calls_cost_nothing_at_the_provider(lab: Lab, callers: Callers, new_key: Make) -> None:
    marker = unique("marker")
    key = new_key(rpm_limit=1)
    statuses(callers, key, 3, f"[[marker={marker}]] Hello")
    seen = httpx.get(f"{lab.upstream_url}/_calls", params={"marker": marker}, trust_env=False).json()["attempts"]
    assert len(seen) == 1
