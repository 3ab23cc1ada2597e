// By the card, by its memory, by who asked.
#include "runtime/pass_size.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/composition.h"

namespace cudream {
namespace {

// The smallest products of a UNet are those of its deepest level: as many rows as all pictures have pixels there, as many columns
// as it has channels, cut into tiles of at most this side, of which each multiprocessor makes one at a time. After four full
// rounds a fifth one may be nearly empty, which wastes a fifth of that level's time; of the next level, with four times the
// pixels, a seventeenth. In SD 1.5 the deepest level has 5 % of the work and the next ones 24, 29 and 42 %, so all in all 4 % are
// wasted at most, half of it on the average, and larger passes could gain no more than that. Reckoned, not measured.
constexpr int64_t kTileSide = 128, kRounds = 4;
constexpr int64_t kMostPictures = 64;  // of networks so small that they never fill a card; --batch takes no more either

// What is free for passes. A sixteenth is left for what no plan knows of: recorded steps, handles and workspaces of libraries.
int64_t usable(int64_t free_bytes) {
  return free_bytes - free_bytes / 16;
}

int64_t mebibytes(int64_t bytes) {
  return (bytes + (1 << 20) - 1) >> 20;
}

}  // namespace

size_t largest_fitting(size_t most, const std::function<bool(size_t)>& fits) {
  if (most <= 1 || fits(most)) return std::max<size_t>(most, 1);
  size_t fitting = 1, too_many = most;
  while (fitting + 1 < too_many) {
    const size_t middle = fitting + (too_many - fitting) / 2;
    (fits(middle) ? fitting : too_many) = middle;
  }
  return fitting;
}

size_t filling_pictures(const Job& job, const ModelSpec& spec, int multiprocessors) {
  const UNetSpec& unet = *spec.unet;
  const int64_t shrunk = int64_t{spec.vae->factor()} << (unet.channels.size() - 1);
  const auto side = [&](int64_t pixels) { return (pixels + shrunk - 1) / shrunk; };
  const int64_t rows = static_cast<int64_t>(guidance_of(job, unet).branches.size()) * side(job.height) * side(job.width);
  const int64_t values = rows * unet.channels.back(), wanted = kRounds * multiprocessors * kTileSide * kTileSide;
  return static_cast<size_t>(std::clamp((wanted + values - 1) / values, int64_t{1}, kMostPictures));
}

std::string describe(const PassSize& size) {
  return fmt::format("passes of {} picture{}: {}", size.pictures, size.pictures == 1 ? "" : "s", size.why);
}

PassSize pass_size(const Job& job, const ModelSpec& spec, const PassBounds& bounds) {
  const bool one_by_one = bounds.device.multiprocessors == 0;
  if (bounds.asked == 0 && one_by_one) return {1, bounds.device.kind + " makes one after the other in any case"};
  const size_t most = bounds.asked > 0 ? bounds.asked : filling_pictures(job, spec, bounds.device.multiprocessors);
  const int64_t room = usable(bounds.free_bytes);
  const size_t pictures = largest_fitting(most, [&](size_t n) { return bounds.need(n) <= room; });
  if (pictures < most)
    return {pictures, fmt::format("{} need {} MiB of {}, and {} MiB are free for it", pictures + 1,
                                  mebibytes(bounds.need(pictures + 1)), bounds.device.kind, room >> 20)};
  if (bounds.asked > 0) return {pictures, "no more are asked for"};
  return {pictures, fmt::format("they fill the {} multiprocessors of {}", bounds.device.multiprocessors, bounds.device.kind)};
}

}  // namespace cudream
