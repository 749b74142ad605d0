"""The backfill from LiteLLM_SpendLogs and its parity report, on a database as a stock LiteLLM leaves it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from integration.support import DAYS_AHEAD, Database, Run, Server, command_environment, printed, python, until
from litellm_sqlalchemy.schema import EXIT_DIFFERENT, upgrade
from litellm_sqlalchemy.switch import backfill as filling
from litellm_sqlalchemy.switch import parity
from litellm_sqlalchemy.switch.backfill import backfill
from population.__main__ import migrate, populate

ROWS = 400
DAYS = 6


@pytest.fixture(scope="module")
def used(server: Server) -> Database:
    """A stock LiteLLM's database in use, with the request log's tables, to be copied."""
    database = server.create()
    connection = psycopg2.connect(database.url.set(drivername="postgresql").render_as_string(hide_password=False))
    migrate(connection)
    populate(connection, ROWS, DAYS)
    connection.close()
    upgrade(database.engine, DAYS_AHEAD)
    return database


@pytest.fixture
def fresh(server: Server, used: Database) -> Iterator[Database]:
    """A copy of it for a test of its own."""
    database = server.create(used)
    yield database
    server.drop(database)


@pytest.fixture(scope="module")
def shared_stock(server: Server, used: Database) -> Database:
    """A copy for the tests that only change rows."""
    database = server.create(used)
    database.query('CREATE TABLE kept AS TABLE "LiteLLM_SpendLogs"')
    return database


@pytest.fixture
def stock(shared_stock: Database) -> Iterator[Database]:
    """The same, put back as it was after each test."""
    yield shared_stock
    shared_stock.query("DELETE FROM requests")
    shared_stock.query('TRUNCATE "LiteLLM_SpendLogs"')
    shared_stock.query('INSERT INTO "LiteLLM_SpendLogs" TABLE kept')


def spend_log(database: Database, **columns: object) -> None:
    """One more row of LiteLLM_SpendLogs; ``start`` and ``end`` are texts of moments in UTC."""
    row = {
        "request_id": "chatcmpl-more",
        "call_type": "acompletion",
        "api_key": "hash",
        "startTime": "2026-02-03 04:05:06.789",
        "endTime": "2026-02-03 04:05:07.789",
        "model": "gpt-4o",
        "status": "success",
    } | columns
    names, values = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
    database.query(f'INSERT INTO "LiteLLM_SpendLogs" ({names}) VALUES ({values})', **row)


def pair(database: Database, request_id: str) -> dict[str, object]:
    """Both rows of a call as one."""
    query = (
        "SELECT r.*, p.latency_ms, p.content, p.prompt_tokens, p.completion_tokens, p.total_tokens, p.response_model,"
        " p.cost::text AS cost"
        " FROM requests r JOIN responses p ON p.request_id_fk = r.id AND p.created_at = r.created_at"
        " WHERE r.request_id = :request_id"
    )
    (row,) = database.query(query, request_id=request_id)
    return dict(row._mapping)


# What is stored


def test_every_call_is_stored_once_in_the_partition_of_its_day(fresh: Database) -> None:
    done = backfill(fresh.engine)
    assert (done.rows, done.spend_logs) == (ROWS, ROWS)
    assert fresh.counts() == (ROWS, ROWS, ROWS)
    assert fresh.value("SELECT count(*) FROM requests_default") == 0
    assert fresh.value("SELECT count(DISTINCT tableoid) FROM responses") >= DAYS


def test_second_run_stores_nothing(stock: Database) -> None:
    backfill(stock.engine)
    again = backfill(stock.engine)
    assert (again.rows, again.partitions_created) == (0, [])
    assert stock.counts() == (ROWS, ROWS, ROWS)


def test_dry_run_counts_and_stores_nothing(fresh: Database) -> None:
    tables = fresh.tables()
    done = backfill(fresh.engine, dry_run=True)
    assert done.rows == ROWS
    assert len(done.partitions_created) >= DAYS - 2
    assert fresh.counts() == (0, 0, 0)
    assert fresh.tables() == tables


def test_a_run_killed_at_any_batch_is_continued(stock: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = filling.copy_pairs

    def breaks_off(allowed: int) -> None:
        calls = 0

        def copy(*arguments: object) -> None:
            nonlocal calls
            whole(*arguments)  # type: ignore[arg-type]
            calls += 1
            if calls > allowed:
                raise KeyboardInterrupt  # after the rows, before the commit

        monkeypatch.setattr(filling, "copy_pairs", copy)
        with pytest.raises(KeyboardInterrupt):
            backfill(stock.engine, rows_at_once=20)

    for allowed in (0, 1, 3, 7):
        breaks_off(allowed)
    monkeypatch.setattr(filling, "copy_pairs", whole)
    assert 0 < stock.counts()[0] < ROWS
    backfill(stock.engine, rows_at_once=20)
    assert stock.counts() == (ROWS, ROWS, ROWS)
    assert parity.compare(stock.engine).equal


def test_a_process_killed_in_its_work_is_continued(stock: Database) -> None:
    command = python("backfill", "--rows-at-once=1")
    process = subprocess.Popen(command, env=command_environment(stock), stdout=subprocess.DEVNULL)
    until(lambda: stock.counts()[0] > 20)
    process.kill()
    process.wait()
    assert 0 < stock.counts()[0] < ROWS
    until(
        lambda: (
            subprocess.run(command, env=command_environment(stock), capture_output=True, check=False).returncode == 0
        )
    )
    assert stock.counts() == (ROWS, ROWS, ROWS)


def test_two_runs_at_once_refuse_each_other(stock: Database, run: Run) -> None:
    with stock.meanwhile(f"SELECT pg_advisory_lock({filling._ADVISORY_LOCK})"):
        result = run("backfill", database=stock)
    assert result.exit_code == 1
    assert "another backfill is at work" in result.stderr
    assert stock.counts() == (0, 0, 0)


def test_columns_are_what_litellm_knew(stock: Database) -> None:
    spend_log(
        stock,
        spend=0.1 + 0.2,
        prompt_tokens=5,
        completion_tokens=7,
        total_tokens=12,
        model_group="smart",
        user="user-1",
        team_id="team-1",
        end_user="customer-1",
        custom_llm_provider="openai",
        requester_ip_address="10.1.2.3",
        cache_hit="True",
        completionStartTime="2026-02-03 04:05:06.889",
        litellm_call_id="call-1",
        request_tags='["a"]',
        messages='[{"role": "user", "content": "Grüße 🙂"}]',
        response='{"model": "gpt-4o-2024-11-20", "choices": [{"finish_reason": "stop"}]}',
        metadata='{"user_api_key_alias": "alias", "cost_breakdown": {"input_cost": 0.1}}',
    )
    backfill(stock.engine)
    row = pair(stock, "chatcmpl-more")
    assert str(row["created_at"]) == str(row["start_time"]) == "2026-02-03 04:05:06.789000+00:00"
    assert (row["route"], row["model"], row["response_model"]) == ("/v1/chat/completions", "smart", "gpt-4o")
    assert (row["status_code"], row["user_id"], row["api_key"], row["latency_ms"]) == (200, "user-1", "hash", 1000)
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (5, 7, 12)
    assert row["cost"] == "0.30000000000000004"
    assert row["payload"] == {"messages": [{"role": "user", "content": "Grüße 🙂"}]}
    assert row["content"] == {
        "outcome": "success",
        "response": {"model": "gpt-4o-2024-11-20", "choices": [{"finish_reason": "stop"}]},
        "stream": True,
        "first_token_ms": 100,
        "finish_reason": "stop",
        "cache_hit": True,
        "client_address": "10.1.2.3",
        "end_user": "customer-1",
        "team_id": "team-1",
        "key_alias": "alias",
        "provider": "openai",
        "cost_breakdown": {"input_cost": 0.1},
        "spend_log": "chatcmpl-more",
        "litellm_call_id": "call-1",
        "call_type": "acompletion",
        "tags": ["a"],
    }


@pytest.mark.parametrize(("code", "status"), [("429", 429), ("", 500), ("None", 500), ("99999", 500), (None, 500)])
def test_failures_have_the_status_that_litellm_kept(stock: Database, code: str | None, status: int) -> None:
    """Of the metadata, where a LiteLLM of former days had no column for it."""
    information = {"error_code": code, "error_class": "RateLimitError", "error_message": "no more"}
    metadata = json.dumps({"status": "failure", "error_information": information})
    spend_log(stock, status=None, metadata=metadata)
    backfill(stock.engine)
    row = pair(stock, "chatcmpl-more")
    assert row["status_code"] == status
    assert row["content"]["outcome"] == "failure"  # type: ignore[index]
    assert row["content"]["error"]["class"] == "RateLimitError"  # type: ignore[index]


def test_credentials_in_stored_bodies_are_redacted(stock: Database) -> None:
    body = json.dumps(
        {"api_key": "secret-of-a-client", "messages": [{"content": "my key is sk-abcdefghijklmnopqrstuv"}]}
    )
    spend_log(stock, proxy_server_request=body)
    backfill(stock.engine)
    stored = json.dumps(pair(stock, "chatcmpl-more")["payload"])
    assert "secret-of-a-client" not in stored
    assert "sk-abcdefghijklmnopqrstuv" not in stored
    assert parity.compare(stock.engine).equal


def test_names_that_no_index_takes_are_stored_all_the_same(stock: Database, run: Run) -> None:
    """Long ids, and prompts that a former LiteLLM took for the name of a model."""
    for letter in "ab":
        spend_log(stock, request_id="x" * 1500 + letter, model="m" * 5000 + letter, total_tokens=3, spend=0.5)
    backfill(stock.engine)
    assert backfill(stock.engine).rows == 0
    assert stock.counts()[0] == ROWS + 2
    assert parity.compare(stock.engine).equal


def test_calls_of_our_own_gateway_are_not_stored_again(stock: Database) -> None:
    """LiteLLM writes LiteLLM_SpendLogs there too; an answered call has the same id, a refused one another."""
    backfill(stock.engine)
    for seconds, status, request_id in ((0, 200, "call-1"), (60, 401, "what the client saw")):
        stock.query(
            "WITH r AS (INSERT INTO requests"
            "  (created_at, request_id, route, payload, status_code, api_key, start_time, end_time)"
            "  VALUES (current_date + :at * interval '1 s', :id, '/v1/chat/completions', '{}', :status, 'hash', now(),"
            "   current_date + (:at + 2) * interval '1 s') RETURNING id, created_at)"
            " INSERT INTO responses (created_at, request_id_fk, content) SELECT created_at, id, '{}' FROM r",
            at=seconds,
            id=request_id,
            status=status,
        )
    day = stock.value("SELECT (current_date::timestamptz AT TIME ZONE 'UTC')::text")
    first, second = (
        stock.value("SELECT (CAST(:d AS timestamp) + :s * interval '1 s')::text", d=day, s=s) for s in (1, 61)
    )
    spend_log(stock, request_id="chatcmpl-1", litellm_call_id="call-1", startTime=first, endTime=first, spend=1)
    spend_log(
        stock, request_id="refused", litellm_call_id="refused", startTime=second, endTime=second, status="failure"
    )
    # By another key at the same time: not ours.
    spend_log(stock, request_id="other", startTime=second, endTime=second, status="failure", api_key="other")
    assert backfill(stock.engine).rows == 1
    found = parity.compare(stock.engine)
    assert (found.equal, found.of_our_gateway) == (True, 2)


def test_calls_with_one_client_chosen_id_are_all_stored(stock: Database) -> None:
    """A retry of a failed call, and a third one with its id: rows of the backfill do not count as our gateway's."""
    spend_log(stock, request_id="call-1", litellm_call_id="call-1", status="failure")
    backfill(stock.engine)
    for n in (1, 2):
        started = f"2026-02-03 04:05:1{n}"
        spend_log(stock, request_id=f"chatcmpl-{n}", litellm_call_id="call-1", startTime=started, endTime=started)
    assert backfill(stock.engine).rows == 2


def test_days_can_be_chosen(stock: Database, run: Run) -> None:
    spend_log(stock)
    assert printed(run("backfill", "--since=2026-02-04", database=stock))["rows"] == ROWS
    assert printed(run("backfill", "--until=2026-02-04", database=stock))["rows"] == 1


def test_a_database_that_is_not_litellms_is_refused(empty: Database, run: Run) -> None:
    upgrade(empty.engine, DAYS_AHEAD)
    result = run("backfill", database=empty)
    assert result.exit_code == 1
    assert "no table LiteLLM_SpendLogs" in result.stderr


# Parity


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE responses SET cost = cost + 0.000000000000000001 WHERE id = :id",
        "UPDATE responses SET total_tokens = total_tokens + 1 WHERE id = :id",
        "UPDATE responses SET content = jsonb_set(content, '{outcome}', '\"other\"') WHERE id = :id",
        "UPDATE requests SET api_key = 'other' WHERE id = (SELECT request_id_fk FROM responses WHERE id = :id)",
        "UPDATE requests SET payload = '{\"a\": 1}' WHERE id = (SELECT request_id_fk FROM responses WHERE id = :id)",
        "DELETE FROM requests WHERE id = (SELECT request_id_fk FROM responses WHERE id = :id)",
        'UPDATE "LiteLLM_SpendLogs" SET spend = spend * 1.000000000000001 + 1e-18 WHERE request_id = :spend_log',
        'DELETE FROM "LiteLLM_SpendLogs" WHERE request_id = :spend_log',
    ],
)
def test_one_tampered_row_is_found(stock: Database, run: Run, tampering: str, tmp_path: Path) -> None:
    backfill(stock.engine)
    # Of a day in the middle: what LiteLLM itself has removed at the beginning does not count.
    ((row, spend_log),) = stock.query(
        "SELECT id, content ->> 'spend_log' FROM responses ORDER BY created_at OFFSET 200 LIMIT 1"
    )
    stock.query(tampering, id=row, spend_log=spend_log)
    result = run("parity", f"--json={tmp_path / 'parity.json'}", database=stock)
    assert result.exit_code == EXIT_DIFFERENT
    assert "THE TWO SIDES DIFFER." in result.stdout
    report = json.loads((tmp_path / "parity.json").read_text())
    assert not report["equal"]
    assert len(report["examples"]) == 1
    # What touches a sum is found by the sums as well, which know nothing of the mapping of rows.
    touches_a_sum = "content" not in tampering and "payload" not in tampering
    assert bool(report["sums_different"]) == touches_a_sum


def test_report_has_both_sides_by_day_model_and_key(stock: Database, run: Run, tmp_path: Path) -> None:
    backfill(stock.engine)
    result = run("parity", f"--json={tmp_path / 'parity.json'}", database=stock)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Both sides are equal."
    report = json.loads((tmp_path / "parity.json").read_text())
    cost = stock.value('SELECT sum(spend::text::numeric)::text FROM "LiteLLM_SpendLogs"')
    assert report["total"]["spend_logs"]["cost"] == report["total"]["request_log"]["cost"] == cost
    for part in ("days", "models", "keys"):
        assert sum(one["request_log"]["calls"] for one in report[part].values()) == ROWS
    assert report["rows_compared"] == ROWS


def test_rows_that_litellm_has_removed_by_age_do_not_count(stock: Database) -> None:
    backfill(stock.engine)
    stock.query("""DELETE FROM "LiteLLM_SpendLogs" WHERE "startTime" < now() AT TIME ZONE 'UTC' - interval '3 days'""")
    found = parity.compare(stock.engine)
    assert found.equal
    assert 0 < found.rows < ROWS


def test_bodies_that_have_expired_do_not_count(stock: Database) -> None:
    backfill(stock.engine)
    stock.query("UPDATE requests SET payload = '{\"expired\": true}'")
    stock.query("UPDATE responses SET content = content - 'response'")
    found = parity.compare(stock.engine)
    assert (found.equal, found.bodies_expired) == (True, ROWS)
