"""The views that LiteLLM reads its reports from, with the SQL of its own ``litellm/proxy/db/create_views.py``.

No migration has them: LiteLLM makes them when it starts, which the service's role here may not. The file is read, not
imported: importing it imports the whole of LiteLLM.
"""

import ast
import re

from sqlalchemy import Connection, text

from litellm_sqlalchemy.litellm_migrations import package

SOURCE = "proxy/db/create_views.py"


def released() -> dict[str, str]:
    """CREATE VIEW statements by the names of the views; ValueError where the file is not as it used to be."""
    path = package("litellm") / SOURCE
    if not path.exists():
        raise ValueError(f"{path} does not exist: LiteLLM's views are made from it")
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    created = {match[1]: s for s in strings if (match := re.match(r'\s*CREATE (?:OR REPLACE )?VIEW "(\w+)" AS\s', s))}
    # LiteLLM looks for each view before it creates it.
    wanted = {match[1] for s in strings if (match := re.fullmatch(r'SELECT 1 FROM "(\w+)" LIMIT 1', s))}
    if not created or created.keys() != wanted:
        raise ValueError(f"{path} is not understood: it looks for {sorted(wanted)} and creates {sorted(created)}")
    return created


def missing(connection: Connection) -> list[str]:
    """The names of the views that do not exist."""
    there = connection.execute(text("SELECT viewname FROM pg_views WHERE schemaname = current_schema()")).scalars()
    return sorted(released().keys() - set(there))


def create(connection: Connection) -> list[str]:
    """Create those that are missing, in the caller's transaction; returns their names."""
    names = missing(connection)
    statements = released()
    for name in names:
        connection.exec_driver_sql(statements[name], execution_options={"no_parameters": True})
    return names
