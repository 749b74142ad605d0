"""Every call of a Prisma client in LiteLLM's source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from call_sites.evaluate import Evaluator
from call_sites.package import Function, Module, Package
from call_sites.shapes import Shape

CERTAIN = {
    "find_unique", "find_unique_or_raise", "find_first", "find_first_or_raise", "find_many",
    "create_many", "update_many", "upsert", "delete_many", "group_by", "aggregate",
}  # fmt: skip
ALSO_OF_OTHERS = {"create", "update", "delete", "count"}
"""Names that dictionaries, routers and providers' clients use too."""
RAW = {"query_raw", "query_first", "execute_raw"}
SESSIONS = {"tx", "batch_"}
ARGUMENTS = {
    "where", "data", "include", "order", "take", "skip", "cursor", "distinct", "select", "skip_duplicates",
    "by", "having", "sum", "avg", "min", "max", "count",
}  # fmt: skip
POSITIONS = {
    "find_unique": ("where", "include"), "create": ("data", "include"), "update": ("data", "where", "include"),
    "delete": ("where", "include"), "upsert": ("where", "data", "include"), "update_many": ("data", "where"),
    "delete_many": ("where",), "create_many": ("data",), "group_by": ("by",), "count": ("select",),
    "find_first": ("skip", "where"), "find_many": ("take", "skip", "where"),
}  # fmt: skip
WORDS = ("prisma", "query_raw", "execute_raw", ".table", ".db", "tx.", "batcher")


@dataclass
class CallSite:
    """One call."""

    place: str
    """File in the package, and line."""
    operation: str
    models: frozenset[str]
    """Names of accessors such as litellm_teamtable; empty where the source does not show it."""
    arguments: dict[str, Shape] = field(default_factory=dict)
    positional: int = 0
    sql: str | None = None
    unseen: bool = False
    """Whether arguments are given as ``**`` that cannot be seen."""


class Scan:
    """All calls, and what else is taken from the package prisma."""

    def __init__(self, root: Path, accessors: set[str]) -> None:
        self.package = Package(root, WORDS)
        self._accessors = accessors
        self._evaluator = Evaluator(self.package)
        self._tables = {
            name: accessor
            for name, found in self.package.classes.items()
            for _, node in found
            for accessor in [self._table_of(node)]
            if accessor
        }
        self.calls = [call for module in self.package.modules for call in self._calls(module)]

    def _table_of(self, node: ast.ClassDef) -> str | None:
        """The table that a repository class is for."""
        for one in node.body:
            match one:
                case ast.Assign(targets=[ast.Name(id="table_name")], value=ast.Constant(value=str(name))):
                    return name
                case ast.FunctionDef(name="table", body=body):
                    found = self._named(" ".join(ast.unparse(line) for line in body))
                    if len(found) == 1:
                        return next(iter(found))
        return None

    def _named(self, text: str) -> set[str]:
        return {word.lower() for word in re.findall(r"litellm_\w+", text, re.IGNORECASE)} & self._accessors

    def _calls(self, module: Module) -> Iterator[CallSite]:
        for node in module.calls:
            if isinstance(node.func, ast.Attribute):
                call = self._call(node, node.func, module)
                if call is not None:
                    yield call

    def _call(self, node: ast.Call, func: ast.Attribute, module: Module) -> CallSite | None:
        operation = func.attr
        place = f"{module.name}:{node.lineno}"
        if operation in RAW:
            return self._raw(node, operation, place, module)
        if operation in SESSIONS:
            shapes = {k.arg: self._evaluator.shape(k.value, module) for k in node.keywords if k.arg}
            return CallSite(place, operation, frozenset(), shapes) if not node.args else None
        if operation not in CERTAIN | ALSO_OF_OTHERS:
            return None
        names = {keyword.arg for keyword in node.keywords if keyword.arg}
        named = operation in CERTAIN or names & {"where", "data"}
        if not named and not self._is_table(func.value, module):
            return None
        if names - ARGUMENTS:
            return None
        models = self._models(func.value, module)
        given = dict(zip(POSITIONS.get(operation, ()), node.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        call = CallSite(place, operation, frozenset(models), positional=len(node.args))
        for name, value in given.items():
            call.arguments[name] = self._evaluator.shape(value, module)
        for keyword in node.keywords:
            if keyword.arg is None:
                shape = self._evaluator.shape(keyword.value, module)
                call.arguments |= {name: inner for name, inner in shape.keys.items() if name in ARGUMENTS}
                call.unseen |= shape.open
        return call

    def _raw(self, node: ast.Call, operation: str, place: str, module: Module) -> CallSite:
        statement = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "query"), None)
        arguments = [self._evaluator.shape(one, module) for one in node.args[1:]]
        return CallSite(
            place,
            operation,
            frozenset(),
            {f"${number}": shape for number, shape in enumerate(arguments, start=1)},
            len(node.args) - 1,
            ast.unparse(statement) if statement is not None else None,
        )

    def _is_table(self, node: ast.expr, module: Module) -> bool:
        text = ast.unparse(node)
        if re.search(r"(^|[._])(table|tables|db|actions)(\(|$)|Repository\(|\.table$|_table$|litellm_", text):
            return bool(self._models(node, module)) or text.endswith(".table")
        return False

    def _models(self, node: ast.expr, module: Module, depth: int = 6) -> set[str]:  # noqa: PLR0911, PLR0912
        """The tables that an expression may be."""
        if depth == 0:
            return set()
        match node:
            case ast.Attribute(value=value, attr=attr):
                if attr.lower() in self._accessors:
                    return {attr.lower()}
                if isinstance(value, ast.Name) and value.id == "self":
                    return self._of_self(attr, node, module, depth)
                return self._models(value, module, depth - 1)
            case ast.Call(func=func, args=args, keywords=keywords):
                name = func.id if isinstance(func, ast.Name) else getattr(func, "attr", "")
                if name in self._tables:
                    return {self._tables[name]}
                found: set[str] = set()
                for one in (*args, *(keyword.value for keyword in keywords)):
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        found |= self._named(one.value)
                    elif isinstance(one, ast.Call | ast.Attribute):
                        found |= self._models(one, module, depth - 1)
                if found:
                    return found
                function = self.package.function(name, module)
                if function is not None:
                    return self._returned(*function, depth)
                return self._models(func.value, module, depth - 1) if isinstance(func, ast.Attribute) else set()
            case ast.Name(id=name):
                return self._of_name(name, node, module, depth)
            case ast.IfExp(body=body, orelse=other):
                return self._models(body, module, depth - 1) | self._models(other, module, depth - 1)
            case ast.Await(value=value):
                return self._models(value, module, depth - 1)
        return set()

    def _returned(self, module: Module, function: Function, depth: int) -> set[str]:
        found: set[str] = set()
        for one in ast.walk(function):
            if isinstance(one, ast.Return) and one.value is not None:
                found |= self._models(one.value, module, depth - 1)
        return found or self._named(ast.unparse(function.returns) if function.returns else "")

    def _of_name(self, name: str, node: ast.AST, module: Module, depth: int) -> set[str]:
        for scope in module.scopes(node):
            if isinstance(scope, Function):
                given = scope.args
                for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                    if parameter.arg == name and parameter.annotation is not None:
                        return self._named(ast.unparse(parameter.annotation))
            if isinstance(scope, ast.ClassDef):
                continue
            found: set[str] = set()
            for one in ast.walk(scope):
                match one:
                    case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                        found |= self._models(value, module, depth - 1)
                    case ast.AnnAssign(target=ast.Name(id=target), value=value, annotation=kind) if target == name:
                        found |= self._models(value, module, depth - 1) if value else set()
                        found = found or self._named(ast.unparse(kind))
            if found:
                return found
        return set()

    def _of_self(self, attr: str, node: ast.AST, module: Module, depth: int) -> set[str]:
        around = module.class_around(node)
        if around is None:
            return set()
        if attr in {"table", "_table"} and around.name in self._tables:
            return {self._tables[around.name]}
        for one in ast.walk(around):
            match one:
                case ast.FunctionDef(name=name) if name == attr:
                    return self._returned(module, one, depth)
                case ast.Assign(targets=[ast.Attribute(attr=target)], value=value) if target == attr:
                    return self._models(value, module, depth - 1)
                case ast.AnnAssign(target=ast.Attribute(attr=target), value=value) if target == attr and value:
                    return self._models(value, module, depth - 1)
        return set()


def litellm_root() -> Path:
    """Where LiteLLM is installed; it is not imported."""
    spec = find_spec("litellm")
    assert spec is not None, "LiteLLM is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent
