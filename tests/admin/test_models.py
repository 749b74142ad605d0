"""Models and credentials that are kept in the database instead of config.yaml."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.inventory import Lab
from faults.machine import Machine
from management import Callers, Management, RefusedError, eventually, unique

Make = Callable[..., str]

PROVIDER_KEY = "sk-a-providers-key-for-the-double"


@pytest.fixture
def new_model(admin: Management, lab: Lab) -> Iterator[Callable[..., dict[str, Any]]]:
    """Store a model that the double answers; removed at the end, since it would stay in every list of models."""
    made: list[str] = []

    def make(name: str, **parameters: Any) -> dict[str, Any]:
        provider = {"model": "openai/gpt-4o-mini", "api_base": f"{lab.upstream_url}/v1", "api_key": PROVIDER_KEY}
        answer = admin.post("/model/new", model_name=name, litellm_params={**provider, **parameters})
        made.append(answer["model_id"])
        return dict(answer)

    yield make
    for identity in made:
        if any(model["model_info"]["id"] == identity for model in admin.get("/model/info")["data"]):
            admin.post("/model/delete", id=identity)


@pytest.fixture
def stored(database_host: Machine, lab: Lab) -> Callable[[str], str]:
    """What psql answers to a query, on the database's host."""
    psql = 'cd / && exec runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d "$1" -c "$2"'
    return lambda sql: database_host.run(psql, lab.database, sql)


def test_model_is_stored_called_changed_and_removed(
    admin: Management, callers: Callers, new_key: Make, new_model: Callable[..., dict[str, Any]]
) -> None:
    name, key = unique("model"), new_key()
    identity = new_model(name)["model_id"]
    eventually(lambda: callers.admitted(key, model=name), "the model is there", patience=45)
    (info,) = [model for model in admin.get("/model/info")["data"] if model["model_info"]["id"] == identity]
    assert (info["model_name"], info["model_info"]["db_model"]) == (name, True)
    assert PROVIDER_KEY not in str(info)
    renamed = unique("model")
    admin.patch(f"/model/{identity}/update", model_name=renamed)
    eventually(lambda: callers.admitted(key, model=renamed), "the model has its new name", patience=45)
    admin.post("/model/delete", id=identity)
    eventually(lambda: not callers.admitted(key, model=renamed), "the model is gone", patience=45)


def test_providers_key_of_a_stored_model_is_encrypted(
    new_model: Callable[..., dict[str, Any]], stored: Callable[[str], str]
) -> None:
    identity = new_model(unique("model"))["model_id"]
    sql = f"""SELECT litellm_params FROM "LiteLLM_ProxyModelTable" WHERE model_id = '{identity}'"""
    assert "api_key" in stored(sql)
    assert PROVIDER_KEY not in stored(sql)


def test_model_of_the_configuration_cannot_be_removed(admin: Management) -> None:
    (info,) = [model for model in admin.get("/model/info")["data"] if model["model_name"] == "lab-chat"]
    with pytest.raises(RefusedError):
        admin.post("/model/delete", id=info["model_info"]["id"])


def test_credential_is_stored_encrypted_used_by_a_model_and_removed(
    admin: Management,
    callers: Callers,
    new_model: Callable[..., dict[str, Any]],
    stored: Callable[[str], str],
    lab: Lab,
) -> None:
    credential, name, key = unique("credential"), unique("model"), lab.master_key
    values = {"api_key": PROVIDER_KEY, "api_base": f"{lab.upstream_url}/v1"}
    admin.post(
        "/credentials",
        credential_name=credential,
        credential_values=values,
        credential_info={"custom_llm_provider": "openai"},
    )
    (listed,) = [c for c in admin.get("/credentials")["credentials"] if c["credential_name"] == credential]
    assert PROVIDER_KEY not in str(listed)
    sql = f"""SELECT credential_values FROM "LiteLLM_CredentialsTable" WHERE credential_name = '{credential}'"""
    assert PROVIDER_KEY not in stored(sql)
    new_model(name, api_key=None, api_base=None, litellm_credential_name=credential)
    eventually(lambda: callers.admitted(key, model=name), "the model works with its credential", patience=45)
    admin.delete(f"/credentials/{credential}")
    assert credential not in [c["credential_name"] for c in admin.get("/credentials")["credentials"]]
