#!/usr/bin/env bash
# Runs every fuzz target, for a minute each or as many seconds as are given. Needs a nightly toolchain; cargo-fuzz is built below
# target/tools where it is missing. A crash is left in fuzz/artifacts, and the others are run all the same: put it into
# fuzz/corpus/TARGET under a name that says what it is, and `make test` holds it from then on.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
export PATH="$PWD/target/tools/bin:$PATH"
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --root target/tools --target-dir target/tools/build
# The versions that are tested are fuzzed; cargo adds what only the fuzzer needs.
cp Cargo.lock fuzz/Cargo.lock
cargo +nightly fuzz build --sanitizer none
found=""
for target in $(cargo +nightly fuzz list); do
  echo "== $target"
  # What the fuzzer finds interesting goes to a directory of its own; the committed corpus stays small.
  mkdir -p "target/fuzz-corpus/$target"
  cargo +nightly fuzz run --sanitizer none "$target" "target/fuzz-corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 ||
    found="$found $target"
done
if [ -n "$found" ]; then
  echo "Something was found by:$found"
  exit 1
fi
