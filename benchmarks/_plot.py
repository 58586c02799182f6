"""Curves of shares with their intervals, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class Point(NamedTuple):
    """A share of trials at one setting, with its interval."""

    x: float
    share: float
    low: float
    high: float


def draw(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[str, Sequence[Point]]]],
    axis: str,
    ticks: Sequence[float],
    scale: Callable[[float], float] = float,
) -> None:
    """Panels under each other, drawn at twice the size and then reduced.

    Args:
        path: A WebP file.
        panels: By title, curves by label: their colour and their points.
        axis: What the horizontal axis shows.
        ticks: Its numbers; the first and the last one are its ends.
        scale: From a number to its place, such as `math.log`.
    """
    width, height, left, top, bottom, right = 1800, 700, 110, 70, 100, 620
    picture = Image.new("RGB", (width, height * len(panels)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(30)
    first, last = scale(ticks[0]), scale(ticks[-1])
    for number, (title, curves) in enumerate(panels.items()):
        ceiling, floor = height * number + top, height * (number + 1) - bottom

        def place(x: float, share: float, ceiling: int = ceiling, floor: int = floor) -> tuple[float, float]:
            across = (scale(x) - first) / (last - first)
            return left + across * (width - left - right), floor + share * (ceiling - floor)

        for percent in range(0, 101, 25):
            pen.line((*place(ticks[0], percent / 100), *place(ticks[-1], percent / 100)), fill="#dddddd", width=2)
            x, y = place(ticks[0], percent / 100)
            pen.text((x - 14, y), f"{percent} %", fill="black", font=font, anchor="rm")
        for tick in ticks:
            pen.line((*place(tick, 0), *place(tick, 1)), fill="#eeeeee", width=2)
            x, y = place(tick, 0)
            pen.text((x, y + 14), f"{tick:g}", fill="black", font=font, anchor="mt")
        pen.text((left, ceiling - 44), title, fill="black", font=font, anchor="lm")
        pen.text((width - right, floor + 58), axis, fill="black", font=font, anchor="rt")
        for i, (label, (colour, points)) in enumerate(curves.items()):
            shown = [p for p in points if p.x >= ticks[0]]
            pen.line([place(p.x, p.share) for p in shown], fill=colour, width=5, joint="curve")
            for p in shown:
                x, y = place(p.x, p.share)
                pen.line((*place(p.x, p.low), *place(p.x, p.high)), fill=colour, width=2)
                pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=colour)
            y = ceiling + 20 + 52 * i
            pen.line((width - right + 40, y, width - right + 90, y), fill=colour, width=6)
            pen.text((width - right + 106, y), label, fill="black", font=font, anchor="lm")
    path.parent.mkdir(parents=True, exist_ok=True)
    small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    small.save(path, "WEBP", lossless=True)
