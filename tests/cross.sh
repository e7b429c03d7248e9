#!/bin/sh
# Builds the kernel tests for other processors and runs them under user-mode qemu:
# aarch64 (NEON instance), 32-bit ARM and RISC-V (scalar instance).
# Needs the cross compilers and qemu-user; a target whose tools are missing is reported and fails.
build=${BUILD:-build}/cross
mkdir -p "$build"
passed=0
failed=0

# run NAME COMPILER QEMU INSTANCE TEST...    a TEST is NAME or NAME:FILTER
run() {
    name=$1 compiler=$2 qemu=$3 instance=$4
    shift 4
    for tool in "$compiler" "$qemu"; do
        if ! command -v "$tool" >/dev/null 2>&1; then
            echo "$name: $tool is not installed"
            failed=$((failed + 1))
            return
        fi
    done
    for test in "$@"; do
        filter=$(printf '%s' "$test" | sed -n 's/.*://p')
        test=${test%%:*}
        binary=$build/$name-$test
        if "$compiler" -std=c99 -O2 -I. -static "tests/$test.c" -o "$binary" -lm &&
            output=$(GAN_ISA=$instance "$qemu" "$binary" $filter 2>&1); then
            passed=$((passed + 1))
        else
            printf '%s\n' "$output" | tail -n 20
            failed=$((failed + 1))
        fi
        echo "$name ($instance) $test: $(printf '%s\n' "$output" | tail -n 1)"
    done
}

run aarch64 aarch64-linux-gnu-gcc qemu-aarch64 neon test_platform test_vec test_gemm test_conv \
    test_winograd:small
run arm arm-linux-gnueabihf-gcc qemu-arm scalar test_platform test_vec test_gemm
run riscv64 riscv64-linux-gnu-gcc qemu-riscv64 scalar test_platform test_vec test_gemm
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
