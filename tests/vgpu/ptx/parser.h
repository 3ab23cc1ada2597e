// The grammar of PTX (PTX ISA 9.0, sections 4, 5 and 11) as far as nvcc writes it for kernels without calls.
#pragma once

#include <memory>
#include <string>

#include "tests/vgpu/ptx/module.h"

namespace cudream::vgpu::ptx {

// Parses PTX text. Device functions (.func) are skipped: a kernel that calls one is refused when it is decoded.
// Throws Error (bad_file) with line and text for anything the grammar below does not know, never skipping it.
std::unique_ptr<Module> parse(std::string text);

}  // namespace cudream::vgpu::ptx
