// Outpainting, planned: how a picture grows frame by frame, none larger than the model is used to. Pure.
#pragma once

#include <string>
#include <vector>

#include "runtime/canvas.h"

namespace cudream {

// Pixels added on each side.
struct Growth {
  int left = 0, top = 0, right = 0, bottom = 0;
  bool operator==(const Growth&) const = default;
};

// "left,top,right,bottom", each in pixels or percent of the picture's side ("25%"), or one value for all four.
// Throws Error(usage) for anything else, and when nothing grows.
Growth read_growth(const std::string& text, int width, int height);

struct OutpaintPlan {
  int width = 0, height = 0;  // of the grown canvas
  Rect kept;                  // where the picture lies on it
  // What is painted, one after the other: all of a frame that is not known by then. A side grows by half the native size at a
  // time, and a frame shows as much of what is known as it can.
  std::vector<Rect> frames;
};
OutpaintPlan plan_outpaint(int width, int height, const Growth&, int native_size);

}  // namespace cudream
