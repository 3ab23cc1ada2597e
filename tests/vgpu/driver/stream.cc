// Streams, events and captures.
#include "tests/vgpu/driver/stream.h"

#include <algorithm>
#include <chrono>

#include "tests/vgpu/driver/driver.h"

namespace cudream::vgpu {
namespace {

uint64_t next_sequence() {
  static uint64_t sequence = 0;  // under the driver's lock
  return ++sequence;
}

double now_milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The null stream waits for all work given earlier to blocking streams, and they for its.
void drain_before(Stream& stream, uint64_t sequence) {
  if (!stream.blocking) return;
  if (!stream.is_null) return drain(stream.context->null_stream, sequence - 1);
  for (const auto& other : stream.context->streams) {
    if (other->blocking) drain(*other, sequence - 1);
  }
}

bool blocking_capture(const Context& context) {
  return std::any_of(context.streams.begin(), context.streams.end(),
                     [](const auto& s) { return s->blocking && s->capture != nullptr; });
}

}  // namespace

CUresult enqueue(Stream& stream, Work work) {
  if (stream.is_null && blocking_capture(*stream.context)) {
    refuse_while_capturing(*stream.context);
    return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  if (stream.capture != nullptr) {
    if (!stream.capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream.capture->graph.nodes.push_back(std::move(work));
    stream.unjoined = stream.capture->origin != &stream;
    return CUDA_SUCCESS;
  }
  stream.queue.push_back({next_sequence(), std::move(work)});
  return CUDA_SUCCESS;
}

void drain(Stream& stream, uint64_t sequence) {
  while (!stream.queue.empty() && stream.queue.front().sequence <= sequence) advance(stream);
}

void drain(Context& context) {
  drain(context.null_stream);
  for (const auto& stream : context.streams) drain(*stream);
}

bool advance(Stream& stream) {
  if (stream.queue.empty()) return false;
  const Stream::Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  drain_before(stream, operation.sequence);
  if (stream.context->failed == CUDA_SUCCESS) operation.run();
  return true;
}

CUresult record(Event& event, Stream& stream) {
  event.stream = &stream;
  event.done = false;
  event.capture = stream.capture;
  if (stream.capture != nullptr) {
    event.sequence = 0;
    return stream.capture->valid ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  const uint64_t sequence = next_sequence();
  event.sequence = sequence;
  stream.queue.push_back({sequence, [&event, sequence] {
                            if (event.sequence != sequence) return;  // recorded again since
                            event.done = true;
                            event.milliseconds = now_milliseconds();
                          }});
  return CUDA_SUCCESS;
}

CUresult wait(Stream& stream, Event& event) {
  if (event.capture != nullptr) {
    if (!event.capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream.capture != nullptr && stream.capture != event.capture) return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    if (stream.capture == nullptr) {
      stream.capture = event.capture;
      event.capture->joined.push_back(&stream);
      stream.unjoined = true;
    }
    if (event.stream != &stream) event.stream->unjoined = false;
    return CUDA_SUCCESS;
  }
  if (stream.capture != nullptr) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  if (event.sequence == 0) return CUDA_SUCCESS;
  Stream* recorded_in = event.stream;
  const uint64_t sequence = event.sequence;
  return enqueue(stream, [recorded_in, sequence] { drain(*recorded_in, sequence); });
}

CUresult begin_capture(Stream& stream, CUstreamCaptureMode mode) {
  if (stream.is_null) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream.capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  stream.capture = std::make_shared<Capture>();
  stream.capture->origin = &stream;
  stream.capture->mode = mode;
  stream.capture->thread = std::this_thread::get_id();
  stream.unjoined = false;
  return CUDA_SUCCESS;
}

CUresult end_capture(Stream& stream, std::unique_ptr<Graph>& graph) {
  const std::shared_ptr<Capture> capture = stream.capture;
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->origin != &stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  const bool unjoined = std::any_of(capture->joined.begin(), capture->joined.end(), [](const Stream* s) { return s->unjoined; });
  for (Stream* s : capture->joined) s->capture = nullptr;
  stream.capture = nullptr;
  if (!capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (unjoined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  graph = std::make_unique<Graph>(std::move(capture->graph));
  return CUDA_SUCCESS;
}

CUresult refuse_while_capturing(Context& context) {
  CUresult result = CUDA_SUCCESS;
  for (const auto& stream : context.streams) {
    if (stream->capture == nullptr || stream->capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    const bool elsewhere = stream->capture->thread != std::this_thread::get_id();
    if (elsewhere && stream->capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) continue;
    stream->capture->valid = false;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

}  // namespace cudream::vgpu
