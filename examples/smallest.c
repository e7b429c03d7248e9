/* The smallest program: trains DCGAN on drawn digits for about a minute and writes digits.png.
 *
 *   cc -O2 -fopenmp -I. examples/smallest.c -o smallest -lm && ./smallest
 */
#define GAN_IMPLEMENTATION
#include "gan.h"

static float images[64 * 32 * 32];

int main(void) {
    gan_context *ctx = NULL;
    gan_dataset *data = NULL;
    gan_model *model = NULL;
    gan_model_desc desc = gan_model_defaults("dcgan");
    desc.height = desc.width = 32;
    desc.channels = 1;
    gan_dataset_desc size = {.height = 32, .width = 32, .channels = 1};
    desc.options = "ngf=24 ndf=12 lr=0.0005";
    int failed = gan_context_create(&ctx, NULL) ||
                 gan_dataset_open(&data, ctx, "digits", &size) ||
                 gan_model_create(&model, ctx, &desc);
    for (int step = 1; step <= 1000 && !failed; step++) {
        failed = gan_model_train(model, data) != GAN_OK;
        if (step % 100 == 0) {
            printf("%d: loss of D %.3f, of G %.3f\n", step,
                   (double)gan_model_metric(model, 0).value,
                   (double)gan_model_metric(model, 1).value);
        }
    }
    failed = failed || gan_model_sample(model, images, 64, NULL, 1) ||
             gan_image_write_grid(ctx, "digits.png", images, 64, 1, 32, 32, 8, -1.0f, 1.0f);
    if (failed) {
        fprintf(stderr, "%s\n", ctx ? gan_context_error(ctx) : "no context");
    }
    gan_model_destroy(model);
    gan_dataset_close(data);
    gan_context_destroy(ctx);
    return failed;
}
