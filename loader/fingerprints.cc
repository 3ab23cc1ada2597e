// What gives away an adapter or a model of another kind: a name that only such files have. Names are those of the
// trainers: kohya sd-scripts ("lora_unet_..."), diffusers and PEFT ("lora_A"), LyCORIS ("hada", "lokr"), cloneofsimo/lora
// ("unet:0:up").
#include "loader/fingerprints.h"

#include <algorithm>
#include <functional>
#include <string_view>

namespace cudream {
namespace {

// All stored tensors of all files.
class Tensors {
 public:
  explicit Tensors(const NameTable& table) {
    for (const PlacedHeader& file : table.files)
      for (const TensorInfo& t : file.header->tensors) all_.push_back(&t);
  }

  size_t size() const { return all_.size(); }
  const TensorInfo* first(const std::function<bool(std::string_view)>& wanted) const {
    const auto at = std::find_if(all_.begin(), all_.end(), [&](const TensorInfo* t) { return wanted(t->name); });
    return at == all_.end() ? nullptr : *at;
  }
  const TensorInfo* containing(std::string_view text) const {
    return first([&](std::string_view name) { return name.find(text) != std::string_view::npos; });
  }
  const TensorInfo* named(std::string_view wanted) const {
    return first([&](std::string_view name) { return name == wanted; });
  }
  const TensorInfo* front() const { return all_.empty() ? nullptr : all_.front(); }
  const std::vector<const TensorInfo*>& all() const { return all_; }

 private:
  std::vector<const TensorInfo*> all_;
};

Identity adapter(std::string family, std::string task) {
  return {.verdict = Verdict::adapter, .family = std::move(family), .task = std::move(task)};
}

bool has(std::string_view name, std::string_view text) {
  return name.find(text) != std::string_view::npos;
}

// The family whose cross attention reads states of this width.
std::string family_of_context(uint64_t width) {
  switch (width) {
    case 768: return "sd1";
    case 1024: return "sd2";
    case 1280: return "sdxl-refiner";
    case 2048: return "sdxl";
    default: return "unknown";
  }
}
uint64_t last_of(const TensorInfo* t) {
  return t == nullptr || t->shape.empty() ? 0 : t->shape.back();
}

// The width a LoRA reads in cross attention: the last dimension of its "down" matrix of a key or value projection.
uint64_t lora_context(const Tensors& tensors) {
  return last_of(tensors.first([](std::string_view name) {
    const bool projection = has(name, "attn2") && (has(name, "to_k") || has(name, "to_v"));
    const bool down = has(name, "lora_down") || has(name, "lora_A") || has(name, "_lora.down") || has(name, "hada_w1_b");
    return projection && down;
  }));
}

// Which UNet a LoRA without a readable cross attention is for: only the finest level of SD 1.x and 2.x has attention.
std::string lora_family(const Tensors& tensors) {
  std::string by_width = family_of_context(lora_context(tensors));
  if (by_width != "unknown") return by_width;
  for (const std::string_view name : {"down_blocks_0_attentions", "down_blocks.0.attentions", "input_blocks_1_1", "unet:"})
    if (tensors.containing(name)) return "sd1";
  for (const std::string_view name : {"lora_te2_", "text_encoder_2.", "input_blocks_4_1", "down_blocks_1_attentions"})
    if (tensors.containing(name)) return "sdxl";
  return tensors.containing("text_model_encoder") ? "sd1" : "unknown";
}

// The rank of a trained 3x3 convolution; 0: none is trained.
uint64_t rank_of_convolutions(const Tensors& tensors) {
  for (const TensorInfo* t : tensors.all())
    if (has(t->name, "lora_down") && t->shape.size() == 4 && t->shape[2] == 3) return t->shape[0];
  return 0;
}
uint64_t rank_of_matrices(const Tensors& tensors) {
  for (const TensorInfo* t : tensors.all())
    if (has(t->name, "lora_down") && t->shape.size() == 2) return t->shape[0];
  return 0;
}

std::optional<Identity> recognise_lora(const Tensors& tensors) {
  constexpr struct {
    std::string_view mark, task;
  } kKinds[] = {{".dora_scale", "dora"}, {".hada_w1", "loha"},   {".lokr_w", "lokr"},
                {".on_input", "ia3"},    {".lora_down", "lora"}, {".lora_A.", "lora"},
                {"_lora.down", "lora"},  {".lora.down", "lora"}, {"unet:0:down", "lora"}};
  for (const auto& kind : kKinds) {
    if (!tensors.containing(kind.mark)) continue;
    Identity found = adapter(lora_family(tensors), std::string(kind.task));
    const uint64_t rank = rank_of_convolutions(tensors);
    if (kind.task == "lora" && rank != 0) {
      // LyCORIS gives convolutions a rank of their own; with the same rank it is a LoRA that covers more modules.
      if (rank != rank_of_matrices(tensors))
        found.task = "locon";
      else
        found.extra = {"conv_shortcut, time_emb_proj, samplers: modules a plain attention LoRA does not have"};
    }
    return found;
  }
  return std::nullopt;
}

std::optional<Identity> recognise_conditioning(const Tensors& tensors) {
  if (tensors.containing("ip_adapter.") && tensors.containing("image_proj."))
    return adapter(family_of_context(last_of(tensors.containing("to_k_ip"))), "ip-adapter");
  if (tensors.containing("body.0.resnets.0.block1.") || tensors.containing("body.0.block1.")) {
    // The picture comes in with its pixels folded into channels: 8x8 of 3 for SD 1.x, 16x16 for SDXL.
    const TensorInfo* in = tensors.containing("conv_in.weight");
    return adapter(in && in->shape.size() == 4 && in->shape[1] >= 768 ? "sdxl" : "sd1", "t2i-adapter");
  }
  return std::nullopt;
}

std::optional<Identity> recognise_embedding(const Tensors& tensors) {
  if (tensors.size() == 2 && tensors.named("clip_l") && tensors.named("clip_g")) return adapter("sdxl", "textual-inversion");
  if (tensors.size() != 1 || tensors.front()->shape.empty() || tensors.front()->shape.size() > 2) return std::nullopt;
  const uint64_t width = last_of(tensors.front());
  return adapter(width == 1280 ? "sdxl" : family_of_context(width), "textual-inversion");
}

std::optional<Identity> recognise_other_model(const Tensors& tensors, const NameTable& table) {
  constexpr struct {
    std::string_view mark, family, prediction, name;
  } kModels[] = {
      {"single_transformer_blocks.0.", "flux", "flow", "FLUX.1"},
      {"double_blocks.0.img_attn.", "flux", "flow", "FLUX.1"},
      {"joint_blocks.0.x_block.", "sd3", "flow", "Stable Diffusion 3"},
      {"transformer_blocks.0.attn.add_k_proj.", "sd3", "flow", "Stable Diffusion 3"},
      {"encoder_hid_proj.", "kolors", "epsilon", "Kolors"},
      {"clip_txt_mapper.", "stable-cascade", "epsilon", "Stable Cascade"},
      {"caption_projection.linear_1.", "pixart", "epsilon", "PixArt"},
  };
  for (const auto& model : kModels) {
    if (!tensors.containing(model.mark)) continue;
    Identity found{.family = std::string(model.family), .task = "txt2img", .prediction = std::string(model.prediction)};
    for (const std::string_view part : {"transformer", "unet", "text_encoder", "text_encoder_2", "text_encoder_3", "vae"}) {
      const bool placed =
          std::any_of(table.files.begin(), table.files.end(), [&](const PlacedHeader& f) { return f.part == part; });
      if (placed || (part != "transformer" && table.has_part(part))) found.parts.emplace_back(part);
    }
    if (found.parts.empty()) found.parts = {"transformer"};
    found.obstacle = std::string(model.name) + " models are not supported";
    return found;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Identity> recognise_other(const NameTable& table) {
  const Tensors tensors(table);
  if (auto found = recognise_lora(tensors)) return found;
  if (auto found = recognise_conditioning(tensors)) return found;
  if (auto found = recognise_embedding(tensors)) return found;
  return recognise_other_model(tensors, table);
}

}  // namespace cudream
