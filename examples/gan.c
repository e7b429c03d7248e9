/* gan - trains and uses the systems of gan.h from the command line. `gan help` lists what it does.
 *
 *   cc -O2 -fopenmp -I. examples/gan.c -o gan -lm
 *   ./gan train dcgan --size 32 --channels 1 --steps 1000 --out digits
 *
 * leaves in digits/: samples.png (a grid from the same noise every time) and its earlier states
 * samples-000100.png ..., losses.csv, losses.svg, model.safetensors.
 */
#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#endif
#define GAN_IMPLEMENTATION
#include "gan.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#ifdef _WIN32
#include <direct.h>
#include <io.h>
#define isatty _isatty
#define fileno _fileno
#else
#include <unistd.h>
#endif

enum { OK = 0, FAILED = 1, USAGE = 2, INTERRUPTED = 130, GRID_ROWS = 8, MAX_METRICS = 16 };

/* ---- the machine ------------------------------------------------------------------------- */

static double now(void) { /* seconds */
#ifdef _WIN32
    return (double)clock() / CLOCKS_PER_SEC;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

/* Makes a folder and those above it; whether that worked shows when a file is written there. */
static void make_folder(const char *path) {
    char part[1024];
    for (size_t i = 1; i <= strlen(path) && i < sizeof part; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
#ifdef _WIN32
            _mkdir(part);
#else
            mkdir(part, 0777);
#endif
        }
    }
}

static int file_exists(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file) {
        fclose(file);
    }
    return file != NULL;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) { /* the second one ends the program at once */
    interrupted = 1;
    signal(number, SIG_DFL);
}

/* ---- messages ---------------------------------------------------------------------------- */

static int fail(int code, const char *format, ...) {
    va_list args;
    fprintf(stderr, "gan: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    return code;
}

static int fail_with(int code, const gan_context *ctx) {
    return fail(code, "%s", gan_context_error(ctx));
}

static void print_bytes(double bytes) {
    const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    int unit = 0;
    while (bytes >= 1024.0 && unit < 3) {
        bytes /= 1024.0;
        unit++;
    }
    printf("%.*f %s", unit && bytes < 100.0 ? 1 : 0, bytes, units[unit]);
}

/* ---- command line ------------------------------------------------------------------------ */

/* What is given on the command line, for all commands. Zero: not given. */
typedef struct options {
    const char *out, *data;
    double steps, epochs, every, batch, size, height, width, channels, seed, threads, n, columns;
    double resume, overwrite, help;
    char model[1024]; /* options and inputs of the system: "ngf=32 lr=1e-4" */
} options;

typedef struct option_row {
    const char *name, *value; /* value NULL: a switch */
    const char *commands;     /* first letters of those that take it: t s i */
    const char *help;
    size_t offset;
    double low, high; /* of a number; a text if both are 0 */
} option_row;

static const option_row option_rows[] = {
    {"out", "PATH", "ts", "folder for results (train) or picture file (sample)",
     offsetof(options, out), 0, 0},
    {"data", "PATH", "t", "folder of images, list of files or IDX file; default: drawn digits",
     offsetof(options, data), 0, 0},
    {"steps", "N", "t", "stop after N steps, those before a resume included; default 2000",
     offsetof(options, steps), 1, 1e9},
    {"epochs", "N", "t", "stop after N passes over the data instead", offsetof(options, epochs),
     1e-3, 1e6},
    {"every", "N", "t", "write samples, plot and checkpoint every N steps; default steps/10",
     offsetof(options, every), 1, 1e9},
    {"batch", "N", "t", "images in a step", offsetof(options, batch), 1, 65536},
    {"size", "N", "t", "height and width of the images", offsetof(options, size), 1, 4096},
    {"height", "N", "t", "height alone", offsetof(options, height), 1, 4096},
    {"width", "N", "t", "width alone", offsetof(options, width), 1, 4096},
    {"channels", "N", "t", "1 grey, 3 colour", offsetof(options, channels), 1, 4},
    {"seed", "N", "ts", "same seed, same bits; default 1", offsetof(options, seed), 1, 9e15},
    {"threads", "N", "ts", "default: all processors; results do not depend on it",
     offsetof(options, threads), 1, 256},
    {"resume", NULL, "t", "go on from the checkpoint in the folder", offsetof(options, resume), 0,
     1},
    {"overwrite", NULL, "t", "start anew where the folder holds a checkpoint",
     offsetof(options, overwrite), 0, 1},
    {"n", "N", "s", "number of images; default: 8 rows", offsetof(options, n), 1, 1e6},
    {"columns", "N", "s", "columns of the grid; default 8, or one for each class",
     offsetof(options, columns), 1, 1e6},
    {"help", NULL, "tsi", "show the options", offsetof(options, help), 0, 1},
};
enum { OPTION_ROWS = sizeof option_rows / sizeof option_rows[0] };

static void print_options(char command, const gan_system *system) {
    char text[64];
    for (int i = 0; i < OPTION_ROWS; i++) {
        const option_row *row = &option_rows[i];
        if (strchr(row->commands, command)) {
            snprintf(text, sizeof text, "--%s %s", row->name, row->value ? row->value : "");
            printf("  %-20s %s\n", text, row->help);
        }
    }
    for (int i = 0; system && i < system->option_count; i++) {
        const gan_option *option = &system->options[i];
        snprintf(text, sizeof text, "--%s %s", option->name, option->choices ? "NAME" : "X");
        if (option->choices) {
            const char *usual = option->choices;
            for (int k = 0; k < (int)option->standard; k++) {
                usual += strcspn(usual, " ") + 1;
            }
            printf("  %-20s %s: one of %s; default %.*s\n", text, option->help, option->choices,
                   (int)strcspn(usual, " "), usual);
        } else {
            printf("  %-20s %s; default %g\n", text, option->help, option->standard);
        }
    }
}

static int is_number(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && *value - *value == 0.0;
}

/* Stores one option of this tool. */
static int set_option(options *given, const option_row *row, const char *value) {
    char *field = (char *)given + row->offset;
    double number = 1.0;
    if (row->high == 0.0) {
        memcpy(field, &value, sizeof value);
        return OK;
    }
    if (row->value && (!is_number(value, &number) || number < row->low || number > row->high ||
                       (row->low >= 0.5 && number != floor(number)))) {
        return fail(USAGE, "--%s: expected a number from %g to %g, found \"%s\"", row->name,
                    row->low, row->high, value);
    }
    memcpy(field, &number, sizeof number);
    return OK;
}

/* Keeps "name=value" for the system, which knows whether it is right. */
static int set_model_option(options *given, const char *name, int length, const char *value) {
    const size_t used = strlen(given->model);
    const int wrote = snprintf(given->model + used, sizeof given->model - used, "%s%.*s=%s",
                               used ? " " : "", length, name, value);
    return wrote < (int)(sizeof given->model - used) ? OK : fail(USAGE, "too many options");
}

/* 1 if the first `length` bytes of text are the whole of name. */
static int is_name(const char *name, const char *text, int length) {
    return (int)strlen(name) == length && strncmp(name, text, (size_t)length) == 0;
}

static const option_row *find_row(char command, const char *name, int length) {
    for (int i = 0; i < OPTION_ROWS; i++) {
        if (is_name(option_rows[i].name, name, length) &&
            strchr(option_rows[i].commands, command)) {
            return &option_rows[i];
        }
    }
    return NULL;
}

/* Whether a name may be meant for the model: an option of the system, or an input of a model that
 * is not known yet (sample). */
static int is_model_option(char command, const gan_system *system, const char *name, int length) {
    for (int i = 0; system && i < system->option_count; i++) {
        if (is_name(system->options[i].name, name, length)) {
            return 1;
        }
    }
    return command == 's';
}

/* Reads "--name value" and "--name=value" from argv[first] on. */
static int parse(options *given, int argc, char **argv, int first, char command,
                 const gan_system *system) {
    int status = OK;
    for (int i = first; i < argc && status == OK; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            return fail(USAGE, "unexpected argument \"%s\" (try: gan help)", argv[i]);
        }
        const char *name = argv[i] + 2, *value = NULL;
        const int length = (int)strcspn(name, "=");
        const option_row *row = find_row(command, name, length);
        if (!row && !is_model_option(command, system, name, length)) {
            return fail(USAGE, "unknown option --%.*s (try: gan %s%s%s --help)", length, name,
                        argv[1], system ? " " : "", system ? system->name : "");
        }
        if (name[length] == '=') {
            value = name + length + 1;
        } else if (!row || row->value) {
            if (++i == argc) {
                return fail(USAGE, "--%.*s: a value is missing", length, name);
            }
            value = argv[i];
        }
        status = row ? set_option(given, row, value) : set_model_option(given, name, length, value);
    }
    return status;
}

static gan_context *open_context(const options *given) {
    gan_context *ctx = NULL;
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = (int)given->threads;
    const gan_status status = gan_context_create(&ctx, &desc);
    if (status != GAN_OK) {
        fail(FAILED, "%s (GAN_ISA=%s)", gan_status_text(status),
             getenv("GAN_ISA") ? getenv("GAN_ISA") : "");
    }
    return ctx;
}

/* ---- losses: history, file, plot ----------------------------------------------------------- */

typedef struct history {
    long *steps;
    float *values; /* [count][metrics] */
    int metrics;
    long count, capacity;
    char names[MAX_METRICS][32];
} history;

static int history_add(history *h, long step, const float *values) {
    if (h->count == h->capacity) {
        const long capacity = h->capacity ? 2 * h->capacity : 1024;
        long *steps = (long *)realloc(h->steps, (size_t)capacity * sizeof *steps);
        h->steps = steps ? steps : h->steps;
        float *grown = (float *)realloc(h->values, (size_t)(capacity * h->metrics) * sizeof *grown);
        h->values = grown ? grown : h->values;
        if (!steps || !grown) {
            return 0;
        }
        h->capacity = capacity;
    }
    h->steps[h->count] = step;
    memcpy(h->values + h->count * h->metrics, values, (size_t)h->metrics * sizeof *values);
    h->count++;
    return 1;
}

/* Reads back the rows of a losses.csv up to a step; a file that is missing has none. */
static void history_read(history *h, const char *path, long last) {
    FILE *file = fopen(path, "r");
    char line[1024];
    while (file && fgets(line, sizeof line, file)) {
        float values[MAX_METRICS];
        char *at = line;
        const long step = strtol(line, &at, 10);
        int read = 0;
        while (at != line && *at == ',' && read < h->metrics) {
            values[read++] = (float)strtod(at + 1, &at);
        }
        if (read == h->metrics && step <= last) {
            history_add(h, step, values);
        }
    }
    if (file) {
        fclose(file);
    }
}

static void csv_row(FILE *csv, const history *h, long row) {
    fprintf(csv, "%ld", h->steps[row]);
    for (int k = 0; k < h->metrics; k++) {
        fprintf(csv, ",%.9g", (double)h->values[row * h->metrics + k]);
    }
    fprintf(csv, "\n");
}

/* Opens losses.csv with its heading and the rows there are. */
static FILE *csv_open(const history *h, const char *path) {
    FILE *csv = fopen(path, "w");
    if (csv) {
        fprintf(csv, "step");
        for (int k = 0; k < h->metrics; k++) {
            fprintf(csv, ",%s", h->names[k]);
        }
        fprintf(csv, "\n");
        for (long i = 0; i < h->count; i++) {
            csv_row(csv, h, i);
        }
    }
    return csv;
}

enum {
    PLOT_POINTS = 500,
    PLOT_W = 800,
    PLOT_H = 420,
    PLOT_L = 64,
    PLOT_R = 20,
    PLOT_T = 44,
    PLOT_B = 48
};

/* Means of a metric over equal parts of the history, and those smoothed over a window; how many. */
static int plot_points(const history *h, int metric, double *raw, double *smooth) {
    const int points = h->count < PLOT_POINTS ? (int)h->count : PLOT_POINTS;
    for (int p = 0; p < points; p++) {
        const long first = p * h->count / points, end = (p + 1) * h->count / points;
        double sum = 0.0;
        for (long i = first; i < end; i++) {
            sum += (double)h->values[i * h->metrics + metric];
        }
        raw[p] = sum / (double)(end - first);
    }
    const int reach = points / 25;
    for (int p = 0; p < points; p++) { /* weights fall linearly on both sides */
        double sum = 0.0, weights = 0.0;
        for (int i = p - reach < 0 ? 0 : p - reach; i <= p + reach && i < points; i++) {
            const double weight = reach + 1 - abs(i - p);
            sum += weight * raw[i];
            weights += weight;
        }
        smooth[p] = sum / weights;
    }
    return points;
}

/* 1, 2 or 5 times a power of ten, so that about six of them cover the range. */
static double tick_step(double range) {
    const double power = pow(10.0, floor(log10(range / 6.0)));
    const double rest = range / 6.0 / power;
    return power * (rest < 1.5 ? 1.0 : rest < 3.5 ? 2.0 : rest < 7.5 ? 5.0 : 10.0);
}

static void plot_axes(FILE *svg, const history *h, double low, double high) {
    const int right = PLOT_W - PLOT_R, bottom = PLOT_H - PLOT_B;
    const double steps = (double)h->steps[h->count - 1];
    double tick = tick_step(high - low);
    for (double v = ceil(low / tick) * tick; v <= high + 1e-9 * tick; v += tick) {
        const double y = bottom - (v - low) / (high - low) * (bottom - PLOT_T);
        fprintf(svg, "<path d='M%d %.1fH%d' stroke='#ddd'/>", PLOT_L, y, right);
        fprintf(svg, "<text x='%d' y='%.1f' text-anchor='end'>%g</text>\n", PLOT_L - 8, y + 4,
                fabs(v) < 1e-9 * tick ? 0.0 : v);
    }
    tick = tick_step(steps < 6.0 ? 6.0 : steps);
    for (double v = 0.0; v <= steps; v += tick) {
        const double x = PLOT_L + v / steps * (right - PLOT_L);
        fprintf(svg, "<path d='M%.1f %dv5' stroke='#666'/>", x, bottom);
        fprintf(svg, "<text x='%.1f' y='%d' text-anchor='middle'>%.0f</text>\n", x, bottom + 20, v);
    }
    fprintf(svg, "<path d='M%d %dV%dH%d' fill='none' stroke='#666'/>\n", PLOT_L, PLOT_T, bottom,
            right);
    fprintf(svg, "<text x='%d' y='%d' text-anchor='middle'>step</text>\n", (PLOT_L + right) / 2,
            PLOT_H - 8);
}

static void plot_curve(FILE *svg, const history *h, const double *values, int points, double low,
                       double high, const char *colour, const char *look) {
    const int right = PLOT_W - PLOT_R, bottom = PLOT_H - PLOT_B;
    fprintf(svg, "<polyline clip-path='url(#area)' fill='none' stroke='%s' %s points='", colour,
            look);
    for (int p = 0; p < points; p++) {
        const long middle = ((2 * p + 1) * h->count / points - 1) / 2;
        const double x =
            PLOT_L + (double)h->steps[middle] / (double)h->steps[h->count - 1] * (right - PLOT_L);
        fprintf(svg, "%.1f,%.1f ", x,
                bottom - (values[p] - low) / (high - low) * (bottom - PLOT_T));
    }
    fprintf(svg, "'/>\n");
}

/* Every metric as a thin raw and a thick smoothed line. The range follows the smoothed ones. */
static void plot(const history *h, const char *path, const char *title) {
    static const char *const colours[] = {"#1f77b4", "#d62728", "#2ca02c",
                                          "#9467bd", "#ff7f0e", "#17becf"};
    static double raw[MAX_METRICS][PLOT_POINTS], smooth[MAX_METRICS][PLOT_POINTS];
    double low = 0.0, high = 1e-6;
    int points = 0;
    FILE *svg = h->count > 0 ? fopen(path, "w") : NULL;
    if (!svg) {
        return;
    }
    for (int k = 0; k < h->metrics; k++) {
        points = plot_points(h, k, raw[k], smooth[k]);
        for (int p = 0; p < points; p++) {
            low = smooth[k][p] < low ? smooth[k][p] : low;
            high = smooth[k][p] > high ? smooth[k][p] : high;
        }
    }
    high += 0.15 * (high - low);
    low -= low < 0.0 ? 0.1 * (high - low) : 0.0;
    fprintf(svg,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' viewBox='0 0 %d %d' "
            "font-family='sans-serif' font-size='12' fill='#333'>\n",
            PLOT_W, PLOT_H, PLOT_W, PLOT_H);
    fprintf(svg,
            "<rect width='100%%' height='100%%' fill='#fff'/>\n<clipPath id='area'>"
            "<rect x='%d' y='%d' width='%d' height='%d'/></clipPath>\n",
            PLOT_L, PLOT_T, PLOT_W - PLOT_L - PLOT_R, PLOT_H - PLOT_T - PLOT_B);
    fprintf(svg, "<text x='%d' y='26' font-size='15'>%s</text>\n", PLOT_L, title);
    plot_axes(svg, h, low, high);
    for (int k = 0; k < h->metrics; k++) {
        const char *colour = colours[k % (int)(sizeof colours / sizeof colours[0])];
        const int x = PLOT_W - PLOT_R - 110 * (h->metrics - k);
        plot_curve(svg, h, raw[k], points, low, high, colour, "stroke-width='1' opacity='0.3'");
        plot_curve(svg, h, smooth[k], points, low, high, colour, "stroke-width='2'");
        fprintf(svg,
                "<path d='M%d 22h20' stroke='%s' stroke-width='2'/><text x='%d' y='26'>%s</text>\n",
                x, colour, x + 26, h->names[k]);
    }
    fprintf(svg, "</svg>\n");
    fclose(svg);
}

/* ---- training ------------------------------------------------------------------------------ */

typedef struct training {
    gan_context *ctx;
    gan_model *model;
    gan_dataset *data;
    gan_model_info info;
    options given;
    history losses;
    FILE *csv;
    float *grid; /* [GRID_ROWS * columns,c,h,w] */
    int columns;
    double smooth[MAX_METRICS]; /* running means for the progress line */
    long first, steps, every;   /* first: steps done before this run */
    double started, shown;      /* times */
    int terminal;
} training;

/* Of a grid of samples: a column shows one class, where the model knows some. */
static int grid_columns(const gan_model_info *info) {
    return info->classes > 1 && info->classes <= 40 ? info->classes : 8;
}

/* "OUT/name" */
static const char *result_path(const training *t, char *path, size_t size, const char *name) {
    snprintf(path, size, "%s/%s", t->given.out, name);
    return path;
}

static void show_progress(training *t, long step) {
    const double seconds = now() - t->started;
    const long done = step - t->first - 1;
    const double rate = seconds > 0.0 ? (double)done / seconds : 0.0;
    const long left = rate > 0.0 ? (long)((double)(t->steps - step) / rate + 0.5) : 0;
    const int width = 24, full = (int)(width * step / t->steps);
    printf("%s%s %*ld/%ld ", t->terminal ? "\r" : "", t->info.system->name,
           t->steps < 10000 ? 4 : 6, step, t->steps);
    if (t->terminal) {
        printf("[%.*s%.*s] ", full, "########################", width - full,
               "........................");
    }
    for (int k = 0; k < t->losses.metrics; k++) {
        printf(" %s %.4f", t->losses.names[k], t->smooth[k]);
    }
    printf("  %.*f images/s  %ld:%02ld left%s", rate * t->info.batch < 10.0 ? 1 : 0,
           rate * t->info.batch, left / 60, left % 60, t->terminal ? "\033[K" : "\n");
    fflush(stdout);
    t->shown = now();
}

/* Adds the metrics of a step to history, file and running means. */
static int record(training *t, long step) {
    float values[MAX_METRICS];
    for (int k = 0; k < t->losses.metrics; k++) {
        values[k] = gan_model_metric(t->model, k).value;
        const double weight = step == t->first + 1 ? 1.0 : 0.05;
        t->smooth[k] += weight * ((double)values[k] - t->smooth[k]);
    }
    if (!history_add(&t->losses, step, values)) {
        return fail(FAILED, "out of memory");
    }
    csv_row(t->csv, &t->losses, t->losses.count - 1);
    return OK;
}

/* Sample grid, plot and checkpoint. */
static int write_results(training *t, long step) {
    char path[1200], name[64];
    const gan_model_info *info = &t->info;
    snprintf(name, sizeof name, "samples-%06ld.png", step);
    const char *const names[] = {name, "samples.png"};
    gan_status status =
        gan_model_sample(t->model, t->grid, GRID_ROWS * t->columns, NULL, info->seed);
    for (int i = 0; i < 2 && status == GAN_OK; i++) {
        status = gan_image_write_grid(t->ctx, result_path(t, path, sizeof path, names[i]), t->grid,
                                      GRID_ROWS * t->columns, info->channels, info->height,
                                      info->width, t->columns, -1.0f, 1.0f);
    }
    fflush(t->csv);
    if (status == GAN_OK) {
        snprintf(name, sizeof name, "%s: losses", info->system->name);
        plot(&t->losses, result_path(t, path, sizeof path, "losses.svg"), name);
        status = gan_model_save(t->model, result_path(t, path, sizeof path, "model.safetensors"));
    }
    return status == GAN_OK ? OK : fail_with(FAILED, t->ctx);
}

static int train_loop(training *t) {
    long step = t->first, saved = step;
    int status = OK;
    while (step < t->steps && !interrupted && status == OK) {
        if (gan_model_train(t->model, t->data) != GAN_OK) {
            return fail_with(FAILED, t->ctx);
        }
        status = record(t, ++step);
        if (step == t->first + 1) { /* the first step also allocates: it is left out of the rate */
            t->started = now();
        }
        if (now() - t->shown >= (t->terminal ? 0.2 : 10.0) && step < t->steps) {
            show_progress(t, step);
        }
        if (status == OK && step % t->every == 0) {
            status = write_results(t, step);
            saved = step;
        }
    }
    if (status == OK && saved != step) {
        status = write_results(t, step);
    }
    if (status == OK) {
        show_progress(t, step);
    }
    return status;
}

/* ---- commands ------------------------------------------------------------------------------ */

/* The model: from the checkpoint in the folder, or new. Sizes that are not given are those of the
 * data where these are smaller than the system's own. */
static int open_model(training *t, const char *system) {
    const options *given = &t->given;
    gan_model_desc desc;
    gan_dataset *data = NULL;
    char path[1200];
    memset(&desc, 0, sizeof desc);
    desc.system = system;
    desc.height = (int)(given->height > 0.0 ? given->height : given->size);
    desc.width = (int)(given->width > 0.0 ? given->width : given->size);
    desc.channels = (int)given->channels;
    desc.batch = (int)given->batch;
    desc.seed = (uint64_t)given->seed;
    desc.options = given->model;
    result_path(t, path, sizeof path, "model.safetensors");
    if (given->resume > 0.0) {
        if (gan_model_load(&t->model, t->ctx, path, &desc) != GAN_OK) {
            return fail_with(USAGE, t->ctx);
        }
        return OK;
    }
    if (file_exists(path) && given->overwrite == 0.0) {
        return fail(USAGE, "%s exists: --resume goes on from it, --overwrite starts anew", path);
    }
    if (gan_dataset_open(&data, t->ctx, given->data, NULL) != GAN_OK) {
        return fail_with(USAGE, t->ctx);
    }
    const gan_shape native = gan_dataset_shape(data);
    const gan_model_desc usual = gan_model_defaults(system);
    gan_dataset_close(data);
    desc.seed = desc.seed ? desc.seed : 1;
    desc.channels = desc.channels ? desc.channels : native.dim[0];
    if (!desc.height && !desc.width && native.dim[1] <= usual.height &&
        native.dim[2] <= usual.width) {
        desc.height = native.dim[1];
        desc.width = native.dim[2];
    }
    return gan_model_create(&t->model, t->ctx, &desc) == GAN_OK ? OK : fail_with(USAGE, t->ctx);
}

/* Where the data is, kept in OUT/data.txt so that --resume needs no --data. */
static void remember_data(training *t, char *text, size_t size) {
    char path[1200];
    FILE *file;
    result_path(t, path, sizeof path, "data.txt");
    if (t->given.data || t->given.resume == 0.0) {
        file = fopen(path, "w");
        if (file) {
            fprintf(file, "%s\n", t->given.data ? t->given.data : "digits");
            fclose(file);
        }
    } else if ((file = fopen(path, "r")) != NULL) {
        if (fgets(text, (int)size, file)) {
            text[strcspn(text, "\r\n")] = '\0';
            t->given.data = text;
        }
        fclose(file);
    }
}

static int open_data(training *t) {
    gan_dataset_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.height = t->info.height;
    desc.width = t->info.width;
    desc.channels = t->info.channels;
    if (gan_dataset_open(&t->data, t->ctx, t->given.data, &desc) != GAN_OK) {
        return fail_with(USAGE, t->ctx);
    }
    const double epoch = ceil((double)gan_dataset_count(t->data) / t->info.batch);
    t->steps = (long)(t->given.epochs > 0.0  ? ceil(t->given.epochs * epoch)
                      : t->given.steps > 0.0 ? t->given.steps
                                             : 2000.0);
    t->every = (long)(t->given.every > 0.0 ? t->given.every : ceil((double)t->steps / 10.0));
    return OK;
}

/* Reads what a resume has, opens losses.csv. */
static int open_results(training *t) {
    char path[1200];
    gan_metric metric;
    for (int k = 0; (metric = gan_model_metric(t->model, k)).name && k < MAX_METRICS; k++) {
        snprintf(t->losses.names[k], sizeof t->losses.names[k], "%s", metric.name);
        t->losses.metrics = k + 1;
    }
    result_path(t, path, sizeof path, "losses.csv");
    if (t->given.resume > 0.0) {
        history_read(&t->losses, path, t->first);
    }
    t->csv = csv_open(&t->losses, path);
    t->columns = grid_columns(&t->info);
    t->grid =
        (float *)malloc(sizeof(float) * GRID_ROWS * (size_t)t->columns * (size_t)t->info.channels *
                        (size_t)t->info.height * (size_t)t->info.width);
    if (!t->grid) {
        return fail(FAILED, "out of memory");
    }
    return t->csv ? OK : fail(USAGE, "cannot write %s", path);
}

static int run_training(training *t, const char *system, char *data_text, size_t data_size) {
    int status = open_model(t, system);
    if (status != OK) {
        return status;
    }
    gan_model_get_info(t->model, &t->info);
    if (strcmp(t->info.system->name, system) != 0) {
        return fail(USAGE, "the checkpoint in %s is of system %s", t->given.out,
                    t->info.system->name);
    }
    make_folder(t->given.out);
    remember_data(t, data_text, data_size);
    t->first = (long)t->info.step;
    status = open_data(t);
    status = status != OK ? status : open_results(t);
    if (status != OK) {
        return status;
    }
    if (t->first >= t->steps) {
        printf("%s has done its %ld steps already; more with --steps\n", t->given.out, t->steps);
        return OK;
    }
    printf("%s: images %d x %d x %d, batch %d, seed %lu, %s; %d threads, %s; ", system,
           t->info.channels, t->info.height, t->info.width, t->info.batch,
           (unsigned long)t->info.seed, t->info.options, gan_context_threads(t->ctx),
           gan_context_isa(t->ctx));
    print_bytes((double)t->info.train_bytes);
    printf("\n");
    t->started = t->shown = now();
    t->terminal = isatty(fileno(stdout));
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    return train_loop(t);
}

static int command_train(int argc, char **argv) {
    const gan_system *system = argc > 2 ? gan_system_find(argv[2]) : NULL;
    char data_text[1024], out[64];
    training t;
    memset(&t, 0, sizeof t);
    if (!system) {
        return argc > 2 && strcmp(argv[2], "--help") != 0
                   ? fail(USAGE, "no system \"%s\" (see: gan list)", argv[2])
                   : fail(USAGE, "train what? gan train SYSTEM [options] (see: gan list)");
    }
    int status = parse(&t.given, argc, argv, 3, 't', system);
    if (status != OK) {
        return status;
    }
    if (t.given.help > 0.0) {
        printf("gan train %s [options]: %s (%s)\n", system->name, system->title, system->paper);
        printf("images %d x %d x %d (channels, height, width), batch %d by default\n",
               system->channels, system->height, system->width, system->batch);
        print_options('t', system);
        return OK;
    }
    snprintf(out, sizeof out, "gan-%s", system->name);
    t.given.out = t.given.out ? t.given.out : out;
    t.ctx = open_context(&t.given);
    if (!t.ctx) {
        return FAILED;
    }
    status = run_training(&t, system->name, data_text, sizeof data_text);
    if (status == OK && t.csv) {
        printf("%s%s: samples.png, losses.svg, losses.csv, model.safetensors\n",
               t.terminal ? "\n" : "", t.given.out);
    }
    if (status == OK && interrupted) {
        printf("stopped; this goes on: gan train %s --out %s --steps %ld --resume\n", system->name,
               t.given.out, t.steps);
        status = INTERRUPTED;
    }
    if (t.csv) {
        fclose(t.csv);
    }
    gan_dataset_close(t.data);
    gan_model_destroy(t.model);
    gan_context_destroy(t.ctx);
    free(t.losses.steps);
    free(t.losses.values);
    free(t.grid);
    return status;
}

/* Draws images from a model into a picture file. */
static int sample(gan_context *ctx, gan_model *model, const options *given) {
    const uint64_t seed = given->seed > 0.0 ? (uint64_t)given->seed : 1;
    gan_model_info info;
    if (gan_model_get_info(model, &info) != GAN_OK) {
        return fail_with(FAILED, ctx);
    }
    const int columns = given->columns > 0.0 ? (int)given->columns : grid_columns(&info);
    const int n = given->n > 0.0 ? (int)given->n : GRID_ROWS * columns;
    const size_t pixels = (size_t)info.channels * (size_t)info.height * (size_t)info.width;
    float *images = (float *)malloc((size_t)n * pixels * sizeof *images);
    if (!images) {
        return fail(FAILED, "out of memory");
    }
    int status = OK;
    if (gan_model_sample(model, images, n, given->model, seed) != GAN_OK ||
        gan_image_write_grid(ctx, given->out, images, n, info.channels, info.height, info.width,
                             columns, -1.0f, 1.0f) != GAN_OK) {
        status = fail_with(USAGE, ctx);
    }
    free(images);
    return status;
}

/* Memory and arithmetic of a model, its networks and their tensors. */
static int print_info(gan_context *ctx, gan_model *model) {
    gan_params *params = gan_model_params(model);
    gan_model_info info;
    if (gan_model_get_info(model, &info) != GAN_OK) {
        return fail_with(FAILED, ctx);
    }
    printf("%s: %s (%s)\n", info.system->name, info.system->title, info.system->paper);
    printf("  images   %d x %d x %d (channels, height, width)\n", info.channels, info.height,
           info.width);
    printf("  training step %lu, batch %d, seed %lu\n", (unsigned long)info.step, info.batch,
           (unsigned long)info.seed);
    printf("  options  %s\n", info.options);
    printf("  sampling takes ");
    print_bytes((double)info.sample_bytes);
    printf(" and %.1f million multiply-adds an image\n  training takes ",
           info.sample_multiply_adds * 1e-6);
    print_bytes((double)info.train_bytes);
    printf(" and %.1f billion multiply-adds a step\n", info.train_multiply_adds * 1e-9);
    char network[64] = "";
    double weights = 0.0, state = 0.0;
    for (int i = 0;; i++) {
        const gan_param_info param = gan_params_at(params, i);
        const int length = param.data ? (int)strcspn(param.name, ".") : 0;
        if (param.data && param.kind == GAN_PARAM_STATE) {
            state += (double)gan_shape_count(param.shape);
            continue;
        }
        if (!param.data || (int)strlen(network) != length ||
            strncmp(network, param.name, (size_t)length) != 0) {
            if (network[0]) {
                printf("  %.0f weights\n", weights);
            }
            weights = 0.0;
            if (!param.data) {
                break;
            }
            snprintf(network, sizeof network, "%.*s", length, param.name);
            printf("%s\n", network);
        }
        char shape[64] = "";
        for (int d = 0; d < param.shape.rank; d++) {
            const size_t used = strlen(shape);
            snprintf(shape + used, sizeof shape - used, d ? ",%d" : "%d", param.shape.dim[d]);
        }
        printf("  %-40s [%s]%s\n", param.name, shape,
               param.kind == GAN_PARAM_BUFFER ? " buffer" : "");
        weights += param.kind == GAN_PARAM_WEIGHT ? (double)gan_shape_count(param.shape) : 0.0;
    }
    printf("optimiser state: %.0f numbers\n", state);
    return OK;
}

/* Commands on a checkpoint: gan sample MODEL ..., gan info MODEL. */
static int command_model(int argc, char **argv, char command) {
    options given;
    gan_model *model = NULL;
    gan_model_desc desc;
    memset(&given, 0, sizeof given);
    memset(&desc, 0, sizeof desc);
    if (argc < 3 || strncmp(argv[2], "--", 2) == 0) {
        printf("gan %s MODEL.safetensors [options]\n", argv[1]);
        print_options(command, NULL);
        return argc < 3 || strcmp(argv[2], "--help") != 0 ? USAGE : OK;
    }
    int status = parse(&given, argc, argv, 3, command, NULL);
    if (status != OK) {
        return status;
    }
    if (command == 's' && !given.out) {
        return fail(USAGE, "sample: --out is missing, a picture file such as grid.png");
    }
    gan_context *ctx = open_context(&given);
    if (!ctx) {
        return FAILED;
    }
    desc.disable_training = command == 's';
    if (gan_model_load(&model, ctx, argv[2], &desc) != GAN_OK) {
        status = fail_with(USAGE, ctx);
    } else {
        status = command == 's' ? sample(ctx, model, &given) : print_info(ctx, model);
    }
    gan_model_destroy(model);
    gan_context_destroy(ctx);
    return status;
}

static int command_list(void) {
    const gan_system *system;
    for (int i = 0; (system = gan_system_at(i)) != NULL; i++) {
        printf("%-10s %s (%s)\n", system->name, system->title, system->paper);
    }
    return OK;
}

static int command_help(void) {
    printf(
        "gan list                         the systems, one line each\n"
        "gan train SYSTEM [options]       trains one; gan train SYSTEM --help lists the options\n"
        "gan sample MODEL --out grid.png  draws images from a checkpoint\n"
        "gan info MODEL                   what a checkpoint holds, memory and arithmetic\n"
        "gan help                         this list\n\noptions of train:\n");
    print_options('t', NULL);
    printf("options of sample:\n");
    print_options('s', NULL);
    printf("  --label K            class of all images, for systems with classes\n");
    return OK;
}

/* OpenMP's threads burn a core while they wait for one another, which on a busy machine can cost
 * far more than it saves. The runtime reads its environment before main, so the program starts
 * itself once more with waiting threads asleep, unless the caller has chosen. */
static void let_threads_sleep(char **argv) {
#if defined(_OPENMP) && !defined(_WIN32)
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 0) == 0) {
        execvp(argv[0], argv); /* returns only if it fails: then we go on as we are */
    }
#else
    (void)argv;
#endif
}

int main(int argc, char **argv) {
    let_threads_sleep(argv);
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "list") == 0) {
        return command_list();
    }
    if (strcmp(command, "train") == 0) {
        return command_train(argc, argv);
    }
    if (strcmp(command, "sample") == 0 || strcmp(command, "info") == 0) {
        return command_model(argc, argv, command[0]);
    }
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0) {
        return command_help();
    }
    command_help();
    return command[0] ? fail(USAGE, "unknown command \"%s\"", command) : USAGE;
}
