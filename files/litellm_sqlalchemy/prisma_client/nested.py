"""Writes of a record together with the records it is related to: create, connect, disconnect, set, delete and so on."""

from typing import TYPE_CHECKING, Any

from litellm_sqlalchemy.prisma_client.connections import Session
from litellm_sqlalchemy.prisma_client.errors import DataError, data_error, invalid_argument, record_not_found
from litellm_sqlalchemy.prisma_client.filters import as_list, unknown_field
from litellm_sqlalchemy.prisma_client.records import Record
from litellm_sqlalchemy.prisma_client.tables import Model, Relation
from litellm_sqlalchemy.prisma_client.values import Json

if TYPE_CHECKING:
    from litellm_sqlalchemy.prisma_client.operations import Operations

_ALIASES: dict[str, str] = {
    "connect_or_create": "connectOrCreate",
    "create_many": "createMany",
    "update_many": "updateMany",
    "delete_many": "deleteMany",
}


def parted(model: Model, data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of the record itself, and what is to be done with its relations."""
    if not isinstance(data, dict):
        raise invalid_argument(f"The data of {model.name} must be an object")
    own = {
        name: Json(value) if name in model.json_fields and isinstance(value, dict | list | tuple) else value
        for name, value in data.items()
        if name not in model.relations
    }
    return own, {name: value for name, value in data.items() if name in model.relations}


def _steps(model: Model, relation: Relation, argument: dict[str, Any]) -> list[tuple[str, Any]]:
    if not isinstance(argument, dict):
        raise invalid_argument(f"Argument `data.{relation.name}` of {model.name}: an object was expected")
    return [(_ALIASES.get(step, step), value) for step, value in argument.items()]


def _label(relation: Relation) -> str:
    """The name of a relation, which Prisma makes of its models' where the schema has none."""
    return relation.label or "To".join(sorted((relation.model, relation.other)))


def _not_connected(model: Model, relation: Relation) -> DataError:
    """P2017: records are not those of this record."""
    return data_error(
        DataError,
        "P2017",
        f"The records for relation `{_label(relation)}` between the `{model.name}` and"
        f" `{relation.other}` models are not connected.",
        {"relation_name": _label(relation), "parent_name": model.name, "child_name": relation.other},
    )


class NestedWrites:
    """Carries out the relations' part of ``data``."""

    def __init__(self, operations: "Operations") -> None:
        self._operations = operations
        self._schema = operations.schema

    async def before(self, session: Session, model: Model, relations: dict[str, Any]) -> dict[str, Any]:
        """Relations whose key is in the record itself: returns its values, for a record that is made or updated."""
        keys: dict[str, Any] = {}
        for name, argument in relations.items():
            relation = model.relations[name]
            if not relation.holds_key:
                continue
            other = self._schema.models[relation.other]
            for step, value in _steps(model, relation, argument):
                match step:
                    case "create":
                        target = await self._operations.create(session, other, value, None)
                    case "connect":
                        target = await self._connected(session, other, value)
                        await self._taken(session, model, relation, target)
                    case "connectOrCreate":
                        found = await self._operations.find_unique(session, other, value["where"], None)
                        target = found or await self._operations.create(session, other, value["create"], None)
                        await self._taken(session, model, relation, target)
                    case "disconnect" | "update" | "upsert" | "delete":
                        continue
                    case _:
                        raise unknown_field(model, f"data.{name}.{step}")
                keys.update({ours: getattr(target, theirs) for ours, theirs in relation.columns})
        return keys

    async def after(self, session: Session, model: Model, record: Record, relations: dict[str, Any]) -> dict[str, Any]:
        """The rest, when the record is there; returns values of the record that this changes."""
        keys: dict[str, Any] = {}
        for name, argument in relations.items():
            relation = model.relations[name]
            for step, value in _steps(model, relation, argument):
                if relation.holds_key:
                    keys.update(await self._parent(session, model, relation, record, step, value))
                else:
                    await self._children(session, relation, record, step, value)
        return keys

    async def _connected(self, session: Session, other: Model, where: Any) -> Record:
        target = await self._operations.find_unique(session, other, where, None)
        if target is None:
            raise record_not_found(f"No '{other.name}' record to connect was found")
        return target

    async def _taken(self, session: Session, model: Model, relation: Relation, target: Record) -> None:
        """Of one to one: whoever has referred to the target so far is let go."""
        if not self._schema.models[relation.other].relations[relation.opposite].is_list:
            holder = {ours: getattr(target, theirs) for ours, theirs in relation.columns}
            await self._let_go(session, model, relation, holder)

    async def _release(self, session: Session, model: Model, relation: Relation, record: Record) -> None:
        """Have a record refer to nothing."""
        own = {name: getattr(record, name) for name in model.identity}
        await self._operations.release(session, model, own, tuple(ours for ours, _ in relation.columns))

    async def _parent(
        self, session: Session, model: Model, relation: Relation, record: Record, step: str, value: Any
    ) -> dict[str, Any]:
        """An update, upsert or delete of the record that this one refers to."""
        if step not in ("update", "upsert", "delete", "disconnect") or value is False:
            return {}
        if step in ("delete", "disconnect") and not relation.is_optional:
            raise unknown_field(model, f"data.{relation.name}.{step}")
        other = self._schema.models[relation.other]
        where = {theirs: getattr(record, ours) for ours, theirs in relation.columns}
        there = None not in where.values()
        if step == "upsert" and not there:
            target = await self._operations.create(session, other, value["create"], None)
            return {ours: getattr(target, theirs) for ours, theirs in relation.columns}
        if step == "disconnect":
            if there:
                await self._release(session, model, relation, record)
            return {}
        if not there:
            raise record_not_found(f"No '{other.name}' record was found for a nested {step} on {relation.name}")
        if step == "delete":
            await self._release(session, model, relation, record)
            await self._operations.delete_many(session, other, where)
            return {}
        data = value["update"] if step == "upsert" else value.get("data", value)
        await self._operations.update(session, other, self._unique(other, where), data, None)
        return {}

    @staticmethod
    def _unique(model: Model, where: dict[str, Any]) -> dict[str, Any]:
        for name, fields in model.uniques.items():
            if set(fields) == set(where):
                return where if len(fields) == 1 else {name: where}
        raise invalid_argument(f"{sorted(where)} is no unique key of {model.name}")

    async def _children(self, session: Session, relation: Relation, record: Record, step: str, value: Any) -> None:
        """Something with the records that refer to this one."""
        operations = self._operations
        other = self._schema.models[relation.other]
        reference = {theirs: getattr(record, ours) for ours, theirs in relation.columns}
        match step:
            case "create":
                await self._replaced(session, relation, other, reference)
                for data in as_list(value):
                    await operations.create(session, other, {**data, **reference}, None)
            case "createMany":
                data = [{**item, **reference} for item in value["data"]]
                duplicates = value.get("skipDuplicates", value.get("skip_duplicates"))
                await operations.create_many(session, other, data, skip_duplicates=bool(duplicates))
            case "connect":
                await self._replaced(session, relation, other, reference)
                for where in as_list(value):
                    if await operations.update(session, other, where, reference, None) is None:
                        raise record_not_found(f"No '{other.name}' record to connect was found")
            case "connectOrCreate":
                for item in as_list(value):
                    if await operations.update(session, other, item["where"], reference, None) is None:
                        await operations.create(session, other, {**item["create"], **reference}, None)
            case "set":
                await operations.release(session, other, reference, tuple(reference))
                for where in as_list(value):
                    if await operations.update(session, other, where, reference, None) is None:
                        raise record_not_found(f"No '{other.name}' record to connect was found")
            case "disconnect" if not relation.is_list:
                if value is not False:
                    await self._let_go(session, other, other.relations[relation.opposite], reference)
            case "disconnect":
                for where in as_list(value):
                    if where is not False:
                        mine = {"AND": [reference, {} if where is True else self._flat(other, where)]}
                        await operations.disconnect(session, other, mine, tuple(reference))
            case "delete":
                for where in as_list(value):
                    if where is not False:
                        mine = {"AND": [reference, {} if where is True else self._flat(other, where)]}
                        if not await operations.delete_many(session, other, mine):
                            raise _not_connected(self._schema.models[relation.model], relation)
            case "update" | "upsert":
                await self._updated(session, relation, other, reference, step, value)
            case "updateMany":
                for item in as_list(value):
                    mine = {"AND": [reference, item.get("where") or {}]}
                    await operations.update_many(session, other, mine, item["data"])
            case "deleteMany":
                for where in as_list(value):
                    await operations.delete_many(session, other, {"AND": [reference, where]})
            case _:
                raise unknown_field(self._schema.models[relation.model], f"data.{relation.name}.{step}")

    async def _replaced(self, session: Session, relation: Relation, other: Model, reference: dict[str, Any]) -> None:
        """Of one to one: the record that was there before is let go."""
        if not relation.is_list:
            await self._let_go(session, other, other.relations[relation.opposite], reference)

    async def _let_go(self, session: Session, model: Model, relation: Relation, holder: dict[str, Any]) -> None:
        """Of one to one: the record that has a key gives it up, or DataError where it must have one: P2014."""
        if all(model.scalars[name].is_optional for name in holder):
            await self._operations.release(session, model, holder, tuple(holder))
        elif await self._operations.find_first(session, model, holder) is not None:
            raise data_error(
                DataError,
                "P2014",
                "The change you are trying to make would violate the required relation"
                f" '{_label(relation)}' between the `{min(model.name, relation.other)}` and"
                f" `{max(model.name, relation.other)}` models.",
            )

    async def _updated(
        self, session: Session, relation: Relation, other: Model, reference: dict[str, Any], step: str, value: Any
    ) -> None:
        for item in as_list(value):
            if relation.is_list:
                where: dict[str, Any] = {**item["where"], "AND": [reference]}
                data = item.get("update", item.get("data"))
            else:
                where = {"AND": [reference]}
                data = item.get("update", item.get("data", item))
                found = await self._operations.find_first(session, other, where)
                where = {} if found is None else {name: getattr(found, name) for name in other.identity}
                where = self._unique(other, where) if where else where
            updated = await self._operations.update(session, other, where, data, None) if where else None
            if updated is None and step == "upsert":
                await self._operations.create(session, other, {**item["create"], **reference}, None)
            elif updated is None:
                raise record_not_found(f"No '{other.name}' record was found for a nested update")

    @staticmethod
    def _flat(other: Model, where: Any) -> dict[str, Any]:
        """A unique ``where`` as an ordinary one."""
        flat: dict[str, Any] = {}
        for name, value in where.items():
            flat.update(value if len(other.uniques.get(name, ())) > 1 else {name: value})
        return flat
