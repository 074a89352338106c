#!/bin/sh
# Puts into the folder $1 what runs aarch64 programs here: qemu-user, Debian's arm64 Python with its libraries, and
# numpy's aarch64 wheel. Nothing is installed: packages are fetched with apt lists of their own and unpacked.
# usage: setup.sh FOLDER PYTHON NUMPY_VERSION
set -eu
folder=$1 python=$2 numpy=$3
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/debs" "$folder/wheels"
folder=$(cd "$folder" && pwd)

fetch() {  # architecture, packages
  architecture=$1
  shift
  set -- -qq -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache" -o Debug::NoLocking=1 \
    -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" -o APT::Sandbox::User=root -- "$@"
  options=""
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  # shellcheck disable=SC2086  # the options hold no spaces of their own
  apt-get $options update
  # shellcheck disable=SC2086
  (cd "$folder/debs" && apt-get $options download "$@")
}

fetch amd64 qemu-user-static
fetch arm64 libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libsqlite3-0 \
  python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
for deb in "$folder"/debs/*_arm64.deb; do dpkg-deb -x "$deb" "$folder/root"; done
for deb in "$folder"/debs/*_amd64.deb; do dpkg-deb -x "$deb" "$folder/host"; done
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --python-version 3.11 \
  --dest "$folder/wheels" "numpy==$numpy"
"$python" -m zipfile -e "$folder"/wheels/numpy-*.whl "$folder/packages"
find "$folder/host/usr/bin" -name 'qemu-*' ! -name qemu-aarch64-static -delete
rm -rf "$folder/apt" "$folder/debs" "$folder/wheels"
"$folder/host/usr/bin/qemu-aarch64-static" -L "$folder/root" "$folder/root/usr/bin/python3.11" -c \
  "import sys; sys.path.insert(0, '$folder/packages'); import numpy, platform; print(platform.machine(), numpy.__version__)"
