"""Locks that the kernel releases with their process, however it ends: flock(2)."""

import fcntl
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

_NAMELESS = ".new"
_FLAGS = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC


class FileLock:
    """An exclusive lock on a file of its own, for a block of code; waits for whoever holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = os.open(self._path, _FLAGS, 0o640)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


class WorkerLock:
    """A lock that a worker holds while it lives: how others see that it has died."""

    def __init__(self, spool: Path) -> None:
        """Take a new lock next to the spool."""
        self.worker = uuid.uuid4().hex
        directory = _lock_directory(spool)
        directory.mkdir(mode=0o750, exist_ok=True)
        self._path = directory / self.worker
        # Locked before it has its name: nobody may find it unlocked.
        nameless = self._path.with_suffix(_NAMELESS)
        self._file = os.open(nameless, _FLAGS, 0o640)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        nameless.rename(self._path)

    def release(self) -> None:
        """Give the lock up: the worker has finished what it had open."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def dead_workers(spool: Path, candidates: Iterable[str]) -> list[str]:
    """Those of the candidates, and of the workers that have left a lock, whose process no longer holds it."""
    dead = []
    directory = _lock_directory(spool)
    left = (path.name for path in directory.iterdir() if path.suffix != _NAMELESS) if directory.exists() else ()
    for worker in {*candidates, *left}:
        path = directory / worker
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            dead.append(worker)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            path.unlink(missing_ok=True)
            dead.append(worker)
        finally:
            os.close(file)
    return dead


def _lock_directory(spool: Path) -> Path:
    return spool.with_name(spool.name + ".workers")
