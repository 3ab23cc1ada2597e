// What a file is, told by its content and never by its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace cudream {

enum class FileKind {
  safetensors,  // may still break every rule of the format
  truncated,    // a safetensors header that is longer than the file
  empty,
  zeros,       // begins with zeros: space set aside by a download that did not run
  zip_pickle,  // .ckpt, .pt, .bin of PyTorch since 1.6
  raw_pickle,  // older ones
  gguf,
  lfs_pointer,  // git-LFS: a text of three lines in place of the file
  html,         // an error or login page, saved in place of the file
  json,         // a text, such as an error message or an index file
  unknown,
};

inline constexpr size_t kKindBytes = 512;  // how much of a file's start is looked at

// `first`: the first kKindBytes of the file, or all of a shorter one.
FileKind kind_of(std::span<const std::byte> first, uint64_t file_bytes);
FileKind kind_of(const std::filesystem::path&);

// Throws for everything but safetensors and unknown, which the header's rules judge: what the file is and what to do.
// Error(unsupported) for pickle and GGUF, Error(bad_file) for the rest.
void refuse_other_kinds(FileKind, const std::filesystem::path&);

}  // namespace cudream
