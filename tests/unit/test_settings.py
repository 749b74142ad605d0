"""Settings: the names and figures of the specification, from the environment, once and for all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from litellm_sqlalchemy.settings import Settings, get_settings

URL = "postgresql+psycopg2://litellm_user:hunter2-hunter2@192.168.10.19:5432/litellm_db"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("LITELLM_DB_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.acceptance("AC-2")
def test_pool_is_the_specified_one() -> None:
    settings = Settings()
    assert (settings.pool_size, settings.max_overflow) == (5, 5)
    assert (settings.pool_recycle, settings.connect_timeout) == (1800, 30)


def test_other_defaults() -> None:
    settings = Settings()
    assert settings.spool == Path("/var/lib/litellm/spool.sqlite3")
    assert settings.spool_when_full == "keep-serving"
    assert settings.partition_days_ahead == 14
    assert (settings.keep_days, settings.keep_bodies_days) == (0, 0), "nothing is removed unasked"


def test_every_setting_comes_from_a_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "url": URL,
        "pool_size": 7,
        "max_overflow": 0,
        "pool_recycle": 60,
        "connect_timeout": 3,
        "litellm_tables": False,
        "service_role": "somebody",
        "spool": "/srv/spool.sqlite3",
        "spool_max_bytes": 2_000_000,
        "spool_reserve_bytes": 0,
        "spool_when_full": "refuse",
        "spool_synchronous": "FULL",
        "refusals_per_second": 0.5,
        "batch_size": 9,
        "accounting_grace": 1.5,
        "metrics_address": "0.0.0.0",
        "metrics_port": 0,
        "partition_days_ahead": 3,
        "keep_bodies_days": 30,
        "keep_days": 90,
    }
    assert set(given) == set(Settings.model_fields)
    for name, value in given.items():
        monkeypatch.setenv(f"LITELLM_DB_{name.upper()}", str(value))
    settings = Settings()
    assert settings.require_url() == URL
    found = settings.model_dump(exclude={"url"})
    assert found == {name: value for name, value in given.items() if name != "url"} | {
        "spool": Path("/srv/spool.sqlite3")
    }


def test_missing_url_names_its_variable() -> None:
    with pytest.raises(ValueError, match="LITELLM_DB_URL"):
        Settings().require_url()


def test_password_is_not_shown() -> None:
    settings = Settings(url=URL)  # type: ignore[arg-type]
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool_size", "0"),
        ("pool_size", "many"),
        ("max_overflow", "-1"),
        ("connect_timeout", "0"),
        ("batch_size", "0"),
        ("batch_size", "10001"),
        ("accounting_grace", "-1"),
        ("spool_max_bytes", "1"),
        ("spool_when_full", "panic"),
        ("spool_synchronous", "OFF"),
        ("refusals_per_second", "0"),
        ("metrics_port", "65536"),
        ("partition_days_ahead", "0"),
        ("keep_days", "-1"),
        ("keep_bodies_days", "-1"),
    ],
)
def test_nonsense_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LITELLM_DB_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_settings_are_frozen_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = get_settings()
    monkeypatch.setenv("LITELLM_DB_POOL_SIZE", "9")
    assert get_settings() is settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.pool_size = 9


def test_other_variables_are_no_business_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_DB_OF_SOMEBODY_ELSE", "1")
    Settings()
