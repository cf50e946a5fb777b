# Run while installing: copies the libraries that the program brings along, under the names by which it asks for them, and
# the libraries that those need of their kind.
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${deja_program}" RESOLVED_DEPENDENCIES_VAR found
     UNRESOLVED_DEPENDENCIES_VAR missing PRE_INCLUDE_REGEXES "^lib(fmt|Zydis|Zycore)\\.so" PRE_EXCLUDE_REGEXES ".")
if(missing)
  message(FATAL_ERROR "not found: ${missing}")
endif()
foreach(library IN LISTS found)
  file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/${deja_own_libraries}" TYPE SHARED_LIBRARY FILES "${library}"
       FOLLOW_SYMLINK_CHAIN)
endforeach()
