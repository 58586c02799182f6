// How kernels start: on the device if this is compiled by nvcc, else one block after the other on the CPU.
#pragma once
#include <cstdint>

#include "kernels/block.hpp"

#ifdef __CUDACC__
#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#endif

namespace watermark::WM_ISA {

#ifdef __CUDACC__
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a failed launch must not be reported again by the next caller
  throw std::runtime_error(std::string("CUDA could not ") + what + ": " + cudaGetErrorString(status));
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads) run(const Kernel kernel, int64_t blocks) {
  __shared__ typename Kernel::Shared shared;
  for (int64_t i = blockIdx.x; i < blocks; i += gridDim.x) {
    kernel(Block<Kernel::threads>{i}, shared);
    __syncthreads();
  }
}

template <class Kernel>
void launch(const Kernel& kernel, void* stream) {
  const int64_t blocks = kernel.blocks();
  if (blocks == 0) return;
  const auto grid = static_cast<unsigned>(std::min(blocks, int64_t{1} << 30));
  run<<<grid, Kernel::threads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, blocks);
  check(cudaGetLastError(), "start a kernel");
}
#else
template <class Kernel>
void launch(const Kernel& kernel, void*) {
  typename Kernel::Shared shared;
  const int64_t blocks = kernel.blocks();
  for (int64_t i = 0; i < blocks; ++i) {
    __builtin_memset(static_cast<void*>(&shared), 0x5a, sizeof shared);  // who reads before writing is to stand out
    kernel(Block<Kernel::threads>{i}, shared);
  }
}
#endif

}  // namespace watermark::WM_ISA
