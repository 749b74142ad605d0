"""Filter `tree_hash`: whether a folder of source code has changed."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def source_files(root: Path) -> Iterator[Path]:
    """The files below a folder, sorted, without what Python compiles."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def tree_hash(folder: str) -> str:
    """SHA-256 over the names and contents of a folder's files, in hexadecimal; AnsibleFilterError if there are none."""
    root = Path(folder)
    digest = hashlib.sha256()
    paths = list(source_files(root))
    if not paths:
        raise AnsibleFilterError(f"there are no files in {folder}")
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file."""
        return {"tree_hash": tree_hash}
