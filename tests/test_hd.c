/* test_hd.c - the networks that image translators share, and pix2pixHD: outputs and training losses
 * against PyTorch's (tests/fixtures_hd.py), names, and what the systems promise.
 */
#include "parity.h"

#define SEED 1

/* --- networks ------------------------------------------------------------------------------ */

/* A network and the shape of its input. Its output is one tensor; or several, put one behind the
 * other. */
typedef struct network_row {
    const char *name;
    int batch, channels, height, width;
    gan_tensor (*build)(gan_graph *g, gan_tensor x);
} network_row;
static const network_row *current_network;

static gani_resnet_desc resnet(int channels, int ngf, int blocks, int downs, gan_norm_kind norm) {
    gani_resnet_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels = channels;
    desc.ngf = ngf;
    desc.blocks = blocks;
    desc.downs = downs;
    desc.norm = norm;
    return desc;
}

static gan_tensor generator(gan_graph *g, gan_tensor x, int channels, int blocks,
                            gan_norm_kind norm) {
    const gani_resnet_desc desc = resnet(channels, 4, blocks, 2, norm);
    return gani_resnet_generator(g, &desc, x);
}

static gan_tensor dropout_generator(gan_graph *g, gan_tensor x) {
    gani_resnet_desc desc = resnet(3, 4, 2, 2, GAN_NORM_BATCH);
    desc.dropout = 1;
    gan_graph_set_mode(g, GAN_MODE_KEEP_ALL_UNITS);
    return gani_resnet_generator(g, &desc, x);
}

static gani_patch_desc patch(int ndf, int layers, gan_norm_kind norm) {
    gani_patch_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ndf = ndf;
    desc.layers = layers;
    desc.norm = norm;
    return desc;
}

static gan_tensor discriminator(gan_graph *g, gan_tensor x, int ndf, int layers,
                                gan_norm_kind norm) {
    const gani_patch_desc desc = patch(ndf, layers, norm);
    return gani_patch_discriminator(g, &desc, x, NULL);
}

static gan_tensor hd_generator(gan_graph *g, gan_tensor x, const gani_resnet_desc *whole,
                               int enhancers, int blocks_local) {
    gani_hd_desc desc;
    desc.whole = *whole;
    desc.enhancers = enhancers;
    desc.blocks_local = blocks_local;
    return gani_hd_generator(g, &desc, x);
}

static gan_tensor global_generator(gan_graph *g, gan_tensor x, int channels, int ngf, int blocks,
                                   int downs, gan_norm_kind norm) {
    const gani_resnet_desc whole = resnet(channels, ngf, blocks, downs, norm);
    return hd_generator(g, x, &whole, 0, 0);
}

static gan_tensor local_generator(gan_graph *g, gan_tensor x, int blocks, int enhancers,
                                  int blocks_local) {
    const gani_resnet_desc whole = resnet(3, 2, blocks, 2, GAN_NORM_INSTANCE);
    return hd_generator(g, x, &whole, enhancers, blocks_local);
}

/* All elements of the tensors, one tensor behind the other. */
static gan_tensor joined(gan_graph *g, const gan_tensor *parts, int count) {
    gan_tensor flat[16];
    for (int i = 0; i < count; i++) {
        flat[i] = gan_reshape(g, parts[i],
                              gan_shape1((int)gan_shape_count(gan_tensor_shape(g, parts[i]))));
    }
    return gan_concat(g, flat, count, 0);
}

static gan_tensor scores_at_2_sizes(gan_graph *g, gan_tensor x) {
    const gani_patch_desc desc = patch(4, 3, GAN_NORM_INSTANCE);
    const gani_hd_scores scores = gani_hd_discriminator(g, &desc, 2, x);
    return joined(g, scores.score, 2);
}

/* At each size the means of the first stage's maps, and the scores. */
static gan_tensor scores_at_3_sizes(gan_graph *g, gan_tensor x) {
    const gani_patch_desc desc = patch(4, 2, GAN_NORM_INSTANCE);
    const gani_hd_scores scores = gani_hd_discriminator(g, &desc, 3, x);
    gan_tensor parts[6];
    for (int i = 0; i < 3; i++) {
        parts[2 * i] = gan_mean(g, scores.feature[i][0], 4u | 8u);
        parts[2 * i + 1] = scores.score[i];
    }
    return joined(g, parts, 6);
}

static gan_tensor vgg19(gan_graph *g, gan_tensor x) {
    gan_tensor taps[GANI_VGG_TAPS];
    gani_vgg19(g, x, taps);
    for (int i = 0; i < GANI_VGG_TAPS; i++) {
        taps[i] = gan_mean(g, taps[i], 1u | 4u | 8u);
    }
    return joined(g, taps, GANI_VGG_TAPS);
}

/* X(name, batch, channels, height, width, network of x) */
/* clang-format off */
#define NETWORKS(X) \
    X(resnet6, 1, 3, 16, 24, generator(g, x, 2, 6, GAN_NORM_INSTANCE)) \
    X(resnet9, 1, 3, 16, 24, generator(g, x, 3, 9, GAN_NORM_INSTANCE)) \
    X(resnet9_batch, 2, 3, 16, 16, generator(g, x, 3, 9, GAN_NORM_BATCH)) \
    X(resnet2_dropout, 1, 3, 16, 24, dropout_generator(g, x)) \
    X(patch3, 2, 6, 32, 40, discriminator(g, x, 4, 3, GAN_NORM_BATCH)) \
    X(patch3_instance, 1, 3, 32, 40, discriminator(g, x, 4, 3, GAN_NORM_INSTANCE)) \
    X(patch5, 2, 3, 128, 96, discriminator(g, x, 2, 5, GAN_NORM_BATCH)) \
    X(pixel, 2, 6, 16, 16, discriminator(g, x, 4, 0, GAN_NORM_BATCH)) \
    X(pixel_instance, 1, 6, 16, 16, discriminator(g, x, 4, 0, GAN_NORM_INSTANCE)) \
    X(global, 1, 5, 64, 48, global_generator(g, x, 1, 2, 3, 4, GAN_NORM_INSTANCE)) \
    X(global_batch, 2, 5, 16, 16, global_generator(g, x, 3, 4, 2, 2, GAN_NORM_BATCH)) \
    X(local, 1, 5, 32, 24, local_generator(g, x, 2, 1, 3)) \
    X(local2, 1, 5, 32, 32, local_generator(g, x, 1, 2, 1)) \
    X(scales2, 1, 8, 32, 40, scores_at_2_sizes(g, x)) \
    X(scales3, 1, 8, 32, 32, scores_at_3_sizes(g, x)) \
    X(vgg19, 1, 3, 16, 16, vgg19(g, x))
/* clang-format on */

#define NETWORK_FUNCTION(name, n, c, h, w, network)                \
    static gan_tensor build_##name(gan_graph *g, gan_tensor x) { \
        return network;                                            \
    }
NETWORKS(NETWORK_FUNCTION)

static const network_row network_rows[] = {
#define NETWORK_ROW(name, n, c, h, w, network) {#name, n, c, h, w, build_##name},
    NETWORKS(NETWORK_ROW)};
#define NETWORK_COUNT (sizeof network_rows / sizeof network_rows[0])

/* Largest error relative to the largest value. */
static double compare_output(const float *got, const stored_tensor *want) {
    double largest = 0.0, worst = 0.0;
    for (size_t i = 0; i < want->count; i++) {
        const double value = (double)want->values[i], error = fabs((double)got[i] - value);
        largest = fabs(value) > largest ? fabs(value) : largest;
        worst = error > worst || error != error ? error : worst;
    }
    return worst / largest;
}

static void run_network_in(gan_context *ctx) {
    const network_row *row = current_network;
    const gan_shape shape = gan_shape4(row->batch, row->channels, row->height, row->width);
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_program *program = NULL;
    char input[64];
    gan_checkpoint *file = open_fixtures(ctx, "hd");
    const stored_tensor want = stored_in(file, row->name, "out", "y");
    CHECK(want.values, "%s is not stored", row->name);
    CHECK(gan_params_create(&params, ctx, 1) == GAN_OK, "no parameters");
    CHECK(gan_graph_create(&g, ctx, params) == GAN_OK, "no graph");
    gan_tensor x = gan_input(g, "x", shape);
    gan_graph_push(g, row->name);
    gan_tensor y = row->build(g, x);
    gan_graph_pop(g);
    fill_weights(params, SEED);
    snprintf(input, sizeof input, "%s.x", row->name);
    fill_random(gan_input_data(g, x), gan_shape_count(shape), input, SEED, -1.0f, 1.0f);
    gan_status status = gan_program_create(&program, g, row->name, &y, 1);
    status = status ? status : gan_program_run(program);
    CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
    const size_t count = status == GAN_OK ? gan_shape_count(gan_tensor_shape(g, y)) : 0;
    CHECK(count == want.count, "%lu values, expected %lu", (unsigned long)count,
          (unsigned long)want.count);
    if (count > 0 && count == want.count) {
        const double error = compare_output(gan_program_output(program, y), &want);
        CHECK(error < 1e-5, "%s: differs by %.2g of the largest value", gan_context_isa(ctx), error);
        if (getenv("GAN_TEST_VERBOSE")) {
            printf("%s (%s): within %.1e\n", row->name, gan_context_isa(ctx), error);
        }
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
    gan_checkpoint_close(file);
}

static void run_network(void) {
    for_each_isa(run_network_in);
}

/* --- training ------------------------------------------------------------------------------ */

static const training_feed feeds[] = {{"label", "label", 0.0f, 10.0f, 1},
                                      {"real", "images", -1.0f, 1.0f, 0},
                                      {"instance", "instance", 0.0f, 10.0f, 1},
                                      {NULL, NULL, 0.0f, 0.0f, 0}};

#define SMALL "classes=10 ngf=4 blocks=2 downs=2 ndf=4"
static const training_row training_rows[] = {
    {"hd", "pix2pixhd", "pix2pixhd", SMALL, NULL, 32, 1, 2, 1, feeds},
    {"hd", "pix2pixhd_unmatched", "pix2pixhd", SMALL " match=0", NULL, 32, 1, 2, 1, feeds},
    {"hd", "pix2pixhd_local", "pix2pixhd", SMALL " enhancers=1 blocks-local=1", NULL, 32, 1, 2, 1,
     feeds},
    {"hd", "pix2pixhd_edges", "pix2pixhd", SMALL " instances=on", NULL, 32, 1, 2, 2, feeds},
    {"hd", "pix2pixhd_features", "pix2pixhd",
     SMALL " instances=on features=3 nef=2 downs-e=2 clusters=2", NULL, 32, 1, 2, 2, feeds},
};

int main(int argc, char **argv) {
    test_begin(argc, argv);
    for (size_t i = 0; i < NETWORK_COUNT; i++) {
        current_network = &network_rows[i];
        test_run(current_network->name, run_network);
    }
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    return test_end();
}
