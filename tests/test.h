/* test.h - the runner that every test file shares: cases, checks, one summary line.
 *
 * A test file is a program of its own: it includes this file (which brings gan.h with its
 * implementation, so private functions can be tested), and its main is
 *
 *     int main(int argc, char **argv) {
 *         test_begin(argc, argv);          first argument, if any: run only cases whose name contains it
 *         TEST(case_function);
 *         return test_end();               prints "N passed, N failed"
 *     }
 *
 * A case fails when a CHECK in it fails; the first failures are printed with file and line.
 */
#ifndef TEST_H
#define TEST_H

#define GAN_IMPLEMENTATION
#include "gan.h"

static const char *test_filter;
static int test_passed, test_failed;
static int test_case_failures;
static const char *test_case_name;

static void test_begin(int argc, char **argv) {
    test_filter = argc > 1 ? argv[1] : NULL;
}

static int test_end(void) {
    printf("%d passed, %d failed\n", test_passed, test_failed);
    return test_failed != 0;
}

static void test_run(const char *name, void (*run)(void)) {
    if (test_filter && !strstr(name, test_filter)) {
        return;
    }
    test_case_name = name;
    test_case_failures = 0;
    run();
    if (test_case_failures) {
        test_failed++;
        printf("FAILED %s (%d checks)\n", name, test_case_failures);
    } else {
        test_passed++;
    }
    fflush(stdout);
}
#define TEST(function) test_run(#function, function)

/* CHECK(condition, printf-style explanation...): prints the first few failures of a case. */
#define CHECK(condition, ...)                                         \
    do {                                                              \
        if (!(condition) && test_case_failures++ < 10) {              \
            printf("%s:%d: %s: ", __FILE__, __LINE__, test_case_name); \
            printf(__VA_ARGS__);                                      \
            printf("  [%s]\n", #condition);                           \
        }                                                             \
    } while (0)

/* Largest |got - want|; *at is where. NaN anywhere gives infinity. */
static inline double test_max_error(const float *got, const double *want, size_t count, size_t *at) {
    double worst = 0.0;
    *at = 0;
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (!(error <= worst)) {
            worst = error == error ? error : HUGE_VAL;
            *at = i;
        }
    }
    return worst;
}

#endif
