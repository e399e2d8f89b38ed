#include "gpu/simulator/end_by_signal.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <utility>

namespace engram::simulator {
namespace {

sigset_t Ends() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

}  // namespace

EndBySignal& EndBySignal::Begin() {
  // Its thread outlives every frame.
  auto* const one = new EndBySignal;
  return *one;
}

EndBySignal::EndBySignal() {
  const sigset_t set = Ends();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([this] { Run(); }).detach();
}

void EndBySignal::Unblock() {
  const sigset_t set = Ends();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void EndBySignal::CleanUpBy(std::function<void()> clean_up) {
  MutexLock lock(mutex_);
  clean_up_ = std::move(clean_up);
}

void EndBySignal::Run() {
  const sigset_t set = Ends();
  int signal = 0;
  sigwait(&set, &signal);
  // Kept: nobody begins anything that would have to be cleaned up as well.
  MutexLock lock(mutex_);
  if (clean_up_) clean_up_();
  std::signal(signal, SIG_DFL);
  Unblock();
  raise(signal);
  _exit(128 + signal);
}

}  // namespace engram::simulator
