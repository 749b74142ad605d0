"""Wrappers of values."""

from litellm_sqlalchemy.prisma_client.values import Base64, Json

__all__ = ["Base64", "Json"]
