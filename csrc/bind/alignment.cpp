// Bindings of the alignment kernels: checks arrays, hands out scratch memory, spreads draws over threads.
#include <algorithm>
#include <vector>

#include "bind/bind.hpp"

namespace watermark {
namespace {

constexpr int64_t most_rows = int64_t{1} << 16, most_values = int64_t{1} << 28;

View<const uint32_t, 1> key_words(const Tensor& tensor) {
  const auto key = tensor.dense<const uint32_t, 1>();
  require(key.shape[0] == 8, "key must hold 8 words");
  return key;
}

// The arrays that describe a text, checked.
class Text {
 public:
  Text(py::handle tokens, py::handle starts, int64_t length, int64_t kinds, int64_t rows, py::handle weights)
      : tokens_(tokens, "tokens"), starts_(starts, "starts"), weights_(weights, "weights") {
    const auto t = tokens_.dense<const int32_t, 1>();
    const auto s = starts_.dense<const int32_t, 1>();
    const auto w = weights_.dense<const uint16_t, 1>();
    require(w.shape[0] == 65536, "weights must hold 65536 values");
    require(rows >= 1 && rows <= most_rows, "the key must have 1 to 65536 rows");
    require(length >= 1 && length <= t.shape[0], "length must be 1 to the number of tokens");
    require(*std::max_element(w.data, w.data + w.size()) <= 65535 / length, "a chain of such weights would overflow");
    require(kinds >= 1 && kinds <= most_values / (rows + length), "there are too many kinds");
    require(std::all_of(t.data, t.data + t.size(), [=](int32_t token) { return token >= 0 && token < kinds; }),
            "tokens must hold numbers of kinds");
    require(std::all_of(s.data, s.data + s.size(), [&](int32_t at) { return at >= 0 && at <= t.shape[0] - length; }),
            "a block reaches past the end of the text");
    text = {t.data, s.data, s.shape[0], length, kinds, rows, w.data};
  }

  AlignedText text;

 private:
  Tensor tokens_, starts_, weights_;
};

void align_text(py::handle cells, py::handle tokens, py::handle starts, int64_t length, py::handle weights, py::handle out,
                const std::string& isa) {
  const Tensor cells_(cells, "cells"), out_(out, "out");
  const auto c = cells_.dense<const uint16_t, 2>();
  const auto o = out_.dense<uint16_t, 2>();
  const Text text(tokens, starts, length, c.shape[0], c.shape[1], weights);
  require(o.shape[0] == text.text.blocks && o.shape[1] == c.shape[1], "out must have a row per block and a column per key row");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  std::vector<uint16_t> scratch(static_cast<size_t>(kernel.alignment_scratch(text.text)));
  kernel.align_text(text.text, c.data, o.data, scratch.data());
}

void random_keys_reach(py::handle key, uint64_t first, int64_t kinds, int64_t rows, int64_t vocabulary, py::handle tokens,
                       py::handle starts, int64_t length, py::handle weights, int64_t least, py::handle out,
                       const std::string& isa) {
  const Tensor key_(key, "key"), out_(out, "out");
  const auto k = key_words(key_);
  const auto o = out_.dense<uint8_t, 1>();
  const Text text(tokens, starts, length, kinds, rows, weights);
  require(vocabulary == 0 || (vocabulary >= kinds && vocabulary <= most_values), "vocabulary must hold all kinds, or be 0");
  require(least >= 0 && least <= 65535, "least must be 0 to 65535");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(o.shape[0], 4, [&](int64_t begin, int64_t end) {
    std::vector<uint16_t> scratch(static_cast<size_t>(kernel.alignment_scratch(text.text)));
    std::vector<uint16_t> places(static_cast<size_t>(vocabulary ? kinds : 0));
    std::vector<uint32_t> indices(places.size()), taken(static_cast<size_t>((vocabulary + 31) / 32));
    for (int64_t i = begin; i < end; ++i)
      o.data[i] = kernel.random_key_reaches(text.text, k.data, first + static_cast<uint64_t>(i),
                                            static_cast<uint32_t>(vocabulary), static_cast<uint32_t>(least), scratch.data(),
                                            indices.data(), taken.data(), places.data());
  });
}

}  // namespace

void bind_alignment(py::module_& m) {
  const auto isa = py::arg("isa") = "";
  m.def("align_text", &align_text, py::arg("cells"), py::arg("tokens"), py::arg("starts"), py::arg("length"),
        py::arg("weights"), py::arg("out"), isa);
  m.def("random_keys_reach", &random_keys_reach, py::arg("key"), py::arg("first"), py::arg("kinds"), py::arg("rows"),
        py::arg("vocabulary"), py::arg("tokens"), py::arg("starts"), py::arg("length"), py::arg("weights"), py::arg("least"),
        py::arg("out"), isa);
}

}  // namespace watermark
