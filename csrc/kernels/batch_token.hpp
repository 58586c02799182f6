// Rows of logits for GPUs: what vocabulary.hpp does, by blocks of threads. States come from the host. Words, green tokens and
// chosen columns are the same bits as on the CPU; the tournament needs exp and log and agrees to rounding.
#pragma once
#include <math.h>

#include "kernels/block.hpp"
#include "kernels/vocabulary.hpp"

namespace watermark::WM_ISA {

// All words of one call of a function: unit `index` holds those of the tokens token_of(index, 0), token_of(index, 1), ...
template <class Prf>
struct Unit;

template <>
struct Unit<Philox> {
  static constexpr int size = 4;
  static WM_INLINE uint32_t token_of(uint32_t index, int i) { return 4 * index + static_cast<uint32_t>(i); }
  static WM_INLINE void words(const TokenKey& key, const State& s, uint32_t index, uint32_t (&out)[size]) {
    out[0] = index, out[1] = s.words[0], out[2] = s.words[1], out[3] = s.words[2];
    philox(out, key.words[0] ^ s.words[3], key.words[1] ^ Philox::token_domain);
  }
};

template <>
struct Unit<Sbw> {
  static constexpr int size = 4;
  static WM_INLINE uint32_t token_of(uint32_t index, int i) { return 4 * index + static_cast<uint32_t>(i); }
  static WM_INLINE void words(const TokenKey&, const State& s, uint32_t index, uint32_t (&out)[size]) {
    out[0] = index, out[1] = out[2] = out[3] = 0;
    philox(out, s.words[0], s.words[1]);
    for (uint32_t& word : out) word <<= 1;
  }
};

template <>
struct Unit<ChaCha8> {
  static constexpr int size = 16;
  static WM_INLINE uint32_t token_of(uint32_t index, int i) { return index / 8 * 128 + 8 * static_cast<uint32_t>(i) + index % 8; }
  static WM_INLINE void words(const TokenKey&, const State& s, uint32_t index, uint32_t (&out)[size]) {
    chacha_block<4>(ChaCha8::candidates(s), index, out);
  }
};

template <class Prf>
struct Unit<Octets<Prf>> {
  static constexpr int size = 4 * Unit<Prf>::size;
  static WM_INLINE uint32_t token_of(uint32_t index, int i) { return 4 * Unit<Prf>::token_of(index, i / 4) + static_cast<uint32_t>(i % 4); }
  static WM_INLINE void words(const TokenKey& key, const State& s, uint32_t index, uint32_t (&out)[size]) {
    uint32_t packed[Unit<Prf>::size];
    Unit<Prf>::words(key, s, index, packed);
    for (int i = 0; i < size; ++i) out[i] = (packed[i / 4] >> (i % 4 * 8)) & 255;
  }
};

// Rows whose column i is token i, or candidates[i] of one row for all or one each (candidate_rows 1, else rows; 0: none).
struct Rows {
  const uint32_t* states;
  int64_t rows, columns, stride;
  const int64_t* candidates;
  int64_t candidate_rows;

  WM_INLINE const int64_t* tokens(int64_t row) const {
    return candidate_rows ? candidates + (candidate_rows == 1 ? 0 : row) * columns : nullptr;
  }
  WM_INLINE State state(int64_t row) const {
    State s;
    for (int i = 0; i < 8; ++i) s.words[i] = states[8 * row + i];
    return s;
  }
};

// Calls f(column, word) for the columns of a row that belong to thread `item` of `items`.
template <class Prf, class F>
WM_FN void own_columns(const TokenKey& key, const Rows& rows, int64_t row, int64_t item, int64_t items, F f) {
  const State s = rows.state(row);
  if (const int64_t* tokens = rows.tokens(row)) {
    for (int64_t i = item; i < rows.columns; i += items) f(i, Prf::word(key, s, static_cast<uint32_t>(tokens[i])));
    return;
  }
  constexpr int size = Unit<Prf>::size;
  const int64_t groups = (rows.columns + 8 * size - 1) / (8 * size) * 8;  // of ChaCha's blocks eight lie together
  for (int64_t index = item; index < groups; index += items) {
    uint32_t words[size];
    Unit<Prf>::words(key, s, static_cast<uint32_t>(index), words);
    for (int i = 0; i < size; ++i) {
      const int64_t column = Unit<Prf>::token_of(static_cast<uint32_t>(index), i);
      if (column < rows.columns) f(column, words[i]);
    }
  }
}

// Numbers of two bytes, rounded to nearest, ties to even.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

WM_FN float to_float(float x) { return x; }
WM_FN float to_float(BFloat16 x) { return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
WM_FN float to_float(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, body = x.bits & 0x7fffu;
  if (body >= 0x7c00u) return bit_cast<float>(sign | 0x7f800000u | (body & 0x3ffu) << 13);
  // A product with 2^112 shifts the exponent, and turns what is subnormal here into what is normal there.
  return bit_cast<float>(sign | bit_cast<uint32_t>(bit_cast<float>(body << 13) * 5.192296858534828e33f));
}

WM_FN void to_number(float x, float& out) { out = x; }
WM_FN void to_number(float x, BFloat16& out) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out.bits = static_cast<uint16_t>(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
WM_FN void to_number(float x, Float16& out) {
  const uint32_t bits = bit_cast<uint32_t>(x), body = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
  uint32_t half;
  if (body > 0x7f800000u) half = 0x7e00u;
  else if (body >= 0x47800000u) half = 0x7c00u;                                                      // 65536 and more
  else if (body < 0x38800000u) half = bit_cast<uint32_t>(bit_cast<float>(body) + 0.5f) - 0x3f000000u;  // steps of 2^-24
  else half = (body - 0x38000000u + 0xfffu + (body >> 13 & 1u)) >> 13;
  out.bits = static_cast<uint16_t>(sign | half);
}

constexpr int64_t parts_of_row = 16;

template <class T, class Prf>
struct BiasKernel {
  static constexpr int threads = 256;
  struct Shared {};
  TokenKey key;
  Rows rows;
  Green green;
  T* logits;

  WM_INLINE int64_t blocks() const { return rows.rows * parts_of_row; }
  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    const int64_t row = block.index / parts_of_row, part = block.index % parts_of_row;
    T* out = logits + row * rows.stride;
    block.each([&](int thread) {
      own_columns<Prf>(key, rows, row, part * threads + thread, parts_of_row * threads, [&](int64_t column, uint32_t word) {
        const bool mine = word < green.threshold;
        if (mine && !green.hard) to_number(to_float(out[column]) + green.delta, out[column]);
        if (!mine && green.hard) to_number(minus_infinity, out[column]);
      });
    });
  }
};

template <class Prf>
struct WordsKernel {
  static constexpr int threads = 256;
  struct Shared {};
  TokenKey key;
  Rows rows;
  uint32_t* out;  // rows of `stride` words

  WM_INLINE int64_t blocks() const { return rows.rows * parts_of_row; }
  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    const int64_t row = block.index / parts_of_row, part = block.index % parts_of_row;
    block.each([&](int thread) {
      own_columns<Prf>(key, rows, row, part * threads + thread, parts_of_row * threads,
                       [&](int64_t column, uint32_t word) { out[row * rows.stride + column] = word; });
    });
  }
};

// The best column of one part of a row; -2 if a logit is NaN or plus infinity.
struct Choice {
  double cost;
  int64_t column;
};

WM_FN bool before(const Choice& a, const Choice& b) {
  if (a.column == -2 || b.column == -2) return a.column == -2;
  return a.column >= 0 && (b.column < 0 || a.cost < b.cost || (a.cost == b.cost && a.column < b.column));
}

template <class T, class Prf>
struct GumbelKernel {
  static constexpr int threads = 256;
  struct Shared {
    Choice best[threads];
  };
  TokenKey key;
  Rows rows;
  const T* logits;
  Choice* out;  // (rows, parts_of_row)

  WM_INLINE int64_t blocks() const { return rows.rows * parts_of_row; }
  WM_INLINE void operator()(const Block<threads>& block, Shared& shared) const {
    const int64_t row = block.index / parts_of_row, part = block.index % parts_of_row;
    block.each([&](int thread) {
      Choice best{__builtin_huge_val(), -1};
      float enough = __builtin_huge_valf();
      own_columns<Prf>(key, rows, row, part * threads + thread, parts_of_row * threads, [&](int64_t column, uint32_t word) {
        const float logit = to_float(logits[row * rows.stride + column]);
        if (!(logit < __builtin_huge_valf())) best.column = -2;
        if (best.column == -2 || !(gumbel_bound(word, logit) < enough)) return;
        const Choice mine{gumbel_cost(word, logit), column};
        if (mine.cost < __builtin_huge_val() && before(mine, best)) best = mine, enough = static_cast<float>(mine.cost) + bound_slack;
      });
      shared.best[thread] = best;
    });
    for (int half = threads / 2; half; half /= 2)
      block.each([&](int thread) {
        if (thread < half && before(shared.best[thread + half], shared.best[thread])) shared.best[thread] = shared.best[thread + half];
      });
    block.each([&](int thread) {
      if (thread == 0) out[block.index] = shared.best[0];
    });
  }
};

// Leaves 0 at the best column of all parts and minus infinity elsewhere, up to `width`; columns gets it, or -1.
template <class T>
struct ChooseKernel {
  static constexpr int threads = 256;
  struct Shared {};
  const Choice* parts;
  int64_t rows, stride, width;
  T* logits;
  int64_t* columns;

  WM_INLINE int64_t blocks() const { return rows * parts_of_row; }
  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    const int64_t row = block.index / parts_of_row, part = block.index % parts_of_row;
    Choice best = parts[row * parts_of_row];
    for (int64_t i = 1; i < parts_of_row; ++i)
      if (before(parts[row * parts_of_row + i], best)) best = parts[row * parts_of_row + i];
    block.each([&](int thread) {
      if (part == 0 && thread == 0) columns[row] = best.column < 0 ? -1 : best.column;
      if (best.column < 0) return;
      for (int64_t i = part * threads + thread; i < width; i += parts_of_row * threads)
        to_number(i == best.column ? 0.0f : minus_infinity, logits[row * stride + i]);
    });
  }
};

// One block per row; see Tournament in vocabulary.hpp. words: rows of `word_stride` words; p: scratch of the same shape.
template <class T>
struct TournamentKernel {
  static constexpr int threads = 512;
  struct Shared {
    float parts[8][threads];
    double of[8];
    float factors[8];
    double total;
    float top;
    int bad;
  };
  const uint32_t* words;
  int64_t rows, columns, stride, word_stride;
  int depth;
  T* logits;
  float* p;
  uint8_t* done;

  WM_INLINE int64_t blocks() const { return rows; }

  // Sums the first `count` of shared.parts over the threads into shared.of.
  WM_INLINE void reduce(const Block<threads>& block, Shared& shared, int count) const {
    for (int half = threads / 2; half; half /= 2)
      block.each([&](int thread) {
        if (thread < half)
          for (int k = 0; k < count; ++k) shared.parts[k][thread] += shared.parts[k][thread + half];
      });
    block.each([&](int thread) {
      if (thread < count) shared.of[thread] = static_cast<double>(shared.parts[thread][0]);
    });
  }

  WM_INLINE void operator()(const Block<threads>& block, Shared& shared) const {
    const int64_t row = block.index;
    T* out = logits + row * stride;
    float* w = p + row * word_stride;
    const uint32_t* bits = words + row * word_stride;
    block.each([&](int thread) {
      float top = minus_infinity, bad = 0.0f;
      for (int64_t i = thread; i < columns; i += threads) {
        const float l = to_float(out[i]);
        if (!(l < __builtin_huge_valf())) bad = 1.0f;
        top = l > top ? l : top;
      }
      shared.parts[0][thread] = top, shared.parts[1][thread] = bad;
    });
    for (int half = threads / 2; half; half /= 2)
      block.each([&](int thread) {
        if (thread >= half) return;
        if (shared.parts[0][thread + half] > shared.parts[0][thread]) shared.parts[0][thread] = shared.parts[0][thread + half];
        shared.parts[1][thread] += shared.parts[1][thread + half];
      });
    block.each([&](int thread) {
      if (thread) return;
      shared.top = shared.parts[0][0];
      shared.bad = shared.parts[1][0] > 0.0f || !(shared.top > minus_infinity);
      done[row] = !shared.bad;
    });
    const bool bad = shared.bad;
    block.sync();
    if (bad) return;
    block.each([&](int thread) {
      float sum = 0.0f;
      for (int64_t i = thread; i < columns; i += threads) {
        w[i] = expf(to_float(out[i]) - shared.top);
        sum += w[i];
      }
      shared.parts[0][thread] = sum;
    });
    reduce(block, shared, 1);
    const double total = shared.of[0];
    block.sync();
    for (int layer = 0;; layer += 3) {  // multiplies for the three layers before, sums for the three from here on
      block.each([&](int thread) {
        float sums[8] = {};
        for (int64_t i = thread; i < columns; i += threads) {
          if (layer) w[i] *= shared.factors[wins(bits[i], layer - 3)];
          const uint32_t won = wins(bits[i], layer);
          for (uint32_t k = 1; k < 8; ++k)
            if ((won & k) == k) sums[k] += w[i];
        }
        for (int k = 0; k < 8; ++k) shared.parts[k][thread] = sums[k];
      });
      if (layer >= depth) break;
      reduce(block, shared, 8);
      block.each([&](int thread) {
        if (thread) return;
        const double* m = shared.of;
        const double a = m[1] / total, b = (m[2] * (1 - a) + m[3]) / total;
        const double c = (m[4] * (1 - a) * (1 - b) + m[5] * (1 - b) + m[6] * (1 - a) + m[7]) / total;
        for (int k = 0; k < 8; ++k)
          shared.factors[k] = static_cast<float>((1 - a + (k & 1)) * (1 - b + (k >> 1 & 1)) * (1 - c + (k >> 2)));
      });
    }
    block.each([&](int thread) {
      for (int64_t i = thread; i < columns; i += threads)
        to_number(w[i] > 0.0f ? logf(w[i]) + shared.top : minus_infinity, out[i]);
    });
  }

  // The three bits of a word from `layer` on; none beyond the last layer.
  WM_INLINE uint32_t wins(uint32_t word, int layer) const {
    if (layer >= depth) return 0;
    return word >> layer & (depth - layer >= 3 ? 7u : (1u << (depth - layer)) - 1);
  }
};

}  // namespace watermark::WM_ISA
