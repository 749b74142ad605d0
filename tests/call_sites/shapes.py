"""The shape of a value as far as the source shows it: keys, elements and kinds of leaves, all possibilities at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Path = tuple[str, ...]
ELEMENT = "[]"
LOGIC = {"AND", "OR", "NOT"}
ANY = "*"
"""A key that the source does not show."""


@dataclass
class Shape:
    """The union of what a value may be."""

    keys: dict[str, Shape] = field(default_factory=dict)
    element: Shape | None = None
    leaves: set[str] = field(default_factory=set)
    """Kinds of plain values: str, int, float, bool, null, a name of prisma's such as Json, or ? for anything."""
    open: bool = False
    """Whether there may be keys that the source does not show."""

    def join(self, other: Shape) -> Shape:
        """Add what another shape may be, and return this one."""
        for key, shape in other.keys.items():
            self.keys.setdefault(key, Shape()).join(shape)
        if other.element is not None:
            self.element = (self.element or Shape()).join(other.element)
        self.leaves |= other.leaves
        self.open |= other.open
        return self

    def paths(self, above: Path = ()) -> Iterator[tuple[Path, Shape]]:
        """Every place in it, from the top, and what is there."""
        yield above, self
        for key, shape in self.keys.items():
            yield from shape.paths((*above, key))
        if self.element is not None:
            yield from self.element.paths((*above, ELEMENT))

    def __str__(self) -> str:
        parts = sorted(self.leaves)
        if self.keys or (self.open and not parts):
            inner = [f"{key}: {shape}" for key, shape in sorted(self.keys.items())] + ["…"] * self.open
            parts.append("{" + ", ".join(inner) + "}")
        if self.element is not None:
            parts.append(f"[{self.element}]")
        return " | ".join(parts) or "?"


def leaf(kind: str) -> Shape:
    """A plain value."""
    return Shape(leaves={kind})


def unknown() -> Shape:
    """Anything."""
    return Shape(leaves={"?"}, open=True)
