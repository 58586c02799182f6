#include <stdexcept>

#include "cuda/batch.hpp"
#include "cuda/launch.hpp"

namespace watermark::WM_ISA {
namespace {

// Calls body with a value of the type that the samples have.
template <class F>
void with_samples(Sample sample, F body) {
  switch (sample) {
    case Sample::uint8:
      return body(uint8_t{});
    case Sample::uint16:
      return body(uint16_t{});
    case Sample::float32:
      return body(float{});
    case Sample::float64:
      return body(double{});
  }
}

}  // namespace

void reduce(const PixelBatch& p, double factor, const Images& luma, void* stream) {
  with_samples(p.first.sample, [&](auto type) {
    launch(LumaKernel<decltype(type)>{p, factor, luma.height, luma.width, luma.data}, stream);
  });
}

void limited_high_pass(const Images& luma, float limit, const float* taps, int weights, float* means, float* high,
                       void* stream) {
  launch(LimitedHighPassKernel{luma.data, luma.count, luma.height, luma.width, limit, taps, weights, means, high},
         stream);
}

void blur(const Images& in, const float* taps, int weights, float* out, void* stream) {
  launch(BlurKernel{in.data, in.count, in.height, in.width, taps, weights, out}, stream);
}

void whiten(const Images& y, const float* weight, int64_t down, int64_t across, float limit, const float* vertical,
            const float* horizontal, float* sums, float* scales, void* stream) {
  launch(WeighKernel{y.data, y.count, y.height, y.width, weight, down, across, y.data, sums}, stream);
  launch(ScaleKernel{sums, y.count, y.height, y.width, scales}, stream);
  launch(ClipKernel{y.data, y.count, y.height, y.width, scales, limit, vertical, horizontal}, stream);
}

void fold(const Images& y, const int64_t* steps, int64_t cycles, int64_t period, float* out, void* stream) {
  launch(FoldKernel{y.data, y.count, y.height, y.width, steps, cycles, period, out}, stream);
}

void add_pattern(const PixelBatch& p, const PixelBatch& out, const float* cycles, int64_t layers, const int64_t* steps,
                 int64_t period, const float* amplitudes, int64_t down, int64_t across, double factor, void* stream) {
  with_samples(p.first.sample, [&](auto type) {
    using T = decltype(type);
    const auto add = [&](auto kernel) {
      kernel = {p, out, cycles, steps, period, amplitudes, down, across, factor};
      launch(kernel, stream);
    };
    switch (layers) {
      case 1:
        return add(AddPatternKernel<T, 1>{});
      case 2:
        return add(AddPatternKernel<T, 2>{});
      default:
        throw std::invalid_argument("cycles must have one or two layers");
    }
  });
}

void correlate_tile(const Images& y, const int64_t* items, int64_t count, const float* samples, const double* g,
                    const double* offset, float* out, void* stream) {
  launch(CorrelateKernel{y.data, y.height, y.width, items, count, samples, g, offset, out}, stream);
}

void demodulate(const Images& y, const int64_t* items, int64_t count, int64_t waves, const float* across,
                const float* down, float* out, void* stream) {
  launch(DemodulateKernel{y.data, y.height, y.width, items, count, waves, across, down, out}, stream);
}

void displace(const Images& y, const int64_t* items, int64_t count, const float* maps, float* out, void* stream) {
  launch(DisplaceKernel{y.data, y.height, y.width, items, count, maps, out}, stream);
}

void noise(const float* values, int64_t count, float* out, float* scratch, void* stream) {
  float *cells = scratch, *before = scratch + count * noise_size;
  launch(CellPowerKernel{values, count, nullptr, 1.0f, cells}, stream);
  launch(SmoothCellsKernel{cells, count, false, before}, stream);
  launch(CellPowerKernel{values, count, before, 3.0f, cells}, stream);
  launch(SmoothCellsKernel{cells, count, false, before}, stream);
  launch(CellPowerKernel{values, count, before, 4.0f, cells}, stream);
  launch(SmoothCellsKernel{cells, count, true, out}, stream);
}

void power_ratio(const float* values, const float* level, int64_t count, float* out, void* stream) {
  launch(PowerRatioKernel{values, level, count, out}, stream);
}

void log_polar(const float* ratio, int64_t count, const int32_t* places, int64_t entries, int64_t known, uint8_t* out,
               int32_t* sums, void* stream) {
  launch(LogPolarKernel{ratio, count, places, entries, out, sums}, stream);
  launch(NeutralKernel{count, places, entries, known, sums, out}, stream);
}

void search(const uint8_t* table, int64_t count, int64_t table_rows, const int32_t* rows, const int32_t* turns,
            int64_t hypotheses, int64_t lines, int64_t scales, int64_t most, uint32_t* packed, uint64_t* out,
            void* stream) {
  launch(PackKernel{table, count * table_rows, reinterpret_cast<uint8_t*>(packed)}, stream);
  launch(SearchKernel{packed, count, table_rows, rows, turns, hypotheses, lines, scales, most, out}, stream);
}

void refine(const RefineKernel& kernel, void* stream) { launch(kernel, stream); }
void sample(const SampleKernel& kernel, void* stream) { launch(kernel, stream); }
void polish(const PolishKernel& kernel, void* stream) { launch(kernel, stream); }
void locate(const LocateKernel& kernel, void* stream) { launch(kernel, stream); }

void syndrome(const SyndromeKernel& kernel, void* stream) { launch(kernel, stream); }
void rademacher_tail(const TailKernel& kernel, void* stream) { launch(kernel, stream); }
void beliefs(const BeliefsKernel& kernel, void* stream) { launch(kernel, stream); }
void simhash(const SimhashKernel& kernel, void* stream) { launch(kernel, stream); }
void patch_counts(const PatchCountKernel& kernel, void* stream) { launch(kernel, stream); }

}  // namespace watermark::WM_ISA
