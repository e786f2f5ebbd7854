#!/bin/sh
# Prepares a built environment for copying into an image: no pip, bytecode without checks, one modification time for all.
# Moves it below the second argument, keeping its own path, because its scripts contain that path.
set -eu
venv=$1 tree=$2
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$packages"/pip "$packages"/pip-*.dist-info "$packages"/setuptools "$packages"/setuptools-*.dist-info \
       "$packages"/pkg_resources "$packages"/_distutils_hack "$packages"/distutils-precedence.pth "$venv"/bin/pip*
find "$venv" -name __pycache__ -prune -exec rm -rf {} +
# Some packages ship templates and tests that are not valid Python: they are not compiled.
"$venv/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" >/dev/null || true
# pip records here from where it installed.
find "$packages" -path '*.dist-info/direct_url.json' -delete
mkdir -p "$tree${venv%/*}"
mv "$venv" "$tree$venv"
find "$tree" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
