/* test_data.c - images, datasets, checkpoints: good and malformed files, round trips, determinism, failing memory and disks. */
#include "test.h"
#include "fuzz.h"
#include "files.h"
#include "resize_fixture.h"

#include <signal.h>
#include <sys/resource.h>

/* --- images ---------------------------------------------------------------- */

typedef struct image_case {
    const char *bytes;
    int size;
    gan_status status;
    const char *found; /* a word of the message, or "WxHxC/maxval: samples" */
} image_case;

static const image_case image_cases[] = {
    {BYTES("P1\n# c\n3 2\n101\n0 1 0"), GAN_OK, "3x2x1/1: 0 1 0 1 0 1"},
    {BYTES("P2 3 1 15 0 7 15"), GAN_OK, "3x1x1/15: 0 7 15"},
    {BYTES("P2#c\n#d\n2#e\n1\n65535 #f\n0#g\n65535"), GAN_OK, "2x1x1/65535: 0 65535"},
    {BYTES("P3\n1 2\n255\n1 2 3\n4 5 6 trailing"), GAN_OK, "1x2x3/255: 1 2 3 4 5 6"},
    {BYTES("P4\n9 2\n\x80\x80\x7f\x00"), GAN_OK, "9x2x1/1: 0 1 1 1 1 1 1 1 0 1 0 0 0 0 0 0 0 1"},
    {BYTES("P5 2 1 255\n#A"), GAN_OK, "2x1x1/255: 35 65"},
    {BYTES("P5 2 1 255#note\nAB"), GAN_OK, "2x1x1/255: 65 66"},
    {BYTES("P5 2 1 300\n\x01\x02\x00\x03"), GAN_OK, "2x1x1/300: 258 3"},
    {BYTES("P6\n1 1\n255\nABCP6"), GAN_OK, "1x1x3/255: 65 66 67"},
    {BYTES("P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\nABCD"), GAN_OK,
     "1x1x4/255: 65 66 67 68"},
    {BYTES("P7\n# c\nMAXVAL 1\nDEPTH 2\nHEIGHT 1\nWIDTH 1\nENDHDR\n\x01\x00"), GAN_OK,
     "1x1x2/1: 1 0"},
    {BYTES(""), GAN_ERR_FORMAT, "P1 ... P7"},
    {BYTES("P"), GAN_ERR_FORMAT, "1 bytes"},
    {BYTES("P8 1 1 1 "), GAN_ERR_FORMAT, "P1 ... P7"},
    {BYTES("hello"), GAN_ERR_FORMAT, "5 bytes"},
    {BYTES("\x89PNG\r\n\x1a\n"), GAN_ERR_UNSUPPORTED, "PNG"},
    {BYTES("\xff\xd8\xff\xe0"), GAN_ERR_UNSUPPORTED, "JPEG"},
    {BYTES("P5"), GAN_ERR_FORMAT, "width expected, found the end"},
    {BYTES("P5x"), GAN_ERR_FORMAT, "white space"},
    {BYTES("P52 1 255\nAB"), GAN_ERR_FORMAT, "white space"},
    {BYTES("P5 -2 1 255\nAB"), GAN_ERR_FORMAT, "width expected at byte 3, found 0x2d"},
    {BYTES("P5 2"), GAN_ERR_FORMAT, "height"},
    {BYTES("P5 2 1"), GAN_ERR_FORMAT, "maxval"},
    {BYTES("P5 2 1 255"), GAN_ERR_FORMAT, "white space after the header"},
    {BYTES("P5 2 1 255x"), GAN_ERR_FORMAT, "white space after the header"},
    {BYTES("P5 2 1 65536\nAB"), GAN_ERR_FORMAT, "maxval of at most 65535"},
    {BYTES("P5 2 1 0\nAB"), GAN_ERR_FORMAT, "maxval 0"},
    {BYTES("P5 0 1 255\n"), GAN_ERR_FORMAT, "0 x 1"},
    {BYTES("P5 99999999999999999999 1 255\n"), GAN_ERR_FORMAT, "width of at most"},
    {BYTES("P5 100000000 100000000 255\nAB"), GAN_ERR_LIMIT, "GAN_MAX_PIXELS"},
    {BYTES("P5 8000 8000 255\nAB"), GAN_ERR_FORMAT, "64000000 bytes of samples expected, found 2"},
    {BYTES("P5 2 2 255\nABC"), GAN_ERR_FORMAT, "4 bytes of samples expected, found 3"},
    {BYTES("P5 2 2 256\nABCDEFG"), GAN_ERR_FORMAT, "8 bytes of samples expected, found 7"},
    {BYTES("P5 1 1 10\nA"), GAN_ERR_FORMAT, "at most 10 (maxval) expected, found 65"},
    {BYTES("P6 1 1 255\nAB"), GAN_ERR_FORMAT, "3 bytes of samples expected, found 2"},
    {BYTES("P4 9 2\nABC"), GAN_ERR_FORMAT, "4 bytes of samples expected, found 3"},
    {BYTES("P2 2 1 9 1 10"), GAN_ERR_FORMAT, "sample of at most 9"},
    {BYTES("P2 2 1 9 1 ##"), GAN_ERR_FORMAT, "sample expected, found the end"},
    {BYTES("P2 9 9 9 1 1"), GAN_ERR_FORMAT, "at least 161 bytes"},
    {BYTES("P2 2 1 9 1 x"), GAN_ERR_FORMAT, "sample expected"},
    {BYTES("P1 2 1 12"), GAN_ERR_FORMAT, "0 or 1 expected"},
    {BYTES("P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nENDHDR\nA"), GAN_ERR_FORMAT, "MAXVAL"},
    {BYTES("P7\nWIDTH 1\nHEIGHT 1\nDEPTH 5\nMAXVAL 255\nENDHDR\nABCDE"), GAN_ERR_UNSUPPORTED,
     "found 5"},
    {BYTES("P7\nSIZE 1\n"), GAN_ERR_FORMAT, "WIDTH, HEIGHT"},
    {BYTES("P7\nWIDTH 1"), GAN_ERR_FORMAT, "found the end"},
};

static void read_images(void) {
    for (size_t i = 0; i < sizeof image_cases / sizeof image_cases[0]; i++) {
        const image_case *c = &image_cases[i];
        const size_t size = (size_t)c->size;
        unsigned char *exact =
            (unsigned char *)malloc(size + !size); /* so that a sanitizer sees reads beyond */
        gan_image image;
        memcpy(exact, c->bytes, size);
        gan_status status = gan_image_decode(ctx, exact, size, &image);
        check_status(ctx, c->bytes, status, c->status, c->found);
        if (!status) {
            char text[256];
            int used = snprintf(text, sizeof text, "%dx%dx%d/%d:", image.width, image.height,
                                image.channels, image.maxval);
            for (size_t k = 0; k < gani_image_count(&image) && used < 200; k++) {
                used += snprintf(text + used, sizeof text - (size_t)used, " %d", image.samples[k]);
            }
            CHECK(strcmp(text, c->found) == 0, "%s: %s expected, found %s", c->bytes, c->found,
                  text);
        } else {
            CHECK(!image.samples && image.width == 0, "%s: empty image expected", c->bytes);
        }
        gan_image_free(ctx, &image);
        free(exact);
    }
    gan_image image;
    check_status(ctx, "no file", gan_image_load(ctx, in_folder("none.pgm"), &image), GAN_ERR_FILE,
                 "none.pgm");
    check_status(ctx, "folder", gan_image_load(ctx, folder, &image), GAN_ERR_FILE, folder);
    const char *bad = write_file("bad.pgm", BYTES("P5 2 2 255\nABC"));
    check_status(ctx, "bad file", gan_image_load(ctx, bad, &image), GAN_ERR_FORMAT,
                 "bad.pgm: 2 x 2 image");
}

static void image_limit(void) { /* one row more than the limit, all bits there */
    const unsigned width = 16384, height = GAN_MAX_PIXELS / width + 1;
    const size_t size = 64 + (size_t)width / 8 * height;
    char *bytes = (char *)calloc(1, size);
    gan_image image;
    snprintf(bytes, 64, "P4 %u %u\n", width, height);
    check_status(ctx, "limit", gan_image_decode(ctx, bytes, size, &image), GAN_ERR_LIMIT,
                 "GAN_MAX_PIXELS");
    free(bytes);
}

static void write_and_read(void) {
    static const int maxvals[] = {1, 15, 255, 256, 65535};
    static const char *const names[] = {"t.pgm", "t.ppm"};
    for (int m = 0; m < 5; m++) {
        for (int colour = 0; colour < 2; colour++) {
            gan_image image = rule_image(colour ? 3 : 1, 37, 21), back;
            image.maxval = maxvals[m];
            for (size_t i = 0; i < gani_image_count(&image); i++) {
                image.samples[i] =
                    (uint16_t)(image.samples[i] * 257u % ((unsigned)maxvals[m] + 1u));
            }
            const char *path = in_folder(names[colour]);
            gan_status status = gan_image_write(ctx, path, &image);
            CHECK(!status, "%s", gan_context_error(ctx));
            status = gan_image_load(ctx, path, &back);
            CHECK(!status, "%s", gan_context_error(ctx));
            CHECK(back.width == 37 && back.height == 21 && back.channels == image.channels &&
                      back.maxval == maxvals[m],
                  "header");
            CHECK(!status && memcmp(back.samples, image.samples, gani_image_count(&image) * 2) == 0,
                  "samples, maxval %d", maxvals[m]);
            gan_image_free(ctx, &back);
            gan_image_free(ctx, &image);
        }
    }
    gan_image image = rule_image(2, 3, 3);
    check_status(ctx, "alpha", gan_image_write(ctx, in_folder("t.pgm"), &image), GAN_ERR_ARGUMENT,
                 "2 channels");
    check_status(ctx, "name", gan_image_write(ctx, in_folder("t.jpg"), &image), GAN_ERR_ARGUMENT,
                 ".png, .pgm or .ppm");
    gan_image_free(ctx, &image);
}

/* A small inflater, for fixed codes alone, that checks what a PNG reader would. */
typedef struct inflater {
    const unsigned char *bytes;
    size_t size, bit;
} inflater;

static unsigned take_bits(inflater *in, int count) {
    unsigned value = 0;
    for (int i = 0; i < count; i++, in->bit++) {
        if (in->bit / 8 < in->size) {
            value |= (unsigned)(in->bytes[in->bit / 8] >> (in->bit % 8) & 1) << i;
        }
    }
    return value;
}

static unsigned take_code(inflater *in, int count) {
    unsigned value = 0;
    while (count-- > 0) {
        value = value << 1 | take_bits(in, 1);
    }
    return value;
}

static unsigned take_symbol(inflater *in) {
    unsigned code = take_code(in, 7);
    if (code < 24) {
        return 256 + code;
    }
    code = code << 1 | take_bits(in, 1);
    if (code >= 0x30 && code < 0xc0) {
        return code - 0x30;
    }
    if (code >= 0xc0 && code < 0xc8) {
        return 280 + code - 0xc0;
    }
    return (code << 1 | take_bits(in, 1)) - 0x190 + 144;
}

/* zlib stream -> out; number of bytes, 0 if it is wrong. */
static size_t inflate_fixed(const unsigned char *bytes, size_t size, unsigned char *out,
                            size_t capacity) {
    static const unsigned length_base[] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                           15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                           67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const int length_bits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const unsigned distance_base[] = {
        1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    inflater in = {bytes, size, 16};
    size_t used = 0;
    if (size < 6 || (bytes[0] * 256 + bytes[1]) % 31 != 0 || bytes[0] != 0x78 ||
        take_bits(&in, 3) != 3) {
        return 0;
    }
    for (;;) {
        const unsigned symbol = take_symbol(&in);
        if (symbol < 256 && used < capacity) {
            out[used++] = (unsigned char)symbol;
        } else if (symbol == 256) {
            break;
        } else if (symbol > 285 || symbol < 257) {
            return 0;
        } else {
            const unsigned length =
                length_base[symbol - 257] + take_bits(&in, length_bits[symbol - 257]);
            const unsigned row = take_code(&in, 5);
            const unsigned distance =
                row < 30 ? distance_base[row] + take_bits(&in, row < 4 ? 0 : (int)row / 2 - 1) : 0;
            if (distance == 0 || distance > used || used + length > capacity) {
                return 0;
            }
            for (unsigned i = 0; i < length; i++, used++) {
                out[used] = out[used - distance];
            }
        }
    }
    const size_t end = (in.bit + 7) / 8;
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < used; i++) {
        a = (a + out[i]) % 65521;
        b = (b + a) % 65521;
    }
    return end + 4 == size && gani_get_be32(bytes + end) == (b << 16 | a) ? used : 0;
}

static uint32_t slow_crc(const unsigned char *bytes, size_t size) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++) {
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        }
    }
    return ~crc;
}

/* Inflates the pixels of a PNG and undoes its filters; 1 if all is right. */
static int read_rows(const unsigned char *stream, size_t stream_size, int width, int height,
                     int channels, unsigned char *pixels) {
    const size_t row = (size_t)(width * channels), total = (row + 1) * (size_t)height;
    unsigned char *data = (unsigned char *)malloc(total + 1);
    const int ok = inflate_fixed(stream, stream_size, data, total + 1) == total;
    for (int y = 0; ok && y < height; y++) {
        const unsigned char *line = data + (size_t)y * (row + 1);
        for (size_t i = 0; i < row; i++) {
            const int a =
                i >= (size_t)channels ? pixels[(size_t)y * row + i - (size_t)channels] : 0;
            const int b = y ? pixels[(size_t)(y - 1) * row + i] : 0;
            const int c = y && i >= (size_t)channels
                              ? pixels[(size_t)(y - 1) * row + i - (size_t)channels]
                              : 0;
            const int p = a + b - c, da = abs(p - a), db = abs(p - b), dc = abs(p - c);
            const int guesses[5] = {0, a, b, (a + b) / 2,
                                    da <= db && da <= dc ? a
                                    : db <= dc           ? b
                                                         : c};
            pixels[(size_t)y * row + i] = (unsigned char)(line[1 + i] + guesses[line[0] % 5]);
        }
    }
    free(data);
    return ok;
}

/* Reads a PNG file of known size back into pixels [height,width*channels]; 1 if all is right. */
static int read_png(const char *path, int width, int height, int channels, int colour_type,
                    unsigned char *pixels) {
    size_t size, at = 8, stream_size = 0;
    unsigned char *bytes = read_all(path, &size);
    unsigned char *stream = (unsigned char *)malloc(size + 1);
    int ended = 0, ok = size > 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
    while (ok && at + 12 <= size) {
        const size_t length = gani_get_be32(bytes + at);
        ok = at + 12 + length <= size &&
             slow_crc(bytes + at + 4, length + 4) == gani_get_be32(bytes + at + 8 + length);
        if (ok && memcmp(bytes + at + 4, "IHDR", 4) == 0) {
            ok = at == 8 && length == 13 && gani_get_be32(bytes + at + 8) == (uint32_t)width &&
                 gani_get_be32(bytes + at + 12) == (uint32_t)height && bytes[at + 16] == 8 &&
                 bytes[at + 17] == colour_type;
        } else if (ok && memcmp(bytes + at + 4, "IDAT", 4) == 0) {
            memcpy(stream + stream_size, bytes + at + 8, length);
            stream_size += length;
        } else if (ok) {
            ended = memcmp(bytes + at + 4, "IEND", 4) == 0 && at + 12 == size;
        }
        at += 12 + length;
    }
    ok = ok && ended && read_rows(stream, stream_size, width, height, channels, pixels);
    free(bytes);
    free(stream);
    return ok;
}

/* Noise, flat areas and slopes at sizes around the encoder's window, chunks and longest match. */
static void png_files(void) {
    static const int sizes[][2] = {{1, 1},   {2, 1},   {1, 3},    {257, 3},
                                   {259, 2}, {64, 64}, {300, 200}};
    static const int colour_types[5] = {0, 0, 4, 2, 6};
    for (int s = 0; s < 7; s++) {
        for (int channels = 1; channels <= 4; channels++) {
            for (int kind = 0; kind < 4; kind++) {
                const int width = sizes[s][0], height = sizes[s][1];
                gan_image image = rule_image(channels, width, height);
                const size_t count = gani_image_count(&image);
                for (size_t i = 0; i < count; i++) {
                    const int x = (int)i / channels % width, y = (int)i / channels / width;
                    image.samples[i] = (uint16_t)(kind == 0   ? image.samples[i]
                                                  : kind == 1 ? 200
                                                  : kind == 2 ? (x * 2 + y * 3) % 256
                                                              : (x / 9 + y / 7) % 2 * 255);
                }
                unsigned char *pixels = (unsigned char *)malloc(count);
                const char *path = in_folder("t.png");
                CHECK(!gan_image_write(ctx, path, &image), "%s", gan_context_error(ctx));
                int ok = read_png(path, width, height, channels, colour_types[channels], pixels);
                for (size_t i = 0; ok && i < count; i++) {
                    ok = pixels[i] == image.samples[i];
                }
                CHECK(ok, "PNG %d x %d x %d kind %d", width, height, channels, kind);
                free(pixels);
                gan_image_free(ctx, &image);
            }
        }
    }
    size_t size;
    gan_image flat = rule_image(1, 500, 500);
    memset(flat.samples, 0, 500 * 500 * 2);
    gan_image_write(ctx, in_folder("t.png"), &flat);
    free(read_all(in_folder("t.png"), &size));
    CHECK(size < 2500, "a flat image of 250000 pixels should take about 1200 bytes, found %lu",
          (unsigned long)size);
    gan_image_free(ctx, &flat);
}

/* Frame `wanted` of an animated PNG back into pixels; the chunks are checked on the way. */
static int read_frame(const char *path, int wanted, int frames, int milliseconds, int width,
                      int height, int channels, unsigned char *pixels) {
    size_t size, stream_size = 0;
    unsigned char *bytes = read_all(path, &size);
    unsigned char *stream = (unsigned char *)malloc(size + 1);
    uint32_t sequence = 0;
    int frame = -1, controls = 0, ok = size > 8;
    for (size_t at = 8; ok && at + 12 <= size;) {
        const size_t length = gani_get_be32(bytes + at);
        const char *type = (const char *)bytes + at + 4;
        const unsigned char *data = bytes + at + 8;
        const int number = memcmp(type, "fdAT", 4) == 0 ? 4 : 0;
        ok = at + 12 + length <= size &&
             slow_crc(bytes + at + 4, length + 4) == gani_get_be32(data + length);
        if (ok && memcmp(type, "acTL", 4) == 0) {
            ok = frame < 0 && gani_get_be32(data) == (uint32_t)frames && controls++ == 0;
        } else if (ok && memcmp(type, "fcTL", 4) == 0) {
            ok = gani_get_be32(data) == sequence++ && gani_get_be32(data + 4) == (uint32_t)width &&
                 gani_get_be32(data + 8) == (uint32_t)height &&
                 data[20] * 256 + data[21] == milliseconds && data[22] * 256 + data[23] == 1000;
            frame++;
        } else if (ok && (number || memcmp(type, "IDAT", 4) == 0)) {
            ok = (frame > 0) == (number > 0) && (!number || gani_get_be32(data) == sequence++);
            if (frame == wanted) {
                memcpy(stream + stream_size, data + number, length - (size_t)number);
                stream_size += length - (size_t)number;
            }
        }
        at += 12 + length;
    }
    ok = ok && controls == 1 && frame == frames - 1 &&
         read_rows(stream, stream_size, width, height, channels, pixels);
    free(bytes);
    free(stream);
    return ok;
}

static void animations(void) {
    enum { FRAMES = 3, SIZE = 3 * 60 * 90 };
    static float frames[FRAMES * SIZE];
    static unsigned char pixels[SIZE];
    const char *path = in_folder("a.png");
    for (int i = 0; i < FRAMES * SIZE; i++) { /* noise, so that a frame takes several chunks */
        frames[i] = (float)((unsigned)i * 2654435761u >> 24) / 127.5f - 1.0f;
    }
    CHECK(!gan_image_write_animation(ctx, path, frames, FRAMES, 3, 60, 90, -1.0f, 1.0f, 0.04), "%s",
          gan_context_error(ctx));
    for (int f = 0; f < FRAMES; f++) {
        CHECK(read_frame(path, f, FRAMES, 40, 90, 60, 3, pixels), "frame %d", f);
        for (int i = 0; i < SIZE; i++) { /* pixels [60,90,3], frames [3,60,90] */
            const unsigned at = (unsigned)(f * SIZE + i % 3 * 5400 + i / 3);
            CHECK(pixels[i] == at * 2654435761u >> 24, "frame %d, byte %d", f, i);
        }
    }
    CHECK(
        !gan_image_write_animation(ctx, in_folder("a.apng"), frames, 1, 1, 2, 2, 0.0f, 1.0f, 65.0),
        "%s", gan_context_error(ctx));
    CHECK(read_frame(in_folder("a.apng"), 0, 1, 65000, 2, 2, 1, pixels), "one frame");
    check_status(
        ctx, "name",
        gan_image_write_animation(ctx, in_folder("a.gif"), frames, 1, 1, 2, 2, 0.0f, 1.0f, 1.0),
        GAN_ERR_ARGUMENT, ".png or .apng");
    check_status(ctx, "time",
                 gan_image_write_animation(ctx, path, frames, 1, 1, 2, 2, 0.0f, 1.0f, 66.0),
                 GAN_ERR_ARGUMENT, "65 seconds");
    check_status(ctx, "count",
                 gan_image_write_animation(ctx, path, frames, 0, 1, 2, 2, 0.0f, 1.0f, 1.0),
                 GAN_ERR_ARGUMENT, "1 frame");
    check_status(ctx, "size",
                 gan_image_write_animation(ctx, path, frames, 1, 1, 65536, 65536, 0.0f, 1.0f, 1.0),
                 GAN_ERR_LIMIT, "a.png: image of at most");
    check_status(ctx, "folder",
                 gan_image_write_animation(ctx, in_folder("none/a.png"), frames, 1, 1, 2, 2, 0.0f,
                                           1.0f, 1.0),
                 GAN_ERR_FILE, "none/a.png");
}

static void resize_as_pillow(void) {
    for (size_t i = 0; i < sizeof resize_cases / sizeof resize_cases[0]; i++) {
        const resize_case *c = &resize_cases[i];
        gan_image image = rule_image(c->channels, c->width, c->height);
        gan_status status =
            c->filter == 2 ? gan_image_convert(ctx, &image, 1)
                           : gan_image_resize(ctx, &image, c->new_width, c->new_height,
                                              c->filter ? GAN_FILTER_NEAREST : GAN_FILTER_BILINEAR);
        int differ = 0;
        for (int k = 0; !status && k < c->count; k++) {
            differ += image.samples[k] != resize_values[c->first + k];
        }
        CHECK(!status && (int)gani_image_count(&image) == c->count && differ == 0,
              "case %d: %d of %d samples differ", (int)i, differ, c->count);
        gan_image_free(ctx, &image);
    }
}

/* 16-bit images go through the same weights: a ramp stays a ramp, white stays white. */
static void resize_deep(void) {
    gan_image image = rule_image(1, 64, 3);
    image.maxval = 65535;
    for (int i = 0; i < 64 * 3; i++) {
        image.samples[i] = (uint16_t)(i % 64 * 1024);
    }
    CHECK(!gan_image_resize(ctx, &image, 32, 3, GAN_FILTER_BILINEAR), "%s", gan_context_error(ctx));
    for (int x = 1; x < 31;
         x++) { /* symmetric weights around 2x + 0.5; rounding of weights costs at most 1 */
        CHECK(abs(image.samples[x] - (2 * x * 1024 + 512)) <= 1, "sample %d: %d", x,
              image.samples[x]);
    }
    for (size_t i = 0; i < gani_image_count(&image); i++) {
        image.samples[i] = 65535;
    }
    CHECK(!gan_image_resize(ctx, &image, 7, 11, GAN_FILTER_BILINEAR), "%s", gan_context_error(ctx));
    for (size_t i = 0; i < gani_image_count(&image); i++) {
        CHECK(image.samples[i] == 65535, "white: %d", image.samples[i]);
    }
    check_status(ctx, "size", gan_image_resize(ctx, &image, 0, 5, GAN_FILTER_BILINEAR),
                 GAN_ERR_ARGUMENT, "0 x 5");
    gan_image_free(ctx, &image);
}

static void convert_and_crop(void) {
    gan_image image = rule_image(4, 2, 1);
    static const uint16_t rgba[8] = {100, 200, 50, 255, 100, 200, 50, 0};
    memcpy(image.samples, rgba, sizeof rgba);
    CHECK(!gan_image_convert(ctx, &image, 3), "%s", gan_context_error(ctx));
    CHECK(image.samples[0] == 100 && image.samples[2] == 50 && image.samples[3] == 255 &&
              image.samples[5] == 255,
          "opaque stays, clear becomes white");
    CHECK(!gan_image_convert(ctx, &image, 1), "%s", gan_context_error(ctx));
    CHECK(image.channels == 1 && image.samples[0] == 153 && image.samples[1] == 255, "grey %d",
          image.samples[0]);
    CHECK(!gan_image_convert(ctx, &image, 3) && image.samples[1] == 153, "back to colour");
    check_status(ctx, "channels", gan_image_convert(ctx, &image, 2), GAN_ERR_ARGUMENT, "found 2");
    gan_image_free(ctx, &image);

    image = rule_image(3, 9, 8);
    gan_image whole = rule_image(3, 9, 8);
    CHECK(!gan_image_crop(ctx, &image, 2, 3, 5, 4), "%s", gan_context_error(ctx));
    for (int y = 0; y < 4; y++) {
        CHECK(memcmp(image.samples + y * 15, whole.samples + ((y + 3) * 9 + 2) * 3, 30) == 0,
              "row %d", y);
    }
    check_status(ctx, "outside", gan_image_crop(ctx, &image, 1, 0, 5, 4), GAN_ERR_ARGUMENT,
                 "inside 5 x 4");
    check_status(ctx, "outside", gan_image_crop(ctx, &image, INT_MAX, 0, 5, 4), GAN_ERR_ARGUMENT,
                 "inside");
    gan_image_free(ctx, &image);
    gan_image_free(ctx, &whole);
}

/* What no image can be, and one that is empty since it could not be read. */
static void no_images(void) {
    uint16_t samples[8] = {0};
    static const struct {
        int width, height, channels, maxval, has_samples;
    } rows[] = {{0, 0, 0, 0, 0}, {0, 2, 1, 255, 1},  {2, -1, 1, 255, 1},  {2, 1, 0, 255, 1},
                {2, 1, 5, 255, 1}, {2, 1, 1, 0, 1}, {2, 1, 1, 65536, 1}, {2, 1, 1, 255, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_image image;
        image.width = rows[i].width;
        image.height = rows[i].height;
        image.channels = rows[i].channels;
        image.maxval = rows[i].maxval;
        image.samples = rows[i].has_samples ? samples : NULL;
        check_status(ctx, "write", gan_image_write(ctx, in_folder("n.png"), &image),
                     GAN_ERR_ARGUMENT, "1 to 4 channels");
        check_status(ctx, "convert", gan_image_convert(ctx, &image, 1), GAN_ERR_ARGUMENT,
                     "gan_image_convert");
        check_status(ctx, "resize",
                     gan_image_resize(ctx, &image, 3, 3, GAN_FILTER_BILINEAR), GAN_ERR_ARGUMENT,
                     "gan_image_resize");
    }
}

static void grids(void) {
    float values[5 * 3 * 4 * 6];
    for (int i = 0; i < 5 * 3 * 4 * 6; i++) {
        values[i] = (float)(i % 72) / 71.0f * 2.0f - 1.0f;
    }
    values[0] = HUGE_VALF;
    values[1] = -HUGE_VALF;
    values[2] = values[0] - values[0];
    gan_image grid;
    CHECK(!gan_image_write_grid(ctx, in_folder("g.ppm"), values, 5, 3, 4, 6, 2, -1.0f, 1.0f), "%s",
          gan_context_error(ctx));
    CHECK(!gan_image_load(ctx, in_folder("g.ppm"), &grid), "%s", gan_context_error(ctx));
    CHECK(grid.width == 2 * 8 + 2 && grid.height == 3 * 6 + 2, "%d x %d", grid.width, grid.height);
    const uint16_t *first = grid.samples + (2 * 18 + 2) * 3;
    CHECK(grid.samples[0] == 128 && first[0] == 255 && first[3] == 0 && first[6] == 0,
          "border, infinities, NaN");
    for (int i = 0; i < 5; i++) {
        for (int k = 3; k < 72; k++) {
            const int c = k / 24, y = k / 6 % 4 + 2 + i / 2 * 6, x = k % 6 + 2 + i % 2 * 8;
            const int got = grid.samples[(y * 18 + x) * 3 + c],
                      want = (int)((double)k / 71.0 * 255.0 + 0.5);
            CHECK(got == want, "image %d value %d: %d expected, found %d", i, k, want, got);
        }
    }
    CHECK(grid.samples[(16 * 18 + 11) * 3] == 128, "the place of the missing sixth image is grey");
    gan_image_free(ctx, &grid);
    CHECK(!gan_image_write_grid(ctx, in_folder("g.pgm"), values, 5, 1, 4, 6, 0, 0.0f, 1.0f), "%s",
          gan_context_error(ctx));
    CHECK(!gan_image_load(ctx, in_folder("g.pgm"), &grid) && grid.width == 3 * 8 + 2,
          "three columns");
    gan_image_free(ctx, &grid);
    check_status(ctx, "none",
                 gan_image_write_grid(ctx, in_folder("g.png"), values, 0, 1, 4, 6, 0, 0.0f, 1.0f),
                 GAN_ERR_ARGUMENT, "at least 1 image");
    check_status(ctx, "large",
                 gan_image_write_grid(ctx, in_folder("g.png"), values, INT_MAX, 1, 4, INT_MAX, 0,
                                      0.0f, 1.0f),
                 GAN_ERR_LIMIT, "GAN_MAX_PIXELS");
}

/* A file that cannot be written leaves nothing behind and the old one as it was. */
static void failing_writes(void) {
    gan_image image = rule_image(1, 4, 4);
    size_t size;
    check_status(ctx, "no folder", gan_image_write(ctx, in_folder("none/x.png"), &image),
                 GAN_ERR_FILE, "none/x.png");
    CHECK(!file_exists(in_folder("none/x.png")) && !file_exists(in_folder("none/x.png.tmp")),
          "left behind");
    make_folder("taken.png"); /* the finished file cannot take this name */
    make_folder("taken.png/inner");
    check_status(ctx, "taken", gan_image_write(ctx, in_folder("taken.png"), &image), GAN_ERR_FILE,
                 "rename");
    CHECK(!file_exists(in_folder("taken.png.tmp")), "left behind");
    write_file("old.pgm", BYTES("old"));
    make_folder("old.pgm.tmp"); /* the temporary file cannot be made */
    check_status(ctx, "old", gan_image_write(ctx, in_folder("old.pgm"), &image), GAN_ERR_FILE,
                 "create");
    unsigned char *old = read_all(in_folder("old.pgm"), &size);
    CHECK(size == 3 && memcmp(old, "old", 3) == 0, "the old file has changed");
    free(old);
    rmdir(in_folder("old.pgm.tmp"));
    CHECK(!gan_image_write(ctx, in_folder("old.pgm"), &image), "%s", gan_context_error(ctx));
    gan_image_free(ctx, &image);
    CHECK(!gan_image_load(ctx, in_folder("old.pgm"), &image) &&
              !file_exists(in_folder("old.pgm.tmp")),
          "replaced");
    gan_image_free(ctx, &image);
}

/* Files may have 2000 bytes: as on a disk that is full. */
static void full_disk(void) {
    gan_image image = rule_image(3, 60, 50);
    static float frames[2 * 3 * 60 * 50];
    gan_params *params;
    struct rlimit limit, small;
    const gan_init init = {GAN_INIT_NORMAL, 0.0f, 1.0f};
    CHECK(!gan_params_create(&params, ctx, 1) &&
              !gani_params_add(params, "w", gan_shape1(9000), GAN_PARAM_WEIGHT, init),
          "%s", gan_context_error(ctx));
    gan_random_uniform(1, 1, 0, frames, sizeof frames / sizeof frames[0]);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = 2000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    check_status(ctx, "png", gan_image_write(ctx, in_folder("full.png"), &image), GAN_ERR_FILE,
                 "cannot write");
    check_status(ctx, "ppm", gan_image_write(ctx, in_folder("full.ppm"), &image), GAN_ERR_FILE,
                 "cannot write");
    check_status(ctx, "animation",
                 gan_image_write_animation(ctx, in_folder("full.apng"), frames, 2, 3, 50, 60, 0.0f,
                                           1.0f, 1.0),
                 GAN_ERR_FILE, "cannot write");
    check_status(ctx, "store", gan_params_save(params, in_folder("full.safetensors"), NULL, 0),
                 GAN_ERR_FILE, "cannot write");
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_DFL);
    static const char *const names[] = {"full.png", "full.ppm", "full.apng", "full.safetensors"};
    for (int i = 0; i < 4; i++) {
        char temporary[64];
        snprintf(temporary, sizeof temporary, "%s.tmp", names[i]);
        CHECK(!file_exists(in_folder(names[i])) && !file_exists(in_folder(temporary)),
              "%s is left behind", names[i]);
    }
    gan_params_destroy(params);
    gan_image_free(ctx, &image);
}

/* --- datasets -------------------------------------------------------------- */

/* Three classes with 3, 4, 5 images of 6 x 5; names and classes whose text order differs from the natural one. */
static const char *make_classes(void) {
    make_folder("classes");
    for (int c = 0; c < 3; c++) {
        static const char *const names[3] = {"classes/c2", "classes/c10", "classes/c9"};
        make_folder(names[c]);
        for (int i = 0; i < 3 + c; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s/%d.pgm", names[c], i * 5 + 1);
            write_pgm(name, 6, 5, 16 * c + i);
        }
    }
    make_folder("classes/empty");
    write_file("classes/notes.txt", BYTES("x"));
    write_file("classes/c2/.hidden.pgm", BYTES("x"));
    return in_folder("classes");
}

static void folders(void) {
    gan_dataset *data = open_data(make_classes(), NULL);
    gan_shape shape = gan_dataset_shape(data);
    float image[30], label;
    CHECK(gan_dataset_count(data) == 12 && gan_dataset_classes(data) == 3, "%d, %d",
          gan_dataset_count(data), gan_dataset_classes(data));
    CHECK(strcmp(gan_dataset_class_name(data, 1), "c9") == 0 &&
              strcmp(gan_dataset_class_name(data, 2), "c10") == 0 &&
              !gan_dataset_class_name(data, 3),
          "names");
    CHECK(shape.dim[0] == 1 && shape.dim[1] == 5 && shape.dim[2] == 6, "shape");
    gan_image first = rule_image(1, 6, 5);
    for (int i = 0; i < 12; i++) { /* c2 shades 0-2, c9 32-36, c10 16-19 */
        const int class_index = i < 3 ? 0 : i < 8 ? 1 : 2;
        const int shade = i < 3 ? i : i < 8 ? 32 + i - 3 : 16 + i - 8;
        CHECK(!gan_dataset_get(data, i, image, &label) && label == (float)class_index,
              "class of %d", i);
        for (int k = 0; k < 30; k++) {
            const float want = (float)((first.samples[k] + shade) % 256) / 255.0f * 2.0f - 1.0f;
            CHECK(fabsf(image[k] - want) < 1e-6f, "image %d, pixel %d", i, k);
        }
    }
    gan_image_free(ctx, &first);
    check_status(ctx, "index", gan_dataset_get(data, 12, image, NULL), GAN_ERR_ARGUMENT,
                 "0 ... 11");
    gan_dataset_close(data);

    gan_dataset *one = open_data(in_folder("classes/c9"), NULL);
    CHECK(gan_dataset_count(one) == 5 && gan_dataset_classes(one) == 0, "one folder");
    check_status(ctx, "labels", gan_dataset_batch(one, 1, 0, 1, image, &label), GAN_ERR_STATE,
                 "labels expected");
    check_status(ctx, "batch", gan_dataset_batch(one, 1, 0, 0, image, NULL), GAN_ERR_ARGUMENT,
                 "found 0");
    gan_dataset_close(one);
}

static void natural_order(void) {
    static const char *const sorted[] = {"",   "10",   "1a",  "a", "a1",   "a01",
                                         "a2", "a02b", "a10", "b", "b1c2", "b1c10"};
    for (int i = 1; i < 12; i++) {
        if (i != 2 && i != 6) { /* the pairs that differ in zeros only are ordered as text */
            CHECK(gani_natural_order(sorted[i - 1], sorted[i]) < 0 || i == 1 || i == 5, "%s %s",
                  sorted[i - 1], sorted[i]);
        }
        CHECK(gani_natural_order(sorted[i], sorted[i]) == 0, "%s", sorted[i]);
        CHECK((gani_natural_order(sorted[i], sorted[i - 1]) < 0) ==
                  (gani_natural_order(sorted[i - 1], sorted[i]) > 0),
              "%s", sorted[i]);
    }
}

/* Each epoch holds every image once; a batch depends on (seed, step) alone. */
static void epochs(void) {
    gan_dataset *data = open_data(make_classes(), NULL),
                *again = open_data(in_folder("classes"), NULL);
    static float images[8 * 5 * 30], other[5 * 30], labels[8 * 5], other_labels[5];
    float known[12][30];
    int same_order = 1, order[2][12];
    for (int i = 0; i < 12; i++) {
        gan_dataset_get(data, i, known[i], NULL);
    }
    for (int step = 0; step < 8; step++) {
        CHECK(
            !gan_dataset_batch(data, 9, (uint64_t)step, 5, images + step * 150, labels + step * 5),
            "%s", gan_context_error(ctx));
    }
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[12] = {0};
        for (int p = epoch * 12; p < epoch * 12 + 12; p++) {
            for (int i = 0; i < 12; i++) {
                if (memcmp(known[i], images + p * 30, sizeof known[i]) == 0) {
                    seen[i]++;
                    CHECK(labels[p] == (float)(i < 3   ? 0
                                               : i < 8 ? 1
                                                       : 2),
                          "label of position %d", p);
                    if (epoch < 2) {
                        order[epoch][p % 12] = i;
                    }
                }
            }
        }
        for (int i = 0; i < 12; i++) {
            CHECK(seen[i] == 1, "epoch %d: image %d seen %d times", epoch, i, seen[i]);
        }
    }
    for (int i = 0; i < 12; i++) {
        same_order &= order[0][i] == order[1][i];
    }
    CHECK(!same_order, "two epochs in the same order");
    for (int step = 7; step >= 0; step -= 3) { /* backwards, in another object */
        gan_dataset_batch(again, 9, (uint64_t)step, 5, other, other_labels);
        CHECK(memcmp(other, images + step * 150, sizeof other) == 0 &&
                  memcmp(other_labels, labels + step * 5, 20) == 0,
              "step %d", step);
    }
    gan_dataset_batch(again, 10, 0, 5, other, NULL);
    CHECK(memcmp(other, images, sizeof other) != 0, "another seed, the same batch");
    gan_dataset_close(data);
    gan_dataset_close(again);
}

static void memory_limit(void) {
    gan_dataset_desc desc = plain_desc();
    desc.height = 7;
    desc.width = 9;
    desc.random_flip = 1;
    gan_dataset *kept = open_data(make_classes(), &desc);
    static float a[32 * 63], b[32 * 63];
    for (int images = 0; images <= 13; images += images < 2 ? 1 : 11) { /* none, one, two, all */
        desc.memory_bytes = images ? (size_t)images * (63 + 2 * GANI_ALIGN) : 1;
        gan_dataset *limited = open_data(in_folder("classes"), &desc);
        for (uint64_t step = 0; step < 3; step++) {
            gan_dataset_batch(kept, 3, step, 32, a, NULL);
            CHECK(!gan_dataset_batch(limited, 3, step, 32, b, NULL), "%s", gan_context_error(ctx));
            CHECK(memcmp(a, b, sizeof a) == 0, "room for %d images, step %d", images, (int)step);
        }
        CHECK(limited->budget.used <= desc.memory_bytes &&
                  limited->budget.used / (63 + 2 * GANI_ALIGN) ==
                      (size_t)(images < 12 ? images : 12),
              "kept %lu bytes", (unsigned long)limited->budget.used);
        gan_dataset_close(limited);
    }
    gan_dataset_close(kept);
}

/* An image smaller than the size stands in the middle, its edges drawn out; mirrored, the other way
 * round. */
static void filled_up(void) {
    make_folder("small");
    write_pgm("small/a.pgm", 8, 7, 0);
    gan_dataset_desc desc = plain_desc();
    desc.height = 9;
    desc.width = 13;
    desc.load_height = 7;
    desc.load_width = 8;
    desc.low = 0.0f;
    desc.high = 255.0f;
    desc.random_crop = desc.random_flip = 1;
    gan_dataset *data = open_data(in_folder("small"), &desc);
    gan_image image = rule_image(1, 8, 7);
    float out[9 * 13];
    int seen[2] = {0, 0};
    for (int step = 0; step < 40; step++) {
        int differ[2] = {0, 0};
        gan_dataset_batch(data, 5, (uint64_t)step, 1, out, NULL);
        for (int i = 0; i < 9 * 13; i++) {
            const int y = i / 13 - 1 < 0 ? 0 : i / 13 - 1 > 6 ? 6 : i / 13 - 1;
            for (int flip = 0; flip < 2; flip++) {
                const int at = (flip ? 12 - i % 13 : i % 13) - 2, x = at < 0 ? 0 : at > 7 ? 7 : at;
                differ[flip] += fabsf(out[i] - (float)image.samples[y * 8 + x]) > 0.01f;
            }
        }
        CHECK(differ[0] == 0 || differ[1] == 0, "step %d: %d and %d pixels differ", step, differ[0],
              differ[1]);
        seen[differ[0] != 0]++;
    }
    CHECK(seen[0] > 5 && seen[1] > 5, "flips: %d of %d", seen[1], seen[0] + seen[1]);
    gan_image_free(ctx, &image);
    gan_dataset_close(data);
}

/* Every crop is a part of the image at load size, mirrored or not; all places and both ways occur. */
static void flips_and_crops(void) {
    make_folder("single");
    write_pgm("single/a.pgm", 8, 7, 0);
    gan_dataset_desc desc = plain_desc();
    desc.height = 5;
    desc.width = 6;
    desc.load_height = 7;
    desc.load_width = 8;
    desc.low = 0.0f;
    desc.high = 255.0f;
    gan_dataset *centre = open_data(in_folder("single"), &desc);
    desc.random_crop = desc.random_flip = 1;
    gan_dataset *random = open_data(in_folder("single"), &desc);
    gan_image image = rule_image(1, 8, 7);
    float out[30], fixed[30];
    int seen[2][3][3] = {{{0}}};
    for (int step = 0; step < 400; step++) {
        int matches = 0;
        gan_dataset_batch(random, 5, (uint64_t)step, 1, out, NULL);
        for (int place = 0; place < 18; place++) {
            const int flip = place / 9, top = place / 3 % 3, left = place % 3;
            int same = 1;
            for (int i = 0; i < 30; i++) {
                const int x = flip ? 5 - i % 6 : i % 6;
                same &= fabsf(out[i] - (float)image.samples[(top + i / 6) * 8 + left + x]) < 1e-3f;
            }
            seen[flip][top][left] += same;
            matches += same;
        }
        CHECK(matches == 1, "step %d: %d places match", step, matches);
    }
    for (int place = 0; place < 18; place++) { /* 400 draws over 18 places: 22 expected */
        CHECK(seen[place / 9][place / 3 % 3][place % 3] >= 5, "place %d", place);
    }
    gan_dataset_batch(centre, 5, 3, 1, fixed, NULL);
    for (int i = 0; i < 30; i++) {
        CHECK(fabsf(fixed[i] - (float)image.samples[(1 + i / 6) * 8 + 1 + i % 6]) < 1e-3f,
              "from the middle");
    }
    gan_image_free(ctx, &image);
    gan_dataset_close(centre);
    gan_dataset_close(random);
}

/* Keeping the aspect: 8 x 4 to 4 x 4 takes the middle columns unscaled; stretching halves the width. */
static void fits(void) {
    make_folder("wide");
    write_pgm("wide/a.pgm", 8, 4, 0);
    gan_dataset_desc desc = plain_desc();
    desc.height = desc.width = 4;
    desc.fit = GAN_FIT_CROP;
    desc.low = 0.0f;
    desc.high = 255.0f;
    gan_dataset *data = open_data(in_folder("wide"), &desc);
    gan_image image = rule_image(1, 8, 4);
    float out[16];
    gan_dataset_get(data, 0, out, NULL);
    for (int i = 0; i < 16; i++) {
        CHECK(fabsf(out[i] - (float)image.samples[i / 4 * 8 + 2 + i % 4]) < 1e-3f,
              "cropped pixel %d", i);
    }
    gan_dataset_close(data);
    desc.fit = GAN_FIT_STRETCH;
    data = open_data(in_folder("wide"), &desc);
    gan_image_resize(ctx, &image, 4, 4, GAN_FILTER_BILINEAR);
    gan_dataset_get(data, 0, out, NULL);
    for (int i = 0; i < 16; i++) {
        CHECK(fabsf(out[i] - (float)image.samples[i]) < 1e-3f, "stretched pixel %d", i);
    }
    gan_dataset_close(data);
    gan_image_free(ctx, &image);
}

static void channels(void) {
    make_folder("mixed");
    write_file("mixed/1.pgm", BYTES("P5 1 1 255\nA"));
    write_file("mixed/2.ppm", BYTES("P6 1 1 255\nABC"));
    float out[6];
    gan_dataset *data = open_data(in_folder("mixed"), NULL);
    check_status(ctx, "mixed", gan_dataset_get(data, 1, out, NULL), GAN_ERR_FORMAT,
                 "mixed/2.ppm: 1 channels expected");
    gan_dataset_close(data);
    gan_dataset_desc desc = plain_desc();
    desc.low = 0.0f;
    desc.high = 255.0f;
    desc.channels = 3;
    data = open_data(in_folder("mixed"), &desc);
    gan_dataset_get(data, 0, out, NULL);
    gan_dataset_get(data, 1, out + 3, NULL);
    CHECK(out[0] == 65.0f && out[2] == 65.0f && out[3] == 65.0f && out[5] == 67.0f, "to colour");
    gan_dataset_close(data);
    desc.channels = 1;
    data = open_data(in_folder("mixed"), &desc);
    CHECK(!gan_dataset_get(data, 1, out, NULL) && out[0] == 66.0f, "to grey");
    gan_dataset_close(data);
    desc.channels = 3;
    desc.height = desc.width = 12;
    data = open_data("digits", &desc);
    static float digits[2 * 3 * 144];
    CHECK(!gan_dataset_batch(data, 1, 0, 2, digits, NULL) && memcmp(digits, digits + 144, 576) == 0,
          "grey digits in colour");
    gan_dataset_close(data);
}

static void lists(void) {
    make_classes();
    gan_dataset *data;
    float image[30], label;
    static const char text[] = "# two of them\nclasses/c9/1.pgm\t3\r\n\nclasses/c2/6.pgm\t0";
    data = open_data(write_file("list.txt", BYTES(text)), NULL);
    CHECK(gan_dataset_count(data) == 2 && gan_dataset_classes(data) == 4, "%d %d",
          gan_dataset_count(data), gan_dataset_classes(data));
    CHECK(!gan_dataset_get(data, 0, image, &label) && label == 3.0f, "%s", gan_context_error(ctx));
    gan_dataset_close(data);
    char absolute[600];
    int size = snprintf(absolute, sizeof absolute, "%s\n", in_folder("classes/c2/1.pgm"));
    data = open_data(write_file("list.txt", absolute, size), NULL);
    CHECK(gan_dataset_classes(data) == 0 && !gan_dataset_get(data, 0, image, NULL), "%s",
          gan_context_error(ctx));
    gan_dataset_close(data);
}

typedef struct data_case {
    const char *name;
    const char *bytes; /* NULL: no such file */
    int size;
    gan_status status;
    const char *word;
} data_case;

static const data_case data_cases[] = {
    {"none", NULL, 0, GAN_ERR_FILE, "cannot open"},
    {"empty.txt", BYTES(""), GAN_ERR_FORMAT, "at least one image path"},
    {"list.txt", BYTES("a.pgm\t1\nb.pgm"), GAN_ERR_FORMAT,
     "line 2: a tab and a class number expected"},
    {"list.txt", BYTES("a.pgm\nb.pgm\t1"), GAN_ERR_FORMAT, "line 2: no class number expected"},
    {"list.txt", BYTES("a.pgm\tcat"), GAN_ERR_FORMAT, "found \"cat\""},
    {"list.txt", BYTES("a.pgm\t"), GAN_ERR_FORMAT, "line 1: class number"},
    {"list.txt", BYTES("a.pgm\t16777216"), GAN_ERR_FORMAT, "16777215"},
    {"list.txt", BYTES("\t1"), GAN_ERR_FORMAT, "line 1: path"},
    {"list.txt", BYTES("missing.pgm"), GAN_ERR_FILE, "missing.pgm"},
    {"binary", BYTES("a\0b"), GAN_ERR_FORMAT, "another binary file"},
    {"x.pgm", BYTES("P5 1 1 255\nA"), GAN_ERR_FORMAT, "found one image"},
    {"x.png", BYTES("\x89PNG\r\n\x1a\n"), GAN_ERR_UNSUPPORTED, "found one PNG"},
    {"x.jpg", BYTES("\xff\xd8\xff\xe0"), GAN_ERR_UNSUPPORTED, "JPEG"},
    {"x-idx3.gz", BYTES("\x1f\x8b\x08\x00"), GAN_ERR_UNSUPPORTED, "gunzip"},
    {"i-idx3", BYTES("\0\0\x08"), GAN_ERR_FORMAT, "binary"},
    {"i-idx3", BYTES("\0\0\x08\x03"), GAN_ERR_FORMAT, "data expected, found 0"},
    {"i-idx3", BYTES("\0\0\x0d\x03\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0"), GAN_ERR_FORMAT,
     "unsigned bytes"},
    {"i-idx3", BYTES("\0\0\x08\x01\0\0\0\x01\x07"), GAN_ERR_FORMAT,
     "3 extents (00 00 08 03) expected, found 00 00 08 01"},
    {"i-idx3",
     BYTES("\0\0\x08\x03\0\0\0\x01\0\0\0\x02\0\0\0\x02"
           "abc"),
     GAN_ERR_FORMAT, "4 bytes of data expected, found 3"},
    {"i-idx3", BYTES("\0\0\x08\x03\0\0\0\0\0\0\0\x02\0\0\0\x02"), GAN_ERR_FORMAT, "extents of 1"},
    {"i-idx3", BYTES("\0\0\x08\x03\x7f\xff\xff\xff\x7f\xff\xff\xff\x7f\xff\xff\xff"),
     GAN_ERR_FORMAT, "bytes of data expected"},
    {"i-idx3",
     BYTES("\0\0\x08\x03\xff\xff\xff\xff\0\0\0\x01\0\0\0\x01"
           "a"),
     GAN_ERR_FORMAT, "found 4294967295"},
};

static void bad_data(void) {
    gan_dataset *data;
    for (size_t i = 0; i < sizeof data_cases / sizeof data_cases[0]; i++) {
        const data_case *c = &data_cases[i];
        const char *path = c->bytes ? write_file(c->name, c->bytes, c->size) : in_folder(c->name);
        check_status(ctx, c->name, gan_dataset_open(&data, ctx, path, NULL), c->status, c->word);
        CHECK(!data, "%s: NULL expected", c->name);
        CHECK(strstr(gan_context_error(ctx), c->name) || strstr(c->word, "missing"),
              "%s named in: %s", c->name, gan_context_error(ctx));
    }
    make_folder("bare");
    make_folder("bare/inner");
    write_file("bare/a.png", BYTES("x"));
    check_status(ctx, "bare", gan_dataset_open(&data, ctx, in_folder("bare"), NULL), GAN_ERR_FILE,
                 "1 other files and 1 folders");
    make_folder("damaged");
    write_file("damaged/1.pgm", BYTES("P5 1 1 255\nA"));
    write_file("damaged/2.pgm", BYTES("P5 1 1 255\n"));
    float out[1];
    data = open_data(in_folder("damaged"), NULL);
    check_status(ctx, "damaged", gan_dataset_get(data, 1, out, NULL), GAN_ERR_FORMAT,
                 "damaged/2.pgm");
    CHECK(!gan_dataset_get(data, 0, out, NULL), "the other image is still read");
    gan_dataset_close(data);

    gan_dataset_desc desc = plain_desc();
    desc.channels = 2;
    check_status(ctx, "channels", gan_dataset_open(&data, ctx, NULL, &desc), GAN_ERR_ARGUMENT,
                 "found 2");
    desc.channels = 0;
    desc.height = -1;
    check_status(ctx, "size", gan_dataset_open(&data, ctx, NULL, &desc), GAN_ERR_ARGUMENT,
                 "found -1");
    desc.height = 9;
    desc.low = 1.0f;
    check_status(ctx, "range", gan_dataset_open(&data, ctx, NULL, &desc), GAN_ERR_ARGUMENT,
                 "low < high");
    desc.low = 0.0f;
    desc.label_count = -2;
    check_status(ctx, "labels", gan_dataset_open(&data, ctx, NULL, &desc), GAN_ERR_ARGUMENT,
                 "label_count of at least 0");
    gan_dataset_close(NULL);
}

static void idx_files(void) {
    unsigned char images[16 + 3 * 6] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3};
    static const unsigned char labels[11] = {0, 0, 8, 1, 0, 0, 0, 3, 4, 0, 7};
    gan_dataset_desc desc = plain_desc();
    float out[6], label;
    desc.low = 0.0f;
    desc.high = 255.0f;
    for (int i = 0; i < 18; i++) {
        images[16 + i] = (unsigned char)(i * 13);
    }
    remove(in_folder("t-labels-idx1-ubyte"));
    write_file("t-images-idx3-ubyte", images, sizeof images);
    gan_dataset *data = open_data(in_folder("t-images-idx3-ubyte"), &desc);
    CHECK(gan_dataset_count(data) == 3 && gan_dataset_classes(data) == 0, "without labels");
    gan_dataset_close(data);
    write_file("t-labels-idx1-ubyte", labels, sizeof labels);
    data = open_data(in_folder("t-images-idx3-ubyte"), &desc);
    CHECK(gan_dataset_classes(data) == 8 && !gan_dataset_class_name(data, 0), "classes");
    for (int i = 2; i >= 0; i--) {
        CHECK(!gan_dataset_get(data, i, out, &label) && label == (float)labels[8 + i], "label %d",
              i);
        for (int k = 0; k < 6; k++) {
            CHECK(fabsf(out[k] - (float)((i * 6 + k) * 13)) < 1e-3f, "image %d, pixel %d", i, k);
        }
    }
    gan_dataset_close(data);
    write_file("t-labels-idx1-ubyte", labels, sizeof labels - 1);
    check_status(ctx, "short labels",
                 gan_dataset_open(&data, ctx, in_folder("t-images-idx3-ubyte"), NULL),
                 GAN_ERR_FORMAT, "t-labels-idx1-ubyte: IDX file: 3 bytes");
    unsigned char two[10];
    memcpy(two, labels, sizeof two);
    two[7] = 2;
    write_file("t-labels-idx1-ubyte", two, sizeof two);
    check_status(ctx, "two labels",
                 gan_dataset_open(&data, ctx, in_folder("t-images-idx3-ubyte"), NULL),
                 GAN_ERR_FORMAT, "3 labels expected");
}

/* Digits: labelled, different, with ink that touches neither all nor none of the image, and equal for equal (seed, number). */
static void drawn_digits(void) {
    static const int sizes[] = {8, 16, 28, 32, 65};
    for (int s = 0; s < 5; s++) {
        const int size = sizes[s], pixels = size * size;
        gan_dataset_desc desc = plain_desc();
        desc.height = desc.width = size;
        desc.high = 1.0f;
        gan_dataset *data = open_data("digits", &desc);
        float *images = (float *)malloc((size_t)(100 * pixels) * sizeof(float)), labels[100],
              one[5];
        float *second = (float *)malloc((size_t)(10 * pixels) * sizeof(float));
        int counts[10] = {0};
        CHECK(!gan_dataset_batch(data, 4, 0, 100, images, labels), "%s", gan_context_error(ctx));
        for (int i = 0; i < 100; i++) {
            double ink = 0.0, edge = 0.0;
            for (int k = 0; k < pixels; k++) {
                const float value = images[i * pixels + k];
                CHECK(value >= 0.0f && value <= 1.0f, "value %g", (double)value);
                ink += (double)value;
                edge +=
                    k / size == 0 || k / size == size - 1 || k % size == 0 || k % size == size - 1
                        ? (double)value
                        : 0.0;
            }
            counts[(int)labels[i]]++;
            CHECK(ink > 0.02 * pixels && ink < 0.4 * pixels, "size %d, digit %d: ink %g", size, i,
                  ink / pixels);
            CHECK(size < 16 || edge <= 0.1 * ink, "size %d, digit %d runs over the edge: %g", size,
                  i, edge);
            CHECK(i == 0 ||
                      memcmp(images, images + i * pixels, (size_t)pixels * sizeof(float)) != 0,
                  "digit %d again", i);
        }
        for (int i = 0; i < 10; i++) { /* 10 expected, standard deviation 3 */
            CHECK(counts[i] >= 1 && counts[i] <= 25, "digit %d: %d times", i, counts[i]);
        }
        gan_dataset_batch(data, 4, 9, 10, second, NULL);
        CHECK(memcmp(second, images + 90 * pixels, (size_t)(10 * pixels) * sizeof(float)) == 0,
              "position 90 again");
        gan_dataset_batch(data, 4, 18, 5, second, one);
        CHECK(memcmp(second, images + 90 * pixels, (size_t)(5 * pixels) * sizeof(float)) == 0 &&
                  one[0] == labels[90],
              "in another batch size");
        CHECK(gan_dataset_classes(data) == 10 && gan_dataset_count(data) == 60000, "count");
        free(images);
        free(second);
        gan_dataset_close(data);
    }
}

/* --- checkpoints ----------------------------------------------------------- */

static gan_init constant_init(void) {
    gan_init init;
    init.kind = GAN_INIT_CONSTANT;
    init.a = 0.5f;
    init.b = 0.0f;
    return init;
}

static void add_param(gan_params *params, const char *name, gan_shape shape, gan_param_kind kind) {
    CHECK(!gani_params_add(params, name, shape, kind, constant_init()), "%s",
          gan_context_error(ctx));
    float *values = gan_params_find(params, name).data;
    for (size_t i = 0; i < gan_shape_count(shape); i++) {
        values[i] = (float)i * 1.25f - (float)strlen(name);
    }
}

/* A store of six parameters; prefix in front of the names of the first three. */
static gan_params *make_store(const char *prefix, int with_state) {
    char name[64];
    gan_params *params;
    CHECK(!gan_params_create(&params, ctx, 77), "%s", gan_context_error(ctx));
    snprintf(name, sizeof name, "%smain.0.weight", prefix);
    add_param(params, name, gan_shape4(2, 3, 1, 1), GAN_PARAM_WEIGHT);
    snprintf(name, sizeof name, "%smain.0.bias", prefix);
    add_param(params, name, gan_shape1(3), GAN_PARAM_WEIGHT);
    snprintf(name, sizeof name, "%smain.1.mean", prefix);
    add_param(params, name, gan_shape1(1500), GAN_PARAM_BUFFER);
    if (with_state) {
        add_param(params, "adam.main.0.weight", gan_shape4(2, 3, 1, 1), GAN_PARAM_STATE);
        add_param(params, "adam.t", gan_shape0(), GAN_PARAM_STATE);
    }
    return params;
}

static void clear_store(gan_params *params) {
    for (int i = 0; i < gan_params_count(params); i++) {
        gan_param_info info = gan_params_at(params, i);
        memset(info.data, 0, gan_shape_count(info.shape) * sizeof(float));
    }
}

static int same_stores(const gan_params *a, const gan_params *b) {
    int same = gan_params_count(a) == gan_params_count(b);
    for (int i = 0; same && i < gan_params_count(a); i++) {
        gan_param_info p = gan_params_at(a, i), q = gan_params_at(b, i);
        same = memcmp(p.data, q.data, gan_shape_count(p.shape) * sizeof(float)) == 0;
    }
    return same;
}

static gan_status load(gan_params *params, const char *path, const gan_load_desc *desc) {
    gan_checkpoint *file;
    gan_status status = gan_checkpoint_open(&file, ctx, path);
    if (!status) {
        status = gan_params_load(params, file, desc);
        gan_checkpoint_close(file);
    }
    return status;
}

/* A name that safetensors has for something else. */
static void reserved_name(void) {
    gan_params *params = make_store("", 0);
    add_param(params, "__metadata__", gan_shape1(2), GAN_PARAM_WEIGHT);
    check_status(ctx, "reserved", gan_params_save(params, in_folder("r.safetensors"), NULL, 0),
                 GAN_ERR_ARGUMENT, "\"__metadata__\"");
    CHECK(!file_exists(in_folder("r.safetensors")), "left behind");
    gan_params_destroy(params);
}

static void save_and_load(void) {
    gan_params *params = make_store("", 1), *back = make_store("", 1);
    static const gan_metadata meta[] = {
        {"model", "dcgan"}, {"odd \"key\"\\", "tab\t line\n \x01 \xc3\xa4"}, {"empty", ""}};
    gan_checkpoint *file;
    size_t size, size_again;
    gan_params_set_step(params, 123456789012345u);
    CHECK(!gan_params_save(params, in_folder("a.safetensors"), meta, 3), "%s",
          gan_context_error(ctx));
    CHECK(!gan_params_save(params, in_folder("b.safetensors"), meta, 3), "%s",
          gan_context_error(ctx));
    unsigned char *a = read_all(in_folder("a.safetensors"), &size),
                  *b = read_all(in_folder("b.safetensors"), &size_again);
    CHECK(size == size_again && memcmp(a, b, size) == 0, "the same bytes expected");
    CHECK(gani_get_le64(a) % 8 == 0 && !file_exists(in_folder("a.safetensors.tmp")),
          "data aligned to 8 bytes");
    free(a);
    free(b);
    clear_store(back);
    CHECK(!load(back, in_folder("a.safetensors"), NULL), "%s", gan_context_error(ctx));
    CHECK(same_stores(params, back), "values");
    CHECK(gan_params_seed(back) == 77 && gan_params_step(back) == 123456789012345u,
          "seed and step");
    CHECK(!gan_checkpoint_open(&file, ctx, in_folder("a.safetensors")), "%s",
          gan_context_error(ctx));
    CHECK(gan_checkpoint_count(file) == 5 && gan_checkpoint_find(file, "adam.t") == 4 &&
              gan_checkpoint_find(file, "adam") < 0,
          "tensors");
    CHECK(gan_checkpoint_at(file, 2).kind == GAN_PARAM_BUFFER &&
              gan_checkpoint_at(file, 3).kind == GAN_PARAM_STATE &&
              gan_checkpoint_at(file, 4).shape.rank == 0 &&
              strcmp(gan_checkpoint_at(file, 0).dtype, "F32") == 0 &&
              !gan_checkpoint_at(file, 5).name,
          "what is said of them");
    for (int i = 0; i < 3; i++) {
        const char *text = gan_checkpoint_text(file, meta[i].key);
        CHECK(text && strcmp(text, meta[i].value) == 0, "text %s: %s", meta[i].key,
              text ? text : "none");
    }
    CHECK(!gan_checkpoint_text(file, "none") && gan_checkpoint_text_at(file, 5).key &&
              !gan_checkpoint_text_at(file, 6).key,
          "texts by index");
    float one;
    check_status(ctx, "count", gan_checkpoint_read(file, 0, &one, 1), GAN_ERR_ARGUMENT,
                 "its count");
    gan_checkpoint_close(file);
    gan_checkpoint_close(NULL);
    static const gan_metadata twice[] = {{"a", "1"}, {"a", "2"}}, own[] = {{"params.seed", "1"}};
    check_status(ctx, "twice", gan_params_save(params, in_folder("c"), twice, 2), GAN_ERR_ARGUMENT,
                 "\"a\"");
    check_status(ctx, "own", gan_params_save(params, in_folder("c"), own, 1), GAN_ERR_ARGUMENT,
                 "params.seed");
    check_status(ctx, "folder", gan_params_save(params, in_folder("no/c"), NULL, 0), GAN_ERR_FILE,
                 "no/c");
    CHECK(!file_exists(in_folder("c")), "left behind");
    gan_params_destroy(params);
    gan_params_destroy(back);
}

static void partial_loads(void) {
    gan_params *full = make_store("", 1), *weights = make_store("", 0),
               *scoped = make_store("generator.", 1);
    gan_load_desc desc;
    CHECK(!gan_params_save(full, in_folder("full.safetensors"), NULL, 0), "%s",
          gan_context_error(ctx));
    CHECK(!gan_params_save(weights, in_folder("weights.safetensors"), NULL, 0), "%s",
          gan_context_error(ctx));
    check_status(ctx, "state not expected", load(weights, in_folder("full.safetensors"), NULL),
                 GAN_ERR_SHAPE, "2 not expected: adam.main.0.weight, adam.t");
    check_status(ctx, "state missing", load(full, in_folder("weights.safetensors"), NULL),
                 GAN_ERR_SHAPE, "2 missing: adam");
    memset(&desc, 0, sizeof desc);
    desc.weights_only = 1;
    clear_store(weights);
    CHECK(!load(weights, in_folder("full.safetensors"), &desc), "%s", gan_context_error(ctx));
    CHECK(gan_params_find(weights, "main.1.mean").data[1499] ==
              gan_params_find(full, "main.1.mean").data[1499],
          "a buffer is read");
    CHECK(!load(full, in_folder("weights.safetensors"), &desc), "%s", gan_context_error(ctx));
    clear_store(scoped);
    desc.store_prefix = "generator.";
    CHECK(!load(scoped, in_folder("weights.safetensors"), &desc), "%s", gan_context_error(ctx));
    CHECK(gan_params_find(scoped, "generator.main.0.weight").data[5] ==
              gan_params_find(full, "main.0.weight").data[5],
          "prefix");
    desc.store_prefix = "";
    desc.file_prefix = "generator.";
    CHECK(!gan_params_save(scoped, in_folder("scoped.safetensors"), NULL, 0), "%s",
          gan_context_error(ctx));
    clear_store(weights);
    CHECK(!load(weights, in_folder("scoped.safetensors"), &desc), "%s", gan_context_error(ctx));
    CHECK(gan_params_find(weights, "main.0.bias").data[2] ==
              gan_params_find(full, "main.0.bias").data[2],
          "prefix of the file");

    gan_params *other;
    gan_params_create(&other, ctx, 1);
    add_param(other, "main.0.weight", gan_shape2(2, 3), GAN_PARAM_WEIGHT);
    add_param(other, "x", gan_shape1(3), GAN_PARAM_WEIGHT);
    check_status(ctx, "other", load(other, in_folder("weights.safetensors"), NULL), GAN_ERR_SHAPE,
                 "1 missing: x; 2 not expected: main.0.bias, main.1.mean; "
                 "1 of another shape: main.0.weight [2,3], in the file [2,3,1,1]");
    CHECK(gan_params_find(other, "x").data[2] == 1.5f, "nothing has changed");
    gan_params_destroy(other);
    gan_params_destroy(full);
    gan_params_destroy(weights);
    gan_params_destroy(scoped);
}

/* Header text with its length in front, then `data` bytes of 0, 1, 2, ... */
static const char *write_safetensors(const char *header, size_t data) {
    static unsigned char bytes[4096];
    const size_t length = strlen(header);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(length >> (8 * i) & 255);
    }
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++) {
        bytes[8 + length + i] = (unsigned char)i;
    }
    return write_file("t.safetensors", bytes, (int)(8 + length + data));
}

typedef struct header_case {
    const char *header;
    int data;
    gan_status status;
    const char *word;
} header_case;

#define ONE(type, shape, offsets) \
    "{\"a\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
static const header_case header_cases[] = {
    {"{}", 0, GAN_OK, ""},
    {"{ \n\t}\r  ", 0, GAN_OK, ""},
    {"{\"__metadata__\":{}}", 0, GAN_OK, ""},
    {"{\"__metadata__\":{\"a\":\"\\u0041\\ud83d\\ude00\"}}", 0, GAN_OK, ""},
    {ONE("F32", "[2]", "[0,8]"), 8, GAN_OK, ""},
    {ONE("F32", "[]", "[0,4]"), 4, GAN_OK, ""},
    {ONE("U8", "[0,5]", "[0,0]"), 0, GAN_OK, ""},
    {"{ \"a\" : { \"shape\" : [ 1 , 2 ] , \"data_offsets\" : [ 0 , 2 ] , \"dtype\" : \"I8\" } }", 2,
     GAN_OK, ""},
    {"[]", 0, GAN_ERR_FORMAT, "{ expected at byte 0"},
    {" {}", 0, GAN_ERR_FORMAT, "{ expected"},
    {"{", 0, GAN_ERR_FORMAT, "header of 2"},
    {"{ ", 0, GAN_ERR_FORMAT, "a string expected"},
    {"{}x", 0, GAN_ERR_FORMAT, "the end of the header"},
    {"{\"a}", 0, GAN_ERR_FORMAT, "the end of a string"},
    {"{\"a\nb\":1}", 0, GAN_ERR_FORMAT, "the end of a string"},
    {"{\"\\q\":1}", 0, GAN_ERR_FORMAT, "an escape"},
    {"{\"\\u12g4\":1}", 0, GAN_ERR_FORMAT, "an escape"},
    {"{\"\\u0000\":1}", 0, GAN_ERR_FORMAT, "an escape"},
    {"{\"\\ud83d\":1}", 0, GAN_ERR_FORMAT, "an escape"},
    {"{\"\\ud83d\\u0041\":1}", 0, GAN_ERR_FORMAT, "an escape"},
    {"{\"\\ude00\":1}", 0, GAN_ERR_FORMAT, "an escape"},
    {"{\"a\" 1}", 0, GAN_ERR_FORMAT, ": expected"},
    {"{\"a\":1}", 0, GAN_ERR_FORMAT, "{ expected"},
    {"{\"a\":{}}", 0, GAN_ERR_FORMAT, "a string"},
    {"{\"a\":[[[[[[[[[]]]]]]]]]}", 0, GAN_ERR_FORMAT, "{ expected"},
    {"{\"a\":{\"a\":{\"a\":{}}}}", 0, GAN_ERR_FORMAT, "dtype, shape, data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\"}}", 0, GAN_ERR_FORMAT, "then }"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, GAN_ERR_FORMAT, "each once"},
    {ONE("F31", "[2]", "[0,8]"), 8, GAN_ERR_UNSUPPORTED, "\"F31\""},
    {ONE("F32", "[-2]", "[0,8]"), 8, GAN_ERR_FORMAT, "whole number"},
    {ONE("F32", "[02]", "[0,8]"), 8, GAN_ERR_FORMAT, "whole number"},
    {ONE("F32", "[2.0]", "[0,8]"), 8, GAN_ERR_FORMAT, "] or ,"},
    {ONE("F32", "[1e1]", "[0,40]"), 40, GAN_ERR_FORMAT, "] or ,"},
    {ONE("F32", "2", "[0,8]"), 8, GAN_ERR_FORMAT, "[ expected"},
    {ONE("F32", "[2,]", "[0,8]"), 8, GAN_ERR_FORMAT, "whole number"},
    {ONE("F32", "[1,1,1,1,1,2]", "[0,8]"), 8, GAN_ERR_FORMAT, "at most 5 extents"},
    {ONE("F32", "[2147483648]", "[0,8]"), 8, GAN_ERR_FORMAT, "2^31"},
    {ONE("F32", "[99999999999999999999]", "[0,8]"), 8, GAN_ERR_FORMAT, "2^64"},
    {ONE("F64", "[2147483647,2147483647,2147483647]", "[0,8]"), 8, GAN_ERR_FORMAT,
     "bytes of data expected"},
    {ONE("F64", "[0,2147483647,2147483647,2147483647]", "[0,0]"), 0, GAN_ERR_FORMAT,
     "bytes of data expected"},
    {ONE("F32", "[2]", "[0,7]"), 8, GAN_ERR_FORMAT, "8 bytes of data expected"},
    {ONE("F32", "[2]", "[8,0]"), 8, GAN_ERR_FORMAT, "8 bytes of data expected"},
    {ONE("F32", "[2]", "[0]"), 8, GAN_ERR_FORMAT, "two numbers"},
    {ONE("F32", "[2]", "[0,8,8]"), 8, GAN_ERR_FORMAT, "two numbers"},
    {ONE("F32", "[2]", "[0,8]"), 7, GAN_ERR_FORMAT, "no hole"},
    {ONE("F32", "[2]", "[0,8]"), 9, GAN_ERR_FORMAT,
     "8 bytes of data expected after the header, found 9"},
    {ONE("F32", "[2]", "[4,12]"), 12, GAN_ERR_FORMAT, "no hole"},
    {ONE("U8", "[2]", "[18446744073709551615,1]"), 12, GAN_ERR_FORMAT, "2 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\","
     "\"shape\":[2],\"data_offsets\":[1,3]}}",
     3, GAN_ERR_FORMAT, "no overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\","
     "\"shape\":[1],\"data_offsets\":[1,2]}}",
     2, GAN_ERR_FORMAT, "twice"},
    {"{\"__metadata__\":{\"a\":1}}", 0, GAN_ERR_FORMAT, "a string"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, GAN_ERR_FORMAT, "twice"},
    {"{\"__metadata__\":{\"a\":\"1\"},\"__metadata__\":{}}", 0, GAN_ERR_FORMAT, "only once"},
    {"{\"__metadata__\":{\"a\":\"1\",}}", 0, GAN_ERR_FORMAT, "a string"},
};

static void bad_checkpoints(void) {
    gan_checkpoint *file;
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++) {
        const header_case *c = &header_cases[i];
        const char *path = write_safetensors(c->header, (size_t)c->data);
        check_status(ctx, c->header, gan_checkpoint_open(&file, ctx, path), c->status, c->word);
        CHECK(!file == (c->status != GAN_OK), "%s", c->header);
        gan_checkpoint_close(file);
    }
    check_status(ctx, "short",
                 gan_checkpoint_open(&file, ctx, write_file("t.safetensors", BYTES("1234567"))),
                 GAN_ERR_FORMAT, "file of 7 bytes");
    check_status(
        ctx, "length",
        gan_checkpoint_open(
            &file, ctx, write_file("t.safetensors", BYTES("\xff\xff\xff\xff\xff\xff\xff\x7f{}"))),
        GAN_ERR_FORMAT, "header of 2");
    check_status(
        ctx, "zero byte",
        gan_checkpoint_open(&file, ctx, write_file("t.safetensors", BYTES("\3\0\0\0\0\0\0\0{}\0"))),
        GAN_ERR_FORMAT, "the end of the header");
    check_status(ctx, "none", gan_checkpoint_open(&file, ctx, in_folder("none")), GAN_ERR_FILE,
                 "none");
    check_status(ctx, "folder", gan_checkpoint_open(&file, ctx, folder), GAN_ERR_FILE, folder);
    gan_params *params = make_store("", 0);
    write_safetensors("{}", 0);
    check_status(ctx, "no seed", load(params, in_folder("t.safetensors"), NULL), GAN_ERR_SHAPE,
                 "3 missing: main.0.weight");
    gan_params_destroy(params);
}

/* Values of every number format, bytes written by hand. */
static void number_formats(void) {
    static const struct {
        const char *dtype;
        unsigned char bytes[8];
        int size;
        float want;
    } cases[] = {
        {"F32", {0, 0, 0x20, 0xc1}, 4, -10.0f},
        {"F16", {0, 0x3c}, 2, 1.0f},
        {"F16", {0xff, 0xfb}, 2, -65504.0f},
        {"F16", {1, 0}, 2, 1.0f / 16777216.0f},
        {"F16", {0, 0x84}, 2, -1.0f / 16384.0f},
        {"F16", {0, 0x7c}, 2, HUGE_VALF},
        {"BF16", {0x80, 0x3f}, 2, 1.0f},
        {"BF16", {0x20, 0xc1}, 2, -10.0f},
        {"F64", {0, 0, 0, 0, 0, 0, 0xf8, 0xbf}, 8, -1.5f},
        {"I64", {0xfe, 255, 255, 255, 255, 255, 255, 255}, 8, -2.0f},
        {"I64", {0, 0, 0, 0, 0, 0, 0, 0x80}, 8, -9223372036854775808.0f},
        {"I64", {0, 0, 0, 0, 1, 0, 0, 0}, 8, 4294967296.0f},
        {"I32", {0, 0, 0, 0x80}, 4, -2147483648.0f},
        {"I32", {1, 1, 0, 0}, 4, 257.0f},
        {"I16", {0xff, 0xff}, 2, -1.0f},
        {"I8", {0x80}, 1, -128.0f},
        {"U8", {0x80}, 1, 128.0f},
        {"BOOL", {1}, 1, 1.0f},
    };
    gan_checkpoint *file;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[128];
        unsigned char bytes[256] = {0};
        float value = 0.0f;
        int length = snprintf(header, sizeof header,
                              "{\"a\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,%d]}}",
                              cases[i].dtype, cases[i].size);
        bytes[0] = (unsigned char)length;
        memcpy(bytes + 8, header, (size_t)length);
        memcpy(bytes + 8 + length, cases[i].bytes, (size_t)cases[i].size);
        write_file("t.safetensors", bytes, 8 + length + cases[i].size);
        CHECK(!gan_checkpoint_open(&file, ctx, in_folder("t.safetensors")), "%s",
              gan_context_error(ctx));
        CHECK(file && !gan_checkpoint_read(file, 0, &value, 1) && value == cases[i].want,
              "%s: %g expected, found %g", cases[i].dtype, (double)cases[i].want, (double)value);
        gan_checkpoint_close(file);
    }
    float value;
    write_safetensors(ONE("U64", "[1]", "[0,8]"), 8);
    CHECK(!gan_checkpoint_open(&file, ctx, in_folder("t.safetensors")), "%s",
          gan_context_error(ctx));
    check_status(ctx, "U64", gan_checkpoint_read(file, 0, &value, 1), GAN_ERR_UNSUPPORTED, "U64");
    gan_checkpoint_close(file);
}

/* --- failing memory -------------------------------------------------------- */

typedef struct meter {
    int left; /* allocations that still succeed */
    int blocks;
    size_t bytes;
} meter;

static void *meter_alloc(void *user, size_t size) {
    meter *m = (meter *)user;
    if (m->left-- <= 0) {
        return NULL;
    }
    m->blocks++;
    m->bytes += size;
    return malloc(size);
}

static void meter_free(void *user, void *ptr, size_t size) {
    meter *m = (meter *)user;
    m->blocks--;
    m->bytes -= size;
    free(ptr);
}

/* Everything that allocates, once; the first failure ends it. */
static gan_status use_everything(gan_context *in) {
    static float images[4 * 3 * 28 * 28], labels[4];
    const char *paths[4];
    gan_status status = GAN_OK;
    gan_dataset_desc desc = plain_desc();
    desc.height = 6;
    desc.width = 4;
    paths[0] = "digits";
    paths[1] = in_folder("classes");
    paths[2] = in_folder("list.txt");
    paths[3] = in_folder("t-images-idx3-ubyte");
    for (int i = 0; i < 4 && !status; i++) {
        gan_dataset *data;
        status = gan_dataset_open(&data, in, paths[i], i == 1 ? NULL : &desc);
        if (!status) {
            status = gan_dataset_batch(data, 1, 1, 4, images, labels);
            gan_dataset_close(data);
        }
    }
    if (!status) {
        gan_image image;
        status = gan_image_load(in, in_folder("g.ppm"), &image);
        status = status ? status : gan_image_convert(in, &image, 1);
        status = status ? status : gan_image_resize(in, &image, 5, 5, GAN_FILTER_BILINEAR);
        status = status ? status : gan_image_write(in, in_folder("m.png"), &image);
        gan_image_free(in, &image);
        status = status ? status
                        : gan_image_write_grid(in, in_folder("m.pgm"), images, 4, 1, 8, 8, 0, -1.0f,
                                               1.0f);
        status = status ? status
                        : gan_image_write_animation(in, in_folder("m.png"), images, 4, 1, 8, 8,
                                                    -1.0f, 1.0f, 0.1);
    }
    gan_params *params = NULL;
    gan_checkpoint *file = NULL;
    static const gan_metadata meta[] = {{"key", "text"}};
    status = status ? status : gan_params_create(&params, in, 5);
    status =
        status ? status
               : gani_params_add(params, "w", gan_shape2(3, 4), GAN_PARAM_WEIGHT, constant_init());
    status = status ? status : gan_params_save(params, in_folder("m.safetensors"), meta, 1);
    status = status ? status : gan_checkpoint_open(&file, in, in_folder("m.safetensors"));
    status = status ? status : gan_params_load(params, file, NULL);
    gan_checkpoint_close(file);
    gan_params_destroy(params);
    return status;
}

static void failing_memory(void) {
    static const char list[] = "classes/c9/1.pgm\t3\nclasses/c2/6.pgm\t0";
    static const unsigned char idx[17] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9};
    static const unsigned char idx_labels[9] = {0, 0, 8, 1, 0, 0, 0, 1, 1};
    float grid[12] = {0};
    make_classes();
    write_file("list.txt", BYTES(list));
    write_file("t-images-idx3-ubyte", idx, sizeof idx);
    write_file("t-labels-idx1-ubyte", idx_labels, sizeof idx_labels);
    CHECK(!gan_image_write_grid(ctx, in_folder("g.ppm"), grid, 1, 3, 2, 2, 0, 0.0f, 1.0f), "%s",
          gan_context_error(ctx));
    int allowed = 1; /* the context itself */
    for (gan_status status = GAN_ERR_MEMORY; status; allowed++) {
        meter m = {0, 0, 0};
        gan_context_desc desc;
        gan_context *in;
        memset(&desc, 0, sizeof desc);
        m.left = allowed;
        desc.allocator.alloc = meter_alloc;
        desc.allocator.free = meter_free;
        desc.allocator.user = &m;
        if (gan_context_create(&in, &desc)) {
            continue;
        }
        status = use_everything(in);
        CHECK(status == GAN_OK || status == GAN_ERR_MEMORY, "%d allocations: %s", allowed,
              gan_context_error(in));
        CHECK((status == GAN_OK) == (m.left >= 0), "%d allocations: failed, but status %d", allowed,
              (int)status);
        gan_context_destroy(in);
        CHECK(m.blocks == 0 && m.bytes == 0, "%d allocations: %d blocks leaked", allowed, m.blocks);
        CHECK(!file_exists(in_folder("m.png.tmp")) && !file_exists(in_folder("m.safetensors.tmp")),
              "left behind");
        if (allowed > 10000) {
            CHECK(0, "no end");
            break;
        }
    }
    CHECK(allowed > 50, "only %d allocations seen", allowed);
}

/* --- mutations ------------------------------------------------------------- */

/* Changes a few bytes, cuts, doubles or grows; a pure function of (seed, round). Room for size + 64 bytes. */
static size_t mutate(unsigned char *bytes, size_t size, uint64_t seed, uint64_t round) {
    static const unsigned char odd[] = {0,   1,   9,   10,  32,  35,  48,  57,   91,   93,
                                        127, 128, 254, 255, '"', '{', '}', '\\', '\t', '-'};
    uint32_t bits[4];
    gani_philox(seed, 0, round, bits);
    for (uint32_t i = 0, count = bits[0] % 4; i <= count && size > 0; i++) {
        uint32_t more[4];
        gani_philox(seed, 1 + i, round, more);
        const size_t at = more[0] % size;
        switch (more[1] % 5) {
        case 0:
            bytes[at] ^= (unsigned char)(1u << more[2] % 8);
            break;
        case 1:
            bytes[at] = odd[more[2] % sizeof odd];
            break;
        case 2:
            size = at;
            break;
        case 3: /* one byte less */
            memmove(bytes + at, bytes + at + 1, size - at - 1);
            size--;
            break;
        default: /* a stretch twice */
            if (size - at > 8 && i < 4) {
                memmove(bytes + at + 8, bytes + at, size - at);
                size += 8;
            }
            break;
        }
    }
    return size;
}

static void mutate_corpus(const char *kind,
                          gan_status (*use)(gan_context *, const uint8_t *, size_t), int rounds) {
    char path[256];
    gani_folder corpus;
    int files = 0, accepted = 0, refused = 0;
    snprintf(path, sizeof path, "tests/corpus/%s", kind);
    if (!gani_folder_open(ctx, &corpus, path)) {
        CHECK(0, "no %s", path);
        return;
    }
    for (const char *name = gani_folder_next(&corpus); name; name = gani_folder_next(&corpus)) {
        char *full = gani_join_path(ctx, path, name);
        size_t size;
        unsigned char *seed = name[0] == '.' ? NULL : read_all(full, &size);
        gani_free(ctx, full);
        for (int round = -1; seed && round < rounds; round++) { /* the file itself first */
            unsigned char *bytes = (unsigned char *)malloc(size + 64);
            memcpy(bytes, seed, size);
            const size_t changed =
                round < 0 ? size : mutate(bytes, size, (uint64_t)files, (uint64_t)round);
            unsigned char *exact = (unsigned char *)malloc(changed + !changed);
            memcpy(exact, bytes, changed);
            gan_status status = use(ctx, exact, changed);
            accepted += !status;
            refused += status != 0;
            CHECK(!status || gan_context_error(ctx)[0], "%s round %d: no message", name, round);
            CHECK(status != GAN_ERR_MEMORY && status != GAN_ERR_STATE && status != GAN_ERR_ARGUMENT,
                  "%s round %d: %s", name, round, gan_context_error(ctx));
            if (round < 0) {
                CHECK((strncmp(name, "bad", 3) == 0) ==
                              (status == GAN_ERR_FORMAT || status == GAN_ERR_LIMIT ||
                               status == GAN_ERR_UNSUPPORTED) ||
                          status == GAN_ERR_FILE,
                      "%s: %s", name, gan_status_text(status));
            }
            free(bytes);
            free(exact);
        }
        files += seed != NULL;
        free(seed);
    }
    gani_folder_close(&corpus);
    CHECK(files >= 5 && refused > rounds, "%s: %d files, %d accepted, %d refused", kind, files,
          accepted, refused);
}

static void mutated_images(void) {
    mutate_corpus("images", fuzz_images, 2000);
}

static void mutated_idx(void) {
    mutate_corpus("idx", fuzz_idx, 100);
}

static void mutated_lists(void) {
    mutate_corpus("lists", fuzz_lists, 200);
}

static void mutated_safetensors(void) {
    mutate_corpus("safetensors", fuzz_checkpoint, 300);
}

static void mutated_pth(void) {
    mutate_corpus("pth", fuzz_checkpoint, 40);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    if (!files_begin("data")) {
        return 1;
    }
    TEST(read_images);
    TEST(image_limit);
    TEST(write_and_read);
    TEST(png_files);
    TEST(animations);
    TEST(resize_as_pillow);
    TEST(resize_deep);
    TEST(convert_and_crop);
    TEST(no_images);
    TEST(grids);
    TEST(failing_writes);
    TEST(full_disk);
    TEST(folders);
    TEST(natural_order);
    TEST(epochs);
    TEST(memory_limit);
    TEST(filled_up);
    TEST(flips_and_crops);
    TEST(fits);
    TEST(channels);
    TEST(lists);
    TEST(bad_data);
    TEST(idx_files);
    TEST(drawn_digits);
    TEST(reserved_name);
    TEST(save_and_load);
    TEST(partial_loads);
    TEST(bad_checkpoints);
    TEST(number_formats);
    TEST(failing_memory);
    TEST(mutated_images);
    TEST(mutated_idx);
    TEST(mutated_lists);
    TEST(mutated_safetensors);
    TEST(mutated_pth);
    files_end();
    return test_end();
}
