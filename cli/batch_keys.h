// What the key of an item says of what it names: the bytes, so that other bytes under the same name make a new item.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "cli/batch_items.h"
#include "cli/session.h"

namespace cudream {

class Stamps {
 public:
  explicit Stamps(const HostOptions& host)
      : host_(host), catalog_(open_catalog(host)), wildcards_(open_wildcards(host, catalog_)) {}
  std::string of_models(const ModelNames&) const;  // throws as choose_model does
  // Of what an item names beside its models: LoRAs, textual inversions, ControlNets, the lists of its wildcards.
  std::string named_beside(const BatchItem&);

 private:
  const HostOptions& host_;
  Catalog catalog_;
  Wildcards wildcards_;
  std::map<std::filesystem::path, std::string> hashes_;  // of adapter files
};

}  // namespace cudream
