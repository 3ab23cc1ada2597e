// A job without what is a picture's own.
#include "runtime/pass_key.h"

#include <algorithm>
#include <array>

#include "runtime/prompt_schedule.h"

namespace cudream {
namespace {

// Chunks of 77 tokens that a job's prompts, or the longest of them, fill.
size_t most_chunks(const Job& job, const ModelSpec& spec, const Tokenizer& tokenizer, const NewWords& new_words) {
  const auto text = [](const std::string& prompt) { return take_tags(prompt).text; };
  std::vector<BranchText> texts{{.prompt = text(job.prompt), .second = text(job.prompt_2)}};
  if (job.guidance > 1) texts.push_back({.prompt = text(job.negative)});
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
  if (spec.unet->guidance_embedding == 0) common.guidance = job.guidance > 1 ? 2 : 1;  // with and without a second branch

  const std::array prompts{&common.prompt, &common.negative, &common.prompt_2};
  if (std::ranges::any_of(prompts, [](const std::string* text) { return is_scheduled(*text); })) return exact_text(common);
  std::string key = fmt::format("{} chunks", most_chunks(job, spec, tokenizer, new_words));
  for (std::string* prompt : prompts) {
    for (const LoraTag& tag : take_tags(*prompt).loras) key += fmt::format(" {}:{}", tag.name, tag.strength);
    prompt->clear();
  }
  return key + exact_text(common);
}

}  // namespace cudream
