// A batch as one page of HTML: every picture, its settings by a click, and what failed. No script, nothing fetched.
#pragma once

#include <filesystem>
#include <vector>

#include "cli/batch_items.h"
#include "cli/batch_run.h"

namespace cudream {

// Written beside the pictures, which it names by relative links. All text is escaped. Throws Error(io).
void write_report(const std::filesystem::path& file, const std::vector<BatchItem>&, const std::vector<BatchResult>&);

}  // namespace cudream
