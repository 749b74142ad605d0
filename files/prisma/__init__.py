"""The names that LiteLLM takes from the package ``prisma`` to tell database errors apart.

LiteLLM imports these even without a database: without them a request that lacks a key is answered with 500 instead
of 401. They are named after prisma-client-py 0.15, and none is ever raised here.
"""

from prisma import engine, errors

__all__ = ["engine", "errors"]
