// Fourier transform of a real picture in a field of 1024 x 1024, rows first. A length of 1024 = 32 x 32 is done in two
// passes of 32-point transforms, eight at a time in the lanes of a vector.
#pragma once
#include "cpu/dispatch.hpp"
#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

#ifndef __CUDACC__

struct Complex8 {
  f32x8 re, im;
};
WM_FN Complex8 operator+(Complex8 a, Complex8 b) { return {a.re + b.re, a.im + b.im}; }
WM_FN Complex8 operator-(Complex8 a, Complex8 b) { return {a.re - b.re, a.im - b.im}; }
WM_FN Complex8 times_minus_i(Complex8 a) { return {a.im, -a.re}; }
template <class T>
WM_FN Complex8 times(Complex8 a, T re, T im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

WM_FN void fft4(Complex8& a, Complex8& b, Complex8& c, Complex8& d) {
  const Complex8 s = a + c, t = a - c, u = b + d, v = times_minus_i(b - d);
  a = s + u, b = t + v, c = s - u, d = t - v;
}

// In place, natural order in and out.
WM_FN void fft8(Complex8 (&x)[8]) {
  constexpr float h = 0.70710678118654752f;
  fft4(x[0], x[2], x[4], x[6]);
  fft4(x[1], x[3], x[5], x[7]);
  const Complex8 odd[4] = {x[1], times(x[3], h, -h), times_minus_i(x[5]), times(x[7], -h, -h)};
  const Complex8 even[4] = {x[0], x[2], x[4], x[6]};
  for (int k = 0; k < 4; ++k) x[k] = even[k] + odd[k], x[k + 4] = even[k] - odd[k];
}

WM_FN void fft32(Complex8 (&x)[32], const Turns& turns) {
  for (int j = 0; j < 4; ++j) {
    Complex8 part[8];
    for (int i = 0; i < 8; ++i) part[i] = x[j + 4 * i];
    fft8(part);
    for (int k = 0; k < 8; ++k) x[j + 4 * k] = times(part[k], turns.re[32 * j * k], turns.im[32 * j * k]);
  }
  Complex8 out[32];
  for (int k = 0; k < 8; ++k) {
    fft4(x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3]);
    for (int m = 0; m < 4; ++m) out[k + 8 * m] = x[4 * k + m];
  }
  for (int i = 0; i < 32; ++i) x[i] = out[i];
}

WM_FN void transpose8(f32x8 (&r)[8]) {
  f32x8 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = __builtin_shuffle(r[i], r[i + 1], i32x8{0, 8, 1, 9, 4, 12, 5, 13});
    a[i + 1] = __builtin_shuffle(r[i], r[i + 1], i32x8{2, 10, 3, 11, 6, 14, 7, 15});
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = __builtin_shuffle(a[i + j], a[i + j + 2], i32x8{0, 1, 8, 9, 4, 5, 12, 13});
      b[i + 2 * j + 1] = __builtin_shuffle(a[i + j], a[i + j + 2], i32x8{2, 3, 10, 11, 6, 7, 14, 15});
    }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shuffle(b[i], b[i + 4], i32x8{0, 1, 2, 3, 8, 9, 10, 11});
    r[i + 4] = __builtin_shuffle(b[i], b[i + 4], i32x8{4, 5, 6, 7, 12, 13, 14, 15});
  }
}

// One transform of length 1024 inside the first-level cache, lanes running along the signal.
static inline void fft1024(float* re, float* im, const Turns& turns) {
  float tre[field], tim[field];
  Complex8 x[32];
  for (int n = 0; n < 32; n += 8) {
    for (int m = 0; m < 32; ++m) x[m] = {load<f32x8>(re + 32 * m + n), load<f32x8>(im + 32 * m + n)};
    fft32(x, turns);
    for (int k = 0; k < 32; ++k) {
      x[k] = times(x[k], load<f32x8>(&turns.pass_re[k][n]), load<f32x8>(&turns.pass_im[k][n]));
      store(tre + 32 * k + n, x[k].re);
      store(tim + 32 * k + n, x[k].im);
    }
  }
  for (int k = 0; k < 32; k += 8) {
    for (int n = 0; n < 32; n += 8) {
      f32x8 a[8], b[8];
      for (int i = 0; i < 8; ++i) a[i] = load<f32x8>(tre + 32 * (k + i) + n), b[i] = load<f32x8>(tim + 32 * (k + i) + n);
      transpose8(a);
      transpose8(b);
      for (int i = 0; i < 8; ++i) x[n + i] = {a[i], b[i]};
    }
    fft32(x, turns);
    for (int m = 0; m < 32; ++m) {
      store(re + 32 * m + k, x[m].re);
      store(im + 32 * m + k, x[m].im);
    }
  }
}

// Rows [begin, end) of pairs: rows 2i and 2i + 1 of the picture are transformed as one complex signal. The picture's
// centre goes to the origin. re, im: planes of height rows of field_stride, in the picture's row order.
static inline void spectrum_rows(const float* y, int64_t height, int64_t width, int64_t begin, int64_t end,
                                 const Turns& turns, float* re, float* im) {
  const int64_t left = width / 2, right = width - left;
  for (int64_t pair = begin; pair < end; ++pair) {
    float a[field] = {}, b[field] = {};
    const int64_t first = 2 * pair, second = first + 1;
    for (int64_t x = 0; x < right; ++x) a[x] = y[first * width + left + x];
    for (int64_t x = 0; x < left; ++x) a[field - left + x] = y[first * width + x];
    if (second < height) {
      for (int64_t x = 0; x < right; ++x) b[x] = y[second * width + left + x];
      for (int64_t x = 0; x < left; ++x) b[field - left + x] = y[second * width + x];
    }
    fft1024(a, b, turns);
    for (int64_t k = 0; k < half_field; ++k) {
      const int64_t o = (field - k) % field;
      re[first * field_stride + k] = 0.5f * (a[k] + a[o]);
      im[first * field_stride + k] = 0.5f * (b[k] - b[o]);
      if (second < height) {
        re[second * field_stride + k] = 0.5f * (b[k] + b[o]);
        im[second * field_stride + k] = 0.5f * (a[o] - a[k]);
      }
    }
    for (int64_t k = half_field; k < field_stride; ++k)  // the last block of columns reads past the half field
      for (int64_t row = first; row <= second && row < height; ++row)
        re[row * field_stride + k] = im[row * field_stride + k] = 0.0f;
  }
}

// Blocks [begin, end) of eight columns. scratch: 2 x 8 x 1024 floats.
static inline void spectrum_columns(const float* re, const float* im, int64_t height, int64_t begin, int64_t end,
                                    const Turns& turns, float* out, float* scratch) {
  const int64_t above = height / 2;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t column = 8 * block;
    float *pre = scratch, *pim = scratch + 8 * field;
    Complex8 x[32];
    for (int n = 0; n < 32; ++n) {
      for (int m = 0; m < 32; ++m) {
        // Field row r holds picture row r + above below the centre, r - 1024 + above over it, zeros between.
        const int64_t r = n + 32 * m, row = r < height - above ? r + above : r - field + above;
        const int64_t at = row * field_stride + column;
        x[m] = row >= 0 ? Complex8{load<f32x8>(re + at), load<f32x8>(im + at)} : Complex8{};
      }
      fft32(x, turns);
      for (int k = 0; k < 32; ++k) {
        x[k] = times(x[k], turns.pass_re[k][n], turns.pass_im[k][n]);
        store(pre + 8 * (32 * k + n), x[k].re);
        store(pim + 8 * (32 * k + n), x[k].im);
      }
    }
    const int64_t lanes = half_field - column < 8 ? half_field - column : 8;
    for (int k = 0; k < 32; ++k) {
      for (int n = 0; n < 32; ++n) x[n] = {load<f32x8>(pre + 8 * (32 * k + n)), load<f32x8>(pim + 8 * (32 * k + n))};
      fft32(x, turns);
      for (int m = 0; m < 32; ++m) {
        float* to = out + 2 * ((k + 32 * m) * half_field + column);
        if (lanes == 8) {
          store(to, __builtin_shuffle(x[m].re, x[m].im, i32x8{0, 8, 1, 9, 2, 10, 3, 11}));
          store(to + 8, __builtin_shuffle(x[m].re, x[m].im, i32x8{4, 12, 5, 13, 6, 14, 7, 15}));
        } else {
          for (int64_t i = 0; i < lanes; ++i) to[2 * i] = x[m].re[i], to[2 * i + 1] = x[m].im[i];
        }
      }
    }
  }
}
#endif

}  // namespace watermark::WM_ISA
