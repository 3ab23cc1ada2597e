// What a case of a verb runs on: VerbStage makes its inputs, weights and output on a device, and what came out is compared.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace cudream {

// Inputs, weights and output of one case on one device. Values depend on the case's own order of asking and, for inputs, on
// the picture's number; so picture 2 of three has the values that picture 2 alone has.
class VerbStage {
 public:
  // Holds pictures [first, first + pictures).
  VerbStage(Device& device, int64_t pictures, int64_t first = 0) : device_(device), pictures_(pictures), first_(first) {}
  ~VerbStage();
  VerbStage(const VerbStage&) = delete;
  VerbStage& operator=(const VerbStage&) = delete;

  // From now on the last element of every picture's first input is a NaN.
  void poison() { poisoned_ = true; }
  Device& device() const { return device_; }
  int64_t pictures() const { return pictures_; }
  DType compute() const { return device_.info().compute; }

  // [pictures, one...] with values around `mean`, of standard deviation 1, exact in bf16.
  View input(const Shape& one, float mean = 0) { return input(one, compute(), mean); }
  View input(const Shape& one, DType type, float mean = 0);
  View shared_input(const Shape& all, DType type);  // the same for all pictures
  View integers(const Shape& all, const std::vector<int32_t>& values);
  View output(const Shape& one) { return output(one, compute()); }
  View output(const Shape& one, DType type);
  const Weight* weight(Use use, const Shape& shape);
  const Weight* vector(int64_t n, float mean = 0);
  Norm norm(int64_t channels, float eps);

 private:
  View make(const Shape& shape, DType type);
  View filled(const Shape& shape, DType type, const std::vector<float>& values);
  struct Block {
    void* at;
    int64_t bytes;
  };
  Device& device_;
  int64_t pictures_, first_;
  uint32_t next_seed_ = 1;
  bool poisoned_ = false;
  std::vector<Block> blocks_;
  std::deque<Weight> weights_;
};

struct VerbRun {
  std::function<void()> run;
  View out;
};

struct VerbCase {
  std::string name;
  std::function<VerbRun(VerbStage&)> prepare;
  double flops = 0;  // of one picture; multiply and add count as two
};

// The output as float, in row-major order, and as raw bytes.
std::vector<float> values_of(Device& device, const View& x);
std::vector<std::byte> bytes_of(Device& device, const View& x);

// The output of a case for pictures [first, first + pictures).
std::vector<float> run_values(Device& device, const VerbCase& c, int64_t pictures, int64_t first = 0);
std::vector<std::byte> run_bytes(Device& device, const VerbCase& c, int64_t pictures, int64_t first = 0);

// |got - want| / |want| over all elements; infinite when they cannot be compared.
double relative_l2(const std::vector<float>& got, const std::vector<float>& want);

}  // namespace cudream
