// Rows of logits on the GPU: launches only, the arithmetic is in kernels/batch_token.hpp. Pointers are in the memory of the
// current device, or of the CPU where this is compiled for it. Work is queued on `stream`; failures throw std::runtime_error.
#pragma once
#include "kernels/batch_token.hpp"

namespace watermark::WM_ISA {

enum class Number { float32, float16, bfloat16 };

struct LogitRows {
  void* data;
  Number number;
  Rows rows;
};

// `prf` as in ops/token.py.
void bias(int prf, const TokenKey& key, const Green& green, const LogitRows& logits, void* stream);
void words(int prf, const TokenKey& key, const Rows& rows, uint32_t* out, void* stream);
// parts: parts_of_row per row, scratch. Samples, and leaves 0 at the column that is chosen and minus infinity elsewhere.
void gumbel(int prf, const TokenKey& key, const LogitRows& logits, int64_t width, Choice* parts, int64_t* columns, void* stream);
// scratch: of the shape of the words.
void tournament(const uint32_t* words, int64_t word_stride, int depth, const LogitRows& logits, float* scratch, uint8_t* done,
                void* stream);

}  // namespace watermark::WM_ISA
