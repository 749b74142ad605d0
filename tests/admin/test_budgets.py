"""Budgets of their own, customers, tags: made, shared, and held to; and the budgets of keys, teams and users.

A call to the double costs some millionths of a dollar, so a budget of a tenth of that admits one call. The lab's
inventory has spend written and budgets reset every few seconds; LiteLLM's defaults are ten seconds and ten minutes.
"""

from collections.abc import Callable
from typing import Any

import pytest

from management import Callers, Management, RefusedError, eventually, refusal, unique

Make = Callable[..., str]

ONE_CALL = 1e-7
"""A budget in US dollars that the first call exceeds."""


def is_exceeded(callers: Callers, key: str, **more: Any) -> bool:
    """Tell whether a call is refused for its budget; any other refusal is an error."""
    try:
        callers.chat(key, **more)
    except Exception:
        status, kind, words = refusal(lambda: callers.chat(key, **more))
        assert kind == "budget_exceeded", words
        assert status in (400, 422, 429), words
        assert "Budget has been exceeded" in words or "ExceededBudget" in words
        return True
    return False


def admits_one_call(callers: Callers, key: str, **more: Any) -> None:
    """The first call is let through, and one of the next, once its cost is known, is not."""
    callers.chat(key, **more)
    eventually(lambda: is_exceeded(callers, key, **more), "the budget is exceeded")


def test_budget_is_made_listed_changed_and_removed(admin: Management) -> None:
    budget = unique("budget")
    admin.post("/budget/new", budget_id=budget, max_budget=3, budget_duration="30d", rpm_limit=5)
    (info,) = admin.post("/budget/info", budgets=[budget])
    assert (info["max_budget"], info["budget_duration"], info["rpm_limit"]) == (3, "30d", 5)
    assert info["budget_reset_at"]
    assert budget in [listed["budget_id"] for listed in admin.get("/budget/list")]
    admin.post("/budget/update", budget_id=budget, max_budget=4)
    (changed,) = admin.post("/budget/info", budgets=[budget])
    assert {field for field in info if info[field] != changed[field]} <= {"max_budget", "updated_at"}
    with pytest.raises(RefusedError, match="already exists"):
        admin.post("/budget/new", budget_id=budget)
    admin.post("/budget/delete", id=budget)
    assert admin.post("/budget/info", budgets=[budget]) == []


@pytest.mark.parametrize("fields", [{"max_budget": -1}, {"budget_duration": "soon"}, {"budget_duration": "0d"}])
def test_budget_that_means_nothing_is_refused(admin: Management, fields: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        admin.post("/budget/new", budget_id=unique("budget"), **fields)
    assert caught.value.status == 400


def test_key_holds_to_its_budget_until_it_is_raised(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key(max_budget=ONE_CALL)
    admits_one_call(callers, key)
    admin.post("/key/update", key=key, max_budget=1)
    for _ in range(3):
        assert callers.admitted(key)


def test_key_with_no_money_is_refused_from_the_first_call(callers: Callers, new_key: Make) -> None:
    assert is_exceeded(callers, new_key(max_budget=0))


def test_key_holds_to_the_terms_of_its_budget(admin: Management, callers: Callers, new_key: Make) -> None:
    budget = unique("budget")
    admin.post("/budget/new", budget_id=budget, max_budget=ONE_CALL)
    admits_one_call(callers, new_key(budget_id=budget))
    admits_one_call(callers, new_key(budget_id=budget))  # each key has its own spend


def test_streamed_calls_count(callers: Callers, new_key: Make) -> None:
    key = new_key(max_budget=ONE_CALL)
    assert "Hello" in callers.stream(key)
    eventually(lambda: is_exceeded(callers, key), "the budget is exceeded by a stream")


def test_keys_of_a_team_share_its_budget(callers: Callers, new_team: Make, new_key: Make) -> None:
    team = new_team(max_budget=ONE_CALL)
    first, second = new_key(team_id=team), new_key(team_id=team)
    assert callers.admitted(second)
    eventually(lambda: is_exceeded(callers, first), "the team's budget is exceeded for its other key")


def test_keys_of_a_user_share_the_users_budget(callers: Callers, new_user: Make, new_key: Make) -> None:
    user = new_user(max_budget=ONE_CALL)
    first, second = new_key(user_id=user), new_key(user_id=user)
    assert callers.admitted(second)
    eventually(lambda: is_exceeded(callers, first), "the user's budget is exceeded for the other key")


def test_member_holds_to_the_budget_in_the_team(
    admin: Management, callers: Callers, new_user: Make, new_team: Make, new_key: Make
) -> None:
    user, colleague, team = new_user(), new_user(), new_team()
    admin.post("/team/member_add", team_id=team, member={"role": "user", "user_id": user}, max_budget_in_team=ONE_CALL)
    admin.post("/team/member_add", team_id=team, member={"role": "user", "user_id": colleague})
    admits_one_call(callers, new_key(team_id=team, user_id=user))
    assert callers.admitted(new_key(team_id=team, user_id=colleague))


def test_budget_of_a_key_is_reset_when_its_time_has_come(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key(max_budget=ONE_CALL, budget_duration="5s")
    before = admin.get("/key/info", key=key)["info"]["budget_reset_at"]
    admits_one_call(callers, key)
    eventually(lambda: callers.admitted(key), "the budget is reset", patience=40)
    assert admin.get("/key/info", key=key)["info"]["budget_reset_at"] > before


def test_budget_of_a_team_and_of_a_user_is_reset(
    callers: Callers, new_team: Make, new_user: Make, new_key: Make
) -> None:
    terms = {"max_budget": ONE_CALL, "budget_duration": "5s"}
    keys = [new_key(team_id=new_team(**terms)), new_key(user_id=new_user(**terms))]
    for key in keys:
        admits_one_call(callers, key)
    for key in keys:
        eventually(lambda key=key: callers.admitted(key), "the budget is reset", patience=40)


def test_customer_is_made_listed_changed_and_removed(admin: Management, callers: Callers, new_key: Make) -> None:
    customer, key = unique("customer"), new_key()
    admin.post("/customer/new", user_id=customer, alias="A customer", max_budget=2)
    info = admin.get("/customer/info", end_user_id=customer)
    assert (info["alias"], info["blocked"], info["litellm_budget_table"]["max_budget"]) == ("A customer", False, 2)
    assert customer in [listed["user_id"] for listed in admin.get("/customer/list")]
    admin.post("/customer/update", user_id=customer, alias="Another")
    assert admin.get("/customer/info", end_user_id=customer)["alias"] == "Another"
    assert callers.admitted(key, user=customer)
    admin.post("/customer/update", user_id=customer, blocked=True)
    assert admin.get("/customer/info", end_user_id=customer)["blocked"] is True
    admin.post("/customer/delete", user_ids=[customer])
    with pytest.raises(RefusedError):
        admin.get("/customer/info", end_user_id=customer)


def test_customer_holds_to_a_budget_over_all_keys(admin: Management, callers: Callers, new_key: Make) -> None:
    budget, customer = unique("budget"), unique("customer")
    admin.post("/budget/new", budget_id=budget, max_budget=ONE_CALL)
    admin.post("/customer/new", user_id=customer, budget_id=budget)
    admits_one_call(callers, new_key(), user=customer)
    other = new_key()
    eventually(lambda: is_exceeded(callers, other, user=customer), "the customer's budget counts for another key")
    assert callers.admitted(other, user=unique("customer"))


def test_tag_is_made_listed_changed_and_removed(admin: Management) -> None:
    tag = unique("tag")
    admin.post("/tag/new", name=tag, description="a tag", max_budget=2)
    info = admin.post("/tag/info", names=[tag])[tag]
    assert (info["description"], info["litellm_budget_table"]["max_budget"]) == ("a tag", 2)
    admin.post("/tag/update", name=tag, description="another")
    assert admin.post("/tag/info", names=[tag])[tag]["description"] == "another"
    assert tag in [listed["name"] for listed in admin.get("/tag/list")]
    admin.post("/tag/delete", name=tag)
    assert tag not in [listed["name"] for listed in admin.get("/tag/list")]


def test_tag_holds_to_its_budget(admin: Management, callers: Callers, new_key: Make) -> None:
    tag = unique("tag")
    admin.post("/tag/new", name=tag, max_budget=ONE_CALL)
    tagged = {"extra_body": {"metadata": {"tags": [tag]}}}
    admits_one_call(callers, new_key(), **tagged)
