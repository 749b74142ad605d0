"""What the tests against deployed hosts share: the inventory's hosts and values, and the rows of the request log.

    pytest tests/testinfra --ansible-inventory inventory/lab          (or ANSIBLE_INVENTORY=inventory/lab)

A test that wants one particular machine takes ``gateway`` or ``database``. A test that takes ``host`` runs on each
host that its module names in ``testinfra_hosts = ["ansible://postgresql"]`` (groups or hosts), and on every host of
the product where the module names none. Tests that need the providers' double, or that stop and start services, are
skipped in inventories without an ``upstream`` group: nothing here disturbs production.
"""

import json
import os
import ssl
import time
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from testinfra.backend.base import CommandResult
from testinfra.host import Host

import testinfra

ROOT = Path(__file__).resolve().parents[2]
PRODUCT_GROUPS = ("postgresql", "litellm")
MISSING = object()


class Inventory:
    """An Ansible inventory with the repository's group_vars, and the fastest connection to each of its hosts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loader = DataLoader()
        self._loader.set_basedir(str(ROOT))
        self._manager = InventoryManager(loader=self._loader, sources=[str(path)])
        self._variables = VariableManager(loader=self._loader, inventory=self._manager)
        self._hosts: dict[str, Host] = {}

    def names(self, pattern: str) -> list[str]:
        """The hosts of a group, or the host of that name."""
        return [host.name for host in self._manager.get_hosts(pattern.removeprefix("ansible://"))]

    def value(self, host: str, name: str, default: Any = MISSING) -> Any:
        """A variable as a play would see it; facts and role defaults are not known here."""
        variables = self._variables.get_vars(host=self._manager.get_host(host), include_hostvars=True)
        if name not in variables:
            if default is MISSING:
                pytest.fail(f"{self.path} does not set {name} for {host}")
            return default
        return Templar(loader=self._loader, variables=variables).template(variables[name])

    def address(self, host: str) -> str:
        """The address at which other machines reach a host."""
        return str(self.value(host, "address", None) or self.value(host, "ansible_host", host))

    def connect(self, host: str) -> Host:
        """Commands on a host, as root; podman is called directly, since an Ansible run a command is slow."""
        if host not in self._hosts:
            self._hosts[host] = self._connect(host)
        return self._hosts[host]

    def _connect(self, host: str) -> Host:
        connection = self.value(host, "ansible_connection", "ssh")
        if connection in ("lab_host", "containers.podman.podman"):
            return testinfra.get_host(f"podman://{self.value(host, 'ansible_host', host)}")
        if connection in ("local", "ansible.builtin.local"):
            return testinfra.get_host("local://", sudo=os.geteuid() != 0)
        os.environ.setdefault("ANSIBLE_BECOME", "true")
        return testinfra.get_host(f"ansible://{host}", ansible_inventory=str(self.path))


@cache
def _inventory(path: Path) -> Inventory:
    return Inventory(path)


def _configured_inventory(config: pytest.Config) -> Inventory:
    given = config.getoption("ansible_inventory") or os.environ.get("ANSIBLE_INVENTORY")
    if not given:
        raise pytest.UsageError("name the hosts to test: --ansible-inventory inventory/lab, or ANSIBLE_INVENTORY")
    candidates = [Path(given), config.invocation_params.dir / given, ROOT / given]
    for path in candidates:
        if path.exists():
            return _inventory(path.resolve())
    raise pytest.UsageError(f"there is no inventory {given}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks of these tests, and call podman as the lab needs it."""
    os.environ["PATH"] = os.pathsep.join([str(ROOT / "lab" / "bin"), os.environ["PATH"]])
    config.addinivalue_line("markers", "acceptance(id): proves an acceptance criterion of docs/acceptance.md")
    config.addinivalue_line("markers", "disruptive: stops or restarts services; runs in inventories with a double")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``host`` on each host that its module names."""
    if "host" not in metafunc.fixturenames:
        return
    inventory = _configured_inventory(metafunc.config)
    patterns = getattr(metafunc.module, "testinfra_hosts", PRODUCT_GROUPS)
    names = sorted({name for pattern in patterns for name in inventory.names(pattern)})
    metafunc.parametrize("host", names, indirect=True, scope="module")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave services alone where real users may depend on them."""
    if item.get_closest_marker("disruptive") and not _configured_inventory(item.config).names("upstream"):
        pytest.skip("stops services: only in inventories with a double of the providers")


@pytest.fixture(scope="session")
def inventory(pytestconfig: pytest.Config) -> Inventory:
    """The inventory under test."""
    return _configured_inventory(pytestconfig)


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, inventory: Inventory) -> Host:
    """One of the hosts that the module names; see pytest_generate_tests."""
    return inventory.connect(request.param)


@pytest.fixture(scope="session")
def gateway_name(inventory: Inventory) -> str:
    """The inventory's name of the first gateway."""
    return inventory.names("litellm")[0]


@pytest.fixture(scope="session")
def database_name(inventory: Inventory) -> str:
    """The inventory's name of the database host."""
    return inventory.names("postgresql")[0]


@pytest.fixture(scope="session")
def gateway(inventory: Inventory, gateway_name: str) -> Host:
    """The first gateway."""
    return inventory.connect(gateway_name)


@pytest.fixture(scope="session")
def database(inventory: Inventory, database_name: str) -> Host:
    """The database host."""
    return inventory.connect(database_name)


@pytest.fixture(scope="session")
def gateway_url(inventory: Inventory, gateway_name: str) -> str:
    """Where clients reach the gateway."""
    return str(inventory.value(gateway_name, "gateway_url"))


@pytest.fixture(scope="session")
def gateway_tls(inventory: Inventory, gateway_name: str) -> ssl.SSLContext | bool:
    """What clients check the gateway's certificate against, as httpx takes it."""
    if not inventory.value(gateway_name, "gateway_tls"):
        return True
    return ssl.create_default_context(cafile=str(inventory.value(gateway_name, "gateway_ca")))


@pytest.fixture(scope="session")
def master_key(inventory: Inventory, gateway_name: str) -> str:
    """The gateway's master key."""
    return str(inventory.value(gateway_name, "litellm_master_key"))


@pytest.fixture(scope="session")
def upstream_url(inventory: Inventory) -> str:
    """Where the double of the providers listens; its tests are skipped in inventories without one."""
    names = inventory.names("upstream")
    if not names:
        pytest.skip("this inventory has no double of the providers (group upstream)")
    return f"http://{inventory.address(names[0])}:8080"


@dataclass(frozen=True)
class Pair:
    """A row of ``requests`` with its row of ``responses``, as dictionaries of their columns; None where missing."""

    request: dict[str, Any] | None
    response: dict[str, Any] | None

    @property
    def content(self) -> dict[str, Any]:
        """The response's document."""
        assert self.response is not None, "a request without a response"
        return dict(self.response["content"])

    @property
    def text(self) -> str:
        """Everything that was stored of the exchange, as one text."""
        return json.dumps([self.request, self.response], ensure_ascii=False, default=str)


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


class RequestLog:
    """Reads the request log on the database host itself, as postgres: pg_hba.conf admits nobody but the gateways."""

    PATIENCE = 40.0
    """Seconds for a pair to arrive: longer than the gateway waits for LiteLLM to say what a call cost."""

    def __init__(self, database: Host, name: str) -> None:
        self._database = database
        self._name = name
        self.expected: Counter[str] = Counter()

    def run(self, sql: str) -> CommandResult:
        """Statements in one transaction, as psql answers them."""
        with self._database.sudo("postgres"):
            return self._database.run(
                "psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname=%s --command=%s",
                self._name,
                sql,
            )

    def query(self, sql: str) -> list[Any]:
        """The rows of a query that gives one JSON value a row; numbers with a point come as Decimal.

        They come as base64, since psql drops some characters that are rightly stored (U+10FFFF).
        """
        packed = f"SELECT translate(encode(convert_to(v::text, 'UTF8'), 'base64'), E'\\n', '') FROM ({sql}) AS rows(v)"
        result = self.run(packed)
        assert result.succeeded, result.stderr
        return [json.loads(b64decode(line), parse_float=Decimal) for line in result.stdout.splitlines()]

    def pairs(self, condition: str) -> list[Pair]:
        """The pairs of the last two hours whose request (q) and response (p) meet an SQL condition, oldest first."""
        rows = self.query(
            "SELECT jsonb_build_object('request', to_jsonb(q), 'response', to_jsonb(p))"
            " FROM requests q FULL JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
            " WHERE coalesce(q.created_at, p.created_at) > now() - interval '2 hours'"
            f" AND ({condition}) ORDER BY coalesce(q.created_at, p.created_at), q.id"
        )
        return [Pair(**row) for row in rows]

    def rows_for(self, call_id: str, count: int = 1, patience: float = PATIENCE) -> list[Pair]:
        """The pairs of a call id, as soon as there are ``count`` of them; fails where there are more or fewer."""
        self.expected[call_id] = count
        condition = f"q.request_id = {quoted(call_id)}"
        deadline = time.monotonic() + patience
        while True:
            found = self.pairs(condition)
            if len(found) >= count or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        assert len(found) == count, f"{len(found)} rows, not {count}, for the call {call_id} after {patience} s"
        return found

    def pair_for(self, call_id: str) -> Pair:
        """The one pair of a call id."""
        (pair,) = self.rows_for(call_id)
        assert pair.request is not None
        assert pair.response is not None, f"call {call_id}: a request without a response"
        return pair


@pytest.fixture(scope="session")
def request_log(database: Host) -> RequestLog:
    """The request log in PostgreSQL."""
    return RequestLog(database, "litellm_db")
