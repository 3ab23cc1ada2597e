// ControlNets beside a model: loaded when a job asks for them, kept while the next ones do.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec.h"
#include "kernels/weight.h"
#include "nets/controlnet.h"

namespace cudream {

// How strongly a ControlNet acts, and during which share of the steps.
struct ControlWindow {
  double strength = 1, start = 0, end = 1;
  // Whether it acts in step `step` of `steps`: one that lies in the window altogether, as the reference has it.
  bool holds(size_t step, size_t steps) const;
  bool operator==(const ControlWindow&) const = default;
};

// NAME[:STRENGTH[:START[:END]]], as --control takes it.
struct ControlText {
  std::string name;
  ControlWindow window;
  std::string str() const;
};
ControlText parse_control(std::string_view text);                    // Throws Error(usage)
std::vector<ControlText> parse_controls(std::string_view controls);  // separated by commas

// A ControlNet file, or folder, and how it acts.
struct ControlUse {
  std::filesystem::path path;
  ControlWindow window;
  bool operator==(const ControlUse&) const = default;
};

// A ControlNet that is ready.
struct Control {
  const ControlNet* net = nullptr;
  ControlWindow window;
};

class Controls {
 public:
  // Those that act from now on, for a model of this spec; others are given up. Reads headers only.
  // Throws Error(unsupported) for what is no ControlNet, or one for other models; and what opening it throws.
  void prepare(const std::vector<ControlUse>&, const ModelSpec&, const Device&);
  // Reads the weights of those that have none yet. Throws Error(out_of_memory) before it reads what does not fit.
  void load(Device&);
  std::span<const Control> active() const { return active_; }
  int64_t weight_bytes() const;

 private:
  struct Loaded;
  std::vector<std::shared_ptr<Loaded>> loaded_;
  std::vector<Control> active_;
};

}  // namespace cudream
