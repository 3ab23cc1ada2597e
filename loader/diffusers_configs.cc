// One function a part.
#include "loader/diffusers_configs.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cudream {
namespace {

using nlohmann::json;

// 0.18215 in place of the double nearest to 0.18215f.
double plain(float value) {
  return std::stod(fmt::format("{}", value));
}

const char* name_of(Prediction prediction) {
  if (prediction == Prediction::v) return "v_prediction";
  return prediction == Prediction::sample ? "sample" : "epsilon";
}

std::vector<std::string> block_types(const std::vector<std::vector<int>>& depths, const char* with, const char* without) {
  std::vector<std::string> types;
  types.reserve(depths.size());
  for (const std::vector<int>& level : depths) types.emplace_back(level.front() > 0 ? with : without);
  return types;
}

// `matrices`: the projections around transformers are linear layers, not convolutions.
json unet_config(const UNetSpec& spec, int64_t sample_size, bool matrices) {
  std::vector<int> depths;
  for (const std::vector<int>& level : spec.down_depth) depths.push_back(std::max(1, level.front()));
  if (spec.down_depth.back().front() == 0) depths.back() = std::max(1, spec.mid_depth);  // the middle follows the last level
  auto up = block_types(spec.up_depth, "CrossAttnUpBlock2D", "UpBlock2D");
  std::ranges::reverse(up);
  json config{{"_class_name", "UNet2DConditionModel"},
              {"act_fn", "silu"},
              {"attention_head_dim", spec.heads},  // the number of heads, whatever its name says
              {"block_out_channels", spec.channels},
              {"cross_attention_dim", spec.context},
              {"down_block_types", block_types(spec.down_depth, "CrossAttnDownBlock2D", "DownBlock2D")},
              {"flip_sin_to_cos", spec.flip_sin_to_cos},
              {"freq_shift", plain(spec.freq_shift)},
              {"in_channels", spec.in_channels},
              {"layers_per_block", spec.down_depth.front().size()},
              {"mid_block_type", spec.mid_resnets == 0 ? json() : json("UNetMidBlock2DCrossAttn")},
              {"norm_eps", plain(spec.eps)},
              {"norm_num_groups", spec.groups},
              {"out_channels", spec.out_channels},
              {"sample_size", sample_size},
              {"transformer_layers_per_block", depths},
              {"up_block_types", up},
              {"use_linear_projection", matrices}};
  if (spec.guidance_embedding > 0) config["time_cond_proj_dim"] = spec.guidance_embedding;
  if (spec.pooled_embedding == 0) return config;
  config["addition_embed_type"] = "text_time";
  config["addition_time_embed_dim"] = spec.time_id_width;
  config["projection_class_embeddings_input_dim"] = spec.pooled_embedding;
  return config;
}

json tiny_vae_config(const VaeSpec& spec) {
  std::vector<int> down(spec.channels.size(), spec.layers), up = down;
  down.front() = up.back() = 1;
  return {{"_class_name", "AutoencoderTiny"},
          {"act_fn", "relu"},
          {"decoder_block_out_channels", spec.channels},
          {"encoder_block_out_channels", spec.channels},
          {"in_channels", spec.image_channels},
          {"latent_channels", spec.latent_channels},
          {"num_decoder_blocks", up},
          {"num_encoder_blocks", down},
          {"out_channels", spec.image_channels},
          {"scaling_factor", 1.0},
          {"upsampling_scaling_factor", 2}};
}

json vae_config(const VaeSpec& spec, int64_t sample_size) {
  if (spec.tiny) return tiny_vae_config(spec);
  const size_t levels = spec.channels.size();
  return {{"_class_name", "AutoencoderKL"},
          {"act_fn", "silu"},
          {"block_out_channels", spec.channels},
          {"down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D")},
          {"in_channels", spec.image_channels},
          {"latent_channels", spec.latent_channels},
          {"layers_per_block", spec.layers},
          {"norm_num_groups", spec.groups},
          {"out_channels", spec.image_channels},
          {"sample_size", sample_size},
          {"scaling_factor", plain(spec.scaling_factor)},
          {"up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D")}};
}

json text_config(const TextEncoderSpec& spec) {
  return {{"architectures", json::array({spec.projection > 0 ? "CLIPTextModelWithProjection" : "CLIPTextModel"})},
          {"bos_token_id", 49406},
          {"eos_token_id", 49407},
          {"hidden_act", spec.act == Act::gelu ? "gelu" : "quick_gelu"},
          {"hidden_size", spec.width},
          {"intermediate_size", spec.intermediate},
          {"layer_norm_eps", plain(spec.eps)},
          {"max_position_embeddings", spec.positions},
          {"model_type", "clip_text_model"},
          {"num_attention_heads", spec.heads},
          {"num_hidden_layers", spec.layers},
          {"projection_dim", spec.projection > 0 ? spec.projection : spec.width},
          {"vocab_size", spec.vocabulary}};
}

json tokenizer_config(const TextEncoderSpec& spec) {
  return {{"bos_token", "<|startoftext|>"},     {"eos_token", "<|endoftext|>"},
          {"model_max_length", spec.positions}, {"pad_token", spec.pad_token == 0 ? "!" : "<|endoftext|>"},
          {"tokenizer_class", "CLIPTokenizer"}, {"unk_token", "<|endoftext|>"}};
}

std::string pipeline_of(const ModelSpec& spec) {
  const char* xl = spec.unet->pooled_embedding > 0 ? "XL" : "";
  if (spec.family == Family::sdxl_refiner) return "StableDiffusionXLImg2ImgPipeline";
  if (spec.task == Task::inpaint) return fmt::format("StableDiffusion{}InpaintPipeline", xl);
  if (spec.task == Task::instruct) return fmt::format("StableDiffusion{}InstructPix2PixPipeline", xl);
  if (spec.unet->guidance_embedding > 0) return "LatentConsistencyModelPipeline";
  return fmt::format("StableDiffusion{}Pipeline", xl);
}

json scheduler_config(const NoiseSpec& spec) {
  return {{"_class_name", "DDIMScheduler"},
          {"beta_end", spec.beta_end},
          {"beta_schedule", spec.beta_schedule},
          {"beta_start", spec.beta_start},
          {"clip_sample", false},
          {"num_train_timesteps", spec.train_steps},
          {"rescale_betas_zero_snr", spec.zero_terminal_snr},
          {"set_alpha_to_one", spec.set_alpha_to_one},
          {"steps_offset", spec.steps_offset}};
}

}  // namespace

Configs diffusers_configs(const Model& model, std::optional<Prediction> prediction) {
  ModelSpec spec = model.spec();
  if (spec.family == Family::sd2 && prediction && !spec.prediction_known)
    spec.native_size = *prediction == Prediction::v ? 768 : 512;
  const int64_t latent = spec.native_size / (spec.vae ? spec.vae->factor() : 8);
  std::map<std::string, json> all;
  if (spec.unet) {
    const auto projection =
        std::ranges::find_if(model.names().weights, [](const auto& w) { return w.first.ends_with(".proj_in.weight"); });
    const bool matrices = projection != model.names().weights.end() && model.names().shape(projection->second).size() == 2;
    all["unet"] = unet_config(*spec.unet, latent, matrices);
    all["scheduler"] = scheduler_config(spec.noise);
  }
  if (spec.vae) all["vae"] = vae_config(*spec.vae, spec.native_size);
  for (const TextEncoderSpec& encoder : spec.text_encoders) {
    const char* number = encoder.projection > 0 ? "_2" : "";
    all[fmt::format("text_encoder{}", number)] = text_config(encoder);
    all[fmt::format("tokenizer{}", number)] = tokenizer_config(encoder);
  }
  Configs texts;
  for (auto& [part, config] : all) {
    if (const auto own = model.config_texts().find(part); own != model.config_texts().end()) config = json::parse(own->second);
    if (part == "scheduler" && prediction) config["prediction_type"] = name_of(*prediction);
    texts[part] = config.dump();
  }
  return texts;
}

std::string model_index(const ModelSpec& spec) {
  const bool xl = spec.unet->pooled_embedding > 0;
  json index{{"_class_name", pipeline_of(spec)},
             {"scheduler", {"diffusers", "DDIMScheduler"}},
             {"unet", {"diffusers", "UNet2DConditionModel"}},
             {"vae", {"diffusers", "AutoencoderKL"}}};
  const json none = {nullptr, nullptr};
  for (const char* part : {"feature_extractor", "image_encoder", "text_encoder", "tokenizer"}) index[part] = none;
  if (!xl) index["safety_checker"] = none, index["requires_safety_checker"] = false;
  if (xl) index["text_encoder_2"] = index["tokenizer_2"] = none;
  if (spec.family == Family::sdxl_refiner) index["requires_aesthetics_score"] = true;
  if (xl) index["force_zeros_for_empty_prompt"] = spec.zeros_for_empty_negative;
  for (const TextEncoderSpec& encoder : spec.text_encoders) {
    const bool second = encoder.projection > 0;
    index[second ? "text_encoder_2" : "text_encoder"] = {"transformers",
                                                         second ? "CLIPTextModelWithProjection" : "CLIPTextModel"};
    index[second ? "tokenizer_2" : "tokenizer"] = {"transformers", "CLIPTokenizer"};
  }
  return index.dump(2) + "\n";
}

}  // namespace cudream
