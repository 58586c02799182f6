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

constexpr int64_t max_angles = 896;

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

// Hypotheses [begin, end). table: rows of 2 angles bytes, each row twice in a row. rows, turns: where hypothesis h expects
// line l at scale 0 and angle 0. The best `most` local maxima along the angle go to `out` (room for 4 most), best first
// by no order. Returns their number.
static inline int64_t search_table(const uint8_t* table, int64_t angles, const int32_t* rows, const int32_t* turns,
                                   int64_t begin, int64_t end, int64_t lines, int64_t scales, int64_t most, Peak* out) {
  int64_t count = 0;
  int32_t threshold = 0;
  for (int64_t h = begin; h < end; ++h)
    for (int64_t s = 0; s < scales; ++s) {
      const uint8_t* at[36];
      for (int64_t l = 0; l < lines; ++l)
        at[l] = table + (rows[h * lines + l] + s) * 2 * angles + turns[h * lines + l];
      // Seven accumulators: a line's address is fetched once for 224 columns.
      uint8_t sums[max_angles];
      u8x32 best = {};
      for (int64_t i = 0; i < angles; i += 224) {
        u8x32 sum[7] = {};
        for (int64_t l = 0; l < lines; ++l)
          for (int k = 0; k < 7; ++k) sum[k] += load<u8x32>(at[l] + i + 32 * k);
        for (int k = 0; k < 7; ++k) store(sums + i + 32 * k, sum[k]), best = larger(best, sum[k]);
      }
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
