"""The commands of the switch from Prisma and back, on the database host: backup, restore, backfill, parity, census."""

import json
import logging
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text

from litellm_sqlalchemy import backup as dumps
from litellm_sqlalchemy import census as counting
from litellm_sqlalchemy import parity as comparing
from litellm_sqlalchemy import parity_report
from litellm_sqlalchemy.backfill import ROWS_AT_ONCE
from litellm_sqlalchemy.backfill import backfill as fill
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.schema import EXIT_DIFFERENT
from litellm_sqlalchemy.settings import get_settings

_DAY = click.DateTime(["%Y-%m-%d"])
_since = click.option("--since", type=_DAY, help="The first day, UTC. Default: the oldest.")
_until = click.option("--until", type=_DAY, help="The day to end before, UTC. Default: none.")


def _print(report: Any) -> None:
    click.echo(json.dumps(report, indent=2, default=str))


@click.command()
@_since
@_until
@click.option("--rows-at-once", type=click.IntRange(min=1, max=100_000), default=ROWS_AT_ONCE, show_default=True)
@click.option("--dry-run", is_flag=True, help="Count what is missing and store nothing.")
def backfill(since: datetime | None, until: datetime | None, rows_at_once: int, dry_run: bool) -> None:
    """Store in requests and responses what only LiteLLM_SpendLogs holds; run again after a kill, it goes on."""
    done = fill(
        make_engine(get_settings()),
        since=since and since.date(),
        until=until and until.date(),
        rows_at_once=rows_at_once,
        dry_run=dry_run,
    )
    _print(asdict(done))


@click.command()
@_since
@_until
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the whole report to this file.")
def parity(since: datetime | None, until: datetime | None, json_file: Path | None) -> None:
    """Compare LiteLLM_SpendLogs with its backfill by day, model and key, and row by row; exit 3 where they differ."""
    found = comparing.compare(make_engine(get_settings()), since=since and since.date(), until=until and until.date())
    if json_file:
        json_file.write_text(json.dumps(parity_report.plain(found), indent=2) + "\n")
    click.echo(parity_report.table(found))
    if not found.equal:
        sys.exit(EXIT_DIFFERENT)


@click.command()
@click.option("--role", help="Count as this role, as far as it may read.")
@click.option("--like", type=click.Path(exists=True, path_type=Path), help="Compare with the census of a manifest.")
def census(role: str | None, like: Path | None) -> None:
    """Count LiteLLM's own tables; with --like, exit 3 where they are not as they were."""
    with make_engine(get_settings()).connect() as connection:
        if role:
            connection.execute(text("SELECT set_config('role', :role, true)"), {"role": role})
        taken = counting.take(connection)
    report: dict[str, Any] = {"census": counting.plain(taken)}
    if like:
        then = counting.of_plain(json.loads(like.read_text())["census"])
        report = {"differences": counting.differences(then, taken), "changes": counting.changes(then, taken)} | report
    _print(report)
    if report.get("differences"):
        sys.exit(EXIT_DIFFERENT)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--alone", is_flag=True, help="Refuse while anybody else is connected to the database.")
def backup(directory: Path, alone: bool) -> None:
    """Dump the database into a directory below this one, and count the dump's rows."""
    engine = make_engine(get_settings())
    with engine.connect() as connection:
        if alone and (others := dumps.others(connection)):
            raise click.ClickException(f"stop whoever else is connected to {engine.url.database}: {'; '.join(others)}")
    logging.info("backup: dumping %s", engine.url.database)
    _print(dumps.back_up(engine, directory))


@click.command()
@click.argument("dump", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--owner", required=True, help="The role that shall own the tables.")
def restore(dump: Path, owner: str) -> None:
    """Replace LiteLLM's tables by those of a dump, in one transaction; requests and responses stay as they are."""
    dumps.restore(make_engine(get_settings()), dump, owner)


COMMANDS = (backfill, parity, census, backup, restore)
