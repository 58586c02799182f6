"""Statistics of `watermark.reference.embedders`: what centres and whitens the features of its networks.

Of all directions in which contents differ, those are kept in which edits of one content move least, against how far
contents lie apart (linear discriminant analysis); in these, contents are white: every direction has variance 1::

    python training/embedders.py --data DIR

reads the development data (graphics64_webp.npz, PartiPrompts.tsv) and tests/data/, and writes
``watermark/reference/statistics/*.npz`` and their SHA256SUMS. Neither Kodak's pictures nor one in six captions are
used: ``benchmarks/embedders.py`` measures on those.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from pathlib import Path

import numpy as np
from edits import CAPTIONS, PICTURES
from PIL import Image

from watermark.reference.embedders import CaptionEmbedder, ImageEmbedder

ROOT = Path(__file__).resolve().parent.parent
STATISTICS = ROOT / "watermark" / "reference" / "statistics"
DIMENSION = 256
SHRINK = 0.1  # of the mean variance, added to all: a few thousand contents do not fix 1280 directions
GRAPHICS, EDITED_GRAPHICS, CROPS = 2000, 60, 10
PHOTO_SHARE = 0.3  # of the weight of the contents


def fit(
    contents: np.ndarray, weights: np.ndarray, originals: np.ndarray, edited: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and matrix.

    Args:
        contents: Features of different contents, of length 1; shape (n, features).
        weights: Their weights; shape (n,), sum 1.
        originals: Features before the edits; shape (m, features).
        edited: Features after each edit; shape (edits, m, features).
    """
    mean = weights @ contents
    apart = (contents - mean).T @ ((contents - mean) * weights[:, None])
    moves = (edited - originals).reshape(-1, contents.shape[1])
    moved = moves.T @ moves / len(moves)
    apart, moved = (m + SHRINK * np.trace(m) / len(m) * np.eye(len(m)) for m in (apart, moved))
    variance, axes = np.linalg.eigh(apart)
    white = axes / np.sqrt(variance)
    _, order = np.linalg.eigh(white.T @ moved @ white)
    return mean, white @ order[:, :DIMENSION]


def unit(features: np.ndarray) -> np.ndarray:
    """Features of length 1."""
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def held_out(captions: list[str]) -> list[str]:
    """One in six captions, by their hash."""
    return [c for c in captions if hashlib.sha256(c.encode()).digest()[0] % 6 == 0]


def read_captions(data: Path) -> list[str]:
    """PartiPrompts, each once."""
    with (data / "prompts" / "PartiPrompts.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return list(dict.fromkeys(row["Prompt"].strip() for row in rows if row["Prompt"].strip()))


def images(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of pictures: public-domain and Apache-2.0 graphics, the photos of tests/data and crops of them."""
    embed, rng = ImageEmbedder(), np.random.default_rng(1)
    with np.load(data / "images" / "graphics64_webp.npz") as stored:
        octets, offsets, source, sources = (stored[k] for k in ("data", "offsets", "source", "sources"))
    free = np.flatnonzero(sources[source] != "tuxpaint-stamps-default")  # those are GPL-2
    picked = rng.permutation(free)[: GRAPHICS + EDITED_GRAPHICS]
    graphics = [Image.open(io.BytesIO(octets[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB") for i in picked]
    photos: list[Image.Image] = []
    for path in sorted(p for p in (ROOT / "tests" / "data").iterdir() if p.suffix in (".png", ".jpg", ".webp")):
        photo = Image.open(path).convert("RGB")
        photo.thumbnail((512, 512))
        photos.append(photo)
        for _ in range(CROPS):
            share = rng.uniform(0.3, 0.7)
            width, height = int(photo.width * share), int(photo.height * share)
            left, top = rng.integers(0, photo.width - width + 1), rng.integers(0, photo.height - height + 1)
            photos.append(photo.crop((left, top, left + width, top + height)))
    changed = graphics[:EDITED_GRAPHICS] + photos
    originals = unit(embed.features(changed))
    edited = np.stack([unit(embed.features(edit(p) for p in changed)) for edit in PICTURES.values()])
    contents = np.concatenate([unit(embed.features(graphics[EDITED_GRAPHICS:])), originals])
    weights = np.full(len(contents), (1 - PHOTO_SHARE) / (len(contents) - len(photos)))
    weights[-len(photos) :] = PHOTO_SHARE / len(photos)
    return fit(contents, weights, originals, edited)


def captions(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of captions: PartiPrompts (Apache-2.0), without those that are held out."""
    embed, known = CaptionEmbedder(), read_captions(data)
    used = sorted(set(known) - set(held_out(known)))
    contents = unit(embed.features(used))
    edited = np.stack([unit(embed.features(edit(c) for c in used[::3])) for edit in CAPTIONS.values()])
    return fit(contents, np.full(len(used), 1 / len(used)), contents[::3], edited)


def main() -> None:
    """Makes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--only", choices=["images", "captions"])
    arguments = parser.parse_args()
    STATISTICS.mkdir(exist_ok=True)
    for name, make in {"efficientnet_lite0": images, "minilm_l6_v2": captions}.items():
        if arguments.only in (None, make.__name__):
            mean, matrix = make(arguments.data)
            np.savez_compressed(
                STATISTICS / f"{name}.npz", mean=mean.astype(np.float32), matrix=matrix.astype(np.float16)
            )
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(STATISTICS.glob("*.npz"))]
    (STATISTICS / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


if __name__ == "__main__":
    main()
