"""The census: what counts as a difference."""

from __future__ import annotations

import pytest

from litellm_sqlalchemy.switch.census import Table, changes, differences, of_plain, plain

BEFORE = {"LiteLLM_A": Table(2, "17", "0.3"), "LiteLLM_B": Table(0, "0", None)}


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ({"LiteLLM_A": Table(1, "17", "0.3")}, "LiteLLM_A: 2 rows have become 1"),
        ({"LiteLLM_A": Table(2, "18", "0.3")}, "LiteLLM_A: 2 rows, but not the same ones"),
        (
            {"LiteLLM_A": Table(2, "17", "0.30000000000000004")},
            "LiteLLM_A: a spend of 0.3 has become 0.30000000000000004",
        ),
        ({}, "LiteLLM_A: 2 rows, and the table is gone"),
    ],
)
def test_a_row_or_a_cent_is_a_difference(after: dict[str, Table], sentence: str) -> None:
    assert differences(BEFORE, after) == [sentence]


def test_new_tables_and_empty_ones_that_are_gone_are_none() -> None:
    assert differences(BEFORE, {"LiteLLM_A": BEFORE["LiteLLM_A"], "LiteLLM_C": Table(5, "1", "1")}) == []


def test_changes_are_exact() -> None:
    after = {"LiteLLM_A": Table(3, "20", "0.40000000000000001"), "LiteLLM_B": BEFORE["LiteLLM_B"]}
    assert changes(BEFORE, after) == {"LiteLLM_A": {"rows": 1, "spend": "0.10000000000000001"}}


def test_plain_data_and_back() -> None:
    assert of_plain(plain(BEFORE)) == BEFORE
