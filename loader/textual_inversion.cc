// The three forms of a textual inversion.
#include "loader/textual_inversion.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/log.h"
#include "loader/safetensors.h"

namespace cudream {
namespace {

int64_t width_of(const TensorInfo& t) {
  return t.shape.empty() ? 0 : static_cast<int64_t>(t.shape.back());
}

int64_t count_of(const TensorInfo& t) {
  return t.shape.size() == 2 ? static_cast<int64_t>(t.shape.front()) : 1;
}

// The tensor an encoder reads: SDXL's files name them, others hold one.
const TensorInfo* tensor_for(const SafetensorsFile& file, const ModelSpec& spec, size_t encoder) {
  const SafetensorsHeader& header = file.header();
  const bool for_two = header.find("clip_g") != nullptr,
             one = spec.text_encoders.size() == 1 && spec.text_encoders[0].projection == 0;
  if (for_two && one) return nullptr;  // its clip_l alone would fit SD 1.x, but was trained beside the other
  if (spec.text_encoders.size() > 1 || header.find("clip_g") != nullptr)
    return header.find(spec.text_encoders[encoder].projection > 0 ? "clip_g" : "clip_l");
  return header.tensors.size() == 1 ? &header.tensors.front() : nullptr;
}

std::string widths(const ModelSpec& spec) {
  std::vector<int64_t> all;
  for (const TextEncoderSpec& encoder : spec.text_encoders) all.push_back(encoder.width);
  return fmt::format("{}", fmt::join(all, " and "));
}

}  // namespace

TextualInversion read_textual_inversion(const std::filesystem::path& path, const ModelSpec& spec) {
  const SafetensorsFile file(path);
  TextualInversion found{.words = {path.stem().string()}};
  const TensorInfo& first = file.header().tensors.empty() ? throw fail(Code::bad_file, "{} holds no tensor", path.string())
                                                          : file.header().tensors.front();
  if (file.header().tensors.size() > 2 || first.shape.empty() || first.shape.size() > 2)
    throw fail(Code::bad_file, "{} is no textual inversion: it holds {} tensors", path.string(), file.header().tensors.size());
  if (first.name.starts_with('<') && first.name.ends_with('>')) found.words.push_back(first.name);
  for (size_t e = 0; e < spec.text_encoders.size(); e++) {
    const TensorInfo* t = tensor_for(file, spec, e);
    if (t == nullptr || width_of(*t) != spec.text_encoders[e].width)
      throw fail(
          Code::unsupported,
          "the textual inversion {} has vectors of {} numbers, but the model's text encoder reads {}: it was made for another "
          "family of models",
          path.string(), width_of(t == nullptr ? first : *t), widths(spec));
    found.vectors.push_back(file.floats(*t));
    const int64_t count = count_of(*t);
    if (count < 1 || count > 75 || (e > 0 && count != found.count))
      throw fail(Code::bad_file, "{} stands for {} tokens; from 1 to 75 fit, as many for each text encoder", path.string(),
                 count);
    found.count = count;
  }
  return found;
}

}  // namespace cudream
