"""The types of arguments, for annotations: ``prisma.types.LiteLLM_UserTableWhereInput`` is any dictionary."""

from typing import Any, TypedDict


class DatasourceOverride(TypedDict, total=False):
    """Another database than DATABASE_URL's."""

    url: str
    env: str
    name: str


class HttpConfig(TypedDict, total=False):
    """Settings of prisma-client-py's HTTP client; there is none here."""

    timeout: Any
    limits: Any
    max_redirects: int


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return dict[str, Any]
