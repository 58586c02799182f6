// Bindings of torch's generator on the CPU: checks arrays, hands out scratch memory, spreads rows over threads.
#include <vector>

#include "bind/bind.hpp"

namespace watermark {
namespace {

constexpr int64_t max_entries = int64_t{1} << 27;  // torch draws longer permutations in another way

void require_permutation(int64_t n, int64_t count) {
  require(n >= 1 && n <= max_entries, "a permutation must have 1 to 2^27 entries");
  require(count >= 0 && count <= n, "count must be 0 to the number of entries");
}

View<float, 2> rows_of(const Tensor& logits) {
  const auto rows = logits.view<float, 2>(kDLCPU);
  require(rows.strides[1] == 1 || rows.shape[1] <= 1, "the columns of logits must be contiguous");
  return rows;
}

void twister_stream(uint32_t seed, py::handle out, const std::string& isa) {
  const Tensor out_(out, "out");
  const auto o = out_.dense<uint32_t, 1>();
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  kernel.twister_stream(seed, o.data, o.shape[0]);
}

void permutation_start(uint32_t seed, int64_t count, py::handle out, const std::string& isa) {
  const Tensor out_(out, "out");
  const auto o = out_.dense<uint32_t, 1>();
  require_permutation(o.shape[0], count);
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  kernel.permutation_start(seed, o.shape[0], count, o.data);
}

void in_permutation_start(py::handle seeds, int64_t n, int64_t count, py::handle targets, py::handle out,
                          const std::string& isa) {
  const Tensor seeds_(seeds, "seeds"), targets_(targets, "targets"), out_(out, "out");
  const auto s = seeds_.dense<const uint32_t, 1>();
  const auto t = targets_.dense<const int64_t, 1>();
  const auto o = out_.dense<uint8_t, 1>();
  require_permutation(n, count);
  require(t.shape[0] == s.shape[0] && o.shape[0] == s.shape[0], "seeds, targets and out must have one length");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(s.shape[0], 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) o.data[i] = kernel.in_permutation_start(s.data[i], n, count, t.data[i]);
  });
}

void bias_permutation_start(py::handle seeds, int64_t n, int64_t count, float bias, py::handle logits,
                            const std::string& isa) {
  const Tensor seeds_(seeds, "seeds"), logits_(logits, "logits");
  const auto s = seeds_.dense<const uint32_t, 1>();
  const auto rows = rows_of(logits_);
  require_permutation(n, count);
  require(s.shape[0] == rows.shape[0], "seeds must have one entry per row of logits");
  require(rows.shape[1] >= n, "logits must have at least one column per entry");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(rows.shape[0], 1, [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> scratch(static_cast<size_t>(n));
    for (int64_t row = begin; row < end; ++row)
      kernel.bias_permutation_start(s.data[row], n, count, bias, rows.data + row * rows.strides[0], scratch.data());
  });
}

void highest_columns(py::handle logits, py::handle columns, const std::string& isa) {
  const Tensor logits_(logits, "logits"), columns_(columns, "columns");
  const auto rows = rows_of(logits_);
  const auto c = columns_.dense<int64_t, 2>();
  require(c.shape[0] == rows.shape[0], "columns must have one row per row of logits");
  require(c.shape[1] >= 1 && c.shape[1] <= rows.shape[1], "columns must name 1 to as many columns as logits have");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(rows.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      kernel.highest_columns(rows.data + row * rows.strides[0], rows.shape[1], c.shape[1], c.data + row * c.shape[1]);
  });
}

}  // namespace

void bind_foreign(py::module_& m) {
  const auto isa = py::arg("isa") = "";
  m.def("twister_stream", &twister_stream, py::arg("seed"), py::arg("out"), isa);
  m.def("permutation_start", &permutation_start, py::arg("seed"), py::arg("count"), py::arg("out"), isa);
  m.def("in_permutation_start", &in_permutation_start, py::arg("seeds"), py::arg("n"), py::arg("count"), py::arg("targets"),
        py::arg("out"), isa);
  m.def("bias_permutation_start", &bias_permutation_start, py::arg("seeds"), py::arg("n"), py::arg("count"), py::arg("bias"),
        py::arg("logits"), isa);
  m.def("highest_columns", &highest_columns, py::arg("logits"), py::arg("columns"), isa);
}

}  // namespace watermark
