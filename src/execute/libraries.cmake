# Called with the guest's vector registers in the host's: the compiler may use general registers alone.
set_source_files_properties(src/execute/quick_ops.cc src/execute/quick_access.cc PROPERTIES
  COMPILE_OPTIONS "-mgeneral-regs-only;-fno-exceptions" SKIP_PRECOMPILE_HEADERS ON)
