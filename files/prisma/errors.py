"""The error classes of prisma-client-py 0.15."""

from litellm_sqlalchemy.prisma_client.errors import (
    ClientNotConnectedError,
    DataError,
    FieldNotFoundError,
    ForeignKeyViolationError,
    HTTPClientClosedError,
    InputError,
    MissingRequiredValueError,
    PrismaError,
    RawQueryError,
    RecordNotFoundError,
    TableNotFoundError,
    TransactionError,
    TransactionExpiredError,
    TransactionNotStartedError,
    UniqueViolationError,
)

__all__ = [
    "ClientNotConnectedError",
    "DataError",
    "FieldNotFoundError",
    "ForeignKeyViolationError",
    "HTTPClientClosedError",
    "InputError",
    "MissingRequiredValueError",
    "PrismaError",
    "RawQueryError",
    "RecordNotFoundError",
    "TableNotFoundError",
    "TransactionError",
    "TransactionExpiredError",
    "TransactionNotStartedError",
    "UniqueViolationError",
]
