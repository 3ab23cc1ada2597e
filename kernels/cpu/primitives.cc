// Descriptors out of block shapes, and the calls into oneDNN.
#include "kernels/cpu/primitives.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"

namespace cudream {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

memory::data_type type_of(DType type) {
  return type == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// What oneDNN makes or runs while this lives uses the one thread that calls it.
class SingleThread {
 public:
  SingleThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThread() { omp_set_num_threads(before_); }
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int before_;
};

template <typename Body>
auto translated(const Body& body) {
  try {
    return body();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw fail(Code::out_of_memory, "oneDNN has no memory left: {}", e.what());
    throw fail(Code::internal, "oneDNN: {}", e.what());
  }
}

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

dnnl::inner_product_forward::primitive_desc product(const BlockShape& s, const memory::desc& weights,
                                                    const dnnl::engine& engine) {
  const memory::desc x({s.height, s.in}, type_of(s.type), Tag::nc), out({s.height, s.out}, type_of(s.out_type), Tag::nc);
  const memory::desc bias = s.bias ? memory::desc({s.out}, memory::data_type::f32, Tag::a) : memory::desc();
  return {{dnnl::prop_kind::forward_inference, x, weights, bias, out}, attributes(), engine};
}

dnnl::convolution_forward::primitive_desc convolution(const BlockShape& s, const memory::desc& weights,
                                                      const dnnl::engine& engine) {
  const memory::desc x({1, s.in, s.height, s.width}, type_of(s.type), Tag::nhwc);
  const memory::desc out({1, s.out, s.out_height, s.out_width}, type_of(s.out_type), Tag::nhwc);
  const memory::desc bias = s.bias ? memory::desc({s.out}, memory::data_type::f32, Tag::a) : memory::desc();
  return {{dnnl::prop_kind::forward_inference,
           dnnl::algorithm::convolution_direct,
           x,
           weights,
           bias,
           out,
           {s.stride, s.stride},
           {s.pad_top, s.pad_left},
           {s.pad_bottom, s.pad_right}},
          attributes(),
          engine};
}

// Calls body with the primitive descriptor of the right kind and the primitive's class.
template <typename Body>
auto with_desc(const BlockShape& s, const memory::desc& weights, const dnnl::engine& engine, const Body& body) {
  const SingleThread single;
  return translated([&] {
    if (s.kernel == 0) return body(product(s, weights, engine));
    return body(convolution(s, weights, engine));
  });
}

memory::dims weight_dims(int64_t out, int64_t in, int64_t kernel) {
  return kernel == 0 ? memory::dims{out, in} : memory::dims{out, in, kernel, kernel};
}

}  // namespace

Primitive::Primitive(const dnnl::primitive_desc_base& desc, const dnnl::primitive& primitive, const dnnl::engine& engine,
                     int threads)
    : primitive_(primitive), scratch_bytes_(static_cast<int64_t>(desc.scratchpad_desc().get_size())) {
  const auto memory_of = [&](const memory::desc& d) { return memory(d, engine, nullptr); };
  for (int i = 0; i < threads; i++) {
    Handles h{dnnl::stream(engine), {}, {}};
    const std::pair<int, memory::desc> places[] = {{DNNL_ARG_SRC, desc.query_md(dnnl::query::src_md, 0)},
                                                   {DNNL_ARG_WEIGHTS, desc.query_md(dnnl::query::weights_md, 0)},
                                                   {DNNL_ARG_BIAS, desc.query_md(dnnl::query::weights_md, 1)},
                                                   {DNNL_ARG_DST, desc.query_md(dnnl::query::dst_md, 0)},
                                                   {DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc()}};
    for (const auto& [arg, d] : places) {
      h.memories.push_back(memory_of(d));
      h.args.push_back({arg, h.memories.back().get()});
    }
    handles_.push_back(std::move(h));
  }
}

void Primitive::run(int thread, const void* x, const void* weights, const float* bias, void* out, void* scratch) {
  Handles& h = handles_[static_cast<size_t>(thread)];
  const void* places[] = {x, weights, bias, out, scratch};
  for (size_t i = 0; i < h.memories.size(); i++) h.memories[i].set_data_handle(const_cast<void*>(places[i]));
  const dnnl_status_t status =
      dnnl_primitive_execute(primitive_.get(), h.stream.get(), static_cast<int>(h.args.size()), h.args.data());
  invariant(status == dnnl_success, "oneDNN cannot run a primitive: status {}", static_cast<int>(status));
}

memory::desc Primitives::dense_weights(DType type, int64_t out, int64_t in, int64_t kernel) {
  return {weight_dims(out, in, kernel), type_of(type), kernel == 0 ? Tag::ab : Tag::abcd};
}

memory::desc Primitives::preferred_weights(const BlockShape& s) {
  const auto known = preferred_.find(s);
  if (known != preferred_.end()) return known->second;
  const memory::desc any(weight_dims(s.out, s.in, s.kernel), type_of(s.type), Tag::any);
  return preferred_[s] = with_desc(s, any, engine_, [](const auto& desc) { return desc.weights_desc(); });
}

Primitive* Primitives::find(const BlockShape& shape, const memory::desc& weights) {
  std::vector<Entry>& entries = made_[shape];
  for (const Entry& e : entries)
    if (e.weights == weights) return e.primitive.get();
  auto made = with_desc(shape, weights, engine_, [&](const auto& desc) -> std::unique_ptr<Primitive> {
    if (std::string_view(desc.impl_info_str()).starts_with("ref")) return nullptr;
    return std::make_unique<Primitive>(desc, dnnl::primitive(desc), engine_, threads_);
  });
  entries.push_back({shape, weights, std::move(made)});
  return entries.back().primitive.get();
}

void Primitives::reorder(const memory::desc& from, const void* source, const memory::desc& to, void* target) {
  const SingleThread single;
  translated([&] {
    dnnl::stream stream(engine_);
    memory source_memory(from, engine_, const_cast<void*>(source)), target_memory(to, engine_, target);
    dnnl::reorder(source_memory, target_memory).execute(stream, source_memory, target_memory);
    return 0;
  });
}

}  // namespace cudream
