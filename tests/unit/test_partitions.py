"""Partitions: which days there should be, and what they are called. With PostgreSQL: tests/integration."""

from datetime import date, datetime, timedelta, timezone

import pytest

from litellm_sqlalchemy.models import REQUEST_TO_RESPONSE, RESPONSE_TO_REQUEST
from litellm_sqlalchemy.partitions import Partition, _add_foreign_key, wanted

DAY = Partition(date(2026, 9, 23))
DEFAULT = Partition(None)


def test_partition_is_a_day_in_utc() -> None:
    assert DAY.suffix == "p20260923"
    assert DAY.bounds == "FOR VALUES FROM ('2026-09-23 00:00:00+00:00') TO ('2026-09-24 00:00:00+00:00')"
    assert DAY.condition == "created_at >= '2026-09-23 00:00:00+00:00' AND created_at < '2026-09-24 00:00:00+00:00'"
    assert (DAY.table("requests"), DAY.table("responses")) == ("requests_p20260923", "responses_p20260923")


def test_default_takes_what_no_day_covers() -> None:
    assert (DEFAULT.suffix, DEFAULT.bounds) == ("default", "DEFAULT")
    assert DEFAULT.table("requests") == "requests_default"


@pytest.mark.parametrize("first", [date(2026, 12, 30), date(2028, 2, 27), date(2026, 3, 28)], ids=str)
def test_days_meet_without_a_gap(first: date) -> None:
    """Over the turn of the year, the 29th of February and the change of the clocks."""
    days = [Partition(first + timedelta(days=n)) for n in range(4)]
    assert [day.end for day in days[:-1]] == [day.start for day in days[1:]]
    assert all(day.end - day.start == timedelta(hours=24) for day in days)


def test_wanted_are_yesterday_today_the_days_ahead_and_the_default() -> None:
    today = date(2026, 12, 31)
    assert [pair.suffix for pair in wanted(2, today)] == [
        "default",
        "p20261230",
        "p20261231",
        "p20270101",
        "p20270102",
    ]


def test_today_is_that_of_utc() -> None:
    assert wanted(1)[2].day == datetime.now(timezone.utc).date()


def test_foreign_keys_lead_from_leaf_to_leaf() -> None:
    assert _add_foreign_key(DAY, "responses", RESPONSE_TO_REQUEST) == (
        "ALTER TABLE responses_p20260923 ADD CONSTRAINT fk_responses_p20260923_requests"
        " FOREIGN KEY (request_id_fk, created_at) REFERENCES requests_p20260923 (id, created_at) ON DELETE CASCADE"
    )
    assert _add_foreign_key(DEFAULT, "requests", REQUEST_TO_RESPONSE) == (
        "ALTER TABLE requests_default ADD CONSTRAINT fk_requests_default_responses"
        " FOREIGN KEY (id, created_at) REFERENCES responses_default (request_id_fk, created_at)"
        " DEFERRABLE INITIALLY DEFERRED"
    )
