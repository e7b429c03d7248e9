/* quality - a judge for generators of digits, so that quality is a number.
 *
 *     make quality                         everything below, in turn: hours
 *     build/quality [options] VERB [...]
 *
 *     classifier        trains the judge's classifier, unless it is there
 *     scale             distances between real images: what the numbers mean
 *     run NAME...       trains rows of the table below with their fixed budget, and scores them;
 *                       one that was interrupted goes on; "all" is every row
 *     score NAME FILE   scores a checkpoint, as that row if there is one of the name, or images
 *                       (IDX) that another program has drawn
 *     table FILE        writes all scores so far as Markdown, with their pictures beside it
 *
 *     --data FILE       MNIST's 60,000 training images (IDX, not compressed), labels beside them
 *     --other FILE      images that are no digits, for the scale: Fashion-MNIST
 *     --sets DIR        where the other rows' sets of images are [../shared/data]
 *     --out DIR         [build/judge]: checkpoints, scores and pictures
 *     --seed N          [1] of the trained systems; samples that are judged have their own
 *     --threads N       [all processors]
 *
 * The classifier, a small convolutional network, learns from the first 50,000 images, and so do all
 * generators; the last 10,000 are the test images, which none of them has seen. A generator is
 * judged by 10,000 samples:
 *
 *     distance   Frechet distance (Heusel et al. 2017, arXiv:1706.08500) between the samples and
 *                the 50,000 training images, in the FEATURES numbers that the classifier's last
 *                layer sees: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), in doubles
 *     score      exp of the mean KL(p(class|x) || p(class)) (Salimans et al. 2016,
 *                arXiv:1606.03498), 1 to 10
 *     rarest     share of the rarest class, 10 % at best
 *     labels     share of samples that are classified as the label that was asked for
 *
 * Translators are judged by test images whose true translation is known: mean |translation - truth|
 * in per cent of the range, beside the same of the input itself and of the mean image; of digits
 * also the share of pixels on the right side of grey.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#define GAN_IMPLEMENTATION
#include "gan.h"

#include <sys/stat.h>
#include <time.h>

enum {
    SIDE = 28,
    PIXELS = SIDE * SIDE,
    CLASSES = 10,
    FEATURES = 128,
    BATCH = 100,
    TRAINED = 50000, /* images of the file that are learnt from; the others are for tests */
    TESTED = 10000,
    SAMPLES = 10000,
    CLASSIFIER_STEPS = 4000,
    SEED = 1
};

typedef struct network {
    gan_graph *graph;
    gan_program *program;
    gan_tensor images, labels, rate;
    gan_tensor features, logits, loss;
} network;

/* Sums over images, from which everything is computed; sums of several sets add up. */
typedef struct sums {
    double count, hits; /* hits: classified as expected */
    double share[CLASSES];
    double entropy; /* sum of sum p log p */
    double first[FEATURES], second[FEATURES * FEATURES];
} sums;

static struct {
    const char *data, *other, *sets, *out;
    uint64_t seed; /* of what is trained to be judged */
    gan_context *ctx;
    gan_params *params;
    network judge;
    int ready;
} self;

struct run; /* a row of the table of runs, far below */

/* --- small things --- */

static void die(const char *what) {
    const char *why = self.ctx ? gan_context_error(self.ctx) : "";
    fprintf(stderr, "quality: %s%s%s\n", what, *why ? ": " : "", why);
    exit(1);
}

static void check(gan_status status, const char *what) {
    if (status != GAN_OK) {
        die(what);
    }
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) {
        die("out of memory");
    }
    return memory;
}

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct file_name {
    char text[1024];
} file_name;

static file_name in_out(const char *name, const char *ending) {
    file_name result;
    snprintf(result.text, sizeof result.text, "%s/%s%s", self.out, name, ending);
    return result;
}

static int exists(const char *name) {
    FILE *file = fopen(name, "rb");
    if (file) {
        fclose(file);
    }
    return file != NULL;
}

static FILE *create(const char *name) {
    FILE *file = fopen(name, "wb");
    if (!file) {
        fprintf(stderr, "quality: cannot write %s\n", name);
        exit(1);
    }
    return file;
}

static void close_file(FILE *file, const char *name) {
    if (fclose(file) != 0) {
        fprintf(stderr, "quality: cannot write %s\n", name);
        exit(1);
    }
}

static gan_dataset *open_data(const char *path, const gan_dataset_desc *desc) {
    gan_dataset *data = NULL;
    check(gan_dataset_open(&data, self.ctx, path, desc), path);
    return data;
}

/* Images first ... first+count-1 of MNIST. */
static gan_dataset *open_digits(int first, int count) {
    gan_dataset_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.first = first;
    desc.count = count;
    if (!self.data) {
        die("--data FILE is missing: MNIST's train-images-idx3-ubyte");
    }
    return open_data(self.data, &desc);
}

/* --- the classifier --- */

static gan_tensor stage(gan_graph *g, const char *name, gan_tensor x, int channels, int stride) {
    gan_graph_push(g, name);
    x = gan_layer_conv(g, "conv", x, channels, 3, stride, 1, NULL);
    x = gan_relu(g, gan_layer_batch_norm(g, "norm", x, NULL));
    gan_graph_pop(g);
    return x;
}

static network build_classifier(unsigned mode) {
    const gan_optimiser adam = gan_adam(0.9f, 0.999f);
    network net;
    memset(&net, 0, sizeof net);
    check(gan_graph_create(&net.graph, self.ctx, self.params), "classifier");
    gan_graph *g = net.graph;
    gan_graph_set_mode(g, mode);
    net.images = gan_input(g, "images", gan_shape4(BATCH, 1, SIDE, SIDE));
    gan_tensor x = stage(g, "1", net.images, 32, 1);
    x = stage(g, "3", stage(g, "2", x, 32, 2), 64, 1); /* 14 x 14 */
    x = stage(g, "4", x, 64, 2);                       /* 7 x 7 */
    x = gan_reshape(g, x, gan_shape2(BATCH, 64 * (SIDE / 4) * (SIDE / 4)));
    net.features = gan_relu(g, gan_layer_linear(g, "5", x, FEATURES, NULL));
    net.logits =
        gan_layer_linear(g, "6", gan_layer_dropout(g, net.features, 0.5f, 0), CLASSES, NULL);
    if (mode == GAN_TRAIN) {
        net.labels = gan_input(g, "labels", gan_shape1(BATCH));
        net.rate = gan_input(g, "rate", gan_shape0());
        net.loss = gan_loss_cross_entropy(g, net.logits, net.labels);
        gan_minimise(g, net.loss, "", net.rate, &adam);
    }
    const gan_tensor outputs[] = {net.features, net.logits, net.loss};
    check(gan_program_create(&net.program, g, "classifier", outputs, mode == GAN_TRAIN ? 3 : 2),
          "classifier");
    return net;
}

static void free_network(network *net) {
    gan_program_destroy(net->program);
    gan_graph_destroy(net->graph);
    memset(net, 0, sizeof *net);
}

static void train_classifier(void) {
    network net = build_classifier(GAN_TRAIN);
    gan_dataset *data = open_digits(0, TRAINED);
    for (int step = 0; step < CLASSIFIER_STEPS; step++) {
        gan_params_set_step(self.params, (uint64_t)step);
        check(gan_dataset_batch(data, SEED, (uint64_t)step, BATCH,
                                gan_input_data(net.graph, net.images),
                                gan_input_data(net.graph, net.labels)),
              "data");
        gan_input_data(net.graph, net.rate)[0] =
            1e-3f * (1.0f - (float)step / (float)CLASSIFIER_STEPS);
        check(gan_program_run(net.program), "classifier");
        if (step % 100 == 99) {
            fprintf(stderr, "\rclassifier: step %d of %d, loss %.4f  ", step + 1, CLASSIFIER_STEPS,
                    (double)gan_program_output(net.program, net.loss)[0]);
        }
    }
    fprintf(stderr, "\n");
    gan_dataset_close(data);
    free_network(&net);
}

/* --- what the judge sees in images --- */

/* Adds count images [count,1,28,28] to one set of sums for each class (sets > 1), or to one. labels
 * [count] are the classes that the images should be; NULL: unknown. */
static void look(const float *images, int count, const float *labels, sums *set, int sets) {
    float *input = gan_input_data(self.judge.graph, self.judge.images);
    for (int i = 0; i < count; i += BATCH) {
        const int n = count - i < BATCH ? count - i : BATCH;
        memcpy(input, images + (size_t)i * PIXELS, (size_t)n * PIXELS * sizeof(float));
        check(gan_program_run(self.judge.program), "classifier");
        const float *logits = gan_program_output(self.judge.program, self.judge.logits);
        const float *features = gan_program_output(self.judge.program, self.judge.features);
        for (int k = 0; k < n; k++, logits += CLASSES, features += FEATURES) {
            sums *to = &set[sets > 1 ? (int)labels[i + k] : 0];
            double total = 0.0;
            int best = 0;
            for (int c = 0; c < CLASSES; c++) {
                best = logits[c] > logits[best] ? c : best;
            }
            for (int c = 0; c < CLASSES; c++) {
                total += exp((double)(logits[c] - logits[best]));
            }
            for (int c = 0; c < CLASSES; c++) {
                const double log_p = (double)(logits[c] - logits[best]) - log(total);
                to->share[c] += exp(log_p);
                to->entropy += exp(log_p) * log_p;
            }
            to->count += 1.0;
            to->hits += labels && best == (int)labels[i + k];
            for (int a = 0; a < FEATURES; a++) {
                const double value = (double)features[a];
                to->first[a] += value;
                for (int b = 0; b < FEATURES; b++) {
                    to->second[a * FEATURES + b] += value * (double)features[b];
                }
            }
        }
    }
}

static void add_sums(sums *to, const sums *from) {
    double *x = &to->count;
    const double *y = &from->count;
    for (size_t i = 0; i < sizeof *to / sizeof *x; i++) {
        x[i] += y[i];
    }
}

/* A whole dataset; sets as in look. */
static void look_at_data(gan_dataset *data, sums *set, int sets) {
    const int count = gan_dataset_count(data);
    float *images = (float *)allocate((size_t)BATCH * PIXELS, sizeof *images), labels[BATCH];
    const int labelled = gan_dataset_classes(data) == CLASSES;
    for (int i = 0; i < count; i += BATCH) {
        const int n = count - i < BATCH ? count - i : BATCH;
        for (int k = 0; k < n; k++) {
            check(gan_dataset_get(data, i + k, images + (size_t)k * PIXELS,
                                  labelled ? &labels[k] : NULL),
                  "data");
        }
        look(images, n, labelled ? labels : NULL, set, sets);
    }
    free(images);
}

/* --- the distance --- */

typedef struct gaussian {
    double mean[FEATURES], covariance[FEATURES * FEATURES];
} gaussian;

static gaussian *fit(const sums *from) {
    gaussian *g = (gaussian *)allocate(1, sizeof *g);
    for (int a = 0; a < FEATURES; a++) {
        g->mean[a] = from->first[a] / from->count;
    }
    for (int a = 0; a < FEATURES; a++) {
        for (int b = 0; b < FEATURES; b++) {
            const int i = a * FEATURES + b;
            g->covariance[i] =
                (from->second[i] - from->count * g->mean[a] * g->mean[b]) / (from->count - 1.0);
        }
    }
    return g;
}

/* Rotates rows and columns p and q of the symmetric a so that a[p,q] becomes 0; v collects the
 * rotations. */
static void rotate(double *a, double *v, int p, int q) {
    const int n = FEATURES;
    const double apq = a[p * n + q];
    if (apq == 0.0) {
        return;
    }
    const double theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    const double t = (theta < 0.0 ? -1.0 : 1.0) / (fabs(theta) + sqrt(theta * theta + 1.0));
    const double c = 1.0 / sqrt(t * t + 1.0), s = t * c;
    for (int k = 0; k < n; k++) {
        const double x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for (int k = 0; k < n; k++) {
        const double x = a[p * n + k], y = a[q * n + k];
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    for (int k = 0; k < n; k++) {
        const double x = v[k * n + p], y = v[k * n + q];
        v[k * n + p] = c * x - s * y;
        v[k * n + q] = s * x + c * y;
    }
}

/* Eigenvalues of the symmetric a [n,n] (destroyed) and, in the columns of v, eigenvectors: cyclic
 * Jacobi rotations until nothing is left beside the diagonal. */
static void eigen(double *a, double *values, double *v) {
    const int n = FEATURES;
    for (int i = 0; i < n * n; i++) {
        v[i] = i % (n + 1) == 0;
    }
    for (int sweep = 0; sweep < 100; sweep++) {
        double beside = 0.0, diagonal = 0.0;
        for (int i = 0; i < n * n; i++) {
            *(i % (n + 1) ? &beside : &diagonal) += a[i] * a[i];
        }
        if (beside <= 1e-26 * diagonal) {
            break;
        }
        for (int p = 0; p < n; p++) {
            for (int q = p + 1; q < n; q++) {
                rotate(a, v, p, q);
            }
        }
    }
    for (int i = 0; i < n; i++) {
        values[i] = a[i * n + i] > 0.0 ? a[i * n + i] : 0.0;
    }
}

/* c = a b, or a b^T. */
static void multiply(const double *a, const double *b, int transposed, double *c) {
    const int n = FEATURES;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            double sum = 0.0;
            for (int k = 0; k < n; k++) {
                sum += a[i * n + k] * (transposed ? b[j * n + k] : b[k * n + j]);
            }
            c[i * n + j] = sum;
        }
    }
}

static double frechet(const gaussian *x, const gaussian *y) {
    const int n = FEATURES;
    double *work = (double *)allocate(5 * FEATURES * FEATURES, sizeof *work);
    double *a = work, *v = a + n * n, *scaled = v + n * n, *root = scaled + n * n;
    double *product = root + n * n, values[FEATURES], result = 0.0;
    memcpy(a, x->covariance, sizeof x->covariance);
    eigen(a, values, v);
    for (int i = 0; i < n * n; i++) {
        scaled[i] = v[i] * sqrt(values[i % n]);
    }
    multiply(scaled, v, 1, root); /* C1^1/2 */
    multiply(root, y->covariance, 0, product);
    multiply(product, root, 0, a);
    eigen(a, values, v);
    for (int i = 0; i < n; i++) {
        const double shift = x->mean[i] - y->mean[i];
        result += shift * shift + x->covariance[i * (n + 1)] + y->covariance[i * (n + 1)] -
                  2.0 * sqrt(values[i]);
    }
    free(work);
    return result;
}

/* --- getting ready --- */

/* The classifier, from its file or newly trained; and the training images as it sees them. */
static void prepare(void) {
    const file_name file = in_out("classifier", ".safetensors");
    static const gan_load_desc weights = {1, 1, 0, NULL, NULL};
    if (self.ready) {
        return;
    }
    check(gan_params_create(&self.params, self.ctx, SEED), "classifier");
    if (exists(file.text)) {
        gan_checkpoint *checkpoint = NULL;
        self.judge = build_classifier(GAN_EVALUATE);
        check(gan_checkpoint_open(&checkpoint, self.ctx, file.text), "classifier");
        check(gan_params_load(self.params, checkpoint, &weights), "classifier");
        gan_checkpoint_close(checkpoint);
    } else {
        train_classifier();
        check(gan_params_save(self.params, file.text, NULL, 0), "classifier");
        self.judge = build_classifier(GAN_EVALUATE);
    }
    self.ready = 1;
}

static const gaussian *training_images(void) {
    static gaussian *known = NULL;
    if (!known) {
        sums *all = (sums *)allocate(1, sizeof *all);
        gan_dataset *data = open_digits(0, TRAINED);
        look_at_data(data, all, 1);
        known = fit(all);
        gan_dataset_close(data);
        free(all);
    }
    return known;
}

typedef struct verdict {
    double distance, score, rarest, hits;
} verdict;

static verdict judge(const sums *seen) {
    verdict v;
    gaussian *g = fit(seen);
    double entropy = 0.0;
    v.distance = frechet(training_images(), g);
    v.rarest = 1.0;
    for (int c = 0; c < CLASSES; c++) {
        const double p = seen->share[c] / seen->count;
        v.rarest = p < v.rarest ? p : v.rarest;
        entropy += p > 0.0 ? p * log(p) : 0.0;
    }
    v.score = exp(seen->entropy / seen->count - entropy);
    v.hits = seen->hits / seen->count;
    free(g);
    return v;
}

/* One row of the table, kept in OUT/NAME.row. */
static void write_row(const char *name, const char *text) {
    const file_name file = in_out(name, ".row");
    FILE *out = create(file.text);
    fprintf(out, "%s\n", text);
    close_file(out, file.text);
    printf("%s\n", text);
    fflush(stdout);
}

/* --- the scale --- */

static void scale_row(const char *name, const char *title, const sums *seen) {
    char text[256];
    const verdict v = judge(seen);
    snprintf(text, sizeof text, "| %s | %.2f | %.2f | %.1f %% |", title, v.distance, v.score,
             100.0 * v.rarest);
    write_row(name, text);
}

/* The test images without `left` classes, those from `first` on. */
static double without(const sums *classes, int first, int left) {
    sums *rest = (sums *)allocate(1, sizeof *rest);
    for (int c = 0; c < CLASSES; c++) {
        if ((c - first + CLASSES) % CLASSES >= left) {
            add_sums(rest, &classes[c]);
        }
    }
    const double distance = judge(rest).distance;
    free(rest);
    return distance;
}

static void scale_without(const char *name, const char *title, const sums *classes, int left) {
    char text[256];
    double least = 0.0, most = 0.0, mean = 0.0;
    for (int first = 0; first < CLASSES; first++) {
        const double distance = without(classes, first, left);
        least = first == 0 || distance < least ? distance : least;
        most = distance > most ? distance : most;
        mean += distance / CLASSES;
    }
    snprintf(text, sizeof text, "| %s | %.2f (%.2f to %.2f) | | |", title, mean, least, most);
    write_row(name, text);
}

static void scale(void) {
    sums *classes = (sums *)allocate(CLASSES + 1, sizeof *classes), *all = classes + CLASSES;
    gan_dataset *data = open_digits(TRAINED, TESTED);
    char text[128];
    prepare();
    look_at_data(data, classes, CLASSES);
    gan_dataset_close(data);
    for (int c = 0; c < CLASSES; c++) {
        add_sums(all, &classes[c]);
    }
    snprintf(text, sizeof text, "%.2f", 100.0 * all->hits / all->count);
    write_row("scale.accuracy", text);
    scale_row("scale.test", "test digits", all);
    scale_without("scale.one", "test digits, one class left out: mean (range) over the classes",
                  classes, 1);
    scale_without("scale.three", "test digits, three classes left out", classes, 3);
    if (self.other) {
        memset(all, 0, sizeof *all);
        data = open_data(self.other, NULL);
        look_at_data(data, all, 1);
        gan_dataset_close(data);
        scale_row("scale.other", "Fashion-MNIST", all);
    }
    free(classes);
}

/* --- scoring --- */

/* Cuts images [count,side,side] down to their middle [count,28,28]. */
static void keep_middle(float *images, int count, int side) {
    const int spare = (side - SIDE) / 2;
    float *to = images;
    for (int i = 0; i < count; i++) {
        for (int y = 0; y < SIDE; y++, to += SIDE) {
            memmove(to,
                    images + ((size_t)i * (size_t)side + (size_t)(spare + y)) * (size_t)side +
                        spare,
                    SIDE * sizeof(float));
        }
    }
}

/* Of images drawn by the model, if it draws digits, perhaps with a border. Labels that it can be
 * asked for go round. */
static void score_samples(gan_model *model, const char *name, char *text, size_t size) {
    gan_model_info info;
    check(gan_model_get_info(model, &info), name);
    const int wide = info.sample_height;
    if (wide < SIDE || wide != info.sample_width || info.sample_channels != 1) {
        snprintf(text, size, " | | |");
        return;
    }
    prepare();
    sums *seen = (sums *)allocate(1, sizeof *seen);
    float *images = (float *)allocate((size_t)SAMPLES * (size_t)(wide * wide), sizeof *images);
    float *labels = (float *)allocate(SAMPLES, sizeof *labels);
    check(gan_model_sample(model, images, SAMPLES, NULL, SEED + 1), name);
    keep_middle(images, SAMPLES, wide);
    for (int i = 0; i < SAMPLES; i++) {
        labels[i] = (float)(i % CLASSES);
    }
    look(images, SAMPLES, info.classes == CLASSES ? labels : NULL, seen, 1);
    const verdict v = judge(seen);
    int used =
        snprintf(text, size, " %.2f | %.2f | %.1f %% |", v.distance, v.score, 100.0 * v.rarest);
    if (info.classes == CLASSES) {
        snprintf(text + used, size - (size_t)used, " labels obeyed: %.2f %%", 100.0 * v.hits);
    }
    check(gan_image_write_grid(self.ctx, in_out(name, ".png").text, images, 100, 1, SIDE, SIDE, 10,
                               -1.0f, 1.0f),
          name);
    free(images);
    free(labels);
    free(seen);
}

/* Images drawn by another program. */
static void score_images(const char *name, const char *file, char *text, size_t size) {
    sums *seen = (sums *)allocate(1, sizeof *seen);
    gan_dataset *data = open_data(file, NULL);
    look_at_data(data, seen, 1);
    const verdict v = judge(seen);
    snprintf(text, size, " %.2f | %.2f | %.1f %% |", v.distance, v.score, 100.0 * v.rarest);
    float *images = (float *)allocate((size_t)100 * PIXELS, sizeof *images);
    check(gan_dataset_batch(data, SEED, 0, 100, images, NULL), file);
    check(gan_image_write_grid(self.ctx, in_out(name, ".png").text, images, 100, 1, SIDE, SIDE, 10,
                               -1.0f, 1.0f),
          name);
    gan_dataset_close(data);
    free(images);
    free(seen);
}

/* --- InfoGAN: what the codes mean --- */

/* Largest sum of table[code][class] over all one-to-one matchings; best[s]: of the first |s| codes
 * with the classes in s. */
static double match(const double *table) {
    static double best[1 << CLASSES];
    for (int s = 1; s < 1 << CLASSES; s++) {
        int codes = 0;
        for (int c = 0; c < CLASSES; c++) {
            codes += s >> c & 1;
        }
        best[s] = 0.0;
        for (int c = 0; c < CLASSES; c++) {
            if (s >> c & 1) {
                const double sum = best[s & ~(1 << c)] + table[(codes - 1) * CLASSES + c];
                best[s] = sum > best[s] ? sum : best[s];
            }
        }
    }
    return best[(1 << CLASSES) - 1];
}

/* Share of the test images whose code, as the network reads it, is that of their class. */
static double code_accuracy(gan_model *model) {
    gan_model_info info;
    gan_dataset *data = open_digits(TRAINED, TESTED);
    double table[CLASSES * CLASSES] = {0.0};
    float images[BATCH * PIXELS], labels[BATCH];
    check(gan_model_get_info(model, &info), "infogan");
    const size_t width = (size_t)info.encode_width;
    float *codes = (float *)allocate(BATCH * width, sizeof *codes);
    for (int i = 0; i < TESTED; i += BATCH) {
        for (int k = 0; k < BATCH; k++) {
            check(gan_dataset_get(data, i + k, images + k * PIXELS, &labels[k]), "data");
        }
        check(gan_model_encode(model, images, BATCH, codes, SEED), "infogan");
        for (int k = 0; k < BATCH; k++) {
            const float *logits = codes + (size_t)k * width;
            int best = 0;
            for (int c = 0; c < CLASSES; c++) {
                best = logits[c] > logits[best] ? c : best;
            }
            table[best * CLASSES + (int)labels[k]] += 1.0;
        }
    }
    gan_dataset_close(data);
    free(codes);
    return match(table) / TESTED;
}

/* Slant (x gained for each y) and width (standard deviation of x) of a digit, from its moments. */
static void measure_shape(const float *image, double *slant, double *width) {
    double mass = 1e-9, mx = 0.0, my = 0.0, xx = 0.0, xy = 0.0, yy = 1e-9;
    for (int i = 0; i < PIXELS; i++) {
        const double ink = 0.5 * ((double)image[i] + 1.0);
        mass += ink;
        mx += ink * (i % SIDE);
        my += ink * (i / SIDE);
    }
    mx /= mass;
    my /= mass;
    for (int i = 0; i < PIXELS; i++) {
        const double ink = 0.5 * ((double)image[i] + 1.0), x = i % SIDE - mx, y = i / SIDE - my;
        xx += ink * x * x;
        xy += ink * x * y;
        yy += ink * y * y;
    }
    *slant = -xy / yy; /* y points down */
    *width = sqrt(xx / mass);
}

/* Correlation of a code with slant and with width, over VALUES values of it for each of NOISES
 * noises, each noise's own mean taken off. */
static void code_meaning(gan_model *model, const char *code, double *slant, double *width) {
    enum { VALUES = 9, NOISES = 200 };
    static double shape[2][VALUES][NOISES];
    float *images = (float *)allocate((size_t)NOISES * PIXELS, sizeof *images);
    double result[2];
    for (int v = 0; v < VALUES; v++) {
        char inputs[64];
        snprintf(inputs, sizeof inputs, "%s=%.3f", code, -1.0 + 2.0 * v / (VALUES - 1));
        check(gan_model_sample(model, images, NOISES, inputs, SEED + 2), "infogan");
        for (int i = 0; i < NOISES; i++) {
            measure_shape(images + (size_t)i * PIXELS, &shape[0][v][i], &shape[1][v][i]);
        }
    }
    for (int k = 0; k < 2; k++) {
        double xy = 0.0, xx = 0.0, yy = 0.0;
        for (int i = 0; i < NOISES; i++) {
            double mean = 0.0;
            for (int v = 0; v < VALUES; v++) {
                mean += shape[k][v][i] / VALUES;
            }
            for (int v = 0; v < VALUES; v++) {
                const double x = v - 0.5 * (VALUES - 1), y = shape[k][v][i] - mean;
                xy += x * y;
                xx += x * x;
                yy += y * y;
            }
        }
        result[k] = xy / sqrt(xx * yy + 1e-30);
    }
    *slant = result[0];
    *width = result[1];
    free(images);
}

/* A picture: a row for each category, a column for each value of the code from -2 to 2, everything else
 * the same in a row. The code was trained from -1 to 1. */
static void draw_code(gan_model *model, const char *code) {
    enum { COLUMNS = 9 };
    static float images[CLASSES * COLUMNS * PIXELS];
    float column[CLASSES * PIXELS];
    char text[64];
    for (int v = 0; v < COLUMNS; v++) {
        snprintf(text, sizeof text, "%s=%.3f", code, -2.0 + 4.0 * v / (COLUMNS - 1));
        check(gan_model_sample(model, column, CLASSES, text, SEED + 3),
              "infogan"); /* by category */
        for (int i = 0; i < CLASSES; i++) {
            memcpy(images + (i * COLUMNS + v) * PIXELS, column + i * PIXELS,
                   PIXELS * sizeof *images);
        }
    }
    snprintf(text, sizeof text, "-%s.png", code);
    check(gan_image_write_grid(self.ctx, in_out("infogan", text).text, images, CLASSES * COLUMNS, 1,
                               SIDE, SIDE, COLUMNS, -1.0f, 1.0f),
          "infogan");
}

static void score_codes(const struct run *r, gan_model *model, char *text, size_t size) {
    double slant[2], width[2];
    (void)r;
    const double accuracy = code_accuracy(model);
    code_meaning(model, "c1", &slant[0], &width[0]);
    code_meaning(model, "c2", &slant[1], &width[1]);
    draw_code(model, "c1");
    draw_code(model, "c2");
    snprintf(text, size,
             " test images by their code: %.2f %%; correlation with slant, width: c1 %.2f, %.2f; "
             "c2 %.2f, %.2f",
             100.0 * accuracy, slant[0], width[0], slant[1], width[1]);
}

/* --- DRAW: the bound --- */

static void score_bound(const struct run *r, gan_model *model, char *text, size_t size) {
    gan_dataset *data = open_digits(TRAINED, TESTED);
    float images[BATCH * PIXELS], nats[BATCH];
    double sum = 0.0;
    (void)r;
    for (int i = 0; i < TESTED; i += BATCH) {
        for (int k = 0; k < BATCH; k++) {
            check(gan_dataset_get(data, i + k, images + k * PIXELS, NULL), "data");
        }
        check(gan_model_encode(model, images, BATCH, nats, SEED + (uint64_t)i), "draw");
        for (int k = 0; k < BATCH; k++) {
            sum += (double)nats[k];
        }
    }
    gan_dataset_close(data);
    snprintf(text, size, " bound on the test images: %.2f nats", sum / TESTED);
}

/* --- what a run is --- */

/* A row of the table. */
typedef struct run {
    const char *name, *system, *options;
    int batch, steps;
    const char *data, *data_b;   /* folders under --sets; NULL: MNIST */
    int height, width, channels; /* 0: 28 x 28, grey */
    int channels_b;              /* of the second images; 0: the same */
    int trained;                 /* records to learn from, the first ones; 0: 50,000 */
    gan_pairing pairing;
    gan_derive derive;
    int jitter; /* k: for training scaled up by 1/k, cut out anywhere, mirrored at random; 0: not */
    const char *inputs; /* of translating, or NULL */
    void (*also)(const struct run *r, gan_model *model, char *text, size_t size); /* or NULL */
} run;

/* Records of a row's data: those to learn from, or (test) the others. Two domains without pairs
 * that are made from one set are tested on pairs. */
static gan_dataset *open_run(const run *r, const gan_model *model, int test) {
    gan_dataset_desc desc = gan_model_dataset_desc(model);
    char path[1024], path_b[1024];
    snprintf(path, sizeof path, "%s/%s", self.sets, r->data ? r->data : "");
    snprintf(path_b, sizeof path_b, "%s/%s", self.sets, r->data_b ? r->data_b : "");
    desc.pairing = test && r->pairing == GAN_PAIRING_HALVES ? GAN_PAIRING_DERIVED : r->pairing;
    desc.derive = r->derive;
    desc.path_b = r->data_b ? path_b : NULL;
    desc.first = test ? (r->trained ? r->trained : TRAINED) : 0;
    desc.count = test ? 0 : (r->trained ? r->trained : TRAINED);
    if (r->jitter && !test) {
        desc.load_height = r->height + r->height / r->jitter;
        desc.load_width = r->width + r->width / r->jitter;
        desc.random_crop = desc.random_flip = 1;
    } else if (!r->data) {
        desc.load_height = desc.load_width = SIDE;
    }
    return open_data(r->data ? path : self.data, &desc);
}

/* --- translators: images whose true translation is known --- */

enum { TRANSLATED = 1000, SHOWN = 24 }; /* test images at most; in the picture */

/* Images of one side of a row's records [count,channels,height,width], in [-1,1]. */
typedef struct side {
    int count, channels;
    size_t size; /* numbers in an image */
    float *images;
} side;

static side read_side(gan_dataset *data, int part) {
    const gan_shape shape = gan_dataset_part_shape(data, part);
    side s;
    s.count = gan_dataset_count(data) < TRANSLATED ? gan_dataset_count(data) : TRANSLATED;
    s.channels = shape.dim[0];
    s.size = (size_t)shape.dim[0] * (size_t)shape.dim[1] * (size_t)shape.dim[2];
    s.images = (float *)allocate((size_t)s.count * s.size, sizeof(float));
    for (int i = 0; i < s.count; i++) {
        float *parts[3] = {NULL, NULL, NULL};
        parts[part] = s.images + (size_t)i * s.size;
        check(gan_dataset_get_parts(data, i, parts, NULL), "data");
    }
    return s;
}

/* Mean of |x - y| over all images in per cent of the range; x has one image for all, or one for
 * each. */
static double distance(const float *x, int one, const side *y) {
    double sum = 0.0;
    for (size_t i = 0; i < (size_t)y->count * y->size; i++) {
        sum += fabs((double)x[one ? i % y->size : i] - (double)y->images[i]);
    }
    return 50.0 * sum / ((double)y->count * (double)y->size);
}

/* Share of numbers on the right side of grey, in per cent. */
static double agreement(const float *x, const side *y) {
    double right = 0.0;
    for (size_t i = 0; i < (size_t)y->count * y->size; i++) {
        right += (x[i] > 0.0f) == (y->images[i] > 0.0f);
    }
    return 100.0 * right / ((double)y->count * (double)y->size);
}

/* A picture with input, translation and truth side by side, several times in a row. */
static void show_translations(const run *r, const char *ending, const side *x, const float *out,
                              const side *y) {
    const int shown = x->count < SHOWN ? x->count : SHOWN;
    float *all = (float *)allocate((size_t)(3 * shown) * y->size, sizeof *all);
    for (int i = 0; i < shown; i++) {
        const size_t at = (size_t)(i * (x->count / shown)) * y->size;
        float *to = all + (size_t)(3 * i) * y->size;
        memcpy(to, x->images + at, y->size * sizeof *all);
        memcpy(to + y->size, out + at, y->size * sizeof *all);
        memcpy(to + 2 * y->size, y->images + at, y->size * sizeof *all);
    }
    check(gan_image_write_grid(self.ctx, in_out(r->name, ending).text, all, 3 * shown, y->channels,
                               r->height, r->width, 12, -1.0f, 1.0f),
          r->name);
    free(all);
}

/* Distances of translated test images from the true ones, beside those of the input itself and of
 * the mean true image of the training data; of grey images also the share of right pixels. The
 * rows' domains have the same number of channels. */
static void score_translations(const run *r, gan_model *model, char *text, size_t size) {
    run still = *r; /* for the mean image: the same without jitter */
    gan_model_info info;
    int used = 0;
    still.jitter = 0;
    gan_dataset *test = open_run(r, model, 1), *learnt = open_run(&still, model, 0);
    check(gan_model_get_info(model, &info), r->name);
    const int reverse = strstr(info.options, "direction=ba") != NULL;
    for (int way = 0; way <= info.system->two_way; way++) {
        const int from = way != reverse;
        const side x = read_side(test, from), y = read_side(test, !from);
        side seen = read_side(learnt, !from);
        float *out = (float *)allocate((size_t)y.count * y.size, sizeof *out);
        float *mean = (float *)allocate(y.size, sizeof *mean);
        for (size_t i = 0; i < (size_t)seen.count * seen.size; i++) {
            mean[i % seen.size] += seen.images[i] / (float)seen.count;
        }
        check(gan_model_translate(model, x.images, x.count, r->height, r->width,
                                  way ? "direction=ba" : r->inputs, out),
              r->name);
        used += snprintf(text + used, size - (size_t)used,
                         "%s off the truth: %.2f %% (input %.2f, mean image %.2f)",
                         way ? "; back:" : "", distance(out, 0, &y), distance(x.images, 0, &y),
                         distance(mean, 1, &y));
        if (y.channels == 1) {
            used += snprintf(text + used, size - (size_t)used, ", right pixels: %.2f %%",
                             agreement(out, &y));
        }
        show_translations(r, way ? "-back.png" : ".png", &x, out, &y);
        free(x.images);
        free(y.images);
        free(seen.images);
        free(out);
        free(mean);
    }
    gan_dataset_close(test);
    gan_dataset_close(learnt);
}

/* --- Coupled GAN: do the two images of a pair show the same thing? --- */

/* Images of one kind out of pairs that lie side by side, 2 width numbers in each of so many rows: 0
 * those at the left, 1 at the right. */
static float *one_of_pairs(const float *pairs, int rows, int width, int kind) {
    const size_t row = (size_t)width;
    float *images = (float *)allocate((size_t)rows * row, sizeof *images);
    for (int i = 0; i < rows; i++) {
        memcpy(images + (size_t)i * row, pairs + (size_t)(2 * i + kind) * row,
               row * sizeof *images);
    }
    return images;
}

/* Share of pixels, in per cent, in which y, made black and white, is what x of `shift` images
 * further becomes when it is made black and white and changed as the row's data are (Liu and Tuzel
 * 2016, arXiv:1606.07536, pixel agreement ratio). */
static double pair_agreement(const run *r, const float *x, const float *y, int count, int shift) {
    float plain[PIXELS], changed[PIXELS];
    double right = 0.0;
    for (int i = 0; i < count; i++) {
        const float *from = x + (size_t)((i + shift) % count) * PIXELS,
                    *to = y + (size_t)i * PIXELS;
        for (int k = 0; k < PIXELS; k++) {
            plain[k] = from[k] > 0.0f ? 1.0f : -1.0f;
        }
        check(gan_derive_image(self.ctx, r->derive, plain, 1, SIDE, SIDE, -1.0f, 1.0f, changed),
              r->name);
        for (int k = 0; k < PIXELS; k++) {
            right += (changed[k] > 0.0f) == (to[k] > 0.0f);
        }
    }
    return 100.0 * right / ((double)count * PIXELS);
}

/* Index of the image nearest to x. */
static int nearest(const side *known, const float *x) {
    double least = 0.0;
    int best = 0;
    for (int i = 0; i < known->count; i++) {
        const float *image = known->images + (size_t)i * known->size;
        double sum = 0.0;
        for (size_t k = 0; k < known->size; k++) {
            const double difference = (double)x[k] - (double)image[k];
            sum += difference * difference;
        }
        best = i == 0 || sum < least ? i : best;
        least = i == 0 || sum < least ? sum : least;
    }
    return best;
}

/* Two folders whose true pairs are known but were not learnt from: how far, in per cent of the
 * range, the second image y of a pair is from the partner of the training image that is nearest to
 * its first, x; beside it the same for the second image of the next pair. All have so many
 * channels; grey ones are read from the first. */
static void score_partners(const run *r, gan_model *model, const float *x, const float *y,
                           int count, int channels, char *text, size_t size) {
    run paired = *r;
    paired.pairing = GAN_PAIRING_NAMES;
    gan_dataset *data = open_run(&paired, model, 0);
    const side first = read_side(data, 0), second = read_side(data, 1);
    const size_t step = second.size / (size_t)second.channels * (size_t)channels;
    double off[2] = {0.0, 0.0};
    for (int i = 0; i < count; i++) {
        const float *partner =
            second.images + (size_t)nearest(&first, x + (size_t)i * first.size) * second.size;
        for (int shift = 0; shift < 2; shift++) {
            const float *drawn = y + (size_t)((i + shift) % count) * step;
            for (size_t k = 0; k < second.size; k++) {
                off[shift] += fabs((double)drawn[k] - (double)partner[k]);
            }
        }
    }
    const double all = (double)count * (double)second.size;
    snprintf(text, size,
             " second image off the partner of the nearest first: %.2f %% (another pair's: "
             "%.2f)",
             50.0 * off[0] / all, 50.0 * off[1] / all);
    free(first.images);
    free(second.images);
    gan_dataset_close(data);
}

/* A picture of pairs, and how much the images of a pair have to do with one another; digits are
 * measured themselves, too. */
static void score_pairs(const run *r, gan_model *model, char *text, size_t size) {
    gan_model_info info;
    check(gan_model_get_info(model, &info), r->name);
    const int digits = !r->data, count = digits ? SAMPLES : TRANSLATED;
    const int rows = info.sample_channels * info.sample_height, width = info.sample_width / 2;
    float *pairs = (float *)allocate((size_t)count * (size_t)(2 * rows * width), sizeof *pairs);
    check(gan_model_sample(model, pairs, count, NULL, SEED + 1), r->name);
    check(gan_image_write_grid(self.ctx, in_out(r->name, ".png").text, pairs, 64,
                               info.sample_channels, info.sample_height, info.sample_width, 8,
                               -1.0f, 1.0f),
          r->name);
    float *x = one_of_pairs(pairs, count * rows, width, 0);
    float *y = one_of_pairs(pairs, count * rows, width, 1);
    if (digits) {
        sums *seen = (sums *)allocate(1, sizeof *seen);
        prepare();
        look(x, count, NULL, seen, 1);
        snprintf(text, size,
                 " pixels that agree: %.2f %% (with another pair's: %.2f %%); distance of the "
                 "digits: %.2f",
                 pair_agreement(r, x, y, count, 0), pair_agreement(r, x, y, count, 1),
                 judge(seen).distance);
        free(seen);
    } else {
        score_partners(r, model, x, y, count, info.sample_channels, text, size);
    }
    free(x);
    free(y);
    free(pairs);
}

/* --- context encoder: what was in the hole? --- */

/* Decibels between two images [channels,length,length] in the middle hole x hole pixels; y NULL:
 * the mean colour of x. */
static double hole_psnr(const float *x, const float *y, int channels, int length, int hole) {
    const int first = (length - hole) / 2;
    double sum = 0.0;
    for (int c = 0; c < channels; c++) {
        const size_t at = (size_t)c * (size_t)length * (size_t)length;
        double mean = 0.0;
        for (int i = 0; i < length * length; i++) {
            mean += (double)x[at + (size_t)i] / (length * length);
        }
        for (int i = 0; i < hole * hole; i++) {
            const size_t k = at + (size_t)((first + i / hole) * length + first + i % hole);
            const double error = ((double)x[k] - (y ? (double)y[k] : mean)) / 2.0; /* of [0,1] */
            sum += error * error;
        }
    }
    return -10.0 * log10(sum / (channels * hole * hole));
}

/* Mean over the test images. */
static void score_holes(const run *r, gan_model *model, char *text, size_t size) {
    gan_dataset *test = open_run(r, model, 1);
    const side x = read_side(test, 0);
    gan_model_info info;
    char hole_text[64];
    check(gan_model_get_info(model, &info), r->name);
    const char *overlap = strstr(info.options, "overlap=");
    const int hole = info.height / 2 - 2 * (overlap ? atoi(overlap + strlen("overlap=")) : 0);
    const int first = (info.height - hole) / 2, corner = first * info.width + first;
    float *filled = (float *)allocate((size_t)x.count * x.size, sizeof *filled);
    snprintf(hole_text, sizeof hole_text, "left=%d top=%d width=%d height=%d", first, first, hole,
             hole);
    check(gan_model_translate(model, x.images, x.count, info.height, info.width, hole_text, filled),
          r->name);
    double got = 0.0, mean = 0.0;
    for (int i = 0; i < x.count; i++) {
        const float *image = x.images + (size_t)i * x.size;
        got += hole_psnr(image, filled + (size_t)i * x.size, x.channels, info.height, hole);
        mean += hole_psnr(image, NULL, x.channels, info.height, hole);
    }
    snprintf(text, size, " in the hole of %d test images: %.2f dB; mean colour: %.2f dB", x.count,
             got / x.count, mean / x.count);
    side hidden = x;
    hidden.images = (float *)allocate((size_t)x.count * x.size, sizeof(float));
    memcpy(hidden.images, x.images, (size_t)x.count * x.size * sizeof(float));
    for (int i = 0; i < x.count * x.channels * hole * hole; i++) {
        const int plane = i / (hole * hole), y = i / hole % hole, at = i % hole;
        hidden.images[(size_t)plane * (size_t)(info.height * info.width) +
                      (size_t)(corner + y * info.width + at)] = 1.0f;
    }
    show_translations(r, ".png", &hidden, filled, &x);
    free(hidden.images);
    free(x.images);
    free(filled);
    gan_dataset_close(test);
}

/* --- the runs --- */

#define DIGITS NULL, NULL, 0, 0, 0, 0, 0, GAN_PAIRING_NONE, GAN_DERIVE_NEGATIVE, 0, NULL
/* Digits with a black border, for networks that begin at 4 x 4. */
#define WITH_BORDER NULL, NULL, 32, 32, 1, 0, 0, GAN_PAIRING_NONE, GAN_DERIVE_NEGATIVE, 0, NULL
/* Digits and negatives of others, not paired, of so many pixels on a side. */
#define NEGATIVES(side) \
    NULL, NULL, side, side, 1, 0, 0, GAN_PAIRING_HALVES, GAN_DERIVE_NEGATIVE, 0, NULL
/* Digits, and others changed by a rule. */
#define HALVES(rule) NULL, NULL, 0, 0, 0, 0, 0, GAN_PAIRING_HALVES, rule, 0, NULL

static const run runs[] = {
    {"gan", "gan", "ema=0.999", 64, 40000, DIGITS, NULL},
    {"dcgan", "dcgan", "ngf=32 ndf=32 ema=0.999", 64, 12000, WITH_BORDER, NULL},
    {"lsgan", "lsgan", "ngf=32 ndf=32 ema=0.999", 64, 8000, WITH_BORDER, NULL},
    {"wgan", "wgan", "network=mlp ema=0.999", 64, 200000, DIGITS, NULL},
    {"wgan-gp", "wgan-gp", "ngf=32 ndf=32 lr=4e-4 n-critic=3 ema=0.999", 64, 15000, WITH_BORDER,
     NULL},
    {"cgan", "cgan", "network=dcgan ngf=32 ndf=32 ema=0.999", 64, 6000, WITH_BORDER, NULL},
    {"acgan", "acgan", "network=dcgan ngf=32 ndf=32 aux-fake=0 ema=0.999", 64, 8000, WITH_BORDER,
     NULL},
    {"infogan", "infogan", "", 128, 5000, DIGITS, score_codes},
    {"draw", "draw", "lr-hold=12000 lr-decay=12000", 64, 24000, DIGITS, score_bound},
    {"pix2pix-emoji", "pix2pix",
     "ngf=48 ndf=4 d-layers=1 lr=1e-3 lambda=1000 ema=0.98 lr-hold=400 lr-decay=200", 4, 600,
     "emoji/train/google", "emoji/train/twitter", 64, 64, 3, 0, 250, GAN_PAIRING_NAMES,
     GAN_DERIVE_NEGATIVE, 32, "dropout=0 running-stats=1", score_translations},
    {"pix2pix-facades", "pix2pix",
     "ngf=24 ndf=12 lr=5e-4 lambda=300 norm=instance ema=0.99 direction=ba", 2, 600,
     "facades/train", NULL, 128, 128, 3, 0, 36, GAN_PAIRING_SIDES, GAN_DERIVE_NEGATIVE, 8,
     "dropout=0", score_translations},
    {"cyclegan", "cyclegan", "ngf=16 ndf=16 blocks=3 d-layers=2", 4, 1200, NEGATIVES(28),
     score_translations},
    {"dualgan", "dualgan", "ngf=16 ndf=16 loss=wgan-gp optimiser=adam lr=2e-4 lambda=20 n-critic=2",
     8, 1200, NEGATIVES(32), score_translations},
    {"discogan", "discogan", "ngf=16 ndf=16 rate=0.5 start-rate=0.5", 32, 1500, NEGATIVES(28),
     score_translations},
    {"cogan-edges", "cogan", "ngf=32", 64, 13500, HALVES(GAN_DERIVE_EDGES), score_pairs},
    {"cogan-negative", "cogan", "ngf=16 ndf=10", 32, 2000, HALVES(GAN_DERIVE_NEGATIVE),
     score_pairs},
    {"cogan-rotate", "cogan", "network=mlp private-d=2 ema=0.999", 64, 12000,
     HALVES(GAN_DERIVE_ROTATE), score_pairs},
    {"cogan-depth", "cogan", "ngf=32 ndf=10 ema=0.995", 32, 1500, "rgbd-kitchen/train_color",
     "rgbd-kitchen/train_depth", 32, 32, 3, 1, 400, GAN_PAIRING_UNPAIRED, GAN_DERIVE_NEGATIVE, 0,
     NULL, score_pairs},
    {"context-encoder", "context-encoder", "ngf=32 ndf=32 lr-hold=200 lr-decay=200", 32, 400,
     "rose2sunflower", NULL, 64, 64, 3, 0, 144, GAN_PAIRING_NONE, GAN_DERIVE_NEGATIVE, 8, NULL,
     score_holes},
};
enum { RUNS = sizeof runs / sizeof runs[0] };

static const run *find_run(const char *name) {
    for (int i = 0; i < RUNS; i++) {
        if (strcmp(runs[i].name, name) == 0) {
            return &runs[i];
        }
    }
    return NULL;
}

/* Seconds of processor time that earlier parts of a run took, kept beside its checkpoint. */
static double read_seconds(const char *name) {
    FILE *file = fopen(in_out(name, ".seconds").text, "rb");
    double value = 0.0;
    if (file) {
        if (fscanf(file, "%lf", &value) != 1) {
            value = 0.0;
        }
        fclose(file);
    }
    return value;
}

static void save_run(const gan_model *model, const char *name, double spent) {
    const file_name file = in_out(name, ".seconds");
    check(gan_model_save(model, in_out(name, ".safetensors").text), name);
    FILE *out = create(file.text);
    fprintf(out, "%.1f\n", spent);
    close_file(out, file.text);
}

static void show_progress(const run *r, gan_model *model, uint64_t step, uint64_t first,
                          double spent) {
    const double speed = (double)(step - first) / spent;
    fprintf(stderr, "\r%s: step %lu of %d, %.0f images/s, %.1f min left", r->name,
            (unsigned long)step, r->steps, speed * r->batch,
            ((double)r->steps - (double)step) / speed / 60.0);
    for (int i = 0; gan_model_metric(model, i).name; i++) {
        const gan_metric metric = gan_model_metric(model, i);
        fprintf(stderr, ", %s %.3f", metric.name, (double)metric.value);
    }
    fprintf(stderr, "  ");
}

/* The model of a row, trained; *minutes is the processor time it took, of all threads. */
static gan_model *train(const run *r, double *minutes) {
    const file_name file = in_out(r->name, ".safetensors");
    gan_model_desc desc = gan_model_defaults(r->system);
    gan_model *model = NULL;
    desc.height = r->height ? r->height : SIDE;
    desc.width = r->width ? r->width : SIDE;
    desc.channels = r->channels ? r->channels : 1;
    desc.channels_b = r->channels_b;
    desc.batch = r->batch;
    desc.seed = self.seed;
    desc.options = r->options;
    if (exists(file.text)) {
        check(gan_model_load(&model, self.ctx, file.text, NULL), r->name);
    } else {
        check(gan_model_create(&model, self.ctx, &desc), r->name);
    }
    const uint64_t first = gan_params_step(gan_model_params(model));
    const double before = read_seconds(r->name), used = seconds(CLOCK_PROCESS_CPUTIME_ID);
    const double start = seconds(CLOCK_MONOTONIC);
    double shown = start, saved = start;
    gan_dataset *data = open_run(r, model, 0);
    for (uint64_t step = first; step < (uint64_t)r->steps;) {
        check(gan_model_train(model, data), r->name);
        const double now = seconds(CLOCK_MONOTONIC);
        step++;
        if (now - shown > 2.0) {
            show_progress(r, model, step, first, now - start);
            shown = now;
        }
        if (now - saved > 60.0 || step == (uint64_t)r->steps) {
            save_run(model, r->name, before + seconds(CLOCK_PROCESS_CPUTIME_ID) - used);
            saved = now;
        }
    }
    fprintf(stderr, "\n");
    gan_dataset_close(data);
    *minutes = (before + seconds(CLOCK_PROCESS_CPUTIME_ID) - used) / 60.0;
    return model;
}

static void run_row(const run *r) {
    char scores[160], also[256] = "", text[640];
    double minutes;
    gan_model *model = train(r, &minutes);
    score_samples(model, r->name, scores, sizeof scores);
    if (r->also) {
        r->also(r, model, also, sizeof also);
    }
    snprintf(text, sizeof text, "| %s%s%s | %d x %d | %.1f |%s%s |", r->name,
             *r->options ? " " : "", r->options, r->steps, r->batch, minutes, scores, also);
    write_row(r->name, text);
    gan_model_destroy(model);
}

static void score_file(const char *name, const char *file) {
    const size_t length = strlen(file);
    const run *r = find_run(name);
    char scores[160], also[256] = "", text[640];
    prepare();
    if (length > 12 && strcmp(file + length - 12, ".safetensors") == 0) {
        gan_model *model = NULL;
        check(gan_model_load(&model, self.ctx, file, NULL), file);
        score_samples(model, name, scores, sizeof scores);
        if (r && r->also) {
            r->also(r, model, also, sizeof also);
        }
        gan_model_destroy(model);
    } else {
        score_images(name, file, scores, sizeof scores);
    }
    snprintf(text, sizeof text, "| %s | | |%s%s |", name, scores, also);
    write_row(name, text);
}

/* --- the table --- */

/* 1 if there is one. */
static int copy_row(FILE *out, const char *name) {
    FILE *row = fopen(in_out(name, ".row").text, "rb");
    for (int c; row && (c = fgetc(row)) != EOF;) {
        fputc(c, out);
    }
    if (row) {
        fclose(row);
    }
    return row != NULL;
}

static void write_table(const char *file, const char *const *others, int other_count) {
    FILE *out = create(file);
    fprintf(out,
            "# Quality on MNIST\n\nWritten by `make quality`; what the columns mean is said in "
            "`bench/quality.c`. The judge's\nclassifier is right on so many per cent of the test "
            "images: ");
    copy_row(out, "scale.accuracy");
    fprintf(out, "\n| real images | distance | score | rarest class |\n|---|---|---|---|\n");
    copy_row(out, "scale.test");
    copy_row(out, "scale.one");
    copy_row(out, "scale.three");
    copy_row(out, "scale.other");
    fprintf(
        out,
        "\n| generator | steps x batch | processor minutes | distance | score | rarest class | |\n"
        "|---|---|---|---|---|---|---|\n");
    int scored[RUNS];
    for (int i = 0; i < RUNS; i++) {
        scored[i] = copy_row(out, runs[i].name);
    }
    for (int i = 0; i < other_count; i++) {
        copy_row(out, others[i]);
    }
    fprintf(out,
            "\n## What they draw\n\nTranslators: image, translation, truth. Pictures of sets of "
            "images other than MNIST are not\nshown; they lie beside the scores.\n");
    for (int i = 0; i < RUNS; i++) {
        if (scored[i] && !runs[i].data) {
            fprintf(out, "\n%s\n\n![%s](pictures/%s.png)\n", runs[i].name, runs[i].name,
                    runs[i].name);
        }
        for (int code = 1; code <= 2 && scored[i] && runs[i].also == score_codes; code++) {
            fprintf(out, "\n%s, code c%d from -2 to 2\n\n![c%d](pictures/%s-c%d.png)\n",
                    runs[i].name, code, code, runs[i].name, code);
        }
    }
    close_file(out, file);
}

int main(int argc, char **argv) {
    gan_context_desc desc;
    int i = 1;
    memset(&desc, 0, sizeof desc);
    self.sets = "../shared/data";
    self.out = "build/judge";
    self.seed = SEED;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--data") == 0) {
            self.data = value;
        } else if (strcmp(argv[i], "--other") == 0) {
            self.other = value;
        } else if (strcmp(argv[i], "--sets") == 0) {
            self.sets = value;
        } else if (strcmp(argv[i], "--out") == 0) {
            self.out = value;
        } else if (strcmp(argv[i], "--seed") == 0) {
            self.seed = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--threads") == 0) {
            desc.threads = atoi(value);
        } else {
            fprintf(stderr, "quality: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    const char *verb = i < argc ? argv[i++] : "";
    mkdir(self.out, 0777);
    check(gan_context_create(&self.ctx, &desc), "context");
    if (strcmp(verb, "classifier") == 0) {
        prepare();
    } else if (strcmp(verb, "scale") == 0) {
        scale();
    } else if (strcmp(verb, "score") == 0 && i + 2 == argc) {
        score_file(argv[i], argv[i + 1]);
    } else if (strcmp(verb, "table") == 0 && i < argc) {
        write_table(argv[i], (const char *const *)argv + i + 1, argc - i - 1);
    } else if (strcmp(verb, "run") == 0 && i < argc) {
        const int all = strcmp(argv[i], "all") == 0;
        for (int k = all ? 0 : i; k < (all ? RUNS : argc); k++) {
            const run *r = all ? &runs[k] : find_run(argv[k]);
            if (!r) {
                fprintf(stderr, "quality: no row \"%s\" in the table of runs\n", argv[k]);
                return 2;
            }
            run_row(r);
        }
    } else {
        fprintf(
            stderr,
            "usage: quality [--data FILE] [--other FILE] [--sets DIR] [--out DIR] [--seed N] "
            "[--threads N] classifier | scale | run NAME... | score NAME FILE | "
            "table FILE [NAME...]\n");
        return 2;
    }
    free_network(&self.judge);
    gan_params_destroy(self.params);
    gan_context_destroy(self.ctx);
    return 0;
}
