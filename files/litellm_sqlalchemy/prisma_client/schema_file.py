"""Reads a ``schema.prisma`` into plain dataclasses.

The format is described at https://www.prisma.io/docs/orm/reference/prisma-schema-reference. What is not understood
is refused with its line: a construct that is passed over would be a column that is silently not there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SCALARS = frozenset({"String", "Boolean", "Int", "BigInt", "Float", "Decimal", "DateTime", "Json", "Bytes"})
FUNCTIONS = frozenset({"uuid", "cuid", "now", "autoincrement", "dbgenerated"})

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|//[^\n]*)
      | (?P<newline>\n)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_][\w.]*)
      | (?P<mark>@@|[@{}()\[\]:,=?])""",
    re.VERBOSE,
)


class SchemaError(Exception):
    """The schema holds something that this client does not know."""


class Function(NamedTuple):
    """A function as a default: ``uuid()``, ``dbgenerated("…")``."""

    name: str
    argument: Any = None


@dataclass(frozen=True)
class Relation:
    """``@relation``: the side that holds the foreign key has ``fields`` and ``references``."""

    name: str | None = None
    fields: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Field:
    """One line of a model. ``default`` is None (none), a value, or a Function."""

    name: str
    type: str
    column: str
    is_list: bool = False
    is_optional: bool = False
    is_id: bool = False
    is_unique: bool = False
    is_updated_at: bool = False
    default: Any = None
    relation: Relation | None = None
    line: int = 0


@dataclass(frozen=True)
class Unique:
    """A unique key of several fields, under the name by which a ``where`` uses it."""

    name: str
    fields: tuple[str, ...]


@dataclass
class Model:
    """A model: a table, its fields, its keys."""

    name: str
    table: str
    fields: dict[str, Field] = field(default_factory=dict)
    id: Unique | None = None
    uniques: list[Unique] = field(default_factory=list)


@dataclass
class SchemaFile:
    """All of a ``schema.prisma`` that concerns the client."""

    models: dict[str, Model] = field(default_factory=dict)
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


class _Attribute(NamedTuple):
    name: str
    positional: list[Any]
    named: dict[str, Any]
    line: int

    def argument(self, name: str) -> Any:
        """An argument that may be given by its name or as the first one."""
        return self.named.get(name, self.positional[0] if self.positional else None)


def _tokens(text: str, path: Path) -> Iterator[_Token]:
    line, position, depth = 1, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SchemaError(f"{path}:{line}: {text[position : position + 20]!r} is not understood")
        position, kind = match.end(), str(match.lastgroup)
        depth += match.group() in "([" and kind == "mark"
        depth -= match.group() in ")]" and kind == "mark"
        if kind == "newline":
            if not depth:
                yield _Token(kind, "end of line", line)
            line += 1
        elif kind != "space":
            yield _Token(kind, match.group(), line)
    yield _Token("newline", "end of file", line)


class _Reader:
    """Takes tokens one after the other."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self._tokens = list(_tokens(text, path))
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._tokens)

    def error(self, what: str, line: int) -> SchemaError:
        return SchemaError(f"{self.path}:{line}: {what}")

    def peek(self) -> _Token:
        return self._tokens[min(self._position, len(self._tokens) - 1)]

    def take(self, *wanted: str) -> _Token:
        """The next token, which must be of one of the kinds or texts."""
        token = self.peek()
        if wanted and not {token.kind, token.text} & set(wanted):
            raise self.error(f"{token.text!r} where {' or '.join(wanted)} was expected", token.line)
        self._position += 1
        return token

    def takes(self, text: str) -> bool:
        """Take the next token if it is this one."""
        found = self.peek().text == text
        self._position += found
        return found

    def lines(self) -> Iterator[_Token]:
        """The first token of each line of a block, until its closing brace has been taken."""
        self.take("{")
        while True:
            while self.peek().kind == "newline":
                if self.peek().text == "end of file":
                    raise self.error("the block is not closed", self.peek().line)
                self.take()
            if self.takes("}"):
                return
            yield self.take()
            if self.peek().text != "}":
                self.take("newline")

    def value(self) -> Any:
        """An argument: a string, a number, a truth, a list, a name or a function."""
        token = self.take("string", "number", "name", "[")
        if token.kind == "string":
            return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), token.text[1:-1])
        if token.kind == "number":
            return float(token.text) if "." in token.text else int(token.text)
        if token.text == "[":
            values = []
            while not self.takes("]"):
                values.append(self.value())
                self.takes(",")
            return values
        if self.takes("("):
            positional, _ = self.arguments()
            return Function(token.text, positional[0] if positional else None)
        return {"true": True, "false": False}.get(token.text, token.text)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What follows an opening parenthesis, and the closing one."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        while not self.takes(")"):
            if self.peek().kind == "name" and self._tokens[self._position + 1].text == ":":
                name = self.take().text
                self.take(":")
                named[name] = self.value()
            else:
                positional.append(self.value())
            self.takes(",")
        return positional, named

    def attribute(self) -> _Attribute:
        """What follows ``@`` or ``@@``."""
        token = self.take("name")
        positional, named = self.arguments() if self.takes("(") else ([], {})
        return _Attribute(token.text, positional, named, token.line)


def _default(reader: _Reader, attribute: _Attribute, enums: dict[str, tuple[str, ...]], type_: str) -> Any:
    value = attribute.argument("value")
    if isinstance(value, Function):
        if value.name not in FUNCTIONS:
            raise reader.error(f"the default {value.name}() is not known", attribute.line)
    elif type_ in enums and value not in enums[type_]:
        raise reader.error(f"{value} is no value of {type_}", attribute.line)
    return value


def _field(reader: _Reader, name: _Token, enums: dict[str, tuple[str, ...]], models: set[str]) -> Field:
    type_ = reader.take("name").text
    if type_ not in SCALARS and type_ not in enums and type_ not in models:
        raise reader.error(f"the type {type_} of {name.text} is not known", name.line)
    is_list = reader.takes("[")
    if is_list:
        reader.take("]")
    found: dict[str, Any] = {"is_list": is_list, "is_optional": reader.takes("?"), "column": name.text}
    if type_ in models:
        found["relation"] = Relation()
    while reader.takes("@"):
        attribute = reader.attribute()
        match attribute.name:
            case "id":
                found["is_id"] = True
            case "unique":
                found["is_unique"] = True
            case "updatedAt":
                found["is_updated_at"] = True
            case "map":
                found["column"] = attribute.argument("name")
            case "default":
                found["default"] = _default(reader, attribute, enums, type_)
            case "relation":
                found["relation"] = Relation(
                    attribute.argument("name"),
                    tuple(attribute.named.get("fields", ())),
                    tuple(attribute.named.get("references", ())),
                )
            case unknown:
                raise reader.error(f"the attribute @{unknown} of {name.text} is not known", attribute.line)
    return Field(name.text, type_, line=name.line, **found)


def _model(reader: _Reader, name: str, enums: dict[str, tuple[str, ...]], models: set[str]) -> Model:
    model = Model(name, name)
    for token in reader.lines():
        if token.text != "@@":
            model.fields[token.text] = _field(reader, token, enums, models)
            continue
        attribute = reader.attribute()
        match attribute.name:
            case "id" | "unique":
                fields = tuple(attribute.argument("fields"))
                unique = Unique(attribute.named.get("name", "_".join(fields)), fields)
                if attribute.name == "id":
                    model.id = unique
                elif unique not in model.uniques:
                    model.uniques.append(unique)
            case "map":
                model.table = attribute.argument("name")
            case "index":
                pass  # of no concern to a client
            case unknown:
                raise reader.error(f"the attribute @@{unknown} of {name} is not known", attribute.line)
    for field_ in model.fields.values():
        if field_.is_id:
            model.id = Unique(field_.name, (field_.name,))
        if field_.is_unique:
            model.uniques.append(Unique(field_.name, (field_.name,)))
    for unique in [*model.uniques, *([model.id] if model.id else [])]:
        if unknown_fields := set(unique.fields) - set(model.fields):
            raise SchemaError(f"{reader.path}: a key of {name} names {unknown_fields}, which it does not have")
    if model.id is None and not model.uniques:
        raise SchemaError(f"{reader.path}: {name} has no unique key")
    return model


def read_schema(path: Path) -> SchemaFile:
    """Read a file. Raises SchemaError with the line of what is not understood."""
    text = path.read_text()
    # Models refer to each other before they are declared.
    models = set(re.findall(r"^model\s+(\w+)", text, re.MULTILINE))
    schema = SchemaFile()
    for name, body in re.findall(r"^enum\s+(\w+)\s*\{([^}]*)\}", text, re.MULTILINE):
        schema.enums[name] = tuple(re.findall(r"^\s*(\w+)", body, re.MULTILINE))
    reader = _Reader(text, path)
    while reader:
        token = reader.take()
        match token.text:
            case "end of line" | "end of file":
                pass
            case "model":
                name = reader.take("name").text
                schema.models[name] = _model(reader, name, schema.enums, models)
            case "enum":
                name = reader.take("name").text
                for value in reader.lines():
                    if value.kind != "name":
                        raise reader.error(f"{value.text} in the enum {name} is not understood", value.line)
            case "datasource" | "generator":
                block = reader.take("name").text
                for setting in reader.lines():
                    reader.take("=")
                    given = reader.value()
                    if setting.text == "provider" and token.text == "datasource" and given != "postgresql":
                        raise reader.error(f"the provider {given} of {block} is not known", setting.line)
            case unknown:
                raise reader.error(f"a block {unknown} is not known", token.line)
    return schema
