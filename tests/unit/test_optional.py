"""Imports that cannot succeed fail at once, and those that can are left alone."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from litellm_sqlalchemy import optional

RUNS = "runs_of_the_optional_module"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A module that needs two packages notes each time that it is run."""
    noted: list[str] = []
    (tmp_path / "wishful.py").write_text(f"import sys\nsys.{RUNS}.append('run')\nimport absent_package.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, RUNS, noted, raising=False)
    monkeypatch.setattr(optional, "NEEDED_BY", {"wishful": "absent_package.part"})
    yield noted
    sys.modules.pop("wishful", None)


def attempt() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("wishful")


def test_python_runs_a_module_again_whose_import_failed(runs: list[str]) -> None:
    attempt()
    attempt()
    assert len(runs) == 2


def test_module_that_cannot_be_imported_is_not_tried(runs: list[str]) -> None:
    optional.skip_missing()
    attempt()
    assert runs == []


def test_module_whose_package_is_installed_is_left_alone(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "absent_package"
    package.mkdir()
    (package / "part.py").touch()
    importlib.invalidate_caches()
    optional.skip_missing()
    importlib.import_module("wishful")
    assert runs == ["run"]
    for name in ("absent_package.part", "absent_package"):
        monkeypatch.delitem(sys.modules, name)


def test_module_that_was_imported_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "NEEDED_BY", {"json": "absent_package"})
    optional.skip_missing()
    assert sys.modules["json"] is not None
