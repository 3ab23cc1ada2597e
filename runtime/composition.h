// What a job's prompt is composed of, and the guidance that follows from it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/spec.h"
#include "runtime/job.h"
#include "runtime/predictor.h"

namespace cudream {

// The prompts that AND joins in that of a job, without tags, and their weights: one at least. An instruction for an edit is one,
// whatever words it has.
std::vector<std::pair<std::string, double>> composed_prompts(const Job&);

// Its texts are the composed prompts and, where it has one, the negative prompt. Throws as text_guidance does.
Guidance guidance_of(const Job&, const UNetSpec&);

}  // namespace cudream
