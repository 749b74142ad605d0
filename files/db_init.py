#!/usr/bin/env python3
"""Create, upgrade and check the schema: the tables of the request log, LiteLLM's own, and who may do what with them.

Prints one JSON object. Safe when two run at once, and when run again: the second changes nothing.

exit 0: done, or nothing to do     1: failed, nothing was changed     3: --check found differences
"""

import json
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from litellm_sqlalchemy import database
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.schema import EXIT_DIFFERENT
from litellm_sqlalchemy.settings import get_settings

EXIT_FAILED = 1


def _finish(report: dict[str, Any], code: int = 0) -> None:
    click.echo(json.dumps(report, indent=2))
    sys.exit(code)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Compare the database with this release; exit 3 where they differ.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and do nothing.")
@click.option("--rolled-back", metavar="MIGRATION", help="Have LiteLLM's failed migration tried again, then go on.")
@click.option("--applied", metavar="MIGRATION", help="Take LiteLLM's failed migration as carried out, then go on.")
@click.option("--baseline", is_flag=True, help="Record LiteLLM's migrations for tables that `prisma db push` made.")
def main(check: bool, dry_run: bool, rolled_back: str | None, applied: str | None, baseline: bool) -> None:
    """Create or upgrade the schema of the database that LITELLM_DB_URL names.

    The URL has the form postgresql+psycopg2://ROLE:PASSWORD@HOST:5432/litellm_db. To create or upgrade, the role must
    own the schema; to --check, it need only be able to read. LiteLLM's own tables are left out where
    LITELLM_DB_LITELLM_TABLES is false; the role that LITELLM_DB_SERVICE_ROLE names is granted what it needs.
    """
    if (check or dry_run) and (rolled_back or applied or baseline):
        raise click.UsageError(
            "--rolled-back, --applied and --baseline change the database: not with --check or --dry-run"
        )
    try:
        settings = get_settings()
        engine = make_engine(settings)
        if check:
            found = database.differences(engine, settings)
            _finish({"changed": False, "differences": found}, EXIT_DIFFERENT if found else 0)
        done = database.upgrade(
            engine, settings, dry_run=dry_run, rolled_back=rolled_back, applied=applied, baseline=baseline
        )
    except ValidationError as error:
        wrong = "; ".join(f"LITELLM_DB_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        _finish({"changed": False, "error": wrong}, EXIT_FAILED)
    except (ValueError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        _finish({"changed": False, "error": reason}, EXIT_FAILED)
    _finish(done)


if __name__ == "__main__":
    main()
