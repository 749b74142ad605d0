"""Everything the package reads from the environment, as one frozen object."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings from variables that begin with ``LITELLM_DB_``; seconds, bytes and days as named."""

    model_config = SettingsConfigDict(env_prefix="LITELLM_DB_", frozen=True, extra="ignore")

    url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of the database, postgresql+psycopg2://user:password@host:port/name",
    )
    pool_size: int = Field(default=5, ge=1)
    max_overflow: int = Field(default=5, ge=0)
    pool_recycle: int = Field(default=1800, ge=-1, description="seconds until a connection is renewed")
    connect_timeout: int = Field(default=30, ge=1, description="seconds")

    litellm_tables: bool = Field(default=True, description="whether LiteLLM's own tables are kept as well")
    service_role: str | None = Field(
        default=None, description="the role that db_init.py grants what the service needs; none: no grants"
    )

    spool: Path = Field(default=Path("/var/lib/litellm/spool.sqlite3"))
    spool_max_bytes: int = Field(
        default=10 * 1024**3, ge=1_048_576, description="bytes of exchanges that the spool may hold"
    )
    spool_reserve_bytes: int = Field(
        default=64 * 1024**2, ge=0, description="bytes that the spool leaves free on its file system"
    )
    spool_when_full: Literal["keep-serving", "refuse"] = Field(
        default="keep-serving",
        description="keep-serving: the newest exchanges are dropped and counted; refuse: 503 until there is room",
    )
    spool_synchronous: Literal["NORMAL", "FULL"] = Field(
        default="NORMAL", description="NORMAL outlives a killed process, FULL also a power cut"
    )
    refusals_per_second: float = Field(
        default=20.0, gt=0, description="refused strangers logged a second and worker; the rest is counted"
    )
    batch_size: int = Field(default=500, ge=1, le=10_000, description="exchanges a transaction")
    accounting_grace: float = Field(
        default=30.0, ge=0, description="seconds that a finished exchange waits for its tokens and cost"
    )
    metrics_address: str = Field(default="127.0.0.1", description="address that the shipper's metrics listen on")
    metrics_port: int = Field(default=9466, ge=0, le=65535, description="0: no metrics")

    partition_days_ahead: int = Field(default=14, ge=1, description="daily partitions kept ready")
    keep_bodies_days: int = Field(default=0, ge=0, description="days until payloads and answers are removed; 0: never")
    keep_days: int = Field(default=0, ge=0, description="days until rows are dropped; 0: never")

    def require_url(self) -> str:
        """The database URL in clear; ValueError that names the variable where it is missing."""
        if self.url is None:
            raise ValueError("LITELLM_DB_URL is not set: it names the database, see /etc/litellm/litellm.env")
        return self.url.get_secret_value()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
