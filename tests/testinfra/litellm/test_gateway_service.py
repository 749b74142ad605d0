"""The gateway's host: services that run as they should, with no more rights and no more software than they need."""

import json
import re
import shlex
from typing import Any

import httpx
import pytest

UNITS = ("litellm-gateway", "litellm-shipper")
VENV = "/opt/litellm/venv"
OK_EXPOSURE = 4.9  # systemd-analyze calls up to this "OK" or better

# Run with the environment of the service, as its user.
POOL = """
import json
from sqlalchemy import text
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.settings import get_settings

engine = make_engine(get_settings())
with engine.connect() as connection:
    version, user, database = connection.execute(
        text("SELECT current_setting('server_version_num')::int, current_user, current_database()")
    ).one()
    parameters = connection.connection.dbapi_connection.get_dsn_parameters()
pool = engine.pool
print(json.dumps({
    "version": version, "user": user, "database": database, "auth": parameters.get("require_auth"),
    "timeout": parameters.get("connect_timeout"), "class": type(pool).__name__, "size": pool.size(),
    "overflow": pool._max_overflow, "recycle": pool._recycle, "pre_ping": pool._pre_ping,
}))
"""


def properties(gateway: Any, unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit as systemd has them."""
    lines = gateway.check_output("systemctl show %s --property=%s", unit, ",".join(names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def as_service(gateway: Any, code: str) -> Any:
    """What Python code prints as JSON, run as the service's user with the service's environment."""
    environment = "set -a; . /etc/litellm/settings.env; . /etc/litellm/litellm.env"
    script = f"{environment}; exec {VENV}/bin/python -c {shlex.quote(code)}"
    return json.loads(gateway.check_output("runuser -u litellm -- sh -c %s", script))


@pytest.mark.acceptance("AC-1")
@pytest.mark.parametrize("unit", UNITS)
def test_service_is_enabled_and_runs(gateway: Any, unit: str) -> None:
    service = gateway.service(unit)
    assert service.is_enabled
    assert service.is_running
    shown = properties(gateway, unit, "LoadState", "SubState", "Restart", "FragmentPath")
    assert (shown["LoadState"], shown["SubState"], shown["Restart"]) == ("loaded", "running", "always")
    assert shown["FragmentPath"] == f"/etc/systemd/system/{unit}.service"


@pytest.mark.acceptance("AC-1")
def test_gateway_answers(gateway: Any, http: httpx.Client, gateway_url: str) -> None:
    assert gateway.socket(f"tcp://0.0.0.0:{gateway_url.rsplit(':', 1)[1]}").is_listening
    assert http.get("/health/readiness").status_code == 200


@pytest.mark.parametrize("unit", UNITS)
def test_service_runs_unprivileged(gateway: Any, unit: str) -> None:
    main = properties(gateway, unit, "MainPID")["MainPID"]
    assert int(main) > 1
    status = dict(line.split(":", 1) for line in gateway.file(f"/proc/{main}/status").content_string.splitlines())
    user = gateway.user("litellm")
    assert user.uid > 0
    assert set(status["Uid"].split()) == {str(user.uid)}
    assert set(status["Gid"].split()) == {str(user.gid)}
    assert status["NoNewPrivs"].strip() == "1"
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0, capabilities
    assert status["Seccomp"].strip() == "2"


def test_user_of_the_service_cannot_log_in(gateway: Any) -> None:
    user = gateway.user("litellm")
    assert user.shell.endswith("/nologin")
    assert user.groups == ["litellm"]


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_hardened(gateway: Any, unit: str) -> None:
    verdict = gateway.check_output("systemd-analyze security --no-pager %s", f"{unit}.service")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", verdict)
    assert exposure, verdict
    assert float(exposure.group(1)) <= OK_EXPOSURE


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/etc/litellm", "root", "litellm", 0o750),
        ("/etc/litellm/config.yaml", "root", "litellm", 0o640),
        ("/etc/litellm/litellm.env", "root", "litellm", 0o640),
        ("/etc/litellm/settings.env", "root", "litellm", 0o640),
        ("/opt/litellm/lib/db_init.py", "root", "root", None),
        ("/opt/litellm/lib/litellm_sqlalchemy/models.py", "root", "root", 0o644),
        ("/var/lib/litellm", "litellm", "litellm", 0o750),
        ("/var/lib/litellm/spool.sqlite3", "litellm", "litellm", 0o600),
    ],
)
def test_file_belongs_to_whom_it_should(gateway: Any, path: str, owner: str, group: str, mode: int | None) -> None:
    file = gateway.file(path)
    assert file.exists
    assert (file.user, file.group) == (owner, group)
    assert mode is None or oct(file.mode) == oct(mode)


def test_service_can_write_to_its_state_only(gateway: Any) -> None:
    """Neither its own programs nor its configuration."""
    writable = gateway.check_output(
        "find /etc/litellm /opt/litellm -not -type l \\( -user litellm -o -perm -o+w -o -group litellm -perm -g+w \\)"
    )
    assert gateway.file("/opt/litellm/lib").is_directory
    assert writable == ""


@pytest.mark.acceptance("AC-2")
def test_database_is_reached_over_scram_through_the_pool(gateway: Any) -> None:
    shown = as_service(gateway, POOL)
    assert shown["version"] >= 170_000
    assert (shown["user"], shown["database"]) == ("litellm_user", "litellm_db")
    assert shown["auth"] == "scram-sha-256", "the client would accept a weaker way to prove its password"
    assert (shown["class"], shown["size"], shown["overflow"]) == ("QueuePool", 5, 5)
    assert (shown["recycle"], shown["pre_ping"], shown["timeout"]) == (1800, True, "30")


@pytest.mark.acceptance("AC-2")
def test_shipper_is_connected_to_the_database(request_log: Any) -> None:
    sessions = request_log.query(
        "SELECT jsonb_build_object('user', usename, 'name', application_name, 'address', client_addr)"
        " FROM pg_stat_activity WHERE datname = 'litellm_db' AND usename = 'litellm_user'"
    )
    assert sessions
    assert all(session["name"] for session in sessions)
    (verifier,) = request_log.query(
        "SELECT to_jsonb(left(rolpassword, 14)) FROM pg_authid WHERE rolname = 'litellm_user'"
    )
    assert verifier == "SCRAM-SHA-256$"


def test_services_have_nothing_to_complain_about(gateway: Any) -> None:
    """Tracebacks in the gateway's journal are LiteLLM's way to report refused calls; the shipper has no excuse."""
    since = properties(gateway, "litellm-shipper", "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"]
    assert int(since) > 0
    journal = gateway.check_output("journalctl --unit=litellm-shipper --no-pager --output=cat --boot")
    assert journal
    assert "Traceback" not in journal
    assert "was not spooled" not in gateway.check_output("journalctl --unit=litellm-gateway --no-pager --output=cat")
