#!/usr/bin/env bash
# Runs the fuzzer: run.sh SECONDS [TARGET…], each target for so long, by default every one.
# Needs a nightly compiler and cargo-fuzz (`cargo install cargo-fuzz`). What is found lies in
# tests/fuzz/libfuzzer/artifacts/TARGET; what was tried, in the folder `found` beside it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

main() {
  local seconds=${1:?how many seconds each}
  shift
  local targets=("$@")
  ((${#targets[@]})) || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir libfuzzer)
  local target
  for target in "${targets[@]}"; do
    local sanitizer=address
    # It keeps every stack it has seen, and the parser of filters makes new ones without an end: a
    # gigabyte after 100 000 runs, where the process without it stays at 54 MB after 950 000.
    [[ $target != filter ]] || sanitizer=none
    mkdir -p "libfuzzer/found/$target"
    cargo +nightly fuzz run --fuzz-dir libfuzzer --sanitizer "$sanitizer" "$target" \
      "libfuzzer/found/$target" "corpus/$target" -- \
      -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1
  done
}

main "$@"
