// What every kernel body may use. Bodies are compiled by g++ (once per instruction set) and by nvcc, each into the
// namespace watermark::WM_ISA, so that no two builds of a function can be merged by the linker.
// Rules: no STL, no CUDA headers, views by value, 64-bit indices, and only arithmetic that IEEE 754 rounds exactly
// (+, -, *, /, sqrt), so that every instruction set, thread count and device gives the same bits.
#pragma once
#include <stdint.h>

#ifndef WM_ISA
#error "compile with -DWM_ISA=<name of the instruction set>"
#endif

#ifdef __CUDACC__
#define WM_INLINE __host__ __device__ __forceinline__
#else
#define WM_INLINE inline __attribute__((always_inline))
#endif
#define WM_FN static WM_INLINE

namespace watermark::WM_ISA {

template <class To, class From>
WM_FN To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
}

struct Complex {
  float re, im;
};

#ifndef __CUDACC__
// Eight lanes: one AVX2 register, two SSE2 or NEON registers. The compiler splits them; results do not change.
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint64_t u64x4 __attribute__((vector_size(32)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x8 __attribute__((vector_size(8)));
typedef int8_t i8x8 __attribute__((vector_size(8)));

// Products of the even lanes (0, 2, 4, 6) of two vectors, in full.
WM_FN u64x4 multiply_even(u32x8 a, u32x8 b) {
#if defined(__AVX2__)
  return bit_cast<u64x4>(__builtin_ia32_pmuludq256(bit_cast<i32x8>(a), bit_cast<i32x8>(b)));
#else
  const u64x4 low = u64x4{} + 0xffffffffu;
  return (bit_cast<u64x4>(a) & low) * (bit_cast<u64x4>(b) & low);
#endif
}

template <class V, class T>
WM_FN V load(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
WM_FN void store(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
#endif

}  // namespace watermark::WM_ISA
