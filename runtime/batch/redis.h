// A connection to Redis that outlives a restart of the server.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

struct redisContext;

namespace cudream {

// Where a queue is: redis://[USER@]HOST[:PORT]/STREAM.
struct QueueAddress {
  std::string user, host, stream;
  int port = 6379;
  std::string str() const;  // for messages; there is no password in it
};
// Throws Error(usage). A password in it is refused without being repeated: commands and logs are seen by others.
QueueAddress parse_queue_address(const std::string& url);

// What a command answers (RESP2, redis.io/docs/reference/protocol-spec).
struct Reply {
  enum class Kind : uint8_t { nothing, text, number, list, error } kind = Kind::nothing;
  std::string text;  // also of an error
  int64_t number = 0;
  std::vector<Reply> list;
};

// Its functions may be called from several threads.
class Redis {
 public:
  using Command = std::vector<std::string>;

  // Logs in with the password in CUDREAM_QUEUE_PASSWORD, where that is set. `cancelled` ends waiting for a server that is away.
  // Throws Error(io) when there is no server or it refuses the login.
  Redis(QueueAddress, std::function<bool()> cancelled);

  // A connection that breaks is made anew, with growing pauses and for two minutes at most, and the commands are sent again: only
  // commands that may be carried out twice belong here. Throws Error: io, not_found (the consumer group is gone), bad_file (the
  // key is no stream), unsupported (an old server), cancelled.
  Reply call(const Command&);
  std::vector<Reply> call_all(std::span<const Command>);  // in one go

  bool connected();  // as far as the last command could tell
  const QueueAddress& address() const { return address_; }

 private:
  struct Close {
    void operator()(redisContext*) const;
  };
  void connect();
  void connect_again(const std::string& why);
  std::vector<Reply> exchange(std::span<const Command>);
  void require_no_error(const Reply&) const;

  const QueueAddress address_;
  const std::function<bool()> cancelled_;
  std::mutex lock_;
  std::unique_ptr<redisContext, Close> context_;
};

}  // namespace cudream
