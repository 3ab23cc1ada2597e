// PTX text to tokens.
#include "tests/vgpu/ptx/lexer.h"

#include <cctype>

#include "core/error.h"

namespace cudream::vgpu::ptx {
namespace {

bool starts_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
}
bool in_word(char c) {
  return starts_word(c) || std::isdigit(static_cast<unsigned char>(c));
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    while (skip_blanks()) tokens.push_back(next());
    tokens.push_back({Token::Kind::end, {}, line_});
    return tokens;
  }

 private:
  char at(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }

  // Skips blanks and comments; false at the end of the text.
  bool skip_blanks() {
    while (here_ < source_.size()) {
      if (source_.substr(here_, 2) == "//") {
        here_ = std::min(source_.find('\n', here_), source_.size());
      } else if (source_.substr(here_, 2) == "/*") {
        const size_t close = source_.find("*/", here_ + 2);
        if (close == std::string_view::npos) throw fail(Code::bad_file, "PTX line {}: comment without an end", line_);
        for (; here_ < close + 2; here_++) line_ += source_[here_] == '\n';
      } else if (std::isspace(static_cast<unsigned char>(source_[here_]))) {
        line_ += source_[here_++] == '\n';
      } else {
        return true;
      }
    }
    return false;
  }

  Token take(Token::Kind kind, size_t end) {
    const Token token{kind, source_.substr(here_, end - here_), line_};
    here_ = end;
    return token;
  }

  Token next() {
    const char c = source_[here_];
    size_t end = here_ + 1;
    if (c == '"') {
      end = source_.find('"', end);
      if (end == std::string_view::npos) throw fail(Code::bad_file, "PTX line {}: string without an end", line_);
      const Token token{Token::Kind::string, source_.substr(here_ + 1, end - here_ - 1), line_};
      here_ = end + 1;
      return token;
    }
    if (std::isdigit(static_cast<unsigned char>(c))) {
      const bool hex = at(end) == 'x' || at(end) == 'X' || at(end) == 'f' || at(end) == 'F' || at(end) == 'd' || at(end) == 'D';
      while (std::isalnum(static_cast<unsigned char>(at(end))) || at(end) == '.' ||
             (!hex && (at(end) == '+' || at(end) == '-') && (at(end - 1) == 'e' || at(end - 1) == 'E'))) {
        end++;
      }
      return take(Token::Kind::number, end);
    }
    if (starts_word(c)) {
      // A directive ends at its next dot: ".reg.b32" is two.
      while ((in_word(at(end)) && !(c == '.' && at(end) == '.')) || (at(end) == ':' && at(end + 1) == ':'))
        end += at(end) == ':' ? 2 : 1;
      return take(Token::Kind::word, end);
    }
    if (std::string_view("{}[]()<>,;:=+-!|@").find(c) != std::string_view::npos) return take(Token::Kind::punctuation, end);
    throw fail(Code::bad_file, "PTX line {}: unexpected character '{}'", line_, c);
  }

  std::string_view source_;
  size_t here_ = 0;
  uint32_t line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace cudream::vgpu::ptx
