// Where a queue is: what is understood, what is refused, and that no password is repeated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "runtime/batch/redis.h"

namespace cudream {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string refusal(const std::string& url) {
  try {
    return "understood: " + parse_queue_address(url).str();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::usage);
    return e.what();
  }
}

TEST(QueueAddress, IsUnderstood) {
  const QueueAddress plain = parse_queue_address("redis://render.example/pictures");
  EXPECT_EQ(plain.host, "render.example");
  EXPECT_EQ(plain.port, 6379);
  EXPECT_EQ(plain.stream, "pictures");
  EXPECT_EQ(plain.user, "");
  EXPECT_EQ(parse_queue_address("redis://me@10.0.0.1:7000/a:b-1").str(), "redis://me@10.0.0.1:7000/a:b-1");
  const QueueAddress six = parse_queue_address("redis://[::1]:7000/x");
  EXPECT_EQ(six.host, "::1");
  EXPECT_EQ(six.port, 7000);
  EXPECT_EQ(six.str(), "redis://[::1]:7000/x");
}

TEST(QueueAddress, IsRefused) {
  EXPECT_THAT(refusal("http://host/x"), HasSubstr("does not begin with redis://"));
  EXPECT_THAT(refusal("rediss://host/x"), HasSubstr("does not begin with redis://"));
  EXPECT_THAT(refusal("redis://host"), HasSubstr("does not say which stream"));
  EXPECT_THAT(refusal("redis://host/"), HasSubstr("a stream's name has letters"));
  EXPECT_THAT(refusal("redis://host/a/b"), HasSubstr("a stream's name has letters"));
  EXPECT_THAT(refusal("redis://host/0"), HasSubstr("a number would be a database"));
  EXPECT_THAT(refusal("redis:///x"), HasSubstr("does not say which host"));
  EXPECT_THAT(refusal("redis://host:0/x"), HasSubstr("port is not 1 to 65535"));
  EXPECT_THAT(refusal("redis://host:65536/x"), HasSubstr("port is not 1 to 65535"));
  EXPECT_THAT(refusal("redis://host:12x/x"), HasSubstr("port is not 1 to 65535"));
  EXPECT_THAT(refusal("redis://host:/x"), HasSubstr("port is not 1 to 65535"));
  EXPECT_THAT(refusal("redis://[::1/x"), HasSubstr("has no ] after the ["));
  EXPECT_THAT(refusal("redis://[::1]7/x"), HasSubstr("port is not 1 to 65535"));
  EXPECT_THAT(refusal("redis://@host/x"), HasSubstr("its user has other characters"));
}

TEST(QueueAddress, NoPasswordIsRepeated) {
  for (const char* url :
       {"redis://me:s3cret@host/x", "redis://:s3cret@host/x", "redis://me:s3cret/@host/x", "redis://me:s3c@s3cret@host"})
    EXPECT_THAT(refusal(url), testing::AllOf(Not(HasSubstr("s3c")), HasSubstr("CUDREAM_QUEUE_PASSWORD"))) << url;
}

}  // namespace
}  // namespace cudream
