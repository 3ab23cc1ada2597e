// cudream batch: the pictures of a file, kept in a journal, so that the same command goes on where it was stopped.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/batch_items.h"
#include "cli/batch_queue.h"
#include "cli/batch_report.h"
#include "cli/batch_run.h"
#include "cli/commands.h"
#include "cli/sheet.h"
#include "core/error.h"

namespace cudream {
namespace {

using State = BatchResult::State;

constexpr uint64_t kMostPictures = 100'000;

struct Options : BatchOptions {
  JobOptions defaults;  // only for the option table: items are parsed anew over what stands on the command line
  std::string format, shard_text = "1/1", queue, devices_text;
  std::filesystem::path sheet;
  bool expand_only = false, report = false;
};

BatchFormat format_of(const Options& options) {
  if (options.format == "csv") return BatchFormat::csv;
  if (options.format == "jsonl") return BatchFormat::jsonl;
  if (options.format == "yaml") return BatchFormat::yaml;
  return options.format == "text" ? BatchFormat::text : batch_format(options.file);
}

// What would be made, an item a line.
int list(const std::vector<BatchItem>& items, bool as_json) {
  size_t wrong = 0;
  for (const BatchItem& item : items) {
    wrong += !item.error.empty();
    nlohmann::ordered_json j{{"where", item.where}};
    std::string text = item.where + ":";
    for (const auto& [name, value] : item.fields) {
      j[name] = value;
      if (name != "count") text += fmt::format(" {}={}", name, printable(value));
    }
    if (item.nth > 0) {
      j["nth"] = item.nth;
      text += fmt::format(" seed+{}", item.nth);
    }
    if (!item.error.empty()) {
      j["error"] = item.error;
      text += " error: " + printable(item.error);
    }
    fmt::print("{}\n", as_json ? j.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) : text);
  }
  log(LogLevel::info, "{} pictures{}", items.size() - wrong, wrong > 0 ? fmt::format(", {} items are wrong", wrong) : "");
  return wrong == 0 ? 0 : static_cast<int>(Code::partial);
}

// As it stands below a picture: of files the names are enough.
std::string label_of(const std::string& option, const std::string& value) {
  const bool file = option == "image" || option == "mask" || option == "control-image";
  return option + " " + (file ? std::filesystem::path(value).filename().string() : value);
}

// What tells an item from the others: the values of the options in which items differ, and the seed.
std::vector<std::vector<std::string>> labels(const std::vector<BatchItem>& items, const std::vector<BatchResult>& results) {
  std::map<std::string, std::set<std::string>> values;
  std::vector<std::map<std::string, std::string>> given;
  for (const BatchItem& item : items) {
    given.emplace_back(item.fields.begin(), item.fields.end());
    for (const auto& [name, value] : item.fields) values[name];
  }
  for (auto& [name, known] : values)
    for (auto& fields : given) known.insert(fields[name]);
  std::vector<std::vector<std::string>> all;
  for (size_t i = 0; i < items.size(); i++) {
    std::vector<std::string>& label = all.emplace_back();
    if (values["prompt"].size() > 1) label.push_back(given[i]["prompt"]);
    std::string rest = fmt::format("seed {}", results[i].seed);
    for (const auto& [name, known] : values)
      if (known.size() > 1 && name != "prompt" && name != "seed" && name != "count" && !given[i][name].empty())
        rest += ", " + label_of(name, given[i][name]);
    label.push_back(rest);
  }
  return all;
}

void write_extras(const Options& options, const std::vector<BatchItem>& items, const BatchRun& run) {
  std::vector<SheetCell> cells;
  const std::vector<std::vector<std::string>> label = labels(items, run.results());
  for (size_t i = 0; i < items.size(); i++)
    if (run.results()[i].state == State::done) cells.push_back({run.results()[i].file, label[i]});
  if (!options.sheet.empty() && !cells.empty())
    write_sheet(options.sheet, cells, options.overwrite ? Exists::replace : Exists::refuse);
  if (options.report) write_report(options.output / "report.html", items, run.results());
}

int make_here(const Options& options, const ItemParser& parser, const std::vector<BatchItem>& items, Progress& progress) {
  finish_on_terminate();
  BatchRun batch(options, parser, items, progress);
  try {
    batch.run();
  } catch (const Error&) {
    log(LogLevel::info, "{}; the same command goes on from here", batch.summary());
    throw;
  }
  write_extras(options, items, batch);
  const bool stopped = finish_requested && batch.count(State::left) > 0;
  log(LogLevel::info, "{}{}", batch.summary(), stopped ? "; the same command goes on from here" : "");
  if (stopped) return static_cast<int>(Code::cancelled);
  return batch.count(State::failed) == 0 ? 0 : static_cast<int>(Code::partial);
}

int make_elsewhere(const Options& options, const std::vector<BatchItem>& items, Progress& progress) {
  Redis redis(parse_queue_address(options.queue), [] { return stop_requested.load(); });
  QueueProducer queue(redis);
  QueuedBatch batch(options.file, items, queue, progress);
  batch.submit();
  batch.follow();
  log(LogLevel::info, "{}", batch.summary());
  return batch.failed() == 0 ? 0 : static_cast<int>(Code::partial);
}

int run(const Options& options, const ItemParser& parser, const std::vector<BatchItem>& items) {
  Progress progress(ProgressSink::of_process(options.host.json, options.host.quiet));
  set_log_sink([&](LogLevel level, std::string_view text) { progress.message(level, text); });
  if (items.empty()) throw fail(Code::usage, "{} holds no prompt", options.file.string());
  if (options.expand_only) return list(items, options.host.json);
  if (!options.queue.empty()) return make_elsewhere(options, items, progress);
  return make_here(options, parser, items, progress);
}

// What says where and how pictures are made is said to the workers of a queue.
void add_queue_option(CLI::App& app, std::string& queue) {
  CLI::Option* option =
      app.add_option("--queue", queue,
                     "Submit the items to redis://[USER@]HOST[:PORT]/STREAM, where `cudream worker` makes them, "
                     "and follow them until all are done")
          ->type_name("URL");
  for (const char* name : {"--output",  "--overwrite", "--retry-failed", "--shard",      "--batch",     "--report",    "--sheet",
                           "--device",  "--devices",   "--precision",    "--gemm",       "--conv",      "--attention", "--tune",
                           "--threads", "--offload",   "--loader",       "--models-dir", "--wildcards", "--strict"})
    option->excludes(app.get_option(name));
}

}  // namespace

Command add_batch(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("file", options->file, "Prompts and options, as text, CSV, JSONL or YAML; - reads standard input")->required();
  app.add_option("-o,--output", options->output, "Folder for the pictures, and for the journal that lets a stopped batch go on");
  app.add_option("--format", options->format, "Of the file: text, csv, jsonl, yaml; from its suffix when left out")
      ->check(CLI::IsMember({"text", "csv", "jsonl", "yaml"}));
  app.add_flag("--expand-only", options->expand_only, "List what would be made, and make nothing");
  app.add_flag("--retry-failed", options->retry_failed, "Try items again that failed in an earlier run");
  app.add_option("--shard", options->shard_text,
                 "I/N: make every N-th item only, from the I-th on; for N runs that share a file and a folder")
      ->type_name("I/N");
  app.add_option("-b,--batch", options->together,
                 "Pictures computed together at most; when left out, as many as fill the device, if they fit")
      ->check(CLI::Range(1, 64));
  app.add_flag("--report", options->report, "Also write report.html: every picture with its settings, and what failed");
  app.add_option("--sheet", options->sheet,
                 "Also put all pictures side by side into this file, each with what tells it from the others")
      ->type_name("FILE");
  app.add_flag("--overwrite", options->overwrite, "Replace files that exist");
  add_job_options(app, options->defaults);
  add_host_options(app, options->host);
  app.add_option("--devices", options->devices_text, "Share the items between several GPUs, such as 0,1 (cuda:0 and cuda:1)")
      ->type_name("N,N...")
      ->excludes(app.get_option("--device"));
  add_queue_option(app, options->queue);
  app.footer(R"(Example of a file:
  # one prompt a line, options after it
  a red house at night --seed 4
  # options alone hold for the lines below
  --steps 30 --sampler "euler a"
  a sailboat, calm sea --negative "clouds, rain"
  # four pictures: a range, and an option given twice
  a lighthouse --seed 1..2 --guidance 5 --guidance 8

Options on the command line hold for every line that does not say otherwise. A batch that was stopped, killed or ran out of
disk goes on with the same command: nothing is made twice.)");
  return [&app, options] {
    if (options->output.empty() && options->queue.empty() && !options->expand_only)
      throw fail(Code::usage, "-o FOLDER is required: where the pictures go");
    options->shard = parse_shard(options->shard_text);
    if (!options->devices_text.empty()) options->devices = parse_devices(options->devices_text);
    ItemParser parser;
    const std::vector<Record> records = read_records(options->file, format_of(*options));
    const std::vector<BatchItem> items = batch_items(parser, records, parser.given(app), kMostPictures);
    return run(*options, parser, items);
  };
}

}  // namespace cudream
