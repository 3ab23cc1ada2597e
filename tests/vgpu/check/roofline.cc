// The least time a launch could take.
#include "tests/vgpu/check/roofline.h"

#include <array>
#include <numeric>
#include <utility>

namespace cudream::vgpu {
namespace {

constexpr double kSectorBytes = 32;

}  // namespace

Roofline roofline(const Counters& c, const Rates& rates) {
  Roofline r;
  const auto instructions = std::accumulate(c.instructions.begin() + 1, c.instructions.end(), uint64_t{0});
  r.tensor = static_cast<double>(c.mma_flops) / rates.tensor_flops;
  r.issue = static_cast<double>(instructions) / rates.instructions;
  r.shared = static_cast<double>(c.shared_wavefronts) / rates.shared_wavefronts;
  r.memory = kSectorBytes * static_cast<double>(c.global_read_sectors + c.global_write_sectors) / rates.memory_bytes;
  double longest = -1;
  const std::array<std::pair<double, std::string_view>, 4> bounds = {
      {{r.tensor, "tensor"}, {r.issue, "issue"}, {r.shared, "shared"}, {r.memory, "memory"}}};
  for (const auto& [seconds, name] : bounds) {
    if (seconds <= longest) continue;
    longest = seconds;
    r.bound = name;
  }
  return r;
}

}  // namespace cudream::vgpu
