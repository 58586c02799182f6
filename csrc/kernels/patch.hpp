// SEAL (ICCV 2025): the hash of a vector names the noise of each patch of a latent; the search finds which it carries.
#pragma once
#include "kernels/chacha.hpp"
#include "kernels/sign_pad.hpp"

namespace watermark::WM_ISA {

// A normal variate from one word: all bits give its size, the lowest one, which hardly matters there, its sign.
WM_FN float patch_normal(uint32_t w, const float (*table)[4]) { return signed_half_normal(w, w & 1u, table); }

// ChaCha20 blocks (16 values each) that one noise of a patch takes; noise c of patch i starts at block (i codes + c) times that.
WM_FN int64_t patch_blocks(int64_t width) { return (width + 15) / 16; }

// 1 / |x|, or 0 where x is 0: in double, so that no finite x overflows.
WM_FN double patch_scale(const float* x, int64_t width) {
  double sum = 0.0;
  for (int64_t e = 0; e < width; ++e) sum += static_cast<double>(x[e]) * static_cast<double>(x[e]);
  return sum > 0.0 ? 1.0 / __builtin_sqrt(sum) : 0.0;
}

// Bit j of a code is 1 where row j of `rows` has a positive inner product with v. Integers: exact in any order.
WM_FN int32_t patch_product(const int16_t* row, const int16_t* v, int64_t step, int64_t dimension) {
  int32_t sum = 0;
  for (int64_t l = 0; l < dimension; ++l) sum += static_cast<int32_t>(row[l]) * static_cast<int32_t>(v[l * step]);
  return sum;
}
WM_FN uint8_t patch_code(const int16_t* rows, int64_t bits, const int16_t* v, int64_t dimension) {
  uint32_t code = 0;
  for (int64_t j = 0; j < bits; ++j)
    code |= static_cast<uint32_t>(patch_product(rows + j * dimension, v, 1, dimension) > 0) << j;
  return static_cast<uint8_t>(code);
}

// Whether noise `code` is among the matches of a patch, a bit each.
WM_FN int32_t patch_match(const uint32_t* matches, int code) {
  return static_cast<int32_t>((matches[code / 32] >> (code % 32)) & 1u);
}

// How many patches match the noise that their code names after `mask`. matches: (patches, words).
WM_FN int32_t patch_count(const uint32_t* matches, int64_t words, const uint8_t* code, const uint8_t* mask, int64_t patches) {
  int32_t count = 0;
  for (int64_t i = 0; i < patches; ++i) count += patch_match(matches + i * words, code[i] ^ mask[i]);
  return count;
}

#ifndef __CUDACC__
WM_FN f32x8 patch_normal(u32x8 w, const float (*table)[4]) { return signed_half_normal(w, w, table); }

// Noise of patches [begin, end): the one that its code names. out: (patches, width).
static inline void patch_noise_range(const ChaChaKey& key, const uint8_t* code, int64_t codes, int64_t width, int64_t begin,
                                     int64_t end, const float (*table)[4], float* out) {
  const int64_t blocks = patch_blocks(width);
  for (int64_t first = begin; first < end; first += 8) {
    const int64_t lanes = end - first < 8 ? end - first : 8;
    uint32_t start[8] = {};
    for (int64_t l = 0; l < lanes; ++l) start[l] = static_cast<uint32_t>(((first + l) * codes + code[first + l]) * blocks);
    for (int64_t block = 0; block < blocks; ++block) {
      u32x8 words[16];
      chacha_block(key, load<u32x8>(start) + static_cast<uint32_t>(block), words);
      const int64_t left = width - 16 * block < 16 ? width - 16 * block : 16;
      for (int64_t e = 0; e < left; ++e) {
        const f32x8 noise = patch_normal(words[e], table);
        for (int64_t l = 0; l < lanes; ++l) out[(first + l) * width + 16 * block + e] = noise[l];
      }
    }
  }
}

constexpr int64_t patch_rows = 32;  // latents that share one pass over the noises

// Cosines of patches [begin, end) of latents `x` of shape (rows, patches, width) with all their noises, of which eight are
// made at a time. best: the largest, (rows, patches). matches: bit c where noise c has a cosine of at least `least`,
// (rows, patches, codes / 32). scratch: patch_rows (width + 8) floats.
static inline void patch_search_range(const ChaChaKey& key, const float* x, int64_t rows, int64_t patches, int64_t width,
                                      int64_t codes, float least, int64_t begin, int64_t end, const float (*table)[4],
                                      float* scratch, float* best, uint32_t* matches) {
  const int64_t blocks = patch_blocks(width);
  float* unit = scratch + 8 * patch_rows;
  for (int64_t top = 0; top < rows; top += patch_rows) {
    const int64_t count = rows - top < patch_rows ? rows - top : patch_rows;
    for (int64_t patch = begin; patch < end; ++patch) {
      for (int64_t r = 0; r < count; ++r) {
        const float* values = x + ((top + r) * patches + patch) * width;
        const double scale = patch_scale(values, width);
        for (int64_t e = 0; e < width; ++e) unit[r * width + e] = static_cast<float>(static_cast<double>(values[e]) * scale);
        best[(top + r) * patches + patch] = -1.0f;
      }
      for (int64_t c = 0; c < codes; c += 8) {
        const u32x8 lane = u32x8{0, 1, 2, 3, 4, 5, 6, 7} * static_cast<uint32_t>(blocks);
        f32x8 energy = {};
        for (int64_t r = 0; r < count; ++r) store(scratch + 8 * r, f32x8{});
        for (int64_t block = 0; block < blocks; ++block) {
          u32x8 words[16];
          chacha_block(key, lane + static_cast<uint32_t>((patch * codes + c) * blocks + block), words);
          const int64_t left = width - 16 * block < 16 ? width - 16 * block : 16;
          f32x8 noise[16];
          for (int64_t e = 0; e < left; ++e) {
            noise[e] = patch_normal(words[e], table);
            energy += noise[e] * noise[e];
          }
          for (int64_t r = 0; r < count; ++r) {
            f32x8 sum = load<f32x8>(scratch + 8 * r);
            for (int64_t e = 0; e < left; ++e) sum += noise[e] * unit[r * width + 16 * block + e];
            store(scratch + 8 * r, sum);
          }
        }
        for (int l = 0; l < 8; ++l) energy[l] = __builtin_sqrtf(energy[l]);
        for (int64_t r = 0; r < count; ++r) {
          const f32x8 cosine = load<f32x8>(scratch + 8 * r) / energy;
          float& most = best[(top + r) * patches + patch];
          uint32_t byte = 0;
          for (int l = 0; l < 8; ++l) {
            most = cosine[l] > most ? cosine[l] : most;
            byte |= static_cast<uint32_t>(cosine[l] >= least) << l;
          }
          uint32_t& word = matches[((top + r) * patches + patch) * (codes / 32) + c / 32];
          word = (c % 32 ? word : 0u) | byte << (c % 32);
        }
      }
    }
  }
}
#endif

}  // namespace watermark::WM_ISA
