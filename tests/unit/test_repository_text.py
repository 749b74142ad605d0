"""What no file of the repository may hold: paths of one machine, secrets, links that lead nowhere."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECRET = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bghp_\w{36}\b|\bAIza[\w-]{35}\b")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?!https?:|mailto:|#)([^)#\s]+)")


@cache
def texts() -> dict[Path, str]:
    """The text files that are in git or would be with `git add .`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        file = ROOT / name
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            if b"\0" not in content:
                found[Path(name)] = content.decode("utf-8")
    return found


def test_files_are_found() -> None:
    assert Path("site.yml") in texts()


def test_no_file_names_where_this_checkout_is() -> None:
    path = re.compile(re.escape(str(ROOT)) + r"\b")
    assert not [str(name) for name, text in texts().items() if path.search(text)]


def test_no_file_holds_a_key() -> None:
    assert not [str(name) for name, text in texts().items() if SECRET.search(text)]


@pytest.mark.parametrize("environment", sorted(path.name for path in (ROOT / "inventory").iterdir() if path.is_dir()))
def test_git_ignores_the_secrets_of_an_environment(environment: str) -> None:
    secrets = f"inventory/{environment}/group_vars/all/secrets.yml"
    assert Path(secrets) not in texts()
    assert subprocess.run(["git", "check-ignore", "--quiet", secrets], cwd=ROOT, check=False).returncode == 0


def test_links_between_documents_lead_somewhere() -> None:
    dangling = [
        f"{name}: {target}"
        for name, text in texts().items()
        if name.suffix == ".md"
        for target in LINK.findall(text)
        if not (ROOT / name.parent / target).exists()
    ]
    assert not dangling
