target_compile_definitions(deja_replay PRIVATE DEJA_VERSION="${PROJECT_VERSION}")
# Screenshots.
find_package(PNG REQUIRED)
target_link_libraries(deja_replay PUBLIC PNG::PNG)
