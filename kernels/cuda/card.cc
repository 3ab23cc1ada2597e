// Rates by compute capability (CUDA C++ Programming Guide, arithmetic throughput) and by what the driver tells.
#include "kernels/cuda/card.h"

namespace cudream {

Card card_of(int capability, int multiprocessors, int shared_bytes, int clock, int memory_clock, int memory_bits) {
  // Sums in float at a quarter of the data-center rate on GeForce (8.6, 8.9, 12.0). 9.0 as measured on an H200 (bench/tiles.cu);
  // of what wgmma's successors do, mma.sync is assumed to reach some 62 %.
  const bool data_center = capability % 10 == 0 && capability < 120;
  Card c{.multiprocessors = multiprocessors, .shared_bytes = shared_bytes};
  c.mma_cycles = capability == 80 ? 8 : capability == 90 ? 10 : data_center ? 6.4 : 32;
  c.l2_bytes = capability == 80 ? 47 : capability == 90 ? 31 : data_center ? 40 : 16;
  c.memory_bytes = clock > 0 ? 2.0 * memory_clock * memory_bits / 8 / clock : 1000;  // two transfers a clock
  return c;
}

}  // namespace cudream
