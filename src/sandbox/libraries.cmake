# Filters of system calls.
find_library(SECCOMP_LIBRARY seccomp REQUIRED)
target_link_libraries(deja_sandbox PUBLIC ${SECCOMP_LIBRARY})
