// Decoding of one instruction: its modifiers and operands are taken one by one, and whatever is left over is an error.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tests/vgpu/core/builder.h"

namespace cudream::vgpu {

class Decoding {
 public:
  Decoding(KernelBuilder& builder, const ptx::Instruction& source);

  Inst inst;

  // Modifiers, in any order: "rn", "ftz", ... Taking one removes it.
  bool take(std::string_view modifier);
  // Index of the one modifier of `choices` that is there; refuses when none is.
  uint8_t take_one(std::initializer_list<std::string_view> choices);
  void ignore(std::initializer_list<std::string_view> modifiers);
  // The first type among the modifiers left.
  Type take_type();
  bool has(std::string_view modifier) const;

  // Operands. A register wider than `type` is narrowed before, or widened after, the instruction: PTX allows it ("operand
  // size exceeding instruction-type size", PTX ISA 9.0 section 9.4.1).
  size_t operands() const { return source_.operands.size(); }
  const ptx::Operand& operand(size_t i) const;
  // The elements of a list operand, or the operand itself.
  std::vector<ptx::Operand> elements(size_t i) const;
  void def(uint32_t slot, const ptx::Operand& o, Type type);
  void use(uint32_t slot, const ptx::Operand& o, Type type);
  void def(uint32_t slot, size_t i, Type type) { def(slot, operand(i), type); }
  void use(uint32_t slot, size_t i, Type type) { use(slot, operand(i), type); }
  // A register used at its own width; the width in bytes.
  uint32_t use_as_is(uint32_t slot, const ptx::Operand& o);
  uint32_t def_as_is(uint32_t slot, const ptx::Operand& o);
  void use_constant(uint32_t slot, uint32_t bytes, uint64_t value);
  // [base + offset] in `slot`; returns the offset.
  int64_t address(uint32_t slot, size_t i);
  int64_t immediate(size_t i) const;
  // Whether the name is a register, and how many bytes it has; 0 where it is none.
  uint32_t register_bytes(const ptx::Operand& o);
  bool is_parameter(const ptx::Operand& o) const;

  KernelBuilder& builder() { return builder_; }

  // Ends the decoding. All modifiers must have been taken.
  void emit(Handler run);
  // The result in slot 0 goes through one more step, in place: for .sat.
  void then(Handler run) { then_ = run; }
  [[noreturn]] void refuse(std::string_view why) const;

 private:
  Inst step(Handler run) const;

  KernelBuilder& builder_;
  const ptx::Instruction& source_;
  std::vector<std::string_view> modifiers_;
  Handler then_ = nullptr;
  std::vector<Inst> after_;
};

// Looks the opcode up in the table and decodes; refuses unknown ones.
void decode_instruction(KernelBuilder& builder, const ptx::Instruction& source);

}  // namespace cudream::vgpu
