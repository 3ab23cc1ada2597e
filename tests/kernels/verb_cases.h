// The tables of verb cases: shapes of real networks, odd sizes, one-element edges. The tests run them on every device against the
// reference.
#pragma once

#include <initializer_list>
#include <vector>

#include "tests/kernels/verb_stage.h"

namespace cudream {

const std::vector<VerbCase>& small_verb_cases();  // every path of every verb, small enough for the reference device
// The layer shapes of real networks, each once; of SD 1.5 for latents of these sides (64 makes 512 pixels).
std::vector<VerbCase> network_verb_cases(std::initializer_list<int64_t> latents = {64, 32});

}  // namespace cudream
