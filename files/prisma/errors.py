"""The error classes of prisma-client-py 0.15, with its inheritance."""


class PrismaError(Exception):
    """Base of all."""


class ClientNotConnectedError(PrismaError):
    """A query before ``connect``."""


class HTTPClientClosedError(PrismaError):
    """A query after ``disconnect``."""


class DataError(PrismaError):
    """The database refused a statement."""


class UniqueViolationError(DataError):
    """A unique key is taken."""


class ForeignKeyViolationError(DataError):
    """A reference leads nowhere."""


class MissingRequiredValueError(DataError):
    """A required value is missing."""


class RawQueryError(DataError):
    """A raw statement failed."""


class TableNotFoundError(DataError):
    """A table does not exist."""


class RecordNotFoundError(DataError):
    """No row matched."""
