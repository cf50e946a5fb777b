# qcow2 clusters are compressed with one or the other; images are known by their SHA-256.
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
target_link_libraries(deja_disk PUBLIC ZLIB::ZLIB OpenSSL::Crypto PkgConfig::ZSTD)
