"""Filter `tree_hash`: any change of a folder's sources changes it, and nothing else does."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from tree import FilterModule, tree_hash

FILES = {"a.py": "one", "package/b.py": "two", "package/deep/c.txt": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "sources"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_hash_is_that_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    digest = tree_hash(str(folder))
    assert len(digest) == 64
    assert int(digest, 16)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert tree_hash(str(tmp_path / "elsewhere")) == digest == tree_hash(f"{folder}/")


def swap(root: Path) -> None:
    (root / "a.py").write_text("two")
    (root / "package/b.py").write_text("one")


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda root: (root / "a.py").write_text("One"),
    "emptied": lambda root: (root / "a.py").write_text(""),
    "added": lambda root: (root / "package/new.py").write_text(""),
    "removed": lambda root: (root / "package/deep/c.txt").unlink(),
    "renamed": lambda root: (root / "a.py").rename(root / "b.py"),
    "moved": lambda root: (root / "a.py").rename(root / "package/a.py"),
    "swapped": swap,
    "no_longer_utf8": lambda root: (root / "a.py").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_hash_changes_with_any_file(folder: Path, change: Callable[[Path], object]) -> None:
    before = tree_hash(str(folder))
    change(folder)
    assert tree_hash(str(folder)) != before


def test_hash_tells_where_a_file_ends(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "a").write_text("1b\0002")
    (two / "a").write_text("1")
    (two / "b").write_text("2")
    assert tree_hash(str(one)) != tree_hash(str(two))


def test_hash_leaves_out_what_python_compiles(folder: Path) -> None:
    before = tree_hash(str(folder))
    for name in ("__pycache__/a.cpython-313.pyc", "package/__pycache__/b.cpython-313.pyc"):
        path = folder / name
        path.parent.mkdir()
        path.write_bytes(b"\0")
    (folder / "empty").mkdir()
    assert tree_hash(str(folder)) == before


def test_folder_without_files_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(AnsibleFilterError, match="no files"):
            tree_hash(str(folder))


def test_ansible_finds_the_filter() -> None:
    assert FilterModule().filters() == {"tree_hash": tree_hash}
