"""Edits that leave the content of a picture or a caption as it was."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from collections.abc import Callable


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Through JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def crop(picture: Image.Image, side: float) -> Image.Image:
    """The middle, with this share of each side."""
    width, height = picture.size
    left, top = round(width * (1 - side) / 2), round(height * (1 - side) / 2)
    return picture.crop((left, top, width - left, height - top))


def rotate(picture: Image.Image, degrees: float) -> Image.Image:
    """Turned, and cut to where no corner is empty."""
    turned = picture.rotate(degrees, Image.Resampling.BICUBIC)
    return crop(turned, 1 - 0.03 * abs(degrees))


PICTURES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 50": lambda p: jpeg(p, 50),
    "crop to 75 % of the area": lambda p: crop(p, 0.75**0.5),
    "crop to 75 % of each side": lambda p: crop(p, 0.75),
    "half size": lambda p: p.resize((max(1, p.width // 2), max(1, p.height // 2)), Image.Resampling.LANCZOS),
    "brightness x 1.3": lambda p: ImageEnhance.Brightness(p).enhance(1.3),
    "brightness x 0.7": lambda p: ImageEnhance.Brightness(p).enhance(0.7),
    "rotation by 3 degrees": lambda p: rotate(p, 3),
}

_SYNONYMS = {
    "photo": "photograph", "picture": "image", "large": "big", "small": "little", "woman": "lady", "man": "guy",
    "child": "kid", "car": "automobile", "road": "street", "in front of": "before", "next to": "beside",
    "on top of": "atop", "wearing": "dressed in", "with": "having", "sitting": "seated", "beautiful": "lovely",
    "painting": "artwork", "forest": "woods", "ocean": "sea", "rock": "stone", "holding": "carrying",
}  # fmt: skip


def synonyms(caption: str) -> str:
    """Some words replaced by others of their meaning."""
    for word, other in _SYNONYMS.items():
        caption = re.sub(rf"\b{word}\b", other, caption, flags=re.IGNORECASE)
    return caption


CAPTIONS: dict[str, Callable[[str], str]] = {
    "small letters, no full stop": lambda c: c.lower().rstrip("."),
    "synonyms": synonyms,
    "'a picture of' before it": lambda c: f"A picture of {c[0].lower()}{c[1:]}",
    "', high quality, detailed' after it": lambda c: f"{c.rstrip('.')}, high quality, detailed",
    "without articles": lambda c: re.sub(r"\b(a|an|the) ", "", c, flags=re.IGNORECASE),
    "clauses swapped": lambda c: ", ".join(reversed(re.split(r", ", c.rstrip(".")))),
}
