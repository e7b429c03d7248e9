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

int main(int argc, char **argv) {
    test_begin(argc, argv);
    run_training_rows(training_rows, sizeof training_rows / sizeof training_rows[0]);
    return test_end();
}
