// Specs from shapes and configurations.
#include "loader/specs.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

constexpr int64_t kPadEnd = 49407, kPadExclamation = 0;  // "<|endoftext|>" and "!" in CLIP's vocabulary

std::string indexed(std::string_view prefix, int i, std::string_view suffix) {
  return fmt::format("{}.{}.{}", prefix, i, suffix);
}

int positive(std::optional<int64_t> value, int64_t otherwise, std::string_view what) {
  const int64_t n = value.value_or(otherwise);
  if (n < 1 || n > 1'000'000) throw fail(Code::bad_file, "a configuration says {} {}", n, what);
  return static_cast<int>(n);
}

void check_divides(int64_t channels, int64_t by, std::string_view part, std::string_view what) {
  if (channels % by != 0)
    throw fail(Code::bad_file,
               "the {} has {} channels, which {} {} do not divide. Its file says nothing of them; put the right number into "
               "NAME.config.json beside it.",
               part, channels, by, what);
}

bool has_wide_heads(Family family) {
  return family == Family::sd2 || family == Family::sdxl || family == Family::sdxl_refiner;
}

// Heads of every level. In these configurations attention_head_dim is the number of heads, whatever its name says.
std::vector<int> heads_of(const Config& config, std::string_view network, Family family, const std::vector<int64_t>& channels,
                          std::vector<std::string>& assumed) {
  std::vector<int64_t> given =
      config.integers("num_attention_heads").value_or(config.integers("attention_head_dim").value_or(std::vector<int64_t>{}));
  if (given.size() == 1) given.assign(channels.size(), given[0]);
  std::vector<int> heads;
  for (size_t i = 0; i < channels.size(); i++) {
    const int64_t usual = has_wide_heads(family) ? std::max<int64_t>(1, channels[i] / 64) : 8;
    heads.push_back(positive(i < given.size() ? std::optional(given[i]) : std::nullopt, usual, "attention heads"));
  }
  if (given.size() < channels.size())
    assumed.push_back(fmt::format("attention heads of the {}: {}", network, fmt::join(heads, ", ")));
  return heads;
}

// The transformer blocks after each residual block of a level. `place` ends with a dot.
std::vector<int> depths(const Shapes& shapes, const std::string& place) {
  std::vector<int> found;
  const int resnets = shapes.count(place + "resnets", "conv1.weight");
  found.reserve(static_cast<size_t>(resnets));
  for (int j = 0; j < resnets; j++)
    found.push_back(shapes.count(fmt::format("{}attentions.{}.transformer_blocks", place, j), "norm1.weight"));
  return found;
}

int groups_of(const Config& config, std::string_view part, std::vector<std::string>& assumed) {
  const auto given = config.integer("norm_num_groups");
  if (!given) assumed.push_back(fmt::format("groups of the {}'s norms: 32", part));
  return positive(given, 32, "groups");
}

// The first half of a UNet, `part`, and what is the same in both; up_depth is empty.
UNetSpec encoder_spec(const Shapes& shapes, const std::string& part, const Config& config, Family family,
                      std::vector<std::string>& assumed) {
  UNetSpec spec{.context = 0, .channels = {}, .down_depth = {}, .up_depth = {}};
  const std::string_view network = part == "unet" ? "UNet" : "ControlNet";
  spec.in_channels = shapes.dim(part + ".conv_in.weight", 1);
  const int levels = shapes.count(part + ".down_blocks", "resnets.0.conv1.weight");
  for (int i = 0; i < levels; i++) {
    spec.channels.push_back(shapes.dim(indexed(part + ".down_blocks", i, "resnets.0.conv1.weight"), 0));
    spec.down_depth.push_back(depths(shapes, indexed(part + ".down_blocks", i, "")));
    const std::string reads = indexed(part + ".down_blocks", i, "attentions.0.transformer_blocks.0.attn2.to_k.weight");
    if (shapes.has(reads)) spec.context = shapes.dim(reads, 1);
  }
  if (levels == 0) throw fail(Code::bad_file, "the {} has no down blocks, so it is not complete", network);
  spec.mid_resnets = shapes.count(part + ".mid_block.resnets", "conv1.weight");
  spec.mid_depth = shapes.count(part + ".mid_block.attentions.0.transformer_blocks", "norm1.weight");
  if (shapes.has(part + ".time_embedding.cond_proj.weight"))
    spec.guidance_embedding = shapes.dim(part + ".time_embedding.cond_proj.weight", 1);
  if (shapes.has(part + ".add_embedding.linear_1.weight")) {
    spec.pooled_embedding = shapes.dim(part + ".add_embedding.linear_1.weight", 1);
    spec.time_id_width = positive(config.integer("addition_time_embed_dim"), 256, "numbers a size is embedded in");
  }
  spec.heads = heads_of(config, network, family, spec.channels, assumed);
  spec.groups = groups_of(config, network, assumed);
  spec.eps = static_cast<float>(config.number("norm_eps").value_or(spec.eps));
  spec.flip_sin_to_cos = config.flag("flip_sin_to_cos").value_or(spec.flip_sin_to_cos);
  spec.freq_shift = static_cast<float>(config.number("freq_shift").value_or(spec.freq_shift));
  for (size_t i = 0; i < spec.channels.size(); i++) {
    check_divides(spec.channels[i], spec.groups, network, "groups");
    if (spec.down_depth[i].front() > 0) check_divides(spec.channels[i], spec.heads[i], network, "heads");
  }
  return spec;
}

}  // namespace

int64_t Shapes::dim(const std::string& name, size_t axis) const {
  const auto at = table_.weights.find(name);
  if (at == table_.weights.end()) throw fail(Code::bad_file, "the tensor {} is missing, so the model cannot be used", name);
  const std::vector<uint64_t> shape = table_.shape(at->second);
  if (axis >= shape.size() || shape[axis] == 0 || shape[axis] > 1'000'000)
    throw fail(Code::bad_file, "the tensor {} has the shape [{}], which it cannot have", name, fmt::join(shape, ","));
  return static_cast<int64_t>(shape[axis]);
}

size_t Shapes::rank(const std::string& name) const {
  const auto at = table_.weights.find(name);
  return at == table_.weights.end() ? 0 : table_.stored(at->second).shape.size();
}

int Shapes::count(const std::string& prefix, const std::string& suffix) const {
  int n = 0;
  while (has(indexed(prefix, n, suffix))) n++;
  return n;
}

UNetSpec unet_spec(const Shapes& shapes, const Config& config, Family family, std::vector<std::string>& assumed) {
  UNetSpec spec = encoder_spec(shapes, "unet", config, family, assumed);
  spec.out_channels = shapes.dim("unet.conv_out.weight", 0);
  for (int i = static_cast<int>(spec.channels.size()) - 1; i >= 0; i--)
    spec.up_depth.push_back(depths(shapes, indexed("unet.up_blocks", i, "")));
  return spec;
}

ControlNetSpec controlnet_spec(const Shapes& shapes, const Config& config, Family family, std::vector<std::string>& assumed) {
  if (config.flag("global_pool_conditions").value_or(false))
    throw fail(Code::unsupported, "the ControlNet averages its picture (\"shuffle\"), which is not supported");
  if (config.text("controlnet_conditioning_channel_order").value_or("rgb") != "rgb")
    throw fail(Code::unsupported, "the ControlNet reads its picture in another order than RGB, which is not supported");
  const std::string hint = "controlnet.controlnet_cond_embedding.";
  ControlNetSpec spec{.encoder = encoder_spec(shapes, "controlnet", config, family, assumed), .hint_channels = {}};
  spec.hint_channels.push_back(shapes.dim(hint + "conv_in.weight", 0));
  for (int i = 1; i < shapes.count(hint + "blocks", "weight"); i += 2)
    spec.hint_channels.push_back(shapes.dim(indexed(hint + "blocks", i, "weight"), 0));
  return spec;
}

std::string irregularity(const UNetSpec& spec) {
  if (spec.mid_resnets > 2 || (spec.mid_depth > 0 && spec.mid_resnets == 0)) return "its UNet's middle block is not known here";
  for (size_t level = 0; level < spec.channels.size(); level++) {
    if (spec.up_depth[level].size() != spec.down_depth[level].size() + 1)
      return "its UNet's ways down and up have blocks that do not match";
    for (const auto& depth : {spec.down_depth[level], spec.up_depth[level]})
      if (const auto without = std::count(depth.begin(), depth.end(), 0); without != 0 && without != std::ssize(depth))
        return "its UNet has levels with attention after some blocks only";
  }
  return "";
}

namespace {

// What a latent of the family is multiplied by when nothing else is said.
float latent_scale(Family family) {
  return family == Family::sdxl || family == Family::sdxl_refiner ? 0.13025f : 0.18215f;
}

// Its configuration says a factor of 1, for it reads and gives latents as the UNet has them: nets/tiny_vae.cc undoes the
// family's, so that latents mean the same with any autoencoder.
VaeSpec tiny_vae_spec(const Shapes& shapes, const Config& config, Family family) {
  constexpr int kMostLayers = 64;
  if (const std::string act = config.text("act_fn").value_or("relu"); act != "relu")
    throw fail(Code::unsupported, "the tiny autoencoder has the activation {}, which is not supported", printable(act));
  VaeSpec spec{.scaling_factor = latent_scale(family),
               .tiny = true,
               .encoder = shapes.has("vae.encoder.layers.0.weight"),
               .decoder = shapes.has("vae.decoder.layers.0.weight")};
  const std::string half = spec.decoder ? "vae.decoder.layers" : "vae.encoder.layers";
  int last = 0, levels = 1;  // one more than there are changes of size, whose convolutions have no bias
  for (int i = 0; i < kMostLayers; i++) {
    if (!shapes.has(indexed(half, i, "weight"))) continue;
    last = i;
    if (!shapes.has(indexed(half, i, "bias"))) levels++;
  }
  if (levels > 8) throw fail(Code::bad_file, "the tiny autoencoder has {} levels, which it cannot have", levels);
  const std::string in = indexed(half, 0, "weight"), out = indexed(half, last, "weight");
  spec.latent_channels = spec.decoder ? shapes.dim(in, 1) : shapes.dim(out, 0);
  spec.image_channels = spec.decoder ? shapes.dim(out, 0) : shapes.dim(in, 1);
  spec.channels.assign(static_cast<size_t>(levels), shapes.dim(in, 0));
  // The coarsest level of a decoder comes first; that of an encoder follows the one block of the finest and a change of size.
  const int first = spec.decoder ? 2 : 3;
  spec.layers = 0;
  while (shapes.has(indexed(half, first + spec.layers, "conv.0.weight"))) spec.layers++;
  return spec;
}

}  // namespace

VaeSpec vae_spec(const Shapes& shapes, const Config& config, Family family, std::vector<std::string>& assumed) {
  if (shapes.has("vae.decoder.layers.0.weight") || shapes.has("vae.encoder.layers.0.weight"))
    return tiny_vae_spec(shapes, config, family);
  VaeSpec spec;
  spec.latent_channels = shapes.dim("vae.decoder.conv_in.weight", 1);
  spec.image_channels = shapes.dim("vae.decoder.conv_out.weight", 0);
  spec.channels.clear();
  const int levels = shapes.count("vae.decoder.up_blocks", "resnets.0.conv1.weight");
  for (int i = levels - 1; i >= 0; i--)
    spec.channels.push_back(shapes.dim(indexed("vae.decoder.up_blocks", i, "resnets.0.conv1.weight"), 0));
  if (levels == 0 || levels > 8) throw fail(Code::bad_file, "the VAE's decoder has {} levels, so it is not complete", levels);
  spec.layers = shapes.count("vae.decoder.up_blocks.0.resnets", "conv1.weight") - 1;
  spec.groups = groups_of(config, "VAE", assumed);
  for (const int64_t channels : spec.channels) check_divides(channels, spec.groups, "VAE", "groups");
  const auto scaling = config.number("scaling_factor");
  spec.scaling_factor = scaling ? static_cast<float>(*scaling) : latent_scale(family);
  if (config.empty()) assumed.push_back(fmt::format("scaling factor of the latents: {}", spec.scaling_factor));
  return spec;
}

TextEncoderSpec text_encoder_spec(const Shapes& shapes, const std::string& part, const Config& config, const Config& tokenizer,
                                  Family family, std::vector<std::string>& assumed) {
  const std::string model = part + ".text_model.";
  const bool open_clip = part == "text_encoder_2" || family == Family::sd2;
  TextEncoderSpec spec;
  spec.vocabulary = shapes.dim(model + "embeddings.token_embedding.weight", 0);
  spec.width = shapes.dim(model + "embeddings.token_embedding.weight", 1);
  spec.positions = shapes.dim(model + "embeddings.position_embedding.weight", 0);
  spec.intermediate = shapes.dim(model + "encoder.layers.0.mlp.fc1.weight", 0);
  const int stored = shapes.count(model + "encoder.layers", "layer_norm1.weight");
  // SD 2.x was trained on the last but one layer; files hold all 24, folders and some files only the 23 that are used.
  const int used = family == Family::sd2 && config.empty() ? std::min(stored, 23) : stored;
  spec.layers = std::min(positive(config.integer("num_hidden_layers"), used, "layers"), stored);
  spec.heads = positive(config.integer("num_attention_heads"), std::max<int64_t>(1, spec.width / 64), "attention heads");
  check_divides(spec.width, spec.heads, part, "heads");
  const std::string act = config.text("hidden_act").value_or(open_clip ? "gelu" : "quick_gelu");
  if (act != "gelu" && act != "quick_gelu")
    throw fail(Code::unsupported, "the {} has the activation {}, which is not supported", part, printable(act));
  spec.act = act == "gelu" ? Act::gelu : Act::quick_gelu;
  spec.eps = static_cast<float>(config.number("layer_norm_eps").value_or(spec.eps));
  // SDXL reads the last but one layer of both encoders, before the final norm ("SDXL", section 2.1 and its released code).
  if (family == Family::sdxl || family == Family::sdxl_refiner) spec.skip = 1, spec.final_norm = false;
  if (part == "text_encoder_2") spec.projection = shapes.dim(part + ".text_projection.weight", 0);
  // The encoder's own pad_token_id is wrong in most folders (1); the tokenizer's token is what texts were padded with.
  const std::string pad = tokenizer.token("pad_token").value_or(open_clip ? "!" : "<|endoftext|>");
  if (pad != "!" && pad != "<|endoftext|>")
    throw fail(Code::unsupported, "the {}'s tokenizer pads with \"{}\", which is not supported", part, printable(pad));
  spec.pad_token = static_cast<int>(pad == "!" ? kPadExclamation : kPadEnd);
  if (config.empty()) assumed.push_back(fmt::format("{}: {} heads, {}, padded with {}", part, spec.heads, act, pad));
  return spec;
}

NoiseSpec noise_spec(const Config& scheduler, Prediction prediction) {
  NoiseSpec spec;
  // A configuration of a scheduler class leaves out what equals the class's defaults, which are not Stable Diffusion's.
  if (scheduler.text("_class_name"))
    spec = {.beta_start = 0.0001, .beta_end = 0.02, .beta_schedule = "linear", .set_alpha_to_one = true, .steps_offset = 0};
  spec.prediction = prediction;
  spec.train_steps = positive(scheduler.integer("num_train_timesteps"), spec.train_steps, "training steps");
  spec.beta_start = scheduler.number("beta_start").value_or(spec.beta_start);
  spec.beta_end = scheduler.number("beta_end").value_or(spec.beta_end);
  spec.beta_schedule = scheduler.text("beta_schedule").value_or(spec.beta_schedule);
  spec.zero_terminal_snr = scheduler.flag("rescale_betas_zero_snr").value_or(false);
  spec.set_alpha_to_one = scheduler.flag("set_alpha_to_one").value_or(spec.set_alpha_to_one);
  spec.steps_offset =
      static_cast<int>(std::clamp<int64_t>(scheduler.integer("steps_offset").value_or(spec.steps_offset), 0, 1000));
  if (spec.beta_schedule != "scaled_linear" && spec.beta_schedule != "linear")
    throw fail(Code::unsupported, "the model's noise schedule \"{}\" is not supported; scaled_linear and linear are",
               printable(spec.beta_schedule));
  if (!(spec.beta_start > 0 && spec.beta_start <= spec.beta_end && spec.beta_end < 1))
    throw fail(Code::bad_file, "the scheduler's betas go from {} to {}; expected 0 < start <= end < 1", spec.beta_start,
               spec.beta_end);
  const auto type = scheduler.text("prediction_type");
  if (type) {
    if (*type == "epsilon")
      spec.prediction = Prediction::epsilon;
    else if (*type == "v_prediction")
      spec.prediction = Prediction::v;
    else if (*type == "sample")
      spec.prediction = Prediction::sample;
    else
      throw fail(Code::unsupported, "the model's prediction type \"{}\" is not supported", printable(*type));
  }
  return spec;
}

}  // namespace cudream
