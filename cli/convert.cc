// cudream convert: a model in the other layout, in another precision, with LoRAs in its weights; always safetensors.
#include "loader/convert.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"

namespace cudream {
namespace {

struct Options {
  HostOptions host;
  std::string model, vae, precision, prediction, loras;
  std::filesystem::path output;
  bool overwrite = false;
};

// A file or folder that is there comes before a name of the catalog: most of what is converted lies where it was downloaded.
std::filesystem::path given_model(const Options& options) {
  if (std::filesystem::exists(options.model)) return options.model;
  return choose_model(options.host, options.model, Task::generate).path;
}

int run(const Options& options) {
  using Layout = Conversion::Layout;
  Model model = open_model(given_model(options), Checkpoints::read);
  if (!options.vae.empty()) model.replace_vae(choose_model(options.host, options.vae, Task::generate).path);
  if (const std::vector<Source>& unknown = model.names().unknown; !unknown.empty())
    options.host.notice(fmt::format("{} tensors of unknown meaning are left out: {}{}", unknown.size(),
                                    printable(model.names().stored(unknown.front()).name), unknown.size() > 1 ? ", ..." : ""));
  const auto notice = [&](const std::string& text) { options.host.notice(text); };
  const std::vector<LoraUse> loras = named_loras(open_catalog(options.host), options.loras);
  const WeightChanges changes = changes_of(loras, model, notice);

  const std::string suffix = options.output.extension().string();
  Conversion conversion{.layout = suffix == ".safetensors" ? Layout::single_file : Layout::folder,
                        .changes = &changes,
                        .exists = options.overwrite ? Exists::replace : Exists::refuse};
  if (suffix == ".ckpt" || suffix == ".pt" || suffix == ".bin" || suffix == ".gguf")
    throw fail(Code::usage, "-o {}: written are .safetensors files, and folders as diffusers has them", options.output.string());
  if (options.precision == "fp16") conversion.precision = FileType::f16;
  if (options.precision == "bf16") conversion.precision = FileType::bf16;
  if (options.precision == "fp32") conversion.precision = FileType::f32;
  if (options.prediction == "epsilon") conversion.prediction = Prediction::epsilon;
  if (options.prediction == "v") conversion.prediction = Prediction::v;
  if (!loras.empty()) conversion.added["merged_loras"] = names_of(loras);
  convert_model(model, conversion, options.output);
  log(LogLevel::info, "wrote {}", options.output.string());
  return 0;
}

}  // namespace

Command add_convert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("model", options->model, "A file or folder, or a model by name")->required();
  app.add_option("-o,--output", options->output, "NAME.safetensors: one file in the original keys; else a folder for diffusers")
      ->required()
      ->type_name("FILE|FOLDER");
  app.add_option("--precision", options->precision, "Of every weight: fp16, bf16 or fp32; as it is when left out")
      ->check(CLI::IsMember({"fp16", "bf16", "fp32"}));
  app.add_option("--lora", options->loras, "Add a LoRA to the weights for good: film or film:0.8, or several with commas")
      ->type_name("NAME[:STRENGTH]");
  app.add_option("--vae", options->vae, "With the autoencoder of this model or VAE file");
  app.add_option("--prediction", options->prediction, "What it predicts, epsilon or v, where its file does not say it (SD 2.1)")
      ->check(CLI::IsMember({"epsilon", "v"}));
  app.add_flag("--overwrite", options->overwrite, "Replace a file that exists");
  add_models_dir_option(app, options->host);
  add_strict_option(app, options->host);
  app.footer(R"(Examples:
  cudream convert my-model -o my-model-fp16.safetensors --precision fp16
  cudream convert folder/ -o single.safetensors
  cudream convert my-model -o for-diffusers/
  cudream convert old.ckpt -o old.safetensors                          reads the tensors of a pickle and runs none of it
  cudream convert my-model --lora film:0.8 -o my-model-film.safetensors

What a network reads is written, and nothing else: no averages or states of training.)");
  return [options] { return run(*options); };
}

}  // namespace cudream
