// A stack machine for the data instructions of pickles.
#include "loader/pickle.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

constexpr size_t kMostValues = 1 << 20;  // the notes of a long training are some ten thousand; each takes more memory than file

constexpr std::string_view kOrderedDict = "collections OrderedDict", kTensor = "torch._utils _rebuild_tensor_v2",
                           kParameter = "torch._utils _rebuild_parameter";

struct Storage {
  std::string_view name;
  FileType type;
};
constexpr Storage kStorages[] = {
    {"torch HalfStorage", FileType::f16},     {"torch FloatStorage", FileType::f32}, {"torch BFloat16Storage", FileType::bf16},
    {"torch DoubleStorage", FileType::f64},   {"torch LongStorage", FileType::i64},  {"torch IntStorage", FileType::i32},
    {"torch ShortStorage", FileType::i16},    {"torch CharStorage", FileType::i8},   {"torch ByteStorage", FileType::u8},
    {"torch BoolStorage", FileType::boolean},
};

const Storage* storage_named(std::string_view name) {
  const auto at = std::ranges::find(kStorages, name, &Storage::name);
  return at == std::end(kStorages) ? nullptr : at;
}

// Names that may stand in a pickle. The last is a key among the notes of training in the first Stable Diffusion files.
bool is_known(std::string_view name) {
  return name == kOrderedDict || name == kTensor || name == kParameter || storage_named(name) != nullptr ||
         name == "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint";
}

// What people may know the refused instructions by.
std::string instruction(uint8_t code) {
  switch (code) {
    case 'i': return "INST";
    case 'o': return "OBJ";
    case 'P': return "PERSID";
    case 'p': return "PUT";
    case 'g': return "GET";
    case 'I': return "INT";
    case 'F': return "FLOAT";
    case 'S': return "STRING";
    case 'V': return "UNICODE";
    case '0': return "POP";
    case '1': return "POP_MARK";
    case '2': return "DUP";
    case 0x81: return "NEWOBJ";
    case 0x82:
    case 0x83:
    case 0x84: return "EXT";
    case 0x8b: return "LONG4";
    case 0x92: return "NEWOBJ_EX";
    case 0x96: return "BYTEARRAY8";
    case 0x97: return "NEXT_BUFFER";
    default: return fmt::format("{:#04x}", code);
  }
}

// A value on the stack. Containers hold indices of values, so one that holds itself is no danger.
struct Value {
  enum class Kind : uint8_t { none, number, text, global, tuple, list, dict, storage, tensor } kind = Kind::none;
  int64_t number = 0;
  std::string text;           // of a text; the name of a global; the key of a storage
  std::vector<size_t> items;  // of a dictionary: key, value, key, value
  FileType type = FileType::f32;
  std::vector<uint64_t> shape;  // of a tensor; `number`: its first element, `items`: its storage
};
using Kind = Value::Kind;

class Machine {
 public:
  Machine(std::span<const std::byte> code, const std::string& file) : rest_(code), file_(file) {}

  std::vector<PickledTensor> run() {
    while (step(take<uint8_t>())) {
    }
    if (!rest_.empty()) throw broken("something follows its end");
    if (stack_.size() != 1) throw broken("it does not leave one value");
    return tensors(values_[stack_.back()]);
  }

 private:
  Error broken(std::string_view what) const { return fail(Code::bad_file, "{}: its pickle is damaged: {}", file_, what); }
  Error refused(std::string_view what) const {
    return fail(
        Code::unsupported,
        "{}: its pickle {}, which a checkpoint of tensors does not need, so it is not read: it may be an attack. Get the model "
        "as .safetensors.",
        file_, what);
  }

  std::span<const std::byte> bytes(uint64_t count) {
    if (count > rest_.size()) throw broken("it ends too early");
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <typename T>
  T take() {
    T value;
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string text(uint64_t count) {
    const auto raw = bytes(count);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
  std::string line() {
    const auto end = std::ranges::find(rest_, std::byte{'\n'});
    std::string found = text(static_cast<uint64_t>(end - rest_.begin()));
    bytes(1);
    return found;
  }

  void push(Value value) {
    if (values_.size() == kMostValues) throw broken("it has more values than any checkpoint");
    values_.push_back(std::move(value));
    stack_.push_back(values_.size() - 1);
  }
  void push_number(int64_t n) { push({.kind = Kind::number, .number = n}); }
  size_t pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) throw broken("its stack is empty");
    const size_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  size_t top() {
    const size_t value = pop();
    stack_.push_back(value);
    return value;
  }
  std::vector<size_t> pop_to_mark() {
    if (marks_.empty()) throw broken("a mark is missing");
    std::vector<size_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void push_tuple(size_t count) {
    std::vector<size_t> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push({.kind = Kind::tuple, .items = std::move(items)});
  }
  void extend(Kind kind, const std::vector<size_t>& items) {
    Value& to = values_[top()];
    if (to.kind != kind || (kind == Kind::dict && items.size() % 2 != 0))
      throw broken("items for something else than a container");
    to.items.insert(to.items.end(), items.begin(), items.end());
  }
  void get(uint64_t at) {
    const auto found = memo_.find(at);
    if (found == memo_.end()) throw broken("a memo is missing");
    stack_.push_back(found->second);
  }
  void global(const std::string& name) {
    if (!is_known(name)) throw refused(fmt::format("names \"{}\" (GLOBAL)", printable(name)));
    push({.kind = Kind::global, .text = name});
  }

  // One instruction; false: the last.
  bool step(uint8_t code) {
    switch (code) {
      case 0x80:  // PROTO
        if (const auto version = take<uint8_t>(); version < 2 || version > 4)
          throw refused(fmt::format("has protocol {} (PROTO)", version));
        return true;
      case 0x95: bytes(8); return true;  // FRAME
      case '.': return false;            // STOP
      case 'N': push({}); return true;
      case 0x88: push_number(1); return true;  // NEWTRUE
      case 0x89: push_number(0); return true;  // NEWFALSE
      case 'J': push_number(take<int32_t>()); return true;
      case 'K': push_number(take<uint8_t>()); return true;
      case 'M': push_number(take<uint16_t>()); return true;
      case 0x8a: push_number(long_number()); return true;  // LONG1
      case 'G':
        bytes(8);
        push({});
        return true;  // BINFLOAT
      case 'X': push_text(take<uint32_t>()); return true;
      case 0x8c: push_text(take<uint8_t>()); return true;   // SHORT_BINUNICODE
      case 0x8d: push_text(take<uint64_t>()); return true;  // BINUNICODE8
      case 'U': push_text(take<uint8_t>()); return true;    // SHORT_BINSTRING, of Python 2
      default: return step_containers(code);
    }
  }

  bool step_containers(uint8_t code) {
    switch (code) {
      case '(': marks_.push_back(stack_.size()); return true;
      case ')': push({.kind = Kind::tuple}); return true;
      case ']': push({.kind = Kind::list}); return true;
      case '}': push({.kind = Kind::dict}); return true;
      case 't': push({.kind = Kind::tuple, .items = pop_to_mark()}); return true;
      case 0x85: push_tuple(1); return true;
      case 0x86: push_tuple(2); return true;
      case 0x87: push_tuple(3); return true;
      case 'a': {
        const size_t item = pop();
        extend(Kind::list, {item});
        return true;
      }
      case 'e': {
        const std::vector<size_t> items = pop_to_mark();
        extend(Kind::list, items);
        return true;
      }
      case 's': {
        const size_t value = pop(), key = pop();
        extend(Kind::dict, {key, value});
        return true;
      }
      case 'u': {
        const std::vector<size_t> items = pop_to_mark();
        extend(Kind::dict, items);
        return true;
      }
      case 'q': memo_[take<uint8_t>()] = top(); return true;
      case 'r': memo_[take<uint32_t>()] = top(); return true;
      case 0x94: memo_[memo_.size()] = top(); return true;  // MEMOIZE
      case 'h': get(take<uint8_t>()); return true;
      case 'j': get(take<uint32_t>()); return true;
      default: return step_objects(code);
    }
  }

  bool step_objects(uint8_t code) {
    switch (code) {
      case 'c': {
        const std::string module = line();
        global(module + " " + line());
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const size_t name = pop(), module = pop();
        if (values_[name].kind != Kind::text || values_[module].kind != Kind::text) throw broken("a name is no text");
        global(values_[module].text + " " + values_[name].text);
        return true;
      }
      case 'Q': persistent(); return true;
      case 'R': reduce(); return true;
      case 'b':  // BUILD: attributes of a dictionary, of no use here
        pop();
        if (values_[top()].kind != Kind::dict) throw refused("gives attributes to something else than a dictionary (BUILD)");
        return true;
      default: throw refused(fmt::format("has the instruction {}", instruction(code)));
    }
  }

  void push_text(uint64_t count) { push({.kind = Kind::text, .text = text(count)}); }

  int64_t long_number() {
    const auto raw = bytes(take<uint8_t>());
    if (raw.size() > 8) throw broken("a number is too long");
    const bool negative = !raw.empty() && (raw.back() & std::byte{0x80}) != std::byte{0};
    int64_t n = negative ? -1 : 0;
    std::memcpy(&n, raw.data(), raw.size());
    return n;
  }

  // ("storage", torch.HalfStorage, "0", "cpu", 123) -> a storage.
  void persistent() {
    const Value& id = values_[pop()];
    const auto is = [&](size_t i, Kind kind) { return values_[id.items[i]].kind == kind; };
    if (id.kind != Kind::tuple || id.items.size() != 5 || !is(0, Kind::text) || !is(1, Kind::global) || !is(2, Kind::text) ||
        !is(4, Kind::number) || values_[id.items[0]].text != "storage" || values_[id.items[4]].number < 0)
      throw refused("has a persistent id that is no storage (BINPERSID)");
    const Storage* storage = storage_named(values_[id.items[1]].text);
    if (storage == nullptr) throw refused(fmt::format("has a storage of \"{}\" (BINPERSID)", values_[id.items[1]].text));
    push(
        {.kind = Kind::storage, .number = values_[id.items[4]].number, .text = values_[id.items[2]].text, .type = storage->type});
  }

  void reduce() {
    const size_t arguments = pop(), called = pop();
    const Value &what = values_[called], &with = values_[arguments];
    if (what.kind != Kind::global || with.kind != Kind::tuple) throw refused("calls something that is no name (REDUCE)");
    if (what.text == kOrderedDict && with.items.empty()) return push({.kind = Kind::dict});
    if (what.text == kTensor) return rebuild_tensor(with);
    if (what.text == kParameter && !with.items.empty() && values_[with.items.front()].kind == Kind::tensor)
      return stack_.push_back(with.items.front());
    throw refused(fmt::format("calls \"{}\" (REDUCE)", what.text));
  }

  std::vector<uint64_t> numbers(const Value& tuple) const {
    std::vector<uint64_t> all;
    for (const size_t item : tuple.items) {
      if (values_[item].kind != Kind::number || values_[item].number < 0)
        throw broken("a shape holds something else than numbers");
      all.push_back(static_cast<uint64_t>(values_[item].number));
    }
    return all;
  }

  // _rebuild_tensor_v2(storage, first element, shape, strides, requires_grad, hooks)
  void rebuild_tensor(const Value& with) {
    const auto at = [&](size_t i) -> const Value& { return values_[with.items[i]]; };
    if (with.items.size() < 6 || at(0).kind != Kind::storage || at(1).kind != Kind::number || at(1).number < 0 ||
        at(2).kind != Kind::tuple || at(3).kind != Kind::tuple || at(2).items.size() != at(3).items.size())
      throw broken("a tensor is not described as PyTorch does it");
    const std::vector<uint64_t> shape = numbers(at(2)), strides = numbers(at(3));
    uint64_t values = 1;
    bool dense = true, overflows = false;
    for (size_t axis = shape.size(); axis-- > 0;) {
      dense &= shape[axis] == 1 || strides[axis] == values;
      overflows |= __builtin_mul_overflow(values, shape[axis], &values);
    }
    if (overflows) throw broken("a tensor is larger than any file");
    if (!dense && values > 0)
      throw fail(Code::unsupported, "{}: a tensor of shape [{}] is not stored row by row; save it with .contiguous()", file_,
                 fmt::join(shape, ","));
    const auto first = static_cast<uint64_t>(at(1).number), of = static_cast<uint64_t>(at(0).number);
    if (first > of || values > of - first) throw broken("a tensor is larger than its storage");
    push({.kind = Kind::tensor, .number = at(1).number, .items = {with.items.front()}, .type = at(0).type, .shape = shape});
  }

  const Value* entry(const Value& dict, std::string_view key) const {
    for (size_t i = 0; i < dict.items.size(); i += 2)
      if (values_[dict.items[i]].kind == Kind::text && values_[dict.items[i]].text == key) return &values_[dict.items[i + 1]];
    return nullptr;
  }

  std::vector<PickledTensor> tensors(const Value& root) const {
    if (root.kind != Kind::dict) throw refused("is no dictionary");
    const Value* inner = entry(root, "state_dict");
    const Value& dict = inner != nullptr && inner->kind == Kind::dict ? *inner : root;
    std::vector<PickledTensor> all;
    std::set<std::string_view> names;
    for (size_t i = 0; i < dict.items.size(); i += 2) {
      const Value &key = values_[dict.items[i]], &value = values_[dict.items[i + 1]];
      if (value.kind != Kind::tensor) continue;
      if (key.kind != Kind::text || !names.insert(key.text).second) throw broken("a tensor has no name, or that of another");
      const Value& storage = values_[value.items.front()];
      all.push_back({.name = key.text,
                     .type = value.type,
                     .storage = storage.text,
                     .storage_values = static_cast<uint64_t>(storage.number),
                     .first = static_cast<uint64_t>(value.number),
                     .shape = value.shape});
    }
    return all;
  }

  std::span<const std::byte> rest_;
  const std::string& file_;
  std::deque<Value> values_;
  std::vector<size_t> stack_, marks_;  // marks: heights of the stack
  std::unordered_map<uint64_t, size_t> memo_;
};

}  // namespace

std::vector<PickledTensor> read_pickle(std::span<const std::byte> pickle, const std::string& file) {
  return Machine(pickle, file).run();
}

}  // namespace cudream
