// Half-normal variates from 32 random bits: the inverse of 2 (1 - Phi(x)) as cubics on the pieces of normal_table.hpp.
// Only float32 additions and multiplications: version 1 of the map is bit-identical in NumPy, C++ and CUDA.
#pragma once
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

// x >= 0 with P(X > x) = (w + 1/2) / 2^32. A piece is an exponent and four mantissa bits of w + 1/2 as float32.
WM_FN float half_normal(uint32_t w, const float (*table)[4]) {
  const uint32_t bits = bit_cast<uint32_t>(static_cast<float>(w) + 0.5f);
  const float* c = table[(bits >> 19) - (0x3f000000u >> 19)];
  const float t = bit_cast<float>(0x3f800000u | ((bits & 0x7ffffu) << 4)) - 1.0f;
  const float x = ((c[3] * t + c[2]) * t + c[1]) * t + c[0];
  return x > 0.0f ? x : 0.0f;
}

}  // namespace watermark::WM_ISA
