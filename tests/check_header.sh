#!/bin/sh
# Checks gan.h as a header: warnings as C99 and C++11, linking, symbols, options, the programs in its manual, and
# its style as far as a script can see it. Run from the repository root; honours CC, CXX, BUILD, and uses clang
# as well where there is one. Ends with "N passed, N failed".
cc=${CC:-cc}
cxx=${CXX:-c++}
dir=${BUILD:-build}/header
passed=0
failed=0
rm -rf "$dir"
mkdir -p "$dir"

c_flags='-std=c99 -Wstrict-prototypes'
cxx_flags='-std=c++11 -x c++'
warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wcast-align -Wundef -Wvla
-Wwrite-strings -Wpointer-arith -Wdouble-promotion -Wfloat-conversion -Wswitch-enum -Werror'

# check NAME COMMAND...: passes if the command succeeds; shows what it said if not.
check() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        printf '%s\n' "$output" | head -n 20
    fi
}

# empty COMMAND...: succeeds if the command prints nothing; shows it if it does.
empty() {
    lines=$("$@")
    printf '%s\n' "$lines"
    [ -z "$lines" ]
}

# --- warnings, two units linked, a static copy in each unit ----------------------------------------------

printf '#define GAN_IMPLEMENTATION\n#include "gan.h"\n' >"$dir/implementation.c"
cat >"$dir/user.c" <<'END'
#include "gan.h"
#include "gan.h"
int main(void) {
    gan_context *ctx = NULL;
    gan_status status = gan_context_create(&ctx, NULL);
    gan_context_destroy(ctx);
    return status != GAN_OK;
}
END
cat >"$dir/static_other.c" <<'END'
#define GAN_STATIC
#define GAN_IMPLEMENTATION
#include "gan.h"
int other(void);
int other(void) {
    return gan_context_create(NULL, NULL) != GAN_ERR_ARGUMENT;
}
END
sed 's/int other(void) {/int main(void) {/; s/return/return other() ||/' "$dir/static_other.c" >"$dir/static_main.c"

# shellcheck disable=SC2086
language() { # LABEL COMPILER FLAGS
    label=$1 compiler=$2 flags=$3
    for source in implementation user; do
        check "$label: no warning in $source.c" \
            "$compiler" $flags $warnings -O2 -I. -c "$dir/$source.c" -o "$dir/$label-$source.o"
    done
    check "$label: two units link" \
        "$compiler" "$dir/$label-implementation.o" "$dir/$label-user.o" -o "$dir/$label" -lm
    check "$label: two units run" "$dir/$label"
    for source in static_main static_other; do
        check "$label: no warning in $source.c" \
            "$compiler" $flags $warnings -Wno-unused-function -O0 -I. -c "$dir/$source.c" -o "$dir/$label-$source.o"
    done
    check "$label: two static copies link" \
        "$compiler" "$dir/$label-static_main.o" "$dir/$label-static_other.o" -o "$dir/$label-static" -lm
    check "$label: two static copies run" "$dir/$label-static"
}

language c "$cc" "$c_flags"
language c++ "$cxx" "$cxx_flags"
if command -v clang >/dev/null 2>&1; then
    language clang clang "$c_flags"
    language clang++ clang++ "$cxx_flags"
fi

# --- symbols, options ----------------------------------------------------------------------------------

foreign_symbols() {
    nm -g --defined-only "$dir/c-implementation.o" | awk '{ print $NF }' | grep -v '^gan_'
}
check "external symbols begin with gan_" empty foreign_symbols

# option NAMES LINES: the implementation compiles without a warning after these lines.
options_tested='GAN_STATIC'
option() {
    options_tested="$options_tested $1"
    rm -f "$dir/option.o"
    printf '%s\n#define GAN_IMPLEMENTATION\n#include "gan.h"\n' "$2" >"$dir/option.c"
    # shellcheck disable=SC2086
    check "option $1" "$cc" $c_flags $warnings -O0 -fno-pie -I. -I"$dir" -c "$dir/option.c" -o "$dir/option.o"
}

# absent NAME PATTERN: nm shows nothing that matches in the object just built.
symbols() {
    nm "$dir/option.o" | grep -E "$1"
}
absent() {
    check "$1" empty symbols "$2"
}

option '' ''
absent "no mutable global data" ' [bBdDC] '
option GAN_NO_SIMD '#define GAN_NO_SIMD'
absent "GAN_NO_SIMD leaves no instance" '_(avx2|avx512|neon)$'
option GAN_NO_AVX2 '#define GAN_NO_AVX2'
absent "GAN_NO_AVX2 leaves no instance" '_avx2$'
option GAN_NO_AVX512 '#define GAN_NO_AVX512'
absent "GAN_NO_AVX512 leaves no instance" '_avx512$'
option GAN_NO_NEON '#define GAN_NO_NEON'
absent "GAN_NO_NEON leaves no instance" '_neon$'
option GAN_API '#define GAN_API extern __attribute__((visibility("hidden")))'
option 'GAN_MALLOC GAN_FREE' '#include <stddef.h>
void *my_malloc(size_t size_bytes);
void my_free(void *ptr);
#define GAN_MALLOC(size_bytes) my_malloc(size_bytes)
#define GAN_FREE(ptr) my_free(ptr)'
absent "GAN_MALLOC replaces malloc" ' U (malloc|calloc|realloc|free)$'
option GAN_NO_DIRENT '#define GAN_NO_DIRENT'
absent "GAN_NO_DIRENT leaves no listing of folders" ' U (opendir|readdir|stat)'
option GAN_MAX_PIXELS '#define GAN_MAX_PIXELS 4096'
option GAN_ASSERT '#define GAN_ASSERT(condition) ((void)0)'
absent "GAN_ASSERT replaces assert" '__assert'
option GAN_NO_DIRENT '#define GAN_NO_DIRENT'
absent "GAN_NO_DIRENT reads no folder" ' U (opendir|readdir)'
option GAN_MAX_PIXELS '#define GAN_MAX_PIXELS 65536'
cp gan.h "$dir/renamed.h"
option GAN_SELF '#define GAN_SELF "renamed.h"
#include "renamed.h"'
options_tested="$options_tested GAN_ALLOW_FAST_MATH"
# shellcheck disable=SC2086
check "option GAN_ALLOW_FAST_MATH" "$cc" $c_flags -ffast-math -DGAN_ALLOW_FAST_MATH -O0 -I. \
    -c "$dir/implementation.c" -o "$dir/option.o"
fast_math_refused() {
    ! "$cc" -ffast-math -fsyntax-only -I. "$dir/implementation.c" 2>/dev/null
}
check "fast math is refused" fast_math_refused

# Every macro that a conditional asks for is tested above and stands in the manual's table.
sed -n '/^ \* OPTIONS (macros)/,/^ \*   Environment:/p' gan.h >"$dir/options"
unknown_options() {
    grep -E '^ *#.*(if|defined)' gan.h | grep -oE '\<GAN_[A-Z0-9_]+' | sort -u |
        grep -vxE 'GAN_H|GAN_IMPLEMENTATION' | while read -r name; do
        case " $options_tested " in
        *" $name "*) ;;
        *) echo "$name is not tested" ;;
        esac
        grep -qw "$name" "$dir/options" || echo "$name is not in the manual"
    done
}
check "every option is tested and in the manual" empty unknown_options

# --- the manual's programs -----------------------------------------------------------------------------

# A program in a comment starts with "#define GAN_IMPLEMENTATION" and ends with the closing brace of main, both
# at the comment's indentation; it must build as it stands.
awk -v dir="$dir" '
    /^ \* +#define GAN_IMPLEMENTATION/ { indent = index($0, "#"); file = dir "/manual" ++count ".c"; inside = 1 }
    inside { print substr($0, indent) > file }
    inside && substr($0, indent) == "}" { inside = 0; close(file) }
' gan.h
check "the manual holds a program" test -f "$dir/manual1.c"
sed -n '/^#define GAN_IMPLEMENTATION/,$p' examples/smallest.c >"$dir/smallest.c"
check "the manual's program is examples/smallest.c" diff "$dir/smallest.c" "$dir/manual1.c"
for program in "$dir"/manual*.c; do
    if [ -f "$program" ]; then
        check "manual program $program" "$cc" -std=c99 -Wall -Wextra -Werror -I. "$program" -o "${program%.c}" -lm
    fi
done

# The system in the manual, from its options to its row, trains and samples.
{
    printf '#define GAN_IMPLEMENTATION\n#include "gan.h"\n'
    sed -n '/^ \*   static const gan_option gani_hinge_options/,/^ \*       NULL}; /s/^ \*   //p' gan.h
    cat <<'END'
int main(void) {
    static float images[2 * 16 * 16];
    gan_context *ctx;
    gan_model *model;
    gan_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.height = desc.width = 16;
    desc.channels = 1;
    desc.batch = 2;
    desc.options = "ngf=2 ndf=2";
    return gan_context_create(&ctx, NULL) || gani_model_create(&model, ctx, &gani_hinge, &desc) ||
           gan_model_train(model, NULL) || gan_model_sample(model, images, 2, NULL, 1);
}
END
} >"$dir/system.c"
check "the manual's system compiles" "$cc" -std=c99 -Wall -Wextra -Werror -I. "$dir/system.c" -o "$dir/system" -lm
check "the manual's system runs" "$dir/system"

# --- style ---------------------------------------------------------------------------------------------

other_bytes() {
    LC_ALL=C grep -nE '[^ -~]' gan.h
}
check "ASCII without tabs" empty other_bytes

long_lines() {
    awk 'length > 100 { print FILENAME ":" FNR ": more than 100 columns" }' gan.h
}
check "lines of at most 100 columns" empty long_lines

unfinished_marks() {
    grep -nE 'TO''DO|FIX''ME|X''XX|HA''CK' gan.h
}
check "nothing unfinished" empty unfinished_marks

# "number tag" of the contents list and of the banners, in file order.
sed -n 's/^ \*   *\([0-9][0-9.]*\)  *>>\([a-z0-9-]*\)  .*/\1 \2/p' gan.h >"$dir/contents"
sed -n 's/^ \* >>\([a-z0-9-]*\)  *\([0-9.]*\)  *[A-Z].*/\2 \1/p' gan.h >"$dir/banners"
check "banners follow the contents list" diff "$dir/contents" "$dir/banners"

# Tags that the text mentions exist.
unknown_tags() {
    grep -oE '>>[a-z][a-z0-9-]*' gan.h | sort -u | sed 's/>>//' | while read -r tag; do
        grep -q " $tag\$" "$dir/contents" || echo "no section >>$tag"
    done
}
check "tags in the text exist" empty unknown_tags

# A private function is defined before its use, never declared ahead: "static ... (...);" at the margin.
forward_declarations() {
    awk '/^static / { head = ""; open = 1 }
         open { head = head $0; if ($0 ~ /[;{=]/) { open = 0; if (head ~ /^[^={]*\)[^={]*;$/) { print FNR ": " head } } }' gan.h
}
check "no forward declaration of a private function" empty forward_declarations

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
