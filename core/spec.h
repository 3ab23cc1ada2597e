// What a model is: the numbers a network is built from and the facts a job needs. Pure data: the loader finds it out,
// networks are constructed from it, the runtime plans with it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/types.h"

namespace cudream {

enum class Family { sd1, sd2, sdxl, sdxl_refiner, other };
enum class Task { generate, inpaint, instruct };  // by the UNet's input channels: 4, 9, 8
enum class Prediction { epsilon, v, sample };     // what the UNet's output means

// A CLIP text encoder (Radford et al. 2021; OpenCLIP's has the same structure).
struct TextEncoderSpec {
  int64_t vocabulary = 49408, positions = 77, width = 768, intermediate = 3072;
  int layers = 12, heads = 12;
  Act act = Act::quick_gelu;
  float eps = 1e-5f;
  int64_t projection = 0;  // width of the pooled projection; 0: none
  int pad_token = 49407;
  // What a model reads of it: the state before the last `skip` layers, through the final LayerNorm or not.
  int skip = 0;
  bool final_norm = true;
  bool operator==(const TextEncoderSpec&) const = default;
};

// A UNet2DConditionModel. Level 0 is the finest. All vectors have one entry per level.
struct UNetSpec {
  int64_t in_channels = 4, out_channels = 4, context = 768;
  std::vector<int64_t> channels = {320, 640, 1280, 1280};
  // An entry per residual block: the transformer blocks of the attention after it. All of a level are 0 when it has none.
  // An up level has one residual block more than the down level of its size. Both lists begin at the finest level.
  std::vector<std::vector<int>> down_depth = {{1, 1}, {1, 1}, {1, 1}, {0, 0}};
  std::vector<std::vector<int>> up_depth = {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}};
  std::vector<int> heads = {8, 8, 8, 8};
  int mid_resnets = 2;  // residual blocks of the middle; networks with blocks missing have one, or none
  int mid_depth = 1;    // transformer blocks of the middle attention; 0: it has none
  int groups = 32;      // of every GroupNorm
  float eps = 1e-5f;    // of the residual blocks' norms
  bool flip_sin_to_cos = true;
  float freq_shift = 0;
  int64_t guidance_embedding = 0;  // time_cond_proj_dim of LCM networks; 0: none
  int64_t pooled_embedding = 0;    // input width of SDXL's add_embedding: pooled text, then embedded sizes; 0: none
  int64_t time_id_width = 0;       // addition_time_embed_dim: numbers that one size becomes
  // How many numbers of sizes it reads beside a pooled text of this width: 6 in SDXL's base, 5 in its refiner.
  int64_t size_count(int64_t pooled) const { return pooled_embedding == 0 ? 0 : (pooled_embedding - pooled) / time_id_width; }
  bool operator==(const UNetSpec&) const = default;
};

// A ControlNet ("Adding Conditional Control to Text-to-Image Diffusion Models", Zhang et al. 2023): the first half of a UNet.
struct ControlNetSpec {
  UNetSpec encoder;                                        // its up_depth is empty
  std::vector<int64_t> hint_channels = {16, 32, 96, 256};  // of the convolutions that read the picture, each half the size
  bool operator==(const ControlNetSpec&) const = default;
};

// An AutoencoderKL, or a tiny autoencoder (TAESD). Level 0 is the finest.
struct VaeSpec {
  int64_t image_channels = 3, latent_channels = 4;
  std::vector<int64_t> channels = {128, 256, 512, 512};  // tiny: all alike
  int layers = 2;  // residual blocks of an encoder level; a decoder level has one more. Tiny: of both, but one at the finest
  int groups = 32;
  float scaling_factor = 0.18215f;      // of the latents that the UNet reads; the same whichever autoencoder makes them
  bool tiny = false;                    // groups are not used then
  bool encoder = true, decoder = true;  // which halves there are: files of tiny ones may hold one
  // What the encoder says of a latent pixel: means and log variances; a tiny one gives the latent itself.
  int64_t encoded_channels() const { return tiny ? latent_channels : 2 * latent_channels; }
  int factor() const { return 1 << (static_cast<int>(channels.size()) - 1); }  // pixels per latent, along one side
  bool operator==(const VaeSpec&) const = default;
};

// The noise schedule a model was trained with ("High-Resolution Image Synthesis with Latent Diffusion Models",
// Rombach et al. 2022: scaled linear, 0.00085 to 0.012, 1000 steps).
struct NoiseSpec {
  int train_steps = 1000;
  double beta_start = 0.00085, beta_end = 0.012;
  std::string beta_schedule = "scaled_linear";  // or "linear"
  Prediction prediction = Prediction::epsilon;
  bool zero_terminal_snr = false;
  bool set_alpha_to_one = false;
  int steps_offset = 1;
  bool operator==(const NoiseSpec&) const = default;
};

struct ModelSpec {
  Family family = Family::other;
  Task task = Task::generate;
  NoiseSpec noise;
  bool prediction_known = true;           // false: noise.prediction is a guess, which the network's output must confirm
  bool zeros_for_empty_negative = false;  // an empty negative prompt reads as zeros, not as the states of no words
  std::vector<TextEncoderSpec> text_encoders;
  std::optional<UNetSpec> unet;
  std::optional<VaeSpec> vae;
  std::optional<ControlNetSpec> controlnet;  // of a file that is one
  int64_t native_size = 512;                 // pixels along one side of the pictures it was trained on
  std::vector<std::string> assumed;  // what the file did not say and was assumed, for people: "prediction type: epsilon (...)"
};

}  // namespace cudream
