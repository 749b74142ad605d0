"""The reader of schema.prisma: LiteLLM's own, and what it must refuse."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from litellm_sqlalchemy.prisma_client.client import schema_path
from litellm_sqlalchemy.prisma_client.schema_file import Function, SchemaError, SchemaFile, Unique, read_schema
from litellm_sqlalchemy.prisma_client.tables import Schema

HEAD = 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'


def read(tmp_path: Path, text: str) -> SchemaFile:
    path = tmp_path / "schema.prisma"
    path.write_text(HEAD + text)
    return read_schema(path)


def test_schema_of_the_installed_litellm() -> None:
    """As many models, fields and enums as a look at its lines finds, and each relation with its other side."""
    file = read_schema(schema_path())
    lines = schema_path().read_text().splitlines()
    assert len(file.models) == sum(line.startswith("model ") for line in lines) > 90
    assert list(file.enums) == [line.split()[1] for line in lines if line.startswith("enum ")]
    schema = Schema(file)
    for model in schema.models.values():
        for relation in model.relations.values():
            assert schema.models[relation.other].relations[relation.opposite].other == model.name
    token = schema.models["LiteLLM_VerificationToken"]
    assert token.uniques == {"token": ("token",)}
    assert schema.models["LiteLLM_ModelTable"].column("model_aliases").name == "aliases"


def test_field(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """
/// A comment
enum Colour {
  RED // like this
  BLUE
}
model A {
  id      String   @id @default(cuid()) // the key
  n       BigInt?  @default(-1) @map("number")
  f       Float    @default(0.5)
  colour  Colour   @default(BLUE)
  tags    String[] @default(["a", "b{}"])
  json    Json     @default("{\\"a\\": 1}")
  at      DateTime @default(now()) @updatedAt
  made    DateTime @default(dbgenerated("now()"))
  alias   String?  @unique
  bs      B[]      @relation("own")

  @@unique([n, f])
  @@unique([f, alias], name: "by_alias")
  @@index([at(sort: Desc), f])
  @@map("table_a")
}
model B {
  x   String
  y   Int
  a_x String
  a   A @relation("own", fields: [a_x], references: [id], onDelete: Cascade)
  @@id([x, y])
}
""",
    )
    model = file.models["A"]
    assert file.enums == {"Colour": ("RED", "BLUE")}
    assert model.table == "table_a"
    assert model.id == Unique("id", ("id",))
    assert model.uniques == [Unique("n_f", ("n", "f")), Unique("by_alias", ("f", "alias")), Unique("alias", ("alias",))]
    fields = model.fields
    assert fields["id"].default == Function("cuid")
    assert (fields["n"].column, fields["n"].is_optional, fields["n"].default) == ("number", True, -1)
    assert fields["f"].default == 0.5
    assert (fields["colour"].type, fields["colour"].default) == ("Colour", "BLUE")
    assert (fields["tags"].is_list, fields["tags"].default) == (True, ["a", "b{}"])
    assert fields["json"].default == '{"a": 1}'
    assert fields["at"].is_updated_at
    assert fields["made"].default == Function("dbgenerated", "now()")
    assert file.models["B"].id == Unique("x_y", ("x", "y"))
    (relation,) = Schema(file).models["B"].relations.values()
    assert (relation.holds_key, relation.columns, relation.opposite) == (True, (("a_x", "id"),), "bs")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model A {\n  id String @id\n  p Point\n}", "schema.prisma:7: the type Point of p is not known"),
        (
            "model A {\n  id String @id @db.VarChar(5)\n}",
            "schema.prisma:6: the attribute @db.VarChar of id is not known",
        ),
        ("model A {\n  id String @id @default(nanoid())\n}", "schema.prisma:6: the default nanoid() is not known"),
        ('model A {\n  id String @id\n  @@schema("x")\n}', "schema.prisma:7: the attribute @@schema of A is not known"),
        ("view A {\n  id String\n}", "schema.prisma:5: a block view is not known"),
        ("model A {\n  id String\n}", "A has no unique key"),
        ("model A {\n  id String @id\n  @@unique([nope])\n}", "a key of A names {'nope'}"),
        ("model A {\n  id String @id\n", "schema.prisma:7: the block is not closed"),
        ("model A {\n  id String @id ~\n}", "schema.prisma:6: '~"),
        ("enum E {\n  A\n}\nmodel A {\n  id String @id\n  e E @default(B)\n}", "B is no value of E"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read(tmp_path, text)
    assert complaint in str(caught.value)


def test_other_databases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "schema.prisma"
    path.write_text('datasource db {\n  provider = "mysql"\n}\n')
    with pytest.raises(SchemaError, match=":2: the provider mysql of db is not known"):
        read_schema(path)


def test_relation_without_another_side_is_refused(tmp_path: Path) -> None:
    """Many to many, which Prisma keeps in a table of its own."""
    text = "model A {\n  id String @id\n  bs B[]\n}\nmodel B {\n  id String @id\n  as A[]\n}"
    with pytest.raises(SchemaError, match=r"line 7: the other side of the relation A\.bs"):
        Schema(read(tmp_path, text))


def test_schema_is_that_of_the_installed_litellm() -> None:
    found = find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    assert schema_path() == Path(found.origin).parent / "proxy" / "schema.prisma"
