// Kernels that a block of threads runs together. A kernel is a struct of views with `threads`, `Shared` (memory of one
// block) and operator()(block, shared). Its code is uniform, every thread takes the same way through it, except inside
// of block.each(f), which runs f(thread) in every thread and then waits for all. So the CPU runs the same code with one
// thread, f in a loop: that is how these kernels are tested on machines without a GPU. What a thread knows ends with f;
// what others need goes to `shared`, and block.sync() parts uniform reads of it from the next writes.
#pragma once
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

template <int Threads>
struct Block {
  static constexpr int threads = Threads;
  int64_t index;  // among the blocks of the launch

  template <class F>
  WM_INLINE void each(F f) const {
#ifdef __CUDA_ARCH__
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    // Every other block backwards: what depends on the order of threads would show.
    for (int i = 0; i < Threads; ++i) f(index % 2 ? Threads - 1 - i : i);
#endif
  }

  WM_INLINE void sync() const {
#ifdef __CUDA_ARCH__
    __syncthreads();
#endif
  }

  // The same for items 0, 1, ... in place of threads.
  template <class F>
  WM_INLINE void each_of(int64_t count, F f) const {
    each([&](int thread) {
      for (int64_t i = thread; i < count; i += Threads) f(i);
    });
  }
};

// Counts up one number from many threads; returns it as it was. Who comes first is left to chance.
WM_FN int take_turn(int* counter) {
#ifdef __CUDA_ARCH__
  return atomicAdd(counter, 1);
#else
  return (*counter)++;
#endif
}
WM_FN void add_together(int32_t* total, int32_t value) {
#ifdef __CUDA_ARCH__
  atomicAdd(total, value);
#else
  *total += value;
#endif
}

}  // namespace watermark::WM_ISA
