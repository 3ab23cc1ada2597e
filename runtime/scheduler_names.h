// Names of samplers and schedules: ours, and those of AUTOMATIC1111, ComfyUI and diffusers as aliases.
#pragma once

#include <string_view>
#include <vector>

#include "runtime/schedule.h"

namespace cudream {

struct NamedSampler {
  std::string_view name;   // ours, as --sampler takes it: "dpm++2m"
  std::string_view label;  // the web UI's, as the metadata of a picture has it: "DPM++ 2M"
};

// Every name that --sampler and --schedule list.
std::vector<NamedSampler> sampler_names();
std::vector<std::string_view> schedule_names();

// Sets the sampler (with what belongs to it: order, algorithm, eta) of a configuration, and the schedule when the name has
// one in it ("DPM++ 2M Karras", "dpmpp_2m_karras"). Upper and lower case, spaces, "-" and "_" do not matter.
// An unknown name is Error(usage), which lists the nearest ones.
void set_sampler(ScheduleConfig& config, std::string_view name);
void set_schedule(ScheduleConfig& config, std::string_view name);

// The names of a configuration's sampler and schedule; the ones that set_sampler and set_schedule take.
NamedSampler sampler_name(const ScheduleConfig& config);
std::string_view schedule_name(const ScheduleConfig& config);

}  // namespace cudream
