// Bindings of the kernels for rows of logits on a device: checks tensors, starts the kernels on the tensors' stream. Compiled
// twice, as batch.cpp is.

#include "bind/batch.hpp"
#include "bind/device.hpp"
#include "cuda/token.hpp"

namespace watermark {
namespace {

namespace kernels = watermark::WM_ISA;
using kernels::device_type;
using kernels::OnDevice;
using kernels::same_device;

// Keys stay in host memory: they travel with the launch.
kernels::TokenKey key_of(int prf, py::handle key) {
  const Tensor tensor(key, "key");
  const auto words = tensor.dense<const uint32_t, 1>();
  require(words.shape[0] == 8, "key must have 8 words");
  require(prf >= 0 && prf <= 4, "there is no such function of tokens");
  kernels::TokenKey out;
  for (int i = 0; i < 8; ++i) out.words[i] = words.data[i];
  return out;
}

// 32-bit words on a device are int32 to torch.
const uint32_t* words_of(const int32_t* data) { return reinterpret_cast<const uint32_t*>(data); }

kernels::Rows rows_of(const Tensor& states, const Tensor& candidates, int64_t rows, int64_t columns, int64_t stride) {
  const auto s = states.dense<const int32_t, 2>(device_type);
  const auto c = candidates.dense<const int64_t, 2>(device_type);
  require(s.shape[0] == rows && s.shape[1] == 8, "states must hold 8 words per row");
  require(c.shape[0] == 0 || ((c.shape[0] == 1 || c.shape[0] == rows) && c.shape[1] == columns),
          "candidates must have one row, or one per row, and as many columns");
  require(columns >= 1 && columns <= (int64_t{1} << 31), "rows must have 1 to 2^31 columns");
  return kernels::Rows{words_of(s.data), rows, columns, stride, c.data, c.shape[0]};
}

// Halves have no C++ type here: they are views of int16, and `number` says what they are.
struct Values {
  void* data;
  kernels::Number number;
  int64_t rows, columns, stride;

  Values(const Tensor& logits, const std::string& name) {
    if (name == "float32") {
      take(logits.view<float, 2>(device_type), kernels::Number::float32);
    } else {
      require(name == "float16" || name == "bfloat16", "logits must be float32, float16 or bfloat16");
      take(logits.view<int16_t, 2>(device_type), name == "float16" ? kernels::Number::float16 : kernels::Number::bfloat16);
    }
  }

 private:
  template <class T>
  void take(const View<T, 2>& v, kernels::Number n) {
    require(v.strides[1] == 1 || v.shape[1] <= 1, "the columns of logits must be contiguous");
    data = v.data, number = n, rows = v.shape[0], columns = v.shape[1], stride = v.strides[0];
  }
};

void bias(py::handle logits, const std::string& number, int prf, py::handle key, py::handle states, py::handle candidates,
          uint32_t threshold, float delta, bool hard) {
  const Tensor logits_(logits, "logits"), states_(states, "states"), candidates_(candidates, "candidates");
  const Values v(logits_, number);
  const kernels::TokenKey k = key_of(prf, key);
  same_device(logits_, {&states_, &candidates_});
  const kernels::LogitRows l{v.data, v.number, rows_of(states_, candidates_, v.rows, v.columns, v.stride)};
  py::gil_scoped_release release;
  OnDevice guard(logits_.device());
  kernels::bias(prf, k, kernels::Green{threshold, delta, hard}, l, logits_.stream());
}

void words(py::handle out, int prf, py::handle key, py::handle states, py::handle candidates, int64_t columns) {
  const Tensor out_(out, "out"), states_(states, "states"), candidates_(candidates, "candidates");
  const auto o = out_.dense<int32_t, 2>(device_type);
  const kernels::TokenKey k = key_of(prf, key);
  same_device(out_, {&states_, &candidates_});
  require(columns <= o.shape[1], "out must hold all columns");
  const kernels::Rows r = rows_of(states_, candidates_, o.shape[0], columns, o.shape[1]);
  py::gil_scoped_release release;
  OnDevice guard(out_.device());
  kernels::words(prf, k, r, reinterpret_cast<uint32_t*>(o.data), out_.stream());
}

void gumbel(py::handle logits, const std::string& number, int64_t columns, int prf, py::handle key, py::handle states,
            py::handle candidates, py::handle scratch, py::handle chosen) {
  const Tensor logits_(logits, "logits"), states_(states, "states"), candidates_(candidates, "candidates"),
      scratch_(scratch, "scratch"), chosen_(chosen, "chosen");
  const Values v(logits_, number);
  const kernels::TokenKey k = key_of(prf, key);
  const auto s = scratch_.dense<int64_t, 3>(device_type);
  const auto c = chosen_.dense<int64_t, 1>(device_type);
  same_device(logits_, {&states_, &candidates_, &scratch_, &chosen_});
  require(columns <= v.columns, "there are not as many columns");
  require(s.shape[0] == v.rows && s.shape[1] == kernels::parts_of_row && s.shape[2] == 2, "scratch must hold 16 pairs per row");
  require(c.shape[0] == v.rows, "chosen must hold a column per row");
  const kernels::LogitRows l{v.data, v.number, rows_of(states_, candidates_, v.rows, columns, v.stride)};
  py::gil_scoped_release release;
  OnDevice guard(logits_.device());
  static_assert(sizeof(kernels::Choice) == 16);
  kernels::gumbel(prf, k, l, v.columns, reinterpret_cast<kernels::Choice*>(s.data), c.data, logits_.stream());
}

void tournament(py::handle logits, const std::string& number, py::handle words, int depth, py::handle scratch, py::handle done) {
  const Tensor logits_(logits, "logits"), words_(words, "words"), scratch_(scratch, "scratch"), done_(done, "done");
  const Values v(logits_, number);
  const auto w = words_.dense<const int32_t, 2>(device_type);
  const auto s = scratch_.dense<float, 2>(device_type);
  const auto d = done_.dense<uint8_t, 1>(device_type);
  same_device(logits_, {&words_, &scratch_, &done_});
  require(depth >= 1 && depth <= 32, "depth must be 1 to 32");
  require(w.shape[0] == v.rows && w.shape[1] >= v.columns && s.shape[0] == v.rows && s.shape[1] == w.shape[1],
          "words and scratch must have as many rows as logits, and as many columns or more");
  require(d.shape[0] == v.rows, "done must hold one flag per row");
  const kernels::Rows r{nullptr, v.rows, v.columns, v.stride, nullptr, 0};
  py::gil_scoped_release release;
  OnDevice guard(logits_.device());
  kernels::tournament(words_of(w.data), w.shape[1], depth, {v.data, v.number, r}, s.data, d.data, logits_.stream());
}

}  // namespace

void bind_batch_tokens(py::module_& m) {
  using py::arg;
  m.def("batch_bias_logits", &bias, arg("logits"), arg("number"), arg("prf"), arg("key"), arg("states"), arg("candidates"),
        arg("threshold"), arg("delta"), arg("hard"));
  m.def("batch_token_words", &words, arg("out"), arg("prf"), arg("key"), arg("states"), arg("candidates"), arg("columns"));
  m.def("batch_gumbel", &gumbel, arg("logits"), arg("number"), arg("columns"), arg("prf"), arg("key"), arg("states"),
        arg("candidates"), arg("scratch"), arg("chosen"));
  m.def("batch_tournament", &tournament, arg("logits"), arg("number"), arg("words"), arg("depth"), arg("scratch"), arg("done"));
}

}  // namespace watermark
