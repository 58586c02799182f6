"""The GPU's kernels for SEAL give the bits of the CPU's, whether the CPU plays them or a GPU runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from watermark.ops import patch
from watermark.ops._native import core, cuda, to_device
from watermark.ops.normal import pack_bits

torch = pytest.importorskip("torch")


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return "cpu" if request.param == "emulated" else "cuda"


def call(device: str, name: str, *arguments: Any) -> None:
    getattr(cuda() if device == "cuda" else core._emulated, f"batch_{name}")(*arguments)


@pytest.mark.parametrize("bits", [1, 7, 8])
@pytest.mark.parametrize(
    ("patches", "rows", "dimension"),
    [(0, 3, 5), (3, 0, 5), (1, 1, 1), (4, 32, 64), (5, 33, 65), (70, 3, 256), (9, 70, 2)],
)
def test_simhash(device: str, bits: int, patches: int, rows: int, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    weights = rng.integers(-9000, 9000, (patches, bits, dimension), np.int16)
    v = rng.integers(-500, 500, (rows, dimension), np.int16)
    v[: rows // 3] = 0  # a sum of 0 is not positive
    like = torch.zeros(1, device=device)
    codes = torch.full((rows, patches), 77, dtype=torch.uint8, device=device)
    call(device, "simhash", to_device(weights, like), to_device(v, like), codes)
    assert np.array_equal(codes.cpu().numpy(), patch.simhash(weights, v))
    assert np.array_equal(codes.cpu().numpy(), patch.simhash_reference(weights, v))


@pytest.mark.parametrize(
    ("rows", "patches", "words", "masks"), [(0, 3, 1, 2), (1, 1, 1, 1), (3, 130, 4, 5), (2, 9, 8, 70)]
)
@pytest.mark.parametrize("shared", [True, False])
def test_patch_counts(device: str, rows: int, patches: int, words: int, masks: int, shared: bool) -> None:
    rng = np.random.default_rng(masks)
    matches = pack_bits(rng.integers(0, 2, (rows, patches, 32 * words), np.uint8))
    code = rng.integers(0, 32 * words, (1 if shared else rows, patches)).astype(np.uint8)
    turns = rng.integers(0, 32 * words, (masks, patches)).astype(np.uint8)
    like = torch.zeros(1, device=device)
    counts = torch.full((rows, masks), 77, dtype=torch.int32, device=device)
    call(device, "patch_counts", *(to_device(table, like) for table in (matches, code, turns)), counts)
    assert np.array_equal(counts.cpu().numpy(), patch.patch_counts(matches, code, turns))
    if rows:
        assert np.array_equal(counts.cpu().numpy(), patch.patch_counts_reference(matches, code, turns))


def test_tensors_are_checked() -> None:
    weights, v = torch.zeros((3, 7, 5), dtype=torch.int16), torch.zeros((2, 5), dtype=torch.int16)
    codes = torch.zeros((2, 3), dtype=torch.uint8)
    with pytest.raises(ValueError, match="dimension"):
        core._emulated.batch_simhash(weights, v[:, :4].contiguous(), codes)
    with pytest.raises(ValueError, match="one code per vector"):
        core._emulated.batch_simhash(weights, v, codes[:1])
    with pytest.raises(ValueError, match="1 to 8 bits"):
        core._emulated.batch_simhash(weights[:, :0].contiguous(), v, codes)
    matches, counts = torch.zeros((4, 3, 2), dtype=torch.int32), torch.zeros((4, 6), dtype=torch.int32)
    masks = torch.zeros((6, 3), dtype=torch.uint8)
    with pytest.raises(ValueError, match="one per row"):
        core._emulated.batch_patch_counts(matches, codes, masks, counts)
    with pytest.raises(ValueError, match="column per patch"):
        core._emulated.batch_patch_counts(matches, codes[:1], masks[:, :2].contiguous(), counts)
    with pytest.raises(ValueError, match="row and mask"):
        core._emulated.batch_patch_counts(matches, codes[:1], masks, counts[:, :5].contiguous())
