/* bench - speed of gan.h, measured against this machine's own limits.
 *
 *     cc -O2 -I. bench/bench.c -lm -o build/bench && build/bench [options]
 *
 *     --isa NAME      instruction set [best of this processor]
 *     --threads N     [1]
 *     --filter TEXT   only cases whose name contains it
 *     --exact NAME    only that case, and the limits that it needs
 *     --list 1        print the names of the cases, and no more
 *     --ms N          measure a case for about so long [300]
 *
 * First the limit: multiply-adds a second from registers, for each instruction set; before the first case that is limited by
 * memory, its bandwidth (triad). One line per case, `name threads median_ms shortest_ms rate percent`. Names begin with the class of the case.
 *
 * Rate and percent are of arithmetic: GFLOP/s, of the peak of the chosen instruction set times the threads. Operations are
 * counted directly, 2 per multiplication of a weight with a pixel, padding included, so convolutions by fewer
 * multiplications can exceed the peak; with GAN_CONV=direct in the environment there are none. For the classes tiny, norm
 * and adam they are of memory: GB/s that must be read or written, of the triad of one thread.
 *
 * One thread is timed by its processor time, several by the clock on the wall. bench/peers/compare.py runs steps, generators,
 * layers and products in turn with PyTorch and others.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#define GAN_IMPLEMENTATION
#include "gan.h"

#include <time.h>

static struct {
    const char *isa, *filter, *exact;
    int threads, list;
    double seconds;
    double peak_gflops, triad;
    gan_context *ctx;
} bench;

static double now(void) {
    struct timespec t;
    clock_gettime(bench.threads > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Aligned as a program's are. */
static float *array(size_t count) {
    float *x = NULL;
    if (posix_memalign((void **)&x, GANI_ALIGN, count * sizeof *x) != 0) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    gan_random_uniform(1, count, 0, x, count);
    for (size_t i = 0; i < count; i++) {
        x[i] -= 0.5f;
    }
    return x;
}

/* Median seconds of run(arg) over bench.seconds, at least 5 runs; *best is the shortest. */
static double measure(void (*run)(void *arg), void *arg, double *best) {
    enum { MOST = 2000 };
    static double times[MOST];
    int count = 0;
    double total = 0.0;
    run(arg);
    while (count < MOST && (count < 5 || total < bench.seconds)) {
        const double start = now();
        run(arg);
        times[count] = now() - start;
        total += times[count++];
    }
    qsort(times, (size_t)count, sizeof times[0], compare_doubles);
    *best = times[0];
    return times[count / 2];
}

/* One line: `work` of one run in thousand millions, and how many of them a second are possible. */
static void report_rate(const char *name, double work, double possible, void (*run)(void *arg),
                        void *arg) {
    double best;
    const double seconds = measure(run, arg, &best), rate = work / seconds;
    printf("%-60s %d %10.3f %10.3f %8.1f %6.1f\n", name, bench.threads, 1e3 * seconds, 1e3 * best,
           rate, 100.0 * rate / possible);
    fflush(stdout);
}

static void report(const char *name, double multiply_adds, void (*run)(void *arg), void *arg) {
    report_rate(name, 2e-9 * multiply_adds, bench.peak_gflops, run, arg);
}

enum { TRIAD_COUNT = 16 << 20 };

static void run_triad(void *arg) {
    float *const *x = (float *const *)arg;
    float *GANI_RESTRICT a = x[0];
    const float *GANI_RESTRICT b = x[1], *GANI_RESTRICT c = x[2];
    for (int i = 0; i < TRIAD_COUNT; i++) {
        a[i] = b[i] + 3.0f * c[i];
    }
}

/* a = b + s*c over 192 MiB: three streams counted, as the STREAM benchmark does. */
static void measure_triad(void) {
    float *x[3];
    double best;
    for (int i = 0; i < 3; i++) {
        x[i] = array(TRIAD_COUNT);
    }
    measure(run_triad, x, &best);
    bench.triad = 1e-9 * 3.0 * TRIAD_COUNT * sizeof(float) / best;
    printf("# triad         %8.1f GB/s a thread\n", bench.triad);
    for (int i = 0; i < 3; i++) {
        free(x[i]);
    }
}

static void report_bytes(const char *name, double bytes, void (*run)(void *arg), void *arg) {
    if (bench.triad == 0.0) {
        measure_triad();
    }
    report_rate(name, 1e-9 * bytes, bench.triad, run, arg);
}

static void fail(const char *name) {
    fprintf(stderr, "bench: %s: %s\n", name, gan_context_error(bench.ctx));
    exit(1);
}

/* 1 if the case is to be run. */
static int selected(const char *name) {
    const int yes = (!bench.filter || strstr(name, bench.filter)) &&
                    (!bench.exact || strcmp(name, bench.exact) == 0);
    if (yes && bench.list) {
        printf("%s\n", name);
    }
    return yes && !bench.list;
}

/* --- limits of the machine ------------------------------------------------------ */

enum { PEAK_ROUNDS = 200000, PEAK_CHAINS = 12 };
static volatile float peak_sink;

/* PEAK_CHAINS independent chains of multiply-adds, enough to hide their latency; the compiler keeps them in registers. */
#define PEAK_LOOP(vector, set1, fma, store)                  \
    vector sum[PEAK_CHAINS];                                 \
    const vector scale = set1(0.999f), shift = set1(0.001f); \
    float out[16];                                           \
    GANI_UNROLL                                              \
    for (int i = 0; i < PEAK_CHAINS; i++) {                  \
        sum[i] = set1((float)i);                             \
    }                                                        \
    for (int round = 0; round < PEAK_ROUNDS; round++) {      \
        GANI_UNROLL                                          \
        for (int i = 0; i < PEAK_CHAINS; i++) {              \
            sum[i] = fma(sum[i], scale, shift);              \
        }                                                    \
    }                                                        \
    GANI_UNROLL                                              \
    for (int i = 0; i < PEAK_CHAINS; i++) {                  \
        store(out, sum[i]);                                  \
        peak_sink = out[0];                                  \
    }

#if defined(GANI_HAVE_AVX512) && defined(__GNUC__)
__attribute__((target("avx512f"))) static void peak_avx512(void *arg) {
    (void)arg;
    PEAK_LOOP(__m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps)
}
#endif
#if defined(GANI_HAVE_AVX2) && defined(__GNUC__)
__attribute__((target("avx2,fma"))) static void peak_avx2(void *arg) {
    (void)arg;
    PEAK_LOOP(__m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps)
}
#endif
#if defined(GANI_HAVE_NEON)
#define PEAK_FMA_NEON(a, b, c) vfmaq_f32((c), (a), (b))
static void peak_neon(void *arg) {
    (void)arg;
    PEAK_LOOP(float32x4_t, vdupq_n_f32, PEAK_FMA_NEON, vst1q_f32)
}
#endif
#define PEAK_SET1(x)      (x)
#define PEAK_FMA(a, b, c) ((a) * (b) + (c))
#define PEAK_STORE(p, a)  (*(p) = (a))
static void peak_scalar(void *arg) {
    (void)arg;
    PEAK_LOOP(float, PEAK_SET1, PEAK_FMA, PEAK_STORE)
}

typedef struct peak_row {
    const char *isa;
    int width;
    void (*run)(void *arg);
} peak_row;

static const peak_row peaks[] = {
#if defined(GANI_HAVE_AVX512) && defined(__GNUC__)
    {"avx512", 16, peak_avx512},
#endif
#if defined(GANI_HAVE_AVX2) && defined(__GNUC__)
    {"avx2", 8, peak_avx2},
#endif
#if defined(GANI_HAVE_NEON)
    {"neon", 4, peak_neon},
#endif
    {"scalar", 1, peak_scalar},
};

static void measure_peaks(void) {
    for (size_t i = 0; i < sizeof peaks / sizeof peaks[0]; i++) {
        if (gan_isa_available(peaks[i].isa) &&
            (!bench.exact || strcmp(peaks[i].isa, bench.isa) == 0)) {
            double best;
            measure(peaks[i].run, NULL, &best);
            const double gflops = 2e-9 * PEAK_ROUNDS * PEAK_CHAINS * peaks[i].width / best;
            printf("# peak %-8s %8.1f GFLOP/s a thread\n", peaks[i].isa, gflops);
            if (strcmp(peaks[i].isa, bench.isa) == 0) {
                bench.peak_gflops = gflops * bench.threads;
            }
        }
    }
}

/* --- matrix products -------------------------------------------------------------- */

/* c[m,n] = a * b; transposed: a is [k,m], b is [n,k]. Dense layers: forward, input grad, weight grad of the networks of
 * GAN and CGAN at batch 64, and LSTM cells of DRAW. */
typedef struct gemm_row {
    int m, n, k, transpose_b, transpose_a;
} gemm_row;

static const gemm_row gemm_rows[] = {
    {512, 512, 512, 0, 0},    {1024, 1024, 1024, 0, 0}, {2048, 2048, 2048, 0, 0},
    {1024, 1024, 1024, 1, 0}, {64, 16384, 48, 0, 0},    {128, 16384, 1024, 0, 0},
    {256, 4096, 2048, 0, 0},  {512, 1024, 4096, 0, 0},  {64, 65536, 1024, 0, 0},
    {64, 1024, 512, 1, 0},    {64, 512, 1024, 0, 0},    {1024, 512, 64, 0, 1},
    {64, 784, 1024, 1, 0},    {64, 1024, 784, 0, 0},    {784, 1024, 64, 0, 1},
    {128, 256, 1024, 1, 0},   {64, 1024, 562, 1, 0},    {64, 562, 1024, 0, 0},
    {1024, 562, 64, 0, 1},    {1, 1024, 1024, 1, 0},    {1, 1024, 1024, 0, 0},
    {16, 4096, 4096, 1, 0},   {16, 4096, 4096, 0, 0},   {1, 4096, 4096, 0, 0},
    {8, 4096, 4096, 0, 0},
};

static void run_gemm(void *arg) {
    if (gani_gemm_run(bench.ctx, (const gani_gemm *)arg) != GAN_OK) {
        exit(1);
    }
}

static void bench_gemm(void) {
    for (size_t i = 0; i < sizeof gemm_rows / sizeof gemm_rows[0]; i++) {
        const gemm_row *r = &gemm_rows[i];
        char name[96];
        snprintf(name, sizeof name, "gemm_%dx%dx%d%s%s", r->m, r->n, r->k,
                 r->transpose_a ? "_at" : "", r->transpose_b ? "_bt" : "");
        if (!selected(name)) {
            continue;
        }
        float *a = array((size_t)r->m * (size_t)r->k), *b = array((size_t)r->n * (size_t)r->k);
        float *c = array((size_t)r->m * (size_t)r->n);
        gani_gemm g;
        memset(&g, 0, sizeof g);
        g.m = r->m;
        g.n = r->n;
        g.k = r->k;
        g.a = a;
        g.a_row = r->transpose_a ? 1 : r->k;
        g.a_col = r->transpose_a ? r->m : 1;
        g.b = b;
        g.b_row = r->transpose_b ? 1 : r->n;
        g.b_col = r->transpose_b ? r->k : 1;
        g.c = c;
        g.c_row = r->n;
        g.alpha = 1.0f;
        report(name, (double)r->m * r->n * r->k, run_gemm, &g);
        free(a);
        free(b);
        free(c);
    }
}

/* --- convolutions ----------------------------------------------------------------- */

/* Which layer of which network; `output` says how many rows and columns too many a transposed layer would have else. */
typedef struct conv_row {
    const char *group, *net;
    int transposed; /* c is then the channels that come in, size the small side */
    int n, c, o, size, kernel, stride, pad;
    int output; /* transposed: output padding */
    int reflect;
} conv_row;

static const conv_row conv_rows[] = {
    /* group   network  t  n  c    o  size  k  s  p  op r */
    {"4x4s2", "dcgan", 0, 64, 64, 128, 32, 4, 2, 1, 0, 0},
    {"4x4s2", "dcgan", 0, 64, 128, 256, 16, 4, 2, 1, 0, 0},
    {"4x4s2", "dcgan", 0, 64, 256, 512, 8, 4, 2, 1, 0, 0},
    {"4x4s2", "dcgan", 1, 64, 512, 256, 4, 4, 2, 1, 0, 0},
    {"4x4s2", "dcgan", 1, 64, 256, 128, 8, 4, 2, 1, 0, 0},
    {"4x4s2", "dcgan", 1, 64, 128, 64, 16, 4, 2, 1, 0, 0},
    {"4x4s2", "unet", 0, 1, 64, 128, 128, 4, 2, 1, 0, 0},
    {"4x4s2", "unet", 0, 1, 128, 256, 64, 4, 2, 1, 0, 0},
    {"4x4s2", "unet", 1, 1, 512, 128, 32, 4, 2, 1, 0, 0},
    {"4x4s2", "unet", 1, 1, 256, 64, 64, 4, 2, 1, 0, 0},
    {"4x4s2_16tiles", "unet", 0, 1, 256, 512, 32, 4, 2, 1, 0, 0},
    {"4x4s2_16tiles", "unet", 1, 1, 1024, 256, 16, 4, 2, 1, 0, 0},
    {"4x4s2_4tiles", "unet", 0, 1, 512, 512, 16, 4, 2, 1, 0, 0},
    {"4x4s2_4tiles", "unet", 1, 1, 1024, 512, 8, 4, 2, 1, 0, 0},
    {"3x3s1", "resnet", 0, 1, 256, 256, 64, 3, 1, 1, 0, 1},
    {"3x3s1", "resnet", 0, 1, 256, 256, 64, 3, 1, 1, 0, 0},
    {"3x3s1", "resnet", 0, 16, 128, 128, 16, 3, 1, 1, 0, 0},
    {"3x3s2", "resnet", 0, 1, 64, 128, 256, 3, 2, 1, 0, 0},
    {"3x3s2", "resnet", 0, 1, 128, 256, 128, 3, 2, 1, 0, 0},
    {"3x3s2", "resnet", 1, 1, 256, 128, 64, 3, 2, 1, 1, 0},
    {"3x3s2", "resnet", 1, 1, 128, 64, 128, 3, 2, 1, 1, 0},
    {"3x3s2", "acgan", 0, 64, 16, 32, 16, 3, 2, 1, 0, 0},
    {"3x3s2", "acgan", 0, 64, 64, 128, 4, 3, 2, 1, 0, 0},
    {"4x4s1", "patch", 0, 1, 256, 512, 32, 4, 1, 1, 0, 0},
    {"4x4s1", "patch", 0, 4, 128, 256, 24, 4, 1, 1, 0, 0},
    {"3channels", "dcgan", 0, 64, 3, 64, 64, 4, 2, 1, 0, 0},
    {"3channels", "unet", 0, 1, 3, 64, 256, 4, 2, 1, 0, 0},
    {"3channels", "patch", 0, 1, 6, 64, 256, 4, 2, 1, 0, 0},
    {"3channels", "dcgan", 1, 64, 64, 3, 32, 4, 2, 1, 0, 0},
    {"3channels", "unet", 1, 1, 128, 3, 128, 4, 2, 1, 0, 0},
    {"7x7", "resnet", 0, 1, 3, 64, 256, 7, 1, 3, 0, 1},
    {"7x7", "resnet", 0, 1, 64, 3, 256, 7, 1, 3, 0, 1},
    {"1channel", "dcgan", 0, 64, 512, 1, 4, 4, 1, 0, 0, 0},
    {"1channel", "patch", 0, 1, 512, 1, 31, 4, 1, 1, 0, 0},
    {"latent", "dcgan", 1, 64, 100, 512, 1, 4, 1, 0, 0, 0},
    {"tiny", "unet", 0, 1, 512, 512, 8, 4, 2, 1, 0, 0},
    {"tiny", "unet", 0, 1, 512, 512, 4, 4, 2, 1, 0, 0},
    {"tiny", "unet", 0, 1, 512, 512, 2, 4, 2, 1, 0, 0},
    {"tiny", "unet", 1, 1, 512, 512, 1, 4, 2, 1, 0, 0},
    {"tiny", "unet", 1, 1, 1024, 512, 2, 4, 2, 1, 0, 0},
    {"tiny", "unet", 1, 1, 1024, 512, 4, 4, 2, 1, 0, 0},
};

typedef struct conv_run {
    gani_conv s;
    int direction;
    float *x, *w, *y;
    size_t weights; /* floats of w */
    int copies,
        at; /* of w, one after the other, so that the last cache does not keep them; the next */
} conv_run;

enum { TINY_BYTES = 128 << 20 };

static void run_conv(void *arg) {
    conv_run *r = (conv_run *)arg;
    float *w = r->w + r->weights * (size_t)r->at;
    r->at = (r->at + 1) % r->copies;
    gani_act none;
    none.kind = GAN_ACT_NONE;
    none.slope = 0.0f;
    const gan_status status =
        r->direction == 0   ? gani_conv_forward(bench.ctx, &r->s, r->x, w, NULL, none, r->y)
        : r->direction == 1 ? gani_conv_input_grad(bench.ctx, &r->s, r->y, w, NULL, none, r->x)
                            : gani_conv_weight_grad(bench.ctx, &r->s, r->x, r->y, w);
    if (status != GAN_OK) {
        exit(1);
    }
}

/* Geometry of the convolution whose forward, or whose input grad if transposed, the layer is. */
static gani_conv conv_geometry(const conv_row *r) {
    gani_conv s;
    const int large =
        r->transposed ? (r->size - 1) * r->stride + r->kernel - 2 * r->pad + r->output : r->size;
    s.n = r->n;
    s.c = r->transposed ? r->o : r->c;
    s.o = r->transposed ? r->c : r->o;
    s.h = s.w = large;
    s.kh = s.kw = r->kernel;
    s.oh = s.ow = (large + 2 * r->pad - r->kernel) / r->stride + 1;
    s.stride_h = s.stride_w = r->stride;
    s.pad_h = s.pad_w = r->pad;
    s.dilation_h = s.dilation_w = s.groups = 1;
    s.reflect = r->reflect;
    return s;
}

static void bench_conv(void) {
    static const char *const direction[2][3] = {{"forward", "input", "weight"},
                                                {"input", "forward", "weight"}};
    for (size_t i = 0; i < sizeof conv_rows / sizeof conv_rows[0]; i++) {
        const conv_row *r = &conv_rows[i];
        conv_run run;
        run.s = conv_geometry(r);
        const gani_conv *s = &run.s;
        const double sum = (double)s->c * s->kh * s->kw,
                     multiply_adds = sum * s->n * s->o * s->oh * s->ow;
        const int tiny = strcmp(r->group, "tiny") == 0;
        run.weights = (size_t)s->o * (size_t)s->c * (size_t)s->kh * (size_t)s->kw;
        run.copies = tiny ? 1 + (int)(TINY_BYTES / (run.weights * sizeof(float))) : 1;
        run.at = 0;
        run.x = run.w = run.y = NULL;
        for (run.direction = 0; run.direction < 3; run.direction++) {
            char name[96];
            snprintf(name, sizeof name, "%s_%s_%s_%dto%d_at%d_b%d%s_%s", r->group, r->net,
                     r->transposed ? "convt" : "conv", r->c, r->o, r->size, r->n,
                     r->reflect ? "_reflect" : "", direction[r->transposed][run.direction]);
            if (!selected(name)) {
                continue;
            }
            if (!run.x) {
                run.x = array((size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w);
                run.w = array(run.weights * (size_t)run.copies);
                run.y = array((size_t)s->n * (size_t)s->o * (size_t)s->oh * (size_t)s->ow);
            }
            if (tiny) {
                report_bytes(name, 4.0 * (double)run.weights, run_conv, &run);
            } else {
                report(name, multiply_adds, run_conv, &run);
            }
        }
        free(run.x);
        free(run.w);
        free(run.y);
    }
}

/* --- norms, optimisers -------------------------------------------------------------- */

/* A norm with its activation behind it. */
typedef struct norm_row {
    const char *name;
    gan_norm_kind kind;
    int n, c, size;
} norm_row;

static const norm_row norm_rows[] = {
    {"batch", GAN_NORM_BATCH, 64, 64, 64},
    {"batch", GAN_NORM_BATCH, 64, 256, 16},
    {"instance", GAN_NORM_INSTANCE, 1, 64, 256},
    {"instance", GAN_NORM_INSTANCE, 1, 256, 64},
};

static void run_program(void *arg) {
    if (gan_program_run((gan_program *)arg) != GAN_OK) {
        fail("program");
    }
}

/* Forward: x is read and y written once. Backward: dy, x and dx once (as if all else were in cache). */
static void bench_norm(const norm_row *r, int backward) {
    char name[96];
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_program *program = NULL;
    gan_tensor x, y, out;
    snprintf(name, sizeof name, "norm_%s_%dx%dx%dx%d_%s", r->name, r->n, r->c, r->size, r->size,
             backward ? "both" : "forward");
    if (!selected(name)) {
        return;
    }
    if (gan_params_create(&params, bench.ctx, 1) != GAN_OK ||
        gan_graph_create(&g, bench.ctx, params) != GAN_OK) {
        fail(name);
    }
    x = gan_input(g, "x", gan_shape4(r->n, r->c, r->size, r->size));
    y = gan_normalize(g, x, gan_moments(g, x, r->kind), gan_constant(g, gan_shape1(r->c), 1.5f),
                      gan_constant(g, gan_shape1(r->c), 0.5f), r->kind, 1e-5f);
    out = y = gan_activate(g, y, GAN_ACT_LEAKY_RELU, 0.2f);
    const size_t count = gan_shape_count(gan_tensor_shape(g, x));
    if (backward) { /* dy is an input too */
        gan_tensor dy = gan_input(g, "dy", gan_tensor_shape(g, x));
        gan_grad(g, gan_sum(g, gan_mul(g, y, dy), 15u), &x, 1, &out);
        gan_random_normal(1, 1, 0, gan_input_data(g, dy), count);
    }
    if (gan_program_create(&program, g, name, &out, 1) != GAN_OK) {
        fail(name);
    }
    gan_random_normal(1, 0, 0, gan_input_data(g, x), count);
    report_bytes(name, (backward ? 5.0 : 2.0) * 4.0 * (double)count, run_program, program);
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
}

typedef struct adam_run {
    float *x[4]; /* weights, gradient, two states */
    size_t count;
} adam_run;

static void run_adam(void *arg) {
    static const float k[8] = {0.0f, 1e-4f, 0.5f, 0.5f, 0.999f, 0.001f, 1.0f, 1e-8f};
    adam_run *r = (adam_run *)arg;
    bench.ctx->kernels->optimise(GANI_OPTIMISE_ADAM, r->x[0], r->x[1], r->x[2], r->x[3], k,
                                 r->count);
}

static void bench_memory(void) {
    for (size_t i = 0; i < sizeof norm_rows / sizeof norm_rows[0]; i++) {
        bench_norm(&norm_rows[i], 0);
        bench_norm(&norm_rows[i], 1);
    }
    adam_run adam;
    adam.count = (size_t)16 << 20;
    if (!selected("adam_16M")) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        adam.x[i] = array(adam.count);
        for (size_t j = 0; j < adam.count; j++) {
            adam.x[i][j] += 0.5f; /* variances are not negative */
        }
    }
    report_bytes("adam_16M", 7.0 * 4.0 * (double)adam.count, run_adam, &adam);
    for (int i = 0; i < 4; i++) {
        free(adam.x[i]);
    }
}

/* --- training steps, generators ------------------------------------------------------- */

/* A system's training step, or (generator) its generator alone with one image. Names are those of bench/peers/compare.py.
 * To bench another system add its row. */
typedef struct step_row {
    const char *system, *options;
    int size, channels;
    int steps; /* that are one case: where the generator learns in every fifth only */
    int generator;
} step_row;

static const step_row step_rows[] = {
    {"gan", NULL, 28, 1, 1, 0},           {"cgan", NULL, 28, 1, 1, 0},
    {"wgan", "network=mlp", 28, 1, 5, 0}, {"dcgan", NULL, 64, 3, 1, 0},
    {"lsgan", NULL, 64, 3, 1, 0},         {"wgan-gp", NULL, 64, 3, 5, 0},
    {"acgan", NULL, 32, 1, 1, 0},         {"infogan", NULL, 28, 1, 1, 0},
    {"draw", NULL, 28, 1, 1, 0},          {"context-encoder", NULL, 128, 3, 1, 0},
    {"cogan", NULL, 32, 1, 1, 0},         {"pix2pix", NULL, 256, 3, 1, 0},
    {"cyclegan", NULL, 256, 3, 1, 0},     {"dualgan", NULL, 256, 3, 1, 0},
    {"discogan", NULL, 64, 3, 1, 0},      {"pix2pixhd", "classes=0", 256, 3, 1, 0},
    {"dcgan", NULL, 64, 3, 1, 1},         {"pix2pix", NULL, 256, 3, 1, 1},
    {"cyclegan", NULL, 256, 3, 1, 1},
};

typedef struct step_run {
    const step_row *row;
    gan_model *model;
    float *in, *out;
} step_run;

static void run_step(void *arg) {
    const step_run *r = (const step_run *)arg;
    gan_status status = GAN_OK;
    if (r->row->generator) {
        status = r->in ? gan_model_translate(r->model, r->in, 1, r->row->size, r->row->size, NULL,
                                             r->out)
                       : gan_model_sample(r->model, r->out, 1, NULL, 1);
    }
    for (int i = 0; i < r->row->steps && !r->row->generator && status == GAN_OK; i++) {
        status = gan_model_step(r->model);
    }
    if (status != GAN_OK) {
        fail(r->row->system);
    }
}

/* Inputs of a training step: drawn digits, pairs of them with their negatives. */
static void fill(gan_model *model, const gan_model_info *info) {
    gan_dataset_desc desc = gan_model_dataset_desc(model);
    gan_dataset *data = NULL;
    if (desc.pairing != GAN_PAIRING_NONE) {
        desc.pairing = info->system->paired ? GAN_PAIRING_DERIVED : GAN_PAIRING_HALVES;
        desc.derive = GAN_DERIVE_NEGATIVE;
    }
    if (gan_dataset_open(&data, bench.ctx, "digits", &desc) != GAN_OK ||
        gan_model_fill(model, data) != GAN_OK) {
        fail(info->system->name);
    }
    gan_dataset_close(data);
}

static void bench_step(const step_row *row) {
    gan_model_desc desc = gan_model_defaults(row->system);
    gan_model_info info;
    char name[96];
    step_run run;
    desc.height = desc.width = row->size;
    desc.channels = row->channels;
    desc.options = row->options;
    desc.disable_training = row->generator;
    snprintf(name, sizeof name, "%s_%s_%dx%d_b%d", row->generator ? "generator" : "step",
             row->system, row->size, row->size, row->generator ? 1 : desc.batch);
    if (!gan_system_find(row->system) || !selected(name)) {
        return;
    }
    run.row = row;
    run.model = NULL;
    run.in = NULL;
    if (gan_model_create(&run.model, bench.ctx, &desc) != GAN_OK ||
        gan_model_get_info(run.model, &info) != GAN_OK) {
        fail(name);
    }
    const size_t pixels = (size_t)row->size * (size_t)row->size;
    run.out = array(8 * pixels);
    if (!row->generator) {
        fill(run.model, &info);
    } else if (info.translate_in) {
        run.in = array(pixels * (size_t)info.translate_in);
    }
    report(name,
           !row->generator ? info.train_multiply_adds * row->steps
           : run.in        ? info.translate_multiply_adds
                           : info.sample_multiply_adds,
           run_step, &run);
    free(run.in);
    free(run.out);
    gan_model_destroy(run.model);
}

static void bench_steps(void) {
    for (size_t i = 0; i < sizeof step_rows / sizeof step_rows[0]; i++) {
        bench_step(&step_rows[i]);
    }
}

/* --- all ---------------------------------------------------------------------- */

/* Groups of cases, in the order in which they run; each skips what is not selected. */
static void (*const groups[])(void) = {bench_gemm, bench_conv, bench_memory, bench_steps};

static int parse(int argc, char **argv) {
    bench.threads = 1;
    bench.seconds = 0.3;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value && strcmp(argv[i], "--isa") == 0) {
            bench.isa = value;
        } else if (value && strcmp(argv[i], "--filter") == 0) {
            bench.filter = value;
        } else if (value && strcmp(argv[i], "--exact") == 0) {
            bench.exact = value;
        } else if (value && strcmp(argv[i], "--list") == 0) {
            bench.list = atoi(value);
        } else if (value && strcmp(argv[i], "--threads") == 0 && atoi(value) > 0) {
            bench.threads = atoi(value);
        } else if (value && strcmp(argv[i], "--ms") == 0 && atoi(value) > 0) {
            bench.seconds = 1e-3 * atoi(value);
        } else {
            fprintf(
                stderr,
                "bench: cannot use %s; options: --isa NAME --threads N --filter TEXT --exact NAME "
                "--list 1 --ms N\n",
                argv[i]);
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv) {
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    if (!parse(argc, argv)) {
        return 2;
    }
    desc.isa = bench.isa;
    desc.threads = bench.threads;
    if (gan_context_create(&bench.ctx, &desc) != GAN_OK) {
        fprintf(stderr, "bench: instruction set %s is not available\n",
                bench.isa ? bench.isa : "(default)");
        return 2;
    }
    bench.isa = gan_context_isa(bench.ctx);
    bench.threads = gan_context_threads(bench.ctx);
    if (!bench.list) {
        measure_peaks();
        printf("# %s, %d thread%s\n# name threads median_ms shortest_ms rate percent\n", bench.isa,
               bench.threads, bench.threads > 1 ? "s" : "");
    }
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        groups[i]();
    }
    gan_context_destroy(bench.ctx);
    return 0;
}
