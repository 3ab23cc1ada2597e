// One tensor and one text.
#include "runtime/latent_file.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "loader/safetensors.h"

namespace cudream {
namespace {

constexpr const char *kTensor = "latent", *kJob = "cudream.job";

}  // namespace

void write_latent(const std::filesystem::path& path, const KeptLatent& kept) {
  const auto side = [](int64_t n) { return static_cast<uint64_t>(n); };
  write_safetensors(path,
                    {{.name = kTensor,
                      .type = FileType::f32,
                      .shape = {side(kept.height), side(kept.width), side(kept.channels)},
                      .bytes = std::as_bytes(std::span(kept.values))}},
                    {{kJob, to_json(kept.job).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)}}, Exists::replace);
}

KeptLatent read_latent(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto job = file.header().metadata.find(kJob);
  const TensorInfo* tensor = file.header().find(kTensor);
  if (job == file.header().metadata.end() || tensor == nullptr || tensor->shape.size() != 3)
    throw fail(Code::bad_file, "{} is no latent that cudream kept", path.string());
  const auto json = nlohmann::json::parse(job->second, nullptr, false);
  if (json.is_discarded()) throw fail(Code::bad_file, "{}: its job is not JSON", path.string());
  const auto side = [&](size_t i) { return static_cast<int64_t>(tensor->shape[i]); };
  return {.job = job_from_json(json), .values = file.floats(*tensor), .height = side(0), .width = side(1), .channels = side(2)};
}

}  // namespace cudream
