"""`litellm-db`: what an operator types, without a database. With one: tests/integration."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from litellm_sqlalchemy.cli import main
from litellm_sqlalchemy.settings import get_settings
from litellm_sqlalchemy.spool import Spool


@pytest.fixture
def run(spool_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs `litellm-db` with the spool of the test."""
    for name in [name for name in os.environ if name.startswith("LITELLM_DB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LITELLM_DB_SPOOL", str(spool_path))
    get_settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(main, arguments, prog_name="litellm-db")
    get_settings.cache_clear()


def complete(spool: Spool, request_id: str) -> int:
    seq, _ = spool.open("w", 1_000, request_id, b'{"route":"/"}')
    spool.finish(seq, b'{"outcome":"success"}', 0)
    return seq


def test_help_names_every_command(run: Callable[..., Result]) -> None:
    result = run("-h")
    assert result.exit_code == 0
    for command in ("ship", "ledger", "set-aside", "replay", "partitions", "expire", "check", "ping"):
        assert f"\n  {command} " in result.output
        assert run(command, "--help").exit_code == 0


def test_ledger_is_json_and_balances(run: Callable[..., Result], spool: Spool) -> None:
    complete(spool, "call")
    result = run("ledger")
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert (report["accepted"], report["spooled"], report["balanced"]) == (1, 1, True)


def test_ledger_that_does_not_balance_is_a_failure(run: Callable[..., Result], spool: Spool) -> None:
    complete(spool, "call")
    spool._connection.execute("DELETE FROM requests")
    result = run("ledger")
    assert json.loads(result.output)["balanced"] is False
    assert result.exit_code == 1


@pytest.mark.parametrize("command", ["ledger", "set-aside", "replay"])
def test_missing_spool_is_named_and_not_made(command: str, run: Callable[..., Result], spool_path: Path) -> None:
    result = run(command)
    assert result.exit_code == 1
    assert str(spool_path) in result.output
    assert "LITELLM_DB_SPOOL" in result.output
    assert not spool_path.exists()


def test_what_is_set_aside_is_listed_and_replayed(run: Callable[..., Result], spool: Spool) -> None:
    assert run("set-aside").output == ""
    seq = complete(spool, "bad")
    spool.set_aside(seq, "invalid byte sequence")
    assert run("set-aside").output == f"{seq}\tbad\tinvalid byte sequence\n"
    assert run("replay").output.startswith("1 exchange")
    assert run("set-aside").output == ""
    assert [exchange.request_id for exchange in spool.ready(10)] == ["bad"]


@pytest.mark.parametrize("command", [("ship", "--once"), ("partitions",), ("expire",), ("check",), ("ping",)], ids=str)
def test_missing_url_is_a_sentence(command: tuple[str, ...], run: Callable[..., Result], spool: Spool) -> None:
    result = run(*command)
    assert result.exit_code == 1
    assert "LITELLM_DB_URL" in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), "a traceback"


@pytest.mark.parametrize("command", [("partitions",), ("expire",), ("check",), ("ping",)], ids=str)
def test_database_that_is_away_is_a_sentence(
    command: tuple[str, ...], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_DB_URL", "postgresql+psycopg2://user:hunter2-hunter2@127.0.0.1:1/nowhere")
    result = run(*command)
    assert result.exit_code == 1
    assert "hunter2" not in result.output
    assert isinstance(result.exception, SystemExit), "a traceback"


@pytest.mark.parametrize("days", ["0", "-1", "many"])
def test_days_ahead_are_a_number(days: str, run: Callable[..., Result]) -> None:
    result = run("partitions", "--days-ahead", days)
    assert result.exit_code == 2
    assert "--days-ahead" in result.output
