// What other libraries draw from torch's generator on the CPU, bit by bit: mt19937 (Matsumoto and Nishimura 1998) and the
// first entries of a random permutation of 0..n-1 (Fisher and Yates, forwards: entry i changes places with entry
// i + word_i mod (n - i)). So the first g entries need g words, and no more.
#pragma once
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

#ifndef __CUDACC__

typedef double f64x4 __attribute__((vector_size(32)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef int64_t i64x4 __attribute__((vector_size(32)));

constexpr int twister_words = 624, twister_shift = 397;

struct Twister {
  uint32_t state[twister_words + 1];  // the last one repeats the first while the state is renewed
  uint32_t words[twister_words];      // the words of the present state
};

static inline void seed_twister(Twister& t, uint32_t seed) {
  t.state[0] = seed;
  for (uint32_t i = 1; i < twister_words; ++i) {
    const uint32_t last = t.state[i - 1];
    t.state[i] = 1812433253u * (last ^ (last >> 30)) + i;
  }
}

template <class W>
WM_FN W twisted(W here, W next, W far) {
  const W mixed = (here & 0x80000000u) | (next & 0x7fffffffu);
  const W odd = (W{} - (next & 1u)) & 0x9908b0dfu;
  return far ^ (mixed >> 1) ^ odd;
}

template <class W>
WM_FN W tempered(W y) {
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

// state[begin, end) from its successors, and from what lies `far` places away.
WM_FN void twist_range(uint32_t* s, int begin, int end, int far) {
  int i = begin;
  for (; i + 8 <= end; i += 8) {
    const u32x8 here = load<u32x8>(s + i), next = load<u32x8>(s + i + 1), other = load<u32x8>(s + i + far);
    store(s + i, twisted(here, next, other));
  }
  for (; i < end; ++i) s[i] = twisted(s[i], s[i + 1], s[i + far]);
}

static inline void next_words(Twister& t) {
  constexpr int rest = twister_words - twister_shift;
  twist_range(t.state, 0, rest, twister_shift);
  t.state[twister_words] = t.state[0];
  twist_range(t.state, rest, twister_words, -rest);
  for (int i = 0; i < twister_words; i += 8) store(t.words + i, tempered(load<u32x8>(t.state + i)));
}

// Words [0, count) of the stream of a seed.
static inline void twister_stream(uint32_t seed, uint32_t* out, int64_t count) {
  Twister t;
  seed_twister(t, seed);
  for (int64_t base = 0; base < count; base += twister_words) {
    next_words(t);
    const int64_t left = count - base < twister_words ? count - base : twister_words;
    __builtin_memcpy(out + base, t.words, static_cast<uint64_t>(left) * sizeof(uint32_t));
  }
}

WM_FN f64x4 to_double(const uint32_t* words) {
  const i32x4 shifted = load<i32x4>(words) ^ INT32_MIN;
  return __builtin_convertvector(shifted, f64x4) + 2147483648.0;
}

// Four quotients below 2^31, rounded down. Exact: a quotient of whole numbers below 2^32 stays at least 2^-32 away from
// the whole number above it, which is more than the division's error.
WM_FN f64x4 whole_part(f64x4 quotient) {
  return __builtin_convertvector(__builtin_convertvector(quotient, i32x4), f64x4);
}

WM_FN int64_t partner(uint32_t word, int64_t step, int64_t n) { return step + word % static_cast<uint32_t>(n - step); }

// The partners of all steps of the block that starts at step `base`.
static inline void partners(const uint32_t* words, int64_t base, int64_t n, uint32_t* out) {
  f64x4 step = f64x4{0, 1, 2, 3} + static_cast<double>(base);
  for (int k = 0; k < twister_words; k += 4, step += 4.0) {
    f64x4 modulus = static_cast<double>(n) - step;
    modulus = modulus < 2.0 ? f64x4{2, 2, 2, 2} : modulus;  // past the end, where nobody looks
    const f64x4 word = to_double(words + k);
    const f64x4 found = step + (word - whole_part(word / modulus) * modulus);
    const i32x4 place = __builtin_convertvector(found, i32x4);
    store(out + k, place);
  }
}

// Steps that place the first `count` of n entries: the last entry of all is left over, not drawn.
WM_FN int64_t permutation_steps(int64_t n, int64_t count) { return count < n ? count : n - 1; }

// out[0, count): the first entries of the permutation of 0..n-1 that a seed gives. out has n entries, and the rest of
// the permutation is not in the others.
static inline void permutation_start(uint32_t seed, int64_t n, int64_t count, uint32_t* out) {
  Twister t;
  uint32_t place[twister_words];
  seed_twister(t, seed);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint32_t>(i);
  const int64_t steps = permutation_steps(n, count);
  for (int64_t base = 0; base < steps; base += twister_words) {
    next_words(t);
    partners(t.words, base, n, place);
    const int64_t left = steps - base < twister_words ? steps - base : twister_words;
    for (int64_t k = 0; k < left; ++k) {
      const uint32_t taken = out[place[k]];
      out[place[k]] = out[base + k];
      out[base + k] = taken;
    }
  }
}

// First step of [begin, end), of a block that starts at `base`, whose partner is `place`; `end` if there is none. The
// words are those of the block. place >= begin.
static inline int64_t find_partner(const uint32_t* words, int64_t base, int64_t begin, int64_t end, int64_t n, int64_t place) {
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    i64x4 met = {};
    for (int half = 0; half < 8; half += 4) {
      const f64x4 step = f64x4{0, 1, 2, 3} + static_cast<double>(i + half);
      const f64x4 multiple = (to_double(words + (i - base) + half) + step - static_cast<double>(place)) /
                             (static_cast<double>(n) - step);
      met |= whole_part(multiple) == multiple;
    }
    if (met[0] | met[1] | met[2] | met[3]) break;
  }
  for (; i < end; ++i)
    if (partner(words[i - base], i, n) == place) break;
  return i;
}

// Whether `target` is among the first `count` entries of that permutation: follows this one entry, and stops when it is
// placed.
static inline bool in_permutation_start(uint32_t seed, int64_t n, int64_t count, int64_t target) {
  if (target < 0 || target >= n) return false;
  Twister t;
  seed_twister(t, seed);
  const int64_t steps = permutation_steps(n, count);
  int64_t place = target;  // where the target is; behind the present step
  for (int64_t base = 0; base < steps; base += twister_words) {
    next_words(t);
    const int64_t end = steps - base < twister_words ? steps : base + twister_words;
    for (int64_t i = base; i < end;) {
      const int64_t until = place < end ? place : end;  // the step `place` itself moves the target on, or keeps it
      const int64_t found = find_partner(t.words, base, i, until, n, place);
      if (found < until) return true;
      i = until;
      if (i == end) break;
      const int64_t next = partner(t.words[i - base], i, n);
      if (next == place) return true;
      place = next;
      ++i;
    }
  }
  return place < count;
}

// Adds `bias` to those first entries of a row of logits. scratch has n entries.
static inline void bias_permutation_start(uint32_t seed, int64_t n, int64_t count, float bias, float* row,
                                          uint32_t* scratch) {
  permutation_start(seed, n, count, scratch);
  for (int64_t i = 0; i < count; ++i) row[scratch[i]] += bias;
}

#endif

}  // namespace watermark::WM_ISA
