"""Where PostgreSQL comes from on each system, and what the role refuses, with its sentence.

Only Debian 13 can be tried in the lab. For the others this is what there is: the repository's definition and the
decisions, as Ansible evaluates them with those systems' facts.
"""

from typing import Any

import pytest
from ansible_engine import FACTS, PROJECT

ROLE, HOST = "postgresql", "postgresql1"
TASKS = PROJECT / "roles" / ROLE / "tasks"

DEBIAN_12 = {"distribution": "Debian", "distribution_major_version": "12", "distribution_release": "bookworm"}
DEBIAN_13 = {"distribution": "Debian", "distribution_major_version": "13", "distribution_release": "trixie"}
UBUNTU_22 = {
    "distribution": "Ubuntu",
    "distribution_major_version": "22",
    "distribution_version": "22.04",
    "distribution_release": "jammy",
}
UBUNTU_24 = {
    "distribution": "Ubuntu",
    "distribution_major_version": "24",
    "distribution_version": "24.04",
    "distribution_release": "noble",
}
DEBIAN_11 = {"distribution": "Debian", "distribution_major_version": "11", "distribution_release": "bullseye"}
FEDORA = {"distribution": "Fedora", "distribution_major_version": "43", "distribution_release": ""}


def on(deployment: Any, system: dict[str, str]) -> Any:
    """The deployment, with hosts that run the system."""
    return deployment(facts={**FACTS, **system})


def tasks(deployment: Any, file: str) -> list[dict[str, Any]]:
    """The tasks of a file, those of blocks among them."""
    found = []
    for task in deployment().loader.load_from_file(str(TASKS / file), trusted_as_template=True):
        found += [task, *task.get("block", [])]
    return found


@pytest.mark.parametrize(
    ("system", "version", "repository", "pgdg"),
    [
        (DEBIAN_13, 17, "auto", False),
        (DEBIAN_13, 18, "auto", True),
        (DEBIAN_13, 17, "pgdg", True),
        (DEBIAN_13, 17, "distribution", False),
        (DEBIAN_12, 17, "auto", True),
        (UBUNTU_22, 17, "auto", True),
        (UBUNTU_24, 17, "auto", True),
        (UBUNTU_24, 18, "auto", True),
    ],
)
def test_packages_are_the_systems_where_it_has_the_version(
    deployment: Any, system: dict[str, str], version: int, repository: str, pgdg: bool
) -> None:
    given = {"postgresql_version": version, "postgresql_repository": repository}
    assert on(deployment, system).evaluate("_postgresql_from_pgdg", HOST, ROLE, **given) is pgdg


@pytest.mark.parametrize(
    ("system", "suite"),
    [
        (DEBIAN_12, "bookworm-pgdg"),
        (DEBIAN_13, "trixie-pgdg"),
        (UBUNTU_22, "jammy-pgdg"),
        (UBUNTU_24, "noble-pgdg"),
    ],
)
def test_repository_is_that_of_the_release(deployment: Any, system: dict[str, str], suite: str) -> None:
    (task,) = [task for task in tasks(deployment, "install.yml") if "ansible.builtin.deb822_repository" in task]
    definition = on(deployment, system).evaluate("task", HOST, ROLE, task=task["ansible.builtin.deb822_repository"])
    assert definition == {
        "name": "pgdg",
        "uris": ["https://apt.postgresql.org/pub/repos/apt"],
        "suites": [suite],
        "components": ["main"],
        "architectures": ["amd64"],
        "signed_by": "https://www.postgresql.org/media/keys/ACCC4CF8.asc",
    }


def test_repository_is_that_of_the_processor(deployment: Any) -> None:
    (task,) = [task for task in tasks(deployment, "install.yml") if "ansible.builtin.deb822_repository" in task]
    ours = on(deployment, {**DEBIAN_12, "architecture": "aarch64"})
    assert ours.evaluate("task", HOST, ROLE, task=task["ansible.builtin.deb822_repository"])["architectures"] == [
        "arm64"
    ]


def test_repository_can_be_a_mirror(deployment: Any) -> None:
    (task,) = [task for task in tasks(deployment, "install.yml") if "ansible.builtin.deb822_repository" in task]
    given = {
        "postgresql_repository_url": "https://mirror.example/pg",
        "postgresql_repository_key_url": "/usr/share/k.asc",
    }
    definition = on(deployment, DEBIAN_12).evaluate(
        "task", HOST, ROLE, task=task["ansible.builtin.deb822_repository"], **given
    )
    assert definition["uris"] == ["https://mirror.example/pg"]
    assert definition["signed_by"] == "/usr/share/k.asc"


def refusals(deployment: Any, system: dict[str, str], **given: Any) -> list[str]:
    """The sentences of the checks that fail, up to the first one, as in a run."""
    ours = on(deployment, system)
    for task in tasks(deployment, "refuse.yml"):
        check = task["ansible.builtin.assert"]
        if not ours.evaluate(check["that"], HOST, ROLE, **given):
            return [str(ours.evaluate("sentence", HOST, ROLE, **given, sentence=check["fail_msg"]))]
    return []


@pytest.mark.parametrize("system", [DEBIAN_12, DEBIAN_13, UBUNTU_22, UBUNTU_24])
def test_known_systems_pass(deployment: Any, system: dict[str, str]) -> None:
    assert refusals(deployment, system) == []


@pytest.mark.parametrize(
    ("system", "given", "sentence"),
    [
        (DEBIAN_11, {}, "postgresql1 runs Debian 11, but PostgreSQL can be set up on Debian 12, Debian 13, "),
        (FEDORA, {}, "postgresql1 runs Fedora 43"),
        (
            DEBIAN_13,
            {"postgresql_version": 16},
            "postgresql_version is 16, but 17 or later is needed: set it to 17 in ",
        ),
        (
            DEBIAN_12,
            {"postgresql_repository": "distribution"},
            'postgresql_repository is "distribution", but Debian 12 carries no PostgreSQL 17: set it to "auto" in ',
        ),
        (
            DEBIAN_13,
            {"postgresql_settings": {"port": 1, "hba_file": "x", "work_mem": "1MB"}},
            "must not hold hba_file (use postgresql_client_addresses and postgresql_hba_entries), port (use",
        ),
        (DEBIAN_13, {"postgresql_user": "postgres"}, "have to be two roles and neither of them"),
        (DEBIAN_13, {"postgresql_user": "litellm_owner"}, "have to be two roles"),
        (DEBIAN_13, {"postgresql_password": ""}, "set database_password, in quotes, in "),
        (DEBIAN_13, {"postgresql_password": 12345678}, "has to be text and not empty"),
    ],
    ids=["old-system", "unknown-system", "version", "source", "settings", "superuser", "same", "empty", "number"],
)
def test_mistakes_are_refused_with_a_sentence(
    deployment: Any, system: dict[str, str], given: dict[str, Any], sentence: str
) -> None:
    """Before the host is touched: these tasks come first."""
    (said,) = refusals(deployment, system, **given)
    assert sentence in " ".join(said.split())
    assert "12345678" not in said


def test_mistakes_are_looked_for_first() -> None:
    first = (TASKS / "main.yml").read_text(encoding="utf-8").split("- name: ")[1]
    assert "refuse.yml" in first
