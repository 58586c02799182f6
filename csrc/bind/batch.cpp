// Bindings of the kernels for many pictures or latents: checks tensors, starts the kernels on the tensors' stream. Compiled twice,
// for the memory of a CUDA device and, with WM_EMULATED, for that of the CPU.
#include "bind/batch.hpp"

#include <cmath>

#include "bind/device.hpp"
#include "cuda/batch.hpp"

namespace watermark {
namespace {

namespace kernels = watermark::WM_ISA;
using kernels::device_type;
using kernels::OnDevice;
using kernels::same_device;

// C-contiguous, in the memory that the kernels work on.
template <class T, int N>
View<T, N> on_device(const Tensor& tensor) {
  return tensor.dense<T, N>(device_type);
}

template <class T>
kernels::PixelBatch pixels_as(const Tensor& tensor, Sample sample) {
  const auto v = tensor.view<T, 4>(device_type);
  require(v.shape[1] >= 1 && v.shape[1] <= 4, "pixels must have 1 to 4 channels");
  require(v.shape[2] >= 1 && v.shape[3] >= 1, "pixels must not be empty");
  const Pixels first{const_cast<std::remove_const_t<T>*>(v.data),
                     sample,
                     v.shape[2],
                     v.shape[3],
                     v.shape[1],
                     v.strides[2],
                     v.strides[3],
                     v.strides[1]};
  return {first, v.shape[0], v.strides[0]};
}

// Shape (count, channels, height, width), any strides.
template <bool written = false>
kernels::PixelBatch pixels_of(const Tensor& tensor) {
  const auto as = [&]<class T>(T, Sample sample) {
    return pixels_as<std::conditional_t<written, T, const T>>(tensor, sample);
  };
  if (tensor.holds<uint16_t>()) return as(uint16_t{}, Sample::uint16);
  if (tensor.holds<float>()) return as(float{}, Sample::float32);
  if (tensor.holds<double>()) return as(double{}, Sample::float64);
  return as(uint8_t{}, Sample::uint8);
}

kernels::Images images_of(const View<float, 3>& v) { return {v.data, v.shape[0], v.shape[1], v.shape[2]}; }

View<const float, 1> taps_of(const Tensor& tensor) {
  const auto t = on_device<const float, 1>(tensor);
  require(t.shape[0] >= 1 && t.shape[0] <= kernels::batch_reach + 1, "taps must hold 1 to 29 weights");
  return t;
}

template <class Level>
void require_spectra(const View<const float, 3>& values, const Level& level) {
  require(values.shape[1] == field && values.shape[2] == 2 * half_field, "values must be spectra");
  require(level.shape[0] == values.shape[0] && level.shape[1] == noise_rows && level.shape[2] == noise_columns,
          "level must hold a noise map per spectrum");
}

void luma(py::handle pixels, double factor, py::handle out) {
  const Tensor pixels_(pixels, "pixels"), out_(out, "out");
  const kernels::PixelBatch p = pixels_of(pixels_);
  const auto o = on_device<float, 3>(out_);
  same_device(pixels_, {&out_});
  const auto reduces = [&](int64_t reduced, int64_t full) {
    return reduced == 1 ||
           (reduced > 1 && static_cast<double>(reduced) * factor <= static_cast<double>(full) + 1e-3 * factor);
  };
  require(std::isfinite(factor) && factor >= 1, "factor must be at least 1");
  require(o.shape[0] == p.count && reduces(o.shape[1], p.first.height) && reduces(o.shape[2], p.first.width),
          "out does not have the reduced shape");
  py::gil_scoped_release release;
  OnDevice guard(pixels_.device());
  kernels::reduce(p, factor, images_of(o), pixels_.stream());
}

void limited_high_pass(py::handle luma, double limit, py::handle taps, py::handle means, py::object high) {
  const Tensor luma_(luma, "luma"), taps_(taps, "taps"), means_(means, "means");
  const auto y = on_device<const float, 3>(luma_);
  const auto t = taps_of(taps_);
  const auto m = on_device<float, 4>(means_);
  same_device(luma_, {&taps_, &means_});
  require(m.shape[0] == y.shape[0] && m.shape[1] == 3 && m.shape[2] == (y.shape[1] + 3) / 4 &&
              m.shape[3] == (y.shape[2] + 3) / 4,
          "means must hold 3 maps of 4 x 4 cells per image");
  float* kept = nullptr;
  if (!high.is_none()) {
    const Tensor high_(high, "high");
    const auto h = on_device<float, 3>(high_);
    same_device(luma_, {&high_});
    for (int i = 0; i < 3; ++i) require(h.shape[i] == y.shape[i], "high must have the shape of luma");
    kept = h.data;
  }
  py::gil_scoped_release release;
  OnDevice guard(luma_.device());
  const kernels::Images from{const_cast<float*>(y.data), y.shape[0], y.shape[1], y.shape[2]};
  kernels::limited_high_pass(from, static_cast<float>(limit), t.data, static_cast<int>(t.shape[0]), m.data, kept,
                             luma_.stream());
}

void blur(py::handle images, py::handle taps, py::handle out) {
  const Tensor images_(images, "images"), taps_(taps, "taps"), out_(out, "out");
  const auto in = on_device<const float, 3>(images_);
  const auto t = taps_of(taps_);
  const auto o = on_device<float, 3>(out_);
  same_device(images_, {&taps_, &out_});
  require(in.shape[0] == o.shape[0] && in.shape[1] == o.shape[1] && in.shape[2] == o.shape[2],
          "images and out must have one shape");
  require(in.size() == 0 || in.data != o.data, "blur cannot work in place");
  py::gil_scoped_release release;
  OnDevice guard(images_.device());
  const kernels::Images from{const_cast<float*>(in.data), in.shape[0], in.shape[1], in.shape[2]};
  kernels::blur(from, t.data, static_cast<int>(t.shape[0]), o.data, images_.stream());
}

void whiten(py::handle high, py::handle weight, double clip, py::handle vertical, py::handle horizontal,
            py::handle sums, py::handle scales) {
  const Tensor high_(high, "high"), weight_(weight, "weight"), vertical_(vertical, "vertical"),
      horizontal_(horizontal, "horizontal"), sums_(sums, "sums"), scales_(scales, "scales");
  const auto y = on_device<float, 3>(high_);
  const auto w = on_device<const float, 3>(weight_);
  const auto v = on_device<const float, 1>(vertical_), h = on_device<const float, 1>(horizontal_);
  const auto rows = on_device<float, 2>(sums_);
  const auto scale = on_device<float, 1>(scales_);
  same_device(high_, {&weight_, &vertical_, &horizontal_, &sums_, &scales_});
  require(w.shape[0] == y.shape[0] && (w.size() > 0 || y.size() == 0), "weight must hold a map per image");
  require(v.shape[0] == y.shape[1] && h.shape[0] == y.shape[2], "the windows must have the lengths of the sides");
  require(rows.shape[0] == y.shape[0] && rows.shape[1] == y.shape[1], "sums must hold a number per row");
  require(scale.shape[0] == y.shape[0], "scales must hold a number per image");
  py::gil_scoped_release release;
  OnDevice guard(high_.device());
  kernels::whiten(images_of(y), w.data, w.shape[1], w.shape[2], static_cast<float>(clip), v.data, h.data, rows.data,
                  scale.data, high_.stream());
}

void fold(py::handle y, py::handle steps, py::handle out) {
  const Tensor y_(y, "y"), steps_(steps, "steps"), out_(out, "out");
  const auto in = on_device<const float, 3>(y_);
  const auto t = on_device<const int64_t, 1>(steps_);
  const auto o = on_device<float, 3>(out_);
  same_device(y_, {&steps_, &out_});
  require(o.shape[0] == in.shape[0] && o.shape[1] == t.shape[0] && o.shape[2] >= 1,
          "out must hold one cycle per image and step");
  require(in.shape[2] + o.shape[2] < (int64_t{1} << 30), "rows and cycles must be shorter than 2^30");
  py::gil_scoped_release release;
  OnDevice guard(y_.device());
  const kernels::Images from{const_cast<float*>(in.data), in.shape[0], in.shape[1], in.shape[2]};
  kernels::fold(from, t.data, t.shape[0], o.shape[2], o.data, y_.stream());
}

void add_pattern(py::handle pixels, py::handle cycles, py::handle steps, py::handle amplitudes, double factor,
                 py::handle out) {
  const Tensor pixels_(pixels, "pixels"), cycles_(cycles, "cycles"), steps_(steps, "steps"),
      amplitudes_(amplitudes, "amplitudes"), out_(out, "out");
  const kernels::PixelBatch p = pixels_of(pixels_), o = pixels_of<true>(out_);
  const auto c = on_device<const float, 3>(cycles_);
  const auto s = on_device<const int64_t, 1>(steps_);
  const auto a = on_device<const float, 4>(amplitudes_);
  same_device(pixels_, {&cycles_, &steps_, &amplitudes_, &out_});
  require(std::isfinite(factor) && factor >= 1, "factor must be at least 1");
  require(
      c.shape[0] == p.count && c.shape[1] >= 1 && c.shape[1] <= 2 && c.shape[2] >= 1 && c.shape[2] < (int64_t{1} << 31),
      "cycles must hold one or two cycles per picture");
  require(s.shape[0] == p.count, "steps must hold a number per picture");
  require(a.shape[0] == p.count && a.shape[1] == c.shape[1] && (a.size() > 0 || p.count == 0),
          "amplitudes must hold one map per cycle");
  require(o.count == p.count && o.first.height == p.first.height && o.first.width == p.first.width &&
              o.first.channels == p.first.channels && o.first.sample == p.first.sample,
          "out must have the shape and the type of pixels");
  py::gil_scoped_release release;
  OnDevice guard(pixels_.device());
  kernels::add_pattern(p, o, c.data, c.shape[1], s.data, c.shape[2], a.data, a.shape[2], a.shape[3], factor,
                       pixels_.stream());
}

void correlate_tile(py::handle y, py::handle items, py::handle samples, py::handle g, py::handle offset,
                    py::handle out) {
  const Tensor y_(y, "y"), items_(items, "items"), samples_(samples, "samples"), g_(g, "g"), offset_(offset, "offset"),
      out_(out, "out");
  const auto in = on_device<const float, 3>(y_), t = on_device<const float, 3>(samples_);
  const auto n = on_device<const int64_t, 1>(items_);
  const auto m = on_device<const double, 3>(g_);
  const auto at = on_device<const double, 2>(offset_);
  const auto o = on_device<float, 4>(out_);
  same_device(y_, {&items_, &samples_, &g_, &offset_, &out_});
  const int64_t count = n.shape[0];
  require(t.shape[0] == count && t.shape[1] == 128 && t.shape[2] == 128,
          "samples must hold 128 x 128 numbers per item");
  require(m.shape[0] == count && m.shape[1] == 2 && m.shape[2] == 2 && at.shape[0] == count && at.shape[1] == 2,
          "g must hold a 2 x 2 matrix per item, and offset a pair");
  require(o.shape[0] == count && o.shape[1] == 2 && o.shape[2] == (in.shape[1] + 7) / 8 &&
              o.shape[3] == (in.shape[2] + 7) / 8,
          "out must have two entries per item and 8 x 8 cell");
  py::gil_scoped_release release;
  OnDevice guard(y_.device());
  const kernels::Images from{const_cast<float*>(in.data), in.shape[0], in.shape[1], in.shape[2]};
  kernels::correlate_tile(from, n.data, count, t.data, m.data, at.data, o.data, y_.stream());
}

void demodulate(py::handle y, py::handle items, py::handle across, py::handle down, py::handle out) {
  const Tensor y_(y, "y"), items_(items, "items"), across_(across, "across"), down_(down, "down"), out_(out, "out");
  const auto in = on_device<const float, 3>(y_);
  const auto n = on_device<const int64_t, 1>(items_);
  const auto a = on_device<const float, 4>(across_), d = on_device<const float, 4>(down_);
  const auto o = on_device<float, 4>(out_);
  same_device(y_, {&items_, &across_, &down_, &out_});
  const int64_t count = n.shape[0], waves = a.shape[1];
  require(a.shape[0] == count && a.shape[2] == 2 && a.shape[3] == in.shape[2],
          "across must hold two numbers per wave and column");
  require(d.shape[0] == count && d.shape[1] == waves && d.shape[2] == 2 && d.shape[3] == in.shape[1],
          "down must hold two numbers per wave and row");
  require(o.shape[0] == count && o.shape[1] == waves && o.shape[2] == (in.shape[1] + 15) / 16 &&
              o.shape[3] == (in.shape[2] + 15) / 16 * 2,
          "out must hold a complex number per wave and part");
  py::gil_scoped_release release;
  OnDevice guard(y_.device());
  const kernels::Images from{const_cast<float*>(in.data), in.shape[0], in.shape[1], in.shape[2]};
  kernels::demodulate(from, n.data, count, waves, a.data, d.data, o.data, y_.stream());
}

void displace(py::handle y, py::handle items, py::handle maps, py::handle out) {
  const Tensor y_(y, "y"), items_(items, "items"), maps_(maps, "maps"), out_(out, "out");
  const auto in = on_device<const float, 3>(y_);
  const auto n = on_device<const int64_t, 1>(items_);
  const auto m = on_device<const float, 4>(maps_);
  const auto o = on_device<float, 3>(out_);
  same_device(y_, {&items_, &maps_, &out_});
  require(m.shape[0] == n.shape[0] && m.shape[1] == 3 && m.shape[2] == (in.shape[1] + 15) / 16 &&
              m.shape[3] == (in.shape[2] + 15) / 16,
          "maps must hold three numbers per item and part");
  require(o.shape[0] == n.shape[0] && o.shape[1] == in.shape[1] && o.shape[2] == in.shape[2],
          "out must hold an image per item");
  require(in.size() == 0 || in.data != o.data, "displace cannot work in place");
  py::gil_scoped_release release;
  OnDevice guard(y_.device());
  const kernels::Images from{const_cast<float*>(in.data), in.shape[0], in.shape[1], in.shape[2]};
  kernels::displace(from, n.data, n.shape[0], m.data, o.data, y_.stream());
}

void noise(py::handle values, py::handle out, py::handle scratch) {
  const Tensor values_(values, "values"), out_(out, "out"), scratch_(scratch, "scratch");
  const auto v = on_device<const float, 3>(values_);
  const auto o = on_device<float, 3>(out_);
  const auto s = on_device<float, 4>(scratch_);
  same_device(values_, {&out_, &scratch_});
  require_spectra(v, o);
  require(s.size() == 2 * o.size(), "scratch must hold two maps per spectrum");
  py::gil_scoped_release release;
  OnDevice guard(values_.device());
  kernels::noise(v.data, v.shape[0], o.data, s.data, values_.stream());
}

void power_ratio(py::handle values, py::handle level, py::handle out) {
  const Tensor values_(values, "values"), level_(level, "level"), out_(out, "out");
  const auto v = on_device<const float, 3>(values_), l = on_device<const float, 3>(level_);
  const auto o = on_device<float, 3>(out_);
  same_device(values_, {&level_, &out_});
  require_spectra(v, l);
  require(o.shape[0] == v.shape[0] && o.shape[1] == field && o.shape[2] == half_field,
          "out must hold 1024 x 513 numbers each");
  py::gil_scoped_release release;
  OnDevice guard(values_.device());
  kernels::power_ratio(v.data, l.data, v.shape[0], o.data, values_.stream());
}

void log_polar(py::handle ratio, py::handle places, int64_t known, py::handle out, py::handle sums) {
  const Tensor ratio_(ratio, "ratio"), places_(places, "places"), out_(out, "out"), sums_(sums, "sums");
  const auto r = on_device<const float, 3>(ratio_);
  const auto n = on_device<const int32_t, 2>(places_);
  const auto o = on_device<uint8_t, 3>(out_);
  const auto s = on_device<int32_t, 1>(sums_);
  same_device(ratio_, {&places_, &out_, &sums_});
  require(r.shape[1] == field && r.shape[2] == half_field, "ratio must hold 1024 x 513 numbers each");
  require(o.shape[0] == r.shape[0] && o.shape[1] == n.shape[0] && o.shape[2] == n.shape[1],
          "out must have the shape of places");
  require(n.size() <= (int64_t{1} << 27), "places must hold at most 2^27 numbers");
  require(s.shape[0] == r.shape[0], "sums must hold a number per table");
  py::gil_scoped_release release;
  OnDevice guard(ratio_.device());
  kernels::log_polar(r.data, r.shape[0], n.data, n.size(), known, o.data, s.data, ratio_.stream());
}

void search(py::handle table, py::handle rows, py::handle turns, int64_t scales, py::handle packed, py::handle out) {
  const Tensor table_(table, "table"), rows_(rows, "rows"), turns_(turns, "turns"), packed_(packed, "packed"),
      out_(out, "out");
  const auto t = on_device<const uint8_t, 3>(table_);
  const auto r = on_device<const int32_t, 2>(rows_), a = on_device<const int32_t, 2>(turns_);
  const auto p = on_device<int32_t, 3>(packed_);
  const auto o = on_device<int64_t, 3>(out_);
  same_device(table_, {&rows_, &turns_, &packed_, &out_});
  using Kernel = kernels::SearchKernel;
  require(t.shape[2] == kernels::table_angles, "tables must have 448 columns");
  require(r.shape[1] >= 2 && r.shape[1] <= kernels::most_lines && r.shape[1] % 2 == 0,
          "an even number of at most 36 lines can be added up in a byte");
  require(a.shape[0] == r.shape[0] && a.shape[1] == r.shape[1], "rows and turns must have one shape");
  require(p.shape[0] == t.shape[0] && p.shape[1] == t.shape[1] && p.shape[2] == t.shape[2] / 4,
          "packed must hold the tables");
  require(scales >= 0 && scales <= t.shape[1], "every line must stay in the table at every scale");
  require(r.shape[0] * scales < (int64_t{1} << 32) / kernels::table_angles, "there are too many hypotheses");
  require(o.shape[0] == t.shape[0] && o.shape[1] == (scales + Kernel::scales_at_once - 1) / Kernel::scales_at_once &&
              o.shape[2] >= 1 && o.shape[2] <= Kernel::most_kept,
          "out must hold at most 64 peaks per table and four scales");
  py::gil_scoped_release release;
  OnDevice guard(table_.device());
  kernels::search(t.data, t.shape[0], t.shape[1], r.data, a.data, r.shape[0], r.shape[1], scales, o.shape[2],
                  reinterpret_cast<uint32_t*>(p.data), reinterpret_cast<uint64_t*>(o.data), table_.stream());
}

template <class Maps>
void require_maps(const View<const int64_t, 1>& items, const Maps& maps, const View<const double, 2>& lines) {
  require(maps.shape[0] == items.shape[0] && maps.shape[1] == 2 && maps.shape[2] == 2,
          "maps must hold a 2 x 2 matrix per item");
  require(lines.shape[1] == 2, "lines must have two columns");
}

void refine(py::handle ratio, py::handle items, py::handle maps, py::handle lines, int reach, py::handle scores) {
  const Tensor ratio_(ratio, "ratio"), items_(items, "items"), maps_(maps, "maps"), lines_(lines, "lines"),
      scores_(scores, "scores");
  const auto r = on_device<const float, 3>(ratio_);
  const auto n = on_device<const int64_t, 1>(items_);
  const auto m = on_device<double, 3>(maps_);
  const auto f = on_device<const double, 2>(lines_);
  const auto s = on_device<double, 1>(scores_);
  same_device(ratio_, {&items_, &maps_, &lines_, &scores_});
  require(r.shape[1] == field && r.shape[2] == half_field, "ratio must hold 1024 x 513 numbers each");
  require_maps(n, m, f);
  require(f.shape[0] <= kernels::team_lines, "at most 64 lines can be fitted");
  require(reach >= 1 && reach <= 16, "reach must be 1 to 16");
  require(s.shape[0] == n.shape[0], "scores must hold a number per item");
  py::gil_scoped_release release;
  OnDevice guard(ratio_.device());
  kernels::refine({r.data, n.data, n.shape[0], m.data, f.data, f.shape[0], reach, s.data}, ratio_.stream());
}

View<const float, 1> sinc_of(const Tensor& tensor) {
  const auto table = on_device<const float, 1>(tensor);
  require(table.shape[0] == 4097, "sinc must hold 4097 entries");
  return table;
}

void sample(py::handle values, py::handle level, py::handle items, py::handle maps, py::handle lines, py::handle sinc,
            py::handle out) {
  const Tensor values_(values, "values"), level_(level, "level"), items_(items, "items"), maps_(maps, "maps"),
      lines_(lines, "lines"), sinc_(sinc, "sinc"), out_(out, "out");
  const auto v = on_device<const float, 3>(values_), l = on_device<const float, 3>(level_);
  const auto n = on_device<const int64_t, 1>(items_);
  const auto m = on_device<const double, 3>(maps_);
  const auto f = on_device<const double, 2>(lines_);
  const auto table = sinc_of(sinc_);
  const auto o = on_device<float, 3>(out_);
  same_device(values_, {&level_, &items_, &maps_, &lines_, &sinc_, &out_});
  require_spectra(v, l);
  require_maps(n, m, f);
  require(o.shape[0] == n.shape[0] && o.shape[1] == f.shape[0] && o.shape[2] == 2,
          "out must hold one complex number per item and line");
  py::gil_scoped_release release;
  OnDevice guard(values_.device());
  kernels::sample({v.data, l.data, n.data, n.shape[0], m.data, f.data, f.shape[0], table.data, o.data},
                  values_.stream());
}

void polish(py::handle values, py::handle level, py::handle items, py::handle maps, py::handle directions,
            py::handle freedom, py::handle lines, py::handle turns, py::handle sinc) {
  const Tensor values_(values, "values"), level_(level, "level"), items_(items, "items"), maps_(maps, "maps"),
      directions_(directions, "directions"), freedom_(freedom, "freedom"), lines_(lines, "lines"),
      turns_(turns, "turns"), sinc_(sinc, "sinc");
  const auto v = on_device<const float, 3>(values_), l = on_device<const float, 3>(level_);
  const auto n = on_device<const int64_t, 1>(items_), free = on_device<const int64_t, 1>(freedom_);
  const auto m = on_device<double, 3>(maps_);
  const auto d = on_device<const double, 4>(directions_);
  const auto f = on_device<const double, 2>(lines_);
  const auto t = on_device<const float, 3>(turns_);
  const auto table = sinc_of(sinc_);
  same_device(values_, {&level_, &items_, &maps_, &directions_, &freedom_, &lines_, &turns_, &sinc_});
  require_spectra(v, l);
  require_maps(n, m, f);
  require(f.shape[0] <= kernels::team_lines, "at most 64 lines can be fitted");
  require(
      free.shape[0] == n.shape[0] && d.shape[0] == n.shape[0] && d.shape[1] == 4 && d.shape[2] == 2 && d.shape[3] == 2,
      "directions must hold four 2 x 2 matrices per item, and freedom how many of them count");
  require(t.shape[0] == n.shape[0] && t.shape[1] == f.shape[0] && t.shape[2] == 2,
          "turns must hold a complex number per item and line");
  py::gil_scoped_release release;
  OnDevice guard(values_.device());
  kernels::polish(
      {v.data, l.data, n.data, n.shape[0], m.data, d.data, free.data, f.data, t.data, f.shape[0], table.data},
      values_.stream());
}

void locate(py::handle sync, py::handle lines, int64_t period, py::handle circle, py::handle out) {
  const Tensor sync_(sync, "sync"), lines_(lines, "lines"), circle_(circle, "circle"), out_(out, "out");
  const auto v = on_device<const float, 3>(sync_);
  const auto c = on_device<const float, 2>(circle_);
  const auto n = on_device<const int64_t, 2>(lines_);
  const auto o = on_device<double, 2>(out_);
  same_device(sync_, {&lines_, &circle_, &out_});
  require(n.shape[1] == 2 && v.shape[1] == n.shape[0] && v.shape[2] == 2 && n.shape[0] <= kernels::team_lines,
          "sync must hold a complex number per line, at most 64");
  require(period >= 4 && 2 * period <= kernels::LocateKernel::most_grid && (period & (period - 1)) == 0,
          "period must be a power of two from 4 to 256");
  require(c.shape[0] == 2 && c.shape[1] == kernels::fine_steps * period,
          "circle must hold the cosine and sine of every step");
  require(o.shape[0] == v.shape[0] && o.shape[1] == 3, "out must hold three numbers per set of values");
  py::gil_scoped_release release;
  OnDevice guard(sync_.device());
  kernels::locate({v.data, v.shape[0], n.data, n.shape[0], period, c.data, c.data + c.shape[1], o.data},
                  sync_.stream());
}

// 16- and 32-bit words are signed to torch. What the coordinates of checks say is not looked at on the device: the caller
// takes them from watermark.latent.prc_code, which has had them checked on the CPU.
template <class To, class From>
const To* bits_of(const View<const From, 1>& words) {
  return reinterpret_cast<const To*>(words.data);
}

void require_rows(const View<const float, 2>& z, const View<const int32_t, 1>& pad) {
  require(pad.shape[0] == (z.shape[1] + 31) / 32, "pad must hold one bit per column of z");
}

void syndrome(py::handle z, py::handle pad, py::handle checks, py::handle weights, py::handle levels, py::handle codes,
              py::handle scales, py::handle counts) {
  const Tensor z_(z, "z"), pad_(pad, "pad"), checks_(checks, "checks"), weights_(weights, "weights"),
      levels_(levels, "levels"), codes_(codes, "codes"), scales_(scales, "scales"), counts_(counts, "counts");
  const auto in = on_device<const float, 2>(z_);
  const auto p = on_device<const int32_t, 1>(pad_);
  const auto c = on_device<const int32_t, 2>(checks_);
  const auto w = on_device<const int16_t, 1>(weights_);
  const auto l = on_device<const uint8_t, 1>(levels_);
  const auto code = on_device<int16_t, 2>(codes_);
  const auto scale = on_device<float, 1>(scales_);
  const auto out = on_device<int32_t, 2>(counts_);
  same_device(z_, {&pad_, &checks_, &weights_, &levels_, &codes_, &scales_, &counts_});
  require_rows(in, p);
  require(c.shape[1] >= 2 && c.shape[1] <= kernels::max_degree, "a check must have 2 to 16 coordinates");
  require(w.shape[0] == kernels::magnitudes, "weights must hold 256 entries");
  require(code.shape[0] == in.shape[0] && code.shape[1] == in.shape[1], "codes must have the shape of z");
  require(scale.shape[0] == in.shape[0] && out.shape[0] == in.shape[0] && out.shape[1] == 2 * kernels::vote_levels,
          "scales and counts must have one row per row of z, counts 128 columns");
  py::gil_scoped_release release;
  OnDevice guard(z_.device());
  kernels::syndrome({in.data, in.shape[0], in.shape[1], bits_of<uint32_t>(p), c.data, c.shape[0],
                     static_cast<int>(c.shape[1]), bits_of<uint16_t>(w), l.data,
                     reinterpret_cast<uint16_t*>(code.data), scale.data, out.data},
                    z_.stream());
}

void rademacher_tail(py::handle counts, py::handle values, py::handle scores, py::handle log_p) {
  const Tensor counts_(counts, "counts"), values_(values, "values"), scores_(scores, "scores"), log_p_(log_p, "log_p");
  const auto c = on_device<const int32_t, 2>(counts_);
  const auto v = on_device<const int32_t, 1>(values_);
  const auto s = on_device<double, 1>(scores_), p = on_device<double, 1>(log_p_);
  same_device(counts_, {&values_, &scores_, &log_p_});
  require(c.shape[1] == 2 * v.shape[0], "counts must have two columns per value");
  require(s.shape[0] == c.shape[0] && p.shape[0] == c.shape[0], "scores and log_p must have one entry per row of counts");
  py::gil_scoped_release release;
  OnDevice guard(counts_.device());
  kernels::rademacher_tail({c.data, c.shape[0], v.data, static_cast<int>(v.shape[0]), s.data, p.data}, counts_.stream());
}

kernels::Layers layers_of(const Tensor& tensor) {
  const auto layers = on_device<const int32_t, 3>(tensor);
  require(layers.shape[1] >= 2 && layers.shape[1] <= kernels::max_degree && layers.shape[2] == kernels::lanes,
          "layers must have shape (count, 2 to 16, 32)");
  return {layers.data, layers.shape[0], static_cast<int>(layers.shape[1])};
}

void beliefs(py::handle z, py::handle pad, py::handle scales, py::handle odds, py::handle outer, py::handle inner,
             int passes, int patience, py::handle messages, py::handle totals, py::handle unsatisfied) {
  const Tensor z_(z, "z"), pad_(pad, "pad"), scales_(scales, "scales"), odds_(odds, "odds"), outer_(outer, "outer"),
      inner_(inner, "inner"), messages_(messages, "messages"), totals_(totals, "totals"),
      unsatisfied_(unsatisfied, "unsatisfied");
  const auto in = on_device<const float, 2>(z_);
  const auto p = on_device<const int32_t, 1>(pad_);
  const auto scale = on_device<const float, 1>(scales_);
  const auto o = on_device<const float, 1>(odds_);
  const kernels::Layers first = layers_of(outer_), second = layers_of(inner_);
  const auto m = on_device<float, 2>(messages_), t = on_device<float, 2>(totals_);
  const auto u = on_device<int64_t, 1>(unsatisfied_);
  same_device(z_, {&pad_, &scales_, &odds_, &outer_, &inner_, &messages_, &totals_, &unsatisfied_});
  require_rows(in, p);
  const int64_t rows = in.shape[0];
  require(o.shape[0] == kernels::magnitudes, "odds must hold 256 entries");
  require(m.shape[0] == rows && m.shape[1] == first.size() + second.size(), "messages must have the layers' size per row");
  require(scale.shape[0] == rows && u.shape[0] == rows && t.shape[0] == rows && t.shape[1] == in.shape[1] + 1,
          "scales, totals and unsatisfied must have one row per row of z, totals one column more than z");
  py::gil_scoped_release release;
  OnDevice guard(z_.device());
  kernels::beliefs({in.data, rows, in.shape[1], bits_of<uint32_t>(p), scale.data, o.data, first, second, passes, patience,
                    m.data, t.data, u.data},
                   z_.stream());
}

void simhash(py::handle projections, py::handle v, py::handle codes) {
  const Tensor projections_(projections, "projections"), v_(v, "v"), codes_(codes, "codes");
  const auto p = on_device<const int16_t, 3>(projections_);
  const auto in = on_device<const int16_t, 2>(v_);
  const auto out = on_device<uint8_t, 2>(codes_);
  same_device(projections_, {&v_, &codes_});
  require(p.shape[1] >= 1 && p.shape[1] <= kernels::SimhashKernel::most_bits, "projections must hold 1 to 8 bits per patch");
  require(in.shape[1] == p.shape[2], "v must have the dimension of the projections");
  require(out.shape[0] == in.shape[0] && out.shape[1] == p.shape[0], "codes must hold one code per vector and patch");
  py::gil_scoped_release release;
  OnDevice guard(projections_.device());
  kernels::simhash({p.data, p.shape[0], p.shape[1], p.shape[2], in.data, in.shape[0], out.data}, projections_.stream());
}

// Codes and masks are not looked at on the device: the caller takes both from hashes of as many bits as matches have.
void patch_counts(py::handle matches, py::handle code, py::handle masks, py::handle counts) {
  const Tensor matches_(matches, "matches"), code_(code, "code"), masks_(masks, "masks"), counts_(counts, "counts");
  const auto m = on_device<const int32_t, 3>(matches_);
  const auto c = on_device<const uint8_t, 2>(code_), s = on_device<const uint8_t, 2>(masks_);
  const auto o = on_device<int32_t, 2>(counts_);
  same_device(matches_, {&code_, &masks_, &counts_});
  require(c.shape[0] == 1 || c.shape[0] == m.shape[0], "code must have one row, or one per row of matches");
  require(c.shape[1] == m.shape[1] && s.shape[1] == m.shape[1], "code and masks must have one column per patch");
  require(o.shape[0] == m.shape[0] && o.shape[1] == s.shape[0], "counts must have one entry per row and mask");
  py::gil_scoped_release release;
  OnDevice guard(matches_.device());
  kernels::patch_counts({reinterpret_cast<const uint32_t*>(m.data), m.shape[0], m.shape[1], m.shape[2], c.data,
                         c.shape[0] == 1 ? 0 : c.shape[1], s.data, s.shape[0], o.data},
                        matches_.stream());
}

}  // namespace

void bind_batch(py::module_& m) {
  using py::arg;
  m.def("batch_luma", &luma, arg("pixels"), arg("factor"), arg("out"));
  m.def("batch_limited_high_pass", &limited_high_pass, arg("luma"), arg("limit"), arg("taps"), arg("means"),
        arg("high"));
  m.def("batch_blur", &blur, arg("images"), arg("taps"), arg("out"));
  m.def("batch_whiten", &whiten, arg("high"), arg("weight"), arg("clip"), arg("vertical"), arg("horizontal"),
        arg("sums"), arg("scales"));
  m.def("batch_fold", &fold, arg("y"), arg("steps"), arg("out"));
  m.def("batch_add_pattern", &add_pattern, arg("pixels"), arg("cycles"), arg("steps"), arg("amplitudes"), arg("factor"),
        arg("out"));
  m.def("batch_correlate_tile", &correlate_tile, arg("y"), arg("items"), arg("samples"), arg("g"), arg("offset"),
        arg("out"));
  m.def("batch_demodulate", &demodulate, arg("y"), arg("items"), arg("across"), arg("down"), arg("out"));
  m.def("batch_displace", &displace, arg("y"), arg("items"), arg("maps"), arg("out"));
  m.def("batch_noise", &noise, arg("values"), arg("out"), arg("scratch"));
  m.def("batch_power_ratio", &power_ratio, arg("values"), arg("level"), arg("out"));
  m.def("batch_log_polar", &log_polar, arg("ratio"), arg("places"), arg("known"), arg("out"), arg("sums"));
  m.def("batch_search", &search, arg("table"), arg("rows"), arg("turns"), arg("scales"), arg("packed"), arg("out"));
  m.def("batch_refine", &refine, arg("ratio"), arg("items"), arg("maps"), arg("lines"), arg("reach"), arg("scores"));
  m.def("batch_sample", &sample, arg("values"), arg("level"), arg("items"), arg("maps"), arg("lines"), arg("sinc"),
        arg("out"));
  m.def("batch_polish", &polish, arg("values"), arg("level"), arg("items"), arg("maps"), arg("directions"),
        arg("freedom"), arg("lines"), arg("turns"), arg("sinc"));
  m.def("batch_locate", &locate, arg("sync"), arg("lines"), arg("period"), arg("circle"), arg("out"));

  m.def("batch_syndrome", &syndrome, arg("z"), arg("pad"), arg("checks"), arg("weights"), arg("levels"), arg("codes"),
        arg("scales"), arg("counts"));
  m.def("batch_rademacher_tail", &rademacher_tail, arg("counts"), arg("values"), arg("scores"), arg("log_p"));
  m.def("batch_beliefs", &beliefs, arg("z"), arg("pad"), arg("scales"), arg("odds"), arg("outer"), arg("inner"),
        arg("passes"), arg("patience"), arg("messages"), arg("totals"), arg("unsatisfied"));
  m.def("batch_simhash", &simhash, arg("projections"), arg("v"), arg("codes"));
  m.def("batch_patch_counts", &patch_counts, arg("matches"), arg("code"), arg("masks"), arg("counts"));
}

}  // namespace watermark
