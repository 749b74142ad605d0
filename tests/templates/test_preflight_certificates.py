"""Certificates from elsewhere and the internal authority: what preflight says before a host would notice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from ansible_engine import PROJECT
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ADDRESS = "192.0.2.19"
PASSPHRASE = "Wd5hGk8jLm2nQp4rSt7v"


class Company:
    """An authority of somebody else's; its files are in a folder."""

    def __init__(self, folder: Path, name: str = "company") -> None:
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(self.name, self.key.public_key(), days=3650, signs=True)

    def sign(self, subject: x509.Name, holder: Any, *, days: float, signs: bool = False, **names: Any) -> Any:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self.name, subject, holder, x509.random_serial_number())
        builder = builder.not_valid_before(min(now, now + timedelta(days=days)) - timedelta(days=names.get("age", 1)))
        builder = builder.not_valid_after(now + timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(signs, None), critical=True)
        if "alternatives" in names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names["alternatives"]), critical=False)
        if "usage" in names:
            builder = builder.add_extension(x509.ExtendedKeyUsage([names["usage"]]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, stem: str = "db", *, common_name: str = "db", days: float = 90, **names: Any) -> dict[str, str]:
        """Write STEM.crt, STEM.key and STEM-ca.crt and return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        names.setdefault("alternatives", [x509.IPAddress(ip_address(ADDRESS))])
        made = self.sign(subject, key.public_key(), days=days, **names)
        return {
            "certificate": self.write(f"{stem}.crt", made.public_bytes(Encoding.PEM)),
            "key": self.write(f"{stem}.key", private(key)),
            "authority": self.write(f"{stem}-ca.crt", self.certificate.public_bytes(Encoding.PEM)),
        }

    def write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)


def private(key: ec.EllipticCurvePrivateKey, passphrase: str = "") -> bytes:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


@pytest.fixture
def mistakes(deployment: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """The sentences about a database host and a gateway with these variables."""

    def mistakes(**given: Any) -> list[str]:
        both = {
            "unreadable": [],
            "certificates_provided": {},
            "certificates_authority_passphrase": PASSPHRASE,
            "litellm_database_host": ADDRESS,
            "litellm_database_user": "litellm_user",
            "postgresql_tls": True,
            "litellm_database_tls": True,
            "litellm_database_client_certificate": False,
            **given,
        }
        # As it is wired, the host of the database reaches it by loopback; no gateway does.
        hosts = {
            "db1": {**both, "litellm_database_host": "127.0.0.1", "group_names": ["postgresql"]},
            "gateway1": {**both, "group_names": ["litellm"]},
        }
        environment = {"path": str(tmp_path), "secrets": "secrets.yml", "command": "make secrets"}
        expression = "hosts | preflight_certificate_mistakes(environment)"
        found = deployment().evaluate(expression, "gateway1", hosts=hosts, environment=environment)
        return [says for _, _, says in found]

    return mistakes


def test_certificate_that_serves_is_accepted(company: Company, mistakes: Any) -> None:
    assert mistakes(certificates_provided={"postgresql": company.issue()}) == []


def test_paths_start_at_the_environment(company: Company, mistakes: Any) -> None:
    company.issue()
    files = {"certificate": "db.crt", "key": "db.key", "authority": "db-ca.crt"}
    assert mistakes(certificates_provided={"postgresql": files}) == []


def test_intermediate_certificates_are_followed(company: Company, tmp_path: Path, mistakes: Any) -> None:
    branch = Company(tmp_path, "branch")
    branch.certificate = company.sign(branch.name, branch.key.public_key(), days=365, signs=True)
    files = branch.issue()
    root = {"authority": company.write("root.crt", company.certificate.public_bytes(Encoding.PEM))}
    (said,) = mistakes(certificates_provided={"postgresql": {**files, **root}})
    assert f"was not issued by {root['authority']}; intermediate certificates belong behind it." in said
    with Path(files["certificate"]).open("ab") as file:
        file.write(branch.certificate.public_bytes(Encoding.PEM))
    assert mistakes(certificates_provided={"postgresql": {**files, **root}}) == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"days": -2}, "which expired on "),
        ({"days": 90, "age": -10}, "is valid from "),
        ({"alternatives": [x509.DNSName("db.example.com")]}, f"is not for {ADDRESS}, by which clients reach the host"),
        ({"alternatives": [x509.IPAddress(ip_address("192.0.2.20"))]}, f"is not for {ADDRESS}"),
        ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, "is none for a server."),
    ],
    ids=["expired", "not yet", "a name", "another address", "a client's"],
)
def test_certificate_that_clients_would_refuse(
    company: Company, mistakes: Any, names: dict[str, Any], sentence: str
) -> None:
    files = company.issue(**names)
    (said,) = mistakes(certificates_provided={"postgresql": files})
    assert said.startswith(f"certificates_provided.postgresql.certificate is {files['certificate']}, which ")
    assert sentence in said


def test_name_of_a_wildcard_is_accepted(company: Company, mistakes: Any) -> None:
    files = company.issue(alternatives=[x509.DNSName("*.example.com")])
    provided = {"certificates_provided": {"postgresql": files}}
    assert mistakes(**provided, litellm_database_host="db.example.com") == []
    assert "is not for db.eu.example.com" in mistakes(**provided, litellm_database_host="db.eu.example.com")[0]


def test_key_that_does_not_fit_is_refused(company: Company, mistakes: Any) -> None:
    files = {**company.issue(), "key": company.issue("other")["key"]}
    (said,) = mistakes(certificates_provided={"postgresql": files})
    assert said.endswith(f"which does not fit the key {files['key']}.")


def test_certificate_of_another_authority_is_refused(company: Company, tmp_path: Path, mistakes: Any) -> None:
    """Of the same name even."""
    files = {**company.issue(), "authority": Company(tmp_path).issue("other")["authority"]}
    (said,) = mistakes(certificates_provided={"postgresql": files})
    assert "was not issued by" in said


@pytest.mark.parametrize("part", ["certificate", "key", "authority"])
@pytest.mark.parametrize("content", [None, b"no PEM"], ids=["missing", "no PEM"])
def test_file_that_cannot_be_used_is_named(company: Company, mistakes: Any, part: str, content: bytes | None) -> None:
    files = company.issue()
    Path(files[part]).unlink()
    if content is not None:
        company.write(Path(files[part]).name, content)
    (said,) = mistakes(certificates_provided={"postgresql": files})
    assert said.startswith(f"certificates_provided.postgresql.{part} is {files[part]}, which ")
    assert "cannot be read (No such file or directory)" in said if content is None else "in PEM form" in said


def test_key_behind_a_passphrase_is_refused(company: Company, mistakes: Any) -> None:
    files = company.issue()
    Path(files["key"]).write_bytes(private(ec.generate_private_key(ec.SECP256R1()), "secret"))
    (said,) = mistakes(certificates_provided={"postgresql": files})
    assert "which needs a passphrase that no service knows" in said


@pytest.mark.parametrize("files", [{}, {"certificate": "a", "key": "b"}, "db.crt"])
def test_entry_names_three_files(mistakes: Any, files: Any) -> None:
    (said,) = mistakes(certificates_provided={"postgresql": files})
    assert "certificates_provided.postgresql has to name the files certificate, key and authority" in said


def test_client_certificate_carries_the_name_of_its_role(company: Company, mistakes: Any) -> None:
    server = company.issue()
    given = {"litellm_database_client_certificate": True}
    for name, count in (("litellm_user", 0), ("somebody", 1)):
        client = company.issue("client", common_name=name, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        said = mistakes(certificates_provided={"postgresql": server, "database_client": client}, **given)
        assert len(said) == count
    assert "has not the common name litellm_user" in said[0]


def test_passphrase_is_needed_only_where_certificates_are_issued(company: Company, mistakes: Any) -> None:
    none = {"certificates_authority_passphrase": ""}
    assert mistakes(**none) == [
        "certificates_authority_passphrase has no value in secrets.yml: make one with `make secrets`."
    ]
    assert mistakes(**none, certificates_provided={"postgresql": company.issue()}) == []
    assert mistakes(**none, postgresql_tls=False, litellm_database_tls=False) == []


def test_authority_that_cannot_be_used_is_reported(company: Company, tmp_path: Path, mistakes: Any) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    company.folder = folder
    company.write("ca.crt", company.certificate.public_bytes(Encoding.PEM))
    assert f"{folder}/ca.key is not there, beside {folder}/ca.crt" in mistakes()[0]
    company.write("ca.key", private(company.key, "another passphrase"))
    assert f"does not open {folder}/ca.key" in mistakes()[0]
    company.write("ca.key", private(ec.generate_private_key(ec.SECP256R1()), PASSPHRASE))
    assert f"{folder}/ca.crt does not fit {folder}/ca.key" in mistakes()[0]
    company.write("ca.key", private(company.key, PASSPHRASE))
    assert mistakes() == []


def test_both_ends_have_to_know_of_a_certificate_from_elsewhere(company: Company, deployment: Any) -> None:
    files = {"postgresql": company.issue()}
    common = {"unreadable": [], "postgresql_tls": True, "certificates_authority_passphrase": PASSPHRASE}
    hosts = {
        "db1": {**common, "group_names": ["postgresql"], "certificates_provided": files},
        "gateway1": {**common, "group_names": ["litellm"], "certificates_provided": {}},
    }
    expression = "hosts | preflight_certificate_mistakes({'path': '/'})"
    ((host, _, says),) = deployment().evaluate(expression, "gateway1", hosts=hosts)
    assert host == "db1"
    assert "is set for db1 and not for gateway1, which checks it" in says


def test_folder_of_the_authority_is_no_inventory_and_not_in_git() -> None:
    assert "ignore_patterns = ^certificates$" in (PROJECT / "ansible.cfg").read_text()
    assert "/inventory/*/certificates/" in (PROJECT / ".gitignore").read_text().splitlines()
