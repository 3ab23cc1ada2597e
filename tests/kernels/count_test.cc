// What Ops counts of a verb: the arithmetic, and the bytes of inputs, weights and outputs, each once.
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "kernels/open.h"
#include "kernels/ops.h"

namespace cudream {
namespace {

constexpr DType kF32 = DType::f32;

// Rehearsed, so weights need no values. On a device that has the fused verbs, in float: every element is four bytes.
TEST(Counts, BytesAreThoseOfAllThatAVerbTouches) {
  const auto device = open_device({.name = "cpu", .precision = kF32, .threads = 1});
  Ops o(*device);
  const Weight matrix{.use = Use::linear, .shape = {8, 4}}, halves{.use = Use::geglu, .shape = {8, 4}},
      filter{.use = Use::conv, .shape = {8, 4, 3, 3}}, table{.use = Use::table, .shape = {1000, 4}},
      four{.use = Use::vector, .shape = {4}}, eight{.use = Use::vector, .shape = {8}};
  const Norm norm{&four, &four, 1e-5f};
  const Ops::Plan plan = o.rehearse([&] {
    const Tensor x = o.make(kF32, {2, 3, 5, 4}), y = o.make(kF32, {2, 3, 5, 8});
    const Tensor add = o.make(kF32, {2, 8}), gate = o.make(kF32, {1, 8});
    o.linear(x, {&matrix, &eight}, {.add = add, .gate = gate, .residual = y});
    o.geglu(x, {&halves, &eight});
    o.conv2d(x, {&filter, &eight}, {.e = {.add = add, .residual = y}});
    const Tensor q = o.make(kF32, {2, 6, 4}), k = o.make(kF32, {2, 7, 4}), lengths = o.make(DType::i32, {2});
    const Tensor ids = o.make(DType::i32, {2, 3}), times = o.make(kF32, {2});
    o.attention(q, k, k, {.heads = 2, .key_lengths = lengths});
    o.group_norm(x, norm, {.groups = 2});
    o.layer_norm(x, norm);
    o.act(x, Act::silu);
    o.multiply(x, x);
    o.combine({{1, x}, {2, x}, {3, x}});
    o.lerp(x, x, x);
    o.cast(x, DType::bf16);
    o.gather(table, ids);
    o.sinusoid(times, 10, 10000, true, 0);
  });
  const std::pair<const char*, double> wanted[] = {
      {"linear", 120 + 240 + 32 + 8 + 16 + 8 + 240},  // x, out; matrix, bias; add, gate, residual
      {"geglu", 120 + 120 + 32 + 8},
      {"conv2d", 120 + 240 + 288 + 8 + 16 + 240},
      {"attention", 48 + 56 + 56 + 48 + 2},
      {"group_norm", 120 + 120 + 4 + 4},
      {"layer_norm", 120 + 120 + 4 + 4},
      {"act", 120 + 120},
      {"multiply", 2 * 120 + 120},
      {"combine", 3 * 120 + 120},
      {"lerp", 3 * 120 + 120},
      {"copy", 120 + 60},
      {"gather", 6 + 24 + 24},  // ids, their rows of the table, out
      {"sinusoid", 2 + 20},
  };
  for (const auto& [verb, elements] : wanted) {
    ASSERT_TRUE(plan.counts.contains(verb)) << verb;
    EXPECT_EQ(plan.counts.at(verb).bytes, 4 * elements) << verb;
    EXPECT_EQ(plan.counts.at(verb).calls, 1) << verb;
  }
  EXPECT_EQ(plan.counts.size(), std::size(wanted));
  EXPECT_EQ(plan.counts.at("linear").flops, 2.0 * 30 * 8 * 4);
  EXPECT_EQ(plan.counts.at("conv2d").flops, 2.0 * 30 * 8 * 4 * 9);
  EXPECT_EQ(plan.counts.at("attention").flops, 2 * 2.0 * 2 * 6 * 7 * 4);
}

}  // namespace
}  // namespace cudream
