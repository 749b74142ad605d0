"""Users: made, looked up, listed, changed, removed; what they may see; what they may spend."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from management import Callers, Management, RefusedError, eventually, refusal, unique

Make = Callable[..., str]
Acting = Callable[[str], Management]


def test_user_is_made_with_a_key_listed_and_shown(admin: Management, callers: Callers) -> None:
    user = unique("user")
    made = admin.post(
        "/user/new", user_id=user, user_email=f"{user}@example.com", max_budget=4, user_role="internal_user"
    )
    assert callers.admitted(made["key"])
    info = admin.get("/user/info", user_id=user)
    assert (info["user_id"], info["user_info"]["max_budget"], len(info["keys"])) == (user, 4, 1)
    (listed,) = admin.get("/user/list", user_ids=user)["users"]
    assert (listed["user_email"], listed["user_role"], listed["key_count"]) == (
        f"{user}@example.com",
        "internal_user",
        1,
    )


def test_ten_users_are_made_at_once(admin: Management) -> None:
    names = [unique("user") for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda name: admin.post("/user/new", user_id=name)["user_id"], names))
    assert made == names
    found = admin.get("/user/list", user_ids=",".join(names), page_size=25)["users"]
    assert {user["user_id"] for user in found} == set(names)


def test_user_id_and_address_are_unique(admin: Management, new_user: Make) -> None:
    address = f"{unique('user')}@example.com"
    new_user(user_email=address)
    with pytest.raises(RefusedError, match="already exists") as caught:
        admin.post("/user/new", user_email=address.upper())
    assert caught.value.status == 409


def test_info_is_for_the_admin_and_the_user(
    admin: Management, management_as: Acting, new_user: Make, new_key: Make
) -> None:
    user, other = new_user(user_role="internal_user"), new_user(user_role="internal_user")
    assert admin.get("/user/info", user_id=user)["user_id"] == user
    assert management_as(new_key(user_id=user)).get("/user/info", user_id=user)["user_id"] == user
    with pytest.raises(RefusedError) as caught:
        management_as(new_key(user_id=other)).get("/user/info", user_id=user)
    assert caught.value.status in (401, 403)


def test_update_changes_what_is_told_and_leaves_the_rest(admin: Management, new_user: Make) -> None:
    user = new_user(max_budget=4, models=["lab-chat"], metadata={"a": 1})
    before = admin.get("/user/info", user_id=user)["user_info"]
    admin.post("/user/update", user_id=user, rpm_limit=9)
    after = admin.get("/user/info", user_id=user)["user_info"]
    assert {field for field in before if before[field] != after[field]} <= {"rpm_limit", "updated_at"}
    assert after["rpm_limit"] == 9


def test_models_of_a_user_restrict_keys_without_a_team(
    admin: Management, callers: Callers, new_user: Make, new_key: Make
) -> None:
    user = new_user(models=["lab-embedding"])
    key = new_key(user_id=user)
    status, kind, _ = refusal(lambda: callers.chat(key))
    assert (status, kind) == (403, "user_model_access_denied")
    admin.post("/user/update", user_id=user, models=["lab-chat"])
    assert callers.admitted(key)


def test_user_of_two_teams_is_in_both(admin: Management, new_user: Make, new_team: Make) -> None:
    teams = {new_team(), new_team()}
    user = new_user(teams=sorted(teams))
    assert {team["team_id"] for team in admin.get("/user/info", user_id=user)["teams"]} == teams


def test_deleted_user_takes_keys_and_memberships_along(
    admin: Management, callers: Callers, new_user: Make, new_team: Make, new_key: Make
) -> None:
    team = new_team()
    user = new_user(teams=[team])
    key = new_key(user_id=user)
    assert callers.admitted(key)
    admin.post("/user/delete", user_ids=[user])
    eventually(lambda: not callers.admitted(key), "the key of a deleted user is refused", patience=70)
    assert admin.get("/user/list", user_ids=user)["users"] == []
    in_team = admin.get("/team/info", team_id=team)["team_info"]["members_with_roles"]
    assert user not in [member["user_id"] for member in in_team]


def test_role_that_is_none_is_refused(admin: Management) -> None:
    with pytest.raises(RefusedError) as caught:
        admin.post("/user/new", user_role="emperor")
    assert caught.value.status == 422
