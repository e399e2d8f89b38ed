// Keeping freed memory in the process.
#pragma once

namespace engram {

// For main, before other threads start: from now on glibc's allocator keeps what is freed, blocks
// of up to 32 MiB, instead of giving it back to the system. gRPC allocates and frees buffers as
// large as its messages all the time; taken from the system anew they cost page faults, nearly half
// of a large reply's time. Programs that have another allocator, or choose for themselves
// (MALLOC_TRIM_THRESHOLD_ and so on), do not need it.
//
// Where the process's address space is limited (ulimit -v) its threads share two pools: each pool
// takes 64 MiB of it, used or not, and by itself glibc makes up to eight for each core.
void KeepFreedMemory();

}  // namespace engram
