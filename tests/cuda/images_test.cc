// What the program carries: each fatbin holds PTX for newer cards and the machine code asked for, and host and device agree on
// the length of every kernel's parameter.
#include "kernels/cuda/images.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "kernels/cuda/choose.h"

namespace cudream {
namespace {

// One entry of a fatbin. The container is undocumented; this is what nvcc 13.0 writes without compression: a header of magic
// 0xba55ed50, then entries of {u16 kind, u16, u32 header bytes, u64 payload bytes, ..., u32 architecture at 28}.
struct Part {
  bool ptx = false;
  uint32_t architecture = 0;
  std::string_view payload;
};

template <typename T>
T read(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.substr(at, sizeof value).data(), sizeof value);
  return value;
}

std::vector<Part> parts_of(std::string_view fatbin) {
  std::vector<Part> parts;
  EXPECT_EQ(read<uint32_t>(fatbin, 0), 0xba55ed50u);
  size_t at = read<uint16_t>(fatbin, 6);
  const size_t end = at + read<uint64_t>(fatbin, 8);
  while (at < end) {
    const auto header = read<uint32_t>(fatbin, at + 4);
    const auto bytes = read<uint64_t>(fatbin, at + 8);
    parts.push_back({read<uint16_t>(fatbin, at) == 1, read<uint32_t>(fatbin, at + 28), fatbin.substr(at + header, bytes)});
    at += header + bytes;
  }
  return parts;
}

// Every entry of the PTX and the bytes of its one parameter.
std::map<std::string, size_t> entries_of(std::string_view ptx) {
  std::map<std::string, size_t> entries;
  const std::string text(ptx);
  const std::regex entry(R"(\.entry\s+(\w+)\s*\(\s*\.param\s+\.align\s+\d+\s+\.b8\s+\w+\[(\d+)\]\s*\))");
  for (std::sregex_iterator found(text.begin(), text.end(), entry), end; found != end; ++found)
    entries[(*found)[1]] = std::stoul((*found)[2]);
  size_t all = 0;
  for (size_t at = text.find(".entry"); at != std::string::npos; at = text.find(".entry", at + 1)) all++;
  EXPECT_EQ(entries.size(), all) << "an entry has other parameters than one struct";
  return entries;
}

class Images : public testing::Test {
 protected:
  void SetUp() override {
    if (kernel_images().empty()) GTEST_SKIP() << "a build without nvcc";
  }
};

TEST_F(Images, HoldPtxAndTheMachineCodeTheyName) {
  for (const KernelImage& image : kernel_images()) {
    std::set<std::string> held;
    for (const Part& part : parts_of(image.fatbin)) {
      held.insert(part.ptx ? "PTX" : "sm_" + std::to_string(part.architecture));
      EXPECT_TRUE(!part.ptx || part.architecture == 80) << image.name;
    }
    EXPECT_TRUE(held.contains("PTX")) << image.name;
    const std::string targets(kernel_images_targets());
    for (const std::string& name : held) EXPECT_NE(targets.find(name), std::string::npos) << image.name << ": " << name;
    EXPECT_EQ(held.size(), 1 + std::count(targets.begin(), targets.end(), '_')) << image.name << ": " << targets;
  }
}

TEST_F(Images, HoldTheKernelsOfTheTableWithParametersOfTheStructsLength) {
  std::map<std::string, std::map<std::string, size_t>, std::less<>> compiled;  // by image
  size_t entries = 0;
  for (const KernelImage& image : kernel_images())
    for (const Part& part : parts_of(image.fatbin))
      if (part.ptx) entries += (compiled[std::string(image.name)] = entries_of(part.payload)).size();
  EXPECT_EQ(entries, kernels().size());
  for (const Kernel& kernel : kernels()) {
    const auto image = compiled.find(kernel.image);
    ASSERT_TRUE(image != compiled.end() && image->second.contains(kernel.name)) << kernel.image << " " << kernel.name;
    EXPECT_EQ(image->second[kernel.name], kernel.parameter_bytes) << kernel.name;
  }
}

// Kernels with a main loop on tensor cores are long to compile and to trust: both types counted, at most 60 in the whole device.
TEST_F(Images, HoldFewTensorCoreKernels) {
  int heavy = 0;
  for (const KernelImage& image : kernel_images())
    for (const Part& part : parts_of(image.fatbin)) {
      if (!part.ptx) continue;
      for (size_t at = part.payload.find(".entry"); at != std::string_view::npos;) {
        const size_t next = part.payload.find(".entry", at + 1);
        heavy += part.payload.substr(at, next - at).find("mma.sync") != std::string_view::npos;
        at = next;
      }
    }
  EXPECT_GE(heavy, 20) << "the tiles of products alone";
  EXPECT_LE(heavy, 60);
}

// Nothing in a kernel may leave it: no calls, no printing.
TEST_F(Images, CallNothing) {
  for (const KernelImage& image : kernel_images())
    for (const Part& part : parts_of(image.fatbin))
      if (part.ptx) {
        EXPECT_EQ(part.payload.find("call"), std::string_view::npos) << image.name;
        EXPECT_EQ(part.payload.find(".func"), std::string_view::npos) << image.name;
      }
}

}  // namespace
}  // namespace cudream
