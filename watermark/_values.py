"""What the library's values share: objects and mappings that cannot be changed, and whole numbers."""

from __future__ import annotations

import operator
from typing import Any, NoReturn

import numpy as np

from watermark.errors import ParameterError


class Immutable:
    """Base of what cannot be changed once it is made; a constructor uses `_set`."""

    __slots__ = ()

    def _set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed, and neither can the arrays in it. Unlike MappingProxyType it goes into pickles."""

    __slots__ = ()

    def __init__(self, items: Any = ()) -> None:
        super().__init__((k, read_only(v) if isinstance(v, np.ndarray) else v) for k, v in dict(items).items())

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("these values cannot be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def read_only(array: Any) -> Any:
    """A view of the array that cannot be written to; the array itself stays as it is."""
    view = array.view()
    view.setflags(write=False)
    return view


def whole(value: Any, name: str, least: int, most: int) -> int:
    """`value` as an int; NumPy's whole numbers are taken, a bool is none.

    Raises:
        ParameterError: It is no whole number from `least` to `most`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        shown = repr(value) if number is None or number.bit_length() < 64 else "one so large"
        raise ParameterError(f"{name} must be a whole number from {least} to {most}, not {shown}")
    return number
