// The formats behind image.h. All of these throw Error naming the file.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/picture/image.h"

namespace cudream {

using Bytes = std::span<const uint8_t>;

Image decode_png(Bytes, std::string_view name, const ImageLimits&);
Image decode_jpeg(Bytes, std::string_view name, const ImageLimits&);
Image decode_webp(Bytes, std::string_view name, const ImageLimits&);
Metadata png_metadata(Bytes, std::string_view name);
Metadata jpeg_metadata(Bytes, std::string_view name);
Metadata webp_metadata(Bytes, std::string_view name);

// Before memory is taken: throws Error(bad_file) unless the size is within the limits.
void check_size(int64_t width, int64_t height, std::string_view name, const ImageLimits&);

// Appends for a C callback, which no exception may cross. False: out of memory.
bool append(std::vector<uint8_t>& to, Bytes bytes) noexcept;

// The JPEG marker segment or PNG keyword that holds Metadata::job.
constexpr std::string_view kJobKeyword = "cudream";

}  // namespace cudream
