"""LiteLLM's tables against its ``schema.prisma``: whether they are those of this release, however they were made."""

from sqlalchemy import Connection, inspect

from litellm_sqlalchemy.litellm_migrations import package
from litellm_sqlalchemy.prisma_client.schema_file import read_schema
from litellm_sqlalchemy.prisma_client.tables import Schema


def drift(connection: Connection) -> list[str]:
    """The tables and columns that are missing or of another kind, one sentence each; a surplus is none."""
    schema = Schema(read_schema(package("litellm_proxy_extras") / "schema.prisma"))
    inspector = inspect(connection)
    there = {
        table: {column["name"]: column for column in columns}
        for (_, table), columns in inspector.get_multi_columns().items()
    }
    found = []
    for table in schema.metadata.sorted_tables:
        if table.name not in there:
            found.append(f"LiteLLM's table {table.name} is missing")
            continue
        for column in table.columns:
            actual = there[table.name].get(column.name)
            if actual is None:
                found.append(f"the column {table.name}.{column.name} is missing")
                continue
            wanted, kind = (str(type_.compile(connection.dialect)) for type_ in (column.type, actual["type"]))
            if wanted != kind:
                found.append(f"the column {table.name}.{column.name} is {kind} and should be {wanted}")
    return found
