// What marks do to a row of logits, and what they read from a text. Column i of a row is token candidates[i], or token i
// where there are no candidates.
#pragma once
#include <math.h>

#include "kernels/token.hpp"

namespace watermark::WM_ISA {

constexpr float minus_infinity = -__builtin_huge_valf();
constexpr uint32_t site_token = 0xffffffffu;

// What happens to green tokens (those whose word is below the threshold): delta is added, or all others are excluded.
struct Green {
  uint32_t threshold;
  float delta;
  int hard;
};

#ifndef __CUDACC__
constexpr int64_t chunk = 512;  // columns at a time

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

// Eight logits, of which the last ones may be missing.
WM_FN f32x8 eight(const float* logits, int64_t left) {
  if (left >= 8) return load<f32x8>(logits);
  f32x8 part = f32x8{} + minus_infinity;
  for (int64_t j = 0; j < left; ++j) part[j] = logits[j];
  return part;
}

// The first of eight logits.
WM_FN void save(float* logits, f32x8 values, int64_t left) {
  if (left >= 8) return store(logits, values);
  for (int64_t j = 0; j < left; ++j) logits[j] = values[j];
}

// Where a lane of `mine` is set, delta is added to a logit, or elsewhere it becomes minus infinity.
WM_FN f32x8 biased(const Green& green, f32x8 logits, i32x8 mine) {
  if (!green.hard) return logits + bit_cast<f32x8>(bit_cast<i32x8>(f32x8{} + green.delta) & mine);
  return mine < 0 ? logits : f32x8{} + minus_infinity;
}

template <class Prf>
static inline void bias_words(const TokenKey& key, const State& s, const Green& green, const int64_t* candidates,
                              int64_t count, float* logits) {
  alignas(32) uint32_t words[chunk];
  for (int64_t base = 0; base < count; base += chunk) {
    const int64_t width = at_most(chunk, count - base);
    column_words<Prf>(key, s, candidates, base, width, words);
    for (int64_t i = 0; i < width; i += 8) {
      const i32x8 mine = load<u32x8>(words + i) < u32x8{} + green.threshold;
      save(logits + base + i, biased(green, eight(logits + base + i, width - i), mine), width - i);
    }
  }
}

template <class Prf>
static inline void bias_row(Prf, const TokenKey& key, const State& s, const Green& green, const int64_t* candidates,
                            int64_t count, float* logits) {
  bias_words<Prf>(key, s, green, candidates, count, logits);
}

// Bytes are compared where they lie, and widened after.
template <class Prf>
static inline void bias_row(Octets<Prf>, const TokenKey& key, const State& s, const Green& green, const int64_t* candidates,
                            int64_t count, float* logits) {
  if (candidates) return bias_words<Octets<Prf>>(key, s, green, candidates, count, logits);
  alignas(32) uint8_t octets[4 * Prf::block];
  const u8x8 threshold = u8x8{} + static_cast<uint8_t>(green.threshold);
  for (int64_t base = 0; base < count; base += 4 * Prf::block) {
    const int64_t width = at_most(4 * Prf::block, count - base);
    alignas(32) uint32_t words[Prf::block];
    Prf::words(key, s, static_cast<uint32_t>(base / 4), words);
    __builtin_memcpy(octets, words, sizeof words);
    for (int64_t i = 0; i < width; i += 8) {
      const i32x8 mine = __builtin_convertvector(load<u8x8>(octets + i) < threshold, i32x8);
      save(logits + base + i, biased(green, eight(logits + base + i, width - i), mine), width - i);
    }
  }
}

// What happens to colours: a word is of colour word * colours / 2^32, and delta is added where that bit of the mask is set.
// 1 to 64 colours.
struct Colours {
  uint64_t mask;
  uint32_t colours;
  float delta;
};

template <class Prf>
static inline void bias_row_colours(const TokenKey& key, const State& s, const Colours& green, const int64_t* candidates,
                                    int64_t count, float* logits) {
  alignas(32) uint32_t words[chunk];
  const uint32_t low = static_cast<uint32_t>(green.mask), high = static_cast<uint32_t>(green.mask >> 32);
  const u32x8 delta = bit_cast<u32x8>(f32x8{} + green.delta);
  for (int64_t base = 0; base < count; base += chunk) {
    const int64_t width = at_most(chunk, count - base);
    column_words<Prf>(key, s, candidates, base, width, words);
    float* row = logits + base;
    int64_t i = 0;
    for (; i + 8 <= width; i += 8) {
      u32x8 colour, rest;
      multiply(load<u32x8>(words + i), green.colours, colour, rest);
      const u32x8 upper = -(colour >> 5), half = (high & upper) | (low & ~upper);
      const u32x8 mine = -((half >> (colour & 31)) & 1);
      store(row + i, load<f32x8>(row + i) + bit_cast<f32x8>(delta & mine));
    }
    for (; i < width; ++i) {
      uint32_t colour, rest;
      multiply(words[i], green.colours, colour, rest);
      row[i] += green.mask >> colour & 1 ? green.delta : 0.0f;
    }
  }
}

// Puts entry i of a heap of columns in its place among those below it; before(a, b): a lies nearer to the root than b.
template <class Before>
static inline void sink(int64_t* columns, int64_t size, int64_t i, Before before) {
  for (;;) {
    int64_t first = i;
    for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < size; ++child)
      if (before(columns[child], columns[first])) first = child;
    if (first == i) return;
    const int64_t swap = columns[i];
    columns[i] = columns[first], columns[first] = swap, i = first;
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
      sink(columns, size, 0, [this](int64_t a, int64_t b) { return before(a, b); });
    }
  }
};

// A number that at least `most` logits reach: as many of the largest ones of 64 parts of the row do.
static inline float reached_by(const float* logits, int64_t count, int64_t most) {
  f32x8 top[8];
  for (f32x8& part : top) part = f32x8{} + minus_infinity;
  for (int64_t i = 0; i + 64 <= count; i += 64)
    for (int64_t j = 0; j < 8; ++j) {
      const f32x8 l = load<f32x8>(logits + i + 8 * j);
      top[j] = l > top[j] ? l : top[j];
    }
  float best = minus_infinity;
  for (int64_t i = 0; i < 64; ++i) {
    i32x8 reach = {};
    const float mine = top[i / 8][i % 8];
    for (const f32x8& part : top) reach -= part >= mine;
    int64_t number = 0;
    for (int j = 0; j < 8; ++j) number += reach[j];
    if (number >= most && mine > best) best = mine;
  }
  return best;
}

static inline int64_t highest_columns(const float* logits, int64_t count, int64_t most, int64_t* columns) {
  Highest heap{logits, columns, 0, most};
  const float least = reached_by(logits, count, most);
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    i32x8 high = {};
    for (int64_t j = 0; j < 32; j += 8) {
      const f32x8 l = load<f32x8>(logits + i + j);
      high |= heap.size < most ? ~(l < least) : l > logits[columns[0]];
    }
    const u64x4 any = bit_cast<u64x4>(high);
    if (any[0] | any[1] | any[2] | any[3])
      for (int64_t j = 0; j < 32; ++j)
        if (!(logits[i + j] < least)) heap.offer(i + j);
  }
  for (; i < count; ++i) heap.offer(i);
  return heap.size;
}

// Seeding `self`, in which every candidate has a state of its own: on the given columns, or on all.
template <class Prf>
static inline void bias_row_self(const TokenKey& key, const Window& window, const Green& green, const int64_t* candidates,
                                 const int64_t* columns, int64_t count, float* logits) {
  for (int64_t first = 0; first < count; first += 8) {
    const int64_t width = at_most(8, count - first);
    int64_t places[8] = {};
    u32x8 token = {};
    for (int64_t j = 0; j < width; ++j) {
      places[j] = columns ? columns[first + j] : first + j;
      token[j] = static_cast<uint32_t>(candidates ? candidates[places[j]] : places[j]);
    }
    const u32x8 word = Prf::word(key, self_state(Prf{}, key, SameWindow{window}, token), token);
    for (int64_t j = 0; j < width; ++j) {
      const bool is_green = word[j] < green.threshold;
      if (green.hard && !is_green) logits[places[j]] = minus_infinity;
      if (!green.hard && is_green) logits[places[j]] += green.delta;
    }
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

#endif

constexpr double grid = 16777217.0;  // uniform numbers are (word / 2^8 + 1) / (2^24 + 1)

// ln(-ln u) - l for the uniform number u of a word: the negated sum of a logit and a Gumbel variate.
WM_FN double gumbel_cost(uint32_t word, float logit) { return log(-log(((word >> 8) + 1) / grid)) - logit; }

// At most that, but for rounding, and by at most .1 less where it is small: E = -ln u is at least 1 - u, and log2(2^e (1 + f))
// is at least e + f, the bits of a float as an integer.
constexpr float bits_to_log = 8.2629583e-8f, log_of_grid = 104.66522f, bound_slack = 1e-3f;
WM_FN float gumbel_bound(uint32_t word, float logit) {
  const float rest = static_cast<float>(16777216 - static_cast<int32_t>(word >> 8));
  return static_cast<float>(bit_cast<int32_t>(rest)) * bits_to_log - log_of_grid - logit;
}

#ifndef __CUDACC__
// The column with the least cost, the first of equals: a sample of softmax(l) over the words (Aaronson 2022). -1 where a logit
// is NaN or plus infinity, or all are minus infinity. The bound rules out all but a few columns without a logarithm.
template <class Prf>
static inline int64_t gumbel_column(const TokenKey& key, const State& s, const int64_t* candidates, int64_t count,
                                    const float* logits) {
  alignas(32) uint32_t words[chunk];
  int64_t best = -1;
  double least = __builtin_huge_val();
  float enough = __builtin_huge_valf();
  i32x8 good = ~i32x8{};
  for (int64_t base = 0; base < count; base += chunk) {
    const int64_t width = at_most(chunk, count - base);
    column_words<Prf>(key, s, candidates, base, width, words);
    for (int64_t i = 0; i < width; i += 8) {
      const f32x8 logit = eight(logits + base + i, width - i);
      const i32x8 rest = 16777216 - bit_cast<i32x8>(load<u32x8>(words + i) >> 8);
      const i32x8 bits = bit_cast<i32x8>(__builtin_convertvector(rest, f32x8));
      const f32x8 bound = __builtin_convertvector(bits, f32x8) * bits_to_log - log_of_grid - logit;
      const u64x4 any = bit_cast<u64x4>(bound < enough);
      good &= logit < __builtin_huge_valf();
      if (!(any[0] | any[1] | any[2] | any[3])) continue;
      for (int64_t j = 0; j < 8; ++j) {
        if (!(bound[j] < enough)) continue;
        const double cost = gumbel_cost(words[i + j], logit[j]);
        if (!(cost < least)) continue;
        best = base + i + j, least = cost;
        enough = static_cast<float>(cost) + bound_slack;
      }
    }
  }
  for (int j = 0; j < 8; ++j)
    if (!good[j]) return -1;
  return best;
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

// The two-candidate tournament in closed form (Dathathri et al., Nature 2024): layer by layer p <- p (1 + g - m), m the mass
// of the columns with g = 1. `bits` holds g of layer l in bit l % 32 of plane l / 32; planes lie `stride` words apart. The sum
// of p stays `total`. Rows are padded to a multiple of 8. Three layers go into one pass over memory, which also takes the sums
// that the next three need; their order does not depend on the instruction set.
struct Tournament {
  float* p;
  const uint32_t* bits;
  int64_t stride, padded;
  int depth;

  struct Layers {  // up to three layers of one plane
    int first, count;
    WM_INLINE int shift() const { return first % 32; }
  };

  WM_INLINE Layers after(int layer) const {
    const int left = (32 - layer % 32) < depth - layer ? 32 - layer % 32 : depth - layer;
    return {layer, left < 0 ? 0 : left < 3 ? left : 3};
  }

  // Sums of p over the columns with bits (1, 2, 3, ..., 7 as a binary number, the first layer lowest).
  struct Masses {
    double of[8];
  };

  // Multiplies by the factors of some layers (of none for the first pass), and sums for the next `layers` from bit `shift` of
  // the words `then`.
  template <int layers>
  Masses pass(Layers now, f32x8 factors, const uint32_t* then, int shift) const {
    double totals[8][8] = {};
    const uint32_t* mine = bits + now.first / 32 * stride;
    const uint32_t down = static_cast<uint32_t>(now.shift());
    u32x8 up[3];
    for (int i = 0; i < layers; ++i) up[i] = u32x8{} + static_cast<uint32_t>(31 - i - shift);
    for (int64_t base = 0; base < padded; base += 1024) {
      f32x8 sums[8] = {};
      const int64_t end = at_most(base + 1024, padded);
      for (int64_t i = base; i < end; i += 8) {
        f32x8 w = load<f32x8>(p + i);
        if (now.count) {
          w *= __builtin_shuffle(factors, bit_cast<i32x8>(load<u32x8>(mine + i) >> down));
          store(p + i, w);
        }
        if constexpr (layers == 0) continue;
        const u32x8 word = load<u32x8>(then + i);
        i32x8 won[3];
        for (int j = 0; j < layers; ++j) won[j] = bit_cast<i32x8>(word << up[j]) >> 31;
        i32x8 parts[8] = {bit_cast<i32x8>(w)};
        for (int k = 1; k < 1 << layers; ++k) {
          const int last = k >= 4 ? 2 : k >= 2 ? 1 : 0;
          parts[k] = parts[k - (1 << last)] & won[last];
          sums[k] += bit_cast<f32x8>(parts[k]);
        }
      }
      for (int k = 1; k < 1 << layers; ++k)
        for (int j = 0; j < 8; ++j) totals[k][j] += static_cast<double>(sums[k][j]);
    }
    Masses m = {};
    for (int k = 1; k < 1 << layers; ++k)
      for (int j = 0; j < 8; ++j) m.of[k] += totals[k][j];
    return m;
  }

  Masses pass(Layers now, f32x8 factors, Layers next) const {
    const uint32_t* then = bits + next.first / 32 * stride;
    if (next.count == 3) return pass<3>(now, factors, then, next.shift());
    if (next.count == 2) return pass<2>(now, factors, then, next.shift());
    if (next.count == 1) return pass<1>(now, factors, then, next.shift());
    return pass<0>(now, factors, nullptr, 0);
  }

  void run(double total) const {
    Layers now = after(0);
    Masses m = pass(Layers{0, 0}, f32x8{}, now);
    while (now.count) {
      // Shares of the columns with g = 1 in each layer, once those before it are through. A layer that is none has none.
      const double a = m.of[1] / total, b = (m.of[2] * (1 - a) + m.of[3]) / total;
      const double c = (m.of[4] * (1 - a) * (1 - b) + m.of[5] * (1 - b) + m.of[6] * (1 - a) + m.of[7]) / total;
      f32x8 factors;
      for (int k = 0; k < 8; ++k) {
        const int won = k & ((1 << now.count) - 1);  // whatever the bits of further layers
        factors[k] = static_cast<float>((1 - a + (won & 1)) * (1 - b + (won >> 1 & 1)) * (1 - c + (won >> 2)));
      }
      const Layers next = after(now.first + now.count);
      m = pass(now, factors, next);
      now = next;
    }
  }
};

// Back to logits: ln p + top, so that a row keeps the sum of its exponentials and its scale beside columns that are not in it.
static inline void logarithms(const float* p, int64_t count, float top, float* logits) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) store(logits + i, logarithm(load<f32x8>(p + i)) + top);
  if (i < count) {
    const f32x8 last = logarithm(load<f32x8>(p + i)) + top;
    for (int64_t j = 0; i + j < count; ++j) logits[i + j] = last[j];
  }
}

// Columns in the order of their words, then of their numbers.
static inline void sort_columns(const uint32_t* words, int64_t* columns, int64_t count) {
  const auto after = [&](int64_t a, int64_t b) { return words[a] > words[b] || (words[a] == words[b] && a > b); };
  for (int64_t i = count / 2 - 1; i >= 0; --i) sink(columns, count, i, after);
  for (int64_t end = count - 1; end > 0; --end) {
    const int64_t swap = columns[0];
    columns[0] = columns[end], columns[end] = swap;
    sink(columns, end, 0, after);
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
// occurs first. states: one per token; slots: a power of two of more than `length` entries, all -1; sites: the words of a token
// that no vocabulary has, which depend on the context alone (none if null).
template <class Prf>
static inline void read_text(const TokenKey& key, Seeding seeding, const Window& empty, int by_context, const int64_t* text,
                             int64_t length, State* states, int32_t* slots, int64_t size, uint32_t* words, uint8_t* counts,
                             uint32_t* sites) {
  int64_t t = 0;
  const bool by_candidate = seeding == Seeding::self;
  for (; (by_candidate || seeding == Seeding::left) && t + 8 <= length; t += 8) {
    const Windows windows{{text, t, empty.width, empty.salt, empty.salts}};
    u32x8 token;
    for (int64_t j = 0; j < 8; ++j) token[j] = static_cast<uint32_t>(text[t + j]);
    const StateOf<u32x8> s = by_candidate ? self_state(Prf{}, key, windows, token) : Prf::context(key, windows);
    store(words + t, Prf::word(key, s, token));
    if (sites) store(sites + t, Prf::word(key, s, u32x8{} + site_token));
    for (int64_t j = 0; j < 8; ++j)
      for (int i = 0; i < 8; ++i) states[t + j].words[i] = s.words[i][j];
  }
  for (; t < length; ++t) {
    const Window window{text, t, empty.width, empty.salt, empty.salts};
    const uint32_t token = static_cast<uint32_t>(text[t]);
    states[t] = by_candidate ? self_state(Prf{}, key, window, token) : state_of<Prf>(key, window, seeding);
    words[t] = Prf::word(key, states[t], token);
    if (sites) sites[t] = Prf::word(key, states[t], site_token);
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

// What a word is worth to a mark: 1 below the parameter, else 0; ones among the bits that the parameter has; or -ln(1 - u), u
// the uniform number of its upper 24 bits, which lies on a grid between 0 and 1.
enum class Value : int { below, ones, exponential };

WM_FN double value_of(Value value, uint32_t parameter, uint32_t word) {
  constexpr double grid = 16777217.0;
  if (value == Value::below) return word < parameter;
  if (value == Value::ones) return __builtin_popcount(word & parameter);
  return -log((grid - 1.0 - (word >> 8)) / grid);
}

// Scores the tokens of a text that count, NaN for the others, and adds the scores up in their order. Returns how many count.
static inline int64_t score_words(Value value, uint32_t parameter, const uint32_t* words, const uint8_t* counts, int64_t length,
                                  float* scores, double* total) {
  int64_t units = 0;
  double sum = 0.0;
  for (int64_t t = 0; t < length; ++t) {
    scores[t] = __builtin_nanf("");
    if (!counts[t]) continue;
    const double score = value_of(value, parameter, words[t]);
    scores[t] = static_cast<float>(score);
    sum += score, ++units;
  }
  *total = sum;
  return units;
}
#endif

}  // namespace watermark::WM_ISA
