"""Runs a fault: on a healthy system, and to a result whatever happens."""

import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from faults.count import Result
from faults.database import Database
from faults.gateway import Gateway
from faults.inventory import Lab
from faults.machine import CommandError
from faults.registry import FAULTS, Fault
from faults.report import say
from faults.scenery import DEPLOYED, Scene
from faults.stage import Stage

_RUN = uuid.uuid4().hex[:6]


class UnhealthyError(Exception):
    """The system is not healthy, so that no further fault would tell anything."""


@contextmanager
def prepared(gateway: Gateway) -> Iterator[Scene]:
    """A scene that is taken down at the end: the gateway is then as it was deployed."""
    scene = Scene(gateway)
    try:
        yield scene
    finally:
        if scene.change(DEPLOYED):
            say("the gateway is as it was deployed")


def run(
    fault: Fault, lab: Lab, scene: Scene, gateway: Gateway, database: Database, *, is_short: bool = False
) -> Result:
    """Play one fault and count; UnhealthyError where the system is not fit for it.

    A short run does without any scenery: each costs two starts of the gateway.
    """
    number = list(FAULTS).index(fault.name) + 1
    say(f"[{number}/{len(FAULTS)}] {fault.name}")
    try:
        scene.change(DEPLOYED if is_short else fault.scenery)
    except CommandError as error:
        raise UnhealthyError(f"before {fault.name}: {error}") from error
    stage = Stage(fault.name, f"faults-{_RUN}-{number}-", lab, gateway, database, is_short=is_short)
    try:
        _see_that_it_is_healthy(stage)
        fault.play(stage)
    except (CommandError, TimeoutError, OSError, ValueError, AssertionError) as error:
        traceback.print_exc()
        stage.problem(f"the harness failed: {type(error).__name__}: {error}")
    finally:
        stage.close()
    result = stage.result or Result(fault.name)
    result.notes = stage.notes + result.notes
    result.problems = stage.problems + result.problems
    say(
        f"    accepted {result.accepted}, stored {result.stored}, lost {result.lost}, duplicated {result.duplicated},"
        f" orphaned {result.orphaned}, client errors {result.client_errors}, recovered after {result.recovered_s} s"
    )
    for text in (*result.notes, *(f"PROBLEM: {problem}" for problem in result.problems)):
        say(f"    {text}")
    return result


def _see_that_it_is_healthy(stage: Stage) -> None:
    try:
        stage.database.wait_until_ready()
        stage.expect_hosts()
        stage.gateway.wait_until_ready()
        stage.gateway.wait_until_shipping()
        drained = stage.wait_until_drained()
    except CommandError as error:
        raise UnhealthyError(f"before {stage.prefix}: {error}") from error
    if not drained:
        raise UnhealthyError("the spool does not get empty before the fault has begun")
