// The family, task and prediction of a model, and what it lacks.
#include "loader/identify.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "loader/fingerprints.h"
#include "loader/specs.h"

namespace cudream {
namespace {

Config config_of(const Configs& configs, const std::string& component) {
  const auto at = configs.find(component);
  return at == configs.end() ? Config() : Config(component, at->second);
}

// ---- Families -------------------------------------------------------------------------------------------------------

// By structure, since fine-tunes have any name: SD 1.x enters its attention through 1x1 convolutions, later ones through
// matrices; SDXL adds an embedding of sizes to the time. The refiner embeds five numbers beside the pooled text, the base six.
Family family_of(const Shapes& shapes, const NameTable& table, const std::string& network) {
  if (!table.has_part(network)) return Family::other;
  const std::string sizes = network + ".add_embedding.linear_1.weight";
  if (shapes.has(sizes))
    return table.has_part("text_encoder_2") && !table.has_part("text_encoder") ? Family::sdxl_refiner
           : shapes.dim(sizes, 1) == 2560                                      ? Family::sdxl_refiner
                                                                               : Family::sdxl;
  for (const std::string block : {"down_blocks.0", "down_blocks.1", "mid_block"})
    if (const size_t rank = shapes.rank(fmt::format("{}.{}.attentions.0.proj_in.weight", network, block)))
      return rank == 4 ? Family::sd1 : Family::sd2;
  return Family::other;
}

// Smaller networks trained to imitate a family's own: of its width, but with blocks missing.
bool is_distilled(Family family, const UNetSpec& u) {
  if (u.channels.empty() || u.channels[0] != 320) return false;
  using Depths = std::vector<std::vector<int>>;
  if (family == Family::sdxl) return u.down_depth != Depths{{0, 0}, {2, 2}, {10, 10}} || u.mid_depth != 10;
  const UNetSpec whole;
  return (family == Family::sd1 || family == Family::sd2) &&
         (u.down_depth != whole.down_depth || u.up_depth != whole.up_depth || u.mid_resnets != 2);
}

std::string family_name(Family family) {
  switch (family) {
    case Family::sd1: return "sd1";
    case Family::sd2: return "sd2";
    case Family::sdxl: return "sdxl";
    case Family::sdxl_refiner: return "sdxl-refiner";
    case Family::other: break;
  }
  return "unknown";
}

// ---- Parts and extra tensors ----------------------------------------------------------------------------------------

bool is_average(const NameTable& t) {
  return std::any_of(t.buffers.begin(), t.buffers.end(),
                     [&](const Source& s) { return t.stored(s).name.starts_with("model_ema.diffusion_model"); });
}

std::vector<std::string> parts_of(const NameTable& table) {
  std::vector<std::string> parts;
  for (const std::string_view part : {"unet", "text_encoder", "text_encoder_2", "vae"})
    if (table.has_part(part)) parts.emplace_back(part);
  if (is_average(table)) parts.emplace_back("unet_ema");
  for (const PlacedHeader& file : table.files)
    if (!file.part.empty() && std::find(parts.begin(), parts.end(), file.part) == parts.end()) parts.push_back(file.part);
  return parts;
}

std::vector<std::string_view> needed_parts(Family family) {
  if (family == Family::sdxl) return {"unet", "text_encoder", "text_encoder_2", "vae"};
  if (family == Family::sdxl_refiner) return {"unet", "text_encoder_2", "vae"};
  return {"unet", "text_encoder", "vae"};
}

// A place in a folder, or the first component of a name.
std::string group_of(const NameTable& table, const Source& s) {
  const std::string& place = table.files[s.file].part;
  const std::string& name = table.stored(s).name;
  return place.empty() ? name.substr(0, name.find('.')) : place;
}

// What no network uses: groups of more than a few tensors are counted, others named. Positions and logit scales are left
// out, which nearly every file has.
std::vector<std::string> extras_of(const NameTable& table) {
  constexpr size_t kNamed = 8;
  std::vector<std::string> extra;
  for (const Source& s : table.buffers) {
    const std::string& name = table.stored(s).name;
    const bool copy_of_weights = name.starts_with("model_ema.diffusion_model");
    if (!copy_of_weights && !name.ends_with("position_ids") && !name.ends_with("logit_scale")) extra.push_back(name);
  }
  std::map<std::string, std::vector<const TensorInfo*>> groups;
  for (const Source& s : table.unknown) groups[group_of(table, s)].push_back(&table.stored(s));
  for (const auto& [group, tensors] : groups) {
    if (tensors.size() > kNamed) {
      extra.push_back(fmt::format("{} ({} tensors)", printable(group), tensors.size()));
    } else {
      for (const TensorInfo* t : tensors) extra.push_back(fmt::format("{} [{}]", printable(t->name), fmt::join(t->shape, ",")));
    }
  }
  return extra;
}

// ---- What the networks are for --------------------------------------------------------------------------------------

bool has_buffer(const NameTable& t, std::string_view name) {
  return std::any_of(t.buffers.begin(), t.buffers.end(), [&](const Source& s) { return t.stored(s).name == name; });
}

std::string_view name_of_prediction(Prediction p) {
  return p == Prediction::v ? "v" : p == Prediction::sample ? "sample" : "epsilon";
}

void identify_task(Identity& id) {
  switch (id.spec.unet->in_channels) {
    case 4: id.spec.task = Task::generate, id.task = id.spec.family == Family::sdxl_refiner ? "img2img" : "txt2img"; break;
    case 9: id.spec.task = Task::inpaint, id.task = "inpaint"; break;
    case 8: id.spec.task = Task::instruct, id.task = "edit"; break;
    default:
      id.task = "unknown";
      id.obstacle =
          fmt::format("its UNet takes {} input channels, and 4 (pictures), 9 (inpainting) and 8 (instructions) are known",
                      id.spec.unet->in_channels);
  }
}

// In a single file, SD 2.1 of 768 (v) and of 512 pixels (epsilon) have the same header. A folder that leaves the type out means
// epsilon.
void identify_prediction(Identity& id, const NameTable& table, const Config& scheduler) {
  const bool marked_v = has_buffer(table, "v_pred");
  const bool in_folder = !table.files.empty() && !table.files.front().part.empty();
  const bool said = scheduler.text("prediction_type").has_value() || marked_v || in_folder;
  const bool unknowable = !said && id.spec.family == Family::sd2 && id.spec.task == Task::generate;
  id.spec.noise = noise_spec(scheduler, marked_v || unknowable ? Prediction::v : Prediction::epsilon);
  if (has_buffer(table, "ztsnr")) id.spec.noise.zero_terminal_snr = true;
  id.prediction = name_of_prediction(id.spec.noise.prediction);
  if (unknowable) id.prediction = "not in the header: the 768 file is v, the 512 file is epsilon";
  id.spec.prediction_known = !unknowable;
  if (!said && !unknowable)
    id.spec.assumed.push_back(fmt::format("prediction type: {}", name_of_prediction(id.spec.noise.prediction)));
}

int64_t native_size(const ModelSpec& spec, const Config& unet) {
  const int64_t factor = spec.vae ? spec.vae->factor() : 8;
  if (const auto latent = unet.integer("sample_size"); latent && *latent > 0 && *latent <= 4096) return *latent * factor;
  if (spec.family == Family::sdxl || spec.family == Family::sdxl_refiner) return 1024;
  return spec.family == Family::sd2 && spec.noise.prediction == Prediction::v ? 768 : 512;
}

// ComfyUI's scaled fp8 files multiply each matrix by a stored number: without it their weights are wrong.
bool has_scales(const NameTable& t) {
  return std::any_of(t.unknown.begin(), t.unknown.end(), [&](const Source& s) {
    const std::string& name = t.stored(s).name;
    return name.ends_with("scaled_fp8") || name.ends_with(".scale_weight") || name.ends_with(".weight_scale");
  });
}

// What the networks of this program cannot do, a sentence; empty: nothing.
std::string unsupported(const ModelSpec& spec, const NameTable& table) {
  if (spec.family == Family::other) return "its UNet has no text attention that is known here";
  if (has_scales(table)) return "its fp8 weights have scales of their own, which are not supported";
  return "";
}

void identify_unet(Identity& id, const NameTable& table, const Configs& configs) {
  const Shapes shapes(table);
  const Config unet = config_of(configs, "unet");
  id.verdict = Verdict::open;
  id.spec.unet = unet_spec(shapes, unet, id.spec.family, id.spec.assumed);
  const std::string irregular = irregularity(*id.spec.unet);
  id.family = family_name(id.spec.family) + (is_distilled(id.spec.family, *id.spec.unet) ? "-distilled" : "");
  id.obstacle = irregular.empty() ? unsupported(id.spec, table) : irregular;
  identify_task(id);
  identify_prediction(id, table, config_of(configs, "scheduler"));
  id.spec.zeros_for_empty_negative = id.spec.family == Family::sdxl;
  for (const std::string_view part : needed_parts(id.spec.family))
    if (!table.has_part(part)) id.missing.emplace_back(part);
  if (id.spec.family == Family::sdxl_refiner) id.missing.emplace_back("text_encoder (CLIP-L): the refiner has none");
  id.spec.native_size = native_size(id.spec, unet);
}

void identify_controlnet(Identity& id) {
  id.verdict = Verdict::adapter;
  id.task = "controlnet";
  id.family = family_name(id.spec.family);
  if (id.spec.family == Family::other) id.obstacle = "it has no text attention that is known here";
}

// TAESD's own files hold one half each.
void identify_tiny(Identity& id, const VaeSpec& vae) {
  id.family = "taesd";
  if (vae.encoder && vae.decoder) return;
  id.parts = {vae.decoder ? "vae decoder" : "vae encoder"};
  id.missing = {vae.decoder ? "vae encoder" : "vae decoder"};
}

void identify_component(Identity& id, const NameTable& table) {
  if (id.parts.empty()) {
    id.obstacle = "none of its tensors has a name that is known here";
    return;
  }
  id.verdict = Verdict::part;
  id.task = id.spec.vae ? "vae" : "text_encoder";
  id.family = id.spec.vae ? fmt::format("vae-{}ch", id.spec.vae->latent_channels) : "clip";
  if (id.spec.vae && id.spec.vae->tiny) identify_tiny(id, *id.spec.vae);
  id.obstacle = "it is a part of a model, not a whole one";
  if (has_scales(table)) id.obstacle = "its fp8 weights have scales of their own, which are not supported";
}

}  // namespace

std::string_view name_of(Verdict v) {
  switch (v) {
    case Verdict::open: return "open";
    case Verdict::part: return "part";
    case Verdict::adapter: return "adapter";
    case Verdict::refuse: break;
  }
  return "refuse";
}

Identity identify(const NameTable& table, const Configs& configs) {
  if (std::optional<Identity> other = recognise_other(table)) {
    if (table.has_part("unet") && other->verdict == Verdict::refuse) other->extra = extras_of(table);
    return *other;
  }
  Identity id;
  const Shapes shapes(table);
  id.parts = parts_of(table);
  id.extra = extras_of(table);
  const std::string network = table.has_part("unet") ? "unet" : "controlnet";
  id.spec.family = family_of(shapes, table, network);
  if (table.has_part("controlnet"))
    id.spec.controlnet = controlnet_spec(shapes, config_of(configs, "controlnet"), id.spec.family, id.spec.assumed);
  if (table.has_part("vae")) id.spec.vae = vae_spec(shapes, config_of(configs, "vae"), id.spec.family, id.spec.assumed);
  for (const std::string part : {"text_encoder", "text_encoder_2"}) {
    if (!table.has_part(part)) continue;
    const std::string tokenizer = part == "text_encoder" ? "tokenizer" : "tokenizer_2";
    id.spec.text_encoders.push_back(text_encoder_spec(shapes, part, config_of(configs, part), config_of(configs, tokenizer),
                                                      id.spec.family, id.spec.assumed));
  }
  if (table.has_part("unet")) {
    identify_unet(id, table, configs);
  } else if (id.spec.controlnet) {
    identify_controlnet(id);
  } else {
    identify_component(id, table);
  }
  return id;
}

}  // namespace cudream
