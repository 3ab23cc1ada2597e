// Which codec a file needs, by its first bytes when reading and by its suffix when writing.
#include "runtime/picture/image.h"

#include <algorithm>
#include <cctype>
#include <new>

#include "core/error.h"
#include "runtime/picture/codecs.h"
#include "runtime/picture/convert.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

bool holds(Bytes bytes, size_t offset, std::string_view magic) {
  return bytes.size() >= offset + magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

// Other kinds of picture, to tell a person what the file is.
std::string_view other_kind(Bytes bytes) {
  using namespace std::string_view_literals;
  if (holds(bytes, 0, "GIF8")) return "GIF";
  if (holds(bytes, 4, "ftypavif") || holds(bytes, 4, "ftypavis")) return "AVIF";
  if (holds(bytes, 4, "ftyphei") || holds(bytes, 4, "ftypmif1")) return "HEIF";
  if (holds(bytes, 0, "II*\0"sv) || holds(bytes, 0, "MM\0*"sv)) return "TIFF";
  if (holds(bytes, 0, "BM") && holds(bytes, 6, "\0\0\0\0"sv)) return "BMP";
  return {};
}

ImageFormat format_of(Bytes bytes, std::string_view name) {
  if (holds(bytes, 0, "\x89PNG\r\n\x1a\n")) return ImageFormat::png;
  if (holds(bytes, 0, "\xff\xd8\xff")) return ImageFormat::jpeg;
  if (holds(bytes, 0, "RIFF") && holds(bytes, 8, "WEBP")) return ImageFormat::webp;
  if (bytes.empty()) throw fail(Code::bad_file, "{} is empty; a PNG, JPEG or WebP picture was expected", name);
  if (const auto kind = other_kind(bytes); !kind.empty())
    throw fail(Code::unsupported, "{} is a {} picture; PNG, JPEG and WebP are read, so convert it first", name, kind);
  throw fail(Code::bad_file, "{} is not a picture; PNG, JPEG or WebP was expected", name);
}

std::vector<uint8_t> read_file(const fs::path& path, const ImageLimits& limits) {
  const MappedFile file(path);
  if (file.size() > limits.file_bytes)
    throw fail(Code::bad_file, "{} has {} MiB; a picture file may have {} MiB", path.string(), file.size() >> 20,
               limits.file_bytes >> 20);
  std::vector<uint8_t> bytes(file.size());
  file.read(std::as_writable_bytes(std::span(bytes)), 0);
  return bytes;
}

}  // namespace

void check_size(int64_t width, int64_t height, std::string_view name, const ImageLimits& limits) {
  if (width < 1 || height < 1 || width > limits.side || height > limits.side || width * height > limits.pixels)
    throw fail(Code::bad_file, "{} claims {} x {} pixels; at most {} along a side and {} million in all are read", name, width,
               height, limits.side, limits.pixels / 1'000'000);
}

bool append(std::vector<uint8_t>& to, Bytes bytes) noexcept {
  try {
    to.insert(to.end(), bytes.begin(), bytes.end());
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

Image decode_image(Bytes bytes, std::string_view name, const ImageLimits& limits) {
  switch (format_of(bytes, name)) {
    case ImageFormat::png: return decode_png(bytes, name, limits);
    case ImageFormat::jpeg: return decode_jpeg(bytes, name, limits);
    case ImageFormat::webp: break;
  }
  return decode_webp(bytes, name, limits);
}

Image read_image(const fs::path& path, const ImageLimits& limits) {
  return decode_image(read_file(path, limits), path.string(), limits);
}

Metadata decode_metadata(Bytes bytes, std::string_view name) {
  switch (format_of(bytes, name)) {
    case ImageFormat::png: return png_metadata(bytes, name);
    case ImageFormat::jpeg: return jpeg_metadata(bytes, name);
    case ImageFormat::webp: break;
  }
  return webp_metadata(bytes, name);
}

Metadata read_metadata(const fs::path& path, const ImageLimits& limits) {
  return decode_metadata(read_file(path, limits), path.string());
}

ImageFormat image_format(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (suffix == ".png") return ImageFormat::png;
  if (suffix == ".jpg" || suffix == ".jpeg") return ImageFormat::jpeg;
  if (suffix == ".webp") return ImageFormat::webp;
  throw fail(Code::usage, "{}: the suffix \"{}\" names no picture format that is written; use .png, .jpg, .jpeg or .webp",
             path.string(), suffix);
}

namespace {

std::vector<uint8_t> encode(const Image& image, const Metadata& metadata, ImageFormat format) {
  switch (format) {
    case ImageFormat::png: return encode_png(image, metadata);
    case ImageFormat::jpeg: return encode_jpeg(over_white(image), metadata);
    case ImageFormat::webp: break;
  }
  return encode_webp(image, metadata);
}

}  // namespace

void write_image(const fs::path& path, const Image& image, const Metadata& metadata, Exists exists) {
  const ImageFormat format = image_format(path);
  AtomicFile file(path, exists);
  const std::vector<uint8_t> bytes = encode(image, metadata, format);
  file.write(std::as_bytes(std::span(bytes)));
  file.commit();
}

}  // namespace cudream
