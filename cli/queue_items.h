// Items of a batch as entries of a queue, and back. An entry may come from anyone who can write to the queue: it is read by the
// option table of `generate`, like a line of a batch file, and has names of models and pictures, never a path.
#pragma once

#include <vector>

#include "cli/batch_items.h"
#include "cli/input_pictures.h"
#include "runtime/batch/queue.h"

namespace cudream {

// The options of a whole command line as an entry: its seed drawn and its --count counted, so that it is one picture wherever it
// is made; `index` is the item's place in its file. Throws Error(usage) for what a queue does not take.
Combination queue_fields(const BatchItem&, uint64_t index, uint64_t first_seed);

// What a worker is to make of an entry.
struct QueuedItem {
  BatchItem item;      // `error` says why nothing
  uint64_t index = 0;  // for its file name; 0: not given
};
// Throws Error(io) where the folder of input pictures is gone: no failure of the entry.
QueuedItem read_entry(ItemParser&, const InputPictures&, const QueueEntry&);

}  // namespace cudream
