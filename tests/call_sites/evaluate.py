"""Evaluate an expression of the source to a shape: literals, names, what is put into a dictionary later, calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from call_sites.package import Function, Module, Package, called
from call_sites.shapes import Shape, leaf, unknown

DEPTH = 7
"""So many names and calls are followed, one through the other."""
CALLERS = 12
"""A function with more callers is everybody's: what they give it is not looked at."""
SAME = {"cast", "dict", "list", "tuple", "sorted", "deepcopy", "copy", "jsonify_object", "jsonify_team_object", "set"}
"""Calls whose value is one of their arguments, as far as shapes go."""
KINDS = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "len": "int", "dumps": "str", "safe_dumps": "str",
    "now": "datetime", "utcnow": "datetime", "datetime": "datetime", "uuid4": "str", "hash_token": "str",
    "Json": "Json", "Base64": "Base64", "Decimal": "Decimal",
}  # fmt: skip


class Evaluator:
    """Evaluates expressions of a package."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._under_way: set[tuple[int, str]] = set()

    def shape(self, node: ast.expr | None, module: Module, depth: int = DEPTH) -> Shape:  # noqa: PLR0911, PLR0912
        """What an expression may be; anything where that cannot be seen."""
        if node is None or depth == 0:
            return unknown()
        match node:
            case ast.Constant(value=value):
                return leaf("null" if value is None else type(value).__name__)
            case ast.JoinedStr():
                return leaf("str")
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return leaf("bool")
            case ast.Dict():
                return self._dictionary(node, module, depth)
            case ast.DictComp(value=value):
                return Shape(open=True).join(Shape())
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return Shape(element=self._union(elements, module, depth))
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element) | ast.SetComp(elt=element):
                return Shape(element=self.shape(element, module, depth))
            case ast.Starred(value=value):
                inner = self.shape(value, module, depth)
                return inner.element or unknown()
            case ast.IfExp(body=body, orelse=other):
                return self._union([body, other], module, depth)
            case ast.BoolOp(values=values):
                return self._union(values, module, depth)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right) | ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._union([left, right], module, depth)
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.shape(value, module, depth)
            case ast.Name():
                return self._name(node, module, depth)
            case ast.Call():
                return self._call(node, module, depth)
            case ast.Subscript(value=value, slice=ast.Slice()):
                return self.shape(value, module, depth)
        return unknown()

    def _union(self, nodes: list[ast.expr], module: Module, depth: int) -> Shape:
        joined = Shape()
        for node in nodes:
            joined.join(self.shape(node, module, depth))
        return joined

    def _dictionary(self, node: ast.Dict, module: Module, depth: int) -> Shape:
        made = Shape()
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                made.join(self.shape(value, module, depth))
            else:
                made.join(self._entry(key, value, module, depth))
        made.leaves.discard("?")
        return made if made.keys or made.open else made.join(Shape(open=False, leaves={"{}"}))

    def _entry(self, key: ast.expr, value: ast.expr, module: Module, depth: int) -> Shape:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            return Shape(keys={key.value: self.shape(value, module, depth)})
        # What stands under a computed key is looked at as a value of some key.
        names = self.strings(key, module)
        if names:
            return Shape(keys={name: self.shape(value, module, depth) for name in names})
        return Shape(keys={"*": self.shape(value, module, depth)}, open=True)

    def strings(self, node: ast.expr, module: Module) -> set[str]:
        """The texts that an expression may be, where all of them can be seen."""
        match node:
            case ast.Constant(value=str(value)):
                return {value}
            case ast.IfExp(body=body, orelse=other):
                both = [self.strings(body, module), self.strings(other, module)]
                return set().union(*both) if all(both) else set()
            case ast.Name(id=name):
                values = [value for value, _ in self._assigned(name, node, module)]
                found = [self.strings(value, module) for value in values]
                return set().union(*found) if found and all(found) else set()
        return set()

    def _assigned(self, name: str, node: ast.AST, module: Module) -> list[tuple[ast.expr, bool]]:
        """What is assigned to a name in the nearest scope around a node that assigns it."""
        for scope in module.scopes(node):
            if not isinstance(scope, ast.ClassDef):
                if found := module.bindings(scope).assigned.get(name):
                    return found
                if isinstance(scope, Function) and name in _parameters(scope):
                    return []
        return []

    def _name(self, node: ast.Name, module: Module, depth: int) -> Shape:
        around = [scope for scope in module.scopes(node) if not isinstance(scope, ast.ClassDef)]
        place = (id(around[0]), node.id)
        if place in self._under_way:
            return Shape()
        self._under_way.add(place)
        try:
            made = Shape()
            assigned = self._assigned(node.id, node, module)
            for value, whole in assigned:
                made.join(self.shape(value, module, depth - 1) if whole else unknown())
            if not assigned:
                owner = next((one for one in around if isinstance(one, Function) and node.id in _parameters(one)), None)
                made.join(self._parameter(owner, node.id, module, depth - 1) if owner else unknown())
            for scope in around:
                if isinstance(scope, Function):
                    for extra in self._additions(scope, node.id, module, depth - 1):
                        made.join(extra)
            return made
        finally:
            self._under_way.remove(place)

    def _parameter(self, function: Function, name: str, module: Module, depth: int) -> Shape:
        """What the callers of a function give for a parameter."""
        found = self._package.function(function.name, module)
        callers = self._package.callers.get(function.name, [])
        if depth < 1 or found is None or found[1] is not function or not 0 < len(callers) <= CALLERS:
            return unknown()
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args) if one.arg != "self"]
        made = unknown()
        for where, call in callers:
            for keyword in call.keywords:
                if keyword.arg == name:
                    made.join(self.shape(keyword.value, where, depth - 1))
            if name in names and names.index(name) < len(call.args):
                made.join(self.shape(call.args[names.index(name)], where, depth - 1))
        return made

    def _additions(self, scope: Function, name: str, module: Module, depth: int) -> Iterator[Shape]:
        """What is put into a dictionary or a list after it was made."""
        for node in module.bindings(scope).added.get(name, []):
            match node:
                case ast.Assign(targets=[ast.Subscript() as target], value=value):
                    yield self._stored(target, value, module, depth)
                case ast.Call(func=ast.Attribute(attr="update" | "extend"), args=[value]):
                    yield self.shape(value, module, depth)
                case ast.Call(func=ast.Attribute(attr="append" | "add"), args=[value]):
                    yield Shape(element=self.shape(value, module, depth))
                case ast.Call(func=ast.Attribute(attr="setdefault"), args=[key, value]):
                    yield self._entry(key, value, module, depth)

    def _stored(self, target: ast.Subscript, value: ast.expr, module: Module, depth: int) -> Shape:
        shape = self._entry(target.slice, value, module, depth)
        inner = target.value
        while isinstance(inner, ast.Subscript):
            shape = Shape(keys=dict.fromkeys(self.strings(inner.slice, module) or {"*"}, shape))
            inner = inner.value
        return shape

    def _call(self, node: ast.Call, module: Module, depth: int) -> Shape:
        name = called(node)
        if name in KINDS:
            return leaf(KINDS[name])
        if name == "dict" and node.keywords:
            return Shape(keys={k.arg: self.shape(k.value, module, depth - 1) for k in node.keywords if k.arg})
        if name in SAME and (node.args or node.keywords):
            last = node.args[-1] if node.args else node.keywords[-1].value
            return self.shape(last, module, depth - 1)
        found = self._package.function(name, module)
        if found is None:
            return unknown()
        made = Shape()
        own_module, function = found
        returned = [one for one in ast.walk(function) if isinstance(one, ast.Return) and one.value is not None]
        for one in returned:
            made.join(self.shape(one.value, own_module, depth - 2 if depth > 2 else 0))
        return made if returned else unknown()


def _parameters(function: Function) -> set[str]:
    given = function.args
    return {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
