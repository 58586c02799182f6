// Passes over many pictures of one size, for GPUs: see watermark/ops/picture.py for what each computes. Every number is
// computed by the same operations in the same order as in picture.hpp, so that the results are the same bits.
#pragma once
#include "kernels/block.hpp"
#include "kernels/picture.hpp"

namespace watermark::WM_ISA {

// Pictures of one size and type, `item` samples apart.
struct PixelBatch {
  Pixels first;
  int64_t count, item;
};

template <class T>
WM_FN float luma_at(const T* sample, int64_t channels, int64_t channel) {
  return channels < 3 ? level_of(sample[0])
                      : luma_of(level_of(sample[0]), level_of(sample[channel]), level_of(sample[2 * channel]));
}

// Area-averaged luma, one thread per pixel of the result (count, height, width).
template <class T>
struct LumaKernel {
  static constexpr int threads = 256;
  struct Shared {};
  PixelBatch p;
  double factor;
  int64_t height, width;
  float* out;

  WM_INLINE int64_t blocks() const { return (p.count * height * width + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t i = block.index * threads + thread;
      if (i >= p.count * height * width) return;
      const int64_t x = i % width, y = i / width % height, item = i / width / height;
      const Pixels& f = p.first;
      const T* from = static_cast<const T*>(f.data) + item * p.item;
      if (factor == 1.0) {
        out[i] = luma_at(from + y * f.row + x * f.column, f.channels, f.channel);
        return;
      }
      const Span rows = span_of(y, factor, f.height), columns = span_of(x, factor, f.width);
      const auto column = [&](int64_t at) {
        float sum = 0.0f;
        for (int64_t j = rows.first; j <= rows.last; ++j) {
          const float weight = rows.scale * (j == rows.first ? rows.head : j == rows.last ? rows.tail : 1.0f);
          const float level = weight * luma_at(from + j * f.row + at * f.column, f.channels, f.channel);
          sum = j == rows.first ? level : sum + level;
        }
        return sum;
      };
      const float first = column(columns.first);
      float total = first * columns.head;
      for (int64_t at = columns.first + 1; at < columns.last; ++at) total += column(at);
      const float last = columns.last > columns.first ? column(columns.last) : first;
      out[i] = (total + last * columns.tail) * columns.scale;
    });
  }
};

constexpr int batch_reach = 28;

// Gaussian low-pass of one tile of an image.
struct SmoothTile {
  static constexpr int threads = 256, tall = 16, wide = 32;
  float in[tall + 2 * batch_reach][wide + 2 * batch_reach];
  float middle[tall][wide + 2 * batch_reach];
  float low[tall][wide];

  // value(y, x): a pixel of the image.
  template <class F>
  WM_INLINE void fill(const Block<threads>& block, F value, int64_t height, int64_t width, int64_t top, int64_t left,
                      const float* taps, int count) {
    const int reach = count - 1, across = wide + 2 * reach;
    block.each_of((tall + 2 * reach) * across, [&](int64_t i) {
      const int64_t row = i / across, column = i % across;
      in[row][column] = value(mirrored(top + row - reach, height), mirrored(left + column - reach, width));
    });
    block.each_of(tall * across, [&](int64_t i) {
      const int64_t row = i / across + reach, column = i % across;
      float total = taps[0] * in[row][column];
      for (int d = 1; d < count; ++d) total += taps[d] * (in[row - d][column] + in[row + d][column]);
      middle[i / across][column] = total;
    });
    block.each_of(tall * wide, [&](int64_t i) {
      const int64_t row = i / wide, column = i % wide + reach;
      float total = taps[0] * middle[row][column];
      for (int d = 1; d < count; ++d) total += taps[d] * (middle[row][column - d] + middle[row][column + d]);
      low[row][i % wide] = total;
    });
  }
};

// Where a block's tile lies in a batch of images.
struct TilePlace {
  int64_t item, top, left;
};
WM_FN int64_t tiles_of(int64_t count, int64_t height, int64_t width) {
  return count * ((height + SmoothTile::tall - 1) / SmoothTile::tall) *
         ((width + SmoothTile::wide - 1) / SmoothTile::wide);
}
WM_FN TilePlace tile_place(int64_t index, int64_t height, int64_t width) {
  const int64_t across = (width + SmoothTile::wide - 1) / SmoothTile::wide;
  const int64_t down = (height + SmoothTile::tall - 1) / SmoothTile::tall;
  return {index / across / down, index / across % down * SmoothTile::tall, index % across * SmoothTile::wide};
}

struct BlurKernel {
  static constexpr int threads = SmoothTile::threads;
  using Shared = SmoothTile;
  const float* in;
  int64_t count, height, width;
  const float* taps;
  int weights;
  float* out;

  WM_INLINE int64_t blocks() const { return tiles_of(count, height, width); }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const TilePlace at = tile_place(block.index, height, width);
    const float* image = in + at.item * height * width;
    s.fill(
        block, [&](int64_t y, int64_t x) { return image[y * width + x]; }, height, width, at.top, at.left, taps,
        weights);
    block.each_of(SmoothTile::tall * SmoothTile::wide, [&](int64_t i) {
      const int64_t y = at.top + i / SmoothTile::wide, x = at.left + i % SmoothTile::wide;
      if (y < height && x < width)
        out[(at.item * height + y) * width + x] = s.low[i / SmoothTile::wide][i % SmoothTile::wide];
    });
  }
};

// The cells of a tile that lie in the image.
struct CellsOfTile {
  static constexpr int64_t down = SmoothTile::tall / cell, across = SmoothTile::wide / cell, count = down * across;
  TilePlace at;
  int64_t height, width;

  // Mean of value(row, column) over cell i of the tile, each column first; to a map of the whole image.
  template <class F>
  WM_INLINE void mean(int64_t i, F value, float* map) const {
    const int64_t r = i / across, c = i % across;
    const int64_t bottom = at.top + (r + 1) * cell < height ? (r + 1) * cell : height - at.top;
    const int64_t right = at.left + (c + 1) * cell < width ? (c + 1) * cell : width - at.left;
    if (r * cell >= bottom || c * cell >= right) return;
    float total = 0.0f;
    for (int64_t x = c * cell; x < right; ++x) {
      float line = 0.0f;
      for (int64_t y = r * cell; y < bottom; ++y) line += value(y, x);
      total = x == c * cell ? line : total + line;
    }
    const float size = static_cast<float>((bottom - r * cell) * (right - c * cell));
    map[(at.top / cell + r) * ((width + cell - 1) / cell) + at.left / cell + c] = total / size;
  }
};

// b = what flows into each pixel from its neighbours, limited, then smoothed (not kept if high is null); and per cell
// the means of sqrt|b|, b^2 and luma.
struct LimitedHighPassKernel {
  static constexpr int threads = SmoothTile::threads;
  using Shared = SmoothTile;
  const float* luma;
  int64_t count, height, width;
  float limit;
  const float* taps;
  int weights;
  float *means, *high;

  WM_INLINE int64_t blocks() const { return tiles_of(count, height, width); }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    constexpr int64_t wide = SmoothTile::wide;
    const TilePlace at = tile_place(block.index, height, width);
    const float* image = luma + at.item * height * width;
    const auto flow = [&](int64_t y, int64_t x) {
      const float* p = image + y * width + x;
      const float v = *p, above = y > 0 ? p[-width] : v, below = y + 1 < height ? p[width] : v;
      const float left = x > 0 ? p[-1] : v, right = x + 1 < width ? p[1] : v;
      return clamp(v - above, limit) + clamp(v - below, limit) + clamp(v - left, limit) + clamp(v - right, limit);
    };
    s.fill(block, flow, height, width, at.top, at.left, taps, weights);
    const CellsOfTile cells{at, height, width};
    const int64_t plane = ((height + cell - 1) / cell) * ((width + cell - 1) / cell);
    block.each([&](int thread) {
      for (int64_t i = thread; high && i < SmoothTile::tall * wide; i += threads) {
        const int64_t y = at.top + i / wide, x = at.left + i % wide;
        if (y < height && x < width) high[(at.item * height + y) * width + x] = s.low[i / wide][i % wide];
      }
      for (int64_t i = thread; i < 3 * CellsOfTile::count; i += threads) {
        const int64_t map = i / CellsOfTile::count;
        const auto value = [&](int64_t y, int64_t x) {
          const float b = s.low[y][x];
          return map == 0 ? square_root(magnitude(b)) : map == 1 ? b * b : image[(at.top + y) * width + at.left + x];
        };
        cells.mean(i % CellsOfTile::count, value, means + (3 * at.item + map) * plane);
      }
    });
  }
};

WM_FN float between(const float* grid, int64_t across, int64_t down, const Between& vertical,
                    const Between& horizontal) {
  const float* upper = grid + vertical.low * across;
  const float* lower = vertical.low + 1 < down ? upper + across : upper;
  const int64_t left = horizontal.low, right = left + 1 < across ? left + 1 : across - 1;
  const float a = upper[left] * (1.0f - vertical.share) + lower[left] * vertical.share;
  const float b = upper[right] * (1.0f - vertical.share) + lower[right] * vertical.share;
  return a * (1.0f - horizontal.share) + b * horizontal.share;
}

// out = high x interpolated weight; sums: of the squares of each row, added up in eight lanes as a vector does.
struct WeighKernel {
  static constexpr int threads = 256, lanes = 8, rows = threads / lanes;
  struct Shared {
    float squares[rows][lanes], rest[rows][lanes];
  };
  const float* high;
  int64_t count, height, width;
  const float* weight;
  int64_t down, across;
  float *out, *sums;

  WM_INLINE int64_t blocks() const { return (count * height + rows - 1) / rows; }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const int64_t whole = width / lanes * lanes;
    block.each([&](int thread) {
      const int64_t line = block.index * rows + thread / lanes, lane = thread % lanes;
      float squares = 0.0f, rest = 0.0f;
      if (line < count * height) {
        const Between vertical = between_cells(line % height, cell, down);
        const float* grid = weight + line / height * down * across;
        for (int64_t x = lane; x < width; x += lanes) {
          const float v =
              high[line * width + x] * between(grid, across, down, vertical, between_cells(x, cell, across));
          out[line * width + x] = v;
          if (x < whole)
            squares += v * v;
          else
            rest = v * v;
        }
      }
      s.squares[thread / lanes][lane] = squares, s.rest[thread / lanes][lane] = rest;
    });
    block.each_of(rows, [&](int64_t row) {
      if (block.index * rows + row >= count * height) return;
      float total = 0.0f;
      for (int64_t lane = 0; lane < width - whole; ++lane) total += s.rest[row][lane];
      for (int lane = 0; lane < lanes; ++lane) total += s.squares[row][lane];
      sums[block.index * rows + row] = total;
    });
  }
};

// One over the deviation of each image, from the sums over its rows.
struct ScaleKernel {
  static constexpr int threads = 32;
  struct Shared {};
  const float* sums;
  int64_t count, height, width;
  float* scales;

  WM_INLINE int64_t blocks() const { return (count + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t item = block.index * threads + thread;
      if (item >= count) return;
      double total = 0;
      for (int64_t y = 0; y < height; ++y) total += static_cast<double>(sums[item * height + y]);
      scales[item] = static_cast<float>(1 / (__builtin_sqrt(total / static_cast<double>(height * width)) + 1e-9));
    });
  }
};

struct ClipKernel {
  static constexpr int threads = 256;
  struct Shared {};
  float* y;
  int64_t count, height, width;
  const float* scales;
  float limit;
  const float *vertical, *horizontal;

  WM_INLINE int64_t blocks() const { return (count * height * width + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t i = block.index * threads + thread;
      if (i >= count * height * width) return;
      const int64_t line = i / width;
      y[i] = clamp(y[i] * scales[line / height], limit) * (horizontal[i % width] * vertical[line % height]);
    });
  }
};

// One thread per place of a cycle: it visits the rows in their order.
struct FoldKernel {
  static constexpr int threads = 256;
  struct Shared {};
  const float* y;
  int64_t count, height, width;
  const int64_t* steps;
  int64_t cycles;
  int64_t period;
  float* out;

  WM_INLINE int64_t runs() const { return (period + threads - 1) / threads; }
  WM_INLINE int64_t blocks() const { return count * cycles * runs(); }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t cycle = block.index / runs();
      const auto n = static_cast<int32_t>(period), step = static_cast<int32_t>(steps[cycle % cycles]);
      const auto place = static_cast<int32_t>(block.index % runs() * threads + thread);
      if (place >= n) return;
      const float* row = y + cycle / cycles * height * width;
      float total = 0.0f;
      int32_t x = place;  // of the first pixel of the row at this place
      for (int64_t j = 0; j < height; ++j, row += width) {
        for (int64_t at = x; at < width; at += n) total += row[at];
        x = x < step ? x + (n - step) : x - step;
      }
      out[cycle * period + place] = total;
    });
  }
};

// Pictures plus patterns. cycles: (count, layers, period); steps: (count,); amplitudes: (count, layers, down, across).
// One thread per column of a tile: down the rows it keeps the last four samples of each pattern at its column.
template <class T, int Layers>
struct AddPatternKernel {
  static constexpr int threads = 256, rows = 16;
  struct Row {
    int64_t low, start;  // first row of samples, and where it starts in a cycle
    float weight[4];
    Between vertical;
  };
  struct Shared {
    Row row[rows];
  };
  PixelBatch p, to;
  const float* cycles;
  const int64_t* steps;
  int64_t period;
  const float* amplitudes;
  int64_t down, across;
  double factor;

  WM_INLINE int64_t tiles_across() const { return (p.first.width + threads - 1) / threads; }
  WM_INLINE int64_t tiles_down() const { return (p.first.height + rows - 1) / rows; }
  WM_INLINE int64_t blocks() const { return p.count * tiles_across() * tiles_down(); }

  WM_INLINE void operator()(const Block<threads>& block, Shared& s) const {
    const int64_t item = block.index / tiles_across() / tiles_down();
    const int64_t top = block.index / tiles_across() % tiles_down() * rows;
    const int64_t left = block.index % tiles_across() * threads;
    const int64_t step = steps[item];
    block.each_of(rows, [&](int64_t i) {
      Row& r = s.row[i];
      const double u = (static_cast<double>(top + i) + 0.5) / factor - 0.5, base = __builtin_floor(u);
      r.low = factor == 1.0 ? top + i : static_cast<int64_t>(base) - 1;
      r.start = (r.low % period * step % period + period) % period;
      catmull_rom(static_cast<float>(u - base), r.weight);
      r.vertical = between_cells(top + i, static_cast<double>(cell) * factor, down);
    });
    block.each([&](int thread) {
      const int64_t x = left + thread;
      if (x >= p.first.width) return;
      const int64_t bottom = top + rows < p.first.height ? rows : p.first.height - top;
      const Between horizontal = between_cells(x, static_cast<double>(cell) * factor, across);
      const double u = (static_cast<double>(x) + 0.5) / factor - 0.5, base = __builtin_floor(u);
      const int64_t column = factor == 1.0 ? x : ((static_cast<int64_t>(base) - 1) % period + period) % period;
      float weight[4], recent[Layers][4] = {};
      catmull_rom(static_cast<float>(u - base), weight);
      const int64_t colours = p.first.channels - (p.first.channels % 2 == 0);
      const T* from = static_cast<const T*>(p.first.data) + item * p.item + top * p.first.row + x * p.first.column;
      T* out = static_cast<T*>(to.first.data) + item * to.item + top * to.first.row + x * to.first.column;
      int64_t known = INT64_MIN;
      for (int64_t i = 0; i < bottom; ++i, from += p.first.row, out += to.first.row) {
        const Row& r = s.row[i];
        float levels = 0.0f;
        for (int layer = 0; layer < Layers; ++layer) {
          const float* cycle = cycles + (item * Layers + layer) * period;
          float pattern;
          if (factor == 1.0) {
            pattern = cycle[(column + r.start) % period];
          } else {
            float* last = recent[layer];
            const int64_t first = known < r.low ? r.low : known;
            int64_t start = (r.start + (first - r.low) * step) % period;
            for (int64_t j = first; j < r.low + 4; ++j) {
              int64_t at = column + start < period ? column + start : column + start - period;
              float total = 0.0f;
              for (int k = 0; k < 4; ++k) {
                const float term = weight[k] * cycle[at];
                total = k ? total + term : term;
                at = at + 1 < period ? at + 1 : 0;
              }
              last[0] = last[1], last[1] = last[2], last[2] = last[3], last[3] = total;
              start = start + step < period ? start + step : start + step - period;
            }
            pattern = r.weight[0] * last[0] + r.weight[1] * last[1] + r.weight[2] * last[2] + r.weight[3] * last[3];
          }
          const float* grid = amplitudes + (item * Layers + layer) * down * across;
          const float level = pattern * between(grid, across, down, r.vertical, horizontal);
          levels = layer ? levels + level : level;
        }
        known = r.low + 4;
        for (int64_t c = 0; c < p.first.channels; ++c)
          out[c * to.first.channel] =
              c < colours ? moved(from[c * p.first.channel], levels) : from[c * p.first.channel];
      }
    });
  }
};

// One thread per cell of 8 x 8 pixels. g: (count, 2, 2), offset: (count, 2), samples: (count, 128, 128); items: which
// image of y each belongs to. out: (count, 2, down, across).
struct CorrelateKernel {
  static constexpr int threads = 128;
  struct Shared {};
  const float* y;
  int64_t height, width;
  const int64_t* items;
  int64_t count;
  const float* samples;
  const double *g, *offset;
  float* out;

  WM_INLINE int64_t down() const { return (height + region - 1) / region; }
  WM_INLINE int64_t across() const { return (width + region - 1) / region; }
  WM_INLINE int64_t blocks() const { return (count * down() * across() + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t i = block.index * threads + thread, plane = down() * across();
      if (i >= count * plane) return;
      const int64_t n = i / plane, row = i % plane / across(), column = i % across();
      constexpr uint32_t shift = 32 - tile_bits, nearest_sample = 1u << (shift - 1), half = 1u << (tile_bits - 1);
      const uint32_t du = turns_of(g[4 * n]), dv = turns_of(g[4 * n + 2]);
      const float* tile = samples + (n << (2 * tile_bits));
      const int64_t last = (row + 1) * region < height ? (row + 1) * region : height;
      const int64_t left = column * region, right = left + region < width ? left + region : width;
      float found = 0.0f, elsewhere = 0.0f;
      for (int64_t j = row * region; j < last; ++j) {
        const double far = static_cast<double>(j);
        uint32_t u = turns_of(g[4 * n + 1] * far + offset[2 * n]) + nearest_sample + static_cast<uint32_t>(left) * du;
        uint32_t v =
            turns_of(g[4 * n + 3] * far + offset[2 * n + 1]) + nearest_sample + static_cast<uint32_t>(left) * dv;
        const float* line = y + (items[n] * height + j) * width;
        float here = 0.0f, there = 0.0f;
        for (int64_t x = left; x < right; ++x, u += du, v += dv) {
          const uint32_t iu = u >> shift, iv = v >> shift;
          here += line[x] * tile[iv << tile_bits | iu];
          there += line[x] * tile[(iv ^ half) << tile_bits | (iu ^ half)];
        }
        found += here, elsewhere += there;
      }
      out[(2 * n) * plane + i % plane] = found;
      out[(2 * n + 1) * plane + i % plane] = elsewhere;
    });
  }
};

// One thread per wave and part of 16 x 16 pixels. across: (count, waves, 2, width), down: (count, waves, 2, height),
// the real and the imaginary parts of waves along one row and one column. out: (count, waves, rows, columns) complex.
struct DemodulateKernel {
  static constexpr int threads = 128;
  struct Shared {};
  const float* y;
  int64_t height, width;
  const int64_t* items;
  int64_t count, waves;
  const float *across, *down;
  float* out;

  WM_INLINE int64_t rows() const { return (height + part - 1) / part; }
  WM_INLINE int64_t columns() const { return (width + part - 1) / part; }
  WM_INLINE int64_t blocks() const { return (count * waves * rows() * columns() + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t i = block.index * threads + thread;
      if (i >= count * waves * rows() * columns()) return;
      const int64_t wave = i / (rows() * columns()), left = i % columns() * part, top = i / columns() % rows() * part;
      const int64_t lines = top + part < height ? part : height - top,
                    right = left + part < width ? left + part : width;
      const float *across_re = across + 2 * wave * width, *across_im = across_re + width;
      const float *down_re = down + 2 * wave * height + top, *down_im = down_re + height;
      const float* image = y + items[wave / waves] * height * width + top * width;
      const auto column = [&](int64_t x) {
        float r = 0.0f, m = 0.0f;
        for (int64_t j = 0; j < lines; ++j) {
          const float v = image[j * width + x];
          r += v * down_re[j], m += v * down_im[j];
        }
        const float a = across_re[x], b = across_im[x];
        return Complex{r * a - m * b, r * b + m * a};
      };
      Complex total{0.0f, 0.0f};
      const bool whole = right - left == part;  // added up in eight lanes, as a vector does
      for (int64_t x = left; x < (whole ? left + part / 2 : right); ++x) {
        Complex v = column(x);
        if (whole) {
          const Complex far = column(x + part / 2);
          v = {v.re + far.re, v.im + far.im};
        }
        total.re += v.re, total.im += v.im;
      }
      out[2 * i] = total.re, out[2 * i + 1] = total.im;
    });
  }
};

// One thread per pixel. maps: (count, 3, rows, columns), moves along x and y, and weights. out: (count, height, width).
struct DisplaceKernel {
  static constexpr int threads = 256;
  struct Shared {};
  const float* y;
  int64_t height, width;
  const int64_t* items;
  int64_t count;
  const float* maps;
  float* out;

  WM_INLINE int64_t blocks() const { return (count * height * width + threads - 1) / threads; }

  WM_INLINE void operator()(const Block<threads>& block, Shared&) const {
    block.each([&](int thread) {
      const int64_t i = block.index * threads + thread;
      if (i >= count * height * width) return;
      const int64_t n = i / (height * width), row = i / width % height, x = i % width;
      const int64_t columns = (width + part - 1) / part, rows = (height + part - 1) / part;
      const Between vertical = between_cells(row, part, rows), horizontal = between_cells(x, part, columns);
      float at[3];
      for (int k = 0; k < 3; ++k)
        at[k] = between(maps + (3 * n + k) * rows * columns, columns, rows, vertical, horizontal);
      const float u = static_cast<float>(x) - at[0], v = static_cast<float>(row) - at[1];
      out[i] = at[2] * cubic_at(y + items[n] * height * width, height, width, u, v);
    });
  }
};

}  // namespace watermark::WM_ISA
