// The state of decoding one kernel: names, virtual registers and the code so far.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {

class KernelBuilder {
 public:
  KernelBuilder(const ptx::Module& module, const ptx::Kernel& kernel, const Symbols& symbols);

  Program build();

  // A new virtual register of `bytes` a lane (1: predicate).
  uint32_t fresh(uint32_t bytes);
  uint32_t bytes(uint32_t reg) const { return sizes_[reg]; }
  // The register of a name in scope, a special register included.
  std::optional<uint32_t> find_register(std::string_view name);
  // The value of a symbol: offset of a shared, local or parameter name, address of a module variable.
  std::optional<uint64_t> find_symbol(std::string_view name);
  // A register that holds `value` in every lane.
  uint32_t constant(uint32_t bytes, uint64_t value);

  // The predicate register that holds the carry flags of add.cc and its kin.
  uint32_t carry();

  void push(const Inst& inst) { program_.code.push_back(inst); }
  // The jump at `code[index]` goes to a label, which may follow later.
  void jump_to(std::string_view label) { jumps_.emplace_back(program_.code.size(), label); }
  void note_shared_access(uint32_t bytes);
  const ptx::Kernel& kernel() const { return *program_.kernel; }

 private:
  void statement(const ptx::Statement& statement);
  void declare(const ptx::Registers& registers);
  void declare(const ptx::Variable& variable);
  void resolve_jumps();

  Program program_;
  const Symbols& symbols_;
  std::optional<uint32_t> carry_;
  std::vector<uint8_t> sizes_;
  std::vector<bool> pinned_;
  std::vector<std::unordered_map<std::string, uint32_t>> scopes_;
  std::unordered_map<std::string_view, uint64_t> offsets_;  // shared, local and parameter names
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> constants_;
  std::unordered_map<std::string_view, uint32_t> labels_;
  std::vector<std::pair<size_t, std::string_view>> jumps_;
};

}  // namespace cudream::vgpu
