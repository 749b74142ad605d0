"""Health as load balancers and operators see it, with the database in it."""

from collections.abc import Callable

import httpx

from faults.inventory import Lab
from management import Management


def test_readiness_tells_of_the_database(lab: Lab) -> None:
    answer = httpx.get(f"{lab.gateway_url}/health/readiness", trust_env=False)
    assert answer.status_code == 200
    assert answer.json()["db"] == "connected"


def test_liveliness_needs_no_key(lab: Lab) -> None:
    assert httpx.get(f"{lab.gateway_url}/health/liveliness", trust_env=False).status_code == 200


def test_health_of_the_models_is_for_keys(admin: Management, lab: Lab) -> None:
    assert httpx.get(f"{lab.gateway_url}/health", trust_env=False).status_code == 401
    found = admin.get("/health", model="lab-chat")
    assert (found["healthy_count"], found["unhealthy_count"]) == (1, 0)


def test_checked_health_is_kept(admin: Management) -> None:
    admin.get("/health", model="lab-chat")
    latest = admin.get("/health/latest")["latest_health_checks"]
    assert any(check["status"] == "healthy" for check in latest.values())


def test_models_are_listed_for_a_key_as_far_as_it_may_use_them(
    management_as: Callable[[str], Management], new_key: Callable[..., str]
) -> None:
    listed = management_as(new_key(models=["lab-chat", "lab-embedding"])).get("/v1/models")["data"]
    assert {model["id"] for model in listed} == {"lab-chat", "lab-embedding"}
