// Files that are no Stable Diffusion model: adapters and models of other kinds, told by their names.
#pragma once

#include <optional>

#include "loader/identify.h"

namespace cudream {

// The identity of such a file or folder, complete; none when it is something else.
std::optional<Identity> recognise_other(const NameTable&);

}  // namespace cudream
