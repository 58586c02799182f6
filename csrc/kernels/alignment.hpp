// Alignment of a text with a keyed sequence (Kuditipudi et al., "Robust distortion-free watermarks", 2024): the heaviest
// chain of pairs (token, key row) that ascend in both. Integer weights, so every instruction set gives the same.
#pragma once
#include "kernels/chacha.hpp"

namespace watermark::WM_ISA {

#ifndef __CUDACC__
constexpr int64_t offset_lanes = 16;  // offsets of the key that are aligned at a time

WM_FN u16x16 larger(u16x16 a, u16x16 b) { return a > b ? a : b; }

// What is aligned: tokens as numbers of their kind, and blocks of them that start at `starts`. Each offset of the key
// sequence gives a block `length` key rows, which wrap around after `rows`. No chain may be heavier than 65535.
struct Alignment {
  const int32_t* tokens;
  const int32_t* starts;
  int64_t blocks, length, kinds, rows;
  const uint16_t* weights;  // of the 65536 values of a cell

  // Weights of a kind, with what the last offsets see past the end of the key sequence.
  WM_INLINE int64_t stride() const { return (rows + offset_lanes - 1) / offset_lanes * offset_lanes + length; }
  // Scratch memory: the weights of all kinds, the chains, and the cells of one kind.
  WM_INLINE int64_t chains() const { return kinds * stride(); }
  WM_INLINE int64_t cells() const { return chains() + offset_lanes * length; }
  WM_INLINE int64_t scratch() const { return cells() + rows; }
};

static inline void weigh_cells(const Alignment& a, const uint16_t* cells, uint16_t* out) {
  for (int64_t i = 0; i < a.rows; ++i) out[i] = a.weights[cells[i]];
  for (int64_t i = a.rows; i < a.stride(); ++i) out[i] = out[i - a.rows];
}

// Adds tokens to the chains. best[b]: the heaviest chain of the tokens so far with key rows up to b, one lane an offset.
template <int count>
WM_FN void add_tokens(const uint16_t* const* weights, int64_t length, uint16_t* best) {
  u16x16 before[count] = {}, left[count] = {};
  for (int64_t b = 0; b < length; ++b) {
    u16x16 chain = load<u16x16>(best + offset_lanes * b);
    for (int r = 0; r < count; ++r) {
      const u16x16 paired = before[r] + load<u16x16>(weights[r] + b);
      before[r] = chain;
      left[r] = chain = larger(larger(chain, paired), left[r]);
    }
    store(best + offset_lanes * b, chain);
  }
}

// The heaviest chains of the tokens of a block at sixteen offsets.
static inline u16x16 heaviest_chains(const Alignment& a, const uint16_t* weights, const int32_t* tokens, int64_t offset,
                                     uint16_t* best) {
  for (int64_t b = 0; b < offset_lanes * a.length; ++b) best[b] = 0;
  int64_t i = 0;
  for (; i + 4 <= a.length; i += 4) {
    const uint16_t* rows[4];
    for (int r = 0; r < 4; ++r) rows[r] = weights + tokens[i + r] * a.stride() + offset;
    add_tokens<4>(rows, a.length, best);
  }
  for (; i < a.length; ++i) {
    const uint16_t* row = weights + tokens[i] * a.stride() + offset;
    add_tokens<1>(&row, a.length, best);
  }
  return load<u16x16>(best + offset_lanes * (a.length - 1));
}

// out: the heaviest chain per block and offset. cells: of shape (kinds, rows).
static inline void align(const Alignment& a, const uint16_t* cells, uint16_t* out, uint16_t* scratch) {
  for (int64_t kind = 0; kind < a.kinds; ++kind) weigh_cells(a, cells + kind * a.rows, scratch + kind * a.stride());
  for (int64_t block = 0; block < a.blocks; ++block, out += a.rows)
    for (int64_t offset = 0; offset < a.rows; offset += offset_lanes) {
      const u16x16 chains = heaviest_chains(a, scratch, a.tokens + a.starts[block], offset, scratch + a.chains());
      for (int64_t i = 0; i < offset_lanes && offset + i < a.rows; ++i) out[offset + i] = chains[i];
    }
}

// Eight blocks of ChaCha with 8 rounds: word 8 j + l is word j of block l. Draws of a null need speed, not the margin of 20.
WM_FN void draw_words(const ChaChaKey& k, uint32_t counter, uint32_t (&out)[128]) {
  u32x8 x[16];
  chacha_block<4>(k, u32x8{0, 1, 2, 3, 4, 5, 6, 7} + counter, x);
  for (int j = 0; j < 16; ++j) store(out + 8 * j, x[j]);
}

// Row `number` of rows of uniform 16-bit numbers: the halves of its words, the lower one first. Each has blocks of its own.
static inline void uniform_row(const ChaChaKey& k, int64_t number, int64_t rows, uint16_t* out) {
  uint32_t words[128], counter = static_cast<uint32_t>(number * ((rows + 255) / 256) * 8);
  for (int64_t base = 0; base < rows; base += 256, counter += 8) {
    draw_words(k, counter, words);
    const int64_t left = rows - base < 256 ? rows - base : 256;
    for (int64_t i = 0; i < left; ++i) out[base + i] = static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2)));
  }
}

// Place `index` of a vocabulary, as a 16-bit fraction of it.
WM_FN uint16_t fraction_of_place(uint32_t index, uint32_t vocabulary) {
  return static_cast<uint16_t>(((2 * static_cast<uint64_t>(index) + 1) << 15) / vocabulary);
}

// Different places for all kinds, in uniform order: words of a stream scaled to the vocabulary without bias (Lemire,
// "Fast random integer generation in an interval", 2019), those that were there before left out. `taken` holds a zero bit
// per place, and does so again in the end; `places` gets the fractions.
static inline void draw_places(const ChaChaKey& k, int64_t kinds, uint32_t vocabulary, uint32_t* taken, uint32_t* indices,
                               uint16_t* places) {
  uint32_t words[128];
  const uint32_t biased = (0u - vocabulary) % vocabulary;
  uint32_t used = 0;
  for (int64_t kind = 0; kind < kinds; ++used) {
    if (used % 128 == 0) draw_words(k, used / 16, words);
    const uint64_t scaled = static_cast<uint64_t>(words[used % 128]) * vocabulary;
    const uint32_t index = static_cast<uint32_t>(scaled >> 32);
    if (static_cast<uint32_t>(scaled) < biased || taken[index / 32] >> (index % 32) & 1u) continue;
    taken[index / 32] |= 1u << (index % 32);
    indices[kind] = index;
    places[kind++] = fraction_of_place(index, vocabulary);
  }
  for (int64_t kind = 0; kind < kinds; ++kind) taken[indices[kind] / 32] = 0;
}

// Weights of the kinds under a random key: cells are uniform, or with `places` their distances from a uniform number per
// key row.
static inline void draw_weights(const Alignment& a, const ChaChaKey& k, const uint16_t* places, uint16_t* scratch) {
  uint16_t* cells = scratch + a.cells();
  if (places) uniform_row(k, 0, a.rows, cells);
  for (int64_t kind = 0; kind < a.kinds; ++kind) {
    uint16_t* out = scratch + kind * a.stride();
    if (places) {
      for (int64_t i = 0; i < a.rows; ++i)
        out[i] = places[kind] > cells[i] ? places[kind] - cells[i] : cells[i] - places[kind];
      weigh_cells(a, out, out);
    } else {
      uniform_row(k, kind, a.rows, cells);
      weigh_cells(a, cells, out);
    }
  }
}

// Whether any chain of the drawn weights weighs at least `least`.
static inline bool reaches(const Alignment& a, uint16_t least, uint16_t* scratch) {
  for (int64_t block = 0; block < a.blocks; ++block)
    for (int64_t offset = 0; offset < a.rows; offset += offset_lanes) {
      const u16x16 chains = heaviest_chains(a, scratch, a.tokens + a.starts[block], offset, scratch + a.chains());
      for (int64_t i = 0; i < offset_lanes; ++i)
        if (chains[i] >= least) return true;
    }
  return false;
}
#endif

}  // namespace watermark::WM_ISA
