"""The source of an installed package: its modules, functions and classes by name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = Function | ast.ClassDef | ast.Module


@dataclass
class Bindings:
    """What a scope does to its names."""

    assigned: dict[str, list[tuple[ast.expr, bool]]] = field(default_factory=lambda: defaultdict(list))
    """Values assigned to a name, and whether the whole value goes to it."""
    added: dict[str, list[ast.Assign | ast.Call]] = field(default_factory=lambda: defaultdict(list))
    """What is put into the dictionary or list of a name later."""


@dataclass
class Module:
    """One file: its tree, and for every node the scopes around it."""

    path: Path
    name: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    functions: list[Function] = field(default_factory=list)
    classes: list[ast.ClassDef] = field(default_factory=list)
    calls: list[ast.Call] = field(default_factory=list)
    _bindings: dict[ast.AST, Bindings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr_context | ast.operator):
                    continue
                self.parents[child] = node
                waiting.append(child)
                if isinstance(child, ast.Call):
                    self.calls.append(child)
                elif isinstance(child, Function):
                    self.functions.append(child)
                elif isinstance(child, ast.ClassDef):
                    self.classes.append(child)

    def scopes(self, node: ast.AST) -> Iterator[Scope]:
        """The functions and classes around a node, from the inside, and the module."""
        while (above := self.parents.get(node)) is not None:
            node = above
            if isinstance(node, Scope):
                yield node

    def bindings(self, scope: ast.AST) -> Bindings:
        """What a scope does to its names, functions in it left out."""
        if scope not in self._bindings:
            made = self._bindings[scope] = Bindings()
            for node in _own(scope):
                _bind(node, made)
        return self._bindings[scope]

    def class_around(self, node: ast.AST) -> ast.ClassDef | None:
        """The class whose body holds a node."""
        return next((scope for scope in self.scopes(node) if isinstance(scope, ast.ClassDef)), None)


class Package:
    """All modules that mention any of some words."""

    def __init__(self, root: Path, words: tuple[str, ...]) -> None:
        self.modules: list[Module] = []
        self.functions: dict[str, list[tuple[Module, Function]]] = defaultdict(list)
        self.classes: dict[str, list[tuple[Module, ast.ClassDef]]] = defaultdict(list)
        self.callers: dict[str, list[tuple[Module, ast.Call]]] = defaultdict(list)
        for path in sorted(root.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if any(word in source for word in words):
                self._add(Module(path, str(path.relative_to(root)), ast.parse(source)))

    def _add(self, module: Module) -> None:
        self.modules.append(module)
        for function in module.functions:
            self.functions[function.name].append((module, function))
        for node in module.classes:
            self.classes[node.name].append((module, node))
        for call in module.calls:
            self.callers[called(call)].append((module, call))

    def function(self, name: str, module: Module) -> tuple[Module, Function] | None:
        """The function of that name: the module's own, or the only one elsewhere."""
        found = self.functions.get(name, [])
        own = [one for one in found if one[0] is module]
        if own:
            return own[0]
        return found[0] if len(found) == 1 else None


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of functions and classes in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, Function | ast.ClassDef):
            yield child
            yield from _own(child)


def _bind(node: ast.AST, to: Bindings) -> None:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _bind_target(target, value, to)
                inner: ast.expr = target
                while isinstance(inner, ast.Subscript):
                    inner = inner.value
                if isinstance(target, ast.Subscript) and isinstance(inner, ast.Name):
                    to.added[inner.id].append(node)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
            _bind_target(target, value, to)
        case ast.NamedExpr(target=target, value=value):
            _bind_target(target, value, to)
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            if isinstance(node.target, ast.Name):
                to.assigned[node.target.id].append((ast.Starred(value=node.iter), True))
            else:
                _bind_target(node.target, node.iter, to)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
            to.added[name].append(node)


def _bind_target(target: ast.expr, value: ast.expr, to: Bindings) -> None:
    if isinstance(target, ast.Name):
        to.assigned[target.id].append((value, True))
    elif isinstance(target, ast.Tuple | ast.List):
        for one in target.elts:
            if isinstance(one, ast.Name):
                to.assigned[one.id].append((value, False))
