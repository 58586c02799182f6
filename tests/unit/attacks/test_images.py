"""What the attacks on images do to pixels."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from watermark.attacks import Given, images


@pytest.fixture(scope="module")
def photo():
    """512 x 340, smooth colours and texture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:340, :512]
    waves = [80 * np.sin(x / (9 + 5 * n)) * np.cos(y / (13 + 3 * n)) for n in range(3)]
    return np.clip(np.stack(waves, -1) + 128 + rng.normal(0, 8, (340, 512, 1)), 0, 255).astype(np.uint8)


def total_variation(array):
    array = array.astype(float)
    return np.abs(np.diff(array, axis=0)).sum() + np.abs(np.diff(array, axis=1)).sum()


def test_jpeg_is_pillows_with_halved_colour(photo):
    file = io.BytesIO()
    PIL.Image.fromarray(photo).save(file, "JPEG", quality=50, subsampling="4:2:0")
    assert (images.Jpeg.at(quality=50)(photo, 0) == np.asarray(PIL.Image.open(file))).all()


def test_pictures_come_back_as_pictures(photo):
    result = images.Blur(0.1)(PIL.Image.fromarray(photo), 0)
    assert isinstance(result, PIL.Image.Image)
    assert (np.asarray(result) == images.Blur(0.1)(photo, 0)).all()


def test_tensors_come_back_as_tensors(photo):
    torch = pytest.importorskip("torch")
    result = images.Blur(0.1)(torch.from_numpy(photo).permute(2, 0, 1), 0)
    assert result.dtype == torch.uint8
    assert (result.permute(1, 2, 0).numpy() == images.Blur(0.1)(photo, 0)).all()


def test_the_second_jpeg_is_off_the_first_ones_grid(photo):
    once = images.Jpeg.at(quality=50)(photo, 0)
    twice = images.DoubleJpeg.at(quality=50)(photo, 0)
    again = images.Jpeg.at(quality=50)(once, 0)
    assert ((twice.astype(float) - once) ** 2).mean() > 3 * ((again.astype(float) - once) ** 2).mean()


@pytest.mark.parametrize("seed", range(5))
def test_crops_keep_pixels_and_share(photo, seed):
    part = images.Crop.at(area=0.25)(photo, seed)
    assert part.shape == (170, 256, 3)
    views = np.lib.stride_tricks.sliding_window_view(photo[:, :, 0], part.shape[:2])[::, ::, 0, 0]
    places = np.argwhere(views == part[0, 0, 0])
    assert any((photo[y : y + 170, x : x + 256] == part).all() for y, x in places)


def test_crops_lie_anywhere(photo):
    marked = np.zeros_like(photo)
    marked[:40, :40] = 255
    hits = sum(images.Crop.at(area=0.25)(marked, seed).any() for seed in range(200))
    assert 2 < hits < 100


def test_the_centre_stays(photo):
    assert (images.CentreCrop.at(side=0.5)(photo, 0) == photo[85:255, 128:384]).all()


def test_turns_go_both_ways(photo):
    turned = {images.Rotate.at(degrees=10)(photo, seed).tobytes() for seed in range(20)}
    assert len(turned) == 2
    assert (images.QuarterTurn()(photo, 0) == np.rot90(photo)).all()
    assert (images.Flip()(photo, 0) == photo[:, ::-1]).all()


def test_the_homography_takes_the_corners():
    here = np.array([[3.0, 1], [90, 5], [80, 60], [2, 70]])
    there = np.array([[0.0, 0], [100, 0], [100, 80], [0, 80]])
    a, b, c, d, e, f, g, h = images._homography(here, there)
    for (x, y), target in zip(here, there, strict=True):
        scale = g * x + h * y + 1
        assert [(a * x + b * y + c) / scale, (d * x + e * y + f) / scale] == pytest.approx(target.tolist(), abs=1e-9)


def test_perspective_without_distortion_changes_nothing(photo):
    assert (images.Perspective(0.0)(photo, 0) == photo).all()
    assert (images.Shear(0.0)(photo, 0) == photo).all()
    assert (images.Warp(0.0)(photo, 0) == photo).all()


def test_the_spline_passes_through_its_moves():
    moves = np.random.default_rng(0).normal(size=(25, 2))
    side = np.linspace(0, 1, 5)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    assert images._thin_plate(moves, points) == pytest.approx(moves, abs=1e-9)
    # Moves that are linear in the place bend nothing.
    linear = points @ np.array([[0.3, -0.2], [0.1, 0.5]]) + 1
    places = np.random.default_rng(1).random((50, 2))
    assert images._thin_plate(linear, places) == pytest.approx(places @ np.array([[0.3, -0.2], [0.1, 0.5]]) + 1)


def test_a_warp_shifts_by_the_pixels_it_says():
    ramp = np.repeat(np.arange(512) % 256, 512).reshape(512, 512).T.astype(np.uint8)
    inside = np.s_[16:-16, 16:240]
    shifts = [np.abs(images.Warp.at(shift=2)(ramp, seed).astype(float) - ramp)[inside].max() for seed in range(6)]
    assert 1.0 <= max(shifts) <= 3.0


def test_noise_has_its_size():
    grey = np.full((256, 256, 3), 128, np.uint8)
    for attack, sigma in ((images.GaussianNoise.at(sigma=0.05), 12.75), (images.Speckle.at(sigma=0.15), 19.2)):
        assert attack(grey, 0).std() == pytest.approx(sigma, rel=0.02)
    salted = images.SaltAndPepper.at(share=0.1)(grey, 0)
    assert [(salted == level).mean() for level in (0, 128, 255)] == pytest.approx([0.05, 0.9, 0.05], abs=0.005)


def test_total_variation_falls_and_edges_stay(photo):
    variations = [total_variation(images.TotalVariation(s)(photo, 0)) for s in (0, 0.5, 1)]
    assert total_variation(photo) > variations[0] > variations[1] > variations[2]
    step = np.zeros((64, 64), np.uint8) + 40
    step[:, 32:] = 200
    # One step of height h over pieces of width w loses weight / w on each side.
    result = images.TotalVariation.at(weight=0.02)(step, 0)
    assert np.abs(result.astype(int) - step).max() <= 2


def test_colour_and_light(photo):
    assert images.Brightness.at(factor=2)(photo, 0).max() == 255
    assert images.Darken.at(factor=0.5)(photo, 0) == pytest.approx(photo / 2, abs=1)
    assert images.Gamma.at(power=2)(photo, 0) == pytest.approx(255 * (photo / 255.0) ** 2, abs=0.5)
    assert len(np.unique(images.Posterise.at(bits=2)(photo, 0))) <= 4
    assert len(np.unique(images.Quantise.at(colours=8)(photo, 0).reshape(-1, 3), axis=0)) <= 8
    assert np.ptp(images.Grey()(photo, 0), axis=2).max() == 0
    for attack in (images.Hue(1.0), images.Saturation(1.0), images.Grey()):
        assert (attack(photo[:, :, 0], 0) == photo[:, :, 0]).all()


def test_half_a_turn_of_hue_is_the_complement():
    red = np.zeros((16, 16, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    assert images.Hue(1.0)(red, 0)[0, 0] == pytest.approx([0, 255, 255], abs=3)


def test_what_is_laid_over_covers_its_share():
    white = np.full((256, 320, 3), 255, np.uint8)
    assert (images.Erase.at(area=0.25)(white, 0) == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (images.Cutout.at(share=0.5)(white, 0) == 128).mean() == pytest.approx(0.5, abs=0.01)
    covered = (images.OverlayLogo.at(side=0.4)(white, 0) != 255).any(axis=2).sum()
    assert covered == pytest.approx(np.pi / 4 * (0.4 * 256) ** 2, rel=0.05)
    assert (images.OverlayText(0.5)(white, 0) != 255).any()


def test_chains_are_their_parts(photo):
    expected = images.Contrast(0.5)(images.Brightness(0.5)(photo, 0), 0)
    assert (images.Photometric(0.5)(photo, 0) == expected).all()


def test_social_networks_limit_the_long_side():
    wide = np.zeros((300, 3000, 3), np.uint8)
    assert images.SocialMedia(0.0)(wide, 0).shape == (205, 2048, 3)
    assert images.SocialMedia(0.0)(wide[:, :900], 0).shape == (300, 900, 3)
    assert images.Screenshot(0.5)(wide, 0).shape == (375, 3750, 3)


def test_averages_find_a_fixed_mark():
    rng = np.random.default_rng(0)
    mark = rng.choice([-6.0, 6.0], (64, 64, 3))
    clean = [np.clip(128 + rng.normal(0, 20, (64, 64, 3)), 0, 255) for _ in range(401)]
    held = Given(
        marked=[np.rint(np.clip(item + mark, 0, 255)).astype(np.uint8) for item in clean[:200]],
        clean=[np.rint(item).astype(np.uint8) for item in clean[200:400]],
    )
    cover = np.rint(clean[400]).astype(np.uint8)
    marked = np.rint(np.clip(clean[400] + mark, 0, 255)).astype(np.uint8)

    def presence(picture):
        return ((picture.astype(float) - clean[400]) * mark).mean() / 36

    removed = images.SubtractAverage.at(gain=1)(marked, 0, held)
    forged = images.AddAverage.at(gain=1)(cover, 0, held)
    assert presence(marked) == pytest.approx(1, abs=0.05)
    assert abs(presence(removed)) < 0.1
    assert presence(forged) == pytest.approx(1, abs=0.1)
    without_clean = images.SubtractAverage.at(gain=1)(marked, 0, Given(marked=held.marked))
    assert presence(without_clean) < 0.3


def test_spectra_find_a_ring():
    rng = np.random.default_rng(0)
    shape = (64, 64)
    gain = np.ones((64, 33))
    gain[7, 9] = gain[20, 3] = 6.0

    def ringed(picture):
        return np.rint(np.clip(np.fft.irfft2(np.fft.rfft2(picture) * gain, shape), 0, 255)).astype(np.uint8)

    def lines(picture):
        amplitude = np.abs(np.fft.rfft2(picture.astype(float)))
        return amplitude[7, 9] * amplitude[20, 3]

    clean = [128 + rng.normal(0, 12, shape) for _ in range(81)]
    for references in ([np.rint(item).astype(np.uint8) for item in clean[40:80]], []):
        held = Given(marked=[ringed(item) for item in clean[:40]], clean=references)
        marked = ringed(clean[80])
        removed = images.SubtractSpectrum.at(gain=1)(marked, 0, held)
        forged = images.AddSpectrum.at(gain=1)(np.rint(clean[80]).astype(np.uint8), 0, held)
        assert lines(removed) < lines(marked) / 9
        assert lines(forged) > 9 * lines(clean[80])


def test_references_are_learnt_once(monkeypatch):
    calls = []
    learn = images._average_excess
    monkeypatch.setattr(images, "_average_excess", lambda *a: calls.append(1) or learn(*a))
    monkeypatch.setattr(images._average_excess, "__name__", "_average_excess")
    held = Given(marked=[np.zeros((20, 20, 3), np.uint8)])
    for strength in (0.1, 0.9):
        for size in (20, 20, 24):
            images.SubtractAverage(strength)(np.zeros((size, size, 3), np.uint8), 0, held)
    assert len(calls) == 4
