"""Attacks on finished images, with Pillow and NumPy alone."""

from __future__ import annotations

import io
import math
from abc import abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageEnhance
import PIL.ImageFilter
import PIL.ImageFont
import PIL.ImageOps
from PIL.features import check as is_supported

from watermark.attacks.attack import Attack, Given, Span, WholeSpan
from watermark.errors import MediaError
from watermark.media.pixels import Pixels, to_pillow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Picture = PIL.Image.Image
    Floats = NDArray[np.float32]

SMALLEST = 16
"""Shortest side that is taken, in pixels."""
_CUBIC = PIL.Image.Resampling.BICUBIC
_CODECS = {"JPEG": "jpg", "WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}


class ImageAttack(Attack):
    """An attack on one image, of any type that schemes take, with 8 bits per sample, grey or RGB, from 16 x 16 pixels.

    The result has the type, dtype and channels of the image; geometric attacks may change its size.
    """

    def _attack(self, media: Any, rng: np.random.Generator, given: Given) -> Any:
        pixels = Pixels.of(media)
        return pixels.restore(_samples(self._edit(_picture_of(pixels), rng, given)))

    @abstractmethod
    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        """Attacks a picture of mode L or RGB."""


def _picture_of(pixels: Pixels[Any]) -> Picture:
    height, width, _ = pixels.array.shape
    if pixels.array.dtype != np.uint8:
        raise MediaError(
            f"attacks take images of uint8, not {pixels.array.dtype}: scale them to 0..255 and convert them"
        )
    if pixels.has_alpha:
        raise MediaError("attacks take images without transparency: flatten the picture to grey or RGB first")
    if min(height, width) < SMALLEST:
        raise MediaError(f"the image has {width} x {height} pixels; attacks take sides from {SMALLEST}")
    return to_pillow(pixels.array)


def _samples(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, C) view."""
    array = np.asarray(picture)
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def _floats(picture: Picture) -> Floats:
    """(H, W, C), 0 to 255."""
    return _samples(picture).astype(np.float32)


def _picture(array: NDArray[Any]) -> Picture:
    """The inverse of `_floats`, rounded and clipped."""
    return to_pillow(np.clip(np.rint(array), 0, 255).astype(np.uint8))


def _share(length: int, share: float) -> int:
    """A share of a length in whole pixels, at least one."""
    return max(1, round(length * share))


# Codecs


def _recode(picture: Picture, codec: str, **options: Any) -> Picture:
    if not is_supported(_CODECS[codec]):
        raise MediaError(f"this machine's Pillow was built without {codec}: install Pillow's own wheel")
    file = io.BytesIO()
    picture.save(file, codec, **options)
    return PIL.Image.open(file, formats=[codec]).convert(picture.mode)


def _jpeg(picture: Picture, quality: int) -> Picture:
    return _recode(picture, "JPEG", quality=quality, subsampling="4:2:0")


class Jpeg(ImageAttack):
    """JPEG with colour at half the resolution."""

    name = "image.jpeg"
    source = "WAVES"
    quality = WholeSpan(90, 10)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return _jpeg(picture, self.quality)


class WebP(ImageAttack):
    """Lossy WebP."""

    name = "image.webp"
    quality = WholeSpan(90, 10)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return _recode(picture, "WEBP", quality=self.quality)


class Avif(ImageAttack):
    """AVIF."""

    name = "image.avif"
    quality = WholeSpan(90, 10)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return _recode(picture, "AVIF", quality=self.quality, speed=8, max_threads=1)


class Jpeg2000(ImageAttack):
    """JPEG 2000 with the irreversible wavelet; `ratio` is the raw size over the file's."""

    name = "image.jpeg2000"
    ratio = Span(5, 100, log=True)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        levels = min(6, int(math.log2(min(picture.size))))
        rates = {"quality_mode": "rates", "quality_layers": [self.ratio], "num_resolutions": levels}
        return _recode(picture, "JPEG2000", irreversible=True, **rates)


class DoubleJpeg(ImageAttack):
    """JPEG twice, the second time on a grid of blocks that is 1 to 7 pixels off the first in both directions."""

    name = "image.double_jpeg"
    quality = WholeSpan(90, 10)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        right, down = (int(n) for n in rng.integers(1, 8, 2))
        first = _samples(_jpeg(picture, self.quality))
        padded = np.pad(first, ((down, 0), (right, 0), (0, 0)), "edge")
        return _picture(_samples(_jpeg(to_pillow(padded), self.quality))[down:, right:])


# Geometry


class Resize(ImageAttack):
    """Shrinks both sides to a share and enlarges them back."""

    name = "image.resize"
    source = "WIBE, OmniSeal"
    scale = Span(1, 0.25)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        width, height = picture.size
        small = (_share(width, self.scale), _share(height, self.scale))
        return picture.resize(small, _CUBIC).resize(picture.size, _CUBIC)


class Rescale(ImageAttack):
    """Shrinks both sides to a share; the image stays small."""

    name = "image.rescale"
    source = "OmniSeal"
    scale = Span(1, 0.25)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        width, height = picture.size
        return picture.resize((_share(width, self.scale), _share(height, self.scale)), _CUBIC)


class Stretch(ImageAttack):
    """Shrinks the width alone."""

    name = "image.stretch"
    source = "WIBE"
    scale = Span(1, 0.5)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.resize((_share(picture.width, self.scale), picture.height), _CUBIC)


def _window(picture: Picture, area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Box of the picture's shape with a share of its area, anywhere within."""
    width, height = (_share(side, math.sqrt(area)) for side in picture.size)
    across, down = rng.random(2)
    left, top = round(across * (picture.width - width)), round(down * (picture.height - height))
    return left, top, left + width, top + height


class Crop(ImageAttack):
    """Keeps a share of the area at a random place; its pixels stay as they are."""

    name = "image.crop"
    source = "OmniSeal"
    area = Span(1, 0.05)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.crop(_window(picture, self.area, rng))


class CropResize(ImageAttack):
    """Keeps a share of the area at a random place and enlarges it to the image's size."""

    name = "image.crop_resize"
    source = "WAVES"
    area = Span(1, 0.5)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.resize(picture.size, _CUBIC, _window(picture, self.area, rng))


class CentreCrop(ImageAttack):
    """Keeps the centre, a share of each side."""

    name = "image.centre_crop"
    source = "WIBE"
    side = Span(1, 0.3)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        width, height = (_share(side, self.side) for side in picture.size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return picture.crop((left, top, left + width, top + height))


class Rotate(ImageAttack):
    """Turns the image about its centre, to a random side; the corners become black."""

    name = "image.rotate"
    source = "WAVES"
    degrees = Span(0, 45)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.rotate(self.degrees * rng.choice((-1, 1)), _CUBIC)


class QuarterTurn(ImageAttack):
    """Turns the image by 90 degrees."""

    name = "image.quarter_turn"
    source = "OmniSeal"

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.transpose(PIL.Image.Transpose.ROTATE_90)


class Flip(ImageAttack):
    """Mirrors left and right."""

    name = "image.flip"
    source = "OmniSeal"

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return PIL.ImageOps.mirror(picture)


class Shear(ImageAttack):
    """Slants the image about its middle row, to a random side; what is uncovered becomes black."""

    name = "image.shear"
    degrees = Span(0, 30)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        slant = math.tan(math.radians(self.degrees)) * rng.choice((-1, 1))
        matrix = (1, slant, -slant * picture.height / 2, 0, 1, 0)
        return picture.transform(picture.size, PIL.Image.Transform.AFFINE, matrix, _CUBIC)


class Perspective(ImageAttack):
    """Moves each corner inwards, by up to a share of half the side; what is uncovered becomes black."""

    name = "image.perspective"
    source = "OmniSeal"
    distortion = Span(0, 0.8)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        size = np.array(picture.size)
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size
        inwards = np.where(corners == 0, 1, -1)
        moved = corners + inwards * rng.random((4, 2)) * self.distortion * size / 2
        return picture.transform(picture.size, PIL.Image.Transform.PERSPECTIVE, _homography(moved, corners), _CUBIC)


def _homography(here: NDArray[np.float64], there: NDArray[np.float64]) -> list[float]:
    """Eight coefficients of the projective map that takes four points to four others."""
    rows = []
    for (x, y), (u, v) in zip(here, there, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.linalg.solve(np.array(rows), there.reshape(-1)).tolist()  # type: ignore[no-any-return]


class Warp(ImageAttack):
    """A smooth bend: a thin-plate spline through 5 x 5 points, each moved by up to `shift` pixels in x and in y.

    `shift` counts pixels of an image whose short side has 512, and follows the size. Half a strength is the bend of up
    to two pixels that is hardly seen and breaks marks which rely on exact phases.
    """

    name = "image.warp"
    source = "MarkCleaner"
    shift = Span(0, 4)

    _POINTS = 5
    _CELL = 16

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        reach = self.shift * min(picture.size) / 512
        moves = rng.uniform(-1, 1, (self._POINTS**2, 2)) * reach
        xs, ys = (_stops(side, self._CELL) for side in picture.size)
        target = np.stack(np.meshgrid(xs, ys), axis=-1)
        bend = _thin_plate(moves, target.reshape(-1, 2) / picture.size).reshape(target.shape)
        # The spline may pass a little beyond the largest move of a point.
        margin = math.ceil(2 * reach) + 2
        source = target + bend + margin
        source = np.clip(source, 0, np.add(picture.size, 2 * margin))
        padded = to_pillow(np.pad(_samples(picture), ((margin, margin), (margin, margin), (0, 0)), "edge"))
        cells = []
        for row, (top, bottom) in enumerate(pairwise(ys.tolist())):
            for column, (left, right) in enumerate(pairwise(xs.tolist())):
                corners = source[[row, row + 1, row + 1, row], [column, column, column + 1, column + 1]]
                cells.append(((left, top, right, bottom), corners.reshape(-1).tolist()))
        return padded.transform(picture.size, PIL.Image.Transform.MESH, cells, _CUBIC)


def _stops(length: int, step: int) -> NDArray[np.int64]:
    return np.append(np.arange(0, length, step), length)


def _thin_plate(moves: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moves at places (N, 2) of the unit square: the thin-plate spline through the moves of a grid of points.

    Bookstein, "Principal warps", IEEE PAMI 11(6), 1989.
    """
    side = np.linspace(0, 1, math.isqrt(len(moves)))
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    affine = np.column_stack([np.ones(len(points)), points])
    system = np.block([[_bend(points, points), affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.concatenate([moves, np.zeros((3, 2))]))
    result: NDArray[np.float64] = np.column_stack([_bend(places, points), np.ones(len(places)), places]) @ weights
    return result


def _bend(here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.float64]:
    """U = r^2 log r^2 between all pairs."""
    squares = ((here[:, np.newaxis] - there) ** 2).sum(axis=-1)
    result: NDArray[np.float64] = squares * np.log(np.maximum(squares, 1e-300))
    return result


# Blur, sharpness, noise


class Blur(ImageAttack):
    """Gaussian blur; `radius` is its standard deviation in pixels."""

    name = "image.blur"
    source = "WAVES"
    radius = Span(0, 20)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.filter(PIL.ImageFilter.GaussianBlur(self.radius))


class Median(ImageAttack):
    """The median of the (2 `radius` + 1)^2 samples around each."""

    name = "image.median"
    source = "OmniSeal"
    radius = WholeSpan(1, 4)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.filter(PIL.ImageFilter.MedianFilter(2 * self.radius + 1))


class Sharpen(ImageAttack):
    """Adds what a blur takes away; a factor of 1 changes nothing."""

    name = "image.sharpen"
    source = "OmniSeal"
    factor = Span(1, 2)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return PIL.ImageEnhance.Sharpness(picture).enhance(self.factor)


class GaussianNoise(ImageAttack):
    """Adds normal noise; `sigma` counts in units of the full range."""

    name = "image.gaussian_noise"
    source = "WAVES"
    sigma = Span(0, 0.1)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        array = _floats(picture)
        return _picture(array + 255 * self.sigma * rng.standard_normal(array.shape, np.float32))


class SaltAndPepper(ImageAttack):
    """Makes a share of the pixels white or black."""

    name = "image.salt_and_pepper"
    share = Span(0, 0.1)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        array = _samples(picture).copy()
        chance = rng.random(array.shape[:2])
        array[chance < self.share / 2] = 0
        array[chance > 1 - self.share / 2] = 255
        return to_pillow(array)


class Speckle(ImageAttack):
    """Multiplies each sample by 1 plus normal noise."""

    name = "image.speckle"
    sigma = Span(0, 0.3)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        array = _floats(picture)
        return _picture(array * (1 + np.float32(self.sigma) * rng.standard_normal(array.shape, np.float32)))


class TotalVariation(ImageAttack):
    """Total-variation denoising: towards the u that minimises |u - f|^2 / 2 + `weight` TV(u), samples from 0 to 1.

    Forty steps of the dual projection of Chambolle, "An algorithm for total variation minimization and applications",
    J. Math. Imaging Vision 20, 2004, eq. 9, with its step of 1/8.
    """

    name = "image.total_variation"
    source = "CopyrightMeter"
    weight = Span(0.02, 0.3, log=True)

    _STEPS = 40

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        target = np.moveaxis(_floats(picture), 2, 0) / np.float32(255 * self.weight)
        down, right = np.zeros_like(target), np.zeros_like(target)
        for _ in range(self._STEPS):
            gap = _divergence(down, right) - target
            rise, run = np.zeros_like(gap), np.zeros_like(gap)
            np.subtract(gap[:, 1:], gap[:, :-1], out=rise[:, :-1])
            np.subtract(gap[:, :, 1:], gap[:, :, :-1], out=run[:, :, :-1])
            damping = 1 + np.sqrt(rise * rise + run * run) / 8
            down = (down + rise / 8) / damping
            right = (right + run / 8) / damping
        return _picture(np.moveaxis(target - _divergence(down, right), 0, 2) * np.float32(255 * self.weight))


def _divergence(down: Floats, right: Floats) -> Floats:
    """The negative adjoint of forward differences over the last two axes."""
    total = down + right
    total[:, 1:] -= down[:, :-1]
    total[:, :, 1:] -= right[:, :, :-1]
    return total


# Colour and light


class _Enhancement(ImageAttack):
    """Multiplies the distance of all samples from what one of Pillow's enhancers makes of them at factor 0."""

    enhancer: ClassVar[Any]
    factor = Span(1, 2)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        enhanced: Picture = self.enhancer(picture).enhance(self.factor)
        return enhanced


class Brightness(_Enhancement):
    """Multiplies all samples."""

    name = "image.brightness"
    source = "WAVES"
    enhancer = PIL.ImageEnhance.Brightness


class Darken(_Enhancement):
    """Multiplies all samples by less than 1."""

    name = "image.darken"
    source = "OmniSeal"
    enhancer = PIL.ImageEnhance.Brightness
    factor = Span(1, 0.1)


class Contrast(_Enhancement):
    """Multiplies the distance of all samples from the mean grey."""

    name = "image.contrast"
    source = "WAVES"
    enhancer = PIL.ImageEnhance.Contrast


class Saturation(_Enhancement):
    """Multiplies the distance of all colours from their grey; a grey image stays as it is."""

    name = "image.saturation"
    source = "OmniSeal"
    enhancer = PIL.ImageEnhance.Color


class Hue(ImageAttack):
    """Turns the circle of hues; a grey image stays as it is."""

    name = "image.hue"
    source = "OmniSeal"
    turn = Span(0, 0.5)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        turn = round(256 * self.turn)
        if picture.mode == "L" or turn == 0:
            return picture
        hue, *others = picture.convert("HSV").split()
        turned = PIL.Image.merge("HSV", [hue.point([(n + turn) % 256 for n in range(256)]), *others])
        return turned.convert("RGB")


class Gamma(ImageAttack):
    """Raises all samples, from 0 to 1, to a power."""

    name = "image.gamma"
    power = Span(1, 3)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        curve = [round(255 * (n / 255) ** self.power) for n in range(256)]
        return picture.point(curve * len(picture.getbands()))


class Quantise(ImageAttack):
    """Keeps the best few colours (median cut), without dithering."""

    name = "image.quantise"
    source = "CopyrightMeter"
    colours = WholeSpan(256, 8)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        few = picture.quantize(self.colours, PIL.Image.Quantize.MEDIANCUT, dither=PIL.Image.Dither.NONE)
        return few.convert(picture.mode)


class Posterise(ImageAttack):
    """Keeps the upper bits of each sample."""

    name = "image.posterise"
    bits = WholeSpan(7, 2)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return PIL.ImageOps.posterize(picture, self.bits)


class Grey(ImageAttack):
    """Takes the colour away."""

    name = "image.grey"

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        return picture.convert("L").convert(picture.mode)


# Things laid over


class Erase(ImageAttack):
    """Blackens one rectangle at a random place, of the image's shape and a share of its area."""

    name = "image.erase"
    source = "WAVES"
    area = Span(0, 0.25)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        box = _window(picture, self.area, rng)
        result = picture.copy()
        if self.area > 0:
            result.paste(0, box)
        return result


class Cutout(ImageAttack):
    """Fills a share of the 8 x 8 fields of the image with mid-grey."""

    name = "image.cutout"
    source = "WIBE"
    share = Span(0, 0.8)

    _FIELDS = 8

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        array = _samples(picture).copy()
        rows, columns = (np.linspace(0, side, self._FIELDS + 1).astype(int) for side in array.shape[:2])
        fields = rng.permutation(self._FIELDS**2)[: round(self.share * self._FIELDS**2)]
        for row, column in zip(*np.divmod(fields, self._FIELDS), strict=True):
            array[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = 128
        return to_pillow(array)


class OverlayText(ImageAttack):
    """Writes white letters with a black rim across the image; `height` is a share of the short side."""

    name = "image.overlay_text"
    source = "OmniSeal"
    height = Span(0.05, 0.3)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        result = picture.copy()
        height = max(6.0, self.height * min(picture.size))
        across, down = rng.random(2)
        place = (-across * height, down * max(0.0, picture.height - height))
        letters = PIL.ImageFont.load_default(height)
        draw = PIL.ImageDraw.Draw(result)
        white, black = [(level,) * len(picture.getbands()) for level in (255, 0)]
        line = "the quick brown fox jumps over the lazy dog " * 4
        draw.text(place, line, white, letters, stroke_width=max(1, round(height / 20)), stroke_fill=black)
        return result


class OverlayLogo(ImageAttack):
    """Lays an emblem, three quarters opaque, over a random place; `side` is a share of the short side."""

    name = "image.overlay_logo"
    source = "SEAL (cat attack)"
    side = Span(0.1, 0.4)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        result = picture.copy()
        side = max(3, round(self.side * min(picture.size)))
        across, down = rng.random(2)
        emblem = PIL.Image.new(picture.mode, (side, side), "white")
        draw = PIL.ImageDraw.Draw(emblem)
        for share, colour in ((1.0, "navy"), (0.75, "gold"), (0.4, "navy")):
            edge = (1 - share) / 2 * (side - 1)
            draw.ellipse((edge, edge, side - 1 - edge, side - 1 - edge), fill=colour)
        opacity = PIL.Image.new("L", (side, side), 0)
        PIL.ImageDraw.Draw(opacity).ellipse((0, 0, side - 1, side - 1), fill=191)
        result.paste(emblem, (round(across * (picture.width - side)), round(down * (picture.height - side))), opacity)
        return result


# Chains


class Chain(ImageAttack):
    """Several attacks one after the other, each at the same strength."""

    parts: ClassVar[tuple[type[ImageAttack], ...]]

    @classmethod
    def spans(cls) -> dict[str, Span]:
        """The native parameters of all parts, as ``part.parameter``."""
        return {
            f"{part.name.removeprefix('image.')}.{name}": span
            for part in cls.parts
            for name, span in part.spans().items()
        }

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        for part in self.parts:
            picture = part(self.strength)._edit(picture, rng, given)
        return picture


class Geometric(Chain):
    """Rotation, resized crop and erasing."""

    name = "image.geometric"
    source = "WAVES"
    parts = (Rotate, CropResize, Erase)


class Photometric(Chain):
    """Brightness and contrast."""

    name = "image.photometric"
    source = "WAVES"
    parts = (Brightness, Contrast)


class Degradation(Chain):
    """Blur, noise and JPEG."""

    name = "image.degradation"
    source = "WAVES"
    parts = (Blur, GaussianNoise, Jpeg)


class Everything(Chain):
    """The geometric, photometric and degradation chains."""

    name = "image.everything"
    source = "WAVES"
    parts = (*Geometric.parts, *Photometric.parts, *Degradation.parts)


class Screenshot(ImageAttack):
    """A screenshot that is sent on: enlarged by `scale`, colour shifted by one pixel, JPEG."""

    name = "image.screenshot"
    scale = Span(1, 1.5)
    quality = WholeSpan(90, 60)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        picture = picture.resize((_share(picture.width, self.scale), _share(picture.height, self.scale)), _CUBIC)
        if picture.mode == "RGB":
            luma, *chroma = picture.convert("YCbCr").split()
            moved = [plane.transform(plane.size, PIL.Image.Transform.AFFINE, (1, 0, -1, 0, 1, 0)) for plane in chroma]
            for plane, whole_plane in zip(moved, chroma, strict=True):
                plane.paste(whole_plane.crop((0, 0, 1, plane.height)), (0, 0))
            picture = PIL.Image.merge("YCbCr", [luma, *moved]).convert("RGB")
        return _jpeg(picture, self.quality)


class SocialMedia(ImageAttack):
    """An upload to a social network: the long side limited, then JPEG. Smaller images are not enlarged."""

    name = "image.social_media"
    long_side = WholeSpan(2048, 720, log=True)
    quality = WholeSpan(85, 71)

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        limited = picture.copy()
        limited.thumbnail((self.long_side, self.long_side), PIL.Image.Resampling.LANCZOS)
        return _jpeg(limited, self.quality)


# Averaging


class _Averaging(ImageAttack):
    source = "Yang et al. 2024"
    needs = frozenset({"references"})
    knowledge = "references"
    gain = Span(0.5, 2, log=True)

    def _references(self, media: Sequence[Any], like: Picture) -> list[Picture]:
        pictures = [_picture_of(Pixels.of(item)) for item in media]
        return [item.convert(like.mode).resize(like.size, _CUBIC) for item in pictures]

    def _excess(self, picture: Picture, given: Given, what: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """What the marked references have in common and the clean ones have not."""
        self._require(given.marked, "marked")

        def learn() -> NDArray[Any]:
            return what(self._references(given.marked, picture), self._references(given.clean, picture))

        result: NDArray[Any] = given.learnt(what.__name__, (picture.size, picture.mode), learn)
        return result


class SubtractAverage(_Averaging):
    """Subtracts the mean of marked images less that of clean ones, times `gain`.

    Without clean references the marked ones are compared with themselves, smoothed. References of another size are
    resized. Yang et al., "Can simple averaging defeat modern watermarks?", NeurIPS 2024.
    """

    name = "image.subtract_average"

    _SIGN = -1

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        excess = self._excess(picture, given, _average_excess)
        return _picture(_floats(picture) + np.float32(self._SIGN * self.gain) * excess)


class AddAverage(SubtractAverage):
    """Adds to a cover what `image.subtract_average` subtracts."""

    name = "image.add_average"
    goal = "forgery"

    _SIGN = 1


class SubtractSpectrum(_Averaging):
    """Divides the amplitudes of the Fourier transform by those of marked over those of clean images; phases stay.

    The quotient of the geometric means is raised to the power `gain`. Without clean references it is taken against the
    smoothed spectrum of the marked ones. References of another size are resized.
    """

    name = "image.subtract_spectrum"
    source = "ours, after Yang et al. 2024"

    _SIGN = -1

    def _edit(self, picture: Picture, rng: np.random.Generator, given: Given) -> Picture:
        excess = self._excess(picture, given, _spectrum_excess)
        spectrum = np.fft.rfft2(_floats(picture), axes=(0, 1)) * np.exp(self._SIGN * self.gain * excess)
        return _picture(np.fft.irfft2(spectrum, picture.size[::-1], axes=(0, 1)))


class AddSpectrum(SubtractSpectrum):
    """Multiplies the amplitudes of a cover by what `image.subtract_spectrum` divides by."""

    name = "image.add_spectrum"
    goal = "forgery"

    _SIGN = 1


def _average_excess(marked: Sequence[Picture], clean: Sequence[Picture]) -> Floats:
    return _mean(marked) - _mean(clean or [item.filter(PIL.ImageFilter.GaussianBlur(2)) for item in marked])


def _spectrum_excess(marked: Sequence[Picture], clean: Sequence[Picture]) -> NDArray[np.float64]:
    amplitude = _log_amplitude(marked)
    excess = amplitude - (_log_amplitude(clean) if clean else _smooth(amplitude))
    excess[0, 0] = 0  # the mean brightness is no mark
    return excess


def _mean(pictures: Sequence[Picture]) -> Floats:
    total = _floats(pictures[0])
    for picture in pictures[1:]:
        total += _samples(picture)
    return total / np.float32(len(pictures))


def _log_amplitude(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """Mean log amplitude, shape (H, W // 2 + 1, C). One grey level of one pixel bounds the logarithm below."""
    amplitudes = (np.abs(np.fft.rfft2(_floats(picture), axes=(0, 1))) for picture in pictures)
    total = np.log1p(next(amplitudes)).astype(np.float64)
    for amplitude in amplitudes:
        total += np.log1p(amplitude)
    return total / len(pictures)


def _smooth(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the 5 x 5 neighbours, cyclic over rows."""
    rows = np.pad(spectrum, ((2, 2), (0, 0), (0, 0)), "wrap")
    padded = np.pad(rows, ((0, 0), (2, 2), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1))
    result: NDArray[np.float64] = windows.mean(axis=(-2, -1))
    return result


ATTACKS: tuple[type[Attack], ...] = (
    Jpeg, WebP, Avif, Jpeg2000, DoubleJpeg,
    Resize, Rescale, Stretch, Crop, CropResize, CentreCrop, Rotate, QuarterTurn, Flip, Shear, Perspective, Warp,
    Blur, Median, Sharpen, GaussianNoise, SaltAndPepper, Speckle, TotalVariation,
    Brightness, Darken, Contrast, Saturation, Hue, Gamma, Quantise, Posterise, Grey,
    Erase, Cutout, OverlayText, OverlayLogo,
    Geometric, Photometric, Degradation, Everything, Screenshot, SocialMedia,
    SubtractAverage, AddAverage, SubtractSpectrum, AddSpectrum,
)  # fmt: skip
