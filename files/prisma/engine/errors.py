"""Errors of prisma-client-py's engine."""

from litellm_sqlalchemy.prisma_client.errors import EngineConnectionError, EngineError

__all__ = ["EngineConnectionError", "EngineError"]
