# embed(TARGET FILE SYMBOL): puts FILE into TARGET as it is. C++ sees it as
#   extern "C" const char SYMBOL[], SYMBOL_end[];
function(embed target file symbol)
  get_filename_component(path "${file}" ABSOLUTE)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cc")
  file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT [[
asm(R"(
  .section .rodata
  .global @symbol@
  .global @symbol@_end
  .balign 16
@symbol@:
  .incbin "@path@"
@symbol@_end:
  .byte 0
  .text
)");
]])
  set_source_files_properties("${source}" PROPERTIES OBJECT_DEPENDS "${path}")
  target_sources(${target} PRIVATE "${source}")
endfunction()
