/* The convolutions with fewer multiplications: all three passes against double-precision sums, for every instruction set.
 *
 * Their rounding error is not bounded by the terms of an element, as the tiles mix neighbours; what is asked is an
 * error of at most 5e-6 of the largest result, also for data chosen to be unkind. Larger layers are checked in some elements.
 */
#include "test.h"

typedef struct case_row {
    int n, c, h, w, o, kernel, stride, pad_h, pad_w, reflect;
} case_row;

static const case_row rows[] = {
    /* n  c   h   w   o  k  s  ph pw r */
    {1, 16, 32, 32, 16, 4, 2, 1, 1, 0},
    {2, 24, 31, 35, 40, 4, 2, 1, 1, 0}, /* sizes and channels that leave rests */
    {3, 17, 18, 26, 33, 4, 2, 1, 1, 1},
    {16, 32, 8, 8, 64, 4, 2, 1, 1, 0}, /* one tile an image */
    {20, 19, 6, 8, 21, 4, 2, 1, 1, 0}, /* less than one */
    {1, 16, 41, 60, 18, 4, 2, 0, 3, 0},
    {1, 16, 39, 37, 70, 4, 2, 3, 2, 1},
    {2, 20, 35, 36, 16, 4, 2, 0, 0, 0}, /* rows that no window meets */
    {1, 65, 32, 32, 66, 4, 2, 1, 1, 0},
    {1, 16, 16, 16, 16, 3, 1, 1, 1, 0},
    {2, 24, 13, 18, 40, 3, 1, 1, 1, 1},
    {3, 17, 7, 5, 33, 3, 1, 0, 2, 0},
    {4, 67, 4, 4, 65, 3, 1, 1, 1, 0},
    {1, 80, 19, 9, 16, 3, 1, 2, 0, 1},
    {1, 16, 32, 32, 16, 3, 2, 1, 1, 0},
    {2, 24, 31, 35, 40, 3, 2, 1, 1, 0},
    {3, 17, 16, 26, 33, 3, 2, 1, 1, 1},
    {20, 35, 9, 13, 21, 3, 2, 0, 1, 0},
    {1, 70, 33, 40, 18, 3, 2, 2, 0, 1},
    {1, 16, 13, 13, 16, 4, 1, 1, 1, 0},
    {2, 24, 14, 17, 40, 4, 1, 1, 2, 1},
    {3, 17, 8, 6, 33, 4, 1, 0, 1, 0},
    {5, 67, 5, 5, 65, 4, 1, 0, 0, 0}, /* 2x2 outputs */
    {1, 33, 31, 9, 66, 4, 1, 3, 0, 0},
};
enum { ROWS = (int)(sizeof rows / sizeof rows[0]) };

/* Layers of the networks: several blocks of lines, long sums. */
static const case_row large[] = {
    {8, 64, 64, 64, 128, 4, 2, 1, 1, 0},   {1, 32, 128, 128, 64, 4, 2, 1, 1, 0},
    {16, 256, 8, 8, 512, 4, 2, 1, 1, 0},   {1, 512, 32, 32, 256, 4, 2, 1, 1, 0},
    {1, 128, 64, 64, 128, 3, 1, 1, 1, 1},  {4, 512, 8, 8, 256, 3, 1, 1, 1, 0},
    {1, 16, 130, 420, 16, 4, 2, 1, 1, 0},  {1, 256, 31, 31, 512, 4, 1, 1, 1, 0},
    {1, 64, 128, 128, 128, 3, 2, 1, 1, 0},
};
enum { LARGE = (int)(sizeof large / sizeof large[0]) };

/* What arrays hold. */
enum { DATA_RANDOM, DATA_ONES, DATA_LARGE_MEAN, DATA_ALTERNATING };

static float *array(size_t count, int kind, int width) {
    static uint64_t stream;
    float *x = (float *)malloc(count * sizeof *x);
    gan_random_normal(5, stream++, 0, x, count);
    for (size_t i = 0; i < count; i++) {
        const size_t column = i % (size_t)width, row = i / (size_t)width;
        if (kind == DATA_ONES) {
            x[i] = 1.0f;
        } else if (kind == DATA_LARGE_MEAN) {
            x[i] = 100.0f + x[i];
        } else if (kind == DATA_ALTERNATING) {
            x[i] = (row + column) % 2 ? -1.0f : 1.0f;
        }
    }
    return x;
}

typedef struct problem {
    gani_conv s;
    float *in[3]; /* x w y */
    size_t count[3];
} problem;

/* x of one kind and y of another; weights are all ones where both are unkind. */
static problem problem_make(const case_row *r, int x_kind, int y_kind) {
    problem p;
    gani_conv *s = &p.s;
    s->n = r->n;
    s->c = r->c;
    s->h = r->h;
    s->w = r->w;
    s->o = r->o;
    s->kh = s->kw = r->kernel;
    s->stride_h = s->stride_w = r->stride;
    s->pad_h = r->pad_h;
    s->pad_w = r->pad_w;
    s->dilation_h = s->dilation_w = s->groups = 1;
    s->reflect = r->reflect;
    s->oh = (s->h + 2 * s->pad_h - s->kh) / s->stride_h + 1;
    s->ow = (s->w + 2 * s->pad_w - s->kw) / s->stride_w + 1;
    p.count[0] = (size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w;
    p.count[1] = (size_t)s->o * (size_t)s->c * (size_t)s->kh * (size_t)s->kw;
    p.count[2] = (size_t)s->n * (size_t)s->o * (size_t)s->oh * (size_t)s->ow;
    p.in[0] = array(p.count[0], x_kind, s->w);
    p.in[1] = array(p.count[1],
                    x_kind == DATA_ONES && y_kind == DATA_ONES ? DATA_ONES : DATA_RANDOM, s->kw);
    p.in[2] = array(p.count[2], y_kind, s->ow);
    return p;
}

static void problem_free(problem *p) {
    for (int i = 0; i < 3; i++) {
        free(p->in[i]);
    }
}

static const int results[3] = {2, 0, 1}; /* by direction: y, x, w */

static int source_index(int i, int size, int reflect) {
    if (reflect) {
        i = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    }
    return i >= 0 && i < size ? i : -1;
}

/* An element of x that a window meets with a tap; -1: padding. */
static ptrdiff_t x_index(const gani_conv *s, int b, int p, int i, int j, int u, int v) {
    const int row = source_index(i * s->stride_h + u - s->pad_h, s->h, s->reflect);
    const int col = source_index(j * s->stride_w + v - s->pad_w, s->w, s->reflect);
    return row < 0 || col < 0 ? -1 : (((ptrdiff_t)b * s->c + p) * s->h + row) * s->w + col;
}

static ptrdiff_t y_index(const gani_conv *s, int b, int q, int i, int j) {
    return (((ptrdiff_t)b * s->o + q) * s->oh + i) * s->ow + j;
}

static ptrdiff_t w_index(const gani_conv *s, int q, int p, int u, int v) {
    return (((ptrdiff_t)q * s->c + p) * s->kh + u) * s->kw + v;
}

/* y at one place. */
static double reference_forward(const problem *t, size_t at) {
    const gani_conv *s = &t->s;
    const int j = (int)(at % (size_t)s->ow), i = (int)(at / (size_t)s->ow % (size_t)s->oh);
    const int q = (int)(at / (size_t)(s->oh * s->ow) % (size_t)s->o),
              b = (int)(at / (size_t)(s->oh * s->ow) / (size_t)s->o);
    double sum = 0.0;
    for (int p = 0; p < s->c; p++) {
        for (int u = 0; u < s->kh; u++) {
            for (int v = 0; v < s->kw; v++) {
                const ptrdiff_t x = x_index(s, b, p, i, j, u, v);
                sum += x < 0 ? 0.0 : (double)t->in[0][x] * (double)t->in[1][w_index(s, q, p, u, v)];
            }
        }
    }
    return sum;
}

/* dx at one place: all windows and taps that meet it, also by reflection. */
static double reference_input(const problem *t, size_t at) {
    const gani_conv *s = &t->s;
    const int p = (int)(at / (size_t)(s->h * s->w) % (size_t)s->c),
              b = (int)(at / (size_t)(s->h * s->w) / (size_t)s->c);
    double sum = 0.0;
    for (int i = 0; i < s->oh; i++) {
        for (int u = 0; u < s->kh; u++) {
            const int row = source_index(i * s->stride_h + u - s->pad_h, s->h, s->reflect);
            if (row != (int)(at / (size_t)s->w % (size_t)s->h)) {
                continue;
            }
            for (int j = 0; j < s->ow; j++) {
                for (int v = 0; v < s->kw; v++) {
                    if (x_index(s, b, p, i, j, u, v) != (ptrdiff_t)at) {
                        continue;
                    }
                    for (int q = 0; q < s->o; q++) {
                        sum += (double)t->in[2][y_index(s, b, q, i, j)] *
                               (double)t->in[1][w_index(s, q, p, u, v)];
                    }
                }
            }
        }
    }
    return sum;
}

/* dw at one place. */
static double reference_weight(const problem *t, size_t at) {
    const gani_conv *s = &t->s;
    const int v = (int)(at % (size_t)s->kw), u = (int)(at / (size_t)s->kw % (size_t)s->kh);
    const int p = (int)(at / (size_t)(s->kh * s->kw) % (size_t)s->c),
              q = (int)(at / (size_t)(s->kh * s->kw) / (size_t)s->c);
    double sum = 0.0;
    for (int b = 0; b < s->n; b++) {
        for (int i = 0; i < s->oh; i++) {
            for (int j = 0; j < s->ow; j++) {
                const ptrdiff_t x = x_index(s, b, p, i, j, u, v);
                sum += x < 0 ? 0.0 : (double)t->in[0][x] * (double)t->in[2][y_index(s, b, q, i, j)];
            }
        }
    }
    return sum;
}

static gan_status run(gan_context *ctx, const problem *p, int direction, const float *bias,
                      gani_act act, float *out) {
    switch (direction) {
    case 0:
        return gani_conv_forward(ctx, &p->s, p->in[0], p->in[1], bias, act, out);
    case 1:
        return gani_conv_input_grad(ctx, &p->s, p->in[2], p->in[1], bias, act, out);
    default:
        return gani_conv_weight_grad(ctx, &p->s, p->in[0], p->in[2], out);
    }
}

static gan_context *wino_context(const char *isa, int threads, int direct) {
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.isa = isa;
    desc.threads = threads;
    desc.parallel.run = run_backwards;
    desc.direct_conv = direct;
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, &desc) == GAN_OK, "context %s", isa);
    return ctx;
}

static gani_act act_make(int kind) {
    gani_act act;
    act.kind = kind;
    act.slope = 0.2f;
    return act;
}

/* Every `every`-th element of a result against the reference, by the largest of these. */
static void check(const problem *p, int direction, const char *isa, const char *what, int row,
                  size_t every) {
    static double (*const references[3])(const problem *, size_t) = {
        reference_forward, reference_input, reference_weight};
    gan_context *ctx = wino_context(isa, 1, 0);
    const size_t count = p->count[results[direction]];
    float *out = array(count, DATA_RANDOM, 1);
    double largest = 0.0, worst = 0.0;
    CHECK(gani_wino_find(ctx, &p->s) != NULL, "%s row %d would be computed directly", what, row);
    CHECK(run(ctx, p, direction, NULL, act_make(GAN_ACT_NONE), out) == GAN_OK, "run");
    for (size_t i = 0; i < count; i += every) {
        const double want = references[direction](p, i), error = fabs((double)out[i] - want);
        largest = fabs(want) > largest ? fabs(want) : largest;
        worst = error <= worst ? worst : error; /* NaN is the worst */
    }
    CHECK(worst <= 5e-6 * largest, "%s row %d direction %d %s: error %g of %g", what, row,
          direction, isa, worst, largest);
    if (getenv("GAN_TEST_ERRORS")) {
        printf("%s row %d direction %d %s: %.2g of the largest\n", what, row, direction, isa,
               worst / largest);
    }
    free(out);
    gan_context_destroy(ctx);
}

static void each_set_and_direction(const problem *p, const char *what, int row) {
    for (int direction = 0; direction < 3; direction++) {
        for (int i = 0; i < 4; i++) {
            if (gan_isa_available(available[i])) {
                check(p, direction, available[i], what, row,
                      direction == 1   ? 7
                      : direction == 0 ? 3
                                       : 1);
            }
        }
    }
}

static void small_layers(void) {
    for (int row = 0; row < ROWS; row++) {
        problem p = problem_make(&rows[row], DATA_RANDOM, DATA_RANDOM);
        each_set_and_direction(&p, "small", row);
        problem_free(&p);
    }
}

static void unkind_data(void) {
    static const int kinds[][2] = {
        {DATA_ONES, DATA_ONES},          {DATA_ONES, DATA_RANDOM},
        {DATA_RANDOM, DATA_ONES},        {DATA_LARGE_MEAN, DATA_RANDOM},
        {DATA_RANDOM, DATA_LARGE_MEAN},  {DATA_LARGE_MEAN, DATA_LARGE_MEAN},
        {DATA_ALTERNATING, DATA_RANDOM}, {DATA_RANDOM, DATA_ALTERNATING}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int row = 0; row < ROWS; row += 2) {
            problem p = problem_make(&rows[row], kinds[i][0], kinds[i][1]);
            char what[32];
            snprintf(what, sizeof what, "kinds %d %d", kinds[i][0], kinds[i][1]);
            each_set_and_direction(&p, what, row);
            problem_free(&p);
        }
    }
}

static void large_layers(void) {
    for (int row = 0; row < LARGE; row++) {
        problem p = problem_make(&large[row], DATA_RANDOM, DATA_RANDOM);
        for (int direction = 0; direction < 3; direction++) {
            check(&p, direction, gan_isa_name(0), "large", row, p.count[results[direction]] / 499);
        }
        problem_free(&p);
    }
}

/* Bias and activations, and rows outside every window, as the direct algorithms have them. */
static void epilogue(void) {
    for (int row = 0; row < ROWS; row++) {
        problem p = problem_make(&rows[row], DATA_RANDOM, DATA_RANDOM);
        for (int direction = 0; direction < 2; direction++) {
            gan_context *fast = wino_context(NULL, 1, 0), *direct = wino_context(NULL, 1, 1);
            const size_t count = p.count[results[direction]];
            float *bias = array((size_t)(direction ? p.s.c : p.s.o), DATA_RANDOM, 1);
            float *want = array(count, DATA_RANDOM, 1), *out = array(count, DATA_RANDOM, 1);
            const gani_act act = act_make((row + direction) % 4);
            const double bound =
                1e-5 * sqrt((double)(direction ? p.s.o : p.s.c) * p.s.kh * p.s.kw) * 5.0;
            CHECK(gani_wino_find(direct, &p.s) == NULL, "the switch is ignored");
            CHECK(run(fast, &p, direction, bias, act, out) == GAN_OK &&
                      run(direct, &p, direction, bias, act, want) == GAN_OK,
                  "run");
            CHECK(fast->workspace_bytes == gani_conv_workspace(fast, &p.s, direction),
                  "workspace is not what the query says");
            for (size_t i = 0; i < count; i++) {
                CHECK(fabs((double)out[i] - (double)want[i]) <= bound,
                      "row %d direction %d element %lu: %g, expected %g", row, direction,
                      (unsigned long)i, (double)out[i], (double)want[i]);
            }
            free(bias);
            free(want);
            free(out);
            gan_context_destroy(fast);
            gan_context_destroy(direct);
        }
        problem_free(&p);
    }
}

static void same_bits_for_any_threads(void) {
    static const int threads[] = {1, 2, 7};
    for (int row = 0; row < ROWS + LARGE; row++) {
        problem p =
            problem_make(row < ROWS ? &rows[row] : &large[row - ROWS], DATA_RANDOM, DATA_RANDOM);
        for (int direction = 0; direction < 3; direction++) {
            const size_t count = p.count[results[direction]];
            float *first = array(count, DATA_RANDOM, 1), *out = array(count, DATA_RANDOM, 1);
            for (int i = 0; i < 3; i++) {
                gan_context *ctx = wino_context(NULL, threads[i], 0);
                CHECK(run(ctx, &p, direction, NULL, act_make(GAN_ACT_LEAKY_RELU),
                          i ? out : first) == GAN_OK,
                      "run");
                CHECK(!i || memcmp(out, first, count * sizeof *out) == 0,
                      "row %d direction %d: %d threads differ", row, direction, threads[i]);
                gan_context_destroy(ctx);
            }
            free(first);
            free(out);
        }
        problem_free(&p);
    }
}

/* The table of algorithms: from how many tiles on, which channels, which maps. */
static void choice(void) {
    static const struct {
        case_row layer;
        int tiled;
    } cases[] = {
        {{1, 512, 16, 16, 512, 4, 2, 1, 1, 0}, 1}, {{3, 512, 8, 8, 512, 4, 2, 1, 1, 0}, 0},
        {{4, 512, 8, 8, 512, 4, 2, 1, 1, 0}, 1},   {{64, 512, 4, 4, 512, 4, 2, 1, 1, 0}, 0},
        {{64, 3, 64, 64, 64, 4, 2, 1, 1, 0}, 0},   {{64, 64, 64, 64, 15, 4, 2, 1, 1, 0}, 0},
        {{1, 64, 32, 32, 128, 3, 2, 1, 1, 0}, 1},  {{1, 64, 16, 16, 128, 3, 2, 1, 1, 0}, 0},
        {{64, 64, 4, 4, 128, 3, 2, 1, 1, 0}, 0},   {{1, 64, 8, 8, 64, 3, 1, 1, 1, 1}, 1},
        {{64, 64, 2, 2, 64, 3, 1, 1, 1, 0}, 0},    {{1, 256, 32, 32, 512, 4, 1, 1, 1, 0}, 1},
        {{1, 512, 31, 31, 1, 4, 1, 1, 1, 0}, 0},   {{1, 64, 256, 256, 64, 7, 1, 3, 3, 1}, 0},
    };
    gan_context *ctx = wino_context(NULL, 1, 0);
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        problem p = problem_make(&cases[i].layer, DATA_ONES, DATA_ONES);
        CHECK((gani_wino_find(ctx, &p.s) != NULL) == cases[i].tiled, "case %d", i);
        problem_free(&p);
    }
    gan_context_destroy(ctx);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(choice);
    TEST(small_layers);
    TEST(unkind_data);
    TEST(large_layers);
    TEST(epilogue);
    TEST(same_bits_for_any_threads);
    return test_end();
}
