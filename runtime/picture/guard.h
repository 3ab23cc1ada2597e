// Calls into libpng and libjpeg, which report an error by a longjmp that passes over whatever stands between.
#pragma once

#include <csetjmp>

namespace cudream {

// Where an error handler jumps to, and what it had to say.
struct Escape {
  jmp_buf exit;
  char message[256];
};

// False when `body` ended by longjmp(escape.exit). What `body` calls, itself included, must own nothing that needs a destructor:
// C calls and plain values only. This function is a frame of its own (a compiler never inlines a caller of setjmp), so the
// variables of its caller keep their values.
template <typename Body>
bool run_guarded(Escape& escape, Body body) {
  if (setjmp(escape.exit) != 0) return false;
  body();
  return true;
}

}  // namespace cudream
