"""The bundle: what was found as the files of the specification, a summary, and no secret in any of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evidence.criteria import Evidence, Verdict, cost_of, judge, last_line, matched_percent, shortened, tokens_of
from evidence.figures import Raw

PROJECT = Path(__file__).resolve().parents[2]
SHORTEST_SECRET = 8
REDACTED = "[redacted]"


def files(evidence: Evidence) -> dict[str, str]:
    """The bundle by the names of its files, without the summary."""
    gateways = evidence.gateways
    return {
        "service_status.txt": _sections(gateways, _services),
        "gateway_db_connect.log": _sections(gateways, _ping) + _database(evidence),
        "chat_call.json": as_json({host: _chat(report) for host, report in gateways.items()}),
        "requests_head.txt": _table(evidence, "requests_head"),
        "responses_head.txt": _table(evidence, "responses_head"),
        "join_check.txt": _join(evidence),
        "overhead.json": as_json({"host": next(iter(gateways)), **evidence.overhead}),
        "versions.json": as_json(versions(evidence)),
    }


def _sections(gateways: dict[str, Raw], text: Callable[[Raw], str]) -> str:
    """What there is to say of each gateway, or why there is nothing."""
    return "\n".join(f"### {host}\n\n{report.get('error') or text(report)}" for host, report in gateways.items()) + "\n"


def _services(report: Raw) -> str:
    pieces = []
    for unit in report["units"]:
        shown = "\n".join(f"{name}={value}" for name, value in sorted(unit["properties"].items()))
        pieces.append(f"{transcript(unit['status'])}\n{shown}\nresident memory: {unit['resident_mb']} MiB\n")
    readiness = report["readiness"]
    return "\n".join([*pieces, f"GET /health/readiness: {readiness.get('status') or readiness['error']}\n"])


def _ping(report: Raw) -> str:
    return f"{transcript(report['ping'])}\n"


def _database(evidence: Evidence) -> str:
    server = evidence.database.get("server", evidence.database)
    shown = {name: value for name, value in server.items() if name != "rules"}
    return (
        f"### the database\n\n{json.dumps(shown, indent=2)}\n\npg_hba.conf:\n{_table(evidence, 'rules')}\n"
        f"sessions of the service:\n{_table(evidence, 'sessions')}"
    )


def _chat(report: Raw) -> Raw:
    call: Raw = report["calls"][0] if "calls" in report else report
    if "response" not in call:
        return {"error": call["error"]}
    cost = cost_of(call)
    return {
        "call_id": call["call_id"],
        "request": call["request"],
        "status": call["status"],
        "latency_ms": call["latency_ms"],
        "total_tokens": tokens_of(call),
        "cost_usd": None if cost is None else f"{cost:f}",
        "headers": {name: value for name, value in call["headers"].items() if name.startswith("x-litellm-")},
        "response": call["response"],
    }


def _table(evidence: Evidence, name: str) -> str:
    shown = evidence.database.get(name, evidence.database)
    return str(shown.get("error") or shown["out"]).rstrip() + "\n"


def _join(evidence: Evidence) -> str:
    join = evidence.database.get("join", evidence.database)
    lines = [f"{name.replace('_', ' '):26} {value}" for name, value in join.items()]
    if "error" not in join:
        lines.append(f"{'matched, of all':26} {matched_percent(join)}")
    for host, report in evidence.gateways.items():
        lines += ["", f"litellm-db ledger on {host}:", json.dumps(report["ledger"], indent=2)]
    return "\n".join(lines) + "\n"


def versions(evidence: Evidence) -> Raw:
    """What was looked at, when, and with which revision of this repository."""
    return {
        "inventory": evidence.inventory,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **revision(),
        "gateways": {host: host_versions(report) for host, report in evidence.gateways.items()},
        "database": {
            "PostgreSQL": evidence.database.get("server", {}).get("version"),
            "os": evidence.database.get("os"),
        },
    }


def transcript(command: Raw) -> str:
    """A command with what it printed."""
    code = "" if command["code"] == 0 else f"\n(exit {command['code']})"
    return f"$ {command['command']}\n{command['out'].rstrip()}\n{command['error'].rstrip()}".rstrip() + code + "\n"


def as_json(value: Any) -> str:
    """JSON for people: lists of numbers on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text) + "\n"


def revision() -> Raw:
    """The revision of this repository and whether there are changes on top; None where it is no repository."""

    def git(*argv: str) -> str | None:
        try:
            done = subprocess.run(["git", *argv], cwd=PROJECT, capture_output=True, text=True, check=True)  # noqa: S603, S607
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"revision": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def host_versions(report: Raw) -> Raw:
    """The versions that a gateway runs, or why they are not known."""
    if "error" in report:
        return {"error": report["error"]}
    versions = report["versions"]
    packages = json.loads(versions["out"]) if versions["code"] == 0 else {"error": last_line(versions)}
    return {
        **packages,
        "systemd": report["systemd"]["out"].partition("\n")[0],
        "os": report["os"],
        "kernel": report["kernel"],
        "cpus": report["cpus"],
    }


def summary(verdicts: list[Verdict], found: Raw, leaks: list[str]) -> str:
    """SUMMARY.md: the verdicts, and what was looked at (see ``versions``)."""
    passed = sum(verdict.passed for verdict in verdicts)
    machines = ", ".join(
        f"{host} ({gateway['cpus']} cores, {gateway['os']}, LiteLLM {gateway.get('litellm')})"
        for host, gateway in found["gateways"].items()
        if "error" not in gateway
    )
    dirty = " with changes on top" if found["dirty"] else ""
    looked_at = (
        f"Taken at {found['time']}, revision {(found['revision'] or 'unknown')[:12]}{dirty}; "
        f"{machines or 'no gateway was reached'}; PostgreSQL {found['database']['PostgreSQL'] or 'not reached'}."
    )
    lines = [
        f"# Evidence: {found['inventory']}",
        "",
        f"**{passed} of {len(verdicts)} criteria passed.** {looked_at}",
        "",
        "| | criterion | passed | figure | file |",
        "| --- | --- | --- | --- | --- |",
    ]
    for verdict in verdicts:
        figure = shortened(verdict.figure, 600).replace("|", "\\|")
        answer = "yes" if verdict.passed else "**no**"
        lines.append(f"| {verdict.name} | {verdict.criterion} | {answer} | {figure} | `{verdict.file}` |")
    if leaks:
        lines += ["", f"**A secret stood in {', '.join(leaks)}** and was taken out: find out how it got there."]
    return "\n".join(lines) + "\n"


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret taken out, in clear, as JSON writes it and as a URL does."""
    spellings = {
        spelling
        for secret in secrets
        if len(secret) >= SHORTEST_SECRET
        for spelling in (secret, json.dumps(secret)[1:-1], quote(secret), quote(secret, safe=""))
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, REDACTED)
    return text


def write_bundle(found: Raw) -> Raw:
    """Judge, write the bundle, and say whether everything passed."""
    evidence = Evidence(found)
    verdicts = judge(evidence)
    directory = Path(found["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    leaks = []
    for name, text in files(evidence).items():
        clean = without_secrets(text, found["secrets"])
        if clean != text:
            leaks.append(name)
        (directory / name).write_text(clean, encoding="utf-8")
    text = without_secrets(summary(verdicts, versions(evidence), leaks), found["secrets"])
    (directory / "SUMMARY.md").write_text(text, encoding="utf-8")
    return {"passed": all(verdict.passed for verdict in verdicts) and not leaks, "summary": text}
