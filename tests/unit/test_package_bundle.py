"""The bundle for hosts without a way out: what goes into it, and which one the role accepts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from supply_chain import target
from supply_chain.locks import read_lock, role_locks
from supply_chain.role_packages import RolePackagesError, role_packages

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"distribution": "Debian", "distribution_major_version": "13", "architecture": "x86_64"}


def filters() -> ModuleType:
    """The filters of the role, by their path: their name is short and may be that of other modules."""
    spec = importlib.util.spec_from_file_location("role_bundle", ROOT / "roles/bundle/filter_plugins/bundle.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bundle_mistake = filters().bundle_mistake


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle made from the lock files as they are; what is in its archive does not matter here."""
    locks = {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in role_locks()}
    manifest = {"made": "2026-01-01", "distribution": "Debian", "release": "13", "machine": "x86_64", "locks": locks}
    (tmp_path / "hosts.tar").write_bytes(b"wheels and packages")
    write_manifest(tmp_path, manifest)
    return tmp_path


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> None:
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    listed = (bundle / "hosts.tar", bundle / "manifest.json")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in listed]
    (bundle / "SHA256SUMS").write_text("".join(sums))


def mistake(bundle: Path, **facts: str) -> str:
    return str(bundle_mistake(str(bundle), str(ROOT / "roles"), {**FACTS, **facts}))


def test_bundle_of_these_lock_files_is_accepted(bundle: Path) -> None:
    assert mistake(bundle) == ""


def test_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    assert f"bundle_directory is {tmp_path}, where no bundle is: `make bundle`" in mistake(tmp_path)


@pytest.mark.parametrize("name", ["hosts.tar", "manifest.json"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.unlink()])
def test_damaged_bundle_is_refused(bundle: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(bundle / name)
    assert mistake(bundle) == f"{bundle}/{name} is damaged or incomplete: copy the bundle again."


@pytest.mark.parametrize("change", [{"roles/schema/files/litellm.txt": "0" * 64}, {"other": "0" * 64}])
def test_bundle_of_other_lock_files_is_refused(bundle: Path, change: dict[str, str]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["locks"].update(change)
    write_manifest(bundle, manifest)
    assert mistake(bundle).endswith("is for other lock files: run `make bundle` again.")


@pytest.mark.parametrize(
    "facts", [{"distribution_major_version": "12"}, {"distribution": "Ubuntu"}, {"architecture": "aarch64"}]
)
def test_bundle_of_another_system_is_refused(bundle: Path, facts: dict[str, str]) -> None:
    assert "is for Debian 13 on x86_64, and this host runs" in mistake(bundle, **facts)


def test_packages_are_those_of_the_roles() -> None:
    packages = role_packages()
    assert {"postgresql-17", "postgresql-client-17", "python3-psycopg2", "python3-venv", "python3-apt"} <= set(packages)
    assert not [name for name in packages if "{" in name]


def role(folder: Path, tasks: list[dict[str, Any]], variables: dict[str, Any]) -> Path:
    for name, content in {"tasks": tasks, "defaults": variables}.items():
        (folder / "example" / name).mkdir(parents=True)
        (folder / "example" / name / "main.yml").write_text(yaml.safe_dump(content))
    return folder


def test_packages_are_found_in_blocks_and_variables(tmp_path: Path) -> None:
    inner = {"name": "Install", "ansible.builtin.apt": {"name": ["one", "two-{{ number }}"]}}
    tasks = [
        {"name": "Do", "block": [inner], "rescue": [{"name": "Mend", "apt": {"name": "{{ example_list }}"}}]},
        {"name": "Remove", "ansible.builtin.apt": {"name": "gone", "state": "absent"}},
    ]
    folder = role(tmp_path, tasks, {"number": 2, "example_list": ["three"]})
    assert role_packages(folder) == ["one", "python3-apt", "three", "two-2"]


def test_packages_that_only_a_host_knows_are_an_error(tmp_path: Path) -> None:
    tasks = [{"name": "Install it", "ansible.builtin.apt": {"name": "linux-headers-{{ example_kernel }}"}}]
    with pytest.raises(RolePackagesError, match=r"main\.yml: which packages 'Install it' installs"):
        role_packages(role(tmp_path, tasks, {}))


def test_roles_install_packages_by_the_module_that_is_read() -> None:
    """Packages that a role installed in another way would be missing from the bundle."""
    others = ("ansible.builtin.package", "ansible.builtin.pip", "apt-get install", "apt install")
    for file in (ROOT / "roles").glob("*/tasks/*.yml"):
        assert not [way for way in others if way in file.read_text(encoding="utf-8")], file


def test_every_play_on_hosts_installs_from_the_bundle() -> None:
    """But the one that brings it: apt asks the archives in a play that lacks this."""
    plays = [play for play in yaml.safe_load((ROOT / "site.yml").read_text(encoding="utf-8")) if "hosts" in play]
    first, *others = plays
    assert first["roles"] == ["bundle"]
    assert "environment" not in first
    for play in others:
        assert play.get("environment") == "{{ apt_environment }}", play["name"]


def test_wiring_names_the_place_where_the_role_puts_the_bundle() -> None:
    home = yaml.safe_load((ROOT / "roles/bundle/vars/main.yml").read_text(encoding="utf-8"))["_bundle_home"]
    wiring = (ROOT / "group_vars/all/wiring.yml").read_text(encoding="utf-8")
    assert f"'{home}/apt.conf'" in wiring
    assert f"'{home}/wheels'" in wiring


def test_target_is_what_a_host_of_it_tells() -> None:
    """Every marker in the lock files can be evaluated for it."""
    for path in role_locks():
        for pin in read_lock(path):
            assert pin.marker is None or pin.marker.evaluate(target.MARKERS) in (True, False)
    assert target.PLATFORMS[0] == "manylinux_2_41_x86_64"
    assert "manylinux2014_x86_64" in target.PLATFORMS
