#!/bin/sh
# Runs the test programs given as arguments, shows what they say and how long they took, and closes
# with the total "N passed, N failed". Exit status 1 if anything failed or a program did not finish.
# OpenMP's threads shall sleep while they wait: a machine that runs tests does other work too.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

passed=0
failed=0
for program in "$@"; do
    start=$(date +%s)
    output=$(${EMULATOR:-} "$program" 2>&1)
    status=$?
    end=$(date +%s)
    summary=$(printf '%s\n' "$output" | grep -E '^[0-9]+ passed, [0-9]+ failed$' | tail -n 1)
    p=$(printf '%s\n' "$summary" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(printf '%s\n' "$summary" | sed -n 's/.*passed, \([0-9]*\) failed$/\1/p')
    if [ -z "$summary" ] || { [ "$status" -ne 0 ] && [ "$f" = 0 ]; }; then
        p=${p:-0}
        f=$((${f:-0} + 1))
        printf '%s\n' "$output" | tail -n 40
        echo "$(basename "$program"): ended with status $status"
    elif [ "$f" != 0 ]; then
        printf '%s\n' "$output" | grep -vE '^[0-9]+ passed, [0-9]+ failed$' | tail -n 60
    fi
    printf '%-16s %4d passed, %d failed (%d s)\n' "$(basename "$program")" "$p" "$f" $((end - start))
    passed=$((passed + p))
    failed=$((failed + f))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
