// Clients that ask for more than engramd can give: batches over connections of their own, on a
// stream each or as unary calls, sent when they are due whether or not earlier ones came back (an
// open loop), each with a deadline.
//
// One thread drives all clients. Rows are not copied out of gRPC's buffers, so that the generator
// costs less than what it measures; of each answered batch the number of row bytes is held against
// what was asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram::overload {

enum class Way { kStream, kUnary };

struct Load {
  std::vector<double> batches_per_s;  // of each client
  std::chrono::milliseconds deadline{50};
  std::chrono::milliseconds time{3000};
};

// What came of the batches that one client sent.
struct Tally {
  uint64_t sent = 0;
  uint64_t in_time = 0;   // OK within their deadline
  uint64_t late = 0;      // OK after it
  uint64_t rejected = 0;  // RESOURCE_EXHAUSTED with a time to ask again
  uint64_t expired = 0;   // DEADLINE_EXCEEDED, from the server or before they could be sent
  uint64_t failed = 0;    // anything else
  std::vector<float> ok_us, rejected_us;  // since they were due
  std::string failure;                    // the first one's
  void Add(const Tally& other);
};

class Generator {
 public:
  // Opens a connection, and where asked a stream, for each client. Batches are `tokens` tokens'
  // worth of random rows of every layer.
  static absl::StatusOr<std::unique_ptr<Generator>> Connect(const std::string& address,
                                                            uint32_t clients, uint32_t tokens,
                                                            Way way);
  virtual ~Generator() = default;

  // Batches per second that all clients together get with `window` under way each (a closed loop).
  virtual double Capacity(uint32_t window, std::chrono::milliseconds time) = 0;
  // Runs the load, waits for what is left of it, and says what came of it, client by client.
  virtual std::vector<Tally> Run(const Load& load) = 0;
};

}  // namespace engram::overload
