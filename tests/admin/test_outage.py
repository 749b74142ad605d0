"""PostgreSQL is away, and comes back: what still works, what is refused and how, and how soon all of it works again.

The gateway is never restarted: the last test sees to it. tests/admin/test_workers.py has the same with
`allow_requests_on_db_unavailable`. Each figure that the runbook gives is printed by these tests (pytest -s).
"""

import time
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from faults.inventory import Lab
from faults.machine import Machine
from management import Callers, Management, RefusedError, eventually, refusal

Make = Callable[..., str]

STOP, START = "systemctl stop postgresql@17-main", "systemctl start postgresql@17-main"
REFUSAL_BAR = 10.0
"""Seconds within which a call that cannot be checked is refused."""
RECOVERY_BAR = 10.0
"""Seconds from PostgreSQL's start to the first call with a key that is in no worker's memory."""


@pytest.fixture(scope="module", autouse=True)
def one_process(gateway_host: Machine) -> Iterator[None]:
    """The gateway's process is the same after all of this."""
    before = gateway_host.run("systemctl show --value --property=MainPID,NRestarts litellm-gateway")
    yield
    assert gateway_host.run("systemctl show --value --property=MainPID,NRestarts litellm-gateway") == before


def seconds(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def test_outage_and_recovery(
    admin: Management, callers: Callers, new_key: Make, lab: Lab, database_host: Machine
) -> None:
    known, unknown, later = new_key(), new_key(), new_key()
    before = float(callers.chat(known).headers["x-litellm-response-cost"])
    database_host.run(STOP)
    try:
        # A key that a worker has seen within the last minute goes on, and so does the master key.
        during = float(callers.chat(known).headers["x-litellm-response-cost"])
        assert callers.admitted(lab.master_key)

        # A key that nobody can look up is refused as what it is: the database's fault, not the key's.
        begun = time.monotonic()
        with pytest.raises(openai.InternalServerError) as caught:
            callers.chat(unknown)
        refused_after = time.monotonic() - begun
        assert caught.value.status_code == 503
        assert refused_after < REFUSAL_BAR

        with pytest.raises(RefusedError) as management_caught:
            admin.post("/key/generate")
        assert management_caught.value.status in (500, 503)
        # LiteLLM looks again when what it last saw is 15 s old.
        eventually(
            lambda: httpx.get(f"{lab.gateway_url}/health/readiness", timeout=30, trust_env=False).status_code == 503,
            "readiness tells of the outage",
            patience=25,
        )
    finally:
        database_host.run(START)
    recovered_after = seconds(
        lambda: eventually(lambda: callers.admitted(later), "a key is looked up again", patience=60, pause=0.1)
    )
    print(f"\nrefused after {refused_after:.2f} s; recovered {recovered_after:.2f} s after PostgreSQL was started")
    assert recovered_after < RECOVERY_BAR
    assert callers.admitted(unknown)
    assert admin.post("/key/generate")["key"]
    eventually(
        lambda: httpx.get(f"{lab.gateway_url}/health/readiness", trust_env=False).json()["db"] == "connected",
        "readiness is back",
    )
    # What was spent while the database was away is not lost.
    eventually(
        lambda: admin.get("/key/info", key=known)["info"]["spend"] == pytest.approx(before + during, rel=1e-9),
        "the spend of the outage is written",
        patience=60,
    )


def test_restart_of_postgresql_is_not_noticed(
    callers: Callers, admin: Management, new_key: Make, database_host: Machine
) -> None:
    keys = [new_key() for _ in range(3)]
    database_host.run("systemctl restart postgresql@17-main")
    for key in keys:
        assert callers.admitted(key)
    assert admin.get("/key/list")["keys"]


def test_network_that_swallows_packets_is_noticed(
    callers: Callers, new_key: Make, lab: Lab, database_host: Machine
) -> None:
    unknown, later = new_key(), new_key()
    with database_host.cut_from(lab.addresses["litellm"]):
        begun = time.monotonic()
        status, _, _ = refusal(lambda: callers.chat(unknown))
        refused_after = time.monotonic() - begun
        assert callers.admitted(lab.master_key)
    recovered_after = seconds(
        lambda: eventually(lambda: callers.admitted(later), "a key is looked up again", patience=90, pause=0.1)
    )
    print(f"\nrefused after {refused_after:.2f} s; recovered {recovered_after:.2f} s after the network was back")
    assert status == 503
    assert recovered_after < RECOVERY_BAR
