// Chooses between a kernel of our own and NVIDIA's libraries, call by call.
//
// The choice sees the layer and one picture's rows: what the options say, what the library can do for that shape, and, for
// `automatic`, which of the two was measured to be faster (tuning.h). Measuring happens at the first call of a shape, on the
// call's own operands and into memory of its own, never inside a recording.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "kernels/cuda/dnn_runner.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/tuning.h"
#include "kernels/device.h"
#include "kernels/providers.h"

namespace cudream {

// How a linear goes to cuBLASLt: what the product itself takes in, and whether `finish` has to add the rest.
struct LinearSplit {
  MatmulShape shape;
  bool finish = false;
  bool possible = false;  // a residual that comes after an activation or gate cannot ride in the product
};
LinearSplit split_linear(DType type, int64_t rows, int64_t depth, int64_t outs, bool bias, const Epilogue& e);

// The same of a convolution and cuDNN.
struct ConvSplit {
  DnnConvolution shape;
  bool finish = false;
  bool possible = false;
};
ConvSplit split_conv(const View& x, const Shape& w, bool bias, const ConvArgs& a);

class Libraries {
 public:
  using Own = std::function<void(const View& out)>;  // our kernel, writing to `out`

  // Opens the libraries that the options name. Throws Error(device) where one is named and absent.
  Libraries(Gpu& gpu, const Providers& providers);

  void linear(const View& out, const View& x, const Linear& l, const Epilogue& e, const Own& own);
  void conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& a, const Own& own);
  void attention(const View& out, const View& q, const View& k, const View& v, const AttentionArgs& a, const Own& own);

  // Which libraries had a part in what was computed: "cuBLASLt 13.1.0 (12 linear)"; empty: none.
  std::string used() const;

 private:
  // Runs `library` where it is wanted or was measured to be faster, else `own`.
  void choose(LibraryUse wanted, const char* verb, const std::string& key, const View& out, const Own& own, const Own& library);
  bool is_library(LibraryUse wanted, const std::string& key, const View& out, const Own& own, const Own& library);
  double seconds(const View& like, const Own& body);
  void finish(const View& out, const Weight* bias, const Epilogue& e);

  Gpu& gpu_;
  Providers providers_;
  Tuning tuning_;
  std::unique_ptr<Matmul> matmul_;
  std::unique_ptr<DnnRunner> dnn_;
  std::map<std::string, std::set<std::string>> served_;  // by verb: the keys that a library served
};

}  // namespace cudream
