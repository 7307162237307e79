#!/usr/bin/env bash
# Makes tools available that the scripts and tests call, and prints the path of each: need.sh sipp protoc ...
# A tool that is on PATH is taken as it is. With root it is installed by apt-get; without, its packages are unpacked into
# build/tools/root, and a wrapper in build/tools/bin runs it from there. Nothing else on the machine changes.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A packages=([sipp]=sip-tester [protoc]=protobuf-compiler [shellcheck]=shellcheck [dig]=bind9-dnsutils [tshark]=tshark [named]=bind9 [turnutils_uclient]=coturn [freeDiameterd]=freediameter [python-diameter]=python3-venv [java]=openjdk-17-jre-headless [mvn]=maven [chromium]=chromium [baresip]=baresip-core [npm]=npm)
root=$PWD/build/tools/root
wrappers=$PWD/build/tools/bin

fail() { echo "need: $1 (Debian package ${packages[$2]}): $3. Install it and run again." >&2; exit 1; }

unpack() { # tool: download its packages with what they depend on, and unpack those that are not installed
  local tool=$1 package=${packages[$1]} folder=$PWD/build/tools/packages
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "$tool is missing" "$tool" "there is no apt-get here to unpack it with"
  mkdir -p "$folder" "$root" "$wrappers"
  local wanted
  wanted=$(apt-get install --simulate --no-install-recommends "$package" 2>/dev/null | awk '/^Inst /{print $2}')
  [ -n "$wanted" ] || wanted=$package
  (cd "$folder" && apt-get download $wanted >/dev/null 2>"$folder/log") || fail "$tool is missing" "$tool" "apt-get download failed: $(tail -n 1 "$folder/log")"
  for deb in "$folder"/*.deb; do dpkg-deb -x "$deb" "$root"; done
  local binary
  binary=$root/usr/lib/$tool/$tool # what is in bin may be a script that looks for it at its place
  [ -x "$binary" ] || binary=$(find "$root/usr/bin" "$root/usr/sbin" "$root/bin" -name "$tool" -print -quit 2>/dev/null || true)
  [ -n "$binary" ] || fail "$tool is missing" "$tool" "its package does not hold it"
  local libraries
  libraries=$(find "$root" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
  printf '#!/bin/sh\nLD_LIBRARY_PATH="%s$LD_LIBRARY_PATH" exec "%s" "$@"\n' "${libraries:+$libraries:}" "$binary" >"$wrappers/$tool"
  chmod +x "$wrappers/$tool"
}

python_diameter() { # a Diameter stack in Python, from PyPI, in an environment of its own
  local folder=$PWD/build/tools/python-diameter
  mkdir -p "$wrappers"
  python3 -m venv "$folder" && "$folder/bin/pip" install -q python-diameter==0.9.0 >&2 || fail "$1 is missing" "$1" "python3 -m venv or pip install failed"
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$folder/bin/python3" >"$wrappers/$1"
  chmod +x "$wrappers/$1"
}

for tool in "$@"; do
  [ -n "${packages[$tool]:-}" ] || { echo "need: $tool is unknown; known are ${!packages[*]}" >&2; exit 1; }
  if ! path=$(command -v "$tool"); then
    path=$wrappers/$tool
    if [ ! -x "$path" ]; then
      if [ "$tool" = python-diameter ]; then
        python_diameter "$tool"
      elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        log=$(mktemp)
        { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[$tool]}" ||
          { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[$tool]}"; }; } >"$log" 2>&1 ||
          fail "$tool is missing" "$tool" "apt-get install failed: $(tail -n 1 "$log")"
        rm -f "$log"
        path=$(command -v "$tool") || fail "$tool is missing" "$tool" "its package does not hold it"
      else
        unpack "$tool"
      fi
    fi
  fi
  "$path" --version >/dev/null 2>&1 || "$path" -v >/dev/null 2>&1 || [ $? -ne 127 ] || fail "$path does not run" "$tool" "a library is missing"
  echo "$path"
done
