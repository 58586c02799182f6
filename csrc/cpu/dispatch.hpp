// The kernels of one instruction set, and how to pick one.
#pragma once
#include <cstdint>

namespace watermark {

// What a picture is made of: integers over their full range, or floats in [0, 1].
enum class Sample { uint8, uint16, float32, float64 };

// A picture of shape (height, width, channels) with any strides, in samples.
struct Pixels {
  void* data;
  Sample sample;
  int64_t height, width, channels;
  int64_t row, column, channel;
};

// Side of the field of a spectrum, columns that it keeps, and the row stride of its scratch planes.
constexpr int64_t field = 1024, half_field = 513, field_stride = 520;
constexpr int64_t noise_cell = 8, noise_rows = 128, noise_columns = 65;

// cos and -sin of 2 pi i / 1024; and the turns between the two passes of a transform: entry (k, n) turns by k n / 1024.
struct Turns {
  float re[field], im[field];
  float pass_re[32][32], pass_im[32][32];
};

// A text to align with a key sequence: see kernels/alignment.hpp.
struct AlignedText {
  const int32_t* tokens;
  const int32_t* starts;
  int64_t blocks, length, kinds, rows;
  const uint16_t* weights;
};

// A function of tokens and the context that it is asked about (see kernels/token.hpp).
struct TokenContext {
  int prf, seeding;
  const uint32_t* key;
  const int64_t* history;
  int64_t length, width;
  const int64_t* salt;
  int64_t salts;
};

constexpr int64_t reweight_buckets = 4096;

// Plain pointers and sizes only. A function works on one item (a row, a picture) or on a range of rows.
struct Kernels {
  const char* name;

  void (*chacha)(const uint32_t* key, const uint32_t* nonce, uint32_t counter, uint32_t* out, int64_t count);
  void (*half_normal)(const uint32_t* words, float* out, int64_t count);
  void (*signed_normal)(const uint32_t* key, uint64_t row, const uint32_t* signs, int64_t count, float* out);
  int64_t (*sign_votes)(const float* z, const uint32_t* pad, int64_t count, int64_t symbols, uint8_t* bits);

  void (*simhash)(const int16_t* projections, int64_t bits, const int16_t* v, int64_t dimension, int64_t begin, int64_t end,
                  uint8_t* codes);
  void (*patch_noise)(const uint32_t* key, const uint8_t* code, int64_t codes, int64_t width, int64_t begin, int64_t end,
                      float* out);
  int64_t (*patch_scratch_floats)(int64_t width);
  void (*patch_search)(const uint32_t* key, const float* x, int64_t rows, int64_t patches, int64_t width, int64_t codes,
                       float least, int64_t begin, int64_t end, float* scratch, float* best, uint32_t* matches);
  int32_t (*patch_count)(const uint32_t* matches, int64_t words, const uint8_t* code, const uint8_t* mask, int64_t patches);

  int64_t (*polar_scratch_bytes)(int layers, int paths, int64_t information);
  int (*polar_decode)(const float* soft, int layers, const uint8_t* frozen, int64_t information, int paths, void* scratch,
                      uint8_t* bits, uint8_t* words);
  // odds: scratch for one number per word.
  void (*word_ratios)(const double* likelihood, int64_t words, const uint8_t* symbols, int64_t width, double* odds, float* out);

  // Alignment with a key sequence; `taken` holds a zero bit per place of the vocabulary (0: no places).
  int64_t (*alignment_scratch)(const AlignedText& text);
  void (*align_text)(const AlignedText& text, const uint16_t* cells, uint16_t* out, uint16_t* scratch);
  bool (*random_key_reaches)(const AlignedText& text, const uint32_t* key, uint64_t draw, uint32_t vocabulary, uint32_t least,
                             uint16_t* scratch, uint32_t* indices, uint32_t* taken, uint16_t* places);

  // Tokens. A state has 8 words. Rows of logits: column i is token candidates[i], or token i.
  void (*token_state)(const TokenContext& context, uint32_t* state);
  int (*token_repeats)(const int64_t* text, int64_t position, int64_t width);
  void (*token_words)(int prf, const uint32_t* key, const uint32_t* state, const int64_t* candidates, int64_t count,
                      uint32_t* out);
  void (*bias_row)(int prf, const uint32_t* key, const uint32_t* state, uint32_t threshold, float delta, int hard,
                   const int64_t* candidates, int64_t count, float* logits);
  void (*bias_row_colours)(int prf, const uint32_t* key, const uint32_t* state, uint64_t mask, uint32_t colours, float delta,
                           const int64_t* candidates, int64_t count, float* logits);
  void (*bias_row_self)(const TokenContext& context, uint32_t threshold, float delta, int hard, int64_t top,
                        const int64_t* candidates, int64_t count, float* logits, int64_t* scratch);
  int64_t (*gumbel_column)(int prf, const uint32_t* key, const uint32_t* state, const int64_t* candidates, int64_t count,
                           const float* logits);
  // False where logits are not numbers. scratch: count floats, rounded up to a multiple of 8.
  bool (*tournament_row)(const uint32_t* words, int64_t stride, int depth, int64_t count, float* logits, float* scratch);
  bool (*reweight_row)(const uint32_t* words, double alpha, int64_t count, float* logits, float* scratch, double* masses,
                       int64_t* columns);
  // states: 8 words per token; slots: `size`, a power of two above `length`, all -1; sites: null if not wanted.
  void (*read_text)(const TokenContext& context, int by_context, const int64_t* text, int64_t length, uint32_t* states,
                    int32_t* slots, int64_t size, uint32_t* words, uint8_t* counts, uint32_t* sites);
  int64_t (*score_words)(int value, uint32_t parameter, const uint32_t* words, const uint8_t* counts, int64_t length,
                         float* scores, double* total);

  double (*log_binomial_tail)(int64_t count, int64_t trials, double rate);
  double (*log_gamma_tail)(double x, int64_t count);

  // Parity checks, rows of `degree` coordinates. Layers: (count, degree, 32); totals has n entries and a filler.
  void (*extend_code)(const int32_t* checks, int64_t count, int degree, uint8_t* bits);
  void (*code_signs)(const uint8_t* bits, int64_t count, int plane, const uint32_t* flips, int64_t flip_count,
                     const uint32_t* pad, uint32_t* out);
  float (*scale_of_row)(const float* z, int64_t count);
  void (*parity_codes)(const float* z, const uint32_t* pad, int64_t count, float scale, const uint16_t* weights,
                       uint16_t* codes);
  void (*parity_votes)(const uint16_t* codes, const int32_t* checks, int64_t count, int degree, const uint8_t* levels,
                       int32_t* counts);
  double (*rademacher_tail)(const int32_t* counts, const int32_t* values, int levels, double* score);
  void (*parity_priors)(const float* z, const uint32_t* pad, int64_t count, float scale, const float* odds, float* out);
  int64_t (*update_layers)(float* totals, const int32_t* members, float* messages, int64_t count, int degree,
                           int64_t filler);

  // Pictures: ranges are rows of the output (of cells: cell rows; of spectrum: row pairs and blocks of eight columns).
  void (*luma)(const Pixels& p, double factor, int64_t begin, int64_t end, int64_t width, float* out, float* scratch);
  void (*blur)(const float* in, int64_t height, int64_t width, const float* taps, int count, int64_t begin, int64_t end,
               float* out, float* scratch);
  void (*cells)(const float* y, const float* high, int64_t height, int64_t width, int64_t begin, int64_t end, float* means,
                float* scratch);
  void (*limited_flow)(const float* y, int64_t height, int64_t width, float limit, int64_t begin, int64_t end, float* out);
  void (*weigh)(const float* high, int64_t width, const float* weight, int64_t down, int64_t across, int64_t begin,
                int64_t end, float* out, float* sums, float* scratch);
  void (*clip_and_taper)(float* y, int64_t width, float scale, float limit, const float* vertical, const float* horizontal,
                         int64_t begin, int64_t end);
  void (*fold)(const float* y, int64_t height, int64_t width, const int64_t* steps, int64_t count, int64_t period,
               float* out);
  void (*add_pattern)(const Pixels& p, const float* cycles, int64_t stride, int64_t period, int64_t step, int64_t layers,
                      const float* amplitudes, int64_t down, int64_t across, double factor, int64_t begin, int64_t end,
                      const Pixels& out, float* scratch);

  void (*correlate_tile)(const float* y, int64_t height, int64_t width, const float* samples, const double* g,
                         const double* offset, int64_t begin, int64_t end, float* found, float* elsewhere);
  void (*demodulate)(const float* y, int64_t height, int64_t width, const float* across, const float* down, int64_t count,
                     int64_t begin, int64_t end, float* out, float* scratch);
  void (*displace)(const float* y, int64_t height, int64_t width, const float* maps, int64_t begin, int64_t end, float* out,
                   float* scratch);

  void (*spectrum_rows)(const float* y, int64_t height, int64_t width, int64_t begin, int64_t end, const Turns& turns,
                        float* re, float* im);
  void (*spectrum_columns)(const float* re, const float* im, int64_t height, int64_t begin, int64_t end,
                           const Turns& turns, float* out, float* scratch);
  void (*noise)(const float* values, float* out, float* scratch);
  void (*power_ratio)(const float* values, const float* level, int64_t begin, int64_t end, float* out);
  void (*quantise)(const float* ratio, int64_t begin, int64_t end, uint8_t* out);
  void (*pool)(uint8_t* in, uint8_t* scratch, uint8_t* out);
  void (*pack_rows)(const uint8_t* table, int64_t rows, int64_t angles, uint8_t* packed);
  int64_t (*search_table)(const uint8_t* packed, int64_t angles, const int32_t* rows, const int32_t* turns, int64_t begin,
                          int64_t end, int64_t lines, int64_t scales, int64_t most, int32_t* out);
  double (*refine)(const float* ratio, double* map, const double* lines, int64_t count, int reach);
  void (*sample)(const float* values, const float* level, const double* map, const double* lines, int64_t count,
                 const float* sinc, float* out);
  float (*polish)(const float* values, const float* level, double* map, const double* directions, int64_t freedom,
                  const double* lines, const float* turns, int64_t count, const float* sinc);
  void (*locate)(const float* sync, const int64_t* lines, int64_t count, int64_t period, const float* cosine,
                 const float* sine, float* scratch, double* out);

  // torch's generator and its random permutations of 0..n-1, of which the first `count` entries matter. Scratch: n words.
  void (*twister_stream)(uint32_t seed, uint32_t* out, int64_t count);
  void (*permutation_start)(uint32_t seed, int64_t n, int64_t count, uint32_t* out);
  bool (*in_permutation_start)(uint32_t seed, int64_t n, int64_t count, int64_t target);
  void (*bias_permutation_start)(uint32_t seed, int64_t n, int64_t count, float bias, float* row, uint32_t* scratch);
  int64_t (*highest_columns)(const float* logits, int64_t count, int64_t most, int64_t* columns);
};

// By name ("generic", "avx2"), or the best that this machine runs for an empty name. Null if the name is not available.
const Kernels* kernels(const char* name);

// Names of the tables that this machine can run, the slowest first; ends with null.
const char* const* instruction_sets();

}  // namespace watermark
