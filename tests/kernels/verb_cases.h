// The tables of verb cases: shapes of real networks, odd sizes, one-element edges. The tests run them on every device against the
// reference.
#pragma once

#include <vector>

#include "tests/kernels/verb_stage.h"

namespace cudream {

const std::vector<VerbCase>& small_verb_cases();  // every path of every verb, small enough for the reference device
std::vector<VerbCase> network_verb_cases();       // the layer shapes of real networks, each once

}  // namespace cudream
