// Many latents at a time, for GPUs: see watermark/ops/parity.py for what each kernel computes. The same operations in the
// same order as in parity.hpp, so that the results are the same bits (but for the tail, which needs exp and log).
#pragma once
#include "kernels/block.hpp"
#include "kernels/parity.hpp"
#include "kernels/tail.hpp"

namespace watermark::WM_ISA {

// One block counts the checks of one latent.
struct SyndromeKernel {
  static constexpr int threads = square_parts, copies = 8;
  struct Shared {
    double parts[square_parts];
    int32_t counts[copies][2 * vote_levels];  // neighbouring threads count apart
  };
  const float* z;
  int64_t rows, count;
  const uint32_t* pad;
  const int32_t* checks;
  int64_t check_count;
  int degree;
  const uint16_t* weights;
  const uint8_t* levels;
  uint16_t* codes;
  float* scales;
  int32_t* counts;

  WM_INLINE int64_t blocks() const { return rows; }

  WM_INLINE void operator()(const Block<threads>& block, Shared& shared) const {
    const float* in = z + block.index * count;
    uint16_t* code = codes + block.index * count;
    block.each([&](int thread) {
      double sum = 0.0;
      for (int64_t i = thread; i < count; i += threads) sum += square_of(in[i]);
      shared.parts[thread] = sum;
      for (int c = 0; c < copies; ++c)
        for (int i = thread; i < 2 * vote_levels; i += threads) shared.counts[c][i] = 0;
    });
    for (int half = square_parts / 2; half; half /= 2)
      block.each([&](int thread) {
        if (thread < half) shared.parts[thread] += shared.parts[thread + half];
      });
    const float scale = scale_of(shared.parts[0], count);
    block.each([&](int thread) {
      for (int64_t i = thread; i < count; i += threads)
        code[i] = code_of(in[i], bit_of(pad, i), is_nan(scale) ? 0.0f : scale, weights);
    });
    block.each([&](int thread) {
      for (int64_t j = thread; j < check_count; j += threads) {
        unsigned sum = 0;
        for (int e = 0; e < degree; ++e) sum += code[checks[j * degree + e]];
        add_together(&shared.counts[thread % copies][vote_of_check(static_cast<uint16_t>(sum), levels)], 1);
      }
    });
    block.each([&](int thread) {
      if (thread == 0) scales[block.index] = scale;
      for (int i = thread; i < 2 * vote_levels; i += threads) {
        int32_t sum = 0;
        for (int c = 0; c < copies; ++c) sum += shared.counts[c][i];
        counts[block.index * 2 * vote_levels + i] = sum;
      }
    });
  }
};

// One thread per row.
struct TailKernel {
  static constexpr int threads = 32;
  struct Shared {};
  const int32_t* counts;
  int64_t rows;
  const int32_t* values;
  int levels;
  double* scores;
  double* log_p;

  WM_INLINE int64_t blocks() const { return (rows + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t row = block.index * threads + thread;
      if (row < rows) log_p[row] = RademacherSum{counts + row * 2 * levels, values, levels}.log_tail(scores + row);
    });
  }
};

// Layers of checks: (count, degree, lanes).
struct Layers {
  const int32_t* members;
  int64_t count;
  int degree;

  WM_INLINE int64_t size() const { return count * degree * lanes; }
};

// One warp per latent, one thread per check of a layer.
struct BeliefsKernel {
  static constexpr int threads = lanes;
  struct Shared {
    int32_t unsatisfied;
  };
  const float* z;
  int64_t rows, count;
  const uint32_t* pad;
  const float* scales;
  const float* odds;
  Layers outer, inner;
  int passes, patience;
  float* messages;  // scratch: outer.size() + inner.size() per row
  float* totals;    // (rows, count + 1)
  int64_t* unsatisfied;

  WM_INLINE int64_t blocks() const { return rows; }

  template <int Degree>
  WM_INLINE void update(const Block<threads>& block, Shared& shared, const Layers& layers, float* total,
                        float* message) const {
    const int degree = Degree ? Degree : layers.degree;
    for (int64_t g = 0; g < layers.count; ++g) {
      const int32_t* who = layers.members + g * degree * lanes;
      float* kept = message + g * degree * lanes;
      block.each([&](int thread) {
        if (who[(degree - 1) * lanes + thread] == count) return;
        float t[max_degree], m[max_degree];
        for (int e = 0; e < degree; ++e) t[e] = total[who[e * lanes + thread]], m[e] = kept[e * lanes + thread];
        if (update_check(t, m, degree) < 0) add_together(&shared.unsatisfied, 1);
        for (int e = 0; e < degree; ++e) {
          if (who[e * lanes + thread] < count) total[who[e * lanes + thread]] = t[e];
          kept[e * lanes + thread] = m[e];
        }
      });
    }
  }

  WM_INLINE void operator()(const Block<threads>& block, Shared& shared) const {
    const float* in = z + block.index * count;
    float* total = totals + block.index * (count + 1);
    float* message = messages + block.index * (outer.size() + inner.size());
    const float scale = scales[block.index];
    block.each_of(outer.size() + inner.size(), [&](int64_t i) { message[i] = 0.0f; });
    block.each_of(count + 1, [&](int64_t i) {
      total[i] = i < count ? vote_of(odds[magnitude_of(in[i], scale)], sign_bit(in[i]) ^ bit_of(pad, i)) : blank;
    });
    int32_t best = 0x7fffffff, wrong = 0;
    for (int pass = 0, last = 0; pass < passes && pass - last <= patience; ++pass) {
      block.each([&](int thread) {
        if (thread == 0) shared.unsatisfied = 0;
      });
      update<0>(block, shared, outer, total, message);
      if (inner.degree == 3)
        update<3>(block, shared, inner, total, message + outer.size());
      else if (inner.degree == 4)
        update<4>(block, shared, inner, total, message + outer.size());
      else
        update<0>(block, shared, inner, total, message + outer.size());
      wrong = shared.unsatisfied;
      block.sync();
      if (wrong < best) best = wrong, last = pass;
      if (wrong == 0) break;
    }
    block.each([&](int thread) {
      if (thread == 0) unsatisfied[block.index] = wrong;
    });
  }
};

}  // namespace watermark::WM_ISA
