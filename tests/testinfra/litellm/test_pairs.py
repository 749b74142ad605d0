"""The two tables as a whole: nothing twice, nothing alone, nothing that is no call."""

import time
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")

CALL_ID = "x-litellm-call-id"
UNLOGGED = ["/", "/health/liveliness", "/health/readiness", "/ui/", "/openapi.json", "/favicon.ico", "/no/such/page"]


def chat(http: httpx.Client, prompt: str = "hello") -> str:
    """A chat; its call id."""
    answer = http.post(
        "/v1/chat/completions", json={"model": "lab-chat", "messages": [{"role": "user", "content": prompt}]}
    )
    return str(answer.raise_for_status().headers[CALL_ID])


def test_list_of_models_is_a_call(http: httpx.Client, request_log: Any, call_id: str) -> None:
    answer = http.get("/v1/models", headers={CALL_ID: call_id})
    pair = request_log.pair_for(call_id)
    row = pair.request
    assert (row["route"], row["status_code"]) == ("/v1/models", 200)
    assert (row["model"], row["payload"]) == (None, {})
    assert pair.content["response"] == answer.json()
    assert not pair.response["total_tokens"]


def test_health_and_ui_leave_no_row(http: httpx.Client, request_log: Any, call_id: str) -> None:
    for path in UNLOGGED:
        http.get(path, headers={CALL_ID: call_id})
    # Rows come in the order of their calls: when this one is there, the others would be as well.
    request_log.pair_for(chat(http))
    assert request_log.pairs(f"q.request_id = '{call_id}'") == []
    paths = ", ".join(f"'{path}'" for path in UNLOGGED)
    assert request_log.query(f"SELECT to_jsonb(q) FROM requests q WHERE route IN ({paths}) LIMIT 5") == []


@pytest.mark.acceptance("AC-4")
@pytest.mark.acceptance("AC-5")
def test_calls_of_this_session_are_each_there_once(http: httpx.Client, request_log: Any) -> None:
    """A pair that comes a second time may come late: so this looks again, at everything that was called so far."""
    request_log.pair_for(chat(http))
    time.sleep(3)
    ids = ", ".join(f"'{call_id}'" for call_id in request_log.expected)
    found = request_log.query(
        "SELECT jsonb_build_array(q.request_id, count(*), count(p.id)) FROM requests q"
        " LEFT JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
        f" WHERE q.request_id IN ({ids}) GROUP BY q.request_id"
    )
    counted = {call_id: (requests, responses) for call_id, requests, responses in found}
    assert counted == {call_id: (count, count) for call_id, count in request_log.expected.items() if count}


@pytest.mark.acceptance("AC-6")
def test_no_row_is_without_its_other_half(http: httpx.Client, request_log: Any) -> None:
    request_log.pair_for(chat(http))
    (counts,) = request_log.query(
        "SELECT jsonb_build_object('pairs', count(*) FILTER (WHERE q.id IS NOT NULL AND p.id IS NOT NULL),"
        " 'requests_alone', count(*) FILTER (WHERE p.id IS NULL),"
        " 'responses_alone', count(*) FILTER (WHERE q.id IS NULL),"
        " 'requests', count(DISTINCT q.id), 'responses', count(DISTINCT p.id))"
        " FROM requests q FULL JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
    )
    assert counts["pairs"] > 0
    assert (counts["requests_alone"], counts["responses_alone"]) == (0, 0)
    assert counts["requests"] == counts["responses"] == counts["pairs"]


@pytest.mark.acceptance("AC-6")
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO responses (created_at, request_id_fk, content) VALUES (now(), -1, '{}')",
        "INSERT INTO requests (created_at, start_time, request_id, route, payload) VALUES (now(), now(), '', '', '{}')",
        "DELETE FROM responses WHERE id = (SELECT max(id) FROM responses)",
    ],
    ids=["response_alone", "request_alone", "response_taken_away"],
)
def test_half_a_pair_cannot_be_committed(statement: str, http: httpx.Client, request_log: Any) -> None:
    """What is checked at a commit is checked before it here, so that nothing is committed in any case."""
    request_log.pair_for(chat(http))
    result = request_log.run(f"BEGIN; {statement}; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK")
    assert result.rc != 0
    assert "violates foreign key constraint" in result.stderr
