# room(NAME SOURCES ... LINK ...): one room of the house as a static library.
function(room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINK;PRIVATE" ${ARGN})
  add_library(cudream_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(cudream_${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(cudream_${name} PUBLIC ${ROOM_LINK} cudream_hardening PRIVATE ${ROOM_PRIVATE} cudream_warnings)
endfunction()

# room_test(NAME SOURCES ... LINK ... [ENVIRONMENT NAME=VALUE...]): the tests of one room, one program; each case is a CTest entry.
# Tests that run whole networks go in a program of their own with LABELS slow. The headers that most tests include are a quarter of
# their time to compile: they are read once, for core_test, and reused.
function(room_test name)
  cmake_parse_arguments(TEST "" "LABELS" "SOURCES;LINK;ENVIRONMENT" ${ARGN})
  if(NOT TEST_LABELS)
    set(TEST_LABELS fast)
  endif()
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_LINK} GTest::gmock GTest::gtest_main cudream_warnings)
  if(name STREQUAL core_test)
    target_precompile_headers(core_test PRIVATE <filesystem> <fmt/format.h> <functional> <gmock/gmock.h> <gtest/gtest.h> <map> <nlohmann/json.hpp>)
  else()
    target_precompile_headers(${name} REUSE_FROM core_test)
  endif()
  # Compiles in half the time; what is tested keeps its -O3. Checked library calls need optimization.
  target_compile_options(${name} PRIVATE -O0 -U_FORTIFY_SOURCE)
  target_compile_definitions(${name} PRIVATE CUDREAM_SOURCE_DIR="${PROJECT_SOURCE_DIR}" CUDREAM_BINARY_DIR="${PROJECT_BINARY_DIR}")
  set(properties LABELS ${TEST_LABELS})
  if(TEST_ENVIRONMENT)
    list(APPEND properties ENVIRONMENT "${TEST_ENVIRONMENT}")
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
endfunction()

# fuzz_target(NAME SOURCE ... LINK ...): a libFuzzer program.
function(fuzz_target name)
  cmake_parse_arguments(FUZZ "" "" "SOURCES;LINK" ${ARGN})
  if(CUDREAM_FUZZ)
    add_executable(${name} ${FUZZ_SOURCES})
    target_link_libraries(${name} PRIVATE ${FUZZ_LINK} cudream_warnings)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
