// What a completion queue's tag points to, and how it is told: the same at both ends.
//
// gRPC carries a tag as void*, and a call is of several base classes, so a pointer to one is not a
// pointer to another: give gRPC event.tag() and hand what comes out to Dispatch, never a cast.
// An event is its owner's member and outlives the operation that it was given to. Whoever takes
// events of the queue calls Dispatch, so Done runs on that thread. Never allocates.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

namespace engram::rpc {

class QueueEvent {
 public:
  // The operation is over; `ok` as gRPC says for the kind of operation.
  virtual void Done(bool ok) = 0;

  void* tag() { return this; }
  static void Dispatch(void* tag, bool ok) { static_cast<QueueEvent*>(tag)->Done(ok); }

 protected:
  ~QueueEvent() = default;
};

// An event that calls a method of its owner's: (owner->*method)(arguments..., ok).
template <typename Owner, typename... Arguments>
class MethodEvent final : public QueueEvent {
 public:
  using Method = void (Owner::*)(Arguments..., bool);

  // `owner` outlives it.
  MethodEvent(Owner* owner, Method method, Arguments... arguments)
      : owner_(owner), method_(method), arguments_(std::move(arguments)...) {}
  MethodEvent(const MethodEvent&) = delete;
  MethodEvent& operator=(const MethodEvent&) = delete;

  void Done(bool ok) override { Call(ok, std::index_sequence_for<Arguments...>()); }

 private:
  // Not by std::apply: in its lambda g++ 12 with UBSan loses `this` where there are no arguments.
  template <size_t... kIndex>
  void Call(bool ok, std::index_sequence<kIndex...>) {
    (owner_->*method_)(std::get<kIndex>(arguments_)..., ok);
  }

  Owner* const owner_;
  const Method method_;
  const std::tuple<Arguments...> arguments_;
};

}  // namespace engram::rpc
