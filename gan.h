/* gan.h - v0.1.0 - generative adversarial networks in plain C, one header file, MIT licence
 *
 * >>manual  0  MANUAL
 *
 * Trains and runs generative adversarial networks on the CPU: SIMD kernels for matrix products and
 * convolutions, a graph with gradients of any order, layers, losses, optimisers, image files and
 * checkpoints, and the systems of the papers built from them. C99, also C++11; needs libc and
 * libm; OpenMP is optional.
 *
 * HOW TO USE IT
 *
 *   In ONE source file define GAN_IMPLEMENTATION before including gan.h, as the program below
 *   does; include it plainly wherever else it is needed. Build:
 *
 *     cc -O2 app.c -lm        gcc, clang; -fopenmp adds threads
 *     cl /O2 app.c            MSVC; /openmp adds threads
 *
 *   No -march is needed: AVX2 and AVX-512 are compiled in and chosen when the program runs. Do turn
 *   the optimiser on: at -O0 the kernels are tens of times slower.
 *
 * A WHOLE PROGRAM
 *
 *   trains DCGAN on drawn digits and writes a picture of what it has learnt. The name of a folder
 *   of images in place of "digits" trains it on those.
 *
 *   #define GAN_IMPLEMENTATION
 *   #include "gan.h"
 *
 *   static float images[64 * 32 * 32];
 *
 *   int main(void) {
 *       gan_context *ctx = NULL;
 *       gan_dataset *data = NULL;
 *       gan_model *model = NULL;
 *       gan_model_desc desc = gan_model_defaults("dcgan");
 *       desc.height = desc.width = 32;
 *       desc.channels = 1;
 *       gan_dataset_desc size = {.height = 32, .width = 32, .channels = 1};
 *       desc.options = "ngf=24 ndf=12 lr=0.0005";
 *       int failed = gan_context_create(&ctx, NULL) ||
 *                    gan_dataset_open(&data, ctx, "digits", &size) ||
 *                    gan_model_create(&model, ctx, &desc);
 *       for (int step = 1; step <= 1000 && !failed; step++) {
 *           failed = gan_model_train(model, data) != GAN_OK;
 *           if (step % 100 == 0) {
 *               printf("%d: loss of D %.3f, of G %.3f\n", step,
 *                      (double)gan_model_metric(model, 0).value,
 *                      (double)gan_model_metric(model, 1).value);
 *           }
 *       }
 *       failed = failed || gan_model_sample(model, images, 64, NULL, 1) ||
 *                gan_image_write_grid(ctx, "digits.png", images, 64, 1, 32, 32, 8, -1.0f, 1.0f);
 *       if (failed) {
 *           fprintf(stderr, "%s\n", ctx ? gan_context_error(ctx) : "no context");
 *       }
 *       gan_model_destroy(model);
 *       gan_dataset_close(data);
 *       gan_context_destroy(ctx);
 *       return failed;
 *   }
 *
 * WHAT IT DOES NOT DO
 *
 *   - No GPU and no half precision: float32 on CPUs.
 *   - No JPEG, and PNG is only written: datasets are PGM, PPM, PAM or IDX files. Convert once, for
 *     instance with ImageMagick: mogrify -format ppm *.jpg
 *   - No sizes that change from run to run: a graph has its sizes, batch included. Another batch
 *     is another graph on the same parameters, which costs no weights.
 *   - Not a tensor library for everything: the ops are those that these systems need.
 *
 * CONTENTS (search for the tag)
 *
 *   0     >>manual        what it is, quick start, limits, options, threads, errors, formats
 *   1.1   >>api-core      statuses, context, hooks, random numbers
 *   1.2   >>api-kernels   instruction sets, matrix product, convolutions, on plain arrays
 *   1.3   >>api-graph     tensors, ops, gradients, programs, parameters
 *   1.4   >>api-layers    layers, losses, optimisers
 *   1.5   >>api-data      images, datasets, checkpoints
 *   1.6   >>api-models    the systems: create, train, sample, save
 *   2     >>platform      errors, memory, threads, processor features, random numbers
 *   3.1   >>simd          the vector macros of each instruction set
 *   3.2   >>kernels-gemm  register-tiled matrix kernels and packing
 *   3.3   >>kernels-winograd  tile transforms of the Winograd convolutions
 *   3.4   >>kernels-vec   vector maths, elementwise, reductions, norms, optimisers
 *   3.5   >>instances     the three sections above, compiled once for each instruction set
 *   4.1   >>gemm          matrix product: blocking, threads
 *   4.2   >>conv          the three convolutions, directly
 *   4.3   >>winograd      the same with fewer multiplications
 *   4.4   >>conv-run      which algorithm; the drivers
 *   5.1   >>nodes         what a graph is made of; parameters
 *   5.2   >>ops           the list; elementwise, reductions, moving: shape, gradient, builder
 *   5.3   >>ops-net       products, convolutions, norms, classes, random, effects: the same
 *   5.4   >>ops-run       running each op; the table
 *   5.5   >>graph         building, gradients
 *   5.6   >>planner       dead code, sharing, fusion, memory; running
 *   6.1   >>layers        networks' building blocks over ops
 *   6.2   >>losses        losses over ops
 *   6.3   >>optimisers    updates over ops
 *   7.1   >>images        PGM, PPM, PAM, PNG; resizing, grids
 *   7.2   >>digits        drawn digits
 *   7.3   >>domains       folders, lists, IDX: the images of one domain
 *   7.4   >>datasets      records of one to three images; batches
 *   7.5   >>checkpoints   safetensors
 *   8.1   >>models        how a system says what it is; training, sampling, saving
 *   8.2   >>gan           Goodfellow et al. 2014
 *   8.3   >>dcgan         Radford et al. 2015
 *   8.4   >>lsgan         Mao et al. 2016
 *   8.5   >>wgan          Arjovsky, Chintala, Bottou 2017
 *   8.6   >>wgan-gp       Gulrajani et al. 2017
 *   8.7   >>cgan          Mirza and Osindero 2014
 *   8.8   >>upsampling    networks that systems below share
 *   8.9   >>acgan         Odena, Olah, Shlens 2016
 *   8.10  >>image-networks  residual generators, patch discriminators
 *   8.11  >>pix2pixhd-networks  coarse to fine generators, discriminators at several sizes
 *   8.12  >>pix2pixhd     Wang et al. 2018
 *   8.13  >>pix2pixhd-styles  styles of instances
 *   8.14  >>unet          U-Net; what translators share
 *   8.15  >>pix2pix       Isola et al. 2017
 *   8.16  >>cyclegan      Zhu et al. 2017; two domains
 *   8.17  >>dualgan       Yi et al. 2017
 *   8.18  >>discogan      Kim et al. 2017
 *   8.30  >>context-gan   Pathak et al. 2016
 *   8.31  >>cogan         Liu and Tuzel 2016
 *   8.19  >>systems       the table of systems; creating and loading models
 *
 * OPTIONS (macros)
 *
 *   Define them before including gan.h: "all" before every include, alike; "one" only where
 *   GAN_IMPLEMENTATION is.
 *
 *   GAN_STATIC            all   every public function is static: a copy for one source file
 *   GAN_API               all   storage class of public functions; default extern, or as GAN_STATIC
 *   GAN_SELF              one   name under which the file includes itself; default "gan.h"
 *   GAN_MALLOC, GAN_FREE  one   default allocator: (size), (pointer); both or none; default malloc
 *   GAN_ASSERT            one   check of what only a mistake in this file can break; default assert
 *   GAN_NO_SIMD           one   scalar kernels only
 *   GAN_NO_AVX512, GAN_NO_AVX2, GAN_NO_NEON   one   leaves that instance out
 *   GAN_NO_DIRENT         one   no listing of folders, for systems without
 *   GAN_MAX_PIXELS        all   largest image that is read; default 67108864
 *   GAN_ALLOW_FAST_MATH   one   compile under -ffast-math although NaN checks are then lost
 *
 *   Environment: GAN_ISA=scalar, avx2, avx512 or neon, for contexts that do not name a set;
 *   GAN_CONV=direct for direct convolutions only (gan_context_desc.direct_conv).
 *
 * MEMORY
 *
 *   All memory comes from the allocator in the context's descriptor. Parameters live in a store
 *   (gan_params), and a program lays all its intermediate values out in one arena, whose size is
 *   known before it runs (gan_program_get_info). Running a program allocates nothing, nor does a
 *   training step after the first. When memory runs out the call returns GAN_ERR_MEMORY
 *   and nothing leaks.
 *
 * THREADS AND REPEATABILITY
 *
 *   There is no global state: a context and what was made from it serve one thread at a time,
 *   several contexts may run in several threads. Inside a call, work is spread over
 *   gan_context_desc.threads by OpenMP or by your own parallel-for. How work is cut depends on the
 *   problem alone, and random numbers are counter-based, so a training run gives the same bits for
 *   any number of threads, and after a save and a load. Bits do differ between instruction sets,
 *   and between C libraries (noise is made with their log, cos and sin).
 *
 *   On a machine with other work set the environment variable OMP_WAIT_POLICY=passive: else GNU
 *   OpenMP's threads spin while they wait, and steal the time they wait for.
 *
 * ERRORS
 *
 *   Every call that can fail returns a gan_status (the list is in >>api-core);
 *   gan_context_error(ctx) says what was done and where, what was expected and what was found. The
 *   library never exits, aborts or prints. While a graph is built the first error sticks and later
 *   calls do nothing, so it is enough to check when the program is created.
 *
 * FILE FORMATS
 *
 *   Images    reads PBM, PGM, PPM, PAM (P1 to P7, 8 and 16 bit), writes PGM, PPM, PNG (8 bit, also
 *             animated).
 *   Datasets  folders of those, lists of files, IDX (MNIST's format, unpacked): gan_dataset_open.
 *   Models    safetensors: parameters, running statistics, optimiser state; system, sizes, options,
 *             seed and step as texts. The layout is described in >>checkpoints.
 *   Readers check every size against the file and the limits before they allocate; they are fuzzed.
 *   Loading a checkpoint executes nothing.
 *
 * HOW TO ADD
 *
 *   a system:  a section like >>gan, and its name in >>systems;
 *   an op:     a row in the table of >>ops with its functions, a builder beside it, a case in
 *              tests/test_ops.c;
 *   a kernel:  a row in a list in >>instances and the function in >>kernels-vec or >>kernels-gemm.
 */

/* While a kernel instance is compiled (>>instances), this file includes itself with GANI_INSTANCE
 * defined, and everything but the kernel sections is skipped. */
#ifndef GANI_INSTANCE
#ifndef GAN_H
#define GAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Storage class of every public function; set before every include. */
#ifndef GAN_API
#ifdef GAN_STATIC
#define GAN_API static
#else
#define GAN_API extern
#endif
#endif

/* ============================================================================
 * >>api-core  1.1  STATUSES, CONTEXT, HOOKS, RANDOM NUMBERS
 *
 * Everything starts with a context: it holds the hooks (memory, log, threads), the
 * kernels chosen for this processor, scratch memory, and the message of the last error.
 * One context serves one thread at a time; several contexts may run in several threads.
 * ========================================================================= */

/* Every status there is. A function that can fail returns one; 0 is success. */
#define GAN_STATUS_LIST(X)                                             \
    X(GAN_OK, "ok")                                                    \
    X(GAN_ERR_ARGUMENT, "an argument is out of its documented range")  \
    X(GAN_ERR_SHAPE, "shapes do not fit")                              \
    X(GAN_ERR_MEMORY, "out of memory")                                 \
    X(GAN_ERR_FILE, "a file cannot be opened, read or written")        \
    X(GAN_ERR_FORMAT, "a file does not follow its format")             \
    X(GAN_ERR_LIMIT, "a size exceeds a limit of this library")         \
    X(GAN_ERR_UNSUPPORTED, "valid, but not supported here")            \
    X(GAN_ERR_STATE, "not allowed in the present state of the object") \
    X(GAN_ERR_NUMERIC, "a value is not finite")

typedef enum gan_status {
#define GANI_STATUS_ENUM(id, text) id,
    GAN_STATUS_LIST(GANI_STATUS_ENUM)
#undef GANI_STATUS_ENUM
    GAN_STATUS_COUNT
} gan_status;

/* The fixed text of a status; never NULL, also for values outside the list. */
GAN_API const char *gan_status_text(gan_status status);

/* Memory hook. alloc returns at least size_bytes or NULL; any alignment of malloc will do. free
 * gets the size that was asked for. Both NULL: GAN_MALLOC and GAN_FREE. */
typedef struct gan_allocator {
    void *(*alloc)(void *user, size_t size_bytes);
    void (*free)(void *user, void *ptr, size_t size_bytes);
    void *user;
} gan_allocator;

/* Log hook: warnings and progress notes, one line without newline. NULL: nothing is logged. */
typedef struct gan_logger {
    void (*write)(void *user, const char *message);
    void *user;
} gan_logger;

/* Parallel-for hook: must call task(arg, i) exactly once for every i in [0,count), in any order and
 * on any threads, and return when all are done. NULL: OpenMP where compiled with it, else one
 * thread. */
typedef struct gan_parallel {
    void (*run)(void *user, int count, void (*task)(void *arg, int index), void *arg);
    void *user;
} gan_parallel;

/* A zero field means its default. */
typedef struct gan_context_desc {
    gan_allocator allocator; /* default: GAN_MALLOC, GAN_FREE */
    gan_logger logger;       /* default: silent */
    gan_parallel parallel;   /* default: OpenMP if compiled with it, else none */
    int threads;             /* at most so many tasks at once, 1 to 256; default: all processors
                                with OpenMP, else 1. Results do not depend on it, bit for bit. */
    const char *isa;         /* "scalar", "avx2", "avx512", "neon"; default: environment variable
                                GAN_ISA if set, else the best the processor has */
    int check_finite;        /* 1: a program stops at the first tensor with a NaN or infinity and
                                names it */
    int direct_conv;         /* 1: no convolution by fewer multiplications (see >>winograd), whose
                                rounding error is up to a few times that of direct sums; default:
                                0, or 1 if the environment variable GAN_CONV is "direct" */
} gan_context_desc;

typedef struct gan_context gan_context;

/* Creates a context; desc may be NULL (all defaults). *out is NULL after a failure, so that only
 * the fixed text of the status is left to show. GAN_ERR_ARGUMENT: threads out of range;
 * GAN_ERR_UNSUPPORTED: an instruction set that is not compiled in or that the processor lacks. */
GAN_API gan_status gan_context_create(gan_context **out, const gan_context_desc *desc);

/* Frees the context; NULL is allowed. Everything created from it must be destroyed before. */
GAN_API void gan_context_destroy(gan_context *ctx);

/* Status and message of the last failed call with this context (what, where, expected, found);
 * GAN_OK and "" when none has failed. The text stays valid until the next failing call. */
GAN_API gan_status gan_context_status(const gan_context *ctx);
GAN_API const char *gan_context_error(const gan_context *ctx);

/* The instruction set in use ("avx2", ...) and the number of threads. */
GAN_API const char *gan_context_isa(const gan_context *ctx);
GAN_API int gan_context_threads(const gan_context *ctx);

/* Instruction sets compiled in, best first; NULL past the end. gan_isa_available: 1 if this
 * processor runs it. */
GAN_API const char *gan_isa_name(int index);
GAN_API int gan_isa_available(const char *name);

/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011). Element i of a
 * stream is a pure function of (seed, stream, i), so a sequence may be drawn in any order and by
 * any number of threads. Writes elements first ... first+count-1 to out. uniform: [0,1), multiples
 * of 2^-24. normal: mean 0, variance 1 (Box and Muller 1958), |x| < 6.7. permutation: of 0 ...
 * count-1, each equally likely. */
GAN_API void gan_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, float *out,
                                size_t count);
GAN_API void gan_random_normal(uint64_t seed, uint64_t stream, uint64_t first, float *out,
                               size_t count);
GAN_API void gan_random_permutation(uint64_t seed, uint64_t stream, uint32_t *out, uint32_t count);

/* Activations that can be fused into the op before them. */
typedef enum gan_activation {
    GAN_ACT_NONE,
    GAN_ACT_LEAKY_RELU, /* x > 0 ? x : slope * x; slope 0 is ReLU */
    GAN_ACT_TANH,
    GAN_ACT_SIGMOID
} gan_activation;

/* Geometry of a convolution. Zero means the default in brackets. */
typedef struct gan_conv_desc {
    int stride_h, stride_w;     /* [1] */
    int pad_h, pad_w;           /* [0] on both sides */
    int dilation_h, dilation_w; /* [1] */
    int out_pad_h,
        out_pad_w; /* [0] transposed only: extra rows below, columns at the right; < stride */
    int groups;                 /* [1] */
    int reflect; /* [0] 1: padding mirrors the image without repeating the edge; pad < size */
} gan_conv_desc;

/* ============================================================================
 * >>api-kernels  1.2  MATRIX PRODUCT AND CONVOLUTIONS ON PLAIN ARRAYS
 *
 * For programs that want only these. All arrays are row-major float32 and may have any
 * alignment; none that is written may overlap another one. Scratch memory comes from the
 * context and is kept for the next call. The bits of a result do not depend on the number of
 * threads; they may differ between instruction sets.
 *
 * Returned: GAN_OK; GAN_ERR_ARGUMENT (a NULL array, a size or stride out of range); GAN_ERR_SHAPE
 * (sizes that do not fit together); GAN_ERR_LIMIT (sizes whose products do not fit an int or the
 * address space, strides beyond 1024); GAN_ERR_MEMORY. After an error nothing has been written.
 * ========================================================================= */

/* gan_sgemm: c = alpha * op(a) * op(b) + beta * c.
 *
 *   a    [m,k], or [k,m] if transpose_a is not 0; read only
 *   b    [k,n], or [n,k] if transpose_b is not 0; read only
 *   c    [m,n]; not read if beta is 0
 *   lda ldb ldc   floats from one row of the array as stored to the next, at least its row's length
 *   m n k         at least 1
 *
 * A sum over k is added up in order of k, in pieces whose length depends on m, n and k only. Source
 * of the interface: Dongarra, Du Croz, Hammarling, Duff 1990, level 3 BLAS.
 */
GAN_API gan_status gan_sgemm(gan_context *ctx, int transpose_a, int transpose_b, int m, int n,
                             int k, float alpha, const float *a, size_t lda, const float *b,
                             size_t ldb, float beta, float *c, size_t ldc);

/* Sizes of a convolution: x [n,c,h,w], w [o,c/groups,kh,kw], y [n,o,oh,ow]. */
typedef struct gan_conv_shape {
    int n, c, h, w;
    int o, kh, kw;
} gan_conv_shape;

/* gan_conv2d_size: oh = (h + 2*pad_h - dilation_h*(kh - 1) - 1)/stride_h + 1, rounded down, and ow
 * likewise. desc NULL: all defaults. out_pad must be 0 here and below: the sizes of a transposed
 * convolution's result are those of x, given by shape.
 */
GAN_API gan_status gan_conv2d_size(gan_context *ctx, const gan_conv_shape *shape,
                                   const gan_conv_desc *desc, int *oh, int *ow);

/* gan_conv2d_forward: 2-D cross-correlation.
 *
 *   x     [n,c,h,w]            read only
 *   w     [o,c/groups,kh,kw]   weights in PyTorch's order, read only
 *   bias  [o] or NULL          read only
 *   y     [n,o,oh,ow]          written
 *   y[b,q,i,j] = bias[q] + sum over p,u,v of
 *                x[b,p, i*stride+u*dilation-pad, j*stride+v*dilation-pad] * w[q,p,u,v]
 *
 * p runs over the channels of q's group. Outside of x stand zeros, or with desc->reflect the image
 * mirrored without its edge (then pad < size). Source: Dumoulin and Visin 2016, arXiv:1603.07285,
 * relationship 6.
 */
GAN_API gan_status gan_conv2d_forward(gan_context *ctx, const gan_conv_shape *shape,
                                      const gan_conv_desc *desc, const float *x, const float *w,
                                      const float *bias, float *y);

/* gan_conv2d_input_grad: the gradient in x of sum(y * dy); also the transposed convolution of dy
 * with w, which then is [channels in, channels out / groups, kh, kw], and x's sizes are those of
 * its result.
 *
 *   dy    [n,o,oh,ow]          read only
 *   w     [o,c/groups,kh,kw]   read only
 *   bias  [c] or NULL          read only; added to dx, for transposed convolutions
 *   dx    [n,c,h,w]            written
 */
GAN_API gan_status gan_conv2d_input_grad(gan_context *ctx, const gan_conv_shape *shape,
                                         const gan_conv_desc *desc, const float *dy, const float *w,
                                         const float *bias, float *dx);

/* gan_conv2d_weight_grad: the gradient in w of sum(y * dy).
 *
 *   x     [n,c,h,w]            read only
 *   dy    [n,o,oh,ow]          read only
 *   dw    [o,c/groups,kh,kw]   written
 */
GAN_API gan_status gan_conv2d_weight_grad(gan_context *ctx, const gan_conv_shape *shape,
                                          const gan_conv_desc *desc, const float *x,
                                          const float *dy, float *dw);

/* ============================================================================
 * >>api-graph  1.3  TENSORS, OPS, GRADIENTS, PROGRAMS, PARAMETERS
 *
 * A graph is a list of tensors in the order they were made; each names its op and its
 * sources. gan_grad appends the tensors of a gradient to the same list, so a gradient can be
 * differentiated again. A program is a part of the list made ready to run: what nothing
 * needs is dropped, equal subexpressions are shared, activations are fused, and all
 * intermediates are laid out in one arena, whose size is known before anything runs.
 *
 * Tensors are values, and never change. Parameters are memory: they live in a store, outside
 * any graph, and ops that write them (effects: assignments, optimiser steps) take place in
 * list order. An op reads a parameter as it is when its own turn comes, so a network applied
 * before and after an update gives two different results in one run of one program.
 *
 * All values are float32. Labels and indices are floats that hold whole numbers.
 *
 * Errors while building stick: the first one is kept in graph and context, the failing call and
 * all later ones return the null tensor {0} and do nothing. Check once: gan_program_create returns
 * it, or gan_graph_status. The message names the layer and op, what was expected and found.
 *
 * A context, its stores and its graphs serve one thread at a time.
 * ========================================================================= */

#define GAN_MAX_RANK 5
#define GAN_ALL_AXES 0xffffffffu

typedef struct gan_shape {
    int rank;              /* 0 (scalar) to GAN_MAX_RANK */
    int dim[GAN_MAX_RANK]; /* outermost first, each >= 1; unused ones are 0 */
} gan_shape;

GAN_API gan_shape gan_shape0(void);
GAN_API gan_shape gan_shape1(int a);
GAN_API gan_shape gan_shape2(int a, int b);
GAN_API gan_shape gan_shape3(int a, int b, int c);
GAN_API gan_shape gan_shape4(int a, int b, int c, int d);
/* Number of elements; 0 if the shape is not valid or has more than 2^31-1 elements. */
GAN_API size_t gan_shape_count(gan_shape shape);

typedef struct gan_params gan_params;
typedef struct gan_graph gan_graph;
typedef struct gan_program gan_program;

/* A tensor of one graph; id 0 is "none": an optional source left out, or the result of a failed
 * call. */
typedef struct gan_tensor {
    int id;
} gan_tensor;

/* How a parameter starts. Drawn from the store's seed and the parameter's name, so the order of
 * creation does not matter. */
typedef enum gan_init_kind {
    GAN_INIT_CONSTANT, /* a */
    GAN_INIT_NORMAL,   /* mean a, standard deviation b */
    GAN_INIT_UNIFORM   /* in [a,b) */
} gan_init_kind;

typedef struct gan_init {
    gan_init_kind kind;
    float a, b;
} gan_init;

typedef enum gan_param_kind {
    GAN_PARAM_WEIGHT, /* trained */
    GAN_PARAM_BUFFER, /* kept with the weights, not trained: running statistics */
    GAN_PARAM_STATE   /* optimiser state: needed to go on training, not to run */
} gan_param_kind;

typedef struct gan_param_info {
    const char *name; /* full, with scopes: "generator.main.0.weight" */
    gan_shape shape;
    gan_param_kind kind;
    float *data; /* owned by the store, never moves; may be read and written between runs */
} gan_param_info;

/* The store of named parameters. Several graphs may share one (training, sampling with another
 * batch); the same name is the same parameter. It also holds what else a run needs to be repeated:
 * seed and step. ctx must outlive it, and it must outlive its graphs. GAN_ERR_MEMORY. */
GAN_API gan_status gan_params_create(gan_params **out, gan_context *ctx, uint64_t seed);
/* NULL is allowed. */
GAN_API void gan_params_destroy(gan_params *params);
GAN_API int gan_params_count(const gan_params *params);
/* index in creation order; data is NULL past the end. */
GAN_API gan_param_info gan_params_at(const gan_params *params, int index);
/* data is NULL if there is no such name. */
GAN_API gan_param_info gan_params_find(const gan_params *params, const char *name);
/* The counter that random ops (dropout, noise) take beside the seed; set it before each training
 * step. */
GAN_API void gan_params_set_step(gan_params *params, uint64_t step);
GAN_API uint64_t gan_params_step(const gan_params *params);
GAN_API uint64_t gan_params_seed(const gan_params *params);

/* An empty graph. ctx and params must outlive it. GAN_ERR_MEMORY. */
GAN_API gan_status gan_graph_create(gan_graph **out, gan_context *ctx, gan_params *params);
/* The graph's programs must be destroyed before; NULL is allowed. */
GAN_API void gan_graph_destroy(gan_graph *graph);
/* The error that stuck, whose message is put back into the context; GAN_OK if there is none. */
GAN_API gan_status gan_graph_status(const gan_graph *graph);
/* Between push and pop, names of inputs and parameters get "name." in front, and messages say where
 * a tensor was made. Scopes nest, 31 deep; a full name has at most 255 bytes. */
GAN_API void gan_graph_push(gan_graph *graph, const char *name);
GAN_API void gan_graph_pop(gan_graph *graph);
/* rank -1 for the null tensor. */
GAN_API gan_shape gan_tensor_shape(const gan_graph *graph, gan_tensor x);

/* Leaves. An input has memory of its own, zero at first, for the caller to fill between runs;
 * gan_input_data returns it (NULL if the tensor is not an input), and it never moves. A parameter
 * that the store has already must have the same shape and kind; otherwise it is created and
 * initialised. The same parameter named twice is the same tensor. */
GAN_API gan_tensor gan_input(gan_graph *graph, const char *name, gan_shape shape);
GAN_API float *gan_input_data(gan_graph *graph, gan_tensor input);
GAN_API gan_tensor gan_param(gan_graph *graph, const char *name, gan_shape shape,
                             gan_param_kind kind, gan_init init);
GAN_API gan_tensor gan_constant(gan_graph *graph, gan_shape shape, float value);
GAN_API gan_tensor gan_iota(gan_graph *graph, int count); /* 0, 1, ..., count-1 */

/* Elementwise. Binary ops broadcast as NumPy does: shapes align at the right, extent 1
 * stretches. */
GAN_API gan_tensor gan_add(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_sub(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_mul(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_div(gan_graph *graph, gan_tensor a, gan_tensor b);
/* Where a and b are equal, the gradient goes to a. */
GAN_API gan_tensor gan_maximum(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_minimum(gan_graph *graph, gan_tensor a, gan_tensor b);
/* a > b ? 1 : 0; gradient 0. */
GAN_API gan_tensor gan_greater(gan_graph *graph, gan_tensor a, gan_tensor b);
/* scale*x + shift. */
GAN_API gan_tensor gan_affine(gan_graph *graph, gan_tensor x, float scale, float shift);
GAN_API gan_tensor gan_square(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_sqrt(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_rsqrt(gan_graph *graph, gan_tensor x); /* 1/sqrt(x) */
GAN_API gan_tensor gan_exp(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_log(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_abs(gan_graph *graph, gan_tensor x);      /* gradient sign(x), 0 at 0 */
GAN_API gan_tensor gan_sign(gan_graph *graph, gan_tensor x);     /* -1, 0, 1; gradient 0 */
GAN_API gan_tensor gan_softplus(gan_graph *graph, gan_tensor x); /* log(1 + exp(x)) */
/* min(max(x, low), high); gradient 1 from low to high, both included, else 0. */
GAN_API gan_tensor gan_clamp(gan_graph *graph, gan_tensor x, float low, float high);
/* slope >= 0 counts for GAN_ACT_LEAKY_RELU only. */
GAN_API gan_tensor gan_activate(gan_graph *graph, gan_tensor x, gan_activation kind, float slope);
/* Binary cross-entropy of sigmoid(logit), element by element and without overflow:
 * max(l,0) - l*t + log(1 + exp(-|l|)). */
GAN_API gan_tensor gan_bce_logits(gan_graph *graph, gan_tensor logit, gan_tensor target);
/* x > 0 ? x : slope[c]*x; slope [1] or [channels], channels being axis 1. He et al. 2015,
 * arXiv:1502.01852. */
GAN_API gan_tensor gan_prelu(gan_graph *graph, gan_tensor x, gan_tensor slope);

/* Reductions over the axes whose bits are set (bit 0: outermost); reduced axes keep extent 1.
 * GAN_ALL_AXES gives a scalar (rank 0). */
GAN_API gan_tensor gan_sum(gan_graph *graph, gan_tensor x, unsigned axes);
GAN_API gan_tensor gan_mean(gan_graph *graph, gan_tensor x, unsigned axes);
/* The gradient goes to the first maximum. */
GAN_API gan_tensor gan_max_over(gan_graph *graph, gan_tensor x, unsigned axes);
/* x stretched to shape, by the rule of binary ops. */
GAN_API gan_tensor gan_broadcast(gan_graph *graph, gan_tensor x, gan_shape shape);

/* The same elements in the same order: takes no memory and no time. */
GAN_API gan_tensor gan_reshape(gan_graph *graph, gan_tensor x, gan_shape shape);
/* Axis i of the result is axis axes[i] of x; as many entries as x has axes. */
GAN_API gan_tensor gan_permute(gan_graph *graph, gan_tensor x, const int *axes);
GAN_API gan_tensor gan_concat(gan_graph *graph, const gan_tensor *parts, int count, int axis);
/* Elements start ... start+count-1 along an axis. */
GAN_API gan_tensor gan_slice(gan_graph *graph, gan_tensor x, int axis, int start, int count);
/* Zeros before and after along an axis. */
GAN_API gan_tensor gan_pad(gan_graph *graph, gan_tensor x, int axis, int before, int after);
/* Last two axes, mirrored on both sides without repeating the edge; pad < size. */
GAN_API gan_tensor gan_pad_reflect(gan_graph *graph, gan_tensor x, int pad_h, int pad_w);
/* The same values, but gan_grad does not go through. */
GAN_API gan_tensor gan_detach(gan_graph *graph, gan_tensor x);

/* Matrix product over the last two axes, each factor transposed if wished; leading axes are equal,
 * or absent on b, which then serves for all. */
GAN_API gan_tensor gan_matmul(gan_graph *graph, gan_tensor a, gan_tensor b, int transpose_a,
                              int transpose_b);
/* x w' + bias: x [n,in], w [out,in], bias [out] or none; result [n,out]. */
GAN_API gan_tensor gan_linear(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias);

/* Convolution (cross-correlation): x [n,c,h,w], w [o,c/groups,kh,kw], bias [o] or none; result
 * [n,o,oh,ow] with oh = (h + 2*pad - dilation*(kh - 1) - 1)/stride + 1, rounded down. desc NULL:
 * all defaults. */
GAN_API gan_tensor gan_conv2d(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias,
                              const gan_conv_desc *desc);
/* Its adjoint in x, as PyTorch's ConvTranspose2d: x [n,c,h,w], w [c,o/groups,kh,kw], bias [o] or
 * none; result [n,o,oh,ow] with oh = (h - 1)*stride - 2*pad + dilation*(kh - 1) + 1 + out_pad. */
GAN_API gan_tensor gan_conv2d_transpose(gan_graph *graph, gan_tensor x, gan_tensor w,
                                        gan_tensor bias, const gan_conv_desc *desc);

/* Pooling of [n,c,h,w] with a square window; pad <= kernel/2. Average: a window at the border is
 * divided by the number of its elements within the image, or, count_pad 1, by kernel^2. */
GAN_API gan_tensor gan_avg_pool(gan_graph *graph, gan_tensor x, int kernel, int stride, int pad,
                                int count_pad);
GAN_API gan_tensor gan_max_pool(gan_graph *graph, gan_tensor x, int kernel, int stride, int pad);
/* Nearest neighbour: each element becomes a square of factor x factor. */
GAN_API gan_tensor gan_upsample(gan_graph *graph, gan_tensor x, int factor);

/* Statistics and normalisation of x [n,c,...]. A group shares one mean and variance. */
typedef enum gan_norm_kind {
    GAN_NORM_BATCH,    /* one group per channel: c groups */
    GAN_NORM_INSTANCE, /* one per sample and channel: n*c groups */
    GAN_NORM_LAYER     /* one per sample: n groups */
} gan_norm_kind;
/* [2,groups]: means, biased variances. */
GAN_API gan_tensor gan_moments(gan_graph *graph, gan_tensor x, gan_norm_kind kind);
/* (x - mean)/sqrt(var + eps) * scale[c] + shift[c]; scale and shift [c] or none. moments is
 * gan_moments(x, kind), whose gradient in x is then included, or any other [2,groups], e.g. running
 * statistics. */
GAN_API gan_tensor gan_normalize(gan_graph *graph, gan_tensor x, gan_tensor moments,
                                 gan_tensor scale, gan_tensor shift, gan_norm_kind kind, float eps);

/* Softmax and its logarithm, over the last axis. */
GAN_API gan_tensor gan_softmax(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_log_softmax(gan_graph *graph, gan_tensor x);
/* Indices: idx holds whole numbers as floats; one out of range is GAN_ERR_NUMERIC when run.
 * one_hot: [...] to [...,classes]. gather_rows (an embedding): table [rows,dim], idx [n], result
 * [n,dim]. scatter_rows, its adjoint: x [n,dim], idx [n], result [rows,dim], rows added up. */
GAN_API gan_tensor gan_one_hot(gan_graph *graph, gan_tensor idx, int classes);
GAN_API gan_tensor gan_gather_rows(gan_graph *graph, gan_tensor table, gan_tensor idx);
GAN_API gan_tensor gan_scatter_rows(gan_graph *graph, gan_tensor x, gan_tensor idx, int rows);

/* Random. Each call is a stream of its own; values depend on (seed, step, stream, element) of the
 * store, the stream counting the random ops of this graph. dropout: zero with probability p in
 * [0,1), for each element or each channel (axes 0 and 1), the rest scaled by 1/(1-p). */
GAN_API gan_tensor gan_dropout(gan_graph *graph, gan_tensor x, float p, int channelwise);
GAN_API gan_tensor gan_noise_normal(gan_graph *graph, gan_shape shape);  /* mean 0, variance 1 */
GAN_API gan_tensor gan_noise_uniform(gan_graph *graph, gan_shape shape); /* [0,1) */

/* Effects: ops that write a parameter. They belong to the next program made from this graph, take
 * place in list order, and are never dropped. In that program, ops that stand before the effect see
 * the old value and ops behind it the new one. (A reshape or detach of a parameter keeps the value
 * of its own place in the list.) value has the shape of param.
 *   assign       param = value
 *   assign_lerp  param += weight * (value - param): running statistics, averages of weights
 *   assign_rows  param[idx[k]] = value[k], k in order: param [rows,dim], idx [n], value [n,dim] */
GAN_API void gan_assign(gan_graph *graph, gan_tensor param, gan_tensor value);
GAN_API void gan_assign_lerp(gan_graph *graph, gan_tensor param, gan_tensor value, float weight);
GAN_API void gan_assign_rows(gan_graph *graph, gan_tensor param, gan_tensor idx, gan_tensor value);

/* gan_grad: gradients of a scalar, appended to the graph.
 *
 *   loss   a tensor of one element, of any rank
 *   wrt    [count] parameters, inputs or any other tensors; one counts in full, also where another
 *          one depends on it
 *   out    [count] d(loss)/d(wrt[i]), of the shape of wrt[i]; zeros where loss does not depend on
 *          it
 *
 * Costs only what lies between wrt and loss once a program has dropped the rest. May be applied to
 * its own results. Take gradients before updates: a gradient reads once more what the loss was made
 * of, so GAN_ERR_STATE if an effect recorded since the last program writes a parameter after the
 * loss has used it (the message names both). GAN_ERR_SHAPE: loss is not one element.
 * GAN_ERR_ARGUMENT: not tensors of this graph. Errors stick, and out is then all none. */
GAN_API gan_status gan_grad(gan_graph *graph, gan_tensor loss, const gan_tensor *wrt, int count,
                            gan_tensor *out);

/* gan_program_create: makes a part of the graph ready to run.
 *
 *   name     for messages
 *   outputs  [count] tensors to be readable after a run; count 0: only effects count
 *
 * The effects recorded since the last program are part of it. The graph may grow afterwards; that
 * changes nothing here. All memory is taken now, gan_program_run takes none. Programs of one graph
 * share one arena, as large as the largest needs, so making another program ends what the last run
 * has put out. Constant subexpressions are computed now. Returns the graph's error if one sticks;
 * GAN_ERR_ARGUMENT: an output is not a tensor of this graph; GAN_ERR_MEMORY. After a failure *out
 * is NULL, the effects are still pending, and the call may be repeated. */
GAN_API gan_status gan_program_create(gan_program **out, gan_graph *graph, const char *name,
                                      const gan_tensor *outputs, int count);
/* NULL is allowed. */
GAN_API void gan_program_destroy(gan_program *program);
/* Runs all of it, in list order. Allocates nothing. GAN_ERR_NUMERIC names the tensor: an index out
 * of range, or (check_finite) a value that is not finite; effects before it have taken place. */
GAN_API gan_status gan_program_run(gan_program *program);
/* Values of an output, valid until the next run or creation of any program of this graph; NULL if
 * the tensor is not one. An output that is a parameter or input is its memory. */
GAN_API const float *gan_program_output(const gan_program *program, gan_tensor output);

typedef struct gan_program_info {
    int ops;                /* that run each time */
    size_t arena_bytes;     /* intermediates; of the programs of one graph the largest counts */
    size_t constant_bytes;  /* values that depend on constants alone, kept with the program */
    size_t workspace_bytes; /* scratch of the largest op; shared by all of the context */
    size_t input_bytes;     /* inputs that it reads; they belong to the graph */
    size_t param_bytes;     /* parameters that it reads or writes; they belong to the store */
    double multiply_adds;   /* of matrix products and convolutions, direct counting */
} gan_program_info;
GAN_API gan_program_info gan_program_get_info(const gan_program *program);
/* What runs, and how long it takes: op `index` of a program's info.ops, in the order of a run. */
typedef struct gan_op_info {
    const char *op;        /* "conv2d"; NULL past the end */
    const char *name;      /* the layer it belongs to, "generator.main.0", or "" */
    const char *algorithm; /* of convolutions "winograd" or "direct", of products "gemm", else "" */
    gan_shape shape;       /* of the result */
    gan_shape source[2];   /* of the first two sources; rank -1 where there is none */
    double multiply_adds;  /* direct counting */
} gan_op_info;
GAN_API gan_op_info gan_program_op(const gan_program *program, int index);
/* Runs a program as gan_program_run does, and adds the time of each op, as the caller's clock tells
 * it, to seconds [info.ops]. */
GAN_API gan_status gan_program_time(gan_program *program, double (*clock_seconds)(void *user),
                                    void *user, double *seconds);
/* What gan_program_create would need, without taking any of it. The effects stay pending. */
GAN_API gan_status gan_program_measure(gan_graph *graph, const gan_tensor *outputs, int count,
                                       gan_program_info *info);

/* ============================================================================
 * >>api-layers  1.4  LAYERS, LOSSES, OPTIMISERS
 *
 * A layer is a function that makes its parameters by name and appends its ops. Names are
 * scopes: gan_layer_linear(g, "main.0", ...) makes "main.0.weight" and "main.0.bias", the keys
 * of a PyTorch state_dict. The same name used twice is the same layer used twice.
 *
 * Descriptors may be NULL and a zero field means the default in brackets; the defaults are
 * PyTorch's. b below is 1/sqrt(fan_in), fan_in the number of inputs that one output sees.
 * ========================================================================= */

/* How layers behave that differ between training and use: flags, for the layers built from then on.
 * A new graph is in GAN_TRAIN: batch norm normalises by the batch and updates the running
 * statistics, dropout drops. */
enum {
    GAN_TRAIN = 0,
    GAN_MODE_RUNNING_STATS = 1,  /* batch norm normalises by the running statistics */
    GAN_MODE_KEEP_STATS = 2,     /* batch norm leaves the running statistics as they are */
    GAN_MODE_KEEP_ALL_UNITS = 4, /* dropout does nothing */
    GAN_EVALUATE = GAN_MODE_RUNNING_STATS | GAN_MODE_KEEP_ALL_UNITS
};
GAN_API void gan_graph_set_mode(gan_graph *graph, unsigned mode);

typedef struct gan_layer_desc {
    int no_bias;                 /* [0] 1: no parameter "bias" */
    const gan_init *weight_init; /* [uniform in +-b; embedding: normal(0, 1)] */
    const gan_init *bias_init;   /* [uniform in +-b] */
    int dilation, groups;        /* [1] convolutions */
    int reflect;                 /* [0] convolution: 1 pads by mirroring the image */
    int out_pad; /* [0] transposed convolution: extra rows below, columns at right */
} gan_layer_desc;

typedef struct gan_norm_desc {
    float eps;                  /* [1e-5] added to the variance */
    float momentum;             /* [0.1] running statistics: r += momentum * (batch - r) */
    int no_affine;              /* [0] batch and layer norm: 1 leaves out "weight" and "bias" */
    int affine;                 /* [0] instance norm: 1 gives it "weight" and "bias" */
    const gan_init *scale_init; /* [1] "weight", one for each channel */
    const gan_init *shift_init; /* [0] "bias" */
} gan_norm_desc;

/* y = x w^T + bias. x [n,in], y [n,units]; weight [units,in], bias [units]. */
GAN_API gan_tensor gan_layer_linear(gan_graph *graph, const char *name, gan_tensor x, int units,
                                    const gan_layer_desc *desc);
/* Convolution with a square kernel, "kernel/stride/pad" in papers. x [n,c,h,w], y
 * [n,channels,oh,ow], oh = (h + 2*pad - kernel)/stride + 1; weight
 * [channels,c/groups,kernel,kernel], bias [channels]. Of gan_upsample(g, x, 2) it is what papers
 * call an upsampling convolution. */
GAN_API gan_tensor gan_layer_conv(gan_graph *graph, const char *name, gan_tensor x, int channels,
                                  int kernel, int stride, int pad, const gan_layer_desc *desc);
/* Transposed convolution: oh = (h - 1)*stride - 2*pad + kernel + out_pad; weight
 * [c,channels/groups,kernel,kernel]. fan_in is channels/groups * kernel^2, as PyTorch has it. */
GAN_API gan_tensor gan_layer_conv_transpose(gan_graph *graph, const char *name, gan_tensor x,
                                            int channels, int kernel, int stride, int pad,
                                            const gan_layer_desc *desc);
/* Normalisation over the batch of x [n,c,...] (Ioffe and Szegedy 2015, arXiv:1502.03167):
 * "weight", "bias", and the buffers "running_mean", "running_var" (unbiased), all [c]. PyTorch's
 * counter num_batches_tracked is not kept: with a fixed momentum nothing depends on it. */
GAN_API gan_tensor gan_layer_batch_norm(gan_graph *graph, const char *name, gan_tensor x,
                                        const gan_norm_desc *desc);
/* Over each channel of each sample (Ulyanov et al. 2016, arXiv:1607.08022); no running statistics.
 * */
GAN_API gan_tensor gan_layer_instance_norm(gan_graph *graph, const char *name, gan_tensor x,
                                           const gan_norm_desc *desc);
/* Over each sample (Ba et al. 2016, arXiv:1607.06450), with scale and shift for each channel. */
GAN_API gan_tensor gan_layer_layer_norm(gan_graph *graph, const char *name, gan_tensor x,
                                        const gan_norm_desc *desc);
/* Row idx[i] of "weight" [rows,dim]; idx [n] whole numbers, y [n,dim]. */
GAN_API gan_tensor gan_layer_embedding(gan_graph *graph, const char *name, gan_tensor idx, int rows,
                                       int dim, const gan_layer_desc *desc);
/* x > 0 ? x : weight*x; "weight" starts at 0.25, [1] or (per_channel 1) [c]. */
GAN_API gan_tensor gan_layer_prelu(gan_graph *graph, const char *name, gan_tensor x,
                                   int per_channel);
/* Largest of `pieces` linear functions (Goodfellow et al. 2013, arXiv:1302.4389): y[n,j] = max
 * over p of the linear layer's output j*pieces + p. weight [units*pieces,in], bias [units*pieces].
 * */
GAN_API gan_tensor gan_layer_maxout(gan_graph *graph, const char *name, gan_tensor x, int units,
                                    int pieces, const gan_layer_desc *desc);
/* Sets elements (channelwise 1: whole channels of a sample) to 0 with probability p, scales the
 * others by 1/(1-p). */
GAN_API gan_tensor gan_layer_dropout(gan_graph *graph, gan_tensor x, float p, int channelwise);
/* One step of an LSTM. x [n,in]; *h and *c [n,units] are read and replaced by their next values;
 * {0} stands for zeros. Gates i, f, g, o as PyTorch's LSTMCell: c' = sigmoid(f)*c +
 * sigmoid(i)*tanh(g), h' = sigmoid(o)*tanh(c'). weight_ih [4*units,in], weight_hh [4*units,units],
 * bias_ih, bias_hh [4*units], all uniform in +-1/sqrt(units). */
GAN_API void gan_layer_lstm(gan_graph *graph, const char *name, gan_tensor x, int units,
                            gan_tensor *h, gan_tensor *c, const gan_layer_desc *desc);

GAN_API gan_tensor gan_relu(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_leaky_relu(gan_graph *graph, gan_tensor x, float slope);
GAN_API gan_tensor gan_tanh(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_sigmoid(gan_graph *graph, gan_tensor x);

/* A grid of size x size Gaussian filters over an image (DRAW: Gregor et al. 2015,
 * arXiv:1502.04623, section 3.2). Row i of fy [n,size,h]: exp(-(b - centre_i)^2 / (2 sigma^2)),
 * divided by its sum; fx [n,size,w] likewise; centre_i = g + (i - size/2 + 0.5)*delta. */
typedef struct gan_attention {
    gan_tensor fx, fy;
    gan_tensor gamma; /* [n,1,1,1] */
} gan_attention;
/* where [n,5]: (gx, gy, log sigma^2, log delta, log gamma), gx and gy -1 to 1 across the image.
 * offset: pixel coordinate of the first pixel's centre; 1 is the paper's count (the image's centre
 * at gx = 0), 0 that of some implementations. */
GAN_API gan_attention gan_attention_window(gan_graph *graph, gan_tensor where, int size, int h,
                                           int w, float offset);
/* gamma * fy x fx^T: x [n,c,h,w] to [n,c,size,size]. */
GAN_API gan_tensor gan_attention_read(gan_graph *graph, const gan_attention *window, gan_tensor x);
/* fy^T x fx / gamma: x [n,c,size,size] to [n,c,h,w]. */
GAN_API gan_tensor gan_attention_write(gan_graph *graph, const gan_attention *window, gan_tensor x);

/* Losses. All are scalars (rank 0); "mean" is over all elements unless said otherwise. */

/* mean of -(t log s(x) + (1-t) log(1-s(x))), s the sigmoid; target t in [0,1] the same for all. */
GAN_API gan_tensor gan_loss_bce(gan_graph *graph, gan_tensor logit, float target);
/* mean (x - target)^2, the least-squares GAN loss (Mao et al. 2016, arXiv:1611.04076, without its
 * factor 1/2). */
GAN_API gan_tensor gan_loss_least_squares(gan_graph *graph, gan_tensor score, float target);
/* mean of score: -1 times (to be made high) or 1 times (low). Arjovsky et al. 2017,
 * arXiv:1701.07875. */
GAN_API gan_tensor gan_loss_wasserstein(gan_graph *graph, gan_tensor score, int high);
/* mean max(0, 1 - score) (to be made high) or max(0, 1 + score) (low). */
GAN_API gan_tensor gan_loss_hinge(gan_graph *graph, gan_tensor score, int high);
/* mean (x - y)^2 and mean |x - y|. */
GAN_API gan_tensor gan_loss_mse(gan_graph *graph, gan_tensor x, gan_tensor y);
GAN_API gan_tensor gan_loss_l1(gan_graph *graph, gan_tensor x, gan_tensor y);
/* Mean over the rows of -log softmax(logit)[label]; logit [n,classes], label [n] whole numbers. */
GAN_API gan_tensor gan_loss_cross_entropy(gan_graph *graph, gan_tensor logit, gan_tensor label);
/* mean of (log(2 pi) + log_var + (x - mean)^2 / exp(log_var)) / 2. */
GAN_API gan_tensor gan_loss_gaussian_nll(gan_graph *graph, gan_tensor x, gan_tensor mean,
                                         gan_tensor log_var);
/* KL(N(mean, exp(log_var)) || N(0,1)) = sum of (mean^2 + exp(log_var) - log_var - 1)/2 over all
 * axes but the first, mean over the first. */
GAN_API gan_tensor gan_loss_kl_normal(gan_graph *graph, gan_tensor mean, gan_tensor log_var);
/* Mean over samples of (|d score/d x|_2 - 1)^2, the norm over all elements of a sample (Gulrajani
 * et al. 2017, arXiv:1704.00028). score is computed from x, sample by sample; the norm is sqrt(sum
 * of squares + 1e-12). */
GAN_API gan_tensor gan_loss_gradient_penalty(gan_graph *graph, gan_tensor score, gan_tensor x);

typedef enum gan_optimiser_kind { GAN_SGD, GAN_ADAM, GAN_RMSPROP } gan_optimiser_kind;

/* An update rule. Make one with gan_sgd, gan_adam or gan_rmsprop, then change fields; 0 switches
 * an addition off. */
typedef struct gan_optimiser {
    gan_optimiser_kind kind;
    float momentum;       /* sgd: v = momentum*v + g, p -= lr*v */
    int nesterov;         /* sgd: p -= lr*(g + momentum*v) */
    float beta1, beta2;   /* adam (Kingma and Ba 2014, arXiv:1412.6980) */
    float alpha;          /* rmsprop: s = alpha*s + (1-alpha)*g^2, p -= lr*g/(sqrt(s) + eps) */
    float eps;            /* adam, rmsprop: added to the root */
    float weight_decay;   /* adds weight_decay * p to the gradient, before the rule */
    float clip_norm;      /* scales all gradients together so that their norm is at most this */
    float clip_each_norm; /* the same for each parameter alone */
    float clip_weights;   /* afterwards limits every weight to +-this */
    float ema_decay;  /* keeps averages, "ema.NAME" = decay * it + (1-decay) * p; copies buffers */
    const char *name; /* begins the names of the state, "adam.generator.main.0.weight.m"; default
                             the kind's. Two optimisers of the same parameters need two names. */
} gan_optimiser;
GAN_API gan_optimiser gan_sgd(float momentum);
GAN_API gan_optimiser gan_adam(float beta1, float beta2); /* eps 1e-8 */
GAN_API gan_optimiser gan_rmsprop(float alpha);           /* eps 1e-8 */

/* Appends the gradient of a scalar loss in every trained parameter that the graph uses and whose
 * name begins with one of `prefixes` (separated by blanks: "generator_a. generator_b."; "" is
 * all), and the effects that update them. lr: a scalar tensor, so that it may change from step to
 * step. GAN_ERR_ARGUMENT (in the graph) if no parameter fits. */
GAN_API void gan_minimise(gan_graph *graph, gan_tensor loss, const char *prefixes, gan_tensor lr,
                          const gan_optimiser *optimiser);

/* ============================================================================
 * >>api-data  1.5  IMAGES, DATASETS, CHECKPOINTS
 *
 * Files come from outside, so nothing in them is trusted: every number is checked before
 * it is used, sizes are limited before memory is asked for, and a bad file gives a status with
 * what was expected and found. Files are written to "PATH.tmp" and renamed, so that a
 * file under its own name is always whole.
 * ========================================================================= */

/* Largest image that is read, in pixels; set it with the implementation. */
#ifndef GAN_MAX_PIXELS
#define GAN_MAX_PIXELS 67108864 /* 8192 x 8192 */
#endif

/* An image as its file holds it. Owned by the caller: zero it before the first use, end with
 * gan_image_free. */
typedef struct gan_image {
    int width, height;
    int channels;      /* 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha */
    int maxval;        /* white; 1 to 65535 */
    uint16_t *samples; /* [height,width,channels], each 0 ... maxval */
} gan_image;

/* Reads PBM, PGM, PPM (P1 to P6, ASCII and binary) and PAM (P7): any maxval, comments, 8 and 16
 * bit. Bits of a PBM become 0 (black) and 1 (white) with maxval 1. Of several images in one file
 * the first is read. An old content of *image is not freed; after a failure *image is empty.
 * GAN_ERR_FORMAT: truncated or malformed; GAN_ERR_LIMIT: more than GAN_MAX_PIXELS;
 * GAN_ERR_UNSUPPORTED: another format. */
GAN_API gan_status gan_image_decode(gan_context *ctx, const void *bytes, size_t size_bytes,
                                    gan_image *image);
/* The same from a file; messages begin with the path. */
GAN_API gan_status gan_image_load(gan_context *ctx, const char *path, gan_image *image);
/* Frees the samples and empties the image; an empty one is allowed. */
GAN_API void gan_image_free(gan_context *ctx, gan_image *image);

/* Changes to an image in place; after a failure it is still a valid image. */
/* To 1 (grey) or 3 (RGB) channels. Alpha is blended over white; grey = 0.299 R + 0.587 G + 0.114 B
 * (ITU-R BT.601), in Pillow's fixed point. */
GAN_API gan_status gan_image_convert(gan_context *ctx, gan_image *image, int channels);
typedef enum gan_filter {
    GAN_FILTER_BILINEAR, /* triangle, as wide as the scale when shrinking; 8-bit results equal
                            Pillow's resize(BILINEAR) */
    GAN_FILTER_NEAREST   /* the sample under the pixel's centre: for label maps */
} gan_filter;
GAN_API gan_status gan_image_resize(gan_context *ctx, gan_image *image, int width, int height,
                                    gan_filter filter);
/* Keeps the rectangle of width x height whose top left pixel is (left, top); it must lie inside. */
GAN_API gan_status gan_image_crop(gan_context *ctx, gan_image *image, int left, int top, int width,
                                  int height);

/* Writes a file, its format chosen by the end of the name: .png (8 bit, any number of channels),
 * .pgm (1 channel), .ppm (1 or 3 channels); the latter two keep maxval. GAN_ERR_FILE: cannot be
 * written (then nothing is left behind, and an old file is as it was); GAN_ERR_ARGUMENT: another
 * name or number of channels. */
GAN_API gan_status gan_image_write(gan_context *ctx, const char *path, const gan_image *image);
/* Writes count images [count,channels,height,width] as one picture, row by row, with grey lines of
 * 2 pixels around each; low becomes black, high white. channels 1 or 3; columns 0: as many as rows,
 * about. */
GAN_API gan_status gan_image_write_grid(gan_context *ctx, const char *path, const float *images,
                                        int count, int channels, int height, int width, int columns,
                                        float low, float high);

/* Writes pictures frames [count,channels,height,width] that follow each other without end as an
 * animated PNG (path ends in .png or .apng), which browsers play and other programs show the first
 * frame of. channels 1 or 3; 0.001 to 65 seconds. Errors as of gan_image_write. */
GAN_API gan_status gan_image_write_animation(gan_context *ctx, const char *path,
                                             const float *frames, int count, int channels,
                                             int height, int width, float low, float high,
                                             double seconds_per_frame);

/* How an image is brought to the size wanted. */
typedef enum gan_fit {
    GAN_FIT_STRETCH, /* both sides scaled, each by its own factor */
    GAN_FIT_CROP     /* scaled by one factor until it covers the size; the middle is kept */
} gan_fit;

/* A record of a dataset has 1 to 3 images, its parts: part 0 is the image, or what a translation
 * starts from (domain A); part 1 the other one (domain B); part 2 an instance map. */
typedef enum gan_pairing {
    GAN_PAIRING_NONE,     /* one image */
    GAN_PAIRING_SIDES,    /* a file holds A in its left half and B in its right half */
    GAN_PAIRING_NAMES,    /* files of path and of path_b whose names agree up to the ending; classes
                             (subfolders) belong to the name. B may have more files than A */
    GAN_PAIRING_UNPAIRED, /* A of path, B of path_b, each drawn in its own order; without path_b
                             the folder path has subfolders trainA and trainB */
    GAN_PAIRING_DERIVED,  /* B is made from A */
    GAN_PAIRING_HALVES    /* A: the first half of the images; B: made from those of the second
                             half, which are drawn in their own order */
} gan_pairing;

/* How B is made from A, see gan_derive_image. */
typedef enum gan_derive {
    GAN_DERIVE_NEGATIVE, /* black for white */
    GAN_DERIVE_ROTATE,   /* turned by 90 degrees counter-clockwise */
    GAN_DERIVE_EDGES,    /* light outlines on black; 1 channel */
    GAN_DERIVE_GREY      /* 1 channel */
} gan_derive;

/* A zero field means its default. Fields that speak of part 0 or 1 mean the parts as they come out,
 * after swap. */
typedef struct gan_dataset_desc {
    int height, width;           /* in a batch; default: of the first image (drawn digits: 28) */
    int channels;                /* of part 0: 1 or 3; default: as the files, which must then
                                    agree */
    int load_height, load_width; /* scaled to this first, then cropped; default: no crop */
    gan_fit fit;                 /* default: GAN_FIT_STRETCH */
    int random_crop;             /* 1: the crop is taken anywhere; default: from the middle */
    int random_flip;             /* 1: half of the images are mirrored; default: none */
    float low, high;             /* values of black and white; both 0: -1 and 1 */
    size_t memory_bytes;         /* for decoded images, default 512 MiB; what does not fit is
                                    read again when needed */
    gan_pairing pairing;         /* default: GAN_PAIRING_NONE */
    gan_derive derive;           /* for GAN_PAIRING_DERIVED and _HALVES; default: the negative */
    const char *path_b;          /* B of GAN_PAIRING_NAMES and _UNPAIRED, as path */
    const char *path_instances;  /* a part 2 for pairs by SIDES, NAMES, DERIVED; names agree with
                                    those of path; default: none */
    int swap;                    /* 1: A and B change places */
    int channels_b;              /* of part 1: 1 or 3; default: as its own files, or as derived */
    int label_maps;              /* bit 0: part 0 holds class numbers; bit 1: part 1 does. Such maps
                                    have 1 channel, are resized to the nearest sample and come out
                                    as the file's samples, 0 ... 65535; instance maps always do */
    int label_count;             /* label maps hold 0 ... label_count-1; default: not checked */
    int first, count;            /* only records first ... first+count-1 (UNPAIRED: of A and of B);
                                    count 0: all from first on */
} gan_dataset_desc;

typedef struct gan_dataset gan_dataset;

/* Opens images for training. path is one of
 *   - a folder of .pgm, .ppm, .pbm, .pnm, .pam files; if it has none, each subfolder that has
 *     some is a class. Names are in natural order (2 before 10), classes are numbered so;
 *   - a text file: a line is the path of an image, seen from the folder of the list unless
 *     absolute, and perhaps a tab and a class number; empty lines and lines that start with #
 *     are skipped;
 *   - an IDX file of unsigned bytes [count,height,width] (the format of MNIST), not compressed.
 *     Labels come from the file beside it whose name has "labels" for "images" and "idx1" for
 *     "idx3", if there is one;
 *   - "digits", or NULL: digits drawn by the library, endless and labelled (a folder of that
 *     name is "./digits").
 * Of pairs, path is where A comes from (before swap).
 * desc NULL: all defaults. Files are decoded when first needed, so a damaged one is reported by
 * gan_dataset_batch. GAN_ERR_FILE: also a file of A without a partner, or with two. */
GAN_API gan_status gan_dataset_open(gan_dataset **out, gan_context *ctx, const char *path,
                                    const gan_dataset_desc *desc);
/* NULL is allowed. */
GAN_API void gan_dataset_close(gan_dataset *data);
/* Number of records: of an epoch. 60,000 for drawn digits, which do not repeat after that. Of
 * unpaired domains the larger one counts. */
GAN_API int gan_dataset_count(const gan_dataset *data);
/* Number of classes of part 0, 0 without labels; the name of one (its folder), NULL if it has none.
 */
GAN_API int gan_dataset_classes(const gan_dataset *data);
GAN_API const char *gan_dataset_class_name(const gan_dataset *data, int index);
/* Number of parts of a record, 1 to 3. */
GAN_API int gan_dataset_parts(const gan_dataset *data);
/* [channels,height,width] of a part; rank 0 for one that there is not. */
GAN_API gan_shape gan_dataset_part_shape(const gan_dataset *data, int part);
/* The same of part 0. */
GAN_API gan_shape gan_dataset_shape(const gan_dataset *data);

/* Batch number step of an endless sequence: each epoch is a permutation of the records drawn from
 * seed. Record i of the batch is number step*batch + i of the sequence. A pure function of (data,
 * seed, step), crops and flips included, so that going on after a break needs no state. Crop and
 * flip are the same for all parts of a pair; unpaired parts have each their own permutation, crop
 * and flip. A derived part is made from what is left after crop and flip.
 *
 *   parts   [gan_dataset_parts] each NULL (not wanted), or
 *           [batch,channels,height,width]  written, low ... high; label maps: class numbers
 *   labels  [batch] or NULL                written: class numbers of part 0
 *
 * GAN_ERR_FILE, GAN_ERR_FORMAT: an image cannot be read (named in the message), has another
 * number of channels than the first, an odd width where it holds two sides, a class number
 * beyond label_count, another shape (width to height) than its partner; GAN_ERR_STATE: labels
 * wanted from data without. */
GAN_API gan_status gan_dataset_batch_parts(gan_dataset *data, uint64_t seed, uint64_t step,
                                           int batch, float *const *parts, float *labels);
/* The same for part 0 alone. */
GAN_API gan_status gan_dataset_batch(gan_dataset *data, uint64_t seed, uint64_t step, int batch,
                                     float *images, float *labels);
/* Record index (in file order; of the smaller of two unpaired domains, index modulo its count)
 * without random crop and flip. label may be NULL. */
GAN_API gan_status gan_dataset_get_parts(gan_dataset *data, int index, float *const *parts,
                                         float *label);
GAN_API gan_status gan_dataset_get(gan_dataset *data, int index, float *image, float *label);
/* Path of the file that part 0 of that record is read from; NULL where images have no file of their
 * own (IDX, drawn digits) and past the end. */
GAN_API const char *gan_dataset_path(const gan_dataset *data, int index);

/* Makes a derived image, values low ... high:
 *   negative: low + high - x                    [channels,height,width]
 *   rotate:   out[y,x] = in[x, width-1-y]       [channels,width,height]
 *   grey:     0.299 R + 0.587 G + 0.114 B       [1,height,width]
 *   edges:    low + (largest of the 3x3 grey pixels around it) - (grey pixel): what a dilation
 *             adds (Liu and Tuzel 2016, arXiv:1606.07536)   [1,height,width]
 *
 *   in   [channels,height,width]  channels 1 or 3; read only
 *   out  as above                 must not overlap in
 */
GAN_API gan_status gan_derive_image(gan_context *ctx, gan_derive derive, const float *in,
                                    int channels, int height, int width, float low, float high,
                                    float *out);

/* Checkpoints: a list of named tensors and a list of texts under keys. The file format is
 * safetensors (https://github.com/huggingface/safetensors, "Format"): 8 bytes length of the header,
 * the header in JSON, then the data. */
typedef struct gan_metadata {
    const char *key, *value; /* UTF-8 */
} gan_metadata;

/* Saves all parameters of the store, its seed and its step, and the texts of meta. The bytes depend
 * on nothing else. GAN_ERR_ARGUMENT: a key twice, or one that begins with "params.", which are the
 * store's own; GAN_ERR_FILE: cannot be written (then nothing is left behind). */
GAN_API gan_status gan_params_save(const gan_params *params, const char *path,
                                   const gan_metadata *meta, int meta_count);

typedef struct gan_checkpoint gan_checkpoint;

typedef struct gan_checkpoint_tensor {
    const char *name;    /* NULL past the end; owned by the checkpoint */
    const char *dtype;   /* as the file calls it: "F32", "F16", "BF16", "F64", "I64", ... */
    gan_shape shape;     /* extents may be 0 here */
    size_t count;        /* elements */
    gan_param_kind kind; /* GAN_PARAM_WEIGHT where the file does not say */
} gan_checkpoint_tensor;

/* Opens a checkpoint and reads its list of tensors; the data stays in the file, which stays open.
 */
GAN_API gan_status gan_checkpoint_open(gan_checkpoint **out, gan_context *ctx, const char *path);
/* NULL is allowed. */
GAN_API void gan_checkpoint_close(gan_checkpoint *checkpoint);
/* Tensors, in the order of their data. find: index of a name, or -1. */
GAN_API int gan_checkpoint_count(const gan_checkpoint *checkpoint);
GAN_API gan_checkpoint_tensor gan_checkpoint_at(const gan_checkpoint *checkpoint, int index);
GAN_API int gan_checkpoint_find(const gan_checkpoint *checkpoint, const char *name);
/* The text under a key, NULL if there is none; all of them by index, key NULL past the end. */
GAN_API const char *gan_checkpoint_text(const gan_checkpoint *checkpoint, const char *key);
GAN_API gan_metadata gan_checkpoint_text_at(const gan_checkpoint *checkpoint, int index);
/* Reads tensor index as floats; out [count], count as gan_checkpoint_at says. Integers and F64 are
 * rounded to nearest. GAN_ERR_UNSUPPORTED: no such number format here. */
GAN_API gan_status gan_checkpoint_read(gan_checkpoint *checkpoint, int index, float *out,
                                       size_t count);

/* A zero field means its default. */
typedef struct gan_load_desc {
    int weights_only;         /* 1: optimiser state, seed and step are neither needed nor read */
    int ignore_unknown;       /* 1: tensors that the store lacks are no error */
    int partial;              /* 1: takes what fits by name and shape; the rest of the store stays.
                                 An error only if nothing does */
    const char *file_prefix;  /* tensor file_prefix + x of the file goes to ... */
    const char *store_prefix; /* ... parameter store_prefix + x; others are left alone; [""] */
} gan_load_desc;

/* Fills the parameters of the store, which must exist, from the tensors of the same name and shape,
 * and sets seed and step. desc NULL: all defaults.
 * GAN_ERR_SHAPE: parameters that the file lacks, tensors that the store lacks, shapes that differ:
 * the message counts them and names the first; no parameter has changed. After other errors
 * parameters may be filled in part. */
GAN_API gan_status gan_params_load(gan_params *params, gan_checkpoint *checkpoint,
                                   const gan_load_desc *desc);

/* ============================================================================
 * >>api-models  1.6  THE SYSTEMS: CREATE, TRAIN, SAMPLE, SAVE
 *
 *     gan_model_desc desc = gan_model_defaults("dcgan");
 *     gan_model *model;
 *     gan_model_create(&model, ctx, &desc);
 *     for (int step = 0; step < 2000; step++) {
 *         gan_model_train(model, data);
 *     }
 *     gan_model_sample(model, images, 64, NULL, 1);
 *     gan_model_save(model, "dcgan.safetensors");
 *
 * (every call returns a status). Images are [n,channels,height,width] in [-1,1] for every system. A
 * training step is one batch of data, and where a critic is updated more often than the generator,
 * one update of the critic: a pure function of the parameters, the seed and the number of the step,
 * so that a run that was stopped and loaded again gives the same bits.
 * ========================================================================= */

/* An option of a system, a number or (choices not NULL) one of several words. */
typedef struct gan_option {
    const char *name, *help;
    const char *choices;        /* words separated by blanks */
    double standard, low, high; /* default and range; for choices the number of the word, from 0 */
    int whole;                  /* 1: a whole number */
} gan_option;

typedef struct gan_system {
    const char *name;                   /* "dcgan" */
    const char *title;                  /* one line */
    const char *paper;                  /* authors, year, arXiv number */
    int height, width, channels, batch; /* defaults */
    const gan_option *options;
    int option_count;
    int parts;   /* images in a record of the data that training wants, 1 to 3 */
    int paired;  /* 1: the images of a record belong together */
    int two_way; /* 1: translates in both directions, see gan_model_translate */
} gan_system;

/* The systems there are, in order; NULL past the end. */
GAN_API const gan_system *gan_system_at(int index);
/* NULL if there is none of that name. */
GAN_API const gan_system *gan_system_find(const char *name);

/* A zero field means the system's default. */
typedef struct gan_model_desc {
    const char *system;   /* name in the list of systems; must be set */
    int height, width;    /* pixels of an image */
    int channels;         /* 1 grey, 3 colour; of domain A where there are two */
    int channels_b;       /* of domain B; default: channels */
    int batch;            /* images in a training step */
    uint64_t seed;        /* [0] of the initial weights, the noise and the order of the data */
    const char *options;  /* "ngf=32 lr=1e-4", separated by blanks; see gan_system.options */
    int disable_training; /* [0] 1: only what sampling needs; takes much less memory */
    const char *vgg;      /* pix2pixhd, option vgg: file with the weights of VGG-19 */
} gan_model_desc;

typedef struct gan_model gan_model;

/* All defaults of a system, written out. An unknown name is kept, for gan_model_create to complain
 * about. */
GAN_API gan_model_desc gan_model_defaults(const char *system);

/* Builds networks, losses and updates. ctx must outlive the model. GAN_ERR_ARGUMENT: unknown
 * system or option, value out of range; GAN_ERR_SHAPE: the networks cannot be built at this size;
 * GAN_ERR_MEMORY. *out is NULL after a failure. */
GAN_API gan_status gan_model_create(gan_model **out, gan_context *ctx, const gan_model_desc *desc);
GAN_API void gan_model_destroy(gan_model *model);

/* One training step: gan_model_fill and gan_model_step. Allocates nothing after the first call. */
GAN_API gan_status gan_model_train(gan_model *model, gan_dataset *data);
/* Fills the inputs of the next step: noise, rates, and images with their labels from data (NULL:
 * these are left as they are). GAN_ERR_SHAPE: images of data have another size than the model's.
 * GAN_ERR_ARGUMENT: the model wants labels, and data has none or another number of classes. */
GAN_API gan_status gan_model_fill(gan_model *model, gan_dataset *data);
/* Runs a step on inputs as they are, and counts it. GAN_ERR_NUMERIC if a metric is no longer
 * finite. */
GAN_API gan_status gan_model_step(gan_model *model);
/* Memory of an input of the training step, "real" or "z" for example, to look at or to overwrite
 * between fill and step; count (may be NULL): its elements. NULL if there is none of that name. */
GAN_API float *gan_model_feed(gan_model *model, const char *name, size_t *count);

/* What a step reports: "loss_d", "loss_g"; "spread" is how much generated images of a batch differ
 * from one another, compared with real ones: it falls towards 0 when the generator collapses to a
 * few pictures. */
typedef struct gan_metric {
    const char *name; /* NULL past the end */
    float value;      /* of the last step in which it was computed; 0 before */
} gan_metric;
GAN_API gan_metric gan_model_metric(const gan_model *model, int index);

/* Draws n images [n,channels,height,width] in [-1,1]. Image i depends on the weights, the seed and
 * i. inputs: "name=value ..." for inputs of the generator that shall have one value for all images
 * instead of a random one ("label=3"); NULL: none. Labels that are not given go through all classes
 * again and again, so that a grid with as many columns as there are classes has one in each.
 * "walk=8": images come in rows of 8, a row goes from one noise to another. */
GAN_API gan_status gan_model_sample(gan_model *model, float *images, int n, const char *inputs,
                                    uint64_t seed);

/* The same with the pictures of a sample's making, for systems that have some (info.frames): frames
 * [info.frames][n,channels,height,width], the last of which are the images. */
GAN_API gan_status gan_model_sample_frames(gan_model *model, float *frames, int n,
                                           const char *inputs, uint64_t seed);

/* Translates n images of one size, each by itself.
 *
 *   in      [n,info.translate_in,height,width] in [-1,1]; sizes that the network cannot take are
 *           mirrored at the right and below up to the next that it can, and the result cut back
 *   inputs  NULL or "name=value ...": direction=ba for systems that go both ways, seed=3 of noise
 *           and dropout [0], and inputs of the system's own
 *   out     [n,info.translate_out,height,width]; with direction=ba the channels change places
 *
 * GAN_ERR_UNSUPPORTED: the system does not translate. GAN_ERR_SHAPE: its networks are made for
 * images of one size, and these are larger. */
GAN_API gan_status gan_model_translate(gan_model *model, const float *in, int n, int height,
                                       int width, const char *inputs, float *out);

/* What a network reads off images [n,channels,height,width] of the model's size: out
 * [n,info.encode_width], whose meaning the system's section tells (InfoGAN: what Q takes the codes
 * for; AC-GAN: scores of the classes). seed: of noise, where it needs some. GAN_ERR_UNSUPPORTED:
 * the system has no such network. */
GAN_API gan_status gan_model_encode(gan_model *model, const float *in, int n, float *out,
                                    uint64_t seed);

/* Sizes, channels and pairing of the data that this model trains on; the caller adds the rest. */
GAN_API gan_dataset_desc gan_model_dataset_desc(const gan_model *model);

/* A checkpoint (safetensors): all parameters, running statistics and optimiser state, and in its
 * metadata system, sizes, options, seed and step. Written to a temporary file that replaces path
 * when complete. */
GAN_API gan_status gan_model_save(const gan_model *model, const char *path);
/* Builds the model that a checkpoint holds. desc, if not NULL, says what to change: fields that
 * are not zero and options that are named replace those of the file. */
GAN_API gan_status gan_model_load(gan_model **out, gan_context *ctx, const char *path,
                                  const gan_model_desc *desc);
/* Takes the weights of a checkpoint that fit by name and shape, from whatever system it is; the
 * others stay as they are, as do optimiser state, seed and step. So a smaller model starts a larger
 * one. GAN_ERR_SHAPE: nothing fits. */
GAN_API gan_status gan_model_start(gan_model *model, const char *path);
/* pix2pixhd with features: reads the styles of all instances in the data (with instance maps) and
 * keeps some for each class, from which gan_model_translate draws; see >>pix2pixhd-styles. Call it
 * after training. GAN_ERR_UNSUPPORTED: a model without styles. */
GAN_API gan_status gan_model_cluster(gan_model *model, gan_dataset *data);

typedef struct gan_model_info {
    const gan_system *system;
    int height, width, channels, channels_b, batch;
    uint64_t seed, step;
    const char *options; /* all of them, written as in gan_model_desc; owned by the model */
    int classes;         /* that "label" can ask for when sampling; 0: has no such input */
    int sample_height, sample_width, sample_channels; /* of a sample; 0: does not sample */
    int frames;                                       /* of gan_model_sample_frames; 0: none */
    int translate_in, translate_out; /* channels, direction ab; 0: does not translate */
    int translate_maps;              /* bit c: channel c of what is translated holds numbers 0, 1, 2
                                        ... of classes or instances */
    int translate_fixed;             /* 1: translates images of the model's size only */
    int translate_part;              /* part of the data's records that it starts from */
    int encode_width;                /* numbers that gan_model_encode gives for an image */
    size_t train_bytes;              /* all memory of a training step; 0 if training is disabled */
    size_t sample_bytes;             /* of sampling one image */
    size_t translate_bytes;          /* of translating one image of the model's size */
    double train_multiply_adds;      /* of one step */
    double sample_multiply_adds;     /* of one image */
    double translate_multiply_adds;  /* of one image of the model's size */
} gan_model_info;
GAN_API gan_status gan_model_get_info(gan_model *model, gan_model_info *info);

/* What gan_model_sample and gan_model_translate take in their inputs. */
typedef struct gan_input_info {
    const char *name; /* NULL past the end */
    int count;        /* numbers in it for an image, or in all where they are not by image */
    int classes;      /* whole numbers 0 ... classes-1; 0: any number */
    double low, high; /* where it lies if it is not given; normal noise: -2 and 2 */
} gan_input_info;
/* Input `index` of "sample" or "translate". */
GAN_API gan_status gan_model_input(gan_model *model, const char *what, int index,
                                   gan_input_info *info);

/* For gan_program_op and gan_program_time: program `index` (from 0) of what the model does,
 * "train", "sample", "translate" or "encode", the latter three for one image of the model's size.
 * *out is NULL past the last and where the model does not do this. The program is the model's, and
 * lives until that is used with other sizes. */
GAN_API gan_status gan_model_program(gan_model *model, const char *what, int index,
                                     gan_program **out);

/* The store of the model's parameters; "generator.main.0.weight". */
GAN_API gan_params *gan_model_params(gan_model *model);

#ifdef __cplusplus
}
#endif
#endif /* GAN_H */
#endif /* !GANI_INSTANCE */

#ifdef GAN_IMPLEMENTATION
#ifndef GANI_INSTANCE
#ifndef GANI_IMPLEMENTED
#define GANI_IMPLEMENTED

#if defined(__FAST_MATH__) && !defined(GAN_ALLOW_FAST_MATH)
#error "gan.h needs NaN and infinity: no -ffast-math (or define GAN_ALLOW_FAST_MATH)"
#endif

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Name under which this file includes itself; set it if you rename the file. */
#ifndef GAN_SELF
#define GAN_SELF "gan.h"
#endif

#if defined(GAN_MALLOC) != defined(GAN_FREE)
#error "define both GAN_MALLOC and GAN_FREE, or neither"
#endif
#ifndef GAN_MALLOC
#define GAN_MALLOC(size_bytes) malloc(size_bytes)
#define GAN_FREE(ptr) free(ptr)
#endif

#ifndef GAN_ASSERT
#include <assert.h>
#define GAN_ASSERT(condition) assert(condition)
#endif

/* Instruction sets. x86-64 gets AVX2 and AVX-512 by target pragmas, whatever the compiler's -march.
 */
#if !defined(GAN_NO_SIMD) && (defined(__x86_64__) || defined(_M_X64)) && \
    (defined(__GNUC__) || defined(__clang__) || defined(_MSC_VER))
#define GANI_X86 1
/* g++ up to 12 warns of its own avx512fintrin.h, where _mm512_undefined_ps starts a variable with
 * itself. */
#if defined(__cplusplus) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#ifndef GAN_NO_AVX2
#define GANI_HAVE_AVX2 1
#endif
#ifndef GAN_NO_AVX512
#define GANI_HAVE_AVX512 1
#endif
#elif !defined(GAN_NO_SIMD) && !defined(GAN_NO_NEON) && defined(__aarch64__) && defined(__ARM_NEON)
#define GANI_HAVE_NEON 1
#include <arm_neon.h>
#endif

#if defined(__GNUC__) || defined(__clang__) || defined(_MSC_VER)
#define GANI_RESTRICT __restrict
#else
#define GANI_RESTRICT
#endif

/* In front of a loop over an array of vectors, whose length is known: unrolled whole, so that the
 * array becomes registers. */
#if defined(__clang__)
#define GANI_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define GANI_UNROLL _Pragma("GCC unroll 16")
#else
#define GANI_UNROLL
#endif

/* ============================================================================
 * >>platform  2  ERRORS, MEMORY, THREADS, PROCESSOR FEATURES, RANDOM NUMBERS
 *
 * Holds:  the context and everything that touches the machine.
 * Knows nothing of: maths.
 * ========================================================================= */

/* An activation as kernels take it: kind is a gan_activation. */
typedef struct gani_act {
    int kind;
    float slope;
} gani_act;

#define GANI_ALIGN 64 /* bytes: a cache line, and the widest vector */
#define GANI_MAX_THREADS 256

typedef struct gani_kernels
    gani_kernels; /* the function table of an instruction set, see >>instances */

struct gan_context {
    gan_allocator allocator;
    gan_logger logger;
    gan_parallel parallel;
    int threads;
    int check_finite;
    int direct_conv;
    const gani_kernels *kernels;
    unsigned char *workspace; /* scratch of the drivers, grows on demand; see gani_workspace */
    size_t workspace_bytes;
    gan_status status;
    char error[512];
};

/* --- errors ---------------------------------------------------------------- */

GAN_API const char *gan_status_text(gan_status status) {
    static const char *const texts[] = {
#define GANI_STATUS_TEXT(id, text) text,
        GAN_STATUS_LIST(GANI_STATUS_TEXT)
#undef GANI_STATUS_TEXT
    };
    return (int)status >= 0 && status < GAN_STATUS_COUNT ? texts[status] : "unknown status";
}

#if defined(__GNUC__) || defined(__clang__)
#define GANI_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define GANI_PRINTF(format_index, first)
#endif

/* Keeps status and message in the context and returns the status, for `return gani_error(ctx,
 * ...)`. */
GANI_PRINTF(3, 4)
static gan_status gani_error(gan_context *ctx, gan_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    ctx->status = status;
    vsnprintf(ctx->error, sizeof ctx->error, format, args);
    va_end(args);
    return status;
}

GANI_PRINTF(2, 3)
static void gani_log(const gan_context *ctx, const char *format, ...) {
    if (ctx->logger.write) {
        char line[512];
        va_list args;
        va_start(args, format);
        vsnprintf(line, sizeof line, format, args);
        va_end(args);
        ctx->logger.write(ctx->logger.user, line);
    }
}

/* --- sizes and memory ------------------------------------------------------ */

/* a * b, or 0 where that overflows; 0 is never a valid size here, so one check at the end of a
 * chain is enough. */
static size_t gani_mul(size_t a, size_t b) {
    return b != 0 && a > SIZE_MAX / b ? 0 : a * b;
}

/* a + b, sticking to 0 as gani_mul does. */
static size_t gani_sum(size_t a, size_t b) {
    return a == 0 || b == 0 || a > SIZE_MAX - b ? 0 : a + b;
}

static size_t gani_round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

static void *gani_default_alloc(void *user, size_t size_bytes) {
    (void)user;
    return GAN_MALLOC(size_bytes);
}

static void gani_default_free(void *user, void *ptr, size_t size_bytes) {
    (void)user;
    (void)size_bytes;
    GAN_FREE(ptr);
}

/* Memory is aligned here, so the hook need not: the block starts with padding, and the bytes right
 * before the pointer returned hold the distance back and the size. Contents are not cleared. NULL
 * on failure (also for size 0, which is what overflowed arithmetic gives), with the error set. */
static void *gani_alloc(gan_context *ctx, size_t size_bytes) {
    const size_t extra = GANI_ALIGN + 2 * sizeof(size_t);
    unsigned char *raw = NULL;
    if (size_bytes != 0 && size_bytes <= SIZE_MAX - extra) {
        raw = (unsigned char *)ctx->allocator.alloc(ctx->allocator.user, size_bytes + extra);
    }
    if (!raw) {
        gani_error(ctx, GAN_ERR_MEMORY, "out of memory: %lu bytes asked for",
                   (unsigned long)size_bytes);
        return NULL;
    }
    size_t head = 2 * sizeof(size_t);
    head += (GANI_ALIGN - (size_t)((uintptr_t)(raw + head) % GANI_ALIGN)) % GANI_ALIGN;
    size_t record[2];
    record[0] = head;
    record[1] = size_bytes + extra;
    memcpy(raw + head - sizeof record, record, sizeof record);
    return raw + head;
}

static void *gani_calloc(gan_context *ctx, size_t count, size_t size_bytes) {
    void *ptr = gani_alloc(ctx, gani_mul(count, size_bytes));
    if (ptr) {
        memset(ptr, 0, count * size_bytes);
    }
    return ptr;
}

static void gani_free(gan_context *ctx, void *ptr) {
    if (ptr) {
        unsigned char *block = (unsigned char *)ptr;
        size_t record[2];
        memcpy(record, block - sizeof record, sizeof record);
        ctx->allocator.free(ctx->allocator.user, block - record[0], record[1]);
    }
}

/* Makes room for at least `need` items in a growing array; keeps the old contents. 1 on success; on
 * failure the array is as before and the error is set. */
static int gani_grow(gan_context *ctx, void **items, int *capacity, int need, size_t item_bytes) {
    if (need <= *capacity) {
        return 1;
    }
    int grown = *capacity < 16 ? 16 : *capacity > INT_MAX / 2 ? INT_MAX : *capacity * 2;
    grown = grown < need ? need : grown;
    void *block = gani_alloc(ctx, gani_mul((size_t)grown, item_bytes));
    if (!block) {
        return 0;
    }
    if (*items) {
        memcpy(block, *items, (size_t)*capacity * item_bytes);
        gani_free(ctx, *items);
    }
    *items = block;
    *capacity = grown;
    return 1;
}

static char *gani_strdup(gan_context *ctx, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = (char *)gani_alloc(ctx, size);
    if (copy) {
        memcpy(copy, text, size);
    }
    return copy;
}

/* Scratch memory of the drivers: one block a context, valid until the next call. Programs reserve
 * the largest need when they are created, so running them allocates nothing. NULL on failure, error
 * set. */
static void *gani_workspace(gan_context *ctx, size_t size_bytes) {
    if (size_bytes > ctx->workspace_bytes || !ctx->workspace) {
        unsigned char *block =
            (unsigned char *)gani_alloc(ctx, size_bytes ? size_bytes : GANI_ALIGN);
        if (!block) {
            return NULL;
        }
        gani_free(ctx, ctx->workspace);
        ctx->workspace = block;
        ctx->workspace_bytes = size_bytes;
    }
    return ctx->workspace;
}

/* --- threads --------------------------------------------------------------- */

/* Kernels run with denormals flushed to zero (they can cost a hundred times a normal operation, and
 * carry nothing a network needs); the caller's mode is put back. */
#if defined(GANI_X86)
typedef unsigned gani_float_mode;
static gani_float_mode gani_flush_denormals(void) {
    gani_float_mode old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u); /* FTZ, DAZ */
    return old;
}
static void gani_restore_float_mode(gani_float_mode old) {
    _mm_setcsr(old);
}
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
typedef uint64_t gani_float_mode;
static gani_float_mode gani_flush_denormals(void) {
    gani_float_mode old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(old | ((uint64_t)1 << 24)));
    return old;
}
static void gani_restore_float_mode(gani_float_mode old) {
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
}
#else
typedef int gani_float_mode;
static gani_float_mode gani_flush_denormals(void) {
    return 0;
}
static void gani_restore_float_mode(gani_float_mode old) {
    (void)old;
}
#endif

typedef struct gani_task {
    void (*run)(void *arg, int index);
    void *arg;
} gani_task;

static void gani_run_task(void *arg, int index) {
    gani_task *task = (gani_task *)arg;
    gani_float_mode mode = gani_flush_denormals();
    task->run(task->arg, index);
    gani_restore_float_mode(mode);
}

/* Calls run(arg, i) for every i in [0,count), on up to ctx->threads threads. How work is cut into
 * items must depend on the problem alone, never on the number of threads, so that results are the
 * same bits for any number. A driver that needs scratch per thread makes count = ctx->threads
 * "slots", and each slot walks items slot, slot + count, ... */
static void gani_parallel(gan_context *ctx, int count, void (*run)(void *arg, int index),
                          void *arg) {
    gani_task task;
    task.run = run;
    task.arg = arg;
    if (count > 1 && ctx->threads > 1) {
        if (ctx->parallel.run) {
            ctx->parallel.run(ctx->parallel.user, count, gani_run_task, &task);
            return;
        }
#ifdef _OPENMP
        int i;
#pragma omp parallel for schedule(dynamic, 1) num_threads(ctx->threads)
        for (i = 0; i < count; i++) {
            gani_run_task(&task, i);
        }
        return;
#endif
    }
    for (int i = 0; i < count; i++) {
        gani_run_task(&task, i);
    }
}

/* --- processor features ---------------------------------------------------- */

#ifdef GANI_X86
static void gani_cpuid(unsigned leaf, unsigned subleaf, unsigned out[4]) {
#if defined(_MSC_VER) && !defined(__clang__)
    int regs[4];
    __cpuidex(regs, (int)leaf, (int)subleaf);
    for (int i = 0; i < 4; i++) {
        out[i] = (unsigned)regs[i];
    }
#else
    out[0] = out[1] = out[2] = out[3] = 0;
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
#endif
}

/* Bits of XCR0: what the operating system saves on a task switch. */
static unsigned gani_xcr0(void) {
#if defined(_MSC_VER) && !defined(__clang__)
    return (unsigned)_xgetbv(0);
#else
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

/* Level 2: AVX2 and FMA; 3: AVX-512 F, DQ, BW and VL as well; the operating system must support
 * them too. */
static int gani_x86_level(void) {
    unsigned r[4];
    gani_cpuid(0, 0, r);
    if (r[0] < 7) {
        return 0;
    }
    gani_cpuid(1, 0, r);
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;
    if ((r[2] & (fma | osxsave | avx)) != (fma | osxsave | avx)) {
        return 0;
    }
    unsigned xcr0 = gani_xcr0();
    gani_cpuid(7, 0, r);
    const unsigned avx2 = 1u << 5, avx512 = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
    if ((xcr0 & 0x6u) != 0x6u || !(r[1] & avx2)) {
        return 0;
    }
    return (xcr0 & 0xe6u) == 0xe6u && (r[1] & avx512) == avx512 ? 3 : 2;
}
#endif

/* --- random numbers -------------------------------------------------------- */

/* Philox4x32-10: ten rounds of two 32x32->64 multiplications; see gan_random_uniform for the paper.
 */
static void gani_philox(uint64_t key, uint64_t counter_high, uint64_t counter_low,
                        uint32_t out[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter_low, c1 = (uint32_t)(counter_low >> 32);
    uint32_t c2 = (uint32_t)counter_high, c3 = (uint32_t)(counter_high >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t t0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t t2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = t0;
        c2 = t2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static float gani_unit_float(uint32_t bits) {
    return (float)(bits >> 8) * (1.0f / 16777216.0f);
}

/* Two normals from two uniforms, u in (0,1] so that the logarithm is finite. */
static void gani_box_muller(uint32_t a, uint32_t b, float out[2]) {
    double u = ((double)(a >> 8) + 1.0) * (1.0 / 16777216.0);
    double r = sqrt(-2.0 * log(u));
    double t = 6.283185307179586 * ((double)b * (1.0 / 4294967296.0));
    out[0] = (float)(r * cos(t));
    out[1] = (float)(r * sin(t));
}

/* Four elements of a stream: 4*block ... 4*block+3. */
static void gani_random_block(uint64_t seed, uint64_t stream, uint64_t block, int normal,
                              float out[4]) {
    uint32_t bits[4];
    gani_philox(seed, stream, block, bits);
    if (normal) {
        gani_box_muller(bits[0], bits[1], out);
        gani_box_muller(bits[2], bits[3], out + 2);
    } else {
        for (int i = 0; i < 4; i++) {
            out[i] = gani_unit_float(bits[i]);
        }
    }
}

static void gani_random_fill(uint64_t seed, uint64_t stream, uint64_t first, float *out,
                             size_t count, int normal) {
    float four[4];
    for (size_t i = 0; i < count;) {
        unsigned lane = (unsigned)((first + i) & 3u);
        gani_random_block(seed, stream, (first + i) >> 2, normal, four);
        for (; lane < 4 && i < count; lane++, i++) {
            out[i] = four[lane];
        }
    }
}

GAN_API void gan_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, float *out,
                                size_t count) {
    gani_random_fill(seed, stream, first, out, count, 0);
}

GAN_API void gan_random_normal(uint64_t seed, uint64_t stream, uint64_t first, float *out,
                               size_t count) {
    gani_random_fill(seed, stream, first, out, count, 1);
}

GAN_API void gan_random_permutation(uint64_t seed, uint64_t stream, uint32_t *out, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        out[i] = i;
    }
    for (uint32_t i = count; i > 1;
         i--) { /* Fisher and Yates; the bias of 64-bit multiply-shift is below 2^-32 */
        uint32_t bits[4];
        gani_philox(seed, stream, i, bits);
        uint64_t wide = ((uint64_t)bits[0] << 32) | bits[1];
        uint32_t j = (uint32_t)(((wide >> 32) * i + (((wide & 0xffffffffu) * i) >> 32)) >> 32);
        uint32_t swap = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swap;
    }
}

/* 64-bit FNV-1a, to draw a stream number from a name. */
static uint64_t gani_hash(const void *data, size_t size, uint64_t hash) {
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}
#define GANI_HASH_START 0xcbf29ce484222325u

#endif /* GANI_IMPLEMENTED */
#endif /* !GANI_INSTANCE */

/* ============================================================================
 * >>simd  3.1  VECTOR MACROS
 *
 * Kernels are written once over these macros. While GANI_INSTANCE is defined, exactly one of
 * GANI_ISA_SCALAR, GANI_ISA_AVX2, GANI_ISA_AVX512, GANI_ISA_NEON is, and names made with
 * GANI_FN(name) end in the set's name.
 *
 *   vf, vi, vm          vectors of VW floats, of VW 32-bit integers; masks (result of a comparison)
 *   vf_load vf_store    unaligned;  vf_loadn vf_storen  the first n lanes, 0 <= n <= VW, others
 *                       load as 0, memory beyond is neither read nor written
 *   vf_fma(a,b,c)       a*b + c, rounded once (scalar: twice);  vf_fnma(a,b,c)  c - a*b
 *   vf_max(a,b)         as maxps: b if either is NaN;  vf_min likewise
 *   vf_select(m,a,b)    m ? a : b, lane by lane
 *   vf_toint            nearest, ties to even
 *   vi_asf, vf_asi      same bits
 *   vf_transpose4/8     4 rows of 4 or 8 floats to 4 columns, in memory
 *   vf_transpose8x8     8 rows of 8
 *   vf_even(a,b)        lanes 0, 2, 4 ... of a, then of b
 *   vf_hsum vf_hmax     over lanes, in a fixed order
 *
 * Holds:  macros only.        Knows nothing of: what is computed with them.
 * ========================================================================= */
#ifdef GANI_INSTANCE

#define GANI_PASTE2(a, b) a##_##b
#define GANI_PASTE(a, b) GANI_PASTE2(a, b)
#define GANI_FN(name) GANI_PASTE(name, GANI_ISA)

#if defined(GANI_ISA_AVX512)

#define GANI_ISA avx512
#define GANI_ISA_NAME "avx512"
#define VW 16
#define vf __m512
#define vi __m512i
#define vm __mmask16
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_store(p, a) _mm512_storeu_ps((p), (a))
#define vf_lanes(n) ((__mmask16)((1u << (n)) - 1u))
#define vf_loadn(p, n) _mm512_maskz_loadu_ps(vf_lanes(n), (p))
#define vf_storen(p, n, a) _mm512_mask_storeu_ps((p), vf_lanes(n), (a))
#define vf_set1(x) _mm512_set1_ps(x)
#define vf_zero() _mm512_setzero_ps()
#define vf_add(a, b) _mm512_add_ps((a), (b))
#define vf_sub(a, b) _mm512_sub_ps((a), (b))
#define vf_mul(a, b) _mm512_mul_ps((a), (b))
#define vf_div(a, b) _mm512_div_ps((a), (b))
#define vf_fma(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define vf_fnma(a, b, c) _mm512_fnmadd_ps((a), (b), (c))
#define vf_max(a, b) _mm512_max_ps((a), (b))
#define vf_min(a, b) _mm512_min_ps((a), (b))
#define vf_sqrt(a) _mm512_sqrt_ps(a)
#define vf_gt(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_GT_OQ)
#define vf_ge(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_GE_OQ)
#define vf_eq(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_EQ_OQ)
#define vf_isnan(a) _mm512_cmp_ps_mask((a), (a), _CMP_UNORD_Q)
#define vf_select(m, a, b) _mm512_mask_blend_ps((m), (b), (a))
#define vf_toint(a) _mm512_cvtps_epi32(a)
#define vi_tof(a) _mm512_cvtepi32_ps(a)
#define vf_asi(a) _mm512_castps_si512(a)
#define vi_asf(a) _mm512_castsi512_ps(a)
#define vi_set1(x) _mm512_set1_epi32(x)
#define vi_add(a, b) _mm512_add_epi32((a), (b))
#define vi_sub(a, b) _mm512_sub_epi32((a), (b))
#define vi_and(a, b) _mm512_and_si512((a), (b))
#define vi_or(a, b) _mm512_or_si512((a), (b))
#define vi_xor(a, b) _mm512_xor_si512((a), (b))
#define vi_shl(a, n) _mm512_slli_epi32((a), (n))
#define vi_shr(a, n) _mm512_srli_epi32((a), (n))
#define vi_sar(a, n) _mm512_srai_epi32((a), (n))
#define vf_even(a, b)                                                                              \
    _mm512_permutex2var_ps(                                                                        \
        (a), _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), (b))

#elif defined(GANI_ISA_AVX2)

#define GANI_ISA avx2
#define GANI_ISA_NAME "avx2"
#define VW 8
#define vf __m256
#define vi __m256i
#define vm __m256
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_store(p, a) _mm256_storeu_ps((p), (a))
#define vf_lanes(n) \
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define vf_loadn(p, n) _mm256_maskload_ps((p), vf_lanes(n))
#define vf_storen(p, n, a) _mm256_maskstore_ps((p), vf_lanes(n), (a))
#define vf_set1(x) _mm256_set1_ps(x)
#define vf_zero() _mm256_setzero_ps()
#define vf_add(a, b) _mm256_add_ps((a), (b))
#define vf_sub(a, b) _mm256_sub_ps((a), (b))
#define vf_mul(a, b) _mm256_mul_ps((a), (b))
#define vf_div(a, b) _mm256_div_ps((a), (b))
#define vf_fma(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define vf_fnma(a, b, c) _mm256_fnmadd_ps((a), (b), (c))
#define vf_max(a, b) _mm256_max_ps((a), (b))
#define vf_min(a, b) _mm256_min_ps((a), (b))
#define vf_sqrt(a) _mm256_sqrt_ps(a)
#define vf_gt(a, b) _mm256_cmp_ps((a), (b), _CMP_GT_OQ)
#define vf_ge(a, b) _mm256_cmp_ps((a), (b), _CMP_GE_OQ)
#define vf_eq(a, b) _mm256_cmp_ps((a), (b), _CMP_EQ_OQ)
#define vf_isnan(a) _mm256_cmp_ps((a), (a), _CMP_UNORD_Q)
#define vf_select(m, a, b) _mm256_blendv_ps((b), (a), (m))
#define vf_toint(a) _mm256_cvtps_epi32(a)
#define vi_tof(a) _mm256_cvtepi32_ps(a)
#define vf_asi(a) _mm256_castps_si256(a)
#define vi_asf(a) _mm256_castsi256_ps(a)
#define vi_set1(x) _mm256_set1_epi32(x)
#define vi_add(a, b) _mm256_add_epi32((a), (b))
#define vi_sub(a, b) _mm256_sub_epi32((a), (b))
#define vi_and(a, b) _mm256_and_si256((a), (b))
#define vi_or(a, b) _mm256_or_si256((a), (b))
#define vi_xor(a, b) _mm256_xor_si256((a), (b))
#define vi_shl(a, n) _mm256_slli_epi32((a), (n))
#define vi_shr(a, n) _mm256_srli_epi32((a), (n))
#define vi_sar(a, n) _mm256_srai_epi32((a), (n))
#define vf_even(a, b) \
    _mm256_castpd_ps( \
        _mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps((a), (b), 0x88)), 0xd8))

#elif defined(GANI_ISA_NEON)

#define GANI_ISA neon
#define GANI_ISA_NAME "neon"
#define VW 4
#define vf float32x4_t
#define vi int32x4_t
#define vm uint32x4_t
#define vf_load(p) vld1q_f32(p)
#define vf_store(p, a) vst1q_f32((p), (a))
#define vf_loadn(p, n) gani_loadn_neon((p), (n))
#define vf_storen(p, n, a) gani_storen_neon((p), (n), (a))
#define vf_set1(x) vdupq_n_f32(x)
#define vf_zero() vdupq_n_f32(0.0f)
#define vf_add(a, b) vaddq_f32((a), (b))
#define vf_sub(a, b) vsubq_f32((a), (b))
#define vf_mul(a, b) vmulq_f32((a), (b))
#define vf_div(a, b) vdivq_f32((a), (b))
#define vf_fma(a, b, c) vfmaq_f32((c), (a), (b))
#define vf_fnma(a, b, c) vfmsq_f32((c), (a), (b))
#define vf_max(a, b) vbslq_f32(vcgtq_f32((a), (b)), (a), (b))
#define vf_min(a, b) vbslq_f32(vcltq_f32((a), (b)), (a), (b))
#define vf_sqrt(a) vsqrtq_f32(a)
#define vf_gt(a, b) vcgtq_f32((a), (b))
#define vf_ge(a, b) vcgeq_f32((a), (b))
#define vf_eq(a, b) vceqq_f32((a), (b))
#define vf_isnan(a) vmvnq_u32(vceqq_f32((a), (a)))
#define vf_select(m, a, b) vbslq_f32((m), (a), (b))
#define vf_toint(a) vcvtnq_s32_f32(a)
#define vi_tof(a) vcvtq_f32_s32(a)
#define vf_asi(a) vreinterpretq_s32_f32(a)
#define vi_asf(a) vreinterpretq_f32_s32(a)
#define vi_set1(x) vdupq_n_s32(x)
#define vi_add(a, b) vaddq_s32((a), (b))
#define vi_sub(a, b) vsubq_s32((a), (b))
#define vi_and(a, b) vandq_s32((a), (b))
#define vi_or(a, b) vorrq_s32((a), (b))
#define vi_xor(a, b) veorq_s32((a), (b))
#define vi_shl(a, n) vshlq_n_s32((a), (n))
#define vi_shr(a, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), (n)))
#define vi_sar(a, n) vshrq_n_s32((a), (n))
#define vf_even(a, b) vuzp1q_f32((a), (b))

static vf gani_loadn_neon(const float *p, int n) {
    float lane[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < n; i++) {
        lane[i] = p[i];
    }
    return vld1q_f32(lane);
}

static void gani_storen_neon(float *p, int n, vf a) {
    float lane[4];
    vst1q_f32(lane, a);
    for (int i = 0; i < n; i++) {
        p[i] = lane[i];
    }
}

#elif defined(GANI_ISA_SCALAR)

#define GANI_ISA scalar
#define GANI_ISA_NAME "scalar"
#define VW 1
#define vf float
#define vi int32_t
#define vm int
#define vf_load(p) (*(p))
#define vf_store(p, a) (*(p) = (a))
#define vf_loadn(p, n) ((n) > 0 ? *(p) : 0.0f)
#define vf_storen(p, n, a)  \
    do {                    \
        if ((n) > 0) {      \
            *(p) = (a);     \
        }                   \
    } while (0)
#define vf_set1(x) (x)
#define vf_zero() 0.0f
#define vf_add(a, b) ((a) + (b))
#define vf_sub(a, b) ((a) - (b))
#define vf_mul(a, b) ((a) * (b))
#define vf_div(a, b) ((a) / (b))
#define vf_fma(a, b, c) ((a) * (b) + (c))
#define vf_fnma(a, b, c) ((c) - (a) * (b))
#define vf_max(a, b) ((a) > (b) ? (a) : (b))
#define vf_min(a, b) ((a) < (b) ? (a) : (b))
#define vf_sqrt(a) sqrtf(a)
#define vf_gt(a, b) ((a) > (b))
#define vf_ge(a, b) ((a) >= (b))
#define vf_eq(a, b) ((a) == (b))
#define vf_isnan(a) ((a) != (a))
#define vf_select(m, a, b) ((m) ? (a) : (b))
#define vf_toint(a) ((int32_t)lrintf(a))
#define vi_tof(a) ((float)(a))
#define vf_asi(a) gani_float_bits_scalar(a)
#define vi_asf(a) gani_bits_float_scalar(a)
#define vi_set1(x) ((int32_t)(x))
#define vi_add(a, b) ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define vi_sub(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)))
#define vi_and(a, b) ((a) & (b))
#define vi_or(a, b) ((a) | (b))
#define vi_xor(a, b) ((a) ^ (b))
#define vi_shl(a, n) ((int32_t)((uint32_t)(a) << (n)))
#define vi_shr(a, n) ((int32_t)((uint32_t)(a) >> (n)))
#define vi_sar(a, n) ((a) >> (n))
#define vf_even(a, b) ((void)(b), (a))

static int32_t gani_float_bits_scalar(float a) {
    int32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

static float gani_bits_float_scalar(int32_t bits) {
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}

#endif

/* Halves added pairwise: a fixed order, and a small error. */
static float GANI_FN(gani_hsum)(vf a) {
#if defined(GANI_ISA_SCALAR)
    return a;
#else
    float lane[4];
#if defined(GANI_ISA_AVX512)
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    _mm_storeu_ps(lane, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif defined(GANI_ISA_AVX2)
    _mm_storeu_ps(lane, _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)));
#else
    vf_store(lane, a);
#endif
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
#endif
}

static float GANI_FN(gani_hmax)(vf a) {
    float lane[VW];
    vf_store(lane, a);
    float best = lane[0];
    for (int i = 1; i < VW; i++) {
        best = lane[i] > best ? lane[i] : best;
    }
    return best;
}
/* out[j*ld + i] = row i [j] for 4 rows and 4 columns. */
static void GANI_FN(gani_transpose4)(const float *r0, const float *r1, const float *r2,
                                     const float *r3, float *out, ptrdiff_t ld) {
#if defined(GANI_ISA_AVX2) || defined(GANI_ISA_AVX512)
    const __m128 a = _mm_loadu_ps(r0), b = _mm_loadu_ps(r1), c = _mm_loadu_ps(r2),
                 d = _mm_loadu_ps(r3);
    const __m128 ab = _mm_unpacklo_ps(a, b), cd = _mm_unpacklo_ps(c, d);
    const __m128 ab2 = _mm_unpackhi_ps(a, b), cd2 = _mm_unpackhi_ps(c, d);
    _mm_storeu_ps(out, _mm_movelh_ps(ab, cd));
    _mm_storeu_ps(out + ld, _mm_movehl_ps(cd, ab));
    _mm_storeu_ps(out + 2 * ld, _mm_movelh_ps(ab2, cd2));
    _mm_storeu_ps(out + 3 * ld, _mm_movehl_ps(cd2, ab2));
#elif defined(GANI_ISA_NEON)
    const float32x4x2_t ab = vtrnq_f32(vld1q_f32(r0), vld1q_f32(r1));
    const float32x4x2_t cd = vtrnq_f32(vld1q_f32(r2), vld1q_f32(r3));
    vst1q_f32(out, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0])));
    vst1q_f32(out + ld, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1])));
    vst1q_f32(out + 2 * ld, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0])));
    vst1q_f32(out + 3 * ld, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1])));
#else
    for (int j = 0; j < 4; j++) {
        out[j * ld] = r0[j];
        out[j * ld + 1] = r1[j];
        out[j * ld + 2] = r2[j];
        out[j * ld + 3] = r3[j];
    }
#endif
}

/* The same for 4 rows and 8 columns. */
static void GANI_FN(gani_transpose8)(const float *r0, const float *r1, const float *r2,
                                     const float *r3, float *out, ptrdiff_t ld) {
#if defined(GANI_ISA_AVX2) || defined(GANI_ISA_AVX512)
    const __m256 a = _mm256_loadu_ps(r0), b = _mm256_loadu_ps(r1);
    const __m256 c = _mm256_loadu_ps(r2), d = _mm256_loadu_ps(r3);
    const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
    const __m256 ab2 = _mm256_unpackhi_ps(a, b), cd2 = _mm256_unpackhi_ps(c, d);
    const __m256 c04 = _mm256_shuffle_ps(ab, cd, 0x44), c15 = _mm256_shuffle_ps(ab, cd, 0xee);
    const __m256 c26 = _mm256_shuffle_ps(ab2, cd2, 0x44), c37 = _mm256_shuffle_ps(ab2, cd2, 0xee);
    _mm_storeu_ps(out, _mm256_castps256_ps128(c04));
    _mm_storeu_ps(out + ld, _mm256_castps256_ps128(c15));
    _mm_storeu_ps(out + 2 * ld, _mm256_castps256_ps128(c26));
    _mm_storeu_ps(out + 3 * ld, _mm256_castps256_ps128(c37));
    _mm_storeu_ps(out + 4 * ld, _mm256_extractf128_ps(c04, 1));
    _mm_storeu_ps(out + 5 * ld, _mm256_extractf128_ps(c15, 1));
    _mm_storeu_ps(out + 6 * ld, _mm256_extractf128_ps(c26, 1));
    _mm_storeu_ps(out + 7 * ld, _mm256_extractf128_ps(c37, 1));
#else
    GANI_FN(gani_transpose4)(r0, r1, r2, r3, out, ld);
    GANI_FN(gani_transpose4)(r0 + 4, r1 + 4, r2 + 4, r3 + 4, out + 4 * ld, ld);
#endif
}

/* out[j*out_ld + i] = in[i*in_ld + j] for 8 rows and 8 columns. */
static void GANI_FN(gani_transpose8x8)(const float *in, ptrdiff_t in_ld, float *out,
                                       ptrdiff_t out_ld) {
#if defined(GANI_ISA_AVX2) || defined(GANI_ISA_AVX512)
    GANI_UNROLL
    for (int c = 0; c < 2;
         c++) { /* columns 4c ... 4c+3: rows r and r+4 side by side, then 4x4 in each half */
        __m256 row[4], pair[4], column[4];
        GANI_UNROLL
        for (int r = 0; r < 4; r++) {
            row[r] =
                _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(in + r * in_ld + 4 * c)),
                                     _mm_loadu_ps(in + (r + 4) * in_ld + 4 * c), 1);
        }
        pair[0] = _mm256_unpacklo_ps(row[0], row[1]);
        pair[1] = _mm256_unpackhi_ps(row[0], row[1]);
        pair[2] = _mm256_unpacklo_ps(row[2], row[3]);
        pair[3] = _mm256_unpackhi_ps(row[2], row[3]);
        column[0] = _mm256_shuffle_ps(pair[0], pair[2], 0x44);
        column[1] = _mm256_shuffle_ps(pair[0], pair[2], 0xee);
        column[2] = _mm256_shuffle_ps(pair[1], pair[3], 0x44);
        column[3] = _mm256_shuffle_ps(pair[1], pair[3], 0xee);
        GANI_UNROLL
        for (int r = 0; r < 4; r++) {
            _mm256_storeu_ps(out + (4 * c + r) * out_ld, column[r]);
        }
    }
#else
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 8; j += 4) {
            const float *at = in + i * in_ld + j;
            GANI_FN(gani_transpose4)
            (at, at + in_ld, at + 2 * in_ld, at + 3 * in_ld, out + j * out_ld + i, out_ld);
        }
    }
#endif
}
#define vf_transpose8x8(in, in_ld, out, out_ld) \
    GANI_FN(gani_transpose8x8)((in), (in_ld), (out), (out_ld))
#define vf_transpose8(r0, r1, r2, r3, out, ld) \
    GANI_FN(gani_transpose8)((r0), (r1), (r2), (r3), (out), (ld))
#define vf_transpose4(r0, r1, r2, r3, out, ld) \
    GANI_FN(gani_transpose4)((r0), (r1), (r2), (r3), (out), (ld))
#define vf_hsum(a) GANI_FN(gani_hsum)(a)
#define vf_hmax(a) GANI_FN(gani_hmax)(a)

/* ============================================================================
 * >>kernels-gemm  3.2  REGISTER-TILED MATRIX KERNELS AND PACKING
 *
 * c = a * b, a block at a time. A tile of c, GANI_MR rows by GANI_NV vectors, stays in registers
 * while k runs:
 *
 *     for p in 0..k:  for i in rows:  for j in columns:  c[i][j] += a[p][i] * b[p][j]
 *
 * a is always packed into panels [k][rows], so that a step reads neighbours. b is read through
 * pointers: vector v of step p is at b[v] + step[p]. A packed panel [k][cols] has step[p] = p*cols;
 * a matrix or an image whose columns are neighbours in memory is read where it lies, and then the
 * steps are the offsets of its rows (of its channels and taps). One kernel serves both.
 *
 * Contract: gemm_block owns nothing, packs nothing, and needs no alignment. Columns beyond n in the
 * last vector must be readable (packed panels are padded with zeros; unpacked ones are used for
 * whole vectors only). c is read only if beta is not 0, written once, at c_row[i] + c_col[j].
 * Every element starts as beta*c and adds the products over p in order, whatever tile it is in, so
 * cutting m and n otherwise, or k into several calls, does not change a bit.
 *
 * Holds:  tiles, dot products, epilogue, packing.
 * Uses:   >>simd        Knows nothing of: caches, threads, convolutions.
 * ========================================================================= */
#endif /* GANI_INSTANCE */

#if !defined(GANI_INSTANCE) && !defined(GANI_GEMM_TYPES)
#define GANI_GEMM_TYPES

/* Sizes of the panels for a product with m rows: rows of a, columns of b. */
typedef struct gani_tile {
    int rows, cols;
} gani_tile;

/* A block of a product, ready for the kernels; VW is the instruction set's vector. */
typedef struct gani_block {
    int m, n, k;
    gani_tile panel;
    const float *a;               /* panels of panel.rows (the last fewer) rows, each [k][rows] */
    const float *const *b;        /* [n/VW rounded up] first step of each vector of columns */
    const ptrdiff_t *const *step; /* [n/panel.cols rounded up] steps [k] of each panel */
    float *tile; /* scratch [panel.rows][panel.cols], and for dot products [m][VW] */
    float *c;
    const ptrdiff_t *c_row, *c_col;   /* [m] [n] offsets in c */
    const unsigned char *c_whole;     /* [n/VW rounded up] 1: VW columns that are neighbours in c */
    float beta;                       /* c = act(beta * c + sum + bias) */
    const float *bias_row, *bias_col; /* [m] [n] or NULL */
    gani_act act;
    /* for activations that are not done in registers */
    void (*activate)(float *x, size_t n, int kind, float slope);
} gani_block;

#endif

#ifdef GANI_INSTANCE

/* Tile sizes: GANI_MR * GANI_NV accumulators, GANI_NV vectors of b and one of a fit the registers.
 * Products of few rows use tiles GANI_WIDE_NV vectors wide instead, up to GANI_WIDE_MR rows. Dot
 * products are computed 4 by GANI_DOT_N. */
#if defined(GANI_ISA_AVX512) || defined(GANI_ISA_NEON)
#define GANI_REGISTERS 32
#define GANI_MR        8
#define GANI_NV        3
#define GANI_WIDE_MR   4
#define GANI_WIDE_NV   6
#define GANI_DOT_N     4
#elif defined(GANI_ISA_AVX2)
#define GANI_REGISTERS 16
#define GANI_MR        6
#define GANI_NV        2
#define GANI_WIDE_MR   3
#define GANI_WIDE_NV   4
#define GANI_DOT_N     3
#else
#define GANI_REGISTERS 16
#define GANI_MR        4
#define GANI_NV        3
#define GANI_WIDE_MR   1
#define GANI_WIDE_NV   8
#define GANI_DOT_N     1
#endif

/* One step of a tile. The vectors of b stay in registers while a passes, unless there are too
 * few of them: then it is the other way round. */
#define GANI_TILE_STEP(M, V)                                  \
    if (M < V && M * V + V + 1 > GANI_REGISTERS) {            \
        vf scale[M];                                          \
        GANI_UNROLL                                           \
        for (int i = 0; i < M; i++) {                         \
            scale[i] = vf_set1(a[i]);                         \
        }                                                     \
        GANI_UNROLL                                           \
        for (int v = 0; v < V; v++) {                         \
            const vf row = vf_load(base[v] + step[p]);        \
            GANI_UNROLL                                       \
            for (int i = 0; i < M; i++) {                     \
                sum[i][v] = vf_fma(scale[i], row, sum[i][v]); \
            }                                                 \
        }                                                     \
    } else {                                                  \
        vf row[V];                                            \
        GANI_UNROLL                                           \
        for (int v = 0; v < V; v++) {                         \
            row[v] = vf_load(base[v] + step[p]);              \
        }                                                     \
        GANI_UNROLL                                           \
        for (int i = 0; i < M; i++) {                         \
            const vf scale = vf_set1(a[i]);                   \
            GANI_UNROLL                                       \
            for (int v = 0; v < V; v++) {                     \
                sum[i][v] = vf_fma(scale, row[v], sum[i][v]); \
            }                                                 \
        }                                                     \
    }

/* out[v][i*ld + lane] += (add) or = the sum over p of a[p][i] * b[v][step[p] + lane], for V
 * vectors of columns. */
#define GANI_DEFINE_TILE(M, V)                                                             \
    static void GANI_FN(gani_tile_##M##x##V)(int k, const float *a, const float *const *b, \
                                             const ptrdiff_t *step, float *const *out,     \
                                             ptrdiff_t ld, int add) {                      \
        vf sum[M][V];                                                                      \
        const float *base[V];                                                              \
        GANI_UNROLL                                                                        \
        for (int v = 0; v < V; v++) {                                                      \
            base[v] = b[v];                                                                \
            GANI_UNROLL                                                                    \
            for (int i = 0; i < M; i++) {                                                  \
                sum[i][v] = add ? vf_load(out[v] + i * ld) : vf_zero();                    \
            }                                                                              \
        }                                                                                  \
        for (int p = 0; p < k; p++, a += M) {                                              \
            GANI_TILE_STEP(M, V)                                                           \
        }                                                                                  \
        GANI_UNROLL                                                                        \
        for (int v = 0; v < V; v++) {                                                      \
            GANI_UNROLL                                                                    \
            for (int i = 0; i < M; i++) {                                                  \
                vf_store(out[v] + i * ld, sum[i][v]);                                      \
            }                                                                              \
        }                                                                                  \
    }

typedef void (*GANI_FN(gani_tile_fn))(int k, const float *a, const float *const *b,
                                      const ptrdiff_t *step, float *const *out, ptrdiff_t ld,
                                      int add);

#define GANI_TILE_NAME(M, V) GANI_FN(gani_tile_##M##x##V)
#if GANI_NV == 3
#define GANI_DEFINE_TILES(M) GANI_DEFINE_TILE(M, 1) GANI_DEFINE_TILE(M, 2) GANI_DEFINE_TILE(M, 3)
#define GANI_TILE_ROW(M)     {GANI_TILE_NAME(M, 1), GANI_TILE_NAME(M, 2), GANI_TILE_NAME(M, 3)},
#else
#define GANI_DEFINE_TILES(M) GANI_DEFINE_TILE(M, 1) GANI_DEFINE_TILE(M, 2)
#define GANI_TILE_ROW(M)     {GANI_TILE_NAME(M, 1), GANI_TILE_NAME(M, 2)},
#endif
#if GANI_MR == 8
#define GANI_MR_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#elif GANI_MR == 6
#define GANI_MR_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define GANI_MR_LIST(X) X(1) X(2) X(3) X(4)
#endif
#if GANI_WIDE_MR == 4
#define GANI_WIDE_LIST(X) X(1, 6) X(2, 6) X(3, 6) X(4, 6)
#elif GANI_WIDE_MR == 3
#define GANI_WIDE_LIST(X) X(1, 4) X(2, 4) X(3, 4)
#else
#define GANI_WIDE_LIST(X) X(1, 8)
#endif

GANI_MR_LIST(GANI_DEFINE_TILES)
GANI_WIDE_LIST(GANI_DEFINE_TILE)

static const GANI_FN(gani_tile_fn)
    GANI_FN(gani_tiles)[GANI_MR][GANI_NV] = {GANI_MR_LIST(GANI_TILE_ROW)};

#define GANI_TILE_ENTRY(M, V) GANI_TILE_NAME(M, V),
static const GANI_FN(gani_tile_fn)
    GANI_FN(gani_wide_tiles)[GANI_WIDE_MR] = {GANI_WIDE_LIST(GANI_TILE_ENTRY)};

static gani_tile GANI_FN(gani_gemm_panel)(int m) {
    gani_tile panel;
    panel.rows = GANI_MR;
    panel.cols = (m <= GANI_WIDE_MR ? GANI_WIDE_NV : GANI_NV) * VW;
    return panel;
}

/* tile[m][ld] = beta * c, of rows i ... and columns j ... (j a multiple of VW); c is not read if
 * beta is 0. */
static void GANI_FN(gani_gemm_load)(const gani_block *s, float *tile, ptrdiff_t ld, int i, int m,
                                    int j, int n) {
    for (int r = 0; r < m; r++, tile += ld) {
        const float *c = s->c + s->c_row[i + r];
        for (int v = 0; v < n; v += VW) {
            const int lanes = n - v < VW ? n - v : VW;
            const ptrdiff_t *at = s->c_col + j + v;
            if (s->beta == 0.0f) {
                vf_store(tile + v, vf_zero());
            } else if (s->c_whole[(j + v) / VW]) {
                vf_store(tile + v, vf_mul(vf_set1(s->beta), vf_load(c + at[0])));
            } else {
                for (int lane = 0; lane < VW; lane++) {
                    tile[v + lane] = lane < lanes ? s->beta * c[at[lane]] : 0.0f;
                }
            }
        }
    }
}

/* x[n] + bias, and leaky ReLU if it is that; other activations by their own kernel. */
static void GANI_FN(gani_finish_row)(const gani_block *s, float *x, int i, int j, int n) {
    const vf slope = vf_set1(s->act.slope), bias = vf_set1(s->bias_row ? s->bias_row[i] : 0.0f);
    for (int v = 0; v < n; v += VW) {
        vf value = vf_add(vf_load(x + v), bias);
        if (s->bias_col) {
            value = vf_add(value, vf_loadn(s->bias_col + j + v, n - v < VW ? n - v : VW));
        }
        if (s->act.kind == GAN_ACT_LEAKY_RELU) {
            value = vf_select(vf_gt(value, vf_zero()), value, vf_mul(slope, value));
        }
        vf_store(x + v, value);
    }
    if (s->act.kind != GAN_ACT_NONE && s->act.kind != GAN_ACT_LEAKY_RELU) {
        s->activate(x, (size_t)n, s->act.kind, s->act.slope);
    }
}

static int GANI_FN(gani_has_epilogue)(const gani_block *s) {
    return s->bias_row || s->bias_col || s->act.kind != GAN_ACT_NONE;
}

/* c = act(tile + bias), for the same rows and columns. Changes tile. */
static void GANI_FN(gani_gemm_store)(const gani_block *s, float *tile, ptrdiff_t ld, int i, int m,
                                     int j, int n) {
    for (int r = 0; r < m; r++, tile += ld) {
        float *c = s->c + s->c_row[i + r];
        if (GANI_FN(gani_has_epilogue)(s)) {
            GANI_FN(gani_finish_row)(s, tile, i + r, j, n);
        }
        for (int v = 0; v < n; v += VW) {
            const int lanes = n - v < VW ? n - v : VW;
            const ptrdiff_t *at = s->c_col + j + v;
            if (s->c_whole[(j + v) / VW]) {
                vf_store(c + at[0], vf_load(tile + v));
                continue;
            }
            for (int lane = 0; lane < lanes; lane++) {
                c[at[lane]] = tile[v + lane];
            }
        }
    }
}

/* 1 if the sums of rows i ... i+m-1 and columns j ... j+n-1 can stay in c from the start: whole
 * vectors, rows equally far apart, nothing to do but add. */
static int GANI_FN(gani_sums_in_c)(const gani_block *s, int i, int m, int j, int n) {
    int yes = n % VW == 0 && (s->beta == 0.0f || s->beta == 1.0f) && !GANI_FN(gani_has_epilogue)(s);
    for (int r = 2; r < m && yes; r++) {
        yes = s->c_row[i + r] - s->c_row[i + r - 1] == s->c_row[i + 1] - s->c_row[i];
    }
    for (int v = 0; v < n && yes; v += VW) {
        yes = s->c_whole[(j + v) / VW];
    }
    return yes;
}

/* One tile: a panel of a times a panel of b. */
static void GANI_FN(gani_gemm_tile)(const gani_block *s, const float *a, int i, int m, int j,
                                    int n) {
    const int vectors = (n + VW - 1) / VW, in_c = GANI_FN(gani_sums_in_c)(s, i, m, j, n);
    const ptrdiff_t *step = s->step[j / s->panel.cols];
    const ptrdiff_t ld = !in_c ? s->panel.cols : m > 1 ? s->c_row[i + 1] - s->c_row[i] : 0;
    float *out[GANI_WIDE_NV];
    for (int v = 0; v < vectors; v++) {
        out[v] = in_c ? s->c + s->c_row[i] + s->c_col[j + v * VW] : s->tile + v * VW;
    }
    if (!in_c && s->beta != 0.0f) {
        GANI_FN(gani_gemm_load)(s, s->tile, ld, i, m, j, n);
    }
    for (int v = 0, width; v < vectors; v += width) {
        const float *const *b = s->b + j / VW + v;
        width = vectors - v;
        if (width == GANI_WIDE_NV && m <= GANI_WIDE_MR) {
            GANI_FN(gani_wide_tiles)[m - 1](s->k, a, b, step, out, ld, s->beta != 0.0f);
        } else {
            width = width < GANI_NV ? width : GANI_NV;
            GANI_FN(gani_tiles)[m - 1][width - 1](s->k, a, b, step, out + v, ld, s->beta != 0.0f);
        }
    }
    if (!in_c) {
        GANI_FN(gani_gemm_store)(s, s->tile, ld, i, m, j, n);
    }
}

/* A panel of a stays in the first cache while the panels of b pass. */
static void GANI_FN(gani_gemm_block)(const gani_block *s) {
    for (int i = 0; i < s->m; i += s->panel.rows) {
        const int m = s->m - i < s->panel.rows ? s->m - i : s->panel.rows;
        for (int j = 0; j < s->n; j += s->panel.cols) {
            const int n = s->n - j < s->panel.cols ? s->n - j : s->panel.cols;
            GANI_FN(gani_gemm_tile)(s, s->a + (ptrdiff_t)i * s->k, i, m, j, n);
        }
    }
}

/* Lanes that are neighbours in groups: whole vectors, then fours, then single ones. */
static void GANI_FN(gani_pack_runs)(float *out, int width, const float *base, const ptrdiff_t *lane,
                                    int lanes, int group, const ptrdiff_t *step, int k) {
    for (int p = 0; p < k; p++, out += width) {
        const float *in = base + step[p];
        int i = 0;
        for (; group == VW && i + VW <= lanes; i += VW) {
            vf_store(out + i, vf_load(in + lane[i]));
        }
        for (; group >= 4 && i + 4 <= lanes; i += 4) {
            memcpy(out + i, in + lane[i], 4 * sizeof *out);
        }
        for (; i < lanes; i++) {
            out[i] = in[lane[i]];
        }
        for (; i < width; i++) {
            out[i] = 0.0f;
        }
    }
}

/* Steps that are neighbours in fours: 4 lanes at a time are transposed. */
static void GANI_FN(gani_pack_transposed)(float *out, int width, const float *base,
                                          const ptrdiff_t *lane, int lanes, const ptrdiff_t *step,
                                          int k) {
    int i = 0;
    for (; i + 4 <= lanes; i += 4) {
        const float *r0 = base + lane[i], *r1 = base + lane[i + 1];
        const float *r2 = base + lane[i + 2], *r3 = base + lane[i + 3];
        float *to = out + i;
        int p = 0;
        for (int steps; p + 4 <= k; p += steps, to += (ptrdiff_t)steps * width) {
            const ptrdiff_t at = step[p];
            if (p + 8 <= k && step[p + 4] == at + 4) {
                vf_transpose8(r0 + at, r1 + at, r2 + at, r3 + at, to, width);
                steps = 8;
            } else {
                vf_transpose4(r0 + at, r1 + at, r2 + at, r3 + at, to, width);
                steps = 4;
            }
        }
        for (; p < k; p++, to += width) {
            to[0] = r0[step[p]];
            to[1] = r1[step[p]];
            to[2] = r2[step[p]];
            to[3] = r3[step[p]];
        }
    }
    for (; i < width; i++) {
        for (int p = 0; p < k; p++) {
            out[(ptrdiff_t)p * width + i] = i < lanes ? base[step[p] + lane[i]] : 0.0f;
        }
    }
}

/* out[r*out_ld + i] = in[r*in_ld + i*stride] for r < rows, i < n. */
static void GANI_FN(gani_gemm_copy)(float *out, ptrdiff_t out_ld, const float *in, ptrdiff_t in_ld,
                                    int stride, int rows, int n) {
    for (int r = 0; r < rows; r++, out += out_ld, in += in_ld) {
        int i = 0;
        if (stride == 1) {
            for (; i + VW <= n; i += VW) {
                vf_store(out + i, vf_load(in + i));
            }
        }
        if (stride == 2) { /* the last vector would read one float too many */
            for (; i + VW < n; i += VW) {
                vf_store(out + i, vf_even(vf_load(in + 2 * i), vf_load(in + 2 * i + VW)));
            }
        }
        for (; i < n; i++) {
            out[i] = in[i * stride];
        }
    }
}

/* Packs a panel: out[p][i] = base[step[p] + lane[i]] for i < lanes, 0 up to width; p < k. Lanes
 * are the rows of a panel of a or the columns of a panel of b; group says which of them are
 * neighbours in memory, see gani_group. */
static void GANI_FN(gani_gemm_pack)(float *out, int width, const float *base, const ptrdiff_t *lane,
                                    int lanes, const ptrdiff_t *step, int k, int group) {
    if (group == 0) {
        GANI_FN(gani_pack_transposed)(out, width, base, lane, lanes, step, k);
    } else {
        GANI_FN(gani_pack_runs)(out, width, base, lane, lanes, group, step, k);
    }
}

/* A step of M rows by N columns of dot products, over VW elements loaded by LOAD(p). */
#define GANI_DOTS_STEP(M, N, LOAD)                             \
    do {                                                       \
        vf column[N];                                          \
        GANI_UNROLL                                            \
        for (int j = 0; j < N; j++) {                          \
            column[j] = LOAD(b[j] + p);                        \
        }                                                      \
        GANI_UNROLL                                            \
        for (int i = 0; i < M; i++) {                          \
            const vf row = LOAD(a + i * (ptrdiff_t)k + p);     \
            GANI_UNROLL                                        \
            for (int j = 0; j < N; j++) {                      \
                sum[i][j] = vf_fma(row, column[j], sum[i][j]); \
            }                                                  \
        }                                                      \
    } while (0)
#define GANI_DOTS_LOAD_LAST(at) vf_loadn((at), k - p)

/* out[M][VW] += a[M][k] * b[j][k], j < N. */
#define GANI_DEFINE_DOTS(NAME, M, N)                                                      \
    static void GANI_FN(NAME)(int k, const float *a, const float *const *b, float *out) { \
        vf sum[M][N];                                                                     \
        int p = 0;                                                                        \
        GANI_UNROLL                                                                       \
        for (int i = 0; i < M; i++) {                                                     \
            GANI_UNROLL                                                                   \
            for (int j = 0; j < N; j++) {                                                 \
                sum[i][j] = vf_zero();                                                    \
            }                                                                             \
        }                                                                                 \
        for (; p + VW <= k; p += VW) {                                                    \
            GANI_DOTS_STEP(M, N, vf_load);                                                \
        }                                                                                 \
        if (p < k) {                                                                      \
            GANI_DOTS_STEP(M, N, GANI_DOTS_LOAD_LAST);                                    \
        }                                                                                 \
        GANI_UNROLL                                                                       \
        for (int i = 0; i < M; i++) {                                                     \
            GANI_UNROLL                                                                   \
            for (int j = 0; j < N; j++) {                                                 \
                out[i * VW + j] += vf_hsum(sum[i][j]);                                    \
            }                                                                             \
        }                                                                                 \
    }

GANI_DEFINE_DOTS(gani_dots_1x1, 1, 1)
GANI_DEFINE_DOTS(gani_dots_1xn, 1, GANI_DOT_N)
GANI_DEFINE_DOTS(gani_dots_4x1, 4, 1)
GANI_DEFINE_DOTS(gani_dots_4xn, 4, GANI_DOT_N)

/* The same as gemm_block by dot products, where both operands have k in order: a [m][k], b[j]
 * points to column j. A few columns of b meet all rows of a before the next are read. */
static void GANI_FN(gani_gemm_dots)(const gani_block *s) {
    for (int v = 0; v < s->n; v += VW) {
        const int n = s->n - v < VW ? s->n - v : VW;
        GANI_FN(gani_gemm_load)(s, s->tile, VW, 0, s->m, v, n);
        for (int j = 0, cols; j < n; j += cols) {
            const float *const *b = s->b + v + j;
            cols = n - j >= GANI_DOT_N ? GANI_DOT_N : 1;
            for (int i = 0, rows; i < s->m; i += rows) {
                const float *a = s->a + (ptrdiff_t)i * s->k;
                float *out = s->tile + (ptrdiff_t)i * VW + j;
                rows = s->m - i >= 4 ? 4 : 1;
                if (rows == 4) {
                    (cols == 1 ? GANI_FN(gani_dots_4x1) : GANI_FN(gani_dots_4xn))(s->k, a, b, out);
                } else {
                    (cols == 1 ? GANI_FN(gani_dots_1x1) : GANI_FN(gani_dots_1xn))(s->k, a, b, out);
                }
            }
        }
        GANI_FN(gani_gemm_store)(s, s->tile, VW, 0, s->m, v, n);
    }
}

#undef GANI_REGISTERS
#undef GANI_MR
#undef GANI_NV
#undef GANI_WIDE_MR
#undef GANI_WIDE_NV
#undef GANI_TILE_STEP
#undef GANI_DEFINE_TILE
#undef GANI_TILE_NAME
#undef GANI_DEFINE_TILES
#undef GANI_TILE_ROW
#undef GANI_MR_LIST
#undef GANI_WIDE_LIST
#undef GANI_TILE_ENTRY
#undef GANI_DOT_N
#undef GANI_DOTS_STEP
#undef GANI_DOTS_LOAD_LAST
#undef GANI_DEFINE_DOTS

/* ============================================================================
 * >>kernels-winograd  3.3  TILE TRANSFORMS OF THE WINOGRAD CONVOLUTIONS
 *
 * Winograd 1980; Lavin and Gray 2016 (arXiv:1509.09308). Along one axis, 4 neighbouring
 * outputs of a filter of r taps,
 *
 *     y_k = sum over j  d_{k+j} * g_j,  k < 4,      y = At [(G g) (.) (Bt d)],
 *
 * cost r+3 multiplications instead of 4*r: a filter is a product of polynomials, which is
 * evaluated at r+3 points, and the points are multiplied. In two dimensions each matrix is applied
 * to columns, then to rows. With points p and the polynomial M(x), the product of (x - p) over the
 * finite points,
 *
 *     At[k][p] = p^k,   G[p][j] = p^j / M'(p),   Bt[p][l] = coefficient of x^l in M(x)/(x-p);
 *     at infinity: the last coefficient of y and of g, and M(x) itself.
 *
 * The points are +-3/8, +-5/4, infinity for 2 taps and 0, +-11/16, +-27/16, infinity for 3: of all
 * pairs of sixteenths, those with the least rounding error over the three passes, for random data
 * and for data all ones (the usual integers double it). A line is an even and an odd part, added
 * and subtracted. Gradients need the transposes of the three matrices.
 *
 * In the product of two polynomials it does not matter which is the filter: 3 outputs of 4 taps
 * are what 4 outputs of 3 taps are with G and A exchanged.
 *
 * Layout: GANI_WINO_LANES channels side by side, so that lanes never mix. Points are multiplied by
 * a small product whose rows lie GANI_WINO_CHUNK floats apart.
 *
 * Holds:  six transforms of two algorithms, the product of points, matrix transposition.
 * Uses:   >>simd        Knows nothing of: shapes, padding, threads.
 * ========================================================================= */
#endif /* GANI_INSTANCE */

#if !defined(GANI_INSTANCE) && !defined(GANI_WINO_TYPES)
#define GANI_WINO_TYPES

enum {
    GANI_WINO_LANES = 16, /* channels that are transformed together: a multiple of every vector */
    GANI_WINO_CHUNK = 64  /* floats of a row of points: four times as many */
};

/* The transforms; the second half are the transposes of the first, and add to what is there. */
enum {
    GANI_WINO_DATA,     /* Bt d B,  [r+3][r+3] to points [r+3][r+3] */
    GANI_WINO_MAP,      /* A y At,  [4][4] to points */
    GANI_WINO_WEIGHT,   /* G g Gt,  [r][r] to points */
    GANI_WINO_DATA_T,   /* B m Bt,  points to [r+3][r+3] */
    GANI_WINO_MAP_T,    /* At m A,  points to [4][4] */
    GANI_WINO_WEIGHT_T, /* Gt m G,  points to [r][r] */
    GANI_WINO_KINDS
};

/* Some squares of GANI_WINO_LANES floats each, in floats: element (i,j) of square t is at t*step +
 * i*row + j*col. */
typedef struct gani_wino_move {
    const float *in;
    float *out;
    ptrdiff_t in_row, in_col, in_step, out_row, out_col, out_step;
    int count;
} gani_wino_move;

#endif

#ifdef GANI_INSTANCE

/* y[i], y[i+1] = even + p*odd, even - p*odd */
#define GANI_WINO_PAIR(y, i, even, odd, p)                                                         \
    do {                                                                                           \
        const vf pair_even = (even), pair_odd = (odd);                                             \
        y[i] = vf_fma(vf_set1(p), pair_odd, pair_even);                                            \
        y[i + 1] = vf_fnma(vf_set1(p), pair_odd, pair_even);                                       \
    } while (0)

/* s*a + t*b */
#define GANI_WINO_MIX(s, a, t, b) vf_fma(vf_set1(s), (a), vf_mul(vf_set1(t), (b)))

/* (x^2 - A^2)(x^2 - B^2): u4 - (A^2+B^2) u2 + A^2 B^2 u0 */
#define GANI_WINO_QUARTIC(u0, u2, u4, A, B)                                                        \
    vf_fma(vf_set1((A) * (A) * (B) * (B)), (u0),                                                   \
           vf_fnma(vf_set1((A) * (A) + (B) * (B)), (u2), (u4)))

/* Sums and differences of the pairs of points at m[i]. */
#define GANI_WINO_UNPAIR(m, i)                                                                     \
    const vf sum_a = vf_add(m[i], m[i + 1]), dif_a = vf_sub(m[i], m[i + 1]);                       \
    const vf sum_b = vf_add(m[i + 2], m[i + 3]), dif_b = vf_sub(m[i + 2], m[i + 3])

/* Two taps, points A, -A, B, -B, infinity; 1/M'(+-A) = +-NA. All but the last two are exact. */
#define GANI_WINO_2A 0.375f
#define GANI_WINO_2B 1.25f
#define GANI_WINO_2A2 (GANI_WINO_2A * GANI_WINO_2A)
#define GANI_WINO_2B2 (GANI_WINO_2B * GANI_WINO_2B)
#define GANI_WINO_2NA (1.0f / (2.0f * GANI_WINO_2A * (GANI_WINO_2A2 - GANI_WINO_2B2)))
#define GANI_WINO_2NB (1.0f / (2.0f * GANI_WINO_2B * (GANI_WINO_2B2 - GANI_WINO_2A2)))

#define GANI_WINO_LINE_DATA_2(x, y)                                                                \
    GANI_WINO_PAIR(y, 0, vf_fnma(vf_set1(GANI_WINO_2B2), x[1], x[3]),                              \
                   vf_fnma(vf_set1(GANI_WINO_2B2), x[0], x[2]), GANI_WINO_2A);                     \
    GANI_WINO_PAIR(y, 2, vf_fnma(vf_set1(GANI_WINO_2A2), x[1], x[3]),                              \
                   vf_fnma(vf_set1(GANI_WINO_2A2), x[0], x[2]), GANI_WINO_2B);                     \
    y[4] = GANI_WINO_QUARTIC(x[0], x[2], x[4], GANI_WINO_2A, GANI_WINO_2B)

#define GANI_WINO_LINE_MAP_2(x, y)                                                                 \
    GANI_WINO_PAIR(y, 0, vf_fma(vf_set1(GANI_WINO_2A2), x[2], x[0]),                               \
                   vf_fma(vf_set1(GANI_WINO_2A2), x[3], x[1]), GANI_WINO_2A);                      \
    GANI_WINO_PAIR(y, 2, vf_fma(vf_set1(GANI_WINO_2B2), x[2], x[0]),                               \
                   vf_fma(vf_set1(GANI_WINO_2B2), x[3], x[1]), GANI_WINO_2B);                      \
    y[4] = x[3]

#define GANI_WINO_LINE_WEIGHT_2(x, y)                                                              \
    GANI_WINO_PAIR(y, 0, vf_mul(vf_set1(GANI_WINO_2A *GANI_WINO_2NA), x[1]), x[0], GANI_WINO_2NA); \
    GANI_WINO_PAIR(y, 2, vf_mul(vf_set1(GANI_WINO_2B *GANI_WINO_2NB), x[1]), x[0], GANI_WINO_2NB); \
    y[4] = x[1]

#define GANI_WINO_LINE_DATA_T_2(x, y)                                                              \
    GANI_WINO_UNPAIR(x, 0);                                                                        \
    y[0] = vf_fnma(vf_set1(GANI_WINO_2A *GANI_WINO_2B2), dif_a,                                    \
                   GANI_WINO_MIX(-GANI_WINO_2B * GANI_WINO_2A2, dif_b,                             \
                                 GANI_WINO_2A2 *GANI_WINO_2B2, x[4]));                             \
    y[1] = GANI_WINO_MIX(-GANI_WINO_2B2, sum_a, -GANI_WINO_2A2, sum_b);                            \
    y[2] = vf_fma(vf_set1(GANI_WINO_2A), dif_a,                                                    \
                  GANI_WINO_MIX(GANI_WINO_2B, dif_b, -(GANI_WINO_2A2 + GANI_WINO_2B2), x[4]));     \
    y[3] = vf_add(sum_a, sum_b);                                                                   \
    y[4] = x[4]

#define GANI_WINO_LINE_MAP_T_2(x, y)                                                               \
    GANI_WINO_UNPAIR(x, 0);                                                                        \
    y[0] = vf_add(sum_a, sum_b);                                                                   \
    y[1] = GANI_WINO_MIX(GANI_WINO_2A, dif_a, GANI_WINO_2B, dif_b);                                \
    y[2] = GANI_WINO_MIX(GANI_WINO_2A2, sum_a, GANI_WINO_2B2, sum_b);                              \
    y[3] = vf_fma(vf_set1(GANI_WINO_2A *GANI_WINO_2A2), dif_a,                                     \
                  vf_fma(vf_set1(GANI_WINO_2B *GANI_WINO_2B2), dif_b, x[4]))

#define GANI_WINO_LINE_WEIGHT_T_2(x, y)                                                            \
    GANI_WINO_UNPAIR(x, 0);                                                                        \
    y[0] = GANI_WINO_MIX(GANI_WINO_2NA, dif_a, GANI_WINO_2NB, dif_b);                              \
    y[1] = vf_fma(vf_set1(GANI_WINO_2A *GANI_WINO_2NA), sum_a,                                     \
                  vf_fma(vf_set1(GANI_WINO_2B *GANI_WINO_2NB), sum_b, x[4]))

/* Three taps, points 0, A, -A, B, -B, infinity; 1/M'(0) = N0, 1/M'(+-A) = NA. */
#define GANI_WINO_3A 0.6875f
#define GANI_WINO_3B  1.6875f
#define GANI_WINO_3A2 (GANI_WINO_3A * GANI_WINO_3A)
#define GANI_WINO_3B2 (GANI_WINO_3B * GANI_WINO_3B)
#define GANI_WINO_3N0 (1.0f / (GANI_WINO_3A2 * GANI_WINO_3B2))
#define GANI_WINO_3NA (1.0f / (2.0f * GANI_WINO_3A2 * (GANI_WINO_3A2 - GANI_WINO_3B2)))
#define GANI_WINO_3NB (1.0f / (2.0f * GANI_WINO_3B2 * (GANI_WINO_3B2 - GANI_WINO_3A2)))

#define GANI_WINO_LINE_DATA_3(x, y)                                                                \
    y[0] = GANI_WINO_QUARTIC(x[0], x[2], x[4], GANI_WINO_3A, GANI_WINO_3B);                        \
    GANI_WINO_PAIR(y, 1, vf_fnma(vf_set1(GANI_WINO_3B2), x[2], x[4]),                              \
                   vf_fnma(vf_set1(GANI_WINO_3B2), x[1], x[3]), GANI_WINO_3A);                     \
    GANI_WINO_PAIR(y, 3, vf_fnma(vf_set1(GANI_WINO_3A2), x[2], x[4]),                              \
                   vf_fnma(vf_set1(GANI_WINO_3A2), x[1], x[3]), GANI_WINO_3B);                     \
    y[5] = GANI_WINO_QUARTIC(x[1], x[3], x[5], GANI_WINO_3A, GANI_WINO_3B)

#define GANI_WINO_LINE_MAP_3(x, y)                                                                 \
    y[0] = x[0];                                                                                   \
    GANI_WINO_PAIR(y, 1, vf_fma(vf_set1(GANI_WINO_3A2), x[2], x[0]),                               \
                   vf_fma(vf_set1(GANI_WINO_3A2), x[3], x[1]), GANI_WINO_3A);                      \
    GANI_WINO_PAIR(y, 3, vf_fma(vf_set1(GANI_WINO_3B2), x[2], x[0]),                               \
                   vf_fma(vf_set1(GANI_WINO_3B2), x[3], x[1]), GANI_WINO_3B);                      \
    y[5] = x[3]

#define GANI_WINO_LINE_WEIGHT_3(x, y)                                                              \
    y[0] = vf_mul(vf_set1(GANI_WINO_3N0), x[0]);                                                   \
    GANI_WINO_PAIR(y, 1, GANI_WINO_MIX(GANI_WINO_3A2 *GANI_WINO_3NA, x[2], GANI_WINO_3NA, x[0]),   \
                   x[1], GANI_WINO_3A *GANI_WINO_3NA);                                             \
    GANI_WINO_PAIR(y, 3, GANI_WINO_MIX(GANI_WINO_3B2 *GANI_WINO_3NB, x[2], GANI_WINO_3NB, x[0]),   \
                   x[1], GANI_WINO_3B *GANI_WINO_3NB);                                             \
    y[5] = x[2]

#define GANI_WINO_LINE_DATA_T_3(x, y)                                                              \
    GANI_WINO_UNPAIR(x, 1);                                                                        \
    y[0] = vf_mul(vf_set1(GANI_WINO_3A2 *GANI_WINO_3B2), x[0]);                                    \
    y[1] = vf_fnma(vf_set1(GANI_WINO_3A *GANI_WINO_3B2), dif_a,                                    \
                   GANI_WINO_MIX(-GANI_WINO_3B * GANI_WINO_3A2, dif_b,                             \
                                 GANI_WINO_3A2 *GANI_WINO_3B2, x[5]));                             \
    y[2] = vf_fnma(vf_set1(GANI_WINO_3B2), sum_a,                                                  \
                   GANI_WINO_MIX(-GANI_WINO_3A2, sum_b, -(GANI_WINO_3A2 + GANI_WINO_3B2), x[0]));  \
    y[3] = vf_fma(vf_set1(GANI_WINO_3A), dif_a,                                                    \
                  GANI_WINO_MIX(GANI_WINO_3B, dif_b, -(GANI_WINO_3A2 + GANI_WINO_3B2), x[5]));     \
    y[4] = vf_add(x[0], vf_add(sum_a, sum_b));                                                     \
    y[5] = x[5]

#define GANI_WINO_LINE_MAP_T_3(x, y)                                                               \
    GANI_WINO_UNPAIR(x, 1);                                                                        \
    y[0] = vf_add(x[0], vf_add(sum_a, sum_b));                                                     \
    y[1] = GANI_WINO_MIX(GANI_WINO_3A, dif_a, GANI_WINO_3B, dif_b);                                \
    y[2] = GANI_WINO_MIX(GANI_WINO_3A2, sum_a, GANI_WINO_3B2, sum_b);                              \
    y[3] = vf_fma(vf_set1(GANI_WINO_3A *GANI_WINO_3A2), dif_a,                                     \
                  vf_fma(vf_set1(GANI_WINO_3B *GANI_WINO_3B2), dif_b, x[5]))

#define GANI_WINO_LINE_WEIGHT_T_3(x, y)                                                            \
    GANI_WINO_UNPAIR(x, 1);                                                                        \
    y[0] = vf_fma(vf_set1(GANI_WINO_3N0), x[0],                                                    \
                  GANI_WINO_MIX(GANI_WINO_3NA, sum_a, GANI_WINO_3NB, sum_b));                      \
    y[1] = GANI_WINO_MIX(GANI_WINO_3A *GANI_WINO_3NA, dif_a, GANI_WINO_3B *GANI_WINO_3NB, dif_b);  \
    y[2] = vf_fma(vf_set1(GANI_WINO_3A2 *GANI_WINO_3NA), sum_a,                                    \
                  vf_fma(vf_set1(GANI_WINO_3B2 *GANI_WINO_3NB), sum_b, x[5]))

#define GANI_WINO_SET(at, value) vf_store((at), (value))
#define GANI_WINO_ADD(at, value) vf_store((at), vf_add(vf_load(at), (value)))

/* A line of FROM elements to one of TO, applied to the columns of a square, then to its rows. */
#define GANI_DEFINE_WINO(NAME, FROM, TO, LINE, PUT)                                                \
    static void GANI_FN(NAME)(const gani_wino_move *s) {                                           \
        for (int t = 0; t < s->count * GANI_WINO_LANES; t += VW) {                                 \
            const ptrdiff_t square = t / GANI_WINO_LANES, lane = t % GANI_WINO_LANES;              \
            const float *in = s->in + square * s->in_step + lane;                                  \
            float *out = s->out + square * s->out_step + lane;                                     \
            vf half[TO][FROM];                                                                     \
            GANI_UNROLL                                                                            \
            for (int j = 0; j < FROM; j++) {                                                       \
                vf x[FROM], y[TO];                                                                 \
                GANI_UNROLL                                                                        \
                for (int i = 0; i < FROM; i++) {                                                   \
                    x[i] = vf_load(in + i * s->in_row + j * s->in_col);                            \
                }                                                                                  \
                LINE(x, y);                                                                        \
                GANI_UNROLL                                                                        \
                for (int i = 0; i < TO; i++) {                                                     \
                    half[i][j] = y[i];                                                             \
                }                                                                                  \
            }                                                                                      \
            GANI_UNROLL                                                                            \
            for (int i = 0; i < TO; i++) {                                                         \
                vf y[TO];                                                                          \
                LINE(half[i], y);                                                                  \
                GANI_UNROLL                                                                        \
                for (int j = 0; j < TO; j++) {                                                     \
                    PUT(out + i * s->out_row + j * s->out_col, y[j]);                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

GANI_DEFINE_WINO(gani_wino_data_2, 5, 5, GANI_WINO_LINE_DATA_2, GANI_WINO_SET)
GANI_DEFINE_WINO(gani_wino_map_2, 4, 5, GANI_WINO_LINE_MAP_2, GANI_WINO_SET)
GANI_DEFINE_WINO(gani_wino_weight_2, 2, 5, GANI_WINO_LINE_WEIGHT_2, GANI_WINO_SET)
GANI_DEFINE_WINO(gani_wino_data_t_2, 5, 5, GANI_WINO_LINE_DATA_T_2, GANI_WINO_ADD)
GANI_DEFINE_WINO(gani_wino_map_t_2, 5, 4, GANI_WINO_LINE_MAP_T_2, GANI_WINO_ADD)
GANI_DEFINE_WINO(gani_wino_weight_t_2, 5, 2, GANI_WINO_LINE_WEIGHT_T_2, GANI_WINO_ADD)
GANI_DEFINE_WINO(gani_wino_data_3, 6, 6, GANI_WINO_LINE_DATA_3, GANI_WINO_SET)
GANI_DEFINE_WINO(gani_wino_map_3, 4, 6, GANI_WINO_LINE_MAP_3, GANI_WINO_SET)
GANI_DEFINE_WINO(gani_wino_weight_3, 3, 6, GANI_WINO_LINE_WEIGHT_3, GANI_WINO_SET)
GANI_DEFINE_WINO(gani_wino_data_t_3, 6, 6, GANI_WINO_LINE_DATA_T_3, GANI_WINO_ADD)
GANI_DEFINE_WINO(gani_wino_map_t_3, 6, 4, GANI_WINO_LINE_MAP_T_3, GANI_WINO_ADD)
GANI_DEFINE_WINO(gani_wino_weight_t_3, 6, 3, GANI_WINO_LINE_WEIGHT_T_3, GANI_WINO_ADD)

/* A transform of the algorithm with 5 or 6 points along an axis, for filters of 2 or 3 taps. */
static void GANI_FN(gani_wino_transform)(int points, int kind, const gani_wino_move *s) {
    static void (*const transforms[2][GANI_WINO_KINDS])(const gani_wino_move *) = {
        {GANI_FN(gani_wino_data_2), GANI_FN(gani_wino_map_2), GANI_FN(gani_wino_weight_2),
         GANI_FN(gani_wino_data_t_2), GANI_FN(gani_wino_map_t_2), GANI_FN(gani_wino_weight_t_2)},
        {GANI_FN(gani_wino_data_3), GANI_FN(gani_wino_map_3), GANI_FN(gani_wino_weight_3),
         GANI_FN(gani_wino_data_t_3), GANI_FN(gani_wino_map_t_3), GANI_FN(gani_wino_weight_t_3)}};
    transforms[points - 5][kind](s);
}

/* Accumulators of the product of points: GANI_WINO_MR rows by GANI_WINO_NV vectors. Chunks are cut
 * into multiples of 16 floats, so only vectors of 16 leave an edge. */
#define GANI_WINO_MR 6
#if defined(GANI_ISA_AVX2)
#define GANI_WINO_NV 2
#else
#define GANI_WINO_NV 4
#endif

/* out[i][v] += (add) or = sum over p of a[i*a_row + p*a_col] * b[p][v], for V vectors; rows of b
 * and out are a chunk apart. */
#define GANI_DEFINE_WINO_TILE(M, V)                                                                \
    static void GANI_FN(gani_wino_tile_##M##x##V)(int k, const float *a, ptrdiff_t a_row,          \
                                                  ptrdiff_t a_col, const float *b, float *out,     \
                                                  int add) {                                       \
        vf sum[M][V];                                                                              \
        GANI_UNROLL                                                                                \
        for (int i = 0; i < M; i++) {                                                              \
            GANI_UNROLL                                                                            \
            for (int v = 0; v < V; v++) {                                                          \
                sum[i][v] = vf_zero();                                                             \
            }                                                                                      \
        }                                                                                          \
        for (int p = 0; p < k; p++, a += a_col, b += GANI_WINO_CHUNK) {                            \
            vf row[V];                                                                             \
            GANI_UNROLL                                                                            \
            for (int v = 0; v < V; v++) {                                                          \
                row[v] = vf_load(b + v * VW);                                                      \
            }                                                                                      \
            GANI_UNROLL                                                                            \
            for (int i = 0; i < M; i++) {                                                          \
                const vf scale = vf_set1(a[i * a_row]);                                            \
                GANI_UNROLL                                                                        \
                for (int v = 0; v < V; v++) {                                                      \
                    sum[i][v] = vf_fma(scale, row[v], sum[i][v]);                                  \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        GANI_UNROLL                                                                                \
        for (int i = 0; i < M; i++) {                                                              \
            GANI_UNROLL                                                                            \
            for (int v = 0; v < V; v++) {                                                          \
                float *at = out + i * GANI_WINO_CHUNK + v * VW;                                    \
                vf_store(at, add ? vf_add(vf_load(at), sum[i][v]) : sum[i][v]);                    \
            }                                                                                      \
        }                                                                                          \
    }

typedef void (*GANI_FN(gani_wino_tile_fn))(int k, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                                           const float *b, float *out, int add);

#define GANI_WINO_TILE_NAME(M, V) GANI_FN(gani_wino_tile_##M##x##V)
#if defined(GANI_ISA_AVX512)
#define GANI_DEFINE_WINO_TILES(M)                                                                  \
    GANI_DEFINE_WINO_TILE(M, 1)                                                                    \
    GANI_DEFINE_WINO_TILE(M, 2) GANI_DEFINE_WINO_TILE(M, 3) GANI_DEFINE_WINO_TILE(M, 4)
#define GANI_WINO_TILE_ROW(M)                                                                      \
    {GANI_WINO_TILE_NAME(M, 1), GANI_WINO_TILE_NAME(M, 2), GANI_WINO_TILE_NAME(M, 3),              \
     GANI_WINO_TILE_NAME(M, 4)},
#elif defined(GANI_ISA_AVX2)
#define GANI_DEFINE_WINO_TILES(M) GANI_DEFINE_WINO_TILE(M, 2)
#define GANI_WINO_TILE_ROW(M) {NULL, GANI_WINO_TILE_NAME(M, 2)},
#else
#define GANI_DEFINE_WINO_TILES(M) GANI_DEFINE_WINO_TILE(M, 4)
#define GANI_WINO_TILE_ROW(M) {NULL, NULL, NULL, GANI_WINO_TILE_NAME(M, 4)},
#endif
#define GANI_WINO_MR_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6)

GANI_WINO_MR_LIST(GANI_DEFINE_WINO_TILES)

/* out[m][n] += (add) or = a * b: element (i,p) of a is at a[i*a_row + p*a_col], b is [k][n]; rows
 * of b and out are GANI_WINO_CHUNK floats apart; n is a multiple of GANI_WINO_LANES. Sums run over
 * p in order, whatever m and n. */
static void GANI_FN(gani_wino_product)(int m, int n, int k, const float *a, ptrdiff_t a_row,
                                       ptrdiff_t a_col, const float *b, float *out, int add) {
    static const GANI_FN(gani_wino_tile_fn)
        tiles[GANI_WINO_MR][GANI_WINO_NV] = {GANI_WINO_MR_LIST(GANI_WINO_TILE_ROW)};
    for (int j = 0, vectors; j < n; j += vectors * VW) {
        vectors = (n - j) / VW < GANI_WINO_NV ? (n - j) / VW : GANI_WINO_NV;
        for (int i = 0, rows; i < m; i += rows) {
            const int groups = (m - i + GANI_WINO_MR - 1) / GANI_WINO_MR; /* of nearly equal size */
            rows = (m - i + groups - 1) / groups;
            tiles[rows - 1][vectors - 1](k, a + i * a_row, a_row, a_col, b + j,
                                         out + (ptrdiff_t)i * GANI_WINO_CHUNK + j, add);
        }
    }
}

/* out[j*out_ld + i] = in[i*in_ld + j], i < rows, j < cols. */
static void GANI_FN(gani_wino_transpose)(const float *in, ptrdiff_t in_ld, int rows, int cols,
                                         float *out, ptrdiff_t out_ld) {
    for (int i = 0, height; i < rows; i += height, in += height * in_ld, out += height) {
        int j = 0;
        height = rows - i >= 8 ? 8 : rows - i >= 4 ? 4 : rows - i;
        for (; height == 8 && j + 8 <= cols; j += 8) {
            vf_transpose8x8(in + j, in_ld, out + j * out_ld, out_ld);
        }
        for (; height >= 4 && j + 4 <= cols; j += 4) {
            for (int r = 0; r < height; r += 4) {
                const float *at = in + r * in_ld + j;
                vf_transpose4(at, at + in_ld, at + 2 * in_ld, at + 3 * in_ld, out + j * out_ld + r,
                              out_ld);
            }
        }
        for (; j < cols; j++) {
            for (int r = 0; r < height; r++) {
                out[j * out_ld + r] = in[r * in_ld + j];
            }
        }
    }
}

/* x[count][GANI_WINO_LANES] += bias[GANI_WINO_LANES] */
static void GANI_FN(gani_wino_bias)(float *x, int count, const float *bias) {
    for (int v = 0; v < GANI_WINO_LANES; v += VW) {
        const vf shift = vf_load(bias + v);
        for (int i = 0; i < count; i++) {
            GANI_WINO_ADD(x + (ptrdiff_t)i * GANI_WINO_LANES + v, shift);
        }
    }
}

#undef GANI_WINO_PAIR
#undef GANI_WINO_MIX
#undef GANI_WINO_QUARTIC
#undef GANI_WINO_UNPAIR
#undef GANI_WINO_2A
#undef GANI_WINO_2B
#undef GANI_WINO_2A2
#undef GANI_WINO_2B2
#undef GANI_WINO_2NA
#undef GANI_WINO_2NB
#undef GANI_WINO_LINE_DATA_2
#undef GANI_WINO_LINE_MAP_2
#undef GANI_WINO_LINE_WEIGHT_2
#undef GANI_WINO_LINE_DATA_T_2
#undef GANI_WINO_LINE_MAP_T_2
#undef GANI_WINO_LINE_WEIGHT_T_2
#undef GANI_WINO_3A
#undef GANI_WINO_3B
#undef GANI_WINO_3A2
#undef GANI_WINO_3B2
#undef GANI_WINO_3N0
#undef GANI_WINO_3NA
#undef GANI_WINO_3NB
#undef GANI_WINO_LINE_DATA_3
#undef GANI_WINO_LINE_MAP_3
#undef GANI_WINO_LINE_WEIGHT_3
#undef GANI_WINO_LINE_DATA_T_3
#undef GANI_WINO_LINE_MAP_T_3
#undef GANI_WINO_LINE_WEIGHT_T_3
#undef GANI_WINO_SET
#undef GANI_WINO_ADD
#undef GANI_DEFINE_WINO
#undef GANI_WINO_MR
#undef GANI_WINO_NV
#undef GANI_DEFINE_WINO_TILE
#undef GANI_WINO_TILE_NAME
#undef GANI_DEFINE_WINO_TILES
#undef GANI_WINO_TILE_ROW
#undef GANI_WINO_MR_LIST

/* ============================================================================
 * >>kernels-vec  3.4  VECTOR MATHS, ELEMENTWISE, REDUCTIONS, NORMS, OPTIMISERS
 *
 * Loops over plain arrays, on the calling thread; drivers cut large arrays into blocks of fixed
 * size. Results may depend on the instruction set in the last bits, never on how arrays are cut,
 * but for sums, whose drivers cut by the problem alone. y may be any operand that has a step of 1.
 *
 * Largest error in ulp over all floats, checked by tests/test_vec.c: exp 1.5, log 1, tanh 2,
 * sigmoid 3, softplus 2.5. Infinities and NaN are treated as by the C library. Denormal arguments
 * of log count as zero; denormal results may come out as zero (programs flush denormals).
 *
 * Sums are kept in float within a block and in double over blocks.
 *
 * Holds:  vector functions; loops over them.        Uses:  >>simd
 * Knows nothing of: shapes, threads.
 * ========================================================================= */

/* --- functions of a vector ----------------------------------------------- */

static inline vf GANI_FN(gani_v_abs)(vf x) {
    return vi_asf(vi_and(vf_asi(x), vi_set1(0x7fffffff)));
}

/* exp(x) = 2^n exp(r), x = n*log(2) + r with |r| <= log(2)/2; log(2) in two parts, so that n times
 * the first is exact. 2^n is two factors, so that results near overflow and denormal ones come out
 * right. Polynomial: Cephes expf (Moshier), error 2^-25. */
static inline vf GANI_FN(gani_v_exp)(vf x) {
    x = vf_max(vf_set1(-105.0f), vf_min(vf_set1(89.0f), x)); /* NaN stays */
    const vi n = vf_toint(vf_mul(x, vf_set1(1.44269504f)));
    vf r = vf_fnma(vi_tof(n), vf_set1(0.693359375f), x);
    r = vf_fnma(vi_tof(n), vf_set1(-2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_add(vf_fma(p, vf_mul(r, r), r), vf_set1(1.0f));
    const vi half = vi_sar(n, 1), rest = vi_sub(n, half);
    const vf scale = vi_asf(vi_shl(vi_add(half, vi_set1(127)), 23));
    p = vf_mul(vf_mul(p, scale), vi_asf(vi_shl(vi_add(rest, vi_set1(127)), 23)));
    return vf_select(vf_isnan(x), x, p);
}

/* log(x) = e*log(2) + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2)). Polynomial: Cephes logf. */
static inline vf GANI_FN(gani_v_log)(vf x) {
    const vi bits = vf_asi(x);
    const vi e = vi_sar(vi_sub(bits, vi_set1(0x3f3504f3)), 23);
    const vf f = vf_sub(vi_asf(vi_sub(bits, vi_shl(e, 23))), vf_set1(1.0f));
    const vf fe = vi_tof(e), ff = vf_mul(f, f);
    vf p = vf_set1(7.0376836292e-2f);
    p = vf_fma(p, f, vf_set1(-1.1514610310e-1f));
    p = vf_fma(p, f, vf_set1(1.1676998740e-1f));
    p = vf_fma(p, f, vf_set1(-1.2420140846e-1f));
    p = vf_fma(p, f, vf_set1(1.4249322787e-1f));
    p = vf_fma(p, f, vf_set1(-1.6668057665e-1f));
    p = vf_fma(p, f, vf_set1(2.0000714765e-1f));
    p = vf_fma(p, f, vf_set1(-2.4999993993e-1f));
    p = vf_fma(p, f, vf_set1(3.3333331174e-1f));
    p = vf_mul(vf_mul(p, f), ff);
    p = vf_fma(fe, vf_set1(-2.12194440e-4f), p);
    p = vf_fnma(vf_set1(0.5f), ff, p);
    p = vf_fma(fe, vf_set1(0.693359375f), vf_add(f, p));
    const vf inf = vi_asf(vi_set1(0x7f800000));
    p = vf_select(vf_gt(inf, x), p, x); /* infinity and NaN are their own logarithm */
    p = vf_select(vf_gt(vf_zero(), x), vi_asf(vi_set1(0x7fc00000)), p);
    return vf_select(vf_gt(vf_set1(1.17549435e-38f), GANI_FN(gani_v_abs)(x)),
                     vf_sub(vf_zero(), inf), p);
}

/* Near 0 the odd polynomial of Cephes tanhf, else 1 - 2/(exp(2|x|) + 1) with x's sign. */
static inline vf GANI_FN(gani_v_tanh)(vf x) {
    const vf size = GANI_FN(gani_v_abs)(x), one = vf_set1(1.0f);
    const vf e = vf_add(GANI_FN(gani_v_exp)(vf_add(size, size)), one);
    const vf far = vf_sub(one, vf_div(vf_set1(2.0f), e));
    const vi sign = vi_and(vf_asi(x), vi_set1(~0x7fffffff));
    const vf z = vf_mul(x, x);
    vf p = vf_set1(-5.70498872745e-3f);
    p = vf_fma(p, z, vf_set1(2.06390887954e-2f));
    p = vf_fma(p, z, vf_set1(-5.37397155531e-2f));
    p = vf_fma(p, z, vf_set1(1.33314422036e-1f));
    p = vf_fma(p, z, vf_set1(-3.33332819422e-1f));
    p = vf_fma(vf_mul(p, z), x, x);
    return vf_select(vf_gt(vf_set1(0.625f), size), p, vi_asf(vi_or(vf_asi(far), sign)));
}

static inline vf GANI_FN(gani_v_sigmoid)(vf x) {
    const vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, GANI_FN(gani_v_exp)(vf_sub(vf_zero(), x))));
}

/* log(1 + exp(-|x|)): with u = 1 + e rounded, log(u) + (e - (u - 1))/u puts back what rounding
 * took. */
static inline vf GANI_FN(gani_v_softplus_tail)(vf x) {
    const vf e = GANI_FN(gani_v_exp)(vf_sub(vf_zero(), GANI_FN(gani_v_abs)(x)));
    const vf u = vf_add(vf_set1(1.0f), e);
    const vf lost = vf_sub(e, vf_sub(u, vf_set1(1.0f)));
    return vf_add(GANI_FN(gani_v_log)(u), vf_div(lost, u));
}

/* max(x, 0) that keeps NaN; c, the larger or smaller of a and b, that keeps NaN on either side. */
#define vf_positive(a) vf_max(vf_zero(), (a))
#define vf_keep_nan(a, b, c) vf_select(vf_isnan(a), (a), vf_select(vf_isnan(b), (b), (c)))

/* A vector, or its first m lanes at the end of an array; masked access is slow on some
 * processors. */
#define vf_load_upto(p, m) ((m) == VW ? vf_load(p) : vf_loadn((p), (m)))
#define vf_store_upto(p, m, a)        \
    do {                              \
        if ((m) == VW) {              \
            vf_store((p), (a));       \
        } else {                      \
            vf_storen((p), (m), (a)); \
        }                             \
    } while (0)

/* How many elements are left from i to n, up to a vector. */
#define GANI_LANES(i, n) ((n) - (i) < VW ? (int)((n) - (i)) : VW)

/* --- elementwise --------------------------------------------------------- */

/* y[i] = value(a), a = x[i] */
#define GANI_LOOP1(value)                               \
    do {                                                \
        size_t i = 0;                                   \
        for (; i + VW <= n; i += VW) {                  \
            const vf a = vf_load(x + i);                \
            vf_store(y + i, value);                     \
        }                                               \
        if (i < n) {                                    \
            const vf a = vf_loadn(x + i, (int)(n - i)); \
            vf_storen(y + i, (int)(n - i), value);      \
        }                                               \
    } while (0)

static void GANI_FN(gani_unary)(int kind, const float *x, float p, float q, float *y, size_t n) {
    const vf vp = vf_set1(p), vq = vf_set1(q), zero = vf_zero(), one = vf_set1(1.0f);
    switch (kind) {
    case GANI_UNARY_AFFINE:
        GANI_LOOP1(vf_fma(vp, a, vq));
        break;
    case GANI_UNARY_SQUARE:
        GANI_LOOP1(vf_mul(a, a));
        break;
    case GANI_UNARY_SQRT:
        GANI_LOOP1(vf_sqrt(a));
        break;
    case GANI_UNARY_RSQRT:
        GANI_LOOP1(vf_div(one, vf_sqrt(a)));
        break;
    case GANI_UNARY_EXP:
        GANI_LOOP1(GANI_FN(gani_v_exp)(a));
        break;
    case GANI_UNARY_LOG:
        GANI_LOOP1(GANI_FN(gani_v_log)(a));
        break;
    case GANI_UNARY_ABS:
        GANI_LOOP1(GANI_FN(gani_v_abs)(a));
        break;
    case GANI_UNARY_SIGN: /* 0 and NaN stay as they are */
        GANI_LOOP1(vf_select(vf_gt(a, zero), one, vf_select(vf_gt(zero, a), vf_set1(-1.0f), a)));
        break;
    case GANI_UNARY_SOFTPLUS:
        GANI_LOOP1(vf_add(vf_positive(a), GANI_FN(gani_v_softplus_tail)(a)));
        break;
    case GANI_UNARY_CLAMP:
        GANI_LOOP1(vf_min(vq, vf_max(vp, a)));
        break;
    case GANI_UNARY_IN_RANGE:
        GANI_LOOP1(vf_select(vf_ge(a, vp), vf_select(vf_ge(vq, a), one, zero), zero));
        break;
    case GANI_UNARY_LEAKY:
        if (p == 0.0f) { /* not 0*x, which is NaN for -infinity */
            GANI_LOOP1(vf_positive(a));
        } else {
            GANI_LOOP1(vf_select(vf_gt(a, zero), a, vf_mul(vp, a)));
        }
        break;
    case GANI_UNARY_TANH:
        GANI_LOOP1(GANI_FN(gani_v_tanh)(a));
        break;
    case GANI_UNARY_SIGMOID:
        GANI_LOOP1(GANI_FN(gani_v_sigmoid)(a));
        break;
    default:
        break;
    }
}

/* x = act(x); kind is a gan_activation. */
static void GANI_FN(gani_act_inplace)(float *x, size_t n, int kind, float slope) {
    if (kind != GAN_ACT_NONE) {
        GANI_FN(gani_unary)(GANI_UNARY_LEAKY + kind - GAN_ACT_LEAKY_RELU, x, slope, 0.0f, x, n);
    }
}

/* y[i] = value(a, b), a = x[i*a_step], b = z[i*b_step], steps 0 or 1 */
#define GANI_LOOP2(value)                                        \
    do {                                                         \
        size_t i = 0;                                            \
        for (; i + VW <= n; i += VW) {                           \
            const vf a = vf_load(x + i * a_step);                \
            const vf b = vf_load(z + i * b_step);                \
            vf_store(y + i, value);                              \
        }                                                        \
        if (i < n) {                                             \
            const vf a = vf_loadn(x + i * a_step, (int)(n - i)); \
            const vf b = vf_loadn(z + i * b_step, (int)(n - i)); \
            vf_storen(y + i, (int)(n - i), value);               \
        }                                                        \
    } while (0)

/* A step of 0 takes the one value for all; it is spread over a vector, so that one loop does for
 * all four cases. */
static void GANI_FN(gani_binary)(int kind, const float *x, size_t a_step, const float *z,
                                 size_t b_step, float p, float *y, size_t n) {
    float spread_a[VW], spread_b[VW];
    const vf vp = vf_set1(p), zero = vf_zero(), one = vf_set1(1.0f);
    vf_store(spread_a, vf_set1(x[0]));
    vf_store(spread_b, vf_set1(z[0]));
    x = a_step ? x : spread_a;
    z = b_step ? z : spread_b;
    switch (kind) {
    case GANI_BINARY_ADD:
        GANI_LOOP2(vf_add(a, b));
        break;
    case GANI_BINARY_SUB:
        GANI_LOOP2(vf_sub(a, b));
        break;
    case GANI_BINARY_MUL:
        GANI_LOOP2(vf_mul(a, b));
        break;
    case GANI_BINARY_DIV:
        GANI_LOOP2(vf_div(a, b));
        break;
    case GANI_BINARY_MAXIMUM:
        GANI_LOOP2(vf_keep_nan(a, b, vf_max(a, b)));
        break;
    case GANI_BINARY_MINIMUM:
        GANI_LOOP2(vf_keep_nan(a, b, vf_min(a, b)));
        break;
    case GANI_BINARY_GREATER:
        GANI_LOOP2(vf_select(vf_gt(a, b), one, zero));
        break;
    case GANI_BINARY_BCE_LOGITS: /* a logit, b target */
        GANI_LOOP2(vf_add(vf_fnma(a, b, vf_positive(a)), GANI_FN(gani_v_softplus_tail)(a)));
        break;
    case GANI_BINARY_PRELU:
        GANI_LOOP2(vf_select(vf_gt(a, zero), a, vf_mul(a, b)));
        break;
    case GANI_BINARY_PRELU_SLOPE:
        GANI_LOOP2(vf_select(vf_gt(a, zero), one, b));
        break;
    case GANI_BINARY_LEAKY_GRAD: /* a gradient, b activation's result, p slope */
        GANI_LOOP2(vf_select(vf_gt(b, zero), a, vf_mul(vp, a)));
        break;
    case GANI_BINARY_TANH_GRAD:
        GANI_LOOP2(vf_mul(a, vf_fnma(b, b, one)));
        break;
    case GANI_BINARY_SIGMOID_GRAD:
        GANI_LOOP2(vf_mul(a, vf_fnma(b, b, b)));
        break;
    case GANI_BINARY_LERP: /* a towards b by the fraction p */
        GANI_LOOP2(vf_fma(vp, vf_sub(b, a), a));
        break;
    case GANI_BINARY_DROPOUT: { /* b uniform in [0,1), p the share that is dropped */
        const vf scale = vf_set1(1.0f / (1.0f - p));
        GANI_LOOP2(vf_select(vf_ge(b, vp), vf_mul(scale, a), zero));
        break;
    }
    default:
        break;
    }
}

/* --- sums ---------------------------------------------------------------- */

#define GANI_SUM_BLOCK 4096

/* result = sum over i in [0,n) of term(i), in float; at_end is the same for one element. Four
 * accumulators hide the latency of addition and halve the error twice. */
#define GANI_SUM_LOOP(result, term, at_end)                                \
    do {                                                                   \
        vf s0 = vf_zero(), s1 = vf_zero(), s2 = vf_zero(), s3 = vf_zero(); \
        float rest = 0.0f;                                                 \
        size_t i = 0;                                                      \
        for (; i + 4 * VW <= n; i += 4 * VW) {                             \
            s0 = vf_add(s0, term(i));                                      \
            s1 = vf_add(s1, term(i + VW));                                 \
            s2 = vf_add(s2, term(i + 2 * VW));                             \
            s3 = vf_add(s3, term(i + 3 * VW));                             \
        }                                                                  \
        for (; i + VW <= n; i += VW) {                                     \
            s0 = vf_add(s0, term(i));                                      \
        }                                                                  \
        for (; i < n; i++) {                                               \
            rest += at_end;                                                \
        }                                                                  \
        (result) = vf_hsum(vf_add(vf_add(s0, s1), vf_add(s2, s3))) + rest; \
    } while (0)

/* Each of the three within one block. */
static float GANI_FN(gani_block_sum)(const float *x, size_t n) {
    float sum;
#define GANI_TERM(i) vf_load(x + (i))
    GANI_SUM_LOOP(sum, GANI_TERM, x[i]);
#undef GANI_TERM
    return sum;
}

static float GANI_FN(gani_block_squares)(const float *x, float shift, size_t n) {
    const vf v = vf_set1(shift);
    float sum;
#define GANI_TERM(i) vf_mul(vf_sub(vf_load(x + (i)), v), vf_sub(vf_load(x + (i)), v))
    GANI_SUM_LOOP(sum, GANI_TERM, (x[i] - shift) * (x[i] - shift));
#undef GANI_TERM
    return sum;
}

/* out[0] = sum of g, out[1] = sum of g*(x - shift) */
static void GANI_FN(gani_block_dot)(const float *g, const float *x, float shift, size_t n,
                                    float *out) {
    const vf v = vf_set1(shift);
    vf sum0 = vf_zero(), sum1 = vf_zero(), dot0 = vf_zero(), dot1 = vf_zero();
    float sum = 0.0f, dot = 0.0f;
    size_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        const vf a = vf_load(g + i), b = vf_load(g + i + VW);
        sum0 = vf_add(sum0, a);
        sum1 = vf_add(sum1, b);
        dot0 = vf_fma(a, vf_sub(vf_load(x + i), v), dot0);
        dot1 = vf_fma(b, vf_sub(vf_load(x + i + VW), v), dot1);
    }
    for (; i < n; i++) {
        sum += g[i];
        dot += g[i] * (x[i] - shift);
    }
    out[0] = vf_hsum(vf_add(sum0, sum1)) + sum;
    out[1] = vf_hsum(vf_add(dot0, dot1)) + dot;
}

/* Sum of x [n]. */
static double GANI_FN(gani_sum)(const float *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i += GANI_SUM_BLOCK) {
        const size_t m = n - i < GANI_SUM_BLOCK ? n - i : GANI_SUM_BLOCK;
        sum += (double)GANI_FN(gani_block_sum)(x + i, m);
    }
    return sum;
}

/* Adds x [n] to running moments: out[0] count, out[1] mean, out[2] sum of squares about the
 * mean. Each block, while in cache, gets its mean and then the squares about it; moments are
 * joined as by Chan, Golub and LeVeque 1979. */
static void GANI_FN(gani_moments)(const float *x, size_t n, double *out) {
    for (size_t i = 0; i < n; i += GANI_SUM_BLOCK) {
        const size_t m = n - i < GANI_SUM_BLOCK ? n - i : GANI_SUM_BLOCK;
        const double count = (double)m, total = out[0] + count;
        const float mean = (float)((double)GANI_FN(gani_block_sum)(x + i, m) / count);
        const double squares = (double)GANI_FN(gani_block_squares)(x + i, mean, m);
        const double delta = (double)mean - out[1];
        out[1] += delta * (count / total);
        out[2] += squares + delta * delta * (out[0] * count / total);
        out[0] = total;
    }
}

/* Adds to out[0] the sum of g [n], to out[1] the sum of g*(x - mean). */
static void GANI_FN(gani_norm_sums)(const float *g, const float *x, float mean, size_t n,
                                    double *out) {
    for (size_t i = 0; i < n; i += GANI_SUM_BLOCK) {
        const size_t m = n - i < GANI_SUM_BLOCK ? n - i : GANI_SUM_BLOCK;
        float part[2];
        GANI_FN(gani_block_dot)(g + i, x + i, mean, m, part);
        out[0] += (double)part[0];
        out[1] += (double)part[1];
    }
}

/* Sums down the columns of a matrix: out[j] = sum over r of the term at row r, column j, for g and
 * x [rows,cols] with rows `stride` apart. Blocks of 128 rows are summed in float and added up,
 * which bounds the error by 128 + rows/128 roundings. Terms:
 *   GANI_COLUMNS_SUM      g
 *   GANI_COLUMNS_SQUARES  (x - shift[j])^2
 *   GANI_COLUMNS_DOT      g * (x - shift[j]) */
#define GANI_COLUMN_LOOP(value)                                      \
    for (size_t first = 0; first < rows; first += 128) {             \
        const size_t last = rows - first < 128 ? rows : first + 128; \
        vf part = vf_zero();                                         \
        for (size_t r = first; r < last; r++) {                      \
            const size_t at = r * stride + j;                        \
            part = vf_add(part, value);                              \
        }                                                            \
        sum = vf_add(sum, part);                                     \
    }

static void GANI_FN(gani_columns)(int kind, const float *g, const float *x, const float *shift,
                                  size_t rows, size_t stride, size_t cols, float *out) {
    for (size_t j = 0; j < cols; j += VW) {
        const int m = GANI_LANES(j, cols);
        const vf v = kind == GANI_COLUMNS_SUM ? vf_zero() : vf_load_upto(shift + j, m);
        vf sum = vf_zero();
#define GANI_AT(p) vf_load_upto((p) + at, m)
        if (kind == GANI_COLUMNS_SUM) {
            GANI_COLUMN_LOOP(GANI_AT(g))
        } else if (kind == GANI_COLUMNS_SQUARES) {
            GANI_COLUMN_LOOP(vf_mul(vf_sub(GANI_AT(x), v), vf_sub(GANI_AT(x), v)))
        } else {
            GANI_COLUMN_LOOP(vf_mul(GANI_AT(g), vf_sub(GANI_AT(x), v)))
        }
#undef GANI_AT
        vf_store_upto(out + j, m, sum);
    }
}

/* --- normalisation ------------------------------------------------------- */

/* A coefficient for all elements (step 0) or one for each (step 1), as in gani_binary. */
#define GANI_SPREAD(name, p)                  \
    float name##_spread[VW];                  \
    vf_store(name##_spread, vf_set1((p)[0])); \
    name = step ? name : name##_spread

#define GANI_ACT_BLOCK 1024

/* y = act((x - mean)*scale + shift); the activation follows block by block, in cache. */
static void GANI_FN(gani_normalize)(const float *x, const float *mean, const float *scale,
                                    const float *shift, size_t step, int act, float slope, float *y,
                                    size_t n) {
    GANI_SPREAD(mean, mean);
    GANI_SPREAD(scale, scale);
    GANI_SPREAD(shift, shift);
    for (size_t from = 0; from < n; from += GANI_ACT_BLOCK) {
        const size_t to = n - from < GANI_ACT_BLOCK ? n : from + GANI_ACT_BLOCK;
        for (size_t i = from; i < to; i += VW) {
            const int m = GANI_LANES(i, to);
            const size_t at = i * step;
            const vf d = vf_sub(vf_load_upto(x + i, m), vf_load_upto(mean + at, m));
            const vf r = vf_fma(d, vf_load_upto(scale + at, m), vf_load_upto(shift + at, m));
            vf_store_upto(y + i, m, r);
        }
        GANI_FN(gani_act_inplace)(y + from, to - from, act, slope);
    }
}

/* y = a*g + b*(x - mean) + c */
static void GANI_FN(gani_norm_dx)(const float *g, const float *x, const float *mean, const float *a,
                                  const float *b, const float *c, size_t step, float *y, size_t n) {
    GANI_SPREAD(mean, mean);
    GANI_SPREAD(a, a);
    GANI_SPREAD(b, b);
    GANI_SPREAD(c, c);
    for (size_t i = 0; i < n; i += VW) {
        const int m = GANI_LANES(i, n);
        const size_t at = i * step;
        const vf d = vf_sub(vf_load_upto(x + i, m), vf_load_upto(mean + at, m));
        const vf r = vf_fma(d, vf_load_upto(b + at, m), vf_load_upto(c + at, m));
        vf_store_upto(y + i, m, vf_fma(vf_load_upto(g + i, m), vf_load_upto(a + at, m), r));
    }
}

/* y = softmax of x, or its logarithm. The largest element is subtracted first, so that nothing
 * overflows; lanes past the end repeat the first element. */
static void GANI_FN(gani_softmax)(const float *x, float *y, size_t n, int logarithm) {
    vf top = vf_set1(x[0]), total = vf_zero();
    for (size_t i = 0; i < n; i += VW) {
        const int m = GANI_LANES(i, n);
        float lane[VW];
        vf_store(lane, vf_set1(x[0]));
        memcpy(lane, x + i, (size_t)m * sizeof *x);
        top = vf_max(top, vf_load(lane));
    }
    top = vf_set1(vf_hmax(top));
    for (size_t i = 0; i < n; i += VW) {
        const int m = GANI_LANES(i, n);
        const vf d = vf_sub(vf_load_upto(x + i, m), top), e = GANI_FN(gani_v_exp)(d);
        float lane[VW];
        vf_store(lane, vf_zero());
        vf_storen(lane, m, e);
        total = vf_add(total, vf_load(lane));
        vf_store_upto(y + i, m, logarithm ? d : e);
    }
    const float sum = vf_hsum(total);
    if (logarithm) {
        GANI_FN(gani_unary)(GANI_UNARY_AFFINE, y, 1.0f, -logf(sum), y, n);
    } else {
        GANI_FN(gani_unary)(GANI_UNARY_AFFINE, y, 1.0f / sum, 0.0f, y, n);
    }
}

/* --- optimisers ---------------------------------------------------------- */

/* One step for parameters x [n] with gradient g and states m, v; the formulas stand at gani_sgd_op,
 * gani_rmsprop_op and gani_adam_op. k holds decay, lr, then what each rule names, then eps. */
static void GANI_FN(gani_optimise)(int kind, float *x, const float *g, float *m, float *v,
                                   const float *k, size_t n) {
    const vf decay = vf_set1(k[0]), lr = vf_set1(k[1]), k2 = vf_set1(k[2]), k3 = vf_set1(k[3]);
    const vf k4 = vf_set1(k[4]), k5 = vf_set1(k[5]), k6 = vf_set1(k[6]), eps = vf_set1(k[7]);
    for (size_t i = 0; i < n; i += VW) {
        const int lanes = GANI_LANES(i, n);
        const vf p = vf_load_upto(x + i, lanes);
        const vf d = vf_fma(decay, p, vf_load_upto(g + i, lanes));
        vf step = d;
        if (kind == GANI_OPTIMISE_MOMENTUM) { /* k2 momentum; step = k3*buffer + k4*d */
            const vf buffer = vf_fma(k2, vf_load_upto(m + i, lanes), d);
            vf_store_upto(m + i, lanes, buffer);
            step = vf_fma(k3, buffer, vf_mul(k4, d));
        } else if (kind == GANI_OPTIMISE_RMSPROP) { /* k2 alpha, k3 1 - alpha */
            const vf squares = vf_fma(k2, vf_load_upto(m + i, lanes), vf_mul(k3, vf_mul(d, d)));
            vf_store_upto(m + i, lanes, squares);
            step = vf_div(d, vf_add(vf_sqrt(squares), eps));
        } else if (kind == GANI_OPTIMISE_ADAM) { /* k2, k3 beta1, 1 - beta1; k4, k5 of beta2 */
            const vf mean = vf_fma(k2, vf_load_upto(m + i, lanes), vf_mul(k3, d));
            const vf squares = vf_fma(k4, vf_load_upto(v + i, lanes), vf_mul(k5, vf_mul(d, d)));
            vf_store_upto(m + i, lanes, mean);
            vf_store_upto(v + i, lanes, squares);
            step = vf_div(mean, vf_fma(vf_sqrt(squares), k6, eps)); /* k6 1/sqrt(1 - beta2^t) */
        }
        vf_store_upto(x + i, lanes, vf_fnma(lr, step, p));
    }
}

#undef vf_positive
#undef vf_keep_nan
#undef vf_load_upto
#undef vf_store_upto
#undef GANI_LANES
#undef GANI_LOOP1
#undef GANI_LOOP2
#undef GANI_SUM_BLOCK
#undef GANI_SUM_LOOP
#undef GANI_COLUMN_LOOP
#undef GANI_SPREAD
#undef GANI_ACT_BLOCK

/* The table of this instance: the fields of gani_kernels in order. */
static const gani_kernels GANI_FN(gani_kernels) = {
    GANI_ISA_NAME,
    VW,
#define GANI_KERNEL_ENTRY(ret, name, args) GANI_FN(gani_##name),
    GANI_GEMM_KERNELS(GANI_KERNEL_ENTRY)
    GANI_WINO_KERNELS(GANI_KERNEL_ENTRY)
    GANI_VEC_KERNELS(GANI_KERNEL_ENTRY)
#undef GANI_KERNEL_ENTRY
};

#undef GANI_ISA
#undef GANI_ISA_NAME
#undef VW
#undef vf
#undef vi
#undef vm
#undef vf_load
#undef vf_store
#undef vf_lanes
#undef vf_loadn
#undef vf_storen
#undef vf_set1
#undef vf_zero
#undef vf_add
#undef vf_sub
#undef vf_mul
#undef vf_div
#undef vf_fma
#undef vf_fnma
#undef vf_max
#undef vf_min
#undef vf_sqrt
#undef vf_gt
#undef vf_ge
#undef vf_eq
#undef vf_isnan
#undef vf_select
#undef vf_toint
#undef vi_tof
#undef vf_asi
#undef vi_asf
#undef vi_set1
#undef vi_add
#undef vi_sub
#undef vi_and
#undef vi_or
#undef vi_xor
#undef vi_shl
#undef vi_shr
#undef vi_sar
#undef vf_transpose4
#undef vf_transpose8
#undef vf_transpose8x8
#undef vf_even
#undef vf_hsum
#undef vf_hmax
#undef GANI_PASTE2
#undef GANI_PASTE
#undef GANI_FN

#endif /* GANI_INSTANCE */

#if !defined(GANI_INSTANCE) && !defined(GANI_IMPLEMENTED_UPPER)
#define GANI_IMPLEMENTED_UPPER

/* ============================================================================
 * >>instances  3.5  THE KERNEL SECTIONS, COMPILED ONCE FOR EACH INSTRUCTION SET
 *
 * Two lists hold the kernels' names and types; from them come the table type and each instance's
 * table. To add a kernel: a row in a list and a function GANI_FN(gani_name) in the kernel section.
 *
 * Holds:  the kernel lists, the choice at run time, the context.
 * Uses:   >>platform  >>simd  >>kernels-gemm  >>kernels-winograd  >>kernels-vec        Knows
 * nothing of: tensors. ========================================================================= */

/* X(return type, name, (arguments)) */
#define GANI_GEMM_KERNELS(X)                                                                   \
    X(gani_tile, gemm_panel, (int m))                                                          \
    X(void, gemm_pack,                                                                         \
      (float *out, int width, const float *base, const ptrdiff_t *lane, int lanes,             \
       const ptrdiff_t *step, int k, int group))                                               \
    X(void, gemm_copy,                                                                         \
      (float *out, ptrdiff_t out_ld, const float *in, ptrdiff_t in_ld, int stride, int rows,   \
       int n))                                                                                 \
    X(void, gemm_block, (const gani_block *s))                                                 \
    X(void, gemm_dots, (const gani_block *s))                                                  \
    X(void, gemm_load,                                                                         \
      (const gani_block *s, float *tile, ptrdiff_t ld, int i, int m, int j, int n))            \
    X(void, gemm_store,                                                                        \
      (const gani_block *s, float *tile, ptrdiff_t ld, int i, int m, int j, int n))

#define GANI_WINO_KERNELS(X)                                                                  \
    X(void, wino_transform, (int points, int kind, const gani_wino_move *s))                  \
    X(void, wino_product,                                                                     \
      (int m, int n, int k, const float *a, ptrdiff_t a_row, ptrdiff_t a_col, const float *b, \
       float *out, int add))                                                                  \
    X(void, wino_transpose,                                                                   \
      (const float *in, ptrdiff_t in_ld, int rows, int cols, float *out, ptrdiff_t out_ld))   \
    X(void, wino_bias, (float *x, int count, const float *bias))

/* What the vector kernels take as kind. The activations stand in gan_activation's order, the
 * binary ones up to prelu_slope and the unary ones in the order of their ops (see GANI_OP_LIST). */
enum {
    GANI_UNARY_AFFINE,
    GANI_UNARY_SQUARE,
    GANI_UNARY_SQRT,
    GANI_UNARY_RSQRT,
    GANI_UNARY_EXP,
    GANI_UNARY_LOG,
    GANI_UNARY_ABS,
    GANI_UNARY_SIGN,
    GANI_UNARY_SOFTPLUS,
    GANI_UNARY_CLAMP,
    GANI_UNARY_IN_RANGE,
    GANI_UNARY_LEAKY,
    GANI_UNARY_TANH,
    GANI_UNARY_SIGMOID
};
enum {
    GANI_BINARY_ADD,
    GANI_BINARY_SUB,
    GANI_BINARY_MUL,
    GANI_BINARY_DIV,
    GANI_BINARY_MAXIMUM,
    GANI_BINARY_MINIMUM,
    GANI_BINARY_GREATER,
    GANI_BINARY_BCE_LOGITS,
    GANI_BINARY_PRELU,
    GANI_BINARY_PRELU_SLOPE,
    GANI_BINARY_LEAKY_GRAD,
    GANI_BINARY_TANH_GRAD,
    GANI_BINARY_SIGMOID_GRAD,
    GANI_BINARY_LERP,
    GANI_BINARY_DROPOUT
};
enum { GANI_COLUMNS_SUM, GANI_COLUMNS_SQUARES, GANI_COLUMNS_DOT };
enum { GANI_OPTIMISE_SGD, GANI_OPTIMISE_MOMENTUM, GANI_OPTIMISE_RMSPROP, GANI_OPTIMISE_ADAM };

#define GANI_VEC_KERNELS(X)                                                                       \
    X(void, unary, (int kind, const float *x, float p, float q, float *y, size_t n))              \
    X(void, act_inplace, (float *x, size_t n, int kind, float slope))                             \
    X(void, binary,                                                                               \
      (int kind, const float *x, size_t a_step, const float *z, size_t b_step, float p, float *y, \
       size_t n))                                                                                 \
    X(double, sum, (const float *x, size_t n))                                                    \
    X(void, moments, (const float *x, size_t n, double *out))                                     \
    X(void, norm_sums, (const float *g, const float *x, float mean, size_t n, double *out))       \
    X(void, columns,                                                                              \
      (int kind, const float *g, const float *x, const float *shift, size_t rows, size_t stride,  \
       size_t cols, float *out))                                                                  \
    X(void, normalize,                                                                            \
      (const float *x, const float *mean, const float *scale, const float *shift, size_t step,    \
       int act, float slope, float *y, size_t n))                                                 \
    X(void, norm_dx,                                                                              \
      (const float *g, const float *x, const float *mean, const float *a, const float *b,         \
       const float *c, size_t step, float *y, size_t n))                                          \
    X(void, softmax, (const float *x, float *y, size_t n, int logarithm))                         \
    X(void, optimise,                                                                             \
      (int kind, float *x, const float *g, float *m, float *v, const float *k, size_t n))

struct gani_kernels {
    const char *isa;
    int width; /* floats in a vector */
#define GANI_KERNEL_FIELD(ret, name, args) ret(*name) args;
    GANI_GEMM_KERNELS(GANI_KERNEL_FIELD)
    GANI_WINO_KERNELS(GANI_KERNEL_FIELD)
    GANI_VEC_KERNELS(GANI_KERNEL_FIELD)
#undef GANI_KERNEL_FIELD
};

#define GANI_INSTANCE
#define GANI_ISA_SCALAR
#include GAN_SELF
#undef GANI_ISA_SCALAR

#ifdef GANI_HAVE_AVX2
#define GANI_ISA_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include GAN_SELF
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#undef GANI_ISA_AVX2
#endif

#ifdef GANI_HAVE_AVX512
#define GANI_ISA_AVX512
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#include GAN_SELF
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#undef GANI_ISA_AVX512
#endif

#ifdef GANI_HAVE_NEON
#define GANI_ISA_NEON
#include GAN_SELF
#undef GANI_ISA_NEON
#endif
#undef GANI_INSTANCE

/* Best first. level: what gani_x86_level must return at least. */
typedef struct gani_isa_row {
    const gani_kernels *kernels;
    int level;
} gani_isa_row;

static const gani_isa_row gani_isa_rows[] = {
#ifdef GANI_HAVE_AVX512
    {&gani_kernels_avx512, 3},
#endif
#ifdef GANI_HAVE_AVX2
    {&gani_kernels_avx2, 2},
#endif
#ifdef GANI_HAVE_NEON
    {&gani_kernels_neon, 0},
#endif
    {&gani_kernels_scalar, 0},
};
#define GANI_ISA_COUNT ((int)(sizeof gani_isa_rows / sizeof gani_isa_rows[0]))

GAN_API const char *gan_isa_name(int index) {
    return index >= 0 && index < GANI_ISA_COUNT ? gani_isa_rows[index].kernels->isa : NULL;
}

/* The best instance the processor runs if name is NULL, else the named one; NULL if there is none.
 */
static const gani_kernels *gani_find_kernels(const char *name) {
#ifdef GANI_X86
    const int level = gani_x86_level();
#else
    const int level = 0;
#endif
    for (int i = 0; i < GANI_ISA_COUNT; i++) {
        const gani_isa_row *row = &gani_isa_rows[i];
        if (level >= row->level && (!name || strcmp(name, row->kernels->isa) == 0)) {
            return row->kernels;
        }
    }
    return NULL;
}

GAN_API int gan_isa_available(const char *name) {
    return name && gani_find_kernels(name) != NULL;
}

GAN_API gan_status gan_context_create(gan_context **out, const gan_context_desc *desc) {
    gan_context_desc zero;
    memset(&zero, 0, sizeof zero);
    desc = desc ? desc : &zero;
    if (!out) {
        return GAN_ERR_ARGUMENT;
    }
    *out = NULL;
    if (desc->threads < 0 || desc->threads > GANI_MAX_THREADS ||
        !desc->allocator.alloc != !desc->allocator.free) {
        return GAN_ERR_ARGUMENT;
    }
    const char *isa = desc->isa ? desc->isa : getenv("GAN_ISA");
    const gani_kernels *kernels = gani_find_kernels(isa && isa[0] ? isa : NULL);
    if (!kernels) {
        return GAN_ERR_UNSUPPORTED;
    }
    gan_allocator allocator = desc->allocator;
    if (!allocator.alloc) {
        allocator.alloc = gani_default_alloc;
        allocator.free = gani_default_free;
    }
    gan_context *ctx = (gan_context *)allocator.alloc(allocator.user, sizeof *ctx);
    if (!ctx) {
        return GAN_ERR_MEMORY;
    }
    memset(ctx, 0, sizeof *ctx);
    ctx->allocator = allocator;
    ctx->logger = desc->logger;
    ctx->parallel = desc->parallel;
    ctx->threads = desc->threads;
    ctx->check_finite = desc->check_finite;
    const char *conv = getenv("GAN_CONV");
    ctx->direct_conv = desc->direct_conv || (conv && strcmp(conv, "direct") == 0);
    ctx->kernels = kernels;
#ifdef _OPENMP
    if (ctx->threads == 0 && !ctx->parallel.run) {
        ctx->threads =
            omp_get_max_threads() < GANI_MAX_THREADS ? omp_get_max_threads() : GANI_MAX_THREADS;
    }
#else
    if (!ctx->parallel.run) {
        ctx->threads = 1;
    }
#endif
    if (ctx->threads == 0) {
        ctx->threads = 1;
    }
    *out = ctx;
    return GAN_OK;
}

GAN_API void gan_context_destroy(gan_context *ctx) {
    if (ctx) {
        gani_free(ctx, ctx->workspace);
        ctx->allocator.free(ctx->allocator.user, ctx, sizeof *ctx);
    }
}

GAN_API gan_status gan_context_status(const gan_context *ctx) {
    return ctx->status;
}

GAN_API const char *gan_context_error(const gan_context *ctx) {
    return ctx->error;
}

GAN_API const char *gan_context_isa(const gan_context *ctx) {
    return ctx->kernels->isa;
}

GAN_API int gan_context_threads(const gan_context *ctx) {
    return ctx->threads;
}

/* ============================================================================
 * >>gemm  4.1  MATRIX PRODUCT: BLOCKING, THREADS
 *
 * c = act(alpha * a * b + beta * c + bias). A matrix here is anything whose element (i,j) lies at
 * base[row(i) + col(j)]: strided matrices, transposed ones, and also the matrix of all windows of
 * an image (row = channel and tap, column = place of the window), which therefore is never stored.
 *
 * Blocking: a is packed once, into panels of a few rows, for a range of rows that fits the last
 * cache. Then the result is cut into blocks mc x nc, one task each. A task packs b a piece kc x nc
 * at a time, which stays in the second cache while one panel of a after the other, in the first,
 * passes over all of it. Every element is summed over k in order in pieces of kc, so the bits do
 * not depend on mc and nc; these may follow the number of threads, kc must not. If the result is
 * small and k long, k is cut into splits as well: each sums into its own copy of c, and the copies
 * are added in order. Splits follow from m, n and k alone.
 *
 * Few rows: packing b would cost as much as the product. It is read where it lies if its columns
 * are neighbours in memory, or multiplied by dot products if its rows are. Few columns: the same
 * with a and b exchanged.
 *
 * Holds:  offsets, blocking, scratch, the product.
 * Uses:   >>platform  >>instances        Knows nothing of: convolutions.
 * ========================================================================= */

/* One digit of an index: digit i adds (i*step / split) * stride + (i*step % split) * rest. */
typedef struct gani_level {
    int count, step, split;
    ptrdiff_t stride, rest;
} gani_level;

/* Offsets along one axis of a matrix: an index is a number of three digits, the first one
 * unbounded. */
typedef struct gani_axis {
    gani_level level[3];
} gani_axis;

typedef struct gani_operand {
    const float *base;
    gani_axis row, col;
} gani_operand;

typedef struct gani_product {
    int m, n, k;
    int m_all, n_all; /* of the whole problem if this is a part of its rows or columns. How sums are
                          formed follows from these, not from how a driver cut the problem. */
    gani_operand a, b; /* [m,k] [k,n] */
    float *c;
    gani_axis c_row, c_col;
    float alpha, beta;
    const float *bias_row, *bias_col; /* [m] [n] or NULL */
    gani_act act;
} gani_product;

/* How the kernels get at b. */
enum {
    GANI_GEMM_TILES,  /* packed panels */
    GANI_GEMM_DIRECT, /* read where it lies */
    GANI_GEMM_DOTS    /* read where it lies, k in order, by dot products */
};

/* How a product is cut. */
typedef struct gani_cut {
    gani_tile panel;
    int mode;
    int rows;                       /* of a packed at a time */
    int mc, nc, kc;                 /* a task's block, and how much of k it takes at a time */
    int m_blocks, n_blocks, splits; /* tasks of a range of rows */
    int k_split;                    /* k of a split, a multiple of kc */
    int slots;                      /* threads that work, each with scratch */
    size_t a_bytes, slot_bytes;     /* scratch for packed a, for a slot, */
    size_t bytes;                   /* and for all with the copies of the splits */
} gani_cut;

/* The product of strided matrices. */
typedef struct gani_gemm { /* c[m,n] = act(alpha * a[m,k] * b[k,n] + beta * c + bias) */
    int m, n, k;
    const float *a; /* element (i,p) at a[i*a_row + p*a_col] */
    ptrdiff_t a_row, a_col;
    const float *b;
    ptrdiff_t b_row, b_col;
    float *c;
    ptrdiff_t c_row; /* columns are neighbours */
    float alpha, beta;
    const float *bias_row, *bias_col; /* [m] [n]; NULL: none */
    gani_act act;
} gani_gemm;

enum {
    GANI_GEMM_A_FLOATS = 4 << 20, /* of a packed at a time: half of a last cache */
    GANI_GEMM_NC = 480,           /* most columns of a block: with kc, most of the second cache */
    GANI_GEMM_KC = 384,         /* most of k at a time: a panel of a fits half of the first cache */
    GANI_GEMM_KC_DOTS = 1024,   /* the same for dot products: a few columns of b fit half of it */
    GANI_GEMM_DOTS_MIN = 32,    /* shorter dot products would only be horizontal sums */
    GANI_GEMM_DOTS_ROWS = 64,   /* so many rows are multiplied by dot products if b suits */
    GANI_GEMM_FEW = 16,         /* so many rows are few */
    GANI_GEMM_DIRECT_ROWS = 8,  /* so many rows read b too seldom to pack it */
    GANI_GEMM_DIRECT_UNIT = 16, /* if at least so many of its columns are neighbours */
    GANI_GEMM_MIN_SPLIT = 1024, /* least k of a split */
    GANI_GEMM_SPLITS = 16       /* most blocks and splits together, to split k at all */
};

static gani_level gani_level_make(int count, ptrdiff_t stride) {
    gani_level level;
    level.count = count;
    level.step = 1;
    level.split = 1;
    level.stride = stride;
    level.rest = 0;
    return level;
}

static gani_axis gani_axis_make(gani_level outer, gani_level middle, gani_level inner) {
    gani_axis axis;
    axis.level[0] = outer;
    axis.level[1] = middle;
    axis.level[2] = inner;
    return axis;
}

static gani_axis gani_axis_plain(ptrdiff_t stride) {
    return gani_axis_make(gani_level_make(1, stride), gani_level_make(1, 0), gani_level_make(1, 0));
}

static ptrdiff_t gani_level_offset(const gani_level *level, int digit) {
    const ptrdiff_t place = (ptrdiff_t)digit * level->step;
    return place / level->split * level->stride + place % level->split * level->rest;
}

/* Offsets of indices first ... first+count-1. */
static void gani_axis_fill(const gani_axis *axis, int first, int count, ptrdiff_t *out) {
    const gani_level *level = axis->level;
    if (count == 0) { /* no taps: a level may be empty */
        return;
    }
    int inner = first % level[2].count;
    int middle = first / level[2].count % level[1].count;
    int outer = first / level[2].count / level[1].count;
    for (int i = 0; i < count; outer++, middle = 0) {
        const ptrdiff_t from_outer = gani_level_offset(&level[0], outer);
        for (; middle < level[1].count && i < count; middle++, inner = 0) {
            const ptrdiff_t from = from_outer + gani_level_offset(&level[1], middle);
            const int end = level[2].count - inner < count - i ? level[2].count : inner + count - i;
            if (level[2].split == 1) { /* the usual case, without divisions */
                const ptrdiff_t stride = level[2].step * level[2].stride;
                for (ptrdiff_t at = from + inner * stride; inner < end; inner++, at += stride) {
                    out[i++] = at;
                }
            }
            for (; inner < end; inner++) {
                out[i++] = from + gani_level_offset(&level[2], inner);
            }
        }
    }
}

static int gani_ceil_div(int a, int b) {
    return a / b + (a % b != 0);
}

/* Equal pieces of at most `most`, rounded up to a multiple of unit. */
static int gani_piece(int size, int most, int unit) {
    const int pieces = gani_ceil_div(size, most);
    const int piece = gani_ceil_div(gani_ceil_div(size, pieces), unit) * unit;
    return piece < unit ? unit : piece;
}

/* Exchanges the roles of a and b. */
static void gani_product_swap(gani_product *s) {
    const gani_product t = *s;
    s->m = t.n;
    s->n = t.m;
    s->m_all = t.n_all;
    s->n_all = t.m_all;
    s->a.base = t.b.base;
    s->a.row = t.b.col;
    s->a.col = t.b.row;
    s->b.base = t.a.base;
    s->b.row = t.a.col;
    s->b.col = t.a.row;
    s->c_row = t.c_col;
    s->c_col = t.c_row;
    s->bias_row = t.bias_col;
    s->bias_col = t.bias_row;
}

/* 1 if indices 0 ... count-1 are neighbours. */
static int gani_axis_is_unit(const gani_axis *axis, int count) {
    ptrdiff_t next = 1;
    for (int i = 2; i >= 0 && next < count; i--) {
        const gani_level *level = &axis->level[i];
        if ((i == 0 || level->count > 1) &&
            (level->split != 1 || level->step * level->stride != next)) {
            return 0;
        }
        next *= level->count;
    }
    return 1;
}

/* Makes few columns few rows, so that "few" always means rows, and returns how b is to be read. */
static int gani_product_orient(gani_product *s) {
    const int most = gani_axis_is_unit(&s->a.col, s->k) ? GANI_GEMM_DOTS_ROWS : GANI_GEMM_FEW;
    if (s->n_all <= most && s->n_all < s->m_all) {
        gani_product_swap(s);
    }
    if (s->m_all <= GANI_GEMM_DOTS_ROWS && s->k >= GANI_GEMM_DOTS_MIN &&
        gani_axis_is_unit(&s->b.row, s->k)) {
        return GANI_GEMM_DOTS;
    }
    const int direct =
        s->m <= GANI_GEMM_DIRECT_ROWS && gani_axis_is_unit(&s->b.col, GANI_GEMM_DIRECT_UNIT);
    return direct ? GANI_GEMM_DIRECT : GANI_GEMM_TILES;
}

/* Cuts rows and columns into blocks, some for every thread, unless they would be too small to be
 * worth it. */
static void gani_cut_blocks(gani_cut *cut, int threads, int m, int n) {
    const int wanted = threads > 1 ? 4 * threads : 1, min_m = 64, min_n = 96;
    int most_m = m, most_n = n < GANI_GEMM_NC ? n : GANI_GEMM_NC;
    for (;;) {
        cut->mc = gani_piece(m, most_m, cut->panel.rows);
        cut->nc = gani_piece(n, most_n, cut->panel.cols);
        cut->m_blocks = gani_ceil_div(m, cut->mc);
        cut->n_blocks = gani_ceil_div(n, cut->nc);
        if ((int64_t)cut->m_blocks * cut->n_blocks >= wanted) {
            return;
        }
        if (most_n > min_n && (most_n > most_m || most_m <= min_m)) {
            most_n = most_n / 2 > min_n ? most_n / 2 : min_n;
        } else if (most_m > min_m) {
            most_m = most_m / 2 > min_m ? most_m / 2 : min_m;
        } else {
            return;
        }
    }
}

/* Cuts k into pieces and, if the result is small, into splits. */
static void gani_cut_k(gani_cut *cut, int m, int n, int k) {
    const int64_t blocks = (int64_t)gani_ceil_div(m, 64) * gani_ceil_div(n, 96);
    int splits = 1;
    if (blocks < GANI_GEMM_SPLITS && k >= 2 * GANI_GEMM_MIN_SPLIT) {
        splits = GANI_GEMM_SPLITS / (int)blocks;
        splits = splits < k / GANI_GEMM_MIN_SPLIT ? splits : k / GANI_GEMM_MIN_SPLIT;
    }
    const int split = gani_ceil_div(k > 0 ? k : 1, splits);
    cut->kc = gani_piece(split, cut->mode == GANI_GEMM_DOTS ? GANI_GEMM_KC_DOTS : GANI_GEMM_KC, 16);
    cut->k_split = gani_ceil_div(split, cut->kc) * cut->kc;
    cut->splits = gani_ceil_div(k > 0 ? k : 1, cut->k_split);
}

/* Cuts an oriented product. bytes is 0 if it overflows. */
static gani_cut gani_cut_make(gan_context *ctx, int mode, const gani_product *s) {
    const int m = s->m, n = s->n, k = s->k;
    gani_cut cut;
    cut.mode = mode;
    cut.panel = ctx->kernels->gemm_panel(m);
    gani_cut_k(&cut, s->m_all, s->n_all, k);
    const int unit = cut.panel.rows, most = GANI_GEMM_A_FLOATS / (k > 0 ? k : 1) / unit * unit;
    cut.rows = gani_piece(m, most > unit ? most : unit, unit);
    gani_cut_blocks(&cut, ctx->threads, cut.rows < m ? cut.rows : m, n);
    const int tasks = cut.m_blocks * cut.n_blocks * cut.splits;
    cut.slots = tasks < ctx->threads ? tasks : ctx->threads;
    cut.a_bytes = gani_mul(gani_mul((size_t)(k > 0 ? k : 1), (size_t)cut.rows), sizeof(float));
    cut.a_bytes = gani_sum(cut.a_bytes, GANI_ALIGN) / GANI_ALIGN * GANI_ALIGN;
    const size_t rows = (size_t)cut.rows, nc = (size_t)cut.nc, kc = (size_t)cut.kc;
    const size_t tile = (size_t)GANI_GEMM_DOTS_ROWS * (size_t)cut.panel.cols;
    /* lanes of a, b and c; steps of a, b and packed b */
    const size_t offsets = 2 * rows + 2 * nc + 3 * kc;
    cut.slot_bytes = gani_sum(gani_mul(gani_mul(nc, kc), sizeof(float)),
                              (tile * sizeof(float) + offsets * sizeof(ptrdiff_t)) +
                                  nc * (2 * sizeof(void *) + 2) + rows + 16 * GANI_ALIGN);
    cut.slot_bytes = cut.slot_bytes / GANI_ALIGN * GANI_ALIGN;
    cut.bytes = gani_sum(cut.a_bytes, gani_mul(cut.slot_bytes, (size_t)cut.slots));
    if (cut.splits > 1) {
        const size_t copy = gani_mul(gani_mul((size_t)m, (size_t)n), sizeof(float));
        cut.bytes = gani_sum(cut.bytes, gani_mul(copy, (size_t)cut.splits));
    }
    return cut;
}

/* Takes count items of size bytes from scratch, aligned. */
static void *gani_carve(unsigned char **scratch, size_t count, size_t size_bytes) {
    void *piece = *scratch;
    *scratch += gani_round_up(count * size_bytes, GANI_ALIGN);
    return piece;
}

/* Scratch of a slot, carved. */
typedef struct gani_slot {
    float *b, *tile;
    ptrdiff_t *a_lane, *a_step, *b_lane, *b_step, *panel_step, *c_row, *c_col;
    const float **vectors;
    const ptrdiff_t **steps;
    unsigned char *c_whole, *group;
} gani_slot;

static gani_slot gani_slot_carve(const gani_cut *cut, unsigned char *scratch) {
    const size_t rows = (size_t)cut->rows, nc = (size_t)cut->nc, kc = (size_t)cut->kc;
    gani_slot slot;
    slot.b = (float *)gani_carve(&scratch, nc * kc, sizeof(float));
    slot.tile = (float *)gani_carve(&scratch, (size_t)GANI_GEMM_DOTS_ROWS * (size_t)cut->panel.cols,
                                    sizeof(float));
    slot.a_lane = (ptrdiff_t *)gani_carve(&scratch, rows, sizeof(ptrdiff_t));
    slot.c_row = (ptrdiff_t *)gani_carve(&scratch, rows, sizeof(ptrdiff_t));
    slot.b_lane = (ptrdiff_t *)gani_carve(&scratch, nc, sizeof(ptrdiff_t));
    slot.c_col = (ptrdiff_t *)gani_carve(&scratch, nc, sizeof(ptrdiff_t));
    slot.a_step = (ptrdiff_t *)gani_carve(&scratch, kc, sizeof(ptrdiff_t));
    slot.b_step = (ptrdiff_t *)gani_carve(&scratch, kc, sizeof(ptrdiff_t));
    slot.panel_step = (ptrdiff_t *)gani_carve(&scratch, kc, sizeof(ptrdiff_t));
    slot.vectors = (const float **)gani_carve(&scratch, nc, sizeof(float *));
    slot.steps = (const ptrdiff_t **)gani_carve(&scratch, nc, sizeof(ptrdiff_t *));
    slot.c_whole = (unsigned char *)gani_carve(&scratch, nc, 1);
    slot.group = (unsigned char *)gani_carve(&scratch, rows + nc, 1);
    return slot;
}

typedef struct gani_product_job {
    const gan_context *ctx;
    const gani_product *product;
    gani_cut cut;
    int first, rows; /* the range of rows at work */
    float *a; /* packed: for each piece of k, panels [k][rows] or, for dot products, rows [k] */
    unsigned char *scratch;
    float *copies; /* [splits][m][n] if there are splits */
} gani_product_job;

static int gani_neighbours(const ptrdiff_t *offset, int count) {
    for (int i = 1; i < count; i++) {
        if (offset[i] != offset[0] + i) {
            return 0;
        }
    }
    return 1;
}

/* 1 if in each whole group of `group` offsets they are neighbours. */
static int gani_neighbours_by(const ptrdiff_t *offset, int count, int group) {
    int all = 1;
    for (int i = 0; i + group <= count && all; i += group) {
        all = gani_neighbours(offset + i, group);
    }
    return all;
}

/* How a panel is best packed: lanes are neighbours by whole vectors (width), by fours (4) or not
 * (1), or steps are, by fours (0). steps_by_4: that of the steps. */
static int gani_group(const ptrdiff_t *lane, int lanes, int steps_by_4, int width) {
    if (lanes >= 4 && gani_neighbours_by(lane, lanes, 4)) {
        return width > 4 && gani_neighbours_by(lane, lanes, width) ? width : 4;
    }
    return steps_by_4 ? 0 : 1;
}

enum { GANI_PACK_IN_PLACE = 255 }; /* a panel that need not be packed, beside the groups above */

/* Panels to pack from one operand, side by side: out + first lane * k, [k][width]. */
typedef struct gani_packing {
    const float *base;
    const ptrdiff_t *lane, *step;
    int lanes, width, k;
    int padded;                 /* the last panel has full width too */
    const unsigned char *group; /* of each panel */
    float *out;
} gani_packing;

/* A few steps of all panels at a time, so that neighbours in memory are read together even if
 * they are in different panels: few, so that rows a large power of two apart do not evict each
 * other; more where steps are the neighbours. */
static void gani_pack_panels(const gani_kernels *kernels, const gani_packing *s) {
    const int transposed = 3072 / s->width / 16 * 16; /* steps that fill half of the first cache */
    const int most = s->group[0] == 0 && transposed > 16 ? transposed : 16;
    for (int q = 0; q < s->k; q += most) {
        const int steps = s->k - q < most ? s->k - q : most;
        for (int i = 0; i < s->lanes; i += s->width) {
            const int lanes = s->lanes - i < s->width ? s->lanes - i : s->width;
            const int width = s->padded ? s->width : lanes, group = s->group[i / s->width];
            if (group != GANI_PACK_IN_PLACE) {
                kernels->gemm_pack(s->out + (ptrdiff_t)i * s->k + (ptrdiff_t)q * width, width,
                                   s->base, s->lane + i, lanes, s->step + q, steps, group);
            }
        }
    }
}

/* Where the block goes: c itself, or with splits the copy of this split, bare sums. */
static void gani_block_target(gani_block *block, const gani_product_job *job, const gani_slot *slot,
                              int i, int j, int split) {
    const gani_product *s = job->product;
    const int width = job->ctx->kernels->width;
    gani_axis row = s->c_row, col = s->c_col;
    block->c = s->c;
    if (job->copies) {
        block->c = job->copies + (ptrdiff_t)split * s->m * s->n;
        row = gani_axis_plain(s->n);
        col = gani_axis_plain(1);
    }
    gani_axis_fill(&row, i, block->m, slot->c_row);
    gani_axis_fill(&col, j, block->n, slot->c_col);
    for (int v = 0; v * width < block->n; v++) {
        slot->c_whole[v] =
            (v + 1) * width <= block->n && gani_neighbours(slot->c_col + v * width, width);
    }
    block->c_row = slot->c_row;
    block->c_col = slot->c_col;
    block->c_whole = slot->c_whole;
}

/* beta, bias and activation, each in the piece of k where it belongs. */
static void gani_block_epilogue(gani_block *block, const gani_product_job *job, int i, int j,
                                int first, int last) {
    const gani_product *s = job->product;
    block->beta = first ? s->beta : 1.0f;
    block->bias_row = last && s->bias_row ? s->bias_row + i : NULL;
    block->bias_col = last && s->bias_col ? s->bias_col + j : NULL;
    block->act.kind = last ? s->act.kind : GAN_ACT_NONE;
    block->act.slope = s->act.slope;
    block->activate = job->ctx->kernels->act_inplace;
}

static void gani_block_bare(gani_block *block, int first) {
    memset(&block->act, 0, sizeof block->act);
    block->beta = first ? 0.0f : 1.0f;
    block->bias_row = block->bias_col = NULL;
}

/* Packs some panels of a for one piece of k; for dot products rows instead. */
static void gani_product_pack_a(const gani_product_job *job, const gani_slot *slot, int i, int rows,
                                int piece) {
    const gani_product *s = job->product;
    const gani_kernels *kernels = job->ctx->kernels;
    const int p = piece * job->cut.kc, k = s->k - p < job->cut.kc ? s->k - p : job->cut.kc;
    float *out = job->a + (ptrdiff_t)p * job->rows + (ptrdiff_t)i * k;
    gani_axis_fill(&s->a.row, job->first + i, rows, slot->a_lane);
    gani_axis_fill(&s->a.col, p, k, slot->a_step);
    if (job->cut.mode == GANI_GEMM_DOTS) {
        const int by_4 = rows >= 4 && gani_neighbours_by(slot->a_lane, rows, 4);
        kernels->gemm_pack(out, k, s->a.base, slot->a_step, k, slot->a_lane, rows,
                           gani_group(slot->a_step, k, by_4, kernels->width));
    } else {
        const int by_4 = k >= 4 && gani_neighbours_by(slot->a_step, k, 4);
        gani_packing packing;
        packing.base = s->a.base;
        packing.lane = slot->a_lane;
        packing.step = slot->a_step;
        packing.lanes = rows;
        packing.width = job->cut.panel.rows;
        packing.k = k;
        packing.padded = 0;
        packing.group = slot->group;
        packing.out = out;
        for (int r = 0; r < rows; r += packing.width) {
            const int lanes = rows - r < packing.width ? rows - r : packing.width;
            slot->group[r / packing.width] =
                (unsigned char)gani_group(slot->a_lane + r, lanes, by_4, kernels->width);
        }
        gani_pack_panels(kernels, &packing);
    }
    for (ptrdiff_t q = 0; q < (ptrdiff_t)rows * k && s->alpha != 1.0f; q++) {
        out[q] *= s->alpha;
    }
}

static void gani_product_pack_slot(void *arg, int index) {
    const gani_product_job *job = (const gani_product_job *)arg;
    const gani_slot slot =
        gani_slot_carve(&job->cut, job->scratch + (size_t)index * job->cut.slot_bytes);
    const int most = 32 * job->cut.panel.rows; /* rows of an item */
    const int items = gani_ceil_div(job->rows, most) * gani_ceil_div(job->product->k, job->cut.kc);
    for (int item = index; item < items; item += job->cut.slots) {
        const int i = item % gani_ceil_div(job->rows, most) * most;
        const int rows = job->rows - i < most ? job->rows - i : most;
        gani_product_pack_a(job, &slot, i, rows, item / gani_ceil_div(job->rows, most));
    }
}

/* Where each vector of columns of a panel begins, and what its steps are: 1 if in place, 0 if
 * packed. */
static int gani_block_place_panel(const gani_product_job *job, const gani_slot *slot,
                                  gani_block *block, int j) {
    const int width = job->ctx->kernels->width, cols = block->panel.cols;
    const int lanes = block->n - j < cols ? block->n - j : cols;
    const ptrdiff_t *lane = slot->b_lane + j;
    const float *packed = slot->b + (ptrdiff_t)j * block->k;
    const int direct = job->cut.mode == GANI_GEMM_DIRECT && lanes % width == 0 &&
                       gani_neighbours_by(lane, lanes, width);
    slot->steps[j / cols] = direct ? slot->b_step : slot->panel_step;
    for (int v = 0; v < lanes; v += width) {
        slot->vectors[(j + v) / width] = direct ? job->product->b.base + lane[v] : packed + v;
    }
    return direct;
}

/* Packs the panels of b that are not read in place. */
static void gani_block_pack_b(const gani_product_job *job, const gani_slot *slot, gani_block *block,
                              int p) {
    const gani_kernels *kernels = job->ctx->kernels;
    const int cols = block->panel.cols;
    gani_axis_fill(&job->product->b.row, p, block->k, slot->b_step);
    const int by_4 = block->k >= 4 && gani_neighbours_by(slot->b_step, block->k, 4);
    for (int q = 0; q < block->k; q++) {
        slot->panel_step[q] = (ptrdiff_t)q * cols;
    }
    for (int j = 0; j < block->n; j += cols) {
        const int lanes = block->n - j < cols ? block->n - j : cols;
        const int group = gani_block_place_panel(job, slot, block, j)
                              ? GANI_PACK_IN_PLACE
                              : gani_group(slot->b_lane + j, lanes, by_4, kernels->width);
        slot->group[j / cols] = (unsigned char)group;
    }
    gani_packing packing;
    packing.base = job->product->b.base;
    packing.lane = slot->b_lane;
    packing.step = slot->b_step;
    packing.lanes = block->n;
    packing.width = cols;
    packing.k = block->k;
    packing.padded = 1;
    packing.group = slot->group;
    packing.out = slot->b;
    gani_pack_panels(kernels, &packing);
    block->b = slot->vectors;
    block->step = slot->steps;
}

/* Points to the columns of b for dot products. */
static void gani_block_place_dots(const gani_product_job *job, const gani_slot *slot,
                                  gani_block *block, int p) {
    ptrdiff_t step;
    gani_axis_fill(&job->product->b.row, p, 1, &step);
    for (int j = 0; j < block->n; j++) {
        slot->vectors[j] = job->product->b.base + slot->b_lane[j] + step;
    }
    block->b = slot->vectors;
}

/* One task: a block of c, or of the copy of one split. */
static void gani_product_task(const gani_product_job *job, const gani_slot *slot, int task) {
    const gani_cut *cut = &job->cut;
    const gani_product *s = job->product;
    const int split = task / (cut->m_blocks * cut->n_blocks);
    const int i = task % cut->m_blocks * cut->mc;
    const int j = task / cut->m_blocks % cut->n_blocks * cut->nc;
    const int k_first = split * cut->k_split;
    const int k_end = s->k - k_first < cut->k_split ? s->k : k_first + cut->k_split;
    if (i >= job->rows) { /* the last range of rows may have fewer blocks */
        return;
    }
    gani_block block;
    block.m = job->rows - i < cut->mc ? job->rows - i : cut->mc;
    block.n = s->n - j < cut->nc ? s->n - j : cut->nc;
    block.panel = cut->panel;
    block.tile = slot->tile;
    gani_block_target(&block, job, slot, job->first + i, j, split);
    gani_axis_fill(&s->b.col, j, block.n, slot->b_lane);
    int p = k_first;
    do { /* once also for k = 0, for beta, bias and activation */
        block.k = k_end - p < cut->kc ? k_end - p : cut->kc;
        block.a = job->a + (ptrdiff_t)p * job->rows + (ptrdiff_t)i * block.k;
        gani_block_epilogue(&block, job, job->first + i, j, p == k_first, p + block.k == k_end);
        if (job->copies) {
            gani_block_bare(&block, p == k_first);
        }
        if (cut->mode == GANI_GEMM_DOTS) {
            gani_block_place_dots(job, slot, &block, p);
            job->ctx->kernels->gemm_dots(&block);
        } else {
            gani_block_pack_b(job, slot, &block, p);
            job->ctx->kernels->gemm_block(&block);
        }
        p += block.k;
    } while (p < k_end);
}

static void gani_product_slot(void *arg, int index) {
    const gani_product_job *job = (const gani_product_job *)arg;
    const gani_slot slot =
        gani_slot_carve(&job->cut, job->scratch + (size_t)index * job->cut.slot_bytes);
    const int tasks = job->cut.m_blocks * job->cut.n_blocks * job->cut.splits;
    for (int task = index; task < tasks; task += job->cut.slots) {
        gani_product_task(job, &slot, task);
    }
}

/* Adds the copies of the splits in order, a block of columns of every row at a time, and
 * finishes them. */
static void gani_product_join(void *arg, int index) {
    const gani_product_job *job = (const gani_product_job *)arg;
    const gani_cut *cut = &job->cut;
    const gani_product *s = job->product;
    const gani_slot slot = gani_slot_carve(cut, job->scratch + (size_t)index * cut->slot_bytes);
    gani_product_job to_c = *job;
    to_c.copies = NULL;
    const int pieces = cut->n_blocks * s->m;
    for (int piece = index; piece < pieces; piece += cut->slots) {
        const int i = piece / cut->n_blocks, j = piece % cut->n_blocks * cut->nc;
        gani_block block;
        block.m = 1;
        block.n = s->n - j < cut->nc ? s->n - j : cut->nc;
        gani_block_target(&block, &to_c, &slot, i, j, 0);
        gani_block_epilogue(&block, job, i, j, 1, 1);
        float *sum = slot.b; /* nc floats of the packing space */
        job->ctx->kernels->gemm_load(&block, sum, cut->nc, 0, 1, 0, block.n);
        for (int split = 0; split < cut->splits; split++) {
            const float *copy = job->copies + ((ptrdiff_t)split * s->m + i) * s->n + j;
            for (int q = 0; q < block.n; q++) {
                sum[q] += copy[q];
            }
        }
        job->ctx->kernels->gemm_store(&block, sum, cut->nc, 0, 1, 0, block.n);
    }
}

/* Bytes of scratch that gani_product_run needs; 0 on overflow. */
static size_t gani_product_bytes(gan_context *ctx, const gani_product *product) {
    gani_product s = *product;
    const int mode = gani_product_orient(&s);
    return gani_cut_make(ctx, mode, &s).bytes;
}

static void gani_product_run(gan_context *ctx, const gani_product *product,
                             unsigned char *scratch) {
    gani_product s = *product;
    const int mode = gani_product_orient(&s);
    gani_product_job job;
    job.ctx = ctx;
    job.product = &s;
    job.cut = gani_cut_make(ctx, mode, &s);
    job.a = (float *)(void *)scratch;
    job.scratch = scratch + job.cut.a_bytes;
    job.copies = NULL;
    if (job.cut.splits > 1) {
        job.copies = (float *)(void *)(job.scratch + (size_t)job.cut.slots * job.cut.slot_bytes);
    }
    for (job.first = 0; job.first < s.m; job.first += job.cut.rows) {
        job.rows = s.m - job.first < job.cut.rows ? s.m - job.first : job.cut.rows;
        gani_parallel(ctx, job.cut.slots, gani_product_pack_slot, &job);
        gani_parallel(ctx, job.cut.slots, gani_product_slot, &job);
    }
    if (job.copies) {
        gani_parallel(ctx, job.cut.slots, gani_product_join, &job);
    }
}

static gani_operand gani_operand_plain(const float *base, ptrdiff_t row, ptrdiff_t col) {
    gani_operand operand;
    operand.base = base;
    operand.row = gani_axis_plain(row);
    operand.col = gani_axis_plain(col);
    return operand;
}

/* Scratch for any strides: the most that either role of a and b and any way to read b need. */
static size_t gani_gemm_workspace(gan_context *ctx, int m, int n, int k) {
    size_t most = 0;
    for (int i = 0; i < 6; i++) {
        gani_product s;
        memset(&s, 0, sizeof s);
        s.m = s.m_all = i % 2 ? n : m;
        s.n = s.n_all = i % 2 ? m : n;
        s.k = k;
        const size_t need = gani_cut_make(ctx, i / 2, &s).bytes; /* i / 2: each of the modes */
        if (need == 0) {
            return 0;
        }
        most = need > most ? need : most;
    }
    return most;
}

static gan_status gani_gemm_run(gan_context *ctx, const gani_gemm *g) {
    gani_product s;
    s.m = s.m_all = g->m;
    s.n = s.n_all = g->n;
    s.k = g->k;
    s.a = gani_operand_plain(g->a, g->a_row, g->a_col);
    s.b = gani_operand_plain(g->b, g->b_row, g->b_col);
    s.c = g->c;
    s.c_row = gani_axis_plain(g->c_row);
    s.c_col = gani_axis_plain(1);
    s.alpha = g->alpha;
    s.beta = g->beta;
    s.bias_row = g->bias_row;
    s.bias_col = g->bias_col;
    s.act = g->act;
    unsigned char *scratch = (unsigned char *)gani_workspace(ctx, gani_product_bytes(ctx, &s));
    if (!scratch) {
        return ctx->status;
    }
    gani_product_run(ctx, &s, scratch);
    return GAN_OK;
}

/* A matrix of rows x cols in rows of ld floats: does it fit the address space? */
static int gani_matrix_fits(int rows, int cols, size_t ld) {
    return ld >= (size_t)cols && gani_mul((size_t)rows, ld) != 0 &&
           (size_t)rows * ld <= (size_t)PTRDIFF_MAX / sizeof(float);
}

GAN_API gan_status gan_sgemm(gan_context *ctx, int transpose_a, int transpose_b, int m, int n,
                             int k, float alpha, const float *a, size_t lda, const float *b,
                             size_t ldb, float beta, float *c, size_t ldc) {
    if (!a || !b || !c || m < 1 || n < 1 || k < 1) {
        return gani_error(
            ctx, GAN_ERR_ARGUMENT,
            "gan_sgemm: arrays and sizes of at least 1 expected, found m %d, n %d, k %d%s", m, n, k,
            !a || !b || !c ? ", and an array that is NULL" : "");
    }
    if (!gani_matrix_fits(transpose_a ? k : m, transpose_a ? m : k, lda) ||
        !gani_matrix_fits(transpose_b ? n : k, transpose_b ? k : n, ldb) ||
        !gani_matrix_fits(m, n, ldc)) {
        return gani_error(ctx, GAN_ERR_SHAPE,
                          "gan_sgemm: m %d, n %d, k %d: lda %lu, ldb %lu or ldc %lu is less than a "
                          "row or too large",
                          m, n, k, (unsigned long)lda, (unsigned long)ldb, (unsigned long)ldc);
    }
    gani_gemm g;
    memset(&g, 0, sizeof g);
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a;
    g.a_row = transpose_a ? 1 : (ptrdiff_t)lda;
    g.a_col = transpose_a ? (ptrdiff_t)lda : 1;
    g.b = b;
    g.b_row = transpose_b ? 1 : (ptrdiff_t)ldb;
    g.b_col = transpose_b ? (ptrdiff_t)ldb : 1;
    g.c = c;
    g.c_row = (ptrdiff_t)ldc;
    g.alpha = alpha;
    g.beta = beta;
    return gani_gemm_run(ctx, &g);
}

/* ============================================================================
 * >>conv  4.2  THE THREE CONVOLUTIONS, DIRECTLY
 *
 *   forward     y[b,q,i,j]  = sum over p,u,v  x[b,p, i*s+u*d-pad, j*s+v*d-pad] * w[q,p,u,v]
 *   input grad  dx[b,p,i,j] = sum over q,u,v  dy[b,q, (i+pad-u*d)/s, (j+pad-v*d)/s] * w[q,p,u,v]
 *                               over those u,v for which the quotients are whole numbers
 *   weight grad dw[q,p,u,v] = sum over b,i,j  dy[b,q,i,j] * x[b,p, i*s+u*d-pad, j*s+v*d-pad]
 *
 * Each is one or several products of >>gemm. A few images at a time are staged: copied with their
 * padding written out, and for a stride s split into s*s phases (rows and columns with the same
 * remainder), so
 *
 *     staged [n][c][s][s][hq][wq],   x[b,p, t-pad, ..] = staged[b,p, t%s, .., t/s, ..]
 *
 * Then the address of x in window (i,j) at tap (u,v) is a sum of one offset for (b,i,j) and one
 * for (p,u,v), and windows side by side read memory side by side, for any stride: all that the
 * product asks for. Staging copies each pixel once, where a stored matrix of windows would hold it
 * kh*kw/(s*s) times.
 *
 * Input grad is decomposed by phase: the pixels with the same (i+pad) % s meet the same taps,
 * those with u*d % s the same; for them it is a convolution of stride 1, and nothing is multiplied
 * by inserted zeros. On small maps reading the weights is the cost: there one product makes every
 * tap's contribution, [pixel of dy][p,u,v], reading the weights once in order, and a second pass
 * adds them up.
 *
 * Holds:  geometry, staging, direct algorithms.
 * Uses:   >>gemm        Knows nothing of: tensors, graphs.
 * ========================================================================= */

/* Sizes of y = conv(x, w); the three drivers all take the forward geometry. */
typedef struct gani_conv {
    int n, c, h, w;        /* x [n,c,h,w] */
    int o, kh, kw, oh, ow; /* w [o,c/groups,kh,kw]  y [n,o,oh,ow] */
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups, reflect;
} gani_conv;

/* Bytes staged at a time, if all is more: LEAST should stay in the second cache; but the weights
 * are packed again for each set, so large ones ask for more, up to MOST. */
enum { GANI_CONV_STAGE_LEAST = 768 << 10, GANI_CONV_STAGE_MOST = 8 << 20 };

enum {
    GANI_CONV_STRIDE_MOST = 1024, /* phases are walked one by one */
    GANI_CONV_FOLD_PIXELS = 64 /* input grad: for so few pixels of dy weights are read in order */
};

/* Images staged for a product: [n][c][phases_h][phases_w][hq][wq]. Several images at a time, or
 * a band of one. */
typedef struct gani_stage {
    int c, h, w;            /* source [n,c,h,w] */
    int phases_h, phases_w; /* strides */
    int pad_h, pad_w;       /* padding before; what follows the image is padding too */
    int reflect;
    int rows_all;     /* rows of windows in an image */
    int halo;         /* staged rows of a phase beyond one for each row of windows */
    int images, rows; /* at a time; rows is less than rows_all only if images is 1 */
    int hq, wq;       /* hq = rows + halo */
    int in_place;     /* the source itself will do: no padding, one phase */
    size_t bytes;
} gani_stage;

/* What is staged together: images first ..., rows of windows top ... */
typedef struct gani_set {
    int first, images, top, rows;
} gani_set;

/* The set after this one of n images, or the first if set is zero; 0 if there is none. */
static int gani_set_next(gani_set *set, const gani_stage *s, int n) {
    if (set->images > 0) {
        set->top += s->rows;
        if (set->top >= s->rows_all) {
            set->top = 0;
            set->first += s->images;
        }
    }
    set->images = n - set->first < s->images ? n - set->first : s->images;
    set->rows = s->rows_all - set->top < s->rows ? s->rows_all - set->top : s->rows;
    return set->first < n;
}

/* Row or column r of the padded image to that of the source; -1: none. */
static int gani_stage_index(int r, int pad, int size, int reflect) {
    int i = r - pad;
    if (reflect) {
        i = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    }
    return i >= 0 && i < size ? i : -1;
}

/* Places first ... end-1 of one axis of a phase that lie in the image: place q at q*step + phase
 * - pad. */
typedef struct gani_span {
    int first, end;
} gani_span;

static gani_span gani_span_make(int places, int step, int phase, int pad, int size) {
    const int before = pad - phase, after = before + size;
    gani_span span;
    span.first = before > 0 ? gani_ceil_div(before, step) : 0;
    span.end = after > 0 ? gani_ceil_div(after, step) : 0;
    span.end = span.end < places ? span.end : places;
    span.first = span.first < span.end ? span.first : span.end;
    return span;
}

/* Reflecting padding of one phase: every place outside the spans. */
static void gani_stage_reflect(const gani_stage *s, int top, int phase_h, int phase_w,
                               gani_span rows, gani_span cols, const float *in, float *out) {
    for (int q = 0; q < s->hq; q++, out += s->wq) {
        const int y = gani_stage_index((top + q) * s->phases_h + phase_h, s->pad_h, s->h, 1);
        const int inside = q >= rows.first && q < rows.end;
        for (int i = 0; i < s->wq && y >= 0; i++) {
            if (inside && i == cols.first && cols.end > cols.first) {
                i = cols.end - 1;
                continue;
            }
            const int x = gani_stage_index(i * s->phases_w + phase_w, s->pad_w, s->w, 1);
            out[i] = x >= 0 ? in[(ptrdiff_t)y * s->w + x] : 0.0f;
        }
    }
}

/* One channel of one image, all phases, from row `top` of each phase. */
static void gani_stage_plane(const gani_kernels *kernels, const gani_stage *s, int top,
                             const float *in, float *out) {
    const int pad_h = s->pad_h - top * s->phases_h;
    for (int phase_h = 0; phase_h < s->phases_h; phase_h++) {
        const gani_span rows = gani_span_make(s->hq, s->phases_h, phase_h, pad_h, s->h);
        for (int phase_w = 0; phase_w < s->phases_w; phase_w++, out += (ptrdiff_t)s->hq * s->wq) {
            const gani_span cols = gani_span_make(s->wq, s->phases_w, phase_w, s->pad_w, s->w);
            memset(out, 0, (size_t)s->hq * (size_t)s->wq * sizeof *out);
            if (rows.first < rows.end && cols.first < cols.end) {
                const int y = rows.first * s->phases_h + phase_h - pad_h,
                          x = cols.first * s->phases_w + phase_w - s->pad_w;
                kernels->gemm_copy(out + (ptrdiff_t)rows.first * s->wq + cols.first, s->wq,
                                   in + (ptrdiff_t)y * s->w + x, (ptrdiff_t)s->phases_h * s->w,
                                   s->phases_w, rows.end - rows.first, cols.end - cols.first);
            }
            if (s->reflect) {
                gani_stage_reflect(s, top, phase_h, phase_w, rows, cols, in, out);
            }
        }
    }
}

static ptrdiff_t gani_stage_phase_size(const gani_stage *s) {
    return (ptrdiff_t)s->hq * s->wq;
}

static ptrdiff_t gani_stage_plane_size(const gani_stage *s) {
    return gani_stage_phase_size(s) * s->phases_h * s->phases_w;
}

typedef struct gani_plane_job {
    void (*run)(const void *arg, int plane);
    const void *arg;
    int planes, per_task;
} gani_plane_job;

static void gani_plane_task(void *arg, int index) {
    const gani_plane_job *job = (const gani_plane_job *)arg;
    const int first = index * job->per_task;
    for (int i = first; i < job->planes && i < first + job->per_task; i++) {
        job->run(job->arg, i);
    }
}

/* Calls run(arg, i) for every plane in parallel; small planes several to a task. */
static void gani_for_planes(gan_context *ctx, int planes, ptrdiff_t plane_size,
                            void (*run)(const void *arg, int plane), const void *arg) {
    const ptrdiff_t task_floats = 1 << 15;
    gani_plane_job job;
    job.run = run;
    job.arg = arg;
    job.planes = planes;
    job.per_task = plane_size < task_floats ? (int)(task_floats / plane_size) : 1;
    gani_parallel(ctx, gani_ceil_div(planes, job.per_task), gani_plane_task, &job);
}

typedef struct gani_stage_job {
    const gani_kernels *kernels;
    const gani_stage *stage;
    int top;
    const float *in;
    float *out;
} gani_stage_job;

static void gani_stage_task(const void *arg, int plane) {
    const gani_stage_job *job = (const gani_stage_job *)arg;
    const gani_stage *s = job->stage;
    gani_stage_plane(job->kernels, s, job->top, job->in + (ptrdiff_t)plane * s->h * s->w,
                     job->out + plane * gani_stage_plane_size(s));
}

/* Where a set of source lies ready: staged in scratch, or in place. */
static const float *gani_stage_run(gan_context *ctx, const gani_stage *s, const float *source,
                                   const gani_set *set, unsigned char *scratch) {
    const float *in = source + (ptrdiff_t)set->first * s->c * s->h * s->w;
    if (s->in_place) {
        return in;
    }
    gani_stage_job job;
    job.kernels = ctx->kernels;
    job.stage = s;
    job.top = set->top;
    job.in = in;
    job.out = (float *)(void *)scratch;
    gani_for_planes(ctx, set->images * s->c, gani_stage_plane_size(s), gani_stage_task, &job);
    return job.out;
}

/* Sets what is staged at a time, and bytes, of a stage whose geometry is set; for `sharers`
 * threads that share it. beside: floats of another operand that go with a row of windows, and
 * should fit the cache too. */
static void gani_stage_size(gani_stage *s, const gani_conv *layer, int sharers, size_t beside) {
    const double weights = 4.0 * layer->o * (layer->c / layer->groups) * layer->kh * layer->kw;
    const double least = (double)GANI_CONV_STAGE_LEAST * sharers,
                 wanted = 4.0 * weights > least ? 4.0 * weights : least;
    const size_t most =
        wanted < (double)GANI_CONV_STAGE_MOST ? (size_t)wanted : (size_t)GANI_CONV_STAGE_MOST;
    const size_t row = gani_mul(gani_mul((size_t)s->c, sizeof(float)),
                                gani_mul((size_t)s->phases_h * (size_t)s->phases_w, (size_t)s->wq));
    const size_t image = gani_mul(row, (size_t)s->rows_all + (size_t)s->halo);
    const size_t share = image + beside * (size_t)s->rows_all * sizeof(float),
                 fit = image ? most / share : 1;
    s->images = gani_piece(layer->n, fit > (size_t)layer->n ? layer->n : fit > 1 ? (int)fit : 1, 1);
    s->rows = s->rows_all;
    if (fit == 0) {
        const int least_rows = s->halo > 4 ? s->halo : 4,
                  fit_rows = (int)(most / (row + beside * sizeof(float))) - s->halo;
        s->rows = gani_piece(s->rows_all, fit_rows > least_rows ? fit_rows : least_rows, 1);
    }
    s->hq = s->rows + s->halo;
    s->bytes = gani_mul(gani_mul(row, (size_t)s->hq), (size_t)s->images);
    s->bytes = s->bytes ? gani_round_up(s->bytes, GANI_ALIGN) : 0;
    s->in_place = 0;
    if (s->phases_h == 1 && s->phases_w == 1 && s->pad_h == 0 && s->pad_w == 0 &&
        s->rows_all + s->halo <= s->h && s->wq <= s->w) {
        s->in_place = 1;
        s->images = layer->n;
        s->rows = s->rows_all;
        s->hq = s->h;
        s->wq = s->w;
    }
}

/* Stage of x for forward and weight grad: as much of the padded image as the windows reach. */
static gani_stage gani_stage_x(const gani_conv *s, int sharers, size_t beside) {
    gani_stage t;
    t.c = s->c;
    t.h = s->h;
    t.w = s->w;
    t.phases_h = s->oh > 1 ? s->stride_h : 1; /* a single window has no stride */
    t.phases_w = s->ow > 1 ? s->stride_w : 1;
    t.pad_h = s->pad_h;
    t.pad_w = s->pad_w;
    t.reflect = s->reflect;
    t.rows_all = s->oh;
    t.halo = gani_ceil_div((s->kh - 1) * s->dilation_h + 1, t.phases_h) - 1;
    t.wq = gani_ceil_div((s->kw - 1) * s->dilation_w + 1, t.phases_w) - 1 + s->ow;
    gani_stage_size(&t, s, sharers, beside);
    return t;
}

/* --- running and measuring ---------------------------------------------------- */

/* What a driver was called with. */
typedef struct gani_conv_call {
    gani_conv s;
    const float *in, *with; /* x w;  dy w;  x dy */
    const float *bias;
    gani_act act;
    float *out;
} gani_conv_call;

/* A driver is walked twice: without scratch it only measures how much it needs, with it it runs. */
typedef struct gani_pass {
    gan_context *ctx;
    unsigned char *scratch; /* NULL: measure */
    size_t used;            /* bytes before the scratch of products */
    size_t most;            /* measured: scratch of the largest product */
    int overflow;
} gani_pass;

/* The next piece of scratch that stays while products run. */
static unsigned char *gani_pass_take(gani_pass *pass, size_t size_bytes) {
    const size_t at = pass->used;
    if (pass->used > SIZE_MAX - size_bytes) {
        pass->overflow = 1;
    } else {
        pass->used += size_bytes;
    }
    return pass->scratch ? pass->scratch + at : NULL;
}

static void gani_pass_product(gani_pass *pass, const gani_product *product) {
    if (pass->scratch) {
        gani_product_run(pass->ctx, product, pass->scratch + pass->used);
        return;
    }
    const size_t need = gani_product_bytes(pass->ctx, product);
    pass->overflow |= need == 0;
    pass->most = need > pass->most ? need : pass->most;
}

static unsigned char *gani_pass_stage(gani_pass *pass, const gani_stage *stage) {
    pass->overflow |= stage->bytes == 0;
    return gani_pass_take(pass, stage->in_place ? 0 : stage->bytes);
}

static const float *gani_pass_staged(gani_pass *pass, const gani_stage *stage, const float *source,
                                     const gani_set *set, unsigned char *scratch) {
    return pass->scratch ? gani_stage_run(pass->ctx, stage, source, set, scratch) : NULL;
}

/* a + offset, also while measuring, when there are no arrays. */
static const float *gani_at(const float *a, ptrdiff_t offset) {
    return a ? a + offset : NULL;
}

static float *gani_at_out(float *a, ptrdiff_t offset) {
    return a ? a + offset : NULL;
}

/* --- offsets ---------------------------------------------------------------- */

/* Along (channel, u, v) of staged x: tap u is in phase u*d % s, at row u*d / s. */
static gani_axis gani_axis_taps(const gani_stage *t, const gani_conv *s) {
    const ptrdiff_t phase = gani_stage_phase_size(t);
    gani_level u = gani_level_make(s->kh, t->wq), v = gani_level_make(s->kw, 1);
    u.step = s->dilation_h;
    u.split = t->phases_h;
    u.rest = phase * t->phases_w;
    v.step = s->dilation_w;
    v.split = t->phases_w;
    v.rest = phase;
    return gani_axis_make(gani_level_make(s->c, gani_stage_plane_size(t)), u, v);
}

/* Along (image, row, column) of a map of oh x ow places in images of `image` floats and rows of
 * `row`. */
static gani_axis gani_axis_places(ptrdiff_t image, int oh, ptrdiff_t row, int ow,
                                  ptrdiff_t column) {
    return gani_axis_make(gani_level_make(1, image), gani_level_make(oh, row),
                          gani_level_make(ow, column));
}

static void gani_product_clear(gani_product *p) {
    memset(p, 0, sizeof *p);
    p->alpha = 1.0f;
}

/* --- forward and weight grad -------------------------------------------------- */

/* y[q, (b,i,j)] = w[q, (p,u,v)] * windows[(p,u,v), (b,i,j)] */
static void gani_walk_forward(gani_pass *pass, const gani_conv_call *call) {
    const gani_conv *s = &call->s;
    const int c = s->c / s->groups, o = s->o / s->groups, taps = c * s->kh * s->kw;
    const ptrdiff_t map = (ptrdiff_t)s->oh * s->ow;
    const gani_stage stage = gani_stage_x(s, pass->ctx->threads, 0);
    const ptrdiff_t plane = gani_stage_plane_size(&stage);
    unsigned char *scratch = gani_pass_stage(pass, &stage);
    gani_set set = {0, 0, 0, 0};
    while (gani_set_next(&set, &stage, s->n)) {
        const float *staged = gani_pass_staged(pass, &stage, call->in, &set, scratch);
        for (int g = 0; g < s->groups; g++) {
            const ptrdiff_t at =
                ((ptrdiff_t)set.first * s->o + (ptrdiff_t)g * o) * map + (ptrdiff_t)set.top * s->ow;
            gani_product p;
            gani_product_clear(&p);
            p.m = p.m_all = o;
            p.n = set.images * set.rows * s->ow;
            p.n_all = s->n * (int)map;
            p.k = taps;
            p.a = gani_operand_plain(gani_at(call->with, (ptrdiff_t)g * o * taps), taps, 1);
            p.b.base = gani_at(staged, g * c * plane);
            p.b.row = gani_axis_taps(&stage, s);
            p.b.col = gani_axis_places(s->c * plane, set.rows, stage.wq, s->ow, 1);
            p.c = gani_at_out(call->out, at);
            p.c_row = gani_axis_plain(map);
            p.c_col = gani_axis_places(s->o * map, set.rows, s->ow, s->ow, 1);
            p.bias_row = gani_at(call->bias, (ptrdiff_t)g * o);
            p.act = call->act;
            gani_pass_product(pass, &p);
        }
    }
}

/* dw[q, (p,u,v)] = sum over (b,i,j)  dy[q, (b,i,j)] * windows[(p,u,v), (b,i,j)]; a set is summed
 * by one product, one set after the other, so what is a set must not depend on the number of
 * threads. */
static void gani_walk_weight_grad(gani_pass *pass, const gani_conv_call *call) {
    const gani_conv *s = &call->s;
    const int c = s->c / s->groups, o = s->o / s->groups, taps = c * s->kh * s->kw;
    const ptrdiff_t map = (ptrdiff_t)s->oh * s->ow;
    const gani_stage stage = gani_stage_x(s, 1, (size_t)s->o * (size_t)s->ow);
    const ptrdiff_t plane = gani_stage_plane_size(&stage);
    unsigned char *scratch = gani_pass_stage(pass, &stage);
    gani_set set = {0, 0, 0, 0};
    while (gani_set_next(&set, &stage, s->n)) {
        const float *staged = gani_pass_staged(pass, &stage, call->in, &set, scratch);
        for (int g = 0; g < s->groups; g++) {
            const ptrdiff_t at =
                ((ptrdiff_t)set.first * s->o + (ptrdiff_t)g * o) * map + (ptrdiff_t)set.top * s->ow;
            gani_product p;
            gani_product_clear(&p);
            p.m = p.m_all = o;
            p.n = p.n_all = taps;
            p.k = set.images * set.rows * s->ow;
            p.a.base = gani_at(call->with, at);
            p.a.row = gani_axis_plain(map);
            p.a.col = gani_axis_places(s->o * map, set.rows, s->ow, s->ow, 1);
            p.b.base = gani_at(staged, g * c * plane);
            p.b.row = gani_axis_places(s->c * plane, set.rows, stage.wq, s->ow, 1);
            p.b.col = gani_axis_taps(&stage, s);
            p.c = gani_at_out(call->out, (ptrdiff_t)g * o * taps);
            p.c_row = gani_axis_plain(taps);
            p.c_col = gani_axis_plain(1);
            p.beta = set.first > 0 || set.top > 0 ? 1.0f : 0.0f;
            gani_pass_product(pass, &p);
        }
    }
}

/* --- input grad ------------------------------------------------------------- */

/* Along one axis, the pixels t = first, first + s, ... that meet taps u = tap, tap + tap_step,
 * ...:  tap number e meets pixel number f at dy[f - e*back + start]. */
typedef struct gani_conv_phase {
    int first, count;
    int tap, tap_step, taps;
    int start, back;
} gani_conv_phase;

static gani_conv_phase gani_conv_phase_make(int phase, int size, int kernel, int stride, int pad,
                                            int dilation) {
    gani_conv_phase t;
    t.first = ((phase - pad) % stride + stride) % stride;
    t.count = t.first < size ? gani_ceil_div(size - t.first, stride) : 0;
    t.tap = 0;
    while (t.tap < stride && (int64_t)t.tap * dilation % stride != phase) {
        t.tap++;
    }
    t.tap_step = 1;
    while ((int64_t)t.tap_step * dilation % stride != 0) {
        t.tap_step++;
    }
    t.taps = t.tap < stride && t.tap < kernel ? gani_ceil_div(kernel - t.tap, t.tap_step) : 0;
    t.start = t.taps ? (t.first + pad - t.tap * dilation) / stride : 0;
    t.back = t.taps > 1 ? t.tap_step * dilation / stride : 0;
    return t;
}

/* The part of a phase in rows top ... top+rows-1 of every phase; dy is staged from the same row. */
static gani_conv_phase gani_conv_phase_band(gani_conv_phase t, int stride, int top, int rows) {
    t.count = t.count - top < rows ? t.count - top : rows;
    t.first += top * stride;
    return t;
}

/* Widens before and after by the padding that one phase needs along one axis of dy. */
static void gani_conv_phase_reach(const gani_conv_phase *t, int size, int *before, int *after) {
    if (t->taps && t->count) {
        const int low = t->start - (t->taps - 1) * t->back, high = t->start + t->count - size;
        *before = -low > *before ? -low : *before;
        *after = high > *after ? high : *after;
    }
}

/* Stage of dy: padding as far as any phase reaches. */
static gani_stage gani_stage_dy(const gani_conv *s, int sharers) {
    gani_stage t;
    int after_h = 0, after_w = 0;
    t.c = s->o;
    t.h = s->oh;
    t.w = s->ow;
    t.phases_h = t.phases_w = 1;
    t.pad_h = t.pad_w = 0;
    t.reflect = 0;
    t.rows_all = gani_ceil_div(s->h, s->stride_h);
    for (int i = 0; i < s->stride_h; i++) {
        const gani_conv_phase phase =
            gani_conv_phase_make(i, s->h, s->kh, s->stride_h, s->pad_h, s->dilation_h);
        gani_conv_phase_reach(&phase, s->oh, &t.pad_h, &after_h);
    }
    for (int i = 0; i < s->stride_w; i++) {
        const gani_conv_phase phase =
            gani_conv_phase_make(i, s->w, s->kw, s->stride_w, s->pad_w, s->dilation_w);
        gani_conv_phase_reach(&phase, s->ow, &t.pad_w, &after_w);
    }
    t.halo = t.pad_h + s->oh + after_h - t.rows_all;
    t.halo = t.halo > 0 ? t.halo : 0;
    t.wq = t.pad_w + s->ow + after_w;
    gani_stage_size(&t, s, sharers, 0);
    return t;
}

/* dx of one phase, [p, (b,i,j)] = w[p, (q,u,v)] * staged dy[(q,u,v), (b,i,j)], for every group. */
static void gani_walk_phase(gani_pass *pass, const gani_conv_call *call, const gani_stage *stage,
                            const float *staged, const gani_set *set, const gani_conv_phase *y,
                            const gani_conv_phase *x) {
    const gani_conv *s = &call->s;
    const int c = s->c / s->groups, o = s->o / s->groups;
    const ptrdiff_t area = (ptrdiff_t)s->kh * s->kw, plane = gani_stage_plane_size(stage);
    const ptrdiff_t size = (ptrdiff_t)s->h * s->w, at = (ptrdiff_t)y->first * s->w + x->first;
    const ptrdiff_t corner =
        (ptrdiff_t)(stage->pad_h + y->start) * stage->wq + stage->pad_w + x->start;
    for (int g = 0; g < s->groups; g++) {
        gani_product p;
        gani_product_clear(&p);
        p.m = p.m_all = c;
        p.n = set->images * y->count * x->count;
        p.n_all = s->n * stage->rows_all * x->count;
        p.k = o * y->taps * x->taps;
        p.a.base =
            gani_at(call->with, (ptrdiff_t)g * o * c * area + (ptrdiff_t)y->tap * s->kw + x->tap);
        p.a.row = gani_axis_plain(area);
        p.a.col = gani_axis_make(gani_level_make(o, c * area),
                                 gani_level_make(y->taps, (ptrdiff_t)y->tap_step * s->kw),
                                 gani_level_make(x->taps, x->tap_step));
        p.b.base = gani_at(staged, g * o * plane + corner);
        p.b.row = gani_axis_make(gani_level_make(o, plane),
                                 gani_level_make(y->taps, -(ptrdiff_t)y->back * stage->wq),
                                 gani_level_make(x->taps, -(ptrdiff_t)x->back));
        p.b.col = gani_axis_places(s->o * plane, y->count, stage->wq, x->count, 1);
        p.c = gani_at_out(call->out, ((ptrdiff_t)set->first * s->c + (ptrdiff_t)g * c) * size + at);
        p.c_row = gani_axis_plain(size);
        p.c_col = gani_axis_places(s->c * size, y->count, (ptrdiff_t)s->stride_h * s->w, x->count,
                                   s->stride_w);
        p.bias_row = gani_at(call->bias, (ptrdiff_t)g * c);
        p.act = call->act;
        gani_pass_product(pass, &p);
    }
}

/* dx of a set, phase by phase. */
static void gani_walk_phases(gani_pass *pass, const gani_conv_call *call, const gani_stage *stage,
                             const gani_set *set, const float *staged) {
    const gani_conv *s = &call->s;
    for (int i = 0; i < s->stride_h; i++) {
        const gani_conv_phase all =
            gani_conv_phase_make(i, s->h, s->kh, s->stride_h, s->pad_h, s->dilation_h);
        const gani_conv_phase y = gani_conv_phase_band(all, s->stride_h, set->top, set->rows);
        for (int j = 0; j < s->stride_w; j++) {
            const gani_conv_phase x =
                gani_conv_phase_make(j, s->w, s->kw, s->stride_w, s->pad_w, s->dilation_w);
            if (y.count > 0 && x.count > 0) {
                gani_walk_phase(pass, call, stage, staged, set, &y, &x);
            }
        }
    }
}

/* parts[(b,i,j), (p,u,v)] = dy[(b,i,j), q] * w[q, (p,u,v)] for every group; rows of parts are
 * `row` floats apart. */
static void gani_walk_parts(gani_pass *pass, const gani_conv_call *call, int first, int images,
                            float *parts) {
    const gani_conv *s = &call->s;
    const int o = s->o / s->groups, taps = s->c / s->groups * s->kh * s->kw;
    const ptrdiff_t map = (ptrdiff_t)s->oh * s->ow;
    for (int g = 0; g < s->groups; g++) {
        gani_product p;
        gani_product_clear(&p);
        p.m = p.m_all = images * (int)map;
        p.n = p.n_all = taps;
        p.k = o;
        p.a.base = gani_at(call->in, ((ptrdiff_t)first * s->o + (ptrdiff_t)g * o) * map);
        p.a.row = gani_axis_places(s->o * map, s->oh, s->ow, s->ow, 1);
        p.a.col = gani_axis_plain(map);
        p.b = gani_operand_plain(gani_at(call->with, (ptrdiff_t)g * o * taps), taps, 1);
        p.c = gani_at_out(parts, (ptrdiff_t)g * taps);
        p.c_row = gani_axis_plain((ptrdiff_t)s->groups * taps);
        p.c_col = gani_axis_plain(1);
        gani_pass_product(pass, &p);
    }
}

typedef struct gani_fold_job {
    const gani_kernels *kernels;
    const gani_conv_call *call;
    const float *from; /* parts; or padded images */
    float *to;
} gani_fold_job;

/* Bias and activation of one channel. */
static void gani_finish_plane(const gani_fold_job *job, int channel, float *x, ptrdiff_t size) {
    const gani_conv_call *call = job->call;
    const float bias = call->bias ? call->bias[channel] : 0.0f;
    for (ptrdiff_t i = 0; i < size && call->bias; i++) {
        x[i] += bias;
    }
    if (call->act.kind != GAN_ACT_NONE) {
        job->kernels->act_inplace(x, (size_t)size, call->act.kind, call->act.slope);
    }
}

/* Adds the parts of one channel of one image where their taps meet the image. */
static void gani_fold_parts(const void *arg, int plane) {
    const gani_fold_job *job = (const gani_fold_job *)arg;
    const gani_conv *s = &job->call->s;
    const ptrdiff_t size = (ptrdiff_t)s->h * s->w, area = (ptrdiff_t)s->kh * s->kw,
                    row = s->c * area;
    const float *parts =
        job->from + plane / s->c * (ptrdiff_t)s->oh * s->ow * row + plane % s->c * area;
    float *dx = job->to + plane * size;
    memset(dx, 0, (size_t)size * sizeof *dx);
    for (int i = 0; i < s->oh; i++) {
        for (int j = 0; j < s->ow; j++, parts += row) {
            for (int u = 0; u < s->kh; u++) {
                const int y = i * s->stride_h + u * s->dilation_h - s->pad_h;
                for (int v = 0; v < s->kw && y >= 0 && y < s->h; v++) {
                    const int x = j * s->stride_w + v * s->dilation_w - s->pad_w;
                    if (x >= 0 && x < s->w) {
                        dx[(ptrdiff_t)y * s->w + x] += parts[u * s->kw + v];
                    }
                }
            }
        }
    }
    gani_finish_plane(job, plane % s->c, dx, size);
}

/* Adds a padded row to the row that it shows. */
static void gani_fold_row(const gani_kernels *kernels, const gani_conv *s, const float *padded,
                          float *to) {
    kernels->binary(GANI_BINARY_ADD, to, 1, padded + s->pad_w, 1, 0.0f, to, (size_t)s->w);
    for (int j = 0; j < s->pad_w; j++) {
        to[s->pad_w - j] += padded[j];
        to[s->w - 2 - j] += padded[s->pad_w + s->w + j];
    }
}

/* Gradient of reflecting padding: every padded pixel is added to the one it shows. */
static void gani_fold_reflected(const void *arg, int plane) {
    const gani_fold_job *job = (const gani_fold_job *)arg;
    const gani_conv *s = &job->call->s;
    const int hp = s->h + 2 * s->pad_h, wp = s->w + 2 * s->pad_w;
    const ptrdiff_t size = (ptrdiff_t)s->h * s->w;
    const float *padded = job->from + plane * (ptrdiff_t)hp * wp;
    float *dx = job->to + plane * size;
    memset(dx, 0, (size_t)size * sizeof *dx);
    for (int i = 0; i < hp; i++, padded += wp) {
        gani_fold_row(job->kernels, s, padded,
                      dx + (ptrdiff_t)gani_stage_index(i, s->pad_h, s->h, 1) * s->w);
    }
    gani_finish_plane(job, plane % s->c, dx, size);
}

static void gani_finish_task(const void *arg, int plane) {
    const gani_fold_job *job = (const gani_fold_job *)arg;
    const gani_conv *s = &job->call->s;
    const ptrdiff_t size = (ptrdiff_t)s->h * s->w;
    gani_finish_plane(job, plane % s->c, job->to + plane * size, size);
}

/* Runs a second pass over the planes of some images of dx. */
static void gani_pass_planes(gani_pass *pass, const gani_conv_call *call, int images,
                             const float *from, float *to,
                             void (*run)(const void *arg, int plane)) {
    if (pass->scratch) {
        gani_fold_job job;
        job.kernels = pass->ctx->kernels;
        job.call = call;
        job.from = from;
        job.to = to;
        gani_for_planes(pass->ctx, images * call->s.c, (ptrdiff_t)call->s.h * call->s.w, run, &job);
    }
}

/* One window that is the whole image: dx[b, (p,u,v)] is the product of parts itself. */
static int gani_conv_is_dense(const gani_conv *s) {
    return s->oh == 1 && s->ow == 1 && s->h == s->kh && s->w == s->kw && s->pad_h == 0 &&
           s->pad_w == 0 && (s->kh == 1 || s->dilation_h == 1) &&
           (s->kw == 1 || s->dilation_w == 1);
}

/* Zero padding (or none). */
static void gani_walk_input_grad_zero(gani_pass *pass, const gani_conv_call *call) {
    const gani_conv *s = &call->s;
    if (gani_conv_is_dense(s)) {
        gani_walk_parts(pass, call, 0, s->n, call->out);
        if (call->bias || call->act.kind != GAN_ACT_NONE) {
            gani_pass_planes(pass, call, s->n, NULL, call->out, gani_finish_task);
        }
        return;
    }
    if ((int64_t)s->n * s->oh * s->ow <= GANI_CONV_FOLD_PIXELS) {
        size_t bytes = gani_mul((size_t)s->n * (size_t)s->oh * (size_t)s->ow, (size_t)s->c);
        bytes = gani_mul(bytes, gani_mul((size_t)s->kh * (size_t)s->kw, sizeof(float)));
        pass->overflow |= bytes == 0;
        float *parts = (float *)(void *)gani_pass_take(pass, gani_round_up(bytes, GANI_ALIGN));
        gani_walk_parts(pass, call, 0, s->n, parts);
        gani_pass_planes(pass, call, s->n, parts, call->out, gani_fold_parts);
        return;
    }
    const gani_stage stage = gani_stage_dy(s, pass->ctx->threads);
    unsigned char *scratch = gani_pass_stage(pass, &stage);
    gani_set set = {0, 0, 0, 0};
    while (gani_set_next(&set, &stage, s->n)) {
        gani_walk_phases(pass, call, &stage, &set,
                         gani_pass_staged(pass, &stage, call->in, &set, scratch));
    }
}

/* ============================================================================
 * >>winograd  4.3  CONVOLUTIONS WITH FEWER MULTIPLICATIONS
 *
 * A convolution of stride s with a kernel of r*s taps is the sum of s*s convolutions of stride 1
 * with r taps, one for each phase (pixels with the same row and column modulo s). Each is computed
 * in tiles of m x m outputs at (r+m-1)^2 points by the transforms of >>kernels-winograd; at a point
 * the convolution over channels and phases is a plain product. All three passes share the
 * transforms; with X = Bt d B of x, Y = A dy At of y, W = G w Gt of the weights, at every point e,
 *
 *     forward       y  = At (sum over channels and phases  X W) A
 *     input grad    dx = B  (sum over output channels      Y W) Bt, added where tiles overlap
 *     weight grad   dw = Gt (sum over tiles                X Y) G
 *
 * Products for each direct one, with m = 4 outputs but for the last: 25/64 for 4x4 kernels of stride
 * 2 (2 taps); 36/144 for 3x3 of stride 1 (3 taps); 81/144 for 3x3 of stride 2, whose odd phases have
 * 2 taps of which the second is 0, and then need no products at infinity; 36/144 for 4x4 of stride
 * 1 (4 taps, m = 3).
 *
 * A line is a row of tiles of one image. Some lines at a time are transformed to points,
 *
 *     [chunk][point][tile][64],   a chunk: 16 channels for each of 4 phases, or 64 channels
 *
 * small enough to stay in the last cache. Then a task takes one chunk of the result: for every
 * chunk that is summed it makes the points of the weights, 64 x 64, on the fly in the second cache
 * (stored points would be six times as large as the weights, and be read from memory), multiplies,
 * and transforms the result back. Sums over channels are made chunk by chunk, which also keeps the
 * rounding error several times smaller than one long sum would.
 *
 * Tiles of input grad overlap by r-1 rows of every phase. A task adds them line by line in a ring
 * of rows; if it begins within an image it computes the line before once more. Thus tasks are
 * independent and every pixel has its terms added in one order: same bits for any number of
 * threads.
 *
 * Holds:  tiles, points, the three passes.
 * Uses:   >>kernels-winograd  >>gemm  >>conv        Knows nothing of: tensors, graphs.
 * ========================================================================= */

enum {
    GANI_WINO_POINT_BYTES = 16 << 20, /* of points at a time: half of a last cache */
    /* Tiles of a task: fewer would cost more in weight transforms than memory saves, more would
     * push the result of a forward task out of the second cache. The gradients begin and end a
     * block at some cost. */
    GANI_WINO_TILES_LEAST = 48,
    GANI_WINO_TILES_MOST = 96,
    GANI_WINO_GRAD_TILES = 192,
    GANI_WINO_CHANNELS_LEAST = 16,
    GANI_WINO_PITCH = GANI_WINO_CHUNK * GANI_WINO_CHUNK + 16 /* of weights: no power of two */
};

/* Which layers: those below with at least GANI_WINO_CHANNELS_LEAST channels on both sides and so
 * many tiles. With fewer the weight transform costs more than is saved (measured: bench/). */
typedef struct gani_wino_row {
    int kernel, stride;
    int taps, tile;  /* of a phase: at most taps x taps; outputs of a tile: tile x tile */
    int tiles_least; /* of all images */
} gani_wino_row;

static const gani_wino_row gani_wino_rows[] = {
    {4, 2, 2, 4, 16},
    {3, 2, 2, 4, 16}, /* as 4x4 whose last row and column are 0 */
    {3, 1, 3, 4, 4},
    {4, 1, 4, 3, 4},
};

/* One side of a layer, x or y, as tiles. */
typedef struct gani_wino_side {
    int channels, h, w; /* [n][channels][h][w] */
    int stride, reach;  /* a tile spans `reach` rows of each phase */
    int pad_h, pad_w, reflect;
    int phases, group; /* stride*stride; channels of a chunk */
    int chunks;
    int cols; /* of a staged line of tiles, all phases, and what the windows leave over */
} gani_wino_side;

typedef struct gani_wino {
    gani_conv s;
    int taps, stride, tile, points; /* points = (taps+tile-1)^2 */
    int kernel;                     /* taps*stride: rows and columns of the kernel, some all 0 */
    int th, tw, lines;              /* lines of an image, tiles of a line, lines of all images */
    gani_wino_side x, y;
    int task_lines, tasks; /* lines of a task, and how many such pieces at a time */
    ptrdiff_t pitch_in;    /* floats between points of what is gathered */
    ptrdiff_t pitch_out;   /* and of a task's result */
} gani_wino;

/* The row for a layer, NULL if it is not one for these algorithms. */
static const gani_wino_row *gani_wino_find(const gan_context *ctx, const gani_conv *s) {
    const int plain = s->groups == 1 && s->dilation_h == 1 && s->dilation_w == 1 &&
                      s->kh == s->kw && s->stride_h == s->stride_w;
    if (ctx->direct_conv || !plain || s->c < GANI_WINO_CHANNELS_LEAST ||
        s->o < GANI_WINO_CHANNELS_LEAST) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof gani_wino_rows / sizeof gani_wino_rows[0]; i++) {
        const gani_wino_row *row = &gani_wino_rows[i];
        const int64_t tiles =
            (int64_t)s->n * gani_ceil_div(s->oh, row->tile) * gani_ceil_div(s->ow, row->tile);
        if (s->stride_h == row->stride && s->kh == row->kernel && tiles >= row->tiles_least) {
            return row;
        }
    }
    return NULL;
}

/* Points along an axis. */
static int gani_wino_across(const gani_wino *s) {
    return s->taps + s->tile - 1;
}

/* A transform; with fewer outputs than taps, those of maps and of weights change places. */
static void gani_wino_transform(const gani_kernels *kernels, const gani_wino *s, int kind,
                                const gani_wino_move *move) {
    if (s->taps > s->tile && kind != GANI_WINO_DATA && kind != GANI_WINO_DATA_T) {
        kind = kind == GANI_WINO_MAP      ? GANI_WINO_WEIGHT
               : kind == GANI_WINO_WEIGHT ? GANI_WINO_MAP
               : kind == GANI_WINO_MAP_T  ? GANI_WINO_WEIGHT_T
                                          : GANI_WINO_MAP_T;
    }
    kernels->wino_transform(gani_wino_across(s), kind, move);
}

static gani_wino_side gani_wino_side_make(const gani_wino *s, int channels, int h, int w,
                                          int stride, int reach) {
    gani_wino_side side;
    side.channels = channels;
    side.h = h;
    side.w = w;
    side.stride = stride;
    side.reach = reach;
    side.pad_h = side.pad_w = side.reflect = 0;
    side.phases = stride * stride;
    side.group = GANI_WINO_CHUNK / side.phases;
    side.chunks = gani_ceil_div(channels, side.group);
    side.cols = (s->tile * (s->tw - 1) + reach + 1) * stride;
    return side;
}

/* Lines of a task, so that all points of `chunks` chunks fit; whole images if there is room. */
static int gani_wino_task_lines(const gani_wino *s, int chunks, int most) {
    const size_t tile = (size_t)chunks * (size_t)s->points * GANI_WINO_CHUNK * sizeof(float);
    const size_t fit = GANI_WINO_POINT_BYTES / tile;
    int tiles = fit < (size_t)most ? (int)fit : most;
    tiles = tiles > GANI_WINO_TILES_LEAST ? tiles : GANI_WINO_TILES_LEAST;
    int lines = tiles / s->tw > 1 ? tiles / s->tw : 1;
    if (lines >= s->th) {
        return gani_piece(s->lines / s->th, lines / s->th, 1) * s->th;
    }
    return gani_piece(s->th, lines, 1);
}

/* Geometry of a layer for which there is a row, for a direction as in gani_conv_workspace. */
static gani_wino gani_wino_make(const gan_context *ctx, const gani_conv *conv, int direction) {
    const gani_wino_row *row = gani_wino_find(ctx, conv);
    gani_wino s;
    s.s = *conv;
    s.taps = row->taps;
    s.stride = row->stride;
    s.tile = row->tile;
    s.points = gani_wino_across(&s) * gani_wino_across(&s);
    s.kernel = s.taps * s.stride;
    s.th = gani_ceil_div(conv->oh, s.tile);
    s.tw = gani_ceil_div(conv->ow, s.tile);
    s.lines = conv->n * s.th;
    s.x = gani_wino_side_make(&s, conv->c, conv->h, conv->w, s.stride, gani_wino_across(&s));
    s.x.pad_h = conv->pad_h;
    s.x.pad_w = conv->pad_w;
    s.x.reflect = conv->reflect;
    s.y = gani_wino_side_make(&s, conv->o, conv->oh, conv->ow, 1, s.tile);
    s.tasks = 1;
    if (direction == 2) {
        s.task_lines = gani_wino_task_lines(&s, s.x.chunks + s.y.chunks, GANI_WINO_GRAD_TILES);
    } else {
        const int chunks = direction == 0 ? s.y.chunks : s.x.chunks;
        s.task_lines =
            gani_wino_task_lines(&s, direction == 0 ? s.x.chunks : s.y.chunks,
                                 direction == 0 ? GANI_WINO_TILES_MOST : GANI_WINO_GRAD_TILES);
        if (ctx->threads > 1 && chunks < 2 * ctx->threads) {
            const int pieces = gani_ceil_div(2 * ctx->threads, chunks),
                      least = direction == 0 ? 1 : 4;
            const int wanted =
                gani_ceil_div(s.lines, pieces) > least ? gani_ceil_div(s.lines, pieces) : least;
            s.task_lines = s.task_lines < wanted ? s.task_lines : wanted;
            s.tasks = gani_ceil_div(s.lines, s.task_lines) < pieces
                          ? gani_ceil_div(s.lines, s.task_lines)
                          : pieces;
        }
    }
    s.pitch_in = ((ptrdiff_t)s.task_lines * s.tasks + 1) * s.tw * GANI_WINO_CHUNK + 16;
    s.pitch_out = ((ptrdiff_t)s.task_lines + 1) * s.tw * GANI_WINO_CHUNK + 16;
    return s;
}

/* Used columns of a chunk. */
static int gani_wino_width(const gani_wino_side *side, int chunk) {
    const int left = side->channels - chunk * side->group;
    const int channels = left < side->group ? left : side->group;
    return gani_ceil_div(channels, GANI_WINO_LANES) * GANI_WINO_LANES * side->phases;
}

/* Where the 16 channels of a phase lie in a chunk: phases 1, 0, 2, 3, see below. */
static int gani_wino_phase_column(int phase) {
    return (phase < 2 ? phase ^ 1 : phase) * GANI_WINO_LANES;
}

/* The columns of a chunk of x that matter at a point. Where a phase lacks the last row (column) of
 * taps, as an odd one does if 3 taps are taken for 4, its weights at the points with infinity
 * there, which are that row, are 0. Phases 0, 1 have even rows and 0, 2 even columns: in the order
 * above what is left are neighbours. */
static gani_span gani_wino_used(const gani_wino *s, int chunk, int point) {
    const int last = gani_wino_across(s) - 1;
    gani_span used;
    used.first = 0;
    used.end = gani_wino_width(&s->x, chunk);
    if (s->s.kh < s->kernel && point % (last + 1) == last) {
        used.first = GANI_WINO_LANES;
        used.end = 3 * GANI_WINO_LANES;
    }
    if (s->s.kh < s->kernel && point / (last + 1) == last) {
        used.end = 2 * GANI_WINO_LANES;
    }
    return used;
}

/* Scratch of a thread. */
typedef struct gani_wino_slot {
    float *stage;   /* pixels or weights, channels side by side */
    float *weights; /* points of 64 x 64 weights */
    float *result;  /* points of a task's result */
} gani_wino_slot;

/* A pass at work. Only one of the sides is read by the first two, both by the weight grad. */
typedef struct gani_wino_job {
    const gani_kernels *kernels;
    const gani_wino *s;
    const gani_conv_call *call;
    int direction;
    int first, lines, lead; /* the lines that are transformed; lead: and the one before */
    const gani_wino_side *from, *to;
    float *from_points, *to_points; /* [chunks][points][tile][64]; to_points: of weight grad */
    unsigned char *scratch;
    size_t slot_bytes;
    int slots;
} gani_wino_job;

static size_t gani_wino_stage_floats(const gani_wino *s) {
    const size_t line =
        (size_t)(s->x.reach + 1) * (size_t)s->stride * (size_t)s->x.cols * GANI_WINO_LANES;
    const size_t weights = (size_t)(s->kernel * s->kernel) * (size_t)s->x.group * GANI_WINO_CHUNK;
    return line > weights ? line : weights;
}

/* Carves a slot; with base NULL only returns its size, 0 if that overflows. */
static size_t gani_wino_carve(const gani_wino *s, int direction, unsigned char *base,
                              gani_wino_slot *slot) {
    const size_t points = (size_t)s->points;
    const size_t stage = gani_round_up(gani_wino_stage_floats(s) * sizeof(float), GANI_ALIGN);
    const size_t weights = gani_round_up(points * GANI_WINO_PITCH * sizeof(float), GANI_ALIGN);
    const size_t result =
        direction == 2 ? 0
                       : gani_round_up(points * (size_t)s->pitch_out * sizeof(float), GANI_ALIGN);
    if (base) {
        slot->stage = (float *)(void *)base;
        slot->weights = (float *)(void *)(base + stage);
        slot->result = (float *)(void *)(base + stage + weights);
    }
    return stage + weights + result;
}

static gani_wino_slot gani_wino_slot_make(const gani_wino_job *job, int index) {
    gani_wino_slot slot;
    gani_wino_carve(job->s, job->direction, job->scratch + (size_t)index * job->slot_bytes, &slot);
    return slot;
}

/* --- pixels to points ----------------------------------------------------------- */

/* Places from ... to-1 of a row that are padding. */
static void gani_wino_stage_edge(const gani_wino_side *side, float *out, int from, int to) {
    for (int x = from; x < to; x++) {
        const int at = gani_stage_index(x, side->pad_w, side->w, side->reflect);
        float *pixel = out + (ptrdiff_t)x * GANI_WINO_LANES;
        memset(pixel, 0, GANI_WINO_LANES * sizeof *pixel);
        if (at >= 0) {
            memcpy(pixel, out + ((ptrdiff_t)at + side->pad_w) * GANI_WINO_LANES,
                   GANI_WINO_LANES * sizeof *pixel);
        }
    }
}

/* A row of some channels with its padding, out [cols][16]; in is the source row, NULL: zeros. */
static void gani_wino_stage_row(const gani_kernels *kernels, const gani_wino_side *side,
                                const float *in, int channels, float *out) {
    const int first = side->pad_w < side->cols ? side->pad_w : side->cols;
    const int end = first + side->w < side->cols ? first + side->w : side->cols;
    if (!in || channels < GANI_WINO_LANES) {
        memset(out, 0, (size_t)side->cols * GANI_WINO_LANES * sizeof *out);
    }
    if (!in) {
        return;
    }
    kernels->wino_transpose(in, (ptrdiff_t)side->h * side->w, channels, end - first,
                            out + (ptrdiff_t)first * GANI_WINO_LANES, GANI_WINO_LANES);
    gani_wino_stage_edge(side, out, 0, first);
    gani_wino_stage_edge(side, out, end, side->cols);
}

/* Transforms 16 channels of a line, from `source` to tiles at, at+1, ... of points. */
static void gani_wino_gather(const gani_wino_job *job, const gani_wino_side *side,
                             const gani_wino_slot *slot, const float *source, float *points,
                             int line, int block) {
    const gani_wino *s = job->s;
    const int image = line / s->th, channel = block * GANI_WINO_LANES;
    const int left = side->channels - channel,
              channels = left < GANI_WINO_LANES ? left : GANI_WINO_LANES;
    const int top = line % s->th * s->tile * side->stride, rows = side->reach * side->stride;
    const ptrdiff_t plane = (ptrdiff_t)side->h * side->w,
                    row_floats = (ptrdiff_t)side->cols * GANI_WINO_LANES;
    const ptrdiff_t at = (ptrdiff_t)(line - job->first + job->lead) * s->tw;
    source += ((ptrdiff_t)image * side->channels + channel) * plane;
    for (int r = 0; r < rows; r++) {
        const int row = gani_stage_index(top + r, side->pad_h, side->h, side->reflect);
        gani_wino_stage_row(job->kernels, side, row >= 0 ? source + (ptrdiff_t)row * side->w : NULL,
                            channels, slot->stage + r * row_floats);
    }
    for (int phase = 0; phase < side->phases; phase++) {
        const int column = side->phases > 1 ? gani_wino_phase_column(phase) : channel % side->group;
        gani_wino_move move;
        move.in = slot->stage + phase / side->stride * row_floats +
                  phase % side->stride * GANI_WINO_LANES;
        move.in_row = side->stride * row_floats;
        move.in_col = (ptrdiff_t)side->stride * GANI_WINO_LANES;
        move.in_step = s->tile * move.in_col;
        move.out = points + (ptrdiff_t)(channel / side->group) * s->points * s->pitch_in +
                   at * GANI_WINO_CHUNK + column;
        move.out_col = s->pitch_in;
        move.out_row = gani_wino_across(s) * s->pitch_in;
        move.out_step = GANI_WINO_CHUNK;
        move.count = s->tw;
        gani_wino_transform(job->kernels, s, side == &s->x ? GANI_WINO_DATA : GANI_WINO_MAP, &move);
    }
}

static void gani_wino_gather_slot(void *arg, int index) {
    const gani_wino_job *job = (const gani_wino_job *)arg;
    const gani_wino_slot slot = gani_wino_slot_make(job, index);
    const int from = gani_ceil_div(job->from->channels, GANI_WINO_LANES);
    const int to = job->to_points ? gani_ceil_div(job->to->channels, GANI_WINO_LANES) : 0;
    const int items = (job->lines + job->lead) * (from + to);
    for (int item = index; item < items; item += job->slots) {
        const int line = job->first - job->lead + item / (from + to), block = item % (from + to);
        if (block < from) {
            gani_wino_gather(job, job->from, &slot, job->call->in, job->from_points, line, block);
        } else {
            gani_wino_gather(job, job->to, &slot, job->call->with, job->to_points, line,
                             block - from);
        }
    }
}

/* --- weights ------------------------------------------------------------------ */

/* A chunk of input channels by a chunk of output channels of the weights. Staged it is
 * [row][tap][lane], its points are [point][row][lane]; rows are the side that is summed, lanes the
 * other one. */
typedef struct gani_wino_panel {
    int rows, lanes; /* channels there are */
    int width;       /* of a staged row, lanes rounded up */
    ptrdiff_t at, row_step, lane_step;
    int rows_are_x;
} gani_wino_panel;

static gani_wino_panel gani_wino_panel_make(const gani_wino *s, int x_chunk, int y_chunk,
                                            int rows_are_x) {
    const ptrdiff_t area = (ptrdiff_t)s->s.kh * s->s.kw;
    const int c = x_chunk * s->x.group, o = y_chunk * s->y.group;
    const int cs = s->s.c - c < s->x.group ? s->s.c - c : s->x.group;
    const int os = s->s.o - o < s->y.group ? s->s.o - o : s->y.group;
    gani_wino_panel p;
    p.rows = rows_are_x ? cs : os;
    p.lanes = rows_are_x ? os : cs;
    p.width = gani_ceil_div(p.lanes, GANI_WINO_LANES) * GANI_WINO_LANES;
    p.at = ((ptrdiff_t)o * s->s.c + c) * area;
    p.row_step = rows_are_x ? area : s->s.c * area;
    p.lane_step = rows_are_x ? s->s.c * area : area;
    p.rows_are_x = rows_are_x;
    return p;
}

/* Staged weights to points or, for the inverse, points to staged weights. */
static void gani_wino_weights_transform(const gani_wino_job *job, const gani_wino_slot *slot,
                                        const gani_wino_panel *p, int inverse) {
    const gani_wino *s = job->s;
    const int area = s->kernel * s->kernel, phases = s->x.phases;
    const int row_blocks = gani_ceil_div(p->rows, GANI_WINO_LANES),
              lane_blocks = p->width / GANI_WINO_LANES;
    for (int i = 0; i < row_blocks * lane_blocks * phases; i++) {
        const int phase = i % phases, lane_block = i / phases % lane_blocks,
                  row_block = i / phases / lane_blocks;
        const int column = phases > 1 ? gani_wino_phase_column(phase) : 0; /* then one block */
        const int row =
            p->rows_are_x ? row_block * GANI_WINO_LANES + column : row_block * GANI_WINO_LANES;
        const int lane = lane_block * GANI_WINO_LANES + (p->rows_are_x ? 0 : column);
        const int tap = phase / s->stride * s->kernel + phase % s->stride;
        float *staged = slot->stage +
                        ((ptrdiff_t)row_block * GANI_WINO_LANES * area + tap) * p->width +
                        lane_block * GANI_WINO_LANES;
        float *points = slot->weights + (ptrdiff_t)row * GANI_WINO_CHUNK + lane;
        gani_wino_move move;
        move.in_col = (ptrdiff_t)s->stride * p->width;
        move.in_row = s->kernel * move.in_col;
        move.in_step = (ptrdiff_t)area * p->width;
        move.out_col = GANI_WINO_PITCH;
        move.out_row = (ptrdiff_t)gani_wino_across(s) * GANI_WINO_PITCH;
        move.out_step = GANI_WINO_CHUNK;
        move.in = staged;
        move.out = points;
        move.count = GANI_WINO_LANES;
        if (inverse) {
            const gani_wino_move forward = move;
            move.in = points;
            move.in_row = forward.out_row;
            move.in_col = forward.out_col;
            move.in_step = forward.out_step;
            move.out = staged;
            move.out_row = forward.in_row;
            move.out_col = forward.in_col;
            move.out_step = forward.in_step;
        }
        gani_wino_transform(job->kernels, s, inverse ? GANI_WINO_WEIGHT_T : GANI_WINO_WEIGHT,
                            &move);
    }
}

/* Staged rows of a kernel with kh x kw taps to those with kernel x kernel, the others 0; or, for
 * the inverse, back. In place, in the order in which nothing is overwritten before it is read. */
static void gani_wino_weights_spread(const gani_wino *s, const gani_wino_slot *slot,
                                     const gani_wino_panel *p, int inverse) {
    const int rows = gani_ceil_div(p->rows, GANI_WINO_LANES) * GANI_WINO_LANES;
    const int area = s->kernel * s->kernel, count = s->s.kh == s->kernel ? 0 : rows * area;
    const size_t bytes = (size_t)p->width * sizeof(float);
    for (int i = 0; i < count; i++) {
        const int at = inverse ? i : count - 1 - i;
        const int u = at % area / s->kernel, v = at % s->kernel;
        float *wide = slot->stage + (ptrdiff_t)at * p->width;
        float *narrow =
            slot->stage + (((ptrdiff_t)(at / area) * s->s.kh + u) * s->s.kw + v) * p->width;
        if (u < s->s.kh && v < s->s.kw) {
            memmove(inverse ? narrow : wide, inverse ? wide : narrow, bytes);
        } else if (!inverse) {
            memset(wide, 0, bytes);
        }
    }
}

/* Stages a panel of w; zeros where there are no channels, and with w NULL everywhere. */
static void gani_wino_weights_stage(const gani_wino_job *job, const gani_wino_slot *slot,
                                    const gani_wino_panel *p, const float *w) {
    const int area = job->s->s.kh * job->s->s.kw, rows = w ? p->rows : 0;
    const int padded = gani_ceil_div(p->rows, GANI_WINO_LANES) * GANI_WINO_LANES;
    const ptrdiff_t row = (ptrdiff_t)area * p->width;
    const int clear = p->lanes < p->width ? 0 : rows; /* rows from here on */
    memset(slot->stage + clear * row, 0, (size_t)(padded - clear) * (size_t)row * sizeof(float));
    if (!w) {
        return;
    }
    if (p->rows_are_x) { /* the taps of its rows are neighbours */
        job->kernels->wino_transpose(w + p->at, p->lane_step, p->lanes, rows * area, slot->stage,
                                     p->width);
        return;
    }
    for (int i = 0; i < rows; i++) {
        job->kernels->wino_transpose(w + p->at + i * p->row_step, p->lane_step, p->lanes, area,
                                     slot->stage + i * row, p->width);
    }
}

/* --- points to pixels ----------------------------------------------------------- */

/* Writes the finished rows of a line: channels channel ..., rows [count][cols][16], changed. */
static void gani_wino_emit(const gani_wino_job *job, const gani_wino_slot *slot, int line,
                           int channel, int count) {
    const gani_wino_side *side = job->to;
    const gani_conv_call *call = job->call;
    const int left = side->channels - channel,
              channels = left < GANI_WINO_LANES ? left : GANI_WINO_LANES;
    const int top = line % job->s->th * job->s->tile * side->stride - side->pad_h;
    const ptrdiff_t plane = (ptrdiff_t)side->h * side->w;
    float *out = call->out + ((ptrdiff_t)(line / job->s->th) * side->channels + channel) * plane;
    float bias[GANI_WINO_LANES] = {0.0f};
    if (call->bias) {
        memcpy(bias, call->bias + channel, (size_t)channels * sizeof *bias);
    }
    for (int r = top < 0 ? -top : 0; r < count && top + r < side->h; r++) {
        float *row = slot->stage + ((ptrdiff_t)r * side->cols + side->pad_w) * GANI_WINO_LANES;
        if (call->bias) {
            job->kernels->wino_bias(row, side->w, bias);
        }
        if (call->act.kind != GAN_ACT_NONE) {
            job->kernels->act_inplace(row, (size_t)side->w * GANI_WINO_LANES, call->act.kind,
                                      call->act.slope);
        }
        for (int lane = 0; lane < channels; lane += 8) {
            job->kernels->wino_transpose(
                row + lane, GANI_WINO_LANES, side->w, channels - lane < 8 ? channels - lane : 8,
                out + lane * plane + (ptrdiff_t)(top + r) * side->w, plane);
        }
    }
}

/* Transforms 16 channels of the result back, line by line, and writes them. The stage is a ring:
 * rows that the next line adds to move to its top. */
static void gani_wino_scatter(const gani_wino_job *job, const gani_wino_slot *slot, int first,
                              int lines, int lead, int channel) {
    const gani_wino *s = job->s;
    const gani_wino_side *side = job->to;
    const int rows = (side->reach + 1) * side->stride, step = s->tile * side->stride;
    const ptrdiff_t row_floats = (ptrdiff_t)side->cols * GANI_WINO_LANES;
    memset(slot->stage, 0, (size_t)(rows * row_floats) * sizeof(float));
    for (int line = first - lead; line < first + lines; line++) {
        const int last = line % s->th == s->th - 1, kept = last ? 0 : rows - step;
        for (int phase = 0; phase < side->phases; phase++) {
            gani_wino_move move;
            move.in = slot->result + (ptrdiff_t)(line - first + lead) * s->tw * GANI_WINO_CHUNK +
                      (side->phases > 1 ? gani_wino_phase_column(phase) : channel % side->group);
            move.in_col = s->pitch_out;
            move.in_row = gani_wino_across(s) * s->pitch_out;
            move.in_step = GANI_WINO_CHUNK;
            move.out = slot->stage + phase / side->stride * row_floats +
                       phase % side->stride * GANI_WINO_LANES;
            move.out_row = side->stride * row_floats;
            move.out_col = (ptrdiff_t)side->stride * GANI_WINO_LANES;
            move.out_step = s->tile * move.out_col;
            move.count = s->tw;
            gani_wino_transform(job->kernels, s, side == &s->x ? GANI_WINO_DATA_T : GANI_WINO_MAP_T,
                                &move);
        }
        if (line >= first) {
            gani_wino_emit(job, slot, line, channel, last ? rows : step);
        }
        memmove(slot->stage, slot->stage + step * row_floats,
                (size_t)(kept * row_floats) * sizeof(float));
        memset(slot->stage + kept * row_floats, 0,
               (size_t)((rows - kept) * row_floats) * sizeof(float));
    }
}

/* --- the passes --------------------------------------------------------------- */

/* One chunk of y or dx, for some lines. */
static void gani_wino_map_task(const gani_wino_job *job, const gani_wino_slot *slot, int first,
                               int chunk) {
    const gani_wino *s = job->s;
    const int left = job->first + job->lines - first,
              lines = left < s->task_lines ? left : s->task_lines;
    const int lead = job->direction == 1 && first % s->th != 0;
    const int tiles = (lines + lead) * s->tw;
    const ptrdiff_t at =
        (ptrdiff_t)(first - lead - job->first + job->lead) * s->tw * GANI_WINO_CHUNK;
    for (int k = 0; k < job->from->chunks; k++) {
        const float *in = job->from_points + (ptrdiff_t)k * s->points * s->pitch_in + at;
        const gani_wino_panel panel = job->direction == 0 ? gani_wino_panel_make(s, k, chunk, 1)
                                                          : gani_wino_panel_make(s, chunk, k, 0);
        gani_wino_weights_stage(job, slot, &panel, job->call->with);
        gani_wino_weights_spread(s, slot, &panel, 0);
        gani_wino_weights_transform(job, slot, &panel, 0);
        for (int e = 0; e < s->points; e++) {
            gani_span sum = {0, gani_wino_width(job->from, k)};
            gani_span out = {0, gani_wino_width(job->to, chunk)};
            if (job->direction == 0) {
                sum = gani_wino_used(s, k, e);
            } else if (k > 0) { /* the first product has set the rest to 0 */
                out = gani_wino_used(s, chunk, e);
            }
            job->kernels->wino_product(tiles, out.end - out.first, sum.end - sum.first,
                                       in + e * s->pitch_in + sum.first, GANI_WINO_CHUNK, 1,
                                       slot->weights + (ptrdiff_t)e * GANI_WINO_PITCH +
                                           sum.first * GANI_WINO_CHUNK + out.first,
                                       slot->result + e * s->pitch_out + out.first, k > 0);
        }
    }
    for (int channel = chunk * job->to->group;
         channel < job->to->channels && channel < (chunk + 1) * job->to->group;
         channel += GANI_WINO_LANES) {
        gani_wino_scatter(job, slot, first, lines, lead, channel);
    }
}

static void gani_wino_map_slot(void *arg, int index) {
    const gani_wino_job *job = (const gani_wino_job *)arg;
    const gani_wino_slot slot = gani_wino_slot_make(job, index);
    const int pieces = gani_ceil_div(job->lines, job->s->task_lines);
    for (int task = index; task < pieces * job->to->chunks; task += job->slots) {
        gani_wino_map_task(job, &slot, job->first + task % pieces * job->s->task_lines,
                           task / pieces);
    }
}

/* One chunk of x by one of y of dw, for the lines at hand. */
static void gani_wino_sum_task(const gani_wino_job *job, const gani_wino_slot *slot, int x_chunk,
                               int y_chunk) {
    const gani_wino *s = job->s;
    const gani_wino_panel panel = gani_wino_panel_make(s, x_chunk, y_chunk, 1);
    const float *x = job->from_points + (ptrdiff_t)x_chunk * s->points * s->pitch_in;
    const float *y = job->to_points + (ptrdiff_t)y_chunk * s->points * s->pitch_in;
    float *dw = job->call->out + panel.at;
    for (int e = 0; e < s->points; e++) { /* where x does not matter neither do the points */
        const gani_span used = gani_wino_used(s, x_chunk, e);
        job->kernels->wino_product(
            used.end - used.first, gani_wino_width(&s->y, y_chunk), job->lines * s->tw,
            x + e * s->pitch_in + used.first, 1, GANI_WINO_CHUNK, y + e * s->pitch_in,
            slot->weights + (ptrdiff_t)e * GANI_WINO_PITCH + used.first * GANI_WINO_CHUNK, 0);
    }
    gani_wino_weights_stage(job, slot, &panel, job->first > 0 ? job->call->out : NULL);
    gani_wino_weights_spread(s, slot, &panel, 0);
    gani_wino_weights_transform(job, slot, &panel, 1);
    gani_wino_weights_spread(s, slot, &panel, 1);
    for (int lane = 0; lane < panel.lanes;
         lane += 8) { /* few outputs at a time: rows a power of two apart evict each other */
        job->kernels->wino_transpose(slot->stage + lane, panel.width,
                                     panel.rows * s->s.kh * s->s.kw,
                                     panel.lanes - lane < 8 ? panel.lanes - lane : 8,
                                     dw + lane * panel.lane_step, panel.lane_step);
    }
}

static void gani_wino_sum_slot(void *arg, int index) {
    const gani_wino_job *job = (const gani_wino_job *)arg;
    const gani_wino_slot slot = gani_wino_slot_make(job, index);
    for (int task = index; task < job->from->chunks * job->to->chunks; task += job->slots) {
        gani_wino_sum_task(job, &slot, task % job->from->chunks, task / job->from->chunks);
    }
}

static float *gani_wino_take_points(gani_pass *pass, const gani_wino *s,
                                    const gani_wino_side *side) {
    const size_t bytes = gani_mul(gani_mul((size_t)side->chunks, (size_t)s->points),
                                  gani_mul((size_t)s->pitch_in, sizeof(float)));
    pass->overflow |= bytes == 0;
    return (float *)(void *)gani_pass_take(pass, gani_round_up(bytes, GANI_ALIGN));
}

static void gani_walk_wino(gani_pass *pass, const gani_conv_call *call, int direction) {
    const gani_wino s = gani_wino_make(pass->ctx, &call->s, direction);
    gani_wino_job job;
    job.kernels = pass->ctx->kernels;
    job.s = &s;
    job.call = call;
    job.direction = direction;
    job.from = direction == 1 ? &s.y : &s.x;
    job.to = direction == 1 ? &s.x : &s.y;
    job.from_points = gani_wino_take_points(pass, &s, job.from);
    job.to_points = direction == 2 ? gani_wino_take_points(pass, &s, job.to) : NULL;
    job.slots = pass->ctx->threads;
    job.slot_bytes = gani_wino_carve(&s, direction, NULL, NULL);
    const size_t bytes = gani_mul(job.slot_bytes, (size_t)job.slots);
    pass->overflow |= bytes == 0;
    job.scratch = gani_pass_take(pass, bytes);
    for (job.first = 0; job.first < s.lines && pass->scratch; job.first += job.lines) {
        const int most = s.task_lines * s.tasks;
        job.lines = s.lines - job.first < most ? s.lines - job.first : most;
        job.lead = direction == 1 && job.first % s.th != 0;
        gani_parallel(pass->ctx, job.slots, gani_wino_gather_slot, &job);
        gani_parallel(pass->ctx, job.slots,
                      direction == 2 ? gani_wino_sum_slot : gani_wino_map_slot, &job);
    }
}

static void gani_walk_wino_forward(gani_pass *pass, const gani_conv_call *call) {
    gani_walk_wino(pass, call, 0);
}

static void gani_walk_wino_input_grad(gani_pass *pass, const gani_conv_call *call) {
    gani_walk_wino(pass, call, 1);
}

static void gani_walk_wino_weight_grad(gani_pass *pass, const gani_conv_call *call) {
    gani_walk_wino(pass, call, 2);
}

/* ============================================================================
 * >>conv-run  4.4  WHICH ALGORITHM; THE DRIVERS
 *
 * A layer for which >>winograd has a row is computed there, unless the context says otherwise; all
 * others by >>conv. Programs and the public functions call the drivers, which ask for scratch, and
 * run.
 *
 * Holds:  the choice, reflecting padding of input grad, the drivers, public functions.
 * Uses:   >>conv  >>winograd        Knows nothing of: tensors, graphs.
 * ========================================================================= */

typedef void (*gani_conv_walk)(gani_pass *pass, const gani_conv_call *call);

/* Input grad with zero padding or none. */
static gani_conv_walk gani_choose_input_grad_zero(const gan_context *ctx, const gani_conv *s) {
    return gani_wino_find(ctx, s) ? gani_walk_wino_input_grad : gani_walk_input_grad_zero;
}

/* Reflecting padding: the gradient in the padded images, then folded, some images at a time. */
static void gani_walk_input_grad(gani_pass *pass, const gani_conv_call *call) {
    const gani_conv *s = &call->s;
    if (!s->reflect || (s->pad_h == 0 && s->pad_w == 0)) {
        gani_choose_input_grad_zero(pass->ctx, s)(pass, call);
        return;
    }
    gani_conv_call some = *call;
    some.s.h = s->h + 2 * s->pad_h;
    some.s.w = s->w + 2 * s->pad_w;
    some.s.pad_h = some.s.pad_w = some.s.reflect = 0;
    some.bias = NULL;
    some.act.kind = GAN_ACT_NONE;
    const size_t image = gani_mul(gani_mul((size_t)some.s.h, (size_t)some.s.w),
                                  gani_mul((size_t)s->c, sizeof(float)));
    pass->overflow |= image == 0;
    const size_t fit = image ? GANI_CONV_STAGE_MOST / image : 0;
    some.s.n = gani_piece(s->n, fit > (size_t)s->n ? s->n : fit > 1 ? (int)fit : 1, 1);
    const int most = some.s.n;
    const size_t bytes = gani_mul(image, (size_t)most);
    pass->overflow |= bytes == 0;
    float *padded = (float *)(void *)gani_pass_take(pass, gani_round_up(bytes, GANI_ALIGN));
    some.out = padded;
    const size_t used = pass->used;
    size_t largest = used; /* the last images may be fewer, and have another algorithm */
    for (int b = 0; b < s->n; b += some.s.n) {
        some.s.n = s->n - b < most ? s->n - b : most;
        pass->used = used;
        some.in = gani_at(call->in, (ptrdiff_t)b * s->o * s->oh * s->ow);
        gani_choose_input_grad_zero(pass->ctx, &some.s)(pass, &some);
        gani_pass_planes(pass, call, some.s.n, padded,
                         gani_at_out(call->out, (ptrdiff_t)b * s->c * s->h * s->w),
                         gani_fold_reflected);
        largest = pass->used > largest ? pass->used : largest;
    }
    pass->used = largest;
}

static const char *gani_conv_algorithm(const gan_context *ctx, const gani_conv *s) {
    return gani_wino_find(ctx, s) ? "winograd" : "direct";
}

/* By direction: 0 forward, 1 input grad, 2 weight grad. */
static gani_conv_walk gani_conv_choose(const gan_context *ctx, const gani_conv *s, int direction) {
    const int wino = gani_wino_find(ctx, s) != NULL;
    if (direction == 1) {
        return gani_walk_input_grad;
    }
    if (direction == 0) {
        return wino ? gani_walk_wino_forward : gani_walk_forward;
    }
    return wino ? gani_walk_wino_weight_grad : gani_walk_weight_grad;
}

/* Scratch of a driver in bytes; 0 if that overflows. */
static size_t gani_conv_measure(gan_context *ctx, gani_conv_walk walk, const gani_conv_call *call) {
    gani_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.ctx = ctx;
    walk(&pass, call);
    return pass.overflow
               ? 0
               : gani_sum(pass.used + 1, pass.most + 1); /* 0 would count as an overflow */
}

static size_t gani_conv_workspace(gan_context *ctx, const gani_conv *s, int direction) {
    gani_conv_call call;
    memset(&call, 0, sizeof call);
    call.s = *s;
    return gani_conv_measure(ctx, gani_conv_choose(ctx, s, direction), &call);
}

static gan_status gani_conv_run(gan_context *ctx, int direction, const gani_conv_call *call) {
    gani_conv_walk walk = gani_conv_choose(ctx, &call->s, direction);
    gani_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.ctx = ctx;
    gani_conv_call sizes = *call;
    sizes.in = sizes.with = sizes.bias = sizes.out = NULL;
    pass.scratch = (unsigned char *)gani_workspace(ctx, gani_conv_measure(ctx, walk, &sizes));
    if (!pass.scratch) {
        return ctx->status;
    }
    walk(&pass, call);
    return GAN_OK;
}

/* x [n,c,h,w]  w [o,c/groups,kh,kw]  bias [o] or NULL  y [n,o,oh,ow] */
static gan_status gani_conv_forward(gan_context *ctx, const gani_conv *s, const float *x,
                                    const float *w, const float *bias, gani_act act, float *y) {
    gani_conv_call call;
    call.s = *s;
    call.in = x;
    call.with = w;
    call.bias = bias;
    call.act = act;
    call.out = y;
    return gani_conv_run(ctx, 0, &call);
}

/* dy [n,o,oh,ow]  w [o,c/groups,kh,kw]  bias [c] or NULL  dx [n,c,h,w]. Bias and activation are
 * for its use as a transposed convolution, whose weights are [in = o, out = c/groups, kh, kw]. */
static gan_status gani_conv_input_grad(gan_context *ctx, const gani_conv *s, const float *dy,
                                       const float *w, const float *bias, gani_act act, float *dx) {
    gani_conv_call call;
    call.s = *s;
    call.in = dy;
    call.with = w;
    call.bias = bias;
    call.act = act;
    call.out = dx;
    return gani_conv_run(ctx, 1, &call);
}

/* x [n,c,h,w]  dy [n,o,oh,ow]  dw [o,c/groups,kh,kw] */
static gan_status gani_conv_weight_grad(gan_context *ctx, const gani_conv *s, const float *x,
                                        const float *dy, float *dw) {
    gani_conv_call call;
    memset(&call, 0, sizeof call);
    call.s = *s;
    call.in = x;
    call.with = dy;
    call.out = dw;
    return gani_conv_run(ctx, 2, &call);
}

/* --- public functions ------------------------------------------------------------ */

/* Windows along one axis; 0 if the kernel does not fit. */
static int gani_conv_windows(int size, int kernel, int stride, int pad, int dilation) {
    const int64_t room = (int64_t)size + 2 * (int64_t)pad - (int64_t)dilation * (kernel - 1) - 1;
    const int64_t count = room < 0 ? 0 : room / stride + 1;
    return count > INT_MAX ? 0 : (int)count;
}

/* 1 if every count that the drivers keep in an int fits one, and every array the address space. */
static int gani_conv_fits(const gani_conv *s) {
    const double most = (double)INT_MAX, c = s->c, o = s->o, n = s->n;
    const double padded = ((double)s->h + 2.0 * s->pad_h) * ((double)s->w + 2.0 * s->pad_w);
    const double map = (double)s->oh * s->ow, area = (double)s->kh * s->kw,
                 address = (double)(PTRDIFF_MAX / 8);
    return n * padded <= most && n * map <= most && n * c <= most && n * o <= most &&
           c * area <= most && o * area <= most && (double)s->kh * s->dilation_h <= most / 2 &&
           (double)s->kw * s->dilation_w <= most / 2 && s->stride_h <= GANI_CONV_STRIDE_MOST &&
           s->stride_w <= GANI_CONV_STRIDE_MOST && (double)s->stride_h * s->oh <= most / 2 &&
           (double)s->stride_w * s->ow <= most / 2 && n * c * padded <= address &&
           n * o * map <= address && o * c * area <= address;
}

/* Geometry from public terms, checked. */
static gan_status gani_conv_make(gan_context *ctx, const char *name, const gan_conv_shape *shape,
                                 const gan_conv_desc *desc, gani_conv *s) {
    gan_conv_desc d;
    memset(&d, 0, sizeof d);
    d = desc ? *desc : d;
    if (!shape || shape->n < 1 || shape->c < 1 || shape->h < 1 || shape->w < 1 || shape->o < 1 ||
        shape->kh < 1 || shape->kw < 1) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "%s: a shape whose sizes are at least 1 expected",
                          name);
    }
    if (d.stride_h < 0 || d.stride_w < 0 || d.pad_h < 0 || d.pad_w < 0 || d.dilation_h < 0 ||
        d.dilation_w < 0 || d.groups < 0 || d.out_pad_h != 0 || d.out_pad_w != 0) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "%s: a field of gan_conv_desc is negative, or out_pad is not 0", name);
    }
    s->n = shape->n;
    s->c = shape->c;
    s->h = shape->h;
    s->w = shape->w;
    s->o = shape->o;
    s->kh = shape->kh;
    s->kw = shape->kw;
    s->stride_h = d.stride_h ? d.stride_h : 1;
    s->stride_w = d.stride_w ? d.stride_w : 1;
    s->pad_h = d.pad_h;
    s->pad_w = d.pad_w;
    s->dilation_h = d.dilation_h ? d.dilation_h : 1;
    s->dilation_w = d.dilation_w ? d.dilation_w : 1;
    s->groups = d.groups ? d.groups : 1;
    s->reflect = d.reflect;
    s->oh = gani_conv_windows(s->h, s->kh, s->stride_h, s->pad_h, s->dilation_h);
    s->ow = gani_conv_windows(s->w, s->kw, s->stride_w, s->pad_w, s->dilation_w);
    if (s->oh == 0 || s->ow == 0 || s->c % s->groups != 0 || s->o % s->groups != 0 ||
        (s->reflect && (s->pad_h >= s->h || s->pad_w >= s->w))) {
        return gani_error(ctx, GAN_ERR_SHAPE,
                          "%s: image %dx%d, kernel %dx%d, padding %d,%d, channels %d to %d, groups "
                          "%d: the kernel must fit the "
                          "padded image, groups divide the channels, and reflecting padding be "
                          "less than the image",
                          name, s->h, s->w, s->kh, s->kw, s->pad_h, s->pad_w, s->c, s->o,
                          s->groups);
    }
    if (!gani_conv_fits(s)) {
        return gani_error(ctx, GAN_ERR_LIMIT, "%s: the sizes' products are too large", name);
    }
    return GAN_OK;
}

GAN_API gan_status gan_conv2d_size(gan_context *ctx, const gan_conv_shape *shape,
                                   const gan_conv_desc *desc, int *oh, int *ow) {
    gani_conv s;
    const gan_status status = gani_conv_make(ctx, "gan_conv2d_size", shape, desc, &s);
    if (status != GAN_OK) {
        return status;
    }
    if (!oh || !ow) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_conv2d_size: places for both sizes expected, found NULL");
    }
    *oh = s.oh;
    *ow = s.ow;
    return GAN_OK;
}

/* Checks and runs one of the three. */
static gan_status gani_conv_public(gan_context *ctx, const char *name, int direction,
                                   const gan_conv_shape *shape, const gan_conv_desc *desc,
                                   const float *in, const float *with, const float *bias,
                                   float *out) {
    gani_conv_call call;
    memset(&call, 0, sizeof call);
    const gan_status status = gani_conv_make(ctx, name, shape, desc, &call.s);
    if (status != GAN_OK) {
        return status;
    }
    if (!in || !with || !out) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "%s: three arrays expected, found NULL", name);
    }
    call.in = in;
    call.with = with;
    call.bias = bias;
    call.out = out;
    return gani_conv_run(ctx, direction, &call);
}

GAN_API gan_status gan_conv2d_forward(gan_context *ctx, const gan_conv_shape *shape,
                                      const gan_conv_desc *desc, const float *x, const float *w,
                                      const float *bias, float *y) {
    return gani_conv_public(ctx, "gan_conv2d_forward", 0, shape, desc, x, w, bias, y);
}

GAN_API gan_status gan_conv2d_input_grad(gan_context *ctx, const gan_conv_shape *shape,
                                         const gan_conv_desc *desc, const float *dy, const float *w,
                                         const float *bias, float *dx) {
    return gani_conv_public(ctx, "gan_conv2d_input_grad", 1, shape, desc, dy, w, bias, dx);
}

GAN_API gan_status gan_conv2d_weight_grad(gan_context *ctx, const gan_conv_shape *shape,
                                          const gan_conv_desc *desc, const float *x,
                                          const float *dy, float *dw) {
    return gani_conv_public(ctx, "gan_conv2d_weight_grad", 2, shape, desc, x, dy, NULL, dw);
}

/* ============================================================================
 * >>nodes  5.1  WHAT A GRAPH IS MADE OF; PARAMETERS
 *
 * A graph is an array of nodes in list order; a tensor is the index of its node (0 is "none", so
 * node 0 is a dummy). A node names its op, its sources, its shape and its attributes; everything
 * that an op needs to know is there, so that equal nodes (same op, sources, attributes) have equal
 * values.
 *
 * A parameter is memory with a name, in a store that several graphs may share. Its node in a graph
 * stands for that memory: an op reads the value that the parameter has when the op's turn comes, so
 * ops that stand before an effect in the list see the old value and ops behind it the new one.
 *
 * Holds:  types of nodes, op rows, parameters, graphs; shapes; the parameter store; adding a node,
 * its label. Uses:   >>platform        Knows nothing of: particular ops.
 * ========================================================================= */

/* Attributes of an op: plain numbers, zero where not used, so that comparing bytes compares
 * attributes. */
typedef struct gani_attr {
    int i[16];
    float f[4];
} gani_attr;

/* Places with the same meaning in every op. SHAPE: rank and GAN_MAX_RANK extents, where the sources
 * do not determine the shape. ALSO: store index + 1 of up to two parameters that an effect writes
 * beside node->param. ACT, SLOPE: of an activation op, or folded into another op. */
enum {
    GANI_ATTR_SHAPE = 7, /* attr.i */
    GANI_ATTR_ALSO = 13, /* attr.i */
    GANI_ATTR_ACT = 15,  /* attr.i: a gan_activation */
    GANI_ATTR_SLOPE = 3  /* attr.f */
};

/* Sources are graph->sources[source_first ... +source_count-1], each the id of an earlier node, or
 * 0 where left out. */
typedef struct gani_node {
    int op;   /* row of the op table */
    int name; /* offset into graph->text: the scope it was built in (leaves: the full name) */
    int source_first, source_count;
    int param;       /* parameters, effects (the first one written): index in the store; else -1 */
    gan_shape shape; /* of an effect: that of the parameter */
    gani_attr attr;
} gani_node;

/* What an op's run function gets. */
typedef struct gani_run {
    const gani_node *node;
    const float *const *source; /* values, NULL where left out */
    const gan_shape *source_shape;
    float *out;          /* the node's value; for an effect the parameter's data */
    float *also[2];      /* data of the parameters at attr.i[GANI_ATTR_ALSO ...], NULL where none */
    uint64_t seed, step; /* for random ops */
} gani_run;

/* Flags of ops. In place: the planner sees to it that source 0 (source 1) has as many elements as
 * the result, that nobody needs it afterwards, and that no other source shares its memory. */
enum {
    GANI_FLAG_LEAF = 1,       /* memory of its own: input, parameter */
    GANI_FLAG_VIEW = 2,       /* the elements of source 0 in the same order: shares its memory */
    GANI_FLAG_INPLACE = 4,    /* out may be the memory of source 0 */
    GANI_FLAG_INPLACE_1 = 8,  /* out may be the memory of source 1 */
    GANI_FLAG_EFFECT = 16,    /* writes parameters; never dropped or shared; nobody's source */
    GANI_FLAG_CONSTANT = 32,  /* no sources, always the same value */
    GANI_FLAG_RANDOM = 64,    /* depends on seed and step, and on a stream among the attributes */
    GANI_FLAG_ACT = 128,      /* an activation of source 0, see GANI_ATTR_ACT */
    GANI_FLAG_FUSES_ACT = 256 /* the planner may fold a following activation into attr */
};

/* One op. Functions that do not apply are NULL. */
typedef struct gani_op_row {
    const char *name;
    unsigned flags;
    int required; /* so many sources, from the first, may not be left out */
    /* Checks shapes and attributes, sets node->shape. On a misfit returns gani_error(...) that
     * says what was expected and found; gani_add_node puts the node's label in front. An effect's
     * source 0 is the parameter it writes: its shape function sets node->param and
     * attr.i[GANI_ATTR_ALSO]. Must not add nodes. NULL: leaves. */
    gan_status (*shape)(gan_graph *graph, gani_node *node);
    /* Computes the value. An error is returned as from shape; gan_program_run puts the label in
     * front. NULL: leaves, views. */
    gan_status (*run)(gan_context *ctx, const gani_run *run);
    /* Appends the gradient: dsource[k], {0} on entry, becomes the gradient in source k given dy; it
     * stays {0} where that is zero or not defined. Uses only the public builder functions and
     * gani_add_node, and holds no pointer to a node across them: the array of nodes may move. NULL:
     * gradient zero. */
    void (*grad)(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource);
    /* Bytes that run takes from gani_workspace. NULL: none. */
    size_t (*workspace)(gan_context *ctx, const gani_node *node, const gan_shape *source_shape);
    /* Multiplications with addition, counted directly. NULL: not counted. */
    double (*multiply_adds)(const gani_node *node, const gan_shape *source_shape);
} gani_op_row;

typedef struct gani_param {
    char *name;
    gan_shape shape;
    gan_param_kind kind;
    float *data;
} gani_param;

struct gan_params {
    gan_context *ctx;
    gani_param *items;
    int count, capacity;
    int *slots;     /* hash table over names, open addressing: index + 1, or 0 where free */
    int slot_count; /* a power of two, more than twice count */
    uint64_t seed, step;
};

#define GANI_MAX_NAME   256 /* bytes of a full name with its final zero */
#define GANI_MAX_SCOPES 32

typedef struct gani_scope {
    int length; /* of graph->scope */
    int name;   /* offset of its text in graph->text; -1: not stored yet */
} gani_scope;

struct gan_graph {
    gan_context *ctx;
    gan_params *params;
    const gani_op_row *ops;
    gan_status status; /* the first error sticks, with its message */
    char error[512];
    gani_node *nodes;
    int node_count, node_capacity;
    int *sources;
    int source_count, source_capacity;
    char *text; /* names, each ended by a zero; "" at 0 */
    int text_size, text_capacity;
    char scope[GANI_MAX_NAME]; /* "generator.main." */
    gani_scope scopes[GANI_MAX_SCOPES];
    int scope_depth;   /* scopes[0 ... scope_depth] are open; scopes[0] is the empty one */
    int name_override; /* while a gradient is appended: name of the node it belongs to; else -1 */
    char label[GANI_MAX_NAME + 64];
    int *param_nodes; /* node of each parameter of the store, 0 if it has none here */
    int param_node_capacity;
    int *effects; /* nodes of effects that belong to the next program */
    int effect_count, effect_capacity;
    int stream_count; /* random ops so far: each is a stream of its own */
    unsigned mode;    /* GAN_TRAIN, GAN_EVALUATE ..., for layers */
    float **inputs;   /* memory of input nodes, by attr.i[0] */
    int input_count, input_capacity;
    unsigned char *arena; /* shared by the programs of this graph */
    size_t arena_bytes;
    int program_count; /* alive */
};

/* --- shapes ---------------------------------------------------------------- */

static gan_shape gani_shape_of(int rank, int a, int b, int c, int d) {
    gan_shape shape;
    shape.rank = rank;
    shape.dim[0] = a;
    shape.dim[1] = b;
    shape.dim[2] = c;
    shape.dim[3] = d;
    shape.dim[4] = 0;
    return shape;
}

GAN_API gan_shape gan_shape0(void) {
    return gani_shape_of(0, 0, 0, 0, 0);
}

GAN_API gan_shape gan_shape1(int a) {
    return gani_shape_of(1, a, 0, 0, 0);
}

GAN_API gan_shape gan_shape2(int a, int b) {
    return gani_shape_of(2, a, b, 0, 0);
}

GAN_API gan_shape gan_shape3(int a, int b, int c) {
    return gani_shape_of(3, a, b, c, 0);
}

GAN_API gan_shape gan_shape4(int a, int b, int c, int d) {
    return gani_shape_of(4, a, b, c, d);
}

GAN_API size_t gan_shape_count(gan_shape shape) {
    size_t count = shape.rank >= 0 && shape.rank <= GAN_MAX_RANK ? 1 : 0;
    for (int i = 0; i < shape.rank && count != 0; i++) {
        count = gani_mul(count, shape.dim[i] >= 1 ? (size_t)shape.dim[i] : 0);
    }
    return count <= INT_MAX ? count : 0; /* drivers count in int */
}

static int gani_shape_equal(const gan_shape *a, const gan_shape *b) {
    return a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)(a->rank < 0 ? 0 : a->rank) * sizeof a->dim[0]) == 0;
}

/* "[64,3,32,32]", for messages. */
typedef struct gani_shape_text {
    char text[64];
} gani_shape_text;

static gani_shape_text gani_print_shape(const gan_shape *shape) {
    gani_shape_text out;
    size_t used = 1;
    out.text[0] = '[';
    for (int i = 0; i < shape->rank && i < GAN_MAX_RANK; i++) {
        used += (size_t)snprintf(out.text + used, sizeof out.text - used, i ? ",%d" : "%d",
                                 shape->dim[i]);
    }
    snprintf(out.text + used, sizeof out.text - used, "]");
    return out;
}

static gan_status gani_check_shape(gan_context *ctx, const gan_shape *shape) {
    if (gan_shape_count(*shape) == 0) {
        const gani_shape_text text = gani_print_shape(shape);
        return gani_error(ctx, GAN_ERR_SHAPE,
                          "shape %s has an extent below 1, a rank above %d or too many elements",
                          text.text, GAN_MAX_RANK);
    }
    return GAN_OK;
}

/* --- parameter store ------------------------------------------------------- */

GAN_API gan_status gan_params_create(gan_params **out, gan_context *ctx, uint64_t seed) {
    *out = (gan_params *)gani_calloc(ctx, 1, sizeof **out);
    if (!*out) {
        return GAN_ERR_MEMORY;
    }
    (*out)->ctx = ctx;
    (*out)->seed = seed;
    return GAN_OK;
}

GAN_API void gan_params_destroy(gan_params *params) {
    if (params) {
        for (int i = 0; i < params->count; i++) {
            gani_free(params->ctx, params->items[i].name);
            gani_free(params->ctx, params->items[i].data);
        }
        gani_free(params->ctx, params->items);
        gani_free(params->ctx, params->slots);
        gani_free(params->ctx, params);
    }
}

GAN_API int gan_params_count(const gan_params *params) {
    return params->count;
}

GAN_API gan_param_info gan_params_at(const gan_params *params, int index) {
    gan_param_info info;
    memset(&info, 0, sizeof info);
    if (index >= 0 && index < params->count) {
        const gani_param *param = &params->items[index];
        info.name = param->name;
        info.shape = param->shape;
        info.kind = param->kind;
        info.data = param->data;
    }
    return info;
}

/* The slot that holds the name, or the free one where it belongs. */
static int gani_params_slot(const gan_params *params, const char *name) {
    const unsigned mask = (unsigned)params->slot_count - 1u;
    unsigned slot = (unsigned)gani_hash(name, strlen(name), GANI_HASH_START) & mask;
    while (params->slots[slot] != 0 &&
           strcmp(params->items[params->slots[slot] - 1].name, name) != 0) {
        slot = (slot + 1u) & mask;
    }
    return (int)slot;
}

/* Index of the name in the store; -1 if there is none. */
static int gani_params_index(const gan_params *params, const char *name) {
    return params->slot_count ? params->slots[gani_params_slot(params, name)] - 1 : -1;
}

GAN_API gan_param_info gan_params_find(const gan_params *params, const char *name) {
    return gan_params_at(params, gani_params_index(params, name));
}

GAN_API void gan_params_set_step(gan_params *params, uint64_t step) {
    params->step = step;
}

GAN_API uint64_t gan_params_step(const gan_params *params) {
    return params->step;
}

GAN_API uint64_t gan_params_seed(const gan_params *params) {
    return params->seed;
}

/* Makes room for one more item, in the array and in the hash table. */
static int gani_params_reserve(gan_params *params) {
    void *items = params->items;
    int reserved =
        gani_grow(params->ctx, &items, &params->capacity, params->count + 1, sizeof *params->items);
    params->items = (gani_param *)items;
    if (!reserved || params->slot_count > 2 * params->count) {
        return reserved;
    }
    int slot_count = params->slot_count ? 2 * params->slot_count : 64;
    int *slots = (int *)gani_calloc(params->ctx, (size_t)slot_count, sizeof *slots);
    if (!slots) {
        return 0;
    }
    gani_free(params->ctx, params->slots);
    params->slots = slots;
    params->slot_count = slot_count;
    for (int i = 0; i < params->count; i++) {
        slots[gani_params_slot(params, params->items[i].name)] = i + 1;
    }
    return 1;
}

static void gani_param_init(const gan_params *params, const gani_param *param, gan_init init) {
    const size_t count = gan_shape_count(param->shape);
    const uint64_t stream = gani_hash(param->name, strlen(param->name), GANI_HASH_START);
    float scale = 0.0f;
    if (init.kind == GAN_INIT_NORMAL) {
        gan_random_normal(params->seed, stream, 0, param->data, count);
        scale = init.b;
    } else if (init.kind == GAN_INIT_UNIFORM) {
        gan_random_uniform(params->seed, stream, 0, param->data, count);
        scale = init.b - init.a;
    } else {
        memset(param->data, 0, count * sizeof(float));
    }
    for (size_t i = 0; i < count; i++) {
        param->data[i] = init.a + scale * param->data[i];
    }
}

/* Appends a parameter that the store does not have yet. Whole or not at all. */
static gan_status gani_params_add(gan_params *params, const char *name, gan_shape shape,
                                  gan_param_kind kind, gan_init init) {
    if (!gani_params_reserve(params)) {
        return GAN_ERR_MEMORY;
    }
    gani_param *param = &params->items[params->count];
    param->shape = shape;
    param->kind = kind;
    param->name = gani_strdup(params->ctx, name);
    param->data = (float *)gani_alloc(params->ctx, gani_mul(gan_shape_count(shape), sizeof(float)));
    if (!param->name || !param->data) {
        gani_free(params->ctx, param->name);
        gani_free(params->ctx, param->data);
        return GAN_ERR_MEMORY;
    }
    gani_param_init(params, param, init);
    params->slots[gani_params_slot(params, name)] = ++params->count;
    return GAN_OK;
}

/* --- nodes ----------------------------------------------------------------- */

/* Keeps the first error of a graph, whose message the context has just got, and returns the status.
 * */
static gan_status gani_stick(gan_graph *graph, gan_status status) {
    if (graph->status == GAN_OK) {
        graph->status = status;
        memcpy(graph->error, graph->ctx->error, sizeof graph->error);
    }
    return status;
}

/* Puts a label in front of the context's message. */
static gan_status gani_prefix_error(gan_context *ctx, gan_status status, const char *label) {
    char message[sizeof ctx->error];
    memcpy(message, ctx->error, sizeof message);
    return gani_error(ctx, status, "%s: %s", label, message);
}

/* Appends a text of less than GANI_MAX_NAME bytes to graph->text; its offset, or -1 when out of
 * memory. */
static int gani_store_text(gan_graph *graph, const char *text, size_t length) {
    void *block = graph->text;
    const int offset = graph->text_size;
    int reserved =
        gani_grow(graph->ctx, &block, &graph->text_capacity, offset + (int)length + 1, 1);
    graph->text = (char *)block;
    if (!reserved) {
        return -1;
    }
    memcpy(graph->text + offset, text, length);
    graph->text[offset + (int)length] = '\0';
    graph->text_size += (int)length + 1;
    return offset;
}

/* The name of nodes added now: the open scope without its final dot. Stored when first needed. -1
 * when out of memory. */
static int gani_scope_name(gan_graph *graph) {
    gani_scope *scope = &graph->scopes[graph->scope_depth];
    if (graph->name_override >= 0) {
        return graph->name_override;
    }
    if (scope->name < 0) {
        scope->name =
            gani_store_text(graph, graph->scope, (size_t)(scope->length ? scope->length - 1 : 0));
    }
    return scope->name;
}

/* "discriminator.main.2 (conv2d)"; for an effect "discriminator.main.2.weight (adam)". Valid until
 * the next call for this graph. */
static const char *gani_node_label(gan_graph *graph, const gani_node *node) {
    const int writes = (graph->ops[node->op].flags & GANI_FLAG_EFFECT) && node->param >= 0;
    const char *name = writes ? graph->params->items[node->param].name : graph->text + node->name;
    const char *op = graph->ops[node->op].name;
    if (name[0]) {
        snprintf(graph->label, sizeof graph->label, "%s (%s)", name, op);
    } else {
        snprintf(graph->label, sizeof graph->label, "%s", op);
    }
    return graph->label;
}

/* The tensor's node; node 0, of rank -1, if it is none of this graph. */
static const gani_node *gani_tensor_node(const gan_graph *graph, gan_tensor x) {
    return &graph->nodes[x.id > 0 && x.id < graph->node_count ? x.id : 0];
}

/* Id and node of source k; node 0 where it is left out. */
static gan_tensor gani_source(const gan_graph *graph, const gani_node *node, int k) {
    gan_tensor source;
    source.id = graph->sources[node->source_first + k];
    return source;
}

static const gani_node *gani_source_node(const gan_graph *graph, const gani_node *node, int k) {
    return &graph->nodes[gani_source(graph, node, k).id];
}

#define GANI_MAX_WRITTEN 3

/* Store index of the k-th parameter that an effect writes; -1 past the last. */
static int gani_effect_param(const gani_node *effect, int k) {
    return k == 0 ? effect->param : effect->attr.i[GANI_ATTR_ALSO + k - 1] - 1;
}

/* Appends a node as it stands, with sources that are already in graph->sources. */
static gan_tensor gani_append_node(gan_graph *graph, const gani_node *node) {
    gan_tensor tensor = {0};
    void *block = graph->nodes;
    int reserved =
        gani_grow(graph->ctx, &block, &graph->node_capacity, graph->node_count + 1, sizeof *node);
    graph->nodes = (gani_node *)block;
    if (reserved && (graph->ops[node->op].flags & GANI_FLAG_EFFECT)) {
        block = graph->effects;
        reserved = gani_grow(graph->ctx, &block, &graph->effect_capacity, graph->effect_count + 1,
                             sizeof *graph->effects);
        graph->effects = (int *)block;
        if (reserved) {
            graph->effects[graph->effect_count++] = graph->node_count;
        }
    }
    if (!reserved) {
        gani_stick(graph, GAN_ERR_MEMORY);
        return tensor;
    }
    graph->nodes[graph->node_count] = *node;
    tensor.id = graph->node_count++;
    return tensor;
}

/* Appends the sources to graph->sources, for the node being made. */
static gan_status gani_add_sources(gan_graph *graph, gani_node *node, const gan_tensor *sources,
                                   int count) {
    void *block = graph->sources;
    int reserved = gani_grow(graph->ctx, &block, &graph->source_capacity,
                             graph->source_count + count, sizeof *graph->sources);
    graph->sources = (int *)block;
    if (!reserved) {
        return GAN_ERR_MEMORY;
    }
    node->source_first = graph->source_count;
    node->source_count = count;
    for (int k = 0; k < count; k++) {
        graph->sources[graph->source_count++] = sources[k].id;
    }
    return GAN_OK;
}

/* What holds for every op: required sources are there, and all are tensors of this graph. */
static gan_status gani_check_sources(gan_graph *graph, const gani_node *node) {
    const int required = graph->ops[node->op].required;
    for (int k = 0; k < node->source_count || k < required; k++) {
        const int id = k < node->source_count ? gani_source(graph, node, k).id : 0;
        if (id < 0 || id >= graph->node_count || (id == 0 && k < required)) {
            return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                              "source %d is not a tensor of this graph (id %d)", k, id);
        }
    }
    return GAN_OK;
}

/* Appends a node of the given op. The op's shape function checks it; {0} on an error, which sticks.
 * attr NULL: all zero. */
static gan_tensor gani_add_node(gan_graph *graph, int op, const gan_tensor *sources, int count,
                                const gani_attr *attr) {
    gan_tensor tensor = {0};
    gani_node node;
    if (graph->status != GAN_OK) {
        return tensor;
    }
    memset(&node, 0, sizeof node);
    node.op = op;
    node.param = -1;
    node.name = gani_scope_name(graph);
    if (attr) {
        node.attr = *attr;
    }
    if (node.name < 0 || gani_add_sources(graph, &node, sources, count) != GAN_OK) {
        gani_stick(graph, GAN_ERR_MEMORY);
        return tensor;
    }
    gan_status status = gani_check_sources(graph, &node);
    if (status == GAN_OK) {
        status = graph->ops[op].shape(graph, &node);
    }
    if (status == GAN_OK) {
        status = gani_check_shape(graph->ctx, &node.shape);
    }
    if (status != GAN_OK) {
        gani_stick(graph, gani_prefix_error(graph->ctx, status, gani_node_label(graph, &node)));
        return tensor;
    }
    return gani_append_node(graph, &node);
}

/* ============================================================================
 * >>ops  5.2  THE LIST OF OPS; ELEMENTWISE, REDUCTIONS, MOVING: SHAPE, GRADIENT, BUILDER
 *
 * A row of GANI_OP_LIST is an op: its name, its flags, how many sources it must have, and its
 * functions. shape checks sources and attributes and sets the result's shape; run computes it; grad
 * appends the gradient, made of ops, so that it can be differentiated again. For this the table is
 * closed: the adjoint of a linear op is an op too (pad and slice, sum and broadcast, the three
 * convolutions, ...), and the gradient of an activation is expressed by the activation's result y.
 *
 * Holds:  the ops' numbers, and for those that need no driver the shape and gradient functions and
 *         the public functions that build them.
 * Uses:   >>nodes        Knows nothing of: how an op is run, layers, planning.
 * ========================================================================= */

/* X(id, name, flags, required sources, shape, run, grad, workspace, multiply_adds)
 * A word w in one of the last five columns stands for the function gani_shape_w, gani_run_w,
 * gani_grad_w, gani_workspace_w or gani_madds_w; what these compute is said beside them. */
#define GANI_BOTH (GANI_FLAG_INPLACE | GANI_FLAG_INPLACE_1)
#define GANI_OP_LIST(X)                                                                            \
    X(INPUT, "input", GANI_FLAG_LEAF, 0, none, none, none, none, none)                             \
    X(PARAM, "parameter", GANI_FLAG_LEAF, 0, none, none, none, none, none)                         \
    X(CONSTANT, "constant", GANI_FLAG_CONSTANT, 0, attr, constant, none, none, none)               \
    X(IOTA, "iota", GANI_FLAG_CONSTANT, 0, attr, iota, none, none, none)                           \
    X(ADD, "add", GANI_BOTH, 2, binary, binary, add, none, none)                                   \
    X(SUB, "sub", GANI_BOTH, 2, binary, binary, sub, none, none)                                   \
    X(MUL, "mul", GANI_BOTH, 2, binary, binary, mul, none, none)                                   \
    X(DIV, "div", GANI_BOTH, 2, binary, binary, div, none, none)                                   \
    X(MAXIMUM, "maximum", GANI_BOTH, 2, binary, binary, extremum, none, none)                      \
    X(MINIMUM, "minimum", GANI_BOTH, 2, binary, binary, extremum, none, none)                      \
    X(GREATER, "greater", GANI_BOTH, 2, binary, binary, none, none, none)                          \
    X(BCE_LOGITS, "bce_logits", GANI_BOTH, 2, binary, binary, bce_logits, none, none)              \
    X(PRELU, "prelu", GANI_FLAG_INPLACE, 2, prelu, binary, prelu, none, none)                      \
    X(PRELU_SLOPE, "prelu_slope", GANI_FLAG_INPLACE, 2, prelu, binary, prelu_slope, none, none)    \
    X(ACT_GRAD, "activation_grad", GANI_BOTH, 2, activate, act, act_grad, none, none)              \
    X(AFFINE, "affine", GANI_FLAG_INPLACE, 1, same, unary, affine, none, none)                     \
    X(SQUARE, "square", GANI_FLAG_INPLACE, 1, same, unary, square, none, none)                     \
    X(SQRT, "sqrt", GANI_FLAG_INPLACE, 1, same, unary, sqrt, none, none)                           \
    X(RSQRT, "rsqrt", GANI_FLAG_INPLACE, 1, same, unary, rsqrt, none, none)                        \
    X(EXP, "exp", GANI_FLAG_INPLACE, 1, same, unary, exp, none, none)                              \
    X(LOG, "log", GANI_FLAG_INPLACE, 1, same, unary, log, none, none)                              \
    X(ABS, "abs", GANI_FLAG_INPLACE, 1, same, unary, abs, none, none)                              \
    X(SIGN, "sign", GANI_FLAG_INPLACE, 1, same, unary, none, none, none)                           \
    X(SOFTPLUS, "softplus", GANI_FLAG_INPLACE, 1, same, unary, softplus, none, none)               \
    X(CLAMP, "clamp", GANI_FLAG_INPLACE, 1, clamp, unary, clamp, none, none)                       \
    X(IN_RANGE, "in_range", GANI_FLAG_INPLACE, 1, same, unary, none, none, none)                   \
    X(ACTIVATE, "activation", GANI_FLAG_INPLACE | GANI_FLAG_ACT, 1, activate, act, activate, none, \
      none)                                                                                        \
    X(SUM, "sum", 0, 1, reduce, sum, sum, sum, none)                                               \
    X(MAX_OVER, "max_over", 0, 1, reduce, max_over, max_over, none, none)                          \
    X(MAX_MASK, "max_mask", 0, 1, same, max_mask, none, max_mask, none)                            \
    X(BROADCAST, "broadcast", 0, 1, broadcast, broadcast, broadcast, none, none)                   \
    X(RESHAPE, "reshape", GANI_FLAG_VIEW, 1, reshape, none, reshape, none, none)                   \
    X(DETACH, "detach", GANI_FLAG_VIEW, 1, same, none, none, none, none)                           \
    X(PERMUTE, "permute", 0, 1, permute, permute, permute, none, none)                             \
    X(CONCAT, "concat", 0, 1, concat, concat, concat, none, none)                                  \
    X(SLICE, "slice", 0, 1, slice, slice, slice, none, none)                                       \
    X(PAD, "pad", 0, 1, pad, pad, pad, none, none)                                                 \
    X(PAD_REFLECT, "pad_reflect", 0, 1, pad_reflect, pad_reflect, pad_reflect, none, none)         \
    X(PAD_REFLECT_ADJOINT, "pad_reflect_adjoint", 0, 1, pad_reflect, pad_reflect, pad_reflect,     \
      none, none)                                                                                  \
    X(MATMUL, "matmul", 0, 2, matmul, matmul, matmul, matmul, matmul)                              \
    X(LINEAR, "linear", GANI_FLAG_FUSES_ACT, 2, linear, linear, linear, linear, linear)            \
    X(CONV, "conv2d", GANI_FLAG_FUSES_ACT, 2, conv, conv, conv, conv, conv)                        \
    X(CONV_TRANSPOSE, "conv2d_transpose", GANI_FLAG_FUSES_ACT, 2, conv_transpose, conv,            \
      conv_transpose, conv, conv)                                                                  \
    X(CONV_WEIGHT_GRAD, "conv2d_weight_grad", 0, 2, conv_weight_grad, conv, conv_weight_grad,      \
      conv, conv)                                                                                  \
    X(AVG_POOL, "avg_pool", 0, 1, pool, pool, avg_pool, none, none)                                \
    X(AVG_POOL_ADJOINT, "avg_pool_adjoint", 0, 1, pool_adjoint, pool, avg_pool, none, none)        \
    X(MAX_POOL, "max_pool", 0, 2, pool, pool, max_pool, none, none)                                \
    X(MAX_POOL_ADJOINT, "max_pool_adjoint", 0, 2, pool_adjoint, pool, max_pool, none, none)        \
    X(UPSAMPLE, "upsample", 0, 1, upsample, upsample, upsample, none, none)                        \
    X(MOMENTS, "moments", 0, 1, moments, moments, moments, none, none)                             \
    X(NORMALIZE, "normalize", GANI_FLAG_INPLACE | GANI_FLAG_FUSES_ACT, 2, normalize, normalize,    \
      normalize, norm, none)                                                                       \
    X(NORM_SUMS, "norm_sums", 0, 3, norm_sums, norm_sums, norm_sums, none, none)                   \
    X(NORM_DX, "norm_dx", GANI_BOTH, 3, norm_dx, norm_dx, norm_dx, norm, none)                     \
    X(SOFTMAX, "softmax", GANI_FLAG_INPLACE, 1, softmax, softmax, softmax, none, none)             \
    X(LOG_SOFTMAX, "log_softmax", GANI_FLAG_INPLACE, 1, softmax, softmax, log_softmax, none, none) \
    X(ONE_HOT, "one_hot", 0, 1, one_hot, one_hot, none, none, none)                                \
    X(GATHER_ROWS, "gather_rows", 0, 2, rows, gather_rows, rows, none, none)                       \
    X(SCATTER_ROWS, "scatter_rows", 0, 2, rows, scatter_rows, rows, none, none)                    \
    X(DROPOUT, "dropout", GANI_FLAG_INPLACE | GANI_FLAG_RANDOM, 1, dropout, dropout, dropout,      \
      none, none)                                                                                  \
    X(NOISE_NORMAL, "noise_normal", GANI_FLAG_RANDOM, 0, attr, noise, none, none, none)            \
    X(NOISE_UNIFORM, "noise_uniform", GANI_FLAG_RANDOM, 0, attr, noise, none, none, none)          \
    X(ASSIGN, "assign", GANI_FLAG_EFFECT, 2, assign, assign, none, none, none)                     \
    X(ASSIGN_LERP, "assign_lerp", GANI_FLAG_EFFECT, 2, assign, assign, none, none, none)           \
    X(ASSIGN_ROWS, "assign_rows", GANI_FLAG_EFFECT, 3, assign_rows, assign_rows, none, none, none) \
    X(SGD, "sgd", GANI_FLAG_EFFECT, 3, optimiser, optimiser, none, none, none)                     \
    X(RMSPROP, "rmsprop", GANI_FLAG_EFFECT, 4, optimiser, optimiser, none, none, none)             \
    X(ADAM, "adam", GANI_FLAG_EFFECT, 6, optimiser, optimiser, none, none, none)

enum {
#define GANI_OP_ENUM(id, name, flags, required, shape, run, grad, workspace, madds) GANI_OP_##id,
    GANI_OP_LIST(GANI_OP_ENUM)
#undef GANI_OP_ENUM
        GANI_OP_COUNT
};

/* --- helpers of all ops -------------------------------------------------- */

/* Elements from axis first up to, not including, axis last. */
static size_t gani_extent(gan_shape shape, int first, int last) {
    size_t count = 1;
    for (int i = first; i < last; i++) {
        count *= (size_t)shape.dim[i];
    }
    return count;
}

/* In shape functions: is source k of the node being made there, and its shape (rank -1 if not). */
static int gani_has(const gan_graph *graph, const gani_node *node, int k) {
    return k < node->source_count && gani_source(graph, node, k).id != 0;
}

static gan_shape gani_source_shape(const gan_graph *graph, const gani_node *node, int k) {
    return gani_has(graph, node, k) ? gani_source_node(graph, node, k)->shape
                                    : graph->nodes[0].shape;
}

/* In gradients: source k of tensor y; {0} where left out. */
static gan_tensor gani_source_of(const gan_graph *graph, gan_tensor y, int k) {
    gan_tensor none = {0};
    const gani_node *node = &graph->nodes[y.id];
    return k < node->source_count ? gani_source(graph, node, k) : none;
}

/* Cleared attributes, to be filled in. */
static gani_attr gani_attr_zero(void) {
    gani_attr attr;
    memset(&attr, 0, sizeof attr);
    return attr;
}

static gan_tensor gani_add1(gan_graph *graph, int op, gan_tensor x, const gani_attr *attr) {
    return gani_add_node(graph, op, &x, 1, attr);
}

static gan_tensor gani_add2(gan_graph *graph, int op, gan_tensor a, gan_tensor b,
                            const gani_attr *attr) {
    gan_tensor source[2];
    source[0] = a;
    source[1] = b;
    return gani_add_node(graph, op, source, 2, attr);
}

static gan_tensor gani_add3(gan_graph *graph, int op, gan_tensor a, gan_tensor b, gan_tensor c,
                            const gani_attr *attr) {
    gan_tensor source[3];
    source[0] = a;
    source[1] = b;
    source[2] = c;
    return gani_add_node(graph, op, source, 3, attr);
}

static gan_tensor gani_negate(gan_graph *graph, gan_tensor x) {
    return gan_affine(graph, x, -1.0f, 0.0f);
}

/* A shape among the attributes, at GANI_ATTR_SHAPE. */
static void gani_attr_set_shape(gani_attr *attr, const gan_shape *shape) {
    attr->i[GANI_ATTR_SHAPE] = shape->rank;
    memcpy(attr->i + GANI_ATTR_SHAPE + 1, shape->dim, sizeof shape->dim);
}

static gan_shape gani_attr_shape(const gani_attr *attr) {
    gan_shape shape;
    shape.rank = attr->i[GANI_ATTR_SHAPE];
    memcpy(shape.dim, attr->i + GANI_ATTR_SHAPE + 1, sizeof shape.dim);
    return shape;
}

/* y [shape], as its attributes say: constants, noise. */
static gan_status gani_shape_attr(gan_graph *graph, gani_node *node) {
    (void)graph;
    node->shape = gani_attr_shape(&node->attr);
    return GAN_OK;
}

/* y has the shape of every source. */
static gan_status gani_shape_same(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0);
    for (int k = 1; k < node->source_count; k++) {
        gan_shape other = gani_source_shape(graph, node, k);
        if (!gani_shape_equal(&shape, &other)) {
            const gani_shape_text shape_text = gani_print_shape(&shape),
                                  other_text = gani_print_shape(&other);
            return gani_error(graph->ctx, GAN_ERR_SHAPE, "shapes %s and %s differ", shape_text.text,
                              other_text.text);
        }
    }
    node->shape = shape;
    return GAN_OK;
}

/* --- constants ----------------------------------------------------------- */

GAN_API gan_tensor gan_iota(gan_graph *graph, int count) {
    gani_attr attr = gani_attr_zero();
    gan_shape shape = gan_shape1(count);
    gani_attr_set_shape(&attr, &shape);
    return gani_add_node(graph, GANI_OP_IOTA, NULL, 0, &attr);
}

/* --- elementwise, two sources -------------------------------------------- */

/* y [broadcast of a and b]: NumPy's rule, aligned at the last axis. */
static gan_status gani_shape_binary(gan_graph *graph, gani_node *node) {
    gan_shape a = gani_source_shape(graph, node, 0), b = gani_source_shape(graph, node, 1);
    gan_shape shape = a.rank >= b.rank ? a : b;
    for (int i = 1; i <= shape.rank; i++) {
        int m = i <= a.rank ? a.dim[a.rank - i] : 1, n = i <= b.rank ? b.dim[b.rank - i] : 1;
        if (m != n && m != 1 && n != 1) {
            const gani_shape_text a_text = gani_print_shape(&a), b_text = gani_print_shape(&b);
            return gani_error(graph->ctx, GAN_ERR_SHAPE,
                              "%s and %s do not broadcast (%d against %d)", a_text.text,
                              b_text.text, m, n);
        }
        shape.dim[shape.rank - i] = m > n ? m : n;
    }
    node->shape = shape;
    return GAN_OK;
}

/* x [n,c,...], slope [1] or [c]; y [n,c,...]. */
static gan_status gani_shape_prelu(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), slope = gani_source_shape(graph, node, 1);
    int channels = x.rank > 1 ? x.dim[1] : 1;
    if (slope.rank != 1 || (slope.dim[0] != 1 && slope.dim[0] != channels)) {
        const gani_shape_text slope_text = gani_print_shape(&slope), x_text = gani_print_shape(&x);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "slope %s does not fit input %s (expected [1] or [%d])", slope_text.text,
                          x_text.text, channels);
    }
    node->shape = x;
    return GAN_OK;
}

/* The sum of x over what broadcasting from shape had stretched: the adjoint of gan_broadcast. */
static gan_tensor gani_sum_to(gan_graph *graph, gan_tensor x, gan_shape shape) {
    gan_shape from = gan_tensor_shape(graph, x);
    unsigned axes = 0;
    for (int i = 0; i < from.rank; i++) {
        int k = i - (from.rank - shape.rank);
        if (k < 0 || shape.dim[k] != from.dim[i]) {
            axes |= 1u << i;
        }
    }
    return gan_reshape(graph, axes ? gan_sum(graph, x, axes) : x, shape);
}

/* An operand that was only broadcast to the shape of the other one can be taken before that. */
static gan_tensor gani_before_broadcast(const gan_graph *graph, gan_tensor x, gan_tensor other) {
    gan_shape from = gan_tensor_shape(graph, x), to = gan_tensor_shape(graph, other);
    int redundant =
        gani_tensor_node(graph, x)->op == GANI_OP_BROADCAST && gani_shape_equal(&from, &to);
    return redundant ? gani_source_of(graph, x, 0) : x;
}

static gan_tensor gani_binary(gan_graph *graph, int op, gan_tensor a, gan_tensor b) {
    gan_tensor narrow = gani_before_broadcast(graph, a, b);
    return gani_add2(graph, op, narrow, gani_before_broadcast(graph, b, narrow), NULL);
}

/* y = a + b;  da = dy, db = dy */
static void gani_grad_add(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    for (int k = 0; k < 2; k++) {
        dsource[k] = gani_sum_to(graph, dy, gan_tensor_shape(graph, gani_source_of(graph, y, k)));
    }
}

/* y = a - b;  da = dy, db = -dy */
static void gani_grad_sub(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_grad_add(graph, y, dy, dsource);
    dsource[1] = gani_negate(graph, dsource[1]);
}

/* y = a * b;  da = dy * b, db = dy * a */
static void gani_grad_mul(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor a = gani_source_of(graph, y, 0), b = gani_source_of(graph, y, 1);
    dsource[0] = gani_sum_to(graph, gan_mul(graph, dy, b), gan_tensor_shape(graph, a));
    dsource[1] = gani_sum_to(graph, gan_mul(graph, dy, a), gan_tensor_shape(graph, b));
}

/* y = a / b;  da = dy / b, db = -dy * y / b */
static void gani_grad_div(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor a = gani_source_of(graph, y, 0), b = gani_source_of(graph, y, 1);
    gan_tensor da = gan_div(graph, dy, b);
    dsource[0] = gani_sum_to(graph, da, gan_tensor_shape(graph, a));
    dsource[1] =
        gani_negate(graph, gani_sum_to(graph, gan_mul(graph, da, y), gan_tensor_shape(graph, b)));
}

/* y = max(a, b) or min(a, b): dy goes to the one chosen, to a where they are equal. */
static void gani_grad_extremum(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor a = gani_source_of(graph, y, 0), b = gani_source_of(graph, y, 1);
    int is_max = graph->nodes[y.id].op == GANI_OP_MAXIMUM;
    gan_tensor chose_b = is_max ? gan_greater(graph, b, a) : gan_greater(graph, a, b);
    gan_tensor db = gan_mul(graph, dy, chose_b);
    dsource[0] = gani_sum_to(graph, gan_sub(graph, dy, db), gan_tensor_shape(graph, a));
    dsource[1] = gani_sum_to(graph, db, gan_tensor_shape(graph, b));
}

/* y = max(l,0) - l*t + log(1+exp(-|l|));  dl = dy * (sigmoid(l) - t), dt = -dy * l */
static void gani_grad_bce_logits(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                 gan_tensor *dsource) {
    gan_tensor l = gani_source_of(graph, y, 0), t = gani_source_of(graph, y, 1);
    gan_tensor p = gan_activate(graph, l, GAN_ACT_SIGMOID, 0.0f);
    gan_tensor dl = gan_mul(graph, dy, gan_sub(graph, p, t));
    dsource[0] = gani_sum_to(graph, dl, gan_tensor_shape(graph, l));
    dsource[1] =
        gani_negate(graph, gani_sum_to(graph, gan_mul(graph, dy, l), gan_tensor_shape(graph, t)));
}

/* x [n,c,...] summed over all axes but the channels': [c]. */
static gan_tensor gani_sum_channels(gan_graph *graph, gan_tensor x) {
    gan_shape shape = gan_tensor_shape(graph, x);
    unsigned axes = shape.rank > 1 ? ((1u << shape.rank) - 1u) & ~2u : 0u;
    return gan_reshape(graph, gan_sum(graph, x, axes), gan_shape1(shape.dim[1]));
}

/* Gradient in the slope of prelu, [1] or [c], from the one in each element of x [n,c,...]. */
static gan_tensor gani_sum_to_slope(gan_graph *graph, gan_tensor x, gan_tensor slope) {
    gan_shape shape = gan_tensor_shape(graph, slope);
    if (shape.dim[0] == 1) {
        return gan_reshape(graph, gan_sum(graph, x, GAN_ALL_AXES), shape);
    }
    return gani_sum_channels(graph, x);
}

/* y = x > 0 ? x : s*x;  dx = dy * (x > 0 ? 1 : s), ds = dy * min(x, 0) */
static void gani_grad_prelu(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor x = gani_source_of(graph, y, 0), slope = gani_source_of(graph, y, 1);
    gan_tensor zero = gan_constant(graph, gan_shape0(), 0.0f);
    dsource[0] = gan_mul(graph, dy, gani_add2(graph, GANI_OP_PRELU_SLOPE, x, slope, NULL));
    gan_tensor negative = gan_minimum(graph, x, zero);
    dsource[1] = gani_sum_to_slope(graph, gan_mul(graph, dy, negative), slope);
}

/* y = x > 0 ? 1 : s;  dx = 0, ds = dy * (x > 0 ? 0 : 1) */
static void gani_grad_prelu_slope(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                  gan_tensor *dsource) {
    gan_tensor x = gani_source_of(graph, y, 0), slope = gani_source_of(graph, y, 1);
    gan_tensor positive = gan_greater(graph, x, gan_constant(graph, gan_shape0(), 0.0f));
    gan_tensor d = gan_mul(graph, dy, gan_affine(graph, positive, -1.0f, 1.0f));
    dsource[1] = gani_sum_to_slope(graph, d, slope);
}

GAN_API gan_tensor gan_add(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_ADD, a, b);
}

GAN_API gan_tensor gan_sub(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_SUB, a, b);
}

GAN_API gan_tensor gan_mul(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_MUL, a, b);
}

GAN_API gan_tensor gan_div(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_DIV, a, b);
}

GAN_API gan_tensor gan_maximum(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_MAXIMUM, a, b);
}

GAN_API gan_tensor gan_minimum(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_MINIMUM, a, b);
}

GAN_API gan_tensor gan_greater(gan_graph *graph, gan_tensor a, gan_tensor b) {
    return gani_binary(graph, GANI_OP_GREATER, a, b);
}

GAN_API gan_tensor gan_bce_logits(gan_graph *graph, gan_tensor logit, gan_tensor target) {
    return gani_binary(graph, GANI_OP_BCE_LOGITS, logit, target);
}

GAN_API gan_tensor gan_prelu(gan_graph *graph, gan_tensor x, gan_tensor slope) {
    return gani_add2(graph, GANI_OP_PRELU, x, slope, NULL);
}

/* --- elementwise, one source --------------------------------------------- */

static gan_tensor gani_unary(gan_graph *graph, int op, gan_tensor x, float p, float q) {
    gani_attr attr = gani_attr_zero();
    attr.f[0] = p;
    attr.f[1] = q;
    return gani_add1(graph, op, x, &attr);
}

static gan_status gani_shape_clamp(gan_graph *graph, gani_node *node) {
    if (!(node->attr.f[0] <= node->attr.f[1])) {
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "low %g is above high %g",
                          (double)node->attr.f[0], (double)node->attr.f[1]);
    }
    return gani_shape_same(graph, node);
}

/* y = f0 * x + f1;  dx = f0 * dy */
static void gani_grad_affine(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_affine(graph, dy, graph->nodes[y.id].attr.f[0], 0.0f);
}

/* y = x^2;  dx = 2 x dy */
static void gani_grad_square(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor x = gani_source_of(graph, y, 0);
    dsource[0] = gan_mul(graph, dy, gan_affine(graph, x, 2.0f, 0.0f));
}

/* y = sqrt(x);  dx = dy / (2 y) */
static void gani_grad_sqrt(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_div(graph, dy, gan_affine(graph, y, 2.0f, 0.0f));
}

/* y = 1/sqrt(x);  dx = -y^3/2 dy */
static void gani_grad_rsqrt(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor cube = gan_mul(graph, gan_square(graph, y), y);
    dsource[0] = gan_mul(graph, dy, gan_affine(graph, cube, -0.5f, 0.0f));
}

/* y = exp(x);  dx = y dy */
static void gani_grad_exp(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_mul(graph, dy, y);
}

/* y = log(x);  dx = dy / x */
static void gani_grad_log(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_div(graph, dy, gani_source_of(graph, y, 0));
}

/* y = |x|;  dx = sign(x) dy */
static void gani_grad_abs(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_mul(graph, dy, gan_sign(graph, gani_source_of(graph, y, 0)));
}

/* y = log(1 + exp(x));  dx = sigmoid(x) dy */
static void gani_grad_softplus(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor x = gani_source_of(graph, y, 0);
    dsource[0] = gan_mul(graph, dy, gan_activate(graph, x, GAN_ACT_SIGMOID, 0.0f));
}

/* y = min(max(x, f0), f1);  dx = f0 <= x <= f1 ? dy : 0 */
static void gani_grad_clamp(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    gan_tensor x = gani_source_of(graph, y, 0);
    gan_tensor inside = gani_unary(graph, GANI_OP_IN_RANGE, x, attr.f[0], attr.f[1]);
    dsource[0] = gan_mul(graph, dy, inside);
}

GAN_API gan_tensor gan_affine(gan_graph *graph, gan_tensor x, float scale, float shift) {
    return gani_unary(graph, GANI_OP_AFFINE, x, scale, shift);
}

GAN_API gan_tensor gan_square(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_SQUARE, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_sqrt(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_SQRT, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_rsqrt(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_RSQRT, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_exp(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_EXP, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_log(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_LOG, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_abs(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_ABS, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_sign(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_SIGN, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_softplus(gan_graph *graph, gan_tensor x) {
    return gani_unary(graph, GANI_OP_SOFTPLUS, x, 0.0f, 0.0f);
}

GAN_API gan_tensor gan_clamp(gan_graph *graph, gan_tensor x, float low, float high) {
    return gani_unary(graph, GANI_OP_CLAMP, x, low, high);
}

/* --- activations --------------------------------------------------------- */

/* y = act(x); kind and slope at GANI_ATTR_ACT and GANI_ATTR_SLOPE, as where it is fused into
 * another op. The slope must not be negative: the gradient tells the sides by the sign of y. */
static gan_status gani_shape_activate(gan_graph *graph, gani_node *node) {
    int kind = node->attr.i[GANI_ATTR_ACT];
    float slope = node->attr.f[GANI_ATTR_SLOPE];
    if (kind < GAN_ACT_NONE || kind > GAN_ACT_SIGMOID || !(slope >= 0.0f)) {
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                          "activation %d with slope %g (expected a gan_activation, slope >= 0)",
                          kind, (double)slope);
    }
    return gani_shape_same(graph, node);
}

/* dx = dy * act'(x), from y */
static void gani_grad_activate(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    dsource[0] = gani_add2(graph, GANI_OP_ACT_GRAD, dy, y, &attr);
}

/* z = g * act'(y): leaky g * (y > 0 ? 1 : slope), tanh g * (1 - y^2), sigmoid g * y (1 - y).
 * dg = dz * act'(y);  dy = dz * g * (0, -2 y, 1 - 2 y) */
static void gani_grad_act_grad(gan_graph *graph, gan_tensor z, gan_tensor dz, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[z.id].attr;
    gan_tensor g = gani_source_of(graph, z, 0), y = gani_source_of(graph, z, 1);
    int kind = attr.i[GANI_ATTR_ACT];
    dsource[0] = gani_add2(graph, GANI_OP_ACT_GRAD, dz, y, &attr);
    if (kind == GAN_ACT_TANH || kind == GAN_ACT_SIGMOID) {
        gan_tensor slope = gan_affine(graph, y, -2.0f, kind == GAN_ACT_SIGMOID ? 1.0f : 0.0f);
        dsource[1] = gan_mul(graph, gan_mul(graph, dz, g), slope);
    }
}

GAN_API gan_tensor gan_activate(gan_graph *graph, gan_tensor x, gan_activation kind, float slope) {
    if (kind == GAN_ACT_NONE) {
        return x;
    }
    gani_attr attr = gani_attr_zero();
    attr.i[GANI_ATTR_ACT] = (int)kind;
    attr.f[GANI_ATTR_SLOPE] = kind == GAN_ACT_LEAKY_RELU ? slope : 0.0f;
    return gani_add1(graph, GANI_OP_ACTIVATE, x, &attr);
}

/* --- reductions and broadcast -------------------------------------------- */

/* The bits of axes that x has. Reduced axes keep extent 1, but all axes at once give rank 0:
 * attr.i[1]. */
static gan_status gani_shape_reduce(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0);
    unsigned axes = (unsigned)node->attr.i[0];
    if (axes >> shape.rank) {
        const gani_shape_text shape_text = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "axes 0x%x are not all axes of %s", axes,
                          shape_text.text);
    }
    for (int i = 0; i < shape.rank; i++) {
        if (axes >> i & 1u) {
            shape.dim[i] = 1;
        }
    }
    node->shape = node->attr.i[1] ? gan_shape0() : shape;
    return GAN_OK;
}

/* y [shape]: x stretched, NumPy's rule. */
static gan_status gani_shape_broadcast(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), shape = gani_attr_shape(&node->attr);
    int fits = x.rank <= shape.rank && shape.rank <= GAN_MAX_RANK;
    for (int i = 1; fits && i <= x.rank; i++) {
        int extent = x.dim[x.rank - i];
        fits = extent == 1 || extent == shape.dim[shape.rank - i];
    }
    if (!fits) {
        const gani_shape_text x_text = gani_print_shape(&x), shape_text = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "%s does not broadcast to %s", x_text.text,
                          shape_text.text);
    }
    node->shape = shape;
    return GAN_OK;
}

static gan_tensor gani_reduce(gan_graph *graph, int op, gan_tensor x, unsigned axes) {
    int rank = gan_tensor_shape(graph, x).rank;
    gani_attr attr = gani_attr_zero();
    attr.i[1] = axes == GAN_ALL_AXES;
    attr.i[0] = (int)(axes == GAN_ALL_AXES && rank >= 0 ? (1u << rank) - 1u : axes);
    return gani_add1(graph, op, x, &attr);
}

/* y = sum of x over axes;  dx = dy in each place summed */
static void gani_grad_sum(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_broadcast(graph, dy, gan_tensor_shape(graph, gani_source_of(graph, y, 0)));
}

/* y = max of x over axes;  dx = dy at the first maximum, else 0 */
static void gani_grad_max_over(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    dsource[0] =
        gan_mul(graph, gani_add1(graph, GANI_OP_MAX_MASK, gani_source_of(graph, y, 0), &attr), dy);
}

/* y = x stretched;  dx = sum of dy over what was stretched */
static void gani_grad_broadcast(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                gan_tensor *dsource) {
    dsource[0] = gani_sum_to(graph, dy, gan_tensor_shape(graph, gani_source_of(graph, y, 0)));
}

GAN_API gan_tensor gan_sum(gan_graph *graph, gan_tensor x, unsigned axes) {
    return gani_reduce(graph, GANI_OP_SUM, x, axes);
}

GAN_API gan_tensor gan_mean(gan_graph *graph, gan_tensor x, unsigned axes) {
    gan_tensor sum = gan_sum(graph, x, axes);
    double count = (double)gan_shape_count(gan_tensor_shape(graph, x)) /
                   (double)gan_shape_count(gan_tensor_shape(graph, sum));
    return gan_affine(graph, sum, (float)(1.0 / count), 0.0f);
}

GAN_API gan_tensor gan_max_over(gan_graph *graph, gan_tensor x, unsigned axes) {
    return gani_reduce(graph, GANI_OP_MAX_OVER, x, axes);
}

GAN_API gan_tensor gan_broadcast(gan_graph *graph, gan_tensor x, gan_shape shape) {
    gan_shape from = gan_tensor_shape(graph, x);
    if (gani_shape_equal(&from, &shape)) {
        return x;
    }
    gani_attr attr = gani_attr_zero();
    gani_attr_set_shape(&attr, &shape);
    return gani_add1(graph, GANI_OP_BROADCAST, x, &attr);
}

/* --- moving elements ----------------------------------------------------- */

static gan_status gani_shape_reshape(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), shape = gani_attr_shape(&node->attr);
    if (gan_shape_count(x) != gan_shape_count(shape)) {
        const gani_shape_text x_text = gani_print_shape(&x), shape_text = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "%s and %s have different numbers of elements",
                          x_text.text, shape_text.text);
    }
    node->shape = shape;
    return GAN_OK;
}

/* y's axis i is x's axis attr.i[i]. */
static gan_status gani_shape_permute(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), shape = x;
    unsigned seen = 0;
    for (int i = 0; i < x.rank; i++) {
        int axis = node->attr.i[i];
        if (axis < 0 || axis >= x.rank || (seen >> axis & 1u)) {
            const gani_shape_text x_text = gani_print_shape(&x);
            return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                              "axis %d is not an axis of %s, or named twice", axis, x_text.text);
        }
        seen |= 1u << axis;
        shape.dim[i] = x.dim[axis];
    }
    node->shape = shape;
    return GAN_OK;
}

/* Is attr.i[0] an axis of shape? */
static gan_status gani_check_axis(gan_graph *graph, const gani_node *node, gan_shape shape) {
    int axis = node->attr.i[0];
    if (axis < 0 || axis >= shape.rank) {
        const gani_shape_text shape_text = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "axis %d is not an axis of %s", axis,
                          shape_text.text);
    }
    return GAN_OK;
}

/* Sources joined along axis attr.i[0], where alone they may differ. */
static gan_status gani_shape_concat(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0);
    gan_status status = gani_check_axis(graph, node, shape);
    if (status != GAN_OK) {
        return status;
    }
    int axis = node->attr.i[0];
    for (int k = 1; k < node->source_count; k++) {
        gan_shape part = gani_source_shape(graph, node, k), other = part;
        if (part.rank == shape.rank) {
            other.dim[axis] = shape.dim[axis];
        }
        if (!gani_has(graph, node, k) || !gani_shape_equal(&shape, &other)) {
            const gani_shape_text part_text = gani_print_shape(&part),
                                  shape_text = gani_print_shape(&shape);
            return gani_error(graph->ctx, GAN_ERR_SHAPE, "part %d %s does not fit %s along axis %d",
                              k, part_text.text, shape_text.text, axis);
        }
        if (part.dim[axis] > INT_MAX - shape.dim[axis]) {
            return gani_error(graph->ctx, GAN_ERR_LIMIT, "axis %d exceeds 2^31-1", axis);
        }
        shape.dim[axis] += part.dim[axis];
    }
    node->shape = shape;
    return GAN_OK;
}

/* y = elements i[1] ... i[1]+i[2]-1 of x along axis i[0] */
static gan_status gani_shape_slice(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0);
    gan_status status = gani_check_axis(graph, node, shape);
    if (status != GAN_OK) {
        return status;
    }
    int axis = node->attr.i[0], start = node->attr.i[1], count = node->attr.i[2];
    if (start < 0 || count < 1 || start > shape.dim[axis] - count) {
        const gani_shape_text shape_text = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                          "%d elements from %d on are not within axis %d of %s", count, start, axis,
                          shape_text.text);
    }
    shape.dim[axis] = count;
    node->shape = shape;
    return GAN_OK;
}

/* y = x with i[1] zeros before and i[2] after along axis i[0] */
static gan_status gani_shape_pad(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0);
    gan_status status = gani_check_axis(graph, node, shape);
    if (status != GAN_OK) {
        return status;
    }
    int axis = node->attr.i[0], before = node->attr.i[1], after = node->attr.i[2];
    if (before < 0 || after < 0 || before > INT_MAX - shape.dim[axis] ||
        after > INT_MAX - shape.dim[axis] - before) {
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "padding %d before and %d after", before,
                          after);
    }
    shape.dim[axis] += before + after;
    node->shape = shape;
    return GAN_OK;
}

/* The last two axes grow by 2*i[0] and 2*i[1], or shrink for the adjoint; the padding is below
 * the smaller size. */
static gan_status gani_shape_pad_reflect(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), shape = x;
    int sign = node->op == GANI_OP_PAD_REFLECT ? 1 : -1;
    for (int i = 0; i < 2; i++) {
        int pad = node->attr.i[i], axis = x.rank - 2 + i;
        int fits = x.rank >= 2 && pad >= 0 && pad < INT_MAX / 4 && x.dim[axis] < INT_MAX / 2;
        if (fits) {
            shape.dim[axis] += sign * 2 * pad;
            fits = pad < (sign > 0 ? x.dim[axis] : shape.dim[axis]);
        }
        if (!fits) {
            const gani_shape_text x_text = gani_print_shape(&x);
            return gani_error(graph->ctx, GAN_ERR_SHAPE,
                              "padding %d,%d must be below the size of %s", node->attr.i[0],
                              node->attr.i[1], x_text.text);
        }
    }
    node->shape = shape;
    return GAN_OK;
}

static gan_tensor gani_along(gan_graph *graph, int op, gan_tensor x, int axis, int a, int b) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = axis;
    attr.i[1] = a;
    attr.i[2] = b;
    return gani_add1(graph, op, x, &attr);
}

static void gani_grad_reshape(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    dsource[0] = gan_reshape(graph, dy, gan_tensor_shape(graph, gani_source_of(graph, y, 0)));
}

static void gani_grad_permute(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    int inverse[GAN_MAX_RANK];
    for (int i = 0; i < gan_tensor_shape(graph, y).rank; i++) {
        inverse[attr.i[i]] = i;
    }
    dsource[0] = gan_permute(graph, dy, inverse);
}

static void gani_grad_concat(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    int axis = graph->nodes[y.id].attr.i[0], start = 0;
    int count = graph->nodes[y.id].source_count;
    for (int k = 0; k < count; k++) {
        int extent = gan_tensor_shape(graph, gani_source_of(graph, y, k)).dim[axis];
        dsource[k] = gan_slice(graph, dy, axis, start, extent);
        start += extent;
    }
}

static void gani_grad_slice(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    int extent = gan_tensor_shape(graph, gani_source_of(graph, y, 0)).dim[attr.i[0]];
    dsource[0] = gan_pad(graph, dy, attr.i[0], attr.i[1], extent - attr.i[1] - attr.i[2]);
}

static void gani_grad_pad(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    int extent = gan_tensor_shape(graph, gani_source_of(graph, y, 0)).dim[attr.i[0]];
    dsource[0] = gan_slice(graph, dy, attr.i[0], attr.i[1], extent);
}

/* Each of the pair is the other's adjoint. */
static void gani_grad_pad_reflect(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                  gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    int padded = graph->nodes[y.id].op == GANI_OP_PAD_REFLECT;
    int op = padded ? GANI_OP_PAD_REFLECT_ADJOINT : GANI_OP_PAD_REFLECT;
    dsource[0] = gani_add1(graph, op, dy, &attr);
}

GAN_API gan_tensor gan_reshape(gan_graph *graph, gan_tensor x, gan_shape shape) {
    gan_shape from = gan_tensor_shape(graph, x);
    if (gani_shape_equal(&from, &shape)) {
        return x;
    }
    gani_attr attr = gani_attr_zero();
    gani_attr_set_shape(&attr, &shape);
    return gani_add1(graph, GANI_OP_RESHAPE, x, &attr);
}

GAN_API gan_tensor gan_permute(gan_graph *graph, gan_tensor x, const int *axes) {
    gani_attr attr = gani_attr_zero();
    for (int i = 0; i < gan_tensor_shape(graph, x).rank; i++) {
        attr.i[i] = axes[i];
    }
    return gani_add1(graph, GANI_OP_PERMUTE, x, &attr);
}

GAN_API gan_tensor gan_concat(gan_graph *graph, const gan_tensor *parts, int count, int axis) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = axis;
    return gani_add_node(graph, GANI_OP_CONCAT, parts, count, &attr);
}

GAN_API gan_tensor gan_slice(gan_graph *graph, gan_tensor x, int axis, int start, int count) {
    return gani_along(graph, GANI_OP_SLICE, x, axis, start, count);
}

GAN_API gan_tensor gan_pad(gan_graph *graph, gan_tensor x, int axis, int before, int after) {
    return gani_along(graph, GANI_OP_PAD, x, axis, before, after);
}

GAN_API gan_tensor gan_pad_reflect(gan_graph *graph, gan_tensor x, int pad_h, int pad_w) {
    return gani_along(graph, GANI_OP_PAD_REFLECT, x, pad_h, pad_w, 0);
}

GAN_API gan_tensor gan_detach(gan_graph *graph, gan_tensor x) {
    return gani_add1(graph, GANI_OP_DETACH, x, NULL);
}

/* ============================================================================
 * >>ops-net  5.3  PRODUCTS, CONVOLUTIONS, NORMS, CLASSES, RANDOM, EFFECTS
 *
 * The ops that networks are made of, as in >>ops: shape, gradient, builder.
 *
 * The three convolutions are closed under differentiation:
 *   conv          y = conv(x, w)          dx = transpose(dy, w)     dw = weight_grad(x, dy)
 *   transpose     x = transpose(y, w)     dy = conv(dx, w)          dw = weight_grad(dx, y)
 *   weight_grad   w = weight_grad(x, y)   dx = transpose(y, dw)     dy = conv(x, dw)
 *
 * Normalisation. With rstd = 1/sqrt(var + eps) and xhat = (x - mean)*rstd in each group of N
 * elements, g = dy*scale, and the sums S0 = sum g, S1 = sum g*xhat over the group, the whole
 * gradient, through mean and var as well, is
 *   dx = rstd*(g - S0/N - xhat*S1/N)
 * so one op makes the sums (norm_sums) and one makes dx (norm_dx); without S it is the gradient for
 * foreign moments. (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.)
 *
 * Holds:  these ops.
 * Uses:   >>nodes  >>ops        Knows nothing of: how an op is run, layers, planning.
 * ========================================================================= */

/* --- matrix products ----------------------------------------------------- */

/* a [...,m,k] ([...,k,m] if attr.i[0]), b [...,k,n] ([...,n,k] if attr.i[1]), same leading axes;
 * y [...,m,n] = a b. */
static gan_status gani_shape_matmul(gan_graph *graph, gani_node *node) {
    gan_shape a = gani_source_shape(graph, node, 0), b = gani_source_shape(graph, node, 1);
    gan_shape shape = a, lead = b;
    int fits = a.rank >= 2 && a.rank == b.rank, r = a.rank;
    if (fits) {
        lead.dim[r - 2] = a.dim[r - 2];
        lead.dim[r - 1] = a.dim[r - 1];
        fits = gani_shape_equal(&a, &lead) &&
               a.dim[node->attr.i[0] ? r - 2 : r - 1] == b.dim[node->attr.i[1] ? r - 1 : r - 2];
    }
    if (!fits) {
        const gani_shape_text a_text = gani_print_shape(&a), b_text = gani_print_shape(&b);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "%s%s and %s%s cannot be multiplied",
                          a_text.text, node->attr.i[0] ? " transposed" : "", b_text.text,
                          node->attr.i[1] ? " transposed" : "");
    }
    shape.dim[r - 2] = a.dim[node->attr.i[0] ? r - 1 : r - 2];
    shape.dim[r - 1] = b.dim[node->attr.i[1] ? r - 2 : r - 1];
    node->shape = shape;
    return GAN_OK;
}

/* x [n,in], w [out,in], bias [out] or none; y [n,out] = act(x w' + bias) */
static gan_status gani_shape_linear(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), w = gani_source_shape(graph, node, 1);
    gan_shape bias = gani_source_shape(graph, node, 2);
    if (x.rank != 2 || w.rank != 2 || x.dim[1] != w.dim[1]) {
        const gani_shape_text x_text = gani_print_shape(&x), w_text = gani_print_shape(&w);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "weight %s does not fit input %s (expected [out,in] and [n,in])",
                          w_text.text, x_text.text);
    }
    if (gani_has(graph, node, 2) && (bias.rank != 1 || bias.dim[0] != w.dim[0])) {
        const gani_shape_text b_text = gani_print_shape(&bias), w_text = gani_print_shape(&w);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "bias %s does not fit weight %s (expected [%d])", b_text.text,
                          w_text.text, w.dim[0]);
    }
    node->shape = gan_shape2(x.dim[0], w.dim[0]);
    return GAN_OK;
}

/* y = A B, where A is a or its transpose:  dA = dy B', dB = A' dy, and the transpose of these */
static void gani_grad_matmul(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    gan_tensor a = gani_source_of(graph, y, 0), b = gani_source_of(graph, y, 1);
    int ta = attr.i[0], tb = attr.i[1];
    dsource[0] = ta ? gan_matmul(graph, b, dy, tb, 1) : gan_matmul(graph, dy, b, 0, !tb);
    dsource[1] = tb ? gan_matmul(graph, dy, a, 1, ta) : gan_matmul(graph, a, dy, !ta, 0);
}

/* y = x w' + bias;  dx = dy w, dw = dy' x, dbias = sum of dy over n */
static void gani_grad_linear(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor x = gani_source_of(graph, y, 0), w = gani_source_of(graph, y, 1);
    dsource[0] = gan_matmul(graph, dy, w, 0, 0);
    dsource[1] = gan_matmul(graph, dy, x, 1, 0);
    if (gani_source_of(graph, y, 2).id) {
        dsource[2] = gani_sum_channels(graph, dy);
    }
}

/* Without leading axes, b serves every matrix of a: these then are the rows of one. */
GAN_API gan_tensor gan_matmul(gan_graph *graph, gan_tensor a, gan_tensor b, int transpose_a,
                              int transpose_b) {
    gan_shape shape = gan_tensor_shape(graph, a);
    gani_attr attr = gani_attr_zero();
    attr.i[0] = transpose_a != 0;
    attr.i[1] = transpose_b != 0;
    if (shape.rank <= 2 || gan_tensor_shape(graph, b).rank != 2) {
        return gani_add2(graph, GANI_OP_MATMUL, a, b, &attr);
    }
    int r = shape.rank;
    if (transpose_a) {
        int axes[GAN_MAX_RANK] = {0, 1, 2, 3, 4};
        axes[r - 2] = r - 1;
        axes[r - 1] = r - 2;
        a = gan_permute(graph, a, axes);
        shape = gan_tensor_shape(graph, a);
        attr.i[0] = 0;
    }
    gan_shape flat = gan_shape2((int)gani_extent(shape, 0, r - 1), shape.dim[r - 1]);
    gan_tensor y = gani_add2(graph, GANI_OP_MATMUL, gan_reshape(graph, a, flat), b, &attr);
    shape.dim[r - 1] = gan_tensor_shape(graph, y).dim[1];
    return gan_reshape(graph, y, shape);
}

GAN_API gan_tensor gan_linear(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias) {
    return gani_add3(graph, GANI_OP_LINEAR, x, w, bias, NULL);
}

/* --- convolutions -------------------------------------------------------- */

/* Attributes of all three convolutions. Then h, w of the result (transposed), or kh, kw (weight
 * gradient). */
enum {
    GANI_CONV_STRIDE, /* two each: along h, along w */
    GANI_CONV_PAD = 2,
    GANI_CONV_DILATION = 4,
    GANI_CONV_GROUPS = 6,
    GANI_CONV_REFLECT,
    GANI_CONV_SIZE
};

#define GANI_MAX_GEOMETRY 32767 /* largest stride, padding, dilation and window */

/* Output size along one axis (0: h, 1: w) for an image of `size` and a kernel of k; below 1 if
 * nothing fits. */
static long long gani_conv_extent(const gani_attr *attr, int axis, int size, int k) {
    long long reach = (long long)attr->i[GANI_CONV_DILATION + axis] * (k - 1) + 1;
    long long room = (long long)size + 2LL * attr->i[GANI_CONV_PAD + axis] - reach;
    return room < 0 ? 0 : room / attr->i[GANI_CONV_STRIDE + axis] + 1;
}

static gan_status gani_check_conv_numbers(gan_graph *graph, const gani_attr *attr) {
    const int *a = attr->i;
    for (int i = 0; i < 2; i++) {
        const int stride = a[GANI_CONV_STRIDE + i], pad = a[GANI_CONV_PAD + i];
        const int dilation = a[GANI_CONV_DILATION + i], groups = a[GANI_CONV_GROUPS];
        if (stride < 1 || pad < 0 || dilation < 1 || groups < 1 || stride > GANI_MAX_GEOMETRY ||
            pad > GANI_MAX_GEOMETRY || dilation > GANI_MAX_GEOMETRY) {
            return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                              "stride %d, padding %d, dilation %d along %s, groups %d (limit %d)",
                              stride, pad, dilation, i ? "width" : "height", groups,
                              GANI_MAX_GEOMETRY);
        }
    }
    return GAN_OK;
}

/* Does y [n,o,oh,ow] = conv(x [n,c,h,w], w [o,c/groups,kh,kw]) hold? With y.dim[2] = 0, oh and
 * ow are set. The error names the pair that does not fit, x and y being called as the op calls
 * them. */
static gan_status gani_check_conv(gan_graph *graph, const gani_node *node, const gan_shape *x,
                                  const gan_shape *w, gan_shape *y) {
    const gani_attr *attr = &node->attr;
    const int groups = attr->i[GANI_CONV_GROUPS];
    const int transposed = node->op == GANI_OP_CONV_TRANSPOSE;
    const gani_shape_text w_text = gani_print_shape(w);
    const gani_shape_text x_text = gani_print_shape(transposed ? y : x);
    const long long expected = transposed ? w->dim[0] : (long long)w->dim[1] * groups;
    const int found = transposed ? y->dim[1] : x->dim[1];
    const gan_status status = gani_check_conv_numbers(graph, attr);
    if (status != GAN_OK) {
        return status;
    }
    if (x->rank != 4 || w->rank != 4 || y->rank != 4 || expected != found) {
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "weight %s does not fit input %s (channels %lld, found %d)", w_text.text,
                          x_text.text, expected, found);
    }
    if (w->dim[0] % groups != 0) {
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "weight %s does not divide into %d groups",
                          w_text.text, groups);
    }
    for (int i = 0; i < 2; i++) {
        long long size = gani_conv_extent(attr, i, x->dim[2 + i], w->dim[2 + i]);
        int known = y->dim[2 + i] != 0;
        if (size < 1 || size > INT_MAX || (known && size != y->dim[2 + i]) ||
            (attr->i[GANI_CONV_REFLECT] && attr->i[GANI_CONV_PAD + i] >= x->dim[2 + i])) {
            return gani_error(graph->ctx, GAN_ERR_SHAPE,
                              "weight %s does not fit input %s (stride %d, padding %d%s, "
                              "dilation %d along %s)",
                              w_text.text, x_text.text, attr->i[GANI_CONV_STRIDE + i],
                              attr->i[GANI_CONV_PAD + i],
                              attr->i[GANI_CONV_REFLECT] ? " reflecting" : "",
                              attr->i[GANI_CONV_DILATION + i], i ? "width" : "height");
        }
        y->dim[2 + i] = (int)size;
    }
    return GAN_OK;
}

static gan_status gani_check_conv_bias(gan_graph *graph, const gani_node *node, int channels) {
    gan_shape bias = gani_source_shape(graph, node, 2);
    if (gani_has(graph, node, 2) && (bias.rank != 1 || bias.dim[0] != channels)) {
        const gani_shape_text text = gani_print_shape(&bias);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "bias %s does not fit %d output channels",
                          text.text, channels);
    }
    return GAN_OK;
}

/* x [n,c,h,w], w [o,c/groups,kh,kw], bias [o] or none; y [n,o,oh,ow] */
static gan_status gani_shape_conv(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), w = gani_source_shape(graph, node, 1);
    gan_shape y = gan_shape4(x.dim[0], w.dim[0], 0, 0);
    gan_status status = gani_check_conv(graph, node, &x, &w, &y);
    if (status == GAN_OK) {
        status = gani_check_conv_bias(graph, node, w.dim[0]);
    }
    node->shape = y;
    return status;
}

/* y [n,o,oh,ow], w [o,c/groups,kh,kw], bias [c] or none; x [n,c,h,w] */
static gan_status gani_shape_conv_transpose(gan_graph *graph, gani_node *node) {
    gan_shape y = gani_source_shape(graph, node, 0), w = gani_source_shape(graph, node, 1);
    const int *size = node->attr.i + GANI_CONV_SIZE;
    long long channels = (long long)w.dim[1] * node->attr.i[GANI_CONV_GROUPS];
    gan_shape x = gan_shape4(y.dim[0], channels > INT_MAX ? 0 : (int)channels, size[0], size[1]);
    gan_status status = gani_check_conv(graph, node, &x, &w, &y);
    if (status == GAN_OK) {
        status = gani_check_conv_bias(graph, node, x.dim[1]);
    }
    node->shape = x;
    return status;
}

/* x [n,c,h,w], y [n,o,oh,ow]; w [o,c/groups,kh,kw] */
static gan_status gani_shape_conv_weight_grad(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0), y = gani_source_shape(graph, node, 1);
    const int *size = node->attr.i + GANI_CONV_SIZE;
    gan_shape w = gan_shape4(y.dim[1], x.dim[1] / node->attr.i[GANI_CONV_GROUPS], size[0], size[1]);
    node->shape = w;
    return gani_check_conv(graph, node, &x, &w, &y);
}

/* Appends one of the three; a and b are the sources but bias, size is h, w or kh, kw. */
static gan_tensor gani_conv_node(gan_graph *graph, int op, gan_tensor a, gan_tensor b,
                                 const gani_attr *geometry, gan_shape size) {
    gani_attr attr = gani_attr_zero();
    memcpy(attr.i, geometry->i, GANI_CONV_SIZE * sizeof attr.i[0]);
    if (op != GANI_OP_CONV) {
        attr.i[GANI_CONV_SIZE] = size.dim[2];
        attr.i[GANI_CONV_SIZE + 1] = size.dim[3];
    }
    return gani_add2(graph, op, a, b, &attr);
}

/* y = conv(x, w) + bias;  dx = transpose(dy, w), dw = weight_grad(x, dy), dbias = sum of dy */
static void gani_grad_conv(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    gan_tensor x = gani_source_of(graph, y, 0), w = gani_source_of(graph, y, 1);
    dsource[0] =
        gani_conv_node(graph, GANI_OP_CONV_TRANSPOSE, dy, w, &attr, gan_tensor_shape(graph, x));
    dsource[1] =
        gani_conv_node(graph, GANI_OP_CONV_WEIGHT_GRAD, x, dy, &attr, gan_tensor_shape(graph, w));
    if (gani_source_of(graph, y, 2).id) {
        dsource[2] = gani_sum_channels(graph, dy);
    }
}

/* x = transpose(y, w) + bias;  dy = conv(dx, w), dw = weight_grad(dx, y), dbias = sum of dx */
static void gani_grad_conv_transpose(gan_graph *graph, gan_tensor x, gan_tensor dx,
                                     gan_tensor *dsource) {
    gani_attr attr = graph->nodes[x.id].attr;
    gan_tensor y = gani_source_of(graph, x, 0), w = gani_source_of(graph, x, 1);
    dsource[0] = gani_conv_node(graph, GANI_OP_CONV, dx, w, &attr, gan_shape0());
    dsource[1] =
        gani_conv_node(graph, GANI_OP_CONV_WEIGHT_GRAD, dx, y, &attr, gan_tensor_shape(graph, w));
    if (gani_source_of(graph, x, 2).id) {
        dsource[2] = gani_sum_channels(graph, dx);
    }
}

/* w = weight_grad(x, y);  dx = transpose(y, dw), dy = conv(x, dw) */
static void gani_grad_conv_weight_grad(gan_graph *graph, gan_tensor w, gan_tensor dw,
                                       gan_tensor *dsource) {
    gani_attr attr = graph->nodes[w.id].attr;
    gan_tensor x = gani_source_of(graph, w, 0), y = gani_source_of(graph, w, 1);
    dsource[0] =
        gani_conv_node(graph, GANI_OP_CONV_TRANSPOSE, y, dw, &attr, gan_tensor_shape(graph, x));
    dsource[1] = gani_conv_node(graph, GANI_OP_CONV, x, dw, &attr, gan_shape0());
}

/* Attributes of a descriptor, defaults filled in. */
static gani_attr gani_conv_attr(const gan_conv_desc *desc) {
    gani_attr attr = gani_attr_zero();
    gan_conv_desc zero;
    memset(&zero, 0, sizeof zero);
    const gan_conv_desc *d = desc ? desc : &zero;
    attr.i[GANI_CONV_STRIDE] = d->stride_h ? d->stride_h : 1;
    attr.i[GANI_CONV_STRIDE + 1] = d->stride_w ? d->stride_w : 1;
    attr.i[GANI_CONV_PAD] = d->pad_h;
    attr.i[GANI_CONV_PAD + 1] = d->pad_w;
    attr.i[GANI_CONV_DILATION] = d->dilation_h ? d->dilation_h : 1;
    attr.i[GANI_CONV_DILATION + 1] = d->dilation_w ? d->dilation_w : 1;
    attr.i[GANI_CONV_GROUPS] = d->groups ? d->groups : 1;
    attr.i[GANI_CONV_REFLECT] = d->reflect != 0;
    return attr;
}

GAN_API gan_tensor gan_conv2d(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias,
                              const gan_conv_desc *desc) {
    gani_attr attr = gani_conv_attr(desc);
    return gani_add3(graph, GANI_OP_CONV, x, w, bias, &attr);
}

/* Size of the result: (oh - 1)*stride - 2*pad + dilation*(kh - 1) + 1 + out_pad. */
GAN_API gan_tensor gan_conv2d_transpose(gan_graph *graph, gan_tensor x, gan_tensor w,
                                        gan_tensor bias, const gan_conv_desc *desc) {
    gani_attr attr = gani_conv_attr(desc);
    gan_shape in = gan_tensor_shape(graph, x), k = gan_tensor_shape(graph, w);
    for (int i = 0; i < 2 && in.rank == 4 && k.rank == 4; i++) {
        int out_pad = desc ? (i ? desc->out_pad_w : desc->out_pad_h) : 0;
        long long size = (in.dim[2 + i] - 1LL) * attr.i[GANI_CONV_STRIDE + i] -
                         2LL * attr.i[GANI_CONV_PAD + i] +
                         (k.dim[2 + i] - 1LL) * attr.i[GANI_CONV_DILATION + i] + 1 + out_pad;
        attr.i[GANI_CONV_SIZE + i] = size < 1 || size > INT_MAX ? 0 : (int)size;
    }
    return gani_add3(graph, GANI_OP_CONV_TRANSPOSE, x, w, bias, &attr);
}

/* --- pooling and upsampling ---------------------------------------------- */

/* Square windows. Average: divided by the elements within the image, or kernel^2 if count_pad;
 * then times f[0]. */
enum {
    GANI_POOL_KERNEL,
    GANI_POOL_STRIDE,
    GANI_POOL_PAD,
    GANI_POOL_COUNT_PAD,
    GANI_POOL_SIZE /* h, w of the result of the adjoint */
};

static gan_status gani_check_pool(gan_graph *graph, const gani_node *node, const gan_shape *x,
                                  gan_shape *y) {
    const int k = node->attr.i[GANI_POOL_KERNEL], stride = node->attr.i[GANI_POOL_STRIDE];
    const int pad = node->attr.i[GANI_POOL_PAD];
    int fits = x->rank == 4 && k >= 1 && k <= GANI_MAX_GEOMETRY;
    fits = fits && stride >= 1 && pad >= 0 && pad <= k / 2;
    for (int i = 2; fits && i < 4; i++) {
        long long room = (long long)x->dim[i] + 2LL * pad - k;
        fits = room >= 0 && (y->dim[i] == 0 || y->dim[i] == room / stride + 1);
        y->dim[i] = fits ? (int)(room / stride + 1) : 0;
    }
    if (!fits) {
        const gani_shape_text text = gani_print_shape(x);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "window %d, stride %d, padding %d does not fit input %s "
                          "(expected [n,c,h,w], padding at most half the window)",
                          k, stride, pad, text.text);
    }
    return GAN_OK;
}

/* x [n,c,h,w] (for max_pool values, and keys of the same shape); y [n,c,oh,ow] */
static gan_status gani_shape_pool(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0);
    gan_shape y = gan_shape4(x.dim[0], x.dim[1], 0, 0);
    gan_status status = gani_check_pool(graph, node, &x, &y);
    node->shape = y;
    return status;
}

/* y [n,c,oh,ow] (for max_pool, also keys [n,c,h,w]); x [n,c,h,w] */
static gan_status gani_shape_pool_adjoint(gan_graph *graph, gani_node *node) {
    gan_shape y = gani_source_shape(graph, node, 0);
    const int *size = node->attr.i + GANI_POOL_SIZE;
    gan_shape x = gan_shape4(y.dim[0], y.dim[1], size[0], size[1]);
    node->shape = x;
    return gani_check_pool(graph, node, &x, &y);
}

/* x [n,c,h,w]; y [n,c,h*i[0],w*i[0]] */
static gan_status gani_shape_upsample(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0);
    int factor = node->attr.i[0];
    if (x.rank != 4 || factor < 1 || x.dim[2] > INT_MAX / factor || x.dim[3] > INT_MAX / factor) {
        const gani_shape_text text = gani_print_shape(&x);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "input %s by factor %d (expected [n,c,h,w] and 1 or more)", text.text,
                          factor);
    }
    node->shape = gan_shape4(x.dim[0], x.dim[1], x.dim[2] * factor, x.dim[3] * factor);
    return GAN_OK;
}

static gani_attr gani_pool_attr(int kernel, int stride, int pad) {
    gani_attr attr = gani_attr_zero();
    attr.i[GANI_POOL_KERNEL] = kernel;
    attr.i[GANI_POOL_STRIDE] = stride;
    attr.i[GANI_POOL_PAD] = pad;
    attr.f[0] = 1.0f;
    return attr;
}

/* Each of the pair is the other's adjoint. */
static void gani_grad_avg_pool(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    gan_shape x = gan_tensor_shape(graph, gani_source_of(graph, y, 0));
    int pooled = graph->nodes[y.id].op == GANI_OP_AVG_POOL;
    attr.i[GANI_POOL_SIZE] = pooled ? x.dim[2] : 0;
    attr.i[GANI_POOL_SIZE + 1] = pooled ? x.dim[3] : 0;
    dsource[0] = gani_add1(graph, pooled ? GANI_OP_AVG_POOL_ADJOINT : GANI_OP_AVG_POOL, dy, &attr);
}

/* y = v where key is largest in each window; the adjoint puts back. Where that is does not
 * change with small changes of key. */
static void gani_grad_max_pool(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    gan_tensor key = gani_source_of(graph, y, 1);
    gan_shape x = gan_tensor_shape(graph, key);
    int pooled = graph->nodes[y.id].op == GANI_OP_MAX_POOL;
    attr.i[GANI_POOL_SIZE] = pooled ? x.dim[2] : 0;
    attr.i[GANI_POOL_SIZE + 1] = pooled ? x.dim[3] : 0;
    dsource[0] =
        gani_add2(graph, pooled ? GANI_OP_MAX_POOL_ADJOINT : GANI_OP_MAX_POOL, dy, key, &attr);
}

/* y = x in blocks of f*f;  dx = sum over each block = f*f times the average */
static void gani_grad_upsample(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    int factor = graph->nodes[y.id].attr.i[0];
    gani_attr attr = gani_pool_attr(factor, factor, 0);
    attr.f[0] = (float)factor * (float)factor;
    dsource[0] = gani_add1(graph, GANI_OP_AVG_POOL, dy, &attr);
}

GAN_API gan_tensor gan_avg_pool(gan_graph *graph, gan_tensor x, int kernel, int stride, int pad,
                                int count_pad) {
    gani_attr attr = gani_pool_attr(kernel, stride, pad);
    attr.i[GANI_POOL_COUNT_PAD] = count_pad != 0;
    return gani_add1(graph, GANI_OP_AVG_POOL, x, &attr);
}

GAN_API gan_tensor gan_max_pool(gan_graph *graph, gan_tensor x, int kernel, int stride, int pad) {
    gani_attr attr = gani_pool_attr(kernel, stride, pad);
    return gani_add2(graph, GANI_OP_MAX_POOL, x, x, &attr);
}

GAN_API gan_tensor gan_upsample(gan_graph *graph, gan_tensor x, int factor) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = factor;
    return gani_add1(graph, GANI_OP_UPSAMPLE, x, &attr);
}

/* --- statistics and normalisation ---------------------------------------- */

/* Attributes: i[0] the gan_norm_kind, i[1] norm_sums by channel instead of by group, f[0] eps. */
static int gani_norm_groups(gan_shape x, int kind) {
    return kind == GAN_NORM_BATCH   ? x.dim[1]
           : kind == GAN_NORM_LAYER ? x.dim[0]
                                    : x.dim[0] * x.dim[1];
}

/* Checks x [n,c,...], the kind, and that source k, if there, has the given shape. */
static gan_status gani_check_norm(gan_graph *graph, const gani_node *node, gan_shape x) {
    int kind = node->attr.i[0];
    if (x.rank < 2 || kind < GAN_NORM_BATCH || kind > GAN_NORM_LAYER ||
        !(node->attr.f[0] >= 0.0f)) {
        const gani_shape_text text = gani_print_shape(&x);
        return gani_error(
            graph->ctx, GAN_ERR_SHAPE,
            "input %s, kind %d, eps %g (expected [n,c,...], a gan_norm_kind, eps >= 0)", text.text,
            kind, (double)node->attr.f[0]);
    }
    return GAN_OK;
}

static gan_status gani_check_norm_source(gan_graph *graph, const gani_node *node, int k,
                                         gan_shape expected, const char *what) {
    gan_shape found = gani_source_shape(graph, node, k);
    if (gani_has(graph, node, k) && !gani_shape_equal(&found, &expected)) {
        const gani_shape_text found_text = gani_print_shape(&found);
        const gani_shape_text expected_text = gani_print_shape(&expected);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "%s %s does not fit (expected %s)", what,
                          found_text.text, expected_text.text);
    }
    return GAN_OK;
}

/* x [n,c,...]; y [2,groups]: means, biased variances */
static gan_status gani_shape_moments(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0);
    gan_status status = gani_check_norm(graph, node, x);
    node->shape = gan_shape2(2, status == GAN_OK ? gani_norm_groups(x, node->attr.i[0]) : 0);
    return status;
}

/* x [n,c,...], moments [2,groups], scale [c] or none, shift [c] or none; y [n,c,...] */
static gan_status gani_shape_normalize(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 0);
    gan_status status = gani_check_norm(graph, node, x);
    if (status == GAN_OK) {
        gan_shape moments = gan_shape2(2, gani_norm_groups(x, node->attr.i[0]));
        status = gani_check_norm_source(graph, node, 1, moments, "moments");
    }
    if (status == GAN_OK) {
        status = gani_check_norm_source(graph, node, 2, gan_shape1(x.dim[1]), "scale");
    }
    if (status == GAN_OK) {
        status = gani_check_norm_source(graph, node, 3, gan_shape1(x.dim[1]), "shift");
    }
    node->shape = x;
    return status;
}

/* g and x [n,c,...], moments [2,groups]; y [2,groups] or [2,c]: sums of g, sums of g*xhat */
static gan_status gani_shape_norm_sums(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 1);
    gan_status status = gani_check_norm(graph, node, x);
    if (status == GAN_OK) {
        status = gani_check_norm_source(graph, node, 0, x, "gradient");
    }
    int groups = status == GAN_OK ? gani_norm_groups(x, node->attr.i[0]) : 0;
    if (status == GAN_OK) {
        status = gani_check_norm_source(graph, node, 2, gan_shape2(2, groups), "moments");
    }
    node->shape = gan_shape2(2, node->attr.i[1] ? x.dim[1] : groups);
    return status;
}

/* g and x [n,c,...], moments [2,groups], sums [2,groups] or none, scale [c] or none; dx
 * [n,c,...] */
static gan_status gani_shape_norm_dx(gan_graph *graph, gani_node *node) {
    gan_shape x = gani_source_shape(graph, node, 1);
    gan_status status = gani_check_norm(graph, node, x);
    if (status == GAN_OK) {
        status = gani_check_norm_source(graph, node, 0, x, "gradient");
    }
    for (int k = 2; k < 4 && status == GAN_OK; k++) {
        gan_shape moments = gan_shape2(2, gani_norm_groups(x, node->attr.i[0]));
        status = gani_check_norm_source(graph, node, k, moments, k == 2 ? "moments" : "sums");
    }
    if (status == GAN_OK) {
        status = gani_check_norm_source(graph, node, 4, gan_shape1(x.dim[1]), "scale");
    }
    node->shape = x;
    return status;
}

/* What the gradients of the four ops share. Small tensors v hold a value for each group:
 * [1,groups] or [2,groups]. */
typedef struct gani_norm {
    gan_graph *graph;
    gan_shape shape; /* of x */
    int kind, groups;
    float count; /* elements in a group */
    gani_attr attr;
    gan_tensor x, moments;
} gani_norm;

static gani_norm gani_norm_of(gan_graph *graph, gan_tensor y, gan_tensor x, gan_tensor moments) {
    gani_norm norm;
    norm.graph = graph;
    norm.shape = gan_tensor_shape(graph, x);
    norm.attr = gani_attr_zero();
    norm.attr.i[0] = norm.kind = graph->nodes[y.id].attr.i[0];
    norm.attr.f[0] = graph->nodes[y.id].attr.f[0];
    norm.groups = gani_norm_groups(norm.shape, norm.kind);
    norm.count = (float)(gani_extent(norm.shape, 0, norm.shape.rank) / (size_t)norm.groups);
    norm.x = x;
    norm.moments = moments;
    return norm;
}

/* Row 0 or 1 of [2,j]: [1,j]. */
static gan_tensor gani_norm_row(const gani_norm *norm, gan_tensor v, int row) {
    return gan_slice(norm->graph, v, 0, row, 1);
}

/* [2,groups] of two [1,groups] */
static gan_tensor gani_norm_rows(const gani_norm *norm, gan_tensor first, gan_tensor second) {
    gan_tensor part[2];
    part[0] = first;
    part[1] = second;
    return gan_concat(norm->graph, part, 2, 0);
}

/* [1,groups], or [1,c] where by_channel, as it broadcasts against x. */
static gan_tensor gani_norm_expand(const gani_norm *norm, gan_tensor v, int by_channel) {
    gan_shape shape = norm->shape;
    for (int i = 2; i < shape.rank; i++) {
        shape.dim[i] = 1;
    }
    if (by_channel || norm->kind == GAN_NORM_BATCH) {
        shape.dim[0] = 1;
    } else if (norm->kind == GAN_NORM_LAYER) {
        shape.dim[1] = 1;
    }
    return gan_reshape(norm->graph, v, shape);
}

/* Sum over each group of t, which has the shape of x: [1,groups]. */
static gan_tensor gani_norm_group_sum(const gani_norm *norm, gan_tensor t) {
    unsigned axes = ((1u << norm->shape.rank) - 1u) & ~3u;
    axes |= norm->kind == GAN_NORM_BATCH ? 1u : norm->kind == GAN_NORM_LAYER ? 2u : 0u;
    return gan_reshape(norm->graph, gan_sum(norm->graph, t, axes), gan_shape2(1, norm->groups));
}

/* 1/sqrt(var + eps): [1,groups] */
static gan_tensor gani_norm_rstd(const gani_norm *norm) {
    gan_tensor var = gani_norm_row(norm, norm->moments, 1);
    return gan_rsqrt(norm->graph, gan_affine(norm->graph, var, 1.0f, norm->attr.f[0]));
}

/* scale [c] (or none) times t, which has the shape of x. */
static gan_tensor gani_norm_scaled(const gani_norm *norm, gan_tensor t, gan_tensor scale) {
    return scale.id ? gan_mul(norm->graph, t, gani_norm_expand(norm, scale, 1)) : t;
}

static gan_tensor gani_norm_sums(const gani_norm *norm, gan_tensor g, int by_channel) {
    gani_attr attr = norm->attr;
    attr.i[1] = by_channel;
    return gani_add3(norm->graph, GANI_OP_NORM_SUMS, g, norm->x, norm->moments, &attr);
}

/* norm_sums(g) by channel, [2,c]. A group of the other kinds lies within one channel, so its
 * sums will do: [2,groups]. */
static gan_tensor gani_norm_channel_sums(const gani_norm *norm, gan_tensor g, gan_tensor sums) {
    const int channels = norm->shape.dim[1];
    if (norm->kind == GAN_NORM_LAYER) {
        return gani_norm_sums(norm, g, 1);
    }
    sums = gan_reshape(norm->graph, sums, gan_shape3(2, norm->groups / channels, channels));
    return gan_reshape(norm->graph, gan_sum(norm->graph, sums, 2u), gan_shape2(2, channels));
}

static gan_tensor gani_norm_dx(const gani_norm *norm, gan_tensor g, gan_tensor sums,
                               gan_tensor scale) {
    gan_tensor source[5];
    source[0] = g;
    source[1] = norm->x;
    source[2] = norm->moments;
    source[3] = sums;
    source[4] = scale;
    return gani_add_node(norm->graph, GANI_OP_NORM_DX, source, 5, &norm->attr);
}

/* Gradient in moments [2,groups] of sum q*xhat, from sums = norm_sums(q) over groups:
 *   dmean = -rstd * S0,  dvar = -rstd^2/2 * S1 */
static gan_tensor gani_norm_dmoments(const gani_norm *norm, gan_tensor sums) {
    gan_graph *graph = norm->graph;
    gan_tensor rstd = gani_norm_rstd(norm);
    gan_tensor half = gan_affine(graph, gan_square(graph, rstd), -0.5f, 0.0f);
    return gan_mul(graph, sums, gani_norm_rows(norm, gani_negate(graph, rstd), half));
}

/* mean, var of x;  dx = (dmean + 2 (x - mean) dvar) / N */
static void gani_grad_moments(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor x = gani_source_of(graph, y, 0);
    gani_norm norm = gani_norm_of(graph, y, x, y);
    gan_tensor d = gan_affine(graph, dy, 1.0f / norm.count, 0.0f);
    gan_tensor mean = gani_norm_expand(&norm, gani_norm_row(&norm, y, 0), 0);
    gan_tensor dmean = gani_norm_expand(&norm, gani_norm_row(&norm, d, 0), 0);
    gan_tensor dvar = gani_norm_expand(&norm, gani_norm_row(&norm, d, 1), 0);
    gan_tensor slope = gan_mul(graph, gan_sub(graph, x, mean), gan_affine(graph, dvar, 2.0f, 0.0f));
    dsource[0] = gan_add(graph, slope, dmean);
}

/* y = xhat*scale + shift. If moments are those of x, dx is the whole gradient and moments get
 * none; see the banner. */
static void gani_grad_normalize(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                gan_tensor *dsource) {
    gan_tensor none = {0};
    gan_tensor x = gani_source_of(graph, y, 0), moments = gani_source_of(graph, y, 1);
    gan_tensor scale = gani_source_of(graph, y, 2), shift = gani_source_of(graph, y, 3);
    gani_norm norm = gani_norm_of(graph, y, x, moments);
    const gani_node *source = &graph->nodes[moments.id];
    int own = source->op == GANI_OP_MOMENTS && source->attr.i[0] == norm.kind &&
              gani_source(graph, source, 0).id == x.id;
    /* where a group has one scale, it can be applied to sums; in a layer's groups it varies */
    gan_tensor late = norm.kind == GAN_NORM_LAYER ? none : scale;
    gan_tensor g = late.id ? dy : gani_norm_scaled(&norm, dy, scale);
    gan_tensor sums = gani_norm_sums(&norm, g, 0);
    dsource[0] = gani_norm_dx(&norm, g, own ? sums : none, late);
    if (!own) {
        gan_tensor scaled = sums;
        if (late.id) {
            int rows = norm.groups / norm.shape.dim[1];
            scaled = gan_reshape(graph, sums, gan_shape3(2, rows, norm.shape.dim[1]));
            scaled = gan_reshape(graph, gan_mul(graph, scaled, late), gan_shape2(2, norm.groups));
        }
        dsource[1] = gani_norm_dmoments(&norm, scaled);
    }
    if (scale.id || shift.id) {
        gan_tensor by_channel = gani_norm_channel_sums(&norm, dy, sums);
        gan_shape channels = gan_shape1(norm.shape.dim[1]);
        if (scale.id) {
            dsource[2] = gan_reshape(graph, gani_norm_row(&norm, by_channel, 1), channels);
        }
        if (shift.id) {
            dsource[3] = gan_reshape(graph, gani_norm_row(&norm, by_channel, 0), channels);
        }
    }
}

/* S0 = sum g, S1 = sum g*xhat, given d0, d1 for each:  dg = d0 + d1*xhat;  with q = d1*g:  dx =
 * rstd*q, dmoments of sum q*xhat */
static void gani_grad_norm_sums(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                gan_tensor *dsource) {
    gan_tensor none = {0};
    gan_tensor g = gani_source_of(graph, y, 0), x = gani_source_of(graph, y, 1);
    gan_tensor moments = gani_source_of(graph, y, 2);
    gani_norm norm = gani_norm_of(graph, y, x, moments);
    int by_channel = graph->nodes[y.id].attr.i[1];
    gan_tensor d0 = gani_norm_expand(&norm, gani_norm_row(&norm, dy, 0), by_channel);
    gan_tensor d1 = gani_norm_expand(&norm, gani_norm_row(&norm, dy, 1), by_channel);
    gan_tensor xhat =
        gan_normalize(graph, x, moments, none, none, (gan_norm_kind)norm.kind, norm.attr.f[0]);
    gan_tensor q = gan_mul(graph, g, d1);
    dsource[0] = gan_add(graph, gan_mul(graph, xhat, d1), d0);
    dsource[1] = gani_norm_dx(&norm, q, none, none);
    dsource[2] = gani_norm_dmoments(&norm, gani_norm_sums(&norm, q, 0));
}

/* y = scale*rstd*(g - S0/N - xhat*S1/N). With h = dy, u = scale*h and T = norm_sums(u):
 *   dg = scale*rstd*h                              dS = -rstd/N * T
 *   dx = -u * rstd^2 S1/N                          dmean = rstd^2 S1/N * T0
 *   dvar = -rstd^2/2 * sum(h*y) + rstd^3/2 S1/N * T1
 *   dscale = sum by channel of h*y/scale */
static void gani_grad_norm_dx(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor none = {0};
    gan_tensor g = gani_source_of(graph, y, 0), x = gani_source_of(graph, y, 1);
    gan_tensor sums = gani_source_of(graph, y, 3), scale = gani_source_of(graph, y, 4);
    gani_norm norm = gani_norm_of(graph, y, x, gani_source_of(graph, y, 2));
    gan_tensor rstd = gani_norm_rstd(&norm), rstd2 = gan_square(graph, rstd);
    gan_tensor hy = gani_norm_group_sum(&norm, gan_mul(graph, dy, y));
    gan_tensor dvar = gan_mul(graph, gan_affine(graph, rstd2, -0.5f, 0.0f), hy);
    gan_tensor dmean = gan_constant(graph, gan_shape2(1, norm.groups), 0.0f);
    dsource[0] = gani_norm_dx(&norm, dy, none, scale);
    if (sums.id) {
        gan_tensor u = gani_norm_scaled(&norm, dy, scale);
        gan_tensor t = gani_norm_sums(&norm, u, 0);
        gan_tensor s1 = gan_affine(graph, gani_norm_row(&norm, sums, 1), 1.0f / norm.count, 0.0f);
        gan_tensor slope = gan_mul(graph, rstd2, s1);
        gan_tensor t1 = gan_mul(graph, gan_mul(graph, slope, rstd), gani_norm_row(&norm, t, 1));
        dmean = gan_mul(graph, slope, gani_norm_row(&norm, t, 0));
        dvar = gan_add(graph, dvar, gan_affine(graph, t1, 0.5f, 0.0f));
        dsource[1] = gani_negate(graph, gan_mul(graph, u, gani_norm_expand(&norm, slope, 0)));
        dsource[3] = gan_mul(graph, t, gan_affine(graph, rstd, -1.0f / norm.count, 0.0f));
    }
    dsource[2] = gani_norm_rows(&norm, dmean, dvar);
    if (scale.id) {
        gan_tensor plain = gani_norm_dx(&norm, g, sums, none);
        dsource[4] = gani_sum_channels(graph, gan_mul(graph, dy, plain));
    }
}

GAN_API gan_tensor gan_moments(gan_graph *graph, gan_tensor x, gan_norm_kind kind) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = (int)kind;
    return gani_add1(graph, GANI_OP_MOMENTS, x, &attr);
}

GAN_API gan_tensor gan_normalize(gan_graph *graph, gan_tensor x, gan_tensor moments,
                                 gan_tensor scale, gan_tensor shift, gan_norm_kind kind,
                                 float eps) {
    gan_tensor source[4];
    gani_attr attr = gani_attr_zero();
    attr.i[0] = (int)kind;
    attr.f[0] = eps;
    source[0] = x;
    source[1] = moments;
    source[2] = scale;
    source[3] = shift;
    return gani_add_node(graph, GANI_OP_NORMALIZE, source, 4, &attr);
}

/* --- classes and indices ------------------------------------------------- */

static gan_status gani_shape_softmax(gan_graph *graph, gani_node *node) {
    node->shape = gani_source_shape(graph, node, 0);
    return node->shape.rank >= 1 ? GAN_OK
                                 : gani_error(graph->ctx, GAN_ERR_SHAPE, "input has no axis");
}

/* idx [...]; y [...,classes], classes at i[0] */
static gan_status gani_shape_one_hot(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0);
    if (shape.rank >= GAN_MAX_RANK || node->attr.i[0] < 1) {
        const gani_shape_text text = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "indices %s with %d classes (expected rank below %d, 1 class or more)",
                          text.text, node->attr.i[0], GAN_MAX_RANK);
    }
    shape.dim[shape.rank++] = node->attr.i[0];
    node->shape = shape;
    return GAN_OK;
}

/* table [rows,dim], idx [n]; y [n,dim]. The same for scatter: x [n,dim], idx [n]; y [i[0],dim]. */
static gan_status gani_shape_rows(gan_graph *graph, gani_node *node) {
    gan_shape table = gani_source_shape(graph, node, 0), idx = gani_source_shape(graph, node, 1);
    int gather = node->op == GANI_OP_GATHER_ROWS;
    if (table.rank != 2 || idx.rank != 1 || (!gather && idx.dim[0] != table.dim[0])) {
        const gani_shape_text table_text = gani_print_shape(&table);
        const gani_shape_text idx_text = gani_print_shape(&idx);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "indices %s do not fit %s (expected %s)",
                          idx_text.text, table_text.text,
                          gather ? "[n] and [rows,dim]" : "[n] and [n,dim]");
    }
    node->shape = gan_shape2(gather ? idx.dim[0] : node->attr.i[0], table.dim[1]);
    return GAN_OK;
}

/* Sum over the last axis, which keeps extent 1. */
static gan_tensor gani_sum_last(gan_graph *graph, gan_tensor x) {
    int rank = gan_tensor_shape(graph, x).rank;
    return gan_sum(graph, x, rank > 0 ? 1u << (rank - 1) : 0u);
}

/* y = exp(x)/sum exp(x);  dx = y * (dy - sum dy*y) */
static void gani_grad_softmax(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor sum = gani_sum_last(graph, gan_mul(graph, dy, y));
    dsource[0] = gan_mul(graph, y, gan_sub(graph, dy, sum));
}

/* y = x - log sum exp(x);  dx = dy - exp(y) * sum dy */
static void gani_grad_log_softmax(gan_graph *graph, gan_tensor y, gan_tensor dy,
                                  gan_tensor *dsource) {
    gan_tensor sum = gani_sum_last(graph, dy);
    dsource[0] = gan_sub(graph, dy, gan_mul(graph, gan_exp(graph, y), sum));
}

/* Each of the pair is the other's adjoint. */
static void gani_grad_rows(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gan_tensor table = gani_source_of(graph, y, 0), idx = gani_source_of(graph, y, 1);
    if (graph->nodes[y.id].op == GANI_OP_GATHER_ROWS) {
        dsource[0] = gan_scatter_rows(graph, dy, idx, gan_tensor_shape(graph, table).dim[0]);
    } else {
        dsource[0] = gan_gather_rows(graph, dy, idx);
    }
}

GAN_API gan_tensor gan_softmax(gan_graph *graph, gan_tensor x) {
    return gani_add1(graph, GANI_OP_SOFTMAX, x, NULL);
}

GAN_API gan_tensor gan_log_softmax(gan_graph *graph, gan_tensor x) {
    return gani_add1(graph, GANI_OP_LOG_SOFTMAX, x, NULL);
}

GAN_API gan_tensor gan_one_hot(gan_graph *graph, gan_tensor idx, int classes) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = classes;
    return gani_add1(graph, GANI_OP_ONE_HOT, idx, &attr);
}

GAN_API gan_tensor gan_gather_rows(gan_graph *graph, gan_tensor table, gan_tensor idx) {
    return gani_add2(graph, GANI_OP_GATHER_ROWS, table, idx, NULL);
}

GAN_API gan_tensor gan_scatter_rows(gan_graph *graph, gan_tensor x, gan_tensor idx, int rows) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = rows;
    return gani_add2(graph, GANI_OP_SCATTER_ROWS, x, idx, &attr);
}

/* --- random -------------------------------------------------------------- */

/* Attributes: i[0] stream; dropout: i[1] channelwise, f[0] p. */
static gan_status gani_shape_dropout(gan_graph *graph, gani_node *node) {
    float p = node->attr.f[0];
    gan_shape x = gani_source_shape(graph, node, 0);
    if (!(p >= 0.0f && p < 1.0f) || (node->attr.i[1] && x.rank < 2)) {
        const gani_shape_text text = gani_print_shape(&x);
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                          "p = %g on %s (expected 0 <= p < 1; channelwise needs [n,c,...])",
                          (double)p, text.text);
    }
    node->shape = x;
    return GAN_OK;
}

/* y = mask * x;  dx = mask * dy, the same mask drawn again */
static void gani_grad_dropout(gan_graph *graph, gan_tensor y, gan_tensor dy, gan_tensor *dsource) {
    gani_attr attr = graph->nodes[y.id].attr;
    dsource[0] = gani_add1(graph, GANI_OP_DROPOUT, dy, &attr);
}

static gan_tensor gani_noise(gan_graph *graph, int op, gan_shape shape) {
    gani_attr attr = gani_attr_zero();
    gani_attr_set_shape(&attr, &shape);
    attr.i[0] = graph->stream_count++;
    return gani_add_node(graph, op, NULL, 0, &attr);
}

GAN_API gan_tensor gan_dropout(gan_graph *graph, gan_tensor x, float p, int channelwise) {
    gani_attr attr = gani_attr_zero();
    attr.i[0] = graph->stream_count++;
    attr.i[1] = channelwise != 0;
    attr.f[0] = p;
    return gani_add1(graph, GANI_OP_DROPOUT, x, &attr);
}

GAN_API gan_tensor gan_noise_normal(gan_graph *graph, gan_shape shape) {
    return gani_noise(graph, GANI_OP_NOISE_NORMAL, shape);
}

GAN_API gan_tensor gan_noise_uniform(gan_graph *graph, gan_shape shape) {
    return gani_noise(graph, GANI_OP_NOISE_UNIFORM, shape);
}

/* --- effects ------------------------------------------------------------- */

/* Sources of the optimisers: parameter, gradient, learning rate [1 element], up to two states,
 * step count [1 element]. */
enum { GANI_SOURCE_LR = 2, GANI_SOURCE_STATE = 3, GANI_SOURCE_T = 5 };

/* Store index of the parameter that source k is; -1 with the error set if it is none or has not
 * the shape of source 0. */
static int gani_written_param(gan_graph *graph, const gani_node *node, int k) {
    gan_shape first = gani_source_shape(graph, node, 0), shape = gani_source_shape(graph, node, k);
    const gani_node *source = gani_source_node(graph, node, k);
    if (source->op != GANI_OP_PARAM || !gani_shape_equal(&first, &shape)) {
        const gani_shape_text first_text = gani_print_shape(&first);
        const gani_shape_text shape_text = gani_print_shape(&shape);
        gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                   "what is written must be a parameter of shape %s (found a %s of shape %s)",
                   first_text.text, graph->ops[source->op].name, shape_text.text);
        return -1;
    }
    return source->param;
}

/* parameter, value of the same shape */
static gan_status gani_shape_assign(gan_graph *graph, gani_node *node) {
    node->param = gani_written_param(graph, node, 0);
    return node->param < 0 ? GAN_ERR_ARGUMENT : gani_shape_same(graph, node);
}

/* parameter [rows,dim], idx [n], value [n,dim] */
static gan_status gani_shape_assign_rows(gan_graph *graph, gani_node *node) {
    gan_shape table = gani_source_shape(graph, node, 0), idx = gani_source_shape(graph, node, 1);
    gan_shape value = gani_source_shape(graph, node, 2);
    node->param = gani_written_param(graph, node, 0);
    if (node->param < 0) {
        return GAN_ERR_ARGUMENT;
    }
    if (table.rank != 2 || idx.rank != 1 || value.rank != 2 || value.dim[0] != idx.dim[0] ||
        value.dim[1] != table.dim[1]) {
        const gani_shape_text table_text = gani_print_shape(&table);
        const gani_shape_text idx_text = gani_print_shape(&idx);
        const gani_shape_text value_text = gani_print_shape(&value);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "rows %s at %s do not fit %s (expected [n,dim], [n] and [rows,dim])",
                          value_text.text, idx_text.text, table_text.text);
    }
    node->shape = table;
    return GAN_OK;
}

static gan_status gani_shape_optimiser(gan_graph *graph, gani_node *node) {
    gan_shape shape = gani_source_shape(graph, node, 0), grad = gani_source_shape(graph, node, 1);
    node->param = gani_written_param(graph, node, 0);
    if (node->param < 0) {
        return GAN_ERR_ARGUMENT;
    }
    for (int k = 0; k < 2; k++) {
        if (gani_has(graph, node, GANI_SOURCE_STATE + k)) {
            int state = gani_written_param(graph, node, GANI_SOURCE_STATE + k);
            if (state < 0) {
                return GAN_ERR_ARGUMENT;
            }
            node->attr.i[GANI_ATTR_ALSO + k] = state + 1;
        }
    }
    for (int k = GANI_SOURCE_LR; k <= GANI_SOURCE_T; k += GANI_SOURCE_T - GANI_SOURCE_LR) {
        gan_shape scalar = gani_source_shape(graph, node, k);
        if (gani_has(graph, node, k) && gan_shape_count(scalar) != 1) {
            const gani_shape_text text = gani_print_shape(&scalar);
            return gani_error(graph->ctx, GAN_ERR_SHAPE, "%s has shape %s (expected one element)",
                              k == GANI_SOURCE_LR ? "learning rate" : "step count", text.text);
        }
    }
    if (!gani_shape_equal(&shape, &grad)) {
        const gani_shape_text shape_text = gani_print_shape(&shape);
        const gani_shape_text grad_text = gani_print_shape(&grad);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "gradient %s does not fit parameter %s",
                          grad_text.text, shape_text.text);
    }
    node->shape = shape;
    return GAN_OK;
}

GAN_API void gan_assign(gan_graph *graph, gan_tensor param, gan_tensor value) {
    gani_add2(graph, GANI_OP_ASSIGN, param, value, NULL);
}

GAN_API void gan_assign_lerp(gan_graph *graph, gan_tensor param, gan_tensor value, float weight) {
    gani_attr attr = gani_attr_zero();
    attr.f[0] = weight;
    gani_add2(graph, GANI_OP_ASSIGN_LERP, param, value, &attr);
}

GAN_API void gan_assign_rows(gan_graph *graph, gan_tensor param, gan_tensor idx, gan_tensor value) {
    gan_tensor source[3];
    source[0] = param;
    source[1] = idx;
    source[2] = value;
    gani_add_node(graph, GANI_OP_ASSIGN_ROWS, source, 3, NULL);
}

/* g = grad + decay*p;  without momentum p -= lr*g;  with it buffer = momentum*buffer + g and p
 * -= lr*buffer, or, Nesterov's way, p -= lr*(g + momentum*buffer). As PyTorch's SGD; buffer
 * starts at 0, none without momentum. */
static void gani_sgd_op(gan_graph *graph, gan_tensor param, gan_tensor grad, gan_tensor lr,
                        gan_tensor buffer, float momentum, int nesterov, float decay) {
    gan_tensor source[4];
    gani_attr attr = gani_attr_zero();
    attr.i[0] = nesterov != 0;
    attr.f[0] = momentum;
    attr.f[1] = decay;
    source[0] = param;
    source[1] = grad;
    source[GANI_SOURCE_LR] = lr;
    source[GANI_SOURCE_STATE] = buffer;
    gani_add_node(graph, GANI_OP_SGD, source, 4, &attr);
}

/* g = grad + decay*p;  v = alpha*v + (1 - alpha)*g^2;  p -= lr*g/(sqrt(v) + eps). As PyTorch's
 * RMSprop. */
static void gani_rmsprop_op(gan_graph *graph, gan_tensor param, gan_tensor grad, gan_tensor lr,
                            gan_tensor v, float alpha, float eps, float decay) {
    gan_tensor source[4];
    gani_attr attr = gani_attr_zero();
    attr.f[0] = alpha;
    attr.f[1] = eps;
    attr.f[2] = decay;
    source[0] = param;
    source[1] = grad;
    source[GANI_SOURCE_LR] = lr;
    source[GANI_SOURCE_STATE] = v;
    gani_add_node(graph, GANI_OP_RMSPROP, source, 4, &attr);
}

/* g = grad + decay*p;  m = beta1*m + (1 - beta1)*g;  v = beta2*v + (1 - beta2)*g^2; p -= lr/(1 -
 * beta1^t) * m / (sqrt(v)/sqrt(1 - beta2^t) + eps). As PyTorch's Adam (Kingma and Ba 2015,
 * arXiv:1412.6980). t [1 element] counts the steps, this one included; the caller advances it,
 * once for all parameters. */
static void gani_adam_op(gan_graph *graph, gan_tensor param, gan_tensor grad, gan_tensor m,
                         gan_tensor v, gan_tensor t, gan_tensor lr, float beta1, float beta2,
                         float eps, float decay) {
    gan_tensor source[6];
    gani_attr attr = gani_attr_zero();
    attr.f[0] = beta1;
    attr.f[1] = beta2;
    attr.f[2] = eps;
    attr.f[3] = decay;
    source[0] = param;
    source[1] = grad;
    source[GANI_SOURCE_LR] = lr;
    source[GANI_SOURCE_STATE] = m;
    source[GANI_SOURCE_STATE + 1] = v;
    source[GANI_SOURCE_T] = t;
    gani_add_node(graph, GANI_OP_ADAM, source, 6, &attr);
}

/* ============================================================================
 * >>ops-run  5.4  RUNNING EACH OP; THE TABLE
 *
 * A run function cuts its op into tasks for gani_parallel and calls kernels or drivers. How it is
 * cut depends on sizes alone, so that results are the same bits for any number of threads; what is
 * small is one task, on the calling thread.
 *
 * Holds:  run, workspace and counting functions; gani_ops.
 * Uses:   >>platform  >>instances  >>gemm  >>conv  >>nodes  >>ops  >>ops-net
 * Knows nothing of: gradients, planning.
 * ========================================================================= */

/* --- running: blocks of elements ----------------------------------------- */

/* Elements in a task. Tensors of up to two blocks are one task, on the calling thread. */
#define GANI_BLOCK ((size_t)16384)

/* How many items of so many elements make a task. */
static size_t gani_items_per_task(size_t items, size_t elements) {
    if (items <= 1 || items * elements <= 2 * GANI_BLOCK) {
        return items ? items : 1;
    }
    return elements >= GANI_BLOCK ? 1 : GANI_BLOCK / elements;
}

/* Calls run(arg, first, last) for ranges of items that together are [0,items). */
typedef struct gani_range_job {
    void (*run)(void *arg, size_t first, size_t last);
    void *arg;
    size_t items, per_task;
} gani_range_job;

static void gani_run_range(void *arg, int index) {
    const gani_range_job *job = (const gani_range_job *)arg;
    const size_t first = (size_t)index * job->per_task;
    const size_t last = first + job->per_task < job->items ? first + job->per_task : job->items;
    job->run(job->arg, first, last);
}

/* elements: of one item, to make tasks of about GANI_BLOCK. */
static void gani_for_items(gan_context *ctx, size_t items, size_t elements,
                           void (*run)(void *arg, size_t first, size_t last), void *arg) {
    gani_range_job job;
    job.run = run;
    job.arg = arg;
    job.items = items;
    job.per_task = gani_items_per_task(items, elements);
    gani_parallel(ctx, (int)((items + job.per_task - 1) / job.per_task), gani_run_range, &job);
}

/* A walk over the elements of y and, in step, over those of up to two sources, each with a
 * stride along every axis (0 where it is broadcast). Axes that all operands pass as one are
 * joined, so the last axis, a row, is as long as can be. */
typedef struct gani_walk {
    int rank;
    size_t dim[GAN_MAX_RANK];
    size_t stride[3][GAN_MAX_RANK]; /* of y, a, b */
} gani_walk;

/* Strides of a dense tensor of shape `from`, aligned at the last axis of `to` and broadcast to
 * it. */
static void gani_broadcast_strides(gan_shape from, gan_shape to, size_t *stride) {
    size_t step = 1;
    for (int i = to.rank - 1; i >= 0; i--) {
        const int k = i - (to.rank - from.rank);
        const int extent = k >= 0 ? from.dim[k] : 1;
        stride[i] = extent == 1 ? 0 : step;
        step *= (size_t)extent;
    }
}

static gani_walk gani_walk_of(gan_shape shape) {
    gani_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.rank = shape.rank;
    for (int i = 0; i < shape.rank; i++) {
        walk.dim[i] = (size_t)shape.dim[i];
    }
    for (int k = 0; k < 3; k++) {
        gani_broadcast_strides(shape, shape, walk.stride[k]);
    }
    return walk;
}

/* Drops axes of extent 1 and joins neighbours. At least one axis is left. */
static void gani_walk_join(gani_walk *walk) {
    int last = -1;
    for (int i = 0; i < walk->rank; i++) {
        int joins = last >= 0;
        if (walk->dim[i] == 1) {
            continue;
        }
        for (int k = 0; k < 3 && joins; k++) {
            joins = walk->stride[k][last] == walk->stride[k][i] * walk->dim[i];
        }
        last += joins ? 0 : 1;
        walk->dim[last] = walk->dim[i] * (joins ? walk->dim[last] : 1);
        for (int k = 0; k < 3; k++) {
            walk->stride[k][last] = walk->stride[k][i];
        }
    }
    if (last < 0) {
        walk->dim[0] = 1;
        last = 0;
    }
    walk->rank = last + 1;
}

/* Called for each row, or part of one: at[k] is where it starts in operand k, step[k] the stride
 * within it. */
typedef void (*gani_row_function)(void *arg, const size_t *at, const size_t *step, size_t n);

typedef struct gani_walk_job {
    gani_walk walk;
    gani_row_function row;
    void *arg;
    size_t parts; /* of a row */
} gani_walk_job;

/* Items are parts of rows; the first one is found by division, the rest by counting up. */
static void gani_walk_items(void *arg, size_t first, size_t last) {
    const gani_walk_job *job = (const gani_walk_job *)arg;
    const gani_walk *walk = &job->walk;
    const int inner = walk->rank - 1;
    size_t index[GAN_MAX_RANK] = {0}, rest = first / job->parts, part = first % job->parts, step[3];
    for (int i = inner - 1; i >= 0; i--) {
        index[i] = rest % walk->dim[i];
        rest /= walk->dim[i];
    }
    for (int k = 0; k < 3; k++) {
        step[k] = walk->stride[k][inner];
    }
    for (size_t item = first; item < last; item++) {
        const size_t from = part * GANI_BLOCK;
        const size_t left = walk->dim[inner] - from;
        size_t at[3];
        for (int k = 0; k < 3; k++) {
            at[k] = from * step[k];
            for (int i = 0; i < inner; i++) {
                at[k] += index[i] * walk->stride[k][i];
            }
        }
        job->row(job->arg, at, step, job->parts > 1 && left > GANI_BLOCK ? GANI_BLOCK : left);
        if (++part == job->parts) {
            part = 0;
            for (int i = inner - 1; i >= 0 && ++index[i] == walk->dim[i]; i--) {
                index[i] = 0;
            }
        }
    }
}

static void gani_walk_run(gan_context *ctx, const gani_walk *walk, gani_row_function row,
                          void *arg) {
    gani_walk_job job;
    job.walk = *walk;
    job.row = row;
    job.arg = arg;
    gani_walk_join(&job.walk);
    const int inner = job.walk.rank - 1;
    const size_t extent = job.walk.dim[inner];
    size_t rows = 1;
    for (int i = 0; i < inner; i++) {
        rows *= job.walk.dim[i];
    }
    job.parts = extent > 2 * GANI_BLOCK ? (extent + GANI_BLOCK - 1) / GANI_BLOCK : 1;
    gani_for_items(ctx, rows * job.parts, extent / job.parts, gani_walk_items, &job);
}

/* --- running: constants -------------------------------------------------- */

/* y = f[0] */
static gan_status gani_run_constant(gan_context *ctx, const gani_run *run) {
    const size_t count = gan_shape_count(run->node->shape);
    (void)ctx;
    for (size_t i = 0; i < count; i++) {
        run->out[i] = run->node->attr.f[0];
    }
    return GAN_OK;
}

/* y[i] = i */
static gan_status gani_run_iota(gan_context *ctx, const gani_run *run) {
    (void)ctx;
    for (int i = 0; i < run->node->shape.dim[0]; i++) {
        run->out[i] = (float)i;
    }
    return GAN_OK;
}

/* --- running: elementwise ------------------------------------------------ */

/* One elementwise op: kind of gani_kernels.unary or .binary, its numbers, its arrays. */
typedef struct gani_map {
    const gani_kernels *kernels;
    int kind;
    float p, q;
    const float *a, *b;
    float *y;
} gani_map;

static void gani_unary_row(void *arg, const size_t *at, const size_t *step, size_t n) {
    const gani_map *map = (const gani_map *)arg;
    (void)step;
    map->kernels->unary(map->kind, map->a + at[1], map->p, map->q, map->y + at[0], n);
}

static void gani_binary_row(void *arg, const size_t *at, const size_t *step, size_t n) {
    const gani_map *map = (const gani_map *)arg;
    map->kernels->binary(map->kind, map->a + at[1], step[1], map->b + at[2], step[2], map->p,
                         map->y + at[0], n);
}

static gani_map gani_map_of(const gan_context *ctx, const gani_run *run, int kind) {
    gani_map map;
    map.kernels = ctx->kernels;
    map.kind = kind;
    map.p = run->node->attr.f[0];
    map.q = run->node->attr.f[1];
    map.a = run->source[0];
    map.b = run->node->source_count > 1 ? run->source[1] : NULL;
    map.y = run->out;
    return map;
}

/* The kernels' kinds and the ops go in the same order. */
typedef char gani_unary_order[GANI_OP_IN_RANGE - GANI_OP_AFFINE == GANI_UNARY_IN_RANGE ? 1 : -1];
typedef char
    gani_binary_order[GANI_OP_PRELU_SLOPE - GANI_OP_ADD == GANI_BINARY_PRELU_SLOPE ? 1 : -1];

static gan_status gani_run_unary(gan_context *ctx, const gani_run *run) {
    gani_map map = gani_map_of(ctx, run, run->node->op - GANI_OP_AFFINE);
    const gani_walk walk = gani_walk_of(run->node->shape);
    gani_walk_run(ctx, &walk, gani_unary_row, &map);
    return GAN_OK;
}

static gan_status gani_run_binary(gan_context *ctx, const gani_run *run) {
    const gan_shape shape = run->node->shape;
    gani_map map = gani_map_of(ctx, run, run->node->op - GANI_OP_ADD);
    gani_walk walk = gani_walk_of(shape);
    gani_broadcast_strides(run->source_shape[0], shape, walk.stride[1]);
    if (map.kind == GANI_BINARY_PRELU || map.kind == GANI_BINARY_PRELU_SLOPE) {
        memset(walk.stride[2], 0, sizeof walk.stride[2]); /* slope [c] goes along axis 1 */
        walk.stride[2][1] = run->source_shape[1].dim[0] > 1 ? 1 : 0;
    } else {
        gani_broadcast_strides(run->source_shape[1], shape, walk.stride[2]);
    }
    gani_walk_run(ctx, &walk, gani_binary_row, &map);
    return GAN_OK;
}

/* y = act(x), or z = g * act'(y) */
static gan_status gani_run_act(gan_context *ctx, const gani_run *run) {
    const int grad = run->node->op == GANI_OP_ACT_GRAD;
    const int act = run->node->attr.i[GANI_ATTR_ACT] - GAN_ACT_LEAKY_RELU;
    gani_map map =
        gani_map_of(ctx, run, act + (grad ? (int)GANI_BINARY_LEAKY_GRAD : (int)GANI_UNARY_LEAKY));
    const gani_walk walk = gani_walk_of(run->node->shape);
    map.p = run->node->attr.f[GANI_ATTR_SLOPE];
    gani_walk_run(ctx, &walk, grad ? gani_binary_row : gani_unary_row, &map);
    return GAN_OK;
}

/* --- running: reductions ------------------------------------------------- */

#define GANI_SUM_LENGTH ((size_t)65536) /* longer rows are summed in parts of so many elements */

/* A shape whose neighbouring axes are joined where both are reduced, or both kept. */
typedef struct gani_runs {
    int count;
    size_t extent[GAN_MAX_RANK];
    int reduced[GAN_MAX_RANK];
} gani_runs;

static gani_runs gani_runs_of(gan_shape shape, unsigned axes) {
    gani_runs runs;
    memset(&runs, 0, sizeof runs);
    for (int i = 0; i < shape.rank; i++) {
        const int reduced = (int)(axes >> i & 1u);
        if (shape.dim[i] == 1) {
            continue;
        }
        if (runs.count == 0 || runs.reduced[runs.count - 1] != reduced) {
            runs.extent[runs.count] = 1;
            runs.reduced[runs.count++] = reduced;
        }
        runs.extent[runs.count - 1] *= (size_t)shape.dim[i];
    }
    return runs;
}

/* x [outer,count,inner]; y [outer,inner]: sums over the middle axis. Items are, with inner 1,
 * parts of rows, of which each gives one element of y; else stripes of columns. */
typedef struct gani_sum_job {
    const gani_kernels *kernels;
    const float *x;
    float *y;
    size_t count, inner, stripe, stripes;
} gani_sum_job;

static void gani_sum_items(void *arg, size_t first, size_t last) {
    const gani_sum_job *job = (const gani_sum_job *)arg;
    for (size_t item = first; item < last; item++) {
        const size_t outer = item / job->stripes, at = item % job->stripes * job->stripe;
        const size_t extent = job->inner == 1 ? job->count : job->inner;
        const size_t n = extent - at < job->stripe ? extent - at : job->stripe;
        const float *x = job->x + outer * job->count * job->inner + at;
        if (job->inner == 1) {
            job->y[item] = (float)job->kernels->sum(x, n);
        } else {
            job->kernels->columns(GANI_COLUMNS_SUM, x, NULL, NULL, job->count, job->inner, n,
                                  job->y + outer * job->inner + at);
        }
    }
}

/* parts [outer*ceil(count/GANI_SUM_LENGTH)]: scratch where rows are long. */
static void gani_sum_middle(gan_context *ctx, const float *x, size_t outer, size_t count,
                            size_t inner, float *parts, float *y) {
    gani_sum_job job;
    const size_t extent = inner == 1 ? count : inner;
    job.kernels = ctx->kernels;
    job.x = x;
    job.y = inner == 1 && count > GANI_SUM_LENGTH ? parts : y;
    job.count = count;
    job.inner = inner;
    job.stripe = inner == 1 ? GANI_SUM_LENGTH : gani_round_up(GANI_BLOCK / count + 1, 64);
    job.stripe = job.stripe < extent ? job.stripe : extent;
    job.stripes = (extent + job.stripe - 1) / job.stripe;
    gani_for_items(ctx, outer * job.stripes, job.stripe * (inner == 1 ? 1 : count), gani_sum_items,
                   &job);
    if (job.y != y) {
        gani_sum_middle(ctx, parts, outer, job.stripes, 1, NULL, y);
    }
}

/* Floats of scratch: the sums after the first and the second pass, unless those are the last,
 * and parts of long rows. */
static void gani_sum_scratch(const gani_runs *runs, size_t floats[3]) {
    size_t total = 1;
    int passes = 0;
    memset(floats, 0, 3 * sizeof floats[0]);
    for (int i = 0; i < runs->count; i++) {
        total *= runs->extent[i];
        passes += runs->reduced[i];
    }
    for (int i = runs->count - 1, pass = 0; i >= 0; i--) {
        if (runs->reduced[i]) {
            if (i == runs->count - 1 && runs->extent[i] > GANI_SUM_LENGTH) {
                floats[2] = total / runs->extent[i] * (runs->extent[i] / GANI_SUM_LENGTH + 1);
            }
            total /= runs->extent[i];
            if (++pass < passes && pass <= 2) {
                floats[pass - 1] = total;
            }
        }
    }
}

static size_t gani_workspace_sum(gan_context *ctx, const gani_node *node,
                                 const gan_shape *source_shape) {
    size_t floats[3];
    const gani_runs runs = gani_runs_of(source_shape[0], (unsigned)node->attr.i[0]);
    (void)ctx;
    gani_sum_scratch(&runs, floats);
    return (floats[0] + floats[1] + floats[2]) * sizeof(float);
}

/* One pass for each run of reduced axes, from the last one, so that the first pass reads rows. */
static gan_status gani_run_sum(gan_context *ctx, const gani_run *run) {
    size_t floats[3], outer = 1, inner = 1;
    const gani_runs runs = gani_runs_of(run->source_shape[0], (unsigned)run->node->attr.i[0]);
    gani_sum_scratch(&runs, floats);
    float *scratch =
        (float *)gani_workspace(ctx, (floats[0] + floats[1] + floats[2]) * sizeof(float));
    if (!scratch) {
        return GAN_ERR_MEMORY;
    }
    int left = 0, pass = 0;
    for (int i = 0; i < runs.count; i++) {
        outer *= runs.extent[i];
        left += runs.reduced[i];
    }
    if (left == 0) {
        memcpy(run->out, run->source[0], outer * sizeof(float));
    }
    const float *x = run->source[0];
    for (int i = runs.count - 1; i >= 0; i--) {
        outer /= runs.extent[i];
        if (!runs.reduced[i]) {
            inner *= runs.extent[i];
            continue;
        }
        float *y = --left == 0 ? run->out : scratch + (pass++ % 2 ? floats[0] : 0);
        gani_sum_middle(ctx, x, outer, runs.extent[i], inner, scratch + floats[0] + floats[1], y);
        x = y;
    }
    return GAN_OK;
}

/* Largest element and, unless first is NULL, the place of the first such one, in each group of x
 * [shape] that is reduced to one of best [y's count]. A NaN is larger than anything. */
static void gani_find_max(const float *x, gan_shape shape, unsigned axes, float *best,
                          size_t *first) {
    gan_shape y = shape;
    size_t stride[GAN_MAX_RANK] = {0}, index[GAN_MAX_RANK] = {0};
    for (int i = 0; i < shape.rank; i++) {
        y.dim[i] = axes >> i & 1u ? 1 : shape.dim[i];
    }
    gani_broadcast_strides(y, shape, stride);
    const size_t count = gan_shape_count(shape), groups = gan_shape_count(y);
    for (size_t j = 0; j < groups; j++) {
        best[j] = -HUGE_VALF;
        if (first) {
            first[j] = count;
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t j = 0;
        for (int k = 0; k < shape.rank; k++) {
            j += index[k] * stride[k];
        }
        if (x[i] > best[j] || (x[i] != x[i] && best[j] == best[j]) ||
            (first && first[j] == count)) {
            best[j] = x[i];
            if (first) {
                first[j] = i;
            }
        }
        for (int k = shape.rank - 1; k >= 0 && ++index[k] == (size_t)shape.dim[k]; k--) {
            index[k] = 0;
        }
    }
}

/* y = max of x over axes */
static gan_status gani_run_max_over(gan_context *ctx, const gani_run *run) {
    (void)ctx;
    gani_find_max(run->source[0], run->source_shape[0], (unsigned)run->node->attr.i[0], run->out,
                  NULL);
    return GAN_OK;
}

static size_t gani_workspace_max_mask(gan_context *ctx, const gani_node *node,
                                      const gan_shape *source_shape) {
    size_t groups = 1;
    (void)ctx;
    for (int i = 0; i < source_shape[0].rank; i++) {
        groups *= (unsigned)node->attr.i[0] >> i & 1u ? 1 : (size_t)source_shape[0].dim[i];
    }
    return groups * (sizeof(size_t) + sizeof(float));
}

/* y = 1 at the first maximum of x over axes, else 0 */
static gan_status gani_run_max_mask(gan_context *ctx, const gani_run *run) {
    const size_t bytes = gani_workspace_max_mask(ctx, run->node, run->source_shape);
    const size_t groups = bytes / (sizeof(size_t) + sizeof(float));
    size_t *first = (size_t *)gani_workspace(ctx, bytes);
    if (!first) {
        return GAN_ERR_MEMORY;
    }
    gani_find_max(run->source[0], run->source_shape[0], (unsigned)run->node->attr.i[0],
                  (float *)(void *)(first + groups), first);
    memset(run->out, 0, gan_shape_count(run->node->shape) * sizeof(float));
    for (size_t j = 0; j < groups; j++) {
        run->out[first[j]] = 1.0f;
    }
    return GAN_OK;
}

/* --- running: moving elements -------------------------------------------- */

typedef struct gani_copy {
    const float *x;
    float *y;
} gani_copy;

static void gani_copy_row(void *arg, const size_t *at, const size_t *step, size_t n) {
    const gani_copy *copy = (const gani_copy *)arg;
    const float *x = copy->x + at[1];
    float *y = copy->y + at[0];
    if (step[0] == 1 && step[1] == 1) {
        memcpy(y, x, n * sizeof *y);
    } else { /* y's step is not 1 where a block is one element wide */
        for (size_t i = 0; i < n; i++) {
            y[i * step[0]] = x[i * step[1]];
        }
    }
}

/* y = x where `walk` goes, with operand a the source. */
static void gani_copy_walk(gan_context *ctx, gani_walk *walk, const float *x, float *y) {
    gani_copy copy;
    copy.x = x;
    copy.y = y;
    memcpy(walk->stride[2], walk->stride[1],
           sizeof walk->stride[2]); /* not used: joins as a does */
    gani_walk_run(ctx, walk, gani_copy_row, &copy);
}

static gan_status gani_run_broadcast(gan_context *ctx, const gani_run *run) {
    gani_walk walk = gani_walk_of(run->node->shape);
    gani_broadcast_strides(run->source_shape[0], run->node->shape, walk.stride[1]);
    gani_copy_walk(ctx, &walk, run->source[0], run->out);
    return GAN_OK;
}

static gan_status gani_run_permute(gan_context *ctx, const gani_run *run) {
    const gan_shape x = run->source_shape[0];
    size_t stride[GAN_MAX_RANK] = {0};
    gani_walk walk = gani_walk_of(run->node->shape);
    gani_broadcast_strides(x, x, stride);
    for (int i = 0; i < x.rank; i++) {
        walk.stride[1][i] = stride[run->node->attr.i[i]];
    }
    gani_copy_walk(ctx, &walk, run->source[0], run->out);
    return GAN_OK;
}

/* Copies a block [outer,rows,inner] between arrays in which an outer step is y_step, x_step
 * elements. */
static void gani_copy_block(gan_context *ctx, const float *x, size_t x_step, float *y,
                            size_t y_step, size_t outer, size_t length) {
    gani_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.rank = 2;
    walk.dim[0] = outer;
    walk.dim[1] = length;
    walk.stride[0][0] = y_step;
    walk.stride[1][0] = x_step;
    walk.stride[0][1] = walk.stride[1][1] = 1;
    gani_copy_walk(ctx, &walk, x, y);
}

/* y = sources one after the other along axis i[0] */
static gan_status gani_run_concat(gan_context *ctx, const gani_run *run) {
    const gan_shape y = run->node->shape;
    const int axis = run->node->attr.i[0];
    const size_t outer = gani_extent(y, 0, axis), y_step = gani_extent(y, axis, y.rank);
    float *out = run->out;
    for (int k = 0; k < run->node->source_count; k++) {
        const size_t length = gani_extent(run->source_shape[k], axis, y.rank);
        gani_copy_block(ctx, run->source[k], length, out, y_step, outer, length);
        out += length;
    }
    return GAN_OK;
}

/* y = elements i[1] ... i[1]+i[2]-1 of x along axis i[0] */
static gan_status gani_run_slice(gan_context *ctx, const gani_run *run) {
    const gan_shape x = run->source_shape[0], y = run->node->shape;
    const int axis = run->node->attr.i[0];
    const size_t inner = gani_extent(x, axis + 1, x.rank);
    const size_t length = gani_extent(y, axis, y.rank);
    gani_copy_block(ctx, run->source[0] + (size_t)run->node->attr.i[1] * inner,
                    gani_extent(x, axis, x.rank), run->out, length, gani_extent(x, 0, axis),
                    length);
    return GAN_OK;
}

/* y = x with i[1] zeros before and i[2] behind along axis i[0] */
static gan_status gani_run_pad(gan_context *ctx, const gani_run *run) {
    const gan_shape x = run->source_shape[0], y = run->node->shape;
    const int axis = run->node->attr.i[0];
    const size_t inner = gani_extent(x, axis + 1, x.rank);
    const size_t length = gani_extent(x, axis, x.rank), y_step = gani_extent(y, axis, y.rank);
    memset(run->out, 0, gan_shape_count(y) * sizeof(float));
    gani_copy_block(ctx, run->source[0], length, run->out + (size_t)run->node->attr.i[1] * inner,
                    y_step, gani_extent(x, 0, axis), length);
    return GAN_OK;
}

/* Mirror image of i, which is up to n-1 outside of [0,n). */
static int gani_reflect(int i, int n) {
    return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
}

/* Planes small [h,w] and large [h + 2*pad_h, w + 2*pad_w]: large = small reflected, or small =
 * large folded back, adding. */
typedef struct gani_reflect_job {
    const float *x;
    float *y;
    int h, w, pad_h, pad_w, adjoint;
} gani_reflect_job;

static void gani_reflect_planes(void *arg, size_t first, size_t last) {
    const gani_reflect_job *job = (const gani_reflect_job *)arg;
    const int h = job->h, w = job->w, lh = h + 2 * job->pad_h, lw = w + 2 * job->pad_w;
    const size_t small_size = (size_t)h * (size_t)w, large_size = (size_t)lh * (size_t)lw;
    for (size_t plane = first; plane < last; plane++) {
        const float *x = job->x + plane * (job->adjoint ? large_size : small_size);
        float *y = job->y + plane * (job->adjoint ? small_size : large_size);
        if (job->adjoint) {
            memset(y, 0, small_size * sizeof *y);
        }
        for (int i = 0; i < lh; i++) {
            const size_t row = (size_t)gani_reflect(i - job->pad_h, h) * (size_t)w;
            for (int j = 0; j < lw; j++) {
                const size_t near = row + (size_t)gani_reflect(j - job->pad_w, w);
                const size_t far = (size_t)i * (size_t)lw + (size_t)j;
                if (job->adjoint) {
                    y[near] += x[far];
                } else {
                    y[far] = x[near];
                }
            }
        }
    }
}

static gan_status gani_run_pad_reflect(gan_context *ctx, const gani_run *run) {
    gani_reflect_job job;
    job.adjoint = run->node->op == GANI_OP_PAD_REFLECT_ADJOINT;
    const gan_shape small_shape = job.adjoint ? run->node->shape : run->source_shape[0];
    const int r = small_shape.rank;
    job.x = run->source[0];
    job.y = run->out;
    job.h = small_shape.dim[r - 2];
    job.w = small_shape.dim[r - 1];
    job.pad_h = run->node->attr.i[0];
    job.pad_w = run->node->attr.i[1];
    gani_for_items(ctx, gani_extent(small_shape, 0, r - 2), (size_t)job.h * (size_t)job.w,
                   gani_reflect_planes, &job);
    return GAN_OK;
}

/* --- running: matrix products -------------------------------------------- */

static gani_gemm gani_gemm_zero(void) {
    gani_gemm gemm;
    memset(&gemm, 0, sizeof gemm);
    gemm.alpha = 1.0f;
    return gemm;
}

/* The product of the last two axes of a and b, transposed or not. */
static gani_gemm gani_gemm_of(const gani_node *node, gan_shape a, gan_shape b) {
    gani_gemm gemm = gani_gemm_zero();
    const int r = a.rank, ta = node->attr.i[0], tb = node->attr.i[1];
    const ptrdiff_t a_cols = a.dim[r - 1], b_cols = b.dim[r - 1];
    gemm.m = node->shape.dim[r - 2];
    gemm.n = node->shape.dim[r - 1];
    gemm.k = a.dim[ta ? r - 2 : r - 1];
    gemm.a_row = ta ? 1 : a_cols;
    gemm.a_col = ta ? a_cols : 1;
    gemm.b_row = tb ? 1 : b_cols;
    gemm.b_col = tb ? b_cols : 1;
    gemm.c_row = gemm.n;
    return gemm;
}

static size_t gani_workspace_matmul(gan_context *ctx, const gani_node *node,
                                    const gan_shape *source_shape) {
    const gani_gemm gemm = gani_gemm_of(node, source_shape[0], source_shape[1]);
    return gani_gemm_workspace(ctx, gemm.m, gemm.n, gemm.k);
}

static double gani_madds_matmul(const gani_node *node, const gan_shape *source_shape) {
    const gani_gemm gemm = gani_gemm_of(node, source_shape[0], source_shape[1]);
    return (double)gan_shape_count(node->shape) * gemm.k;
}

static gan_status gani_run_matmul(gan_context *ctx, const gani_run *run) {
    const gan_shape a = run->source_shape[0], b = run->source_shape[1];
    const int r = a.rank;
    gani_gemm gemm = gani_gemm_of(run->node, a, b);
    const size_t batch = gani_extent(a, 0, r - 2);
    gan_status status = GAN_OK;
    for (size_t i = 0; i < batch && status == GAN_OK; i++) {
        gemm.a = run->source[0] + i * gani_extent(a, r - 2, r);
        gemm.b = run->source[1] + i * gani_extent(b, r - 2, r);
        gemm.c = run->out + i * gani_extent(run->node->shape, r - 2, r);
        status = gani_gemm_run(ctx, &gemm);
    }
    return status;
}

/* An activation fused into node. */
static gani_act gani_node_act(const gani_node *node) {
    gani_act act;
    act.kind = node->attr.i[GANI_ATTR_ACT];
    act.slope = node->attr.f[GANI_ATTR_SLOPE];
    return act;
}

/* y [n,out] = act(x [n,in] w' + bias), w [out,in] */
static gani_gemm gani_linear_gemm(const gani_node *node, const gan_shape *source_shape) {
    gani_gemm gemm = gani_gemm_zero();
    gemm.m = node->shape.dim[0];
    gemm.n = node->shape.dim[1];
    gemm.k = source_shape[0].dim[1];
    gemm.a_row = gemm.k;
    gemm.a_col = 1;
    gemm.b_row = 1;
    gemm.b_col = gemm.k;
    gemm.c_row = gemm.n;
    gemm.act = gani_node_act(node);
    return gemm;
}

static size_t gani_workspace_linear(gan_context *ctx, const gani_node *node,
                                    const gan_shape *source_shape) {
    const gani_gemm gemm = gani_linear_gemm(node, source_shape);
    return gani_gemm_workspace(ctx, gemm.m, gemm.n, gemm.k);
}

static double gani_madds_linear(const gani_node *node, const gan_shape *source_shape) {
    return (double)gan_shape_count(node->shape) * source_shape[0].dim[1];
}

static gan_status gani_run_linear(gan_context *ctx, const gani_run *run) {
    gani_gemm gemm = gani_linear_gemm(run->node, run->source_shape);
    gemm.a = run->source[0];
    gemm.b = run->source[1];
    gemm.c = run->out;
    gemm.bias_col = run->source[2];
    return gani_gemm_run(ctx, &gemm);
}

/* --- running: convolutions ----------------------------------------------- */

/* Sizes of y = conv(x, w), whichever of the three the node is. */
static gani_conv gani_conv_of(const gani_node *node, const gan_shape *source_shape) {
    const int *a = node->attr.i;
    const gan_shape *x = &source_shape[0], *w = &source_shape[1], *y = &node->shape;
    if (node->op == GANI_OP_CONV_TRANSPOSE) {
        x = &node->shape;
        y = &source_shape[0];
    } else if (node->op == GANI_OP_CONV_WEIGHT_GRAD) {
        w = &node->shape;
        y = &source_shape[1];
    }
    gani_conv conv;
    conv.n = x->dim[0];
    conv.c = x->dim[1];
    conv.h = x->dim[2];
    conv.w = x->dim[3];
    conv.o = y->dim[1];
    conv.kh = w->dim[2];
    conv.kw = w->dim[3];
    conv.oh = y->dim[2];
    conv.ow = y->dim[3];
    conv.stride_h = a[GANI_CONV_STRIDE];
    conv.stride_w = a[GANI_CONV_STRIDE + 1];
    conv.pad_h = a[GANI_CONV_PAD];
    conv.pad_w = a[GANI_CONV_PAD + 1];
    conv.dilation_h = a[GANI_CONV_DILATION];
    conv.dilation_w = a[GANI_CONV_DILATION + 1];
    conv.groups = a[GANI_CONV_GROUPS];
    conv.reflect = a[GANI_CONV_REFLECT];
    return conv;
}

static size_t gani_workspace_conv(gan_context *ctx, const gani_node *node,
                                  const gan_shape *source_shape) {
    const gani_conv conv = gani_conv_of(node, source_shape);
    return gani_conv_workspace(ctx, &conv, node->op - GANI_OP_CONV);
}

static double gani_madds_conv(const gani_node *node, const gan_shape *source_shape) {
    const gani_conv conv = gani_conv_of(node, source_shape);
    return (double)conv.n * conv.oh * conv.ow * conv.o * (conv.c / conv.groups) * conv.kh * conv.kw;
}

static gan_status gani_run_conv(gan_context *ctx, const gani_run *run) {
    const gani_conv conv = gani_conv_of(run->node, run->source_shape);
    const float *bias = run->node->source_count > 2 ? run->source[2] : NULL;
    if (run->node->op == GANI_OP_CONV_WEIGHT_GRAD) {
        return gani_conv_weight_grad(ctx, &conv, run->source[0], run->source[1], run->out);
    }
    if (run->node->op == GANI_OP_CONV_TRANSPOSE) {
        return gani_conv_input_grad(ctx, &conv, run->source[0], run->source[1], bias,
                                    gani_node_act(run->node), run->out);
    }
    return gani_conv_forward(ctx, &conv, run->source[0], run->source[1], bias,
                             gani_node_act(run->node), run->out);
}

/* --- running: pooling and upsampling ------------------------------------- */

/* Planes x [h,w] and y [oh,ow]. Forward: y from x; adjoint: x from y. */
typedef struct gani_pool_job {
    const float *source, *key; /* key: max_pool only, planes [h,w] */
    float *out;
    int h, w, oh, ow, kernel, stride, pad, count_pad, adjoint;
    float factor;
} gani_pool_job;

/* The part of window i, along an axis of n elements, that lies within them: [*first, *last). */
static void gani_window(const gani_pool_job *job, int i, int n, int *first, int *last) {
    const int start = i * job->stride - job->pad;
    *first = start < 0 ? 0 : start;
    *last = start + job->kernel < n ? start + job->kernel : n;
}

/* One window: rows [i0,i1), columns [j0,j1) of plane x. */
static float gani_window_sum(const float *x, int w, int i0, int i1, int j0, int j1) {
    float sum = 0.0f;
    for (int i = i0; i < i1; i++) {
        for (int j = j0; j < j1; j++) {
            sum += x[(size_t)i * (size_t)w + (size_t)j];
        }
    }
    return sum;
}

static void gani_window_add(float *x, int w, int i0, int i1, int j0, int j1, float value) {
    for (int i = i0; i < i1; i++) {
        for (int j = j0; j < j1; j++) {
            x[(size_t)i * (size_t)w + (size_t)j] += value;
        }
    }
}

/* Place of the first largest element; NaN is larger than anything. */
static size_t gani_window_max(const float *key, int w, int i0, int i1, int j0, int j1) {
    size_t best = (size_t)i0 * (size_t)w + (size_t)j0;
    for (int i = i0; i < i1; i++) {
        for (int j = j0; j < j1; j++) {
            const size_t at = (size_t)i * (size_t)w + (size_t)j;
            if (key[at] > key[best] || (key[at] != key[at] && key[best] == key[best])) {
                best = at;
            }
        }
    }
    return best;
}

static void gani_pool_planes(void *arg, size_t first, size_t last) {
    const gani_pool_job *job = (const gani_pool_job *)arg;
    const size_t large = (size_t)job->h * (size_t)job->w,
                 pooled = (size_t)job->oh * (size_t)job->ow;
    for (size_t plane = first; plane < last; plane++) {
        const float *source = job->source + plane * (job->adjoint ? pooled : large);
        const float *key = job->key ? job->key + plane * large : NULL;
        float *out = job->out + plane * (job->adjoint ? large : pooled);
        if (job->adjoint) {
            memset(out, 0, large * sizeof *out);
        }
        for (int i = 0; i < job->oh; i++) {
            int i0, i1, j0, j1;
            gani_window(job, i, job->h, &i0, &i1);
            for (int j = 0; j < job->ow; j++) {
                const size_t at = (size_t)i * (size_t)job->ow + (size_t)j;
                gani_window(job, j, job->w, &j0, &j1);
                const int count =
                    job->count_pad ? job->kernel * job->kernel : (i1 - i0) * (j1 - j0);
                const float scale = job->factor / (float)count;
                if (key && job->adjoint) {
                    out[gani_window_max(key, job->w, i0, i1, j0, j1)] += source[at];
                } else if (key) {
                    out[at] = source[gani_window_max(key, job->w, i0, i1, j0, j1)];
                } else if (job->adjoint) {
                    gani_window_add(out, job->w, i0, i1, j0, j1, scale * source[at]);
                } else {
                    out[at] = scale * gani_window_sum(source, job->w, i0, i1, j0, j1);
                }
            }
        }
    }
}

/* x [n,c,h,w], y [n,c,oh,ow], one of them the result */
static gani_pool_job gani_pool_of(const gani_run *run, int adjoint) {
    const int *a = run->node->attr.i;
    const gan_shape x = adjoint ? run->node->shape : run->source_shape[0];
    const gan_shape y = adjoint ? run->source_shape[0] : run->node->shape;
    gani_pool_job job;
    job.source = run->source[0];
    job.key = NULL;
    job.out = run->out;
    job.h = x.dim[2];
    job.w = x.dim[3];
    job.oh = y.dim[2];
    job.ow = y.dim[3];
    job.kernel = a[GANI_POOL_KERNEL];
    job.stride = a[GANI_POOL_STRIDE];
    job.pad = a[GANI_POOL_PAD];
    job.count_pad = a[GANI_POOL_COUNT_PAD];
    job.adjoint = adjoint;
    job.factor = run->node->attr.f[0];
    return job;
}

static gan_status gani_run_pool(gan_context *ctx, const gani_run *run) {
    const int op = run->node->op;
    const int adjoint = op == GANI_OP_AVG_POOL_ADJOINT || op == GANI_OP_MAX_POOL_ADJOINT;
    gani_pool_job job = gani_pool_of(run, adjoint);
    if (op == GANI_OP_MAX_POOL || op == GANI_OP_MAX_POOL_ADJOINT) {
        job.key = run->source[1];
    }
    gani_for_items(ctx, gani_extent(run->node->shape, 0, 2), (size_t)job.h * (size_t)job.w,
                   gani_pool_planes, &job);
    return GAN_OK;
}

typedef struct gani_upsample_job {
    const float *x;
    float *y;
    size_t w, factor;
} gani_upsample_job;

/* Row r of x, of all planes, becomes `factor` rows of y. */
static void gani_upsample_rows(void *arg, size_t first, size_t last) {
    const gani_upsample_job *job = (const gani_upsample_job *)arg;
    const size_t f = job->factor, width = job->w * f;
    for (size_t r = first; r < last; r++) {
        const float *x = job->x + r * job->w;
        float *y = job->y + r * f * width;
        for (size_t j = 0; j < job->w; j++) {
            for (size_t k = 0; k < f; k++) {
                y[j * f + k] = x[j];
            }
        }
        for (size_t k = 1; k < f; k++) {
            memcpy(y + k * width, y, width * sizeof *y);
        }
    }
}

static gan_status gani_run_upsample(gan_context *ctx, const gani_run *run) {
    const gan_shape x = run->source_shape[0];
    gani_upsample_job job;
    job.x = run->source[0];
    job.y = run->out;
    job.w = (size_t)x.dim[3];
    job.factor = (size_t)run->node->attr.i[0];
    gani_for_items(ctx, gani_extent(x, 0, 3), job.w * job.factor * job.factor, gani_upsample_rows,
                   &job);
    return GAN_OK;
}

/* --- running: normalisation ---------------------------------------------- */

/* x [n,c,size]: planes of `size` elements, plane p = sample*c + channel. The three kinds differ
 * in which planes make a group. With size 1 and a group for each channel, groups are columns of
 * a matrix [n,c]; planes then would be too short to loop over. */
typedef struct gani_norm_job {
    const gani_kernels *kernels;
    const float *x, *g, *moments, *sums, *scale, *shift;
    float *y, *coefficients; /* coefficients: scratch of the columns' way, [3,c] */
    size_t n, c, size, groups, count; /* count: elements in a group */
    int kind, by_channel, columns;
    float eps;
    gani_act act;
    /* moments, norm_sums: each of `results` takes `repeats` runs of `length`, a sample apart */
    size_t results, length, repeats, chunk;
} gani_norm_job;

/* x has the shape of source k. */
static gani_norm_job gani_norm_job_of(const gan_context *ctx, const gani_run *run, int k) {
    const gan_shape x = run->source_shape[k];
    gani_norm_job job;
    memset(&job, 0, sizeof job);
    job.kernels = ctx->kernels;
    job.x = run->source[k];
    job.y = run->out;
    job.n = (size_t)x.dim[0];
    job.c = (size_t)x.dim[1];
    job.size = gani_extent(x, 2, x.rank);
    job.kind = run->node->attr.i[0];
    job.groups = (size_t)gani_norm_groups(x, job.kind);
    job.count = job.n * job.c * job.size / job.groups;
    job.by_channel = run->node->attr.i[1];
    job.columns = job.kind == GAN_NORM_BATCH && job.size == 1;
    job.eps = run->node->attr.f[0];
    job.act = gani_node_act(run->node);
    return job;
}

static size_t gani_workspace_norm(gan_context *ctx, const gani_node *node,
                                  const gan_shape *source_shape) {
    (void)ctx;
    (void)node;
    return 3 * (size_t)source_shape[0].dim[1] *
           sizeof(float); /* sources 0 and 1 have the shape of x */
}

static size_t gani_plane_group(const gani_norm_job *job, size_t plane) {
    return job->kind == GAN_NORM_BATCH   ? plane % job->c
           : job->kind == GAN_NORM_LAYER ? plane / job->c
                                         : plane;
}

static float gani_group_rstd(const gani_norm_job *job, size_t group) {
    return 1.0f / sqrtf(job->moments[job->groups + group] + job->eps);
}

/* Results of moments and norm_sums that are made together: neighbours in memory, so that it is read
 * in pieces of a few thousand elements. */
#define GANI_NORM_CHUNK ((size_t)8)

static size_t gani_norm_chunk(const gani_norm_job *job) {
    const size_t chunk = 4096 / job->length;
    return job->columns || chunk < 1 ? 1 : chunk < GANI_NORM_CHUNK ? chunk : GANI_NORM_CHUNK;
}

/* Calls run for all results; its items are chunks, or columns. */
static void gani_for_norm_items(gan_context *ctx, size_t results, gani_norm_job *job,
                                void (*run)(void *arg, size_t first, size_t last)) {
    const int planes_of_sample = job->kind != GAN_NORM_LAYER || job->by_channel;
    job->results = results;
    job->length = planes_of_sample ? job->size : job->c * job->size;
    job->repeats = job->n * job->c * job->size / (results * job->length);
    job->chunk = gani_norm_chunk(job);
    gani_for_items(ctx, (results + job->chunk - 1) / job->chunk,
                   job->chunk * job->repeats * job->length, run, job);
}

static void gani_moments_columns(const gani_norm_job *job, size_t first, size_t count) {
    const float *x = job->x + first, scale = 1.0f / (float)job->n;
    float *mean = job->y + first, *var = mean + job->groups;
    job->kernels->columns(GANI_COLUMNS_SUM, x, NULL, NULL, job->n, job->c, count, mean);
    job->kernels->unary(GANI_UNARY_AFFINE, mean, scale, 0.0f, mean, count);
    job->kernels->columns(GANI_COLUMNS_SQUARES, NULL, x, mean, job->n, job->c, count, var);
    job->kernels->unary(GANI_UNARY_AFFINE, var, scale, 0.0f, var, count);
}

static void gani_moments_items(void *arg, size_t first, size_t last) {
    const gani_norm_job *job = (const gani_norm_job *)arg;
    if (job->columns) {
        gani_moments_columns(job, first, last - first);
        return;
    }
    for (size_t item = first; item < last; item++) {
        double moments[GANI_NORM_CHUNK][3];
        const size_t from = item * job->chunk, left = job->results - from;
        const size_t count = left < job->chunk ? left : job->chunk;
        memset(moments, 0, sizeof moments);
        for (size_t repeat = 0; repeat < job->repeats; repeat++) {
            const float *x = job->x + repeat * job->c * job->size + from * job->length;
            for (size_t k = 0; k < count; k++) {
                job->kernels->moments(x + k * job->length, job->length, moments[k]);
            }
        }
        for (size_t k = 0; k < count; k++) {
            job->y[from + k] = (float)moments[k][1];
            job->y[job->groups + from + k] = (float)(moments[k][2] / moments[k][0]);
        }
    }
}

static gan_status gani_run_moments(gan_context *ctx, const gani_run *run) {
    gani_norm_job job = gani_norm_job_of(ctx, run, 0);
    gani_for_norm_items(ctx, job.groups, &job, gani_moments_items);
    return GAN_OK;
}

/* Items: planes, or rows of the matrix. */
static void gani_normalize_items(void *arg, size_t first, size_t last) {
    const gani_norm_job *job = (const gani_norm_job *)arg;
    const size_t length = job->columns ? job->c : job->size;
    for (size_t item = first; item < last; item++) {
        const float *x = job->x + item * length;
        float *y = job->y + item * length;
        if (job->columns) {
            job->kernels->normalize(x, job->moments, job->coefficients, job->coefficients + job->c,
                                    1, job->act.kind, job->act.slope, y, length);
        } else {
            const size_t group = gani_plane_group(job, item), channel = item % job->c;
            const float scale =
                gani_group_rstd(job, group) * (job->scale ? job->scale[channel] : 1.0f);
            const float shift = job->shift ? job->shift[channel] : 0.0f;
            job->kernels->normalize(x, job->moments + group, &scale, &shift, 0, job->act.kind,
                                    job->act.slope, y, length);
        }
    }
}

/* y = act((x - mean)*rstd*scale + shift) */
static gan_status gani_run_normalize(gan_context *ctx, const gani_run *run) {
    gani_norm_job job = gani_norm_job_of(ctx, run, 0);
    job.moments = run->source[1];
    job.scale = run->source[2];
    job.shift = run->source[3];
    if (job.columns) {
        job.coefficients = (float *)gani_workspace(ctx, 3 * job.c * sizeof(float));
        if (!job.coefficients) {
            return GAN_ERR_MEMORY;
        }
        for (size_t j = 0; j < job.c; j++) {
            job.coefficients[j] = gani_group_rstd(&job, j) * (job.scale ? job.scale[j] : 1.0f);
            job.coefficients[job.c + j] = job.shift ? job.shift[j] : 0.0f;
        }
    }
    gani_for_items(ctx, job.columns ? job.n : job.n * job.c, job.columns ? job.c : job.size,
                   gani_normalize_items, &job);
    return GAN_OK;
}

static void gani_norm_sums_columns(const gani_norm_job *job, size_t first, size_t count) {
    const float *g = job->g + first, *x = job->x + first;
    float *sum = job->y + first, *dot = sum + job->results;
    job->kernels->columns(GANI_COLUMNS_SUM, g, NULL, NULL, job->n, job->c, count, sum);
    job->kernels->columns(GANI_COLUMNS_DOT, g, x, job->moments + first, job->n, job->c, count, dot);
    for (size_t j = 0; j < count; j++) {
        dot[j] *= gani_group_rstd(job, first + j);
    }
}

/* Adds the elements at `at` to result j. By channel, each sample has moments of its own, and the
 * factor rstd of xhat goes in here; else it does so once, in the end. */
static void gani_norm_sums_add(const gani_norm_job *job, size_t j, size_t at, double *sums) {
    const float *g = job->g + at, *x = job->x + at;
    if (job->by_channel) {
        const size_t group = gani_plane_group(job, at / job->size);
        double part[2] = {0.0, 0.0};
        job->kernels->norm_sums(g, x, job->moments[group], job->length, part);
        sums[0] += part[0];
        sums[1] += part[1] * (double)gani_group_rstd(job, group);
    } else {
        job->kernels->norm_sums(g, x, job->moments[j], job->length, sums);
    }
}

static void gani_norm_sums_items(void *arg, size_t first, size_t last) {
    const gani_norm_job *job = (const gani_norm_job *)arg;
    if (job->columns) {
        gani_norm_sums_columns(job, first, last - first);
        return;
    }
    for (size_t item = first; item < last; item++) {
        double sums[GANI_NORM_CHUNK][2];
        const size_t from = item * job->chunk, left = job->results - from;
        const size_t count = left < job->chunk ? left : job->chunk;
        memset(sums, 0, sizeof sums);
        for (size_t repeat = 0; repeat < job->repeats; repeat++) {
            for (size_t k = 0; k < count; k++) {
                const size_t at = repeat * job->c * job->size + (from + k) * job->length;
                gani_norm_sums_add(job, from + k, at, sums[k]);
            }
        }
        for (size_t k = 0; k < count; k++) {
            const float rstd = job->by_channel ? 1.0f : gani_group_rstd(job, from + k);
            job->y[from + k] = (float)sums[k][0];
            job->y[job->results + from + k] = (float)(sums[k][1] * (double)rstd);
        }
    }
}

/* y = sums of g, sums of g*xhat */
static gan_status gani_run_norm_sums(gan_context *ctx, const gani_run *run) {
    gani_norm_job job = gani_norm_job_of(ctx, run, 1);
    job.g = run->source[0];
    job.moments = run->source[2];
    gani_for_norm_items(ctx, job.by_channel ? job.c : job.groups, &job, gani_norm_sums_items);
    return GAN_OK;
}

/* dx = a*g + b*(x - mean) + k:  a = scale*rstd, b = -a*rstd*S1/N, k = -a*S0/N */
static void gani_norm_dx_coefficients(const gani_norm_job *job, size_t group, size_t channel,
                                      float *a, float *b, float *k) {
    const float rstd = gani_group_rstd(job, group), share = 1.0f / (float)job->count;
    *a = rstd * (job->scale ? job->scale[channel] : 1.0f);
    *b = job->sums ? -*a * rstd * share * job->sums[job->groups + group] : 0.0f;
    *k = job->sums ? -*a * share * job->sums[group] : 0.0f;
}

/* Items: planes, or rows of the matrix. */
static void gani_norm_dx_items(void *arg, size_t first, size_t last) {
    const gani_norm_job *job = (const gani_norm_job *)arg;
    const size_t length = job->columns ? job->c : job->size, step = job->columns ? 1 : 0;
    for (size_t item = first; item < last; item++) {
        const size_t group = job->columns ? 0 : gani_plane_group(job, item);
        float here[3];
        const float *a = here, *b = here + 1, *k = here + 2;
        if (job->columns) {
            a = job->coefficients;
            b = a + job->c;
            k = b + job->c;
        } else {
            gani_norm_dx_coefficients(job, group, item % job->c, here, here + 1, here + 2);
        }
        if (job->sums) {
            job->kernels->norm_dx(job->g + item * length, job->x + item * length,
                                  job->moments + group, a, b, k, step, job->y + item * length,
                                  length);
        } else {
            job->kernels->binary(GANI_BINARY_MUL, job->g + item * length, 1, a, step, 0.0f,
                                 job->y + item * length, length);
        }
    }
}

/* y = scale*rstd*(g - S0/N - xhat*S1/N) */
static gan_status gani_run_norm_dx(gan_context *ctx, const gani_run *run) {
    gani_norm_job job = gani_norm_job_of(ctx, run, 1);
    job.g = run->source[0];
    job.moments = run->source[2];
    job.sums = run->source[3];
    job.scale = run->source[4];
    if (job.columns) {
        float *k = (float *)gani_workspace(ctx, 3 * job.c * sizeof(float));
        if (!k) {
            return GAN_ERR_MEMORY;
        }
        for (size_t j = 0; j < job.c; j++) {
            gani_norm_dx_coefficients(&job, j, j, k + j, k + job.c + j, k + 2 * job.c + j);
        }
        job.coefficients = k;
    }
    gani_for_items(ctx, job.columns ? job.n : job.n * job.c, job.columns ? job.c : job.size,
                   gani_norm_dx_items, &job);
    return GAN_OK;
}

/* --- running: classes and indices ---------------------------------------- */

typedef struct gani_softmax_job {
    const gani_kernels *kernels;
    const float *x;
    float *y;
    size_t length;
    int logarithm;
} gani_softmax_job;

static void gani_softmax_rows(void *arg, size_t first, size_t last) {
    const gani_softmax_job *job = (const gani_softmax_job *)arg;
    for (size_t r = first; r < last; r++) {
        job->kernels->softmax(job->x + r * job->length, job->y + r * job->length, job->length,
                              job->logarithm);
    }
}

static gan_status gani_run_softmax(gan_context *ctx, const gani_run *run) {
    const gan_shape x = run->source_shape[0];
    gani_softmax_job job;
    job.kernels = ctx->kernels;
    job.x = run->source[0];
    job.y = run->out;
    job.length = (size_t)x.dim[x.rank - 1];
    job.logarithm = run->node->op == GANI_OP_LOG_SOFTMAX;
    gani_for_items(ctx, gani_extent(x, 0, x.rank - 1), job.length, gani_softmax_rows, &job);
    return GAN_OK;
}

/* Are all indices [count] whole numbers from 0 to limit-1? */
static gan_status gani_check_indices(gan_context *ctx, const float *idx, size_t count, int limit) {
    for (size_t i = 0; i < count; i++) {
        if (!(idx[i] >= 0.0f && idx[i] < (float)limit) || idx[i] != floorf(idx[i])) {
            return gani_error(ctx, GAN_ERR_NUMERIC,
                              "index %g at %lu (expected a whole number from 0 to %d)",
                              (double)idx[i], (unsigned long)i, limit - 1);
        }
    }
    return GAN_OK;
}

static gan_status gani_run_one_hot(gan_context *ctx, const gani_run *run) {
    const size_t count = gan_shape_count(run->source_shape[0]);
    const int classes = run->node->attr.i[0];
    const gan_status status = gani_check_indices(ctx, run->source[0], count, classes);
    if (status == GAN_OK) {
        memset(run->out, 0, count * (size_t)classes * sizeof(float));
        for (size_t i = 0; i < count; i++) {
            run->out[i * (size_t)classes + (size_t)run->source[0][i]] = 1.0f;
        }
    }
    return status;
}

static gan_status gani_run_gather_rows(gan_context *ctx, const gani_run *run) {
    const gan_shape table = run->source_shape[0];
    const size_t count = (size_t)run->source_shape[1].dim[0], dim = (size_t)table.dim[1];
    const float *idx = run->source[1];
    const gan_status status = gani_check_indices(ctx, idx, count, table.dim[0]);
    for (size_t i = 0; i < count && status == GAN_OK; i++) {
        memcpy(run->out + i * dim, run->source[0] + (size_t)idx[i] * dim, dim * sizeof(float));
    }
    return status;
}

static gan_status gani_run_scatter_rows(gan_context *ctx, const gani_run *run) {
    const size_t count = (size_t)run->source_shape[1].dim[0];
    const size_t dim = (size_t)run->source_shape[0].dim[1];
    const float *idx = run->source[1];
    const gan_status status = gani_check_indices(ctx, idx, count, run->node->attr.i[0]);
    if (status == GAN_OK) {
        memset(run->out, 0, gan_shape_count(run->node->shape) * sizeof(float));
        for (size_t i = 0; i < count; i++) {
            float *row = run->out + (size_t)idx[i] * dim;
            ctx->kernels->binary(GANI_BINARY_ADD, row, 1, run->source[0] + i * dim, 1, 0.0f, row,
                                 dim);
        }
    }
    return status;
}

/* --- running: random ----------------------------------------------------- */

typedef struct gani_random_job {
    const gani_kernels *kernels;
    const float *x;
    float *y;
    uint64_t key, step;
    size_t size, count; /* elements of an item of dropout, of y */
    float p;
    int normal, by_channel;
} gani_random_job;

/* Each stream of a graph has a key of its own, other than the seed itself, with which parameters
 * are drawn; the step is the stream within it. */
static gani_random_job gani_random_job_of(const gani_run *run) {
    gani_random_job job;
    memset(&job, 0, sizeof job);
    job.y = run->out;
    job.key = run->seed + ((uint64_t)run->node->attr.i[0] + 1) * 0x9e3779b97f4a7c15u;
    job.step = run->step;
    job.count = gan_shape_count(run->node->shape);
    return job;
}

#define GANI_NOISE_BLOCK ((size_t)1024) /* elements in an item */

static void gani_noise_blocks(void *arg, size_t first, size_t last) {
    const gani_random_job *job = (const gani_random_job *)arg;
    const size_t from = first * GANI_NOISE_BLOCK, to = last * GANI_NOISE_BLOCK;
    gani_random_fill(job->key, job->step, from, job->y + from,
                     (to < job->count ? to : job->count) - from, job->normal);
}

static gan_status gani_run_noise(gan_context *ctx, const gani_run *run) {
    gani_random_job job = gani_random_job_of(run);
    job.normal = run->node->op == GANI_OP_NOISE_NORMAL;
    gani_for_items(ctx, (job.count + GANI_NOISE_BLOCK - 1) / GANI_NOISE_BLOCK, GANI_NOISE_BLOCK,
                   gani_noise_blocks, &job);
    return GAN_OK;
}

/* Items: blocks of elements, or channels of a sample. */
static void gani_dropout_items(void *arg, size_t first, size_t last) {
    const gani_random_job *job = (const gani_random_job *)arg;
    for (size_t item = first; item < last; item++) {
        float uniform[GANI_NOISE_BLOCK];
        const size_t at = item * job->size, left = job->count - at;
        const size_t n = left < job->size ? left : job->size;
        gani_random_fill(job->key, job->step, job->by_channel ? item : at, uniform,
                         job->by_channel ? 1 : n, 0);
        job->kernels->binary(GANI_BINARY_DROPOUT, job->x + at, 1, uniform, !job->by_channel, job->p,
                             job->y + at, n);
    }
}

/* y = u >= p ? x/(1-p) : 0, u uniform in [0,1) for each element or channel of a sample */
static gan_status gani_run_dropout(gan_context *ctx, const gani_run *run) {
    const gan_shape shape = run->node->shape;
    gani_random_job job = gani_random_job_of(run);
    job.kernels = ctx->kernels;
    job.x = run->source[0];
    job.p = run->node->attr.f[0];
    job.by_channel = run->node->attr.i[1];
    job.size = job.by_channel ? gani_extent(shape, 2, shape.rank) : GANI_NOISE_BLOCK;
    gani_for_items(ctx, (job.count + job.size - 1) / job.size, job.size, gani_dropout_items, &job);
    return GAN_OK;
}

/* --- running: effects ---------------------------------------------------- */

/* parameter = value, or moved towards it by the fraction f[0] */
static gan_status gani_run_assign(gan_context *ctx, const gani_run *run) {
    gani_walk walk = gani_walk_of(run->node->shape);
    if (run->node->op == GANI_OP_ASSIGN_LERP) {
        gani_map map = gani_map_of(ctx, run, GANI_BINARY_LERP);
        gani_walk_run(ctx, &walk, gani_binary_row, &map);
    } else if (run->source[1] != run->out) {
        gani_copy_walk(ctx, &walk, run->source[1], run->out);
    }
    return GAN_OK;
}

/* parameter[idx[k]] = value[k], in order */
static gan_status gani_run_assign_rows(gan_context *ctx, const gani_run *run) {
    const gan_shape table = run->node->shape;
    const size_t count = (size_t)run->source_shape[1].dim[0], dim = (size_t)table.dim[1];
    const float *idx = run->source[1];
    const gan_status status = gani_check_indices(ctx, idx, count, table.dim[0]);
    for (size_t i = 0; i < count && status == GAN_OK; i++) {
        memcpy(run->out + (size_t)idx[i] * dim, run->source[2] + i * dim, dim * sizeof(float));
    }
    return status;
}

typedef struct gani_optimiser_job {
    const gani_kernels *kernels;
    int kind;
    float *param, *m, *v;
    const float *grad;
    float k[8]; /* see gani_optimise in >>kernels-vec */
} gani_optimiser_job;

static void gani_optimiser_items(void *arg, size_t first, size_t last) {
    const gani_optimiser_job *job = (const gani_optimiser_job *)arg;
    job->kernels->optimise(job->kind, job->param + first, job->grad + first,
                           job->m ? job->m + first : NULL, job->v ? job->v + first : NULL, job->k,
                           last - first);
}

/* The decimal number of up to 7 places that a float was written as: 1 - 0.999f is off by 1e-5,
 * which Adam's second moment would inherit. */
static double gani_decimal(float x) {
    return floor((double)x * 1e7 + 0.5) / 1e7;
}

static gani_optimiser_job gani_optimiser_job_of(const gan_context *ctx, const gani_run *run) {
    const float *f = run->node->attr.f;
    gani_optimiser_job job;
    memset(&job, 0, sizeof job);
    job.kernels = ctx->kernels;
    job.param = run->out;
    job.grad = run->source[1];
    job.m = run->also[0];
    job.v = run->also[1];
    job.k[1] = run->source[GANI_SOURCE_LR][0];
    if (run->node->op == GANI_OP_SGD) {
        const int nesterov = run->node->attr.i[0];
        job.kind = job.m ? GANI_OPTIMISE_MOMENTUM : GANI_OPTIMISE_SGD;
        job.k[0] = f[1];
        job.k[2] = f[0];
        job.k[3] = nesterov ? f[0] : 1.0f;
        job.k[4] = nesterov ? 1.0f : 0.0f;
    } else if (run->node->op == GANI_OP_RMSPROP) {
        job.kind = GANI_OPTIMISE_RMSPROP;
        job.k[0] = f[2];
        job.k[2] = f[0];
        job.k[3] = (float)(1.0 - gani_decimal(f[0]));
        job.k[7] = f[1];
    } else {
        const double beta1 = gani_decimal(f[0]), beta2 = gani_decimal(f[1]);
        const double t = (double)run->source[GANI_SOURCE_T][0];
        job.kind = GANI_OPTIMISE_ADAM;
        job.k[0] = f[3];
        job.k[1] = (float)((double)job.k[1] / (1.0 - pow(beta1, t)));
        job.k[2] = f[0];
        job.k[3] = (float)(1.0 - beta1);
        job.k[4] = f[1];
        job.k[5] = (float)(1.0 - beta2);
        job.k[6] = (float)(1.0 / sqrt(1.0 - pow(beta2, t)));
        job.k[7] = f[2];
    }
    return job;
}

static gan_status gani_run_optimiser(gan_context *ctx, const gani_run *run) {
    gani_optimiser_job job = gani_optimiser_job_of(ctx, run);
    gani_for_items(ctx, gan_shape_count(run->node->shape), 1, gani_optimiser_items, &job);
    return GAN_OK;
}

/* --- the table ----------------------------------------------------------- */

/* How a product or convolution is computed; "" for other ops. */
static const char *gani_node_algorithm(const gan_context *ctx, const gani_node *node,
                                       const gan_shape *source_shape) {
    if (node->op == GANI_OP_MATMUL || node->op == GANI_OP_LINEAR) {
        return "gemm";
    }
    if (node->op == GANI_OP_CONV || node->op == GANI_OP_CONV_TRANSPOSE ||
        node->op == GANI_OP_CONV_WEIGHT_GRAD) {
        const gani_conv conv = gani_conv_of(node, source_shape);
        return gani_conv_algorithm(ctx, &conv);
    }
    return "";
}

#define gani_shape_none     NULL
#define gani_run_none       NULL
#define gani_grad_none      NULL
#define gani_workspace_none NULL
#define gani_madds_none     NULL

static const gani_op_row gani_ops[] = {
#define GANI_OP_ROW(id, name, flags, required, shape, run, grad, workspace, madds) \
    {name,                                                                         \
     flags,                                                                        \
     required,                                                                     \
     gani_shape_##shape,                                                           \
     gani_run_##run,                                                               \
     gani_grad_##grad,                                                             \
     gani_workspace_##workspace,                                                   \
     gani_madds_##madds},
    GANI_OP_LIST(GANI_OP_ROW)
#undef GANI_OP_ROW
};

/* ============================================================================
 * >>graph  5.5  BUILDING, GRADIENTS
 *
 * A graph grows at its end only. Leaves are made here (inputs, parameters, constants), all else by
 * the builder functions beside the op table.
 *
 * Holds:  graphs, scopes, leaves, gan_grad.
 * Uses:   >>nodes  >>ops  >>ops-run        Knows nothing of: how a program is run.
 * ========================================================================= */

static gan_status gani_graph_begin(gan_graph *graph) {
    gani_node none;
    memset(&none, 0, sizeof none);
    none.shape.rank = -1;
    none.param = -1;
    graph->name_override = -1;
    if (gani_store_text(graph, "", 0) < 0 || gani_append_node(graph, &none).id != 0 ||
        graph->status != GAN_OK) {
        return GAN_ERR_MEMORY;
    }
    return GAN_OK;
}

GAN_API gan_status gan_graph_create(gan_graph **out, gan_context *ctx, gan_params *params) {
    gan_graph *graph = (gan_graph *)gani_calloc(ctx, 1, sizeof *graph);
    *out = NULL;
    if (!graph) {
        return GAN_ERR_MEMORY;
    }
    graph->ctx = ctx;
    graph->params = params;
    graph->ops = gani_ops;
    if (gani_graph_begin(graph) != GAN_OK) {
        gan_graph_destroy(graph);
        return GAN_ERR_MEMORY;
    }
    *out = graph;
    return GAN_OK;
}

GAN_API void gan_graph_destroy(gan_graph *graph) {
    if (graph) {
        gan_context *ctx = graph->ctx;
        if (graph->program_count != 0) {
            gani_log(ctx, "gan_graph_destroy: %d of its programs are alive", graph->program_count);
        }
        for (int i = 0; i < graph->input_count; i++) {
            gani_free(ctx, graph->inputs[i]);
        }
        gani_free(ctx, graph->inputs);
        gani_free(ctx, graph->nodes);
        gani_free(ctx, graph->sources);
        gani_free(ctx, graph->text);
        gani_free(ctx, graph->param_nodes);
        gani_free(ctx, graph->effects);
        gani_free(ctx, graph->arena);
        gani_free(ctx, graph);
    }
}

GAN_API gan_status gan_graph_status(const gan_graph *graph) {
    return graph->status == GAN_OK ? GAN_OK
                                   : gani_error(graph->ctx, graph->status, "%s", graph->error);
}

/* --- scopes ---------------------------------------------------------------- */

GAN_API void gan_graph_push(gan_graph *graph, const char *name) {
    const int length = graph->scopes[graph->scope_depth].length;
    const size_t added = strlen(name);
    if (graph->status != GAN_OK) {
        return;
    }
    if (graph->scope_depth + 1 >= GANI_MAX_SCOPES || added + 2 > (size_t)(GANI_MAX_NAME - length)) {
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_LIMIT,
                                     "scope \"%s%s\": more than %d deep or %d bytes long",
                                     graph->scope, name, GANI_MAX_SCOPES - 1, GANI_MAX_NAME - 2));
        return;
    }
    memcpy(graph->scope + length, name, added);
    memcpy(graph->scope + length + (int)added, ".", 2);
    graph->scope_depth++;
    graph->scopes[graph->scope_depth].length = length + (int)added + 1;
    graph->scopes[graph->scope_depth].name = -1;
}

GAN_API void gan_graph_pop(gan_graph *graph) {
    if (graph->status != GAN_OK) {
        return; /* a push may have failed */
    }
    if (graph->scope_depth == 0) {
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_STATE, "gan_graph_pop: no scope is open"));
        return;
    }
    graph->scope_depth--;
    graph->scope[graph->scopes[graph->scope_depth].length] = '\0';
}

/* --- leaves ---------------------------------------------------------------- */

GAN_API gan_shape gan_tensor_shape(const gan_graph *graph, gan_tensor x) {
    return gani_tensor_node(graph, x)->shape;
}

/* Writes scope and name to full [GANI_MAX_NAME]. */
static gan_status gani_full_name(gan_graph *graph, const char *name, char *full) {
    const int length = snprintf(full, GANI_MAX_NAME, "%s%s", graph->scope, name);
    if (length < 0 || length >= GANI_MAX_NAME) {
        return gani_error(graph->ctx, GAN_ERR_LIMIT, "name \"%s\" is longer than %d bytes", full,
                          GANI_MAX_NAME - 1);
    }
    return GAN_OK;
}

/* Appends a leaf of the given full name. */
static gan_tensor gani_add_leaf(gan_graph *graph, int op, const char *full, gan_shape shape,
                                int param, const gani_attr *attr) {
    gan_tensor tensor = {0};
    gani_node node;
    memset(&node, 0, sizeof node);
    node.op = op;
    node.param = param;
    node.shape = shape;
    node.attr = *attr;
    node.name = gani_store_text(graph, full, strlen(full));
    if (node.name < 0) {
        gani_stick(graph, GAN_ERR_MEMORY);
        return tensor;
    }
    return gani_append_node(graph, &node);
}

GAN_API gan_tensor gan_input(gan_graph *graph, const char *name, gan_shape shape) {
    gan_tensor tensor = {0};
    char full[GANI_MAX_NAME];
    gani_attr attr;
    if (graph->status != GAN_OK) {
        return tensor;
    }
    gan_status status = gani_full_name(graph, name, full);
    if (status == GAN_OK && (status = gani_check_shape(graph->ctx, &shape)) != GAN_OK) {
        status = gani_prefix_error(graph->ctx, status, full);
    }
    void *block = graph->inputs;
    if (status == GAN_OK && !gani_grow(graph->ctx, &block, &graph->input_capacity,
                                       graph->input_count + 1, sizeof *graph->inputs)) {
        status = GAN_ERR_MEMORY;
    }
    graph->inputs = (float **)block;
    float *data = status == GAN_OK
                      ? (float *)gani_calloc(graph->ctx, gan_shape_count(shape), sizeof *data)
                      : NULL;
    if (!data) {
        gani_stick(graph, status == GAN_OK ? GAN_ERR_MEMORY : status);
        return tensor;
    }
    memset(&attr, 0, sizeof attr);
    attr.i[0] = graph->input_count;
    graph->inputs[graph->input_count++] = data;
    return gani_add_leaf(graph, GANI_OP_INPUT, full, shape, -1, &attr);
}

GAN_API float *gan_input_data(gan_graph *graph, gan_tensor input) {
    const gani_node *node = gani_tensor_node(graph, input);
    return node->shape.rank >= 0 && node->op == GANI_OP_INPUT ? graph->inputs[node->attr.i[0]]
                                                              : NULL;
}

/* Index of the parameter in the store, which gets it if it is new. */
static gan_status gani_param_index(gan_graph *graph, const char *full, gan_shape shape,
                                   gan_param_kind kind, gan_init init, int *index) {
    gan_params *params = graph->params;
    *index = gani_params_index(params, full);
    if (*index < 0) {
        *index = params->count;
        gan_status status = gani_check_shape(graph->ctx, &shape);
        return status != GAN_OK ? gani_prefix_error(graph->ctx, status, full)
                                : gani_params_add(params, full, shape, kind, init);
    }
    const gani_param *param = &params->items[*index];
    if (!gani_shape_equal(&param->shape, &shape)) {
        const gani_shape_text had = gani_print_shape(&param->shape),
                              asked = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "parameter \"%s\" exists with shape %s, asked for is %s", full, had.text,
                          asked.text);
    }
    if (param->kind != kind) {
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "parameter \"%s\" exists as another kind",
                          full);
    }
    return GAN_OK;
}

/* Room in graph->param_nodes for every parameter of the store; new entries are 0. */
static gan_status gani_reserve_param_nodes(gan_graph *graph) {
    const int old = graph->param_node_capacity;
    void *block = graph->param_nodes;
    int reserved = gani_grow(graph->ctx, &block, &graph->param_node_capacity, graph->params->count,
                             sizeof *graph->param_nodes);
    graph->param_nodes = (int *)block;
    for (int i = old; i < graph->param_node_capacity; i++) {
        graph->param_nodes[i] = 0;
    }
    return reserved ? GAN_OK : GAN_ERR_MEMORY;
}

GAN_API gan_tensor gan_param(gan_graph *graph, const char *name, gan_shape shape,
                             gan_param_kind kind, gan_init init) {
    gan_tensor tensor = {0};
    char full[GANI_MAX_NAME];
    gani_attr attr;
    int index = -1;
    if (graph->status != GAN_OK) {
        return tensor;
    }
    gan_status status = gani_full_name(graph, name, full);
    if (status == GAN_OK) {
        status = gani_param_index(graph, full, shape, kind, init, &index);
    }
    if (status == GAN_OK) {
        status = gani_reserve_param_nodes(graph);
    }
    if (status != GAN_OK) {
        gani_stick(graph, status);
        return tensor;
    }
    tensor.id = graph->param_nodes[index];
    if (tensor.id == 0) {
        memset(&attr, 0, sizeof attr);
        tensor = gani_add_leaf(graph, GANI_OP_PARAM, full, shape, index, &attr);
        graph->param_nodes[index] = tensor.id;
    }
    return tensor;
}

GAN_API gan_tensor gan_constant(gan_graph *graph, gan_shape shape, float value) {
    gani_attr attr;
    memset(&attr, 0, sizeof attr);
    gani_attr_set_shape(&attr, &shape);
    attr.f[0] = value;
    return gani_add_node(graph, GANI_OP_CONSTANT, NULL, 0, &attr);
}

/* --- gradients ------------------------------------------------------------- */

/* Reverse accumulation, as ordinary nodes. With v the nodes from the loss backwards and dv the
 * gradient of the loss in v,
 *
 *     d(loss) = 1,     d(source k of v) += grad_k(v, dv)
 *
 * where only nodes between wrt and the loss are visited. grad_k is the op's rule; it reads the
 * values of v and of v's sources. */
typedef struct gani_reverse {
    unsigned char
        *depends;  /* [nodes] value depends on one of wrt, through ops that have a gradient */
    int *gradient; /* [nodes] id of the sum so far, 0: none */
    int *written;  /* [nodes] of parameters: the last effect recorded that writes it, 0: none */
    gan_tensor *dsource; /* [largest number of sources] */
} gani_reverse;

/* Marks what depends on wrt, up to the loss; returns the largest number of sources met. */
static int gani_mark_dependent(const gan_graph *graph, int loss, const gan_tensor *wrt, int count,
                               unsigned char *depends) {
    int most = 1;
    for (int i = 0; i < count; i++) {
        depends[wrt[i].id] = 1;
    }
    for (int id = 1; id <= loss; id++) {
        const gani_node *node = &graph->nodes[id];
        for (int k = 0; k < node->source_count && graph->ops[node->op].grad; k++) {
            depends[id] |= depends[gani_source(graph, node, k).id];
        }
        most = node->source_count > most ? node->source_count : most;
    }
    return most;
}

/* 1 if a source of the node depends on one of wrt, so that its gradient is of use. */
static int gani_passes_on(const gan_graph *graph, int id, const unsigned char *depends) {
    const gani_node *node = &graph->nodes[id];
    int any = 0;
    for (int k = 0; k < node->source_count; k++) {
        any |= depends[gani_source(graph, node, k).id];
    }
    return any && graph->ops[node->op].grad != NULL;
}

static void gani_mark_written(const gan_graph *graph, int *written) {
    for (int i = 0; i < graph->effect_count; i++) {
        const gani_node *effect = &graph->nodes[graph->effects[i]];
        for (int k = 0; k < GANI_MAX_WRITTEN; k++) {
            const int param = gani_effect_param(effect, k);
            if (param >= 0) {
                written[graph->param_nodes[param]] = graph->effects[i];
            }
        }
    }
}

/* The gradient of a node may read the node's sources once more; a parameter among them must still
 * be what it was. (A view keeps the value of its own place in the list, so reading a parameter
 * through one is safe.) */
static gan_status gani_check_unwritten(gan_graph *graph, int id, const int *written) {
    for (int k = 0; k < graph->nodes[id].source_count; k++) {
        const int source = gani_source(graph, &graph->nodes[id], k).id;
        if (written[source] > id && !(graph->ops[graph->nodes[id].op].flags & GANI_FLAG_VIEW)) {
            return gani_error(
                graph->ctx, GAN_ERR_STATE,
                "gan_grad: parameter \"%s\" is written between %s, which uses it, and the gradient",
                graph->text + graph->nodes[source].name, gani_node_label(graph, &graph->nodes[id]));
        }
    }
    return GAN_OK;
}

/* Adds the gradients that node id passes on to those of its sources. */
static void gani_reverse_node(gan_graph *graph, int id, const gani_reverse *work) {
    const int count = graph->nodes[id].source_count;
    gan_tensor y, dy;
    y.id = id;
    dy.id = work->gradient[id];
    memset(work->dsource, 0, (size_t)count * sizeof *work->dsource);
    graph->name_override = graph->nodes[id].name;
    graph->ops[graph->nodes[id].op].grad(graph, y, dy, work->dsource);
    for (int k = 0; k < count && graph->status == GAN_OK; k++) {
        const int source = gani_source(graph, &graph->nodes[id], k).id;
        gan_tensor sum = work->dsource[k];
        if (sum.id == 0 || !work->depends[source]) {
            continue;
        }
        GAN_ASSERT(gani_shape_equal(&graph->nodes[sum.id].shape, &graph->nodes[source].shape));
        if (work->gradient[source] != 0) {
            gan_tensor before;
            before.id = work->gradient[source];
            sum = gan_add(graph, before, sum);
        }
        work->gradient[source] = sum.id;
    }
    graph->name_override = -1;
}

/* Walks back from the loss; out[i] becomes the gradient in wrt[i]. */
static gan_status gani_reverse_list(gan_graph *graph, gan_tensor loss, const gan_tensor *wrt,
                                    int count, const gani_reverse *work, gan_tensor *out) {
    gani_mark_written(graph, work->written);
    if (work->depends[loss.id]) {
        work->gradient[loss.id] = gan_constant(graph, graph->nodes[loss.id].shape, 1.0f).id;
    }
    for (int id = loss.id; id > 0 && graph->status == GAN_OK; id--) {
        if (work->gradient[id] != 0 && gani_passes_on(graph, id, work->depends)) {
            gan_status status = gani_check_unwritten(graph, id, work->written);
            if (status != GAN_OK) {
                return gani_stick(graph, status);
            }
            gani_reverse_node(graph, id, work);
        }
    }
    for (int i = 0; i < count && graph->status == GAN_OK; i++) {
        out[i].id = work->gradient[wrt[i].id];
        if (out[i].id == 0) {
            out[i] = gan_constant(graph, graph->nodes[wrt[i].id].shape, 0.0f);
        }
    }
    return graph->status;
}

static gan_status gani_check_grad(gan_graph *graph, gan_tensor loss, const gan_tensor *wrt,
                                  int count) {
    if (loss.id <= 0 || loss.id >= graph->node_count) {
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                          "gan_grad: loss is not a tensor of this graph");
    }
    for (int i = 0; i < count; i++) {
        if (wrt[i].id <= 0 || wrt[i].id >= graph->node_count) {
            return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                              "gan_grad: wrt %d is not a tensor of this graph", i);
        }
    }
    if (gan_shape_count(graph->nodes[loss.id].shape) != 1) {
        const gani_shape_text shape = gani_print_shape(&graph->nodes[loss.id].shape);
        return gani_error(graph->ctx, GAN_ERR_SHAPE,
                          "gan_grad: loss has shape %s, expected one element", shape.text);
    }
    return GAN_OK;
}

GAN_API gan_status gan_grad(gan_graph *graph, gan_tensor loss, const gan_tensor *wrt, int count,
                            gan_tensor *out) {
    gan_context *ctx = graph->ctx;
    const size_t nodes = (size_t)graph->node_count;
    gani_reverse work;
    memset(out, 0, (size_t)count * sizeof *out);
    if (graph->status != GAN_OK) {
        return gan_graph_status(graph);
    }
    gan_status status = gani_check_grad(graph, loss, wrt, count);
    if (status != GAN_OK) {
        return gani_stick(graph, status);
    }
    work.depends = (unsigned char *)gani_calloc(ctx, nodes, sizeof *work.depends);
    work.gradient = (int *)gani_calloc(ctx, nodes, sizeof *work.gradient);
    work.written = (int *)gani_calloc(ctx, nodes, sizeof *work.written);
    work.dsource = NULL;
    status = GAN_ERR_MEMORY;
    if (work.depends && work.gradient && work.written) {
        const int most = gani_mark_dependent(graph, loss.id, wrt, count, work.depends);
        work.dsource = (gan_tensor *)gani_calloc(ctx, (size_t)most, sizeof *work.dsource);
    }
    if (work.dsource) {
        status = gani_reverse_list(graph, loss, wrt, count, &work, out);
    }
    gani_free(ctx, work.depends);
    gani_free(ctx, work.gradient);
    gani_free(ctx, work.written);
    gani_free(ctx, work.dsource);
    if (status != GAN_OK) {
        memset(out, 0, (size_t)count * sizeof *out);
        gani_stick(graph, status);
    }
    return status;
}

/* ============================================================================
 * >>planner  5.6  DEAD CODE, SHARING, FUSION, MEMORY; RUNNING
 *
 * A program is a part of a graph made ready to run. The graph is only read, for other programs
 * share it; what changes (an activation folded into a convolution) is changed in the program's copy
 * of the node. A node's id serves as its time, for nodes run in list order. Planning is a row of
 * passes over the list, each filling arrays of gani_plan:
 *
 *   needed    backwards from the outputs and the pending effects
 *   same      value numbering: nodes of equal op, attributes, shape and source values are one. A
 *             parameter gets a new number whenever an effect writes it, so a network applied before
 *             and after an update is two. A view is numbered by what it shows and its shape, so
 *             chains of views, and views that change nothing (detach), cost nothing
 *   act       an activation that alone reads its source moves into it, if that op can
 *   folded    small values that depend on constants alone: computed once, now
 *   last      when each value is read last
 *   storage   blocks of the arena: one for each value, but a view shows its source's block, and an
 *             op that may work in place takes over the block of a source read there the last time
 *   places    where each block lies, so that blocks that live at the same time do not overlap
 *
 * Holds:  programs: planning and running.
 * Uses:   >>nodes  >>ops        Knows nothing of: how the graph was built.
 * ========================================================================= */

/* Under AddressSanitizer blocks have gaps between them, and while an op runs all of the arena is
 * poisoned but its sources and its result. */
#if defined(__SANITIZE_ADDRESS__)
#define GANI_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GANI_ASAN 1
#endif
#endif
#ifdef GANI_ASAN
#include <sanitizer/asan_interface.h>
#define GANI_ARENA_GAP            GANI_ALIGN
#define GANI_POISON(ptr, bytes)   ASAN_POISON_MEMORY_REGION((ptr), (bytes))
#define GANI_UNPOISON(ptr, bytes) ASAN_UNPOISON_MEMORY_REGION((ptr), (bytes))
#else
#define GANI_ARENA_GAP            0
#define GANI_POISON(ptr, bytes)   ((void)(ptr), (void)(bytes))
#define GANI_UNPOISON(ptr, bytes) ((void)(ptr), (void)(bytes))
#endif

/* A value that depends on constants alone is kept with the program if it has at most so many
 * elements; a larger one is cheaper to make again in each run than to keep. */
#define GANI_FOLD_LIMIT 4096

/* Where a value lives. */
typedef enum gani_place_kind {
    GANI_PLACE_NONE,
    GANI_PLACE_ARENA,    /* at: offset in bytes */
    GANI_PLACE_CONSTANT, /* at: offset in bytes in program->constants */
    GANI_PLACE_PARAM,    /* at: index in the store */
    GANI_PLACE_INPUT     /* at: index in graph->inputs */
} gani_place_kind;

typedef struct gani_place {
    gani_place_kind kind;
    size_t at;
} gani_place;

/* One op of a program. The node is a copy of the graph's, but source_first counts in the program's
 * tables. */
typedef struct gani_step {
    gani_node node;
    gani_place place; /* of its value */
} gani_step;

typedef struct gani_output {
    int id; /* node in the graph */
    gani_place place;
} gani_output;

struct gan_program {
    gan_graph *graph;
    char *name;
    gani_step *steps;
    int step_count;
    gani_place *source_places; /* of all steps' sources, one after the other */
    gan_shape *source_shapes;
    const float **source_data; /* the places as addresses, found again before each run */
    int source_count;
    gani_output *outputs;
    int output_count;
    int *inputs; /* nodes of the inputs that are read */
    int input_count;
    unsigned char *constants;
    gan_program_info info;
};

/* A block of the arena, alive from node `first` to node `last`. */
typedef struct gani_storage {
    size_t bytes, offset;
    int first, last;
} gani_storage;

typedef struct gani_plan {
    gan_graph *graph;
    unsigned char *needed; /* [nodes] */
    unsigned char *folded; /* [nodes] computed when the program is made */
    unsigned char *copied; /* [nodes] a view that needs memory of its own */
    int *same; /* [nodes] an earlier node of the same value, or the node itself; see gani_same */
    int *root; /* [nodes] value number of what a view shows, of the node itself if it is no view */
    int *source_number;   /* [sources] value number of each source when it is read */
    int *param_number;    /* [parameters] value number at present */
    int *act;             /* [nodes] the activation that has moved into this node, 0: none */
    int *last;            /* [nodes] time of the last use; node_count: read after the run */
    int *storage;         /* [nodes] index of its block, -1: not in the arena */
    gani_storage *blocks; /* [nodes] */
    int block_count;
    int *order;         /* [nodes] scratch; in packing: blocks placed so far, by offset */
    gani_place *places; /* [nodes] */
    int *table;         /* [table_size] of value numbering: hash table of nodes, 0 where free */
    int table_size;     /* a power of two, at least twice node_count */
} gani_plan;

/* --- dead code and sharing -------------------------------------------------- */

/* The node that computes the value of id. */
static int gani_same(const gani_plan *plan, int id) {
    while (plan->same[id] != id) {
        id = plan->same[id];
    }
    return id;
}

static const gani_node *gani_plan_node(const gani_plan *plan, int id) {
    return &plan->graph->nodes[id];
}

static unsigned gani_plan_flags(const gani_plan *plan, int id) {
    return plan->graph->ops[plan->graph->nodes[id].op].flags;
}

/* The node that computes source k of id. */
static int gani_plan_source(const gani_plan *plan, int id, int k) {
    return gani_same(plan, gani_source(plan->graph, gani_plan_node(plan, id), k).id);
}

/* Marks what the outputs and the pending effects need. */
static void gani_mark_needed(const gani_plan *plan, const gan_program *program) {
    const gan_graph *graph = plan->graph;
    memset(plan->needed, 0, (size_t)graph->node_count);
    for (int i = 0; i < program->output_count; i++) {
        plan->needed[gani_same(plan, program->outputs[i].id)] = 1;
    }
    for (int i = 0; i < graph->effect_count; i++) {
        plan->needed[graph->effects[i]] = 1;
    }
    for (int id = graph->node_count - 1; id > 0; id--) {
        for (int k = 0; k < graph->nodes[id].source_count && plan->needed[id]; k++) {
            plan->needed[gani_plan_source(plan, id, k)] = 1;
        }
    }
    plan->needed[0] = 0;
}

static int gani_is_param(const gani_plan *plan, int id) {
    return (gani_plan_flags(plan, id) & GANI_FLAG_LEAF) && gani_plan_node(plan, id)->param >= 0;
}

/* Value number of a source as it is read now. */
static int gani_value_number(const gani_plan *plan, int source) {
    const int id = gani_same(plan, source);
    return gani_is_param(plan, id) ? plan->param_number[gani_plan_node(plan, id)->param] : id;
}

static int gani_same_value(const gani_plan *plan, int a, int b) {
    const gani_node *x = gani_plan_node(plan, a), *y = gani_plan_node(plan, b);
    if (!gani_shape_equal(&x->shape, &y->shape)) {
        return 0;
    }
    if ((gani_plan_flags(plan, a) & GANI_FLAG_VIEW) &&
        (gani_plan_flags(plan, b) & GANI_FLAG_VIEW)) {
        return plan->root[a] == plan->root[b];
    }
    return x->op == y->op && x->source_count == y->source_count &&
           memcmp(&x->attr, &y->attr, sizeof x->attr) == 0 &&
           memcmp(plan->source_number + x->source_first, plan->source_number + y->source_first,
                  (size_t)x->source_count * sizeof(int)) == 0;
}

static uint64_t gani_value_hash(const gani_plan *plan, int id) {
    const gani_node *node = gani_plan_node(plan, id);
    if (gani_plan_flags(plan, id) & GANI_FLAG_VIEW) {
        return gani_hash(&plan->root[id], sizeof plan->root[id], GANI_HASH_START);
    }
    uint64_t hash = gani_hash(&node->op, sizeof node->op, GANI_HASH_START);
    hash = gani_hash(&node->attr, sizeof node->attr, hash);
    return gani_hash(plan->source_number + node->source_first,
                     (size_t)node->source_count * sizeof(int), hash);
}

/* The first node with the value of id: id itself, which is entered in the table, if there is none.
 * */
static int gani_find_value(const gani_plan *plan, int id) {
    const unsigned mask = (unsigned)plan->table_size - 1u;
    unsigned slot = (unsigned)gani_value_hash(plan, id) & mask;
    while (plan->table[slot] != 0 && !gani_same_value(plan, plan->table[slot], id)) {
        slot = (slot + 1u) & mask;
    }
    if (plan->table[slot] == 0) {
        plan->table[slot] = id;
    }
    return plan->table[slot];
}

/* What a view shows. A view of the same shape is what it views, except for a parameter: a view
 * keeps its value when the parameter is written later. */
static int gani_number_view(const gani_plan *plan, int id) {
    const int source = gani_plan_source(plan, id, 0);
    const int root =
        gani_is_param(plan, source) ? gani_value_number(plan, source) : plan->root[source];
    plan->root[id] = root;
    if (root < plan->graph->node_count && !gani_is_param(plan, root) &&
        gani_shape_equal(&gani_plan_node(plan, root)->shape, &gani_plan_node(plan, id)->shape)) {
        return root;
    }
    return gani_find_value(plan, id);
}

static void gani_number_values(const gani_plan *plan) {
    const gan_graph *graph = plan->graph;
    int next = graph->node_count; /* numbers from here on are parameters that have been written */
    for (int i = 0; i < graph->params->count && i < graph->param_node_capacity; i++) {
        plan->param_number[i] = graph->param_nodes[i];
    }
    for (int id = 1; id < graph->node_count; id++) {
        const gani_node *node = &graph->nodes[id];
        const unsigned flags = gani_plan_flags(plan, id);
        if (!plan->needed[id] || (flags & GANI_FLAG_LEAF)) {
            continue;
        }
        for (int k = 0; k < node->source_count; k++) {
            plan->source_number[node->source_first + k] =
                gani_value_number(plan, gani_source(graph, node, k).id);
        }
        if (flags & GANI_FLAG_EFFECT) {
            for (int k = 0; k < GANI_MAX_WRITTEN; k++) {
                const int param = gani_effect_param(node, k);
                if (param >= 0) {
                    plan->param_number[param] = next++;
                }
            }
        } else {
            plan->same[id] =
                flags & GANI_FLAG_VIEW ? gani_number_view(plan, id) : gani_find_value(plan, id);
        }
    }
}

/* --- fusion and folding ------------------------------------------------------ */

/* Moves activations into the ops before them. uses [nodes] is scratch. */
static void gani_fuse_activations(const gani_plan *plan, const gan_program *program, int *uses) {
    const gan_graph *graph = plan->graph;
    memset(uses, 0, (size_t)graph->node_count * sizeof *uses);
    for (int i = 0; i < program->output_count; i++) {
        uses[gani_same(plan, program->outputs[i].id)]++;
    }
    for (int id = 1; id < graph->node_count; id++) {
        for (int k = 0; k < graph->nodes[id].source_count && plan->needed[id]; k++) {
            uses[gani_plan_source(plan, id, k)]++;
        }
    }
    for (int id = 1; id < graph->node_count; id++) {
        if (plan->needed[id] && (gani_plan_flags(plan, id) & GANI_FLAG_ACT)) {
            const int source = gani_plan_source(plan, id, 0);
            if ((gani_plan_flags(plan, source) & GANI_FLAG_FUSES_ACT) && uses[source] == 1 &&
                plan->act[source] == 0 &&
                graph->nodes[source].attr.i[GANI_ATTR_ACT] == GAN_ACT_NONE) {
                plan->act[source] = id;
                plan->same[id] = source;
                plan->needed[id] = 0;
            }
        }
    }
}

/* Marks what depends on constants alone and is small. */
static void gani_fold_constants(const gani_plan *plan) {
    plan->folded[0] = 1; /* a source left out does not hinder */
    for (int id = 1; id < plan->graph->node_count; id++) {
        const gani_node *node = gani_plan_node(plan, id);
        const unsigned flags = gani_plan_flags(plan, id);
        int folds = plan->needed[id] &&
                    !(flags & (GANI_FLAG_LEAF | GANI_FLAG_EFFECT | GANI_FLAG_RANDOM)) &&
                    (node->source_count > 0 || (flags & GANI_FLAG_CONSTANT));
        for (int k = 0; k < node->source_count && folds; k++) {
            folds = plan->folded[gani_plan_source(plan, id, k)];
        }
        plan->folded[id] = folds && gan_shape_count(node->shape) <= GANI_FOLD_LIMIT;
    }
}

/* --- memory ------------------------------------------------------------------ */

/* A view is read as long as what shows it is: its uses count for its source too. */
static void gani_find_last_uses(const gani_plan *plan, const gan_program *program) {
    for (int i = 0; i < program->output_count; i++) {
        plan->last[gani_same(plan, program->outputs[i].id)] = plan->graph->node_count;
    }
    for (int id = plan->graph->node_count - 1; id > 0; id--) {
        const gani_node *node = gani_plan_node(plan, id);
        const int end = (gani_plan_flags(plan, id) & GANI_FLAG_VIEW) && plan->last[id] > id
                            ? plan->last[id]
                            : id;
        for (int k = 0; k < node->source_count && plan->needed[id]; k++) {
            const int source = gani_plan_source(plan, id, k);
            plan->last[source] = plan->last[source] < end ? end : plan->last[source];
        }
    }
}

/* 1 if a pending effect writes the parameter after node id while id's value is still needed. */
static int gani_outlives_param(const gani_plan *plan, int id, int param) {
    const gan_graph *graph = plan->graph;
    for (int i = 0; i < graph->effect_count; i++) {
        const int effect = graph->effects[i];
        for (int k = 0; k < GANI_MAX_WRITTEN && effect > id && effect <= plan->last[id]; k++) {
            if (gani_effect_param(&graph->nodes[effect], k) == param) {
                return 1;
            }
        }
    }
    return 0;
}

static size_t gani_node_bytes(const gani_plan *plan, int id) {
    return gan_shape_count(gani_plan_node(plan, id)->shape) * sizeof(float);
}

/* The block that node id may take over from source k; -1 if it may not. */
static int gani_inplace_block(const gani_plan *plan, int id, int k) {
    const gani_node *node = gani_plan_node(plan, id);
    const unsigned flag = k == 0 ? GANI_FLAG_INPLACE : GANI_FLAG_INPLACE_1;
    if (!(gani_plan_flags(plan, id) & flag) || k >= node->source_count) {
        return -1;
    }
    const int block = plan->storage[gani_plan_source(plan, id, k)];
    if (block < 0 || plan->blocks[block].last != id ||
        plan->blocks[block].bytes != gani_node_bytes(plan, id)) {
        return -1;
    }
    for (int other = 0; other < node->source_count; other++) { /* may show the same memory */
        if (other != k && plan->storage[gani_plan_source(plan, id, other)] == block) {
            return -1;
        }
    }
    return block;
}

/* Gives node id a block of the arena, in place of a source if possible. */
static void gani_store_in_arena(gani_plan *plan, int id) {
    int block = gani_inplace_block(plan, id, 0);
    block = block >= 0 ? block : gani_inplace_block(plan, id, 1);
    if (block < 0) {
        block = plan->block_count++;
        plan->blocks[block].bytes = gani_node_bytes(plan, id);
        plan->blocks[block].first = id;
    }
    plan->blocks[block].last = plan->last[id] > id ? plan->last[id] : id;
    plan->storage[id] = block;
}

/* Decides where each value lives; blocks of the arena get their offsets later. Returns the bytes of
 * the folded ones. */
static size_t gani_assign_places(gani_plan *plan) {
    size_t constant_bytes = 0;
    for (int id = 0; id < plan->graph->node_count; id++) {
        const gani_node *node = gani_plan_node(plan, id);
        const unsigned flags = gani_plan_flags(plan, id);
        gani_place *place = &plan->places[id];
        plan->storage[id] = -1;
        if (!plan->needed[id]) {
            continue;
        }
        if (node->param >= 0) { /* a parameter, or an effect */
            place->kind = GANI_PLACE_PARAM;
            place->at = (size_t)node->param;
        } else if (flags & GANI_FLAG_LEAF) {
            place->kind = GANI_PLACE_INPUT;
            place->at = (size_t)node->attr.i[0];
        } else if (flags & GANI_FLAG_VIEW) {
            const int source = gani_plan_source(plan, id, 0);
            *place = plan->places[source];
            plan->storage[id] = plan->storage[source];
            plan->copied[id] =
                place->kind == GANI_PLACE_PARAM && gani_outlives_param(plan, id, (int)place->at);
            if (plan->copied[id]) {
                place->kind = GANI_PLACE_ARENA;
                gani_store_in_arena(plan, id);
            }
        } else if (plan->folded[id]) {
            place->kind = GANI_PLACE_CONSTANT;
            place->at = constant_bytes;
            constant_bytes += gani_round_up(gani_node_bytes(plan, id), GANI_ALIGN);
        } else {
            place->kind = GANI_PLACE_ARENA;
            gani_store_in_arena(plan, id);
        }
    }
    return constant_bytes;
}

/* Larger blocks first; at equal size the earlier. */
static int gani_compare_sizes(const void *a, const void *b) {
    const gani_storage *x = (const gani_storage *)a, *y = (const gani_storage *)b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : x->first - y->first;
}

static int gani_compare_times(const void *a, const void *b) {
    return ((const gani_storage *)a)->first - ((const gani_storage *)b)->first;
}

/* Room that a block takes. */
static size_t gani_block_room(const gani_storage *block) {
    return gani_round_up(block->bytes, GANI_ALIGN) + GANI_ARENA_GAP;
}

/* Which of the gaps that are wide enough a block gets. */
typedef enum gani_fit { GANI_FIT_TIGHTEST, GANI_FIT_LOWEST, GANI_FIT_HIGHEST } gani_fit;

/* Places block b within [0,capacity) beside those of the b blocks before it that live at the same
 * time, and enters it in plan->order. Returns where it ends, 0 if it does not fit. */
static size_t gani_pack_block(const gani_plan *plan, int b, size_t capacity, gani_fit fit) {
    gani_storage *block = &plan->blocks[b];
    const size_t need = gani_block_room(block);
    size_t top = 0;  /* where the gap looked at begins */
    size_t best = 0; /* width of the gap chosen, 0: none yet */
    for (int k = 0; k <= b; k++) {
        const gani_storage *other = k < b ? &plan->blocks[plan->order[k]] : NULL;
        if (other && (other->last < block->first || other->first > block->last)) {
            continue;
        }
        const size_t end = other ? other->offset : capacity;
        const size_t gap = end > top ? end - top : 0;
        if (gap >= need &&
            (best == 0 || fit == GANI_FIT_HIGHEST || (fit == GANI_FIT_TIGHTEST && gap < best))) {
            best = gap;
            block->offset = fit == GANI_FIT_HIGHEST ? end - need : top;
        }
        if (other && other->offset + gani_block_room(other) > top) {
            top = other->offset + gani_block_room(other);
        }
    }
    int i = b;
    for (; i > 0 && plan->blocks[plan->order[i - 1]].offset > block->offset; i--) {
        plan->order[i] = plan->order[i - 1];
    }
    plan->order[i] = b;
    return best != 0 ? block->offset + need : 0;
}

/* Places all blocks. Without a capacity (SIZE_MAX) largest first, each in the tightest gap, which
 * suits training. With one, in order of time, at the two ends by turns, which is the optimum for a
 * chain of layers. Returns the bytes used, 0 if they do not fit. */
static size_t gani_pack_blocks(const gani_plan *plan, size_t capacity) {
    const int by_size = capacity == SIZE_MAX;
    size_t used = 0, end = 1;
    qsort(plan->blocks, (size_t)plan->block_count, sizeof *plan->blocks,
          by_size ? gani_compare_sizes : gani_compare_times);
    for (int b = 0; b < plan->block_count && end != 0; b++) {
        end = gani_pack_block(plan, b, capacity,
                              by_size ? GANI_FIT_TIGHTEST
                              : b % 2 ? GANI_FIT_HIGHEST
                                      : GANI_FIT_LOWEST);
        used = end > used ? end : used;
    }
    return end != 0 ? used : 0;
}

/* What lives at the worst moment: no layout can do with less. */
static size_t gani_peak_bytes(const gani_plan *plan) {
    size_t peak = 0;
    for (int i = 0; i < plan->block_count; i++) {
        size_t live = 0;
        for (int k = 0; k < plan->block_count; k++) {
            const gani_storage *other = &plan->blocks[k];
            const int lives =
                other->first <= plan->blocks[i].first && other->last >= plan->blocks[i].first;
            live += lives ? gani_block_room(other) : 0;
        }
        peak = live > peak ? live : peak;
    }
    return peak;
}

/* Lays out the arena: the smaller of what the two ways of packing give. */
static gan_status gani_lay_out(const gani_plan *plan, gan_program *program) {
    const int tries = 4;
    const size_t used = gani_pack_blocks(plan, SIZE_MAX);
    if (used == 0 && plan->block_count != 0) {
        return gani_error(plan->graph->ctx, GAN_ERR_LIMIT,
                          "%s: intermediates exceed the address space", program->name);
    }
    const size_t peak = gani_peak_bytes(plan);
    size_t best = used == peak ? used : 0;
    for (int i = 0; i < tries && best == 0; i++) {
        const size_t more = (used - peak) / (size_t)tries * (size_t)i;
        const size_t capacity = peak + gani_round_up(more, GANI_ALIGN);
        best = capacity < used ? gani_pack_blocks(plan, capacity) : 0;
    }
    program->info.arena_bytes = best != 0 ? best : gani_pack_blocks(plan, SIZE_MAX);
    /* back in the order that plan->storage counts in */
    qsort(plan->blocks, (size_t)plan->block_count, sizeof *plan->blocks, gani_compare_times);
    for (int id = 1; id < plan->graph->node_count; id++) {
        if (plan->places[id].kind == GANI_PLACE_ARENA) {
            plan->places[id].at = plan->blocks[plan->storage[id]].offset;
        }
    }
    return GAN_OK;
}

/* --- steps --------------------------------------------------------------------- */

/* 1 if the node is work to do; folded selects between work done once and work of each run. */
static int gani_is_step(const gani_plan *plan, int id, int folded) {
    return plan->needed[id] && plan->folded[id] == folded &&
           (plan->graph->ops[gani_plan_node(plan, id)->op].run || plan->copied[id]);
}

/* Copies node id into the program, with the activation folded into it. */
static void gani_add_step(gan_program *program, const gani_plan *plan, int id) {
    const gan_graph *graph = plan->graph;
    gani_step *step = &program->steps[program->step_count++];
    step->node = graph->nodes[id];
    step->node.source_first = program->source_count;
    step->place = plan->places[id];
    if (plan->act[id] != 0) {
        const gani_attr *act = &graph->nodes[plan->act[id]].attr;
        step->node.attr.i[GANI_ATTR_ACT] = act->i[GANI_ATTR_ACT];
        step->node.attr.f[GANI_ATTR_SLOPE] = act->f[GANI_ATTR_SLOPE];
    }
    for (int k = 0; k < step->node.source_count; k++) {
        const int source = gani_plan_source(plan, id, k);
        program->source_places[program->source_count] = plan->places[source];
        program->source_shapes[program->source_count++] = graph->nodes[source].shape;
    }
}

/* Makes the steps: those of each run, or those that are done once. */
static void gani_add_steps(gan_program *program, const gani_plan *plan, int folded) {
    program->step_count = 0;
    program->source_count = 0;
    for (int id = 1; id < plan->graph->node_count; id++) {
        if (gani_is_step(plan, id, folded)) {
            gani_add_step(program, plan, id);
        }
    }
}

/* What the present steps cost. */
static void gani_measure_steps(gan_program *program, int folded) {
    gan_program_info *info = &program->info;
    for (int i = 0; i < program->step_count; i++) {
        const gani_node *node = &program->steps[i].node;
        const gani_op_row *row = &program->graph->ops[node->op];
        const gan_shape *shapes = program->source_shapes + node->source_first;
        const size_t workspace =
            row->workspace ? row->workspace(program->graph->ctx, node, shapes) : 0;
        info->workspace_bytes =
            workspace > info->workspace_bytes ? workspace : info->workspace_bytes;
        if (!folded) {
            info->ops++;
            info->multiply_adds += row->multiply_adds ? row->multiply_adds(node, shapes) : 0.0;
        }
    }
}

/* Tables of the right size for both kinds of steps. */
static gan_status gani_reserve_steps(gan_program *program, const gani_plan *plan) {
    gan_graph *graph = plan->graph;
    size_t steps = 1, sources = 1, inputs = 1; /* an empty program has tables too */
    for (int id = 1; id < graph->node_count; id++) {
        if (gani_is_step(plan, id, 0) || gani_is_step(plan, id, 1)) {
            steps++;
            sources += (size_t)graph->nodes[id].source_count;
        }
        inputs += plan->needed[id] && plan->places[id].kind == GANI_PLACE_INPUT;
    }
    program->steps = (gani_step *)gani_calloc(graph->ctx, steps, sizeof *program->steps);
    program->source_places =
        (gani_place *)gani_calloc(graph->ctx, sources, sizeof *program->source_places);
    program->source_shapes =
        (gan_shape *)gani_calloc(graph->ctx, sources, sizeof *program->source_shapes);
    program->source_data =
        (const float **)gani_calloc(graph->ctx, sources, sizeof *program->source_data);
    program->inputs = (int *)gani_calloc(graph->ctx, inputs, sizeof *program->inputs);
    return program->steps && program->source_places && program->source_shapes &&
                   program->source_data && program->inputs
               ? GAN_OK
               : GAN_ERR_MEMORY;
}

/* Inputs and parameters that the program touches: their bytes, and the list of inputs. */
static void gani_count_leaves(gan_program *program, const gani_plan *plan) {
    for (int id = 1; id < plan->graph->node_count; id++) {
        if (!plan->needed[id] || !(gani_plan_flags(plan, id) & GANI_FLAG_LEAF)) {
            continue;
        }
        if (gani_is_param(plan, id)) {
            program->info.param_bytes += gani_node_bytes(plan, id);
        } else {
            program->info.input_bytes += gani_node_bytes(plan, id);
            program->inputs[program->input_count++] = id;
        }
    }
}

/* --- running ------------------------------------------------------------------- */

static float *gani_place_data(const gan_program *program, const gani_place *place) {
    const gan_graph *graph = program->graph;
    switch (place->kind) {
    case GANI_PLACE_ARENA:
        return (float *)(void *)(graph->arena + place->at);
    case GANI_PLACE_CONSTANT:
        return (float *)(void *)(program->constants + place->at);
    case GANI_PLACE_PARAM:
        return graph->params->items[place->at].data;
    case GANI_PLACE_INPUT:
        return graph->inputs[place->at];
    case GANI_PLACE_NONE:
    default:
        return NULL;
    }
}

/* Opens a value of the arena to AddressSanitizer. */
static void gani_unpoison_place(const gan_program *program, const gani_place *place,
                                const gan_shape *shape) {
    if (place->kind == GANI_PLACE_ARENA) {
        GANI_UNPOISON(program->graph->arena + place->at, gan_shape_count(*shape) * sizeof(float));
    }
}

static int gani_all_finite(const float *data, size_t count) {
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &data[i], sizeof bits);
        found |= (bits & 0x7f800000u) == 0x7f800000u; /* exponent of infinities and NaN */
    }
    return found == 0;
}

/* Puts program and node in front of the context's message. */
static gan_status gani_step_error(const gan_program *program, gan_status status,
                                  const gani_node *node) {
    gan_context *ctx = program->graph->ctx;
    gani_prefix_error(ctx, status, gani_node_label(program->graph, node));
    return gani_prefix_error(ctx, status, program->name);
}

static gan_status gani_not_finite(const gan_program *program, const gani_node *node) {
    gani_error(program->graph->ctx, GAN_ERR_NUMERIC, "a value is not finite");
    return gani_step_error(program, GAN_ERR_NUMERIC, node);
}

static gan_status gani_check_result(const gan_program *program, const gani_step *step,
                                    const gani_run *run) {
    int finite = gani_all_finite(run->out, gan_shape_count(step->node.shape));
    for (int k = 1; k < GANI_MAX_WRITTEN; k++) {
        if (run->also[k - 1]) {
            const gani_param *param =
                &program->graph->params->items[gani_effect_param(&step->node, k)];
            finite = finite && gani_all_finite(param->data, gan_shape_count(param->shape));
        }
    }
    return finite ? GAN_OK : gani_not_finite(program, &step->node);
}

static gan_status gani_run_step(const gan_program *program, const gani_step *step) {
    gan_graph *graph = program->graph;
    const gani_op_row *row = &graph->ops[step->node.op];
    gan_status status = GAN_OK;
    gani_run run;
    run.node = &step->node;
    run.source = program->source_data + step->node.source_first;
    run.source_shape = program->source_shapes + step->node.source_first;
    run.out = gani_place_data(program, &step->place);
    run.seed = graph->params->seed;
    run.step = graph->params->step;
    for (int k = 1; k < GANI_MAX_WRITTEN; k++) {
        const int also = row->flags & GANI_FLAG_EFFECT ? gani_effect_param(&step->node, k) : -1;
        run.also[k - 1] = also >= 0 ? graph->params->items[also].data : NULL;
    }
    GANI_POISON(graph->arena, graph->arena_bytes);
    gani_unpoison_place(program, &step->place, &step->node.shape);
    for (int k = 0; k < step->node.source_count; k++) {
        gani_unpoison_place(program, &program->source_places[step->node.source_first + k],
                            &run.source_shape[k]);
    }
    if (row->run) {
        status = row->run(graph->ctx, &run);
    } else { /* a view that keeps a parameter's value */
        memcpy(run.out, run.source[0], gan_shape_count(step->node.shape) * sizeof(float));
    }
    if (status != GAN_OK) {
        return gani_step_error(program, status, &step->node);
    }
    return graph->ctx->check_finite ? gani_check_result(program, step, &run) : GAN_OK;
}

/* A clock, and where the time of each step is added; now NULL: none. */
typedef struct gani_timer {
    double (*now)(void *user);
    void *user;
    double *seconds;
} gani_timer;

static const gani_timer gani_no_timer = {NULL, NULL, NULL};

static gan_status gani_run_timed(const gan_program *program, int step, const gani_timer *timer) {
    const double start = timer->now ? timer->now(timer->user) : 0.0;
    const gan_status status = gani_run_step(program, &program->steps[step]);
    if (timer->now) {
        timer->seconds[step] += timer->now(timer->user) - start;
    }
    return status;
}

static gan_status gani_run_steps(const gan_program *program, const gani_timer *timer) {
    gan_status status = GAN_OK;
    for (int i = 0; i < program->source_count; i++) {
        program->source_data[i] = gani_place_data(program, &program->source_places[i]);
    }
    gani_float_mode mode = gani_flush_denormals();
    for (int i = 0; i < program->step_count && status == GAN_OK; i++) {
        status = gani_run_timed(program, i, timer);
    }
    gani_restore_float_mode(mode);
    GANI_POISON(program->graph->arena, program->graph->arena_bytes);
    for (int i = 0; i < program->output_count; i++) {
        const gani_output *output = &program->outputs[i];
        gani_unpoison_place(program, &output->place, &program->graph->nodes[output->id].shape);
    }
    return status;
}

/* --- programs -------------------------------------------------------------------- */

static void gani_plan_end(gani_plan *plan) {
    gan_context *ctx = plan->graph->ctx;
    gani_free(ctx, plan->needed);
    gani_free(ctx, plan->folded);
    gani_free(ctx, plan->copied);
    gani_free(ctx, plan->same);
    gani_free(ctx, plan->root);
    gani_free(ctx, plan->source_number);
    gani_free(ctx, plan->param_number);
    gani_free(ctx, plan->act);
    gani_free(ctx, plan->last);
    gani_free(ctx, plan->storage);
    gani_free(ctx, plan->blocks);
    gani_free(ctx, plan->order);
    gani_free(ctx, plan->places);
    gani_free(ctx, plan->table);
}

static gan_status gani_plan_begin(gani_plan *plan, gan_graph *graph) {
    const size_t nodes = (size_t)graph->node_count;
    gan_context *ctx = graph->ctx;
    memset(plan, 0, sizeof *plan);
    plan->graph = graph;
    plan->table_size = 64;
    while (plan->table_size < 2 * graph->node_count && plan->table_size <= INT_MAX / 2) {
        plan->table_size *= 2;
    }
    plan->needed = (unsigned char *)gani_calloc(ctx, nodes, 1);
    plan->folded = (unsigned char *)gani_calloc(ctx, nodes, 1);
    plan->copied = (unsigned char *)gani_calloc(ctx, nodes, 1);
    plan->same = (int *)gani_calloc(ctx, nodes, sizeof(int));
    plan->root = (int *)gani_calloc(ctx, nodes, sizeof(int));
    plan->source_number = (int *)gani_calloc(ctx, (size_t)graph->source_count + 1, sizeof(int));
    plan->param_number = (int *)gani_calloc(ctx, (size_t)graph->params->count + 1, sizeof(int));
    plan->act = (int *)gani_calloc(ctx, nodes, sizeof(int));
    plan->last = (int *)gani_calloc(ctx, nodes, sizeof(int));
    plan->storage = (int *)gani_calloc(ctx, nodes, sizeof(int));
    plan->blocks = (gani_storage *)gani_calloc(ctx, nodes, sizeof *plan->blocks);
    plan->order = (int *)gani_calloc(ctx, nodes, sizeof(int));
    plan->places = (gani_place *)gani_calloc(ctx, nodes, sizeof *plan->places);
    plan->table = (int *)gani_calloc(ctx, (size_t)plan->table_size, sizeof(int));
    if (!plan->needed || !plan->folded || !plan->copied || !plan->same || !plan->root ||
        !plan->source_number || !plan->param_number || !plan->act || !plan->last ||
        !plan->storage || !plan->blocks || !plan->order || !plan->places || !plan->table) {
        return GAN_ERR_MEMORY;
    }
    for (int id = 0; id < graph->node_count; id++) {
        plan->same[id] = id;
        plan->root[id] = id;
    }
    return GAN_OK;
}

/* The passes in order; fills program->info and the places of the outputs. */
static gan_status gani_plan_program(gani_plan *plan, gan_program *program) {
    gani_mark_needed(plan, program);
    gani_number_values(plan);
    gani_mark_needed(plan, program); /* again: what was equal to something earlier is dead now */
    gani_fuse_activations(plan, program, plan->order);
    gani_fold_constants(plan);
    gani_find_last_uses(plan, program);
    program->info.constant_bytes = gani_assign_places(plan);
    gan_status status = gani_lay_out(plan, program);
    if (status == GAN_OK) {
        status = gani_reserve_steps(program, plan);
    }
    if (status != GAN_OK) {
        return status;
    }
    gani_count_leaves(program, plan);
    gani_add_steps(program, plan, 1);
    gani_measure_steps(program, 1);
    gani_add_steps(program, plan, 0);
    gani_measure_steps(program, 0);
    for (int i = 0; i < program->output_count; i++) {
        program->outputs[i].place = plan->places[gani_same(plan, program->outputs[i].id)];
    }
    return GAN_OK;
}

static gan_status gani_reserve_arena(gan_graph *graph, size_t bytes) {
    if (bytes > graph->arena_bytes) {
        unsigned char *arena = (unsigned char *)gani_alloc(graph->ctx, bytes);
        if (!arena) {
            return GAN_ERR_MEMORY;
        }
        GANI_UNPOISON(graph->arena, graph->arena_bytes);
        gani_free(graph->ctx, graph->arena);
        graph->arena = arena;
        graph->arena_bytes = bytes;
    }
    return GAN_OK;
}

/* Takes the memory that running needs, and computes what is constant. */
static gan_status gani_program_prepare(gan_program *program, const gani_plan *plan) {
    gan_context *ctx = program->graph->ctx;
    const gan_program_info *info = &program->info;
    if (info->constant_bytes) {
        program->constants = (unsigned char *)gani_alloc(ctx, info->constant_bytes);
    }
    if ((info->constant_bytes && !program->constants) ||
        gani_reserve_arena(program->graph, info->arena_bytes) != GAN_OK ||
        !gani_workspace(ctx, info->workspace_bytes)) {
        return GAN_ERR_MEMORY;
    }
    gani_add_steps(program, plan, 1);
    gan_status status = gani_run_steps(program, &gani_no_timer);
    gani_add_steps(program, plan, 0);
    return status;
}

/* An empty program that knows its outputs. *out is set also on failure, to be destroyed. */
static gan_status gani_program_begin(gan_program **out, gan_graph *graph, const char *name,
                                     const gan_tensor *outputs, int count) {
    gan_program *program = (gan_program *)gani_calloc(graph->ctx, 1, sizeof *program);
    *out = program;
    if (!program) {
        return GAN_ERR_MEMORY;
    }
    program->graph = graph;
    graph->program_count++;
    program->name = gani_strdup(graph->ctx, name);
    program->outputs =
        (gani_output *)gani_calloc(graph->ctx, (size_t)count + 1, sizeof *program->outputs);
    if (!program->name || !program->outputs) {
        return GAN_ERR_MEMORY;
    }
    for (int i = 0; i < count; i++) {
        if (outputs[i].id <= 0 || outputs[i].id >= graph->node_count) {
            return gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                              "%s: output %d is not a tensor of this graph", name, i);
        }
        program->outputs[program->output_count++].id = outputs[i].id;
    }
    return GAN_OK;
}

/* Makes a program; prepare 0: its plan only. *out as above. */
static gan_status gani_program_make(gan_program **out, gan_graph *graph, const char *name,
                                    const gan_tensor *outputs, int count, int prepare) {
    gani_plan plan;
    *out = NULL;
    gan_status status = gan_graph_status(graph);
    if (status == GAN_OK) {
        status = gani_program_begin(out, graph, name, outputs, count);
    }
    if (status != GAN_OK) {
        return status;
    }
    status = gani_plan_begin(&plan, graph);
    if (status == GAN_OK) {
        status = gani_plan_program(&plan, *out);
    }
    if (status == GAN_OK && prepare) {
        status = gani_program_prepare(*out, &plan);
    }
    gani_plan_end(&plan);
    return status;
}

GAN_API gan_status gan_program_create(gan_program **out, gan_graph *graph, const char *name,
                                      const gan_tensor *outputs, int count) {
    gan_status status = gani_program_make(out, graph, name, outputs, count, 1);
    if (status != GAN_OK) {
        gan_program_destroy(*out);
        *out = NULL;
        return status;
    }
    graph->effect_count = 0; /* they are part of this program now */
    return GAN_OK;
}

GAN_API gan_status gan_program_measure(gan_graph *graph, const gan_tensor *outputs, int count,
                                       gan_program_info *info) {
    gan_program *program = NULL;
    gan_status status =
        gani_program_make(&program, graph, "gan_program_measure", outputs, count, 0);
    memset(info, 0, sizeof *info);
    if (status == GAN_OK) {
        *info = program->info;
    }
    gan_program_destroy(program);
    return status;
}

GAN_API void gan_program_destroy(gan_program *program) {
    if (program) {
        gan_graph *graph = program->graph;
        gan_context *ctx = graph->ctx;
        graph->program_count--;
        if (graph->program_count == 0) {
            GANI_UNPOISON(graph->arena, graph->arena_bytes);
        }
        gani_free(ctx, program->name);
        gani_free(ctx, program->steps);
        gani_free(ctx, program->source_places);
        gani_free(ctx, program->source_shapes);
        gani_free(ctx, program->source_data);
        gani_free(ctx, program->outputs);
        gani_free(ctx, program->inputs);
        gani_free(ctx, program->constants);
        gani_free(ctx, program);
    }
}

/* Checks the inputs and runs. */
static gan_status gani_program_run(gan_program *program, const gani_timer *timer) {
    gan_graph *graph = program->graph;
    for (int i = 0; i < program->input_count && graph->ctx->check_finite; i++) {
        const gani_node *input = &graph->nodes[program->inputs[i]];
        if (!gani_all_finite(graph->inputs[input->attr.i[0]], gan_shape_count(input->shape))) {
            return gani_not_finite(program, input);
        }
    }
    return gani_run_steps(program, timer);
}

GAN_API gan_status gan_program_run(gan_program *program) {
    return gani_program_run(program, &gani_no_timer);
}

GAN_API gan_status gan_program_time(gan_program *program, double (*clock_seconds)(void *user),
                                    void *user, double *seconds) {
    gani_timer timer;
    timer.now = clock_seconds;
    timer.user = user;
    timer.seconds = seconds;
    return gani_program_run(program, &timer);
}

GAN_API gan_op_info gan_program_op(const gan_program *program, int index) {
    gan_op_info info;
    memset(&info, 0, sizeof info);
    if (index >= 0 && index < program->step_count) {
        const gan_graph *graph = program->graph;
        const gani_node *node = &program->steps[index].node;
        const gan_shape *shapes = program->source_shapes + node->source_first;
        const gani_op_row *row = &graph->ops[node->op];
        info.op = row->name;
        info.name = graph->text + node->name;
        info.algorithm = gani_node_algorithm(graph->ctx, node, shapes);
        info.shape = node->shape;
        info.multiply_adds = row->multiply_adds ? row->multiply_adds(node, shapes) : 0.0;
        for (int k = 0; k < 2; k++) {
            info.source[k].rank = -1;
            if (k < node->source_count) {
                info.source[k] = shapes[k];
            }
        }
    }
    return info;
}

GAN_API const float *gan_program_output(const gan_program *program, gan_tensor output) {
    for (int i = 0; i < program->output_count; i++) {
        if (program->outputs[i].id == output.id) {
            return gani_place_data(program, &program->outputs[i].place);
        }
    }
    return NULL;
}

GAN_API gan_program_info gan_program_get_info(const gan_program *program) {
    return program->info;
}

/* ============================================================================
 * >>layers  6.1  NETWORKS' BUILDING BLOCKS OVER OPS
 *
 * Every layer does the same three things inside a scope of its name: make parameters, append ops,
 * and (batch norm while training) append effects that update buffers.
 *
 * Holds:  layers, attention windows.
 * Uses:   >>api-graph  >>nodes        Knows nothing of: losses, systems.
 * ========================================================================= */

GAN_API void gan_graph_set_mode(gan_graph *graph, unsigned mode) {
    graph->mode = mode;
}

/* 1 if the rank of x is from low to high; otherwise the graph gets an error that names the layer.
 * */
static int gani_check_rank(gan_graph *graph, gan_tensor x, int low, int high) {
    if (graph->status != GAN_OK) {
        return 0;
    }
    const gan_shape shape = gan_tensor_shape(graph, x);
    if (shape.rank < low || shape.rank > high) {
        const gani_shape_text found = gani_print_shape(&shape);
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_SHAPE,
                                     "layer %s: input must have rank %d to %d, found %s",
                                     graph->scope, low, high, found.text));
        return 0;
    }
    return 1;
}

static gan_init gani_init(gan_init_kind kind, double a, double b) {
    gan_init init;
    init.kind = kind;
    init.a = (float)a;
    init.b = (float)b;
    return init;
}

/* Uniform in +-1/sqrt(fan_in): what PyTorch's linear and convolution layers start from. */
static gan_init gani_init_fan_in(double fan_in) {
    const double bound = 1.0 / sqrt(fan_in);
    return gani_init(GAN_INIT_UNIFORM, -bound, bound);
}

static gan_layer_desc gani_layer_desc(const gan_layer_desc *given) {
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    if (given) {
        desc = *given;
    }
    desc.dilation = desc.dilation ? desc.dilation : 1;
    desc.groups = desc.groups ? desc.groups : 1;
    return desc;
}

/* A trained parameter of the layer whose scope is open; init NULL: standard. */
static gan_tensor gani_weight(gan_graph *graph, const char *key, gan_shape shape,
                              const gan_init *init, gan_init standard) {
    return gan_param(graph, key, shape, GAN_PARAM_WEIGHT, init ? *init : standard);
}

/* "bias" [units], or none. */
static gan_tensor gani_bias(gan_graph *graph, int units, const gan_layer_desc *desc,
                            gan_init standard) {
    gan_tensor none = {0};
    return desc->no_bias ? none
                         : gani_weight(graph, "bias", gan_shape1(units), desc->bias_init, standard);
}

/* --- linear, convolutions, embedding --------------------------------------- */

GAN_API gan_tensor gan_layer_linear(gan_graph *graph, const char *name, gan_tensor x, int units,
                                    const gan_layer_desc *given) {
    const gan_layer_desc desc = gani_layer_desc(given);
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 2, 2)) {
        const int in = gan_tensor_shape(graph, x).dim[1];
        const gan_init init = gani_init_fan_in(in);
        gan_tensor w = gani_weight(graph, "weight", gan_shape2(units, in), desc.weight_init, init);
        y = gan_linear(graph, x, w, gani_bias(graph, units, &desc, init));
    }
    gan_graph_pop(graph);
    return y;
}

static gan_conv_desc gani_layer_geometry(const gan_layer_desc *desc, int stride, int pad) {
    gan_conv_desc conv;
    memset(&conv, 0, sizeof conv);
    conv.stride_h = conv.stride_w = stride;
    conv.pad_h = conv.pad_w = pad;
    conv.dilation_h = conv.dilation_w = desc->dilation;
    conv.out_pad_h = conv.out_pad_w = desc->out_pad;
    conv.groups = desc->groups;
    conv.reflect = desc->reflect;
    return conv;
}

GAN_API gan_tensor gan_layer_conv(gan_graph *graph, const char *name, gan_tensor x, int channels,
                                  int kernel, int stride, int pad, const gan_layer_desc *given) {
    const gan_layer_desc desc = gani_layer_desc(given);
    const gan_conv_desc conv = gani_layer_geometry(&desc, stride, pad);
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 4, 4)) {
        const int in = gan_tensor_shape(graph, x).dim[1] / desc.groups;
        const gan_init init = gani_init_fan_in((double)in * kernel * kernel);
        gan_tensor w = gani_weight(graph, "weight", gan_shape4(channels, in, kernel, kernel),
                                   desc.weight_init, init);
        y = gan_conv2d(graph, x, w, gani_bias(graph, channels, &desc, init), &conv);
    }
    gan_graph_pop(graph);
    return y;
}

GAN_API gan_tensor gan_layer_conv_transpose(gan_graph *graph, const char *name, gan_tensor x,
                                            int channels, int kernel, int stride, int pad,
                                            const gan_layer_desc *given) {
    const gan_layer_desc desc = gani_layer_desc(given);
    const gan_conv_desc conv = gani_layer_geometry(&desc, stride, pad);
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 4, 4)) {
        const int in = gan_tensor_shape(graph, x).dim[1], out = channels / desc.groups;
        const gan_init init = gani_init_fan_in((double)out * kernel * kernel);
        gan_tensor w = gani_weight(graph, "weight", gan_shape4(in, out, kernel, kernel),
                                   desc.weight_init, init);
        y = gan_conv2d_transpose(graph, x, w, gani_bias(graph, channels, &desc, init), &conv);
    }
    gan_graph_pop(graph);
    return y;
}

GAN_API gan_tensor gan_layer_embedding(gan_graph *graph, const char *name, gan_tensor idx, int rows,
                                       int dim, const gan_layer_desc *given) {
    const gan_layer_desc desc = gani_layer_desc(given);
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, idx, 1, 1)) {
        gan_tensor table = gani_weight(graph, "weight", gan_shape2(rows, dim), desc.weight_init,
                                       gani_init(GAN_INIT_NORMAL, 0.0, 1.0));
        y = gan_gather_rows(graph, table, idx);
    }
    gan_graph_pop(graph);
    return y;
}

/* --- normalisation --------------------------------------------------------- */

static gan_norm_desc gani_norm_desc(const gan_norm_desc *given) {
    gan_norm_desc desc;
    memset(&desc, 0, sizeof desc);
    if (given) {
        desc = *given;
    }
    desc.eps = desc.eps != 0.0f ? desc.eps : 1e-5f;
    desc.momentum = desc.momentum != 0.0f ? desc.momentum : 0.1f;
    return desc;
}

/* "weight" and "bias" [c] of a norm for x [n,c,...], or none. */
typedef struct gani_affine {
    gan_tensor scale, shift;
} gani_affine;

static gani_affine gani_make_affine(gan_graph *graph, gan_tensor x, int wanted,
                                    const gan_norm_desc *desc) {
    gani_affine affine = {{0}, {0}};
    if (wanted) {
        const gan_shape channels = gan_shape1(gan_tensor_shape(graph, x).dim[1]);
        affine.scale = gani_weight(graph, "weight", channels, desc->scale_init,
                                   gani_init(GAN_INIT_CONSTANT, 1.0, 0.0));
        affine.shift = gani_weight(graph, "bias", channels, desc->shift_init,
                                   gani_init(GAN_INIT_CONSTANT, 0.0, 0.0));
    }
    return affine;
}

/* Row 0 (means) or 1 (variances) of moments [2,c], as [c]. */
static gan_tensor gani_moment(gan_graph *graph, gan_tensor moments, int row) {
    const int channels = gan_tensor_shape(graph, moments).dim[1];
    return gan_reshape(graph, gan_slice(graph, moments, 0, row, 1), gan_shape1(channels));
}

/* Moments [2,c] of the batch x, of which the running statistics take their share unless the mode
 * forbids it; or those statistics themselves. */
static gan_tensor gani_batch_moments(gan_graph *graph, gan_tensor x, float momentum) {
    const gan_shape shape = gan_tensor_shape(graph, x);
    const int c = shape.dim[1];
    const double samples = (double)(gan_shape_count(shape) / (size_t)c); /* behind each variance */
    gan_tensor mean = gan_param(graph, "running_mean", gan_shape1(c), GAN_PARAM_BUFFER,
                                gani_init(GAN_INIT_CONSTANT, 0.0, 0.0));
    gan_tensor var = gan_param(graph, "running_var", gan_shape1(c), GAN_PARAM_BUFFER,
                               gani_init(GAN_INIT_CONSTANT, 1.0, 0.0));
    if (graph->mode & GAN_MODE_RUNNING_STATS) {
        gan_tensor rows[2];
        rows[0] = gan_reshape(graph, mean, gan_shape2(1, c));
        rows[1] = gan_reshape(graph, var, gan_shape2(1, c));
        return gan_concat(graph, rows, 2, 0);
    }
    if (samples < 2.0) {
        const gani_shape_text found = gani_print_shape(&shape);
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_SHAPE,
                                     "layer %s: batch norm needs more than one value a channel, "
                                     "found %s",
                                     graph->scope, found.text));
    }
    gan_tensor moments = gan_moments(graph, x, GAN_NORM_BATCH);
    if (!(graph->mode & GAN_MODE_KEEP_STATS)) {
        const float unbias = (float)(samples / (samples - 1.0));
        gan_tensor unbiased = gan_affine(graph, gani_moment(graph, moments, 1), unbias, 0.0f);
        gan_assign_lerp(graph, mean, gani_moment(graph, moments, 0), momentum);
        gan_assign_lerp(graph, var, unbiased, momentum);
    }
    return moments;
}

GAN_API gan_tensor gan_layer_batch_norm(gan_graph *graph, const char *name, gan_tensor x,
                                        const gan_norm_desc *given) {
    const gan_norm_desc desc = gani_norm_desc(given);
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 2, GAN_MAX_RANK)) {
        const gani_affine affine = gani_make_affine(graph, x, !desc.no_affine, &desc);
        gan_tensor moments = gani_batch_moments(graph, x, desc.momentum);
        y = gan_normalize(graph, x, moments, affine.scale, affine.shift, GAN_NORM_BATCH, desc.eps);
    }
    gan_graph_pop(graph);
    return y;
}

/* Instance and layer norm: statistics of the sample itself, in training and use alike. */
static gan_tensor gani_sample_norm(gan_graph *graph, const char *name, gan_tensor x,
                                   gan_norm_kind kind, int affine, const gan_norm_desc *desc) {
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 2, GAN_MAX_RANK)) {
        const gani_affine used = gani_make_affine(graph, x, affine, desc);
        y = gan_normalize(graph, x, gan_moments(graph, x, kind), used.scale, used.shift, kind,
                          desc->eps);
    }
    gan_graph_pop(graph);
    return y;
}

GAN_API gan_tensor gan_layer_instance_norm(gan_graph *graph, const char *name, gan_tensor x,
                                           const gan_norm_desc *given) {
    const gan_norm_desc desc = gani_norm_desc(given);
    return gani_sample_norm(graph, name, x, GAN_NORM_INSTANCE, desc.affine, &desc);
}

GAN_API gan_tensor gan_layer_layer_norm(gan_graph *graph, const char *name, gan_tensor x,
                                        const gan_norm_desc *given) {
    const gan_norm_desc desc = gani_norm_desc(given);
    return gani_sample_norm(graph, name, x, GAN_NORM_LAYER, !desc.no_affine, &desc);
}

/* --- activations, dropout, maxout ------------------------------------------ */

GAN_API gan_tensor gan_relu(gan_graph *graph, gan_tensor x) {
    return gan_activate(graph, x, GAN_ACT_LEAKY_RELU, 0.0f);
}

GAN_API gan_tensor gan_leaky_relu(gan_graph *graph, gan_tensor x, float slope) {
    return gan_activate(graph, x, GAN_ACT_LEAKY_RELU, slope);
}

GAN_API gan_tensor gan_tanh(gan_graph *graph, gan_tensor x) {
    return gan_activate(graph, x, GAN_ACT_TANH, 0.0f);
}

GAN_API gan_tensor gan_sigmoid(gan_graph *graph, gan_tensor x) {
    return gan_activate(graph, x, GAN_ACT_SIGMOID, 0.0f);
}

GAN_API gan_tensor gan_layer_prelu(gan_graph *graph, const char *name, gan_tensor x,
                                   int per_channel) {
    gan_tensor y = {0};
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 2, GAN_MAX_RANK)) {
        const int slopes = per_channel ? gan_tensor_shape(graph, x).dim[1] : 1;
        y = gan_prelu(graph, x,
                      gani_weight(graph, "weight", gan_shape1(slopes), NULL,
                                  gani_init(GAN_INIT_CONSTANT, 0.25, 0.0)));
    }
    gan_graph_pop(graph);
    return y;
}

GAN_API gan_tensor gan_layer_maxout(gan_graph *graph, const char *name, gan_tensor x, int units,
                                    int pieces, const gan_layer_desc *desc) {
    gan_tensor y = gan_layer_linear(graph, name, x, units * pieces, desc);
    const int n = gan_tensor_shape(graph, x).dim[0];
    y = gan_max_over(graph, gan_reshape(graph, y, gan_shape3(n, units, pieces)), 1u << 2);
    return gan_reshape(graph, y, gan_shape2(n, units));
}

GAN_API gan_tensor gan_layer_dropout(gan_graph *graph, gan_tensor x, float p, int channelwise) {
    return graph->mode & GAN_MODE_KEEP_ALL_UNITS ? x : gan_dropout(graph, x, p, channelwise);
}

/* --- recurrence ------------------------------------------------------------ */

/* One gate [n,units] of gates [n,4*units]. */
static gan_tensor gani_lstm_gate(gan_graph *graph, gan_tensor gates, int index, int units,
                                 gan_activation act) {
    return gan_activate(graph, gan_slice(graph, gates, 1, index * units, units), act, 0.0f);
}

GAN_API void gan_layer_lstm(gan_graph *graph, const char *name, gan_tensor x, int units,
                            gan_tensor *h, gan_tensor *c, const gan_layer_desc *given) {
    const gan_layer_desc desc = gani_layer_desc(given);
    gan_graph_push(graph, name);
    if (gani_check_rank(graph, x, 2, 2)) {
        const int in = gan_tensor_shape(graph, x).dim[1];
        const gan_init init = gani_init_fan_in(units);
        const gan_shape bias_shape = gan_shape1(4 * units);
        gan_tensor none = {0}, bias_ih = none, bias_hh = none;
        gan_tensor w_ih =
            gani_weight(graph, "weight_ih", gan_shape2(4 * units, in), desc.weight_init, init);
        gan_tensor w_hh =
            gani_weight(graph, "weight_hh", gan_shape2(4 * units, units), desc.weight_init, init);
        if (!desc.no_bias) {
            bias_ih = gani_weight(graph, "bias_ih", bias_shape, desc.bias_init, init);
            bias_hh = gani_weight(graph, "bias_hh", bias_shape, desc.bias_init, init);
        }
        gan_tensor gates = gan_linear(graph, x, w_ih, bias_ih);
        if (h->id) {
            gates = gan_add(graph, gates, gan_linear(graph, *h, w_hh, bias_hh));
        } else if (bias_hh.id) {
            gates = gan_add(graph, gates, bias_hh);
        }
        gan_tensor input = gani_lstm_gate(graph, gates, 0, units, GAN_ACT_SIGMOID);
        gan_tensor forget = gani_lstm_gate(graph, gates, 1, units, GAN_ACT_SIGMOID);
        gan_tensor candidate = gani_lstm_gate(graph, gates, 2, units, GAN_ACT_TANH);
        gan_tensor output = gani_lstm_gate(graph, gates, 3, units, GAN_ACT_SIGMOID);
        gan_tensor next = gan_mul(graph, input, candidate);
        *c = c->id ? gan_add(graph, gan_mul(graph, forget, *c), next) : next;
        *h = gan_mul(graph, output, gan_tanh(graph, *c));
    }
    gan_graph_pop(graph);
}

/* --- attention ------------------------------------------------------------- */

/* 0, step, 2*step ... as a constant [1,count,1] or [1,1,count]: an input that is filled once. */
static gan_tensor gani_ramp(gan_graph *graph, gan_shape shape, int count, double first,
                            double step) {
    gan_tensor ramp = gan_input(graph, "ramp", shape);
    float *data = graph->status == GAN_OK ? gan_input_data(graph, ramp) : NULL;
    for (int i = 0; data && i < count; i++) {
        data[i] = (float)(first + i * step);
    }
    return ramp;
}

/* Filters [n,size,extent] for one direction. centre, delta, scale = -1/(2 sigma^2): [n,1,1]. */
static gan_tensor gani_attention_filters(gan_graph *graph, gan_tensor centre, gan_tensor delta,
                                         gan_tensor scale, int size, int extent, double offset) {
    gan_tensor steps = gani_ramp(graph, gan_shape3(1, size, 1), size, 0.5 - 0.5 * size, 1.0);
    gan_tensor pixels = gani_ramp(graph, gan_shape3(1, 1, extent), extent, offset, 1.0);
    gan_tensor centres = gan_add(graph, centre, gan_mul(graph, steps, delta));
    gan_tensor distance = gan_square(graph, gan_sub(graph, pixels, centres));
    gan_tensor filters = gan_exp(graph, gan_mul(graph, distance, scale));
    gan_tensor total = gan_sum(graph, filters, 1u << 2);
    gan_tensor floor_value =
        gan_constant(graph, gan_shape0(), 1e-8f); /* a window that lies far outside the image */
    return gan_div(graph, filters, gan_maximum(graph, total, floor_value));
}

GAN_API gan_attention gan_attention_window(gan_graph *graph, gan_tensor where, int size, int h,
                                           int w, float offset) {
    gan_attention window = {{0}, {0}, {0}};
    if (!gani_check_rank(graph, where, 2, 2)) {
        return window;
    }
    const int n = gan_tensor_shape(graph, where).dim[0];
    gan_tensor part[5];
    for (int i = 0; i < 5; i++) {
        part[i] = gan_reshape(graph, gan_slice(graph, where, 1, i, 1), gan_shape3(n, 1, 1));
    }
    const float half_w = 0.5f * (float)(w + 1), half_h = 0.5f * (float)(h + 1);
    const float spread = (float)((h > w ? h : w) - 1) / (float)(size > 1 ? size - 1 : 1);
    gan_tensor gx = gan_affine(graph, part[0], half_w, half_w);
    gan_tensor gy = gan_affine(graph, part[1], half_h, half_h);
    gan_tensor scale =
        gan_affine(graph, gan_exp(graph, gan_affine(graph, part[2], -1.0f, 0.0f)), -0.5f, 0.0f);
    gan_tensor delta = gan_affine(graph, gan_exp(graph, part[3]), spread, 0.0f);
    window.fx = gani_attention_filters(graph, gx, delta, scale, size, w, (double)offset);
    window.fy = gani_attention_filters(graph, gy, delta, scale, size, h, (double)offset);
    window.gamma = gan_reshape(graph, gan_exp(graph, part[4]), gan_shape4(n, 1, 1, 1));
    return window;
}

/* Filters [n,a,b] repeated for each channel: [n,c,a,b]. */
static gan_tensor gani_for_channels(gan_graph *graph, gan_tensor filters, int c) {
    const gan_shape s = gan_tensor_shape(graph, filters);
    gan_tensor one = gan_reshape(graph, filters, gan_shape4(s.dim[0], 1, s.dim[1], s.dim[2]));
    return c == 1 ? one : gan_broadcast(graph, one, gan_shape4(s.dim[0], c, s.dim[1], s.dim[2]));
}

/* fy x fx^T, or (transpose 1) fy^T x fx; x [n,c,...]. */
static gan_tensor gani_attention_apply(gan_graph *graph, const gan_attention *window, gan_tensor x,
                                       int transpose) {
    const int c = gan_tensor_shape(graph, x).dim[1];
    gan_tensor fx = gani_for_channels(graph, window->fx, c),
               fy = gani_for_channels(graph, window->fy, c);
    return gan_matmul(graph, gan_matmul(graph, fy, x, transpose, 0), fx, 0, !transpose);
}

GAN_API gan_tensor gan_attention_read(gan_graph *graph, const gan_attention *window, gan_tensor x) {
    return gan_mul(graph, gani_attention_apply(graph, window, x, 0), window->gamma);
}

GAN_API gan_tensor gan_attention_write(gan_graph *graph, const gan_attention *window,
                                       gan_tensor x) {
    return gan_div(graph, gani_attention_apply(graph, window, x, 1), window->gamma);
}

/* ============================================================================
 * >>losses  6.2  LOSSES OVER OPS
 *
 * Holds:  scalars to be minimised, one formula each.
 * Uses:   >>api-graph        Knows nothing of: systems.
 * ========================================================================= */

GAN_API gan_tensor gan_loss_bce(gan_graph *graph, gan_tensor logit, float target) {
    gan_tensor targets = gan_constant(graph, gan_shape0(), target);
    return gan_mean(graph, gan_bce_logits(graph, logit, targets), GAN_ALL_AXES);
}

GAN_API gan_tensor gan_loss_least_squares(gan_graph *graph, gan_tensor score, float target) {
    return gan_mean(graph, gan_square(graph, gan_affine(graph, score, 1.0f, -target)),
                    GAN_ALL_AXES);
}

GAN_API gan_tensor gan_loss_wasserstein(gan_graph *graph, gan_tensor score, int high) {
    return gan_affine(graph, gan_mean(graph, score, GAN_ALL_AXES), high ? -1.0f : 1.0f, 0.0f);
}

GAN_API gan_tensor gan_loss_hinge(gan_graph *graph, gan_tensor score, int high) {
    gan_tensor margin = gan_affine(graph, score, high ? -1.0f : 1.0f, 1.0f);
    return gan_mean(graph, gan_activate(graph, margin, GAN_ACT_LEAKY_RELU, 0.0f), GAN_ALL_AXES);
}

GAN_API gan_tensor gan_loss_mse(gan_graph *graph, gan_tensor x, gan_tensor y) {
    return gan_mean(graph, gan_square(graph, gan_sub(graph, x, y)), GAN_ALL_AXES);
}

GAN_API gan_tensor gan_loss_l1(gan_graph *graph, gan_tensor x, gan_tensor y) {
    return gan_mean(graph, gan_abs(graph, gan_sub(graph, x, y)), GAN_ALL_AXES);
}

GAN_API gan_tensor gan_loss_cross_entropy(gan_graph *graph, gan_tensor logit, gan_tensor label) {
    const gan_shape shape = gan_tensor_shape(graph, logit);
    gan_tensor chosen = gan_one_hot(graph, label, shape.dim[1]);
    gan_tensor total =
        gan_sum(graph, gan_mul(graph, gan_log_softmax(graph, logit), chosen), GAN_ALL_AXES);
    return gan_affine(graph, total, -1.0f / (float)shape.dim[0], 0.0f);
}

GAN_API gan_tensor gan_loss_gaussian_nll(gan_graph *graph, gan_tensor x, gan_tensor mean,
                                         gan_tensor log_var) {
    gan_tensor precision = gan_exp(graph, gan_affine(graph, log_var, -1.0f, 0.0f));
    gan_tensor distance = gan_mul(graph, gan_square(graph, gan_sub(graph, x, mean)), precision);
    const float constant = 0.918938533f; /* log(2 pi)/2 */
    return gan_affine(graph, gan_mean(graph, gan_add(graph, log_var, distance), GAN_ALL_AXES), 0.5f,
                      constant);
}

GAN_API gan_tensor gan_loss_kl_normal(gan_graph *graph, gan_tensor mean, gan_tensor log_var) {
    const int n = gan_tensor_shape(graph, mean).dim[0];
    gan_tensor spread = gan_sub(graph, gan_exp(graph, log_var), log_var);
    gan_tensor terms =
        gan_add(graph, gan_square(graph, mean), gan_affine(graph, spread, 1.0f, -1.0f));
    return gan_affine(graph, gan_sum(graph, terms, GAN_ALL_AXES), 0.5f / (float)n, 0.0f);
}

GAN_API gan_tensor gan_loss_gradient_penalty(gan_graph *graph, gan_tensor score, gan_tensor x) {
    gan_tensor gradient = {0};
    gan_grad(graph, gan_sum(graph, score, GAN_ALL_AXES), &x, 1, &gradient);
    const unsigned all_but_first = ((1u << gan_tensor_shape(graph, x).rank) - 1u) & ~1u;
    gan_tensor squares = gan_sum(graph, gan_square(graph, gradient), all_but_first);
    gan_tensor norm = gan_sqrt(
        graph, gan_affine(graph, squares, 1.0f, 1e-12f)); /* slope of sqrt at 0 is infinite */
    return gan_loss_least_squares(graph, norm, 1.0f);
}

/* ============================================================================
 * >>optimisers  6.3  UPDATES OVER OPS
 *
 * gan_minimise appends the gradients of a loss and one effect for each parameter. What an
 * optimiser remembers is itself a parameter (GAN_PARAM_STATE) named after the one it belongs to,
 * "adam.generator.main.0.weight.m", so that a checkpoint holds it, and made here, so that a
 * checkpoint can be restored before the first step.
 *
 * Holds:  choice of parameters, clipping, decay, averages, the three rules.
 * Uses:   >>api-graph  >>nodes  >>ops        Knows nothing of: systems.
 * ========================================================================= */

static gan_optimiser gani_optimiser(gan_optimiser_kind kind) {
    gan_optimiser optimiser;
    memset(&optimiser, 0, sizeof optimiser);
    optimiser.kind = kind;
    optimiser.eps = 1e-8f;
    return optimiser;
}

GAN_API gan_optimiser gan_sgd(float momentum) {
    gan_optimiser optimiser = gani_optimiser(GAN_SGD);
    optimiser.momentum = momentum;
    return optimiser;
}

GAN_API gan_optimiser gan_adam(float beta1, float beta2) {
    gan_optimiser optimiser = gani_optimiser(GAN_ADAM);
    optimiser.beta1 = beta1;
    optimiser.beta2 = beta2;
    return optimiser;
}

GAN_API gan_optimiser gan_rmsprop(float alpha) {
    gan_optimiser optimiser = gani_optimiser(GAN_RMSPROP);
    optimiser.alpha = alpha;
    return optimiser;
}

/* What gan_minimise works on: parameters, and a gradient for each. */
typedef struct gani_update {
    gan_graph *graph;
    const gan_optimiser *rule;
    const char *name;           /* first part of the names of the state */
    gan_tensor *params, *grads; /* [count] */
    int count;
} gani_update;

/* 1 if the name begins with one of the prefixes, which are separated by blanks, or if there is
 * none at all. */
static int gani_fits_prefixes(const char *name, const char *prefixes) {
    int any = 0;
    for (;;) {
        prefixes += strspn(prefixes, " ");
        const size_t length = strcspn(prefixes, " ");
        if (length == 0) {
            return !any;
        }
        if (strncmp(name, prefixes, length) == 0) {
            return 1;
        }
        any = 1;
        prefixes += length;
    }
}

/* Node of parameter `index` of the store in this graph; {0} if the graph does not use it. */
static gan_tensor gani_param_node(const gan_graph *graph, int index) {
    gan_tensor tensor = {0};
    tensor.id = index < graph->param_node_capacity ? graph->param_nodes[index] : 0;
    return tensor;
}

static const gani_param *gani_tensor_param(const gan_graph *graph, gan_tensor param) {
    return &graph->params->items[graph->nodes[param.id].param];
}

/* State "name.owner.suffix", zero at first; {0} with an error if this graph updates it already. */
static gan_tensor gani_state(const gani_update *update, const char *owner, const char *suffix,
                             gan_shape shape) {
    gan_graph *graph = update->graph;
    char name[GANI_MAX_NAME];
    gan_tensor none = {0};
    if (graph->status != GAN_OK) {
        return none;
    }
    const int length = snprintf(name, sizeof name, "%s.%s%s", update->name, owner, suffix);
    if (length < 0 || length >= (int)sizeof name) {
        gani_stick(graph,
                   gani_error(graph->ctx, GAN_ERR_LIMIT, "state of %s: name longer than %d bytes",
                              owner, GANI_MAX_NAME - 1));
        return none;
    }
    const int index = gani_params_index(graph->params, name);
    if (index >= 0 && gani_param_node(graph, index).id) {
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                                     "%s is updated already: a second optimiser of the same "
                                     "parameters needs a name of its own",
                                     name));
        return none;
    }
    return gan_param(graph, name, shape, GAN_PARAM_STATE, gani_init(GAN_INIT_CONSTANT, 0.0, 0.0));
}

/* --- choice of parameters -------------------------------------------------- */

/* 1 if parameter `index` of the store is of the kind and fits, the graph uses it, and it is no
 * average of another one. */
static int gani_is_chosen(const gan_graph *graph, int index, gan_param_kind kind,
                          const char *prefixes) {
    const gani_param *param = &graph->params->items[index];
    return param->kind == kind && gani_param_node(graph, index).id &&
           strncmp(param->name, "ema.", 4) != 0 && gani_fits_prefixes(param->name, prefixes);
}

/* Fills update->params with the trained parameters that fit, or only counts them (params NULL). */
static void gani_collect_params(gani_update *update, const char *prefixes) {
    update->count = 0;
    for (int i = 0; i < update->graph->params->count; i++) {
        const gan_tensor node = gani_param_node(update->graph, i);
        if (gani_is_chosen(update->graph, i, GAN_PARAM_WEIGHT, prefixes)) {
            if (update->params) {
                update->params[update->count] = node;
            }
            update->count++;
        }
    }
}

/* --- changes of gradients and weights -------------------------------------- */

static gan_tensor gani_square_sum(gan_graph *graph, gan_tensor x) {
    return gan_sum(graph, gan_square(graph, x), GAN_ALL_AXES);
}

/* All gradients times min(1, limit/(norm + 1e-6)), norm over all of them:
 * torch.nn.utils.clip_grad_norm_. */
static void gani_clip_together(const gani_update *update, float limit) {
    gan_graph *graph = update->graph;
    gan_tensor total = gani_square_sum(graph, update->grads[0]);
    for (int i = 1; i < update->count; i++) {
        total = gan_add(graph, total, gani_square_sum(graph, update->grads[i]));
    }
    gan_tensor norm = gan_affine(graph, gan_sqrt(graph, total), 1.0f, 1e-6f);
    gan_tensor scale = gan_div(graph, gan_constant(graph, gan_shape0(), limit), norm);
    scale = gan_minimum(graph, scale, gan_constant(graph, gan_shape0(), 1.0f));
    for (int i = 0; i < update->count; i++) {
        update->grads[i] = gan_mul(graph, update->grads[i], scale);
    }
}

/* Each gradient times limit/max(norm, limit): tf.clip_by_norm. */
static void gani_clip_each(const gani_update *update, float limit) {
    gan_graph *graph = update->graph;
    gan_tensor most = gan_constant(graph, gan_shape0(), limit);
    for (int i = 0; i < update->count; i++) {
        gan_tensor norm = gan_sqrt(graph, gani_square_sum(graph, update->grads[i]));
        gan_tensor scale = gan_div(graph, most, gan_maximum(graph, norm, most));
        update->grads[i] = gan_mul(graph, update->grads[i], scale);
    }
}

static void gani_clip_weights(const gani_update *update, float limit) {
    for (int i = 0; i < update->count; i++) {
        gan_tensor clipped = gan_clamp(update->graph, update->params[i], -limit, limit);
        gan_assign(update->graph, update->params[i], clipped);
    }
}

/* "ema.NAME" of one parameter, equal to it when new. */
static gan_tensor gani_average(gan_graph *graph, const gani_param *param) {
    char name[GANI_MAX_NAME + 4];
    gan_tensor none = {0};
    if (graph->status != GAN_OK) {
        return none;
    }
    snprintf(name, sizeof name, "ema.%s", param->name);
    const float *values = param->data; /* the store's array may move, the data do not */
    const gan_shape shape = param->shape;
    const int known = gani_params_index(graph->params, name) >= 0;
    gan_tensor average =
        gan_param(graph, name, shape, param->kind, gani_init(GAN_INIT_CONSTANT, 0.0, 0.0));
    if (!known && average.id) {
        memcpy(gani_tensor_param(graph, average)->data, values,
               gan_shape_count(shape) * sizeof(float));
    }
    return average;
}

/* Averages of the weights and copies of the buffers, under the same names behind "ema.". */
static void gani_average_all(gan_graph *graph, const char *prefixes, float decay) {
    const int count = graph->params->count; /* without the averages made here */
    for (int i = 0; i < count && graph->status == GAN_OK; i++) {
        const gani_param *param = &graph->params->items[i];
        const gan_tensor node = gani_param_node(graph, i);
        if (gani_is_chosen(graph, i, GAN_PARAM_WEIGHT, prefixes)) {
            gan_assign_lerp(graph, gani_average(graph, param), node, 1.0f - decay);
        } else if (gani_is_chosen(graph, i, GAN_PARAM_BUFFER, prefixes)) {
            gan_assign(graph, gani_average(graph, param), node);
        }
    }
}

/* --- the rules ------------------------------------------------------------- */

/* Appends the update of parameter i; steps: Adam's count of steps. */
static void gani_update_param(const gani_update *update, int i, gan_tensor lr, gan_tensor steps) {
    gan_graph *graph = update->graph;
    const gan_optimiser *rule = update->rule;
    const gan_tensor param = update->params[i], grad = update->grads[i];
    if (graph->status != GAN_OK) {
        return;
    }
    const char *owner =
        gani_tensor_param(graph, param)->name; /* stays where it is when the store grows */
    const gan_shape shape = gani_tensor_param(graph, param)->shape;
    switch (rule->kind) {
    case GAN_SGD: {
        gan_tensor velocity = {0};
        if (rule->momentum != 0.0f) {
            velocity = gani_state(update, owner, ".v", shape);
        }
        gani_sgd_op(graph, param, grad, lr, velocity, rule->momentum, rule->nesterov,
                    rule->weight_decay);
        break;
    }
    case GAN_ADAM: {
        gan_tensor m = gani_state(update, owner, ".m", shape);
        gan_tensor v = gani_state(update, owner, ".v", shape);
        gani_adam_op(graph, param, grad, m, v, steps, lr, rule->beta1, rule->beta2, rule->eps,
                     rule->weight_decay);
        break;
    }
    case GAN_RMSPROP: {
        gan_tensor v = gani_state(update, owner, ".v", shape);
        gani_rmsprop_op(graph, param, grad, lr, v, rule->alpha, rule->eps, rule->weight_decay);
        break;
    }
    }
}

/* Adam's count of steps, one more from here on: state "adam.generator.step". */
static gan_tensor gani_count_steps(const gani_update *update, const char *prefixes) {
    char owner[GANI_MAX_NAME];
    prefixes += strspn(prefixes, " ");
    snprintf(owner, sizeof owner, "%.*s", (int)strcspn(prefixes, " "), prefixes);
    gan_tensor steps = gani_state(update, owner, "step", gan_shape0());
    gan_assign(update->graph, steps, gan_affine(update->graph, steps, 1.0f, 1.0f));
    return steps;
}

static void gani_append_updates(gani_update *update, gan_tensor loss, const char *prefixes,
                                gan_tensor lr) {
    gan_graph *graph = update->graph;
    const gan_optimiser *rule = update->rule;
    gan_tensor steps = {0};
    gan_grad(graph, loss, update->params, update->count, update->grads);
    if (rule->clip_norm > 0.0f) {
        gani_clip_together(update, rule->clip_norm);
    }
    if (rule->clip_each_norm > 0.0f) {
        gani_clip_each(update, rule->clip_each_norm);
    }
    if (rule->kind == GAN_ADAM) {
        steps = gani_count_steps(update, prefixes);
    }
    for (int i = 0; i < update->count; i++) {
        gani_update_param(update, i, lr, steps);
    }
    if (rule->clip_weights > 0.0f) {
        gani_clip_weights(update, rule->clip_weights);
    }
    if (rule->ema_decay > 0.0f) {
        gani_average_all(graph, prefixes, rule->ema_decay);
    }
}

GAN_API void gan_minimise(gan_graph *graph, gan_tensor loss, const char *prefixes, gan_tensor lr,
                          const gan_optimiser *optimiser) {
    static const char *const names[] = {"sgd", "adam", "rmsprop"};
    gani_update update;
    if (graph->status != GAN_OK) {
        return;
    }
    memset(&update, 0, sizeof update);
    update.graph = graph;
    update.rule = optimiser;
    update.name = optimiser->name ? optimiser->name : names[optimiser->kind];
    gani_collect_params(&update, prefixes);
    if (update.count == 0) {
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_ARGUMENT,
                                     "gan_minimise: no parameter of this graph begins with \"%s\"",
                                     prefixes));
        return;
    }
    update.params =
        (gan_tensor *)gani_calloc(graph->ctx, (size_t)update.count, 2 * sizeof *update.params);
    if (!update.params) {
        gani_stick(graph, GAN_ERR_MEMORY);
        return;
    }
    update.grads = update.params + update.count;
    gani_collect_params(&update, prefixes);
    gani_append_updates(&update, loss, prefixes, lr);
    gani_free(graph->ctx, update.params);
}

/* ============================================================================
 * >>images  7.1  PGM, PPM, PAM, PNG; RESIZING, GRIDS
 *
 * Reading: the whole file comes into memory, a cursor walks over it, and nothing is allocated
 * for the samples before the header's numbers are checked and the file is long enough to hold
 * them. Samples are kept as the file has them (16 bits, with the file's maxval), so that
 * label maps are exact.
 *
 * Resizing works on one axis at a time: the image is seen as [outer,n,inner], and
 *   out[o,x,e] = sum over k of in[o, first[x] + k, e] * weight[x,k]
 * with weights of 22 fractional bits that sum to one. Nearest neighbour is the case of one
 * weight. This is Pillow's scheme (Pillow 9.4, src/libImaging/Resample.c), rounding
 * included: width first, rounded to samples, then height.
 *
 * PNG: the filter of each row is the one with the smallest sum of absolute differences (PNG
 * specification, 12.8); the stream is LZ77 with hash chains and deflate's fixed codes (RFC 1951).
 *
 * Holds:  files (reading, writing by a temporary one), images.
 * Uses:   >>platform        Knows nothing of: tensors, datasets.
 * ========================================================================= */

/* --- files ----------------------------------------------------------------- */

/* Puts "path: " in front of the context's message. */
static gan_status gani_error_in(gan_context *ctx, gan_status status, const char *path) {
    char text[sizeof ctx->error];
    memcpy(text, ctx->error, sizeof text);
    return gani_error(ctx, status, "%s: %s", path, text);
}

/* The three texts as one, to be freed by the caller. */
static char *gani_concat(gan_context *ctx, const char *a, const char *b, const char *c) {
    const size_t m = strlen(a), n = strlen(b), size_bytes = m + n + strlen(c) + 1;
    char *text = (char *)gani_alloc(ctx, size_bytes);
    if (text) {
        memcpy(text, a, m);
        memcpy(text + m, b, n);
        memcpy(text + m + n, c, size_bytes - m - n);
    }
    return text;
}

/* Reads a whole file into a block that the caller frees. By chunks, so that pipes work too. */
static gan_status gani_read_file(gan_context *ctx, const char *path, unsigned char **bytes,
                                 size_t *size_bytes) {
    const int chunk = 1 << 16;
    void *block = NULL;
    int capacity = 0, used = 0;
    FILE *file = fopen(path, "rb");
    if (!file) {
        return gani_error(ctx, GAN_ERR_FILE, "cannot open %s: %s", path, strerror(errno));
    }
    gan_status status = GAN_OK;
    while (!status) {
        if (used > INT_MAX - chunk) {
            status = gani_error(ctx, GAN_ERR_LIMIT, "%s: more than 2 GiB", path);
        } else if (!gani_grow(ctx, &block, &capacity, used + chunk, 1)) {
            status = GAN_ERR_MEMORY;
        } else {
            size_t got = fread((unsigned char *)block + used, 1, (size_t)(capacity - used), file);
            used += (int)got;
            if (used < capacity) {
                break;
            }
        }
    }
    if (!status && ferror(file)) {
        status = gani_error(ctx, GAN_ERR_FILE, "cannot read %s: %s", path, strerror(errno));
    }
    fclose(file);
    if (status) {
        gani_free(ctx, block);
        return status;
    }
    *bytes = (unsigned char *)block;
    *size_bytes = (size_t)used;
    return GAN_OK;
}

/* A file in the making: written under another name, renamed when whole. The first error sticks. */
typedef struct gani_writer {
    gan_context *ctx;
    const char *path;
    char *temporary;
    FILE *file;
    gan_status status;
} gani_writer;

static gan_status gani_writer_fail(gani_writer *out, const char *what) {
    if (!out->status) {
        out->status = gani_error(out->ctx, GAN_ERR_FILE, "cannot %s %s: %s", what, out->path,
                                 errno ? strerror(errno) : "unknown reason");
    }
    return out->status;
}

static gan_status gani_writer_open(gani_writer *out, gan_context *ctx, const char *path) {
    memset(out, 0, sizeof *out);
    out->ctx = ctx;
    out->path = path;
    out->temporary = gani_concat(ctx, path, ".tmp", "");
    if (!out->temporary) {
        return out->status = GAN_ERR_MEMORY;
    }
    errno = 0;
    out->file = fopen(out->temporary, "wb");
    return out->file ? GAN_OK : gani_writer_fail(out, "create");
}

static void gani_writer_put(gani_writer *out, const void *bytes, size_t size_bytes) {
    errno = 0;
    if (!out->status && fwrite(bytes, 1, size_bytes, out->file) != size_bytes) {
        gani_writer_fail(out, "write");
    }
}

/* Ends the file: whole under its own name, or gone. Must follow every gani_writer_open, also a
 * failed one. */
static gan_status gani_writer_close(gani_writer *out) {
    if (out->file) {
        errno = 0;
        if (fclose(out->file) != 0) {
            gani_writer_fail(out, "write");
        }
#ifdef _WIN32
        if (!out->status) { /* rename does not replace a file there */
            remove(out->path);
        }
#endif
        if (!out->status && rename(out->temporary, out->path) != 0) {
            gani_writer_fail(out, "rename the finished file to");
        }
        if (out->status) {
            remove(out->temporary);
        }
    }
    gani_free(out->ctx, out->temporary);
    return out->status;
}

static int gani_lower(int c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

/* 1 if the name ends so; ending in small letters, the name in any. */
static int gani_ends_with(const char *name, const char *ending) {
    size_t length = strlen(name), size = strlen(ending);
    if (length < size) {
        return 0;
    }
    for (size_t i = 0; i < size; i++) {
        if (gani_lower((unsigned char)name[length - size + i]) != ending[i]) {
            return 0;
        }
    }
    return 1;
}

/* --- reading images -------------------------------------------------------- */

typedef struct gani_cursor {
    gan_context *ctx;
    const unsigned char *start, *at, *end;
} gani_cursor;

static size_t gani_left(const gani_cursor *in) {
    return (size_t)(in->end - in->at);
}

/* "WHAT expected, found ..." at the place of the cursor. */
static gan_status gani_expected(const gani_cursor *in, const char *what) {
    unsigned long offset = (unsigned long)(in->at - in->start);
    if (in->at == in->end) {
        return gani_error(in->ctx, GAN_ERR_FORMAT,
                          "%s expected, found the end of the file (%lu bytes)", what, offset);
    }
    return gani_error(in->ctx, GAN_ERR_FORMAT, "%s expected at byte %lu, found 0x%02x", what,
                      offset, (unsigned)*in->at);
}

static int gani_is_space(unsigned char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int gani_is_digit(unsigned char c) {
    return c >= '0' && c <= '9';
}

/* Past the end of the line. */
static void gani_skip_line(gani_cursor *in) {
    while (in->at < in->end && *in->at != '\n' && *in->at != '\r') {
        in->at++;
    }
    if (in->at < in->end) {
        in->at++;
    }
}

/* White space and comments, which go from # to the end of the line. */
static void gani_skip_space(gani_cursor *in) {
    while (in->at < in->end && (*in->at == '#' || gani_is_space(*in->at))) {
        if (*in->at == '#') {
            gani_skip_line(in);
        } else {
            in->at++;
        }
    }
}

/* A decimal number of at most max (below 2^28, so that nothing overflows). */
static gan_status gani_read_number(gani_cursor *in, const char *what, unsigned max,
                                   unsigned *value) {
    gani_skip_space(in);
    if (in->at == in->end || !gani_is_digit(*in->at)) {
        return gani_expected(in, what);
    }
    unsigned number = 0;
    for (; in->at < in->end && gani_is_digit(*in->at); in->at++) {
        number = number * 10 + (unsigned)(*in->at - '0');
        if (number > max) {
            return gani_error(in->ctx, GAN_ERR_FORMAT,
                              "%s of at most %u expected before byte %lu, found more", what, max,
                              (unsigned long)(in->at - in->start));
        }
    }
    *value = number;
    return GAN_OK;
}

#define GANI_MAX_EXTENT 0xfffffffu /* of an image: beyond any GAN_MAX_PIXELS that is sensible */

/* Sets width, height, maxval; P1 and P4 have no maxval. */
static gan_status gani_pnm_header(gani_cursor *in, int kind, gan_image *image) {
    unsigned width, height, maxval = 1;
    if (in->at < in->end && *in->at != '#' && !gani_is_space(*in->at)) {
        return gani_expected(in, "white space after the magic number");
    }
    gan_status status = gani_read_number(in, "width", GANI_MAX_EXTENT, &width);
    if (!status) {
        status = gani_read_number(in, "height", GANI_MAX_EXTENT, &height);
    }
    if (!status && kind != 1 && kind != 4) {
        status = gani_read_number(in, "maxval", 65535, &maxval);
    }
    if (status) {
        return status;
    }
    image->width = (int)width;
    image->height = (int)height;
    image->channels = kind == 3 || kind == 6 ? 3 : 1;
    image->maxval = (int)maxval;
    if (kind >= 4) { /* one separator, then bytes */
        if (in->at < in->end && *in->at == '#') {
            gani_skip_line(in);
        } else if (in->at < in->end && gani_is_space(*in->at)) {
            in->at++;
        } else {
            return gani_expected(in, "white space after the header");
        }
    }
    return GAN_OK;
}

/* 1 if the cursor stands at this word, followed by white space; moves past the word. */
static int gani_take_word(gani_cursor *in, const char *word) {
    size_t length = strlen(word);
    if (gani_left(in) > length && memcmp(in->at, word, length) == 0 &&
        gani_is_space(in->at[length])) {
        in->at += length;
        return 1;
    }
    return 0;
}

/* PAM: lines "WIDTH 3" in any order up to ENDHDR. The tuple type is not needed: the depth says as
 * much. */
static gan_status gani_pam_header(gani_cursor *in, gan_image *image) {
    static const char *const words[4] = {"WIDTH", "HEIGHT", "DEPTH", "MAXVAL"};
    static const unsigned limits[4] = {GANI_MAX_EXTENT, GANI_MAX_EXTENT, GANI_MAX_EXTENT, 65535};
    unsigned values[4] = {0, 0, 0, 0};
    for (;;) {
        gani_skip_space(in);
        if (gani_take_word(in, "ENDHDR")) {
            gani_skip_line(in);
            break;
        }
        if (gani_take_word(in, "TUPLTYPE")) {
            gani_skip_line(in);
            continue;
        }
        int field = 0;
        while (field < 4 && !gani_take_word(in, words[field])) {
            field++;
        }
        if (field == 4) {
            return gani_expected(in, "WIDTH, HEIGHT, DEPTH, MAXVAL, TUPLTYPE or ENDHDR");
        }
        gan_status status = gani_read_number(in, words[field], limits[field], &values[field]);
        if (status) {
            return status;
        }
    }
    for (int field = 0; field < 4; field++) {
        if (values[field] == 0) {
            return gani_error(in->ctx, GAN_ERR_FORMAT,
                              "PAM header: %s of at least 1 expected, found none", words[field]);
        }
    }
    if (values[2] > 4) {
        return gani_error(in->ctx, GAN_ERR_UNSUPPORTED, "PAM of 1 to 4 channels expected, found %u",
                          values[2]);
    }
    image->width = (int)values[0];
    image->height = (int)values[1];
    image->channels = (int)values[2];
    image->maxval = (int)values[3];
    return GAN_OK;
}

static size_t gani_image_count(const gan_image *image) {
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels;
}

static gan_status gani_check_image_size(gan_context *ctx, const gan_image *image) {
    if (image->width < 1 || image->height < 1 || image->maxval < 1) {
        return gani_error(
            ctx, GAN_ERR_FORMAT,
            "image of at least 1 x 1 with maxval of at least 1 expected, found %d x %d, maxval %d",
            image->width, image->height, image->maxval);
    }
    if ((size_t)image->width > (size_t)GAN_MAX_PIXELS / (size_t)image->height) {
        return gani_error(ctx, GAN_ERR_LIMIT,
                          "image of at most %lu pixels (GAN_MAX_PIXELS) expected, found %d x %d",
                          (unsigned long)GAN_MAX_PIXELS, image->width, image->height);
    }
    return GAN_OK;
}

/* Checks the sizes and allocates the samples. */
static gan_status gani_image_allocate(gan_context *ctx, gan_image *image) {
    gan_status status = gani_check_image_size(ctx, image);
    if (status) {
        return status;
    }
    image->samples =
        (uint16_t *)gani_alloc(ctx, gani_mul(gani_image_count(image), sizeof(uint16_t)));
    return image->samples ? GAN_OK : GAN_ERR_MEMORY;
}

/* P1, P2, P3. The digits of P1 may stand without space between them. */
static gan_status gani_read_ascii(gani_cursor *in, int kind, gan_image *image) {
    const size_t count = gani_image_count(image);
    for (size_t i = 0; i < count; i++) {
        unsigned value = 0;
        if (kind == 1) {
            gani_skip_space(in);
            if (in->at == in->end || (*in->at != '0' && *in->at != '1')) {
                return gani_expected(in, "0 or 1");
            }
            value = *in->at++ == '0';
        } else {
            gan_status status = gani_read_number(in, "sample", (unsigned)image->maxval, &value);
            if (status) {
                return status;
            }
        }
        image->samples[i] = (uint16_t)value;
    }
    return GAN_OK;
}

/* P4: eight pixels a byte, the leftmost in the highest bit, rows start at a byte; 1 is black. */
static void gani_read_bits(gani_cursor *in, gan_image *image) {
    for (int y = 0; y < image->height; y++) {
        for (int x = 0; x < image->width; x++) {
            int bit = in->at[x / 8] >> (7 - x % 8) & 1;
            image->samples[(size_t)y * (size_t)image->width + (size_t)x] = (uint16_t)!bit;
        }
        in->at += ((size_t)image->width + 7) / 8;
    }
}

/* P5, P6, P7: one byte a sample, or two (the high one first) where maxval is above 255. */
static gan_status gani_read_binary(gani_cursor *in, gan_image *image) {
    const size_t count = gani_image_count(image);
    for (size_t i = 0; i < count; i++) {
        unsigned value = *in->at++;
        if (image->maxval > 255) {
            value = value << 8 | *in->at++;
        }
        if (value > (unsigned)image->maxval) {
            return gani_error(in->ctx, GAN_ERR_FORMAT,
                              "samples of at most %d (maxval) expected, found %u", image->maxval,
                              value);
        }
        image->samples[i] = (uint16_t)value;
    }
    return GAN_OK;
}

/* The bytes that the samples need at least in the file; 0 if that overflows. */
static size_t gani_raster_bytes(const gan_image *image, int kind) {
    const size_t row = gani_mul((size_t)image->width, (size_t)image->channels);
    const size_t samples = gani_mul(row, (size_t)image->height);
    switch (kind) {
    case 1:
        return samples;
    case 2:
    case 3:
        return gani_mul(samples, 2) ? gani_mul(samples, 2) - 1 : 0; /* a digit and a separator */
    case 4:
        return gani_mul((row + 7) / 8, (size_t)image->height);
    default:
        return image->maxval > 255 ? gani_mul(samples, 2) : samples;
    }
}

static gan_status gani_read_samples(gani_cursor *in, int kind, gan_image *image) {
    const size_t need = gani_raster_bytes(image, kind);
    gan_status status = gani_check_image_size(in->ctx, image);
    if (status) {
        return status;
    }
    if (need == 0 || need > gani_left(in)) {
        return gani_error(
            in->ctx, GAN_ERR_FORMAT,
            "%d x %d image of %d channels, maxval %d: %s%lu bytes of samples expected, found %lu",
            image->width, image->height, image->channels, image->maxval,
            kind <= 3 ? "at least " : "", (unsigned long)need, (unsigned long)gani_left(in));
    }
    status = gani_image_allocate(in->ctx, image);
    if (status) {
        return status;
    }
    if (kind <= 3) {
        return gani_read_ascii(in, kind, image);
    }
    if (kind == 4) {
        gani_read_bits(in, image);
        return GAN_OK;
    }
    return gani_read_binary(in, image);
}

GAN_API void gan_image_free(gan_context *ctx, gan_image *image) {
    gani_free(ctx, image->samples);
    memset(image, 0, sizeof *image);
}

GAN_API gan_status gan_image_decode(gan_context *ctx, const void *bytes, size_t size_bytes,
                                    gan_image *image) {
    gani_cursor in;
    in.ctx = ctx;
    in.start = in.at = (const unsigned char *)bytes;
    in.end = in.start + size_bytes;
    memset(image, 0, sizeof *image);
    if (size_bytes < 2 || in.at[0] != 'P' || in.at[1] < '1' || in.at[1] > '7') {
        const int other =
            size_bytes >= 4 &&
            (memcmp(in.at, "\x89PNG", 4) == 0 || memcmp(in.at, "\xff\xd8\xff", 3) == 0 ||
             memcmp(in.at, "GIF8", 4) == 0 || memcmp(in.at, "RIFF", 4) == 0);
        return other ? gani_error(ctx, GAN_ERR_UNSUPPORTED,
                                  "PBM, PGM, PPM or PAM expected, found PNG, JPEG, GIF or WebP; "
                                  "convert it first")
                     : gani_error(ctx, GAN_ERR_FORMAT,
                                  "PBM, PGM, PPM or PAM (P1 ... P7) expected, found another file "
                                  "of %lu bytes",
                                  (unsigned long)size_bytes);
    }
    const int kind = in.at[1] - '0';
    in.at += 2;
    gan_status status = kind == 7 ? gani_pam_header(&in, image) : gani_pnm_header(&in, kind, image);
    if (!status) {
        status = gani_read_samples(&in, kind, image);
    }
    if (status) {
        gan_image_free(ctx, image);
    }
    return status;
}

GAN_API gan_status gan_image_load(gan_context *ctx, const char *path, gan_image *image) {
    unsigned char *bytes;
    size_t size_bytes;
    memset(image, 0, sizeof *image);
    gan_status status = gani_read_file(ctx, path, &bytes, &size_bytes);
    if (status) {
        return status;
    }
    status = gan_image_decode(ctx, bytes, size_bytes, image);
    gani_free(ctx, bytes);
    return status ? gani_error_in(ctx, status, path) : GAN_OK;
}

/* --- changing images ------------------------------------------------------- */

/* A new image of other extents takes the place of the old one's samples. */
static void gani_image_replace(gan_context *ctx, gan_image *image, const gan_image *with) {
    gani_free(ctx, image->samples);
    *image = *with;
}

GAN_API gan_status gan_image_convert(gan_context *ctx, gan_image *image, int channels) {
    if (channels != 1 && channels != 3) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_image_convert: 1 or 3 channels expected, found %d", channels);
    }
    if (channels == image->channels) {
        return GAN_OK;
    }
    gan_image result = *image;
    result.channels = channels;
    gan_status status = gani_image_allocate(ctx, &result);
    if (status) {
        return status;
    }
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    const int step = image->channels, colours = step >= 3 ? 3 : 1;
    const uint32_t maxval = (uint32_t)image->maxval;
    const uint16_t *in = image->samples; /* [pixels,step] */
    uint16_t *out = result.samples;      /* [pixels,channels] */
    for (size_t p = 0; p < pixels; p++, in += step, out += channels) {
        uint32_t rgb[3];
        for (int c = 0; c < 3; c++) {
            rgb[c] = in[c < colours ? c : 0];
            if (step != colours) { /* value * alpha + white * (1 - alpha) */
                uint32_t alpha = in[colours];
                rgb[c] = (uint32_t)(((uint64_t)rgb[c] * alpha +
                                     (uint64_t)maxval * (maxval - alpha) + maxval / 2) /
                                    maxval);
            }
        }
        if (channels ==
            1) { /* the factors sum to 2^16, so this fits 32 bits and a grey stays itself */
            out[0] =
                (uint16_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
        } else {
            for (int c = 0; c < 3; c++) {
                out[c] = (uint16_t)rgb[c];
            }
        }
    }
    gani_image_replace(ctx, image, &result);
    return GAN_OK;
}

/* Weights of a resized axis: result x is made of count[x] samples from first[x] on. */
typedef struct gani_taps {
    int32_t *first, *count; /* [out] */
    int32_t *weight;        /* [out,stride], GANI_TAP_ONE is 1 */
    size_t stride;
} gani_taps;

#define GANI_TAP_BITS 22
#define GANI_TAP_ONE  ((int32_t)1 << GANI_TAP_BITS)

static void gani_bilinear_taps(gani_taps *taps, int in, int out, double support, double *triangle) {
    const double scale = (double)in / (double)out;
    for (int x = 0; x < out; x++) {
        const double centre = (x + 0.5) * scale;
        int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
        first = first < 0 ? 0 : first;
        last = last > in ? in : last;
        double sum = 0.0;
        for (int k = 0; k < last - first; k++) {
            double distance = fabs((k + first - centre + 0.5) * (1.0 / support));
            triangle[k] = distance < 1.0 ? 1.0 - distance : 0.0;
            sum += triangle[k];
        }
        for (int k = 0; k < last - first; k++) {
            taps->weight[(size_t)x * taps->stride + (size_t)k] =
                (int32_t)(0.5 + triangle[k] / sum * GANI_TAP_ONE);
        }
        taps->first[x] = first;
        taps->count[x] = last - first;
    }
}

/* Computes the weights in one block, which the caller frees by `first`. */
static gan_status gani_make_taps(gan_context *ctx, gani_taps *taps, int in, int out,
                                 gan_filter filter) {
    const double scale = (double)in / (double)out;
    const double support = scale > 1.0 ? scale : 1.0; /* half the width of the triangle */
    const size_t width = (size_t)out;
    taps->stride = filter == GAN_FILTER_NEAREST ? 1 : (size_t)ceil(support) * 2 + 1;
    const size_t numbers =
        gani_round_up(gani_sum(gani_mul(width, 2), gani_mul(width, taps->stride)), 2);
    unsigned char *block = (unsigned char *)gani_alloc(
        ctx, gani_sum(gani_mul(numbers, sizeof(int32_t)), gani_mul(taps->stride, sizeof(double))));
    if (!block) {
        return GAN_ERR_MEMORY;
    }
    taps->first = (int32_t *)(void *)block;
    taps->count = taps->first + width;
    taps->weight = taps->count + width;
    if (filter != GAN_FILTER_NEAREST) {
        gani_bilinear_taps(taps, in, out, support,
                           (double *)(void *)(block + numbers * sizeof(int32_t)));
        return GAN_OK;
    }
    for (int x = 0; x < out; x++) {
        taps->first[x] = (int32_t)((2 * (int64_t)x + 1) * in / (2 * (int64_t)out));
        taps->count[x] = 1;
        taps->weight[x] = GANI_TAP_ONE;
    }
    return GAN_OK;
}

/* in [outer,n,inner] -> out [outer,width,inner]; samples are clamped to maxval, as rounded weights
 * may sum to a little over one. */
static void gani_apply_taps(const gani_taps *taps, const uint16_t *in, uint16_t *out, size_t outer,
                            size_t n, size_t width, size_t inner, int maxval) {
    for (size_t o = 0; o < outer; o++) {
        for (size_t x = 0; x < width; x++) {
            const int32_t *weight = taps->weight + x * taps->stride;
            const uint16_t *from = in + (o * n + (size_t)taps->first[x]) * inner;
            uint16_t *to = out + (o * width + x) * inner;
            for (size_t e = 0; e < inner; e++) {
                int64_t sum = GANI_TAP_ONE / 2;
                for (int k = 0; k < taps->count[x]; k++) {
                    sum += (int64_t)from[(size_t)k * inner + e] * weight[k];
                }
                sum >>= GANI_TAP_BITS;
                to[e] = (uint16_t)(sum < maxval ? sum : maxval);
            }
        }
    }
}

/* Brings one axis to `size`: height if vertical, else width. */
static gan_status gani_resize_axis(gan_context *ctx, gan_image *image, int vertical, int size,
                                   gan_filter filter) {
    const int n = vertical ? image->height : image->width;
    if (n == size) {
        return GAN_OK;
    }
    gan_image result = *image;
    if (vertical) {
        result.height = size;
    } else {
        result.width = size;
    }
    gani_taps taps;
    gan_status status = gani_image_allocate(ctx, &result);
    if (status) {
        return status;
    }
    status = gani_make_taps(ctx, &taps, n, size, filter);
    if (status) {
        gan_image_free(ctx, &result);
        return status;
    }
    const size_t inner = (size_t)image->channels * (vertical ? (size_t)image->width : 1);
    gani_apply_taps(&taps, image->samples, result.samples, vertical ? 1 : (size_t)image->height,
                    (size_t)n, (size_t)size, inner, image->maxval);
    gani_free(ctx, taps.first);
    gani_image_replace(ctx, image, &result);
    return GAN_OK;
}

GAN_API gan_status gan_image_resize(gan_context *ctx, gan_image *image, int width, int height,
                                    gan_filter filter) {
    if (width < 1 || height < 1) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_image_resize: size of at least 1 x 1 expected, found %d x %d", width,
                          height);
    }
    gan_status status = gani_resize_axis(ctx, image, 0, width, filter);
    return status ? status : gani_resize_axis(ctx, image, 1, height, filter);
}

GAN_API gan_status gan_image_crop(gan_context *ctx, gan_image *image, int left, int top, int width,
                                  int height) {
    if (left < 0 || top < 0 || width < 1 || height < 1 || left > image->width - width ||
        top > image->height - height) {
        return gani_error(
            ctx, GAN_ERR_ARGUMENT,
            "gan_image_crop: rectangle inside %d x %d expected, found %d x %d at (%d, %d)",
            image->width, image->height, width, height, left, top);
    }
    const size_t channels = (size_t)image->channels;
    const size_t row = (size_t)width * channels;
    for (int y = 0; y < height; y++) {
        size_t from = ((size_t)(top + y) * (size_t)image->width + (size_t)left) * channels;
        memmove(image->samples + (size_t)y * row, image->samples + from, row * sizeof(uint16_t));
    }
    image->width = width;
    image->height = height;
    return GAN_OK;
}

static unsigned char gani_to_byte(unsigned sample, int maxval) {
    unsigned white = (unsigned)maxval;
    return (unsigned char)((sample * 255u + white / 2) / white);
}

/* --- PNG ------------------------------------------------------------------- */

/* CRC-32 of PNG and zlib, four bits at a time; start with 0. */
static uint32_t gani_crc32(uint32_t crc, const unsigned char *bytes, size_t size_bytes) {
    static const uint32_t table[16] = {0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu,
                                       0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
                                       0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
                                       0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    crc = ~crc;
    for (size_t i = 0; i < size_bytes; i++) {
        crc ^= bytes[i];
        crc = table[crc & 15u] ^ (crc >> 4);
        crc = table[crc & 15u] ^ (crc >> 4);
    }
    return ~crc;
}

static uint32_t gani_adler32(const unsigned char *bytes, size_t size_bytes) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < size_bytes;) {
        size_t stop = size_bytes - i > 5552 ? i + 5552 : size_bytes; /* so many sums fit 32 bits */
        for (; i < stop; i++) {
            a += bytes[i];
            b += a;
        }
        a %= 65521u;
        b %= 65521u;
    }
    return b << 16 | a;
}

static void gani_put_be32(unsigned char *out, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        out[i] = (unsigned char)(value >> (24 - 8 * i));
    }
}

static void gani_png_chunk(gani_writer *out, const char *type, const unsigned char *data,
                           size_t size_bytes) {
    unsigned char head[8], tail[4];
    gani_put_be32(head, (uint32_t)size_bytes);
    memcpy(head + 4, type, 4);
    gani_put_be32(tail, gani_crc32(gani_crc32(0, head + 4, 4), data, size_bytes));
    gani_writer_put(out, head, sizeof head);
    gani_writer_put(out, data, size_bytes);
    gani_writer_put(out, tail, sizeof tail);
}

/* Bits on their way into IDAT chunks. */
typedef struct gani_bit_writer {
    gani_writer *out;
    uint32_t bits; /* not yet written, the first in the lowest */
    int bit_count;
    int used;           /* bytes of the chunk, after the place for its number */
    uint32_t *sequence; /* number of the next chunk of an animation; NULL for its first frame */
    unsigned char chunk[4 + 8192];
} gani_bit_writer;

/* Writes what has gathered: as IDAT, or as fdAT, which begins with a number. */
static void gani_end_chunk(gani_bit_writer *to) {
    if (to->sequence) {
        gani_put_be32(to->chunk, (*to->sequence)++);
        gani_png_chunk(to->out, "fdAT", to->chunk, 4 + (size_t)to->used);
    } else {
        gani_png_chunk(to->out, "IDAT", to->chunk + 4, (size_t)to->used);
    }
    to->used = 0;
}

static void gani_put_byte(gani_bit_writer *to, unsigned byte) {
    if (4 + to->used == (int)sizeof to->chunk) {
        gani_end_chunk(to);
    }
    to->chunk[4 + to->used++] = (unsigned char)byte;
}

/* At most 16 bits, the lowest first. */
static void gani_put_bits(gani_bit_writer *to, unsigned value, int count) {
    to->bits |= (uint32_t)value << to->bit_count;
    to->bit_count += count;
    while (to->bit_count >= 8) {
        gani_put_byte(to, to->bits & 255u);
        to->bits >>= 8;
        to->bit_count -= 8;
    }
}

/* Huffman codes go with their highest bit first. */
static void gani_put_code(gani_bit_writer *to, unsigned code, int count) {
    unsigned reversed = 0;
    for (int i = 0; i < count; i++) {
        reversed |= (code >> i & 1u) << (count - 1 - i);
    }
    gani_put_bits(to, reversed, count);
}

/* Fixed code of a literal (0 to 255), the end (256) or a length (257 to 285): RFC 1951, 3.2.6. */
static void gani_put_symbol(gani_bit_writer *to, unsigned symbol) {
    if (symbol < 144) {
        gani_put_code(to, 0x30 + symbol, 8);
    } else if (symbol < 256) {
        gani_put_code(to, 0x190 + symbol - 144, 9);
    } else if (symbol < 280) {
        gani_put_code(to, symbol - 256, 7);
    } else {
        gani_put_code(to, 0xc0 + symbol - 280, 8);
    }
}

/* A value >= base of a table of RFC 1951, 3.2.5: row r starts at base and its rows come in groups
 * of `group` with one more extra bit each. Returns the row and gives the extra bits. */
static int gani_bucket(unsigned value, unsigned first, int group, int *extra_count,
                       unsigned *extra) {
    unsigned base = first;
    for (int row = 0;; row++) {
        int bits = row < 2 * group ? 0 : row / group - 1;
        if (value - base < 1u << bits) {
            *extra_count = bits;
            *extra = value - base;
            return row;
        }
        base += 1u << bits;
    }
}

/* Repeats `length` (3 to 258) bytes from `distance` (1 to 32768) back. */
static void gani_put_match(gani_bit_writer *to, unsigned length, unsigned distance) {
    int extra_count;
    unsigned extra;
    if (length == 258) { /* a symbol of its own, without extra bits */
        gani_put_symbol(to, 285);
    } else {
        gani_put_symbol(to, 257 + (unsigned)gani_bucket(length, 3, 4, &extra_count, &extra));
        gani_put_bits(to, extra, extra_count);
    }
    gani_put_code(to, (unsigned)gani_bucket(distance, 1, 2, &extra_count, &extra), 5);
    gani_put_bits(to, extra, extra_count);
}

#define GANI_LZ_WINDOW 32768 /* also the number of hash values */
#define GANI_LZ_TRIES  48    /* candidates looked at for a match */

/* Positions of earlier strings: head by hash of three bytes, chained by prev; plus 1, so that 0 is
 * "none". */
typedef struct gani_lz {
    uint32_t head[GANI_LZ_WINDOW], prev[GANI_LZ_WINDOW];
} gani_lz;

static void gani_lz_insert(gani_lz *lz, const unsigned char *data, size_t at) {
    uint32_t three =
        (uint32_t)data[at] | (uint32_t)data[at + 1] << 8 | (uint32_t)data[at + 2] << 16;
    uint32_t hash = three * 0x9E3779B1u >> 17;
    lz->prev[at % GANI_LZ_WINDOW] = lz->head[hash];
    lz->head[hash] = (uint32_t)at + 1;
}

/* Longest match for the string at `at`, which has just been inserted; its length, 0 if below 3. */
static unsigned gani_lz_find(const gani_lz *lz, const unsigned char *data, size_t size_bytes,
                             size_t at, unsigned *distance) {
    const unsigned most = size_bytes - at < 258 ? (unsigned)(size_bytes - at) : 258;
    unsigned best = 2;
    uint32_t next = lz->prev[at % GANI_LZ_WINDOW];
    for (int tries = 0; tries < GANI_LZ_TRIES && next != 0; tries++) {
        const size_t from = next - 1;
        if (at - from > GANI_LZ_WINDOW - 1) {
            break;
        }
        unsigned length = 0;
        while (length < most && data[from + length] == data[at + length]) {
            length++;
        }
        if (length > best) {
            best = length;
            *distance = (unsigned)(at - from);
        }
        next = lz->prev[from % GANI_LZ_WINDOW];
    }
    return best >= 3 ? best : 0;
}

/* zlib stream (RFC 1950) of one deflate block. lz: cleared. */
static void gani_deflate(gani_bit_writer *to, gani_lz *lz, const unsigned char *data,
                         size_t size_bytes) {
    gani_put_byte(to, 0x78);
    gani_put_byte(to, 0x01);
    gani_put_bits(to, 1, 1); /* the last block */
    gani_put_bits(to, 1, 2); /* with fixed codes */
    for (size_t at = 0; at < size_bytes;) {
        unsigned length = 0, distance = 0;
        if (size_bytes - at >= 3) {
            gani_lz_insert(lz, data, at);
            length = gani_lz_find(lz, data, size_bytes, at, &distance);
        }
        if (length == 0) {
            gani_put_symbol(to, data[at++]);
            continue;
        }
        gani_put_match(to, length, distance);
        for (size_t stop = at + length; ++at < stop;) {
            if (size_bytes - at >= 3) {
                gani_lz_insert(lz, data, at);
            }
        }
    }
    gani_put_symbol(to, 256);
    gani_put_bits(to, 0, (8 - to->bit_count) % 8);
    unsigned char sum[4];
    gani_put_be32(sum, gani_adler32(data, size_bytes));
    for (int i = 0; i < 4; i++) {
        gani_put_byte(to, sum[i]);
    }
    gani_end_chunk(to);
}

/* Writes filter type and filtered row to out [1 + size]; returns the sum of absolute differences.
 * step: bytes a pixel. PNG specification, 9.2: none, sub, up, average, Paeth. */
static unsigned long gani_png_filter(int type, const unsigned char *row, const unsigned char *above,
                                     size_t size_bytes, size_t step, unsigned char *out) {
    unsigned long sum = 0;
    out[0] = (unsigned char)type;
    for (size_t i = 0; i < size_bytes; i++) {
        const int a = i >= step ? row[i - step] : 0, b = above[i];
        const int c = i >= step ? above[i - step] : 0;
        int guess = 0;
        if (type == 1) {
            guess = a;
        } else if (type == 2) {
            guess = b;
        } else if (type == 3) {
            guess = (a + b) / 2;
        } else if (type == 4) { /* whichever is nearest to a + b - c */
            const int da = abs(b - c), db = abs(a - c), dc = abs(a + b - 2 * c);
            guess = da <= db && da <= dc ? a : db <= dc ? b : c;
        }
        const unsigned difference = (unsigned)(row[i] - guess) & 255u;
        sum += difference < 128 ? difference : 256 - difference;
        out[1 + i] = (unsigned char)difference;
    }
    return sum;
}

/* All rows, filtered, to out [height, 1 + row bytes]; rows: scratch [3, 1 + row bytes]. */
static void gani_png_rows(const gan_image *image, unsigned char *out, unsigned char *rows) {
    const size_t size_bytes = (size_t)image->width * (size_t)image->channels;
    const size_t stride = size_bytes + 1;
    unsigned char *row = rows, *above = rows + stride, *attempt = rows + 2 * stride;
    memset(above, 0, stride);
    for (int y = 0; y < image->height; y++) {
        unsigned char *line = out + (size_t)y * stride;
        for (size_t i = 0; i < size_bytes; i++) {
            row[i] = gani_to_byte(image->samples[(size_t)y * size_bytes + i], image->maxval);
        }
        unsigned long best =
            gani_png_filter(0, row, above, size_bytes, (size_t)image->channels, line);
        for (int type = 1; type < 5; type++) {
            unsigned long sum =
                gani_png_filter(type, row, above, size_bytes, (size_t)image->channels, attempt);
            if (sum < best) {
                best = sum;
                memcpy(line, attempt, stride);
            }
        }
        unsigned char *swap = row;
        row = above;
        above = swap;
    }
}

/* A PNG file in the making: memory that its frames share. */
typedef struct gani_png {
    gani_lz *lz;
    unsigned char *data; /* [size_bytes] filtered rows of a frame, then three rows */
    size_t size_bytes;
    uint32_t sequence; /* number of the next chunk of an animation */
} gani_png;

/* Begins the file; end with gani_png_end, whatever this returns. */
static gan_status gani_png_begin(gani_png *png, gani_writer *out, const gan_image *image) {
    static const unsigned char colour_type[5] = {0, 0, 4, 2, 6}; /* by channels */
    const size_t stride = (size_t)image->width * (size_t)image->channels + 1;
    unsigned char header[13];
    png->sequence = 0;
    png->size_bytes = gani_mul(stride, (size_t)image->height);
    png->lz = (gani_lz *)gani_alloc(out->ctx, sizeof *png->lz);
    png->data =
        (unsigned char *)gani_alloc(out->ctx, gani_sum(png->size_bytes, gani_mul(3, stride)));
    if (!png->lz || !png->data) {
        return out->status = GAN_ERR_MEMORY;
    }
    if (png->size_bytes > 0x7fffffffu) {
        return out->status = gani_error(out->ctx, GAN_ERR_LIMIT,
                                        "%s: PNG of at most 2 GiB of pixels expected", out->path);
    }
    gani_put_be32(header, (uint32_t)image->width);
    gani_put_be32(header + 4, (uint32_t)image->height);
    header[8] = 8; /* bits a sample */
    header[9] = colour_type[image->channels];
    header[10] = header[11] = header[12] = 0;
    gani_writer_put(out, "\x89PNG\r\n\x1a\n", 8);
    gani_png_chunk(out, "IHDR", header, sizeof header);
    return out->status;
}

/* The pixels of an image; of a frame after the first if numbered. */
static void gani_png_pixels(gani_png *png, gani_writer *out, const gan_image *image,
                            int numbered) {
    gani_bit_writer to;
    memset(&to, 0, sizeof to);
    memset(png->lz, 0, sizeof *png->lz);
    to.out = out;
    to.sequence = numbered ? &png->sequence : NULL;
    gani_png_rows(image, png->data, png->data + png->size_bytes);
    gani_deflate(&to, png->lz, png->data, png->size_bytes);
}

static gan_status gani_png_end(gani_png *png, gani_writer *out) {
    if (!out->status) {
        gani_png_chunk(out, "IEND", png->data, 0);
    }
    gani_free(out->ctx, png->data);
    gani_free(out->ctx, png->lz);
    return out->status;
}

static gan_status gani_write_png(gani_writer *out, const gan_image *image) {
    gani_png png;
    if (!gani_png_begin(&png, out, image)) {
        gani_png_pixels(&png, out, image, 0);
    }
    return gani_png_end(&png, out);
}

/* Animations: PNG specification, third edition, 11.3.6. How many frames; 0: play without end. */
static void gani_png_animation_control(gani_writer *out, int frames) {
    unsigned char bytes[8];
    gani_put_be32(bytes, (uint32_t)frames);
    gani_put_be32(bytes + 4, 0);
    gani_png_chunk(out, "acTL", bytes, sizeof bytes);
}

/* Goes before the pixels of a frame, which covers the whole picture and is shown so long. */
static void gani_png_frame_control(gani_png *png, gani_writer *out, const gan_image *image,
                                   unsigned milliseconds) {
    unsigned char bytes[26];
    memset(bytes, 0, sizeof bytes); /* no offset; leave the frame, put the next one over it */
    gani_put_be32(bytes, png->sequence++);
    gani_put_be32(bytes + 4, (uint32_t)image->width);
    gani_put_be32(bytes + 8, (uint32_t)image->height);
    gani_put_be32(bytes + 20, (uint32_t)milliseconds << 16 | 1000u);
    gani_png_chunk(out, "fcTL", bytes, sizeof bytes);
}

/* --- writing images -------------------------------------------------------- */

/* Binary PGM or PPM; channels as wanted in the file, a grey image may go into a PPM. */
static gan_status gani_write_pnm(gani_writer *out, const gan_image *image, int channels) {
    char header[64];
    int length = snprintf(header, sizeof header, "P%d\n%d %d\n%d\n", channels == 3 ? 6 : 5,
                          image->width, image->height, image->maxval);
    gani_writer_put(out, header, (size_t)length);
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    const uint16_t *pixel = image->samples; /* [pixels,image->channels] */
    unsigned char block[6 * 512];
    size_t used = 0;
    for (size_t p = 0; p < pixels; p++, pixel += image->channels) {
        for (int c = 0; c < channels; c++) {
            const unsigned value = pixel[image->channels == 1 ? 0 : c];
            if (image->maxval > 255) {
                block[used++] = (unsigned char)(value >> 8);
            }
            block[used++] = (unsigned char)(value & 255u);
        }
        if (used > sizeof block - 6) {
            gani_writer_put(out, block, used);
            used = 0;
        }
    }
    gani_writer_put(out, block, used);
    return out->status;
}

GAN_API gan_status gan_image_write(gan_context *ctx, const char *path, const gan_image *image) {
    const int png = gani_ends_with(path, ".png"), pgm = gani_ends_with(path, ".pgm");
    if (!png && !pgm && !gani_ends_with(path, ".ppm")) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "%s: a name that ends in .png, .pgm or .ppm expected", path);
    }
    if (!image->samples || (pgm && image->channels != 1) ||
        (!png && image->channels != 1 && image->channels != 3)) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "%s: cannot hold an image of %d channels", path,
                          image->channels);
    }
    gani_writer out;
    if (!gani_writer_open(&out, ctx, path)) {
        if (png) {
            gani_write_png(&out, image);
        } else {
            gani_write_pnm(&out, image, pgm ? 1 : 3);
        }
    }
    return gani_writer_close(&out);
}

#define GANI_GRID_BORDER 2
#define GANI_GRID_GREY   128

/* Copies image [channels,height,width] into the picture, its top left pixel at (left, top). */
static void gani_grid_place(gan_image *grid, const float *image, int height, int width, int left,
                            int top, float low, float high) {
    const float scale = 255.0f / (high - low);
    for (int c = 0; c < grid->channels; c++) {
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                float value = (*image++ - low) * scale + 0.5f;
                value = value > 0.0f ? value : 0.0f; /* NaN too */
                value = value < 255.0f ? value : 255.0f;
                size_t pixel = (size_t)(top + y) * (size_t)grid->width + (size_t)(left + x);
                grid->samples[pixel * (size_t)grid->channels + (size_t)c] = (uint16_t)value;
            }
        }
    }
}

GAN_API gan_status gan_image_write_grid(gan_context *ctx, const char *path, const float *images,
                                        int count, int channels, int height, int width, int columns,
                                        float low, float high) {
    if (count < 1 || (channels != 1 && channels != 3) || height < 1 || width < 1 || columns < 0 ||
        !(low < high)) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "%s: at least 1 image of 1 or 3 channels and low < high expected, found "
                          "[%d,%d,%d,%d], %g, %g",
                          path, count, channels, height, width, (double)low, (double)high);
    }
    if (columns == 0) {
        for (columns = 1; (int64_t)columns * columns < count;) {
            columns++;
        }
    }
    columns = columns < count ? columns : count;
    const int rows = (count - 1) / columns + 1;
    const int64_t grid_width =
        (int64_t)columns * ((int64_t)width + GANI_GRID_BORDER) + GANI_GRID_BORDER;
    const int64_t grid_height =
        (int64_t)rows * ((int64_t)height + GANI_GRID_BORDER) + GANI_GRID_BORDER;
    if (grid_width > GAN_MAX_PIXELS || grid_height > GAN_MAX_PIXELS) {
        return gani_error(ctx, GAN_ERR_LIMIT,
                          "%s: grid of at most %lu pixels (GAN_MAX_PIXELS) expected", path,
                          (unsigned long)GAN_MAX_PIXELS);
    }
    gan_image grid;
    grid.width = (int)grid_width;
    grid.height = (int)grid_height;
    grid.channels = channels;
    grid.maxval = 255;
    gan_status status = gani_image_allocate(ctx, &grid);
    if (status) {
        return gani_error_in(ctx, status, path);
    }
    for (size_t i = 0; i < gani_image_count(&grid); i++) {
        grid.samples[i] = GANI_GRID_GREY;
    }
    const size_t size = (size_t)channels * (size_t)height * (size_t)width;
    for (int i = 0; i < count; i++) {
        int left = GANI_GRID_BORDER + i % columns * (width + GANI_GRID_BORDER);
        int top = GANI_GRID_BORDER + i / columns * (height + GANI_GRID_BORDER);
        gani_grid_place(&grid, images + (size_t)i * size, height, width, left, top, low, high);
    }
    status = gan_image_write(ctx, path, &grid);
    gan_image_free(ctx, &grid);
    return status;
}

/* Frames [count,channels,height,width] to a file that is open; frame: their form. */
static void gani_write_frames(gani_writer *out, gan_image *frame, const float *frames, int count,
                              float low, float high, unsigned milliseconds) {
    const size_t size = gani_image_count(frame);
    gani_png png;
    gani_png_begin(&png, out, frame);
    if (!out->status) {
        gani_png_animation_control(out, count);
    }
    for (int i = 0; i < count && !out->status; i++) {
        gani_grid_place(frame, frames + (size_t)i * size, frame->height, frame->width, 0, 0, low,
                        high);
        gani_png_frame_control(&png, out, frame, milliseconds);
        gani_png_pixels(&png, out, frame, i > 0);
    }
    gani_png_end(&png, out);
}

GAN_API gan_status gan_image_write_animation(gan_context *ctx, const char *path,
                                             const float *frames, int count, int channels,
                                             int height, int width, float low, float high,
                                             double seconds_per_frame) {
    gan_image frame;
    gani_writer out;
    memset(&frame, 0, sizeof frame);
    if (!gani_ends_with(path, ".png") && !gani_ends_with(path, ".apng")) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "%s: a name that ends in .png or .apng expected",
                          path);
    }
    if (count < 1 || (channels != 1 && channels != 3) || height < 1 || width < 1 || !(low < high) ||
        !(seconds_per_frame >= 0.001 && seconds_per_frame <= 65.0)) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "%s: at least 1 frame of 1 or 3 channels, low < high and 0.001 to 65 "
                          "seconds a frame expected, found [%d,%d,%d,%d], %g, %g, %g",
                          path, count, channels, height, width, (double)low, (double)high,
                          seconds_per_frame);
    }
    frame.height = height;
    frame.width = width;
    frame.channels = channels;
    frame.maxval = 255;
    gan_status status = gani_image_allocate(ctx, &frame);
    if (status) {
        return gani_error_in(ctx, status, path);
    }
    if (!gani_writer_open(&out, ctx, path)) {
        gani_write_frames(&out, &frame, frames, count, low, high,
                          (unsigned)(seconds_per_frame * 1000.0 + 0.5));
    }
    status = gani_writer_close(&out);
    gan_image_free(ctx, &frame);
    return status;
}

/* ============================================================================
 * >>digits  7.2  DRAWN DIGITS
 *
 * Endless labelled images that need no file. A digit is one or more pen strokes, each a smooth
 * curve (Catmull and Rom 1974) through a few control points. The points are displaced by a smooth
 * wave, slanted, turned, scaled and moved, the curve is cut into segments, and a pixel's ink is its
 * distance to the nearest segment compared with half the width of the pen.
 *
 * Holds:  shapes of the digits, drawing.
 * Uses:   >>platform (random numbers)        Knows nothing of: files, datasets.
 * ========================================================================= */

#define GANI_STREAM_DIGITS ((uint64_t)1 << 63) /* of random numbers; the digit's number is added */
#define GANI_DIGITS_EPOCH  60000
#define GANI_DIGITS_SIZE   28

enum { GANI_PEN_UP = 254, GANI_GLYPH_END = 255, GANI_GLYPH_BYTES = 64 };

typedef struct gani_glyph {
    int digit;
    /* x, y in a box of 100 x 100, y down; where a stroke has a corner, another begins */
    unsigned char points[GANI_GLYPH_BYTES];
} gani_glyph;

#define GANI_UP  GANI_PEN_UP, GANI_PEN_UP
#define GANI_END GANI_GLYPH_END
/* clang-format off */
static const gani_glyph gani_glyphs[] = { /* a line is a stroke, or part of one */
    {0, {54, 0, 30, 10, 18, 42, 24, 82, 46, 100, 70, 88, 82, 52, 74, 14, 54, 0, GANI_END}},
    {1, {50, 0, 50, 50, 50, 100, GANI_END}},
    {1, {32, 24, 44, 14, 54, 0, GANI_UP,
         54, 0, 54, 50, 54, 100, GANI_END}},
    {1, {34, 22, 44, 13, 52, 0, GANI_UP,
         52, 0, 52, 100, GANI_UP,
         30, 100, 74, 100, GANI_END}},
    {2, {22, 24, 30, 6, 52, 0, 72, 10, 76, 30, 62, 54, 40, 76, 18, 98, GANI_UP,
         18, 98, 50, 97, 84, 100, GANI_END}},
    {3, {22, 12, 46, 0, 70, 8, 72, 28, 58, 44, 40, 48, GANI_UP,
         40, 48, 64, 52, 78, 70, 70, 90, 46, 100, 20, 90, GANI_END}},
    {3, {20, 2, 74, 2, GANI_UP,
         74, 2, 46, 42, GANI_UP,
         46, 42, 68, 46, 80, 66, 72, 90, 46, 100, 20, 90, GANI_END}},
    {4, {30, 0, 24, 30, 18, 56, GANI_UP,
         18, 56, 50, 56, 84, 53, GANI_UP,
         66, 10, 64, 55, 62, 100, GANI_END}},
    {4, {64, 0, 40, 34, 14, 68, GANI_UP,
         14, 68, 86, 68, GANI_UP,
         64, 0, 64, 50, 64, 100, GANI_END}},
    {5, {76, 0, 32, 2, GANI_UP,
         32, 2, 26, 44, GANI_UP,
         26, 44, 48, 37, 70, 44, 79, 66, 68, 90, 44, 100, 20, 90, GANI_END}},
    {6, {66, 0, 44, 16, 28, 42, 22, 68, 30, 92, 50, 100,
         70, 92, 78, 72, 70, 54, 50, 48, 32, 58, 23, 74, GANI_END}},
    {7, {18, 3, 50, 2, 82, 0, GANI_UP,
         82, 0, 60, 44, 42, 100, GANI_END}},
    {7, {18, 3, 50, 2, 82, 0, GANI_UP,
         82, 0, 60, 44, 42, 100, GANI_UP,
         32, 52, 74, 48, GANI_END}},
    {8, {74, 14, 50, 0, 28, 10, 30, 32, 50, 46, 72, 62,
         76, 84, 52, 100, 26, 88, 28, 64, 50, 46, 70, 32, 74, 14, GANI_END}},
    {9, {76, 28, 68, 8, 48, 0, 28, 10, 22, 32, 32, 50, 52, 52, 70, 42, 76, 28, GANI_UP,
         76, 28, 76, 56, 70, 100, GANI_END}},
    {9, {76, 28, 68, 8, 48, 0, 28, 10, 22, 32, 32, 50, 52, 52, 70, 42, 76, 28, GANI_UP,
         76, 28, 74, 62, 62, 90, 34, 98, GANI_END}},
};
/* clang-format on */
#undef GANI_UP
#undef GANI_END
#define GANI_GLYPH_COUNT ((int)(sizeof gani_glyphs / sizeof gani_glyphs[0]))
#define GANI_CURVE_STEPS 6 /* segments between two control points */

/* How one digit is written: from the box of the glyph, -0.5 ... 0.5 on both sides, to pixels. */
typedef struct gani_hand {
    float wave[2][4];         /* displacement of x and of y: size, frequency in x and y, phase */
    float xx, xy, yx, yy;     /* slant, turn and scale in one matrix */
    float centre_x, centre_y; /* pixels */
    float radius;             /* half the width of the pen, pixels */
} gani_hand;

static float gani_between(float unit, float low, float high) {
    return low + (high - low) * unit;
}

/* u [16]: uniform numbers that decide; size: the smaller side of the image. */
static void gani_make_hand(gani_hand *hand, const float *u, int height, int width) {
    const float size = (float)(height < width ? height : width);
    for (int axis = 0; axis < 2; axis++) {
        hand->wave[axis][0] = gani_between(u[4 * axis], 0.0f, 0.045f);
        hand->wave[axis][1] = gani_between(u[4 * axis + 1], -7.0f, 7.0f);
        hand->wave[axis][2] = gani_between(u[4 * axis + 2], -7.0f, 7.0f);
        hand->wave[axis][3] = gani_between(u[4 * axis + 3], 0.0f, 6.2831853f);
    }
    const float slant = gani_between(u[8], -0.1f, 0.4f), turn = gani_between(u[9], -0.15f, 0.15f);
    const float tall = size * gani_between(u[10], 0.62f, 0.76f);
    const float wide = tall * gani_between(u[11], 0.75f, 1.05f);
    hand->xx = cosf(turn) * wide;
    hand->yx = sinf(turn) * wide;
    hand->xy = -slant * hand->xx - sinf(turn) * tall;
    hand->yy = -slant * hand->yx + cosf(turn) * tall;
    hand->centre_x = 0.5f * (float)width + size * gani_between(u[12], -0.05f, 0.05f);
    hand->centre_y = 0.5f * (float)height + size * gani_between(u[13], -0.05f, 0.05f);
    hand->radius = size * gani_between(u[14], 0.032f, 0.06f);
}

/* The smooth displacement moves equal points alike, so strokes that meet still do. */
static void gani_hand_point(const gani_hand *hand, float x, float y, float *out) {
    const float *a = hand->wave[0], *b = hand->wave[1];
    const float u = x + a[0] * sinf(a[1] * x + a[2] * y + a[3]);
    const float v = y + b[0] * sinf(b[1] * x + b[2] * y + b[3]);
    out[0] = hand->centre_x + hand->xx * u + hand->xy * v;
    out[1] = hand->centre_y + hand->yx * u + hand->yy * v;
}

/* distance [height,width] holds squared distances to the ink so far; pixels further than `reach`
 * from the segment a b are left out. Pixel (x, y) has its centre at x + 0.5, y + 0.5. */
static void gani_draw_segment(float *distance, int height, int width, const float *a,
                              const float *b, float reach) {
    const float dx = b[0] - a[0], dy = b[1] - a[1], length = dx * dx + dy * dy;
    const int left = (int)fmaxf(fminf(a[0], b[0]) - reach, 0.0f);
    const int top = (int)fmaxf(fminf(a[1], b[1]) - reach, 0.0f);
    const int right = (int)fminf(fmaxf(a[0], b[0]) + reach, (float)(width - 1));
    const int bottom = (int)fminf(fmaxf(a[1], b[1]) + reach, (float)(height - 1));
    for (int y = top; y <= bottom; y++) {
        for (int x = left; x <= right; x++) {
            const float px = (float)x + 0.5f - a[0], py = (float)y + 0.5f - a[1];
            /* the nearest point is a + along*(b - a) */
            float along = length > 0.0f ? (px * dx + py * dy) / length : 0.0f;
            along = along < 0.0f ? 0.0f : along > 1.0f ? 1.0f : along;
            const float ex = px - along * dx, ey = py - along * dy, square = ex * ex + ey * ey;
            float *pixel = &distance[(size_t)y * (size_t)width + (size_t)x];
            *pixel = square < *pixel ? square : *pixel;
        }
    }
}

/* Catmull-Rom between p[1] and p[2]. */
static float gani_curve(const float p[4], float t) {
    return p[1] + 0.5f * t *
                      (p[2] - p[0] +
                       t * (2.0f * p[0] - 5.0f * p[1] + 4.0f * p[2] - p[3] +
                            t * (3.0f * (p[1] - p[2]) + p[3] - p[0])));
}

/* points [count,2] bytes of one stroke. It is closed if it ends where it starts; else the end
 * points count twice. */
static void gani_draw_stroke(float *distance, int height, int width, const unsigned char *points,
                             int count, const gani_hand *hand) {
    const int last = count - 1;
    const int closed = points[0] == points[2 * last] && points[1] == points[2 * last + 1];
    float from[2], to[2];
    for (int i = 0; i < last; i++) {
        const int before = i > 0    ? i - 1
                           : closed ? last - 1
                                    : 0,
                  after = i + 2 <= last ? i + 2
                          : closed      ? 1
                                        : last;
        const int at[4] = {before, i, i + 1, after};
        float x[4], y[4];
        for (int k = 0; k < 4; k++) {
            x[k] = (float)points[2 * at[k]] * 0.01f - 0.5f;
            y[k] = (float)points[2 * at[k] + 1] * 0.01f - 0.5f;
        }
        gani_hand_point(hand, x[1], y[1], from);
        for (int step = 1; step <= GANI_CURVE_STEPS; step++) {
            const float t = (float)step * (1.0f / GANI_CURVE_STEPS);
            gani_hand_point(hand, gani_curve(x, t), gani_curve(y, t), to);
            gani_draw_segment(distance, height, width, from, to, hand->radius + 1.0f);
            from[0] = to[0];
            from[1] = to[1];
        }
    }
}

/* Digit number `index` of the sequence `seed`, white on black, to pixels [height,width]; returns
 * which digit it is. distance [height,width]: scratch. */
static int gani_draw_digit(uint64_t seed, uint64_t index, int height, int width, float *distance,
                           unsigned char *pixels) {
    float u[20];
    gani_hand hand;
    gan_random_uniform(seed, GANI_STREAM_DIGITS + index, 0, u, 20);
    gani_make_hand(&hand, u, height, width);
    const int digit = (int)(u[16] * 10.0f);
    int variants = 0;
    for (int i = 0; i < GANI_GLYPH_COUNT; i++) {
        variants += gani_glyphs[i].digit == digit;
    }
    int skip = (int)(u[17] * (float)variants), row = 0;
    while (gani_glyphs[row].digit != digit || skip-- > 0) {
        row++;
    }
    const size_t count = (size_t)height * (size_t)width;
    for (size_t i = 0; i < count; i++) {
        distance[i] = FLT_MAX;
    }
    const unsigned char *points = gani_glyphs[row].points;
    for (int first = 0, i = 0;; i += 2) {
        if (points[i] >= GANI_PEN_UP) {
            gani_draw_stroke(distance, height, width, points + first, (i - first) / 2, &hand);
            first = i + 2;
            if (points[i] == GANI_GLYPH_END) {
                break;
            }
        }
    }
    for (size_t i = 0; i < count; i++) { /* ink fades over one pixel */
        float ink = hand.radius + 0.5f - sqrtf(distance[i]);
        ink = ink < 0.0f ? 0.0f : ink > 1.0f ? 1.0f : ink;
        pixels[i] = (unsigned char)(ink * 255.0f + 0.5f);
    }
    return digit;
}

/* ============================================================================
 * >>domains  7.3  FOLDERS, LISTS, IDX: THE IMAGES OF ONE DOMAIN
 *
 * A domain is a list of samples. A sample says where its image is and holds its pixels once they
 * are decoded, at load size, while the memory limit allows. An image file has one side, or two
 * that lie side by side and are kept apart: a block of pixels holds one side after the other, each
 * [load_height,load_width,channels], 8 bits a sample, or 16 for label maps.
 *
 * Holds:  listing of folders, readers of lists and IDX, decoding, keeping.
 * Uses:   >>platform  >>images  >>digits        Knows nothing of: pairs, batches.
 * ========================================================================= */

#ifndef GAN_NO_DIRENT
#if defined(_WIN32)
#include <io.h>
#else
#include <dirent.h>
#include <sys/stat.h>
#endif
#endif

#define GANI_MAX_CLASS 16777215u /* class numbers are floats: exact up to here */

enum { GANI_DATA_FILES, GANI_DATA_IDX, GANI_DATA_DIGITS };

typedef struct gani_sample {
    int path;              /* offset of the file's name in text; IDX: its number in the file */
    int name;              /* offset of that part of it which a partner must have as well */
    int label;             /* class number */
    int height, width;     /* of its image, or of one side of it, once decoded; 0 before */
    unsigned char *pixels; /* block of the sides, if kept; else NULL */
} gani_sample;

/* Memory for decoded images; the domains of a dataset share it. */
typedef struct gani_budget {
    size_t used, limit; /* bytes */
} gani_budget;

/* The form in which one side of an image is kept. */
typedef struct gani_form {
    int channels;      /* 0 while not known */
    int same_channels; /* files must agree: the description left the number open */
    int is_labels;     /* class numbers, 16 bits each */
    int label_count;   /* their limit, 0: none */
    size_t offset;     /* in the block, bytes */
} gani_form;

typedef struct gani_domain {
    gan_context *ctx;
    int kind; /* GANI_DATA_... */
    gani_sample *samples;
    int count, capacity;
    char *text; /* names of files and classes, each ended by a zero */
    int text_size, text_capacity;
    int *class_names; /* offsets in text; NULL if classes are numbers only */
    int class_count, class_capacity;
    FILE *idx;
    int idx_height, idx_width;
    int load_height, load_width;
    gan_fit fit;
    int sides; /* 1 or 2 */
    gani_form form[2];
    size_t block_bytes;
    gani_budget *budget;
    unsigned char *scratch; /* [block_bytes]: an image that is not kept, the one below */
    uint64_t scratch_seed, scratch_number;
    int has_scratch, scratch_label;
    float *distance; /* [load_height,load_width]: drawn digits */
} gani_domain;

/* Appends a text; its offset, or -1 without memory. */
static int gani_add_text(gani_domain *domain, const char *text, size_t length) {
    if (length >= (size_t)(INT_MAX - domain->text_size)) {
        gani_error(domain->ctx, GAN_ERR_LIMIT, "names of files of at most 2 GiB in all expected");
        return -1;
    }
    void *items = domain->text;
    int ok = gani_grow(domain->ctx, &items, &domain->text_capacity,
                       domain->text_size + (int)length + 1, 1);
    domain->text = (char *)items;
    if (!ok) {
        return -1;
    }
    const int at = domain->text_size;
    memcpy(domain->text + at, text, length);
    domain->text[at + (int)length] = '\0';
    domain->text_size += (int)length + 1;
    return at;
}

/* name: how far into the path the part begins by which images are paired. */
static int gani_add_sample(gani_domain *domain, int path, size_t name, int label) {
    void *items = domain->samples;
    int ok = gani_grow(domain->ctx, &items, &domain->capacity, domain->count + 1,
                       sizeof *domain->samples);
    domain->samples = (gani_sample *)items;
    if (!ok || path < 0) {
        return 0;
    }
    gani_sample *sample = &domain->samples[domain->count++];
    sample->path = path;
    sample->name = path + (int)name;
    sample->label = label;
    sample->height = sample->width = 0;
    sample->pixels = NULL;
    return 1;
}

/* --- folders --------------------------------------------------------------- */

/* Full paths, in natural order. */
typedef struct gani_names {
    char **items;
    int count, capacity;
} gani_names;

typedef struct gani_listing {
    gani_names images, folders;
    int others; /* files that are not images */
} gani_listing;

static void gani_free_names(gan_context *ctx, gani_names *names) {
    for (int i = 0; i < names->count; i++) {
        gani_free(ctx, names->items[i]);
    }
    gani_free(ctx, names->items);
    memset(names, 0, sizeof *names);
}

static void gani_free_listing(gan_context *ctx, gani_listing *listing) {
    gani_free_names(ctx, &listing->images);
    gani_free_names(ctx, &listing->folders);
}

#ifndef GAN_NO_DIRENT

static const char *const gani_image_endings[] = {".pgm", ".ppm", ".pbm", ".pnm", ".pam", NULL};

static int gani_is_image_name(const char *name) {
    for (int i = 0; gani_image_endings[i]; i++) {
        if (gani_ends_with(name, gani_image_endings[i])) {
            return 1;
        }
    }
    return 0;
}

/* Numbers inside names compare as numbers: "a2" < "a10". Names that differ by leading zeros only
 * compare as text. */
static int gani_natural_order(const char *a, const char *b) {
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    while (*p && *q) {
        if (gani_is_digit(*p) && gani_is_digit(*q)) {
            size_t m = 0, n = 0;
            for (; *p == '0'; p++) {
            }
            for (; *q == '0'; q++) {
            }
            while (gani_is_digit(p[m])) {
                m++;
            }
            while (gani_is_digit(q[n])) {
                n++;
            }
            const int order = m != n ? (m < n ? -1 : 1) : memcmp(p, q, m);
            if (order) {
                return order;
            }
            p += m;
            q += n;
        } else if (*p != *q) {
            break;
        } else {
            p++;
            q++;
        }
    }
    return *p != *q ? (*p < *q ? -1 : 1) : strcmp(a, b);
}

static int gani_compare_names(const void *a, const void *b) {
    return gani_natural_order(*(char *const *)a, *(char *const *)b);
}

/* folder + "/" + name, to be freed by the caller. */
static char *gani_join_path(gan_context *ctx, const char *folder, const char *name) {
    const size_t length = strlen(folder);
    return gani_concat(ctx, folder, length > 0 && folder[length - 1] == '/' ? "" : "/", name);
}

#if defined(_WIN32)

typedef struct gani_folder {
    intptr_t handle;
    struct _finddata_t entry;
    int started;
    int failed; /* errno of reading it */
} gani_folder;

static int gani_folder_open(gan_context *ctx, gani_folder *folder, const char *path) {
    char *pattern = gani_join_path(ctx, path, "*");
    folder->handle = pattern ? _findfirst(pattern, &folder->entry) : -1;
    folder->started = 0;
    folder->failed = 0;
    gani_free(ctx, pattern);
    return folder->handle != -1;
}

static const char *gani_folder_next(gani_folder *folder) {
    if (folder->started++ && _findnext(folder->handle, &folder->entry) != 0) {
        return NULL;
    }
    return folder->entry.name;
}

static int gani_entry_is_folder(const gani_folder *folder, const char *path) {
    (void)path;
    return (folder->entry.attrib & _A_SUBDIR) != 0;
}

static void gani_folder_close(gani_folder *folder) {
    _findclose(folder->handle);
}

#else

typedef struct gani_folder {
    DIR *handle;
    int failed; /* errno of reading it */
} gani_folder;

static int gani_folder_open(gan_context *ctx, gani_folder *folder, const char *path) {
    (void)ctx;
    folder->failed = 0;
    folder->handle = opendir(path);
    return folder->handle != NULL;
}

static const char *gani_folder_next(gani_folder *folder) {
    errno = 0;
    const struct dirent *entry = readdir(folder->handle);
    folder->failed = entry ? 0 : errno;
    return entry ? entry->d_name : NULL;
}

static int gani_entry_is_folder(const gani_folder *folder, const char *path) {
    struct stat info;
    (void)folder;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static void gani_folder_close(gani_folder *folder) {
    closedir(folder->handle);
}

#endif

/* Takes over the path. */
static int gani_add_name(gan_context *ctx, gani_names *names, char *path) {
    void *items = names->items;
    int ok = gani_grow(ctx, &items, &names->capacity, names->count + 1, sizeof *names->items);
    names->items = (char **)items;
    if (!ok) {
        gani_free(ctx, path);
        return 0;
    }
    names->items[names->count++] = path;
    return 1;
}

/* Lists an open folder, hidden names left out. */
static gan_status gani_list_entries(gan_context *ctx, gani_folder *folder, const char *path,
                                    gani_listing *out) {
    for (;;) {
        const char *name = gani_folder_next(folder);
        if (!name && folder->failed) {
            return gani_error(ctx, GAN_ERR_FILE, "cannot list the folder %s: %s", path,
                              strerror(folder->failed));
        }
        if (!name) {
            return GAN_OK;
        }
        if (name[0] == '.') {
            continue;
        }
        char *full = gani_join_path(ctx, path, name);
        if (!full) {
            return GAN_ERR_MEMORY;
        }
        gani_names *list = gani_is_image_name(name)             ? &out->images
                           : gani_entry_is_folder(folder, full) ? &out->folders
                                                                : NULL;
        if (!list) {
            out->others++;
            gani_free(ctx, full);
        } else if (!gani_add_name(ctx, list, full)) {
            return GAN_ERR_MEMORY;
        }
    }
}

/* 1 if path is a folder; *status is then the result of listing it. */
static int gani_list_folder(gan_context *ctx, const char *path, gani_listing *out,
                            gan_status *status) {
    gani_folder folder;
    memset(out, 0, sizeof *out);
    if (!gani_folder_open(ctx, &folder, path)) {
        return 0;
    }
    *status = gani_list_entries(ctx, &folder, path, out);
    gani_folder_close(&folder);
    if (*status) {
        gani_free_listing(ctx, out);
        return 1;
    }
    if (out->images.count > 1) {
        qsort(out->images.items, (size_t)out->images.count, sizeof(char *), gani_compare_names);
    }
    if (out->folders.count > 1) {
        qsort(out->folders.items, (size_t)out->folders.count, sizeof(char *), gani_compare_names);
    }
    return 1;
}

#else

static int gani_list_folder(gan_context *ctx, const char *path, gani_listing *out,
                            gan_status *status) {
    (void)ctx;
    (void)path;
    (void)out;
    (void)status;
    return 0;
}

#endif

/* root: length of the folder's own path, the separator included. */
static gan_status gani_add_images(gani_domain *domain, const gani_listing *listing, size_t root,
                                  int label) {
    for (int i = 0; i < listing->images.count; i++) {
        const char *path = listing->images.items[i];
        if (!gani_add_sample(domain, gani_add_text(domain, path, strlen(path)), root, label)) {
            return domain->ctx->status;
        }
    }
    return GAN_OK;
}

/* The images of a subfolder become the next class, if it has any. */
static gan_status gani_add_class(gani_domain *domain, const char *path, size_t root) {
    gani_listing listing;
    gan_status status = GAN_OK;
    if (!gani_list_folder(domain->ctx, path, &listing, &status) || status) {
        return status ? status
                      : gani_error(domain->ctx, GAN_ERR_FILE, "cannot list the folder %s: %s", path,
                                   strerror(errno));
    }
    if (listing.images.count > 0) {
        const char *name = strrchr(path, '/') + 1;
        void *items = domain->class_names;
        int ok = gani_grow(domain->ctx, &items, &domain->class_capacity, domain->class_count + 1,
                           sizeof *domain->class_names);
        domain->class_names = (int *)items;
        int text = ok ? gani_add_text(domain, name, strlen(name)) : -1;
        if (text >= 0) {
            domain->class_names[domain->class_count] = text;
            status = gani_add_images(domain, &listing, root, domain->class_count++);
        } else {
            status = domain->ctx->status;
        }
    }
    gani_free_listing(domain->ctx, &listing);
    return status;
}

static gan_status gani_open_folder(gani_domain *domain, const char *path,
                                   const gani_listing *listing) {
    const size_t length = strlen(path), root = length + (path[length - 1] == '/' ? 0 : 1);
    gan_status status = gani_add_images(domain, listing, root, 0);
    if (domain->count > 0 && listing->folders.count > 0) {
        gani_log(domain->ctx, "%s: images beside folders; the %d folders are left out", path,
                 listing->folders.count);
    }
    for (int i = 0; i < listing->folders.count && listing->images.count == 0 && !status; i++) {
        status = gani_add_class(domain, listing->folders.items[i], root);
    }
    if (!status && domain->count == 0) {
        return gani_error(domain->ctx, GAN_ERR_FILE,
                          "%s: .pgm, .ppm, .pbm, .pnm or .pam images expected, in the folder or "
                          "its subfolders; found none, %d other files and %d folders",
                          path, listing->others, listing->folders.count);
    }
    return status;
}

/* --- lists ----------------------------------------------------------------- */

static int gani_is_absolute(const char *path, size_t length) {
    return length > 0 && (path[0] == '/' || path[0] == '\\' || (length > 2 && path[1] == ':'));
}

/* Length of the folder part of a path, its last separator included. */
static size_t gani_folder_length(const char *path) {
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] != '/' && path[length - 1] != '\\') {
        length--;
    }
    return length;
}

/* Class number of a line: digits only. */
static gan_status gani_list_label(gani_domain *domain, const char *list, int line, const char *text,
                                  size_t length, int *label) {
    unsigned value = 0;
    size_t i = 0;
    for (; i < length && gani_is_digit((unsigned char)text[i]) && value <= GANI_MAX_CLASS; i++) {
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (length == 0 || i < length || value > GANI_MAX_CLASS) {
        return gani_error(
            domain->ctx, GAN_ERR_FORMAT,
            "%s: line %d: class number 0 ... %u expected after the tab, found \"%.*s\"", list, line,
            GANI_MAX_CLASS, (int)(length < 40 ? length : 40), text);
    }
    *label = (int)value;
    return GAN_OK;
}

/* One line without its end. labelled: -1 before the first line, then whether lines have class
 * numbers. */
static gan_status gani_list_line(gani_domain *domain, const char *list, int line, const char *text,
                                 size_t length, int *labelled) {
    const char *tab = (const char *)memchr(text, '\t', length);
    const size_t name_length = tab ? (size_t)(tab - text) : length;
    int label = 0;
    if (*labelled >= 0 && *labelled != (tab != NULL)) {
        return gani_error(domain->ctx, GAN_ERR_FORMAT,
                          "%s: line %d: %s class number expected as in the lines before", list,
                          line, *labelled ? "a tab and a" : "no");
    }
    *labelled = tab != NULL;
    if (tab) {
        gan_status status =
            gani_list_label(domain, list, line, tab + 1, length - name_length - 1, &label);
        if (status) {
            return status;
        }
        domain->class_count = label >= domain->class_count ? label + 1 : domain->class_count;
    }
    const size_t folder = gani_is_absolute(text, name_length) ? 0 : gani_folder_length(list);
    if (name_length == 0 || name_length > 4096) {
        return gani_error(domain->ctx, GAN_ERR_FORMAT,
                          "%s: line %d: path of 1 to 4096 bytes expected, found %lu", list, line,
                          (unsigned long)name_length);
    }
    int path = gani_add_text(domain, list, folder);
    if (path < 0) {
        return domain->ctx->status;
    }
    domain->text_size--; /* the name goes on where the folder ends */
    if (gani_add_text(domain, text, name_length) < 0) {
        return domain->ctx->status;
    }
    const size_t name = gani_folder_length(domain->text + path);
    return gani_add_sample(domain, path, name, label) ? GAN_OK : domain->ctx->status;
}

static gan_status gani_open_list(gani_domain *domain, const char *list, const unsigned char *bytes,
                                 size_t size_bytes) {
    const char *text = (const char *)bytes;
    int labelled = -1;
    if (memchr(text, '\0', size_bytes)) {
        return gani_error(domain->ctx, GAN_ERR_FORMAT,
                          "%s: a folder, a text file of image paths or an IDX file expected, found "
                          "another binary file",
                          list);
    }
    for (int line = 1; size_bytes > 0; line++) {
        const char *newline = (const char *)memchr(text, '\n', size_bytes);
        const size_t full = newline ? (size_t)(newline - text) + 1 : size_bytes;
        size_t length = newline ? full - 1 : full;
        length -= length > 0 && text[length - 1] == '\r' ? 1 : 0;
        if (length > 0 && text[0] != '#') {
            gan_status status = gani_list_line(domain, list, line, text, length, &labelled);
            if (status) {
                return status;
            }
        }
        text += full;
        size_bytes -= full;
    }
    return domain->count > 0 ? GAN_OK
                             : gani_error(domain->ctx, GAN_ERR_FORMAT,
                                          "%s: at least one image path expected, found none", list);
}

/* --- IDX ------------------------------------------------------------------- */

/* http://yann.lecun.com/exdb/mnist, "File formats": two zero bytes, type (8: unsigned bytes),
 * number of extents, extents (32 bits, high byte first), data. */
#define GANI_IDX_HEADER 4

static uint32_t gani_get_be32(const unsigned char *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Reads the header and checks that the file is long enough for its data. */
static gan_status gani_idx_header(gan_context *ctx, FILE *file, const char *path, int rank,
                                  int *extents) {
    unsigned char bytes[GANI_IDX_HEADER + 4 * 3];
    const size_t size = GANI_IDX_HEADER + 4 * (size_t)rank;
    size_t got = fread(bytes, 1, size, file);
    if (got < GANI_IDX_HEADER || bytes[0] != 0 || bytes[1] != 0 || bytes[2] != 8 ||
        bytes[3] != rank) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "%s: IDX file of unsigned bytes with %d extents expected, found %s", path,
                          rank, got < GANI_IDX_HEADER ? "a shorter file" : "another beginning");
    }
    uint64_t need = 1;
    for (int i = 0; i < rank && got == size; i++) {
        const uint32_t extent = gani_get_be32(bytes + GANI_IDX_HEADER + 4 * i);
        if (extent == 0 || extent > INT_MAX) {
            return gani_error(ctx, GAN_ERR_FORMAT, "%s: IDX extents of 1 to %d expected, found %lu",
                              path, INT_MAX, (unsigned long)extent);
        }
        extents[i] = (int)extent;
        need = need > UINT64_MAX / extent ? UINT64_MAX : need * extent;
    }
    const long end = got == size && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (end < 0 || (uint64_t)end - size < need) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "%s: IDX file: %lu bytes of data expected, found %ld", path,
                          (unsigned long)need, end < (long)size ? 0 : end - (long)size);
    }
    return GAN_OK;
}

/* Path of the labels: the last "images" and "idx3" of the name changed to "labels" and "idx1".
 * Freed by the caller; NULL where the name does not have both (status GAN_OK) or without memory. */
static char *gani_idx_label_path(gan_context *ctx, const char *images, gan_status *status) {
    char *path = gani_strdup(ctx, images);
    *status = path ? GAN_OK : GAN_ERR_MEMORY;
    if (!path) {
        return NULL;
    }
    char *name = path + gani_folder_length(path);
    char *word = strstr(name, "images"), *rank = strstr(name, "idx3");
    if (!word || !rank) {
        gani_free(ctx, path);
        return NULL;
    }
    memcpy(word, "labels", 6);
    rank[3] = '1';
    return path;
}

/* Labels of all samples, if there is such a file. */
static gan_status gani_idx_labels(gani_domain *domain, const char *images) {
    gan_context *ctx = domain->ctx;
    gan_status status;
    char *path = gani_idx_label_path(ctx, images, &status);
    FILE *file = path ? fopen(path, "rb") : NULL;
    int count = 0;
    if (file) {
        status = gani_idx_header(ctx, file, path, 1, &count);
        if (!status && count != domain->count) {
            status = gani_error(ctx, GAN_ERR_FORMAT,
                                "%s: %d labels expected, as many as images, found %d", path,
                                domain->count, count);
        }
        if (!status && fseek(file, GANI_IDX_HEADER + 4, SEEK_SET) != 0) {
            status = gani_error(ctx, GAN_ERR_FILE, "cannot read %s: %s", path, strerror(errno));
        }
        for (int i = 0; i < domain->count && !status; i++) {
            const int label = getc(file);
            if (label == EOF) {
                status = gani_error(ctx, GAN_ERR_FILE, "cannot read %s: it ended early", path);
            }
            domain->samples[i].label = label;
            domain->class_count = label >= domain->class_count ? label + 1 : domain->class_count;
        }
        fclose(file);
    }
    gani_free(ctx, path);
    return status;
}

static gan_status gani_open_idx(gani_domain *domain, const char *path) {
    int extents[3];
    domain->kind = GANI_DATA_IDX;
    domain->idx = fopen(path, "rb");
    if (!domain->idx) {
        return gani_error(domain->ctx, GAN_ERR_FILE, "cannot open %s: %s", path, strerror(errno));
    }
    gan_status status = gani_idx_header(domain->ctx, domain->idx, path, 3, extents);
    if (status) {
        return status;
    }
    domain->idx_height = extents[1];
    domain->idx_width = extents[2];
    for (int i = 0; i < extents[0]; i++) {
        if (!gani_add_sample(domain, i, 0, 0)) {
            return domain->ctx->status;
        }
    }
    if (gani_add_text(domain, path, strlen(path)) < 0) { /* the only text: messages name the file */
        return domain->ctx->status;
    }
    return gani_idx_labels(domain, path);
}

/* Image number `index` of the file, as an image. */
static gan_status gani_load_idx(gani_domain *domain, int index, gan_image *image) {
    const size_t size = (size_t)domain->idx_height * (size_t)domain->idx_width;
    image->width = domain->idx_width;
    image->height = domain->idx_height;
    image->channels = 1;
    image->maxval = 255;
    gan_status status = gani_image_allocate(domain->ctx, image);
    if (status) {
        return gani_error_in(domain->ctx, status, domain->text);
    }
    unsigned char *bytes =
        (unsigned char *)image->samples; /* read into the first half, widened from the end */
    const long offset = GANI_IDX_HEADER + 4 * 3 + (long)index * (long)size;
    if (fseek(domain->idx, offset, SEEK_SET) != 0 || fread(bytes, 1, size, domain->idx) != size) {
        return gani_error(domain->ctx, GAN_ERR_FILE, "cannot read image %d of %s", index,
                          domain->text);
    }
    for (size_t i = size; i-- > 0;) {
        image->samples[i] = bytes[i];
    }
    return GAN_OK;
}

/* --- opening --------------------------------------------------------------- */

/* Decides by the first bytes what a file is. */
static gan_status gani_open_file(gani_domain *domain, const char *path) {
    gan_context *ctx = domain->ctx;
    unsigned char start[4] = {0, 0, 0, 0};
    FILE *file = fopen(path, "rb");
    if (!file) {
        return gani_error(
            ctx, GAN_ERR_FILE,
            "cannot open %s: %s (a folder of images, a list, an IDX file or \"digits\" expected)",
            path, strerror(errno));
    }
    const size_t got = fread(start, 1, sizeof start, file);
    fclose(file);
    if (got >= 2 && start[0] == 0x1f && start[1] == 0x8b) {
        return gani_error(ctx, GAN_ERR_UNSUPPORTED,
                          "%s: uncompressed file expected, found gzip; run gunzip on it first",
                          path);
    }
    if (got == 4 && start[0] == 0 && start[1] == 0) {
        return gani_open_idx(domain, path);
    }
    if (got >= 3 && start[0] == 'P' && start[1] >= '1' && start[1] <= '7' &&
        gani_is_space(start[2])) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "%s: a folder or list of images expected, found one image", path);
    }
    unsigned char *bytes;
    size_t size_bytes;
    gan_status status = gani_read_file(ctx, path, &bytes, &size_bytes);
    if (!status) {
        status = gani_open_list(domain, path, bytes, size_bytes);
        gani_free(ctx, bytes);
    }
    return status;
}

static gan_status gani_domain_open_path(gani_domain *domain, const char *path) {
    gani_listing listing;
    gan_status status = GAN_OK;
    if (!path || strcmp(path, "digits") == 0) {
        domain->kind = GANI_DATA_DIGITS;
        domain->count = GANI_DIGITS_EPOCH;
        domain->class_count = 10;
        return GAN_OK;
    }
    if (!gani_list_folder(domain->ctx, path, &listing, &status)) {
        return gani_open_file(domain, path);
    }
    if (!status) {
        status = gani_open_folder(domain, path, &listing);
        gani_free_listing(domain->ctx, &listing);
    }
    return status;
}

/* Size and channels of the first image: of one side of it. Reads the file only if some of them is
 * wanted. */
static gan_status gani_first_image(gani_domain *domain, int wanted, gan_image *first) {
    memset(first, 0, sizeof *first);
    first->height = domain->kind == GANI_DATA_IDX ? domain->idx_height : GANI_DIGITS_SIZE;
    first->width = domain->kind == GANI_DATA_IDX ? domain->idx_width : GANI_DIGITS_SIZE;
    first->channels = 1;
    if (domain->kind == GANI_DATA_FILES && wanted) {
        gan_status status =
            gan_image_load(domain->ctx, domain->text + domain->samples[0].path, first);
        if (status) {
            return status;
        }
        gani_free(domain->ctx, first->samples);
        first->samples = NULL;
        first->width = first->width > 1 ? first->width / domain->sides : 1;
    }
    return GAN_OK;
}

/* Lays the block out and gets the memory that decoding needs; sizes and forms must be set. */
static gan_status gani_domain_prepare(gani_domain *domain) {
    const size_t pixels = gani_mul((size_t)domain->load_height, (size_t)domain->load_width);
    for (int side = 0; side < domain->sides; side++) {
        gani_form *form = &domain->form[side];
        const size_t size_bytes = gani_mul(gani_mul(pixels, (size_t)form->channels),
                                           form->is_labels ? sizeof(uint16_t) : 1);
        form->offset = side == 0 ? 0 : gani_round_up(domain->block_bytes, sizeof(uint16_t));
        domain->block_bytes = side == 0 ? size_bytes : gani_sum(form->offset, size_bytes);
    }
    domain->scratch = (unsigned char *)gani_alloc(domain->ctx, domain->block_bytes);
    if (domain->kind == GANI_DATA_DIGITS) {
        domain->distance = (float *)gani_alloc(domain->ctx, gani_mul(pixels, sizeof(float)));
    }
    return domain->scratch && (domain->distance || domain->kind != GANI_DATA_DIGITS)
               ? GAN_OK
               : GAN_ERR_MEMORY;
}

/* Frees what the domain holds; one that was only zeroed is allowed. */
static void gani_domain_close(gani_domain *domain) {
    gan_context *ctx = domain->ctx;
    if (!ctx) {
        return;
    }
    for (int i = 0; domain->samples && i < domain->count; i++) {
        gani_free(ctx, domain->samples[i].pixels);
    }
    if (domain->idx) {
        fclose(domain->idx);
    }
    gani_free(ctx, domain->samples);
    gani_free(ctx, domain->text);
    gani_free(ctx, domain->class_names);
    gani_free(ctx, domain->scratch);
    gani_free(ctx, domain->distance);
    memset(domain, 0, sizeof *domain);
}

/* --- decoding -------------------------------------------------------------- */

/* Brings an image to load size. */
static gan_status gani_fit_image(const gani_domain *domain, gan_filter filter, gan_image *image) {
    const int height = domain->load_height, width = domain->load_width;
    if (domain->fit == GAN_FIT_STRETCH) {
        return gan_image_resize(domain->ctx, image, width, height, filter);
    }
    int64_t cover_width = width, cover_height = height; /* of the image scaled by one factor */
    if ((int64_t)width * image->height >= (int64_t)height * image->width) {
        cover_height = (int64_t)image->height * width / image->width;
    } else {
        cover_width = (int64_t)image->width * height / image->height;
    }
    if (cover_width > GAN_MAX_PIXELS || cover_height > GAN_MAX_PIXELS) {
        return gani_error(domain->ctx, GAN_ERR_LIMIT,
                          "image of %d x %d is too narrow to be scaled to cover %d x %d",
                          image->width, image->height, width, height);
    }
    gan_status status =
        gan_image_resize(domain->ctx, image, (int)cover_width, (int)cover_height, filter);
    return status ? status
                  : gan_image_crop(domain->ctx, image, ((int)cover_width - width) / 2,
                                   ((int)cover_height - height) / 2, width, height);
}

/* One side of a file to the form in which it is kept. */
static gan_status gani_store_colours(const gani_domain *domain, const gani_form *form,
                                     gan_image *image, unsigned char *out) {
    const int colours = image->channels >= 3 ? 3 : 1;
    if (form->same_channels && colours != form->channels) {
        return gani_error(domain->ctx, GAN_ERR_FORMAT,
                          "%d channels expected as in the first image, found %d (channels of the "
                          "description brings all to one number)",
                          form->channels, colours);
    }
    gan_status status = gan_image_convert(domain->ctx, image, form->channels);
    if (!status) {
        status = gani_fit_image(domain, GAN_FILTER_BILINEAR, image);
    }
    for (size_t i = 0; !status && i < gani_image_count(image); i++) {
        out[i] = gani_to_byte(image->samples[i], image->maxval);
    }
    return status;
}

static gan_status gani_store_labels(const gani_domain *domain, const gani_form *form,
                                    gan_image *image, unsigned char *out) {
    if (image->channels != 1) {
        return gani_error(domain->ctx, GAN_ERR_FORMAT,
                          "label map of 1 channel expected, found %d channels", image->channels);
    }
    for (size_t i = 0; form->label_count && i < gani_image_count(image); i++) {
        if (image->samples[i] >= form->label_count) {
            return gani_error(domain->ctx, GAN_ERR_FORMAT,
                              "label map of class numbers 0 ... %d expected, found %u at column "
                              "%lu, row %lu",
                              form->label_count - 1, (unsigned)image->samples[i],
                              (unsigned long)(i % (size_t)image->width),
                              (unsigned long)(i / (size_t)image->width));
        }
    }
    gan_status status = gani_fit_image(domain, GAN_FILTER_NEAREST, image);
    if (!status) {
        memcpy(out, image->samples, gani_image_count(image) * sizeof(uint16_t));
    }
    return status;
}

/* The left or right half of an image, as a copy that the caller frees. */
static gan_status gani_take_side(gan_context *ctx, const gan_image *image, int side,
                                 gan_image *half) {
    *half = *image;
    half->samples = NULL;
    half->width = image->width / 2;
    if (image->width % 2) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "image of even width expected, with two sides, found %d x %d",
                          image->width, image->height);
    }
    gan_status status = gani_image_allocate(ctx, half);
    const size_t row = (size_t)half->width * (size_t)half->channels;
    for (size_t y = 0; !status && y < (size_t)half->height; y++) {
        memcpy(half->samples + y * row, image->samples + (2 * y + (size_t)side) * row,
               row * sizeof(uint16_t));
    }
    return status;
}

static gan_status gani_store_side(const gani_domain *domain, gan_image *image, int side,
                                  unsigned char *block) {
    const gani_form *form = &domain->form[side];
    gan_image half;
    memset(&half, 0, sizeof half);
    gan_status status =
        domain->sides == 2 ? gani_take_side(domain->ctx, image, side, &half) : GAN_OK;
    gan_image *from = domain->sides == 2 ? &half : image;
    if (!status) {
        status = form->is_labels ? gani_store_labels(domain, form, from, block + form->offset)
                                 : gani_store_colours(domain, form, from, block + form->offset);
    }
    gan_image_free(domain->ctx, &half);
    return status;
}

/* Reads the image of a sample and brings its sides to the form in which they are kept. */
static gan_status gani_decode_sample(gani_domain *domain, int index, unsigned char *block) {
    gani_sample *sample = &domain->samples[index];
    const char *path = domain->text + (domain->kind == GANI_DATA_IDX ? 0 : sample->path);
    gan_image image;
    memset(&image, 0, sizeof image);
    gan_status status = domain->kind == GANI_DATA_IDX ? gani_load_idx(domain, sample->path, &image)
                                                      : gan_image_load(domain->ctx, path, &image);
    if (status) { /* the message names the file */
        gan_image_free(domain->ctx, &image);
        return status;
    }
    sample->height = image.height;
    sample->width = image.width / domain->sides;
    for (int side = 0; side < domain->sides && !status; side++) {
        status = gani_store_side(domain, &image, side, block);
    }
    gan_image_free(domain->ctx, &image);
    return status ? gani_error_in(domain->ctx, status, path) : GAN_OK;
}

/* Decodes a sample into a block of its own if the budget allows that; *block is NULL if not. */
static gan_status gani_keep_sample(gani_domain *domain, int index, unsigned char **block) {
    const size_t cost = domain->block_bytes + 2 * GANI_ALIGN;
    *block = NULL;
    if (cost > domain->budget->limit || domain->budget->used > domain->budget->limit - cost) {
        return GAN_OK;
    }
    unsigned char *kept = (unsigned char *)gani_alloc(domain->ctx, domain->block_bytes);
    if (!kept) {
        return GAN_ERR_MEMORY;
    }
    gan_status status = gani_decode_sample(domain, index, kept);
    if (status) {
        gani_free(domain->ctx, kept);
        return status;
    }
    domain->budget->used += cost;
    *block = kept;
    return GAN_OK;
}

/* Draws a digit into scratch, repeated for each channel. */
static void gani_scratch_digit(gani_domain *domain, uint64_t seed, uint64_t number) {
    const int channels = domain->form[0].channels;
    domain->scratch_label = gani_draw_digit(seed, number, domain->load_height, domain->load_width,
                                            domain->distance, domain->scratch);
    for (size_t i = domain->block_bytes; channels > 1 && i-- > 0;) {
        domain->scratch[i] = domain->scratch[i / (size_t)channels];
    }
}

/* Block and class of image `number`, or of digit `number` of the sequence `seed`. */
static gan_status gani_fetch(gani_domain *domain, uint64_t seed, uint64_t number,
                             const unsigned char **block, int *label) {
    const int digits = domain->kind == GANI_DATA_DIGITS;
    gani_sample *sample = digits ? NULL : &domain->samples[number];
    gan_status status = GAN_OK;
    if (sample && !sample->pixels) {
        status = gani_keep_sample(domain, (int)number, &sample->pixels);
    }
    if (status || (sample && sample->pixels)) {
        *block = status ? NULL : sample->pixels;
        *label = status ? 0 : sample->label;
        return status;
    }
    if (!domain->has_scratch || domain->scratch_number != number || domain->scratch_seed != seed) {
        domain->has_scratch = 0;
        if (digits) {
            gani_scratch_digit(domain, seed, number);
        } else {
            status = gani_decode_sample(domain, (int)number, domain->scratch);
            domain->scratch_label = sample->label;
        }
        domain->has_scratch = !status;
        domain->scratch_number = number;
        domain->scratch_seed = seed;
    }
    *block = domain->scratch;
    *label = domain->scratch_label;
    return status;
}

/* ============================================================================
 * >>datasets  7.4  RECORDS OF ONE TO THREE IMAGES; BATCHES
 *
 * A part of a record comes from one side of a domain's images, or is derived from it. A draw says
 * which image stands at position p of the endless sequence: order(seed, p / count)[p % count], where
 * order is a permutation drawn from (seed, epoch), and how it is cropped and flipped, drawn from
 * (seed, p). So a batch depends on (seed, step) alone. Parts that belong together share a draw, by
 * which they get the same image number, crop and flip; that is why partners found by name are
 * brought into one order when a dataset is opened.
 *
 *   pairing    part A           part B                    draws
 *   NONE       domain 0         -                         1
 *   SIDES      domain 0, left   domain 0, right           1
 *   NAMES      domain 0         domain 1                  1
 *   UNPAIRED   domain 0         domain 1                  2
 *   DERIVED    domain 0         from domain 0             1
 *   HALVES     domain 0, first  from domain 0, second     2
 *
 * Instance maps are domain 2, with the draw of A.
 *
 * Holds:  derived images, pairing by names, batches.
 * Uses:   >>platform  >>domains        Knows nothing of: graphs, models.
 * ========================================================================= */

/* Streams of random numbers of the two draws; an epoch is added to those of the order. */
static const uint64_t gani_stream_order[2] = {(uint64_t)0x6f72646572 << 24,
                                              (uint64_t)0x6f72646542 << 24};
static const uint64_t gani_stream_augment[2] = {(uint64_t)0x6175676d65 << 24,
                                                (uint64_t)0x6175676d42 << 24};

#define GANI_DEFAULT_DATA_MEMORY ((size_t)512 << 20)

enum { GANI_DOMAIN_A, GANI_DOMAIN_B, GANI_DOMAIN_INSTANCES, GANI_DOMAINS };

/* Images first ... first+count-1 of a domain, permuted; or a sequence without end. */
typedef struct gani_draw {
    int first, count;
    int endless;     /* drawn digits: number first + p stands at position p */
    uint32_t *order; /* [count] permutation of the epoch below */
    uint64_t seed, epoch;
    int has_order;
} gani_draw;

typedef struct gani_part {
    int domain, side, draw; /* where it comes from, or what it is derived from */
    int derived;
    int channels;
} gani_part;

struct gan_dataset {
    gan_context *ctx;
    gan_dataset_desc desc; /* with defaults filled in, without paths */
    gani_domain domains[GANI_DOMAINS];
    gani_part parts[3];
    int part_count;
    gani_draw draws[2];
    gani_budget budget;
    float *plain;     /* [3,height,width]: what a part is derived from */
    float value[256]; /* of each 8-bit sample */
};

/* --- derived images -------------------------------------------------------- */

/* Grey value of the pixel whose channels lie `plane` floats apart. */
static float gani_grey(const float *pixel, int channels, size_t plane) {
    return channels == 1 ? pixel[0]
                         : 0.299f * pixel[0] + 0.587f * pixel[plane] + 0.114f * pixel[2 * plane];
}

/* in [channels,count] -> out [count], which may be in. */
static void gani_derive_grey(const float *in, int channels, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) {
        out[i] = gani_grey(in + i, channels, count);
    }
}

/* in [channels,height,width] -> out [channels,width,height] */
static void gani_derive_rotate(const float *in, int channels, int height, int width, float *out) {
    for (int c = 0; c < channels; c++) {
        const float *plane = in + (size_t)c * (size_t)height * (size_t)width;
        for (int y = 0; y < width; y++) {
            for (int x = 0; x < height; x++) {
                *out++ = plane[(size_t)x * (size_t)width + (size_t)(width - 1 - y)];
            }
        }
    }
}

/* in [channels,height,width] -> out [height,width]; pixels beyond the border do not count. */
static void gani_derive_edges(const float *in, int channels, int height, int width, float low,
                              float *out) {
    const size_t plane = (size_t)height * (size_t)width;
    for (int y = 0; y < height; y++) {
        const int top = y > 0 ? y - 1 : 0, bottom = y + 1 < height ? y + 1 : y;
        for (int x = 0; x < width; x++) {
            const int left = x > 0 ? x - 1 : 0, right = x + 1 < width ? x + 1 : x;
            const float centre =
                gani_grey(in + (size_t)y * (size_t)width + (size_t)x, channels, plane);
            float most = centre;
            for (int v = top; v <= bottom; v++) {
                for (int u = left; u <= right; u++) {
                    const float *pixel = in + (size_t)v * (size_t)width + (size_t)u;
                    const float value = gani_grey(pixel, channels, plane);
                    most = value > most ? value : most;
                }
            }
            *out++ = low + (most - centre);
        }
    }
}

/* Channels of an image derived from one of `channels`. */
static int gani_derived_channels(gan_derive derive, int channels) {
    return derive == GAN_DERIVE_NEGATIVE || derive == GAN_DERIVE_ROTATE ? channels : 1;
}

GAN_API gan_status gan_derive_image(gan_context *ctx, gan_derive derive, const float *in,
                                    int channels, int height, int width, float low, float high,
                                    float *out) {
    if ((channels != 1 && channels != 3) || height < 1 || width < 1 || !(low < high)) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_derive_image: 1 or 3 channels, at least 1 x 1 pixels and low < high "
                          "expected, found [%d,%d,%d], %g, %g",
                          channels, height, width, (double)low, (double)high);
    }
    const size_t plane = (size_t)height * (size_t)width, count = (size_t)channels * plane;
    switch (derive) {
    case GAN_DERIVE_NEGATIVE:
        for (size_t i = 0; i < count; i++) {
            out[i] = low + high - in[i];
        }
        return GAN_OK;
    case GAN_DERIVE_ROTATE:
        gani_derive_rotate(in, channels, height, width, out);
        return GAN_OK;
    case GAN_DERIVE_EDGES:
        gani_derive_edges(in, channels, height, width, low, out);
        return GAN_OK;
    case GAN_DERIVE_GREY:
        gani_derive_grey(in, channels, plane, out);
        return GAN_OK;
    default:
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_derive_image: a gan_derive expected, found %d", (int)derive);
    }
}

/* --- partners by name ------------------------------------------------------ */

/* A name without its ending. */
typedef struct gani_stem {
    const char *text;
    size_t length;
    int index; /* of the sample */
} gani_stem;

static gani_stem gani_stem_of(const gani_domain *domain, int index) {
    gani_stem stem;
    stem.text = domain->text + domain->samples[index].name;
    stem.length = strlen(stem.text);
    stem.index = index;
    for (size_t i = stem.length; i > 0 && stem.text[i - 1] != '/' && stem.text[i - 1] != '\\';) {
        if (stem.text[--i] == '.') {
            stem.length = i;
            break;
        }
    }
    return stem;
}

static int gani_compare_stems(const void *a, const void *b) {
    const gani_stem *p = (const gani_stem *)a, *q = (const gani_stem *)b;
    const size_t common = p->length < q->length ? p->length : q->length;
    const int order = memcmp(p->text, q->text, common);
    return order ? order : p->length == q->length ? 0 : (p->length < q->length ? -1 : 1);
}

/* All stems of a domain, sorted; equal ones are an error. Freed by the caller. */
static gan_status gani_sorted_stems(const gani_domain *domain, gani_stem **out) {
    gani_stem *stems =
        (gani_stem *)gani_alloc(domain->ctx, gani_mul((size_t)domain->count, sizeof *stems));
    if (!stems) {
        return GAN_ERR_MEMORY;
    }
    for (int i = 0; i < domain->count; i++) {
        stems[i] = gani_stem_of(domain, i);
    }
    qsort(stems, (size_t)domain->count, sizeof *stems, gani_compare_stems);
    for (int i = 1; i < domain->count; i++) {
        if (gani_compare_stems(&stems[i - 1], &stems[i]) == 0) {
            gani_error(domain->ctx, GAN_ERR_FILE,
                       "one file of a name expected, as pairs are made by names without ending, "
                       "found %s and %s",
                       domain->text + domain->samples[stems[i - 1].index].path,
                       domain->text + domain->samples[stems[i].index].path);
            gani_free(domain->ctx, stems);
            return GAN_ERR_FILE;
        }
    }
    *out = stems;
    return GAN_OK;
}

/* Brings the samples of b into the order of their partners in a, and drops those without. */
static gan_status gani_match_names(const gani_domain *a, gani_domain *b, const char *path_b) {
    gan_context *ctx = a->ctx;
    gani_stem *stems = NULL, *own = NULL;
    if (a->kind != GANI_DATA_FILES || b->kind != GANI_DATA_FILES) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "%s: image files on both sides expected for pairs by name, found an IDX "
                          "file or drawn digits",
                          path_b);
    }
    gan_status status = gani_sorted_stems(a, &own); /* only to find names that occur twice */
    gani_free(ctx, own);
    status = status ? status : gani_sorted_stems(b, &stems);
    gani_sample *matched =
        status ? NULL : (gani_sample *)gani_alloc(ctx, gani_mul((size_t)a->count, sizeof *matched));
    if (!matched) {
        gani_free(ctx, stems);
        return status ? status : GAN_ERR_MEMORY;
    }
    for (int i = 0; i < a->count && !status; i++) {
        const gani_stem key = gani_stem_of(a, i);
        const gani_stem *found = (const gani_stem *)bsearch(&key, stems, (size_t)b->count,
                                                            sizeof *stems, gani_compare_stems);
        if (found) {
            matched[i] = b->samples[found->index];
        } else {
            status = gani_error(ctx, GAN_ERR_FILE,
                                "%s: partner \"%.*s\" with any ending expected in %s, found none",
                                a->text + a->samples[i].path,
                                (int)(key.length < 200 ? key.length : 200), key.text, path_b);
        }
    }
    gani_free(ctx, stems);
    if (status) {
        gani_free(ctx, matched);
        return status;
    }
    if (b->count > a->count) {
        gani_log(ctx, "%s: %d files without partner are left out", path_b, b->count - a->count);
    }
    gani_free(ctx, b->samples);
    b->samples = matched;
    b->count = b->capacity = a->count;
    return GAN_OK;
}

/* --- opening --------------------------------------------------------------- */

static gan_status gani_check_sizes(gan_context *ctx, const gan_dataset_desc *desc) {
    const int sizes[4] = {desc->height, desc->width, desc->load_height, desc->load_width};
    for (int i = 0; i < 4; i++) {
        if (sizes[i] < 0 || sizes[i] > 65536) {
            return gani_error(ctx, GAN_ERR_ARGUMENT,
                              "gan_dataset_open: sizes of 0 to 65536 expected, found %d", sizes[i]);
        }
    }
    const int channels[2] = {desc->channels, desc->channels_b};
    for (int i = 0; i < 2; i++) {
        if (channels[i] != 0 && channels[i] != 1 && channels[i] != 3) {
            return gani_error(
                ctx, GAN_ERR_ARGUMENT,
                "gan_dataset_open: 1 or 3 channels (0: as the files) expected, found %d",
                channels[i]);
        }
        if ((desc->label_maps >> i & 1) && channels[i] == 3) {
            return gani_error(ctx, GAN_ERR_ARGUMENT,
                              "gan_dataset_open: 1 channel for the label map in part %d expected, "
                              "found 3",
                              i);
        }
    }
    if (desc->first < 0 || desc->count < 0) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: first and count of at least 0 expected, found %d, %d",
                          desc->first, desc->count);
    }
    return GAN_OK;
}

/* The fields that pairing needs, and no others. */
static gan_status gani_check_pairing(gan_context *ctx, const gan_dataset_desc *desc) {
    const gan_pairing pairing = desc->pairing;
    const int wants_b = pairing == GAN_PAIRING_NAMES || pairing == GAN_PAIRING_UNPAIRED;
    const int paired = pairing == GAN_PAIRING_SIDES || pairing == GAN_PAIRING_NAMES ||
                       pairing == GAN_PAIRING_DERIVED;
    if (!paired && !wants_b && pairing != GAN_PAIRING_NONE && pairing != GAN_PAIRING_HALVES) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: a gan_pairing expected, found %d", (int)pairing);
    }
    if ((int)desc->derive < 0 || (int)desc->derive > GAN_DERIVE_GREY) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: a gan_derive expected, found %d", (int)desc->derive);
    }
    if (desc->path_b && !wants_b) {
        return gani_error(
            ctx, GAN_ERR_ARGUMENT,
            "gan_dataset_open: pairs by names or unpaired expected with path_b \"%s\"",
            desc->path_b);
    }
    if (!desc->path_b && pairing == GAN_PAIRING_NAMES) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: path_b expected for pairs by name, found none");
    }
    if (desc->path_instances && !paired) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: pairs by sides, by names or derived expected with "
                          "path_instances \"%s\"",
                          desc->path_instances);
    }
    return GAN_OK;
}

static gan_status gani_check_dataset_desc(gan_context *ctx, const gan_dataset_desc *desc) {
    gan_status status = gani_check_sizes(ctx, desc);
    status = status ? status : gani_check_pairing(ctx, desc);
    if (status) {
        return status;
    }
    if (desc->fit != GAN_FIT_STRETCH && desc->fit != GAN_FIT_CROP) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "gan_dataset_open: a gan_fit expected, found %d",
                          (int)desc->fit);
    }
    const float span = desc->high - desc->low;
    if (!(span > 0.0f && span <= FLT_MAX) && !(desc->low == 0.0f && desc->high == 0.0f)) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: low < high expected, found %g and %g",
                          (double)desc->low, (double)desc->high);
    }
    return GAN_OK;
}

static gan_status gani_open_domain(gan_dataset *data, int which, const char *path) {
    gani_domain *domain = &data->domains[which];
    domain->ctx = data->ctx;
    domain->budget = &data->budget;
    domain->fit = data->desc.fit;
    domain->sides = 1;
    return gani_domain_open_path(domain, path);
}

/* Subfolder `name` of path as a domain. */
static gan_status gani_open_subfolder(gan_dataset *data, int which, const char *path,
                                      const char *name) {
    char *full = gani_concat(data->ctx, path, "/", name);
    if (!full) {
        return GAN_ERR_MEMORY;
    }
    gan_status status = gani_open_domain(data, which, full);
    gani_free(data->ctx, full);
    return status ? gani_error_in(data->ctx, status,
                                  "without path_b, folders trainA and trainB expected")
                  : GAN_OK;
}

static gan_status gani_open_domains(gan_dataset *data, const char *path,
                                    const gan_dataset_desc *desc) {
    gani_domain *a = &data->domains[GANI_DOMAIN_A];
    if (desc->pairing == GAN_PAIRING_UNPAIRED && !desc->path_b && path) {
        gan_status status = gani_open_subfolder(data, GANI_DOMAIN_A, path, "trainA");
        return status ? status : gani_open_subfolder(data, GANI_DOMAIN_B, path, "trainB");
    }
    gan_status status = gani_open_domain(data, GANI_DOMAIN_A, path);
    if (!status && desc->pairing == GAN_PAIRING_SIDES) {
        a->sides = 2;
        if (a->kind != GANI_DATA_FILES) {
            status = gani_error(data->ctx, GAN_ERR_ARGUMENT,
                                "%s: image files expected for pairs of two sides, found an IDX "
                                "file or drawn digits",
                                path ? path : "digits");
        }
    }
    if (!status && (desc->path_b || desc->pairing == GAN_PAIRING_UNPAIRED)) {
        status = gani_open_domain(data, GANI_DOMAIN_B, desc->path_b);
    }
    if (!status && desc->pairing == GAN_PAIRING_NAMES) {
        status = gani_match_names(a, &data->domains[GANI_DOMAIN_B], desc->path_b);
    }
    if (!status && desc->path_instances) {
        status = gani_open_domain(data, GANI_DOMAIN_INSTANCES, desc->path_instances);
        if (!status) {
            status =
                gani_match_names(a, &data->domains[GANI_DOMAIN_INSTANCES], desc->path_instances);
        }
    }
    return status;
}

/* Says where the parts come from: the table at the top of the section. */
static void gani_plan_parts(gan_dataset *data, const gan_dataset_desc *desc) {
    const gan_pairing pairing = desc->pairing;
    const int two = pairing != GAN_PAIRING_NONE, swap = two && desc->swap ? 1 : 0;
    gani_part *b = &data->parts[1 - swap];
    data->part_count = desc->path_instances ? 3 : two ? 2 : 1;
    if (two) { /* zero is right for all of A, and for what is not set here */
        b->domain = pairing == GAN_PAIRING_NAMES || pairing == GAN_PAIRING_UNPAIRED;
        b->side = pairing == GAN_PAIRING_SIDES;
        b->draw = pairing == GAN_PAIRING_UNPAIRED || pairing == GAN_PAIRING_HALVES;
        b->derived = pairing == GAN_PAIRING_DERIVED || pairing == GAN_PAIRING_HALVES;
    }
    data->parts[2].domain = GANI_DOMAIN_INSTANCES;
}

/* Tells each domain in which form a part wants its images. */
static gan_status gani_set_forms(gan_dataset *data) {
    const gan_dataset_desc *desc = &data->desc;
    for (int p = 0; p < data->part_count; p++) {
        const gani_part *part = &data->parts[p];
        gani_domain *domain = &data->domains[part->domain];
        gani_form *form = &domain->form[part->side];
        const int is_labels = p == 2 || (desc->label_maps >> p & 1);
        const int wish = p == 0 ? desc->channels : p == 1 ? desc->channels_b : 1;
        if (is_labels && (part->derived || domain->kind == GANI_DATA_DIGITS)) {
            return gani_error(data->ctx, GAN_ERR_ARGUMENT,
                              "gan_dataset_open: files with label maps expected for part %d, found "
                              "%s",
                              p, part->derived ? "a derived image" : "drawn digits");
        }
        if (!part->derived) {
            form->is_labels = is_labels;
            form->label_count = is_labels && p < 2 ? desc->label_count : 0;
            form->channels = is_labels ? 1 : wish;
            form->same_channels = form->channels == 0;
        }
    }
    return GAN_OK;
}

/* Sizes that the description left open are those of the first image of A. */
static gan_status gani_complete_sizes(gan_dataset *data, const gan_image *first) {
    gan_dataset_desc *desc = &data->desc;
    desc->height = desc->height ? desc->height : first->height;
    desc->width = desc->width ? desc->width : first->width;
    desc->load_height = desc->load_height ? desc->load_height : desc->height;
    desc->load_width = desc->load_width ? desc->load_width : desc->width;
    if (desc->load_height < desc->height || desc->load_width < desc->width) {
        return gani_error(data->ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: load size of at least %d x %d expected, found %d x %d",
                          desc->width, desc->height, desc->load_width, desc->load_height);
    }
    if (desc->height != desc->width && desc->derive == GAN_DERIVE_ROTATE &&
        (desc->pairing == GAN_PAIRING_DERIVED || desc->pairing == GAN_PAIRING_HALVES)) {
        return gani_error(data->ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: height = width expected for images to be turned by 90 "
                          "degrees, found %d x %d",
                          desc->width, desc->height);
    }
    return GAN_OK;
}

/* Fills in what the description left open and prepares the domains. */
static gan_status gani_complete_desc(gan_dataset *data) {
    gan_dataset_desc *desc = &data->desc;
    gan_status status = gani_set_forms(data);
    desc->height = desc->height ? desc->height : desc->load_height;
    desc->width = desc->width ? desc->width : desc->load_width;
    if (desc->low == 0.0f && desc->high == 0.0f) {
        desc->low = -1.0f;
        desc->high = 1.0f;
    }
    for (int s = 0; s < GANI_DOMAINS && !status; s++) {
        gani_domain *domain = &data->domains[s];
        gan_image first;
        if (!domain->ctx) {
            continue;
        }
        const int open = !domain->form[0].channels || !domain->form[domain->sides - 1].channels;
        status = gani_first_image(domain, open || !desc->height || !desc->width, &first);
        if (!status && s == GANI_DOMAIN_A) {
            status = gani_complete_sizes(data, &first);
        }
        for (int side = 0; side < domain->sides; side++) {
            gani_form *form = &domain->form[side];
            form->channels = form->channels ? form->channels : first.channels >= 3 ? 3 : 1;
        }
        domain->load_height = desc->load_height;
        domain->load_width = desc->load_width;
        status = status ? status : gani_domain_prepare(domain);
    }
    for (int p = 0; p < data->part_count; p++) {
        gani_part *part = &data->parts[p];
        const int wish = p == 0 ? desc->channels : desc->channels_b;
        part->channels = data->domains[part->domain].form[part->side].channels;
        if (part->derived) {
            part->channels = wish ? wish : gani_derived_channels(desc->derive, part->channels);
        }
    }
    return status;
}

/* The records first ... first+count-1 of n. */
static gan_status gani_limit_draw(gan_dataset *data, gani_draw *draw, int n) {
    const int first = data->desc.first, count = data->desc.count;
    if (first >= n || count > n - first) {
        return gani_error(data->ctx, GAN_ERR_ARGUMENT,
                          "gan_dataset_open: records %d ... %lu (first, count) expected, found %d "
                          "images",
                          first, (unsigned long)first + (unsigned long)(count ? count : 1) - 1, n);
    }
    draw->first = first;
    draw->count = count ? count : n - first;
    return GAN_OK;
}

static gan_status gani_prepare_draws(gan_dataset *data) {
    const gan_pairing pairing = data->desc.pairing;
    gani_draw *a = &data->draws[0], *b = &data->draws[1];
    gan_status status = gani_limit_draw(data, a, data->domains[GANI_DOMAIN_A].count);
    if (!status && pairing == GAN_PAIRING_UNPAIRED) {
        status = gani_limit_draw(data, b, data->domains[GANI_DOMAIN_B].count);
    }
    if (!status && pairing == GAN_PAIRING_HALVES) {
        if (a->count < 2) {
            return gani_error(data->ctx, GAN_ERR_ARGUMENT,
                              "gan_dataset_open: at least 2 images expected for two halves, found "
                              "1");
        }
        b->count = a->count - a->count / 2;
        a->count /= 2;
        b->first = a->first + a->count;
    }
    for (int d = 0; d < 2 && !status; d++) {
        gani_draw *draw = &data->draws[d];
        const int domain = d == 1 && pairing == GAN_PAIRING_UNPAIRED;
        draw->endless = data->domains[domain].kind == GANI_DATA_DIGITS && !data->desc.count &&
                        pairing != GAN_PAIRING_HALVES;
        if (draw->count > 0 && !draw->endless) {
            draw->order = (uint32_t *)gani_alloc(
                data->ctx, gani_mul((size_t)draw->count, sizeof *draw->order));
            status = draw->order ? GAN_OK : GAN_ERR_MEMORY;
        }
    }
    return status;
}

static gan_status gani_prepare_dataset(gan_dataset *data) {
    const gan_dataset_desc *desc = &data->desc;
    gan_status status = gani_complete_desc(data);
    status = status ? status : gani_prepare_draws(data);
    if (!status && data->part_count > 1 && (data->parts[0].derived || data->parts[1].derived)) {
        const size_t plane = gani_mul((size_t)desc->height, (size_t)desc->width);
        data->plain = (float *)gani_alloc(data->ctx, gani_mul(plane, 3 * sizeof(float)));
        status = data->plain ? GAN_OK : GAN_ERR_MEMORY;
    }
    for (int i = 0; i < 256; i++) {
        data->value[i] = desc->low + (desc->high - desc->low) * ((float)i / 255.0f);
    }
    return status;
}

GAN_API void gan_dataset_close(gan_dataset *data) {
    if (!data) {
        return;
    }
    for (int s = 0; s < GANI_DOMAINS; s++) {
        gani_domain_close(&data->domains[s]);
    }
    gani_free(data->ctx, data->draws[0].order);
    gani_free(data->ctx, data->draws[1].order);
    gani_free(data->ctx, data->plain);
    gani_free(data->ctx, data);
}

GAN_API gan_status gan_dataset_open(gan_dataset **out, gan_context *ctx, const char *path,
                                    const gan_dataset_desc *desc) {
    *out = NULL;
    gan_dataset *data = (gan_dataset *)gani_calloc(ctx, 1, sizeof *data);
    if (!data) {
        return GAN_ERR_MEMORY;
    }
    data->ctx = ctx;
    if (desc) {
        data->desc = *desc;
    }
    data->budget.limit =
        data->desc.memory_bytes ? data->desc.memory_bytes : GANI_DEFAULT_DATA_MEMORY;
    gan_status status = gani_check_dataset_desc(ctx, &data->desc);
    if (!status) {
        status = gani_open_domains(data, path, &data->desc);
    }
    if (!status) {
        gani_plan_parts(data, &data->desc);
        status = gani_prepare_dataset(data);
    }
    data->desc.path_b = data->desc.path_instances = NULL; /* the caller's */
    if (status) {
        gan_dataset_close(data);
        return status;
    }
    *out = data;
    return GAN_OK;
}

GAN_API int gan_dataset_count(const gan_dataset *data) {
    const int a = data->draws[0].count, b = data->draws[1].count;
    return a > b ? a : b;
}

GAN_API int gan_dataset_classes(const gan_dataset *data) {
    return data->domains[data->parts[0].domain].class_count;
}

GAN_API const char *gan_dataset_class_name(const gan_dataset *data, int index) {
    const gani_domain *domain = &data->domains[data->parts[0].domain];
    return domain->class_names && index >= 0 && index < domain->class_count
               ? domain->text + domain->class_names[index]
               : NULL;
}

GAN_API int gan_dataset_parts(const gan_dataset *data) {
    return data->part_count;
}

GAN_API gan_shape gan_dataset_part_shape(const gan_dataset *data, int part) {
    gan_shape none;
    memset(&none, 0, sizeof none);
    return part >= 0 && part < data->part_count
               ? gan_shape3(data->parts[part].channels, data->desc.height, data->desc.width)
               : none;
}

GAN_API gan_shape gan_dataset_shape(const gan_dataset *data) {
    return gan_dataset_part_shape(data, 0);
}

/* --- batches --------------------------------------------------------------- */

/* One record of one draw: which image, and what is cut out of it. */
typedef struct gani_pick {
    uint64_t seed, number;
    int top, left, flip;
} gani_pick;

/* A number below count, from 32 random bits. */
static int gani_below(uint32_t bits, int count) {
    return (int)((uint64_t)bits * (uint64_t)count >> 32);
}

/* Which image stands at a position of the sequence. */
static uint64_t gani_image_at(gani_draw *draw, uint64_t stream, uint64_t seed, uint64_t position) {
    const uint64_t count = (uint64_t)draw->count, epoch = position / count;
    if (draw->endless) {
        return (uint64_t)draw->first + position;
    }
    if (!draw->has_order || draw->seed != seed || draw->epoch != epoch) {
        gan_random_permutation(seed, stream + epoch, draw->order, (uint32_t)count);
        draw->has_order = 1;
        draw->seed = seed;
        draw->epoch = epoch;
    }
    return (uint64_t)draw->first + draw->order[position % count];
}

/* What draw number d picks at a position of the sequence. */
static gani_pick gani_pick_at(gan_dataset *data, int d, uint64_t seed, uint64_t position) {
    const gan_dataset_desc *desc = &data->desc;
    const int spare_y = desc->load_height - desc->height;
    const int spare_x = desc->load_width - desc->width;
    gani_pick pick;
    uint32_t bits[4];
    gani_philox(seed, gani_stream_augment[d], position, bits);
    pick.seed = seed;
    pick.number = gani_image_at(&data->draws[d], gani_stream_order[d], seed, position);
    pick.top = desc->random_crop ? gani_below(bits[0], spare_y + 1) : spare_y / 2;
    pick.left = desc->random_crop ? gani_below(bits[1], spare_x + 1) : spare_x / 2;
    pick.flip = desc->random_flip && gani_below(bits[2], 2);
    return pick;
}

/* Cuts and flips a side [load_height,load_width,channels] of a block, and maps it to out
 * [channels,height,width]. */
static void gani_emit_side(const gan_dataset *data, const gani_form *form,
                           const unsigned char *side, const gani_pick *pick, float *out) {
    const gan_dataset_desc *desc = &data->desc;
    const size_t channels = (size_t)form->channels;
    for (size_t c = 0; c < channels; c++) {
        for (int y = 0; y < desc->height; y++) {
            const size_t row =
                ((size_t)(pick->top + y) * (size_t)desc->load_width + (size_t)pick->left) *
                    channels +
                c;
            for (int x = 0; x < desc->width; x++) {
                const size_t at = row + (size_t)(pick->flip ? desc->width - 1 - x : x) * channels;
                if (form->is_labels) {
                    uint16_t number;
                    memcpy(&number, side + at * sizeof number, sizeof number);
                    *out++ = (float)number;
                } else {
                    *out++ = data->value[side[at]];
                }
            }
        }
    }
}

/* Makes a derived part with its number of channels from data->plain [channels,height,width]. */
static gan_status gani_emit_derived(gan_dataset *data, const gani_part *part, int channels,
                                    float *out) {
    const gan_dataset_desc *desc = &data->desc;
    const size_t plane = (size_t)desc->height * (size_t)desc->width;
    if (part->channels < channels) { /* all that can be derived commutes with this */
        gani_derive_grey(data->plain, channels, plane, data->plain);
        channels = 1;
    }
    gan_status status = gan_derive_image(data->ctx, desc->derive, data->plain, channels,
                                         desc->height, desc->width, desc->low, desc->high, out);
    const int made = gani_derived_channels(desc->derive, channels);
    for (int c = made; c < part->channels && !status; c++) {
        memcpy(out + (size_t)c * plane, out, plane * sizeof(float));
    }
    return status;
}

static gan_status gani_emit_part(gan_dataset *data, const gani_part *part, const gani_pick *pick,
                                 float *out) {
    gani_domain *domain = &data->domains[part->domain];
    const gani_form *form = &domain->form[part->side];
    const unsigned char *block;
    int label;
    gan_status status = gani_fetch(domain, pick->seed, pick->number, &block, &label);
    if (status) {
        return status;
    }
    gani_emit_side(data, form, block + form->offset, pick, part->derived ? data->plain : out);
    return part->derived ? gani_emit_derived(data, part, form->channels, out) : GAN_OK;
}

static gan_status gani_check_labels(const gan_dataset *data, const float *labels) {
    return labels && gan_dataset_classes(data) == 0
               ? gani_error(data->ctx, GAN_ERR_STATE, "labels expected, but the images have none")
               : GAN_OK;
}

/* Class of an image; of a digit, which it is. */
static gan_status gani_label_of(gani_domain *domain, const gani_pick *pick, float *label) {
    const unsigned char *block;
    int number = 0;
    gan_status status = GAN_OK;
    if (domain->kind == GANI_DATA_DIGITS) {
        status = gani_fetch(domain, pick->seed, pick->number, &block, &number);
    } else {
        number = domain->samples[pick->number].label;
    }
    *label = (float)number;
    return status;
}

/* Partners that are files of their own must have one shape: width to height the same, but for the
 * rounding of a size by one pixel. Then they lie over each other after any resizing. Those that
 * have not both been decoded yet pass. */
static gan_status gani_check_partner(const gan_dataset *data, const gani_part *part,
                                     uint64_t number) {
    if (part->domain == GANI_DOMAIN_A || part->draw != 0) {
        return GAN_OK;
    }
    const gani_sample *a = &data->domains[GANI_DOMAIN_A].samples[number];
    const gani_sample *b = &data->domains[part->domain].samples[number];
    const int64_t left = (int64_t)a->width * b->height, right = (int64_t)b->width * a->height;
    const int64_t difference = left > right ? left - right : right - left;
    const int most_a = a->width > a->height ? a->width : a->height;
    const int most_b = b->width > b->height ? b->width : b->height;
    if (a->width == 0 || b->width == 0 || difference <= (most_a > most_b ? most_a : most_b)) {
        return GAN_OK;
    }
    return gani_error(data->ctx, GAN_ERR_FORMAT,
                      "%s, %s: partners of one shape expected, found %d x %d and %d x %d",
                      data->domains[GANI_DOMAIN_A].text + a->path,
                      data->domains[part->domain].text + b->path, a->width, a->height, b->width,
                      b->height);
}

/* Parts and label of the record that the draws have picked, as record i of a batch. */
static gan_status gani_emit_record(gan_dataset *data, const gani_pick *picks, int i,
                                   float *const *parts, float *labels) {
    gan_status status = GAN_OK;
    for (int p = 0; p < data->part_count && !status; p++) {
        const gani_part *part = &data->parts[p];
        const size_t size =
            (size_t)part->channels * (size_t)data->desc.height * (size_t)data->desc.width;
        if (parts[p]) {
            status = gani_emit_part(data, part, &picks[part->draw], parts[p] + (size_t)i * size);
        }
    }
    for (int p = 0; p < data->part_count && !status; p++) {
        status = gani_check_partner(data, &data->parts[p], picks[0].number);
    }
    if (labels && !status) {
        const gani_part *part = &data->parts[0];
        status = gani_label_of(&data->domains[part->domain], &picks[part->draw], &labels[i]);
    }
    return status;
}

GAN_API gan_status gan_dataset_batch_parts(gan_dataset *data, uint64_t seed, uint64_t step,
                                           int batch, float *const *parts, float *labels) {
    gan_status status = gani_check_labels(data, labels);
    if (batch < 1) {
        return gani_error(data->ctx, GAN_ERR_ARGUMENT, "batch of at least 1 expected, found %d",
                          batch);
    }
    for (int i = 0; i < batch && !status; i++) {
        const uint64_t position = step * (uint64_t)batch + (uint64_t)i;
        gani_pick picks[2];
        picks[0] = picks[1] = gani_pick_at(data, 0, seed, position);
        if (data->draws[1].count > 0) {
            picks[1] = gani_pick_at(data, 1, seed, position);
        }
        status = gani_emit_record(data, picks, i, parts, labels);
    }
    return status;
}

GAN_API gan_status gan_dataset_batch(gan_dataset *data, uint64_t seed, uint64_t step, int batch,
                                     float *images, float *labels) {
    float *const parts[3] = {images, NULL, NULL};
    return gan_dataset_batch_parts(data, seed, step, batch, parts, labels);
}

GAN_API const char *gan_dataset_path(const gan_dataset *data, int index) {
    const gani_part *part = &data->parts[0];
    const gani_domain *domain = &data->domains[part->domain];
    const gani_draw *draw = &data->draws[part->draw];
    if (domain->kind != GANI_DATA_FILES || index < 0 || index >= draw->count) {
        return NULL;
    }
    return domain->text + domain->samples[draw->first + index].path;
}

GAN_API gan_status gan_dataset_get_parts(gan_dataset *data, int index, float *const *parts,
                                         float *label) {
    const int count = gan_dataset_count(data);
    if (index < 0 || index >= count) {
        return gani_error(data->ctx, GAN_ERR_ARGUMENT, "image 0 ... %d expected, found %d",
                          count - 1, index);
    }
    gani_pick picks[2];
    for (int d = 0; d < 2; d++) {
        const gani_draw *draw = &data->draws[d];
        picks[d].seed = 0;
        picks[d].number = (uint64_t)(draw->first + index % (draw->count > 0 ? draw->count : count));
        picks[d].top = (data->desc.load_height - data->desc.height) / 2;
        picks[d].left = (data->desc.load_width - data->desc.width) / 2;
        picks[d].flip = 0;
    }
    gan_status status = gani_check_labels(data, label);
    return status ? status : gani_emit_record(data, picks, 0, parts, label);
}

GAN_API gan_status gan_dataset_get(gan_dataset *data, int index, float *image, float *label) {
    float *const parts[3] = {image, NULL, NULL};
    return gan_dataset_get_parts(data, index, parts, label);
}

/* ============================================================================
 * >>checkpoints  7.5  SAFETENSORS
 *
 * File: 8 bytes length n of the header (low byte first), n bytes of JSON, data. The header is one
 * object:
 *   {"__metadata__": {"key": "text", ...},
 *    "name": {"dtype": "F32", "shape": [2,3], "data_offsets": [0,24]}, ...}      offsets count from
 * the start of the data The data of all tensors must lie one after the other, without holes, up to
 * the end of the file; that also rules out overlaps. We pad the header with spaces to a multiple
 * of 8.
 *
 * The store adds texts of its own: "params.seed" and "params.step" (decimal), and "params.kinds", a
 * letter for each tensor in order: w weight, b buffer, s optimiser state.
 *
 * The reader parses the header in place (a decoded string is never longer than its JSON), accepts
 * exactly the grammar above, and keeps a list of tensors that says nothing of the container, so
 * that other containers can fill the same list.
 *
 * Holds:  reader and writer of checkpoints.
 * Uses:   >>platform  >>nodes (parameters)  >>images (file writer)        Knows nothing of: models.
 * ========================================================================= */

#define GANI_MAX_HEADER_BYTES 100000000u /* as the reference implementation */

/* --- number formats -------------------------------------------------------- */

static uint32_t gani_get_le32(const unsigned char *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static uint64_t gani_get_le64(const unsigned char *bytes) {
    return (uint64_t)gani_get_le32(bytes) | (uint64_t)gani_get_le32(bytes + 4) << 32;
}

static float gani_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float gani_from_f32(const unsigned char *bytes) {
    return gani_float_from_bits(gani_get_le32(bytes));
}

static float gani_from_bf16(const unsigned char *bytes) { /* the upper half of a float */
    return gani_float_from_bits((uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 24);
}

/* 1 sign, 5 exponent (bias 15), 10 fraction. */
static float gani_from_f16(const unsigned char *bytes) {
    const unsigned bits = (unsigned)bytes[0] | (unsigned)bytes[1] << 8;
    const unsigned exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    if (exponent == 0) { /* below 2^-14: fraction * 2^-24 */
        const float value = (float)fraction * (1.0f / 16777216.0f);
        return sign ? -value : value;
    }
    return gani_float_from_bits(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 |
                                fraction << 13);
}

static float gani_from_f64(const unsigned char *bytes) {
    const uint64_t bits = gani_get_le64(bytes);
    double value;
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

static float gani_from_i64(const unsigned char *bytes) {
    const uint64_t bits = gani_get_le64(bytes);
    return bits >> 63 ? -(float)(~bits + 1) : (float)bits;
}

static float gani_from_i32(const unsigned char *bytes) {
    const uint32_t bits = gani_get_le32(bytes);
    return bits >> 31 ? -(float)(~bits + 1) : (float)bits;
}

static float gani_from_i16(const unsigned char *bytes) {
    const int bits = bytes[0] | bytes[1] << 8;
    return (float)(bits & 0x8000 ? bits - 0x10000 : bits);
}

static float gani_from_i8(const unsigned char *bytes) {
    return (float)(bytes[0] & 0x80 ? bytes[0] - 0x100 : bytes[0]);
}

static float gani_from_u8(const unsigned char *bytes) {
    return (float)bytes[0];
}

/* The number formats of safetensors; those without a function are listed but not read. */
typedef struct gani_dtype {
    const char *name;
    int size_bytes;
    float (*to_float)(const unsigned char *bytes);
} gani_dtype;

static const gani_dtype gani_dtypes[] = {
    {"F32", 4, gani_from_f32}, {"F16", 2, gani_from_f16}, {"BF16", 2, gani_from_bf16},
    {"F64", 8, gani_from_f64}, {"I64", 8, gani_from_i64}, {"I32", 4, gani_from_i32},
    {"I16", 2, gani_from_i16}, {"I8", 1, gani_from_i8},   {"U8", 1, gani_from_u8},
    {"BOOL", 1, gani_from_u8}, {"U16", 2, NULL},          {"U32", 4, NULL},
    {"U64", 8, NULL},          {"F8_E4M3", 1, NULL},      {"F8_E5M2", 1, NULL},
};
#define GANI_DTYPE_COUNT ((int)(sizeof gani_dtypes / sizeof gani_dtypes[0]))

/* --- writing --------------------------------------------------------------- */

static const char gani_kind_letters[] = "wbs"; /* by gan_param_kind */

/* Text in the making. */
typedef struct gani_text {
    gan_context *ctx;
    char *bytes;
    int size, capacity;
    int failed;
} gani_text;

static void gani_text_add(gani_text *text, const char *bytes, size_t size_bytes) {
    if (text->failed || size_bytes > (size_t)(INT_MAX - text->size)) {
        text->failed = 1;
        return;
    }
    void *items = text->bytes;
    text->failed = !gani_grow(text->ctx, &items, &text->capacity, text->size + (int)size_bytes, 1);
    text->bytes = (char *)items;
    if (!text->failed) {
        memcpy(text->bytes + text->size, bytes, size_bytes);
        text->size += (int)size_bytes;
    }
}

static void gani_text_put(gani_text *text, const char *string) {
    gani_text_add(text, string, strlen(string));
}

static void gani_text_number(gani_text *text, uint64_t number) {
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    gani_text_add(text, digits + first, sizeof digits - first);
}

/* A JSON string. */
static void gani_text_string(gani_text *text, const char *string) {
    gani_text_put(text, "\"");
    for (; *string; string++) {
        const unsigned char c = (unsigned char)*string;
        if (c == '"' || c == '\\') {
            gani_text_put(text, "\\");
            gani_text_add(text, string, 1);
        } else if (c < 0x20) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
            gani_text_put(text, escape);
        } else {
            gani_text_add(text, string, 1);
        }
    }
    gani_text_put(text, "\"");
}

/* "key":"value", */
static void gani_text_pair(gani_text *text, const char *key, const char *value) {
    gani_text_string(text, key);
    gani_text_put(text, ":");
    gani_text_string(text, value);
    gani_text_put(text, ",");
}

static void gani_text_pair_number(gani_text *text, const char *key, uint64_t value) {
    gani_text_string(text, key);
    gani_text_put(text, ":\"");
    gani_text_number(text, value);
    gani_text_put(text, "\",");
}

static size_t gani_param_bytes(const gani_param *param) {
    return gani_mul(gan_shape_count(param->shape), sizeof(float));
}

/* The header with its length in front. */
static void gani_safetensors_header(gani_text *text, const gan_params *params,
                                    const gan_metadata *meta, int meta_count) {
    uint64_t offset = 0;
    gani_text_put(text, "12345678{\"__metadata__\":{");
    for (int i = 0; i < meta_count; i++) {
        gani_text_pair(text, meta[i].key, meta[i].value);
    }
    gani_text_pair_number(text, "params.seed", params->seed);
    gani_text_pair_number(text, "params.step", params->step);
    gani_text_put(text, "\"params.kinds\":\"");
    for (int i = 0; i < params->count; i++) {
        gani_text_add(text, &gani_kind_letters[params->items[i].kind], 1);
    }
    gani_text_put(text, "\"}");
    for (int i = 0; i < params->count; i++) {
        const gani_param *param = &params->items[i];
        gani_text_put(text, ",");
        gani_text_string(text, param->name);
        gani_text_put(text, ":{\"dtype\":\"F32\",\"shape\":[");
        for (int d = 0; d < param->shape.rank; d++) {
            gani_text_put(text, d ? "," : "");
            gani_text_number(text, (uint64_t)param->shape.dim[d]);
        }
        gani_text_put(text, "],\"data_offsets\":[");
        gani_text_number(text, offset);
        gani_text_put(text, ",");
        offset += gani_param_bytes(param);
        gani_text_number(text, offset);
        gani_text_put(text, "]}");
    }
    gani_text_put(text, "}");
    while (!text->failed && text->size % 8) {
        gani_text_put(text, " ");
    }
    for (int i = 0; i < 8 && !text->failed; i++) {
        text->bytes[i] = (char)(((uint64_t)text->size - 8) >> (8 * i) & 255u);
    }
}

/* Floats, low byte first. */
static void gani_write_floats(gani_writer *out, const float *values, size_t count) {
    unsigned char block[4096];
    for (size_t i = 0; i < count;) {
        size_t used = 0;
        for (; used < sizeof block && i < count; i++, used += 4) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            for (int b = 0; b < 4; b++) {
                block[used + (size_t)b] = (unsigned char)(bits >> (8 * b) & 255u);
            }
        }
        gani_writer_put(out, block, used);
    }
}

GAN_API gan_status gan_params_save(const gan_params *params, const char *path,
                                   const gan_metadata *meta, int meta_count) {
    gan_context *ctx = params->ctx;
    for (int i = 0; i < meta_count; i++) {
        int twice = 0;
        for (int k = 0; k < i; k++) {
            twice |= strcmp(meta[i].key, meta[k].key) == 0;
        }
        if (twice || strncmp(meta[i].key, "params.", 7) == 0) {
            return gani_error(ctx, GAN_ERR_ARGUMENT,
                              "gan_params_save: different keys that do not begin with \"params.\" "
                              "expected, found \"%s\"",
                              meta[i].key);
        }
    }
    gani_text header;
    memset(&header, 0, sizeof header);
    header.ctx = ctx;
    gani_safetensors_header(&header, params, meta, meta_count);
    if (header.failed || (unsigned)header.size > GANI_MAX_HEADER_BYTES) {
        gani_free(ctx, header.bytes);
        return gani_error(ctx, header.failed ? GAN_ERR_MEMORY : GAN_ERR_LIMIT,
                          "%s: cannot hold the header in memory", path);
    }
    gani_writer out;
    if (!gani_writer_open(&out, ctx, path)) {
        gani_writer_put(&out, header.bytes, (size_t)header.size);
        for (int i = 0; i < params->count; i++) {
            gani_write_floats(&out, params->items[i].data, gan_shape_count(params->items[i].shape));
        }
    }
    gani_free(ctx, header.bytes);
    return gani_writer_close(&out);
}

/* --- reading --------------------------------------------------------------- */

typedef struct gani_entry {
    const char *name;
    const gani_dtype *dtype;
    gan_shape shape;
    size_t count;
    gan_param_kind kind;
    uint64_t begin, end; /* bytes of the data */
} gani_entry;

struct gan_checkpoint {
    gan_context *ctx;
    FILE *file;
    char *path;
    unsigned char *header; /* owns all strings */
    uint64_t data_start;   /* offset in the file */
    gani_entry *entries;   /* in the order of their data */
    int count, capacity;
    const gani_entry **by_name;
    gan_metadata *texts;
    int text_count, text_capacity;
};

/* Cursor over the header; a byte 0 stands after its end. */
typedef struct gani_json {
    gan_checkpoint *checkpoint;
    unsigned char *start, *at;
} gani_json;

static gan_status gani_json_expected(const gani_json *in, const char *what) {
    return gani_error(in->checkpoint->ctx, GAN_ERR_FORMAT,
                      "safetensors header: %s expected at byte %lu, found 0x%02x", what,
                      (unsigned long)(in->at - in->start), (unsigned)*in->at);
}

static void gani_json_space(gani_json *in) {
    while (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r') {
        in->at++;
    }
}

/* Skips white space; 1 and past it if `c` comes next. */
static int gani_json_take(gani_json *in, int c) {
    gani_json_space(in);
    if (*in->at != c) {
        return 0;
    }
    in->at++;
    return 1;
}

/* Four hexadecimal digits; -1 if they are not. */
static int gani_json_hex(const unsigned char *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        const int c = gani_lower(at[i]);
        if (!gani_is_digit((unsigned char)c) && !(c >= 'a' && c <= 'f')) {
            return -1;
        }
        value = value * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return value;
}

static unsigned char *gani_put_utf8(unsigned char *out, unsigned code) {
    if (code < 0x80) {
        *out++ = (unsigned char)code;
        return out;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3; /* bytes after the first */
    static const unsigned char lead[4] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (unsigned char)(lead[more] | code >> (6 * more));
    for (int i = more - 1; i >= 0; i--) {
        *out++ = (unsigned char)(0x80u | (code >> (6 * i) & 0x3fu));
    }
    return out;
}

/* After a backslash: decodes one escape to *out. 0 if it is not one (or a zero byte, which our
 * strings cannot hold). */
static int gani_json_escape(gani_json *in, unsigned char **out) {
    static const char letters[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    const char *letter = *in->at ? strchr(letters, *in->at) : NULL;
    if (letter) {
        *(*out)++ = (unsigned char)bytes[letter - letters];
        in->at++;
        return 1;
    }
    int code = *in->at == 'u' ? gani_json_hex(in->at + 1) : -1;
    if (code <= 0 || (code >= 0xdc00 && code < 0xe000)) {
        return 0;
    }
    in->at += 5;
    if (code >= 0xd800 && code < 0xdc00) { /* the first half of a pair */
        const int low = in->at[0] == '\\' && in->at[1] == 'u' ? gani_json_hex(in->at + 2) : -1;
        if (low < 0xdc00 || low >= 0xe000) {
            return 0;
        }
        in->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = gani_put_utf8(*out, (unsigned)code);
    return 1;
}

/* A string, decoded in place; it stays valid as long as the header. */
static gan_status gani_json_string(gani_json *in, const char **string) {
    if (!gani_json_take(in, '"')) {
        return gani_json_expected(in, "a string");
    }
    unsigned char *out = in->at;
    *string = (const char *)out;
    while (*in->at != '"') {
        if (*in->at == '\\') {
            in->at++;
            if (!gani_json_escape(in, &out)) {
                return gani_json_expected(in, "an escape");
            }
        } else if (*in->at < 0x20) { /* also the end */
            return gani_json_expected(in, "the end of a string");
        } else {
            *out++ = *in->at++;
        }
    }
    in->at++;
    *out = 0;
    return GAN_OK;
}

/* A whole number from 0 on, without leading zeros. */
static gan_status gani_json_number(gani_json *in, uint64_t *value) {
    gani_json_space(in);
    const unsigned char *first = in->at;
    uint64_t number = 0;
    for (; gani_is_digit(*in->at); in->at++) {
        const unsigned digit = (unsigned)(*in->at - '0');
        if (number > (UINT64_MAX - digit) / 10 || (number == 0 && in->at > first)) {
            return gani_json_expected(in, "a whole number below 2^64");
        }
        number = number * 10 + digit;
    }
    *value = number;
    return in->at > first ? GAN_OK : gani_json_expected(in, "a whole number");
}

/* [a,b,...] of at most `most` numbers. */
static gan_status gani_json_numbers(gani_json *in, uint64_t *values, int most, int *count) {
    *count = 0;
    if (!gani_json_take(in, '[')) {
        return gani_json_expected(in, "[");
    }
    if (gani_json_take(in, ']')) {
        return GAN_OK;
    }
    do {
        if (*count == most) {
            return gani_json_expected(in,
                                      most == 2 ? "two numbers" : "a shape of at most 5 extents");
        }
        gan_status status = gani_json_number(in, &values[(*count)++]);
        if (status) {
            return status;
        }
    } while (gani_json_take(in, ','));
    return gani_json_take(in, ']') ? GAN_OK : gani_json_expected(in, "] or ,");
}

static gan_status gani_json_dtype(gani_json *in, gani_entry *entry) {
    const char *name;
    gan_status status = gani_json_string(in, &name);
    for (int i = 0; i < GANI_DTYPE_COUNT && !status; i++) {
        if (strcmp(name, gani_dtypes[i].name) == 0) {
            entry->dtype = &gani_dtypes[i];
        }
    }
    if (!status && !entry->dtype) {
        return gani_error(in->checkpoint->ctx, GAN_ERR_UNSUPPORTED,
                          "tensor \"%s\": a known dtype expected, found \"%s\"", entry->name, name);
    }
    return status;
}

/* One member of a tensor's object: dtype, shape or data_offsets; seen: bits of those that have been
 * read. */
static gan_status gani_json_member(gani_json *in, gani_entry *entry, unsigned *seen) {
    static const char *const keys[3] = {"dtype", "shape", "data_offsets"};
    uint64_t numbers[GAN_MAX_RANK];
    const char *key;
    int count, field = 0;
    gan_status status = gani_json_string(in, &key);
    if (status) {
        return status;
    }
    while (field < 3 && strcmp(key, keys[field]) != 0) {
        field++;
    }
    if (field == 3 || *seen >> field & 1u || !gani_json_take(in, ':')) {
        return gani_json_expected(in,
                                  "dtype, shape, data_offsets, each once and followed by a colon,");
    }
    *seen |= 1u << field;
    if (field == 0) {
        return gani_json_dtype(in, entry);
    }
    status = gani_json_numbers(in, numbers, field == 1 ? GAN_MAX_RANK : 2, &count);
    if (status) {
        return status;
    }
    if (field == 2) {
        if (count != 2) {
            return gani_json_expected(in, "two numbers");
        }
        entry->begin = numbers[0];
        entry->end = numbers[1];
        return GAN_OK;
    }
    entry->shape.rank = count;
    for (int d = 0; d < count; d++) {
        if (numbers[d] > INT_MAX) {
            return gani_json_expected(in, "extents of at most 2^31 - 1");
        }
        entry->shape.dim[d] = (int)numbers[d];
    }
    return GAN_OK;
}

/* Elements from the shape, and whether the offsets hold as many. */
static gan_status gani_check_entry(gan_checkpoint *checkpoint, gani_entry *entry) {
    size_t bytes = (size_t)entry->dtype->size_bytes;
    int empty = 0;
    for (int d = 0; d < entry->shape.rank; d++) {
        empty |= entry->shape.dim[d] == 0;
        bytes = gani_mul(bytes, entry->shape.dim[d] ? (size_t)entry->shape.dim[d] : 1);
    }
    entry->count = empty ? 0 : bytes / (size_t)entry->dtype->size_bytes;
    if (bytes == 0 || entry->begin > entry->end ||
        entry->end - entry->begin != (empty ? 0 : bytes)) {
        return gani_error(checkpoint->ctx, GAN_ERR_FORMAT,
                          "tensor \"%s\": %lu bytes of data expected, found offsets %lu to %lu",
                          entry->name, (unsigned long)(empty ? 0 : bytes),
                          (unsigned long)entry->begin, (unsigned long)entry->end);
    }
    return GAN_OK;
}

static gan_status gani_json_tensor(gani_json *in, const char *name) {
    gan_checkpoint *checkpoint = in->checkpoint;
    gani_entry entry;
    unsigned seen = 0;
    memset(&entry, 0, sizeof entry);
    entry.name = name;
    entry.kind = GAN_PARAM_WEIGHT;
    if (!gani_json_take(in, '{')) {
        return gani_json_expected(in, "{");
    }
    do {
        gan_status status = gani_json_member(in, &entry, &seen);
        if (status) {
            return status;
        }
    } while (gani_json_take(in, ','));
    if (!gani_json_take(in, '}') || seen != 7) {
        return gani_json_expected(in, "dtype, shape and data_offsets, then }");
    }
    gan_status status = gani_check_entry(checkpoint, &entry);
    if (status) {
        return status;
    }
    void *items = checkpoint->entries;
    int ok = gani_grow(checkpoint->ctx, &items, &checkpoint->capacity, checkpoint->count + 1,
                       sizeof entry);
    checkpoint->entries = (gani_entry *)items;
    if (!ok) {
        return GAN_ERR_MEMORY;
    }
    checkpoint->entries[checkpoint->count++] = entry;
    return GAN_OK;
}

/* {"key":"text",...} */
static gan_status gani_json_metadata(gani_json *in) {
    gan_checkpoint *checkpoint = in->checkpoint;
    if (!gani_json_take(in, '{')) {
        return gani_json_expected(in, "{");
    }
    if (checkpoint->texts) {
        return gani_json_expected(in, "__metadata__ only once");
    }
    if (gani_json_take(in, '}')) {
        return GAN_OK;
    }
    do {
        gan_metadata text;
        gan_status status = gani_json_string(in, &text.key);
        if (!status && !gani_json_take(in, ':')) {
            status = gani_json_expected(in, ":");
        }
        if (!status) {
            status = gani_json_string(in, &text.value);
        }
        void *items = checkpoint->texts;
        if (!status && !gani_grow(checkpoint->ctx, &items, &checkpoint->text_capacity,
                                  checkpoint->text_count + 1, sizeof text)) {
            status = GAN_ERR_MEMORY;
        }
        checkpoint->texts = (gan_metadata *)items;
        if (status) {
            return status;
        }
        checkpoint->texts[checkpoint->text_count++] = text;
    } while (gani_json_take(in, ','));
    return gani_json_take(in, '}') ? GAN_OK : gani_json_expected(in, "} or ,");
}

static gan_status gani_json_header(gani_json *in, const unsigned char *end) {
    if (*in->at != '{') {
        return gani_json_expected(in, "{");
    }
    in->at++;
    if (!gani_json_take(in, '}')) {
        do {
            const char *name;
            gan_status status = gani_json_string(in, &name);
            if (!status && !gani_json_take(in, ':')) {
                status = gani_json_expected(in, ":");
            }
            if (!status) {
                status = strcmp(name, "__metadata__") == 0 ? gani_json_metadata(in)
                                                           : gani_json_tensor(in, name);
            }
            if (status) {
                return status;
            }
        } while (gani_json_take(in, ','));
        if (!gani_json_take(in, '}')) {
            return gani_json_expected(in, "} or ,");
        }
    }
    gani_json_space(in);
    return in->at == end ? GAN_OK : gani_json_expected(in, "the end of the header");
}

static int gani_compare_begin(const void *a, const void *b) {
    const gani_entry *p = (const gani_entry *)a, *q = (const gani_entry *)b;
    if (p->begin != q->begin) {
        return p->begin < q->begin ? -1 : 1;
    }
    if (p->end != q->end) { /* empty tensors before the one that starts at the same place */
        return p->end < q->end ? -1 : 1;
    }
    return strcmp(p->name, q->name);
}

static int gani_compare_entry_names(const void *a, const void *b) {
    const gani_entry *const *p = (const gani_entry *const *)a, *const *q =
                                                                   (const gani_entry *const *)b;
    return strcmp((*p)->name, (*q)->name);
}

static int gani_compare_texts(const void *a, const void *b) {
    return strcmp(((const gan_metadata *)a)->key, ((const gan_metadata *)b)->key);
}

GAN_API const char *gan_checkpoint_text(const gan_checkpoint *checkpoint, const char *key) {
    for (int i = 0; i < checkpoint->text_count; i++) {
        if (strcmp(checkpoint->texts[i].key, key) == 0) {
            return checkpoint->texts[i].value;
        }
    }
    return NULL;
}

/* Kinds as the store wrote them; a file that has been rewritten otherwise keeps all as weights. */
static void gani_checkpoint_kinds(gan_checkpoint *checkpoint) {
    const char *kinds = gan_checkpoint_text(checkpoint, "params.kinds");
    if (kinds && strlen(kinds) == (size_t)checkpoint->count &&
        strspn(kinds, gani_kind_letters) == (size_t)checkpoint->count) {
        for (int i = 0; i < checkpoint->count; i++) {
            checkpoint->entries[i].kind =
                (gan_param_kind)(strchr(gani_kind_letters, kinds[i]) - gani_kind_letters);
        }
    }
}

/* Orders tensors and texts, checks that data has no holes and names are different. data_bytes: in
 * the file after the header. */
static gan_status gani_checkpoint_index(gan_checkpoint *checkpoint, uint64_t data_bytes) {
    gan_context *ctx = checkpoint->ctx;
    const size_t count = (size_t)checkpoint->count;
    uint64_t end = 0;
    if (count > 0) {
        qsort(checkpoint->entries, count, sizeof *checkpoint->entries, gani_compare_begin);
        checkpoint->by_name =
            (const gani_entry **)gani_calloc(ctx, count, sizeof *checkpoint->by_name);
        if (!checkpoint->by_name) {
            return GAN_ERR_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const gani_entry *entry = &checkpoint->entries[i];
        if (entry->begin != end || entry->end > data_bytes) {
            return gani_error(ctx, GAN_ERR_FORMAT,
                              "tensor \"%s\": data from %lu to at most %lu expected (no overlap, "
                              "no hole), found %lu to %lu",
                              entry->name, (unsigned long)end, (unsigned long)data_bytes,
                              (unsigned long)entry->begin, (unsigned long)entry->end);
        }
        end = entry->end;
        checkpoint->by_name[i] = entry;
    }
    if (end != data_bytes) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "%lu bytes of data expected after the header, found %lu",
                          (unsigned long)end, (unsigned long)data_bytes);
    }
    if (count > 0) {
        qsort(checkpoint->by_name, count, sizeof *checkpoint->by_name, gani_compare_entry_names);
    }
    for (size_t i = 1; i < count; i++) {
        if (strcmp(checkpoint->by_name[i - 1]->name, checkpoint->by_name[i]->name) == 0) {
            return gani_error(ctx, GAN_ERR_FORMAT,
                              "tensor \"%s\": different names expected, found this twice",
                              checkpoint->by_name[i]->name);
        }
    }
    if (checkpoint->text_count > 1) {
        qsort(checkpoint->texts, (size_t)checkpoint->text_count, sizeof *checkpoint->texts,
              gani_compare_texts);
    }
    for (int i = 1; i < checkpoint->text_count; i++) {
        if (strcmp(checkpoint->texts[i - 1].key, checkpoint->texts[i].key) == 0) {
            return gani_error(ctx, GAN_ERR_FORMAT,
                              "__metadata__: different keys expected, found \"%s\" twice",
                              checkpoint->texts[i].key);
        }
    }
    gani_checkpoint_kinds(checkpoint);
    return GAN_OK;
}

static gan_status gani_checkpoint_parse(gan_checkpoint *checkpoint) {
    gan_context *ctx = checkpoint->ctx;
    unsigned char length[8];
    const size_t got = fread(length, 1, sizeof length, checkpoint->file);
    const long size = fseek(checkpoint->file, 0, SEEK_END) == 0 ? ftell(checkpoint->file) : -1;
    if (size < 0 || ferror(checkpoint->file)) {
        return gani_error(ctx, GAN_ERR_FILE, "cannot read it: %s", strerror(errno));
    }
    const uint64_t header = got == sizeof length ? gani_get_le64(length) : 0;
    if (header < 2 || header > GANI_MAX_HEADER_BYTES || header > (uint64_t)size - 8) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "safetensors file expected: a header of 2 to %lu bytes, found %lu in a "
                          "file of %ld bytes",
                          (unsigned long)GANI_MAX_HEADER_BYTES, (unsigned long)header, size);
    }
    checkpoint->header = (unsigned char *)gani_alloc(ctx, (size_t)header + 1);
    if (!checkpoint->header) {
        return GAN_ERR_MEMORY;
    }
    if (fseek(checkpoint->file, 8, SEEK_SET) != 0 ||
        fread(checkpoint->header, 1, (size_t)header, checkpoint->file) != header) {
        return gani_error(ctx, GAN_ERR_FILE, "cannot read its header");
    }
    checkpoint->header[header] = 0;
    checkpoint->data_start = 8 + header;
    gani_json in;
    in.checkpoint = checkpoint;
    in.start = in.at = checkpoint->header;
    gan_status status = gani_json_header(&in, checkpoint->header + header);
    return status ? status
                  : gani_checkpoint_index(checkpoint, (uint64_t)size - checkpoint->data_start);
}

GAN_API void gan_checkpoint_close(gan_checkpoint *checkpoint) {
    if (!checkpoint) {
        return;
    }
    gan_context *ctx = checkpoint->ctx;
    if (checkpoint->file) {
        fclose(checkpoint->file);
    }
    gani_free(ctx, checkpoint->path);
    gani_free(ctx, checkpoint->header);
    gani_free(ctx, checkpoint->entries);
    gani_free(ctx, checkpoint->by_name);
    gani_free(ctx, checkpoint->texts);
    gani_free(ctx, checkpoint);
}

GAN_API gan_status gan_checkpoint_open(gan_checkpoint **out, gan_context *ctx, const char *path) {
    *out = NULL;
    gan_checkpoint *checkpoint = (gan_checkpoint *)gani_calloc(ctx, 1, sizeof *checkpoint);
    if (!checkpoint) {
        return GAN_ERR_MEMORY;
    }
    gan_status status = GAN_OK;
    checkpoint->ctx = ctx;
    checkpoint->path = gani_strdup(ctx, path);
    checkpoint->file = fopen(path, "rb");
    if (!checkpoint->path) {
        status = GAN_ERR_MEMORY;
    } else if (!checkpoint->file) {
        status = gani_error(ctx, GAN_ERR_FILE, "cannot open %s: %s", path, strerror(errno));
    } else {
        status = gani_checkpoint_parse(checkpoint);
        status = status ? gani_error_in(ctx, status, path) : GAN_OK;
    }
    if (status) {
        gan_checkpoint_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return GAN_OK;
}

GAN_API int gan_checkpoint_count(const gan_checkpoint *checkpoint) {
    return checkpoint->count;
}

GAN_API gan_checkpoint_tensor gan_checkpoint_at(const gan_checkpoint *checkpoint, int index) {
    gan_checkpoint_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    if (index >= 0 && index < checkpoint->count) {
        const gani_entry *entry = &checkpoint->entries[index];
        tensor.name = entry->name;
        tensor.dtype = entry->dtype->name;
        tensor.shape = entry->shape;
        tensor.count = entry->count;
        tensor.kind = entry->kind;
    }
    return tensor;
}

GAN_API int gan_checkpoint_find(const gan_checkpoint *checkpoint, const char *name) {
    int low = 0, high = checkpoint->count;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const int order = strcmp(name, checkpoint->by_name[middle]->name);
        if (order == 0) {
            return (int)(checkpoint->by_name[middle] - checkpoint->entries);
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

GAN_API gan_metadata gan_checkpoint_text_at(const gan_checkpoint *checkpoint, int index) {
    gan_metadata none = {NULL, NULL};
    return index >= 0 && index < checkpoint->text_count ? checkpoint->texts[index] : none;
}

GAN_API gan_status gan_checkpoint_read(gan_checkpoint *checkpoint, int index, float *out,
                                       size_t count) {
    gan_context *ctx = checkpoint->ctx;
    if (index < 0 || index >= checkpoint->count || count != checkpoint->entries[index].count) {
        return gani_error(
            ctx, GAN_ERR_ARGUMENT,
            "gan_checkpoint_read: a tensor of %s and its count expected, found %d, %lu",
            checkpoint->path, index, (unsigned long)count);
    }
    const gani_entry *entry = &checkpoint->entries[index];
    const size_t size = (size_t)entry->dtype->size_bytes;
    unsigned char block[4096]; /* a multiple of every size */
    if (!entry->dtype->to_float) {
        return gani_error(ctx, GAN_ERR_UNSUPPORTED,
                          "%s: tensor \"%s\" of type %s cannot be read as floats", checkpoint->path,
                          entry->name, entry->dtype->name);
    }
    int ok = fseek(checkpoint->file, (long)(checkpoint->data_start + entry->begin), SEEK_SET) == 0;
    for (size_t i = 0; i < count && ok;) {
        const size_t left = (count - i) * size, want = left < sizeof block ? left : sizeof block;
        ok = fread(block, 1, want, checkpoint->file) == want;
        for (size_t at = 0; ok && at < want; at += size) {
            out[i++] = entry->dtype->to_float(block + at);
        }
    }
    return ok ? GAN_OK
              : gani_error(ctx, GAN_ERR_FILE, "cannot read tensor \"%s\" of %s", entry->name,
                           checkpoint->path);
}

/* --- loading into a store -------------------------------------------------- */

/* What does not fit: a count and the first few names. */
typedef struct gani_misfits {
    int count, size;
    char names[160];
} gani_misfits;

/* Appends as much as there is room for; size: characters so far. */
static void gani_append(char *text, int capacity, int *size, const char *before, const char *more) {
    int room = capacity - *size;
    int length = snprintf(text + *size, (size_t)room, "%s%s", before, more);
    *size += length < room ? length : room - 1;
}

static void gani_misfit(gani_misfits *misfits, const char *name) {
    if (misfits->count++ < 3) {
        gani_append(misfits->names, (int)sizeof misfits->names, &misfits->size,
                    misfits->size ? ", " : "", name);
    }
}

static int gani_has_prefix(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Pairs of store and file: from[i] is the tensor of the file for parameter i, or -1 where none is
 * wanted; used marks tensors that found a parameter. */
typedef struct gani_matching {
    int *from;           /* [parameters] */
    unsigned char *used; /* [tensors] */
    int taken;           /* parameters that found a tensor of their shape */
    gani_misfits missing, unexpected, different;
} gani_matching;

static gan_status gani_match_params(gani_matching *match, const gan_params *params,
                                    const gan_checkpoint *checkpoint, const gan_load_desc *desc) {
    for (int i = 0; i < params->count; i++) {
        const gani_param *param = &params->items[i];
        match->from[i] = -1;
        if (!gani_has_prefix(param->name, desc->store_prefix) ||
            (desc->weights_only && param->kind == GAN_PARAM_STATE)) {
            continue;
        }
        char *name = gani_concat(params->ctx, desc->file_prefix,
                                 param->name + strlen(desc->store_prefix), "");
        if (!name) {
            return GAN_ERR_MEMORY;
        }
        const int index = gan_checkpoint_find(checkpoint, name);
        gani_free(params->ctx, name);
        const gan_shape *shape = index < 0 ? NULL : &checkpoint->entries[index].shape;
        const int fits = shape && gani_shape_equal(shape, &param->shape);
        if (index < 0) {
            gani_misfit(&match->missing, param->name);
            continue;
        }
        match->used[index] = 1;
        match->from[i] = fits || !desc->partial ? index : -1;
        match->taken += fits;
        if (!fits) {
            char text[208];
            snprintf(text, sizeof text, "%.50s %s, in the file %s", param->name,
                     gani_print_shape(&param->shape).text, gani_print_shape(shape).text);
            gani_misfit(&match->different, text);
        }
    }
    for (int i = 0; i < checkpoint->count; i++) {
        const gani_entry *entry = &checkpoint->entries[i];
        if (!match->used[i] && !desc->ignore_unknown &&
            gani_has_prefix(entry->name, desc->file_prefix) &&
            !(desc->weights_only && entry->kind == GAN_PARAM_STATE)) {
            gani_misfit(&match->unexpected, entry->name);
        }
    }
    return GAN_OK;
}

/* "FILE does not fit: 2 missing: a, b; 1 not expected: c", if so. */
static gan_status gani_report_misfits(const gani_matching *match,
                                      const gan_checkpoint *checkpoint) {
    const gani_misfits *const sorts[3] = {&match->missing, &match->unexpected, &match->different};
    static const char *const texts[3] = {"missing: ", "not expected: ", "of another shape: "};
    char message[480];
    int size = 0;
    for (int i = 0; i < 3; i++) {
        if (sorts[i]->count > 0) {
            char count[32];
            snprintf(count, sizeof count, "%s%d ", size ? "; " : "", sorts[i]->count);
            gani_append(message, (int)sizeof message, &size, count, texts[i]);
            gani_append(message, (int)sizeof message, &size, sorts[i]->names,
                        sorts[i]->count > 3 ? ", ..." : "");
        }
    }
    return size == 0 ? GAN_OK
                     : gani_error(checkpoint->ctx, GAN_ERR_SHAPE, "%s does not fit: %s",
                                  checkpoint->path, message);
}

/* A decimal text under a key. */
static gan_status gani_text_value(const gan_checkpoint *checkpoint, const char *key,
                                  uint64_t *value) {
    const char *text = gan_checkpoint_text(checkpoint, key);
    uint64_t number = 0;
    int digits = 0;
    for (; text && gani_is_digit((unsigned char)text[digits]) && digits < 20; digits++) {
        number = number * 10 + (uint64_t)(text[digits] - '0');
    }
    if (digits == 0 || text[digits]) {
        return gani_error(checkpoint->ctx, GAN_ERR_FORMAT,
                          "%s: a number under \"%s\" expected, found %s", checkpoint->path, key,
                          text ? text : "none");
    }
    *value = number;
    return GAN_OK;
}

GAN_API gan_status gan_params_load(gan_params *params, gan_checkpoint *checkpoint,
                                   const gan_load_desc *desc) {
    gan_context *ctx = params->ctx;
    gan_load_desc full;
    gani_matching match;
    uint64_t seed = params->seed, step = params->step;
    memset(&full, 0, sizeof full);
    memset(&match, 0, sizeof match);
    full = desc ? *desc : full;
    full.file_prefix = full.file_prefix ? full.file_prefix : "";
    full.store_prefix = full.store_prefix ? full.store_prefix : "";
    match.from = (int *)gani_calloc(ctx, (size_t)params->count + 1, sizeof(int));
    match.used = (unsigned char *)gani_calloc(ctx, (size_t)checkpoint->count + 1, 1);
    gan_status status = match.from && match.used ? GAN_OK : GAN_ERR_MEMORY;
    if (!status) {
        status = gani_match_params(&match, params, checkpoint, &full);
        if (status == GAN_OK && !(full.partial && match.taken > 0)) {
            status = gani_report_misfits(&match, checkpoint);
        }
    }
    if (!status && !full.weights_only) {
        status = gani_text_value(checkpoint, "params.seed", &seed);
        status = status ? status : gani_text_value(checkpoint, "params.step", &step);
    }
    for (int i = 0; i < params->count && !status; i++) {
        if (match.from[i] >= 0) {
            status = gan_checkpoint_read(checkpoint, match.from[i], params->items[i].data,
                                         gan_shape_count(params->items[i].shape));
        }
    }
    if (!status) {
        params->seed = seed;
        params->step = step;
    }
    gani_free(ctx, match.from);
    gani_free(ctx, match.used);
    return status;
}

/* ============================================================================
 * >>models  8.1  RECIPES: HOW A SYSTEM SAYS WHAT IT IS; TRAINING, SAMPLING
 *
 * A system is a row (gani_system) with functions that fill a recipe: for training, and for what it
 * can do afterwards, which is sampling, translating, encoding. A recipe is a graph together with
 *   feeds    inputs and what fills them before each step (images, labels, noise, a learning rate),
 *   phases   programs that a step runs in order, each in every step or in every k-th,
 *   metrics  scalars that a phase computes and the step reports; of the other recipes, results.
 * Everything that differs between systems is in their recipes; the functions that train, sample,
 * translate and save have no case for any of them. A feed is a pure function of (seed, its name,
 * step), and what else a step leaves behind (a pool of images) lies in the parameter store, so that
 * going on after a break gives the same bits.
 *
 * Sizes: a recipe has its own height and width. In training they are the model's; a recipe that
 * translates gets those of the caller's image, and says first what it makes of them
 * (gani_round_sizes, gani_fix_sizes).
 *
 * To add a system: write a section like >>gan with its options, its functions and its row, and
 * name the row in >>systems.
 *
 * Holds:  recipes, the model, filling, running, saving.
 * Uses:   >>api-graph  >>api-layers  >>datasets  >>checkpoints
 * Knows nothing of: particular systems.
 * ========================================================================= */

enum {
    GANI_MAX_FEEDS = 24,
    GANI_MAX_PHASES = 8,
    GANI_MAX_METRICS = 24,
    GANI_MAX_OPTIONS = 48,
    GANI_MAX_PARTS = 3,
    GANI_SAMPLE_BATCH = 16
};

typedef enum gani_feed_kind {
    GANI_FEED_IMAGES,  /* from the dataset: part a of the records */
    GANI_FEED_LABELS,  /* classes of these images, from 0 to a-1 */
    GANI_FEED_CLASSES, /* drawn: whole numbers from 0 to a-1 */
    GANI_FEED_CYCLE,   /* 0, 1, ... a-1 by the number of the image, again and again */
    GANI_FEED_NORMAL,  /* N(0,1) */
    GANI_FEED_UNIFORM, /* in [a,b) */
    GANI_FEED_RATE,    /* max(a * b^step, c) */
    GANI_FEED_DECAY,   /* a for b steps, then in a line to 0 within c steps */
    GANI_FEED_GIVEN,   /* what the caller says, a where he says nothing */
    GANI_FEED_SOURCE   /* images to translate or to encode */
} gani_feed_kind;

typedef struct gani_feed {
    const char *name;
    gani_feed_kind kind;
    double a, b, c;
    float *data; /* of the input */
    size_t count;
} gani_feed;

typedef struct gani_phase {
    gan_program *program;  /* NULL if only measured */
    gan_program_info info; /* of the program */
    int every;             /* runs in steps every-1, 2*every-1, ...; -k: in all but those of k */
    int metric_first, metric_count;
} gani_phase;

typedef struct gani_metric {
    const char *name;
    gan_tensor tensor;
    float value;
} gani_metric;

typedef struct gani_recipe {
    const struct gan_model *model; /* sizes and options */
    gan_graph *graph;
    gan_status status; /* of the programs */
    int batch, height, width;
    int asked_height, asked_width; /* translating: of the caller's images, not filled up */
    int reverse;                   /* translating: from B to A */
    int fixed;                     /* translating: the networks take one size only */
    int source_part;               /* the part of records that is translated, forwards */
    int measure;                   /* 1: parameters and sizes are wanted, nothing will run */
    unsigned mode;                 /* of the graph, see gan_graph_set_mode */
    int label_maps;                /* bit p: part p of the records holds class numbers ... */
    int label_count;               /* ... from 0 to label_count-1 */
    gani_feed feeds[GANI_MAX_FEEDS];
    int feed_count;
    gani_phase phases[GANI_MAX_PHASES];
    int phase_count;
    gani_metric metrics[GANI_MAX_METRICS];
    int metric_count;
} gani_recipe;

typedef struct gani_system {
    gan_system info;
    /* Errors stick in the graph. NULL: the system does not do this. */
    void (*train)(gani_recipe *recipe);
    void (*sample)(gani_recipe *recipe);    /* ends with gani_images */
    void (*translate)(gani_recipe *recipe); /* from gani_feed_source to gani_images */
    void (*encode)(gani_recipe *recipe);    /* from gani_feed_source to gani_codes */
} gani_system;

struct gan_model {
    gan_context *ctx;
    const gani_system *system;
    gan_params *params;
    int height, width, channels, channels_b, batch;
    const char *vgg;                  /* while it is created; see gan_model_desc */
    double options[GANI_MAX_OPTIONS]; /* by index in the system's list */
    char *options_text;               /* the same, written out */
    gani_recipe *train;               /* NULL if disabled */
    gani_recipe *sample;              /* NULL until needed, as those below */
    gani_recipe *translate;
    gani_recipe *encode;
};

/* --- what a system's functions call ---------------------------------------- */

/* Index of an option in the system's list, option_count if it has none of that name. */
static int gani_option_index(const gan_system *system, const char *name) {
    int i = 0;
    while (i < system->option_count && strcmp(system->options[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* Value of an option; the name is one of the system's own. */
static double gani_option(const gani_recipe *recipe, const char *name) {
    const gan_system *system = &recipe->model->system->info;
    const int index = gani_option_index(system, name);
    GAN_ASSERT(index < system->option_count);
    return recipe->model->options[index];
}

/* The same for an option that not every system has. */
static double gani_option_or(const gani_recipe *recipe, const char *name, double otherwise) {
    const gan_system *system = &recipe->model->system->info;
    const int index = gani_option_index(system, name);
    return index < system->option_count ? recipe->model->options[index] : otherwise;
}

static gan_tensor gani_add_feed(gani_recipe *recipe, const char *name, gani_feed_kind kind,
                                gan_shape shape, double a, double b, double c) {
    gan_tensor input = gan_input(recipe->graph, name, shape);
    GAN_ASSERT(recipe->feed_count < GANI_MAX_FEEDS);
    if (gan_graph_status(recipe->graph) == GAN_OK) {
        gani_feed *feed = &recipe->feeds[recipe->feed_count++];
        feed->name = name;
        feed->kind = kind;
        feed->a = a;
        feed->b = b;
        feed->c = c;
        feed->data = gan_input_data(recipe->graph, input);
        feed->count = gan_shape_count(shape);
    }
    return input;
}

/* Part 0, 1, 2 of the records of a step (domain A, domain B, instance map) [batch,channels,h,w]. */
static gan_tensor gani_feed_part(gani_recipe *recipe, const char *name, int part, int channels) {
    const gan_shape shape = gan_shape4(recipe->batch, channels, recipe->height, recipe->width);
    GAN_ASSERT(part >= 0 && part < GANI_MAX_PARTS);
    return gani_add_feed(recipe, name, GANI_FEED_IMAGES, shape, part, 0.0, 0.0);
}

/* The images of a step [batch,c,h,w]. */
static gan_tensor gani_feed_images(gani_recipe *recipe, const char *name) {
    return gani_feed_part(recipe, name, 0, recipe->model->channels);
}

/* A part whose images hold class numbers 0 ... classes-1 [batch,1,h,w]. */
static gan_tensor gani_feed_label_map(gani_recipe *recipe, const char *name, int part,
                                      int classes) {
    recipe->label_maps |= 1 << part;
    recipe->label_count = classes;
    return gani_feed_part(recipe, name, part, 1);
}

/* Classes of those images [batch], 0 ... classes-1. */
static gan_tensor gani_feed_labels(gani_recipe *recipe, const char *name, int classes) {
    return gani_add_feed(recipe, name, GANI_FEED_LABELS, gan_shape1(recipe->batch), classes, 0.0,
                         0.0);
}

/* Classes to generate [batch], drawn anew for every step. */
static gan_tensor gani_feed_classes(gani_recipe *recipe, const char *name, int classes) {
    return gani_add_feed(recipe, name, GANI_FEED_CLASSES, gan_shape1(recipe->batch), classes, 0.0,
                         0.0);
}

/* Classes to sample [batch], one after the other, or the one that the caller asks for. */
static gan_tensor gani_feed_cycle(gani_recipe *recipe, const char *name, int classes) {
    return gani_add_feed(recipe, name, GANI_FEED_CYCLE, gan_shape1(recipe->batch), classes, 0.0,
                         0.0);
}

/* Noise drawn anew for every step (training) or by the number of the image (sampling): axis 0 of
 * shape is the batch. */
static gan_tensor gani_feed_normal(gani_recipe *recipe, const char *name, gan_shape shape) {
    return gani_add_feed(recipe, name, GANI_FEED_NORMAL, shape, 0.0, 0.0, 0.0);
}

static gan_tensor gani_feed_uniform(gani_recipe *recipe, const char *name, gan_shape shape,
                                    double low, double high) {
    return gani_add_feed(recipe, name, GANI_FEED_UNIFORM, shape, low, high, 0.0);
}

/* A scalar: max(start * factor^step, lowest). */
static gan_tensor gani_feed_rate(gani_recipe *recipe, const char *name, double start, double factor,
                                 double lowest) {
    return gani_add_feed(recipe, name, GANI_FEED_RATE, gan_shape0(), start, factor, lowest);
}

/* A scalar: start for hold_steps steps, then in a straight line to 0 within decay_steps; where the
 * latter is 0, start for ever. */
static gan_tensor gani_feed_schedule(gani_recipe *recipe, const char *name, double start,
                                     double hold_steps, double decay_steps) {
    return gani_add_feed(recipe, name, GANI_FEED_DECAY, gan_shape0(), start, hold_steps,
                         decay_steps);
}

/* Options for a learning rate that falls, with their defaults. */
#define GANI_SCHEDULE_OPTIONS(hold, decay)                                                         \
    {"lr-hold", "steps before the learning rate falls", NULL, hold, 0, 1e9, 1},                    \
    {"lr-decay", "steps within which it then falls to 0; 0: it stays", NULL, decay, 0, 1e9, 1}

/* The scalar "lr" as the options say: "lr", and "lr-hold" and "lr-decay" where there are such. */
static gan_tensor gani_feed_lr(gani_recipe *recipe) {
    return gani_feed_schedule(recipe, "lr", gani_option(recipe, "lr"),
                              gani_option_or(recipe, "lr-hold", 0.0),
                              gani_option_or(recipe, "lr-decay", 0.0));
}

/* A number that the caller may give ("name=value"), the same in all elements; else standard. */
static gan_tensor gani_feed_given(gani_recipe *recipe, const char *name, gan_shape shape,
                                  double standard) {
    return gani_add_feed(recipe, name, GANI_FEED_GIVEN, shape, standard, 0.0, 0.0);
}

/* Images to translate or encode [batch,channels,h,w]. Of several such feeds the caller's images
 * hold the channels one after the other. */
static gan_tensor gani_feed_source(gani_recipe *recipe, const char *name, int channels) {
    const gan_shape shape = gan_shape4(recipe->batch, channels, recipe->height, recipe->width);
    return gani_add_feed(recipe, name, GANI_FEED_SOURCE, shape, channels, 0.0, 0.0);
}

/* The same for a map of class numbers or instances [batch,1,h,w]. */
static gan_tensor gani_feed_source_map(gani_recipe *recipe, const char *name) {
    const gan_shape shape = gan_shape4(recipe->batch, 1, recipe->height, recipe->width);
    return gani_add_feed(recipe, name, GANI_FEED_SOURCE, shape, 1.0, 1.0, 0.0);
}

/* For translating, ahead of all feeds: the image is filled up to multiples of m on both sides. */
static void gani_round_sizes(gani_recipe *recipe, int m) {
    recipe->height = (recipe->height + m - 1) / m * m;
    recipe->width = (recipe->width + m - 1) / m * m;
}

/* For training: the sides must be multiples of m, or the graph gets an error. */
static void gani_need_sizes(gani_recipe *recipe, int m) {
    const gan_model *model = recipe->model;
    if (recipe->height % m || recipe->width % m) {
        gani_stick(recipe->graph,
                   gani_error(model->ctx, GAN_ERR_SHAPE,
                              "%s: expected sides that are multiples of %d, found %d x %d",
                              model->system->info.name, m, recipe->height, recipe->width));
    }
}

/* For networks that are made for one size: the image is filled up to the model's. */
static void gani_fix_sizes(gani_recipe *recipe) {
    recipe->height = recipe->model->height;
    recipe->width = recipe->model->width;
    recipe->fixed = 1;
}

/* One image x [1,pixels] through the pool: what comes out. number [1] is a whole number drawn from
 * 0 ... 2*capacity-1. While the pool is not full, x is stored and comes out; then x changes places
 * with image `number`, or, from capacity on, comes out itself. */
static gan_tensor gani_pool_one(gan_graph *g, gan_tensor stored, gan_tensor count, gan_tensor x,
                                gan_tensor number, int capacity) {
    const float last = (float)capacity - 1.0f;
    gan_tensor limit = gan_constant(g, gan_shape1(1), last + 0.5f);
    gan_tensor full = gan_greater(g, count, limit);
    gan_tensor filling = gan_affine(g, full, -1.0f, 1.0f);
    gan_tensor swap = gan_mul(g, full, gan_greater(g, limit, number));
    gan_tensor drawn = gan_clamp(g, number, 0.0f, last);
    gan_tensor row = gan_add(g, gan_mul(g, full, drawn), gan_mul(g, filling, count));
    gan_tensor old = gan_gather_rows(g, stored, row);
    gan_tensor out =
        gan_add(g, gan_mul(g, swap, old), gan_mul(g, gan_affine(g, swap, -1.0f, 1.0f), x));
    gan_tensor taken = gan_add(g, swap, filling);
    gan_tensor kept =
        gan_add(g, gan_mul(g, taken, x), gan_mul(g, gan_affine(g, taken, -1.0f, 1.0f), old));
    gan_tensor grown = gan_add(g, count, filling);
    gan_assign_rows(g, stored, row, kept);
    gan_assign(g, count, grown);
    return out;
}

/* History of generated images (Shrivastava et al. 2016, arXiv:1612.07828): images [n,c,h,w] go
 * through a pool one by one, and what comes out is detached. The pool is "name.images" and
 * "name.count" in the parameter store. */
static gan_tensor gani_pool(gani_recipe *recipe, const char *name, gan_tensor images,
                            int capacity) {
    const gan_init zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_graph *g = recipe->graph;
    const gan_shape shape = gan_tensor_shape(g, images);
    const int n = shape.rank == 4 ? shape.dim[0] : 1;
    const int pixels = (int)(gan_shape_count(shape) / (size_t)n);
    gan_tensor numbers =
        gani_add_feed(recipe, name, GANI_FEED_CLASSES, gan_shape1(n), 2.0 * capacity, 0.0, 0.0);
    gan_tensor rows = gan_reshape(g, gan_detach(g, images), gan_shape2(n, pixels));
    gan_graph_push(g, name);
    gan_tensor stored = gan_param(g, "images", gan_shape2(capacity, pixels), GAN_PARAM_STATE, zero);
    gan_tensor count = gan_param(g, "count", gan_shape1(1), GAN_PARAM_STATE, zero);
    gan_tensor out = {0};
    for (int i = 0; i < n; i++) {
        gan_tensor one = gani_pool_one(g, stored, count, gan_slice(g, rows, 0, i, 1),
                                       gan_slice(g, numbers, 0, i, 1), capacity);
        const gan_tensor both[] = {out, one};
        out = i ? gan_concat(g, both, 2, 0) : one;
    }
    gan_graph_pop(g);
    return gan_detach(g, gan_reshape(g, out, shape));
}

/* A scalar to report, computed by the phase that ends next. */
static void gani_report(gani_recipe *recipe, const char *name, gan_tensor value) {
    GAN_ASSERT(recipe->metric_count < GANI_MAX_METRICS);
    gani_metric *metric = &recipe->metrics[recipe->metric_count++];
    metric->name = name;
    metric->tensor = value;
}

/* Variance of images [n,c,h,w] among one another, in miniature: of means over squares, about 8 x 8
 * of them, so that noise does not count as variety. Of n = 1 half the squared difference to the
 * image of the last step, kept as "spread.name" in the parameter store. */
static gan_tensor gani_variety(gani_recipe *recipe, const char *name, gan_tensor images) {
    const gan_init zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_graph *g = recipe->graph;
    const gan_shape shape = gan_tensor_shape(g, images);
    const int n = shape.rank == 4 ? shape.dim[0] : 0;
    const int side = n && shape.dim[2] < shape.dim[3] ? shape.dim[2] : shape.dim[3];
    const int square = side > 8 ? side / 8 : 1;
    gan_tensor x = gan_avg_pool(g, gan_detach(g, images), square, square, 0, 0);
    gan_tensor centre = gan_mean(g, x, 1u);
    float scale = n > 1 ? (float)n / ((float)n - 1.0f) : 0.5f;
    if (n == 1) {
        gan_graph_push(g, "spread");
        centre = gan_param(g, name, gan_tensor_shape(g, x), GAN_PARAM_STATE, zero);
        gan_graph_pop(g);
    }
    gan_tensor variance = gan_mean(g, gan_square(g, gan_sub(g, x, centre)), GAN_ALL_AXES);
    if (n == 1) {
        gan_assign(g, centre, x);
    }
    return gan_affine(g, variance, scale, 0.0f);
}

/* Reports "spread": how far apart generated images are from one another, compared with real ones; 1
 * as far, near 0 when G has collapsed to a few pictures. */
static void gani_report_spread(gani_recipe *recipe, gan_tensor fake, gan_tensor real) {
    gan_graph *g = recipe->graph;
    gan_tensor of_fake = gani_variety(recipe, "fake", fake);
    gan_tensor of_real = gan_affine(g, gani_variety(recipe, "real", real), 1.0f, 1e-12f);
    gan_tensor spread = gan_sqrt(g, gan_div(g, of_fake, of_real));
    gani_report(recipe, "spread", gan_clamp(g, spread, 0.0f, 10.0f));
}

/* Ends a phase: all metrics and updates since the last one become a program that runs in every
 * `every`-th step, or, every being negative, in all but every -every-th. */
static void gani_end_phase(gani_recipe *recipe, const char *name, int every) {
    gan_tensor outputs[GANI_MAX_METRICS];
    gani_phase *phase = &recipe->phases[recipe->phase_count];
    const gani_phase *last = recipe->phase_count ? phase - 1 : NULL;
    GAN_ASSERT(recipe->phase_count < GANI_MAX_PHASES);
    phase->every = every;
    phase->metric_first = last ? last->metric_first + last->metric_count : 0;
    phase->metric_count = recipe->metric_count - phase->metric_first;
    for (int i = 0; i < phase->metric_count; i++) {
        outputs[i] = recipe->metrics[phase->metric_first + i].tensor;
    }
    gan_status status = recipe->measure ? gan_program_measure(recipe->graph, outputs,
                                                              phase->metric_count, &phase->info)
                                        : gan_program_create(&phase->program, recipe->graph, name,
                                                             outputs, phase->metric_count);
    if (status == GAN_OK) {
        phase->info = phase->program ? gan_program_get_info(phase->program) : phase->info;
        recipe->phase_count++;
    } else if (recipe->status == GAN_OK) {
        recipe->status = status;
    }
}

/* In a sampling recipe, ahead of its end: pictures of the images' making [frames*batch,c,h,w]. */
static void gani_frames(gani_recipe *recipe, gan_tensor frames) {
    gani_report(recipe, "frames", frames);
}

/* Ends a recipe that samples or translates: its images [batch,c,h,w] in [-1,1]. */
static void gani_images(gani_recipe *recipe, gan_tensor images) {
    gani_report(recipe, "images", images);
    gani_end_phase(recipe, "images", 1);
}

/* Ends a recipe that encodes: [batch,width]. */
static void gani_codes(gani_recipe *recipe, gan_tensor codes) {
    gani_report(recipe, "codes", codes);
    gani_end_phase(recipe, "codes", 1);
}

/* --- recipes ----------------------------------------------------------------- */

static void gani_recipe_destroy(gan_context *ctx, gani_recipe *recipe) {
    if (recipe) {
        for (int i = 0; i < recipe->phase_count; i++) {
            gan_program_destroy(recipe->phases[i].program);
        }
        gan_graph_destroy(recipe->graph);
        gani_free(ctx, recipe);
    }
}

/* wanted: batch, sizes and mode, and whether to measure only. */
static gan_status gani_recipe_create(gani_recipe **out, const gan_model *model,
                                     const gani_recipe *wanted,
                                     void (*build)(gani_recipe *recipe)) {
    gani_recipe *recipe = (gani_recipe *)gani_calloc(model->ctx, 1, sizeof *recipe);
    if (!recipe) {
        return GAN_ERR_MEMORY;
    }
    *recipe = *wanted;
    recipe->model = model;
    gan_status status = gan_graph_create(&recipe->graph, model->ctx, model->params);
    if (status == GAN_OK) {
        gan_graph_set_mode(recipe->graph, wanted->mode);
        build(recipe);
        status = recipe->status;
    }
    if (status != GAN_OK) {
        gani_recipe_destroy(model->ctx, recipe);
        return status;
    }
    *out = recipe;
    return GAN_OK;
}

/* For use: a batch at the model's size. */
static gani_recipe gani_recipe_wanted(const gan_model *model, int batch, unsigned mode) {
    gani_recipe wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.batch = batch;
    wanted.height = wanted.asked_height = model->height;
    wanted.width = wanted.asked_width = model->width;
    wanted.mode = mode;
    return wanted;
}

/* Result of that name of a recipe that does not train; NULL if it has none. */
static const gani_metric *gani_result(const gani_recipe *recipe, const char *name) {
    for (int i = 0; i < recipe->metric_count; i++) {
        if (strcmp(recipe->metrics[i].name, name) == 0) {
            return &recipe->metrics[i];
        }
    }
    return NULL;
}

static gan_shape gani_result_shape(const gani_recipe *recipe, const char *name) {
    const gani_metric *result = gani_result(recipe, name);
    const gan_tensor none = {0};
    return gan_tensor_shape(recipe->graph, result ? result->tensor : none);
}

static const float *gani_result_data(const gani_recipe *recipe, const char *name) {
    return gan_program_output(recipe->phases[0].program, gani_result(recipe, name)->tensor);
}

/* Channels that the caller's images have; *maps (may be NULL): bits of those that are maps. */
static int gani_source_channels(const gani_recipe *recipe, int *maps) {
    int channels = 0, bits = 0;
    for (int i = 0; i < recipe->feed_count; i++) {
        const gani_feed *feed = &recipe->feeds[i];
        if (feed->kind == GANI_FEED_SOURCE) {
            bits |= feed->b > 0.0 ? 1 << channels : 0;
            channels += (int)feed->a;
        }
    }
    if (maps) {
        *maps = bits;
    }
    return channels;
}

/* What the programs of a recipe need beside the parameters: they run one after the other. */
static size_t gani_recipe_bytes(const gani_recipe *recipe) {
    size_t largest = 0;
    for (int i = 0; i < recipe->phase_count; i++) {
        const gan_program_info info = recipe->phases[i].info;
        const size_t bytes = info.arena_bytes + info.workspace_bytes + info.input_bytes;
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

/* Multiply-adds of a step. */
static double gani_recipe_work(const gani_recipe *recipe) {
    double work = 0.0;
    for (int i = 0; i < recipe->phase_count; i++) {
        const gani_phase *phase = &recipe->phases[i];
        const double turns = 1.0 / abs(phase->every); /* in a step */
        work += phase->info.multiply_adds * (phase->every > 0 ? turns : 1.0 - turns);
    }
    return work;
}

/* Stream of a feed: apart from those of other feeds, of initial weights (hashes of longer names)
 * and of random ops. */
static uint64_t gani_feed_stream(const gani_feed *feed) {
    return gani_hash(feed->name, strlen(feed->name), gani_hash("feed ", 5, GANI_HASH_START));
}

/* Noise: elements first ... first+count-1 of the feed's stream. Rates: for the given step. */
static void gani_fill_feed(gani_feed *feed, uint64_t seed, uint64_t step, uint64_t first) {
    switch (feed->kind) {
    case GANI_FEED_IMAGES:
    case GANI_FEED_LABELS:
    case GANI_FEED_SOURCE:
        break;
    case GANI_FEED_GIVEN:
        for (size_t i = 0; i < feed->count; i++) {
            feed->data[i] = (float)feed->a;
        }
        break;
    case GANI_FEED_DECAY: {
        const double decayed = feed->c > 0.0 ? ((double)step - feed->b) / feed->c : 0.0;
        feed->data[0] = (float)(feed->a * (1.0 - fmin(fmax(decayed, 0.0), 1.0)));
        break;
    }
    case GANI_FEED_CLASSES:
        gan_random_uniform(seed, gani_feed_stream(feed), first, feed->data, feed->count);
        for (size_t i = 0; i < feed->count; i++) {
            feed->data[i] = (float)floor(feed->a * (double)feed->data[i]);
        }
        break;
    case GANI_FEED_CYCLE:
        for (size_t i = 0; i < feed->count; i++) {
            feed->data[i] = (float)((first + i) % (uint64_t)feed->a);
        }
        break;
    case GANI_FEED_NORMAL:
        gan_random_normal(seed, gani_feed_stream(feed), first, feed->data, feed->count);
        break;
    case GANI_FEED_UNIFORM:
        gan_random_uniform(seed, gani_feed_stream(feed), first, feed->data, feed->count);
        for (size_t i = 0; i < feed->count; i++) {
            feed->data[i] = (float)(feed->a + (feed->b - feed->a) * (double)feed->data[i]);
        }
        break;
    case GANI_FEED_RATE: {
        const double rate = feed->a * pow(feed->b, (double)step);
        feed->data[0] = (float)(rate > feed->c ? rate : feed->c);
        break;
    }
    }
}

static int gani_is_noise(const gani_feed *feed) {
    return feed->kind == GANI_FEED_NORMAL || feed->kind == GANI_FEED_UNIFORM ||
           feed->kind == GANI_FEED_CYCLE;
}

/* Noise of one image `place` steps along a walk from noise number `from` to the next. Normal noise
 * goes on a circle, a cos t + b sin t with t from 0 to pi/2, so that it stays normal; uniform noise
 * in a straight line; classes stay. */
static void gani_walk_one(const gani_feed *one, uint64_t seed, uint64_t from, double place) {
    const int normal = one->kind == GANI_FEED_NORMAL;
    const double angle = place * 1.5707963267948966;
    const double a = normal ? cos(angle) : 1.0 - place, b = normal ? sin(angle) : place;
    for (size_t k = 0; k < one->count; k += 1024) { /* both ends, a piece at a time */
        float ends[2][1024];
        gani_feed end = *one;
        end.count = one->count - k < 1024 ? one->count - k : 1024;
        for (unsigned e = 0; e < 2; e++) {
            end.data = ends[e];
            gani_fill_feed(&end, seed, 0, (from + e) * one->count + k);
        }
        for (size_t i = 0; i < end.count; i++) {
            one->data[k + i] = (float)(a * (double)ends[0][i] + b * (double)ends[1][i]);
        }
    }
}

/* Noise of images first ... first+batch-1 on walks of `steps` images each, walk r from noise 2r to
 * noise 2r+1; classes of walk r are those of image r. */
static void gani_walk_feed(const gani_feed *feed, uint64_t seed, uint64_t first, int batch,
                           int steps) {
    gani_feed one = *feed;
    one.count = feed->count / (size_t)batch;
    for (int i = 0; i < batch; i++) {
        const uint64_t number = first + (uint64_t)i, walk = number / (uint64_t)steps;
        one.data = feed->data + (size_t)i * one.count;
        if (feed->kind == GANI_FEED_CYCLE) {
            gani_fill_feed(&one, seed, 0, walk * one.count);
        } else {
            gani_walk_one(&one, seed, 2 * walk, (double)(number % (uint64_t)steps) / (steps - 1));
        }
    }
}

static gani_feed *gani_find_feed(gani_recipe *recipe, const char *name, size_t length) {
    for (int i = 0; i < recipe->feed_count; i++) {
        if (strlen(recipe->feeds[i].name) == length &&
            memcmp(recipe->feeds[i].name, name, length) == 0) {
            return &recipe->feeds[i];
        }
    }
    return NULL;
}

/* --- options --------------------------------------------------------------- */

/* The next "name=value" of a text; returns what follows it, NULL at the end. */
typedef struct gani_pair {
    const char *name, *value;
    int name_length, value_length;
} gani_pair;

static const char *gani_next_pair(const char *text, gani_pair *pair) {
    static const char blanks[] = " \t\r\n";
    text += strspn(text, blanks);
    if (!*text) {
        return NULL;
    }
    const size_t length = strcspn(text, blanks);
    const char *equal = (const char *)memchr(text, '=', length);
    pair->name = text;
    pair->name_length = (int)(equal ? (size_t)(equal - text) : length);
    pair->value = equal ? equal + 1 : text + length;
    pair->value_length = (int)(length - (size_t)(pair->value - text));
    return text + length;
}

/* Digits from *at on, appended to *number; moves *at behind them and returns how many there were.
 * */
static int gani_parse_digits(const char **at, const char *end, double *number) {
    const char *first = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        *number = 10.0 * *number + (**at - '0');
    }
    return (int)(*at - first);
}

/* The whole text of a value as a decimal number, "-1.5e-3", whatever the locale; 0 if it is none.
 * Exact for up to 15 digits and exponents up to 22. */
static int gani_parse_number(const gani_pair *pair, double *out) {
    const char *at = pair->value, *end = pair->value + pair->value_length;
    const int negative = at < end && *at == '-';
    double number = 0.0, power = 0.0;
    int fraction = 0, small = 0;
    at += negative;
    int valid = gani_parse_digits(&at, end, &number) > 0;
    if (at < end && *at == '.') {
        at++;
        fraction = gani_parse_digits(&at, end, &number);
        valid = valid || fraction > 0;
    }
    if (valid && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        small = at < end && *at == '-';
        at += at < end && (*at == '-' || *at == '+');
        valid = gani_parse_digits(&at, end, &power) > 0;
    }
    power = (small ? -power : power) - fraction;
    number = power < 0.0 ? number / pow(10.0, -power) : number * pow(10.0, power);
    *out = negative ? -number : number;
    return valid && at == end && number - number == 0.0;
}

/* A number as options are written: nine digits, with a point whatever the locale. */
typedef struct gani_number_text {
    char text[32];
} gani_number_text;

static gani_number_text gani_print_number(double number) {
    gani_number_text out;
    snprintf(out.text, sizeof out.text, "%.9g", number);
    for (char *c = out.text; *c; c++) {
        *c = *c == ',' ? '.' : *c;
    }
    return out;
}

/* Word number `index` of a list separated by blanks; its length, 0 past the end. */
static int gani_word(const char *words, int index, const char **word) {
    for (;; index--) {
        words += strspn(words, " ");
        *word = words;
        words += strcspn(words, " ");
        if (index == 0 || words == *word) {
            return (int)(words - *word);
        }
    }
}

/* Reads the value of an option: a number as it will be written, or which of the words it is. */
static gan_status gani_parse_option(gan_context *ctx, const gan_option *option,
                                    const gani_pair *pair, double *out) {
    if (option->choices) {
        const char *word;
        int length;
        for (int i = 0; (length = gani_word(option->choices, i, &word)) > 0; i++) {
            if (length == pair->value_length && memcmp(word, pair->value, (size_t)length) == 0) {
                *out = i;
                return GAN_OK;
            }
        }
        return gani_error(ctx, GAN_ERR_ARGUMENT, "option %s: expected one of: %s; found \"%.*s\"",
                          option->name, option->choices, pair->value_length, pair->value);
    }
    if (!gani_parse_number(pair, out) || *out < option->low || *out > option->high ||
        (option->whole && *out != floor(*out))) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "option %s: expected a %snumber from %g to %g, found \"%.*s\"",
                          option->name, option->whole ? "whole " : "", option->low, option->high,
                          pair->value_length, pair->value);
    }
    const gani_number_text written = gani_print_number(*out);
    gani_pair again;
    again.value = written.text;
    again.value_length = (int)strlen(written.text);
    gani_parse_number(&again, out);
    return GAN_OK;
}

/* Index of an option, or -1 with the error set. */
static int gani_find_option(gan_context *ctx, const gan_system *system, const gani_pair *pair) {
    char known[256] = "";
    size_t used = 0;
    for (int i = 0; i < system->option_count; i++) {
        const char *name = system->options[i].name;
        if ((int)strlen(name) == pair->name_length &&
            memcmp(name, pair->name, (size_t)pair->name_length) == 0) {
            return i;
        }
        if (used < sizeof known) {
            used += (size_t)snprintf(known + used, sizeof known - used, " %s", name);
        }
    }
    gani_error(ctx, GAN_ERR_ARGUMENT, "%s has no option \"%.*s\"; it has:%s", system->name,
               pair->name_length, pair->name, known);
    return -1;
}

/* Changes the options that a text names. */
static gan_status gani_set_options(gan_model *model, const char *text) {
    const gan_system *system = &model->system->info;
    gani_pair pair;
    while (text && (text = gani_next_pair(text, &pair)) != NULL) {
        const int index = gani_find_option(model->ctx, system, &pair);
        if (index < 0) {
            return GAN_ERR_ARGUMENT;
        }
        gan_status status =
            gani_parse_option(model->ctx, &system->options[index], &pair, &model->options[index]);
        if (status != GAN_OK) {
            return status;
        }
    }
    return GAN_OK;
}

/* Writes all options to model->options_text, so that reading it gives the same values. */
static gan_status gani_write_options(gan_model *model) {
    const gan_system *system = &model->system->info;
    const size_t capacity = (size_t)GANI_MAX_OPTIONS * 64;
    size_t used = 0;
    model->options_text = (char *)gani_calloc(model->ctx, capacity, 1);
    if (!model->options_text) {
        return GAN_ERR_MEMORY;
    }
    for (int i = 0; i < system->option_count && used < capacity; i++) {
        const gan_option *option = &system->options[i];
        const gani_number_text number = gani_print_number(model->options[i]);
        const char *value = number.text;
        int length = (int)strlen(value);
        if (option->choices) {
            length = gani_word(option->choices, (int)model->options[i], &value);
        }
        used += (size_t)snprintf(model->options_text + used, capacity - used, "%s%s=%.*s",
                                 i ? " " : "", option->name, length, value);
    }
    return GAN_OK;
}

/* --- the model ------------------------------------------------------------- */

GAN_API void gan_model_destroy(gan_model *model) {
    if (model) {
        gani_recipe_destroy(model->ctx, model->train);
        gani_recipe_destroy(model->ctx, model->sample);
        gani_recipe_destroy(model->ctx, model->translate);
        gani_recipe_destroy(model->ctx, model->encode);
        gan_params_destroy(model->params);
        gani_free(model->ctx, model->options_text);
        gani_free(model->ctx, model);
    }
}

static gan_status gani_check_size(gan_context *ctx, const char *what, int value, int low,
                                  int high) {
    if (value < low || value > high) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "%s: expected %d to %d, found %d", what, low, high,
                          value);
    }
    return GAN_OK;
}

/* A recipe that is measured and thrown away. Afterwards the store has its parameters. None for a
 * system that does not do this. */
static gan_status gani_measure(gan_model *model, void (*build)(gani_recipe *recipe), int reverse,
                               void (*look)(const gani_recipe *recipe, gan_model_info *info),
                               gan_model_info *info) {
    gani_recipe wanted = gani_recipe_wanted(model, 1, GAN_EVALUATE), *recipe = NULL;
    gan_status status = GAN_OK;
    wanted.measure = 1;
    wanted.reverse = reverse;
    if (build) {
        status = gani_recipe_create(&recipe, model, &wanted, build);
    }
    if (recipe && look) {
        look(recipe, info);
    }
    gani_recipe_destroy(model->ctx, recipe);
    return status;
}

/* Parameters of a model that is not trained: of all that it can do. */
static gan_status gani_make_params(gan_model *model) {
    const gani_system *system = model->system;
    gan_status status = gani_measure(model, system->sample, 0, NULL, NULL);
    for (int reverse = 0; reverse <= system->info.two_way && status == GAN_OK; reverse++) {
        status = gani_measure(model, system->translate, reverse, NULL, NULL);
    }
    return status ? status : gani_measure(model, system->encode, 0, NULL, NULL);
}

/* Sizes, options and recipes of a model whose system is known. */
static gan_status gani_model_build(gan_model *model, const gan_model_desc *desc) {
    gan_context *ctx = model->ctx;
    const gan_system *system = &model->system->info;
    model->height = desc->height ? desc->height : system->height;
    model->width = desc->width ? desc->width : system->width;
    model->channels = desc->channels ? desc->channels : system->channels;
    model->channels_b = desc->channels_b ? desc->channels_b : model->channels;
    model->batch = desc->batch ? desc->batch : system->batch;
    for (int i = 0; i < system->option_count; i++) {
        model->options[i] = system->options[i].standard;
    }
    gan_status status = gani_check_size(ctx, "height", model->height, 1, 4096);
    status = status ? status : gani_check_size(ctx, "width", model->width, 1, 4096);
    status = status ? status : gani_check_size(ctx, "channels", model->channels, 1, 4);
    status = status ? status : gani_check_size(ctx, "channels_b", model->channels_b, 1, 4);
    status = status ? status : gani_check_size(ctx, "batch", model->batch, 1, 65536);
    status = status ? status : gani_set_options(model, desc->options);
    status = status ? status : gani_write_options(model);
    status = status ? status : gan_params_create(&model->params, ctx, desc->seed);
    if (status != GAN_OK) {
        return status;
    }
    if (desc->disable_training) {
        return gani_make_params(model);
    }
    const gani_recipe wanted = gani_recipe_wanted(model, model->batch, GAN_TRAIN);
    return gani_recipe_create(&model->train, model, &wanted, model->system->train);
}

/* A model of the given row, for gan_model_create and gan_model_load. */
static gan_status gani_model_create(gan_model **out, gan_context *ctx, const gani_system *system,
                                    const gan_model_desc *desc) {
    gan_model *model = (gan_model *)gani_calloc(ctx, 1, sizeof *model);
    *out = NULL;
    if (!model) {
        return GAN_ERR_MEMORY;
    }
    GAN_ASSERT(system->info.option_count <= GANI_MAX_OPTIONS);
    model->ctx = ctx;
    model->system = system;
    model->vgg = desc->vgg;
    gan_status status = gani_model_build(model, desc);
    model->vgg = NULL;
    if (status != GAN_OK) {
        gan_model_destroy(model);
        return status;
    }
    *out = model;
    return GAN_OK;
}

GAN_API gan_params *gan_model_params(gan_model *model) {
    return model->params;
}

GAN_API float *gan_model_feed(gan_model *model, const char *name, size_t *count) {
    gani_feed *feed = model->train ? gani_find_feed(model->train, name, strlen(name)) : NULL;
    if (count) {
        *count = feed ? feed->count : 0;
    }
    return feed ? feed->data : NULL;
}

GAN_API gan_metric gan_model_metric(const gan_model *model, int index) {
    gan_metric metric = {NULL, 0.0f};
    if (model->train && index >= 0 && index < model->train->metric_count) {
        metric.name = model->train->metrics[index].name;
        metric.value = model->train->metrics[index].value;
    }
    return metric;
}

/* --- training -------------------------------------------------------------- */

static gan_status gani_check_part(const gani_recipe *recipe, const gani_feed *feed,
                                  const gan_dataset *data) {
    static const char *const names[GANI_MAX_PARTS] = {"images", "images of domain B",
                                                      "instance maps"};
    const int part = (int)feed->a;
    const int channels = (int)(feed->count / ((size_t)recipe->batch * (size_t)recipe->height *
                                              (size_t)recipe->width));
    const gan_shape want = gan_shape3(channels, recipe->height, recipe->width);
    const gan_shape found = gan_dataset_part_shape(data, part);
    if (!gani_shape_equal(&want, &found)) {
        const gani_shape_text want_text = gani_print_shape(&want);
        const gani_shape_text found_text = gani_print_shape(&found);
        return gani_error(recipe->model->ctx, GAN_ERR_SHAPE,
                          "data: expected %s %s (channels, height, width), found %s", names[part],
                          want_text.text, found.rank > 0 ? found_text.text : "none");
    }
    return GAN_OK;
}

static gan_status gani_check_classes(const gani_recipe *recipe, const gani_feed *feed,
                                     const gan_dataset *data) {
    const int found = gan_dataset_classes(data);
    if (found != (int)feed->a) {
        return gani_error(recipe->model->ctx, GAN_ERR_ARGUMENT,
                          "data: expected labels of %d classes (option classes), found %d%s",
                          (int)feed->a, found, found ? "" : ", images without labels");
    }
    return GAN_OK;
}

/* Images of a step, and their labels where the recipe has a feed for them. */
static gan_status gani_fill_data(gani_recipe *recipe, gan_dataset *data, uint64_t seed,
                                 uint64_t step) {
    float *parts[GANI_MAX_PARTS] = {NULL, NULL, NULL}, *labels = NULL;
    gan_status status = GAN_OK;
    for (int i = 0; i < recipe->feed_count && status == GAN_OK; i++) {
        gani_feed *feed = &recipe->feeds[i];
        if (feed->kind == GANI_FEED_IMAGES) {
            status = gani_check_part(recipe, feed, data);
            GAN_ASSERT(!parts[(int)feed->a]); /* one feed serves for all uses of a part */
            parts[(int)feed->a] = feed->data;
        } else if (feed->kind == GANI_FEED_LABELS) {
            status = gani_check_classes(recipe, feed, data);
            labels = feed->data;
        }
    }
    return status ? status
                  : gan_dataset_batch_parts(data, seed, step, recipe->batch, parts, labels);
}

GAN_API gan_status gan_model_fill(gan_model *model, gan_dataset *data) {
    gani_recipe *recipe = model->train;
    if (!recipe) {
        return gani_error(model->ctx, GAN_ERR_STATE, "the model was made without training");
    }
    const uint64_t seed = gan_params_seed(model->params), step = gan_params_step(model->params);
    for (int i = 0; i < recipe->feed_count; i++) {
        gani_fill_feed(&recipe->feeds[i], seed, step, step * recipe->feeds[i].count);
    }
    return data ? gani_fill_data(recipe, data, seed, step) : GAN_OK;
}

/* Runs one phase and takes over what it reports. */
static gan_status gani_run_phase(gan_model *model, const gani_phase *phase) {
    gan_status status = gan_program_run(phase->program);
    for (int i = 0; i < phase->metric_count && status == GAN_OK; i++) {
        gani_metric *metric = &model->train->metrics[phase->metric_first + i];
        metric->value = gan_program_output(phase->program, metric->tensor)[0];
        if (!(metric->value - metric->value == 0.0f)) {
            status = gani_error(model->ctx, GAN_ERR_NUMERIC, "%s is not finite after step %lu",
                                metric->name, (unsigned long)gan_params_step(model->params));
        }
    }
    return status;
}

GAN_API gan_status gan_model_step(gan_model *model) {
    const gani_recipe *recipe = model->train;
    if (!recipe) {
        return gani_error(model->ctx, GAN_ERR_STATE, "the model was made without training");
    }
    const uint64_t step = gan_params_step(model->params);
    for (int i = 0; i < recipe->phase_count; i++) {
        const gani_phase *phase = &recipe->phases[i];
        const int turn = (step + 1) % (uint64_t)abs(phase->every) == 0;
        if (turn == (phase->every > 0)) {
            gan_status status = gani_run_phase(model, phase);
            if (status != GAN_OK) {
                return status;
            }
        }
    }
    gan_params_set_step(model->params, step + 1);
    return GAN_OK;
}

GAN_API gan_status gan_model_train(gan_model *model, gan_dataset *data) {
    gan_status status = gan_model_fill(model, data);
    return status ? status : gan_model_step(model);
}

/* --- sampling -------------------------------------------------------------- */

/* The recipe in a model's slot, made anew where it is not the one wanted. */
static gan_status gani_use_recipe(gan_model *model, gani_recipe **slot, const gani_recipe *wanted,
                                  void (*build)(gani_recipe *recipe)) {
    const gani_recipe *made = *slot;
    if (made && made->batch == wanted->batch && made->asked_height == wanted->asked_height &&
        made->asked_width == wanted->asked_width && made->reverse == wanted->reverse) {
        return GAN_OK;
    }
    gani_recipe_destroy(model->ctx, *slot);
    *slot = NULL;
    return gani_recipe_create(slot, model, wanted, build);
}

static gan_status gani_cannot(const gan_model *model, const char *verb) {
    return gani_error(model->ctx, GAN_ERR_UNSUPPORTED, "%s does not %s", model->system->info.name,
                      verb);
}

/* Reads a feed's value from a text. */
static gan_status gani_set_input(gan_context *ctx, gani_feed *feed, const gani_pair *pair) {
    double value;
    if (!gani_parse_number(pair, &value)) {
        return gani_error(ctx, GAN_ERR_ARGUMENT, "input %s: expected a number, found \"%.*s\"",
                          feed->name, pair->value_length, pair->value);
    }
    if (feed->kind == GANI_FEED_CYCLE &&
        (value < 0.0 || value >= feed->a || value != floor(value))) {
        return gani_error(ctx, GAN_ERR_ARGUMENT,
                          "input %s: expected a whole number from 0 to %d, found %g", feed->name,
                          (int)feed->a - 1, value);
    }
    for (size_t i = 0; i < feed->count; i++) {
        feed->data[i] = (float)value;
    }
    return GAN_OK;
}

/* What a text of inputs says beside values of feeds. */
typedef struct gani_wish {
    const char *words; /* the names it may have, separated by blanks */
    uint64_t seed;
    int reverse, walk;
} gani_wish;

static int gani_is_name(const gani_pair *pair, const char *name, int length) {
    return pair->name_length == length && memcmp(pair->name, name, (size_t)length) == 0;
}

static int gani_is_wish(const gani_wish *wish, const gani_pair *pair) {
    const char *word;
    int length;
    for (int i = 0; (length = gani_word(wish->words, i, &word)) > 0; i++) {
        if (gani_is_name(pair, word, length)) {
            return 1;
        }
    }
    return 0;
}

static gan_status gani_read_direction(const gan_model *model, const gani_pair *pair,
                                      gani_wish *wish) {
    const int two_way = model->system->info.two_way;
    wish->reverse = pair->value_length == 2 && memcmp(pair->value, "ba", 2) == 0;
    if ((wish->reverse && two_way) || (pair->value_length == 2 && !memcmp(pair->value, "ab", 2))) {
        return GAN_OK;
    }
    return gani_error(model->ctx, GAN_ERR_ARGUMENT, "direction: expected %s, found \"%.*s\"",
                      two_way ? "ab or ba" : "ab", pair->value_length, pair->value);
}

static gan_status gani_read_wish(const gan_model *model, const char *text, gani_wish *wish) {
    gani_pair pair;
    double value = 0.0;
    while (text && (text = gani_next_pair(text, &pair)) != NULL) {
        if (!gani_is_wish(wish, &pair)) {
            continue;
        }
        if (gani_is_name(&pair, "direction", 9)) {
            gan_status status = gani_read_direction(model, &pair, wish);
            if (status != GAN_OK) {
                return status;
            }
            continue;
        }
        const int walk = gani_is_name(&pair, "walk", 4);
        if (!gani_parse_number(&pair, &value) || value < (walk ? 2.0 : 0.0) || value > 1e9) {
            return gani_error(model->ctx, GAN_ERR_ARGUMENT,
                              "%.*s: expected a number from %d to 1e9, found \"%.*s\"",
                              pair.name_length, pair.name, walk ? 2 : 0, pair.value_length,
                              pair.value);
        }
        wish->walk = walk ? (int)value : wish->walk;
        wish->seed = walk ? wish->seed : (uint64_t)value;
    }
    return GAN_OK;
}

/* Sets the feeds that a text names to one value each. */
static gan_status gani_set_inputs(gani_recipe *recipe, const char *text, const gani_wish *wish) {
    gan_context *ctx = recipe->model->ctx;
    gani_pair pair;
    gan_status status = GAN_OK;
    while (status == GAN_OK && text && (text = gani_next_pair(text, &pair)) != NULL) {
        gani_feed *feed = gani_find_feed(recipe, pair.name, (size_t)pair.name_length);
        if (feed && feed->kind != GANI_FEED_SOURCE) {
            status = gani_set_input(ctx, feed, &pair);
        } else if (!gani_is_wish(wish, &pair)) {
            status = gani_error(ctx, GAN_ERR_ARGUMENT, "%s has no input \"%.*s\" here",
                                recipe->model->system->info.name, pair.name_length, pair.name);
        }
    }
    return status;
}

/* Runs a recipe for the images from number first on: with noise, dropout and inputs that are theirs
 * alone. Training finds its seed and step as they were. */
static gan_status gani_run_recipe(gan_model *model, gani_recipe *recipe, uint64_t first,
                                  const char *inputs, const gani_wish *wish) {
    const uint64_t own_seed = model->params->seed, own_step = model->params->step;
    for (int k = 0; k < recipe->feed_count; k++) {
        gani_feed *feed = &recipe->feeds[k];
        if (wish->walk && gani_is_noise(feed)) {
            gani_walk_feed(feed, wish->seed, first, recipe->batch, wish->walk);
        } else {
            gani_fill_feed(feed, wish->seed, own_step,
                           first * (feed->count / (size_t)recipe->batch));
        }
    }
    gan_status status = gani_set_inputs(recipe, inputs, wish);
    if (status == GAN_OK) {
        model->params->seed = wish->seed;
        model->params->step = first;
        status = gan_program_run(recipe->phases[0].program);
        model->params->seed = own_seed;
        model->params->step = own_step;
    }
    return status;
}

/* Where image i of n goes to, or comes from: [blocks][n,block], blocks of each image. */
typedef struct gani_blocks {
    size_t blocks, block; /* block: floats */
    size_t n;
} gani_blocks;

static void gani_copy_out(float *out, const float *batch, const gani_blocks *layout, size_t first,
                          size_t count, size_t batch_size) {
    for (size_t k = 0; k < layout->blocks; k++) {
        memcpy(out + (k * layout->n + first) * layout->block,
               batch + k * batch_size * layout->block, count * layout->block * sizeof(float));
    }
}

/* n samples: their images, or the frames of their making. */
static gan_status gani_sample_into(gan_model *model, float *out, int n, const char *result,
                                   const char *inputs, uint64_t seed) {
    const int batch = n < GANI_SAMPLE_BATCH ? n : GANI_SAMPLE_BATCH;
    const gani_recipe wanted = gani_recipe_wanted(model, batch, GAN_EVALUATE);
    gani_wish wish = {"walk", seed, 0, 0};
    gan_status status = gani_check_size(model->ctx, "sampling: images", n, 1, 1000000000);
    status = status ? status : gani_read_wish(model, inputs, &wish);
    if (status == GAN_OK && !model->system->sample) {
        status = gani_cannot(model, "sample; it translates images");
    }
    status =
        status ? status : gani_use_recipe(model, &model->sample, &wanted, model->system->sample);
    if (status == GAN_OK && !gani_result(model->sample, result)) {
        status = gani_cannot(model, "draw in several frames");
    }
    if (status != GAN_OK) {
        return status;
    }
    const gan_shape shape = gani_result_shape(model->sample, result);
    gani_blocks layout;
    layout.blocks = (size_t)(shape.dim[0] / batch);
    layout.block = gan_shape_count(shape) / (size_t)shape.dim[0];
    layout.n = (size_t)n;
    for (int i = 0; i < n && status == GAN_OK; i += batch) {
        status = gani_run_recipe(model, model->sample, (uint64_t)i, inputs, &wish);
        if (status == GAN_OK) {
            gani_copy_out(out, gani_result_data(model->sample, result), &layout, (size_t)i,
                          (size_t)(n - i < batch ? n - i : batch), (size_t)batch);
        }
    }
    return status;
}

GAN_API gan_status gan_model_sample(gan_model *model, float *images, int n, const char *inputs,
                                    uint64_t seed) {
    return gani_sample_into(model, images, n, "images", inputs, seed);
}

GAN_API gan_status gan_model_sample_frames(gan_model *model, float *frames, int n,
                                           const char *inputs, uint64_t seed) {
    return gani_sample_into(model, frames, n, "frames", inputs, seed);
}

/* --- translating and encoding ------------------------------------------------ */

/* Index from 0 to size-1 for one that may lie beyond, mirrored at the edges as often as needed. */
static int gani_mirrored(int i, int size) {
    const int period = size > 1 ? 2 * (size - 1) : 1;
    i %= period;
    return i < size ? i : period - i;
}

/* Writes an image [channels,height,width] to the source feeds, filled up to the recipe's size. */
static void gani_fill_sources(gani_recipe *recipe, const float *image, int height, int width) {
    for (int k = 0; k < recipe->feed_count; k++) {
        gani_feed *feed = &recipe->feeds[k];
        const int rows = feed->kind == GANI_FEED_SOURCE ? (int)feed->a * recipe->height : 0;
        float *to = feed->data;
        for (int row = 0; row < rows; row++) {
            const int channel = row / recipe->height;
            const int y = gani_mirrored(row % recipe->height, height);
            const float *from =
                image + ((size_t)channel * (size_t)height + (size_t)y) * (size_t)width;
            for (int x = 0; x < recipe->width; x++) {
                *to++ = from[gani_mirrored(x, width)];
            }
        }
        image += rows ? (size_t)feed->a * (size_t)height * (size_t)width : 0;
    }
}

/* The part of a result [1,channels,recipe height,recipe width] that belongs to the image. */
static void gani_cut_result(const gani_recipe *recipe, float *out, int height, int width) {
    const int rows = gani_result_shape(recipe, "images").dim[1] * height;
    const float *from = gani_result_data(recipe, "images");
    for (int row = 0; row < rows; row++) {
        const size_t y = (size_t)(row / height * recipe->height + row % height);
        memcpy(out + (size_t)row * (size_t)width, from + y * (size_t)recipe->width,
               (size_t)width * sizeof(float));
    }
}

/* The recipe that translates images of this size. */
static gan_status gani_use_translate(gan_model *model, int height, int width, int reverse) {
    gani_recipe wanted = gani_recipe_wanted(model, 1, GAN_EVALUATE);
    wanted.height = wanted.asked_height = height;
    wanted.width = wanted.asked_width = width;
    wanted.reverse = reverse;
    if (!model->system->translate) {
        return gani_cannot(model, "translate; it samples");
    }
    gan_status status =
        gani_use_recipe(model, &model->translate, &wanted, model->system->translate);
    if (status != GAN_OK) {
        return status;
    }
    const gani_recipe *made = model->translate;
    const gan_shape shape = gani_result_shape(made, "images");
    if (made->height < height || made->width < width) {
        return gani_error(model->ctx, GAN_ERR_SHAPE,
                          "translating: expected images of at most %d x %d, found %d x %d",
                          made->width, made->height, width, height);
    }
    GAN_ASSERT(shape.dim[2] == made->height && shape.dim[3] == made->width);
    (void)shape;
    return GAN_OK;
}

GAN_API gan_status gan_model_translate(gan_model *model, const float *in, int n, int height,
                                       int width, const char *inputs, float *out) {
    gani_wish wish = {"direction seed", 0, 0, 0};
    gan_status status = gani_check_size(model->ctx, "translating: images", n, 1, 1000000000);
    status = status ? status : gani_check_size(model->ctx, "height", height, 1, 65536);
    status = status ? status : gani_check_size(model->ctx, "width", width, 1, 65536);
    status = status ? status : gani_read_wish(model, inputs, &wish);
    status = status ? status : gani_use_translate(model, height, width, wish.reverse);
    for (int i = 0; i < n && status == GAN_OK; i++) {
        gani_recipe *recipe = model->translate;
        const size_t pixels = (size_t)height * (size_t)width;
        const size_t channels = (size_t)gani_result_shape(recipe, "images").dim[1];
        const size_t read = (size_t)gani_source_channels(recipe, NULL) * pixels;
        gani_fill_sources(recipe, in + (size_t)i * read, height, width);
        status = gani_run_recipe(model, recipe, (uint64_t)i, inputs, &wish);
        if (status == GAN_OK) {
            gani_cut_result(recipe, out + (size_t)i * channels * pixels, height, width);
        }
    }
    return status;
}

GAN_API gan_status gan_model_encode(gan_model *model, const float *in, int n, float *out,
                                    uint64_t seed) {
    const int batch = n < GANI_SAMPLE_BATCH ? n : GANI_SAMPLE_BATCH;
    const gani_recipe wanted = gani_recipe_wanted(model, batch, GAN_EVALUATE);
    const gani_wish wish = {"", seed, 0, 0};
    gan_status status = gani_check_size(model->ctx, "encoding: images", n, 1, 1000000000);
    if (status == GAN_OK && !model->system->encode) {
        status = gani_cannot(model, "encode images");
    }
    status =
        status ? status : gani_use_recipe(model, &model->encode, &wanted, model->system->encode);
    for (int i = 0; i < n && status == GAN_OK; i += batch) {
        gani_recipe *recipe = model->encode;
        const size_t count = (size_t)(n - i < batch ? n - i : batch);
        for (int k = 0; k < recipe->feed_count; k++) {
            gani_feed *feed = &recipe->feeds[k];
            if (feed->kind == GANI_FEED_SOURCE) {
                const size_t image = feed->count / (size_t)batch;
                memcpy(feed->data, in + (size_t)i * image, count * image * sizeof(float));
            }
        }
        status = gani_run_recipe(model, recipe, (uint64_t)i, NULL, &wish);
        if (status == GAN_OK) {
            const size_t width =
                gan_shape_count(gani_result_shape(recipe, "codes")) / (size_t)batch;
            memcpy(out + (size_t)i * width, gani_result_data(recipe, "codes"),
                   count * width * sizeof(float));
        }
    }
    return status;
}

/* --- what a model is ----------------------------------------------------------- */

GAN_API gan_dataset_desc gan_model_dataset_desc(const gan_model *model) {
    const gan_system *system = &model->system->info;
    gan_dataset_desc desc;
    int parts = system->parts;
    memset(&desc, 0, sizeof desc);
    desc.height = model->height;
    desc.width = model->width;
    desc.channels = model->channels;
    for (int i = 0; model->train && i < model->train->feed_count; i++) {
        const gani_feed *feed = &model->train->feeds[i];
        if (feed->kind == GANI_FEED_IMAGES && (int)feed->a + 1 > parts) {
            parts = (int)feed->a + 1;
        }
    }
    if (model->train) {
        desc.label_maps = model->train->label_maps;
        desc.channels = desc.label_maps & 1 ? 1 : desc.channels;
        desc.label_count = model->train->label_count;
    }
    if (parts > 1) {
        desc.channels_b = model->channels_b;
        desc.pairing = system->paired ? GAN_PAIRING_SIDES : GAN_PAIRING_UNPAIRED;
    }
    return desc;
}

/* Memory of sampling or translating one image: parameters too. */
static size_t gani_recipe_whole_bytes(const gani_recipe *recipe) {
    return gani_recipe_bytes(recipe) + recipe->phases[0].info.param_bytes;
}

static void gani_look_at_sample(const gani_recipe *recipe, gan_model_info *info) {
    const gan_shape shape = gani_result_shape(recipe, "images");
    const gan_shape frames = gani_result_shape(recipe, "frames");
    info->sample_channels = shape.dim[1];
    info->sample_height = shape.dim[2];
    info->sample_width = shape.dim[3];
    info->frames = frames.rank > 0 ? frames.dim[0] : 0;
    info->sample_bytes = gani_recipe_whole_bytes(recipe);
    info->sample_multiply_adds = gani_recipe_work(recipe);
    for (int i = 0; i < recipe->feed_count; i++) {
        if (recipe->feeds[i].kind == GANI_FEED_CYCLE &&
            strcmp(recipe->feeds[i].name, "label") == 0) {
            info->classes = (int)recipe->feeds[i].a;
        }
    }
}

static void gani_look_at_translate(const gani_recipe *recipe, gan_model_info *info) {
    info->translate_in = gani_source_channels(recipe, &info->translate_maps);
    info->translate_fixed = recipe->fixed;
    info->translate_part = recipe->source_part;
    info->translate_out = gani_result_shape(recipe, "images").dim[1];
    info->translate_bytes = gani_recipe_whole_bytes(recipe);
    info->translate_multiply_adds = gani_recipe_work(recipe);
}

static void gani_look_at_encode(const gani_recipe *recipe, gan_model_info *info) {
    info->encode_width = (int)gan_shape_count(gani_result_shape(recipe, "codes"));
}

GAN_API gan_status gan_model_get_info(gan_model *model, gan_model_info *info) {
    const gani_system *system = model->system;
    memset(info, 0, sizeof *info);
    info->system = &system->info;
    info->height = model->height;
    info->width = model->width;
    info->channels = model->channels;
    info->channels_b = model->channels_b;
    info->batch = model->batch;
    info->seed = gan_params_seed(model->params);
    info->step = gan_params_step(model->params);
    info->options = model->options_text;
    if (model->train) {
        info->train_bytes = gani_recipe_bytes(model->train);
        for (int i = 0; i < model->params->count; i++) {
            info->train_bytes += gan_shape_count(model->params->items[i].shape) * sizeof(float);
        }
        info->train_multiply_adds = gani_recipe_work(model->train);
    }
    gan_status status = gani_measure(model, system->sample, 0, gani_look_at_sample, info);
    status =
        status ? status : gani_measure(model, system->translate, 0, gani_look_at_translate, info);
    return status ? status : gani_measure(model, system->encode, 0, gani_look_at_encode, info);
}

/* The recipe for what a model does, "train", "sample" ...; NULL where it does not. */
static gan_status gani_recipe_for(gan_model *model, const char *what, const gani_recipe **out) {
    const gani_system *system = model->system;
    const struct {
        const char *what;
        gani_recipe **slot;
        void (*build)(gani_recipe *recipe);
    } rows[] = {{"sample", &model->sample, system->sample},
                {"translate", &model->translate, system->translate},
                {"encode", &model->encode, system->encode}};
    const gani_recipe wanted = gani_recipe_wanted(model, 1, GAN_EVALUATE);
    gan_status status = GAN_OK;
    *out = strcmp(what, "train") == 0 ? model->train : NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].build && strcmp(what, rows[i].what) == 0) {
            status = gani_use_recipe(model, rows[i].slot, &wanted, rows[i].build);
            *out = *rows[i].slot;
        }
    }
    return status;
}

GAN_API gan_status gan_model_input(gan_model *model, const char *what, int index,
                                   gan_input_info *info) {
    const gani_recipe *recipe;
    const gan_status status = gani_recipe_for(model, what, &recipe);
    memset(info, 0, sizeof *info);
    for (int i = 0; status == GAN_OK && recipe && i < recipe->feed_count; i++) {
        const gani_feed *feed = &recipe->feeds[i];
        const int given = feed->kind == GANI_FEED_GIVEN;
        if ((gani_is_noise(feed) || given) && index-- == 0) {
            const int normal = feed->kind == GANI_FEED_NORMAL;
            info->name = feed->name;
            info->count = (int)(feed->count / (size_t)(given ? 1 : recipe->batch));
            info->classes = feed->kind == GANI_FEED_CYCLE ? (int)feed->a : 0;
            info->low = normal ? -2.0 : info->classes ? 0.0 : feed->a;
            info->high = normal ? 2.0 : info->classes ? feed->a - 1.0 : given ? feed->a : feed->b;
        }
    }
    return status;
}

GAN_API gan_status gan_model_program(gan_model *model, const char *what, int index,
                                     gan_program **out) {
    const gani_recipe *recipe;
    const gan_status status = gani_recipe_for(model, what, &recipe);
    const int known = status == GAN_OK && recipe && index >= 0 && index < recipe->phase_count;
    *out = known ? recipe->phases[index].program : NULL;
    return status;
}

GAN_API gan_status gan_model_save(const gan_model *model, const char *path) {
    static const char *const keys[] = {"height", "width", "channels", "channels_b", "batch"};
    const int values[] = {model->height, model->width, model->channels, model->channels_b,
                          model->batch};
    enum { SIZES = sizeof keys / sizeof keys[0] };
    char texts[SIZES][16];
    gan_metadata meta[SIZES + 2];
    for (int i = 0; i < SIZES; i++) {
        snprintf(texts[i], sizeof texts[i], "%d", values[i]);
        meta[i].key = keys[i];
        meta[i].value = texts[i];
    }
    meta[SIZES].key = "system";
    meta[SIZES].value = model->system->info.name;
    meta[SIZES + 1].key = "options";
    meta[SIZES + 1].value = model->options_text;
    return gan_params_save(model->params, path, meta, SIZES + 2);
}

/* ============================================================================
 * >>gan  8.2  GENERATIVE ADVERSARIAL NETS (Goodfellow et al. 2014, arXiv:1406.2661)
 *
 * Two multilayer perceptrons. D(x) is the probability that x is real; with D's logits,
 *     loss_d = (BCE(D(x), 1) + BCE(D(G(z)), 0)) / 2,        loss_g = BCE(D(G(z)), 1).
 *
 * preset=pytorch-gan: networks, names and order of eriklindernoren/PyTorch-GAN,
 * implementations/gan/gan.py: G first, then D on the same fake images. Differs from it: batch
 * norm's eps is 1e-5 (option eps; 0.8 there, by a slip).
 *
 * preset=paper: the authors' network for MNIST, goodfeli/adversarial mnist.yaml: maxout
 * discriminator with dropout on the input of each layer, sigmoid images in [0,1], SGD; both updates
 * from the same weights. Differs from it: the momentum stays at 0.5 (there it rises to 0.7 over 250
 * epochs) and the bias of the output layer starts at 0 (there from the mean image).
 * ========================================================================= */

static const gan_option gani_gan_options[] = {
    {"preset", "networks and optimiser", "pytorch-gan paper", 0, 0, 1, 1},
    {"z", "numbers in the noise", NULL, 100, 1, 65536, 1},
    {"lr", "learning rate; 0 is the preset's own, 0.0002 (paper: 0.1)", NULL, 0, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
    {"eps", "batch norm: added to the variance", NULL, 1e-5, 1e-12, 10, 0},
};

static int gani_gan_is_paper(const gani_recipe *recipe) {
    return gani_option(recipe, "preset") == 1.0;
}

/* z ~ N(0,1) [batch,z]. */
static gan_tensor gani_feed_z(gani_recipe *recipe, const char *name) {
    return gani_feed_normal(recipe, name, gan_shape2(recipe->batch, (int)gani_option(recipe, "z")));
}

/* The same; paper: uniform of variance 1. */
static gan_tensor gani_gan_noise(gani_recipe *recipe) {
    const gan_shape shape = gan_shape2(recipe->batch, (int)gani_option(recipe, "z"));
    const double root3 = 1.7320508075688772;
    return gani_gan_is_paper(recipe) ? gani_feed_uniform(recipe, "z", shape, -root3, root3)
                                     : gani_feed_z(recipe, "z");
}

static int gani_pixels(const gani_recipe *recipe) {
    return recipe->model->channels * recipe->model->height * recipe->model->width;
}

/* [batch,pixels] to [batch,c,h,w]. */
static gan_tensor gani_as_images(gani_recipe *recipe, gan_tensor x) {
    const gan_model *model = recipe->model;
    return gan_reshape(recipe->graph, x,
                       gan_shape4(recipe->batch, model->channels, model->height, model->width));
}

/* Images from z: 100 - 128 - 256 - 512 - 1024 - pixels, batch norm from the second on, LeakyReLU
 * 0.2; tanh. */
static gan_tensor gani_mlp_generator(gani_recipe *recipe, gan_tensor z) {
    static const struct {
        const char *linear, *norm;
        int units;
    } rows[] = {{"model.0", NULL, 128},
                {"model.2", "model.3", 256},
                {"model.5", "model.6", 512},
                {"model.8", "model.9", 1024}};
    gan_graph *g = recipe->graph;
    gan_tensor x = z;
    gan_norm_desc norm;
    memset(&norm, 0, sizeof norm);
    norm.eps = (float)gani_option(recipe, "eps");
    gan_graph_push(g, "generator");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        x = gan_layer_linear(g, rows[i].linear, x, rows[i].units, NULL);
        x = rows[i].norm ? gan_layer_batch_norm(g, rows[i].norm, x, &norm) : x;
        x = gan_leaky_relu(g, x, 0.2f);
    }
    x = gan_tanh(g, gan_layer_linear(g, "model.11", x, gani_pixels(recipe), NULL));
    gan_graph_pop(g);
    return gani_as_images(recipe, x);
}

/* Scores [batch,1], here logits: pixels - 512 - 256 - 1, LeakyReLU 0.2. */
static gan_tensor gani_mlp_discriminator(gani_recipe *recipe, gan_tensor images) {
    gan_graph *g = recipe->graph;
    gan_tensor x = gan_reshape(g, images, gan_shape2(recipe->batch, gani_pixels(recipe)));
    gan_graph_push(g, "discriminator");
    x = gan_leaky_relu(g, gan_layer_linear(g, "model.0", x, 512, NULL), 0.2f);
    x = gan_leaky_relu(g, gan_layer_linear(g, "model.2", x, 256, NULL), 0.2f);
    x = gan_layer_linear(g, "model.4", x, 1, NULL);
    gan_graph_pop(g);
    return x;
}

/* z 100 - 1200 - 1200 - pixels, ReLU; sigmoid, from [0,1] to [-1,1]. */
static gan_tensor gani_paper_generator(gani_recipe *recipe, gan_tensor z) {
    const gan_init weight = {GAN_INIT_UNIFORM, -0.05f, 0.05f},
                   zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_graph *g = recipe->graph;
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.weight_init = &weight;
    desc.bias_init = &zero;
    gan_graph_push(g, "generator");
    gan_tensor x = gan_relu(g, gan_layer_linear(g, "h0", z, 1200, &desc));
    x = gan_relu(g, gan_layer_linear(g, "h1", x, 1200, &desc));
    x = gan_sigmoid(g, gan_layer_linear(g, "y", x, gani_pixels(recipe), &desc));
    gan_graph_pop(g);
    return gani_as_images(recipe, gan_affine(g, x, 2.0f, -1.0f));
}

/* Pixels - maxout 240 x 5 - maxout 240 x 5 - 1, dropout on the input of each. */
static gan_tensor gani_paper_discriminator(gani_recipe *recipe, gan_tensor images) {
    const gan_init weight = {GAN_INIT_UNIFORM, -0.005f, 0.005f},
                   zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_graph *g = recipe->graph;
    gan_tensor x = gan_reshape(g, images, gan_shape2(recipe->batch, gani_pixels(recipe)));
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.weight_init = &weight;
    desc.bias_init = &zero;
    gan_graph_push(g, "discriminator");
    x = gan_layer_dropout(g, gan_affine(g, x, 0.5f, 0.5f), 0.2f, 0);
    x = gan_layer_dropout(g, gan_layer_maxout(g, "h0", x, 240, 5, &desc), 0.5f, 0);
    x = gan_layer_dropout(g, gan_layer_maxout(g, "h1", x, 240, 5, &desc), 0.5f, 0);
    x = gan_layer_linear(g, "y", x, 1, &desc);
    gan_graph_pop(g);
    return x;
}

static gan_tensor gani_gan_generator(gani_recipe *recipe, gan_tensor z) {
    return gani_gan_is_paper(recipe) ? gani_paper_generator(recipe, z)
                                     : gani_mlp_generator(recipe, z);
}

static gan_tensor gani_gan_discriminator(gani_recipe *recipe, gan_tensor images) {
    return gani_gan_is_paper(recipe) ? gani_paper_discriminator(recipe, images)
                                     : gani_mlp_discriminator(recipe, images);
}

static void gani_gan_train(gani_recipe *recipe) {
    gan_graph *g = recipe->graph;
    const int paper = gani_gan_is_paper(recipe);
    const double lr = gani_option(recipe, "lr");
    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor z = gani_gan_noise(recipe);
    gan_tensor rate = paper
                          ? gani_feed_rate(recipe, "lr", lr != 0.0 ? lr : 0.1, 1.0 / 1.000004, 1e-6)
                          : gani_feed_rate(recipe, "lr", lr != 0.0 ? lr : 2e-4, 1.0, 0.0);
    const gan_optimiser update =
        paper ? gan_sgd(0.5f)
              : gan_adam((float)gani_option(recipe, "beta1"), (float)gani_option(recipe, "beta2"));

    gan_tensor fake = gani_gan_generator(recipe, z);
    gan_tensor d_real = gani_gan_discriminator(recipe, real);
    gan_tensor d_fake = gani_gan_discriminator(recipe, gan_detach(g, fake));
    gan_tensor loss_g = gan_loss_bce(g, gani_gan_discriminator(recipe, fake), 1.0f);
    gan_tensor loss_d = gan_add(g, gan_loss_bce(g, d_real, 1.0f), gan_loss_bce(g, d_fake, 0.0f));
    loss_d = gan_affine(g, loss_d, 0.5f, 0.0f);

    gan_minimise(g, loss_g, "generator.", rate, &update);
    gan_minimise(g, loss_d, "discriminator.", rate, &update);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_report_spread(recipe, fake, real);
    gani_end_phase(recipe, "train", 1);
}

static void gani_gan_sample(gani_recipe *recipe) {
    gani_images(recipe, gani_gan_generator(recipe, gani_gan_noise(recipe)));
}

static const gani_system gani_gan = {
    {"gan", "Generative Adversarial Nets: two multilayer perceptrons",
     "Goodfellow et al. 2014, arXiv:1406.2661", 28, 28, 1, 64, gani_gan_options,
     sizeof gani_gan_options / sizeof gani_gan_options[0], 1, 0, 0},
    gani_gan_train,
    gani_gan_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>dcgan  8.3  DCGAN (Radford, Metz, Chintala 2015, arXiv:1511.06434)
 *
 * All-convolutional: transposed convolutions in G, strided ones in D, batch norm in both, no
 * pooling and no linear layers; ReLU in G with tanh at the end, LeakyReLU in D. Networks, names,
 * initial values and order as in pytorch/examples dcgan/main.py, at any size: an image side is
 * base * 2^stages, base from 4 to 15, so that 64 has four stages around 4x4 and 28 two around 7x7.
 * Channels double inwards from ngf and ndf, up to 16 times.
 *
 *     loss_d = (BCE(D(x), 1) + BCE(D(G(z)), 0)) / 2
 *     loss_g = BCE(D(G(z)), 1), with D after its update
 *
 * Differs from pytorch/examples: the factor 1/2 (Adam does not see it but for eps).
 * ========================================================================= */

static const gan_option gani_dcgan_options[] = {
    {"z", "numbers in the noise", NULL, 100, 1, 65536, 1},
    {"ngf", "channels of the generator's outermost stage", NULL, 64, 1, 1024, 1},
    {"ndf", "channels of the discriminator's outermost stage", NULL, 64, 1, 1024, 1},
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
};

/* Weights N(0,0.02), batch norm's scale N(1,0.02). */
static const gan_init gani_dcgan_weight = {GAN_INIT_NORMAL, 0.0f, 0.02f};
static const gan_init gani_dcgan_scale = {GAN_INIT_NORMAL, 1.0f, 0.02f};
static const gan_layer_desc gani_dcgan_conv = {1, &gani_dcgan_weight, NULL, 0, 0, 0, 0};
static const gan_norm_desc gani_dcgan_norm = {0.0f, 0.0f, 0, 0, &gani_dcgan_scale, NULL};

typedef struct gani_dcgan_stages {
    int count; /* doublings */
    int base;  /* side of the innermost map */
} gani_dcgan_stages;

/* Halves the side while it stays whole and at least 4. An unsuitable size becomes an error of the
 * graph, and count 0. */
static gani_dcgan_stages gani_dcgan_count(const gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    gani_dcgan_stages stages;
    stages.count = 0;
    stages.base = model->height;
    while (stages.base % 2 == 0 && stages.base >= 8) {
        stages.base /= 2;
        stages.count++;
    }
    if (model->width != model->height || stages.count < 2 || stages.base < 4 || stages.base > 15) {
        gani_stick(
            recipe->graph,
            gani_error(
                model->ctx, GAN_ERR_SHAPE,
                "dcgan: expected square images whose side is a number from 4 to 15, doubled twice "
                "or more (16, 28, 32, 48, 64, 96, 128 ...), found %d x %d",
                model->height, model->width));
        stages.count = 0;
    }
    return stages;
}

static int gani_dcgan_channels(int outermost, int stage) {
    return outermost << (stage < 4 ? stage : 4);
}

enum { GANI_LAYER_NAME = 20 }; /* bytes of "main." and any number */

/* Writes "main.7" to name, and returns it. */
static const char *gani_dcgan_main(char name[GANI_LAYER_NAME], int index) {
    snprintf(name, GANI_LAYER_NAME, "main.%d", index);
    return name;
}

/* Images [batch,c,h,w] from z [batch,k]: base x base, then doublings. main.0, 3, 6 ... are
 * convolutions, main.1, 4, 7 ... norms. */
static gan_tensor gani_dcgan_generator(gani_recipe *recipe, gan_tensor z) {
    const gani_dcgan_stages stages = gani_dcgan_count(recipe);
    const int ngf = (int)gani_option(recipe, "ngf");
    gan_graph *g = recipe->graph;
    gan_tensor x =
        gan_reshape(g, z, gan_shape4(recipe->batch, gan_tensor_shape(g, z).dim[1], 1, 1));
    char name[GANI_LAYER_NAME];
    gan_graph_push(g, "generator");
    for (int i = 0; i < stages.count; i++) {
        const int channels = gani_dcgan_channels(ngf, stages.count - 1 - i);
        const int kernel = i == 0 ? stages.base : 4, stride = i == 0 ? 1 : 2, pad = i == 0 ? 0 : 1;
        x = gan_layer_conv_transpose(g, gani_dcgan_main(name, 3 * i), x, channels, kernel, stride,
                                     pad, &gani_dcgan_conv);
        x = gan_relu(
            g, gan_layer_batch_norm(g, gani_dcgan_main(name, 3 * i + 1), x, &gani_dcgan_norm));
    }
    x = gan_layer_conv_transpose(g, gani_dcgan_main(name, 3 * stages.count), x,
                                 recipe->model->channels, 4, 2, 1, &gani_dcgan_conv);
    gan_graph_pop(g);
    return gan_tanh(g, x);
}

typedef enum gani_dcgan_norm_kind {
    GANI_DCGAN_BATCH,
    GANI_DCGAN_LAYER,
    GANI_DCGAN_NONE
} gani_dcgan_norm_kind;

/* Scores [batch,1,1,1], here logits: halvings down to base x base, then one convolution over all of
 * it. main.0, 2, 5, 8 ... are convolutions, main.3, 6, 9 ... norms (none behind the first
 * convolution). Without norms the convolutions have biases, 0 at first. */
static gan_tensor gani_dcgan_critic(gani_recipe *recipe, gan_tensor images,
                                    gani_dcgan_norm_kind kind) {
    const gani_dcgan_stages stages = gani_dcgan_count(recipe);
    const int ndf = (int)gani_option(recipe, "ndf");
    const gan_init zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_graph *g = recipe->graph;
    gan_tensor x = images;
    gan_layer_desc conv = gani_dcgan_conv;
    char name[GANI_LAYER_NAME];
    conv.no_bias = kind != GANI_DCGAN_NONE;
    conv.bias_init = &zero;
    gan_graph_push(g, "discriminator");
    for (int i = 0; i < stages.count; i++) {
        const int index = i == 0 ? 0 : 3 * i - 1, channels = gani_dcgan_channels(ndf, i);
        x = gan_layer_conv(g, gani_dcgan_main(name, index), x, channels, 4, 2, 1, &conv);
        gani_dcgan_main(name, index + 1);
        if (i > 0 && kind == GANI_DCGAN_BATCH) {
            x = gan_layer_batch_norm(g, name, x, &gani_dcgan_norm);
        } else if (i > 0 && kind == GANI_DCGAN_LAYER) {
            x = gan_layer_layer_norm(g, name, x, &gani_dcgan_norm);
        }
        x = gan_leaky_relu(g, x, 0.2f);
    }
    x = gan_layer_conv(g, gani_dcgan_main(name, 3 * stages.count - 1), x, 1, stages.base, 1, 0,
                       &conv);
    gan_graph_pop(g);
    return x;
}

static gan_tensor gani_dcgan_discriminator(gani_recipe *recipe, gan_tensor images) {
    return gani_dcgan_critic(recipe, images, GANI_DCGAN_BATCH);
}

/* From noise to images, or from images to scores. */
typedef gan_tensor gani_network(gani_recipe *recipe, gan_tensor input);

/* What the two networks play for: D is to give `real` for real images and `fake` for generated
 * ones, G wants D to give `wanted`. */
typedef struct gani_goal {
    gan_tensor (*loss)(gan_graph *graph, gan_tensor score, float target);
    float fake, real, wanted;
} gani_goal;

/* loss_d = (loss(D(x), real) + loss(D(G(z)), fake)) / 2 */
static gan_tensor gani_loss_d(gan_graph *g, const gani_goal *goal, gan_tensor d_real,
                              gan_tensor d_fake) {
    gan_tensor loss =
        gan_add(g, goal->loss(g, d_real, goal->real), goal->loss(g, d_fake, goal->fake));
    return gan_affine(g, loss, 0.5f, 0.0f);
}

/* Adam as the options "beta1" and "beta2" say. */
static gan_optimiser gani_adam(const gani_recipe *recipe) {
    return gan_adam((float)gani_option(recipe, "beta1"), (float)gani_option(recipe, "beta2"));
}

/* A training step: D, and then G against the new D. */
static void gani_play(gani_recipe *recipe, gani_network *generator, gani_network *discriminator,
                      const gani_goal *goal) {
    gan_graph *g = recipe->graph;
    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor z = gani_feed_z(recipe, "z");
    gan_tensor rate = gani_feed_lr(recipe);
    const gan_optimiser adam = gani_adam(recipe);

    gan_tensor fake = generator(recipe, z);
    gan_tensor d_real = discriminator(recipe, real);
    gan_tensor d_fake = discriminator(recipe, gan_detach(g, fake));
    gan_tensor loss_d = gani_loss_d(g, goal, d_real, d_fake);
    gan_minimise(g, loss_d, "discriminator.", rate, &adam);

    gan_tensor loss_g = goal->loss(g, discriminator(recipe, fake), goal->wanted);
    gan_minimise(g, loss_g, "generator.", rate, &adam);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_report_spread(recipe, fake, real);
    gani_end_phase(recipe, "train", 1);
}

static void gani_dcgan_train(gani_recipe *recipe) {
    static const gani_goal goal = {gan_loss_bce, 0.0f, 1.0f, 1.0f};
    gani_play(recipe, gani_dcgan_generator, gani_dcgan_discriminator, &goal);
}

static void gani_dcgan_sample(gani_recipe *recipe) {
    gani_images(recipe, gani_dcgan_generator(recipe, gani_feed_z(recipe, "z")));
}

static const gani_system gani_dcgan = {
    {"dcgan", "Deep Convolutional GAN", "Radford, Metz, Chintala 2015, arXiv:1511.06434", 64, 64, 3,
     64, gani_dcgan_options, sizeof gani_dcgan_options / sizeof gani_dcgan_options[0], 1, 0, 0},
    gani_dcgan_train,
    gani_dcgan_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>lsgan  8.4  LEAST SQUARES GAN (Mao et al. 2016, arXiv:1611.04076)
 *
 * The networks of DCGAN (network=dcgan) or of GAN (network=mlp), their scores left as they are, no
 * sigmoid, and drawn towards numbers: D towards a for generated images and b for real ones, G
 * towards c. Samples far from where D decides keep a gradient, also on the right side.
 *
 *     loss_d = (mean (D(x) - b)^2 + mean (D(G(z)) - a)^2) / 2
 *     loss_g = mean (D(G(z)) - c)^2
 *
 * a=0 b=1 c=1 is equation 9 of the paper; a=-1 b=1 c=0 is equation 8 and minimises Pearson's chi
 * square. Differs from the paper: loss_g without its factor 1/2, as in eriklindernoren/PyTorch-GAN
 * (Adam does not see it but for eps).
 * ========================================================================= */

/* For systems that take their networks from above; standard: 0 dcgan, 1 mlp. */
/* clang-format off */
#define GANI_NETWORK_OPTIONS(standard)                                                             \
    {"network", "networks of the system dcgan or of gan", "dcgan mlp", standard, 0, 1, 1},         \
    {"z", "numbers in the noise", NULL, 100, 1, 65536, 1},                                         \
    {"ngf", "dcgan: channels of the generator's outermost stage", NULL, 64, 1, 1024, 1},           \
    {"ndf", "dcgan: channels of the discriminator's outermost stage", NULL, 64, 1, 1024, 1},       \
    {"eps", "mlp: added to the variance by batch norm", NULL, 1e-5, 1e-12, 10, 0}
/* clang-format on */

static int gani_network_is_mlp(const gani_recipe *recipe) {
    return gani_option(recipe, "network") == 1.0;
}

static gan_tensor gani_network_generator(gani_recipe *recipe, gan_tensor z) {
    return gani_network_is_mlp(recipe) ? gani_mlp_generator(recipe, z)
                                       : gani_dcgan_generator(recipe, z);
}

static gan_tensor gani_network_discriminator(gani_recipe *recipe, gan_tensor images) {
    return gani_network_is_mlp(recipe) ? gani_mlp_discriminator(recipe, images)
                                       : gani_dcgan_discriminator(recipe, images);
}

static void gani_network_sample(gani_recipe *recipe) {
    gani_images(recipe, gani_network_generator(recipe, gani_feed_z(recipe, "z")));
}

static const gan_option gani_lsgan_options[] = {
    GANI_NETWORK_OPTIONS(0),
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
    {"a", "D's target for generated images", NULL, 0, -100, 100, 0},
    {"b", "D's target for real images", NULL, 1, -100, 100, 0},
    {"c", "what G wants D to give", NULL, 1, -100, 100, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
};

static void gani_lsgan_train(gani_recipe *recipe) {
    gani_goal goal;
    goal.loss = gan_loss_least_squares;
    goal.fake = (float)gani_option(recipe, "a");
    goal.real = (float)gani_option(recipe, "b");
    goal.wanted = (float)gani_option(recipe, "c");
    gani_play(recipe, gani_network_generator, gani_network_discriminator, &goal);
}

static const gani_system gani_lsgan = {
    {"lsgan", "Least Squares GAN", "Mao et al. 2016, arXiv:1611.04076", 64, 64, 3, 64,
     gani_lsgan_options, sizeof gani_lsgan_options / sizeof gani_lsgan_options[0], 1, 0, 0},
    gani_lsgan_train,
    gani_network_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>wgan  8.5  WASSERSTEIN GAN (Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875)
 *
 * D, the critic, gives scores without bounds that are to be high for real images and low for
 * generated ones; kept from being steep, their difference estimates how far apart the two
 * distributions are (Wasserstein-1, up to a factor). Here weights are clipped to +-clip.
 *
 *     distance = mean D(x) - mean D(G(z))
 *     loss_d = -distance        in every step, on new images and noise
 *     loss_g = -mean D(G(z))    in every n-critic-th step, after the critic's, on noise of its own
 *
 * That is algorithm 1 of the paper; a step is one update of the critic. Networks as in >>lsgan, no
 * sigmoid. Batch norm in the critic of dcgan is the authors' choice
 * (martinarjovsky/WassersteinGAN); norm=none or layer leaves it out. Only trained parameters are
 * clipped, norms' scales among them, running statistics are not. Differs from the authors' code: no
 * phases of 100 critic steps.
 * ========================================================================= */

static gan_tensor gani_wgan_critic(gani_recipe *recipe, gan_tensor images,
                                   gani_dcgan_norm_kind norm) {
    return gani_network_is_mlp(recipe) ? gani_mlp_discriminator(recipe, images)
                                       : gani_dcgan_critic(recipe, images, norm);
}

/* Appends both scores and reports the distance: mean D(real) - mean D(fake). */
static gan_tensor gani_wgan_distance(gani_recipe *recipe, gan_tensor real, gan_tensor fake,
                                     gani_dcgan_norm_kind norm) {
    gan_graph *g = recipe->graph;
    gan_tensor d_real = gan_loss_wasserstein(g, gani_wgan_critic(recipe, real, norm), 0);
    gan_tensor d_fake = gan_loss_wasserstein(g, gani_wgan_critic(recipe, fake, norm), 0);
    gan_tensor distance = gan_sub(g, d_real, d_fake);
    gani_report(recipe, "distance", distance);
    return distance;
}

/* The phases, once the critic's loss is known: the critic in every step, the generator in some. */
static void gani_wgan_phases(gani_recipe *recipe, gan_tensor real, gan_tensor loss_d,
                             gani_dcgan_norm_kind norm, const gan_optimiser *critic,
                             const gan_optimiser *generator) {
    gan_graph *g = recipe->graph;
    gan_tensor rate = gani_feed_lr(recipe);
    gan_minimise(g, loss_d, "discriminator.", rate, critic);
    gani_report(recipe, "loss_d", loss_d);
    gani_end_phase(recipe, "critic", 1);

    gan_tensor fake = gani_network_generator(recipe, gani_feed_z(recipe, "z_g"));
    gan_tensor loss_g = gan_loss_wasserstein(g, gani_wgan_critic(recipe, fake, norm), 1);
    gan_minimise(g, loss_g, "generator.", rate, generator);
    gani_report(recipe, "loss_g", loss_g);
    gani_report_spread(recipe, fake, real);
    gani_end_phase(recipe, "generator", (int)gani_option(recipe, "n-critic"));
}

static const gan_option gani_wgan_options[] = {
    GANI_NETWORK_OPTIONS(0),
    {"n-critic", "updates of the critic for each of the generator", NULL, 5, 1, 1000, 1},
    {"norm", "dcgan: what the critic's stages end in", "batch layer none", 0, 0, 2, 1},
    {"lr", "learning rate", NULL, 5e-5, 0, 10, 0},
    {"alpha", "RMSprop: decay of the mean square", NULL, 0.99, 0, 0.999999, 0},
    {"clip", "the critic's weights stay within +-this", NULL, 0.01, 1e-9, 1000, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
};

static void gani_wgan_train(gani_recipe *recipe) {
    const gani_dcgan_norm_kind norm = (gani_dcgan_norm_kind)(int)gani_option(recipe, "norm");
    const gan_optimiser rmsprop = gan_rmsprop((float)gani_option(recipe, "alpha"));
    gan_optimiser clipped = rmsprop;
    clipped.clip_weights = (float)gani_option(recipe, "clip");

    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor fake = gani_network_generator(recipe, gani_feed_z(recipe, "z"));
    gan_tensor distance = gani_wgan_distance(recipe, real, gan_detach(recipe->graph, fake), norm);
    gan_tensor loss_d = gan_affine(recipe->graph, distance, -1.0f, 0.0f);
    gani_wgan_phases(recipe, real, loss_d, norm, &clipped, &rmsprop);
}

static const gani_system gani_wgan = {
    {"wgan", "Wasserstein GAN, weights clipped",
     "Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875", 64, 64, 3, 64, gani_wgan_options,
     sizeof gani_wgan_options / sizeof gani_wgan_options[0], 1, 0, 0},
    gani_wgan_train,
    gani_network_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>wgan-gp  8.6  WASSERSTEIN GAN WITH GRADIENT PENALTY (Gulrajani et al. 2017, arXiv:1704.00028)
 *
 * As >>wgan, but instead of clipping weights the critic pays where its gradient in the image has
 * another length than 1, at points between real and generated images:
 *
 *     m = epsilon x + (1 - epsilon) G(z), epsilon uniform in [0,1), one for each image
 *     loss_d = -distance + lambda * mean (|dD(m)/dm|_2 - 1)^2
 *
 * whose gradient in the critic's weights is a second derivative; the graph takes it like any other.
 * The penalty is a matter of single images, so the critic has no batch norm. Adam with beta1 0.5,
 * beta2 0.9 is what the authors' code has for small images (igul222/improved_wgan_training).
 * ========================================================================= */

static const gan_option gani_wgan_gp_options[] = {
    GANI_NETWORK_OPTIONS(0),
    {"n-critic", "updates of the critic for each of the generator", NULL, 5, 1, 1000, 1},
    {"norm", "dcgan: what the critic's stages end in", "none layer", 0, 0, 1, 1},
    {"lr", "learning rate", NULL, 1e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.9, 0, 0.999999, 0},
    {"lambda", "weight of the penalty", NULL, 10, 0, 1e6, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
};

static void gani_wgan_gp_train(gani_recipe *recipe) {
    const gani_dcgan_norm_kind norm =
        gani_option(recipe, "norm") == 1.0 ? GANI_DCGAN_LAYER : GANI_DCGAN_NONE;
    const gan_optimiser adam = gani_adam(recipe);
    const float lambda = (float)gani_option(recipe, "lambda");
    gan_graph *g = recipe->graph;

    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor fake = gan_detach(g, gani_network_generator(recipe, gani_feed_z(recipe, "z")));
    gan_tensor epsilon =
        gani_feed_uniform(recipe, "epsilon", gan_shape4(recipe->batch, 1, 1, 1), 0.0, 1.0);
    gan_tensor between = gan_add(g, fake, gan_mul(g, epsilon, gan_sub(g, real, fake)));

    gan_tensor distance = gani_wgan_distance(recipe, real, fake, norm);
    gan_tensor penalty =
        gan_loss_gradient_penalty(g, gani_wgan_critic(recipe, between, norm), between);
    gan_tensor loss_d = gan_sub(g, gan_affine(g, penalty, lambda, 0.0f), distance);
    gani_wgan_phases(recipe, real, loss_d, norm, &adam, &adam);
}

static const gani_system gani_wgan_gp = {
    {"wgan-gp", "Wasserstein GAN with gradient penalty", "Gulrajani et al. 2017, arXiv:1704.00028",
     64, 64, 3, 64, gani_wgan_gp_options,
     sizeof gani_wgan_gp_options / sizeof gani_wgan_gp_options[0], 1, 0, 0},
    gani_wgan_gp_train,
    gani_network_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>cgan  8.7  CONDITIONAL GAN (Mirza and Osindero 2014, arXiv:1411.1784)
 *
 * Both networks see a class y beside their input, so that G learns to draw the class that it is
 * told, and D to tell whether image and class belong together.
 *
 *     loss_d = (L(D(x, y), 1) + L(D(G(z, y'), y'), 0)) / 2
 *     loss_g = L(D(G(z, y'), y'), 1), y' drawn for each image
 *
 * network=mlp: networks, names, loss and order of eriklindernoren/PyTorch-GAN,
 * implementations/cgan/cgan.py: G first, then D on the same images, L least squares. Each network
 * has an embedding of the classes, in front of the noise, behind the pixels. Differs from it: batch
 * norm's eps is 1e-5 (option eps; 0.8 there, by a slip). network=dcgan, the convolutional form: the
 * networks of >>dcgan, the embedding in front of the noise again, and behind the channels of the
 * image one for each class, 1 everywhere in that of y and 0 in the others. The paper's loss is bce.
 * ========================================================================= */

static const gan_option gani_cgan_options[] = {
    GANI_NETWORK_OPTIONS(1),
    {"classes", "how many classes the images have", NULL, 10, 1, 65536, 1},
    {"loss", "L: squared distance, or cross-entropy of D's probability", "least-squares bce", 0, 0,
     1, 1},
    {"dropout", "mlp: share of D's hidden units that are dropped", NULL, 0.4, 0, 0.99, 0},
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
};

/* Images of the classes label [batch]. */
static gan_tensor gani_cgan_generator(gani_recipe *recipe, gan_tensor z, gan_tensor label) {
    const int classes = (int)gani_option(recipe, "classes");
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "generator");
    const gan_tensor both[] = {gan_layer_embedding(g, "label_emb", label, classes, classes, NULL),
                               z};
    gan_graph_pop(g);
    return gani_network_generator(recipe, gan_concat(g, both, 2, 1));
}

/* Scores [batch,1]: pixels and classes - 512 - 512 - 512 - 1, LeakyReLU 0.2, dropout. */
static gan_tensor gani_cgan_discriminator_mlp(gani_recipe *recipe, gan_tensor images,
                                              gan_tensor label) {
    const int classes = (int)gani_option(recipe, "classes");
    const float dropped = (float)gani_option(recipe, "dropout");
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "discriminator");
    const gan_tensor both[] = {
        gan_reshape(g, images, gan_shape2(recipe->batch, gani_pixels(recipe))),
        gan_layer_embedding(g, "label_embedding", label, classes, classes, NULL)};
    gan_tensor x = gan_concat(g, both, 2, 1);
    x = gan_leaky_relu(g, gan_layer_linear(g, "model.0", x, 512, NULL), 0.2f);
    x = gan_layer_dropout(g, gan_layer_linear(g, "model.2", x, 512, NULL), dropped, 0);
    x = gan_leaky_relu(g, x, 0.2f);
    x = gan_layer_dropout(g, gan_layer_linear(g, "model.5", x, 512, NULL), dropped, 0);
    x = gan_layer_linear(g, "model.8", gan_leaky_relu(g, x, 0.2f), 1, NULL);
    gan_graph_pop(g);
    return x;
}

static gan_tensor gani_cgan_discriminator(gani_recipe *recipe, gan_tensor images,
                                          gan_tensor label) {
    const gan_model *model = recipe->model;
    const int classes = (int)gani_option(recipe, "classes");
    gan_graph *g = recipe->graph;
    if (gani_network_is_mlp(recipe)) {
        return gani_cgan_discriminator_mlp(recipe, images, label);
    }
    gan_tensor chosen = gan_one_hot(g, label, classes);
    chosen = gan_reshape(g, chosen, gan_shape4(recipe->batch, classes, 1, 1));
    const gan_tensor both[] = {
        images,
        gan_broadcast(g, chosen, gan_shape4(recipe->batch, classes, model->height, model->width))};
    return gani_dcgan_discriminator(recipe, gan_concat(g, both, 2, 1));
}

static void gani_cgan_train(gani_recipe *recipe) {
    const int classes = (int)gani_option(recipe, "classes");
    const gani_goal goal = {gani_option(recipe, "loss") == 1.0 ? gan_loss_bce
                                                               : gan_loss_least_squares,
                            0.0f, 1.0f, 1.0f};
    const gan_optimiser adam = gani_adam(recipe);
    gan_graph *g = recipe->graph;
    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor label = gani_feed_labels(recipe, "label", classes);
    gan_tensor z = gani_feed_z(recipe, "z");
    gan_tensor asked = gani_feed_classes(recipe, "label_fake", classes);
    gan_tensor rate = gani_feed_lr(recipe);

    gan_tensor fake = gani_cgan_generator(recipe, z, asked);
    gan_tensor d_real = gani_cgan_discriminator(recipe, real, label);
    gan_tensor d_fake = gani_cgan_discriminator(recipe, gan_detach(g, fake), asked);
    gan_tensor loss_d = gani_loss_d(g, &goal, d_real, d_fake);
    gan_tensor loss_g = goal.loss(g, gani_cgan_discriminator(recipe, fake, asked), goal.wanted);

    gan_minimise(g, loss_g, "generator.", rate, &adam);
    gan_minimise(g, loss_d, "discriminator.", rate, &adam);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_report_spread(recipe, fake, real);
    gani_end_phase(recipe, "train", 1);
}

static void gani_cgan_sample(gani_recipe *recipe) {
    gan_tensor z = gani_feed_z(recipe, "z");
    gan_tensor label = gani_feed_cycle(recipe, "label", (int)gani_option(recipe, "classes"));
    gani_images(recipe, gani_cgan_generator(recipe, z, label));
}

static const gani_system gani_cgan = {
    {"cgan", "Conditional GAN: draws the class that it is asked for",
     "Mirza and Osindero 2014, arXiv:1411.1784", 28, 28, 1, 64, gani_cgan_options,
     sizeof gani_cgan_options / sizeof gani_cgan_options[0], 1, 0, 0},
    gani_cgan_train,
    gani_cgan_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>upsampling  8.8  NETWORKS WITH UPSAMPLING
 *
 * The convolutional networks of eriklindernoren/PyTorch-GAN, names and initial values as there:
 * weights of convolutions N(0,0.02), scales of norms N(1,0.02). Their options are "ngf", "ndf",
 * "dropout" and "eps". Differs from there: batch norm's eps is an option (0.8 there but for the
 * first, by a slip).
 * ========================================================================= */

static gan_tensor gani_upsampling_norm(gani_recipe *recipe, const char *name, gan_tensor x) {
    gan_norm_desc norm = gani_dcgan_norm;
    norm.eps = (float)gani_option(recipe, "eps");
    return gan_layer_batch_norm(recipe->graph, name, x, &norm);
}

static gan_tensor gani_upsampling_conv(gan_graph *g, const char *name, gan_tensor x, int channels,
                                       int stride) {
    gan_layer_desc desc = gani_dcgan_conv;
    desc.no_bias = 0;
    return gan_layer_conv(g, name, x, channels, 3, stride, 1, &desc);
}

/* Images from z [batch,k]: 2*ngf maps of a quarter of the side, then twice enlarged by 2, 3x3
 * convolution, batch norm, LeakyReLU 0.2; 3x3 convolution, tanh. */
static gan_tensor gani_upsampling_generator(gani_recipe *recipe, gan_tensor z) {
    const gan_model *model = recipe->model;
    const int ngf = (int)gani_option(recipe, "ngf"), h = model->height / 4, w = model->width / 4;
    gan_graph *g = recipe->graph;
    gani_need_sizes(recipe, 4);
    gan_graph_push(g, "generator");
    gan_tensor x = gan_layer_linear(g, "l1.0", z, 2 * ngf * h * w, NULL);
    x = gan_reshape(g, x, gan_shape4(recipe->batch, 2 * ngf, h, w));
    x = gan_upsample(g, gani_upsampling_norm(recipe, "conv_blocks.0", x), 2);
    x = gani_upsampling_conv(g, "conv_blocks.2", x, 2 * ngf, 1);
    x = gan_leaky_relu(g, gani_upsampling_norm(recipe, "conv_blocks.3", x), 0.2f);
    x = gani_upsampling_conv(g, "conv_blocks.6", gan_upsample(g, x, 2), ngf, 1);
    x = gan_leaky_relu(g, gani_upsampling_norm(recipe, "conv_blocks.7", x), 0.2f);
    x = gan_tanh(g, gani_upsampling_conv(g, "conv_blocks.9", x, model->channels, 1));
    gan_graph_pop(g);
    return x;
}

/* Features [batch,k] that the discriminator judges by. Four times: 3x3 convolution of stride 2,
 * LeakyReLU 0.2, dropout of channels, batch norm (not the first time). */
static gan_tensor gani_upsampling_features(gani_recipe *recipe, gan_tensor images) {
    static const struct {
        const char *conv, *norm;
    } rows[] = {{"conv_blocks.0", NULL},
                {"conv_blocks.3", "conv_blocks.6"},
                {"conv_blocks.7", "conv_blocks.10"},
                {"conv_blocks.11", "conv_blocks.14"}};
    const float dropped = (float)gani_option(recipe, "dropout");
    gan_graph *g = recipe->graph;
    gan_tensor x = images;
    gan_graph_push(g, "discriminator");
    for (int i = 0; i < 4; i++) {
        x = gani_upsampling_conv(g, rows[i].conv, x, (int)gani_option(recipe, "ndf") << i, 2);
        x = gan_layer_dropout(g, gan_leaky_relu(g, x, 0.2f), dropped, 1);
        x = rows[i].norm ? gani_upsampling_norm(recipe, rows[i].norm, x) : x;
    }
    gan_graph_pop(g);
    const gan_shape shape = gan_tensor_shape(g, x);
    return gan_reshape(g, x, gan_shape2(shape.dim[0], shape.dim[1] * shape.dim[2] * shape.dim[3]));
}

/* ============================================================================
 * >>acgan  8.9  AUXILIARY CLASSIFIER GAN (Odena, Olah, Shlens 2016, arXiv:1610.09585)
 *
 * G is told a class, D is not: it has a second head that must find the class out. Both networks
 * learn to make that right, beside the usual game.
 *
 *     loss_d = (BCE(S(x), 1) + CE(C(x), y) + BCE(S(G), 0) + w CE(C(G), y')) / 4
 *     loss_g = (BCE(S(G), 1) + CE(C(G), y')) / 2,    G = G(z, y'), y' drawn for each image
 *
 * with S and C the heads of D, w = aux-fake. Networks and order of eriklindernoren/PyTorch-GAN,
 * implementations/acgan/acgan.py: those of >>upsampling, the noise multiplied with an embedding of
 * the class; G first, then D on the same images. Differs from it: the cross-entropy is one of
 * logits (there a softmax is applied twice). aux=k+1 adds a class "generated", as in an earlier
 * eriklindernoren/Keras-GAN: D is to put G's images into it, G wants them in the class asked for.
 * ========================================================================= */

static const gan_option gani_acgan_options[] = {
    {"z", "numbers in the noise", NULL, 100, 1, 65536, 1},
    {"ngf", "channels of the generator's outermost stage", NULL, 64, 1, 512, 1},
    {"ndf", "channels of the discriminator's outermost stage", NULL, 16, 1, 1024, 1},
    {"classes", "how many classes the images have", NULL, 10, 1, 65536, 1},
    {"aux", "classes that D tells apart: those, or one more for generated images", "k k+1", 0, 0, 1,
     1},
    {"aux-fake", "weight of generated images in D's classification", NULL, 1, 0, 1000, 0},
    {"dropout", "share of D's channels that are dropped", NULL, 0.25, 0, 0.99, 0},
    {"eps", "batch norm: added to the variance", NULL, 1e-5, 1e-12, 10, 0},
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
};

/* Images of the classes label [batch]. */
static gan_tensor gani_acgan_generator(gani_recipe *recipe, gan_tensor z, gan_tensor label) {
    const int classes = (int)gani_option(recipe, "classes");
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "generator");
    gan_tensor embedding =
        gan_layer_embedding(g, "label_emb", label, classes, (int)gani_option(recipe, "z"), NULL);
    gan_graph_pop(g);
    return gani_upsampling_generator(recipe, gan_mul(g, embedding, z));
}

typedef struct gani_acgan_heads {
    gan_tensor source, aux; /* logits [batch,1] and [batch,classes] */
} gani_acgan_heads;

static gani_acgan_heads gani_acgan_discriminator(gani_recipe *recipe, gan_tensor images) {
    const int classes = (int)gani_option(recipe, "classes") + (int)gani_option(recipe, "aux");
    gan_graph *g = recipe->graph;
    gani_acgan_heads heads;
    gan_tensor x = gani_upsampling_features(recipe, images);
    gan_graph_push(g, "discriminator");
    heads.source = gan_layer_linear(g, "adv_layer.0", x, 1, NULL);
    heads.aux = gan_layer_linear(g, "aux_layer.0", x, classes, NULL);
    gan_graph_pop(g);
    return heads;
}

static void gani_acgan_train(gani_recipe *recipe) {
    const int classes = (int)gani_option(recipe, "classes");
    const float weight = (float)gani_option(recipe, "aux-fake");
    const gan_optimiser adam = gani_adam(recipe);
    gan_graph *g = recipe->graph;
    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor label = gani_feed_labels(recipe, "label", classes);
    gan_tensor z = gani_feed_z(recipe, "z");
    gan_tensor asked = gani_feed_classes(recipe, "label_fake", classes);
    gan_tensor rate = gani_feed_lr(recipe);
    gan_tensor told = gani_option(recipe, "aux") == 1.0
                          ? gan_constant(g, gan_shape1(recipe->batch), (float)classes)
                          : asked; /* where D is to put G's images */

    gan_tensor fake = gani_acgan_generator(recipe, z, asked);
    const gani_acgan_heads on_real = gani_acgan_discriminator(recipe, real);
    const gani_acgan_heads on_fake = gani_acgan_discriminator(recipe, gan_detach(g, fake));
    const gani_acgan_heads of_g = gani_acgan_discriminator(recipe, fake);
    gan_tensor source_d =
        gan_add(g, gan_loss_bce(g, on_real.source, 1.0f), gan_loss_bce(g, on_fake.source, 0.0f));
    gan_tensor class_real = gan_loss_cross_entropy(g, on_real.aux, label);
    gan_tensor class_fake = gan_loss_cross_entropy(g, on_fake.aux, told);
    gan_tensor class_d = gan_add(g, class_real, gan_affine(g, class_fake, weight, 0.0f));
    gan_tensor loss_d = gan_affine(g, gan_add(g, source_d, class_d), 0.25f, 0.0f);
    gan_tensor loss_g =
        gan_add(g, gan_loss_bce(g, of_g.source, 1.0f), gan_loss_cross_entropy(g, of_g.aux, asked));
    loss_g = gan_affine(g, loss_g, 0.5f, 0.0f);

    gan_minimise(g, loss_g, "generator.", rate, &adam);
    gan_minimise(g, loss_d, "discriminator.", rate, &adam);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_report(recipe, "loss_class", class_real);
    gani_report_spread(recipe, fake, real);
    gani_end_phase(recipe, "train", 1);
}

static void gani_acgan_sample(gani_recipe *recipe) {
    gan_tensor z = gani_feed_z(recipe, "z");
    gan_tensor label = gani_feed_cycle(recipe, "label", (int)gani_option(recipe, "classes"));
    gani_images(recipe, gani_acgan_generator(recipe, z, label));
}

static const gani_system gani_acgan = {
    {"acgan", "Auxiliary Classifier GAN: draws the class that it is asked for",
     "Odena, Olah, Shlens 2016, arXiv:1610.09585", 32, 32, 1, 64, gani_acgan_options,
     sizeof gani_acgan_options / sizeof gani_acgan_options[0], 1, 0, 0},
    gani_acgan_train,
    gani_acgan_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>image-networks  8.10  NETWORKS FROM IMAGE TO IMAGE AND FROM IMAGE TO SCORES
 *
 * The residual generator of Johnson et al. 2016 (arXiv:1603.08155) and the patch discriminator of
 * Isola et al. 2017 (arXiv:1611.07004), as junyanz/pytorch-CycleGAN-and-pix2pix and
 * NVIDIA/pix2pixHD have them; layers are named as in their state_dicts. A generator halves the
 * image a few times by strided convolutions, changes it by residual blocks x + f(x) and doubles it
 * again by transposed ones. A discriminator gives a score to each patch, not to the whole image.
 *
 * PyTorch numbers the layers of a chain (nn.Sequential), layers without parameters included. The
 * functions below count in the same way, so that a network reads as a list of layers and the names
 * come out by themselves.
 *
 * Initial values: weights N(0,0.02), batch norm's scale N(1,0.02). The two repositories differ in
 * biases. The first has none beside batch norm, and those that there are begin at 0; the second
 * has one in every convolution, beginning as PyTorch's do.
 *
 * Holds:  chains of numbered layers; the two networks.
 * Uses:   >>layers  >>dcgan (initial values)        Knows nothing of: recipes.
 * ========================================================================= */

typedef struct gani_chain {
    gan_graph *graph;
    gan_norm_kind norm;            /* GAN_NORM_INSTANCE or GAN_NORM_BATCH */
    const gan_norm_desc *instance; /* instance norm; NULL: without parameters */
    int all_biases;                /* 1: as pix2pixHD, see above */
    int next;                      /* number of the next layer */
    gan_tensor x;                  /* what the last layer gave */
} gani_chain;

static gani_chain gani_chain_begin(gan_graph *g, gan_norm_kind norm, int all_biases, gan_tensor x) {
    gani_chain chain;
    chain.graph = g;
    chain.norm = norm;
    chain.instance = NULL;
    chain.all_biases = all_biases;
    chain.next = 0;
    chain.x = x;
    return chain;
}

enum { GANI_CHAIN_NAME = 12 }; /* bytes of any number */

/* Writes the next layer's name, and returns it. */
static const char *gani_chain_count(gani_chain *chain, char name[GANI_CHAIN_NAME]) {
    snprintf(name, GANI_CHAIN_NAME, "%d", chain->next++);
    return name;
}

/* normed: the convolution stands in front of a norm. */
static gan_layer_desc gani_chain_desc(const gani_chain *chain, int normed) {
    static const gan_init zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    gan_layer_desc desc = gani_dcgan_conv;
    desc.no_bias = !chain->all_biases && normed && chain->norm == GAN_NORM_BATCH;
    desc.bias_init = chain->all_biases ? NULL : &zero;
    return desc;
}

static void gani_chain_conv(gani_chain *chain, int channels, int kernel, int stride, int pad,
                            int normed) {
    const gan_layer_desc desc = gani_chain_desc(chain, normed);
    char name[GANI_CHAIN_NAME];
    chain->x = gan_layer_conv(chain->graph, gani_chain_count(chain, name), chain->x, channels,
                              kernel, stride, pad, &desc);
}

/* Two layers: mirrors the border, then a convolution that keeps the size. */
static void gani_chain_mirror_conv(gani_chain *chain, int channels, int kernel, int normed) {
    gan_layer_desc desc = gani_chain_desc(chain, normed);
    char name[GANI_CHAIN_NAME];
    desc.reflect = 1;
    chain->next++;
    chain->x = gan_layer_conv(chain->graph, gani_chain_count(chain, name), chain->x, channels,
                              kernel, 1, kernel / 2, &desc);
}

/* Transposed convolution that doubles the size: 4/2/1, or 3/2/1 and 5/2/2 and one row more. */
static void gani_chain_up(gani_chain *chain, int channels, int kernel, int normed) {
    gan_layer_desc desc = gani_chain_desc(chain, normed);
    char name[GANI_CHAIN_NAME];
    desc.out_pad = kernel % 2;
    chain->x = gan_layer_conv_transpose(chain->graph, gani_chain_count(chain, name), chain->x,
                                        channels, kernel, 2, (kernel - 1) / 2, &desc);
}

static void gani_chain_norm(gani_chain *chain) {
    char name[GANI_CHAIN_NAME];
    gani_chain_count(chain, name);
    chain->x = chain->norm == GAN_NORM_BATCH
                   ? gan_layer_batch_norm(chain->graph, name, chain->x, &gani_dcgan_norm)
                   : gan_layer_instance_norm(chain->graph, name, chain->x, chain->instance);
}

static void gani_chain_relu(gani_chain *chain, float slope) {
    chain->x = gan_leaky_relu(chain->graph, chain->x, slope);
    chain->next++;
}

/* --- the residual generator ------------------------------------------------ */

typedef struct gani_resnet_desc {
    int channels;       /* of the image that comes out */
    int ngf;            /* channels at full size; twice as many after each halving */
    int blocks, downs;  /* residual blocks, 0 or more; halvings */
    gan_norm_kind norm; /* GAN_NORM_INSTANCE or GAN_NORM_BATCH */
    int dropout;        /* 1: half of each block's inner maps are dropped; shifts names by one */
    int hd;             /* 1: as pix2pixHD: biases everywhere */
    int no_image;       /* 1: ends in front of the last convolution, with ngf channels */
} gani_resnet_desc;

/* One layer: x + f(x), f in the scope "NUMBER.conv_block": 3x3 convolution, norm, ReLU, perhaps
 * dropout, 3x3 convolution, norm. */
static void gani_chain_block(gani_chain *chain, int dropout) {
    gan_graph *g = chain->graph;
    const int channels = gan_tensor_shape(g, chain->x).dim[1];
    gani_chain f = gani_chain_begin(g, chain->norm, chain->all_biases, chain->x);
    char name[GANI_CHAIN_NAME];
    gan_graph_push(g, gani_chain_count(chain, name));
    gan_graph_push(g, "conv_block");
    gani_chain_mirror_conv(&f, channels, 3, 1);
    gani_chain_norm(&f);
    gani_chain_relu(&f, 0.0f);
    if (dropout) {
        f.x = gan_layer_dropout(g, f.x, 0.5f, 0);
        f.next++;
    }
    gani_chain_mirror_conv(&f, channels, 3, 1);
    gani_chain_norm(&f);
    gan_graph_pop(g);
    gan_graph_pop(g);
    chain->x = gan_add(g, chain->x, f.x);
}

/* Two to four layers behind one another: (mirrored) convolution, norm, ReLU. */
static void gani_chain_in(gani_chain *chain, int channels) {
    gani_chain_mirror_conv(chain, channels, 7, 1);
    gani_chain_norm(chain);
    gani_chain_relu(chain, 0.0f);
}

static void gani_chain_halve(gani_chain *chain, int channels) {
    gani_chain_conv(chain, channels, 3, 2, 1, 1);
    gani_chain_norm(chain);
    gani_chain_relu(chain, 0.0f);
}

static void gani_chain_double(gani_chain *chain, int channels) {
    gani_chain_up(chain, channels, 3, 1);
    gani_chain_norm(chain);
    gani_chain_relu(chain, 0.0f);
}

static void gani_chain_out(gani_chain *chain, int channels) {
    gani_chain_mirror_conv(chain, channels, 7, 0);
    chain->x = gan_tanh(chain->graph, chain->x);
    chain->next++;
}

/* Images of desc->channels in [-1,1] from x [n,c,h,w], sides multiples of 2^downs. Parameters
 * "model.1", "model.4", ... "model.10.conv_block.1" ... */
static gan_tensor gani_resnet_generator(gan_graph *g, const gani_resnet_desc *desc, gan_tensor x) {
    gani_chain chain = gani_chain_begin(g, desc->norm, desc->hd, x);
    gan_graph_push(g, "model");
    gani_chain_in(&chain, desc->ngf);
    for (int i = 1; i <= desc->downs; i++) {
        gani_chain_halve(&chain, desc->ngf << i);
    }
    for (int i = 0; i < desc->blocks; i++) {
        gani_chain_block(&chain, desc->dropout);
    }
    for (int i = desc->downs - 1; i >= 0; i--) {
        gani_chain_double(&chain, desc->ngf << i);
    }
    if (!desc->no_image) {
        gani_chain_out(&chain, desc->channels);
    }
    gan_graph_pop(g);
    return chain.x;
}

/* --- the patch discriminator ----------------------------------------------- */

typedef struct gani_patch_desc {
    int ndf;            /* channels after the first convolution */
    int layers;         /* halvings: 3 judges patches of 70x70; 0: single pixels */
    gan_norm_kind norm; /* GAN_NORM_INSTANCE or GAN_NORM_BATCH */
    int hd;             /* 1: as pix2pixHD: padding 2, at most 512 channels, biases everywhere */
    int scale;          /* hd: number in the names, "scale0_layer1.0" */
} gani_patch_desc;

/* 1x1 convolutions: "net.0", "net.2", "net.3", "net.5". The last one has its bias as if it stood in
 * front of a norm. */
static gan_tensor gani_pixel_discriminator(gan_graph *g, const gani_patch_desc *desc,
                                           gan_tensor x) {
    gani_chain chain = gani_chain_begin(g, desc->norm, 0, x);
    gan_graph_push(g, "net");
    gani_chain_conv(&chain, desc->ndf, 1, 1, 0, 0);
    gani_chain_relu(&chain, 0.2f);
    gani_chain_conv(&chain, 2 * desc->ndf, 1, 1, 0, 1);
    gani_chain_norm(&chain);
    gani_chain_relu(&chain, 0.2f);
    gani_chain_conv(&chain, 1, 1, 1, 0, 1);
    gan_graph_pop(g);
    return chain.x;
}

/* Channels after stage i: ndf, doubled each time up to 8 ndf, or 512 in pix2pixHD. */
static int gani_patch_channels(const gani_patch_desc *desc, int i) {
    int channels = desc->ndf << (i < 3 || desc->hd ? i : 3);
    return desc->hd && channels > 512 ? 512 : channels;
}

/* Opens the scope of stage i: all of a discriminator is one chain "model", but in pix2pixHD each
 * stage is a chain of its own. */
static void gani_patch_push(gani_chain *chain, const gani_patch_desc *desc, int i) {
    char name[48];
    if (desc->hd) {
        snprintf(name, sizeof name, "scale%d_layer%d", desc->scale, i);
        chain->next = 0;
    }
    gan_graph_push(chain->graph, desc->hd ? name : "model");
}

/* Scores [n,1,oh,ow], no sigmoid: `layers` convolutions of stride 2, two of stride 1, all 4x4;
 * LeakyReLU 0.2, norms in between. Parameters "model.0", "model.2" ... features (may be NULL)
 * [layers+1]: what each convolution but the last has led to; not written if layers is 0. */
static gan_tensor gani_patch_discriminator(gan_graph *g, const gani_patch_desc *desc, gan_tensor x,
                                           gan_tensor *features) {
    const int pad = desc->hd ? 2 : 1, last = desc->layers + 1;
    if (desc->layers == 0) {
        return gani_pixel_discriminator(g, desc, x);
    }
    gani_chain chain = gani_chain_begin(g, desc->norm, desc->hd, x);
    for (int i = 0; i <= last; i++) {
        const int inner = i > 0 && i < last, channels = i < last ? gani_patch_channels(desc, i) : 1;
        gani_patch_push(&chain, desc, i);
        gani_chain_conv(&chain, channels, 4, i < desc->layers ? 2 : 1, pad, inner);
        if (inner) {
            gani_chain_norm(&chain);
        }
        if (i < last) {
            gani_chain_relu(&chain, 0.2f);
        }
        gan_graph_pop(g);
        if (features && i < last) {
            features[i] = chain.x;
        }
    }
    return chain.x;
}

/* ============================================================================
 * >>pix2pixhd-networks  8.11  FROM COARSE TO FINE: NETWORKS OF PIX2PIXHD
 *
 * Global generator, local enhancers, discriminators at several sizes, the encoder of instances and
 * the part of VGG-19 that compares images; names as in NVIDIA/pix2pixHD (discriminators: those
 * with feature matching) and in torchvision. Networks are built from the chains of
 * >>image-networks with biases everywhere.
 *
 * With k enhancers the global network works at 1/2^k of the size and gives maps, not an image.
 * Enhancer i, from coarse to fine, adds to them what it sees at twice their size:
 *
 *     y_0 = G(x_k),  y_i = B_i(A_i(x_(k-i)) + y_(i-1)),  x_0 = x, x_(j+1) = x_j at half the size
 *
 * where A_i halves, B_i doubles. So a global network of ngf channels becomes the inner part of one
 * with one enhancer and ngf/2.
 *
 * Holds:  the networks; what is summed over sizes and maps; edges and averages by instance.
 * Uses:   >>image-networks  >>layers        Knows nothing of: recipes.
 * ========================================================================= */

enum {
    GANI_HD_SCALES = 4,  /* most sizes that are judged; one more than there are enhancers */
    GANI_HD_STAGES = 6,  /* most stages of a discriminator that are matched: layers + 1 */
    GANI_HD_IDS = 65536, /* instances have numbers below this: samples of 16 bits */
    GANI_HD_BATCH = 256, /* images whose instances a float can number: 2^24 */
    GANI_VGG_TAPS = 5
};

/* Half the size; windows at the border count only what is inside. */
static gan_tensor gani_hd_shrink(gan_graph *g, gan_tensor x) {
    return gan_avg_pool(g, x, 3, 2, 1, 0);
}

typedef struct gani_hd_desc {
    gani_resnet_desc whole; /* ngf: channels at full size */
    int enhancers;          /* 0: the global generator alone */
    int blocks_local;       /* residual blocks of each enhancer */
} gani_hd_desc;

/* Enhancer number i of desc->enhancers, "modelI_1" and "modelI_2"; x is at twice the size of y. */
static gan_tensor gani_hd_enhance(gan_graph *g, const gani_hd_desc *desc, int i, gan_tensor x,
                                  gan_tensor y) {
    const gani_resnet_desc *whole = &desc->whole;
    const int channels = whole->ngf << (desc->enhancers - i);
    char name[24];
    gani_chain in = gani_chain_begin(g, whole->norm, 1, x);
    snprintf(name, sizeof name, "model%d_1", i);
    gan_graph_push(g, name);
    gani_chain_in(&in, channels);
    gani_chain_halve(&in, 2 * channels);
    gan_graph_pop(g);
    gani_chain out = gani_chain_begin(g, whole->norm, 1, gan_add(g, in.x, y));
    snprintf(name, sizeof name, "model%d_2", i);
    gan_graph_push(g, name);
    for (int k = 0; k < desc->blocks_local; k++) {
        gani_chain_block(&out, 0);
    }
    gani_chain_double(&out, channels);
    if (i == desc->enhancers) {
        gani_chain_out(&out, whole->channels);
    }
    gan_graph_pop(g);
    return out.x;
}

/* Images [n,channels,h,w] from x [n,c,h,w]; sides are multiples of 2^(downs + enhancers). */
static gan_tensor gani_hd_generator(gan_graph *g, const gani_hd_desc *desc, gan_tensor x) {
    gani_resnet_desc whole = desc->whole;
    gan_tensor at[GANI_HD_SCALES]; /* x at all sizes */
    GAN_ASSERT(desc->enhancers < GANI_HD_SCALES);
    at[0] = x;
    for (int i = 1; i <= desc->enhancers; i++) {
        at[i] = gani_hd_shrink(g, at[i - 1]);
    }
    whole.hd = 1;
    whole.no_image = desc->enhancers > 0;
    whole.ngf <<= desc->enhancers;
    gan_tensor y = gani_resnet_generator(g, &whole, at[desc->enhancers]);
    for (int i = 1; i <= desc->enhancers; i++) {
        y = gani_hd_enhance(g, desc, i, at[desc->enhancers - i], y);
    }
    return y;
}

/* Scores and features at each size, full size first. */
typedef struct gani_hd_scores {
    int scales, stages; /* stages that have features */
    gan_tensor score[GANI_HD_SCALES];
    gan_tensor feature[GANI_HD_SCALES][GANI_HD_STAGES];
} gani_hd_scores;

/* A discriminator of its own for each size. The coarsest is number 0, so that a finer one can be
 * added later. */
static gani_hd_scores gani_hd_discriminator(gan_graph *g, const gani_patch_desc *desc, int scales,
                                            gan_tensor x) {
    gani_patch_desc patch = *desc;
    gani_hd_scores scores;
    memset(&scores, 0, sizeof scores);
    scores.scales = scales;
    scores.stages = desc->layers + 1;
    GAN_ASSERT(scales <= GANI_HD_SCALES && scores.stages <= GANI_HD_STAGES);
    patch.hd = 1;
    for (int i = 0; i < scales; i++) {
        patch.scale = scales - 1 - i;
        scores.score[i] = gani_patch_discriminator(g, &patch, x, scores.feature[i]);
        x = i < scales - 1 ? gani_hd_shrink(g, x) : x;
    }
    return scores;
}

typedef gan_tensor gani_score_loss(gan_graph *graph, gan_tensor score, float target);

/* Sum of a loss over the sizes. */
static gan_tensor gani_hd_loss(gan_graph *g, const gani_hd_scores *scores, gani_score_loss *loss,
                               float target) {
    gan_tensor sum = loss(g, scores->score[0], target);
    for (int s = 1; s < scores->scales; s++) {
        sum = gan_add(g, sum, loss(g, scores->score[s], target));
    }
    return sum;
}

/* Feature matching: mean over the sizes of 4/stages times the sum of the mean distances of x from y
 * in each stage. The gradient goes to x alone. */
static gan_tensor gani_hd_match(gan_graph *g, const gani_hd_scores *x, const gani_hd_scores *y) {
    gan_tensor sum = gan_constant(g, gan_shape0(), 0.0f);
    for (int s = 0; s < x->scales; s++) {
        for (int i = 0; i < x->stages; i++) {
            gan_tensor wanted = gan_detach(g, y->feature[s][i]);
            sum = gan_add(g, sum, gan_loss_l1(g, x->feature[s][i], wanted));
        }
    }
    return gan_affine(g, sum, 4.0f / (float)(x->stages * x->scales), 0.0f);
}

/* 1 where the instance differs from the one before or behind along an axis, else 0. */
static gan_tensor gani_hd_edges_along(gan_graph *g, gan_tensor instance, int axis) {
    const int last = gan_tensor_shape(g, instance).dim[axis] - 1;
    gan_tensor step =
        gan_sub(g, gan_slice(g, instance, axis, 1, last), gan_slice(g, instance, axis, 0, last));
    step = gan_abs(g, gan_sign(g, step));
    return gan_maximum(g, gan_pad(g, step, axis, 1, 0), gan_pad(g, step, axis, 0, 1));
}

/* [n,1,h,w]: 1 on both sides of every border between instances. */
static gan_tensor gani_hd_edges(gan_graph *g, gan_tensor instance) {
    return gan_maximum(g, gani_hd_edges_along(g, instance, 2), gani_hd_edges_along(g, instance, 3));
}

/* For every pixel the row [n*h*w] of a table in which each image has GANI_HD_IDS rows, one for each
 * instance. */
static gan_tensor gani_hd_rows(gan_graph *g, gan_tensor instance) {
    const gan_shape shape = gan_tensor_shape(g, instance);
    const int n = shape.dim[0];
    gan_tensor first = gan_affine(g, gan_iota(g, n), (float)GANI_HD_IDS, 0.0f);
    gan_tensor row = gan_add(g, instance, gan_reshape(g, first, gan_shape4(n, 1, 1, 1)));
    return gan_reshape(g, row, gan_shape1(n * shape.dim[2] * shape.dim[3]));
}

/* x [n,c,h,w] with each instance's pixels replaced by their mean; instance [n,1,h,w]. */
static gan_tensor gani_hd_instance_mean(gan_graph *g, gan_tensor x, gan_tensor instance) {
    static const int to_rows[] = {0, 2, 3, 1}, from_rows[] = {0, 3, 1, 2};
    const gan_shape shape = gan_tensor_shape(g, x);
    const int n = shape.dim[0], c = shape.dim[1], h = shape.dim[2], w = shape.dim[3];
    gan_tensor row = gani_hd_rows(g, instance);
    gan_tensor pixels = gan_reshape(g, gan_permute(g, x, to_rows), gan_shape2(n * h * w, c));
    gan_tensor one = gan_constant(g, gan_shape2(n * h * w, 1), 1.0f);
    gan_tensor sum = gan_scatter_rows(g, pixels, row, n * GANI_HD_IDS);
    gan_tensor count = gan_scatter_rows(g, one, row, n * GANI_HD_IDS);
    gan_tensor mean = gan_div(g, sum, gan_maximum(g, count, gan_constant(g, gan_shape0(), 1.0f)));
    mean = gan_reshape(g, gan_gather_rows(g, mean, row), gan_shape4(n, h, w, c));
    return gan_permute(g, mean, from_rows);
}

/* Taps behind relu1_1, relu2_1 ... relu5_1 of VGG-19 (Simonyan and Zisserman 2014,
 * arXiv:1409.1556), "features.0.weight" ...; x [n,3,h,w]. */
static void gani_vgg19(gan_graph *g, gan_tensor x, gan_tensor taps[GANI_VGG_TAPS]) {
    static const int convs[GANI_VGG_TAPS] = {2, 2, 4, 4, 1};
    gani_chain chain = gani_chain_begin(g, GAN_NORM_INSTANCE, 1, x);
    gan_graph_push(g, "features");
    for (int i = 0; i < GANI_VGG_TAPS; i++) {
        for (int k = 0; k < convs[i]; k++) {
            gani_chain_conv(&chain, i < 3 ? 64 << i : 512, 3, 1, 1, 0);
            gani_chain_relu(&chain, 0.0f);
            if (k == 0) {
                taps[i] = chain.x;
            }
        }
        chain.x = i < GANI_VGG_TAPS - 1 ? gan_max_pool(g, chain.x, 2, 2, 0) : chain.x;
        chain.next++;
    }
    gan_graph_pop(g);
}

/* Distance of x [n,3,h,w] from y in these maps, the deeper the more; the gradient goes to x. */
static gan_tensor gani_vgg19_distance(gan_graph *g, gan_tensor x, gan_tensor y) {
    static const float weights[GANI_VGG_TAPS] = {1.0f / 32, 1.0f / 16, 1.0f / 8, 1.0f / 4, 1.0f};
    gan_tensor of_x[GANI_VGG_TAPS], of_y[GANI_VGG_TAPS];
    gan_tensor sum = gan_constant(g, gan_shape0(), 0.0f);
    gani_vgg19(g, x, of_x);
    gani_vgg19(g, y, of_y);
    for (int i = 0; i < GANI_VGG_TAPS; i++) {
        gan_tensor distance = gan_loss_l1(g, of_x[i], gan_detach(g, of_y[i]));
        sum = gan_add(g, sum, gan_affine(g, distance, weights[i], 0.0f));
    }
    return sum;
}

/* ============================================================================
 * >>pix2pixhd  8.12  PIX2PIXHD (Wang et al. 2018, arXiv:1711.11585)
 *
 * Photos from maps of classes. G sees a map as one channel for each class, 1 where the class is.
 * With instances=on a record's third image numbers the instances, and a channel of the borders
 * between them is added; with features=k also k channels of style, those that an encoder E reads
 * off the real photo, averaged over each instance. D_s judges map and photo together, at full size
 * and smaller ones; f_s,i are its inner maps.
 *
 *     loss_d = sum over s of (L(D_s(x), 1) + L(D_s(G), 0)) / 2
 *     loss_g = sum over s of L(D_s(G), 1)
 *              + match * mean over s of (4/(layers + 1)) sum over i of mean |f_s,i(G) - f_s,i(x)|
 *              + vgg * sum over j of w_j mean |V_j(G) - V_j(x)|
 *
 * Both are of one forward pass, G is updated first. L is the squared distance, V_j are inner maps
 * of VGG-19 with weights that gan_model_desc.vgg names; w = 1/32, 1/16, 1/8, 1/4, 1. Networks,
 * losses, order as in NVIDIA/pix2pixHD. Differs from it: VGG is off unless asked for.
 *
 * From coarse to fine: train a global generator (enhancers=0 ngf=64) at half the size; then one
 * with enhancers=1 ngf=32 stage=enhancers, started from it by gan_model_start, in which the inner
 * part rests; then all of it, stage=all, started from that.
 * ========================================================================= */

static const gan_option gani_pix2pixhd_options[] = {
    {"classes", "classes of the map; 0: domain A is an image", NULL, 35, 0, 1024, 1},
    {"instances", "the third image of a record numbers the instances", "off on", 0, 0, 1, 1},
    {"features", "style channels of each instance; instances=on", NULL, 0, 0, 64, 1},
    {"clusters", "styles of each class to draw from", NULL, 10, 1, 1024, 1},
    {"ngf", "G: channels at full size", NULL, 64, 1, 512, 1},
    {"nef", "E: channels at full size", NULL, 16, 1, 512, 1},
    {"ndf", "D: channels after the first convolution", NULL, 64, 1, 512, 1},
    {"downs", "G: halvings of the global network", NULL, 4, 1, 6, 1},
    {"downs-e", "E: halvings", NULL, 4, 1, 6, 1},
    {"blocks", "G: residual blocks of the global network", NULL, 9, 0, 64, 1},
    {"enhancers", "G: doublings of its size by enhancers", NULL, 0, 0, GANI_HD_SCALES - 1, 1},
    {"blocks-local", "G: residual blocks of an enhancer", NULL, 3, 0, 64, 1},
    {"stage", "which part of G is trained", "all enhancers", 0, 0, 1, 1},
    {"layers", "D: halvings", NULL, 3, 1, GANI_HD_STAGES - 1, 1},
    {"scales", "D: sizes that are judged", NULL, 2, 1, GANI_HD_SCALES, 1},
    {"norm", "norm of all networks", "instance batch", 0, 0, 1, 1},
    {"loss", "L: squared distance, or cross-entropy", "least-squares bce", 0, 0, 1, 1},
    {"match", "weight of feature matching", NULL, 10, 0, 1e6, 0},
    {"vgg", "weight of the distance in VGG-19", NULL, 0, 0, 1e6, 0},
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    GANI_SCHEDULE_OPTIONS(0, 0),
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
};

static gan_norm_kind gani_pix2pixhd_norm(const gani_recipe *recipe) {
    return gani_option(recipe, "norm") == 1.0 ? GAN_NORM_BATCH : GAN_NORM_INSTANCE;
}

/* Map and borders as channels. label: classes, or an image if there are none; instance may be
 * none. */
static gan_tensor gani_pix2pixhd_seen(gani_recipe *recipe, gan_tensor label, gan_tensor instance) {
    static const int channels_first[] = {0, 3, 1, 2};
    const int classes = (int)gani_option(recipe, "classes");
    gan_graph *g = recipe->graph;
    gan_tensor parts[2];
    parts[0] = label;
    if (classes > 0) {
        gan_tensor flat =
            gan_reshape(g, label, gan_shape3(recipe->batch, recipe->height, recipe->width));
        parts[0] = gan_permute(g, gan_one_hot(g, flat, classes), channels_first);
    }
    if (!instance.id) {
        return parts[0];
    }
    parts[1] = gani_hd_edges(g, instance);
    return gan_concat(g, parts, 2, 1);
}

static gan_tensor gani_pix2pixhd_generator(gani_recipe *recipe, gan_tensor seen,
                                           gan_tensor features) {
    const gan_tensor both[] = {seen, features};
    gan_graph *g = recipe->graph;
    gani_hd_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.whole.channels = recipe->model->channels_b;
    desc.whole.ngf = (int)gani_option(recipe, "ngf");
    desc.whole.blocks = (int)gani_option(recipe, "blocks");
    desc.whole.downs = (int)gani_option(recipe, "downs");
    desc.whole.norm = gani_pix2pixhd_norm(recipe);
    desc.enhancers = (int)gani_option(recipe, "enhancers");
    desc.blocks_local = (int)gani_option(recipe, "blocks-local");
    gan_graph_push(g, "generator");
    gan_tensor y = gani_hd_generator(g, &desc, features.id ? gan_concat(g, both, 2, 1) : seen);
    gan_graph_pop(g);
    return y;
}

/* E: features of each instance in all of its pixels. */
static gan_tensor gani_pix2pixhd_encoder(gani_recipe *recipe, gan_tensor real,
                                         gan_tensor instance) {
    gan_graph *g = recipe->graph;
    gani_resnet_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels = (int)gani_option(recipe, "features");
    desc.ngf = (int)gani_option(recipe, "nef");
    desc.downs = (int)gani_option(recipe, "downs-e");
    desc.norm = gani_pix2pixhd_norm(recipe);
    desc.hd = 1;
    gan_graph_push(g, "encoder");
    gan_tensor y = gani_resnet_generator(g, &desc, real);
    gan_graph_pop(g);
    return gani_hd_instance_mean(g, y, instance);
}

static gani_hd_scores gani_pix2pixhd_discriminator(gani_recipe *recipe, gan_tensor seen,
                                                   gan_tensor images) {
    const gan_tensor both[] = {seen, images};
    gan_graph *g = recipe->graph;
    gani_patch_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ndf = (int)gani_option(recipe, "ndf");
    desc.layers = (int)gani_option(recipe, "layers");
    desc.norm = gani_pix2pixhd_norm(recipe);
    gan_graph_push(g, "discriminator");
    const gani_hd_scores scores = gani_hd_discriminator(
        g, &desc, (int)gani_option(recipe, "scales"), gan_concat(g, both, 2, 1));
    gan_graph_pop(g);
    return scores;
}

static gani_score_loss *gani_pix2pixhd_goal(const gani_recipe *recipe) {
    return gani_option(recipe, "loss") == 1.0 ? gan_loss_bce : gan_loss_least_squares;
}

/* Weights from the file that the model's descriptor names. */
static gan_status gani_pix2pixhd_load_vgg(const gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    gan_checkpoint *file = NULL;
    gan_load_desc load;
    memset(&load, 0, sizeof load);
    load.weights_only = load.ignore_unknown = 1;
    load.file_prefix = "features.";
    load.store_prefix = "vgg.features.";
    if (!model->vgg) {
        return gani_error(model->ctx, GAN_ERR_ARGUMENT,
                          "%s: option vgg needs gan_model_desc.vgg, a file with the weights of "
                          "VGG-19 (features.0.weight, as torchvision names them)",
                          model->system->info.name);
    }
    gan_status status = gan_checkpoint_open(&file, model->ctx, model->vgg);
    status = status ? status : gan_params_load(model->params, file, &load);
    gan_checkpoint_close(file);
    return status;
}

/* Distance of two images in VGG-19, times its weight. */
static gan_tensor gani_pix2pixhd_vgg(gani_recipe *recipe, gan_tensor fake, gan_tensor real) {
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "vgg");
    gan_tensor distance = gani_vgg19_distance(g, fake, real);
    gan_graph_pop(g);
    if (gan_graph_status(g) == GAN_OK) {
        const gan_status status = gani_pix2pixhd_load_vgg(recipe);
        if (status != GAN_OK) {
            gani_stick(g, status);
        }
    }
    return gan_affine(g, distance, (float)gani_option(recipe, "vgg"), 0.0f);
}

/* The styles that translating draws from [classes * clusters,features]; see >>pix2pixhd-styles. */
static gan_tensor gani_pix2pixhd_clusters(gani_recipe *recipe) {
    const gan_init zero = {GAN_INIT_CONSTANT, 0.0f, 0.0f};
    const int classes = (int)gani_option(recipe, "classes");
    const int rows = (classes > 0 ? classes : 1) * (int)gani_option(recipe, "clusters");
    return gan_param(recipe->graph, "clusters",
                     gan_shape2(rows, (int)gani_option(recipe, "features")), GAN_PARAM_BUFFER,
                     zero);
}

/* What the sides of images must be multiples of. */
static int gani_pix2pixhd_multiple(const gani_recipe *recipe) {
    return 1 << ((int)gani_option(recipe, "downs") + (int)gani_option(recipe, "enhancers"));
}

/* Sizes, and options that do not go together. */
static void gani_pix2pixhd_check(gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    const int instances = gani_option(recipe, "instances") == 1.0;
    gani_need_sizes(recipe, gani_pix2pixhd_multiple(recipe));
    if (gani_option(recipe, "features") > 0.0 && !instances) {
        gani_stick(recipe->graph,
                   gani_error(model->ctx, GAN_ERR_ARGUMENT,
                              "pix2pixhd: features=%g are those of instances: needs instances=on",
                              gani_option(recipe, "features")));
    }
    if (instances && recipe->batch > GANI_HD_BATCH) {
        gani_stick(recipe->graph, gani_error(model->ctx, GAN_ERR_LIMIT,
                                             "pix2pixhd: at most %d images with instances in a "
                                             "step, found %d",
                                             GANI_HD_BATCH, recipe->batch));
    }
    if (gani_option(recipe, "stage") == 1.0 && gani_option(recipe, "enhancers") == 0.0) {
        gani_stick(recipe->graph,
                   gani_error(model->ctx, GAN_ERR_ARGUMENT,
                              "pix2pixhd: stage=enhancers with enhancers=0: nothing to train"));
    }
}

/* Appends the loss of G, and reports it and what it is made of. */
static gan_tensor gani_pix2pixhd_loss_g(gani_recipe *recipe, const gani_hd_scores *on_fake,
                                        const gani_hd_scores *on_real, gan_tensor fake,
                                        gan_tensor real) {
    gan_graph *g = recipe->graph;
    const double weight = gani_option(recipe, "match");
    gan_tensor match = {0}, vgg = {0};
    gan_tensor loss = gani_hd_loss(g, on_fake, gani_pix2pixhd_goal(recipe), 1.0f);
    if (weight > 0.0) {
        match = gan_affine(g, gani_hd_match(g, on_fake, on_real), (float)weight, 0.0f);
        loss = gan_add(g, loss, match);
    }
    if (gani_option(recipe, "vgg") > 0.0) {
        vgg = gani_pix2pixhd_vgg(recipe, fake, real);
        loss = gan_add(g, loss, vgg);
    }
    gani_report(recipe, "loss_g", loss);
    if (match.id) {
        gani_report(recipe, "loss_match", match);
    }
    if (vgg.id) {
        gani_report(recipe, "loss_vgg", vgg);
    }
    return loss;
}

static void gani_pix2pixhd_train(gani_recipe *recipe) {
    const int instances = gani_option(recipe, "instances") == 1.0;
    const int classes = (int)gani_option(recipe, "classes");
    const char *trained = gani_option(recipe, "stage") == 1.0
                              ? "generator.model1 generator.model2 generator.model3 encoder."
                              : "generator. encoder.";
    const gan_optimiser adam = gani_adam(recipe);
    gan_graph *g = recipe->graph;
    gan_tensor instance = {0}, features = {0};
    gani_pix2pixhd_check(recipe);
    gan_tensor label = classes ? gani_feed_label_map(recipe, "label", 0, classes)
                               : gani_feed_part(recipe, "label", 0, recipe->model->channels);
    gan_tensor real = gani_feed_part(recipe, "real", 1, recipe->model->channels_b);
    instance = instances ? gani_feed_part(recipe, "instance", 2, 1) : instance;
    gan_tensor rate = gani_feed_lr(recipe);

    gan_tensor seen = gani_pix2pixhd_seen(recipe, label, instance);
    if (gani_option(recipe, "features") > 0.0) {
        features = gani_pix2pixhd_encoder(recipe, real, instance);
        gani_pix2pixhd_clusters(recipe);
    }
    gan_tensor fake = gani_pix2pixhd_generator(recipe, seen, features);
    const gani_hd_scores d_fake = gani_pix2pixhd_discriminator(recipe, seen, gan_detach(g, fake));
    const gani_hd_scores d_real = gani_pix2pixhd_discriminator(recipe, seen, real);
    const gani_hd_scores of_g = gani_pix2pixhd_discriminator(recipe, seen, fake);
    gan_tensor loss_d = gan_add(g, gani_hd_loss(g, &d_real, gani_pix2pixhd_goal(recipe), 1.0f),
                                gani_hd_loss(g, &d_fake, gani_pix2pixhd_goal(recipe), 0.0f));
    loss_d = gan_affine(g, loss_d, 0.5f, 0.0f);
    gani_report(recipe, "loss_d", loss_d);
    gan_tensor loss_g = gani_pix2pixhd_loss_g(recipe, &of_g, &d_real, fake, real);
    gani_report(recipe, "l1", gan_loss_l1(g, fake, real));
    gan_minimise(g, loss_g, trained, rate, &adam);
    gan_minimise(g, loss_d, "discriminator.", rate, &adam);
    gani_end_phase(recipe, "train", 1);
}

/* Style channels: each instance takes one of the clusters of its class. */
static gan_tensor gani_pix2pixhd_drawn(gani_recipe *recipe, gan_tensor label, gan_tensor instance) {
    static const int channels_first[] = {0, 3, 1, 2};
    const int n = recipe->batch, h = recipe->height, w = recipe->width;
    const int clusters = (int)gani_option(recipe, "clusters");
    gan_graph *g = recipe->graph;
    gan_tensor pick = gani_add_feed(recipe, "style", GANI_FEED_CLASSES,
                                    gan_shape2(n * GANI_HD_IDS, 1), clusters, 0.0, 0.0);
    gan_tensor row =
        gan_reshape(g, gan_gather_rows(g, pick, gani_hd_rows(g, instance)), gan_shape1(n * h * w));
    if (gani_option(recipe, "classes") > 0.0) {
        gan_tensor first = gan_reshape(g, label, gan_shape1(n * h * w));
        row = gan_add(g, row, gan_affine(g, first, (float)clusters, 0.0f));
    }
    gan_tensor y = gan_gather_rows(g, gani_pix2pixhd_clusters(recipe), row);
    y = gan_reshape(g, y, gan_shape4(n, h, w, (int)gani_option(recipe, "features")));
    return gan_permute(g, y, channels_first);
}

/* The caller's images hold the map in one channel, and where instances=on their numbers in a
 * second. */
static void gani_pix2pixhd_translate(gani_recipe *recipe) {
    const int classes = (int)gani_option(recipe, "classes");
    gan_tensor instance = {0}, features = {0};
    gani_round_sizes(recipe, gani_pix2pixhd_multiple(recipe));
    gan_tensor label = classes > 0 ? gani_feed_source_map(recipe, "label")
                                   : gani_feed_source(recipe, "label", recipe->model->channels);
    if (gani_option(recipe, "instances") == 1.0) {
        instance = gani_feed_source_map(recipe, "instance");
    }
    if (gani_option(recipe, "features") > 0.0) {
        features = gani_pix2pixhd_drawn(recipe, label, instance);
    }
    gan_tensor seen = gani_pix2pixhd_seen(recipe, label, instance);
    gani_images(recipe, gani_pix2pixhd_generator(recipe, seen, features));
}

static const gani_system gani_pix2pixhd = {
    {"pix2pixhd", "pix2pixHD: photos from maps of classes, coarse to fine",
     "Wang et al. 2018, arXiv:1711.11585", 256, 256, 3, 1, gani_pix2pixhd_options,
     sizeof gani_pix2pixhd_options / sizeof gani_pix2pixhd_options[0], 2, 1, 0},
    gani_pix2pixhd_train,
    NULL,
    gani_pix2pixhd_translate,
    NULL};

/* ============================================================================
 * >>pix2pixhd-styles  8.13  STYLES OF INSTANCES: K-MEANS OVER WHAT THE ENCODER READS
 *
 * While training, G gets the style of each instance from the encoder, which looks at the photo.
 * When there is only a map, styles must come from elsewhere: from the buffer "clusters", which
 * holds a few for each class, all 0 at first. gan_model_cluster fills it: it encodes the photos of
 * a dataset, takes one point for each instance that is large enough, and moves the centres of each
 * class into the middle of the points that are nearest to them until they stay (Lloyd 1982), as
 * encode_features.py of NVIDIA/pix2pixHD. Differs from there: the first centres are points far from
 * one another, so that nothing is drawn at random.
 * ========================================================================= */

/* An encoder's features of one instance, behind the number of its class. */
typedef struct gani_styles {
    gan_context *ctx;
    int features; /* of an instance */
    int count, capacity;
    float *rows; /* [count,1+features] */
} gani_styles;

static const float *gani_style(const gani_styles *styles, int index) {
    return styles->rows + (size_t)index * (size_t)(1 + styles->features);
}

/* A row to fill; NULL if memory is out. */
static float *gani_add_style(gani_styles *styles) {
    const size_t row = (size_t)(1 + styles->features);
    if (styles->count == styles->capacity) {
        const int capacity = styles->capacity ? 2 * styles->capacity : 256;
        float *rows = (float *)gani_alloc(styles->ctx, (size_t)capacity * row * sizeof(float));
        if (!rows) {
            return NULL;
        }
        if (styles->rows) {
            memcpy(rows, styles->rows, (size_t)styles->count * row * sizeof(float));
        }
        gani_free(styles->ctx, styles->rows);
        styles->rows = rows;
        styles->capacity = capacity;
    }
    return styles->rows + (size_t)styles->count++ * row;
}

static double gani_distance2(const float *a, const float *b, int count) {
    double sum = 0.0;
    for (int i = 0; i < count; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sum;
}

/* Index of the centre [used,features] nearest to a point; *distance2: how far it is, squared. */
static int gani_nearest(const float *centres, int used, const float *point, int features,
                        double *distance2) {
    int best = 0;
    *distance2 = DBL_MAX;
    for (int k = 0; k < used; k++) {
        const double d = gani_distance2(centres + (size_t)k * (size_t)features, point, features);
        best = d < *distance2 ? k : best;
        *distance2 = d < *distance2 ? d : *distance2;
    }
    return best;
}

/* The first centres of a class [clusters,features]: one of its points, then again and again the one
 * farthest from those. Returns how many there are: fewer than clusters if there are no more
 * different points. */
static int gani_first_centres(const gani_styles *styles, int class_number, float *centres,
                              int clusters) {
    int used = 0;
    for (double farthest = 1.0; used < clusters && farthest > 0.0;) {
        const float *chosen = NULL;
        farthest = 0.0;
        for (int i = 0; i < styles->count; i++) {
            const float *style = gani_style(styles, i);
            double distance2 = 0.0;
            if ((int)style[0] == class_number) {
                gani_nearest(centres, used, style + 1, styles->features, &distance2);
                chosen = distance2 > farthest ? style + 1 : chosen;
                farthest = distance2 > farthest ? distance2 : farthest;
            }
        }
        if (chosen) {
            memcpy(centres + (size_t)used++ * (size_t)styles->features, chosen,
                   (size_t)styles->features * sizeof(float));
        }
    }
    return used;
}

/* Moves each centre to the mean of the points nearest to it; sums [used,1+features] is scratch.
 * Returns 1 if one has moved. */
static int gani_move_centres(const gani_styles *styles, int class_number, float *centres, int used,
                             double *sums) {
    const int features = styles->features, row = 1 + features;
    int moved = 0;
    memset(sums, 0, (size_t)(used * row) * sizeof(double));
    for (int i = 0; i < styles->count; i++) {
        const float *style = gani_style(styles, i);
        double unused;
        if ((int)style[0] == class_number) {
            double *sum = sums + gani_nearest(centres, used, style + 1, features, &unused) * row;
            sum[0] += 1.0;
            for (int k = 0; k < features; k++) {
                sum[1 + k] += (double)style[1 + k];
            }
        }
    }
    for (int i = 0; i < used * features; i++) {
        const double *sum = sums + i / features * row;
        const float mean = (float)(sum[1 + i % features] / (sum[0] > 0.0 ? sum[0] : 1.0));
        if (sum[0] > 0.0 && mean != centres[i]) {
            centres[i] = mean;
            moved = 1;
        }
    }
    return moved;
}

/* Centres of one class [clusters,features]; those that there are not repeat the others. */
static void gani_cluster_class(const gani_styles *styles, int class_number, float *centres,
                               int clusters, double *sums) {
    const size_t features = (size_t)styles->features;
    const int used = gani_first_centres(styles, class_number, centres, clusters);
    for (int turn = 0; turn < 100 && used > 0; turn++) {
        if (!gani_move_centres(styles, class_number, centres, used, sums)) {
            break;
        }
    }
    for (int k = used; k < clusters && used > 0; k++) {
        memcpy(centres + (size_t)k * features, centres + (size_t)(k - used) * features,
               features * sizeof(float));
    }
}

/* Takes the style at the middle pixel, in scan order, of each instance of an image that covers more
 * than 1/64 of it. codes [features,pixels]; labels [pixels] or NULL; areas [2,GANI_HD_IDS] is
 * scratch. */
static gan_status gani_take_styles(gani_styles *styles, const float *codes, const float *labels,
                                   const float *instances, size_t pixels, int *areas) {
    int *seen = areas + GANI_HD_IDS;
    memset(areas, 0, 2 * GANI_HD_IDS * sizeof(int));
    for (size_t i = 0; i < pixels; i++) {
        areas[(int)instances[i]]++;
    }
    for (size_t i = 0; i < pixels; i++) {
        const int id = (int)instances[i];
        if (seen[id]++ == areas[id] / 2 && (size_t)areas[id] * 64 > pixels) {
            float *row = gani_add_style(styles);
            if (!row) {
                return GAN_ERR_MEMORY;
            }
            row[0] = labels ? labels[i] : 0.0f;
            for (int k = 0; k < styles->features; k++) {
                row[1 + k] = codes[(size_t)k * pixels + i];
            }
        }
    }
    return GAN_OK;
}

/* A recipe that encodes records of the data. */
static void gani_pix2pixhd_encode(gani_recipe *recipe) {
    const int classes = (int)gani_option(recipe, "classes");
    gan_tensor real = gani_feed_part(recipe, "real", 1, recipe->model->channels_b);
    gan_tensor instance = gani_feed_part(recipe, "instance", 2, 1);
    if (classes > 0) {
        gani_feed_label_map(recipe, "label", 0, classes);
    }
    gani_codes(recipe, gani_pix2pixhd_encoder(recipe, real, instance));
}

/* Styles of all records; areas: scratch of gani_take_styles. */
static gan_status gani_read_styles(gani_styles *styles, gani_recipe *recipe, gan_dataset *data,
                                   int *areas) {
    const size_t pixels = (size_t)recipe->height * (size_t)recipe->width;
    const gani_feed *label = gani_find_feed(recipe, "label", strlen("label"));
    const gani_feed *instance = gani_find_feed(recipe, "instance", strlen("instance"));
    gan_status status = GAN_OK;
    for (int i = 0; i < gan_dataset_count(data) && status == GAN_OK; i++) {
        status = gani_fill_data(recipe, data, 0, (uint64_t)i);
        status = status ? status : gan_program_run(recipe->phases[0].program);
        if (status == GAN_OK) {
            status = gani_take_styles(styles, gani_result_data(recipe, "codes"),
                                      label ? label->data : NULL, instance->data, pixels, areas);
        }
    }
    return status;
}

/* Replaces the centres of all classes. */
static gan_status gani_cluster(const gani_styles *styles, gan_param_info clusters, int each) {
    const int classes = clusters.shape.dim[0] / each;
    const size_t per_class = (size_t)each * (size_t)styles->features;
    double *sums = (double *)gani_alloc(styles->ctx, (per_class + (size_t)each) * sizeof(double));
    if (!sums) {
        return GAN_ERR_MEMORY;
    }
    memset(clusters.data, 0, gan_shape_count(clusters.shape) * sizeof(float));
    for (int i = 0; i < classes; i++) {
        gani_cluster_class(styles, i, clusters.data + (size_t)i * per_class, each, sums);
    }
    gani_free(styles->ctx, sums);
    return GAN_OK;
}

GAN_API gan_status gan_model_cluster(gan_model *model, gan_dataset *data) {
    gan_context *ctx = model->ctx;
    const gan_param_info clusters = gan_params_find(model->params, "clusters");
    const gani_recipe wanted = gani_recipe_wanted(model, 1, GAN_EVALUATE);
    gani_recipe *recipe = NULL;
    gani_styles styles;
    if (model->system != &gani_pix2pixhd || !clusters.data) {
        return gani_error(
            ctx, GAN_ERR_UNSUPPORTED,
            "no styles of instances here: they are pix2pixhd's, with features=3 or so");
    }
    memset(&styles, 0, sizeof styles);
    styles.ctx = ctx;
    styles.features = clusters.shape.dim[1];
    int *areas = (int *)gani_alloc(ctx, 2 * GANI_HD_IDS * sizeof(int));
    gan_status status = areas ? GAN_OK : GAN_ERR_MEMORY;
    status = status ? status : gani_recipe_create(&recipe, model, &wanted, gani_pix2pixhd_encode);
    status = status ? status : gani_read_styles(&styles, recipe, data, areas);
    if (status == GAN_OK) {
        const int each = (int)gani_option(recipe, "clusters");
        status = gani_cluster(&styles, clusters, each);
    }
    gani_recipe_destroy(ctx, recipe);
    gani_free(ctx, areas);
    gani_free(ctx, styles.rows);
    return status;
}

/* ============================================================================
 * >>unet  8.14  U-NET, AND WHAT THE TRANSLATORS BELOW SHARE
 *
 * The generator of Isola et al. 2017 (arXiv:1611.07004) after Ronneberger et al. 2015
 * (arXiv:1505.04597): level after level halves the image by a strided convolution, and on the way
 * back each map is doubled by a transposed one and joined by the map of the same size from the way
 * down. Names as in junyanz/pytorch-CycleGAN-and-pix2pix, where a level is a chain that holds the
 * next one: "model.model.0", "model.model.1.model.1", ... "model.model.1.model.3.model.1".
 *
 * On the way down a level is LeakyReLU 0.2, convolution, norm; the outermost has no LeakyReLU and
 * no norm, the innermost no norm (it would leave nothing of a map of 1x1). On the way up it is
 * ReLU, transposed convolution, norm, perhaps dropout; the outermost ends in tanh instead. What is
 * kept for the way back has been through LeakyReLU already, which a ReLU behind it does not see.
 *
 * Holds:  U-Net; the options of translators and what they say.
 * Uses:   >>image-networks  >>models        Knows nothing of: particular systems.
 * ========================================================================= */

typedef struct gani_unet_desc {
    int channels;                  /* of the image that comes out */
    int ngf;                       /* channels after the first level, then 2, 4, 8, 8 ... times */
    int levels;                    /* halvings, 2 or more */
    int kernel, outer;             /* of the inner levels and of the outermost: 4, 3 or 5 */
    gan_norm_kind norm;            /* GAN_NORM_INSTANCE or GAN_NORM_BATCH */
    const gan_norm_desc *instance; /* instance norm: NULL: without parameters */
    float dropout;                 /* at levels of 8 ngf channels, but the innermost */
    gan_tensor dropping, running;  /* none, or switches, 0 or 1: dropout; running statistics */
} gani_unet_desc;

/* Batch norm by the statistics of x where `running` [] is 0, by the running ones where it is 1. */
static gan_tensor gani_switched_norm(gan_graph *g, const char *name, gan_tensor x,
                                     gan_tensor running) {
    const gan_norm_desc desc = gani_norm_desc(NULL);
    const unsigned mode = g->mode;
    gan_graph_push(g, name);
    const gani_affine affine = gani_make_affine(g, x, 1, &desc);
    gan_graph_set_mode(g, (mode & ~(unsigned)GAN_MODE_RUNNING_STATS) | GAN_MODE_KEEP_STATS);
    gan_tensor own = gani_batch_moments(g, x, desc.momentum);
    gan_graph_set_mode(g, mode | GAN_MODE_RUNNING_STATS);
    gan_tensor kept = gani_batch_moments(g, x, desc.momentum);
    gan_graph_set_mode(g, mode);
    gan_tensor moments = gan_add(g, own, gan_mul(g, running, gan_sub(g, kept, own)));
    x = gan_normalize(g, x, moments, affine.scale, affine.shift, GAN_NORM_BATCH, desc.eps);
    gan_graph_pop(g);
    return x;
}

static void gani_unet_norm(gani_chain *chain, const gani_unet_desc *desc) {
    char name[GANI_CHAIN_NAME];
    if (desc->running.id && desc->norm == GAN_NORM_BATCH) {
        gani_chain_count(chain, name);
        chain->x = gani_switched_norm(chain->graph, name, chain->x, desc->running);
    } else {
        gani_chain_norm(chain);
    }
}

/* Dropout, if at all while training, and as the switch says afterwards. */
static void gani_unet_dropout(gani_chain *chain, const gani_unet_desc *desc) {
    gan_graph *g = chain->graph;
    if (desc->dropping.id) {
        gan_tensor change = gan_sub(g, gan_dropout(g, chain->x, desc->dropout, 0), chain->x);
        chain->x = gan_add(g, chain->x, gan_mul(g, desc->dropping, change));
    } else {
        chain->x = gan_layer_dropout(g, chain->x, desc->dropout, 0);
    }
}

/* Level number `level` (0: outermost) and all below, of x as the level above has left it. */
static gan_tensor gani_unet_level(gan_graph *g, const gani_unet_desc *desc, int level,
                                  gan_tensor x) {
    const int outermost = level == 0, innermost = level == desc->levels - 1;
    const int kernel = outermost ? desc->outer : desc->kernel;
    const int above = level < 4 ? level - 1 : 3; /* channels are doubled so many times */
    gani_chain chain = gani_chain_begin(g, desc->norm, 0, x);
    chain.instance = desc->instance;
    chain.next += !outermost; /* LeakyReLU, done by the level above */
    gani_chain_conv(&chain, desc->ngf << (level < 3 ? level : 3), kernel, 2, (kernel - 1) / 2, 1);
    if (!outermost && !innermost) {
        gani_unet_norm(&chain, desc);
    }
    if (!innermost) {
        gan_tensor both[2];
        char name[GANI_CHAIN_NAME];
        both[0] = gan_leaky_relu(g, chain.x, 0.2f);
        gan_graph_push(g, gani_chain_count(&chain, name));
        gan_graph_push(g, "model");
        both[1] = gani_unet_level(g, desc, level + 1, both[0]);
        gan_graph_pop(g);
        gan_graph_pop(g);
        chain.x = gan_concat(g, both, 2, 1);
    }
    gani_chain_relu(&chain, 0.0f);
    gani_chain_up(&chain, outermost ? desc->channels : desc->ngf << above, kernel, !outermost);
    if (outermost) {
        return gan_tanh(g, chain.x);
    }
    gani_unet_norm(&chain, desc);
    if (desc->dropout > 0.0f && level >= 4 && !innermost) {
        gani_unet_dropout(&chain, desc);
    }
    return chain.x;
}

/* Images in [-1,1] from x [n,c,h,w], sides multiples of 2^levels. */
static gan_tensor gani_unet(gan_graph *g, const gani_unet_desc *desc, gan_tensor x) {
    gan_graph_push(g, "model");
    gan_graph_push(g, "model");
    x = gani_unet_level(g, desc, 0, x);
    gan_graph_pop(g);
    gan_graph_pop(g);
    return x;
}

/* --- what translators share ------------------------------------------------ */

enum { GANI_TRANSLATE_UNET, GANI_TRANSLATE_RESNET }; /* option "net" */

/* Halvings of a U-Net: until a side of the model's images is odd, at most 8. */
static int gani_unet_levels(const gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    int levels = 0;
    while (levels < 8 && (model->height | model->width) % (2 << levels) == 0) {
        levels++;
    }
    if (levels < 2) {
        gani_stick(recipe->graph,
                   gani_error(model->ctx, GAN_ERR_SHAPE,
                              "%s: expected sides that are multiples of 4, found %d x %d",
                              model->system->info.name, model->height, model->width));
        levels = 2;
    }
    return levels;
}

/* What the sides of images must be multiples of. */
static int gani_translator_multiple(const gani_recipe *recipe) {
    return gani_option(recipe, "net") == GANI_TRANSLATE_UNET ? 1 << gani_unet_levels(recipe) : 4;
}

static gan_norm_kind gani_translator_norm(const gani_recipe *recipe) {
    return gani_option(recipe, "norm") == 0.0 ? GAN_NORM_BATCH : GAN_NORM_INSTANCE;
}

/* How a trained network is run: as in training, with dropout and by statistics of the image itself
 * (the paper, section 3.3), unless the caller switches to "dropout=0" or "running-stats=1". */
static void gani_unet_switches(gani_recipe *recipe, gani_unet_desc *desc) {
    if (desc->dropout > 0.0f) {
        desc->dropping = gani_feed_given(recipe, "dropout", gan_shape0(), 1.0);
    }
    if (desc->norm == GAN_NORM_BATCH) {
        desc->running = gani_feed_given(recipe, "running-stats", gan_shape0(), 0.0);
    }
}

/* Images of so many channels from x by the generator `scope`, as the options say. */
static gan_tensor gani_translator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                  int channels) {
    const int blocks = (int)gani_option(recipe, "blocks");
    gan_graph *g = recipe->graph;
    gani_unet_desc unet;
    gani_resnet_desc resnet;
    memset(&unet, 0, sizeof unet);
    memset(&resnet, 0, sizeof resnet);
    unet.channels = resnet.channels = channels;
    unet.ngf = resnet.ngf = (int)gani_option(recipe, "ngf");
    unet.norm = resnet.norm = gani_translator_norm(recipe);
    unet.dropout = (float)gani_option(recipe, "dropout");
    unet.kernel = unet.outer = 4;
    resnet.dropout = unet.dropout > 0.0f;
    resnet.blocks = blocks ? blocks : recipe->model->height > 128 ? 9 : 6;
    resnet.downs = 2;
    if (gani_option(recipe, "net") == GANI_TRANSLATE_RESNET) {
        gan_graph_push(g, scope);
        x = gani_resnet_generator(g, &resnet, x);
    } else {
        unet.levels = gani_unet_levels(recipe);
        if (recipe->mode != GAN_TRAIN) {
            gani_unet_switches(recipe, &unet);
        }
        gan_graph_push(g, scope);
        x = gani_unet(g, &unet, x);
    }
    gan_graph_pop(g);
    return x;
}

/* Scores of patches by the discriminator `scope`. */
static gan_tensor gani_judge(gani_recipe *recipe, const char *scope, gan_tensor x) {
    gani_patch_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ndf = (int)gani_option(recipe, "ndf");
    desc.layers = (int)gani_option(recipe, "d-layers");
    desc.norm = gani_translator_norm(recipe);
    gan_graph_push(recipe->graph, scope);
    x = gani_patch_discriminator(recipe->graph, &desc, x, NULL);
    gan_graph_pop(recipe->graph);
    return x;
}

/* What the option "loss" says. */
static gani_goal gani_translator_goal(const gani_recipe *recipe) {
    static const gani_goal goals[] = {{gan_loss_bce, 0.0f, 1.0f, 1.0f},
                                      {gan_loss_least_squares, 0.0f, 1.0f, 1.0f}};
    return goals[(int)gani_option(recipe, "loss")];
}

/* clang-format off */
#define GANI_TRANSLATOR_OPTIONS(net, norm, loss, dropout)                                          \
    {"net", "generator: U-Net or residual network", "unet resnet", net, 0, 1, 1},                  \
    {"ngf", "channels of the generator's outermost stage", NULL, 64, 1, 1024, 1},                  \
    {"ndf", "channels of the discriminator's outermost stage", NULL, 64, 1, 1024, 1},              \
    {"blocks", "resnet: residual blocks; 0: 6, above 128 pixels 9", NULL, 0, 0, 64, 1},            \
    {"norm", "of all networks", "batch instance", norm, 0, 1, 1},                                  \
    {"dropout", "share of units dropped in the generator; resnet: 0, or half", NULL, dropout, 0,   \
     0.99, 0},                                                                                     \
    {"d-layers", "halvings in the discriminator; 3: patches of 70x70, 0: pixels", NULL, 3, 0, 8,   \
     1},                                                                                           \
    {"loss", "cross-entropy or least squares", "bce lsgan", loss, 0, 1, 1},                        \
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},                                                 \
    GANI_SCHEDULE_OPTIONS(0, 0),                                                                   \
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},                                 \
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0}
/* clang-format on */

/* ============================================================================
 * >>pix2pix  8.15  IMAGE TO IMAGE WITH PAIRS (Isola, Zhu, Zhou, Efros 2017, arXiv:1611.07004)
 *
 * G is to turn an image x into its partner y. D sees x beside y or beside G(x) and judges patch by
 * patch, so that it asks for sharp detail; the distance to y does for the rest.
 *
 *     loss_d = (loss(D(x, y), 1) + loss(D(x, G(x)), 0)) / 2
 *     loss_g = loss(D(x, G(x)), 1) + lambda mean |G(x) - y|,    with D after its update
 *
 * Networks, names, initial values and order as in junyanz/pytorch-CycleGAN-and-pix2pix: U-Net with
 * dropout, which is all the noise there is, and a discriminator of patches of 70x70. d-layers 0, 1
 * and 5 are the PixelGAN, 16x16 and 286x286 of the paper. direction=ba: x is image B of a pair (in
 * the CMP facades B holds the labels).
 * ========================================================================= */

static const gan_option gani_pix2pix_options[] = {
    GANI_TRANSLATOR_OPTIONS(GANI_TRANSLATE_UNET, 0, 0, 0.5),
    {"lambda", "weight of the distance to the true image", NULL, 100, 0, 1e6, 0},
    {"direction", "which image of a pair is turned into the other", "ab ba", 0, 0, 1, 1},
};

/* Channels of image A (0) or B (1) of a pair. */
static int gani_pair_channels(const gani_recipe *recipe, int b) {
    return b ? recipe->model->channels_b : recipe->model->channels;
}

static gan_tensor gani_pix2pix_judge(gani_recipe *recipe, gan_tensor x, gan_tensor y) {
    gan_tensor both[2];
    both[0] = x;
    both[1] = y;
    return gani_judge(recipe, "discriminator", gan_concat(recipe->graph, both, 2, 1));
}

static void gani_pix2pix_train(gani_recipe *recipe) {
    const gani_goal goal = gani_translator_goal(recipe);
    const gan_optimiser adam = gani_adam(recipe);
    const int from = (int)gani_option(recipe, "direction");
    gan_graph *g = recipe->graph;
    gan_tensor pair[2];
    pair[0] = gani_feed_part(recipe, "real_a", 0, gani_pair_channels(recipe, 0));
    pair[1] = gani_feed_part(recipe, "real_b", 1, gani_pair_channels(recipe, 1));
    gan_tensor rate = gani_feed_lr(recipe), x = pair[from], y = pair[!from];

    gan_tensor fake = gani_translator(recipe, "generator", x, gani_pair_channels(recipe, !from));
    gan_tensor d_real = gani_pix2pix_judge(recipe, x, y);
    gan_tensor d_fake = gani_pix2pix_judge(recipe, x, gan_detach(g, fake));
    gan_tensor loss_d = gani_loss_d(g, &goal, d_real, d_fake);
    gan_minimise(g, loss_d, "discriminator.", rate, &adam);

    gan_tensor distance = gan_loss_l1(g, fake, y);
    gan_tensor loss_g = goal.loss(g, gani_pix2pix_judge(recipe, x, fake), goal.wanted);
    const float lambda = (float)gani_option(recipe, "lambda");
    loss_g = gan_add(g, loss_g, gan_affine(g, distance, lambda, 0.0f));
    gan_minimise(g, loss_g, "generator.", rate, &adam);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_report(recipe, "distance", distance);
    gani_end_phase(recipe, "train", 1);
}

static void gani_pix2pix_translate(gani_recipe *recipe) {
    const int from = (int)gani_option(recipe, "direction");
    gani_round_sizes(recipe, gani_translator_multiple(recipe));
    recipe->source_part = from;
    gan_tensor x = gani_feed_source(recipe, "source", gani_pair_channels(recipe, from));
    gan_graph_set_mode(recipe->graph, GAN_MODE_KEEP_STATS | GAN_MODE_KEEP_ALL_UNITS);
    gani_images(recipe,
                gani_translator(recipe, "generator", x, gani_pair_channels(recipe, !from)));
}

static const gani_system gani_pix2pix = {
    {"pix2pix", "pix2pix: an image into its partner, learned from pairs",
     "Isola, Zhu, Zhou, Efros 2017, arXiv:1611.07004", 256, 256, 3, 1, gani_pix2pix_options,
     sizeof gani_pix2pix_options / sizeof gani_pix2pix_options[0], 2, 1, 0},
    gani_pix2pix_train,
    NULL,
    gani_pix2pix_translate,
    NULL};

/* ============================================================================
 * >>cyclegan  8.16  CYCLEGAN (Zhu, Park, Isola, Efros 2017, arXiv:1703.10593); TWO DOMAINS
 *
 * Two domains A and B without pairs, two generators and two discriminators. Generator a takes A to
 * B and discriminator a judges what it gives among images of B; b the other way about. What went
 * there and back must be what it was:
 *
 *     loss_d = sum over a and b of (loss(D(y), real) + loss(D(G(x)), fake)) / 2
 *     loss_g = sum over a and b of  adversarial * loss(D(G(x)), wanted)
 *              + recovery * distance(G'(G(x)), x) + identity * mean |G(y) - y|
 *
 * with x of the domain that G reads, y of the one it writes, G' the other generator. CycleGAN,
 * DualGAN and DiscoGAN are this with other networks, losses, weights and turns, all said in a
 * gani_cycle; DualGAN may also penalise the slope of D, DiscoGAN matches inner features of D.
 *
 * CycleGAN: least squares, mean |.|, recovery lambda = 10, identity lambda/2; generated images
 * reach D by way of a pool of 50. Networks, names, initial values and order as in
 * junyanz/pytorch-CycleGAN-and-pix2pix: first both generators, then both discriminators.
 * ========================================================================= */

enum { GANI_MAX_FEATURES = 16 };

/* Inner maps of a discriminator, from the outermost inwards. */
typedef struct gani_features {
    gan_tensor at[GANI_MAX_FEATURES];
    int count;
} gani_features;

/* Images of so many channels from x by the generator `scope`. */
typedef gan_tensor gani_cycle_generator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                        int channels);
/* Scores of x by the discriminator `scope`, which also tells its features, perhaps none. */
typedef gan_tensor gani_cycle_discriminator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                            gani_features *features);

typedef struct gani_cycle {
    gani_cycle_generator *generator;
    gani_cycle_discriminator *discriminator;
    gan_tensor (*distance)(gan_graph *graph, gan_tensor x, gan_tensor y); /* there and back */
    gani_goal goal;
    gan_optimiser rule_g, rule_d;
    gan_tensor rate;                  /* of learning */
    gan_tensor adversarial, recovery; /* weights, scalars */
    gan_tensor matching;              /* the same, of features; none: not compared */
    double identity, penalty;         /* weights; 0: not computed */
    int matched;                      /* so many of the last features are compared */
    int pool;                         /* capacity; 0: none */
    int every_d, every_g; /* turns of two phases, D first; 0: one phase, G first */
} gani_cycle;

/* Images of a step: of A and of B, and what generators a and b make of them. */
typedef struct gani_cycle_images {
    gan_tensor real[2], moved[2];
} gani_cycle_images;

/* x through generator a (k = 0) or b (1). */
static gan_tensor gani_cycle_move(gani_recipe *recipe, gani_cycle_generator *generator, int k,
                                  gan_tensor x) {
    return generator(recipe, k ? "generator_b" : "generator_a", x, gani_pair_channels(recipe, !k));
}

static gan_tensor gani_cycle_judge(gani_recipe *recipe, const gani_cycle *cycle, int k,
                                   gan_tensor x, gani_features *features) {
    features->count = 0;
    return cycle->discriminator(recipe, k ? "discriminator_b" : "discriminator_a", x, features);
}

/* *total, none at first, grows by weight * term. */
static void gani_cycle_add(gan_graph *g, gan_tensor *total, gan_tensor weight, gan_tensor term) {
    term = gan_mul(g, weight, term);
    *total = total->id ? gan_add(g, *total, term) : term;
}

static gan_tensor gani_scalar(gan_graph *g, double value) {
    return gan_constant(g, gan_shape0(), (float)value);
}

/* How steep discriminator k is between real and generated images, see >>wgan-gp. */
static gan_tensor gani_cycle_slope(gani_recipe *recipe, const gani_cycle *cycle, int k,
                                   gan_tensor real, gan_tensor fake) {
    gan_graph *g = recipe->graph;
    gani_features unused;
    gan_tensor epsilon = gani_feed_uniform(recipe, k ? "epsilon_b" : "epsilon_a",
                                           gan_shape4(recipe->batch, 1, 1, 1), 0.0, 1.0);
    gan_tensor between = gan_add(g, fake, gan_mul(g, epsilon, gan_sub(g, real, fake)));
    gan_tensor score = gani_cycle_judge(recipe, cycle, k, between, &unused);
    return gan_loss_gradient_penalty(g, score, between);
}

static void gani_cycle_update_d(gani_recipe *recipe, const gani_cycle *cycle,
                                const gani_cycle_images *images) {
    gan_graph *g = recipe->graph;
    gan_tensor loss = {0};
    for (int k = 0; k < 2; k++) {
        gani_features unused;
        gan_tensor real = images->real[!k], fake = gan_detach(g, images->moved[k]);
        if (cycle->pool) {
            fake = gani_pool(recipe, k ? "pool_b" : "pool_a", fake, cycle->pool);
        }
        gan_tensor d_real = gani_cycle_judge(recipe, cycle, k, real, &unused);
        gan_tensor d_fake = gani_cycle_judge(recipe, cycle, k, fake, &unused);
        gani_cycle_add(g, &loss, gani_scalar(g, 1.0), gani_loss_d(g, &cycle->goal, d_real, d_fake));
        if (cycle->penalty > 0.0) {
            gani_cycle_add(g, &loss, gani_scalar(g, cycle->penalty / 2.0),
                           gani_cycle_slope(recipe, cycle, k, real, fake));
        }
    }
    gan_minimise(g, loss, "discriminator_", cycle->rate, &cycle->rule_d);
    gani_report(recipe, "loss_d", loss);
}

/* Sum over the last features of mean (mean over the batch of x - that of y)^2. */
static gan_tensor gani_cycle_match(gan_graph *g, const gani_cycle *cycle, const gani_features *x,
                                   const gani_features *y) {
    const int first = x->count > cycle->matched ? x->count - cycle->matched : 0;
    gan_tensor total = gani_scalar(g, 0.0);
    for (int i = first; i < x->count; i++) {
        gan_tensor mean_x = gan_mean(g, x->at[i], 1u), mean_y = gan_mean(g, y->at[i], 1u);
        total = gan_add(g, total, gan_loss_mse(g, mean_x, mean_y));
    }
    return total;
}

static void gani_cycle_update_g(gani_recipe *recipe, const gani_cycle *cycle,
                                const gani_cycle_images *images) {
    gan_graph *g = recipe->graph;
    gan_tensor loss = {0}, recovered = {0};
    for (int k = 0; k < 2; k++) {
        gani_features on_fake, on_real;
        gan_tensor x = images->real[k], y = images->real[!k], moved = images->moved[k];
        gan_tensor score = gani_cycle_judge(recipe, cycle, k, moved, &on_fake);
        gani_cycle_add(g, &loss, cycle->adversarial,
                       cycle->goal.loss(g, score, cycle->goal.wanted));
        if (cycle->matching.id) {
            gani_cycle_judge(recipe, cycle, k, y, &on_real);
            gani_cycle_add(g, &loss, cycle->matching,
                           gani_cycle_match(g, cycle, &on_real, &on_fake));
        }
        gan_tensor back = gani_cycle_move(recipe, cycle->generator, !k, moved);
        gani_cycle_add(g, &recovered, gani_scalar(g, 1.0), cycle->distance(g, back, x));
        if (cycle->identity > 0.0) {
            gan_tensor kept = gani_cycle_move(recipe, cycle->generator, k, y);
            gani_cycle_add(g, &loss, gani_scalar(g, cycle->identity), gan_loss_l1(g, kept, y));
        }
    }
    gani_cycle_add(g, &loss, cycle->recovery, recovered);
    gan_minimise(g, loss, "generator_", cycle->rate, &cycle->rule_g);
    gani_report(recipe, "loss_g", loss);
    gani_report(recipe, "loss_cycle", recovered);
}

static void gani_cycle_move_both(gani_recipe *recipe, const gani_cycle *cycle,
                                 gani_cycle_images *images) {
    for (int k = 0; k < 2; k++) {
        images->moved[k] = gani_cycle_move(recipe, cycle->generator, k, images->real[k]);
    }
}

/* A training step. Where it has two phases, each moves the images itself. */
static void gani_cycle_train(gani_recipe *recipe, const gani_cycle *cycle) {
    gani_cycle_images images;
    images.real[0] = gani_feed_part(recipe, "real_a", 0, gani_pair_channels(recipe, 0));
    images.real[1] = gani_feed_part(recipe, "real_b", 1, gani_pair_channels(recipe, 1));
    gani_cycle_move_both(recipe, cycle, &images);
    if (cycle->every_d == 0) {
        gani_cycle_update_g(recipe, cycle, &images);
        gani_cycle_update_d(recipe, cycle, &images);
        gani_end_phase(recipe, "train", 1);
    } else {
        gani_cycle_update_d(recipe, cycle, &images);
        gani_end_phase(recipe, "discriminators", cycle->every_d);
        gani_cycle_move_both(recipe, cycle, &images);
        gani_cycle_update_g(recipe, cycle, &images);
        gani_end_phase(recipe, "generators", cycle->every_g);
    }
}

/* A translating recipe: generator a, or b for the other direction. */
static void gani_cycle_translate(gani_recipe *recipe, gani_cycle_generator *generator,
                                 int multiple) {
    const int k = recipe->reverse;
    gani_round_sizes(recipe, multiple);
    gan_tensor x = gani_feed_source(recipe, "source", gani_pair_channels(recipe, k));
    gani_images(recipe, gani_cycle_move(recipe, generator, k, x));
}

/* --- CycleGAN -------------------------------------------------------------- */

static const gan_option gani_cyclegan_options[] = {
    GANI_TRANSLATOR_OPTIONS(GANI_TRANSLATE_RESNET, 1, 1, 0),
    {"lambda", "weight of the way there and back", NULL, 10, 0, 1e6, 0},
    {"identity", "weight of leaving alone what is there already, times lambda", NULL, 0.5, 0, 1e6,
     0},
    {"pool", "generated images kept for each discriminator; 0: none", NULL, 50, 0, 10000, 1},
};

static gan_tensor gani_cyclegan_discriminator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                              gani_features *features) {
    (void)features;
    return gani_judge(recipe, scope, x);
}

static void gani_cyclegan_train(gani_recipe *recipe) {
    const double lambda = gani_option(recipe, "lambda");
    gani_cycle cycle;
    memset(&cycle, 0, sizeof cycle);
    cycle.generator = gani_translator;
    cycle.discriminator = gani_cyclegan_discriminator;
    cycle.distance = gan_loss_l1;
    cycle.goal = gani_translator_goal(recipe);
    cycle.rule_g = cycle.rule_d = gani_adam(recipe);
    cycle.rate = gani_feed_lr(recipe);
    cycle.adversarial = gani_scalar(recipe->graph, 1.0);
    cycle.recovery = gani_scalar(recipe->graph, lambda);
    cycle.identity = lambda * gani_option(recipe, "identity");
    cycle.pool = (int)gani_option(recipe, "pool");
    gani_cycle_train(recipe, &cycle);
}

static void gani_cyclegan_translate(gani_recipe *recipe) {
    gan_graph_set_mode(recipe->graph, GAN_MODE_KEEP_STATS | GAN_MODE_KEEP_ALL_UNITS);
    gani_cycle_translate(recipe, gani_translator, gani_translator_multiple(recipe));
}

static const gani_system gani_cyclegan = {
    {"cyclegan", "CycleGAN: between two sets of images, without pairs",
     "Zhu, Park, Isola, Efros 2017, arXiv:1703.10593", 256, 256, 3, 1, gani_cyclegan_options,
     sizeof gani_cyclegan_options / sizeof gani_cyclegan_options[0], 2, 0, 1},
    gani_cyclegan_train,
    NULL,
    gani_cyclegan_translate,
    NULL};

/* ============================================================================
 * >>dualgan  8.17  DUALGAN (Yi, Zhang, Tan, Gong 2017, arXiv:1704.02510)
 *
 * The mechanism of >>cyclegan with critics: Wasserstein with clipped weights (loss=wgan, the
 * paper), with a penalty on the slope (wgan-gp), or cross-entropy (classic). The generators learn
 * in every n-critic-th step, after the critics. Recovery weighs lambda; no identity, no pool.
 *
 * Networks of duxingren14/DualGAN: U-Net with kernels of 3, outermost 5, norms over each image with
 * scale and shift; critics of up to five halvings with the same norms, and one score for the image
 * (critic=global) or for patches. Differs from it: padding as PyTorch has it, where TensorFlow's is
 * one less before and one more behind, so everything is seen as in a mirror; no norm at the
 * innermost level, which would leave nothing but its shift; critics stop halving at a map of 4.
 * loss_d is half of the paper's, which RMSprop does not see.
 * ========================================================================= */

static const gan_option gani_dualgan_options[] = {
    {"ngf", "channels of the generator's outermost stage", NULL, 64, 1, 1024, 1},
    {"ndf", "channels of the critic's outermost stage", NULL, 64, 1, 1024, 1},
    {"dropout", "share of units dropped in the generator", NULL, 0, 0, 0.99, 0},
    {"critic", "scores for images or for patches", "global patch", 0, 0, 1, 1},
    {"loss", "of critics and generators", "wgan wgan-gp classic", 0, 0, 2, 1},
    {"n-critic", "updates of the critics for each of the generators", NULL, 3, 1, 1000, 1},
    {"lambda", "weight of the way there and back", NULL, 200, 0, 1e6, 0},
    {"clip", "wgan: the critics' weights stay within +-this", NULL, 0.01, 1e-9, 1000, 0},
    {"penalty", "wgan-gp: weight of the penalty", NULL, 10, 0, 1e6, 0},
    {"optimiser", "rule of the updates", "rmsprop adam", 0, 0, 1, 1},
    {"lr", "learning rate", NULL, 5e-5, 0, 10, 0},
    {"alpha", "RMSprop: decay of the mean square", NULL, 0.9, 0, 0.999999, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
};

enum { GANI_DUALGAN_WGAN, GANI_DUALGAN_WGAN_GP, GANI_DUALGAN_CLASSIC }; /* option "loss" */

static const gan_norm_desc gani_dualgan_norm = {1e-6f, 0.0f, 0, 1, &gani_dcgan_scale, NULL};

static gan_tensor gani_dualgan_generator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                         int channels) {
    gani_unet_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.channels = channels;
    desc.ngf = (int)gani_option(recipe, "ngf");
    desc.levels = gani_unet_levels(recipe);
    desc.kernel = 3;
    desc.outer = 5;
    desc.norm = GAN_NORM_INSTANCE;
    desc.instance = &gani_dualgan_norm;
    desc.dropout = (float)gani_option(recipe, "dropout");
    gan_graph_push(recipe->graph, scope);
    x = gani_unet(recipe->graph, &desc, x);
    gan_graph_pop(recipe->graph);
    return x;
}

/* Scores [n,1,h,w], 1 x 1 or of patches. "main.0", "main.2", "main.3" (norm), "main.5" ... */
static gan_tensor gani_dualgan_critic(gani_recipe *recipe, const char *scope, gan_tensor x,
                                      gani_features *features) {
    const int ndf = (int)gani_option(recipe, "ndf"), patch = gani_option(recipe, "critic") == 1.0;
    gani_chain chain = gani_chain_begin(recipe->graph, GAN_NORM_INSTANCE, 0, x);
    int side = recipe->height;
    chain.instance = &gani_dualgan_norm;
    (void)features;
    gan_graph_push(recipe->graph, scope);
    gan_graph_push(recipe->graph, "main");
    for (int i = 0; i < 5 && (i == 0 || side >= 8); i++) {
        gani_chain_conv(&chain, ndf << (i < 3 ? i : 3), i ? 3 : 5, 2, i ? 1 : 2, 1);
        if (i > 0) {
            gani_chain_norm(&chain);
        }
        gani_chain_relu(&chain, 0.2f);
        side = (side + 1) / 2;
    }
    gani_chain_conv(&chain, 1, patch ? 3 : side, patch ? 2 : 1, patch, 0);
    gan_graph_pop(recipe->graph);
    gan_graph_pop(recipe->graph);
    return chain.x;
}

/* -target * mean score: target 1 wants it high, -1 low. */
static gan_tensor gani_loss_signed(gan_graph *g, gan_tensor score, float target) {
    return gan_affine(g, gan_mean(g, score, GAN_ALL_AXES), -target, 0.0f);
}

static void gani_dualgan_train(gani_recipe *recipe) {
    static const gani_goal wasserstein = {gani_loss_signed, -1.0f, 1.0f, 1.0f};
    static const gani_goal classic = {gan_loss_bce, 0.0f, 1.0f, 1.0f};
    const int loss = (int)gani_option(recipe, "loss");
    gani_cycle cycle;
    memset(&cycle, 0, sizeof cycle);
    cycle.generator = gani_dualgan_generator;
    cycle.discriminator = gani_dualgan_critic;
    cycle.distance = gan_loss_l1;
    cycle.goal = loss == GANI_DUALGAN_CLASSIC ? classic : wasserstein;
    cycle.rule_g = gani_option(recipe, "optimiser") == 0.0
                       ? gan_rmsprop((float)gani_option(recipe, "alpha"))
                       : gani_adam(recipe);
    cycle.rule_d = cycle.rule_g;
    if (loss == GANI_DUALGAN_WGAN) {
        cycle.rule_d.clip_weights = (float)gani_option(recipe, "clip");
    } else if (loss == GANI_DUALGAN_WGAN_GP) {
        cycle.penalty = gani_option(recipe, "penalty");
    }
    cycle.rate = gani_feed_lr(recipe);
    cycle.adversarial = gani_scalar(recipe->graph, 1.0);
    cycle.recovery = gani_scalar(recipe->graph, gani_option(recipe, "lambda"));
    cycle.every_d = 1;
    cycle.every_g = (int)gani_option(recipe, "n-critic");
    gani_cycle_train(recipe, &cycle);
}

static void gani_dualgan_translate(gani_recipe *recipe) {
    gani_cycle_translate(recipe, gani_dualgan_generator, 1 << gani_unet_levels(recipe));
}

static const gani_system gani_dualgan = {
    {"dualgan", "DualGAN: between two sets of images, with Wasserstein critics",
     "Yi, Zhang, Tan, Gong 2017, arXiv:1704.02510", 256, 256, 3, 1, gani_dualgan_options,
     sizeof gani_dualgan_options / sizeof gani_dualgan_options[0], 2, 0, 1},
    gani_dualgan_train,
    NULL,
    gani_dualgan_translate,
    NULL};

/* ============================================================================
 * >>discogan  8.18  DISCOGAN (Kim, Cha, Kim, Lee, Kim 2017, arXiv:1703.05192)
 *
 * The mechanism of >>cyclegan on plain encoders and decoders, without skips, and one score for each
 * image. As SKTBrain/DiscoGAN has it, D's inner features of generated images shall also be those of
 * real ones, in the mean over the batch, and the way back counts for little at first:
 *
 *     loss_g = sum over a and b of (1 - r) (0.1 BCE(D(G(x)), 1) + 0.9 sum over features F of
 *              mean (mean F(y) - mean F(G(x)))^2) + r mean (G'(G(x)) - x)^2
 *
 * with r = start-rate for `start` steps, then rate. Every third step is one of the discriminators,
 * the others are of the generators. Images are from 0 to 1 inside. bottleneck=100 adds the two
 * layers of the authors' networks for rotated objects. Differs from theirs: initial weights
 * N(0,0.02); sizes other than 64 as in >>dcgan.
 * ========================================================================= */

static const gan_option gani_discogan_options[] = {
    {"ngf", "channels of the generator's outermost stage", NULL, 64, 1, 1024, 1},
    {"ndf", "channels of the discriminator's outermost stage", NULL, 64, 1, 1024, 1},
    {"bottleneck", "numbers in the innermost layer; 0: no such layer", NULL, 0, 0, 65536, 1},
    {"rate", "share r of the way there and back in the loss", NULL, 0.5, 0, 1, 0},
    {"start-rate", "the same at first", NULL, 0.01, 0, 1, 0},
    {"start", "for so many steps", NULL, 10000, 0, 1e12, 1},
    {"features", "maps of the discriminator that are matched, from the last", NULL, 3, 0, 16, 1},
    {"every-d", "every so-manieth step is the discriminators'", NULL, 3, 2, 1000, 1},
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
    {"weight-decay", "Adam: times the weight, added to the gradient", NULL, 1e-5, 0, 1, 0},
};

/* "main.0", "main.2", "main.3" (norm) ... */
static gan_tensor gani_discogan_generator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                          int channels) {
    const gani_dcgan_stages stages = gani_dcgan_count(recipe);
    const int ngf = (int)gani_option(recipe, "ngf");
    const int bottleneck = (int)gani_option(recipe, "bottleneck");
    gan_graph *g = recipe->graph;
    gani_chain chain = gani_chain_begin(g, GAN_NORM_BATCH, 0, gan_affine(g, x, 0.5f, 0.5f));
    char name[GANI_CHAIN_NAME];
    gan_graph_push(g, scope);
    gan_graph_push(g, "main");
    for (int i = 0; i < stages.count; i++) {
        gani_chain_conv(&chain, ngf << i, 4, 2, 1, 1);
        if (i > 0) {
            gani_chain_norm(&chain);
        }
        gani_chain_relu(&chain, 0.2f);
    }
    if (bottleneck) {
        gani_chain_conv(&chain, bottleneck, stages.base, 1, 0, 1);
        gani_chain_norm(&chain);
        gani_chain_relu(&chain, 0.2f);
        chain.x = gan_layer_conv_transpose(g, gani_chain_count(&chain, name), chain.x,
                                           ngf << (stages.count - 1), stages.base, 1, 0,
                                           &gani_dcgan_conv);
        gani_chain_norm(&chain);
        gani_chain_relu(&chain, 0.0f);
    }
    for (int i = stages.count - 2; i >= 0; i--) {
        gani_chain_up(&chain, ngf << i, 4, 1);
        gani_chain_norm(&chain);
        gani_chain_relu(&chain, 0.0f);
    }
    gani_chain_up(&chain, channels, 4, 1);
    gan_graph_pop(g);
    gan_graph_pop(g);
    return gan_affine(g, gan_sigmoid(g, chain.x), 2.0f, -1.0f);
}

/* Logits [n,1,1,1]. "conv1", "conv2", "bn2", ...; features behind all norms. */
static gan_tensor gani_discogan_discriminator(gani_recipe *recipe, const char *scope, gan_tensor x,
                                              gani_features *features) {
    const gani_dcgan_stages stages = gani_dcgan_count(recipe);
    gan_graph *g = recipe->graph;
    char name[GANI_LAYER_NAME];
    x = gan_affine(g, x, 0.5f, 0.5f);
    gan_graph_push(g, scope);
    for (int i = 0; i < stages.count; i++) {
        const int channels = (int)gani_option(recipe, "ndf") << i;
        snprintf(name, sizeof name, "conv%d", i + 1);
        x = gan_layer_conv(g, name, x, channels, 4, 2, 1, &gani_dcgan_conv);
        if (i > 0) {
            snprintf(name, sizeof name, "bn%d", i + 1);
            x = gan_layer_batch_norm(g, name, x, &gani_dcgan_norm);
        }
        x = gan_leaky_relu(g, x, 0.2f);
        if (i > 0) {
            features->at[features->count++] = x;
        }
    }
    snprintf(name, sizeof name, "conv%d", stages.count + 1);
    x = gan_layer_conv(g, name, x, 1, stages.base, 1, 0, &gani_dcgan_conv);
    gan_graph_pop(g);
    return x;
}

/* mean (x - y)^2 of images from 0 to 1, here given from -1 to 1. */
static gan_tensor gani_discogan_distance(gan_graph *g, gan_tensor x, gan_tensor y) {
    return gan_affine(g, gan_loss_mse(g, x, y), 0.25f, 0.0f);
}

static void gani_discogan_train(gani_recipe *recipe) {
    const double rate = gani_option(recipe, "rate"), start_rate = gani_option(recipe, "start-rate");
    static const gani_goal goal = {gan_loss_bce, 0.0f, 1.0f, 1.0f};
    gan_graph *g = recipe->graph;
    gani_cycle cycle;
    memset(&cycle, 0, sizeof cycle);
    const double last = gani_option(recipe, "start") - 1.0; /* step of the first rate */
    gan_tensor early = gani_feed_schedule(recipe, "early", 1.0, last, 1.0);
    gan_tensor change = gani_scalar(g, start_rate - rate);
    cycle.recovery = gan_add(g, gani_scalar(g, rate), gan_mul(g, early, change));
    gan_tensor rest = gan_affine(g, cycle.recovery, -1.0f, 1.0f);
    cycle.generator = gani_discogan_generator;
    cycle.discriminator = gani_discogan_discriminator;
    cycle.distance = gani_discogan_distance;
    cycle.goal = goal;
    cycle.rule_g = gani_adam(recipe);
    cycle.rule_g.weight_decay = (float)gani_option(recipe, "weight-decay");
    cycle.rule_d = cycle.rule_g;
    cycle.rate = gani_feed_lr(recipe);
    cycle.adversarial = gan_affine(g, rest, 0.1f, 0.0f);
    cycle.matching = gan_affine(g, rest, 0.9f, 0.0f);
    cycle.matched = (int)gani_option(recipe, "features");
    cycle.every_d = (int)gani_option(recipe, "every-d");
    cycle.every_g = -cycle.every_d;
    gani_cycle_train(recipe, &cycle);
}

static void gani_discogan_translate(gani_recipe *recipe) {
    const gani_dcgan_stages stages = gani_dcgan_count(recipe);
    gani_cycle_translate(recipe, gani_discogan_generator, 1 << stages.count);
}

static const gani_system gani_discogan = {
    {"discogan", "DiscoGAN: between two sets of images, without skips",
     "Kim, Cha, Kim, Lee, Kim 2017, arXiv:1703.05192", 64, 64, 3, 64, gani_discogan_options,
     sizeof gani_discogan_options / sizeof gani_discogan_options[0], 2, 0, 1},
    gani_discogan_train,
    NULL,
    gani_discogan_translate,
    NULL};

/* ============================================================================
 * >>context-gan  8.30  CONTEXT ENCODER (Pathak et al. 2016, arXiv:1604.07379)
 *
 * G sees an image with a hole, painted over with a mean colour, and is to tell what was there: it
 * encodes what it sees in `bottleneck` numbers and decodes these. D tells real from made.
 *
 *     loss_d   = BCE(D(y), 1) + BCE(D(G(hidden x)), 0)
 *     loss_g   = (1 - w) BCE(D(G(hidden x)), 1) + w loss_rec,        w = rec-weight
 *     loss_rec = mean of m (G(hidden x) - y)^2,  m = 10 where G is shown the pixel, else 1
 *
 * hole=centre: G makes y, the middle half of x, of which all but a rim of `overlap` pixels is
 * hidden. hole=random: a square of the same size anywhere; G makes all of x by one more stage, D
 * has one more too, and m is 1 if overlap is 0. Networks, loss, order (D first) and rates of
 * pathak22/context-encoder, train.lua and train_random.lua; the stages of >>dcgan at any size,
 * twice in the beginning as wide as the first. Convolutions have no biases (there they are set to 0
 * before every step). Differs from it: G is judged by D after its update, on a forward pass of its
 * own; random holes are squares, each image's own (there blots, the same for a batch).
 *
 * Translation takes images of any size and a rectangle in pixels, "left=8 top=4 width=20
 * height=16", or none for the middle. A square window around the rectangle is brought to the
 * network's size, so that the hole becomes as large as in training, and what G makes is brought
 * back. Outside the rectangle pixels stay as they are.
 * ========================================================================= */

static const gan_option gani_context_options[] = {
    {"hole", "where a training image has its hole", "centre random", 0, 0, 1, 1},
    {"overlap", "pixels beside the hole that are made although they are shown", NULL, 4, 0, 256, 1},
    {"bottleneck", "numbers between G's halves (4000 in the published models)", NULL, 512, 1, 65536,
     1},
    {"ngf", "channels of the generator's outermost stage", NULL, 64, 1, 1024, 1},
    {"ndf", "channels of the discriminator's outermost stage", NULL, 64, 1, 1024, 1},
    {"rec", "reconstruction loss: squared or absolute difference", "l2 l1", 0, 0, 1, 1},
    {"rec-weight", "w, share of the reconstruction in the generator's loss", NULL, 0.999, 0, 1, 0},
    {"lr", "learning rate of the generator", NULL, 2e-3, 0, 10, 0},
    {"lr-d", "learning rate of the discriminator", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
};

/* Pixels, [n,1,1,1] or, one for all images, [1,1,1,1]. */
typedef struct gani_box {
    gan_tensor left, top, width, height;
} gani_box;

static int gani_context_is_random(const gani_recipe *recipe) {
    return gani_option(recipe, "hole") == 1.0;
}

/* Side of the hole in an image of the model's size. */
static int gani_context_hole(const gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    const int side = model->height / 2 - 2 * (int)gani_option(recipe, "overlap");
    if (side < 1) {
        gani_stick(recipe->graph, gani_error(model->ctx, GAN_ERR_SHAPE,
                                             "context-encoder: expected an overlap less than a "
                                             "quarter of the side, %d, found %d",
                                             model->height, (int)gani_option(recipe, "overlap")));
    }
    return side > 0 ? side : 1;
}

/* 1 where start <= i < start + length, i along the last axis: [n,1,1,count]. */
static gan_tensor gani_interval(gan_graph *g, int count, gan_tensor start, gan_tensor length) {
    gan_tensor i = gan_iota(g, count), before = gan_affine(g, start, 1.0f, -0.5f);
    return gan_mul(g, gan_greater(g, i, before), gan_greater(g, gan_add(g, before, length), i));
}

/* [n,1,h,w], 1 in the box. */
static gan_tensor gani_mask(gan_graph *g, const gani_box *box, int h, int w) {
    gan_tensor rows = gani_interval(g, h, box->top, box->height);
    rows = gan_reshape(g, rows, gan_shape4(gan_tensor_shape(g, rows).dim[0], 1, h, 1));
    return gan_mul(g, rows, gani_interval(g, w, box->left, box->width));
}

/* b where the mask is 1, a where it is 0, to the bit. */
static gan_tensor gani_blend(gan_graph *g, gan_tensor a, gan_tensor b, gan_tensor mask) {
    return gan_add(g, a, gan_mul(g, mask, gan_sub(g, b, a)));
}

/* Images whose hole has the colour that the authors' code gives it. */
static gan_tensor gani_context_hide(gan_graph *g, gan_tensor images, gan_tensor mask) {
    static const float colour[] = {117.0f, 104.0f, 123.0f, 117.0f}; /* of 255 */
    gan_tensor fill[4];
    const int channels = gan_tensor_shape(g, images).dim[1];
    for (int i = 0; i < channels; i++) {
        fill[i] = gan_constant(g, gan_shape4(1, 1, 1, 1), colour[i] / 127.5f - 1.0f);
    }
    return gani_blend(g, images, gan_concat(g, fill, channels, 1), mask);
}

/* --- networks -------------------------------------------------------------- */

/* Channels of stage 0, 1, 2 ...: 1, 1, 2, 4, 8, 8 ... times the width. */
static int gani_context_channels(int width, int stage) {
    return width << (stage < 1 ? 0 : stage < 4 ? stage - 1 : 3);
}

/* Stages `first` and on, halvings with LeakyReLU 0.2, batch norm in all but the first; then one
 * convolution over the whole of the map that is left. */
static gani_chain gani_context_encode(gan_graph *g, gan_tensor x, gani_dcgan_stages stages,
                                      int first, int width, int out) {
    gani_chain chain = gani_chain_begin(g, GAN_NORM_BATCH, 0, x);
    for (int i = first; i < stages.count; i++) {
        gani_chain_conv(&chain, gani_context_channels(width, i), 4, 2, 1, 1);
        if (i > first) {
            gani_chain_norm(&chain);
        }
        gani_chain_relu(&chain, 0.2f);
    }
    gani_chain_conv(&chain, out, stages.base, 1, 0, 1);
    return chain;
}

static void gani_context_deconv(gani_chain *chain, int channels, int kernel, int stride, int pad) {
    char name[GANI_CHAIN_NAME];
    chain->x = gan_layer_conv_transpose(chain->graph, gani_chain_count(chain, name), chain->x,
                                        channels, kernel, stride, pad, &gani_dcgan_conv);
}

/* The hole and its rim [n,c,s/2,s/2], or whole images [n,c,s,s], from images with a hole. */
static gan_tensor gani_context_generator(gani_recipe *recipe, gan_tensor x) {
    const gani_dcgan_stages stages = gani_dcgan_count(recipe);
    const int ngf = (int)gani_option(recipe, "ngf"), last = !gani_context_is_random(recipe);
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "generator.main");
    gani_chain chain =
        gani_context_encode(g, x, stages, 0, ngf, (int)gani_option(recipe, "bottleneck"));
    gani_chain_norm(&chain);
    gani_chain_relu(&chain, 0.2f);
    for (int i = stages.count - 1; i >= last; i--) {
        const int inner = i == stages.count - 1;
        gani_context_deconv(&chain, gani_context_channels(ngf, i), inner ? stages.base : 4,
                            inner ? 1 : 2, inner ? 0 : 1);
        gani_chain_norm(&chain);
        gani_chain_relu(&chain, 0.0f);
    }
    gani_context_deconv(&chain, recipe->model->channels, 4, 2, 1);
    gan_graph_pop(g);
    return gan_tanh(g, chain.x);
}

/* Logits [n,1,1,1]. */
static gan_tensor gani_context_discriminator(gani_recipe *recipe, gan_tensor x) {
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "discriminator.main");
    x = gani_context_encode(g, x, gani_dcgan_count(recipe), !gani_context_is_random(recipe),
                            (int)gani_option(recipe, "ndf"), 1)
            .x;
    gan_graph_pop(g);
    return x;
}

/* --- training -------------------------------------------------------------- */

/* The hole of each image of a step. */
static gani_box gani_context_box(gani_recipe *recipe, int hole) {
    const int free_pixels = recipe->model->height - hole;
    const gan_shape each = gan_shape4(recipe->batch, 1, 1, 1), one = gan_shape4(1, 1, 1, 1);
    gan_graph *g = recipe->graph;
    gani_box box;
    box.width = box.height = gan_constant(g, one, (float)hole);
    if (gani_context_is_random(recipe)) {
        box.left = gan_reshape(g, gani_feed_classes(recipe, "left", free_pixels + 1), each);
        box.top = gan_reshape(g, gani_feed_classes(recipe, "top", free_pixels + 1), each);
    } else {
        box.left = box.top = gan_constant(g, one, (float)(free_pixels / 2));
    }
    return box;
}

/* The middle side x side of x [n,c,h,w]. */
static gan_tensor gani_middle(gan_graph *g, gan_tensor x, int side) {
    const gan_shape shape = gan_tensor_shape(g, x);
    x = gan_slice(g, x, 2, (shape.dim[2] - side) / 2, side);
    return gan_slice(g, x, 3, (shape.dim[3] - side) / 2, side);
}

static void gani_context_train(gani_recipe *recipe) {
    gan_graph *g = recipe->graph;
    const float weight = (float)gani_option(recipe, "rec-weight");
    const gan_optimiser adam = gani_adam(recipe);
    const int side = recipe->model->height, hole = gani_context_hole(recipe);
    gan_tensor real = gani_feed_images(recipe, "real");
    gan_tensor rate_d = gani_feed_rate(recipe, "lr-d", gani_option(recipe, "lr-d"), 1.0, 0.0);
    gan_tensor rate_g = gani_feed_lr(recipe);
    const gani_box box = gani_context_box(recipe, hole);
    gan_tensor mask = gani_mask(g, &box, side, side);

    gan_tensor made = gani_context_generator(recipe, gani_context_hide(g, real, mask));
    const int made_side = gan_tensor_shape(g, made).dim[2];
    gan_tensor target = gani_middle(g, real, made_side);
    gan_tensor d_real = gani_context_discriminator(recipe, target);
    gan_tensor d_made = gani_context_discriminator(recipe, gan_detach(g, made));
    gan_tensor loss_d = gan_add(g, gan_loss_bce(g, d_real, 1.0f), gan_loss_bce(g, d_made, 0.0f));
    gan_minimise(g, loss_d, "discriminator.", rate_d, &adam);

    gan_tensor error = gan_sub(g, made, target);
    error = gani_option(recipe, "rec") == 1.0 ? gan_abs(g, error) : gan_square(g, error);
    if (gani_option(recipe, "overlap") > 0.0) {
        error = gan_mul(g, error, gan_affine(g, gani_middle(g, mask, made_side), -9.0f, 10.0f));
    }
    gan_tensor loss_rec = gan_mean(g, error, GAN_ALL_AXES);
    gan_tensor fooled = gan_loss_bce(g, gani_context_discriminator(recipe, made), 1.0f);
    gan_tensor loss_g = gan_add(g, gan_affine(g, fooled, 1.0f - weight, 0.0f),
                                gan_affine(g, loss_rec, weight, 0.0f));
    gan_minimise(g, loss_g, "generator.", rate_g, &adam);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_report(recipe, "loss_rec", loss_rec);
    gani_end_phase(recipe, "train", 1);
}

/* --- translation ----------------------------------------------------------- */

/* [out,in]: row i weighs elements around place start + (i + 1/2) * step, the first element lying
 * from 0 to 1: linear between two of them, a triangle as wide as the step if that is longer.
 * Beyond the ends it is the last element. */
static gan_tensor gani_resampling(gan_graph *g, int out, int in, gan_tensor start,
                                  gan_tensor step) {
    gan_tensor i = gan_reshape(g, gan_affine(g, gan_iota(g, out), 1.0f, 0.5f), gan_shape2(out, 1));
    gan_tensor at = gan_affine(g, gan_add(g, gan_mul(g, i, step), start), 1.0f, -0.5f);
    gan_tensor distance =
        gan_abs(g, gan_sub(g, gan_clamp(g, at, 0.0f, (float)(in - 1)), gan_iota(g, in)));
    gan_tensor width = gan_maximum(g, step, gan_constant(g, gan_shape0(), 1.0f));
    gan_tensor weights = gan_relu(g, gan_affine(g, gan_div(g, distance, width), -1.0f, 1.0f));
    weights = gan_reshape(g, weights, gan_shape2(out, in));
    return gan_div(g, weights, gan_sum(g, weights, 1u << 1));
}

/* h x w places of x [n,c,...], `step` apart, the first of which begins at (left, top). */
static gan_tensor gani_resample(gan_graph *g, gan_tensor x, int h, int w, gan_tensor left,
                                gan_tensor top, gan_tensor step) {
    const gan_shape shape = gan_tensor_shape(g, x);
    gan_tensor rows = gani_resampling(g, h, shape.dim[2], top, step);
    gan_tensor columns = gani_resampling(g, w, shape.dim[3], left, step);
    return gan_matmul(g, gan_matmul(g, x, rows, 1, 1), columns, 1, 1); /* x' rows', then again */
}

/* Where the window begins: the hole in its middle, but with random holes, which may lie anywhere,
 * within the image as far as it can be. */
static gan_tensor gani_context_start(gani_recipe *recipe, gan_tensor middle, gan_tensor length,
                                     int size) {
    gan_graph *g = recipe->graph;
    gan_tensor start = gan_sub(g, middle, gan_affine(g, length, 0.5f, 0.0f));
    if (gani_context_is_random(recipe)) {
        start = gan_minimum(g, start, gan_affine(g, length, -1.0f, (float)size));
        start = gan_maximum(g, start, gan_constant(g, gan_shape0(), 0.0f));
    }
    return start;
}

static void gani_context_translate(gani_recipe *recipe) {
    const gan_shape one = gan_shape4(1, 1, 1, 1);
    const int h = recipe->height, w = recipe->width, side = recipe->model->height;
    const int hole = gani_context_hole(recipe), usual = (h < w ? h : w) * hole / side;
    gan_graph *g = recipe->graph;
    gan_tensor image = gani_feed_source(recipe, "image", recipe->model->channels);
    gani_box box, inner;
    box.left = gani_feed_given(recipe, "left", one, (w - usual) / 2);
    box.top = gani_feed_given(recipe, "top", one, (h - usual) / 2);
    box.width = gani_feed_given(recipe, "width", one, usual);
    box.height = gani_feed_given(recipe, "height", one, usual);
    gan_tensor mask = gani_mask(g, &box, h, w);

    gan_tensor longest = gan_maximum(g, box.width, box.height);
    longest = gan_maximum(g, longest, gan_constant(g, one, 1.0f));
    gan_tensor step = gan_div(g, longest, gan_constant(g, one, (float)hole)); /* image to window */
    gan_tensor length = gan_affine(g, step, (float)side, 0.0f);
    gan_tensor x = gan_add(g, box.left, gan_affine(g, box.width, 0.5f, 0.0f));
    gan_tensor y = gan_add(g, box.top, gan_affine(g, box.height, 0.5f, 0.0f));
    gan_tensor left = gani_context_start(recipe, x, length, w);
    gan_tensor top = gani_context_start(recipe, y, length, h);
    gan_tensor window = gani_context_hide(g, image, mask);
    window = gani_resample(g, window, side, side, left, top, step);

    inner.width = inner.height = gan_constant(g, one, (float)hole);
    inner.left = gan_affine(g, gan_div(g, gan_sub(g, x, left), step), 1.0f, -0.5f * (float)hole);
    inner.top = gan_affine(g, gan_div(g, gan_sub(g, y, top), step), 1.0f, -0.5f * (float)hole);
    window = gani_context_hide(g, window, gani_mask(g, &inner, side, side));
    gan_tensor made = gani_context_generator(recipe, window);

    const float rim = (float)(side - gan_tensor_shape(g, made).dim[2]) / 2.0f;
    gan_tensor back = gan_div(g, gan_constant(g, one, 1.0f), step);
    left = gan_affine(g, gan_mul(g, left, back), -1.0f, -rim);
    top = gan_affine(g, gan_mul(g, top, back), -1.0f, -rim);
    made = gani_resample(g, made, h, w, left, top, back);
    gani_images(recipe, gani_blend(g, image, made, mask));
}

static const gani_system gani_context = {
    {"context-encoder", "Context Encoder: fills the hole of an image",
     "Pathak et al. 2016, arXiv:1604.07379", 128, 128, 3, 64, gani_context_options,
     sizeof gani_context_options / sizeof gani_context_options[0], 1, 1, 0},
    gani_context_train,
    NULL,
    gani_context_translate,
    NULL};

/* ============================================================================
 * >>cogan  8.31  COUPLED GAN (Liu and Tuzel 2016, arXiv:1606.07536)
 *
 * Two GANs, one for each of two kinds of images, of which no pairs are known. Their generators see
 * the same noise and share all layers but the last, which draw: so that one noise becomes one thing
 * seen in two ways. The discriminators share all layers but the first.
 *
 *     loss_d = sum over both kinds of (BCE(D(x), 1) + BCE(D(G(z)), 0)) / 2
 *     loss_g = sum over both kinds of  BCE(D(G(z')), 1) / 2,    z' drawn anew, D after its update
 *
 * network=conv: networks, names, initial values and order of mingyuliutw/CoGAN, cogan_pytorch/src,
 * which are for images of 28 x 28. Differs from it: at other sizes G doubles a map as >>dcgan does,
 * and draws with a 3x3 convolution; D pools until at most 7 x 7 are left. network=mlp: perceptrons
 * as in eriklindernoren/Keras-GAN, cogan/cogan.py, but D's first layer is what is not shared (there
 * it is its last). What a rotation moves by more than a kernel's width only this can draw.
 * private-g and private-d: how many layers are not shared.
 * ========================================================================= */

static const gan_option gani_cogan_options[] = {
    {"network", "convolutions, or perceptrons", "conv mlp", 0, 0, 1, 1},
    {"z", "numbers in the noise", NULL, 100, 1, 65536, 1},
    {"ngf", "conv: channels of the generator's outermost stage", NULL, 128, 1, 512, 1},
    {"ndf", "conv: channels of the discriminator's first stage", NULL, 20, 2, 512, 1},
    {"private-g", "last layers of the generators that are not shared", NULL, 1, 0, 4, 1},
    {"private-d", "first layers of the discriminators that are not shared", NULL, 1, 0, 3, 1},
    {"weight-decay", "share of each weight that is added to its gradient", NULL, 5e-4, 0, 1, 0},
    {"lr", "learning rate", NULL, 2e-4, 0, 10, 0},
    {"beta1", "Adam: decay of the mean", NULL, 0.5, 0, 0.9999, 0},
    {"beta2", "Adam: decay of the variance", NULL, 0.999, 0, 0.999999, 0},
};

static int gani_cogan_is_mlp(const gani_recipe *recipe) {
    return gani_option(recipe, "network") == 1.0;
}

/* A layer's name: "dconv3", or of one kind alone, "dconv3_a". */
typedef struct gani_cogan_text {
    char text[24];
} gani_cogan_text;

static gani_cogan_text gani_cogan_name(const char *stem, int index, const char *kind) {
    gani_cogan_text name;
    snprintf(name.text, sizeof name.text, "%s%d%s", stem, index, kind);
    return name;
}

/* Weights uniform of variance 4/(fan in + fan out), biases 0.1. */
static gan_layer_desc gani_cogan_desc(gan_init *weight, int in, int out, int kernel) {
    static const gan_init bias = {GAN_INIT_CONSTANT, 0.1f, 0.0f};
    const double bound = sqrt(12.0 / ((double)(in + out) * kernel * kernel));
    gan_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    *weight = gani_init(GAN_INIT_UNIFORM, -bound, bound);
    desc.weight_init = weight;
    desc.bias_init = &bias;
    return desc;
}

static int gani_cogan_is_28(const gani_recipe *recipe) {
    return recipe->model->height == 28 && recipe->model->width == 28;
}

/* Maps of G: 4, 7, 13, 25 (then 28), or doublings. */
static gani_dcgan_stages gani_cogan_stages(const gani_recipe *recipe) {
    const gani_dcgan_stages of_28 = {3, 4};
    return gani_cogan_is_28(recipe) ? of_28 : gani_dcgan_count(recipe);
}

/* How many layers G has, and D. */
static int gani_cogan_g_count(const gani_recipe *recipe) {
    return gani_cogan_is_mlp(recipe) ? 4 : gani_cogan_stages(recipe).count + 2;
}

static int gani_cogan_d_count(const gani_recipe *recipe) {
    int count = 2;
    for (int side = recipe->model->height; side > 7; side = (side - 4) / 2) {
        count++;
    }
    return gani_cogan_is_mlp(recipe) ? 3 : count;
}

/* Layer i of G: transposed convolution, batch norm without parameters, PReLU; the last one draws
 * images of `channels`. kind: "_a", "_b", or "" where both share it. */
static gan_tensor gani_cogan_deconv(gani_recipe *recipe, gan_tensor x, int i, const char *kind,
                                    int channels) {
    const gani_dcgan_stages stages = gani_cogan_stages(recipe);
    const int last = i > stages.count, twice = i > 0 && !last, is_28 = gani_cogan_is_28(recipe);
    const int kernel = twice ? (is_28 ? 3 : 4) : i == 0 ? stages.base : is_28 ? 6 : 3;
    const int ngf = (int)gani_option(recipe, "ngf");
    const int out = last ? channels : gani_dcgan_channels(ngf, stages.count - i);
    gan_graph *g = recipe->graph;
    gan_norm_desc norm;
    gan_init weight;
    const gan_layer_desc desc =
        gani_cogan_desc(&weight, gan_tensor_shape(g, x).dim[1], out, kernel);
    x = gan_layer_conv_transpose(g, gani_cogan_name("dconv", i, kind).text, x, out, kernel,
                                 twice ? 2 : 1, i > 0, &desc);
    if (last) {
        return gan_affine(g, gan_sigmoid(g, x), 2.0f, -1.0f);
    }
    memset(&norm, 0, sizeof norm);
    norm.no_affine = 1;
    x = gan_layer_batch_norm(g, gani_cogan_name("bn", i, kind).text, x, &norm);
    return gan_layer_prelu(g, gani_cogan_name("prelu", i, kind).text, x, 0);
}

/* The same as a perceptron: z - 256 - 512 - 1024 - pixels. */
static gan_tensor gani_cogan_dense(gani_recipe *recipe, gan_tensor x, int i, const char *kind,
                                   int channels) {
    const int last = i == 3, h = recipe->model->height, w = recipe->model->width;
    gan_graph *g = recipe->graph;
    x = gan_layer_linear(g, gani_cogan_name("dense", i, kind).text, x,
                         last ? channels * h * w : 256 << i, NULL);
    if (last) {
        return gan_reshape(g, gan_tanh(g, x), gan_shape4(recipe->batch, channels, h, w));
    }
    return gan_layer_batch_norm(g, gani_cogan_name("bn", i, kind).text, gan_leaky_relu(g, x, 0.2f),
                                NULL);
}

/* Layer i of D: 5x5 convolution, pooling, while the map is large; a convolution over all of it,
 * PReLU; two logits, fake and real, of which the difference [n,1] counts. */
static gan_tensor gani_cogan_conv(gani_recipe *recipe, gan_tensor x, int i, const char *kind) {
    const int ndf = (int)gani_option(recipe, "ndf"), last = i == gani_cogan_d_count(recipe) - 1;
    gan_graph *g = recipe->graph;
    const gan_shape shape = gan_tensor_shape(g, x);
    const int pools = shape.dim[2] > 7, kernel = pools ? 5 : shape.dim[2];
    const int out = last ? 2 : !pools ? 25 * ndf : i == 0 ? ndf : (5 * ndf / 2) << (i - 1);
    gan_init weight;
    const gan_layer_desc desc = gani_cogan_desc(&weight, shape.dim[1], out, kernel);
    x = gan_layer_conv(g, gani_cogan_name("conv", i, kind).text, x, out, kernel, 1, 0, &desc);
    if (last) {
        return gan_reshape(g, gan_sub(g, gan_slice(g, x, 1, 1, 1), gan_slice(g, x, 1, 0, 1)),
                           gan_shape2(shape.dim[0], 1));
    }
    return pools ? gan_max_pool(g, x, 2, 2, 0)
                 : gan_layer_prelu(g, gani_cogan_name("prelu", i, kind).text, x, 0);
}

/* The same as a perceptron: pixels - 512 - 256 - 1. */
static gan_tensor gani_cogan_judge(gani_recipe *recipe, gan_tensor x, int i, const char *kind) {
    static const int units[] = {512, 256, 1};
    gan_graph *g = recipe->graph;
    const gan_shape shape = gan_tensor_shape(g, x);
    x = gan_reshape(g, x, gan_shape2(shape.dim[0], (int)gan_shape_count(shape) / shape.dim[0]));
    x = gan_layer_linear(g, gani_cogan_name("dense", i, kind).text, x, units[i], NULL);
    return i == 2 ? x : gan_leaky_relu(g, x, 0.2f);
}

/* Images of both kinds, from the same noise. */
typedef struct gani_couple {
    gan_tensor kind[2];
} gani_couple;

static const char *const gani_couple_suffix[] = {"_a", "_b"};

static gani_couple gani_cogan_generator(gani_recipe *recipe, gan_tensor z) {
    gan_tensor (*const layer)(gani_recipe *, gan_tensor, int, const char *, int) =
        gani_cogan_is_mlp(recipe) ? gani_cogan_dense : gani_cogan_deconv;
    const int channels[] = {recipe->model->channels, recipe->model->channels_b};
    const int count = gani_cogan_g_count(recipe);
    const int shared = count - (int)gani_option(recipe, "private-g");
    gan_graph *g = recipe->graph;
    gani_couple made;
    gan_tensor x =
        gani_cogan_is_mlp(recipe)
            ? z
            : gan_reshape(g, z, gan_shape4(recipe->batch, gan_tensor_shape(g, z).dim[1], 1, 1));
    gan_graph_push(g, "generator");
    for (int i = 0; i < shared; i++) {
        x = layer(recipe, x, i, "", 0);
    }
    for (int k = 0; k < 2; k++) {
        made.kind[k] = x;
        for (int i = shared > 0 ? shared : 0; i < count; i++) {
            made.kind[k] = layer(recipe, made.kind[k], i, gani_couple_suffix[k], channels[k]);
        }
    }
    gan_graph_pop(g);
    return made;
}

/* Scores [2 batch,1], here logits: those of the first kind, then those of the second. */
static gan_tensor gani_cogan_discriminator(gani_recipe *recipe, gani_couple images) {
    gan_tensor (*const layer)(gani_recipe *, gan_tensor, int, const char *) =
        gani_cogan_is_mlp(recipe) ? gani_cogan_judge : gani_cogan_conv;
    const int alone = (int)gani_option(recipe, "private-d"), count = gani_cogan_d_count(recipe);
    gan_graph *g = recipe->graph;
    gan_graph_push(g, "discriminator");
    for (int k = 0; k < 2; k++) {
        images.kind[k] = gan_affine(g, images.kind[k], 0.5f, 0.5f);
        for (int i = 0; i < alone && i < count; i++) {
            images.kind[k] = layer(recipe, images.kind[k], i, gani_couple_suffix[k]);
        }
    }
    gan_tensor x = gan_concat(g, images.kind, 2, 0);
    for (int i = alone; i < count; i++) {
        x = layer(recipe, x, i, "");
    }
    gan_graph_pop(g);
    return x;
}

static void gani_cogan_train(gani_recipe *recipe) {
    gan_graph *g = recipe->graph;
    gan_optimiser adam = gani_adam(recipe);
    gani_couple real, fake;
    adam.weight_decay = (float)gani_option(recipe, "weight-decay");
    real.kind[0] = gani_feed_part(recipe, "real_a", 0, recipe->model->channels);
    real.kind[1] = gani_feed_part(recipe, "real_b", 1, recipe->model->channels_b);
    gan_tensor z = gani_feed_z(recipe, "z"), z_g = gani_feed_z(recipe, "z_g");
    gan_tensor rate = gani_feed_lr(recipe);

    fake = gani_cogan_generator(recipe, z);
    fake.kind[0] = gan_detach(g, fake.kind[0]);
    fake.kind[1] = gan_detach(g, fake.kind[1]);
    gan_tensor d_real = gani_cogan_discriminator(recipe, real);
    gan_tensor d_fake = gani_cogan_discriminator(recipe, fake);
    gan_tensor loss_d = gan_add(g, gan_loss_bce(g, d_real, 1.0f), gan_loss_bce(g, d_fake, 0.0f));
    gan_minimise(g, loss_d, "discriminator.", rate, &adam);

    fake = gani_cogan_generator(recipe, z_g);
    gan_tensor loss_g = gan_loss_bce(g, gani_cogan_discriminator(recipe, fake), 1.0f);
    gan_minimise(g, loss_g, "generator.", rate, &adam);
    gani_report(recipe, "loss_d", loss_d);
    gani_report(recipe, "loss_g", loss_g);
    gani_end_phase(recipe, "train", 1);
}

/* Pairs side by side; grey becomes colour beside colour. */
static void gani_cogan_sample(gani_recipe *recipe) {
    const gan_model *model = recipe->model;
    const int channels = model->channels > model->channels_b ? model->channels : model->channels_b;
    const gan_shape shape = gan_shape4(recipe->batch, channels, model->height, model->width);
    gani_couple made = gani_cogan_generator(recipe, gani_feed_z(recipe, "z"));
    for (int k = 0; k < 2; k++) {
        made.kind[k] = gan_broadcast(recipe->graph, made.kind[k], shape);
    }
    gani_images(recipe, gan_concat(recipe->graph, made.kind, 2, 3));
}

static const gani_system gani_cogan = {
    {"cogan", "Coupled GAN: draws the same thing in two kinds of images",
     "Liu and Tuzel 2016, arXiv:1606.07536", 28, 28, 1, 64, gani_cogan_options,
     sizeof gani_cogan_options / sizeof gani_cogan_options[0], 2, 0, 0},
    gani_cogan_train,
    gani_cogan_sample,
    NULL,
    NULL};

/* ============================================================================
 * >>systems  8.19  THE TABLE OF SYSTEMS; CREATING, LOADING
 *
 * Holds:  the list of rows, and the functions that choose one by name.
 * Uses:   >>models and the sections of the systems.
 * ========================================================================= */

static const gani_system *const gani_systems[] = {
    &gani_gan,     &gani_dcgan,    &gani_lsgan,     &gani_wgan,    &gani_wgan_gp,
    &gani_cgan,    &gani_acgan,    &gani_pix2pixhd, &gani_pix2pix, &gani_cyclegan,
    &gani_dualgan, &gani_discogan, &gani_context,   &gani_cogan};
#define GANI_SYSTEM_COUNT ((int)(sizeof gani_systems / sizeof gani_systems[0]))

GAN_API const gan_system *gan_system_at(int index) {
    return index >= 0 && index < GANI_SYSTEM_COUNT ? &gani_systems[index]->info : NULL;
}

static const gani_system *gani_find_system(const char *name) {
    for (int i = 0; i < GANI_SYSTEM_COUNT; i++) {
        if (name && strcmp(gani_systems[i]->info.name, name) == 0) {
            return gani_systems[i];
        }
    }
    return NULL;
}

GAN_API const gan_system *gan_system_find(const char *name) {
    const gani_system *system = gani_find_system(name);
    return system ? &system->info : NULL;
}

GAN_API gan_model_desc gan_model_defaults(const char *name) {
    const gan_system *system = gan_system_find(name);
    gan_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.system = name;
    if (system) {
        desc.height = system->height;
        desc.width = system->width;
        desc.channels = system->channels;
        desc.batch = system->batch;
    }
    return desc;
}

GAN_API gan_status gan_model_create(gan_model **out, gan_context *ctx, const gan_model_desc *desc) {
    const gani_system *system = gani_find_system(desc->system);
    *out = NULL;
    if (!system) {
        char known[256] = "";
        size_t used = 0;
        for (int i = 0; i < GANI_SYSTEM_COUNT && used < sizeof known; i++) {
            used += (size_t)snprintf(known + used, sizeof known - used, " %s",
                                     gani_systems[i]->info.name);
        }
        return gani_error(ctx, GAN_ERR_ARGUMENT, "no system \"%s\"; there are:%s",
                          desc->system ? desc->system : "", known);
    }
    return gani_model_create(out, ctx, system, desc);
}

/* Sizes, seed and options of a checkpoint, changed as `change` says. options: the caller's, to be
 * freed. */
static gan_status gani_read_desc(gan_model_desc *desc, char **options, gan_context *ctx,
                                 const gan_checkpoint *checkpoint, const gan_model_desc *change) {
    static const char *const keys[] = {"height", "width", "channels", "batch", "channels_b"};
    int *const fields[] = {&desc->height, &desc->width, &desc->channels, &desc->batch,
                           &desc->channels_b};
    const int known = gan_checkpoint_text(checkpoint, "channels_b") ? 5 : 4; /* not in old files */
    const char *stored = gan_checkpoint_text(checkpoint, "options");
    const char *changed = change->options ? change->options : "";
    *desc = *change;
    desc->system = gan_checkpoint_text(checkpoint, "system");
    if (!desc->system || !stored) {
        return gani_error(ctx, GAN_ERR_FORMAT,
                          "not a checkpoint of a model: no system among its texts");
    }
    gan_status status = GAN_OK;
    uint64_t value = 0;
    for (int i = 0; i < known && status == GAN_OK; i++) {
        status = *fields[i] ? GAN_OK : gani_text_value(checkpoint, keys[i], &value);
        *fields[i] = *fields[i] ? *fields[i] : (int)(value < INT_MAX ? value : INT_MAX);
    }
    if (status == GAN_OK && !desc->seed) {
        status = gani_text_value(checkpoint, "params.seed", &desc->seed);
    }
    const size_t size = strlen(stored) + strlen(changed) + 2;
    *options = status == GAN_OK ? (char *)gani_alloc(ctx, size) : NULL;
    if (!*options) {
        return status == GAN_OK ? GAN_ERR_MEMORY : status;
    }
    snprintf(*options, size, "%s %s", stored,
             changed); /* of an option named twice the latter counts */
    desc->options = *options;
    return GAN_OK;
}

/* Parameters and step; a model made without training takes what it has. */
static gan_status gani_load_params(gan_model *model, gan_checkpoint *checkpoint, uint64_t seed) {
    gan_load_desc load;
    uint64_t step = 0;
    memset(&load, 0, sizeof load);
    load.weights_only = load.ignore_unknown = model->train == NULL;
    gan_status status = gan_params_load(model->params, checkpoint, &load);
    status = status ? status : gani_text_value(checkpoint, "params.step", &step);
    model->params->step = step;
    model->params->seed = seed;
    return status;
}

GAN_API gan_status gan_model_load(gan_model **out, gan_context *ctx, const char *path,
                                  const gan_model_desc *change) {
    gan_checkpoint *checkpoint = NULL;
    gan_model *model = NULL;
    gan_model_desc none, desc;
    char *options = NULL;
    memset(&none, 0, sizeof none);
    *out = NULL;
    gan_status status = gan_checkpoint_open(&checkpoint, ctx, path);
    if (status == GAN_OK) {
        status = gani_read_desc(&desc, &options, ctx, checkpoint, change ? change : &none);
    }
    if (status == GAN_OK) {
        status = gan_model_create(&model, ctx, &desc);
    }
    if (status == GAN_OK) {
        status = gani_load_params(model, checkpoint, desc.seed);
    }
    if (status == GAN_OK) {
        *out = model;
    } else {
        gan_model_destroy(model);
    }
    gani_free(ctx, options);
    gan_checkpoint_close(checkpoint);
    return status;
}

GAN_API gan_status gan_model_start(gan_model *model, const char *path) {
    gan_checkpoint *checkpoint = NULL;
    gan_load_desc load;
    memset(&load, 0, sizeof load);
    load.weights_only = load.partial = 1;
    gan_status status = gan_checkpoint_open(&checkpoint, model->ctx, path);
    status = status ? status : gan_params_load(model->params, checkpoint, &load);
    gan_checkpoint_close(checkpoint);
    return status;
}

#endif /* !GANI_INSTANCE */
#endif /* GAN_IMPLEMENTATION */

/* MIT License
 *
 * Copyright (c) 2026 the gan.h authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute,
 * sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or
 * substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
