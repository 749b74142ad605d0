"""Passwords: SCRAM verifiers in PostgreSQL, computed on the controller, and a password in clear nowhere on the host.

The host never gets the password, so it cannot be asked to look for it. It looks instead for any run of characters with
the password's length and SHA-256, and for one that the test planted, to show that the search finds what there is.
"""

import hashlib
import json
import secrets
import string
from typing import Any

import pytest
import scram

# The pages of tables are left out: what PostgreSQL keeps of a password is asked by SQL.
SEARCH = """
import hashlib, json, mmap, os, re, subprocess, sys
length, alphabet, wanted, planted = json.loads(sys.argv[1])
hashes = [hashlib.sha256(planted.encode()).hexdigest(), wanted]
LEFT_OUT = re.compile("/var/lib/postgresql/[0-9]+/main/(base|pg_wal)(/|$)")
runs = re.compile(b"[%s]{%d,}" % (re.escape(alphabet).encode(), length))
found = {name: [] for name in hashes}
read = 0
def look(name, data):
    for run in runs.finditer(data):
        text = run.group()
        for at in range(len(text) - length + 1):
            digest = hashlib.sha256(text[at:at + length]).hexdigest()
            if digest in found:
                found[digest].append(name)
with open("/tmp/planted-by-a-test", "w") as file:
    file.write("prefix=" + planted + "-suffix")
try:
    for tree in ("/etc", "/opt/litellm", "/var", "/root", "/home", "/tmp", "/run", "/srv"):
        for folder, folders, files in os.walk(tree):
            folders[:] = [name for name in folders if not LEFT_OUT.match(os.path.join(folder, name))]
            for name in files:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path) and "/site-packages/" not in path:
                    try:
                        with open(path, "rb") as file:
                            if os.fstat(file.fileno()).st_size:
                                look(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                    except FileNotFoundError:
                        continue  # it was a temporary one
                    read += 1
finally:
    os.remove("/tmp/planted-by-a-test")
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            if int(process) != os.getpid():
                look("process " + process, file.read())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended
look("journal", subprocess.run(["journalctl", "--no-pager", "--output=cat"], capture_output=True, check=True).stdout)
print(json.dumps({"planted": found[hashes[0]], "password": found[wanted], "read": read}))
"""


@pytest.fixture(scope="module")
def password(inventory: Any, database_name: str) -> str:
    """The service's password, as the inventory has it."""
    return str(inventory.value(database_name, "database_password"))


def test_verifier_is_scram_and_of_this_password(sql: Any, password: str) -> None:
    """The statement that set it held the verifier already: this is what the filter scram_verifier made."""
    ((stored,),) = sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'litellm_user'")
    assert scram.scram_matches(stored, password)


def test_other_roles_have_no_password(sql: Any) -> None:
    assert sql("SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL") == [["litellm_user"]]


def test_new_passwords_become_scram_verifiers(sql: Any) -> None:
    assert sql("SHOW password_encryption") == [["scram-sha-256"]]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Gr\u00fc\u00dfe", id="latin"),
        pytest.param("a\u0308", id="decomposed"),
        pytest.param("\u2168\u00aa\ufb01", id="compatibility"),
        pytest.param("a\u00adb\u200bc\u00a0d", id="mapped"),
        pytest.param("\u6f22\u5b57", id="chinese"),
        pytest.param("\U0001f600", id="unassigned"),
        pytest.param("\u06271", id="mixed-direction"),
    ],
)
def test_passwords_beyond_ascii_are_prepared_as_postgresql_does(sql: Any, text: str) -> None:
    """Otherwise such a password would be set anew on every run, to a verifier that no client's proof fits."""
    role = f"test_{secrets.token_hex(4)}"
    rows = sql(
        "SET log_statement = none; BEGIN;"
        f" CREATE ROLE {role} NOLOGIN PASSWORD '{text}';"
        f" SELECT rolpassword FROM pg_authid WHERE rolname = '{role}';"
        " ROLLBACK"
    )
    assert scram.scram_matches(rows[0][0], text)


def test_password_is_in_clear_nowhere_on_the_database_host(
    database: Any, database_name: str, gateway_name: str, password: str
) -> None:
    """Not in the server's log, which has every DDL statement, nor in postgres' files, the journal or a process list."""
    if database_name == gateway_name:
        pytest.skip("gateway and database share this host, and with it the gateway's secrets file")
    token_characters = string.ascii_letters + string.digits + "-_"
    alphabet = token_characters if set(password) <= set(token_characters) else string.printable.strip()
    planted = secrets.token_urlsafe(2 * len(password))[: len(password)].replace("-", "x")
    digest = hashlib.sha256(password.encode()).hexdigest()
    arguments = json.dumps([len(password), alphabet, digest, planted])
    searched = json.loads(database.check_output("python3 -c %s %s", SEARCH, arguments))
    assert "/tmp/planted-by-a-test" in searched["planted"]
    assert searched["password"] == []
    assert searched["read"] > 500
