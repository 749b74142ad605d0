"""A ``schema.prisma`` as SQLAlchemy tables, with what the statements need to know about each field."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from litellm_sqlalchemy.prisma_client import schema_file, values
from litellm_sqlalchemy.prisma_client.schema_file import Function, SchemaError, SchemaFile


@dataclass(frozen=True, eq=False)
class Scalar:
    """A field that is a column."""

    name: str
    column: str
    type: str
    is_list: bool
    is_optional: bool
    default: Any
    is_updated_at: bool
    sql_type: TypeEngine[Any]
    item_type: TypeEngine[Any]
    encode: values.Encoder
    encode_item: values.Encoder
    encode_data: values.Encoder
    decode: values.Decoder | None
    python_type: Any

    @property
    def is_generated(self) -> bool:
        """Whether PostgreSQL fills it in."""
        return isinstance(self.default, Function) and self.default.name in ("autoincrement", "dbgenerated")


@dataclass(frozen=True, eq=False)
class Relation:
    """A field that is other records. ``columns`` pairs fields here with fields of the other model."""

    name: str
    model: str
    other: str
    is_list: bool
    is_optional: bool
    holds_key: bool
    columns: tuple[tuple[str, str], ...]
    opposite: str
    label: str | None


@dataclass(eq=False)
class Model:
    """A model: its table, its fields, and its unique keys by the names that a ``where`` uses."""

    name: str
    table: Table
    scalars: dict[str, Scalar] = field(default_factory=dict)
    relations: dict[str, Relation] = field(default_factory=dict)
    uniques: dict[str, tuple[str, ...]] = field(default_factory=dict)
    identity: tuple[str, ...] = ()
    json_fields: frozenset[str] = frozenset()

    def column(self, name: str, source: Any = None) -> Any:
        """The column of a field, of the table or of an alias of it."""
        return (self.table if source is None else source).c[self.scalars[name].column]

    def columns(self, source: Any = None) -> list[Any]:
        """The columns of all fields, in the order of the schema."""
        return [self.column(name, source) for name in self.scalars]


class Schema:
    """All models."""

    def __init__(self, file: SchemaFile) -> None:
        self.metadata = MetaData()
        self.enums = file.enums
        self.models = {name: self._model(model) for name, model in file.models.items()}
        self.by_attribute = {name.lower(): model for name, model in self.models.items()}
        for name, model in file.models.items():
            for field_ in model.fields.values():
                if field_.relation is not None:
                    self.models[name].relations[field_.name] = _relation(file, model, field_)

    def _model(self, model: schema_file.Model) -> Model:
        scalars = {
            field_.name: self._scalar(model.name, field_) for field_ in model.fields.values() if field_.relation is None
        }
        identity = model.id or model.uniques[0]
        table = Table(
            model.table,
            self.metadata,
            *[
                Column(scalar.column, scalar.sql_type, nullable=scalar.is_optional or scalar.is_list)
                for scalar in scalars.values()
            ],
            *([PrimaryKeyConstraint(*[scalars[name].column for name in model.id.fields])] if model.id else []),
            *[UniqueConstraint(*[scalars[name].column for name in unique.fields]) for unique in model.uniques],
        )
        uniques = {unique.name: unique.fields for unique in [identity, *model.uniques]}
        json_fields = frozenset(name for name, scalar in scalars.items() if scalar.type == "Json")
        return Model(model.name, table, scalars, {}, uniques, identity.fields, json_fields)

    def plain_scalar(self, type_: str, name: str) -> Scalar:
        """Something of a type that is no column: an aggregate."""
        return self._scalar(name, schema_file.Field(name, type_, name))

    def _scalar(self, model: str, field_: schema_file.Field) -> Scalar:
        members = self.enums.get(field_.type)
        path = f"{model}.{field_.name}"
        item_type = values.sql_type(field_.type, members)
        encode_item = values.encoder(field_.type, members, path)
        encode = values.list_encoder(encode_item, path) if field_.is_list else encode_item
        python_type: Any = str if members else values.PYTHON_TYPES[field_.type]
        return Scalar(
            name=field_.name,
            column=field_.column,
            type=field_.type,
            is_list=field_.is_list,
            is_optional=field_.is_optional,
            default=field_.default,
            is_updated_at=field_.is_updated_at,
            sql_type=ARRAY(item_type) if field_.is_list else item_type,
            item_type=item_type,
            encode=encode,
            encode_item=encode_item,
            encode_data=values.data_encoder(encode),
            decode=values.decoder(field_.type, field_.is_list),
            python_type=values.list_type(python_type) if field_.is_list else python_type,
        )


def _relation(file: SchemaFile, model: schema_file.Model, field_: schema_file.Field) -> Relation:
    """A relation with both of its sides put together."""
    own = field_.relation or schema_file.Relation()
    candidates: list[tuple[schema_file.Field, schema_file.Relation]] = [
        (other, other.relation)
        for other in file.models[field_.type].fields.values()
        if other.type == model.name
        and other.relation is not None
        and other.relation.name == own.name
        and (other.name != field_.name or field_.type != model.name)
        and bool(other.relation.fields) != bool(own.fields)
    ]
    if len(candidates) != 1:
        raise SchemaError(
            f"line {field_.line}: the other side of the relation {model.name}.{field_.name} is not to be told"
            " (relations of many to many are not known)"
        )
    ((opposite, theirs),) = candidates
    pairs = (
        zip(own.fields, own.references, strict=True)
        if own.fields
        else zip(theirs.references, theirs.fields, strict=True)
    )
    return Relation(
        name=field_.name,
        model=model.name,
        other=field_.type,
        is_list=field_.is_list,
        is_optional=field_.is_optional,
        holds_key=bool(own.fields),
        columns=tuple(pairs),
        opposite=opposite.name,
        label=own.name,
    )
