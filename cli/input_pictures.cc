// One list of a folder.
#include "cli/input_pictures.h"

#include "core/error.h"
#include "core/log.h"

namespace cudream {

namespace fs = std::filesystem;

InputPictures::InputPictures(const fs::path& folder) : folder_(folder) {
  std::error_code ignored;
  if (!folder.empty() && !fs::is_directory(folder, ignored))
    throw fail(Code::not_found, "--inputs {}: no such folder", printable(folder.string()));
}

void InputPictures::look_up(Job& job) const {
  if (!job.image.empty()) job.image = find(job.image.string());
  if (!job.mask.empty() && job.mask != kAlphaMask) job.mask = find(job.mask.string());
  for (fs::path& file : job.control_images) file = find(file.string());
}

fs::path InputPictures::find(const std::string& name) const {
  if (folder_.empty())
    throw fail(Code::usage, "\"{}\": this worker has no input pictures; `cudream worker --inputs FOLDER` gives it some",
               printable(name));
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string() == name && entry->symlink_status(error).type() == fs::file_type::regular)
      return entry->path();
  if (error) throw fail(Code::io, "--inputs {}: {}", folder_.string(), error.message());
  throw fail(Code::not_found, "\"{}\": no input picture of this worker has this name (--inputs)", printable(name));
}

}  // namespace cudream
