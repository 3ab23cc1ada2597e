// A libcuda.so.1 that takes any code it is given and can do nothing else: cuDNN compiles a plan for a card that is only
// described, and completing the plan hands the machine code to the driver. No CUDA device is simulated here.
extern "C" {

int cuInit(unsigned) {
  return 100;  // CUDA_ERROR_NO_DEVICE
}
int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = 0;
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "an error of a driver that can do nothing";
  return 0;
}
int cuGetErrorName(int, const char** name) {
  *name = "CUDA_ERROR";
  return 0;
}

static int something;
int cuLibraryLoadData(void** library) {
  *library = &something;
  return 0;
}
int cuLibraryGetKernel(void** kernel) {
  *kernel = &something;
  return 0;
}
int cuLibraryUnload(void*) {
  return 0;
}

// What must be there, and is never called in making a plan: CUDA_ERROR_NOT_SUPPORTED.
#define CUDREAM_ABSENT(name) \
  int name() {               \
    return 801;              \
  }
CUDREAM_ABSENT(cuCtxGetCurrent)
CUDREAM_ABSENT(cuCtxGetLimit)
CUDREAM_ABSENT(cuCtxPopCurrent)
CUDREAM_ABSENT(cuCtxPushCurrent)
CUDREAM_ABSENT(cuDeviceGet)
CUDREAM_ABSENT(cuFuncGetAttribute)
CUDREAM_ABSENT(cuFuncSetAttribute)
CUDREAM_ABSENT(cuKernelGetAttribute)
CUDREAM_ABSENT(cuKernelGetFunction)
CUDREAM_ABSENT(cuKernelSetAttribute)
CUDREAM_ABSENT(cuLaunchCooperativeKernel)
CUDREAM_ABSENT(cuLaunchKernel)
CUDREAM_ABSENT(cuLaunchKernelEx)
CUDREAM_ABSENT(cuLibraryGetModule)
CUDREAM_ABSENT(cuLibraryLoadFromFile)
CUDREAM_ABSENT(cuLinkAddData)
CUDREAM_ABSENT(cuLinkComplete)
CUDREAM_ABSENT(cuLinkCreate)
CUDREAM_ABSENT(cuLinkDestroy)
CUDREAM_ABSENT(cuModuleGetFunction)
CUDREAM_ABSENT(cuModuleLoadData)
CUDREAM_ABSENT(cuModuleUnload)
CUDREAM_ABSENT(cuOccupancyMaxActiveClusters)
CUDREAM_ABSENT(cuOccupancyMaxPotentialClusterSize)
CUDREAM_ABSENT(cuStreamGetCtx)
}
