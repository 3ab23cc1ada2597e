// What a PTX text says, before anything is decoded: kernels, their declarations and their instructions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tests/vgpu/ptx/type.h"

namespace cudream::vgpu::ptx {

// One operand as written. Registers, symbols and labels are names; {a, b} and p|q are lists.
struct Operand {
  enum class Kind : uint8_t { name, number, address, list };
  Kind kind = Kind::name;
  std::string_view text;          // name, number (with its sign in `negative`), or the base of an address
  bool negative = false;          // a minus before a number
  bool inverted = false;          // a '!' before a predicate
  int64_t offset = 0;             // address only
  std::vector<Operand> elements;  // list only
};

// A place in the CUDA source, from .loc, and where the function around it was inlined; line 0 where there is none.
struct SourceLine {
  uint32_t file = 0, line = 0, caller_file = 0, caller_line = 0;
};

struct Instruction {
  std::string_view guard;  // empty: always
  bool guard_inverted = false;
  std::string_view opcode;  // with its modifiers
  std::vector<Operand> operands;
  uint32_t line = 0;      // of the PTX text
  std::string_view text;  // as written
  SourceLine source;
};

struct Label {
  std::string_view name;
};

// Scopes opened and closed by braces, as inline assembly does.
struct ScopeBegin {};
struct ScopeEnd {};

// .reg .b32 %r<10> declares ten registers; count 0 means the plain name.
struct Registers {
  Type type = Type::b32;
  std::string_view name;
  uint32_t count = 0;
};

// A variable of the shared, local, global or constant space.
struct Variable {
  Space space = Space::global;
  Type type = Type::b8;
  std::string_view name;
  uint32_t align = 1;
  uint64_t count = 1;           // elements
  bool external = false;        // .extern .shared x[]: the dynamic shared memory of the launch
  std::vector<Operand> values;  // initialiser; the rest is zero
  uint32_t line = 0;
};

using Statement = std::variant<Instruction, Label, ScopeBegin, ScopeEnd, Registers, Variable>;

struct Parameter {
  std::string_view name;
  uint32_t offset = 0, bytes = 0;
};

struct Kernel {
  std::string_view name;
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;
  uint32_t max_threads = 0;                  // .maxntid or .reqntid multiplied out; 0: not given
  uint32_t min_blocks = 1;                   // .minnctapersm: blocks for which a multiprocessor must have registers
  std::array<uint32_t, 3> required_block{};  // .reqntid; zeros: not given
  std::vector<Statement> body;
  uint32_t line = 0;
};

// Views point into `text`, so a module is neither copied nor moved once parsed.
struct Module {
  std::string text;
  std::string target;  // "sm_80"
  std::vector<std::pair<uint32_t, std::string>> files;
  std::vector<Variable> variables;
  std::vector<Kernel> kernels;

  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  std::string_view file(uint32_t number) const {
    for (const auto& [n, path] : files) {
      if (n == number) return path;
    }
    return {};
  }
};

}  // namespace cudream::vgpu::ptx
