// The figures of --tune: for each shape of a call, how long our kernel and a library's took on this card with this driver.
//
// They are kept in one file a card, driver and library version: $XDG_CACHE_HOME/cudream (or ~/.cache/cudream), tuning-CARD.json.
// A file that is damaged or of another card, driver or library is not used: one warning says so, and --tune writes it anew.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace cudream {

struct Figures {
  double own_us = 0, library_us = 0;
};

// What figures are valid for.
struct TuningOf {
  std::string card, driver;     // "NVIDIA A100-SXM4-40GB", "13.0"
  std::string cublaslt, cudnn;  // versions; empty: absent
  bool operator==(const TuningOf&) const = default;
};

std::filesystem::path tuning_file(const std::string& card);

class Tuning {
 public:
  Tuning() = default;
  explicit Tuning(TuningOf of) : of_(std::move(of)) {}
  // Figures of that file; none where there is no such file. Throws Error(bad_file) where it cannot be used.
  static Tuning read(const std::filesystem::path& file, const TuningOf& of);

  bool empty() const { return figures_.empty(); }
  std::optional<Figures> find(const std::string& key) const;
  void add(const std::string& key, Figures figures) { figures_[key] = figures; }
  // Whole or not at all. Throws Error(io).
  void write(const std::filesystem::path& file) const;

 private:
  TuningOf of_;
  std::map<std::string, Figures> figures_;
};

}  // namespace cudream
