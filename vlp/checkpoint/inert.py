"""Unpickling without importing or running anything that the pickle names: stand-ins take the place of all classes."""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # the pickle protocol of torch.save names these


class Foreign(dict):
    """Stands for an object of a class that was not imported: constructor arguments, items, elements and state."""

    name = ""
    arguments: tuple[Any, ...]
    elements: list[Any]
    state: Any

    def __new__(cls, *arguments: Any) -> Foreign:
        self = super().__new__(cls)
        self.arguments, self.elements, self.state = arguments, [], None
        return self

    def __init__(self, *_: Any) -> None:
        """Takes no items: the arguments need not be those of a dict."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, element: Any) -> None:
        self.elements.append(element)

    def extend(self, elements: Any) -> None:
        self.elements.extend(elements)

    __hash__ = object.__hash__  # type: ignore[assignment]

    def data(self) -> Any:
        """What it held, by the ways in which pickled containers and plain objects keep it; its name if nothing."""
        if self or self.elements:
            return dict(self) or self.elements
        if isinstance(self.state, Mapping):
            return dict(self.state)
        if len(self.arguments) == 1 and isinstance(self.arguments[0], list | tuple | Mapping):
            return self.arguments[0]
        return self.name


def inert_unpickler(allowed: Mapping[str, Any], classes: dict[str, type[Foreign]]) -> type[pickle.Unpickler]:
    """An unpickler that knows the names of ``allowed`` and notes its stand-ins for all others in ``classes``."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f"{_PYTHON_2.get(module, module)}.{name}"
            if full in allowed:
                return allowed[full]
            if full not in classes:
                classes[full] = type("Foreign", (Foreign,), {"name": full})
            return classes[full]

    return Unpickler


def deepest_tuple(handle: Any) -> int:
    """How many tuples a pickle nests in each other, found without unpickling it.

    A tuple that holds one twice, and so on, takes few bytes; as a key of a dictionary it is hashed without end.
    """
    stack: list[int | None] = []  # depths of tuples, 0 of all else, None for a mark
    memo: dict[Any, int | None] = {}
    deepest = 0

    def pop_to_mark() -> int:
        depths = list(iter(stack.pop, None))
        return max((depth for depth in depths if depth is not None), default=0)

    for opcode, argument, _ in pickletools.genops(handle):
        name = opcode.name
        if name == "MARK":
            stack.append(None)
        elif name == "TUPLE":
            stack.append(1 + pop_to_mark())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(1 + max(stack.pop() or 0 for _ in range(int(name[-1]))))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            for taken in reversed(opcode.stack_before):
                if taken is pickletools.stackslice:
                    pop_to_mark()
                elif taken is not pickletools.markobject:
                    stack.pop()
            stack.extend(0 for _ in opcode.stack_after)
        deepest = max(deepest, (stack[-1] or 0) if stack else 0)
    return deepest


def places_of_storage(handle: Any, key: str) -> list[str]:
    """Where in the pickled dictionary of a torch.save the tensors of storage ``key`` stand: dotted names."""
    unpickler = inert_unpickler({}, {})(handle)
    unpickler.persistent_load = lambda said: said  # type: ignore[method-assign]
    found: list[str] = []

    def walk(value: Any, place: str) -> None:
        if isinstance(value, tuple) and len(value) > 2 and value[0] == "storage":
            if value[2] == key:
                found.append(place)
        elif isinstance(value, Foreign) and value.arguments:
            walk(value.arguments[0], place)  # a tensor's storage, a parameter's tensor
        elif isinstance(value, Mapping | list):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for name, item in items:
                walk(item, f"{place}.{name}" if place else str(name))

    walk(unpickler.load(), "")
    return found
