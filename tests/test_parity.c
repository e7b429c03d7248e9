/* test_parity.c - gan.h against PyTorch: values, gradients and second derivatives of ops and
 * layers, optimisers, and the first losses of training. tests/fixtures.py wrote the numbers and
 * says what they are called.
 *
 * A case is a row: fixture file, name, and the expression that builds its output "y" from the
 * inputs in(f, "..."). Everything is compared for every instruction set of this machine.
 */
#include "parity.h"

#define MAX_TENSORS 16 /* inputs or outputs of a case */

/* Largest error allowed, relative to the largest magnitude in the tensor: 80 rounding errors. */
#define TOLERANCE 1e-5

/* --- fixtures ------------------------------------------------------------------------------ */

typedef struct named_tensor {
    char name[64]; /* without case and kind: "x" */
    gan_tensor tensor;
} named_tensor;

/* A case while it is built: the graph, the inputs it asked for and the outputs it gave. */
typedef struct fixture {
    gan_checkpoint *file;
    const char *name;
    gan_params *params;
    gan_graph *graph;
    named_tensor inputs[MAX_TENSORS];
    int input_count;
    named_tensor outputs[MAX_TENSORS];
    int output_count;
} fixture;

static void add_named(named_tensor *list, int *count, const char *name, gan_tensor tensor) {
    GAN_ASSERT(*count < MAX_TENSORS);
    snprintf(list[*count].name, sizeof list[*count].name, "%s", name);
    list[(*count)++].tensor = tensor;
}

static stored_tensor stored(const fixture *f, const char *kind, const char *name) {
    return stored_in(f->file, f->name, kind, name);
}

/* An input of the case with its stored values; none if the case has no such input. */
static gan_tensor in(fixture *f, const char *name) {
    gan_tensor tensor = {0};
    const stored_tensor have = stored(f, "in", name);
    if (have.values) {
        tensor = gan_input(f->graph, name, have.shape);
        if (tensor.id) {
            memcpy(gan_input_data(f->graph, tensor), have.values, have.count * sizeof(float));
        }
        add_named(f->inputs, &f->input_count, name, tensor);
    }
    return tensor;
}

/* An output beside "y". */
static void out(fixture *f, const char *name, gan_tensor tensor) {
    add_named(f->outputs, &f->output_count, name, tensor);
}

/* Parameters that layers have made take their stored values and count as inputs. Layers are built
 * in the scope "case.in", so they have the fixtures' names. */
static void adopt_parameters(fixture *f) {
    const gan_init none = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    for (int i = 0; i < gan_params_count(f->params); i++) {
        const gan_param_info info = gan_params_at(f->params, i);
        const char *name = info.name + strlen(f->name) + strlen(".in.");
        const stored_tensor have = stored(f, "in", name);
        CHECK(have.values && have.count == gan_shape_count(info.shape),
              "%s is missing, or has another size", info.name);
        if (have.values && have.count == gan_shape_count(info.shape)) {
            memcpy(info.data, have.values, have.count * sizeof(float));
        }
        add_named(f->inputs, &f->input_count, name,
                  gan_param(f->graph, info.name, info.shape, info.kind, none));
    }
}

/* Sum over the list of sum(tensor * random); the random numbers are those of "case.kind.name". */
static gan_tensor mixed(fixture *f, const char *kind, const named_tensor *list, int count) {
    gan_tensor sum = gan_constant(f->graph, gan_shape0(), 0.0f);
    for (int i = 0; i < count; i++) {
        char full[256];
        gan_shape shape = gan_tensor_shape(f->graph, list[i].tensor);
        snprintf(full, sizeof full, "%s.%s.%s", f->name, kind, list[i].name);
        gan_tensor weights = gan_input(f->graph, full, shape);
        if (!weights.id) {
            return weights;
        }
        fill_random(gan_input_data(f->graph, weights), gan_shape_count(shape), full, 1, -1.5f,
                    1.5f);
        gan_tensor product = gan_mul(f->graph, list[i].tensor, weights);
        sum = gan_add(f->graph, sum, gan_sum(f->graph, product, GAN_ALL_AXES));
    }
    return sum;
}

/* --- comparison ---------------------------------------------------------------------------- */

/* got against want, relative to the largest magnitude in want; where all of want is 0, got must be
 * too. */
static void compare(const char *name, const char *isa, const float *got, const float *want,
                    size_t count, double tolerance) {
    static double exact[MAX_VALUES];
    double largest = 0.0;
    size_t at;
    for (size_t i = 0; i < count; i++) {
        exact[i] = (double)want[i];
        largest = fabs(exact[i]) > largest ? fabs(exact[i]) : largest;
    }
    const double worst = test_max_error(got, exact, count, &at);
    CHECK(worst <= tolerance * largest,
          "%s (%s): [%lu] is %.9g, expected %.9g; error / largest magnitude is %.2g", name, isa,
          (unsigned long)at, (double)got[at], exact[at], worst / largest);
}

/* Compares every tensor of the list, as the program left it, with "case.kind.name". */
static void compare_all(const fixture *f, const gan_program *program, const char *kind,
                        const named_tensor *list, int count, const char *isa) {
    for (int i = 0; i < count; i++) {
        const stored_tensor want = stored(f, kind, list[i].name);
        const float *got = gan_program_output(program, list[i].tensor);
        const int fits = got && want.values &&
                         want.count == gan_shape_count(gan_tensor_shape(f->graph, list[i].tensor));
        CHECK(fits, "%s.%s.%s (%s) is missing, or has another size", f->name, kind, list[i].name,
              isa);
        if (fits) {
            char name[128];
            snprintf(name, sizeof name, "%s.%s", kind, list[i].name);
            compare(name, isa, got, want.values, want.count, TOLERANCE);
        }
    }
}

/* --- running a case ------------------------------------------------------------------------ */

typedef struct case_row {
    const char *file, *name;
    gan_tensor (*build)(fixture *f); /* gives output "y", or none if it called out itself */
} case_row;

/* Runs a program that makes the tensors of the list, and compares them. */
static void run_and_compare(fixture *f, const char *kind, const named_tensor *list, int count,
                            const char *isa) {
    gan_tensor outputs[MAX_TENSORS];
    for (int i = 0; i < count; i++) {
        outputs[i] = list[i].tensor;
    }
    gan_program *program = NULL;
    gan_status status = gan_program_create(&program, f->graph, kind, outputs, count);
    status = status == GAN_OK ? gan_program_run(program) : status;
    CHECK(status == GAN_OK, "%s.%s (%s): %s", f->name, kind, isa, gan_context_error(f->graph->ctx));
    if (status == GAN_OK) {
        compare_all(f, program, kind, list, count, isa);
    }
    gan_program_destroy(program);
}

/* Values that the first program has left in parameters: "case.after.name". */
static void compare_after(const fixture *f, const char *isa) {
    for (int i = 0; i < f->input_count; i++) {
        const stored_tensor want = stored(f, "after", f->inputs[i].name);
        if (want.values) {
            char full[256];
            snprintf(full, sizeof full, "%s.in.%s", f->name, f->inputs[i].name);
            compare(full, isa, gan_params_find(f->params, full).data, want.values, want.count,
                    TOLERANCE);
        }
    }
}

/* Gradients of the scalar in those inputs that have one in the fixture. */
static int gradients(fixture *f, gan_tensor loss, const char *kind, named_tensor *grads) {
    gan_tensor wrt[MAX_TENSORS], result[MAX_TENSORS];
    int count = 0;
    for (int i = 0; i < f->input_count; i++) {
        if (stored(f, kind, f->inputs[i].name).values) {
            wrt[count] = f->inputs[i].tensor;
            add_named(grads, &count, f->inputs[i].name, wrt[count]);
        }
    }
    if (count > 0) {
        gan_status status = gan_grad(f->graph, loss, wrt, count, result);
        CHECK(status == GAN_OK, "%s.%s: %s", f->name, kind, gan_context_error(f->graph->ctx));
    }
    for (int i = 0; i < count; i++) {
        grads[i].tensor = result[i];
    }
    return count;
}

/* The outputs alone, then gradients, then second derivatives: three programs, so that the planner
 * may fuse and share in each what it can. */
static void run_built_case(fixture *f, const case_row *row, const char *isa) {
    named_tensor first[MAX_TENSORS], second[MAX_TENSORS];
    gan_graph_push(f->graph, row->name);
    gan_graph_push(f->graph, "in");
    gan_tensor y = row->build(f);
    gan_graph_pop(f->graph);
    gan_graph_pop(f->graph);
    if (y.id) {
        out(f, "y", y);
    }
    adopt_parameters(f);
    CHECK(gan_graph_status(f->graph) == GAN_OK && f->output_count > 0, "%s (%s) not built: %s",
          row->name, isa, gan_context_error(f->graph->ctx));
    if (gan_graph_status(f->graph) != GAN_OK) {
        return;
    }
    run_and_compare(f, "out", f->outputs, f->output_count, isa);
    compare_after(f, isa);
    int count = gradients(f, mixed(f, "mix", f->outputs, f->output_count), "grad", first);
    if (count > 0 && gan_graph_status(f->graph) == GAN_OK) {
        run_and_compare(f, "grad", first, count, isa);
        count = gradients(f, mixed(f, "mix2", first, count), "grad2", second);
        run_and_compare(f, "grad2", second, count, isa);
    }
}

/* --- the cases ----------------------------------------------------------------------------- */

static gan_tensor permuted(fixture *f) {
    static const int axes[4] = {2, 0, 3, 1};
    return gan_permute(f->graph, in(f, "x"), axes);
}

static gan_tensor concatenated(fixture *f, int axis) {
    gan_tensor parts[3];
    parts[0] = in(f, "a");
    parts[1] = in(f, "b");
    parts[2] = in(f, "c");
    return gan_concat(f->graph, parts, 3, axis);
}

/* Geometry in the order of PyTorch's arguments, both axes alike. */
static gan_conv_desc geometry(int stride, int pad, int out_pad, int groups, int dilation) {
    gan_conv_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.stride_h = desc.stride_w = stride;
    desc.pad_h = desc.pad_w = pad;
    desc.out_pad_h = desc.out_pad_w = out_pad;
    desc.groups = groups;
    desc.dilation_h = desc.dilation_w = dilation;
    return desc;
}

static gan_tensor conv_of(fixture *f, gan_conv_desc desc) {
    gan_tensor x = in(f, "input"), w = in(f, "weight");
    return gan_conv2d(f->graph, x, w, in(f, "bias"), &desc);
}

static gan_tensor deconv_of(fixture *f, gan_conv_desc desc) {
    gan_tensor x = in(f, "input"), w = in(f, "weight");
    return gan_conv2d_transpose(f->graph, x, w, in(f, "bias"), &desc);
}

static gan_tensor rectangular_conv(fixture *f) {
    gan_conv_desc desc = geometry(1, 0, 0, 1, 1);
    desc.stride_h = 2;
    desc.pad_w = 2;
    return conv_of(f, desc);
}

static gan_tensor rectangular_deconv(fixture *f) {
    gan_conv_desc desc = geometry(2, 0, 1, 1, 1);
    desc.stride_h = 3;
    desc.pad_h = 1;
    desc.out_pad_h = 2;
    return deconv_of(f, desc);
}

static gan_tensor reflected_conv(fixture *f) {
    gan_conv_desc desc = geometry(1, 3, 0, 1, 1);
    desc.reflect = 1;
    return conv_of(f, desc);
}

static gan_tensor norm_of(fixture *f, gan_norm_kind kind) {
    gan_tensor x = in(f, "input"), scale = in(f, "weight"), shift = in(f, "bias");
    return gan_normalize(f->graph, x, gan_moments(f->graph, x, kind), scale, shift, kind, 1e-5f);
}

static gan_tensor given_norm(fixture *f) {
    gan_tensor x = in(f, "input"), moments = in(f, "moments"), scale = in(f, "weight"),
               shift = in(f, "bias");
    return gan_normalize(f->graph, x, moments, scale, shift, GAN_NORM_BATCH, 1e-5f);
}

static gan_tensor layer_conv(fixture *f) {
    return gan_layer_conv(f->graph, "conv", in(f, "x"), 5, 3, 2, 1, NULL);
}

static gan_tensor layer_conv_transpose(fixture *f) {
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.no_bias = 1;
    desc.out_pad = 1;
    return gan_layer_conv_transpose(f->graph, "conv", in(f, "x"), 5, 3, 2, 1, &desc);
}

static gan_tensor layer_batch_norm(fixture *f, unsigned mode) {
    gan_graph_set_mode(f->graph, mode);
    return gan_layer_batch_norm(f->graph, "bn", in(f, "x"), NULL);
}

static gan_tensor layer_instance_norm(fixture *f, int affine) {
    gan_norm_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.affine = affine;
    return gan_layer_instance_norm(f->graph, "norm", in(f, "x"), &desc);
}

static gan_tensor layer_lstm(fixture *f) {
    const gan_tensor none = {0};
    gan_tensor x = in(f, "x"), h = in(f, "h"), c = in(f, "c");
    gan_layer_lstm(f->graph, "lstm", x, 5, &h, &c, NULL);
    out(f, "h", h);
    out(f, "c", c);
    return none;
}

static gan_tensor attention(fixture *f, int write) {
    gan_attention window = gan_attention_window(f->graph, in(f, "params"), 3, 5, 6, 1.0f);
    return write ? gan_attention_write(f->graph, &window, in(f, "w"))
                 : gan_attention_read(f->graph, &window, in(f, "x"));
}

static gan_tensor bce_with_targets(fixture *f) {
    return gan_mean(f->graph, gan_bce_logits(f->graph, in(f, "input"), in(f, "target")),
                    GAN_ALL_AXES);
}

static gan_tensor wasserstein(fixture *f) {
    return gan_add(f->graph, gan_loss_wasserstein(f->graph, in(f, "real"), 1),
                   gan_loss_wasserstein(f->graph, in(f, "fake"), 0));
}

static gan_tensor hinge(fixture *f) {
    return gan_add(f->graph, gan_loss_hinge(f->graph, in(f, "real"), 1),
                   gan_loss_hinge(f->graph, in(f, "fake"), 0));
}

/* A multilayer perceptron as critic: tanh, LeakyReLU. */
static gan_tensor penalty_mlp(fixture *f) {
    gan_graph *g = f->graph;
    const gan_tensor none = {0};
    gan_tensor x = in(f, "x");
    gan_tensor y = gan_tanh(g, gan_linear(g, x, in(f, "w0"), in(f, "b0")));
    y = gan_leaky_relu(g, gan_linear(g, y, in(f, "w1"), in(f, "b1")), 0.2f);
    return gan_loss_gradient_penalty(g, gan_linear(g, y, in(f, "w2"), none), x);
}

/* A convolutional critic: stride 2, LeakyReLU, layer norm, sigmoid. */
static gan_tensor penalty_conv(fixture *f) {
    gan_graph *g = f->graph;
    const gan_tensor none = {0};
    const gan_conv_desc half = geometry(2, 1, 0, 1, 1);
    gan_tensor x = in(f, "x"), scale = in(f, "scale"), shift = in(f, "shift");
    gan_tensor y = gan_leaky_relu(g, gan_conv2d(g, x, in(f, "w0"), in(f, "b0"), &half), 0.2f);
    y = gan_conv2d(g, y, in(f, "w1"), none, &half);
    y = gan_normalize(g, y, gan_moments(g, y, GAN_NORM_LAYER), scale, shift, GAN_NORM_LAYER, 1e-5f);
    y = gan_conv2d(g, gan_sigmoid(g, y), in(f, "w2"), none, NULL);
    return gan_loss_gradient_penalty(g, y, x);
}

/* X(file, case, expression with graph g and fixture f) */
/* clang-format off */
#define CASES(X) \
    X(ops, add, gan_add(g, in(f, "input"), in(f, "other"))) \
    X(ops, sub, gan_sub(g, in(f, "input"), in(f, "other"))) \
    X(ops, mul, gan_mul(g, in(f, "input"), in(f, "other"))) \
    X(ops, div, gan_div(g, in(f, "input"), in(f, "other"))) \
    X(ops, maximum, gan_maximum(g, in(f, "input"), in(f, "other"))) \
    X(ops, minimum, gan_minimum(g, in(f, "input"), in(f, "other"))) \
    X(ops, greater, gan_greater(g, in(f, "input"), in(f, "other"))) \
    X(ops, affine, gan_affine(g, in(f, "x"), 0.75f, -1.25f)) \
    X(ops, square, gan_square(g, in(f, "input"))) \
    X(ops, sqrt, gan_sqrt(g, in(f, "input"))) \
    X(ops, rsqrt, gan_rsqrt(g, in(f, "input"))) \
    X(ops, exp, gan_exp(g, in(f, "input"))) \
    X(ops, log, gan_log(g, in(f, "input"))) \
    X(ops, abs, gan_abs(g, in(f, "input"))) \
    X(ops, sign, gan_sign(g, in(f, "input"))) \
    X(ops, softplus, gan_softplus(g, in(f, "input"))) \
    X(ops, softplus_far, gan_softplus(g, in(f, "input"))) \
    X(ops, clamp, gan_clamp(g, in(f, "x"), -0.5f, 0.75f)) \
    X(ops, relu, gan_activate(g, in(f, "input"), GAN_ACT_LEAKY_RELU, 0.0f)) \
    X(ops, leaky_relu, gan_activate(g, in(f, "x"), GAN_ACT_LEAKY_RELU, 0.2f)) \
    X(ops, tanh, gan_activate(g, in(f, "input"), GAN_ACT_TANH, 0.0f)) \
    X(ops, sigmoid, gan_activate(g, in(f, "input"), GAN_ACT_SIGMOID, 0.0f)) \
    X(ops, bce_logits, gan_bce_logits(g, in(f, "x"), in(f, "target"))) \
    X(ops, prelu_shared, gan_prelu(g, in(f, "input"), in(f, "weight"))) \
    X(ops, prelu_channels, gan_prelu(g, in(f, "input"), in(f, "weight"))) \
    X(ops, sum_axes_0_2, gan_sum(g, in(f, "x"), 1u | 4u)) \
    X(ops, sum_all, gan_sum(g, in(f, "input"), GAN_ALL_AXES)) \
    X(ops, mean_axis_1, gan_mean(g, in(f, "x"), 2u)) \
    X(ops, mean_last, gan_mean(g, in(f, "x"), 8u)) \
    X(ops, max_over_2_3, gan_max_over(g, in(f, "x"), 4u | 8u)) \
    X(ops, broadcast, gan_broadcast(g, in(f, "x"), gan_shape3(2, 3, 4))) \
    X(ops, reshape, gan_reshape(g, in(f, "x"), gan_shape2(4, 6))) \
    X(ops, permute, permuted(f)) \
    X(ops, concat, concatenated(f, 1)) \
    X(ops, concat_column, concatenated(f, 2)) \
    X(ops, slice_column, gan_slice(g, in(f, "x"), 1, 1, 1)) \
    X(ops, pad_column, gan_pad(g, in(f, "x"), 1, 2, 1)) \
    X(ops, slice, gan_slice(g, in(f, "x"), 1, 1, 3)) \
    X(ops, pad, gan_pad(g, in(f, "x"), 1, 2, 1)) \
    X(ops, pad_reflect, gan_pad_reflect(g, in(f, "x"), 1, 3)) \
    X(ops, softmax, gan_softmax(g, in(f, "x"))) \
    X(ops, log_softmax, gan_log_softmax(g, in(f, "x"))) \
    X(ops, one_hot, gan_one_hot(g, in(f, "index"), 4)) \
    X(ops, gather_rows, gan_gather_rows(g, in(f, "table"), in(f, "index"))) \
    X(ops, scatter_rows, gan_scatter_rows(g, in(f, "x"), in(f, "index"), 5)) \
    X(ops, matmul, gan_matmul(g, in(f, "input"), in(f, "other"), 0, 0)) \
    X(ops, matmul_ta, gan_matmul(g, in(f, "a"), in(f, "b"), 1, 0)) \
    X(ops, matmul_tb, gan_matmul(g, in(f, "a"), in(f, "b"), 0, 1)) \
    X(ops, matmul_ta_tb, gan_matmul(g, in(f, "a"), in(f, "b"), 1, 1)) \
    X(ops, matmul_shared, gan_matmul(g, in(f, "input"), in(f, "other"), 0, 0)) \
    X(ops, linear, gan_linear(g, in(f, "input"), in(f, "weight"), in(f, "bias"))) \
    X(ops, linear_plain, gan_linear(g, in(f, "input"), in(f, "weight"), in(f, "bias"))) \
    X(ops, avg_pool, gan_avg_pool(g, in(f, "x"), 2, 2, 0, 0)) \
    X(ops, avg_pool_count_pad, gan_avg_pool(g, in(f, "x"), 3, 2, 1, 1)) \
    X(ops, avg_pool_no_count_pad, gan_avg_pool(g, in(f, "x"), 3, 2, 1, 0)) \
    X(ops, max_pool, gan_max_pool(g, in(f, "x"), 2, 2, 0)) \
    X(ops, max_pool_overlap, gan_max_pool(g, in(f, "x"), 3, 2, 1)) \
    X(ops, upsample, gan_upsample(g, in(f, "x"), 2)) \
    X(ops, upsample_3, gan_upsample(g, in(f, "x"), 3)) \
    X(ops, moments_batch, gan_moments(g, in(f, "x"), GAN_NORM_BATCH)) \
    X(ops, moments_instance, gan_moments(g, in(f, "x"), GAN_NORM_INSTANCE)) \
    X(ops, batch_norm, norm_of(f, GAN_NORM_BATCH)) \
    X(ops, batch_norm_vectors, norm_of(f, GAN_NORM_BATCH)) \
    X(ops, batch_norm_plain, norm_of(f, GAN_NORM_BATCH)) \
    X(ops, batch_norm_then_relu, gan_relu(g, norm_of(f, GAN_NORM_BATCH))) \
    X(ops, batch_norm_given, given_norm(f)) \
    X(ops, instance_norm, norm_of(f, GAN_NORM_INSTANCE)) \
    X(ops, instance_norm_plain, norm_of(f, GAN_NORM_INSTANCE)) \
    X(ops, layer_norm, norm_of(f, GAN_NORM_LAYER)) \
    X(ops, layer_norm_plain, norm_of(f, GAN_NORM_LAYER)) \
    X(conv, conv_3x3, conv_of(f, geometry(1, 1, 0, 1, 1))) \
    X(conv, conv_4x4_stride2, conv_of(f, geometry(2, 1, 0, 1, 1))) \
    X(conv, conv_rectangular, rectangular_conv(f)) \
    X(conv, conv_1x1, conv_of(f, geometry(1, 0, 0, 1, 1))) \
    X(conv, conv_dilated, conv_of(f, geometry(1, 2, 0, 1, 2))) \
    X(conv, conv_groups, conv_of(f, geometry(1, 1, 0, 2, 1))) \
    X(conv, conv_depthwise, conv_of(f, geometry(2, 1, 0, 3, 1))) \
    X(conv, conv_to_1x1, conv_of(f, geometry(1, 0, 0, 1, 1))) \
    X(conv, conv_stride_beyond_kernel, conv_of(f, geometry(3, 0, 0, 1, 1))) \
    X(conv, conv_unused_edge, conv_of(f, geometry(2, 0, 0, 1, 1))) \
    X(conv, conv_1_channel_7x7, conv_of(f, geometry(1, 3, 0, 1, 1))) \
    X(conv, conv_reflect_7x7, reflected_conv(f)) \
    X(conv, deconv_4x4_stride2, deconv_of(f, geometry(2, 1, 0, 1, 1))) \
    X(conv, deconv_from_1x1, deconv_of(f, geometry(1, 0, 0, 1, 1))) \
    X(conv, deconv_3x3_out_pad, deconv_of(f, geometry(2, 1, 1, 1, 1))) \
    X(conv, deconv_5x5_out_pad, deconv_of(f, geometry(2, 2, 1, 1, 1))) \
    X(conv, deconv_3x3_stride1, deconv_of(f, geometry(1, 1, 0, 1, 1))) \
    X(conv, deconv_groups, deconv_of(f, geometry(2, 1, 0, 2, 1))) \
    X(conv, deconv_dilated, deconv_of(f, geometry(2, 1, 0, 1, 2))) \
    X(conv, deconv_rectangular, rectangular_deconv(f)) \
    X(layers, layer_linear, gan_layer_linear(g, "fc", in(f, "x"), 5, NULL)) \
    X(layers, layer_conv, layer_conv(f)) \
    X(layers, layer_conv_transpose, layer_conv_transpose(f)) \
    X(layers, layer_batch_norm, layer_batch_norm(f, GAN_TRAIN)) \
    X(layers, layer_batch_norm_eval, layer_batch_norm(f, GAN_EVALUATE)) \
    X(layers, layer_instance_norm, layer_instance_norm(f, 0)) \
    X(layers, layer_instance_norm_affine, layer_instance_norm(f, 1)) \
    X(layers, layer_layer_norm, gan_layer_layer_norm(g, "norm", in(f, "x"), NULL)) \
    X(layers, layer_embedding, gan_layer_embedding(g, "table", in(f, "index"), 4, 3, NULL)) \
    X(layers, layer_prelu, gan_layer_prelu(g, "act", in(f, "x"), 0)) \
    X(layers, layer_maxout, gan_layer_maxout(g, "max", in(f, "x"), 2, 5, NULL)) \
    X(layers, layer_lstm, layer_lstm(f)) \
    X(layers, attention_read, attention(f, 0)) \
    X(layers, attention_write, attention(f, 1)) \
    X(layers, loss_bce_real, gan_loss_bce(g, in(f, "x"), 1.0f)) \
    X(layers, loss_bce, bce_with_targets(f)) \
    X(layers, loss_mse, gan_loss_mse(g, in(f, "input"), in(f, "target"))) \
    X(layers, loss_l1, gan_loss_l1(g, in(f, "input"), in(f, "target"))) \
    X(layers, loss_least_squares, gan_loss_least_squares(g, in(f, "x"), 0.75f)) \
    X(layers, loss_wasserstein, wasserstein(f)) \
    X(layers, loss_hinge, hinge(f)) \
    X(layers, loss_cross_entropy, gan_loss_cross_entropy(g, in(f, "input"), in(f, "target"))) \
    X(layers, loss_gaussian_nll, \
      gan_loss_gaussian_nll(g, in(f, "target"), in(f, "mean"), in(f, "log_var"))) \
    X(layers, loss_kl, gan_loss_kl_normal(g, in(f, "mean"), in(f, "log_var"))) \
    X(layers, penalty_mlp, penalty_mlp(f)) \
    X(layers, penalty_conv, penalty_conv(f))
/* clang-format on */

#define CASE_FUNCTION(file, name, expression)    \
    static gan_tensor build_##name(fixture *f) { \
        gan_graph *g = f->graph;                 \
        (void)g;                                 \
        return expression;                       \
    }
CASES(CASE_FUNCTION)

static const case_row case_rows[] = {
#define CASE_ROW(file, name, expression) {#file, #name, build_##name},
    CASES(CASE_ROW)};
#define CASE_COUNT (sizeof case_rows / sizeof case_rows[0])

/* --- all cases ----------------------------------------------------------------------------- */

static const case_row *current_row;

static void run_row_in(gan_context *ctx) {
    fixture f;
    memset(&f, 0, sizeof f);
    f.name = current_row->name;
    f.file = open_fixtures(ctx, current_row->file);
    CHECK(gan_params_create(&f.params, ctx, 1) == GAN_OK, "no parameters");
    CHECK(gan_graph_create(&f.graph, ctx, f.params) == GAN_OK, "no graph");
    if (f.file) {
        run_built_case(&f, current_row, gan_context_isa(ctx));
    }
    gan_graph_destroy(f.graph);
    gan_params_destroy(f.params);
    gan_checkpoint_close(f.file);
}

static void run_row(void) {
    for_each_isa(run_row_in);
}

/* Every output in the files belongs to a row, so that no fixture is forgotten. */
static void check_rows(void) {
    static const char *const names[] = {"ops", "conv", "layers"};
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, NULL) == GAN_OK, "no context");
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        gan_checkpoint *file = open_fixtures(ctx, names[n]);
        for (int i = 0; file && i < gan_checkpoint_count(file); i++) {
            const char *name = gan_checkpoint_at(file, i).name, *dot = strstr(name, ".out.");
            size_t row = 0;
            while (row < CASE_COUNT && dot &&
                   (strncmp(case_rows[row].name, name, (size_t)(dot - name)) != 0 ||
                    case_rows[row].name[dot - name] != 0)) {
                row++;
            }
            CHECK(row < CASE_COUNT, "no row for %s of %s", name, names[n]);
        }
        gan_checkpoint_close(file);
    }
    gan_context_destroy(ctx);
}

/* --- optimisers ---------------------------------------------------------------------------- */

typedef struct optimiser_row {
    const char *name;
    float lr;
    gan_optimiser optimiser;
} optimiser_row;

static optimiser_row current_optimiser;

/* Parameters a and b, gradients given as inputs: the loss is sum(a * step.a) + sum(b * step.b). */
typedef struct optimiser_run {
    fixture f;
    gan_program *program;
    float *gradient[2]; /* inputs for one step */
} optimiser_run;

static const char *const optimiser_params[] = {"a", "b"};

static void build_optimiser(optimiser_run *run) {
    const gan_init none = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_graph *g = run->f.graph;
    gan_tensor loss = gan_constant(g, gan_shape0(), 0.0f);
    for (int k = 0; k < 2; k++) {
        char name[16];
        const stored_tensor start = stored(&run->f, "in", optimiser_params[k]);
        gan_tensor param = gan_param(g, optimiser_params[k], start.shape, GAN_PARAM_WEIGHT, none);
        snprintf(name, sizeof name, "step.%s", optimiser_params[k]);
        gan_tensor gradient = gan_input(g, name, start.shape);
        run->gradient[k] = gan_input_data(g, gradient);
        memcpy(gan_params_find(run->f.params, optimiser_params[k]).data, start.values,
               start.count * sizeof(float));
        loss = gan_add(g, loss, gan_sum(g, gan_mul(g, param, gradient), GAN_ALL_AXES));
    }
    gan_minimise(g, loss, "", gan_constant(g, gan_shape0(), current_optimiser.lr),
                 &current_optimiser.optimiser);
    CHECK(gan_program_create(&run->program, g, "step", &loss, 1) == GAN_OK, "%s",
          gan_context_error(g->ctx));
}

/* Compares a parameter, or its average, with row `step` of "case.out.NAME" [5,...]. Neither or both
 * must exist. */
static void compare_step(const optimiser_run *run, const char *name, int step, const char *isa) {
    char label[64];
    const gan_param_info got = gan_params_find(run->f.params, name);
    const stored_tensor want = stored(&run->f, "out", name);
    const size_t count = gan_shape_count(got.shape);
    snprintf(label, sizeof label, "%s after step %d", name, step + 1);
    CHECK((got.data != NULL) == (want.values != NULL), "%s: stored %d, kept %d", label,
          want.values != NULL, got.data != NULL);
    if (got.data && want.values) {
        compare(label, isa, got.data, want.values + (size_t)step * count, count, TOLERANCE);
    }
}

static void run_optimiser_in(gan_context *ctx) {
    optimiser_run run;
    memset(&run, 0, sizeof run);
    run.f.name = current_optimiser.name;
    run.f.file = open_fixtures(ctx, "optimisers");
    CHECK(gan_params_create(&run.f.params, ctx, 1) == GAN_OK, "no parameters");
    CHECK(gan_graph_create(&run.f.graph, ctx, run.f.params) == GAN_OK, "no graph");
    if (run.f.file) {
        build_optimiser(&run);
    }
    for (int step = 0; step < 5 && run.program; step++) {
        for (int k = 0; k < 2; k++) {
            const stored_tensor steps = stored(&run.f, "step", optimiser_params[k]);
            memcpy(run.gradient[k], steps.values + (size_t)step * steps.count / 5,
                   steps.count / 5 * sizeof(float));
        }
        CHECK(gan_program_run(run.program) == GAN_OK, "%s", gan_context_error(ctx));
        compare_step(&run, "a", step, gan_context_isa(ctx));
        compare_step(&run, "b", step, gan_context_isa(ctx));
        compare_step(&run, "ema.a", step, gan_context_isa(ctx));
        compare_step(&run, "ema.b", step, gan_context_isa(ctx));
    }
    gan_program_destroy(run.program);
    gan_graph_destroy(run.f.graph);
    gan_params_destroy(run.f.params);
    gan_checkpoint_close(run.f.file);
}

static void run_optimiser(void) {
    for_each_isa(run_optimiser_in);
}

/* X(case, learning rate, rule, fields of it that are changed) */
#define OPTIMISERS(X)                                                    \
    X(adam, 2e-4f, gan_adam(0.5f, 0.999f), (void)o)                      \
    X(adam_large, 0.1f, gan_adam(0.9f, 0.99f), o->eps = 1e-3f)           \
    X(adam_decay, 1e-2f, gan_adam(0.9f, 0.999f), o->weight_decay = 0.1f) \
    X(adam_average, 0.1f, gan_adam(0.9f, 0.999f), o->ema_decay = 0.75f)  \
    X(sgd, 0.1f, gan_sgd(0.0f), (void)o)                                 \
    X(sgd_momentum, 0.1f, gan_sgd(0.9f), (void)o)                        \
    X(sgd_nesterov, 0.1f, gan_sgd(0.9f), o->nesterov = 1)                \
    X(sgd_decay, 0.1f, gan_sgd(0.5f), o->weight_decay = 0.1f)            \
    X(sgd_clip_norm, 0.1f, gan_sgd(0.0f), o->clip_norm = 0.5f)           \
    X(sgd_clip_norm_idle, 0.1f, gan_sgd(0.0f), o->clip_norm = 100.0f)    \
    X(sgd_clip_each, 0.1f, gan_sgd(0.0f), o->clip_each_norm = 1.5f)      \
    X(rmsprop, 1e-2f, gan_rmsprop(0.99f), (void)o)                       \
    X(rmsprop_wgan, 5e-5f, gan_rmsprop(0.99f), o->clip_weights = 0.5f)

static void run_optimisers(void) {
    gan_optimiser *const o = &current_optimiser.optimiser;
#define OPTIMISER_RUN(title, rate, rule, change) \
    current_optimiser.name = #title;             \
    current_optimiser.lr = rate;                 \
    *o = rule;                                   \
    change;                                      \
    test_run("optimiser_" #title, run_optimiser);
    OPTIMISERS(OPTIMISER_RUN)
}

/* --- training ------------------------------------------------------------------------------ */

static const training_row training_rows[] = {
    {"training", "gan", "gan", "", NULL, 28, 1, 8, 2, NULL},
    {"training", "dcgan_32", "dcgan", "ngf=16 ndf=16", NULL, 32, 3, 4, 29, NULL},
    {"training", "dcgan_28", "dcgan", "z=50 ngf=8 ndf=12", NULL, 28, 1, 5, 2, NULL},
    {"training", "lsgan", "lsgan", "z=50 ngf=8 ndf=12 a=-1 b=1 c=0", NULL, 28, 1, 5, 1, NULL},
    {"training", "lsgan_mlp", "lsgan", "network=mlp", NULL, 28, 1, 8, 1, NULL},
    {"training", "wgan", "wgan", "z=50 ngf=8 ndf=12 n-critic=3", NULL, 28, 1, 5, 1, NULL},
    {"training", "wgan_mlp", "wgan", "network=mlp", NULL, 28, 1, 8, 3, NULL},
    {"training", "wgan_gp", "wgan-gp", "z=50 ngf=8 ndf=12 n-critic=3", NULL, 28, 1, 5, 1, NULL},
    {"training", "cgan", "cgan", "dropout=0", NULL, 28, 1, 8, 2, NULL},
    {"training", "cgan_conv", "cgan", "network=dcgan loss=bce z=50 ngf=8 ndf=12", NULL, 28, 1, 5, 1,
     NULL},
    {"training", "acgan", "acgan", "dropout=0 z=50 ngf=12 ndf=6", NULL, 16, 3, 6, 4, NULL},
    {"training", "acgan_k1", "acgan", "dropout=0 z=50 ngf=12 ndf=6 aux=k+1", NULL, 16, 3, 6, 2,
     NULL},
    {"training", "acgan_conv", "acgan", "network=dcgan aux-fake=0.25 z=50 ngf=8 ndf=12", NULL, 28,
     1, 5, 3, NULL},
};

int main(int argc, char **argv) {
    test_begin(argc, argv);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        current_row = &case_rows[i];
        test_run(current_row->name, run_row);
    }
    TEST(check_rows);
    run_optimisers();
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    return test_end();
}
