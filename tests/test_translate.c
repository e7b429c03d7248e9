/* test_translate.c - pix2pix, CycleGAN, DualGAN, DiscoGAN: U-Nets and first training losses against
 * PyTorch's (tests/fixtures_translate.py), names, sizes, switches, what is computed how often.
 */
#include "parity.h"

#define SEED 1

/* --- U-Net --------------------------------------------------------------------------------- */

static gan_tensor unet(gan_graph *g, gan_tensor x, int channels, int ngf, int levels,
                       gan_norm_kind norm) {
    gani_unet_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels = channels;
    desc.ngf = ngf;
    desc.levels = levels;
    desc.kernel = desc.outer = 4;
    desc.norm = norm;
    return gani_unet(g, &desc, x);
}

/* Kernels of odd sides, and DualGAN's instance norm. */
static gan_tensor odd_unet(gan_graph *g, gan_tensor x) {
    gani_unet_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels = 3;
    desc.ngf = desc.levels = 4;
    desc.kernel = 3;
    desc.outer = 5;
    desc.norm = GAN_NORM_INSTANCE;
    desc.instance = &gani_dualgan_norm;
    return gani_unet(g, &desc, x);
}

/* X(name, batch, channels, height, width, network of x) */
/* clang-format off */
#define UNETS(X) \
    X(unet_256, 1, 3, 256, 256, unet(g, x, 3, 4, 8, GAN_NORM_BATCH)) \
    X(unet_128, 1, 3, 128, 128, unet(g, x, 3, 4, 7, GAN_NORM_BATCH)) \
    X(unet_64_instance, 2, 1, 64, 64, unet(g, x, 2, 4, 6, GAN_NORM_INSTANCE)) \
    X(unet_wide, 1, 3, 64, 96, unet(g, x, 3, 8, 5, GAN_NORM_BATCH)) \
    X(unet_odd, 2, 3, 32, 48, odd_unet(g, x))
/* clang-format on */

#define UNET_FUNCTION(name, n, c, h, w, network)                 \
    static gan_tensor build_##name(gan_graph *g, gan_tensor x) { \
        return network;                                          \
    }
UNETS(UNET_FUNCTION)

static const network_row unet_rows[] = {
#define UNET_ROW(name, n, c, h, w, network) {"translate", #name, 101, n, c, h, w, build_##name},
    UNETS(UNET_ROW)};

/* --- training against PyTorch -------------------------------------------------------------- */

static const training_feed pair_feeds[] = {
    {"real_a", "a", -1.0f, 1.0f, 0},
    {"real_b", "b", -1.0f, 1.0f, 0},
    {"epsilon_a", "epsilon_a", 0.0f, 1.0f, 0},
    {"epsilon_b", "epsilon_b", 0.0f, 1.0f, 0},
    {NULL, NULL, 0.0f, 0.0f, 0},
};

#define ROW(name, system, options, size, batch, seed) \
    { "translate", name, system, options, NULL, size, 3, batch, seed, pair_feeds }

static const training_row training_rows[] = {
    ROW("pix2pix", "pix2pix", "ngf=4 ndf=4 dropout=0", 32, 2, 1),
    ROW("pix2pix_pixel", "pix2pix", "ngf=4 ndf=4 dropout=0 d-layers=0 loss=lsgan", 32, 2, 1),
    ROW("pix2pix_instance", "pix2pix", "ngf=4 ndf=4 dropout=0 d-layers=1 norm=instance", 32, 2, 1),
    ROW("cyclegan", "cyclegan", "ngf=4 ndf=4 blocks=1 d-layers=2 pool=0", 16, 2, 1),
    ROW("cyclegan_unet", "cyclegan", "net=unet ngf=4 ndf=4 d-layers=2 pool=0 identity=0", 32, 2, 2),
    ROW("dualgan", "dualgan", "ngf=4 ndf=4 clip=0.1", 32, 2, 2),
    ROW("dualgan_gp", "dualgan", "ngf=4 ndf=4 loss=wgan-gp critic=patch", 32, 2, 1),
    ROW("dualgan_classic", "dualgan", "ngf=4 ndf=4 loss=classic", 32, 2, 1),
    ROW("discogan", "discogan", "ngf=4 ndf=4 start=5", 32, 4, 1),
    ROW("discogan_bottleneck", "discogan",
        "ngf=4 ndf=4 bottleneck=6 rate=0.9 start-rate=0.9 features=1", 28, 4, 1),
};

/* --- small models -------------------------------------------------------------------------- */

static gan_model *open_model(gan_context *ctx, const char *system, int size, const char *options,
                             int disable_training) {
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults(system);
    desc.height = desc.width = size;
    desc.batch = 2;
    desc.options = options;
    desc.seed = 3;
    desc.disable_training = disable_training;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    return model;
}

/* Sizes of the networks as counted from the reference implementations; DualGAN's has no norm at the
 * innermost level, 128 numbers less. */
static void sizes_of_networks(void) {
    static const struct {
        const char *system, *options;
        int size;
        double generator, discriminator;
        const char *names[2]; /* of parameters */
    } rows[] = {
        {"pix2pix",
         "ngf=8 ndf=16",
         32,
         261715,
         176081,
         {"generator.model.model.0.weight",
          "generator.model.model.1.model.3.model.3.model.3.model.4.running_var"}},
        {"pix2pix",
         "ngf=8 ndf=16 d-layers=2",
         64,
         458579,
         43729,
         {"generator.model.model.3.bias",
          "generator.model.model.1.model.3.model.3.model.3.model.3.model.3.weight"}},
        {"pix2pix",
         "ngf=16 ndf=64 d-layers=0",
         128,
         2617507,
         9024,
         {"generator.model.model.1.model.6.weight", "discriminator.net.5.weight"}},
        {"cyclegan",
         "ngf=16 ndf=16",
         64,
         494083,
         175089,
         {"generator_a.model.10.conv_block.1.weight", "discriminator_b.model.11.bias"}},
        {"dualgan",
         "ngf=8 ndf=8",
         256,
         481803,
         66289,
         {"generator_a.model.model.1.model.2.bias", "discriminator_b.main.3.weight"}},
        {"discogan",
         "",
         64,
         5513856,
         2765568,
         {"generator_a.main.20.weight", "discriminator_b.bn4.weight"}},
        {"discogan",
         "bottleneck=100",
         64,
         7153480,
         2765568,
         {"generator_b.main.26.weight", "discriminator_a.conv5.weight"}},
    };
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model = open_model(ctx, rows[i].system, rows[i].size, rows[i].options, 0);
        const double nets = gan_system_find(rows[i].system)->two_way ? 2.0 : 1.0;
        const double g = count_weights(model, "generator") / nets;
        const double d = count_weights(model, "discriminator") / nets;
        CHECK(g == rows[i].generator && d == rows[i].discriminator, "%s %s: %.0f and %.0f weights",
              rows[i].system, rows[i].options, g, d);
        for (int k = 0; k < 2; k++) {
            CHECK(gan_params_find(gan_model_params(model), rows[i].names[k]).data, "%s: no %s",
                  rows[i].system, rows[i].names[k]);
        }
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* Sides of the map of scores, from the receptive field and the strides. */
static void patches(void) {
    static const int rows[][3] = {/* halvings, side, scores on a side */
                                  {0, 20, 20},  {1, 32, 14},  {2, 64, 14}, {3, 64, 6},
                                  {3, 256, 30}, {4, 256, 14}, {5, 256, 6}};
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_params *params = NULL;
        gan_graph *g = NULL;
        gani_patch_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.ndf = 1;
        desc.layers = rows[i][0];
        desc.norm = GAN_NORM_BATCH;
        CHECK(gan_params_create(&params, ctx, 1) == GAN_OK, "no parameters");
        CHECK(gan_graph_create(&g, ctx, params) == GAN_OK, "no graph");
        gan_tensor x = gan_input(g, "x", gan_shape4(1, 6, rows[i][1], rows[i][1]));
        const gan_shape shape = gan_tensor_shape(g, gani_patch_discriminator(g, &desc, x, NULL));
        CHECK(shape.rank == 4 && shape.dim[1] == 1 && shape.dim[2] == rows[i][2] &&
                  shape.dim[3] == rows[i][2],
              "%d halvings of %d: %d x %d scores", rows[i][0], rows[i][1], shape.dim[2],
              shape.dim[3]);
        gan_graph_destroy(g);
        gan_params_destroy(params);
    }
    gan_context_destroy(ctx);
}

/* --- translating --------------------------------------------------------------------------- */

enum { WIDE = 37, HIGH = 22, IMAGE = 3 * WIDE * HIGH };

/* One image of a size that no network takes as it is, in [-1,1]. */
static void translate(gan_model *model, const char *inputs, float *out) {
    static float image[IMAGE];
    fill_random(image, IMAGE, "image", SEED, -1.0f, 1.0f);
    memset(out, 0, IMAGE * sizeof *out);
    const gan_status status = gan_model_translate(model, image, 1, HIGH, WIDE, inputs, out);
    CHECK(status == GAN_OK, "%s: %s", inputs ? inputs : "", gan_context_error(model->ctx));
    for (int i = 0; i < IMAGE; i++) {
        if (!(out[i] >= -1.0f && out[i] <= 1.0f)) {
            CHECK(0, "[%d] is %g", i, (double)out[i]);
            break;
        }
    }
}

static int same(const float *a, const float *b) {
    return memcmp(a, b, IMAGE * sizeof *a) == 0;
}

/* Dropout and the statistics of the image are on unless switched off; the seed is dropout's. */
static void switches(void) {
    static float standard[IMAGE], other[IMAGE], still[IMAGE], running[IMAGE];
    gan_context *ctx = context_of(NULL, 0, NULL);
    gan_model *model = open_model(ctx, "pix2pix", 64, "ngf=4 ndf=4", 1);
    translate(model, NULL, standard);
    translate(model, "seed=0 dropout=1 running-stats=0", other);
    CHECK(same(standard, other), "the standard is to drop and to take the image's statistics");
    translate(model, "seed=1", other);
    CHECK(!same(standard, other), "another seed drops other units");
    translate(model, "dropout=0", still);
    translate(model, "seed=1 dropout=0", other);
    CHECK(same(still, other) && !same(still, standard), "without dropout the seed does nothing");
    translate(model, "dropout=0 running-stats=1", running);
    CHECK(!same(running, still), "running statistics are others");
    CHECK(gan_model_translate(model, standard, 1, HIGH, WIDE, "running=1", other) ==
              GAN_ERR_ARGUMENT,
          "an input there is not");
    CHECK(gan_model_translate(model, standard, 1, HIGH, WIDE, "direction=ba", other) ==
              GAN_ERR_ARGUMENT,
          "one direction only");
    gan_model_destroy(model);
    model = open_model(ctx, "pix2pix", 64, "ngf=4 ndf=4 ema=0.9", 1);
    translate(model, "dropout=0", still);
    translate(model, "dropout=0 running-stats=1", running);
    CHECK(!same(running, still), "averaged weights have running statistics of their own");
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* The same switches of a residual network; DualGAN's U-Net drops too. */
static void switches_of_others(void) {
    static const struct {
        const char *system, *options;
        int batch_norm;
    } rows[] = {{"pix2pix", "net=resnet blocks=1 norm=batch dropout=0.5 ngf=4 ndf=4", 1},
                {"cyclegan", "blocks=1 norm=batch dropout=0.5 ngf=4 ndf=4", 1},
                {"dualgan", "dropout=0.5 ngf=4 ndf=4", 0}};
    static float standard[IMAGE], other[IMAGE], still[IMAGE];
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model = open_model(ctx, rows[i].system, 64, rows[i].options, 1);
        translate(model, NULL, standard);
        translate(model, "seed=1", other);
        CHECK(!same(standard, other), "%s drops", rows[i].system);
        translate(model, "dropout=0", still);
        translate(model, "seed=1 dropout=0", other);
        CHECK(same(still, other) && !same(still, standard), "%s: dropout=0", rows[i].system);
        CHECK(gan_model_translate(model, standard, 1, HIGH, WIDE, "dropout=0 running-stats=1",
                                  other) == (rows[i].batch_norm ? GAN_OK : GAN_ERR_ARGUMENT),
              "%s: %s", rows[i].system, gan_context_error(ctx));
        CHECK(!rows[i].batch_norm || !same(still, other), "%s: running-stats=1", rows[i].system);
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* Images smaller than what a network can take, down to one pixel, are filled up too. */
static void small_images(void) {
    static const char *const rows[][2] = {
        {"pix2pix", "ngf=2 ndf=2"},
        {"pix2pix", "net=resnet blocks=1 ngf=2 ndf=2"},
        {"cyclegan", "blocks=1 ngf=2 ndf=2"},
        {"dualgan", "ngf=2 ndf=2"},
        {"discogan", "ngf=2 ndf=2"},
        {"discogan", "bottleneck=3 ngf=2 ndf=2"},
        {"pix2pixhd", "classes=0 blocks=1 ngf=2 ndf=2 downs=2"},
        {"pix2pixhd", "classes=0 blocks=1 blocks-local=1 enhancers=1 ngf=2 ndf=2 downs=1"}};
    static const int sizes[][2] = {{1, 1}, {3, 5}, {4, 4}, {7, 33}};
    static float in[3 * 7 * 33], out[3 * 7 * 33];
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model = open_model(ctx, rows[i][0], 32, rows[i][1], 1);
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            const gan_status status =
                gan_model_translate(model, in, 1, sizes[k][0], sizes[k][1], NULL, out);
            CHECK(status == GAN_OK, "%s %s, %d x %d: %s", rows[i][0], rows[i][1], sizes[k][0],
                  sizes[k][1], gan_context_error(ctx));
        }
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* Halvings that are asked for: fewer than the size allows, and none that it does not. */
static void levels(void) {
    gan_context *ctx = context_of(NULL, 0, NULL);
    gan_model *model = open_model(ctx, "pix2pix", 64, "ngf=2 ndf=2 levels=2", 1);
    gan_params *params = gan_model_params(model);
    static float out[IMAGE];
    CHECK(gan_params_find(params, "generator.model.model.1.model.3.weight").data &&
              !gan_params_find(params, "generator.model.model.1.model.3.model.1.weight").data,
          "a network of two levels");
    translate(model, NULL, out);
    gan_model_destroy(model);
    gan_model_desc desc = gan_model_defaults("pix2pix");
    desc.height = desc.width = 48;
    desc.options = "ngf=2 ndf=2 levels=5";
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_ERR_SHAPE &&
              strstr(gan_context_error(ctx), "multiples of 32, found 48 x 48"),
          "%s", gan_context_error(ctx));
    gan_context_destroy(ctx);
}

/* DualGAN's critic gives one score for an image, also of one that is not square. */
static void one_score(void) {
    static const int sizes[][2] = {{32, 64}, {64, 32}, {48, 32}};
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        gan_model *model = NULL;
        gan_model_desc desc = gan_model_defaults("dualgan");
        desc.height = sizes[i][0];
        desc.width = sizes[i][1];
        desc.options = "ngf=2 ndf=2";
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
        const gan_shape shape =
            gan_params_find(gan_model_params(model), "discriminator_a.main.8.weight").shape;
        CHECK(shape.dim[2] * 32 == sizes[i][0] * 4 && shape.dim[3] * 32 == sizes[i][1] * 4,
              "%d x %d: weights for a map of %d x %d", sizes[i][0], sizes[i][1], shape.dim[2],
              shape.dim[3]);
        CHECK(gan_model_fill(model, NULL) == GAN_OK && gan_model_step(model) == GAN_OK, "%s",
              gan_context_error(ctx));
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* Running statistics that are those of the image give what the image's own give. */
static void running_statistics(void) {
    static float images[2 * 3 * 32 * 32], own[3 * 32 * 32], running[3 * 32 * 32];
    gan_context *ctx = context_of(NULL, 0, NULL);
    gan_model *model = open_model(ctx, "pix2pix", 32, "ngf=4 ndf=4 dropout=0 lr=0", 0);
    const size_t pixels = sizeof own / sizeof own[0];
    fill_random(images, pixels, "image", SEED, -1.0f, 1.0f);
    memcpy(images + pixels, images, sizeof own); /* a batch of twice the same */
    for (int step = 0; step < 200; step++) {
        CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
        memcpy(gan_model_feed(model, "real_a", NULL), images, sizeof images);
        CHECK(gan_model_step(model) == GAN_OK, "%s", gan_context_error(ctx));
    }
    gan_model_translate(model, images, 1, 32, 32, NULL, own);
    gan_model_translate(model, images, 1, 32, 32, "running-stats=1", running);
    double worst = 0.0;
    for (size_t i = 0; i < pixels; i++) {
        worst = fmax(worst, fabs((double)own[i] - (double)running[i]));
    }
    /* running variances are unbiased: at most 8/7 of the image's, in a map of 2 x 2 twice */
    CHECK(worst > 0.0 && worst < 0.05, "differs by %g", worst);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Averages of a generator's weights translate, if there are any: until they move apart, like the
 * weights; and a model made to translate only has nothing else. */
static void averages(void) {
    static const char *const systems[] = {"pix2pix", "cyclegan"};
    static float images[2 * 3 * 32 * 32], plain[IMAGE], averaged[IMAGE];
    gan_context *ctx = context_of(NULL, 0, NULL);
    fill_random(images, sizeof images / sizeof images[0], "a", SEED, -1.0f, 1.0f);
    for (int i = 0; i < 2; i++) {
        gan_model *without = open_model(ctx, systems[i], 32, "ngf=4 ndf=4 blocks=1", 0);
        gan_model *with = open_model(ctx, systems[i], 32, "ngf=4 ndf=4 blocks=1 ema=0.5", 0);
        translate(without, NULL, plain);
        translate(with, NULL, averaged);
        CHECK(same(plain, averaged), "%s: averages start as the weights", systems[i]);
        for (int k = 0; k < 2; k++) {
            gan_model *model = k ? with : without;
            CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
            memcpy(gan_model_feed(model, "real_a", NULL), images, sizeof images);
            CHECK(gan_model_step(model) == GAN_OK, "%s", gan_context_error(ctx));
        }
        translate(without, NULL, plain);
        translate(with, NULL, averaged);
        CHECK(!same(plain, averaged), "%s: averages lag behind", systems[i]);
        gan_model_destroy(without);
        gan_model_destroy(with);
        with = open_model(ctx, systems[i], 32, "ngf=4 ndf=4 blocks=1 ema=0.5", 1);
        translate(with, NULL, averaged);
        CHECK(count_weights(with, "generator") == 0.0 && count_weights(with, "ema.generator") > 0.0,
              "%s: averages alone", systems[i]);
        gan_model_destroy(with);
    }
    gan_context_destroy(ctx);
}

/* With equal weights both directions are the same network. */
static void directions(void) {
    static const char *const rows[][2] = {{"cyclegan", "ngf=4 ndf=4 blocks=1"},
                                          {"cyclegan", "net=unet ngf=4 ndf=4"},
                                          {"dualgan", "ngf=4 ndf=4"},
                                          {"discogan", "ngf=4 ndf=4"}};
    static float ab[IMAGE], ba[IMAGE];
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model = open_model(ctx, rows[i][0], 32, rows[i][1], 1);
        gan_params *params = gan_model_params(model);
        translate(model, "direction=ab", ab);
        translate(model, "direction=ba", ba);
        CHECK(!same(ab, ba), "%s: two networks", rows[i][0]);
        for (int k = 0; k < gan_params_count(params); k++) {
            const gan_param_info a = gan_params_at(params, k);
            char name[GANI_MAX_NAME];
            if (strncmp(a.name, "generator_a.", 12) == 0) {
                snprintf(name, sizeof name, "generator_b.%s", a.name + 12);
                memcpy(gan_params_find(params, name).data, a.data,
                       gan_shape_count(a.shape) * sizeof(float));
            }
        }
        translate(model, "direction=ba", ba);
        CHECK(same(ab, ba), "%s: equal weights", rows[i][0]);
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* Domains with other numbers of channels. */
static void channels(void) {
    static const char *const rows[][2] = {{"pix2pix", "ngf=4 ndf=4"},
                                          {"pix2pix", "ngf=4 ndf=4 direction=ba"},
                                          {"cyclegan", "ngf=4 ndf=4 blocks=1 identity=0"},
                                          {"dualgan", "ngf=4 ndf=4"},
                                          {"discogan", "ngf=4 ndf=4"}};
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model = NULL;
        gan_model_info info;
        gan_model_desc desc = gan_model_defaults(rows[i][0]);
        desc.height = desc.width = 32;
        desc.batch = 2;
        desc.channels = 1;
        desc.channels_b = 3;
        desc.options = rows[i][1];
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(gan_model_get_info(model, &info) == GAN_OK, "%s", gan_context_error(ctx));
        const int ba = strstr(rows[i][1], "direction=ba") != NULL;
        CHECK(info.translate_in == (ba ? 3 : 1) && info.translate_out == (ba ? 1 : 3),
              "%s %s: %d to %d channels", rows[i][0], rows[i][1], info.translate_in,
              info.translate_out);
        gan_model_destroy(model);
    }
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("cyclegan");
    desc.height = desc.width = 32;
    desc.channels = 1;
    desc.channels_b = 3;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_ERR_SHAPE &&
              strstr(gan_context_error(ctx), "identity=0"),
          "%s", gan_context_error(ctx));
    gan_context_destroy(ctx);
}

/* --- what is computed ---------------------------------------------------------------------- */

/* Multiply-adds of a step: a generator's forward pass is 28.5e6, a discriminator's 11.5e6. Six and
 * four passes cost three times that; the frozen discriminators cost their pass and its way back to
 * the image, 46e6; layers that see nothing but data have no way back. Scratch grows with the threads:
 * one. */
static void work_and_memory(void) {
    gan_context *ctx = context_of(NULL, 1, NULL);
    gan_model_info info;
    gan_model *model = open_model(ctx, "cyclegan", 64, "ngf=8 ndf=16 blocks=3", 0);
    CHECK(gan_model_get_info(model, &info) == GAN_OK, "%s", gan_context_error(ctx));
    const double most = info.batch * (18.0 * 28508160.0 + 16.0 * 11476992.0);
    CHECK(info.train_multiply_adds < most && info.train_multiply_adds > 0.95 * most,
          "%g multiply-adds, expected a little less than %g", info.train_multiply_adds, most);
    gan_model_destroy(model);

    static const char *const rows[][2] = {{"cyclegan", "ngf=32 ndf=8"},
                                          {"pix2pix", "ngf=32 ndf=8"}};
    for (int i = 0; i < 2; i++) {
        model = open_model(ctx, rows[i][0], 256, rows[i][1], 1);
        CHECK(gan_model_get_info(model, &info) == GAN_OK, "%s", gan_context_error(ctx));
        const double weights = 4.0 * count_weights(model, "generator") / (i ? 1.0 : 2.0);
        const double largest = 4.0 * (i ? 64.0 * 128.0 * 128.0 : 32.0 * 256.0 * 256.0);
        const double beside = (double)info.translate_bytes - weights;
        CHECK(beside < 3.0 * largest, "%s: translating takes %.2f times the largest map",
              rows[i][0], beside / largest);
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* Sum of |weights| of the networks that begin so. */
static double weight_sum(gan_model *model, const char *prefix, double *largest) {
    gan_params *params = gan_model_params(model);
    double sum = 0.0;
    *largest = 0.0;
    for (int i = 0; i < gan_params_count(params); i++) {
        const gan_param_info info = gan_params_at(params, i);
        if (info.kind == GAN_PARAM_WEIGHT && strncmp(info.name, prefix, strlen(prefix)) == 0) {
            for (size_t k = 0; k < gan_shape_count(info.shape); k++) {
                const double value = fabs((double)info.data[k]);
                sum += value;
                *largest = value > *largest ? value : *largest;
            }
        }
    }
    return sum;
}

/* Which networks learn in which step; that DualGAN's critics stay within their bounds. */
static void turns(void) {
    static const struct {
        const char *system, *options;
        const char *learn_d, *learn_g; /* in steps 0, 1, 2 ... */
        double clip;
    } rows[] = {
        {"cyclegan", "ngf=4 ndf=4 blocks=1 d-layers=1", "1111", "1111", 0.0},
        {"dualgan", "ngf=4 ndf=4", "1111", "0010", 0.01},
        {"dualgan", "ngf=4 ndf=4 loss=classic n-critic=1", "1111", "1111", 0.0},
        {"discogan", "ngf=4 ndf=4", "001001", "110110", 0.0},
    };
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model = open_model(ctx, rows[i].system, 32, rows[i].options, 0);
        for (int step = 0; rows[i].learn_d[step]; step++) {
            double largest;
            const double d = weight_sum(model, "discriminator", &largest);
            const double g = weight_sum(model, "generator", &largest);
            CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
            fill_random(gan_model_feed(model, "real_a", NULL), 2 * 3 * 32 * 32, "a", SEED, -1.0f,
                        1.0f);
            CHECK(gan_model_step(model) == GAN_OK, "%s", gan_context_error(ctx));
            const int g_moved = weight_sum(model, "generator", &largest) != g;
            const int d_moved = weight_sum(model, "discriminator", &largest) != d;
            CHECK(g_moved == rows[i].learn_g[step] - '0' && d_moved == rows[i].learn_d[step] - '0',
                  "%s, step %d: generators %d, discriminators %d", rows[i].system, step, g_moved,
                  d_moved);
            CHECK(rows[i].clip == 0.0 || largest <= rows[i].clip, "weights up to %g", largest);
        }
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

static void sizes_that_do_not_fit(void) {
    static const char *const systems[] = {"pix2pix", "cyclegan", "dualgan", "discogan"};
    gan_context *ctx = context_of(NULL, 0, NULL);
    for (int i = 0; i < 4; i++) {
        gan_model *model = NULL;
        gan_model_desc desc = gan_model_defaults(systems[i]);
        desc.height = desc.width = 30;
        desc.options = "ngf=4 ndf=4";
        const gan_status status = gan_model_create(&model, ctx, &desc);
        CHECK(status != GAN_OK && !model, "%s: 30 x 30 is no size for it", systems[i]);
        CHECK(i == 1 || strstr(gan_context_error(ctx), systems[i]), "%s: %s", systems[i],
              gan_context_error(ctx));
    }
    gan_context_destroy(ctx);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    run_network_rows(unet_rows, sizeof unet_rows / sizeof unet_rows[0]);
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    TEST(sizes_of_networks);
    TEST(patches);
    TEST(switches);
    TEST(switches_of_others);
    TEST(small_images);
    TEST(levels);
    TEST(one_score);
    TEST(running_statistics);
    TEST(averages);
    TEST(directions);
    TEST(channels);
    TEST(work_and_memory);
    TEST(turns);
    TEST(sizes_that_do_not_fit);
    return test_end();
}
