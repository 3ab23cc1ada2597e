// The networks of a loaded model once more, in float32: for the stages whose values overflow in a shorter type.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "loader/model.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "runtime/conditioning.h"
#include "runtime/controls.h"
#include "runtime/predictor.h"

namespace cudream {

// A call of the predictor: what it reads beside the latent, of one picture or of all of a pass. The pictures for its ControlNets
// are [H,W,3] in [0,1].
struct FloatStep {
  const TextStates& states;
  std::span<const float> sizes;
  std::span<const std::vector<float>> controls;
  size_t call, calls;  // which one it is, and of how many
  const Level& level;
};

// Costs nothing until a stage is asked for: then the device is opened a second time, and the weights of the one network are
// loaded, with the LoRAs that act, and kept for the next time. Everything goes in and out through the host. All calls throw
// Error(out_of_memory) where the copy does not fit beside what is loaded.
class FloatCopy {
 public:
  // `original`: of the networks that this is a copy of; all must outlive it.
  FloatCopy(const Ops& original, const Model& model, const ModelSpec& spec, const WeightChanges& changes,
            const std::vector<ControlUse>& control_uses)
      : original_(original), model_(model), spec_(spec), changes_(changes), control_uses_(control_uses) {}

  // The states of those texts, as TextReader gives them.
  TextStates text(const PromptChunks& prompts, std::span<const int> layers_left_out, const NewWords& new_words);
  // That call for one picture: x [1,h,w,C] of the shape `latent` -> the clean estimate. `extra`: the channels that follow the
  // latent's, or empty.
  std::vector<float> predict(const FloatStep& step, const Shape& latent, std::span<const float> x, std::span<const float> extra,
                             const Guidance& guidance, Prediction prediction);
  // The two halves of the autoencoder, for values of these shapes.
  std::vector<float> decode(std::span<const float> latent, const Shape& shape);
  std::vector<float> encode(std::span<const float> picture, const Shape& shape);

 private:
  WeightStore& store();  // a new one on the device, which is opened
  void load(WeightStore& store);
  void run(const std::function<void(Ops&)>& job);
  const Autoencoder& autoencoder();

  const Ops& original_;
  const Model& model_;
  const ModelSpec& spec_;
  const WeightChanges& changes_;
  const std::vector<ControlUse>& control_uses_;
  std::unique_ptr<Device> device_;
  std::optional<Ops> ops_;
  std::vector<std::unique_ptr<WeightStore>> stores_;  // one for each network
  std::vector<ClipTextEncoder> text_encoders_;
  std::optional<UNet> unet_;
  std::optional<Autoencoder> autoencoder_;
  Controls controls_;
};

}  // namespace cudream
