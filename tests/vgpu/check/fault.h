// A fault is what a kernel did wrong. It ends the launch and, in the driver, the context with it.
#pragma once

#include <stdexcept>
#include <string>

namespace cudream::vgpu {

enum class FaultKind {
  illegal_address,     // outside every allocation, freed, or outside a shared, local or parameter space
  misaligned,          // an address that is no multiple of the access size
  uninitialised,       // a read of memory that nothing wrote
  race,                // two threads, one location, at least one write, nothing that orders them
  divergence,          // a barrier or warp-wide instruction that not all its threads reach
  async_in_flight,     // a read of what a cp.async has not delivered
  deadlock,            // threads wait for what nobody does any more
  illegal_instruction  // trap, or an instruction used against its rules
};

class Fault : public std::runtime_error {
 public:
  Fault(FaultKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  FaultKind kind() const { return kind_; }

 private:
  FaultKind kind_;
};

}  // namespace cudream::vgpu
