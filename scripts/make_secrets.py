#!/usr/bin/env python3
"""Make the secrets that an environment lacks: inventory/NAME/group_vars/all/secrets.yml.

Values that are there stay as they are, comments and encryption included; nothing is asked and no
secret is printed. Exits with 1, and a sentence on stderr, where it cannot go on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
ALPHABET = string.ascii_letters + string.digits  # safe in a URL, a shell and an environment file
LENGTH = 40  # characters, 238 bits
ENCRYPTED = "$ANSIBLE_VAULT;"

HEADER = """\
---
# Secrets of this environment; git ignores this file. `make secrets` adds what is missing and changes nothing else.
"""
PREFIXES = {  # what every environment needs
    "database_password": "",
    "litellm_master_key": "sk-",
    "litellm_salt_key": "sk-",
    "litellm_ui_password": "",
    "certificates_authority_passphrase": "",
}
PLACEHOLDER = "REPLACE-ME"  # what preflight refuses
MADE_UP = "LAB_"  # the lab's test double takes any key: these may be random
OF_THE_ROLE = "LITELLM_"  # set by the role itself
NULL = "tag:yaml.org,2002:null"
REFERENCE = re.compile(r"os\.environ/(\w+)")


class SecretsError(Exception):
    """Something that the user has to put right first."""


def random_secret() -> str:
    """Return a new random secret."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def environment_folder(name: str) -> Path:
    """Return the folder of an environment, given by its name in inventory/ or by its path."""
    for folder in (PROJECT / "inventory" / name, Path(name)):
        if folder.is_dir():
            return folder
    known = sorted(folder.name for folder in (PROJECT / "inventory").iterdir() if folder.is_dir())
    raise SecretsError(f"There is no environment {name}: it is none of {', '.join(known)} and not a folder.")


def provider_keys(folder: Path) -> list[str]:
    """Return the names that the environment refers to as os.environ/NAME and does not set in litellm_environment."""
    referenced: set[str] = set()
    given: set[str] = set()
    for document in _documents(folder):
        referenced.update(name for text in _texts(document) for name in REFERENCE.findall(text))
        given.update(_names(_value(document, "litellm_environment")))
    return sorted(name for name in referenced - given if not name.startswith(OF_THE_ROLE))


def key_aliases(folder: Path) -> list[str]:
    """Return the virtual keys that the environment declares to be there, by their names."""
    found: set[str] = set()
    for document in _documents(folder):
        entries = _value(document, "litellm_keys")
        for entry in entries.value if isinstance(entries, yaml.SequenceNode) else []:
            alias, state = _value(entry, "key_alias"), _value(entry, "state")
            if alias is not None and not _is_empty(alias) and (state is None or state.value != "absent"):
                found.add(alias.value)
    return sorted(found)


def _documents(folder: Path) -> Iterator[yaml.Node | None]:
    for file in sorted(folder.rglob("*.y*ml")):
        if file.name == "secrets.yml":
            continue
        try:
            yield yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise SecretsError(f"{file} is not YAML: {error}") from error


def with_missing(text: str, keys: Iterable[str], aliases: Iterable[str]) -> tuple[str, list[str]]:
    """Return the text of a secrets file with what it lacked, and the names of what was added."""
    document = _mapping(text)
    missing = [name for name in PREFIXES if _is_empty(_value(document, name))]
    have = {name: set(_names(_value(document, name))) for name in ("litellm_secrets", "litellm_key_values")}
    made = [("litellm_secrets", key, key) for key in keys if key not in have["litellm_secrets"]]
    # A name that people have made up is quoted: it may be one that YAML takes for something else.
    made += [
        ("litellm_key_values", alias, json.dumps(alias)) for alias in aliases if alias not in have["litellm_key_values"]
    ]
    added = [*missing, *(f"{container}.{name}" for container, name, _ in made)]
    try:
        extended = text if text.strip() else HEADER
        for name in missing:
            extended = _with_value(extended, name, PREFIXES[name] + random_secret())
        for container, name, written in made:
            extended = _with_entry(extended, container, f"{written}: {_new_value(container, name)}")
        before, after = dict(_leaves(document)), dict(_leaves(_mapping(extended)))
    except yaml.YAMLError:
        before, after = {}, {}
    if not (before.items() <= after.items() and set(added) <= set(after)):
        raise SecretsError(f"The secrets file is written in an unusual way: add {', '.join(added)} to it by hand.")
    return extended, added


def _new_value(container: str, name: str) -> str:
    if container == "litellm_key_values":
        return f"sk-{random_secret()}"
    return random_secret() if name.startswith(MADE_UP) else PLACEHOLDER


def _with_value(text: str, name: str, value: str) -> str:
    """Give a top-level name its value: a new line at the end, or the empty place behind the name."""
    node = _value(_mapping(text), name)
    if node is None:
        return f"{text.rstrip()}\n{name}: {value}\n"
    return f"{text[: node.start_mark.index].rstrip(' ')} {value}{text[node.end_mark.index :]}"


def _with_entry(text: str, name: str, entry: str) -> str:
    """Add an entry to a mapping of the text, with its indentation."""
    node = _value(_mapping(text), name)
    if node is None:
        return f"{text.rstrip()}\n{name}:\n  {entry}\n"
    if _is_empty(node):
        return f"{text[: node.start_mark.index].rstrip(' ')}\n  {entry}\n{text[node.end_mark.index :].lstrip()}"
    if not isinstance(node, yaml.MappingNode):
        raise SecretsError(f"{name} must be a mapping of names to values.")
    if node.flow_style:
        brace = node.start_mark.index + 1
        return f"{text[:brace]}{entry}{', ' if node.value else ''}{text[brace:]}"
    lines = text.splitlines(keepends=True)
    last = node.value[-1][1].end_mark
    after = last.line + (1 if last.column else 0)
    if not lines[after - 1].endswith("\n"):
        lines[after - 1] += "\n"
    lines.insert(after, f"{' ' * node.value[0][0].start_mark.column}{entry}\n")
    return "".join(lines)


def _mapping(text: str) -> yaml.MappingNode | None:
    """Parse without reading values, so that `!vault` and other tags may stand."""
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    if _is_empty(document):
        return None
    if not isinstance(document, yaml.MappingNode):
        raise SecretsError("The secrets file must be a mapping of names to values.")
    return document


def _value(document: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = document.value if isinstance(document, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and (node.tag == NULL or not node.value))


def _leaves(node: yaml.Node | None, path: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield every scalar with its path, tag and text, but for empty ones."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _leaves(value, f"{path}.{key.value}" if path else key.value)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _leaves(item, f"{path}[{index}]")
    elif isinstance(node, yaml.ScalarNode) and not _is_empty(node):
        yield path, (node.tag, node.value)


def _names(node: yaml.Node | None) -> list[str]:
    return [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []


def _texts(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _texts(item)
    elif isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            yield from _texts(item)


def vault(command: str, text: str, password_file: Path) -> str:
    """Return the text encrypted or decrypted; it goes through pipes, never through a file."""
    arguments = [command, "--vault-password-file", str(password_file), "--output", "-"]
    done = subprocess.run(  # noqa: S603  the arguments are ours
        [sys.executable, "-m", "ansible.cli.vault", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "ANSIBLE_VAULT_PASSWORD_FILE"},
    )
    if done.returncode != 0:
        raise SecretsError(f"ansible-vault {command} failed: {done.stderr.strip()}")
    return done.stdout


def write(file: Path, text: str) -> None:
    """Put the text into the file at once, readable by its owner alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".secrets-", dir=file.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make(folder: Path, password_file: Path | None) -> list[str]:
    """Bring the secrets of an environment up to date and return what was done, as sentences."""
    file = folder / "group_vars" / "all" / "secrets.yml"
    shown = file.relative_to(PROJECT) if file.is_relative_to(PROJECT) else file
    stored = file.read_text(encoding="utf-8") if file.exists() else ""
    was_encrypted = stored.startswith(ENCRYPTED)
    if was_encrypted and password_file is None:
        raise SecretsError(f"{shown} is encrypted: give --vault-password-file or set ANSIBLE_VAULT_PASSWORD_FILE.")
    if password_file is not None and not password_file.is_file():
        raise SecretsError(f"The vault's password file {password_file} does not exist.")
    known = vault("decrypt", stored, password_file) if was_encrypted and password_file else stored
    try:
        text, added = with_missing(known, provider_keys(folder), key_aliases(folder))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SecretsError(f"{shown} is not YAML{line}.") from None  # the error itself would show a secret
    encrypts = password_file is not None and not was_encrypted
    done = []
    if added or encrypts:
        write(file.resolve(), vault("encrypt", text, password_file) if password_file else text)
    elif file.stat().st_mode & 0o077:
        file.chmod(0o600)
        done.append(f"{shown}: now readable by its owner alone.")
    placeholders = [name for name, (_, value) in _leaves(_mapping(text)) if value == PLACEHOLDER]
    made = [name for name in added if name not in placeholders]
    if made:
        done.append(f"{shown}: made {', '.join(made)}.")
    if placeholders:
        done.append(f"{shown}: put the providers' keys in place of {PLACEHOLDER}: {', '.join(placeholders)}.")
    if encrypts:
        done.append(f"{shown}: encrypted with ansible-vault.")
    return done or [f"{shown}: has every secret already."]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Make the secrets that an environment lacks, in inventory/NAME/group_vars/all/secrets.yml. "
        "Values that are there are never changed.",
        epilog="Keys that the models name as os.environ/NAME get a placeholder in litellm_secrets, to be replaced by "
        "the provider's key; those of the lab (LAB_...) get a random value, and so do the virtual keys that "
        "litellm_keys names, in litellm_key_values.",
    )
    parser.add_argument(
        "--environment", required=True, metavar="NAME", help="a folder in inventory/, or the path of one elsewhere"
    )
    parser.add_argument(
        "--vault-password-file",
        type=Path,
        metavar="FILE",
        default=os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE"),
        help="encrypt the file with ansible-vault and this password (default: $ANSIBLE_VAULT_PASSWORD_FILE); "
        "an encrypted file stays encrypted",
    )
    given = parser.parse_args(arguments)
    password_file = given.vault_password_file.resolve() if given.vault_password_file else None
    try:
        for sentence in make(environment_folder(given.environment), password_file):
            print(sentence)
    except (SecretsError, OSError) as error:
        print(f"make_secrets: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
