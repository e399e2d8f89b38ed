#include "memstore/os/thread.h"

#include <pthread.h>

#include <new>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// What the kernel keeps of a thread's name; it refuses a longer one.
constexpr size_t kMaxThreadNameBytes = 15;

absl::Status CannotStart(const std::string& name, const char* why) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the thread ", name, " cannot be started: ", why,
                   "; raise the limit of threads or of memory, or use fewer threads"));
}

}  // namespace

absl::StatusOr<std::thread> StartThread(const std::string& name, std::function<void()> body) {
  try {
    std::thread thread(std::move(body));
    pthread_setname_np(thread.native_handle(), name.substr(0, kMaxThreadNameBytes).c_str());
    return thread;
  } catch (const std::system_error& error) {
    return CannotStart(name, error.what());
  } catch (const std::bad_alloc& error) {
    return CannotStart(name, error.what());
  }
}

}  // namespace engram
