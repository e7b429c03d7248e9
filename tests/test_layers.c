/* Layers, losses and optimisers against formulas in double precision. Tolerances are FLT_EPSILON
 * times the number of roundings on the way to a value, times its size. */
#include "test.h"

#define EPS 1.2e-7

/* A context, a store and a graph, made anew for each case. */
typedef struct bench {
    gan_context *ctx;
    gan_params *params;
    gan_graph *g;
} bench;

static bench bench_open(void) {
    bench b = {NULL, NULL, NULL};
    CHECK(gan_context_create(&b.ctx, NULL) == GAN_OK, "context");
    CHECK(gan_params_create(&b.params, b.ctx, 7) == GAN_OK, "params");
    CHECK(gan_graph_create(&b.g, b.ctx, b.params) == GAN_OK, "graph");
    return b;
}

static void bench_close(bench *b) {
    gan_graph_destroy(b->g);
    gan_params_destroy(b->params);
    gan_context_destroy(b->ctx);
}

/* An input with values in [-1.5,1.5). */
static gan_tensor given(bench *b, const char *name, gan_shape shape) {
    gan_tensor x = gan_input(b->g, name, shape);
    float *data = gan_input_data(b->g, x);
    const size_t count = gan_shape_count(shape);
    gan_random_uniform(3, gani_hash(name, strlen(name), GANI_HASH_START), 0, data, count);
    for (size_t i = 0; i < count; i++) {
        data[i] = 3.0f * data[i] - 1.5f;
    }
    return x;
}

/* Makes a program of the outputs and runs it. */
static gan_program *run(bench *b, const gan_tensor *outputs, int count) {
    gan_program *program = NULL;
    const gan_status status = gan_program_create(&program, b->g, "test", outputs, count);
    CHECK(status == GAN_OK, "%s", gan_context_error(b->ctx));
    if (status == GAN_OK) {
        CHECK(gan_program_run(program) == GAN_OK, "%s", gan_context_error(b->ctx));
    }
    return program;
}

static float *param(bench *b, const char *name) {
    float *data = gan_params_find(b->params, name).data;
    CHECK(data != NULL, "no parameter %s", name);
    return data;
}

static void check_values(const char *what, const float *got, const double *want, size_t count,
                         double tolerance) {
    size_t at = 0;
    const double error = got ? test_max_error(got, want, count, &at) : HUGE_VAL;
    CHECK(error <= tolerance, "%s: error %g at %lu (tolerance %g)", what, error, (unsigned long)at,
          tolerance);
}

static int same_shape(gan_shape a, gan_shape b) {
    return gani_shape_equal(&a, &b);
}

/* ---- parameters ---------------------------------------------------------------------------- */

static void check_param(bench *b, const char *name, gan_shape shape, double low, double high) {
    const gan_param_info info = gan_params_find(b->params, name);
    CHECK(info.data != NULL, "%s is missing", name);
    if (info.data) {
        float least = info.data[0], most = info.data[0];
        for (size_t i = 0; i < gan_shape_count(info.shape); i++) {
            least = info.data[i] < least ? info.data[i] : least;
            most = info.data[i] > most ? info.data[i] : most;
        }
        CHECK(same_shape(info.shape, shape), "shape of %s", name);
        CHECK((double)least >= low && (double)most <= high, "%s in [%g,%g]", name, (double)least,
              (double)most);
        CHECK(low == high || most > least, "%s is constant", name);
    }
}

static void names_shapes_and_initial_values(void) {
    bench b = bench_open();
    const gan_init narrow = {GAN_INIT_UNIFORM, -0.01f, 0.01f};
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    gan_graph_push(b.g, "net");
    gan_tensor x = given(&b, "x", gan_shape2(3, 16));
    gan_tensor y = gan_layer_linear(b.g, "0", x, 5, NULL);
    CHECK(same_shape(gan_tensor_shape(b.g, y), gan_shape2(3, 5)), "linear");
    check_param(&b, "net.0.weight", gan_shape2(5, 16), -0.25, 0.25);
    check_param(&b, "net.0.bias", gan_shape1(5), -0.25, 0.25);

    gan_tensor image = given(&b, "image", gan_shape4(2, 4, 9, 7));
    y = gan_layer_conv(b.g, "1", image, 6, 3, 2, 1, NULL);
    CHECK(same_shape(gan_tensor_shape(b.g, y), gan_shape4(2, 6, 5, 4)), "conv");
    check_param(&b, "net.1.weight", gan_shape4(6, 4, 3, 3), -1.0 / 6.0, 1.0 / 6.0);
    check_param(&b, "net.1.bias", gan_shape1(6), -1.0 / 6.0, 1.0 / 6.0);
    desc.groups = 2;
    desc.no_bias = 1;
    desc.weight_init = &narrow;
    y = gan_layer_conv(b.g, "2", image, 6, 3, 1, 1, &desc);
    CHECK(same_shape(gan_tensor_shape(b.g, y), gan_shape4(2, 6, 9, 7)), "grouped conv");
    check_param(&b, "net.2.weight", gan_shape4(6, 2, 3, 3), -0.01, 0.01);
    CHECK(gan_params_find(b.params, "net.2.bias").data == NULL, "bias in spite of no_bias");

    memset(&desc, 0, sizeof desc);
    desc.out_pad = 1;
    y = gan_layer_conv_transpose(b.g, "3", image, 9, 3, 2, 1, &desc);
    CHECK(same_shape(gan_tensor_shape(b.g, y), gan_shape4(2, 9, 18, 14)), "transposed conv");
    check_param(&b, "net.3.weight", gan_shape4(4, 9, 3, 3), -1.0 / 9.0, 1.0 / 9.0);

    gan_layer_batch_norm(b.g, "4", image, NULL);
    check_param(&b, "net.4.weight", gan_shape1(4), 1.0, 1.0);
    check_param(&b, "net.4.bias", gan_shape1(4), 0.0, 0.0);
    check_param(&b, "net.4.running_mean", gan_shape1(4), 0.0, 0.0);
    check_param(&b, "net.4.running_var", gan_shape1(4), 1.0, 1.0);
    CHECK(gan_params_find(b.params, "net.4.running_var").kind == GAN_PARAM_BUFFER, "kind");
    gan_layer_instance_norm(b.g, "5", image, NULL);
    CHECK(gan_params_find(b.params, "net.5.weight").data == NULL, "instance norm is not affine");
    gan_layer_prelu(b.g, "6", image, 1);
    check_param(&b, "net.6.weight", gan_shape1(4), 0.25, 0.25);
    gan_layer_embedding(b.g, "7", given(&b, "index", gan_shape1(3)), 10, 6, NULL);
    check_param(&b, "net.7.weight", gan_shape2(10, 6), -7.0, 7.0);
    gan_graph_pop(b.g);
    CHECK(gan_graph_status(b.g) == GAN_OK, "%s", gan_context_error(b.ctx));
    bench_close(&b);
}

static void check_refused(bench *b, const char *part) {
    CHECK(gan_graph_status(b->g) != GAN_OK, "not refused: %s", part);
    CHECK(strstr(gan_context_error(b->ctx), part) != NULL, "\"%s\" not in \"%s\"", part,
          gan_context_error(b->ctx));
    bench_close(b);
    *b = bench_open();
}

static void misfits_name_the_layer(void) {
    bench b = bench_open();
    gan_tensor x = given(&b, "x", gan_shape2(3, 16));
    gan_graph_push(b.g, "net");
    gan_layer_conv(b.g, "main.3", x, 5, 3, 1, 1, NULL);
    check_refused(&b, "net.main.3");
    x = given(&b, "x", gan_shape4(2, 3, 4, 4));
    gan_layer_linear(b.g, "out", x, 5, NULL);
    check_refused(&b, "out");
    x = given(&b, "x", gan_shape2(1, 3));
    gan_layer_batch_norm(b.g, "norm", x, NULL);
    check_refused(&b, "more than one value");
    const gan_optimiser adam = gan_adam(0.9f, 0.999f);
    gan_tensor lr = gan_constant(b.g, gan_shape0(), 0.1f);
    x = given(&b, "x", gan_shape2(2, 3));
    gan_tensor loss = gan_mean(b.g, gan_layer_linear(b.g, "net", x, 2, NULL), GAN_ALL_AXES);
    gan_minimise(b.g, loss, "nat.", lr, &adam);
    check_refused(&b, "nat.");
    lr = gan_constant(b.g, gan_shape0(), 0.1f);
    x = given(&b, "x", gan_shape2(2, 3));
    loss = gan_mean(b.g, gan_layer_linear(b.g, "net", x, 2, NULL), GAN_ALL_AXES);
    gan_minimise(b.g, loss, "net.", lr, &adam);
    loss = gan_mean(b.g, gan_layer_linear(b.g, "net", x, 2, NULL), GAN_ALL_AXES);
    gan_minimise(b.g, loss, "net.", lr, &adam);
    check_refused(&b, "updated already");
    bench_close(&b);
}

/* ---- normalisation --------------------------------------------------------------------------- */

/* Mean and biased variance of x [n,c,inner] over samples n0 ... n1-1 and channels c0 ... c1-1. */
static void moments_of(const float *x, int c, int inner, int n0, int n1, int c0, int c1,
                       double *mean, double *var) {
    double sum = 0.0, squares = 0.0;
    const double count = (double)(n1 - n0) * (c1 - c0) * inner;
    for (int pass = 0; pass < 2; pass++) {
        for (int n = n0; n < n1; n++) {
            for (int k = c0; k < c1; k++) {
                for (int i = 0; i < inner; i++) {
                    const double v = (double)x[(n * c + k) * inner + i];
                    sum += pass ? 0.0 : v;
                    squares += pass ? (v - sum / count) * (v - sum / count) : 0.0;
                }
            }
        }
    }
    *mean = sum / count;
    *var = squares / count;
}

enum { NN = 5, NC = 3, NH = 4, NW = 7, NI = NH * NW };

static void batch_norm_training_and_use(void) {
    bench b = bench_open();
    gan_norm_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.eps = 1e-3f;
    desc.momentum = 0.2f;
    gan_tensor x = given(&b, "x", gan_shape4(NN, NC, NH, NW));
    const float *values = gan_input_data(b.g, x);
    gan_tensor y[3];
    y[0] = gan_layer_batch_norm(b.g, "bn", x, &desc);
    gan_graph_set_mode(b.g, GAN_EVALUATE);
    y[1] = gan_layer_batch_norm(b.g, "bn", x, &desc); /* sees the statistics as updated */
    gan_graph_set_mode(b.g, GAN_MODE_KEEP_STATS);
    y[2] = gan_layer_batch_norm(b.g, "bn", x, &desc);
    param(&b, "bn.weight")[1] = 0.5f;
    param(&b, "bn.bias")[2] = -0.25f;
    gan_program *program = run(&b, y, 3);
    CHECK(gan_program_run(program) == GAN_OK, "second run");

    static double train[NN * NC * NI], use[NN * NC * NI];
    for (int c = 0; c < NC; c++) {
        double mean, var, running_mean = 0.0, running_var = 1.0;
        moments_of(values, NC, NI, 0, NN, c, c + 1, &mean, &var);
        for (int step = 0; step < 2; step++) {
            running_mean += 0.2 * (mean - running_mean);
            running_var += 0.2 * (var * (NN * NI) / (NN * NI - 1.0) - running_var);
        }
        const double scale = (double)param(&b, "bn.weight")[c],
                     shift = (double)param(&b, "bn.bias")[c];
        const double got_mean = (double)param(&b, "bn.running_mean")[c];
        const double got_var = (double)param(&b, "bn.running_var")[c];
        CHECK(fabs(got_mean - running_mean) < 10 * EPS, "running mean %g %g", got_mean,
              running_mean);
        CHECK(fabs(got_var - running_var) < 20 * EPS, "running var %g %g", got_var, running_var);
        for (int n = 0; n < NN; n++) {
            for (int i = 0; i < NI; i++) {
                const int at = (n * NC + c) * NI + i;
                const double v = (double)values[at];
                train[at] = (v - mean) / sqrt(var + 1e-3) * scale + shift;
                use[at] = (v - running_mean) / sqrt(running_var + 1e-3) * scale + shift;
            }
        }
    }
    check_values("training", gan_program_output(program, y[0]), train, NN * NC * NI, 40 * EPS);
    check_values("use", gan_program_output(program, y[1]), use, NN * NC * NI, 40 * EPS);
    check_values("keep", gan_program_output(program, y[2]), train, NN * NC * NI, 40 * EPS);
    gan_program_destroy(program);
    bench_close(&b);
}

static void instance_and_layer_norm(void) {
    bench b = bench_open();
    gan_norm_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.affine = 1;
    gan_tensor x = given(&b, "x", gan_shape4(NN, NC, NH, NW));
    const float *values = gan_input_data(b.g, x);
    gan_tensor y[2];
    y[0] = gan_layer_instance_norm(b.g, "in", x, &desc);
    y[1] = gan_layer_layer_norm(b.g, "ln", x, NULL);
    param(&b, "in.weight")[0] = 2.0f;
    param(&b, "ln.bias")[1] = 0.75f;
    gan_program *program = run(&b, y, 2);
    static double want[2][NN * NC * NI];
    for (int n = 0; n < NN; n++) {
        for (int c = 0; c < NC; c++) {
            double mean[2], var[2];
            moments_of(values, NC, NI, n, n + 1, c, c + 1, &mean[0], &var[0]);
            moments_of(values, NC, NI, n, n + 1, 0, NC, &mean[1], &var[1]);
            for (int i = 0; i < NI; i++) {
                const int at = (n * NC + c) * NI + i;
                const double v = (double)values[at];
                want[0][at] = (v - mean[0]) / sqrt(var[0] + 1e-5) * (c == 0 ? 2.0 : 1.0);
                want[1][at] = (v - mean[1]) / sqrt(var[1] + 1e-5) + (c == 1 ? 0.75 : 0.0);
            }
        }
    }
    check_values("instance", gan_program_output(program, y[0]), want[0], NN * NC * NI, 60 * EPS);
    check_values("layer", gan_program_output(program, y[1]), want[1], NN * NC * NI, 60 * EPS);
    gan_program_destroy(program);
    bench_close(&b);
}

/* ---- other layers ---------------------------------------------------------------------------- */

static void embedding_prelu_maxout(void) {
    bench b = bench_open();
    gan_tensor index = gan_input(b.g, "index", gan_shape1(4));
    const float rows[4] = {2.0f, 0.0f, 2.0f, 4.0f};
    memcpy(gan_input_data(b.g, index), rows, sizeof rows);
    gan_tensor x = given(&b, "x", gan_shape2(4, 6));
    const float *values = gan_input_data(b.g, x);
    gan_tensor y[3];
    y[0] = gan_layer_embedding(b.g, "embed", index, 5, 3, NULL);
    y[1] = gan_layer_prelu(b.g, "prelu", x, 0);
    y[2] = gan_layer_maxout(b.g, "maxout", x, 3, 5, NULL);
    gan_program *program = run(&b, y, 3);
    double want[24];
    for (int i = 0; i < 12; i++) {
        want[i] = (double)param(&b, "embed.weight")[(int)rows[i / 3] * 3 + i % 3];
    }
    check_values("embedding", gan_program_output(program, y[0]), want, 12, 0.0);
    for (int i = 0; i < 24; i++) {
        want[i] = (double)values[i] * (values[i] > 0.0f ? 1.0 : 0.25);
    }
    check_values("prelu", gan_program_output(program, y[1]), want, 24, 0.0);
    for (int i = 0; i < 12; i++) {
        want[i] = -HUGE_VAL;
        for (int p = 0; p < 5; p++) {
            const int unit = i % 3 * 5 + p;
            double sum = (double)param(&b, "maxout.bias")[unit];
            for (int k = 0; k < 6; k++) {
                sum += (double)values[i / 3 * 6 + k] *
                       (double)param(&b, "maxout.weight")[unit * 6 + k];
            }
            want[i] = sum > want[i] ? sum : want[i];
        }
    }
    check_values("maxout", gan_program_output(program, y[2]), want, 12, 12 * EPS);
    gan_program_destroy(program);
    bench_close(&b);
}

static void dropout_follows_the_mode(void) {
    bench b = bench_open();
    gan_tensor x = gan_constant(b.g, gan_shape2(50, 100), 1.0f);
    gan_tensor y = gan_layer_dropout(b.g, x, 0.3f, 0);
    gan_graph_set_mode(b.g, GAN_EVALUATE);
    CHECK(gan_layer_dropout(b.g, x, 0.3f, 0).id == x.id, "dropout in use");
    gan_program *program = run(&b, &y, 1);
    const float *got = gan_program_output(program, y);
    int zeros = 0;
    for (int i = 0; i < 5000; i++) {
        zeros += got[i] == 0.0f;
        CHECK(got[i] == 0.0f || fabs((double)got[i] - 1.0 / 0.7) < 2 * EPS, "value %g",
              (double)got[i]);
    }
    CHECK(abs(zeros - 1500) < 5 * 33, "%d of 5000 dropped, 1500 +- 33 expected", zeros);
    gan_program_destroy(program);
    bench_close(&b);
}

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

enum { LB = 2, LIN = 3, LU = 4 };

/* One step of the cell for a sample; h and c [LU] are read and replaced. */
static void lstm_step(bench *b, const float *x, double *h, double *c) {
    double gates[4 * LU];
    for (int j = 0; j < 4 * LU; j++) {
        gates[j] = (double)param(b, "cell.bias_ih")[j] + (double)param(b, "cell.bias_hh")[j];
        for (int k = 0; k < LIN; k++) {
            gates[j] += (double)param(b, "cell.weight_ih")[j * LIN + k] * (double)x[k];
        }
        for (int k = 0; k < LU; k++) {
            gates[j] += (double)param(b, "cell.weight_hh")[j * LU + k] * h[k];
        }
    }
    for (int j = 0; j < LU; j++) {
        c[j] = sigmoid(gates[LU + j]) * c[j] + sigmoid(gates[j]) * tanh(gates[2 * LU + j]);
        h[j] = sigmoid(gates[3 * LU + j]) * tanh(c[j]);
    }
}

static void lstm_cell(void) {
    bench b = bench_open();
    gan_tensor h = {0}, c = {0}, y[2];
    gan_tensor x[2];
    x[0] = given(&b, "x0", gan_shape2(LB, LIN));
    x[1] = given(&b, "x1", gan_shape2(LB, LIN));
    for (int t = 0; t < 2; t++) {
        gan_layer_lstm(b.g, "cell", x[t], LU, &h, &c, NULL);
    }
    y[0] = h;
    y[1] = c;
    gan_program *program = run(&b, y, 2);
    double want_h[LB * LU] = {0}, want_c[LB * LU] = {0};
    for (int n = 0; n < LB; n++) {
        for (int t = 0; t < 2; t++) {
            lstm_step(&b, gan_input_data(b.g, x[t]) + n * LIN, want_h + n * LU, want_c + n * LU);
        }
    }
    check_values("h", gan_program_output(program, h), want_h, LB * LU, 40 * EPS);
    check_values("c", gan_program_output(program, c), want_c, LB * LU, 40 * EPS);
    gan_program_destroy(program);
    bench_close(&b);
}

enum { AN = 2, AC = 2, AH = 6, AW = 9, AS = 3 };

/* Filters [AS,extent] of one sample. */
static void filters(const float *where, int axis, int extent, double offset, double *out) {
    const double delta = (AW - 1.0) / (AS - 1.0) * exp((double)where[3]);
    const double g = (extent + 1) / 2.0 * ((double)where[axis] + 1.0);
    for (int i = 0; i < AS; i++) {
        double sum = 0.0;
        for (int a = 0; a < extent; a++) {
            const double d = a + offset - (g + (i - AS / 2.0 + 0.5) * delta);
            out[i * extent + a] = exp(-d * d / (2.0 * exp((double)where[2])));
            sum += out[i * extent + a];
        }
        for (int a = 0; a < extent; a++) {
            out[i * extent + a] /= sum > 1e-8 ? sum : 1e-8;
        }
    }
}

static void attention_window(void) {
    bench b = bench_open();
    gan_tensor where = given(&b, "where", gan_shape2(AN, 5));
    gan_tensor image = given(&b, "image", gan_shape4(AN, AC, AH, AW));
    gan_tensor patch = given(&b, "patch", gan_shape4(AN, AC, AS, AS));
    float *parameters = gan_input_data(b.g, where);
    for (int i = 0; i < 5; i++) {
        parameters[5 + i] *= 0.5f;
    }
    parameters[3] = -0.5f;
    const gan_attention window = gan_attention_window(b.g, where, AS, AH, AW, 1.0f);
    gan_tensor y[2];
    y[0] = gan_attention_read(b.g, &window, image);
    y[1] = gan_attention_write(b.g, &window, patch);
    gan_program *program = run(&b, y, 2);
    static double read[AN * AC * AS * AS], write[AN * AC * AH * AW];
    for (int n = 0; n < AN; n++) {
        double fx[AS * AW], fy[AS * AH];
        const double gamma = exp((double)parameters[5 * n + 4]);
        filters(parameters + 5 * n, 0, AW, 1.0, fx);
        filters(parameters + 5 * n, 1, AH, 1.0, fy);
        for (int c = n * AC; c < (n + 1) * AC; c++) {
            for (int at = 0; at < AS * AS * AH * AW; at++) {
                const int i = at / (AS * AH * AW), j = at / (AH * AW) % AS, u = at / AW % AH,
                          v = at % AW;
                const double f = fy[i * AH + u] * fx[j * AW + v];
                const double pixel = (double)gan_input_data(b.g, image)[(c * AH + u) * AW + v];
                const double cell = (double)gan_input_data(b.g, patch)[(c * AS + i) * AS + j];
                read[(c * AS + i) * AS + j] += gamma * f * pixel;
                write[(c * AH + u) * AW + v] += f * cell / gamma;
            }
        }
    }
    check_values("read", gan_program_output(program, y[0]), read, AN * AC * AS * AS, 400 * EPS);
    check_values("write", gan_program_output(program, y[1]), write, AN * AC * AH * AW, 400 * EPS);
    gan_program_destroy(program);
    bench_close(&b);
}

/* ---- losses ---------------------------------------------------------------------------------- */

enum { SN = 3, SK = 5, S = SN * SK };

static void losses(void) {
    bench b = bench_open();
    gan_tensor x = given(&b, "x", gan_shape2(SN, SK)), y = given(&b, "y", gan_shape2(SN, SK));
    gan_tensor z = given(&b, "z", gan_shape2(SN, SK));
    gan_tensor label = gan_input(b.g, "label", gan_shape1(SN));
    const float labels[SN] = {4.0f, 0.0f, 2.0f};
    memcpy(gan_input_data(b.g, label), labels, sizeof labels);
    gan_tensor got[11];
    got[0] = gan_loss_bce(b.g, x, 0.9f);
    got[1] = gan_loss_least_squares(b.g, x, 0.9f);
    got[2] = gan_loss_wasserstein(b.g, x, 1);
    got[3] = gan_loss_wasserstein(b.g, x, 0);
    got[4] = gan_loss_hinge(b.g, x, 1);
    got[5] = gan_loss_hinge(b.g, x, 0);
    got[6] = gan_loss_mse(b.g, x, y);
    got[7] = gan_loss_l1(b.g, x, y);
    got[8] = gan_loss_cross_entropy(b.g, x, label);
    got[9] = gan_loss_gaussian_nll(b.g, x, y, z);
    got[10] = gan_loss_kl_normal(b.g, x, z);
    gan_program *program = run(&b, got, 11);
    const float *px = gan_input_data(b.g, x), *py = gan_input_data(b.g, y),
                *pz = gan_input_data(b.g, z);
    double want[11] = {0};
    for (int i = 0; i < S; i++) {
        const double v = (double)px[i], w = (double)py[i], u = (double)pz[i], t = (double)0.9f;
        want[0] += -(t * log(sigmoid(v)) + (1.0 - t) * log(1.0 - sigmoid(v))) / S;
        want[1] += (v - t) * (v - t) / S;
        want[2] += -v / S;
        want[3] += v / S;
        want[4] += (1.0 - v > 0.0 ? 1.0 - v : 0.0) / S;
        want[5] += (1.0 + v > 0.0 ? 1.0 + v : 0.0) / S;
        want[6] += (v - w) * (v - w) / S;
        want[7] += fabs(v - w) / S;
        want[9] += (log(6.283185307179586) + u + (v - w) * (v - w) / exp(u)) / 2.0 / S;
        want[10] += (v * v + exp(u) - u - 1.0) / 2.0 / SN;
    }
    for (int n = 0; n < SN; n++) {
        double sum = 0.0;
        for (int k = 0; k < SK; k++) {
            sum += exp((double)px[n * SK + k]);
        }
        want[8] += (log(sum) - (double)px[n * SK + (int)labels[n]]) / SN;
    }
    for (int i = 0; i < 11; i++) {
        CHECK(gan_tensor_shape(b.g, got[i]).rank == 0, "loss %d is not a scalar", i);
        const double value = (double)gan_program_output(program, got[i])[0];
        CHECK(fabs(value - want[i]) <= 30 * EPS * (1.0 + fabs(want[i])),
              "loss %d: %.9g, expected %.9g", i, value, want[i]);
    }
    gan_program_destroy(program);
    bench_close(&b);
}

/* Two layers, f(x) = w2 leaky(w1 x): the gradient in x is w2 diag(slope) w1, and the penalty's
 * gradient in the weights is compared with central differences. */
static void gradient_penalty(void) {
    bench b = bench_open();
    enum { N = 3, IN = 4, HID = 5 };
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.no_bias = 1;
    gan_tensor x = given(&b, "x", gan_shape2(N, IN));
    gan_tensor score = gan_layer_linear(
        b.g, "2", gan_leaky_relu(b.g, gan_layer_linear(b.g, "1", x, HID, &desc), 0.2f), 1, &desc);
    gan_tensor out[2], weight = gan_param(b.g, "1.weight", gan_shape2(HID, IN), GAN_PARAM_WEIGHT,
                                          gani_init(GAN_INIT_CONSTANT, 0.0, 0.0));
    out[0] = gan_loss_gradient_penalty(b.g, score, x);
    gan_grad(b.g, out[0], &weight, 1, &out[1]);
    gan_program *program = run(&b, out, 2);
    float *w1 = param(&b, "1.weight"), *w2 = param(&b, "2.weight");
    double gradient[HID * IN], penalty = 0.0;
    for (int k = -1; k < HID * IN; k++) {
        double side[2] = {0.0, 0.0};
        for (int s = 0; s < 2; s++) {
            for (int n = 0; n < N; n++) {
                double norm = 0.0;
                for (int i = 0; i < IN; i++) {
                    double d = 0.0;
                    for (int h = 0; h < HID; h++) {
                        double hidden = 0.0;
                        for (int j = 0; j < IN; j++) {
                            hidden +=
                                (double)w1[h * IN + j] * (double)gan_input_data(b.g, x)[n * IN + j];
                        }
                        const double nudge = h * IN + i == k ? (s ? 1e-4 : -1e-4) : 0.0;
                        d += (double)w2[h] * ((double)w1[h * IN + i] + nudge) *
                             (hidden > 0.0 ? 1.0 : 0.2);
                    }
                    norm += d * d;
                }
                side[s] += (sqrt(norm) - 1.0) * (sqrt(norm) - 1.0) / N;
            }
        }
        if (k < 0) {
            penalty = side[0];
        } else {
            gradient[k] = (side[1] - side[0]) / 2e-4;
        }
    }
    check_values("penalty", gan_program_output(program, out[0]), &penalty, 1, 20 * EPS);
    check_values("its gradient", gan_program_output(program, out[1]), gradient, HID * IN, 1e-6);
    gan_program_destroy(program);
    bench_close(&b);
}

/* ---- optimisers ------------------------------------------------------------------------------ */

enum { P = 6, STEPS = 7 };

/* What one rule does to p [2*P] (two parameters of P) with gradients g, in double precision. */
typedef struct reference {
    double p[2 * P], m[2 * P], v[2 * P], ema[2 * P];
} reference;

static void reference_step(reference *r, const gan_optimiser *rule, const float *given_g, int step,
                           double lr) {
    double g[2 * P], norm[2] = {0.0, 0.0};
    for (int i = 0; i < 2 * P; i++) {
        g[i] = (double)given_g[i];
        norm[i / P] += g[i] * g[i];
    }
    const double together = (double)rule->clip_norm / (sqrt(norm[0] + norm[1]) + 1e-6);
    for (int i = 0; i < 2 * P; i++) {
        const double b1 = (double)rule->beta1, b2 = (double)rule->beta2,
                     each = (double)rule->clip_each_norm;
        g[i] *= rule->clip_norm > 0.0f && together < 1.0 ? together : 1.0;
        g[i] *= each > 0.0 && sqrt(norm[i / P]) > each ? each / sqrt(norm[i / P]) : 1.0;
        g[i] += (double)rule->weight_decay * r->p[i];
        if (rule->kind == GAN_SGD) {
            r->v[i] = (double)rule->momentum * r->v[i] + g[i];
            r->p[i] -= lr * (rule->nesterov ? g[i] + (double)rule->momentum * r->v[i] : r->v[i]);
        } else if (rule->kind == GAN_ADAM) {
            r->m[i] = b1 * r->m[i] + (1.0 - b1) * g[i];
            r->v[i] = b2 * r->v[i] + (1.0 - b2) * g[i] * g[i];
            const double m = r->m[i] / (1.0 - pow(b1, step + 1)),
                         v = r->v[i] / (1.0 - pow(b2, step + 1));
            r->p[i] -= lr * m / (sqrt(v) + (double)rule->eps);
        } else {
            r->v[i] = (double)rule->alpha * r->v[i] + (1.0 - (double)rule->alpha) * g[i] * g[i];
            r->p[i] -= lr * g[i] / (sqrt(r->v[i]) + (double)rule->eps);
        }
        const double limit = (double)rule->clip_weights;
        if (limit > 0.0) {
            r->p[i] = r->p[i] > limit ? limit : r->p[i] < -limit ? -limit : r->p[i];
        }
        r->ema[i] += (1.0 - (double)rule->ema_decay) * (r->p[i] - r->ema[i]);
    }
}

/* loss = sum of g*p has gradient g. The learning rate changes from step to step. */
static void check_rule(const char *what, gan_optimiser rule) {
    bench b = bench_open();
    reference want;
    memset(&want, 0, sizeof want);
    gan_tensor p[2], g[2], lr = gan_input(b.g, "lr", gan_shape0());
    const gan_init init = {GAN_INIT_UNIFORM, -1.0f, 1.0f};
    p[0] = gan_param(b.g, "net.a", gan_shape1(P), GAN_PARAM_WEIGHT, init);
    p[1] = gan_param(b.g, "net.b", gan_shape2(2, P / 2), GAN_PARAM_WEIGHT, init);
    gan_param(b.g, "other.c", gan_shape1(P), GAN_PARAM_WEIGHT, init);
    g[0] = gan_input(b.g, "g0", gan_shape1(P));
    g[1] = gan_input(b.g, "g1", gan_shape2(2, P / 2));
    gan_tensor loss = gan_add(b.g, gan_sum(b.g, gan_mul(b.g, p[0], g[0]), GAN_ALL_AXES),
                              gan_sum(b.g, gan_mul(b.g, p[1], g[1]), GAN_ALL_AXES));
    gan_minimise(b.g, loss, "some. net.", lr, &rule);
    float *data[2], before[P];
    gan_program *program = NULL;
    const gan_status status = gan_program_create(&program, b.g, "step", &loss, 1);
    CHECK(status == GAN_OK, "%s: %s", what, gan_context_error(b.ctx));
    data[0] = param(&b, "net.a");
    data[1] = param(&b, "net.b");
    memcpy(before, param(&b, "other.c"), sizeof before);
    for (int i = 0; i < 2 * P; i++) {
        want.p[i] = want.ema[i] = (double)data[i / P][i % P];
    }
    for (int step = 0; step < STEPS && status == GAN_OK; step++) {
        float gradients[2 * P];
        gan_random_normal(5, 1, (uint64_t)(step * 2 * P), gradients, 2 * P);
        memcpy(gan_input_data(b.g, g[0]), gradients, P * sizeof(float));
        memcpy(gan_input_data(b.g, g[1]), gradients + P, P * sizeof(float));
        const float rate = 0.05f / (float)(step + 1);
        gan_input_data(b.g, lr)[0] = rate;
        CHECK(gan_program_run(program) == GAN_OK, "%s", gan_context_error(b.ctx));
        reference_step(&want, &rule, gradients, step, (double)rate);
        for (int k = 0; k < 2; k++) {
            check_values(what, data[k], want.p + k * P, P, 30 * EPS);
        }
    }
    if (rule.ema_decay > 0.0f) {
        check_values("average", param(&b, "ema.net.a"), want.ema, P, 30 * EPS);
    }
    CHECK(memcmp(before, param(&b, "other.c"), sizeof before) == 0, "%s: other.c has changed",
          what);
    gan_program_destroy(program);
    bench_close(&b);
}

static void optimisers(void) {
    gan_optimiser rule = gan_sgd(0.0f);
    check_rule("sgd", rule);
    rule.weight_decay = 0.1f;
    check_rule("sgd with decay", rule);
    rule = gan_sgd(0.9f);
    check_rule("sgd with momentum", rule);
    rule.nesterov = 1;
    check_rule("nesterov", rule);
    check_rule("adam", gan_adam(0.5f, 0.999f));
    rule = gan_adam(0.0f, 0.9f);
    rule.weight_decay = 0.01f;
    rule.name = "second";
    check_rule("adam without momentum", rule);
    check_rule("rmsprop", gan_rmsprop(0.99f));
}

static void clipping_and_averages(void) {
    gan_optimiser rule = gan_sgd(0.0f);
    rule.clip_norm = 0.5f;
    check_rule("clip_norm", rule);
    rule.clip_norm = 100.0f;
    check_rule("clip_norm idle", rule);
    rule.clip_norm = 0.0f;
    rule.clip_each_norm = 0.5f;
    check_rule("clip_each_norm", rule);
    rule.clip_each_norm = 100.0f;
    check_rule("clip_each_norm idle", rule);
    rule.clip_each_norm = 0.0f;
    rule.clip_weights = 0.3f;
    check_rule("clip_weights", rule);
    rule.clip_weights = 0.0f;
    rule.ema_decay = 0.9f;
    check_rule("ema", rule);
}

/* The averaged network has weights and buffers, so that it can be used under the scope "ema". */
static void averages_include_buffers(void) {
    bench b = bench_open();
    gan_optimiser rule = gan_sgd(0.0f);
    rule.ema_decay = 0.5f;
    gan_tensor y = gan_layer_batch_norm(b.g, "net.bn", given(&b, "x", gan_shape2(8, 3)), NULL);
    gan_tensor loss = gan_mean(b.g, gan_square(b.g, y), GAN_ALL_AXES);
    gan_minimise(b.g, loss, "net.", gan_constant(b.g, gan_shape0(), 0.1f), &rule);
    gan_program *program = run(&b, &loss, 1);
    for (int i = 0; i < 3; i++) { /* running statistics start at 0 and 1 */
        const double mean = 0.5 * (double)param(&b, "net.bn.running_mean")[i];
        const double var = 0.5 * (1.0 + (double)param(&b, "net.bn.running_var")[i]);
        CHECK(fabs((double)param(&b, "ema.net.bn.running_mean")[i] - mean) < 4 * EPS && mean != 0.0,
              "mean %d is not averaged", i);
        CHECK(fabs((double)param(&b, "ema.net.bn.running_var")[i] - var) < 4 * EPS && var != 1.0,
              "variance %d is not averaged", i);
    }
    const double half = 0.5 * (1.0 + (double)param(&b, "net.bn.weight")[0]);
    CHECK(fabs((double)param(&b, "ema.net.bn.weight")[0] - half) < 4 * EPS, "average");
    gan_graph_push(b.g, "ema");
    gan_graph_set_mode(b.g, GAN_EVALUATE);
    gan_layer_batch_norm(b.g, "net.bn", given(&b, "x2", gan_shape2(8, 3)), NULL);
    CHECK(gan_graph_status(b.g) == GAN_OK, "%s", gan_context_error(b.ctx));
    gan_program_destroy(program);
    bench_close(&b);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(names_shapes_and_initial_values);
    TEST(misfits_name_the_layer);
    TEST(batch_norm_training_and_use);
    TEST(instance_and_layer_norm);
    TEST(embedding_prelu_maxout);
    TEST(dropout_follows_the_mode);
    TEST(lstm_cell);
    TEST(attention_window);
    TEST(losses);
    TEST(gradient_penalty);
    TEST(optimisers);
    TEST(clipping_and_averages);
    TEST(averages_include_buffers);
    return test_end();
}
