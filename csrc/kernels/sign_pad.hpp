// Gaussian Shading (Yang et al., CVPR 2024): a keystream decides an element's sign, fresh noise its size.
#pragma once
#include "kernels/chacha.hpp"
#include "kernels/normal.hpp"

namespace watermark::WM_ISA {

WM_FN uint32_t bit_of(const uint32_t* words, int64_t i) { return (words[i / 32] >> (i % 32)) & 1u; }

// |z| from random word w, the sign from `negative` (1 = minus).
WM_FN float signed_half_normal(uint32_t w, uint32_t negative, const float (*table)[4]) {
  return bit_cast<float>(bit_cast<uint32_t>(half_normal(w, table)) | (negative << 31));
}

WM_FN uint32_t sign_bit(float x) { return bit_cast<uint32_t>(x) >> 31; }

WM_FN uint32_t is_finite(float x) { return (bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }

// z (-1)^pad: its sign is the message bit that z votes for.
WM_FN float vote_of(float z, uint32_t pad) { return bit_cast<float>(bit_cast<uint32_t>(z) ^ (pad << 31)); }

// How many of `count` elements, dealt in turn, vote for symbol g.
WM_FN int64_t repeats_of(int64_t g, int64_t count, int64_t symbols) { return count / symbols + (g < count % symbols); }

WM_FN int64_t majority(int64_t ones, int64_t repeats) { return 2 * ones > repeats ? ones : repeats - ones; }

#ifndef __CUDACC__
// Eight of them; bit 0 of `negative` belongs to each.
WM_FN f32x8 signed_half_normal(u32x8 w, u32x8 negative, const float (*table)[4]) {
  return bit_cast<f32x8>(bit_cast<u32x8>(half_normal(w, table)) | (negative << 31));
}

// Row of `count` samples: `noise` gives the sizes, bit i of `signs` the sign of element i.
static inline void signed_normal_row(const ChaChaKey& noise, const uint32_t* signs, int64_t count,
                                     const float (*table)[4], float* out) {
  uint32_t words[128];
  for (int64_t base = 0; base < count; base += 128) {
    const int64_t left = count - base < 128 ? count - base : 128;
    chacha_words(noise, static_cast<uint32_t>(base / 16), words, left);
    int64_t i = 0;
    for (; i + 8 <= left; i += 8) {
      const u32x8 bits = (u32x8{} + (signs[(base + i) / 32] >> (i % 32))) >> u32x8{0, 1, 2, 3, 4, 5, 6, 7};
      store(out + base + i, signed_half_normal(load<u32x8>(words + i), bits, table));
    }
    for (; i < left; ++i) out[base + i] = signed_half_normal(words[i], bit_of(signs, base + i), table);
  }
}

// Element i votes for symbol i mod symbols, with z_i (-1)^pad_i. bits: 1 for a negative sum of votes, added in the
// order of i, packed from the most significant bit of a byte on. Returns how many signs agree with the majority of
// their symbol, or -1 if a sum is not finite.
static inline int64_t sign_votes_row(const float* z, const uint32_t* pad, int64_t count, int64_t symbols,
                                     uint8_t* bits) {
  constexpr int64_t block = 512;  // symbols at a time, whose sums stay in the cache
  int64_t agreement = 0;
  uint32_t finite = 1;
  for (int64_t start = 0; start < symbols; start += block) {
    const int64_t size = symbols - start < block ? symbols - start : block;
    float soft[block] = {};
    int32_t ones[block] = {};
    for (int64_t base = start; base < count; base += symbols) {
      const int64_t width = count - base < size ? count - base : size;
      int64_t g = 0;
      for (; g + 8 <= width; g += 8) {
        const int64_t first = base + g;
        const uint64_t both = static_cast<uint64_t>(pad[first / 32]) | static_cast<uint64_t>(pad[(first + 7) / 32])
                                                                           << 32;
        const uint32_t byte = static_cast<uint32_t>(both >> (first % 32));
        const u32x8 flip = ((u32x8{} + byte) >> u32x8{0, 1, 2, 3, 4, 5, 6, 7}) << 31;
        const u32x8 vote = load<u32x8>(z + first) ^ flip;
        store(soft + g, load<f32x8>(soft + g) + bit_cast<f32x8>(vote));
        store(ones + g, load<u32x8>(ones + g) + (vote >> 31));
      }
      for (; g < width; ++g) {
        const float vote = vote_of(z[base + g], bit_of(pad, base + g));
        soft[g] += vote;
        ones[g] += static_cast<int32_t>(sign_bit(vote));
      }
    }
    for (int64_t g = 0; g < size; ++g) {
      if (g % 8 == 0) bits[(start + g) / 8] = 0;
      bits[(start + g) / 8] |= static_cast<uint8_t>((soft[g] < 0) << (7 - g % 8));
      agreement += majority(ones[g], repeats_of(start + g, count, symbols));
      finite &= is_finite(soft[g]);
    }
  }
  return finite ? agreement : -1;
}
#endif

}  // namespace watermark::WM_ISA
