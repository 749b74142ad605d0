"""The models of a schema.prisma as far as the tests need them; read on its own, so that it can disagree."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Field:
    """A field of a model."""

    name: str
    type: str
    is_list: bool
    optional: bool
    attributes: str

    is_relation: bool

    @property
    def column(self) -> str:
        """Its name in the database."""
        found = re.search(r"@map\(\"(\w+)\"\)", self.attributes)
        return found[1] if found else self.name

    @property
    def has_default(self) -> bool:
        """Whether a row can be made without it, although it may not be null."""
        return "@default" in self.attributes or "@updatedAt" in self.attributes

    @property
    def references(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Of a relation that holds the foreign key: its own fields, and those of the other model."""
        found = re.search(r"fields: *\[([^\]]*)\], *references: *\[([^\]]*)\]", self.attributes)
        return (tuple(re.findall(r"\w+", found[1])), tuple(re.findall(r"\w+", found[2]))) if found else None

    @property
    def kind(self) -> str:
        """Its type as filters see it."""
        return f"{self.type}[]" if self.is_list else self.type


@dataclass
class Model:
    """A model."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    keys: list[tuple[str, ...]] = field(default_factory=list)
    """Unique keys, the primary one first, each as its fields."""
    key_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys of several fields by the name that a query gives them."""

    @property
    def accessor(self) -> str:
        """What a client calls it."""
        return self.name.lower()

    @property
    def scalars(self) -> list[Field]:
        return [field for field in self.fields.values() if not field.is_relation]

    @property
    def relations(self) -> list[Field]:
        return [field for field in self.fields.values() if field.is_relation]

    def foreign_keys(self) -> dict[str, tuple[Field, str]]:
        """By field that is a part of a foreign key: the relation, and the field that it refers to."""
        return {
            own: (relation, other)
            for relation in self.relations
            if relation.references
            for own, other in zip(*relation.references, strict=True)
        }


def read(path: Path) -> dict[str, Model]:
    """The models of a schema by their names."""
    text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    models: dict[str, Model] = {}
    names = set(re.findall(r"^model (\w+)", text, re.MULTILINE))
    for name, body in re.findall(r"^model (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        model = models[name] = Model(name)
        for line in filter(None, map(str.strip, body.splitlines())):
            if found := re.match(r"@@(id|unique)\(\[([^\]]*)\](?:.*name: *\"(\w+)\")?", line):
                columns = tuple(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", found[2])))
                model.keys.insert(0 if found[1] == "id" else len(model.keys), columns)
                if len(columns) > 1:
                    model.key_names[found[3] or "_".join(columns)] = columns
            elif found := re.match(r"(\w+)\s+(\w+)(\[\])?(\?)?\s*(.*)", line):
                one = Field(found[1], found[2], bool(found[3]), bool(found[4]), found[5], found[2] in names)
                model.fields[one.name] = one
                if re.search(r"@id\b", one.attributes):
                    model.keys.insert(0, (one.name,))
                elif re.search(r"@unique\b", one.attributes):
                    model.keys.append((one.name,))
    return models
