# What `cmake --install` puts where, and the .deb that CPack makes of it (./dev package).
include(GNUInstallDirs)
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # what is installed is built by name, without the tests
# Whatever the umask of who installs or packs.
set(CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS ${CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS})
set(CMAKE_INSTALL_DOCDIR ${CMAKE_INSTALL_DATAROOTDIR}/doc/dejavm)

# fmt and Zydis have another soname in each Debian, so the program brings its own copies and finds them by a path relative
# to itself. All else that it links is of the same name in Debian 12 and 13.
set(DEJA_OWN_LIBRARIES lib/dejavm)
# The built program has the same: CMake would leave room for it with empty places, which stand for the current directory.
set_target_properties(deja PROPERTIES INSTALL_RPATH "$ORIGIN/../${DEJA_OWN_LIBRARIES}" BUILD_WITH_INSTALL_RPATH ON)
# A RUNPATH would not be searched for what Zydis needs (Zycore); an RPATH is.
target_link_options(deja PRIVATE -Wl,--disable-new-dtags)
install(TARGETS deja DESTINATION bin)
install(CODE "set(deja_program \"$<TARGET_FILE:deja>\")\nset(deja_own_libraries \"${DEJA_OWN_LIBRARIES}\")")
install(SCRIPT packaging/own_libraries.cmake)

# Manual pages and completion are what the program itself says of its command line.
set(reference ${CMAKE_BINARY_DIR}/reference)
add_custom_command(OUTPUT ${reference}/done
  COMMAND ${CMAKE_COMMAND} -D DEJA=$<TARGET_FILE:deja> -D OUT=${reference}
          -P ${CMAKE_CURRENT_LIST_DIR}/reference.cmake
  DEPENDS deja ${CMAKE_CURRENT_LIST_DIR}/reference.cmake VERBATIM)
add_custom_target(reference ALL DEPENDS ${reference}/done)
install(DIRECTORY ${reference}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${reference}/deja DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/bash-completion/completions)
install(FILES ${reference}/_deja DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/zsh/vendor-completions)
install(FILES ${reference}/deja.fish DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/fish/vendor_completions.d)

# For guests: deja-mark for machines with a compiler and for those with a shell alone.
set(guest_tools ${CMAKE_INSTALL_DATAROOTDIR}/dejavm/guest)
install(FILES docs/deja-mark.c DESTINATION ${guest_tools})
install(PROGRAMS demo/deja-mark DESTINATION ${guest_tools})

install(FILES README.md ARCHITECTURE.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs FILES_MATCHING PATTERN "*.md" PATTERN "*.c")
install(FILES packaging/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME dejavm)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The DejaVM authors <dejavm@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "record and replay whole x86-64 machines
 DejaVM runs an x86-64 virtual machine and records everything that it does, without
 KVM or root; later it reproduces the run exactly, instruction by instruction, and
 debugs it with gdb in both directions.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# Firmware to boot from disks, and gdb for `deja debug`.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "gdb, seabios, ovmf")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "mmdebstrap, qemu-utils, e2fsprogs, crash")
include(CPack)
