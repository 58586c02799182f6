// Python module watermark._core: checks arrays, releases the GIL, calls the kernels. No arithmetic in here.
#include "bind/batch.hpp"
#include "bind/bind.hpp"
#include "kernels/normal_table.hpp"

#include <cstring>
#include <limits>
#include <vector>

namespace watermark {

const Kernels& pick(const std::string& isa) {
  const Kernels* found = kernels(isa.c_str());
  if (!found) throw py::value_error("this machine has no kernels for '" + isa + "'");
  return *found;
}

namespace {

View<const uint32_t, 1> key_words(const Tensor& tensor) {
  const auto key = tensor.dense<const uint32_t, 1>();
  require(key.shape[0] == 8, "key must hold 8 words");
  return key;
}

void chacha20(py::handle key, py::handle nonce, uint32_t counter, py::handle out, const std::string& isa) {
  const Tensor key_(key, "key"), nonce_(nonce, "nonce"), out_(out, "out");
  const auto k = key_words(key_);
  const auto n = nonce_.dense<const uint32_t, 1>();
  const auto o = out_.dense<uint32_t, 1>();
  require(n.shape[0] == 3, "nonce must hold 3 words");
  require((o.shape[0] + 15) / 16 <= (int64_t{1} << 32) - counter, "out reaches past the 2^32 blocks of a stream");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  constexpr int64_t grain = 1 << 15;
  parallel_for(o.shape[0], grain, [&](int64_t begin, int64_t end) {
    kernel.chacha(k.data, n.data, counter + static_cast<uint32_t>(begin / 16), o.data + begin, end - begin);
  });
}

void half_normal(py::handle words, py::handle out, const std::string& isa) {
  const Tensor words_(words, "words"), out_(out, "out");
  const auto w = words_.dense<const uint32_t, 1>();
  const auto o = out_.dense<float, 1>();
  require(w.shape[0] == o.shape[0], "words and out must have one length");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  kernel.half_normal(w.data, o.data, w.shape[0]);
}

void signed_normal(py::handle key, uint64_t first_row, py::handle signs, py::handle out, const std::string& isa) {
  const Tensor key_(key, "key"), signs_(signs, "signs"), out_(out, "out");
  const auto k = key_words(key_);
  const auto s = signs_.dense<const uint32_t, 2>();
  const auto o = out_.dense<float, 2>();
  require(s.shape[0] == 1 || s.shape[0] == o.shape[0], "signs must have one row, or one per row of out");
  require(s.shape[1] == (o.shape[1] + 31) / 32, "signs must hold one bit per column of out");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(o.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      kernel.signed_normal(k.data, first_row + static_cast<uint64_t>(row), s.data + (s.shape[0] == 1 ? 0 : row * s.shape[1]),
                           o.shape[1], o.data + row * o.shape[1]);
  });
}

void sign_votes(py::handle z, py::handle pad, int64_t symbols, py::handle bits, py::handle agreement, const std::string& isa) {
  const Tensor z_(z, "z"), pad_(pad, "pad"), bits_(bits, "bits"), agreement_(agreement, "agreement");
  const auto in = z_.dense<const float, 2>();
  const auto p = pad_.dense<const uint32_t, 1>();
  const auto b = bits_.dense<uint8_t, 2>();
  const auto a = agreement_.dense<int64_t, 1>();
  require(p.shape[0] == (in.shape[1] + 31) / 32, "pad must hold one bit per column of z");
  require(symbols >= 1 && symbols <= in.shape[1], "symbols must be 1 to the number of columns of z");
  require(b.shape[0] == in.shape[0] && a.shape[0] == in.shape[0], "bits and agreement must have one row per row of z");
  require(b.shape[1] == (symbols + 7) / 8, "bits must hold one bit per symbol");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(in.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      a.data[row] = kernel.sign_votes(in.data + row * in.shape[1], p.data, in.shape[1], symbols, b.data + row * b.shape[1]);
  });
}

void simhash(py::handle projections, py::handle v, py::handle codes, const std::string& isa) {
  const Tensor projections_(projections, "projections"), v_(v, "v"), codes_(codes, "codes");
  const auto p = projections_.dense<const int16_t, 3>();
  const auto in = v_.dense<const int16_t, 2>();
  const auto out = codes_.dense<uint8_t, 2>();
  require(p.shape[1] >= 1 && p.shape[1] <= 8, "projections must hold 1 to 8 bits per patch");
  require(in.shape[1] == p.shape[2], "v must have the dimension of the projections");
  require(out.shape[0] == in.shape[0] && out.shape[1] == p.shape[0], "codes must hold one code per vector and patch");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(p.shape[0], 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < in.shape[0]; ++row)
      kernel.simhash(p.data, p.shape[1], in.data + row * in.shape[1], in.shape[1], begin, end, out.data + row * out.shape[1]);
  });
}

// Blocks of a ChaCha20 stream are counted with 32 bits.
void require_blocks(int64_t patches, int64_t codes, int64_t width) {
  require(patches * codes <= (int64_t{1} << 32) / ((width + 15) / 16), "the noises reach past the 2^32 blocks of a stream");
}

void patch_noise(py::handle key, py::handle code, int64_t codes, py::handle out, const std::string& isa) {
  const Tensor key_(key, "key"), code_(code, "code"), out_(out, "out");
  const auto k = key_words(key_);
  const auto c = code_.dense<const uint8_t, 2>();
  const auto o = out_.dense<float, 3>();
  require(codes >= 1 && codes <= 256, "codes must be 1 to 256");
  require(c.shape[0] == o.shape[0] && c.shape[1] == o.shape[1], "code must hold one code per patch of out");
  require(o.shape[2] >= 1, "out must hold a value per patch");
  require_blocks(o.shape[1], codes, o.shape[2]);
  for (int64_t i = 0; i < c.size(); ++i) require(c.data[i] < codes, "code must hold numbers below codes");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(o.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      kernel.patch_noise(k.data, c.data + row * c.shape[1], codes, o.shape[2], 0, o.shape[1],
                         o.data + row * o.shape[1] * o.shape[2]);
  });
}

void patch_search(py::handle key, py::handle x, float least, py::handle best, py::handle matches, const std::string& isa) {
  const Tensor key_(key, "key"), x_(x, "x"), best_(best, "best"), matches_(matches, "matches");
  const auto k = key_words(key_);
  const auto in = x_.dense<const float, 3>();
  const auto b = best_.dense<float, 2>();
  const auto m = matches_.dense<uint32_t, 3>();
  require(in.shape[2] >= 1 && in.shape[2] <= (int64_t{1} << 28), "x must hold 1 to 2^28 values per patch");
  require(m.shape[2] >= 1 && m.shape[2] <= 8, "matches must hold 1 to 8 words per patch");
  require(b.shape[0] == in.shape[0] && b.shape[1] == in.shape[1] && m.shape[0] == in.shape[0] && m.shape[1] == in.shape[1],
          "best and matches must have one entry per patch of x");
  const int64_t codes = 32 * m.shape[2];
  require_blocks(in.shape[1], codes, in.shape[2]);
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(in.shape[1], 32, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(kernel.patch_scratch_floats(in.shape[2])));
    kernel.patch_search(k.data, in.data, in.shape[0], in.shape[1], in.shape[2], codes, least, begin, end, scratch.data(),
                        b.data, m.data);
  });
}

void patch_counts(py::handle matches, py::handle code, py::handle masks, py::handle counts, const std::string& isa) {
  const Tensor matches_(matches, "matches"), code_(code, "code"), masks_(masks, "masks"), counts_(counts, "counts");
  const auto m = matches_.dense<const uint32_t, 3>();
  const auto c = code_.dense<const uint8_t, 2>();
  const auto s = masks_.dense<const uint8_t, 2>();
  const auto o = counts_.dense<int32_t, 2>();
  require(c.shape[0] == 1 || c.shape[0] == m.shape[0], "code must have one row, or one per row of matches");
  require(c.shape[1] == m.shape[1] && s.shape[1] == m.shape[1], "code and masks must have one column per patch");
  require(o.shape[0] == m.shape[0] && o.shape[1] == s.shape[0], "counts must have one entry per row and mask");
  uint8_t codes = 0, turns = 0;
  for (int64_t i = 0; i < c.size(); ++i) codes |= c.data[i];
  for (int64_t i = 0; i < s.size(); ++i) turns |= s.data[i];
  require((codes | turns) / 32 < m.shape[2], "code and masks must name bits of matches");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(o.size(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / s.shape[0], mask = i % s.shape[0];
      o.data[i] = kernel.patch_count(m.data + row * m.shape[1] * m.shape[2], m.shape[2],
                                     c.data + (c.shape[0] == 1 ? 0 : row * c.shape[1]), s.data + mask * s.shape[1],
                                     m.shape[1]);
    }
  });
}

int polar_decode(py::handle soft, py::handle information, py::handle bits, py::handle words, const std::string& isa) {
  const Tensor soft_(soft, "soft"), information_(information, "information"), bits_(bits, "bits"), words_(words, "words");
  const auto in = soft_.dense<const float, 1>();
  const auto free = information_.dense<const int32_t, 1>();
  const auto out = bits_.dense<uint8_t, 2>();
  const int64_t symbols = in.shape[0];
  require(symbols >= 2 && symbols <= (1 << 16) && !(symbols & (symbols - 1)), "soft must hold a power of two, 2 to 65536");
  require(out.shape[0] >= 1 && out.shape[0] <= 64, "bits must have 1 to 64 rows");
  require(out.shape[1] == free.shape[0], "bits must have one column per information position");
  const auto symbols_out = words_.dense<uint8_t, 2>();
  require(symbols_out.shape[0] == out.shape[0] && symbols_out.shape[1] == symbols,
          "words must have the rows of bits, and one column per symbol");
  std::vector<uint8_t> frozen(static_cast<size_t>(symbols), 1);
  int64_t last = -1;
  for (int64_t i = 0; i < free.shape[0]; ++i) {
    require(free.data[i] > last && free.data[i] < symbols, "information must ascend within the code");
    frozen[static_cast<size_t>(last = free.data[i])] = 0;
  }
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const int layers = __builtin_ctzll(static_cast<uint64_t>(symbols)), paths = static_cast<int>(out.shape[0]);
  std::vector<float> scratch(static_cast<size_t>(kernel.polar_scratch_bytes(layers, paths, free.shape[0])) / 4 + 1);
  return kernel.polar_decode(in.data, layers, frozen.data(), free.shape[0], paths, scratch.data(), out.data,
                             symbols_out.data);
}

void word_ratios(py::handle likelihood, py::handle symbols, py::handle out, const std::string& isa) {
  const Tensor likelihood_(likelihood, "likelihood"), symbols_(symbols, "symbols"), out_(out, "out");
  const auto in = likelihood_.dense<const double, 2>();
  const auto words = symbols_.dense<const uint8_t, 2>();
  const auto ratios = out_.dense<float, 2>();
  require(words.shape[0] >= 1 && in.shape[1] == words.shape[0], "likelihood must have as many columns as there are words");
  require(ratios.shape[0] == in.shape[0] && ratios.shape[1] == words.shape[1],
          "out must have a row per site, and a column per symbol");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  std::vector<double> odds(static_cast<size_t>(words.shape[0]));
  for (int64_t i = 0; i < in.shape[0]; ++i)
    kernel.word_ratios(in.data + i * in.shape[1], words.shape[0], words.data, words.shape[1], odds.data(),
                       ratios.data + i * ratios.shape[1]);
}

double log_binomial_tail(int64_t count, int64_t trials, double rate, const std::string& isa) {
  require(count >= 1 && count <= trials && rate > 0.0 && rate < 1.0, "count must be 1 to trials, and rate between 0 and 1");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  return kernel.log_binomial_tail(count, trials, rate);
}

double log_gamma_tail(double x, int64_t count, const std::string& isa) {
  require(count >= 1 && x > 0.0 && x <= std::numeric_limits<double>::max(), "count must be 1 or more, and x above 0 and finite");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  return kernel.log_gamma_tail(x, count);
}

py::array_t<float> half_normal_table() {
  py::array_t<float> table({normal_pieces, 4});
  std::memcpy(table.mutable_data(), normal_table, sizeof normal_table);
  return table;
}

py::tuple isas() {
  py::list names;
  for (const char* const* name = instruction_sets(); *name; ++name) names.append(*name);
  return py::tuple(names);
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "Compiled kernels of the library. Private: use watermark.ops.";
  m.def("instruction_sets", &isas);
  m.def("set_threads", [](int count) {
    require(count >= 0, "the number of threads must not be negative");
    set_threads(count);
  });
  m.def("threads", &threads);

  const auto isa = py::arg("isa") = "";
  m.def("chacha20", &chacha20, py::arg("key"), py::arg("nonce"), py::arg("counter"), py::arg("out"), isa);
  m.def("half_normal", &half_normal, py::arg("words"), py::arg("out"), isa);
  m.def("half_normal_table", &half_normal_table);
  m.def("signed_normal", &signed_normal, py::arg("key"), py::arg("first_row"), py::arg("signs"), py::arg("out"), isa);
  m.def("sign_votes", &sign_votes, py::arg("z"), py::arg("pad"), py::arg("symbols"), py::arg("bits"),
        py::arg("agreement"), isa);
  m.def("simhash", &simhash, py::arg("projections"), py::arg("v"), py::arg("codes"), isa);
  m.def("patch_noise", &patch_noise, py::arg("key"), py::arg("code"), py::arg("codes"), py::arg("out"), isa);
  m.def("patch_search", &patch_search, py::arg("key"), py::arg("x"), py::arg("least"), py::arg("best"), py::arg("matches"),
        isa);
  m.def("patch_counts", &patch_counts, py::arg("matches"), py::arg("code"), py::arg("masks"), py::arg("counts"), isa);
  m.def("polar_decode", &polar_decode, py::arg("soft"), py::arg("information"), py::arg("bits"),
        py::arg("words"), isa);

  m.def("word_ratios", &word_ratios, py::arg("likelihood"), py::arg("symbols"), py::arg("out"), isa);
  m.def("log_binomial_tail", &log_binomial_tail, py::arg("count"), py::arg("trials"), py::arg("rate"), isa);
  m.def("log_gamma_tail", &log_gamma_tail, py::arg("x"), py::arg("count"), isa);

  bind_alignment(m);
  bind_foreign(m);
  bind_parity(m);
  bind_tokens(m);
  bind_pictures(m);
  py::module_ emulated = m.def_submodule("_emulated", "What a GPU would run, run by one thread of the CPU. For tests.");
  bind_batch(emulated);
  bind_batch_tokens(emulated);
}

}  // namespace watermark
