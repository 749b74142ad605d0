"""A clock that is set back."""

import time

from faults.gateway import BOTH
from faults.registry import fault
from faults.scenery import FAKED_CLOCK, Scenery
from faults.stage import Stage

SECONDS = 8


@fault("clock-set-back", Scenery(clock=True))
def clock_set_back(stage: Stage) -> None:
    """Both services see their clock go back an hour, and forth again: order and waiting must not depend on it.

    By libfaketime: a container has no clock of its own.
    """
    with stage.load():
        _set_clock(stage, "-3600")
        try:
            time.sleep(SECONDS)
        finally:
            _set_clock(stage, "+0")
        stage.over()
    stage.settle()
    earlier = [row for row in stage.database.rows(stage.prefix, stage.began - 7200) if row.age > 3000]
    stage.note(f"{len(earlier)} rows are dated an hour back; by libfaketime in {' and '.join(BOTH)}")
    stage.expect(bool(earlier), "the clock did not go back: libfaketime has no effect")


def _set_clock(stage: Stage, offset: str) -> None:
    """In one step: libfaketime ends the process that reads an empty file."""
    stage.gateway.run('echo "$2" >"$1.new"; chmod 0644 "$1.new"; mv "$1.new" "$1"', FAKED_CLOCK, offset)
