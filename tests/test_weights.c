/* test_weights.c - PyTorch's files: what is read from good ones, and what is said of each bad one (tests/corpus/pth,
 * made by tests/corpus_pth.py); networks that are recognised in them, and what they make of an image
 * (tests/fixtures/weights, made by tests/fixtures_weights.py).
 *
 * GAN_TEST_WEIGHTS=FOLDER build/test_weights full_size: the same with networks of full size, see there.
 */
#include "parity.h"

static gan_context *ctx;

static gan_checkpoint *open_corpus(const char *name) {
    char path[256];
    gan_checkpoint *file;
    snprintf(path, sizeof path, "tests/corpus/pth/%s", name);
    CHECK(!gan_checkpoint_open(&file, ctx, path), "%s", gan_context_error(ctx));
    return file;
}

/* Tensor `name` is of that type and shape, and has these values. */
static void check_tensor(gan_checkpoint *file, const char *name, const char *dtype,
                         const char *shape, const float *want) {
    float values[16];
    const int index = gan_checkpoint_find(file, name);
    const gan_checkpoint_tensor tensor = gan_checkpoint_at(file, index);
    CHECK(index >= 0, "no %s", name);
    if (index < 0 || tensor.count > 16) {
        return;
    }
    CHECK(strcmp(tensor.dtype, dtype) == 0 &&
              strcmp(gani_print_shape(&tensor.shape).text, shape) == 0,
          "%s: %s %s", name, tensor.dtype, gani_print_shape(&tensor.shape).text);
    CHECK(!gan_checkpoint_read(file, index, values, tensor.count), "%s", gan_context_error(ctx));
    for (size_t i = 0; i < tensor.count; i++) {
        CHECK(values[i] == want[i], "%s[%d]: %g", name, (int)i, (double)values[i]);
    }
}

static const float six[] = {0, 1, 2, 3, 4, 5};

static void good_files(void) {
    static const float turned[] = {0, 3, 1, 4, 2, 5}, column[] = {1, 4}, bias[] = {10, 11},
                       steps[] = {-7};
    gan_checkpoint *file = open_corpus("good");
    CHECK(gan_checkpoint_count(file) == 3 &&
              strcmp(gan_checkpoint_at(file, 0).name, "conv.weight") == 0,
          "order of the dictionary");
    check_tensor(file, "conv.weight", "F32", "[2,3]", six);
    check_tensor(file, "conv.bias", "F32", "[2]", bias);
    check_tensor(file, "steps", "I64", "[]", steps);
    gan_checkpoint_close(file);

    file = open_corpus("strided");
    check_tensor(file, "t", "F32", "[3,2]", turned);
    check_tensor(file, "column", "F32", "[2]", column);
    check_tensor(file, "tail", "F32", "[2]", six + 4);
    check_tensor(file, "one", "F32", "[1,6,1]", six);
    check_tensor(file, "none", "F32", "[0,4]", NULL);
    check_tensor(file, "scalar", "F32", "[]", six + 5);
    gan_checkpoint_close(file);

    file = open_corpus("big_endian");
    check_tensor(file, "w", "F32", "[2,3]", six);
    check_tensor(file, "t", "F32", "[3,2]", turned);
    check_tensor(file, "n", "I64", "[1]", steps);
    gan_checkpoint_close(file);

    static const char *const plain[] = {"zip64", "zip32"};
    for (int i = 0; i < 2; i++) {
        file = open_corpus(plain[i]);
        check_tensor(file, "w", "F32", "[2,3]", six);
        gan_checkpoint_close(file);
    }
    file = open_corpus("bare");
    check_tensor(file, "tensor", "F32", "[2,3]", six);
    gan_checkpoint_close(file);
}

/* As before PyTorch 1.6, on machines of either byte order; parts of storages; Python 2. */
static void streams(void) {
    static const float turned[] = {0, 3, 1, 4, 2, 5}, steps[] = {-7}, flags[] = {1, 0};
    gan_checkpoint *file = open_corpus("stream");
    CHECK(gan_checkpoint_count(file) == 5, "%d tensors", gan_checkpoint_count(file));
    check_tensor(file, "conv.weight", "F32", "[2,3]", six);
    check_tensor(file, "t", "F32", "[3,2]", turned);
    check_tensor(file, "steps", "I64", "[]", steps);
    check_tensor(file, "flags", "BOOL", "[2]", flags);
    check_tensor(file, "none", "F32", "[0,4]", NULL);
    gan_checkpoint_close(file);

    file = open_corpus("stream_parts");
    check_tensor(file, "head", "F32", "[2]", six);
    check_tensor(file, "tail", "F32", "[2,1]", six + 4);
    check_tensor(file, "end", "F32", "[0]", NULL);
    check_tensor(file, "all", "F32", "[2,3]", six);
    gan_checkpoint_close(file);

    file = open_corpus("stream_python2");
    CHECK(gan_checkpoint_count(file) == 2, "%d tensors", gan_checkpoint_count(file));
    check_tensor(file, "w", "F32", "[2,3]", six);
    check_tensor(file, "sub.t", "F32", "[3,2]", turned);
    gan_checkpoint_close(file);
}

/* Dictionaries in one another, lists, numbers for keys; what is no tensor is left out. */
static void nested_names(void) {
    static const char *const names[] = {
        "state_dict.module.w", "state_dict.p", "list.0", "list.2.0", "list.2.1",
        "optimizer.state.0.m"};
    gan_checkpoint *file = open_corpus("nested");
    CHECK(gan_checkpoint_count(file) == 6, "%d tensors", gan_checkpoint_count(file));
    for (int i = 0; i < 6; i++) {
        check_tensor(file, names[i], "F32", "[2,3]", six);
    }
    gan_checkpoint_close(file);
}

static void check_number_formats(const char *name) {
    static const float floats[] = {1.5f, -2.0f}, integers[] = {3, -2}, bytes[] = {3, 254},
                       truth[] = {1, 0};
    static const struct {
        const char *name, *dtype;
        const float *want;
    } rows[] = {{"Float", "F32", floats},   {"Half", "F16", floats},   {"BFloat16", "BF16", floats},
                {"Double", "F64", floats},  {"Long", "I64", integers}, {"Int", "I32", integers},
                {"Short", "I16", integers}, {"Char", "I8", integers},  {"Byte", "U8", bytes},
                {"Bool", "BOOL", truth}};
    gan_checkpoint *file = open_corpus(name), *again = NULL;
    const char *path = test_path("dtypes.safetensors");
    CHECK(!gan_checkpoint_export(file, path, NULL), "%s", gan_context_error(ctx));
    CHECK(!gan_checkpoint_open(&again, ctx, path), "%s", gan_context_error(ctx));
    for (int i = 0; i < 10 && again; i++) {
        check_tensor(file, rows[i].name, rows[i].dtype, "[2]", rows[i].want);
        check_tensor(again, rows[i].name, rows[i].dtype, "[2]", rows[i].want);
    }
    CHECK(strcmp(gan_checkpoint_at(again, 0).dtype, "F64") == 0 &&
              strcmp(gan_checkpoint_text(again, "format"), "pt") == 0,
          "wide elements first");
    gan_checkpoint_close(again);
    gan_checkpoint_close(file);
    remove(path);
}

static void number_formats(void) {
    check_number_formats("dtypes");
    check_number_formats("stream_dtypes");
}

/* A part of a file, its prefix gone; strided and big-endian data come out plain. */
static void export_parts(void) {
    static const float turned[] = {0, 3, 1, 4, 2, 5};
    const char *path = test_path("part.safetensors");
    gan_checkpoint *file = open_corpus("nested"), *again = NULL;
    CHECK(!gan_checkpoint_export(file, path, "state_dict.module."), "%s", gan_context_error(ctx));
    CHECK(!gan_checkpoint_open(&again, ctx, path), "%s", gan_context_error(ctx));
    CHECK(gan_checkpoint_count(again) == 1, "%d tensors", gan_checkpoint_count(again));
    check_tensor(again, "w", "F32", "[2,3]", six);
    gan_checkpoint_close(again);
    CHECK(gan_checkpoint_export(file, path, "netG.") == GAN_ERR_ARGUMENT &&
              strstr(gan_context_error(ctx), "no tensors"),
          "%s", gan_context_error(ctx));
    gan_checkpoint_close(file);

    file = open_corpus("big_endian");
    CHECK(!gan_checkpoint_export(file, path, ""), "%s", gan_context_error(ctx));
    CHECK(!gan_checkpoint_open(&again, ctx, path), "%s", gan_context_error(ctx));
    check_tensor(again, "t", "F32", "[3,2]", turned);
    gan_checkpoint_close(again);
    gan_checkpoint_close(file);
    remove(path);

    static const char *const prefixes[] = {"", "a."}; /* safetensors has texts under this name */
    file = open_corpus("reserved");
    for (int i = 0; i < 2; i++) {
        CHECK(gan_checkpoint_export(file, path, prefixes[i]) == GAN_ERR_UNSUPPORTED &&
                  strstr(gan_context_error(ctx), "\"__metadata__\""),
              "%s", gan_context_error(ctx));
    }
    gan_checkpoint_close(file);
    FILE *left = fopen(path, "rb");
    CHECK(!left, "a file is left behind");
    if (left) {
        fclose(left);
    }
}

/* What the message has to say of each damaged or hostile file. */
static const struct bad_file {
    const char *name;
    gan_status status;
    const char *message;
} bad_files[] = {
    /* the archive */
    {"truncated", GAN_ERR_FORMAT, "does not end with its directory"},
    {"short", GAN_ERR_FORMAT, "too short"},
    {"comment", GAN_ERR_FORMAT, "does not end with its directory"},
    {"no_pickle", GAN_ERR_FORMAT, "one NAME/data.pkl"},
    {"two_pickles", GAN_ERR_FORMAT, "one NAME/data.pkl"},
    {"duplicate", GAN_ERR_FORMAT, "\"a/data/0\" is there twice"},
    {"script", GAN_ERR_UNSUPPORTED, "torch.jit.load"},
    {"byte_order", GAN_ERR_FORMAT, "\"middle\""},
    {"count", GAN_ERR_FORMAT, "as many entries"},
    {"count_low", GAN_ERR_FORMAT, "longer than its entries"},
    {"directory_size", GAN_ERR_FORMAT, "where the end record begins"},
    {"directory_place", GAN_ERR_FORMAT, "where the end record begins"},
    {"records_disagree", GAN_ERR_FORMAT, "disagree"},
    {"locator", GAN_ERR_FORMAT, "before its locator"},
    {"volumes", GAN_ERR_FORMAT, "disagree"},
    {"size_lies", GAN_ERR_FORMAT, "overlaps"},
    {"size_huge", GAN_ERR_FORMAT, "before the directory"},
    {"size_zip64", GAN_ERR_FORMAT, "before the directory"},
    {"extra_cut", GAN_ERR_FORMAT, "cut off"},
    {"compressed", GAN_ERR_FORMAT, "a compressed entry"},
    {"bomb", GAN_ERR_FORMAT, "a compressed entry"},
    {"encrypted", GAN_ERR_FORMAT, "encrypted"},
    {"offset_beyond", GAN_ERR_FORMAT, "beyond the end of the file"},
    {"offset_wrong", GAN_ERR_FORMAT, "differs from its directory"},
    {"overlap", GAN_ERR_FORMAT, "overlaps"},
    {"local_name", GAN_ERR_FORMAT, "differs from its directory"},
    {"local_size", GAN_ERR_FORMAT, "differs from its directory"},
    {"local_method", GAN_ERR_FORMAT, "differs from its directory"},
    {"zero_name", GAN_ERR_FORMAT, "misnamed"},
    {"pickle_compressed", GAN_ERR_UNSUPPORTED, "compressed"},
    {"pickle_empty", GAN_ERR_LIMIT, "1 to"},
    {"tar", GAN_ERR_UNSUPPORTED, "before 0.1.10"},
    {"only_pickle", GAN_ERR_UNSUPPORTED, "write it with torch.save"},
    /* the pickle: nothing of it runs */
    {"os_system", GAN_ERR_UNSUPPORTED, "found os.system"},
    {"eval", GAN_ERR_UNSUPPORTED, "found builtins.eval"},
    {"module", GAN_ERR_UNSUPPORTED, "found __main__.Net"},
    {"nested_name", GAN_ERR_UNSUPPORTED, "found torch.nn.Module"},
    {"set_state", GAN_ERR_FORMAT, "a dictionary with attributes"},
    {"call_storage", GAN_ERR_FORMAT, "other arguments"},
    {"call_text", GAN_ERR_FORMAT, "a global and its arguments"},
    {"opcode_newobj", GAN_ERR_FORMAT, "opcode 0x81"},
    {"opcode_inst", GAN_ERR_FORMAT, "opcode 0x69"},
    {"opcode_obj", GAN_ERR_FORMAT, "opcode 0x6f"},
    {"opcode_persid", GAN_ERR_FORMAT, "opcode 0x50"},
    {"opcode_ext", GAN_ERR_FORMAT, "opcode 0x82"},
    {"opcode_pop", GAN_ERR_FORMAT, "opcode 0x30"},
    {"opcode_dup", GAN_ERR_FORMAT, "opcode 0x32"},
    {"opcode_float_text", GAN_ERR_FORMAT, "opcode 0x46"},
    {"opcode_stack_global", GAN_ERR_FORMAT, "opcode 0x93"},
    {"opcode_memoize", GAN_ERR_FORMAT, "opcode 0x94"},
    {"opcode_string", GAN_ERR_FORMAT, "opcode 0x53"},
    {"opcode_long4", GAN_ERR_FORMAT, "opcode 0x8b"},
    {"opcode_reduce_ex", GAN_ERR_FORMAT, "opcode 0x92"},
    {"opcode_bytes", GAN_ERR_FORMAT, "opcode 0x42"},
    {"protocol_4", GAN_ERR_UNSUPPORTED, "found 4"},
    {"protocol_0", GAN_ERR_FORMAT, "protocol 2"},
    {"protocol_twice", GAN_ERR_FORMAT, "begins twice"},
    {"no_stop", GAN_ERR_FORMAT, "without a stop"},
    {"two_values", GAN_ERR_FORMAT, "one value at the end"},
    {"nothing", GAN_ERR_FORMAT, "one value at the end"},
    {"mark_left", GAN_ERR_FORMAT, "one value at the end"},
    {"no_tensors", GAN_ERR_FORMAT, "no tensors"},
    {"text_long", GAN_ERR_FORMAT, "runs over its end"},
    {"text_wrap", GAN_ERR_FORMAT, "runs over its end"},
    {"long_long", GAN_ERR_FORMAT, "runs over its end"},
    {"line", GAN_ERR_FORMAT, "runs over its end"},
    {"underflow_tuple", GAN_ERR_FORMAT, "too few values"},
    {"underflow_mark", GAN_ERR_FORMAT, "too few values"},
    {"underflow_reduce", GAN_ERR_FORMAT, "a global and its arguments"},
    {"append_number", GAN_ERR_FORMAT, "a container and its items"},
    {"append_mark", GAN_ERR_FORMAT, "a container and its items"},
    {"odd_items", GAN_ERR_FORMAT, "a container and its items"},
    {"items_alone", GAN_ERR_FORMAT, "a container and its items"},
    {"memo_missing", GAN_ERR_FORMAT, "nothing was kept"},
    {"memo_huge", GAN_ERR_LIMIT, "at most 1048576 values"},
    {"memo_mark", GAN_ERR_FORMAT, "a value to keep"},
    {"deep_marks", GAN_ERR_FORMAT, "one value at the end"},
    {"deep_lists", GAN_ERR_LIMIT, "at most 32 containers"},
    {"cycle", GAN_ERR_LIMIT, "at most 32 containers"},
    {"laughs", GAN_ERR_LIMIT, "at most 65536 tensors"},
    {"sharing", GAN_ERR_LIMIT, "share their data"},
    {"nameless", GAN_ERR_LIMIT, "at most 1048576 values"},
    {"spread", GAN_ERR_LIMIT, "share their data"},
    {"name_twice", GAN_ERR_FORMAT, "found this twice"},
    {"name_dots", GAN_ERR_FORMAT, "found this twice"},
    {"name_zero", GAN_ERR_FORMAT, "zero bytes"},
    {"name_long", GAN_ERR_LIMIT, "at most 512 bytes"},
    /* storages and tensors */
    {"storage_count", GAN_ERR_FORMAT, "7 elements of type F32 expected, found 24 bytes"},
    {"storage_huge", GAN_ERR_FORMAT, "elements of type F32 expected, found 24 bytes"},
    {"storage_beyond_64", GAN_ERR_FORMAT, "(\"storage\", type, key, place, elements)"},
    {"storage_negative", GAN_ERR_FORMAT, "(\"storage\", type, key, place, elements)"},
    {"storage_missing", GAN_ERR_FORMAT, "found 0 bytes"},
    {"storage_path", GAN_ERR_FORMAT, "found 0 bytes"},
    {"storage_odd", GAN_ERR_FORMAT, "found 23 bytes"},
    {"storage_complex", GAN_ERR_UNSUPPORTED, "found torch.ComplexFloatStorage"},
    {"storage_tag", GAN_ERR_FORMAT, "(\"storage\", type, key, place, elements)"},
    {"storage_type", GAN_ERR_FORMAT, "(\"storage\", type, key, place, elements)"},
    {"storage_number", GAN_ERR_FORMAT, "(\"storage\", type, key, place, elements)"},
    {"shape_beyond", GAN_ERR_FORMAT, "inside its storage"},
    {"shape_huge", GAN_ERR_FORMAT, "inside its storage"},
    {"shape_2_31", GAN_ERR_FORMAT, "whole numbers"},
    {"shape_negative", GAN_ERR_FORMAT, "whole numbers"},
    {"shape_text", GAN_ERR_FORMAT, "(storage, offset, size, stride ...)"},
    {"rank", GAN_ERR_UNSUPPORTED, "at most 5 dimensions"},
    {"rank_differs", GAN_ERR_FORMAT, "(storage, offset, size, stride ...)"},
    {"stride_beyond", GAN_ERR_FORMAT, "inside its storage"},
    {"stride_huge", GAN_ERR_FORMAT, "inside its storage"},
    {"stride_negative", GAN_ERR_FORMAT, "whole numbers"},
    {"stride_zero", GAN_ERR_FORMAT, "call .contiguous()"},
    {"offset_beyond_tensor", GAN_ERR_FORMAT, "inside its storage"},
    {"offset_huge", GAN_ERR_FORMAT, "(storage, offset, size, stride ...)"},
    {"offset_negative", GAN_ERR_FORMAT, "(storage, offset, size, stride ...)"},
    {"offset_end", GAN_ERR_FORMAT, "inside its storage"},
    {"parameter", GAN_ERR_FORMAT, "other arguments"},
    /* streams, as before PyTorch 1.6 */
    {"stream_count", GAN_ERR_FORMAT, "6 elements of type F32 expected, found 7"},
    {"stream_count_big_endian", GAN_ERR_FORMAT, "6 elements of type F32 expected"},
    {"stream_count_negative", GAN_ERR_FORMAT, "6 elements of type F32 expected"},
    {"stream_huge", GAN_ERR_FORMAT, "inside the file"},
    {"stream_beyond", GAN_ERR_FORMAT, "and 32 bytes to the end"},
    {"stream_cut", GAN_ERR_FORMAT, "and 31 bytes to the end"},
    {"stream_no_data", GAN_ERR_FORMAT, "and 0 bytes to the end"},
    {"stream_tail", GAN_ERR_FORMAT, "after the last storage expected, found 1 bytes"},
    {"stream_version", GAN_ERR_FORMAT, "1001"},
    {"stream_system", GAN_ERR_FORMAT, "1001, a dictionary"},
    {"stream_pickles", GAN_ERR_FORMAT, "without a stop"},
    {"stream_global", GAN_ERR_UNSUPPORTED, "found os.system"},
    {"stream_module", GAN_ERR_FORMAT, "(\"storage\", type, key, place, elements)"},
    {"stream_memo", GAN_ERR_FORMAT, "nothing was kept"},
    {"stream_keys_text", GAN_ERR_FORMAT, "a list of keys"},
    {"stream_keys_number", GAN_ERR_FORMAT, "ascending order"},
    {"stream_keys_order", GAN_ERR_FORMAT, "ascending order"},
    {"stream_keys_twice", GAN_ERR_FORMAT, "ascending order"},
    {"stream_keys_more", GAN_ERR_FORMAT, "\"1\": 0 elements of type none"},
    {"stream_keys_less", GAN_ERR_FORMAT, "in the list of keys"},
    {"stream_keys_many", GAN_ERR_FORMAT, "no more keys"},
    {"stream_types", GAN_ERR_FORMAT, "one type and size expected, found 6 elements of type I32"},
    {"stream_sizes", GAN_ERR_FORMAT, "one type and size expected, found 5 elements"},
    {"stream_complex", GAN_ERR_UNSUPPORTED, "found torch.ComplexFloatStorage"},
    {"stream_part_begin", GAN_ERR_FORMAT, "a part inside its storage"},
    {"stream_part_end", GAN_ERR_FORMAT, "a part inside its storage"},
    {"stream_part_offset", GAN_ERR_FORMAT, "a part inside its storage"},
    {"stream_part_negative", GAN_ERR_FORMAT, "a part inside its storage"},
    {"stream_part_overflow", GAN_ERR_FORMAT, "a part inside its storage"},
    {"stream_part_empty", GAN_ERR_FORMAT, "a part inside its storage"},
    {"stream_part_tensor", GAN_ERR_FORMAT, "a tensor inside its storage"},
    {"stream_python2_pair", GAN_ERR_FORMAT, "pairs of key and value"},
    {"stream_python2_flat", GAN_ERR_FORMAT, "pairs of key and value"},
    {"stream_python2_two", GAN_ERR_FORMAT, "other arguments"},
    {"stream_python2_text", GAN_ERR_FORMAT, "other arguments"},
    {"stream_python2_copies", GAN_ERR_LIMIT, "at most 1048576 values"},
};
enum { BAD_FILES = sizeof bad_files / sizeof bad_files[0] };

static void bad_files_are_refused(void) {
    char path[256];
    gani_folder corpus;
    int found = 0;
    for (int i = 0; i < BAD_FILES; i++) {
        gan_checkpoint *file;
        snprintf(path, sizeof path, "tests/corpus/pth/bad_%s", bad_files[i].name);
        const gan_status status = gan_checkpoint_open(&file, ctx, path);
        CHECK(status == bad_files[i].status && !file, "%s: %s", bad_files[i].name,
              gan_status_text(status));
        CHECK(strstr(gan_context_error(ctx), bad_files[i].message) &&
                  gani_has_prefix(gan_context_error(ctx), path),
              "%s: \"%s\"", bad_files[i].name, gan_context_error(ctx));
        gan_checkpoint_close(file);
    }
    if (gani_folder_open(ctx, &corpus, "tests/corpus/pth")) {
        for (const char *name = gani_folder_next(&corpus); name; name = gani_folder_next(&corpus)) {
            found += strncmp(name, "bad_", 4) == 0;
        }
        gani_folder_close(&corpus);
    }
    CHECK(found == BAD_FILES, "%d files, %d rows", found, BAD_FILES);
}

/* Cut off anywhere, a file is refused. */
static void check_truncations(const char *whole) {
    unsigned char bytes[4096];
    const char *path = test_path("cut.pth");
    FILE *good = fopen(whole, "rb");
    const size_t size = good ? fread(bytes, 1, sizeof bytes, good) : 0;
    CHECK(size > 500 && size < sizeof bytes, "%d bytes", (int)size);
    for (size_t cut = 0; cut < size; cut++) {
        gan_checkpoint *file = NULL;
        FILE *out = fopen(path, "wb");
        CHECK(out && fwrite(bytes, 1, cut, out) == cut && fclose(out) == 0, "cannot write");
        const gan_status status = gan_checkpoint_open(&file, ctx, path);
        CHECK(status == GAN_ERR_FORMAT || (status == GAN_ERR_UNSUPPORTED && cut < 14),
              "%s, %d bytes: %s", whole, (int)cut, gan_status_text(status));
        gan_checkpoint_close(file);
    }
    if (good) {
        fclose(good);
    }
    remove(path);
}

static void every_truncation(void) {
    check_truncations("tests/corpus/pth/good");
    check_truncations("tests/corpus/pth/stream");
    check_truncations("tests/corpus/pth/stream_parts");
}

/* Every allocation fails once: a clean error, and no leak. */
static void failing_memory(void) {
    static const char *const files[] = {"good", "strided", "nested", "stream", "stream_python2"};
    const char *path = test_path("memory.safetensors");
    for (int i = 0; i < 5; i++) {
        char name[256];
        gan_status status = GAN_ERR_MEMORY;
        snprintf(name, sizeof name, "tests/corpus/pth/%s", files[i]);
        for (int fail = 2; status == GAN_ERR_MEMORY && fail < 200; fail++) {
            counting counter = {0, 0, 0};
            gan_context_desc desc;
            gan_context *in;
            gan_checkpoint *file;
            memset(&desc, 0, sizeof desc);
            desc.allocator.alloc = counting_alloc;
            desc.allocator.free = counting_free;
            desc.allocator.user = &counter;
            CHECK(!gan_context_create(&in, &desc), "no context");
            counter.fail_at = counter.calls + fail - 1;
            status = gan_checkpoint_open(&file, in, name);
            status = status ? status : gan_checkpoint_export(file, path, NULL);
            CHECK(!status || status == GAN_ERR_MEMORY, "%s, allocation %d: %s", files[i], fail,
                  gan_context_error(in));
            gan_checkpoint_close(file);
            gan_context_destroy(in);
            CHECK(counter.live == 0, "%s, allocation %d: leak", files[i], fail);
        }
        CHECK(!status, "%s: %s", files[i], gan_status_text(status));
    }
    remove(path);
}

/* --- networks in the files --------------------------------------------------- */

#define SEED 1
static const char *weights_folder = "tests/fixtures/weights";

/* A generator: the file is opened as a model and translates, or draws a sample. */
typedef struct model_row {
    const char *name, *file;      /* of the fixture; the file's ending is added by its row */
    const char *system, *options; /* what it is taken for; the options that the file tells */
    int channels, height, width;  /* of the input; channels 0: draws a sample */
    int classes;                  /* the input is a map of so many; channels 2: and of instances */
    const char *inputs;
} model_row;

static const model_row small_rows[] = {
    {"unet", "unet.pth", "pix2pix", "net=unet ngf=2 norm=batch dropout=0.5", 3, 32, 32, 0,
     "dropout=0"},
    {"unet_instance", "unet_instance.safetensors", "pix2pix",
     "net=unet ngf=1 norm=instance dropout=0", 1, 32, 32, 0, NULL},
    {"resnet", "resnet.pth", "pix2pix", "net=resnet ngf=2 blocks=6 norm=instance dropout=0", 3, 16,
     20, 0, NULL},
    {"unet_stream", "unet_stream.pth", "pix2pix", "net=unet ngf=1 norm=batch dropout=0.5", 1, 32, 32,
     0, "dropout=0"},
    {"unet_august", "unet_august.safetensors", "pix2pix", "norm=batch layout=august", 1, 16, 16, 0,
     "dropout=0"},
    {"resnet_july", "resnet_july.safetensors", "pix2pix",
     "net=resnet ngf=1 blocks=2 norm=instance dropout=0 layout=july", 3, 16, 20, 0, NULL},
    {"resnet_dropout", "resnet_dropout.pth", "pix2pix",
     "net=resnet ngf=2 blocks=2 norm=batch dropout=0.5", 3, 16, 16, 0, "dropout=0"},
    {"dcgan", "dcgan.pth", "dcgan", "z=4 ngf=2", 0, 16, 16, 0, "z=0.5"},
    {"global", "global.pth", "pix2pixhd",
     "classes=5 instances=off ngf=2 downs=3 blocks=2 enhancers=0 norm=instance", 1, 16, 24, 5,
     NULL},
    {"local", "local.pth", "pix2pixhd",
     "classes=35 instances=on ngf=1 downs=2 blocks=1 enhancers=1 blocks-local=2 norm=instance", 2,
     16, 24, 35, NULL},
};
static const model_row full_rows[] = {
    {"unet_128", "unet_128", "pix2pix", "net=unet ngf=64 norm=batch", 3, 128, 128, 0, "dropout=0"},
    {"unet_256", "unet_256", "pix2pix", "net=unet ngf=64 norm=batch", 3, 256, 256, 0, "dropout=0"},
    {"resnet_6", "resnet_6", "pix2pix", "net=resnet ngf=64 blocks=6 norm=instance", 3, 256, 256, 0,
     NULL},
    {"resnet_9", "resnet_9", "pix2pix", "net=resnet ngf=64 blocks=9 norm=instance", 3, 256, 256, 0,
     NULL},
    {"hd_global", "hd_global", "pix2pixhd", "classes=35 instances=on ngf=64 downs=4 blocks=9", 2,
     64, 128, 35, NULL},
    {"hd_local", "hd_local", "pix2pixhd",
     "classes=35 instances=on ngf=32 downs=4 blocks=9 enhancers=1 blocks-local=3", 2, 64, 128, 35,
     NULL},
    {"dcgan_64", "dcgan_64", "dcgan", "z=100 ngf=64", 0, 64, 64, 0, "z=0.5"},
};

/* Every "name=value" of `wanted` is among the model's options. */
static int has_options(const char *options, const char *wanted) {
    gani_pair want, have;
    while ((wanted = gani_next_pair(wanted, &want)) != NULL) {
        const char *at = options;
        const size_t size = (size_t)(want.value - want.name + want.value_length);
        int found = 0;
        while (!found && (at = gani_next_pair(at, &have)) != NULL) {
            found = (size_t)(have.value - have.name + have.value_length) == size &&
                    memcmp(have.name, want.name, size) == 0;
        }
        if (!found) {
            return 0;
        }
    }
    return 1;
}

/* The input as fixtures_weights.py draws it; malloced. */
static float *row_input(const model_row *row) {
    const size_t pixels = (size_t)(row->height * row->width);
    float *x = (float *)malloc((pixels * (size_t)row->channels + 1) * sizeof *x);
    char name[64];
    if (row->classes == 0) {
        snprintf(name, sizeof name, "%s.x", row->name);
        fill_random(x, pixels * (size_t)row->channels, name, SEED, -1.0f, 1.0f);
        return x;
    }
    snprintf(name, sizeof name, "%s.label", row->name);
    fill_random(x, pixels, name, SEED, 0.0f, (float)row->classes);
    if (row->channels == 2) {
        snprintf(name, sizeof name, "%s.instance", row->name);
        fill_random(x + pixels, pixels, name, SEED, 0.0f, 3.0f);
    }
    for (size_t i = 0; i < pixels * (size_t)row->channels; i++) {
        x[i] = floorf(x[i]);
    }
    return x;
}

/* The stored output of a network; malloced, NULL if there is none. */
static float *stored_output(const char *name, size_t count) {
    char path[300], tensor[80];
    gan_checkpoint *file = NULL;
    float *want = (float *)malloc((count + 1) * sizeof *want);
    snprintf(path, sizeof path, "%s/outputs.safetensors", weights_folder);
    snprintf(tensor, sizeof tensor, "%s.out.y", name);
    gan_status status = gan_checkpoint_open(&file, ctx, path);
    status =
        status ? status : gan_checkpoint_read(file, gan_checkpoint_find(file, tensor), want, count);
    CHECK(!status, "%s: %s", name, gan_context_error(ctx));
    gan_checkpoint_close(file);
    if (status) {
        free(want);
        want = NULL;
    }
    return want;
}

/* Within 1e-4 absolute. */
static void check_output(const char *name, const char *file, const float *got, size_t count) {
    float *want = stored_output(name, count);
    double worst = want ? 0.0 : HUGE_VAL;
    for (size_t i = 0; want && i < count; i++) {
        const double error = fabs((double)got[i] - (double)want[i]);
        worst = error > worst || error != error ? error : worst;
    }
    CHECK(worst < 1e-4, "%s: differs by %.2g", file, worst);
    if (getenv("GAN_TEST_VERBOSE")) {
        printf("%s: within %.1e\n", file, worst);
    }
    free(want);
}

/* given: options for what the file does not tell, or NULL. */
static void run_model(const model_row *row, const char *ending, const char *given) {
    char path[300];
    gan_model *model = NULL;
    gan_model_desc desc;
    gan_model_info info;
    memset(&desc, 0, sizeof desc);
    desc.disable_training = 1;
    desc.options = given;
    snprintf(path, sizeof path, "%s/%s%s", weights_folder, row->file, ending);
    gan_status status = gan_model_load(&model, ctx, path, &desc);
    CHECK(!status, "%s", gan_context_error(ctx));
    if (status) {
        return;
    }
    gan_model_get_info(model, &info);
    CHECK(strcmp(info.system->name, row->system) == 0 && has_options(info.options, row->options),
          "%s: %s %s", row->file, info.system->name, info.options);
    const int channels = row->channels ? info.translate_out : info.sample_channels;
    const size_t count = (size_t)(channels * row->height * row->width);
    float *x = row_input(row), *y = (float *)malloc(count * sizeof *y);
    if (row->channels) {
        CHECK(info.translate_in == row->channels, "%s: %d channels", row->file, info.translate_in);
        status = gan_model_translate(model, x, 1, row->height, row->width, row->inputs, y);
    } else {
        CHECK(info.sample_height == row->height, "%s: %d pixels", row->file, info.sample_height);
        status = gan_model_sample(model, y, 1, row->inputs, 1);
    }
    CHECK(!status, "%s: %s", row->file, gan_context_error(ctx));
    check_output(row->name, path, y, count);
    gan_model_destroy(model);
    free(x);
    free(y);
}

static void recognised_models(void) {
    for (size_t i = 0; i < sizeof small_rows / sizeof small_rows[0]; i++) {
        run_model(&small_rows[i], "", NULL);
    }
    /* not to be told from its tensors */
    const model_row september = {"unet_september", "unet_september.safetensors",
                                 "pix2pix",        "norm=batch layout=september",
                                 1,                16,
                                 16,               0,
                                 "dropout=0"};
    run_model(&september, "", "layout=september");
}

/* Discriminators load by name into a graph of one's own. */
static gan_tensor patch_network(gan_graph *g, gan_tensor x) {
    gani_patch_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ndf = 64;
    desc.layers = 3;
    desc.norm = GAN_NORM_BATCH;
    return gani_patch_discriminator(g, &desc, x, NULL);
}

static gan_tensor pixel_network(gan_graph *g, gan_tensor x) {
    gani_patch_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ndf = 64;
    desc.norm = GAN_NORM_BATCH;
    return gani_patch_discriminator(g, &desc, x, NULL);
}

static gan_tensor scales_network(gan_graph *g, gan_tensor x) {
    gani_patch_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ndf = 64;
    desc.layers = 3;
    desc.norm = GAN_NORM_INSTANCE;
    const gani_hd_scores scores = gani_hd_discriminator(g, &desc, 2, x);
    gan_tensor parts[2];
    for (int i = 0; i < 2; i++) {
        const gan_shape shape = gan_tensor_shape(g, scores.score[i]);
        parts[i] = gan_reshape(g, scores.score[i], gan_shape1((int)gan_shape_count(shape)));
    }
    return gan_concat(g, parts, 2, 0);
}

static const struct graph_row {
    const char *name;
    int channels, size;
    gan_tensor (*build)(gan_graph *g, gan_tensor x);
} graph_rows[] = {{"patch", 6, 256, patch_network},
                  {"pixel", 6, 64, pixel_network},
                  {"scales", 39, 128, scales_network}};

static void run_graph(const struct graph_row *row, const char *ending) {
    const gan_shape shape = gan_shape4(1, row->channels, row->size, row->size);
    gan_params *params = NULL;
    gan_graph *g = NULL;
    gan_program *program = NULL;
    gan_checkpoint *file = NULL;
    gan_load_desc load;
    char path[300], input[64];
    memset(&load, 0, sizeof load);
    load.weights_only = 1;
    snprintf(path, sizeof path, "%s/%s%s", weights_folder, row->name, ending);
    snprintf(input, sizeof input, "%s.x", row->name);
    CHECK(!gan_params_create(&params, ctx, 1) && !gan_graph_create(&g, ctx, params), "no graph");
    gan_tensor x = gan_input(g, "x", shape);
    gan_tensor y = row->build(g, x);
    fill_random(gan_input_data(g, x), gan_shape_count(shape), input, SEED, -1.0f, 1.0f);
    gan_status status = gan_checkpoint_open(&file, ctx, path);
    status = status ? status : gan_params_load(params, file, &load);
    status = status ? status : gan_program_create(&program, g, row->name, &y, 1);
    status = status ? status : gan_program_run(program);
    CHECK(!status, "%s", gan_context_error(ctx));
    if (!status) {
        check_output(row->name, path, gan_program_output(program, y),
                     gan_shape_count(gan_tensor_shape(g, y)));
    }
    gan_checkpoint_close(file);
    gan_program_destroy(program);
    gan_graph_destroy(g);
    gan_params_destroy(params);
}

static void full_size(void) {
    static const char *const endings[] = {".pth", ".safetensors"};
    weights_folder = getenv("GAN_TEST_WEIGHTS");
    for (int e = 0; weights_folder && e < 2; e++) {
        for (size_t i = 0; i < sizeof full_rows / sizeof full_rows[0]; i++) {
            run_model(&full_rows[i], endings[e], NULL);
        }
        for (size_t i = 0; i < sizeof graph_rows / sizeof graph_rows[0]; i++) {
            run_graph(&graph_rows[i], endings[e]);
        }
    }
    weights_folder = "tests/fixtures/weights";
}

/* What is said of files that are no generator, or several, or do not fit. */
static void not_recognised(void) {
    static const struct {
        const char *path;
        gan_status status;
        const char *message, *options;
    } rows[] = {
        {"tests/fixtures/weights/discriminator.pth", GAN_ERR_UNSUPPORTED,
         "found a discriminator of DCGAN", NULL},
        {"tests/fixtures/weights/pair.pth", GAN_ERR_UNSUPPORTED, "--prefix \"G_A.\"", NULL},
        {"tests/corpus/pth/good", GAN_ERR_FORMAT, "the first is \"conv.weight\" [2,3]", NULL},
        {"tests/fixtures/weights/unet.pth", GAN_ERR_SHAPE, "of another shape: ", "ngf=3"},
        {"tests/fixtures/weights/unet.pth", GAN_ERR_SHAPE, "not expected: ", "norm=instance"},
        {"tests/fixtures/weights/unet_instance.safetensors", GAN_ERR_SHAPE,
         "missing: ", "norm=batch"},
        {"tests/fixtures/weights/resnet_july.safetensors", GAN_ERR_SHAPE, "missing: ",
         "layout=now"},
        {"tests/fixtures/weights/unet.pth", GAN_ERR_ARGUMENT, "ngff", "ngff=3"},
        {"tests/fixtures/weights/unet.pth", GAN_ERR_SHAPE, /* a list of long names, none cut */
         "3.model.4.running_mean, generator.model.model.1.model.3.model.3.model.4.running_var; "
         "15 not expected: ",
         "levels=4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gan_model *model;
        gan_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.disable_training = 1;
        desc.options = rows[i].options;
        const gan_status status = gan_model_load(&model, ctx, rows[i].path, &desc);
        CHECK(status == rows[i].status && strstr(gan_context_error(ctx), rows[i].message),
              "%s: %s: %s", rows[i].path, gan_status_text(status), gan_context_error(ctx));
        gan_model_destroy(model);
    }
}

/* A safetensors file of a header and a few bytes. */
static void write_header(const char *path, const char *header, size_t data) {
    const size_t size = strlen(header);
    const unsigned char length[8] = {(unsigned char)(size & 255), (unsigned char)(size >> 8)};
    const unsigned char zeros[16] = {0};
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(length, 1, 8, file) == 8 && fwrite(header, 1, size, file) == size &&
              fwrite(zeros, 1, data, file) == data && fclose(file) == 0,
          "cannot write");
}

/* A few hundred bytes that ask for a network of gigabytes. */
static void small_file_large_model(void) {
    const char *path = test_path("small.safetensors");
    gan_model *model;
    write_header(path,
                 "{\"__metadata__\":{\"system\":\"dcgan\",\"height\":\"64\",\"width\":\"64\","
                 "\"channels\":\"3\",\"batch\":\"1\",\"options\":\"ngf=1024\","
                 "\"params.seed\":\"1\",\"params.step\":\"0\"}}",
                 0);
    CHECK(gan_model_load(&model, ctx, path, NULL) == GAN_ERR_LIMIT &&
              strstr(gan_context_error(ctx), "at most"),
          "%s", gan_context_error(ctx));
    gan_model_destroy(model);
    write_header(path, /* DCGAN's names; extents of 0 take no bytes */
                 "{\"main.0.weight\":{\"dtype\":\"F32\",\"shape\":[100,1024,0,0],"
                 "\"data_offsets\":[0,0]},\"main.1.weight\":{\"dtype\":\"U8\",\"shape\":[1],"
                 "\"data_offsets\":[0,1]},\"main.3.weight\":{\"dtype\":\"F32\","
                 "\"shape\":[1024,3,0,0],\"data_offsets\":[1,1]}}",
                 1);
    CHECK(gan_model_load(&model, ctx, path, NULL) == GAN_ERR_FORMAT &&
              strstr(gan_context_error(ctx), "no network known"),
          "%s", gan_context_error(ctx));
    gan_model_destroy(model);
    remove(path);
}

/* Numbers among the texts, and the system that the caller expects. */
static void texts_of_models(void) {
    static const struct {
        const char *step, *system;
        gan_status status;
        const char *message;
    } rows[] = {
        {"18446744073709551615", NULL, GAN_ERR_SHAPE, "missing"},
        {"18446744073709551616", NULL, GAN_ERR_FORMAT, "below 2^64"},
        {"1844674407370955161500", NULL, GAN_ERR_FORMAT, "below 2^64"},
        {"-1", NULL, GAN_ERR_FORMAT, "below 2^64"},
        {"0", "dcgan", GAN_ERR_SHAPE, "missing"},
        {"0", "lsgan", GAN_ERR_ARGUMENT, "system lsgan expected, found dcgan"},
    };
    const char *path = test_path("texts.safetensors");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char header[400];
        gan_model *model;
        gan_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.system = rows[i].system;
        desc.disable_training = 1;
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{\"system\":\"dcgan\",\"height\":\"16\",\"width\":\"16\","
                 "\"channels\":\"1\",\"batch\":\"1\",\"options\":\"ngf=1 ndf=1 z=1\","
                 "\"params.seed\":\"%s\",\"params.step\":\"%s\"}}",
                 rows[i].step, rows[i].step);
        write_header(path, header, 0);
        const gan_status status = gan_model_load(&model, ctx, path, &desc);
        CHECK(status == rows[i].status && strstr(gan_context_error(ctx), rows[i].message),
              "%s: %s", rows[i].step, gan_context_error(ctx));
        gan_model_destroy(model);
    }
    remove(path);
}

/* One of two generators taken out; a model that goes on training from it. */
static void start_from_files(void) {
    const char *path = test_path("part.safetensors");
    gan_checkpoint *file = NULL;
    gan_model *model = NULL;
    gan_model_desc small, desc = gan_model_defaults("pix2pix");
    CHECK(!gan_checkpoint_open(&file, ctx, "tests/fixtures/weights/pair.pth") &&
              !gan_checkpoint_export(file, path, "G_B."),
          "%s", gan_context_error(ctx));
    memset(&small, 0, sizeof small);
    small.height = small.width = 32;
    CHECK(!gan_model_load(&model, ctx, path, &small), "%s", gan_context_error(ctx));
    const gan_param_info taken =
        gan_params_find(gan_model_params(model), "generator.model.1.weight");
    float want[49];
    gan_checkpoint_read(file, gan_checkpoint_find(file, "G_B.model.1.weight"), want, 49);
    CHECK(taken.data && memcmp(taken.data, want, sizeof want) == 0, "weights of G_B");
    gan_model_destroy(model);
    gan_checkpoint_close(file);

    desc.height = desc.width = 32;
    desc.channels = 3;
    desc.channels_b = 2;
    desc.options = "ngf=2 ndf=1";
    CHECK(!gan_model_create(&model, ctx, &desc) &&
              !gan_model_start(model, "tests/fixtures/weights/unet.pth"),
          "%s", gan_context_error(ctx));
    CHECK(gan_model_start(model, path) == GAN_ERR_SHAPE, "a residual network for a U-Net");
    gan_model_destroy(model);

    desc = gan_model_defaults("cyclegan");
    desc.height = desc.width = 32;
    desc.options = "ngf=2 ndf=1 blocks=6";
    CHECK(!gan_model_create(&model, ctx, &desc) &&
              !gan_model_start(model, "tests/fixtures/weights/resnet.pth"),
          "%s", gan_context_error(ctx));
    const gan_param_info bias =
        gan_params_find(gan_model_params(model), "generator_a.model.1.bias");
    CHECK(bias.data && bias.data[0] != 0.0f, "biases of a new model are 0");
    CHECK(gan_model_start(model, "tests/fixtures/weights/discriminator.pth") == GAN_ERR_SHAPE,
          "DCGAN's discriminator for one of patches");
    gan_model_destroy(model);

    desc = gan_model_defaults("dcgan");
    desc.height = desc.width = 16;
    desc.channels = 1;
    desc.options = "ngf=2 ndf=2 z=4";
    CHECK(!gan_model_create(&model, ctx, &desc) &&
              !gan_model_start(model, "tests/fixtures/weights/discriminator.pth") &&
              !gan_checkpoint_open(&file, ctx, "tests/fixtures/weights/discriminator.pth"),
          "%s", gan_context_error(ctx));
    const gan_param_info judge =
        gan_params_find(gan_model_params(model), "discriminator.main.0.weight");
    gan_checkpoint_read(file, gan_checkpoint_find(file, "main.0.weight"), want, 32);
    CHECK(judge.data && memcmp(judge.data, want, 32 * sizeof *want) == 0, "weights of D");
    gan_checkpoint_close(file);
    gan_model_destroy(model);
    remove(path);
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    if (gan_context_create(&ctx, NULL)) {
        printf("cannot start: no context\n0 passed, 1 failed\n");
        return 1;
    }
    TEST(good_files);
    TEST(streams);
    TEST(nested_names);
    TEST(number_formats);
    TEST(export_parts);
    TEST(bad_files_are_refused);
    TEST(every_truncation);
    TEST(failing_memory);
    TEST(recognised_models);
    TEST(not_recognised);
    TEST(small_file_large_model);
    TEST(texts_of_models);
    TEST(start_from_files);
    TEST(full_size);
    gan_context_destroy(ctx);
    return test_end();
}
