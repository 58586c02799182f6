"""Attacks on marks whose key you hold: how much of a mark is left, and can it be forged?

::

    attack = attacks.load("image.jpeg", quality=50)
    attacked = attack(marked, rng=7)
    for attack in attacks.suite("image.standard"): ...
"""

from __future__ import annotations

from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from watermark.attacks import images, latents, texts
from watermark.attacks.attack import Attack, Given, Span, WholeSpan
from watermark.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SUITES", "TABLE", "Attack", "Given", "Span", "WholeSpan", "load", "suite"]

TABLE: Mapping[str, type[Attack]] = MappingProxyType(
    {attack.name: attack for attack in (*images.ATTACKS, *latents.ATTACKS, *texts.ATTACKS)}
)
"""Every attack by name."""

_STEPS = (0.25, 0.5, 0.75, 1.0)
_FULL = tuple(attack for attack in images.ATTACKS if attack.goal == "removal")
_GEOMETRIC = (
    images.Resize, images.Rescale, images.Stretch, images.Crop, images.CropResize, images.CentreCrop, images.Rotate,
    images.QuarterTurn, images.Flip, images.Shear, images.Perspective, images.Warp, images.Geometric,
)  # fmt: skip
_EDITS = (
    texts.Delete.at(share=0.1), texts.Delete.at(share=0.3), texts.Insert.at(share=0.1), texts.Insert.at(share=0.3),
    texts.Substitute.at(share=0.1), texts.Substitute.at(share=0.3), texts.Truncate.at(keep=0.5),
    texts.Truncate.at(keep=0.25), texts.Dilute.at(keep=0.5), texts.Dilute.at(keep=0.25),
)  # fmt: skip


def _grid(attacks: tuple[type[Attack], ...]) -> tuple[Attack, ...]:
    """Each attack at four strengths, or once where the strength means nothing."""
    return tuple(attack(step) for attack in attacks for step in (_STEPS if attack.spans() else (1.0,)))


SUITES: Mapping[str, tuple[Attack, ...]] = MappingProxyType(
    {
        "image.standard": (
            images.Jpeg.at(quality=50), images.WebP.at(quality=50), images.Avif.at(quality=50),
            images.DoubleJpeg.at(quality=70), images.Resize.at(scale=0.5), images.Crop.at(area=0.5),
            images.CropResize.at(area=0.75), images.Rotate.at(degrees=10), images.Flip(),
            images.Perspective.at(distortion=0.1), images.Warp.at(shift=2), images.Blur.at(radius=2),
            images.Median.at(radius=2), images.GaussianNoise.at(sigma=0.05), images.Brightness.at(factor=1.5),
            images.Contrast.at(factor=1.5), images.Erase.at(area=0.1), images.Screenshot(), images.SocialMedia(),
            images.SubtractAverage.at(gain=1),
        ),
        "image.geometric": _grid(_GEOMETRIC),
        "image.full": _grid(_FULL),
        "text.standard": (
            *_EDITS, texts.ShuffleSentences.at(share=1), texts.Homoglyphs.at(share=0.1), texts.ZeroWidth.at(share=0.1),
        ),
        "token.standard": _EDITS,
        "latent.standard": _grid(latents.ATTACKS),
    }
)  # fmt: skip
"""Attacks by the suite's name. The suites of images hold removal alone; ``token.standard`` is for token ids."""


def load(name: str, **arguments: Any) -> Attack:
    """An attack by name.

    Args:
        name: A name of `TABLE`, such as ``image.jpeg``.
        arguments: ``strength`` from 0 to 1 (default 0.5), or one native parameter, such as ``quality=50``; for
            ``text.translate`` and ``text.paraphrase`` the ``model``, a callable from text to text.

    Raises:
        ParameterError: The name or an argument is unknown, or a value is out of range.
    """
    attack = TABLE.get(name)
    if attack is None:
        close = get_close_matches(str(name), TABLE, 3, 0.8)
        meant = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(TABLE)}"
        raise ParameterError(f"no attack '{name}': {meant}")
    known = ["strength", *attack.spans(), *(field for field in ("model",) if field in attack.needs)]
    if unknown := arguments.keys() - set(known):
        raise ParameterError(f"{name} has no parameter '{min(unknown)}': it takes {', '.join(known)}")
    if arguments.keys() & attack.spans().keys():
        return attack.at(**arguments)
    try:
        return attack(**arguments)
    except TypeError as error:
        raise ParameterError(f"{name} takes {', '.join(known)}: {error}") from error


def suite(name: str) -> tuple[Attack, ...]:
    """The attacks of a suite.

    Args:
        name: ``image.standard`` (20 attacks at the settings that papers report), ``image.geometric`` and ``image.full``
            (each attack at four strengths), ``text.standard``, ``token.standard`` or ``latent.standard``.

    Raises:
        ParameterError: No suite has the name.
    """
    if name not in SUITES:
        raise ParameterError(f"no suite '{name}': one of {', '.join(SUITES)}")
    return SUITES[name]
