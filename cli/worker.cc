// cudream worker: makes the pictures of a queue, beside other workers.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>

#include "cli/commands.h"
#include "cli/queue_worker.h"
#include "core/error.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

struct Options : WorkerOptions {
  std::string queue;
  int claim_after = 300;  // seconds
};

// Different for all workers of a queue.
std::string worker_name() {
  char host[256] = "host";
  ::gethostname(host, sizeof host - 1);
  return fmt::format("{}-{}", host, ::getpid());
}

int run(const Options& options) {
  Progress progress(ProgressSink::of_process(options.host.json, options.host.quiet));
  set_log_sink([&](LogLevel level, std::string_view text) { progress.message(level, text); });
  const QueueAddress address = parse_queue_address(options.queue);
  std::error_code error;
  fs::create_directories(options.output, error);
  if (error) throw fail(Code::io, "cannot make {}: {}", options.output.string(), error.message());

  finish_on_terminate();
  Redis redis(address, [] { return stop_requested || finish_requested; });
  QueueConsumer queue(redis, worker_name(), std::chrono::seconds(options.claim_after));
  log(LogLevel::info, "waiting for items of {}", address.str());
  QueueWorker worker(options, queue, progress);
  worker.run();
  log(LogLevel::info, "{}", worker.summary());
  return 0;
}

}  // namespace

Command add_worker(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--queue", options->queue, "Where the items are: redis://[USER@]HOST[:PORT]/STREAM")
      ->required()
      ->type_name("URL");
  app.add_option("-o,--output", options->output, "Folder for the pictures; workers may share it")
      ->required()
      ->type_name("FOLDER");
  app.add_option("--inputs", options->inputs,
                 "Folder of the pictures that items may name (--image, --mask, --control-image); without it they may name none")
      ->type_name("FOLDER");
  app.add_option("--claim-after", options->claim_after,
                 "Seconds after which what another worker took, and takes no step of, is made here; longer than loading a model")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  app.add_flag("--until-empty", options->until_empty, "End when nothing is left in the queue, instead of waiting for more");
  app.add_option("-b,--batch", options->together,
                 "Items taken and computed together at most; when left out, as many as fill the device, if they fit")
      ->check(CLI::Range(1, 64));
  add_host_options(app, options->host);
  app.footer(R"(Examples:
  cudream worker --queue redis://render.example/pictures -o /mnt/pictures
  cudream worker --queue redis://localhost/pictures -o out --until-empty
  cudream worker --queue redis://localhost/pictures -o out --inputs photos       items may say --image fox.png: photos/fox.png
  cudream batch prompts.txt --queue redis://render.example/pictures        submits the items and follows them

The password of Redis is read from the environment variable CUDREAM_QUEUE_PASSWORD. SIGTERM ends a worker after the pass in
work; what it took and did not make is left to the others.)");
  return [options] { return run(*options); };
}

}  // namespace cudream
