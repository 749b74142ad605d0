#!/usr/bin/env python3
"""Create, upgrade and check the schema of the request log.

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

from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.schema import EXIT_DIFFERENT, differences, upgrade
from litellm_sqlalchemy.settings import get_settings

EXIT_FAILED = 1


def _finish(report: dict[str, Any], code: int = 0) -> None:
    click.echo(json.dumps(report, indent=2))
    sys.exit(code)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Compare the database with the models; exit 3 where they differ.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and do nothing.")
def main(check: bool, dry_run: bool) -> None:
    """Create or upgrade the schema of the database that LITELLM_DB_URL names.

    The URL has the form postgresql+psycopg2://ROLE:PASSWORD@HOST:5432/litellm_db. To create or upgrade, the role must
    own the schema; to --check, it need only be able to read.
    """
    try:
        settings = get_settings()
        engine = make_engine(settings)
        if check:
            found = differences(engine)
            _finish({"changed": False, "differences": found}, EXIT_DIFFERENT if found else 0)
        done = upgrade(engine, settings.partition_days_ahead, dry_run=dry_run)
    except ValidationError as error:
        wrong = "; ".join(f"LITELLM_DB_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        _finish({"changed": False, "error": wrong}, EXIT_FAILED)
    except (ValueError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        _finish({"changed": False, "error": reason}, EXIT_FAILED)
    _finish(
        {
            "changed": done.changed,
            "dry_run": dry_run,
            "revision_before": done.revision_before,
            "revision_after": done.revision_after,
            "partitions_created": done.partitions_created,
        }
    )


if __name__ == "__main__":
    main()
