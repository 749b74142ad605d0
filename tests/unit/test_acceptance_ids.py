"""Every acceptance criterion has a test that proves it, and no test claims to prove one that there is not."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def listed() -> set[str]:
    """The ids that docs/acceptance.md lists."""
    return set(re.findall(r"\bAC-\d+\b", (ROOT / "docs" / "acceptance.md").read_text()))


def proved() -> dict[str, list[str]]:
    """The tests by the id that they carry as a marker, read from their sources: hosts need not be there."""
    tests: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.acceptance":
                        for argument in mark.args:
                            tests.setdefault(ast.literal_eval(argument), []).append(f"{path.name}::{node.name}")
    return tests


def test_acceptance_criteria_are_listed() -> None:
    assert listed() >= {f"AC-{number}" for number in range(1, 8)}


def test_acceptance_criteria_have_tests() -> None:
    untested = listed() - proved().keys()
    assert not untested, f"no test carries pytest.mark.acceptance for {sorted(untested)}"


def test_acceptance_markers_name_listed_criteria() -> None:
    unknown = {name: tests for name, tests in proved().items() if name not in listed()}
    assert not unknown, f"docs/acceptance.md does not list {unknown}"
