// libFuzzer target: whatever bytes a file has, its header is parsed or refused with Error(bad_file), and what is accepted
// keeps the promises of the table. Seeds: tests/attacks/safetensors.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "loader/kind.h"
#include "loader/safetensors.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const cudream::SafetensorsHeader& header, uint64_t file_bytes) {
  uint64_t at = 8 + header.bytes;
  for (const cudream::TensorInfo& t : header.tensors) {
    require(t.offset == at && t.bytes <= file_bytes - at);
    require(header.find(t.name) == &t);
    uint64_t bits = static_cast<uint64_t>(cudream::bits_of(t.type));
    for (const uint64_t n : t.shape) bits *= n;
    require(bits == t.bytes * 8);
    at += t.bytes;
  }
  require(at == file_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  static_cast<void>(cudream::kind_of(bytes.first(std::min(size, cudream::kKindBytes)), size));
  try {
    const uint64_t length = cudream::header_length(bytes.first(std::min<size_t>(size, 8)), size, "input");
    check(cudream::parse_header({reinterpret_cast<const char*>(data) + 8, length}, size, "input"), size);
  } catch (const cudream::Error& e) {
    require(e.code() == cudream::Code::bad_file);
  }
  return 0;
}
