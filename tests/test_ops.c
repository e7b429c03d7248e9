/* test_ops.c - every op of the table: values against a naive double-precision formula, gradients
 * and second derivatives against differences of that formula, for every instruction set; the same
 * bits for any number of threads; random ops, effects, errors.
 *
 * A case is a row: name, input shapes, numbers, a function that builds the op and one that computes
 * it. With r and s fixed random tensors, the gradient tested is that of L = sum(r*y) in each input
 * x, and the second derivative that of the sum of s*dL/dx over all inputs. Inputs lie on a grid,
 * each with an offset of its own, so that no two values are equal and none is near 0 or another
 * kink.
 */
#include "test.h"

#define MAX_INPUTS 5
#define MAX_VALUES 8192

/* A tensor in double precision. */
typedef struct array {
    gan_shape shape;
    size_t count;
    double v[MAX_VALUES];
} array;

typedef struct op_case op_case;
typedef gan_tensor (*build_function)(gan_graph *g, const op_case *c, const gan_tensor *in);
typedef void (*value_function)(const op_case *c, const array *in, array *y);

struct op_case {
    const char *name;
    build_function build;
    value_function value;
    int kind; /* which op, where functions serve several */
    int p[8];
    double f[2];
    const char *shapes[MAX_INPUTS]; /* "2,3,4"; "" is a scalar */
    double low, high;               /* of the first input; both 0: -1 and 1 */
    int fixed;                      /* bits of inputs without gradient */
};

static const double eps = 1.1920929e-7;

/* --- arrays -------------------------------------------------------------- */

static gan_shape parse_shape(const char *text) {
    gan_shape shape = gan_shape0();
    while (*text) {
        shape.dim[shape.rank++] = (int)strtol(text, (char **)&text, 10);
        text += *text == ',';
    }
    return shape;
}

static void set_shape(array *a, gan_shape shape) {
    a->shape = shape;
    a->count = gan_shape_count(shape);
    GAN_ASSERT(a->count >= 1 && a->count <= MAX_VALUES);
}

/* Index along every axis of element i, aligned at the right: index[GAN_MAX_RANK-1] is the last
 * axis. */
static void unravel(gan_shape shape, size_t i, int *index) {
    memset(index, 0, GAN_MAX_RANK * sizeof *index);
    for (int k = 1; k <= shape.rank; k++) {
        index[GAN_MAX_RANK - k] = (int)(i % (size_t)shape.dim[shape.rank - k]);
        i /= (size_t)shape.dim[shape.rank - k];
    }
}

/* Element of a at an index of a larger shape, broadcasting. */
static size_t ravel(gan_shape shape, const int *index) {
    size_t at = 0;
    for (int k = 0; k < shape.rank; k++) {
        int i = index[GAN_MAX_RANK - shape.rank + k];
        at = at * (size_t)shape.dim[k] + (size_t)(shape.dim[k] == 1 ? 0 : i);
    }
    return at;
}

static size_t at4(gan_shape s, int a, int b, int c, int d) {
    return (((size_t)a * (size_t)s.dim[1] + (size_t)b) * (size_t)s.dim[2] + (size_t)c) *
               (size_t)s.dim[3] +
           (size_t)d;
}

/* Shuffled grid from low to high; the offset keeps different inputs, and 0, apart. */
static void fill_grid(array *a, double low, double high, int input) {
    uint32_t order[MAX_VALUES];
    gan_random_permutation(11, (uint64_t)input + 1, order, (uint32_t)a->count);
    const double step = (high - low) / (double)a->count;
    for (size_t i = 0; i < a->count; i++) {
        const double x = low + step * ((double)order[i] + 0.37 + 0.11 * input);
        a->v[i] = (double)(float)x; /* both sides see the same number */
    }
}

/* --- elementwise --------------------------------------------------------- */

enum { ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM, GREATER, BCE };

static gan_tensor build_binary(gan_graph *g, const op_case *c, const gan_tensor *in) {
    gan_tensor (*const make[])(gan_graph *, gan_tensor, gan_tensor) = {
        gan_add, gan_sub, gan_mul, gan_div, gan_maximum, gan_minimum, gan_greater, gan_bce_logits};
    return make[c->kind](g, in[0], in[1]);
}

static void value_binary(const op_case *c, const array *in, array *y) {
    gan_shape shape = in[0].shape.rank >= in[1].shape.rank ? in[0].shape : in[1].shape;
    for (int k = 1; k <= shape.rank; k++) {
        for (int i = 0; i < 2; i++) {
            int extent = k <= in[i].shape.rank ? in[i].shape.dim[in[i].shape.rank - k] : 1;
            int *d = &shape.dim[shape.rank - k];
            *d = extent > *d ? extent : *d;
        }
    }
    set_shape(y, shape);
    for (size_t i = 0; i < y->count; i++) {
        int index[GAN_MAX_RANK];
        unravel(shape, i, index);
        const double a = in[0].v[ravel(in[0].shape, index)], b = in[1].v[ravel(in[1].shape, index)];
        const double values[] = {a + b,
                                 a - b,
                                 a * b,
                                 a / b,
                                 a > b ? a : b,
                                 a < b ? a : b,
                                 a > b ? 1.0 : 0.0,
                                 (a > 0 ? a : 0) - a * b + log1p(exp(-fabs(a)))};
        y->v[i] = values[c->kind];
    }
}

static gan_tensor build_prelu(gan_graph *g, const op_case *c, const gan_tensor *in) {
    (void)c;
    return gan_prelu(g, in[0], in[1]);
}

static void value_prelu(const op_case *c, const array *in, array *y) {
    (void)c;
    set_shape(y, in[0].shape);
    const size_t channels = (size_t)y->shape.dim[1];
    const size_t inner = y->count / channels / (size_t)y->shape.dim[0];
    for (size_t i = 0; i < y->count; i++) {
        const double s = in[1].v[in[1].count > 1 ? i / inner % channels : 0];
        y->v[i] = in[0].v[i] > 0 ? in[0].v[i] : s * in[0].v[i];
    }
}

enum {
    AFFINE,
    SQUARE,
    SQRT,
    RSQRT,
    EXP,
    LOG,
    ABS,
    SIGN,
    SOFTPLUS,
    CLAMP,
    LEAKY,
    TANH,
    SIGMOID,
    DETACH
};

static gan_tensor build_unary(gan_graph *g, const op_case *c, const gan_tensor *in) {
    const float p = (float)c->f[0], q = (float)c->f[1];
    switch (c->kind) {
    case AFFINE:
        return gan_affine(g, in[0], p, q);
    case SQUARE:
        return gan_square(g, in[0]);
    case SQRT:
        return gan_sqrt(g, in[0]);
    case RSQRT:
        return gan_rsqrt(g, in[0]);
    case EXP:
        return gan_exp(g, in[0]);
    case LOG:
        return gan_log(g, in[0]);
    case ABS:
        return gan_abs(g, in[0]);
    case SIGN:
        return gan_sign(g, in[0]);
    case SOFTPLUS:
        return gan_softplus(g, in[0]);
    case CLAMP:
        return gan_clamp(g, in[0], p, q);
    case DETACH:
        return gan_mul(g, in[0], gan_detach(g, in[1]));
    default:
        return gan_activate(g, in[0], (gan_activation)(GAN_ACT_LEAKY_RELU + c->kind - LEAKY), p);
    }
}

static void value_unary(const op_case *c, const array *in, array *y) {
    const double p = (double)(float)c->f[0], q = (double)(float)c->f[1];
    set_shape(y, in[0].shape);
    for (size_t i = 0; i < y->count; i++) {
        const double x = in[0].v[i];
        const double values[] = {p * x + q,
                                 x * x,
                                 sqrt(fabs(x)),
                                 1.0 / sqrt(fabs(x)),
                                 exp(x),
                                 log(fabs(x)),
                                 fabs(x),
                                 x > 0 ? 1.0 : -1.0,
                                 log1p(exp(x)),
                                 x < p   ? p
                                 : x > q ? q
                                         : x,
                                 x > 0 ? x : p * x,
                                 tanh(x),
                                 1.0 / (1.0 + exp(-x)),
                                 c->kind == DETACH ? x * in[1].v[i] : 0.0};
        y->v[i] = values[c->kind];
    }
}

/* --- reductions and moving elements -------------------------------------- */

enum { SUM, MEAN, MAX };

static gan_tensor build_reduce(gan_graph *g, const op_case *c, const gan_tensor *in) {
    gan_tensor (*const make[])(gan_graph *, gan_tensor, unsigned) = {gan_sum, gan_mean,
                                                                     gan_max_over};
    return make[c->kind](g, in[0], (unsigned)c->p[0]);
}

static void value_reduce(const op_case *c, const array *in, array *y) {
    const unsigned axes = (unsigned)c->p[0];
    gan_shape shape = in[0].shape;
    for (int k = 0; k < shape.rank; k++) {
        shape.dim[k] = axes >> k & 1u ? 1 : shape.dim[k];
    }
    set_shape(y, axes == GAN_ALL_AXES ? gan_shape0() : shape);
    for (size_t j = 0; j < y->count; j++) {
        y->v[j] = c->kind == MAX ? -HUGE_VAL : 0.0;
    }
    for (size_t i = 0; i < in[0].count; i++) {
        int index[GAN_MAX_RANK];
        unravel(in[0].shape, i, index);
        double *to = &y->v[ravel(y->shape, index)];
        const double x = in[0].v[i];
        *to = c->kind == MAX ? (x > *to ? x : *to) : *to + x;
    }
    for (size_t j = 0; j < y->count && c->kind == MEAN; j++) {
        y->v[j] *= (double)y->count / (double)in[0].count;
    }
}

enum { BROADCAST, RESHAPE, PERMUTE, SLICE, PAD, PAD_REFLECT, UPSAMPLE };

/* p: the shape for broadcast (rank first) and reshape, axes, or axis and two numbers */
static gan_shape shape_of_p(const op_case *c) {
    gan_shape shape = gan_shape0();
    shape.rank = c->p[0];
    memcpy(shape.dim, c->p + 1, sizeof shape.dim);
    return shape;
}

static gan_tensor build_move(gan_graph *g, const op_case *c, const gan_tensor *in) {
    switch (c->kind) {
    case BROADCAST:
        return gan_broadcast(g, in[0], shape_of_p(c));
    case RESHAPE:
        return gan_reshape(g, in[0], shape_of_p(c));
    case PERMUTE:
        return gan_permute(g, in[0], c->p);
    case SLICE:
        return gan_slice(g, in[0], c->p[0], c->p[1], c->p[2]);
    case PAD:
        return gan_pad(g, in[0], c->p[0], c->p[1], c->p[2]);
    case PAD_REFLECT:
        return gan_pad_reflect(g, in[0], c->p[0], c->p[1]);
    default:
        return gan_upsample(g, in[0], c->p[0]);
    }
}

static int mirror(int i, int n) {
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

static void value_move(const op_case *c, const array *in, array *y) {
    gan_shape shape = in[0].shape, from = in[0].shape;
    const int r = from.rank, *p = c->p;
    if (c->kind == BROADCAST || c->kind == RESHAPE) {
        shape = shape_of_p(c);
    }
    for (int k = 0; k < r && c->kind == PERMUTE; k++) {
        shape.dim[k] = from.dim[p[k]];
    }
    if (c->kind == SLICE) {
        shape.dim[p[0]] = p[2];
    } else if (c->kind == PAD) {
        shape.dim[p[0]] += p[1] + p[2];
    }
    for (int k = 0; k < 2 && (c->kind == PAD_REFLECT || c->kind == UPSAMPLE); k++) {
        shape.dim[r - 2 + k] =
            c->kind == UPSAMPLE ? from.dim[r - 2 + k] * p[0] : from.dim[r - 2 + k] + 2 * p[k];
    }
    set_shape(y, shape);
    for (size_t i = 0; i < y->count; i++) {
        int index[GAN_MAX_RANK], source[GAN_MAX_RANK], inside = 1;
        unravel(shape, i, index);
        memcpy(source, index, sizeof index);
        int *to = source + GAN_MAX_RANK - r, *at = index + GAN_MAX_RANK - r;
        for (int k = 0; k < r; k++) {
            if (c->kind == PERMUTE) {
                to[p[k]] = at[k];
            } else if ((c->kind == SLICE || c->kind == PAD) && k == p[0]) {
                to[k] += c->kind == SLICE ? p[1] : -p[1];
                inside = to[k] >= 0 && to[k] < from.dim[k];
            } else if (c->kind == PAD_REFLECT && k >= r - 2) {
                to[k] = mirror(at[k] - p[k - r + 2], from.dim[k]);
            } else if (c->kind == UPSAMPLE && k >= r - 2) {
                to[k] /= p[0];
            }
        }
        y->v[i] = c->kind == RESHAPE ? in[0].v[i] : inside ? in[0].v[ravel(from, source)] : 0.0;
    }
}

static gan_tensor build_concat(gan_graph *g, const op_case *c, const gan_tensor *in) {
    return gan_concat(g, in, c->p[1], c->p[0]);
}

static void value_concat(const op_case *c, const array *in, array *y) {
    gan_shape shape = in[0].shape;
    const int axis = c->p[0], parts = c->p[1];
    for (int k = 1; k < parts; k++) {
        shape.dim[axis] += in[k].shape.dim[axis];
    }
    set_shape(y, shape);
    for (size_t i = 0; i < y->count; i++) {
        int index[GAN_MAX_RANK], k = 0;
        unravel(shape, i, index);
        int *at = &index[GAN_MAX_RANK - shape.rank + axis];
        while (*at >= in[k].shape.dim[axis]) {
            *at -= in[k++].shape.dim[axis];
        }
        y->v[i] = in[k].v[ravel(in[k].shape, index)];
    }
}

/* --- products ------------------------------------------------------------ */

/* p: transpose a, transpose b */
static gan_tensor build_matmul(gan_graph *g, const op_case *c, const gan_tensor *in) {
    return gan_matmul(g, in[0], in[1], c->p[0], c->p[1]);
}

static void value_matmul(const op_case *c, const array *in, array *y) {
    const gan_shape a = in[0].shape, b = in[1].shape;
    gan_shape shape = a;
    const int r = a.rank, q = b.rank, ta = c->p[0], tb = c->p[1];
    shape.dim[r - 2] = a.dim[ta ? r - 1 : r - 2];
    shape.dim[r - 1] = b.dim[tb ? q - 2 : q - 1];
    set_shape(y, shape);
    for (size_t i = 0; i < y->count; i++) {
        int index[GAN_MAX_RANK], x[GAN_MAX_RANK], z[GAN_MAX_RANK];
        unravel(shape, i, index);
        memcpy(x, index, sizeof x);
        memcpy(z, index, sizeof z);
        const int m = index[GAN_MAX_RANK - 2], n = index[GAN_MAX_RANK - 1];
        double sum = 0.0;
        for (int k = 0; k < a.dim[ta ? r - 2 : r - 1]; k++) {
            x[GAN_MAX_RANK - 2] = ta ? k : m;
            x[GAN_MAX_RANK - 1] = ta ? m : k;
            z[GAN_MAX_RANK - 2] = tb ? n : k;
            z[GAN_MAX_RANK - 1] = tb ? k : n;
            sum += in[0].v[ravel(a, x)] * in[1].v[ravel(b, z)];
        }
        y->v[i] = sum;
    }
}

static gan_tensor build_linear(gan_graph *g, const op_case *c, const gan_tensor *in) {
    const gan_tensor none = {0};
    return gan_linear(g, in[0], in[1], c->shapes[2] ? in[2] : none);
}

static void value_linear(const op_case *c, const array *in, array *y) {
    const size_t n = (size_t)in[0].shape.dim[0], k = (size_t)in[0].shape.dim[1],
                 o = (size_t)in[1].shape.dim[0];
    set_shape(y, gan_shape2((int)n, (int)o));
    for (size_t i = 0; i < n * o; i++) {
        y->v[i] = c->shapes[2] ? in[2].v[i % o] : 0.0;
        for (size_t j = 0; j < k; j++) {
            y->v[i] += in[0].v[i / o * k + j] * in[1].v[i % o * k + j];
        }
    }
}

enum { LSTM_STATE, LSTM_GATE, LSTM_GRAD };

/* Inputs: gates, then for LSTM_STATE c, for LSTM_GATE x, for LSTM_GRAD those of t, dh, c, dc whose
 * bit is set in p[0]; p[0] of LSTM_GATE: which gate. */
static gan_tensor build_lstm(gan_graph *g, const op_case *c, const gan_tensor *in) {
    const gan_tensor none = {0};
    gan_tensor part[4];
    if (c->kind == LSTM_STATE) {
        return gani_lstm_state(g, in[0], c->shapes[1] ? in[1] : none);
    }
    if (c->kind == LSTM_GATE) {
        return gani_lstm_gate(g, in[0], c->p[0], in[1]);
    }
    for (int k = 0, next = 1; k < 4; k++) {
        part[k] = c->p[0] >> k & 1 ? in[next++] : none;
    }
    return gani_lstm_grad(g, in[0], part[0], part[1], part[2], part[3]);
}

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static void value_lstm(const op_case *c, const array *in, array *y) {
    const size_t units = (size_t)in[0].shape.dim[1] / 4, n = (size_t)in[0].shape.dim[0];
    set_shape(y, gan_shape2((int)n, (int)units * (c->kind == LSTM_GRAD ? 4 : 1)));
    for (size_t j = 0; j < n * units; j++) {
        const double *gates = in[0].v + j / units * 4 * units + j % units;
        const double i = sigmoid(gates[0]), f = sigmoid(gates[units]), g = tanh(gates[2 * units]),
                     o = sigmoid(gates[3 * units]);
        double part[4] = {0.0};
        for (int k = 0, next = 1; k < 4; k++) {
            part[k] = c->kind == LSTM_GRAD && (c->p[0] >> k & 1) ? in[next++].v[j] : 0.0;
        }
        if (c->kind == LSTM_STATE) {
            y->v[j] = i * g + (c->shapes[1] ? f * in[1].v[j] : 0.0);
        } else if (c->kind == LSTM_GATE) {
            y->v[j] = sigmoid(gates[(size_t)c->p[0] * units]) * in[1].v[j];
        } else {
            double *d = y->v + j / units * 4 * units + j % units;
            d[0] = part[3] * g * i * (1.0 - i);
            d[units] = part[3] * part[2] * f * (1.0 - f);
            d[2 * units] = part[3] * i * (1.0 - g * g);
            d[3 * units] = part[1] * part[0] * o * (1.0 - o);
        }
    }
}

/* p: stride, padding, dilation, output padding, groups, reflect, transposed */
static gan_conv_desc conv_desc(const op_case *c) {
    gan_conv_desc d;
    memset(&d, 0, sizeof d);
    d.stride_h = d.stride_w = c->p[0];
    d.pad_h = d.pad_w = c->p[1];
    d.dilation_h = d.dilation_w = c->p[2];
    d.out_pad_h = d.out_pad_w = c->p[3];
    d.groups = c->p[4];
    d.reflect = c->p[5];
    return d;
}

static gan_tensor build_conv(gan_graph *g, const op_case *c, const gan_tensor *in) {
    const gan_tensor none = {0}, bias = c->shapes[2] ? in[2] : none;
    const gan_conv_desc d = conv_desc(c);
    return c->p[6] ? gan_conv2d_transpose(g, in[0], in[1], bias, &d)
                   : gan_conv2d(g, in[0], in[1], bias, &d);
}

/* Every pair of large-image pixel and small-image pixel that a tap joins; transposed, values
 * flow the other way. */
static void value_conv(const op_case *c, const array *in, array *y) {
    const int s = c->p[0], pad = c->p[1], d = c->p[2], groups = c->p[4], transposed = c->p[6];
    const gan_shape x = in[0].shape, w = in[1].shape;
    gan_shape out = gan_shape4(x.dim[0], transposed ? w.dim[1] * groups : w.dim[0], 0, 0);
    for (int k = 2; k < 4; k++) {
        out.dim[k] = transposed ? (x.dim[k] - 1) * s - 2 * pad + d * (w.dim[k] - 1) + 1 + c->p[3]
                                : (x.dim[k] + 2 * pad - d * (w.dim[k] - 1) - 1) / s + 1;
    }
    set_shape(y, out);
    for (size_t i = 0; i < y->count; i++) {
        y->v[i] = c->shapes[2] ? in[2].v[i / (size_t)(out.dim[2] * out.dim[3]) % (size_t)out.dim[1]]
                               : 0.0;
    }
    const gan_shape large = transposed ? out : x, small = transposed ? x : out;
    const int per_large = w.dim[1], per_small = w.dim[0] / groups;
    for (int n = 0; n < x.dim[0]; n++) {
        for (int o = 0; o < w.dim[0]; o++) {
            for (int q = 0; q < per_large; q++) {
                const int channel = o / per_small * per_large + q;
                for (int i = 0; i < small.dim[2] * small.dim[3] * w.dim[2] * w.dim[3]; i++) {
                    const int v = i % w.dim[3], u = i / w.dim[3] % w.dim[2];
                    const int col = i / (w.dim[3] * w.dim[2]) % small.dim[3];
                    const int row = i / (w.dim[3] * w.dim[2]) / small.dim[3];
                    int r = row * s + u * d - pad, t = col * s + v * d - pad;
                    if (c->p[5]) {
                        r = mirror(r, large.dim[2]);
                        t = mirror(t, large.dim[3]);
                    }
                    if (r < 0 || t < 0 || r >= large.dim[2] || t >= large.dim[3]) {
                        continue;
                    }
                    const size_t far = at4(large, n, channel, r, t),
                                 near = at4(small, n, o, row, col);
                    const double weight = in[1].v[at4(w, o, q, u, v)];
                    if (transposed) {
                        y->v[far] += weight * in[0].v[near];
                    } else {
                        y->v[near] += weight * in[0].v[far];
                    }
                }
            }
        }
    }
}

/* p: kernel, stride, padding, count_pad or -1 for the maximum */
static gan_tensor build_pool(gan_graph *g, const op_case *c, const gan_tensor *in) {
    return c->p[3] < 0 ? gan_max_pool(g, in[0], c->p[0], c->p[1], c->p[2])
                       : gan_avg_pool(g, in[0], c->p[0], c->p[1], c->p[2], c->p[3]);
}

static void value_pool(const op_case *c, const array *in, array *y) {
    const gan_shape x = in[0].shape;
    const int k = c->p[0], s = c->p[1], pad = c->p[2];
    set_shape(y, gan_shape4(x.dim[0], x.dim[1], (x.dim[2] + 2 * pad - k) / s + 1,
                            (x.dim[3] + 2 * pad - k) / s + 1));
    for (size_t at = 0; at < y->count; at++) {
        int index[GAN_MAX_RANK], count = 0;
        double sum = 0.0, best = -HUGE_VAL;
        unravel(y->shape, at, index);
        for (int i = 0; i < k * k; i++) {
            const int r = index[3] * s - pad + i / k, t = index[4] * s - pad + i % k;
            if (r >= 0 && t >= 0 && r < x.dim[2] && t < x.dim[3]) {
                const double v = in[0].v[at4(x, index[1], index[2], r, t)];
                sum += v;
                best = v > best ? v : best;
                count++;
            }
        }
        y->v[at] = c->p[3] < 0 ? best : sum / (c->p[3] ? k * k : count);
    }
}

/* --- norms, classes ------------------------------------------------------ */

static int norm_group(gan_shape x, int kind, int n, int c) {
    return kind == GAN_NORM_BATCH ? c : kind == GAN_NORM_LAYER ? n : n * x.dim[1] + c;
}

static void value_moments(const op_case *c, const array *in, array *y) {
    const gan_shape x = in[0].shape;
    const size_t inner = in[0].count / (size_t)(x.dim[0] * x.dim[1]);
    int groups = norm_group(x, c->kind, x.dim[0] - 1, x.dim[1] - 1) + 1;
    set_shape(y, gan_shape2(2, groups));
    memset(y->v, 0, 2 * (size_t)groups * sizeof y->v[0]);
    const double share = (double)groups / (double)in[0].count;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < in[0].count; i++) {
            const int plane = (int)(i / inner),
                      g = norm_group(x, c->kind, plane / x.dim[1], plane % x.dim[1]);
            const double d = in[0].v[i] - y->v[g];
            y->v[pass * groups + g] += share * (pass ? d * d : in[0].v[i]);
        }
    }
}

static gan_tensor build_moments(gan_graph *g, const op_case *c, const gan_tensor *in) {
    return gan_moments(g, in[0], (gan_norm_kind)c->kind);
}

/* p: 1 moments of x, 0 from input 1; 1 with scale; 1 with shift. Inputs in the order x, moments,
 * scale, shift. */
static gan_tensor build_normalize(gan_graph *g, const op_case *c, const gan_tensor *in) {
    gan_tensor scale = {0}, shift = {0};
    int next = c->p[0] ? 1 : 2;
    gan_tensor moments = c->p[0] ? gan_moments(g, in[0], (gan_norm_kind)c->kind) : in[1];
    if (c->p[1]) {
        scale = in[next++];
    }
    if (c->p[2]) {
        shift = in[next];
    }
    return gan_normalize(g, in[0], moments, scale, shift, (gan_norm_kind)c->kind, (float)c->f[0]);
}

static void value_normalize(const op_case *c, const array *in, array *y) {
    static array own;
    const gan_shape x = in[0].shape;
    const array *moments = c->p[0] ? &own : &in[1];
    const array *scale = c->p[1] ? &in[c->p[0] ? 1 : 2] : NULL;
    const array *shift = c->p[2] ? &in[(c->p[0] ? 1 : 2) + c->p[1]] : NULL;
    const size_t inner = in[0].count / (size_t)(x.dim[0] * x.dim[1]);
    if (c->p[0]) {
        value_moments(c, in, &own);
    }
    set_shape(y, x);
    for (size_t i = 0; i < y->count; i++) {
        const int plane = (int)(i / inner), channel = plane % x.dim[1];
        const size_t g = (size_t)norm_group(x, c->kind, plane / x.dim[1], channel);
        const double var = moments->v[moments->count / 2 + g];
        y->v[i] = (in[0].v[i] - moments->v[g]) / sqrt(var + (double)(float)c->f[0]);
        y->v[i] = y->v[i] * (scale ? scale->v[channel] : 1.0) + (shift ? shift->v[channel] : 0.0);
    }
}

static gan_tensor build_softmax(gan_graph *g, const op_case *c, const gan_tensor *in) {
    return c->kind ? gan_log_softmax(g, in[0]) : gan_softmax(g, in[0]);
}

static void value_softmax(const op_case *c, const array *in, array *y) {
    set_shape(y, in[0].shape);
    const size_t length = (size_t)y->shape.dim[y->shape.rank - 1];
    for (size_t row = 0; row < y->count; row += length) {
        double sum = 0.0;
        for (size_t i = 0; i < length; i++) {
            sum += exp(in[0].v[row + i]);
        }
        for (size_t i = 0; i < length; i++) {
            y->v[row + i] = c->kind ? in[0].v[row + i] - log(sum) : exp(in[0].v[row + i]) / sum;
        }
    }
}

/* p: rows of the result of scatter, 0 for gather */
static gan_tensor build_rows(gan_graph *g, const op_case *c, const gan_tensor *in) {
    gan_tensor idx =
        gan_reshape(g, gan_slice(g, gan_iota(g, 9), 0, 1, 3), gan_shape1(3)); /* 1, 2, 3 */
    idx = gan_clamp(g, idx, 0.0f, 2.0f);                                      /* 1, 2, 2 */
    return c->p[0] ? gan_scatter_rows(g, in[0], idx, c->p[0]) : gan_gather_rows(g, in[0], idx);
}

static void value_rows(const op_case *c, const array *in, array *y) {
    static const size_t idx[3] = {1, 2, 2};
    const size_t dim = (size_t)in[0].shape.dim[1];
    set_shape(y, gan_shape2(c->p[0] ? c->p[0] : 3, (int)dim));
    memset(y->v, 0, y->count * sizeof y->v[0]);
    for (size_t i = 0; i < 3 * dim; i++) {
        const size_t row = i / dim, j = i % dim;
        y->v[c->p[0] ? idx[row] * dim + j : i] += in[0].v[c->p[0] ? i : idx[row] * dim + j];
    }
}

static gan_tensor build_one_hot(gan_graph *g, const op_case *c, const gan_tensor *in) {
    (void)in;
    return gan_one_hot(g, gan_iota(g, 3), c->p[0]);
}

static void value_one_hot(const op_case *c, const array *in, array *y) {
    (void)in;
    set_shape(y, gan_shape2(3, c->p[0]));
    for (size_t i = 0; i < y->count; i++) {
        y->v[i] = i / (size_t)c->p[0] == i % (size_t)c->p[0] ? 1.0 : 0.0;
    }
}

/* --- the cases ----------------------------------------------------------- */

#define B(op, a, b) \
    { #op, build_binary, value_binary, op, {0 }, {0 }, {a, b }, 0, 0, 0 }
#define U(op, p, q, shape, low, high) \
    { #op, build_unary, value_unary, op, {0 }, {p, q }, {shape }, low, high, 0 }
#define R(op, axes, shape) \
    { #op, build_reduce, value_reduce, op, {(int)(axes) }, {0 }, {shape }, 0, 0, 0 }
#define M(op, shape, ...) \
    { #op, build_move, value_move, op, {__VA_ARGS__ }, {0 }, {shape }, 0, 0, 0 }
#define MATMUL(a, b, ta, tb) \
    { "matmul", build_matmul, value_matmul, 0, {ta, tb}, {0}, {a, b}, 0, 0, 0 }
#define LSTM(kind, p, ...) \
    { #kind, build_lstm, value_lstm, kind, {p}, {0}, {__VA_ARGS__}, 0, 0, 0 }
/* stride, padding, dilation, output padding, groups, reflect, transposed */
#define CONV(x, w, bias, ...) \
    { "conv", build_conv, value_conv, 0, {__VA_ARGS__}, {0}, {x, w, bias}, 0, 0, 0 }
#define POOL(shape, ...) \
    { "pool", build_pool, value_pool, 0, {__VA_ARGS__}, {0}, {shape}, 0, 0, 0 }
#define MOMENTS(k, x) \
    { "moments", build_moments, value_moments, GAN_NORM_##k, {0}, {0}, {x}, 0, 0, 0 }
#define NORM(k, own, ...)                                                                          \
    {                                                                                              \
        "normalize", build_normalize, value_normalize, GAN_NORM_##k, {own}, {1e-3}, {__VA_ARGS__}, \
            0, 0, 0                                                                                \
    }
#define NORM_AFFINE(k, own, ...)                                                          \
    {                                                                                     \
        "normalize", build_normalize, value_normalize, GAN_NORM_##k, {own, 1, 1}, {1e-3}, \
            {__VA_ARGS__}, 0, 0, 0                                                        \
    }

static const op_case cases[] = {
    B(ADD, "2,3,4", "2,3,4"),
    B(ADD, "3,1,5", "4,1"),
    B(SUB, "2,3,4", "3,1"),
    B(SUB, "5", ""),
    B(MUL, "2,3,4", "2,1,4"),
    B(MUL, "1,7", "3,1"),
    B(DIV, "2,3,5", "3,5"),
    B(DIV, "", "3,5"),
    B(MAXIMUM, "3,5", "3,5"),
    B(MAXIMUM, "3,5", "5"),
    B(MAXIMUM, "2,3,1", ""),
    B(MINIMUM, "3,5", "3,1"),
    B(GREATER, "3,5", "3,1"),
    B(BCE, "7,3", "7,3"),
    B(BCE, "7,1", ""),
    {"prelu", build_prelu, value_prelu, 0, {0}, {0}, {"2,3,5", "3"}, 0, 0, 0},
    {"prelu", build_prelu, value_prelu, 0, {0}, {0}, {"2,3,2,2", "1"}, 0, 0, 0},
    U(AFFINE, -1.5, 0.25, "17", 0, 0),
    U(SQUARE, 0, 0, "3,7", 0, 0),
    U(SQRT, 0, 0, "3,7", 0.5, 4),
    U(RSQRT, 0, 0, "3,7", 0.5, 4),
    U(EXP, 0, 0, "33", -2, 2),
    U(LOG, 0, 0, "33", 0.25, 5),
    U(ABS, 0, 0, "19", 0, 0),
    U(SIGN, 0, 0, "19", 0, 0),
    U(SOFTPLUS, 0, 0, "31", -4, 4),
    U(CLAMP, -0.4, 0.55, "31", 0, 0),
    U(LEAKY, 0.2, 0, "31", 0, 0),
    U(LEAKY, 0, 0, "31", 0, 0),
    U(TANH, 0, 0, "31", -3, 3),
    U(SIGMOID, 0, 0, "31", -4, 4),
    {"DETACH", build_unary, value_unary, DETACH, {0}, {0}, {"7", "7"}, 0, 0, 2},
    R(SUM, GAN_ALL_AXES, "3,4,5"),
    R(SUM, 1, "7,3"),
    R(SUM, 2, "3,4,5"),
    R(SUM, 4, "3,4,5"),
    R(SUM, 5, "3,4,5"),
    R(SUM, 13, "3,4,2,3"),
    R(SUM, 21, "3,2,2,3,2"),
    R(SUM, 2, "3,1,5"),
    R(MEAN, GAN_ALL_AXES, "3,5"),
    R(MEAN, 12, "2,3,4,3"),
    R(MAX, 2, "3,7"),
    R(MAX, 5, "3,4,5"),
    R(MAX, GAN_ALL_AXES, "11"),
    M(BROADCAST, "3,1,5", 4, 2, 3, 4, 5),
    M(BROADCAST, "", 2, 3, 5),
    M(BROADCAST, "7", 2, 3, 7),
    M(RESHAPE, "3,8", 3, 2, 4, 3),
    M(PERMUTE, "2,3,4", 2, 0, 1),
    M(PERMUTE, "2,3,2,3,2", 4, 2, 0, 3, 1),
    M(PERMUTE, "5,7", 1, 0),
    M(SLICE, "3,7,2", 1, 2, 4),
    M(SLICE, "9", 0, 8, 1),
    M(SLICE, "3,4", 1, 2, 1),
    M(PAD, "3,1", 1, 2, 1),
    {"concat", build_concat, value_concat, 0, {2, 3}, {0}, {"2,3,2", "2,3,1", "2,3,1"}, 0, 0, 0},
    M(PAD, "3,4,2", 1, 2, 1),
    M(PAD, "3,4", 0, 0, 3),
    M(PAD_REFLECT, "2,3,4,5", 2, 1),
    M(PAD_REFLECT, "4,5", 3, 4),
    M(UPSAMPLE, "2,3,2,3", 2),
    M(UPSAMPLE, "1,2,3,1", 3),
    {"concat", build_concat, value_concat, 0, {1, 3}, {0}, {"2,3,2", "2,1,2", "2,4,2"}, 0, 0, 0},
    {"concat", build_concat, value_concat, 0, {0, 1}, {0}, {"5,2"}, 0, 0, 0},
    MATMUL("3,5", "5,4", 0, 0),
    MATMUL("5,3", "5,4", 1, 0),
    MATMUL("3,5", "4,5", 0, 1),
    MATMUL("5,3", "4,5", 1, 1),
    MATMUL("2,3,4,5", "2,3,5,2", 0, 0),
    MATMUL("2,5,3", "2,2,5", 1, 1),
    MATMUL("2,3,5", "5,4", 0, 0),
    MATMUL("2,5,3", "4,5", 1, 1),
    MATMUL("1,1", "1,1", 0, 0),
    {"linear", build_linear, value_linear, 0, {0}, {0}, {"3,5", "4,5", "4"}, 0, 0, 0},
    {"linear", build_linear, value_linear, 0, {0}, {0}, {"1,7", "1,7"}, 0, 0, 0},
    LSTM(LSTM_STATE, 0, "2,12", "2,3"),
    LSTM(LSTM_STATE, 0, "3,20"),
    LSTM(LSTM_STATE, 0, "1,68", "1,17"),
    LSTM(LSTM_GATE, 1, "2,12", "2,3"),
    LSTM(LSTM_GATE, 3, "2,12", "2,3"),
    LSTM(LSTM_GATE, 2, "1,68", "1,17"),
    LSTM(LSTM_GRAD, 15, "2,12", "2,3", "2,3", "2,3", "2,3"),
    LSTM(LSTM_GRAD, 3, "2,12", "2,3", "2,3"),
    LSTM(LSTM_GRAD, 8, "2,12", "2,3"),
    LSTM(LSTM_GRAD, 12, "1,68", "1,17", "1,17"),
    CONV("2,3,5,6", "4,3,3,3", "4", 1, 1, 1, 0, 1, 0, 0),
    CONV("2,2,6,6", "3,2,4,4", NULL, 2, 1, 1, 0, 1, 0, 0),
    CONV("1,1,7,7", "1,1,7,7", NULL, 1, 3, 1, 0, 1, 0, 0),
    CONV("1,2,7,5", "2,2,3,3", "2", 1, 2, 2, 0, 1, 1, 0),
    CONV("2,4,4,4", "6,2,1,1", NULL, 1, 0, 1, 0, 2, 0, 0),
    CONV("1,2,7,7", "3,2,2,2", "3", 3, 0, 1, 0, 1, 0, 0),
    CONV("2,3,3,4", "3,2,4,4", "2", 2, 1, 1, 0, 1, 0, 1),
    CONV("1,2,3,3", "2,3,3,3", NULL, 2, 1, 1, 1, 1, 0, 1),
    CONV("2,4,1,1", "4,2,4,4", NULL, 1, 0, 1, 0, 1, 0, 1),
    CONV("1,4,3,3", "4,2,3,3", "4", 1, 1, 1, 0, 2, 0, 1),
    POOL("2,3,5,6", 2, 2, 0, 1),
    POOL("1,2,5,5", 3, 2, 1, 0),
    POOL("1,2,5,5", 3, 2, 1, 1),
    POOL("2,2,5,6", 2, 2, 0, -1),
    POOL("1,2,7,5", 3, 2, 1, -1),
    POOL("1,2,4,4", 3, 1, 1, -1),
    MOMENTS(BATCH, "3,2,4"),
    MOMENTS(BATCH, "7,3"),
    MOMENTS(INSTANCE, "2,3,2,3"),
    MOMENTS(LAYER, "3,2,4"),
    NORM(BATCH, 1, "3,2,4"),
    NORM(INSTANCE, 1, "2,2,3,3"),
    NORM(LAYER, 1, "3,2,4"),
    NORM(BATCH, 1, "7,3"),
    NORM(LAYER, 1, "3,5"),
    NORM_AFFINE(BATCH, 1, "3,2,4", "2", "2"),
    NORM_AFFINE(BATCH, 1, "7,3", "3", "3"),
    NORM_AFFINE(INSTANCE, 1, "2,2,3,3", "2", "2"),
    NORM_AFFINE(LAYER, 1, "3,2,4", "2", "2"),
    NORM_AFFINE(LAYER, 1, "3,5", "5", "5"),
    {"normalize",
     build_normalize,
     value_normalize,
     GAN_NORM_BATCH,
     {1, 1, 0},
     {1e-3},
     {"3,2,4", "2"},
     0,
     0,
     0},
    {"normalize",
     build_normalize,
     value_normalize,
     GAN_NORM_LAYER,
     {1, 0, 1},
     {1e-3},
     {"3,2,4", "2"},
     0,
     0,
     0},
    NORM_AFFINE(BATCH, 0, "3,2,4", "2,2", "2", "2"),
    NORM_AFFINE(BATCH, 0, "7,3", "2,3", "3", "3"),
    NORM_AFFINE(INSTANCE, 0, "2,2,3", "2,4", "2", "2"),
    NORM_AFFINE(LAYER, 0, "3,2,4", "2,3", "2", "2"),
    NORM(BATCH, 0, "3,2,4", "2,2"),
    {"softmax", build_softmax, value_softmax, 0, {0}, {0}, {"3,7"}, -2, 2, 0},
    {"softmax", build_softmax, value_softmax, 0, {0}, {0}, {"2,2,17"}, -2, 2, 0},
    {"log_softmax", build_softmax, value_softmax, 1, {0}, {0}, {"3,7"}, -2, 2, 0},
    {"gather_rows", build_rows, value_rows, 0, {0}, {0}, {"4,3"}, 0, 0, 0},
    {"scatter_rows", build_rows, value_rows, 0, {5}, {0}, {"3,3"}, 0, 0, 0},
    {"one_hot", build_one_hot, value_one_hot, 0, {5}, {0}, {"1"}, 0, 0, 1},
};

/* Larger than one block of every driver, and of odd sizes: values only. */
static const op_case large_cases[] = {
    B(ADD, "3,1361", "3,1361"),
    B(MUL, "4,31,33", "31,1"),
    R(SUM, 2, "5,733"),
    R(SUM, 1, "733,5"),
    R(SUM, 5, "13,11,17"),
    MOMENTS(BATCH, "17,3,71"),
    MOMENTS(LAYER, "2,3,683"),
    NORM(BATCH, 1, "17,3,71"),
    NORM(BATCH, 1, "131,31"),
    NORM(INSTANCE, 1, "2,3,677"),
    M(PERMUTE, "31,131", 1, 0),
    {"softmax", build_softmax, value_softmax, 0, {0}, {0}, {"3,1361"}, -2, 2, 0},
};

/* --- one case ------------------------------------------------------------ */

typedef struct numbers {
    array in[MAX_INPUTS], y, r, s[MAX_INPUTS];
    array grad[MAX_INPUTS], second[MAX_INPUTS];
    int count;
} numbers;

static void fill_inputs(const op_case *c, numbers *n) {
    memset(n, 0, sizeof *n);
    while (n->count < MAX_INPUTS && c->shapes[n->count]) {
        const int k = n->count++;
        /* variances and divisors */
        const int positive = k == 1 && ((c->value == value_normalize && !c->p[0]) ||
                                        (c->value == value_binary && c->kind == DIV));
        const int range = k == 0 && c->low < c->high;
        set_shape(&n->in[k], parse_shape(c->shapes[k]));
        fill_grid(&n->in[k],
                  range      ? c->low
                  : positive ? 0.5
                             : -1.0,
                  range      ? c->high
                  : positive ? 1.5
                             : 1.0,
                  k);
        set_shape(&n->s[k], n->in[k].shape);
        fill_grid(&n->s[k], -0.5, 1.0, MAX_INPUTS + k);
        set_shape(&n->grad[k], n->in[k].shape);
        set_shape(&n->second[k], n->in[k].shape);
    }
    c->value(c, n->in, &n->y);
    set_shape(&n->r, n->y.shape);
    fill_grid(&n->r, -1.0, 0.5, 2 * MAX_INPUTS);
}

/* L at inputs + h*s, with element i of input k moved by e. */
static double loss_at(const op_case *c, numbers *n, double h, int k, size_t i, double e) {
    static array moved[MAX_INPUTS], y;
    for (int j = 0; j < n->count; j++) {
        set_shape(&moved[j], n->in[j].shape);
        for (size_t m = 0; m < n->in[j].count; m++) {
            moved[j].v[m] = n->in[j].v[m] + (c->fixed >> j & 1 ? 0.0 : h * n->s[j].v[m]);
        }
    }
    moved[k].v[i] += e;
    c->value(c, moved, &y);
    double sum = 0.0;
    for (size_t m = 0; m < y.count; m++) {
        sum += n->r.v[m] * y.v[m];
    }
    return sum;
}

/* Central differences; the second derivative along s is the difference of two slopes. In double
 * their errors are about 1e-8. */
static void differentiate(const op_case *c, numbers *n) {
    const double h = 1e-4;
    for (int k = 0; k < n->count; k++) {
        for (size_t i = 0; i < n->in[k].count; i++) {
            n->grad[k].v[i] = (loss_at(c, n, 0, k, i, h) - loss_at(c, n, 0, k, i, -h)) / (2 * h);
            const double ahead = loss_at(c, n, h, k, i, h) - loss_at(c, n, h, k, i, -h);
            const double behind = loss_at(c, n, -h, k, i, h) - loss_at(c, n, -h, k, i, -h);
            n->second[k].v[i] = (ahead - behind) / (4 * h * h);
        }
    }
}

static gan_tensor input_of(gan_graph *g, const char *name, int k, const array *a) {
    char full[32];
    snprintf(full, sizeof full, "%s%d", name, k);
    gan_tensor x = gan_input(g, full, a->shape);
    for (size_t i = 0; i < a->count && x.id; i++) {
        gan_input_data(g, x)[i] = (float)a->v[i];
    }
    return x;
}

/* sum over inputs of sum(s * gradient) */
static gan_tensor weighted_sum(gan_graph *g, const gan_tensor *x, const gan_tensor *weight,
                               int count) {
    gan_tensor total = {0};
    for (int k = 0; k < count; k++) {
        gan_tensor sum = gan_sum(g, gan_mul(g, x[k], weight[k]), GAN_ALL_AXES);
        total = k ? gan_add(g, total, sum) : sum;
    }
    return total;
}

/* Every rounding contributes eps of the largest magnitude met; a chain of ops makes some tens of
 * them, and a sum of m terms at most m. */
static void check_array(const op_case *c, const char *isa, const char *what, const float *got,
                        const array *want, double roundings) {
    double largest = 1.0;
    size_t at;
    CHECK(got != NULL, "%s %s %s: no output", c->name, isa, what);
    if (!got) {
        return;
    }
    for (size_t i = 0; i < want->count; i++) {
        largest = fabs(want->v[i]) > largest ? fabs(want->v[i]) : largest;
    }
    const double error = test_max_error(got, want->v, want->count, &at);
    CHECK(error <= roundings * eps * largest,
          "%s [%s %s %s] %s %s: element %lu is %.9g, expected %.9g", c->name, c->shapes[0],
          c->shapes[1] ? c->shapes[1] : "", c->shapes[2] ? c->shapes[2] : "", isa, what,
          (unsigned long)at, (double)got[at], want->v[at]);
}

static void run_case(const op_case *c, numbers *n, const char *isa, int gradients) {
    gan_context_desc desc;
    gan_context *ctx;
    gan_params *params;
    gan_graph *g;
    gan_program *program;
    gan_tensor x[MAX_INPUTS], s[MAX_INPUTS], out[1 + 2 * MAX_INPUTS], wrt[MAX_INPUTS],
        weight[MAX_INPUTS];
    int which[MAX_INPUTS], count = 0;
    memset(&desc, 0, sizeof desc);
    desc.isa = isa;
    gan_context_create(&ctx, &desc);
    gan_params_create(&params, ctx, 1);
    gan_graph_create(&g, ctx, params);
    for (int k = 0; k < n->count; k++) {
        x[k] = input_of(g, "x", k, &n->in[k]);
        s[k] = input_of(g, "s", k, &n->s[k]);
        if (!(c->fixed >> k & 1)) {
            wrt[count] = x[k];
            weight[count] = s[k];
            which[count++] = k;
        }
    }
    out[0] = c->build(g, c, x);
    int outputs = 1;
    const gan_shape built = gan_tensor_shape(g, out[0]);
    CHECK(gani_shape_equal(&built, &n->y.shape), "%s: wrong shape", c->name);
    if (gradients) {
        gan_tensor r = input_of(g, "r", 0, &n->r);
        gan_grad(g, weighted_sum(g, out, &r, 1), wrt, count, out + 1);
        if (count) {
            gan_grad(g, weighted_sum(g, out + 1, weight, count), wrt, count, out + 1 + count);
        }
        outputs += 2 * count;
    }
    gan_status status = gan_program_create(&program, g, "case", out, outputs);
    CHECK(status == GAN_OK && gan_program_run(program) == GAN_OK, "%s %s: %s", c->name, isa,
          gan_context_error(ctx));
    if (status == GAN_OK) {
        const double terms = (double)n->in[0].count / (double)n->y.count;
        check_array(c, isa, "value", gan_program_output(program, out[0]), &n->y, 16.0 + terms);
        for (int k = 0; k < count && gradients; k++) {
            check_array(c, isa, "gradient", gan_program_output(program, out[1 + k]),
                        &n->grad[which[k]], 100.0);
            check_array(c, isa, "second derivative",
                        gan_program_output(program, out[1 + count + k]), &n->second[which[k]],
                        400.0);
        }
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
    gan_context_destroy(ctx);
}

static void run_cases(const op_case *list, size_t count, int gradients) {
    static numbers n;
    for (size_t i = 0; i < count; i++) {
        fill_inputs(&list[i], &n);
        if (gradients) {
            differentiate(&list[i], &n);
        }
        for (int k = 0; gan_isa_name(k); k++) {
            if (gan_isa_available(gan_isa_name(k))) {
                run_case(&list[i], &n, gan_isa_name(k), gradients);
            }
        }
    }
}

static void values_and_derivatives(void) {
    run_cases(cases, sizeof cases / sizeof cases[0], 1);
}

static void values_of_large_tensors(void) {
    run_cases(large_cases, sizeof large_cases / sizeof large_cases[0], 0);
}

/* --- threads ------------------------------------------------------------- */

/* A bit of everything that is cut into tasks, on tensors large enough. Returns the hash of the
 * outputs. */
static uint64_t hash_of_run(int threads, int *calls) {
    enum { OUTPUTS = 14 };
    gan_context_desc desc;
    gan_context *ctx;
    gan_params *params;
    gan_graph *g;
    gan_program *program;
    gan_tensor out[OUTPUTS], none = {0};
    const gan_init init = {GAN_INIT_NORMAL, 0.0f, 1.0f};
    const int swap[2] = {1, 0};
    uint64_t hash = GANI_HASH_START;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.parallel.run = run_backwards;
    desc.parallel.user = calls;
    gan_context_create(&ctx, &desc);
    gan_params_create(&params, ctx, 3);
    gan_graph_create(&g, ctx, params);
    gan_tensor x =
        gan_param(g, "x", gan_shape4(6, 7, 40, 45), GAN_PARAM_WEIGHT, init); /* 75,600 elements */
    gan_tensor flat = gan_reshape(g, x, gan_shape2(168, 450));
    gan_tensor m = gan_moments(g, x, GAN_NORM_BATCH), rows = gan_moments(g, flat, GAN_NORM_BATCH);
    out[0] = gan_sum(g, x, GAN_ALL_AXES);
    out[1] = gan_sum(g, x, 13);
    out[2] = gan_normalize(g, x, m, none, none, GAN_NORM_BATCH, 1e-5f);
    out[3] = gan_normalize(g, flat, rows, none, none, GAN_NORM_BATCH, 1e-5f);
    out[4] = gan_softmax(g, flat);
    out[5] = gan_dropout(g, x, 0.5f, 0);
    out[6] = gan_dropout(g, x, 0.5f, 1);
    out[7] = gan_noise_normal(g, gan_shape1(70001));
    out[8] = gan_upsample(g, x, 2);
    out[9] = gan_max_pool(g, x, 3, 2, 1);
    out[10] = gan_mul(g, gan_exp(g, x), gan_sum(g, x, 8));
    out[11] = gan_pad_reflect(g, x, 3, 3);
    gan_tensor loss = gan_sum(g, gan_square(g, out[2]), GAN_ALL_AXES);
    gan_grad(g, loss, &x, 1, &out[12]);
    out[13] = gan_permute(g, flat, swap);
    CHECK(gan_program_create(&program, g, "threads", out, OUTPUTS) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(gan_program_run(program) == GAN_OK, "%s", gan_context_error(ctx));
    for (int i = 0; i < OUTPUTS; i++) {
        hash = gani_hash(gan_program_output(program, out[i]),
                         gan_shape_count(gan_tensor_shape(g, out[i])) * sizeof(float), hash);
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
    gan_context_destroy(ctx);
    return hash;
}

static void same_bits_for_any_threads(void) {
    int calls = 0;
    const uint64_t one = hash_of_run(1, &calls);
    CHECK(calls == 0, "one thread does not need the hook");
    CHECK(hash_of_run(2, &calls) == one, "two threads");
    CHECK(hash_of_run(7, &calls) == one, "seven threads");
    CHECK(calls > 20, "the hook was called %d times", calls);
}

/* --- a graph for the tests below ----------------------------------------- */

typedef struct setup {
    gan_context *ctx;
    gan_params *params;
    gan_graph *g;
    gan_program *program;
} setup;

static setup open_graph(void) {
    setup b;
    memset(&b, 0, sizeof b);
    gan_context_create(&b.ctx, NULL);
    gan_params_create(&b.params, b.ctx, 7);
    gan_graph_create(&b.g, b.ctx, b.params);
    return b;
}

static void close_graph(setup *b) {
    gan_program_destroy(b->program);
    gan_graph_destroy(b->g);
    gan_params_destroy(b->params);
    gan_context_destroy(b->ctx);
}

/* --- random -------------------------------------------------------------- */

static void dropout_masks(void) {
    enum { N = 40, C = 50, HW = 9 };
    setup b = open_graph();
    static float before[N * C * HW];
    for (int channelwise = 0; channelwise < 2; channelwise++) {
        gan_tensor x = gan_input(b.g, channelwise ? "channels" : "elements", gan_shape3(N, C, HW)),
                   out[2];
        for (int i = 0; i < N * C * HW; i++) {
            gan_input_data(b.g, x)[i] = 1.0f + (float)i;
        }
        out[0] = gan_dropout(b.g, x, 0.25f, channelwise);
        gan_grad(b.g, gan_sum(b.g, out[0], GAN_ALL_AXES), &x, 1, &out[1]);
        gan_program_destroy(b.program);
        CHECK(gan_program_create(&b.program, b.g, "dropout", out, 2) == GAN_OK, "%s",
              gan_context_error(b.ctx));
        for (uint64_t step = 0; step < 2; step++) {
            gan_params_set_step(b.params, step);
            CHECK(gan_program_run(b.program) == GAN_OK, "%s", gan_context_error(b.ctx));
            const float *y = gan_program_output(b.program, out[0]),
                        *dx = gan_program_output(b.program, out[1]);
            int dropped = 0, changed = 0;
            for (int i = 0; i < N * C * HW; i++) {
                const float scale = 1.0f / (1.0f - 0.25f), want = dx[i] * (1.0f + (float)i);
                CHECK(dx[i] == 0.0f || dx[i] == scale, "gradient %g", (double)dx[i]);
                CHECK(y[i] == want, "%g is not %g", (double)y[i], (double)want);
                CHECK(!channelwise || (dx[i] == 0.0f) == (dx[i / HW * HW] == 0.0f),
                      "a channel is dropped in part");
                dropped += dx[i] == 0.0f;
                changed += step && (before[i] == 0.0f) != (dx[i] == 0.0f);
                before[i] = dx[i];
            }
            /* binomial: within 5 standard deviations of a quarter */
            const double n = channelwise ? N * C : N * C * HW,
                         share = (double)dropped / (N * C * HW);
            CHECK(fabs(share - 0.25) < 5.0 * sqrt(0.25 * 0.75 / n), "%g dropped", share);
            CHECK(step == 0 || changed > 0, "the mask is the same in the next step");
        }
    }
    close_graph(&b);
}

static void noise_distribution(void) {
    enum { N = 100000 };
    setup b = open_graph();
    gan_tensor out[3];
    out[0] = gan_noise_normal(b.g, gan_shape1(N));
    out[1] = gan_noise_normal(b.g, gan_shape1(N));
    out[2] = gan_noise_uniform(b.g, gan_shape1(N));
    CHECK(gan_program_create(&b.program, b.g, "noise", out, 3) == GAN_OK &&
              gan_program_run(b.program) == GAN_OK,
          "%s", gan_context_error(b.ctx));
    double sum[3] = {0, 0, 0}, squares[3] = {0, 0, 0}, product = 0.0;
    for (int k = 0; k < 3; k++) {
        const float *y = gan_program_output(b.program, out[k]);
        for (int i = 0; i < N; i++) {
            sum[k] += (double)y[i];
            squares[k] += (double)y[i] * (double)y[i];
            product +=
                k == 1 ? (double)y[i] * (double)gan_program_output(b.program, out[0])[i] : 0.0;
        }
    }
    const double bound = 5.0 / sqrt((double)N); /* standard deviations of a mean */
    CHECK(fabs(sum[0] / N) < bound && fabs(squares[0] / N - 1.0) < bound * sqrt(2.0), "normal");
    CHECK(fabs(product / N) < bound, "two streams are correlated");
    CHECK(fabs(sum[2] / N - 0.5) < bound * sqrt(1.0 / 12.0) &&
              fabs(squares[2] / N - 1.0 / 3.0) < bound * 0.3,
          "uniform");
    close_graph(&b);
}

/* --- effects ------------------------------------------------------------- */

enum { SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, OPTIMISERS };
static const double weight_limit[OPTIMISERS] = {0.0, 0.0, 0.25, 0.25, 0.25}; /* 0: none */

static void append_optimiser(gan_graph *g, int kind, gan_tensor p, gan_tensor grad, gan_tensor lr,
                             gan_tensor m, gan_tensor v, gan_tensor t) {
    const gan_tensor none = {0};
    const float limit = (float)weight_limit[kind];
    if (kind <= NESTEROV) {
        gani_sgd_op(g, p, grad, lr, kind == SGD ? none : m, kind == SGD ? 0.0f : 0.9f,
                    kind == NESTEROV, 0.01f, limit);
    } else if (kind == RMSPROP) {
        gani_rmsprop_op(g, p, grad, lr, m, 0.99f, 0.1f, 0.01f, limit);
    } else {
        gan_assign(g, t, gan_affine(g, t, 1.0f, 1.0f));
        gani_adam_op(g, p, grad, m, v, t, lr, 0.5f, 0.999f, 0.1f, 0.01f, limit);
    }
}

/* One step of element p in double, gradient tanh(p). */
static void optimiser_step(int kind, double t, double lr, double *p, double *m, double *v) {
    const double d = tanh(*p) + 0.01 * *p;
    double step = d;
    if (kind == MOMENTUM || kind == NESTEROV) {
        *m = 0.9 * *m + d;
        step = kind == NESTEROV ? d + 0.9 * *m : *m;
    } else if (kind == RMSPROP) {
        *m = 0.99 * *m + 0.01 * d * d;
        step = d / (sqrt(*m) + 0.1);
    } else if (kind == ADAM) {
        *m = 0.5 * *m + 0.5 * d;
        *v = 0.999 * *v + 0.001 * d * d;
        step = *m / (1.0 - pow(0.5, t)) / (sqrt(*v) / sqrt(1.0 - pow(0.999, t)) + 0.1);
    }
    *p -= lr * step;
    if (weight_limit[kind] > 0.0) {
        *p = fmax(-weight_limit[kind], fmin(weight_limit[kind], *p));
    }
}

/* Ten steps with the gradient tanh(p), the learning rate changing from step to step; 40,000
 * parameters are several tasks. */
static void optimiser_steps(void) {
    enum { COUNT = 40000 };
    static double want[3][COUNT];
    const gan_init normal = {GAN_INIT_NORMAL, 0.0f, 0.5f}, zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    for (int kind = 0; kind < OPTIMISERS; kind++) {
        setup b = open_graph();
        gan_tensor p = gan_param(b.g, "p", gan_shape1(COUNT), GAN_PARAM_WEIGHT, normal);
        gan_tensor m = gan_param(b.g, "m", gan_shape1(COUNT), GAN_PARAM_STATE, zero);
        gan_tensor v = gan_param(b.g, "v", gan_shape1(COUNT), GAN_PARAM_STATE, zero);
        gan_tensor t = gan_param(b.g, "t", gan_shape1(1), GAN_PARAM_STATE, zero);
        gan_tensor lr = gan_input(b.g, "lr", gan_shape0());
        append_optimiser(b.g, kind, p, gan_activate(b.g, p, GAN_ACT_TANH, 0.0f), lr, m, v, t);
        CHECK(gan_program_create(&b.program, b.g, "step", NULL, 0) == GAN_OK, "%s",
              gan_context_error(b.ctx));
        memset(want, 0, sizeof want);
        for (int i = 0; i < COUNT; i++) {
            want[0][i] = (double)gan_params_find(b.params, "p").data[i];
        }
        for (int step = 1; step <= 10; step++) {
            gan_input_data(b.g, lr)[0] = 0.01f * (float)step;
            CHECK(gan_program_run(b.program) == GAN_OK, "%s", gan_context_error(b.ctx));
            for (int i = 0; i < COUNT; i++) {
                optimiser_step(kind, step, (double)gan_input_data(b.g, lr)[0], &want[0][i],
                               &want[1][i], &want[2][i]);
            }
        }
        const char *names[] = {"p", "m", "v"};
        for (int k = 0; k < 3; k++) {
            size_t at;
            const double error =
                test_max_error(gan_params_find(b.params, names[k]).data, want[k], COUNT, &at);
            CHECK(error <= 40 * eps * 3.0, "optimiser %d, %s: error %g at %lu", kind, names[k],
                  error, (unsigned long)at);
        }
        close_graph(&b);
    }
}

static void assignments(void) {
    const gan_init two = {GAN_INIT_CONSTANT, 2.0f, 0.0f}, one = {GAN_INIT_CONSTANT, 1.0f, 0.0f};
    setup b = open_graph();
    gan_tensor p = gan_param(b.g, "p", gan_shape1(5), GAN_PARAM_BUFFER, two);
    gan_tensor q = gan_param(b.g, "q", gan_shape1(5), GAN_PARAM_BUFFER, one);
    gan_tensor old = gan_affine(b.g, p, 1.0f, 0.0f), out[2];
    gan_assign_lerp(b.g, p, q, 0.25f);
    gan_assign(b.g, q, gan_affine(b.g, p, 10.0f, 0.0f));
    out[0] = old;
    out[1] = gan_add(b.g, p, q);
    CHECK(gan_program_create(&b.program, b.g, "assign", out, 2) == GAN_OK &&
              gan_program_run(b.program) == GAN_OK,
          "%s", gan_context_error(b.ctx));
    CHECK(gan_program_output(b.program, out[0])[4] == 2.0f,
          "what was made before the effect sees the old value");
    CHECK(gan_program_output(b.program, out[1])[4] == 1.75f + 17.5f,
          "what was made after it sees the new one");
    CHECK(gan_params_find(b.params, "p").data[0] == 1.75f &&
              gan_params_find(b.params, "q").data[0] == 17.5f,
          "parameters");
    close_graph(&b);
}

/* --- errors -------------------------------------------------------------- */

static gan_conv_desc conv_numbers(int stride, int pad, int groups, int reflect) {
    gan_conv_desc d;
    memset(&d, 0, sizeof d);
    d.stride_h = d.stride_w = stride;
    d.pad_h = d.pad_w = pad;
    d.groups = groups;
    d.reflect = reflect;
    return d;
}

static const gan_tensor none = {0};
static const int repeated_axes[] = {0, 0, 1, 2};
static const gan_init ones = {GAN_INIT_CONSTANT, 1.0f, 0.0f};

static gan_tensor conv_of(gan_graph *g, gan_tensor x, gan_tensor w, gan_tensor bias, int transposed,
                          gan_conv_desc d) {
    return transposed ? gan_conv2d_transpose(g, x, w, bias, &d) : gan_conv2d(g, x, w, bias, &d);
}

static gan_tensor concat_of(gan_graph *g, gan_tensor a, gan_tensor b, int axis) {
    gan_tensor parts[2];
    parts[0] = a;
    parts[1] = b;
    return gan_concat(g, parts, 2, axis);
}

/* X(name, shape of a, shape of b, status, what the message must say, call) */
#define ERRORS(X)                                                                                 \
    X(add, "2,3", "2,4", GAN_ERR_SHAPE, "(add): [2,3] and [2,4] do not broadcast (3 against 4)",  \
      gan_add(g, a, b))                                                                           \
    X(prelu, "2,3,4", "4", GAN_ERR_SHAPE, "slope [4] does not fit input [2,3,4]",                 \
      gan_prelu(g, a, b))                                                                         \
    X(clamp, "2", "2", GAN_ERR_ARGUMENT, "low 1 is above high 0", gan_clamp(g, a, 1.0f, 0.0f))    \
    X(activate, "2", "2", GAN_ERR_ARGUMENT, "slope",                                              \
      gan_activate(g, a, GAN_ACT_LEAKY_RELU, -0.1f))                                              \
    X(sum, "2,3", "2", GAN_ERR_ARGUMENT, "axes 0x4", gan_sum(g, a, 4))                            \
    X(broadcast, "3,1", "2", GAN_ERR_SHAPE, "[3,1] does not broadcast to [2,5]",                  \
      gan_broadcast(g, a, gan_shape2(2, 5)))                                                      \
    X(reshape, "3,3", "2", GAN_ERR_SHAPE, "[3,3] and [2,5]", gan_reshape(g, a, gan_shape2(2, 5))) \
    X(permute, "3,3", "2", GAN_ERR_ARGUMENT, "axis 0", gan_permute(g, a, repeated_axes))          \
    X(concat, "2,3", "2,4", GAN_ERR_SHAPE, "part 1 [2,4] does not fit [2,3] along axis 0",        \
      concat_of(g, a, b, 0))                                                                      \
    X(concat_axis, "2,3", "2,3", GAN_ERR_ARGUMENT, "axis 2 is not an axis of [2,3]",              \
      concat_of(g, a, b, 2))                                                                      \
    X(slice, "2,3", "2", GAN_ERR_ARGUMENT, "3 elements from 1", gan_slice(g, a, 1, 1, 3))         \
    X(pad, "2,3", "2", GAN_ERR_ARGUMENT, "padding -1", gan_pad(g, a, 0, -1, 0))                   \
    X(pad_reflect, "3,3", "2", GAN_ERR_SHAPE, "padding 0,3", gan_pad_reflect(g, a, 0, 3))         \
    X(matmul, "2,3", "2,4", GAN_ERR_SHAPE, "[2,3] and [2,4] cannot be multiplied",                \
      gan_matmul(g, a, b, 0, 0))                                                                  \
    X(linear, "2,3", "5,4", GAN_ERR_SHAPE, "weight [5,4] does not fit input [2,3]",               \
      gan_linear(g, a, b, none))                                                                  \
    X(lstm_gates, "2,6", "2,3", GAN_ERR_SHAPE, "gates [2,6] (expected [n,4*units])",               \
      gani_lstm_state(g, a, none))                                                                \
    X(lstm_state, "2,8", "2,3", GAN_ERR_SHAPE, "state [2,3] does not fit gates [2,8]",             \
      gani_lstm_state(g, a, b))                                                                   \
    X(linear_bias, "3,3", "4", GAN_ERR_SHAPE, "bias [4] does not fit weight [3,3]",               \
      gan_linear(g, a, a, b))                                                                     \
    X(conv_channels, "8,1,32,32", "64,3,4,4", GAN_ERR_SHAPE,                                      \
      "weight [64,3,4,4] does not fit input [8,1,32,32] (channels 3, found 1)",                   \
      conv_of(g, a, b, none, 0, conv_numbers(1, 0, 1, 0)))                                        \
    X(conv_small, "1,3,2,9", "4,3,3,3", GAN_ERR_SHAPE,                                            \
      "weight [4,3,3,3] does not fit input [1,3,2,9]",                                            \
      conv_of(g, a, b, none, 0, conv_numbers(1, 0, 1, 0)))                                        \
    X(conv_stride, "1,3,9,9", "4,3,3,3", GAN_ERR_ARGUMENT, "stride -1",                           \
      conv_of(g, a, b, none, 0, conv_numbers(-1, 0, 1, 0)))                                       \
    X(conv_groups, "1,4,9,9", "3,2,3,3", GAN_ERR_SHAPE, "2 groups",                               \
      conv_of(g, a, b, none, 0, conv_numbers(1, 0, 2, 0)))                                        \
    X(conv_reflect, "1,3,4,9", "4,3,3,3", GAN_ERR_SHAPE, "reflecting",                            \
      conv_of(g, a, b, none, 0, conv_numbers(1, 4, 1, 1)))                                        \
    X(transpose, "1,3,4,4", "4,3,3,3", GAN_ERR_SHAPE, "(channels 4, found 3)",                    \
      conv_of(g, a, b, none, 1, conv_numbers(1, 0, 1, 0)))                                        \
    X(pool, "1,3,4,4", "2", GAN_ERR_SHAPE, "window 3, stride 1, padding 2",                       \
      gan_avg_pool(g, a, 3, 1, 2, 1))                                                             \
    X(upsample, "1,3,4,4", "2", GAN_ERR_SHAPE, "factor 0", gan_upsample(g, a, 0))                 \
    X(moments, "3", "2", GAN_ERR_SHAPE, "[n,c,...]", gan_moments(g, a, GAN_NORM_BATCH))           \
    X(normalize, "2,3,4", "2,3", GAN_ERR_SHAPE, "moments [2,3] does not fit (expected [2,6])",    \
      gan_normalize(g, a, b, none, none, GAN_NORM_INSTANCE, 1e-5f))                               \
    X(scale, "2,3,4", "4", GAN_ERR_SHAPE, "scale [4] does not fit (expected [3])",                \
      gan_normalize(g, a, gan_moments(g, a, GAN_NORM_LAYER), b, none, GAN_NORM_LAYER, 1e-5f))     \
    X(softmax, "", "2", GAN_ERR_SHAPE, "no axis", gan_softmax(g, a))                              \
    X(one_hot, "3", "2", GAN_ERR_SHAPE, "0 classes", gan_one_hot(g, a, 0))                        \
    X(gather, "3", "2", GAN_ERR_SHAPE, "indices [2] do not fit [3]", gan_gather_rows(g, a, b))    \
    X(scatter, "3,2", "2", GAN_ERR_SHAPE, "indices [2] do not fit [3,2]",                         \
      gan_scatter_rows(g, a, b, 4))                                                               \
    X(dropout, "3", "2", GAN_ERR_ARGUMENT, "p = 1", gan_dropout(g, a, 1.0f, 0))                   \
    X(assign, "3", "3", GAN_ERR_ARGUMENT, "must be a parameter", gan_assign(g, a, b))             \
    X(assign_rows, "2,3", "2", GAN_ERR_SHAPE, "rows [2,3] at [2] do not fit [4,2]",               \
      gan_assign_rows(g, gan_param(g, "p", gan_shape2(4, 2), GAN_PARAM_WEIGHT, ones), b, a))      \
    X(sgd_gradient, "4", "1", GAN_ERR_SHAPE, "gradient [4] does not fit parameter [3]",           \
      gani_sgd_op(g, gan_param(g, "p", gan_shape1(3), GAN_PARAM_WEIGHT, ones), a, b, none, 0, 0,  \
                  0, 0))                                                                          \
    X(sgd_rate, "3", "2", GAN_ERR_SHAPE, "learning rate has shape [2]",                           \
      gani_sgd_op(g, gan_param(g, "p", gan_shape1(3), GAN_PARAM_WEIGHT, ones), a, b, none, 0, 0,  \
                  0, 0))                                                                          \
    X(constant, "3", "2", GAN_ERR_SHAPE, "[3,0]", gan_constant(g, gan_shape2(3, 0), 1.0f))        \
    X(left_out, "3", "2", GAN_ERR_ARGUMENT, "source 1", gan_add(g, a, none))                      \
    X(conv_bias, "1,3,4,4", "4,3,3,3", GAN_ERR_SHAPE,                                             \
      "bias [1,3,4,4] does not fit 4 output channels",                                            \
      conv_of(g, a, b, a, 0, conv_numbers(1, 0, 1, 0)))

#define ERROR_FUNCTION(name, shape_a, shape_b, status, text, call)       \
    static void error_##name(gan_graph *g, gan_tensor a, gan_tensor b) { \
        (void)a;                                                         \
        (void)b;                                                         \
        call;                                                            \
    }
ERRORS(ERROR_FUNCTION)

typedef struct error_row {
    const char *name, *a, *b;
    gan_status status;
    const char *text;
    void (*build)(gan_graph *g, gan_tensor a, gan_tensor b);
} error_row;

static const error_row errors[] = {
#define ERROR_ROW(name, shape_a, shape_b, status, text, call) \
    {#name, shape_a, shape_b, status, text, error_##name},
    ERRORS(ERROR_ROW)};

static void errors_name_layer_and_sizes(void) {
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        const error_row *row = &errors[i];
        setup b = open_graph();
        gan_graph_push(b.g, "d3");
        row->build(b.g, gan_input(b.g, "a", parse_shape(row->a)),
                   gan_input(b.g, "b", parse_shape(row->b)));
        const gan_status status = gan_graph_status(b.g);
        const char *message = gan_context_error(b.ctx);
        CHECK(status == row->status && strstr(message, row->text), "%s: status %d, \"%s\"",
              row->name, (int)status, message);
        CHECK(strncmp(message, "d3", 2) == 0, "%s: no layer in \"%s\"", row->name, message);
        close_graph(&b);
    }
}

/* Indices are values, so what is wrong with them shows when a program runs. */
static void bad_indices(void) {
    const float bad[] = {-1.0f, 3.0f, 0.5f, HUGE_VALF, -HUGE_VALF};
    for (int op = 0; op < 3; op++) {
        setup b = open_graph();
        gan_tensor table = gan_input(b.g, "table", gan_shape2(op == 2 ? 2 : 3, 4)),
                   idx = gan_input(b.g, "idx", gan_shape1(2));
        gan_tensor y = op == 0   ? gan_one_hot(b.g, idx, 3)
                       : op == 1 ? gan_gather_rows(b.g, table, idx)
                                 : gan_scatter_rows(b.g, table, idx, 3);
        CHECK(gan_program_create(&b.program, b.g, "rows", &y, 1) == GAN_OK &&
                  gan_program_run(b.program) == GAN_OK,
              "%s", gan_context_error(b.ctx));
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            gan_input_data(b.g, idx)[1] = bad[i];
            CHECK(gan_program_run(b.program) == GAN_ERR_NUMERIC &&
                      strstr(gan_context_error(b.ctx), "from 0 to 2"),
                  "op %d, index %g: %s", op, (double)bad[i], gan_context_error(b.ctx));
        }
        gan_input_data(b.g, idx)[1] = 0.0f * HUGE_VALF; /* NaN */
        CHECK(gan_program_run(b.program) == GAN_ERR_NUMERIC, "NaN as index");
        close_graph(&b);
    }
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(values_and_derivatives);
    TEST(values_of_large_tensors);
    TEST(same_bits_for_any_threads);
    TEST(dropout_masks);
    TEST(noise_distribution);
    TEST(optimiser_steps);
    TEST(assignments);
    TEST(errors_name_layer_and_sizes);
    TEST(bad_indices);
    return test_end();
}
