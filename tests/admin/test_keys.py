"""Virtual keys: made, looked up, listed, changed, blocked, removed; and what each of that means for its calls."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from management import Callers, Management, RefusedError, refusal, unique

Make = Callable[..., str]


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_key_is_made_and_its_hash_alone_is_kept(admin: Management, callers: Callers) -> None:
    made = admin.post("/key/generate", key_alias=unique("key"), models=["lab-chat"], max_budget=1.5, tpm_limit=1000)
    assert re.fullmatch(r"sk-[\w-]{20,}", made["key"])
    assert made["token"] == sha256(made["key"])
    info = admin.get("/key/info", key=made["token"])["info"]
    assert (info["models"], info["max_budget"], info["tpm_limit"]) == (["lab-chat"], 1.5, 1000)
    assert (info["spend"], info["expires"], info["status"]) == (0, None, "active")
    assert made["key"] not in str(info)
    assert callers.chat(made["key"]).status_code == 200


def test_ten_keys_are_made_at_once(admin: Management) -> None:
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: admin.post("/key/generate")["key"], range(10)))
    assert len(set(made)) == 10
    assert all(admin.get("/key/info", key=sha256(key))["info"]["spend"] == 0 for key in made)


def test_value_may_be_chosen_but_not_twice_with_other_terms(admin: Management, callers: Callers) -> None:
    value = f"sk-{unique('chosen')}"
    admin.post("/key/generate", key=value, key_alias=unique("key"), rpm_limit=5)
    assert callers.admitted(value)
    admin.post("/key/generate", key=value, key_alias=unique("key"), rpm_limit=500)  # LiteLLM accepts and does nothing
    assert admin.get("/key/info", key=sha256(value))["info"]["rpm_limit"] == 5


@pytest.mark.parametrize(("value", "words"), [("pk-chosen-0123456789", "must start with"), ("sk-short", "at least 16")])
def test_bad_value_is_refused(admin: Management, value: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        admin.post("/key/generate", key=value)
    assert caught.value.status == 400


def test_alias_is_unique(admin: Management) -> None:
    alias = unique("key")
    admin.post("/key/generate", key_alias=alias)
    with pytest.raises(RefusedError, match=alias) as caught:
        admin.post("/key/generate", key_alias=alias)
    assert caught.value.status == 400


def test_info_is_for_the_admin_and_the_keys_user(
    admin: Management, management_as: Callable[[str], Management], new_key: Make, new_user: Make
) -> None:
    key, other = (new_key(user_id=new_user(user_role="internal_user")) for _ in range(2))
    assert admin.get("/key/info", key=sha256(key))["info"]["key_name"] == f"sk-...{key[-4:]}"
    assert management_as(key).get("/key/info")["info"]["key_name"] == f"sk-...{key[-4:]}"
    assert management_as(key).get("/key/info", key=key)["info"]["status"] == "active"
    with pytest.raises(RefusedError) as caught:
        management_as(other).get("/key/info", key=key)
    assert caught.value.status == 403


def test_unknown_key_has_no_info(admin: Management) -> None:
    with pytest.raises(RefusedError, match="not found") as caught:
        admin.get("/key/info", key="0" * 64)
    assert caught.value.status == 404


def test_list_filters_pages_and_sorts(admin: Management, new_key: Make, new_team: Make) -> None:
    team = new_team()
    aliases = sorted(unique(f"listed-{n}") for n in range(3))
    hashes = {alias: sha256(new_key(key_alias=alias, team_id=team)) for alias in aliases}
    pages = [
        admin.get("/key/list", team_id=team, size=2, page=page, sort_by="key_alias", sort_order="asc")
        for page in (1, 2)
    ]
    assert [token for page in pages for token in page["keys"]] == [hashes[alias] for alias in aliases]
    assert [(page["total_count"], page["total_pages"], page["current_page"]) for page in pages] == [
        (3, 2, 1),
        (3, 2, 2),
    ]
    (found,) = admin.get("/key/list", key_alias=aliases[1], return_full_object=True)["keys"]
    assert (found["token"], found["team_id"], found["spend"]) == (hashes[aliases[1]], team, 0)
    assert admin.get("/key/list", key_hash=hashes[aliases[0]])["keys"] == [hashes[aliases[0]]]
    assert admin.get("/key/list", key_alias=aliases[0][:-1])["keys"] == []
    found_by_part = admin.get("/key/list", key_alias=aliases[0][:-1].upper(), substring_matching=True)
    assert found_by_part["keys"] == [hashes[aliases[0]]]
    named = admin.get("/key/aliases", search=aliases[2], size=100)
    assert named["aliases"] == [aliases[2]]


def test_update_changes_what_is_told_and_leaves_the_rest(admin: Management, new_key: Make) -> None:
    key = new_key(models=["lab-chat"], max_budget=2, rpm_limit=7, metadata={"owner": "ops"}, budget_duration="30d")
    before = admin.get("/key/info", key=sha256(key))["info"]
    admin.post("/key/update", key=key, tpm_limit=99)
    after = admin.get("/key/info", key=sha256(key))["info"]
    changed = {field for field in before if before[field] != after[field]}
    assert changed <= {"tpm_limit", "updated_at", "settings_updated_at"}
    assert after["tpm_limit"] == 99
    admin.post("/key/update", key=key, max_budget=None, metadata={"cost_centre": "4711"}, budget_duration=None)
    cleared = admin.get("/key/info", key=sha256(key))["info"]
    assert (cleared["max_budget"], cleared["budget_duration"], cleared["budget_reset_at"]) == (None, None, None)
    assert cleared["metadata"] == {"cost_centre": "4711"}


def test_update_of_a_model_list_takes_effect_at_once(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key(models=["lab-embedding"])
    status, kind, words = refusal(lambda: callers.chat(key))
    assert (status, kind) == (403, "key_model_access_denied")
    assert "not available for this API key" in words
    admin.post("/key/update", key=key, models=["lab-chat"])
    assert callers.admitted(key)


def test_unknown_key_cannot_be_updated(admin: Management) -> None:
    with pytest.raises(RefusedError) as caught:
        admin.post("/key/update", key="sk-there-is-no-such-key", max_budget=1)
    assert caught.value.status == 404


def test_blocked_key_is_refused_until_it_is_unblocked(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key()
    assert callers.admitted(key)
    admin.post("/key/block", key=key)
    status, _, words = refusal(lambda: callers.chat(key))
    assert status == 401
    assert "blocked" in words
    assert admin.get("/key/info", key=sha256(key))["info"]["status"] == "revoked"
    admin.post("/key/unblock", key=key)
    assert callers.admitted(key)


def test_deleted_key_is_refused_and_archived(admin: Management, callers: Callers, new_key: Make) -> None:
    key = new_key()
    assert callers.admitted(key)
    assert admin.post("/key/delete", keys=[key])["deleted_keys"] == [key]
    assert refusal(lambda: callers.chat(key))[0] == 401
    info = admin.get("/key/info", key=sha256(key))["info"]
    assert info["status"] == "deleted"
    assert info["deleted_at"]
    assert sha256(key) in admin.get("/key/list", status="deleted", key_hash=sha256(key))["keys"]


def test_keys_are_deleted_by_alias(admin: Management, callers: Callers, new_key: Make) -> None:
    alias = unique("key")
    key = new_key(key_alias=alias)
    admin.post("/key/delete", key_aliases=[alias])
    assert not callers.admitted(key)


def test_key_of_a_user_cannot_make_keys_of_others(
    management_as: Callable[[str], Management], new_key: Make, new_user: Make
) -> None:
    key = new_key(user_id=new_user(user_role="internal_user"))
    with pytest.raises(RefusedError) as caught:
        management_as(key).post("/key/generate", user_id="somebody-else")
    assert caught.value.status in (401, 403)


def test_regeneration_and_tags_need_a_licence(admin: Management, new_key: Make) -> None:
    with pytest.raises(RefusedError, match="Enterprise feature"):
        admin.post("/key/regenerate", key=new_key())
    with pytest.raises(RefusedError, match="only available for LiteLLM Enterprise"):
        admin.post("/key/generate", tags=["a"])


@pytest.mark.parametrize("key", ["sk-not-a-key-of-this-gateway", "no-key-at-all"])
def test_stranger_is_refused(callers: Callers, key: str) -> None:
    assert refusal(lambda: callers.chat(key))[0] == 401
