#!/bin/sh
# Runs a compiler (the arguments) through ccache, which is then to take precompiled headers.
# GCC would find the last build's precompiled header while it makes the next one, and ccache take that for its input: no two
# builds would then have the same.
export CCACHE_SLOPPINESS=pch_defines,time_macros
for word; do
  case $word in *.gch) rm -f "$word" ;; esac
done
exec ccache "$@"
