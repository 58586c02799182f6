// ChaCha20 block function (RFC 8439, section 2.3): the only source of keyed randomness in the library.
#pragma once
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

// Key and nonce words as RFC 8439 reads them (little endian): one for all lanes, or one per lane.
template <class W>
struct ChaChaInput {
  W key[8];
  W nonce[3];
};
using ChaChaKey = ChaChaInput<uint32_t>;

template <class W>
WM_FN W rotate_left(W x, int n) {
  return (x << n) | (x >> (32 - n));
}

#ifdef __AVX2__
// Whole bytes move in one instruction.
WM_FN u32x8 rotate_left(u32x8 x, int n) {
  typedef uint8_t bytes __attribute__((vector_size(32)));
  const bytes b = bit_cast<bytes>(x);
  if (n == 16)
    return bit_cast<u32x8>(__builtin_shufflevector(b, b, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 18, 19, 16, 17,
                                                   22, 23, 20, 21, 26, 27, 24, 25, 30, 31, 28, 29));
  if (n == 8)
    return bit_cast<u32x8>(__builtin_shufflevector(b, b, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 19, 16, 17, 18,
                                                   23, 20, 21, 22, 27, 24, 25, 26, 31, 28, 29, 30));
  return (x << n) | (x >> (32 - n));
}
#endif

template <class W>
WM_FN void quarter_round(W& a, W& b, W& c, W& d) {
  a += b, d ^= a, d = rotate_left(d, 16);
  c += d, b ^= c, b = rotate_left(b, 12);
  a += b, d ^= a, d = rotate_left(d, 8);
  c += d, b ^= c, b = rotate_left(b, 7);
}

// One block per lane of W (a uint32_t, or a vector of them); `counter` holds the block number of each lane. RFC 8439 has
// ten double rounds.
template <int double_rounds = 10, class K, class W>
WM_FN void chacha_block(const ChaChaInput<K>& k, W counter, W (&out)[16]) {
  const W zero = counter ^ counter;
  const W start[16] = {zero + 0x61707865u, zero + 0x3320646eu, zero + 0x79622d32u, zero + 0x6b206574u,
                       zero + k.key[0],    zero + k.key[1],    zero + k.key[2],    zero + k.key[3],
                       zero + k.key[4],    zero + k.key[5],    zero + k.key[6],    zero + k.key[7],
                       counter,            zero + k.nonce[0],  zero + k.nonce[1],  zero + k.nonce[2]};
  W x[16];
  for (int i = 0; i < 16; ++i) x[i] = start[i];
  for (int round = 0; round < double_rounds; ++round) {
    quarter_round(x[0], x[4], x[8], x[12]);
    quarter_round(x[1], x[5], x[9], x[13]);
    quarter_round(x[2], x[6], x[10], x[14]);
    quarter_round(x[3], x[7], x[11], x[15]);
    quarter_round(x[0], x[5], x[10], x[15]);
    quarter_round(x[1], x[6], x[11], x[12]);
    quarter_round(x[2], x[7], x[8], x[13]);
    quarter_round(x[3], x[4], x[9], x[14]);
  }
  for (int i = 0; i < 16; ++i) out[i] = x[i] + start[i];
}

#ifndef __CUDACC__
// Words [0, count) of the stream that starts at block `counter`, eight blocks at a time.
static inline void chacha_words(const ChaChaKey& k, uint32_t counter, uint32_t* out, int64_t count) {
  u32x8 lanes = u32x8{0, 1, 2, 3, 4, 5, 6, 7} + counter;
  for (int64_t base = 0; base < count; base += 128, lanes += 8) {
    u32x8 x[16];
    chacha_block(k, lanes, x);
    const int64_t left = count - base < 128 ? count - base : 128;
    for (int64_t i = 0; i < left; ++i) out[base + i] = x[i % 16][i / 16];
  }
}
#endif

}  // namespace watermark::WM_ISA
