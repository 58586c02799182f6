#include "cpu/parallel.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace watermark {
namespace {

thread_local bool inside = false;

class Pool {
 public:
  explicit Pool(int helpers) {
    workers_.reserve(helpers);
    try {
      for (int i = 0; i < helpers; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // the system gives no more threads: those that there are do the work
    }
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  // False, with nothing done, while another thread uses the pool: its callers are as many as there are cores then.
  bool run(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
    std::unique_lock one_at_a_time(callers_, std::try_to_lock);
    if (!one_at_a_time) return false;
    {
      std::lock_guard lock(mutex_);
      body_ = &body, count_ = count, grain_ = grain, next_ = 0, busy_ = workers_.size(), ++epoch_;
    }
    wake_.notify_all();
    take();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return true;
  }

 private:
  void take() {
    inside = true;
    try {
      for (int64_t begin; (begin = next_.fetch_add(grain_)) < count_;) (*body_)(begin, std::min(begin + grain_, count_));
    } catch (...) {  // out of memory, say: the caller hears of it when all others have stopped
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_ = count_;
    }
    inside = false;
  }
  void work() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stop_ || epoch_ != seen; });
      if (stop_) return;
      seen = epoch_;
      lock.unlock();
      take();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const std::function<void(int64_t, int64_t)>* body_ = nullptr;
  int64_t count_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
  std::exception_ptr error_;
  size_t busy_ = 0;
  uint64_t epoch_ = 0;
  bool stop_ = false;
};

// The pool is leaked on purpose at exit and after fork(): its threads do not exist in the child and cannot be joined.
// A pool in use is kept alive by its callers when set_threads() replaces it.
std::mutex* guard = new std::mutex;
std::shared_ptr<Pool>* pool = new std::shared_ptr<Pool>;
std::atomic<int> wanted{0};

int cores() { return std::max(1u, std::thread::hardware_concurrency()); }

void after_fork_in_child() {
  guard = new std::mutex;
  pool = new std::shared_ptr<Pool>;
  inside = false;
}

}  // namespace

void set_threads(int count) {
  std::lock_guard lock(*guard);
  wanted = count;
  pool->reset();
}

int threads() {
  const int count = wanted;
  return count > 0 ? count : cores();
}

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  grain = std::max<int64_t>(grain, 1);
  const bool alone = inside || threads() == 1 || count <= grain;
  std::shared_ptr<Pool> mine;
  if (!alone) {
    std::lock_guard lock(*guard);
    [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);
    if (!*pool) *pool = std::make_shared<Pool>(threads() - 1);
    mine = *pool;
  }
  if (mine && mine->run(count, grain, body)) return;
  for (int64_t begin = 0; begin < count; begin += grain) body(begin, std::min(begin + grain, count));
}

}  // namespace watermark
