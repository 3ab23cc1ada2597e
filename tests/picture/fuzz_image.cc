// Any bytes as a picture: an Error or a picture of the size it claims; whatever decodes survives our own PNG.
#include <zlib.h>

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "runtime/picture/image.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

// Makes the checksums of a PNG's chunks right again, or no change would ever come past them.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 == 0) return size;
  for (size_t at = 8; at + 12 <= size;) {
    const size_t length = size_t{data[at]} << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3];
    if (length > size - at - 12) break;
    const auto sum = static_cast<uint32_t>(crc32(0, data + at + 4, static_cast<unsigned>(length + 4)));
    at += 8 + length;
    for (int shift = 24; shift >= 0; shift -= 8) data[at++] = static_cast<uint8_t>(sum >> shift);
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cudream;
  const std::span<const uint8_t> bytes(data, size);
  const auto guarded = [](auto action) {
    try {
      action();
    } catch (const Error& error) {
      if (error.code() != Code::bad_file && error.code() != Code::unsupported) std::abort();
    }
  };
  guarded([&] {
    const Image image = decode_image(bytes, "fuzz", {.pixels = 1 << 16, .side = 4096, .decoder_bytes = 16 << 20});
    if (image.pixels.size() != static_cast<size_t>(image.width) * image.height * image.channels) std::abort();
    if (decode_image(encode_png(image, {}), "again") != image) std::abort();
  });
  guarded([&] {
    const Metadata metadata = decode_metadata(bytes, "fuzz");
    const Image dot{1, 1, 3, {1, 2, 3}};
    const Metadata again = decode_metadata(encode_png(dot, metadata), "again");
    if (again.parameters != metadata.parameters) std::abort();
  });
  return 0;
}
