// Gaussian Shading (Yang et al., CVPR 2024): a keystream decides the sign of every latent element, its size is fresh noise.
#pragma once
#include "kernels/chacha.hpp"
#include "kernels/normal.hpp"

namespace watermark::WM_ISA {

WM_FN uint32_t bit_of(const uint32_t* words, int64_t i) { return (words[i / 32] >> (i % 32)) & 1u; }

// |z| from random word w, the sign from `negative` (1 = minus).
WM_FN float signed_half_normal(uint32_t w, uint32_t negative, const float (*table)[4]) {
  return bit_cast<float>(bit_cast<uint32_t>(half_normal(w, table)) | (negative << 31));
}

// 1 where the sign of z differs from the pad's bit, which is the message bit that z votes for.
WM_FN uint32_t vote_of(float z, uint32_t pad) { return (bit_cast<uint32_t>(z) >> 31) ^ pad; }

#ifndef __CUDACC__
// Row of `count` samples: `noise` gives the sizes, bit i of `signs` the sign of element i.
static inline void signed_normal_row(const ChaChaKey& noise, const uint32_t* signs, int64_t count,
                                     const float (*table)[4], float* out) {
  uint32_t words[128];
  for (int64_t base = 0; base < count; base += 128) {
    const int64_t left = count - base < 128 ? count - base : 128;
    chacha_words(noise, static_cast<uint32_t>(base / 16), words, left);
    for (int64_t i = 0; i < left; ++i) out[base + i] = signed_half_normal(words[i], bit_of(signs, base + i), table);
  }
}

// Element i votes for symbol i mod symbols. soft[g]: sum of z_i (-1)^pad_i; ones[g]: how many signs differ from the pad.
static inline void sign_votes_row(const float* z, const uint32_t* pad, int64_t count, int64_t symbols, float* soft,
                                  int32_t* ones) {
  for (int64_t g = 0; g < symbols; ++g) soft[g] = 0.0f, ones[g] = 0;
  for (int64_t base = 0; base < count; base += symbols) {
    const int64_t width = count - base < symbols ? count - base : symbols;
    int64_t g = 0;
    for (; g + 8 <= width; g += 8) {
      const int64_t first = base + g;
      const uint64_t both = static_cast<uint64_t>(pad[first / 32]) | static_cast<uint64_t>(pad[(first + 7) / 32]) << 32;
      const uint32_t byte = static_cast<uint32_t>(both >> (first % 32));
      const u32x8 flip = ((u32x8{} + byte) >> u32x8{0, 1, 2, 3, 4, 5, 6, 7}) << 31;
      const u32x8 value = load<u32x8>(z + first) ^ flip;
      store(soft + g, load<f32x8>(soft + g) + bit_cast<f32x8>(value));
      store(ones + g, load<u32x8>(ones + g) + (value >> 31));
    }
    for (; g < width; ++g) {
      const uint32_t value = bit_cast<uint32_t>(z[base + g]) ^ (bit_of(pad, base + g) << 31);
      soft[g] += bit_cast<float>(value);
      ones[g] += static_cast<int32_t>(value >> 31);
    }
  }
}
#endif

}  // namespace watermark::WM_ISA
