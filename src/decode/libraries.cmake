find_package(zydis REQUIRED)
target_link_libraries(deja_decode PUBLIC Zydis)
