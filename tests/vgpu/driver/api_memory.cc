// Driver functions: device and host memory, copies and fills.
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/vgpu/driver/driver.h"

using namespace cudream::vgpu;

namespace {

// The live allocation of this device that holds the range, or null.
const Allocation* range(Driver& driver, const Context& context, CUdeviceptr at, size_t bytes) {
  const Allocation* a = driver.memory.find(at);
  return a != nullptr && !a->freed && a->device == context.ordinal && a->holds(at, bytes) ? a : nullptr;
}

// A range checked when the call was made, looked up again when the work runs: it may have been freed in between.
const Allocation* range_at_run(Driver& driver, Context& context, CUdeviceptr at, size_t bytes) {
  const Allocation* a = range(driver, context, at, bytes);
  if (a == nullptr) {
    fmt::print(stderr, "virtual GPU: a queued copy or fill of {} bytes at {:#x} ran after the memory was freed\n", bytes, at);
    context.failed = CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  return a;
}

void write_bytes(Driver& driver, Context& context, CUdeviceptr to, const void* from, size_t bytes) {
  if (const Allocation* a = range_at_run(driver, context, to, bytes)) {
    std::memcpy(a->at(to), from, bytes);
    a->mark_range(to, bytes);
  }
}

void read_bytes(Driver& driver, Context& context, void* to, CUdeviceptr from, size_t bytes) {
  if (const Allocation* a = range_at_run(driver, context, from, bytes)) std::memcpy(to, a->at(from), bytes);
}

CUresult allocate(Driver& driver, Context& context, CUdeviceptr* pointer, size_t bytes) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (++driver.allocations == driver.options.fail_allocation) return CUDA_ERROR_OUT_OF_MEMORY;
  if (driver.memory.used(context.ordinal) + bytes > driver.total_memory(context)) return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = driver.memory.allocate(bytes, context.ordinal).address;
  return CUDA_SUCCESS;
}

// The source is host memory: pinned memory is read when the copy runs, pageable memory is taken at the call, as the driver
// stages it.
CUresult copy_to_device(CUdeviceptr to, const void* from, size_t bytes, CUstream handle, bool waits) {
  return call_in_context([=](Driver& driver, Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (range(driver, context, to, bytes) == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (waits) {
      if (const CUresult refused = refuse_while_capturing(context); refused != CUDA_SUCCESS) return refused;
    }
    Work work;
    if (driver.is_pinned(from, bytes)) {
      work = [&driver, &context, to, from, bytes] {
        if (driver.is_pinned(from, bytes)) return write_bytes(driver, context, to, from, bytes);
        fmt::print(stderr, "virtual GPU: host memory was freed before the copy from it ran\n");
        context.failed = CUDA_ERROR_ILLEGAL_ADDRESS;
      };
    } else {
      const auto staged =
          std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
      work = [&driver, &context, to, staged] { write_bytes(driver, context, to, staged->data(), staged->size()); };
    }
    const CUresult result = enqueue(*stream, std::move(work));
    if (result != CUDA_SUCCESS || !waits) return result;
    drain(*stream);
    return context.failed;
  });
}

// To pageable memory the call returns when the copy is done, as the driver documents.
CUresult copy_to_host(void* to, CUdeviceptr from, size_t bytes, CUstream handle, bool waits) {
  return call_in_context([=](Driver& driver, Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (range(driver, context, from, bytes) == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const bool now = waits || !driver.is_pinned(to, bytes);
    if (now) {
      if (const CUresult refused = refuse_while_capturing(context); refused != CUDA_SUCCESS) return refused;
    }
    const CUresult result =
        enqueue(*stream, [&driver, &context, to, from, bytes] { read_bytes(driver, context, to, from, bytes); });
    if (result != CUDA_SUCCESS || !now) return result;
    drain(*stream);
    return context.failed;
  });
}

CUresult copy_on_device(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream handle) {
  return call_in_context([=](Driver& driver, Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (range(driver, context, to, bytes) == nullptr || range(driver, context, from, bytes) == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    return enqueue(*stream, [&driver, &context, to, from, bytes] {
      const Allocation *a = range_at_run(driver, context, to, bytes), *b = range_at_run(driver, context, from, bytes);
      if (a == nullptr || b == nullptr) return;
      std::memmove(a->at(to), b->at(from), bytes);
      a->copy_marks(to, *b, from, bytes);
    });
  });
}

template <typename T>
CUresult fill(CUdeviceptr to, T value, size_t count, CUstream handle) {
  return call_in_context([=](Driver& driver, Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (count == 0) return CUDA_SUCCESS;
    if (to % sizeof(T) != 0 || range(driver, context, to, count * sizeof(T)) == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(*stream, [&driver, &context, to, value, count] {
      const Allocation* a = range_at_run(driver, context, to, count * sizeof(T));
      if (a == nullptr) return;
      for (size_t i = 0; i < count; i++) std::memcpy(a->at(to) + i * sizeof(T), &value, sizeof(T));
      a->mark_range(to, count * sizeof(T));
    });
  });
}

CUresult pin(const void* start, size_t bytes) {
  return call_in_context([=](Driver& driver, Context&) {
    driver.pinned[start] = bytes;
    return CUDA_SUCCESS;
  });
}

CUresult unpin(void* start, bool release) {
  return call_in_context([=](Driver& driver, Context&) {
    if (driver.pinned.erase(start) == 0) return CUDA_ERROR_INVALID_VALUE;
    if (release) std::free(start);
    return CUDA_SUCCESS;
  });
}

}  // namespace

CUresult cuMemGetInfo(size_t* free_bytes, size_t* total) {
  return call_in_context([&](Driver& driver, Context& context) {
    *total = driver.total_memory(context);
    *free_bytes = *total - driver.memory.used(context.ordinal);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAlloc(CUdeviceptr* pointer, size_t bytes) {
  return call_in_context([&](Driver& driver, Context& context) {
    if (const CUresult refused = refuse_while_capturing(context); refused != CUDA_SUCCESS) return refused;
    return allocate(driver, context, pointer, bytes);
  });
}

// Waits for the device, as the driver does.
CUresult cuMemFree(CUdeviceptr pointer) {
  return call_in_context([&](Driver& driver, Context& context) {
    if (const CUresult refused = refuse_while_capturing(context); refused != CUDA_SUCCESS) return refused;
    if (pointer == 0) return CUDA_SUCCESS;
    drain(context);
    return driver.memory.release(pointer) ? context.failed : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t bytes, CUstream handle) {
  return call_in_context([&](Driver& driver, Context& context) {
    const Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    return allocate(driver, context, pointer, bytes);
  });
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle) {
  return call_in_context([&](Driver& driver, Context& context) {
    Stream* stream = find_stream(context, handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    if (range(driver, context, pointer, 1) == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(*stream, [&driver, pointer] { driver.memory.release(pointer); });
  });
}

CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned int) {
  constexpr size_t kPage = 4096;
  const size_t room = (bytes + kPage - 1) / kPage * kPage;
  void* start = room > 0 ? std::aligned_alloc(kPage, room) : nullptr;
  if (start == nullptr) return bytes == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(start, 0xff, room);
  const CUresult result = pin(start, bytes);
  if (result != CUDA_SUCCESS) std::free(start);
  *pointer = result == CUDA_SUCCESS ? start : nullptr;
  return result;
}

CUresult cuMemFreeHost(void* pointer) {
  return unpin(pointer, true);
}
CUresult cuMemHostRegister(void* start, size_t bytes, unsigned int) {
  return pin(start, bytes);
}
CUresult cuMemHostUnregister(void* start) {
  return unpin(start, false);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
  return copy_to_device(to, from, bytes, nullptr, true);
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream s) {
  return copy_to_device(to, from, bytes, s, false);
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
  return copy_to_host(to, from, bytes, nullptr, true);
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream s) {
  return copy_to_host(to, from, bytes, s, false);
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_on_device(to, from, bytes, nullptr);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
  return copy_on_device(to, from, bytes, s);
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t count) {
  return fill(to, value, count, nullptr);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream s) {
  return fill(to, value, count, s);
}
CUresult cuMemsetD16(CUdeviceptr to, unsigned short value, size_t count) {
  return fill(to, value, count, nullptr);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream s) {
  return fill(to, value, count, s);
}
CUresult cuMemsetD32(CUdeviceptr to, unsigned int value, size_t count) {
  return fill(to, value, count, nullptr);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream s) {
  return fill(to, value, count, s);
}
