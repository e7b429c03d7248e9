/* test.h - the runner that every test file shares: cases, checks, one summary line.
 *
 * A test file is a program of its own: it includes this file (which brings gan.h with its
 * implementation, so private functions can be tested), and its main is
 *
 *     int main(int argc, char **argv) {
 *         test_begin(argc, argv);    first argument, if any: run only cases whose name has it
 *         TEST(case_function);
 *         return test_end();         prints "N passed, N failed"
 *     }
 *
 * A case fails when a CHECK in it fails; the first failures are printed with file and line.
 */
#ifndef TEST_H
#define TEST_H

#define GAN_IMPLEMENTATION
#include "gan.h"

#include <unistd.h>

static const char *test_filter;
static int test_passed, test_failed;
static int test_case_failures;
static const char *test_case_name;

static void test_begin(int argc, char **argv) {
    test_filter = argc > 1 ? argv[1] : NULL;
}

/* The path of a file or folder that this process alone writes, in TMPDIR or /tmp; four at a time. */
static inline const char *test_path(const char *name) {
    static char path[4][256];
    static int next;
    const char *base = getenv("TMPDIR");
    char *out = path[next++ % 4];
    snprintf(out, sizeof path[0], "%.150s/gan_test_%ld_%.80s", base ? base : "/tmp",
             (long)getpid(), name);
    return out;
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
static inline double test_max_error(const float *got, const double *want, size_t count,
                                    size_t *at) {
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

/* An allocator that counts, and can fail. */
typedef struct counting {
    int calls, live, fail_at; /* fail_at: the call that fails, counted from 1; 0 never */
} counting;

static inline void *counting_alloc(void *user, size_t size_bytes) {
    counting *c = (counting *)user;
    c->calls++;
    if (c->calls == c->fail_at) {
        return NULL;
    }
    c->live++;
    return malloc(size_bytes);
}

static inline void counting_free(void *user, void *ptr, size_t size_bytes) {
    counting *c = (counting *)user;
    (void)size_bytes;
    c->live--;
    free(ptr);
}

/* A parallel-for that runs tasks backwards, as threads may; counts its calls if user is an int. */
static inline void run_backwards(void *user, int count, void (*task)(void *arg, int index),
                                 void *arg) {
    if (user) {
        (*(int *)user)++;
    }
    for (int i = count - 1; i >= 0; i--) {
        task(arg, i);
    }
}

/* Every instruction set there may be; gan_isa_available tells which this machine has. */
static const char *const available[] = {"avx512", "avx2", "neon", "scalar"};

/* NULL, 0: the default. */
static inline gan_context *context_of(const char *isa, int threads, const gan_parallel *parallel) {
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.isa = isa;
    desc.threads = threads;
    if (parallel) {
        desc.parallel = *parallel;
    }
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, &desc) == GAN_OK, "no context: %s, %d threads",
          isa ? isa : "default", threads);
    return ctx;
}

/* malloced, uniform in [-1,1), a new stream for every array. */
static inline float *random_array(size_t count) {
    static uint64_t stream;
    float *x = (float *)malloc((count ? count : 1) * sizeof *x);
    gan_random_uniform(7, stream++, 0, x, count);
    for (size_t i = 0; i < count; i++) {
        x[i] = 2.0f * x[i] - 1.0f;
    }
    return x;
}

static inline double activate(double x, gani_act act) {
    switch (act.kind) {
    case GAN_ACT_LEAKY_RELU:
        return x > 0 ? x : (double)act.slope * x;
    case GAN_ACT_TANH:
        return tanh(x);
    case GAN_ACT_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    default:
        return x;
    }
}

/* Numbers in the trained parameters whose names begin with prefix. */
static inline double count_weights(gan_model *model, const char *prefix) {
    gan_params *params = gan_model_params(model);
    double count = 0.0;
    for (int i = 0; i < gan_params_count(params); i++) {
        const gan_param_info info = gan_params_at(params, i);
        if (info.kind == GAN_PARAM_WEIGHT && strncmp(info.name, prefix, strlen(prefix)) == 0) {
            count += (double)gan_shape_count(info.shape);
        }
    }
    return count;
}

#endif
