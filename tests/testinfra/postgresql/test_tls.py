"""TLS between the gateway and PostgreSQL: nothing goes in clear, and each end knows the other.

The certificate is asked of the running server, since a file that was written and never loaded protects nobody; and what
a client refuses is tried with the service's own engine and its own settings, one of them changed.
"""

import time
from typing import Any

import pytest

SECRETS = "/etc/litellm/litellm.env"
FILES = "/etc/ssl/litellm"
SERVER = f"{FILES}/postgresql"

PATIENCE = 75.0
"""Seconds. The shipper looks at the database once a minute, were there nothing to ship after its last restart."""


def test_service_uses_the_newest_tls_and_checks_the_server(as_client: Any) -> None:
    answer = as_client()
    assert answer["error"] == ""
    assert answer["tls"] == "TLSv1.3"
    assert answer["parameters"]["sslmode"] == "verify-full"
    assert answer["parameters"]["sslrootcert"] == f"{FILES}/postgresql-ca.crt"


def test_every_session_from_the_network_is_encrypted(sql: Any) -> None:
    """Those of the shipper and, where LiteLLM has its own database, those of the gateway's workers."""
    end = time.monotonic() + PATIENCE
    while True:
        sessions = sql(
            "SELECT application_name, ssl, version FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
            " WHERE client_addr IS NOT NULL AND usename = 'litellm_user'"
        )
        if {name for name, _, _ in sessions} >= {"litellm-request-log", "litellm"}:
            break
        assert time.monotonic() < end, f"only {sessions} came within {PATIENCE} s"
        time.sleep(1)
    assert {tuple(tls) for _, *tls in sessions} == {("t", "TLSv1.3")}


def test_gateway_checks_the_server(gateway: Any) -> None:
    """Its connections are made by another library than the shipper's; both read these variables of libpq's."""
    process = gateway.check_output("systemctl show --property=MainPID --value litellm-gateway")
    variables = gateway.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()
    assert {"PGSSLMODE=verify-full", f"PGSSLROOTCERT={FILES}/postgresql-ca.crt"} <= set(variables)


def test_connection_in_clear_is_refused(connect: Any, gateway_name: str) -> None:
    """From the gateway, with the right password: before the server asks for it."""
    answer = connect(gateway_name, url_file=SECRETS, clear=True)
    assert not answer.admitted
    assert answer.message.startswith("no pg_hba.conf entry for ")
    assert answer.message.endswith("no encryption")
    assert answer.mechanisms == []


@pytest.mark.parametrize(("newest", "used"), [("TLSv1_3", "TLSv1.3"), ("TLSv1_2", "TLSv1.2")])
def test_tls_1_2_and_1_3_are_accepted(connect: Any, gateway_name: str, newest: str, used: str) -> None:
    answer = connect(gateway_name, url_file=SECRETS, newest_tls=newest)
    assert answer.admitted, answer.message
    assert answer.tls["version"] == used


@pytest.mark.parametrize("newest", ["TLSv1_1", "TLSv1"])
def test_older_tls_is_refused_by_the_server(connect: Any, gateway_name: str, newest: str) -> None:
    """An alert is the server's word; a client whose own library refuses would name no alert."""
    answer = connect(gateway_name, url_file=SECRETS, newest_tls=newest)
    assert not answer.admitted
    assert answer.message == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_server_with_a_certificate_of_another_authority_is_refused(as_client: Any, gateway: Any) -> None:
    folder = gateway.check_output("mktemp -d")
    try:
        gateway.check_output(
            f"cd {folder} && chmod 755 . && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            " -keyout ca.key -out ca.crt -days 2 -subj '/CN=LiteLLM internal authority' && chmod 644 ca.crt"
        )
        assert "certificate verify failed" in as_client(sslrootcert=f"{folder}/ca.crt")["error"]
    finally:
        gateway.check_output("rm -r %s", folder)


def test_server_under_another_name_is_refused(as_client: Any, server_address: Any) -> None:
    """Whoever answers in its place has a certificate of the same authority, but for another host."""
    answer = as_client(host="elsewhere.example", hostaddr=server_address["host"])
    assert "does not match host name" in answer["error"]


def test_certificate_is_for_every_name_of_the_host(database: Any, inventory: Any, database_name: str) -> None:
    shown = database.check_output("openssl x509 -in %s.crt -noout -ext subjectAltName", SERVER)
    held = {part.strip().partition(":")[2] for part in shown.splitlines()[1].split(",")}
    assert held == {inventory.address(database_name), database_name, "localhost", "127.0.0.1"}


def test_certificate_is_in_use_and_of_our_authority(database: Any, connect: Any, gateway_name: str) -> None:
    answer = connect(gateway_name, url_file=SECRETS)
    fingerprint = database.check_output("openssl x509 -in %s.crt -noout -fingerprint -sha256", SERVER)
    assert answer.tls["certificate"] == fingerprint.partition("=")[2].replace(":", "").lower()
    database.check_output("openssl verify -purpose sslserver -CAfile %s-ca.crt %s.crt", SERVER, SERVER)


def test_key_belongs_to_the_host_and_is_closed_to_others(
    database: Any, gateway: Any, database_name: str, gateway_name: str
) -> None:
    key = database.file(f"{SERVER}.key")
    assert (key.user, key.group, key.mode) == ("root", "postgres", 0o640)
    assert database.check_output("openssl pkey -in %s.key -pubout", SERVER) == database.check_output(
        "openssl x509 -in %s.crt -noout -pubkey", SERVER
    )
    if database_name != gateway_name:
        assert not gateway.file(f"{SERVER}.key").exists
        assert not gateway.file(f"{SERVER}.crt").exists


def test_key_of_the_authority_is_on_no_host(gateway: Any, database: Any) -> None:
    """The hosts' own keys are not encrypted, that of the authority is; the search finds the former."""
    search = "grep -rIls -e '-----BEGIN %s' /etc /root /home /tmp /var/lib /opt/litellm --exclude-dir=site-packages"
    assert f"{SERVER}.key" in database.run(search % "PRIVATE KEY").stdout.split()
    for host in (database, gateway):
        assert host.run(search % "ENCRYPTED PRIVATE KEY").stdout == ""
        assert host.run("find / -xdev -name ca.key").stdout == ""
