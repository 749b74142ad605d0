"""Collects all that hosts without a way out need: `make bundle`, on a machine that has one.

Leaves in build/bundle: hosts.tar (the Python wheels of the roles' lock files, and the Debian packages that the roles
install with all that those depend on, as an archive for apt), controller/ (the wheels of requirements/controller.txt),
manifest.json (what is in it, and for which lock files) and SHA256SUMS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from supply_chain import target
from supply_chain.locks import PROJECT, LockError, chosen, read_lock, role_locks
from supply_chain.role_packages import RolePackagesError, role_packages

BUNDLE = PROJECT / "build" / "bundle"
CONTROLLER_LOCK = PROJECT / "requirements" / "controller.txt"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LAST_LINES = 8


class BundleError(Exception):
    """Something that has to be put right before a bundle can be made."""


def run(arguments: Sequence[str | Path], failure: str, folder: Path = PROJECT) -> str:
    """Run a command in a folder and return what it printed; `failure` says what could not be done."""
    try:
        done = subprocess.run(arguments, cwd=folder, check=False, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise BundleError(f"{failure}: there is no {arguments[0]} on this machine.") from None
    if done.returncode != 0:
        raise BundleError("\n".join([f"{failure}:", *(done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:]]))
    return done.stdout


def fetch_wheels(lock: Path, folder: Path) -> None:
    """Download the wheels of a lock file that the target installs; pip checks the hashes.

    What to install is decided here: pip would ask the markers about the Python that it runs with.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write("".join(f"{pin}\n" for pin in chosen(read_lock(lock), target.MARKERS).values()))
        pins.flush()
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
                *("--require-hashes", "--no-deps", "--only-binary=:all:", f"--python-version={target.PYTHON}"),
                *("--implementation=cp", *(f"--platform={platform}" for platform in target.PLATFORMS)),
                *(f"--dest={folder}", f"--requirement={pins.name}"),
            ],
            f"The wheels of {lock.relative_to(PROJECT)} could not be downloaded",
        )


def fetch_debian_packages(names: list[str], folder: Path, mirror: str, security: str) -> None:
    """Download Debian packages with everything they depend on, and apt's index of them.

    apt resolves them for a system on which nothing is installed, so that the bundle suits every host of the release,
    and this machine's own release does not matter. The signatures of the archive are checked as ever.
    """
    if not KEYRING.is_file():
        raise BundleError(f"There is no {KEYRING}: install debian-archive-keyring.")
    signed = f"deb [signed-by={KEYRING}]"
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        for directory in ("lists/partial", "archives/partial"):
            (state / directory).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(
            f"{signed} {mirror} {target.SUITE} main\n"
            f"{signed} {mirror} {target.SUITE}-updates main\n"
            f"{signed} {security} {target.SUITE}-security main\n"
        )
        options = {
            "APT::Architecture": target.ARCHITECTURE,
            "APT::Architectures": target.ARCHITECTURE,
            "APT::Sandbox::User": "",
            "APT::Update::Error-Mode": "any",
            "Acquire::Retries": "3",
            "Dir::Cache": state,
            "Dir::Etc::SourceList": state / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": state,
            "Dir::State::Status": state / "status",
        }
        apt_get = ["apt-get", "--quiet=2", *(f"--option={name}={value}" for name, value in options.items())]
        run([*apt_get, "update"], f"The lists of {mirror} and {security} could not be read")
        run(
            [*apt_get, "install", "--download-only", "--yes", "--no-install-recommends", *names],
            f"The Debian packages ({', '.join(names)}) could not be downloaded",
        )
        for package in (state / "archives").glob("*.deb"):
            # apt reads %3a in a name as the colon of an epoch, and then finds no such file.
            shutil.move(package, folder / package.name.replace("%3a", "-"))
    (folder / "Packages").write_text(run(["apt-ftparchive", "packages", "."], "The packages cannot be listed", folder))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry of an archive that does not tell who made it; whoever unpacks it is the owner."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def make(folder: Path, mirror: str, security: str) -> dict[str, object]:
    """Fill an empty folder with a bundle and return its manifest."""
    packages = role_packages()
    contents = folder / "hosts"
    for directory in (contents / "wheels", contents / "debian", folder / "controller"):
        directory.mkdir(parents=True)
    for lock in role_locks():
        print(f"wheels of {lock.relative_to(PROJECT)}", flush=True)
        fetch_wheels(lock, contents / "wheels")
    print(f"wheels of {CONTROLLER_LOCK.relative_to(PROJECT)}", flush=True)
    fetch_wheels(CONTROLLER_LOCK, folder / "controller")
    print(f"Debian packages: {' '.join(packages)}", flush=True)
    fetch_debian_packages(packages, contents / "debian", mirror, security)
    files = sorted(path for part in (contents, folder / "controller") for path in part.rglob("*") if path.is_file())
    manifest = {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "distribution": target.DISTRIBUTION,
        "release": target.RELEASE,
        "machine": target.MACHINE,
        "python": target.PYTHON,
        "locks": {str(path.relative_to(PROJECT)): digest(path) for path in role_locks()},
        "debian": packages,
        "files": {str(path.relative_to(folder)): digest(path) for path in files},
    }
    with tarfile.open(folder / "hosts.tar", "w") as archive:
        archive.add(contents, arcname=".", filter=without_owner)
    shutil.rmtree(contents)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    listed = sorted(path for path in folder.rglob("*") if path.is_file())
    (folder / "SHA256SUMS").write_text("".join(f"{digest(path)}  {path.relative_to(folder)}\n" for path in listed))
    return manifest


def main() -> int:
    """Make a bundle in place of the former one, or say what is in the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="archive of Debian (%(default)s)")
    parser.add_argument(
        "--security",
        default="http://deb.debian.org/debian-security",
        help="archive of its security updates (%(default)s)",
    )
    arguments = parser.parse_args()
    BUNDLE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUNDLE.parent) as name:
        folder = Path(name) / BUNDLE.name
        folder.mkdir(mode=0o755)
        try:
            manifest = make(folder, arguments.mirror, arguments.security)
        except (BundleError, LockError, RolePackagesError) as error:
            print(error, file=sys.stderr)
            return 1
        shutil.rmtree(BUNDLE, ignore_errors=True)
        folder.rename(BUNDLE)
    size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()) >> 20
    system = f"{target.DISTRIBUTION} {target.RELEASE}"
    print(f"{os.path.relpath(BUNDLE)}: {len(manifest['files'])} files for {system}, {size} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
