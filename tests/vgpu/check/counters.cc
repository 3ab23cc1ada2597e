// Counting traffic.
#include "tests/vgpu/check/counters.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {

void Counters::add(const Counters& other) {
  for (size_t i = 0; i < instructions.size(); i++) instructions[i] += other.instructions[i];
  mma_flops += other.mma_flops;
  global_read_bytes += other.global_read_bytes;
  global_write_bytes += other.global_write_bytes;
  global_read_sectors += other.global_read_sectors;
  global_write_sectors += other.global_write_sectors;
  shared_wavefronts += other.shared_wavefronts;
  shared_ideal += other.shared_ideal;
  divergences += other.divergences;
}

std::string Counters::json() const {
  std::string mix;
  for (size_t i = 1; i < instructions.size(); i++)
    mix += fmt::format("{}\"{}\":{}", i > 1 ? "," : "", kClassNames[i], instructions[i]);
  return fmt::format(
      "\"instructions\":{{{}}},\"mma_flops\":{},\"global_read_bytes\":{},\"global_write_bytes\":{},\"global_read_sectors\":{},"
      "\"global_write_sectors\":{},\"shared_wavefronts\":{},\"shared_ideal\":{},\"divergences\":{}",
      mix, mma_flops, global_read_bytes, global_write_bytes, global_read_sectors, global_write_sectors, shared_wavefronts,
      shared_ideal, divergences);
}

uint32_t count_sectors(const uint64_t* address, uint32_t mask) {
  std::array<uint64_t, 64> sectors;
  uint32_t n = 0;
  uint64_t last = ~uint64_t{0};
  for (uint32_t lane = 0; lane < 32; lane++) {
    if ((mask >> lane & 1) == 0) continue;
    const uint64_t sector = address[lane] / 32;  // an aligned access of 16 bytes or less stays within one sector
    if (sector == last) continue;
    last = sector;
    sectors[n++] = sector;
  }
  std::sort(sectors.begin(), sectors.begin() + n);
  return static_cast<uint32_t>(std::unique(sectors.begin(), sectors.begin() + n) - sectors.begin());
}

Wavefronts count_wavefronts(const uint64_t* address, uint32_t mask, uint32_t bytes) {
  const uint32_t lanes = bytes <= 4 ? 32 : 128 / bytes;  // that one pass can serve
  Wavefronts total;
  for (uint32_t first = 0; first < 32; first += lanes) {
    std::array<std::array<uint64_t, 32>, 32> words;  // distinct words by bank
    std::array<uint32_t, 32> used{};
    uint32_t most = 0;
    for (uint32_t lane = first; lane < first + lanes; lane++) {
      if ((mask >> lane & 1) == 0) continue;
      for (uint64_t word = address[lane] / 4; word <= (address[lane] + bytes - 1) / 4; word++) {
        auto& bank = words[word % 32];
        uint32_t& n = used[word % 32];
        if (std::find(bank.begin(), bank.begin() + n, word) == bank.begin() + n) bank[n++] = word;
        most = std::max(most, n);
      }
    }
    total.needed += most;
    total.ideal += most > 0;
  }
  return total;
}

}  // namespace cudream::vgpu
