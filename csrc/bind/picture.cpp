// Bindings of the picture kernels: checks arrays, hands out scratch memory, spreads rows over threads.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include <pybind11/stl.h>

#include "bind/bind.hpp"

namespace watermark {
namespace {

constexpr int64_t rows_per_task = 64;



// Aligned for vectors, and not cleared.
struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<float, Free>;
Scratch scratch(int64_t floats) {
  auto* memory = static_cast<float*>(std::aligned_alloc(64, (static_cast<size_t>(floats) * 4 + 63) / 64 * 64));
  if (!memory) throw std::bad_alloc();
  return Scratch(memory);
}

// Floats that a kernel needs for its table of column positions: 96 bytes for eight pixels.
int64_t columns_of(int64_t width) { return (width + 7) / 8 * 24; }

// T: type of the samples, const where they are only read.
template <class T>
Pixels pixels_as(const Tensor& tensor, Sample sample) {
  const auto v = tensor.view<T, 3>(kDLCPU);
  require(v.shape[0] >= 1 && v.shape[1] >= 1, "pixels must not be empty");
  require(v.shape[2] >= 1 && v.shape[2] <= 4, "pixels must have 1 to 4 channels");
  return {const_cast<std::remove_const_t<T>*>(v.data), sample, v.shape[0], v.shape[1], v.shape[2], v.strides[0], v.strides[1],
          v.strides[2]};
}

template <bool written = false>
Pixels pixels_of(const Tensor& tensor) {
  const auto as = [&]<class T>(T, Sample sample) {
    return pixels_as<std::conditional_t<written, T, const T>>(tensor, sample);
  };
  if (tensor.holds<uint16_t>()) return as(uint16_t{}, Sample::uint16);
  if (tensor.holds<float>()) return as(float{}, Sample::float32);
  if (tensor.holds<double>()) return as(double{}, Sample::float64);
  return as(uint8_t{}, Sample::uint8);
}

void blur(py::handle image, py::handle taps, py::handle out, const std::string& isa) {
  const Tensor image_(image, "image"), taps_(taps, "taps"), out_(out, "out");
  const auto in = image_.dense<const float, 2>();
  const auto t = taps_.dense<const float, 1>();
  const auto o = out_.dense<float, 2>();
  require(in.shape[0] == o.shape[0] && in.shape[1] == o.shape[1], "image and out must have one shape");
  require(t.shape[0] >= 1 && t.shape[0] <= 64, "taps must hold 1 to 64 weights");
  require(in.size() == 0 || in.data != o.data, "blur cannot work in place");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(in.size() ? in.shape[0] : 0, rows_per_task, [&](int64_t begin, int64_t end) {
    const Scratch s = scratch(in.shape[1] + 2 * (t.shape[0] - 1));
    kernel.blur(in.data, in.shape[0], in.shape[1], t.data, static_cast<int>(t.shape[0]), begin, end, o.data, s.get());
  });
}

bool reduces(int64_t reduced, int64_t full, double factor) {
  // One output sample may cover less than its interval: a thin strip has no more to give.
  return reduced == 1 || (reduced > 1 && static_cast<double>(reduced) * factor <= static_cast<double>(full) + 1e-3 * factor);
}

// Luma, and for each limit its limited flow, what is left of that after blurring, and the cell means, in bands that stay
// in the second-level cache. high: where to keep the high-pass of the last limit, or None.
void limited_high_pass(py::handle pixels, double factor, const std::vector<float>& limits, py::handle taps, int64_t height,
                       int64_t width, py::handle means, py::handle high, const std::string& isa) {
  const Tensor pixels_(pixels, "pixels"), taps_(taps, "taps"), means_(means, "means");
  const Pixels p = pixels_of(pixels_);
  const auto t = taps_.dense<const float, 1>();
  const auto m = means_.dense<float, 4>();
  require(std::isfinite(factor) && factor >= 1, "factor must be at least 1");
  require(reduces(height, p.height, factor) && reduces(width, p.width, factor), "the reduced shape does not fit");
  require(t.shape[0] >= 1 && t.shape[0] <= 64, "taps must hold 1 to 64 weights");
  require(m.shape[0] == static_cast<int64_t>(limits.size()), "means must hold maps for each limit");
  require(m.shape[1] == 3 && m.shape[2] == (height + 3) / 4 && m.shape[3] == (width + 3) / 4, "means must hold 3 maps of 4 x 4 cells");
  float* kept = nullptr;
  std::optional<Tensor> high_;
  if (!high.is_none()) {
    const auto h = high_.emplace(high, "high").dense<float, 2>();
    require(h.shape[0] == height && h.shape[1] == width, "high does not have the reduced shape");
    kept = h.data;
  }
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const int64_t reach = t.shape[0] - 1;
  parallel_for(m.shape[2], rows_per_task / 4, [&](int64_t begin, int64_t end) {
    const int64_t first = 4 * begin, last = std::min(4 * end, height);
    const int64_t above = std::max<int64_t>(first - reach, 0), below = std::min(last + reach, height);
    const int64_t top = std::max<int64_t>(above - 1, 0), bottom = std::min(below + 1, height);
    const Scratch y = scratch((bottom - top) * width), f = scratch((below - above) * width);
    const Scratch b = scratch(kept ? 0 : (last - first) * width), s = scratch(2 * p.width + 8 * width + 2 * reach);
    // The kernels count rows from the top of the picture.
    float *luma = y.get() - top * width, *flow = f.get() - above * width, *out = kept ? kept : b.get() - first * width;
    kernel.luma(p, factor, top, bottom, width, luma, s.get());
    float* maps = m.data;
    for (const float limit : limits) {
      kernel.limited_flow(luma, height, width, limit, above, below, flow);
      kernel.blur(flow, height, width, t.data, static_cast<int>(t.shape[0]), first, last, out, s.get());
      kernel.cells(luma, out, height, width, begin, end, maps, s.get());
      maps += 3 * m.shape[2] * m.shape[3];
    }
  });
}

void whiten(py::handle high, py::handle weight, double clip, py::handle vertical, py::handle horizontal, py::handle out,
            const std::string& isa) {
  const Tensor high_(high, "high"), weight_(weight, "weight"), vertical_(vertical, "vertical"),
      horizontal_(horizontal, "horizontal"), out_(out, "out");
  const auto in = high_.dense<const float, 2>(), w = weight_.dense<const float, 2>();
  const auto v = vertical_.dense<const float, 1>(), h = horizontal_.dense<const float, 1>();
  const auto o = out_.dense<float, 2>();
  const int64_t height = in.shape[0], width = in.shape[1];
  require(o.shape[0] == height && o.shape[1] == width, "high and out must have one shape");
  require(in.size() > 0 && w.size() > 0, "high and weight must not be empty");
  require(v.shape[0] == height && h.shape[0] == width, "the windows must have the lengths of the sides");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const Scratch sums = scratch(height);
  parallel_for(height, rows_per_task, [&](int64_t begin, int64_t end) {
    const Scratch s = scratch(columns_of(width) + width + w.shape[1] + 16);
    kernel.weigh(in.data, width, w.data, w.shape[0], w.shape[1], begin, end, o.data, sums.get(), s.get());
  });
  double total = 0;
  for (int64_t y = 0; y < height; ++y) total += static_cast<double>(sums.get()[y]);
  const float scale = static_cast<float>(1 / (std::sqrt(total / static_cast<double>(in.size())) + 1e-9));
  parallel_for(height, rows_per_task, [&](int64_t begin, int64_t end) {
    kernel.clip_and_taper(o.data, width, scale, static_cast<float>(clip), v.data, h.data, begin, end);
  });
}

void fold(py::handle y, py::handle steps, py::handle out, const std::string& isa) {
  const Tensor y_(y, "y"), steps_(steps, "steps"), out_(out, "out");
  const auto in = y_.dense<const float, 2>();
  const auto t = steps_.dense<const int64_t, 1>();
  const auto o = out_.dense<float, 2>();
  require(o.shape[0] == t.shape[0] && o.shape[1] >= 1, "out must hold one cycle per step");
  for (int64_t i = 0; i < t.shape[0]; ++i) require(t.data[i] >= 0 && t.data[i] < o.shape[1], "steps must lie in the cycle");
  require(in.shape[0] < (int64_t{1} << 31) && o.shape[1] < (int64_t{1} << 31), "y and the cycle must have less than 2^31 rows");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  kernel.fold(in.data, in.shape[0], in.shape[1], t.data, t.shape[0], o.shape[1], o.data);
}

void add_pattern(py::handle pixels, py::handle cycles, int64_t step, py::handle amplitudes, double factor, py::handle out,
                 const std::string& isa) {
  const Tensor pixels_(pixels, "pixels"), cycles_(cycles, "cycles"), amplitudes_(amplitudes, "amplitudes"), out_(out, "out");
  const Pixels p = pixels_of(pixels_);
  const auto t = cycles_.dense<const float, 2>();
  const auto a = amplitudes_.dense<const float, 3>();
  const Pixels o = pixels_of<true>(out_);
  const int64_t layers = t.shape[0], period = t.shape[1];
  require(layers >= 1 && period >= 1 && period < (int64_t{1} << 31), "cycles must not be empty");
  require(step >= 0 && step < period, "step must lie in the cycle");
  require(a.size() > 0 && a.shape[0] == layers, "amplitudes must hold one map per cycle");
  require(std::isfinite(factor) && factor >= 1, "factor must be at least 1");
  require(o.height == p.height && o.width == p.width && o.channels == p.channels && o.sample == p.sample,
          "out must have the shape and the type of pixels");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  // Each cycle starts two places early and is followed by its beginning, so that rows are read without looking at its end.
  const int64_t stride = period + static_cast<int64_t>(static_cast<double>(p.width) / factor) + 32;
  const Scratch rows = scratch(layers * stride);
  for (int64_t layer = 0; layer < layers; ++layer)
    for (int64_t i = 0, from = (2 * period - 2) % period; i < stride; ++i, from = from + 1 < period ? from + 1 : 0)
      rows.get()[layer * stride + i] = t.data[layer * period + from];
  parallel_for(p.height, rows_per_task, [&](int64_t begin, int64_t end) {
    const Scratch s = scratch(3 * columns_of(p.width) + (4 * layers + 5) * (p.width + 8) + a.shape[2] + 40);
    kernel.add_pattern(p, rows.get(), stride, period, step, layers, a.data, a.shape[1], a.shape[2], factor, begin, end, o,
                       s.get());
  });
}

void correlate_tile(py::handle y, py::handle samples, py::handle g, py::handle offset, py::handle out,
                    const std::string& isa) {
  const Tensor y_(y, "y"), samples_(samples, "samples"), g_(g, "g"), offset_(offset, "offset"), out_(out, "out");
  const auto in = y_.dense<const float, 2>(), t = samples_.dense<const float, 2>();
  const auto m = g_.dense<const double, 2>();
  const auto at = offset_.dense<const double, 1>();
  const auto o = out_.dense<float, 3>();
  require(t.shape[0] == 128 && t.shape[1] == 128, "samples must hold 128 x 128 numbers");
  require(m.shape[0] == 2 && m.shape[1] == 2 && at.shape[0] == 2, "g must be a 2 x 2 matrix and offset a pair");
  for (int i = 0; i < 4; ++i) require(std::abs(m.data[i]) <= 16, "g must not move more than 16 periods per pixel");
  for (int i = 0; i < 2; ++i) require(std::abs(at.data[i]) <= 1e6, "offset must be at most 1e6 periods");
  require(o.shape[0] == 2 && o.shape[1] == (in.shape[0] + 7) / 8 && o.shape[2] == (in.shape[1] + 7) / 8,
          "out must have two entries per 8 x 8 cell");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const int64_t plane = o.shape[1] * o.shape[2];
  parallel_for(plane ? o.shape[1] : 0, 8, [&](int64_t begin, int64_t end) {
    kernel.correlate_tile(in.data, in.shape[0], in.shape[1], t.data, m.data, at.data, begin, end, o.data, o.data + plane);
  });
}

void demodulate(py::handle y, py::handle across, py::handle down, py::handle out, const std::string& isa) {
  const Tensor y_(y, "y"), across_(across, "across"), down_(down, "down"), out_(out, "out");
  const auto in = y_.dense<const float, 2>();
  const auto a = across_.dense<const float, 3>(), d = down_.dense<const float, 3>();
  const auto o = out_.dense<float, 3>();
  require(a.shape[1] == 2 && a.shape[2] == in.shape[1], "across must hold two numbers per wave and column");
  require(d.shape[1] == 2 && d.shape[2] == in.shape[0] && d.shape[0] == a.shape[0], "down must hold two numbers per wave and row");
  require(o.shape[0] == a.shape[0] && o.shape[1] == (in.shape[0] + 15) / 16 && o.shape[2] == (in.shape[1] + 15) / 16 * 2,
          "out must hold a complex number per wave and part");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(o.size() ? o.shape[1] : 0, 4, [&](int64_t begin, int64_t end) {
    const Scratch s = scratch(2 * (in.shape[1] + 8));
    kernel.demodulate(in.data, in.shape[0], in.shape[1], a.data, d.data, a.shape[0], begin, end, o.data, s.get());
  });
}

void displace(py::handle y, py::handle maps, py::handle out, const std::string& isa) {
  const Tensor y_(y, "y"), maps_(maps, "maps"), out_(out, "out");
  const auto in = y_.dense<const float, 2>();
  const auto m = maps_.dense<const float, 3>();
  const auto o = out_.dense<float, 2>();
  require(o.shape[0] == in.shape[0] && o.shape[1] == in.shape[1], "y and out must have one shape");
  require(in.size() == 0 || in.data != o.data, "displace cannot work in place");
  require(m.shape[0] == 3 && m.shape[1] == (in.shape[0] + 15) / 16 && m.shape[2] == (in.shape[1] + 15) / 16,
          "maps must hold three numbers per part");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(in.size() ? in.shape[0] : 0, rows_per_task, [&](int64_t begin, int64_t end) {
    const Scratch s = scratch(columns_of(in.shape[1]) + 3 * (in.shape[1] + 8) + m.shape[2] + 16);
    kernel.displace(in.data, in.shape[0], in.shape[1], m.data, begin, end, o.data, s.get());
  });
}

const Turns& turns() {
  static const Turns* made = [] {
    auto* t = new Turns;
    const auto angle = [](int64_t i) { return 2 * M_PI * static_cast<double>(i % field) / static_cast<double>(field); };
    for (int64_t i = 0; i < field; ++i)
      t->re[i] = static_cast<float>(std::cos(angle(i))), t->im[i] = static_cast<float>(-std::sin(angle(i)));
    for (int64_t k = 0; k < 32; ++k)
      for (int64_t n = 0; n < 32; ++n) t->pass_re[k][n] = t->re[k * n], t->pass_im[k][n] = t->im[k * n];
    return t;
  }();
  return *made;
}

void spectrum(py::handle y, py::handle out, const std::string& isa) {
  const Tensor y_(y, "y"), out_(out, "out");
  const auto in = y_.dense<const float, 2>();
  const auto o = out_.dense<float, 2>();
  require(in.shape[0] >= 1 && in.shape[0] <= field && in.shape[1] >= 1 && in.shape[1] <= field, "y must fit the field");
  require(o.shape[0] == field && o.shape[1] == 2 * half_field, "out must hold 1024 x 513 complex numbers");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const Scratch re = scratch(in.shape[0] * field_stride), im = scratch(in.shape[0] * field_stride);
  parallel_for((in.shape[0] + 1) / 2, 16, [&](int64_t begin, int64_t end) {
    kernel.spectrum_rows(in.data, in.shape[0], in.shape[1], begin, end, turns(), re.get(), im.get());
  });
  parallel_for((half_field + 7) / 8, 4, [&](int64_t begin, int64_t end) {
    const Scratch s = scratch(16 * field);
    kernel.spectrum_columns(re.get(), im.get(), in.shape[0], begin, end, turns(), o.data, s.get());
  });
}

void noise(py::handle values, py::handle out, const std::string& isa) {
  const Tensor values_(values, "values"), out_(out, "out");
  const auto v = values_.dense<const float, 2>();
  const auto o = out_.dense<float, 2>();
  require(v.shape[0] == field && v.shape[1] == 2 * half_field, "values must be a spectrum");
  require(o.shape[0] == noise_rows && o.shape[1] == noise_columns, "out must be a noise map");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const Scratch s = scratch(2 * noise_rows * noise_columns);
  kernel.noise(v.data, o.data, s.get());
}

void power_ratio(py::handle values, py::handle level, py::handle out, const std::string& isa) {
  const Tensor values_(values, "values"), level_(level, "level"), out_(out, "out");
  const auto v = values_.dense<const float, 2>(), l = level_.dense<const float, 2>();
  const auto o = out_.dense<float, 2>();
  require(v.shape[0] == field && v.shape[1] == 2 * half_field, "values must be a spectrum");
  require(l.shape[0] == noise_rows && l.shape[1] == noise_columns, "level must be a noise map");
  require(o.shape[0] == field && o.shape[1] == half_field, "out must hold 1024 x 513 numbers");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(field, rows_per_task, [&](int64_t begin, int64_t end) {
    kernel.power_ratio(v.data, l.data, begin, end, o.data);
  });
}

// places: for each entry of the table, its byte in the pooled map, or -1 for the neutral value.
void log_polar(py::handle ratio, py::handle places, py::handle out, const std::string& isa) {
  const Tensor ratio_(ratio, "ratio"), places_(places, "places"), out_(out, "out");
  const auto r = ratio_.dense<const float, 2>();
  const auto n = places_.dense<const int32_t, 2>();
  const auto o = out_.dense<uint8_t, 2>();
  require(r.shape[0] == field && r.shape[1] == half_field, "ratio must hold 1024 x 513 numbers");
  require(o.shape[0] == n.shape[0] && o.shape[1] == n.shape[1], "out must have the shape of places");
  const int64_t last = field * half_field;
  for (int64_t i = 0; i < n.size(); ++i) require(n.data[i] >= -1 && n.data[i] < last, "places must lie in the spectrum");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  constexpr int64_t stride = 576, left = 32, bytes = field * stride;
  const Scratch memory = scratch(3 * bytes / 4);
  auto* plane = reinterpret_cast<uint8_t*>(memory.get());
  parallel_for(field, rows_per_task, [&](int64_t begin, int64_t end) { kernel.quantise(r.data, begin, end, plane); });
  const uint8_t* pooled = plane + 2 * bytes;
  kernel.pool(plane, plane + bytes, plane + 2 * bytes);
  int64_t total = 0, known = 0;
  for (int64_t i = 0; i < n.size(); ++i) {
    const int64_t place = n.data[i];
    if (place < 0) continue;
    o.data[i] = pooled[place / half_field * stride + left + place % half_field];
    total += o.data[i], ++known;
  }
  const auto neutral = static_cast<uint8_t>(known ? (2 * total + known) / (2 * known) : 0);
  for (int64_t i = 0; i < n.size(); ++i)
    if (n.data[i] < 0) o.data[i] = neutral;
}

int64_t search(py::handle table, py::handle rows, py::handle turns, int64_t scales, py::handle out,
               const std::string& isa) {
  const Tensor table_(table, "table"), rows_(rows, "rows"), turns_(turns, "turns"), out_(out, "out");
  const auto t = table_.dense<const uint8_t, 2>();
  const auto r = rows_.dense<const int32_t, 2>(), a = turns_.dense<const int32_t, 2>();
  const auto o = out_.dense<int32_t, 2>();
  const int64_t hypotheses = r.shape[0], lines = r.shape[1], angles = t.shape[1];
  require(angles == 448, "table must have 448 columns");
  require(lines >= 2 && lines <= 36 && lines % 2 == 0, "an even number of at most 36 lines can be added up in a byte");
  require(a.shape[0] == hypotheses && a.shape[1] == lines, "rows and turns must have one shape");
  require(o.shape[0] >= 1 && o.shape[1] == 4, "out must have at least one row, of 4 columns");
  require(scales >= 0 && scales <= t.shape[0], "every line must stay in the table at every scale");
  uint8_t seen = 0;
  for (int64_t i = 0; i < t.size(); ++i) seen |= t.data[i];
  require(seen <= 7, "table must hold numbers up to 7");
  for (int64_t i = 0; i < r.size(); ++i)
    require(r.data[i] >= 0 && r.data[i] + scales <= t.shape[0] && a.data[i] >= 0 && a.data[i] < angles,
            "every line must stay in the table at every scale");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  const int64_t most = o.shape[0];
  const Scratch memory = scratch(t.shape[0] * angles * 3 / 8 + 16);
  auto* packed = reinterpret_cast<uint8_t*>(memory.get());
  kernel.pack_rows(t.data, t.shape[0], angles, packed);
  // Chunks of a fixed size, each with a list of its own: the result does not depend on the number of threads.
  constexpr int64_t chunk = 64;
  std::vector<std::vector<int32_t>> found(static_cast<size_t>((hypotheses + chunk - 1) / chunk));
  parallel_for(hypotheses, chunk, [&](int64_t begin, int64_t end) {
    auto& list = found[static_cast<size_t>(begin / chunk)];
    list.resize(static_cast<size_t>(16 * most));
    list.resize(static_cast<size_t>(4 * kernel.search_table(packed, angles, r.data, a.data, begin, end, lines, scales, most, list.data())));
  });
  std::vector<std::array<int32_t, 4>> all;
  for (const auto& list : found)
    for (size_t i = 0; i < list.size(); i += 4) all.push_back({list[i], list[i + 1], list[i + 2], list[i + 3]});
  std::stable_sort(all.begin(), all.end(), [](const auto& x, const auto& y) { return x[0] > y[0]; });
  const int64_t count = std::min(most, static_cast<int64_t>(all.size()));
  for (int64_t i = 0; i < count; ++i) std::copy(all[static_cast<size_t>(i)].begin(), all[static_cast<size_t>(i)].end(), o.data + 4 * i);
  return count;
}

void refine(py::handle ratio, py::handle maps, py::handle lines, int reach, py::handle scores, const std::string& isa) {
  const Tensor ratio_(ratio, "ratio"), maps_(maps, "maps"), lines_(lines, "lines"), scores_(scores, "scores");
  const auto r = ratio_.dense<const float, 2>();
  const auto m = maps_.dense<double, 3>();
  const auto f = lines_.dense<const double, 2>();
  const auto s = scores_.dense<double, 1>();
  require(r.shape[0] == field && r.shape[1] == half_field, "ratio must hold 1024 x 513 numbers");
  require(m.shape[1] == 2 && m.shape[2] == 2, "maps must be 2 x 2 matrices");
  require(s.shape[0] == m.shape[0], "scores must hold one number per map");
  require(f.shape[1] == 2, "lines must have two columns");
  require(reach >= 1 && reach <= 16, "reach must be 1 to 16");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(m.shape[0], 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) s.data[i] = kernel.refine(r.data, m.data + 4 * i, f.data, f.shape[0], reach);
  });
}

void sample(py::handle values, py::handle level, py::handle map, py::handle lines, py::handle sinc, py::handle out,
            const std::string& isa) {
  const Tensor values_(values, "values"), level_(level, "level"), map_(map, "map"), lines_(lines, "lines"),
      sinc_(sinc, "sinc"), out_(out, "out");
  const auto v = values_.dense<const float, 2>(), l = level_.dense<const float, 2>();
  const auto m = map_.dense<const double, 2>(), f = lines_.dense<const double, 2>();
  const auto table = sinc_.dense<const float, 1>();
  const auto o = out_.dense<float, 1>();
  require(v.shape[0] == field && v.shape[1] == 2 * half_field, "values must be a spectrum");
  require(l.shape[0] == noise_rows && l.shape[1] == noise_columns, "level must be a noise map");
  require(m.shape[0] == 2 && m.shape[1] == 2, "map must be a 2 x 2 matrix");
  require(f.shape[1] == 2, "lines must have two columns");
  require(table.shape[0] == 4097, "sinc must hold 4097 entries");
  require(o.shape[0] == 2 * f.shape[0], "out must hold one complex number per line");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  kernel.sample(v.data, l.data, m.data, f.data, f.shape[0], table.data, o.data);
}

double polish(py::handle values, py::handle level, py::handle map, py::handle directions, py::handle lines,
              py::handle turns, py::handle sinc, const std::string& isa) {
  const Tensor values_(values, "values"), level_(level, "level"), map_(map, "map"), directions_(directions, "directions"),
      lines_(lines, "lines"), turns_(turns, "turns"), sinc_(sinc, "sinc");
  const auto v = values_.dense<const float, 2>(), l = level_.dense<const float, 2>();
  const auto m = map_.dense<double, 2>();
  const auto f = lines_.dense<const double, 2>();
  const auto d = directions_.dense<const double, 3>();
  require(d.shape[1] == 2 && d.shape[2] == 2, "directions must be 2 x 2 matrices");
  const auto t = turns_.dense<const float, 1>(), table = sinc_.dense<const float, 1>();
  require(v.shape[0] == field && v.shape[1] == 2 * half_field, "values must be a spectrum");
  require(l.shape[0] == noise_rows && l.shape[1] == noise_columns, "level must be a noise map");
  require(m.shape[0] == 2 && m.shape[1] == 2, "map must be a 2 x 2 matrix");
  require(f.shape[1] == 2 && t.shape[0] == 2 * f.shape[0], "lines must have two columns, and turns a complex number each");
  require(table.shape[0] == 4097, "sinc must hold 4097 entries");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  return static_cast<double>(kernel.polish(v.data, l.data, m.data, d.data, d.shape[0], f.data, t.data, f.shape[0], table.data));
}

// Rows: cos and sin of 2 pi i / count.
View<const float, 2> circle_of(const Tensor& tensor, int64_t count) {
  const auto v = tensor.dense<const float, 2>();
  require(v.shape[0] == 2 && v.shape[1] == count, "circle must hold the cosine and sine of every step");
  return v;
}

py::tuple locate(py::handle sync, py::handle lines, int64_t period, py::handle circle, const std::string& isa) {
  const Tensor sync_(sync, "sync"), lines_(lines, "lines"), circle_(circle, "circle");
  const auto v = sync_.dense<const float, 1>();
  const auto n = lines_.dense<const int64_t, 2>();
  require(n.shape[1] == 2 && v.shape[0] == 2 * n.shape[0] && n.shape[0] <= 64, "sync must hold a complex number per line, at most 64");
  require(period >= 4 && period <= 1024 && period % 4 == 0, "period must be a multiple of 4 up to 1024");
  const auto turn = circle_of(circle_, 16 * period);
  const Kernels& kernel = pick(isa);
  double found[3];
  {
    py::gil_scoped_release release;
    const Scratch s = scratch(4 * period * n.shape[0]);
    kernel.locate(v.data, n.data, n.shape[0], period, turn.data, turn.data + 16 * period, s.get(), found);
  }
  return py::make_tuple(found[0], found[1], found[2]);
}

}  // namespace

void bind_pictures(py::module_& m) {
  const auto isa = py::arg("isa") = "";
  m.def("blur", &blur, py::arg("image"), py::arg("taps"), py::arg("out"), isa);
  m.def("limited_high_pass", &limited_high_pass, py::arg("pixels"), py::arg("factor"), py::arg("limits"), py::arg("taps"),
        py::arg("height"), py::arg("width"), py::arg("means"), py::arg("high"), isa);
  m.def("whiten", &whiten, py::arg("high"), py::arg("weight"), py::arg("clip"), py::arg("vertical"), py::arg("horizontal"),
        py::arg("out"), isa);
  m.def("fold", &fold, py::arg("y"), py::arg("steps"), py::arg("out"), isa);
  m.def("add_pattern", &add_pattern, py::arg("pixels"), py::arg("cycles"), py::arg("step"), py::arg("amplitudes"), py::arg("factor"),
        py::arg("out"), isa);
  m.def("correlate_tile", &correlate_tile, py::arg("y"), py::arg("samples"), py::arg("g"), py::arg("offset"), py::arg("out"),
        isa);
  m.def("demodulate", &demodulate, py::arg("y"), py::arg("across"), py::arg("down"), py::arg("out"), isa);
  m.def("displace", &displace, py::arg("y"), py::arg("maps"), py::arg("out"), isa);
  m.def("spectrum", &spectrum, py::arg("y"), py::arg("out"), isa);
  m.def("noise", &noise, py::arg("values"), py::arg("out"), isa);
  m.def("power_ratio", &power_ratio, py::arg("values"), py::arg("level"), py::arg("out"), isa);
  m.def("log_polar", &log_polar, py::arg("ratio"), py::arg("places"), py::arg("out"), isa);
  m.def("search", &search, py::arg("table"), py::arg("rows"), py::arg("turns"), py::arg("scales"), py::arg("out"), isa);
  m.def("refine", &refine, py::arg("ratio"), py::arg("maps"), py::arg("lines"), py::arg("reach"), py::arg("scores"), isa);
  m.def("sample", &sample, py::arg("values"), py::arg("level"), py::arg("map"), py::arg("lines"), py::arg("sinc"),
        py::arg("out"), isa);
  m.def("polish", &polish, py::arg("values"), py::arg("level"), py::arg("map"), py::arg("directions"),
        py::arg("lines"), py::arg("turns"), py::arg("sinc"), isa);
  m.def("locate", &locate, py::arg("sync"), py::arg("lines"), py::arg("period"), py::arg("circle"), isa);
}

}  // namespace watermark
