// A decoded kernel: what the interpreter runs.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/vgpu/ptx/module.h"

namespace cudream::vgpu {

struct Warp;
struct Inst;
using Handler = void (*)(Warp&, const Inst&);

// Classes for the instruction mix. `none` marks steps of our own, which no GPU executes.
enum class Class : uint8_t { none, integer, floating, conversion, move, compare, control, memory, sync, tensor };
constexpr std::array<std::string_view, 10> kClassNames = {"none",    "integer", "float",  "conversion", "move",
                                                          "compare", "control", "memory", "sync",       "tensor"};

// One step. Every operand is a register, immediates and special registers included, so a handler is one loop.
struct Inst {
  static constexpr uint32_t kSlots = 16, kAlways = ~0u;

  Handler run = nullptr;
  Handler inner = nullptr;             // what a wrapper around the handler runs
  std::array<uint32_t, kSlots> reg{};  // virtual registers while decoding, byte offsets in the register file afterwards
  uint32_t guard = kAlways;            // a predicate
  uint32_t uses = 0, defs = 0;         // slots of `reg`, as bits
  bool guard_inverted = false;
  bool leader = false;         // a jump target: groups of lanes meet here
  bool wide_address = false;   // the address register has 64 bits
  uint8_t count = 1;           // elements of a vector access, matrices of ldmatrix
  uint8_t mode = 0, flag = 0;  // meaning set by the handler
  Space space = Space::generic;
  Class cls = Class::none;
  uint32_t floating = 0;      // MXCSR for the float mode wrapper
  int64_t imm = 0, imm2 = 0;  // offsets, jump targets, tables
  const ptx::Instruction* origin = nullptr;
};

enum class Special : uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  smid,
  nsmid,
  lanemask_eq,
  lanemask_le,
  lanemask_lt,
  lanemask_ge,
  lanemask_gt,
  dynamic_smem_size
};

struct Program {
  struct Constant {
    uint32_t reg, bytes;  // bytes 1: a predicate
    uint64_t value;
  };
  struct SpecialRegister {
    uint32_t reg;
    Special which;
  };

  const ptx::Module* module = nullptr;
  const ptx::Kernel* kernel = nullptr;
  std::vector<Inst> code;
  std::vector<Constant> constants;
  std::vector<SpecialRegister> specials;
  uint32_t register_bytes = 0;  // of one warp
  uint32_t shared_bytes = 0;    // static
  uint32_t dynamic_offset = 0;  // where dynamic shared memory begins
  uint32_t local_bytes = 0;     // of one thread
  uint32_t shared_grain = 4;    // narrowest access to shared memory, in bytes

  std::string_view name() const { return kernel->name; }
};

// Device addresses of the module's .global and .const variables.
using Symbols = std::map<std::string_view, uint64_t>;

// Decodes a kernel. Throws Error (bad_file) naming kernel, line and text of what the interpreter does not know.
Program decode(const ptx::Module& module, const ptx::Kernel& kernel, const Symbols& symbols);

// The bits of one initialiser of a module variable: a literal, or the address of another variable.
uint64_t variable_value(const ptx::Variable& variable, const ptx::Operand& value, const Symbols& symbols);

// Turns virtual registers into places of a register file, sharing a place between registers whose lives do not overlap
// (Poletto and Sarkar 1999, "Linear scan register allocation"). `sizes[v]`: bytes of a lane, 1 for predicates;
// `pinned[v]`: keeps its place for the whole kernel. Returns the offsets.
std::vector<uint32_t> allocate_registers(Program& program, const std::vector<uint8_t>& sizes, const std::vector<bool>& pinned);

// Windows of the generic address space.
constexpr uint64_t kSharedWindow = uint64_t{1} << 40, kLocalWindow = uint64_t{2} << 40, kParamWindow = uint64_t{3} << 40;
constexpr uint64_t kWindowBytes = uint64_t{1} << 24;

}  // namespace cudream::vgpu
