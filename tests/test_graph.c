/* Tests of >>nodes, >>graph and >>planner: parameters, gradients, what a program shares, fuses and
 * drops, its memory. */
#include "test.h"

/* --- helpers ------------------------------------------------------------------ */

/* A context, a store and a graph over a counting allocator. */
typedef struct world {
    counting memory;
    gan_context *ctx;
    gan_params *params;
    gan_graph *graph;
} world;

/* Zero-fills desc's unused part; desc may be NULL. Returns the first status that is not GAN_OK. */
static gan_status world_open_with(world *w, const gan_context_desc *desc, int fail_at) {
    gan_context_desc d;
    memset(&d, 0, sizeof d);
    memset(w, 0, sizeof *w);
    if (desc) {
        d = *desc;
    }
    w->memory.fail_at = fail_at;
    d.allocator.alloc = counting_alloc;
    d.allocator.free = counting_free;
    d.allocator.user = &w->memory;
    gan_status status = gan_context_create(&w->ctx, &d);
    if (status == GAN_OK) {
        status = gan_params_create(&w->params, w->ctx, 7);
    }
    if (status == GAN_OK) {
        status = gan_graph_create(&w->graph, w->ctx, w->params);
    }
    return status;
}

static void world_open(world *w) {
    gan_status status = world_open_with(w, NULL, 0);
    CHECK(status == GAN_OK, "status %d", (int)status);
}

static void world_close(world *w) {
    gan_graph_destroy(w->graph);
    gan_params_destroy(w->params);
    gan_context_destroy(w->ctx);
    CHECK(w->memory.live == 0, "%d blocks leaked", w->memory.live);
}

static gan_tensor weight(gan_graph *g, const char *name, int rows, int columns) {
    gan_init init;
    init.kind = GAN_INIT_NORMAL;
    init.a = 0.0f;
    init.b = 0.5f;
    return gan_param(g, name, gan_shape2(rows, columns), GAN_PARAM_WEIGHT, init);
}

static gan_tensor total(gan_graph *g, gan_tensor x) {
    return gan_sum(g, x, GAN_ALL_AXES);
}

static gan_program *program_of(gan_graph *g, const gan_tensor *outputs, int count) {
    gan_program *program = NULL;
    gan_status status = gan_program_create(&program, g, "test", outputs, count);
    CHECK(status == GAN_OK, "%s", gan_context_error(g->ctx));
    return program;
}

static void run_ok(gan_program *program) {
    if (program) {
        gan_status status = gan_program_run(program);
        CHECK(status == GAN_OK, "%s", gan_context_error(program->graph->ctx));
    }
}

/* The first element of an output; NaN if there is none. */
static double scalar(const gan_program *program, gan_tensor output) {
    const float *data = program ? gan_program_output(program, output) : NULL;
    return data ? (double)data[0] : (double)NAN;
}

/* Steps of the program that run the named op. */
static int count_op(const gan_program *program, const char *name) {
    int count = 0;
    for (int i = 0; i < program->step_count; i++) {
        count += strcmp(program->graph->ops[program->steps[i].node.op].name, name) == 0;
    }
    return count;
}

static void fill(float *data, size_t count, uint64_t seed) {
    gan_random_normal(seed, 99, 0, data, count);
}

/* --- leaves, scopes, parameters ------------------------------------------------ */

static void shapes(void) {
    gan_shape s = gan_shape4(2, 3, 5, 7);
    CHECK(gan_shape_count(s) == 210 && s.rank == 4 && s.dim[3] == 7 && s.dim[4] == 0, "count %lu",
          (unsigned long)gan_shape_count(s));
    CHECK(gan_shape_count(gan_shape0()) == 1, "scalar");
    CHECK(gan_shape_count(gan_shape2(3, 0)) == 0, "empty");
    CHECK(gan_shape_count(gan_shape2(3, -1)) == 0, "negative");
    CHECK(gan_shape_count(gan_shape4(INT_MAX, INT_MAX, INT_MAX, 2)) == 0, "overflow");
    CHECK(gan_shape_count(gan_shape2(65536, 32767)) == 65536u * 32767u, "largest");
    CHECK(gan_shape_count(gan_shape2(65536, 32768)) == 0, "2^31 elements");
    s.rank = GAN_MAX_RANK + 1;
    CHECK(gan_shape_count(s) == 0, "rank");
    s.rank = -1;
    CHECK(gan_shape_count(s) == 0, "rank -1");
}

static void parameter_store(void) {
    world a, b;
    gan_init init = {GAN_INIT_UNIFORM, -2.0f, 3.0f};
    world_open(&a);
    world_open(&b);
    gan_graph_push(a.graph, "d");
    gan_graph_push(a.graph, "main.0");
    gan_tensor w = weight(a.graph, "weight", 3, 4);
    gan_graph_pop(a.graph);
    gan_tensor u = gan_param(a.graph, "u", gan_shape1(1000), GAN_PARAM_BUFFER, init);
    gan_graph_pop(a.graph);
    CHECK(strcmp(gan_params_at(a.params, 0).name, "d.main.0.weight") == 0, "%s",
          gan_params_at(a.params, 0).name);
    CHECK(strcmp(gan_params_at(a.params, 1).name, "d.u") == 0, "%s",
          gan_params_at(a.params, 1).name);
    CHECK(gan_params_at(a.params, 2).data == NULL && gan_params_at(a.params, -1).data == NULL,
          "past the end");
    CHECK(gan_params_find(a.params, "d.v").data == NULL, "no such name");
    CHECK(gan_params_find(b.params, "d.u").data == NULL, "empty store");
    gan_param_info info = gan_params_find(a.params, "d.u");
    CHECK(info.kind == GAN_PARAM_BUFFER && info.shape.dim[0] == 1000 && u.id != w.id, "info");
    float low = 9.0f, high = -9.0f;
    for (int i = 0; i < 1000; i++) {
        low = info.data[i] < low ? info.data[i] : low;
        high = info.data[i] > high ? info.data[i] : high;
    }
    CHECK(low >= -2.0f && low < -1.9f && high < 3.0f && high > 2.9f, "range %g %g", (double)low,
          (double)high);
    /* The same name is the same tensor, and the order of creation does not matter to the values. */
    CHECK(weight(a.graph, "d.main.0.weight", 3, 4).id == w.id, "same name");
    weight(b.graph, "d.main.0.weight", 3, 4);
    CHECK(memcmp(gan_params_at(b.params, 0).data, gan_params_at(a.params, 0).data, 48) == 0,
          "values from the name");
    gan_params_set_step(a.params, 12);
    CHECK(gan_params_step(a.params) == 12 && gan_params_seed(a.params) == 7 &&
              gan_params_count(a.params) == 2,
          "counters");
    world_close(&a);
    world_close(&b);
}

static void parameter_store_is_large(void) {
    world a;
    float *first;
    world_open(&a);
    weight(a.graph, "first", 1, 1);
    first = gan_params_at(a.params, 0).data;
    for (int i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer.%d.weight", i);
        weight(a.graph, name, 1, 1);
    }
    int wrong = 0;
    for (int i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer.%d.weight", i);
        wrong += gani_params_index(a.params, name) != i + 1;
    }
    CHECK(wrong == 0, "%d names not found", wrong);
    CHECK(gan_params_find(a.params, "first").data == first, "data must not move");
    world_close(&a);
}

static void check_error(world *w, gan_status want, const char *part) {
    CHECK(gan_graph_status(w->graph) == want, "status %d", (int)gan_graph_status(w->graph));
    CHECK(strstr(gan_context_error(w->ctx), part), "message \"%s\" lacks \"%s\"",
          gan_context_error(w->ctx), part);
}

static void errors_stick_and_name_the_layer(void) {
    world w;
    gan_program *program = NULL;
    gan_tensor none = {0}, grad;
    world_open(&w);
    gan_graph_push(w.graph, "discriminator");
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(2, 3));
    gan_tensor bad = gan_matmul(w.graph, x, x, 0, 0);
    gan_graph_pop(w.graph);
    CHECK(bad.id == 0, "failed call");
    check_error(&w, GAN_ERR_SHAPE, "discriminator (matmul)");
    CHECK(gan_tensor_shape(w.graph, bad).rank == -1, "shape of none");
    CHECK(gan_add(w.graph, x, x).id == 0 && gan_input(w.graph, "y", gan_shape1(1)).id == 0,
          "later calls do nothing");
    gani_error(w.ctx, GAN_ERR_FILE, "something else");
    CHECK(gan_grad(w.graph, x, &x, 1, &grad) == GAN_ERR_SHAPE && grad.id == 0, "gradient");
    CHECK(gan_program_create(&program, w.graph, "p", &x, 1) == GAN_ERR_SHAPE && !program,
          "program");
    check_error(&w, GAN_ERR_SHAPE, "discriminator (matmul)");
    world_close(&w);

    world_open(&w);
    weight(w.graph, "w", 2, 3);
    weight(w.graph, "w", 3, 2);
    check_error(&w, GAN_ERR_SHAPE, "parameter \"w\" exists with shape [2,3], asked for is [3,2]");
    world_close(&w);

    world_open(&w);
    gan_init zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    weight(w.graph, "w", 2, 3);
    gan_param(w.graph, "w", gan_shape2(2, 3), GAN_PARAM_STATE, zero);
    check_error(&w, GAN_ERR_ARGUMENT, "parameter \"w\" exists as another kind");
    world_close(&w);

    world_open(&w);
    gan_input(w.graph, "z", gan_shape2(0, 3));
    check_error(&w, GAN_ERR_SHAPE, "z: shape [0,3]");
    world_close(&w);

    world_open(&w);
    x = gan_input(w.graph, "x", gan_shape1(1));
    gan_add(w.graph, x, none);
    check_error(&w, GAN_ERR_ARGUMENT, "add: source 1");
    world_close(&w);

    world_open(&w);
    gan_graph_pop(w.graph);
    check_error(&w, GAN_ERR_STATE, "no scope is open");
    world_close(&w);

    world_open(&w);
    for (int i = 0; i < GANI_MAX_SCOPES; i++) {
        gan_graph_push(w.graph, "deep");
    }
    check_error(&w, GAN_ERR_LIMIT, "scope");
    for (int i = 0; i < GANI_MAX_SCOPES; i++) {
        gan_graph_pop(w.graph);
    }
    check_error(&w, GAN_ERR_LIMIT, "scope");
    world_close(&w);

    world_open(&w);
    x = gan_input(w.graph, "x", gan_shape2(2, 3));
    gan_matmul(w.graph, x, x, 0, 0);
    for (int i = 0; i < 2 * GANI_MAX_SCOPES; i++) { /* building goes on, unaware */
        gan_graph_push(w.graph, "layer");
        gan_graph_pop(w.graph);
    }
    CHECK(strncmp(gan_context_error(w.ctx), "matmul: ", 8) == 0, "%s", gan_context_error(w.ctx));
    world_close(&w);

    world_open(&w);
    char longer[GANI_MAX_NAME + 1];
    memset(longer, 'a', sizeof longer);
    longer[GANI_MAX_NAME] = '\0';
    weight(w.graph, longer, 1, 1);
    check_error(&w, GAN_ERR_LIMIT, "longer than");
    world_close(&w);

    world_open(&w);
    x = gan_input(w.graph, "x", gan_shape2(2, 3));
    CHECK(gan_grad(w.graph, x, &x, 1, &grad) == GAN_ERR_SHAPE, "loss of six elements");
    check_error(&w, GAN_ERR_SHAPE, "loss has shape [2,3], expected one element");
    world_close(&w);

    world_open(&w);
    x = gan_input(w.graph, "x", gan_shape2(2, 3));
    CHECK(gan_program_create(&program, w.graph, "step", &none, 1) == GAN_ERR_ARGUMENT && !program,
          "no output");
    CHECK(strstr(gan_context_error(w.ctx), "step: output 0"), "%s", gan_context_error(w.ctx));
    CHECK(gan_graph_status(w.graph) == GAN_OK, "the graph itself is sound");
    CHECK(gan_input_data(w.graph, x) && !gan_input_data(w.graph, none), "input data");
    world_close(&w);
}

/* --- gradients ------------------------------------------------------------------- */

/* d(loss)/d(data[i]) by central differences with one Richardson step: error O(h^4), rounding about
 * 2 * eps * |loss| / h. */
static double slope_at(gan_program *program, gan_tensor loss, float *data, size_t i) {
    const float h = 0.0625f, at = data[i];
    double f[4];
    const float step[4] = {h, -h, 2.0f * h, -2.0f * h};
    for (int k = 0; k < 4; k++) {
        data[i] = at + step[k];
        run_ok(program);
        f[k] = scalar(program, loss);
    }
    data[i] = at;
    return (8.0 * (f[0] - f[1]) - (f[2] - f[3])) / (12.0 * (double)h);
}

/* Compares gradient (an output with one element for each of data) with the slopes of loss. */
static void check_gradient(gan_program *program, gan_tensor loss, gan_tensor gradient, float *data,
                           size_t count) {
    double got[256];
    run_ok(program);
    const float *values = gan_program_output(program, gradient);
    CHECK(values && count <= 256, "gradient is an output");
    for (size_t i = 0; i < count && values; i++) {
        got[i] = (double)values[i];
    }
    for (size_t i = 0; i < count && values; i++) {
        const double want = slope_at(program, loss, data, i);
        CHECK(fabs(got[i] - want) <= 2e-4 * (1.0 + fabs(want)), "element %d: %g, slope %g", (int)i,
              got[i], want);
    }
}

/* Two layers with a weight used twice. x [3,4], a [4,4]: sum(tanh(sigmoid(x a) a + x)^2). */
static gan_tensor shared_network(gan_graph *g, gan_tensor x, gan_tensor a) {
    gan_tensor h = gan_activate(g, gan_matmul(g, x, a, 0, 0), GAN_ACT_SIGMOID, 0.0f);
    gan_tensor y = gan_activate(g, gan_add(g, gan_matmul(g, h, a, 0, 0), x), GAN_ACT_TANH, 0.0f);
    return total(g, gan_mul(g, y, y));
}

static void gradients_with_shared_parameter(void) {
    world w;
    gan_tensor wrt[4], grads[4], outputs[5];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(3, 4));
    gan_tensor a = weight(w.graph, "a", 4, 4), unused = weight(w.graph, "unused", 2, 2);
    outputs[0] = shared_network(w.graph, x, a);
    wrt[0] = a;
    wrt[1] = x;
    wrt[2] = unused;
    wrt[3] = outputs[0];
    CHECK(gan_grad(w.graph, outputs[0], wrt, 4, grads) == GAN_OK, "%s", gan_context_error(w.ctx));
    memcpy(outputs + 1, grads, sizeof grads);
    fill(gan_input_data(w.graph, x), 12, 1);
    gan_program *program = program_of(w.graph, outputs, 5);
    check_gradient(program, outputs[0], grads[0], gan_params_find(w.params, "a").data, 16);
    check_gradient(program, outputs[0], grads[1], gan_input_data(w.graph, x), 12);
    run_ok(program);
    CHECK(scalar(program, grads[3]) == 1.0, "d loss / d loss");
    for (int i = 0; i < 4; i++) {
        CHECK(gan_program_output(program, grads[2])[i] == 0.0f, "independent parameter");
    }
    gan_program_destroy(program);
    world_close(&w);
}

static int ops_called(const gan_program *program, int op) {
    int count = 0;
    for (int i = 0; i < program->step_count; i++) {
        count += program->steps[i].node.op == op;
    }
    return count;
}

/* A layer used in three steps: one product gives the gradient of its weight. Slices that together
 * are all of a tensor: their gradients are joined; others, which overlap, are padded and added. */
static void gradients_are_joined(void) {
    world w;
    gan_tensor grads[2], outputs[3];
    world_open(&w);
    const gan_tensor none = {0};
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(2, 12)), a = weight(w.graph, "a", 12, 12);
    gan_tensor h = x;
    for (int t = 0; t < 3; t++) {
        h = gan_tanh(w.graph, gan_linear(w.graph, h, a, none));
    }
    gan_tensor loss = gan_constant(w.graph, gan_shape0(), 0.0f);
    static const int slices[][2] = {{0, 3}, {3, 4}, {7, 5}};
    for (int i = 0; i < 3; i++) {
        gan_tensor part = gan_slice(w.graph, h, 1, slices[i][0], slices[i][1]);
        gan_tensor other = gan_slice(w.graph, x, 1, slices[i][0] / 2, 4);
        part = gan_affine(w.graph, gan_square(w.graph, part), 0.125f * (float)(i + 1), 0.0f);
        loss = gan_add(w.graph, loss, total(w.graph, part));
        other = gan_affine(w.graph, gan_square(w.graph, other), 0.0625f, 0.0f);
        loss = gan_add(w.graph, loss, total(w.graph, other));
    }
    outputs[0] = loss;
    const gan_tensor wrt[] = {a, x};
    CHECK(gan_grad(w.graph, loss, wrt, 2, grads) == GAN_OK, "%s", gan_context_error(w.ctx));
    memcpy(outputs + 1, grads, sizeof grads);
    fill(gan_input_data(w.graph, x), 24, 1);
    float *data = gan_params_find(w.params, "a").data;
    for (int i = 0; i < 144; i++) {
        data[i] *= 0.25f; /* not so large that tanh is flat */
    }
    gan_program *program = program_of(w.graph, outputs, 3);
    check_gradient(program, loss, grads[0], data, 144);
    check_gradient(program, loss, grads[1], gan_input_data(w.graph, x), 24);
    CHECK(ops_called(program, GANI_OP_MATMUL) == 4, "%d products: one, and three in x",
          ops_called(program, GANI_OP_MATMUL));
    CHECK(ops_called(program, GANI_OP_PAD) == 3, "%d padded: those of x",
          ops_called(program, GANI_OP_PAD));
    gan_program_destroy(program);
    world_close(&w);
}

/* The gradient in an intermediate tensor, and through it in what lies before. */
static void gradient_in_intermediate(void) {
    world w;
    gan_tensor wrt[2], grads[2], outputs[3];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(2, 3));
    gan_tensor h = gan_affine(w.graph, gan_mul(w.graph, x, x), 0.5f, 0.0f); /* x^2/2, dh/dx = x */
    outputs[0] = total(w.graph, gan_mul(w.graph, h, h)); /* d/dh = 2h = x^2, d/dx = x^3 */
    wrt[0] = h;
    wrt[1] = x;
    gan_grad(w.graph, outputs[0], wrt, 2, grads);
    memcpy(outputs + 1, grads, sizeof grads);
    fill(gan_input_data(w.graph, x), 6, 2);
    gan_program *program = program_of(w.graph, outputs, 3);
    run_ok(program);
    for (int i = 0; i < 6; i++) {
        const double v = (double)gan_input_data(w.graph, x)[i];
        const double dh = (double)gan_program_output(program, grads[0])[i],
                     dx = (double)gan_program_output(program, grads[1])[i];
        CHECK(fabs(dh - v * v) <= 1e-6 * v * v && fabs(dx - v * v * v) <= 1e-6 * fabs(v * v * v),
              "%g %g at %g", dh, dx, v);
    }
    gan_program_destroy(program);
    world_close(&w);
}

/* A gradient penalty as WGAN-GP's: sum of squares of the gradient in x, differentiated in the
 * weight. */
static void second_derivatives(void) {
    world w;
    gan_tensor dx, da, outputs[2];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(3, 4)), a = weight(w.graph, "a", 4, 4);
    gan_tensor loss = shared_network(w.graph, x, a);
    gan_grad(w.graph, loss, &x, 1, &dx);
    outputs[0] = total(w.graph, gan_mul(w.graph, dx, dx));
    gan_grad(w.graph, outputs[0], &a, 1, &da);
    outputs[1] = da;
    fill(gan_input_data(w.graph, x), 12, 3);
    gan_program *program = program_of(w.graph, outputs, 2);
    check_gradient(program, outputs[0], da, gan_params_find(w.params, "a").data, 16);
    gan_program_destroy(program);
    world_close(&w);
}

static void detach_stops_gradients(void) {
    world w;
    gan_tensor da[2], outputs[3];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(2, 2)), a = weight(w.graph, "a", 2, 2);
    gan_tensor h = gan_matmul(w.graph, x, a, 0, 0);
    outputs[0] = total(
        w.graph, gan_mul(w.graph, gan_detach(w.graph, h), h)); /* gradient of a constant times h */
    gan_tensor half = gan_affine(w.graph, total(w.graph, gan_mul(w.graph, h, h)), 0.5f, 0.0f);
    gan_grad(w.graph, outputs[0], &a, 1, &da[0]);
    gan_grad(w.graph, half, &a, 1, &da[1]);
    outputs[1] = da[0];
    outputs[2] = da[1];
    fill(gan_input_data(w.graph, x), 4, 4);
    gan_program *program = program_of(w.graph, outputs, 3);
    run_ok(program);
    for (int i = 0; i < 4; i++) {
        const double one = (double)gan_program_output(program, da[0])[i],
                     two = (double)gan_program_output(program, da[1])[i];
        CHECK(fabs(one - two) <= 1e-5 * (1.0 + fabs(two)), "%g %g", one, two);
    }
    gan_program_destroy(program);
    world_close(&w);
}

/* A gradient must not be taken after the parameter it would read has been written. */
static void gradient_after_write_is_refused(void) {
    world w;
    gan_tensor dx, da;
    gan_program *program;
    world_open(&w);
    gan_graph_push(w.graph, "net");
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(2, 2)), a = weight(w.graph, "a", 2, 2),
               b = weight(w.graph, "b", 2, 2);
    gan_tensor h = gan_matmul(w.graph, x, a, 0, 0), loss = total(w.graph, gan_mul(w.graph, h, h));
    gan_graph_pop(w.graph);
    gan_grad(w.graph, loss, &a, 1, &da);
    gan_assign_lerp(w.graph, b, da, 0.1f); /* another parameter: no harm */
    CHECK(gan_grad(w.graph, loss, &x, 1, &dx) == GAN_OK, "%s", gan_context_error(w.ctx));
    gan_assign_lerp(w.graph, a, da, 0.1f);
    program = program_of(
        w.graph, &loss, 1); /* the effects belong to this program; in the next one a is unwritten */
    CHECK(gan_grad(w.graph, loss, &x, 1, &dx) == GAN_OK, "%s", gan_context_error(w.ctx));
    gan_assign_lerp(w.graph, a, da, 0.1f);
    gan_tensor again =
        total(w.graph, gan_matmul(w.graph, x, a, 0, 0)); /* a new use, after the write */
    CHECK(gan_grad(w.graph, again, &x, 1, &dx) == GAN_OK, "%s", gan_context_error(w.ctx));
    CHECK(gan_grad(w.graph, loss, &x, 1, &dx) == GAN_ERR_STATE && dx.id == 0, "written in between");
    check_error(&w, GAN_ERR_STATE, "parameter \"net.a\" is written between net (matmul)");
    gan_program_destroy(program);
    world_close(&w);
}

/* --- sharing, dead code, fusion ------------------------------------------------- */

/* D(x) = leaky(x a') b', with an activation that can move into the first product. */
static gan_tensor critic(gan_graph *g, gan_tensor x) {
    gan_graph_push(g, "d");
    gan_tensor none = {0};
    gan_tensor h =
        gan_activate(g, gan_linear(g, x, weight(g, "a", 8, 4), none), GAN_ACT_LEAKY_RELU, 0.2f);
    gan_tensor y = gan_linear(g, h, weight(g, "b", 1, 8), none);
    gan_graph_pop(g);
    return y;
}

static void equal_passes_are_shared(void) {
    world w;
    gan_tensor outputs[2];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(3, 4));
    gan_tensor none = {0}, fake = gan_linear(w.graph, x, weight(w.graph, "g", 4, 4), none);
    outputs[0] = critic(w.graph, fake);
    outputs[1] = critic(w.graph, gan_detach(w.graph, fake)); /* the same values */
    gan_program *program = program_of(w.graph, outputs, 2);
    CHECK(count_op(program, "linear") == 3 && gan_program_get_info(program).ops == 3,
          "%d products, %d ops", count_op(program, "linear"), gan_program_get_info(program).ops);
    CHECK(gan_program_output(program, outputs[0]) == gan_program_output(program, outputs[1]),
          "one value");
    gan_program_destroy(program);
    /* Different inputs, attributes or noise are not equal. */
    gan_tensor other[6];
    other[0] = gan_affine(w.graph, x, 2.0f, 0.0f);
    other[1] = gan_affine(w.graph, x, 2.0f, 1.0f);
    other[2] = gan_noise_normal(w.graph, gan_shape1(3));
    other[3] = gan_noise_normal(w.graph, gan_shape1(3));
    other[4] = gan_constant(w.graph, gan_shape2(1, 5000), 1.0f); /* above the limit of folding */
    other[5] = gan_constant(w.graph, gan_shape2(5000, 1), 1.0f);
    program = program_of(w.graph, other, 6);
    CHECK(gan_program_get_info(program).ops == 6, "%d ops", gan_program_get_info(program).ops);
    gan_program_destroy(program);
    world_close(&w);
}

static void passes_before_and_after_an_update_differ(void) {
    world w;
    gan_tensor outputs[3];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(1, 4));
    fill(gan_input_data(w.graph, x), 4, 5);
    outputs[0] = critic(w.graph, x);
    gan_tensor b = weight(w.graph, "d.b", 1, 8);
    gan_assign_lerp(w.graph, b, gan_affine(w.graph, b, -1.0f, 0.0f), 1.0f); /* b = -b */
    outputs[1] = critic(w.graph, x);
    outputs[2] = b;
    gan_program *program = program_of(w.graph, outputs, 3);
    CHECK(count_op(program, "linear") == 3,
          "%d products: the first layer is shared, the second is not", count_op(program, "linear"));
    run_ok(program);
    const double first = scalar(program, outputs[0]), second = scalar(program, outputs[1]);
    CHECK(first != 0.0 && first == -second, "%g, after the update %g", first, second);
    run_ok(program);
    CHECK(scalar(program, outputs[0]) == second && scalar(program, outputs[1]) == first,
          "next run starts from the new value");
    CHECK(gan_program_output(program, outputs[2]) == gan_params_find(w.params, "d.b").data,
          "an output that is a parameter");
    gan_program_destroy(program);
    /* Effects belong to one program only. */
    program = program_of(w.graph, outputs, 2);
    CHECK(count_op(program, "assign_lerp") == 0 && count_op(program, "linear") == 2,
          "no effect, all shared");
    gan_program_destroy(program);
    world_close(&w);
}

/* A view of a parameter keeps the value of its place in the list. */
static void views_of_written_parameters_are_copied(void) {
    world w;
    gan_tensor outputs[3];
    world_open(&w);
    gan_tensor a = weight(w.graph, "a", 2, 3);
    gan_tensor before = gan_detach(w.graph, a),
               shown =
                   gan_reshape(w.graph, gan_reshape(w.graph, a, gan_shape1(6)), gan_shape2(3, 2));
    gan_assign_lerp(w.graph, a, gan_constant(w.graph, gan_shape2(2, 3), 5.0f), 1.0f);
    outputs[0] = before;
    outputs[1] = gan_affine(w.graph, shown, 1.0f, 0.0f);
    outputs[2] = gan_affine(w.graph, gan_reshape(w.graph, a, gan_shape2(3, 2)), 1.0f, 0.0f);
    const double old = (double)gan_params_find(w.params, "a").data[4];
    gan_program *program = program_of(w.graph, outputs, 3);
    run_ok(program);
    CHECK(old != 5.0 && (double)gan_program_output(program, outputs[0])[4] == old,
          "kept as output");
    CHECK((double)gan_program_output(program, outputs[1])[4] == old, "kept through views");
    CHECK(gan_program_output(program, outputs[2])[4] == 5.0f, "made after the write");
    gan_program_destroy(program);
    /* Written from a view of itself. */
    gan_assign_lerp(w.graph, a, gan_detach(w.graph, a), 1.0f);
    program = program_of(w.graph, &a, 1);
    run_ok(program);
    CHECK(gan_program_output(program, a)[4] == 5.0f, "unchanged");
    gan_program_destroy(program);
    /* Without a write nothing is copied. */
    program = program_of(w.graph, &shown, 1);
    CHECK(gan_program_get_info(program).ops == 0 &&
              gan_program_output(program, shown) == gan_params_find(w.params, "a").data,
          "view");
    gan_program_destroy(program);
    world_close(&w);
}

static void dead_code_is_dropped(void) {
    world w;
    gan_tensor da, dx;
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(3, 4));
    gan_tensor unread = gan_input(w.graph, "unread", gan_shape2(100, 100));
    gan_tensor y = gan_reshape(w.graph, gan_reshape(w.graph, critic(w.graph, x), gan_shape1(3)),
                               gan_shape2(3, 1));
    gan_tensor loss = total(w.graph, gan_mul(w.graph, y, y)), wrt = weight(w.graph, "d.a", 8, 4);
    gan_matmul(w.graph, unread, unread, 0, 0);
    gan_grad(w.graph, loss, &wrt, 1, &da);
    gan_grad(w.graph, loss, &x, 1, &dx);
    gan_program *program = program_of(w.graph, &loss, 1);
    gan_program_info info = gan_program_get_info(program);
    CHECK(info.ops == 4 && info.input_bytes == 48 && info.param_bytes == 4 * (32 + 8),
          "%d ops, %d bytes of inputs", info.ops, (int)info.input_bytes);
    gan_program_destroy(program);
    /* The gradient in x alone needs no product for weight gradients: 2 forward, 2 back. */
    program = program_of(w.graph, &dx, 1);
    const int products = count_op(program, "linear") + count_op(program, "matmul");
    CHECK(products == 4, "%d products", products);
    gan_program_destroy(program);
    world_close(&w);
}

static void activations_are_fused(void) {
    world w;
    gan_tensor outputs[2];
    world_open(&w);
    gan_tensor none = {0}, x = gan_input(w.graph, "x", gan_shape2(3, 4)),
               a = weight(w.graph, "a", 8, 4);
    gan_tensor y = gan_linear(w.graph, x, a, none);
    outputs[0] = gan_activate(w.graph, y, GAN_ACT_TANH, 0.0f);
    outputs[1] = y;
    fill(gan_input_data(w.graph, x), 12, 6);
    gan_program *apart = program_of(w.graph, outputs, 2), *fused = program_of(w.graph, outputs, 1);
    CHECK(apart->step_count == 2 && fused->step_count == 1, "%d and %d steps", apart->step_count,
          fused->step_count);
    float want[24];
    run_ok(apart);
    memcpy(want, gan_program_output(apart, outputs[0]), sizeof want);
    run_ok(fused);
    const float *got = gan_program_output(fused, outputs[0]);
    for (int i = 0; i < 24; i++) {
        CHECK(fabs((double)got[i] - (double)want[i]) <= 3e-7, "%g, apart %g", (double)got[i],
              (double)want[i]);
    }
    CHECK(!gan_program_output(fused, y), "not an output of that program");
    gan_program_destroy(apart);
    gan_program_destroy(fused);
    /* Only one activation fits. */
    outputs[0] = gan_activate(w.graph, gan_activate(w.graph, y, GAN_ACT_LEAKY_RELU, 0.1f),
                              GAN_ACT_SIGMOID, 0.0f);
    fused = program_of(w.graph, outputs, 1);
    CHECK(fused->step_count == 2, "%d steps", fused->step_count);
    gan_program_destroy(fused);
    world_close(&w);
}

/* A norm with its activation is one op forwards and one backwards, which make the statistics too.
 * Where something else reads what is between norm and activation, all are apart; the bits are the
 * same. */
static void norms_are_fused(void) {
    static const gan_norm_kind kinds[] = {GAN_NORM_BATCH, GAN_NORM_INSTANCE, GAN_NORM_LAYER,
                                          GAN_NORM_BATCH};
    static const char *const steps[] = {"normalize", "norm_dx"};
    for (int k = 0; k < 4; k++) {
        world w;
        gan_tensor none = {0}, wrt[3], outputs[4];
        world_open(&w);
        const gan_shape shape = k == 3 ? gan_shape2(70, 37) : gan_shape4(5, 37, 6, 7);
        const int affine = kinds[k] != GAN_NORM_LAYER;
        gan_tensor x = wrt[0] = gan_input(w.graph, "x", shape);
        gan_tensor dy = gan_input(w.graph, "dy", shape);
        wrt[1] = gan_input(w.graph, "scale", gan_shape1(37));
        wrt[2] = gan_input(w.graph, "shift", gan_shape1(37));
        gan_tensor z =
            gan_normalize(w.graph, x, gan_moments(w.graph, x, kinds[k]), affine ? wrt[1] : none,
                          affine ? wrt[2] : none, kinds[k], 1e-5f);
        gan_tensor y = gan_activate(w.graph, z, GAN_ACT_LEAKY_RELU, k == 1 ? 0.0f : 0.2f);
        gan_grad(w.graph, gan_sum(w.graph, gan_mul(w.graph, y, dy), GAN_ALL_AXES), wrt,
                 affine ? 3 : 1, outputs);
        const size_t count = gan_shape_count(shape);
        fill(gan_input_data(w.graph, x), count, 6);
        fill(gan_input_data(w.graph, dy), count, 7);
        fill(gan_input_data(w.graph, wrt[1]), 37, 8);
        fill(gan_input_data(w.graph, wrt[2]), 37, 9);
        gan_program *fused = program_of(w.graph, outputs, affine ? 3 : 1);
        outputs[affine ? 3 : 1] = z;
        gan_program *apart = program_of(w.graph, outputs, affine ? 4 : 2);
        int found = 0;
        for (int i = 0; i < fused->step_count; i++) {
            const char *name = gan_program_op(fused, i).op;
            found += strcmp(name, steps[0]) == 0 || strcmp(name, steps[1]) == 0;
            CHECK(strcmp(name, "activation_grad") != 0 && strcmp(name, "moments") != 0 &&
                      strcmp(name, "norm_sums") != 0,
                  "kind %d: %s", k, name);
        }
        CHECK(found <= 2 && apart->step_count > fused->step_count, "%d, %d steps, apart %d", found,
              fused->step_count, apart->step_count);
        run_ok(fused);
        float *want = (float *)malloc((count + 74) * sizeof *want);
        memcpy(want, gan_program_output(fused, outputs[0]), count * sizeof *want);
        for (int i = 1; i < 3 && affine; i++) {
            memcpy(want + count + 37 * (i - 1), gan_program_output(fused, outputs[i]),
                   37 * sizeof *want);
        }
        run_ok(apart);
        CHECK(memcmp(want, gan_program_output(apart, outputs[0]), count * sizeof *want) == 0,
              "kind %d: dx", k);
        for (int i = 1; i < 3 && affine; i++) {
            CHECK(memcmp(want + count + 37 * (i - 1), gan_program_output(apart, outputs[i]),
                         37 * sizeof *want) == 0,
                  "kind %d: gradient %d", k, i);
        }
        free(want);
        gan_program_destroy(apart);
        gan_program_destroy(fused);
        world_close(&w);
    }
}

static void constants_are_folded(void) {
    world w;
    gan_tensor outputs[3];
    world_open(&w);
    gan_tensor one = gan_constant(w.graph, gan_shape1(5), 1.5f),
               large = gan_constant(w.graph, gan_shape1(5000), 2.0f);
    outputs[0] = gan_affine(
        w.graph, gan_reshape(w.graph, gan_mul(w.graph, one, one), gan_shape2(5, 1)), 2.0f, 1.0f);
    outputs[1] = gan_add(w.graph, large, large);
    outputs[2] = total(w.graph, large);
    gan_program *program = program_of(w.graph, outputs, 3);
    gan_program_info info = gan_program_get_info(program);
    CHECK(info.ops == 3 && info.constant_bytes == 3 * 64, "%d ops, %d bytes", info.ops,
          (int)info.constant_bytes);
    for (int i = 0; i < 2; i++) {
        run_ok(program);
        CHECK(gan_program_output(program, outputs[0])[4] == 5.5f, "folded value");
        CHECK(gan_program_output(program, outputs[1])[4999] == 4.0f, "too large to keep");
        CHECK(scalar(program, outputs[2]) == 10000.0, "sum");
    }
    gan_program_destroy(program);
    world_close(&w);
}

/* --- memory ------------------------------------------------------------------------ */

static unsigned pick(uint64_t *state, unsigned count) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 33) % count;
}

/* A random network over [6,6], with views, noise, shared subexpressions, reads and, if wanted, writes
 * of three parameters. */
static void random_network(gan_graph *g, uint64_t seed, int writes, gan_tensor *made, int count) {
    static const char *const names[] = {"p", "q", "r"};
    uint64_t state = seed;
    gan_tensor none = {0}, params[3];
    for (int i = 0; i < 3; i++) {
        params[i] = weight(g, names[i], 6, 6);
    }
    made[0] = gan_input(g, "x", gan_shape2(6, 6));
    made[1] = gan_constant(g, gan_shape2(6, 6), 0.25f);
    made[2] = params[0];
    for (int i = 3; i < count; i++) {
        const unsigned reach =
            pick(&state, 4) ? (unsigned)(i < 6 ? i : 6) : (unsigned)i; /* mostly recent ones */
        gan_tensor x = made[(unsigned)i - 1 - pick(&state, reach)],
                   y = made[(unsigned)i - 1 - pick(&state, reach)];
        gan_tensor p = params[pick(&state, 3)];
        switch (pick(&state, writes ? 11 : 10)) {
        case 0:
            made[i] = gan_affine(g, gan_add(g, x, y), 0.5f, 0.0f);
            break;
        case 1:
            made[i] = gan_activate(g, gan_mul(g, x, y), GAN_ACT_TANH, 0.0f);
            break;
        case 2:
            made[i] = gan_affine(g, x, 0.9f, 0.1f);
            break;
        case 3:
            made[i] = gan_activate(g, gan_linear(g, x, p, none), GAN_ACT_TANH, 0.0f);
            break;
        case 4:
            made[i] = gan_activate(g, gan_linear(g, x, y, none), GAN_ACT_SIGMOID, 0.0f);
            break;
        case 5:
            made[i] = gan_reshape(g, gan_affine(g, gan_reshape(g, x, gan_shape1(36)), -1.0f, 0.0f),
                                  gan_shape2(6, 6));
            break;
        case 6:
            made[i] = gan_detach(g, pick(&state, 2) ? x : p);
            break;
        case 7:
            made[i] = gan_noise_normal(g, gan_shape2(6, 6));
            break;
        case 8:
            made[i] = gan_broadcast(g, gan_affine(g, total(g, x), 0.01f, 0.0f), gan_shape2(6, 6));
            break;
        case 9:
            made[i] = gan_reshape(g, gan_reshape(g, p, gan_shape1(36)), gan_shape2(6, 6));
            break;
        default:
            gan_assign_lerp(g, p, x, 0.3f);
            made[i] = p;
            break;
        }
    }
}

/* A random network, and without writes its gradients in input and parameters, gradients of the sum
 * of squares of one of them, and an update. few [FEW]: the tensors of interest. */
enum { FEW = 6 };
static void random_step(gan_graph *g, uint64_t seed, gan_tensor *few) {
    enum { COUNT = 40 };
    static const char *const names[] = {"p", "q", "r"};
    gan_tensor made[COUNT], wrt[4];
    const int writes = seed % 2 == 0;
    random_network(g, seed, writes, made, COUNT);
    fill(gan_input_data(g, made[0]), 36, seed);
    for (int i = 0; i < FEW; i++) {
        few[i] = made[COUNT - 1 - 5 * i];
    }
    if (!writes) {
        wrt[0] = made[0];
        for (int i = 0; i < 3; i++) {
            wrt[1 + i] = weight(g, names[i], 6, 6);
        }
        gan_grad(g, gan_affine(g, total(g, made[COUNT - 1]), 0.1f, 0.0f), wrt, 4, few);
        gan_grad(g, total(g, gan_square(g, few[0])), &wrt[1], 2, few + 4);
        gan_assign_lerp(g, wrt[1], few[1], 0.01f);
    }
}

/* A program that keeps every tensor (an output is neither shared memory nor fused) against one
 * that keeps a few, and one whose gradients compute values again, several times in a row: the same
 * values, the same parameters. */
static void planned_memory_gives_the_same_values(void) {
    for (uint64_t seed = 0; seed < 300; seed++) {
        world w[3];
        gan_program *program[3];
        gan_tensor all[2000], few[3][FEW];
        int count = 0;
        for (int k = 0; k < 3; k++) {
            world_open(&w[k]);
            w[k].ctx->recompute = k == 2;
            random_step(w[k].graph, seed, few[k]);
        }
        for (int id = 1; id < w[0].graph->node_count && count < 2000; id++) {
            all[count].id = id;
            count += !(w[0].graph->ops[w[0].graph->nodes[id].op].flags & GANI_FLAG_EFFECT);
        }
        program[0] = program_of(w[0].graph, all, count);
        program[1] = program_of(w[1].graph, few[1], FEW);
        program[2] = program_of(w[2].graph, few[2], FEW);
        for (int run = 0; run < 9; run++) {
            const int k = run % 3, step = run / 3;
            gan_params_set_step(w[k].params, (uint64_t)step);
            run_ok(program[k]);
            for (int i = 0; i < FEW; i++) {
                CHECK(memcmp(gan_program_output(program[0], few[0][i]),
                             gan_program_output(program[k], few[k][i]), 144) == 0,
                      "seed %d, program %d, step %d, output %d", (int)seed, k, step, i);
            }
            for (int i = 0; i < 3; i++) {
                CHECK(memcmp(gan_params_at(w[0].params, i).data, gan_params_at(w[k].params, i).data,
                             144) == 0,
                      "seed %d, program %d, step %d, parameter %d", (int)seed, k, step, i);
            }
        }
        const gan_program_info kept = gan_program_get_info(program[0]),
                               some = gan_program_get_info(program[1]);
        CHECK(some.arena_bytes <= kept.arena_bytes && some.ops <= kept.ops, "seed %d", (int)seed);
        for (int k = 0; k < 3; k++) {
            gan_program_destroy(program[k]);
            world_close(&w[k]);
        }
    }
}

/* Blocks that live at the same time lie apart; the arena is not much larger than what lives at the
 * worst moment. Returns that bound in bytes. */
static size_t check_layout(gan_graph *graph, const gan_tensor *outputs, int count,
                           size_t *arena_bytes) {
    gan_program *program = NULL;
    gani_plan plan;
    size_t bound = 0;
    CHECK(gani_program_begin(&program, graph, "test", outputs, count) == GAN_OK, "%s",
          gan_context_error(graph->ctx));
    CHECK(gani_plan_begin(&plan, graph) == GAN_OK && gani_plan_program(&plan, program) == GAN_OK,
          "plan");
    *arena_bytes = gan_program_get_info(program).arena_bytes;
    for (int i = 0; i < plan.block_count; i++) {
        const gani_storage *a = &plan.blocks[i];
        size_t live = 0;
        for (int k = 0; k < plan.block_count; k++) {
            const gani_storage *b = &plan.blocks[k];
            live += b->first <= a->first && b->last >= a->first
                        ? gani_round_up(b->bytes, GANI_ALIGN)
                        : 0;
            const int meet = a->first <= b->last && b->first <= a->last;
            CHECK(i == k || !meet || a->offset + a->bytes <= b->offset ||
                      b->offset + b->bytes <= a->offset,
                  "blocks %d, %d", i, k);
        }
        bound = live > bound ? live : bound;
        CHECK(a->offset + a->bytes <= *arena_bytes && a->offset % GANI_ALIGN == 0, "block %d", i);
    }
    gani_plan_end(&plan);
    gan_program_destroy(program);
    return bound;
}

static void arena_is_small(void) {
    enum { COUNT = 120, LAYERS = 40 };
    world w;
    size_t arena, bound, all = 0, all_bounds = 0;
    gan_tensor none = {0}, made[COUNT];
    for (uint64_t seed = 0; seed < 20; seed++) {
        world_open(&w);
        random_network(w.graph, seed, 1, made, COUNT);
        bound = check_layout(w.graph, &made[COUNT - 1], 1, &arena);
        all += arena;
        all_bounds += bound;
        world_close(&w);
    }
    /* A chain needs its widest neighbours, however long it is: 40 layers over [32,n]. */
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(32, 64));
    size_t sum = 0;
    for (int i = 0; i < LAYERS; i++) {
        char name[16];
        const int from = gan_tensor_shape(w.graph, x).dim[1], to = 64 + 32 * (i % 3);
        snprintf(name, sizeof name, "w%d", i);
        x = gan_activate(w.graph, gan_linear(w.graph, x, weight(w.graph, name, to, from), none),
                         GAN_ACT_LEAKY_RELU, 0.2f);
        sum += (size_t)(32 * to) * sizeof(float);
    }
    bound = check_layout(w.graph, &x, 1, &arena);
    world_close(&w);
    const size_t gaps = GANI_ARENA_GAP ? 4 * GANI_ALIGN : 0;
    CHECK(arena <= bound + gaps && arena < sum / 15, "chain: arena %d, bound %d, sum %d",
          (int)arena, (int)bound, (int)sum);
    CHECK(GANI_ARENA_GAP || all <= all_bounds + all_bounds / 10, "random: arenas %d, bounds %d",
          (int)all, (int)all_bounds);
}

#ifdef GANI_ASAN
/* AddressSanitizer sees an op that reads or writes beside its own values. */
static void arena_is_guarded(void) {
    world w;
    gan_tensor outputs[2];
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape1(10));
    outputs[0] = gan_affine(w.graph, x, 2.0f, 0.0f);
    outputs[1] = gan_affine(w.graph, gan_exp(w.graph, x), 2.0f, 0.0f);
    gan_program *program = program_of(w.graph, outputs, 2);
    run_ok(program);
    for (int i = 0; i < 2; i++) {
        const float *data = gan_program_output(program, outputs[i]);
        CHECK(!__asan_address_is_poisoned(data) && !__asan_address_is_poisoned(data + 9),
              "output %d", i);
        CHECK(__asan_address_is_poisoned(data + 10) && __asan_address_is_poisoned(data + 16),
              "behind output %d", i);
    }
    gan_program_destroy(program);
    world_close(&w);
}
#endif

/* Two layers, gradients of both weights, updates: a training step. */
static gan_tensor training_step(gan_graph *g, int batch) {
    gan_tensor wrt[2], grads[2];
    gan_tensor x = gan_input(g, "x", gan_shape2(batch, 4));
    gan_tensor y = critic(g, x), loss = total(g, gan_mul(g, y, y));
    wrt[0] = weight(g, "d.a", 8, 4);
    wrt[1] = weight(g, "d.b", 1, 8);
    gan_grad(g, loss, wrt, 2, grads);
    for (int i = 0; i < 2; i++) {
        gan_assign(g, wrt[i], gan_sub(g, wrt[i], gan_affine(g, grads[i], 0.01f, 0.0f)));
    }
    fill(x.id ? gan_input_data(g, x) : NULL, x.id ? (size_t)(4 * batch) : 0, 8);
    return loss;
}

static void measuring_takes_nothing(void) {
    world w;
    gan_program_info before, after;
    world_open(&w);
    gan_tensor loss = training_step(w.graph, 5);
    const int live = w.memory.live;
    CHECK(gan_program_measure(w.graph, &loss, 1, &before) == GAN_OK, "%s",
          gan_context_error(w.ctx));
    CHECK(w.memory.live == live && w.graph->arena == NULL, "%d blocks more", w.memory.live - live);
    gan_program *program = program_of(w.graph, &loss, 1);
    after = gan_program_get_info(program);
    CHECK(before.arena_bytes == after.arena_bytes &&
              before.workspace_bytes == after.workspace_bytes && before.ops == after.ops &&
              after.arena_bytes > 0,
          "the same as for the program itself");
    CHECK(count_op(program, "assign") == 2, "effects are still there");
    CHECK(after.param_bytes == 160 && after.input_bytes == 80, "%d bytes of parameters",
          (int)after.param_bytes);
    gan_program_destroy(program);
    world_close(&w);
}

static void running_allocates_nothing(void) {
    world w;
    world_open(&w);
    gan_tensor loss = training_step(w.graph, 5);
    gan_program *program = program_of(w.graph, &loss, 1);
    const int calls = w.memory.calls;
    double first = 0.0;
    for (int step = 0; step < 5; step++) {
        run_ok(program);
        first = step == 0 ? scalar(program, loss) : first;
    }
    CHECK(w.memory.calls == calls, "%d allocations", w.memory.calls - calls);
    CHECK(scalar(program, loss) < first, "trains: %g, after five steps %g", first,
          scalar(program, loss));
    gan_program_destroy(program);
    world_close(&w);
}

/* Everything from context to run with the fail_at-th allocation failing; retries a failed program
 * once. */
static gan_status whole_life(int fail_at, double *result) {
    world w;
    gan_program *program = NULL;
    gan_tensor loss = {0};
    gan_program_info info;
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.recompute = 1;
    gan_status status = world_open_with(&w, &desc, fail_at);
    if (status == GAN_OK) {
        loss = training_step(w.graph, 5);
        status = gan_graph_status(w.graph);
    }
    if (status == GAN_OK) {
        status = gan_program_measure(w.graph, &loss, 1, &info);
    }
    if (status == GAN_OK) {
        status = gan_program_create(&program, w.graph, "test", &loss, 1);
        CHECK((status == GAN_OK) == (program != NULL), "whole or absent");
        if (status == GAN_ERR_MEMORY) {
            CHECK(gan_program_create(&program, w.graph, "test", &loss, 1) == GAN_OK, "again: %s",
                  gan_context_error(w.ctx));
        }
        run_ok(program);
        *result = scalar(program, loss);
        gan_program_destroy(program);
    }
    if (status != GAN_OK && w.ctx) {
        CHECK(gan_context_status(w.ctx) == status, "context's status");
    }
    world_close(&w);
    return status;
}

static void failing_allocations_are_survived(void) {
    double want = 0.0, got = 0.0;
    int fail_at = 0;
    CHECK(whole_life(0, &want) == GAN_OK, "all succeed");
    for (gan_status status = GAN_ERR_MEMORY; status == GAN_ERR_MEMORY;) {
        got = want;
        status = whole_life(++fail_at, &got);
        CHECK(status == GAN_ERR_MEMORY || status == GAN_OK, "allocation %d: status %d", fail_at,
              (int)status);
        CHECK(got == want, "allocation %d: %g, expected %g", fail_at, got, want);
    }
    CHECK(fail_at > 50, "only %d allocations", fail_at);
}

/* --- recomputation ------------------------------------------------------------------------ */

/* Layers of norm, activation, dropout and padding behind convolutions, and their gradients. */
static gan_tensor deep_step(gan_graph *g, gan_tensor *grads) {
    gan_tensor none = {0}, wrt[6];
    gan_init init = {GAN_INIT_NORMAL, 0.0f, 0.1f};
    gan_conv_desc conv;
    memset(&conv, 0, sizeof conv);
    gan_tensor x = gan_noise_normal(g, gan_shape4(2, 8, 16, 16));
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        wrt[i] = gan_param(g, name, gan_shape4(8, 8, 3, 3), GAN_PARAM_WEIGHT, init);
        gan_tensor y = gan_conv2d(g, gan_pad_reflect(g, x, 1, 1), wrt[i], none, &conv);
        y = gan_normalize(g, y, gan_moments(g, y, GAN_NORM_INSTANCE), none, none, GAN_NORM_INSTANCE,
                          1e-5f);
        x = gan_dropout(g, gan_activate(g, y, GAN_ACT_LEAKY_RELU, 0.0f), 0.5f, 0);
    }
    gan_tensor loss = gan_mean(g, gan_square(g, x), GAN_ALL_AXES);
    gan_grad(g, loss, wrt, 6, grads);
    return loss;
}

static void recomputation_saves_memory(void) {
    world w[2];
    gan_program *program[2];
    gan_program_info info[2];
    gan_tensor outputs[2][7];
    for (int k = 0; k < 2; k++) {
        world_open(&w[k]);
        w[k].ctx->recompute = k;
        outputs[k][6] = deep_step(w[k].graph, outputs[k]);
        program[k] = program_of(w[k].graph, outputs[k], 7);
        info[k] = gan_program_get_info(program[k]);
        run_ok(program[k]);
    }
    for (int i = 0; i < 7; i++) {
        const size_t bytes = (i < 6 ? 8 * 8 * 3 * 3 : 1) * sizeof(float);
        CHECK(memcmp(gan_program_output(program[0], outputs[0][i]),
                     gan_program_output(program[1], outputs[1][i]), bytes) == 0,
              "output %d", i);
    }
    CHECK((double)info[1].arena_bytes < 0.7 * (double)info[0].arena_bytes, "%lu bytes, before %lu",
          (unsigned long)info[1].arena_bytes, (unsigned long)info[0].arena_bytes);
    CHECK(info[1].multiply_adds == info[0].multiply_adds && info[1].ops > info[0].ops,
          "no convolution is computed again");
    for (int k = 0; k < 2; k++) {
        gan_program_destroy(program[k]);
        world_close(&w[k]);
    }
}

/* h = p x is made, then p is written; a gradient that reads h must not see the new p. */
static void recomputation_heeds_writes(void) {
    float first[4] = {0.0f};
    for (int recompute = 0; recompute < 2; recompute++) {
        world w;
        world_open(&w);
        gan_graph *g = w.graph;
        w.ctx->recompute = recompute;
        gan_tensor none = {0}, grad, p = weight(g, "p", 2, 2), q = weight(g, "q", 2, 2);
        gan_tensor x = gan_input(g, "x", gan_shape2(2, 2));
        gan_tensor h = gan_affine(g, gan_detach(g, gan_mul(g, x, p)), 2.0f, 1.0f);
        gan_tensor y = gan_linear(g, h, q, none);
        gan_assign(g, p, gan_affine(g, p, 3.0f, 0.0f));
        gan_grad(g, total(g, gan_square(g, y)), &q, 1, &grad);
        fill(gan_input_data(g, x), 4, 5);
        gan_program *program = program_of(g, &grad, 1);
        run_ok(program);
        const float *got = gan_program_output(program, grad);
        CHECK(!recompute || memcmp(got, first, sizeof first) == 0, "%g, expected %g",
              (double)got[0], (double)first[0]);
        memcpy(first, got, sizeof first);
        gan_program_destroy(program);
        world_close(&w);
    }
}

/* --- several programs, graphs, contexts ------------------------------------------------ */

static void programs_share_an_arena(void) {
    world w;
    world_open(&w);
    gan_tensor x = gan_input(w.graph, "x", gan_shape2(3, 4)), y = critic(w.graph, x);
    gan_tensor large = gan_affine(
        w.graph, gan_broadcast(w.graph, total(w.graph, x), gan_shape2(100, 100)), 2.0f, 0.0f);
    fill(gan_input_data(w.graph, x), 12, 9);
    gan_program *small = program_of(w.graph, &y, 1);
    run_ok(small);
    const double first = scalar(small, y);
    const size_t before = w.graph->arena_bytes;
    gan_program *big = program_of(w.graph, &large, 1); /* the arena moves */
    CHECK(w.graph->arena_bytes > before && gan_program_get_info(small).arena_bytes == before,
          "the largest counts");
    for (int i = 0; i < 2; i++) {
        run_ok(big);
        const double sum = scalar(big, large);
        run_ok(small);
        CHECK(scalar(small, y) == first && fabs(sum) > 0.0, "%g, first %g", scalar(small, y),
              first);
    }
    gan_program_destroy(small);
    run_ok(big);
    gan_program_destroy(big);
    world_close(&w);
}

/* Training with one batch size, sampling with another: two graphs over one store. */
static void graphs_share_a_store(void) {
    world w;
    gan_graph *other = NULL;
    world_open(&w);
    CHECK(gan_graph_create(&other, w.ctx, w.params) == GAN_OK, "second graph");
    gan_tensor loss = training_step(w.graph, 5);
    gan_tensor x = gan_input(other, "x", gan_shape2(1, 4)), y = critic(other, x);
    CHECK(gan_params_count(w.params) == 2, "%d parameters", gan_params_count(w.params));
    fill(gan_input_data(other, x), 4, 10);
    gan_program *train = program_of(w.graph, &loss, 1), *sample = program_of(other, &y, 1);
    run_ok(sample);
    const double before = scalar(sample, y);
    run_ok(sample);
    CHECK(scalar(sample, y) == before, "nothing changed");
    run_ok(train);
    run_ok(sample);
    CHECK(scalar(sample, y) != before, "the update is seen");
    gan_program_destroy(train);
    gan_program_destroy(sample);
    gan_graph_destroy(other);
    world_close(&w);
}

/* A small convolutional network with batch norm, dropout and noise, its gradients and Adam. */
static gan_tensor convolutional_step(gan_graph *g) {
    gan_tensor none = {0}, wrt[4], grads[4];
    gan_init init = {GAN_INIT_NORMAL, 0.0f, 0.1f}, one = {GAN_INIT_CONSTANT, 1.0f, 0.0f};
    gan_conv_desc conv;
    memset(&conv, 0, sizeof conv);
    conv.stride_h = conv.stride_w = 2;
    conv.pad_h = conv.pad_w = 1;
    wrt[0] = gan_param(g, "w0", gan_shape4(37, 3, 4, 4), GAN_PARAM_WEIGHT, init);
    wrt[1] = gan_param(g, "scale", gan_shape1(37), GAN_PARAM_WEIGHT, one);
    wrt[2] = gan_param(g, "w1", gan_shape4(37, 5, 4, 4), GAN_PARAM_WEIGHT, init);
    wrt[3] = gan_param(g, "w2", gan_shape2(11, 5 * 32 * 32), GAN_PARAM_WEIGHT, init);
    gan_tensor x = gan_noise_normal(g, gan_shape4(8, 3, 32, 32));
    gan_tensor h = gan_conv2d(g, x, wrt[0], none, &conv);
    h = gan_normalize(g, h, gan_moments(g, h, GAN_NORM_BATCH), wrt[1], none, GAN_NORM_BATCH, 1e-5f);
    h = gan_dropout(g, gan_activate(g, h, GAN_ACT_LEAKY_RELU, 0.2f), 0.3f, 0);
    h = gan_activate(g, gan_conv2d_transpose(g, h, wrt[2], none, &conv), GAN_ACT_TANH, 0.0f);
    h = gan_linear(g, gan_reshape(g, h, gan_shape2(8, 5 * 32 * 32)), wrt[3], none);
    gan_tensor loss = gan_mean(g, gan_square(g, h), GAN_ALL_AXES);
    gan_grad(g, loss, wrt, 4, grads);
    for (int i = 0; i < 4; i++) {
        gan_assign(g, wrt[i], gan_sub(g, wrt[i], gan_affine(g, grads[i], 1e-3f, 0.0f)));
    }
    return loss;
}

/* The same bits for any number of threads, in any order. */
static void threads_do_not_change_results(void) {
    static const int threads[] = {1, 2, 7};
    float losses[3] = {0.0f, 0.0f, 0.0f}, *weights = NULL;
    size_t count = 0;
    for (int k = 0; k < 3; k++) {
        world w;
        gan_context_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.threads = threads[k];
        desc.parallel.run = k == 0 ? NULL : run_backwards;
        CHECK(world_open_with(&w, &desc, 0) == GAN_OK, "open");
        gan_tensor loss = convolutional_step(w.graph);
        gan_program *program = program_of(w.graph, &loss, 1);
        const int calls = w.memory.calls;
        float value[3];
        for (int step = 0; step < 3; step++) {
            gan_params_set_step(w.params, (uint64_t)step);
            run_ok(program);
            value[step] = (float)scalar(program, loss);
        }
        CHECK(w.memory.calls == calls, "%d allocations while running", w.memory.calls - calls);
        CHECK(value[0] > 0.0f && value[2] < value[0], "loss %g, %g, %g", (double)value[0],
              (double)value[1], (double)value[2]);
        const gan_param_info info = gan_params_find(w.params, "w2");
        if (k == 0) {
            count = gan_shape_count(info.shape);
            weights = (float *)malloc(count * sizeof *weights);
            memcpy(weights, info.data, count * sizeof *weights);
            memcpy(losses, value, sizeof losses);
        }
        CHECK(memcmp(losses, value, sizeof losses) == 0, "%d threads: loss %.9g, one %.9g",
              threads[k], (double)value[2], (double)losses[2]);
        CHECK(memcmp(weights, info.data, count * sizeof *weights) == 0, "%d threads: weights",
              threads[k]);
        gan_program_destroy(program);
        world_close(&w);
    }
    free(weights);
}

static void contexts_are_independent(void) {
    world w[2];
    gan_tensor loss[2];
    gan_program *program[2];
    for (int k = 0; k < 2; k++) {
        world_open(&w[k]);
        loss[k] = training_step(w[k].graph, 5);
        program[k] = program_of(w[k].graph, &loss[k], 1);
    }
    gani_error(w[0].ctx, GAN_ERR_FILE, "only here");
    for (int step = 0; step < 3; step++) {
        for (int k = 0; k < 2; k++) {
            run_ok(program[k]);
        }
        CHECK(scalar(program[0], loss[0]) == scalar(program[1], loss[1]), "step %d", step);
    }
    CHECK(gan_context_status(w[1].ctx) == GAN_OK, "errors stay apart");
    for (int k = 0; k < 2; k++) {
        gan_program_destroy(program[k]);
        world_close(&w[k]);
    }
}

/* --- errors of a run --------------------------------------------------------------------- */

static void check_finite_names_the_tensor(void) {
    world w;
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.check_finite = 1;
    CHECK(world_open_with(&w, &desc, 0) == GAN_OK, "open");
    gan_graph_push(w.graph, "net");
    gan_tensor x = gan_input(w.graph, "x", gan_shape1(3));
    gan_tensor y = gan_affine(w.graph, gan_affine(w.graph, x, 1e30f, 0.0f), 1e9f, 0.0f);
    gan_graph_pop(w.graph);
    float *data = gan_input_data(w.graph, x);
    gan_program *program = program_of(w.graph, &y, 1);
    data[2] = 1e-3f;
    run_ok(program);
    data[2] = 2.0f;
    CHECK(gan_program_run(program) == GAN_ERR_NUMERIC, "infinity");
    CHECK(strcmp(gan_context_error(w.ctx), "test: net (affine): a value is not finite") == 0, "%s",
          gan_context_error(w.ctx));
    data[2] = (float)NAN;
    CHECK(gan_program_run(program) == GAN_ERR_NUMERIC, "NaN");
    CHECK(strcmp(gan_context_error(w.ctx), "test: net.x (input): a value is not finite") == 0, "%s",
          gan_context_error(w.ctx));
    gan_program_destroy(program);
    gan_tensor p = weight(w.graph, "p", 1, 1);
    gan_assign(w.graph, p, gan_reshape(w.graph, total(w.graph, y), gan_shape2(1, 1)));
    program = program_of(w.graph, NULL, 0);
    data[2] = 1e-3f;
    run_ok(program);
    gan_program_destroy(program);
    world_close(&w);
}

static void index_errors_name_the_tensor(void) {
    world w;
    world_open(&w);
    gan_graph_push(w.graph, "embed");
    gan_tensor table = weight(w.graph, "table", 10, 4),
               idx = gan_input(w.graph, "idx", gan_shape1(3));
    gan_tensor rows = gan_gather_rows(w.graph, table, idx);
    gan_graph_pop(w.graph);
    gan_program *program = program_of(w.graph, &rows, 1);
    float *data = gan_input_data(w.graph, idx);
    data[0] = 9.0f;
    run_ok(program);
    CHECK(memcmp(gan_program_output(program, rows), gan_params_at(w.params, 0).data + 36, 16) == 0,
          "last row");
    data[2] = 10.0f;
    CHECK(gan_program_run(program) == GAN_ERR_NUMERIC, "out of range");
    CHECK(strncmp(gan_context_error(w.ctx), "test: embed (gather_rows): ", 27) == 0, "%s",
          gan_context_error(w.ctx));
    CHECK(gan_graph_status(w.graph) == GAN_OK, "the graph is sound");
    data[2] = 0.0f;
    run_ok(program);
    gan_program_destroy(program);
    world_close(&w);
}

/* Rows are written in order, so that of two with one index the latter stays; a read before the
 * effect sees the old row, one behind it the new one. */
static void rows_are_assigned(void) {
    world w;
    world_open(&w);
    gan_tensor table = weight(w.graph, "table", 4, 2);
    gan_tensor idx = gan_input(w.graph, "idx", gan_shape1(3));
    gan_tensor value = gan_input(w.graph, "value", gan_shape2(3, 2));
    gan_tensor outputs[2];
    outputs[0] = gan_gather_rows(w.graph, table, idx);
    gan_assign_rows(w.graph, table, idx, value);
    outputs[1] = gan_gather_rows(w.graph, table, idx);
    gan_program *program = program_of(w.graph, outputs, 2);
    const float *stored = gan_params_find(w.params, "table").data;
    float before[8], *at = gan_input_data(w.graph, idx), *x = gan_input_data(w.graph, value);
    static const float rows[] = {3, 1, 3}, want[] = {4, 5, 2, 3, 4, 5};
    memcpy(before, stored, sizeof before);
    memcpy(at, rows, sizeof rows);
    for (int i = 0; i < 6; i++) {
        x[i] = (float)i;
    }
    run_ok(program);
    CHECK(memcmp(gan_program_output(program, outputs[0]), before + 6, 8) == 0, "old row");
    CHECK(memcmp(gan_program_output(program, outputs[1]), want, sizeof want) == 0, "new rows");
    CHECK(memcmp(stored, before, 8) == 0 && memcmp(stored + 4, before + 4, 8) == 0, "other rows");
    at[1] = 4.0f;
    CHECK(gan_program_run(program) == GAN_ERR_NUMERIC && strstr(gan_context_error(w.ctx), "index 4 at 1"),
          "%s", gan_context_error(w.ctx));
    gan_program_destroy(program);
    world_close(&w);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(shapes);
    TEST(parameter_store);
    TEST(parameter_store_is_large);
    TEST(errors_stick_and_name_the_layer);
    TEST(gradients_with_shared_parameter);
    TEST(gradients_are_joined);
    TEST(gradient_in_intermediate);
    TEST(second_derivatives);
    TEST(detach_stops_gradients);
    TEST(gradient_after_write_is_refused);
    TEST(equal_passes_are_shared);
    TEST(passes_before_and_after_an_update_differ);
    TEST(views_of_written_parameters_are_copied);
    TEST(dead_code_is_dropped);
    TEST(activations_are_fused);
    TEST(norms_are_fused);
    TEST(constants_are_folded);
    TEST(planned_memory_gives_the_same_values);
    TEST(arena_is_small);
#ifdef GANI_ASAN
    TEST(arena_is_guarded);
#endif
    TEST(measuring_takes_nothing);
    TEST(running_allocates_nothing);
    TEST(failing_allocations_are_survived);
    TEST(recomputation_saves_memory);
    TEST(recomputation_heeds_writes);
    TEST(programs_share_an_arena);
    TEST(graphs_share_a_store);
    TEST(threads_do_not_change_results);
    TEST(contexts_are_independent);
    TEST(check_finite_names_the_tensor);
    TEST(index_errors_name_the_tensor);
    TEST(rows_are_assigned);
    return test_end();
}
