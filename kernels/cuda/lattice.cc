// Joining axes.
#include "kernels/cuda/lattice.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/error.h"

namespace cudream {

int kernel_int(int64_t value) {
  if (value > std::numeric_limits<int>::max())
    throw fail(Code::unsupported, "an array of {} elements: {} are the most a CUDA kernel takes; use a smaller picture or batch",
               value, std::numeric_limits<int>::max());
  return static_cast<int>(value);
}

Lattice join_axes(std::initializer_list<View> views, std::initializer_list<Operand*> operands) {
  const Shape& shape = views.begin()->shape;
  invariant(views.size() == operands.size(), "{} operands for {} views", operands.size(), views.size());
  for (const View& v : views) invariant(v.shape == shape, "a pointwise verb over {} and {}", shape.str(), v.shape.str());

  // Each joined axis is known by its innermost member, which has its stride. An axis lies behind the joined one within it where
  // one step along it is as far as all of that one's; axes of one element are passed over.
  struct Axis {
    size_t innermost;
    int64_t n;
  };
  std::vector<Axis> axes;  // innermost first
  for (int i = shape.rank; i-- > 0;) {
    const auto axis = static_cast<size_t>(i);
    if (shape[i] == 1) continue;
    const bool behind = !axes.empty() && std::all_of(views.begin(), views.end(), [&](const View& v) {
      return v.stride[axis] == v.stride[axes.back().innermost] * axes.back().n;
    });
    if (behind)
      axes.back().n *= shape[i];
    else
      axes.push_back({axis, shape[i]});
  }
  std::reverse(axes.begin(), axes.end());

  Lattice lattice{.n = {1, 1, 1, 1}, .rank = static_cast<int>(axes.size()), .size = kernel_int(shape.size())};
  for (size_t a = 0; a < axes.size(); a++) lattice.n[a] = kernel_int(axes[a].n);
  auto operand = operands.begin();
  for (const View& v : views) {
    Operand& o = **operand++;
    o = {.data = v.data, .stride = {}, .type = v.dtype};
    for (size_t a = 0; a < axes.size(); a++) o.stride[a] = v.stride[axes[a].innermost];
  }
  return lattice;
}

int neighbours(const Lattice& lattice, std::initializer_list<const Operand*> operands) {
  const auto inner = static_cast<size_t>(std::max(lattice.rank, 1) - 1);
  const auto together = [&](int each) {
    return lattice.n[inner] % each == 0 && std::all_of(operands.begin(), operands.end(), [&](const Operand* o) {
             const int64_t run = each * size_of(o->type);
             bool all = (o->type == DType::f16 || o->type == DType::bf16 || (o->type == DType::f32 && each == 4)) &&
                        o->stride[inner] == 1 && reinterpret_cast<uintptr_t>(o->data) % static_cast<uint64_t>(run) == 0;
             for (size_t axis = 0; axis < inner; axis++) all &= o->stride[axis] % each == 0;
             return all;
           });
  };
  return together(8) ? 8 : together(4) ? 4 : 1;
}

}  // namespace cudream
