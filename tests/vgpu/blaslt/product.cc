// Sums in float, in the order that the algorithm says.
#include "tests/vgpu/blaslt/product.h"

#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "core/half.h"

namespace cudream::vgpu::blaslt {
namespace {

float load(const uint8_t* at, int32_t type) {
  if (type == CUDA_R_32F) {
    float value;
    std::memcpy(&value, at, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return type == CUDA_R_16F ? static_cast<float>(std::bit_cast<f16>(bits)) : static_cast<float>(std::bit_cast<bf16>(bits));
}

void store(uint8_t* at, int32_t type, float value) {
  if (type == CUDA_R_32F) {
    std::memcpy(at, &value, 4);
  } else if (type == CUDA_R_16F) {
    const f16 half(value);
    std::memcpy(at, &half, 2);
  } else {
    const bf16 half(value);
    std::memcpy(at, &half, 2);
  }
}

// One matrix of a batch in memory.
struct Matrix {
  const Layout& layout;
  uint64_t first;  // address
  const Allocation* allocation = nullptr;

  uint64_t place(uint64_t row, uint64_t col) const {
    return first + (col * static_cast<uint64_t>(layout.ld) + row) * static_cast<uint64_t>(layout.element());
  }
  float get(uint64_t row, uint64_t col) const { return load(allocation->at(place(row, col)), layout.type); }
};

// Empty, or what is wrong with an access of `bytes` at `address`.
std::string wrong(const DeviceMemory& memory, int device, const char* name, uint64_t address, uint64_t bytes, uint64_t align) {
  const Allocation* allocation = memory.find(address);
  if (address % align != 0) return fmt::format("{} is not aligned to the {} bytes of its algorithm", name, align);
  if (allocation == nullptr || allocation->freed || allocation->device != device || !allocation->holds(address, bytes))
    return fmt::format("{} reaches outside of memory: {} bytes from {}", name, bytes, memory.describe(address));
  return "";
}

std::string bind(Matrix& m, const DeviceMemory& memory, int device, const char* name, uint64_t align, bool read) {
  const auto element = static_cast<uint64_t>(m.layout.element());
  if (std::string why = wrong(memory, device, name, m.first, m.layout.span() * element, align); !why.empty()) return why;
  m.allocation = memory.find(m.first);
  if (!read) return "";
  for (uint64_t col = 0; col < m.layout.cols; col++)
    for (uint64_t row = 0; row < m.layout.rows; row++)
      if (!m.allocation->was_written(m.place(row, col), static_cast<uint32_t>(element)))
        return fmt::format("{}: element ({}, {}) was never written; {}", name, row, col, memory.describe(m.place(row, col)));
  return "";
}

// The parts of one column of op(A) op(B), added up. a is [k][m].
void column(const Queued& q, const std::vector<float>& a, const std::vector<float>& b, std::vector<float>& sums) {
  const uint64_t m = q.problem().m(), k = q.problem().k(), splits = q.algorithm.splits;
  std::vector<float> part(m);
  std::fill(sums.begin(), sums.end(), 0.f);
  for (uint64_t s = 0; s < splits; s++) {
    const uint64_t from = k * s / splits, to = k * (s + 1) / splits;
    std::fill(part.begin(), part.end(), 0.f);
    // Order 0 walks upwards, order 1 downwards.
    for (uint64_t i = from; i < to; i++) {
      const uint64_t at = q.algorithm.order == 0 ? i : to - 1 - (i - from);
      const float* column_of_a = &a[at * m];
      const float times = b[at];
      for (uint64_t row = 0; row < m; row++) part[row] += column_of_a[row] * times;
    }
    for (uint64_t row = 0; row < m; row++) sums[row] += part[row];
  }
}

std::string multiply(const Queued& q, const DeviceMemory& memory, int device, uint64_t index) {
  const Problem p = q.problem();
  const auto at = [&](const Layout& l, uint64_t first) {
    return first + index * static_cast<uint64_t>(l.stride) * static_cast<uint64_t>(l.element());
  };
  Matrix a{q.a, at(q.a, q.a_at)}, b{q.b, at(q.b, q.b_at)}, c{q.c, at(q.c, q.c_at)}, d{q.d, at(q.d, q.d_at)};
  std::string why = bind(a, memory, device, "A", q.algorithm.align, true);
  if (why.empty()) why = bind(b, memory, device, "B", q.algorithm.align, true);
  if (why.empty() && q.beta != 0) why = bind(c, memory, device, "C", q.algorithm.align, true);
  if (why.empty()) why = bind(d, memory, device, "D", q.algorithm.align, false);
  const auto bias_at = reinterpret_cast<uint64_t>(q.op.bias) + index * static_cast<uint64_t>(q.op.bias_stride * q.d.element());
  Matrix bias{q.d, bias_at};
  if (why.empty() && p.has_bias()) {
    Layout row = q.d;
    row.cols = 1;
    Matrix one{row, bias_at};
    why = bind(one, memory, device, "the bias", static_cast<uint64_t>(q.d.element()), true);
    bias.allocation = one.allocation;
  }
  if (!why.empty()) return why;

  const uint64_t m = p.m(), n = p.n(), k = p.k();
  std::vector<float> packed(m * k), column_of_b(k), sums(m);
  for (uint64_t i = 0; i < k; i++)
    for (uint64_t row = 0; row < m; row++) packed[i * m + row] = q.op.transpose_a == CUBLAS_OP_N ? a.get(row, i) : a.get(i, row);
  for (uint64_t col = 0; col < n; col++) {
    for (uint64_t i = 0; i < k; i++) column_of_b[i] = q.op.transpose_b == CUBLAS_OP_N ? b.get(i, col) : b.get(col, i);
    column(q, packed, column_of_b, sums);
    for (uint64_t row = 0; row < m; row++) {
      float value = q.alpha * sums[row];
      if (q.beta != 0) value += q.beta * c.get(row, col);
      if (p.has_bias()) value += bias.get(row, 0);
      store(d.allocation->at(d.place(row, col)), q.d.type, value);
      d.allocation->mark_written(d.place(row, col), static_cast<uint32_t>(q.d.element()));
    }
  }
  return "";
}

}  // namespace

std::string run(const Queued& product, const DeviceMemory& memory, int device) {
  if (const uint64_t bytes = product.problem().workspace(product.algorithm); bytes > 0) {
    std::string why = wrong(memory, device, "the workspace", product.workspace_at, bytes, 16);
    if (!why.empty()) return why;
  }
  for (int32_t i = 0; i < product.d.batch; i++)
    if (std::string why = multiply(product, memory, device, static_cast<uint64_t>(i)); !why.empty()) return why;
  return "";
}

}  // namespace cudream::vgpu::blaslt
