// The rules of entries.
#include "cli/queue_items.h"

#include <algorithm>
#include <charconv>

#include "cli/session.h"
#include "core/error.h"

namespace cudream {
namespace {

constexpr const char* kIndex = "index";          // the one field that is no option
constexpr size_t kMostBytes = size_t{64} << 10;  // of an entry

void set(Combination& fields, const std::string& name, const std::string& value) {
  std::erase_if(fields, [&](const auto& field) { return field.first == name; });
  fields.emplace_back(name, value);
}

// What holds on both sides: the submitting one says it before anything is sent, the working one believes nobody.
void require_names(const Job& job) {
  std::vector<std::string> names{path_among_names(job), job.image.string(), job.mask.string()};
  for (const std::filesystem::path& file : job.control_images) names.push_back(file.string());
  for (const std::string& name : names)
    if (name.find('/') != std::string::npos)
      throw fail(Code::usage,
                 "\"{}\" is a path: a queue takes names of models, LoRAs and others, and of pictures, that its workers have",
                 printable(name));
}

void require_small(const Combination& fields) {
  size_t bytes = 0;
  for (const auto& [name, value] : fields) bytes += name.size() + value.size();
  if (bytes > kMostBytes) throw fail(Code::usage, "{} bytes; an entry of a queue has at most {}", bytes, kMostBytes);
}

// Nothing that could end an option's name and begin another.
bool is_name(const std::string& text) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), good);
}

uint64_t index_of(const std::string& text) {
  uint64_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end != text.data() + text.size())
    throw fail(Code::usage, "index \"{}\": a whole number is expected", printable(text));
  return index;
}

void read_fields(ItemParser& parser, const InputPictures& inputs, const Combination& fields, QueuedItem& queued) {
  require_small(fields);
  for (const auto& [given, value] : fields) {
    const std::string name = parser.long_name(canonical_field(given));
    if (!is_name(name)) throw fail(Code::usage, "\"{}\" is no option", printable(given));
    if (name == kIndex)
      queued.index = index_of(value);
    else
      set(queued.item.fields, name, value);
  }
  queued.item.options = parser.parse(queued.item.fields);
  require_names(queued.item.options.job);
  inputs.look_up(queued.item.options.job);
  if (!queued.item.options.seed) throw fail(Code::usage, "there is no seed: an entry of a queue says its own");
  if (queued.item.options.count != 1)
    throw fail(Code::usage, "--count {}: an entry of a queue is one picture", queued.item.options.count);
}

}  // namespace

Combination queue_fields(const BatchItem& item, uint64_t index, uint64_t first_seed) {
  Job job = item.options.job;
  require_names(job);
  job.seed = first_seed;
  job = nth_picture(job, static_cast<uint64_t>(item.nth));
  Combination fields = item.fields;
  std::erase_if(fields, [](const auto& field) { return field.first == "count"; });
  set(fields, "seed", std::to_string(job.seed));
  if (job.variation_seed) set(fields, "variation-seed", std::to_string(*job.variation_seed));
  set(fields, kIndex, std::to_string(index));
  require_small(fields);
  return fields;
}

QueuedItem read_entry(ItemParser& parser, const InputPictures& inputs, const QueueEntry& entry) {
  QueuedItem queued{.item = {.where = "entry " + entry.id, .fields = {}}};
  try {
    read_fields(parser, inputs, entry.fields, queued);
  } catch (const Error& e) {
    if (e.code() == Code::io) throw;
    queued.item.error = e.what();
  }
  return queued;
}

}  // namespace cudream
