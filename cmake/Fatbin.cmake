# fatbins(TARGET SOURCE.cu ...): compiles kernels and puts them into TARGET, which then defines kernels/cuda/images.h.
#
# One run of the front end per file gives compute_80 PTX; ptxas makes machine code of it for each architecture listed in
# CUDREAM_CUDA_ARCHITECTURES, and both go into the fatbin uncompressed, so that cards newer than all of them start from the PTX
# and tests can read it. A kernel that spills registers is an error. No nvcc: TARGET holds no kernels, and the program says so.
include(Embed)

set(CUDREAM_CUDA_ARCHITECTURES 80 86 89 90 100 120 CACHE STRING "GPU architectures to make machine code for; PTX is always there")
find_program(CUDREAM_NVCC nvcc HINTS /usr/local/cuda/bin DOC "The CUDA compiler; OFF: build without CUDA")

set(CUDREAM_NVCC_VERSION 0)
if(CUDREAM_NVCC)
  execute_process(COMMAND "${CUDREAM_NVCC}" --version OUTPUT_VARIABLE nvcc_says COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "release ([0-9]+)\\.([0-9]+)" release "${nvcc_says}")
  math(EXPR CUDREAM_NVCC_VERSION "${CMAKE_MATCH_1} * 1000 + ${CMAKE_MATCH_2} * 10")
  message(STATUS "CUDA kernels: ${CUDREAM_NVCC}, ${release}, for ${CUDREAM_CUDA_ARCHITECTURES}")
else()
  message(STATUS "CUDA kernels: no nvcc, none are built")
endif()

function(fatbins target)
  set(symbols "")
  set(entries "")
  if(CUDREAM_NVCC)
    set(codes compute_80)
    foreach(architecture ${CUDREAM_CUDA_ARCHITECTURES})
      list(APPEND codes sm_${architecture})
      list(APPEND names sm_${architecture})
    endforeach()
    list(JOIN codes "," codes)
    list(JOIN names ", " names)
    set(CUDREAM_IMAGE_TARGETS "${names} and PTX for newer cards")
    foreach(source ${ARGN})
      get_filename_component(name "${source}" NAME_WE)
      set(fatbin "${CMAKE_CURRENT_BINARY_DIR}/${name}.fatbin")
      add_custom_command(
        OUTPUT "${fatbin}"
        COMMAND "${CUDREAM_NVCC}" -std=c++20 -O3 -lineinfo -I "${PROJECT_SOURCE_DIR}" -fatbin --compress-mode=none
                -gencode "arch=compute_80,code=[${codes}]" -Xptxas -warn-spills,-Werror -MD -MF "${fatbin}.d" -MT "${fatbin}"
                -o "${fatbin}" "${CMAKE_CURRENT_SOURCE_DIR}/${source}"
        DEPENDS "${source}"
        DEPFILE "${fatbin}.d"
        COMMENT "Compiling kernels of ${source}"
        VERBATIM)
      embed(${target} "${fatbin}" kernel_image_${name})
      string(APPEND symbols "extern \"C\" const char kernel_image_${name}[], kernel_image_${name}_end[];\n")
      string(APPEND entries "\n      {\"${name}.cu\", {kernel_image_${name}, kernel_image_${name}_end}},")
    endforeach()
  endif()
  set(CUDREAM_IMAGE_SYMBOLS "${symbols}")
  set(CUDREAM_IMAGE_ENTRIES "${entries}")
  configure_file(images.cc.in images.cc @ONLY)
  target_sources(${target} PRIVATE "${CMAKE_CURRENT_BINARY_DIR}/images.cc")
endfunction()
