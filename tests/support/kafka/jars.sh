#!/usr/bin/env bash
# Makes sure the jars of the pinned Apache Kafka are in the cache and prints their folder.
# Any number of processes may run this at once; one of them fetches.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../../.." && pwd)/.cache/kafka
jars=$cache/jars

# the folder appears whole or not at all, and holds the pom it was made from
fresh() { cmp -s "$here/pom.xml" "$jars/pom.xml"; }

if ! fresh; then
  command -v mvn >/dev/null || {
    echo "mvn is missing: it fetches Apache Kafka for the tests; install it (Debian: apt-get install maven) or name a broker in POSTRIDER_TEST_BROKERS" >&2
    exit 69
  }
  mkdir -p "$cache"
  (
    flock 9
    fresh && exit 0
    rm -rf "$cache/fetching" "$jars"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies \
      -DoutputDirectory="$cache/fetching" </dev/null >&2
    cp "$here/pom.xml" "$cache/fetching/pom.xml"
    mv "$cache/fetching" "$jars"
  ) 9>"$cache/lock"
fi
echo "$jars"
