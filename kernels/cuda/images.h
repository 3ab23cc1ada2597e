// The machine code and PTX of the kernels that this build carries: one fatbin per .cu file, put into the program as it is.
#pragma once

#include <span>
#include <string_view>

namespace cudream {

struct KernelImage {
  std::string_view name;  // of the .cu file
  std::string_view fatbin;
};

// Empty in a build without nvcc.
std::span<const KernelImage> kernel_images();

// The CUDA version of the compiler, as cuDriverGetVersion counts (13.0 is 13000), and what it compiled for ("sm_80, sm_120
// and PTX for newer cards").
int kernel_images_version();
std::string_view kernel_images_targets();

}  // namespace cudream
