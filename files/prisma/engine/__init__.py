"""What prisma-client-py calls its engine: here only the errors' place."""

from prisma.engine import errors

__all__ = ["errors"]
