// Opening shared libraries.
#include "kernels/cuda/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <utility>

namespace cudream {

Library::Library(std::initializer_list<const char*> names, std::string what, std::string advice)
    : what_(std::move(what)), advice_(std::move(advice)) {
  for (const char* name : names)
    if (open(name)) return;
  throw fail(Code::device, "no {}: {}; install it, {}", what_, why_, advice_);
}

bool Library::open(const std::string& name) {
  name_ = name;
  handle_ = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (handle_ != nullptr) return true;
  const char* why = dlerror();
  why_ = why != nullptr ? why : name;
  return false;
}

void* Library::address(const char* symbol) const {
  void* at = dlsym(handle_, symbol);
  if (at == nullptr) throw fail(Code::device, "the {} is too old: {} has no {}; update it, {}", what_, name_, symbol, advice_);
  return at;
}

Library open_library(const char* variable, std::initializer_list<const char*> names, const std::string& what,
                     const std::string& advice) {
  const char* told = std::getenv(variable);
  return told != nullptr && *told != '\0' ? Library({told}, what, advice) : Library(names, what, advice);
}

}  // namespace cudream
