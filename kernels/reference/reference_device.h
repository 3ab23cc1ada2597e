// The reference device: every verb in the plainest float, the oracle of all tests.
#pragma once

#include <memory>

#include "kernels/device.h"

namespace cudream {

std::unique_ptr<Device> open_reference();

}  // namespace cudream
