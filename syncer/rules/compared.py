"""Data that is compared by its meaning, without the fields that only say where and how it was written."""

from typing import Any, ClassVar

import msgspec


class Compared(msgspec.Struct, frozen=True, eq=False):
    """Base of such data. `NOT_COMPARED` names the fields that do not count when two of them are compared."""

    NOT_COMPARED: ClassVar[frozenset[str]]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.compared() == other.compared()

    def __hash__(self) -> int:
        return hash(self.compared())

    def compared(self) -> tuple[Any, ...]:
        """Return the values that count."""
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in self.NOT_COMPARED)
