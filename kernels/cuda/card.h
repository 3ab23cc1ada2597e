// What choices know of a card.
#pragma once

namespace cudream {

inline constexpr int kReservedShared = 1024;  // of a block, for the system (CUDA C++ Programming Guide, compute capability 8.x)

// Rates are of one multiprocessor, per cycle of it; memory's of the whole card.
struct Card {
  int multiprocessors = 0;
  int shared_bytes = 0;     // of one multiprocessor
  double mma_cycles = 0;    // of one m16n8k16 with sums in float, on one of the four parts of a multiprocessor
  double l2_bytes = 0;      // read from L2; data sheets do not say: measured on 9.0, else assumed
  double memory_bytes = 0;  // to and from device memory
};

// `capability` 80 means 8.0; clocks in kHz, memory_bits the width of its bus.
Card card_of(int capability, int multiprocessors, int shared_bytes, int clock, int memory_clock, int memory_bits);

}  // namespace cudream
