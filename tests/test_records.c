/* test_records.c - records of several images: sides, partners by name, unpaired and derived domains, label maps; what is
 * wrong with them is said. */
#include "test.h"
#include "files.h"

/* --- helpers --------------------------------------------------------------- */

/* Sample of an image by a rule: different for images, channels and pixels nearby. */
static int ruled(int id, int c, int y, int x) {
    return (id * 37 + c * 91 + y * 29 + x * 7) % 251;
}

/* Image `id`: .ppm has three channels, all others one. */
static void write_ruled(const char *name, int id, int width, int height) {
    const int channels = strstr(name, ".ppm") ? 3 : 1;
    gan_image image = rule_image(channels, width, height);
    for (int i = 0; i < width * height * channels; i++) {
        const int pixel = i / channels;
        image.samples[i] = (uint16_t)ruled(id, i % channels, pixel / width, pixel % width);
    }
    CHECK(!gan_image_write(ctx, in_folder(name), &image), "%s", gan_context_error(ctx));
    gan_image_free(ctx, &image);
}

/* One pixel of 8 bits. */
static void write_shade(const char *name, int shade) {
    char bytes[16];
    snprintf(bytes, sizeof bytes, "P5 1 1 255\n%c", shade);
    write_file(name, bytes, 12);
}

/* Values 0 ... 255 as in the files. */
static gan_dataset_desc as_bytes(gan_pairing pairing) {
    gan_dataset_desc desc = plain_desc();
    desc.low = 0.0f;
    desc.high = 255.0f;
    desc.pairing = pairing;
    return desc;
}

static void check_open_fails(const char *what, const char *path, const gan_dataset_desc *desc,
                             gan_status status, const char *word) {
    gan_dataset *data;
    check_status(ctx, what, gan_dataset_open(&data, ctx, path, desc), status, word);
    CHECK(!data, "%s: NULL expected", what);
    gan_dataset_close(data);
}

/* Opens, and expects that the first record cannot be read. */
static void check_get_fails(const char *what, const char *path, const gan_dataset_desc *desc,
                            gan_status status, const char *word) {
    static float buffers[3][4096];
    float *const parts[3] = {buffers[0], buffers[1], buffers[2]};
    gan_dataset *data = open_data(path, desc);
    check_status(ctx, what, gan_dataset_get_parts(data, 0, parts, NULL), status, word);
    gan_dataset_close(data);
}

/* out [channels,height,width] is the rectangle of image `id` that starts at column `left`. */
static int is_ruled(const float *out, int id, int channels, int height, int width, int left) {
    for (int i = 0; i < channels * height * width; i++) {
        const int c = i / (height * width), y = i / width % height, x = i % width;
        if (fabsf(out[i] - (float)ruled(id, c, y, left + x)) > 1e-3f) {
            return 0;
        }
    }
    return 1;
}

static int same_shape(gan_shape shape, int channels, int height, int width) {
    return shape.rank == 3 && shape.dim[0] == channels && shape.dim[1] == height &&
           shape.dim[2] == width;
}

/* --- two sides ------------------------------------------------------------- */

static void sides(void) {
    float a[3 * 20], b[3 * 20], *const parts[2] = {a, b};
    make_folder("sides");
    write_ruled("sides/1.ppm", 1, 10, 4);
    write_ruled("sides/2.ppm", 2, 10, 4);
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_SIDES);
    for (int swap = 0; swap < 2; swap++) {
        desc.swap = swap;
        gan_dataset *data = open_data(in_folder("sides"), &desc);
        CHECK(gan_dataset_count(data) == 2 && gan_dataset_parts(data) == 2, "records");
        CHECK(same_shape(gan_dataset_part_shape(data, 0), 3, 4, 5) &&
                  same_shape(gan_dataset_part_shape(data, 1), 3, 4, 5) &&
                  gan_dataset_part_shape(data, 2).rank == 0 &&
                  gan_dataset_part_shape(data, -1).rank == 0,
              "shapes");
        for (int i = 0; i < 2; i++) {
            CHECK(!gan_dataset_get_parts(data, i, parts, NULL), "%s", gan_context_error(ctx));
            CHECK(is_ruled(a, i + 1, 3, 4, 5, swap ? 5 : 0), "part 0 of %d, swap %d", i, swap);
            CHECK(is_ruled(b, i + 1, 3, 4, 5, swap ? 0 : 5), "part 1 of %d, swap %d", i, swap);
        }
        CHECK(!gan_dataset_get(data, 1, a, NULL) && is_ruled(a, 2, 3, 4, 5, swap ? 5 : 0),
              "part 0 alone");
        gan_dataset_close(data);
    }
    desc.channels = 1; /* of part 0, which is the right side here */
    gan_dataset *data = open_data(in_folder("sides"), &desc);
    CHECK(same_shape(gan_dataset_part_shape(data, 0), 1, 4, 5) &&
              same_shape(gan_dataset_part_shape(data, 1), 3, 4, 5),
          "channels of one side");
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL) && is_ruled(b, 1, 3, 4, 5, 0), "%s",
          gan_context_error(ctx));
    gan_dataset_close(data);
}

/* A side is resized alone: the other one does not bleed into it. */
static void sides_resized(void) {
    float a[4], b[4], *const parts[2] = {a, b};
    make_folder("seam");
    write_file("seam/1.pgm", BYTES("P5 8 2 255\n\0\0\0\0\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff"));
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_SIDES);
    desc.height = desc.width = 2;
    gan_dataset *data = open_data(in_folder("seam"), &desc);
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL), "%s", gan_context_error(ctx));
    for (int i = 0; i < 4; i++) {
        CHECK(a[i] == 0.0f && b[i] == 255.0f, "pixel %d: %g %g", i, (double)a[i], (double)b[i]);
    }
    gan_dataset_close(data);
}

static void bad_sides(void) {
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_SIDES);
    make_folder("odd");
    write_ruled("odd/1.pgm", 1, 7, 4);
    check_get_fails("odd", in_folder("odd"), &desc, GAN_ERR_FORMAT,
                    "odd/1.pgm: image of even width expected, with two sides, found 7 x 4");
    write_ruled("odd/1.pgm", 1, 1, 4);
    check_get_fails("one", in_folder("odd"), &desc, GAN_ERR_FORMAT, "found 1 x 4");
    check_open_fails("digits", "digits", &desc, GAN_ERR_ARGUMENT, "digits: image files expected");
    check_open_fails("digits", NULL, &desc, GAN_ERR_ARGUMENT, "image files expected");
}

/* --- partners by name ------------------------------------------------------ */

/* names_a: 1.ppm 2.ppm 10.ppm; names_b: the same as .pgm, and more. Image ids: the number, plus 50 in b. */
static void make_names(void) {
    static const int numbers[] = {10, 2, 1};
    char name[64];
    make_folder("names_a");
    make_folder("names_b");
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "names_a/%d.x.ppm", numbers[i]);
        write_ruled(name, numbers[i], 6, 5);
        snprintf(name, sizeof name, "names_b/%d.x.pgm", numbers[i]);
        write_ruled(name, numbers[i] + 50, 6, 5);
    }
    write_ruled("names_b/3.x.pgm", 53, 6, 5);
    write_ruled("names_b/1.pgm", 99, 6, 5);
    write_ruled("names_b/x.pgm", 98, 6, 5);
}

static void names(void) {
    static const int numbers[] = {1, 2, 10};
    float a[3 * 30], b[3 * 30], *const parts[2] = {a, b};
    make_names();
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_NAMES);
    char path_b[512];
    snprintf(path_b, sizeof path_b, "%s", in_folder("names_b"));
    desc.path_b = path_b;
    for (int swap = 0; swap < 2; swap++) {
        desc.swap = swap;
        gan_dataset *data = open_data(in_folder("names_a"), &desc);
        CHECK(gan_dataset_count(data) == 3 && gan_dataset_parts(data) == 2, "records");
        CHECK(same_shape(gan_dataset_part_shape(data, swap), 3, 5, 6) &&
                  same_shape(gan_dataset_part_shape(data, 1 - swap), 1, 5, 6),
              "each has the channels of its files");
        memset(path_b, 'x', 8); /* the dataset does not keep the pointer */
        for (int i = 0; i < 3; i++) {
            CHECK(!gan_dataset_get_parts(data, i, parts, NULL), "%s", gan_context_error(ctx));
            CHECK(is_ruled(parts[swap], numbers[i], 3, 5, 6, 0), "part A of %d", i);
            CHECK(is_ruled(parts[1 - swap], numbers[i] + 50, 1, 5, 6, 0), "part B of %d", i);
        }
        gan_dataset_close(data);
        snprintf(path_b, sizeof path_b, "%s", in_folder("names_b"));
    }
    desc.swap = 0;
    desc.channels_b = 3;
    desc.channels = 1;
    gan_dataset *data = open_data(in_folder("names_a"), &desc);
    CHECK(!gan_dataset_get_parts(data, 2, parts, NULL) && b[17] == b[30 + 17] &&
              b[17] == b[60 + 17] && is_ruled(b, 60, 1, 5, 6, 0),
          "a grey B in three channels");
    gan_dataset_close(data);
}

/* Classes belong to the name; a list on one side, a folder on the other. */
static void names_of_classes(void) {
    static const char text[] = "names_b/10.x.pgm\nnames_b/1.x.pgm\n";
    float a[30], b[30], label, *const parts[2] = {a, b};
    make_folder("tree_a");
    make_folder("tree_b");
    for (int i = 0; i < 4; i++) {
        static const char *const folders[] = {"tree_a/cat", "tree_a/dog", "tree_b/cat",
                                              "tree_b/dog"};
        char name[64];
        make_folder(folders[i]);
        snprintf(name, sizeof name, "%s/1.pgm", folders[i]);
        write_ruled(name, i, 6, 5);
    }
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_NAMES);
    desc.path_b = in_folder("tree_b");
    gan_dataset *data = open_data(in_folder("tree_a/"), &desc); /* a separator at the end */
    CHECK(gan_dataset_count(data) == 2 && gan_dataset_classes(data) == 2, "classes");
    CHECK(!gan_dataset_get_parts(data, 1, parts, &label), "%s", gan_context_error(ctx));
    CHECK(label == 1.0f && is_ruled(a, 1, 1, 5, 6, 0) && is_ruled(b, 3, 1, 5, 6, 0), "dogs");
    gan_dataset_close(data);

    make_names();
    desc.path_b = in_folder("names_a");
    desc.channels_b = 1;
    data = open_data(write_file("names.txt", BYTES(text)), &desc);
    CHECK(gan_dataset_count(data) == 2, "%d records", gan_dataset_count(data));
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL), "%s", gan_context_error(ctx));
    CHECK(is_ruled(a, 60, 1, 5, 6, 0), "the order of the list");
    gan_dataset_close(data);
}

static void bad_names(void) {
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_NAMES);
    make_names();
    desc.path_b = in_folder("names_a"); /* lacks 3 */
    check_open_fails("partner", in_folder("names_b"), &desc, GAN_ERR_FILE,
                     "names_b/1.pgm: partner \"1\" with any ending expected in ");
    desc.path_b = in_folder("names_c");
    check_open_fails("no folder", in_folder("names_a"), &desc, GAN_ERR_FILE, "names_c");
    desc.path_b = "digits";
    check_open_fails("digits", in_folder("names_a"), &desc, GAN_ERR_ARGUMENT, "image files");
    write_ruled("names_b/2.x.ppm", 1, 6, 5);
    desc.path_b = in_folder("names_b");
    check_open_fails("twice", in_folder("names_a"), &desc, GAN_ERR_FILE, "one file of a name");
    desc.path_b = in_folder("names_a");
    check_open_fails("twice in A", in_folder("names_b"), &desc, GAN_ERR_FILE, "2.x.ppm");
    remove(in_folder("names_b/2.x.ppm"));

    desc.path_b = in_folder("names_b");
    write_ruled("names_b/1.x.pgm", 51, 12, 5);
    check_get_fails("shape", in_folder("names_a"), &desc, GAN_ERR_FORMAT,
                    "names_b/1.x.pgm: partners of one shape expected, found 6 x 5 and 12 x 5");
    write_ruled("names_b/1.x.pgm", 51, 13, 10); /* twice the size, one pixel more: fits */
    gan_dataset *data = open_data(in_folder("names_a"), &desc);
    float a[90], b[30], *const parts[2] = {a, b};
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL), "%s", gan_context_error(ctx));
    gan_dataset_close(data);
    write_file("names_b/1.x.pgm", BYTES("P5 6 5 255\nABC"));
    check_open_fails("damaged", in_folder("names_a"), &desc, GAN_ERR_FORMAT, "names_b/1.x.pgm: ");
    desc.channels_b = 1; /* then the file is not needed for opening */
    check_get_fails("damaged", in_folder("names_a"), &desc, GAN_ERR_FORMAT, "names_b/1.x.pgm: ");
    remove(in_folder("names_b/1.x.pgm"));
}

/* --- unpaired -------------------------------------------------------------- */

/* trainA: shades 1 ... 3; trainB: shades 101 ... 105; one pixel each. */
static const char *make_unpaired(void) {
    make_folder("both");
    make_folder("both/trainA");
    make_folder("both/trainB");
    for (int i = 1; i <= 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "both/trainA/%d.pgm", i);
        if (i <= 3) {
            write_shade(name, i);
        }
        snprintf(name, sizeof name, "both/trainB/%d.pgm", i);
        write_shade(name, 100 + i);
    }
    return in_folder("both");
}

static void unpaired(void) {
    enum { EPOCHS = 40 };
    static float a[15 * EPOCHS], b[15 * EPOCHS];
    float *const parts[2] = {a, b};
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_UNPAIRED);
    gan_dataset *data = open_data(make_unpaired(), &desc);
    int partners[4][6] = {{0}};
    CHECK(gan_dataset_count(data) == 5 && gan_dataset_parts(data) == 2, "records");
    CHECK(!gan_dataset_batch_parts(data, 4, 0, 15 * EPOCHS, parts, NULL), "%s",
          gan_context_error(ctx));
    for (int i = 0; i < 15 * EPOCHS; i++) {
        const int x = (int)(a[i] + 0.5f), y = (int)(b[i] + 0.5f) - 100;
        CHECK(x >= 1 && x <= 3 && y >= 1 && y <= 5, "record %d: %d, %d", i, x, y);
        partners[x][y]++;
        for (int k = i / 3 * 3; k < i; k++) {
            CHECK(a[k] != a[i], "A: %d twice in an epoch", x);
        }
        for (int k = i / 5 * 5; k < i; k++) {
            CHECK(b[k] != b[i], "B: %d twice in an epoch", y);
        }
    }
    for (int i = 0; i < 15; i++) { /* 600 records over 15 pairs: 40 expected */
        CHECK(partners[i / 5 + 1][i % 5 + 1] > 15, "%d and %d together %d times", i / 5 + 1,
              i % 5 + 1, partners[i / 5 + 1][i % 5 + 1]);
    }
    for (int i = 0; i < 5; i++) {
        CHECK(!gan_dataset_get_parts(data, i, parts, NULL) && (int)(a[0] + 0.5f) == i % 3 + 1 &&
                  (int)(b[0] + 0.5f) == 101 + i,
              "record %d", i);
        const char *path = gan_dataset_path(data, i);
        CHECK(path && path[strlen(path) - 5] == '1' + i % 3, "record %d: %s", i, path ? path : "");
    }
    CHECK(!gan_dataset_path(data, 5) && !gan_dataset_path(data, -1), "past the end");
    check_status(ctx, "index", gan_dataset_get_parts(data, 5, parts, NULL), GAN_ERR_ARGUMENT,
                 "0 ... 4");
    gan_dataset_close(data);

    desc.first = 1;
    desc.count = 2;
    desc.swap = 1;
    desc.path_b = in_folder("both/trainB");
    data = open_data(in_folder("both/trainA"), &desc);
    CHECK(gan_dataset_count(data) == 2, "%d records", gan_dataset_count(data));
    CHECK(!gan_dataset_batch_parts(data, 4, 3, 6, parts, NULL), "%s", gan_context_error(ctx));
    for (int i = 0; i < 6; i++) {
        CHECK((a[i] == 102.0f || a[i] == 103.0f) && (b[i] == 2.0f || b[i] == 3.0f),
              "record %d: %g, %g", i, (double)a[i], (double)b[i]);
    }
    gan_dataset_close(data);
}

/* Drawn digits as both domains are not the same digits. */
static void unpaired_digits(void) {
    enum { BATCH = 32, SIZE = 64 };
    static float a[BATCH * SIZE], b[BATCH * SIZE];
    float *const parts[2] = {a, b};
    gan_dataset_desc desc = plain_desc();
    desc.pairing = GAN_PAIRING_UNPAIRED;
    desc.height = desc.width = 8;
    gan_dataset *data = open_data("digits", &desc);
    CHECK(gan_dataset_count(data) == 60000, "%d records", gan_dataset_count(data));
    CHECK(!gan_dataset_batch_parts(data, 1, 0, BATCH, parts, NULL), "%s", gan_context_error(ctx));
    for (int i = 0; i < BATCH * BATCH; i++) {
        CHECK(memcmp(a + i / BATCH * SIZE, b + i % BATCH * SIZE, SIZE * sizeof(float)) != 0,
              "digit %d of A is %d of B", i / BATCH, i % BATCH);
    }
    gan_dataset_close(data);
}

static void bad_unpaired(void) {
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_UNPAIRED);
    const char *both = make_unpaired();
    desc.first = 3;
    check_open_fails("first", both, &desc, GAN_ERR_ARGUMENT, "records 3 ... 3");
    desc.first = 0;
    desc.count = 4;
    check_open_fails("count", both, &desc, GAN_ERR_ARGUMENT,
                     "records 0 ... 3 (first, count) expected, found 3 images");
    desc.count = 0;
    make_folder("half");
    make_folder("half/trainA");
    write_shade("half/trainA/1.pgm", 1);
    check_open_fails("no B", in_folder("half"), &desc, GAN_ERR_FILE,
                     "trainA and trainB expected: cannot open");
    check_open_fails("no name", "", &desc, GAN_ERR_FILE, "trainA");
    check_open_fails("no A", in_folder("half/trainA"), &desc, GAN_ERR_FILE, "trainA/trainA");
}

/* --- derived --------------------------------------------------------------- */

static void derived_by_hand(void) {
    static const float grey[6] = {0, 10, 20, 30, 40, 90}; /* [1,2,3] */
    static const float negative[6] = {100, 90, 80, 70, 60, 10};
    static const float rotated[6] = {20, 90, 10, 40, 0, 30}; /* [1,3,2] */
    static const float edges[6] = {40, 80, 70, 10, 50, 0};
    static const float *const wants[3] = {negative, rotated, edges};
    static const gan_derive derives[3] = {GAN_DERIVE_NEGATIVE, GAN_DERIVE_ROTATE, GAN_DERIVE_EDGES};
    float colour[18], out[18];
    for (int d = 0; d < 3; d++) {
        CHECK(!gan_derive_image(ctx, derives[d], grey, 1, 2, 3, 0.0f, 100.0f, out), "%s",
              gan_context_error(ctx));
        CHECK(memcmp(out, wants[d], sizeof grey) == 0, "derive %d", d);
    }
    for (int i = 0; i < 18; i++) {
        colour[i] = grey[i % 6] + (float)(i / 6);
    }
    gan_derive_image(ctx, GAN_DERIVE_GREY, colour, 3, 2, 3, 0.0f, 100.0f, out);
    for (int i = 0; i < 6; i++) {
        CHECK(fabsf(out[i] - grey[i] - 0.587f - 0.228f) < 1e-4f, "grey of pixel %d", i);
    }
    gan_derive_image(ctx, GAN_DERIVE_EDGES, colour, 3, 2, 3, -100.0f, 100.0f, out);
    for (int i = 0; i < 6; i++) { /* "none" is the low value */
        CHECK(fabsf(out[i] + 100.0f - edges[i]) < 1e-4f, "edge at pixel %d", i);
    }
    gan_derive_image(ctx, GAN_DERIVE_ROTATE, colour, 3, 2, 3, 0.0f, 100.0f, out);
    CHECK(out[12] == 22.0f && out[17] == 32.0f, "third channel");
    check_status(ctx, "channels",
                 gan_derive_image(ctx, GAN_DERIVE_GREY, colour, 2, 2, 3, 0.0f, 1.0f, out),
                 GAN_ERR_ARGUMENT, "[2,2,3]");
    check_status(ctx, "range",
                 gan_derive_image(ctx, GAN_DERIVE_GREY, colour, 3, 2, 3, 1.0f, 1.0f, out),
                 GAN_ERR_ARGUMENT, "low < high");
    check_status(ctx, "derive",
                 gan_derive_image(ctx, (gan_derive)4, colour, 3, 2, 3, 0.0f, 1.0f, out),
                 GAN_ERR_ARGUMENT, "found 4");
}

/* What comes out as B is gan_derive_image of what comes out as A, after crop and flip, bit for bit. */
static void derived(void) {
    static const int made_channels[4] = {3, 3, 1, 1};
    float a[4 * 75], b[4 * 75], want[75], *parts[2];
    make_folder("colours");
    for (int i = 0; i < 6; i++) {
        char name[64];
        snprintf(name, sizeof name, "colours/%d.ppm", i);
        write_ruled(name, i, 7, 8);
    }
    for (int k = 0; k < 8; k++) {
        const gan_derive derive = (gan_derive)(k % 4);
        const size_t size = (size_t)made_channels[k % 4] * 25;
        gan_dataset_desc desc = plain_desc();
        desc.pairing = GAN_PAIRING_DERIVED;
        desc.derive = derive;
        desc.height = desc.width = 5;
        desc.load_height = 8;
        desc.load_width = 7;
        desc.random_crop = desc.random_flip = 1;
        desc.swap = k / 4;
        desc.memory_bytes = (size_t)(k % 2); /* 1: none is kept */
        gan_dataset *data = open_data(in_folder("colours"), &desc);
        CHECK(same_shape(gan_dataset_part_shape(data, 1 - desc.swap), made_channels[k % 4], 5, 5),
              "derive %d", k);
        parts[desc.swap] = a;
        parts[1 - desc.swap] = b;
        CHECK(!gan_dataset_batch_parts(data, 3, 5, 4, parts, NULL), "%s", gan_context_error(ctx));
        for (int i = 0; i < 4; i++) {
            gan_derive_image(ctx, derive, a + i * 75, 3, 5, 5, -1.0f, 1.0f, want);
            CHECK(memcmp(want, b + (size_t)i * size, size * sizeof(float)) == 0,
                  "derive %d, record %d", k, i);
        }
        gan_dataset_close(data);
    }
}

/* Other channels than the derived image has by itself: grey first, or repeated. */
static void derived_channels(void) {
    float a[3 * 25], b[3 * 25], grey[25], want[25], *const parts[2] = {a, b};
    gan_dataset_desc desc = plain_desc();
    desc.pairing = GAN_PAIRING_DERIVED;
    desc.height = desc.width = 5;
    derived();
    for (int k = 0; k < 4; k++) {
        desc.derive = (gan_derive)k;
        desc.channels_b = k < 2 ? 1 : 3;
        gan_dataset *data = open_data(in_folder("colours"), &desc);
        CHECK(!gan_dataset_get_parts(data, 1, parts, NULL), "%s", gan_context_error(ctx));
        gan_derive_image(ctx, GAN_DERIVE_GREY, a, 3, 5, 5, -1.0f, 1.0f, grey);
        gan_derive_image(ctx, desc.derive, grey, 1, 5, 5, -1.0f, 1.0f, want);
        for (int i = 0; i < desc.channels_b * 25; i++) {
            CHECK(fabsf(b[i] - want[i % 25]) < 1e-6f, "derive %d, value %d", k, i);
        }
        gan_dataset_close(data);
    }
    desc.width = 6;
    desc.derive = GAN_DERIVE_ROTATE;
    check_open_fails("rotate", in_folder("colours"), &desc, GAN_ERR_ARGUMENT, "height = width");
}

/* A shows the first half only, B only what is made from the second. */
static void halves(void) {
    float a[60], b[60], label[60], *const parts[2] = {a, b};
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_HALVES);
    make_unpaired();
    for (int first = 0; first < 2; first++) { /* 5 images: 2 and 3; 4: 2 and 2 */
        desc.first = first;
        gan_dataset *data = open_data(in_folder("both/trainB"), &desc);
        CHECK(gan_dataset_count(data) == 3 - first, "%d records", gan_dataset_count(data));
        CHECK(!gan_dataset_batch_parts(data, 3, 0, 60, parts, NULL), "%s", gan_context_error(ctx));
        int seen_a = 0, seen_b = 0;
        for (int i = 0; i < 60; i++) {
            seen_a |= 1 << ((int)(a[i] + 0.5f) - 100);
            seen_b |= 1 << (255 - 100 - (int)(b[i] + 0.5f));
        }
        CHECK(seen_a == (first ? 0x0c : 0x06) && seen_b == (first ? 0x30 : 0x38), "%x %x", seen_a,
              seen_b);
        gan_dataset_close(data);
    }
    desc.first = 4;
    check_open_fails("one image", in_folder("both/trainB"), &desc, GAN_ERR_ARGUMENT,
                     "at least 2 images");
    desc.first = 0;
    desc.count = 60;
    desc.height = desc.width = 1;
    gan_dataset *data = open_data("digits", &desc);
    CHECK(gan_dataset_count(data) == 30 && gan_dataset_classes(data) == 10, "digits");
    CHECK(!gan_dataset_batch_parts(data, 3, 0, 60, parts, label) &&
              memcmp(label, label + 30, 30 * sizeof(float)) != 0,
          "two epochs of 30 digits, in different order");
    gan_dataset_close(data);
}

/* --- what pairs have in common --------------------------------------------- */

/* The same image as A, B and instance map comes out three times alike, whatever crop and flip; unpaired it does not. */
static void common_crop_and_flip(void) {
    enum { BATCH = 64, SIZE = 16 };
    static float a[BATCH * SIZE], b[BATCH * SIZE], c[BATCH * SIZE];
    float *const parts[3] = {a, b, c};
    make_folder("same");
    write_ruled("same/1.pgm", 3, 7, 6);
    char same[512];
    snprintf(same, sizeof same, "%s", in_folder("same"));
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_NAMES);
    desc.height = desc.width = 4;
    desc.load_height = 6;
    desc.load_width = 7;
    desc.random_crop = desc.random_flip = 1;
    desc.path_b = desc.path_instances = same;
    gan_dataset *data = open_data(same, &desc);
    CHECK(gan_dataset_parts(data) == 3 && same_shape(gan_dataset_part_shape(data, 2), 1, 4, 4),
          "parts");
    CHECK(!gan_dataset_batch_parts(data, 8, 1, BATCH, parts, NULL), "%s", gan_context_error(ctx));
    for (int i = 0; i < BATCH * SIZE; i++) {
        CHECK(a[i] == b[i] && fabsf(a[i] - c[i]) < 1e-3f, "value %d", i);
    }
    CHECK(memcmp(a, a + SIZE, SIZE * sizeof(float)) != 0, "no other crop");
    gan_dataset_close(data);

    desc.pairing = GAN_PAIRING_UNPAIRED;
    desc.path_instances = NULL;
    data = open_data(same, &desc);
    CHECK(!gan_dataset_batch_parts(data, 8, 1, BATCH, parts, NULL), "%s", gan_context_error(ctx));
    int alike = 0;
    for (int i = 0; i < BATCH; i++) {
        alike += memcmp(a + i * SIZE, b + i * SIZE, SIZE * sizeof(float)) == 0;
    }
    CHECK(alike < 12, "%d of 64 alike, 2.7 expected", alike); /* 24 places and ways */
    gan_dataset_close(data);
}

/* A pure function of (data, seed, step): another object, backwards, parts left out, nothing kept. */
static void pure_batches(void) {
    enum { BATCH = 4, STEPS = 7, SIZE = BATCH * 3 * 30 };
    static float all[2][STEPS][SIZE], again[2][SIZE];
    make_names();
    make_unpaired();
    for (int k = 0; k < 3; k++) {
        static const gan_pairing pairings[3] = {GAN_PAIRING_NAMES, GAN_PAIRING_UNPAIRED,
                                                GAN_PAIRING_HALVES};
        gan_dataset_desc desc = as_bytes(pairings[k]);
        const char *b = k == 0 ? "names_b" : "both/trainB";
        desc.path_b = k < 2 ? in_folder(b) : NULL;
        desc.height = 5;
        desc.width = 6;
        desc.channels = desc.channels_b = 3;
        desc.random_flip = 1;
        gan_dataset *data = open_data(in_folder("names_a"), &desc);
        desc.memory_bytes = 1;
        gan_dataset *other = open_data(in_folder("names_a"), &desc);
        for (int step = 0; step < STEPS; step++) {
            float *const parts[2] = {all[0][step], all[1][step]};
            CHECK(!gan_dataset_batch_parts(data, 6, (uint64_t)step, BATCH, parts, NULL), "%s",
                  gan_context_error(ctx));
        }
        for (int step = STEPS - 1; step >= 0; step--) {
            float *const first[2] = {again[0], NULL}, *const second[2] = {NULL, again[1]};
            gan_dataset_batch_parts(other, 6, (uint64_t)step, BATCH, second, NULL);
            gan_dataset_batch_parts(other, 6, (uint64_t)step, BATCH, first, NULL);
            for (int p = 0; p < 2; p++) {
                CHECK(memcmp(all[p][step], again[p], sizeof again[p]) == 0,
                      "pairing %d, step %d, part %d", k, step, p);
            }
            gan_dataset_batch(other, 6, (uint64_t)step, BATCH, again[1], NULL);
            CHECK(memcmp(again[0], again[1], sizeof again[0]) == 0, "part 0 alone");
        }
        gan_dataset_close(data);
        gan_dataset_close(other);
    }
}

/* Sequences of version 0.1: orders, crops and flips stay what they were, so that training can go on. */
static void pinned_batches(void) {
    static const int want[24][2] = {{81, 80},   {181, 180}, {67, 68},   {145, 146}, {16, 17},
                                    {132, 133}, {99, 100},  {0, 1},     {52, 51},   {114, 113},
                                    {163, 164}, {33, 32},   {149, 148}, {34, 33},   {82, 81},
                                    {176, 177}, {66, 65},   {52, 53},   {162, 161}, {1, 2},
                                    {101, 100}, {20, 19},   {116, 117}, {129, 128}};
    float out[6 * 4];
    make_folder("pinned");
    for (int i = 0; i < 12; i++) {
        char name[64], bytes[32];
        int used = snprintf(bytes, sizeof bytes, "P5 3 3 255\n");
        for (int k = 0; k < 9; k++) {
            bytes[used++] = (char)(i * 16 + k);
        }
        snprintf(name, sizeof name, "pinned/%d.pgm", i);
        write_file(name, bytes, used);
    }
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_NONE);
    desc.height = desc.width = 2;
    desc.load_height = desc.load_width = 3;
    desc.random_crop = desc.random_flip = 1;
    gan_dataset *data = open_data(in_folder("pinned"), &desc);
    for (int i = 0; i < 24; i++) {
        if (i % 6 == 0) {
            gan_dataset_batch(data, 9, (uint64_t)i / 6, 6, out, NULL);
        }
        const int left = (int)(out[i % 6 * 4] + 0.5f), right = (int)(out[i % 6 * 4 + 1] + 0.5f);
        CHECK(left == want[i][0] && right == want[i][1], "record %d: %d, %d", i, left, right);
    }
    gan_dataset_close(data);
}

static void first_and_count(void) {
    float out[12], label[12];
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_NONE);
    make_unpaired();
    desc.first = 2;
    gan_dataset *data = open_data(in_folder("both/trainB"), &desc);
    CHECK(gan_dataset_count(data) == 3 && !gan_dataset_get(data, 0, out, NULL) && out[0] == 103.0f,
          "from the third on");
    gan_dataset_close(data);
    desc.count = 2;
    data = open_data(in_folder("both/trainB"), &desc);
    CHECK(!gan_dataset_batch(data, 1, 0, 12, out, NULL), "%s", gan_context_error(ctx));
    for (int i = 0; i < 12; i += 2) {
        CHECK(out[i] + out[i + 1] == 207.0f && (out[i] == 103.0f || out[i] == 104.0f), "epoch %d",
              i / 2);
    }
    gan_dataset_close(data);
    desc.count = 4;
    check_open_fails("count", in_folder("both/trainB"), &desc, GAN_ERR_ARGUMENT,
                     "records 2 ... 5 (first, count) expected, found 5 images");
    desc.first = 5;
    desc.count = 0;
    check_open_fails("first", in_folder("both/trainB"), &desc, GAN_ERR_ARGUMENT, "found 5 images");
    desc.first = INT_MAX;
    desc.count = INT_MAX;
    check_open_fails("huge", in_folder("both/trainB"), &desc, GAN_ERR_ARGUMENT, "found 5 images");
    desc.first = 7; /* drawn digits: the same ones in each epoch */
    desc.count = 6;
    desc.height = desc.width = 1;
    data = open_data("digits", &desc);
    gan_dataset *all = open_data("digits", NULL);
    CHECK(gan_dataset_count(data) == 6 && !gan_dataset_batch(data, 1, 0, 12, out, label), "digits");
    float sums[2] = {0.0f, 0.0f};
    for (int i = 0; i < 12; i++) {
        sums[i / 6] += label[i];
    }
    CHECK(sums[0] == sums[1], "two epochs: %g, %g", (double)sums[0], (double)sums[1]);
    gan_dataset_close(all);
    gan_dataset_close(data);
}

/* --- label maps ------------------------------------------------------------ */

static void label_maps(void) {
    float a[48], b[48], c[16], *const parts[3] = {a, b, c};
    char labels[512], instances[512];
    make_folder("photo");
    make_folder("labels");
    make_folder("instances");
    write_ruled("photo/1.ppm", 1, 4, 4);
    write_ruled("photo/2.ppm", 2, 4, 4);
    write_file("labels/1.pgm", BYTES("P5 2 2 3\n\0\1\2\3"));
    write_file("labels/2.pgm", BYTES("P2 2 2 255 7 0 200 9"));
    write_file("instances/1.pgm", BYTES("P5 2 2 65535\n\0\0\0\1\x80\0\xff\xff"));
    write_file("instances/2.pgm", BYTES("P5 2 2 26001\n\0\0\0\1\x65\x91\0\0"));
    snprintf(labels, sizeof labels, "%s", in_folder("labels"));
    snprintf(instances, sizeof instances, "%s", in_folder("instances"));
    gan_dataset_desc desc = plain_desc();
    desc.pairing = GAN_PAIRING_NAMES;
    desc.path_b = labels;
    desc.path_instances = instances;
    desc.label_maps = 2;
    desc.label_count = 201; /* does not hold for instances */
    gan_dataset *data = open_data(in_folder("photo"), &desc);
    for (int i = 0; i < 2; i++) {
        static const float want_labels[2][4] = {{0, 1, 2, 3}, {7, 0, 200, 9}};
        static const float want_instances[2][4] = {{0, 1, 32768, 65535}, {0, 1, 26001, 0}};
        CHECK(!gan_dataset_get_parts(data, i, parts, NULL), "%s", gan_context_error(ctx));
        for (int k = 0; k < 16; k++) { /* each sample becomes 2 x 2, none in between */
            const int at = k / 8 * 2 + k % 4 / 2;
            CHECK(b[k] == want_labels[i][at] && c[k] == want_instances[i][at],
                  "record %d, pixel %d: %g, %g", i, k, (double)b[k], (double)c[k]);
        }
    }
    gan_dataset_close(data);
    desc.label_count = 200;
    data = open_data(in_folder("photo"), &desc);
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL), "%s", gan_context_error(ctx));
    check_status(ctx, "range", gan_dataset_get_parts(data, 1, parts, NULL), GAN_ERR_FORMAT,
                 "labels/2.pgm: label map of class numbers 0 ... 199 expected, found 200 at "
                 "column 0, row 1");
    gan_dataset_close(data);
    desc.swap = 1;
    desc.label_maps = 1; /* B comes out as part 0 */
    desc.label_count = 0;
    data = open_data(in_folder("photo"), &desc);
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL) && a[15] == 3.0f && b[5] >= -1.0f,
          "swapped");
    gan_dataset_close(data);
    desc.label_maps = 2;
    check_get_fails("photo", in_folder("photo"), &desc, GAN_ERR_FORMAT,
                    "photo/1.ppm: label map of 1 channel expected, found 3");
    desc.path_instances = in_folder("photo");
    desc.label_maps = 1;
    check_get_fails("instances", in_folder("photo"), &desc, GAN_ERR_FORMAT,
                    "photo/1.ppm: label map of 1 channel expected, found 3");
}

/* One side a label map: its bytes stand at an even place behind an odd number of bytes. */
static void label_side(void) {
    float a[3], b[3], *const parts[2] = {a, b};
    make_folder("half_labels");
    write_file("half_labels/1.pgm", BYTES("P5 6 1 255\n\x0a\x14\x1e\1\2\3"));
    gan_dataset_desc desc = as_bytes(GAN_PAIRING_SIDES);
    desc.label_maps = 2;
    gan_dataset *data = open_data(in_folder("half_labels"), &desc);
    CHECK(!gan_dataset_get_parts(data, 0, parts, NULL), "%s", gan_context_error(ctx));
    CHECK(a[0] == 10.0f && a[2] == 30.0f && b[0] == 1.0f && b[2] == 3.0f, "%g %g %g %g",
          (double)a[0], (double)a[2], (double)b[0], (double)b[2]);
    gan_dataset_close(data);
}

/* --- descriptions that make no sense --------------------------------------- */

static void bad_descriptions(void) {
    const char *path = make_unpaired();
    gan_dataset_desc desc = plain_desc();
#define REFUSED(field, value, word)                                             \
    desc.field = value;                                                         \
    check_open_fails(#field " = " #value, path, &desc, GAN_ERR_ARGUMENT, word); \
    desc = plain_desc()
    REFUSED(pairing, (gan_pairing)6, "a gan_pairing expected, found 6");
    REFUSED(derive, (gan_derive)4, "a gan_derive expected, found 4");
    REFUSED(path_b, "b", "with path_b \"b\"");
    REFUSED(path_instances, "i", "with path_instances \"i\"");
    REFUSED(channels_b, 2, "found 2");
    REFUSED(first, -1, "found -1, 0");
    REFUSED(count, -1, "found 0, -1");
    REFUSED(pairing, GAN_PAIRING_NAMES, "path_b expected");
    desc.pairing = GAN_PAIRING_UNPAIRED;
    REFUSED(path_instances, "i", "with path_instances");
    desc.label_maps = 1;
    REFUSED(channels, 3, "label map in part 0 expected, found 3");
    desc.label_maps = 2;
    REFUSED(channels_b, 3, "label map in part 1 expected, found 3");
    desc.pairing = GAN_PAIRING_DERIVED;
    path = in_folder("both/trainA");
    REFUSED(label_maps, 2, "part 1, found a derived image");
    path = "digits";
    REFUSED(label_maps, 1, "part 0, found drawn digits");
#undef REFUSED
}

/* --- failing memory -------------------------------------------------------- */

/* Opens and reads with every pairing; the first failure ends it. */
static gan_status use_records(gan_context *in) {
    static float buffers[3][4 * 3 * 36];
    float *const parts[3] = {buffers[0], buffers[1], buffers[2]};
    gan_status status = GAN_OK;
    for (int k = GAN_PAIRING_NONE; k <= GAN_PAIRING_HALVES && !status; k++) {
        gan_dataset *data;
        gan_dataset_desc desc = plain_desc();
        desc.pairing = (gan_pairing)k;
        desc.height = desc.width = 6;
        desc.path_b = k == GAN_PAIRING_NAMES ? in_folder("labels") : NULL;
        desc.path_instances = k == GAN_PAIRING_NAMES ? in_folder("instances") : NULL;
        desc.label_maps = k == GAN_PAIRING_NAMES ? 2 : 0;
        const char *path = k == GAN_PAIRING_SIDES      ? in_folder("sides")
                           : k == GAN_PAIRING_NAMES    ? in_folder("photo")
                           : k == GAN_PAIRING_UNPAIRED ? in_folder("both")
                                                       : in_folder("both/trainB");
        status = gan_dataset_open(&data, in, path, &desc);
        if (!status) {
            status = gan_dataset_batch_parts(data, 1, 1, 4, parts, NULL);
            gan_dataset_close(data);
        }
    }
    return status;
}

static void failing_memory(void) {
    gan_status status = GAN_ERR_MEMORY;
    sides();
    label_maps();
    make_unpaired();
    for (int fail_at = 2; status; fail_at++) { /* 1: the context itself */
        counting c = {0, 0, fail_at};
        gan_context_desc desc;
        gan_context *in = NULL;
        memset(&desc, 0, sizeof desc);
        desc.allocator.alloc = counting_alloc;
        desc.allocator.free = counting_free;
        desc.allocator.user = &c;
        CHECK(!gan_context_create(&in, &desc), "context");
        status = use_records(in);
        CHECK(status == GAN_OK || status == GAN_ERR_MEMORY, "allocation %d: %s", fail_at,
              gan_context_error(in));
        CHECK((status == GAN_OK) == (c.calls < fail_at), "allocation %d failed, status %d", fail_at,
              (int)status);
        gan_context_destroy(in);
        CHECK(c.live == 0, "allocation %d: %d blocks leaked", fail_at, c.live);
        if (fail_at > 5000) {
            CHECK(0, "no end");
            break;
        }
    }
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    if (!files_begin("records")) {
        return 1;
    }
    TEST(sides);
    TEST(sides_resized);
    TEST(bad_sides);
    TEST(names);
    TEST(names_of_classes);
    TEST(bad_names);
    TEST(unpaired);
    TEST(unpaired_digits);
    TEST(bad_unpaired);
    TEST(derived_by_hand);
    TEST(derived);
    TEST(derived_channels);
    TEST(halves);
    TEST(common_crop_and_flip);
    TEST(pure_batches);
    TEST(pinned_batches);
    TEST(first_and_count);
    TEST(label_maps);
    TEST(label_side);
    TEST(bad_descriptions);
    TEST(failing_memory);
    files_end();
    return test_end();
}
