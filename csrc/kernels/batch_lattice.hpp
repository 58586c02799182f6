// Many spectra at a time, for GPUs: see watermark/ops/lattice.py for what each kernel computes. The same operations in
// the same order as in lattice.hpp and search.hpp, so that the results are the same bits.
#pragma once
#include "kernels/block.hpp"
#include "kernels/lattice.hpp"

namespace watermark::WM_ISA {

constexpr int64_t field_size = field * half_field, noise_size = noise_rows * noise_columns;

// Mean power of each cell of `count` spectra, each power at most `factor` times the limit (null: no limit).
struct CellPowerKernel {
  static constexpr int threads = 128;
  struct Shared {};
  const float* values;
  int64_t count;
  const float* limit;
  float factor;
  float* out;

  WM_INLINE int64_t blocks() const { return (count * noise_size + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t n = block.index * threads + thread;
      if (n >= count * noise_size) return;
      const float* spectrum = values + 2 * (n / noise_size) * field_size;
      const int64_t i = n % noise_size / noise_columns, j = n % noise_columns;
      const float most = limit ? factor * limit[n] : __builtin_inff();
      const auto power = [&](int64_t row, int64_t column) {
        const float* v = spectrum + 2 * (row * half_field + column);
        return v[0] * v[0] + v[1] * v[1];
      };
      float total = 0.0f, lanes[noise_cell] = {};
      for (int64_t dy = 0; dy < noise_cell; ++dy) {
        const int64_t row = (noise_cell * i + dy - noise_cell / 2) & (field - 1),
                      opposite = (field - row) & (field - 1);
        if (j && j < noise_columns - 1) {
          for (int64_t dx = 0; dx < noise_cell; ++dx) {
            const float p = power(row, noise_cell * j + dx - noise_cell / 2);
            lanes[dx] += p < most ? p : most;
          }
          continue;
        }
        for (int64_t dx = 0; dx < noise_cell; ++dx) {
          int64_t column = noise_cell * j + dx - noise_cell / 2;
          const bool mirror = column < 0 || column >= half_field;
          column = column < 0 ? -column : column >= half_field ? field - column : column;
          const bool low = (row < field - row ? row : field - row) < 4 && column < 4;
          const float p = low ? 0.0f : power(mirror ? opposite : row, column);
          total += p < most ? p : most;
        }
      }
      for (int64_t lane = 0; lane < noise_cell; ++lane) total += lanes[lane];
      out[n] = total / (noise_cell * noise_cell);
    });
  }
};

// Means over 3 x 3 cells, made into a noise level if that is the last step.
struct SmoothCellsKernel {
  static constexpr int threads = 128;
  struct Shared {};
  const float* cells;
  int64_t count;
  bool last;
  float* out;

  WM_INLINE int64_t blocks() const { return (count * noise_size + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t n = block.index * threads + thread;
      if (n >= count * noise_size) return;
      const float* map = cells + n / noise_size * noise_size;
      const float mean = mean_of_nine(map, n % noise_size / noise_columns, n % noise_columns);
      out[n] = last ? 1.08f * mean + 1e-20f : mean;
    });
  }
};

struct PowerRatioKernel {
  static constexpr int threads = 256;
  struct Shared {};
  const float* values;
  const float* level;
  int64_t count;
  float* out;

  WM_INLINE int64_t blocks() const { return (count * field_size + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t n = block.index * threads + thread;
      if (n >= count * field_size) return;
      const int64_t row = n % field_size / half_field, column = n % half_field;
      const float* noise = level + n / field_size * noise_size + noise_row(row);
      const float re = values[2 * n], im = values[2 * n + 1];
      out[n] = (re * re + im * im) / noise[(column + noise_cell / 2) / noise_cell];
    });
  }
};

// The largest of 3 x 3 ratios around each place, rounded down to 0..7; sums: of all known entries of a table.
struct LogPolarKernel {
  static constexpr int threads = 256;
  struct Shared {
    int32_t total;
  };
  const float* ratio;
  int64_t count;
  const int32_t* places;
  int64_t entries;
  uint8_t* out;
  int32_t* sums;

  WM_INLINE int64_t runs() const { return (entries + threads - 1) / threads; }
  WM_INLINE int64_t blocks() const { return count * runs(); }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const int64_t item = block.index / runs();
    block.each_of(1, [&](int64_t) { s.total = 0; });
    block.each([&](int thread) {
      const int64_t entry = block.index % runs() * threads + thread;
      if (entry >= entries || places[entry] < 0) return;
      const float* map = ratio + item * field_size;
      const int64_t row = places[entry] / half_field, column = places[entry] % half_field;
      float most = 0.0f;
      for (int64_t dy = -1; dy <= 1; ++dy)
        for (int64_t dx = -1; dx <= 1; ++dx) {
          if (column + dx >= half_field) continue;
          const float v = ratio_at(map, column + dx, row + dy);
          most = v > most ? v : most;
        }
      const auto octet = static_cast<uint8_t>(static_cast<int32_t>(most < 7.0f ? most : 7.0f));
      out[item * entries + entry] = octet;
      add_together(&s.total, octet);
    });
    block.each_of(1, [&](int64_t) { add_together(sums + item, s.total); });
  }
};

// Entries of unknown place get the rounded mean of the known ones.
struct NeutralKernel {
  static constexpr int threads = 256;
  struct Shared {};
  int64_t count;
  const int32_t* places;
  int64_t entries, known;
  const int32_t* sums;
  uint8_t* out;

  WM_INLINE int64_t blocks() const { return (count * entries + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t n = block.index * threads + thread;
      if (n >= count * entries || places[n % entries] >= 0) return;
      out[n] = static_cast<uint8_t>(known ? (2 * static_cast<int64_t>(sums[n / entries]) + known) / (2 * known) : 0);
    });
  }
};

constexpr int64_t table_angles = 448, packed_words = table_angles / 8;

// Two columns half a turn apart share a byte, as in search.hpp; without the repetition after a whole turn.
struct PackKernel {
  static constexpr int threads = 256;
  struct Shared {};
  const uint8_t* table;
  int64_t rows;  // of all tables
  uint8_t* out;

  WM_INLINE int64_t blocks() const { return (rows * table_angles + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t n = block.index * threads + thread;
      if (n >= rows * table_angles) return;
      const int64_t row = n / table_angles, near = n % table_angles, far = (near + table_angles / 2) % table_angles;
      out[n] = static_cast<uint8_t>(table[row * table_angles + near] | table[row * table_angles + far] << 4);
    });
  }
};

constexpr int64_t most_lines = 36;  // of at most 7 each: their sum fits a byte

// One block per table and group of scales: for every hypothesis it adds up rows, one thread per eight angles of a
// scale. Peaks are numbers that ascend with the score and then with how early the CPU finds them: score, then the place
// counted down from 2^32. The best `most` of a block go to `out`; 0 fills up.
struct SearchKernel {
  static constexpr int scales_at_once = 4, threads = scales_at_once * static_cast<int>(packed_words);
  static constexpr int room = 2048, most_kept = 64;
  struct Shared {
    uint32_t sums[scales_at_once][2 * packed_words];
    int32_t rows[most_lines], turns[most_lines];
    uint64_t peaks[room], kept[most_kept];
    int found;
  };
  const uint32_t* packed;
  int64_t count, table_rows;
  const int32_t *rows, *turns;
  int64_t hypotheses, lines, scales, most;
  uint64_t* out;

  WM_INLINE int64_t groups() const { return (scales + scales_at_once - 1) / scales_at_once; }
  WM_INLINE int64_t blocks() const { return count * groups(); }

  // Four bytes from byte `at` of a row of bytes that starts over after its end.
  WM_FN uint32_t four_from(const uint32_t* row, int32_t at) {
    constexpr int32_t words = table_angles / 4;
    const int32_t word = at / 4, next = word + 1 < words ? word + 1 : 0, shift = at % 4 * 8;
    const uint64_t both = static_cast<uint64_t>(row[next]) << 32 | row[word];
    return static_cast<uint32_t>(both >> shift);
  }

  WM_FN int32_t sum_at(const Shared& s, int64_t scale, int64_t angle) {
    return (s.sums[scale][angle / 4] >> (angle % 4 * 8)) & 255;
  }

  // Keeps the `most` highest peaks, in falling order.
  WM_INLINE void keep(const Block<threads>& block, Shared& s) const {
    const int found = s.found < room ? s.found : room;
    block.each_of(most, [&](int64_t i) { s.kept[i] = 0; });
    block.each_of(found, [&](int64_t i) {
      int64_t rank = 0;
      for (int j = 0; j < found; ++j) rank += s.peaks[j] > s.peaks[i];
      if (rank < most) s.kept[rank] = s.peaks[i];
    });
    block.each_of(most, [&](int64_t i) {
      s.peaks[i] = s.kept[i];
      if (i == 0) s.found = static_cast<int>(found < most ? found : most);
    });
  }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const uint32_t* table = packed + block.index / groups() * table_rows * (table_angles / 4);
    const int64_t first = block.index % groups() * scales_at_once;
    block.each_of(1, [&](int64_t) { s.found = 0; });
    uint64_t lowest = 0;  // what a peak must exceed
    for (int64_t h = 0; h < hypotheses; ++h) {
      block.each_of(lines, [&](int64_t l) {
        s.rows[l] = rows[h * lines + l];
        s.turns[l] = turns[h * lines + l];
      });
      block.each([&](int thread) {
        const int64_t scale = first + thread / packed_words;
        const int32_t word = thread % static_cast<int32_t>(packed_words);
        uint32_t low = 0, high = 0;
        if (scale < scales)
          for (int64_t l = 0; l < lines; l += 2) {
            uint32_t pair = 0;  // at most 14 a nibble
            for (int64_t k = l; k < l + 2; ++k) {
              int32_t at = s.turns[k] + 4 * word;
              at = at < table_angles ? at : at - static_cast<int32_t>(table_angles);
              pair += four_from(table + (s.rows[k] + scale) * (table_angles / 4), at);
            }
            low += pair & 0x0f0f0f0fu;
            high += pair >> 4 & 0x0f0f0f0fu;
          }
        s.sums[thread / packed_words][word] = low;
        s.sums[thread / packed_words][packed_words + word] = high;
      });
      const auto threshold = static_cast<int32_t>(lowest >> 32);
      block.each([&](int thread) {
        const int64_t scale = thread / packed_words;
        for (int64_t i = thread % packed_words * 8, end = i + 8; i < end; ++i) {
          const int32_t v = sum_at(s, scale, i);
          if (v == 0 || v < threshold) continue;
          if (sum_at(s, scale, i ? i - 1 : table_angles - 1) > v || sum_at(s, scale, (i + 1) % table_angles) >= v)
            continue;
          const int64_t place = (h * scales + first + scale) * table_angles + i;
          const uint64_t peak = static_cast<uint64_t>(v) << 32 | (0xffffffffu - static_cast<uint32_t>(place));
          if (peak <= lowest) continue;
          const int at = take_turn(&s.found);
          if (at < room) s.peaks[at] = peak;
        }
      });
      const bool full = s.found > room / 2;
      block.sync();
      if (full) {
        keep(block, s);
        lowest = s.peaks[most - 1];
        block.sync();
      }
    }
    keep(block, s);
    block.each_of(most, [&](int64_t i) { out[block.index * most + i] = s.peaks[i]; });
  }
};

// A block that adds up line by line: each thread its line, then every thread the sum, all in the same order.
template <int Threads>
struct Team {
  const Block<Threads>& block;
  void* memory;  // of 7 doubles per line

  template <int N, class T, class F>
  WM_INLINE void add(int64_t count, T (&total)[N], F f) const {
    T* parts = static_cast<T*>(memory);
    block.each_of(count, [&](int64_t k) {
      T v[N];
      f(k, v);
      for (int i = 0; i < N; ++i) parts[N * k + i] = v[i];
    });
    for (int i = 0; i < N; ++i) total[i] = 0;
    for (int64_t k = 0; k < count; ++k)
      for (int i = 0; i < N; ++i) total[i] += parts[N * k + i];
    block.sync();
  }
};

constexpr int64_t team_lines = 64;
struct TeamShared {
  alignas(8) unsigned char parts[56 * team_lines];
};

// One block per hypothesis. items: the spectrum of each. maps: (count, 2, 2), fitted in place.
struct RefineKernel {
  static constexpr int threads = 32;
  using Shared = TeamShared;
  const float* ratio;
  const int64_t* items;
  int64_t count;
  double* maps;
  const double* lines;
  int64_t line_count;
  int reach;
  double* scores;

  WM_INLINE int64_t blocks() const { return count; }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    double* map = maps + 4 * block.index;
    double g[4] = {map[0], map[1], map[2], map[3]};
    block.sync();
    const double score =
        refine(Team<threads>{block, s.parts}, ratio + items[block.index] * field_size, g, lines, line_count, reach);
    block.each_of(1, [&](int64_t) {
      for (int i = 0; i < 4; ++i) map[i] = g[i];
      scores[block.index] = score;
    });
  }
};

struct SampleKernel {
  static constexpr int threads = 128;
  struct Shared {};
  const float *values, *level;
  const int64_t* items;
  int64_t count;
  const double *maps, *lines;
  int64_t line_count;
  const float* sinc;
  float* out;

  WM_INLINE int64_t blocks() const { return (count * line_count + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t i = block.index * threads + thread;
      if (i >= count * line_count) return;
      const int64_t n = i / line_count, item = items[n];
      const Complex v = sample_line(values + 2 * item * field_size, level + item * noise_size, maps + 4 * n,
                                    lines + 2 * (i % line_count), sinc);
      out[2 * i] = v.re, out[2 * i + 1] = v.im;
    });
  }
};

// directions: (count, 4, 2, 2), of which the first freedom[n] count for hypothesis n. turns: (count, lines) complex.
struct PolishKernel {
  static constexpr int threads = 32;
  using Shared = TeamShared;
  const float *values, *level;
  const int64_t* items;
  int64_t count;
  double* maps;
  const double* directions;
  const int64_t* freedom;
  const double* lines;
  const float* turns;
  int64_t line_count;
  const float* sinc;

  WM_INLINE int64_t blocks() const { return count; }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const int64_t n = block.index, item = items[n];
    double* map = maps + 4 * n;
    double g[4] = {map[0], map[1], map[2], map[3]};
    block.sync();
    polish(Team<threads>{block, s.parts}, values + 2 * item * field_size, level + item * noise_size, g,
           directions + 16 * n, freedom[n], lines, turns + 2 * n * line_count, line_count, sinc);
    block.each_of(1, [&](int64_t) {
      for (int i = 0; i < 4; ++i) map[i] = g[i];
    });
  }
};

// One block per set of sync values: each thread its columns of the grid, some rows at a time. period: a power of two.
// out: (count, 3): value, x, y.
struct LocateKernel {
  static constexpr int threads = 128, rows = 8, most_grid = 512;
  struct Shared {
    float cosine[most_grid], sine[most_grid];  // of the steps of the grid
    float re[rows][team_lines], im[rows][team_lines], best[threads];
    int32_t at[threads];
  };
  const float* sync;
  int64_t count;
  const int64_t* lines;
  int64_t line_count, period;
  const float *cosine, *sine;
  double* out;

  WM_INLINE int64_t blocks() const { return count; }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const float* values = sync + 2 * block.index * line_count;
    const int64_t grid = 2 * period, circle = fine_steps * period, coarse = fine_steps / 2;
    const auto turn = [&](int64_t product) { return product & (circle - 1); };
    block.each([&](int thread) {
      s.best[thread] = -1e30f, s.at[thread] = 0;
      for (int64_t i = thread; i < grid; i += threads) s.cosine[i] = cosine[i * coarse], s.sine[i] = sine[i * coarse];
    });
    for (int64_t top_row = 0; top_row < grid; top_row += rows) {
      block.each_of(rows * line_count, [&](int64_t i) {
        const int64_t j = top_row + i / line_count, k = i % line_count, at = lines[2 * k + 1] * j & (grid - 1);
        s.re[i / line_count][k] = values[2 * k] * s.cosine[at] - values[2 * k + 1] * s.sine[at];
        s.im[i / line_count][k] = values[2 * k] * s.sine[at] + values[2 * k + 1] * s.cosine[at];
      });
      block.each([&](int thread) {
        for (int64_t i = thread; i < grid; i += threads) {
          float total[rows] = {};
          for (int64_t k = 0; k < line_count; ++k) {
            const int64_t at = lines[2 * k] * i & (grid - 1);
            const float c = s.cosine[at], d = s.sine[at];
            for (int j = 0; j < rows; ++j) total[j] += s.re[j][k] * c - s.im[j][k] * d;
          }
          for (int j = 0; j < rows; ++j) {
            const auto place = static_cast<int32_t>((top_row + j) * grid + i);
            const bool earlier = total[j] == s.best[thread] && place < s.at[thread];
            if (total[j] > s.best[thread] || earlier) s.best[thread] = total[j], s.at[thread] = place;
          }
        }
      });
    }
    float top = -1e30f;
    int64_t first = 0;
    for (int thread = 0; thread < threads; ++thread) {
      const bool earlier = s.best[thread] == top && s.at[thread] < first;
      if (s.best[thread] > top || earlier) top = s.best[thread], first = s.at[thread];
    }
    int64_t best_x = first % grid * coarse, best_y = first / grid * coarse;
    block.sync();
    for (int64_t step = coarse / 2; step; step /= 2) {
      const int64_t x = best_x, y = best_y;
      block.each_of(9, [&](int64_t around) {
        const int64_t tx = x + (around % 3 - 1) * step, ty = y + (around / 3 - 1) * step;
        float total = 0.0f;
        for (int64_t k = 0; k < line_count; ++k) {
          const int64_t at = turn(lines[2 * k] * tx + lines[2 * k + 1] * ty);
          total += values[2 * k] * cosine[at] - values[2 * k + 1] * sine[at];
        }
        s.best[around] = total;
      });
      for (int64_t around = 0; around < 9; ++around)
        if (around != 4 && s.best[around] > top)
          top = s.best[around], best_x = x + (around % 3 - 1) * step, best_y = y + (around / 3 - 1) * step;
      block.sync();
    }
    block.each_of(1, [&](int64_t) {
      double* found = out + 3 * block.index;
      found[0] = static_cast<double>(top);
      found[1] = static_cast<double>(turn(best_x)) / fine_steps,
      found[2] = static_cast<double>(turn(best_y)) / fine_steps;
    });
  }
};

}  // namespace watermark::WM_ISA
