# gdb's commands are part of the program.
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/gdb/commands.S PROPERTIES
  COMPILE_DEFINITIONS "DEJA_GDB_COMMANDS=\"${CMAKE_SOURCE_DIR}/src/gdb/deja.py\""
  OBJECT_DEPENDS ${CMAKE_SOURCE_DIR}/src/gdb/deja.py)
