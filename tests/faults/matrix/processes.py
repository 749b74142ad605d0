"""Processes that end: the gateway, its workers, the shipper."""

import json
import time

from faults.gateway import GATEWAY, SHIPPER, SPOOL, USER
from faults.load import SLOW_STREAM, Recipe
from faults.registry import fault
from faults.stage import Stage

KILLS = 3
LOCK_SECONDS = 0.5
"""How long the spool is held: less than a worker waits for it."""

ENDLESS_STREAM = Recipe("stream without an end", stream=True, directives="[[chunks=4000]][[chunk_delay=0.1]]")


@fault("sigterm-gateway")
def sigterm_gateway(stage: Stage) -> None:
    """An ordinary stop: on its own, LiteLLM then forgets what its callbacks have not logged yet."""
    with stage.load():
        before = stage.gateway.main_process()
        stage.gateway.run('systemctl kill --kill-whom=main --signal=TERM "$1"', GATEWAY)
        stage.over()
        stage.gateway.wait_until_ready(other_than=before)
    stage.settle()


@fault("sigkill-shipper", short=True)
def sigkill_shipper(stage: Stage) -> None:
    """Killed in its transaction, and between its commit and its note of it: rows would be lost, or stored twice."""
    between = 0
    with stage.load():
        for _ in range(KILLS):
            with stage.database.busy("responses"):
                stage.database.wait_for("wait_event_type = 'Lock'")
                stage.gateway.run('kill -KILL "$1"', str(_shipper(stage)))
            stage.gateway.wait_until_shipping()
            between += _kill_after_commit(stage) > 0
            stage.gateway.wait_until_shipping()
        stage.over()
    stage.note(f"{2 * KILLS} kills, {between} of them between a commit and its note")
    stage.expect(between > 0, "no kill came between a commit and its note")
    stage.settle()


@fault("restart-during-stream")
def restart_during_stream(stage: Stage) -> None:
    """A deployment while answers are streamed: short ones end first, endless ones are cut when patience is over."""
    with stage.gateway.drop_in("patience", {}, service="TimeoutStopSec=8\n", services=[GATEWAY]):
        with stage.load() as load:
            for recipe in [SLOW_STREAM] * 4 + [ENDLESS_STREAM] * 2:
                load.send(recipe)
            time.sleep(1.5)
            stage.gateway.run('systemctl restart "$1"', GATEWAY)
            stage.over()
            stage.gateway.wait_until_ready()
        short = [call for call in load.calls if call.kind == SLOW_STREAM.kind]
        stage.expect(all(call.succeeded for call in short), "a short stream was cut")
        stage.settle()


def _shipper(stage: Stage) -> int:
    return stage.gateway.main_process(SHIPPER)


def _kill_after_commit(stage: Stage) -> int:
    """Kill the shipper while it waits for the spool, to delete from it what it has committed; returns how many."""
    holder = stage.gateway.talk("hold_spool.py", SPOOL, str(LOCK_SECONDS), str(_shipper(stage)), user=USER)
    try:
        with stage.database.busy() as session:
            stage.database.wait_for("wait_event_type = 'Lock'")
            holder.tell("hold")
            holder.hear()
            session.say("ROLLBACK;")
        return _stored(stage, json.loads(holder.hear()))
    finally:
        holder.close()


def _stored(stage: Stage, held: list[tuple[str, int]]) -> int:
    """How many of the exchanges that the spool held are in the tables at this moment."""
    if not held:
        return 0
    pairs = ", ".join(f"('{request_id}', {created_at})" for request_id, created_at in held)
    (number,) = stage.database.query(
        f"SELECT to_jsonb(count(*)) FROM requests q JOIN (VALUES {pairs}) AS h(request_id, created_at)"
        " ON q.request_id = h.request_id"
        " AND q.created_at = 'epoch'::timestamptz + h.created_at * interval '1 microsecond'"
    )
    return int(number)
