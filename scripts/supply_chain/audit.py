"""Looks up every package of every lock file among the known vulnerabilities: `make audit`, by pip-audit.

Exits with 1 where one is found that requirements/audit_exceptions.yml does not name, where an exception there has
expired or is needed no more, and where a package is not known; with 3 where no service could be asked. The service is
PyPI's; pip-audit's own variables name another (PIP_AUDIT_VULNERABILITY_SERVICE=osv, PIP_AUDIT_OSV_URL).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from supply_chain.locks import PROJECT, LockError, every_lock, read_lock

EXCEPTIONS = PROJECT / "requirements" / "audit_exceptions.yml"
FOUND, NOT_ASKED = 1, 3
PATIENCE = 900  # seconds for all packages


class AuditError(Exception):
    """The vulnerabilities could not be looked up."""


class ExceptionsError(Exception):
    """The list of exceptions cannot be used as it is written."""


@dataclass(frozen=True)
class Accepted:
    """A vulnerability that is known and accepted until a day (UTC), that day included."""

    id: str
    reason: str
    expires: date


def read_exceptions(path: Path) -> list[Accepted]:
    """Return the exceptions of a file: a list of mappings with `id`, `reason` and `expires` (YYYY-MM-DD)."""
    found = []
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")) or [], 1):
        if not isinstance(entry, dict) or set(entry) != {"id", "reason", "expires"}:
            raise ExceptionsError(f"{path}: entry {number} must have id, reason and expires, and nothing else.")
        if type(entry["expires"]) is not date:
            raise ExceptionsError(f"{path}: expires of entry {number} must be a date such as 2030-01-31.")
        if not all(isinstance(entry[name], str) and entry[name].strip() for name in ("id", "reason")):
            raise ExceptionsError(f"{path}: id and reason of entry {number} must be texts.")
        found.append(Accepted(**entry))
    return found


def expired(exceptions: Iterable[Accepted], today: date) -> list[str]:
    """Return a sentence for each exception whose day is over."""
    return [
        f"The exception for {one.id} has expired on {one.expires}: look at it again."
        for one in exceptions
        if one.expires < today
    ]


def rounds(versions: set[tuple[str, str]]) -> Iterator[list[str]]:
    """Yield lists of requirements in which no package comes twice, which pip-audit would refuse."""
    left = sorted(versions)
    while left:
        this = dict(left)
        left = [pair for pair in left if this[pair[0]] != pair[1]]
        yield [f"{name}=={version}" for name, version in this.items()]


def look_up(versions: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return what pip-audit says of each version of a package: its `vulns`, or the `skip_reason`."""
    answers: list[dict[str, Any]] = []
    for requirements in rounds(versions):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(requirements))
            file.flush()
            command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--desc=off"]
            command += ["--aliases=on", "--no-deps", "--disable-pip", f"--requirement={file.name}"]
            try:
                done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)  # noqa: S603
            except subprocess.TimeoutExpired:
                raise AuditError(f"pip-audit was not done after {PATIENCE} s.") from None
        try:
            answers += json.loads(done.stdout)["dependencies"]
        except ValueError:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise AuditError(f"pip-audit could not ask its service: {last}") from None
    if answers and all("skip_reason" in answer for answer in answers):
        raise AuditError(
            f"The service knows none of {len(answers)} packages; of the first: {answers[0]['skip_reason']}"
        )
    return answers


def judge(answers: Iterable[dict[str, Any]], exceptions: Iterable[Accepted]) -> list[str]:
    """Return a sentence for each vulnerability that is not accepted, package not known and exception not needed."""
    accepted = {one.id for one in exceptions}
    needed: set[str] = set()
    sentences = []
    for answer in answers:
        if "skip_reason" in answer:
            sentences.append(f"{answer['name']} could not be looked up: {answer['skip_reason']}")
        for vulnerability in answer.get("vulns", []):
            names = [vulnerability["id"], *vulnerability["aliases"]]
            needed.update(names)
            if accepted.isdisjoint(names):
                fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
                sentences.append(f"{answer['name']} {answer['version']}: {' '.join(names)}, fixed in {fixed}.")
    unneeded = sorted(accepted - needed)
    return sentences + [f"The exception for {one} is needed no more: remove it." for one in unneeded]


def main() -> int:
    """Audit all lock files and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--where-reachable", action="store_true", help="exit with 0, and say so, where no service could be asked"
    )
    arguments = parser.parse_args()
    listed = EXCEPTIONS.relative_to(PROJECT)
    try:
        exceptions = read_exceptions(EXCEPTIONS)
        versions = {(pin.name, pin.version) for path in every_lock() for pin in read_lock(path)}
        sentences = expired(exceptions, datetime.now(timezone.utc).date())
        print(f"{len(versions)} versions of packages in {len(every_lock())} lock files", flush=True)
        if not sentences:
            sentences = judge(look_up(versions), exceptions)
    except (ExceptionsError, LockError) as error:
        print(error, file=sys.stderr)
        return FOUND
    except AuditError as error:
        print(f"NOT AUDITED: {error}", file=sys.stderr)
        print(
            "`make audit` has to run where the JSON API of PyPI, or another service, answers (see --help).",
            file=sys.stderr,
        )
        return 0 if arguments.where_reachable else NOT_ASKED
    if sentences:
        print("\n".join(sentences), file=sys.stderr)
        print(f"Upgrade (`make lock UPGRADE=1`), or give a reason and a day in {listed}.", file=sys.stderr)
        return FOUND
    print(f"No known vulnerability but the {len(exceptions)} in {listed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
