#!/bin/sh
# Makes a built environment ready to be copied into an image: no pip, byte code that needs no checking, one time on all.
# Moves it below the second argument, under its own path, which is what it still believes to be its place.
set -eu
venv=$1 tree=$2
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$packages"/pip "$packages"/pip-*.dist-info "$packages"/setuptools "$packages"/setuptools-*.dist-info \
       "$packages"/pkg_resources "$packages"/_distutils_hack "$packages"/distutils-precedence.pth "$venv"/bin/pip*
find "$venv" -name __pycache__ -prune -exec rm -rf {} +
# Some packages ship templates and tests that are no valid Python: those stay as they are.
"$venv/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" >/dev/null || true
# pip writes when and from where it installed into these.
find "$packages" -path '*.dist-info/direct_url.json' -delete
mkdir -p "$tree${venv%/*}"
mv "$venv" "$tree$venv"
find "$tree" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
