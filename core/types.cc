// Shapes and views: sizes, strides, slices.
#include "core/types.h"

#include "core/error.h"

namespace cudream {

int64_t size_of(DType type) {
  switch (type) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::f8e4m3:
    case DType::f8e5m2:
    case DType::u8: return 1;
  }
  return 0;
}

std::string_view name_of(DType type) {
  switch (type) {
    case DType::f32: return "f32";
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    case DType::f8e4m3: return "f8e4m3";
    case DType::f8e5m2: return "f8e5m2";
    case DType::i32: return "i32";
    case DType::u8: return "u8";
  }
  return "?";
}

Shape::Shape(std::initializer_list<int64_t> dims) {
  invariant(dims.size() <= kMaxRank, "a shape has at most {} dimensions", kMaxRank);
  for (int64_t d : dims) n[static_cast<size_t>(rank++)] = d;
}

int64_t Shape::size() const {
  int64_t product = 1;
  for (int i = 0; i < rank; i++) product *= (*this)[i];
  return product;
}

int64_t Shape::rows() const {
  int64_t product = 1;
  for (int i = 0; i + 1 < rank; i++) product *= (*this)[i];
  return product;
}

Shape Shape::with(int axis, int64_t to) const {
  Shape s = *this;
  s.n[static_cast<size_t>(axis)] = to;
  return s;
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank; i++) s += (i ? "," : "") + std::to_string((*this)[i]);
  return s + "]";
}

View::View(void* at, DType type, const Shape& dims) : data(at), dtype(type), shape(dims) {
  int64_t step = 1;
  for (int i = dims.rank; i-- > 0;) {
    stride[static_cast<size_t>(i)] = step;
    step *= dims[i];
  }
}

bool View::dense() const {
  int64_t step = 1;
  for (int i = shape.rank; i-- > 0;) {
    if (shape[i] != 1 && stride[static_cast<size_t>(i)] != step) return false;
    step *= shape[i];
  }
  return true;
}

View View::reshape(const Shape& to) const {
  invariant(dense() && to.size() == shape.size(), "cannot view {} as {}", shape.str(), to.str());
  return View(data, dtype, to);
}

View View::slice(int axis, int64_t from, int64_t to) const {
  invariant(axis < shape.rank && from >= 0 && from <= to && to <= shape[axis], "slice {}..{} of axis {} of {}", from, to, axis,
            shape.str());
  View v = *this;
  v.data = static_cast<std::byte*>(data) + from * stride[static_cast<size_t>(axis)] * size_of(dtype);
  v.shape = shape.with(axis, to - from);
  return v;
}

}  // namespace cudream
