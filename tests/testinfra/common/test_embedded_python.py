"""The project's own code on a host: the repository's, whole, and nobody's to change but root's.

It runs as users that are not root on both hosts: a file that one of them could write would be a way from one service to
the other, and a file left over from a former release may still be imported.
"""

import hashlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = "/opt/litellm/lib"


def sources() -> dict[str, str]:
    """The repository's files by their names, with their SHA-256."""
    files = ROOT / "files"
    return {
        str(path.relative_to(files)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_code_is_the_repositorys(host: Any) -> None:
    """No file differs, none is missing, none is left over."""
    lines = host.check_output("cd %s/ && find . -type f -exec sha256sum {} +", LIBRARY).splitlines()
    installed = {name.removeprefix("./"): digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    assert installed == sources()


def test_code_belongs_to_root_and_is_readable_by_all(host: Any) -> None:
    wrong = host.check_output(
        "find -L %s -not \\( -user root -group root \\( -type d -perm 0755 -o -type f -perm 0644 -o -type f -perm 0755"
        " \\) \\)",
        LIBRARY,
    )
    assert wrong == ""


def test_nothing_is_compiled_beside_the_code(host: Any) -> None:
    """Whoever ran it was not root, or was told not to write bytecode: what is there is what was copied."""
    assert host.check_output("find -L %s -name __pycache__ -o -name '*.pyc'", LIBRARY) == ""
