"""The picture sheet of ``watermark demo``, drawn with Pillow."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from watermark.cli.common import to_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from watermark import Detection

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Color = (247, 245, 240)
CARD: Color = (255, 255, 255)
MAT: Color = (236, 233, 226)
INK: Color = (32, 32, 36)
MUTED: Color = (122, 118, 110)
GREEN: Color = (17, 122, 84)
PALE_GREEN: Color = (222, 240, 231)

WIDTH, MARGIN, GAP, PADDING = 1680, 64, 32, 20
LARGE_COLUMNS, SMALL_COLUMNS = 3, 4
LARGE_CAPTION, SMALL_CAPTION = 76, 116
AMPLIFICATION = 16


@dataclass(frozen=True, slots=True)
class Look:
    """One edited picture and what a detector says about it."""

    name: str
    picture: Image.Image
    detection: Detection
    faded: bool = False

    @property
    def marked(self) -> bool:
        """The verdict, at one false alarm in a million."""
        return self.detection.detected(1e-6)

    @property
    def message(self) -> str:
        """The message, if there is a mark and the message's checksum holds."""
        return to_message(self.detection.payload) if self.marked and self.detection.payload_ok else ""


def eight_bits(picture: Image.Image) -> Image.Image:
    """The picture as it can be shown: grey of 16 bits is reduced, which Pillow's conversions would clip."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    with Image.open(file) as opened:
        return opened.convert("RGB")


def _half_size(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)


def _crop_to_half_the_area(picture: Image.Image) -> Image.Image:
    # An odd offset, so that no grid of the mark stays aligned by luck.
    width, height = round(picture.width * math.sqrt(0.5)), round(picture.height * math.sqrt(0.5))
    left, top = (picture.width - width) // 2 | 1, (picture.height - height) // 3 | 1
    return picture.crop((left, top, left + width, top + height))


def _without_alpha(picture: Image.Image) -> Image.Image:
    return picture.convert("L" if picture.mode in ("L", "LA") else "RGB")


EDITS: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "untouched": lambda picture: picture,
    "JPEG, quality 50": lambda picture: _jpeg(picture, 50),
    "half size": _half_size,
    "cropped to half the area": _crop_to_half_the_area,
    "brightness x 1.3": lambda picture: ImageEnhance.Brightness(_without_alpha(picture)).enhance(1.3),
    "contrast x 1.5": lambda picture: ImageEnhance.Contrast(_without_alpha(picture)).enhance(1.5),
    "half size, then JPEG 70": lambda picture: _jpeg(_half_size(picture), 70),
}


def psnr(first: Image.Image, second: Image.Image) -> float:
    """Peak signal-to-noise ratio of two pictures of one size, in dB."""
    before, after = (np.asarray(_without_alpha(picture), np.float32) for picture in (first, second))
    error = np.mean((before - after) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def amplified_difference(original: Image.Image, marked: Image.Image) -> Image.Image:
    """What the mark changed, 16-fold around mid-grey."""
    before, after = (np.asarray(_without_alpha(picture), np.int32) for picture in (original, marked))
    return Image.fromarray(np.clip(128 + AMPLIFICATION * (after - before), 0, 255).astype(np.uint8))


def draw(title: str, facts: str, original: Image.Image, marked: Image.Image, looks: Sequence[Look]) -> Image.Image:
    """Draws the sheet.

    Args:
        title: its headline.
        facts: a line of facts below.
        original: the photo before marking.
        marked: the photo as marked.
        looks: what was detected where; the first is the marked photo itself.

    Returns:
        An RGB picture, 1680 pixels wide.
    """
    aspect = min(max(original.height / original.width, 0.4), 1.3)
    large, small = _card_width(LARGE_COLUMNS), _card_width(SMALL_COLUMNS)
    large_height, small_height = round(large * aspect) + LARGE_CAPTION, round(small * aspect) + SMALL_CAPTION
    rows = math.ceil(len(looks[1:]) / SMALL_COLUMNS)
    top = MARGIN + 132
    below = top + large_height + GAP
    page = Image.new("RGB", (WIDTH, below + rows * (small_height + GAP) - GAP + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    write(pen, (MARGIN, MARGIN - 6), title, 48, INK, WIDTH - 2 * MARGIN)
    write(pen, (MARGIN, MARGIN + 66), facts, 23, MUTED, WIDTH - 2 * MARGIN)

    panels = [
        ("Original", original, None),
        ("Marked", marked, looks[0]),
        (f"Difference x {AMPLIFICATION}", amplified_difference(original, marked), None),
    ]
    for column, (name, picture, look) in enumerate(panels):
        x = MARGIN + column * (large + GAP)
        _card(page, pen, (x, top, large, large_height), LARGE_CAPTION, picture, large / original.width)
        y = top + large_height - 52
        write(pen, (x + PADDING, y), name, 25, INK, large // 2)
        if look is not None:
            verdict(pen, x + large - PADDING, y + 1, look.detection.log10_p, marked=look.marked, align_right=True)

    for index, look in enumerate(looks[1:]):
        row, column = divmod(index, SMALL_COLUMNS)
        x, y = MARGIN + column * (small + GAP), below + row * (small_height + GAP)
        place = (x, y, small, small_height)
        _card(page, pen, place, SMALL_CAPTION, look.picture, small / original.width, faded=look.faded)
        y += small_height - SMALL_CAPTION + 18
        write(pen, (x + PADDING, y), look.name, 23, INK, small - 2 * PADDING)
        verdict(pen, x + PADDING, y + 46, look.detection.log10_p, marked=look.marked)
        if look.message:
            write(pen, (x + small - PADDING, y + 47), f"“{look.message}”", 21, INK, small // 2 - 2 * PADDING, "ra")
    return page


def _card_width(columns: int) -> int:
    return (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns


def _card(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int, int, int],
    caption: int,
    picture: Image.Image,
    scale: float,
    *,
    faded: bool = False,
) -> None:
    """A white card with a picture above its caption, at a given scale, so that a halved picture looks halved."""
    x, y, width, height = place
    image_height = height - caption
    pen.rectangle((x, y, x + width - 1, y + height - 1), CARD)
    pen.rectangle((x, y, x + width - 1, y + image_height - 1), MAT)
    scale = min(scale, width / picture.width, image_height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    thumbnail = picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    if faded:
        thumbnail = Image.blend(thumbnail.convert("L").convert("RGBA"), Image.new("RGBA", size, MAT), 0.45)
    page.paste(thumbnail, (x + (width - size[0]) // 2, y + (image_height - size[1]) // 2), thumbnail)


def verdict(
    pen: ImageDraw.ImageDraw, x: int, y: int, log10_p: float, *, marked: bool, align_right: bool = False
) -> int:
    """A pill such as "marked  p = 10^-38", with a raised exponent; its width in pixels."""
    word = "marked" if marked else "no mark"
    base, exponent = ("p = 10", f"{log10_p:.0f}") if log10_p <= -2 else (f"p = {10.0**log10_p:.2f}", "")
    normal, raised = font(20), font(14)
    widths = [normal.getlength(word + "   "), normal.getlength(base), raised.getlength(exponent)]
    width = round(sum(widths)) + 28
    if align_right:
        x -= width
    pen.rounded_rectangle((x, y - 4, x + width, y + 30), 17, PALE_GREEN if marked else MAT)
    at, color = x + 14.0, GREEN if marked else MUTED
    parts = [(word, normal, 0), (base, normal, 0), (exponent, raised, 8)]
    for (text, face, rise), length in zip(parts, widths, strict=True):
        pen.text((at, y + 21 - rise), text, color, face, anchor="ls")
        at += length
    return width


def write(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    color: Color,
    width: int,
    anchor: str = "la",
) -> None:
    """Text on one line, cut with an ellipsis where it would be wider than `width`."""
    face = font(size)
    while face.getlength(text) > width and len(text) > 1:
        text = text[:-2].rstrip() + "…"
    pen.text(place, text, color, face, anchor)


def font(size: int) -> Font:
    """The face of all drawings, `size` pixels high."""
    return ImageFont.load_default(size)
