// Python module watermark._cuda: checks tensors, releases the GIL, starts the kernels on the tensors' stream.
#include "bind/batch.hpp"
#include "bind/tensor.hpp"
#include "cuda/latent.hpp"

namespace watermark {
namespace {

// Keys stay in host memory: they travel with the launch.
View<const uint32_t, 1> host_words(const Tensor& tensor, int64_t count) {
  const auto words = tensor.dense<const uint32_t, 1>();
  if (words.shape[0] != count) tensor.fail<py::value_error>("must hold " + std::to_string(count) + " words");
  return words;
}

// 32-bit words on the device are int32 to torch.
template <int N>
View<const int32_t, N> device_words(const Tensor& tensor) {
  return tensor.dense<const int32_t, N>(kDLCUDA);
}

const uint32_t* bits_of(const int32_t* words) { return reinterpret_cast<const uint32_t*>(words); }

cudaStream_t stream_of(const Tensor& tensor) { return static_cast<cudaStream_t>(tensor.stream()); }

void same_device(const Tensor& first, const Tensor& second) {
  if (first.device() != second.device()) second.fail<py::value_error>("is on another device");
}

void chacha20(py::handle key, py::handle nonce, uint32_t counter, py::handle out) {
  const Tensor key_(key, "key"), nonce_(nonce, "nonce"), out_(out, "out");
  const auto k = host_words(key_, 8), n = host_words(nonce_, 3);
  const auto o = out_.dense<int32_t, 1>(kDLCUDA);
  require((o.shape[0] + 15) / 16 <= (int64_t{1} << 32) - counter, "out reaches past the 2^32 blocks of a stream");
  py::gil_scoped_release release;
  gpu::OnDevice guard(out_.device());
  gpu::chacha20(k.data, n.data, counter, reinterpret_cast<uint32_t*>(o.data), o.shape[0], stream_of(out_));
}

void signed_normal(py::handle key, uint64_t first_row, py::handle signs, py::handle out) {
  const Tensor key_(key, "key"), signs_(signs, "signs"), out_(out, "out");
  const auto k = host_words(key_, 8);
  const auto s = device_words<2>(signs_);
  const auto o = out_.dense<float, 2>(kDLCUDA);
  same_device(out_, signs_);
  require(s.shape[0] == 1 || s.shape[0] == o.shape[0], "signs must have one row, or one per row of out");
  require(s.shape[1] == (o.shape[1] + 31) / 32, "signs must hold one bit per column of out");
  py::gil_scoped_release release;
  gpu::OnDevice guard(out_.device());
  gpu::signed_normal(k.data, first_row, bits_of(s.data), s.shape[0] == 1 ? 0 : s.shape[1], o.shape[0], o.shape[1],
                     o.data, stream_of(out_));
}

void sign_votes(py::handle z, py::handle pad, int64_t symbols, py::handle bits, py::handle agreement) {
  const Tensor z_(z, "z"), pad_(pad, "pad"), bits_(bits, "bits"), agreement_(agreement, "agreement");
  const auto in = z_.dense<const float, 2>(kDLCUDA);
  const auto p = device_words<1>(pad_);
  const auto b = bits_.dense<uint8_t, 2>(kDLCUDA);
  const auto a = agreement_.dense<int64_t, 1>(kDLCUDA);
  for (const Tensor* other : {&pad_, &bits_, &agreement_}) same_device(z_, *other);
  require(p.shape[0] == (in.shape[1] + 31) / 32, "pad must hold one bit per column of z");
  require(symbols >= 1 && symbols <= in.shape[1], "symbols must be 1 to the number of columns of z");
  require(b.shape[0] == in.shape[0] && a.shape[0] == in.shape[0], "bits and agreement must have one row per row of z");
  require(b.shape[1] == (symbols + 7) / 8, "bits must hold one bit per symbol");
  py::gil_scoped_release release;
  gpu::OnDevice guard(z_.device());
  gpu::sign_votes(in.data, bits_of(p.data), in.shape[0], in.shape[1], symbols, b.data, a.data, stream_of(z_));
}

// Blocks of a ChaCha20 stream are counted with 32 bits.
void require_blocks(int64_t patches, int64_t codes, int64_t width) {
  require(patches * codes <= (int64_t{1} << 32) / ((width + 15) / 16), "the noises reach past the 2^32 blocks of a stream");
}

// Codes are not looked at: one that is too large names a noise of another patch.
void patch_noise(py::handle key, py::handle code, int64_t codes, py::handle out) {
  const Tensor key_(key, "key"), code_(code, "code"), out_(out, "out");
  const auto k = host_words(key_, 8);
  const auto c = code_.dense<const uint8_t, 2>(kDLCUDA);
  const auto o = out_.dense<float, 3>(kDLCUDA);
  same_device(out_, code_);
  require(codes >= 1 && codes <= 256, "codes must be 1 to 256");
  require(c.shape[0] == o.shape[0] && c.shape[1] == o.shape[1], "code must hold one code per patch of out");
  require(o.shape[2] >= 1, "out must hold a value per patch");
  require_blocks(o.shape[1], codes, o.shape[2]);
  py::gil_scoped_release release;
  gpu::OnDevice guard(out_.device());
  gpu::patch_noise(k.data, c.data, codes, o.shape[0], o.shape[1], o.shape[2], o.data, stream_of(out_));
}

void patch_search(py::handle key, py::handle x, float least, py::handle best, py::handle matches) {
  const Tensor key_(key, "key"), x_(x, "x"), best_(best, "best"), matches_(matches, "matches");
  const auto k = host_words(key_, 8);
  const auto in = x_.dense<const float, 3>(kDLCUDA);
  const auto b = best_.dense<float, 2>(kDLCUDA);
  const auto m = matches_.dense<int32_t, 3>(kDLCUDA);
  for (const Tensor* other : {&best_, &matches_}) same_device(x_, *other);
  require(in.shape[2] >= 1, "x must hold a value per patch");
  require(m.shape[2] >= 1 && m.shape[2] <= 8, "matches must hold 1 to 8 words per patch");
  require(b.shape[0] == in.shape[0] && b.shape[1] == in.shape[1] && m.shape[0] == in.shape[0] && m.shape[1] == in.shape[1],
          "best and matches must have one entry per patch of x");
  require_blocks(in.shape[1], 32 * m.shape[2], in.shape[2]);
  py::gil_scoped_release release;
  gpu::OnDevice guard(x_.device());
  gpu::patch_search(k.data, in.data, in.shape[0], in.shape[1], in.shape[2], 32 * m.shape[2], least, b.data,
                    reinterpret_cast<uint32_t*>(m.data), stream_of(x_));
}

}  // namespace

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
  m.doc() = "CUDA kernels of the library. Private: use watermark.ops.";
  m.def("why_not", &gpu::why_not);
  m.def("device_name", &gpu::device_name, py::arg("device") = 0);
  m.def("chacha20", &chacha20, py::arg("key"), py::arg("nonce"), py::arg("counter"), py::arg("out"));
  m.def("signed_normal", &signed_normal, py::arg("key"), py::arg("first_row"), py::arg("signs"), py::arg("out"));
  m.def("sign_votes", &sign_votes, py::arg("z"), py::arg("pad"), py::arg("symbols"), py::arg("bits"),
        py::arg("agreement"));
  m.def("patch_noise", &patch_noise, py::arg("key"), py::arg("code"), py::arg("codes"), py::arg("out"));
  m.def("patch_search", &patch_search, py::arg("key"), py::arg("x"), py::arg("least"), py::arg("best"),
        py::arg("matches"));
  bind_batch(m);
  bind_batch_tokens(m);
}

}  // namespace watermark
