// Compiled once per instruction set with -DWM_ISA=name and its -m flags. No STL in here: an inline std function compiled
// with -mavx2 could win at link time and crash older machines.
#include "cpu/dispatch.hpp"
#include "kernels/normal_table.hpp"
#include "kernels/polar.hpp"
#include "kernels/sign_pad.hpp"

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

int64_t polar_scratch(int layers, int paths, int64_t information) {
  return polar_scratch_bytes(layers, paths, information);
}

}  // namespace

extern const Kernels table;
const Kernels table = {
    WM_QUOTE(WM_ISA), chacha, half_normals, signed_normal, sign_votes_row, polar_scratch, polar_decode,
};

}  // namespace watermark::WM_ISA
