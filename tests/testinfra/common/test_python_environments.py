"""The Python environments on a host: what the lock files say, as its authors made it, nothing more, and free.

A `.pth` file is run at every start of Python; that is how the malicious releases of a package that this project
depends on worked. Hashes keep such a release out, and this looks whether something came in all the same.
"""

import json
import re
from functools import cache
from typing import Any

import pytest

from supply_chain.locks import chosen, environment_locks, read_lock

LOCKS = {"/opt/litellm/venv": "litellm", "/opt/litellm/schema-venv": "schema"}
"""The environments, by the links that are in use, and the roles whose lock files they are made from."""
OF_PYTHON_ITSELF = {"pip", "setuptools"}
"""What `python3 -m venv` puts into every environment, from Debian's packages."""
START_FILES = {"distutils-precedence.pth"}
"""What may run at the start of Python: a file of setuptools, which Python 3.11 and older bring along."""
LOOSE = {"/opt/litellm/schema-venv": ["litellm/proxy/db/create_views.py"]}
"""What the role puts there by itself, out of a package that is not installed."""
FREE = re.compile(
    r"\b(MIT|Apache|BSD|0BSD|PSF|Python Software Foundation|MPL|Mozilla|ISC|Unlicense|LGPL|ZPL|Zope|CC0|Zlib)\b"
)
NOT_FREE = re.compile(r"proprietary|commercial licen|subscription", re.IGNORECASE)

LOOK = r"""
import base64, hashlib, importlib.metadata, json, pathlib, sysconfig
from pip._vendor.packaging.markers import default_environment

site = pathlib.Path(sysconfig.get_path("purelib")).resolve()
packages, recorded, changed = {}, set(), []
for package in importlib.metadata.distributions(path=[str(site)]):
    about = package.metadata
    licences = [about.get("License-Expression") or "", (about.get("License") or "")[:2000]]
    licences += [line for line in about.get_all("Classifier") or [] if line.startswith("License ::")]
    packages[about["Name"]] = {"version": package.version, "licence": "\n".join(filter(None, licences))}
    for file in package.files or []:
        path = (site / file).resolve()
        recorded.add(path)
        if file.hash and path.suffix != ".pyc":
            found = hashlib.new(file.hash.mode, path.read_bytes()).digest() if path.is_file() else b""
            if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != file.hash.value:
                changed.append(str(path))
present = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"]
print(json.dumps({
    "markers": default_environment(),
    "packages": packages,
    "changed": changed,
    "unrecorded": [str(path.relative_to(site)) for path in present if path.resolve() not in recorded],
    "at_start": [path.name for path in present
                 if path.suffix == ".pth" or path.stem in ("sitecustomize", "usercustomize")],
}))
"""


@pytest.fixture(scope="module")
def environments(host: Any) -> list[str]:
    """The environments of the host, by the links that are in use."""
    found = host.check_output("find /opt/litellm -maxdepth 1 -type l -name '*venv'").split()
    assert found
    assert set(found) <= set(LOCKS), "an environment whose lock file is not known"
    return list(found)


@pytest.fixture(scope="module")
def contents(host: Any, environments: list[str]) -> dict[str, Any]:
    """What is in each environment, as its own Python sees it."""
    return {name: json.loads(host.check_output("%s/bin/python -I -c %s", name, LOOK)) for name in environments}


@cache
def normalized(name: str) -> str:
    """The name of a package as lock files have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_packages_are_those_of_the_lock_file(contents: dict[str, Any]) -> None:
    """Each at its version, none missing, and none that came another way."""
    for environment, found in contents.items():
        pins = chosen(read_lock(environment_locks()[LOCKS[environment]]), found["markers"])
        packages = {normalized(name): package["version"] for name, package in found["packages"].items()}
        assert {name: version for name, version in packages.items() if name not in OF_PYTHON_ITSELF} == {
            name: pin.version for name, pin in pins.items()
        }


def test_files_are_as_they_were_installed(contents: dict[str, Any]) -> None:
    """Each has the hash that its package gives it."""
    for environment, found in contents.items():
        assert found["changed"] == [], environment


def test_every_file_belongs_to_a_package(contents: dict[str, Any]) -> None:
    """But the one file of LiteLLM that the database host reads its views from."""
    for environment, found in contents.items():
        assert found["unrecorded"] == LOOSE.get(environment, []), environment


def test_file_of_litellm_on_the_database_host_is_the_gateways(database: Any, gateway: Any) -> None:
    for environment, files in LOOSE.items():
        for file in files:
            here = database.check_output("sha256sum %s/lib/python3*/site-packages/%s | cut -c 1-64", environment, file)
            there = gateway.check_output(
                "sha256sum /opt/litellm/venv/lib/python3*/site-packages/%s | cut -c 1-64", file
            )
            assert len(here) == 64
            assert here == there


def test_no_file_runs_at_the_start_of_python(contents: dict[str, Any]) -> None:
    for environment, found in contents.items():
        assert set(found["at_start"]) <= START_FILES, environment


def test_packages_are_whole(host: Any, environments: list[str]) -> None:
    for environment in environments:
        assert "No broken requirements found" in host.check_output("%s/bin/python -m pip check", environment)


def test_every_package_is_free(contents: dict[str, Any]) -> None:
    """Each names a free licence in its metadata, and none says that it is proprietary."""
    for environment, found in contents.items():
        licences = {normalized(name): package["licence"] for name, package in found["packages"].items()}
        assert "litellm-enterprise" not in licences
        assert not {name: text for name, text in licences.items() if not FREE.search(text)}, environment
        assert not {name: text for name, text in licences.items() if NOT_FREE.search(text)}, environment


def test_prisma_and_node_are_absent(host: Any, contents: dict[str, Any]) -> None:
    """Neither the package, nor an engine that it would download, nor what runs its command line."""
    for environment, found in contents.items():
        assert "prisma" not in map(normalized, found["packages"]), environment
    assert host.run("command -v node nodejs npm prisma").stdout == ""
    names = r"\( -name '*query[-_]engine*' -o -name '*schema-engine*' -o -name node_modules \) -not -name '*.py*'"
    assert host.check_output(f"find / -xdev {names} -print -quit") == ""


def test_environments_belong_to_root(host: Any, environments: list[str]) -> None:
    """The services run from them and must not be able to change them."""
    for environment in environments:
        assert host.check_output("find -L %s -not -user root -o -perm /022 -not -type l", environment) == ""
