"""The attack "copies" of security.py: genuine bound marks after edits, and exact changes laid on other pictures.

`copies` yields attempts that are to be detected by the scheme that it was called with, loaded with ``bind=True``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from _attempts import PAYLOAD_BITS, Attempt, Row
from robustness import LEFT_TO_RIGHT, Picture, crop, jpeg, psnr, rotate, scale

if TYPE_CHECKING:
    from collections.abc import Iterator

MARGIN = 80
"""Pixels by which views are smaller than their photo: room to move in."""
GENUINE = {
    "genuine": Row(0.98),
    "genuine, JPEG 50": Row(0.98),
    "genuine, 3/4 of the area": Row(0.98),
    "genuine, 3/4 of the area, JPEG 50": Row(),
    "genuine, 1/4 of the area": Row(),
    "genuine, 1/4 of the area, JPEG 70": Row(),
    "genuine, rotated, JPEG 70": Row(0.98),
    "genuine, half size": Row(),
    "genuine, brightness x 1.3": Row(0.98),
    "genuine, brightness x 0.7": Row(0.98),
    "genuine, contrast x 1.5": Row(0.98),
}
UNRELATED = {
    "on another photo": Row(0.01, -3, forgery=True),
    "on another photo, JPEG 70": Row(0.01, -3, forgery=True),
    "on another photo, 1/4 of the area": Row(0.01, -3, forgery=True),
    "on another photo, rotated": Row(0.01, -3, forgery=True),
}
SIMILAR = {
    "on another photo, both with one horizon": Row(0.05, -3, forgery=True),
    "on the mirror image": Row(0.05, -3, forgery=True),
    "on a view 20 to 60 pixels beside": Row(0.05, -3, forgery=True),
    "on a view 20 to 60 pixels off": Row(0.05, -3, forgery=True),
    "on a view 1.1 to 1.25 times as close": Row(0.05, -3, forgery=True),
    "on a view turned by 4 to 10 degrees": Row(0.05, -3, forgery=True),
    "on a view a little beside, closer, brighter or darker": Row(0.05, -3, forgery=True),
}
COPIES = {
    **GENUINE,
    **UNRELATED,
    **SIMILAR,
    "on similar scenes, all kinds": Row(0.05, -3, forgery=True, pooled=tuple(SIMILAR)),
    "on a view 10 pixels off": Row(level=-3, forgery=True),
}
"""The rows of the table."""


def copies(mark: Any, photo: Picture, other: Picture, rng: np.random.Generator) -> Iterator[Attempt]:
    """One photo is marked and edited; and the exact change to it is added to other pictures."""
    yield from _genuine(mark, photo, rng)
    for row, original, cover in _covers(photo, other.resize(photo.size, PIL.Image.Resampling.BICUBIC), rng):
        message = rng.bytes(PAYLOAD_BITS // 8)
        change = np.asarray(mark.embed(original, message), np.int16) - np.asarray(original)
        forged = PIL.Image.fromarray(np.clip(np.asarray(cover) + change, 0, 255).astype(np.uint8))
        yield Attempt(row, forged, message, psnr(cover, forged))
        if row == "on another photo":
            yield Attempt(f"{row}, JPEG 70", jpeg(forged, 70), message)
            yield Attempt(f"{row}, 1/4 of the area", crop(forged, rng, 0.25), message)
            yield Attempt(f"{row}, rotated", rotate(forged, rng.uniform(-180, 180)), message)


def _genuine(mark: Any, photo: Picture, rng: np.random.Generator) -> Iterator[Attempt]:
    """The marked photo, and what honest people do to it."""
    message = rng.bytes(PAYLOAD_BITS // 8)
    marked = mark.embed(photo, message)
    yield Attempt("genuine", marked, message, psnr(photo, marked))
    most, quarter = crop(marked, rng, 0.75), crop(marked, rng, 0.25)
    edits = {
        "JPEG 50": jpeg(marked, 50),
        "3/4 of the area": most,
        "3/4 of the area, JPEG 50": jpeg(most, 50),
        "1/4 of the area": quarter,
        "1/4 of the area, JPEG 70": jpeg(quarter, 70),
        "rotated, JPEG 70": jpeg(rotate(marked, rng.uniform(-180, 180)), 70),
        "half size": scale(marked, 0.5),
        "brightness x 1.3": PIL.ImageEnhance.Brightness(marked).enhance(1.3),
        "brightness x 0.7": PIL.ImageEnhance.Brightness(marked).enhance(0.7),
        "contrast x 1.5": PIL.ImageEnhance.Contrast(marked).enhance(1.5),
    }
    for name, edited in edits.items():
        yield Attempt(f"genuine, {name}", edited, message)


def _covers(photo: Picture, other: Picture, rng: np.random.Generator) -> Iterator[tuple[str, Picture, Picture]]:
    """Rows, what is marked, and what gets its change."""
    size = photo.width - MARGIN, photo.height - MARGIN
    sign, angle, distance = rng.choice([-1, 1]), rng.uniform(0, 2 * math.pi), rng.uniform(20, 60)
    here, foreign = _view(photo, size), _view(other, size)
    yield "on another photo", here, foreign
    height, contrast = rng.uniform(0.35, 0.65) * size[1], rng.uniform(80, 160)
    beach, far = (_horizon(view, height, contrast * rng.uniform(0.8, 1.2)) for view in (here, foreign))
    yield "on another photo, both with one horizon", beach, far
    yield "on the mirror image", here, here.transpose(LEFT_TO_RIGHT)

    def pair(row: str, x: float, y: float, second: Picture = photo) -> tuple[str, Picture, Picture]:
        return row, _view(photo, size, -x / 2, -y / 2), _view(second, size, x / 2, y / 2)

    yield pair("on a view 20 to 60 pixels beside", sign * distance, 0)
    yield pair("on a view 20 to 60 pixels off", math.cos(angle) * distance, math.sin(angle) * distance)
    yield pair("on a view 10 pixels off", math.cos(angle) * 10, math.sin(angle) * 10)
    yield pair("on a view 1.1 to 1.25 times as close", 0, 0, scale(photo, rng.uniform(1.1, 1.25)))
    turned = photo.rotate(sign * rng.uniform(4, 10), PIL.Image.Resampling.BICUBIC)
    yield pair("on a view turned by 4 to 10 degrees", 0, 0, turned)
    near = PIL.ImageEnhance.Brightness(scale(photo, rng.uniform(1.03, 1.08))).enhance(rng.uniform(0.8, 1.2))
    row = "on a view a little beside, closer, brighter or darker"
    yield pair(row, sign * rng.uniform(15, 40), rng.uniform(-20, 20), near)


def _view(photo: Picture, size: tuple[int, int], x: float = 0, y: float = 0) -> Picture:
    """A cut of that size from the middle, moved by so many pixels."""
    left, top = round((photo.width - size[0]) / 2 + x), round((photo.height - size[1]) / 2 + y)
    return photo.crop((left, top, left + size[0], top + size[1]))


def _horizon(photo: Picture, height: float, contrast: float) -> Picture:
    """The photo, fainter, in front of a sky and a sea."""
    below = 1 / (1 + np.exp(np.clip((height - np.arange(photo.height)) / 4, -50, 50)))
    levels = 40 + 0.6 * np.asarray(photo, np.float64) + contrast * (0.5 - below)[:, None, None]
    return PIL.Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
