"""`python -m litellm_sqlalchemy` is `litellm-db`."""

from litellm_sqlalchemy.cli import main

main(prog_name="litellm-db")
