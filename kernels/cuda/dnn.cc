// Opening libcudnn.
#include "kernels/cuda/dnn.h"

#include <array>

#include "kernels/cuda/library.h"

namespace cudream {

Dnn open_dnn() {
  const Library library = open_library("CUDREAM_LIBCUDNN", {"libcudnn.so.9"}, "cuDNN library", "or run without --conv cudnn");
  Dnn d{};
  library.find(d.version, "cudnnGetVersion");
  library.find(d.status_text, "cudnnGetErrorString");
  library.find(d.last_error, "cudnnGetLastErrorString");
  library.find(d.create, "cudnnCreate");
  library.find(d.destroy, "cudnnDestroy");
  library.find(d.set_stream, "cudnnSetStream");
  library.find(d.descriptor_create, "cudnnBackendCreateDescriptor");
  library.find(d.descriptor_destroy, "cudnnBackendDestroyDescriptor");
  library.find(d.set, "cudnnBackendSetAttribute");
  library.find(d.get, "cudnnBackendGetAttribute");
  library.find(d.finalize, "cudnnBackendFinalize");
  library.find(d.execute, "cudnnBackendExecute");
  return d;
}

void Dnn::check(Status status, const char* doing) const {
  if (status == 0) return;
  std::array<char, 512> why{};
  last_error(why.data(), why.size());
  const bool unsupported = status >= kNotSupported && status < kNotSupported + 1000;
  throw fail(unsupported ? Code::unsupported : Code::device, "cuDNN, {}: {} {}", doing, status_text(status), why.data());
}

std::string version_text(const Dnn& d) {
  const size_t v = d.version();
  return fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}

}  // namespace cudream
