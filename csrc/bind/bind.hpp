// What the binding files of _core share.
#pragma once
#include <string>

#include "bind/tensor.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"

namespace watermark {

// The kernels of one instruction set; the best for an empty name. Throws ValueError.
const Kernels& pick(const std::string& isa);

void bind_alignment(py::module_& m);
void bind_foreign(py::module_& m);
void bind_parity(py::module_& m);
void bind_tokens(py::module_& m);
void bind_pictures(py::module_& m);

}  // namespace watermark
