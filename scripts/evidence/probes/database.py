#!/usr/bin/env python3
"""What the database says of the gateways and of their calls, as JSON.

playbooks/evidence.yml runs this on the database host, as root; it asks as postgres, over the local socket. What fails
is a finding and part of the output.
"""

# ruff: noqa: S603  the commands are the host's own

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from typing import Any

PATIENCE = 45.0
"""Seconds for the rows of a run to arrive: a gateway waits 30 s for what a call cost before it ships without."""

ARRIVED = """
SELECT count(*) FROM requests WHERE starts_with(request_id, :'run') AND created_at > now() - interval '1 hour'
"""

SERVER = """
SELECT jsonb_build_object(
    'version', current_setting('server_version'),
    'version_num', current_setting('server_version_num')::int,
    'verifier', (SELECT split_part(rolpassword, '$', 1) FROM pg_authid WHERE rolname = :'user'),
    'sessions', (SELECT count(*) FROM pg_stat_activity
                 WHERE (datname, usename, application_name) = (:'database', :'user', 'litellm-request-log')),
    'rules', (SELECT jsonb_agg(jsonb_build_object('line', line_number, 'method', auth_method, 'error', error,
                  'for_service', :'database' = ANY(database) AND :'user' = ANY(user_name))) FROM pg_hba_file_rules))
"""

RULES = """
SELECT line_number, type, database, user_name, address, netmask, auth_method, error
FROM pg_hba_file_rules ORDER BY line_number
"""

SESSIONS = """
SELECT a.pid, a.datname, a.usename, a.application_name, a.client_addr, a.backend_start, a.state, s.ssl
FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s USING (pid)
WHERE a.datname = :'database' AND a.usename = :'user' ORDER BY a.backend_start
"""

# The pairs of this run: its calls one by one, those of the measuring as counts.
PAIRS = """
WITH pairs AS (
    SELECT q.request_id, q.route, q.model, q.status_code, q.api_key IS NOT NULL AS has_key,
           p.request_id_fk IS NOT NULL AS has_response, p.latency_ms, p.prompt_tokens, p.completion_tokens,
           p.total_tokens, p.cost::text AS cost, p.response_model, p.content ->> 'outcome' AS outcome
    FROM requests q LEFT JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)
    WHERE starts_with(q.request_id, :'run') AND q.created_at > now() - interval '1 hour'
)
SELECT jsonb_build_object(
    'calls', coalesce((SELECT jsonb_agg(to_jsonb(pairs)) FROM pairs WHERE starts_with(request_id, :'run' || '-call-')),
                      '[]'),
    'measured_with_logging', (SELECT jsonb_build_object(
         'requests', count(*) FILTER (WHERE status_code = 200),
         'responses', count(*) FILTER (WHERE latency_ms > 0 AND total_tokens > 0 AND cost IS NOT NULL))
         FROM pairs WHERE starts_with(request_id, :'run' || '-on-')),
    'measured_without_logging', (SELECT count(*) FROM pairs WHERE starts_with(request_id, :'run' || '-off-')))
"""

# Of other people's rows the bundle shows no content, only its size.
HEAD_OF_REQUESTS = """
SELECT id, created_at, request_id, route, model,
       CASE WHEN starts_with(request_id, :'run') THEN left(payload::text, 60)
            ELSE octet_length(payload::text) || ' bytes' END AS payload,
       status_code, user_id, left(api_key, 8) AS api_key, start_time, end_time
FROM requests ORDER BY created_at DESC, id DESC LIMIT 12
"""

HEAD_OF_RESPONSES = """
SELECT p.id, p.created_at, p.request_id_fk, p.latency_ms,
       CASE WHEN starts_with(q.request_id, :'run') THEN left(p.content::text, 60)
            ELSE octet_length(p.content::text) || ' bytes' END AS content,
       p.prompt_tokens, p.completion_tokens, p.total_tokens, p.cost, p.response_model
FROM responses p LEFT JOIN requests q ON (q.id, q.created_at) = (p.request_id_fk, p.created_at)
ORDER BY p.created_at DESC, p.id DESC LIMIT 12
"""

# Both tables as a whole, a pair of partitions at a time; the indexes hold all that it reads.
JOIN = """
SET enable_partitionwise_join = on;
SELECT jsonb_build_object(
    'requests', count(q.id), 'responses', count(p.request_id_fk),
    'matched', count(*) FILTER (WHERE q.id IS NOT NULL AND p.request_id_fk IS NOT NULL),
    'requests_without_response', count(*) FILTER (WHERE p.request_id_fk IS NULL),
    'responses_without_request', count(*) FILTER (WHERE q.id IS NULL))
FROM (SELECT id, created_at FROM requests) q
FULL JOIN (SELECT request_id_fk, created_at FROM responses) p
     ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)
"""


class Database:
    """Asks one database with the variables of the queries."""

    def __init__(self, port: str, name: str, variables: dict[str, str]) -> None:
        self._argv = ["runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        self._argv += [f"--port={port}", f"--dbname={name}"]
        self._argv += [f"--set={key}={value}" for key, value in variables.items()]

    def table(self, sql: str, *flags: str) -> dict[str, Any]:
        """What psql prints, and its error."""
        try:
            done = subprocess.run(
                [*self._argv, *flags, "--file=-"],
                input=sql,
                capture_output=True,
                text=True,
                cwd="/",
                timeout=600,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"out": "", "error": str(error)}
        return {"out": done.stdout, "error": done.stderr if done.returncode else ""}

    def value(self, sql: str) -> Any:
        """The one JSON value of a query, or {"error": the reason}."""
        shown = self.table(sql, "--tuples-only", "--no-align")
        return {"error": shown["error"].strip()} if shown["error"] else json.loads(shown["out"])


def wait_for_rows(database: Database, expected: int) -> None:
    """Return once the rows of the run are there, or will not come."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        arrived = database.value(ARRIVED)
        if not isinstance(arrived, int) or arrived >= expected:
            return
        time.sleep(0.5)


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--user", required=True, help="the role of the service")
    parser.add_argument("--run", required=True, help="what the ids of this run's calls begin with")
    parser.add_argument("--expect", type=int, required=True, help="calls of this run that have to be there")
    given = parser.parse_args()
    variables = {"database": given.database, "user": given.user, "run": given.run}
    database = Database(given.port, given.database, variables)
    wait_for_rows(database, given.expect)
    report = {
        "server": database.value(SERVER),
        "rules": database.table(RULES),
        "sessions": database.table(SESSIONS),
        "pairs": database.value(PAIRS),
        "requests_head": database.table(HEAD_OF_REQUESTS),
        "responses_head": database.table(HEAD_OF_RESPONSES),
        "join": database.value(JOIN),
        "os": platform.freedesktop_os_release().get("PRETTY_NAME"),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
