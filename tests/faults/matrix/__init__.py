"""The faults, by what they break; importing this package registers them, in this order."""

from faults.matrix import processes  # noqa: I001  # the order of the run

__all__ = ["processes"]
