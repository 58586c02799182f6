"""What every attack is: a name, a strength, and media in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from watermark._values import FrozenDict, whole
from watermark.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Need = Literal["model", "references", "oracle", "gpu"]
"""What an attack needs besides the media: a model, other media, the verdicts of a detector, a GPU."""
Knowledge = Literal["blind", "references", "surrogate", "scheme", "key"]
"""What the attacker knows: nothing, other media that carry the mark, a similar model, the scheme, the key."""
Goal = Literal["removal", "forgery"]
"""Removal is done to marked media, forgery to a cover that carries no mark."""


@dataclass(frozen=True, eq=False)
class Given:
    """What an attacker holds besides the media. The repr counts it and shows none of it.

    Attributes:
        marked: Media that carry the mark.
        clean: Media of the same kind that do not.
        detect: Verdict of the detector on media, for attacks that query it.
        models: Models by name.
    """

    marked: Sequence[Any] = ()
    clean: Sequence[Any] = ()
    detect: Callable[[Any], Any] | None = None
    models: Mapping[str, Any] = field(default_factory=FrozenDict)
    _learnt: dict[str, tuple[Any, Any]] = field(default_factory=dict, init=False, compare=False)

    def __repr__(self) -> str:
        return (
            f"Given(marked: {len(self.marked)}, clean: {len(self.clean)}, "
            f"detect: {'no' if self.detect is None else 'yes'}, models: {sorted(self.models)})"
        )

    def learnt(self, what: str, shape: Any, learn: Callable[[], Any]) -> Any:
        """What an attack learns from the references, once for all items of a shape; the last shape is remembered."""
        known = self._learnt.get(what)
        if known is None or known[0] != shape:
            known = self._learnt[what] = (shape, learn())
        return known[1]


class Span:
    """A native parameter of an attack, read off its strength.

    An attribute of the class; on an attack it is the value at the attack's strength.

    Args:
        mild: Value at strength 0.
        harsh: Value at strength 1.
        log: Steps of strength multiply the value instead of adding to it.
    """

    def __init__(self, mild: float, harsh: float, *, log: bool = False) -> None:
        self.mild, self.harsh, self._log = mild, harsh, log

    def __get__(self, attack: Attack | None, owner: type[Attack]) -> Any:
        return self if attack is None else self.value(attack.strength)

    def value(self, strength: float) -> float:
        """The value at a strength from 0 to 1."""
        if self._log:
            value = float(self.mild ** (1 - strength) * self.harsh**strength)
        else:
            value = self.mild + strength * (self.harsh - self.mild)
        return min(max(value, min(self.mild, self.harsh)), max(self.mild, self.harsh))

    def strength(self, value: float) -> float:
        """The strength at which the parameter has a value."""
        if self._log:
            return float(np.log(value / self.mild) / np.log(self.harsh / self.mild))
        return (value - self.mild) / (self.harsh - self.mild)


class WholeSpan(Span):
    """A `Span` of whole numbers: the nearest one is taken."""

    def value(self, strength: float) -> int:
        """The value at a strength from 0 to 1."""
        return round(super().value(strength))


@dataclass(frozen=True)
class Attack(ABC):
    """A change of media that tests how much of a mark is left, or whether a mark can be forged.

    Calling an attack gives the attacked media; what was passed is not changed. Equal media, seed and `given` give equal
    results, and attacks that differ in strength alone make the same random draws, so that strengths are comparable.
    Attacks are immutable, comparable and picklable.

    Args:
        strength: From 0 (mildest) to 1 (harshest). It sets the native parameters.

    Raises:
        ParameterError: `strength` is no number from 0 to 1.
    """

    strength: float = 0.5

    name: ClassVar[str]
    """Modality and attack, such as ``image.jpeg``."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    knowledge: ClassVar[Knowledge] = "blind"
    goal: ClassVar[Goal] = "removal"
    source: ClassVar[str] = "ours"
    """The benchmark or paper that the attack or its range comes from."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", _strength(self.strength))

    @classmethod
    def spans(cls) -> dict[str, Span]:
        """The native parameters by name."""
        return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items() if _is_span(value)}

    @classmethod
    def at(cls, **parameter: float) -> Self:
        """The attack at the strength that gives one native parameter a value, as in ``Jpeg.at(quality=50)``.

        Raises:
            ParameterError: It has no such parameter, more than one is given, or the value is out of its range.
        """
        spans = cls.spans()
        if len(parameter) != 1 or not parameter.keys() <= spans.keys():
            known = f"one of {', '.join(spans)} alone" if spans else "no native parameter"
            raise ParameterError(f"{cls.name} takes {known}, not {' and '.join(parameter) or 'nothing'}")
        ((name, value),) = parameter.items()
        span = spans[name]
        low, high = sorted((span.mild, span.harsh))
        if not _is_number(value) or not low <= value <= high:
            raise ParameterError(f"{name} of {cls.name} must lie from {low:g} to {high:g}, not {value!r}")
        return cls(strength=min(max(span.strength(value), 0.0), 1.0))

    @property
    def parameters(self) -> dict[str, float]:
        """The native parameters at this strength."""
        return {name: span.value(self.strength) for name, span in self.spans().items()}

    def __repr__(self) -> str:
        native = "".join(f", {name}={value:g}" for name, value in self.parameters.items())
        return f"{type(self).__name__}(strength={self.strength:g}{native})"

    def __call__(self, media: Any, rng: int | np.random.Generator, given: Given | None = None) -> Any:
        """Attacks one item.

        Args:
            media: The item, of the modality that the name begins with.
            rng: A seed, or the generator to draw from; a generator moves on.
            given: What else the attacker holds.

        Returns:
            Media of the same type.

        Raises:
            MediaError: The media have a wrong type, shape or content, or the machine lacks a codec for them.
            ParameterError: `rng` is no seed, or `given` lacks something that the attack needs.
        """
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(whole(rng, "rng", 0, 2**128 - 1))
        return self._attack(media, rng, Given() if given is None else given)

    @abstractmethod
    def _attack(self, media: Any, rng: np.random.Generator, given: Given) -> Any:
        """`__call__` with everything in place."""

    def _require(self, references: Sequence[Any], what: str) -> Sequence[Any]:
        if len(references) == 0:
            raise ParameterError(f"{self.name} needs other media: pass Given({what}=[...])")
        return references


def _strength(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ParameterError(f"strength must be a number from 0 to 1, not {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_span(value: Any) -> bool:
    return isinstance(value, Span)
