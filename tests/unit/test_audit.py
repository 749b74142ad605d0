"""`make audit`: the real pip-audit, asking a double of the OSV service; what it finds, and what may be accepted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from supply_chain import audit
from supply_chain.locks import every_lock, read_lock

ROOT = Path(__file__).resolve().parents[2]
VULNERABLE = ("click", "0.1")
ADVISORY = {
    "id": "PYSEC-2030-7",
    "aliases": ["CVE-2030-12345"],
    "summary": "It does harm.",
    "affected": [
        {
            "package": {"name": "click", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.2"}]}],
        }
    ],
}
HASH = "--hash=sha256:" + "0" * 64


class Service(BaseHTTPRequestHandler):
    """Knows one vulnerability of one version of a package; others have none."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = (asked["package"]["name"], asked["version"]) == VULNERABLE
        body = json.dumps({"vulns": [ADVISORY]} if found else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask(monkeypatch, f"http://127.0.0.1:{server.server_port}/v1/query")
    yield
    server.shutdown()
    server.server_close()


def ask(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ask(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}/v1/query")
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the audit of one lock file with a list of exceptions; returns the exit status and what was printed."""

    def run(lock: str, exceptions: str = "[]", *options: str) -> tuple[int, str]:
        (tmp_path / "requirements.txt").write_text("".join(f"{pin} {HASH}\n" for pin in lock.split()))
        (tmp_path / "exceptions.yml").write_text(exceptions)
        monkeypatch.setattr(audit, "PROJECT", tmp_path)
        monkeypatch.setattr(audit, "EXCEPTIONS", tmp_path / "exceptions.yml")
        monkeypatch.setattr(audit, "every_lock", lambda: [tmp_path / "requirements.txt"])
        monkeypatch.setattr(sys, "argv", ["audit", *options])
        status = audit.main()
        captured = capfd.readouterr()
        return status, captured.out + captured.err

    return run


def exception(name: str, expires: str = "2999-12-31") -> str:
    return f"[{{id: {name}, reason: It is never called., expires: {expires}}}]"


@pytest.mark.usefixtures("service")
def test_lock_without_known_vulnerabilities_passes(run: Any) -> None:
    status, says = run("click==0.2 orjson==1.0")
    assert (status, "No known vulnerability but the 0" in says) == (0, True)


@pytest.mark.usefixtures("service")
def test_vulnerability_of_any_version_in_a_lock_file_fails(run: Any) -> None:
    status, says = run("click==0.1 orjson==1.0 click==0.2", "[]", "--where-reachable")
    assert status == audit.FOUND
    assert "click 0.1: PYSEC-2030-7 CVE-2030-12345, fixed in 0.2." in says
    assert "exceptions.yml" in says


@pytest.mark.usefixtures("service")
def test_accepted_vulnerability_passes(run: Any) -> None:
    status, says = run("click==0.1", exception("CVE-2030-12345"))
    assert (status, "No known vulnerability but the 1" in says) == (0, True)


def test_exception_is_for_one_vulnerability_by_any_of_its_names() -> None:
    found = [
        {
            "name": "click",
            "version": "0.1",
            "vulns": [{"id": "PYSEC-2030-7", "aliases": ["CVE-2030-12345"], "fix_versions": []}],
        }
    ]
    says = "click 0.1: PYSEC-2030-7 CVE-2030-12345, fixed in no version yet."
    assert audit.judge(found, []) == [says]
    for name in ("PYSEC-2030-7", "CVE-2030-12345"):
        assert audit.judge(found, [audit.Accepted(name, "reason", date(2030, 1, 31))]) == []
    unneeded = "The exception for CVE-2030-1 is needed no more: remove it."
    assert audit.judge(found, [audit.Accepted("CVE-2030-1", "reason", date(2030, 1, 31))]) == [says, unneeded]


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("options", [(), ("--where-reachable",)])
def test_expired_exception_fails_even_where_no_service_is(run: Any, options: tuple[str, ...]) -> None:
    status, says = run("click==0.1", exception("PYSEC-2030-7", "2020-01-31"), *options)
    assert status == audit.FOUND
    assert "The exception for PYSEC-2030-7 has expired on 2020-01-31: look at it again." in says


def test_exception_counts_on_its_last_day_and_no_longer() -> None:
    accepted = [audit.Accepted("CVE-1", "reason", date(2030, 1, 31))]
    assert audit.expired(accepted, date(2030, 1, 31)) == []
    assert len(audit.expired(accepted, date(2030, 2, 1))) == 1


@pytest.mark.usefixtures("nobody")
def test_service_that_does_not_answer_is_no_pass(run: Any) -> None:
    status, says = run("click==0.2")
    assert status == audit.NOT_ASKED
    assert "NOT AUDITED: pip-audit could not ask its service: " in says
    assert "Connection refused" in says


@pytest.mark.usefixtures("nobody")
def test_test_run_may_go_on_without_a_service_but_says_so(run: Any) -> None:
    status, says = run("click==0.2", "[]", "--where-reachable")
    assert (status, "NOT AUDITED" in says) == (0, True)


def test_package_that_the_service_does_not_know_is_reported() -> None:
    answers = [{"name": "click", "version": "1", "vulns": []}, {"name": "own", "skip_reason": "not found"}]
    assert audit.judge(answers, []) == ["own could not be looked up: not found"]


def test_service_that_knows_nothing_has_not_been_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror without the JSON API answers 404 for everything, which pip-audit takes for success."""
    answer = json.dumps({"dependencies": [{"name": "click", "skip_reason": "not found on PyPI"}], "fixes": []})
    done = subprocess.CompletedProcess([], 0, stdout=answer, stderr="No known vulnerabilities found")
    monkeypatch.setattr(audit.subprocess, "run", lambda *arguments, **options: done)
    with pytest.raises(audit.AuditError, match="knows none of 1 packages"):
        audit.look_up({("click", "1")})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{id: CVE-1, reason: why}]", "entry 1 must have id, reason and expires"),
        ("[{id: CVE-1, reason: why, expires: 2030-01-31, until: 1}]", "entry 1 must have id, reason and expires"),
        ("[CVE-1]", "entry 1 must have id, reason and expires"),
        ("[{id: CVE-1, reason: '', expires: 2030-01-31}]", "must be texts"),
        ("[{id: CVE-1, reason: why, expires: never}]", "must be a date"),
        ("[{id: CVE-1, reason: why, expires: 2030-01-31 10:00:00}]", "must be a date"),
    ],
)
def test_exceptions_without_reason_or_day_are_refused(run: Any, text: str, says: str) -> None:
    status, printed = run("click==0.2", text)
    assert (status, says in printed) == (audit.FOUND, True)


def test_exceptions_of_the_project_can_be_read() -> None:
    audit.read_exceptions(audit.EXCEPTIONS)


def test_rounds_hold_every_version_once_and_no_package_twice() -> None:
    versions = {(pin.name, pin.version) for path in every_lock() for pin in read_lock(path)}
    lists = list(audit.rounds(versions))
    assert sorted(line for one in lists for line in one) == sorted(f"{name}=={version}" for name, version in versions)
    for one in lists:
        names = [line.partition("==")[0] for line in one]
        assert len(names) == len(set(names))
