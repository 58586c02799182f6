// Sparse parity checks over the coordinates of a latent: encoding, the syndrome test, and belief propagation. A check is
// a row of coordinates whose code bits add up to zero. Single source: V is float (scalar, GPU) or f32x8.
#pragma once
#include "kernels/sign_pad.hpp"

namespace watermark::WM_ISA {

constexpr int lanes = 32;        // checks of a layer: they share no coordinate, so their order does not matter
constexpr int max_degree = 16;   // coordinates of a check
constexpr int magnitudes = 256;  // steps of |z|, 1/64 of the root mean square each
constexpr int vote_levels = 64;  // weights that a check can have in the syndrome test
constexpr int square_parts = 256;  // interleaved partial sums of squares
constexpr float blank = 30.0f;   // certainty of the coordinate that fills up a check or a layer

// ---- The syndrome test

WM_FN double square_of(float z) { return static_cast<double>(z) * static_cast<double>(z); }

WM_FN bool is_nan(float x) { return (bit_cast<uint32_t>(x) & 0x7fffffffu) > 0x7f800000u; }

// Steps per unit such that the root mean square has 64; 0 for zeros, NaN where a value is not finite.
WM_FN float scale_of(double sum_of_squares, int64_t count) {
  if (sum_of_squares == 0.0) return 0.0f;
  const double scale = 64.0 / __builtin_sqrt(sum_of_squares / static_cast<double>(count));
  return scale > 0.0 ? static_cast<float>(scale < 1e38 ? scale : 1e38) : __builtin_nanf("");
}

// What a coordinate brings to its checks: bit 15 is the sign of z (-1)^pad, the rest its weight's logarithm. Codes of a
// check add up: signs modulo 2, logarithms as they are.
WM_FN int magnitude_of(float z, float scale) {
  const float size = bit_cast<float>(bit_cast<uint32_t>(z) & 0x7fffffffu) * scale;
  return size < magnitudes - 1 ? static_cast<int>(size) : magnitudes - 1;
}
WM_FN uint16_t code_of(float z, uint32_t pad, float scale, const uint16_t* weights) {
  return static_cast<uint16_t>(weights[magnitude_of(z, scale)] | ((sign_bit(z) ^ pad) << 15));
}
// Where a check is counted: its level, and 64 on top if its sign is minus.
WM_FN int vote_of_check(uint16_t code, const uint8_t* levels) { return levels[code & 0x7fff] | (code >> 15) * vote_levels; }

// ---- Belief propagation in logarithms of odds, ln P(0) / P(1)

template <class V>
struct Bits {
  using type = int32_t;
};
#ifndef __CUDACC__
template <>
struct Bits<f32x8> {
  using type = i32x8;
};
WM_FN f32x8 to_float(i32x8 v) { return __builtin_convertvector(v, f32x8); }
#endif
WM_FN float to_float(int32_t v) { return static_cast<float>(v); }

// tanh(x / 2) = above / below, by the seventh convergent of Lambert's continued fraction; constant beyond |x| = 9.
template <class V>
struct Ratio {
  V above, below;
};
template <class V>
WM_FN Ratio<V> operator*(Ratio<V> a, Ratio<V> b) {
  return {a.above * b.above, a.below * b.below};
}
template <class V>
WM_FN Ratio<V> tanh_half(V x) {
  const V most = V{} + 4.5f;
  V y = x * 0.5f;
  y = y > most ? most : y;
  y = y < -most ? -most : y;
  const V q = y * y;
  return {y * (((q * 7.40000740e-6f + 2.79720280e-3f) * q + 0.128205128f) * q + 1.0f),
          ((q * 2.07200207e-4f + 2.33100233e-2f) * q + 0.461538462f) * q + 1.0f};
}

// 2 atanh(m) = ln((1 + m) / (1 - m)) for |m| < 1: exponent and a polynomial of ln(1 + x) / x around 1.
template <class V>
WM_FN V twice_atanh(Ratio<V> m) {
  using I = typename Bits<V>::type;
  const I bits = bit_cast<I>((m.below + m.above) / (m.below - m.above));
  const I exponent = (bits - 0x3f3504f3) >> 23;  // so that the rest lies between sqrt(1/2) and sqrt(2)
  const V x = bit_cast<V>(bits - (exponent << 23)) - 1.0f;
  V p = x * -0.0989535074f + 0.161262479f;
  p = p * x - 0.172782061f;
  p = p * x + 0.199133479f;
  p = p * x - 0.24968907f;
  p = p * x + 0.33334606f;
  p = p * x - 0.500003751f;
  p = p * x + 0.999999968f;
  return p * x + to_float(exponent) * 0.693147181f;
}

// One check (of each lane): takes its old messages out of the totals of its coordinates, and puts new ones in.
// Returns the exclusive or of the totals' bit patterns, whose sign bit is the check's syndrome.
template <class V>
WM_FN typename Bits<V>::type update_check(V* totals, V* messages, int degree) {
  Ratio<V> bias[max_degree], before[max_degree], product = {V{} + 1.0f, V{} + 1.0f};
  typename Bits<V>::type syndrome = {};
  for (int e = 0; e < degree; ++e) {
    syndrome ^= bit_cast<typename Bits<V>::type>(totals[e]);
    totals[e] = totals[e] - messages[e];
    bias[e] = tanh_half(totals[e]);
    before[e] = product;
    product = product * bias[e];
  }
  product = {V{} + 1.0f, V{} + 1.0f};
  for (int e = degree - 1; e >= 0; --e) {
    messages[e] = twice_atanh(before[e] * product);
    totals[e] = totals[e] + messages[e];
    product = product * bias[e];
  }
  return syndrome;
}

#ifndef __CUDACC__
// Interleaved partial sums, then their sum in halves: so a block of threads adds, too.
static inline float scale_of_row(const float* z, int64_t count) {
  double parts[square_parts] = {};
  for (int64_t base = 0; base < count; base += square_parts) {
    const int64_t left = count - base < square_parts ? count - base : square_parts;
    for (int64_t i = 0; i < left; ++i) parts[i] += square_of(z[base + i]);
  }
  for (int half = square_parts / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return scale_of(parts[0], count);
}

static inline void parity_codes(const float* z, const uint32_t* pad, int64_t count, float scale, const uint16_t* weights,
                                uint16_t* codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = code_of(z[i], bit_of(pad, i), is_nan(scale) ? 0.0f : scale, weights);
}

template <int Degree>
static inline void count_checks(const uint16_t* codes, const int32_t* checks, int64_t count, int degree,
                                const uint8_t* levels, int32_t* counts) {
  const int d = Degree ? Degree : degree;
  int32_t part[4][2 * vote_levels] = {};  // neighbours count apart, so that none waits for the other
  for (int64_t j = 0; j < count; ++j) {
    unsigned sum = 0;
    for (int e = 0; e < d; ++e) sum += codes[checks[j * d + e]];
    ++part[j % 4][vote_of_check(static_cast<uint16_t>(sum), levels)];
  }
  for (int i = 0; i < 2 * vote_levels; ++i) counts[i] = part[0][i] + part[1][i] + part[2][i] + part[3][i];
}

// counts: how many checks there are of each level and sign.
static inline void parity_votes(const uint16_t* codes, const int32_t* checks, int64_t count, int degree, const uint8_t* levels,
                         int32_t* counts) {
  if (degree == 3)
    count_checks<3>(codes, checks, count, degree, levels, counts);
  else if (degree == 4)
    count_checks<4>(codes, checks, count, degree, levels, counts);
  else
    count_checks<0>(codes, checks, count, degree, levels, counts);
}

static inline void parity_priors(const float* z, const uint32_t* pad, int64_t count, float scale, const float* odds, float* out) {
  for (int64_t i = 0; i < count; ++i)
    out[i] = vote_of(odds[magnitude_of(z[i], scale)], sign_bit(z[i]) ^ bit_of(pad, i));
}

// A layer of checks on all totals. members and messages: (degree, lanes). Returns how many checks are not satisfied.
// totals[filler] stands in for missing coordinates.
static inline int64_t update_layer(float* totals, const int32_t* members, float* messages, int degree, int64_t filler) {
  int64_t unsatisfied = 0;
  const int32_t* own = members + (degree - 1) * lanes;  // there is one in every check; layers fill from the front
  for (int lane = 0; lane < lanes && own[lane] != filler; lane += 8) {
    f32x8 t[max_degree], m[max_degree];
    for (int e = 0; e < degree; ++e) {
      const int32_t* who = members + e * lanes + lane;
      for (int l = 0; l < 8; ++l) t[e][l] = totals[who[l]];
      m[e] = load<f32x8>(messages + e * lanes + lane);
    }
    const i32x8 syndrome = update_check(t, m, degree);
    for (int l = 0; l < 8; ++l) unsatisfied += syndrome[l] < 0;
    for (int e = 0; e < degree; ++e) {
      const int32_t* who = members + e * lanes + lane;
      for (int l = 0; l < 8; ++l) totals[who[l]] = t[e][l];
      store(messages + e * lanes + lane, m[e]);
    }
    totals[filler] = blank;
  }
  return unsatisfied;
}

// One pass over `count` layers.
static inline int64_t update_layers(float* totals, const int32_t* members, float* messages, int64_t count, int degree,
                             int64_t filler) {
  int64_t unsatisfied = 0;
  const int64_t step = static_cast<int64_t>(degree) * lanes;
  for (int64_t g = 0; g < count; ++g) {
    if (degree == 3)
      unsatisfied += update_layer(totals, members + g * step, messages + g * step, 3, filler);
    else if (degree == 4)
      unsatisfied += update_layer(totals, members + g * step, messages + g * step, 4, filler);
    else
      unsatisfied += update_layer(totals, members + g * step, messages + g * step, degree, filler);
  }
  return unsatisfied;
}

// The last coordinate of every check, in turn, becomes the sum of the others; a bit of a byte is a code word.
template <int Degree>
static inline void extend_code_of(const int32_t* checks, int64_t count, int degree, uint8_t* bits) {
  if (Degree) degree = Degree;
  for (int64_t j = 0; j < count; ++j) {
    uint8_t sum = 0;
    const int32_t* c = checks + j * degree;
    for (int e = 0; e + 1 < degree; ++e) sum = static_cast<uint8_t>(sum ^ bits[c[e]]);
    bits[c[degree - 1]] = sum;
  }
}
static inline void extend_code(const int32_t* checks, int64_t count, int degree, uint8_t* bits) {
  if (degree == 3)
    extend_code_of<3>(checks, count, degree, bits);
  else if (degree == 4)
    extend_code_of<4>(checks, count, degree, bits);
  else
    extend_code_of<0>(checks, count, degree, bits);
}

// Bit `plane` of each of `count` bytes, packed and encrypted; then the bits at floor(flips count / 2^32) turn.
static inline void code_signs(const uint8_t* bits, int64_t count, int plane, const uint32_t* flips, int64_t flip_count,
                              const uint32_t* pad, uint32_t* out) {
  for (int64_t w = 0; 32 * w < count; ++w) {
    const uint8_t* from = bits + 32 * w;
    const int64_t left = count - 32 * w;
    uint32_t word = pad[w];
    if (left >= 32)
      for (int i = 0; i < 32; ++i) word ^= (static_cast<uint32_t>(from[i]) >> plane & 1u) << i;
    else
      for (int i = 0; i < left; ++i) word ^= (static_cast<uint32_t>(from[i]) >> plane & 1u) << i;
    out[w] = word;
  }
  for (int64_t f = 0; f < flip_count; ++f) {
    const uint64_t at = static_cast<uint64_t>(flips[f]) * static_cast<uint64_t>(count) >> 32;
    out[at / 32] ^= 1u << (at % 32);
  }
}
#endif

}  // namespace watermark::WM_ISA
