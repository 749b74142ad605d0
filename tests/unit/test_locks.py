"""Locks: a worker that is killed is found dead, and no other is."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import litellm_sqlalchemy
from litellm_sqlalchemy.locks import FileLock, WorkerLock, dead_workers
from litellm_sqlalchemy.spool import Spool

WORKER = """
import subprocess, sys, time
from pathlib import Path
from litellm_sqlalchemy.locks import WorkerLock
from litellm_sqlalchemy.spool import Spool

path = Path(sys.argv[1])
lock = WorkerLock(path)
spool = Spool(path)
spool.open(lock.worker, 1_000, "open", b'{"route":"/"}')
spool.finish(spool.open(lock.worker, 2_000, "done", b'{"route":"/"}')[0], b'{"outcome":"success"}', 0)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(lock.worker, child.pid, flush=True)
time.sleep(60)
"""


@dataclass
class Worker:
    """A process with a lock, an open exchange, a finished one and a child of its own."""

    name: str
    process: "subprocess.Popen[str]"
    child: int

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def a_worker(path: Path) -> Iterator[Worker]:
    environment = {**os.environ, "PYTHONPATH": str(Path(litellm_sqlalchemy.__file__).parents[1])}
    command = [sys.executable, "-c", WORKER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        name, child = process.stdout.readline().split()
        worker = Worker(name, process, int(child))
        try:
            yield worker
        finally:
            worker.kill()
            os.kill(worker.child, signal.SIGKILL)


def lock_files(spool: Path) -> list[Path]:
    return list(spool.with_name(spool.name + ".workers").iterdir())


def test_killed_worker_is_found_dead_and_its_open_exchange_interrupted(spool: Spool, spool_path: Path) -> None:
    with a_worker(spool_path) as worker:
        assert spool.workers() == [worker.name]
        assert dead_workers(spool_path, spool.workers()) == []
        assert len(spool.ready(10)) == 1

        worker.kill()
        os.kill(worker.child, 0)  # its child lives on, and must not pass for it
        dead = dead_workers(spool_path, spool.workers())
        assert dead == [worker.name]
        assert spool.interrupt(dead) == 1

    assert [(e.request_id, e.outcome) for e in spool.ready(10)] == [
        ("open", {"outcome": "interrupted"}),
        ("done", {"outcome": "success"}),
    ]
    assert spool.workers() == []
    assert (spool.ledger().interrupted, spool.ledger().balanced) == (1, True)


def test_lock_of_a_killed_worker_leaves_no_file(spool_path: Path) -> None:
    """Not even that of a worker with nothing open, whom the spool does not name."""
    with a_worker(spool_path) as worker:
        worker.kill()
        assert dead_workers(spool_path, []) == [worker.name]
    assert lock_files(spool_path) == []


def test_living_worker_is_not_found_dead(spool_path: Path) -> None:
    lock = WorkerLock(spool_path)
    for _ in range(3):
        assert dead_workers(spool_path, [lock.worker]) == []
    assert [file.name for file in lock_files(spool_path)] == [lock.worker]
    lock.release()


def test_released_worker_counts_as_dead_and_leaves_no_file(spool_path: Path) -> None:
    lock = WorkerLock(spool_path)
    lock.release()
    assert lock_files(spool_path) == []
    assert dead_workers(spool_path, [lock.worker]) == [lock.worker]


def test_worker_of_a_gateway_that_never_ran_is_dead(spool_path: Path) -> None:
    assert dead_workers(spool_path, ["replay"]) == ["replay"]
    assert dead_workers(spool_path, []) == []


def test_workers_are_told_apart(spool: Spool, spool_path: Path) -> None:
    one, other = WorkerLock(spool_path), WorkerLock(spool_path)
    for lock in (one, other):
        spool.open(lock.worker, 1_000, lock.worker, b"{}")
    one.release()
    dead = dead_workers(spool_path, spool.workers())
    assert dead == [one.worker]
    assert spool.interrupt(dead) == 1
    assert [exchange.request_id for exchange in spool.ready(10)] == [one.worker]
    other.release()


def test_worker_that_starts_is_never_found_dead(spool_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks just before the lock is taken finds nobody yet."""
    found: list[str] = []
    flock = fcntl.flock

    def look_and_lock(file: int, operation: int) -> None:
        monkeypatch.undo()
        found.extend(dead_workers(spool_path, []))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", look_and_lock)
    lock = WorkerLock(spool_path)
    assert found == []
    assert dead_workers(spool_path, [lock.worker]) == []
    lock.release()


def test_file_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        with FileLock(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
