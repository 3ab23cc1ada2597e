// Queues as their users run them: workers killed and stopped, Redis restarted, entries written by strangers.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <memory>

#include "core/error.h"
#include "runtime/batch/queue.h"
#include "runtime/picture/image.h"
#include "tests/cli/running.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const std::string kSmall = "-m demo --steps 1 --width 64 --height 64 ";

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

// A server of the test's own, whose data outlives a restart.
class RedisServer {
 public:
  explicit RedisServer(const fs::path& folder) : folder_(folder) { start(); }
  ~RedisServer() { stop(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  std::string url(const std::string& stream = "pictures") const { return fmt::format("redis://127.0.0.1:{}/{}", port_, stream); }
  std::unique_ptr<Redis> connect() const {
    return std::make_unique<Redis>(parse_queue_address(url()), [] { return false; });
  }
  void start() {
    process_ = ::fork();
    if (process_ == 0) {
      ::execlp("redis-server", "redis-server", "--port", std::to_string(port_).c_str(), "--bind", "127.0.0.1", "--dir",
               folder_.c_str(), "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "redis.log",
               nullptr);
      std::_Exit(127);
    }
    ASSERT_TRUE(comes_true([&] {
      try {
        return connect() != nullptr;
      } catch (const Error&) {
        return false;
      }
    })) << "redis-server does not run; `scripts/install --tests` installs it";
  }
  void stop() const {
    ::kill(process_, SIGTERM);
    ::waitpid(process_, nullptr, 0);
  }

 private:
  const fs::path folder_;
  const int port_ = free_port();
  pid_t process_ = -1;
};

class Queues : public testing::Test {
 protected:
  Outcome submit(const std::string& file, const std::string& options = kSmall) const {
    return program_.run("batch " + file + " " + options + " --queue " + server_.url());
  }
  std::string worker(const std::string& options = "") const {
    return "worker --threads 1 -o out --queue " + server_.url() + " " + options;
  }
  bool says(const std::string& log, const std::string& text) const {
    return program_.has(log) && program_.read(log).find(text) != std::string::npos;
  }
  // Entries that a worker has taken and not settled.
  size_t in_work(const Running& worker) const {
    const Reply pending = redis_->call({"XPENDING", "pictures", "cudream", "-", "+", "100"});
    size_t count = 0;
    for (const Reply& entry : pending.list) count += entry.list.at(1).text.ends_with(fmt::format("-{}", worker.process()));
    return count;
  }
  // Stands still in the middle of an item from then on.
  void stop_in_an_item(const Running& worker) const {
    ASSERT_TRUE(comes_true([&] {
      if (in_work(worker) == 0) return false;
      worker.send(SIGSTOP);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (in_work(worker) > 0) return true;
      worker.send(SIGCONT);
      return false;
    }));
  }
  std::string add(const Redis::Command& fields) const {
    Redis::Command command{"XADD", "pictures", "*"};
    command.insert(command.end(), fields.begin(), fields.end());
    return redis_->call(command).text;
  }
  // What became of an entry: its file, or the reason why there is none.
  std::string result(const std::string& entry) const {
    std::string position = "0-0";
    for (const QueueResult& r : QueueProducer(*redis_).results(position, std::chrono::milliseconds(1)))
      if (r.entry == entry) return r.file + r.failure;
    return "nothing";
  }

  const Program program_;
  RedisServer server_{program_.path()};
  const std::unique_ptr<Redis> redis_ = server_.connect();
};

// Pictures by place and seed, without the key in their names.
std::map<std::string, std::string> by_item(const std::map<std::string, std::string>& pictures) {
  std::map<std::string, std::string> all;
  for (const auto& [name, bytes] : pictures) {
    EXPECT_TRUE(all.emplace(name.substr(0, name.rfind('-')) + ".png", bytes).second) << name << ": an item was made twice";
  }
  return all;
}

// One killed in an item; one stopped in an item for longer than the claim, then going on; Redis restarted under all of them.
TEST_F(Queues, EveryItemIsMadeOnce) {
  const std::string options = "-m demo --steps 20 --width 64 --height 64 ";
  program_.write("p.txt", "a red house --seed 1..10\na boat --seed 20 --count 6\n");
  ASSERT_EQ(program_.run("batch p.txt -o whole " + options).status, 0);

  const std::string command = worker("--claim-after 2");
  const Running killed(program_, command, "1"), stopped(program_, command, "2"), steady(program_, command, "3");
  for (const char* log : {".stderr1", ".stderr2", ".stderr3"})
    ASSERT_TRUE(comes_true([&] { return says(log, "waiting for items"); }));
  const Running batch(program_, "batch p.txt " + options + "--queue " + server_.url());
  stop_in_an_item(killed);
  killed.send(SIGKILL);
  EXPECT_EQ(killed.wait(), 128 + SIGKILL);
  stop_in_an_item(stopped);
  server_.stop();
  server_.start();
  EXPECT_EQ(batch.wait(), 0) << program_.read(".stderr");
  EXPECT_TRUE(says(".stderr", "16 of 16 pictures done"));
  EXPECT_TRUE(says(".stderr3", server_.url() + " is back"));

  const auto made = pictures(program_, "out");
  stopped.send(SIGCONT);
  EXPECT_TRUE(comes_true([&] { return says(".stderr2", "is back"); })) << program_.read(".stderr2");
  EXPECT_TRUE(says(".stderr2", "was made by another worker meanwhile") || says(".stderr2", "is in place already"))
      << program_.read(".stderr2");
  for (const Running* one : {&stopped, &steady}) {
    one->send(SIGTERM);
    EXPECT_EQ(one->wait(), 0);
  }
  EXPECT_TRUE(pictures(program_, "out") == made);
  EXPECT_TRUE(by_item(made) == pictures(program_, "whole"));
  EXPECT_EQ(redis_->call({"XLEN", "pictures"}).number, 0);
  EXPECT_EQ(redis_->call({"XPENDING", "pictures", "cudream"}).list.at(0).number, 0);
}

TEST_F(Queues, StrangersCanOnlyFail) {
  const std::vector<std::pair<Redis::Command, std::string>> hostile{
      {{"prompt", "x"}, "there is no seed"},
      {{"seed", "1", "widht", "64"}, "not expected: --widht=64"},
      {{"seed", "1", "device", "cuda"}, "not expected: --device=cuda"},
      {{"seed", "1", "output", "/tmp"}, "not expected: --output=/tmp"},
      {{"seed", "1", "image", "/etc/hostname"}, "\"/etc/hostname\" is a path"},
      {{"seed", "1", "image", "hostname"}, "this worker has no input pictures; `cudream worker --inputs FOLDER`"},
      {{"seed", "1", "control", "x", "control-image", "../x.png"}, "\"../x.png\" is a path"},
      {{"seed", "1", "image=/etc/hostname,", "x"}, "\"image=/etc/hostname,\" is no option"},
      {{"seed", "1", "mask", "x.png"}, "this worker has no input pictures"},
      {{"seed", "1", "", ""}, "\"\" is no option"},
      {{"seed", "1", "model", "../../etc/passwd"}, "\"../../etc/passwd\" is a path"},
      {{"seed", "1", "lora", "/etc/passwd:1"}, "\"/etc/passwd:1\" is a path"},
      {{"seed", "1", "prompt", "<lora:../../x>"}, "no model is named"},
      {{"seed", "1", "index", "../../x"}, "index \"../../x\": a whole number is expected"},
      {{"seed", "1", "count", "5"}, "an entry of a queue is one picture"},
      {{"seed", "1..8"}, "--seed"},
      {{"seed", "1", "prompt", std::string(1 << 20, 'x')}, "an entry of a queue has at most 65536"},
      {{"seed", "1", "prompt", "\xff\xfe"}, "is not UTF-8"},
      {{"seed", "1", "width", "99999999"}, "--width 99999999: sizes go from"},
      {{"seed", "1", "steps", "1000000000"}, "--steps 1000000000: from 1 to"},
      {{"seed", "1", "steps", "99999999999999999999"}, "--steps"},
      {{"seed", "1", "sampler", "\n\x1b[31m"}, "\\x1b[31m"},
  };
  std::vector<std::string> ids;
  for (auto [fields, reason] : hostile) {
    if (std::find(fields.begin(), fields.end(), "model") == fields.end()) fields.insert(fields.end(), {"model", "demo"});
    ids.push_back(add(fields));
  }
  const std::string good =
      add({"prompt", "house", "seed", "5", "s", "1", "width", "64", "height", "64", "model", "demo", "index", "7"});
  const Outcome o = program_.run(worker("--until-empty"));
  EXPECT_EQ(o.status, 0) << o.err;
  for (size_t i = 0; i < hostile.size(); i++) EXPECT_THAT(result(ids[i]), HasSubstr(hostile[i].second)) << i;
  EXPECT_THAT(result(good), testing::MatchesRegex("00007-5-[0-9a-f]{16}\\.png"));
  EXPECT_TRUE(program_.has("out/" + result(good)));
  EXPECT_EQ(program_.files_in("out"), 1u);
  EXPECT_THAT(o.err, HasSubstr(fmt::format("1 pictures made, {} items failed", hostile.size())));
}

// An item that ends whoever takes it is given up after five workers.
TEST_F(Queues, AnItemThatEndsWorkersIsGivenUp) {
  const std::string id = add({"prompt", "house", "seed", "1", "model", "demo"});
  redis_->call({"XGROUP", "CREATE", "pictures", "cudream", "0"});
  redis_->call({"XREADGROUP", "GROUP", "cudream", "dead", "STREAMS", "pictures", ">"});
  redis_->call({"XCLAIM", "pictures", "cudream", "dead", "0", id, "IDLE", "2000", "RETRYCOUNT", "5", "JUSTID"});
  EXPECT_EQ(program_.run(worker("--until-empty --claim-after 1")).status, 0);
  EXPECT_EQ(result(id), "5 workers took it and none came to an end with it");
}

TEST_F(Queues, ABatchFollowsItsItems) {
  program_.write("p.txt",
                 "house --seed 1\nhouse --widht 64\nhouse --image x.png\nboat --clip-skip 99 --seed 4\nhouse --count 2\n");
  const Running one(program_, worker(), "1");
  const Outcome o = submit("p.txt");
  EXPECT_EQ(o.status, 9) << o.err;
  EXPECT_THAT(o.err, HasSubstr("5 items submitted"));
  EXPECT_THAT(o.err, HasSubstr("p.txt line 2: The following argument was not expected"));
  EXPECT_THAT(o.err, HasSubstr("p.txt line 3: \"x.png\": this worker has no input pictures"));
  EXPECT_THAT(o.err, HasSubstr("p.txt line 4: --clip-skip 99"));
  EXPECT_THAT(o.err, HasSubstr("3 of 6 pictures done, 3 failed"));
  EXPECT_EQ(program_.files_in("out"), 3u);

  const auto before = pictures(program_, "out");
  program_.write("p.txt", "house --seed 1\n");
  const Outcome again = submit("p.txt");
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(pictures(program_, "out") == before) << "the picture was in place";
  one.send(SIGTERM);
  EXPECT_EQ(one.wait(), 0);
  EXPECT_THAT(program_.read(".stderr1"), HasSubstr("3 pictures made, 2 items failed"));
}

// Pictures that items start from are names in the list of the worker's folder.
TEST_F(Queues, InputPicturesAreFoundByName) {
  const fs::path photos = program_.path() / "photos";
  fs::create_directories(photos / "more");
  write_image(photos / "a.png", gradient(64, 64), {}, Exists::refuse);
  Image mask = gradient(64, 64);
  for (size_t i = 0; i < mask.pixels.size(); i++) mask.pixels[i] = i < mask.pixels.size() / 2 ? 255 : 0;
  write_image(photos / "m.png", mask, {}, Exists::refuse);
  for (const char* elsewhere : {"secret.png", "photos/more/b.png"}) fs::copy_file(photos / "a.png", program_.path() / elsewhere);
  fs::create_symlink("../secret.png", photos / "link.png");

  const Running one(program_, worker("--inputs photos"), "1");
  program_.write(
      "p.txt",
      "house --seed 1 --image a.png --strength 1\nhouse --seed 2 --image a.png --mask m.png\nhouse --image photos/a.png\n");
  const Outcome o = submit("p.txt");
  EXPECT_EQ(o.status, 9);
  EXPECT_THAT(o.err, HasSubstr("p.txt line 3: \"photos/a.png\" is a path: a queue takes names"));
  const auto made = pictures(program_, "out");
  EXPECT_EQ(made.size(), 2u) << o.err;
  for (const auto& [item, options] : {std::pair("00001-1", "--strength 1"), std::pair("00002-2", "--mask photos/m.png")}) {
    const std::string alone = item + std::string(".png");
    ASSERT_EQ(
        program_.run(fmt::format("generate house --seed {} --image photos/a.png {} {} -o {}", item + 6, options, kSmall, alone))
            .status,
        0);
    EXPECT_EQ(by_item(made).at(alone), program_.read(alone)) << item;
  }

  const std::vector<std::pair<std::string, std::string>> hostile{
      {"../secret.png", "is a path"}, {"more/b.png", "is a path"}, {"link.png", "no input picture"},
      {"more", "no input picture"},   {"..", "no input picture"},  {"secret.png", "no input picture"},
      {"a.png,b", "no input picture"}};
  for (const auto& [name, reason] : hostile) {
    const std::string entry = add({"prompt", "x", "seed", "1", "model", "demo", "image", name});
    ASSERT_TRUE(comes_true([&] { return result(entry) != "nothing"; }));
    EXPECT_THAT(result(entry), HasSubstr(reason)) << name;
  }
  // Other bytes under the same name make another picture, which has a name of its own.
  fs::remove(photos / "a.png");
  write_image(photos / "a.png", mask, {}, Exists::refuse);
  program_.write("p.txt", "house --seed 1 --image a.png --strength 1\n");
  EXPECT_EQ(submit("p.txt").status, 0);
  EXPECT_EQ(program_.files_in("out"), 3u);
  EXPECT_EQ(program_.run(worker("--inputs none")).status, static_cast<int>(Code::not_found));
  one.send(SIGTERM);
  EXPECT_EQ(one.wait(), 0);
}

TEST_F(Queues, ABatchHearsOfEntriesThatAreLost) {
  program_.write("p.txt", "house --seed 1..3\n");
  const Running batch(program_, "batch p.txt " + kSmall + "--queue " + server_.url());
  ASSERT_TRUE(comes_true([&] { return redis_->call({"XLEN", "pictures"}).number == 3; }));
  redis_->call({"DEL", "pictures"});
  EXPECT_EQ(batch.wait(), 9);
  EXPECT_THAT(program_.read(".stderr"), HasSubstr("p.txt line 1: Redis has lost it, or it was deleted there: submit it again"));
  EXPECT_THAT(program_.read(".stderr"), HasSubstr("0 of 3 pictures done, 3 failed"));
}

// Sixteen items that go in passes of their own, all taken by one worker.
TEST_F(Queues, WhatAWorkerDidNotMakeIsTakenAtOnce) {
  program_.write("p.txt", "house --seed 1 --steps 9..16 --sampler ddim --sampler euler\n");
  const Running batch(program_, "batch p.txt " + kSmall + "--queue " + server_.url());
  ASSERT_TRUE(comes_true([&] { return redis_->call({"XLEN", "pictures"}).number == 16; }));
  const Running first(program_, worker("--batch 16"), "1");
  ASSERT_TRUE(comes_true([&] { return program_.files_in("out") > 0; }));
  first.send(SIGTERM);
  EXPECT_EQ(first.wait(), 0);
  EXPECT_GT(in_work(first), 0u);
  const Outcome second = program_.run(worker("--until-empty --claim-after 3600"));
  EXPECT_EQ(second.status, 0) << second.err;
  EXPECT_EQ(batch.wait(), 0);
  EXPECT_EQ(program_.files_in("out"), 16u);
}

TEST_F(Queues, EveryObstacleHasItsMessage) {
  const auto expect = [&](const std::string& arguments, int status, const std::string& message) {
    const Outcome o = program_.run(arguments);
    EXPECT_EQ(o.status, status) << o.err;
    EXPECT_THAT(o.err, HasSubstr(message));
    EXPECT_THAT(o.err, Not(HasSubstr("s3cret")));
  };
  program_.write("p.txt", "house --seed 1\n");
  const std::string away = fmt::format("redis://127.0.0.1:{}/pictures", free_port());
  expect("worker -o out --queue " + away, 7, "cannot reach " + away + ": Connection refused. Is redis-server running there?");
  expect("batch p.txt --queue " + away, 7, "cannot reach " + away);
  expect("worker -o out --queue redis://me:s3cret@localhost/pictures", 2,
         "put it into the environment variable CUDREAM_QUEUE_PASSWORD");
  expect("batch p.txt -o out --queue " + server_.url(), 2, "--output excludes --queue");
  redis_->call({"SET", "text", "x"});
  expect("worker -o out --queue " + server_.url("text"), 3, "what is kept under text is no stream");
  expect("batch p.txt --queue " + server_.url("text"), 3, "what is kept under text is no stream");

  const Running joined(program_, worker());
  ASSERT_TRUE(comes_true([&] { return redis_->call({"EXISTS", "pictures"}).number == 1; }));
  redis_->call({"XGROUP", "DESTROY", "pictures", "cudream"});
  EXPECT_EQ(joined.wait(), 8);
  EXPECT_THAT(program_.read(".stderr"), HasSubstr(server_.url() + ": the queue is gone"));

  redis_->call({"CONFIG", "SET", "requirepass", "s3cret"});
  expect(worker("--until-empty"), 7, "Redis refused the login");
  ::setenv("CUDREAM_QUEUE_PASSWORD", "s3cret too", 1);
  expect(worker("--until-empty"), 7, "Redis refused the login");
  ::setenv("CUDREAM_QUEUE_PASSWORD", "s3cret", 1);
  expect(worker("--until-empty"), 0, "0 pictures made");
  ::unsetenv("CUDREAM_QUEUE_PASSWORD");
}

}  // namespace
}  // namespace cudream
