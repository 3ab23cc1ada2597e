// The predictor: from a noisy latent to an estimate of the clean one, with classifier-free guidance.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "nets/unet.h"
#include "runtime/conditioning.h"
#include "runtime/controls.h"
#include "runtime/samplers.h"

namespace cudream {

// One branch of guidance: a row of the network's batch, and its weight in the guided sum.
struct Branch {
  double weight = 1;
  size_t text = 0;         // which of the prompts it reads
  bool sees_extra = true;  // or zeros in place of the extra channels
  bool operator==(const Branch&) const = default;
};

struct Guidance {
  std::vector<Branch> branches;    // in the order the reference gives them to the network
  size_t prompt = 0;               // the branch that the (first) positive prompt has: what rescaling aims at
  std::optional<size_t> negative;  // which text is the negative prompt; none where nobody reads one
  double rescale = 0;              // "Common Diffusion Noise Schedules and Sample Steps Are Flawed", Lin et al. 2023, section 3.4
  double told = 0;                 // the scale that a network with a guidance embedding reads, and then does all by itself (LCM)
  bool operator==(const Guidance&) const = default;
};

// negative + scale * (positive - negative) ("Classifier-Free Diffusion Guidance", Ho and Salimans 2022, equation 6, with
// w = scale - 1): texts are the negative prompt, then the positive one. At 1 and below the positive prompt alone, as text 0.
// Several prompts: negative + scale * sum of weights[i] * (prompt i - negative) ("Compositional Visual Generation with
// Composable Diffusion Models", Liu et al. 2022, equation 11), scale 1 at the least. `embedded`: one branch that is told the
// scale. Throws Error(unsupported) for several prompts then, and Error(usage) for more than kMostPrompts.
constexpr size_t kMostPrompts = 6;
Guidance text_guidance(double scale, double rescale, bool embedded, std::span<const double> weights);
// none + image_scale * (image - none) + scale * (prompt and image - image) ("InstructPix2Pix", Brooks et al. 2023, equation 3):
// texts are the prompt, then the negative one; the picture is in the extra channels. At 1 and below one branch that sees both.
Guidance edit_guidance(double scale, double image_scale);

// A ControlNet in a run: seen [1,h,w,C] is what it sees of its picture.
struct ControlInput {
  Control control;
  View seen;
};

class Predictor {
 public:
  // Reads the prompts and embeds the timesteps, once. Each of `prompts` has one row a text: those of the first picture of
  // `latent` [batch,h,w,C], then those of the next. `sizes`: the numbers that SDXL reads beside the pooled text, [texts, count].
  // `extra` f32 [batch,h,w,E] are channels that follow the latent's, unscaled, at every step; it may be empty. `guidance`: one a
  // picture, which differ in weights alone. `timesteps`, in rising order, are those of all levels to come.
  Predictor(Ops&, const UNet&, std::span<const ControlInput> controls, std::span<const TextStates> prompts,
            std::span<const float> sizes, const Shape& latent, View extra, std::vector<Guidance> guidance, Prediction,
            std::span<const float> timesteps);

  void use_prompt(size_t i) { prompt_ = &prompts_[i]; }  // from the next call on; the first at the beginning
  // From the next call on, those act whose window holds this step; at the beginning all do.
  void use_controls(size_t step, size_t steps);
  // x f32 [batch,h,w,C] at `level` -> the clean estimate, f32, of the same shape.
  Tensor operator()(View x, const Level& level) const;
  // Called with the network's raw outputs, f32 [branches*batch,h,w,C].
  void set_observer(std::function<void(View outputs)> observer) { observer_ = std::move(observer); }

 private:
  template <typename T>
  std::vector<T> branch_rows(std::span<const T> of_texts, size_t texts) const;
  void show_extra(View extra);
  const std::vector<Branch>& branches() const { return guidance_.front().branches; }
  Tensor clean(View x, View outputs, double of_x, double of_outputs) const;
  Tensor rescaled(View outputs) const;
  void choose_time(const Level& level) const;
  std::string stage_key() const;
  Tensor predict() const;  // the body of the stage

  Ops& ops_;
  const UNet& unet_;
  // What a network makes of one prompt.
  struct Read {
    PromptState state;
    Tensor all_times;  // for each timestep a row, or one for each row of the inputs
  };
  // What all networks make of it.
  struct Prompt {
    int64_t tokens = 0;
    Read unet;
    std::vector<Read> controls;
  };
  struct Guide {
    Control control;
    Tensor seen, times;  // for each row of the inputs; as times_
    bool acts = true;
  };
  Prompt read(const TextStates& states, std::span<const float> sizes) const;
  std::vector<Guide> controls_;
  std::vector<Prompt> prompts_;
  const Prompt* prompt_ = nullptr;
  int64_t batch_;
  std::span<const float> timesteps_;
  // What the recorded step reads and writes, at one address for all steps. Inputs and times are in the compute type.
  Tensor inputs_, times_, outputs_;
  std::vector<Guidance> guidance_;  // of each picture
  Prediction prediction_;
  std::function<void(View)> observer_;
};

}  // namespace cudream
