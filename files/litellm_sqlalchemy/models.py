"""The two tables of the request log: the only definition of them.

Both tables are range-partitioned by ``created_at``, the moment the gateway accepted the request. A request and
its response share that value, so their partitions line up and a pair of partitions can be dropped as one.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of the models: one naming convention, JSONB for documents, time zones everywhere."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        Decimal: Numeric,
    }


class Request(Base):
    """A client's request as the gateway saw it, with the status that the client saw."""

    __tablename__ = "requests"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False))
    created_at: Mapped[datetime] = mapped_column(comment="when the gateway accepted the request")
    request_id: Mapped[str] = mapped_column(Text, comment="x-litellm-call-id; a client may choose it")
    route: Mapped[str] = mapped_column(Text, comment="path of the URL")
    model: Mapped[str | None] = mapped_column(Text, comment="the model that the client asked for")
    payload: Mapped[dict[str, Any]] = mapped_column(comment="the request body, redacted")
    status_code: Mapped[int | None] = mapped_column(
        Integer, comment="HTTP status; 499 where the client left, null where the gateway died"
    )
    user_id: Mapped[str | None] = mapped_column(Text, comment="the owner of the key")
    api_key: Mapped[str | None] = mapped_column(Text, comment="SHA-256 of the key as LiteLLM computes it")
    start_time: Mapped[datetime] = mapped_column(comment="when the gateway began to work on it")
    end_time: Mapped[datetime | None] = mapped_column(comment="when the last byte was sent")

    __table_args__ = (
        PrimaryKeyConstraint("id", "created_at"),
        UniqueConstraint("request_id", "created_at"),
        Index(None, "model"),
        Index(None, "created_at"),
        {"postgresql_partition_by": "RANGE (created_at)", "comment": "one row a request of a client"},
    )


class Response(Base):
    """What came of a request: one row for each row of ``requests``."""

    __tablename__ = "responses"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False))
    created_at: Mapped[datetime] = mapped_column(comment="the created_at of the request")
    request_id_fk: Mapped[int] = mapped_column(BigInteger, comment="requests.id")
    latency_ms: Mapped[float | None] = mapped_column(Double, comment="milliseconds, acceptance to last byte")
    content: Mapped[dict[str, Any]] = mapped_column(comment="the answer, and how it came about")
    prompt_tokens: Mapped[int | None] = mapped_column(Integer)
    completion_tokens: Mapped[int | None] = mapped_column(Integer)
    total_tokens: Mapped[int | None] = mapped_column(Integer)
    cost: Mapped[Decimal | None] = mapped_column(comment="US dollars")
    response_model: Mapped[str | None] = mapped_column(Text, comment="the model that the answer names")

    __table_args__ = (
        PrimaryKeyConstraint("id", "created_at"),
        UniqueConstraint("request_id_fk", "created_at"),
        {"postgresql_partition_by": "RANGE (created_at)", "comment": "one row a row of requests"},
    )


# A foreign key to a partitioned parent doubles the cost of an insert and forbids dropping partitions. So it is
# declared here, once, and put on each pair of partitions by partitions.py; the parents do not carry it. The way
# back makes a request without its response impossible to commit.
RESPONSE_TO_REQUEST = ForeignKeyConstraint(
    ["request_id_fk", "created_at"], ["requests.id", "requests.created_at"], ondelete="CASCADE"
)
REQUEST_TO_RESPONSE = ForeignKeyConstraint(
    ["id", "created_at"],
    ["responses.request_id_fk", "responses.created_at"],
    deferrable=True,
    initially="DEFERRED",
)
