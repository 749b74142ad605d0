"""The secrets are in the secrets file and nowhere else: no other file, no journal, no process list, no table."""

import json
from collections.abc import Callable
from typing import Any

import pytest

# Runs on the gateway as root and gets no secret in its arguments: it takes them from the secrets file, says by their
# hashes which ones it looked for, and lists where they were found.
SEARCH = """
import hashlib, json, mmap, os, re, shlex, subprocess, urllib.parse
SECRETS_FILE = "/etc/litellm/litellm.env"
TREES = ["/etc", "/opt", "/var", "/root", "/home", "/tmp", "/run", "/srv", "/usr/local"]
variables = {}
for line in open(SECRETS_FILE):
    name, equals, value = line.strip().partition("=")
    if equals and not name.startswith("#"):
        variables[name] = shlex.split(value)[0]
names = ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "UI_PASSWORD")
secrets = [variables[name] for name in names if name in variables]
secrets += [value for name, value in variables.items() if name.endswith("_API_KEY")]
quoted = urllib.parse.urlsplit(variables["LITELLM_DB_URL"]).password
secrets += {quoted, urllib.parse.unquote(quoted)}
pattern = re.compile(b"|".join(re.escape(secret.encode()) for secret in secrets))
found, read = [], 0
def look(name, data):
    if pattern.search(data):
        found.append(name)
for tree in TREES:
    for folder, folders, files in os.walk(tree):
        for file in files:
            path = os.path.join(folder, file)
            if os.path.isfile(path) and not os.path.islink(path) and path != SECRETS_FILE:
                try:
                    with open(path, "rb") as opened:
                        if os.fstat(opened.fileno()).st_size:
                            look(path, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
                except FileNotFoundError:
                    continue  # it was a temporary one
                read += 1
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{process}/cmdline", "rb") as opened:
            look(f"process {process}", opened.read())
        read += 1
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended
journal = subprocess.run(["journalctl", "--no-pager", "--output=cat"], capture_output=True, check=True).stdout
look("journal", journal)
print(json.dumps({"found": found, "read": read, "journal": len(journal),
                  "hashes": [hashlib.sha256(secret.encode()).hexdigest() for secret in secrets]}))
"""


MADE = ("database_password", "litellm_salt_key", "litellm_ui_password")


@pytest.fixture(scope="module")
def searched(gateway: Any) -> dict[str, Any]:
    return dict(json.loads(gateway.check_output("python3 -c %s", SEARCH)))


def test_search_knows_the_secrets_of_this_inventory(
    searched: dict[str, Any], inventory: Any, gateway_name: str, master_key: str, sha256_of: Callable[[str], str]
) -> None:
    """Otherwise the search would find nothing whatever there is."""
    secrets = [master_key, *(inventory.value(gateway_name, name) for name in MADE)]
    secrets += [value for name, value in inventory.value(gateway_name, "litellm_secrets").items() if "API_KEY" in name]
    assert {sha256_of(secret) for secret in secrets} <= set(searched["hashes"])
    assert searched["read"] > 1000
    assert searched["journal"] > 1000


def test_secrets_are_in_no_other_file_journal_or_process_list(searched: dict[str, Any]) -> None:
    assert searched["found"] == []


def test_secrets_are_in_no_table(request_log: Any, inventory: Any, gateway_name: str, master_key: str) -> None:
    """The query goes over psql's arguments on the database host, so it only names the middle of each secret."""
    secrets = [master_key, inventory.value(gateway_name, "database_password")]
    for secret in secrets:
        part = secret[8:24].replace("_", r"\_").replace("%", r"\%")
        (counts,) = request_log.query(
            "SELECT jsonb_build_object('all', count(*), 'with',"
            f" count(*) FILTER (WHERE to_jsonb(q)::text || to_jsonb(p)::text LIKE '%{part}%'))"
            " FROM requests q JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
        )
        assert counts["all"] > 0
        assert counts["with"] == 0


def test_secrets_file_is_closed_to_others(gateway: Any) -> None:
    for user in ("nobody", "daemon"):
        assert gateway.run("runuser -u %s -- cat /etc/litellm/litellm.env", user).rc != 0
    assert gateway.run("runuser -u litellm -- test -r /etc/litellm/litellm.env").rc == 0
