/* test_vec.c - the vector kernels of every instruction set against double precision: the
 * functions over all bit patterns of a float, their edges, and each loop at lengths around the
 * vector's width. */
#include "test.h"

#define LENGTH 300

/* Runs check(kernels) for every instruction set of this machine. */
static void each_isa(void (*check)(const gani_kernels *kernels)) {
    for (int i = 0; gan_isa_name(i); i++) {
        if (gan_isa_available(gan_isa_name(i))) {
            check(gani_find_kernels(gan_isa_name(i)));
        }
    }
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Distance of floats of this size; that of the smallest normal one for all below it. */
static double ulp_of(double x) {
    int exponent;
    frexp(fabs(x) < (double)FLT_MIN ? (double)FLT_MIN : x, &exponent);
    return ldexp(1.0, exponent - 24);
}

/* --- functions ----------------------------------------------------------- */

static double exact(int kind, double x) {
    switch (kind) {
    case GANI_UNARY_EXP:
        return exp(x);
    case GANI_UNARY_LOG:
        return log(x);
    case GANI_UNARY_TANH:
        return tanh(x);
    case GANI_UNARY_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case GANI_UNARY_SOFTPLUS:
        return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case GANI_UNARY_SQRT:
        return sqrt(x);
    default:
        return 1.0 / sqrt(x);
    }
}

typedef struct function_row {
    const char *name;
    int kind;
    double bound; /* ulp, as the banner of >>kernels-vec states */
} function_row;

static const function_row functions[] = {
    {"exp", GANI_UNARY_EXP, 1.5},           {"log", GANI_UNARY_LOG, 1},
    {"tanh", GANI_UNARY_TANH, 2},           {"sigmoid", GANI_UNARY_SIGMOID, 3},
    {"softplus", GANI_UNARY_SOFTPLUS, 2.5}, {"sqrt", GANI_UNARY_SQRT, 0.5},
    {"rsqrt", GANI_UNARY_RSQRT, 1.5},
};
#define FUNCTION_COUNT (sizeof functions / sizeof functions[0])

/* Is `got` the function's value at x? *worst gets the error in ulp where there is one. */
static int value_holds(const function_row *f, float x, float got, double *worst) {
    const int tiny_log = f->kind == GANI_UNARY_LOG && fabsf(x) < FLT_MIN;
    const double want = tiny_log ? -HUGE_VAL : exact(f->kind, (double)x);
    if (want != want) {
        return got != got;
    }
    if (fabs(want) >
        (double)
            FLT_MAX) { /* overflows to infinity; FLT_MAX itself is within a few ulp of the edge */
        return (double)got == (want > 0 ? HUGE_VAL : -HUGE_VAL) ||
               (fabs(want) < 1.001 * (double)FLT_MAX && fabsf(got) > 0.999f * FLT_MAX);
    }
    if (fabs(want) < (double)FLT_MIN) { /* a denormal result may be flushed */
        return fabs((double)got - want) <= (double)FLT_MIN;
    }
    if (fabs(want) > 0.999 * (double)FLT_MAX && fabsf(got) > FLT_MAX) {
        return 1;
    }
    const double error = fabs((double)got - want) / ulp_of(want);
    *worst = error > *worst ? error : *worst;
    return error <= f->bound;
}

/* Every 4099th bit pattern, a prime, so that all exponents meet all kinds of mantissa; about a
 * million floats of either sign. */
static void functions_over_all_floats_of(const gani_kernels *kernels) {
    static float x[4096], y[4096];
    for (size_t k = 0; k < FUNCTION_COUNT; k++) {
        const function_row *f = &functions[k];
        double worst = 0.0;
        uint64_t bits = 0;
        while (bits < 0x100000000u) {
            size_t n = 0;
            for (; n < 4096 && bits < 0x100000000u; n++, bits += 4099) {
                x[n] = from_bits((uint32_t)bits);
            }
            kernels->unary(f->kind, x, 0.0f, 0.0f, y, n);
            for (size_t i = 0; i < n; i++) {
                CHECK(value_holds(f, x[i], y[i], &worst), "%s %s(%.9g) = %.9g, expected %.9g",
                      kernels->isa, f->name, (double)x[i], (double)y[i],
                      exact(f->kind, (double)x[i]));
            }
        }
        if (getenv("GAN_TEST_VERBOSE")) {
            printf("%s %s: %.3f ulp\n", kernels->isa, f->name, worst);
        }
    }
}

/* Where ordinary arguments lie, more densely. */
static void functions_near_zero_of(const gani_kernels *kernels) {
    static float x[100001], y[100001];
    for (size_t k = 0; k < FUNCTION_COUNT; k++) {
        double worst = 0.0;
        for (int i = 0; i <= 100000; i++) {
            x[i] = (float)(i - 50000) * 4e-4f; /* -20 to 20 */
        }
        kernels->unary(functions[k].kind, x, 0.0f, 0.0f, y, 100001);
        for (int i = 0; i <= 100000; i++) {
            CHECK(value_holds(&functions[k], x[i], y[i], &worst), "%s %s(%.9g) = %.9g",
                  kernels->isa, functions[k].name, (double)x[i], (double)y[i]);
        }
    }
}

static void edges_of(const gani_kernels *kernels) {
    const float inf = from_bits(0x7f800000u), nan = from_bits(0x7fc00000u);
    const float x[] = {0.0f,   -0.0f,  inf,     -inf,     nan,     1.0f,     -1.0f,  88.7f,
                       88.73f, -87.3f, -104.0f, -1000.0f, FLT_MAX, -FLT_MAX, FLT_MIN};
    float y[15];
    for (size_t k = 0; k < FUNCTION_COUNT; k++) {
        double worst = 0.0;
        kernels->unary(functions[k].kind, x, 0.0f, 0.0f, y, 15);
        for (int i = 0; i < 15; i++) {
            CHECK(value_holds(&functions[k], x[i], y[i], &worst), "%s %s(%g) = %g", kernels->isa,
                  functions[k].name, (double)x[i], (double)y[i]);
        }
    }
    kernels->unary(GANI_UNARY_LEAKY, x, 0.0f, 0.0f, y, 15); /* ReLU */
    CHECK(y[2] == inf && y[3] == 0.0f && y[4] != y[4] && y[6] == 0.0f, "%s relu", kernels->isa);
    kernels->unary(GANI_UNARY_LEAKY, x, 0.2f, 0.0f, y, 15);
    CHECK(y[2] == inf && y[3] == -inf && y[4] != y[4] && y[6] == -0.2f, "%s leaky relu",
          kernels->isa);
    kernels->unary(GANI_UNARY_SIGN, x, 0.0f, 0.0f, y, 15);
    CHECK(y[0] == 0.0f && y[2] == 1.0f && y[3] == -1.0f && y[4] != y[4], "%s sign", kernels->isa);
    kernels->unary(GANI_UNARY_CLAMP, x, -0.5f, 0.5f, y, 15);
    CHECK(y[2] == 0.5f && y[3] == -0.5f && y[4] != y[4] && y[0] == 0.0f, "%s clamp", kernels->isa);
    kernels->binary(GANI_BINARY_MAXIMUM, x, 1, x + 5, 0, 0.0f, y, 15);
    CHECK(y[2] == inf && y[3] == 1.0f && y[4] != y[4], "%s maximum, NaN first", kernels->isa);
    kernels->binary(GANI_BINARY_MINIMUM, x + 5, 0, x, 1, 0.0f, y, 15);
    CHECK(y[2] == 1.0f && y[3] == -inf && y[4] != y[4], "%s minimum, NaN second", kernels->isa);
}

static void functions_over_all_floats(void) {
    each_isa(functions_over_all_floats_of);
}

static void functions_near_zero(void) {
    each_isa(functions_near_zero_of);
}

static void edges(void) {
    each_isa(edges_of);
}

/* --- loops --------------------------------------------------------------- */

static const double eps = 1.1920929e-7;

/* Test numbers in (-1,1), of a stream each. */
static void fill(float *x, size_t n, uint64_t stream) {
    gan_random_uniform(5, stream, 0, x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = 2.0f * x[i] - 1.0f;
    }
}

/* Elements past the end hold this and must keep it. */
static const float guard = 12345.0f;

static void check_element(const gani_kernels *kernels, const char *what, size_t n, size_t i,
                          float got, double want, double bound) {
    CHECK(fabs((double)got - want) <= bound,
          "%s %s, length %lu: element %lu is %.9g, expected %.9g", kernels->isa, what,
          (unsigned long)n, (unsigned long)i, (double)got, want);
}

static double unary_value(int kind, double x, double p, double q) {
    switch (kind) {
    case GANI_UNARY_AFFINE:
        return p * x + q;
    case GANI_UNARY_SQUARE:
        return x * x;
    case GANI_UNARY_ABS:
        return fabs(x);
    case GANI_UNARY_SIGN:
        return x > 0 ? 1.0 : -1.0;
    case GANI_UNARY_CLAMP:
        return x < p ? p : x > q ? q : x;
    case GANI_UNARY_IN_RANGE:
        return x >= p && x <= q;
    case GANI_UNARY_LEAKY:
        return x > 0 ? x : p * x;
    default:
        return exact(kind, x);
    }
}

static double binary_value(int kind, double a, double b, double p) {
    const double values[] = {a + b,
                             a - b,
                             a * b,
                             a / b,
                             a > b ? a : b,
                             a < b ? a : b,
                             a > b,
                             (a > 0 ? a : 0) - a * b + log1p(exp(-fabs(a))),
                             a > 0 ? a : a * b,
                             a > 0 ? 1.0 : b,
                             b > 0 ? a : p * a,
                             a * (1 - b * b),
                             a * b * (1 - b),
                             a + p * (b - a),
                             b >= p ? a / (1 - p) : 0.0};
    return values[kind];
}

static void elementwise_of(const gani_kernels *kernels) {
    float x[LENGTH], z[LENGTH], y[LENGTH + 1];
    const double p = (double)-0.25f, q = 0.5;
    fill(x, LENGTH, 1);
    fill(z, LENGTH, 2);
    for (size_t n = 1; n <= LENGTH; n += n < 40 ? 1 : 37) {
        for (int kind = 0; kind <= GANI_UNARY_SIGMOID; kind++) {
            y[n] = guard;
            const int positive =
                kind == GANI_UNARY_LOG || kind == GANI_UNARY_SQRT || kind == GANI_UNARY_RSQRT;
            float in[LENGTH];
            for (size_t i = 0; i < n; i++) {
                in[i] = positive ? fabsf(x[i]) + 0.01f : x[i];
            }
            kernels->unary(kind, in, (float)p, (float)q, y, n);
            for (size_t i = 0; i < n; i++) {
                const double want = unary_value(kind, (double)in[i], p, q);
                check_element(kernels, "unary", n, i, y[i], want, 4 * eps * (fabs(want) + 1));
            }
            CHECK(y[n] == guard, "%s unary %d, length %lu: wrote past the end", kernels->isa, kind,
                  (unsigned long)n);
            kernels->unary(kind, in, (float)p, (float)q, in, n);
            CHECK(memcmp(in, y, n * sizeof *y) == 0, "%s unary %d, length %lu: differs in place",
                  kernels->isa, kind, (unsigned long)n);
        }
        for (int kind = 0; kind <= GANI_BINARY_DROPOUT; kind++) {
            for (size_t steps = 0; steps < 4; steps++) {
                const size_t a = steps & 1, b = steps >> 1;
                y[n] = guard;
                kernels->binary(kind, x, a, z, b, (float)p, y, n);
                for (size_t i = 0; i < n; i++) {
                    const double want = binary_value(kind, (double)x[i * a], (double)z[i * b], p);
                    check_element(kernels, "binary", n, i, y[i], want, 4 * eps * (fabs(want) + 2));
                }
                CHECK(y[n] == guard, "%s binary %d, length %lu: wrote past the end", kernels->isa,
                      kind, (unsigned long)n);
            }
        }
    }
}

static gani_norm_span span_of(const float *x, const float *g, size_t rows, size_t parts, size_t n,
                              size_t gap) {
    gani_norm_span s;
    memset(&s, 0, sizeof s);
    s.x = x;
    s.g = g;
    s.rows = rows;
    s.parts = parts;
    s.n = n;
    s.stride = parts * n + gap;
    return s;
}

static void sums_of(const gani_kernels *kernels) {
    enum { COUNT = 20011 };
    static float x[COUNT];
    const size_t lengths[] = {1,  2,  3,  4,  5,  7,   8,    9,    15,   16,   17,
                              31, 33, 63, 64, 65, 255, 4095, 4096, 4097, COUNT};
    fill(x, COUNT, 3);
    for (size_t i = 0; i < COUNT; i++) {
        x[i] += 10.0f; /* a mean far from 0 */
    }
    for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
        const size_t n = lengths[k];
        double sum = 0.0, squares = 0.0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)x[i];
        }
        const double mean = sum / (double)n, count = (double)n;
        for (size_t i = 0; i < n; i++) {
            squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        }
        /* within a block of 4096, up to 1024 terms of at most 11 are added in one accumulator;
         * blocks are added in double */
        const double chain = 4096.0 / (4.0 * kernels->width) + 4.0;
        CHECK(fabs(kernels->sum(x, n) - sum) <= chain * eps * 11.0 * count, "%s sum of %lu",
              kernels->isa, (unsigned long)n);
        const gani_norm_span span = span_of(x, NULL, 1, 1, n, 0);
        float moments[2];
        kernels->moments(&span, moments, moments + 1);
        CHECK(fabs((double)moments[0] - mean) <= chain * eps * 11.0,
              "%s mean of %lu: %.9g, expected %.9g", kernels->isa, (unsigned long)n,
              (double)moments[0], mean);
        CHECK(fabs((double)moments[1] * count - squares) <=
                  chain * eps * 11.0 * (1.0 + count / 100),
              "%s squares of %lu: %.9g, expected %.9g", kernels->isa, (unsigned long)n,
              (double)moments[1] * count, squares);
    }
}

static void columns_of(const gani_kernels *kernels) {
    enum { ROWS = 300, STRIDE = 150 }; /* two blocks of four vectors, and a rest */
    static float x[ROWS * STRIDE];
    float out[STRIDE + 1];
    fill(x, ROWS * STRIDE, 5);
    for (size_t cols = 1; cols <= STRIDE; cols++) {
        for (size_t rows = 1; rows <= ROWS; rows += 127) {
            out[cols] = guard;
            kernels->columns(x, rows, STRIDE, cols, out);
            for (size_t j = 0; j < cols; j++) {
                double want = 0.0;
                for (size_t r = 0; r < rows; r++) {
                    want += (double)x[r * STRIDE + j];
                }
                check_element(kernels, "columns", cols, j, out[j], want, 130 * eps * (double)rows);
            }
            CHECK(out[cols] == guard, "%s columns: wrote past the end", kernels->isa);
        }
    }
}

/* The slope of a leaky ReLU behind the norm, at element i of x, in part k; 1 where none is. */
static double slope_at(const gani_norm_span *s, size_t i, size_t k) {
    const double z =
        ((double)s->x[i] - (double)s->mean[k]) * (double)s->scale[k] + (double)s->shift[k];
    return s->act.kind == GAN_ACT_LEAKY_RELU && z <= 0.0 ? (double)s->act.slope : 1.0;
}

/* Statistics of part k against doubles. */
static void check_norm_part(const gani_kernels *kernels, const gani_norm_span *s, size_t k,
                            const float *const *got) {
    const double count = (double)(s->rows * s->n), chain = 130.0 + 4096.0 / kernels->width;
    double mean = 0.0, var = 0.0, sum = 0.0, dot = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t r = 0; r < s->rows; r++) {
            for (size_t i = r * s->stride + k * s->n; i < r * s->stride + (k + 1) * s->n; i++) {
                const double x = (double)s->x[i], dz = slope_at(s, i, k) * (double)s->g[i];
                mean += pass ? 0.0 : x / count;
                var += pass ? (x - mean) * (x - mean) / count : 0.0;
                sum += pass ? dz : 0.0;
                dot += pass ? dz * (x - (double)s->mean[k]) : 0.0;
            }
        }
    }
    CHECK(fabs((double)got[0][k] - mean) <= chain * eps &&
              fabs((double)got[1][k] - var) <= 4.0 * chain * eps &&
              fabs((double)got[2][k] - sum) <= chain * eps * count &&
              fabs((double)got[3][k] - dot) <= 2.0 * chain * eps * count,
          "%s statistics of part %lu of %lu, %lu x %lu", kernels->isa, (unsigned long)k,
          (unsigned long)s->parts, (unsigned long)s->rows, (unsigned long)s->n);
}

static void check_norm_map(const gani_kernels *kernels, const gani_norm_span *s, int backward) {
    for (size_t i = 0; i < s->rows * s->stride; i++) {
        const size_t at = i % s->stride, k = at / s->n;
        if (k >= s->parts) {
            CHECK(s->y[i] == guard, "%s norms: wrote past the end of a row", kernels->isa);
            continue;
        }
        const double d = (double)s->x[i] - (double)s->mean[k], slope = slope_at(s, i, k);
        const double z = d * (double)s->scale[k] + (double)s->shift[k];
        const double y = s->act.kind == GAN_ACT_TANH ? tanh(z) : slope * z;
        const double dx = slope * (double)s->scale[k] * (double)s->g[i] + (double)s->b[k] * d +
                          (double)s->c[k];
        check_element(kernels, backward ? "norm_dx" : "normalize", s->n, i, s->y[i],
                      backward ? dx : y, 8 * eps);
    }
}

static void norms_of(const gani_kernels *kernels) {
    enum { COUNT = 12000, PARTS = 150 };
    static float x[COUNT], g[COUNT], k[5][PARTS], y[COUNT], made[4][PARTS];
    static const size_t sizes[][3] = {{1, 1, 1},   {3, 40, 1},  {300, 9, 1}, {2, 150, 1},
                                      {9, 7, 4},   {64, 5, 16}, {30, 3, 17}, {5, 64, 36},
                                      {2, 1, 4099}, {1, 1, 9000}, {1, 4, 1025}};
    static const gani_act acts[] = {{GAN_ACT_NONE, 0.0f},
                                    {GAN_ACT_LEAKY_RELU, 0.2f},
                                    {GAN_ACT_LEAKY_RELU, 0.0f},
                                    {GAN_ACT_TANH, 0.0f}};
    const float *const got[4] = {made[0], made[1], made[2], made[3]};
    fill(x, COUNT, 8);
    fill(g, COUNT, 9);
    for (int i = 0; i < 5; i++) {
        fill(k[i], PARTS, 10 + (uint64_t)i);
    }
    for (size_t l = 0; l < sizeof sizes / sizeof sizes[0]; l++) {
        for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
            gani_norm_span s = span_of(x, g, sizes[l][0], sizes[l][1], sizes[l][2], l % 3);
            s.y = y;
            s.mean = k[0];
            s.scale = k[1];
            s.shift = k[2];
            s.b = k[3];
            s.c = k[4];
            s.act = acts[i];
            kernels->moments(&s, made[0], made[1]);
            kernels->norm_sums(&s, made[2], made[3]);
            for (size_t part = 0; part < s.parts; part++) {
                check_norm_part(kernels, &s, part, got);
            }
            for (int backward = 0; backward < 2; backward++) {
                for (size_t j = 0; j < COUNT; j++) {
                    y[j] = guard;
                }
                if (backward) {
                    kernels->norm_dx(&s);
                } else {
                    kernels->normalize(&s);
                }
                check_norm_map(kernels, &s, backward);
            }
        }
    }
}

static void softmax_of(const gani_kernels *kernels) {
    float x[LENGTH], y[LENGTH + 1];
    fill(x, LENGTH, 20);
    for (size_t i = 0; i < LENGTH; i++) {
        x[i] = 100.0f * x[i] - 300.0f; /* exp alone would underflow */
    }
    for (size_t n = 1; n <= LENGTH; n += n < 40 ? 1 : 37) {
        double top = -HUGE_VAL, sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            top = (double)x[i] > top ? (double)x[i] : top;
        }
        for (size_t i = 0; i < n; i++) {
            sum += exp((double)x[i] - top);
        }
        for (int logarithm = 0; logarithm < 2; logarithm++) {
            y[n] = guard;
            kernels->softmax(x, y, n, logarithm);
            for (size_t i = 0; i < n; i++) {
                const double d = (double)x[i] - top;
                const double want = logarithm ? d - log(sum) : exp(d) / sum;
                check_element(kernels, "softmax", n, i, y[i], want,
                              eps * (logarithm ? 200.0 : 8.0));
            }
            CHECK(y[n] == guard, "%s softmax: wrote past the end", kernels->isa);
        }
    }
}

/* k as gani_optimise wants it: decay, lr, rule's own, eps, limit. */
static void optimisers_of(const gani_kernels *kernels) {
    const float k[9] = {0.01f, 0.1f, 0.9f, 0.1f, 0.99f, 0.01f, 1.5f, 1e-3f, 0.75f};
    float x[LENGTH + 1], g[LENGTH], m[LENGTH + 1], v[LENGTH + 1];
    for (size_t n = 1; n <= LENGTH; n += n < 40 ? 1 : 37) {
        for (int kind = GANI_OPTIMISE_SGD; kind <= GANI_OPTIMISE_ADAM; kind++) {
            double want[3][LENGTH];
            fill(x, n, 21);
            fill(g, n, 22);
            fill(m, n, 23);
            fill(v, n, 24);
            x[n] = m[n] = v[n] = guard;
            for (size_t i = 0; i < n; i++) {
                m[i] = kind == GANI_OPTIMISE_RMSPROP ? fabsf(m[i]) : m[i];
                v[i] = fabsf(v[i]);
                const double d = (double)g[i] + (double)k[0] * (double)x[i];
                double a = (double)m[i], b = (double)v[i], step = d;
                if (kind == GANI_OPTIMISE_MOMENTUM) {
                    a = (double)k[2] * a + d;
                    step = (double)k[3] * a + (double)k[4] * d;
                } else if (kind == GANI_OPTIMISE_RMSPROP) {
                    a = (double)k[2] * a + (double)k[3] * d * d;
                    step = d / (sqrt(a) + (double)k[7]);
                } else if (kind == GANI_OPTIMISE_ADAM) {
                    a = (double)k[2] * a + (double)k[3] * d;
                    b = (double)k[4] * b + (double)k[5] * d * d;
                    step = a / (sqrt(b) * (double)k[6] + (double)k[7]);
                }
                want[0][i] = (double)x[i] - (double)k[1] * step;
                want[0][i] = fmax(-(double)k[8], fmin((double)k[8], want[0][i]));
                want[1][i] = a;
                want[2][i] = b;
            }
            kernels->optimise(kind, x, g, m, v, k, n);
            for (size_t i = 0; i < n; i++) {
                check_element(kernels, "optimise, parameter", n, i, x[i], want[0][i],
                              16 * eps * (1 + fabs(want[0][i])));
                check_element(kernels, "optimise, first state", n, i, m[i], want[1][i], 8 * eps);
                check_element(kernels, "optimise, second state", n, i, v[i], want[2][i], 8 * eps);
            }
            CHECK(x[n] == guard && m[n] == guard && v[n] == guard,
                  "%s optimise: wrote past the end", kernels->isa);
        }
    }
}

static void elementwise(void) {
    each_isa(elementwise_of);
}

static void sums(void) {
    each_isa(sums_of);
}

/* The same numbers as gan_random_uniform, from any element on, also where the lower half of the
 * number of a block overflows. */
static void random_of(const gani_kernels *kernels) {
    static const uint64_t firsts[] = {0, 5, 4294967290u, ((uint64_t)1 << 34) - 100,
                                      ((uint64_t)1 << 40) + 3};
    gan_context *ctx = context_of(kernels->isa, 0, NULL);
    for (size_t k = 0; ctx && k < sizeof firsts / sizeof firsts[0]; k++) {
        for (size_t n = 0; n < LENGTH; n += n < 80 ? 1 : 73) {
            float x[LENGTH + 1], y[LENGTH + 1];
            const uint64_t seed = 0x123456789abcdefu + k, stream = ((uint64_t)n << 32) + 7;
            x[n] = y[n] = 9.0f;
            gan_random_uniform(seed, stream, firsts[k] + n % 4, x, n);
            gani_random_uniform(ctx, seed, stream, firsts[k] + n % 4, y, n);
            CHECK(memcmp(x, y, (n + 1) * sizeof *x) == 0, "%s: %lu numbers from element %lu",
                  kernels->isa, (unsigned long)n, (unsigned long)(firsts[k] + n % 4));
        }
    }
    gan_context_destroy(ctx);
}

static void columns(void) {
    each_isa(columns_of);
}

static void norms(void) {
    each_isa(norms_of);
}

static void softmax(void) {
    each_isa(softmax_of);
}

static void random_numbers(void) {
    each_isa(random_of);
}

static void optimisers(void) {
    each_isa(optimisers_of);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(functions_over_all_floats);
    TEST(functions_near_zero);
    TEST(edges);
    TEST(elementwise);
    TEST(sums);
    TEST(columns);
    TEST(norms);
    TEST(softmax);
    TEST(random_numbers);
    TEST(optimisers);
    return test_end();
}
