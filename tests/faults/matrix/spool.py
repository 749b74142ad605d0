"""A spool file that is no SQLite database any more."""

import time

from faults.gateway import GATEWAY, SHIPPER, SPOOL, STATE, USER
from faults.registry import fault
from faults.stage import Stage

PATIENCE = 20.0
_MOVED_ASIDE = 'find "$1" -maxdepth 1 "(" -name "*.corrupt-*" -o -name "*.salvaged-*" ")"'


@fault("spool-corrupted")
def spool_corrupted(stage: Stage) -> None:
    """The disk returns garbage for pages of the file while it is in use: moved aside with an alarm, service goes on."""
    stage.ledger_begins_anew = True
    try:
        with stage.load():
            stage.gateway.probe("corrupt.py", SPOOL, "overwrite", user=USER)
            stage.over()
            _wait_until_moved_aside(stage, files=1)
        _wait_until_salvaged(stage)
        _expect_alarm(stage, files=1)
        stage.settle()
    finally:
        _remove(stage)


@fault("spool-corrupted-at-start")
def spool_corrupted_at_start(stage: Stage) -> None:
    """What a crash left of the file, once garbage and once half of it: the services start all the same."""
    stage.ledger_begins_anew = True
    try:
        with stage.load():
            with stage.gateway.stopped([GATEWAY]):
                # What is in the file now would be lost with it.
                stage.expect(stage.wait_until_drained(), "the spool does not get empty")
                for files, damage in enumerate(("garbage", "truncate"), 1):
                    with stage.gateway.stopped([SHIPPER]):
                        stage.gateway.probe("corrupt.py", SPOOL, damage, user=USER)
                    _wait_until_moved_aside(stage, files)
            stage.over()
        _wait_until_salvaged(stage)
        _expect_alarm(stage, files=2)
        stage.settle()
    finally:
        _remove(stage)


def _moved_aside(stage: Stage) -> list[str]:
    found = stage.gateway.run(_MOVED_ASIDE, STATE).splitlines()
    return [name for name in found if not name.endswith(("-wal", "-shm"))]


def _wait_until_moved_aside(stage: Stage, files: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(_moved_aside(stage)) < files and time.monotonic() < deadline:
        time.sleep(0.2)


def _wait_until_salvaged(stage: Stage) -> None:
    """The shipper looks into what was moved aside, and then gives it another name."""
    deadline = time.monotonic() + PATIENCE
    while any(".corrupt-" in name for name in _moved_aside(stage)):
        if time.monotonic() > deadline:
            stage.problem("nobody looked for what can still be read of the moved file")
            return
        time.sleep(0.3)


def _expect_alarm(stage: Stage, files: int) -> None:
    aside = _moved_aside(stage)
    stage.note(f"{len(aside)} moved aside")
    stage.expect(len(aside) == files, f"{len(aside)} files were moved aside, not {files}: {aside}")
    said = stage.gateway.journal(stage.began, SHIPPER) + stage.gateway.journal(stage.began, GATEWAY)
    stage.expect(said.count("is corrupted") == files, "no alarm was raised, or more than one a file")


def _remove(stage: Stage) -> None:
    stage.gateway.run(f"{_MOVED_ASIDE} -delete", STATE)
