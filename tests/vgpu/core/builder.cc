// Declarations, scopes, labels and constants of a kernel.
#include "tests/vgpu/core/builder.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "tests/vgpu/core/decoding.h"

namespace cudream::vgpu {
namespace {

struct SpecialName {
  std::string_view name;
  Special which;
};

constexpr std::array<SpecialName, 23> kSpecials = {{{"%tid.x", Special::tid_x},
                                                    {"%tid.y", Special::tid_y},
                                                    {"%tid.z", Special::tid_z},
                                                    {"%ntid.x", Special::ntid_x},
                                                    {"%ntid.y", Special::ntid_y},
                                                    {"%ntid.z", Special::ntid_z},
                                                    {"%ctaid.x", Special::ctaid_x},
                                                    {"%ctaid.y", Special::ctaid_y},
                                                    {"%ctaid.z", Special::ctaid_z},
                                                    {"%nctaid.x", Special::nctaid_x},
                                                    {"%nctaid.y", Special::nctaid_y},
                                                    {"%nctaid.z", Special::nctaid_z},
                                                    {"%laneid", Special::laneid},
                                                    {"%warpid", Special::warpid},
                                                    {"%nwarpid", Special::nwarpid},
                                                    {"%smid", Special::smid},
                                                    {"%nsmid", Special::nsmid},
                                                    {"%lanemask_eq", Special::lanemask_eq},
                                                    {"%lanemask_le", Special::lanemask_le},
                                                    {"%lanemask_lt", Special::lanemask_lt},
                                                    {"%lanemask_ge", Special::lanemask_ge},
                                                    {"%lanemask_gt", Special::lanemask_gt},
                                                    {"%dynamic_smem_size", Special::dynamic_smem_size}}};

// Whether an operand, or one inside it, is `name`.
bool mentions(const ptx::Operand& operand, std::string_view name) {
  return operand.text == name ||
         std::any_of(operand.elements.begin(), operand.elements.end(), [&](const ptx::Operand& e) { return mentions(e, name); });
}

bool mentions(const ptx::Kernel& kernel, std::string_view name) {
  return std::any_of(kernel.body.begin(), kernel.body.end(), [&](const ptx::Statement& s) {
    const auto* in = std::get_if<ptx::Instruction>(&s);
    return in != nullptr &&
           std::any_of(in->operands.begin(), in->operands.end(), [&](const ptx::Operand& o) { return mentions(o, name); });
  });
}

uint32_t align_up(uint32_t value, uint32_t align) {
  return (value + align - 1) / align * align;
}

}  // namespace

KernelBuilder::KernelBuilder(const ptx::Module& module, const ptx::Kernel& kernel, const Symbols& symbols) : symbols_(symbols) {
  program_.module = &module;
  program_.kernel = &kernel;
  scopes_.emplace_back();
  for (const ptx::Parameter& p : kernel.parameters) offsets_[p.name] = p.offset;
}

uint32_t KernelBuilder::fresh(uint32_t bytes) {
  sizes_.push_back(static_cast<uint8_t>(bytes));
  pinned_.push_back(false);
  return static_cast<uint32_t>(sizes_.size() - 1);
}

std::optional<uint32_t> KernelBuilder::find_register(std::string_view name) {
  const std::string key(name);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto found = scope->find(key); found != scope->end()) return found->second;
  }
  const auto special = std::find_if(kSpecials.begin(), kSpecials.end(), [&](const SpecialName& s) { return s.name == name; });
  if (special == kSpecials.end()) return std::nullopt;
  const uint32_t reg = fresh(4);
  pinned_[reg] = true;
  program_.specials.push_back({reg, special->which});
  scopes_.front()[key] = reg;
  return reg;
}

std::optional<uint64_t> KernelBuilder::find_symbol(std::string_view name) {
  if (const auto found = offsets_.find(name); found != offsets_.end()) return found->second;
  if (const auto found = symbols_.find(name); found != symbols_.end()) return found->second;
  return std::nullopt;
}

uint32_t KernelBuilder::constant(uint32_t bytes, uint64_t value) {
  if (bytes < 8) value &= (uint64_t{1} << bytes * 8) - 1;
  const auto [place, added] = constants_.try_emplace({bytes, value}, 0);
  if (added) {
    place->second = fresh(bytes);
    pinned_[place->second] = true;
    program_.constants.push_back({place->second, bytes, value});
  }
  return place->second;
}

uint32_t KernelBuilder::carry() {
  if (!carry_) {
    carry_ = fresh(1);
    pinned_[*carry_] = true;
  }
  return *carry_;
}

void KernelBuilder::note_shared_access(uint32_t bytes) {
  program_.shared_grain = std::min(program_.shared_grain, bytes);
}

void KernelBuilder::declare(const ptx::Registers& r) {
  auto& scope = scopes_.back();
  if (r.count == 0) scope[std::string(r.name)] = fresh(size_of(r.type));
  for (uint32_t i = 0; i < r.count; i++) scope[fmt::format("{}{}", r.name, i)] = fresh(size_of(r.type));
}

void KernelBuilder::declare(const ptx::Variable& v) {
  const auto bytes = static_cast<uint32_t>(v.count * size_of(v.type));
  if (v.external) {
    program_.dynamic_offset = std::max(program_.dynamic_offset, v.align);  // its alignment, until all static ones are placed
    offsets_[v.name] = ~uint64_t{0};
    return;
  }
  if (v.space != Space::shared && v.space != Space::local) {
    throw fail(Code::bad_file, "PTX line {}: only shared and local variables are known inside a kernel", v.line);
  }
  uint32_t& total = v.space == Space::shared ? program_.shared_bytes : program_.local_bytes;
  const uint32_t offset = align_up(total, v.align);
  offsets_[v.name] = offset;
  total = offset + bytes;
}

void KernelBuilder::statement(const ptx::Statement& s) {
  if (const auto* in = std::get_if<ptx::Instruction>(&s)) {
    decode_instruction(*this, *in);
  } else if (const auto* label = std::get_if<ptx::Label>(&s)) {
    if (!labels_.emplace(label->name, program_.code.size()).second) {
      throw fail(Code::bad_file, "kernel {}: label {} appears twice", kernel().name, label->name);
    }
  } else if (std::holds_alternative<ptx::ScopeBegin>(s)) {
    scopes_.emplace_back();
  } else if (std::holds_alternative<ptx::ScopeEnd>(s)) {
    scopes_.pop_back();
  }
}

void KernelBuilder::resolve_jumps() {
  for (const auto& [index, label] : jumps_) {
    const auto found = labels_.find(label);
    if (found == labels_.end()) throw fail(Code::bad_file, "kernel {}: no label {}", kernel().name, label);
    program_.code[index].imm = found->second;
    program_.code[found->second].leader = true;
  }
}

Program KernelBuilder::build() {
  // Static shared memory first, the module's as far as this kernel uses it: dynamic shared memory follows it.
  for (const ptx::Variable& v : program_.module->variables) {
    if (v.space == Space::shared && mentions(kernel(), v.name)) declare(v);
  }
  for (const ptx::Statement& s : kernel().body) {
    if (const auto* v = std::get_if<ptx::Variable>(&s)) declare(*v);
  }
  program_.dynamic_offset = align_up(program_.shared_bytes, std::max(program_.dynamic_offset, 16u));
  for (auto& [name, offset] : offsets_) {
    if (offset == ~uint64_t{0}) offset = program_.dynamic_offset;
  }
  for (const ptx::Statement& s : kernel().body) {
    if (const auto* r = std::get_if<ptx::Registers>(&s)) {
      declare(*r);
    } else {
      statement(s);
    }
  }
  static const ptx::Instruction kEnd{.opcode = "ret", .text = "end of kernel"};
  decode_instruction(*this, kEnd);
  resolve_jumps();
  const std::vector<uint32_t> place = allocate_registers(program_, sizes_, pinned_);
  for (auto& c : program_.constants) c.reg = place[c.reg];
  for (auto& s : program_.specials) s.reg = place[s.reg];
  for (Inst& inst : program_.code) {
    if (inst.guard != Inst::kAlways) inst.guard = place[inst.guard];
    for (uint32_t slot = 0; slot < Inst::kSlots; slot++) {
      if ((inst.uses | inst.defs) >> slot & 1) inst.reg[slot] = place[inst.reg[slot]];
    }
  }
  return std::move(program_);
}

Program decode(const ptx::Module& module, const ptx::Kernel& kernel, const Symbols& symbols) {
  return KernelBuilder(module, kernel, symbols).build();
}

}  // namespace cudream::vgpu
