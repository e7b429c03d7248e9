/* files.h - a context and a folder of this process, for test files that read and write files. */
#ifndef FILES_H
#define FILES_H

#include "test.h"

#include <sys/stat.h>

static gan_context *ctx;
static char folder[256]; /* of all files that these tests write */

/* --- helpers --------------------------------------------------------------- */

/* A string that may hold zero bytes, without its end, and its length. */
#define BYTES(text) text, (int)sizeof text - 1

/* folder + "/" + name; sixteen at a time. */
static inline const char *in_folder(const char *name) {
    static char paths[16][512];
    static int next;
    next = (next + 1) % 16;
    snprintf(paths[next], sizeof paths[next], "%.250s/%.250s", folder, name);
    return paths[next];
}

static inline void make_folder(const char *name) {
    mkdir(in_folder(name), 0777);
}

static inline const char *write_file(const char *name, const void *bytes, int length) {
    const size_t size = (size_t)length;
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, size, file) == size, "cannot write %s", path);
    if (file) {
        fclose(file);
    }
    return path;
}

/* Reads a file into memory of malloc; NULL if there is none. */
static inline unsigned char *read_all(const char *path, size_t *size) {
    unsigned char *bytes = NULL;
    FILE *file = fopen(path, "rb");
    *size = 0;
    if (file) {
        fseek(file, 0, SEEK_END);
        *size = (size_t)ftell(file);
        bytes = (unsigned char *)malloc(*size + 1);
        rewind(file);
        *size = fread(bytes, 1, *size, file);
        fclose(file);
    }
    return bytes;
}

static inline int file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

/* Removes a folder and what is in it. */
static inline void remove_tree(const char *path) {
    gani_listing listing;
    gani_folder open;
    gan_status status;
    if (!gani_folder_open(ctx, &open, path)) {
        remove(path);
        return;
    }
    for (const char *name = gani_folder_next(&open); name; name = gani_folder_next(&open)) {
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            char *full = gani_join_path(ctx, path, name);
            remove(full);
            gani_free(ctx, full);
        }
    }
    gani_folder_close(&open);
    if (gani_list_folder(ctx, path, &listing, &status) && !status) {
        for (int i = 0; i < listing.folders.count; i++) {
            remove_tree(listing.folders.items[i]);
        }
        gani_free_listing(ctx, &listing);
    }
    rmdir(path);
}

static inline void check_status(gan_context *in, const char *what, gan_status got, gan_status want,
                                const char *word) {
    CHECK(got == want, "%s: status \"%s\" expected, found \"%s\" (%s)", what, gan_status_text(want),
          gan_status_text(got), gan_context_error(in));
    CHECK(got == GAN_OK || strstr(gan_context_error(in), word),
          "%s: \"%s\" expected in the message, found: %s", what, word, gan_context_error(in));
}

/* Images by a rule, the same as in resize_fixture.py. */
static inline gan_image rule_image(int channels, int width, int height) {
    gan_image image;
    image.channels = channels;
    image.width = width;
    image.height = height;
    image.maxval = 255;
    gani_image_allocate(ctx, &image);
    for (uint64_t i = 0; i < gani_image_count(&image); i++) {
        image.samples[i] = (uint16_t)((i * 2654435761u + i * i * 40503u) / 65536u % 256u);
    }
    return image;
}

static inline void write_pgm(const char *name, int width, int height, int shade) {
    gan_image image = rule_image(1, width, height);
    for (size_t i = 0; i < gani_image_count(&image); i++) {
        image.samples[i] = (uint16_t)((image.samples[i] + shade) % 256);
    }
    CHECK(gan_image_write(ctx, in_folder(name), &image) == GAN_OK, "%s", gan_context_error(ctx));
    gan_image_free(ctx, &image);
}

static inline gan_dataset_desc plain_desc(void) {
    gan_dataset_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

static inline gan_dataset *open_data(const char *path, const gan_dataset_desc *desc) {
    gan_dataset *data;
    gan_status status = gan_dataset_open(&data, ctx, path, desc);
    CHECK(!status, "%s: %s", path, gan_context_error(ctx));
    if (!data) { /* nothing below can go on */
        test_end();
        exit(1);
    }
    return data;
}

/* Makes the context and the folder; 0, with a message, if that fails. */
static inline int files_begin(const char *name) {
    snprintf(folder, sizeof folder, "%s", test_path(name));
    if (gan_context_create(&ctx, NULL) || mkdir(folder, 0777) != 0) {
        printf("cannot start: no context, or no folder %s\n0 passed, 1 failed\n", folder);
        return 0;
    }
    return 1;
}

static inline void files_end(void) {
    remove_tree(folder);
    gan_context_destroy(ctx);
}

#endif
