"""`make sbom`: valid CycloneDX with exactly what the lock file installs on the target, and its hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from supply_chain import sbom, target
from supply_chain.locks import chosen, environment_locks, read_lock

LOCK = """\
annotated-doc==0.0.6 ; python_full_version < '3.11' \\
    --hash=sha256:{0}
annotated-doc==0.0.7 ; python_full_version >= '3.11' \\
    --hash=sha256:{1} \\
    --hash=sha256:{2}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{0}
""".format(*(digit * 64 for digit in "abc"))


@pytest.mark.parametrize("role", environment_locks())
def test_components_are_the_packages_of_the_lock_file(role: str, tmp_path: Path) -> None:
    lock = environment_locks()[role]
    text = sbom.write(role, lock, tmp_path).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert {part["purl"] for part in document["components"]} == {
        f"pkg:pypi/{name}@{pin.version}" for name, pin in chosen(read_lock(lock), target.MARKERS).items()
    }
    assert document["metadata"]["component"]["name"] == f"{role}-environment"


def test_same_lock_file_gives_the_same_bytes_with_its_hashes_and_its_version(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(LOCK)
    first = sbom.write("example", lock, tmp_path).read_bytes()
    assert sbom.write("example", lock, tmp_path).read_bytes() == first
    document = json.loads(first)
    [component] = document["components"]
    assert (component["name"], component["version"]) == ("annotated-doc", "0.0.7")
    [source] = component["externalReferences"]
    assert sorted(one["content"] for one in source["hashes"]) == ["b" * 64, "c" * 64]
    assert document["metadata"]["component"]["version"] == f"0+{hashlib.sha256(LOCK.encode()).hexdigest()[:12]}"
