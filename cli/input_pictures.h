// The pictures that items of a queue may start from: files of one folder, found by name and by nothing else.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/job.h"

namespace cudream {

class InputPictures {
 public:
  // Nothing: there are none. Throws Error(not_found) where there is no such folder.
  explicit InputPictures(const std::filesystem::path& folder);

  // Puts the files in place of the names that a job has for its picture, its mask and what its ControlNets see. A name is looked
  // up in the list of the folder's own files and never joined to a path; links are not in it. The folder is read anew each time,
  // as pictures may come while the worker runs. Throws Error: usage (there is no folder), not_found, io (it cannot be read).
  void look_up(Job&) const;

 private:
  std::filesystem::path find(const std::string& name) const;
  std::filesystem::path folder_;
};

}  // namespace cudream
