// The layers of Stable Diffusion 1.5 at 512 and 256 pixels, of its text encoder and autoencoder, and of the demo model.
#include <algorithm>
#include <tuple>

#include "tests/kernels/verb_cases.h"
#include "tests/kernels/verb_makers.h"

namespace cudream {
namespace {

using namespace makers;

// A residual block's and a transformer's layers at one level of a UNet: `from` channels come in, `channels` go out.
void add_level(std::vector<VerbCase>& cases, int64_t size, std::initializer_list<int64_t> from, int64_t channels, int64_t context,
               int heads, bool transformer) {
  for (const int64_t in : from) {
    cases.push_back(group_norm(size, size, in, 32, Act::silu));
    cases.push_back(conv(size, size, in, channels, {}, {.add = true}));
    if (in != channels) cases.push_back(pointwise_conv(size, size, in, channels));
  }
  cases.push_back(conv(size, size, channels, channels, {}, {.residual = true}));
  if (!transformer) return;
  const int64_t rows = size * size, head = channels / heads;
  cases.push_back(layer_norm(rows, channels));
  cases.push_back(linear(rows, channels, 3 * channels, {.bias = false}));
  cases.push_back(linear(rows, channels, channels, {.residual = true}));
  cases.push_back(linear(rows, channels, channels, {.bias = false}));
  cases.push_back(linear(77, context, 2 * channels, {.bias = false}));
  cases.push_back(attention(rows, rows, {.heads = heads, .size = head, .packed = true}));
  cases.push_back(attention(rows, 77, {.heads = heads, .size = head}));
  cases.push_back(geglu(rows, channels, 8 * channels));
  cases.push_back(linear(rows, 4 * channels, channels, {.residual = true}));
}

void add_sd15_unet(std::vector<VerbCase>& cases, int64_t latent) {
  cases.push_back(conv(latent, latent, 4, 320));
  add_level(cases, latent, {320, 640, 960}, 320, 768, 8, true);
  add_level(cases, latent / 2, {320, 640, 960, 1280, 1920}, 640, 768, 8, true);
  add_level(cases, latent / 4, {640, 1280, 1920, 2560}, 1280, 768, 8, true);
  add_level(cases, latent / 8, {1280, 2560}, 1280, 768, 8, true);
  int64_t size = latent;
  for (const int64_t channels : {320, 640, 1280}) {
    cases.push_back(conv(size, size, channels, channels, {.stride = 2}));
    size /= 2;
  }
  for (const int64_t channels : {1280, 1280, 640}) {
    cases.push_back(conv(size, size, channels, channels, {.up_height = 2 * size, .up_width = 2 * size}));
    size *= 2;
  }
  cases.push_back(conv(latent, latent, 320, 4));
}

void add_vae(std::vector<VerbCase>& cases, int64_t latent) {
  cases.push_back(conv(latent, latent, 4, 512));
  cases.push_back(attention(latent * latent, latent * latent, {.heads = 1, .size = 512}));
  cases.push_back(linear(latent * latent, 512, 512, {.residual = true}));
  int64_t size = latent;
  for (const int64_t channels : {512, 512, 256, 128}) {
    cases.push_back(group_norm(size, size, channels, 32, Act::silu));
    cases.push_back(conv(size, size, channels, channels, {}, {.residual = true}));
    if (channels < 512) cases.push_back(conv(size, size, 2 * channels, channels));
    if (channels < 512) cases.push_back(pointwise_conv(size, size, 2 * channels, channels));
    if (channels > 128) cases.push_back(conv(size, size, channels, channels, {.up_height = 2 * size, .up_width = 2 * size}));
    if (size > latent) cases.push_back(conv(size, size, channels, channels, {.stride = 2, .before = 0, .after = 1}));
    size *= 2;
  }
  cases.push_back(conv(8 * latent, 8 * latent, 128, 3));
  cases.push_back(conv(8 * latent, 8 * latent, 3, 128));
  cases.push_back(conv(latent, latent, 512, 8));
}

void add_demo_model(std::vector<VerbCase>& cases) {
  cases.push_back(conv(16, 16, 4, 64));
  for (const auto& [size, in, out] : {std::tuple<int64_t, int64_t, int64_t>{16, 64, 64},
                                      {16, 128, 64},
                                      {8, 64, 96},
                                      {8, 160, 96},
                                      {4, 96, 96},
                                      {4, 192, 96},
                                      {2, 96, 96},
                                      {2, 192, 96}}) {
    cases.push_back(conv(size, size, in, out, {}, {.add = true}));
    if (in != out) cases.push_back(pointwise_conv(size, size, in, out));
    cases.push_back(attention(size * size, size * size, {.heads = 8, .size = out / 8, .packed = true}));
    cases.push_back(geglu(size * size, out, 8 * out));
    cases.push_back(linear(size * size, 4 * out, out, {.residual = true}));
  }
  for (const auto& [size, channels] : {std::pair<int64_t, int64_t>{16, 96}, {32, 96}, {64, 64}, {128, 32}}) {
    cases.push_back(group_norm(size, size, channels, 8, Act::silu));
    cases.push_back(conv(size, size, channels, channels, {}, {.residual = true}));
    if (size > 16) cases.push_back(conv(size / 2, size / 2, channels, channels, {.up_height = size, .up_width = size}));
  }
  cases.push_back(conv(128, 128, 32, 3));
}

void add_clip(std::vector<VerbCase>& cases, int64_t width, int heads) {
  cases.push_back(layer_norm(77, width));
  cases.push_back(linear(77, width, 3 * width));
  cases.push_back(attention(77, 77, {.heads = heads, .size = width / heads, .causal = true, .packed = true}));
  cases.push_back(linear(77, width, 4 * width, {.act = Act::quick_gelu}));
  cases.push_back(linear(77, 4 * width, width, {.residual = true}));
}

}  // namespace

std::vector<VerbCase> network_verb_cases(std::initializer_list<int64_t> latents) {
  std::vector<VerbCase> all, once;
  for (const int64_t latent : latents) {
    add_sd15_unet(all, latent);
    add_vae(all, latent);
  }
  all.push_back(attention(256, 256, {.heads = 10, .size = 64, .packed = true}));  // of SD 2.1 and SDXL
  all.push_back(attention(256, 77, {.heads = 10, .size = 64}));
  add_clip(all, 768, 12);
  add_clip(all, 128, 4);
  add_demo_model(all);
  for (const VerbCase& c : all)
    if (std::none_of(once.begin(), once.end(), [&](const VerbCase& o) { return o.name == c.name; })) once.push_back(c);
  return once;
}

}  // namespace cudream
