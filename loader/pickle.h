// The tensors that a pickle of torch.save describes. A pickle is a program; here only the few instructions are known with which
// torch.save builds dictionaries of tensors, and nothing that could call anything: an instruction or a name that is not on
// the lists ends the reading (PEP 307 and 3154; Lib/pickletools.py describes every instruction).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loader/safetensors.h"

namespace cudream {

// A tensor of a checkpoint: elements of a storage, which the archive holds as "data/KEY".
struct PickledTensor {
  std::string name;
  FileType type = FileType::f32;
  std::string storage;
  uint64_t storage_values = 0, first = 0;  // elements of the storage; where the tensor begins in it
  std::vector<uint64_t> shape;
};

// Those of the dictionary "state_dict", or of the outermost one. `file` is named in messages. Throws Error(bad_file) for a pickle
// that is damaged, Error(unsupported) for one that asks for more, naming the instruction or the name.
std::vector<PickledTensor> read_pickle(std::span<const std::byte> pickle, const std::string& file);

}  // namespace cudream
