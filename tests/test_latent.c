/* test_latent.c - InfoGAN and DRAW: training losses against PyTorch's (tests/fixtures_latent.py),
 * and what codes, windows and bounds promise.
 */
#include "parity.h"

static const training_feed latent_feeds[] = {
    {"real", "images", -1.0f, 1.0f, 0},   {"z", "z", -2.0f, 2.0f, 0},
    {"code", "code", 0.0f, 10.0f, 1},     {"c", "c", -1.0f, 1.0f, 0},
    {"z_info", "z_info", -2.0f, 2.0f, 0}, {"code_info", "code_info", 0.0f, 10.0f, 1},
    {"c_info", "c_info", -1.0f, 1.0f, 0}, {"chance", "chance", 0.0f, 1.0f, 0},
    {NULL, NULL, 0.0f, 0.0f, 0},
};

#define INFOGAN_LOSSES "loss_d loss_g loss_info"
#define DRAW_LOSSES    "loss loss_x loss_z"

static const training_row training_rows[] = {
    {"latent", "infogan", "infogan",
     "z=20 categorical=2 continuous=3 ngf=8 ndf=6 lambda=0.5 lambda-c=0.25 lr-g=2e-4",
     INFOGAN_LOSSES, 12, 1, 8, 2, latent_feeds},
    {"latent", "infogan_apart", "infogan",
     "network=upsampling loss=least-squares info=apart z=20 ngf=6 ndf=4 lambda-c=0.1 lr-g=2e-4 "
     "dropout=0",
     INFOGAN_LOSSES, 32, 1, 12, 3, latent_feeds},
    {"latent", "draw", "draw", "glimpses=4 hidden=24 z=6 read=3 write=4 clip=2", DRAW_LOSSES, 14, 1,
     6, 1, latent_feeds},
    {"latent", "draw_offset", "draw", "glimpses=3 hidden=16 z=5 write=2 clip=2 offset=0",
     DRAW_LOSSES, 10, 3, 6, 1, latent_feeds},
    {"latent", "draw_plain", "draw", "glimpses=4 hidden=24 z=6 attention=no clip=2", DRAW_LOSSES,
     14, 1, 6, 1, latent_feeds},
};

/* --- what is promised ------------------------------------------------------------------------ */

static gan_model *open_model(gan_context *ctx, const char *system, int height, int width, int batch,
                             const char *options) {
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults(system);
    desc.height = height;
    desc.width = width;
    desc.batch = batch;
    desc.options = options;
    desc.seed = 5;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    return model;
}

/* Trains on drawn digits of the model's size. */
static void train_on_digits(gan_context *ctx, gan_model *model, int steps) {
    const gan_dataset_desc desc = gan_model_dataset_desc(model);
    gan_dataset *data = NULL;
    CHECK(gan_dataset_open(&data, ctx, "digits", &desc) == GAN_OK, "%s", gan_context_error(ctx));
    for (int step = 0; step < steps && data; step++) {
        CHECK(gan_model_train(model, data) == GAN_OK, "%s", gan_context_error(ctx));
    }
    gan_dataset_close(data);
}

/* Mean square difference of image i of one array and image k of another. */
static double image_distance(const float *a, int i, const float *b, int k, int pixels) {
    double sum = 0.0;
    for (int p = 0; p < pixels; p++) {
        const double d = (double)a[i * pixels + p] - (double)b[k * pixels + p];
        sum += d * d;
    }
    return sum / pixels;
}

/* Codes that are asked for reach the images; those that are not go through all categories. */
static void codes_reach_images(void) {
    enum { SIZE = 12, PIXELS = SIZE * SIZE, N = 7 };
    static float free_codes[N * PIXELS], three[N * PIXELS], other[N * PIXELS];
    gan_context *ctx = context_of(NULL, 1, NULL);
    gan_model *model = open_model(ctx, "infogan", SIZE, SIZE, 4,
                                  "ngf=4 ndf=4 z=8 categorical=2 categories=5 continuous=2");
    CHECK(gan_model_sample(model, free_codes, N, NULL, 1) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_sample(model, three, N, "code=3", 1) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(image_distance(free_codes, 3, three, 3, PIXELS) == 0.0, "image 3 has code 3");
    CHECK(image_distance(free_codes, 2, three, 2, PIXELS) > 0.0, "image 2 has another");
    CHECK(gan_model_sample(model, other, N, "code=3 code2=1 c1=0.5 c2=-1", 1) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(gan_model_sample(model, three, N, "code=3 code2=2 c1=0.5 c2=-1", 1) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(image_distance(three, 1, other, 1, PIXELS) > 0.0, "code2 does nothing");
    CHECK(gan_model_sample(model, three, N, "code=3 code2=1 c1=0.25 c2=-1", 1) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(image_distance(three, 1, other, 1, PIXELS) > 0.0, "c1 does nothing");
    static const char *const wrong[] = {"code=5", "code2=5", "code=0.5", "code3=1", "c3=0", "c1=x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(gan_model_sample(model, three, 1, wrong[i], 1) == GAN_ERR_ARGUMENT, "%s accepted",
              wrong[i]);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Any number of codes of either kind; what encode gives is as wide as they are. */
static void numbers_of_codes(void) {
    static const struct {
        const char *options;
        int width;
    } rows[] = {{"categorical=1 continuous=0", 10},
                {"categorical=0 continuous=3", 3},
                {"categorical=10 categories=4 continuous=10", 50}};
    float images[2 * 64], codes[2 * 50];
    gan_context *ctx = context_of(NULL, 1, NULL);
    memset(images, 0, sizeof images);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char options[128];
        gan_model_info info;
        snprintf(options, sizeof options, "ngf=2 ndf=2 z=4 %s", rows[i].options);
        gan_model *model = open_model(ctx, "infogan", 8, 8, 4, options);
        train_on_digits(ctx, model, 1);
        CHECK(gan_model_get_info(model, &info) == GAN_OK && info.encode_width == rows[i].width,
              "%s: width %d", options, info.encode_width);
        CHECK(gan_model_encode(model, images, 2, codes, 1) == GAN_OK, "%s", gan_context_error(ctx));
        gan_model_destroy(model);
    }
    gan_model *none = NULL;
    gan_model_desc desc = gan_model_defaults("infogan");
    desc.options = "categorical=0 continuous=0";
    CHECK(gan_model_create(&none, ctx, &desc) == GAN_ERR_ARGUMENT && !none, "no codes accepted");
    gan_context_destroy(ctx);
}

/* In a short training Q learns to read the codes of both kinds: the loss begins near log 5 + 1/6.
 * What encode gives does not depend on which images are asked for together. */
static void q_recovers_codes(void) {
    enum { SIZE = 12, PIXELS = SIZE * SIZE, N = 20, WIDTH = 6 };
    static float images[N * PIXELS];
    float together[N * WIDTH], alone[WIDTH];
    gan_context *ctx = context_of(NULL, 1, NULL);
    gan_model *model =
        open_model(ctx, "infogan", SIZE, SIZE, 32, "ngf=4 ndf=4 z=4 categories=5 continuous=1");
    train_on_digits(ctx, model, 1);
    const double first = metric(model, "loss_info", 9);
    CHECK(first > 1.5 && first < 2.5, "loss_info %g at first", first);
    train_on_digits(ctx, model, 99);
    const double last = metric(model, "loss_info", 9);
    CHECK(last < 0.4 * first, "loss_info %g, then %g", first, last);
    CHECK(gan_model_sample(model, images, N, NULL, 1) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_encode(model, images, N, together, 1) == GAN_OK, "%s", gan_context_error(ctx));
    for (int i = 0; i < N; i++) {
        CHECK(gan_model_encode(model, images + i * PIXELS, 1, alone, 1) == GAN_OK, "%s",
              gan_context_error(ctx));
        for (int k = 0; k < WIDTH; k++) {
            const float want = together[i * WIDTH + k];
            CHECK(fabsf(alone[k] - want) <= 1e-4f * (1.0f + fabsf(want)),
                  "image %d, number %d: %g alone, %g together", i, k, (double)alone[k],
                  (double)want);
        }
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Mean bound of images, all of it finite. */
static double mean_bound(gan_context *ctx, gan_model *model, const float *images, int n,
                         uint64_t seed) {
    float bounds[64];
    double sum = 0.0;
    CHECK(gan_model_encode(model, images, n, bounds, seed) == GAN_OK, "%s", gan_context_error(ctx));
    for (int i = 0; i < n; i++) {
        CHECK(bounds[i] - bounds[i] == 0.0f, "bound of image %d is not finite", i);
        sum += (double)bounds[i];
    }
    return sum / n;
}

/* The bound of fixed images falls while a small DRAW trains, with and without windows. */
static void bound_falls(void) {
    static const char *const rows[] = {"attention=yes read=3 write=4", "attention=no",
                                       "binarise=threshold read=2 write=3"};
    enum { N = 40, H = 10, W = 14 };
    static float images[N * H * W];
    gan_context *ctx = context_of(NULL, 1, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char options[128];
        gan_dataset *data = NULL;
        snprintf(options, sizeof options, "glimpses=3 hidden=24 z=4 lr=0.01 %s", rows[i]);
        gan_model *model = open_model(ctx, "draw", H, W, 16, options);
        const gan_dataset_desc desc = gan_model_dataset_desc(model);
        CHECK(gan_dataset_open(&data, ctx, "digits", &desc) == GAN_OK, "%s",
              gan_context_error(ctx));
        for (int k = 0; k < N; k++) {
            CHECK(gan_dataset_get(data, k, images + k * H * W, NULL) == GAN_OK, "%s",
                  gan_context_error(ctx));
        }
        gan_dataset_close(data);
        const double before = mean_bound(ctx, model, images, N, 1);
        CHECK(before < 1.2 * log(2.0) * H * W, "%s: bound %g at first", rows[i], before);
        train_on_digits(ctx, model, 60);
        const double after = mean_bound(ctx, model, images, N, 1);
        CHECK(after < 0.8 * before, "%s: bound %g, then %g", rows[i], before, after);
        CHECK(mean_bound(ctx, model, images, N, 1) == after, "another bound for the same seed");
        CHECK(mean_bound(ctx, model, images, N, 2) != after, "the seed does nothing");
        const double loss = metric(model, "loss", 4),
                     parts = metric(model, "loss_x", 6) + metric(model, "loss_z", 6);
        CHECK(fabs(loss - parts) < 1e-4 * loss, "loss %g, parts %g", loss, parts);
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* The canvas is shown after each step; images in colour, wider than high. */
static void frames_end_in_the_image(void) {
    enum { N = 3, H = 8, W = 12, C = 3, PIXELS = C * H * W, T = 5 };
    static float images[N * PIXELS], frames[T * N * PIXELS];
    gan_context *ctx = context_of(NULL, 1, NULL);
    gan_model *model = NULL;
    gan_model_info info;
    gan_model_desc desc = gan_model_defaults("draw");
    desc.height = H;
    desc.width = W;
    desc.channels = C;
    desc.options = "glimpses=5 hidden=16 z=3 read=2 write=3";
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_get_info(model, &info) == GAN_OK && info.frames == T && info.encode_width == 1,
          "frames %d, width %d", info.frames, info.encode_width);
    CHECK(gan_model_sample(model, images, N, NULL, 4) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_sample_frames(model, frames, N, NULL, 4) == GAN_OK, "%s",
          gan_context_error(ctx));
    for (int i = 0; i < N; i++) {
        CHECK(image_distance(frames, (T - 1) * N + i, images, i, PIXELS) == 0.0,
              "the last frame of image %d is another", i);
        CHECK(image_distance(frames, i, frames, N + i, PIXELS) > 0.0, "step 2 draws nothing");
    }
    for (int i = 0; i < N * PIXELS; i++) {
        CHECK(images[i] >= -1.0f && images[i] <= 1.0f, "pixel %g", (double)images[i]);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    TEST(codes_reach_images);
    TEST(numbers_of_codes);
    TEST(q_recovers_codes);
    TEST(bound_falls);
    TEST(frames_end_in_the_image);
    return test_end();
}
