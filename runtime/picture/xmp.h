// The XMP packet of a picture (ISO 16684-1): that a model made it, and in a WebP our own Job.
#pragma once

#include <string>
#include <string_view>

namespace cudream {

// Iptc4xmpExt:DigitalSourceType, "trainedAlgorithmicMedia" (IPTC Photo Metadata Standard 2023.1), where `generated`; and `job`,
// UTF-8, as an attribute of our own, where it is not empty.
std::string write_xmp(bool generated, std::string_view job);

// The job in a packet that write_xmp wrote; empty: there is none.
std::string xmp_job(std::string_view packet);
bool xmp_generated(std::string_view packet);

}  // namespace cudream
