// Bindings of the parity kernels: checks arrays, hands out scratch memory, spreads rows over threads.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "bind/bind.hpp"

namespace watermark {
namespace {

constexpr int64_t lanes = 32, max_degree = 16, magnitudes = 256, votes = 128, max_coordinates = int64_t{1} << 28;

// Coordinates of checks, each row below `count`.
void require_coordinates(const int32_t* first, int64_t size, int64_t count) {
  // One pass without a branch: the top bit stays 0 as long as neither c nor last - c is negative.
  const auto last = static_cast<uint32_t>(std::min(count, int64_t{1} << 31) - 1);
  uint32_t outside = 0;
  for (int64_t i = 0; i < size; ++i) outside |= static_cast<uint32_t>(first[i]) | (last - static_cast<uint32_t>(first[i]));
  require(size == 0 || !(outside >> 31), "a check names a coordinate that there is not");
}

View<const int32_t, 2> checks_of(const Tensor& tensor, int64_t coordinates) {
  const auto checks = tensor.dense<const int32_t, 2>();
  require(checks.shape[1] >= 2 && checks.shape[1] <= max_degree, "a check must have 2 to 16 coordinates");
  require_coordinates(checks.data, checks.size(), coordinates);
  return checks;
}

void extend_code(py::handle checks, py::handle bits, const std::string& isa) {
  const Tensor checks_(checks, "checks"), bits_(bits, "bits");
  const auto b = bits_.dense<uint8_t, 2>();
  const auto c = checks_of(checks_, b.shape[1]);
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(b.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      kernel.extend_code(c.data, c.shape[0], static_cast<int>(c.shape[1]), b.data + row * b.shape[1]);
  });
}

void code_signs(py::handle bits, py::handle flips, py::handle pad, int64_t count, py::handle signs, const std::string& isa) {
  const Tensor bits_(bits, "bits"), flips_(flips, "flips"), pad_(pad, "pad"), signs_(signs, "signs");
  const auto b = bits_.dense<const uint8_t, 2>();
  const auto f = flips_.dense<const uint32_t, 2>();
  const auto p = pad_.dense<const uint32_t, 1>();
  const auto out = signs_.dense<uint32_t, 2>();
  const int64_t rows = out.shape[0], words = out.shape[1];
  require(count >= 1 && count <= b.shape[1] && count <= max_coordinates, "bits must have a column per coordinate");
  require(b.shape[0] == (rows + 7) / 8, "bits must have one row per eight rows of signs");
  require(f.shape[0] == rows, "flips must have one row per row of signs");
  require(words == (count + 31) / 32 && p.shape[0] == words, "signs and pad must hold one bit per coordinate");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      kernel.code_signs(b.data + row / 8 * b.shape[1], count, static_cast<int>(7 - row % 8), f.data + row * f.shape[1],
                        f.shape[1], p.data, out.data + row * words);
  });
}

int64_t schedule(py::handle checks, int64_t coordinates, py::handle places) {
  const Tensor checks_(checks, "checks"), places_(places, "places");
  require(coordinates >= 0 && coordinates <= max_coordinates, "there are too many coordinates");
  const auto c = checks_of(checks_, coordinates + 1);  // the last one stands for none
  const auto p = places_.dense<int32_t, 1>();
  require(p.shape[0] == c.shape[0], "places must have one entry per check");
  py::gil_scoped_release release;
  // The first layer that comes after all layers with one of the check's coordinates, and has room.
  std::vector<int32_t> next(static_cast<size_t>(coordinates) + 1, 0), room, used;
  const auto open = [&](int32_t layer) {
    int32_t found = layer;
    while (room[static_cast<size_t>(found)] != found) found = room[static_cast<size_t>(found)];
    while (room[static_cast<size_t>(layer)] != found) layer = std::exchange(room[static_cast<size_t>(layer)], found);
    return found;
  };
  int32_t layers = 0;
  const auto grow = [&] { room.push_back(layers++), used.push_back(0); };
  grow();
  for (int64_t j = 0; j < c.shape[0]; ++j) {
    const int32_t* who = c.data + j * c.shape[1];
    int32_t after = 0;
    for (int64_t e = 0; e < c.shape[1]; ++e) after = std::max(after, next[static_cast<size_t>(who[e])]);
    while (after >= layers) grow();
    const int32_t layer = open(after);
    p.data[j] = layer * static_cast<int32_t>(lanes) + used[static_cast<size_t>(layer)];
    if (++used[static_cast<size_t>(layer)] == lanes) {
      if (layer + 1 == layers) grow();
      room[static_cast<size_t>(layer)] = layer + 1;
    }
    for (int64_t e = 0; e < c.shape[1]; ++e)
      if (who[e] < coordinates) next[static_cast<size_t>(who[e])] = layer + 1;
  }
  return used.back() ? layers : layers - 1;
}

struct Signs {
  View<const float, 2> z;
  View<const uint32_t, 1> pad;
};

Signs signs_of(const Tensor& z, const Tensor& pad) {
  Signs s{z.dense<const float, 2>(), pad.dense<const uint32_t, 1>()};
  require(s.pad.shape[0] == (s.z.shape[1] + 31) / 32, "pad must hold one bit per column of z");
  return s;
}

void syndrome(py::handle z, py::handle pad, py::handle checks, py::handle weights, py::handle levels, py::handle scales,
              py::handle counts, const std::string& isa) {
  const Tensor z_(z, "z"), pad_(pad, "pad"), checks_(checks, "checks"), weights_(weights, "weights"),
      levels_(levels, "levels"), scales_(scales, "scales"), counts_(counts, "counts");
  const Signs s = signs_of(z_, pad_);
  const int64_t rows = s.z.shape[0], n = s.z.shape[1];
  const auto c = checks_of(checks_, n);
  const auto w = weights_.dense<const uint16_t, 1>();
  const auto l = levels_.dense<const uint8_t, 1>();
  const auto scale = scales_.dense<float, 1>();
  const auto out = counts_.dense<int32_t, 2>();
  require(w.shape[0] == magnitudes, "weights must hold 256 entries");
  const int64_t largest = *std::max_element(w.data, w.data + magnitudes) * c.shape[1];
  require(largest < l.shape[0] && largest < 1 << 15, "levels must have an entry for every sum of weights");
  require(std::all_of(l.data, l.data + l.shape[0], [](uint8_t level) { return level < votes / 2; }), "levels must be below 64");
  require(scale.shape[0] == rows && out.shape[0] == rows && out.shape[1] == votes,
          "scales and counts must have one row per row of z, counts 128 columns");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<uint16_t> codes(static_cast<size_t>(n));
    for (int64_t row = begin; row < end; ++row) {
      const float* in = s.z.data + row * n;
      scale.data[row] = kernel.scale_of_row(in, n);
      kernel.parity_codes(in, s.pad.data, n, scale.data[row], w.data, codes.data());
      kernel.parity_votes(codes.data(), c.data, c.shape[0], static_cast<int>(c.shape[1]), l.data, out.data + row * votes);
    }
  });
}

void rademacher_tail(py::handle counts, py::handle values, py::handle scores, py::handle log_p, const std::string& isa) {
  const Tensor counts_(counts, "counts"), values_(values, "values"), scores_(scores, "scores"), log_p_(log_p, "log_p");
  const auto c = counts_.dense<const int32_t, 2>();
  const auto v = values_.dense<const int32_t, 1>();
  const auto s = scores_.dense<double, 1>(), p = log_p_.dense<double, 1>();
  require(c.shape[1] == 2 * v.shape[0], "counts must have two columns per value");
  require(s.shape[0] == c.shape[0] && p.shape[0] == c.shape[0], "scores and log_p must have one entry per row of counts");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(c.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      p.data[row] = kernel.rademacher_tail(c.data + row * c.shape[1], v.data, static_cast<int>(v.shape[0]), s.data + row);
  });
}

View<const int32_t, 3> layers_of(const Tensor& tensor, int64_t coordinates) {
  const auto layers = tensor.dense<const int32_t, 3>();
  require(layers.shape[1] >= 2 && layers.shape[1] <= max_degree && layers.shape[2] == lanes,
          "layers must have shape (count, 2 to 16, 32)");
  require_coordinates(layers.data, layers.size(), coordinates + 1);  // the last one fills up
  return layers;
}

void beliefs(py::handle z, py::handle pad, py::handle scales, py::handle odds, py::handle outer, py::handle inner,
             int passes, int patience, py::handle totals, py::handle unsatisfied, const std::string& isa) {
  const Tensor z_(z, "z"), pad_(pad, "pad"), scales_(scales, "scales"), odds_(odds, "odds"), outer_(outer, "outer"),
      inner_(inner, "inner"), totals_(totals, "totals"), unsatisfied_(unsatisfied, "unsatisfied");
  const Signs s = signs_of(z_, pad_);
  const int64_t rows = s.z.shape[0], n = s.z.shape[1];
  const auto scale = scales_.dense<const float, 1>();
  const auto o = odds_.dense<const float, 1>();
  const View<const int32_t, 3> sets[] = {layers_of(outer_, n), layers_of(inner_, n)};
  const auto t = totals_.dense<float, 2>();
  const auto u = unsatisfied_.dense<int64_t, 1>();
  require(o.shape[0] == magnitudes, "odds must hold 256 entries");
  require(scale.shape[0] == rows && u.shape[0] == rows && t.shape[0] == rows && t.shape[1] == n + 1,
          "scales, totals and unsatisfied must have one row per row of z, totals one column more than z");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> messages;
    for (int64_t row = begin; row < end; ++row) {
      float* total = t.data + row * (n + 1);
      kernel.parity_priors(s.z.data + row * n, s.pad.data, n, scale.data[row], o.data, total);
      total[n] = 30.0f;
      messages.assign(static_cast<size_t>(sets[0].size() + sets[1].size()), 0.0f);
      int64_t best = std::numeric_limits<int64_t>::max();
      for (int pass = 0, last = 0; pass < passes && pass - last <= patience; ++pass) {
        int64_t wrong = 0;
        float* message = messages.data();
        for (const auto& set : sets) {
          wrong += kernel.update_layers(total, set.data, message, set.shape[0], static_cast<int>(set.shape[1]), n);
          message += set.size();
        }
        u.data[row] = wrong;
        if (wrong < best) best = wrong, last = pass;
        if (wrong == 0) break;
      }
    }
  });
}

}  // namespace

void bind_parity(py::module_& m) {
  const auto isa = py::arg("isa") = "";
  m.def("extend_code", &extend_code, py::arg("checks"), py::arg("bits"), isa);
  m.def("code_signs", &code_signs, py::arg("bits"), py::arg("flips"), py::arg("pad"), py::arg("count"), py::arg("signs"),
        isa);
  m.def("schedule", &schedule, py::arg("checks"), py::arg("coordinates"), py::arg("places"));
  m.def("syndrome", &syndrome, py::arg("z"), py::arg("pad"), py::arg("checks"), py::arg("weights"), py::arg("levels"),
        py::arg("scales"), py::arg("counts"), isa);
  m.def("rademacher_tail", &rademacher_tail, py::arg("counts"), py::arg("values"), py::arg("scores"), py::arg("log_p"), isa);
  m.def("beliefs", &beliefs, py::arg("z"), py::arg("pad"), py::arg("scales"), py::arg("odds"), py::arg("outer"),
        py::arg("inner"), py::arg("passes"), py::arg("patience"), py::arg("totals"), py::arg("unsatisfied"), isa);
}

}  // namespace watermark
