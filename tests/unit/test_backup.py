"""Reading a dump back: a stand-in for pg_restore prints what the real one would."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from litellm_sqlalchemy.switch import backup

SCRIPT = r"""COPY public."LiteLLM_SpendLogs" (request_id, model) FROM stdin;
a	COPY public.other (x) FROM stdin;
b	two\nlines
\.

COPY public.requests (id) FROM stdin;
1
\.

COPY public.empty (id) FROM stdin;
\.
"""


@pytest.fixture
def pg_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prints what is in the dump and ends with the code in the file beside it."""
    program = tmp_path / "bin" / "pg_restore"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor dump; do :; done\ncat "$dump"\necho reason >&2\nexit "$(cat "$dump.code")"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    dump = tmp_path / "database.dump"
    dump.write_text(SCRIPT)
    (tmp_path / "database.dump.code").write_text("0")
    return dump


def test_rows_of_each_table_are_counted(pg_restore: Path) -> None:
    """Rows, not lines that look like the beginning of a table."""
    assert backup.rows_of(pg_restore) == {"LiteLLM_SpendLogs": 2, "requests": 1}


def test_a_dump_that_cannot_be_read_to_its_end_is_an_error(pg_restore: Path) -> None:
    Path(f"{pg_restore}.code").write_text("1")
    with pytest.raises(ValueError, match="the dump cannot be read: reason"):
        backup.rows_of(pg_restore)


def test_passwords_are_in_no_argument() -> None:
    url = make_url("postgresql+psycopg2://role:s%40cret@host:5433/name?sslmode=require")
    assert backup._dbname(url) == "--dbname=postgresql://role@host:5433/name?sslmode=require"
    assert backup._environment(url)["PGPASSWORD"] == "s@cret"


def test_latest_is_the_newest_that_was_finished(tmp_path: Path) -> None:
    names = ["to-litellm_db-20260101T000000Z", "to-litellm_db-20260103T000000Z", "to-litellm_db-20260102T000000Z"]
    for name in [*names, "to-litellm_db2-20260109T000000Z", "back-from-litellm_db-20260109T000000Z"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / backup.MANIFEST).write_text(f'{{"directory": "{name}"}}')
    (tmp_path / "to-litellm_db-20260104T000000Z").mkdir()
    assert backup.latest(tmp_path, "to-litellm_db") == {"directory": names[1]}
    assert backup.latest(tmp_path, "other") is None
