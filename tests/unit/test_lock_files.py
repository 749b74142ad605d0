"""The lock files: all of it pinned with hashes, made of the lists beside them, and nothing in them that is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from preflight_versions import package_mistakes

from supply_chain.locks import LockError, Pin, chosen, environment_locks, every_lock, read_lock, role_locks

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {str(path.relative_to(ROOT)): path for path in every_lock()}
PYTHONS = {
    "roles/litellm/files/requirements.txt": ("3.10", "3.11", "3.12", "3.13"),
    "roles/schema/files/litellm.txt": ("3.10", "3.11", "3.12", "3.13"),
    "roles/schema/files/requirements.txt": ("3.10", "3.11", "3.12", "3.13"),
    "requirements/controller.txt": ("3.11", "3.12", "3.13"),
    "requirements/test.txt": ("3.11", "3.12", "3.13"),
}
"""The versions of Python that each is installed with."""
REFUSED = yaml.safe_load((ROOT / "roles/preflight/defaults/main.yml").read_text(encoding="utf-8"))[
    "preflight_refused_packages"
]


def environment(python: str) -> dict[str, str]:
    """The markers' variables on Linux with a version of Python."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.5",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "6.12.0",
        "platform_system": "Linux",
        "platform_version": "1",
        "python_full_version": f"{python}.5",
        "python_version": python,
        "sys_platform": "linux",
    }


def listed(path: Path) -> list[Requirement]:
    """The packages that a list asks for, with those of the lists it includes."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found += listed(path.parent / line.removeprefix("-r ").strip())
        elif line.strip() and not line.startswith(("#", "-c ")):
            found.append(Requirement(line))
    return found


def test_every_lock_file_is_known() -> None:
    assert set(LOCKS) == set(PYTHONS)
    assert set(environment_locks()) == {"litellm", "schema"}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_one_version_with_hashes_for_each_python(lock: str) -> None:
    pins = read_lock(LOCKS[lock])
    for python in PYTHONS[lock]:
        assert chosen(pins, environment(python))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_list_is_locked(lock: str) -> None:
    """A list that was edited without `make lock` is seen."""
    for python in PYTHONS[lock]:
        pins = chosen(read_lock(LOCKS[lock]), environment(python))
        for wanted in listed(LOCKS[lock].with_suffix(".in")):
            if wanted.marker is None or wanted.marker.evaluate(environment(python)):
                pin = pins.get(canonicalize_name(wanted.name))
                assert pin, f"{wanted.name} is not locked: make lock"
                assert pin.version in wanted.specifier, f"{wanted} is locked at {pin.version}: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_shared_has_the_versions_of_the_gateway(lock: str) -> None:
    """What is tested, and what makes the schema, is what serves."""
    gateway = LOCKS["roles/litellm/files/requirements.txt"]
    for python in PYTHONS[lock]:
        pins, served = (chosen(read_lock(path), environment(python)) for path in (LOCKS[lock], gateway))
        assert {name: pins[name].version for name in pins.keys() & served} == {
            name: served[name].version for name in pins.keys() & served
        }


def test_no_lock_holds_a_refused_package() -> None:
    assert package_mistakes(every_lock(), REFUSED) == []


def test_environments_of_hosts_hold_nothing_that_only_tests_need() -> None:
    for path in role_locks():
        assert {pin.name for pin in read_lock(path)}.isdisjoint({"pytest", "hypothesis", "molecule", "ansible", "pip"})


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("litellm==1.82.7", "litellm 1.82.7"),
        ("litellm==1.82.8 ; python_version > '3'", "litellm 1.82.8"),
        ("LiteLLM[proxy]==1.82.8", "litellm 1.82.8"),
        ("litellm_enterprise==0.1.9", "litellm-enterprise 0.1.9"),
        ("litellm.enterprise==1.82.70", "litellm-enterprise 1.82.70"),
    ],
)
def test_refused_packages_are_reported(line: str, names: str, tmp_path: Path) -> None:
    lock = tmp_path / "roles" / "litellm" / "files" / "requirements.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"orjson==3.13.0 \\\n    --hash=sha256:00\n{line} \\\n    --hash=sha256:00\n")
    [(_, _, says)] = package_mistakes([lock], REFUSED)
    assert f"has {names}," in says
    assert "make lock" in says


@pytest.mark.parametrize(
    "line", ["litellm==1.82.70", "litellm==1.106.2", "litellm-proxy-extras==1.82.7", "# litellm==1.82.7"]
)
def test_other_versions_and_packages_are_not_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line} \\\n    --hash=sha256:00\n")
    assert package_mistakes([tmp_path / "requirements.txt"], REFUSED) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("orjson==3.13.0", "orjson has no SHA-256"),
        ("orjson==3.13.0 --hash=md5:00", "orjson has no SHA-256"),
        ("orjson>=3.13 --hash=sha256:00", "orjson is not pinned"),
        ("orjson==3.* --hash=sha256:00", "orjson is not pinned"),
        ("orjson --hash=sha256:00", "orjson is not pinned"),
        ("orjson @ https://example.com/orjson.whl --hash=sha256:00", "orjson is not pinned"),
        ("--extra-index-url https://example.com/simple", "--extra-index-url is not a package"),
        ("-e .", "-e is not a package"),
    ],
)
def test_whatever_is_not_pinned_is_refused(text: str, says: str, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"# a comment\n{text}\n")
    with pytest.raises(LockError, match=re.escape(says)):
        read_lock(lock)


def test_lock_is_read_with_markers_and_hashes(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(
        "Annotated_Doc==0.0.6 ; python_full_version < '3.11' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "    # via fastapi\n"
        "annotated-doc==0.0.7 ; python_full_version >= '3.11' \\\n    --hash=sha256:cc\n"
    )
    pins = read_lock(lock)
    assert [str(pin) for pin in pins] == [
        "annotated-doc==0.0.6 --hash=sha256:aa --hash=sha256:bb",
        "annotated-doc==0.0.7 --hash=sha256:cc",
    ]
    assert chosen(pins, environment("3.10")) == {"annotated-doc": pins[0]}
    assert chosen(pins, environment("3.13")) == {"annotated-doc": pins[1]}


def test_two_versions_of_a_package_for_one_python_are_refused() -> None:
    pins: list[Any] = [Pin("orjson", version, None, ("sha256:00",)) for version in ("1", "2")]
    with pytest.raises(LockError, match="pinned twice"):
        chosen(pins, environment("3.13"))
