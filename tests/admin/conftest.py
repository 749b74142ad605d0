"""What the tests of LiteLLM's administration share: the deployed gateway, its hosts, and things made for one test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.inventory import Lab
from faults.machine import Machine
from management import Management, admin, callers, lab, unique

__all__ = ["admin", "callers", "lab"]


@pytest.fixture(scope="session")
def gateway_host(lab: Lab) -> Machine:
    """The gateway's host, as root."""
    return Machine(lab.podman, lab.containers["litellm"], lab.addresses["litellm"])


@pytest.fixture(scope="session")
def database_host(lab: Lab) -> Machine:
    """PostgreSQL's host, as root."""
    return Machine(lab.podman, lab.containers["postgresql"], lab.addresses["postgresql"])


@pytest.fixture(scope="session")
def management_as(lab: Lab) -> Iterator[Callable[[str], Management]]:
    """The management API with another key."""
    made: list[Management] = []

    def management(key: str) -> Management:
        made.append(Management(lab.gateway_url, key))
        return made[-1]

    yield management
    for one in made:
        one.close()


@pytest.fixture
def new_key(admin: Management) -> Callable[..., str]:
    """Make a virtual key with the given fields; returns its value."""

    def make(**fields: Any) -> str:
        return str(admin.post("/key/generate", **{"key_alias": unique("key"), **fields})["key"])

    return make


@pytest.fixture
def new_team(admin: Management) -> Callable[..., str]:
    """Make a team with the given fields; returns its id."""

    def make(**fields: Any) -> str:
        return str(admin.post("/team/new", **{"team_alias": unique("team"), **fields})["team_id"])

    return make


@pytest.fixture
def new_user(admin: Management) -> Callable[..., str]:
    """Make a user without a key; returns the id."""

    def make(**fields: Any) -> str:
        made = admin.post("/user/new", **{"user_id": unique("user"), "auto_create_key": False, **fields})
        return str(made["user_id"])

    return make
