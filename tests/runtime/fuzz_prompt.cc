// Prompts are data: any bytes parse, tokenise and fall into well-formed chunks.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "runtime/prompt.h"

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

void check_chunk(const cudream::Chunk& chunk) {
  using cudream::Tokenizer;
  check(chunk.words >= 0 && chunk.words <= Tokenizer::kWords);
  check(chunk.ids[0] == Tokenizer::kStart && chunk.ids[static_cast<size_t>(chunk.words) + 1] == Tokenizer::kEnd);
  for (size_t i = 0; i < chunk.ids.size(); i++) {
    check(chunk.ids[i] >= 0 && chunk.ids[i] < Tokenizer::kVocabulary);
    check(std::isfinite(chunk.weights[i]));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const cudream::Tokenizer tokenizer;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto segments = cudream::parse_prompt(text);
  check(!segments.empty() && !cudream::parse_composition(text).empty());
  try {
    for (const cudream::Chunk& chunk : cudream::chunks(tokenizer, segments, 0)) check_chunk(chunk);
  } catch (const cudream::Error& error) {
    check(error.code() == cudream::Code::usage);  // a weight that no float holds
  }
  return 0;
}
