/* race.c - every system takes two steps on threads of this program, for the thread sanitizer
 * (make race): a task that writes what another one reads is reported. The weights must be those
 * of one thread, bit by bit.
 */
#include "test.h"

#include <pthread.h>

enum { THREADS = 4, STEPS = 2 };

/* The tasks of one thread: every THREADS-th. What was done by turns, with a lock, would hide races:
 * taking a lock orders what came before it. */
typedef struct share {
    void (*task)(void *arg, int index);
    void *arg;
    int first, count;
} share;

static void *run_share(void *arg) {
    const share *s = (const share *)arg;
    for (int i = s->first; i < s->count; i += THREADS) {
        s->task(s->arg, i);
    }
    return NULL;
}

/* The parallel-for that the library is given. */
static void run_on_threads(void *user, int count, void (*task)(void *arg, int index), void *arg) {
    pthread_t threads[THREADS];
    share shares[THREADS];
    (void)user;
    for (int t = 0; t < THREADS; t++) {
        shares[t].task = task;
        shares[t].arg = arg;
        shares[t].first = t;
        shares[t].count = count;
        const int status = pthread_create(&threads[t], NULL, run_share, &shares[t]);
        CHECK(status == 0, "thread %d: error %d", t, status);
        if (status != 0) {
            exit(1);
        }
    }
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
    }
}

typedef struct race_row {
    const char *system, *options;
    int size;
} race_row;

static const race_row rows[] = {
    {"gan", "", 28},
    {"dcgan", "ngf=16 ndf=16 ema=0.9", 32},
    {"lsgan", "ngf=16 ndf=16", 32},
    {"cgan", "", 28},
    {"infogan", "", 28},
    {"acgan", "ngf=12", 32},
    {"context-encoder", "ngf=8 ndf=8", 64},
    {"wgan", "", 28},
    {"wgan-gp", "ngf=16 ndf=16", 32},
    {"draw", "glimpses=3", 28},
    {"pix2pix", "ngf=8 ndf=8", 64},
    {"pix2pixhd", "classes=4 ngf=4 ndf=4 nef=4 downs=2 downs-e=2 blocks=1", 64},
    {"cogan", "ngf=8 ndf=8", 28},
    {"cyclegan", "ngf=8 ndf=8 blocks=2", 64},
    {"dualgan", "ngf=8 ndf=8", 64},
    {"discogan", "ngf=8 ndf=8", 64},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static const race_row *current;

/* A model after its steps on images without content, and its context. */
static gan_model *trained(int threads, gan_context **ctx) {
    const gan_parallel parallel = {run_on_threads, NULL};
    gan_model *model = NULL;
    *ctx = context_of(NULL, threads, &parallel);
    gan_model_desc desc = gan_model_defaults(current->system);
    desc.height = desc.width = current->size;
    desc.batch = desc.batch < 4 ? desc.batch : 4;
    desc.options = current->options;
    CHECK(gan_model_create(&model, *ctx, &desc) == GAN_OK, "%s", gan_context_error(*ctx));
    for (int step = 0; model && step < STEPS; step++) {
        CHECK(gan_model_fill(model, NULL) == GAN_OK, "%s", gan_context_error(*ctx));
        CHECK(gan_model_step(model) == GAN_OK, "%s", gan_context_error(*ctx));
    }
    return model;
}

static void train_on_threads(void) {
    gan_context *many = NULL, *one = NULL;
    gan_model *model = trained(THREADS, &many), *alone = trained(1, &one);
    gan_params *params = model ? gan_model_params(model) : NULL;
    for (int i = 0; params && alone && i < gan_params_count(params); i++) {
        const gan_param_info got = gan_params_at(params, i);
        const gan_param_info want = gan_params_at(gan_model_params(alone), i);
        CHECK(memcmp(got.data, want.data, gan_shape_count(got.shape) * sizeof(float)) == 0,
              "%s differs", got.name);
    }
    gan_model_destroy(model);
    gan_model_destroy(alone);
    gan_context_destroy(many);
    gan_context_destroy(one);
}

static void all_systems_are_here(void) {
    for (int i = 0; gan_system_at(i); i++) {
        int found = 0;
        for (int k = 0; k < ROWS; k++) {
            found |= strcmp(rows[k].system, gan_system_at(i)->name) == 0;
        }
        CHECK(found, "no row for %s", gan_system_at(i)->name);
    }
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(all_systems_are_here);
    for (int k = 0; k < ROWS; k++) {
        current = &rows[k];
        test_run(current->system, train_on_threads);
    }
    return test_end();
}
