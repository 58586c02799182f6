// Compiled once per instruction set with -DWM_ISA=name and its -m flags. No STL in here: an inline std function compiled
// with -mavx2 could win at link time and crash older machines.
#include "cpu/dispatch.hpp"
#include "kernels/alignment.hpp"
#include "kernels/normal_table.hpp"
#include "kernels/foreign.hpp"
#include "kernels/lattice.hpp"
#include "kernels/parity.hpp"
#include "kernels/patch.hpp"
#include "kernels/picture.hpp"
#include "kernels/polar.hpp"
#include "kernels/search.hpp"
#include "kernels/sign_pad.hpp"
#include "kernels/tail.hpp"
#include "kernels/vocabulary.hpp"

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
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) store(out + i, half_normal(load<u32x8>(words + i), normal_table));
  for (; i < count; ++i) out[i] = half_normal(words[i], normal_table);
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

double binomial_tail(int64_t count, int64_t trials, double rate) { return log_binomial_tail(count, trials, rate); }
double gamma_tail(double x, int64_t count) { return log_gamma_tail(x, count); }

Alignment alignment(const AlignedText& t) {
  return {t.tokens, t.starts, t.blocks, t.length, t.kinds, t.rows, t.weights};
}

int64_t alignment_scratch(const AlignedText& text) { return alignment(text).scratch(); }

void align_text(const AlignedText& text, const uint16_t* cells, uint16_t* out, uint16_t* scratch) {
  align(alignment(text), cells, out, scratch);
}

bool random_key_reaches(const AlignedText& text, const uint32_t* key, uint64_t draw, uint32_t vocabulary, uint32_t least,
                        uint16_t* scratch, uint32_t* indices, uint32_t* taken, uint16_t* places) {
  const uint32_t low = static_cast<uint32_t>(draw), high = static_cast<uint32_t>(draw >> 32);
  const uint32_t cells[3] = {0, low, high}, order[3] = {1, low, high};
  const Alignment a = alignment(text);
  if (vocabulary) draw_places(chacha_key(key, order), a.kinds, vocabulary, taken, indices, places);
  draw_weights(a, chacha_key(key, cells), vocabulary ? places : nullptr, scratch);
  return reaches(a, static_cast<uint16_t>(least), scratch);
}

TokenKey token_key(const uint32_t* words) {
  TokenKey key;
  for (int i = 0; i < 8; ++i) key.words[i] = words[i];
  return key;
}

State state_at(const uint32_t* words) {
  State s;
  for (int i = 0; i < 8; ++i) s.words[i] = words[i];
  return s;
}

template <class Work>
auto with_prf(int prf, Work work) {
  if (prf == 0) return work(Philox{});
  if (prf == 1) return work(ChaCha8{});
  if (prf == 2) return work(Sbw{});
  if (prf == 3) return work(Octets<Philox>{});
  return work(Octets<ChaCha8>{});
}

Window window_of(const TokenContext& c) { return Window{c.history, c.length, c.width, c.salt, c.salts}; }

void token_state(const TokenContext& c, uint32_t* state) {
  with_prf(c.prf, [&](auto prf) {
    const State s = state_of<decltype(prf)>(token_key(c.key), window_of(c), static_cast<Seeding>(c.seeding));
    for (int i = 0; i < 8; ++i) state[i] = s.words[i];
  });
}

int token_repeats(const int64_t* text, int64_t position, int64_t width) { return repeats(text, position, width); }

void token_words(int prf, const uint32_t* key, const uint32_t* state, const int64_t* candidates, int64_t count, uint32_t* out) {
  with_prf(prf, [&](auto function) {
    uint32_t words[chunk];
    for (int64_t base = 0; base < count; base += chunk) {
      const int64_t width = at_most(chunk, count - base);
      uint32_t* at = width == chunk ? out + base : words;
      column_words<decltype(function)>(token_key(key), state_at(state), candidates, base, width, at);
      if (at == words) __builtin_memcpy(out + base, words, static_cast<size_t>(width) * sizeof *words);
    }
  });
}

void bias_logits(int prf, const uint32_t* key, const uint32_t* state, uint32_t threshold, float delta, int hard,
                 const int64_t* candidates, int64_t count, float* logits) {
  with_prf(prf, [&](auto function) {
    bias_row(function, token_key(key), state_at(state), Green{threshold, delta, hard}, candidates, count, logits);
  });
}

void bias_logits_colours(int prf, const uint32_t* key, const uint32_t* state, uint64_t mask, uint32_t colours, float delta,
                         const int64_t* candidates, int64_t count, float* logits) {
  with_prf(prf, [&](auto function) {
    bias_row_colours<decltype(function)>(token_key(key), state_at(state), Colours{mask, colours, delta}, candidates, count,
                                         logits);
  });
}

void bias_logits_self(const TokenContext& c, uint32_t threshold, float delta, int hard, int64_t top, const int64_t* candidates,
                      int64_t count, float* logits, int64_t* scratch) {
  const bool some = top < count;
  if (some) count = highest_columns(logits, count, top, scratch);
  with_prf(c.prf, [&](auto prf) {
    bias_row_self<decltype(prf)>(token_key(c.key), window_of(c), Green{threshold, delta, hard}, candidates,
                                 some ? scratch : nullptr, count, logits);
  });
}

int64_t gumbel(int prf, const uint32_t* key, const uint32_t* state, const int64_t* candidates, int64_t count,
               const float* logits) {
  return with_prf(prf, [&](auto function) {
    return gumbel_column<decltype(function)>(token_key(key), state_at(state), candidates, count, logits);
  });
}

bool tournament_row(const uint32_t* words, int64_t stride, int depth, int64_t count, float* logits, float* p) {
  const float top = largest(logits, count);
  if (!(top > minus_infinity)) return false;
  const double total = weights_of(logits, count, top, p);
  Tournament{p, words, stride, (count + 7) / 8 * 8, depth}.run(total);
  logarithms(p, count, top, logits);
  return true;
}

bool reweight(const uint32_t* words, double alpha, int64_t count, float* logits, float* p, double* masses, int64_t* columns) {
  const float top = largest(logits, count);
  if (!(top > minus_infinity)) return false;
  reweight_row(words, p, count, weights_of(logits, count, top, p), alpha, logits, masses, columns);
  return true;
}

void read_tokens(const TokenContext& c, int by_context, const int64_t* text, int64_t length, uint32_t* states, int32_t* slots,
                 int64_t size, uint32_t* words, uint8_t* counts, uint32_t* sites) {
  with_prf(c.prf, [&](auto prf) {
    read_text<decltype(prf)>(token_key(c.key), static_cast<Seeding>(c.seeding), window_of(c), by_context, text, length,
                             reinterpret_cast<State*>(states), slots, size, words, counts, sites);
  });
}

int64_t score_tokens(int value, uint32_t parameter, const uint32_t* words, const uint8_t* counts, int64_t length, float* scores,
                     double* total) {
  return score_words(static_cast<Value>(value), parameter, words, counts, length, scores, total);
}

void ratios_of_words(const double* likelihood, int64_t words, const uint8_t* symbols, int64_t width, double* odds, float* out) {
  word_ratios(likelihood, words, symbols, width, odds, out);
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
    simhash, patch_noise, patch_scratch, patch_search, count_patches, polar_scratch, polar_decode, ratios_of_words,
    alignment_scratch, align_text, random_key_reaches,
    token_state, token_repeats, token_words, bias_logits, bias_logits_colours, bias_logits_self, gumbel, tournament_row, reweight,
    read_tokens, score_tokens,
    binomial_tail, gamma_tail,
    extend_code, code_signs, scale_of_row, parity_codes, parity_votes, rademacher_tail, parity_priors, update_layers,
    luma_rows, blur, cells, limited_flow, weigh_rows, clip_and_taper, fold, add_pattern_rows, correlate_tile, demodulate, displace_rows,
    spectrum_rows, spectrum_columns, noise_map, power_ratio, quantise, pool, pack_rows, search, refine, sample_lines, polish, locate,
    twister_stream, permutation_start, in_permutation_start, bias_permutation_start, highest_columns,
};

}  // namespace watermark::WM_ISA
