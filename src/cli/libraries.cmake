# CLI11 is headers only: what to type on the command line, its help and its errors.
find_package(CLI11 REQUIRED)
target_link_libraries(deja_cli PUBLIC CLI11::CLI11)
