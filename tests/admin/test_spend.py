"""What a call costs, wherever LiteLLM tells it: on the key, its team, user, customer and tag, in logs and reports."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from management import Callers, Management, RefusedError, eventually, unique

Make = Callable[..., str]

PROMPT = "one two three four five"
CALLS = 3


@dataclass(frozen=True)
class Spent:
    """Some calls by one key, with everything they are charged to; ``cost`` in US dollars, of all of them."""

    key: str
    team: str
    user: str
    customer: str
    tag: str
    ids: list[str]
    cost: float
    tokens: int


@pytest.fixture(scope="module")
def spent(admin: Management, callers: Callers) -> Spent:
    """Two plain calls and a refused one by a key of a user in a team, for a customer, with a tag."""
    names = {word: unique(word) for word in ("team", "user", "customer", "tag")}
    team = admin.post("/team/new", team_alias=names["team"])["team_id"]
    admin.post("/user/new", user_id=names["user"], auto_create_key=False)
    admin.post("/team/member_add", team_id=team, member={"role": "user", "user_id": names["user"]})
    key = admin.post("/key/generate", key_alias=unique("key"), team_id=team, user_id=names["user"])["key"]
    body = {"metadata": {"tags": [names["tag"]]}}
    answers = [callers.chat(key, PROMPT, user=names["customer"], extra_body=body) for _ in range(CALLS)]
    cost = sum(float(answer.headers["x-litellm-response-cost"]) for answer in answers)
    usages = [answer.json()["usage"]["total_tokens"] for answer in answers]
    ids = [answer.json()["id"] for answer in answers]
    assert cost > 0
    return Spent(key, team, names["user"], names["customer"], names["tag"], ids, cost, sum(usages))


def days() -> dict[str, str]:
    """Yesterday to tomorrow, in UTC."""
    today = datetime.now(timezone.utc).date()
    return {"start_date": str(today - timedelta(days=1)), "end_date": str(today + timedelta(days=1))}


def charged(find: Callable[[], Any], cost: float) -> None:
    """Wait until the spend is the cost, to the last digit that a double-precision number has."""
    eventually(lambda: find() == pytest.approx(cost, rel=1e-9), f"the spend is {cost}")


def test_cost_is_that_of_the_price_list(admin: Management, spent: Spent) -> None:
    (info,) = [model["model_info"] for model in admin.get("/model/info")["data"] if model["model_name"] == "lab-chat"]
    tokens_in, tokens_out = len(PROMPT.split()), len(f"You said: {PROMPT}".split())
    one = tokens_in * info["input_cost_per_token"] + tokens_out * info["output_cost_per_token"]
    assert spent.tokens == CALLS * (tokens_in + tokens_out)
    assert spent.cost == pytest.approx(CALLS * one, rel=1e-9)


def test_spend_of_the_key(admin: Management, spent: Spent) -> None:
    charged(lambda: admin.get("/key/info", key=spent.key)["info"]["spend"], spent.cost)


def test_spend_of_the_team_and_its_member(admin: Management, spent: Spent) -> None:
    charged(lambda: admin.get("/team/info", team_id=spent.team)["team_info"]["spend"], spent.cost)

    def of_the_member() -> float:
        (found,) = [
            m for m in admin.get("/team/info", team_id=spent.team)["team_memberships"] if m["user_id"] == spent.user
        ]
        return float(found["spend"])

    charged(of_the_member, spent.cost)


def test_spend_of_the_user_and_the_customer(admin: Management, spent: Spent) -> None:
    charged(lambda: admin.get("/user/info", user_id=spent.user)["user_info"]["spend"], spent.cost)
    charged(lambda: admin.get("/customer/info", end_user_id=spent.customer)["spend"], spent.cost)


def test_each_call_is_in_the_spend_logs(admin: Management, spent: Spent) -> None:
    for identity in spent.ids:
        (log,) = eventually(lambda i=identity: admin.get("/spend/logs", request_id=i), "the call is logged")
        assert (log["model_group"], log["team_id"], log["user"], log["end_user"]) == (
            *("lab-chat", spent.team, spent.user, spent.customer),
        )
        assert log["spend"] == pytest.approx(spent.cost / CALLS, rel=1e-9)
        assert spent.tag in log["request_tags"]
    assert len(admin.get("/spend/logs", api_key=spent.key)) == CALLS


def test_page_of_logs_has_the_calls(admin: Management, spent: Spent) -> None:
    now = datetime.now(timezone.utc)
    span = {"start_date": f"{now - timedelta(hours=1):%Y-%m-%d %H:%M:%S}", "end_date": f"{now:%Y-%m-%d %H:%M:%S}"}

    def page() -> Any:
        found = admin.get("/spend/logs/ui", team_id=spent.team, page_size=2, **span)
        return found if found["total"] == CALLS else None

    found = eventually(page, "the page of logs has the calls")
    assert (len(found["data"]), found["total_pages"]) == (2, 2)
    details = admin.get(f"/spend/logs/ui/{spent.ids[0]}", start_date=span["start_date"])
    assert details is not None


@pytest.mark.parametrize("whose", ["user", "team", "tag", "customer"])
def test_daily_activity_adds_up(admin: Management, spent: Spent, whose: str) -> None:
    chosen = {
        "user": ("/user/daily/activity", {"user_id": spent.user}),
        "team": ("/team/daily/activity", {"team_ids": spent.team}),
        "tag": ("/tag/daily/activity", {"tags": spent.tag}),
        "customer": ("/customer/daily/activity", {"end_user_ids": spent.customer}),
    }
    path, query = chosen[whose]

    def metadata() -> Any:
        found = admin.get(path, **query, **days())["metadata"]
        return found if found["total_api_requests"] == CALLS else None

    found = eventually(metadata, f"the activity of the {whose} has the calls", patience=30)
    assert found["total_spend"] == pytest.approx(spent.cost, rel=1e-9)
    assert (found["total_tokens"], found["total_successful_requests"]) == (spent.tokens, CALLS)


def test_overview_of_all_activity_has_the_calls(admin: Management, spent: Spent) -> None:
    def counted() -> Any:
        return admin.get("/global/activity", **days())["sum_api_requests"] >= CALLS

    eventually(counted, "the overview has the calls")
    assert admin.get("/global/activity/model", **days())
    assert admin.get("/global/spend/logs")
    assert any(key["total_spend"] > 0 for key in admin.get("/global/spend/keys", limit=100))


def test_price_can_be_asked_for_beforehand(admin: Management) -> None:
    told = admin.post("/spend/calculate", model="lab-chat", messages=[{"role": "user", "content": PROMPT}])
    assert told["cost"] > 0


def test_failed_call_is_logged_and_costs_nothing(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key()
    assert not callers.admitted(key, prompt="[[status=400]] Hello")
    logs = eventually(lambda: admin.get("/spend/logs", api_key=key), "the failure is logged")
    assert [(log["spend"], log["status"]) for log in logs] == [(0, "failure")]
    assert admin.get("/key/info", key=key)["info"]["spend"] == 0


def test_thirty_calls_at_once_are_thirty_logs_and_their_spend(
    admin: Management, callers: Callers, new_key: Make
) -> None:
    key = new_key()
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda n: callers.chat(key, f"Hello {n}"), range(30)))
    ids = {answer.json()["id"] for answer in answers}
    cost = sum(float(answer.headers["x-litellm-response-cost"]) for answer in answers)

    def logged() -> set[str]:
        return {log["request_id"] for log in admin.get("/spend/logs", api_key=key)}

    eventually(lambda: logged() == ids, "each call is logged")
    charged(lambda: admin.get("/key/info", key=key)["info"]["spend"], cost)


def test_spend_of_a_key_is_set_back(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key()
    callers.chat(key)
    eventually(lambda: admin.get("/key/info", key=key)["info"]["spend"] > 0, "the spend is written")
    admin.post("/key/update", key=key, spend=0)
    assert admin.get("/key/info", key=key)["info"]["spend"] == 0


def test_report_of_spend_by_team_needs_a_licence(admin: Management) -> None:
    with pytest.raises(RefusedError, match=r"(?i)enterprise|premium"):
        admin.get("/global/spend/report", group_by="team", **days())
