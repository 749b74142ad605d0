"""A role's interface is written three times: its defaults, its argument_specs, its README. They say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
UNDEFINED = re.compile(r"\{\{\s*undef\(hint=.+\)\s*\}\}", re.DOTALL)


def read(role: str, file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "roles" / role / file).read_text(encoding="utf-8")) or {}


def options(role: str) -> dict[str, dict[str, Any]]:
    """The options of all entry points."""
    specs = read(role, "meta/argument_specs.yml")["argument_specs"]
    return {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}


def test_roles_are_found() -> None:
    assert {"preflight", "postgresql", "litellm"} <= set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_argument_specs_name_the_same_variables(role: str) -> None:
    assert set(read(role, "defaults/main.yml")) == set(options(role))


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_argument_specs_have_the_same_values(role: str) -> None:
    defaults = read(role, "defaults/main.yml")
    for name, option in options(role).items():
        if not option.get("required"):
            assert "default" in option, f"{name} is neither required nor has a default in argument_specs"
            assert option["default"] == defaults[name], name


@pytest.mark.parametrize("role", ROLES)
def test_required_variables_have_a_hint_instead_of_a_default(role: str) -> None:
    for name, value in read(role, "defaults/main.yml").items():
        option = options(role)[name]
        undefined = isinstance(value, str) and UNDEFINED.fullmatch(value) is not None
        assert undefined == bool(option.get("required")), f"{name}: required in one place, with a default in the other"
        if undefined:
            assert "default" not in option, f"{name} is required and has a default"
            assert ".yml" in value, f"the hint of {name} does not name the file to edit"


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_name_of_their_role(role: str) -> None:
    assert not [name for name in options(role) if not name.startswith(f"{role}_")]


@pytest.mark.parametrize("role", ROLES)
def test_readme_names_every_variable(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert not [name for name in options(role) if f"`{name}`" not in readme]


@pytest.mark.parametrize("role", ROLES)
def test_readme_names_no_variable_that_is_gone(role: str) -> None:
    """The variables that its table lists; prose may name other roles' variables."""
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(rf"^\| `({role}_\w+)`", readme, re.MULTILINE))
    assert listed <= set(options(role))


@pytest.mark.parametrize("role", ROLES)
def test_secrets_are_texts_without_choices(role: str) -> None:
    """Validation prints a value of the wrong type or choice, whatever no_log says."""
    for name, option in options(role).items():
        if re.search(r"(password|_key|token)$", name):
            assert option.get("type") == "str", name
            assert "choices" not in option, name
