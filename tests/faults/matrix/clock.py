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
        stage.gateway.run('echo -3600 >"$1"', FAKED_CLOCK)
        try:
            time.sleep(SECONDS)
        finally:
            stage.gateway.run('echo +0 >"$1"', FAKED_CLOCK)
        stage.over()
    stage.settle()
    earlier = [row for row in stage.database.rows(stage.prefix, stage.began - 7200) if row.age > 3000]
    stage.note(f"{len(earlier)} rows are dated an hour back; by libfaketime in {' and '.join(BOTH)}")
    stage.expect(bool(earlier), "the clock did not go back: libfaketime has no effect")
