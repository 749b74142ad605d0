"""A spool file that is no SQLite database any more."""

import time

from faults.gateway import SHIPPER, SPOOL, STATE, USER
from faults.registry import fault
from faults.stage import Stage

_MOVED_ASIDE = 'find "$1" -maxdepth 1 -name "*.corrupt-*"'


@fault("spool-corrupted")
def spool_corrupted(stage: Stage) -> None:
    """The disk returns garbage for pages of the file while it is in use: moved aside with an alarm, service goes on."""
    stage.ledger_begins_anew = True
    try:
        with stage.load():
            stage.gateway.probe("corrupt.py", SPOOL, "overwrite", user=USER)
            stage.over()
            time.sleep(8)
        _expect_alarm(stage, files=1)
        stage.settle()
    finally:
        _remove(stage)


@fault("spool-corrupted-at-start")
def spool_corrupted_at_start(stage: Stage) -> None:
    """What the file system left of the file after a crash: garbage, or half of it. The services start all the same."""
    stage.ledger_begins_anew = True
    try:
        with stage.load():
            with stage.gateway.stopped():
                stage.gateway.probe("corrupt.py", SPOOL, "garbage", user=USER)
                with stage.gateway.stopped([SHIPPER]):
                    pass
                stage.gateway.stop([SHIPPER])
                stage.gateway.probe("corrupt.py", SPOOL, "truncate", user=USER)
            stage.over()
        _expect_alarm(stage, files=2)
        stage.settle()
    finally:
        _remove(stage)


def _expect_alarm(stage: Stage, files: int) -> None:
    aside = [
        name for name in stage.gateway.run(_MOVED_ASIDE, STATE).splitlines() if not name.endswith(("-wal", "-shm"))
    ]
    stage.note(f"{len(aside)} files moved aside")
    stage.expect(len(aside) == files, f"{len(aside)} files were moved aside, not {files}: {aside}")
    said = stage.gateway.journal(stage.began, SHIPPER) + stage.gateway.journal(stage.began, "litellm-gateway")
    stage.expect("is corrupted" in said, "nobody raised an alarm")


def _remove(stage: Stage) -> None:
    stage.gateway.run(f"{_MOVED_ASIDE} -delete", STATE)
