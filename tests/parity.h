/* parity.h - outputs of networks and the first losses of training against PyTorch's, for every test
 * file that has systems.
 *
 * A row names a network or a model; its weights and inputs are random numbers by name (`forward`
 * and `train` of the fixture scripts draw the same), so that only the output "ROW.out.y", or the
 * losses "ROW.out.losses" [steps,metrics], are stored, in tests/fixtures/FILE.safetensors.
 *
 *     static const training_row rows[] = {{"training", "gan", "gan", "", NULL, 28, 1, 8, 2, NULL}};
 *     run_training_rows(rows, sizeof rows / sizeof rows[0]);
 */
#ifndef PARITY_H
#define PARITY_H

#include "test.h"

#define MAX_VALUES 4096 /* in a stored tensor */

/* Largest relative difference of a loss. PyTorch's own float32 and float64 differ by 3e-7. */
#define LOSS_TOLERANCE 1e-4

/* --- fixtures ------------------------------------------------------------------------------ */

/* Opens tests/fixtures/NAME.safetensors; NULL, and the case failed, if it cannot be read. */
static inline gan_checkpoint *open_fixtures(gan_context *ctx, const char *name) {
    char path[128];
    gan_checkpoint *file = NULL;
    snprintf(path, sizeof path, "tests/fixtures/%s.safetensors", name);
    const gan_status status = gan_checkpoint_open(&file, ctx, path);
    CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
    return file;
}

/* The fixture "case.kind.name". values is NULL if there is none, and valid until the next call. */
typedef struct stored_tensor {
    gan_shape shape;
    size_t count;
    const float *values;
} stored_tensor;

static inline stored_tensor stored_in(gan_checkpoint *file, const char *row, const char *kind,
                                      const char *name) {
    static float buffer[MAX_VALUES];
    char full[256];
    stored_tensor result;
    memset(&result, 0, sizeof result);
    snprintf(full, sizeof full, "%s.%s.%s", row, kind, name);
    const int index = file ? gan_checkpoint_find(file, full) : -1;
    if (index >= 0) {
        result.shape = gan_checkpoint_at(file, index).shape;
        result.count = gan_checkpoint_at(file, index).count;
        GAN_ASSERT(result.count <= MAX_VALUES);
        if (gan_checkpoint_read(file, index, buffer, result.count) == GAN_OK) {
            result.values = buffer;
        }
    }
    return result;
}

/* random(name, ...) of fixtures.py. */
static inline void fill_random(float *out, size_t count, const char *name, uint64_t seed, float low,
                               float high) {
    gan_random_uniform(seed, gani_hash(name, strlen(name), GANI_HASH_START), 0, out, count);
    for (size_t i = 0; i < count; i++) {
        out[i] = low + (high - low) * out[i];
    }
}

/* Calls run with a context for each instruction set that this machine has. */
static inline void for_each_isa(void (*run)(gan_context *ctx)) {
    for (int i = 0; gan_isa_name(i); i++) {
        if (gan_isa_available(gan_isa_name(i))) {
            /* results do not depend on the threads, and starting them takes time */
            gan_context *ctx = context_of(gan_isa_name(i), 1, NULL);
            run(ctx);
            gan_context_destroy(ctx);
        }
    }
}

/* --- networks ------------------------------------------------------------------------------ */

/* Weights by name, as `fill` of fixtures.py draws them. */
static inline void fill_weights(gan_params *params, uint64_t seed) {
    for (int i = 0; i < gan_params_count(params); i++) {
        const gan_param_info info = gan_params_at(params, i);
        const size_t count = gan_shape_count(info.shape);
        if (info.kind == GAN_PARAM_WEIGHT && info.shape.rank > 1) {
            const float bound = (float)(1.0 / sqrt((double)(count / (size_t)info.shape.dim[0])));
            fill_random(info.data, count, info.name, seed, -1.0f, 1.0f);
            for (size_t k = 0; k < count; k++) {
                info.data[k] *= bound;
            }
        } else if (info.kind == GAN_PARAM_WEIGHT) {
            const int scale =
                strcmp(info.name + strlen(info.name) - strlen("weight"), "weight") == 0;
            fill_random(info.data, count, info.name, seed, scale ? 0.75f : -0.125f,
                        scale ? 1.25f : 0.125f);
        }
    }
}

/* A network and the shape of its input. Its output is one tensor, or several put one behind the
 * other; one value in `every` is stored. */
typedef struct network_row {
    const char *file, *name; /* of the fixture */
    int every;
    int batch, channels, height, width;
    gan_tensor (*build)(gan_graph *g, gan_tensor x);
} network_row;
static const network_row *current_network;

/* Largest error of the stored values relative to the largest of them. */
static inline double compare_output(const float *got, const stored_tensor *want, int every) {
    double largest = 0.0, worst = 0.0;
    for (size_t i = 0; i < want->count; i++) {
        const double value = (double)want->values[i];
        const double error = fabs((double)got[i * (size_t)every] - value);
        largest = fabs(value) > largest ? fabs(value) : largest;
        worst = error <= worst ? worst : error;
    }
    return worst / largest;
}

static inline void run_network_in(gan_context *ctx) {
    const network_row *row = current_network;
    const gan_shape shape = gan_shape4(row->batch, row->channels, row->height, row->width);
    const size_t every = (size_t)row->every;
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_program *program = NULL;
    char input[64];
    gan_checkpoint *file = open_fixtures(ctx, row->file);
    const stored_tensor want = stored_in(file, row->name, "out", "y");
    CHECK(want.values, "%s is not stored", row->name);
    CHECK(gan_params_create(&params, ctx, 1) == GAN_OK, "no parameters");
    CHECK(gan_graph_create(&g, ctx, params) == GAN_OK, "no graph");
    gan_tensor x = gan_input(g, "x", shape);
    gan_graph_push(g, row->name);
    gan_tensor y = row->build(g, x);
    gan_graph_pop(g);
    fill_weights(params, 1);
    snprintf(input, sizeof input, "%s.x", row->name);
    fill_random(gan_input_data(g, x), gan_shape_count(shape), input, 1, -1.0f, 1.0f);
    gan_status status = gan_program_create(&program, g, row->name, &y, 1);
    status = status ? status : gan_program_run(program);
    CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
    const size_t count = status == GAN_OK ? gan_shape_count(gan_tensor_shape(g, y)) : 0;
    const int complete = want.count > 0 && (count + every - 1) / every == want.count;
    CHECK(complete, "%lu values, of which %lu are stored", (unsigned long)count,
          (unsigned long)want.count);
    if (complete) {
        const double error = compare_output(gan_program_output(program, y), &want, row->every);
        CHECK(error < 1e-5, "%s: differs by %.2g of the largest value", gan_context_isa(ctx),
              error);
        if (getenv("GAN_TEST_VERBOSE")) {
            printf("%s (%s): within %.1e\n", row->name, gan_context_isa(ctx), error);
        }
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
    gan_checkpoint_close(file);
}

static inline void run_network(void) {
    for_each_isa(run_network_in);
}

static inline void run_network_rows(const network_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        current_network = &rows[i];
        test_run(current_network->name, run_network);
    }
}

/* --- training ------------------------------------------------------------------------------ */

/* An input of the step that fixtures.py draws: here and there by name, range, whole numbers only. */
typedef struct training_feed {
    const char *feed, *stem; /* name in gan.h and in fixtures.py; the list ends with NULL */
    float low, high;
    int whole;
} training_feed;

typedef struct training_row {
    const char *file, *name; /* of the fixture */
    const char *system, *options;
    const char *metrics; /* columns of the losses; NULL: "loss_d loss_g" */
    int size, channels, batch;
    uint64_t seed;              /* of the random numbers, as in fixtures.py */
    const training_feed *feeds; /* NULL: common_feeds */
} training_row;

static const training_feed common_feeds[] = {
    {"real", "images", -1.0f, 1.0f, 0}, {"z", "z", -2.0f, 2.0f, 0},
    {"z_g", "z_g", 0.0f, 1.0f, 0},      {"epsilon", "epsilon", 0.0f, 1.0f, 0},
    {"label", "label", 0.0f, 10.0f, 1}, {"label_fake", "label_fake", 0.0f, 10.0f, 1},
    {NULL, NULL, 0.0f, 0.0f, 0},
};
static const training_row *current_training;

static inline void fill_feeds(gan_model *model, int step) {
    const training_feed *feed = current_training->feeds ? current_training->feeds : common_feeds;
    for (; feed->feed; feed++) {
        char name[32];
        size_t count = 0;
        float *data = gan_model_feed(model, feed->feed, &count);
        snprintf(name, sizeof name, "%s.%d", feed->stem, step);
        if (data) {
            fill_random(data, count, name, current_training->seed, feed->low, feed->high);
        }
        for (size_t k = 0; feed->whole && k < count; k++) {
            data[k] = (float)floor((double)data[k]);
        }
    }
}

/* Infinite if the model reports none of this name. */
static inline double metric(const gan_model *model, const char *name, size_t length) {
    for (int i = 0; gan_model_metric(model, i).name; i++) {
        const char *other = gan_model_metric(model, i).name;
        if (strlen(other) == length && strncmp(other, name, length) == 0) {
            return (double)gan_model_metric(model, i).value;
        }
    }
    return HUGE_VAL;
}

/* The metrics of a step against row `step` of the losses; tells the largest relative error. */
static inline double compare_losses(const gan_model *model, const stored_tensor *losses, int step,
                                    const char *isa) {
    const char *name = current_training->metrics ? current_training->metrics : "loss_d loss_g";
    const int columns = losses->shape.dim[1];
    double worst = 0.0;
    for (int k = 0; k < columns; k++) {
        const int length = (int)strcspn(name, " ");
        const double want = (double)losses->values[step * columns + k];
        const double got = metric(model, name, (size_t)length), error = fabs(got - want);
        CHECK(error <= LOSS_TOLERANCE * fabs(want), "%s, step %d: %.*s is %.7g, expected %.7g", isa,
              step + 1, length, name, got, want);
        worst = want != 0.0 && error / fabs(want) > worst ? error / fabs(want) : worst;
        name += length + (name[length] == ' ');
    }
    return worst;
}

static inline void run_training_in(gan_context *ctx) {
    const training_row *row = current_training;
    gan_model *model = NULL;
    double worst = 0.0;
    gan_model_desc desc = gan_model_defaults(row->system);
    desc.height = desc.width = row->size;
    desc.channels = row->channels;
    desc.batch = row->batch;
    desc.options = row->options;
    gan_checkpoint *file = open_fixtures(ctx, row->file);
    const stored_tensor losses = stored_in(file, row->name, "out", "losses");
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(losses.values, "no losses stored");
    if (model && losses.values) {
        fill_weights(gan_model_params(model), row->seed);
        for (int step = 0; step < losses.shape.dim[0]; step++) {
            CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
            fill_feeds(model, step);
            CHECK(gan_model_step(model) == GAN_OK, "%s", gan_context_error(ctx));
            const double error = compare_losses(model, &losses, step, gan_context_isa(ctx));
            worst = error > worst ? error : worst;
        }
    }
    if (getenv("GAN_TEST_VERBOSE")) {
        printf("%s (%s): losses within %.1e\n", row->name, gan_context_isa(ctx), worst);
    }
    gan_model_destroy(model);
    gan_checkpoint_close(file);
}

static inline void run_training(void) {
    for_each_isa(run_training_in);
}

static inline void run_training_rows(const training_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        current_training = &rows[i];
        test_run(current_training->name, run_training);
    }
}

#endif
