// The grammar: what nvcc writes is read, anything else is refused with the line.
#include "tests/vgpu/ptx/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {
namespace {

const std::string kHead = ".version 9.0\n.target sm_80\n.address_size 64\n";

// Parses and decodes a kernel with this body; the error's text, empty when there was none.
std::string error_of(const std::string& body, const std::string& before = "") {
  try {
    const auto module = ptx::parse(kHead + before + ".visible .entry k(.param .u64 p)\n{\n" + body + "\n}\n");
    for (const ptx::Kernel& k : module->kernels) decode(*module, k, {});
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Parser, ReadsTheOddCorners) {
  EXPECT_EQ(error_of(".reg .b32 %r<4>; .reg .pred p, q; .reg.b16 %h, %g;\n"
                     ".shared .align 16 .b8 tile[64];\n"
                     "{ .reg .b32 %r1; mov.u32 %r1, tile; ld.shared.u32 %r1, [tile+-4]; /* a comment\nover lines */ }\n"
                     "@!p bra $L__end; // comment\n"
                     "mov.b32 {%h, _}, %r2; setp.lt.s32 p|q, %r1, -0x10; vote.sync.any.pred p, !q, -1;\n"
                     "$L__end: .pragma \"nounroll\"; .loc 1 2 3, function_name $L__name0, inlined_at 1 9 4\n ret;"),
            "");
  EXPECT_EQ(error_of("ret;",
                     ".file 1 \"a.cu\"\n.global .align 8 .u64 table[2] = {1, 0x2U};\n.extern .shared .align 16 .b8 dynamic[];\n"
                     ".func helper(.param .b32 a) { call.uni (b), other, (c); }\n.section .debug_str { .b8 1,2 }\n"),
            "");
}

TEST(Parser, RefusesWhatItDoesNotKnow) {
  using testing::HasSubstr;
  const std::string registers = ".reg .b32 %r<4>; .reg .b64 %d<2>; .reg .pred %p;\n";
  EXPECT_THAT(error_of(registers + "frob.s32 %r0, %r1;"),
              HasSubstr("kernel k, PTX line 7: unknown instruction: frob.s32 %r0, %r1"));
  EXPECT_THAT(error_of(registers + "add.odd.s32 %r0, %r1, %r2;"), HasSubstr("unknown modifier .odd"));
  EXPECT_THAT(error_of(registers + "add.s32 %r0, %r1, %r9;"), HasSubstr("unknown name %r9"));
  EXPECT_THAT(error_of(registers + "add.s32 %r0, %r1;"), HasSubstr("an operand is missing"));
  EXPECT_THAT(error_of(registers + "add.s64 %d0, %r1, %d1;"), HasSubstr("a register does not fit the type"));
  EXPECT_THAT(error_of(registers + "ld.global.v2.u32 {%r0, %r1, %r2}, [%d0];"),
              HasSubstr("the vector does not have as many registers"));
  EXPECT_THAT(error_of(registers + "ld.param.u64 %d0, [p+8];"), HasSubstr("outside the kernel's parameters"));
  EXPECT_THAT(error_of(registers + "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%r0}, {%r1}, {%r2}, {%r3};"),
              HasSubstr("PTX line 7"));
  EXPECT_THAT(error_of(registers + "call.uni helper, ();"), HasSubstr("line 7"));
  EXPECT_THAT(error_of(registers + "bra nowhere;"), HasSubstr("no label nowhere"));
  EXPECT_THAT(error_of(registers + "@%r0 ret;"), HasSubstr("the guard is no predicate"));
  EXPECT_THAT(error_of(".odd 3;"), HasSubstr("PTX line 6 in kernel k: unknown directive, found '.odd'"));
  EXPECT_THAT(error_of("ret;", ".odd 1;\n"), HasSubstr("PTX line 4: unknown directive"));
  EXPECT_THAT(error_of(".reg .b32 %r; mov.u32 %r, 1"), HasSubstr("expected ','"));
  EXPECT_THAT(error_of("ret; #"), HasSubstr("unexpected character '#'"));
  EXPECT_THAT(error_of("/* ret;"), HasSubstr("comment without an end"));
}

}  // namespace
}  // namespace cudream::vgpu
