"""The classes of records: ``prisma.models.LiteLLM_UserTable``."""

from typing import Any

from litellm_sqlalchemy.prisma_client.client import operations_of, schema_path


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and (found := operations_of(schema_path()).records.classes.get(name)) is not None:
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
