"""Alembic's environment: migrations run on the connection that schema.py hands over."""

from alembic import context

from litellm_sqlalchemy.models import Base
from litellm_sqlalchemy.schema import VERSION_TABLE, is_ours

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_object=is_ours,
)
context.run_migrations()
