// What a launch did, counted.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace cudream::vgpu {

struct Counters {
  std::array<uint64_t, 10> instructions{};                     // warp instructions by Class
  uint64_t mma_flops = 0;                                      // 2 m n k for each mma.sync
  uint64_t global_read_bytes = 0, global_write_bytes = 0;      // asked for by active lanes
  uint64_t global_read_sectors = 0, global_write_sectors = 0;  // distinct 32-byte sectors of each warp request
  uint64_t shared_wavefronts = 0, shared_ideal = 0;            // passes over the 32 banks, and the fewest possible
  uint64_t divergences = 0;

  void add(const Counters& other);
  // Members of a JSON object, without the braces.
  std::string json() const;
};

// Distinct 32-byte sectors that one warp request touches at `address[lane]`, lanes of `mask`; an aligned access stays in one.
uint32_t count_sectors(const uint64_t* address, uint32_t mask);

// Passes over the banks of shared memory that one warp request needs, and the fewest that its bytes could need
// (CUDA C++ Programming Guide, shared memory of compute capability 5.x: 32 banks of 4 bytes; wider accesses go by half or
// quarter warps).
struct Wavefronts {
  uint32_t needed = 0, ideal = 0;
};
Wavefronts count_wavefronts(const uint64_t* address, uint32_t mask, uint32_t bytes);

}  // namespace cudream::vgpu
