// Driver functions: streams, events, captures and graphs.
#include <algorithm>

#include "tests/vgpu/driver/driver.h"

using namespace cudream::vgpu;

namespace {

CUresult with_stream(CUstream handle, const std::function<CUresult(Context&, Stream&)>& body) {
  return call_in_context([&](Driver&, Context& context) {
    Stream* stream = find_stream(context, handle);
    return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(context, *stream);
  });
}

CUresult with_event(CUevent handle, const std::function<CUresult(Context&, Event&)>& body) {
  return call_in_context([&](Driver&, Context& context) {
    Event* event = find(context.events, handle);
    return event == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(context, *event);
  });
}

CUresult create_stream(CUstream* handle, unsigned int flags) {
  return call_in_context([=](Driver&, Context& context) {
    auto stream = std::make_unique<Stream>();
    stream->context = &context;
    stream->blocking = (flags & CU_STREAM_NON_BLOCKING) == 0;
    *handle = reinterpret_cast<CUstream>(stream.get());
    context.streams.push_back(std::move(stream));
    return CUDA_SUCCESS;
  });
}

CUresult refuse_captured(Stream& stream) {
  if (stream.capture == nullptr) return CUDA_SUCCESS;
  stream.capture->valid = false;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

template <typename T, typename Handle>
CUresult destroy(std::vector<std::unique_ptr<T>>& owned, Handle handle) {
  return std::erase_if(owned, [&](const auto& o) { return o.get() == reinterpret_cast<T*>(handle); }) > 0
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace

CUresult cuStreamCreate(CUstream* handle, unsigned int flags) {
  return create_stream(handle, flags);
}
CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned int flags, int) {
  return create_stream(handle, flags);
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return call_in_context([=](Driver&, Context&) {
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamDestroy(CUstream handle) {
  return call_in_context([=](Driver&, Context& context) {
    Stream* stream = find(context.streams, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    drain(context);  // events of this stream may be waited for elsewhere
    for (const auto& event : context.events) {
      if (event->stream == stream) event->sequence = 0;
    }
    return destroy(context.streams, handle);
  });
}

CUresult cuStreamSynchronize(CUstream handle) {
  return with_stream(handle, [](Context& context, Stream& stream) {
    if (const CUresult refused = refuse_captured(stream); refused != CUDA_SUCCESS) return refused;
    drain(stream);
    if (stream.is_null) drain(context);
    return context.failed;
  });
}

// Each query lets one more operation run, so that a program which polls gets on.
CUresult cuStreamQuery(CUstream handle) {
  return with_stream(handle, [](Context& context, Stream& stream) {
    if (const CUresult refused = refuse_captured(stream); refused != CUDA_SUCCESS) return refused;
    const bool busy = advance(stream);
    return context.failed != CUDA_SUCCESS ? context.failed : busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
  });
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned int) {
  return with_stream(handle, [=](Context& context, Stream& stream) {
    Event* event = find(context.events, event_handle);
    return event == nullptr ? CUDA_ERROR_INVALID_HANDLE : wait(stream, *event);
  });
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  return with_stream(handle, [=](Context&, Stream& stream) { return enqueue(stream, [=] { function(data); }); });
}

CUresult cuEventCreate(CUevent* handle, unsigned int flags) {
  return call_in_context([=](Driver&, Context& context) {
    auto event = std::make_unique<Event>();
    event->context = &context;
    event->timed = (flags & CU_EVENT_DISABLE_TIMING) == 0;
    *handle = reinterpret_cast<CUevent>(event.get());
    context.events.push_back(std::move(event));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy(CUevent handle) {
  return call_in_context([=](Driver&, Context& context) {
    Event* event = find(context.events, handle);
    if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (event->sequence != 0) drain(*event->stream, event->sequence);
    return destroy(context.events, handle);
  });
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
  return with_event(handle, [=](Context& context, Event& event) {
    Stream* stream = find_stream(context, stream_handle);
    return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : record(event, *stream);
  });
}

CUresult cuEventSynchronize(CUevent handle) {
  return with_event(handle, [](Context& context, Event& event) {
    if (event.capture != nullptr) return CUDA_ERROR_CAPTURED_EVENT;
    if (event.sequence != 0) drain(*event.stream, event.sequence);
    return context.failed;
  });
}

CUresult cuEventQuery(CUevent handle) {
  return with_event(handle, [](Context& context, Event& event) {
    if (event.capture != nullptr) return CUDA_ERROR_CAPTURED_EVENT;
    if (event.sequence == 0 || event.done) return context.failed;
    advance(*event.stream);
    return context.failed != CUDA_SUCCESS ? context.failed : event.done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

// Host time, which says nothing about a GPU.
CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  return call_in_context([=](Driver&, Context& context) {
    const Event *a = find(context.events, begin), *b = find(context.events, end);
    if (a == nullptr || b == nullptr || !a->timed || !b->timed || a->sequence == 0 || b->sequence == 0)
      return CUDA_ERROR_INVALID_HANDLE;
    if (!a->done || !b->done) return CUDA_ERROR_NOT_READY;
    *milliseconds = static_cast<float>(b->milliseconds - a->milliseconds);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  return with_stream(handle, [=](Context&, Stream& stream) { return begin_capture(stream, mode); });
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph_handle) {
  return with_stream(handle, [=](Context& context, Stream& stream) {
    std::unique_ptr<Graph> graph;
    const CUresult result = end_capture(stream, graph);
    *graph_handle = reinterpret_cast<CUgraph>(graph.get());
    if (graph != nullptr) context.graphs.push_back(std::move(graph));
    return result;
  });
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  return with_stream(handle, [=](Context&, Stream& stream) {
    *status = stream.capture == nullptr ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream.capture->valid   ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                        : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
  });
}

// The number of nodes; the nodes themselves have no handles here.
CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
  return call_in_context([=](Driver&, Context& context) {
    const Graph* graph = find(context.graphs, handle);
    if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (nodes != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    *count = graph->nodes.size();
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphInstantiate(CUgraphExec* executable, CUgraph handle, unsigned long long) {
  return call_in_context([=](Driver&, Context& context) {
    const Graph* graph = find(context.graphs, handle);
    if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    context.executables.push_back(std::make_unique<Graph>(*graph));
    *executable = reinterpret_cast<CUgraphExec>(context.executables.back().get());
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream stream_handle) {
  return with_stream(stream_handle, [=](Context& context, Stream&) {
    return find(context.executables, handle) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
  });
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  return with_stream(stream_handle, [=](Context& context, Stream& stream) {
    const Graph* graph = find(context.executables, handle);
    if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    for (const Work& node : graph->nodes) {
      if (const CUresult result = enqueue(stream, node); result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphDestroy(CUgraph handle) {
  return call_in_context([=](Driver&, Context& context) { return destroy(context.graphs, handle); });
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
  return call_in_context([=](Driver&, Context& context) { return destroy(context.executables, handle); });
}
