// What an action that must fail says.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace cudream {

std::string message_of(const auto& action, Code expected = Code::bad_file) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), expected) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace cudream
