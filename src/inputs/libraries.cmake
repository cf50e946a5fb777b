# The user-mode network. Found by name: its pkg-config file asks for headers of GLib, which nobody includes.
find_library(SLIRP_LIBRARY slirp REQUIRED)
target_link_libraries(deja_inputs PUBLIC ${SLIRP_LIBRARY})
