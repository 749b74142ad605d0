"""Mistakes in certificates that come from elsewhere, and in the authority that issues the others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

PARTS = ("certificate", "key", "authority")
PURPOSES = {
    "postgresql": ExtendedKeyUsageOID.SERVER_AUTH,
    "gateway": ExtendedKeyUsageOID.SERVER_AUTH,
    "database_client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
PASSPHRASE = "certificates_authority_passphrase"  # noqa: S105  a name
VAULTED = b"$ANSIBLE_VAULT;"  # Ansible decrypts such a file when it copies it


class UnfitError(Exception):
    """What is wrong with a file, in words that follow its name."""


def certificate_mistakes(hosts: Hosts, environment: Mapping[str, Any]) -> list[Mistake]:
    """Return the mistakes in the certificates that the hosts need."""
    found: list[Mistake] = []
    issued = []
    for host, variables in hosts.items():
        for name in _needed(variables):
            provided = _mapping(variables.get("certificates_provided")).get(name)
            if provided is None:
                issued.append(variables)
                continue
            for at, says in _provided(name, provided, _names(name, host, hosts), variables, environment):
                found.append((host, at, f"{at} {says}"))
    if issued:
        found += _authority(issued[0], environment)
    return [*found, *_one_sided(hosts)]


def _needed(variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the certificates that a host has to have."""
    if "postgresql" in variables["group_names"] and variables.get("postgresql_tls"):
        yield "postgresql"
    if "litellm" in variables["group_names"] and _has_client_certificate(variables):
        yield "database_client"
    if "litellm" in variables["group_names"] and variables.get("litellm_behind_proxy") and variables.get("haproxy_tls"):
        yield "gateway"


def _has_client_certificate(variables: Mapping[str, Any]) -> bool:
    return bool(variables.get("litellm_database_tls") and variables.get("litellm_database_client_certificate"))


def _names(certificate: str, host: str, hosts: Hosts) -> list[str]:
    """Return the names by which clients reach what a certificate is for."""
    if certificate == "gateway":
        return [str(hosts[host]["gateway_name"])] if hosts[host].get("gateway_name") else []
    if certificate != "postgresql":
        return []
    gateways = (variables for variables in hosts.values() if "litellm" in variables["group_names"])
    reached = (variables.get("litellm_database_host") for variables in gateways)
    return sorted({name for name in reached if isinstance(name, str)})


def _one_sided(hosts: Hosts) -> Iterator[Mistake]:
    """Yield hosts that would check a certificate from elsewhere against the internal authority."""
    for group, checks, name in (
        ("postgresql", "litellm", "postgresql"),
        ("litellm", "postgresql", "database_client"),
    ):
        for host, variables in hosts.items():
            if group not in variables["group_names"] or name not in _mapping(variables.get("certificates_provided")):
                continue
            for other, its in hosts.items():
                if checks in its["group_names"] and name not in _mapping(its.get("certificates_provided")):
                    says = f"certificates_provided.{name} is set for {host} and not for {other}, which checks it: "
                    yield host, f"certificates_provided.{name}", says + "set it in group_vars/all/main.yml."


def _provided(
    name: str, given: Any, names: list[str], variables: Mapping[str, Any], environment: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a certificate from elsewhere and where."""
    at = f"certificates_provided.{name}"
    if not isinstance(given, Mapping) or set(given) != set(PARTS):
        yield at, f"has to name the files {', '.join(PARTS[:-1])} and {PARTS[-1]}, and nothing else."
        return
    paths = {part: Path(environment["path"], Path(str(given[part])).expanduser()) for part in PARTS}
    read: dict[str, Any] = {}
    for part, load in (("certificate", _certificates), ("key", _key), ("authority", _certificates)):
        try:
            read[part] = load(paths[part])
        except UnfitError as error:
            yield f"{at}.{part}", f"is {paths[part]}, {error}."
    if "certificate" not in read:
        return
    chain = read["certificate"]
    at, shown = f"{at}.certificate", f"is {paths['certificate']}, which"
    now = datetime.now(timezone.utc)
    if chain[0].not_valid_after_utc < now:
        yield at, f"{shown} expired on {chain[0].not_valid_after_utc:%d %B %Y}."
    if chain[0].not_valid_before_utc > now:
        yield at, f"{shown} is valid from {chain[0].not_valid_before_utc:%d %B %Y} only."
    if read.get("key") is not None and _public(chain[0]) != _public(read["key"]):
        yield at, f"{shown} does not fit the key {paths['key']}."
    if "authority" in read and not _leads_to(chain, read["authority"]):
        yield at, f"{shown} was not issued by {paths['authority']}; intermediate certificates belong behind it."
    usage = _extension(chain[0], ExtensionOID.EXTENDED_KEY_USAGE)
    if usage is not None and PURPOSES[name] not in usage:
        kind = "client" if PURPOSES[name] == ExtendedKeyUsageOID.CLIENT_AUTH else "server"
        yield at, f"{shown} is none for a {kind}."
    for wanted in names:
        if not _is_for(chain[0], wanted):
            yield at, f"{shown} is not for {wanted}, by which clients reach the host (address, in hosts.yml)."
    if name == "database_client" and variables.get("litellm_database_user") not in _common_names(chain[0]):
        yield at, f"{shown} has not the common name {variables.get('litellm_database_user')}, the role in PostgreSQL."


def _authority(variables: Mapping[str, Any], environment: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield why the internal authority cannot issue."""
    passphrase = variables.get(PASSPHRASE)
    if passphrase in (None, ""):
        if PASSPHRASE not in variables["unreadable"]:
            says = f"{PASSPHRASE} has no value in {environment['secrets']}: make one with `{environment['command']}`."
            yield "", "", says
        return
    given = variables.get("certificates_directory")
    folder = Path(given).expanduser() if isinstance(given, str) else Path(environment["path"], "certificates")
    key, certificate = folder / "ca.key", folder / "ca.crt"
    if not key.exists():
        if certificate.exists():
            says = f"{key} is not there, beside {certificate}: copy it from whoever deployed before."
            yield "", "certificates_directory", says
        return
    try:
        secret = load_pem_private_key(key.read_bytes(), str(passphrase).encode())
    except (ValueError, TypeError):
        says = f"{PASSPHRASE} does not open {key}: use the one that it was made with, or the folder that belongs to it."
        yield "", PASSPHRASE, says
    except OSError as error:
        yield "", "certificates_directory", f"{key} cannot be read: {error.strerror}."
    else:
        try:
            fits = not certificate.exists() or _public(_certificates(certificate)[0]) == _public(secret)
        except UnfitError as error:
            yield "", "certificates_directory", f"There is {certificate}, {error}."
        else:
            if not fits:
                yield "", "certificates_directory", f"{certificate} does not fit {key}: copy both from one place."


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnfitError(f"which cannot be read ({error.strerror})") from error


def _certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a file, in their order."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise UnfitError("which holds no certificate in PEM form") from error


def _key(path: Path) -> Any:
    """Return a private key; None of one that Ansible Vault has encrypted."""
    content = _read(path)
    if content.startswith(VAULTED):
        return None
    try:
        return load_pem_private_key(content, None)
    except TypeError as error:
        raise UnfitError("which needs a passphrase that no service knows: encrypt it with ansible-vault") from error
    except ValueError as error:
        raise UnfitError("which holds no private key in PEM form") from error


def _public(holder: Any) -> bytes:
    return bytes(holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _leads_to(chain: list[x509.Certificate], authority: list[x509.Certificate]) -> bool:
    """Tell whether each certificate is issued by the next and the last by one of the authority's."""
    current = chain[0]
    for _ in range(len(chain) + 1):
        if any(_issued(current, by) for by in authority) or current in authority:
            return True
        following = [by for by in chain[1:] if by != current and _issued(current, by)]
        if not following:
            return False
        current = following[0]
    return False


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> Any:
    try:
        return certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    """Tell whether a client that uses the name, or the address, is content with the certificate."""
    alternatives = _extension(certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    if alternatives is None:
        return False
    try:
        return ipaddress.ip_address(name) in alternatives.get_values_for_type(x509.IPAddress)
    except ValueError:
        known = {text.lower() for text in alternatives.get_values_for_type(x509.DNSName)}
        return name.lower() in known or f"*.{name.lower().partition('.')[2]}" in known


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"preflight_certificate_mistakes": certificate_mistakes}
