// What a network's output means, asked of the network itself, for files that do not say it.
#pragma once

#include <span>

#include "core/spec.h"
#include "kernels/ops.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "runtime/tokenizer.h"

namespace cudream {

// How much of the noise `x` is in `out`: their product over the square of x. About 1 for a network that was given nearly
// pure noise and predicts the noise; about 0 for one that predicts v = alpha * noise - sigma * x0 ("Progressive
// Distillation", Salimans and Ho 2022, section 4), whose alpha is nearly 0 there.
double share_of_noise(std::span<const float> x, std::span<const float> out);

// Calls the network once, on noise at the noisiest training step and an empty prompt: Prediction::epsilon when more than
// half of the noise comes back, else Prediction::v. For networks that read nothing but text and time.
Prediction probe_prediction(Ops&, const ModelSpec&, std::span<const ClipTextEncoder>, const UNet&, WeightStore&,
                            const Tokenizer&);

}  // namespace cudream
