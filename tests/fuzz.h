/* fuzz.h - what is done with bytes from outside, one function for each kind of file. The fuzz targets (fuzz_*.c) and the
 * mutation loop of test_data.c share them. Each returns the status of the reader; what it accepts is then used.
 */
#ifndef FUZZ_H
#define FUZZ_H

#ifndef GAN_H
#define GAN_IMPLEMENTATION
#include "gan.h"
#endif

#include <unistd.h>

/* Writes the bytes to a file of this process, for readers that want one. */
static const char *fuzz_file(const char *name, const uint8_t *bytes, size_t size) {
    static char path[256];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%.200s/gan_fuzz_%ld_%s", folder ? folder : "/tmp", (long)getpid(),
             name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        abort();
    }
    return path;
}

/* Both halves of an image as a dataset keeps them: class numbers on the left, colours on the right.
 */
static gan_status fuzz_sides(gan_context *ctx, gan_image *image) {
    unsigned char block[3 * 5 * 2 + 3 * 5 * 3];
    gani_domain domain;
    memset(&domain, 0, sizeof domain);
    domain.ctx = ctx;
    domain.load_height = 3;
    domain.load_width = 5;
    domain.fit = image->height % 2 ? GAN_FIT_CROP : GAN_FIT_STRETCH;
    domain.sides = 2;
    domain.form[0].channels = 1;
    domain.form[0].is_labels = 1;
    domain.form[0].label_count = 100;
    domain.form[1].channels = 3;
    domain.form[1].offset = 3 * 5 * 2;
    gan_status status = gani_store_side(&domain, image, 1, block);
    gan_status labels = gani_store_side(&domain, image, 0, block);
    return status ? status : labels;
}

static gan_status fuzz_images(gan_context *ctx, const uint8_t *bytes, size_t size) {
    gan_image image;
    gan_status status = gan_image_decode(ctx, bytes, size, &image);
    if (!status) {
        fuzz_sides(ctx, &image);
        for (size_t i = 0; i < gani_image_count(&image); i++) {
            if (image.samples[i] > image.maxval) {
                abort();
            }
        }
        status = gan_image_convert(ctx, &image, image.channels == 1 ? 3 : 1);
        if (!status) {
            status = gan_image_resize(ctx, &image, 7, 5, GAN_FILTER_BILINEAR);
        }
    }
    gan_image_free(ctx, &image);
    return status;
}

/* A dataset from a file of these bytes; with sizes given, images are touched by batches only. */
static gan_status fuzz_dataset(gan_context *ctx, const char *path, const char *path_b) {
    static float images[4 * 3 * 8 * 8], others[4 * 3 * 8 * 8], labels[4];
    float *const parts[2] = {images, others};
    gan_dataset *data;
    gan_dataset_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.height = desc.width = 8;
    desc.channels = desc.channels_b = 3;
    desc.pairing = path_b ? GAN_PAIRING_NAMES : GAN_PAIRING_NONE;
    desc.path_b = path_b;
    gan_status status = gan_dataset_open(&data, ctx, path, &desc);
    if (!status) {
        status = gan_dataset_batch_parts(data, 1, 2, 4, parts,
                                         gan_dataset_classes(data) ? labels : NULL);
        gan_dataset_close(data);
    }
    return status;
}

/* The labels file beside the images file gets the same bytes. */
static gan_status fuzz_idx(gan_context *ctx, const uint8_t *bytes, size_t size) {
    char labels[256];
    snprintf(labels, sizeof labels, "%s", fuzz_file("labels-idx1", bytes, size));
    const char *images = fuzz_file("images-idx3", bytes, size);
    gan_status status = fuzz_dataset(ctx, images, NULL);
    if (status && strstr(gan_context_error(ctx), "labels-idx1")) { /* then without labels */
        remove(labels);
        status = fuzz_dataset(ctx, images, NULL);
    }
    remove(labels);
    remove(images);
    return status;
}

static gan_status fuzz_lists(gan_context *ctx, const uint8_t *bytes, size_t size) {
    const char *path = fuzz_file("list.txt", bytes, size);
    gan_status status = fuzz_dataset(ctx, path, NULL);
    fuzz_dataset(ctx, path, path); /* each file its own partner */
    remove(path);
    return status;
}

/* A checkpoint of either container: what it lists is read, written again, and perhaps recognised. */
static gan_status fuzz_checkpoint(gan_context *ctx, const uint8_t *bytes, size_t size) {
    gan_checkpoint *checkpoint;
    char again[300];
    const char *path = fuzz_file("checkpoint", bytes, size);
    snprintf(again, sizeof again, "%s.again", path);
    gan_status status = gan_checkpoint_open(&checkpoint, ctx, path);
    for (int i = 0; !status && i < gan_checkpoint_count(checkpoint); i++) {
        gan_checkpoint_tensor tensor = gan_checkpoint_at(checkpoint, i);
        if (gan_checkpoint_find(checkpoint, tensor.name) != i) {
            abort();
        }
        float *values = (float *)malloc((tensor.count + 1) * sizeof(float));
        status = gan_checkpoint_read(checkpoint, i, values, tensor.count);
        free(values);
        status = status == GAN_ERR_UNSUPPORTED ? GAN_OK : status;
    }
    if (!status && gan_checkpoint_count(checkpoint) > 0) {
        gan_checkpoint *written = NULL;
        status = gan_checkpoint_export(checkpoint, again, NULL);
        if (!status && gan_checkpoint_open(&written, ctx, again)) {
            abort();
        }
        status = status == GAN_ERR_UNSUPPORTED ? GAN_OK : status; /* names that it cannot have */
        gan_checkpoint_close(written);
        remove(again);
        gani_foreign net;
        if (!gani_recognise(&net, checkpoint) && !net.desc.system) {
            abort();
        }
    }
    gan_checkpoint_close(checkpoint);
    remove(path);
    return status;
}

/* Body of a fuzz target; failures are reported by abort and by sanitizers. */
#define FUZZ_TARGET(function)                                       \
    int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);  \
    int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) { \
        static gan_context *ctx;                                    \
        if (!ctx && gan_context_create(&ctx, NULL)) {               \
            abort();                                                \
        }                                                           \
        function(ctx, bytes, size);                                 \
        return 0;                                                   \
    }

#endif
