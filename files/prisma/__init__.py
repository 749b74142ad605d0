"""LiteLLM's database client under the name by which LiteLLM imports it: ``from prisma import Prisma``.

It answers as prisma-client-py 0.15 does, through SQLAlchemy (litellm_sqlalchemy.prisma_client). It lives on the
gateway's path alone, and does not load beside the real one: which of the two answered would be a matter of chance.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

try:
    distribution("prisma")
except PackageNotFoundError:
    pass
else:
    raise ImportError(
        "The package prisma from PyPI is installed beside the client of litellm_sqlalchemy, which has the same name."
        " Uninstall one of them: pip uninstall prisma"
    )

# Loaded when they are asked for: LiteLLM starts `python -m prisma`, which needs none of them.
_PLACES = {"Prisma": "client", "Client": "client", "Json": "fields", "Base64": "fields"}
_MODULES = ("actions", "client", "engine", "errors", "fields", "models", "types")

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


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"prisma.{_PLACES[name]}"), name)
    if name in _MODULES:
        return import_module(f"prisma.{name}")
    raise AttributeError(f"module 'prisma' has no attribute {name!r}")
