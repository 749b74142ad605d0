"""A backup that has been read back: pg_dump of one snapshot, whose rows are counted in the dump and in the database."""

import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from litellm_sqlalchemy.switch import census

MANIFEST = "manifest.json"
DUMP = "database.dump"


def back_up(engine: Engine, directory: Path, purpose: str) -> dict[str, Any]:
    """Dump the engine's database into a directory named by purpose and moment; returns its manifest.

    ValueError where the dump does not hold what the database does. A directory without a manifest is of a run that
    was broken off.
    """
    started = datetime.now(timezone.utc)
    place = directory / f"{purpose}-{started:%Y%m%dT%H%M%SZ}"
    place.mkdir(parents=True, mode=0o700)
    dump = place / DUMP
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        # The same snapshot for both, so that a database in use can be backed up as well.
        snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        _run(engine.url, "pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={dump}")
        taken = census.take(connection)
        version = connection.execute(text("SHOW server_version")).scalar_one()
    counted = rows_of(dump)
    wrong = [
        f"{name} has {table.rows} rows, its dump {counted[name]}"
        for name, table in taken.items()
        if counted[name] != table.rows
    ]
    if wrong:
        raise ValueError(f"the backup is not whole: {'; '.join(wrong)}")
    manifest = {
        "directory": str(place),
        "taken_at": started.isoformat(),
        "database": engine.url.database,
        "server_version": version,
        "bytes": dump.stat().st_size,
        "rows": sum(counted.values()),
        "census": census.plain(taken),
    }
    (place / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def latest(directory: Path, purpose: str) -> dict[str, Any] | None:
    """The manifest of the newest backup for a purpose, or None."""
    found = sorted(directory.glob(f"{purpose}-????????T??????Z/{MANIFEST}"))
    return json.loads(found[-1].read_text()) if found else None


def rows_of(dump: Path) -> Counter[str]:
    """How many rows a dump holds of each table, by reading it from end to end; ValueError where that fails."""
    rows: Counter[str] = Counter()
    table = None
    for line in _script(dump, "--data-only"):
        if table is None:
            if line.startswith(b"COPY "):
                # COPY public."LiteLLM_SpendLogs" (…) FROM stdin;
                table = line.split(b" ")[1].partition(b".")[2].strip(b'"').decode()
        elif line == b"\\.\n":
            table = None
        else:
            rows[table] += 1
    return rows


def restore(engine: Engine, dump: Path, owner: str, note: str) -> None:
    """Replace LiteLLM's part of the engine's database by that of a dump, as ``owner``, in one transaction.

    ValueError where either program fails; then nothing has been changed.
    """
    command = ["psql", "--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1", _dbname(engine.url)]
    with tempfile.TemporaryFile() as reasons:
        psql = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=reasons, env=_environment(engine.url))  # noqa: S603
        assert psql.stdin is not None
        try:
            psql.stdin.write(f'BEGIN;\n{_REMOVE}\nSET ROLE "{owner}";\n'.encode())
            psql.stdin.writelines(_script(dump, "--no-owner", "--no-acl"))
            # Not before pg_restore has come to its end: without this line psql rolls back.
            quoted = note.replace("'", "''")
            psql.stdin.write(f"\nCOMMENT ON TABLE public._prisma_migrations IS '{quoted}';\nCOMMIT;\n".encode())
            psql.stdin.close()
        except BrokenPipeError:
            pass  # psql has ended at an error, which is read below
        finally:
            with suppress(BrokenPipeError):
                psql.stdin.close()
            code = psql.wait()
        if code:
            reasons.seek(0)
            raise ValueError(f"the dump cannot be restored: {reasons.read().decode().strip()}")


def _script(dump: Path, *options: str) -> Iterator[bytes]:
    """What pg_restore makes of a dump, line by line; ValueError at its end where it failed."""
    with tempfile.TemporaryFile() as reasons:
        command = ["pg_restore", *options, "--file=-", str(dump)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=reasons) as process:  # noqa: S603
            assert process.stdout is not None
            yield from process.stdout
        if process.returncode:
            reasons.seek(0)
            raise ValueError(f"the dump cannot be read: {reasons.read().decode().strip()}")


def _run(url: URL, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database; ValueError with its words where it fails."""
    done = subprocess.run(  # noqa: S603
        [program, *arguments, _dbname(url)], env=_environment(url), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{program}: {done.stderr.strip()}")


def _dbname(url: URL) -> str:
    """The URL as libpq takes it, without the password, which a list of processes would show."""
    plain = url._replace(drivername="postgresql", password=None)
    return f"--dbname={plain.render_as_string(hide_password=False)}"


def _environment(url: URL) -> dict[str, str]:
    return {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password is not None else {})}


# LiteLLM's tables, views, types and functions: all but the request log's.
_REMOVE = r"""
DO $$
DECLARE statement text;
BEGIN
    FOR statement IN
        SELECT format('DROP %s IF EXISTS public.%I CASCADE', kind, relname)
        FROM pg_class
        JOIN (VALUES ('r', 'TABLE'), ('p', 'TABLE'), ('v', 'VIEW'), ('m', 'MATERIALIZED VIEW')) AS kinds (letter, kind)
            ON letter = relkind
        WHERE relnamespace = 'public'::regnamespace
          AND relname !~ '^((requests|responses)(_p\d{8}|_default)?|request_log_version)$'
        UNION ALL
        SELECT format('DROP TYPE IF EXISTS public.%I CASCADE', typname)
        FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
        UNION ALL
        SELECT format('DROP FUNCTION IF EXISTS %s CASCADE', oid::regprocedure)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
"""
