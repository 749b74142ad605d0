"""Workers that are killed: one of two, or all of them."""

from faults.gateway import GATEWAY
from faults.registry import fault
from faults.scenery import Scenery
from faults.stage import Stage

TWO_WORKERS = Scenery(workers=2, settings={"LITELLM_DB_ACCOUNTING_GRACE": "10"})
"""What was answered, and not accounted for, waits ten seconds for its tokens and cost; thirty as deployed."""


@fault("sigkill-worker", TWO_WORKERS)
def sigkill_worker(stage: Stage) -> None:
    """One of the workers runs out of memory: what it had open is closed as interrupted, the others go on."""
    with stage.load(after=10):
        victim, *others = stage.gateway.workers()
        stage.expect(bool(others), "there is only one worker")
        stage.gateway.run('kill -KILL "$1"', str(victim))
        stage.over()
    stage.expect(victim not in stage.gateway.workers(), "the worker still lives")
    stage.settle()


@fault("sigkill-all-workers", TWO_WORKERS)
def sigkill_all_workers(stage: Stage) -> None:
    """The gateway is gone from one moment to the next, as in a crash of the machine."""
    with stage.load():
        before = stage.gateway.main_process()
        stage.gateway.run('systemctl kill --signal=KILL "$1"', GATEWAY)
        stage.over()
        stage.gateway.wait_until_ready(other_than=before)
    stage.settle()
