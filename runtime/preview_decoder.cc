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

PreviewDecoder::PreviewDecoder(const std::filesystem::path& path, const ModelSpec& of, Device& device)
    : PreviewDecoder(open_model(path), of, device) {}

PreviewDecoder::PreviewDecoder(const Model& model, const ModelSpec& of, Device& device)
    : store_(std::make_unique<WeightStore>()), autoencoder_(store_->root() / "vae", fitting(model, of)) {
  load_weights(model, *store_, device);
}

}  // namespace cudream
