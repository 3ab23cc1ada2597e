// A shared library opened at run time, from which a table of functions is filled.
#pragma once

#include <initializer_list>
#include <string>

#include "core/error.h"

namespace cudream {

class Library {
 public:
  // Opens the first of `names` that is there. what: "NVIDIA driver", for messages; advice: what to do without it. Throws
  // Error(device) where there is none.
  Library(std::initializer_list<const char*> names, std::string what, std::string advice);

  const std::string& name() const { return name_; }

  template <typename Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

 private:
  bool open(const std::string& name);
  void* address(const char* symbol) const;  // throws Error(device): the library is too old

  std::string name_, what_, advice_, why_;
  void* handle_ = nullptr;  // never closed: NVIDIA's libraries keep threads of their own
};

// What the environment variable `variable` names, else the first of `names`.
Library open_library(const char* variable, std::initializer_list<const char*> names, const std::string& what,
                     const std::string& advice);

}  // namespace cudream
