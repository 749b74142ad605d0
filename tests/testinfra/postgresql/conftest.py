"""What the tests of the database host share: SQL as its superuser, and connections from any machine."""

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CLIENT = (Path(__file__).parent / "wire_client.py").read_text(encoding="utf-8")
ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT_FILE = "/etc/litellm/litellm.env"


# Run on a gateway as the service; the argument changes parameters of its URL.
SERVICE = """
import json, sys
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.settings import Settings, get_settings

url, changes = make_url(get_settings().require_url()), json.loads(sys.argv[1])
url = url.set(host=changes.pop("host", url.host)).update_query_dict(changes)
engine = make_engine(Settings(url=url.render_as_string(hide_password=False)))
try:
    with engine.connect() as connection:
        used = connection.execute(text("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar_one()
        parameters = connection.connection.dbapi_connection.get_dsn_parameters()
    print(json.dumps({"tls": used, "parameters": parameters, "error": ""}))
except OperationalError as error:
    print(json.dumps({"tls": None, "error": str(error.orig)}))
"""


@dataclass(frozen=True)
class Answer:
    """What the server answered a client: whether it came in, which proofs it was offered, and what its queries gave.

    ``tls`` has the version and the SHA-256 of the server's certificate; None in clear.
    """

    admitted: bool
    mechanisms: list[str]
    sqlstate: str = ""
    message: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    tls: dict[str, str] | None = None


@dataclass(frozen=True)
class Run:
    """How a run of the playbook ended, and what it said, in one line."""

    succeeded: bool
    said: str


Connect = Callable[..., Answer]
Deploy = Callable[..., Run]


@pytest.fixture(scope="session")
def server_address(inventory: Any, database_name: str) -> dict[str, Any]:
    """Where other machines reach the server."""
    return {
        "host": inventory.address(database_name),
        "port": int(inventory.value(database_name, "postgresql_port", 5432)),
    }


@pytest.fixture(scope="session")
def connect(inventory: Any, server_address: dict[str, Any]) -> Connect:
    """Connect from a host of the inventory, or from the controller (None), as whomever; the service unless said."""

    def connect(machine: str | None, **wanted: Any) -> Answer:
        service = {**server_address, "user": "litellm_user", "database": "litellm_db"}
        parameters = json.dumps({**({} if "url_file" in wanted else service), **wanted})
        if machine is None:
            argv = [sys.executable, "-c", CLIENT, parameters]
            out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        else:
            out = inventory.connect(machine).check_output("python3 -c %s %s", CLIENT, parameters)
        return Answer(**json.loads(out))

    return connect


@pytest.fixture(scope="session")
def as_service(connect: Connect, gateway_name: str) -> Callable[..., list[dict[str, Any]]]:
    """What queries give in a session of the service itself: on the gateway, with its own credentials."""

    def as_service(*queries: str) -> list[dict[str, Any]]:
        answer = connect(gateway_name, url_file=ENVIRONMENT_FILE, queries=list(queries))
        assert answer.admitted, answer.message
        return answer.answers

    return as_service


@pytest.fixture(scope="session")
def sql(database: Any) -> Callable[..., list[list[str]]]:
    """The rows of a query of the superuser, over the local socket, as texts."""

    def sql(query: str, name: str = "litellm_db") -> list[list[str]]:
        with database.sudo("postgres"):
            out = database.check_output(
                "psql --no-psqlrc --quiet --csv --tuples-only --set=ON_ERROR_STOP=1 --dbname=%s --command=%s",
                name,
                query,
            )
        return list(csv.reader(out.splitlines()))

    return sql


@pytest.fixture(scope="session")
def configuration(database: Any) -> str:
    """The folder of the cluster's configuration files."""
    return str(database.check_output("ls -d /etc/postgresql/*/main")).strip()


@pytest.fixture(scope="module")
def deploy(inventory: Any, database_name: str) -> Iterator[Deploy]:
    """Run site.yml for the database host with extra variables; at the end once more without."""
    given: list[dict[str, Any]] = [{}]

    def deploy(**variables: Any) -> Run:
        given.append(variables)
        command = ["playbook", "site.yml", "--limit", database_name, "--inventory", str(inventory.path)]
        done = subprocess.run(
            [sys.executable, "-m", "ansible", *command, "--extra-vars", json.dumps(variables)],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        return Run(done.returncode == 0, " ".join((done.stdout + done.stderr).split()))

    yield deploy
    if given[-1]:
        restored = deploy()
        assert restored.succeeded, restored.said


@pytest.fixture
def started(sql: Any) -> Callable[[], str]:
    """When the server was started."""

    def started() -> str:
        ((moment,),) = sql("SELECT pg_postmaster_start_time()")
        return str(moment)

    return started


@pytest.fixture(scope="module")
def as_client(gateway: Any) -> Any:
    """Connect as the service does, with changed parameters; its TLS version, or why it would not."""

    def as_client(**changes: str) -> dict[str, Any]:
        environment = f"set -a; . /etc/litellm/settings.env; . {ENVIRONMENT_FILE}"
        python = f"exec /opt/litellm/venv/bin/python -c {shlex.quote(SERVICE)} {shlex.quote(json.dumps(changes))}"
        answer: dict[str, Any] = json.loads(
            gateway.check_output("runuser -u litellm -- sh -c %s", f"{environment}; {python}")
        )
        return answer

    return as_client
