/* test_translate.c - pix2pix, CycleGAN, DualGAN, DiscoGAN: U-Nets and first training losses against
 * PyTorch's (tests/fixtures_translate.py), names, sizes, switches, what is computed how often.
 */
#include "parity.h"

#define SEED   1
#define STRIDE 101 /* so many values of an output, one is stored */

/* --- U-Net --------------------------------------------------------------------------------- */

typedef struct unet_row {
    const char *name;
    int batch, channels, height, width; /* of the input */
    int out, ngf, levels, kernel, outer;
    gan_norm_kind norm;
    const gan_norm_desc *instance;
} unet_row;

static const unet_row unet_rows[] = {
    {"unet_256", 1, 3, 256, 256, 3, 4, 8, 4, 4, GAN_NORM_BATCH, NULL},
    {"unet_128", 1, 3, 128, 128, 3, 4, 7, 4, 4, GAN_NORM_BATCH, NULL},
    {"unet_64_instance", 2, 1, 64, 64, 2, 4, 6, 4, 4, GAN_NORM_INSTANCE, NULL},
    {"unet_wide", 1, 3, 64, 96, 3, 8, 5, 4, 4, GAN_NORM_BATCH, NULL},
    {"unet_odd", 2, 3, 32, 48, 3, 4, 4, 3, 5, GAN_NORM_INSTANCE, &gani_dualgan_norm},
};
static const unet_row *current_unet;

static gan_tensor build_unet(gan_graph *g, const unet_row *row, gan_tensor x) {
    gani_unet_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels = row->out;
    desc.ngf = row->ngf;
    desc.levels = row->levels;
    desc.kernel = row->kernel;
    desc.outer = row->outer;
    desc.norm = row->norm;
    desc.instance = row->instance;
    gan_graph_push(g, row->name);
    x = gani_unet(g, &desc, x);
    gan_graph_pop(g);
    return x;
}

/* Largest error of the stored values relative to the largest of them. */
static double compare_sparse(const float *got, const stored_tensor *want) {
    double largest = 0.0, worst = 0.0;
    for (size_t i = 0; i < want->count; i++) {
        const double value = (double)want->values[i];
        const double error = fabs((double)got[i * STRIDE] - value);
        largest = fabs(value) > largest ? fabs(value) : largest;
        worst = error <= worst ? worst : error;
    }
    return worst / largest;
}

static void run_unet_in(gan_context *ctx) {
    const unet_row *row = current_unet;
    const gan_shape shape = gan_shape4(row->batch, row->channels, row->height, row->width);
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_program *program = NULL;
    char input[64];
    gan_checkpoint *file = open_fixtures(ctx, "translate");
    const stored_tensor want = stored_in(file, row->name, "out", "y");
    CHECK(gan_params_create(&params, ctx, 1) == GAN_OK, "no parameters");
    CHECK(gan_graph_create(&g, ctx, params) == GAN_OK, "no graph");
    gan_tensor x = gan_input(g, "x", shape);
    gan_tensor y = build_unet(g, row, x);
    fill_weights(params, SEED);
    snprintf(input, sizeof input, "%s.x", row->name);
    fill_random(gan_input_data(g, x), gan_shape_count(shape), input, SEED, -1.0f, 1.0f);
    gan_status status = gan_program_create(&program, g, row->name, &y, 1);
    status = status ? status : gan_program_run(program);
    CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
    const size_t count = status == GAN_OK ? gan_shape_count(gan_tensor_shape(g, y)) : 0;
    CHECK(want.count > 0 && (count + STRIDE - 1) / STRIDE == want.count,
          "%lu values, of which %lu are stored", (unsigned long)count, (unsigned long)want.count);
    if (want.count > 0 && (count + STRIDE - 1) / STRIDE == want.count) {
        const double error = compare_sparse(gan_program_output(program, y), &want);
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

static void run_unet(void) {
    for_each_isa(run_unet_in);
}

/* --- training against PyTorch -------------------------------------------------------------- */

static const training_feed pair_feeds[] = {
    {"real_a", "a", -1.0f, 1.0f, 0},
    {"real_b", "b", -1.0f, 1.0f, 0},
    {"epsilon_a", "epsilon_a", 0.0f, 1.0f, 0},
    {"epsilon_b", "epsilon_b", 0.0f, 1.0f, 0},
    {NULL, NULL, 0.0f, 0.0f, 0},
};

#define ROW(name, system, options, size, batch, seed) \
    {"translate", name, system, options, NULL, size, 3, batch, seed, pair_feeds}

static const training_row training_rows[] = {
    ROW("pix2pix", "pix2pix", "ngf=4 ndf=4 dropout=0", 32, 2, 1),
    ROW("pix2pix_pixel", "pix2pix", "ngf=4 ndf=4 dropout=0 d-layers=0 loss=lsgan", 32, 2, 1),
    ROW("pix2pix_instance", "pix2pix", "ngf=4 ndf=4 dropout=0 d-layers=1 norm=instance", 32, 2, 1),
    ROW("cyclegan", "cyclegan", "ngf=4 ndf=4 blocks=2 d-layers=2 pool=0", 32, 2, 3),
    ROW("cyclegan_unet", "cyclegan", "net=unet ngf=4 ndf=4 d-layers=2 pool=0 identity=0", 32, 2, 2),
    ROW("dualgan", "dualgan", "ngf=4 ndf=4 clip=0.1", 32, 2, 2),
    ROW("dualgan_gp", "dualgan", "ngf=4 ndf=4 loss=wgan-gp critic=patch", 32, 2, 1),
    ROW("dualgan_classic", "dualgan", "ngf=4 ndf=4 loss=classic", 32, 2, 1),
    ROW("discogan", "discogan", "ngf=4 ndf=4 start=5", 32, 4, 1),
    ROW("discogan_bottleneck", "discogan",
        "ngf=4 ndf=4 bottleneck=6 rate=0.9 start-rate=0.9 features=1", 28, 4, 1),
};

int main(int argc, char **argv) {
    test_begin(argc, argv);
    for (size_t i = 0; i < sizeof unet_rows / sizeof unet_rows[0]; i++) {
        current_unet = &unet_rows[i];
        test_run(current_unet->name, run_unet);
    }
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    return test_end();
}
