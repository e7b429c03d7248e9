/* A network of one's own from layers: a convolutional autoencoder that squeezes a drawn digit of
 * 784 pixels into 8 numbers and back. Writes autoencoder.png: rows of digits, each above its copy.
 *
 *   cc -O2 -fopenmp -I. examples/custom.c -o custom -lm && ./custom
 */
#define GAN_IMPLEMENTATION
#include "gan.h"

enum { BATCH = 32, SIDE = 28, CODE = 8, STEPS = 600 };

/* Both networks, batch norm and all; the graph's mode says whether to train or to use them. */
static gan_tensor autoencoder(gan_graph *g, gan_tensor x) {
    const int n = gan_tensor_shape(g, x).dim[0];
    gan_graph_push(g, "encoder");
    x = gan_leaky_relu(g, gan_layer_conv(g, "conv1", x, 16, 4, 2, 1, NULL), 0.2f); /* 14 x 14 */
    x = gan_layer_conv(g, "conv2", x, 32, 4, 2, 1, NULL);                          /* 7 x 7 */
    x = gan_leaky_relu(g, gan_layer_batch_norm(g, "norm", x, NULL), 0.2f);
    x = gan_layer_linear(g, "code", gan_reshape(g, x, gan_shape2(n, 32 * 7 * 7)), CODE, NULL);
    gan_graph_pop(g);
    gan_graph_push(g, "decoder");
    x = gan_relu(g, gan_layer_linear(g, "open", x, 32 * 7 * 7, NULL));
    x = gan_reshape(g, x, gan_shape4(n, 32, 7, 7));
    x = gan_relu(g, gan_layer_conv_transpose(g, "conv1", x, 16, 4, 2, 1, NULL)); /* 14 x 14 */
    x = gan_tanh(g, gan_layer_conv_transpose(g, "conv2", x, 1, 4, 2, 1, NULL));  /* 28 x 28 */
    gan_graph_pop(g);
    return x;
}

/* The network in a graph of its own; both graphs share the parameters, which are in the store. */
typedef struct network {
    gan_graph *graph;
    gan_program *program;
    gan_tensor images, result; /* the loss when training, else the copies */
} network;

static gan_status build(network *net, gan_context *ctx, gan_params *params, unsigned mode) {
    const gan_optimiser adam = gan_adam(0.9f, 0.999f);
    gan_status status = gan_graph_create(&net->graph, ctx, params);
    if (status != GAN_OK) {
        return status;
    }
    gan_graph *g = net->graph;
    gan_graph_set_mode(g, mode);
    net->images = gan_input(g, "images", gan_shape4(BATCH, 1, SIDE, SIDE));
    net->result = autoencoder(g, net->images);
    if (mode == GAN_TRAIN) {
        net->result = gan_loss_mse(g, net->result, net->images);
        gan_minimise(g, net->result, "", gan_constant(g, gan_shape0(), 2e-3f), &adam);
    }
    return gan_program_create(&net->program, g, "autoencoder", &net->result, 1);
}

/* Batch `step` of the digits through the network; NULL after an error. */
static const float *run(const network *net, gan_dataset *data, uint64_t seed, int step) {
    float *images = gan_input_data(net->graph, net->images);
    const int failed = gan_dataset_batch(data, seed, (uint64_t)step, BATCH, images, NULL) ||
                       gan_program_run(net->program);
    return failed ? NULL : gan_program_output(net->program, net->result);
}

int main(void) {
    static float pictures[2 * BATCH * SIDE * SIDE];
    gan_context *ctx = NULL;
    gan_dataset *data = NULL;
    gan_params *params = NULL;
    network train = {0}, copy = {0};
    const float *result = NULL;
    int failed = gan_context_create(&ctx, NULL) || gan_params_create(&params, ctx, 1) ||
                 gan_dataset_open(&data, ctx, "digits", NULL) ||
                 build(&train, ctx, params, GAN_TRAIN) || build(&copy, ctx, params, GAN_EVALUATE);
    for (int step = 0; step < STEPS && !failed; step++) {
        failed = (result = run(&train, data, 1, step)) == NULL;
        if (step % 100 == 99 && !failed) {
            printf("%d: mean square error %.4f\n", step + 1, (double)result[0]);
        }
    }
    if (!failed && (result = run(&copy, data, 2, 0)) != NULL) { /* another seed: new digits */
        const float *images = gan_input_data(copy.graph, copy.images);
        const size_t row = 8 * SIDE * SIDE;
        for (size_t i = 0; i < BATCH / 8; i++) {
            memcpy(pictures + 2 * i * row, images + i * row, row * sizeof(float));
            memcpy(pictures + (2 * i + 1) * row, result + i * row, row * sizeof(float));
        }
    }
    failed = failed || !result ||
             gan_image_write_grid(ctx, "autoencoder.png", pictures, 2 * BATCH, 1, SIDE, SIDE, 8,
                                  -1.0f, 1.0f);
    if (failed) {
        fprintf(stderr, "%s\n", ctx ? gan_context_error(ctx) : "no context");
    }
    gan_program_destroy(train.program);
    gan_program_destroy(copy.program);
    gan_graph_destroy(train.graph);
    gan_graph_destroy(copy.graph);
    gan_dataset_close(data);
    gan_params_destroy(params);
    gan_context_destroy(ctx);
    return failed;
}
