// Tiny forms of networks with blocks missing (BK-SDM, SSD-1B, Segmind-Vega), whose runs more_runs.py has recorded. They have the
// tensors of the public files, by their headers; every width is a twentieth, and values follow from names, so nothing is stored.
#pragma once

#include <zlib.h>

#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "loader/convert.h"
#include "loader/safetensors.h"
#include "tests/golden/tensors.h"
#include "tests/loader/facts.h"

namespace cudream {

// The same as named_weight() in more_runs.py: MurmurHash3's finalizer over the name's CRC-32 and the index.
inline std::vector<float> named_weight(const std::string& name, const std::vector<uint64_t>& shape) {
  size_t size = 1;
  for (const uint64_t n : shape) size *= n;
  const auto seed = static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(name.data()), static_cast<uInt>(name.size())));
  const double fan_in = static_cast<double>(size) / static_cast<double>(shape[0]);
  const auto exponent = static_cast<int>(std::nearbyint(std::log2(74 * std::sqrt(fan_in))));
  std::vector<float> values(size);
  for (size_t i = 0; i < size; i++) {
    uint32_t h = seed + static_cast<uint32_t>(i) * 0x9E3779B1u;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    const int k = static_cast<int>((h ^ h >> 16) >> 24) - 128;
    const bool gain = name.ends_with("weight");
    values[i] = shape.size() > 1 ? std::ldexp(static_cast<float>(k), -exponent)
                : gain           ? 1 + static_cast<float>(k >> 3) / 64
                                 : static_cast<float>(k) / 1024;
  }
  return values;
}

// A dimension of a public network, as more_runs.py configures its tiny form: text of SD 1.x and of SDXL, and SDXL's pooled text
// and sizes, are as wide as the golden models have them.
inline uint64_t tiny_dimension(uint64_t n) {
  return n == 768 ? 16 : n == 2048 ? 24 : n == 2816 ? 64 : n % 20 == 0 ? n / 20 : n;
}

// A recorded run, the golden model whose other parts it has, and the header of its UNet (tests/loader/facts.h).
struct Distilled {
  const char *run, *base, *header;
};
inline void PrintTo(const Distilled& net, std::ostream* to) {
  *to << net.run;
}
inline constexpr Distilled kDistilled[] = {{"bk-sdm-base/txt2img", "sd1", "bk-sdm-base-unet-f32"},
                                           {"bk-sdm-small/txt2img", "sd1", "bk-sdm-small-unet-f32"},
                                           {"bk-sdm-tiny/txt2img", "sd1", "bk-sdm-tiny-unet-f32"},
                                           {"ssd-1b/txt2img", "sdxl", "ssd-1b-unet-f16"},
                                           {"segmind-vega/txt2img", "sdxl", "segmind-vega-unet-f16"}};

// Writes FOLDER/model, as diffusers keeps models.
inline std::filesystem::path write_distilled(const std::filesystem::path& folder, const Distilled& net) {
  std::filesystem::path model = folder / "model";
  const std::string base = net.base;
  convert_model(open_model(golden_model(base + ".safetensors")), {.layout = Conversion::Layout::folder}, model);
  std::filesystem::remove_all(model / "unet");
  std::filesystem::create_directory(model / "unet");
  std::ifstream run(recorded_run(net.run).string() + ".json");
  std::ofstream(model / "unet/config.json") << nlohmann::json::parse(run).at("unet");
  std::deque<std::vector<float>> values;
  std::vector<TensorData> tensors;
  const nlohmann::json fact = header_fact(net.header);
  for (const auto& [name, tensor] : fact.at("tensors").items()) {
    std::vector<uint64_t> shape;
    for (const auto& n : tensor[1]) shape.push_back(tiny_dimension(n));
    values.push_back(named_weight(name, shape));
    tensors.push_back({.name = name, .type = FileType::f32, .shape = shape, .bytes = std::as_bytes(std::span(values.back()))});
  }
  write_safetensors(model / "unet/diffusion_pytorch_model.safetensors", std::move(tensors), {}, Exists::refuse);
  return model;
}

}  // namespace cudream
