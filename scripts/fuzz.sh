#!/usr/bin/env bash
# Runs every fuzz target, for a minute each or as many seconds as are given. A crash is left in fuzz/artifacts: put it into
# fuzz/corpus/TARGET under a name that says what it is, and `make test` holds it from then on.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
for target in $(cargo +nightly fuzz list); do
  echo "== $target"
  # What the fuzzer finds interesting goes to a directory of its own; the committed corpus stays small.
  mkdir -p "target/fuzz-corpus/$target"
  cargo +nightly fuzz run --sanitizer none "$target" "target/fuzz-corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1
done
