"""Teams: their members, models and keys."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from management import Callers, Management, RefusedError, eventually, forbidden, refusal, unique

Make = Callable[..., str]
Acting = Callable[[str], Management]


@dataclass(frozen=True)
class Rights:
    """What a team permits its members to do with its keys, and what they can do then."""

    given: list[str] | None
    allowed: set[str]


def members(admin: Management, team: str) -> dict[str, str]:
    info = admin.get("/team/info", team_id=team)["team_info"]
    return {member["user_id"]: member["role"] for member in info["members_with_roles"]}


def test_team_is_made_listed_and_shown(admin: Management) -> None:
    alias = unique("team")
    made = admin.post(
        "/team/new", team_alias=alias, models=["lab-chat"], max_budget=3, budget_duration="30d", metadata={"a": 1}
    )
    info = admin.get("/team/info", team_id=made["team_id"])["team_info"]
    assert (info["team_alias"], info["models"], info["max_budget"], info["metadata"]) == (
        alias,
        ["lab-chat"],
        3,
        {"a": 1},
    )
    assert info["budget_reset_at"]
    (listed,) = admin.get("/v2/team/list", team_alias=alias)["teams"]
    assert listed["team_id"] == made["team_id"]
    assert made["team_id"] in [team["team_id"] for team in admin.get("/team/list")]


def test_team_id_is_unique(admin: Management) -> None:
    team = unique("team-id")
    admin.post("/team/new", team_id=team)
    with pytest.raises(RefusedError, match="already exists") as caught:
        admin.post("/team/new", team_id=team)
    assert caught.value.status == 400


def test_info_is_for_the_admin_and_the_teams_keys(
    admin: Management, management_as: Acting, new_team: Make, new_key: Make
) -> None:
    team = new_team()
    inside, outside = new_key(team_id=team), new_key()
    assert management_as(inside).get("/team/info", team_id=team)["team_id"] == team
    with pytest.raises(RefusedError) as caught:
        management_as(outside).get("/team/info", team_id=team)
    assert caught.value.status in (401, 403)
    with pytest.raises(RefusedError) as caught:
        admin.get("/team/info", team_id=unique("nothing"))
    assert caught.value.status == 404


def test_update_changes_what_is_told_and_leaves_the_rest(admin: Management, new_team: Make, new_user: Make) -> None:
    users = [new_user() for _ in range(3)]
    team = new_team(models=["lab-chat"], max_budget=5, members_with_roles=[{"role": "user", "user_id": users[0]}])
    admin.post("/team/member_add", team_id=team, member=[{"role": "user", "user_id": user} for user in users[1:]])
    before = admin.get("/team/info", team_id=team)["team_info"]
    assert set(members(admin, team)) >= set(users)
    renamed = unique("renamed")
    admin.post("/team/update", team_id=team, team_alias=renamed)
    after = admin.get("/team/info", team_id=team)["team_info"]
    assert after["team_alias"] == renamed
    assert {field for field in before if before[field] != after[field]} <= {"team_alias", "updated_at"}


def test_members_come_by_id_or_address_and_go(admin: Management, new_team: Make, new_user: Make) -> None:
    address = f"{unique('user')}@example.com"
    by_id, by_address = new_user(), new_user(user_email=address)
    team = new_team()
    admin.post("/team/member_add", team_id=team, member={"role": "user", "user_id": by_id})
    admin.post("/team/member_add", team_id=team, member={"role": "user", "user_email": address})
    assert {by_id, by_address} <= set(members(admin, team))
    assert [found["team_id"] for found in admin.get("/user/info", user_id=by_address)["teams"]] == [team]
    with pytest.raises(RefusedError):
        admin.post("/team/member_add", team_id=team, member={"role": "user", "user_id": by_id})
    admin.post("/team/member_delete", team_id=team, user_id=by_id)
    admin.post("/team/member_delete", team_id=team, user_email=address)
    assert not {by_id, by_address} & set(members(admin, team))
    assert admin.get("/user/info", user_id=by_id)["teams"] == []


def test_member_budget_is_kept_with_the_membership(admin: Management, new_team: Make, new_user: Make) -> None:
    user, team = new_user(), new_team()
    admin.post("/team/member_add", team_id=team, member={"role": "user", "user_id": user}, max_budget_in_team=0.5)
    admin.post("/team/member_update", team_id=team, user_id=user, max_budget_in_team=0.25)
    (membership,) = [m for m in admin.get("/team/info", team_id=team)["team_memberships"] if m["user_id"] == user]
    assert membership["litellm_budget_table"]["max_budget"] == 0.25


def test_team_restricts_the_models_of_its_keys(
    admin: Management, callers: Callers, new_team: Make, new_key: Make
) -> None:
    team = new_team(models=["lab-embedding"])
    key = new_key(team_id=team)
    status, kind, _ = refusal(lambda: callers.chat(key))
    assert (status, kind) == (403, "team_model_access_denied")
    admin.post("/team/update", team_id=team, models=["lab-embedding", "lab-chat"])
    assert callers.admitted(key)
    admin.post("/team/model/delete", team_id=team, models=["lab-chat"])
    # What LiteLLM does after a call may put the team as it was back into the worker's memory, for a minute.
    eventually(lambda: not callers.admitted(key), "the team has lost the model", patience=75)
    admin.post("/team/model/add", team_id=team, models=["lab-chat"])
    assert callers.admitted(key)


def test_model_alias_of_a_team_leads_to_its_model(callers: Callers, new_team: Make, new_key: Make) -> None:
    team = new_team(model_aliases={"cheap-model": "lab-chat"})
    key = new_key(team_id=team, models=["lab-chat"])
    assert callers.chat(key, model="cheap-model").status_code == 200


def test_blocked_team_refuses_its_keys(admin: Management, callers: Callers, new_team: Make, new_key: Make) -> None:
    """/team/update takes effect at once; what /team/block does to a team that is in use: test_workers.py."""
    team = new_team()
    key = new_key(team_id=team)
    assert callers.admitted(key)
    admin.post("/team/update", team_id=team, blocked=True)
    status, _, words = refusal(lambda: callers.chat(key))
    assert status == 401
    assert "is blocked" in words
    admin.post("/team/update", team_id=team, blocked=False)
    assert callers.admitted(key)


def test_deleted_team_takes_its_keys_and_memberships_along(
    admin: Management, callers: Callers, new_team: Make, new_key: Make, new_user: Make
) -> None:
    user = new_user()
    team = new_team(members_with_roles=[{"role": "user", "user_id": user}])
    key = new_key(team_id=team)
    assert callers.admitted(key)
    assert len(admin.get("/user/info", user_id=user)["teams"]) == 1
    admin.post("/team/delete", team_ids=[team])
    assert not callers.admitted(key)
    assert admin.get("/user/info", user_id=user)["teams"] == []
    with pytest.raises(RefusedError) as caught:
        admin.get("/team/info", team_id=team)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "rights",
    [
        Rights(None, set()),
        Rights(["/key/generate"], {"generate"}),
        # To delete, LiteLLM asks for the key's owner or a team admin besides.
        Rights(["/key/update", "/key/delete", "/key/info"], {"update"}),
    ],
    ids=["none", "generate", "update and delete"],
)
def test_members_do_with_the_teams_keys_what_the_team_permits(
    management_as: Acting, new_team: Make, new_key: Make, new_user: Make, rights: Rights
) -> None:
    team = new_team(team_member_permissions=rights.given)
    user = new_user(user_role="internal_user", teams=[team])
    of_the_team, member = new_key(team_id=team), management_as(new_key(user_id=user))
    tries: dict[str, Callable[[], object]] = {
        "generate": lambda: member.post("/key/generate", team_id=team),
        "update": lambda: member.post("/key/update", key=of_the_team, metadata={"changed": True}),
        "delete": lambda: member.post("/key/delete", keys=[of_the_team]),
    }
    assert {name for name, call in tries.items() if not forbidden(call)} == rights.allowed


def test_team_admins_need_a_licence(admin: Management, new_team: Make, new_user: Make) -> None:
    with pytest.raises(RefusedError, match="premium"):
        admin.post("/team/member_add", team_id=new_team(), member={"role": "admin", "user_id": new_user()})
