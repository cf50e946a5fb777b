#!/bin/sh
# Runs a compiler (the arguments) through ccache, which is then to take precompiled headers.
# GCC would find the last build's precompiled header while it makes the next one, and ccache take that for its input: no two
# builds would then have the same.
export CCACHE_SLOPPINESS=pch_defines,time_macros
# Every checkout on a machine makes the same from the same source, wherever it is: a second clone compiles nothing again.
export CCACHE_BASEDIR="$(dirname "$(dirname "$(realpath "$0")")")" CCACHE_NOHASHDIR=1
for word; do
  case $word in *.gch) rm -f "$word" ;; esac
done
exec ccache "$@"
