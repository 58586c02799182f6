// A thread pool of our own: OpenMP and torch hang after fork(), this one starts afresh in the child.
#pragma once
#include <cstdint>
#include <functional>

namespace watermark {

// Number of threads that parallel_for may use, the caller included. 0 restores the number of cores.
void set_threads(int count);
int threads();

// Calls body(begin, end) on disjoint ranges that cover [0, count). Ranges hold `grain` items (the last one fewer): they do
// not depend on the number of threads, so neither do results. Nested calls run in the calling thread. An exception of a
// body ends the work and is thrown here.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace watermark
