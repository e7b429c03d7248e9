/* Tests of >>platform and >>instances: errors, memory, threads, instruction sets, random numbers. */
#include "test.h"

/* --- helpers ------------------------------------------------------------------ */

static gan_context_desc counting_desc(counting *c) {
    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(c, 0, sizeof *c);
    desc.allocator.alloc = counting_alloc;
    desc.allocator.free = counting_free;
    desc.allocator.user = c;
    return desc;
}

static void mark(void *arg, int index) {
    ((int *)arg)[index]++;
}

/* --- statuses and contexts ------------------------------------------------------ */

static void status_texts(void) {
    for (int i = 0; i < GAN_STATUS_COUNT; i++) {
        CHECK(strlen(gan_status_text((gan_status)i)) > 1, "status %d", i);
    }
    CHECK(strcmp(gan_status_text(GAN_OK), "ok") == 0, "GAN_OK");
    CHECK(strcmp(gan_status_text((gan_status)-1), "unknown status") == 0, "below the list");
    CHECK(strcmp(gan_status_text(GAN_STATUS_COUNT), "unknown status") == 0, "beyond the list");
}

static void context_defaults_and_errors(void) {
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, NULL) == GAN_OK, "defaults");
    CHECK(gan_context_status(ctx) == GAN_OK && gan_context_error(ctx)[0] == 0, "fresh");
    CHECK(gan_context_threads(ctx) >= 1, "threads %d", gan_context_threads(ctx));
    CHECK(gani_error(ctx, GAN_ERR_SHAPE, "layer %s: %d", "d3", 7) == GAN_ERR_SHAPE, "returned");
    CHECK(strcmp(gan_context_error(ctx), "layer d3: 7") == 0, "%s", gan_context_error(ctx));
    CHECK(gan_context_status(ctx) == GAN_ERR_SHAPE, "kept");
    gan_context_destroy(ctx);
    gan_context_destroy(NULL);

    gan_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = -1;
    CHECK(gan_context_create(&ctx, &desc) == GAN_ERR_ARGUMENT && !ctx, "negative threads");
    desc.threads = GANI_MAX_THREADS + 1;
    CHECK(gan_context_create(&ctx, &desc) == GAN_ERR_ARGUMENT && !ctx, "too many threads");
    desc.threads = 0;
    desc.isa = "sse9";
    CHECK(gan_context_create(&ctx, &desc) == GAN_ERR_UNSUPPORTED && !ctx, "unknown set");
    desc.isa = NULL;
    desc.allocator.alloc = counting_alloc;
    CHECK(gan_context_create(&ctx, &desc) == GAN_ERR_ARGUMENT && !ctx, "alloc without free");
    CHECK(gan_context_create(NULL, NULL) == GAN_ERR_ARGUMENT, "no place for the result");
}

static void instruction_sets(void) {
    int count = 0;
    for (; gan_isa_name(count); count++) {
        gan_context_desc desc;
        gan_context *ctx = NULL;
        memset(&desc, 0, sizeof desc);
        desc.isa = gan_isa_name(count);
        gan_status status = gan_context_create(&ctx, &desc);
        CHECK((status == GAN_OK) == gan_isa_available(desc.isa), "%s", desc.isa);
        CHECK(!ctx || strcmp(gan_context_isa(ctx), desc.isa) == 0, "%s", desc.isa);
        gan_context_destroy(ctx);
    }
    CHECK(count >= 1 && strcmp(gan_isa_name(count - 1), "scalar") == 0, "scalar is last");
    CHECK(gan_isa_available("scalar") && !gan_isa_available("") && !gan_isa_available(NULL), "names");
    CHECK(!gan_isa_name(-1), "index");
}

/* --- memory ----------------------------------------------------------------------- */

static void checked_sizes(void) {
    CHECK(gani_mul(3, 5) == 15 && gani_mul(0, 5) == 0, "small");
    CHECK(gani_mul(SIZE_MAX / 2, 3) == 0 && gani_mul(SIZE_MAX, SIZE_MAX) == 0, "overflow is 0");
    CHECK(gani_mul(SIZE_MAX, 1) == SIZE_MAX, "largest");
    CHECK(gani_sum(1, 2) == 3 && gani_sum(SIZE_MAX, 1) == 0 && gani_sum(0, 7) == 0, "sums");
    CHECK(gani_round_up(0, 64) == 0 && gani_round_up(1, 64) == 64 && gani_round_up(64, 64) == 64, "units");
}

static void allocation(void) {
    counting c;
    gan_context_desc desc = counting_desc(&c);
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, &desc) == GAN_OK, "create");
    for (size_t size = 1; size < 300; size += 7) {
        unsigned char *p = (unsigned char *)gani_alloc(ctx, size);
        CHECK(p && (uintptr_t)p % GANI_ALIGN == 0, "aligned, %lu bytes", (unsigned long)size);
        memset(p, 0xa5, size);
        gani_free(ctx, p);
    }
    CHECK(!gani_alloc(ctx, 0), "size 0 is an overflow elsewhere");
    CHECK(gan_context_status(ctx) == GAN_ERR_MEMORY, "status");
    CHECK(!gani_alloc(ctx, SIZE_MAX) && !gani_alloc(ctx, SIZE_MAX - 8), "too large");
    unsigned char *zeros = (unsigned char *)gani_calloc(ctx, 3, 5);
    for (int i = 0; i < 15; i++) {
        CHECK(zeros[i] == 0, "calloc [%d]", i);
    }
    gani_free(ctx, zeros);
    gani_free(ctx, NULL);

    void *items = NULL;
    int capacity = 0;
    for (int i = 0; i < 1000; i++) {
        CHECK(gani_grow(ctx, &items, &capacity, i + 1, sizeof(int)), "grow");
        ((int *)items)[i] = i;
    }
    for (int i = 0; i < 1000; i++) {
        CHECK(((int *)items)[i] == i, "kept [%d]", i);
    }
    c.fail_at = c.calls + 1;
    void *before = items;
    CHECK(!gani_grow(ctx, &items, &capacity, capacity + 1, sizeof(int)), "growing fails");
    CHECK(items == before, "and leaves the array alone");
    gani_free(ctx, items);

    CHECK(gani_workspace(ctx, 100) != NULL, "workspace");
    void *first = gani_workspace(ctx, 1000);
    CHECK(gani_workspace(ctx, 10) == first, "does not shrink");
    gan_context_destroy(ctx);
    CHECK(c.live == 0, "%d blocks left", c.live);
}

static void failing_context(void) {
    counting c;
    gan_context_desc desc = counting_desc(&c);
    gan_context *ctx = NULL;
    c.fail_at = 1;
    CHECK(gan_context_create(&ctx, &desc) == GAN_ERR_MEMORY && !ctx && c.live == 0, "first fails");
}

/* --- threads ------------------------------------------------------------------------ */

static void parallel_for(void) {
    enum { COUNT = 1000 };
    static int hits[COUNT];
    for (int threads = 1; threads <= 7; threads += 3) {
        int hook_calls = 0;
        for (int hook = 0; hook < 2; hook++) {
            gan_context_desc desc;
            gan_context *ctx = NULL;
            memset(&desc, 0, sizeof desc);
            memset(hits, 0, sizeof hits);
            desc.threads = threads;
            if (hook) {
                desc.parallel.run = run_backwards;
                desc.parallel.user = &hook_calls;
            }
            CHECK(gan_context_create(&ctx, &desc) == GAN_OK, "create");
            gani_parallel(ctx, COUNT, mark, hits);
            gani_parallel(ctx, 0, mark, hits);
            for (int i = 0; i < COUNT; i++) {
                CHECK(hits[i] == 1, "task %d ran %d times", i, hits[i]);
            }
            gan_context_destroy(ctx);
        }
        CHECK(hook_calls == (threads > 1), "hook called %d times", hook_calls);
    }
}

static void multiply_denormal(void *arg, int index) {
    volatile float tiny = FLT_MIN;
    (void)index;
    *(float *)arg = tiny * 0.5f;
}

static void denormals(void) {
    volatile float tiny = FLT_MIN;
    float inside = 1.0f;
    gan_context *ctx = NULL;
    CHECK(gan_context_create(&ctx, NULL) == GAN_OK, "create");
    float before = tiny * 0.5f;
    gani_parallel(ctx, 1, multiply_denormal, &inside);
    float after = tiny * 0.5f;
    CHECK(before == after && after > 0.0f, "the caller's mode is kept");
#if defined(GANI_X86)
    CHECK(inside == 0.0f, "flushed inside");
#endif
    gan_context_destroy(ctx);
}

/* --- random numbers ----------------------------------------------------------------- */

/* Known answers published with the algorithm (Random123, kat_vectors, philox4x32 10). */
static void philox_known_answers(void) {
    static const struct {
        uint64_t key, high, low;
        uint32_t out[4];
    } rows[] = {
        {0, 0, 0, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
        {~(uint64_t)0, ~(uint64_t)0, ~(uint64_t)0,
         {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
        {0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u,
         {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t out[4];
        gani_philox(rows[i].key, rows[i].high, rows[i].low, out);
        CHECK(memcmp(out, rows[i].out, sizeof out) == 0, "row %d: %08x", (int)i, out[0]);
    }
}

static void random_is_addressable(void) {
    float whole[1000], part[1000];
    for (int normal = 0; normal < 2; normal++) {
        gani_random_fill(7, 3, 0, whole, 1000, normal);
        for (size_t first = 0; first < 9; first++) {
            gani_random_fill(7, 3, first, part, 991, normal);
            CHECK(memcmp(part, whole + first, 991 * sizeof(float)) == 0, "from %d", (int)first);
        }
        gani_random_fill(8, 3, 0, part, 1000, normal);
        CHECK(memcmp(part, whole, sizeof part) != 0, "another seed");
        gani_random_fill(7, 4, 0, part, 1000, normal);
        CHECK(memcmp(part, whole, sizeof part) != 0, "another stream");
    }
}

/* Mean, variance, and (normal) fourth moment within five standard errors. */
static void random_moments(void) {
    enum { COUNT = 1 << 18 };
    static float x[COUNT];
    for (int normal = 0; normal < 2; normal++) {
        double sum = 0.0, square = 0.0, fourth = 0.0;
        gani_random_fill(42, 5, 0, x, COUNT, normal);
        for (int i = 0; i < COUNT; i++) {
            double v = normal ? (double)x[i] : (double)x[i] - 0.5;
            CHECK(normal ? fabs(v) < 6.7 : v >= -0.5 && v < 0.5, "range [%d]: %g", i, v);
            sum += v;
            square += v * v;
            fourth += v * v * v * v;
        }
        double variance = normal ? 1.0 : 1.0 / 12.0, kurtosis = normal ? 3.0 : 1.0 / 80.0;
        double error = 5.0 / sqrt((double)COUNT);
        CHECK(fabs(sum / COUNT) < error * sqrt(variance), "mean %g", sum / COUNT);
        CHECK(fabs(square / COUNT - variance) < error * 1.5 * variance, "var %g", square / COUNT);
        CHECK(fabs(fourth / COUNT - kurtosis) < error * 10.0 * kurtosis, "m4 %g", fourth / COUNT);
    }
}

static void permutations(void) {
    enum { COUNT = 257 };
    uint32_t order[COUNT];
    unsigned char seen[COUNT];
    gan_random_permutation(1, 2, order, COUNT);
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < COUNT; i++) {
        CHECK(order[i] < COUNT && !seen[order[i]], "entry %d", i);
        seen[order[i]] = 1;
    }
    gan_random_permutation(1, 2, order, 0);

    int tally[6] = {0, 0, 0, 0, 0, 0}; /* all six orders of three, 6000 draws: expected 1000, sd 29 */
    for (uint64_t draw = 0; draw < 6000; draw++) {
        gan_random_permutation(draw, 9, order, 3);
        tally[order[0] * 2 + (order[1] > order[2])]++;
    }
    for (int i = 0; i < 6; i++) {
        CHECK(abs(tally[i] - 1000) < 150, "order %d: %d", i, tally[i]);
    }
}

int main(int argc, char **argv) {
    test_begin(argc, argv);
    TEST(status_texts);
    TEST(context_defaults_and_errors);
    TEST(instruction_sets);
    TEST(checked_sizes);
    TEST(allocation);
    TEST(failing_context);
    TEST(parallel_for);
    TEST(denormals);
    TEST(philox_known_answers);
    TEST(random_is_addressable);
    TEST(random_moments);
    TEST(permutations);
    return test_end();
}
