"""The network between the gateway and PostgreSQL, which loses packets without a word."""

import time

from faults.gateway import SHIPPER
from faults.registry import fault
from faults.stage import Stage

CUT_SECONDS = 26
"""Longer than the twenty seconds after which a connection without an answer is given up."""


@fault("network-cut")
def network_cut(stage: Stage) -> None:
    """A cable is pulled: no connection is closed, answers just do not come any more."""
    with stage.load():
        with stage.database.cut_from(stage.gateway.address):
            time.sleep(CUT_SECONDS)
        stage.over()
    stage.settle()


@fault("packets-dropped-in-commit")
def packets_dropped_in_commit(stage: Stage) -> None:
    """The commit reaches PostgreSQL and is done, its answer never arrives: the batch must not be stored again."""
    with stage.load():
        # A commit waits for a standby that does not exist, after it is on PostgreSQL's own disk.
        stage.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf();")
        try:
            stage.database.wait_for("wait_event = 'SyncRep'")
            with stage.database.cut_from(stage.gateway.address):
                stage.database.sql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();")
                time.sleep(CUT_SECONDS)
        finally:
            stage.database.sql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();")
        stage.over()
    said = stage.gateway.journal(stage.began, SHIPPER)
    stage.expect("PostgreSQL does not take rows" in said, "the shipper had the answer to its commit")
    stage.settle()


@fault("gateway-vanishes-in-transaction")
def gateway_vanishes_in_transaction(stage: Stage) -> None:
    """The gateway is gone in the middle of a transaction and PostgreSQL is not told: what it holds must not block."""
    with stage.load():
        shipper = str(stage.gateway.main_process(SHIPPER))
        try:
            with stage.database.busy("responses"):
                stage.database.wait_for("wait_event_type = 'Lock'")
                stage.gateway.run('kill -STOP "$1"', shipper)
            # Its requests are stored, but not committed, and PostgreSQL waits for it to send their responses.
            stage.database.wait_for("query LIKE 'COPY responses%' AND wait_event = 'ClientRead'")
        finally:
            with stage.database.cut_from(stage.gateway.address):
                stage.gateway.run('kill -KILL "$1"', shipper)
                time.sleep(1)
        stage.over()
    stage.settle()
