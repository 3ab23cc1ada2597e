// Pictures in files: PNG, JPEG and WebP in and out, with the texts that say how a picture was made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"

namespace cudream {

// An 8-bit picture [H,W,C], rows from the top: C is 3 (RGB) or 4 (RGBA, alpha not premultiplied).
struct Image {
  int width = 0, height = 0, channels = 3;
  std::vector<uint8_t> pixels;
  bool operator==(const Image&) const = default;
};

// What a picture may claim and need. Sizes are checked in the header, before memory is taken.
struct ImageLimits {
  int64_t pixels = int64_t{64} << 20;
  int side = 65535;  // pixels along one side
  size_t file_bytes = size_t{256} << 20;
  size_t decoder_bytes = size_t{1} << 30;  // what a decoder may take beside the pixels (progressive JPEG)
};

// The texts stored with a picture, UTF-8. Empty: not there.
struct Metadata {
  std::string parameters;  // A1111's text: parameters.h writes and reads it
  std::string job;         // our own Job as JSON
  bool comfyui = false;    // read only: holds a ComfyUI workflow ("prompt" or "workflow")
  bool generated = false;  // made by a model: said in XMP as IPTC's digital source type "trainedAlgorithmicMedia"
};

enum class ImageFormat { png, jpeg, webp };

// Reads a PNG (of any depth and colour type), a JPEG (grey becomes RGB) or a WebP, told apart by content and not by name; JPEG
// and WebP upright by their EXIF orientation. Colour profiles and gamma are ignored, as Pillow does. 16-bit samples are rounded
// to 8 bits. Of an animated PNG the default picture is read, of an animated WebP the first. Throws Error naming the file:
// not_found or io; bad_file for what is damaged, cut short or above the limits; unsupported for CMYK and other kinds.
Image read_image(const std::filesystem::path&, const ImageLimits& = {});
Image decode_image(std::span<const uint8_t> bytes, std::string_view name, const ImageLimits& = {});

// Reads the texts alone; nothing that a text names is ever opened. Throws like read_image.
Metadata read_metadata(const std::filesystem::path&, const ImageLimits& = {});
Metadata decode_metadata(std::span<const uint8_t> bytes, std::string_view name);

// The format that a file's suffix asks for (.png, .jpg, .jpeg, .webp). Throws Error(usage) that lists the known ones.
ImageFormat image_format(const std::filesystem::path&);

constexpr int kJpegQuality = 95;

// The same picture and texts give the same bytes on every machine: compression, filters and the order of chunks are fixed.
// A JPEG takes 3 channels (over_white in convert.h makes them) and keeps colour at full size; a WebP keeps every pixel as it is
// (lossless). Throws Error(unsupported) when the texts do not fit a JPEG's segments of 64 KiB, or a side a WebP's 16383 pixels.
std::vector<uint8_t> encode_png(const Image&, const Metadata&);
std::vector<uint8_t> encode_jpeg(const Image&, const Metadata&, int quality = kJpegQuality);
std::vector<uint8_t> encode_webp(const Image&, const Metadata&);

// Encodes in the format of the suffix and writes by AtomicFile: whole, or not at all.
// Throws Error: usage for an unknown suffix, io when the disk is full or (Exists::refuse) the file is there already.
void write_image(const std::filesystem::path&, const Image&, const Metadata&, Exists);

}  // namespace cudream
