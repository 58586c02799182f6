// Pseudorandom functions of text marks: from a key, a context of tokens and a candidate token to a 32-bit word.
// A context is first folded into a state; what a mark scores once is the state and the token.
#pragma once
#include "kernels/chacha.hpp"

namespace watermark::WM_ISA {

struct TokenKey {
  uint32_t words[8];
};

template <class W>
struct StateOf {
  W words[8];
};
using State = StateOf<uint32_t>;

// The last tokens before a position, as the functions see them. `history` ends before the position; what is missing at its
// start counts as -1. `salt` follows the tokens.
struct Window {
  const int64_t* history;
  int64_t length, width;
  const int64_t* salt;
  int64_t salts;

  using Word = uint32_t;
  WM_INLINE int64_t size() const { return width + salts; }
  WM_INLINE int64_t token(int64_t i) const {
    if (i >= width) return salt[i - width];
    const int64_t at = length - width + i;
    return at < 0 ? -1 : history[at];
  }
  WM_INLINE uint32_t word(int64_t i) const { return static_cast<uint32_t>(token(i)); }
};

#ifndef __CUDACC__
// The windows before eight positions, one after the other.
struct Windows {
  Window first;

  using Word = u32x8;
  WM_INLINE int64_t size() const { return first.size(); }
  WM_INLINE u32x8 word(int64_t i) const {
    u32x8 lanes;
    for (int64_t j = 0; j < 8; ++j) {
      Window w = first;
      w.length += j;
      lanes[j] = w.word(i);
    }
    return lanes;
  }
};
#endif

// One token in place of a window; the salt stays.
WM_FN Window only(const Window& w, const int64_t* token) { return Window{token, 1, 1, w.salt, w.salts}; }

WM_FN void multiply(uint32_t a, uint32_t m, uint32_t& high, uint32_t& low) {
  const uint64_t product = static_cast<uint64_t>(a) * m;
  high = static_cast<uint32_t>(product >> 32), low = static_cast<uint32_t>(product);
}

#ifndef __CUDACC__
WM_FN void multiply(u32x8 a, uint32_t m, u32x8& high, u32x8& low) {
  const u32x8 by = u32x8{} + m;
  const u32x8 even = bit_cast<u32x8>(multiply_even(a, by));
  const u32x8 odd = bit_cast<u32x8>(multiply_even(bit_cast<u32x8>(bit_cast<u64x4>(a) >> 32), by));
  low = __builtin_shuffle(even, odd, u32x8{0, 8, 2, 10, 4, 12, 6, 14});
  high = __builtin_shuffle(even, odd, u32x8{1, 9, 3, 11, 5, 13, 7, 15});
}
#endif

// Philox4x32-10 (Salmon et al., SC 2011), one counter per lane of W; keys of type K, a uint32_t or W.
template <class W, class K>
WM_FN void philox(W (&c)[4], K k0, K k1) {
  for (int round = 0; round < 10; ++round) {
    W high0, low0, high1, low1;
    multiply(c[0], 0xD2511F53u, high0, low0);
    multiply(c[2], 0xCD9E8D57u, high1, low1);
    c[0] = high1 ^ c[1] ^ k0, c[1] = low1, c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

#ifndef __CUDACC__
// The same for eight counters and one key: even and odd lanes apart, in lanes of 64 bits, where a product needs no sorting
// into halves. What its upper half leaves behind is never read.
WM_FN void philox_lanes(u32x8 (&c)[4], uint32_t k0, uint32_t k1) {
  u64x4 lanes[2][4];
  for (int i = 0; i < 4; ++i) lanes[0][i] = bit_cast<u64x4>(c[i]), lanes[1][i] = lanes[0][i] >> 32;
  for (int round = 0; round < 10; ++round) {
    const u64x4 by0 = bit_cast<u64x4>(u32x8{} + k0), by1 = bit_cast<u64x4>(u32x8{} + k1);
    for (u64x4 (&x)[4] : lanes) {
      const u64x4 a = multiply_even(bit_cast<u32x8>(x[0]), u32x8{} + 0xD2511F53u);
      const u64x4 b = multiply_even(bit_cast<u32x8>(x[2]), u32x8{} + 0xCD9E8D57u);
      x[0] = (b >> 32) ^ x[1] ^ by0, x[1] = b, x[2] = (a >> 32) ^ x[3] ^ by1, x[3] = a;
    }
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < 4; ++i) c[i] = bit_cast<u32x8>((lanes[0][i] & 0xffffffffu) | (lanes[1][i] << 32));
}
#endif

// A function gives: context(key, window) and word(key, state, token), for one or for eight lanes; keyed(state), whether the
// state depends on the key at all; and on the CPU
// words(key, state, first, out) for the `block` tokens from `first`, a multiple of it, and gather(key, state, tokens) for
// eight tokens of one state.
//
// "philox4x32-10-v1" of vLLM. Tokens enter four at a time; a word is one of four of a counter.
struct Philox {
  static constexpr uint32_t context_domain = 0x574D4358u, token_domain = 0x574D544Bu;

  static WM_INLINE bool keyed(const State&) { return true; }

  template <class Windows>
  static WM_INLINE auto context(const TokenKey& key, const Windows& window) {
    using W = typename Windows::Word;
    const W zero = {};
    W c[4] = {zero + context_domain, zero + static_cast<uint32_t>(window.size()), zero, zero};
    for (int64_t first = 0; first < window.size(); first += 4) {
      for (int64_t i = 0; i < 4; ++i)
        c[i] ^= first + i < window.size() ? window.word(first + i) : zero + (0xffffffffu - static_cast<uint32_t>(i));
      philox(c, key.words[0] ^ static_cast<uint32_t>(first), key.words[1]);
    }
    return StateOf<W>{{c[0], c[1], c[2], c[3], zero, zero, zero, zero}};
  }

  template <class W>
  static WM_INLINE W word(const TokenKey& key, const StateOf<W>& s, W token) {
    W c[4] = {token >> 2, s.words[0], s.words[1], s.words[2]};
    philox(c, key.words[0] ^ s.words[3], (W{} + key.words[1]) ^ token_domain);
    return pick_word(c, token);
  }

  static WM_INLINE uint32_t pick_word(const uint32_t (&c)[4], uint32_t token) { return c[token & 3]; }

#ifndef __CUDACC__
  static constexpr int64_t block = 32;

  static WM_INLINE void words(const TokenKey& key, const State& s, uint32_t first, uint32_t* out) {
    const u32x8 zero = {};
    u32x8 c[4] = {u32x8{0, 1, 2, 3, 4, 5, 6, 7} + (first >> 2), zero + s.words[0], zero + s.words[1], zero + s.words[2]};
    philox_lanes(c, key.words[0] ^ s.words[3], key.words[1] ^ token_domain);
    interleave(c, out);
  }

  static WM_INLINE u32x8 gather(const TokenKey& key, const State& s, u32x8 token) {
    const u32x8 zero = {};
    u32x8 c[4] = {token >> 2, zero + s.words[0], zero + s.words[1], zero + s.words[2]};
    philox_lanes(c, key.words[0] ^ s.words[3], key.words[1] ^ token_domain);
    return pick_word(c, token);
  }

  // Four words of eight counters, in the order of their tokens.
  static WM_INLINE void interleave(const u32x8 (&c)[4], uint32_t* out) {
    const u32x8 low = {0, 8, 1, 9, 4, 12, 5, 13}, high = {2, 10, 3, 11, 6, 14, 7, 15};
    const u32x8 a = __builtin_shuffle(c[0], c[1], low), b = __builtin_shuffle(c[2], c[3], low);
    const u32x8 d = __builtin_shuffle(c[0], c[1], high), e = __builtin_shuffle(c[2], c[3], high);
    const u32x8 first = {0, 1, 8, 9, 4, 5, 12, 13}, second = {2, 3, 10, 11, 6, 7, 14, 15};
    const u32x8 p = __builtin_shuffle(a, b, first), q = __builtin_shuffle(a, b, second);
    const u32x8 r = __builtin_shuffle(d, e, first), t = __builtin_shuffle(d, e, second);
    const u32x8 bottom = {0, 1, 2, 3, 8, 9, 10, 11}, top = {4, 5, 6, 7, 12, 13, 14, 15};
    store(out, __builtin_shuffle(p, q, bottom)), store(out + 8, __builtin_shuffle(r, t, bottom));
    store(out + 16, __builtin_shuffle(p, q, top)), store(out + 24, __builtin_shuffle(r, t, top));
  }

  static WM_INLINE u32x8 pick_word(const u32x8 (&c)[4], u32x8 token) {
    const u32x8 k = token & 3;
    u32x8 out = c[0];
    for (uint32_t i = 1; i < 4; ++i) {
      const u32x8 mine = bit_cast<u32x8>(k == i);
      out = (out & ~mine) | (c[i] & mine);
    }
    return out;
  }
#endif
};

// "chacha8-v1": ChaCha with 8 rounds and the whole 256-bit key, four tokens of the context at a time as counter and nonce,
// each output the key of the next block (a cascade). Tokens lie so that eight lanes need no transposition: of 128 tokens,
// token 8 j + l takes word j of block l.
struct ChaCha8 {
  static constexpr uint32_t token_domain = 0xC8746F6Bu;  // no token is as large

  template <class W>
  static WM_INLINE ChaChaInput<W> at(const StateOf<W>& s, W a, W b, W c) {
    ChaChaInput<W> k;
    for (int i = 0; i < 8; ++i) k.key[i] = s.words[i];
    k.nonce[0] = a, k.nonce[1] = b, k.nonce[2] = c;
    return k;
  }

  template <class W>
  static WM_INLINE ChaChaInput<W> candidates(const StateOf<W>& s) {
    return at(s, W{} + token_domain, W{}, W{});
  }

  static WM_INLINE bool keyed(const State&) { return true; }

  template <class Windows>
  static WM_INLINE auto context(const TokenKey& key, const Windows& window) {
    using W = typename Windows::Word;
    const W zero = {};
    StateOf<W> s;
    for (int i = 0; i < 8; ++i) s.words[i] = zero + key.words[i];
    for (int64_t first = 0; first < window.size(); first += 4) {
      W t[4], x[16];
      for (int64_t i = 0; i < 4; ++i)
        t[i] = first + i < window.size() ? window.word(first + i) : zero + (0xffffffffu - static_cast<uint32_t>(i));
      chacha_block<4>(at(s, t[1], t[2], t[3]), t[0], x);
      for (int i = 0; i < 8; ++i) s.words[i] = x[i];
    }
    return s;
  }

  template <class W>
  static WM_INLINE W word(const TokenKey&, const StateOf<W>& s, W token) {
    W x[16];
    chacha_block<4>(candidates(s), (token >> 7) * 8 + (token & 7), x);
    return pick_word(x, token);
  }

  static WM_INLINE uint32_t pick_word(const uint32_t (&x)[16], uint32_t token) { return x[(token >> 3) & 15]; }

#ifndef __CUDACC__
  static constexpr int64_t block = 128;

  static WM_INLINE void words(const TokenKey&, const State& s, uint32_t first, uint32_t* out) {
    u32x8 x[16];
    chacha_block<4>(candidates(s), u32x8{0, 1, 2, 3, 4, 5, 6, 7} + (first >> 7) * 8, x);
    for (int j = 0; j < 16; ++j) store(out + 8 * j, x[j]);
  }

  static WM_INLINE u32x8 gather(const TokenKey&, const State& s, u32x8 token) {
    u32x8 x[16];
    chacha_block<4>(candidates(s), (token >> 7) * 8 + (token & 7), x);
    return pick_word(x, token);
  }

  static WM_INLINE u32x8 pick_word(const u32x8 (&x)[16], u32x8 token) {
    const u32x8 k = (token >> 3) & 15;
    u32x8 out = x[0];
    for (uint32_t i = 1; i < 16; ++i) {
      const u32x8 mine = bit_cast<u32x8>(k == i);
      out = (out & ~mine) | (x[i] & mine);
    }
    return out;
  }
#endif
};

// Jenkins's hash of a 32-bit integer as SBW uses it, with the sign that its 64-bit product then has.
WM_FN int64_t sbw_hash(int64_t token) {
  uint32_t i = static_cast<uint32_t>(token) + 1u;
  const auto shifted = [](uint32_t x, int by) { return static_cast<uint32_t>(static_cast<int32_t>(x) >> by); };
  i -= i << 6, i ^= shifted(i, 17), i -= i << 9, i ^= i << 4, i -= i << 3, i ^= i << 10, i ^= shifted(i, 15);
  return static_cast<int32_t>(i);
}

// "sbw" (Ceppi and Sanchez, "Flip, Don't Shuffle", EMNLP 2026), as vLLM has it: a 64-bit seed is the key of Philox. Only 31
// bits of a word count; they are moved up, so that thresholds compare as with the other functions.
struct Sbw {
  static WM_INLINE State seed(uint64_t value) {
    return State{{static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32), 0, 0, 0, 0, 0, 0}};
  }
  static WM_INLINE uint64_t number(const TokenKey& key) {
    return key.words[0] | static_cast<uint64_t>(key.words[1]) << 32;
  }

  // A context that sums up to nothing has no secret: whoever writes the text knows what the key makes of it.
  static WM_INLINE bool keyed(const State& s) { return s.words[0] | s.words[1]; }

  static WM_INLINE State context(const TokenKey& key, const Window& window) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < window.size(); ++i) sum += static_cast<uint64_t>(window.token(i));
    return seed(number(key) * sum);
  }

  template <class W>
  static WM_INLINE W word(const TokenKey&, const StateOf<W>& s, W token) {
    W c[4] = {token >> 2, W{}, W{}, W{}};
    philox(c, s.words[0], s.words[1]);
    return Philox::pick_word(c, token) << 1;
  }

#ifndef __CUDACC__
  static WM_INLINE StateOf<u32x8> context(const TokenKey& key, const Windows& windows) {
    StateOf<u32x8> lanes = {};
    for (int64_t j = 0; j < 8; ++j) {
      Window w = windows.first;
      w.length += j;
      const State s = context(key, w);
      lanes.words[0][j] = s.words[0], lanes.words[1][j] = s.words[1];
    }
    return lanes;
  }

  static constexpr int64_t block = 32;

  static WM_INLINE void words(const TokenKey&, const State& s, uint32_t first, uint32_t* out) {
    u32x8 c[4] = {u32x8{0, 1, 2, 3, 4, 5, 6, 7} + (first >> 2), {}, {}, {}};
    philox_lanes(c, s.words[0], s.words[1]);
    for (u32x8& word : c) word <<= 1;
    Philox::interleave(c, out);
  }

  static WM_INLINE u32x8 gather(const TokenKey&, const State& s, u32x8 token) {
    u32x8 c[4] = {token >> 2, {}, {}, {}};
    philox_lanes(c, s.words[0], s.words[1]);
    return Philox::pick_word(c, token) << 1;
  }
#endif
};

// Four tokens to a word of another function: a quarter of the work where eight bits will do. A word is one byte.
template <class Prf>
struct Octets {
  static WM_INLINE bool keyed(const State& s) { return Prf::keyed(s); }

  template <class Windows>
  static WM_INLINE auto context(const TokenKey& key, const Windows& window) {
    return Prf::context(key, window);
  }

  template <class W>
  static WM_INLINE W word(const TokenKey& key, const StateOf<W>& s, W token) {
    return (Prf::word(key, s, token >> 2) >> ((token & 3) << 3)) & 255;
  }

#ifndef __CUDACC__
  static constexpr int64_t block = 4 * Prf::block;

  static WM_INLINE void words(const TokenKey& key, const State& s, uint32_t first, uint32_t* out) {
    uint32_t packed[Prf::block];
    Prf::words(key, s, first / 4, packed);
    for (int64_t i = 0; i < block; ++i) out[i] = (packed[i / 4] >> (i % 4 * 8)) & 255;
  }

  static WM_INLINE u32x8 gather(const TokenKey& key, const State& s, u32x8 token) {
    return (Prf::gather(key, s, token >> 2) >> ((token & 3) << 3)) & 255;
  }
#endif
};

// How a window seeds the function (Kirchenbauer et al., "On the Reliability of Watermarks for Large Language Models", 2023):
// all of it, in order; its oldest token; the token whose own state is least; or the least state of a pair of the candidate
// with a token of the window, the window ending with the candidate itself.
enum class Seeding : int { left, skip, least, self };

template <class Prf>
WM_FN State least_state(const TokenKey& key, const Window& window) {
  State best{};
  for (int64_t i = 0; i < window.width; ++i) {
    const int64_t token = window.token(i);
    const State s = Prf::context(key, only(window, &token));
    if (i == 0 || s.words[0] < best.words[0]) best = s;
  }
  return best;
}

// State of every seeding but `self`.
template <class Prf>
WM_FN State state_of(const TokenKey& key, const Window& window, Seeding seeding) {
  if (seeding == Seeding::least) return least_state<Prf>(key, window);
  if (seeding == Seeding::skip) {
    const int64_t oldest = window.token(0);
    return Prf::context(key, only(window, &oldest));
  }
  return Prf::context(key, window);
}

// Two tokens in place of a window, for one or for eight lanes.
template <class W>
struct Pair {
  W tokens[2];

  using Word = W;
  WM_INLINE int64_t size() const { return 2; }
  WM_INLINE W word(int64_t i) const { return tokens[i]; }
};

#ifndef __CUDACC__
// One window for eight lanes.
struct SameWindow {
  Window window;

  using Word = u32x8;
  WM_INLINE int64_t size() const { return window.size(); }
  WM_INLINE u32x8 word(int64_t i) const { return u32x8{} + window.word(i); }
};
#endif

// State of seeding `self`, without salt: the windows without their oldest tokens, and the candidates.
template <class Prf, class Windows, class W>
WM_FN StateOf<W> self_state(Prf, const TokenKey& key, const Windows& windows, W candidate) {
  StateOf<W> best = Prf::context(key, Pair<W>{{candidate, candidate}});
  for (int64_t i = windows.size() - 1; i > 0; --i) {
    const StateOf<W> s = Prf::context(key, Pair<W>{{windows.word(i), candidate}});
    const auto earlier = s.words[0] <= best.words[0];
    for (int j = 0; j < 8; ++j) best.words[j] = earlier ? s.words[j] : best.words[j];
  }
  return best;
}

WM_FN uint32_t& lane(uint32_t& x, int) { return x; }
#ifndef __CUDACC__
WM_FN uint32_t& lane(u32x8& x, int i) { return reinterpret_cast<uint32_t*>(&x)[i]; }
#endif

template <class Windows, class W>
WM_FN StateOf<W> self_state(Sbw, const TokenKey& key, const Windows& windows, W candidate) {
  StateOf<W> out = {};
  for (int j = 0; j < static_cast<int>(sizeof(W) / 4); ++j) {
    const uint64_t scaled = Sbw::number(key) * static_cast<uint64_t>(sbw_hash(lane(candidate, j)));
    int64_t best = static_cast<int64_t>(scaled * static_cast<uint64_t>(sbw_hash(lane(candidate, j))));
    for (int64_t i = 1; i < windows.size(); ++i) {
      W token = windows.word(i);
      const int64_t seed = static_cast<int64_t>(scaled * static_cast<uint64_t>(sbw_hash(lane(token, j))));
      best = seed < best ? seed : best;
    }
    const State s = Sbw::seed(static_cast<uint64_t>(best));
    lane(out.words[0], j) = s.words[0], lane(out.words[1], j) = s.words[1];
  }
  return out;
}
// Whether a window of `width` tokens before `position` occurs before an earlier token of the text.
WM_FN bool repeats(const int64_t* text, int64_t position, int64_t width) {
  for (int64_t other = position - 1; other >= 0; --other) {
    int64_t i = 1;
    for (; i <= width; ++i) {
      const int64_t a = position - i < 0 ? -1 : text[position - i], b = other - i < 0 ? -1 : text[other - i];
      if (a != b) break;
    }
    if (i > width) return true;
  }
  return false;
}

}  // namespace watermark::WM_ISA
