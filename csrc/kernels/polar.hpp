// Successive-cancellation list decoding of polar codes (Tal and Vardy, IEEE Trans. Inf. Theory 2015), min-sum.
// Every path is a column. A fork copies no tables: each layer keeps, per path, the column where that path's values lie.
// And the soft values of symbols that come in words.
#pragma once
#include <math.h>

#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

constexpr int max_polar_layers = 16;
constexpr int max_polar_paths = 64;

// Scratch memory, sized by polar_scratch_bytes and cut up by the decoder.
WM_FN int64_t polar_scratch_bytes(int layers, int paths, int64_t information) {
  const int64_t symbols = int64_t{1} << layers;
  return symbols * paths * (4 + 1 + 2) + information * paths * 2;
}

// One entry of the candidate list; ties go to the lower index, so that every machine keeps the same paths.
struct PolarCandidate {
  float metric;
  int index;
};
WM_FN bool polar_before(const PolarCandidate& a, const PolarCandidate& b) {
  return a.metric < b.metric || (a.metric == b.metric && a.index < b.index);
}
// Puts a candidate into a sorted list that keeps the first `most`; returns its new size.
WM_FN int polar_insert(PolarCandidate* list, int size, int most, PolarCandidate item) {
  if (size == most && !polar_before(item, list[size - 1])) return size;
  int j = size < most ? size : size - 1;
  for (; j > 0 && polar_before(item, list[j - 1]); --j) list[j] = list[j - 1];
  list[j] = item;
  return size < most ? size + 1 : size;
}

WM_FN float polar_f(float a, float b) {
  const float x = a < 0 ? -a : a, y = b < 0 ? -b : b;
  const float smaller = x < y ? x : y;
  return (a < 0) != (b < 0) ? -smaller : smaller;
}

// soft: 2^layers values, positive for a symbol of 0. frozen: 1 where the input bit is 0 by design.
// bits, words: row r holds the information bits and the code symbols of the r-th best path, one byte each. Returns the number
// of rows.
static inline int polar_decode(const float* soft, int layers, const uint8_t* frozen, int64_t information, int paths,
                               void* scratch, uint8_t* bits, uint8_t* words) {
  const int64_t symbols = int64_t{1} << layers;
  float* values[max_polar_layers + 1];  // values[d]: 2^d rows of one column per path
  uint8_t* sums[max_polar_layers + 1];  // sums[d]: the same for the partial sums of finished left halves
  uint8_t value_at[max_polar_layers + 1][max_polar_paths], sum_at[max_polar_layers + 1][max_polar_paths];
  {
    float* f = static_cast<float*>(scratch);
    for (int d = 0; d < layers; ++d) values[d] = f, f += (int64_t{1} << d) * paths;
    uint8_t* b = reinterpret_cast<uint8_t*>(static_cast<float*>(scratch) + symbols * paths);
    for (int d = 0; d < layers; ++d) sums[d] = b, b += (int64_t{1} << d) * paths;
  }
  uint8_t* current = reinterpret_cast<uint8_t*>(static_cast<float*>(scratch) + symbols * paths) + symbols * paths;
  uint8_t* next = current + symbols * paths;
  uint8_t* parent = next + symbols * paths;
  uint8_t* decided = parent + information * paths;

  bool in_place[max_polar_layers + 1] = {};  // whether value_at[d] is p itself for path p
  for (int d = 0; d <= layers; ++d)
    for (int p = 0; p < paths; ++p) value_at[d][p] = 0, sum_at[d][p] = 0;
  float metric[max_polar_paths] = {0};
  int alive = 1;
  int64_t decisions = 0;

  for (int64_t i = 0; i < symbols; ++i) {
    // Soft values on the way down to leaf i. Only the topmost of these layers uses the partial sums.
    for (int d = (i ? __builtin_ctzll(static_cast<uint64_t>(i)) + 1 : layers) - 1; d >= 0; --d) {
      const int64_t half = int64_t{1} << d;
      const bool right = (i >> d) & 1;
      const bool top = d + 1 == layers;
      const float* above = top ? soft : values[d + 1];
      const int64_t stride = top ? 1 : paths;
      for (int64_t k = 0; k < half; ++k) {
        const float *a = above + k * stride, *b = above + (k + half) * stride;
        float* out = values[d] + k * paths;
        const uint8_t* left = sums[d] + k * paths;
        if (!right && in_place[d + 1]) {
          for (int p = 0; p < alive; ++p) out[p] = polar_f(a[p], b[p]);
          continue;
        }
        for (int p = 0; p < alive; ++p) {
          const int from = value_at[d + 1][p];
          out[p] = !right ? polar_f(a[from], b[from]) : left[sum_at[d][p]] ? b[from] - a[from] : b[from] + a[from];
        }
      }
      for (int p = 0; p < alive; ++p) value_at[d][p] = static_cast<uint8_t>(p);
      in_place[d] = true;
    }

    const float* leaf = values[0];
    if (frozen[i]) {
      for (int p = 0; p < alive; ++p) {
        metric[p] += leaf[p] < 0 ? -leaf[p] : 0.0f;
        current[p] = 0;
      }
    } else {
      const auto candidate = [&](int p, bool bit) {
        const float against = bit ? leaf[p] : -leaf[p];
        return PolarCandidate{metric[p] + (against > 0 ? against : 0.0f), 2 * p + bit};
      };
      PolarCandidate list[max_polar_paths];
      int kept = 0;
      if (2 * alive <= paths) {
        for (int p = 0; p < alive; ++p) list[kept++] = candidate(p, false), list[kept++] = candidate(p, true);
      } else {  // the likely ones first, so that most others are turned away
        for (int p = 0; p < alive; ++p) kept = polar_insert(list, kept, paths, candidate(p, leaf[p] < 0));
        for (int p = 0; p < alive; ++p) kept = polar_insert(list, kept, paths, candidate(p, !(leaf[p] < 0)));
      }
      uint8_t *from = parent + decisions * paths, *bit = decided + decisions * paths;
      for (int p = 0; p < kept; ++p) {
        from[p] = static_cast<uint8_t>(list[p].index / 2);
        bit[p] = static_cast<uint8_t>(list[p].index & 1);
        metric[p] = list[p].metric;
        current[p] = bit[p];
      }
      for (int d = 0; d <= layers; ++d) {
        uint8_t value[max_polar_paths], sum[max_polar_paths];
        for (int p = 0; p < kept; ++p) value[p] = value_at[d][from[p]], sum[p] = sum_at[d][from[p]];
        for (int p = 0; p < kept; ++p) value_at[d][p] = value[p], sum_at[d][p] = sum[p];
        in_place[d] = false;
      }
      alive = kept;
      ++decisions;
    }

    // Partial sums on the way up, until a left half ends.
    for (int d = 0; d < layers; ++d) {
      const int64_t half = int64_t{1} << d;
      if (!((i >> d) & 1)) {
        for (int64_t k = 0; k < half * paths; ++k) sums[d][k] = current[k];
        for (int p = 0; p < alive; ++p) sum_at[d][p] = static_cast<uint8_t>(p);
        break;
      }
      for (int64_t k = 0; k < half; ++k) {
        const uint8_t *left = sums[d] + k * paths, *now = current + k * paths;
        uint8_t *low = next + k * paths, *high = next + (k + half) * paths;
        for (int p = 0; p < alive; ++p) low[p] = left[sum_at[d][p]] ^ now[p], high[p] = now[p];
      }
      uint8_t* swapped = current;
      current = next, next = swapped;
    }
  }

  PolarCandidate order[max_polar_paths];
  for (int p = 0; p < alive; ++p) polar_insert(order, p, alive, {metric[p], p});
  for (int row = 0; row < alive; ++row) {
    int p = order[row].index;
    for (int64_t k = 0; k < symbols; ++k) words[row * symbols + k] = current[k * paths + p];
    for (int64_t k = information - 1; k >= 0; --k) {
      bits[row * information + k] = decided[k * paths + p];
      p = parent[k * paths + p];
    }
  }
  return alive;
}

#ifndef __CUDACC__
// ln P(0) / P(1) of the symbols of a site that holds one of some words, given the logarithm of each word's likelihood. symbols:
// (words, width), 0 or 1. out: width values.
static inline void word_ratios(const double* likelihood, int64_t words, const uint8_t* symbols, int64_t width, double* odds,
                               float* out) {
  double top = likelihood[0];
  for (int64_t w = 1; w < words; ++w) top = likelihood[w] > top ? likelihood[w] : top;
  for (int64_t w = 0; w < words; ++w) odds[w] = exp(likelihood[w] - top) + 1e-30;
  for (int64_t i = 0; i < width; ++i) {
    double sums[2] = {};
    for (int64_t w = 0; w < words; ++w) sums[symbols[w * width + i] & 1] += odds[w];
    out[i] = static_cast<float>(log(sums[0]) - log(sums[1]));
  }
}
#endif

}  // namespace watermark::WM_ISA
