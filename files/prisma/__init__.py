"""LiteLLM's database client under the name by which LiteLLM imports it: ``from prisma import Prisma``.

It answers as prisma-client-py 0.15 does, through SQLAlchemy (litellm_sqlalchemy.prisma_client). It lives on the
gateway's path alone, and does not load beside the real one: which of the two answered would be a matter of chance.
"""

from importlib.metadata import PackageNotFoundError, distribution

try:
    distribution("prisma")
except PackageNotFoundError:
    pass
else:
    raise ImportError(
        "The package prisma from PyPI is installed beside the client of litellm_sqlalchemy, which has the same name."
        " Uninstall one of them: pip uninstall prisma"
    )

from litellm_sqlalchemy.prisma_client.client import Prisma
from litellm_sqlalchemy.prisma_client.values import Base64, Json
from prisma import actions, client, engine, errors, fields, models, types

Client = Prisma

__all__ = [
    "Base64",
    "Client",
    "Json",
    "Prisma",
    "actions",
    "client",
    "engine",
    "errors",
    "fields",
    "models",
    "types",
]
