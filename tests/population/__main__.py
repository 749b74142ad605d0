"""Make a stock LiteLLM database in an empty one: LiteLLM's own migrations, recorded as Prisma does, and rows.

python -m population --spend-logs=100000 postgresql://ROLE:PASSWORD@HOST/DATABASE
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import litellm_proxy_extras
import psycopg2

MIGRATIONS = Path(litellm_proxy_extras.__file__).with_name("migrations")

# https://github.com/prisma/prisma-engines: schema-engine, "_prisma_migrations"
PRISMA_MIGRATIONS = """
CREATE TABLE "_prisma_migrations" (
    "id" VARCHAR(36) PRIMARY KEY NOT NULL,
    "checksum" VARCHAR(64) NOT NULL,
    "finished_at" TIMESTAMPTZ,
    "migration_name" VARCHAR(255) NOT NULL,
    "logs" TEXT,
    "rolled_back_at" TIMESTAMPTZ,
    "started_at" TIMESTAMPTZ NOT NULL DEFAULT now(),
    "applied_steps_count" INTEGER NOT NULL DEFAULT 0
)
"""


def migrate(connection: "psycopg2.extensions.connection") -> int:
    """Apply LiteLLM's migrations and record each; returns how many."""
    scripts = sorted(MIGRATIONS.glob("*/migration.sql"))
    connection.autocommit = True  # as Prisma applies them: some build indexes concurrently
    with connection.cursor() as cursor:
        cursor.execute(PRISMA_MIGRATIONS)
        for script in scripts:
            cursor.execute(script.read_text())
            cursor.execute(
                'INSERT INTO "_prisma_migrations" (id, checksum, migration_name, finished_at, applied_steps_count)'
                " VALUES (gen_random_uuid(), %s, %s, now(), 1)",
                (hashlib.sha256(script.read_bytes()).hexdigest(), script.parent.name),
            )
    connection.autocommit = False
    return len(scripts)


def populate(connection: "psycopg2.extensions.connection", spend_logs: int, days: int) -> None:
    """Fill the tables: ``spend_logs`` rows of LiteLLM_SpendLogs over so many days, and what they refer to."""
    sql = Path(__file__).with_name("population.sql").read_text()
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('population.spend_logs', %s, true)", (str(spend_logs),))
        cursor.execute("SELECT set_config('population.days', %s, true)", (str(days),))
        cursor.execute(sql)
    # As autovacuum has left a database of that age.
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="population", description=__doc__.splitlines()[0])
    parser.add_argument("--spend-logs", type=int, default=100_000, help="rows of LiteLLM_SpendLogs")
    parser.add_argument("--days", type=int, default=90, help="days that they are spread over")
    parser.add_argument("url", help="the database, as its owner")
    arguments = parser.parse_args()
    started = time.monotonic()
    connection = psycopg2.connect(arguments.url)
    migrations = migrate(connection)
    populate(connection, arguments.spend_logs, arguments.days)
    report = {
        "migrations": migrations,
        "spend_logs": arguments.spend_logs,
        "seconds": round(time.monotonic() - started, 1),
    }
    json.dump(report, sys.stdout)
    print()


if __name__ == "__main__":
    main()
