// Many pictures of one size, or latents, at a time: launches only, the arithmetic is in kernels/. Pointers are in the memory of the
// current device, or of the CPU where this is compiled for it. Work is queued on `stream`; failures throw
// std::runtime_error. Names, shapes and meanings as in watermark/ops/batch.py.
#pragma once
#include "kernels/batch_lattice.hpp"
#include "kernels/batch_parity.hpp"
#include "kernels/batch_patch.hpp"
#include "kernels/batch_picture.hpp"

namespace watermark::WM_ISA {

// count images of (height, width), float32.
struct Images {
  float* data;
  int64_t count, height, width;
};

void reduce(const PixelBatch& p, double factor, const Images& luma, void* stream);
// high may be null.
void limited_high_pass(const Images& luma, float limit, const float* taps, int weights, float* means, float* high,
                       void* stream);
void blur(const Images& in, const float* taps, int weights, float* out, void* stream);
// sums: one per row of y, scales: one per image; both are scratch.
void whiten(const Images& y, const float* weight, int64_t down, int64_t across, float limit, const float* vertical,
            const float* horizontal, float* sums, float* scales, void* stream);
void fold(const Images& y, const int64_t* steps, int64_t cycles, int64_t period, float* out, void* stream);
void add_pattern(const PixelBatch& p, const PixelBatch& out, const float* cycles, int64_t layers, const int64_t* steps,
                 int64_t period, const float* amplitudes, int64_t down, int64_t across, double factor, void* stream);
void correlate_tile(const Images& y, const int64_t* items, int64_t count, const float* samples, const double* g,
                    const double* offset, float* out, void* stream);
void demodulate(const Images& y, const int64_t* items, int64_t count, int64_t waves, const float* across,
                const float* down, float* out, void* stream);
void displace(const Images& y, const int64_t* items, int64_t count, const float* maps, float* out, void* stream);

// scratch: two maps per spectrum.
void noise(const float* values, int64_t count, float* out, float* scratch, void* stream);
void power_ratio(const float* values, const float* level, int64_t count, float* out, void* stream);
// sums: one per table, zero.
void log_polar(const float* ratio, int64_t count, const int32_t* places, int64_t entries, int64_t known, uint8_t* out,
               int32_t* sums, void* stream);
// packed: scratch of the size of the tables.
void search(const uint8_t* table, int64_t count, int64_t table_rows, const int32_t* rows, const int32_t* turns,
            int64_t hypotheses, int64_t lines, int64_t scales, int64_t most, uint32_t* packed, uint64_t* out,
            void* stream);
void refine(const RefineKernel& kernel, void* stream);
void sample(const SampleKernel& kernel, void* stream);
void polish(const PolishKernel& kernel, void* stream);
void locate(const LocateKernel& kernel, void* stream);

// Latents: as in watermark/ops/parity.py and watermark/ops/patch.py.
void syndrome(const SyndromeKernel& kernel, void* stream);
void rademacher_tail(const TailKernel& kernel, void* stream);
void beliefs(const BeliefsKernel& kernel, void* stream);
void simhash(const SimhashKernel& kernel, void* stream);
void patch_counts(const PatchCountKernel& kernel, void* stream);

}  // namespace watermark::WM_ISA
