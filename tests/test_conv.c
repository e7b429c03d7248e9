/* The three convolutions: every instruction set against plain double-precision loops, for all geometries that matter.
 *
 * Bound of an element that is a sum of terms t: (count + 8) * eps * (sum |t| + |bias| + 1), as in test_gemm.c; the
 * activations are no steeper than 1.
 */
#include "test.h"

typedef struct case_row {
    int n, c, h, w, o, kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups,
        reflect;
    int spare_h,
        spare_w; /* x is so much larger than the windows need: output padding of the transposed convolution */
} case_row;

static const case_row rows[] = {
    /* n  c   h   w   o  kh kw sh sw ph pw dh dw g  r  spare */
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0},
    {2, 3, 16, 16, 5, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {3, 16, 32, 32, 24, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {2, 8, 17, 13, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0},
    {2, 8, 17, 13, 7, 3, 3, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 3, 20, 48, 4, 7, 7, 1, 1, 3, 3, 1, 1, 1, 1, 0, 0},
    {2, 4, 9, 11, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1, 0, 0, 0},
    {2, 5, 8, 9, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1},
    {3, 2, 7, 5, 3, 3, 2, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0},
    {2, 16, 4, 4, 1, 4, 4, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0},  /* discriminator's head */
    {70, 16, 4, 4, 1, 4, 4, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0}, /* the same, larger batch */
    {5, 33, 4, 4, 10, 4, 4, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0}, /* transposed: generator's first layer */
    {2, 6, 2, 2, 9, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 20, 4, 4, 30, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 20, 8, 8, 30, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {90, 4, 2, 2, 3, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {2, 3, 10, 10, 4, 2, 2, 3, 3, 0, 0, 1, 1, 1, 0, 0, 0}, /* stride beyond the kernel */
    {4, 3, 19, 22, 4, 2, 3, 5, 4, 1, 0, 1, 1, 1, 0, 2, 1},
    {2, 3, 15, 14, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1, 0, 0, 0},
    {2, 3, 23, 21, 5, 3, 4, 2, 3, 2, 1, 3, 2, 1, 0, 1,
     0}, /* stride and dilation with and without common factor */
    {2, 3, 23, 21, 5, 3, 3, 4, 2, 4, 4, 2, 4, 1, 0, 2, 0},
    {2, 6, 12, 12, 4, 3, 3, 1, 1, 1, 1, 1, 1, 2, 0, 0, 0},
    {2, 6, 12, 12, 6, 4, 4, 2, 2, 1, 1, 1, 1, 3, 0, 0, 0},
    {2, 5, 9, 9, 10, 3, 3, 1, 1, 1, 1, 1, 1, 5, 1, 0, 0}, /* one channel a group */
    {2, 64, 6, 7, 3, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0},
    {3, 7, 5, 6, 11, 1, 1, 2, 2, 0, 0, 1, 1, 1, 0, 0, 1},
    {2, 4, 13, 13, 64, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 1, 1},
    {1, 2, 64, 64, 3, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 3, 5, 40, 1, 5, 3, 1, 1, 4, 4, 1, 1, 1, 0, 0, 0}, /* padding wider than the image needs */
    {1, 3, 33, 35, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0},
    {130, 1, 14, 14, 2, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {2, 20, 18, 33, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1, 1, 0, 0}, /* few channels of y */
    {3, 40, 17, 19, 1, 4, 4, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0},
    {2, 12, 13, 14, 2, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0},
    {2, 18, 40, 41, 4, 4, 4, 2, 2, 1, 1, 1, 1, 2, 0, 1, 0},
    {2, 3, 40, 41, 20, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 1}, /* of x */
    {2, 3, 21, 37, 12, 7, 7, 1, 1, 3, 3, 1, 1, 1, 1, 0, 0},
    {7, 3, 40, 38, 20, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0}, /* of x, some images at a time */
    {2, 20, 4, 40, 2, 7, 7, 1, 1, 3, 3, 1, 1, 1, 1, 0, 0},  /* of y, every row meets all */
    {3, 20, 6, 40, 3, 2, 2, 1, 1, 3, 3, 1, 1, 1, 0, 0, 0},  /* rows of y, and of x, that no tap */
    {3, 3, 41, 43, 20, 2, 2, 3, 2, 0, 0, 1, 1, 1, 0, 0, 0}, /* meets */
    {16, 5, 4, 4, 1, 4, 4, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0},    /* few pixels: of one window each */
    {3, 11, 4, 4, 37, 4, 4, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0},
    {2, 6, 7, 9, 10, 3, 2, 2, 3, 1, 1, 1, 1, 2, 1, 0, 0},
    {1, 20, 16, 16, 30, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 3, 9, 70, 2, 5, 9, 3, 7, 2, 3, 2, 1, 1, 0, 0, 1},
    {1, 130, 4, 4, 524, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0}, /* and many weights */
};
enum { ROWS = (int)(sizeof rows / sizeof rows[0]) };

/* Large enough to be staged in several sets: a batch by images, large images by bands of rows. */
static const case_row big[] = {
    /* n  c   h   w   o  kh kw sh sw ph pw dh dw g  r  spare */
    {7, 24, 48, 48, 2, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {2, 48, 128, 128, 2, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 40, 90, 107, 3, 3, 3, 1, 1, 2, 2, 2, 2, 1, 1, 0, 0},
    {1, 2, 190, 193, 48, 3, 3, 2, 2, 1, 1, 1, 1, 1, 0, 1, 0},
    {2, 3, 200, 60, 40, 2, 2, 3, 1, 0, 0, 1, 1, 1, 0, 1, 0}, /* rows that no tap meets */
    {1, 256, 50, 50, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0}, /* k long enough to be split */
    {1, 24, 230, 100, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1, 1, 0, 0},
    {2, 3, 230, 100, 24, 7, 7, 1, 1, 3, 3, 1, 1, 1, 1, 0, 0},
    {2, 6, 150, 130, 40, 4, 4, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0},
    {1, 20, 260, 90, 4, 5, 3, 1, 1, 4, 1, 2, 1, 1, 1, 0, 0}, /* few channels, dilated downwards */
    {1, 3, 461, 130, 20, 3, 4, 2, 2, 2, 1, 2, 1, 1, 0, 0, 0},
};
enum { BIG = (int)(sizeof big / sizeof big[0]) };

static int windows(int size, int kernel, int stride, int pad, int dilation, int *spare) {
    const int room = size + 2 * pad - (kernel - 1) * dilation - 1;
    *spare = room % stride;
    return room / stride + 1;
}

static gani_conv geometry(const case_row *r) {
    gani_conv s;
    int spare_h, spare_w;
    s.n = r->n;
    s.c = r->c;
    s.h = r->h;
    s.w = r->w;
    s.o = r->o;
    s.kh = r->kh;
    s.kw = r->kw;
    s.oh = windows(r->h, r->kh, r->stride_h, r->pad_h, r->dilation_h, &spare_h);
    s.ow = windows(r->w, r->kw, r->stride_w, r->pad_w, r->dilation_w, &spare_w);
    CHECK(spare_h >= r->spare_h || spare_w >= r->spare_w,
          "the table says more spare than there is");
    s.stride_h = r->stride_h;
    s.stride_w = r->stride_w;
    s.pad_h = r->pad_h;
    s.pad_w = r->pad_w;
    s.dilation_h = r->dilation_h;
    s.dilation_w = r->dilation_w;
    s.groups = r->groups;
    s.reflect = r->reflect;
    return s;
}

/* Sums in double, and the sums of the terms' sizes beside them. */
typedef struct sums {
    double *value, *size;
    int *terms;
    size_t count;
} sums;

static sums sums_make(size_t count) {
    sums t;
    t.value = (double *)calloc(count, sizeof *t.value);
    t.size = (double *)calloc(count, sizeof *t.size);
    t.terms = (int *)calloc(count, sizeof *t.terms);
    t.count = count;
    return t;
}

static void sums_free(sums *t) {
    free(t->value);
    free(t->size);
    free(t->terms);
}

static void sums_add(sums *t, size_t at, float a, float b) {
    const double term = (double)a * (double)b;
    t->value[at] += term;
    t->size[at] += fabs(term);
    t->terms[at]++;
}

typedef struct problem {
    gani_conv s;
    float *x, *w, *y; /* y is dy where that is asked for */
    size_t x_count, w_count, y_count;
} problem;

static problem problem_make(const case_row *row) {
    problem p;
    p.s = geometry(row);
    p.x_count = (size_t)p.s.n * (size_t)p.s.c * (size_t)p.s.h * (size_t)p.s.w;
    p.w_count = (size_t)p.s.o * (size_t)(p.s.c / p.s.groups) * (size_t)p.s.kh * (size_t)p.s.kw;
    p.y_count = (size_t)p.s.n * (size_t)p.s.o * (size_t)p.s.oh * (size_t)p.s.ow;
    p.x = random_array(p.x_count);
    p.w = random_array(p.w_count);
    p.y = random_array(p.y_count);
    return p;
}

static void problem_free(problem *p) {
    free(p->x);
    free(p->w);
    free(p->y);
}

static int source_index(int i, int size, int reflect) {
    if (reflect) {
        i = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    }
    return i >= 0 && i < size ? i : -1;
}

/* One output place: all its terms, to the sums of one direction. */
static void reference_place(const problem *p, int direction, sums *out, int b, int q, int i,
                            int j) {
    const gani_conv *s = &p->s;
    const int c = s->c / s->groups, g = q / (s->o / s->groups);
    const size_t y_at =
        (((size_t)b * (size_t)s->o + (size_t)q) * (size_t)s->oh + (size_t)i) * (size_t)s->ow +
        (size_t)j;
    for (int ch = 0; ch < c; ch++) {
        for (int u = 0; u < s->kh; u++) {
            for (int v = 0; v < s->kw; v++) {
                const int row =
                    source_index(i * s->stride_h + u * s->dilation_h - s->pad_h, s->h, s->reflect);
                const int col =
                    source_index(j * s->stride_w + v * s->dilation_w - s->pad_w, s->w, s->reflect);
                if (row < 0 || col < 0) {
                    continue;
                }
                const size_t x_at =
                    (((size_t)b * (size_t)s->c + (size_t)(g * c + ch)) * (size_t)s->h +
                     (size_t)row) *
                        (size_t)s->w +
                    (size_t)col;
                const size_t w_at =
                    (((size_t)q * (size_t)c + (size_t)ch) * (size_t)s->kh + (size_t)u) *
                        (size_t)s->kw +
                    (size_t)v;
                if (direction == 0) {
                    sums_add(out, y_at, p->x[x_at], p->w[w_at]);
                } else if (direction == 1) {
                    sums_add(out, x_at, p->y[y_at], p->w[w_at]);
                } else {
                    sums_add(out, w_at, p->y[y_at], p->x[x_at]);
                }
            }
        }
    }
}

static sums reference(const problem *p, int direction) {
    const gani_conv *s = &p->s;
    sums out = sums_make(direction == 0 ? p->y_count : direction == 1 ? p->x_count : p->w_count);
    for (int b = 0; b < s->n; b++) {
        for (int q = 0; q < s->o; q++) {
            for (int i = 0; i < s->oh; i++) {
                for (int j = 0; j < s->ow; j++) {
                    reference_place(p, direction, &out, b, q, i, j);
                }
            }
        }
    }
    return out;
}

static gan_status run(gan_context *ctx, const problem *p, int direction, const float *bias,
                      gani_act act, float *out) {
    switch (direction) {
    case 0:
        return gani_conv_forward(ctx, &p->s, p->x, p->w, bias, act, out);
    case 1:
        return gani_conv_input_grad(ctx, &p->s, p->y, p->w, bias, act, out);
    default:
        return gani_conv_weight_grad(ctx, &p->s, p->x, p->y, out);
    }
}

/* One row, one direction, one instruction set; odd ones with bias, every fourth with another activation. */
static void check(const problem *p, int direction, const sums *want, const char *isa, int row,
                  int variant) {
    gan_context *ctx = context_of(isa, 1, NULL);
    const int channels = direction == 0 ? p->s.o : p->s.c;
    const size_t plane = direction == 0 ? (size_t)(p->s.oh * p->s.ow) : (size_t)(p->s.h * p->s.w);
    float *bias = random_array((size_t)channels);
    gani_act act;
    act.kind = direction == 2 ? GAN_ACT_NONE : variant / 2 % 4;
    act.slope = 0.2f;
    const int with_bias = direction != 2 && variant % 2;
    /* a multiple of a cache line, as a program's arrays are, or not */
    float *room = random_array(want->count + 16);
    float *out = room + (variant > 0 ? (64 - (uintptr_t)room % 64) % 64 / sizeof(float) : 0);
    CHECK(run(ctx, p, direction, with_bias ? bias : NULL, act, out) == GAN_OK, "run");
    CHECK(ctx->workspace_bytes == gani_conv_workspace(ctx, &p->s, direction),
          "workspace is not what the query says");
    for (size_t i = 0; i < want->count; i++) {
        const double b = with_bias ? (double)bias[i / plane % (size_t)channels] : 0.0;
        const double value = activate(want->value[i] + b, act);
        const double bound =
            (want->terms[i] + 8) * (double)FLT_EPSILON * (want->size[i] + fabs(b) + 1.0);
        CHECK(fabs((double)out[i] - value) <= bound,
              "row %d direction %d %s variant %d element %lu: %g, expected %g", row, direction, isa,
              variant, (unsigned long)i, (double)out[i], value);
    }
    free(room);
    free(bias);
    gan_context_destroy(ctx);
}

static void test_direction(int direction) {
    for (int row = 0; row < ROWS; row++) {
        problem p = problem_make(&rows[row]);
        sums want = reference(&p, direction);
        for (int i = 0; i < 4; i++) {
            if (gan_isa_available(available[i])) {
                check(&p, direction, &want, available[i], row, 0);
                check(&p, direction, &want, available[i], row, 1 + (row + i) % 7);
            }
        }
        sums_free(&want);
        problem_free(&p);
    }
}

static void forward(void) {
    test_direction(0);
}

static void input_grad(void) {
    test_direction(1);
}

static void weight_grad(void) {
    test_direction(2);
}

static void same_bits_for_any_threads(void) {
    static const int threads[] = {1, 2, 7};
    gan_parallel backwards;
    backwards.run = run_backwards;
    backwards.user = NULL;
    gani_act act;
    act.kind = GAN_ACT_LEAKY_RELU;
    act.slope = 0.1f;
    for (int row = 0; row < ROWS + BIG; row++) {
        problem p = problem_make(row < ROWS ? &rows[row] : &big[row - ROWS]);
        for (int direction = 0; direction < 3; direction++) {
            const size_t count = direction == 0   ? p.y_count
                                 : direction == 1 ? p.x_count
                                                  : p.w_count;
            float *first = random_array(count), *out = random_array(count);
            for (int i = 0; i < 3; i++) {
                gan_context *ctx = context_of(NULL, threads[i], &backwards);
                CHECK(run(ctx, &p, direction, NULL, act, i ? out : first) == GAN_OK, "run");
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

static void several_sets(void) {
    for (int row = 0; row < BIG; row++) {
        problem p = problem_make(&big[row]);
        gani_set set = {0, 0, 0, 0};
        int sets[2] = {0, 0};
        const gani_stage x = gani_stage_x(&p.s, 1, 0), dy = gani_stage_dy(&p.s, 1);
        while (gani_set_next(&set, &x, p.s.n)) {
            sets[0]++;
        }
        memset(&set, 0, sizeof set);
        while (gani_set_next(&set, &dy, p.s.n)) {
            sets[1]++;
        }
        CHECK(sets[0] > 1 || sets[1] > 1, "row %d is too small to be cut", row);
        for (int direction = 0; direction < 3; direction++) {
            sums want = reference(&p, direction);
            check(&p, direction, &want, gan_isa_name(0), 1000 + row, 0);
            check(&p, direction, &want, gan_isa_name(0), 1000 + row, 3);
            sums_free(&want);
        }
        problem_free(&p);
    }
}

/* The public functions take the same paths; their checks refuse what the drivers do not expect. */
static void public_functions(void) {
    gan_context *ctx = context_of(NULL, 1, NULL);
    const gan_conv_shape shape = {2, 4, 9, 7, 6, 3, 3};
    gan_conv_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.stride_h = desc.stride_w = 2;
    desc.pad_h = desc.pad_w = 1;
    desc.groups = 2;
    static const case_row row = {2, 4, 9, 7, 6, 3, 3, 2, 2, 1, 1, 1, 1, 2, 0, 0, 0};
    problem p = problem_make(&row);
    int oh = 0, ow = 0;
    CHECK(gan_conv2d_size(ctx, &shape, &desc, &oh, &ow) == GAN_OK && oh == 5 && ow == 4,
          "size %d %d", oh, ow);
    for (int direction = 0; direction < 3; direction++) {
        const size_t count = direction == 0 ? p.y_count : direction == 1 ? p.x_count : p.w_count;
        float *got = random_array(count), *want = random_array(count);
        gani_act none = {GAN_ACT_NONE, 0.0f};
        CHECK(run(ctx, &p, direction, NULL, none, want) == GAN_OK, "driver");
        const gan_status status =
            direction == 0   ? gan_conv2d_forward(ctx, &shape, &desc, p.x, p.w, NULL, got)
            : direction == 1 ? gan_conv2d_input_grad(ctx, &shape, &desc, p.y, p.w, NULL, got)
                             : gan_conv2d_weight_grad(ctx, &shape, &desc, p.x, p.y, got);
        CHECK(status == GAN_OK && memcmp(got, want, count * sizeof *got) == 0, "direction %d",
              direction);
        free(got);
        free(want);
    }
    gan_conv_shape bad = shape;
    bad.kh = 12;
    CHECK(gan_conv2d_forward(ctx, &bad, &desc, p.x, p.w, NULL, p.y) == GAN_ERR_SHAPE,
          "kernel beyond the image");
    bad = shape;
    bad.o = 5;
    CHECK(gan_conv2d_forward(ctx, &bad, &desc, p.x, p.w, NULL, p.y) == GAN_ERR_SHAPE, "groups");
    bad = shape;
    bad.n = 0;
    CHECK(gan_conv2d_forward(ctx, &bad, &desc, p.x, p.w, NULL, p.y) == GAN_ERR_ARGUMENT,
          "empty batch");
    bad = shape;
    bad.n = INT_MAX;
    CHECK(gan_conv2d_forward(ctx, &bad, &desc, p.x, p.w, NULL, p.y) == GAN_ERR_LIMIT, "too large");
    CHECK(gan_conv2d_forward(ctx, &shape, &desc, NULL, p.w, NULL, p.y) == GAN_ERR_ARGUMENT, "NULL");
    desc.reflect = 1;
    desc.pad_w = 7;
    CHECK(gan_conv2d_forward(ctx, &shape, &desc, p.x, p.w, NULL, p.y) == GAN_ERR_SHAPE,
          "reflection beyond the image");
    desc.pad_w = -1;
    CHECK(gan_conv2d_forward(ctx, &shape, &desc, p.x, p.w, NULL, p.y) == GAN_ERR_ARGUMENT,
          "negative padding");
    CHECK(strstr(gan_context_error(ctx), "gan_conv2d_forward") != NULL,
          "message names the function");
    problem_free(&p);
    gan_context_destroy(ctx);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(forward);
    TEST(input_grad);
    TEST(weight_grad);
    TEST(same_bits_for_any_threads);
    TEST(several_sets);
    TEST(public_functions);
    return test_end();
}
