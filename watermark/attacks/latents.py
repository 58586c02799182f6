"""Attacks on the initial noise of diffusion models: channels that stand for what inversion gives back.

Each keeps standard normal noise standard normal, so that a detector sees the damage and no other scale.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.attacks.attack import Attack, Given, Span
from watermark.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Latent = NDArray[np.floating[Any]]


class LatentAttack(Attack):
    """An attack on one latent: a NumPy array of floats, (..., height, width). The result has its shape and dtype."""

    def _attack(self, media: Any, rng: np.random.Generator, given: Given) -> Any:
        if not isinstance(media, np.ndarray) or media.dtype.kind != "f" or media.ndim < 2 or media.size == 0:
            raise MediaError("a latent is a NumPy array of floats, (..., height, width) and not empty")
        if not np.isfinite(media).all():
            raise MediaError("the latent holds NaN or infinite values")
        return self._edit(media, rng).astype(media.dtype)

    @abstractmethod
    def _edit(self, latent: Latent, rng: np.random.Generator) -> Latent:
        """Attacks a latent of finite numbers."""


def _mix(latent: Latent, noise: Latent, sigma: float) -> Latent:
    return np.float32(math.sqrt(1 - sigma**2)) * latent + np.float32(sigma) * noise


class Noise(LatentAttack):
    """The Gaussian channel: z' = sqrt(1 - sigma^2) z + sigma e, with e standard normal."""

    name = "latent.noise"
    sigma = Span(0, 0.95)

    def _edit(self, latent: Latent, rng: np.random.Generator) -> Latent:
        return _mix(latent, rng.standard_normal(latent.shape, np.float32), self.sigma)


class CorrelatedNoise(LatentAttack):
    """The Gaussian channel with noise of low frequencies, as of an inversion that errs over whole regions.

    The noise has a Gaussian spectrum and unit variance; it is correlated over `_REACH` samples in height and width.
    """

    name = "latent.correlated_noise"
    sigma = Span(0, 0.95)

    _REACH = 2.0

    def _edit(self, latent: Latent, rng: np.random.Generator) -> Latent:
        height, width = latent.shape[-2:]
        rows, columns = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)
        gain = np.exp(-2 * (math.pi * self._REACH) ** 2 * (rows**2 + columns**2))
        taps = np.fft.irfft2(gain, (height, width))
        white = np.fft.rfft2(rng.standard_normal(latent.shape, np.float32))
        noise = np.fft.irfft2(white * (gain / np.sqrt((taps**2).sum())), (height, width))
        return _mix(latent, noise.astype(np.float32), self.sigma)


class SignFlip(LatentAttack):
    """Turns the sign of each sample with a probability, as a binary symmetric channel does; sizes stay."""

    name = "latent.sign_flip"
    probability = Span(0, 0.5)

    def _edit(self, latent: Latent, rng: np.random.Generator) -> Latent:
        return np.where(rng.random(latent.shape) < self.probability, -latent, latent)


class Crop(LatentAttack):
    """Keeps a window with a share of the area, in place, and fills the rest with fresh noise."""

    name = "latent.crop"
    area = Span(1, 0.1)

    def _edit(self, latent: Latent, rng: np.random.Generator) -> Latent:
        result = rng.standard_normal(latent.shape, np.float32).astype(latent.dtype)
        window = [slice(None)] * latent.ndim
        for axis, place in zip((-2, -1), rng.random(2), strict=True):
            length = max(1, round(latent.shape[axis] * math.sqrt(self.area)))
            start = round(place * (latent.shape[axis] - length))
            window[axis] = slice(start, start + length)
        result[tuple(window)] = latent[tuple(window)]
        return result


ATTACKS: tuple[type[Attack], ...] = (Noise, CorrelatedNoise, SignFlip, Crop)
