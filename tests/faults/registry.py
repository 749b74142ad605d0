"""The list of faults, in the order in which they are run."""

from collections.abc import Callable
from dataclasses import dataclass

from faults.scenery import DEPLOYED, Scenery
from faults.stage import Stage

Play = Callable[[Stage], None]
FAULTS: dict[str, "Fault"] = {}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: its name, why it is there (the docstring of its function), how it is played, and in what scenery.

    ``short``: whether it is one of the few of a short run.
    """

    name: str
    why: str
    play: Play
    scenery: Scenery
    short: bool


def fault(name: str, scenery: Scenery = DEPLOYED, *, short: bool = False) -> Callable[[Play], Play]:
    """Register a function that breaks something under load, mends it, and has the calls counted."""

    def register(play: Play) -> Play:
        assert play.__doc__, f"{play.__name__} does not say why"
        FAULTS[name] = Fault(name, " ".join(play.__doc__.split()), play, scenery, short)
        return play

    return register
