"""The error classes of prisma-client-py 0.15, with its inheritance, codes and messages.

The codes are described at https://www.prisma.io/docs/orm/reference/error-reference. LiteLLM tells errors apart by
their class, ``code``, ``meta`` and message.
"""

from typing import Any


class PrismaError(Exception):
    """Base of all."""


class ClientNotConnectedError(PrismaError):
    """A query before ``connect``."""

    def __init__(self) -> None:
        super().__init__(
            "Client is not connected to the query engine, you must call `connect()` before attempting to query data."
        )


class HTTPClientClosedError(PrismaError):
    """A query after ``disconnect``."""

    def __init__(self) -> None:
        super().__init__("Cannot make a request from a closed client.")


class DataError(PrismaError):
    """The database, or the check of the arguments, refused an operation.

    ``data`` has the shape of the query engine's answer: ``{"user_facing_error": {"error_code", "message", "meta"}}``.
    """

    def __init__(self, data: Any, *, message: str | None = None) -> None:
        self.data = data
        user_facing_error = data.get("user_facing_error", {})
        self.code: str | None = user_facing_error.get("error_code")
        self.meta: dict[str, Any] | None = user_facing_error.get("meta")
        super().__init__(message or user_facing_error.get("message") or "An error occurred while processing data.")


class UniqueViolationError(DataError):
    """A unique key is taken: P2002."""


class ForeignKeyViolationError(DataError):
    """A reference leads nowhere, or a row is still referred to: P2003."""


class MissingRequiredValueError(DataError):
    """A required value is missing: P2009, P2012."""


class RawQueryError(DataError):
    """A raw statement failed: P2010, with PostgreSQL's code and message in ``meta``."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, message=data.get("user_facing_error", {}).get("meta", {}).get("message"))


class TableNotFoundError(DataError):
    """A table does not exist: P2021."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.table: str | None = (self.meta or {}).get("table")


class FieldNotFoundError(DataError):
    """An argument names a field that does not exist, or has a value of the wrong type: P2009."""


class RecordNotFoundError(DataError):
    """No row matched where one was needed: P2025."""


class InputError(DataError):
    """An argument cannot be: P2019."""


class TransactionError(PrismaError):
    """A transaction could not be started or used: P2028."""


class TransactionExpiredError(TransactionError):
    """A transaction took longer than its ``timeout``."""


class TransactionNotStartedError(TransactionError):
    """``commit`` or ``rollback`` before ``start``."""

    def __init__(self) -> None:
        super().__init__(
            "Transaction has not been started yet.\n"
            "Transactions must be used within a context manager or started manually."
        )


class BuilderError(PrismaError):
    """A query could not be built."""


class UnknownRelationalFieldError(BuilderError):
    """An ``include`` names something that is no relation."""

    def __init__(self, model: str, field: str) -> None:
        super().__init__(f'Field: "{field}" either does not exist or is not a relational field on the {model} model')


class EngineError(PrismaError):
    """Base of what prisma-client-py's engine raises."""


class EngineConnectionError(EngineError):
    """The database cannot be reached."""

    code: str | None = "P1001"


def data_error(kind: type[DataError], code: str | None, message: str, meta: dict[str, Any] | None = None) -> DataError:
    """An error as the query engine would word it."""
    return kind({"user_facing_error": {"error_code": code, "message": message, "meta": meta or {}}})


def invalid_argument(message: str) -> DataError:
    """P2009: an argument that the schema does not allow."""
    return data_error(FieldNotFoundError, "P2009", message)


def invalid_data(error: DataError) -> DataError:
    """P2009 as a plain DataError: LiteLLM then looks for the one row of many that cannot be stored."""
    return error if type(error) is not FieldNotFoundError else data_error(DataError, "P2009", str(error))


def missing_value(path: str, code: str = "P2009") -> DataError:
    """A required value is missing: P2012 where the schema allows for one type alone, P2009 elsewhere."""
    return data_error(MissingRequiredValueError, code, f"`{path}`: A value is required but not set", {"path": path})


def record_not_found(cause: str) -> DataError:
    """P2025: a record that was needed is not there."""
    return data_error(
        RecordNotFoundError,
        "P2025",
        "An operation failed because it depends on one or more records that were required but not found. " + cause,
        {"cause": cause},
    )
