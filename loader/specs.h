// The numbers a network is built from: read off shapes where they show, else from configurations, else the family's own.
#pragma once

#include "core/spec.h"
#include "loader/config.h"
#include "loader/names.h"

namespace cudream {

// The shapes of canonical tensors.
class Shapes {
 public:
  explicit Shapes(const NameTable& table) : table_(table) {}
  bool has(const std::string& name) const { return table_.weights.contains(name); }
  // One dimension. Throws Error(bad_file) when the tensor is missing or has too few dimensions.
  int64_t dim(const std::string& name, size_t axis) const;
  size_t rank(const std::string& name) const;
  // How many of prefix.0.suffix, prefix.1.suffix, ... there are.
  int count(const std::string& prefix, const std::string& suffix) const;

 private:
  const NameTable& table_;
};

// Each adds to `assumed` what neither shapes nor the configuration said. Throws Error(bad_file) on contradictions.
UNetSpec unet_spec(const Shapes&, const Config&, Family, std::vector<std::string>& assumed);
ControlNetSpec controlnet_spec(const Shapes&, const Config&, Family, std::vector<std::string>& assumed);
VaeSpec vae_spec(const Shapes&, const Config&, Family, std::vector<std::string>& assumed);
// `part`: "text_encoder" or "text_encoder_2".
TextEncoderSpec text_encoder_spec(const Shapes&, const std::string& part, const Config& encoder, const Config& tokenizer, Family,
                                  std::vector<std::string>& assumed);
// `prediction`: what the model predicts when the configuration does not say.
NoiseSpec noise_spec(const Config& scheduler, Prediction prediction);

// Why the UNet of this program cannot be built from a spec, a sentence; empty: it can.
std::string irregularity(const UNetSpec&);

}  // namespace cudream
