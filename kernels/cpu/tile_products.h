// Products and convolutions with AMX tiles, bf16 only.
//
// oneDNN 2.6 reaches half of what the tiles can do while everything lies in a core's cache, and much less where it does not
// (measured: 1.5 of 7.6 TFLOP/s over a whole network on two cores). Here weights are read once, in the order of their use and
// ahead of it, and an epilogue costs no pass over memory.
#pragma once

#include "kernels/cpu/products.h"
#include "kernels/cpu/tile_layer.h"

namespace cudream {

class TileProducts final : public Products {
 public:
  TileProducts(const Kernels& kernels, Team& team) : kernels_(kernels), team_(team) {}
  int64_t packed_bytes(Use use, const Shape& shape) const override;
  Weight pack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) override;
  void linear(const View& out, const View& x, const Linear& l, const Epilogue& e) override;
  void geglu(const View& out, const View& x, const Linear& l) override { linear(out, x, l, {}); }
  void conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& args) override;

 private:
  // What a verb asks for.
  struct Call {
    TileLayer layer;
    View out;
    ChannelRows bias, gate;
    Act act = Act::none;
    View residual;
    int64_t stretch() const;
  };
  // Some tiles of one picture.
  struct Block {
    int64_t picture = 0;
    const std::byte* x = nullptr;
    const TileMap* map = nullptr;
    int64_t tile = 0, tiles = 0;
    int64_t out = 0;  // element of the picture where the map's first row goes
  };
  Call make_call(const View& out, const View& x, const Weight& w, const Weight* bias, const Epilogue& e) const;
  void run(const Call& call);
  void run_pictures(const Call& call, const std::byte* x, int64_t picture_bytes);
  void run_lines(const Call& call);
  static int64_t sums_bytes(const Call& call, std::span<const Block> blocks);
  void multiply(const Call& call, std::span<const Block> blocks, int64_t from, int64_t to, std::byte* sums) const;

  const Kernels& kernels_;
  Team& team_;
};

}  // namespace cudream
