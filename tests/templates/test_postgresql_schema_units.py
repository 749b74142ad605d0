"""The unit that makes partitions: it asks the database of this inventory, without a password, and from a sandbox."""

from configparser import ConfigParser
from typing import Any

import pytest

ROLE, HOST = "schema", "postgresql1"


def unit(deployment: Any, name: str = "litellm-partitions.service", **given: Any) -> dict[str, dict[str, list[str]]]:
    """The sections of a unit, with the values of each name in their order."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in deployment().render(ROLE, f"{name}.j2", HOST, **given).splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return sections


def environment(deployment: Any, **given: Any) -> dict[str, str]:
    """What the unit's processes find in their environment."""
    entries = [entry.strip('"') for entry in unit(deployment, **given)["Service"]["Environment"]]
    return dict(entry.split("=", 1) for entry in entries)


def test_unit_comes_in_through_the_socket_without_a_password(deployment: Any) -> None:
    assert environment(deployment)["LITELLM_DB_URL"] == (
        "postgresql+psycopg2://litellm_owner@/litellm_db?host=/var/run/postgresql&port=5432"
    )


def test_unit_follows_the_inventory(deployment: Any) -> None:
    found = environment(deployment, postgresql_port=5433, schema_port=5433, schema_partition_days_ahead=30)
    assert found["LITELLM_DB_URL"].endswith("&port=5433")
    assert found["LITELLM_DB_PARTITION_DAYS_AHEAD"] == "30"


def test_percent_signs_are_not_taken_for_specifiers(deployment: Any) -> None:
    """A quoted character in the URL would become the name of the host or a home directory."""
    assert "//own%%20er@" in environment(deployment, schema_owner="own er")["LITELLM_DB_URL"]


def test_unit_runs_as_postgres_and_is_sealed_off(deployment: Any) -> None:
    service = unit(deployment)["Service"]
    assert service["User"] == ["postgres"]
    assert service["RestrictAddressFamilies"] == ["AF_UNIX"]
    for name in ("NoNewPrivileges", "PrivateNetwork", "PrivateTmp", "ProtectHome", "MemoryDenyWriteExecute"):
        assert service[name] == ["true"], name
    assert service["ProtectSystem"] == ["strict"]
    assert "RemoveIPC" not in service, "it would take the server's semaphores away: they belong to the same user"


def test_partitions_are_made_before_old_ones_are_dropped(deployment: Any) -> None:
    """What fails first keeps the rest from running, and rows of tomorrow need a place more than old ones need to go."""
    commands = unit(deployment)["Service"]["ExecStart"]
    assert commands[0] == "/opt/litellm/schema-venv/bin/python -m litellm_sqlalchemy partitions"


@pytest.mark.parametrize(
    ("section", "name", "value"), [("Timer", "Persistent", "true"), ("Timer", "OnCalendar", "daily")]
)
def test_timer_runs_every_day_and_catches_up(deployment: Any, section: str, name: str, value: str) -> None:
    parser = ConfigParser()
    parser.read_string(deployment().render(ROLE, "litellm-partitions.timer.j2", HOST))
    assert parser[section][name] == value
