// Search for a lattice of lines by adding up table rows: see watermark/ops/lattice.py. In log-polar coordinates a scale is a
// shift of rows and a turn is a shift of columns, so a hypothesis' score at every angle is a sum of contiguous bytes.
#pragma once
#include "kernels/lattice.hpp"

namespace watermark::WM_ISA {

#ifndef __CUDACC__

typedef uint8_t u8x32 __attribute__((vector_size(32)));

constexpr int64_t pooled_stride = 576;  // 513 columns, one mirrored to the left at `pooled_left` - 1, and room for vectors
constexpr int64_t pooled_left = 32;

WM_FN u8x32 larger(u8x32 a, u8x32 b) { return a > b ? a : b; }

// Rows [begin, end) of the ratio, rounded down to 0..7. out: rows of pooled_stride.
static inline void quantise(const float* ratio, int64_t begin, int64_t end, uint8_t* out) {
  for (int64_t row = begin; row < end; ++row) {
    const float* from = ratio + row * half_field;
    uint8_t* to = out + row * pooled_stride + pooled_left;
    for (int64_t x = 0; x < half_field; ++x) to[x] = static_cast<uint8_t>(static_cast<int32_t>(from[x] < 7.0f ? from[x] : 7.0f));
  }
}

// The largest of 3 x 3 neighbours. in: from quantise, its left margin is filled here. scratch: the size of in.
static inline void pool(uint8_t* in, uint8_t* scratch, uint8_t* out) {
  for (int64_t row = 0; row < field; ++row) {
    uint8_t* line = in + row * pooled_stride + pooled_left;
    line[-1] = in[((field - row) & (field - 1)) * pooled_stride + pooled_left + 1];
    for (int64_t column = half_field; column < pooled_stride - pooled_left; ++column) line[column] = 0;
  }
  for (int64_t row = 0; row < field; ++row) {
    const uint8_t* line = in + row * pooled_stride + pooled_left;
    uint8_t* to = scratch + row * pooled_stride + pooled_left;
    for (int64_t x = 0; x < half_field - 1; x += 32)
      store(to + x, larger(larger(load<u8x32>(line + x - 1), load<u8x32>(line + x)), load<u8x32>(line + x + 1)));
    to[half_field - 1] = line[half_field - 2] > line[half_field - 1] ? line[half_field - 2] : line[half_field - 1];
  }
  for (int64_t row = 0; row < field; ++row) {
    const uint8_t* above = scratch + ((row - 1) & (field - 1)) * pooled_stride + pooled_left;
    const uint8_t* below = scratch + ((row + 1) & (field - 1)) * pooled_stride + pooled_left;
    const uint8_t* line = scratch + row * pooled_stride + pooled_left;
    uint8_t* to = out + row * pooled_stride + pooled_left;
    for (int64_t x = 0; x < half_field - 1; x += 32)
      store(to + x, larger(larger(load<u8x32>(above + x), load<u8x32>(line + x)), load<u8x32>(below + x)));
    const int64_t last = half_field - 1;
    const uint8_t a = above[last] > below[last] ? above[last] : below[last];
    to[last] = a > line[last] ? a : line[last];
  }
}

constexpr int64_t max_lines = 36;  // of at most 7 each: their sum fits a byte

struct Peak {
  int32_t score, hypothesis, scale, angle;
};

// Keeps the `most` best peaks of a list, earlier ones first among equals; returns the lowest score kept.
static inline int32_t keep_best(Peak* list, int64_t& count, int64_t most) {
  int64_t histogram[256] = {};
  for (int64_t i = 0; i < count; ++i) ++histogram[list[i].score];
  int32_t lowest = 255;
  int64_t above = 0;
  while (lowest > 0 && above + histogram[lowest] < most) above += histogram[lowest--];
  int64_t kept = 0, spare = most - above;
  for (int64_t i = 0; i < count; ++i)
    if (list[i].score > lowest || (list[i].score == lowest && spare-- > 0)) list[kept++] = list[i];
  count = kept;
  return lowest;
}

// Two columns half a turn apart share a byte: byte b of a packed row holds column b below and column b + angles / 2 above,
// modulo the turn. A row is 3/2 angles bytes long, so that `angles / 2` bytes from any column on are all columns from there.
static inline void pack_rows(const uint8_t* table, int64_t rows, int64_t angles, uint8_t* packed) {
  const int64_t half = angles / 2;
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t *near = table + row * angles, *far = near + half;
    uint8_t* to = packed + row * (angles + half);
    for (int64_t b = 0; b < half; ++b) {
      to[b] = to[angles + b] = static_cast<uint8_t>(near[b] | far[b] << 4);
      to[half + b] = static_cast<uint8_t>(far[b] | near[b] << 4);
    }
  }
}

// Adds up `lines` packed rows from byte i on: `Vectors` x 32 columns, and as many half a turn further.
template <int Vectors>
WM_FN u8x32 add_rows(const uint8_t* const* at, int64_t lines, int64_t i, int64_t half, uint8_t* sums) {
  const u8x32 mask = u8x32{} + uint8_t{15};
  u8x32 low[Vectors] = {}, high[Vectors] = {};
  for (int64_t l = 0; l < lines; l += 2)
    for (int k = 0; k < Vectors; ++k) {
      const u8x32 pair = load<u8x32>(at[l] + i + 32 * k) + load<u8x32>(at[l + 1] + i + 32 * k);  // at most 14 a nibble
      low[k] += pair & mask;
      high[k] += bit_cast<u8x32>(bit_cast<u16x16>(pair) >> 4) & mask;
    }
  u8x32 best = {};
  for (int k = 0; k < Vectors; ++k) {
    store(sums + i + 32 * k, low[k]);
    store(sums + half + i + 32 * k, high[k]);
    best = larger(best, larger(low[k], high[k]));
  }
  return best;
}

// Hypotheses [begin, end). packed: from pack_rows. rows, turns: where hypothesis h expects line l at scale 0 and angle 0.
// lines: even. angles: 448. The best `most` local maxima along the angle go to `out` (room for 4 most), in the order of
// their finding. Returns their number.
static inline int64_t search_table(const uint8_t* packed, int64_t angles, const int32_t* rows, const int32_t* turns,
                                   int64_t begin, int64_t end, int64_t lines, int64_t scales, int64_t most, Peak* out) {
  const int64_t half = angles / 2, stride = angles + half;
  int64_t count = 0;
  int32_t threshold = 0;
  for (int64_t h = begin; h < end; ++h)
    for (int64_t s = 0; s < scales; ++s) {
      const uint8_t* at[max_lines];
      for (int64_t l = 0; l < lines; ++l) at[l] = packed + (rows[h * lines + l] + s) * stride + turns[h * lines + l];
      uint8_t sums[448];
      const u8x32 best = larger(add_rows<4>(at, lines, 0, half, sums), add_rows<3>(at, lines, 128, half, sums));
      const auto words = bit_cast<u64x4>(best > u8x32{} + static_cast<uint8_t>(threshold));
      if (!(words[0] | words[1] | words[2] | words[3])) continue;
      for (int64_t i = 0; i < angles; ++i) {
        const int32_t v = sums[i];
        if (v <= threshold || sums[i ? i - 1 : angles - 1] > v || sums[i + 1 < angles ? i + 1 : 0] >= v) continue;
        out[count++] = {v, static_cast<int32_t>(h), static_cast<int32_t>(s), static_cast<int32_t>(i)};
        if (count == 4 * most) threshold = keep_best(out, count, most);
      }
    }
  if (count > most) keep_best(out, count, most);
  return count;
}
#endif

}  // namespace watermark::WM_ISA
