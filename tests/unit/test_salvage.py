"""What can be read of a damaged spool is stored after all: a bad sector must not cost the rows beside it."""

import os
from pathlib import Path

import pytest

from litellm_sqlalchemy import salvage
from litellm_sqlalchemy.spool import Spool

PAGE = 4096
OUTCOME = b'{"outcome":"success","status_code":200,"ended_at":1}'


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "_SETTLED_NS", 0)


def damaged(path: Path, first_page: int, pages: int, exchanges: int = 300) -> list[int]:
    """A closed spool with this many finished exchanges, in which some pages are noise; their numbers."""
    spool = Spool(path)
    seqs = [
        spool.open("worker", n, f"call-{n}", b'{"route":"/","payload":{"a":"%s"}}' % (b"z" * 1500))[0]
        for n in range(exchanges)
    ]
    for seq in seqs:
        spool.finish(seq, OUTCOME, 0)
    spool.checkpoint()
    spool.close()
    with path.open("r+b") as file:
        file.seek(first_page * PAGE)
        file.write(os.urandom(pages * PAGE))
    return seqs


def noticed(path: Path) -> Spool:
    """The spool, after it was noticed that its file is damaged."""
    spool = Spool(path)
    while not salvage.corrupted_files(path):
        spool.open("worker", 10_000, "later", b"{}")
        spool.ready(1_000)
    return spool


def test_exchanges_beside_the_damage_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    seqs = damaged(path, first_page=150, pages=2)
    spool = noticed(path)
    accepted = spool.ledger().accepted
    saved = spool.salvage()
    # Two pages of noise cost a few exchanges of 1.5 KB each, not all of them.
    assert len(seqs) - 10 <= saved < len(seqs)
    ledger = spool.ledger()
    assert (ledger.accepted, ledger.salvaged, ledger.balanced) == (accepted + saved, saved, True)


def test_salvaged_exchange_keeps_its_number_for_the_worker_that_is_at_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    seqs = damaged(path, first_page=3, pages=6)  # the tables of outcomes and accounting
    spool = noticed(path)
    spool.finish(seqs[-1], OUTCOME, 0)
    assert spool.salvage() > 0
    assert seqs[-1] in [exchange.seq for exchange in spool.ready(1_000)]


def test_file_is_looked_into_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    damaged(path, first_page=150, pages=2)
    spool = noticed(path)
    spool.salvage()
    assert spool.salvage() == 0
    assert len([file for file in tmp_path.glob("spool.salvaged-*") if not file.name.endswith(("-wal", "-shm"))]) == 1


def test_file_that_is_no_database_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(os.urandom(10 * PAGE))
    spool = Spool(path)
    assert spool.salvage() == 0
    assert spool.ledger().balanced


def test_file_that_is_still_written_to_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spool"
    path.write_bytes(os.urandom(PAGE))
    spool = Spool(path)
    monkeypatch.setattr(salvage, "_SETTLED_NS", 60_000_000_000)
    assert spool.salvage() == 0
    assert list(tmp_path.glob("spool.corrupt-*"))
