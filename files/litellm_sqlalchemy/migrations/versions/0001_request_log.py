"""The two tables of the request log, partitioned by day."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both parents; partitions.py makes their partitions."""
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when the gateway accepted the request",
        ),
        sa.Column("request_id", sa.Text, nullable=False, comment="x-litellm-call-id; a client may choose it"),
        sa.Column("route", sa.Text, nullable=False, comment="path of the URL"),
        sa.Column("model", sa.Text, comment="the model that the client asked for"),
        sa.Column("payload", postgresql.JSONB, nullable=False, comment="the request body, redacted"),
        sa.Column(
            "status_code",
            sa.Integer,
            comment="HTTP status; 499 where the client left, null where the gateway died",
        ),
        sa.Column("user_id", sa.Text, comment="the owner of the key"),
        sa.Column("api_key", sa.Text, comment="SHA-256 of the key as LiteLLM computes it"),
        sa.Column(
            "start_time",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when the gateway began to work on it",
        ),
        sa.Column("end_time", sa.DateTime(timezone=True), comment="when the last byte was sent"),
        sa.PrimaryKeyConstraint("id", "created_at", name="pk_requests"),
        sa.UniqueConstraint("request_id", "created_at", name="uq_requests_request_id_created_at"),
        comment="one row a request of a client",
        postgresql_partition_by="RANGE (created_at)",
    )
    op.create_index("ix_requests_model", "requests", ["model"])
    op.create_index("ix_requests_created_at", "requests", ["created_at"])
    op.create_table(
        "responses",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="the created_at of the request"),
        sa.Column("request_id_fk", sa.BigInteger, nullable=False, comment="requests.id"),
        sa.Column("latency_ms", sa.Double, comment="milliseconds, acceptance to last byte"),
        sa.Column("content", postgresql.JSONB, nullable=False, comment="the answer, and how it came about"),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("total_tokens", sa.Integer),
        sa.Column("cost", sa.Numeric, comment="US dollars"),
        sa.Column("response_model", sa.Text, comment="the model that the answer names"),
        sa.PrimaryKeyConstraint("id", "created_at", name="pk_responses"),
        sa.UniqueConstraint("request_id_fk", "created_at", name="uq_responses_request_id_fk_created_at"),
        comment="one row a row of requests",
        postgresql_partition_by="RANGE (created_at)",
    )


def downgrade() -> None:
    """Drop both tables and every row in them."""
    # Together: each refers to the other, partition by partition.
    op.execute("DROP TABLE responses, requests")
