// Opening and loading.
#include "runtime/preview_decoder.h"

#include "core/error.h"

namespace cudream {
namespace {

// With the scale of the model's latents.
VaeSpec fitting(const Model& model, const ModelSpec& of) {
  const std::optional<VaeSpec>& vae = model.spec().vae;
  if (!vae || !vae->tiny || !vae->decoder || vae->latent_channels != of.vae->latent_channels || vae->factor() != of.vae->factor())
    throw fail(Code::unsupported, "{} does not decode this model's latents: it is no tiny autoencoder of {} channels",
               model.path().string(), of.vae->latent_channels);
  VaeSpec spec = *vae;
  spec.scaling_factor = of.vae->scaling_factor;
  return spec;
}

}  // namespace

PreviewDecoder::PreviewDecoder(const std::filesystem::path& path, const ModelSpec& of, const Device& device)
    : model_(open_model(path)),
      store_(std::make_unique<WeightStore>()),
      autoencoder_(store_->root() / "vae", fitting(model_, of)),
      layout_(plan_weights(model_, *store_, device, false)) {}

void PreviewDecoder::load(Device& device) {
  const int64_t need = weight_bytes() + device.packing_bytes(), free = device.free_bytes();
  if (need > free)
    throw fail(Code::out_of_memory,
               "{}, which decodes previews, needs {} MiB of {} beside the model, and {} MiB are free; leave out "
               "--preview",
               model_.path().string(), (need >> 20) + 1, device.info().kind, free >> 20);
  load_weights(model_, *store_, device);
}

}  // namespace cudream
