// Compiled once per instruction set with -DWM_ISA=name and its -m flags. No STL in here: an inline std function compiled
// with -mavx2 could win at link time and crash older machines.
#include "cpu/dispatch.hpp"
#include "kernels/normal_table.hpp"
#include "kernels/lattice.hpp"
#include "kernels/parity.hpp"
#include "kernels/patch.hpp"
#include "kernels/picture.hpp"
#include "kernels/polar.hpp"
#include "kernels/search.hpp"
#include "kernels/sign_pad.hpp"
#include "kernels/tail.hpp"

#define WM_QUOTE_(x) #x
#define WM_QUOTE(x) WM_QUOTE_(x)

namespace watermark::WM_ISA {
namespace {

ChaChaKey chacha_key(const uint32_t* key, const uint32_t* nonce) {
  ChaChaKey k;
  for (int i = 0; i < 8; ++i) k.key[i] = key[i];
  for (int i = 0; i < 3; ++i) k.nonce[i] = nonce[i];
  return k;
}

void chacha(const uint32_t* key, const uint32_t* nonce, uint32_t counter, uint32_t* out, int64_t count) {
  chacha_words(chacha_key(key, nonce), counter, out, count);
}

void half_normals(const uint32_t* words, float* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = half_normal(words[i], normal_table);
}

void signed_normal(const uint32_t* key, uint64_t row, const uint32_t* signs, int64_t count, float* out) {
  const uint32_t nonce[3] = {0, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)};
  signed_normal_row(chacha_key(key, nonce), signs, count, normal_table, out);
}

void simhash(const int16_t* projections, int64_t bits, const int16_t* v, int64_t dimension, int64_t begin, int64_t end,
             uint8_t* codes) {
  for (int64_t i = begin; i < end; ++i) codes[i] = patch_code(projections + i * bits * dimension, bits, v, dimension);
}

// Noises of patches are numbered by blocks of one stream.
constexpr uint32_t stream[3] = {0, 0, 0};

void patch_noise(const uint32_t* key, const uint8_t* code, int64_t codes, int64_t width, int64_t begin, int64_t end,
                 float* out) {
  patch_noise_range(chacha_key(key, stream), code, codes, width, begin, end, normal_table, out);
}

int64_t patch_scratch(int64_t width) { return patch_rows * (width + 8); }

void patch_search(const uint32_t* key, const float* x, int64_t rows, int64_t patches, int64_t width, int64_t codes,
                  float least, int64_t begin, int64_t end, float* scratch, float* best, uint32_t* matches) {
  patch_search_range(chacha_key(key, stream), x, rows, patches, width, codes, least, begin, end, normal_table, scratch, best,
                     matches);
}

int32_t count_patches(const uint32_t* matches, int64_t words, const uint8_t* code, const uint8_t* mask, int64_t patches) {
  return patch_count(matches, words, code, mask, patches);
}

int64_t polar_scratch(int layers, int paths, int64_t information) {
  return polar_scratch_bytes(layers, paths, information);
}

double rademacher_tail(const int32_t* counts, const int32_t* values, int levels, double* score) {
  return RademacherSum{counts, values, levels}.log_tail(score);
}

// The spans of the columns come first in the scratch memory: 32 bytes each.
void luma_rows(const Pixels& p, double factor, int64_t begin, int64_t end, int64_t width, float* out, float* scratch) {
  Span* spans = reinterpret_cast<Span*>(scratch);
  for (int64_t x = 0; x < width; ++x) spans[x] = span_of(x, factor, p.width);
  luma(p, factor, begin, end, width, spans, out, scratch + width * static_cast<int64_t>(sizeof(Span) / sizeof(float)));
}

// The table of column positions comes first in the scratch memory: 96 bytes for eight pixels.
int64_t column_floats(int64_t width) { return (width + 7) / 8 * static_cast<int64_t>(sizeof(Between8) / sizeof(float)); }

void weigh_rows(const float* high, int64_t width, const float* weight, int64_t down, int64_t across, int64_t begin,
                int64_t end, float* out, float* sums, float* scratch) {
  Between8* horizontal = reinterpret_cast<Between8*>(scratch);
  between_columns(width, cell, across, horizontal);
  weigh(high, width, weight, down, across, horizontal, begin, end, out, sums, scratch + column_floats(width));
}

int64_t cubic_floats(int64_t width) { return (width + 7) / 8 * static_cast<int64_t>(sizeof(Cubic8) / sizeof(float)); }

void add_pattern_rows(const Pixels& p, const float* cycles, int64_t stride, int64_t period, int64_t step, int64_t layers,
                      const float* amplitudes, int64_t down, int64_t across, double factor, int64_t begin, int64_t end,
                      const Pixels& out, float* scratch) {
  Between8* horizontal = reinterpret_cast<Between8*>(scratch);
  between_columns(p.width, cell * factor, across, horizontal);
  scratch += column_floats(p.width);
  Cubic8* columns = nullptr;
  if (factor != 1.0) {
    cubic_columns(p.width, factor, columns = reinterpret_cast<Cubic8*>(scratch));
    scratch += cubic_floats(p.width);
  }
  add_pattern(p, cycles, stride, period, step, layers, amplitudes, down, across, horizontal, columns, factor, begin, end, out,
              scratch);
}

void displace_rows(const float* y, int64_t height, int64_t width, const float* maps, int64_t begin, int64_t end, float* out,
                   float* scratch) {
  Between8* horizontal = reinterpret_cast<Between8*>(scratch);
  between_columns(width, part, (width + part - 1) / part, horizontal);
  displace(y, height, width, maps, horizontal, begin, end, out, scratch + column_floats(width));
}

int64_t search(const uint8_t* packed, int64_t angles, const int32_t* rows, const int32_t* turns, int64_t begin, int64_t end,
               int64_t lines, int64_t scales, int64_t most, int32_t* out) {
  return search_table(packed, angles, rows, turns, begin, end, lines, scales, most, reinterpret_cast<Peak*>(out));
}

}  // namespace

extern const Kernels table;
const Kernels table = {
    WM_QUOTE(WM_ISA), chacha, half_normals, signed_normal, sign_votes_row,
    simhash, patch_noise, patch_scratch, patch_search, count_patches, polar_scratch, polar_decode,
    extend_code, scale_of_row, parity_codes, parity_votes, rademacher_tail, parity_priors, update_layers,
    luma_rows, blur, cells, limited_flow, weigh_rows, clip_and_taper, fold, add_pattern_rows, correlate_tile, demodulate, displace_rows,
    spectrum_rows, spectrum_columns, noise_map, power_ratio, quantise, pool, pack_rows, search, refine, sample_lines, polish, locate,
};

}  // namespace watermark::WM_ISA
