// Between 8-bit pictures and the float arrays that networks make and take, and to other sizes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/picture/image.h"

namespace cudream {

enum class Layout { hwc, chw };                // [H,W,3] or [3,H,W]
enum class Range { zero_one, minus_one_one };  // what black and white are

// RGB by the reference's rule (diffusers, VaeImageProcessor): clamp to the range, then round(x * 255), halves to even.
// Throws Error(device) when values are not finite: such a picture is not shown as if it were one.
Image to_image(std::span<const float> values, int width, int height, Layout, Range);

// x / 255 for zero_one, 2 * (x / 255) - 1 for minus_one_one; 3 channels. Alpha must have been dealt with: see over_white.
std::vector<float> to_floats(const Image&, Layout, Range);

// RGB of an RGBA picture laid over white, as viewers show it; an RGB picture as it is.
Image over_white(const Image&);

// Turned upright by the orientation of its EXIF block (CIPA DC-008, tag Orientation).
Image upright(Image, int orientation);

// To any size, aspect not kept: Lanczos with three lobes, widened by the factor when shrinking (so every pixel counts),
// columns first, 8 bits between the passes. The same bytes as Pillow's Image.resize(size, LANCZOS), which the reference
// uses for its inputs. RGB only.
Image resize(const Image&, int width, int height);

}  // namespace cudream
