// Any text as A1111's parameters: whatever was read is written and read again without a change.
#include <cstdlib>

#include "runtime/picture/parameters.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cudream;
  Parameters parameters = read_parameters({reinterpret_cast<const char*>(data), size});
  if (parameters.values.size() < 3) parameters.values = {{"Steps", parameters.prompt}, {"Seed", "1"}, {"Size", "8x8"}};
  const std::string text = write_parameters(parameters);
  // Bytes that are not UTF-8 are replaced when they are written; from then on nothing changes.
  const Parameters once = read_parameters(text);
  if (read_parameters(write_parameters(once)) != once) std::abort();
  return 0;
}
