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

#ifndef __CUDACC__
typedef float f32x4 __attribute__((vector_size(16)));

// Eight of them. The rows of the table are loaded whole and turned: many machines gather single numbers slowly.
WM_FN f32x8 half_normal(u32x8 w, const float (*table)[4]) {
  const u32x8 bits = bit_cast<u32x8>(__builtin_convertvector(w, f32x8) + 0.5f);
  const u32x8 at = (bits >> 19) - (0x3f000000u >> 19);
  const auto rows = [&](int l) {
    return __builtin_shufflevector(load<f32x4>(table[at[l]]), load<f32x4>(table[at[l + 4]]), 0, 1, 2, 3, 4, 5, 6, 7);
  };
  const f32x8 a = rows(0), b = rows(1), c = rows(2), d = rows(3);
  const f32x8 ab = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
  const f32x8 cd = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13);
  const f32x8 ab2 = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  const f32x8 cd2 = __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
  const f32x8 c0 = __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13);
  const f32x8 c1 = __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
  const f32x8 c2 = __builtin_shufflevector(ab2, cd2, 0, 1, 8, 9, 4, 5, 12, 13);
  const f32x8 c3 = __builtin_shufflevector(ab2, cd2, 2, 3, 10, 11, 6, 7, 14, 15);
  const f32x8 t = bit_cast<f32x8>(0x3f800000u | ((bits & 0x7ffffu) << 4)) - 1.0f;
  const f32x8 x = ((c3 * t + c2) * t + c1) * t + c0;
  return x > 0.0f ? x : f32x8{};
}
#endif

}  // namespace watermark::WM_ISA
