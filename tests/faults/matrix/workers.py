"""Workers that are killed: one of two, or all of them."""

import time

from faults.gateway import GATEWAY
from faults.load import SLOW_STREAM, Load
from faults.registry import fault
from faults.scenery import Scenery
from faults.stage import Stage

TWO_WORKERS = Scenery(workers=2, settings={"LITELLM_DB_ACCOUNTING_GRACE": "10"})
"""What was answered, and not accounted for, waits ten seconds for its tokens and cost; thirty as deployed."""

STREAMS = 8


@fault("sigkill-worker", TWO_WORKERS)
def sigkill_worker(stage: Stage) -> None:
    """One of the workers runs out of memory: what it had open is closed as interrupted, the others go on."""
    with stage.load(after=10) as load:
        victim, *others = stage.gateway.workers()
        stage.expect(bool(others), "there is only one worker")
        _open_streams(load)
        stage.gateway.run('kill -KILL "$1"', str(victim))
        stage.over()
    stage.expect(victim not in stage.gateway.workers(), "the worker still lives")
    _expect_cut_streams(stage, load)
    stage.settle()


@fault("sigkill-all-workers", TWO_WORKERS, short=True)
def sigkill_all_workers(stage: Stage) -> None:
    """The gateway is gone from one moment to the next, as in a crash of the machine."""
    with stage.load() as load:
        before = stage.gateway.main_process()
        _open_streams(load)
        stage.gateway.run('systemctl kill --signal=KILL "$1"', GATEWAY)
        stage.over()
        stage.gateway.wait_until_ready(other_than=before)
    _expect_cut_streams(stage, load)
    stage.settle()


def _open_streams(load: Load) -> None:
    """Answers that are half sent when the fault comes."""
    for _ in range(STREAMS):
        load.send(SLOW_STREAM)
    time.sleep(1.5)


def _expect_cut_streams(stage: Stage, load: Load) -> None:
    cut = sum(not call.succeeded for call in load.calls if call.kind == SLOW_STREAM.kind)
    stage.note(f"{cut} of {STREAMS} streams under way were cut")
    stage.expect(cut > 0, "the fault met no call under way")
