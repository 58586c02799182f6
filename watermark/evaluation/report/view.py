"""A summary with what the report looks up in it, and its figures as text."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Rate = Mapping[str, Any]

NOTHING = "–"

_NOUNS = {"image": "images", "latent": "latents", "tokens": "token sequences", "text": "texts"}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Value(NamedTuple):
    """An entry of a table: what is read first, what stands beside it (an interval), and a share to colour it by."""

    text: str
    detail: str = ""
    share: float | None = None


class View:
    """A summary with what the tables and charts look up in it.

    Args:
        summary: As in ``summary.json``.
    """

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self.summary = summary
        self.noun = _NOUNS.get(summary.get("modality") or "", "media")
        self.attacks: dict[str, Mapping[str, Any]] = {attack["id"]: attack for attack in self.rows("attacks")}
        self.cells: dict[tuple[str, str], Mapping[str, Any]] = {
            (cell["scheme"], cell["attack"]): cell for cell in self.rows("cells")
        }
        listed = [scheme["label"] for scheme in self.rows("schemes")]
        self.schemes: list[str] = list(dict.fromkeys([*listed, *(scheme for scheme, _ in self.cells)]))
        keys = {key for cell in self.cells.values() for key in cell["detected"]}
        self.levels = sorted(
            keys or map(str, (summary.get("protocol") or {}).get("levels") or ()), key=float, reverse=True
        )
        self._labels = {attack: self._label(attack) for attack in {*self.attacks, *(key[1] for key in self.cells)}}
        self._seen = Counter(self._labels.values())

    def rows(self, name: str) -> Sequence[Mapping[str, Any]]:
        """A list of the summary, empty where it has none."""
        return self.summary.get(name) or ()

    @property
    def strictest(self) -> str:
        """The smallest of the false-positive rates."""
        return self.levels[-1] if self.levels else ""

    def attack(self, name: str) -> Value:
        """What to call an attack: its name without the modality, and its parameters."""
        label = self._labels.get(name)
        return label if label is not None and self._seen[label] == 1 else Value(name)

    def called(self, name: str) -> str:
        """`attack` in one line."""
        return ", ".join(filter(None, self.attack(name)[:2]))

    def removal(self, name: str) -> bool:
        """Whether an attack works on marked media."""
        return name not in self.attacks or self.attacks[name].get("goal") != "forgery"

    def detected(self, scheme: str, attack: str) -> Rate | None:
        """The detected rate of a cell at the strictest level."""
        cell = self.cells.get((scheme, attack))
        return cell["detected"].get(self.strictest) if cell else None

    def _label(self, name: str) -> Value:
        attack = self.attacks.get(name)
        if attack is None:
            return Value(name)
        if attack["name"] == "none":
            return Value("no attack")
        parameters = attack.get("parameters") or {}
        detail = ", ".join(f"{key.replace('_', ' ')} {plain(value)}" for key, value in parameters.items())
        several = sum(other["name"] == attack["name"] for other in self.attacks.values()) > 1
        if not detail and several:
            detail = f"strength {plain(attack.get('strength'))}"
        return Value(attack["name"].removeprefix(f"{self.summary.get('modality')}."), detail)


def percent(rate: float) -> str:
    """A rate in percent: 98.6, 100 only for all and 0.0 only for none."""
    if 0 < rate < 5e-4:
        return "<0.1"
    return "100" if rate == 1 else f"{min(100 * rate, 99.9):.1f}"


def number(value: Any, places: int = 2) -> str:
    """A number with fixed places; a dash for none. "inf" and "-inf" may be words."""
    if value is None or math.isnan(float(value)):
        return NOTHING
    if math.isinf(float(value)):
        return "∞" if float(value) > 0 else "−∞"
    return f"{float(value):,.{places}f}".replace("-", "−").replace(",", "\u202f")


def power(value: float) -> str:
    """A small number in powers of ten: 10⁻⁶, 2.3 × 10⁻⁵; from 0.001 on as it is, unless it is a power itself."""
    if value <= 0:
        return "0"
    exponent = math.floor(math.log10(value) + 1e-9)
    if math.isclose(value, 10.0**exponent, rel_tol=1e-9):
        return f"10{str(exponent).translate(_RAISED)}" if exponent else "1"
    return f"{value:.2g}" if exponent >= -3 else f"{value / 10.0**exponent:.1f} × 10{str(exponent).translate(_RAISED)}"


def plain(value: Any) -> str:
    """Any value of JSON as text for readers."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return power(value) if 0 < value < 1e-3 else f"{value:.4g}".replace("-", "−")
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(entry)}" for key, entry in value.items()) or NOTHING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or NOTHING
    return str(value) or NOTHING


def share(rate: Rate | None) -> Value:
    """A rate in percent beside its interval."""
    if not rate or rate.get("value") is None:
        return Value(NOTHING)
    return Value(percent(rate["value"]), f"{percent(rate['low'])}–{percent(rate['high'])}", rate["value"])


def count(rate: Rate | None) -> Value:
    """A rate as a count beside the upper end of its interval."""
    if not rate or rate.get("value") is None:
        return Value(NOTHING)
    return Value(f"{rate['count']} / {rate['trials']}", f"up to {percent(rate['high'])}\u00a0%")
