// Threads that compute one task together, and memory that they write.
//
// Rules: knows no arithmetic. One task at a time; whoever calls waits for its end, and is thread 0 meanwhile.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#include "vectors.h"

namespace {

// A share of a matrix takes longer than waking a thread, but not by much: spin as long as a fair share takes, then
// sleep, for the core is not ours alone. Yielding instead, or spinning for long, costs double where others compute.
constexpr auto SPIN = std::chrono::microseconds(25);

void relax() {
#if defined(STREAMGEN_AVX512) || defined(STREAMGEN_AVX2)
  _mm_pause();
#endif
}

void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + SPIN;
  while (value.load(std::memory_order_acquire) == old) {
    for (int i = 0; i < 16; ++i) {
      relax();
      if (value.load(std::memory_order_acquire) != old) return;
    }
    if (std::chrono::steady_clock::now() > end) value.wait(old, std::memory_order_acquire);
  }
}

class Pool {
 public:
  explicit Pool(int threads) : threads(threads) {
    try {
      for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { work(t); });
    } catch (...) {  // the system starts no more
      end();
      throw;
    }
  }
  ~Pool() { end(); }
  // Call task(t) for every thread t, this one being 0, and return when all are done.
  template <class Task> void run(Task&& task) {
    std::lock_guard<std::mutex> alone(turn_);
    if (threads > 1) {
      context_ = &task;
      task_ = [](void* context, int t) { (*static_cast<std::remove_reference_t<Task>*>(context))(t); };
      announce();
    }
    task(0);
    meet();
  }
  // Wait, within a task, for all other threads.
  void meet() {
    if (threads == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(threads)) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_seq_cst);
      round_.notify_all();
    } else {
      wait_while(round_, round);
    }
  }
  const int threads;

 private:
  void end() {
    task_ = nullptr;
    announce();
    for (auto& worker : workers_) worker.join();
  }
  void announce() {
    job_.fetch_add(1, std::memory_order_seq_cst);
    job_.notify_all();
  }
  void work(int t) {
    for (uint32_t seen = 0;; ++seen) {
      wait_while(job_, seen);
      if (!task_) return;
      task_(context_, t);
      meet();
    }
  }
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
  alignas(64) std::atomic<uint32_t> job_{0};
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::mutex turn_;
  std::vector<std::thread> workers_;
};

struct Span {
  int start, stop;
};
Span share(int t, int threads, int units) {
  return {int(int64_t(units) * t / threads), int(int64_t(units) * (t + 1) / threads)};
}

template <class T> class Buffer {  // grows, never moves what it holds to a larger place
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }
  T* of(size_t count) {
    if (count > size_) {
      release();
      at_ = static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64)));
      size_ = count;
    }
    return at_;
  }
  T* get() const { return at_; }

 private:
  void release() {
    if (at_) ::operator delete(at_, std::align_val_t(64));
  }
  T* at_ = nullptr;
  size_t size_ = 0;
};

}  // namespace
