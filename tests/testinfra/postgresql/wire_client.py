"""A client of PostgreSQL's protocol, run on a host by the tests to see what the server answers that host.

Standard library only, so that it runs on any machine with Python; and unlike psql it tells which ways to prove itself
the server offered, before anything was proved. Takes one JSON argument, prints one JSON object:

    {"host", "port", "user", "database", "replication"?, "password"?, "url_file"?, "queries"?, "clear"?, "newest_tls"?}

It comes in by TLS where the server offers that and ``clear`` is not true, and by no version beyond ``newest_tls``. It
checks no certificate, but tells which one the server showed.
``url_file`` names an environment file with LITELLM_DB_URL, which user, password and the rest then come from unless
they are given: a password is never an argument. Each of the queries is one message, so a transaction of its own.
"""

import base64
import hashlib
import hmac
import json
import os
import shlex
import socket
import ssl
import struct
import sys
import urllib.parse
from collections.abc import Iterator

PROTOCOL_3_0 = 196608
TLS_PLEASE = 80877103
SECONDS = 20.0


class RefusedError(Exception):
    """The server's error instead of a session."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields["M"])
        self.fields = fields


class Connection:
    """One connection, from the first message to the answers of the queries."""

    def __init__(self, host: str, port: int, *, clear: bool, newest_tls: str) -> None:
        self.socket = socket.create_connection((host, port), timeout=SECONDS)
        self.tls: dict[str, str] | None = None
        if not clear:
            self.socket.sendall(struct.pack("!ii", 8, TLS_PLEASE))
            if self.socket.recv(1) == b"S":
                self.socket = context(newest_tls).wrap_socket(self.socket)
                shown = hashlib.sha256(self.socket.getpeercert(binary_form=True)).hexdigest()
                self.tls = {"version": self.socket.version(), "certificate": shown}
        self.stream = self.socket.makefile("rb")
        self.mechanisms: list[str] = []

    def send(self, kind: bytes, body: bytes) -> None:
        """Send one message; the first of a connection has no kind."""
        self.socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and body of each message that comes."""
        while kind := self.stream.read(1):
            (length,) = struct.unpack("!i", self.stream.read(4))
            yield kind, self.stream.read(length - 4)

    def log_in(self, parameters: dict[str, str], password: str) -> None:
        """Prove who it is by SCRAM-SHA-256 and check that the server knows the password too, else RefusedError."""
        pairs = b"".join(text.encode() + b"\0" for pair in parameters.items() for text in pair)
        self.send(b"", struct.pack("!i", PROTOCOL_3_0) + pairs + b"\0")
        bare, server_signature = "", b""
        for kind, body in self.messages():
            if kind == b"E":
                raise RefusedError(fields(body))
            if kind == b"Z":
                return
            if kind != b"R":
                continue
            (code,) = struct.unpack("!i", body[:4])
            if code == 10:
                self.mechanisms = [name.decode() for name in body[4:].split(b"\0") if name]
                bare = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
                first = f"n,,{bare}".encode()
                self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
            elif code == 11:
                final, server_signature = proof(bare, body[4:].decode(), password)
                self.send(b"p", final)
            elif code == 12:
                if base64.b64decode(body[4:].decode().removeprefix("v=")) != server_signature:
                    raise RefusedError({"C": "", "M": "the server does not know the password"})
            elif code != 0:
                self.mechanisms = [f"authentication request {code}"]
                raise RefusedError({"C": "", "M": "the server asks for something else than SCRAM"})
            elif not self.mechanisms:
                self.mechanisms = ["none"]
        raise RefusedError({"C": "", "M": "the server closed the connection"})

    def query(self, sql: str) -> dict[str, object]:
        """The rows of a message's statements, as texts, or what was wrong with it."""
        self.send(b"Q", sql.encode() + b"\0")
        answer: dict[str, object] = {"rows": []}
        rows: list[list[str | None]] = []
        for kind, body in self.messages():
            if kind == b"D":
                rows.append(columns(body))
            elif kind == b"E":
                error = fields(body)
                answer = {"sqlstate": error["C"], "message": error["M"]}
            elif kind == b"Z":
                break
        return {**answer, "rows": rows}


def context(newest_tls: str) -> ssl.SSLContext:
    """A client that would take any version and cipher that its library has, up to a version."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = ssl.TLSVersion.TLSv1
    made.maximum_version = ssl.TLSVersion[newest_tls]
    return made


def fields(body: bytes) -> dict[str, str]:
    """The fields of an error by their letters: C the SQLSTATE, M the message."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def columns(body: bytes) -> list[str | None]:
    """The columns of a row."""
    (count,) = struct.unpack("!h", body[:2])
    found: list[str | None] = []
    at = 2
    for _ in range(count):
        (length,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        found.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    return found


def proof(bare: str, server_first: str, password: str) -> tuple[bytes, bytes]:
    """The client's last message and the server's signature (RFC 5802)."""
    server = dict(part.split("=", 1) for part in server_first.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(server["s"]), int(server["i"]))
    without_proof = f"c=biws,r={server['r']}"
    signed = f"{bare},{server_first},{without_proof}".encode()
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    proved = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    return f"{without_proof},p={proved}".encode(), hmac.digest(
        hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"
    )


def from_url_file(path: str) -> dict[str, object]:
    """What LITELLM_DB_URL in an environment file says."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        lines = [line for line in file if line.startswith("LITELLM_DB_URL=")]
    url = urllib.parse.urlsplit(shlex.split(lines[-1])[0].partition("=")[2])
    return {
        "host": url.hostname,
        "port": url.port or 5432,
        "user": urllib.parse.unquote(url.username or ""),
        "password": urllib.parse.unquote(url.password or ""),
        "database": url.path.strip("/"),
    }


def main() -> None:
    """Connect, ask, print."""
    given = json.loads(sys.argv[1])
    wanted = {**(from_url_file(given["url_file"]) if "url_file" in given else {}), **given}
    address = str(wanted["host"]), int(wanted["port"])
    try:
        connection = Connection(
            *address, clear=wanted.get("clear", False), newest_tls=wanted.get("newest_tls", "TLSv1_3")
        )
    except ssl.SSLError as error:
        print(json.dumps({"admitted": False, "mechanisms": [], "message": error.reason}))
        return
    parameters = {"user": str(wanted["user"]), "database": str(wanted["database"])}
    if wanted.get("replication"):
        parameters["replication"] = "true"
    report: dict[str, object] = {"admitted": True}
    try:
        connection.log_in(parameters, str(wanted.get("password", "")))
        report["answers"] = [connection.query(sql) for sql in wanted.get("queries", [])]
    except RefusedError as refused:
        report = {"admitted": False, "sqlstate": refused.fields["C"], "message": refused.fields["M"]}
    print(json.dumps({**report, "mechanisms": connection.mechanisms, "tls": connection.tls}))


if __name__ == "__main__":
    main()
