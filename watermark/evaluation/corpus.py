"""What is marked and attacked: items by content, and which of them serves what."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from watermark import media
from watermark._values import whole
from watermark.errors import MediaError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPLITS = ("calibration", "negative", "positive", "attacker")
"""Thresholds are set on the first, false positives counted on the second; the third is marked. The attacker's own
media are the fourth: what a reference attack learns from."""
_MOST_TEXT = 1 << 20


@dataclass(frozen=True)
class Item:
    """One medium, prompt or number.

    Attributes:
        name: For people: a file's name, or a number.
        digest: SHA-256 of the content, in hexadecimal digits.
        content: A path, or the item itself.
    """

    name: str
    digest: str
    content: Any

    def seed(self, *purpose: Any) -> int:
        """A number that depends on the item and a purpose: 128 bits."""
        return int.from_bytes(hashlib.sha256(repr((self.digest, *purpose)).encode()).digest()[:16])


@dataclass(frozen=True)
class Corpus:
    """Items, each content once, in the order of their digests.

    Attributes:
        items: The items.
        modality: "image", "text", "latent" or "tokens".
        source: "media", "prompts" or "numbers".
        size: Pictures are cropped to a centred square and scaled to this many pixels a side; None leaves them.
        repeated: Number of items that were left out, as their content was there already.
    """

    items: tuple[Item, ...]
    modality: str
    source: str
    size: int | None = None
    repeated: int = 0

    @classmethod
    def of(cls, given: Any, modality: str, source: str, *, size: int | None = None, most: int | None = None) -> Corpus:
        """A corpus from what the user has.

        Args:
            given: A folder or a list of files; a text file with one prompt per line; media or prompts in memory; or
                how many, where media are made up.
            modality: As in the class.
            source: As in the class.
            size: As in the class.
            most: Number of items to keep; which, depends on their content alone.

        Raises:
            ParameterError: There are none of the kind, or `given` is something else.
            OSError: A file cannot be read.
        """
        if size is not None:
            size = whole(size, "size", 16, 1 << 16)
        if most is not None:
            most = whole(most, "items", 1, 1 << 30)
        items = _numbers(given, most) if source == "numbers" else _contents(given, modality, source)
        unique = {item.digest: item for item in sorted(items, key=lambda item: item.name, reverse=True)}
        ordered = [unique[digest] for digest in sorted(unique)]
        if not ordered:
            raise ParameterError(f"the corpus has no {'prompts' if source == 'prompts' else modality + 's'}")
        return cls(tuple(ordered[:most]), modality, source, size, len(items) - len(ordered))

    @property
    def digest(self) -> str:
        """What the content of all items comes to: 16 hexadecimal digits."""
        return hashlib.sha256("".join(item.digest for item in self.items).encode()).hexdigest()[:16]

    def split(self, shares: Sequence[float], attacker: int, seed: int) -> Mapping[str, tuple[Item, ...]]:
        """Items by what they serve; none serves two ends.

        Args:
            shares: Of calibration negatives, test negatives and positives; they add up to 1.
            attacker: Items that the attacker holds.
            seed: Which items serve what depends on it.

        Raises:
            ParameterError: There are too few items, or the shares are none.
        """
        parts = np.asarray(shares, float)
        if parts.shape != (3,) or not (parts >= 0).all() or parts[2] == 0 or abs(parts.sum() - 1) > 1e-6:
            raise ParameterError(f"shares are three numbers that add up to 1, the last above 0, not {shares!r}")
        order = sorted(self.items, key=lambda item: item.seed("split", seed))
        attacker = min(attacker, len(order) // 4)
        rest = len(order) - attacker
        ends = attacker + np.rint(np.cumsum(parts) * rest).astype(int)
        first, second = int(ends[0]), int(ends[1])
        groups = order[attacker:first], order[first:second], order[second:], order[:attacker]
        for name, share, group in zip(SPLITS, shares, groups, strict=False):
            if share > 0 and not group:
                raise ParameterError(
                    f"{len(order)} items are too few: {name} items would be none. Pass more, or shares= that leave "
                    "negatives out"
                )
        return dict(zip(SPLITS, map(tuple, groups), strict=True))

    def read(self, item: Item) -> Any:
        """The item's content.

        Raises:
            MediaError: It cannot be read.
            OSError: Nor can the file.
        """
        content = item.content
        if self.source != "media":
            return content
        if self.modality == "image":
            picture = media.read(content) if isinstance(content, Path) else content
            return eight_bits(picture, self.size)
        if isinstance(content, Path):
            with content.open("rb") as file:
                octets = file.read(_MOST_TEXT + 1)
            if len(octets) > _MOST_TEXT:
                raise MediaError(f"{content.name}: texts of up to 1 MiB are read")
            return octets.decode("utf-8", "replace")
        return content


def eight_bits(picture: Any, size: int | None = None) -> Any:
    """A picture as uint8 of shape (height, width, 3): what attacks and all schemes take."""
    pixels = media.Pixels.of(picture).array
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    image = PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] <= 2 else pixels[:, :, :3]).convert("RGB")
    if size is not None:
        image = PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.LANCZOS)
    return np.asarray(image)


def _numbers(given: Any, most: int | None) -> list[Item]:
    try:
        count = whole(given, "corpus", 1, 1 << 30)
    except ParameterError:
        raise ParameterError(
            f"these schemes mark media that are made up: pass how many as corpus=, not {given!r}"
        ) from None
    return [
        Item(str(number), hashlib.sha256(b"number/%d" % number).hexdigest(), number)
        for number in range(min(count, most or count))
    ]


def _contents(given: Any, modality: str, source: str) -> list[Item]:
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if source == "prompts":
            lines = path.read_text(encoding="utf-8").splitlines()
            return [_in_memory(line.strip(), str(number)) for number, line in enumerate(lines, 1) if line.strip()]
        return _files([path], modality)
    if not isinstance(given, (list, tuple, np.ndarray)):
        raise ParameterError(f"corpus is a folder, or a list of files, media or prompts, not {type(given).__name__}")
    items = list(given)
    paths = (str, os.PathLike) if modality == "image" else os.PathLike  # text as str is text
    if source == "media" and items and all(isinstance(item, paths) for item in items):
        return _files([Path(item) for item in items], modality)
    return [_in_memory(item, str(number)) for number, item in enumerate(items)]


def _files(paths: Any, modality: str) -> list[Item]:
    found = media.find(paths, suffixes=None if modality == "image" else {".txt"})
    if found.unmatched:
        path = found.unmatched[0]
        raise FileNotFoundError(
            f"{path}: {f'no {modality}s in this folder' if os.path.exists(path) else 'no such folder'}"
        )
    return [_file(path, str(name)) for path, name in found.files.items()]


def _file(path: Path, name: str) -> Item:
    with path.open("rb") as file:
        return Item(name, hashlib.file_digest(file, "sha256").hexdigest(), path)


def _in_memory(content: Any, name: str) -> Item:
    if isinstance(content, str):
        return Item(name, hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest(), content)
    pixels = media.Pixels.of(content).array
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype} ".encode() + np.ascontiguousarray(pixels).tobytes())
    return Item(name, digest.hexdigest(), content)
