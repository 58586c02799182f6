"""Writes csrc/kernels/normal_table.hpp, the cubics of the half-normal map (version 1). Run by hand: needs scipy.

Piece p covers v = w + 1/2 in [lo, hi), a sixteenth of an octave; on it x(v) = isf(v / 2^33) is interpolated at the
four Chebyshev nodes in t = (v - lo) / (hi - lo).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import norm

PIECES = (np.float32(2.0**32).view(np.uint32) >> 19) - (np.float32(0.5).view(np.uint32) >> 19) + 1


def coefficients() -> np.ndarray:
    """Coefficients of 1, t, t^2, t^3 per piece: float32 of shape (PIECES, 4)."""
    start = (np.arange(PIECES + 1, dtype=np.uint32) + (np.float32(0.5).view(np.uint32) >> 19)) << 19
    edges = start.view(np.float32).astype(np.float64)
    t = 0.5 - 0.5 * np.cos((2 * np.arange(4) + 1) * np.pi / 8)
    v = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * t
    x = norm.isf(np.minimum(v / 2.0**33, 0.5))
    return np.linalg.solve(np.vander(t, increasing=True), x.T).T.astype(np.float32)


def main() -> None:
    """Writes the header."""
    rows = ",\n".join("    {" + ", ".join(f"{float(c).hex()}f" for c in row) + "}" for row in coefficients())
    text = f"""// Written by tools/normal_table.py: the pieces of the half-normal map, version 1. Do not edit.
#pragma once

namespace watermark {{

constexpr int normal_pieces = {PIECES};
#ifdef __CUDACC__
__device__ const
#else
constexpr
#endif
    float normal_table[normal_pieces][4] = {{
{rows}}};

}}  // namespace watermark
"""
    Path(__file__).parents[1].joinpath("csrc/kernels/normal_table.hpp").write_text(text)


if __name__ == "__main__":
    main()
