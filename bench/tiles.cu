// Times the kernels of products on a card in every tile and several splits of the depth, for layers of SD 1.5 at 512x512 and of
// SDXL at 1024x1024: two pictures, f16, bias; with --residual a residual too. The figures of kernels/cuda/product.cc come from
// here, and tests/cuda/data/tiles_h200.csv is what an H200 printed.
//
//     nvcc -O3 -std=c++20 -arch=native -I . bench/tiles.cu -o tiles && ./tiles
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "kernels/cuda/conv_product.cu"
#include "kernels/cuda/linear_product.cu"

namespace cudream {
namespace {

void check(cudaError_t result) {
  if (result == cudaSuccess) return;
  std::fprintf(stderr, "tiles: %s\n", cudaGetErrorString(result));
  std::exit(1);
}

template <typename T>
T* allocate(size_t bytes) {
  void* at = nullptr;
  check(cudaMalloc(&at, bytes));
  check(cudaMemset(at, 0, bytes));
  return static_cast<T*>(at);
}

// Values of either sign: a product of zeros takes less power, and so less time.
__global__ void fill(__half* values, size_t count, float scale) {
  for (size_t i = blockIdx.x * 256ull + threadIdx.x; i < count; i += gridDim.x * 256ull) {
    unsigned bits = static_cast<unsigned>(i) * 2654435761u;
    bits = (bits ^ bits >> 15) * 2246822519u;
    values[i] = __float2half(scale * ((bits >> 8) * 0x1p-24f - 0.5f));
  }
}

struct Layer {
  int side, channels, outs, kernel;  // kernel 1: a linear
};
constexpr Layer kLayers[] = {
    {64, 320, 320, 3},    {32, 640, 640, 3}, {16, 1280, 1280, 3}, {8, 1280, 1280, 3},  {64, 640, 640, 3},    {32, 1280, 1280, 3},
    {64, 640, 320, 3},    {64, 960, 320, 3}, {16, 2560, 1280, 3}, {32, 1920, 640, 3},  {32, 1280, 640, 3},   {8, 2560, 1280, 3},
    {32, 320, 640, 3},    {64, 320, 320, 1}, {32, 640, 640, 1},   {16, 1280, 1280, 1}, {64, 1280, 320, 1},   {32, 2560, 640, 1},
    {16, 5120, 1280, 1},  {64, 320, 960, 1}, {32, 640, 1920, 1},  {16, 1280, 3840, 1}, {64, 320, 2560, 1},   {32, 640, 5120, 1},
    {16, 1280, 10240, 1}, {64, 640, 320, 1}, {8, 1280, 1280, 1},  {8, 2560, 1280, 1},  {8, 5120, 1280, 1},   {32, 1920, 640, 1},
    {128, 320, 320, 3},   {64, 640, 640, 1}, {32, 1280, 1280, 1}, {32, 1280, 3840, 1}, {32, 1280, 10240, 1}, {32, 5120, 1280, 1},
    {256, 256, 256, 3}};

struct Tile {
  const char* name;
  TileShape shape;
  const void *linear, *conv;
};
const Tile kTimed[] = {
    {"128x128", kTile128x128, reinterpret_cast<const void*>(linear_128x128_f16), reinterpret_cast<const void*>(conv_128x128_f16)},
    {"128x160", kTile128x160, reinterpret_cast<const void*>(linear_128x160_f16), reinterpret_cast<const void*>(conv_128x160_f16)},
    {"64x160", kTile64x160, reinterpret_cast<const void*>(linear_64x160_f16), reinterpret_cast<const void*>(conv_64x160_f16)},
    {"64x64", kTile64x64, reinterpret_cast<const void*>(linear_64x64_f16), reinterpret_cast<const void*>(conv_64x64_f16)}};

constexpr int kPictures = 2, kFewestSteps = 8, kRounds = 3, kCalls = 10, kMostBlocks = 8;
constexpr size_t kBytes = 512u << 20, kWeightBytes = 256u << 20, kShareBytes = 64u << 20, kSmall = 1u << 16;

struct Buffers {
  __half *x = allocate<__half>(kBytes), *out = allocate<__half>(kBytes), *weights = allocate<__half>(kWeightBytes);
  float *shares = allocate<float>(kShareBytes), *bias = allocate<float>(kSmall);
  unsigned* arrived = allocate<unsigned>(kSmall);
  __half* residual = nullptr;
};

// Microseconds of a call, the best of some rounds of calls back to back. Activations lie in L2 as in a step, and each call has
// weights of its own, which a step reads from memory.
double microseconds_of(const Buffers& b, const Tile& tile, const Layer& l, int splits, unsigned tiles) {
  const int depth = l.channels * l.kernel * l.kernel, pixels = l.side * l.side;
  const size_t each = (static_cast<size_t>(depth) * l.outs + 127) / 128 * 128;
  const size_t sets = std::clamp<size_t>(kWeightBytes / 2 / each, 1, 32);
  ProductParams p{.w = nullptr,
                  .out = b.out,
                  .shares = b.shares,
                  .arrived = b.arrived,
                  .rows = kPictures * pixels,
                  .outs = l.outs,
                  .steps = depth / kTileStep,
                  .rows_per_picture = pixels};
  p.epilogue.bias = b.bias;
  p.epilogue.residual = b.residual;
  const void* kernel = l.kernel == 1 ? tile.linear : tile.conv;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, tile.shape.shared_bytes()));
  const auto call = [&](int i) {
    p.w = b.weights + each * (static_cast<size_t>(i) % sets);
    LinearProductParams linear{p, b.x};
    ConvProductParams conv{p, b.x, nullptr, l.side, l.side, l.channels, 0, l.side, l.side, l.kernel, 1, l.kernel / 2, 0};
    void* parameters[] = {l.kernel == 1 ? static_cast<void*>(&linear) : &conv};
    check(cudaLaunchKernel(kernel, dim3(tiles, static_cast<unsigned>(splits)), dim3(static_cast<unsigned>(tile.shape.threads())),
                           parameters, static_cast<size_t>(tile.shape.shared_bytes()), nullptr));
  };
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  call(0);
  float best = 1e9f;
  for (int round = 0; round < kRounds; round++) {
    check(cudaEventRecord(begin));
    for (int i = 0; i < kCalls; i++) call(i + kCalls * round);
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds / kCalls);
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  return 1e3 * best;
}

void time_all(bool residual) {
  Buffers b;
  if (residual) b.residual = allocate<__half>(kBytes);
  fill<<<1024, 256>>>(b.x, kBytes / 2, 2.f);
  fill<<<1024, 256>>>(b.weights, kWeightBytes / 2, 0.1f);
  cudaDeviceProp card{};
  check(cudaGetDeviceProperties(&card, 0));
  std::printf("# %s: rows of one picture, outs, channels, taps, tile, splits, microseconds\n", card.name);
  for (const Tile& tile : kTimed)
    for (const Layer& l : kLayers)
      for (const int splits : {1, 2, 3, 4, 5, 6, 8, 12, 16}) {
        const int rows = kPictures * l.side * l.side, steps = l.channels * l.kernel * l.kernel / kTileStep;
        const int tiles = (rows + tile.shape.rows - 1) / tile.shape.rows * ((l.outs + tile.shape.cols - 1) / tile.shape.cols);
        const size_t shares = static_cast<size_t>(tiles) * splits * tile.shape.rows * tile.shape.cols * sizeof(float);
        const bool useful = steps / splits >= kFewestSteps && tiles * splits <= kMostBlocks * card.multiProcessorCount;
        if (splits > 1 && (!useful || shares > kShareBytes)) break;
        std::printf("%d,%d,%d,%d,%s,%d,%.2f\n", l.side * l.side, l.outs, l.channels, l.kernel * l.kernel, tile.name, splits,
                    microseconds_of(b, tile, l, splits, static_cast<unsigned>(tiles)));
      }
}

}  // namespace
}  // namespace cudream

int main(int argc, char** argv) {
  cudream::time_all(argc > 1 && std::string_view(argv[1]) == "--residual");
}
