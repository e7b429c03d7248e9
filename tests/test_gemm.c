/* Matrix products: every instruction set against a double-precision sum, and the same bits for any number of threads.
 *
 * The bound of each element is derived: a sum of k products rounded k times, alpha, beta, bias and activation (none steeper than
 * 1) a few more, so |error| <= (k + 8) * eps * (|alpha| sum |a||b| + |beta c| + |bias| + 1).
 */
#include "test.h"

/* Value and bound of the error of element (i,j), given the old c. */
static double reference(const gani_gemm *g, int i, int j, double old, double *bound) {
    double sum = 0.0, size = 0.0;
    for (int p = 0; p < g->k; p++) {
        double term =
            (double)g->a[i * g->a_row + p * g->a_col] * (double)g->b[p * g->b_row + j * g->b_col];
        sum += term;
        size += fabs(term);
    }
    double bias =
        (g->bias_row ? (double)g->bias_row[i] : 0.0) + (g->bias_col ? (double)g->bias_col[j] : 0.0);
    sum = (double)g->alpha * sum + bias;
    size = fabs((double)g->alpha) * size + fabs(bias) + 1.0;
    if (g->beta != 0.0f) {
        sum += (double)g->beta * old;
        size += fabs((double)g->beta * old);
    }
    *bound = (g->k + 8) * (double)FLT_EPSILON * size;
    return activate(sum, g->act);
}

/* How a case lays out its matrices and what else it asks for, by the bits of `variant`. */
typedef struct gemm_case {
    gani_gemm g;
    float *a, *b, *c, *old, *bias_row, *bias_col;
    size_t c_count;
} gemm_case;

static gemm_case case_make(int m, int n, int k, int variant) {
    gemm_case t;
    memset(&t, 0, sizeof t);
    const int pad = variant % 3, c_pad = variant % 2 * 5;
    t.a = random_array((size_t)(m + pad) * (size_t)(k + pad));
    t.b = random_array((size_t)(n + pad) * (size_t)(k + pad));
    t.g.m = m;
    t.g.n = n;
    t.g.k = k;
    t.g.a = t.a;
    t.g.b = t.b;
    t.g.a_row = variant & 1 ? 1 : k + pad;
    t.g.a_col = variant & 1 ? m + pad : 1;
    t.g.b_row = variant & 2 ? 1 : n + pad;
    t.g.b_col = variant & 2 ? k + pad : 1;
    t.g.c_row = n + c_pad;
    t.c_count = (size_t)m * (size_t)(n + c_pad);
    t.old = random_array(t.c_count);
    t.c = (float *)malloc(t.c_count * sizeof *t.c);
    t.g.c = t.c;
    t.g.alpha = variant % 5 == 4 ? -0.75f : 1.0f;
    t.g.beta = variant % 4 == 1 ? 1.0f : variant % 4 == 2 ? -0.5f : 0.0f;
    t.g.act.kind = variant / 4 % 4;
    t.g.act.slope = 0.2f;
    t.bias_row = random_array((size_t)m);
    t.bias_col = random_array((size_t)n);
    t.g.bias_row = variant / 3 % 2 ? t.bias_row : NULL;
    t.g.bias_col = variant / 5 % 2 ? t.bias_col : NULL;
    return t;
}

static void case_free(gemm_case *t) {
    free(t->a);
    free(t->b);
    free(t->c);
    free(t->old);
    free(t->bias_row);
    free(t->bias_col);
}

static void case_reset(gemm_case *t) {
    for (size_t i = 0; i < t->c_count; i++) {
        t->c[i] = t->g.beta != 0.0f ? t->old[i] : (float)NAN; /* c must not be read without beta */
    }
}

/* Runs a case and compares every element, and the gaps between rows of c. */
static void case_check(gan_context *ctx, gemm_case *t, int variant) {
    const gani_gemm *g = &t->g;
    case_reset(t);
    CHECK(gani_workspace(ctx, gani_gemm_workspace(ctx, g->m, g->n, g->k)) != NULL, "workspace");
    const size_t reserved = ctx->workspace_bytes;
    CHECK(gani_gemm_run(ctx, g) == GAN_OK, "run");
    CHECK(ctx->workspace_bytes == reserved, "needs more workspace than the query says");
    for (int i = 0; i < g->m; i++) {
        for (int j = 0; j < g->c_row; j++) {
            const size_t at = (size_t)i * (size_t)g->c_row + (size_t)j;
            const float got = t->c[at];
            if (j >= g->n) {
                const float before = g->beta != 0.0f ? t->old[at] : (float)NAN;
                CHECK(memcmp(&got, &before, sizeof got) == 0, "gap of c written");
                continue;
            }
            double bound;
            const double want = reference(g, i, j, (double)t->old[at], &bound);
            CHECK(fabs((double)got - want) <= bound,
                  "%s %dx%dx%d variant %d at (%d,%d): %g, expected %g", gan_context_isa(ctx), g->m,
                  g->n, g->k, variant, i, j, (double)got, want);
        }
    }
}

static const int sizes[][3] = {
    {1, 1, 1},      {1, 1, 300},   {2, 3, 5},      {3, 64, 17},   {4, 96, 33},   {5, 97, 31},
    {6, 16, 64},    {7, 15, 13},   {8, 48, 100},   {9, 49, 384},  {13, 47, 385}, {16, 130, 70},
    {17, 17, 17},   {1, 257, 130}, {257, 1, 130},  {64, 3, 401},  {130, 16, 77}, {31, 33, 0},
    {50, 70, 40},   {65, 97, 50},  {97, 193, 29},  {300, 20, 45}, {20, 500, 45}, {2, 2, 5000},
    {23, 29, 2500}, {12, 1000, 9}, {261, 485, 20}, {3, 8200, 260}, {1, 5005, 431},
    {13, 47, 513},  {67, 50, 1100}, {131, 64, 40}, {32, 90, 2100}, {100, 128, 48}, {190, 16, 64},
    {9, 37, 100},   {15, 70, 33},  {10, 15, 260}, {6, 4099, 520}, {14, 8200, 259},
};
enum { SIZES = (int)(sizeof sizes / sizeof sizes[0]) };

static void test_values(const char *isa) {
    if (!gan_isa_available(isa)) {
        return;
    }
    gan_context *ctx = context_of(isa, 1, NULL);
    for (int s = 0; s < SIZES; s++) {
        for (int variant = s % 3;
             variant<60; variant += sizes[s][0] * sizes[s][1]> 10000 ? 17 : 7) {
            gemm_case t = case_make(sizes[s][0], sizes[s][1], sizes[s][2], variant);
            case_check(ctx, &t, variant);
            case_free(&t);
        }
    }
    gan_context_destroy(ctx);
}

static void values_avx512(void) {
    test_values("avx512");
}

static void values_avx2(void) {
    test_values("avx2");
}

static void values_neon(void) {
    test_values("neon");
}

static void values_scalar(void) {
    test_values("scalar");
}

/* Strides without a unit one, a negative one, and a column that repeats. */
static void odd_strides(void) {
    for (int s = 0; s < 4; s++) {
        if (!gan_isa_available(available[s])) {
            continue;
        }
        gan_context *ctx = context_of(available[s], 1, NULL);
        for (int m = 3; m <= 40; m += 37) {
            gemm_case t = case_make(m, 53, 37, 0);
            free(t.a);
            free(t.b);
            t.a = random_array((size_t)m * 37 * 6);
            t.b = random_array(53 * 37 * 6);
            t.g.a = t.a + (size_t)(m - 1) * 3; /* rows run backwards */
            t.g.a_row = -3;
            t.g.a_col = 3 * (ptrdiff_t)m + 1;
            t.g.b = t.b;
            t.g.b_row = 2;
            t.g.b_col = 75;
            case_check(ctx, &t, 0);
            t.g.b_col = 0;
            case_check(ctx, &t, 0);
            case_free(&t);
        }
        gan_context_destroy(ctx);
    }
}

/* A long k is cut into splits that are added in order. */
static void long_sums(void) {
    for (int s = 0; s < 4; s++) {
        if (!gan_isa_available(available[s])) {
            continue;
        }
        gan_context *ctx = context_of(available[s], 1, NULL);
        for (int variant = 0; variant < 24; variant += 5) {
            gemm_case t = case_make(19, 21, 20011, variant);
            case_check(ctx, &t, variant);
            case_free(&t);
        }
        gan_context_destroy(ctx);
    }
}

static void same_bits_for_any_threads(void) {
    static const int threads[] = {1, 2, 7};
    gan_parallel backwards;
    backwards.run = run_backwards;
    backwards.user = NULL;
    for (int s = 0; s < 4; s++) {
        for (int size = 0; size < SIZES && gan_isa_available(available[s]); size++) {
            gemm_case t = case_make(sizes[size][0], sizes[size][1], sizes[size][2], size);
            float *first = (float *)malloc(t.c_count * sizeof *first);
            for (int i = 0; i < 3; i++) {
                gan_context *ctx = context_of(available[s], threads[i], &backwards);
                case_reset(&t);
                CHECK(gani_gemm_run(ctx, &t.g) == GAN_OK, "run");
                if (i == 0) {
                    memcpy(first, t.c, t.c_count * sizeof *first);
                }
                CHECK(memcmp(first, t.c, t.c_count * sizeof *first) == 0,
                      "%s size %d: %d threads differ", available[s], size, threads[i]);
                gan_context_destroy(ctx);
            }
            free(first);
            case_free(&t);
        }
    }
}

static void *fail_alloc(void *user, size_t size_bytes) {
    return *(int *)user ? NULL : malloc(size_bytes);
}

static void fail_free(void *user, void *ptr, size_t size_bytes) {
    (void)user;
    (void)size_bytes;
    free(ptr);
}

static void failed_allocation_is_reported(void) {
    int failing = 0;
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.allocator.alloc = fail_alloc;
    desc.allocator.free = fail_free;
    desc.allocator.user = &failing;
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, &desc) == GAN_OK, "context");
    gemm_case t = case_make(9, 9, 9, 0);
    failing = 1;
    CHECK(gani_gemm_run(ctx, &t.g) == GAN_ERR_MEMORY, "status");
    failing = 0;
    CHECK(gani_gemm_run(ctx, &t.g) == GAN_OK, "after");
    case_free(&t);
    gan_context_destroy(ctx);
}

static void public_function(void) {
    gan_context *ctx = context_of(NULL, 1, NULL);
    for (int variant = 0; variant < 4; variant++) {
        gemm_case t = case_make(23, 31, 17, variant);
        const size_t lda = (size_t)(variant & 1 ? t.g.a_col : t.g.a_row),
                     ldb = (size_t)(variant & 2 ? t.g.b_col : t.g.b_row);
        float *want = (float *)malloc(t.c_count * sizeof *want);
        t.g.bias_row = t.g.bias_col = NULL;
        t.g.act.kind = GAN_ACT_NONE;
        case_reset(&t);
        CHECK(gani_gemm_run(ctx, &t.g) == GAN_OK, "driver");
        memcpy(want, t.c, t.c_count * sizeof *want);
        case_reset(&t);
        CHECK(gan_sgemm(ctx, variant & 1, variant & 2, 23, 31, 17, t.g.alpha, t.a, lda, t.b, ldb,
                        t.g.beta, t.c, (size_t)t.g.c_row) == GAN_OK,
              "status");
        CHECK(memcmp(want, t.c, t.c_count * sizeof *want) == 0, "variant %d", variant);
        free(want);
        case_free(&t);
    }
    float x[4] = {1, 2, 3, 4};
    CHECK(gan_sgemm(ctx, 0, 0, 2, 2, 2, 1, x, 1, x, 2, 0, x, 2) == GAN_ERR_SHAPE, "lda");
    CHECK(gan_sgemm(ctx, 0, 0, 2, 0, 2, 1, x, 2, x, 2, 0, x, 2) == GAN_ERR_ARGUMENT, "n");
    CHECK(gan_sgemm(ctx, 0, 0, 2, 2, 2, 1, x, 2, NULL, 2, 0, x, 2) == GAN_ERR_ARGUMENT, "NULL");
    gan_context_destroy(ctx);
}

/* Products that are not packed, of every number of rows and columns around the vectors. */
static void small_products(void) {
    static const int extents[] = {1, 3, 4, 5, 8, 9, 16, 17, 28, 33};
    enum { COUNTS = sizeof extents / sizeof extents[0] };
    for (size_t s = 0; s < sizeof available / sizeof available[0]; s++) {
        const gani_kernels *kernels = gani_find_kernels(available[s]);
        for (int c = 0; c < COUNTS * COUNTS * 4 && kernels; c++) {
            const int m = extents[c % COUNTS], n = extents[c / COUNTS % COUNTS], k = c % 7 * 5 + 1;
            float *a = random_array((size_t)(m * k)), *b = random_array((size_t)(k * n));
            float *out = random_array((size_t)(m * n));
            gani_gemm g;
            memset(&g, 0, sizeof g);
            g.k = k;
            g.a = a;
            g.a_row = c & 1 ? 1 : k;
            g.a_col = c & 1 ? m : 1;
            g.b = b;
            g.b_row = n;
            g.b_col = 1;
            g.alpha = 1.0f;
            kernels->gemm_small(m, n, k, a, g.a_row, g.a_col, b, out);
            for (int i = 0; i < m * n; i++) {
                double bound;
                const double want = reference(&g, i / n, i % n, 0.0, &bound);
                CHECK(fabs((double)out[i] - want) <= bound, "%s %d %d %d: [%d] %g, expected %g",
                      available[s], m, n, k, i, (double)out[i], want);
            }
            free(a);
            free(b);
            free(out);
        }
    }
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(values_avx512);
    TEST(values_avx2);
    TEST(values_neon);
    TEST(values_scalar);
    TEST(small_products);
    TEST(odd_strides);
    TEST(long_sums);
    TEST(same_bits_for_any_threads);
    TEST(failed_allocation_is_reported);
    TEST(public_function);
    return test_end();
}
