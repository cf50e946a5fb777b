#!/bin/bash
# with_demo_guest.sh DEJA GUESTS TEST.py [Class.method]: runs a test with the demo guest's kernel and initrd.
set -eu
here=$(dirname "$(readlink -f "$0")")
guest=$("$here/../../dev" guest)
export DEJA=$1 DEJA_GUESTS=$2
DEJA_KERNEL=$(sed -n 's/^kernel=//p' <<<"$guest")
DEJA_INITRD=$(sed -n 's/^initrd=//p' <<<"$guest")
export DEJA_KERNEL DEJA_INITRD
cd "$here"
exec python3 -B "$3" "${@:4}"
