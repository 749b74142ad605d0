"""The classes of operations, for annotations: ``prisma.actions.LiteLLM_UserTableActions``."""

from typing import Any

from litellm_sqlalchemy.prisma_client.actions import Actions


def __getattr__(name: str) -> Any:
    if name.endswith("Actions"):
        return Actions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
