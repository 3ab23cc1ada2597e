// Who computes what on a CUDA device: kernels of our own, or NVIDIA's libraries.
#pragma once

#include <cstdint>

namespace cudream {

// automatic: whoever was measured to be faster on this card with this driver (--tune), and our own where nothing was measured.
enum class LibraryUse : uint8_t { automatic, never, always };

struct Providers {
  LibraryUse gemm = LibraryUse::automatic;       // the library is cuBLASLt
  LibraryUse conv = LibraryUse::automatic;       // cuDNN
  LibraryUse attention = LibraryUse::automatic;  // cuDNN
  bool tune = false;                             // measure what `automatic` has no figures for, and keep them

  bool has(LibraryUse which) const { return gemm == which || conv == which || attention == which; }
};

}  // namespace cudream
