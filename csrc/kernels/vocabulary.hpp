// What marks do to a row of logits, and what they read from a text. Column i of a row is token candidates[i], or token i
// where there are no candidates.
#pragma once
#include <math.h>

#include "kernels/token.hpp"

namespace watermark::WM_ISA {

#ifndef __CUDACC__
constexpr int64_t chunk = 128;  // columns at a time
constexpr float minus_infinity = -__builtin_huge_valf();

// Words of the `count` columns from `base`, a multiple of `chunk`. Writes up to `chunk` words.
template <class Prf>
static inline void column_words(const TokenKey& key, const State& s, const int64_t* candidates, int64_t base,
                                int64_t count, uint32_t* out) {
  if (!candidates) {
    for (int64_t i = 0; i < count; i += Prf::block) Prf::words(key, s, static_cast<uint32_t>(base + i), out + i);
    return;
  }
  for (int64_t i = 0; i < count; i += 8) {
    uint32_t tokens[8] = {};
    for (int64_t j = 0; j < 8 && i + j < count; ++j) tokens[j] = static_cast<uint32_t>(candidates[base + i + j]);
    store(out + i, Prf::gather(key, s, load<u32x8>(tokens)));
  }
}

WM_FN int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

// What happens to green tokens (those whose word is below the threshold): delta is added, or all others are excluded.
struct Green {
  uint32_t threshold;
  float delta;
  int hard;
};

template <class Prf>
static inline void bias_row(const TokenKey& key, const State& s, const Green& green, const int64_t* candidates,
                            int64_t count, float* logits) {
  alignas(32) uint32_t words[chunk];
  for (int64_t base = 0; base < count; base += chunk) {
    const int64_t width = at_most(chunk, count - base);
    column_words<Prf>(key, s, candidates, base, width, words);
    float* row = logits + base;
    int64_t i = 0;
    if (green.hard) {
      for (; i < width; ++i)
        if (!(words[i] < green.threshold)) row[i] = minus_infinity;
      continue;
    }
    const u32x8 delta = bit_cast<u32x8>(f32x8{} + green.delta), threshold = u32x8{} + green.threshold;
    for (; i + 8 <= width; i += 8) {
      const u32x8 mine = bit_cast<u32x8>(load<u32x8>(words + i) < threshold);
      store(row + i, load<f32x8>(row + i) + bit_cast<f32x8>(delta & mine));
    }
    for (; i < width; ++i) row[i] += words[i] < green.threshold ? green.delta : 0.0f;
  }
}

// The `most` columns with the highest logits, earlier ones first among equals. `columns` is a heap whose root is the least.
struct Highest {
  const float* logits;
  int64_t* columns;
  int64_t size, most;

  WM_INLINE bool before(int64_t a, int64_t b) const {  // a is let go before b
    return logits[a] < logits[b] || (logits[a] == logits[b] && a > b);
  }
  WM_INLINE void sink(int64_t i) {
    for (;;) {
      int64_t least = i;
      for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < size; ++child)
        if (before(columns[child], columns[least])) least = child;
      if (least == i) return;
      const int64_t swap = columns[i];
      columns[i] = columns[least], columns[least] = swap, i = least;
    }
  }
  WM_INLINE void offer(int64_t column) {
    if (size < most) {
      int64_t i = size++;
      columns[i] = column;
      for (; i > 0 && before(columns[i], columns[(i - 1) / 2]); i = (i - 1) / 2) {
        const int64_t swap = columns[i];
        columns[i] = columns[(i - 1) / 2], columns[(i - 1) / 2] = swap;
      }
    } else if (before(columns[0], column)) {
      columns[0] = column;
      sink(0);
    }
  }
};

static inline int64_t highest_columns(const float* logits, int64_t count, int64_t most, int64_t* columns) {
  Highest heap{logits, columns, 0, most};
  int64_t i = 0;
  for (; i < count && heap.size < most; ++i) heap.offer(i);
  for (; i + 8 <= count; i += 8) {
    const i32x8 higher = load<f32x8>(logits + i) > f32x8{} + logits[columns[0]];
    const u64x4 any = bit_cast<u64x4>(higher);
    if (any[0] | any[1] | any[2] | any[3])
      for (int64_t j = 0; j < 8; ++j) heap.offer(i + j);
  }
  for (; i < count; ++i) heap.offer(i);
  return heap.size;
}

// Seeding `self`, in which every candidate has a state of its own: on the given columns, or on all.
template <class Prf>
static inline void bias_row_self(const TokenKey& key, const Window& window, const Green& green, const int64_t* candidates,
                                 const int64_t* columns, int64_t count, float* logits) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t column = columns ? columns[i] : i, token = candidates ? candidates[column] : column;
    const uint32_t word = Prf::word(key, self_state<Prf>(key, window, token), static_cast<uint32_t>(token));
    const bool is_green = word < green.threshold;
    if (green.hard && !is_green) logits[column] = minus_infinity;
    if (!green.hard && is_green) logits[column] += green.delta;
  }
}

// exp(x) for x <= 0, to 2e-7; 0 below -87.
WM_FN f32x8 exponential(f32x8 x) {
  const i32x8 normal = x > -87.0f;
  x = bit_cast<f32x8>(bit_cast<i32x8>(x) & normal);  // also keeps infinities and their products out
  const f32x8 y = x * 1.44269504f;
  const i32x8 n = __builtin_convertvector(y - 0.5f, i32x8);
  const f32x8 k = __builtin_convertvector(n, f32x8);
  const f32x8 r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  f32x8 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const f32x8 power = bit_cast<f32x8>((n + 127) << 23);
  return bit_cast<f32x8>(bit_cast<i32x8>(p * power) & normal);
}

// ln(x) for normal x > 0, to 1e-7 of the larger of 1 and its size; minus infinity for anything smaller.
WM_FN f32x8 logarithm(f32x8 x) {
  const i32x8 normal = x >= 1.17549435e-38f;
  const i32x8 bits = bit_cast<i32x8>(x) - 0x3f3504f3;  // sqrt(1/2) starts a binade
  const f32x8 e = __builtin_convertvector(bits >> 23, f32x8);
  const f32x8 m = bit_cast<f32x8>((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
  f32x8 p = m * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const f32x8 z = m * m;
  const f32x8 y = (p * m * z - e * 2.12194440e-4f) - z * 0.5f + m + e * 0.693359375f;
  const f32x8 none = f32x8{} + minus_infinity;
  return bit_cast<f32x8>((bit_cast<i32x8>(y) & normal) | (bit_cast<i32x8>(none) & ~normal));
}

// The largest logit; NaN if one is NaN or plus infinity, minus infinity if there is no other.
static inline float largest(const float* logits, int64_t count) {
  f32x8 top = f32x8{} + minus_infinity;
  i32x8 bad = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const f32x8 l = load<f32x8>(logits + i);
    bad |= ~(l < __builtin_huge_valf());
    top = l > top ? l : top;
  }
  float best = minus_infinity;
  int32_t wrong = 0;
  for (int j = 0; j < 8; ++j) best = top[j] > best ? top[j] : best, wrong |= bad[j];
  for (; i < count; ++i) {
    wrong |= !(logits[i] < __builtin_huge_valf());
    best = logits[i] > best ? logits[i] : best;
  }
  return wrong ? __builtin_nanf("") : best;
}

// Eight logits, of which the last ones may be missing.
WM_FN f32x8 eight(const float* logits, int64_t left) {
  if (left >= 8) return load<f32x8>(logits);
  f32x8 part = f32x8{} + minus_infinity;
  for (int64_t j = 0; j < left; ++j) part[j] = logits[j];
  return part;
}

constexpr double grid = 16777217.0;  // uniform numbers are (word / 2^8 + 1) / (2^24 + 1)

// ln(-ln u) for the uniform number of a word: a Gumbel variate, negated.
WM_FN double gumbel_cost(uint32_t word) { return log(-log(((word >> 8) + 1) / grid)); }

// The column that maximises l - ln(-ln u): a sample of softmax(l) over the words (Aaronson 2022). -1 where logits are not
// numbers or all are minus infinity. E = -ln u is exponential and the least E / p wins; as E >= 1 - u, all but a few columns
// are ruled out without a logarithm.
template <class Prf>
static inline int64_t gumbel_column(const TokenKey& key, const State& s, const int64_t* candidates, int64_t count,
                                    const float* logits) {
  const float top = largest(logits, count);
  if (!(top > minus_infinity)) return -1;
  alignas(32) uint32_t words[chunk];
  int64_t best = -1;
  double least = 0.0;
  float bound = __builtin_huge_valf();
  for (int64_t base = 0; base < count; base += chunk) {
    const int64_t width = at_most(chunk, count - base);
    column_words<Prf>(key, s, candidates, base, width, words);
    for (int64_t i = 0; i < width; i += 8) {
      const f32x8 part = eight(logits + base + i, width - i);
      const f32x8 p = exponential(part - top);
      const i32x8 rest = 16777216 - bit_cast<i32x8>(load<u32x8>(words + i) >> 8);
      const i32x8 open = __builtin_convertvector(rest, f32x8) <= p * bound;
      const u64x4 any = bit_cast<u64x4>(open);
      if (!(any[0] | any[1] | any[2] | any[3])) continue;
      for (int64_t j = 0; j < 8; ++j) {
        if (!open[j] || part[j] == minus_infinity) continue;
        const double cost = gumbel_cost(words[i + j]) - (static_cast<double>(part[j]) - top);
        if (best >= 0 && !(cost < least)) continue;
        best = base + i + j, least = cost;
        bound = static_cast<float>(exp(cost) * grid * 1.001);
      }
    }
  }
  if (best >= 0) return best;
  for (int64_t i = 0; i < count; ++i)  // every weight but this one underflows
    if (logits[i] == top) return i;
  return -1;
}

// p = exp(l - top) over the row, padded with zeros to a multiple of 8; returns their sum.
static inline double weights_of(const float* logits, int64_t count, float top, float* p) {
  double sums[8] = {};
  for (int64_t base = 0; base < count; base += 1024) {
    f32x8 sum = {};
    const int64_t end = at_most(base + 1024, count);
    for (int64_t i = base; i < end; i += 8) {
      const f32x8 w = exponential(eight(logits + i, end - i) - top);
      store(p + i, w);
      sum += w;
    }
    for (int j = 0; j < 8; ++j) sums[j] += static_cast<double>(sum[j]);
  }
  double total = 0.0;
  for (int j = 0; j < 8; ++j) total += sums[j];
  return total;
}

// Sums of p over the columns that win in one layer, in the next, and in both; their order does not depend on the instruction
// set.
struct Masses {
  double sums[3];
};

// The two-candidate tournament in closed form (Dathathri et al., Nature 2024): layer by layer p <- p (1 + g - m), m the mass
// of the columns with g = 1. `bits` holds g of layer l in bit l % 32 of plane l / 32; planes lie `stride` words apart. Two
// layers go into one pass, which also takes the sums that the next pass needs. The sum of p stays `total`. Rows are padded to
// a multiple of 8.
struct Tournament {
  float* p;
  const uint32_t* bits;
  int64_t stride, padded;
  int depth;

  // Eight columns: negative where they win in this layer; none does beyond the last.
  WM_INLINE i32x8 signs(int layer, int64_t i) const {
    if (layer >= depth) return i32x8{};
    return bit_cast<i32x8>(load<u32x8>(bits + layer / 32 * stride + i) << (31 - layer % 32));
  }

  // Multiplies by the factors of layers `layer` and `layer` + 1 (none if it is negative), sums for the two that follow.
  Masses pass(int layer, const float (&factors)[4]) const {
    double totals[3][8] = {};
    f32x8 f[4];
    for (int i = 0; i < 4; ++i) f[i] = f32x8{} + factors[i];
    for (int64_t base = 0; base < padded; base += 1024) {
      f32x8 first = {}, second = {}, both = {};
      const int64_t end = at_most(base + 1024, padded);
      for (int64_t i = base; i < end; i += 8) {
        f32x8 w = load<f32x8>(p + i);
        if (layer >= 0) {
          const i32x8 a = signs(layer, i), b = signs(layer + 1, i);
          const f32x8 with = a < 0 ? f[3] : f[2], without = a < 0 ? f[1] : f[0];
          w *= b < 0 ? with : without;
          store(p + i, w);
        }
        const i32x8 a = signs(layer + 2 - (layer < 0), i) >> 31, b = signs(layer + 3 - (layer < 0), i) >> 31;
        const i32x8 x = bit_cast<i32x8>(w) & a;
        first += bit_cast<f32x8>(x), second += bit_cast<f32x8>(bit_cast<i32x8>(w) & b), both += bit_cast<f32x8>(x & b);
      }
      for (int j = 0; j < 8; ++j) {
        totals[0][j] += static_cast<double>(first[j]);
        totals[1][j] += static_cast<double>(second[j]);
        totals[2][j] += static_cast<double>(both[j]);
      }
    }
    Masses m = {};
    for (int k = 0; k < 3; ++k)
      for (int j = 0; j < 8; ++j) m.sums[k] += totals[k][j];
    return m;
  }

  void run(double total) const {
    const float none[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    Masses m = pass(-1, none);
    for (int layer = 0; layer < depth; layer += 2) {
      // Shares of the columns with g = 1 in this layer, and in the next once this one is through.
      const double a = m.sums[0] / total, b = (m.sums[1] * (1.0 - a) + m.sums[2]) / total;
      const double second = layer + 1 < depth ? 1.0 - b : 1.0, won = layer + 1 < depth ? 2.0 - b : 1.0;
      const float factors[4] = {static_cast<float>((1.0 - a) * second), static_cast<float>((2.0 - a) * second),
                                static_cast<float>((1.0 - a) * won), static_cast<float>((2.0 - a) * won)};
      m = pass(layer, factors);
    }
  }
};

static inline void logarithms(const float* p, int64_t count, double total, float* logits) {
  const float scale = static_cast<float>(1.0 / total);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) store(logits + i, logarithm(load<f32x8>(p + i) * scale));
  if (i < count) {
    const f32x8 last = logarithm(load<f32x8>(p + i) * scale);
    for (int64_t j = 0; i + j < count; ++j) logits[i + j] = last[j];
  }
}

// Columns in the order of their words, then of their numbers.
static inline void sort_columns(const uint32_t* words, int64_t* columns, int64_t count) {
  const auto before = [&](int64_t a, int64_t b) { return words[a] < words[b] || (words[a] == words[b] && a < b); };
  const auto sink = [&](int64_t i, int64_t end) {
    for (;;) {
      int64_t last = i;
      for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < end; ++child)
        if (before(columns[last], columns[child])) last = child;
      if (last == i) return;
      const int64_t swap = columns[i];
      columns[i] = columns[last], columns[last] = swap, i = last;
    }
  };
  for (int64_t i = count / 2 - 1; i >= 0; --i) sink(i, count);
  for (int64_t end = count - 1; end > 0; --end) {
    const int64_t swap = columns[0];
    columns[0] = columns[end], columns[end] = swap;
    sink(0, end);
  }
}

// Reweighting of a distribution whose columns lie in the order of their words (Wu et al., "DiPmark", 2024): with F the
// distribution function, F' = max(F - alpha, 0) + max(F - (1 - alpha), 0). Two columns at most straddle a corner. p: weights
// of sum `total`; scratch: `buckets` doubles and `count` column numbers.
constexpr int64_t buckets = 4096;  // as the binding allots

static inline void reweight_row(const uint32_t* words, const float* p, int64_t count, double total, double alpha,
                                float* logits, double* masses, int64_t* columns) {
  for (int64_t b = 0; b < buckets; ++b) masses[b] = 0.0;
  for (int64_t i = 0; i < count; ++i) masses[words[i] >> 20] += static_cast<double>(p[i]);
  const double corners[2] = {alpha * total, (1.0 - alpha) * total};
  int64_t at[2] = {buckets - 1, buckets - 1};
  double below[2] = {0.0, 0.0}, sum = 0.0;
  bool found[2] = {false, false};
  for (int64_t b = 0; b < buckets; ++b) {
    for (int c = 0; c < 2; ++c)
      if (!found[c] && sum + masses[b] > corners[c]) at[c] = b, below[c] = sum, found[c] = true;
    sum += masses[b];
  }
  for (int c = 0; c < 2; ++c)
    if (!found[c]) below[c] = sum - masses[at[c]];
  const float log_two = 0.69314718f;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t b = words[i] >> 20;
    if (b == at[0] || b == at[1]) continue;
    if (b < at[0]) logits[i] = minus_infinity;
    else if (b > at[1]) logits[i] += log_two;
  }
  for (int c = 0; c < 2; ++c) {
    if (c == 1 && at[1] == at[0]) break;
    int64_t size = 0;
    for (int64_t i = 0; i < count; ++i)
      if (static_cast<int64_t>(words[i] >> 20) == at[c]) columns[size++] = i;
    sort_columns(words, columns, size);
    double start = below[c];
    for (int64_t i = 0; i < size; ++i) {
      const int64_t column = columns[i];
      const double w = static_cast<double>(p[column]), end = start + w;
      const auto reached = [&](double x) {
        return (x > corners[0] ? x - corners[0] : 0.0) + (x > corners[1] ? x - corners[1] : 0.0);
      };
      const double kept = reached(end) - reached(start);
      if (!(kept > 0.0)) logits[column] = w > 0.0 || start < corners[0] ? minus_infinity : logits[column];
      else logits[column] += static_cast<float>(log(kept / w));
      start = end;
    }
  }
}

// Reads a text: the word of every token, and whether it counts: a unit (state and token), or a context (state), counts where it
// occurs first. states: one per token; slots: a power of two of more than `length` entries, all -1.
template <class Prf>
static inline void read_text(const TokenKey& key, Seeding seeding, const Window& empty, int by_context, const int64_t* text,
                             int64_t length, State* states, int32_t* slots, int64_t size, uint32_t* words, uint8_t* counts) {
  int64_t t = 0;
  for (; seeding == Seeding::left && t + 8 <= length; t += 8) {
    const Window first{text, t, empty.width, empty.salt, empty.salts};
    u32x8 token;
    for (int64_t j = 0; j < 8; ++j) token[j] = static_cast<uint32_t>(text[t + j]);
    const StateOf<u32x8> s = Prf::context(key, Windows{first});
    store(words + t, Prf::word(key, s, token));
    for (int64_t j = 0; j < 8; ++j)
      for (int i = 0; i < 8; ++i) states[t + j].words[i] = s.words[i][j];
  }
  for (; t < length; ++t) {
    const Window window{text, t, empty.width, empty.salt, empty.salts};
    states[t] = seeding == Seeding::self ? self_state<Prf>(key, window, text[t]) : state_of<Prf>(key, window, seeding);
    words[t] = Prf::word(key, states[t], static_cast<uint32_t>(text[t]));
  }
  for (t = 0; t < length; ++t) {
    uint64_t h = by_context ? 0 : static_cast<uint32_t>(text[t]);
    for (int i = 0; i < 4; ++i) h = (h ^ states[t].words[i]) * 0x9E3779B97F4A7C15u, h ^= h >> 32;
    counts[t] = Prf::keyed(states[t]);
    if (!counts[t]) continue;
    for (int64_t at = static_cast<int64_t>(h) & (size - 1);; at = (at + 1) & (size - 1)) {
      const int32_t other = slots[at];
      if (other < 0) {
        slots[at] = static_cast<int32_t>(t);
        break;
      }
      bool same = by_context || text[other] == text[t];
      for (int i = 0; i < 8; ++i) same &= states[other].words[i] == states[t].words[i];
      if (same) {
        counts[t] = 0;
        break;
      }
    }
  }
}
#endif

}  // namespace watermark::WM_ISA
