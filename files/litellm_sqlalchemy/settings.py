"""Everything the package reads from the environment, as one frozen object."""

from functools import lru_cache
from pathlib import Path

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

    spool: Path = Field(default=Path("/var/lib/litellm/spool.sqlite3"))
    batch_size: int = Field(default=500, ge=1, le=10_000, description="exchanges a transaction")
    accounting_grace: float = Field(
        default=30.0, ge=0, description="seconds that a finished exchange waits for its tokens and cost"
    )
    partition_days_ahead: int = Field(default=14, ge=1, description="daily partitions kept ready")

    def require_url(self) -> str:
        """The database URL in clear; ValueError that names the variable where it is missing."""
        if self.url is None:
            raise ValueError("LITELLM_DB_URL is not set: it names the database, see /etc/litellm/litellm.env")
        return self.url.get_secret_value()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
