// Passes over pictures: see watermark/ops/picture.py for what each computes. Each function handles a range of rows.
#pragma once
#include "cpu/dispatch.hpp"
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

WM_FN float luma_of(float r, float g, float b) { return 0.299f * r + 0.587f * g + 0.114f * b; }

// Rounds half to even; exact for |x| < 2^22.
template <class T>
WM_FN T round_even(T x) {
  return (x + 12582912.0f) - 12582912.0f;
}

template <class T>
WM_FN T within(T x, T top) {
  return x < 0 ? T(0) : x > top ? top : x;
}

// A sample in grey levels, 0 to 255.
WM_FN float level_of(uint8_t v) { return v; }
WM_FN float level_of(uint16_t v) { return v * (1.0f / 257.0f); }
WM_FN float level_of(float v) { return v * 255.0f; }
WM_FN float level_of(double v) { return static_cast<float>(v * 255.0); }

// A sample moved by so many grey levels, in steps of its own type, and saturated.
WM_FN uint8_t moved(uint8_t v, float levels) {
  return static_cast<uint8_t>(within(v + static_cast<int32_t>(round_even(levels)), 255));
}
WM_FN uint16_t moved(uint16_t v, float levels) {
  return static_cast<uint16_t>(within(v + static_cast<int32_t>(round_even(levels * 257.0f)), 65535));
}
WM_FN float moved(float v, float levels) { return within(v + levels * (1.0f / 255.0f), 1.0f); }
WM_FN double moved(double v, float levels) { return within(v + levels * (1.0 / 255.0), 1.0); }

// Weights of Catmull-Rom interpolation at fraction t between the second and the third sample.
WM_FN void catmull_rom(float t, float (&w)[4]) {
  w[0] = ((-0.5f * t + 1.0f) * t - 0.5f) * t;
  w[1] = (1.5f * t - 2.5f) * t * t + 1.0f;
  w[2] = ((-1.5f * t + 2.0f) * t + 0.5f) * t;
  w[3] = (0.5f * t - 0.5f) * t * t;
}

// A picture between its pixels, by Catmull-Rom cubics; 0 where they reach beyond it.
WM_FN float cubic_at(const float* y, int64_t height, int64_t width, float u, float v) {
  if (!(u >= 1 && v >= 1 && u < static_cast<float>(width - 2) && v < static_cast<float>(height - 2))) return 0.0f;
  const int64_t left = static_cast<int64_t>(u), top = static_cast<int64_t>(v);
  float across[4], down[4];
  catmull_rom(u - static_cast<float>(left), across);
  catmull_rom(v - static_cast<float>(top), down);
  const float* from = y + (top - 1) * width + left - 1;
  float total = 0.0f;
  for (int j = 0; j < 4; ++j, from += width)
    total += down[j] * (across[0] * from[0] + across[1] * from[1] + across[2] * from[2] + across[3] * from[3]);
  return total;
}

// Where an output pixel lies between the centres of two cells.
struct Between {
  int64_t low;
  float share;
};
WM_FN Between between_cells(int64_t pixel, double scale, int64_t cells) {
  double position = (static_cast<double>(pixel) + 0.5) / scale - 0.5;
  const double last = static_cast<double>(cells - 1);
  position = position < 0 ? 0 : position > last ? last : position;
  int64_t low = static_cast<int64_t>(position);
  if (low > cells - 2) low = cells > 1 ? cells - 2 : 0;
  return {low, static_cast<float>(position - static_cast<double>(low))};
}

WM_FN double least(double a, double b) { return a < b ? a : b; }

// The source interval [i factor, (i + 1) factor) of output sample i, clipped to the source: from sample `first` with weight
// `head` over whole samples to sample `last` with weight `tail` (0 if first = last); `scale` makes the weights sum to 1.
struct Span {
  int64_t first, last;
  float head, tail, scale;
};
WM_FN Span span_of(int64_t i, double factor, int64_t size) {
  const double low = static_cast<double>(i) * factor;
  const double high = least(static_cast<double>(i + 1) * factor, static_cast<double>(size));
  const int64_t first = static_cast<int64_t>(low);
  int64_t last = static_cast<int64_t>(high);
  if (static_cast<double>(last) == high) --last;
  const double head = least(static_cast<double>(first + 1), high) - low;
  const double tail = last > first ? high - static_cast<double>(last) : 0;
  return {first, last, static_cast<float>(head), static_cast<float>(tail), static_cast<float>(1 / (high - low))};
}

WM_FN int64_t mirrored(int64_t i, int64_t size) {
  if (i >= 0 && i < size) return i;
  i %= 2 * size;
  if (i < 0) i += 2 * size;
  return i < size ? i : 2 * size - 1 - i;
}

constexpr int max_reach = 64;
constexpr int64_t cell = 4, part = 16;

template <class T>
WM_FN T clamp(T x, float limit) {
  const T low = x - x - limit, high = x - x + limit;
  x = x < low ? low : x;
  return x > high ? high : x;
}

WM_FN float magnitude(float x) { return x < 0 ? -x : x; }
WM_FN float square_root(float x) { return __builtin_sqrtf(x); }

constexpr int64_t region = 8;
constexpr int tile_bits = 7;  // a period has 128 samples on each axis here

// Position in turns as a fraction of 2^32, which wraps by itself.
WM_FN uint32_t turns_of(double turns) {
  return static_cast<uint32_t>(static_cast<int64_t>((turns - __builtin_floor(turns)) * 4294967296.0));
}

#ifndef __CUDACC__

// Calls body with a value of the type that the samples have.
template <class F>
WM_FN void with_type(Sample sample, F body) {
  switch (sample) {
    case Sample::uint8: return body(uint8_t{});
    case Sample::uint16: return body(uint16_t{});
    case Sample::float32: return body(float{});
    case Sample::float64: return body(double{});
  }
}

template <class T>
static inline void luma_of_samples(const T* row, const Pixels& p, float* out) {
  const T *g = row + p.channel, *b = g + p.channel;
  if (p.channels < 3) {
    for (int64_t x = 0; x < p.width; ++x) out[x] = level_of(row[x * p.column]);
  } else if (p.channel == 1 && p.column == 3) {
    for (int64_t x = 0; x < p.width; ++x)
      out[x] = luma_of(level_of(row[3 * x]), level_of(row[3 * x + 1]), level_of(row[3 * x + 2]));
  } else {
    for (int64_t x = 0; x < p.width; ++x)
      out[x] = luma_of(level_of(row[x * p.column]), level_of(g[x * p.column]), level_of(b[x * p.column]));
  }
}

static inline void luma_row(const Pixels& p, int64_t y, float* out) {
  with_type(p.sample, [&](auto type) { luma_of_samples(static_cast<const decltype(type)*>(p.data) + y * p.row, p, out); });
}

// Rows [begin, end) of the reduced luma. spans: one per output column. scratch: 2 p.width floats.
static inline void luma(const Pixels& p, double factor, int64_t begin, int64_t end, int64_t width, const Span* spans,
                        float* out, float* scratch) {
  if (factor == 1.0) {
    for (int64_t y = begin; y < end; ++y) luma_row(p, y, out + y * width);
    return;
  }
  float *line = scratch, *sum = scratch + p.width;
  const int64_t across = p.width;
  int64_t cached = -1;
  for (int64_t y = begin; y < end; ++y) {
    const Span rows = span_of(y, factor, p.height);
    for (int64_t j = rows.first; j <= rows.last; ++j) {
      if (j != cached) luma_row(p, cached = j, line);
      const float weight = rows.scale * (j == rows.first ? rows.head : j == rows.last ? rows.tail : 1.0f);
      if (j == rows.first)
        for (int64_t x = 0; x < across; ++x) sum[x] = weight * line[x];
      else
        for (int64_t x = 0; x < across; ++x) sum[x] += weight * line[x];
    }
    for (int64_t x = 0; x < width; ++x) {
      const Span& s = spans[x];
      float total = sum[s.first] * s.head;
      for (int64_t i = s.first + 1; i < s.last; ++i) total += sum[i];
      out[y * width + x] = (total + sum[s.last] * s.tail) * s.scale;
    }
  }
}

// Calls body(x) with T = f32x8 on blocks that cover [0, width); the last block overlaps, a narrow row goes one by one.
#define WM_ROW(width, body)                                            \
  if ((width) >= 8) {                                                  \
    for (int64_t x_ = 0; x_ < (width); x_ += 8) {                      \
      const int64_t x = x_ + 8 <= (width) ? x_ : (width)-8;            \
      body(f32x8, x);                                                  \
    }                                                                  \
  } else {                                                             \
    for (int64_t x = 0; x < (width); ++x) {                            \
      body(float, x);                                                  \
    }                                                                  \
  }

// Rows [begin, end) of a separable filter. scratch: width + 2 (taps - 1) floats.
static inline void blur(const float* in, int64_t height, int64_t width, const float* taps, int count, int64_t begin,
                        int64_t end, float* out, float* scratch) {
  const int reach = count - 1;
  float* line = scratch + reach;
  for (int64_t y = begin; y < end; ++y) {
    const float* rows[2 * max_reach + 1];
    for (int d = -reach; d <= reach; ++d) rows[d + reach] = in + mirrored(y + d, height) * width;
#define WM_VERTICAL(T, x)                                                                             \
  T total = taps[0] * load<T>(rows[reach] + x);                                                       \
  for (int d = 1; d < count; ++d)                                                                     \
    total += taps[d] * (load<T>(rows[reach - d] + x) + load<T>(rows[reach + d] + x));                 \
  store(line + x, total)
    WM_ROW(width, WM_VERTICAL)
#undef WM_VERTICAL
    for (int d = 1; d <= reach; ++d) {
      line[-d] = line[mirrored(-d, width)];
      line[width - 1 + d] = line[mirrored(width - 1 + d, width)];
    }
#define WM_HORIZONTAL(T, x)                                                                     \
  T total = taps[0] * load<T>(line + x);                                                        \
  for (int d = 1; d < count; ++d) total += taps[d] * (load<T>(line + x - d) + load<T>(line + x + d)); \
  store(out + y * width + x, total)
    WM_ROW(width, WM_HORIZONTAL)
#undef WM_HORIZONTAL
  }
}

WM_FN f32x8 magnitude(f32x8 x) { return bit_cast<f32x8>(bit_cast<u32x8>(x) & 0x7fffffffu); }
WM_FN f32x8 square_root(f32x8 x) {
#ifdef __AVX__
  return __builtin_ia32_sqrtps256(x);
#else
  f32x8 r;
  for (int i = 0; i < 8; ++i) r[i] = __builtin_sqrtf(x[i]);
  return r;
#endif
}

// Cell rows [begin, end): the means of sqrt|high|, high^2 and y. scratch: 3 width floats.
static inline void cells(const float* y, const float* high, int64_t height, int64_t width, int64_t begin, int64_t end,
                         float* means, float* scratch) {
  const int64_t across = (width + cell - 1) / cell, down = (height + cell - 1) / cell;
  float *root = scratch, *square = scratch + width, *level = scratch + 2 * width;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t x = 0; x < 3 * width; ++x) scratch[x] = 0.0f;
    const int64_t first = row * cell, last = first + cell < height ? first + cell : height;
    for (int64_t j = first; j < last; ++j) {
      const float *a = y + j * width, *b = high + j * width;
      int64_t x = 0;
#define WM_CELL(T)                                                \
  const T v = load<T>(b + x);                                     \
  store(root + x, load<T>(root + x) + square_root(magnitude(v))); \
  store(square + x, load<T>(square + x) + v * v);                 \
  store(level + x, load<T>(level + x) + load<T>(a + x))
      for (; x + 8 <= width; x += 8) {
        WM_CELL(f32x8);
      }
      for (; x < width; ++x) {
        WM_CELL(float);
      }
#undef WM_CELL
    }
    for (int64_t column = 0; column < across; ++column) {
      const int64_t left = column * cell, right = left + cell < width ? left + cell : width;
      const float count = static_cast<float>((last - first) * (right - left));
      for (int map = 0; map < 3; ++map) {
        const float* line = scratch + map * width;
        float total = line[left];
        for (int64_t x = left + 1; x < right; ++x) total += line[x];
        means[(map * down + row) * across + column] = total / count;
      }
    }
  }
}

// Rows [begin, end) of what flows into each pixel from its four neighbours, where no difference counts more than `limit`.
static inline void limited_flow(const float* y, int64_t height, int64_t width, float limit, int64_t begin, int64_t end,
                                float* out) {
  for (int64_t j = begin; j < end; ++j) {
    const float *row = y + j * width, *above = j > 0 ? row - width : row, *below = j + 1 < height ? row + width : row;
    float* to = out + j * width;
#define WM_FLOW(T, x)                                                                                                 \
  const T v = load<T>(row + x);                                                                                       \
  store(to + x, clamp(v - load<T>(above + x), limit) + clamp(v - load<T>(below + x), limit) +                         \
                    clamp(v - load<T>(row + x - 1), limit) + clamp(v - load<T>(row + x + 1), limit))
    const auto at_border = [&](int64_t x) {
      const float v = row[x], left = x > 0 ? row[x - 1] : v, right = x + 1 < width ? row[x + 1] : v;
      to[x] = clamp(v - above[x], limit) + clamp(v - below[x], limit) + clamp(v - left, limit) + clamp(v - right, limit);
    };
    at_border(0);
    int64_t x = 1;
    for (; x + 8 < width; x += 8) {
      WM_FLOW(f32x8, x);
    }
    for (; x + 1 < width; ++x) {
      WM_FLOW(float, x);
    }
    if (width > 1) at_border(width - 1);
#undef WM_FLOW
  }
}

// `Between` for eight neighbours: all lie within the eight cells from `first` on, since a cell is no smaller than 4 pixels.
struct Between8 {
  int64_t first;
  i32x8 offset;
  f32x8 share;
};

static inline void between_columns(int64_t width, double scale, int64_t across, Between8* out) {
  for (int64_t x = 0; x < width; x += 8) {
    Between8& eight = out[x / 8];
    for (int64_t i = 0; i < 8; ++i) {
      const Between b = between_cells(x + i, scale, across);
      if (i == 0) eight.first = b.low;
      eight.offset[i] = static_cast<int32_t>(b.low - eight.first);
      eight.share[i] = b.share;
    }
  }
}

// One picture row of a map on the cell grid: writes width floats, rounded up to a multiple of eight.
// mixed: across + 8 floats of scratch.
static inline void expand_row(const float* grid, int64_t across, Between vertical, int64_t down, const Between8* horizontal,
                              int64_t width, float* mixed, float* out) {
  const float* upper = grid + vertical.low * across;
  const float* lower = vertical.low + 1 < down ? upper + across : upper;
  for (int64_t i = 0; i < across; ++i) mixed[i] = upper[i] * (1.0f - vertical.share) + lower[i] * vertical.share;
  for (int64_t i = across; i < across + 8; ++i) mixed[i] = mixed[across - 1];
  for (int64_t x = 0; x < width; x += 8) {
    const Between8& eight = horizontal[x / 8];
    const f32x8 near = load<f32x8>(mixed + eight.first);
    const f32x8 left = __builtin_shuffle(near, eight.offset), right = __builtin_shuffle(near, eight.offset + 1);
    store(out + x, left * (1.0f - eight.share) + right * eight.share);
  }
}

// Rows [begin, end) of high x weight; sums[y]: sum of squares of row y. scratch: across + 8 + width + 8 floats.
static inline void weigh(const float* high, int64_t width, const float* weight, int64_t down,
                         int64_t across, const Between8* horizontal, int64_t begin, int64_t end, float* out, float* sums,
                         float* scratch) {
  float *mixed = scratch, *line = scratch + across + 8;
  for (int64_t y = begin; y < end; ++y) {
    expand_row(weight, across, between_cells(y, cell, down), down, horizontal, width, mixed, line);
    f32x8 squares = {};
    float rest = 0.0f;
    int64_t x = 0;
    for (; x + 8 <= width; x += 8) {
      const f32x8 v = load<f32x8>(high + y * width + x) * load<f32x8>(line + x);
      store(out + y * width + x, v);
      squares += v * v;
    }
    for (; x < width; ++x) {
      const float v = high[y * width + x] * line[x];
      out[y * width + x] = v;
      rest += v * v;
    }
    for (int i = 0; i < 8; ++i) rest += squares[i];
    sums[y] = rest;
  }
}

// Rows [begin, end), in place: scale, clip, and the window of both axes.
static inline void clip_and_taper(float* y, int64_t width, float scale, float limit, const float* vertical,
                                  const float* horizontal, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) {
    float* row = y + j * width;
    int64_t x = 0;
    for (; x + 8 <= width; x += 8)
      store(row + x, clamp(load<f32x8>(row + x) * scale, limit) * (load<f32x8>(horizontal + x) * vertical[j]));
    for (; x < width; ++x) row[x] = clamp(row[x] * scale, limit) * (horizontal[x] * vertical[j]);
  }
}

// One row of a picture added to a cycle of `period` sums, from place `start` on.
static inline void fold_row(const float* row, int64_t width, int64_t start, int64_t period, float* out) {
  for (int64_t left = 0; left < width;) {
    const float* from = row + left;
    float* to = out + start;
    const int64_t count = width - left < period - start ? width - left : period - start;
    int64_t x = 0;
    for (; x + 8 <= count; x += 8) store(to + x, load<f32x8>(to + x) + load<f32x8>(from + x));
    for (; x < count; ++x) to[x] += from[x];
    left += count, start = 0;
  }
}

// Pixel (x, y) goes to place (x + step y) modulo the period: once for every step, into sums of their own.
static inline void fold(const float* y, int64_t height, int64_t width, const int64_t* steps, int64_t count, int64_t period,
                        float* out) {
  for (int64_t i = 0; i < count * period; ++i) out[i] = 0.0f;
  for (int64_t j = 0; j < height; ++j)
    for (int64_t k = 0; k < count; ++k) fold_row(y + j * width, width, steps[k] * j % period, period, out + k * period);
}

// Where eight neighbouring pixels lie in a row of samples, and their cubic weights: each needs the four samples from
// `offset` on after `first`. All lie within sixteen samples, since a sample is no smaller than a pixel.
struct Cubic8 {
  int64_t first;
  i32x8 offset;
  f32x8 weight[4];
};

// u = (x + 1/2) / factor - 1/2 lies between samples floor(u) and floor(u) + 1; rows begin two samples before u = 0.
static inline void cubic_columns(int64_t width, double factor, Cubic8* out) {
  for (int64_t x = 0; x < width; x += 8) {
    Cubic8& eight = out[x / 8];
    for (int64_t i = 0; i < 8; ++i) {
      const double u = (static_cast<double>(x + i) + 0.5) / factor - 0.5, base = __builtin_floor(u);
      const int64_t low = static_cast<int64_t>(base) + 1;
      if (i == 0) eight.first = low;
      eight.offset[i] = static_cast<int32_t>(low - eight.first);
      float w[4];
      catmull_rom(static_cast<float>(u - base), w);
      for (int k = 0; k < 4; ++k) eight.weight[k][i] = w[k];
    }
  }
}

// One row of samples at the columns of the picture: writes width floats, rounded up to a multiple of eight.
static inline void widen_row(const float* samples, const Cubic8* columns, int64_t width, float* out) {
  for (int64_t x = 0; x < width; x += 8) {
    const Cubic8& eight = columns[x / 8];
    const f32x8 near = load<f32x8>(samples + eight.first), next = load<f32x8>(samples + eight.first + 8);
    f32x8 total = eight.weight[0] * __builtin_shuffle(near, next, eight.offset);
    for (int k = 1; k < 4; ++k) total += eight.weight[k] * __builtin_shuffle(near, next, eight.offset + k);
    store(out + x, total);
  }
}

// One row of every colour moved by its grey levels; alpha stays.
template <class T>
static inline void move_row(const T* from, const Pixels& p, const float* levels, const Pixels& out, T* to) {
  // Copies: as far as the compiler knows, writing bytes may change anything that a reference leads to.
  const int64_t width = p.width, step = p.column, out_step = out.column;
  const int64_t colours = p.channels - (p.channels % 2 == 0);
  for (int64_t c = 0; c < p.channels; ++c, from += p.channel, to += out.channel) {
    if (c >= colours)
      for (int64_t x = 0; x < width; ++x) to[x * out_step] = from[x * step];
    else if (step == 1 && out_step == 1)
      for (int64_t x = 0; x < width; ++x) to[x] = moved(from[x], levels[x]);
    else
      for (int64_t x = 0; x < width; ++x) to[x * out_step] = moved(from[x * step], levels[x]);
  }
}

// The same for bytes in packed triples. steps: 3 (width + 8) of scratch.
static inline void move_packed_row(const uint8_t* from, int64_t width, const float* levels, int16_t* steps, uint8_t* to) {
  for (int64_t i = 0; i < width; i += 8) {
    const i16x8 d = __builtin_convertvector(__builtin_convertvector(round_even(load<f32x8>(levels + i)), i32x8), i16x8);
    store(steps + 3 * i, __builtin_shuffle(d, i16x8{0, 0, 0, 1, 1, 1, 2, 2}));
    store(steps + 3 * i + 8, __builtin_shuffle(d, i16x8{2, 3, 3, 3, 4, 4, 4, 5}));
    store(steps + 3 * i + 16, __builtin_shuffle(d, i16x8{5, 5, 6, 6, 6, 7, 7, 7}));
  }
  const int64_t count = 3 * width;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    i16x16 sum = __builtin_convertvector(load<u8x16>(from + i), i16x16) + load<i16x16>(steps + i);
    sum = sum < 0 ? i16x16{} : sum;
    sum = sum > 255 ? i16x16{} + int16_t{255} : sum;
    store(to + i, __builtin_convertvector(sum, u8x16));
  }
  for (; i < count; ++i) to[i] = static_cast<uint8_t>(within(from[i] + steps[i], 255));
}

WM_FN bool packed_bytes(const Pixels& p) {
  return p.sample == Sample::uint8 && p.channels == 3 && p.channel == 1 && p.column == 3;
}

// Rows [begin, end) of the picture plus the patterns. `out` has its type and shape, and strides of its own. A pattern is a
// cycle: its row j starts `step` j places further than row 0, and holds as many samples as the picture's width needs. The
// cycles lie `stride` apart, each followed by its own beginning, and start two places early; so do the amplitude maps,
// `down` x `across` apart. columns: null on the patterns' own grid (factor 1).
// scratch: across + 8 + 3 (width + 8) + (4 layers + 1) (width + 8) floats.
static inline void add_pattern(const Pixels& p, const float* cycles, int64_t stride, int64_t period, int64_t step,
                               int64_t layers, const float* amplitudes, int64_t down, int64_t across,
                               const Between8* horizontal, const Cubic8* columns, double factor, int64_t begin, int64_t end,
                               const Pixels& out, float* scratch) {
  const int64_t room = p.width + 8;
  float *mixed = scratch, *line = scratch + across + 8, *shaped = line + room;
  int16_t* steps = reinterpret_cast<int16_t*>(shaped + room);
  float* wide = shaped + room + 3 * room / 2 + 1;  // the last four rows of each pattern at the picture's columns
  const bool packed = packed_bytes(p) && packed_bytes(out);
  const auto row_of = [&](int64_t layer, int64_t j) {
    return cycles + layer * stride + ((j % period * step) % period + period) % period;
  };
  int64_t known = INT64_MIN;
  for (int64_t y = begin; y < end; ++y) {
    const double u = (static_cast<double>(y) + 0.5) / factor - 0.5;
    const double base = __builtin_floor(u);
    const int64_t low = static_cast<int64_t>(base) - 1;
    float w[4];
    catmull_rom(static_cast<float>(u - base), w);
    if (columns)
      for (int64_t j = known < low ? low : known; j < low + 4; ++j) {
        for (int64_t layer = 0; layer < layers; ++layer)
          widen_row(row_of(layer, j), columns, p.width, wide + (4 * layer + (j & 3)) * room);
        known = j + 1;
      }
    const Between vertical = between_cells(y, cell * factor, down);
    for (int64_t layer = 0; layer < layers; ++layer) {
      float* levels = layer ? shaped : line;
      expand_row(amplitudes + layer * down * across, across, vertical, down, horizontal, p.width, mixed, levels);
      int64_t x = 0;
      if (columns) {
        const float* rows[4];
        for (int k = 0; k < 4; ++k) rows[k] = wide + (4 * layer + ((low + k) & 3)) * room;
        for (; x < p.width; x += 8) {
          const f32x8 pattern = w[0] * load<f32x8>(rows[0] + x) + w[1] * load<f32x8>(rows[1] + x) +
                                w[2] * load<f32x8>(rows[2] + x) + w[3] * load<f32x8>(rows[3] + x);
          store(levels + x, pattern * load<f32x8>(levels + x));
        }
      } else {
        const float* row = row_of(layer, y) + 2;
        for (; x < p.width; x += 8) store(levels + x, load<f32x8>(row + x) * load<f32x8>(levels + x));
      }
      if (layer)
        for (x = 0; x < p.width; x += 8) store(line + x, load<f32x8>(line + x) + load<f32x8>(shaped + x));
    }
    with_type(p.sample, [&](auto type) {
      using T = decltype(type);
      const T* from = static_cast<const T*>(p.data) + y * p.row;
      T* to = static_cast<T*>(out.data) + y * out.row;
      if constexpr (sizeof(T) == 1) {
        if (packed) return move_packed_row(from, p.width, line, steps, to);
      }
      move_row(from, p, line, out, to);
    });
  }
}

// Cell rows [begin, end) of 8 x 8 pixels: sums of y p, p the nearest sample of the pattern at g x + offset periods, and the
// same with the pattern moved by half a period on both axes. g: 2 x 2, row major, in periods per pixel.
static inline void correlate_tile(const float* y, int64_t height, int64_t width, const float* samples, const double* g,
                                  const double* offset, int64_t begin, int64_t end, float* found, float* elsewhere) {
  const int64_t across = (width + region - 1) / region;
  constexpr uint32_t shift = 32 - tile_bits, nearest = 1u << (shift - 1), half = 1u << (tile_bits - 1);
  const uint32_t du = turns_of(g[0]), dv = turns_of(g[2]);
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t i = 0; i < across; ++i) found[row * across + i] = elsewhere[row * across + i] = 0.0f;
    const int64_t last = (row + 1) * region < height ? (row + 1) * region : height;
    for (int64_t j = row * region; j < last; ++j) {
      const double down = static_cast<double>(j);
      uint32_t u = turns_of(g[1] * down + offset[0]) + nearest, v = turns_of(g[3] * down + offset[1]) + nearest;
      for (int64_t column = 0; column < across; ++column) {
        const int64_t right = (column + 1) * region < width ? (column + 1) * region : width;
        float here = 0.0f, there = 0.0f;
        for (int64_t x = column * region; x < right; ++x, u += du, v += dv) {
          const uint32_t iu = u >> shift, iv = v >> shift;
          here += y[j * width + x] * samples[iv << tile_bits | iu];
          there += y[j * width + x] * samples[(iv ^ half) << tile_bits | (iu ^ half)];
        }
        found[row * across + column] += here;
        elsewhere[row * across + column] += there;
      }
    }
  }
}

// Part rows [begin, end), parts of 16 x 16 pixels: sums of y times a wave, for each of `count` waves. across and down: the
// wave along one row and one column, `count` times a row of real and a row of imaginary parts. out: complex, of shape
// (count, rows, columns). scratch: 2 (width + 8) floats.
static inline void demodulate(const float* y, int64_t height, int64_t width, const float* across, const float* down,
                              int64_t count, int64_t begin, int64_t end, float* out, float* scratch) {
  const int64_t columns = (width + part - 1) / part, rows = (height + part - 1) / part;
  float *re = scratch, *im = scratch + width + 8;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t top = row * part, lines = top + part < height ? part : height - top;
    for (int64_t k = 0; k < count; ++k) {
      const float *across_re = across + 2 * k * width, *across_im = across_re + width;
      const float *down_re = down + 2 * k * height + top, *down_im = down_re + height;
#define WM_COLUMN(T, x)                                                                    \
  T r = {}, i = {};                                                                        \
  for (int64_t j = 0; j < lines; ++j) {                                                    \
    const T v = load<T>(y + (top + j) * width + x);                                        \
    r += v * down_re[j], i += v * down_im[j];                                              \
  }                                                                                        \
  const T a = load<T>(across_re + x), b = load<T>(across_im + x);                          \
  store(re + x, r * a - i * b);                                                            \
  store(im + x, r * b + i * a)
      WM_ROW(width, WM_COLUMN)
#undef WM_COLUMN
      float* to = out + 2 * (k * rows + row) * columns;
      for (int64_t column = 0; column < columns; ++column, to += 2) {
        const int64_t left = column * part, right = left + part < width ? left + part : width;
        float total_re = 0.0f, total_im = 0.0f;
        if (right - left == part) {
          const f32x8 r = load<f32x8>(re + left) + load<f32x8>(re + left + 8);
          const f32x8 i = load<f32x8>(im + left) + load<f32x8>(im + left + 8);
          for (int lane = 0; lane < 8; ++lane) total_re += r[lane], total_im += i[lane];
        } else {
          for (int64_t x = left; x < right; ++x) total_re += re[x], total_im += im[x];
        }
        to[0] = total_re, to[1] = total_im;
      }
    }
  }
}

// Rows [begin, end) of weight(x) y(x - move(x)), by Catmull-Rom cubics, 0 where they reach beyond the picture.
// maps: moves along x, moves along y, weights, on the grid of parts. scratch: columns + 8 + 3 (width + 8) floats.
static inline void displace(const float* y, int64_t height, int64_t width, const float* maps, const Between8* horizontal,
                            int64_t begin, int64_t end, float* out, float* scratch) {
  const int64_t columns = (width + part - 1) / part, rows = (height + part - 1) / part;
  float *mixed = scratch, *expanded[3];
  for (int i = 0; i < 3; ++i) expanded[i] = scratch + columns + 8 + i * (width + 8);
  for (int64_t row = begin; row < end; ++row) {
    const Between vertical = between_cells(row, part, rows);
    for (int i = 0; i < 3; ++i)
      expand_row(maps + i * rows * columns, columns, vertical, rows, horizontal, width, mixed, expanded[i]);
    for (int64_t x = 0; x < width; ++x) {
      const float u = static_cast<float>(x) - expanded[0][x], v = static_cast<float>(row) - expanded[1][x];
      out[row * width + x] = expanded[2][x] * cubic_at(y, height, width, u, v);
    }
  }
}
#endif

}  // namespace watermark::WM_ISA
