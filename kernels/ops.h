// Ops: one method per verb. It checks shapes and types, takes memory, calls the device or composes what it lacks, and
// counts. Networks and samplers are written against this class and nothing below it.
//
// Two arenas. The session arena holds what outlives a stage: latents, text states, a sampler's history. A *stage* (one
// prediction of the UNet, one decoding) takes its blocks from the stage arena, which is empty before and after it and
// follows the layout of its key; so each prediction of one shape has the same addresses, and every stage shares one slab.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/arena.h"
#include "kernels/device.h"

namespace cudream {

// What Ops saw in one kind of call: for `bench`, `plan` and the tests that pin call counts.
struct Count {
  int64_t calls = 0;
  double flops = 0;  // multiply and add count as two
  double bytes = 0;  // inputs, weights and outputs, each once; of a table the rows that are asked for
};

// x and, if there is one, x2 behind it along the last axis: two places in memory, or one.
struct Joined {
  Joined(View only) : x(only) {}           // NOLINT: most inputs are one
  Joined(const Tensor& only) : x(only) {}  // NOLINT
  Joined(Tensor first, Tensor second) : owned{std::move(first), std::move(second)}, x(owned[0]), x2(owned[1].view()) {}
  int64_t channels() const { return x.shape.back() + (x2 ? x2.shape.back() : 0); }

  std::array<Tensor, 2> owned;  // by join()
  View x, x2{};
};

class Ops {
 public:
  explicit Ops(Device& device) : device_(device) {}
  ~Ops();
  Ops(const Ops&) = delete;
  Ops& operator=(const Ops&) = delete;

  Device& device() const { return device_; }
  DType compute() const { return device_.info().compute; }  // the type of activations inside networks

  using Counts = std::map<std::string, Count>;
  struct Stage {
    ArenaLayout layout;
    int64_t runs = 0;
    Counts counts;             // of one run
    bool moves_bytes = false;  // to or from the host
  };
  struct Plan {
    ArenaLayout session;
    std::map<std::string, Stage> stages;
    Counts counts;            // outside stages
    int64_t stage_bytes = 0;  // of the largest stage
    int64_t bytes() const { return session.bytes + stage_bytes; }
  };

  // Runs `job` calling no verb, and plans both arenas. run() then gives it memory and runs it for real; the job must take
  // the same blocks in the same order. Slabs are kept between runs; both arenas are empty after either, also on an Error.
  Plan rehearse(const std::function<void()>& job);
  int64_t missing_bytes(const Plan&) const;  // what run() will allocate beside the slabs it has
  void run(const Plan& plan, const std::function<void()>& job);
  bool rehearsing() const { return rehearsal_ != nullptr; }
  int64_t rehearsed_stage_bytes() const;  // in a rehearsal: of the largest stage so far
  void release();                         // gives the slabs back; the next run takes new ones

  // The body's blocks come from the stage arena; its result is copied into `out`, a session tensor. Stages do not nest.
  // Equal keys mean equal blocks. `inputs` are all the session tensors that the body reads; a rehearsal, in which the body of
  // a key runs once, checks that. Where the device keeps recordings, the second run of a stage at the same addresses is
  // recorded and later ones replay it, unless the body moves bytes to or from the host.
  void stage(const std::string& key, std::span<const View> inputs, View out, const std::function<Tensor()>& body);
  // Recordings end with the weights they read: to be called before those change their addresses.
  void forget_recordings() { recordings_.clear(); }
  int64_t replays() const { return replays_; }  // so far

  // Whether opposite edges of pictures are neighbors in convolutions, until it is set anew: left and right, top and bottom.
  struct Wrap {
    bool x = false, y = false;
  };
  void set_wrap(Wrap wrap) { wrap_ = wrap; }
  Wrap wrap() const { return wrap_; }

  // Networks name their inner results here, so that tests can compare them block by block. Does nothing unless set.
  using Tap = std::function<void(const std::string& name, View x)>;
  void set_tap(Tap tap) { tap_ = std::move(tap); }
  template <typename... Args>
  void tap(View x, fmt::format_string<Args...> name, Args&&... args) {
    if (tap_ && !rehearsing()) tap_(fmt::format(name, std::forward<Args>(args)...), x);
  }

  // Called in place of the device for every verb of a run, to carry it out and measure it; nothing is recorded meanwhile.
  struct Call {
    const char* verb;
    std::span<const View* const> views;      // the output, then the inputs; some may be empty
    std::span<const Weight* const> weights;  // some may be null
    Count cost;
  };
  using Watch = std::function<void(const Call&, const std::function<void()>& carry_out)>;
  void set_watch(Watch watch) { watch_ = std::move(watch); }

  Tensor make(DType type, const Shape& shape);
  Tensor upload(DType type, const Shape& shape, std::span<const std::byte> bytes);
  template <typename T>
  Tensor upload(DType type, const Shape& shape, std::span<const T> values) {
    return upload(type, shape, std::as_bytes(values));
  }
  std::vector<float> download(View x);                 // f32, dense; zeros in a rehearsal
  void write(View to, std::span<const float> values);  // f32, dense, of a tensor that is there; between stages

  Tensor linear(const Joined& x, const Linear& l, const Epilogue& e = {});
  Tensor geglu(View x, const Linear& l);
  Tensor conv2d(View x, const Conv& c, const ConvArgs& args = {});
  Tensor attention(View q, View k, View v, const AttentionArgs& args);
  Tensor group_norm(const Joined& x, const Norm& n, const NormArgs& args);
  Tensor layer_norm(View x, const Norm& n);
  Tensor act(View x, Act a);
  Tensor multiply(View a, View b);
  Tensor combine(std::initializer_list<Term> terms) { return combine(std::span(terms.begin(), terms.size())); }
  Tensor combine(std::span<const Term> terms);
  Tensor lerp(View a, View b, View weight);
  Tensor cast(View x, DType type);  // dense copy in another type
  Tensor concat(View a, View b);    // along the last axis
  Joined join(Tensor a, Tensor b);  // likewise, without a copy where the device reads both where they lie
  void copy(View out, View x);
  Tensor gather(const Weight& table, View ids);
  Tensor sinusoid(View t, int64_t channels, float max_period, bool flip, float shift);

 private:
  // A stage at certain addresses, as often as it ran, and how to run it again.
  struct Recorded {
    std::string key;
    std::vector<const void*> places;  // the stage's slab, its output, its inputs
    int64_t runs = 0;
    std::unique_ptr<Replay> replay;
  };
  struct Slab {
    void* at = nullptr;
    int64_t bytes = 0;
  };
  void fit(Slab& slab, int64_t bytes);
  void give_back(Slab& slab);
  void rehearse_stage(const std::string& key, std::span<const View> inputs, View out, const std::function<Tensor()>& body);
  Recorded& recorded(const std::string& key, std::span<const View> inputs, View out);
  void reads(std::span<const View* const> views) const;
  void call(const char* verb, double flops, const std::vector<const View*>& views, std::initializer_list<const Weight*> weights,
            const std::function<void()>& carry_out);
  Tensor wrapped_conv2d(View x, const Conv& c, const ConvArgs& args);
  Tensor wrapped(View x, int64_t rows, int64_t columns);

  Device& device_;
  Tap tap_;
  Watch watch_;
  Wrap wrap_;
  Arena session_{"session", uintptr_t{1} << 45}, stage_{"stage", uintptr_t{1} << 46};
  Arena* arena_ = &session_;          // where make() takes from
  Plan* rehearsal_ = nullptr;         // the plan being made; then no verb is called
  Counts* counts_ = nullptr;          // where calls are counted
  std::vector<View> places_;          // of the session, that the stage which is rehearsed may touch
  bool* moves_bytes_ = nullptr;       // set by uploads and downloads in the stage that is rehearsed
  const Plan* following_ = nullptr;   // the plan of the run in progress
  std::vector<Recorded> recordings_;  // the latest used last
  int64_t replays_ = 0;
  Slab session_slab_, stage_slab_;
};

}  // namespace cudream
