// Which of the instruction sets the device has code for this processor understands.
#pragma once

#include <string>

#include "kernels/cpu/kernels.h"

namespace cudream {

struct Isa {
  std::string name;                  // for people: "AVX-512 bf16"
  const Kernels* kernels = nullptr;  // null: not even AVX2
  bool bf16 = false;                 // multiplies bf16 natively
};

Isa detect_isa();
std::string processor_name();  // "AMD EPYC 9965"; "an unnamed processor" where it does not say

}  // namespace cudream
