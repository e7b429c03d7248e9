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

#include <errno.h>
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
#include <fcntl.h>
#include <io.h>
#define isatty _isatty
#define fileno _fileno
#else
#include <unistd.h>
#endif

enum {
    OK = 0,
    FAILED = 1,
    USAGE = 2,
    INTERRUPTED = 130,
    GRID_ROWS = 8,
    MAX_METRICS = 24,
    MAX_FOLDER = 1024 /* bytes of a folder's path, with the 0 at the end */
};

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

static int file_exists(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file) {
        fclose(file);
    }
    return file != NULL;
}

static int is_folder(const char *path) {
    struct stat info;
#ifdef _WIN32
    return stat(path, &info) == 0 && (info.st_mode & _S_IFDIR) != 0;
#else
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
#endif
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) { /* the second one ends the program at once */
    interrupted = 1;
    signal(number, SIG_DFL);
}

/* ---- messages ---------------------------------------------------------------------------- */

/* A text that may come from a file: what would command a terminal shows as "?". */
static void print_text(FILE *to, const char *text) {
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        putc(c < 32 || c == 127 ? '?' : c, to);
    }
}

static int fail(int code, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "gan: ");
    print_text(stderr, text);
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

/* Makes a folder and those above it. */
static int make_folder(const char *path) {
    char part[MAX_FOLDER];
    int reason = 0;
    for (size_t i = 1; i <= strlen(path) && i < sizeof part; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
            errno = 0;
#ifdef _WIN32
            _mkdir(part);
#else
            mkdir(part, 0777);
#endif
            reason = errno;
        }
    }
    return strlen(path) < sizeof part && is_folder(path)
               ? OK
               : fail(USAGE, "cannot make the folder %s: %s", path,
                      strlen(path) < sizeof part ? strerror(reason) : "the name is too long");
}

/* Whether b becomes a[0 ... length-1] by so many letters put in, left out, changed or swapped with
 * the next at most. */
static int is_near(const char *a, int length, const char *b, int changes) {
    if (length > 0 && *a == *b) {
        return is_near(a + 1, length - 1, b + 1, changes);
    }
    if (length == 0 && !*b) {
        return 1;
    }
    const int swapped = length > 1 && *b && a[0] == b[1] && a[1] == b[0];
    return changes > 0 && ((length > 0 && is_near(a + 1, length - 1, b, changes - 1)) ||
                           (*b && is_near(a, length, b + 1, changes - 1)) ||
                           (length > 0 && *b && is_near(a + 1, length - 1, b + 1, changes - 1)) ||
                           (swapped && is_near(a + 2, length - 2, b + 2, changes - 1)));
}

/* Of the names looked at so far, one like what was typed. */
typedef struct guess {
    const char *typed, *name; /* name: NULL while there is none */
    int length, changes;
} guess;

static guess guess_for(const char *typed, int length) {
    guess g;
    g.typed = typed;
    g.name = NULL;
    g.length = length;
    g.changes = length < 4 ? 1 : 2;
    return g;
}

static void guess_try(guess *g, const char *name) {
    for (int changes = 1; changes <= g->changes; changes++) {
        if (is_near(g->typed, g->length, name, changes)) {
            g->name = name;
            g->changes = changes - 1; /* from now on a better one only */
        }
    }
}

/* The end of a message: "; did you mean NAME?" */
typedef struct guess_text {
    char text[80];
} guess_text;

static guess_text guess_end(const guess *g, const char *dashes) {
    guess_text end = {""};
    if (g->name) {
        snprintf(end.text, sizeof end.text, "; did you mean %s%s?", dashes, g->name);
    }
    return end;
}


/* ---- command line ------------------------------------------------------------------------ */

/* What is given on the command line, for all commands. Zero: not given. */
typedef struct options {
    const char *out, *data, *data_b, *data_instances, *pairs, *derive;
    const char *direction, *frame, *resize, *format, *code, *plan, *start, *vgg_weights;
    const char *prefix, *set;
    double steps, epochs, every, batch, size, height, width, channels, seed, threads, n, columns;
    double swap, load_size, flip, first, count, channels_b;
    double recompute, resume, overwrite, interpolate, frames, sides, help;
    char model[1024]; /* options and inputs of the system: "ngf=32 lr=1e-4" */
} options;

/* Commands, as letters. */
enum { TRAIN = 't', SAMPLE = 's', TRANSLATE = 'x', INFO = 'i', CONVERT = 'c', DATA = 'd' };

typedef struct option_row {
    const char *name, *value; /* value NULL: a switch; "[...]": one that may have "=value" */
    const char *commands;     /* those that take it, see above; d: it says what the data is */
    const char *help;
    size_t offset;
    double low, high; /* of a number; a text if both are 0 */
} option_row;

static const option_row option_rows[] = {
    {"out", "PATH", "ts", "folder for results (train) or picture file (sample)",
     offsetof(options, out), 0, 0},
    {"data", "PATH", "td", "folder of images, list of files or IDX file; default: drawn digits",
     offsetof(options, data), 0, 0},
    {"data-b", "PATH", "td", "systems with two domains: where the images of B are",
     offsetof(options, data_b), 0, 0},
    {"data-instances", "PATH", "td", "instance maps that belong to the images of A",
     offsetof(options, data_instances), 0, 0},
    {"pairs", "KIND", "td",
     "what B is: sides (halves of each image), names (files of --data-b named alike), unpaired, "
     "derived (made from A), halves (made from other images than A)",
     offsetof(options, pairs), 0, 0},
    {"derive", "KIND", "td", "how B is made from A: negative, rotate, edges, grey",
     offsetof(options, derive), 0, 0},
    {"swap", NULL, "td", "A and B change places", offsetof(options, swap), 0, 1},
    {"load-size", "N", "td", "scale images to N first, then cut out the size at random",
     offsetof(options, load_size), 1, 65536},
    {"flip", NULL, "td", "mirror half of the images", offsetof(options, flip), 0, 1},
    {"first", "N", "td", "leave out the first N records", offsetof(options, first), 1, 1e9},
    {"count", "N", "td", "use only N records", offsetof(options, count), 1, 1e9},
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
    {"channels-b", "N", "t", "of domain B; default: as --channels, or as the data",
     offsetof(options, channels_b), 1, 4},
    {"seed", "N", "tsx", "same seed, same bits; default 1", offsetof(options, seed), 1, 9e15},
    {"threads", "N", "tsxi", "default: all processors; results do not depend on it",
     offsetof(options, threads), 1, 256},
    {"recompute", NULL, "ti",
     "training: less memory, more time, same bits; see gan_context_desc.recompute",
     offsetof(options, recompute), 0, 1},
    {"start-from", "FILE", "t",
     "begin with the weights of this checkpoint, or .pth, that fit by name and shape",
     offsetof(options, start), 0, 0},
    {"vgg-weights", "FILE", "t",
     "pix2pixhd with --vgg: the weights of VGG-19, named as torchvision's",
     offsetof(options, vgg_weights), 0, 0},
    {"resume", NULL, "t", "go on from the checkpoint in the folder", offsetof(options, resume), 0,
     1},
    {"overwrite", NULL, "t", "start anew where the folder holds a checkpoint",
     offsetof(options, overwrite), 0, 1},
    {"n", "N", "s", "number of images; default: 8 rows", offsetof(options, n), 1, 1e6},
    {"columns", "N", "s", "columns of the grid; default 8, or one for each class",
     offsetof(options, columns), 1, 1e6},
    {"interpolate", NULL, "s", "a row walks from one noise to another",
     offsetof(options, interpolate), 0, 1},
    {"code", "NAME|X", "s",
     "a row shows all values of this input, noise and the rest staying; a number: of the input "
     "\"code\", which infogan has",
     offsetof(options, code), 0, 0},
    {"frames", NULL, "s",
     "a row shows how an image is drawn; also as an animation, grid-frames.png beside grid.png",
     offsetof(options, frames), 0, 1},
    {"direction", "ab|ba", "x",
     "systems that go both ways: from domain A to B (default) or back",
     offsetof(options, direction), 0, 0},
    {"resize", "WxH", "x", "scale images to this size first; default: as they are",
     offsetof(options, resize), 0, 0},
    {"format", "NAME", "x", "of the files in a folder: png (default), ppm, pgm",
     offsetof(options, format), 0, 0},
    {"frame", "WxHxC", "x", "IN and OUT are -: raw frames, C bytes a pixel, from input to output",
     offsetof(options, frame), 0, 0},
    {"sides", NULL, "x", "images hold A and B side by side: the half to translate is taken",
     offsetof(options, sides), 0, 1},
    {"data-instances", "PATH", "x", "instance maps that belong to IN: a file or a folder",
     offsetof(options, data_instances), 0, 0},
    {"plan", "[=train]", "i", "time every layer of using the model, or of training it",
     offsetof(options, plan), 0, 0},
    {"prefix", "TEXT", "c", "only tensors whose names begin with it, which is left out",
     offsetof(options, prefix), 0, 0},
    {"set", "\"NAME=X ...\"", "sxi",
     "options of the model that replace the file's, or that a PyTorch file cannot tell "
     "(layout=september, norm=batch ...)",
     offsetof(options, set), 0, 0},
    {"help", NULL, "tsxic", "show the options", offsetof(options, help), 0, 1},
};
enum { OPTION_ROWS = sizeof option_rows / sizeof option_rows[0] };

/* "  --name X   help", the help broken into lines. */
static void print_option(const char *name, const char *help) {
    printf("  %-22s", name);
    int column = 24 > 2 + (int)strlen(name) ? 24 : 2 + (int)strlen(name);
    while (*help) {
        const int length = (int)strcspn(help, " ");
        if (column + 1 + length > 98) {
            printf("\n%24s", "");
            column = 24;
        }
        printf(" %.*s", length, help);
        column += 1 + length;
        help += length + (help[length] == ' ');
    }
    printf("\n");
}

static void print_options(char command, const gan_system *system) {
    char text[64], help[512];
    for (int i = 0; i < OPTION_ROWS; i++) {
        const option_row *row = &option_rows[i];
        if (strchr(row->commands, command)) {
            snprintf(text, sizeof text, "--%s%s%s", row->name,
                     row->value && row->value[0] != '[' ? " " : "", row->value ? row->value : "");
            print_option(text, row->help);
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
            snprintf(help, sizeof help, "%s: one of %s; default %.*s", option->help,
                     option->choices, (int)strcspn(usual, " "), usual);
        } else {
            snprintf(help, sizeof help, "%s; default %g", option->help, option->standard);
        }
        print_option(text, help);
    }
    if (command == SAMPLE) {
        print_option("--INPUT X", "any input of the model (see gan info), --label 3 for example");
    } else if (command == TRANSLATE) {
        print_option("--INPUT X", "any input of the model (see gan info), --dropout 0 for example");
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
    return command == SAMPLE || command == TRANSLATE;
}

/* An option of the command or the system with a name like this one. */
static guess near_option(char command, const gan_system *system, const char *name, int length) {
    guess g = guess_for(name, length);
    for (int i = 0; i < OPTION_ROWS; i++) {
        if (strchr(option_rows[i].commands, command)) {
            guess_try(&g, option_rows[i].name);
        }
    }
    for (int i = 0; system && i < system->option_count; i++) {
        guess_try(&g, system->options[i].name);
    }
    return g;
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
            const guess near = near_option(command, system, name, length);
            return fail(USAGE, "unknown option --%.*s (try: gan %s%s%s --help)%s", length, name,
                        argv[1], system ? " " : "", system ? system->name : "",
                        guess_end(&near, "--").text);
        }
        if (name[length] == '=') {
            value = name + length + 1;
        } else if (row && row->value && row->value[0] == '[') {
            value = "";
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

static void write_note(void *user, const char *message) {
    (void)user;
    print_text(stderr, message);
    fprintf(stderr, "\n");
}

static gan_context *open_context(const options *given) {
    gan_context *ctx = NULL;
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.logger.write = write_note;
    desc.threads = (int)given->threads;
    desc.recompute = given->recompute != 0.0;
    const gan_status status = gan_context_create(&ctx, &desc);
    if (status != GAN_OK) {
        fail(FAILED, "%s (GAN_ISA=%s)", gan_status_text(status),
             getenv("GAN_ISA") ? getenv("GAN_ISA") : "");
    }
    return ctx;
}

/* ---- data ---------------------------------------------------------------------------------- */

/* Number of a word among several, -1 if it is none of them. */
static int word_index(const char *word, const char *const *words) {
    for (int i = 0; words[i]; i++) {
        if (strcmp(word, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/* Adds what the command line says of the data, for a system that wants several images in a record.
 * Where it says nothing, drawn digits are paired with their negatives, and of a single file (MNIST)
 * one half with the negatives of the other for systems that need no pairs. */
static int pair_data(gan_dataset_desc *desc, const options *given, const gan_system *system) {
    static const char *const pairs[] = {"none",    "sides",  "names", "unpaired",
                                        "derived", "halves", NULL};
    static const char *const derives[] = {"negative", "rotate", "edges", "grey", NULL};
    const int single = !system->paired && given->data && !given->data_b && !is_folder(given->data);
    const int derived = given->derive || !given->data || single;
    int pairing = system->paired ? (derived         ? GAN_PAIRING_DERIVED
                                    : given->data_b ? GAN_PAIRING_NAMES
                                                    : GAN_PAIRING_SIDES)
                                 : (derived ? GAN_PAIRING_HALVES : GAN_PAIRING_UNPAIRED);
    int derive = GAN_DERIVE_NEGATIVE;
    if (given->pairs) {
        pairing = word_index(given->pairs, pairs);
    }
    if (given->derive) {
        derive = word_index(given->derive, derives);
    }
    if (pairing < 1 || derive < 0) {
        return fail(USAGE, "--pairs: sides, names, unpaired, derived or halves expected; --derive: "
                           "negative, rotate, edges or grey");
    }
    desc->pairing = (gan_pairing)pairing;
    desc->derive = (gan_derive)derive;
    desc->path_b = given->data_b;
    desc->path_instances = given->data_instances;
    desc->swap = given->swap > 0.0;
    return OK;
}

static int describe_data(gan_dataset_desc *desc, const options *given, const gan_system *system) {
    desc->load_height = desc->load_width = (int)given->load_size;
    desc->random_crop = given->load_size > 0.0;
    desc->random_flip = given->flip > 0.0;
    desc->first = (int)given->first;
    desc->count = (int)given->count;
    if (system->parts > 1) {
        return pair_data(desc, given, system);
    }
    return given->pairs || given->derive || given->data_b || given->data_instances ||
                   given->swap > 0.0
               ? fail(USAGE,
                      "%s learns from single images: no --pairs, --derive, --data-b, "
                      "--data-instances, --swap",
                      system->name)
               : OK;
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
        const long before = h->count > 0 ? h->steps[h->count - 1] : 0;
        if (read == h->metrics && step > before && step <= last) { /* else it is damaged */
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

/* A file that is written under another name first, so that one under its own is whole. */
static FILE *begin_file(const char *path, char *temporary, size_t size) {
    snprintf(temporary, size, "%s.tmp", path);
    return fopen(temporary, "w");
}

static int end_file(FILE *file, const char *temporary, const char *path) {
    int whole = !ferror(file);
    whole = fclose(file) == 0 && whole;
#ifdef _WIN32
    remove(path); /* rename does not replace a file there */
#endif
    if (!whole || rename(temporary, path) != 0) {
        const int reason = errno;
        remove(temporary);
        return fail(FAILED, "cannot write %s: %s", path, strerror(reason));
    }
    return OK;
}

/* Opens losses.csv with its heading and the rows there are, to be continued. NULL, and a message,
 * if that fails. */
static FILE *csv_open(const history *h, const char *path) {
    char temporary[MAX_FOLDER + 200];
    FILE *csv = begin_file(path, temporary, sizeof temporary);
    if (!csv) {
        fail(FAILED, "cannot write %s: %s", path, strerror(errno));
        return NULL;
    }
    fprintf(csv, "step");
    for (int k = 0; k < h->metrics; k++) {
        fprintf(csv, ",%s", h->names[k]);
    }
    fprintf(csv, "\n");
    for (long i = 0; i < h->count; i++) {
        csv_row(csv, h, i);
    }
    if (end_file(csv, temporary, path) != OK) {
        return NULL;
    }
    csv = fopen(path, "a");
    if (!csv) {
        fail(FAILED, "cannot write %s: %s", path, strerror(errno));
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
static int plot(const history *h, const char *path, const char *title) {
    static const char *const colours[] = {"#1f77b4", "#d62728", "#2ca02c",
                                          "#9467bd", "#ff7f0e", "#17becf"};
    static double raw[MAX_METRICS][PLOT_POINTS], smooth[MAX_METRICS][PLOT_POINTS];
    double low = 0.0, high = 1e-6;
    int points = 0;
    char temporary[MAX_FOLDER + 200];
    if (h->count == 0) {
        return OK;
    }
    FILE *svg = begin_file(path, temporary, sizeof temporary);
    if (!svg) {
        return fail(FAILED, "cannot write %s: %s", path, strerror(errno));
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
    return end_file(svg, temporary, path);
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
    float *records; /* [rows][parts]: images whose translations are shown, as the data has them */
    int rows, spread, collapsed;
    double spread_most;
    int computed[MAX_METRICS];  /* 1: by this run */
    double smooth[MAX_METRICS]; /* running means for the progress line */
    long first, steps, every;   /* first: steps done before this run */
    double started, shown;      /* times */
    int terminal;
} training;

/* Of a grid of samples: a column shows one class, where the model knows some. */
static int grid_columns(gan_model *model) {
    gan_input_info input;
    for (int i = 0; gan_model_input(model, "sample", i, &input) == GAN_OK && input.name; i++) {
        if (input.classes > 1) {
            return input.classes <= 40 ? input.classes : 8;
        }
    }
    return 8;
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

/* Adds the metrics of a step to history, file and running means. One that comes only in some steps
 * and has not come in this run, 0, is what it was before the break. */
static int record(training *t, long step) {
    const history *h = &t->losses;
    float values[MAX_METRICS];
    for (int k = 0; k < h->metrics; k++) {
        const int first = !t->computed[k];
        values[k] = gan_model_metric(t->model, k).value;
        t->computed[k] = t->computed[k] || values[k] != 0.0f;
        if (!t->computed[k] && h->count > 0) {
            values[k] = h->values[(h->count - 1) * h->metrics + k];
        }
        t->smooth[k] += (first ? 1.0 : 0.05) * ((double)values[k] - t->smooth[k]);
    }
    if (!history_add(&t->losses, step, values)) {
        return fail(FAILED, "out of memory");
    }
    csv_row(t->csv, &t->losses, t->losses.count - 1);
    return OK;
}

/* Says so when generated images become much alike. */
static void watch_spread(training *t, long step) {
    if (t->spread < 0 || (!t->computed[t->spread] && step < t->first + 1000)) {
        return;
    }
    const double spread = t->smooth[t->spread];
    t->spread_most = spread > t->spread_most ? spread : t->spread_most;
    if (!t->collapsed && spread < 0.2 && (t->spread_most > 0.4 || step >= t->first + 1000)) {
        printf("%swarning: generated images differ from one another only %.2f times as much as the "
               "data's (spread): mode collapse? A lower learning rate, more data or another system "
               "(wgan-gp) may help\n",
               t->terminal ? "\n" : "", spread);
        t->collapsed = 1;
    }
    t->collapsed = t->collapsed && spread < 0.4; /* it says so again after having been well */
}

/* Writes a grid as NAME-000100.png and, for the latest state, as NAME.png. */
static gan_status write_grid(training *t, const char *name, long step, const float *tiles,
                             int count, const int shape[3], int columns) {
    char path[1200], file[64];
    gan_status status = GAN_OK;
    for (int i = 0; i < 2 && status == GAN_OK; i++) {
        snprintf(file, sizeof file, i ? "%s.png" : "%s-%06ld.png", name, step);
        status = gan_image_write_grid(t->ctx, result_path(t, path, sizeof path, file), tiles, count,
                                      shape[0], shape[1], shape[2], columns, -1.0f, 1.0f);
    }
    return status;
}

static gan_status write_samples(training *t, long step) {
    const gan_model_info *info = &t->info;
    const int shape[] = {info->sample_channels, info->sample_height, info->sample_width};
    const gan_status status =
        gan_model_sample(t->model, t->grid, GRID_ROWS * t->columns, NULL, info->seed);
    return status != GAN_OK
               ? status
               : write_grid(t, "samples", step, t->grid, GRID_ROWS * t->columns, shape, t->columns);
}

/* Floats of a part of a record. */
static size_t part_size(const training *t, int part) {
    const gan_shape shape = gan_dataset_part_shape(t->data, part);
    return shape.rank > 0 ? gan_shape_count(shape) : 0;
}

/* Where a part of a record shown is; part 3: the place behind it. */
static float *record_part(const training *t, int row, int part) {
    size_t before = 0, all = 0;
    for (int p = 0; p < 3; p++) {
        before += p < part ? part_size(t, p) : 0;
        all += part_size(t, p);
    }
    return t->records + (size_t)row * all + before;
}

/* A tile of a grid of `channels` from an image of perhaps fewer; numbers of a map become shades. */
static void fill_tile(float *tile, const float *image, int channels, int image_channels,
                      size_t pixels, int is_map) {
    for (size_t i = 0; i < (size_t)channels * pixels; i++) {
        const size_t c = i / pixels;
        const float value = image[image_channels == channels ? i : i % pixels];
        const int shade = (int)((unsigned)value * (c == 0 ? 97u : c == 1 ? 57u : 151u) % 256u);
        tile[i] = is_map ? (float)shade / 127.5f - 1.0f : value;
    }
}

/* Translates record `row` from part `from` on; in: room for that part and the instances. */
static gan_status translate_record(const training *t, int row, int from, float *in, float *out) {
    const gan_model_info *info = &t->info;
    const size_t size = part_size(t, from);
    memcpy(in, record_part(t, row, from), size * sizeof *in);
    if (info->translate_in * info->height * info->width > (int)size) {
        memcpy(in + size, record_part(t, row, 2), part_size(t, 2) * sizeof *in);
    }
    return gan_model_translate(t->model, in, 1, info->height, info->width,
                               from == info->translate_part ? NULL : "direction=ba", out);
}

/* Rows of input, output and, for pairs, what the output should be; for a system that goes both ways
 * the same from the other domain. */
static gan_status write_translations(training *t, long step) {
    const gan_model_info *info = &t->info;
    const gan_dataset_desc desc = gan_model_dataset_desc(t->model);
    const int parts = gan_dataset_parts(t->data) > 1 ? 2 : 1, ways = info->system->two_way ? 2 : 1;
    const int columns = ways * (info->system->paired && parts == 2 && ways == 1 ? 3 : 2);
    const int channels = info->channels == 1 && info->channels_b == 1 && !desc.label_maps ? 1 : 3;
    const size_t pixels = (size_t)info->height * (size_t)info->width;
    const int shape[] = {channels, info->height, info->width};
    float *tiles =
        (float *)malloc(sizeof(float) * pixels * (size_t)(t->rows * columns * channels + 12));
    if (!tiles) {
        return GAN_ERR_MEMORY;
    }
    float *in = tiles + (size_t)(t->rows * columns * channels) * pixels, *out = in + 8 * pixels;
    gan_status status = GAN_OK;
    for (int row = 0; row < t->rows && status == GAN_OK; row++) {
        float *tile = tiles + (size_t)(row * columns * channels) * pixels;
        for (int way = 0; way < ways && status == GAN_OK; way++) {
            const int from = parts == 1 ? 0 : way ? !info->translate_part : info->translate_part;
            const int to = parts == 1 ? 0 : !from;
            const int from_c = gan_dataset_part_shape(t->data, from).dim[0];
            const int to_c = gan_dataset_part_shape(t->data, to).dim[0];
            status = translate_record(t, row, from, in, out);
            fill_tile(tile, record_part(t, row, from), channels, from_c, pixels,
                      desc.label_maps >> from & 1);
            fill_tile(tile + (size_t)channels * pixels, out, channels, to_c, pixels, 0);
            if (columns == 3) {
                fill_tile(tile + 2 * (size_t)channels * pixels, record_part(t, row, to), channels,
                          to_c, pixels, desc.label_maps >> to & 1);
            }
            tile += 2 * (size_t)channels * pixels;
        }
    }
    if (status == GAN_OK) {
        status = write_grid(t, "translations", step, tiles, t->rows * columns, shape, columns);
    }
    free(tiles);
    return status;
}

/* Pictures, plot and checkpoint. */
static int write_results(training *t, long step) {
    char path[1200], name[64];
    const gan_model_info *info = &t->info;
    const int has_styles = gan_params_find(gan_model_params(t->model), "clusters").data != NULL;
    gan_status status = has_styles ? gan_model_cluster(t->model, t->data) : GAN_OK;
    if (status == GAN_OK) { /* ahead of what is less worth, should the disk be full */
        status = gan_model_save(t->model, result_path(t, path, sizeof path, "model.safetensors"));
    }
    if (status == GAN_OK && info->sample_channels) {
        status = write_samples(t, step);
    }
    if (status == GAN_OK && info->translate_in) {
        status = write_translations(t, step);
    }
    if (status != GAN_OK) {
        return fail_with(FAILED, t->ctx);
    }
    if (fflush(t->csv) != 0 || ferror(t->csv)) {
        return fail(FAILED, "cannot write %s: %s", result_path(t, path, sizeof path, "losses.csv"),
                    strerror(errno));
    }
    snprintf(name, sizeof name, "%s: losses", info->system->name);
    return plot(&t->losses, result_path(t, path, sizeof path, "losses.svg"), name);
}

static int train_loop(training *t) {
    long step = t->first, saved = step;
    int status = OK;
    while (step < t->steps && !interrupted && status == OK) {
        if (gan_model_train(t->model, t->data) != GAN_OK) {
            return fail_with(FAILED, t->ctx);
        }
        status = record(t, ++step);
        watch_spread(t, step);
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
    desc.channels_b = (int)given->channels_b;
    desc.batch = (int)given->batch;
    desc.seed = (uint64_t)given->seed;
    desc.options = given->model;
    desc.vgg = given->vgg_weights;
    result_path(t, path, sizeof path, "model.safetensors");
    if (given->resume > 0.0) {
        if (given->overwrite > 0.0 || given->start) {
            return fail(USAGE, "--resume goes on from %s: no --overwrite or --start-from", path);
        }
        if (!file_exists(path)) {
            return fail(USAGE, "--resume: no %s to go on from (--out names its folder)", path);
        }
        return gan_model_load(&t->model, t->ctx, path, &desc) == GAN_OK ? OK
                                                                       : fail_with(USAGE, t->ctx);
    }
    if (file_exists(path) && given->overwrite == 0.0) {
        return fail(USAGE, "%s exists: --resume goes on from it, --overwrite starts anew", path);
    }
    gan_dataset_desc native_desc;
    memset(&native_desc, 0, sizeof native_desc);
    if (describe_data(&native_desc, given, gan_system_find(system)) != OK) {
        return USAGE;
    }
    native_desc.load_height = native_desc.load_width = 0;
    native_desc.channels = desc.channels;
    native_desc.channels_b =
        desc.channels_b ? desc.channels_b
        : native_desc.derive == GAN_DERIVE_EDGES || native_desc.derive == GAN_DERIVE_GREY
            ? 0
            : desc.channels;
    if (gan_dataset_open(&data, t->ctx, given->data, &native_desc) != GAN_OK) {
        return fail_with(USAGE, t->ctx);
    }
    const gan_shape native = gan_dataset_part_shape(data, 0);
    const gan_shape other = gan_dataset_part_shape(data, 1);
    const gan_model_desc usual = gan_model_defaults(system);
    gan_dataset_close(data);
    desc.seed = desc.seed ? desc.seed : 1;
    desc.channels = native.dim[0];
    desc.channels_b = other.rank > 0 ? other.dim[0] : 0;
    if (!desc.height && !desc.width && native.dim[1] <= usual.height &&
        native.dim[2] <= usual.width) {
        desc.height = native.dim[1];
        desc.width = native.dim[2];
    }
    gan_status made = gan_model_create(&t->model, t->ctx, &desc);
    if (made == GAN_OK && given->start) {
        made = gan_model_start(t->model, given->start);
    }
    return made == GAN_OK ? OK : fail_with(USAGE, t->ctx);
}

/* What the data is, is kept in OUT/data.txt so that --resume needs not be told: "name=value" in a
 * line for each option. Reads what the command line does not say; a --data there means others.
 * text: room for the lines, which the options then point to. */
static int recall_data(training *t, char *text, size_t size) {
    char path[1200];
    FILE *file = t->given.resume > 0.0 && !t->given.data
                     ? fopen(result_path(t, path, sizeof path, "data.txt"), "r")
                     : NULL;
    const size_t length = file ? fread(text, 1, size - 1, file) : 0;
    int status = length < size - 1 ? OK : fail(USAGE, "%s: less than %lu bytes expected", path,
                                               (unsigned long)size - 1);
    text[length] = '\0';
    for (char *line = text; *line && status == OK;) {
        char *end = line + strcspn(line, "\r\n");
        const int name = (int)strcspn(line, "=");
        const option_row *row = find_row(DATA, line, name);
        const char *field = row ? (const char *)&t->given + row->offset : "";
        const size_t room = row && row->high > 0.0 ? sizeof(double) : sizeof(char *);
        static const char unset[sizeof(double) + sizeof(char *)];
        char *next = end + strspn(end, "\r\n");
        *end = '\0';
        if (row && line + name < end && memcmp(field, unset, room) == 0) {
            status = set_option(&t->given, row, line + name + 1);
        }
        line = next;
    }
    if (file) {
        fclose(file);
    }
    return status;
}

static int keep_data(const training *t) {
    char path[1200], temporary[MAX_FOLDER + 200];
    result_path(t, path, sizeof path, "data.txt");
    FILE *file = begin_file(path, temporary, sizeof temporary);
    if (!file) {
        return fail(FAILED, "cannot write %s: %s", path, strerror(errno));
    }
    for (int i = 0; i < OPTION_ROWS; i++) {
        const option_row *row = &option_rows[i];
        const char *field = (const char *)&t->given + row->offset, *value;
        double number;
        memcpy(&value, field, sizeof value);
        memcpy(&number, field, sizeof number);
        if (strchr(row->commands, DATA) && row->high == 0.0 && value) {
            fprintf(file, "%s=%s\n", row->name, value);
        } else if (strchr(row->commands, DATA) && row->high > 0.0 && number > 0.0) {
            fprintf(file, "%s=%.15g\n", row->name, number);
        }
    }
    return end_file(file, temporary, path);
}

static int open_data(training *t) {
    gan_dataset_desc desc = gan_model_dataset_desc(t->model);
    if (describe_data(&desc, &t->given, t->info.system) != OK) {
        return USAGE;
    }
    if (gan_dataset_open(&t->data, t->ctx, t->given.data, &desc) != GAN_OK) {
        return fail_with(USAGE, t->ctx);
    }
    const double epoch = ceil((double)gan_dataset_count(t->data) / t->info.batch);
    t->steps = (long)(t->given.epochs > 0.0  ? fmin(ceil(t->given.epochs * epoch), 1e9)
                      : t->given.steps > 0.0 ? t->given.steps
                                             : 2000.0);
    t->every = (long)(t->given.every > 0.0 ? t->given.every : ceil((double)t->steps / 10.0));
    return OK;
}

/* Room for the pictures that are written: samples, and records to translate, read once. */
static int open_pictures(training *t) {
    const gan_model_info *info = &t->info;
    const int count = gan_dataset_count(t->data);
    t->columns = grid_columns(t->model);
    t->rows = info->translate_in ? (count < GRID_ROWS ? count : GRID_ROWS) : 0;
    const size_t samples = (size_t)(GRID_ROWS * t->columns * info->sample_channels) *
                           (size_t)info->sample_height * (size_t)info->sample_width;
    size_t record = 0;
    for (int p = 0; p < 3; p++) {
        record += part_size(t, p);
    }
    t->grid = (float *)malloc(sizeof(float) * (samples + 1));
    t->records = (float *)malloc(sizeof(float) * (record * (size_t)t->rows + 1));
    if (!t->grid || !t->records) {
        return fail(FAILED, "out of memory");
    }
    for (int row = 0; row < t->rows; row++) {
        float *const parts[] = {record_part(t, row, 0), record_part(t, row, 1),
                                record_part(t, row, 2)};
        if (gan_dataset_get_parts(t->data, row, parts, NULL) != GAN_OK) {
            return fail_with(USAGE, t->ctx);
        }
    }
    return OK;
}

/* Reads what a resume has, opens losses.csv. */
static int open_results(training *t) {
    char path[1200];
    gan_metric metric;
    for (int k = 0; (metric = gan_model_metric(t->model, k)).name && k < MAX_METRICS; k++) {
        snprintf(t->losses.names[k], sizeof t->losses.names[k], "%s", metric.name);
        t->losses.metrics = k + 1;
        t->spread = strcmp(metric.name, "spread") == 0 ? k : t->spread;
    }
    result_path(t, path, sizeof path, "losses.csv");
    if (t->given.resume > 0.0) {
        history_read(&t->losses, path, t->first);
    }
    t->csv = csv_open(&t->losses, path);
    return t->csv ? OK : FAILED;
}

static int run_training(training *t, const char *system, char *data_text, size_t data_size) {
    if (strlen(t->given.out) >= MAX_FOLDER) {
        return fail(USAGE, "--out: a path of less than %d bytes expected", MAX_FOLDER);
    }
    int status = open_model(t, system);
    if (status != OK) {
        return status;
    }
    if (gan_model_get_info(t->model, &t->info) != GAN_OK) {
        return fail_with(FAILED, t->ctx);
    }
    t->first = t->info.step < 1u << 30 ? (long)t->info.step : 1 << 30;
    status = recall_data(t, data_text, data_size);
    status = status != OK ? status : open_data(t);
    status = status != OK ? status : open_pictures(t);
    status = status != OK ? status : make_folder(t->given.out);
    status = status != OK ? status : keep_data(t);
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

static int no_system(const char *name) {
    const gan_system *system;
    guess near = guess_for(name, (int)strlen(name));
    for (int i = 0; (system = gan_system_at(i)) != NULL; i++) {
        guess_try(&near, system->name);
    }
    return fail(USAGE, "no system \"%s\" (see: gan list)%s", name, guess_end(&near, "").text);
}

static int command_train(int argc, char **argv) {
    const gan_system *system = argc > 2 ? gan_system_find(argv[2]) : NULL;
    char data_text[16384], out[64];
    training t;
    memset(&t, 0, sizeof t);
    t.spread = -1;
    if (!system) {
        return argc > 2 ? no_system(argv[2])
                        : fail(USAGE, "train what? gan train SYSTEM [options] (see: gan list)");
    }
    int status = parse(&t.given, argc, argv, 3, TRAIN, system);
    if (status != OK) {
        return status;
    }
    snprintf(out, sizeof out, "gan-%s", system->name);
    t.given.out = t.given.out ? t.given.out : out;
    t.ctx = open_context(&t.given);
    if (!t.ctx) {
        return FAILED;
    }
    status = run_training(&t, system->name, data_text, sizeof data_text);
    if (status == OK && t.csv) {
        printf("%s%s: %s%slosses.svg, losses.csv, model.safetensors\n", t.terminal ? "\n" : "",
               t.given.out, t.info.sample_channels ? "samples.png, " : "",
               t.info.translate_in ? "translations.png, " : "");
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
    free(t.records);
    return status;
}

/* ---- sampling ------------------------------------------------------------------------------ */

/* Samples n images, a row of the grid a walk if wished. */
static gan_status sample_images(gan_model *model, const options *given, uint64_t seed, int n,
                                int columns, float *images) {
    char inputs[1100];
    snprintf(inputs, sizeof inputs, given->interpolate > 0.0 ? "%s walk=%d" : "%s", given->model,
             columns);
    return gan_model_sample(model, images, n, inputs, seed);
}

/* Row r is image r, each row's own in all but the input that --code names, whose values go from
 * left to right. images: room for one column more. */
static gan_status sample_code(gan_model *model, const options *given, uint64_t seed, int rows,
                              int columns, const gan_input_info *code, size_t size, float *images) {
    float *column = images + (size_t)(rows * columns) * size;
    gan_status status = GAN_OK;
    for (int x = 0; x < columns && status == GAN_OK; x++) {
        char inputs[1200];
        const double part = columns > 1 ? (double)x / (columns - 1) : 0.0;
        const double value =
            code->classes ? x % code->classes : code->low + part * (code->high - code->low);
        snprintf(inputs, sizeof inputs, "%s %s=%.6f", given->model, code->name, value);
        status = gan_model_sample(model, column, rows, inputs, seed);
        for (int row = 0; row < rows && status == GAN_OK; row++) {
            memcpy(images + (size_t)(row * columns + x) * size, column + (size_t)row * size,
                   size * sizeof *images);
        }
    }
    return status;
}

/* The input that --code names. */
static int find_code(gan_context *ctx, gan_model *model, const char *name, gan_input_info *code) {
    char known[512] = "";
    for (int i = 0;; i++) {
        if (gan_model_input(model, "sample", i, code) != GAN_OK) {
            return fail_with(FAILED, ctx);
        }
        if (!code->name || strcmp(code->name, name) == 0) {
            break;
        }
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, " %s", code->name);
    }
    return code->name ? OK : fail(USAGE, "--code %s: the model has the inputs%s", name, known);
}

/* Draws images from a model into a picture file. */
static int sample_grid(gan_context *ctx, gan_model *model, const gan_model_info *info,
                       const options *given) {
    const uint64_t seed = given->seed > 0.0 ? (uint64_t)given->seed : 1;
    gan_input_info code;
    memset(&code, 0, sizeof code);
    int status = given->code ? find_code(ctx, model, given->code, &code) : OK;
    if (status != OK) {
        return status;
    }
    const int usual = code.classes                              ? code.classes
                      : given->code || given->interpolate > 0.0 ? 10
                                                                : grid_columns(model);
    const int columns = given->columns > 0.0 ? (int)given->columns : usual;
    const int wished = given->n > 0.0 ? (int)given->n : GRID_ROWS * columns;
    const int rows = (wished + columns - 1) / columns, n = code.name ? rows * columns : wished;
    const size_t size =
        (size_t)info->sample_channels * (size_t)info->sample_height * (size_t)info->sample_width;
    const size_t room = (size_t)n + (code.name ? (size_t)rows : 0);
    float *images = (float *)malloc(room * size * sizeof *images);
    if (!images) {
        return fail(FAILED, "out of memory");
    }
    if ((code.name ? sample_code(model, given, seed, rows, columns, &code, size, images)
                   : sample_images(model, given, seed, n, columns, images)) != GAN_OK ||
        gan_image_write_grid(ctx, given->out, images, n, info->sample_channels,
                             info->sample_height, info->sample_width, columns, -1.0f,
                             1.0f) != GAN_OK) {
        status = fail_with(USAGE, ctx);
    }
    if (status == OK) {
        printf("%s: %d image%s\n", given->out, n, n > 1 ? "s" : "");
    }
    free(images);
    return status;
}

/* "grid.png" to "grid-frames.png" */
static void frames_path(char *path, size_t size, const char *out) {
    const char *dot = strrchr(out, '.');
    const int stem = dot && !strchr(dot, '/') ? (int)(dot - out) : (int)strlen(out);
    snprintf(path, size, "%.*s-frames.png", stem, out);
}

/* How n images are drawn: a grid with a row for each, and an animation of them side by side. */
static int sample_frames(gan_context *ctx, gan_model *model, const gan_model_info *info,
                         const options *given) {
    const int n = given->n > 0.0 ? (int)given->n : GRID_ROWS, frames = info->frames;
    const int c = info->sample_channels, h = info->sample_height, w = info->sample_width;
    const size_t row = (size_t)w * sizeof(float), size = (size_t)c * (size_t)h * (size_t)w;
    const size_t all = (size_t)n * (size_t)frames * size;
    float *drawn = (float *)malloc(2 * all * sizeof *drawn + 1);
    char path[1200];
    if (!drawn) {
        return fail(FAILED, "out of memory");
    }
    float *placed = drawn + all;
    gan_status status = gan_model_sample_frames(model, drawn, n, given->model,
                                                given->seed > 0.0 ? (uint64_t)given->seed : 1);
    for (int i = 0; i < n * frames && status == GAN_OK; i++) { /* [frames][n] to [n][frames] */
        memcpy(placed + (size_t)(i % n * frames + i / n) * size, drawn + (size_t)i * size,
               size * sizeof(float));
    }
    status = status ? status
                    : gan_image_write_grid(ctx, given->out, placed, n * frames, c, h, w, frames,
                                           -1.0f, 1.0f);
    for (int i = 0; i < n * frames * c * h && status == GAN_OK;
         i++) { /* ... to [frames][c,h,n*w] */
        const int y = i % h, channel = i / h % c, image = i / (h * c) % n, f = i / (h * c * n);
        memcpy(placed + (((size_t)(f * c + channel) * (size_t)h + (size_t)y) * (size_t)n +
                         (size_t)image) *
                            (size_t)w,
               drawn + (size_t)i * (size_t)w, row);
    }
    frames_path(path, sizeof path, given->out);
    status = status ? status
                    : gan_image_write_animation(ctx, path, placed, frames, c, h, n * w, -1.0f, 1.0f,
                                                0.15);
    free(drawn);
    if (status != GAN_OK) {
        return fail_with(USAGE, ctx);
    }
    printf("%s, %s: %d image%s in %d frames\n", given->out, path, n, n > 1 ? "s" : "", frames);
    return OK;
}

static int sample(gan_context *ctx, gan_model *model, const options *given) {
    gan_model_info info;
    if (gan_model_get_info(model, &info) != GAN_OK) {
        return fail_with(FAILED, ctx);
    }
    if (!info.sample_channels) {
        return fail(USAGE, "%s does not draw images, it translates them: gan translate",
                    info.system->name);
    }
    if (given->frames > 0.0 && !info.frames) {
        return fail(USAGE, "%s draws an image at once: no --frames", info.system->name);
    }
    if ((given->code != NULL) + (given->interpolate > 0.0) + (given->frames > 0.0) > 1) {
        return fail(USAGE, "--code, --interpolate and --frames: only one of them at a time");
    }
    if (given->columns > 0.0 && given->frames > 0.0) {
        return fail(USAGE, "--frames: a column is a step, no --columns");
    }
    if (given->columns == 1.0 && given->interpolate > 0.0) {
        return fail(USAGE, "--interpolate: expected --columns 2 or more");
    }
    return given->frames > 0.0 ? sample_frames(ctx, model, &info, given)
                               : sample_grid(ctx, model, &info, given);
}

/* ---- translating --------------------------------------------------------------------------- */

typedef struct translation {
    gan_context *ctx;
    gan_model *model;
    gan_model_info info;
    const options *given;
    char inputs[1200];
    int in, out;       /* channels */
    int instances;     /* 1: the last one holds an instance map */
    int right;         /* 1: of images side by side the right one is translated */
    int width, height; /* that images are brought to; 0: none */
    float *from, *to;  /* [in,height,width], [out,height,width] */
    size_t room;       /* pixels that there is memory for */
    double seconds;
} translation;

/* "640x480x3": count numbers from 1 on, the first two the size of an image. */
static int read_sizes(const char *text, int count, int *sizes) {
    for (int i = 0; i < count; i++) {
        char *end;
        const long value = strtol(text, &end, 10);
        if (end == text || value < 1 || value > 65536 || *end != (i + 1 < count ? 'x' : '\0')) {
            return 0;
        }
        sizes[i] = (int)value;
        text = end + 1;
    }
    return sizes[0] <= GAN_MAX_PIXELS / sizes[1];
}

static int make_room(translation *t, size_t pixels) {
    if (pixels > t->room) {
        free(t->from);
        free(t->to);
        t->from = (float *)malloc(pixels * (size_t)t->in * sizeof(float));
        t->to = (float *)malloc(pixels * (size_t)t->out * sizeof(float));
        t->room = t->from && t->to ? pixels : 0;
    }
    return pixels <= t->room ? OK : fail(FAILED, "out of memory");
}

/* Cuts out the left half of an image (A), or the right one. */
static gan_status take_side(translation *t, gan_image *image) {
    const int half = image->width / 2;
    return gan_image_crop(t->ctx, image, t->right ? image->width - half : 0, 0, half ? half : 1,
                          image->height);
}

/* Reads an image as floats; its size is *width x *height, or becomes so where these are set. */
static int load_image(translation *t, const char *path, int first, int channels, int is_map,
                      int *width, int *height) {
    gan_image image;
    memset(&image, 0, sizeof image);
    gan_status status = gan_image_load(t->ctx, path, &image);
    if (status == GAN_OK && is_map && image.channels != 1) {
        const int found = image.channels;
        gan_image_free(t->ctx, &image);
        return fail(USAGE, "%s: a map of numbers, with 1 channel, expected, found %d channels",
                    path, found);
    }
    status = status ? status : gan_image_convert(t->ctx, &image, channels);
    if (status == GAN_OK && t->given->sides > 0.0 && first == 0) {
        status = take_side(t, &image);
    }
    if (status == GAN_OK && *width && (image.width != *width || image.height != *height)) {
        status = gan_image_resize(t->ctx, &image, *width, *height,
                                  is_map ? GAN_FILTER_NEAREST : GAN_FILTER_BILINEAR);
    }
    if (status != GAN_OK) {
        gan_image_free(t->ctx, &image);
        return fail_with(USAGE, t->ctx);
    }
    *width = image.width;
    *height = image.height;
    const size_t pixels = (size_t)image.width * (size_t)image.height;
    int code = first ? OK : make_room(t, pixels);
    for (size_t i = 0; i < pixels * (size_t)channels && code == OK; i++) {
        const float value = (float)image.samples[i];
        t->from[((size_t)first + i % (size_t)channels) * pixels + i / (size_t)channels] =
            is_map ? value : 2.0f * value / (float)image.maxval - 1.0f;
    }
    gan_image_free(t->ctx, &image);
    return code;
}

/* -1 ... 1 to 0 ... 255. */
static unsigned to_byte(float value) {
    const float byte = (value + 1.0f) * 127.5f + 0.5f;
    return byte <= 0.0f ? 0u : byte >= 255.0f ? 255u : (unsigned)byte;
}

static int save_image(translation *t, const char *path, int width, int height) {
    const size_t pixels = (size_t)width * (size_t)height, channels = (size_t)t->out;
    gan_image image;
    image.width = width;
    image.height = height;
    image.channels = t->out;
    image.maxval = 255;
    image.samples = (uint16_t *)malloc(pixels * channels * sizeof(uint16_t));
    if (!image.samples) {
        return fail(FAILED, "out of memory");
    }
    for (size_t i = 0; i < pixels * channels; i++) {
        image.samples[i] = (uint16_t)to_byte(t->to[i % channels * pixels + i / channels]);
    }
    const gan_status status = gan_image_write(t->ctx, path, &image);
    free(image.samples);
    return status == GAN_OK ? OK : fail_with(USAGE, t->ctx);
}

/* what: the image's name, for the message. */
static int translate_planes(translation *t, const char *what, int width, int height) {
    const double start = now();
    const gan_status status =
        gan_model_translate(t->model, t->from, 1, height, width, t->inputs, t->to);
    t->seconds += now() - start;
    return status == GAN_OK ? OK : fail(USAGE, "%s: %s", what, gan_context_error(t->ctx));
}

/* instances: NULL for systems that need no instance map. */
static int translate_file(translation *t, const char *in, const char *instances, const char *out) {
    const int channels = t->in - t->instances;
    int width = t->width, height = t->height;
    int status = load_image(t, in, 0, channels, channels == 1 && (t->info.translate_maps & 1),
                            &width, &height);
    if (status == OK && instances) {
        status = load_image(t, instances, channels, 1, 1, &width, &height);
    }
    status = status != OK ? status : translate_planes(t, in, width, height);
    return status != OK ? status : save_image(t, out, width, height);
}

/* The part of a path behind the last slash. */
static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The part of a path that a result keeps: what follows the folder that was given, or that of the
 * list; the name alone where the path leads elsewhere. */
static const char *kept_part(const char *path, const char *in) {
    const int folder = is_folder(in);
    const size_t length = folder ? strlen(in) : (size_t)(file_name(in) - in);
    if (strncmp(path, in, length) != 0) {
        return file_name(path);
    }
    const char *rest = path + length;
    rest += folder && *rest == '/';
    return *rest == '/' || strstr(rest, "..") ? file_name(path) : rest;
}

/* Without what follows the last dot of its name. */
static int stem_length(const char *path) {
    const char *dot = strrchr(file_name(path), '.');
    return dot && dot > file_name(path) ? (int)(dot - path) : (int)strlen(path);
}

/* Image `path` of those in `in`, its result and, if needed, its instance map. */
static int translate_one(translation *t, const char *path, const char *in, const char *out,
                         char last[2048]) {
    const options *given = t->given;
    char instances[2048], to[2048], folder[2048];
    const char *name = kept_part(path, in);
    snprintf(instances, sizeof instances, "%s/%s",
             given->data_instances ? given->data_instances : "", name);
    const int length = snprintf(to, sizeof to, "%s/%.*s.%s", out, stem_length(name), name,
                                given->format ? given->format : "png");
    if (length >= (int)sizeof to) {
        return fail(USAGE, "%s: the name of its result is too long", path);
    }
    if (strcmp(to, last) == 0) {
        return fail(USAGE, "%s: the result of the image before is called %s already", path, to);
    }
    snprintf(folder, sizeof folder, "%.*s", (int)(file_name(to) - to) - 1, to);
    snprintf(last, sizeof to, "%s", to);
    int status = make_folder(folder);
    return status != OK ? status : translate_file(t, path, t->instances ? instances : NULL, to);
}

/* All images of a folder or a list. */
static int translate_folder(translation *t, const char *in, const char *out) {
    gan_dataset_desc desc;
    gan_dataset *data = NULL;
    memset(&desc, 0, sizeof desc);
    desc.height = desc.width = desc.channels = 1; /* only the names are wanted */
    if (gan_dataset_open(&data, t->ctx, in, &desc) != GAN_OK) {
        return fail_with(USAGE, t->ctx);
    }
    const int count = gan_dataset_count(data);
    char last[2048] = "";
    int status = OK;
    for (int i = 0; i < count && status == OK; i++) {
        const char *path = gan_dataset_path(data, i);
        status = path ? translate_one(t, path, in, out, last)
                      : fail(USAGE, "%s: a folder of images expected", in);
        if (status == OK && isatty(fileno(stdout))) {
            printf("\r%d/%d ", i + 1, count);
            print_text(stdout, file_name(path));
            printf("\033[K");
            fflush(stdout);
        }
    }
    gan_dataset_close(data);
    if (status == OK) {
        printf("%s%s: %d images, %.3f s each\n", isatty(fileno(stdout)) ? "\r" : "", out, count,
               t->seconds / count);
    }
    return status;
}

/* Raw frames from standard input to standard output until there are no more; bytes of maps are the
 * numbers in them. */
static int translate_stream(translation *t) {
    int sizes[3];
    if (!read_sizes(t->given->frame, 3, sizes) || sizes[2] != t->in) {
        return fail(USAGE, "--frame: expected WxHx%d, found \"%s\"", t->in, t->given->frame);
    }
    const size_t pixels = (size_t)sizes[0] * (size_t)sizes[1];
    const size_t in = pixels * (size_t)t->in, out = pixels * (size_t)t->out;
    size_t got = 0;
    unsigned char *bytes = (unsigned char *)malloc(in > out ? in : out);
    int status = bytes ? make_room(t, pixels) : fail(FAILED, "out of memory");
    long frames = 0;
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    while (status == OK && !interrupted && (got = fread(bytes, 1, in, stdin)) == in) {
        for (size_t i = 0; i < in; i++) {
            const int channel = (int)(i % (size_t)t->in);
            const float value = (float)bytes[i];
            t->from[(size_t)channel * pixels + i / (size_t)t->in] =
                t->info.translate_maps >> channel & 1 ? value : value / 127.5f - 1.0f;
        }
        status = translate_planes(t, "standard input", sizes[0], sizes[1]);
        for (size_t i = 0; i < out && status == OK; i++) {
            bytes[i] =
                (unsigned char)to_byte(t->to[i % (size_t)t->out * pixels + i / (size_t)t->out]);
        }
        if (status == OK && (fwrite(bytes, 1, out, stdout) != out || fflush(stdout) != 0)) {
            status = fail(FAILED, "cannot write to standard output");
        }
        frames += status == OK;
    }
    if (status == OK && ferror(stdin)) {
        status = fail(FAILED, "cannot read standard input: %s", strerror(errno));
    } else if (status == OK && got > 0 && got < in) {
        status = fail(FAILED, "standard input ends within frame %ld: %lu of %lu bytes", frames + 1,
                      (unsigned long)got, (unsigned long)in);
    }
    free(bytes);
    if (status == OK) {
        fprintf(stderr, "%ld frames %d x %d x %d, %.1f a second\n", frames, sizes[0], sizes[1],
                t->out, t->seconds > 0.0 ? (double)frames / t->seconds : 0.0);
    }
    return status;
}

/* What the command line says, checked against the model. */
static int open_translation(translation *t, const options *given) {
    if (gan_model_get_info(t->model, &t->info) != GAN_OK) {
        return fail_with(FAILED, t->ctx);
    }
    const gan_model_info *info = &t->info;
    const int two_way = info->system->two_way, maps = info->translate_maps;
    const char *usual = info->translate_part ? "ba" : "ab"; /* what the model was trained for */
    const char *direction = given->direction ? given->direction : usual;
    const int back = two_way && strcmp(direction, "ba") == 0;
    int sizes[2] = {0, 0};
    if (!info->translate_in) {
        return fail(USAGE, "%s does not translate images: gan sample", info->system->name);
    }
    if (!two_way && strcmp(direction, usual) != 0) {
        return fail(USAGE, "--direction: expected %s, found \"%s\": this model goes one way", usual,
                    direction);
    }
    if (given->resize && !read_sizes(given->resize, 2, sizes)) {
        return fail(USAGE, "--resize: expected WxH, found \"%s\"", given->resize);
    }
    t->given = given;
    t->in = back ? info->translate_out : info->translate_in;
    t->out = back ? info->translate_in : info->translate_out;
    t->right = strcmp(direction, "ba") == 0;
    t->instances = t->in > 1 && maps >> (t->in - 1) & 1;
    t->width = sizes[0];
    t->height = sizes[1];
    snprintf(t->inputs, sizeof t->inputs, "%s direction=%s seed=%.0f", given->model,
             two_way ? direction : "ab", given->seed > 0.0 ? given->seed : 1.0);
    return OK;
}

static int translate(gan_context *ctx, gan_model *model, const options *given, const char *in,
                     const char *out) {
    translation t;
    memset(&t, 0, sizeof t);
    t.ctx = ctx;
    t.model = model;
    int status = open_translation(&t, given);
    if (status == OK && strcmp(in, "-") == 0) {
        status = given->frame && strcmp(out, "-") == 0
                     ? translate_stream(&t)
                     : fail(USAGE, "IN and OUT as - need --frame WxHxC");
    } else if (status == OK && t.instances && !given->data_instances) {
        status = fail(USAGE, "%s also needs instance maps: --data-instances",
                      t.info.system->name);
    } else if (status == OK && (is_folder(in) || strstr(file_name(in), ".txt"))) {
        status = translate_folder(&t, in, out);
    } else if (status == OK) {
        status = translate_file(&t, in, t.instances ? given->data_instances : NULL, out);
        if (status == OK) {
            printf("%s: %.3f s\n", out, t.seconds);
        }
    }
    free(t.from);
    free(t.to);
    return status;
}

/* ---- what a checkpoint is ------------------------------------------------------------------ */

static double clock_of(void *user) {
    (void)user;
    return now();
}

/* Multiplications with additions a second of a large matrix product: what the machine can do. */
static double measure_peak(gan_context *ctx) {
    enum { N = 384 };
    float *a = (float *)malloc(sizeof(float) * 3 * N * N);
    double best = 0.0;
    for (int i = 0; a && i < 3 * N * N; i++) {
        a[i] = 1.0f;
    }
    for (int run = 0; a && run < 40; run++) {
        const double start = now();
        gan_sgemm(ctx, 0, 0, N, N, N, 1.0f, a, N, a + N * N, N, 0.0f, a + 2 * N * N, N);
        const double seconds = now() - start, rate = (double)N * N * N / seconds;
        best = seconds > 0.0 && rate > best ? rate : best;
    }
    free(a);
    return best;
}

static const char *shape_text(gan_shape shape, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (int d = 0; d < shape.rank && used < size; d++) {
        used += (size_t)snprintf(text + used, size - used, d ? ",%d" : "%d", shape.dim[d]);
    }
    snprintf(text + (used < size ? used : size - 1), size - (used < size ? used : size - 1), "]");
    return text;
}

/* The shortest time of each op in a few runs [info.ops]; times: room for as many. */
static gan_status time_ops(gan_program *program, double *best, double *times) {
    enum { RUNS = 5 };
    const size_t ops = (size_t)gan_program_get_info(program).ops;
    gan_status status = gan_program_run(program);
    for (int run = 0; run < RUNS && status == GAN_OK; run++) {
        memset(times, 0, ops * sizeof *times);
        status = gan_program_time(program, clock_of, NULL, times);
        for (size_t i = 0; i < ops; i++) {
            best[i] = run == 0 || times[i] < best[i] ? times[i] : best[i];
        }
    }
    return status;
}

/* Each op of a program that takes a hundredth of its time or multiplies. */
static int print_program(gan_context *ctx, gan_program *program, double peak) {
    const gan_program_info info = gan_program_get_info(program);
    double *seconds = (double *)calloc(2 * (size_t)info.ops + 1, sizeof *seconds);
    const gan_status status =
        seconds ? time_ops(program, seconds, seconds + info.ops) : GAN_ERR_MEMORY;
    double total = 0.0, rest = 0.0;
    int others = 0;
    for (int i = 0; i < info.ops && status == GAN_OK; i++) {
        total += seconds[i];
    }
    printf("%-19s %-36s %-18s %-18s %-9s %9s %8s %5s\n", "op", "layer", "from", "to", "by", "ms",
           "GFLOP/s", "peak");
    for (int i = 0; i < info.ops && status == GAN_OK; i++) {
        const gan_op_info op = gan_program_op(program, i);
        const double rate = seconds[i] > 0.0 ? op.multiply_adds / seconds[i] : 0.0;
        char from[64], to[64];
        if (op.multiply_adds == 0.0 && seconds[i] < 0.01 * total) {
            rest += seconds[i];
            others++;
            continue;
        }
        printf("%-19s %-36s %-18s %-18s %-9s %9.3f", op.op, op.name,
               shape_text(op.source[0], from, sizeof from), shape_text(op.shape, to, sizeof to),
               op.algorithm, 1e3 * seconds[i]);
        if (op.multiply_adds > 0.0) {
            printf(" %8.1f %4.0f%%", 2e-9 * rate, 100.0 * rate / peak);
        }
        printf("\n");
    }
    printf("%-19s %-36s %58.3f\n", "others", "", 1e3 * rest);
    printf("%d ops, %d of them among the others; %.3f ms, %.1f GFLOP/s, %.0f%% of the %.1f GFLOP/s "
           "of a matrix product\n",
           info.ops, others, 1e3 * total, 2e-9 * info.multiply_adds / total,
           100.0 * info.multiply_adds / total / peak, 2e-9 * peak);
    free(seconds);
    return status == GAN_OK ? OK : fail_with(FAILED, ctx);
}

/* Where the time goes, layer by layer. */
static int print_plan(gan_context *ctx, gan_model *model, const gan_model_info *info,
                      const char *what) {
    const double peak = measure_peak(ctx);
    const char *use = info->translate_in ? "translate" : "sample";
    gan_program *program = NULL;
    int status = peak > 0.0 ? OK : fail(FAILED, "out of memory");
    what = *what ? what : use;
    if (strcmp(what, "train") == 0 && status == OK && gan_model_fill(model, NULL) != GAN_OK) {
        status = fail_with(FAILED, ctx);
    }
    for (int i = 0; status == OK; i++) {
        if (gan_model_program(model, what, i, &program) != GAN_OK) {
            return fail_with(FAILED, ctx);
        }
        if (!program) {
            return i ? OK : fail(USAGE, "--plan: the model has nothing to %s", what);
        }
        printf("\nplan of %s, program %d; %d threads, %s\n", what, i + 1, gan_context_threads(ctx),
               gan_context_isa(ctx));
        status = print_program(ctx, program, peak);
    }
    return status;
}

static void print_cost(const char *verb, size_t bytes, double multiply_adds, const char *per) {
    printf("  %-8s ", verb);
    print_bytes((double)bytes);
    printf(" of memory, %.*f million multiply-adds %s\n", multiply_adds < 1e7 ? 2 : 0,
           multiply_adds * 1e-6, per);
}

/* Names that may be given beside --seed. */
static void print_inputs(gan_model *model, const char *what) {
    gan_input_info input;
    for (int i = 0; gan_model_input(model, what, i, &input) == GAN_OK && input.name; i++) {
        printf("  input    %s: ", input.name);
        if (input.classes) {
            printf("0 to %d\n", input.classes - 1);
        } else {
            printf("%d number%s, ", input.count, input.count == 1 ? "" : "s");
            printf(input.low < input.high ? "usually %g to %g\n" : "default %g\n", input.low,
                   input.high);
        }
    }
}

/* Size, memory and arithmetic. */
static void print_summary(gan_model *model, const gan_model_info *info) {
    printf("%s (%s)\n", info->system->title, info->system->paper);
    printf("  system   %s\n", info->system->name);
    printf("  images   %d x %d x %d (channels, height, width)\n", info->channels, info->height,
           info->width);
    if (info->train_bytes) {
        printf("  trained  for %lu steps of %d, seed %lu\n", (unsigned long)info->step, info->batch,
               (unsigned long)info->seed);
    }
    printf("  options  %s\n", info->options);
    if (info->sample_channels) {
        print_cost("sample", info->sample_bytes, info->sample_multiply_adds, "an image");
        print_inputs(model, "sample");
    }
    if (info->translate_in) {
        printf("  turns    %d channels into %d%s, at any size\n", info->translate_in,
               info->translate_out, info->system->two_way ? ", and back" : "");
        print_cost("translate", info->translate_bytes, info->translate_multiply_adds,
                   "an image of this size");
        print_inputs(model, "translate");
    }
    if (info->encode_width) {
        printf("  encode   %d number%s from an image\n", info->encode_width,
               info->encode_width == 1 ? "" : "s");
    }
    if (info->train_bytes) {
        print_cost("train", info->train_bytes, info->train_multiply_adds, "a step");
    }
}

/* The networks and their tensors. */
static int print_info(gan_context *ctx, gan_model *model, const options *given) {
    gan_params *params = gan_model_params(model);
    gan_model_info info;
    if (gan_model_get_info(model, &info) != GAN_OK) {
        return fail_with(FAILED, ctx);
    }
    print_summary(model, &info);
    if (given->plan) {
        return print_plan(ctx, model, &info, given->plan);
    }
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

/* A file of tensors that says nothing of a system. */
static int print_tensors(gan_context *ctx, const char *path) {
    gan_checkpoint *checkpoint = NULL;
    gan_checkpoint_tensor tensor;
    double numbers = 0.0;
    if (gan_checkpoint_open(&checkpoint, ctx, path) != GAN_OK) {
        return fail_with(USAGE, ctx);
    }
    printf("%s: tensors, without a system that they belong to\n", path);
    for (int i = 0; (tensor = gan_checkpoint_at(checkpoint, i)).name != NULL; i++) {
        char shape[64];
        printf("  %-4s ", tensor.dtype);
        print_text(stdout, tensor.name);
        printf("%*s %s\n", strlen(tensor.name) < 60 ? 60 - (int)strlen(tensor.name) : 0, "",
               shape_text(tensor.shape, shape, sizeof shape));
        numbers += (double)tensor.count;
    }
    gan_metadata meta;
    for (int i = 0; (meta = gan_checkpoint_text_at(checkpoint, i)).key != NULL; i++) {
        printf("  ");
        print_text(stdout, meta.key);
        printf(": ");
        print_text(stdout, meta.value);
        printf("\n");
    }
    printf("%d tensors, %.0f numbers\n", gan_checkpoint_count(checkpoint), numbers);
    gan_checkpoint_close(checkpoint);
    return OK;
}

/* Whether a training step has no more and no larger images than usual. A look at a file, which may
 * come from anywhere, shall not take memory and time as for training on what it asks for. */
static int is_moderate(const gan_checkpoint *checkpoint) {
    static const char *const keys[] = {"height", "width", "batch"};
    double pixels = 1.0;
    for (int i = 0; i < 3; i++) {
        const char *text = gan_checkpoint_text(checkpoint, keys[i]);
        const double value = text ? strtod(text, NULL) : 1.0;
        pixels *= i < 2 || value <= 1024.0 ? value : HUGE_VAL;
    }
    return pixels <= (double)(1 << 24);
}

/* gan info FILE: a model, or any file of tensors. */
static int info(gan_context *ctx, const char *path, const options *given) {
    gan_checkpoint *checkpoint = NULL;
    gan_model *model = NULL;
    gan_model_desc desc;
    memset(&desc, 0, sizeof desc);
    if (gan_checkpoint_open(&checkpoint, ctx, path) != GAN_OK) {
        return fail_with(USAGE, ctx);
    }
    const int ours = gan_checkpoint_text(checkpoint, "system") != NULL;
    const int plan_training = given->plan && strcmp(given->plan, "train") == 0;
    desc.disable_training = !ours || !(plan_training || is_moderate(checkpoint));
    desc.options = given->set;
    gan_checkpoint_close(checkpoint);
    const int loaded = gan_model_load(&model, ctx, path, &desc) == GAN_OK;
    if (!loaded && !ours) {
        print_text(stdout, gan_context_error(ctx));
        printf("\n");
        return print_tensors(ctx, path);
    }
    const int status = loaded ? print_info(ctx, model, given) : fail_with(USAGE, ctx);
    gan_model_destroy(model);
    return status;
}

/* gan sample MODEL, gan translate MODEL IN OUT. */
static int use_model(gan_context *ctx, char **argv, char command, const options *given) {
    gan_model *model = NULL;
    gan_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.disable_training = 1;
    desc.options = given->set;
    if (gan_model_load(&model, ctx, argv[2], &desc) != GAN_OK) {
        return fail_with(USAGE, ctx);
    }
    const int status = command == SAMPLE ? sample(ctx, model, given)
                                         : translate(ctx, model, given, argv[3], argv[4]);
    gan_model_destroy(model);
    return status;
}

/* Commands on a checkpoint. */
static int command_model(int argc, char **argv, char command) {
    const int named = command == TRANSLATE ? 5 : 3; /* arguments before the options */
    options given;
    memset(&given, 0, sizeof given);
    if (argc < named || strncmp(argv[2], "--", 2) == 0) {
        return fail(USAGE, "gan %s MODEL %s[options] expected (try: gan %s --help)", argv[1],
                    command == TRANSLATE ? "IN OUT " : "", argv[1]);
    }
    double number;
    int status = parse(&given, argc, argv, named, command, NULL);
    if (status == OK && given.code && is_number(given.code, &number)) {
        status = set_model_option(&given, "code", 4, given.code);
        given.code = NULL;
    }
    if (status != OK) {
        return status;
    }
    if (command == SAMPLE && !given.out) {
        return fail(USAGE, "sample: --out is missing, a picture file such as grid.png");
    }
    gan_context *ctx = open_context(&given);
    if (!ctx) {
        return FAILED;
    }
    status = command == INFO ? info(ctx, argv[2], &given) : use_model(ctx, argv, command, &given);
    gan_context_destroy(ctx);
    return status;
}

/* gan convert IN OUT: any checkpoint, written again as safetensors. */
static int command_convert(int argc, char **argv) {
    options given;
    gan_checkpoint *file = NULL;
    memset(&given, 0, sizeof given);
    if (argc < 4 || strncmp(argv[2], "--", 2) == 0) {
        return fail(USAGE, "gan convert IN OUT.safetensors [options] expected (try: gan convert "
                           "--help)");
    }
    int status = parse(&given, argc, argv, 4, CONVERT, NULL);
    gan_context *ctx = status == OK ? open_context(&given) : NULL;
    if (!ctx) {
        return status == OK ? FAILED : status;
    }
    if (gan_checkpoint_open(&file, ctx, argv[2]) != GAN_OK ||
        gan_checkpoint_export(file, argv[3], given.prefix) != GAN_OK) {
        status = fail_with(USAGE, ctx);
    }
    gan_checkpoint_close(file);
    if (status == OK && gan_checkpoint_open(&file, ctx, argv[3]) == GAN_OK) {
        printf("%s: %d tensors\n", argv[3], gan_checkpoint_count(file));
        gan_checkpoint_close(file);
    }
    gan_context_destroy(ctx);
    return status;
}

static int command_list(void) {
    const gan_system *system;
    for (int i = 0; (system = gan_system_at(i)) != NULL; i++) {
        printf("%-15s %s (%s)\n", system->name, system->title, system->paper);
    }
    return OK;
}

/* The commands, in the order of the help. */
static const struct command_row {
    const char *name, *arguments, *help;
    char letter; /* 0: it has no options */
} command_rows[] = {
    {"list", "", "the systems, one line each", 0},
    {"train", "SYSTEM [options]", "trains one; gan train SYSTEM --help has its own options", TRAIN},
    {"sample", "MODEL --out grid.png", "draws images from a checkpoint", SAMPLE},
    {"translate", "MODEL IN OUT", "turns an image, or all in a folder, into others", TRANSLATE},
    {"info", "MODEL [--plan]", "what a checkpoint holds, memory, arithmetic, time", INFO},
    {"convert", "IN OUT.safetensors", "a PyTorch checkpoint (.pth) written again", CONVERT},
    {"help", "[COMMAND]", "this list, or the options of one command", 0},
};
enum { COMMAND_ROWS = sizeof command_rows / sizeof command_rows[0] };

static const struct command_row *find_command(const char *name) {
    for (int i = 0; i < COMMAND_ROWS; i++) {
        if (strcmp(command_rows[i].name, name) == 0) {
            return &command_rows[i];
        }
    }
    return NULL;
}

static void print_command(const struct command_row *row) {
    char text[64];
    snprintf(text, sizeof text, "gan %s %s", row->name, row->arguments);
    printf("%-32s %s\n", text, row->help);
}

/* Help on one command; system: of what to train, or NULL. */
static int help_on(const struct command_row *row, const gan_system *system) {
    if (system) {
        printf("gan train %s [options]: %s (%s)\n", system->name, system->title, system->paper);
        printf("images %d x %d x %d (channels, height, width), batch %d by default\n",
               system->channels, system->height, system->width, system->batch);
    } else {
        print_command(row);
    }
    if (row->letter) {
        print_options(row->letter, system);
    }
    return OK;
}

static int command_help(void) {
    for (int i = 0; i < COMMAND_ROWS; i++) {
        print_command(&command_rows[i]);
    }
    for (int i = 0; i < COMMAND_ROWS; i++) {
        if (command_rows[i].letter) {
            printf("\n");
            help_on(&command_rows[i], NULL);
        }
    }
    return OK;
}

/* gan help, gan COMMAND ... --help, gan help COMMAND. */
static int is_help(const char *text) {
    return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0 || strcmp(text, "help") == 0;
}

static int asks_for_help(int argc, char **argv) {
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return 1;
        }
    }
    return argc > 1 && is_help(argv[1]);
}

static int unknown_command(const char *name) {
    guess near = guess_for(name, (int)strlen(name));
    for (int i = 0; i < COMMAND_ROWS; i++) {
        guess_try(&near, command_rows[i].name);
    }
    return fail(USAGE, "unknown command \"%s\" (see: gan help)%s", name,
                guess_end(&near, "gan ").text);
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
    if (argc < 2) {
        command_help();
        return USAGE;
    }
    if (asks_for_help(argc, argv)) {
        const int first = is_help(argv[1]) ? 2 : 1; /* what it is about */
        const char *word = argc > first ? argv[first] : "help";
        const char *name = argc > first + 1 ? argv[first + 1] : "-";
        const struct command_row *row = is_help(word) ? NULL : find_command(word);
        if (!row) {
            return is_help(word) ? command_help() : unknown_command(word);
        }
        return row->letter == TRAIN && name[0] != '-' && !gan_system_find(name)
                   ? no_system(name)
                   : help_on(row, row->letter == TRAIN ? gan_system_find(name) : NULL);
    }
    let_threads_sleep(argv);
    const struct command_row *row = find_command(argv[1]);
    if (!row) {
        return unknown_command(argv[1]);
    }
    switch (row->letter) {
    case TRAIN:
        return command_train(argc, argv);
    case SAMPLE:
    case TRANSLATE:
    case INFO:
        return command_model(argc, argv, row->letter);
    case CONVERT:
        return command_convert(argc, argv);
    default:
        return argc > 2 ? fail(USAGE, "unexpected argument \"%s\" (try: gan help)", argv[2])
                        : command_list();
    }
}
