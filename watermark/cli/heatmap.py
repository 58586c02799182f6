"""The pictures of ``watermark detect --maps``: where in a picture its mark lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from watermark.cli.common import to_message
from watermark.cli.sheet import CARD, INK, MAT, MUTED, PADDING, PAPER, Color, eight_bits, font, verdict, write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark import Detection

    Floats = NDArray[np.float32]

LONGEST_SIDE = 1024
SATURATION = 6.0
"""Standard scores from which on a place counts as marked beyond doubt, and stays clear."""
ABSENT: Color = (222, 32, 24)
FAINT: Color = (255, 158, 44)

_MARGIN, _CAPTION, _NARROWEST, _LEGEND = 32, 104, 640, 228
_OPACITY = 0.86


def draw(name: str, picture: Image.Image, detection: Detection) -> Image.Image:
    """A marked picture under its presence map, with the verdict and a legend.

    Args:
        name: what to call the picture.
        picture: the picture that was tested.
        detection: what was found; its `details` hold `presence` and `presence_cell`.

    Returns:
        An RGB picture. What was tested takes up 1024 pixels a side of it at most.
    """
    mapped = overlay(picture, np.asarray(detection.details["presence"]), detection.details["presence_cell"])
    width, height = max(mapped.width, _NARROWEST), mapped.height
    page = Image.new("RGB", (width + 2 * _MARGIN, height + _CAPTION + 2 * _MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    right, below = _MARGIN + width, _MARGIN + height
    pen.rectangle((_MARGIN, _MARGIN, right - 1, below + _CAPTION - 1), CARD)
    pen.rectangle((_MARGIN, _MARGIN, right - 1, below - 1), MAT)
    page.paste(mapped, (_MARGIN + (width - mapped.width) // 2, _MARGIN))

    left, room = _MARGIN + PADDING, width - 4 * PADDING - _LEGEND
    write(pen, (left, below + 16), name, 25, INK, room)
    pill = verdict(pen, left, below + 58, detection.log10_p, marked=True)
    message = to_message(detection.payload) if detection.payload_ok else ""
    if message:
        write(pen, (left + pill + 16, below + 59), f"“{message}”", 21, INK, room - pill - 16)
    _legend(page, pen, right - PADDING - _LEGEND, below + 24)
    return page


def overlay(picture: Image.Image, presence: Floats, cell: float) -> Image.Image:
    """The picture, reduced to 1024 pixels a side at most, tinted where the mark is faint or absent.

    Args:
        picture: the picture that was tested.
        presence: standard scores of shape (rows, columns), 0 where there is no mark.
        cell: pixels of the picture to a side of a cell.

    Returns:
        An RGB picture.
    """
    scale = min(1.0, LONGEST_SIDE / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # Cells at the right and lower border may reach past the picture.
    rows, columns = presence.shape
    box = (0, 0, min(picture.width / cell, columns), min(picture.height / cell, rows))
    scores = Image.fromarray(np.asarray(presence, np.float32)).resize(size, Image.Resampling.BILINEAR, box)
    opaque = eight_bits(picture).convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    return _tinted(Image.alpha_composite(Image.new("RGBA", size, MAT), opaque).convert("RGB"), np.asarray(scores))


def _tinted(picture: Image.Image, scores: Floats) -> Image.Image:
    """Clear where the score is high; elsewhere grey under a colour that goes from orange to red as it falls to 0."""
    lack = np.clip(1 - scores / np.float32(SATURATION), 0, 1)[..., None]
    light = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
    colour = np.array(FAINT, np.float32) * (1 - lack) + np.array(ABSENT, np.float32) * lack
    tint = np.minimum(colour * (np.float32(0.5) + np.float32(0.6) * light), 255)
    opacity = np.float32(_OPACITY) * lack * lack * (3 - 2 * lack)
    mixed = np.asarray(picture, np.float32) * (1 - opacity) + tint * opacity
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _legend(page: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """A bar from absent to marked, as it would look on mid-grey."""
    height = 18
    scores = np.linspace(0, SATURATION, _LEGEND, dtype=np.float32)
    page.paste(_tinted(Image.new("RGB", (_LEGEND, height), (150, 148, 144)), np.tile(scores, (height, 1))), (x, y))
    for at, score, name in ((0.0, "0", "no mark"), (0.5, "3", ""), (1.0, "6", "marked")):
        anchor = "la" if at == 0 else "ra" if at == 1 else "ma"
        place = round(x + at * _LEGEND)
        pen.text((place, y + height + 6), score if score != "6" else "6 and more", MUTED, font(15), anchor)
        pen.text((place, y + height + 26), name, INK, font(18), anchor)
