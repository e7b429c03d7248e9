/* test_hd.c - the networks that image translators share, and pix2pixHD: outputs and training losses
 * against PyTorch's (tests/fixtures_hd.py), names, and what the systems promise.
 */
#include "parity.h"

#include "files.h"

#define SEED 1

/* --- networks ------------------------------------------------------------------------------ */

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
    desc.dropout = 0.5f;
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

/* Distance of the first three channels from the others. */
static gan_tensor perceptual(gan_graph *g, gan_tensor x) {
    return gani_vgg19_distance(g, gan_slice(g, x, 1, 0, 3), gan_slice(g, x, 1, 3, 3));
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
    X(vgg19, 1, 3, 16, 16, vgg19(g, x)) \
    X(perceptual, 1, 6, 16, 16, perceptual(g, x))
/* clang-format on */

#define NETWORK_FUNCTION(name, n, c, h, w, network)              \
    static gan_tensor build_##name(gan_graph *g, gan_tensor x) { \
        return network;                                          \
    }
NETWORKS(NETWORK_FUNCTION)

static const network_row network_rows[] = {
#define NETWORK_ROW(name, n, c, h, w, network) {"hd", #name, 1, n, c, h, w, build_##name},
    NETWORKS(NETWORK_ROW)};

/* --- sizes --------------------------------------------------------------------------------- */

/* Weights and multiply-adds as the networks' papers and reference implementations have them. */
typedef struct size_row {
    const char *name;
    gan_tensor (*build)(gan_graph *g, gan_tensor x);
    int channels, side;
    double weights, multiply_adds;
} size_row;

static gan_tensor resnet_of(gan_graph *g, gan_tensor x, int ngf, int blocks) {
    const gani_resnet_desc desc = resnet(3, ngf, blocks, 2, GAN_NORM_INSTANCE);
    return gani_resnet_generator(g, &desc, x);
}

static gan_tensor resnet9_of_64(gan_graph *g, gan_tensor x) {
    return resnet_of(g, x, 64, 9);
}

static gan_tensor resnet6_of_16(gan_graph *g, gan_tensor x) {
    return resnet_of(g, x, 16, 6);
}

static gan_tensor patch70_of_64(gan_graph *g, gan_tensor x) {
    return discriminator(g, x, 64, 3, GAN_NORM_INSTANCE);
}

static gan_tensor patch286_of_64(gan_graph *g, gan_tensor x) {
    return discriminator(g, x, 64, 5, GAN_NORM_BATCH);
}

static gan_tensor pixel_of_64(gan_graph *g, gan_tensor x) {
    return discriminator(g, x, 64, 0, GAN_NORM_BATCH);
}

static gan_tensor global_of_16(gan_graph *g, gan_tensor x) {
    return global_generator(g, x, 3, 16, 3, 2, GAN_NORM_INSTANCE);
}

static gan_tensor local_of_8(gan_graph *g, gan_tensor x) {
    const gani_resnet_desc whole = resnet(3, 8, 3, 2, GAN_NORM_INSTANCE);
    return hd_generator(g, x, &whole, 1, 2);
}

static gan_tensor scales_of_16(gan_graph *g, gan_tensor x) {
    const gani_patch_desc desc = patch(16, 3, GAN_NORM_INSTANCE);
    const gani_hd_scores scores = gani_hd_discriminator(g, &desc, 2, x);
    return joined(g, scores.score, 2);
}

static void sizes_of_networks(void) {
    static const size_row rows[] = {
        {"ResNet, 9 blocks", resnet9_of_64, 3, 256, 11378179, 49551507456.0},
        {"ResNet, 6 blocks", resnet6_of_16, 3, 128, 494083, 605552640},
        {"70x70 patches", patch70_of_64, 3, 256, 2764737, 3146809344.0},
        {"286x286 patches", patch286_of_64, 6, 256, 11159361, 2185527296.0},
        {"pixels", pixel_of_64, 6, 256, 9024, 570425344},
        {"global", global_of_16, 3, 64, 272515, 94765056},
        {"local", local_of_8, 3, 64, 284131, 42713088},
        {"at two sizes", scales_of_16, 6, 64, 351714, 26795008},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_params *params = NULL;
        gan_graph *g = NULL;
        gan_program_info info;
        double weights = 0.0;
        memset(&info, 0, sizeof info);
        gan_params_create(&params, ctx, 1);
        gan_graph_create(&g, ctx, params);
        const gan_shape shape = gan_shape4(1, rows[i].channels, rows[i].side, rows[i].side);
        gan_tensor y = rows[i].build(g, gan_input(g, "x", shape));
        CHECK(gan_program_measure(g, &y, 1, &info) == GAN_OK, "%s", gan_context_error(ctx));
        for (int k = 0; k < gan_params_count(params); k++) {
            const gan_param_info param = gan_params_at(params, k);
            weights += param.kind == GAN_PARAM_WEIGHT ? (double)gan_shape_count(param.shape) : 0.0;
        }
        CHECK(weights == rows[i].weights, "%s: %.0f weights", rows[i].name, weights);
        CHECK(info.multiply_adds == rows[i].multiply_adds, "%s: %.0f multiply-adds", rows[i].name,
              info.multiply_adds);
        gan_graph_destroy(g);
        gan_params_destroy(params);
    }
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

/* --- instances ----------------------------------------------------------------------------- */

/* Runs a program for the tensors of a graph; its outputs are read with gan_program_output. */
static gan_program *run_graph(gan_graph *g, const gan_tensor *outputs, int count) {
    gan_program *program = NULL;
    gan_status status = gan_program_create(&program, g, "test", outputs, count);
    status = status ? status : gan_program_run(program);
    CHECK(status == GAN_OK, "%s", gan_context_error(g->ctx));
    return status ? NULL : program;
}

static void edges_are_on_both_sides(void) {
    static const float instance[4][5] = {
        {7, 7, 7, 9, 9}, {7, 7, 7, 9, 9}, {7, 7, 7, 7, 7}, {0, 0, 7, 7, 7}};
    static const float want[4][5] = {
        {0, 0, 1, 1, 0}, {0, 0, 1, 1, 1}, {1, 1, 0, 1, 1}, {1, 1, 1, 0, 0}};
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_params_create(&params, ctx, 1);
    gan_graph_create(&g, ctx, params);
    gan_tensor x = gan_input(g, "x", gan_shape4(1, 1, 4, 5));
    memcpy(gan_input_data(g, x), instance, sizeof instance);
    gan_tensor y = gani_hd_edges(g, x);
    gan_program *program = run_graph(g, &y, 1);
    for (int i = 0; program && i < 20; i++) {
        const float got = gan_program_output(program, y)[i];
        CHECK(got == want[i / 5][i % 5], "pixel %d: %g", i, (double)got);
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
}

enum { MEAN_N = 2, MEAN_C = 3, MEAN_PIXELS = 6 * 7 };

/* Mean of v [n,c,pixels] over the pixels that have the instance of pixel i. */
static double mean_at(const float *v, const float *instance, int n, int c, int i) {
    double sum = 0.0, count = 0.0;
    instance += n * MEAN_PIXELS;
    v += (n * MEAN_C + c) * MEAN_PIXELS;
    for (int k = 0; k < MEAN_PIXELS; k++) {
        sum += instance[k] == instance[i] ? (double)v[k] : 0.0;
        count += instance[k] == instance[i];
    }
    return sum / count;
}

/* Against sums in double precision. The gradient of sum(mix * mean(x)) in x is mean(mix): averaging
 * is its own adjoint. */
static void means_of_instances(void) {
    static const float ids[] = {0.0f, 65535.0f, 7.0f, 26001.0f};
    float instance[MEAN_N * MEAN_PIXELS];
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_params_create(&params, ctx, 1);
    gan_graph_create(&g, ctx, params);
    const gan_shape shape = gan_shape4(MEAN_N, MEAN_C, 6, 7);
    gan_tensor x = gan_input(g, "x", shape), mix = gan_input(g, "mix", shape);
    gan_tensor id = gan_input(g, "instance", gan_shape4(MEAN_N, 1, 6, 7));
    fill_random(instance, MEAN_N * MEAN_PIXELS, "instance", 1, 0.0f, 4.0f);
    for (int i = 0; i < MEAN_N * MEAN_PIXELS; i++) {
        instance[i] = ids[(int)instance[i]];
    }
    memcpy(gan_input_data(g, id), instance, sizeof instance);
    fill_random(gan_input_data(g, x), gan_shape_count(shape), "x", 1, -1.0f, 1.0f);
    fill_random(gan_input_data(g, mix), gan_shape_count(shape), "mix", 1, -1.0f, 1.0f);
    gan_tensor both[2];
    both[0] = gani_hd_instance_mean(g, x, id);
    gan_grad(g, gan_sum(g, gan_mul(g, both[0], mix), GAN_ALL_AXES), &x, 1, &both[1]);
    gan_program *program = run_graph(g, both, 2);
    for (int i = 0; program && i < MEAN_N * MEAN_C * MEAN_PIXELS; i++) {
        const int n = i / (MEAN_C * MEAN_PIXELS), c = i / MEAN_PIXELS % MEAN_C;
        const double y = mean_at(gan_input_data(g, x), instance, n, c, i % MEAN_PIXELS);
        const double dx = mean_at(gan_input_data(g, mix), instance, n, c, i % MEAN_PIXELS);
        const double got_y = (double)gan_program_output(program, both[0])[i];
        const double got_dx = (double)gan_program_output(program, both[1])[i];
        CHECK(fabs(got_y - y) < 1e-6, "[%d]: mean %g, expected %g", i, got_y, y);
        CHECK(fabs(got_dx - dx) < 1e-6, "[%d]: gradient %g, expected %g", i, got_dx, dx);
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
}

static void clusters_of_points(void) {
    static const float points[][3] = {{0, 0, 0},  {0, 1, 0},  {0, 0, 1}, {0, 20, 0}, {2, 5, 5},
                                      {0, 21, 1}, {0, 0, 30}, {0, 1, 1}, {0, 1, 30}};
    static const double want[3][2] = {{0.5, 0.5}, {0.5, 30.0}, {20.5, 0.5}};
    gani_styles styles;
    float centres[6];
    double sums[9];
    memset(&styles, 0, sizeof styles);
    styles.ctx = ctx;
    styles.features = 2;
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        memcpy(gani_add_style(&styles), points[i], sizeof points[i]);
    }
    gani_cluster_class(&styles, 0, centres, 3, sums);
    for (int i = 0; i < 3; i++) { /* each once */
        int found = 0;
        for (int k = 0; k < 3; k++) {
            found += fabs((double)centres[2 * k] - want[i][0]) < 1e-6 &&
                     fabs((double)centres[2 * k + 1] - want[i][1]) < 1e-6;
        }
        CHECK(found == 1, "centre %g %g found %d times", want[i][0], want[i][1], found);
    }
    gani_cluster_class(&styles, 2, centres, 3, sums);
    for (int i = 0; i < 6; i++) {
        CHECK(centres[i] == 5.0f, "the only point of a class: %g", (double)centres[i]);
    }
    memset(centres, 0, sizeof centres);
    gani_cluster_class(&styles, 1, centres, 3, sums);
    CHECK(centres[0] == 0.0f && centres[5] == 0.0f, "centres of a class without points");
    gani_free(ctx, styles.rows);
}

/* --- the system ---------------------------------------------------------------------------- */

enum { CLASSES = 4, SIDE = 16, RECORDS = 3 };
#define TINY "classes=4 ngf=2 ndf=2 nef=2 downs=2 downs-e=1 blocks=1 layers=1 "

/* Maps of four squares, photos that follow them, instances: a number for each square. */
static void write_records(void) {
    static const char *const folders[] = {"label", "photo", "instance"};
    for (int part = 0; part < 3; part++) {
        make_folder(folders[part]);
        for (int i = 0; i < RECORDS; i++) {
            char name[64];
            gan_image image = rule_image(part == 1 ? 3 : 1, SIDE, SIDE);
            image.maxval = part == 2 ? 65535 : 255;
            for (int p = 0; p < SIDE * SIDE; p++) {
                const int square = 2 * (p / SIDE / (SIDE / 2)) + p % SIDE / (SIDE / 2);
                const int label = (square + i) % CLASSES;
                for (int c = 0; c < image.channels; c++) {
                    uint16_t *sample = &image.samples[p * image.channels + c];
                    *sample = (uint16_t)(part == 0   ? label
                                         : part == 1 ? 40 * label + 20 * c + *sample / 8
                                                     : 1000 * label + square);
                }
            }
            snprintf(name, sizeof name, "%s/%d.%s", folders[part], i, part == 1 ? "ppm" : "pgm");
            CHECK(gan_image_write(ctx, in_folder(name), &image) == GAN_OK, "%s",
                  gan_context_error(ctx));
            gan_image_free(ctx, &image);
        }
    }
}

static gan_model *tiny_model(const char *options, const char *vgg) {
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("pix2pixhd");
    desc.height = desc.width = SIDE;
    desc.options = options;
    desc.vgg = vgg;
    desc.seed = 5;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    return model;
}

static gan_dataset *open_records(const gan_model *model) {
    gan_dataset_desc desc = gan_model_dataset_desc(model);
    desc.pairing = GAN_PAIRING_NAMES;
    desc.path_b = in_folder("photo");
    desc.path_instances = in_folder("instance");
    return open_data(in_folder("label"), &desc);
}

static void train_to(gan_model *model, gan_dataset *data, uint64_t steps) {
    while (gan_params_step(gan_model_params(model)) < steps) {
        const gan_status status = gan_model_train(model, data);
        CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
        if (status != GAN_OK) {
            break;
        }
    }
}

static int same_parameter(gan_model *a, gan_model *b, const char *name) {
    const gan_param_info x = gan_params_find(gan_model_params(a), name);
    const gan_param_info y = gan_params_find(gan_model_params(b), name);
    return x.data && y.data && gan_shape_count(x.shape) == gan_shape_count(y.shape) &&
           memcmp(x.data, y.data, gan_shape_count(x.shape) * sizeof(float)) == 0;
}

/* A global network starts one with an enhancer, whose inner part rests at first. */
static void coarse_to_fine(void) {
    const char *path = in_folder("global.safetensors");
    gan_model *coarse = tiny_model(TINY "ngf=4 scales=1", NULL);
    gan_model *fine = tiny_model(TINY "enhancers=1 blocks-local=1 scales=2 stage=enhancers", NULL);
    gan_dataset *data = open_records(fine);
    train_to(coarse, data, 2);
    CHECK(gan_model_save(coarse, path) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(!same_parameter(coarse, fine, "generator.model.4.weight"), "equal from the start");
    CHECK(gan_model_start(fine, path) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(same_parameter(coarse, fine, "generator.model.1.weight"), "not taken over");
    CHECK(same_parameter(coarse, fine, "generator.model.4.weight"), "not taken over");
    CHECK(same_parameter(coarse, fine, "discriminator.scale0_layer1.0.weight"), "not taken over");
    CHECK(!gan_params_find(gan_model_params(fine), "generator.model.15.weight").data,
          "the inner part has an output of its own");
    gan_model *before =
        tiny_model(TINY "enhancers=1 blocks-local=1 scales=2 stage=enhancers", NULL);
    CHECK(same_parameter(before, fine, "generator.model1_1.1.weight"), "not as it was");
    train_to(fine, data, 1);
    CHECK(same_parameter(coarse, fine, "generator.model.4.weight"), "the inner part is trained");
    CHECK(!same_parameter(before, fine, "generator.model1_1.1.weight"), "the enhancer is not");
    gan_model *other = NULL;
    gan_model_desc desc = gan_model_defaults("gan");
    CHECK(gan_model_create(&other, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    check_status(ctx, "start", gan_model_start(other, path), GAN_ERR_SHAPE, "missing");
    gan_model_destroy(other);
    gan_model_destroy(before);
    gan_model_destroy(fine);
    gan_model_destroy(coarse);
    gan_dataset_close(data);
}

/* G, D and E, each in a file of its own that says nothing of a system, as PyTorch's. */
static void start_from_parts(void) {
    static const char *const rows[][2] = {
        {"generator.", "generator.model.1.weight"},
        {"discriminator.", "discriminator.scale1_layer1.0.weight"},
        {"encoder.", "encoder.model.4.weight"}};
    const char *options = TINY "instances=on features=2 clusters=2";
    gan_model *trained = tiny_model(options, NULL), *fresh = tiny_model(options, NULL);
    gan_dataset *data = open_records(trained);
    gan_checkpoint *file = NULL;
    char whole[300], part[300];
    snprintf(whole, sizeof whole, "%s", in_folder("whole.safetensors"));
    snprintf(part, sizeof part, "%s", in_folder("part.safetensors"));
    train_to(trained, data, 1);
    CHECK(!gan_model_save(trained, whole) && !gan_checkpoint_open(&file, ctx, whole), "%s",
          gan_context_error(ctx));
    for (int i = 0; i < 3; i++) {
        CHECK(!same_parameter(trained, fresh, rows[i][1]), "%s as before training", rows[i][1]);
        CHECK(!gan_checkpoint_export(file, part, rows[i][0]) && !gan_model_start(fresh, part),
              "%s", gan_context_error(ctx));
        CHECK(same_parameter(trained, fresh, rows[i][1]), "%s not taken over", rows[i][1]);
    }
    gan_checkpoint_close(file);
    remove(whole);
    remove(part);
    gan_dataset_close(data);
    gan_model_destroy(trained);
    gan_model_destroy(fresh);
}

static double difference(const float *a, const float *b, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += fabs((double)a[i] - (double)b[i]);
    }
    return sum / (double)count;
}

/* Batch norm by the image itself, or as the caller switches. */
static void switches(void) {
    enum { H = 16, W = 20, OUT = 3 * H * W };
    float in[H * W], y[3][OUT];
    gan_model *model = tiny_model(TINY "norm=batch", NULL);
    for (int i = 0; i < H * W; i++) {
        in[i] = (float)(i % CLASSES);
    }
    static const char *const inputs[] = {NULL, "running-stats=0", "running-stats=1"};
    for (int k = 0; k < 3; k++) {
        CHECK(gan_model_translate(model, in, 1, H, W, inputs[k], y[k]) == GAN_OK, "%s",
              gan_context_error(ctx));
    }
    CHECK(difference(y[0], y[1], OUT) == 0.0 && difference(y[0], y[2], OUT) > 1e-6,
          "running-stats");
    gan_model_destroy(model);
}

/* Styles come from the clusters of the class: others for another seed, or the one asked for. */
static void styles_are_drawn(void) {
    enum { H = 10, W = 13, OUT = 3 * H * W };
    float in[2 * H * W], y[4][OUT];
    gan_model *model = tiny_model(TINY "instances=on features=2 clusters=3", NULL);
    gan_dataset *data = open_records(model);
    train_to(model, data, 3);
    CHECK(gan_model_cluster(model, data) == GAN_OK, "%s", gan_context_error(ctx));
    const gan_param_info clusters = gan_params_find(gan_model_params(model), "clusters");
    CHECK(clusters.shape.dim[0] == CLASSES * 3 && clusters.shape.dim[1] == 2, "clusters");
    for (int k = 0; k < CLASSES; k++) {
        CHECK(clusters.data[6 * k] != 0.0f && clusters.data[6 * k] != clusters.data[6 * k + 2],
              "class %d has one style only", k);
    }
    for (int i = 0; i < H * W; i++) {
        in[i] = (float)(i % W / 4);
        in[H * W + i] = in[i] * 1000.0f;
    }
    static const char *const inputs[] = {NULL, "seed=0", "seed=1", "style=2"};
    for (int k = 0; k < 4; k++) {
        CHECK(gan_model_translate(model, in, 1, H, W, inputs[k], y[k]) == GAN_OK, "%s",
              gan_context_error(ctx));
    }
    CHECK(difference(y[0], y[1], OUT) == 0.0, "the same seed, another image");
    CHECK(difference(y[0], y[2], OUT) > 1e-6, "another seed, the same image");
    CHECK(difference(y[0], y[3], OUT) > 1e-6, "style=2 makes no difference");
    const char *path = in_folder("styles.safetensors");
    gan_model *used = NULL;
    gan_model_desc use;
    memset(&use, 0, sizeof use);
    use.disable_training = 1;
    CHECK(gan_model_save(model, path) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_load(&used, ctx, path, &use) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(used && gan_model_translate(used, in, 1, H, W, NULL, y[1]) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(difference(y[0], y[1], OUT) == 0.0, "another image from the checkpoint");
    gan_model_destroy(used);
    in[5] = CLASSES;
    check_status(ctx, "a class that there is not",
                 gan_model_translate(model, in, 1, H, W, NULL, y[0]), GAN_ERR_NUMERIC, "index");
    gan_model_destroy(model);
    gan_dataset_close(data);
}

/* Every allocation of clustering fails once; then it works. */
static void clusters_without_memory(void) {
    gan_context *usual = ctx, *poor = NULL;
    gan_context_desc desc;
    counting count = {0, 0, 0};
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    desc.allocator.alloc = counting_alloc;
    desc.allocator.free = counting_free;
    desc.allocator.user = &count;
    CHECK(gan_context_create(&poor, &desc) == GAN_OK, "no context");
    ctx = poor;
    gan_model *model = tiny_model(TINY "instances=on features=2 clusters=2", NULL);
    gan_dataset *data = open_records(model);
    const int alive = count.live;
    gan_status status = GAN_ERR_MEMORY;
    for (int k = 1; status == GAN_ERR_MEMORY && k < 5000; k++) {
        count.calls = 0;
        count.fail_at = k;
        status = gan_model_cluster(model, data);
    }
    CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
    count.fail_at = 0;
    CHECK(count.live >= alive, "more is free than was taken");
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(poor);
    CHECK(count.live == 0, "%d allocations left", count.live);
    ctx = usual;
}

/* Training that is broken off and goes on gives the same bits. */
static void going_on(void) {
    const char *options = TINY "instances=on features=2 clusters=2 lr-hold=1 lr-decay=4";
    const char *path = in_folder("going_on.safetensors");
    gan_model *through = tiny_model(options, NULL), *first = tiny_model(options, NULL);
    gan_model *second = NULL;
    gan_dataset *data = open_records(through);
    train_to(through, data, 4);
    train_to(first, data, 2);
    CHECK(gan_model_save(first, path) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_load(&second, ctx, path, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    train_to(second, data, 4);
    for (int i = 0; i < gan_params_count(gan_model_params(through)); i++) {
        const char *name = gan_params_at(gan_model_params(through), i).name;
        CHECK(same_parameter(through, second, name), "%s differs", name);
    }
    gan_model_destroy(second);
    gan_model_destroy(first);
    gan_model_destroy(through);
    gan_dataset_close(data);
}

static void check_refused(const char *options, const char *vgg, gan_status want, const char *word) {
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("pix2pixhd");
    desc.height = desc.width = SIDE;
    desc.options = options;
    desc.vgg = vgg;
    check_status(ctx, options, gan_model_create(&model, ctx, &desc), want, word);
    gan_model_destroy(model);
}

static void refusals(void) {
    check_refused(TINY "features=3", NULL, GAN_ERR_ARGUMENT, "instances=on");
    check_refused(TINY "stage=enhancers", NULL, GAN_ERR_ARGUMENT, "enhancers=0");
    check_refused("classes=4 instances=on features=3 downs=2 downs-e=5", NULL, GAN_ERR_SHAPE,
                  "multiples of 32");
    check_refused("classes=4 downs=5", NULL, GAN_ERR_SHAPE, "multiples of 32, found 16 x 16");
    check_refused(TINY "vgg=10", NULL, GAN_ERR_ARGUMENT, "gan_model_desc.vgg");
    check_refused(TINY "vgg=10", in_folder("none.safetensors"), GAN_ERR_FILE, "none.safetensors");
    gan_model *model = tiny_model(TINY, NULL);
    const char *path = in_folder("tiny.safetensors");
    CHECK(gan_model_save(model, path) == GAN_OK, "%s", gan_context_error(ctx));
    check_refused(TINY "vgg=10", path, GAN_ERR_SHAPE, "vgg.features.0.weight");
    gan_dataset *data = open_records(model);
    check_status(ctx, "cluster", gan_model_cluster(model, data), GAN_ERR_UNSUPPORTED, "features");
    gan_dataset_close(data);
    gan_model_destroy(model);
}

/* The term is there, with the weights of the file, which training leaves alone. */
static void perceptual_term(void) {
    const char *path = in_folder("vgg19.safetensors");
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_tensor taps[GANI_VGG_TAPS];
    gan_params_create(&params, ctx, 1);
    gan_graph_create(&g, ctx, params);
    gani_vgg19(g, gan_input(g, "x", gan_shape4(1, 3, SIDE, SIDE)), taps);
    fill_weights(params, SEED);
    CHECK(gan_params_save(params, path, NULL, 0) == GAN_OK, "%s", gan_context_error(ctx));
    gan_model *without = tiny_model(TINY, NULL), *with = tiny_model(TINY "vgg=10", path);
    gan_dataset *data = open_records(with);
    train_to(without, data, 1);
    train_to(with, data, 1);
    const double distance = metric(with, "loss_vgg", 8);
    const double more = metric(with, "loss_g", 6) - metric(without, "loss_g", 6);
    CHECK(distance > 0.0 && fabs(more - distance) < 1e-4 * distance,
          "loss_vgg is %g, loss_g is larger by %g", distance, more);
    const gan_param_info kept = gan_params_find(gan_model_params(with), "vgg.features.28.weight");
    const gan_param_info file = gan_params_find(params, "features.28.weight");
    CHECK(kept.data && memcmp(kept.data, file.data, gan_shape_count(file.shape) * 4) == 0,
          "not the weights of the file");
    const char *saved = in_folder("with.safetensors");
    gan_model *again = NULL;
    CHECK(gan_model_save(with, saved) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_load(&again, ctx, saved, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(again && same_parameter(with, again, "vgg.features.28.weight"), "lost when loaded");
    gan_model_destroy(again);
    remove(saved);
    gan_dataset_close(data);
    gan_model_destroy(with);
    gan_model_destroy(without);
    gan_graph_destroy(g);
    gan_params_destroy(params);
    remove(path);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    run_network_rows(network_rows, sizeof network_rows / sizeof network_rows[0]);
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    if (!files_begin("hd")) {
        return 1;
    }
    write_records();
    TEST(sizes_of_networks);
    TEST(edges_are_on_both_sides);
    TEST(means_of_instances);
    TEST(clusters_of_points);
    TEST(coarse_to_fine);
    TEST(start_from_parts);
    TEST(switches);
    TEST(styles_are_drawn);
    TEST(clusters_without_memory);
    TEST(going_on);
    TEST(refusals);
    TEST(perceptual_term);
    files_end();
    return test_end();
}
