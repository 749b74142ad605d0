"""The request log of a LiteLLM gateway, kept in PostgreSQL through SQLAlchemy."""
