#!/usr/bin/env python3
"""What a gateway says of itself, as JSON: its services, its way to the database, three calls, its versions.

playbooks/evidence.yml runs this on the gateway's host, as root, with the system's Python. The key of the calls is read
from the gateway's own environment file. What fails is a finding and part of the output.
"""

# ruff: noqa: S603, S607  the commands are the host's own

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UNITS = ("litellm-gateway.service", "litellm-shipper.service")
PROPERTIES = (
    "Id,LoadState,UnitFileState,ActiveState,SubState,MainPID,User,NRestarts,Restart,FragmentPath,ActiveEnterTimestamp,"
    "MemoryCurrent,MemoryPeak,CPUUsageNSec,ControlGroup"
)
PYTHON = "/opt/litellm/venv/bin/python"
VERSIONS = """
import importlib.metadata, json, platform
print(json.dumps({name: importlib.metadata.version(name) for name in ("litellm", "SQLAlchemy", "psycopg2-binary")}
      | {"Python": platform.python_version()}))
"""
PATIENCE = 60.0
"""Seconds that a command or a call may take."""


def run(*argv: str) -> dict[str, Any]:
    """A command with what came of it."""
    result: dict[str, Any] = {"command": " ".join(argv), "code": None, "out": "", "error": ""}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return result | {"error": str(error)}
    return result | {"code": done.returncode, "out": done.stdout, "error": done.stderr}


def gateway_environment() -> dict[str, str]:
    """The environment of the gateway's unit, read as a shell reads it."""
    read = "set -a; . /etc/litellm/settings.env; . /etc/litellm/litellm.env; exec env -0"
    done = subprocess.run(["sh", "-c", read], capture_output=True, text=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


def unit(name: str) -> dict[str, Any]:
    """A unit as systemd sees it, with the memory of its processes. Without its journal, which may quote prompts."""
    shown = run("systemctl", "show", f"--property={PROPERTIES}", name)
    properties = dict(line.split("=", 1) for line in shown["out"].splitlines())
    return {
        "status": run("systemctl", "status", "--no-pager", "--full", "--lines=0", name),
        "properties": properties,
        "resident_mb": resident_mb(properties.get("ControlGroup", "")),
    }


def resident_mb(control_group: str) -> float | None:
    """The resident memory of a control group's processes, in MiB; None where it has none."""
    kilobytes = 0
    try:
        processes = Path(f"/sys/fs/cgroup{control_group}/cgroup.procs").read_text().split() if control_group else []
        for process in processes:
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            kilobytes += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    except OSError:  # a process that has just ended
        return None
    return round(kilobytes / 1024, 1) or None


def connect(url: str, authority: str | None) -> http.client.HTTPConnection:
    """A connection to the gateway; its certificate is checked against the file of its authority."""
    address = urlsplit(url)
    if address.scheme == "http":
        return http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
    context = ssl.create_default_context(cafile=authority)
    return http.client.HTTPSConnection(address.hostname or "", address.port, timeout=PATIENCE, context=context)


def http_call(
    gateway: tuple[str, str | None], method: str, path: str, headers: dict[str, str], document: Any = None
) -> dict[str, Any]:
    """A call with its answer, or with the reason why there is none."""
    url = gateway[0]
    connection = connect(*gateway)
    body = None if document is None else json.dumps(document)
    started = time.perf_counter()
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        content = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return {"error": f"{url}{path}: {error}"}
    finally:
        connection.close()
    try:
        response = json.loads(content)
    except ValueError:
        response = content
    return {
        "status": answer.status,
        "latency_ms": round((time.perf_counter() - started) * 1000, 1),
        "headers": {name.lower(): value for name, value in answer.getheaders()},
        "response": response,
    }


def calls(gateway: tuple[str, str | None], model: str, run_id: str, host: str) -> list[dict[str, Any]]:
    """One call that is answered and two that are refused, each under an id of its own."""
    try:
        key = gateway_environment()["LITELLM_MASTER_KEY"]
    except (KeyError, subprocess.CalledProcessError) as error:
        return [{"kind": "chat", "error": f"/etc/litellm/litellm.env gives no master key: {type(error).__name__}"}]
    made = []
    for kind, wanted, token in (
        ("chat", model, key),
        ("unknown model", f"{run_id}-no-such-model", key),
        ("wrong key", model, f"sk-{run_id}-wrong"),
    ):
        request = {"model": wanted, "messages": [{"role": "user", "content": "Say hello in one sentence."}]}
        call_id = f"{run_id}-call-{host}-{kind.replace(' ', '-')}"
        headers = {"Authorization": f"Bearer {token}", "x-litellm-call-id": call_id}
        answer = http_call(gateway, "POST", "/v1/chat/completions", headers, request)
        made.append({"kind": kind, "call_id": call_id, "request": request, **answer})
    return made


def main() -> None:
    """Look, call and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", required=True, help="what the ids of the calls begin with")
    parser.add_argument("--host", required=True, help="the name of this host in the inventory")
    parser.add_argument("--authority", help="what the gateway's certificate is checked against, a file")
    given = parser.parse_args()
    gateway = given.url, given.authority
    report = {
        "calls": calls(gateway, given.model, given.run, given.host),
        "units": [unit(name) for name in UNITS],
        "readiness": http_call(gateway, "GET", "/health/readiness", {}),
        "ping": run("/usr/local/bin/litellm-db", "ping"),
        "versions": run(PYTHON, "-c", VERSIONS),
        "systemd": run("systemctl", "--version"),
        "os": platform.freedesktop_os_release().get("PRETTY_NAME"),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
