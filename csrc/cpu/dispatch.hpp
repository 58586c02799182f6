// The kernels of one instruction set, and how to pick one.
#pragma once
#include <cstdint>

namespace watermark {

// Plain pointers and sizes only. A function works on one item (a row, a picture) or on a range of rows.
struct Kernels {
  const char* name;

  void (*chacha)(const uint32_t* key, const uint32_t* nonce, uint32_t counter, uint32_t* out, int64_t count);
  void (*half_normal)(const uint32_t* words, float* out, int64_t count);
  void (*signed_normal)(const uint32_t* key, uint64_t row, const uint32_t* signs, int64_t count, float* out);
  void (*sign_votes)(const float* z, const uint32_t* pad, int64_t count, int64_t symbols, float* soft, int32_t* ones);

  int64_t (*polar_scratch_bytes)(int layers, int paths, int64_t information);
  int (*polar_decode)(const float* soft, int layers, const uint8_t* frozen, int64_t information, int paths, void* scratch,
                      uint8_t* bits);
};

// By name ("generic", "avx2"), or the best that this machine runs for an empty name. Null if the name is not available.
const Kernels* kernels(const char* name);

// Names of the tables that this machine can run, the slowest first; ends with null.
const char* const* instruction_sets();

}  // namespace watermark
