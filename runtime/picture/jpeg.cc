// JPEG by libjpeg-turbo: decoding, encoding, EXIF and the comment segment. (ITU-T T.81; libjpeg.txt of libjpeg-turbo 2.1.)

// jpeglib.h needs <cstdio> before it, and jerror.h needs jpeglib.h.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>

#include "core/error.h"
#include "runtime/picture/codecs.h"
#include "runtime/picture/convert.h"
#include "runtime/picture/exif.h"
#include "runtime/picture/guard.h"
#include "runtime/picture/xmp.h"
#include "runtime/unicode.h"

namespace cudream {
namespace {

using namespace std::string_view_literals;

constexpr auto kExifName = "Exif\0\0"sv;
constexpr auto kXmpName = "http://ns.adobe.com/xap/1.0/\0"sv;  // XMP specification part 3, section 1.1.3
constexpr int kExifMarker = JPEG_APP0 + 1, kXmpMarker = kExifMarker;
constexpr size_t kSegmentBytes = 65533;  // T.81, B.1.1.4: a length of 16 bits that counts itself
constexpr int kMaxScans = 100;           // a progressive picture has about ten; each costs a walk over all pixels

// libjpeg hands its own structures to its callbacks; ours begin with them.
struct Errors {
  jpeg_error_mgr base;
  Escape escape;
};

[[noreturn]] void on_error(j_common_ptr jpeg) {
  auto& errors = *reinterpret_cast<Errors*>(jpeg->err);
  char message[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, message);
  std::snprintf(errors.escape.message, sizeof errors.escape.message, "%s", message);
  std::longjmp(errors.escape.exit, 1);
}

// libjpeg goes on after these with grey or noise in place of the picture, and calls it a warning.
void on_message(j_common_ptr jpeg, int level) {
  constexpr int kLosses[] = {JWRN_JPEG_EOF,       JWRN_HIT_MARKER,  JWRN_HUFF_BAD_CODE,
                             JWRN_ARITH_BAD_CODE, JWRN_MUST_RESYNC, JWRN_NOT_SEQUENTIAL};
  if (level < 0 && std::find(std::begin(kLosses), std::end(kLosses), jpeg->err->msg_code) != std::end(kLosses)) on_error(jpeg);
}

void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMaxScans) return;
  auto& errors = *reinterpret_cast<Errors*>(jpeg->err);
  std::snprintf(errors.escape.message, sizeof errors.escape.message, "more than %d scans", kMaxScans);
  std::longjmp(errors.escape.exit, 1);
}

jpeg_error_mgr* prepare(Errors& errors) {
  jpeg_std_error(&errors.base);
  errors.base.error_exit = on_error;
  errors.base.emit_message = on_message;
  return &errors.base;
}

// Owns libjpeg's structures while a file in memory is read.
class JpegReader {
 public:
  // Delegates, so that the destructor runs when the body throws.
  JpegReader(Bytes bytes, std::string_view name) : JpegReader(name) {
    run([&] {
      jpeg_create_decompress(&jpeg_);
      jpeg_.progress = &progress_;
      jpeg_mem_src(&jpeg_, bytes.data(), bytes.size());
      jpeg_save_markers(&jpeg_, kExifMarker, 0xffff);
      jpeg_save_markers(&jpeg_, JPEG_COM, 0xffff);
      jpeg_read_header(&jpeg_, TRUE);
    });
  }
  ~JpegReader() { jpeg_destroy_decompress(&jpeg_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  // Throws what libjpeg found wrong. `body` as run_guarded wants it.
  template <typename Body>
  void run(Body body) {
    if (!run_guarded(errors_.escape, body)) throw fail(Code::bad_file, "{} is a damaged JPEG: {}", name_, errors_.escape.message);
  }
  jpeg_decompress_struct& jpeg() { return jpeg_; }

  // The first segment of a kind whose contents begin with `prefix`, without the prefix.
  Bytes segment(int marker, std::string_view prefix) const {
    for (auto at = jpeg_.marker_list; at != nullptr; at = at->next) {
      const Bytes data(at->data, at->data_length);
      if (at->marker == marker && data.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), data.begin()))
        return data.subspan(prefix.size());
    }
    return {};
  }

 private:
  explicit JpegReader(std::string_view name) : name_(name) {
    jpeg_.err = prepare(errors_);
    progress_.progress_monitor = on_progress;
  }

  std::string_view name_;
  Errors errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct jpeg_{};
};

// libjpeg's own memory destination loses its buffer on an error; this one writes to a vector that its owner keeps.
struct Destination {
  jpeg_destination_mgr base;
  std::vector<uint8_t>* bytes;
  uint8_t buffer[16384];
};

void begin_buffer(j_compress_ptr jpeg) {
  auto& to = *reinterpret_cast<Destination*>(jpeg->dest);
  to.base.next_output_byte = to.buffer;
  to.base.free_in_buffer = sizeof to.buffer;
}

boolean flush_buffer(j_compress_ptr jpeg) {
  auto& to = *reinterpret_cast<Destination*>(jpeg->dest);
  if (!append(*to.bytes, to.buffer)) ERREXIT1(jpeg, JERR_OUT_OF_MEMORY, 0);
  begin_buffer(jpeg);
  return TRUE;
}

void end_buffer(j_compress_ptr jpeg) {
  auto& to = *reinterpret_cast<Destination*>(jpeg->dest);
  if (!append(*to.bytes, Bytes(to.buffer, sizeof to.buffer - to.base.free_in_buffer))) ERREXIT1(jpeg, JERR_OUT_OF_MEMORY, 0);
}

void write_segment(j_compress_ptr jpeg, int marker, const std::string& data) {
  if (!data.empty())
    jpeg_write_marker(jpeg, marker, reinterpret_cast<const JOCTET*>(data.data()), static_cast<unsigned>(data.size()));
}

// `prefix` before `content`, or nothing for empty content.
template <typename Content>
std::string segment_of(std::string_view prefix, const Content& content) {
  std::string data;
  if (content.empty()) return data;
  data.append(prefix).append(content.begin(), content.end());
  if (data.size() > kSegmentBytes)
    throw fail(Code::unsupported, "the texts to store with the picture ({} bytes) do not fit a JPEG ({}); write a PNG instead",
               data.size(), kSegmentBytes);
  return data;
}

std::string job_prefix() {
  return std::string(kJobKeyword) + ":";
}

}  // namespace

Image decode_jpeg(Bytes bytes, std::string_view name, const ImageLimits& limits) {
  JpegReader reader(bytes, name);
  auto& jpeg = reader.jpeg();
  check_size(jpeg.image_width, jpeg.image_height, name, limits);
  if (jpeg.num_components != 1 && jpeg.num_components != 3)
    throw fail(Code::unsupported, "{} is a JPEG of {} colour components (CMYK?); RGB and grey are read, so convert it first",
               name, jpeg.num_components);
  const Exif exif = read_exif(reader.segment(kExifMarker, kExifName));  // libjpeg drops segments when it finishes
  Image image{static_cast<int>(jpeg.image_width), static_cast<int>(jpeg.image_height), 3, {}};
  const size_t row_bytes = size_t{3} * jpeg.image_width;
  image.pixels.resize(row_bytes * jpeg.image_height);
  reader.run([&, pixels = image.pixels.data()] {
    jpeg.mem->max_memory_to_use = static_cast<long>(limits.decoder_bytes);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    while (jpeg.output_scanline < jpeg.output_height) {
      JSAMPROW row = pixels + jpeg.output_scanline * row_bytes;
      jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
  });
  return upright(std::move(image), exif.orientation);
}

Metadata jpeg_metadata(Bytes bytes, std::string_view name) {
  const JpegReader reader(bytes, name);
  Metadata metadata;
  metadata.parameters = read_exif(reader.segment(kExifMarker, kExifName)).comment;
  const Bytes job = reader.segment(JPEG_COM, job_prefix());
  metadata.job = utf8_of({job.begin(), job.end()});
  const Bytes xmp = reader.segment(kXmpMarker, kXmpName);
  metadata.generated = xmp_generated({reinterpret_cast<const char*>(xmp.data()), xmp.size()});
  return metadata;
}

std::vector<uint8_t> encode_jpeg(const Image& image, const Metadata& metadata, int quality) {
  invariant(image.channels == 3, "a JPEG has 3 channels, not {}", image.channels);
  const auto tiff = metadata.parameters.empty() ? std::vector<uint8_t>() : write_exif(metadata.parameters);
  const auto exif = segment_of(kExifName, tiff);
  const auto job = segment_of(job_prefix(), metadata.job);
  const auto xmp = segment_of(kXmpName, metadata.generated ? write_xmp(true, "") : std::string());
  std::vector<uint8_t> bytes;
  Errors errors{};
  Destination destination{};
  destination.base = {nullptr, 0, begin_buffer, flush_buffer, end_buffer};
  destination.bytes = &bytes;
  jpeg_compress_struct jpeg{};
  jpeg.err = prepare(errors);
  const bool done = run_guarded(errors.escape, [&] {
    jpeg_create_compress(&jpeg);
    jpeg.dest = &destination.base;
    jpeg.image_width = static_cast<JDIMENSION>(image.width);
    jpeg.image_height = static_cast<JDIMENSION>(image.height);
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    jpeg.optimize_coding = TRUE;
    jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;  // colour at full size: drawn edges stay sharp
    jpeg_start_compress(&jpeg, TRUE);
    write_segment(&jpeg, kExifMarker, exif);
    write_segment(&jpeg, kXmpMarker, xmp);
    write_segment(&jpeg, JPEG_COM, job);
    while (jpeg.next_scanline < jpeg.image_height) {
      auto* row = const_cast<JSAMPROW>(image.pixels.data()) + size_t{3} * jpeg.next_scanline * jpeg.image_width;
      jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
  });
  jpeg_destroy_compress(&jpeg);
  if (!done)
    throw fail(Code::internal, "libjpeg cannot write a picture of {} x {}: {}", image.width, image.height, errors.escape.message);
  return bytes;
}

}  // namespace cudream
