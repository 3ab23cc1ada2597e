// Streams as deferred queues: nothing runs before a call that waits, the latest moment the rules allow. What a program
// forgot to wait for is then still poison. Work runs in the order the streams, events and the null stream demand.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace cudream::vgpu {

struct Context;
struct Stream;

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> nodes;  // in the order of capture, which every dependency follows
};

struct Capture {
  Graph graph;
  Stream* origin = nullptr;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;  // that began it
  bool valid = true;
  std::vector<Stream*> joined;  // by waiting for an event of the capture, the origin apart
};

struct Event {
  Context* context = nullptr;
  bool timed = true;
  Stream* stream = nullptr;  // of the latest record
  uint64_t sequence = 0;     // of that record; 0: never recorded
  bool done = false;
  double milliseconds = 0;           // when it ran: host time
  std::shared_ptr<Capture> capture;  // recorded inside this capture
};

struct Stream {
  struct Operation {
    uint64_t sequence;
    Work run;
  };
  Context* context = nullptr;
  bool is_null = false;
  bool blocking = true;  // ordered with the null stream
  std::deque<Operation> queue;
  std::shared_ptr<Capture> capture;
  bool unjoined = false;  // has captured work the origin has not waited for
};

// Adds work, to the capture if there is one.
CUresult enqueue(Stream& stream, Work work);
// Runs the queue up to and including `sequence`, and whatever that waits for.
void drain(Stream& stream, uint64_t sequence = ~uint64_t{0});
void drain(Context& context);
// Runs one operation; false when there was none.
bool advance(Stream& stream);

CUresult record(Event& event, Stream& stream);
CUresult wait(Stream& stream, Event& event);
CUresult begin_capture(Stream& stream, CUstreamCaptureMode mode);
CUresult end_capture(Stream& stream, std::unique_ptr<Graph>& graph);
// For calls that could wait for captured work: illegal, and the end of the capture, in any thread under the global mode and in
// its own thread under the thread-local one.
CUresult refuse_while_capturing(Context& context);

}  // namespace cudream::vgpu
