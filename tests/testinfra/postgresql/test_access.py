"""Who comes in, and from where: the service, from a gateway, by SCRAM-SHA-256. Everybody else is turned away.

The request log holds people's prompts. Each refusal is asked of the running server from a real machine with its real
address, since a pg_hba.conf that reads well may still not be the one in force. "no pg_hba.conf entry" comes before any
question for a password: who is told that cannot even guess.
"""

from typing import Any

import pytest

SECRETS = "/etc/litellm/litellm.env"
WRONG_PASSWORD = "28P01"
NOT_ADMITTED = "28000"
SCRAM = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]  # the first is bound to the TLS channel


def assert_no_entry(answer: Any) -> None:
    """The server has no line for this client, and did not ask it for anything."""
    assert not answer.admitted
    assert answer.sqlstate == NOT_ADMITTED
    assert answer.message.startswith("no pg_hba.conf entry for ")
    assert answer.mechanisms == []


@pytest.mark.acceptance("AC-2")
def test_service_comes_in_from_the_gateway_by_scram(connect: Any, gateway_name: str) -> None:
    """With the credentials that the gateway really has; SCRAM is all that the server offers."""
    answer = connect(gateway_name, url_file=SECRETS, queries=["SELECT current_user, current_database()"])
    assert answer.admitted, answer.message
    assert answer.mechanisms == SCRAM
    assert answer.answers[0]["rows"] == [["litellm_user", "litellm_db"]]


@pytest.mark.parametrize("password", ["wrong", "", "litellm_user"], ids=["wrong", "empty", "the-name"])
def test_wrong_password_is_refused(connect: Any, gateway_name: str, password: str) -> None:
    answer = connect(gateway_name, url_file=SECRETS, password=password)
    assert not answer.admitted
    assert answer.sqlstate == WRONG_PASSWORD
    assert answer.mechanisms == SCRAM


@pytest.mark.parametrize("database", ["postgres", "template1", "litellm_user"])
def test_another_database_is_refused(connect: Any, gateway_name: str, database: str) -> None:
    """Even with the right password."""
    assert_no_entry(connect(gateway_name, url_file=SECRETS, database=database))


@pytest.mark.parametrize("user", ["postgres", "litellm_owner", "nobody"])
def test_another_role_is_refused_over_the_network(connect: Any, gateway_name: str, user: str) -> None:
    """Superuser and owner come in through the local socket alone; a role that does not exist looks the same."""
    assert_no_entry(connect(gateway_name, url_file=SECRETS, user=user))


def test_replication_is_refused(connect: Any, gateway_name: str) -> None:
    """A replication connection could copy every file of the server."""
    assert_no_entry(connect(gateway_name, url_file=SECRETS, replication=True))


def test_connection_from_another_host_is_refused(connect: Any, inventory: Any) -> None:
    """From a neighbour of the gateway in the same network: the address counts, not the network."""
    neighbours = inventory.names("upstream")
    if not neighbours:
        pytest.skip("this inventory has no third machine to connect from (group upstream)")
    assert_no_entry(connect(neighbours[0], password="anything"))


def test_connection_from_the_controller_is_refused(connect: Any, inventory: Any, database_name: str) -> None:
    """Ansible's own machine is no exception: it administers through the host, not through PostgreSQL."""
    if not inventory.names("upstream"):
        pytest.skip("only in the lab: elsewhere a firewall may be what answers the controller")
    assert_no_entry(connect(None, password="anything"))


def test_connection_from_the_database_host_itself_is_refused(
    connect: Any, database_name: str, gateway_name: str
) -> None:
    """Whoever has a shell there has not thereby the service's rights."""
    if database_name == gateway_name:
        pytest.skip("gateway and database share this host")
    assert_no_entry(connect(database_name, password="anything"))
    assert_no_entry(connect(database_name, host="127.0.0.1", password="anything"))


@pytest.mark.parametrize("user", ["postgres", "litellm_owner"])
def test_local_socket_admits_nobody_but_the_user_postgres(database: Any, user: str) -> None:
    """root is no exception; it can become postgres, and then the server's log says so."""
    for system_user in ("nobody", "root"):
        done = database.run("cd / && runuser -u %s -- psql -w -U %s -c 'SELECT 1' litellm_db", system_user, user)
        assert done.rc != 0
        assert f'Peer authentication failed for user "{user}"' in done.stderr


def test_local_socket_does_not_admit_the_service(database: Any) -> None:
    """Not even as postgres: the service has one way in."""
    done = database.run("cd / && runuser -u postgres -- psql -w -U litellm_user -c 'SELECT 1' litellm_db")
    assert done.rc != 0
    assert "no pg_hba.conf entry for host" in done.stderr


def test_owner_comes_in_from_the_local_socket_to_its_database_only(database: Any) -> None:
    command = "cd / && runuser -u postgres -- psql -w -At -U litellm_owner -c 'SELECT current_user' %s"
    assert database.check_output(command, "litellm_db") == "litellm_owner"
    assert "no pg_hba.conf entry for host" in database.run(command, "postgres").stderr


def test_rules_in_force_are_scram_or_peer(sql: Any) -> None:
    """And those on the disk are those in force: no line with a mistake, none that waits for a reload."""
    assert sql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == [["0"]]
    assert sql("SELECT count(*) FROM pg_ident_file_mappings WHERE error IS NOT NULL") == [["0"]]
    assert sql(
        "SELECT count(*) FROM pg_hba_file_rules"
        " WHERE auth_method NOT IN ('scram-sha-256', 'cert', 'reject')"
        " AND NOT (type = 'local' AND auth_method = 'peer')"
    ) == [["0"]]
    assert sql(
        "SELECT pg_conf_load_time() >= max((pg_stat_file(path)).modification) FROM"
        " unnest(ARRAY[current_setting('hba_file'), current_setting('ident_file')]) AS path"
    ) == [["t"]]
