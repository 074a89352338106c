#!/bin/sh
# What edgepack-recover.service does, for devices without systemd: run it at the start, before your program.
set -eu
root=${1:-/var/lib/edgepack}
python=${PYTHON:-python3}
[ -d "$root/versions" ] || exit 0
exec "$python" -m edgepack recover --root "$root"
