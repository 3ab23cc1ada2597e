// The way back: from canonical names to those of the original layout, in which single files are stored.
#pragma once

#include <string>
#include <string_view>

#include "core/spec.h"
#include "loader/names.h"

namespace cudream {

// Where a canonical weight lies in a single file.
struct OriginalPlace {
  std::string name;
  bool transpose = false;     // stored [in,out]
  int piece = 0, pieces = 1;  // q, k and v of OpenCLIP are one tensor: which third of its rows this is
};

// Canonical names of one model -> the original layout's. OpenCLIP's names for SD 2's text encoder and SDXL's second one; what the
// original layout has no name for (LCM's guidance embedding) keeps its own behind the part's prefix.
class OriginalNames {
 public:
  OriginalNames(const NameTable& names, Family family);  // `names` must outlive it
  OriginalPlace operator()(std::string_view canonical) const;

 private:
  std::string_view prefix(std::string_view part) const;
  bool has_attention(int up_level) const;

  const NameTable& names_;
  Family family_;
  int blocks_per_level_ = 1, vae_levels_ = 1;
};

}  // namespace cudream
