// A PyTorch checkpoint (.ckpt, .pt, .bin) as a table of tensors: its archive and its pickle read as data, nothing of it run.
#pragma once

#include "loader/safetensors.h"
#include "loader/zip.h"

namespace cudream {

// The tensors in the order of the file; storages that lie there need not follow one another, and several tensors may share one.
// Throws as stored_entries and read_pickle do, and Error(bad_file) where a storage is missing or not as long as it says.
SafetensorsHeader read_checkpoint(const ByteSource& file);

}  // namespace cudream
