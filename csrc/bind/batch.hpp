// The kernels for many pictures, latents or rows of logits, bound alike to the GPU (module _cuda) and to the CPU that emulates it (in _core).
#pragma once
#include <pybind11/pybind11.h>

namespace watermark {

void bind_batch(pybind11::module_& m);
void bind_batch_tokens(pybind11::module_& m);

}  // namespace watermark
