// Taking modifiers and binding operands.
#include "tests/vgpu/core/decoding.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>

#include "core/error.h"
#include "tests/vgpu/core/handlers.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

// Literals: whole numbers, 0fXXXXXXXX and 0dXXXXXXXXXXXXXXXX by bits, decimal fractions (PTX ISA 9.0, section 4.5). Nothing
// where the text is none, or a fraction meets a type that holds none.
std::optional<uint64_t> literal(const ptx::Operand& o, Type type) {
  const std::string text(o.text);
  const char kind = text.size() > 2 && text[0] == '0' ? text[1] : ' ';
  double fraction = 0;
  if (kind == 'f' || kind == 'F') {
    const auto bits = static_cast<uint32_t>(std::strtoul(text.c_str() + 2, nullptr, 16));
    if (type != Type::f64) return o.negative ? bits ^ 0x80000000u : bits;
    fraction = std::bit_cast<float>(bits);
  } else if (kind == 'd' || kind == 'D') {
    fraction = std::bit_cast<double>(std::strtoull(text.c_str() + 2, nullptr, 16));
  } else if (text.find('.') != std::string::npos || (is_float(type) && kind != 'x')) {
    fraction = std::strtod(text.c_str(), nullptr);
  } else {
    char* end = nullptr;
    const uint64_t value = std::strtoull(text.c_str(), &end, 0);
    if (*end != '\0' && *end != 'U') return std::nullopt;
    return o.negative ? ~value + 1 : value;
  }
  if (o.negative) fraction = -fraction;
  if (type == Type::f64 || type == Type::b64) return std::bit_cast<uint64_t>(fraction);
  if (type == Type::f32 || type == Type::b32) return std::bit_cast<uint32_t>(static_cast<float>(fraction));
  return std::nullopt;
}

}  // namespace

Decoding::Decoding(KernelBuilder& builder, const ptx::Instruction& source) : builder_(builder), source_(source) {
  inst.origin = &source;
  std::string_view rest = source.opcode;
  for (size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
    rest.remove_prefix(dot + 1);
    modifiers_.push_back(rest.substr(0, rest.find('.')));
  }
  if (source.guard.empty()) return;
  const auto guard = builder.find_register(source.guard);
  if (!guard || builder.bytes(*guard) != 1) refuse("the guard is no predicate");
  inst.guard = *guard;
  inst.guard_inverted = source.guard_inverted;
}

void Decoding::refuse(std::string_view why) const {
  throw fail(Code::bad_file, "kernel {}, PTX line {}: {}: {}", builder_.kernel().name, source_.line, why, source_.text);
}

bool Decoding::take(std::string_view modifier) {
  const auto found = std::find(modifiers_.begin(), modifiers_.end(), modifier);
  if (found == modifiers_.end()) return false;
  modifiers_.erase(found);
  return true;
}

uint8_t Decoding::take_one(std::initializer_list<std::string_view> choices) {
  uint8_t index = 0;
  for (const std::string_view choice : choices) {
    if (take(choice)) return index;
    index++;
  }
  refuse("a modifier is missing");
}

void Decoding::ignore(std::initializer_list<std::string_view> modifiers) {
  for (const std::string_view modifier : modifiers) take(modifier);
}

bool Decoding::has(std::string_view modifier) const {
  return std::find(modifiers_.begin(), modifiers_.end(), modifier) != modifiers_.end();
}

Type Decoding::take_type() {
  for (auto it = modifiers_.begin(); it != modifiers_.end(); ++it) {
    if (const auto type = type_named(*it)) {
      modifiers_.erase(it);
      return *type;
    }
  }
  refuse("a type is missing");
}

const ptx::Operand& Decoding::operand(size_t i) const {
  if (i >= source_.operands.size()) refuse("an operand is missing");
  return source_.operands[i];
}

std::vector<ptx::Operand> Decoding::elements(size_t i) const {
  const ptx::Operand& o = operand(i);
  if (o.kind == ptx::Operand::Kind::list) return o.elements;
  return {o};
}

Inst Decoding::step(Handler run) const {
  Inst s;
  s.run = run;
  s.guard = inst.guard;
  s.guard_inverted = inst.guard_inverted;
  s.origin = &source_;
  return s;
}

void Decoding::def(uint32_t slot, const ptx::Operand& o, Type type) {
  const uint32_t want = size_of(type);
  inst.defs |= 1u << slot;
  if (o.text == "_") {
    inst.reg[slot] = builder_.fresh(want);
    return;
  }
  const auto reg = o.kind == ptx::Operand::Kind::name ? builder_.find_register(o.text) : std::nullopt;
  if (!reg) refuse("the result is no register");
  const uint32_t have = builder_.bytes(*reg);
  if (have == want) {
    inst.reg[slot] = *reg;
    return;
  }
  if (have < want || want == 1 || have == 1) refuse("the result register does not fit the type");
  inst.reg[slot] = builder_.fresh(want);
  Inst widen = step(widening(want, have, is_signed(type)));
  widen.reg = {*reg, inst.reg[slot]};
  widen.defs = 1;
  widen.uses = 2;
  after_.push_back(widen);
}

void Decoding::use(uint32_t slot, const ptx::Operand& o, Type type) {
  const uint32_t want = size_of(type);
  inst.uses |= 1u << slot;
  if (o.kind == ptx::Operand::Kind::number) {
    const auto value = literal(o, type);
    if (!value) refuse("a number does not fit the type");
    inst.reg[slot] = builder_.constant(want, *value);
    return;
  }
  if (o.kind != ptx::Operand::Kind::name) refuse("an operand is neither register nor number");
  if (const auto reg = builder_.find_register(o.text)) {
    const uint32_t have = builder_.bytes(*reg);
    inst.reg[slot] = *reg;
    if (have != want) {
      if (have < want || want == 1 || have == 1) refuse("a register does not fit the type");
      inst.reg[slot] = builder_.fresh(want);
      Inst narrow = step(narrowing(have, want));
      narrow.reg = {inst.reg[slot], *reg};
      narrow.defs = 1;
      narrow.uses = 2;
      builder_.push(narrow);
    }
    if (o.inverted) {
      if (want != 1) refuse("only predicates can be inverted");
      Inst invert = step(&invert_predicate);
      invert.reg = {builder_.fresh(1), inst.reg[slot]};
      invert.defs = 1;
      invert.uses = 2;
      builder_.push(invert);
      inst.reg[slot] = invert.reg[0];
    }
    return;
  }
  if (o.text == "WARP_SZ") {
    inst.reg[slot] = builder_.constant(want, 32);
    return;
  }
  const auto value = builder_.find_symbol(o.text);
  if (!value) refuse(fmt::format("unknown name {}", o.text));
  inst.reg[slot] = builder_.constant(want, *value);
}

uint32_t Decoding::register_bytes(const ptx::Operand& o) {
  if (o.kind != ptx::Operand::Kind::name) return 0;
  const auto reg = builder_.find_register(o.text);
  return reg ? builder_.bytes(*reg) : 0;
}

bool Decoding::is_parameter(const ptx::Operand& o) const {
  const auto& parameters = builder_.kernel().parameters;
  return std::any_of(parameters.begin(), parameters.end(), [&](const ptx::Parameter& p) { return p.name == o.text; });
}

uint32_t Decoding::use_as_is(uint32_t slot, const ptx::Operand& o) {
  const auto reg = o.kind == ptx::Operand::Kind::name ? builder_.find_register(o.text) : std::nullopt;
  if (!reg) refuse("an operand is no register");
  inst.reg[slot] = *reg;
  inst.uses |= 1u << slot;
  return builder_.bytes(*reg);
}

uint32_t Decoding::def_as_is(uint32_t slot, const ptx::Operand& o) {
  const auto reg = o.kind == ptx::Operand::Kind::name ? builder_.find_register(o.text) : std::nullopt;
  if (!reg) refuse("the result is no register");
  inst.reg[slot] = *reg;
  inst.defs |= 1u << slot;
  return builder_.bytes(*reg);
}

void Decoding::use_constant(uint32_t slot, uint32_t bytes, uint64_t value) {
  inst.reg[slot] = builder_.constant(bytes, value);
  inst.uses |= 1u << slot;
}

int64_t Decoding::address(uint32_t slot, size_t i) {
  const ptx::Operand& o = operand(i);
  if (o.kind != ptx::Operand::Kind::address) refuse("an address is missing");
  inst.wide_address = true;
  if (const auto reg = builder_.find_register(o.text)) {
    const uint32_t bytes = builder_.bytes(*reg);
    if (bytes < 4) refuse("the address register is too narrow");
    inst.wide_address = bytes == 8;
    inst.reg[slot] = *reg;
    inst.uses |= 1u << slot;
    return o.offset;
  }
  const auto value = o.text.empty() ? std::optional<uint64_t>(0) : builder_.find_symbol(o.text);
  if (!value) refuse(fmt::format("unknown name {}", o.text));
  use_constant(slot, 8, *value);
  return o.offset;
}

int64_t Decoding::immediate(size_t i) const {
  const ptx::Operand& o = operand(i);
  if (o.kind != ptx::Operand::Kind::number) refuse("a number is missing");
  const auto value = literal(o, Type::b64);
  if (!value) refuse("a whole number is missing");
  return static_cast<int64_t>(*value);
}

void Decoding::emit(Handler run) {
  if (run == nullptr) refuse("this type is not known for the instruction");
  if (!modifiers_.empty()) refuse(fmt::format("unknown modifier .{}", modifiers_.front()));
  inst.run = run;
  builder_.push(inst);
  if (then_ != nullptr) {
    Inst next = step(then_);
    next.reg = {inst.reg[0], inst.reg[0]};
    next.defs = 1;
    next.uses = 2;
    builder_.push(next);
  }
  for (const Inst& s : after_) builder_.push(s);
}

uint64_t variable_value(const ptx::Variable& variable, const ptx::Operand& value, const Symbols& symbols) {
  if (value.kind == ptx::Operand::Kind::number) {
    if (const auto bits = literal(value, variable.type)) return *bits;
  } else if (const auto found = symbols.find(value.text); found != symbols.end()) {
    return found->second;
  }
  throw fail(Code::bad_file, "PTX line {}: unknown initialiser {} of {}", variable.line, value.text, variable.name);
}

void decode_instruction(KernelBuilder& builder, const ptx::Instruction& source) {
  Decoding d(builder, source);
  const Opcode* opcode = find_opcode(source.opcode.substr(0, source.opcode.find('.')));
  if (opcode == nullptr) d.refuse("unknown instruction");
  d.inst.cls = opcode->cls;
  opcode->decode(d);
}

}  // namespace cudream::vgpu
