"""The commands of the switch from Prisma and back, on the database host."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text

from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.schema import EXIT_DIFFERENT
from litellm_sqlalchemy.settings import get_settings
from litellm_sqlalchemy.switch import backup as dumps
from litellm_sqlalchemy.switch import census as counting
from litellm_sqlalchemy.switch import inspection, parity_report
from litellm_sqlalchemy.switch import parity as comparing
from litellm_sqlalchemy.switch.backfill import ROWS_AT_ONCE
from litellm_sqlalchemy.switch.backfill import backfill as fill

_DAY = click.DateTime(["%Y-%m-%d"])
_since_day = click.option("--since", type=_DAY, help="The first day, UTC. Default: the oldest.")
_until_day = click.option("--until", type=_DAY, help="The day to end before, UTC. Default: none.")


def _print(report: Any) -> None:
    click.echo(json.dumps(report, indent=2, default=str))


@click.command()
@_since_day
@_until_day
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
@_since_day
@_until_day
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
@click.option("--key-hash", help="Say whether a virtual key with this SHA-256 is known.")
def inspect(key_hash: str | None) -> None:
    """Say what the database is: migrations, owners, size, sessions of others."""
    with make_engine(get_settings()).connect() as connection:
        _print(asdict(inspection.inspect(connection, key_hash)))


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--purpose", required=True, help="A word for the name of the backup.")
def backup(directory: Path, purpose: str) -> None:
    """Dump the database into a directory below this one, and count the dump's rows."""
    _print(dumps.back_up(make_engine(get_settings()), directory, purpose))


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--purpose", required=True, help="The word in the name of the backup.")
def since(directory: Path, purpose: str) -> None:
    """Say what has been added to LiteLLM's tables since the newest backup for a purpose."""
    manifest = dumps.latest(directory, purpose)
    if manifest is None:
        raise click.ClickException(f"{directory} has no backup for {purpose}")
    with make_engine(get_settings()).connect() as connection:
        changes = counting.changes(counting.of_plain(manifest["census"]), counting.take(connection))
    _print({"since": manifest["taken_at"], "changes": changes})


@click.command()
@click.argument("dump", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--owner", required=True, help="The role that shall own the tables.")
@click.option("--note", required=True, help="Where the dump is from; the database keeps it.")
def restore(dump: Path, owner: str, note: str) -> None:
    """Replace LiteLLM's tables by those of a dump, in one transaction; requests and responses stay as they are."""
    dumps.restore(make_engine(get_settings()), dump, owner, note)


COMMANDS = (backfill, parity, census, inspect, backup, since, restore)
