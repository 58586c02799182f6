"""Texts with their tokens coloured by how much each speaks for the mark: for the terminal, and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from watermark.cli.common import to_message, to_power

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from rich.text import Text

    from watermark import Detection

_GREEN = (38, 166, 91)
_STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --ink: #23221f; --muted: #7a776f; --green: 38, 166, 91; }
@media (prefers-color-scheme: dark) { :root { --paper: #1b1a18; --ink: #eceae4; --muted: #97938a; } }
body { background: var(--paper); color: var(--ink); font: 17px/1.7 Georgia, serif; max-width: 46rem; margin: 3rem auto;
  padding: 0 1.2rem; }
header { font: 15px/1.5 system-ui, sans-serif; margin-bottom: 2rem; }
h1 { font-size: 1.2rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.muted { color: var(--muted); }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }
pre span { border-radius: .2em; }
"""


def spans(
    text: str, offsets: Sequence[tuple[int, int]], scores: NDArray[np.float32]
) -> Iterator[tuple[str, float | None, float]]:
    """The parts of a text that are tokens, and those between.

    Args:
        text: The text.
        offsets: First character of each token, and the one after its last; tokens within one character may share it.
        scores: float32 of shape (tokens,), NaN where a token was not scored.

    Yields:
        A part; how strong it is among those of this text, 0 to 1, None if it was not scored; and its score.
    """
    strengths = _strengths(scores)
    place = 0
    for (begin, end), strength, score in zip(offsets, strengths.tolist(), scores.tolist(), strict=True):
        begin, end = max(begin, place), max(end, place)
        if begin > place:
            yield text[place:begin], None, float("nan")
        if end > begin:
            yield text[begin:end], None if np.isnan(strength) else strength, score
        place = end
    if place < len(text):
        yield text[place:], None, float("nan")


def _strengths(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """From the weakest tenth of a text's tokens to its strongest."""
    known = scores[~np.isnan(scores)].astype(np.float64)
    if not known.size:
        return scores.astype(np.float64)
    low, high = np.quantile(known, [0.1, 0.9])
    low, high = (low, high) if high > low else (known.min(), known.max())
    if high == low:
        return np.where(np.isnan(scores), np.nan, 0.5)
    return np.asarray(np.clip((scores - low) / (high - low), 0.0, 1.0))


def terminal(text: str, offsets: Sequence[tuple[int, int]], detection: Detection) -> Text:
    """A text for the terminal; control characters are shown as what they are."""
    from rich.text import Text

    view = Text()
    for part, strength, _ in spans(text, offsets, detection.details["token_scores"]):
        shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in part)
        if strength is None:
            view.append(shown, "dim")
        elif strength < 0.05:
            view.append(shown)
        else:
            red, green, blue = (round(40 + (c - 40) * strength) for c in _GREEN)
            view.append(shown, f"white on rgb({red},{green},{blue})")
    return view


def html(name: str, text: str, offsets: Sequence[tuple[int, int]], detection: Detection) -> str:
    """A page that needs nothing else: the verdict, and the text under it."""
    parts = []
    for part, strength, score in spans(text, offsets, detection.details["token_scores"]):
        if strength is None:
            parts.append(f'<span class="muted">{escape(part)}</span>')
        else:
            parts.append(
                f'<span style="background: rgba(var(--green), {0.65 * strength:.2f})" title="{score:.3g}">'
                f"{escape(part)}</span>"
            )
    message = (
        f" Message: {escape(to_message(detection.payload))}." if detection.payload_ok and detection.payload else ""
    )
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body>\n"
        f"<header><h1>{escape(name)}</h1>"
        f"<div>p = {to_power(detection.log10_p)} over {detection.n} units, {escape(detection.scheme)}.{message}</div>"
        '<div class="muted">The greener a token, the more it speaks for the mark, against the others of this text. '
        "Grey ones were not scored.</div></header>\n"
        f"<pre>{''.join(parts)}</pre>\n</body></html>\n"
    )
