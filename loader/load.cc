// Loading weights: bind (compare what networks ask for with what the files hold), then stream in file order.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/log.h"
#include "loader/hash.h"
#include "loader/model.h"
#include "loader/values.h"

namespace cudream {
namespace {

// One request of the store and where its parts are stored.
struct Job {
  size_t request = 0;
  std::vector<Source> parts;
  std::optional<DType> type;  // what all parts are stored in; none: they become float32
  uint64_t offset = 0;        // of the first part in its file, for the order of reading
};

// ---- Binding ----------------------------------------------------------------------------------------------------------

// Problems of one part ("unet") in words, at most a few of each kind.
struct Problems {
  std::vector<std::string> missing, misshapen, unclaimed;
  size_t requested = 0;
};

std::string first_of(std::string_view name) {
  return std::string(name.substr(0, name.find('.')));
}

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kShown = 6;
  const std::span<const std::string> shown(names.data(), std::min(names.size(), kShown));
  return fmt::format("{}{}", fmt::join(shown, ", "),
                     names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "");
}

// Shapes that differ in trailing 1s are alike: a 1x1 convolution is a matrix.
bool same_shape(std::vector<uint64_t> stored, const Shape& asked) {
  std::vector<uint64_t> wanted(asked.n.begin(), asked.n.begin() + asked.rank);
  for (auto* shape : {&stored, &wanted})
    while (shape->size() > 1 && shape->back() == 1) shape->pop_back();
  return stored == wanted;
}

// Types whose values are weights as they are. Integers would be quantised weights, which need scales that we do not know.
bool is_float(FileType type) {
  switch (type) {
    case FileType::f64:
    case FileType::f32:
    case FileType::f16:
    case FileType::bf16:
    case FileType::f8_e4m3:
    case FileType::f8_e5m2:
    case FileType::f8_e4m3fnuz:
    case FileType::f8_e5m2fnuz: return true;
    default: return false;
  }
}

class Binder {
 public:
  Binder(const Model& model, const WeightStore& store) : names_(model.names()), store_(store) {
    for (size_t i = 0; i < store.requests().size(); i++) bind(i);
    for (const auto& [name, source] : names_.weights)
      if (const auto part = problems_.find(first_of(name)); part != problems_.end() && !claimed_.contains(name))
        part->second.unclaimed.push_back(fmt::format("{} {}", name, names_.stored(source).str()));
  }

  // Throws when there was any problem.
  std::vector<Job> jobs(const std::filesystem::path& path) {
    std::string report;
    for (const auto& [part, p] : problems_) report += described(part, p);
    if (!report.empty()) throw fail(Code::bad_file, "{} does not fit the networks it asks for:{}", path.string(), report);
    return std::move(jobs_);
  }

 private:
  void bind(size_t i) {
    const WeightRequest& request = store_.requests()[i];
    Job job{.request = i};
    for (const std::string& name : request.parts) {
      Problems& problems = problems_[first_of(name)];
      problems.requested++;
      claimed_.insert(name);
      const auto at = names_.weights.find(name);
      if (at == names_.weights.end()) {
        problems.missing.push_back(name);
        continue;
      }
      const TensorInfo& stored = names_.stored(at->second);
      if (!same_shape(names_.shape(at->second), request.part_shape))
        problems.misshapen.push_back(fmt::format("{} has the shape [{}], expected {}", name,
                                                 fmt::join(names_.shape(at->second), ","), request.part_shape.str()));
      if (!is_float(stored.type))
        problems.misshapen.push_back(fmt::format("{} is stored as {}, expected a float type", name, name_of(stored.type)));
      const std::optional<DType> type = dtype_of(stored.type);
      job.type = job.parts.empty() || job.type == type ? type : std::nullopt;
      job.parts.push_back(at->second);
    }
    if (job.parts.size() != request.parts.size()) return;
    job.offset = names_.stored(job.parts.front()).offset;
    jobs_.push_back(std::move(job));
  }

  std::string described(const std::string& part, const Problems& p) const {
    std::string text;
    if (!p.missing.empty() && p.missing.size() == p.requested) {
      text += fmt::format("\n  {}: missing ({} tensors); {}", part, p.requested,
                          part == "vae" ? "pass one with --vae FILE" : "use a whole checkpoint or a folder that has it");
    } else if (!p.missing.empty()) {
      text += fmt::format("\n  {}: {} of {} tensors are missing: {}", part, p.missing.size(), p.requested, listed(p.missing));
    }
    if (!p.misshapen.empty())
      text += fmt::format("\n  {}: {} tensors are not as expected: {}", part, p.misshapen.size(), listed(p.misshapen));
    if (!p.unclaimed.empty())
      text += fmt::format("\n  {}: {} tensors have no place in the network: {}", part, p.unclaimed.size(), listed(p.unclaimed));
    return text;
  }

  const NameTable& names_;
  const WeightStore& store_;
  std::map<std::string, Problems> problems_;  // of the parts that the store asks anything of
  std::set<std::string, std::less<>> claimed_;
  std::vector<Job> jobs_;
};

// ---- Streaming ----------------------------------------------------------------------------------------------------------

// Swaps rows and columns of a matrix of `width`-byte elements.
void transpose(std::span<std::byte> to, std::span<const std::byte> from, uint64_t rows, uint64_t columns, size_t width) {
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t c = 0; c < columns; c++) std::copy_n(&from[(r * columns + c) * width], width, &to[(c * rows + r) * width]);
}

// Bytes that a job reads.
uint64_t stored_bytes(const Model& model, const Job& job) {
  uint64_t sum = 0;
  for (const Source& s : job.parts) sum += model.names().stored(s).bytes / s.pieces;
  return sum;
}

// Reads the weights of a model, in the order of the jobs.
class Reader {
 public:
  Reader(const Model& model, Reading reading) : model_(model) {
    for (const auto& file : model.files()) files_.emplace_back(file->map(), reading);
  }
  const WeightFile& file(size_t i) const { return files_[i]; }
  // Of the file that is the whole model; null: it has several, or is not read directly.
  PieceReader* pieces_of_model() const {
    return model_.files().front()->path() == model_.path() ? files_.front().pieces() : nullptr;
  }

  // The bytes of the whole joined weight, valid until the next call. What lies in the file as it is asked for is read when and
  // where the device wants it; the rest is brought together in memory first.
  RawBytes read(const Job& job) {
    for (const Source& s : job.parts) files_[s.file].move_on(start_of(s));
    const bool as_it_is = job.type && std::ranges::none_of(job.parts, [](const Source& s) { return s.transpose; });
    if (as_it_is && files_[job.parts.front().file].reading() != Reading::direct)
      return [this, &job](std::span<std::byte> to, int64_t offset) { read_range(job, to, static_cast<uint64_t>(offset)); };
    uint64_t size = 0;
    for (const Source& s : job.parts) size += job.type ? bytes_of(s) : bytes_of(s) / width_of(s) * sizeof(float);
    whole_.resize(std::max(whole_.size(), size));
    std::span<std::byte> rest = std::span(whole_).first(size);
    for (const Source& s : job.parts) rest = rest.subspan(read_part(s, job.type.has_value(), rest));
    return [this](std::span<std::byte> to, int64_t offset) {
      std::ranges::copy(std::span(whole_).subspan(static_cast<size_t>(offset), to.size()), to.begin());
    };
  }

 private:
  const TensorInfo& stored(const Source& s) const { return model_.names().stored(s); }
  uint64_t bytes_of(const Source& s) const { return stored(s).bytes / s.pieces; }
  uint64_t start_of(const Source& s) const { return stored(s).offset + bytes_of(s) * s.piece; }
  size_t width_of(const Source& s) const { return static_cast<size_t>(bits_of(stored(s).type)) / 8; }

  // A range of parts that follow each other.
  void read_range(const Job& job, std::span<std::byte> to, uint64_t offset) const {
    for (const Source& s : job.parts) {
      const uint64_t size = bytes_of(s);
      if (offset < size && !to.empty()) {
        const uint64_t count = std::min<uint64_t>(to.size(), size - offset);
        files_[s.file].read(to.first(count), start_of(s) + offset);
        to = to.subspan(count);
        offset += count;
      }
      offset -= std::min(offset, size);
    }
  }

  // Reads one part to the start of `to`, as it is stored or as float32; returns the bytes it takes there.
  size_t read_part(const Source& s, bool as_stored, std::span<std::byte> to) {
    const uint64_t bytes = bytes_of(s);
    if (as_stored && !s.transpose) {
      files_[s.file].read(to.first(bytes), start_of(s));
      return bytes;
    }
    part_.resize(bytes);
    files_[s.file].read(part_, start_of(s));
    if (s.transpose) {
      const std::vector<std::byte> before = part_;
      transpose(part_, before, stored(s).shape[0], stored(s).shape[1], width_of(s));
    }
    if (as_stored) {
      std::copy(part_.begin(), part_.end(), to.begin());
      return bytes;
    }
    floats_.resize(bytes / width_of(s));
    to_float(floats_, stored(s).type, part_);
    std::ranges::copy(std::as_bytes(std::span(floats_)), to.begin());
    return floats_.size() * sizeof(float);
  }

  const Model& model_;
  std::vector<WeightFile> files_;
  std::vector<std::byte> whole_, part_;
  std::vector<float> floats_;
};

// The jobs in the order of reading: as the files lie, in turn part by part.
std::vector<Job> ordered_jobs(const Model& model, const WeightStore& store, bool in_turn) {
  std::vector<Job> jobs = Binder(model, store).jobs(model.path());
  const auto key = [&](const Job& j) {
    return std::tuple(in_turn ? part_of(store.requests()[j.request].weight.name) : "", j.parts.front().file, j.offset);
  };
  std::ranges::stable_sort(jobs, std::less<>(), key);
  return jobs;
}

WeightLayout layout_of(const std::vector<Job>& jobs, const WeightStore& store, const Device& device, bool in_turn) {
  std::vector<StoredWeight> order;
  order.reserve(jobs.size());
  for (const Job& job : jobs) order.push_back({job.request, job.type.value_or(DType::f32)});
  return store.lay_out(device, order, in_turn);
}

}  // namespace

void check_weights(const Model& model, const WeightStore& store) {
  Binder(model, store).jobs(model.path());
}

void reload_weights(const Model& model, WeightStore& store, Device& device, const std::set<std::string>& names,
                    const WeightChanges& changes) {
  Reader reader(model, Reading::automatic);
  std::string part;  // that is on the device and changed
  for (Job& job : ordered_jobs(model, store, store.layout().in_turn)) {
    const WeightRequest& request = store.requests()[job.request];
    const auto holds = [&](auto test) { return std::ranges::any_of(request.parts, test); };
    if (!holds([&](const std::string& name) { return names.contains(name); })) continue;
    if (const std::string mine = part_of(request.weight.name); mine != part) {
      if (!part.empty()) store.put_aside(part);
      store.bring(part = mine);
    }
    if (!holds([&](const std::string& name) { return changes.touches(name); })) {
      store.refill(job.request, job.type.value_or(DType::f32), reader.read(job));
      continue;
    }
    job.type.reset();  // as float32
    std::vector<float> values(static_cast<size_t>(request.weight.shape.size()));
    reader.read(job)(std::as_writable_bytes(std::span(values)), 0);
    const size_t each = values.size() / request.parts.size();
    for (size_t i = 0; i < request.parts.size(); i++) changes.apply(request.parts[i], std::span(values).subspan(i * each, each));
    store.refill(job.request, DType::f32, [&](std::span<std::byte> to, int64_t offset) {
      std::memcpy(to.data(), reinterpret_cast<const std::byte*>(values.data()) + offset, to.size());
    });
  }
  if (!part.empty()) store.put_aside(part);
  device.end_packing();
}

WeightLayout plan_weights(const Model& model, const WeightStore& store, const Device& device, bool in_turn) {
  return layout_of(ordered_jobs(model, store, in_turn), store, device, in_turn);
}

LoadReport load_weights(const Model& model, WeightStore& store, Device& device, const LoadOptions& options) {
  const auto begun = std::chrono::steady_clock::now();
  const std::vector<Job> jobs = ordered_jobs(model, store, options.in_turn);
  store.reserve(device, layout_of(jobs, store, device, options.in_turn));
  LoadReport report;
  uint64_t done = 0, total = 0;
  for (const Job& job : jobs) total += stored_bytes(model, job);
  const auto tell = [&] {
    if (options.progress) options.progress(static_cast<int64_t>(done), static_cast<int64_t>(total));
  };
  const CachedDigest cached(model.path());
  Reader reader(model, options.reading);
  PieceReader* const hashed = options.hash && cached.known().empty() ? reader.pieces_of_model() : nullptr;
  if (hashed != nullptr) hashed->hash_along(tell);
  for (size_t i = 0; i < jobs.size(); i++) {
    const Job& job = jobs[i];
    store.fill(job.request, job.type.value_or(DType::f32), reader.read(job));
    const std::string part = part_of(store.requests()[job.request].weight.name);
    if (options.in_turn && (i + 1 == jobs.size() || part != part_of(store.requests()[jobs[i + 1].request].weight.name)))
      store.put_aside(part);
    report.reading = reader.file(job.parts.front().file).reading();
    done += stored_bytes(model, job);
    tell();
  }
  device.end_packing();
  if (hashed != nullptr) cached.keep(hashed->digest());
  report.hashed = hashed != nullptr;
  report.bytes = static_cast<int64_t>(total);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  return report;
}

}  // namespace cudream
