// Hashes and counts of SEAL for many latents at a time, for GPUs: see watermark/ops/patch.py. Integers, so that the
// results are those of patch.hpp whatever the order of the sums.
#pragma once
#include "kernels/block.hpp"
#include "kernels/patch.hpp"

namespace watermark::WM_ISA {

// A matrix product of projections and vectors, of which only signs are kept. One block takes 4 patches and 32 vectors, one
// thread a code. The vectors pass through shared memory in pieces, turned so that neighbouring threads read neighbours.
struct SimhashKernel {
  static constexpr int vectors = 32, block_patches = 4, threads = vectors * block_patches, piece = 64, most_bits = 8;
  struct Shared {
    int16_t v[piece][vectors + 2];  // the odd pitch in words keeps the writes of a warp on distinct banks
    int32_t sums[most_bits][threads];
  };
  const int16_t* projections;  // (patches, bits, dimension)
  int64_t patches, bits, dimension;
  const int16_t* v;  // (rows, dimension)
  int64_t rows;
  uint8_t* codes;  // (rows, patches)

  WM_INLINE int64_t groups() const { return (rows + vectors - 1) / vectors; }
  WM_INLINE int64_t blocks() const { return (patches + block_patches - 1) / block_patches * groups(); }

  WM_INLINE void operator()(const Block<threads>& block, Shared& shared) const {
    const int64_t patch = block.index / groups() * block_patches, top = block.index % groups() * vectors;
    block.each([&](int thread) {
      for (int j = 0; j < bits; ++j) shared.sums[j][thread] = 0;
    });
    for (int64_t first = 0; first < dimension; first += piece) {
      const int64_t left = dimension - first < piece ? dimension - first : piece;
      block.each_of(vectors * piece, [&](int64_t i) {
        const int64_t row = i / piece, l = i % piece;
        if (top + row < rows && l < left) shared.v[l][row] = v[(top + row) * dimension + first + l];
      });
      block.each([&](int thread) {
        const int64_t mine = patch + thread / vectors, row = thread % vectors;
        if (mine >= patches || top + row >= rows) return;
        for (int j = 0; j < bits; ++j)
          shared.sums[j][thread] +=
              patch_product(projections + (mine * bits + j) * dimension + first, &shared.v[0][row], vectors + 2, left);
      });
    }
    block.each([&](int thread) {
      const int64_t mine = patch + thread / vectors, row = top + thread % vectors;
      if (mine >= patches || row >= rows) return;
      uint32_t code = 0;
      for (int j = 0; j < bits; ++j) code |= static_cast<uint32_t>(shared.sums[j][thread] > 0) << j;
      codes[row * patches + mine] = static_cast<uint8_t>(code);
    });
  }
};

// One block per latent and mask.
struct PatchCountKernel {
  static constexpr int threads = 128;
  struct Shared {
    int32_t count;
  };
  const uint32_t* matches;  // (rows, patches, words)
  int64_t rows, patches, words;
  const uint8_t* code;  // `code_step` from row to row, 0 for one row
  int64_t code_step;
  const uint8_t* masks;  // (mask_count, patches)
  int64_t mask_count;
  int32_t* counts;  // (rows, mask_count)

  WM_INLINE int64_t blocks() const { return rows * mask_count; }

  WM_INLINE void operator()(const Block<threads>& block, Shared& shared) const {
    const int64_t row = block.index / mask_count;
    const uint32_t* found = matches + row * patches * words;
    const uint8_t *named = code + row * code_step, *mask = masks + block.index % mask_count * patches;
    block.each([&](int thread) {
      if (thread == 0) shared.count = 0;
    });
    block.each([&](int thread) {
      int32_t count = 0;
      for (int64_t i = thread; i < patches; i += threads) count += patch_match(found + i * words, named[i] ^ mask[i]);
      add_together(&shared.count, count);
    });
    block.each([&](int thread) {
      if (thread == 0) counts[block.index] = shared.count;
    });
  }
};

}  // namespace watermark::WM_ISA
