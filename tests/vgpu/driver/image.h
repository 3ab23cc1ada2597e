// Module images: PTX text, or a fat binary that holds it.
#pragma once

#include <string>

namespace cudream::vgpu {

// The PTX of an image for a card of compute capability `capability` (80 for 8.0): the newest of those it can run. A fat
// binary begins with magic 0xba55ed50 and is read only without compression (nvcc --compress-mode=none). Empty when there is
// none, as for a bare cubin.
std::string ptx_of_image(const void* image, int capability);

}  // namespace cudream::vgpu
