"""`make secrets`: makes what an environment lacks, touches nothing that is there, shows no secret."""

from __future__ import annotations

import importlib.util
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODELS = """
litellm_models:
  - model_name: chat
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}
  - model_name: lab
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/LAB_UPSTREAM_API_KEY}
  # - {model_name: later, litellm_params: {api_key: os.environ/COMMENTED_OUT}}
litellm_environment:
  REGION: here
litellm_router_settings: {redis_host: os.environ/REGION, redis_password: os.environ/LITELLM_MASTER_KEY}
"""


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_secrets = load("make_secrets", ROOT / "scripts" / "make_secrets.py")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The folder of an environment with models and without secrets."""
    folder = tmp_path / "inventory" / "example"
    (folder / "group_vars" / "all").mkdir(parents=True)
    (folder / "group_vars" / "all" / "main.yml").write_text(MODELS)
    return folder


@pytest.fixture
def secrets_file(environment: Path) -> Path:
    return environment / "group_vars" / "all" / "secrets.yml"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "vault-password"
    file.write_text("opens it\n")
    return file


@pytest.fixture
def run(environment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = make_secrets.main(["--environment", str(environment), *arguments])
        return code, *capsys.readouterr()

    return run


def test_first_run_makes_every_secret(run: Run, secrets_file: Path) -> None:
    code, said, _ = run()
    made = yaml.safe_load(secrets_file.read_text())
    assert code == 0
    assert set(made) == {
        "database_password",
        "litellm_master_key",
        "litellm_salt_key",
        "litellm_ui_password",
        "certificates_authority_passphrase",
        "litellm_secrets",
    }
    assert re.fullmatch(r"sk-[A-Za-z0-9]{32,}", made["litellm_salt_key"])
    assert len(made["litellm_ui_password"]) >= 32
    assert len(made["certificates_authority_passphrase"]) >= 32
    assert len(made["database_password"]) >= 32
    assert re.fullmatch(r"sk-[A-Za-z0-9]{32,}", made["litellm_master_key"])
    assert "made database_password, litellm_master_key" in said


def test_file_is_readable_by_its_owner_alone(run: Run, secrets_file: Path) -> None:
    run()
    assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
    secrets_file.chmod(0o644)
    _, said, _ = run()
    assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
    assert "readable by its owner alone" in said


def test_no_secret_is_printed(run: Run, secrets_file: Path) -> None:
    _, said, complained = run()
    made = yaml.safe_load(secrets_file.read_text())
    lab_key = made["litellm_secrets"]["LAB_UPSTREAM_API_KEY"]
    for secret in (made["database_password"], made["litellm_master_key"], lab_key):
        assert secret not in said + complained


def test_provider_keys_get_a_placeholder_and_the_labs_a_random_value(run: Run, secrets_file: Path) -> None:
    _, said, _ = run()
    keys = yaml.safe_load(secrets_file.read_text())["litellm_secrets"]
    assert keys["OPENAI_API_KEY"] == make_secrets.PLACEHOLDER
    assert len(keys["LAB_UPSTREAM_API_KEY"]) >= 32
    assert "litellm_secrets.OPENAI_API_KEY" in said


def test_keys_come_from_references_that_lead_nowhere_yet(run: Run, secrets_file: Path) -> None:
    run()
    keys = yaml.safe_load(secrets_file.read_text())["litellm_secrets"]
    assert set(keys) == {"OPENAI_API_KEY", "LAB_UPSTREAM_API_KEY"}  # no comment, no plain variable, none of the role's


def test_virtual_keys_get_a_random_value_each(run: Run, environment: Path, secrets_file: Path) -> None:
    declared = "litellm_keys: [{key_alias: ci}, {key_alias: 'yes: 1'}, {key_alias: old, state: absent}]\n"
    (environment / "group_vars" / "all" / "keys.yml").write_text(declared)
    secrets_file.write_text("litellm_key_values:\n  theirs: sk-kept\n")
    _, said, _ = run()
    values = yaml.safe_load(secrets_file.read_text())["litellm_key_values"]
    assert set(values) == {"theirs", "ci", "yes: 1"}
    assert values.pop("theirs") == "sk-kept"
    assert all(re.fullmatch(r"sk-[A-Za-z0-9]{32,}", value) for value in values.values())
    assert len(set(values.values())) == 2
    assert "litellm_key_values.ci" in said
    assert values["ci"] not in said


def test_two_environments_share_no_secret(run: Run, secrets_file: Path) -> None:
    run()
    first = yaml.safe_load(secrets_file.read_text())
    secrets_file.unlink()
    run()
    second = yaml.safe_load(secrets_file.read_text())
    assert first["database_password"] != second["database_password"]
    assert first["litellm_master_key"] != second["litellm_master_key"]


def test_second_run_changes_nothing(run: Run, secrets_file: Path) -> None:
    run()
    secrets_file.write_text(secrets_file.read_text().replace("REPLACE-ME", "a-real-key"))
    before = secrets_file.read_bytes(), secrets_file.stat().st_mtime_ns
    code, said, _ = run()
    assert code == 0
    assert (secrets_file.read_bytes(), secrets_file.stat().st_mtime_ns) == before
    assert "every secret already" in said


def test_placeholders_are_named_until_they_are_replaced(run: Run) -> None:
    run()
    _, said, _ = run()
    assert "in place of REPLACE-ME: litellm_secrets.OPENAI_API_KEY" in said


@pytest.mark.parametrize(
    "existing",
    [
        "database_password: mine # from the old system\n",
        "# Ours.\ndatabase_password: mine\n\nlitellm_secrets:\n    OTHER: kept # why\n\n# The end.\n",
        "database_password: mine\nlitellm_secrets: {}\n",
        "database_password: mine\nlitellm_secrets: {OTHER: kept}\n",
        "database_password: mine\nlitellm_secrets: {\n  OTHER: kept, # why\n  }\n",
        "litellm_secrets:\n  OTHER: |\n    two\n    lines\ndatabase_password: mine",
        "litellm_secrets:\ndatabase_password: mine\n",
        "database_password: mine\nlitellm_master_key:\nlitellm_secrets: null\n",
        "database_password: mine\nlitellm_secrets:\n  OTHER: !vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    3132\n",
    ],
)
def test_what_is_there_stays_as_it_is(run: Run, secrets_file: Path, existing: str) -> None:
    secrets_file.write_text(existing)
    code, _, complained = run()
    assert code == 0, complained
    text = secrets_file.read_text()
    node = make_secrets._mapping(text)
    leaves = {path: value for path, (_, value) in make_secrets._leaves(node)}
    assert leaves["database_password"] == "mine"
    assert leaves["litellm_master_key"].startswith("sk-")
    assert leaves["litellm_secrets.OPENAI_API_KEY"] == make_secrets.PLACEHOLDER
    for path, (_, value) in make_secrets._leaves(make_secrets._mapping(existing)):
        assert leaves[path] == value
    for comment in re.findall(r"#.*", existing):
        assert comment in text


def test_file_that_cannot_be_extended_safely_is_left_alone(run: Run, secrets_file: Path) -> None:
    existing = "database_password: mine\n...\n"
    secrets_file.write_text(existing)
    code, _, complained = run()
    assert code == 1
    assert "by hand" in complained
    assert secrets_file.read_text() == existing


@pytest.mark.parametrize("broken", ["database_password: [mine", "- mine\n", "just mine"])
def test_file_that_is_no_mapping_is_refused_without_showing_it(run: Run, secrets_file: Path, broken: str) -> None:
    secrets_file.write_text(broken)
    code, said, complained = run()
    assert code == 1
    assert "secrets" in complained
    assert "mine" not in said + complained
    assert secrets_file.read_text() == broken


def test_unknown_environment_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_secrets.main(["--environment", "nowhere"]) == 1
    complained = capsys.readouterr().err
    assert "nowhere" in complained
    assert "production" in complained


def test_vault_password_encrypts_and_keeps_encrypted(run: Run, secrets_file: Path, password_file: Path) -> None:
    run()
    plain = yaml.safe_load(secrets_file.read_text())
    _, said, _ = run("--vault-password-file", str(password_file))
    assert secrets_file.read_text().startswith("$ANSIBLE_VAULT;")
    assert "encrypted" in said

    main = secrets_file.parent / "main.yml"
    main.write_text(main.read_text().replace("OPENAI_API_KEY", "MISTRAL_API_KEY"))
    code, said, complained = run("--vault-password-file", str(password_file))
    assert code == 0, complained
    assert "MISTRAL_API_KEY" in said
    encrypted = secrets_file.read_text()
    assert encrypted.startswith("$ANSIBLE_VAULT;")
    known = yaml.safe_load(make_secrets.vault("decrypt", encrypted, password_file))
    assert known["database_password"] == plain["database_password"]
    assert set(known["litellm_secrets"]) == {"OPENAI_API_KEY", "MISTRAL_API_KEY", "LAB_UPSTREAM_API_KEY"}


def test_encrypted_file_without_its_password_is_refused(run: Run, secrets_file: Path, password_file: Path) -> None:
    run("--vault-password-file", str(password_file))
    encrypted = secrets_file.read_text()
    code, _, complained = run()
    assert code == 1
    assert "--vault-password-file" in complained
    password_file.write_text("another\n")
    code, _, complained = run("--vault-password-file", str(password_file))
    assert code == 1
    assert "decrypt failed" in complained
    assert secrets_file.read_text() == encrypted


def test_command_takes_the_vault_password_from_the_environment(environment: Path, password_file: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_secrets.py"), "--environment", str(environment)],
        env={"ANSIBLE_VAULT_PASSWORD_FILE": str(password_file), "PATH": "/usr/bin:/bin", "HOME": str(environment)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (environment / "group_vars" / "all" / "secrets.yml").read_text().startswith("$ANSIBLE_VAULT;")


def test_preflight_takes_what_was_made_and_refuses_the_placeholder(run: Run, secrets_file: Path) -> None:
    preflight = load("preflight_secrets", ROOT / "roles" / "preflight" / "filter_plugins" / "preflight_secrets.py")
    run()
    host = {**yaml.safe_load(secrets_file.read_text()), "group_names": ["litellm"], "unreadable": []}
    mistakes = preflight.secret_mistakes({"gateway1": host}, {"secrets": "secrets.yml", "command": "make secrets"})
    assert [at for _, at, _ in mistakes] == ["litellm_secrets.OPENAI_API_KEY"]
