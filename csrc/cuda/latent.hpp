// Kernels of latent marks on the GPU: launches only, the arithmetic is in kernels/. Pointers are in the memory of the
// current device unless they say otherwise. Work is queued on `stream`; failures throw std::runtime_error.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

namespace watermark::gpu {

// Why no device can run these kernels; empty if device 0 can. Never throws, and creates no CUDA context.
std::string why_not();

std::string device_name(int device);

// Makes a device current for a scope.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int previous_ = 0;
};

// key: 8 words, nonce: 3 words, both in host memory.
void chacha20(const uint32_t* key, const uint32_t* nonce, uint32_t counter, uint32_t* out, int64_t count,
              cudaStream_t stream);

// key: 8 words in host memory. signs: (rows or 1, ceil(count / 32)), `signs_step` words from row to row, 0 for one.
void signed_normal(const uint32_t* key, uint64_t first_row, const uint32_t* signs, int64_t signs_step, int64_t rows,
                   int64_t count, float* out, cudaStream_t stream);

// bits: (rows, ceil(symbols / 8)). agreement: (rows,).
void sign_votes(const float* z, const uint32_t* pad, int64_t rows, int64_t count, int64_t symbols, uint8_t* bits,
                int64_t* agreement, cudaStream_t stream);

// key: 8 words in host memory. code: (rows, patches), below `codes`. out: (rows, patches, width).
void patch_noise(const uint32_t* key, const uint8_t* code, int64_t codes, int64_t rows, int64_t patches, int64_t width,
                 float* out, cudaStream_t stream);

// key: 8 words in host memory. x: (rows, patches, width). best: (rows, patches). matches: (rows, patches, codes / 32).
void patch_search(const uint32_t* key, const float* x, int64_t rows, int64_t patches, int64_t width, int64_t codes,
                  float least, float* best, uint32_t* matches, cudaStream_t stream);

}  // namespace watermark::gpu
