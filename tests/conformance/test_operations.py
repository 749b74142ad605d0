"""Every operation of every model, with every filter, ordering, inclusion and write that Prisma's types have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from call_sites.datamodel import Model
from conformance.catalogue import Build, Cell, Domain
from conformance.comparison import Difference
from conformance.conftest import MODELS, Conformance
from conformance.differences import KEPT
from conformance.groups import groups
from conformance.reads import reads
from conformance.sessions import sessions
from conformance.sides import INSTALLED
from conformance.writes import writes

TOGETHER = 20
"""Cells that are drawn as one example of Hypothesis, and whose reads are sent together."""
OPERATIONS = {
    "find_unique", "find_unique_or_raise", "find_first", "find_first_or_raise", "find_many", "count", "group_by",
    "create", "create_many", "update", "update_many", "upsert", "delete", "delete_many", "tx", "batch_",
}  # fmt: skip
REPORT = INSTALLED / "differences.txt"


def cells(domain: Domain, model: Model) -> Iterator[tuple[Cell, Build]]:
    """Everything that is compared for a model."""
    for part in (reads, groups, writes, sessions):
        for operation, feature, build in part(domain, model):
            yield Cell(model.name, operation, feature), build


def compare(conformance: Conformance, some: tuple[tuple[Cell, Build], ...]) -> list[Difference]:
    """Draw examples of some cells and compare them; the first difference of each."""
    found: dict[Cell, Difference] = {}

    @settings(
        max_examples=conformance.examples,
        derandomize=conformance.seed is None,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def drawn(data: st.DataObject) -> None:
        for difference in conformance.comparison.run([(cell, build(data.draw)) for cell, build in some]):
            found.setdefault(difference.cell, difference)
        conformance.coverage.compared.update(cell for cell, _ in some)

    (seed(conformance.seed)(drawn) if conformance.seed is not None else drawn)()
    return list(found.values())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_operations_of_model(conformance: Conformance, name: str) -> None:
    everything = list(cells(conformance.domain, MODELS[name]))
    conformance.coverage.expected.update(cell for cell, _ in everything)
    differences = [
        difference
        for at in range(0, len(everything), TOGETHER)
        for difference in compare(conformance, tuple(everything[at : at + TOGETHER]))
    ]
    text = "\n".join(map(str, differences))
    with REPORT.open("a", encoding="utf-8") as report:
        report.write(text + "\n")
    assert not differences, f"{len(differences)} differences, all in {REPORT}:\n{text}"


def test_nothing_was_left_out(conformance: Conformance, request: pytest.FixtureRequest) -> None:
    coverage = conformance.coverage
    played = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    names = {one["name"] for one in played if "name" in one}
    everything = {cell for name in names for cell, _ in cells(conformance.domain, MODELS[name])}
    assert everything == coverage.expected == coverage.compared.keys()
    if names == MODELS.keys():
        assert {cell.operation for cell in everything} == OPERATIONS
        assert {kept.name for kept in KEPT} == conformance.comparison.kept.keys()
    print(f"{len(everything)} cells, {conformance.comparison.calls} calls, kept {dict(conformance.comparison.kept)}")
