// The PTX parser: recursive descent over the tokens.
#include "tests/vgpu/ptx/parser.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "tests/vgpu/ptx/lexer.h"

namespace cudream::vgpu::ptx {
namespace {

class Parser {
 public:
  explicit Parser(Module& module) : module_(module), tokens_(tokenize(module.text)) {}

  void run() {
    while (peek().kind != Token::Kind::end) top_level();
  }

 private:
  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(here_ + ahead, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& token = peek();
    here_ = std::min(here_ + 1, tokens_.size() - 1);
    return token;
  }
  bool accept(std::string_view text) {
    if (!peek().is(text)) return false;
    take();
    return true;
  }
  void expect(std::string_view text) {
    if (!accept(text)) refuse("expected '" + std::string(text) + "'");
  }
  [[noreturn]] void refuse(const std::string& why) const {
    throw fail(Code::bad_file, "PTX line {}{}: {}, found '{}'", peek().line,
               kernel_.empty() ? "" : fmt::format(" in kernel {}", kernel_), why, peek().text);
  }
  std::string_view word() {
    if (peek().kind != Token::Kind::word) refuse("expected a name");
    return take().text;
  }
  uint64_t integer() {
    if (peek().kind != Token::Kind::number) refuse("expected a whole number");
    std::string_view text = peek().text;
    const bool hex = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    if (hex) text.remove_prefix(2);
    if (!text.empty() && (text.back() == 'U' || text.back() == 'u')) text.remove_suffix(1);
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
    if (error != std::errc() || end != text.data() + text.size()) refuse("expected a whole number");
    take();
    return value;
  }
  Type type_directive() {
    if (peek().kind == Token::Kind::word && peek().text.size() > 1 && peek().text[0] == '.') {
      if (const auto type = type_named(peek().text.substr(1))) {
        take();
        return *type;
      }
    }
    refuse("expected a type");
  }

  // Skips a balanced pair of braces.
  void skip_braces() {
    expect("{");
    for (int depth = 1; depth > 0;) {
      if (peek().kind == Token::Kind::end) refuse("expected '}'");
      const Token& token = take();
      depth += token.is("{") - token.is("}");
    }
  }

  void top_level() {
    if (accept(".version")) {
      take();
    } else if (accept(".target")) {
      module_.target = word();
      while (accept(",")) word();
    } else if (accept(".address_size")) {
      if (integer() != 64) refuse("only 64-bit addresses are known");
    } else if (accept(".file")) {
      file();
    } else if (accept(".section")) {
      word();
      skip_braces();
    } else {
      declaration();
    }
  }

  void file() {
    const auto number = static_cast<uint32_t>(integer());
    if (peek().kind != Token::Kind::string) refuse("expected a path");
    module_.files.emplace_back(number, std::string(take().text));
    while (accept(",")) integer();
  }

  void declaration() {
    bool external = false;
    while (peek().is(".visible") || peek().is(".weak") || peek().is(".extern") || peek().is(".common"))
      external |= take().is(".extern");
    if (accept(".entry")) return entry();
    if (accept(".func")) return skip_function();
    if (const auto space = space_directive()) {
      module_.variables.push_back(variable(*space, external));
      return;
    }
    refuse("unknown directive");
  }

  // A device function: its head, then either a body or a semicolon.
  void skip_function() {
    while (!peek().is("{") && !peek().is(";")) {
      if (peek().kind == Token::Kind::end) refuse("expected a function body");
      take();
    }
    if (!accept(";")) skip_braces();
  }

  std::optional<Space> space_directive() {
    if (accept(".shared")) return Space::shared;
    if (accept(".local")) return Space::local;
    if (accept(".global")) return Space::global;
    if (accept(".const")) return Space::constant;
    return std::nullopt;
  }

  // After the space: .align N .type name[count] = value(s);
  Variable variable(Space space, bool external) {
    Variable v;
    v.space = space;
    v.line = peek().line;
    if (accept(".align")) v.align = static_cast<uint32_t>(integer());
    v.type = type_directive();
    v.align = std::max(v.align, size_of(v.type));
    v.name = word();
    bool open = false;
    while (accept("[")) {
      if (accept("]")) {
        open = true;
        continue;
      }
      v.count *= integer();
      expect("]");
    }
    if (open != external && space == Space::shared) refuse("only external shared arrays have no size");
    if (external && space != Space::shared) refuse("external variables are only known in shared memory");
    v.external = external;
    if (accept("=")) {
      if (peek().is("{")) {
        v.values = operand().elements;
      } else {
        v.values.push_back(operand());
      }
    }
    expect(";");
    return v;
  }

  void entry() {
    Kernel k;
    k.line = peek().line;
    k.name = kernel_ = word();
    if (accept("(")) parameters(k);
    while (!peek().is("{")) kernel_directive(k);
    take();
    source_ = {};
    for (int depth = 1; depth > 0;) {
      if (peek().kind == Token::Kind::end) refuse("expected '}'");
      if (accept("{")) {
        k.body.emplace_back(ScopeBegin{});
        depth++;
      } else if (accept("}")) {
        if (--depth > 0) k.body.emplace_back(ScopeEnd{});
      } else {
        statement(k);
      }
    }
    module_.kernels.push_back(std::move(k));
    kernel_ = {};
  }

  void parameters(Kernel& k) {
    while (!accept(")")) {
      expect(".param");
      uint32_t align = accept(".align") ? static_cast<uint32_t>(integer()) : 1;
      const Type type = type_directive();
      if (accept(".ptr")) {
        space_directive();
        if (accept(".align")) integer();
      }
      Parameter p;
      p.name = word();
      uint64_t count = 1;
      if (accept("[")) {
        count = integer();
        expect("]");
      }
      align = std::max(align, size_of(type));
      p.bytes = static_cast<uint32_t>(size_of(type) * count);
      p.offset = (k.parameter_bytes + align - 1) / align * align;
      k.parameter_bytes = p.offset + p.bytes;
      k.parameters.push_back(p);
      accept(",");
    }
  }

  void kernel_directive(Kernel& k) {
    const bool required = peek().is(".reqntid");
    if (required || peek().is(".maxntid")) {
      take();
      std::array<uint32_t, 3> n{1, 1, 1};
      for (int i = 0; i < 3; i++) {
        n[i] = static_cast<uint32_t>(integer());
        if (!accept(",")) break;
      }
      k.max_threads = n[0] * n[1] * n[2];
      if (required) k.required_block = n;
    } else if (accept(".minnctapersm")) {
      k.min_blocks = static_cast<uint32_t>(integer());
    } else if (accept(".maxnreg")) {
      integer();
    } else {
      refuse("unknown kernel directive");
    }
  }

  void statement(Kernel& k) {
    if (accept(";")) return;
    if (peek().kind == Token::Kind::word && peek(1).is(":")) {
      k.body.emplace_back(Label{take().text});
      take();
    } else if (accept(".loc")) {
      location();
    } else if (accept(".pragma")) {
      pragma();
    } else if (accept(".reg")) {
      registers(k);
    } else if (const auto space = space_directive()) {
      k.body.emplace_back(variable(*space, false));
    } else if (peek().kind == Token::Kind::word && peek().text[0] == '.') {
      refuse("unknown directive");
    } else {
      k.body.emplace_back(instruction());
    }
  }

  // .loc file line column [, function_name label [+ n], inlined_at file line column]
  void location() {
    source_ = {static_cast<uint32_t>(integer()), static_cast<uint32_t>(integer())};
    integer();
    while (accept(",")) {
      if (accept("function_name")) {
        word();
        if (accept("+")) integer();
      } else {
        expect("inlined_at");
        source_.caller_file = static_cast<uint32_t>(integer());
        source_.caller_line = static_cast<uint32_t>(integer());
        integer();
      }
    }
  }

  // Pragmas only advise the assembler; the known ones mean nothing to an interpreter.
  void pragma() {
    if (peek().text != "nounroll" && peek().text.substr(0, 11) != "used_bytes_") refuse("unknown pragma");
    take();
    expect(";");
  }

  void registers(Kernel& k) {
    const Type type = type_directive();
    do {
      Registers r{type, word(), 0};
      if (accept("<")) {
        r.count = static_cast<uint32_t>(integer());
        expect(">");
      }
      k.body.emplace_back(r);
    } while (accept(","));
    expect(";");
  }

  Instruction instruction() {
    Instruction in;
    const char* begin = peek().text.data();
    in.line = peek().line;
    in.source = source_;
    if (accept("@")) {
      in.guard_inverted = accept("!");
      in.guard = word();
    }
    in.opcode = word();
    while (!peek().is(";")) {
      if (peek().kind == Token::Kind::end) refuse("expected ';'");
      in.operands.push_back(operand());
      if (!peek().is(";")) expect(",");
    }
    in.text = {begin, static_cast<size_t>(peek().text.data() - begin)};
    take();
    return in;
  }

  Operand operand() {
    Operand o = simple_operand();
    if (!accept("|")) return o;
    Operand pair;
    pair.kind = Operand::Kind::list;
    pair.elements = {o, simple_operand()};
    return pair;
  }

  Operand simple_operand() {
    Operand o;
    if (accept("{")) {
      o.kind = Operand::Kind::list;
      do {
        o.elements.push_back(operand());
      } while (accept(","));
      expect("}");
    } else if (accept("[")) {
      o.kind = Operand::Kind::address;
      o.text = peek().kind == Token::Kind::number ? std::string_view() : word();
      if (o.text.empty()) o.offset = static_cast<int64_t>(integer());
      if (accept("+") || peek().is("-")) {
        const bool minus = accept("-");
        const auto n = static_cast<int64_t>(integer());
        o.offset += minus ? -n : n;
      }
      expect("]");
    } else if (accept("!")) {
      o.text = word();
      o.inverted = true;
    } else if (peek().is("-") || peek().is("+") || peek().kind == Token::Kind::number) {
      o.kind = Operand::Kind::number;
      o.negative = accept("-");
      accept("+");
      if (peek().kind != Token::Kind::number) refuse("expected a number");
      o.text = take().text;
    } else if (accept("generic")) {
      expect("(");
      o.text = word();
      expect(")");
    } else {
      o.text = word();
    }
    return o;
  }

  Module& module_;
  std::vector<Token> tokens_;
  size_t here_ = 0;
  std::string_view kernel_;
  SourceLine source_;
};

}  // namespace

std::unique_ptr<Module> parse(std::string text) {
  auto module = std::make_unique<Module>();
  module->text = std::move(text);
  Parser(*module).run();
  return module;
}

}  // namespace cudream::vgpu::ptx
