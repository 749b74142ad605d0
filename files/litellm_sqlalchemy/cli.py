"""`litellm-db`: what the systemd units and the operator run."""

import ctypes
import json
import logging
import signal
import sqlite3
import sys
from dataclasses import asdict
from typing import Any

import click
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from litellm_sqlalchemy import database, metrics, retention
from litellm_sqlalchemy import ledger as balance
from litellm_sqlalchemy import partitions as daily
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.schema import EXIT_DIFFERENT
from litellm_sqlalchemy.settings import Settings, get_settings
from litellm_sqlalchemy.shipper import Shipper
from litellm_sqlalchemy.spool import Spool
from litellm_sqlalchemy.switch.commands import COMMANDS as SWITCH_COMMANDS

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BLOCK_BYTES = 256 * 1024


class _Commands(click.Group):
    """Commands whose expected failures are sentences, not tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit 1 with the reason on standard error where the database or the spool fails."""
        try:
            return super().invoke(ctx)
        except SQLAlchemyError as error:
            raise click.ClickException(f"PostgreSQL: {getattr(error, 'orig', None) or error}".strip()) from error
        except sqlite3.Error as error:
            raise click.ClickException(f"the spool: {error}") from error
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The request log of a LiteLLM gateway: from the spool on its disk to PostgreSQL."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)


for _command in SWITCH_COMMANDS:
    main.add_command(_command)


def _spool(settings: Settings) -> Spool:
    if not settings.spool.exists():
        raise click.ClickException(f"there is no spool at {settings.spool} (LITELLM_DB_SPOOL names it)")
    return Spool(settings.spool)


def _give_back_large_blocks() -> None:
    """Have the memory of large bodies returned: glibc stops doing that for sizes that were freed once."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


@main.command()
@click.option("--once", is_flag=True, help="Ship what is ready and return, instead of running until SIGTERM.")
def ship(once: bool) -> None:
    """Ship finished exchanges from the spool to PostgreSQL."""
    _give_back_large_blocks()
    settings = get_settings()
    settings.spool.parent.mkdir(parents=True, exist_ok=True)
    engine = make_engine(settings)
    shipper = Shipper(Spool(settings.spool), engine, settings.batch_size, settings.accounting_grace)
    if once:
        click.echo(f"{shipper.drain()} exchanges shipped")
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: shipper.stop())
    if settings.metrics_port:
        metrics.serve(settings, shipper)
    shipper.run()


@main.command()
def ledger() -> None:
    """Print the balance of the spool as JSON; exit 1 where something is missing."""
    report = balance.report(_spool(get_settings()))
    click.echo(json.dumps(report, indent=2))
    if not report["balanced"]:
        sys.exit(1)


@main.command("set-aside")
def set_aside() -> None:
    """List the exchanges that PostgreSQL refused, with its reason."""
    for seq, request_id, error in _spool(get_settings()).set_aside_errors():
        click.echo(f"{seq}\t{request_id}\t{error}")


@main.command()
def replay() -> None:
    """Put what was set aside back in line, after its cause was mended."""
    click.echo(f"{_spool(get_settings()).replay()} exchanges are back in line")


@main.command()
@click.option("--days-ahead", type=click.IntRange(min=1), help="Default: LITELLM_DB_PARTITION_DAYS_AHEAD or 14.")
def partitions(days_ahead: int | None) -> None:
    """Create the daily partitions that are missing."""
    settings = get_settings()
    with make_engine(settings).begin() as connection:
        created = daily.ensure(connection, days_ahead or settings.partition_days_ahead)
    click.echo(json.dumps({"changed": bool(created), "created": created}))


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed and remove nothing.")
def expire(dry_run: bool) -> None:
    """Remove what is older than LITELLM_DB_KEEP_DAYS and LITELLM_DB_KEEP_BODIES_DAYS say; exit 1 where it is in use."""
    settings = get_settings()
    done = retention.expire(make_engine(settings), settings.keep_days, settings.keep_bodies_days, dry_run=dry_run)
    click.echo(json.dumps(asdict(done)))
    if done.postponed:
        sys.exit(1)


@main.command()
def check() -> None:
    """Compare the database with what this release expects; exit 3 where they differ."""
    settings = get_settings()
    found = database.differences(make_engine(settings), settings)
    click.echo(json.dumps({"differences": found}, indent=2))
    if found:
        sys.exit(EXIT_DIFFERENT)


@main.command()
def ping() -> None:
    """Connect as the service does and print what answered, as JSON: version, authentication, TLS, pool."""
    settings = get_settings()
    engine = make_engine(settings)
    with engine.connect() as connection:
        row = connection.execute(
            text(
                "SELECT current_setting('server_version') AS server_version, current_user AS role,"
                " current_database() AS database, current_setting('password_encryption') AS password_encryption,"
                " inet_server_addr()::text AS server_address, inet_client_addr()::text AS client_address,"
                " (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls"
            )
        ).one()
        pool = engine.pool
        report = {
            **row._asdict(),
            # libpq was told to accept nothing else, see engine.py
            "require_auth": connection.connection.dbapi_connection.info.dsn_parameters.get("require_auth"),  # type: ignore[union-attr]
            "pool": {
                # What the pool itself goes by, not what it was asked for.
                "size": pool._pool.maxsize,  # type: ignore[attr-defined]  # noqa: SLF001
                "max_overflow": pool._max_overflow,  # type: ignore[attr-defined]  # noqa: SLF001
                "recycle_seconds": pool._recycle,  # noqa: SLF001
                "pre_ping": pool._pre_ping,  # noqa: SLF001
                "status": pool.status(),
            },
        }
    click.echo(json.dumps(report, indent=2))
