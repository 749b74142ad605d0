"""The faults, by what they break; importing this package registers them, in the order in which they are run."""

from faults.matrix import processes, postgresql, network, access, records, spool, workers, disks, clock  # noqa: I001

__all__ = ["access", "clock", "disks", "network", "postgresql", "processes", "records", "spool", "workers"]
