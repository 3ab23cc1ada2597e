// Writes the tensors of a safetensors file as torch.save would: an archive of a pickle and one storage a tensor.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "loader/safetensors.h"

namespace cudream {

namespace checkpoint_writer {

template <typename T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

inline std::string text(const std::string& value) {
  std::string code = "X";
  put(code, static_cast<uint32_t>(value.size()));
  return code + value;
}

inline std::string numbers(const std::vector<uint64_t>& values) {
  std::string code = "(";
  for (const uint64_t v : values) {
    code += "J";
    put(code, static_cast<int32_t>(v));
  }
  return code + "t";
}

// The instructions for one tensor, with its storage under `key`.
inline std::string tensor(const TensorInfo& t, const std::string& key) {
  const char* storage = t.type == FileType::f16   ? "HalfStorage"
                        : t.type == FileType::f32 ? "FloatStorage"
                        : t.type == FileType::i32 ? "IntStorage"
                                                  : "LongStorage";
  std::vector<uint64_t> strides(t.shape.size(), 1);
  for (size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * t.shape[i];
  std::string code =
      "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\n" + storage + "\n" + text(key) + text("cpu") + "J";
  put(code, static_cast<int32_t>(t.bytes * 8 / static_cast<uint64_t>(bits_of(t.type))));
  return code + "tQK" + std::string(1, '\0') + numbers(t.shape) + numbers(strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

class Zip {
 public:
  void add(const std::string& name, std::string_view bytes) {
    const auto header = static_cast<uint32_t>(file_.size());
    file_ += "PK\x03\x04";
    file_.append(14, '\0');
    sizes(file_, name, bytes);
    file_ += name;
    file_ += bytes;
    directory_ += "PK\x01\x02";
    directory_.append(16, '\0');
    sizes(directory_, name, bytes);
    directory_.append(12, '\0');
    directory_.resize(directory_.size() - 2);
    put(directory_, header);
    directory_ += name;
    count_++;
  }
  std::string bytes() const {
    std::string all = file_ + directory_ + "PK\x05\x06" + std::string(4, '\0');
    put(all, count_);
    put(all, count_);
    put(all, static_cast<uint32_t>(directory_.size()));
    put(all, static_cast<uint32_t>(file_.size()));
    return all + std::string(2, '\0');
  }

 private:
  // Of the bytes, packed and not, of the name, and of no extra field.
  static void sizes(std::string& to, const std::string& name, std::string_view bytes) {
    put(to, static_cast<uint32_t>(bytes.size()));
    put(to, static_cast<uint32_t>(bytes.size()));
    put(to, static_cast<uint16_t>(name.size()));
    put(to, uint16_t{0});
  }
  std::string file_, directory_;
  uint16_t count_ = 0;
};

}  // namespace checkpoint_writer

inline void write_checkpoint(const std::filesystem::path& path, const SafetensorsFile& from) {
  using namespace checkpoint_writer;
  std::string code = "\x80\x02}" + text("state_dict") + "}(";
  Zip zip;
  for (size_t i = 0; i < from.tensors().size(); i++) {
    const TensorInfo& t = from.tensors()[i];
    code += text(t.name) + tensor(t, std::to_string(i));
    const std::vector<std::byte> bytes = from.bytes(t);
    zip.add("archive/data/" + std::to_string(i), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  zip.add("archive/data.pkl", code + "us.");
  std::ofstream(path, std::ios::binary) << zip.bytes();
}

}  // namespace cudream
