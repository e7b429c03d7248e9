/* test_pairs.c - the context encoder and Coupled GAN: first losses against PyTorch's, and what must
 * hold with any weights. tests/fixtures_pairs.py wrote the losses.
 */
#include "parity.h"

/* --- first losses -------------------------------------------------------------------------- */

static const training_feed context_feeds[] = {
    {"real", "images", -1.0f, 1.0f, 0},
    {"left", "left", 0.0f, 10.0f, 1},
    {"top", "top", 0.0f, 10.0f, 1},
    {NULL, NULL, 0.0f, 0.0f, 0},
};

static const training_feed couple_feeds[] = {
    {"real_a", "real_a", -1.0f, 1.0f, 0}, {"real_b", "real_b", -1.0f, 1.0f, 0},
    {"z", "z", -2.0f, 2.0f, 0},           {"z_g", "z_g", 0.0f, 1.0f, 0},
    {NULL, NULL, 0.0f, 0.0f, 0},
};

static const char context_losses[] = "loss_d loss_g loss_rec";

static const training_row rows[] = {
    {"pairs", "context", "context-encoder", "ngf=8 ndf=8 bottleneck=40 overlap=2", context_losses,
     32, 3, 6, 4, context_feeds},
    {"pairs", "context_l1", "context-encoder", "ngf=8 ndf=8 bottleneck=40 overlap=2 rec=l1 lr=2e-4",
     context_losses, 32, 3, 6, 7, context_feeds},
    {"pairs", "context_random", "context-encoder",
     "ngf=8 ndf=8 bottleneck=40 overlap=0 lr=2e-4 hole=random", context_losses, 32, 1, 6, 10,
     context_feeds},
    {"pairs", "cogan", "cogan", "z=20 ngf=8 ndf=4", NULL, 28, 1, 5, 3, couple_feeds},
    {"pairs", "cogan_32", "cogan", "z=20 ngf=4 ndf=4 private-g=2 private-d=2", NULL, 32, 3, 5, 3,
     couple_feeds},
    {"pairs", "cogan_mlp", "cogan", "z=20 network=mlp private-g=2", NULL, 16, 1, 6, 3,
     couple_feeds},
};

/* --- models for the other cases ------------------------------------------------------------ */

typedef struct subject {
    gan_context *ctx;
    gan_model *model;
} subject;

static subject make_subject(const char *system, const char *options, int size, int channels,
                            int channels_b) {
    subject s = {NULL, NULL};
    gan_model_desc desc = gan_model_defaults(system);
    desc.height = desc.width = size;
    desc.channels = channels;
    desc.channels_b = channels_b;
    desc.batch = 4;
    desc.seed = 5;
    desc.options = options;
    CHECK(gan_context_create(&s.ctx, NULL) == GAN_OK, "no context");
    CHECK(gan_model_create(&s.model, s.ctx, &desc) == GAN_OK, "%s", gan_context_error(s.ctx));
    return s;
}

static void destroy_subject(subject *s) {
    gan_model_destroy(s->model);
    gan_context_destroy(s->ctx);
}

/* One step on images drawn by the feed's name. */
static void train_once(gan_model *model, const training_feed *feeds, int step) {
    static training_row row;
    row.seed = 9;
    row.feeds = feeds;
    current_training = &row;
    CHECK(gan_model_fill(model, NULL) == GAN_OK, "not filled");
    fill_feeds(model, step);
    CHECK(gan_model_step(model) == GAN_OK, "step failed");
}

/* --- context encoder ----------------------------------------------------------------------- */

enum { HOLE_H = 40, HOLE_W = 52, HOLE_PIXELS = 3 * HOLE_H * HOLE_W };

/* Fills the box of an image and checks that outside of it nothing has changed, and inside not
 * everything is as it was. */
static void check_filled(const subject *s, int h, int w, const char *inputs, int left, int top,
                         int width, int height) {
    static float image[HOLE_PIXELS], other[HOLE_PIXELS], filled[HOLE_PIXELS], again[HOLE_PIXELS];
    int outside = 0, inside = 0;
    fill_random(image, (size_t)(3 * h * w), "image", 1, -1.0f, 1.0f);
    gan_status status = gan_model_translate(s->model, image, 1, h, w, inputs, filled);
    CHECK(status == GAN_OK, "%s", gan_context_error(s->ctx));
    memcpy(other, image, sizeof other);
    for (int i = 0; i < 3 * h * w; i++) {
        const int x = i % w, y = i / w % h;
        const int in_box = x >= left && x < left + width && y >= top && y < top + height;
        outside += !in_box && filled[i] != image[i];
        inside += in_box && filled[i] == image[i];
        other[i] = in_box ? 0.25f : image[i];
        CHECK(filled[i] >= -1.0001f && filled[i] <= 1.0001f, "[%d] is %g", i, (double)filled[i]);
    }
    CHECK(outside == 0, "%d x %d, %s: %d values changed outside the hole", h, w, inputs, outside);
    CHECK(inside < width * height, "%d x %d, %s: %d values in the hole are the image's", h, w,
          inputs, inside);
    status = gan_model_translate(s->model, other, 1, h, w, inputs, again);
    CHECK(status == GAN_OK, "%s", gan_context_error(s->ctx));
    float most = 0.0f;
    for (int i = 0; i < 3 * h * w; i++) {
        const float change = again[i] > filled[i] ? again[i] - filled[i] : filled[i] - again[i];
        most = change > most ? change : most;
    }
    CHECK(most < 1e-5f, "%d x %d, %s: what the hole hides shows through, by %g", h, w, inputs,
          (double)most);
}

static void hole_is_filled_and_the_rest_is_kept(void) {
    static const char *const options[] = {"ngf=4 ndf=4 bottleneck=16 overlap=2",
                                          "ngf=4 ndf=4 bottleneck=16 overlap=0",
                                          "ngf=4 ndf=4 bottleneck=16 overlap=2 hole=random"};
    for (int i = 0; i < 3; i++) {
        subject s = make_subject("context-encoder", options[i], 32, 3, 0);
        const int hole = i == 1 ? 16 : 12;
        train_once(s.model, context_feeds, 0);
        check_filled(&s, 32, 32, NULL, (32 - hole) / 2, (32 - hole) / 2, hole, hole);
        check_filled(&s, HOLE_H, HOLE_W, "left=3 top=2 width=20 height=9", 3, 2, 20, 9);
        check_filled(&s, HOLE_H, HOLE_W, "left=44 top=30 width=8 height=10", 44, 30, 8, 10);
        check_filled(&s, 7, 9, "left=2 top=1 width=3 height=3", 2, 1, 3, 3);
        destroy_subject(&s);
    }
}

/* A rectangle begins in the image and has a size. */
static void rectangles_without_pixels(void) {
    static const char *const wrong[] = {"left=21", "left=-1", "top=13", "width=0", "height=-4"};
    static float image[3 * 13 * 21], filled[3 * 13 * 21];
    subject s = make_subject("context-encoder", "ngf=4 ndf=4 bottleneck=16", 32, 3, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(gan_model_translate(s.model, image, 1, 13, 21, wrong[i], filled) == GAN_ERR_ARGUMENT,
              "%s accepted", wrong[i]);
    }
    CHECK(gan_model_translate(s.model, image, 1, 13, 21, "left=20 top=12", filled) == GAN_OK, "%s",
          gan_context_error(s.ctx));
    destroy_subject(&s);
}

/* At the model's own size and with the hole of training, what fills it is the generator's output as
 * it is: the same as training computes. */
static void window_at_own_size_is_the_image(void) {
    static float image[3 * 32 * 32], filled[3 * 32 * 32];
    subject s = make_subject("context-encoder", "ngf=4 ndf=4 bottleneck=16 overlap=0", 32, 3, 0);
    gan_graph *g = NULL;
    gan_program *program = NULL;
    fill_random(image, sizeof image / sizeof image[0], "image", 1, -1.0f, 1.0f);
    gan_status status = gan_model_translate(s.model, image, 1, 32, 32, NULL, filled);
    CHECK(status == GAN_OK, "%s", gan_context_error(s.ctx));
    gani_recipe recipe = *s.model->train; /* the same sizes, a graph of its own */
    CHECK(gan_graph_create(&g, s.ctx, gan_model_params(s.model)) == GAN_OK, "no graph");
    gan_graph_set_mode(g, GAN_EVALUATE);
    recipe.graph = g;
    gan_tensor in = gan_input(g, "image", gan_shape4(1, 3, 32, 32));
    gan_tensor hole = gan_constant(g, gan_shape4(1, 1, 1, 1), 8.0f);
    gani_box box;
    box.left = box.top = hole;
    box.width = box.height = gan_affine(g, hole, 2.0f, 0.0f);
    gan_tensor made =
        gani_context_generator(&recipe, gani_context_hide(g, in, gani_mask(g, &box, 32, 32)));
    memcpy(gan_input_data(g, in), image, sizeof image);
    status = gan_program_create(&program, g, "direct", &made, 1);
    status = status ? status : gan_program_run(program);
    CHECK(status == GAN_OK, "%s", gan_context_error(s.ctx));
    const float *want = status == GAN_OK ? gan_program_output(program, made) : filled;
    for (int i = 0; i < 3 * 16 * 16; i++) {
        const int x = i % 16 + 8, y = i / 16 % 16 + 8, c = i / 256;
        const float got = filled[(c * 32 + y) * 32 + x];
        CHECK(fabs((double)(got - want[i])) < 1e-5, "[%d]: %g, expected %g", i, (double)got,
              (double)want[i]);
    }
    gan_program_destroy(program);
    gan_graph_destroy(g);
    destroy_subject(&s);
}

/* A window of an image that is twice as large is the mean of 2 x 2 pixels, roughly; one of a smooth
 * image is that image. */
static void resampling_keeps_a_ramp(void) {
    subject s = make_subject("context-encoder", "ngf=4 ndf=4 bottleneck=16", 32, 3, 0);
    for (int k = 0; k < 3; k++) {
        static const float steps[] = {0.5f, 1.0f, 2.0f};
        const int count = k == 0 ? 40 : k == 1 ? 20 : 9;
        gan_graph *g = NULL;
        gan_program *program = NULL;
        CHECK(gan_graph_create(&g, s.ctx, gan_model_params(s.model)) == GAN_OK, "no graph");
        gan_tensor start = gan_constant(g, gan_shape0(), 1.0f);
        gan_tensor step = gan_constant(g, gan_shape0(), steps[k]);
        gan_tensor weights = gani_resampling(g, count, 24, start, step);
        gan_tensor places = gan_reshape(g, gan_iota(g, 24), gan_shape2(24, 1));
        gan_tensor y = gan_matmul(g, weights, places, 0, 0);
        gan_status status = gan_program_create(&program, g, "ramp", &y, 1);
        status = status ? status : gan_program_run(program);
        CHECK(status == GAN_OK, "%s", gan_context_error(s.ctx));
        for (int i = 0; i < count && status == GAN_OK; i++) {
            const double want = 1.0 + (i + 0.5) * (double)steps[k] - 0.5;
            const double got = (double)gan_program_output(program, y)[i];
            CHECK(fabs(got - want) < 1e-5, "step %g: [%d] is %g, expected %g", (double)steps[k], i,
                  got, want);
        }
        gan_program_destroy(program);
        gan_graph_destroy(g);
    }
    destroy_subject(&s);
}

static void overlap_must_leave_a_hole(void) {
    gan_context *ctx = NULL;
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("context-encoder");
    desc.height = desc.width = 16;
    desc.options = "overlap=4";
    CHECK(gan_context_create(&ctx, NULL) == GAN_OK, "no context");
    CHECK(gan_model_create(&model, ctx, &desc) == GAN_ERR_SHAPE, "created");
    CHECK(strstr(gan_context_error(ctx), "overlap"), "%s", gan_context_error(ctx));
    gan_context_destroy(ctx);
}

/* Holes of a step lie within the image, differ, and are a function of seed and step. */
static void random_holes_lie_inside(void) {
    subject s = make_subject("context-encoder", "ngf=4 ndf=4 bottleneck=16 overlap=1 hole=random",
                             32, 3, 0);
    float first[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    size_t count = 0;
    float *left = gan_model_feed(s.model, "left", &count),
          *top = gan_model_feed(s.model, "top", NULL);
    CHECK(left && top && count == 4, "no holes");
    float low = 32.0f, high = 0.0f;
    for (int step = 0; step < 200 && left && top; step++) {
        gan_params_set_step(gan_model_params(s.model), (uint64_t)step);
        CHECK(gan_model_fill(s.model, NULL) == GAN_OK, "not filled");
        if (step == 0) {
            memcpy(first, left, sizeof first);
        }
        for (int i = 0; i < 4; i++) {
            low = left[i] < low ? left[i] : low;
            high = left[i] > high ? left[i] : high;
        }
    }
    CHECK(low == 0.0f && high == 32.0f - 14.0f, "from %g to %g", (double)low, (double)high);
    gan_params_set_step(gan_model_params(s.model), 0);
    CHECK(gan_model_fill(s.model, NULL) == GAN_OK, "not filled");
    CHECK(left && memcmp(first, left, sizeof first) == 0, "drawn anew, another hole");
    CHECK(left && top && memcmp(left, top, sizeof first) != 0, "left and top alike");
    destroy_subject(&s);
}

/* --- Coupled GAN --------------------------------------------------------------------------- */

/* A shared layer is one parameter, a private one two. */
static void layers_are_shared_as_asked(void) {
    static const struct {
        const char *options;
        int private_g, private_d; /* of 5 layers with weights in G, 4 in D */
    } cases[] = {{"z=20 ngf=4 ndf=4", 1, 1}, {"z=20 ngf=4 ndf=4 private-g=3 private-d=2", 3, 2}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        subject s = make_subject("cogan", cases[k].options, 28, 1, 1);
        for (int net = 0; net < 2; net++) {
            const int count = net == 0 ? 5 : 4;
            for (int i = 0; i < count; i++) {
                char name[64];
                const char *stem = net == 0 ? "generator.dconv" : "discriminator.conv";
                const int alone =
                    net == 0 ? i >= count - cases[k].private_g : i < cases[k].private_d;
                snprintf(name, sizeof name, "%s%d.weight", stem, i);
                const int shared = gan_params_find(gan_model_params(s.model), name).data != NULL;
                CHECK(shared != alone, "%s", name);
                for (int b = 0; b < 2; b++) {
                    snprintf(name, sizeof name, "%s%d_%c.weight", stem, i, b ? 'b' : 'a');
                    const int own = gan_params_find(gan_model_params(s.model), name).data != NULL;
                    CHECK(own == alone, "%s", name);
                }
            }
        }
        destroy_subject(&s);
    }
}

/* Norm of the sum of one weight's gradients of loss_g where D sees only one kind, and both. */
static void shared_layers_learn_from_both(void) {
    subject s = make_subject("cogan", "z=20 ngf=4 ndf=4 private-d=3", 28, 1, 1);
    gan_graph *g = NULL;
    gan_program *program = NULL;
    gan_tensor grad[3] = {{0}, {0}, {0}};
    gani_recipe recipe = *s.model->train;
    CHECK(gan_graph_create(&g, s.ctx, gan_model_params(s.model)) == GAN_OK, "no graph");
    recipe.graph = g;
    gan_tensor z = gan_input(g, "z", gan_shape2(4, 20));
    fill_random(gan_input_data(g, z), 80, "z", 1, -1.0f, 1.0f);
    gan_tensor scores = gani_cogan_discriminator(&recipe, gani_cogan_generator(&recipe, z));
    const gan_init none = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    const gan_param_info info =
        gan_params_find(gan_model_params(s.model), "generator.dconv1.weight");
    gan_tensor weight = gan_param(g, info.name, info.shape, info.kind, none);
    for (int k = 0; k < 3; k++) {
        gan_tensor part = k == 2 ? scores : gan_slice(g, scores, 0, 4 * k, 4);
        gan_grad(g, gan_sum(g, part, GAN_ALL_AXES), &weight, 1, &grad[k]);
    }
    gan_status status = gan_program_create(&program, g, "gradients", grad, 3);
    status = status ? status : gan_program_run(program);
    CHECK(status == GAN_OK, "%s", gan_context_error(s.ctx));
    double most[3] = {0.0, 0.0, 0.0}, off = 0.0;
    for (size_t i = 0; i < gan_shape_count(info.shape) && status == GAN_OK; i++) {
        double value[3];
        for (int k = 0; k < 3; k++) {
            value[k] = (double)gan_program_output(program, grad[k])[i];
            most[k] = fabs(value[k]) > most[k] ? fabs(value[k]) : most[k];
        }
        const double error = fabs(value[0] + value[1] - value[2]);
        off = error > off ? error : off;
    }
    CHECK(most[0] > 0.0 && most[1] > 0.0, "a kind without gradient: %g %g", most[0], most[1]);
    CHECK(off < 1e-5 * most[2], "sum of both kinds' gradients is off by %g of %g", off, most[2]);
    gan_program_destroy(program);
    gan_graph_destroy(g);
    destroy_subject(&s);
}

static void pairs_lie_side_by_side(void) {
    static float images[3 * 3 * 32 * 64], again[3 * 3 * 32 * 64];
    subject s = make_subject("cogan", "z=20 ngf=4 ndf=4", 32, 3, 1);
    gan_model_info info;
    train_once(s.model, couple_feeds, 0);
    CHECK(gan_model_get_info(s.model, &info) == GAN_OK, "%s", gan_context_error(s.ctx));
    CHECK(info.sample_channels == 3 && info.sample_height == 32 && info.sample_width == 64,
          "samples [%d,%d,%d]", info.sample_channels, info.sample_height, info.sample_width);
    CHECK(gan_model_sample(s.model, images, 3, NULL, 2) == GAN_OK, "%s", gan_context_error(s.ctx));
    CHECK(gan_model_sample(s.model, again, 3, NULL, 2) == GAN_OK, "%s", gan_context_error(s.ctx));
    CHECK(memcmp(images, again, sizeof images) == 0, "the same seed, other images");
    int colour = 0, grey = 0;
    for (int n = 0; n < 3; n++) {
        for (int i = 0; i < 32 * 64; i++) {
            const float *at = images + n * 3 * 32 * 64 + i;
            const int same = at[0] == at[32 * 64] && at[0] == at[2 * 32 * 64];
            colour += i % 64 < 32 && !same;
            grey += i % 64 >= 32 && !same;
        }
    }
    CHECK(colour > 2000 && grey == 0, "%d coloured at the left, %d at the right", colour, grey);
    destroy_subject(&s);
}

/* --- both ---------------------------------------------------------------------------------- */

/* The same parameters after three steps with one thread and with three, and after a save. */
static void steps_are_repeatable(void) {
    static const struct {
        const char *system, *options;
        const training_feed *feeds;
    } cases[] = {
        {"context-encoder", "ngf=4 ndf=4 bottleneck=16 hole=random overlap=1", context_feeds},
        {"cogan", "z=20 ngf=4 ndf=4", couple_feeds},
        {"cogan", "z=20 network=mlp", couple_feeds}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        gan_model *models[2] = {NULL, NULL};
        gan_context *contexts[2] = {NULL, NULL};
        const char *path = test_path("pairs.safetensors");
        for (int i = 0; i < 2; i++) {
            gan_model_desc model = gan_model_defaults(cases[k].system);
            model.height = model.width = 32;
            model.channels = model.channels_b = 3;
            model.batch = 4;
            model.options = cases[k].options;
            contexts[i] = context_of(NULL, 1 + 2 * i, NULL);
            CHECK(gan_model_create(&models[i], contexts[i], &model) == GAN_OK, "%s",
                  gan_context_error(contexts[i]));
            for (int step = 0; step < 3; step++) {
                train_once(models[i], cases[k].feeds, step);
                if (i == 1 && step == 1) { /* a break */
                    CHECK(gan_model_save(models[i], path) == GAN_OK, "%s",
                          gan_context_error(contexts[i]));
                    gan_model_destroy(models[i]);
                    CHECK(gan_model_load(&models[i], contexts[i], path,
                                         NULL) == GAN_OK,
                          "%s", gan_context_error(contexts[i]));
                }
            }
        }
        gan_params *params = gan_model_params(models[0]);
        for (int i = 0; i < gan_params_count(params); i++) {
            const gan_param_info a = gan_params_at(params, i);
            const gan_param_info b = gan_params_find(gan_model_params(models[1]), a.name);
            CHECK(b.data && memcmp(a.data, b.data, gan_shape_count(a.shape) * sizeof(float)) == 0,
                  "%s: %s differs", cases[k].system, a.name);
        }
        for (int i = 0; i < 2; i++) {
            gan_model_destroy(models[i]);
            gan_context_destroy(contexts[i]);
        }
        remove(path);
    }
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    run_training_rows(rows, sizeof rows / sizeof rows[0]);
    TEST(hole_is_filled_and_the_rest_is_kept);
    TEST(rectangles_without_pixels);
    TEST(window_at_own_size_is_the_image);
    TEST(resampling_keeps_a_ramp);
    TEST(overlap_must_leave_a_hole);
    TEST(random_holes_lie_inside);
    TEST(layers_are_shared_as_asked);
    TEST(shared_layers_learn_from_both);
    TEST(pairs_lie_side_by_side);
    TEST(steps_are_repeatable);
    return test_end();
}
