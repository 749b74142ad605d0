"""Compiled statements, kept by the shape of the arguments they were made for.

Building and compiling a SQLAlchemy statement costs more than running it. So the arguments of an operation are parted
into their values and their shape: the same arguments with a placeholder, a ``Slot``, for each value. A statement is
built once for a shape, and runs with the values of each call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ClauseElement, bindparam
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.types import TypeEngine

from litellm_sqlalchemy.prisma_client.values import now

_DIALECT = psycopg.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
# More shapes than LiteLLM has call sites; a caller whose shapes never end must not fill the memory.
MAX_STATEMENTS = 4096
# Keys whose text is not a value but says what is to be done with one.
_WORDS = frozenset({"mode", "sort", "nulls"})

NOW = -1
CONSTANT = -2


@dataclass(frozen=True)
class Slot:
    """The place of a value in the values of a call."""

    index: int


def shape(argument: Any, found: list[Any], key: str = "") -> Any:
    """The shape of an argument, hashable; its values are appended to ``found``."""
    if argument is None or argument is True or argument is False:
        return argument
    if isinstance(argument, dict):
        return tuple([(name, shape(value, found, name)) for name, value in argument.items()])
    if isinstance(argument, list | tuple | set | frozenset):
        if not argument:
            return "[]"
        if any(isinstance(item, dict) for item in argument):
            return ("[", *[shape(item, found) for item in argument])
        if any(item is None for item in argument):
            found.append(list(argument))
            return "[None]"
        found.append(argument)
        return "[value]"
    if key in _WORDS and isinstance(argument, str):
        return (argument,)
    found.append(argument)
    return "value"


def slotted(argument: Any, taken: int = 0, key: str = "") -> tuple[Any, int]:
    """The argument with a Slot for each value that ``shape`` finds in it, and how many are taken by then."""
    if argument is None or argument is True or argument is False:
        return argument, taken
    if isinstance(argument, dict):
        tree = {}
        for name, value in argument.items():
            tree[name], taken = slotted(value, taken, name)
        return tree, taken
    if isinstance(argument, list | tuple | set | frozenset):
        if not argument:
            return [], taken
        if any(isinstance(item, dict) for item in argument):
            items = []
            for item in argument:
                slotted_item, taken = slotted(item, taken)
                items.append(slotted_item)
            return items, taken
    elif key in _WORDS and isinstance(argument, str):
        return argument, taken
    return Slot(taken), taken + 1


class Binder:
    """Makes the bind parameters of one statement, and remembers where their values come from."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[int, Callable[..., Any]]] = {}

    def bind(self, value: Any, type_: TypeEngine[Any], encode: Callable[[Any], Any]) -> Any:
        """A parameter for a Slot, or for a value that is the same in every call of this shape."""
        if isinstance(value, Slot):
            return self._parameter(value.index, encode, type_)
        encoded = encode(value)
        return self._parameter(CONSTANT, lambda: encoded, type_)

    def generated(self, generate: Callable[[], Any], type_: TypeEngine[Any]) -> Any:
        """A parameter that is made anew for each call."""
        return self._parameter(CONSTANT, generate, type_)

    def now(self, type_: TypeEngine[Any]) -> Any:
        """The moment of the call: the same wherever a statement uses it."""
        return self._parameter(NOW, now, type_)

    def _parameter(self, index: int, encode: Callable[..., Any], type_: TypeEngine[Any]) -> Any:
        name = f"p{len(self._sources)}"
        self._sources[name] = (index, encode)
        return bindparam(name, type_=type_)

    def compile(self, statement: ClauseElement, result: Any = None) -> "Statement":
        """The statement as PostgreSQL gets it."""
        compiled = statement.compile(dialect=_DIALECT)
        names = compiled.positiontup or []  # type: ignore[attr-defined]
        return Statement(str(compiled), [self._source(name, compiled.params) for name in names], result)

    def _source(self, name: str, literals: Any) -> tuple[int, Callable[..., Any]]:
        return self._sources[name] if name in self._sources else (CONSTANT, lambda: literals[name])


class Statement:
    """SQL with ``$1``, and how to make its parameters of the values of a call. ``result`` is the maker's own."""

    __slots__ = ("result", "sources", "sql")

    def __init__(self, sql: str, sources: list[tuple[int, Callable[..., Any]]], result: Any = None) -> None:
        self.sql = sql
        self.sources = sources
        self.result = result

    def parameters(self, found: Sequence[Any]) -> list[Any]:
        """The parameters for the values of a call. Raises DataError for a value of the wrong type."""
        moment = None
        parameters = []
        for index, encode in self.sources:
            if index >= 0:
                parameters.append(encode(found[index]))
            elif index == CONSTANT:
                parameters.append(encode())
            else:
                moment = moment or encode()
                parameters.append(moment)
        return parameters


_S = TypeVar("_S")


class StatementCache:
    """Statements by their shape; the oldest goes when there are too many."""

    def __init__(self) -> None:
        self._statements: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], _S]) -> _S:
        """The statement for a shape, made if it is not there."""
        found = self._statements.get(key)
        if found is None:
            found = make()
            if len(self._statements) >= MAX_STATEMENTS:
                del self._statements[next(iter(self._statements))]
            self._statements[key] = found
        return found
