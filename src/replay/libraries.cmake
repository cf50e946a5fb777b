target_compile_definitions(deja_replay PRIVATE DEJA_VERSION="${PROJECT_VERSION}")
