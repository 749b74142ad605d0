"""Every mistake that preflight knows, and the sentence it is reported with.

Each case is a whole inventory on disk with one mistake in it, read by Ansible's own engine through the role's own
variables and expressions; only the run itself is left out (test_preflight_run.py has that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_engine import FACTS, PROJECT, Deployment

SECRETS = {
    "database_password": "Pq7rTn2vXw9yZb4cDf6g",
    "litellm_master_key": "sk-Hk3mNp5qRs8tVw2xYz4bCd6f",
    "litellm_salt_key": "sk-Zt8wBq3nLx6vRk1mJy5hGd9s",
    "litellm_ui_password": "Mf4kTz8pWc2xHv6b",
    "certificates_authority_passphrase": "Wd5hGk8jLm2nQp4rSt7v",
    "litellm_secrets": {"OPENAI_API_KEY": "a-real-key-1f9c27d3"},
}
CHAT = {"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o", "api_key": "os.environ/OPENAI_API_KEY"}}
HOSTS = {
    "postgresql": {"hosts": {"db1": {"ansible_host": "192.0.2.19"}}},
    "litellm": {"hosts": {"gateway1": {"ansible_host": "192.0.2.18"}}},
}
ONE_HOST = {group: {"hosts": {"one": {"ansible_host": "192.0.2.20"}}} for group in HOSTS}
MAIN, SECRET, HOST = "group_vars/all/main.yml", "group_vars/all/secrets.yml", "hosts.yml"

Report = Callable[..., list[str]]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Write an inventory with the changes (None takes a variable away) and return what preflight reports."""

    def report(
        changes: Mapping[str, Any] | None = None,
        hosts: Mapping[str, Any] = HOSTS,
        facts: Mapping[str, Any] | None = None,
        command_line: Mapping[str, Any] | None = None,
    ) -> list[str]:
        values = {"litellm_models": [CHAT], **SECRETS, **(changes or {})}
        kept = {name: value for name, value in values.items() if value is not None}
        folder = tmp_path / "example"
        (folder / "group_vars" / "all").mkdir(parents=True, exist_ok=True)
        (folder / HOST).write_text(yaml.safe_dump({"all": {"children": dict(hosts)}}))
        (folder / MAIN).write_text(yaml.safe_dump({name: kept[name] for name in kept if name not in SECRETS}))
        secrets = {name: kept[name] for name in SECRETS if name in kept}
        if secrets:
            (folder / SECRET).write_text(yaml.safe_dump(secrets))
        return reported(Deployment(folder, facts=facts or {}, extra=command_line or {}), "facts" if facts else "main")

    return report


def reported(deployment: Deployment, entry_point: str) -> list[str]:
    """Do what the tasks do: read every host by itself, put all of it together, and report."""
    tasks = PROJECT / "roles" / "preflight" / "tasks"
    load = deployment.loader.load_from_file
    read, together = load(str(tasks / "read.yml"), trusted_as_template=True)
    _, refuse = load(str(tasks / f"{entry_point}.yml"), trusted_as_template=True)
    hosts = [host.name for host in deployment.inventory.get_hosts()] or ["localhost"]
    sources = {"ansible_inventory_sources": [deployment.inventory._sources[0]], "ansible_play_hosts_all": hosts}
    for task, run_on in ((read, hosts), (together, hosts[:1])):
        for host in run_on:
            for name, value in task["ansible.builtin.set_fact"].items():
                found = deployment.evaluate("it", host, role="preflight", it=value, **sources)
                deployment.manager.set_nonpersistent_facts(host, {name: found})
    text = deployment.evaluate("_preflight_message", hosts[0], role="preflight", **refuse["vars"], **sources)
    return [line.removeprefix("- ") for line in text.splitlines()]


def test_inventory_without_mistakes_is_accepted(report: Report) -> None:
    assert report() == []
    assert report(facts=FACTS) == []


def test_one_host_for_both_is_accepted(report: Report) -> None:
    assert report(hosts=ONE_HOST) == []
    assert report(hosts=ONE_HOST, facts=FACTS) == []


@pytest.mark.parametrize("environment", ["production", "staging", "single"])
def test_environments_of_the_repository_lack_their_secrets_only(environment: str) -> None:
    found = reported(Deployment(environment, facts={}, extra={"litellm_secrets": {"OPENAI_API_KEY": "real"}}), "main")
    file = f"inventory/{environment}/group_vars/all/secrets.yml"
    assert found == [
        f"5 mistakes in inventory/{environment}, no host was touched:",
        *[
            f"{name} has no value in {file}: make one with `make secrets ENV={environment}`."
            for name in ("database_password", "litellm_master_key", "litellm_salt_key", "litellm_ui_password")
        ],
        f"certificates_authority_passphrase has no value in {file}: make one with `make secrets ENV={environment}`.",
    ]


def test_report_has_every_mistake_at_once(report: Report) -> None:
    found = report({"database_password": "changeme", "postgresql_version": 16, "litellm_models": [CHAT, CHAT]})
    assert found[0].startswith("3 mistakes in ")
    assert len(found) == 1 + 3


def test_mistake_that_hosts_share_is_reported_once(report: Report) -> None:
    gateways = {"hosts": {f"gateway{n}": {"ansible_host": f"192.0.2.{n}"} for n in (1, 2, 3)}}
    found = report({"litellm_models": []}, hosts={**HOSTS, "litellm": gateways})
    assert len(found) == 1 + 1


KEY = "sk-Hk3mNp5qRs8tVw2xYz4bCd6f"
VALUE = "sk-Wd7gNq2vLx9tRb4cZf6j"
IN_THE_OPEN = ["s3cr3t", "hunter2", "sk-abcd1234", VALUE]


def keys(*entries: dict[str, Any]) -> dict[str, Any]:
    """Virtual keys and their value."""
    return {"litellm_keys": list(entries), "litellm_key_values": {"ci": VALUE}}


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    # Secrets
    "no database password": ({"database_password": None}, "database_password has no value in ", SECRET),
    "an empty database password": ({"database_password": ""}, "database_password has no value in ", SECRET),
    "no master key": ({"litellm_master_key": None}, "litellm_master_key has no value in ", SECRET),
    "a default password": ({"database_password": "changeme"}, "well-known default or a placeholder", SECRET),
    "a long placeholder": ({"database_password": "please-change-me-1234567890"}, "or a placeholder", SECRET),
    "a short password": ({"database_password": "k3Jd8sL0qPz"}, "too short: use at least 16 random characters.", SECRET),
    "a dull password": ({"database_password": "abababababababababab"}, "database_password is easy to guess", SECRET),
    "a password of words": (
        {"database_password": "my-litellm-database-1"},
        "database_password is easy to guess",
        SECRET,
    ),
    "a password with a space": ({"database_password": "k3Jd8sL0qPzT bN4x7Vw"}, "has a space or a character", SECRET),
    "a password that is a number": ({"database_password": 98216743509812634}, "must be text", SECRET),
    "LiteLLM's default key": ({"litellm_master_key": "sk-1234"}, "litellm_master_key is a well-known default", SECRET),
    "a master key without sk-": ({"litellm_master_key": KEY[3:]}, "does not begin with sk-", SECRET),
    "a short master key": ({"litellm_master_key": "sk-k3Jd8sL0"}, "at least 24 random characters after sk-", SECRET),
    "no salt": ({"litellm_salt_key": None}, "litellm_salt_key has no value in ", SECRET),
    "a salt without sk- that is short": ({"litellm_salt_key": "k3Jd8sL0qPz"}, "at least 24 random characters", SECRET),
    "no password of the admin UI": ({"litellm_ui_password": ""}, "litellm_ui_password has no value in ", SECRET),
    "a password that the admin UI shares": (
        {"litellm_ui_password": KEY, "litellm_master_key": KEY},
        "litellm_master_key is the same as litellm_ui_password: use two secrets",
        SECRET,
    ),
    "a dull master key": ({"litellm_master_key": "sk-" + "0" * 40}, "litellm_master_key is easy to guess", SECRET),
    "one secret for two": (
        {"database_password": KEY, "litellm_master_key": KEY},
        "the same as litellm_master_key: use two secrets",
        SECRET,
    ),
    "a provider's key to be replaced": (
        {"litellm_secrets": {"OPENAI_API_KEY": "REPLACE-ME"}},
        "litellm_secrets.OPENAI_API_KEY is still a placeholder",
        SECRET,
    ),
    "an empty provider's key": (
        {"litellm_secrets": {"OPENAI_API_KEY": ""}},
        "litellm_secrets.OPENAI_API_KEY is empty",
        SECRET,
    ),
    # Names and types
    "a renamed variable": ({"postgres_version": 17}, "postgres_version is called postgresql_version: rename it.", MAIN),
    "LiteLLM's own name": ({"model_list": [CHAT]}, "model_list is called litellm_models: rename it.", MAIN),
    "a misspelt variable of a role": ({"litellm_modles": []}, "did you mean litellm_models?", MAIN),
    "a misspelt variable of none": ({"package_enviroment": {}}, "did you mean package_environment?", MAIN),
    "a variable no role knows": ({"litellm_zzzzzzzz": 1}, "give a variable of your own another prefix", MAIN),
    "a variable of the wiring": ({"postgresql_user": "me"}, "postgresql_user has no effect here", MAIN),
    "an expression that fails": ({"litellm_settings": "{{ nowhere }}"}, "cannot be evaluated: 'nowhere' is", MAIN),
    "a number in quotes": (
        {"litellm_port": "4000"},
        "litellm_port is the text '4000': it must be a whole number",
        MAIN,
    ),
    "a number that is none": ({"litellm_database_pool_size": "many"}, "pool_size is the text 'many': it must be", MAIN),
    "a negative number": ({"litellm_database_max_overflow": -1}, "max_overflow is -1: it cannot be negative", MAIN),
    "a truth in quotes": (
        {"litellm_request_log": "no"},
        "litellm_request_log is the text 'no': it must be true or",
        MAIN,
    ),
    "a list that is none": (
        {"postgresql_hba_entries": {}},
        "postgresql_hba_entries is a mapping: it must be a list",
        MAIN,
    ),
    "an unknown choice": ({"postgresql_repository": "ppa"}, "must be one of auto, distribution, pgdg", MAIN),
    # Ports
    "a port out of range": ({"postgresql_port": 70000}, "postgresql_port is 70000: a port is a number from 1 to", MAIN),
    "a privileged port": ({"litellm_port": 443}, "the gateway runs unprivileged and cannot open a port below", MAIN),
    # PostgreSQL
    "an old PostgreSQL": ({"postgresql_version": 16}, "postgresql_version is 16: it must be 17 or later.", MAIN),
    "a PostgreSQL in quotes": ({"postgresql_version": "17"}, "postgresql_version is the text '17'", MAIN),
    "a minor version": ({"postgresql_version": 17.2}, "postgresql_version is 17.2: it must be a whole number", MAIN),
    "trust": (
        {"postgresql_hba_entries": [{"type": "local", "database": "all", "user": "all", "method": "trust"}]},
        "postgresql_hba_entries[0] has the method trust",
        MAIN,
    ),
    "an unknown kind of line": (
        {"postgresql_hba_entries": [{"type": "tcp", "database": "a", "user": "b", "method": "reject"}]},
        "has the type tcp: it must be one of local, host,",
        MAIN,
    ),
    "a line without user": (
        {"postgresql_hba_entries": [{"type": "local", "database": "a", "method": "scram-sha-256"}]},
        "postgresql_hba_entries[0] has no user.",
        MAIN,
    ),
    "cert without TLS": (
        {"postgresql_hba_entries": [{"type": "local", "database": "a", "user": "b", "method": "cert"}]},
        "works for the type hostssl only",
        MAIN,
    ),
    "an address for a socket": (
        {
            "postgresql_hba_entries": [
                {"type": "local", "database": "a", "user": "b", "address": "192.0.2.1", "method": "scram-sha-256"}
            ]
        },
        "has an address, which the type local cannot have",
        MAIN,
    ),
    "a size that is none": ({"postgresql_settings": {"work_mem": "lots"}}, "work_mem is 'lots': write a size", MAIN),
    "a time that is none": ({"postgresql_settings": {"lock_timeout": "soon"}}, "'soon': write a time", MAIN),
    "a count that is none": ({"postgresql_settings": {"max_wal_senders": "few"}}, "'few': write a whole number", MAIN),
    "a setting with a variable": ({"postgresql_settings": {"port": 5433}}, "set postgresql_port instead", MAIN),
    "weak password storage": (
        {"postgresql_settings": {"password_encryption": "md5"}},
        "passwords are stored as scram-sha-256 only",
        MAIN,
    ),
    "pools beyond max_connections": (
        {"postgresql_max_connections": 12},
        "is 12, of which 3 are reserved, but the gateways may open 10,",
        MAIN,
    ),
    # LiteLLM
    "no models": ({"litellm_models": None}, "litellm_models has no model", MAIN),
    "an empty list of models": ({"litellm_models": []}, "litellm_models has no model", MAIN),
    "a model that is a text": (
        {"litellm_models": ["gpt-4o"]},
        "litellm_models[0] is the text 'gpt-4o': it must be a mapping",
        MAIN,
    ),
    "a model without a name": (
        {"litellm_models": [{"litellm_params": {"model": "openai/gpt-4o"}}]},
        "litellm_models[0] has no model_name",
        MAIN,
    ),
    "a model without a model": (
        {"litellm_models": [{"model_name": "chat", "litellm_params": {}}]},
        "litellm_models[0] (chat) has no litellm_params.model",
        MAIN,
    ),
    "two models of one name": ({"litellm_models": [CHAT, CHAT]}, "litellm_models has 2 models named chat", MAIN),
    "one id among two of a name": (
        {"litellm_models": [CHAT, {**CHAT, "model_info": {"id": "second"}}]},
        "give each its own model_info.id",
        MAIN,
    ),
    "one id for two": (
        {"litellm_models": [{**CHAT, "model_info": {"id": "x"}}, {**CHAT, "model_info": {"id": "x"}}]},
        "litellm_models has 2 models with the model_info.id x: each needs its own.",
        MAIN,
    ),
    "a key in the open": (
        {"litellm_models": [{"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o", "api_key": "s3cr3t"}}]},
        "litellm_models[0].litellm_params.api_key (chat) holds a secret in the open: write os.environ/OPENAI_API_KEY",
        MAIN,
    ),
    "a key under another name": (
        {
            "litellm_models": [
                {"model_name": "c", "litellm_params": {"model": "a/b", "extra_headers": {"X": "sk-abcd1234"}}}
            ]
        },
        "litellm_models[0].litellm_params.extra_headers.X (c) holds a secret in the open",
        MAIN,
    ),
    "a password in a URL": (
        {"litellm_router_settings": {"redis_url": "redis://:hunter2@192.0.2.7:6379"}},
        "litellm_router_settings.redis_url holds a secret in the open: write os.environ/REDIS_URL",
        MAIN,
    ),
    "a secret in the plain environment": (
        {"litellm_environment": {"AWS_SECRET_ACCESS_KEY": "s3cr3t"}},
        "litellm_environment.AWS_SECRET_ACCESS_KEY holds a secret in the open: move it to litellm_secrets",
        MAIN,
    ),
    "a reference to nothing": (
        {"litellm_models": [{**CHAT, "litellm_params": {"model": "openai/gpt-4o", "api_key": "os.environ/NOPE"}}]},
        "(chat) is os.environ/NOPE, but litellm_secrets has no NOPE",
        SECRET,
    ),
    "one name in both environments": (
        {"litellm_environment": {"OPENAI_API_KEY": "none"}},
        "OPENAI_API_KEY is both in litellm_environment and in litellm_secrets",
        MAIN,
    ),
    "a name for no variable": (
        {"litellm_environment": {"my-region": "here"}},
        "litellm_environment.my-region cannot be the name of an environment variable",
        MAIN,
    ),
    "a variable that the role sets": (
        {"litellm_environment": {"LITELLM_DB_POOL_SIZE": 9}},
        "litellm_environment.LITELLM_DB_POOL_SIZE is set by the role itself",
        MAIN,
    ),
    "LiteLLM's database": (
        {"litellm_environment": {"DATABASE_URL": "none"}},
        "litellm_environment.DATABASE_URL is not for you to set: use nothing: the role connects LiteLLM to PostgreSQL",
        MAIN,
    ),
    "the name of the admin UI": (
        {"litellm_environment": {"UI_USERNAME": "me"}},
        "litellm_environment.UI_USERNAME is set by the role itself",
        MAIN,
    ),
    "a switch that has a variable of its own": (
        {"litellm_general_settings": {"allow_requests_on_db_unavailable": True}},
        "is not for you to set: use litellm_allow_requests_on_db_unavailable",
        MAIN,
    ),
    "a master key among the settings": (
        {"litellm_general_settings": {"master_key": KEY}},
        "litellm_general_settings.master_key is not for you to set: use litellm_master_key",
        MAIN,
    ),
    "a section with a variable of its own": (
        {"litellm_extra_config": {"router_settings": {}}},
        "litellm_extra_config.router_settings is not for you to set: use litellm_router_settings",
        MAIN,
    ),
    "a fallback to nowhere": (
        {"litellm_router_settings": {"fallbacks": [{"chat": ["chatt"]}]}},
        "litellm_router_settings.fallbacks names the model chatt, which is not in litellm_models",
        MAIN,
    ),
    # Keys as code
    "a budget without a name": ({"litellm_budgets": [{"max_budget": 1}]}, "litellm_budgets[0] has no budget_id", MAIN),
    "keys without their database": (
        {**keys({"key_alias": "ci"}), "litellm_virtual_keys": False},
        "litellm_keys needs LiteLLM's database: set litellm_virtual_keys to true, or remove it.",
        MAIN,
    ),
    "a field that is not known": (
        {"litellm_teams": [{"team_alias": "a", "max_buget": 1}]},
        "litellm_teams[0].max_buget is not known: did you mean max_budget?",
        MAIN,
    ),
    "a value in the open": (
        keys({"key_alias": "ci", "key": "sk-abcd1234"}),
        "litellm_keys[0].key would show the value of a key: put it into litellm_key_values, by its key_alias.",
        MAIN,
    ),
    "a duration in words": (
        {"litellm_budgets": [{"budget_id": "a", "budget_duration": "30 days"}]},
        "litellm_budgets[0].budget_duration is 30 days: it must be a time such as 30s, 15m, 12h, 30d, 4w or 1mo.",
        MAIN,
    ),
    "a duration of nothing": (
        {"litellm_teams": [{"team_alias": "a", "budget_duration": "0d"}]},
        "litellm_teams[0].budget_duration is 0d",
        MAIN,
    ),
    "a negative budget": (keys({"key_alias": "ci", "max_budget": -1}), "litellm_keys[0].max_budget is -1", MAIN),
    "a limit in quotes": (keys({"key_alias": "ci", "rpm_limit": "60"}), "rpm_limit is 60: it must be a whole", MAIN),
    "a switch that is empty": (keys({"key_alias": "ci", "blocked": None}), "litellm_keys[0].blocked is empty", MAIN),
    "models that are no list": (
        keys({"key_alias": "ci", "models": "chat"}),
        "litellm_keys[0].models is chat: it must be a list of names.",
        MAIN,
    ),
    "an expiry without a zone": (
        keys({"key_alias": "ci", "expires": "2027-01-31 12:00"}),
        "litellm_keys[0].expires is 2027-01-31 12:00: it must be a moment with its zone",
        MAIN,
    ),
    "an unknown state": (
        {"litellm_teams": [{"team_alias": "a", "state": "gone"}]},
        "litellm_teams[0].state is gone: it must be present or absent.",
        MAIN,
    ),
    "an alias that leads away": (
        {"litellm_key_values": {"../x": VALUE}, "litellm_keys": [{"key_alias": "../x"}]},
        "litellm_keys[0].key_alias holds control characters or a path with ..",
        MAIN,
    ),
    "one alias for two keys": (
        keys({"key_alias": "ci"}, {"key_alias": "ci"}),
        "litellm_keys has 2 entries with the key_alias ci: each needs its own.",
        MAIN,
    ),
    "a key of no team": (
        keys({"key_alias": "ci", "team": "nobody"}),
        "litellm_keys[0].team names nobody, which is not in litellm_teams.",
        MAIN,
    ),
    "a key of a team that goes": (
        {**keys({"key_alias": "ci", "team": "a"}), "litellm_teams": [{"team_alias": "a", "state": "absent"}]},
        "litellm_keys[0].team names a, which is to be absent by litellm_teams.",
        MAIN,
    ),
    "a key of no budget": (
        keys({"key_alias": "ci", "budget_id": "nothing"}),
        "litellm_keys[0].budget_id names nothing, which is not in litellm_budgets.",
        MAIN,
    ),
    "a model that is not there": (
        {"litellm_teams": [{"team_alias": "a", "models": ["chat", "chatt"]}], "litellm_store_model_in_db": False},
        "litellm_teams[0].models names chatt, which is not in litellm_models.",
        MAIN,
    ),
    "a key without a value": (
        {"litellm_keys": [{"key_alias": "ci"}]},
        "litellm_keys[0] (ci) has no value: make secrets ENV=",
        SECRET,
    ),
    "a short value": (
        {"litellm_key_values": {"ci": "sk-abcd1234"}},
        "litellm_key_values.ci must begin with sk- and have at least 16 characters.",
        MAIN,
    ),
    "the master key for a key": (
        {"litellm_key_values": {"ci": KEY}},
        "litellm_key_values.ci is the master key: a virtual key needs a value of its own.",
        MAIN,
    ),
    "one value for two keys": (
        {"litellm_key_values": {"ci": VALUE, "cd": VALUE}},
        "litellm_key_values has the same value for cd, ci: each needs its own.",
        MAIN,
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_reported_with_the_file_to_edit_and_no_secret(report: Report, tmp_path: Path, case: str) -> None:
    changes, sentence, file = MISTAKES[case]
    title, *sentences = report(changes)
    assert title == f"1 mistake in {tmp_path}/example, no host was touched:"
    assert len(sentences) == 1
    assert sentence in sentences[0]
    assert f"{tmp_path}/example/{file}" in sentences[0]
    given = [str(changes.get(name) or "") for name in SECRETS]
    for secret in filter(None, [*given, *IN_THE_OPEN, KEY, str(SECRETS["database_password"])]):
        assert secret not in sentences[0]


@pytest.mark.parametrize("kind", ["host", "hostnossl", "hostgssenc", "hostnogssenc"])
def test_hba_entry_that_admits_in_clear_needs_tls_to_be_off(report: Report, kind: str) -> None:
    entry = {"type": kind, "database": "a", "user": "b", "address": "192.0.2.7", "method": "scram-sha-256"}
    found = report({"postgresql_hba_entries": [entry]})
    assert f"has the type {kind}, which admits connections in clear: use hostssl (or postgresql_tls: false)" in found[1]
    assert report({"postgresql_hba_entries": [entry], "postgresql_tls": False}) == []
    assert report({"postgresql_hba_entries": [{**entry, "method": "reject"}]}) == []


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1", "1.2"])
def test_old_tls_is_refused(report: Report, version: str) -> None:
    found = report({"postgresql_settings": {"ssl_min_protocol_version": version}})
    assert f"ssl_min_protocol_version is '{version}': it must be one of TLSv1.2, TLSv1.3." in found[1]
    assert report({"postgresql_settings": {"ssl_min_protocol_version": "TLSv1.3"}}) == []


@pytest.mark.parametrize("method", ["trust", "md5", "password", "ident", "peer", "ldap", "pam"])
def test_hba_methods_are_scram_cert_and_reject_only(report: Report, method: str) -> None:
    entry = {"type": "hostssl", "database": "all", "user": "all", "address": "192.0.2.0/24"}
    assert (
        report({"postgresql_hba_entries": [{**entry, "method": "scram-sha-256"}, {**entry, "method": "reject"}]}) == []
    )
    found = report({"postgresql_hba_entries": [{**entry, "method": method}]})
    assert f"has the method {method}: use scram-sha-256" in found[1]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("192.168.10.18/24", "which has bits set beyond its prefix: write 192.168.10.0/24, or the address alone"),
        ("192.168.10.256", "which is neither an IP address nor a network"),
        ("192.168.10.0/33", "which is neither an IP address nor a network"),
        ("gateway.example.com", "which is neither an IP address nor a network"),
        ("0.0.0.0/0", "which is the whole internet"),
        ("::/0", "which is the whole internet"),
        (None, "has no address, which the type hostssl needs"),
    ],
)
def test_address_that_is_none_is_refused(report: Report, address: str | None, sentence: str) -> None:
    entry = {"type": "hostssl", "database": "a", "user": "b", "address": address, "method": "scram-sha-256"}
    found = report({"postgresql_hba_entries": [entry]})
    assert len(found) == 1 + 1
    assert sentence in found[1]


@pytest.mark.parametrize("address", ["192.168.10.18", "192.168.10.0/24", "2001:db8::18", "2001:db8::/64", "samenet"])
def test_address_or_network_is_accepted(report: Report, address: str) -> None:
    entry = {"type": "hostssl", "database": "a", "user": "b", "address": address, "method": "scram-sha-256"}
    assert report({"postgresql_hba_entries": [entry]}) == []


def test_gateway_without_an_address_is_found_where_it_is_written(report: Report, tmp_path: Path) -> None:
    """PostgreSQL's list of clients is wired from the hosts: the mistake is in hosts.yml, not in the wiring."""
    found = report(hosts={**HOSTS, "litellm": {"hosts": {"gateway1": {"ansible_host": "gateway.example.com"}}}})
    assert "postgresql_client_addresses has gateway.example.com" in found[1]
    assert f"Edit {tmp_path}/example/hosts.yml, line " in found[1]


def test_place_is_given_to_the_line(report: Report, tmp_path: Path) -> None:
    found = report({"litellm_port": 70000, "litellm_workers": "two"})
    lines = (tmp_path / "example" / MAIN).read_text().splitlines()
    for name in ("litellm_port", "litellm_workers"):
        line = next(number for number, text in enumerate(lines, start=1) if text.startswith(name))
        assert any(f"{name} is" in sentence and f"{MAIN}, line {line}." in sentence for sentence in found)


def test_place_may_be_the_command_line(report: Report) -> None:
    found = report(command_line={"litellm_port": "4000"})
    assert "litellm_port is the text '4000'" in found[1]


def test_groups_without_hosts_are_reported(report: Report, tmp_path: Path) -> None:
    found = report(hosts={"postgres": HOSTS["postgresql"], "gateways": HOSTS["litellm"]})
    others = "(its other groups: gateways, postgres)"
    assert f"The inventory has no database host: put one into the group postgresql {others}." in found[1]
    assert f"The inventory has no gateway host: put one into the group litellm {others}." in found[2]
    assert all(f"Edit {tmp_path}/example/hosts.yml." in sentence for sentence in found[1:])
    assert len(found) == 1 + 2


def test_inventory_without_any_host_is_reported(report: Report) -> None:
    found = report(hosts={})
    assert ["The inventory has no " in sentence for sentence in found[1:]] == [True, True]


def test_second_database_host_is_refused(report: Report) -> None:
    two = {"hosts": {"db1": {"ansible_host": "192.0.2.19"}, "db2": {"ansible_host": "192.0.2.29"}}}
    assert "The group postgresql has 2 hosts (db1, db2): keep one" in report(hosts={**HOSTS, "postgresql": two})[1]


@pytest.mark.parametrize(
    ("ports", "sentence"),
    [
        ({"postgresql_port": 4000}, "litellm_port is 4000 on one, where postgresql_port has that port already"),
        ({"postgresql_port": 22}, "postgresql_port is 22 on one, where SSH has that port already"),
    ],
)
def test_port_clash_on_one_host_is_reported(report: Report, ports: dict[str, int], sentence: str) -> None:
    assert sentence in report(ports, hosts=ONE_HOST)[1]


def test_port_clash_is_found_between_two_names_of_one_machine(report: Report) -> None:
    hosts = {
        "postgresql": {"hosts": {"a": {"ansible_host": "192.0.2.1"}}},
        "litellm": {"hosts": {"b": {"ansible_host": "192.0.2.1"}}},
    }
    assert report({"postgresql_port": 4000}) == []
    assert "has that port already" in report({"postgresql_port": 4000}, hosts=hosts)[1]


def test_deployments_that_share_the_calls_on_purpose_are_accepted(report: Report) -> None:
    assert report({"litellm_models": [{**CHAT, "model_info": {"id": "a"}}, {**CHAT, "model_info": {"id": "b"}}]}) == []


def test_pools_of_all_gateways_are_added_up(report: Report) -> None:
    gateways = {"hosts": {f"gateway{n}": {"ansible_host": f"192.0.2.{n}"} for n in range(1, 11)}}
    hosts = {**HOSTS, "litellm": gateways}
    assert report({"postgresql_max_connections": 103}, hosts=hosts) == []
    assert "but the gateways may open 100," in report({"postgresql_max_connections": 102}, hosts=hosts)[1]


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "openai/qwen", "api_base": "http://192.0.2.7:8000/v1", "api_key": "none"},  # asks for no key
        {"model": "vertex_ai/gemini-2.0-flash", "vertex_credentials": "/etc/litellm/vertex.json"},
        {
            "model": "openai/gpt-4o",
            "api_key": "os.environ/OPENAI_API_KEY",
            "max_tokens": 100,
            "input_cost_per_token": 1e-6,
        },
    ],
)
def test_what_only_looks_like_a_secret_is_accepted(report: Report, parameters: dict[str, Any]) -> None:
    assert report({"litellm_models": [{"model_name": "chat", "litellm_params": parameters}]}) == []


def test_fallbacks_between_models_are_accepted(report: Report) -> None:
    models = [CHAT, {**CHAT, "model_name": "spare"}]
    aliases = {"model_group_alias": {"old-name": "chat"}, "fallbacks": [{"old-name": ["spare"]}, {"*": ["chat"]}]}
    assert report({"litellm_models": models, "litellm_router_settings": aliases}) == []
    wildcard = [{**CHAT, "model_name": "openai/*"}]
    anything = {"fallbacks": [{"openai/gpt-4o": ["openai/gpt-4o-mini"]}]}
    assert report({"litellm_models": wildcard, "litellm_router_settings": anything}) == []


def test_keys_teams_and_budgets_are_accepted(report: Report) -> None:
    declared = {
        "litellm_budgets": [{"budget_id": "small", "max_budget": 0.5, "budget_duration": "1mo", "rpm_limit": None}],
        "litellm_teams": [
            {"team_alias": "research", "models": ["chat"], "metadata": {"cost_centre": "4711"}, "blocked": False},
            {"team_alias": "former", "state": "absent"},
        ],
        **keys(
            {"key_alias": "ci", "team": "research", "budget_id": "small", "expires": "2027-01-31T00:00:00Z"},
            {"key_alias": "old", "team": "former", "state": "absent"},
        ),
    }
    assert report(declared) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"litellm_store_model_in_db": True},
        {"litellm_models": [CHAT, {"model_name": "openai/*", "litellm_params": {"model": "openai/*"}}]},
        {"litellm_models": [CHAT, {**CHAT, "model_name": "c", "model_info": {"access_groups": ["any-model"]}}]},
        {"litellm_router_settings": {"model_group_alias": {"any-model": "chat"}}},
    ],
)
def test_models_that_may_exist_are_accepted_for_keys(report: Report, changes: dict[str, Any]) -> None:
    declared = {"litellm_store_model_in_db": False, **keys({"key_alias": "ci", "models": ["any-model"]})}
    assert report({**declared, **changes}) == []


def test_value_that_needs_facts_waits_for_them(report: Report) -> None:
    half = {"postgresql_memory_mb": "{{ ansible_facts['memtotal_mb'] // 2 }}"}
    assert report(half) == []
    assert report(half, facts=FACTS) == []
    twice = {"postgresql_memory_mb": "{{ ansible_facts['memtotal_mb'] * 2 }}"}
    assert "postgresql_memory_mb is 8192, but db1 has 4096 MB." in report(twice, facts=FACTS)[1]


def test_expression_that_facts_do_not_help_is_reported_with_them(report: Report) -> None:
    broken = {"postgresql_memory_mb": "{{ ansible_facts['memtotal'] }}"}
    assert report(broken) == []
    assert "postgresql_memory_mb cannot be evaluated" in report(broken, facts=FACTS)[1]


@pytest.mark.parametrize(
    ("system", "supported"),
    [
        (("Debian", "12.9", "12"), True),
        (("Debian", "13.1", "13"), True),
        (("Ubuntu", "22.04", "22"), True),
        (("Ubuntu", "24.04", "24"), True),
        (("Debian", "11.11", "11"), False),
        (("Ubuntu", "24.10", "24"), False),
        (("Rocky", "9.5", "9"), False),
    ],
)
def test_systems_are_those_that_the_roles_know(report: Report, system: tuple[str, str, str], supported: bool) -> None:
    names = ("distribution", "distribution_version", "distribution_major_version")
    found = report(facts={**FACTS, **dict(zip(names, system, strict=True))})
    if supported:
        assert found == []
    else:
        assert found[0].endswith("nothing was changed:")
        says = f"runs {system[0]} {system[1]}, which is not supported: use one of Debian 12, Debian 13, Ubuntu 22.04, "
        assert sorted(sentence.partition(says)[0] for sentence in found[1:]) == ["db1 ", "gateway1 "]


def test_host_without_systemd_is_refused(report: Report) -> None:
    found = report(facts={**FACTS, "service_mgr": "sysvinit"})
    assert any("db1 is run by sysvinit: the services need systemd." in sentence for sentence in found)


def test_versions_of_ansible_are_those_of_the_locked_requirements() -> None:
    declared = yaml.safe_load((PROJECT / "roles/preflight/defaults/main.yml").read_text())
    evaluate = Deployment().evaluate
    wanted = declared["preflight_ansible_versions"]
    assert evaluate("ansible_version.full | preflight_ansible_mistakes(wanted)", "gateway1", wanted=wanted) == []
    collections = {"community.crypto", "community.general", "community.postgresql", "ansible.posix"}
    assert set(wanted) == {"ansible-core", *collections}


@pytest.mark.parametrize("name", ["ansible-core", "community.postgresql", "not.there"])
def test_wrong_version_of_ansible_or_a_collection_is_reported(name: str) -> None:
    found = Deployment().evaluate(
        "ansible_version.full | preflight_ansible_mistakes(wanted)", "gateway1", wanted={name: ">=99"}
    )
    assert f"This machine has {name} " in found[0][2]
    assert "needed is >=99" in found[0][2]


def test_refused_package_in_the_lock_of_a_role_is_reported(report: Report) -> None:
    refused = {"alembic": []}
    found = report(command_line={"preflight_refused_packages": refused})
    assert any(
        "roles/schema/files/requirements.txt has alembic " in sentence and "`make lock`" in sentence
        for sentence in found
    )
