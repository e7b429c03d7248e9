#!/bin/sh
# Runs every fuzz target (tests/fuzz_*.c) for SECONDS_EACH (default 60) on its corpus. Needs clang with libFuzzer.
build=${BUILD:-build}/fuzz
seconds=${SECONDS_EACH:-60}
mkdir -p "$build"
failed=0
passed=0
for source in tests/fuzz_*.c; do
    name=$(basename "$source" .c)
    kind=${name#fuzz_}
    work=$build/$kind-corpus
    mkdir -p "$work"
    clang -std=c99 -g -O1 -I. -fsanitize=fuzzer,address,undefined "$source" -o "$build/$name" -lm || exit 1
    if "$build/$name" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 \
        -artifact_prefix="$build/$kind-" "$work" "tests/corpus/$kind" >"$build/$name.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        tail -n 30 "$build/$name.log"
    fi
    echo "$name: $(grep -E 'DONE|SUMMARY' "$build/$name.log" | tail -n 1)"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
