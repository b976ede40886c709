#include "unsimulated.h"

UNSIMULATED(nvrtcCompileProgram)
UNSIMULATED(nvrtcCreateProgram)
UNSIMULATED(nvrtcDestroyProgram)
UNSIMULATED(nvrtcGetErrorString)
UNSIMULATED(nvrtcGetPTX)
UNSIMULATED(nvrtcGetPTXSize)
UNSIMULATED(nvrtcGetProgramLog)
UNSIMULATED(nvrtcGetProgramLogSize)
