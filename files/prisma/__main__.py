"""``python -m prisma``: LiteLLM calls ``migrate diff`` as it starts, to print what its tables lack.

Nothing is printed here: the tables are made, and compared with LiteLLM's schema, by db_init.py.
"""

import sys


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if arguments[:2] == ["migrate", "diff"]:
        return 0
    sys.stderr.write("The tables of LiteLLM are made by db_init.py on the database host, not by Prisma.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
