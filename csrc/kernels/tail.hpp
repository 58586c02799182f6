// Tails of a weighted Rademacher sum (see watermark/ops/parity.py), of a binomial and of a sum of exponentials. Need exp, log
// and their like, so devices agree to rounding only.
#pragma once
#include <math.h>

#include "kernels/portable.hpp"

namespace watermark::WM_ISA {

// Level l has counts[l] summands +value[l] and counts[levels + l] summands -value[l].
struct RademacherSum {
  const int32_t* counts;
  const int32_t* values;
  int levels;

  // K'(u) - x and K''(u) for K(u) = sum ln cosh(u a).
  WM_INLINE void slope(double u, double x, double* first, double* second) const {
    double k1 = -x, k2 = 0.0;
    for (int l = 0; l < levels; ++l) {
      const double a = values[l], n = counts[l] + counts[levels + l];
      const double e = exp(-2.0 * u * a), t = (1.0 - e) / (1.0 + e);
      k1 += n * a * t;
      k2 += n * a * a * 4.0 * e / ((1.0 + e) * (1.0 + e));
    }
    *first = k1, *second = k2;
  }

  WM_INLINE double cumulant(double u) const {
    double k = 0.0;
    for (int l = 0; l < levels; ++l) {
      const double a = u * values[l], n = counts[l] + counts[levels + l];
      k += n * (a + log1p(exp(-2.0 * a)) - 0.69314718055994531);
    }
    return k;
  }

  // Half the step of the lattice of the sums: the greatest common divisor of the weights, from the heaviest down. What is
  // left of them is passed over if its spread is below the divisor so far: it does not fill the gaps of the lattice.
  WM_INLINE int half_step(double variance) const {
    int step = 0;
    for (int l = levels - 1; l >= 0; --l) {
      const double a = values[l], n = counts[l] + counts[levels + l];
      if (n == 0.0 || values[l] == 0) continue;
      int divisor = step, other = values[l];
      while (other) {
        const int rest = divisor % other;
        divisor = other, other = rest;
      }
      if (step && divisor < step && variance < static_cast<double>(step) * step) break;
      step = divisor;
      variance -= n * a * a;
    }
    return step;
  }

  // ln P(S >= total) with its total in the counts; *score gets total / standard deviation.
  WM_INLINE double log_tail(double* score) const {
    double total = 0.0, least = 0.0, variance = 0.0, fourth = 0.0;
    for (int l = 0; l < levels; ++l) {
      const double a = values[l], n = counts[l] + counts[levels + l];
      total += a * (counts[l] - counts[levels + l]);
      least -= n * a;
      variance += n * a * a;
      fourth += n * a * a * a * a;
    }
    const int step = half_step(variance);
    *score = variance > 0.0 ? total / sqrt(variance) : 0.0;
    if (total == least) return 0.0;
    const bool few = variance * variance < 50.0 * fourth;  // too few summands matter: a Chernoff bound
    if (few && total <= 0.0) return 0.0;
    const bool lower = total < step;
    // The saddle point is taken in the middle between two points of the lattice.
    const double x = few ? total : lower ? step - total : total - step;
    double u = x / variance, first = 0.0, second = 0.0;
    // K' is concave: Newton's steps never pass the root.
    for (int i = 0; i < 200; ++i) {
      slope(u, x, &first, &second);
      if (!(second > 0.0) || -first <= 1e-9 * x) break;
      u -= first / second;
    }
    const double exponent = u * x - cumulant(u);
    if (few) return -exponent;
    const double w = sqrt(exponent > 0.0 ? 2.0 * exponent : 0.0), v = u * sqrt(second);
    const double correction = w > 1e-4 ? 1.0 / v - 1.0 / w : 0.0;
    double log_p;
    if (w < 25.0) {
      const double density = exp(-0.5 * w * w) * 0.39894228040143268;
      const double p = 0.5 * erfc(w * 0.70710678118654752) + density * correction;
      if (lower) return log1p(-0.95 * p);  // a little less than the approximation, to stay on the safe side
      log_p = log(p);
    } else {
      const double i = 1.0 / (w * w), mills = (1.0 - i * (1.0 - i * (3.0 - 15.0 * i))) / w;
      if (lower) return 0.0;
      log_p = -0.5 * w * w - 0.91893853320467274 + log(mills + correction);
    }
    log_p += 2.995508979798478e-3;  // ln 1.003: more than the error of the approximation
    return log_p < 0.0 ? log_p : 0.0;
  }
};

#ifndef __CUDACC__
// ln P(Bin(trials, rate) >= count), 0 < count <= trials, 0 < rate < 1: the summand at the edge, times the sum of the ratios of
// all further ones to it, away from the mean.
static inline double log_binomial_tail(int64_t count, int64_t trials, double rate) {
  const double n = static_cast<double>(trials), odds = rate / (1.0 - rate);
  const bool lower = static_cast<double>(count) <= n * rate;
  const double edge = static_cast<double>(lower ? count - 1 : count);
  double sum = 1.0, term = 1.0;
  if (lower)
    for (double k = edge; k > 0.0 && term > 1e-20 * sum; --k) sum += term *= k / ((n + 1.0 - k) * odds);
  else
    for (double k = edge + 1.0; k <= n && term > 1e-20 * sum; ++k) sum += term *= (n + 1.0 - k) * odds / k;
  int sign;
  const double choices = lgamma_r(n + 1.0, &sign) - lgamma_r(edge + 1.0, &sign) - lgamma_r(n - edge + 1.0, &sign);
  const double log_sum = choices + edge * log(rate) + (n - edge) * log1p(-rate) + log(sum);
  if (!lower) return log_sum < 0.0 ? log_sum : 0.0;
  return log_sum < 0.0 ? log(-expm1(log_sum)) : -__builtin_huge_val();
}

// ln P(sum of `count` standard exponentials >= x) = ln P(Poisson(x) < count), x > 0, count > 0: likewise.
static inline double log_gamma_tail(double x, int64_t count) {
  const double n = static_cast<double>(count);
  const bool lower = x < n;
  const double edge = lower ? n : n - 1.0;
  double sum = 1.0, term = 1.0;
  if (lower)
    for (double k = edge + 1.0; term > 1e-20 * sum; ++k) sum += term *= x / k;
  else
    for (double k = edge; k > 0.0 && term > 1e-20 * sum; --k) sum += term *= k / x;
  int sign;
  const double log_sum = edge * log(x) - x - lgamma_r(edge + 1.0, &sign) + log(sum);
  if (lower) return log1p(-exp(log_sum));
  return log_sum < 0.0 ? log_sum : 0.0;
}
#endif

}  // namespace watermark::WM_ISA
