// Which of the instruction sets the device has code for this processor understands.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernels.h"

namespace cudream {

struct Isa {
  std::string name;  // for people: "AVX-512 bf16"
  const Kernels* kernels = nullptr;
  bool bf16 = false;  // multiplies bf16 natively
};

// What this processor understands, the best first; empty: not even AVX2. Asks Linux for the use of AMX tiles.
std::vector<Isa> supported_isas();
std::string processor_name();  // "AMD EPYC 9965"; "an unnamed processor" where it does not say

}  // namespace cudream
