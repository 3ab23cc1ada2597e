// The configurations that go along with a model: its own, and where it has none what its spec says, in diffusers' words.
#pragma once

#include <optional>
#include <string>

#include "loader/model.h"

namespace cudream {

// Of every part that the model has, and of its scheduler and tokenizers. A scheduler says `prediction`, or nothing where that is
// not known.
Configs diffusers_configs(const Model&, std::optional<Prediction> prediction);

// model_index.json: the pipeline and the classes of its parts.
std::string model_index(const ModelSpec&);

}  // namespace cudream
