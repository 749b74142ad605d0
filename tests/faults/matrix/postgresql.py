"""PostgreSQL that goes away: stopped, killed, out of disk."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from faults.database import Database
from faults.registry import fault
from faults.stage import Stage

OUTAGE_SECONDS = 60
SHORT_OUTAGE_SECONDS = 10
SLACK_BYTES = 16 * 1024**2
TABLESPACE = "litellm_faults"
TABLESPACE_DIRECTORY = "/var/lib/postgresql/litellm_faults"
_TODAY = """
SELECT relid::regclass FROM unnest(ARRAY['requests', 'responses']) AS parent, pg_partition_tree(parent::regclass)
WHERE relid::regclass::text LIKE '%' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD');
"""


@fault("postgresql-stopped", short=True)
def postgresql_stopped(stage: Stage) -> None:
    """A minute without a database, as for an upgrade: no client may notice, and the spool empties afterwards.

    Ten seconds in a short run.
    """
    seconds = SHORT_OUTAGE_SECONDS if stage.is_short else OUTAGE_SECONDS
    with stage.load():
        stage.database.stop()
        try:
            time.sleep(seconds)
        finally:
            stage.database.start()
        stage.over()
    stage.expect(stage.most_waiting() > seconds, "the spool did not fill up while PostgreSQL was away")
    stage.settle()


@fault("sigkill-postgresql")
def sigkill_postgresql(stage: Stage) -> None:
    """The database crashes with a batch half stored: after its recovery the batch must not be there by halves."""
    with stage.load():
        with stage.database.busy():
            stage.database.wait_for("wait_event_type = 'Lock'")
            stage.database.run('systemctl kill --signal=KILL "$1"', stage.database.unit)
        stage.over()
        # Its unit restarts it.
        stage.database.wait_until_ready()
    stage.settle()


@fault("postgresql-disk-full")
def postgresql_disk_full(stage: Stage) -> None:
    """No space left for the tables: that is an outage, and no reason to set a single row aside."""
    with _on_small_disk(stage.database):
        with stage.load():
            fill = 'fallocate --length "$(df --output=avail --block-size=1 "$1" | tail -n 1)" "$1/filler"'
            stage.database.run(fill, TABLESPACE_DIRECTORY)
            try:
                _wait_for_refusals(stage)
                time.sleep(8)
            finally:
                stage.database.run('rm "$1/filler"', TABLESPACE_DIRECTORY)
            stage.over()
        stage.settle()


def _wait_for_refusals(stage: Stage) -> None:
    """The free space within the tables' pages is used up first."""
    deadline = time.monotonic() + 20
    while "No space left" not in stage.gateway.journal(stage.began, "litellm-shipper"):
        if time.monotonic() > deadline:
            stage.problem("PostgreSQL did not run out of space")
            return
        time.sleep(1)


@contextmanager
def _on_small_disk(database: Database) -> Iterator[None]:
    """Today's partitions are on a file system of a few megabytes, which a filler can fill."""
    database.run('mkdir -p "$1"', TABLESPACE_DIRECTORY)
    tables = database.sql(_TODAY).splitlines()
    names = ", ".join(f"'{table}'" for table in tables)
    size = int(database.sql(f"SELECT sum(pg_total_relation_size(t)) FROM unnest(ARRAY[{names}]::regclass[]) t;"))
    options = f"size={size + SLACK_BYTES},mode=0700,uid=$(id -u postgres),gid=$(id -g postgres)"
    database.run(f'mount -t tmpfs -o "{options}" tmpfs "$1"', TABLESPACE_DIRECTORY)
    try:
        database.sql(f"CREATE TABLESPACE {TABLESPACE} LOCATION '{TABLESPACE_DIRECTORY}';")
        try:
            _move(database, tables, TABLESPACE)
            yield
        finally:
            _move(database, tables, "pg_default")
            database.sql(f"DROP TABLESPACE {TABLESPACE};")
    finally:
        database.run('umount "$1"; rmdir "$1"', TABLESPACE_DIRECTORY)


def _move(database: Database, tables: list[str], tablespace: str) -> None:
    database.sql("".join(f"ALTER TABLE {table} SET TABLESPACE {tablespace};" for table in tables))
