// From AND in a prompt to branches of guidance.
#include "runtime/composition.h"

#include "runtime/prompt.h"
#include "runtime/prompt_schedule.h"

namespace cudream {

std::vector<std::pair<std::string, double>> composed_prompts(const Job& job) {
  const std::string prompt = take_tags(job.prompt).text;
  auto prompts = parse_composition(prompt);
  if (prompts.size() == 1 || job.edit) prompts = {{prompt, 1.0}};
  return prompts;
}

Guidance guidance_of(const Job& job, const UNetSpec& unet) {
  if (job.edit) return edit_guidance(job.guidance, job.image_guidance);
  std::vector<double> weights;
  for (const auto& [text, weight] : composed_prompts(job)) weights.push_back(weight);
  return text_guidance(job.guidance, job.guidance_rescale, unet.guidance_embedding > 0, weights);
}

}  // namespace cudream
