// Magic numbers, and a sentence for each.
#include "loader/kind.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/file.h"

namespace cudream {
namespace {

std::string lower_case_start(std::string_view text) {
  const size_t first = std::min(text.find_first_not_of(" \t\r\n\xEF\xBB\xBF"), text.size());
  std::string start(text.substr(first, 16));
  std::transform(start.begin(), start.end(), start.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return start;
}

}  // namespace

FileKind kind_of(std::span<const std::byte> first, uint64_t file_bytes) {
  if (file_bytes == 0) return FileKind::empty;
  const std::string_view text(reinterpret_cast<const char*>(first.data()), first.size());
  // A header's length and its brace come first: a length may look like another kind's magic.
  if (text.size() > 8 && text[8] == '{') {
    uint64_t length = 0;
    std::memcpy(&length, text.data(), 8);
    if (length <= file_bytes - 8) return FileKind::safetensors;
    if (length <= 100'000'000) return FileKind::truncated;
  }
  if (text.starts_with("PK\x03\x04")) return FileKind::zip_pickle;
  if (text.size() > 1 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5) return FileKind::raw_pickle;
  if (text.starts_with("GGUF")) return FileKind::gguf;
  if (text.starts_with("version https://git-lfs")) return FileKind::lfs_pointer;
  const std::string start = lower_case_start(text);
  if (start.starts_with("<!doctype html") || start.starts_with("<html")) return FileKind::html;
  if (start.starts_with("{")) return FileKind::json;
  if (text.size() > 8 && text.find_first_not_of('\0') == std::string_view::npos) return FileKind::zeros;
  return FileKind::unknown;
}

FileKind kind_of(const std::filesystem::path& path) {
  const MappedFile file(path);
  std::array<std::byte, kKindBytes> first{};
  const std::span<std::byte> start = std::span(first).first(std::min(first.size(), file.size()));
  file.read(start, 0);
  return kind_of(start, file.size());
}

void refuse_other_kinds(FileKind kind, const std::filesystem::path& path) {
  const std::string file = path.string();
  switch (kind) {
    case FileKind::safetensors:
    case FileKind::unknown: return;
    case FileKind::truncated:
      throw fail(Code::bad_file, "{} ends inside its header (InvalidHeaderLength): the download was cut short; download it again",
                 file);
    case FileKind::empty: throw fail(Code::bad_file, "{} is empty (HeaderTooSmall): download it again", file);
    case FileKind::zeros:
      throw fail(Code::bad_file, "{} begins with zeros: its download did not finish; download it again", file);
    case FileKind::zip_pickle:
      throw fail(
          Code::unsupported,
          "{} is a PyTorch pickle (.ckpt, .pt, .bin), made to run code when it is opened. Convert it once, which runs none: "
          "cudream convert '{}' -o '{}'",
          file, file, std::filesystem::path(path).replace_extension(".safetensors").string());
    case FileKind::raw_pickle:
      throw fail(
          Code::unsupported,
          "{} is a PyTorch pickle from before PyTorch 1.6, which can run any code when it is opened, so it is not read. Get "
          "the model as .safetensors.",
          file);
    case FileKind::gguf:
      throw fail(Code::unsupported, "{} is a GGUF file, which is not read. Get the model as .safetensors.", file);
    case FileKind::lfs_pointer:
      throw fail(Code::bad_file, "{} is a git-LFS pointer, not the model itself: run `git lfs pull` in its folder", file);
    case FileKind::html:
      throw fail(Code::bad_file,
                 "{} is a web page, not a model: the site wanted a log-in or did not find the file; download it again", file);
    case FileKind::json:
      throw fail(Code::bad_file, "{} is a JSON text, not a model: look into it, it may say why the download failed", file);
  }
}

}  // namespace cudream
