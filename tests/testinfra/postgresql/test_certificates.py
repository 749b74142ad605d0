"""The life of PostgreSQL's certificate: renewed in time, replaced by somebody's own, and no new authority by accident.

The server takes each new one by a reload: who was connected stays connected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

pytestmark = pytest.mark.disruptive

SECRETS = "/etc/litellm/litellm.env"
SERVER = "/etc/ssl/litellm/postgresql"
RELOAD = "systemctl reload 'postgresql@*-main.service'"

Replace = Callable[[int], str]


@pytest.fixture(scope="module")
def folder(inventory: Any) -> Path:
    """Where the authority of this inventory is."""
    path = Path(inventory.path)
    return (path.parent if path.is_file() else path) / "certificates"


@dataclass(frozen=True)
class Server:
    """What the running server says: the SHA-256 of the certificate that it shows, and when it was started."""

    certificate: Callable[[], str]
    started: Callable[[], str]


@pytest.fixture
def server(connect: Any, gateway_name: str, started: Any) -> Server:
    return Server(lambda: str(connect(gateway_name, url_file=SECRETS).tls["certificate"]), started)


@pytest.fixture(scope="module")
def passphrase(inventory: Any, database_name: str) -> str:
    """What opens the authority's key."""
    return str(inventory.value(database_name, "certificates_authority_passphrase"))


@pytest.fixture
def replace(database: Any, folder: Path, passphrase: str) -> Iterator[Replace]:
    """Give the server a certificate that is its own but for its end, so many days from now; at last the former."""
    former = database.file(f"{SERVER}.crt").content_string

    def put(text: str) -> None:
        database.check_output("printf %%s %s > %s.crt && " + RELOAD, text, SERVER)

    def replace(days: int) -> str:
        authority, key = internal_authority(folder, passphrase)
        own = x509.load_pem_x509_certificate(former.encode())
        end = datetime.now(UTC) + timedelta(days=days)
        builder = x509.CertificateBuilder(authority.subject, own.subject, own.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(end - timedelta(days=365)).not_valid_after(end)
        for extension in own.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        made = builder.sign(key, hashes.SHA256())
        put(made.public_bytes(serialization.Encoding.PEM).decode())
        return made.fingerprint(hashes.SHA256()).hex()

    yield replace
    if database.file(f"{SERVER}.crt").content_string != former and not has_30_days(database):
        put(former)


def has_30_days(database: Any) -> bool:
    """Whether the certificate on the disk has more than 30 days."""
    return bool(database.run("openssl x509 -in %s.crt -noout -checkend %s", SERVER, str(30 * 86400)).rc == 0)


def test_certificate_that_has_expired_is_refused(gateway: Any, replace: Replace, server: Server) -> None:
    """Nothing else is wrong with it: the same with three days left is accepted."""
    good = replace(3)
    assert server.certificate() == good
    assert gateway.run("litellm-db ping").rc == 0
    expired = replace(-1)
    assert server.certificate() == expired
    done = gateway.run("litellm-db ping")
    assert done.rc != 0
    assert "certificate verify failed" in done.stderr


def test_certificate_with_less_than_30_days_is_renewed_without_a_restart(
    deploy: Any, database: Any, gateway: Any, replace: Replace, server: Server
) -> None:
    old = replace(20)
    assert server.certificate() == old
    before = server.started(), database.file(f"{SERVER}.key").sha256sum
    run = deploy()
    assert run.succeeded, run.said
    assert server.certificate() != old
    assert has_30_days(database)
    assert (server.started(), database.file(f"{SERVER}.key").sha256sum) == before
    assert gateway.run("litellm-db ping").rc == 0


def test_certificate_with_more_than_30_days_stays(deploy: Any, replace: Replace, server: Server) -> None:
    mine = replace(40)
    assert server.certificate() == mine
    run = deploy()
    assert run.succeeded, run.said
    assert server.certificate() == mine


def test_controller_without_the_authority_is_stopped(
    deploy: Any, database: Any, tmp_path: Path, server: Server
) -> None:
    """As on the machine of a colleague: it would make an authority that no client trusts."""
    before = server.certificate(), database.file(f"{SERVER}.crt").sha256sum
    run = deploy(certificates_directory=str(tmp_path))
    assert not run.succeeded
    assert "trusts an authority that is not the one in" in run.said
    assert "Copy that folder from whoever deployed before" in run.said
    assert (server.certificate(), database.file(f"{SERVER}.crt").sha256sum) == before
    assert list(tmp_path.iterdir()) == []


def test_client_certificate_is_asked_for(
    deploy: Any, as_client: Any, gateway: Any, folder: Path, passphrase: str
) -> None:
    """With it on, the password alone opens nothing, nor does a certificate in another name."""
    run = deploy(postgresql_client_certificates=True)
    assert run.succeeded, run.said
    assert "connection requires a valid client certificate" in as_client()["error"]
    place = gateway.check_output("mktemp -d")
    try:
        for name, sentence in (("litellm_user", ""), ("somebody", "authentication failed for user")):
            key, certificate = client_certificate(folder, passphrase, name)
            gateway.check_output("printf %%s %s > %s", key, f"{place}/key")
            gateway.check_output("printf %%s %s > %s", certificate, f"{place}/crt")
            gateway.check_output(f"chown -R litellm {place} && chmod 600 {place}/key")
            error = as_client(sslcert=f"{place}/crt", sslkey=f"{place}/key")["error"]
            assert sentence in error
            assert bool(error) == bool(sentence)
    finally:
        gateway.check_output("rm -r %s", place)


def test_certificate_from_elsewhere_is_taken(
    deploy: Any, database: Any, server_address: Any, tmp_path: Path, server: Server
) -> None:
    before = server.started()
    made = brought(tmp_path, server_address["host"])
    files = {name: str(tmp_path / name) for name in ("certificate", "key", "authority")}
    run = deploy(certificates_provided={"postgresql": files})
    assert run.succeeded, run.said
    assert server.certificate() == made
    assert server.started() == before
    key = database.file(f"{SERVER}.key")
    assert (key.user, key.group, key.mode) == ("root", "postgres", 0o640)
    assert (tmp_path / "key").read_text() not in run.said


def test_tls_is_switched_off_and_on_again_without_a_restart(
    deploy: Any, connect: Any, gateway_name: str, server: Server
) -> None:
    """Off only by its variable; and on over a server that knows nothing of TLS, as one that was there before."""
    before = server.started()
    run = deploy(postgresql_tls=False)
    assert run.succeeded, run.said
    assert connect(gateway_name, url_file=SECRETS, clear=True).admitted
    run = deploy()
    assert run.succeeded, run.said
    assert not connect(gateway_name, url_file=SECRETS, clear=True).admitted
    assert connect(gateway_name, url_file=SECRETS).admitted
    assert server.started() == before


def internal_authority(folder: Path, passphrase: str) -> tuple[x509.Certificate, Any]:
    """The certificate and the key of the authority that issues."""
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), passphrase.encode())
    return x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()), key


def client_certificate(folder: Path, passphrase: str, name: str) -> tuple[str, str]:
    """A key and a certificate of the internal authority for a client of this name, as PEM."""
    authority, signer = internal_authority(folder, passphrase)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(authority.subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), builder.sign(signer, hashes.SHA256()).public_bytes(pem).decode()


def brought(folder: Path, address: str) -> str:
    """Make what a company's authority would issue: certificate, key and authority. SHA-256 of the first."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company")])
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, holder: Any, *, signs: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder(authority, subject, holder.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=60))
        builder = builder.add_extension(x509.BasicConstraints(signs, None), critical=True)
        if not signs:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(authority_key, hashes.SHA256())

    own = certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db")]), key, signs=False)
    pem = serialization.Encoding.PEM
    (folder / "certificate").write_bytes(own.public_bytes(pem))
    (folder / "authority").write_bytes(certificate(authority, authority_key, signs=True).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key").write_bytes(private)
    return own.fingerprint(hashes.SHA256()).hex()
