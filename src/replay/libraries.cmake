set_source_files_properties(src/replay/build_info.cc PROPERTIES COMPILE_DEFINITIONS DEJA_VERSION="${PROJECT_VERSION}")
# Screenshots.
find_package(PNG REQUIRED)
target_link_libraries(deja_replay PUBLIC PNG::PNG)
