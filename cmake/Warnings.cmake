# Warnings are errors in our own code.
add_library(cudream_warnings INTERFACE)
target_compile_options(cudream_warnings INTERFACE -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
                                                  -Wcast-align -Wconversion -Wno-sign-conversion -Wformat=2)
# GCC 12 warns of impossible overlaps inside std::string (its bug 105651).
target_compile_options(cudream_warnings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# Members left out of a designated initializer take their defaults: that is what they are for.
target_compile_options(cudream_warnings INTERFACE -Wno-missing-field-initializers)
