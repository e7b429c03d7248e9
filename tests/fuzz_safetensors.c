/* Fuzz target: see fuzz.h; tests/fuzz.sh builds and runs it. */
#include "fuzz.h"

FUZZ_TARGET(fuzz_checkpoint)
