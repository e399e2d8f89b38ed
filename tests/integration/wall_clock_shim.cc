// Preloaded (LD_PRELOAD) into a program, this moves the wall clock that the program sees while it
// runs: by as many nanoseconds as the file that $ENGRAM_WALL_CLOCK names holds, 8 bytes that a test
// changes at any time (wall_clock.h). The monotonic clock stays as it is.
//
// A wait until a moment of the wall clock ends by the moved one, as it would in the kernel where
// the clock was set: such waits are cut into slices, after each of which the clock is looked at.
// What asks the kernel without libc (a static program, the vDSO by hand) is not seen.
//
// Thread-safe; allocates nothing and takes no lock, for it is called from everywhere.
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>

namespace {

constexpr int64_t kSecond = 1'000'000'000;
// How late a wait sees that the clock was set.
constexpr int64_t kSlice = 20'000'000;

// The kernel itself: libc's functions of these names are the ones below.
long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

long WithErrno(long result) {
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

const std::atomic<int64_t>* MapOffset() {
  static const std::atomic<int64_t> kNone{0};
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment of a program that is
  // watched
  const char* const path = getenv("ENGRAM_WALL_CLOCK");
  if (path == nullptr) return &kNone;
  const long fd = Call(SYS_open, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return &kNone;
  const long page = Call(SYS_mmap, 0, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  Call(SYS_close, fd);
  if (page < 0 && page > -4096) return &kNone;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel gives addresses as numbers
  return reinterpret_cast<const std::atomic<int64_t>*>(page);
}

int64_t Offset() {
  static std::atomic<const std::atomic<int64_t>*> offset{nullptr};
  const std::atomic<int64_t>* known = offset.load(std::memory_order_acquire);
  if (known == nullptr) {
    known = MapOffset();  // by two threads at once: twice, for good
    offset.store(known, std::memory_order_release);
  }
  return known->load(std::memory_order_relaxed);
}

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

timespec Timespec(int64_t nanoseconds) {
  timespec time;
  time.tv_sec = nanoseconds / kSecond;
  time.tv_nsec = nanoseconds % kSecond;
  return time;
}

int64_t Now(clockid_t clock) {
  timespec now{};
  Call(SYS_clock_gettime, clock, reinterpret_cast<long>(&now));
  return Nanoseconds(now);
}

int64_t WallNow() { return Now(CLOCK_REALTIME) + Offset(); }

// FUTEX_WAIT_BITSET until a moment of the wall clock.
long WaitOnFutex(long word, long operation, long value, const timespec& end, long mask) {
  while (true) {
    const int64_t left = Nanoseconds(end) - WallNow();
    if (left <= 0) return -ETIMEDOUT;
    // By the monotonic clock, absolute, as this operation has it.
    const timespec slice = Timespec(Now(CLOCK_MONOTONIC) + (left < kSlice ? left : kSlice));
    const long result = Call(SYS_futex, word, operation & ~FUTEX_CLOCK_REALTIME, value,
                             reinterpret_cast<long>(&slice), 0, mask);
    if (result != -ETIMEDOUT) return result;
  }
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) {
  const long result = WithErrno(Call(SYS_clock_gettime, clock, reinterpret_cast<long>(time)));
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    *time = Timespec(Nanoseconds(*time) + Offset());
  }
  return static_cast<int>(result);
}

int gettimeofday(timeval* time, void* /*zone*/) {
  const int64_t now = WallNow();
  time->tv_sec = now / kSecond;
  time->tv_usec = now % kSecond / 1000;
  return 0;
}

time_t time(time_t* out) {
  const time_t now = WallNow() / kSecond;
  if (out != nullptr) *out = now;
  return now;
}

// Abseil's waits come this way.
long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  const auto [a, b, c, d, e, f] = arguments;
  const long operation = b & FUTEX_CMD_MASK;
  if (number == SYS_futex && (b & FUTEX_CLOCK_REALTIME) != 0 && d != 0 &&
      operation == FUTEX_WAIT_BITSET) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): and takes them so
    return WithErrno(WaitOnFutex(a, b, c, *reinterpret_cast<const timespec*>(d), f));
  }
  return WithErrno(Call(number, a, b, c, d, e, f));
}

// By the wall clock, unless the condition was made with the monotonic one. It may wake without a
// reason, after a slice.
int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* end) {
  constexpr unsigned kMonotonic = 2;  // glibc's mark of it
  if ((condition->__data.__wrefs & kMonotonic) != 0) {
    return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, end);
  }
  const int64_t left = Nanoseconds(*end) - WallNow();
  if (left <= 0) return ETIMEDOUT;
  const timespec slice = Timespec(Now(CLOCK_MONOTONIC) + (left < kSlice ? left : kSlice));
  const int result = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &slice);
  return result == ETIMEDOUT ? 0 : result;
}

}  // extern "C"
