#include <algorithm>
#include <stdexcept>

#include "cuda/latent.hpp"
#include "cuda/launch.hpp"
#include "kernels/normal_table.hpp"
#include "kernels/patch.hpp"
#include "kernels/sign_pad.hpp"

namespace watermark::gpu {
namespace {

using namespace watermark::WM_ISA;

constexpr int threads = 128;
constexpr int block_words = 16;  // of one ChaCha20 block
constexpr int64_t chunk = threads * block_words;
constexpr int64_t max_grid = 1 << 20;  // blocks loop over what is left

unsigned grid(int64_t tasks) { return static_cast<unsigned>(std::min(tasks, max_grid)); }

ChaChaKey chacha_key(const uint32_t* key) {
  ChaChaKey k{};
  std::copy_n(key, 8, k.key);
  return k;
}

// Keystream words of a thread block: one ChaCha20 block per thread, then word e to whoever asks for it. The odd pitch
// keeps both the writes and the reads of a warp on distinct banks.
struct Words {
  uint32_t words[block_words * (threads + 1)];

  __device__ void fill(const ChaChaKey& k, uint32_t first_counter) {
    uint32_t x[block_words];
    chacha_block(k, first_counter + threadIdx.x, x);
    for (int i = 0; i < block_words; ++i) words[i * (threads + 1) + threadIdx.x] = x[i];
  }
  __device__ uint32_t operator[](int e) const { return words[e % block_words * (threads + 1) + e / block_words]; }
};

__global__ void chacha_kernel(ChaChaKey k, uint32_t counter, uint32_t* out, int64_t count) {
  __shared__ Words words;
  for (int64_t base = blockIdx.x * chunk; base < count; base += gridDim.x * chunk) {
    words.fill(k, counter + static_cast<uint32_t>(base / block_words));
    __syncthreads();
    const int64_t left = min(chunk, count - base);
    for (int e = threadIdx.x; e < left; e += threads) out[base + e] = words[e];
    __syncthreads();
  }
}

__global__ void signed_normal_kernel(ChaChaKey k, uint64_t first_row, const uint32_t* signs, int64_t signs_step,
                                     int64_t rows, int64_t count, float* out) {
  __shared__ Words words;
  const int64_t chunks = (count + chunk - 1) / chunk;
  for (int64_t task = blockIdx.x; task < rows * chunks; task += gridDim.x) {
    const int64_t row = task / chunks, base = task % chunks * chunk;
    const uint64_t number = first_row + static_cast<uint64_t>(row);
    k.nonce[1] = static_cast<uint32_t>(number), k.nonce[2] = static_cast<uint32_t>(number >> 32);
    words.fill(k, static_cast<uint32_t>(base / block_words));
    __syncthreads();
    const int64_t left = min(chunk, count - base);
    for (int e = threadIdx.x; e < left; e += threads)
      out[row * count + base + e] =
          signed_half_normal(words[e], bit_of(signs + row * signs_step, base + e), normal_table);
    __syncthreads();
  }
}

// One block per row, one thread per symbol: neighbours read neighbours, and a symbol's votes are added in their order.
__global__ void sign_votes_kernel(const float* z, const uint32_t* pad, int64_t rows, int64_t count, int64_t symbols,
                                  uint8_t* bits, int64_t* agreement) {
  __shared__ unsigned long long total;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    int64_t agreed = 0;
    int infinite = 0;
    for (int64_t start = 0; start < symbols; start += threads) {
      const int64_t g = start + threadIdx.x;
      float soft = 0.0f;
      int64_t ones = 0;
      if (g < symbols) {
        for (int64_t i = g; i < count; i += symbols) {
          const float vote = vote_of(z[row * count + i], bit_of(pad, i));
          soft += vote;
          ones += sign_bit(vote);
        }
        agreed += majority(ones, repeats_of(g, count, symbols));
        infinite |= !is_finite(soft);
      }
      const unsigned lane = threadIdx.x % 32, negative = __ballot_sync(~0u, soft < 0.0f);
      if (g < symbols && lane % 8 == 0)
        bits[row * ((symbols + 7) / 8) + g / 8] = static_cast<uint8_t>(__brev(negative >> lane) >> 24);
    }
    atomicAdd(&total, static_cast<unsigned long long>(agreed));
    infinite = __syncthreads_or(infinite);
    if (threadIdx.x == 0) agreement[row] = infinite ? -1 : static_cast<int64_t>(total);
    __syncthreads();
  }
}

// One thread per ChaCha20 block of a noise.
__global__ void patch_noise_kernel(ChaChaKey k, const uint8_t* code, int64_t codes, int64_t rows, int64_t patches,
                                   int64_t width, float* out) {
  const int64_t blocks = patch_blocks(width), tasks = rows * patches * blocks;
  for (int64_t task = blockIdx.x * int64_t{threads} + threadIdx.x; task < tasks; task += gridDim.x * int64_t{threads}) {
    const int64_t place = task / blocks, block = task % blocks;
    uint32_t words[block_words];
    chacha_block(k, static_cast<uint32_t>((place % patches * codes + code[place]) * blocks + block), words);
    const int64_t left = min(int64_t{block_words}, width - block * block_words);
    for (int e = 0; e < left; ++e) out[place * width + block * block_words + e] = patch_normal(words[e], normal_table);
  }
}

constexpr int search_rows = 8;  // latents that share one pass over a patch's noises

// One block per patch and group of latents, one thread per noise.
__global__ void patch_search_kernel(ChaChaKey k, const float* x, int64_t rows, int64_t patches, int64_t width,
                                    int64_t codes, float least, float* best, uint32_t* matches) {
  __shared__ double scale[search_rows];
  __shared__ float unit[search_rows][block_words];
  __shared__ float most[search_rows][threads / 32];
  const int64_t blocks = patch_blocks(width), groups = (rows + search_rows - 1) / search_rows;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int64_t task = blockIdx.x; task < patches * groups; task += gridDim.x) {
    const int64_t patch = task % patches, top = task / patches * search_rows;
    const int count = static_cast<int>(min(int64_t{search_rows}, rows - top));
    if (threadIdx.x < search_rows)
      scale[threadIdx.x] =
          static_cast<int>(threadIdx.x) < count ? patch_scale(x + ((top + threadIdx.x) * patches + patch) * width, width) : 0;
    if (threadIdx.x < search_rows * (threads / 32)) most[threadIdx.x % search_rows][threadIdx.x / search_rows] = -1.0f;
    __syncthreads();
    for (int64_t first = 0; first < codes; first += threads) {
      const int64_t c = first + threadIdx.x;
      float energy = 0.0f, sum[search_rows] = {};
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t left = min(int64_t{block_words}, width - block * block_words);
        for (int i = threadIdx.x; i < search_rows * block_words; i += threads) {
          const int r = i / block_words, e = i % block_words;
          unit[r][e] = r < count && e < left
                           ? static_cast<float>(
                                 static_cast<double>(x[((top + r) * patches + patch) * width + block * block_words + e]) *
                                 scale[r])
                           : 0.0f;
        }
        __syncthreads();
        if (c < codes) {
          uint32_t words[block_words];
          chacha_block(k, static_cast<uint32_t>((patch * codes + c) * blocks + block), words);
          for (int e = 0; e < left; ++e) {
            const float noise = patch_normal(words[e], normal_table);
            energy += noise * noise;
            for (int r = 0; r < search_rows; ++r) sum[r] += noise * unit[r][e];
          }
        }
        __syncthreads();
      }
      if (c >= codes) continue;  // codes are a multiple of 32: whole warps leave
      for (int r = 0; r < count; ++r) {
        float cosine = sum[r] / sqrtf(energy);
        const uint32_t word = __ballot_sync(~0u, cosine >= least);
        for (int step = 16; step; step /= 2) cosine = fmaxf(cosine, __shfl_xor_sync(~0u, cosine, step));
        if (lane == 0) {
          matches[((top + r) * patches + patch) * (codes / 32) + c / 32] = word;
          most[r][warp] = fmaxf(most[r][warp], cosine);
        }
      }
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < count) {
      float largest = -1.0f;
      for (int i = 0; i < threads / 32; ++i) largest = fmaxf(largest, most[threadIdx.x][i]);
      best[(top + threadIdx.x) * patches + patch] = largest;
    }
    __syncthreads();
  }
}

}  // namespace

std::string why_not() {
  int count = 0, major = 0, minor = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count == 0) status = cudaErrorNoDevice;
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(status);
  }
  constexpr int built_for[] = {__CUDA_ARCH_LIST__};
  const int oldest = *std::min_element(std::begin(built_for), std::end(built_for));
  if (100 * major + 10 * minor >= oldest) return "";
  return "the device has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", and this build needs " + std::to_string(oldest / 100) + "." + std::to_string(oldest / 10 % 10) +
         " or newer";
}

std::string device_name(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "read the properties of the device");
  return properties.name;
}

OnDevice::OnDevice(int device) {
  check(cudaGetDevice(&previous_), "tell the current device");
  check(cudaSetDevice(device), "switch to the device of the tensor");
}

OnDevice::~OnDevice() { cudaSetDevice(previous_); }

void chacha20(const uint32_t* key, const uint32_t* nonce, uint32_t counter, uint32_t* out, int64_t count,
              cudaStream_t stream) {
  if (count == 0) return;
  ChaChaKey k = chacha_key(key);
  std::copy_n(nonce, 3, k.nonce);
  chacha_kernel<<<grid((count + chunk - 1) / chunk), threads, 0, stream>>>(k, counter, out, count);
  check(cudaGetLastError(), "start the ChaCha20 kernel");
}

void signed_normal(const uint32_t* key, uint64_t first_row, const uint32_t* signs, int64_t signs_step, int64_t rows,
                   int64_t count, float* out, cudaStream_t stream) {
  if (rows == 0 || count == 0) return;
  const int64_t tasks = rows * ((count + chunk - 1) / chunk);
  signed_normal_kernel<<<grid(tasks), threads, 0, stream>>>(chacha_key(key), first_row, signs, signs_step, rows, count,
                                                            out);
  check(cudaGetLastError(), "start the kernel that samples latents");
}

void sign_votes(const float* z, const uint32_t* pad, int64_t rows, int64_t count, int64_t symbols, uint8_t* bits,
                int64_t* agreement, cudaStream_t stream) {
  if (rows == 0) return;
  sign_votes_kernel<<<grid(rows), threads, 0, stream>>>(z, pad, rows, count, symbols, bits, agreement);
  check(cudaGetLastError(), "start the kernel that reads latents");
}

void patch_noise(const uint32_t* key, const uint8_t* code, int64_t codes, int64_t rows, int64_t patches, int64_t width,
                 float* out, cudaStream_t stream) {
  const int64_t tasks = rows * patches * patch_blocks(width);
  if (tasks == 0) return;
  patch_noise_kernel<<<grid((tasks + threads - 1) / threads), threads, 0, stream>>>(chacha_key(key), code, codes, rows,
                                                                                    patches, width, out);
  check(cudaGetLastError(), "start the kernel that makes the noise of patches");
}

void patch_search(const uint32_t* key, const float* x, int64_t rows, int64_t patches, int64_t width, int64_t codes,
                  float least, float* best, uint32_t* matches, cudaStream_t stream) {
  if (rows == 0 || patches == 0) return;
  patch_search_kernel<<<grid(patches * ((rows + search_rows - 1) / search_rows)), threads, 0, stream>>>(
      chacha_key(key), x, rows, patches, width, codes, least, best, matches);
  check(cudaGetLastError(), "start the kernel that searches patches");
}

}  // namespace watermark::gpu
