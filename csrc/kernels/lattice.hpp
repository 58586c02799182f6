// Reading lines out of a spectrum: see watermark/ops/lattice.py for what each function computes.
#pragma once
#include "kernels/fft.hpp"
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

// Values are kept for columns 0..512 of the field (as numpy.fft.rfft2 orders it); column -x of row y mirrors x of row -y.
WM_FN int64_t place_of(int64_t x, int64_t y) {
  const int64_t row = (x < 0 ? -y : y) & (field - 1), column = x < 0 ? -x : x;
  return row * half_field + column;
}
WM_FN Complex value_at(const float* values, int64_t x, int64_t y) {
  const float* v = values + 2 * place_of(x, y);
  return {v[0], x < 0 ? -v[1] : v[1]};
}
WM_FN int64_t noise_row(int64_t row) { return (row + noise_cell / 2) / noise_cell % noise_rows * noise_columns; }
WM_FN float noise_at(const float* level, int64_t x, int64_t y) {
  const int64_t row = (x < 0 ? -y : y) & (field - 1), column = x < 0 ? -x : x;
  return level[noise_row(row) + (column + noise_cell / 2) / noise_cell];
}

constexpr float most_ratio = 8.0f;
WM_FN int64_t nearest(double x) { return static_cast<int64_t>(__builtin_rint(x)); }

// g: 2 x 2, row major; f: (x, y).
WM_FN void map_line(const double* g, const double* f, double& x, double& y) {
  x = g[0] * f[0] + g[1] * f[1];
  y = g[2] * f[0] + g[3] * f[1];
}
WM_FN bool within(double x, double y, double limit) { return x < limit && x > -limit && y < limit && y > -limit; }

WM_FN float ratio_at(const float* ratio, int64_t x, int64_t y) { return ratio[place_of(x, y)]; }

// Who adds up numbers, one per line, in the order of the lines: one thread on the CPU, a block of them on a GPU.
struct Alone {
  // f(k, v) gives N numbers for line k: their sums over all lines go to `total`.
  template <int N, class T, class F>
  WM_INLINE void add(int64_t count, T (&total)[N], F f) const {
    for (int i = 0; i < N; ++i) total[i] = 0;
    for (int64_t k = 0; k < count; ++k) {
      T v[N];
      f(k, v);
      for (int i = 0; i < N; ++i) total[i] += v[i];
    }
  }
};

// Interpolated power ratio at one line, limited; 1 out of sight.
WM_FN double interpolated_ratio(const float* ratio, const double* g, const double* f) {
  double x, y;
  map_line(g, f, x, y);
  if (!within(x, y, 0.49)) return 1;
  const double px = x * field, py = y * field, fx = __builtin_floor(px), fy = __builtin_floor(py);
  const int64_t ix = static_cast<int64_t>(fx), iy = static_cast<int64_t>(fy);
  const double tx = px - fx, ty = py - fy;
  const double r = (1 - ty) * ((1 - tx) * static_cast<double>(ratio_at(ratio, ix, iy)) + tx * static_cast<double>(ratio_at(ratio, ix + 1, iy))) +
                   ty * ((1 - tx) * static_cast<double>(ratio_at(ratio, ix, iy + 1)) + tx * static_cast<double>(ratio_at(ratio, ix + 1, iy + 1)));
  return r < static_cast<double>(most_ratio) ? r : static_cast<double>(most_ratio);
}

template <class Team>
WM_FN double interpolated_score(const Team& team, const float* ratio, const double* g, const double* lines, int64_t count) {
  double total[1];
  team.add(count, total, [&](int64_t k, double (&v)[1]) { v[0] = interpolated_ratio(ratio, g, lines + 2 * k); });
  return total[0];
}

// Offset of the top of the parabola through three neighbours of a maximum, within half a step.
WM_FN double parabola_top(float left, float middle, float right) {
  const float bend = left - 2.0f * middle + right;
  if (bend > -1e-6f) return 0;
  const float offset = 0.5f * (left - right) / bend;
  return static_cast<double>(offset < -0.5f ? -0.5f : offset > 0.5f ? 0.5f : offset);
}

// The peak within r steps of where g takes line f: what it adds to the least-squares sums w f f' and w q f'.
WM_FN void add_peak(const float* ratio, const double* g, const double* f, int64_t r, double (&v)[7]) {
  constexpr double step = 1.0 / field;
  for (int i = 0; i < 7; ++i) v[i] = 0;
  double x, y;
  map_line(g, f, x, y);
  const double margin = 0.5 - static_cast<double>(r + 2) * step;
  if (!within(x, y, margin)) return;
  const int64_t cx = nearest(x * field), cy = nearest(y * field);
  float best = -1.0f;
  int64_t bx = cx, by = cy;
  for (int64_t dy = -r; dy <= r; ++dy)
    for (int64_t dx = -r; dx <= r; ++dx) {
      const float at = ratio_at(ratio, cx + dx, cy + dy);
      if (at > best) best = at, bx = cx + dx, by = cy + dy;
    }
  if (best < 2.0f) return;
  const float peak = __builtin_sqrtf(best);
  const double qx = (static_cast<double>(bx) + parabola_top(__builtin_sqrtf(ratio_at(ratio, bx - 1, by)), peak,
                                                            __builtin_sqrtf(ratio_at(ratio, bx + 1, by)))) * step;
  const double qy = (static_cast<double>(by) + parabola_top(__builtin_sqrtf(ratio_at(ratio, bx, by - 1)), peak,
                                                            __builtin_sqrtf(ratio_at(ratio, bx, by + 1)))) * step;
  double w = static_cast<double>(best < most_ratio ? best : most_ratio) - 1.5;
  const double far = ((qx - x) * (qx - x) + (qy - y) * (qy - y)) / (step * step);
  w = w * w / (1 + far / 4);
  v[0] = w * f[0] * f[0], v[1] = w * f[0] * f[1], v[2] = w * f[1] * f[1];
  v[3] = w * qx * f[0], v[4] = w * qx * f[1], v[5] = w * qy * f[0], v[6] = w * qy * f[1];
}

// Fits g (in place) to the peaks near the lines; returns its score.
template <class Team>
WM_FN double refine(const Team& team, const float* ratio, double (&g)[4], const double* lines, int64_t count, int reach) {
  constexpr double step = 1.0 / field;
  for (int round = 0; round < 5; ++round) {
    const int64_t r = reach - round > 1 ? reach - round : 1;
    double sums[7];  // of w f f' and w q f'
    team.add(count, sums, [&](int64_t k, double (&v)[7]) { add_peak(ratio, g, lines + 2 * k, r, v); });
    const double ridge = 0.02 * (sums[0] + sums[2]) + 1e-12;  // towards the old g: keeps sparse sets of lines stable
    const double ff[3] = {sums[0] + ridge, sums[1], sums[2] + ridge};
    double qf[4];
    for (int i = 0; i < 4; ++i) qf[i] = sums[3 + i] + ridge * g[i];
    const double determinant = ff[0] * ff[2] - ff[1] * ff[1];
    if (determinant <= 1e-18) break;
    double next[4];
    for (int i = 0; i < 4; i += 2) {
      next[i] = (qf[i] * ff[2] - qf[i + 1] * ff[1]) / determinant;
      next[i + 1] = (qf[i + 1] * ff[0] - qf[i] * ff[1]) / determinant;
    }
    if (interpolated_score(team, ratio, next, lines, count) < interpolated_score(team, ratio, g, lines, count) - 2) break;
    for (int i = 0; i < 4; ++i) g[i] = next[i];
  }
  double score = interpolated_score(team, ratio, g, lines, count), move = 3 * step;
  for (int level = 0; level < 6; ++level, move *= 0.6)
    for (int pass = 0; pass < 6; ++pass) {
      bool better = false;
      for (int i = 0; i < 8; ++i) {
        const double old = g[i / 2];
        g[i / 2] = old + (i % 2 ? move : -move);
        const double now = interpolated_score(team, ratio, g, lines, count);
        if (now > score + 1e-9)
          score = now, better = true;
        else
          g[i / 2] = old;
      }
      if (!better) break;
    }
  return score;
}

constexpr int sinc_reach = 4, sinc_steps = 1024;

// Value at one line over the square root of the noise level; 0 at or beyond .485 cycles per pixel.
WM_FN Complex sample_line(const float* values, const float* level, const double* g, const double* f,
                                  const float* sinc) {
  double x, y;
  map_line(g, f, x, y);
  if (!within(x, y, 0.485)) return {0.0f, 0.0f};
  x *= field, y *= field;
  const int64_t left = static_cast<int64_t>(__builtin_floor(x)) - sinc_reach + 1;
  const int64_t top = static_cast<int64_t>(__builtin_floor(y)) - sinc_reach + 1;
  float wx[2 * sinc_reach], wy[2 * sinc_reach];
  for (int i = 0; i < 2 * sinc_reach; ++i) {
    wx[i] = sinc[nearest(__builtin_fabs(x - static_cast<double>(left + i)) * sinc_steps)];
    wy[i] = sinc[nearest(__builtin_fabs(y - static_cast<double>(top + i)) * sinc_steps)];
  }
  float re = 0.0f, im = 0.0f;
  for (int j = 0; j < 2 * sinc_reach; ++j) {
    float row_re = 0.0f, row_im = 0.0f;
    for (int i = 0; i < 2 * sinc_reach; ++i) {
      const Complex v = value_at(values, left + i, top + j);
      row_re += wx[i] * v.re, row_im += wx[i] * v.im;
    }
    re += wy[j] * row_re, im += wy[j] * row_im;
  }
  const float scale = 1.0f / __builtin_sqrtf(noise_at(level, nearest(x), nearest(y)));
  return {re * scale, im * scale};
}

constexpr float most_magnitude = 2.5f;

// Re sum of line values, each limited in magnitude, turned by `turns` (the conjugates of the phases expected).
template <class Team>
WM_FN float coherent_score(const Team& team, const float* values, const float* level, const double* g, const double* lines,
                           const float* turns, int64_t count, const float* sinc) {
  float total[1];
  team.add(count, total, [&](int64_t k, float (&term)[1]) {
    const Complex v = sample_line(values, level, g, lines + 2 * k, sinc);
    const float size = __builtin_sqrtf(v.re * v.re + v.im * v.im);
    const float limited = size > most_magnitude ? most_magnitude / size : 1.0f;
    term[0] = (v.re * turns[2 * k] - v.im * turns[2 * k + 1]) * limited;
  });
  return total[0];
}

// Coordinate ascent of the coherent score over g (in place) along given directions (2 x 2 each), from a third of a
// frequency step at the outer lines down.
template <class Team>
WM_FN float polish(const Team& team, const float* values, const float* level, double (&g)[4], const double* directions,
                   int64_t freedom, const double* lines, const float* turns, int64_t count, const float* sinc) {
  float score = coherent_score(team, values, level, g, lines, turns, count, sinc);
  double move = 0.35 / (0.2 * field);
  for (int step = 0; step < 5; ++step, move *= 0.55)
    for (int pass = 0; pass < 4; ++pass) {
      bool better = false;
      for (int64_t d = 0; d < freedom; ++d)
        for (int sign = -1; sign <= 1; sign += 2) {
          double trial[4];
          for (int i = 0; i < 4; ++i) trial[i] = g[i] + sign * move * directions[4 * d + i];
          const float now = coherent_score(team, values, level, trial, lines, turns, count, sinc);
          if (now <= score) continue;
          score = now, better = true;
          for (int i = 0; i < 4; ++i) g[i] = trial[i];
        }
      if (!better) break;
    }
  return score;
}

constexpr int64_t fine_steps = 16;  // of a pixel

// Mean over the 3 x 3 cells around one: rows wrap, columns continue with the conjugate half.
WM_FN float mean_of_nine(const float* cells, int64_t i, int64_t j) {
  float total = 0.0f;
  for (int64_t dy = -1; dy <= 1; ++dy)
    for (int64_t dx = -1; dx <= 1; ++dx) {
      int64_t row = i + dy, column = j + dx;
      if (column < 0) row = -row, column = 1;
      if (column == noise_columns) column = noise_columns - 1;
      total += cells[(row & (noise_rows - 1)) * noise_columns + column];
    }
  return total / 9.0f;
}

#ifndef __CUDACC__

// Rows [begin, end) of power over noise.
static inline void power_ratio(const float* values, const float* level, int64_t begin, int64_t end, float* out) {
  for (int64_t row = begin; row < end; ++row) {
    const float *noise = level + noise_row(row), *v = values + 2 * row * half_field;
    float* to = out + row * half_field;
    for (int64_t first = -noise_cell / 2, cell = 0; first < half_field; first += noise_cell, ++cell) {
      const int64_t left = first < 0 ? 0 : first, right = first + noise_cell < half_field ? first + noise_cell : half_field;
      for (int64_t x = left; x < right; ++x) to[x] = (v[2 * x] * v[2 * x] + v[2 * x + 1] * v[2 * x + 1]) / noise[cell];
    }
  }
}

// Mean power of each cell, each power at most limit (null: no limit), averaged over 3 x 3 cells. scratch: one map.
static inline void average_power(const float* values, const float* limit, float factor, float* out, float* scratch) {
  const auto power = [&](int64_t row, int64_t column) {
    const int64_t distance = row < field - row ? row : field - row;
    if (distance < 4 && column < 4) return 0.0f;
    const float* v = values + 2 * (row * half_field + column);
    return v[0] * v[0] + v[1] * v[1];
  };
  for (int64_t i = 0; i < noise_rows; ++i)
    for (int64_t j = 0; j < noise_columns; ++j) {
      const float most = limit ? factor * limit[i * noise_columns + j] : __builtin_inff();
      f32x8 sum = {};
      float total = 0.0f;
      for (int64_t dy = 0; dy < noise_cell; ++dy) {
        const int64_t row = (noise_cell * i + dy - noise_cell / 2) & (field - 1), opposite = (field - row) & (field - 1);
        if (j && j < noise_columns - 1) {
          const float* v = values + 2 * (row * half_field + noise_cell * j - noise_cell / 2);
          const f32x8 a = load<f32x8>(v), b = load<f32x8>(v + 8), aa = a * a, bb = b * b;
          const f32x8 p = __builtin_shuffle(aa, bb, i32x8{0, 2, 4, 6, 8, 10, 12, 14}) +
                          __builtin_shuffle(aa, bb, i32x8{1, 3, 5, 7, 9, 11, 13, 15});
          sum += p < most ? p : f32x8{} + most;
        } else {
          for (int64_t dx = 0; dx < noise_cell; ++dx) {
            const int64_t column = noise_cell * j + dx - noise_cell / 2;
            const float p = column < 0             ? power(opposite, -column)
                            : column >= half_field ? power(opposite, field - column)
                                                   : power(row, column);
            total += p < most ? p : most;
          }
        }
      }
      for (int lane = 0; lane < 8; ++lane) total += sum[lane];
      scratch[i * noise_columns + j] = total / (noise_cell * noise_cell);
    }
  for (int64_t i = 0; i < noise_rows; ++i)
    for (int64_t j = 0; j < noise_columns; ++j) out[i * noise_columns + j] = mean_of_nine(scratch, i, j);
}

// scratch: two maps.
static inline void noise_map(const float* values, float* out, float* scratch) {
  float *cells = scratch, *before = scratch + noise_rows * noise_columns;
  average_power(values, nullptr, 1.0f, before, cells);
  average_power(values, before, 3.0f, out, cells);
  for (int64_t i = 0; i < noise_rows * noise_columns; ++i) before[i] = out[i];
  average_power(values, before, 4.0f, out, cells);
  for (int64_t i = 0; i < noise_rows * noise_columns; ++i) out[i] = 1.08f * out[i] + 1e-20f;
}

static inline void sample_lines(const float* values, const float* level, const double* g, const double* lines,
                                int64_t count, const float* sinc, float* out) {
  for (int64_t k = 0; k < count; ++k) {
    const Complex v = sample_line(values, level, g, lines + 2 * k, sinc);
    out[2 * k] = v.re, out[2 * k + 1] = v.im;
  }
}

static inline double refine(const float* ratio, double* map, const double* lines, int64_t count, int reach) {
  double g[4] = {map[0], map[1], map[2], map[3]};
  const double score = refine(Alone{}, ratio, g, lines, count, reach);
  for (int i = 0; i < 4; ++i) map[i] = g[i];
  return score;
}

static inline float polish(const float* values, const float* level, double* map, const double* directions, int64_t freedom,
                           const double* lines, const float* turns, int64_t count, const float* sinc) {
  double g[4] = {map[0], map[1], map[2], map[3]};
  const float score = polish(Alone{}, values, level, g, directions, freedom, lines, turns, count, sinc);
  for (int i = 0; i < 4; ++i) map[i] = g[i];
  return score;
}

// Half-pixel grid, then three halvings of the step around the best point. cosine, sine: of 2 pi i / (16 period).
// scratch: count x 4 period floats. out: value, x, y.
static inline void locate(const float* sync, const int64_t* lines, int64_t count, int64_t period, const float* cosine,
                          const float* sine, float* scratch, double* out) {
  const int64_t grid = 2 * period, circle = fine_steps * period, coarse = fine_steps / 2;
  const auto turn = [&](int64_t product) { return ((product % circle) + circle) % circle; };
  for (int64_t k = 0; k < count; ++k)
    for (int64_t i = 0; i < grid; ++i) {
      const int64_t at = turn(lines[2 * k] * i * coarse);
      scratch[2 * k * grid + i] = cosine[at];
      scratch[(2 * k + 1) * grid + i] = sine[at];
    }
  float top = -1e30f;
  int64_t best_x = 0, best_y = 0;
  for (int64_t j = 0; j < grid; ++j) {
    float re[64], im[64];
    for (int64_t k = 0; k < count; ++k) {
      const int64_t at = turn(lines[2 * k + 1] * j * coarse);
      re[k] = sync[2 * k] * cosine[at] - sync[2 * k + 1] * sine[at];
      im[k] = sync[2 * k] * sine[at] + sync[2 * k + 1] * cosine[at];
    }
    for (int64_t i = 0; i < grid; i += 8) {
      f32x8 total = {};
      for (int64_t k = 0; k < count; ++k)
        total += re[k] * load<f32x8>(scratch + 2 * k * grid + i) - im[k] * load<f32x8>(scratch + (2 * k + 1) * grid + i);
      const auto higher = bit_cast<u64x4>(total > top);
      if (!(higher[0] | higher[1] | higher[2] | higher[3])) continue;
      for (int lane = 0; lane < 8; ++lane)
        if (total[lane] > top) top = total[lane], best_x = (i + lane) * coarse, best_y = j * coarse;
    }
  }
  for (int64_t step = coarse / 2; step; step /= 2) {
    const int64_t x = best_x, y = best_y;
    for (int64_t around = 0; around < 9; ++around) {
      const int64_t tx = x + (around % 3 - 1) * step, ty = y + (around / 3 - 1) * step;
      float total = 0.0f;
      for (int64_t k = 0; k < count; ++k) {
        const int64_t at = turn(lines[2 * k] * tx + lines[2 * k + 1] * ty);
        total += sync[2 * k] * cosine[at] - sync[2 * k + 1] * sine[at];
      }
      if (around != 4 && total > top) top = total, best_x = tx, best_y = ty;
    }
  }
  out[0] = static_cast<double>(top);
  out[1] = static_cast<double>(turn(best_x)) / fine_steps, out[2] = static_cast<double>(turn(best_y)) / fine_steps;
}
#endif

}  // namespace watermark::WM_ISA
