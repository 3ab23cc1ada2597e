// DType, Shape and View: how everyone names an array. A View never owns what it points at.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace cudream {

// Element types that the verbs and the weight store understand. (Files may hold others: see loader/safetensors.h.)
enum class DType : uint8_t { f32, f16, bf16, f8e4m3, f8e5m2, i32, u8 };

enum class Act : uint8_t { none, silu, gelu, quick_gelu, relu, tanh };  // gelu is the exact one, with erf

int64_t size_of(DType);           // bytes per element
std::string_view name_of(DType);  // "f32", "bf16", ...

// At most four dimensions, innermost last.
struct Shape {
  static constexpr int kMaxRank = 4;
  std::array<int64_t, kMaxRank> n{};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  int64_t operator[](int axis) const { return n[static_cast<size_t>(axis)]; }
  int64_t back() const { return rank == 0 ? 1 : n[static_cast<size_t>(rank - 1)]; }
  int64_t size() const;                    // elements; 1 for rank 0
  int64_t rows() const;                    // elements / back()
  Shape with(int axis, int64_t to) const;  // the same, one dimension replaced
  bool operator==(const Shape&) const = default;
  std::string str() const;  // "[1,64,64,320]"
};

// A window onto device memory: strides are in elements and the innermost is 1.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::array<int64_t, Shape::kMaxRank> stride{};

  View() = default;
  View(void* at, DType type, const Shape& dims);  // dense
  explicit operator bool() const { return data != nullptr; }
  bool dense() const;
  int64_t bytes() const { return shape.size() * size_of(dtype); }  // of the elements, not of the span they lie in
  View reshape(const Shape&) const;                                // throws unless dense and of the same size
  View slice(int axis, int64_t from, int64_t to) const;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace cudream
