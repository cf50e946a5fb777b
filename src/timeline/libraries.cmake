# They go through all of RAM.
set_source_files_properties(src/timeline/ram_history.cc src/timeline/living_spaces.cc PROPERTIES
  COMPILE_OPTIONS "-O2" SKIP_PRECOMPILE_HEADERS ON)
