// Adapters: what changes a loaded model until others are asked for.
#include "core/error.h"
#include "core/log.h"
#include "loader/textual_inversion.h"
#include "runtime/engine.h"

namespace cudream {

WeightChanges changes_of(const std::vector<LoraUse>& uses, const Model& model, const Notice& on_notice) {
  WeightChanges changes;
  for (const LoraUse& use : uses) {
    const auto lora = std::make_shared<const Lora>(use.path);
    const Lora::Fit fit = changes.add(lora, use.strength, model.names(), model.spec());
    const std::string used =
        fmt::format("LoRA {}: {} of {} keys used", printable(use.path.stem().string()), fit.weights.size(), lora->size());
    if (fit.unused.empty())
      log(LogLevel::info, "{}", used);
    else
      on_notice(fmt::format("{}; not used: {}{}", used, printable(fit.unused.front()), fit.unused.size() > 1 ? ", ..." : ""));
  }
  return changes;
}

void Engine::use_loras(const std::vector<LoraUse>& uses, const Notice& on_notice) {
  if (uses == loras_) return;
  if (!model_) throw fail(Code::usage, "random weights take no LoRA");
  WeightChanges changes = changes_of(uses, *model_, on_notice);
  // Weights that were changed before come from the file again, so nothing of an earlier LoRA stays. Until all are done,
  // those of both are counted as changed: the next call then puts right what an error left.
  changed_.merge(changes.names());
  loras_ = uses;
  texts_.clear();
  ops_.forget_recordings();
  try {
    reload_weights(*model_, *store_, *device_, changed_, changes);
  } catch (...) {
    loras_ = {{}};
    throw;
  }
  changed_ = changes.names();
  changes_ = std::move(changes);
  in_float_.emplace(ops_, *model_, spec_, changes_, control_uses_);
}

void Engine::prepare_controls(const std::vector<ControlUse>& uses) {
  ops_.forget_recordings();
  control_uses_.clear();  // unless all goes well
  controls_.prepare(uses, spec_, *device_);
}

void Engine::use_controls(const std::vector<ControlUse>& uses) {
  if (uses == control_uses_) return;
  prepare_controls(uses);
  controls_.load(*device_);
  control_uses_ = uses;
}

void Engine::use_words(const std::vector<std::filesystem::path>& inversions) {
  if (inversions == inversions_) return;
  texts_.clear();
  inversions_ = {{}};  // until all are read: the next call then puts right what an error left
  new_words_ = {.words = {}, .vectors = std::vector<std::vector<float>>(spec_.text_encoders.size())};
  int next = Tokenizer::kVocabulary;
  for (const std::filesystem::path& path : inversions) {
    const TextualInversion inversion = read_textual_inversion(path, spec_);
    const int count = static_cast<int>(inversion.count);
    for (const std::string& word : inversion.words) new_words_.words.push_back({word, next, count});
    for (size_t e = 0; e < inversion.vectors.size(); e++)
      new_words_.vectors[e].insert(new_words_.vectors[e].end(), inversion.vectors[e].begin(), inversion.vectors[e].end());
    next += count;
  }
  inversions_ = inversions;
}

}  // namespace cudream
