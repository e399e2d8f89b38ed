#include "server/config/config_fields.h"

namespace engram {
namespace {

constexpr ConfigField kFields[] = {
    {"table_set", "DIR", "directory of a table set to serve; repeatable"},
    {"checkpoint", "DIR",
     "directory of a released model to serve, without a table set of its own: the rows stay in its "
     "files, which are read once to link to them; goes with --family"},
    {"family", "NAME", "the checkpoint's model family, as of engram pack"},
    {"rows_per_head", "N", "as of engram pack (default 0: config.json's, or the family's)"},
    {"token_map", "FILE", "as of engram pack (default: made from the checkpoint's tokenizer.json)"},
    {"state_dir", "DIR",
     "directory of this engramd's own for what it keeps from one start to the next: the links to "
     "the checkpoint (default: a private one under $TMPDIR, which goes when engramd ends), and "
     "what "
     "was published (default: a restart serves what the flags say)"},
    {"ignore_recorded", "",
     "serve what --table-set and --checkpoint say, and not what --state-dir keeps of publications"},
    {"partition", "K/N",
     "hold and serve the K-th of N parts of every table set, K from 0: the same heads of every "
     "order and layer (default: all of each set)"},
    {"partition_columns", "LAYER:FIRST-LAST,...",
     "hold and serve these columns of every table set, in place of --partition; a layer that is "
     "not named is not held"},
    {"listen", "ADDR",
     "HOST:PORT (port 0: any free one, see the log) or unix:PATH, a socket of mode 0660; "
     "repeatable"},
    {"numa", "POLICY",
     "where table memory lies: local, interleave or bind:N (default: as the process)",
     "local,interleave,bind:"},
    {"memory_limit_bytes", "N",
     "bytes that tables may take together (default 0: what the machine has)"},
    {"load_threads", "N", "threads that read and verify while loading (default 0: 16)"},
    {"gather_threads", "N", "threads that gather one large batch together (default 1)"},
    {"lookup_threads", "N",
     "threads that answer lookups over gRPC (default 0: half of the cores, at most 8)"},
    {"spin_us", "N",
     "microseconds at most that they look for a request before they sleep, 0 to 1000 (default 50; "
     "they do not where requests come seldom or other threads want the core; 0: never)"},
    {"max_batch_rows", "N", "rows of one batch at most (default 4194304)"},
    {"shm_socket", "PATH",
     "socket over which clients of this machine get shared memory (default: none)"},
    {"shm_allow_uid", "UID",
     "a user, beside engramd's own, who may have shared memory; repeatable"},
    {"rdma_device", "DEV[:PORT[:GID]]",
     "serve over RDMA on this device too, port 1 and its best GID where none is named; repeatable "
     "(default: no RDMA)"},
    {"rdma_read", "", "register the tables, so that RDMA clients may read rows by themselves"},
    {"admin_listen", "HOST:PORT",
     "HTTP for /metrics, /healthz, /readyz and /statusz (default: none)"},
    {"admin_grpc_listen", "ADDR",
     "gRPC for operators: publish, retire, scrub, channelz (default: none)"},
    {"zone", "NAME",
     "where this engramd is, for clients that prefer stores near them: a rack, a zone of a cloud "
     "(default: not said)"},
    {"lame_duck_s", "N",
     "seconds that all goes on when told to stop, but health and /readyz say no more clients, "
     "before "
     "sockets close and the drain begins (default 1)"},
    {"drain_grace_s", "N", "seconds that lookups under way have when told to stop (default 10)"},
    {"retire_grace_s", "N",
     "seconds that clients of a retired table set have to let go of it (default 300)"},
    {"scrub_mib_per_s", "N",
     "MiB a second that tables in memory are verified again at (default 64; 0: never)"},
    {"log_format", "FORMAT", "text or json, a line an event on standard error (default text)",
     "text,json"},
    {"log_level", "LEVEL", "debug (every request), info, warn or error (default info)",
     "debug,info,warn,error"},
    {"tls_cert", "FILE",
     "PEM certificate (chain): TCP addresses of --listen speak TLS; read again when it changes"},
    {"tls_key", "FILE", "its private key, PEM"},
    {"tls_client_ca", "FILE", "PEM: clients need a certificate of this authority (mTLS)"},
    {"token_file", "FILE",
     "lines 'IDENTITY TOKEN', each token of 16 characters or more: calls need one of these bearer "
     "tokens; read again when it changes"},
    {"allow", "IDENTITY=TABLE-SET",
     "who may have which table set, * for all of them; repeatable (default: all who may call)"},
    {"unix_allow_uid", "UID",
     "a user, beside engramd's own, who may connect to unix: addresses; repeatable (default: "
     "whoever can open the socket file)"},
    {"admin_tls_cert", "FILE", "as --tls-cert, for --admin-grpc-listen (default: the same)"},
    {"admin_tls_key", "FILE", "as --tls-key, for --admin-grpc-listen (default: the same)"},
    {"admin_tls_client_ca", "FILE",
     "as --tls-client-ca, for --admin-grpc-listen (default: the same)"},
    {"admin_identity", "IDENTITY",
     "who may administer; needs --admin-grpc-listen with TLS; repeatable"},
    {"allow_plaintext", "PORT",
     "data, admin or admin-grpc: may listen without TLS on other addresses than this machine's "
     "own; repeatable",
     "data,admin,admin-grpc"},
    {"gather_ahead", "N",
     "rows ahead that the gather prefetches, up to 64 (default 0: measured when tables are "
     "loaded)"},
    {"register", "etcd:HOST:PORT[,...]/PREFIX",
     "where this engramd registers what --advertise says while it serves, for clients of "
     "cluster:etcd:... (default: nowhere)"},
    {"advertise", "HOST:PORT", "the address under which clients reach it; goes with --register"},
    {"register_ca", "FILE",
     "PEM: the authority of etcd's certificate; with it TLS is spoken to etcd"},
    {"register_cert", "FILE", "PEM certificate (chain) that is shown to etcd"},
    {"register_key", "FILE", "its private key, PEM"},
    {"register_server_name", "NAME",
     "the name in etcd's certificate (default: the host in --register)"},
    {"register_user", "NAME", "user of etcd; needs --register-ca, or an etcd of this machine"},
    {"register_password_file", "FILE",
     "holds that user's password and nothing else; read again for each token"},
};

}  // namespace

absl::Span<const ConfigField> ConfigFields() { return kFields; }

}  // namespace engram
