# Build rules shared by every folder: warnings, sanitizers, ccache, and one library per layer.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Paths relative to the checkout, so that another clone (CI's) finds what this one compiled.
  set(launcher ${CMAKE_COMMAND} -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1
    "${CCACHE_PROGRAM}")
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json REQUIRED)  # sampling, formats, text, serve

add_library(ink_flags INTERFACE)
target_include_directories(ink_flags INTERFACE "${PROJECT_SOURCE_DIR}/src")
target_compile_options(ink_flags INTERFACE -Wall -Wextra -Wno-unused-parameter
  -Wno-missing-field-initializers $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -fno-math-errno -ffp-contract=off)
target_link_libraries(ink_flags INTERFACE Threads::Threads)
if(INKSTONE_SANITIZE)
  target_compile_options(ink_flags INTERFACE
    "-fsanitize=${INKSTONE_SANITIZE}" -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(ink_flags INTERFACE "-fsanitize=${INKSTONE_SANITIZE}")
  if(INKSTONE_FUZZ)
    target_compile_options(ink_flags INTERFACE -fsanitize=fuzzer-no-link)
  endif()
endif()

# ink_layer(name DEPS layer...  LIBS external...): the static library ink_<name> of all sources in
# the calling folder (subfolders included), see tools/check_layers.py for who may use whom.
function(ink_layer name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  add_library(ink_${name} STATIC ${sources})
  target_link_libraries(ink_${name} PUBLIC ink_flags)
  foreach(dep IN LISTS ARG_DEPS)
    target_link_libraries(ink_${name} PUBLIC ink_${dep})
  endforeach()
  target_link_libraries(ink_${name} PUBLIC ${ARG_LIBS})
endfunction()

# ink_tests(folder DEPS layer... LIBS external...): one gtest program test_<folder> from
# tests/<folder>/*_test.cc.
function(ink_tests folder)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/${folder}/*.cc")
  if(NOT sources)
    return()
  endif()
  add_executable(test_${folder} ${sources})
  target_include_directories(test_${folder} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_compile_definitions(test_${folder} PRIVATE
    INK_SOURCE_DIR="${PROJECT_SOURCE_DIR}" INK_SHARED_DIR="${PROJECT_SOURCE_DIR}/../shared")
  foreach(dep IN LISTS ARG_DEPS)
    target_link_libraries(test_${folder} PRIVATE ink_${dep})
  endforeach()
  target_link_libraries(test_${folder} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gtest_main)
  add_test(NAME ${folder} COMMAND test_${folder})
endfunction()
