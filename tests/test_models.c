/* The systems: sizes, training, saving and going on, the same bits whatever the number of threads,
 * allocations, errors. Everything at small size, so that the whole file takes seconds. */
#include "test.h"

/* ---- a context that counts allocations and can refuse one ---------------------------------- */

typedef struct memory {
    long calls, refuse, alive; /* refuse: the call (from 1) that fails; 0: none */
} memory;

static void *memory_alloc(void *user, size_t size_bytes) {
    memory *m = (memory *)user;
    void *block = ++m->calls == m->refuse ? NULL : malloc(size_bytes);
    m->alive += block != NULL;
    return block;
}

static void memory_free(void *user, void *ptr, size_t size_bytes) {
    (void)size_bytes;
    ((memory *)user)->alive--;
    free(ptr);
}

/* Runs tasks from the last to the first: with it, any number of "threads" exists everywhere, and a
 * result that depended on their order or number would show. */
static gan_context *open_context_with(memory *m, int threads, int recompute) {
    gan_context *ctx = NULL;
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.recompute = recompute;
    desc.allocator.alloc = m ? memory_alloc : NULL;
    desc.allocator.free = m ? memory_free : NULL;
    desc.allocator.user = m;
    desc.parallel.run = run_backwards;
    gan_context_create(&ctx, &desc);
    return ctx;
}

static gan_context *open_context(memory *m, int threads) {
    return open_context_with(m, threads, 0);
}

/* ---- small models -------------------------------------------------------------------------- */

typedef struct small {
    const char *name; /* of the case */
    const char *system, *options;
    int size, channels, batch;
} small;

static const small smalls[] = {
    {"gan", "gan", "z=20", 12, 1, 8},
    {"gan_paper", "gan", "preset=paper z=20", 12, 1, 8},
    {"dcgan", "dcgan", "z=12 ngf=8 ndf=8", 16, 3, 4},
    {"dcgan_odd", "dcgan", "z=12 ngf=4 ndf=4", 28, 1, 3},
    {"lsgan", "lsgan", "z=12 ngf=4 ndf=4", 16, 3, 4},
    {"lsgan_mlp", "lsgan", "network=mlp z=20 a=-1 c=0", 12, 1, 8},
    {"wgan", "wgan", "z=12 ngf=4 ndf=4 n-critic=2", 16, 3, 4},
    {"wgan_mlp", "wgan", "network=mlp z=20 n-critic=2", 12, 1, 8},
    {"cgan", "cgan", "z=20", 12, 1, 8},
    {"acgan", "acgan", "z=20 ngf=4 ndf=4", 12, 1, 8},
    {"acgan_k1", "acgan", "z=12 ngf=4 ndf=4 aux=k+1 aux-fake=0.5", 16, 3, 5},
    {"context", "context-encoder", "ngf=4 ndf=4 bottleneck=12 overlap=1", 16, 3, 4},
    {"context_random", "context-encoder", "hole=random overlap=0 ngf=4 ndf=4 bottleneck=12", 16, 1,
     4},
    {"cogan", "cogan", "z=12 ngf=4 ndf=4", 28, 1, 3},
    {"cogan_mlp", "cogan", "network=mlp z=12 private-g=2", 12, 3, 4},
    {"cogan_dcgan", "cogan", "network=dcgan z=12 ngf=4 ndf=4", 28, 1, 3},
    {"acgan_dcgan", "acgan", "network=dcgan z=12 ngf=4 ndf=4", 16, 3, 4},
    {"cgan_dcgan", "cgan", "network=dcgan z=12 ngf=4 ndf=4 loss=bce", 16, 3, 4},
    {"wgan_gp", "wgan-gp", "z=12 ngf=4 ndf=4 n-critic=2", 16, 3, 4},
    {"wgan_gp_layer", "wgan-gp", "norm=layer z=12 ngf=4 ndf=4 n-critic=2", 28, 1, 3},
    {"wgan_gp_mlp", "wgan-gp", "network=mlp z=20 n-critic=2", 12, 1, 8},
    {"infogan", "infogan", "z=12 ngf=4 ndf=4", 16, 1, 4},
    {"draw", "draw", "glimpses=3 hidden=16 z=4 read=3 write=3", 12, 1, 4},
    {"pix2pixhd", "pix2pixhd", "classes=0 ngf=4 ndf=4 downs=2 blocks=1 layers=2", 16, 1, 2},
    {"pix2pixhd_local", "pix2pixhd",
     "classes=0 ngf=2 ndf=4 downs=2 blocks=1 enhancers=1 blocks-local=1 scales=3 layers=1 loss=bce",
     24, 3, 1},
    {"pix2pix", "pix2pix", "ngf=4 ndf=4", 32, 3, 2},
    {"pix2pix_ba", "pix2pix", "ngf=4 ndf=4 d-layers=0 norm=instance direction=ba", 16, 1, 3},
    {"cyclegan", "cyclegan", "ngf=4 ndf=4 blocks=2 d-layers=1 pool=3", 16, 1, 2},
    {"cyclegan_unet", "cyclegan", "net=unet norm=batch ngf=4 ndf=4 d-layers=1 loss=bce", 16, 3, 2},
    {"dualgan", "dualgan", "ngf=4 ndf=4 n-critic=2", 16, 1, 2},
    {"dualgan_gp", "dualgan", "ngf=4 ndf=4 n-critic=1 loss=wgan-gp critic=patch", 16, 3, 2},
    {"discogan", "discogan", "ngf=4 ndf=4 start=2 every-d=2", 16, 1, 4},
    {"infogan_apart", "infogan", "network=upsampling info=apart z=8 ngf=4 ndf=4", 16, 3, 4},
    {"draw_plain", "draw", "glimpses=3 hidden=12 z=4 attention=no", 12, 3, 4},
    {"discogan_bottleneck", "discogan", "ngf=4 ndf=4 bottleneck=5 every-d=2", 28, 3, 2},
};
enum { SMALLS = sizeof smalls / sizeof smalls[0] };

static gan_model_desc small_desc(const small *s) {
    gan_model_desc desc = gan_model_defaults(s->system);
    desc.height = desc.width = s->size;
    desc.channels = s->channels;
    desc.batch = s->batch;
    desc.options = s->options;
    desc.seed = 3;
    return desc;
}

/* For systems that want two images: digits and their negatives. */
static gan_status open_digits(gan_dataset **data, gan_context *ctx, const small *s) {
    const gan_system *system = gan_system_find(s->system);
    gan_dataset_desc desc;
    memset(&desc, 0, sizeof desc);
    if (system->parts > 1) {
        desc.pairing = system->paired ? GAN_PAIRING_DERIVED : GAN_PAIRING_HALVES;
    }
    desc.height = desc.width = s->size;
    desc.channels = s->channels;
    return gan_dataset_open(data, ctx, "digits", &desc);
}

/* Trains until the model has done `steps` steps. */
static gan_status train(gan_model *model, gan_dataset *data, uint64_t steps) {
    gan_status status = GAN_OK;
    while (status == GAN_OK && gan_params_step(gan_model_params(model)) < steps) {
        status = gan_model_train(model, data);
    }
    return status;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    *size = 0;
    if (file) {
        fseek(file, 0, SEEK_END);
        *size = (size_t)ftell(file);
        rewind(file);
        bytes = (unsigned char *)malloc(*size + 1);
        *size = bytes ? fread(bytes, 1, *size, file) : 0;
        fclose(file);
    }
    return bytes;
}

static int same_files(const char *a, const char *b) {
    size_t size_a, size_b;
    unsigned char *bytes_a = read_file(a, &size_a), *bytes_b = read_file(b, &size_b);
    const int same = size_a > 0 && size_a == size_b && memcmp(bytes_a, bytes_b, size_a) == 0;
    free(bytes_a);
    free(bytes_b);
    return same;
}

/* ---- the networks of the specifications ---------------------------------------------------- */

static void check_counts(gan_model_desc desc, double generator, double discriminator) {
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    desc.batch = 2;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    if (model) {
        const double g = count_weights(model, "generator."),
                     d = count_weights(model, "discriminator.");
        CHECK(g == generator && d == discriminator, "%s: %.0f and %.0f weights, not %.0f and %.0f",
              desc.system, g, d, generator, discriminator);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

static void check_draw_count(const char *options, double count) {
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("draw");
    desc.options = options;
    desc.batch = 1;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(model && count_weights(model, "") == count, "draw %s: not %.0f weights", options, count);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

static void parameter_counts(void) {
    gan_model_desc desc = gan_model_defaults("gan");
    check_counts(desc, 1510032, 533505);
    desc.options = "preset=paper";
    check_counts(desc, 2503984, 1231441);
    check_counts(gan_model_defaults("dcgan"), 3576704, 2765568);
    desc = gan_model_defaults("dcgan"); /* 28 from 7x7: two stages, 7x7 heads */
    desc.height = desc.width = 28;
    desc.channels = 1;
    check_counts(desc, 100 * 128 * 49 + 256 + 128 * 64 * 16 + 128 + 64 * 16,
                 64 * 16 + 64 * 128 * 16 + 256 + 128 * 49);
    check_counts(gan_model_defaults("lsgan"), 3576704, 2765568);
    check_counts(gan_model_defaults("wgan"), 3576704, 2765568);
    check_counts(gan_model_defaults("wgan-gp"), 3576704,
                 2765568 - 1792 + 961); /* biases, no norms */
    desc = gan_model_defaults("cgan");
    desc.height = desc.width = 32;
    check_counts(desc, 1757412, 1055845);
    check_counts(gan_model_defaults("acgan"), 1050985, 103243);
    desc = gan_model_defaults("infogan");
    check_counts(desc, 6652481 - 65, 6692431 - 192 - 258); /* no biases, no variances of codes */
    desc.height = desc.width = 32;
    desc.options = "network=upsampling ndf=16";
    check_counts(desc, 836993, 104269);
    desc = gan_model_defaults("cogan");
    check_counts(desc, 7842694, 427593);
    desc = gan_model_defaults("context-encoder");
    desc.options = "bottleneck=60";
    const int bottleneck = (60 - 4000) * (2 * 512 * 16 + 2); /* the tables have 4000 */
    check_counts(desc, 71130531 - 5987 + bottleneck, 2766529 - 961); /* no biases */
    desc = gan_model_defaults("wgan");
    desc.height = desc.width = 28;
    desc.channels = 1;
    desc.options = "network=mlp";
    check_counts(desc, 1510032, 533505);
    check_draw_count("", 866103);
    check_draw_count("attention=no", 2613028);
    check_draw_count("glimpses=64 z=100 read=2 write=5", 959467 + 2048); /* LSTMs: two biases */
}

static void check_tensor(gan_model *model, const char *name, int a, int b, int c, int d) {
    const gan_param_info info = gan_params_find(gan_model_params(model), name);
    CHECK(info.data && info.shape.rank == 4 && info.shape.dim[0] == a && info.shape.dim[1] == b &&
              info.shape.dim[2] == c && info.shape.dim[3] == d,
          "%s", name);
}

/* Every size that is a multiple of 16, and 28: the innermost map, the names at both ends. */
static void dcgan_sizes(void) {
    static const int sizes[][3] = {{16, 4, 2}, {28, 7, 2},  {32, 4, 3},  {48, 6, 3},   {80, 5, 4},
                                   {96, 6, 4}, {112, 7, 4}, {144, 9, 4}, {240, 15, 4}, {256, 4, 6}};
    gan_context *ctx = open_context(NULL, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        gan_model_desc desc = gan_model_defaults("dcgan");
        gan_model *model = NULL;
        const int base = sizes[i][1], stages = sizes[i][2];
        const int inner = 1 << (stages - 1 < 4 ? stages - 1 : 4);
        char name[64];
        desc.height = desc.width = sizes[i][0];
        desc.batch = 2;
        desc.options = "ngf=1 ndf=1 z=5";
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%d: %s", sizes[i][0],
              gan_context_error(ctx));
        if (model) {
            check_tensor(model, "generator.main.0.weight", 5, inner, base, base);
            snprintf(name, sizeof name, "generator.main.%d.weight", 3 * stages);
            check_tensor(model, name, 1, 3, 4, 4);
            snprintf(name, sizeof name, "discriminator.main.%d.weight", 3 * stages - 1);
            check_tensor(model, name, 1, inner, base, base);
        }
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* ---- training ------------------------------------------------------------------------------ */

static void every_system_has_a_case(void) {
    for (int i = 0; gan_system_at(i); i++) {
        int cases = 0;
        for (int k = 0; k < SMALLS; k++) {
            cases += strcmp(smalls[k].system, gan_system_at(i)->name) == 0;
        }
        CHECK(cases > 0, "no case for %s", gan_system_at(i)->name);
    }
}

static void losses_are_finite_and_change(void) {
    for (int i = 0; i < SMALLS; i++) {
        gan_context *ctx = open_context(NULL, 1);
        gan_dataset *data = NULL;
        gan_model *model = NULL;
        gan_model_desc desc = small_desc(&smalls[i]);
        float last[GANI_MAX_METRICS] = {0.0f};
        int changed[GANI_MAX_METRICS] = {0}, count = 0;
        CHECK(open_digits(&data, ctx, &smalls[i]) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
        for (uint64_t step = 1; model && step <= 5; step++) {
            CHECK(train(model, data, step) == GAN_OK, "%s: %s", smalls[i].name,
                  gan_context_error(ctx));
            for (count = 0; gan_model_metric(model, count).name; count++) {
                const gan_metric metric = gan_model_metric(model, count);
                CHECK(fabs((double)metric.value) < 400.0, "%s: %s = %g", smalls[i].name,
                      metric.name, (double)metric.value);
                changed[count] += metric.value != last[count];
                last[count] = metric.value;
            }
        }
        CHECK(count >= 2, "%s: %d metrics", smalls[i].name, count);
        for (int k = 0; k < count; k++) { /* the generator may learn in every second step only */
            CHECK(changed[k] >= 2, "%s: %s stands still", smalls[i].name,
                  gan_model_metric(model, k).name);
        }
        gan_model_destroy(model);
        gan_dataset_close(data);
        gan_context_destroy(ctx);
    }
}

/* Trains a model for `steps` steps and saves it. Destroys the context. Returns the bytes of a step.
 * */
static size_t train_and_save_in(gan_context *ctx, const small *s, uint64_t steps,
                                const char *path) {
    gan_model_info info;
    gan_dataset *data = NULL;
    gan_model *model = NULL;
    gan_model_desc desc = small_desc(s);
    gan_status status = open_digits(&data, ctx, s);
    status = status ? status : gan_model_create(&model, ctx, &desc);
    status = status ? status : train(model, data, steps);
    status = status ? status : gan_model_save(model, path);
    memset(&info, 0, sizeof info);
    status = status ? status : gan_model_get_info(model, &info);
    CHECK(status == GAN_OK, "%s: %s", s->name, gan_context_error(ctx));
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(ctx);
    return info.train_bytes;
}

static void train_and_save(const small *s, int threads, uint64_t steps, const char *path) {
    train_and_save_in(open_context(NULL, threads), s, steps, path);
}

static void same_bits_for_any_number_of_threads(void) {
    const char *one = test_path("one.safetensors"), *other = test_path("other.safetensors");
    for (int i = 0; i < SMALLS; i++) {
        train_and_save(&smalls[i], 1, 3, one);
        train_and_save(&smalls[i], 2, 3, other);
        CHECK(same_files(one, other), "%s: 2 threads", smalls[i].name);
        train_and_save(&smalls[i], 7, 3, other);
        CHECK(same_files(one, other), "%s: 7 threads", smalls[i].name);
    }
    remove(one);
    remove(other);
}

static void same_bits_after_save_and_resume(void) {
    const char *whole = test_path("whole.safetensors"), *part = test_path("part.safetensors");
    for (int i = 0; i < SMALLS; i++) {
        train_and_save(&smalls[i], 1, 5, whole);
        train_and_save(&smalls[i], 1, 2, part);
        gan_context *ctx = open_context(NULL, 1);
        gan_dataset *data = NULL;
        gan_model *model = NULL;
        gan_model_info info;
        memset(&info, 0, sizeof info);
        gan_status status = gan_model_load(&model, ctx, part, NULL);
        status = status ? status : gan_model_get_info(model, &info);
        CHECK(info.step == 2 && info.seed == 3 && info.height == smalls[i].size &&
                  info.batch == smalls[i].batch,
              "%s: what was loaded", smalls[i].name);
        status = status ? status : open_digits(&data, ctx, &smalls[i]);
        status = status ? status : train(model, data, 5);
        status = status ? status : gan_model_save(model, part);
        CHECK(status == GAN_OK, "%s: %s", smalls[i].name, gan_context_error(ctx));
        CHECK(same_files(whole, part), "%s: files differ", smalls[i].name);
        gan_model_destroy(model);
        gan_dataset_close(data);
        gan_context_destroy(ctx);
    }
    remove(whole);
    remove(part);
}

/* Weights, running statistics, pools of images: all of them. */
static void same_bits_with_recomputation(void) {
    const char *kept = test_path("kept.safetensors"), *again = test_path("again.safetensors");
    const small large = {"large", "cyclegan", "ngf=8 ndf=8 blocks=3 d-layers=1", 128, 3, 1};
    size_t without = 0, with = 0;
    for (int i = 0; i <= SMALLS; i++) {
        const small *s = i < SMALLS ? &smalls[i] : &large;
        without = train_and_save_in(open_context(NULL, 1), s, 3, kept);
        with = train_and_save_in(open_context_with(NULL, 1, 1), s, 3, again);
        CHECK(same_files(kept, again), "%s: files differ", s->name);
    }
    CHECK(without > 0 && (double)with < 0.8 * (double)without, "%lu bytes, without %lu",
          (unsigned long)with, (unsigned long)without);
    remove(kept);
    remove(again);
}

/* A caller may look at the feeds and replace them. */
static void feeds(void) {
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_model_desc desc = small_desc(&smalls[2]);
    size_t count = 0;
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_feed(model, "nothing", &count) == NULL && count == 0, "unknown feed");
    float *real = gan_model_feed(model, "real", &count);
    CHECK(real && count == 4 * 3 * 16 * 16, "real");
    memset(real, 0, count * sizeof(float));
    float *z = gan_model_feed(model, "z", &count);
    CHECK(z && count == 4 * 12, "z");
    CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    const float first = z[0];
    CHECK(gan_model_step(model) == GAN_OK && gan_model_fill(model, NULL) == GAN_OK, "step");
    CHECK(first != 0.0f && z[0] != first, "noise is drawn anew");
    CHECK(fabs((double)gan_model_feed(model, "lr", NULL)[0] - 2e-4) < 1e-10, "learning rate");
    real[0] = (float)HUGE_VAL - (float)HUGE_VAL;
    CHECK(gan_model_step(model) == GAN_ERR_NUMERIC, "not finite: %s", gan_context_error(ctx));
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* ---- sampling ------------------------------------------------------------------------------ */

enum { PIXELS = 3 * 16 * 16 };

/* Sampling depends on the seed and the number of the image, leaves training alone, and works on a
 * model that was loaded without training. */
static void sampling(void) {
    static float a[20 * PIXELS], b[20 * PIXELS];
    const char *path = test_path("sample.safetensors");
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_model_desc inference;
    memset(&inference, 0, sizeof inference);
    inference.disable_training = 1;
    train_and_save(&smalls[2], 1, 2, path);
    CHECK(gan_model_load(&model, ctx, path, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_sample(model, a, 20, NULL, 5) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_sample(model, b, 17, "", 5) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(memcmp(a, b, 17 * PIXELS * sizeof(float)) == 0, "images depend on n");
    CHECK(memcmp(a, a + PIXELS, PIXELS * sizeof(float)) != 0, "images are alike");
    CHECK(memcmp(a, a + 16 * PIXELS, PIXELS * sizeof(float)) != 0, "images repeat");
    for (int i = 0; i < 20 * PIXELS; i++) {
        CHECK(a[i] >= -1.0f && a[i] <= 1.0f, "pixel %g", (double)a[i]);
    }
    CHECK(gan_model_sample(model, b, 3, NULL, 6) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(memcmp(a, b, PIXELS * sizeof(float)) != 0, "images do not depend on the seed");
    CHECK(gan_model_sample(model, b, 2, "z=0.5", 5) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(memcmp(b, b + PIXELS, PIXELS * sizeof(float)) == 0, "the same input, other images");
    CHECK(gan_model_sample(model, b, 1, "label=3", 5) == GAN_ERR_ARGUMENT, "unknown input");
    CHECK(strstr(gan_context_error(ctx), "it has: z walk"), "%s", gan_context_error(ctx));
    CHECK(gan_model_sample(model, b, 1, "z=much", 5) == GAN_ERR_ARGUMENT, "no number");
    CHECK(gan_model_sample(model, b, 1, "z=-1e39", 5) == GAN_ERR_ARGUMENT, "beyond float");
    CHECK(gan_model_sample(model, b, 4, "walk=2.5", 5) == GAN_ERR_ARGUMENT, "half an image");
    CHECK(gan_model_sample(model, b, 0, NULL, 5) == GAN_ERR_ARGUMENT, "no images");
    gan_model_destroy(model);
    model = NULL;
    CHECK(gan_model_load(&model, ctx, path, &inference) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_sample(model, b, 20, NULL, 5) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(memcmp(a, b, sizeof a) == 0, "images depend on how the model was loaded");
    CHECK(gan_params_find(gan_model_params(model), "discriminator.main.0.weight").data == NULL,
          "a model without training has a discriminator");
    CHECK(gan_params_step(gan_model_params(model)) == 2, "step");
    CHECK(gan_model_step(model) == GAN_ERR_STATE, "training in spite of disable_training");
    gan_model_destroy(model);
    gan_context_destroy(ctx);
    remove(path);
}

/* Classes: labels of the data reach the training step; samples go through all classes, or show the
 * one that is asked for. */
static void labels(void) {
    static float all[23 * 144], one[23 * 144];
    gan_context *ctx = open_context(NULL, 1);
    for (int i = 0; i < SMALLS; i++) {
        gan_model *model = NULL;
        gan_dataset *data = NULL;
        gan_model_info info;
        gan_model_desc desc = small_desc(&smalls[i]);
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(gan_model_get_info(model, &info) == GAN_OK, "%s", gan_context_error(ctx));
        const gan_status status = gan_model_sample(model, all, 1, "label=3", 5);
        CHECK(status == (info.classes           ? GAN_OK
                         : info.sample_channels ? GAN_ERR_ARGUMENT
                                                : GAN_ERR_UNSUPPORTED),
              "%s", smalls[i].name);
        if (info.classes) {
            float *label = gan_model_feed(model, "label", NULL);
            float *drawn = gan_model_feed(model, "label_fake", NULL);
            int differ = 0;
            CHECK(open_digits(&data, ctx, &smalls[i]) == GAN_OK && train(model, data, 4) == GAN_OK,
                  "%s", gan_context_error(ctx));
            const size_t size = (size_t)(info.channels * info.height * info.width);
            float *images = (float *)malloc(sizeof(float) * size * (size_t)info.batch);
            float *want = (float *)malloc(sizeof(float) * (size_t)info.batch);
            CHECK(gan_dataset_batch(data, 3, 3, info.batch, images, want) == GAN_OK, "batch");
            for (int k = 0; k < info.batch; k++) {
                CHECK(label[k] == want[k], "%s: label %d", smalls[i].name, k);
                CHECK(drawn[k] >= 0.0f && drawn[k] < 10.0f && drawn[k] == floorf(drawn[k]),
                      "%s: drawn label %g", smalls[i].name, (double)drawn[k]);
                differ += drawn[k] != drawn[0];
            }
            CHECK(differ > 0, "%s: labels drawn are all alike", smalls[i].name);
            free(images);
            free(want);
            CHECK(gan_model_sample(model, one, 1, "label=10", 5) == GAN_ERR_ARGUMENT, "label=10");
            CHECK(gan_model_sample(model, one, 1, "label=2.5", 5) == GAN_ERR_ARGUMENT, "2.5");
            CHECK(gan_model_sample(model, one, 1, "label=-1", 5) == GAN_ERR_ARGUMENT, "-1");
        }
        if (info.classes && info.channels == 1 && info.height == 12) {
            CHECK(gan_model_sample(model, all, 23, NULL, 5) == GAN_OK, "%s",
                  gan_context_error(ctx));
            CHECK(gan_model_sample(model, one, 23, "label=2", 5) == GAN_OK, "%s",
                  gan_context_error(ctx));
            for (int k = 0; k < 23; k++) {
                const int same = memcmp(all + k * 144, one + k * 144, 144 * sizeof(float)) == 0;
                CHECK(same == (k % 10 == 2), "%s: image %d", smalls[i].name, k);
            }
        }
        gan_model_destroy(model);
        gan_dataset_close(data);
    }
    gan_context_destroy(ctx);
}

/* Images without labels, and with labels of another number of classes. */
static void labels_must_fit(void) {
    const small conditional = {"", "cgan", "classes=9", 12, 1, 4};
    const char *list = test_path("list.txt"), *picture = test_path("picture.pgm");
    static const float black[144];
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_dataset *data = NULL;
    gan_model_desc desc = small_desc(&conditional);
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(open_digits(&data, ctx, &conditional) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_train(model, data) == GAN_ERR_ARGUMENT &&
              strstr(gan_context_error(ctx), "labels of 9 classes (option classes), found 10"),
          "%s", gan_context_error(ctx));
    gan_dataset_close(data);
    CHECK(gan_image_write_grid(ctx, picture, black, 1, 1, 8, 8, 1, -1.0f, 1.0f) == GAN_OK, "%s",
          gan_context_error(ctx)); /* 8 x 8 with a line of 2 around it is 12 x 12 */
    FILE *file = fopen(list, "w");
    CHECK(file, "cannot write %s", list);
    if (file) {
        fprintf(file, "%s\n", picture);
        fclose(file);
    }
    CHECK(gan_dataset_open(&data, ctx, list, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_train(model, data) == GAN_ERR_ARGUMENT &&
              strstr(gan_context_error(ctx), "found 0, images without labels"),
          "%s", gan_context_error(ctx));
    gan_dataset_close(data);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
    remove(list);
    remove(picture);
}

/* ---- errors -------------------------------------------------------------------------------- */

static void check_refused(gan_model_desc desc, gan_status expected, const char *part) {
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    const gan_status status = gan_model_create(&model, ctx, &desc);
    CHECK(status == expected && !model, "%s: status %d", part, (int)status);
    CHECK(strstr(gan_context_error(ctx), part) != NULL, "\"%s\" not in \"%s\"", part,
          gan_context_error(ctx));
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

static void clear_errors(void) {
    gan_model_desc desc = gan_model_defaults("dcgen");
    check_refused(desc, GAN_ERR_ARGUMENT, "there are: gan dcgan");
    desc = gan_model_defaults("dcgan");
    desc.options = "ngf=16 nfd=16";
    check_refused(desc, GAN_ERR_ARGUMENT, "no option \"nfd\"; it has: z ngf ndf");
    desc.options = "ngf=0";
    check_refused(desc, GAN_ERR_ARGUMENT,
                  "ngf: expected a whole number from 1 to 1024, found \"0\"");
    desc.options = "ngf=2.5";
    check_refused(desc, GAN_ERR_ARGUMENT, "found \"2.5\"");
    desc.options = "lr";
    check_refused(desc, GAN_ERR_ARGUMENT, "option lr");
    static const char *const numbers[] = {"lr=1e-3x", "lr=",      "lr=.",   "lr=e3",
                                          "lr=1e",    "lr=1e+",   "lr=--1", "lr=0x1",
                                          "lr=nan",   "lr=1e999", "lr=1,5"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        desc.options = numbers[i];
        check_refused(desc, GAN_ERR_ARGUMENT, "option lr: expected a number from 0 to 10");
    }
    desc.options = NULL;
    desc.height = desc.width = 30;
    check_refused(desc, GAN_ERR_SHAPE, "found 30 x 30");
    desc.width = 64;
    check_refused(desc, GAN_ERR_SHAPE, "found 30 x 64");
    desc.channels = 9;
    check_refused(desc, GAN_ERR_ARGUMENT, "channels: expected 1 to 4, found 9");
    desc = gan_model_defaults("gan");
    desc.options = "preset=papper";
    check_refused(desc, GAN_ERR_ARGUMENT, "expected one of: pytorch-gan paper; found \"papper\"");
    desc.options = NULL;
    desc.batch = 1;
    check_refused(desc, GAN_ERR_SHAPE, "generator.model.3");
}

/* Options are kept with nine digits, as they are written in checkpoints. */
static void numbers_as_options(void) {
    static const struct {
        const char *options, *kept;
        double value;
    } cases[] = {
        {"lr=0.0002", "lr=0.0002 ", 0.0002},
        {"lr=2.5E+0", "lr=2.5 ", 2.5},
        {"lr=.125", "lr=0.125 ", 0.125},
        {"lr=3e-10", "lr=3e-10 ", 3e-10},
        {"lr=1.23456789012", "lr=1.23456789 ", 1.23456789},
        {" lr=1  ngf=8\n lr=7. ", "ngf=8 ndf=64 lr=7 ", 7.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gan_context *ctx = open_context(NULL, 1);
        gan_model *model = NULL;
        gan_model_info info;
        gan_model_desc desc = small_desc(&smalls[2]);
        desc.options = cases[i].options;
        desc.batch = 2;
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
        if (model && gan_model_get_info(model, &info) == GAN_OK) {
            CHECK(strstr(info.options, cases[i].kept), "%s: %s", cases[i].options, info.options);
            CHECK(model->options[3] == cases[i].value, "%s: %.17g", cases[i].options,
                  model->options[3]);
        }
        gan_model_destroy(model);
        gan_context_destroy(ctx);
    }
}

static void wrong_files_and_data(void) {
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_dataset *data = NULL;
    const char *path = test_path("wrong.safetensors");
    CHECK(gan_model_load(&model, ctx, "/no/such/file", NULL) == GAN_ERR_FILE, "missing file");
    gan_params *params = NULL;
    CHECK(gan_params_create(&params, ctx, 1) == GAN_OK &&
              gan_params_save(params, path, NULL, 0) == GAN_OK,
          "%s", gan_context_error(ctx));
    gan_params_destroy(params);
    CHECK(gan_model_load(&model, ctx, path, NULL) == GAN_ERR_FORMAT && !model, "not a model");
    train_and_save(&smalls[2], 1, 1, path);
    gan_model_desc change;
    memset(&change, 0, sizeof change);
    change.options = "ngf=9";
    CHECK(gan_model_load(&model, ctx, path, &change) == GAN_ERR_SHAPE && !model, "other sizes");
    change.options = "lr=0.001";
    CHECK(gan_model_load(&model, ctx, path, &change) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(open_digits(&data, ctx, &smalls[3]) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_train(model, data) == GAN_ERR_SHAPE, "data of another size");
    CHECK(strstr(gan_context_error(ctx), "[3,16,16]") &&
              strstr(gan_context_error(ctx), "[1,28,28]"),
          "%s", gan_context_error(ctx));
    CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(fabs((double)gan_model_feed(model, "lr", NULL)[0] - 1e-3) < 1e-9, "changed option");
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(ctx);
    remove(path);
}

/* ---- memory -------------------------------------------------------------------------------- */

static void no_allocation_after_the_first_step(void) {
    for (int i = 0; i < SMALLS; i++) {
        memory m = {0, 0, 0};
        gan_context *ctx = open_context(&m, 2);
        gan_dataset *data = NULL;
        gan_model *model = NULL;
        gan_model_desc desc = small_desc(&smalls[i]);
        gan_status status = open_digits(&data, ctx, &smalls[i]);
        status = status ? status : gan_model_create(&model, ctx, &desc);
        status = status ? status : train(model, data, 1);
        const long before = m.calls;
        status = status ? status : train(model, data, 4);
        CHECK(status == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(m.calls == before, "%s: %ld allocations", smalls[i].name, m.calls - before);
        gan_model_destroy(model);
        gan_dataset_close(data);
        gan_context_destroy(ctx);
        CHECK(m.alive == 0, "%s: %ld blocks leak", smalls[i].name, m.alive);
    }
}

/* Everything from creating to saving, with the given allocation refused; 1 if all went well. */
static int all_with_refusal(memory *m, const small *s, const char *path) {
    float *images = (float *)malloc(sizeof(float) * 2 * 3 * 28 * 28);
    gan_context *ctx = open_context(m, 1);
    if (!ctx) {
        free(images);
        return 0;
    }
    gan_dataset *data = NULL;
    gan_model *model = NULL;
    gan_model_desc desc = small_desc(s);
    gan_status status = open_digits(&data, ctx, s);
    status = status ? status : gan_model_create(&model, ctx, &desc);
    status = status ? status : gan_model_train(model, data);
    status = status ? status : gan_model_sample(model, images, 2, NULL, 1);
    status = status ? status : gan_model_save(model, path);
    gan_model_destroy(model);
    model = NULL;
    status = status ? status : gan_model_load(&model, ctx, path, NULL);
    CHECK(status == GAN_OK || status == GAN_ERR_MEMORY, "call %ld: %s", m->refuse,
          gan_context_error(ctx));
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(ctx);
    free(images);
    return status == GAN_OK;
}

static void every_refused_allocation_is_survived(void) {
    const small tiny = {"tiny", "dcgan", "z=4 ngf=1 ndf=1", 16, 1, 2};
    const char *path = test_path("refused.safetensors");
    long refused = 0;
    for (int done = 0; !done && refused < 100000;) {
        memory m = {0, ++refused, 0};
        done = all_with_refusal(&m, &tiny, path);
        CHECK(m.alive == 0, "call %ld refused: %ld blocks leak", refused, m.alive);
    }
    CHECK(refused > 50, "only %ld allocations", refused);
    remove(path);
}

/* ---- what systems to come need ------------------------------------------------------------- */

/* A critic that is trained in every step and a generator in every third, as WGAN does, on a linear
 * network: only the recipe says so. */
static void seldom_train(gani_recipe *recipe) {
    const gan_optimiser sgd = gan_sgd(0.0f);
    gan_graph *g = recipe->graph;
    gan_tensor z = gani_feed_normal(recipe, "z", gan_shape2(recipe->batch, 4));
    gan_tensor rate = gani_feed_rate(recipe, "lr", 0.1, 0.5, 0.03);
    gan_tensor fake = gan_layer_linear(g, "generator", z, 3, NULL);
    gan_tensor score = gan_layer_linear(g, "critic", gan_detach(g, fake), 1, NULL);
    gan_tensor loss = gan_loss_wasserstein(g, score, 0);
    gan_minimise(g, loss, "critic.", rate, &sgd);
    gani_report(recipe, "critic", loss);
    gani_end_phase(recipe, "critic", 1);
    loss = gan_loss_wasserstein(g, gan_layer_linear(g, "critic", fake, 1, NULL), 1);
    gan_minimise(g, loss, "generator.", rate, &sgd);
    gani_report(recipe, "generator", loss);
    gani_end_phase(recipe, "generator", 3);
}

/* WGAN: the critic's weights stay within the limit, the generator learns in every n-th step. */
static void critic_steps(void) {
    const small critic = {"", "wgan", "z=12 ngf=4 ndf=4 n-critic=3 clip=0.005", 16, 3, 4};
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_dataset *data = NULL;
    gan_model_desc desc = small_desc(&critic);
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK &&
              open_digits(&data, ctx, &critic) == GAN_OK,
          "%s", gan_context_error(ctx));
    gan_params *params = gan_model_params(model);
    const float *weight = gan_params_find(params, "generator.main.0.weight").data;
    for (uint64_t step = 1; step <= 7; step++) {
        const float before = weight[0];
        CHECK(train(model, data, step) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK((weight[0] != before) == (step % 3 == 0), "generator in step %d", (int)step);
        CHECK((gan_model_metric(model, 2).value != 0.0f) == (step >= 3), "loss_g");
        CHECK(gan_model_metric(model, 0).value == -gan_model_metric(model, 1).value, "distance");
    }
    int at_limit = 0;
    for (int i = 0; i < gan_params_count(params); i++) {
        const gan_param_info info = gan_params_at(params, i);
        for (size_t k = 0; k < gan_shape_count(info.shape); k++) {
            if (info.kind == GAN_PARAM_WEIGHT && strncmp(info.name, "discriminator.", 14) == 0) {
                CHECK(fabsf(info.data[k]) <= 0.005f, "%s", info.name);
                at_limit += fabsf(info.data[k]) == 0.005f;
            }
            CHECK(!strstr(info.name, "running_var") || info.data[k] > 0.05f, "%s is clipped",
                  info.name);
        }
    }
    CHECK(at_limit > 0, "no weight was clipped");
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(ctx);
}

/* The schedule of the authors' loop: 100 steps for G's updates 0 to 24, 500, 1000 ..., else 5; and
 * other numbers. */
static void warm_up(void) {
    static const int rows[][2] = {{100, 5}, {2, 3}, {3, 1}, {1, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gani_phase phase;
        uint64_t step = 0;
        memset(&phase, 0, sizeof phase);
        phase.warm_up = rows[i][0];
        phase.every = rows[i][1];
        for (int update = 0; update < 1600; update++) {
            const int steps = update < 25 || update % 500 == 0 ? rows[i][0] : rows[i][1];
            for (int k = 1; k <= steps; k++, step++) {
                CHECK(gani_phase_runs(&phase, step) == (k == steps), "%d and %d: step %d",
                      rows[i][0], rows[i][1], (int)step);
            }
        }
    }
    const small critic = {"", "wgan", "network=mlp z=12 n-critic=1 warm-up=3", 8, 1, 4};
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_dataset *data = NULL;
    const gan_model_desc desc = small_desc(&critic);
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK &&
              open_digits(&data, ctx, &critic) == GAN_OK,
          "%s", gan_context_error(ctx));
    const float *weight =
        gan_params_find(gan_model_params(model), "generator.model.0.weight").data;
    for (uint64_t step = 1; step <= 80; step++) {
        const float before = weight[0];
        CHECK(train(model, data, step) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK((weight[0] != before) == (step > 75 || step % 3 == 0), "generator in step %d",
              (int)step);
    }
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(ctx);
}

/* A critic without norms has biases, spread over +-1/sqrt(fan in) as PyTorch's are at first: it
 * learns more slowly from zeros. */
static void critic_biases(void) {
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("wgan-gp");
    desc.height = desc.width = 32;
    desc.channels = 1;
    desc.batch = 2;
    desc.options = "ndf=32 ngf=4";
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    gan_params *params = gan_model_params(model);
    for (int layer = 0; layer <= 5; layer = layer ? layer + 3 : 2) {
        char name[64];
        snprintf(name, sizeof name, "discriminator.main.%d.weight", layer);
        const gan_shape shape = gan_params_find(params, name).shape;
        const double bound = 1.0 / sqrt((double)shape.dim[1] * shape.dim[2] * shape.dim[3]);
        snprintf(name, sizeof name, "discriminator.main.%d.bias", layer);
        const gan_param_info bias = gan_params_find(params, name);
        double low = 0.0, high = 0.0;
        for (int i = 0; bias.data && i < shape.dim[0]; i++) {
            low = fmin(low, (double)bias.data[i]);
            high = fmax(high, (double)bias.data[i]);
        }
        CHECK(low >= -bound && low < -0.7 * bound && high > 0.7 * bound && high <= bound,
              "%s: %g ... %g, expected nearly +-%g", name, low, high, bound);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

static void phases_and_rates(void) {
    static const gani_system system = {
        {"seldom", "", "", 4, 4, 1, 2, NULL, 0, 1, 0, 0}, seldom_train, NULL, NULL, NULL};
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_model_desc desc;
    memset(&desc, 0, sizeof desc);
    CHECK(gani_model_create(&model, ctx, &system, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    static const double rates[] = {0.1, 0.05, 0.03, 0.03, 0.03, 0.03};
    for (int step = 0; model && step < 6; step++) {
        const float critic = gan_params_find(gan_model_params(model), "critic.weight").data[0];
        const float generator =
            gan_params_find(gan_model_params(model), "generator.weight").data[0];
        CHECK(gan_model_train(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(fabs((double)gan_model_feed(model, "lr", NULL)[0] - rates[step]) < 1e-8, "rate %d",
              step);
        CHECK(gan_params_find(gan_model_params(model), "critic.weight").data[0] != critic,
              "critic");
        const float now = gan_params_find(gan_model_params(model), "generator.weight").data[0];
        CHECK((now != generator) == (step % 3 == 2), "generator in step %d", step);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* ---- images to images: a small system ------------------------------------------------------- */

/* Two linear translators from a to b and back, with a pool, a falling rate and an input of the
 * caller's; enough to see what recipes can say. The networks take multiples of 4. */
enum { TOY_POOL = 3 };

static gan_tensor toy_network(gani_recipe *recipe, const char *name, gan_tensor x, int channels) {
    const gan_init weight = {GAN_INIT_NORMAL, 0.0f, 0.2f};
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.weight_init = &weight;
    x = gan_layer_conv(recipe->graph, name, x, 4 * channels, 4, 4, 0, &desc);
    gan_graph_push(recipe->graph, name);
    x = gan_layer_conv_transpose(recipe->graph, "up", x, channels, 4, 4, 0, &desc);
    gan_graph_pop(recipe->graph);
    return gan_tanh(recipe->graph, x);
}

static void toy_train(gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    const gan_optimiser sgd = gan_sgd(0.0f);
    gan_graph *g = recipe->graph;
    gan_tensor a = gani_feed_part(recipe, "a", 0, model->channels);
    gan_tensor b = gani_feed_part(recipe, "b", 1, model->channels_b);
    gan_tensor rate = gani_feed_schedule(recipe, "lr", 0.1, 2, 4);
    gan_tensor fake_b = toy_network(recipe, "ab", a, model->channels_b);
    gan_tensor fake_a = toy_network(recipe, "ba", fake_b, model->channels);
    gan_tensor old = gani_pool(recipe, "pool", fake_b, TOY_POOL);
    gan_tensor loss = gan_add(g, gan_loss_l1(g, fake_b, b), gan_loss_l1(g, fake_a, a));
    loss = gan_add(g, loss, gan_affine(g, gan_loss_l1(g, old, b), 0.5f, 0.0f));
    gan_minimise(g, loss, "", rate, &sgd);
    gani_report(recipe, "loss", loss);
    gani_report(recipe, "generated", fake_b);
    gani_report(recipe, "pooled", old);
    gani_end_phase(recipe, "train", 1);
}

static void toy_translate(gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    gan_graph *g = recipe->graph;
    gani_round_sizes(recipe, 4, 4);
    gan_tensor x = gani_feed_source(recipe, "in",
                                    recipe->reverse ? model->channels_b : model->channels);
    gan_tensor shift = gani_feed_given(recipe, "shift", gan_shape0(), 0.0, -10.0, 10.0);
    gan_tensor y = toy_network(recipe, recipe->reverse ? "ba" : "ab", x,
                               recipe->reverse ? model->channels : model->channels_b);
    gani_images(recipe, gan_add(g, y, shift));
}

static void toy_encode(gani_recipe *recipe) {
    gan_graph *g = recipe->graph;
    gan_tensor x = gani_feed_source(recipe, "image", recipe->model->channels);
    const int channels = recipe->model->channels;
    x = gan_reshape(g, gan_mean(g, x, 1u << 2 | 1u << 3), gan_shape2(recipe->batch, channels));
    gani_codes(recipe, x);
}

static const gani_system toy = {{"toy", "", "", 8, 12, 3, 2, NULL, 0, 2, 0, 1},
                                toy_train,
                                NULL,
                                toy_translate,
                                toy_encode};

static gan_model *open_toy(gan_context *ctx, int disable_training) {
    gan_model *model = NULL;
    gan_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels_b = 1;
    desc.disable_training = disable_training;
    CHECK(gani_model_create(&model, ctx, &toy, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    return model;
}

static void fill_random(gan_model *model, const char *name, uint64_t stream) {
    size_t count;
    float *data = gan_model_feed(model, name, &count);
    gan_random_uniform(5, stream, 0, data, count);
}

/* The pool against the few lines of C that it stands for. */
static void pool_of_images(void) {
    enum { IMAGE = 8 * 12 };
    static float stored[TOY_POOL][IMAGE];
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    int filled = 0, swaps = 0, fresh = 0;
    for (uint64_t step = 0; step < 12; step++) {
        fill_random(model, "a", 2 * step);
        fill_random(model, "b", 2 * step + 1);
        CHECK(gan_model_train(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
        const float *number = gan_model_feed(model, "pool", NULL);
        const float *in = gani_result_data(model->train, "generated");
        const float *out = gani_result_data(model->train, "pooled");
        for (int i = 0; i < 2; i++) {
            float want[IMAGE];
            const int k = (int)number[i];
            CHECK(number[i] == (float)k && k >= 0 && k < 2 * TOY_POOL, "%g", (double)number[i]);
            memcpy(want, in + i * IMAGE, sizeof want);
            if (filled < TOY_POOL) {
                memcpy(stored[filled++], want, sizeof want);
            } else if (k < TOY_POOL) {
                memcpy(want, stored[k], sizeof want);
                memcpy(stored[k], in + i * IMAGE, sizeof want);
                swaps++;
            } else {
                fresh++;
            }
            CHECK(memcmp(want, out + i * IMAGE, sizeof want) == 0, "step %d, image %d", (int)step,
                  i);
        }
        CHECK(gan_params_find(gan_model_params(model), "pool.count").data[0] == (float)filled,
              "count");
        CHECK(memcmp(gan_params_find(gan_model_params(model), "pool.images").data, stored,
                     sizeof stored) == 0,
              "what is stored in step %d", (int)step);
    }
    CHECK(swaps > 4 && fresh > 4, "%d swaps, %d fresh ones", swaps, fresh);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Constant for two steps, then in a line to zero within four. */
static void falling_rate(void) {
    static const double rates[] = {0.1, 0.1, 0.1, 0.075, 0.05, 0.025, 0.0, 0.0};
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    for (uint64_t step = 0; step < 8; step++) {
        gan_params_set_step(gan_model_params(model), step);
        CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(fabs((double)gan_model_feed(model, "lr", NULL)[0] - rates[step]) < 1e-8, "step %d",
              (int)step);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Translates [channels,height,width] and [channels,rounded height,rounded width], the latter
 * mirrored here; the results agree on what they share. */
static void check_size(gan_model *model, int height, int width, const char *inputs, int in,
                       int out) {
    const int h = (height + 3) / 4 * 4, w = (width + 3) / 4 * 4;
    float *small_in = random_array((size_t)(in * height * width));
    float *large_in = (float *)malloc(sizeof(float) * (size_t)(in * h * w));
    float *small_out = (float *)malloc(sizeof(float) * (size_t)(out * height * width));
    float *large_out = (float *)malloc(sizeof(float) * (size_t)(out * h * w));
    for (int c = 0; c < in; c++) {
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++) { /* no image here is less than half of what it needs */
                const int yy = y < height ? y : height > 1 ? 2 * (height - 1) - y : 0;
                const int xx = x < width ? x : width > 1 ? 2 * (width - 1) - x : 0;
                large_in[(c * h + y) * w + x] = small_in[(c * height + yy) * width + xx];
            }
        }
    }
    CHECK(gan_model_translate(model, small_in, 1, height, width, inputs, small_out) == GAN_OK &&
              gan_model_translate(model, large_in, 1, h, w, inputs, large_out) == GAN_OK,
          "%d x %d: %s", width, height, gan_context_error(model->ctx));
    for (int row = 0; row < out * height; row++) {
        CHECK(memcmp(small_out + row * width,
                     large_out + ((row / height) * h + row % height) * w,
                     (size_t)width * sizeof(float)) == 0,
              "%d x %d: row %d", width, height, row);
    }
    free(small_in);
    free(large_in);
    free(small_out);
    free(large_out);
}

static void translating(void) {
    enum { IMAGE = 8 * 12 };
    static float in[3 * 3 * IMAGE], all[3 * IMAGE], one[3 * IMAGE];
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    gan_random_uniform(1, 2, 0, in, 9 * IMAGE);
    CHECK(gan_model_translate(model, in, 3, 8, 12, NULL, all) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(gan_model_translate(model, in + 6 * IMAGE, 1, 8, 12, "direction=ab", one) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(memcmp(one, all + 2 * IMAGE, IMAGE * sizeof(float)) == 0, "an image by itself");
    CHECK(gan_model_translate(model, in, 1, 8, 12, " shift=0.5 seed=3", one) == GAN_OK, "%s",
          gan_context_error(ctx));
    for (int i = 0; i < IMAGE; i++) {
        CHECK(one[i] == all[i] + 0.5f, "shifted pixel %d", i);
    }
    CHECK(gan_model_translate(model, all, 1, 8, 12, "direction=ba", one) == GAN_OK, "%s",
          gan_context_error(ctx));
    check_size(model, 8, 12, NULL, 3, 1);
    check_size(model, 5, 9, NULL, 3, 1);
    check_size(model, 31, 18, "direction=ba", 1, 3);
    check_size(model, 3, 40, NULL, 3, 1);
    CHECK(gan_model_translate(model, in, 1, 1, 1, NULL, one) == GAN_OK, "one pixel");
    CHECK(gan_model_translate(model, in, 1, 8, 12, "direction=b", one) == GAN_ERR_ARGUMENT &&
              strstr(gan_context_error(ctx), "expected ab or ba, found \"b\""),
          "%s", gan_context_error(ctx));
    CHECK(gan_model_translate(model, in, 1, 8, 12, "seed=x", one) == GAN_ERR_ARGUMENT, "seed");
    CHECK(gan_model_translate(model, in, 1, 8, 12, "in=1", one) == GAN_ERR_ARGUMENT, "source");
    CHECK(gan_model_translate(model, in, 1, 0, 12, NULL, one) == GAN_ERR_ARGUMENT, "no height");
    CHECK(gan_model_sample(model, one, 1, NULL, 1) == GAN_ERR_UNSUPPORTED, "sampling");
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Rows of a walk begin and end at the noise of images next to one another. */
static void walking(void) {
    static float plain[6 * PIXELS], walk[15 * PIXELS];
    static const char *const options[] = {"z=12 ngf=4 ndf=4", "preset=paper z=12"};
    gan_context *ctx = open_context(NULL, 1);
    for (int k = 0; k < 2; k++) { /* normal noise, uniform noise */
        const small s = {"", k ? "gan" : "dcgan", options[k], 16, 3, 4};
        gan_model *model = NULL;
        gan_model_desc desc = small_desc(&s);
        CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
        CHECK(gan_model_sample(model, plain, 6, NULL, 5) == GAN_OK &&
                  gan_model_sample(model, walk, 15, "walk=5", 5) == GAN_OK,
              "%s", gan_context_error(ctx));
        for (int i = 0; i < 6; i++) {
            const float *end = walk + (i / 2 * 5 + i % 2 * 4) * PIXELS;
            for (int j = 0; j < PIXELS; j++) {
                CHECK(fabsf(plain[i * PIXELS + j] - end[j]) < 1e-5f, "image %d, pixel %d", i, j);
            }
        }
        CHECK(memcmp(walk, walk + PIXELS, PIXELS * sizeof(float)) != 0, "standing still");
        CHECK(gan_model_sample(model, walk, 2, "walk=1", 5) == GAN_ERR_ARGUMENT, "walk=1");
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

static double ticks(void *user) {
    return *(double *)user += 0.5;
}

/* What a program runs: names, shapes, work; the clock is read before and after each op. */
static void programs(void) {
    double clock = 0.0, seconds[512] = {0.0}, work = 0.0;
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    gan_program *program = NULL;
    int count = 0, convolutions = 0;
    CHECK(gan_model_program(model, "translate", 0, &program) == GAN_OK && program, "translate");
    const int ops = gan_program_get_info(program).ops;
    for (gan_op_info op; (op = gan_program_op(program, count)).op != NULL; count++) {
        work += op.multiply_adds;
        if (strcmp(op.op, "conv2d") == 0 && strcmp(op.name, "ab") == 0) {
            convolutions++;
            CHECK(op.shape.dim[1] == 4 && op.shape.dim[2] == 2 && op.source[0].dim[3] == 12 &&
                      op.source[1].rank == 4 && strcmp(op.algorithm, "direct") == 0,
                  "the first layer");
        }
    }
    CHECK(count == ops && convolutions == 1, "%d ops, %d convolutions", count, convolutions);
    CHECK(work == gan_program_get_info(program).multiply_adds, "%g", work);
    CHECK(gan_program_time(program, ticks, &clock, seconds) == GAN_OK, "%s",
          gan_context_error(ctx));
    for (int i = 0; i < ops; i++) {
        CHECK(seconds[i] == 0.5, "op %d", i);
    }
    CHECK(clock == (double)ops, "%g", clock);
    CHECK(gan_model_program(model, "translate", 1, &program) == GAN_OK && !program, "past the end");
    CHECK(gan_model_program(model, "sample", 0, &program) == GAN_OK && !program, "sample");
    CHECK(gan_model_program(model, "train", 0, &program) == GAN_OK && program, "train");
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

static void encoding(void) {
    enum { N = 19, CHANNEL = 8 * 12 };
    static float in[N * 3 * CHANNEL], out[N * 3];
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    gan_model_info info;
    gan_random_uniform(1, 3, 0, in, N * 3 * CHANNEL);
    CHECK(gan_model_get_info(model, &info) == GAN_OK && info.encode_width == 3, "width");
    CHECK(info.translate_in == 3 && info.translate_out == 1 && info.sample_channels == 0 &&
              info.channels_b == 1 && info.translate_bytes > 0 &&
              info.translate_multiply_adds == 6.0 * (48 * 4 + 4 * 16),
          "what it can do: %g", info.translate_multiply_adds);
    CHECK(gan_model_encode(model, in, N, out, 0) == GAN_OK, "%s", gan_context_error(ctx));
    for (int i = 0; i < N * 3; i++) {
        double mean = 0.0;
        for (int k = 0; k < CHANNEL; k++) {
            mean += (double)in[i * CHANNEL + k] / CHANNEL;
        }
        CHECK(fabs(mean - (double)out[i]) < 1e-5, "mean %d", i);
    }
    gan_model_destroy(model);
    model = NULL;
    gan_model_desc desc = small_desc(&smalls[2]);
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_encode(model, in, 1, out, 0) == GAN_ERR_UNSUPPORTED &&
              strstr(gan_context_error(ctx), "dcgan does not encode"),
          "%s", gan_context_error(ctx));
    CHECK(gan_model_translate(model, in, 1, 8, 8, NULL, out) == GAN_ERR_UNSUPPORTED, "translate");
    CHECK(gan_model_sample_frames(model, out, 1, NULL, 1) == GAN_ERR_UNSUPPORTED, "frames");
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* Two networks' worth of images against one another: the spread as the recipe computes it, and as
 * it is meant; 16 x 16 pixels become means of 2 x 2. */
/* Copies generator weights and buffers under another prefix. */
static void take_averages(gan_model *to, gan_model *from, const char *prefix) {
    gan_param_info info;
    for (int i = 0; (info = gan_params_at(gan_model_params(to), i)).data; i++) {
        char name[300];
        snprintf(name, sizeof name, "%s%s", prefix, info.name);
        const gan_param_info other = gan_params_find(gan_model_params(from), name);
        if (strncmp(info.name, "generator.", 10) == 0 && info.kind != GAN_PARAM_STATE) {
            CHECK(other.data != NULL, "no %s", name);
            memcpy(info.data, other.data, gan_shape_count(info.shape) * sizeof(float));
        }
    }
}

/* ema=...: samples are drawn with the averaged weights, training is the same, and both go into the
 * checkpoint; ours, read without training, draws the same. */
static void averages(void) {
    static const char *const systems[] = {"gan", "dcgan", "lsgan", "wgan", "cgan", "acgan"};
    gan_context *ctx = open_context(NULL, 1);
    float averaged[4 * 256], raw[4 * 256], other[4 * 256];
    const char *path = test_path("ema.safetensors");
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        gan_model *model[3] = {NULL, NULL, NULL};
        gan_dataset *data = NULL;
        gan_model_desc desc = gan_model_defaults(systems[i]);
        gan_dataset_desc size;
        memset(&size, 0, sizeof size);
        desc.height = desc.width = size.height = size.width = 16;
        desc.channels = size.channels = 1;
        desc.batch = 4;
        for (int k = 0; k < 2; k++) {
            desc.options = k ? "" : "ema=0.5";
            CHECK(gan_model_create(&model[k], ctx, &desc) == GAN_OK, "%s", gan_context_error(ctx));
            CHECK(gan_dataset_open(&data, ctx, "digits", &size) == GAN_OK, "digits");
            for (int step = 0; step < 6; step++) {
                CHECK(gan_model_train(model[k], data) == GAN_OK, "%s", gan_context_error(ctx));
            }
            gan_dataset_close(data);
        }
        const float loss = gan_model_metric(model[0], 0).value;
        CHECK(loss == gan_model_metric(model[1], 0).value, "%s: training differs", systems[i]);
        gan_model_sample(model[0], averaged, 4, NULL, 3);
        gan_model_sample(model[1], raw, 4, NULL, 3);
        CHECK(memcmp(averaged, raw, sizeof raw) != 0, "%s: not averaged", systems[i]);
        take_averages(model[1], model[0], "ema.");
        gan_model_sample(model[1], other, 4, NULL, 3);
        CHECK(memcmp(averaged, other, sizeof raw) == 0, "%s: not the averages", systems[i]);
        CHECK(gan_model_save(model[0], path) == GAN_OK, "save");
        memset(&desc, 0, sizeof desc);
        desc.disable_training = 1;
        CHECK(gan_model_load(&model[2], ctx, path, &desc) == GAN_OK, "%s",
              gan_context_error(ctx));
        gan_model_sample(model[2], other, 4, NULL, 3);
        CHECK(memcmp(averaged, other, sizeof raw) == 0, "%s: not what was saved", systems[i]);
        for (int k = 0; k < 3; k++) {
            gan_model_destroy(model[k]);
        }
    }
    remove(path);
    gan_context_destroy(ctx);
}

static void spread_train(gani_recipe *recipe) {
    gan_tensor fake = gani_feed_part(recipe, "fake", 0, 1);
    gan_tensor real = gani_feed_part(recipe, "real", 1, 1);
    gani_report_spread(recipe, fake, real);
    gani_end_phase(recipe, "train", 1);
}

static void shrink(const float *image, double out[64]) {
    for (int i = 0; i < 64; i++) {
        const float *at = image + i / 8 * 32 + i % 8 * 2;
        out[i] = ((double)at[0] + (double)at[1] + (double)at[16] + (double)at[17]) / 4.0;
    }
}

static double variance_of(const float *images, int n, double last[64]) {
    double sum = 0.0;
    for (int k = 0; k < 64; k++) {
        double mean = 0.0, x[4][64];
        for (int i = 0; i < n; i++) {
            shrink(images + i * 256, x[i]);
            mean += x[i][k] / n;
        }
        for (int i = 0; i < n; i++) {
            const double from = n > 1 ? mean : last[k];
            sum += (x[i][k] - from) * (x[i][k] - from);
        }
        last[k] = n == 1 ? x[0][k] : last[k];
    }
    return sum / 64.0 / (n > 1 ? n - 1 : 2);
}

static void spread(void) {
    static const gani_system system = {
        {"spread", "", "", 16, 16, 1, 4, NULL, 0, 2, 0, 0}, spread_train, NULL, NULL, NULL};
    gan_context *ctx = open_context(NULL, 1);
    for (int batch = 4; batch >= 1; batch -= 3) {
        double last[2][64] = {{0.0}};
        gan_model *model = NULL;
        gan_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.batch = batch;
        CHECK(gani_model_create(&model, ctx, &system, &desc) == GAN_OK, "%s",
              gan_context_error(ctx));
        for (uint64_t step = 0; model && step < 3; step++) {
            size_t count;
            float *fake = gan_model_feed(model, "fake", &count);
            fill_random(model, "fake", 2 * step);
            fill_random(model, "real", 2 * step + 1);
            for (size_t i = 0; i < count; i++) {
                fake[i] *= 0.1f;
            }
            const double of_fake = variance_of(fake, batch, last[0]);
            const double of_real = variance_of(gan_model_feed(model, "real", NULL), batch, last[1]);
            CHECK(gan_model_train(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
            CHECK(fabs((double)gan_model_metric(model, 0).value - sqrt(of_fake / of_real)) < 1e-5,
                  "batch %d, step %d: %g, not %g", batch, (int)step,
                  (double)gan_model_metric(model, 0).value, sqrt(of_fake / of_real));
        }
        gan_model_destroy(model);
    }
    gan_context_destroy(ctx);
}

/* The description that a model gives of its data is enough to open and to train on it. */
static void data_of_a_model(void) {
    enum { IMAGE = 8 * 12 };
    static float a[2 * 3 * IMAGE], b[2 * IMAGE];
    float *const parts[] = {a, b, NULL};
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    gan_dataset *data = NULL;
    gan_dataset_desc desc = gan_model_dataset_desc(model);
    CHECK(desc.height == 8 && desc.width == 12 && desc.channels == 3 && desc.channels_b == 1 &&
              desc.pairing == GAN_PAIRING_UNPAIRED && desc.label_maps == 0,
          "what the model wants");
    desc.pairing = GAN_PAIRING_DERIVED;
    desc.derive = GAN_DERIVE_EDGES;
    CHECK(gan_dataset_open(&data, ctx, "digits", &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(train(model, data, 3) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_dataset_batch_parts(data, 0, 2, 2, parts, NULL) == GAN_OK, "%s",
          gan_context_error(ctx));
    CHECK(memcmp(gan_model_feed(model, "a", NULL), a, sizeof a) == 0 &&
              memcmp(gan_model_feed(model, "b", NULL), b, sizeof b) == 0,
          "images of step 2");
    gan_dataset_close(data);
    desc.pairing = GAN_PAIRING_NONE;
    CHECK(gan_dataset_open(&data, ctx, "digits", &desc) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(gan_model_train(model, data) == GAN_ERR_SHAPE &&
              strstr(gan_context_error(ctx), "images of domain B [1,8,12]"),
          "%s", gan_context_error(ctx));
    gan_dataset_close(data);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
}

/* A model made for use has the networks of both directions and nothing of training. */
static void translating_without_training(void) {
    enum { IMAGE = 8 * 12 };
    static float in[3 * IMAGE], want[2][3 * IMAGE], got[3 * IMAGE];
    static const char *const ways[] = {"direction=ab", "direction=ba"};
    const char *path = test_path("toy.safetensors");
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = open_toy(ctx, 0);
    gan_checkpoint *checkpoint = NULL;
    gan_random_uniform(1, 2, 0, in, 3 * IMAGE);
    CHECK(gan_model_train(model, NULL) == GAN_OK, "%s", gan_context_error(ctx));
    for (int i = 0; i < 2; i++) {
        CHECK(gan_model_translate(model, in, 1, 8, 12, ways[i], want[i]) == GAN_OK, "%s",
              gan_context_error(ctx));
    }
    CHECK(gan_model_save(model, path) == GAN_OK, "%s", gan_context_error(ctx));
    gan_model_destroy(model);
    model = open_toy(ctx, 1);
    CHECK(gan_checkpoint_open(&checkpoint, ctx, path) == GAN_OK, "%s", gan_context_error(ctx));
    CHECK(strcmp(gan_checkpoint_text(checkpoint, "channels_b"), "1") == 0, "channels_b");
    CHECK(gani_load_params(model, checkpoint, 1) == GAN_OK, "%s", gan_context_error(ctx));
    for (int i = 1; i >= 0; i--) {
        CHECK(gan_model_translate(model, in, 1, 8, 12, ways[i], got) == GAN_OK, "%s",
              gan_context_error(ctx));
        CHECK(memcmp(got, want[i], (i ? 3u : 1u) * IMAGE * sizeof(float)) == 0, "%s", ways[i]);
    }
    CHECK(!gan_params_find(gan_model_params(model), "pool.images").data, "a pool without training");
    gan_checkpoint_close(checkpoint);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
    remove(path);
}

/* A checkpoint knows the channels of both domains. */
static void unequal_channels(void) {
    static const float in[3 * 16 * 16];
    static float out[16 * 16];
    const char *path = test_path("unequal.safetensors");
    gan_context *ctx = open_context(NULL, 1);
    gan_model *model = NULL;
    gan_model_info info;
    gan_model_desc desc = gan_model_defaults("pix2pix");
    desc.height = desc.width = 16;
    desc.channels_b = 1;
    desc.options = "net=resnet blocks=1 ngf=2 ndf=2 d-layers=1";
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_OK && gan_model_save(model, path) == GAN_OK,
          "%s", gan_context_error(ctx));
    gan_model_destroy(model);
    model = NULL;
    CHECK(gan_model_load(&model, ctx, path, NULL) == GAN_OK &&
              gan_model_get_info(model, &info) == GAN_OK,
          "%s", gan_context_error(ctx));
    CHECK(info.channels == 3 && info.channels_b == 1 && info.translate_in == 3 &&
              info.translate_out == 1,
          "%d to %d", info.translate_in, info.translate_out);
    CHECK(gan_model_dataset_desc(model).pairing == GAN_PAIRING_SIDES, "pairs");
    CHECK(gan_model_translate(model, in, 1, 16, 16, NULL, out) == GAN_OK, "%s",
          gan_context_error(ctx));
    gan_model_destroy(model);
    gan_context_destroy(ctx);
    remove(path);
}

/* Training, translating both ways, encoding and asking, with one allocation refused; 1 if all went
 * well. */
static int toy_with_refusal(memory *m) {
    static float in[3 * 8 * 12], out[3 * 8 * 12];
    gan_context *ctx = open_context(m, 1);
    gan_model *model = NULL;
    gan_model_desc desc;
    gan_model_info info;
    if (!ctx) {
        return 0;
    }
    memset(&desc, 0, sizeof desc);
    desc.channels_b = 1;
    gan_status status = gani_model_create(&model, ctx, &toy, &desc);
    status = status ? status : gan_model_train(model, NULL);
    status = status ? status : gan_model_translate(model, in, 1, 5, 7, "seed=1", out);
    status = status ? status : gan_model_translate(model, in, 1, 8, 12, "direction=ba", out);
    status = status ? status : gan_model_encode(model, in, 1, out, 0);
    status = status ? status : gan_model_get_info(model, &info);
    CHECK(status == GAN_OK || status == GAN_ERR_MEMORY, "call %ld: %s", m->refuse,
          gan_context_error(ctx));
    gan_model_destroy(model);
    model = NULL;
    desc.disable_training = 1;
    status = status ? status : gani_model_create(&model, ctx, &toy, &desc);
    gan_model_destroy(model);
    gan_context_destroy(ctx);
    return status == GAN_OK;
}

static void refused_allocations_of_a_translator(void) {
    long refused = 0;
    for (int done = 0; !done && refused < 100000;) {
        memory m = {0, ++refused, 0};
        done = toy_with_refusal(&m);
        CHECK(m.alive == 0, "call %ld refused: %ld blocks leak", refused, m.alive);
    }
    CHECK(refused > 50, "only %ld allocations", refused);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(parameter_counts);
    TEST(dcgan_sizes);
    TEST(every_system_has_a_case);
    TEST(losses_are_finite_and_change);
    TEST(same_bits_for_any_number_of_threads);
    TEST(same_bits_after_save_and_resume);
    TEST(same_bits_with_recomputation);
    TEST(feeds);
    TEST(sampling);
    TEST(labels);
    TEST(labels_must_fit);
    TEST(clear_errors);
    TEST(numbers_as_options);
    TEST(wrong_files_and_data);
    TEST(no_allocation_after_the_first_step);
    TEST(every_refused_allocation_is_survived);
    TEST(critic_steps);
    TEST(warm_up);
    TEST(critic_biases);
    TEST(phases_and_rates);
    TEST(pool_of_images);
    TEST(falling_rate);
    TEST(averages);
    TEST(spread);
    TEST(data_of_a_model);
    TEST(translating);
    TEST(walking);
    TEST(programs);
    TEST(encoding);
    TEST(translating_without_training);
    TEST(unequal_channels);
    TEST(refused_allocations_of_a_translator);
    return test_end();
}
