// A job without what is a picture's own.
#include "runtime/pass_key.h"

#include <algorithm>

#include "runtime/composition.h"
#include "runtime/prompt_schedule.h"

namespace cudream {
namespace {

// Chunks of 77 tokens that the longest of the prompts fills that the network reads.
size_t most_chunks(const Job& job, const ModelSpec& spec, const Tokenizer& tokenizer, const NewWords& new_words) {
  const auto text = [](const std::string& prompt) { return take_tags(prompt).text; };
  std::vector<BranchText> texts;
  for (const auto& [prompt, weight] : composed_prompts(job)) texts.push_back({.prompt = prompt, .second = text(job.prompt_2)});
  if (guidance_of(job, *spec.unet).negative) texts.push_back({.prompt = text(job.negative)});
  size_t most = 0;
  for (const BranchChunks& branch : chunk_prompts(tokenizer, texts, spec.text_encoders, new_words).branches)
    most = std::max(most, branch.count());
  return most;
}

}  // namespace

std::string pass_key(const Job& job, const ModelSpec& spec, const Tokenizer& tokenizer, const NewWords& new_words) {
  Job common = job;
  common.seed = 0;
  common.variation_seed.reset();
  common.prompt_template = common.negative_template = "";
  if (spec.unet->guidance_embedding == 0)
    common.guidance = guidance_of(job, *spec.unet).negative ? 2 : 1;  // with and without a negative branch

  const auto composed = composed_prompts(job);
  if (is_scheduled(job.negative) || is_scheduled(job.prompt_2) ||
      std::ranges::any_of(composed, [](const auto& part) { return is_scheduled(part.first); }))
    return exact_text(common);
  std::string key = fmt::format("{} chunks", most_chunks(job, spec, tokenizer, new_words));
  for (const auto& [text, weight] : composed) key += fmt::format(" x {}", weight);
  for (std::string* prompt : {&common.prompt, &common.negative, &common.prompt_2}) {
    for (const LoraTag& tag : take_tags(*prompt).loras) key += fmt::format(" {}:{}", tag.name, tag.strength);
    prompt->clear();
  }
  return key + exact_text(common);
}

}  // namespace cudream
