// engram lookup: token ids in, raw rows out, a bounded number of batches at a time.

#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "client/cli/support/addresses.h"
#include "client/cli/support/column_flag.h"
#include "client/cli/support/command.h"
#include "client/cli/support/dense_rows.h"
#include "client/cli/support/target_flags.h"
#include "client/cli/support/token_flags.h"
#include "client/cli/support/token_stream.h"
#include "client/client.h"
#include "client/terminal/progress.h"
#include "client/terminal/streams.h"
#include "memstore/base/clock.h"
#include "memstore/base/human_units.h"

namespace engram::cli {
namespace {

// Below the flags in --help.
constexpr char kIdsOfText[] =
    "Token ids of a text, by Python's tokenizers and NumPy:\n"
    "  python3 -c 'import numpy, tokenizers; numpy.save(\"prompt.npy\", numpy.array(\n"
    "      tokenizers.Tokenizer.from_file(\"MODEL/tokenizer.json\").encode(\"Some words\").ids,\n"
    "      \"int32\"))'";

// A batch that takes longer has lost its server: the command ends instead of hanging.
constexpr absl::Duration kBatchDeadline = absl::Seconds(60);
constexpr uint64_t kDefaultBatchTokens = 4096;

struct LookupFlags {
  TargetFlags target;
  TokenFiles tokens;
  std::string output;
  std::optional<int> batch_tokens;
  std::optional<std::string> columns;
};

// One batch on its way: its buffer is the transport's until the ticket is reaped.
struct BatchInFlight {
  Ticket ticket;
  uint64_t tokens = 0;
  std::vector<std::byte> rows;  // [tokens, layers, columns * row_bytes]
};

// Reads, plans and submits batches in the order of the tokens; hands rows on in the same order.
class Pipeline {
 public:
  // `slice`: the columns wanted of every layer.
  Pipeline(Client* client, uint64_t batch_tokens, const ColumnSlice& slice)
      : client_(client),
        batch_tokens_(batch_tokens),
        slices_(client->table_set().layers.size(), slice),
        token_bytes_(TokenBytes(client->table_set(), slice)),
        most_in_flight_(BatchesInFlight(batch_tokens, token_bytes_)) {}
  // What is still in flight is reaped before its buffers go.
  ~Pipeline() {
    for (BatchInFlight& batch : in_flight_) {
      client_->Reap(batch.ticket);
      static_cast<void>(client_->Unregister(absl::MakeSpan(batch.rows)));
    }
    for (std::vector<std::byte>& rows : spare_) {
      static_cast<void>(client_->Unregister(absl::MakeSpan(rows)));
    }
  }

  absl::Status Run(TokenStream* tokens, OutputFile* output) {
    while (true) {
      const absl::StatusOr<TokenStream::Run> run = tokens->Read(batch_tokens_);
      if (!run.ok()) return run.status();
      if (run->token_ids.empty()) break;
      if (run->starts_sequence) state_ = Addresser::Start();
      absl::Status status = Submit(run->token_ids, run->dead);
      if (status.ok() && in_flight_.size() == most_in_flight_) status = WriteOldest(output);
      if (!status.ok()) return status;
      tokens_ += run->token_ids.size();
      dead_ += static_cast<uint64_t>(absl::c_count_if(run->dead, [](uint8_t d) { return d != 0; }));
    }
    while (!in_flight_.empty()) {
      if (absl::Status status = WriteOldest(output); !status.ok()) return status;
    }
    progress_.EndLine();
    return absl::OkStatus();
  }
  uint64_t tokens() const { return tokens_; }
  bool all_dead() const { return tokens_ > 0 && dead_ == tokens_; }

 private:
  absl::Status Submit(absl::Span<const int32_t> ids, absl::Span<const uint8_t> dead) {
    absl::Status status = client_->PlanTokens(state_, ids, dead, &plan_, slices_);
    if (status.ok()) status = client_->addresser().Advance(ids, dead, &state_);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("in the batch that begins at token ", tokens_,
                                                      ": ", status.message()));
    }
    BatchInFlight batch;
    if (!spare_.empty()) {
      batch.rows = std::move(spare_.back());
      spare_.pop_back();
    } else {
      batch.rows.resize(batch_tokens_ * token_bytes_);
      status = client_->Register(absl::MakeSpan(batch.rows));
      if (!status.ok()) return status;
    }
    batch.tokens = ids.size();
    const absl::StatusOr<Ticket> ticket =
        client_->Submit(plan_, DenseLandings(client_->table_set(), slices_[0], batch.rows.data()),
                        RealClock().Now() + kBatchDeadline);
    if (!ticket.ok()) return ticket.status();
    batch.ticket = *ticket;
    in_flight_.push_back(std::move(batch));
    return absl::OkStatus();
  }

  absl::Status WriteOldest(OutputFile* output) {
    BatchInFlight& batch = in_flight_.front();
    absl::Status landed = client_->Wait(batch.ticket);
    client_->Reap(batch.ticket);
    BatchInFlight done = std::move(batch);
    in_flight_.pop_front();
    if (landed.ok()) landed = output->Write({done.rows.data(), done.tokens * token_bytes_});
    if (landed.ok()) {
      written_bytes_ += done.tokens * token_bytes_;
      // How many token ids are to come is known of files alone.
      progress_.Update(written_bytes_, /*total=*/0);
    }
    spare_.push_back(std::move(done.rows));
    return landed;
  }

  Client* const client_;
  const uint64_t batch_tokens_;
  const std::vector<ColumnSlice> slices_;  // one a layer, all alike
  const uint64_t token_bytes_;
  const size_t most_in_flight_;
  uint64_t tokens_ = 0;
  uint64_t dead_ = 0;  // of these
  uint64_t written_bytes_ = 0;
  Progress progress_{"looking up"};
  SequenceState state_ = Addresser::Start();
  Client::Plan plan_;
  std::deque<BatchInFlight> in_flight_;
  std::vector<std::vector<std::byte>> spare_;
};

absl::Status LookUp(Client* client, const LookupFlags& flags, const ColumnSlice& slice,
                    TokenStream* tokens) {
  absl::StatusOr<OutputFile> output = OutputFile::Open(flags.output);
  if (!output.ok()) return output.status();
  const uint64_t fitting = std::min({kDefaultBatchTokens, MaxBatchTokens(*client, slice),
                                     MostBatchTokens(TokenBytes(client->table_set(), slice))});
  Pipeline pipeline(client, flags.batch_tokens ? *flags.batch_tokens : fitting, slice);
  absl::Status status = pipeline.Run(tokens, &*output);
  if (status.ok()) status = output->Commit();
  if (!status.ok() || flags.output == "-") return status;
  const Manifest& set = client->table_set();
  const uint64_t rows = pipeline.tokens() * TokenRows(set, slice);
  const uint64_t bytes = pipeline.tokens() * TokenBytes(set, slice);
  std::fprintf(stderr, "wrote %s: %s, %s\n", flags.output.c_str(), Counted(rows, "row").c_str(),
               ExactBytes(bytes).c_str());
  if (pipeline.all_dead()) {
    std::fprintf(stderr,
                 "note: all tokens are dead, so every row is that of padding: is %s right?\n",
                 flags.tokens.dead_mask.c_str());
  }
  return status;
}

int Run(LookupFlags flags) {
  const absl::StatusOr<std::string> target = WholeTarget(flags.target.target);
  if (!target.ok()) return Finish(target.status(), kBadUsage);
  flags.target.target = *target;
  if (absl::Status status = CheckTokenFiles(flags.tokens); !status.ok()) {
    return Finish(status, kBadUsage);
  }
  absl::Status of_use = CheckConnectionFlags(flags.target, {flags.target.target});
  if (!of_use.ok()) return Finish(of_use, kBadUsage);
  absl::Status may_write = CheckNotOverTokenFiles(flags.output, flags.tokens);
  if (may_write.ok()) may_write = CheckNotTerminal(flags.output);
  if (!may_write.ok()) return Finish(may_write, kBadUsage);
  // Before an engramd is waited for.
  absl::StatusOr<TokenStream> tokens = TokenStream::Open(flags.tokens);
  if (!tokens.ok()) return Finish(tokens.status());
  int exit_code = kFailed;
  const absl::StatusOr<std::unique_ptr<Client>> client = AttachTo(flags.target, &exit_code);
  if (!client.ok()) return Finish(client.status(), exit_code);
  absl::Status masked = CheckDeadMask(flags.tokens, (*client)->table_set().scheme);
  if (!masked.ok()) return Finish(masked, kBadUsage);
  const absl::StatusOr<ColumnSlice> slice =
      SliceOfFlag(flags.columns, (*client)->table_set().scheme.Columns());
  if (!slice.ok()) return Finish(slice.status(), kBadUsage);
  if (flags.batch_tokens) {
    absl::Status fits = CheckBatchTokens(**client, *slice, *flags.batch_tokens);
    if (fits.ok()) {
      fits = CheckBatchMemory(*flags.batch_tokens, TokenBytes((*client)->table_set(), *slice));
    }
    if (!fits.ok()) return Finish(fits, kBadUsage);
  }
  return Finish(LookUp(client->get(), flags, *slice, &*tokens));
}

}  // namespace

void AddLookupCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<LookupFlags>();
  CLI::App* command = app.add_subcommand(
      "lookup",
      "Fetch the rows of a token stream, as raw bytes [tokens, layers, columns*row_bytes]");
  AddTargetFlags(*command, &flags->target);
  command
      ->add_option("--token-ids", flags->tokens.token_ids,
                   "raw int32 little-endian, or a .npy file; - is standard input")
      ->required()
      ->type_name("FILE");
  AddTokenIdsTypeFlag(*command, &flags->tokens.token_ids_type);
  AddSequenceTokensFlag(*command, &flags->tokens.sequence_tokens);
  AddDeadMaskFlag(*command, &flags->tokens.dead_mask);
  AddAllowUnmaskedImagesFlag(*command, &flags->target.allow_unmasked_images);
  command
      ->add_option("--output", flags->output,
                   "written aside and put in place when whole; a link's target is replaced, not "
                   "the link, and "
                   "must exist; - is standard output")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--batch-tokens", flags->batch_tokens,
                   "tokens looked up together, whose rows take 1 GiB at most (default 4096, fewer "
                   "where the target takes no more)")
      ->check(CLI::Range(1, kMaxBatchTokens));
  AddColumnFlag(*command, "only their rows are fetched, and written in the place of all",
                &flags->columns);
  GroupFlags(*command, "Token ids",
             {"--token-ids", "--token-ids-type", "--sequence-tokens", "--dead-mask",
              "--allow-unmasked-images"});
  GroupFlags(*command, "Rows", {"--output", "--batch-tokens", "--columns"});
  command->footer(kIdsOfText);
  command->callback([flags, chosen] { *chosen = [flags] { return Run(*flags); }; });
}

}  // namespace engram::cli
