// Which jobs may be made together, in one pass of the networks.
#pragma once

#include <string>

#include "core/spec.h"
#include "runtime/conditioning.h"
#include "runtime/job.h"
#include "runtime/tokenizer.h"

namespace cudream {

// Pictures of equal keys can be made in one pass, each with the bytes it would have alone. Prompts, seeds and the weight of
// guidance may differ; sizes, steps, samplers, adapters and files may not, and neither may the length of the text that the
// network reads: no picture is computed over padding that another one needs. As many prompts are joined by AND, with equal
// weights. A prompt that changes during the run goes only with its equals. Completed jobs only. Throws Error as reading a prompt
// and text_guidance do.
std::string pass_key(const Job&, const ModelSpec&, const Tokenizer&, const NewWords&);

}  // namespace cudream
