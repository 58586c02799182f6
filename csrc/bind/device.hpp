// What bindings share that are compiled twice: for the memory of a CUDA device and, with WM_EMULATED, for that of the CPU.
#pragma once
#include <initializer_list>

#include "bind/tensor.hpp"
#ifndef WM_EMULATED
#include "cuda/latent.hpp"
#endif

namespace watermark::WM_ISA {

#ifdef WM_EMULATED
constexpr int device_type = kDLCPU;
struct OnDevice {
  explicit OnDevice(int) {}
};
#else
constexpr int device_type = kDLCUDA;
using gpu::OnDevice;
#endif

inline void same_device(const Tensor& first, std::initializer_list<const Tensor*> others) {
  for (const Tensor* other : others)
    if (first.device() != other->device()) other->fail<py::value_error>("is on another device");
}

}  // namespace watermark::WM_ISA
