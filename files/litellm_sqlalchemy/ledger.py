"""The balance: what the gateway accepted, against what is stored, spooled, set aside or dropped."""

import time
from dataclasses import asdict
from typing import Any

from litellm_sqlalchemy.spool import Spool


def report(spool: Spool) -> dict[str, Any]:
    """The ledger of a spool with its age in seconds, as plain data."""
    ledger = spool.ledger()
    oldest = spool.oldest()
    return {
        **asdict(ledger),
        "balanced": ledger.balanced,
        "oldest_spooled_seconds": 0.0 if oldest is None else round(time.time() - oldest / 1_000_000, 3),
    }
