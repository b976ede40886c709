// The driver's functions that cudarc and candle call. Everything happens before a call returns.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include "memory.h"
#include "modules.h"

using namespace simulated;

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUstream = void*;
using CUcontext = void*;

namespace {

enum : int {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201, NOT_FOUND = 500, DEVICE_ASSERT = 710,
};

constexpr size_t TOTAL_BYTES = size_t(16) << 30;
constexpr int MAX_SHARED_BYTES = 227 << 10;

thread_local CUcontext current_context = nullptr;
// Why the last call of this thread failed, for cuGetErrorString.
thread_local CUresult failed_with = SUCCESS;
thread_local const char* reason = nullptr;

char the_context;

struct Event {
    std::chrono::steady_clock::time_point at;
};

// The text stays valid for as long as the program runs.
const char* kept(const std::string& text) {
    static std::mutex lock;
    static auto* texts = new std::set<std::string>;
    std::lock_guard<std::mutex> guard(lock);
    return texts->insert(text).first->c_str();
}

CUresult fail(CUresult error, const std::string& why) {
    std::fprintf(stderr, "simulated card: %s\n", why.c_str());
    failed_with = error;
    reason = kept(why);
    return error;
}

void* pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

CUresult need_context(const char* caller) {
    return current_context ? SUCCESS : fail(INVALID_CONTEXT, std::string(caller) + ": this thread has no context");
}

CUresult need_live(const char* caller, CUdeviceptr address, size_t bytes) {
    if (CUresult error = need_context(caller)) return error;
    if (bytes == 0 || is_live(pointer(address), bytes)) return SUCCESS;
    return fail(INVALID_VALUE, std::string(caller) + ": " + std::to_string(bytes) + " bytes are not in a live allocation");
}

CUresult copy(const char* caller, void* to, const void* from, size_t bytes) {
    if (bytes && (!to || !from)) return fail(INVALID_VALUE, std::string(caller) + ": null");
    if (bytes) std::memmove(to, from, bytes);
    return SUCCESS;
}

CUresult allocate_at(const char* caller, CUdeviceptr* at, size_t bytes) {
    if (CUresult error = need_context(caller)) return error;
    if (allocated_bytes() + bytes > TOTAL_BYTES) return fail(OUT_OF_MEMORY, std::string(caller) + ": memory is full");
    void* memory = allocate(bytes);
    if (bytes && !memory) return fail(OUT_OF_MEMORY, std::string(caller) + ": the host has no memory");
    *at = reinterpret_cast<CUdeviceptr>(memory);
    return SUCCESS;
}

std::string shape(const unsigned (&size)[3]) {
    return std::to_string(size[0]) + " x " + std::to_string(size[1]) + " x " + std::to_string(size[2]);
}

// What a card refuses about a launch, or nothing.
std::string wrong_with(const Function& f, const Launch& l) {
    uint64_t threads = uint64_t(l.block[0]) * l.block[1] * l.block[2];
    if (!l.grid[0] || !l.grid[1] || !l.grid[2] || l.grid[0] > 0x7fffffff || l.grid[1] > 65535 || l.grid[2] > 65535)
        return "a grid of " + shape(l.grid) + " blocks";
    if (!threads || l.block[0] > 1024 || l.block[1] > 1024 || l.block[2] > 64 || threads > uint64_t(f.kernel.max_threads))
        return "blocks of " + shape(l.block) + " threads, at most " + std::to_string(f.kernel.max_threads);
    if (l.shared_bytes > size_t(f.dynamic_shared_limit))
        return std::to_string(l.shared_bytes) + " bytes of shared memory, the limit is " +
               std::to_string(f.dynamic_shared_limit);
    for (int i = 0; i < f.kernel.parameters; i++) {
        if (!f.kernel.is_pointer[i]) continue;
        const void* at = argument<void*>(l.parameters[i]);
        if (at && !is_live(at, 0)) return "parameter " + std::to_string(i) + " points to no live allocation";
    }
    return "";
}

CUresult launch(Function* f, const Launch& l) {
    if (CUresult error = need_context("cuLaunchKernel")) return error;
    std::string where = f->module + "/" + f->kernel.name + ": ";
    std::string wrong = wrong_with(*f, l);
    if (!wrong.empty()) return fail(INVALID_VALUE, where + wrong);
    // Fibers, and what a stand-in knows of its launch, are the process's.
    static auto* one_at_a_time = new std::mutex;
    std::lock_guard<std::mutex> guard(*one_at_a_time);
    try {
        f->kernel.run(l);
    } catch (const Fault& fault) {
        return fail(DEVICE_ASSERT, where + fault.what);
    }
    for (int i = 0; i < f->kernel.parameters; i++) {
        if (f->kernel.is_pointer[i] && !is_intact(argument<void*>(l.parameters[i])))
            refuse(where + "wrote outside of the allocation of parameter " + std::to_string(i));
    }
    return SUCCESS;
}

int attribute(int which) {
    switch (which) {
        case 1: case 2: case 3: return 1024;      // threads of a block; its x and y
        case 4: return 64;                        // its z
        case 5: return 0x7fffffff;                // blocks along x
        case 6: case 7: return 65535;             // along y and z
        case 8: return 48 << 10;                  // shared bytes of a block
        case 10: return 32;                       // threads of a warp
        case 12: return 65536;                    // registers of a block
        case 16: return 132;                      // multiprocessors
        case 18: return 0;                        // integrated
        case 39: return 2048;                     // threads of a multiprocessor
        case 75: return 9;                        // compute capability
        case 76: return 0;
        case 81: return 228 << 10;                // shared bytes of a multiprocessor
        case 97: return MAX_SHARED_BYTES;         // of a block that asks
        case 115: return 1;                       // memory pools
        default: refuse("device attribute " + std::to_string(which) + " is not simulated");
    }
}

}  // namespace

#define DRIVER extern "C" __attribute__((visibility("default"))) CUresult

// Without a card, as with a real one, where $CUDA_VISIBLE_DEVICES is empty.
DRIVER cuInit(unsigned) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return visible && !*visible ? fail(NO_DEVICE, "CUDA_VISIBLE_DEVICES is empty") : SUCCESS;
}
DRIVER cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
DRIVER cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
DRIVER cuDeviceGet(CUdevice* device, int ordinal) {
    if (ordinal != 0) return fail(INVALID_DEVICE, "there is one card");
    return *device = 0, SUCCESS;
}
DRIVER cuDeviceGetName(char* name, int length, CUdevice) {
    std::snprintf(name, length, "simulated card");
    return SUCCESS;
}
DRIVER cuDeviceTotalMem_v2(size_t* bytes, CUdevice) { return *bytes = TOTAL_BYTES, SUCCESS; }
DRIVER cuDeviceGetAttribute(int* value, int which, CUdevice) { return *value = attribute(which), SUCCESS; }
DRIVER cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) { return *context = &the_context, SUCCESS; }
DRIVER cuDevicePrimaryCtxRelease_v2(CUdevice) { return SUCCESS; }
DRIVER cuCtxGetCurrent(CUcontext* context) { return *context = current_context, SUCCESS; }
DRIVER cuCtxSetCurrent(CUcontext context) { return current_context = context, SUCCESS; }
DRIVER cuCtxSynchronize() { return need_context("cuCtxSynchronize"); }
DRIVER cuCtxSetFlags(unsigned) { return SUCCESS; }

DRIVER cuGetErrorName(CUresult error, const char** name) {
    switch (error) {
        case SUCCESS: *name = "CUDA_SUCCESS"; break;
        case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
        case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
        case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
        case INVALID_IMAGE: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
        case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
        case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
        case DEVICE_ASSERT: *name = "CUDA_ERROR_ASSERT"; break;
        default: *name = "CUDA_ERROR_UNKNOWN";
    }
    return SUCCESS;
}
DRIVER cuGetErrorString(CUresult error, const char** text) {
    if (error == failed_with && reason) return *text = reason, SUCCESS;
    return cuGetErrorName(error, text);
}

// ---- streams and events: what was asked for has been done

DRIVER cuStreamCreate(CUstream* stream, unsigned) { return *stream = new char, SUCCESS; }
DRIVER cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
DRIVER cuStreamDestroy_v2(CUstream stream) { return delete static_cast<char*>(stream), SUCCESS; }
DRIVER cuStreamSynchronize(CUstream) { return need_context("cuStreamSynchronize"); }
DRIVER cuStreamWaitEvent(CUstream, Event*, unsigned) { return SUCCESS; }
DRIVER cuStreamIsCapturing(CUstream, int* status) { return *status = 0, SUCCESS; }
DRIVER cuEventCreate(Event** event, unsigned) { return *event = new Event{}, SUCCESS; }
DRIVER cuEventDestroy_v2(Event* event) { return delete event, SUCCESS; }
DRIVER cuEventRecord(Event* event, CUstream) { return event->at = std::chrono::steady_clock::now(), SUCCESS; }
DRIVER cuEventQuery(Event*) { return SUCCESS; }
DRIVER cuEventSynchronize(Event*) { return SUCCESS; }
DRIVER cuEventElapsedTime_v2(float* milliseconds, Event* from, Event* to) {
    *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
    return SUCCESS;
}

// ---- memory

DRIVER cuMemAlloc_v2(CUdeviceptr* at, size_t bytes) {
    if (bytes == 0) return fail(INVALID_VALUE, "cuMemAlloc: no bytes");
    return allocate_at("cuMemAlloc", at, bytes);
}
DRIVER cuMemAllocAsync(CUdeviceptr* at, size_t bytes, CUstream) { return allocate_at("cuMemAllocAsync", at, bytes); }
DRIVER cuMemFree_v2(CUdeviceptr at) {
    return release(pointer(at)) ? SUCCESS : fail(INVALID_VALUE, "cuMemFree: not the start of a live allocation");
}
DRIVER cuMemFreeAsync(CUdeviceptr at, CUstream) { return cuMemFree_v2(at); }
DRIVER cuMemHostAlloc(void** at, size_t bytes, unsigned) {
    return (*at = std::malloc(bytes)) ? SUCCESS : fail(OUT_OF_MEMORY, "cuMemHostAlloc");
}
DRIVER cuMemFreeHost(void* at) { return std::free(at), SUCCESS; }
DRIVER cuMemGetInfo_v2(size_t* free, size_t* total) {
    *total = TOTAL_BYTES;
    *free = TOTAL_BYTES - allocated_bytes();
    return SUCCESS;
}
DRIVER cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream) {
    if (CUresult error = need_live("cuMemcpyHtoD", to, bytes)) return error;
    return copy("cuMemcpyHtoD", pointer(to), from, bytes);
}
DRIVER cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream) {
    if (CUresult error = need_live("cuMemcpyDtoH", from, bytes)) return error;
    return copy("cuMemcpyDtoH", to, pointer(from), bytes);
}
DRIVER cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream) {
    if (CUresult error = need_live("cuMemcpyDtoD", to, bytes)) return error;
    if (CUresult error = need_live("cuMemcpyDtoD", from, bytes)) return error;
    return copy("cuMemcpyDtoD", pointer(to), pointer(from), bytes);
}
DRIVER cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t n) { return cuMemcpyHtoDAsync_v2(to, from, n, nullptr); }
DRIVER cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t n) { return cuMemcpyDtoHAsync_v2(to, from, n, nullptr); }
DRIVER cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) { return cuMemcpyDtoDAsync_v2(to, from, n, nullptr); }
DRIVER cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t bytes, CUstream) {
    if (CUresult error = need_live("cuMemsetD8", at, bytes)) return error;
    if (bytes) std::memset(pointer(at), value, bytes);
    return SUCCESS;
}
DRIVER cuMemsetD8_v2(CUdeviceptr at, unsigned char value, size_t bytes) { return cuMemsetD8Async(at, value, bytes, nullptr); }

// ---- modules and launches

DRIVER cuModuleLoadData(Module** module, const void* image) {
    if (CUresult error = need_context("cuModuleLoadData")) return error;
    *module = load_module(static_cast<const char*>(image));
    return *module ? SUCCESS : fail(INVALID_IMAGE, "a module that the simulated nvcc has not made");
}
// Functions outlive their module here: nothing is lost but a few bytes.
DRIVER cuModuleUnload(Module*) { return SUCCESS; }
DRIVER cuModuleGetFunction(Function** function, Module* module, const char* name) {
    auto found = module->functions.find(name);
    if (found == module->functions.end())
        return fail(NOT_FOUND, "module " + module->name + " has no kernel " + name + " (or it is not simulated)");
    *function = &found->second;
    return SUCCESS;
}
DRIVER cuFuncSetAttribute(Function* f, int which, int value) {
    if (which != 8) refuse("function attribute " + std::to_string(which) + " is not simulated");
    if (value < 0 || value > MAX_SHARED_BYTES)
        return fail(INVALID_VALUE, std::string(f->kernel.name) + ": " + std::to_string(value) + " bytes of shared memory");
    return f->dynamic_shared_limit = value, SUCCESS;
}
DRIVER cuFuncGetAttribute(int* value, int which, Function* f) {
    switch (which) {
        case 0: *value = f->kernel.max_threads; break;
        case 1: case 2: case 3: *value = 0; break;
        case 8: *value = f->dynamic_shared_limit; break;
        default: refuse("function attribute " + std::to_string(which) + " is not simulated");
    }
    return SUCCESS;
}
DRIVER cuFuncSetCacheConfig(Function*, int) { return SUCCESS; }
DRIVER cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function*, int size, size_t shared) {
    int by_threads = 2048 / (size > 0 ? size : 2048), by_shared = shared ? int((228 << 10) / shared) : 32;
    return *blocks = by_threads < by_shared ? by_threads : by_shared, SUCCESS;
}
DRIVER cuLaunchKernel(Function* f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned x, unsigned y, unsigned z,
                      unsigned shared_bytes, CUstream, void** parameters, void** extra) {
    if (extra) refuse("launches with extra options are not simulated");
    return launch(f, {{grid_x, grid_y, grid_z}, {x, y, z}, shared_bytes, parameters});
}
