// Which autoencoder.
#include "nets/vae.h"

namespace cudream {
namespace {

std::variant<KlAutoencoder, TinyAutoencoder> made(const Weights& w, const VaeSpec& spec) {
  if (spec.tiny) return TinyAutoencoder(w, spec);
  return KlAutoencoder(w, spec);
}

}  // namespace

Autoencoder::Autoencoder(const Weights& w, const VaeSpec& spec) : net_(made(w, spec)) {}

const VaeSpec& Autoencoder::spec() const {
  return std::visit([](const auto& net) -> const VaeSpec& { return net.spec(); }, net_);
}

Tensor Autoencoder::encode(Ops& o, View image) const {
  return std::visit([&](const auto& net) { return net.encode(o, image); }, net_);
}

Tensor Autoencoder::decode(Ops& o, View latent) const {
  return std::visit([&](const auto& net) { return net.decode(o, latent); }, net_);
}

}  // namespace cudream
