# What keeps a build from a clean clone short: headers compiled once, and less optimisation where no guest waits.
#
# GCC takes a precompiled header only for units with its own flags, so there is one for each set of flags. A source with
# flags of its own sets SKIP_PRECOMPILE_HEADERS.
option(DEJA_PRECOMPILE "Precompile headers" ON)

# Layers that no guest waits for, and what they and the tests are compiled with.
set(DEJA_LIGHT_LAYERS sandbox inputs replay timeline linux query gdb cli)
set(DEJA_LIGHT_FLAGS -O1 -g0 CACHE STRING "Flags for what no guest waits for")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/cmake/launch.sh)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

# Lets `target` share `header` of this folder, compiled by the first target that asked for one of this `kind`.
function(deja_precompile target kind header)
  if(NOT DEJA_PRECOMPILE)
    return()
  endif()
  # ccache reads in the preprocessed text which header it was.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  get_property(owner GLOBAL PROPERTY deja_precompiled_${kind})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src)
    target_precompile_headers(${target} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/${header})
    set_property(GLOBAL PROPERTY deja_precompiled_${kind} ${target})
  endif()
endfunction()

# Flags and precompiled header of a layer's library.
function(deja_layer_flags target layer)
  if(NOT layer IN_LIST DEJA_LIGHT_LAYERS)
    deja_precompile(${target} engine precompiled.h)
    return()
  endif()
  target_compile_options(${target} PRIVATE ${DEJA_LIGHT_FLAGS})
  if(layer MATCHES "^(sandbox|inputs)$")
    deja_precompile(${target} light precompiled.h)
  else()
    deja_precompile(${target} upper precompiled_upper.h)
  endif()
endfunction()

# The same for unit tests.
function(deja_test_flags target)
  target_compile_options(${target} PRIVATE ${DEJA_LIGHT_FLAGS})
  deja_precompile(${target} test precompiled_test.h)
endfunction()
