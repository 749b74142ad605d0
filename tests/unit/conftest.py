"""What the unit tests share: a spool in a temporary folder, and examples that are the same in every run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from litellm_sqlalchemy.spool import Spool

# What fails in CI fails here too; and no example costs so much that its time says anything.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def spool_path(tmp_path: Path) -> Path:
    """Where the spool of a test is."""
    return tmp_path / "spool.sqlite3"


@pytest.fixture
def spool(spool_path: Path) -> Iterator[Spool]:
    """An empty spool."""
    opened = Spool(spool_path)
    yield opened
    opened.close()
