#!/usr/bin/env bash
# Makes moto, the emulator of AWS that tests use, available in build/tools/moto, and prints the path of its server.
# Versions are pinned in scripts/tools/moto/requirements.txt. Needs python3 and its module venv.
set -euo pipefail
cd "$(dirname "$0")/.."
pinned=scripts/tools/moto/requirements.txt
folder=$PWD/build/tools/moto
mkdir -p build/tools
exec 9>build/tools/moto.lock
flock 9
if ! cmp -s "$pinned" "$folder/requirements.txt"; then
  rm -rf "$folder"
  if ! log=$(python3 -m venv "$folder" 2>&1); then
    rm -rf "$folder"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv ||
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv; }; } >build/tools/moto.log 2>&1 ||
        { echo "moto: apt-get install python3-venv failed: $(tail -n 1 build/tools/moto.log)" >&2; exit 1; }
      python3 -m venv "$folder"
    else
      printf 'moto: python3 -m venv does not work here; install the Debian package python3-venv and run again.\n%s\n' "$log" >&2
      exit 1
    fi
  fi
  "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$pinned" >&2
  cp "$pinned" "$folder/requirements.txt"
fi
echo "$folder/bin/moto_server"
