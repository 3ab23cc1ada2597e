// One GPU as the verbs see it: memory, one stream of work, the kernels by name, and recordings of them. No verb is known here.
//
// Everything goes to the one stream in the order of the calls; only download() and release() wait. An error of work queued
// earlier appears at the next call that waits.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/card.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/driver.h"
#include "kernels/device.h"

namespace cudream {

class Gpu {
 public:
  // Opens the card and loads every kernel. Throws Error(unsupported) in a build without kernels, Error(device) where there is no
  // driver, no such card, a card before compute capability 8.0, or no machine code that it runs.
  explicit Gpu(int ordinal);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const std::string& description() const { return description_; }
  const std::string& model() const { return model_; }                    // "NVIDIA A100-SXM4-40GB"
  const std::string& driver_version() const { return driver_version_; }  // of CUDA: "13.0"
  int64_t memory_bytes() const { return memory_bytes_; }
  const Card& card() const { return card_; }

  int64_t free_bytes() const;
  void* allocate(int64_t bytes);       // Error(out_of_memory) says what is needed and what is free
  void release(void* at) noexcept;     // waits for the work queued before
  void* allocate_host(int64_t bytes);  // pinned: copies from it are not waited for
  void release_host(void* at) noexcept;
  // From pinned memory the copy runs later; other bytes are the caller's again on return: the driver takes them into a buffer
  // of its own.
  void upload(void* to, std::span<const std::byte> from);
  void download(std::span<std::byte> to, const void* from);

  template <typename Params>
  void launch(const Launch& launch, Params params) {
    start(launch, &params, sizeof(Params));
  }

  // The launches of `body` as a CUDA graph, replayed once. The recording ends on every path.
  std::unique_ptr<Replay> record(const std::function<void()>& body);
  bool recording() const { return recording_; }

  // How long the work that `body` queues takes, by the card's own clock. Waits.
  double seconds(const std::function<void()>& body);

  // For libraries that queue work of their own: makes the card current in this thread, and where the work goes.
  void use() const;
  Driver::Stream stream() const { return stream_.get(); }

  // The parts, for other files of this room.
  const Driver& driver() const { return driver_; }
  const std::string& name() const { return name_; }
  Owned<Driver::Stream> make_stream();
  Owned<Driver::Event> make_event();

 private:
  struct Entry {
    Driver::Function function;
    size_t parameter_bytes;
  };
  class Capture;
  class Recording;

  void find_card(int ordinal);
  void load_kernels();
  void start(const Launch& launch, void* params, size_t bytes);

  Driver driver_;
  Driver::Device device_ = 0;
  std::string name_, description_, model_, driver_version_;  // "cuda:0, NVIDIA A100 ..."
  int64_t memory_bytes_ = 0;
  Card card_;
  bool recording_ = false;
  Owned<Driver::Device> context_;
  Driver::Context current_ = nullptr;
  Owned<Driver::Stream> stream_;
  std::vector<Owned<Driver::Module>> modules_;
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace cudream
