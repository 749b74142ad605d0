"""What a change in the inventory does to the running server: a reload, a restart, or nothing but a sentence.

A restart that is not needed cuts every connection; one that is needed and left out makes a setting that only looks as
if it were in force; and a mistake in pg_hba.conf is noticed by nobody until the next restart, which then lets nobody
in. So site.yml is run against the database host with changed variables, and with the inventory's own at the end.
"""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.disruptive

# What the second test sets and the last one leaves as it is, so that it changes pg_hba.conf alone.
IN_FORCE = {"max_worker_processes": 11}


@pytest.fixture
def files(database: Any, configuration: str) -> Callable[[], str]:
    """The checksums of the files that the role writes."""

    def files() -> str:
        names = ("conf.d/litellm.conf", "pg_hba.conf", "pg_ident.conf")
        return str(database.check_output("sha256sum " + " ".join(f"{configuration}/{name}" for name in names)))

    return files


def test_setting_that_can_be_loaded_does_not_restart_the_server(deploy: Any, sql: Any, started: Any) -> None:
    before = started()
    run = deploy(postgresql_settings={"work_mem": "7MB"})
    assert run.succeeded, run.said
    assert sql("SHOW work_mem") == [["7MB"]]
    assert started() == before


def test_setting_that_waits_for_a_restart_gets_it(deploy: Any, sql: Any, started: Any) -> None:
    before = started()
    run = deploy(postgresql_settings=IN_FORCE)
    assert run.succeeded, run.said
    assert sql("SHOW max_worker_processes") == [["11"]]
    assert started() != before


def test_unreadable_setting_is_refused_before_it_is_written(deploy: Any, started: Any, files: Any) -> None:
    """Preflight does not know every setting of PostgreSQL; the server does."""
    before = started(), files()
    run = deploy(postgresql_settings={"max_wal_seize": "2GB"})
    assert not run.succeeded
    assert 'unrecognized configuration parameter "max_wal_seize". Correct postgresql_settings in inventory/' in run.said
    assert (started(), files()) == before


def test_unreadable_line_of_pg_hba_conf_is_taken_back(deploy: Any, sql: Any, started: Any, files: Any) -> None:
    """It cannot be checked before it is written; so it is checked before it is loaded, and the former file returns."""
    entry = {"type": "hostssl", "database": "litellm_db", "user": "two words", "address": "192.0.2.7"}
    before = started(), files()
    run = deploy(
        postgresql_settings=IN_FORCE,
        postgresql_hba_entries=[{**entry, "method": "scram-sha-256"}],
    )
    assert not run.succeeded
    assert 'in the line "hostssl litellm_db two words 192.0.2.7 scram-sha-256"' in run.said
    assert "It comes from postgresql_hba_entries: correct it in inventory/" in run.said
    assert (started(), files()) == before
    assert sql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == [["0"]]
