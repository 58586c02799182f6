// The GPU's kernels for pictures, run by one thread of the CPU: for tests on machines without a GPU.
#include "cuda/batch.cu"
#include "cuda/token.cu"
