// PNG by libpng: decoding, encoding and the text chunks. (PNG specification, third edition; libpng manual 1.6.)
#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "runtime/picture/codecs.h"
#include "runtime/picture/guard.h"
#include "runtime/picture/xmp.h"
#include "runtime/unicode.h"

namespace cudream {
namespace {

// One choice for all pictures, or the same pixels would not give the same bytes. After the Paeth filter the residuals of
// a painted picture hardly repeat: runs and entropy coding alone make smaller files than a search for matches at level 6, in
// less than half the time.
constexpr int kLevel = 1, kStrategy = Z_RLE, kFilter = PNG_FILTER_PAETH;
constexpr size_t kBlockBytes = 65536;  // of compressed data in one chunk

constexpr png_alloc_size_t kTextBytes = png_alloc_size_t{4} << 20;  // one text chunk, decompressed
constexpr int kTextChunks = 64;
constexpr png_alloc_size_t kLargestBlock = 2 * kTextBytes;  // that libpng may ask for; a row has 0.5 MiB at most

constexpr std::string_view kXmpKeyword = "XML:com.adobe.xmp";  // XMP specification part 3, section 1.1.5

void on_error(png_structp png, png_const_charp message) {
  auto& escape = *static_cast<Escape*>(png_get_error_ptr(png));
  std::snprintf(escape.message, sizeof escape.message, "%s", message);
  std::longjmp(escape.exit, 1);
}

void on_warning(png_structp, png_const_charp) {}  // colour profiles that are odd, and the like: no matter of ours

void take(png_structp png, png_bytep to, size_t count) {
  auto& left = *static_cast<Bytes*>(png_get_io_ptr(png));
  if (count > left.size()) png_error(png, "the file is cut short");
  std::memcpy(to, left.data(), count);
  left = left.subspan(count);
}

void give(png_structp png, png_bytep from, size_t count) {
  auto& to = *static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png));
  if (!append(to, Bytes(from, count))) png_error(png, "out of memory");
}

// libpng 1.6.39 takes memory for a whole chunk as its header claims, before it reads any of it.
png_voidp allocate(png_structp, png_alloc_size_t size) {
  return size <= kLargestBlock ? std::malloc(size) : nullptr;
}

void release(png_structp, png_voidp block) {
  std::free(block);
}

// Owns libpng's structures while a file in memory is read.
class PngReader {
 public:
  // Delegates, so that the destructor runs when the body throws.
  PngReader(Bytes bytes, std::string_view name) : PngReader(name) {
    if (info_ == nullptr) throw fail(Code::out_of_memory, "no memory to read {}", name);
    left_ = bytes;
    run([&] {
      png_set_read_fn(png_, &left_, take);
      png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_size has our own message
      png_set_chunk_malloc_max(png_, kTextBytes);
      png_set_chunk_cache_max(png_, kTextChunks);
      png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // all that is not needed to make pixels
    });
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  // Throws what libpng found wrong. `body` as run_guarded wants it.
  template <typename Body>
  void run(Body body) {
    if (!run_guarded(escape_, body)) throw fail(Code::bad_file, "{} is a damaged PNG: {}", name_, escape_.message);
  }
  png_structp png() { return png_; }
  png_infop info() { return info_; }

 private:
  explicit PngReader(std::string_view name) : name_(name) {
    png_ = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &escape_, on_error, on_warning, nullptr, allocate, release);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
  }

  Bytes left_;
  std::string_view name_;
  Escape escape_{};
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

// RGB or RGBA of 8 bits, whatever the file holds.
void ask_for_8_bit_colour(png_structp png, png_infop info) {
  png_set_expand(png);  // palettes, 1 to 4 bits, and transparency given as a colour
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
}

png_text text_chunk(const char* keyword, const std::string& text) {
  png_text chunk{};
  chunk.compression = is_ascii(text) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;  // tEXt or iTXt
  chunk.key = const_cast<png_charp>(keyword);  // libpng copies both and writes to neither
  chunk.text = const_cast<png_charp>(text.c_str());
  return chunk;
}

}  // namespace

Image decode_png(Bytes bytes, std::string_view name, const ImageLimits& limits) {
  PngReader reader(bytes, name);
  png_structp png = reader.png();
  png_infop info = reader.info();
  reader.run([&] { png_read_info(png, info); });
  const int64_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
  check_size(width, height, name, limits);
  // Deflate shrinks to 1/1032 at best, so a small file that claims many pixels cannot hold them.
  if (png_get_rowbytes(png, info) * static_cast<size_t>(height) > 1032 * bytes.size())
    throw fail(Code::bad_file, "{} is a damaged PNG: {} x {} pixels cannot come from {} bytes", name, width, height,
               bytes.size());

  int passes = 1;
  reader.run([&] {
    ask_for_8_bit_colour(png, info);
    passes = png_set_interlace_handling(png);
  });
  Image image{static_cast<int>(width), static_cast<int>(height), png_get_channels(png, info), {}};
  const size_t row_bytes = png_get_rowbytes(png, info);
  invariant(row_bytes == static_cast<size_t>(width * image.channels), "libpng gives rows of {} bytes", row_bytes);
  image.pixels.resize(row_bytes * static_cast<size_t>(height));
  reader.run([&, pixels = image.pixels.data()] {
    for (int pass = 0; pass < passes; ++pass)
      for (int64_t y = 0; y < height; ++y) png_read_row(png, pixels + y * static_cast<int64_t>(row_bytes), nullptr);
    png_read_end(png, nullptr);
  });
  return image;
}

Metadata png_metadata(Bytes bytes, std::string_view name) {
  PngReader reader(bytes, name);
  png_structp png = reader.png();
  png_infop info = reader.info();
  reader.run([&] {
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_AS_DEFAULT, reinterpret_cast<png_const_bytep>("tEXt\0zTXt\0iTXt"), 3);
    png_read_info(png, info);
  });
  const int64_t height = png_get_image_height(png, info);
  check_size(png_get_image_width(png, info), height, name, {});
  reader.run([&] {  // texts may stand behind the pixels
    const int passes = png_set_interlace_handling(png);
    for (int64_t row = 0; row < passes * height; ++row) png_read_row(png, nullptr, nullptr);
    png_read_end(png, info);
  });
  png_textp texts = nullptr;
  const int count = png_get_text(png, info, &texts, nullptr);
  Metadata metadata;
  for (const png_text& text : std::span(texts, static_cast<size_t>(count))) {
    const std::string_view key = text.key;
    if (key == "parameters") metadata.parameters = utf8_of(text.text);
    if (key == kJobKeyword) metadata.job = utf8_of(text.text);
    if (key == kXmpKeyword) metadata.generated = xmp_generated(text.text);
    if (key == "prompt" || key == "workflow") metadata.comfyui = true;
  }
  return metadata;
}

std::vector<uint8_t> encode_png(const Image& image, const Metadata& metadata) {
  const std::string xmp = metadata.generated ? write_xmp(true, "") : "";
  const std::pair<const char*, const std::string&> entries[] = {
      {"parameters", metadata.parameters}, {kJobKeyword.data(), metadata.job}, {kXmpKeyword.data(), xmp}};
  png_text texts[3];
  int count = 0;
  for (const auto& [keyword, text] : entries)
    if (!text.empty()) texts[count++] = text_chunk(keyword, text);

  std::vector<uint8_t> bytes;
  Escape escape{};
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &escape, on_error, on_warning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  const size_t row_bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
  const bool done = info != nullptr && run_guarded(escape, [&] {
                      png_set_write_fn(png, &bytes, give, nullptr);
                      png_set_compression_level(png, kLevel);
                      png_set_compression_strategy(png, kStrategy);
                      png_set_compression_buffer_size(png, kBlockBytes);
                      png_set_filter(png, PNG_FILTER_TYPE_BASE, kFilter);
                      png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
                                   image.channels == 4 ? PNG_COLOR_TYPE_RGBA : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                                   PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
                      png_set_text(png, info, texts, count);
                      png_write_info(png, info);
                      for (int y = 0; y < image.height; ++y)
                        png_write_row(png, image.pixels.data() + static_cast<size_t>(y) * row_bytes);
                      png_write_end(png, nullptr);
                    });
  png_destroy_write_struct(&png, &info);
  if (!done)
    throw fail(Code::internal, "libpng cannot write a picture of {} x {}: {}", image.width, image.height, escape.message);
  return bytes;
}

}  // namespace cudream
