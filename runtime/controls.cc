// Opening, comparing and loading ControlNets.
#include "runtime/controls.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/log.h"
#include "loader/model.h"

namespace cudream {

bool ControlWindow::holds(size_t step, size_t steps) const {
  const auto share = [&](size_t n) { return static_cast<double>(n) / static_cast<double>(steps); };
  return share(step) >= start && share(step + 1) <= end;
}

std::string ControlText::str() const {
  return fmt::format("{}:{:g}:{:g}:{:g}", name, window.strength, window.start, window.end);
}

ControlText parse_control(std::string_view text) {
  constexpr double kMost = 10;
  ControlText control;
  const std::string_view whole = text;
  control.name = text.substr(0, text.find(':'));
  text.remove_prefix(control.name.size());
  double* const numbers[] = {&control.window.strength, &control.window.start, &control.window.end};
  for (double* number : numbers) {
    if (text.empty()) break;
    text.remove_prefix(1);  // the colon
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
    if (error != std::errc()) break;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
  if (control.name.empty() || !text.empty())
    throw fail(Code::usage, "--control \"{}\": expected NAME, NAME:STRENGTH or NAME:STRENGTH:START:END", printable(whole));
  const ControlWindow& w = control.window;
  if (!(w.strength >= 0 && w.strength <= kMost))
    throw fail(Code::usage, "--control \"{}\": the strength {} must lie between 0 and {}", printable(whole), w.strength, kMost);
  if (!(w.start >= 0 && w.start < w.end && w.end <= 1))
    throw fail(Code::usage, "--control \"{}\": it acts from {} to {}, which must be shares of the steps, 0 <= START < END <= 1",
               printable(whole), w.start, w.end);
  return control;
}

std::vector<ControlText> parse_controls(std::string_view controls) {
  std::vector<ControlText> parsed;
  while (!controls.empty()) {
    const size_t end = std::min(controls.find(','), controls.size());
    parsed.push_back(parse_control(controls.substr(0, end)));
    controls.remove_prefix(std::min(end + 1, controls.size()));
  }
  return parsed;
}

struct Controls::Loaded {
  Loaded(const std::filesystem::path& at, Model opened)
      : path(at), model(std::move(opened)), net(store.root() / "controlnet", *model.spec().controlnet) {}
  std::filesystem::path path;
  Model model;
  WeightStore store;
  ControlNet net;
  WeightLayout layout;
  bool has_weights = false;
};

namespace {

// Why its residuals do not fit the UNet of a model, a sentence; empty: they do.
std::string misfit(const ControlNetSpec& control, const ModelSpec& model) {
  const UNetSpec &mine = control.encoder, &unet = *model.unet;
  if (mine.context != unet.context)
    return fmt::format("it reads text of width {}, and this model's has {}", mine.context, unet.context);
  if (mine.channels != unet.channels || mine.down_depth.size() != unet.down_depth.size() ||
      !std::ranges::equal(mine.down_depth, unet.down_depth, {}, &std::vector<int>::size, &std::vector<int>::size))
    return "its blocks are not those of this model's UNet";
  if (mine.pooled_embedding != unet.pooled_embedding)
    return fmt::format("it reads {} numbers beside the text, and this model has {}", mine.pooled_embedding,
                       unet.pooled_embedding);
  if (mine.in_channels != model.vae->latent_channels)
    return fmt::format("it reads latents of {} channels, and this model's have {}", mine.in_channels, model.vae->latent_channels);
  if (1 << (control.hint_channels.size() - 1) != model.vae->factor())
    return "its picture becomes latents of another size than this model's";
  return "";
}

Model open_controlnet(const std::filesystem::path& path, const ModelSpec& spec) {
  Model model = open_model(path);
  const Identity& id = model.identity();
  if (!id.spec.controlnet)
    throw fail(Code::unsupported, "--control {}: it is no ControlNet ({} {})", path.string(), id.family, id.task);
  if (const std::string why = misfit(*id.spec.controlnet, spec); !why.empty())
    throw fail(Code::unsupported, "--control {}: this ControlNet is for another kind of model ({}): {}", path.string(), id.family,
               why);
  return model;
}

}  // namespace

void Controls::prepare(const std::vector<ControlUse>& uses, const ModelSpec& spec, const Device& device) {
  std::vector<std::shared_ptr<Loaded>> wanted;
  active_.clear();
  for (const ControlUse& use : uses) {
    const auto same = [&](const auto& l) { return l->path == use.path; };
    std::shared_ptr<Loaded> mine;
    for (const auto* known : {&wanted, &loaded_})
      if (const auto at = std::ranges::find_if(*known, same); !mine && at != known->end()) mine = *at;
    if (!mine) {
      mine = std::make_shared<Loaded>(use.path, open_controlnet(use.path, spec));
      mine->layout = plan_weights(mine->model, mine->store, device, false);
    }
    if (std::ranges::find(wanted, mine) == wanted.end()) wanted.push_back(mine);
    active_.push_back({&mine->net, use.window});
  }
  loaded_ = std::move(wanted);
}

void Controls::load(Device& device) {
  for (const auto& mine : loaded_) {
    if (mine->has_weights) continue;
    const int64_t need = mine->layout.device_bytes() + device.packing_bytes(), free = device.free_bytes();
    if (need > free)
      throw fail(Code::out_of_memory, "the ControlNet {} needs {} MiB of {} beside the model, and {} MiB are free",
                 mine->path.string(), (need >> 20) + 1, device.info().kind, free >> 20);
    load_weights(mine->model, mine->store, device);
    mine->has_weights = true;
  }
}

int64_t Controls::weight_bytes() const {
  int64_t sum = 0;
  for (const auto& mine : loaded_) sum += mine->layout.device_bytes();
  return sum;
}

}  // namespace cudream
