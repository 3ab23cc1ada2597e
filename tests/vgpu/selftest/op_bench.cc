// A kernel around a few statements.
#include "tests/vgpu/selftest/op_bench.h"

#include <fmt/format.h>

#include "tests/vgpu/core/launch.h"
#include "tests/vgpu/ptx/parser.h"

namespace cudream::vgpu {
namespace {

std::string kernel_around(const std::string& statements, Widths w) {
  const auto load = [](char name, int bits) {
    return fmt::format(
        "  .reg .b{1} %{0};\n  ld.param.u64 %base, [p_{0}];\n  add.u64 %at, %base, %offset;\n  ld.global.b{1} %{0}, [%at];\n",
        name, bits);
  };
  return fmt::format(
      ".version 9.0\n.target sm_80\n.address_size 64\n"
      ".visible .entry op(.param .u64 p_a, .param .u64 p_b, .param .u64 p_c, .param .u64 p_d) {{\n"
      "  .reg .b32 %t<4>;\n  .reg .b64 %base, %at, %offset;\n  .reg .pred %p, %q;\n  .local .align 8 .b8 buffer[16];\n  .shared "
      ".align 8 .b8 cells[512];\n  .reg .b32 %cell;\n  .reg "
      ".b{0} %d;\n  .reg .b16 %h<4>;\n  .reg .b64 %w<4>;\n"
      "  mov.u32 %t0, %tid.x;\n  mov.u32 %t1, %ctaid.x;\n  mov.u32 %t2, %ntid.x;\n  mad.lo.s32 %t3, %t1, %t2, %t0;\n  mov.u32 "
      "%cell, cells;\n  mad.lo.u32 %cell, %t0, 8, %cell;\n"
      "  mul.wide.u32 %offset, %t3, 8;\n{1}{2}{3}  {4}\n"
      "  ld.param.u64 %base, [p_d];\n  add.u64 %at, %base, %offset;\n  st.global.b{0} [%at], %d;\n  ret;\n}}\n",
      w.d, load('a', w.a), load('b', w.b), load('c', w.c), statements);
}

}  // namespace

Words run_statements(const std::string& statements, Widths widths, const Words& a, const Words& b, const Words& c) {
  const auto module = ptx::parse(kernel_around(statements, widths));
  const Program program = decode(*module, module->kernels.at(0), {});
  DeviceMemory memory;
  Launch launch;
  launch.program = &program;
  launch.threads.x = 64;
  launch.grid.x = static_cast<uint32_t>((a.size() + 63) / 64);
  const size_t padded = launch.grid.x * 64 * sizeof(uint64_t);
  std::array<Allocation*, 4> arrays;
  for (size_t i = 0; i < 4; i++) {
    arrays[i] = &memory.allocate(padded, 0);
    std::memset(arrays[i]->data.get(), 0, padded);
    arrays[i]->mark_range(arrays[i]->address, padded);
    const auto* address = reinterpret_cast<const uint8_t*>(&arrays[i]->address);
    launch.parameters.insert(launch.parameters.end(), address, address + 8);
  }
  const std::array<const Words*, 3> inputs = {&a, &b, &c};
  for (size_t i = 0; i < 3; i++) std::memcpy(arrays[i]->data.get(), inputs[i]->data(), inputs[i]->size() * sizeof(uint64_t));
  run(launch, memory, {});
  Words d(a.size());
  std::memcpy(d.data(), arrays[3]->data.get(), d.size() * sizeof(uint64_t));
  return d;
}

}  // namespace cudream::vgpu
