// Addresses, connecting, and exchanging commands for replies through hiredis.
#include "runtime/batch/redis.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr timeval kConnectTime{.tv_sec = 5, .tv_usec = 0}, kReplyTime{.tv_sec = 15, .tv_usec = 0};
constexpr milliseconds kFirstPause{100}, kLongestPause{5000}, kPatience{120'000};
constexpr size_t kMostName = 128;
constexpr const char* kPassword = "CUDREAM_QUEUE_PASSWORD";

// The connection is of no use any more, or the server not ready yet: both pass.
struct Lost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string password() {
  const char* given = std::getenv(kPassword);
  return given == nullptr ? "" : given;
}

Reply converted(const redisReply& raw) {
  Reply reply;
  switch (raw.type) {
    case REDIS_REPLY_INTEGER:
      reply.kind = Reply::Kind::number;
      reply.number = raw.integer;
      break;
    case REDIS_REPLY_ARRAY:
      reply.kind = Reply::Kind::list;
      for (size_t i = 0; i < raw.elements; i++) reply.list.push_back(converted(*raw.element[i]));
      break;
    case REDIS_REPLY_NIL: break;
    default:
      reply.kind = raw.type == REDIS_REPLY_ERROR ? Reply::Kind::error : Reply::Kind::text;
      reply.text.assign(raw.str, raw.len);
  }
  return reply;
}

Error refused(const QueueAddress& address, const std::string& text) {
  const std::string where = address.str(), said = printable(text);
  const auto begins = [&](std::string_view with) { return text.starts_with(with); };
  if (begins("NOAUTH") || begins("WRONGPASS") || begins("ERR AUTH") || begins("ERR invalid password"))
    return fail(Code::io, "{}: Redis refused the login ({}). The user stands before the host, its password in {}", where, said,
                kPassword);
  if (begins("WRONGTYPE"))
    return fail(Code::bad_file, "{}: what is kept under {} is no stream; choose another name", where, address.stream);
  if (begins("NOGROUP") || begins("UNBLOCKED"))
    return fail(Code::not_found,
                "{}: the queue is gone; it was deleted, or Redis restarted without its data. Start the worker again and submit "
                "what is missing",
                where);
  if (begins("ERR unknown command"))
    return fail(Code::unsupported, "{}: this Redis is too old; a queue needs 6.2 or newer ({})", where, said);
  return fail(Code::io, "{}: Redis said: {}", where, said);
}

bool plain(std::string_view text) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' ||
           c == ':';
  };
  return !text.empty() && text.size() <= kMostName && std::all_of(text.begin(), text.end(), good);
}

}  // namespace

std::string QueueAddress::str() const {
  const std::string at = user.empty() ? "" : user + "@";
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return fmt::format("redis://{}{}:{}/{}", at, name, port, stream);
}

QueueAddress parse_queue_address(const std::string& url) {
  constexpr std::string_view kScheme = "redis://";
  const auto wrong = [](const char* why) {
    return fail(Code::usage, "--queue: {}; expected redis://[USER@]HOST[:PORT]/STREAM", why);
  };
  if (!url.starts_with(kScheme)) throw wrong("the address does not begin with redis://");
  std::string_view rest = std::string_view(url).substr(kScheme.size());
  QueueAddress address;
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    address.user = rest.substr(0, at);
    if (address.user.find(':') != std::string::npos)
      throw fail(Code::usage,
                 "--queue: the address holds a password, which lists of processes and logs would show; put it into the "
                 "environment variable {}",
                 kPassword);
    if (!plain(address.user)) throw wrong("its user has other characters than letters, digits, dots and dashes");
    rest.remove_prefix(at + 1);
  }
  const size_t slash = rest.find('/');
  if (slash == std::string_view::npos) throw wrong("it does not say which stream");
  address.stream = rest.substr(slash + 1);
  if (!plain(address.stream)) throw wrong("a stream's name has letters, digits, dots, dashes and colons");
  if (address.stream.find_first_not_of("0123456789") == std::string::npos)
    throw wrong("a number would be a database; the stream needs a name");
  std::string_view host = rest.substr(0, slash), port;
  if (host.starts_with('[')) {  // an address of IPv6
    const size_t end = host.find(']');
    if (end == std::string_view::npos) throw wrong("its host has no ] after the [");
    port = host.substr(end + 1);
    host = host.substr(1, end - 1);
  } else {
    const size_t colon = std::min(host.find(':'), host.size());
    port = host.substr(colon);
    host = host.substr(0, colon);
  }
  address.host = host;
  if (!plain(host)) throw wrong("it does not say which host");
  if (port.empty()) return address;
  const auto [end, error] = std::from_chars(port.data() + 1, port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size() || port[0] != ':' || address.port < 1 || address.port > 65535)
    throw wrong("its port is not 1 to 65535");
  return address;
}

void Redis::Close::operator()(redisContext* context) const {
  redisFree(context);
}

Redis::Redis(QueueAddress address, std::function<bool()> cancelled)
    : address_(std::move(address)), cancelled_(std::move(cancelled)) {
  if (!address_.user.empty() && password().empty())
    throw fail(Code::usage, "{}: a user needs a password, in the environment variable {}", address_.str(), kPassword);
  try {
    connect();
  } catch (const Lost& lost) {
    throw fail(Code::io, "cannot reach {}: {}. Is redis-server running there?", address_.str(), lost.what());
  }
}

void Redis::connect() {
  context_.reset(redisConnectWithTimeout(address_.host.c_str(), address_.port, kConnectTime));
  if (context_ == nullptr) throw Lost("no memory for a connection");
  if (context_->err != 0) throw Lost(context_->errstr);
  redisSetTimeout(context_.get(), kReplyTime);
  redisEnableKeepAlive(context_.get());
  Command login{"AUTH"};
  if (!address_.user.empty()) login.push_back(address_.user);
  login.push_back(password());
  if (login.back().empty()) return;
  require_no_error(exchange({&login, 1}).front());
}

void Redis::connect_again(const std::string& why) {
  const auto since = Clock::now();
  log(LogLevel::warn, "lost {}: {}; trying again", address_.str(), why);
  for (milliseconds pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    for (const auto until = Clock::now() + pause; Clock::now() < until;) {
      if (cancelled_()) throw fail(Code::cancelled, "cancelled while {} was away", address_.str());
      std::this_thread::sleep_for(milliseconds(50));
    }
    try {
      connect();
      const Command ping{"PING"};
      require_no_error(exchange({&ping, 1}).front());
      log(LogLevel::info, "{} is back", address_.str());
      return;
    } catch (const Lost& lost) {
      if (Clock::now() - since > kPatience)
        throw fail(Code::io, "{} did not come back within {} s: {}", address_.str(), kPatience.count() / 1000, lost.what());
    }
  }
}

bool Redis::connected() {
  const std::scoped_lock hold(lock_);
  return context_ != nullptr && context_->err == 0;
}

Reply Redis::call(const Command& command) {
  return call_all({&command, 1}).front();
}

std::vector<Reply> Redis::call_all(std::span<const Command> commands) {
  const std::scoped_lock hold(lock_);
  while (true) {
    try {
      std::vector<Reply> replies = exchange(commands);
      for (const Reply& reply : replies) require_no_error(reply);
      return replies;
    } catch (const Lost& lost) {
      connect_again(lost.what());
    }
  }
}

// All replies are read before any is looked at, so that the next command gets its own.
std::vector<Reply> Redis::exchange(std::span<const Command> commands) {
  for (const Command& command : commands) {
    std::vector<const char*> texts;
    std::vector<size_t> sizes;
    for (const std::string& text : command) {
      texts.push_back(text.data());
      sizes.push_back(text.size());
    }
    redisAppendCommandArgv(context_.get(), static_cast<int>(texts.size()), texts.data(), sizes.data());
  }
  std::vector<Reply> replies;
  for (size_t i = 0; i < commands.size(); i++) {
    void* raw = nullptr;
    if (redisGetReply(context_.get(), &raw) != REDIS_OK) throw Lost(context_->errstr);
    const std::unique_ptr<redisReply, decltype(&freeReplyObject)> reply(static_cast<redisReply*>(raw), &freeReplyObject);
    replies.push_back(converted(*reply));
  }
  return replies;
}

void Redis::require_no_error(const Reply& reply) const {
  if (reply.kind == Reply::Kind::error && reply.text.starts_with("LOADING")) throw Lost(reply.text);
  if (reply.kind == Reply::Kind::error) throw refused(address_, reply.text);
  for (const Reply& one : reply.list) require_no_error(one);
}

}  // namespace cudream
