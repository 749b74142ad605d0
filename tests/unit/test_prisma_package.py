"""The package prisma as LiteLLM imports it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

import prisma
from litellm_sqlalchemy.prisma_client.cuid import cuid
from litellm_sqlalchemy.prisma_client.query_engine import Query
from litellm_sqlalchemy.prisma_client.records import Records
from litellm_sqlalchemy.prisma_client.schema_file import read_schema
from litellm_sqlalchemy.prisma_client.tables import Schema
from prisma import Base64, Json, Prisma

FILES = Path(__file__).resolve().parents[2] / "files"


def litellm_folder() -> Path:
    found = find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """The modules and names that a file takes from prisma, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "prisma")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "prisma" and not node.level:
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "prisma.errors":
            yield "prisma.errors", node.attr


def test_everything_that_litellm_imports_is_there() -> None:
    wanted = set()
    for path in litellm_folder().rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"(from|import) prisma\b|prisma\.errors", text):
            wanted |= set(imports(ast.parse(text)))
    assert ("prisma", "Prisma") in wanted
    assert len(wanted) > 40
    for module, name in sorted(wanted, key=str):
        found = import_module(module)
        assert name is None or hasattr(found, name), f"{module} has no {name}"


def test_what_is_not_there_is_told() -> None:
    for module in (prisma, *(import_module(f"prisma.{name}") for name in ("models", "actions"))):
        with pytest.raises(AttributeError, match="nope"):
            _ = module.nope
    with pytest.raises(AttributeError, match="litellm_nope"):
        _ = Prisma().litellm_nope
    with pytest.raises(AttributeError, match="litellm_nope"):
        _ = Prisma().batch_().litellm_nope


def test_it_does_not_load_beside_the_real_one(tmp_path: Path) -> None:
    metadata = tmp_path / "prisma-0.15.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: prisma\nVersion: 0.15.0\n")
    found = subprocess.run(
        [sys.executable, "-c", "import prisma"],
        env={"PYTHONPATH": f"{FILES}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "ImportError: The package prisma from PyPI is installed beside" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"), [(["migrate", "diff"], 0, ""), (["db", "push"], 1, "db_init.py")]
)
def test_command_that_litellm_calls(arguments: list[str], status: int, said: str) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "prisma", *arguments],
        env={"PYTHONPATH": str(FILES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (status, "")
    assert said in found.stderr
    assert "sqlalchemy" not in found.stderr.replace("litellm_sqlalchemy", "")


def test_actions_are_found_by_the_lower_name_of_the_model() -> None:
    client = Prisma()
    assert not client.is_connected()
    # LiteLLM's routing between primary and replica tells actions from methods by this.
    assert not callable(client.litellm_usertable)
    assert hasattr(client.litellm_usertable, "find_many")
    assert hasattr(client.litellm_usertable, "create")


def test_queries_are_named_as_litellms_metrics_read_them() -> None:
    from litellm.proxy.db.prisma_query_span import parse_prisma_query  # noqa: PLC0415 - it takes seconds

    from litellm_sqlalchemy.prisma_client.client import _raw_text  # noqa: PLC0415

    async def nothing(_session: Any) -> None: ...

    found = parse_prisma_query(Query.of("result: findUniqueLiteLLM_UserTable", nothing))
    assert (found.call_type, found.operation, found.table) == ("find_unique", "select", "LiteLLM_UserTable")
    raw = parse_prisma_query(Query.of(_raw_text("queryRaw", 'SELECT * FROM "LiteLLM_TeamTable"'), nothing))
    assert (raw.call_type, raw.operation, raw.table) == ("query_raw", "select", "LiteLLM_TeamTable")


def records(tmp_path: Path) -> tuple[Any, Any]:
    path = tmp_path / "schema.prisma"
    path.write_text(
        "model A {\n  id String @id\n  json Json\n  tags String[]\n  at DateTime?\n  raw Bytes?\n  bs B[]\n}\n"
        "model B {\n  id String @id\n  a_id String\n  a A @relation(fields: [a_id], references: [id])\n}\n"
    )
    schema = Schema(read_schema(path))
    return Records(schema), schema.models["A"]


def test_records_are_pydantic_models(tmp_path: Path) -> None:
    made, model = records(tmp_path)
    (record,) = made.make(model, [("x", '{"n": [1]}', None, None, b"\x00")])
    assert isinstance(record, BaseModel)
    assert type(record).__name__ == "A"
    assert (record.json, record.tags, record.at, record.bs) == ({"n": [1]}, [], None, None)
    assert record.raw.decode() == b"\x00"
    assert record.model_dump(exclude_unset=True) == {
        "id": "x",
        "json": {"n": [1]},
        "tags": [],
        "at": None,
        "raw": "AA==",
    }
    assert record.model_copy(update={"id": "y"}).id == "y"
    assert type(record).model_validate(record.model_dump()).model_dump() == record.model_dump()
    assert TypeAdapter(type(record)).validate_python(record) is record
    record.id = "z"
    assert dict(record)["id"] == "z"


def test_wrappers() -> None:
    assert Json.keys(a=1) == Json({"a": 1})
    assert Base64.encode(b"x") == Base64.fromb64("eA==")
    assert (str(Base64.encode(b"x")), Base64.encode(b"x").decode_str()) == ("eA==", "x")


def test_cuid_grows_and_does_not_repeat() -> None:
    made = [cuid() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {len(one) for one in made} == {25}
    assert all(one[0] == "c" and one.isalnum() and one.islower() for one in made)
    assert [one[:9] for one in made] == sorted(one[:9] for one in made)


def test_dropped_client_needs_no_event_loop() -> None:
    client = Prisma()
    client._Prisma__engine = SimpleNamespace(aclose=None)  # type: ignore[attr-defined]
    del client
