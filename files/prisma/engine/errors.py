"""Errors of prisma-client-py's engine."""

from prisma.errors import PrismaError


class EngineConnectionError(PrismaError):
    """The database cannot be reached."""
