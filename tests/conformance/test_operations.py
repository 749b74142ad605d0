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
from conformance.groups import groups
from conformance.reads import reads
from conformance.sides import INSTALLED
from conformance.sessions import sessions
from conformance.writes import writes

REPORT = INSTALLED / "differences.txt"


def cells(domain: Domain, model: Model) -> Iterator[tuple[Cell, Build]]:
    """Everything that is compared for a model."""
    for part in (reads, groups, writes, sessions):
        for operation, feature, build in part(domain, model):
            yield Cell(model.name, operation, feature), build


def compare(conformance: Conformance, cell: Cell, build: Build) -> Difference | None:
    """Draw examples of a cell and compare them; the first difference."""
    found: list[Difference] = []

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
        if not found:
            difference = conformance.comparison.run(cell, build(data.draw))
            conformance.coverage.compared[cell] += 1
            if difference is not None:
                found.append(difference)

    (seed(conformance.seed)(drawn) if conformance.seed is not None else drawn)()
    return found[0] if found else None


@pytest.mark.parametrize("name", sorted(MODELS))
def test_operations_of_model(conformance: Conformance, name: str) -> None:
    differences = []
    for cell, build in cells(conformance.domain, MODELS[name]):
        conformance.coverage.expected.add(cell)
        difference = compare(conformance, cell, build)
        if difference is not None:
            differences.append(difference)
    text = "\n".join(map(str, differences))
    with REPORT.open("a", encoding="utf-8") as report:
        report.write(text + "\n")
    assert not differences, f"{len(differences)} differences, all in {REPORT}:\n{text}"
