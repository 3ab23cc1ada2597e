// cudream batch: a file of prompts, one a line, with one model load.
#include <fmt/format.h>

#include <memory>
#include <sstream>

#include "cli/commands.h"
#include "cli/produce.h"
#include "cli/sheet.h"
#include "core/error.h"
#include "core/file.h"

namespace cudream {
namespace {

constexpr size_t kMaxFile = size_t{64} << 20;

struct Options {
  HostOptions host;
  JobOptions defaults;
  std::filesystem::path file, output, sheet;
  bool overwrite = false;
};

struct Line {
  int number = 0;
  std::string text;
};

std::vector<Line> read_lines(const std::filesystem::path& path) {
  std::istringstream in(read_text(path, kMaxFile));
  std::vector<Line> lines;
  int number = 0;
  for (std::string text; std::getline(in, text);) {
    number++;
    if (!text.empty() && text.back() == '\r') text.pop_back();
    const size_t begin = text.find_first_not_of(" \t");
    if (begin != std::string::npos && text[begin] != '#') lines.push_back({number, text.substr(begin)});
  }
  return lines;
}

// Where the flags of a line begin: at its first word that starts with "--" and a letter.
size_t flags_at(const std::string& text) {
  for (size_t i = text.find("--"); i != std::string::npos; i = text.find("--", i + 1)) {
    const bool word = i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t';
    if (word && i + 2 < text.size() && std::isalpha(static_cast<unsigned char>(text[i + 2]))) return i;
  }
  return text.size();
}

// Throws Error(usage): a line that does not parse is never painted.
JobOptions parse_line(const std::string& text, const JobOptions& defaults) {
  JobOptions line = defaults;
  const size_t flags = flags_at(text);
  line.job.prompt = text.substr(0, text.find_last_not_of(" \t", flags == 0 ? 0 : flags - 1) + 1);
  if (flags == 0) line.job.prompt.clear();
  CLI::App app;
  app.set_help_flag();
  add_job_options(app, line);
  try {
    app.parse(text.substr(flags), false);
  } catch (const CLI::ParseError& e) {
    throw fail(Code::usage, "{}", e.what());
  }
  if (line.job.model != defaults.job.model || line.job.vae != defaults.job.vae)
    throw fail(Code::usage, "a batch has one model; choose it with -m on the command line");
  return line;
}

std::vector<std::filesystem::path> paint_line(Session& session, const Options& options, const Line& line, OutputNames& names,
                                              Progress& progress) {
  const JobOptions parsed = parse_line(line.text, options.defaults);
  Production production{.job = parsed.job, .count = parsed.count, .exists = options.overwrite ? Exists::replace : Exists::refuse};
  production.job.seed = parsed.seed ? *parsed.seed : random_seed();
  production.job.model = session.model_name();
  complete(production.job, session.engine().spec());
  return produce(session, production, names, progress);
}

int run(const Options& options) {
  Progress progress(ProgressSink::of_process(options.host.json, options.host.quiet));
  set_log_sink([&](LogLevel level, std::string_view text) { progress.message(level, text); });

  const std::vector<Line> lines = read_lines(options.file);
  if (lines.empty()) throw fail(Code::usage, "{} holds no prompt", options.file.string());
  OutputNames names(options.output / "", true, options.overwrite ? Exists::replace : Exists::refuse);
  Session session(options.host, options.defaults.job.model, options.defaults.job.vae, progress);

  size_t failed = 0;
  std::vector<std::filesystem::path> written;
  for (const Line& line : lines) {
    try {
      const auto made = paint_line(session, options, line, names, progress);
      written.insert(written.end(), made.begin(), made.end());
    } catch (const Error& e) {
      // A full disk, a lost device or Ctrl-C ends the batch: the next line would fare no better.
      if (e.code() == Code::cancelled || e.code() == Code::device || e.code() == Code::io) throw;
      failed++;
      log(LogLevel::error, "{} line {}: {}", options.file.string(), line.number, e.what());
    }
  }
  if (!options.sheet.empty() && !written.empty())
    write_sheet(options.sheet, written, options.overwrite ? Exists::replace : Exists::refuse);
  log(LogLevel::info, "{} of {} lines done{}", lines.size() - failed, lines.size(),
      failed > 0 ? fmt::format(", {} failed", failed) : "");
  return failed == 0 ? 0 : static_cast<int>(Code::partial);
}

}  // namespace

Command add_batch(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("file", options->file, "One prompt a line, options after it; lines that begin with # are skipped")->required();
  app.add_option("-o,--output", options->output, "Folder for the pictures")->required();
  app.add_option("--sheet", options->sheet, "Also put all pictures side by side into this file")->type_name("FILE");
  app.add_flag("--overwrite", options->overwrite, "Replace files that exist");
  add_job_options(app, options->defaults);
  add_host_options(app, options->host);
  app.footer(R"(Example of a file:
  # one prompt a line
  a red house at night --seed 4
  a sailboat, calm sea --steps 30 --negative "clouds, rain"

Options on the command line hold for every line that does not say otherwise.)");
  return [options] { return run(*options); };
}

}  // namespace cudream
