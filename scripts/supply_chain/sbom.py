"""Writes what the Python environments on hosts consist of: `make sbom`, as CycloneDX 1.6, from the lock files.

Leaves build/sbom/ROLE.cdx.json for each role with a lock file: its packages as they are installed on Debian 13 with its
Python 3.13, each with the hashes that pip accepts. Licences are not in lock files and so not in there.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from supply_chain import target
from supply_chain.locks import PROJECT, LockError, chosen, environment_locks, read_lock

FOLDER = PROJECT / "build" / "sbom"


class SbomError(Exception):
    """A list of components could not be written."""


def write(role: str, lock: Path, folder: Path) -> Path:
    """Write the components of a role's Python environment; the same lock file gives the same bytes."""
    pins = chosen(read_lock(lock), target.MARKERS)
    result = folder / f"{role}.cdx.json"
    with tempfile.TemporaryDirectory() as name:
        # The environment itself, as the component that contains the others: its version tells the lock file.
        project = Path(name, "pyproject.toml")
        version = f"0+{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
        project.write_text(f'[project]\nname = "{role}-environment"\nversion = "{version}"\n')
        command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "--validate"]
        command += ["--spec-version=1.6", f"--pyproject={project}", f"--output-file={result}", "-"]
        listed = "".join(f"{pin}\n" for pin in pins.values())
        done = subprocess.run(command, input=listed, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode != 0:
        raise SbomError(f"{result.name} could not be written:\n{done.stderr.strip()}")
    return result


def main() -> int:
    """Write one file a role and say where."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        for role, lock in environment_locks().items():
            print(write(role, lock, FOLDER).relative_to(PROJECT))
    except (LockError, SbomError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
