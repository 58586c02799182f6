"""A cached property without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

_Value = TypeVar("_Value")


class cached_property(Generic[_Value]):  # noqa: N801 (used like a decorator of the standard library)
    """Computes a value when it is first asked for, and keeps it in the instance's ``__dict__``.

    `functools.cached_property` of Python 3.11 holds a lock per class while it computes: pictures would wait for each
    other, and a process that forks meanwhile would hang. Here two threads may compute the same value; both then get
    the first one.
    """

    def __init__(self, function: Callable[[Any], _Value]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> _Value: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Self | _Value:
        if instance is None:
            return self
        value: _Value = instance.__dict__.setdefault(self._name, self._function(instance))
        return value
