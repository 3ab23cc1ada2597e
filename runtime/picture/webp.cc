// WebP by libwebp: decoding, lossless encoding, EXIF and XMP chunks. (WebP container specification; webp/decode.h and mux.h
// of 1.2.)
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "runtime/picture/codecs.h"
#include "runtime/picture/convert.h"
#include "runtime/picture/exif.h"
#include "runtime/picture/xmp.h"
#include "runtime/unicode.h"

namespace cudream {
namespace {

using namespace std::string_view_literals;

constexpr auto kExifName = "Exif\0\0"sv;  // some programs put it before the block, as in a JPEG

WebPData data_of(Bytes bytes) {
  return {bytes.data(), bytes.size()};
}

WebPBitstreamFeatures features_of(Bytes bytes, std::string_view name) {
  WebPBitstreamFeatures features{};
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK)
    throw fail(Code::bad_file, "{} is a damaged WebP: its header cannot be read", name);
  return features;
}

// A chunk of the container, or nothing.
Bytes chunk(const WebPDemuxer* file, const char* kind) {
  WebPChunkIterator found{};
  Bytes bytes;
  if (file != nullptr && WebPDemuxGetChunk(file, kind, 1, &found) != 0) bytes = Bytes(found.chunk.bytes, found.chunk.size);
  WebPDemuxReleaseChunkIterator(&found);
  return bytes;
}

Exif exif_of(const WebPDemuxer* file) {
  Bytes bytes = chunk(file, "EXIF");
  if (bytes.size() > kExifName.size() && std::equal(kExifName.begin(), kExifName.end(), bytes.begin()))
    bytes = bytes.subspan(kExifName.size());
  return read_exif(bytes);
}

using Demuxer = std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)>;
Demuxer open(Bytes bytes) {
  const WebPData data = data_of(bytes);
  return {WebPDemux(&data), WebPDemuxDelete};
}

// The first picture of an animation, on its canvas.
std::vector<uint8_t> first_frame(Bytes bytes, size_t size) {
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0) return {};
  options.color_mode = MODE_RGBA;
  const WebPData data = data_of(bytes);
  const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(WebPAnimDecoderNew(&data, &options),
                                                                                   WebPAnimDecoderDelete);
  uint8_t* pixels = nullptr;
  int time = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &pixels, &time) == 0) return {};
  return {pixels, pixels + size};
}

struct Picture {
  WebPPicture picture{};
  Picture() { invariant(WebPPictureInit(&picture) != 0, "libwebp is of another version than its headers"); }
  ~Picture() { WebPPictureFree(&picture); }
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;
};

int give(const uint8_t* data, size_t size, const WebPPicture* picture) {
  return append(*static_cast<std::vector<uint8_t>*>(picture->custom_ptr), Bytes(data, size)) ? 1 : 0;
}

std::vector<uint8_t> encode_pixels(const Image& image) {
  Picture holder;
  WebPPicture& picture = holder.picture;
  WebPConfig config;
  std::vector<uint8_t> bytes;
  bool done = WebPConfigInit(&config) != 0 && WebPConfigLosslessPreset(&config, 2) != 0;  // of 0 to 9: quick, near the smallest
  config.exact = 1;                                                                       // colours under full transparency too
  picture.use_argb = 1;
  picture.width = image.width;
  picture.height = image.height;
  picture.writer = give;
  picture.custom_ptr = &bytes;
  const auto import = image.channels == 4 ? WebPPictureImportRGBA : WebPPictureImportRGB;
  done = done && import(&picture, image.pixels.data(), image.width * image.channels) != 0 && WebPEncode(&config, &picture) != 0;
  if (!done)
    throw fail(Code::internal, "libwebp cannot write a picture of {} x {}: error {}", image.width, image.height,
               static_cast<int>(picture.error_code));
  return bytes;
}

}  // namespace

Image decode_webp(Bytes bytes, std::string_view name, const ImageLimits& limits) {
  const WebPBitstreamFeatures features = features_of(bytes, name);
  check_size(features.width, features.height, name, limits);
  const bool alpha = features.has_alpha != 0 || features.has_animation != 0;
  Image image{features.width, features.height, alpha ? 4 : 3, {}};
  const size_t size = static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * static_cast<size_t>(image.channels);
  bool read = false;
  if (features.has_animation != 0) {
    image.pixels = first_frame(bytes, size);
    read = !image.pixels.empty();
  } else {
    image.pixels.resize(size);
    const auto decode = alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto;
    read = decode(bytes.data(), bytes.size(), image.pixels.data(), size, image.width * image.channels) != nullptr;
  }
  if (!read) throw fail(Code::bad_file, "{} is a damaged WebP, or cut short", name);
  return upright(std::move(image), exif_of(open(bytes).get()).orientation);
}

Metadata webp_metadata(Bytes bytes, std::string_view name) {
  features_of(bytes, name);
  const Demuxer file = open(bytes);
  if (file == nullptr) throw fail(Code::bad_file, "{} is a damaged WebP, or cut short", name);
  const Bytes packet = chunk(file.get(), "XMP ");
  const std::string_view xmp(reinterpret_cast<const char*>(packet.data()), packet.size());
  return {.parameters = exif_of(file.get()).comment, .job = utf8_of(xmp_job(xmp)), .generated = xmp_generated(xmp)};
}

std::vector<uint8_t> encode_webp(const Image& image, const Metadata& metadata) {
  if (image.width > WEBP_MAX_DIMENSION || image.height > WEBP_MAX_DIMENSION)
    throw fail(Code::unsupported, "a WebP has at most {} pixels along a side, and the picture is {} x {}; write a PNG instead",
               WEBP_MAX_DIMENSION, image.width, image.height);
  std::vector<uint8_t> bytes = encode_pixels(image);
  const std::vector<uint8_t> exif = metadata.parameters.empty() ? std::vector<uint8_t>() : write_exif(metadata.parameters);
  const bool has_xmp = metadata.generated || !metadata.job.empty();
  const std::string xmp = has_xmp ? write_xmp(metadata.generated, metadata.job) : "";
  if (exif.empty() && xmp.empty()) return bytes;

  const std::unique_ptr<WebPMux, decltype(&WebPMuxDelete)> file(WebPMuxNew(), WebPMuxDelete);
  const auto set = [&](const char* kind, Bytes content) {
    const WebPData data = data_of(content);
    return content.empty() || WebPMuxSetChunk(file.get(), kind, &data, 0) == WEBP_MUX_OK;
  };
  const WebPData picture = data_of(bytes);
  WebPData whole{};
  const bool done = file != nullptr && WebPMuxSetImage(file.get(), &picture, 0) == WEBP_MUX_OK && set("EXIF", exif) &&
                    set("XMP ", Bytes(reinterpret_cast<const uint8_t*>(xmp.data()), xmp.size())) &&
                    WebPMuxAssemble(file.get(), &whole) == WEBP_MUX_OK;
  bytes.assign(whole.bytes, whole.bytes + whole.size);
  WebPDataClear(&whole);
  if (!done) throw fail(Code::internal, "libwebpmux cannot write the texts of a picture of {} x {}", image.width, image.height);
  return bytes;
}

}  // namespace cudream
