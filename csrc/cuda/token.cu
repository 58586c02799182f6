#include "cuda/token.hpp"

#include "cuda/launch.hpp"

namespace watermark::WM_ISA {
namespace {

template <class Work>
void with_prf(int prf, Work work) {
  switch (prf) {
    case 0:
      return work(Philox{});
    case 1:
      return work(ChaCha8{});
    case 2:
      return work(Sbw{});
    case 3:
      return work(Octets<Philox>{});
    default:
      return work(Octets<ChaCha8>{});
  }
}

// Calls work with a pointer to the numbers that the logits have.
template <class Work>
void with_numbers(const LogitRows& logits, Work work) {
  switch (logits.number) {
    case Number::float32:
      return work(static_cast<float*>(logits.data));
    case Number::float16:
      return work(static_cast<Float16*>(logits.data));
    case Number::bfloat16:
      return work(static_cast<BFloat16*>(logits.data));
  }
}

template <class T>
struct Pointee;
template <class T>
struct Pointee<T*> {
  using type = T;
};

}  // namespace

void bias(int prf, const TokenKey& key, const Green& green, const LogitRows& logits, void* stream) {
  with_prf(prf, [&](auto function) {
    with_numbers(logits, [&](auto data) {
      using T = typename Pointee<decltype(data)>::type;
      launch(BiasKernel<T, decltype(function)>{key, logits.rows, green, data}, stream);
    });
  });
}

void words(int prf, const TokenKey& key, const Rows& rows, uint32_t* out, void* stream) {
  with_prf(prf, [&](auto function) { launch(WordsKernel<decltype(function)>{key, rows, out}, stream); });
}

void gumbel(int prf, const TokenKey& key, const LogitRows& logits, int64_t width, Choice* parts, int64_t* columns, void* stream) {
  const Rows& rows = logits.rows;
  with_numbers(logits, [&](auto data) {
    using T = typename Pointee<decltype(data)>::type;
    with_prf(prf, [&](auto function) { launch(GumbelKernel<T, decltype(function)>{key, rows, data, parts}, stream); });
    launch(ChooseKernel<T>{parts, rows.rows, rows.stride, width, data, columns}, stream);
  });
}

void tournament(const uint32_t* words, int64_t word_stride, int depth, const LogitRows& logits, float* scratch, uint8_t* done,
                void* stream) {
  const Rows& rows = logits.rows;
  with_numbers(logits, [&](auto data) {
    using T = typename Pointee<decltype(data)>::type;
    launch(TournamentKernel<T>{words, rows.rows, rows.columns, rows.stride, word_stride, depth, data, scratch, done}, stream);
  });
}

}  // namespace watermark::WM_ISA
