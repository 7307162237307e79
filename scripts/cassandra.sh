#!/usr/bin/env bash
# Gets the Apache Cassandra that scripts/tools/cassandra/pom.xml pins from Maven Central, compares every jar with
# jars.sha256, and prints the folder that holds it: build/cassandra/<version>, which local store nodes find as
# bin/cassandra. With -pin it writes jars.sha256 anew.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=scripts/tools/cassandra
version=$(sed -n '/cassandra-all/{n;s/.*<version>\(.*\)<\/version>.*/\1/p}' "$tool/pom.xml")
out=$PWD/build/cassandra/$version
link() { mkdir -p bin && ln -sfn "$out" bin/cassandra; }
if [ "${1:-}" != -pin ] && [ -f "$out/complete" ] && cmp -s "$tool/jars.sha256" "$out/complete"; then
  link
  echo "$out"
  exit
fi
mvn=$(scripts/need.sh mvn)
mkdir -p build/cassandra
new=$(mktemp -d build/cassandra/new.XXXXXX)
trap 'rm -rf "$new"' EXIT
"$mvn" -q -B -f "$tool/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$new/lib" >"$new/log" 2>&1 ||
  { echo "cassandra: Maven could not get version $version: $(grep -m 1 ERROR "$new/log")" >&2; exit 1; }
# Libraries of other operating systems are of no use here.
rm -f "$new"/lib/*-osx-*.jar "$new"/lib/*-windows-*.jar
(cd "$new/lib" && sha256sum ./*.jar | sed 's|\./||' | LC_ALL=C sort -k2) >"$new/sums"
if [ "${1:-}" = -pin ]; then cp "$new/sums" "$tool/jars.sha256"; fi
diff -u "$tool/jars.sha256" "$new/sums" >&2 || { echo "cassandra: what Maven got is not what $tool/jars.sha256 pins" >&2; exit 1; }
cp "$new/sums" "$new/complete"
rm -rf "$out" "$new/log" "$new/sums"
chmod 755 "$new"
mv "$new" "$out"
trap - EXIT
link
echo "$out"
