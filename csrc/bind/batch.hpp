// The kernels for many pictures, bound alike to the GPU (module _cuda) and to the CPU that emulates it (in _core).
#pragma once
#include <pybind11/pybind11.h>

namespace watermark {

void bind_batch(pybind11::module_& m);

}  // namespace watermark
