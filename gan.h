/* gan.h - v0.1.0 - generative adversarial networks in plain C, one header file. MIT licence, text at the end.
 *
 * >>manual is written last, from what is true; see the contents below for the floors.
 *
 * CONTENTS (search for the tag)
 *
 *   0     >>manual        what it is, quick start, limits, options, memory, threads, errors, formats
 *   1.1   >>api-core      statuses, context, hooks, random numbers
 *   1.2   >>api-kernels   instruction sets, matrix product, convolutions, on plain arrays
 *   1.3   >>api-graph     tensors, ops, gradients, programs, parameters
 *   1.4   >>api-layers    layers, losses, optimisers
 *   1.5   >>api-data      images, datasets, checkpoints
 *   1.6   >>api-models    the systems: create, train, sample, save
 *   2     >>platform      errors, memory, threads, processor features, random numbers
 *   3.1   >>simd          the vector macros of each instruction set
 *   3.2   >>kernels-gemm  register-tiled matrix kernels and packing
 *   3.3   >>kernels-vec   vector maths, elementwise, reductions, norms, optimisers
 *   3.4   >>instances     the two sections above, compiled once for each instruction set
 *   4.1   >>gemm          matrix product: blocking, threads
 *   4.2   >>conv          the three convolutions
 *   5.1   >>nodes         what a graph is made of; parameters
 *   5.2   >>ops           the op table: shape, run, gradient
 *   5.3   >>graph         building, gradients
 *   5.4   >>planner       dead code, sharing, fusion, memory; running
 *   6.1   >>layers        networks' building blocks over ops
 *   6.2   >>losses        losses over ops
 *   6.3   >>optimisers    updates over ops
 *   7.1   >>images        PGM, PPM, PAM, PNG; resizing, grids
 *   7.2   >>datasets      folders, lists, IDX, drawn digits
 *   7.3   >>checkpoints   safetensors
 *   8.1   >>models        the model table, training, sampling
 *   8.2   >>gan           Goodfellow et al. 2014
 *   8.3   >>dcgan         Radford et al. 2015
 */

/* While a kernel instance is compiled (>>instances), this file includes itself with GANI_INSTANCE defined, and
 * everything but the kernel sections is skipped. */
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

/* Memory hook. alloc returns at least size_bytes or NULL; any alignment of malloc will do. free gets the
 * size that was asked for. Both NULL: GAN_MALLOC and GAN_FREE. */
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

/* Parallel-for hook: must call task(arg, i) exactly once for every i in [0,count), in any order and on any
 * threads, and return when all are done. NULL: OpenMP where compiled with it, else one thread. */
typedef struct gan_parallel {
    void (*run)(void *user, int count, void (*task)(void *arg, int index), void *arg);
    void *user;
} gan_parallel;

/* A zero field means its default. */
typedef struct gan_context_desc {
    gan_allocator allocator; /* default: GAN_MALLOC, GAN_FREE */
    gan_logger logger;       /* default: silent */
    gan_parallel parallel;   /* default: OpenMP if compiled with it, else none */
    int threads;             /* at most so many tasks at once, 1 to 256; default: all processors with OpenMP, else 1.
                                Results do not depend on it, bit for bit. */
    const char *isa;         /* "scalar", "avx2", "avx512", "neon"; default: environment variable GAN_ISA if set,
                                else the best the processor has */
    int check_finite;        /* 1: a program stops at the first tensor with a NaN or infinity and names it */
} gan_context_desc;

typedef struct gan_context gan_context;

/* Creates a context; desc may be NULL (all defaults). *out is NULL after a failure, so that only the fixed text
 * of the status is left to show. GAN_ERR_ARGUMENT: threads out of range; GAN_ERR_UNSUPPORTED: an instruction set that is not
 * compiled in or that the processor lacks. */
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

/* Instruction sets compiled in, best first; NULL past the end. gan_isa_available: 1 if this processor runs it. */
GAN_API const char *gan_isa_name(int index);
GAN_API int gan_isa_available(const char *name);

/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011). Element i of a stream is a
 * pure function of (seed, stream, i), so a sequence may be drawn in any order and by any number of threads.
 * Writes elements first ... first+count-1 to out. uniform: [0,1), multiples of 2^-24. normal: mean 0, variance 1
 * (Box and Muller 1958), |x| < 6.7. permutation: of 0 ... count-1, each equally likely. */
GAN_API void gan_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, float *out, size_t count);
GAN_API void gan_random_normal(uint64_t seed, uint64_t stream, uint64_t first, float *out, size_t count);
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
    int out_pad_h, out_pad_w;   /* [0] transposed only: extra rows below, columns at the right; < stride or dilation */
    int groups;                 /* [1] */
    int reflect;                /* [0] 1: padding mirrors the image without repeating the edge; pad < size */
} gan_conv_desc;

/* ============================================================================
 * >>api-kernels  1.2  MATRIX PRODUCT AND CONVOLUTIONS ON PLAIN ARRAYS
 * ========================================================================= */

/* ============================================================================
 * >>api-graph  1.3  TENSORS, OPS, GRADIENTS, PROGRAMS, PARAMETERS
 *
 * A graph is a list of tensors in the order they were made; each names its op and its
 * sources. gan_grad appends the tensors of a gradient to the same list, so a gradient can be
 * differentiated again. A program is a part of the list made ready to run: what nothing
 * needs is dropped, equal subexpressions are shared, activations are fused, and all
 * intermediates are laid out in one arena.
 *
 * All values are float32. Labels and indices are floats that hold whole numbers.
 *
 * Errors while building stick: the first one is kept in graph and context, the failing call and all
 * later ones return the null tensor {0}. Check once: gan_graph_status, or gan_program_create.
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
/* Number of elements; 0 if the shape is not valid or the product overflows. */
GAN_API size_t gan_shape_count(gan_shape shape);

typedef struct gan_params gan_params;
typedef struct gan_graph gan_graph;
typedef struct gan_program gan_program;

/* A tensor of one graph; id 0 is "none": an optional source left out, or the result of a failed call. */
typedef struct gan_tensor {
    int id;
} gan_tensor;

/* How a parameter starts. Drawn from the store's seed and the parameter's name, so the order of creation does not matter. */
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
    float *data; /* owned by the store; may be read and written between runs */
} gan_param_info;

/* The store of named parameters. Several graphs may share one (training, sampling with another batch);
 * the same name is the same parameter. It also holds what else a run needs to be repeated: seed and step. */
GAN_API gan_status gan_params_create(gan_params **out, gan_context *ctx, uint64_t seed);
GAN_API void gan_params_destroy(gan_params *params);
GAN_API int gan_params_count(const gan_params *params);
/* index in creation order; data is NULL past the end. */
GAN_API gan_param_info gan_params_at(const gan_params *params, int index);
/* data is NULL if there is no such name. */
GAN_API gan_param_info gan_params_find(const gan_params *params, const char *name);
/* The counter that random ops (dropout, noise) take beside the seed; set it before each training step. */
GAN_API void gan_params_set_step(gan_params *params, uint64_t step);
GAN_API uint64_t gan_params_step(const gan_params *params);
GAN_API uint64_t gan_params_seed(const gan_params *params);

/* Graphs. ctx and params must outlive the graph; programs must be destroyed before it. */
GAN_API gan_status gan_graph_create(gan_graph **out, gan_context *ctx, gan_params *params);
GAN_API void gan_graph_destroy(gan_graph *graph);
GAN_API gan_status gan_graph_status(const gan_graph *graph);
/* Names made between push and pop get "name." in front; scopes nest. */
GAN_API void gan_graph_push(gan_graph *graph, const char *name);
GAN_API void gan_graph_pop(gan_graph *graph);
GAN_API gan_shape gan_tensor_shape(const gan_graph *graph, gan_tensor x);

/* Leaves. An input has memory of its own for the caller to fill (gan_input_data). A parameter that exists
 * already must have the same shape; otherwise it is created and initialised. */
GAN_API gan_tensor gan_input(gan_graph *graph, const char *name, gan_shape shape);
GAN_API float *gan_input_data(gan_graph *graph, gan_tensor input);
GAN_API gan_tensor gan_param(gan_graph *graph, const char *name, gan_shape shape, gan_param_kind kind, gan_init init);
GAN_API gan_tensor gan_constant(gan_graph *graph, gan_shape shape, float value);

/* Elementwise. Binary ops broadcast as NumPy does: shapes align at the right, extent 1 stretches. */
GAN_API gan_tensor gan_add(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_sub(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_mul(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_div(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_maximum(gan_graph *graph, gan_tensor a, gan_tensor b); /* where equal, the gradient goes to a */
GAN_API gan_tensor gan_minimum(gan_graph *graph, gan_tensor a, gan_tensor b);
GAN_API gan_tensor gan_greater(gan_graph *graph, gan_tensor a, gan_tensor b); /* a > b ? 1 : 0; gradient 0 */
GAN_API gan_tensor gan_affine(gan_graph *graph, gan_tensor x, float scale, float shift); /* scale*x + shift */
GAN_API gan_tensor gan_square(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_sqrt(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_rsqrt(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_exp(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_log(gan_graph *graph, gan_tensor x);
GAN_API gan_tensor gan_abs(gan_graph *graph, gan_tensor x); /* gradient sign(x), 0 at 0 */
GAN_API gan_tensor gan_sign(gan_graph *graph, gan_tensor x); /* -1, 0, 1; gradient 0 */
GAN_API gan_tensor gan_softplus(gan_graph *graph, gan_tensor x); /* log(1+exp(x)), without overflow */
GAN_API gan_tensor gan_clamp(gan_graph *graph, gan_tensor x, float low, float high);
GAN_API gan_tensor gan_activate(gan_graph *graph, gan_tensor x, gan_activation kind, float slope);
GAN_API gan_tensor gan_bce_logits(gan_graph *graph, gan_tensor logit, gan_tensor target); /* elementwise, max(l,0) - l*t + log(1+exp(-|l|)) */
/* x > 0 ? x : slope[c]*x; slope [1] or [channels], channels being axis 1. He et al. 2015, arXiv:1502.01852. */
GAN_API gan_tensor gan_prelu(gan_graph *graph, gan_tensor x, gan_tensor slope);

/* Reductions over the axes whose bits are set (bit 0: outermost); reduced axes keep extent 1. GAN_ALL_AXES gives a scalar (rank 0). */
GAN_API gan_tensor gan_sum(gan_graph *graph, gan_tensor x, unsigned axes);
GAN_API gan_tensor gan_mean(gan_graph *graph, gan_tensor x, unsigned axes);
GAN_API gan_tensor gan_max_over(gan_graph *graph, gan_tensor x, unsigned axes); /* gradient to the first maximum */
GAN_API gan_tensor gan_broadcast(gan_graph *graph, gan_tensor x, gan_shape shape);

/* Shape. */
GAN_API gan_tensor gan_reshape(gan_graph *graph, gan_tensor x, gan_shape shape);
GAN_API gan_tensor gan_permute(gan_graph *graph, gan_tensor x, const int *axes); /* result axis i is x's axis axes[i]; rank entries */
GAN_API gan_tensor gan_concat(gan_graph *graph, const gan_tensor *parts, int count, int axis);
GAN_API gan_tensor gan_slice(gan_graph *graph, gan_tensor x, int axis, int start, int count);
GAN_API gan_tensor gan_pad(gan_graph *graph, gan_tensor x, int axis, int before, int after); /* zeros */
GAN_API gan_tensor gan_pad_reflect(gan_graph *graph, gan_tensor x, int pad_h, int pad_w);    /* last two axes, both sides */
GAN_API gan_tensor gan_detach(gan_graph *graph, gan_tensor x); /* same values, no gradient */

/* Linear algebra. matmul: the last two axes; leading axes equal (or absent on b). dense: x [n,in], w [out,in], bias [out] or none. */
GAN_API gan_tensor gan_matmul(gan_graph *graph, gan_tensor a, gan_tensor b, int transpose_a, int transpose_b);
GAN_API gan_tensor gan_linear(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias);

/* Convolutions: x [n,c,h,w]; w [o,c/groups,kh,kw], transposed [c,o/groups,kh,kw]; bias [o] or none. desc NULL: all defaults. */
GAN_API gan_tensor gan_conv2d(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias, const gan_conv_desc *desc);
GAN_API gan_tensor gan_conv2d_transpose(gan_graph *graph, gan_tensor x, gan_tensor w, gan_tensor bias, const gan_conv_desc *desc);

/* Pooling of [n,c,h,w] with a square window. average: count_pad 1 divides by k*k everywhere (PyTorch count_include_pad). */
GAN_API gan_tensor gan_avg_pool(gan_graph *graph, gan_tensor x, int kernel, int stride, int pad, int count_pad);
GAN_API gan_tensor gan_max_pool(gan_graph *graph, gan_tensor x, int kernel, int stride, int pad);
GAN_API gan_tensor gan_upsample(gan_graph *graph, gan_tensor x, int factor); /* nearest neighbour */

/* Statistics and normalisation of x [n,c,...]. A group shares one mean and variance. */
typedef enum gan_norm_kind {
    GAN_NORM_BATCH,    /* one group per channel: c groups */
    GAN_NORM_INSTANCE, /* one per sample and channel: n*c groups */
    GAN_NORM_LAYER     /* one per sample: n groups */
} gan_norm_kind;
/* [2,groups]: means, biased variances. */
GAN_API gan_tensor gan_moments(gan_graph *graph, gan_tensor x, gan_norm_kind kind);
/* (x - mean)/sqrt(var + eps) * scale[c] + shift[c]; scale and shift [c] or none. moments is gan_moments(x, kind), whose gradient is
 * then included, or any other [2,groups], e.g. running statistics. */
GAN_API gan_tensor gan_normalize(gan_graph *graph, gan_tensor x, gan_tensor moments, gan_tensor scale, gan_tensor shift,
                                 gan_norm_kind kind, float eps);

/* Classes and indices. idx holds whole numbers as floats; out of range is GAN_ERR_NUMERIC when run. */
GAN_API gan_tensor gan_softmax(gan_graph *graph, gan_tensor x);     /* over the last axis */
GAN_API gan_tensor gan_log_softmax(gan_graph *graph, gan_tensor x); /* over the last axis */
GAN_API gan_tensor gan_one_hot(gan_graph *graph, gan_tensor idx, int classes); /* [...] -> [...,classes] */
GAN_API gan_tensor gan_gather_rows(gan_graph *graph, gan_tensor table, gan_tensor idx); /* [rows,dim], [n] -> [n,dim]; embedding */
GAN_API gan_tensor gan_scatter_rows(gan_graph *graph, gan_tensor x, gan_tensor idx, int rows); /* [n,dim], [n] -> [rows,dim], adding */

/* Random. Each call is a stream of its own; values depend on (seed, step, stream, element). */
GAN_API gan_tensor gan_dropout(gan_graph *graph, gan_tensor x, float p, int channelwise); /* scaled by 1/(1-p) */
GAN_API gan_tensor gan_noise_normal(gan_graph *graph, gan_shape shape);
GAN_API gan_tensor gan_noise_uniform(gan_graph *graph, gan_shape shape);

/* Effects: ops that write a parameter. They belong to the next program made from this graph and happen in list order: tensors
 * made later see the new value, in that program. */
GAN_API void gan_assign(gan_graph *graph, gan_tensor param, gan_tensor value);
/* param += weight * (value - param): running statistics, weight averages. */
GAN_API void gan_assign_lerp(gan_graph *graph, gan_tensor param, gan_tensor value, float weight);

/* Gradients of a scalar (one element) in each of wrt, appended to the graph: out[i] has the shape of wrt[i] (zeros if loss does not
 * depend on it). GAN_ERR_STATE if a parameter on the way has been written since the loss was built. */
GAN_API gan_status gan_grad(gan_graph *graph, gan_tensor loss, const gan_tensor *wrt, int count, gan_tensor *out);

/* Programs. outputs are kept readable after a run (until the next run of any program of this graph). The effects
 * recorded since the last program are part of this one. */
GAN_API gan_status gan_program_create(gan_program **out, gan_graph *graph, const char *name, const gan_tensor *outputs, int count);
GAN_API void gan_program_destroy(gan_program *program);
/* Runs it. GAN_ERR_NUMERIC names the tensor: an index out of range, or (check_finite) a value that is not finite. */
GAN_API gan_status gan_program_run(gan_program *program);
/* Values of an output; NULL if the tensor is not one. */
GAN_API const float *gan_program_output(const gan_program *program, gan_tensor output);

typedef struct gan_program_info {
    int ops;                /* that will run */
    size_t arena_bytes;     /* intermediates; programs of one graph share one arena, the largest counts */
    size_t workspace_bytes; /* scratch of the largest op; shared by the context */
    size_t input_bytes;
    size_t param_bytes;  /* parameters that it reads or writes */
    double multiply_adds; /* of matrix products and convolutions, direct counting */
} gan_program_info;
GAN_API gan_program_info gan_program_get_info(const gan_program *program);

/* ============================================================================
 * >>api-layers  1.4  LAYERS, LOSSES, OPTIMISERS
 * ========================================================================= */

/* ============================================================================
 * >>api-data  1.5  IMAGES, DATASETS, CHECKPOINTS
 * ========================================================================= */

/* ============================================================================
 * >>api-models  1.6  THE SYSTEMS: CREATE, TRAIN, SAMPLE, SAVE
 * ========================================================================= */

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
#error "gan.h relies on NaN and infinity; do not compile it with -ffast-math (or define GAN_ALLOW_FAST_MATH)"
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

/* Instruction sets. x86-64 gets AVX2 and AVX-512 by target pragmas, whatever the compiler's -march. */
#if !defined(GAN_NO_SIMD) && (defined(__x86_64__) || defined(_M_X64)) && \
    (defined(__GNUC__) || defined(__clang__) || defined(_MSC_VER))
#define GANI_X86 1
#include <immintrin.h>
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

typedef struct gani_kernels gani_kernels; /* the function table of an instruction set, see >>instances */

struct gan_context {
    gan_allocator allocator;
    gan_logger logger;
    gan_parallel parallel;
    int threads;
    int check_finite;
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

/* Keeps status and message in the context and returns the status, for `return gani_error(ctx, ...)`. */
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

/* a * b, or 0 where that overflows; 0 is never a valid size here, so one check at the end of a chain is enough. */
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

/* Memory is aligned here, so the hook need not: the block starts with padding, and the bytes right before the pointer
 * returned hold the distance back and the size. Contents are not cleared. NULL on failure (also for size 0, which is
 * what overflowed arithmetic gives), with the error set. */
static void *gani_alloc(gan_context *ctx, size_t size_bytes) {
    const size_t extra = GANI_ALIGN + 2 * sizeof(size_t);
    unsigned char *raw = NULL;
    if (size_bytes != 0 && size_bytes <= SIZE_MAX - extra) {
        raw = (unsigned char *)ctx->allocator.alloc(ctx->allocator.user, size_bytes + extra);
    }
    if (!raw) {
        gani_error(ctx, GAN_ERR_MEMORY, "out of memory: %lu bytes asked for", (unsigned long)size_bytes);
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

/* Makes room for at least `need` items in a growing array; keeps the old contents. 1 on success; on failure the array
 * is as before and the error is set. */
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

/* Scratch memory of the drivers: one block a context, valid until the next call. Programs reserve the largest need when
 * they are created, so running them allocates nothing. NULL on failure, error set. */
static void *gani_workspace(gan_context *ctx, size_t size_bytes) {
    if (size_bytes > ctx->workspace_bytes || !ctx->workspace) {
        unsigned char *block = (unsigned char *)gani_alloc(ctx, size_bytes ? size_bytes : GANI_ALIGN);
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

/* Kernels run with denormals flushed to zero (they can cost a hundred times a normal operation, and carry nothing a
 * network needs); the caller's mode is put back. */
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

/* Calls run(arg, i) for every i in [0,count), on up to ctx->threads threads. How work is cut into items must depend on the
 * problem alone, never on the number of threads, so that results are the same bits for any number. A driver that needs
 * scratch per thread makes count = ctx->threads "slots", and each slot walks items slot, slot + count, ... */
static void gani_parallel(gan_context *ctx, int count, void (*run)(void *arg, int index), void *arg) {
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

/* Level 2: AVX2 and FMA; 3: AVX-512 F, DQ, BW and VL as well; the operating system must support them too. */
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

/* Philox4x32-10: ten rounds of two 32x32->64 multiplications; see gan_random_uniform for the paper. */
static void gani_philox(uint64_t key, uint64_t counter_high, uint64_t counter_low, uint32_t out[4]) {
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
static void gani_random_block(uint64_t seed, uint64_t stream, uint64_t block, int normal, float out[4]) {
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

static void gani_random_fill(uint64_t seed, uint64_t stream, uint64_t first, float *out, size_t count, int normal) {
    float four[4];
    for (size_t i = 0; i < count;) {
        unsigned lane = (unsigned)((first + i) & 3u);
        gani_random_block(seed, stream, (first + i) >> 2, normal, four);
        for (; lane < 4 && i < count; lane++, i++) {
            out[i] = four[lane];
        }
    }
}

GAN_API void gan_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, float *out, size_t count) {
    gani_random_fill(seed, stream, first, out, count, 0);
}

GAN_API void gan_random_normal(uint64_t seed, uint64_t stream, uint64_t first, float *out, size_t count) {
    gani_random_fill(seed, stream, first, out, count, 1);
}

GAN_API void gan_random_permutation(uint64_t seed, uint64_t stream, uint32_t *out, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        out[i] = i;
    }
    for (uint32_t i = count; i > 1; i--) { /* Fisher and Yates; the bias of 64-bit multiply-shift is below 2^-32 */
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
 * GANI_ISA_SCALAR, GANI_ISA_AVX2, GANI_ISA_AVX512, GANI_ISA_NEON is, and names made with GANI_FN(name) end in the set's name.
 *
 *   vf, vi, vm          vectors of VW floats, of VW 32-bit integers; masks (result of a comparison)
 *   vf_load vf_store    unaligned;  vf_loadn vf_storen  the first n lanes, 0 <= n <= VW, others load as 0, memory
 *                       beyond is neither read nor written
 *   vf_fma(a,b,c)       a*b + c, rounded once (scalar: twice);  vf_fnma(a,b,c)  c - a*b
 *   vf_max(a,b)         as maxps: b if either is NaN;  vf_min likewise
 *   vf_select(m,a,b)    m ? a : b, lane by lane
 *   vf_toint            nearest, ties to even
 *   vi_asf, vf_asi      same bits
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

#elif defined(GANI_ISA_AVX2)

#define GANI_ISA avx2
#define GANI_ISA_NAME "avx2"
#define VW 8
#define vf __m256
#define vi __m256i
#define vm __m256
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_store(p, a) _mm256_storeu_ps((p), (a))
#define vf_lanes(n) _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
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

static float GANI_FN(gani_hsum)(vf a) {
    float lane[VW], sum = 0.0f;
    vf_store(lane, a);
    for (int width = VW / 2; width > 0; width /= 2) { /* halves added pairwise: fixed order, small error */
        for (int i = 0; i < width; i++) {
            lane[i] += lane[i + width];
        }
    }
    sum = lane[0];
    return sum;
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
#define vf_hsum(a) GANI_FN(gani_hsum)(a)
#define vf_hmax(a) GANI_FN(gani_hmax)(a)

/* ============================================================================
 * >>kernels-gemm  3.2  REGISTER-TILED MATRIX KERNELS AND PACKING
 * ========================================================================= */

/* ============================================================================
 * >>kernels-vec  3.3  VECTOR MATHS, ELEMENTWISE, REDUCTIONS, NORMS, OPTIMISERS
 * ========================================================================= */

/* The table of this instance: the fields of gani_kernels in order. */
static const gani_kernels GANI_FN(gani_kernels) = {
    GANI_ISA_NAME,
    VW,
#define GANI_KERNEL_ENTRY(ret, name, args) GANI_FN(gani_##name),
    GANI_GEMM_KERNELS(GANI_KERNEL_ENTRY)
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
#undef vf_hsum
#undef vf_hmax
#undef GANI_PASTE2
#undef GANI_PASTE
#undef GANI_FN

#endif /* GANI_INSTANCE */

#if !defined(GANI_INSTANCE) && !defined(GANI_IMPLEMENTED_UPPER)
#define GANI_IMPLEMENTED_UPPER

/* ============================================================================
 * >>instances  3.4  THE KERNEL SECTIONS, COMPILED ONCE FOR EACH INSTRUCTION SET
 *
 * Two lists hold the kernels' names and types; from them come the table type and each instance's table. To
 * add a kernel: a row in a list and a function GANI_FN(gani_name) in the kernel section.
 *
 * Holds:  the kernel lists, the choice at run time, the context.
 * Uses:   >>platform  >>simd  >>kernels-gemm  >>kernels-vec        Knows nothing of: tensors.
 * ========================================================================= */

/* X(return type, name, (arguments)) */
#define GANI_GEMM_KERNELS(X)

#define GANI_VEC_KERNELS(X)

struct gani_kernels {
    const char *isa;
    int width; /* floats in a vector */
#define GANI_KERNEL_FIELD(ret, name, args) ret(*name) args;
    GANI_GEMM_KERNELS(GANI_KERNEL_FIELD)
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
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

/* The best instance the processor runs if name is NULL, else the named one; NULL if there is none. */
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
    if (desc->threads < 0 || desc->threads > GANI_MAX_THREADS || !desc->allocator.alloc != !desc->allocator.free) {
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
    ctx->kernels = kernels;
#ifdef _OPENMP
    if (ctx->threads == 0 && !ctx->parallel.run) {
        ctx->threads = omp_get_max_threads() < GANI_MAX_THREADS ? omp_get_max_threads() : GANI_MAX_THREADS;
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
 * ========================================================================= */

/* ============================================================================
 * >>conv  4.2  THE THREE CONVOLUTIONS
 * ========================================================================= */

/* ============================================================================
 * >>nodes  5.1  WHAT A GRAPH IS MADE OF; PARAMETERS
 *
 * A graph is an array of nodes in list order; a tensor is the index of its node (0 is "none", so node 0 is a
 * dummy). A node names its op, its sources, its shape and its attributes; everything that an op needs to know
 * is there, so that equal nodes (same op, sources, attributes) have equal values.
 *
 * A parameter is memory with a name, in a store that several graphs may share. Its node in a graph stands for that
 * memory: an op reads the value that the parameter has when the op's turn comes, so ops that stand before an effect in the
 * list see the old value and ops behind it the new one.
 *
 * Holds:  types of nodes, op rows, parameters, graphs; shapes; the parameter store; adding a node, its label.
 * Uses:   >>platform        Knows nothing of: particular ops.
 * ========================================================================= */

/* Attributes of an op: plain numbers, zero where not used, so that comparing bytes compares attributes. */
typedef struct gani_attr {
    int i[16];
    float f[4];
} gani_attr;

/* Places with the same meaning in every op. */
enum {
    GANI_ATTR_SHAPE = 7,  /* attr.i: rank, then GAN_MAX_RANK extents, of ops whose sources do not determine the shape */
    GANI_ATTR_ALSO = 13,  /* attr.i: store index + 1 of up to two parameters that an effect writes beside node->param */
    GANI_ATTR_ACT = 15,   /* attr.i: gan_activation, of an activation op or folded into another op */
    GANI_ATTR_SLOPE = 3   /* attr.f: its slope */
};

typedef struct gani_node {
    int op;           /* row of the op table */
    int name;         /* offset into graph->text: the scope it was built in (leaves: the full name) */
    int source_first; /* sources are graph->sources[source_first ... +source_count-1], each the id of an earlier node or 0 (left out) */
    int source_count;
    int param;        /* a parameter, or an effect (the first one it writes): index in the store; else -1 */
    gan_shape shape;  /* of an effect: that of the parameter */
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

enum {
    GANI_FLAG_LEAF = 1,       /* holds memory of its own: input, parameter */
    GANI_FLAG_VIEW = 2,       /* same elements in the same order as source 0: no work, shares its memory */
    GANI_FLAG_INPLACE = 4,    /* out may be the memory of source 0, which has the same number of elements; the same */
    GANI_FLAG_INPLACE_1 = 8,  /* for source 1. The planner sees to it that nobody needs the source afterwards. */
    GANI_FLAG_EFFECT = 16,    /* writes parameters; is never dropped or shared, and is nobody's source */
    GANI_FLAG_CONSTANT = 32,  /* without sources, always the same value */
    GANI_FLAG_RANDOM = 64,    /* value depends on seed and step too, and on a stream among the attributes */
    GANI_FLAG_ACT = 128,      /* an activation of source 0, kind and slope in attr at GANI_ATTR_ACT, GANI_ATTR_SLOPE */
    GANI_FLAG_FUSES_ACT = 256 /* the planner may put a following activation into attr at the same places */
};

/* One op. Functions that do not apply are NULL. */
typedef struct gani_op_row {
    const char *name;
    unsigned flags;
    int required; /* so many sources, from the first, may not be left out; checked before shape is called */
    /* Checks sources and attributes, sets node->shape. On a misfit returns gani_error(...) that says what was expected and
     * found; gani_add_node puts the node's label in front. An effect's source 0 is the parameter it writes: its shape function
     * sets node->param and attr.i[GANI_ATTR_ALSO]. Must not add nodes. NULL: leaves. */
    gan_status (*shape)(gan_graph *graph, gani_node *node);
    /* Computes the value. An error is returned as from shape; gan_program_run puts the label in front. NULL: leaves, views. */
    gan_status (*run)(gan_context *ctx, const gani_run *run);
    /* Appends the gradient: dsource[k], {0} on entry, becomes the gradient in source k given dy; it stays {0} where that is zero or
     * not defined. Uses only the public builder functions and gani_add_node, and holds no pointer to a node across them: the array
     * of nodes may move. NULL: gradient zero. */
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
    int *slots; /* hash table over names, open addressing: index + 1, or 0 where free; size a power of two, at most half full */
    int slot_count;
    uint64_t seed, step;
};

#define GANI_MAX_NAME 256 /* bytes of a full name with its final zero */
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
    int scope_depth;  /* scopes[0 ... scope_depth] are open; scopes[0] is the empty one */
    int name_override; /* while a gradient is appended: the name of the node it belongs to; else -1 */
    char label[GANI_MAX_NAME + 64];
    int *param_nodes; /* node of each parameter of the store, 0 if it has none here */
    int param_node_capacity;
    int *effects; /* nodes of effects that belong to the next program */
    int effect_count, effect_capacity;
    int stream_count; /* random ops so far: each is a stream of its own */
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
    return count <= PTRDIFF_MAX / sizeof(float) ? count : 0;
}

static int gani_shape_equal(const gan_shape *a, const gan_shape *b) {
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)(a->rank < 0 ? 0 : a->rank) * sizeof a->dim[0]) == 0;
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
        used += (size_t)snprintf(out.text + used, sizeof out.text - used, i ? ",%d" : "%d", shape->dim[i]);
    }
    snprintf(out.text + used, sizeof out.text - used, "]");
    return out;
}

static gan_status gani_check_shape(gan_context *ctx, const gan_shape *shape) {
    if (gan_shape_count(*shape) == 0) {
        const gani_shape_text text = gani_print_shape(shape);
        return gani_error(ctx, GAN_ERR_SHAPE, "shape %s has an extent below 1, a rank above %d or too many elements", text.text,
                          GAN_MAX_RANK);
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
    while (params->slots[slot] != 0 && strcmp(params->items[params->slots[slot] - 1].name, name) != 0) {
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
    int reserved = gani_grow(params->ctx, &items, &params->capacity, params->count + 1, sizeof *params->items);
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
static gan_status gani_params_add(gan_params *params, const char *name, gan_shape shape, gan_param_kind kind, gan_init init) {
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

/* Keeps the first error of a graph, whose message the context has just got, and returns the status. */
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

/* Appends a text to graph->text; its offset, or -1 when out of memory. */
static int gani_store_text(gan_graph *graph, const char *text, size_t length) {
    void *block = graph->text;
    const int offset = graph->text_size;
    int reserved = length < (size_t)(INT_MAX - offset) &&
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

/* The name of nodes added now: the open scope without its final dot. Stored when first needed. -1 when out of memory. */
static int gani_scope_name(gan_graph *graph) {
    gani_scope *scope = &graph->scopes[graph->scope_depth];
    if (graph->name_override >= 0) {
        return graph->name_override;
    }
    if (scope->name < 0) {
        scope->name = gani_store_text(graph, graph->scope, (size_t)(scope->length ? scope->length - 1 : 0));
    }
    return scope->name;
}

/* "discriminator.main.2 (conv2d)". Valid until the next call for this graph. */
static const char *gani_node_label(gan_graph *graph, const gani_node *node) {
    const char *name = graph->text + node->name;
    const char *op = graph->ops[node->op].name;
    if (name[0]) {
        snprintf(graph->label, sizeof graph->label, "%s (%s)", name, op);
    } else {
        snprintf(graph->label, sizeof graph->label, "%s", op);
    }
    return graph->label;
}

/* Id and node of source k; node 0, of rank -1, where it is left out. */
static gan_tensor gani_source(const gan_graph *graph, const gani_node *node, int k) {
    gan_tensor source;
    source.id = graph->sources[node->source_first + k];
    return source;
}

static const gani_node *gani_source_node(const gan_graph *graph, const gani_node *node, int k) {
    return &graph->nodes[gani_source(graph, node, k).id];
}

/* Appends a node as it stands, with sources that are already in graph->sources. */
static gan_tensor gani_append_node(gan_graph *graph, const gani_node *node) {
    gan_tensor tensor = {0};
    void *block = graph->nodes;
    int reserved = gani_grow(graph->ctx, &block, &graph->node_capacity, graph->node_count + 1, sizeof *node);
    graph->nodes = (gani_node *)block;
    if (reserved && (graph->ops[node->op].flags & GANI_FLAG_EFFECT)) {
        block = graph->effects;
        reserved = gani_grow(graph->ctx, &block, &graph->effect_capacity, graph->effect_count + 1, sizeof *graph->effects);
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
static gan_status gani_add_sources(gan_graph *graph, gani_node *node, const gan_tensor *sources, int count) {
    void *block = graph->sources;
    int reserved = gani_grow(graph->ctx, &block, &graph->source_capacity, graph->source_count + count, sizeof *graph->sources);
    graph->sources = (int *)block;
    if (!reserved) {
        return GAN_ERR_MEMORY;
    }
    node->source_first = graph->source_count;
    node->source_count = count;
    for (int k = 0; k < count; k++) {
        graph->sources[node->source_first + k] = sources[k].id;
    }
    return GAN_OK;
}

/* What holds for every op: required sources are there, and all are tensors of this graph. */
static gan_status gani_check_sources(gan_graph *graph, const gani_node *node) {
    for (int k = 0; k < node->source_count; k++) {
        const int id = gani_source(graph, node, k).id;
        if (id < 0 || id >= graph->node_count || (id == 0 && k < graph->ops[node->op].required)) {
            return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "source %d is not a tensor of this graph (id %d)", k, id);
        }
    }
    return GAN_OK;
}

/* Appends a node of the given op. The op's shape function checks it; {0} on an error, which sticks. attr NULL: all zero. */
static gan_tensor gani_add_node(gan_graph *graph, int op, const gan_tensor *sources, int count, const gani_attr *attr) {
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
 * >>ops  5.2  THE OP TABLE: SHAPE, RUN, GRADIENT
 * ========================================================================= */

/* Ops whose shape is an attribute keep it at GANI_ATTR_SHAPE: rank, extents. */
static void gani_attr_set_shape(gani_attr *attr, const gan_shape *shape) {
    attr->i[GANI_ATTR_SHAPE] = shape->rank;
    memcpy(attr->i + GANI_ATTR_SHAPE + 1, shape->dim, sizeof shape->dim);
}

static gan_status gani_attr_shape(gan_graph *graph, gani_node *node) {
    (void)graph;
    node->shape.rank = node->attr.i[GANI_ATTR_SHAPE];
    memcpy(node->shape.dim, node->attr.i + GANI_ATTR_SHAPE + 1, sizeof node->shape.dim);
    return GAN_OK;
}

static gan_status gani_constant_run(gan_context *ctx, const gani_run *run) {
    const size_t count = gan_shape_count(run->node->shape);
    (void)ctx;
    for (size_t i = 0; i < count; i++) {
        run->out[i] = run->node->attr.f[0];
    }
    return GAN_OK;
}

/* X(id, name, flags, required, shape, run, grad, workspace, multiply_adds) */
#define GANI_OP_LIST(X)                                                          \
    X(GANI_OP_INPUT, "input", GANI_FLAG_LEAF, 0, NULL, NULL, NULL, NULL, NULL)      \
    X(GANI_OP_PARAM, "parameter", GANI_FLAG_LEAF, 0, NULL, NULL, NULL, NULL, NULL)  \
    X(GANI_OP_CONSTANT, "constant", GANI_FLAG_CONSTANT, 0, gani_attr_shape, gani_constant_run, NULL, NULL, NULL)

enum {
#define GANI_OP_ENUM(id, name, flags, required, shape, run, grad, workspace, multiply_adds) id,
    GANI_OP_LIST(GANI_OP_ENUM)
#undef GANI_OP_ENUM
    GANI_OP_COUNT
};

static const gani_op_row gani_ops[] = {
#define GANI_OP_ROW(id, name, flags, required, shape, run, grad, workspace, multiply_adds) \
    {name, flags, required, shape, run, grad, workspace, multiply_adds},
    GANI_OP_LIST(GANI_OP_ROW)
#undef GANI_OP_ROW
};

/* ============================================================================
 * >>graph  5.3  BUILDING, GRADIENTS
 *
 * A graph grows at its end only. Leaves are made here (inputs, parameters, constants), all else by the builder functions beside
 * the op table.
 *
 * Holds:  graphs, scopes, leaves, gan_grad.
 * Uses:   >>nodes  >>ops        Knows nothing of: how a program is run.
 * ========================================================================= */

static gan_status gani_graph_begin(gan_graph *graph) {
    gani_node none;
    memset(&none, 0, sizeof none);
    none.shape.rank = -1;
    none.param = -1;
    graph->name_override = -1;
    if (gani_store_text(graph, "", 0) < 0 || gani_append_node(graph, &none).id != 0 || graph->status != GAN_OK) {
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
        GAN_ASSERT(graph->program_count == 0);
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
    return graph->status == GAN_OK ? GAN_OK : gani_error(graph->ctx, graph->status, "%s", graph->error);
}

/* --- scopes ---------------------------------------------------------------- */

GAN_API void gan_graph_push(gan_graph *graph, const char *name) {
    const int length = graph->scopes[graph->scope_depth].length;
    const size_t added = strlen(name);
    if (graph->scope_depth + 1 >= GANI_MAX_SCOPES || added + 2 > (size_t)(GANI_MAX_NAME - length)) {
        gani_stick(graph, gani_error(graph->ctx, GAN_ERR_LIMIT, "scope \"%s%s\": more than %d deep or %d bytes long", graph->scope, name,
                                     GANI_MAX_SCOPES - 1, GANI_MAX_NAME - 2));
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
    return graph->nodes[x.id > 0 && x.id < graph->node_count ? x.id : 0].shape;
}

/* Writes scope and name to full [GANI_MAX_NAME]. */
static gan_status gani_full_name(gan_graph *graph, const char *name, char *full) {
    const int length = snprintf(full, GANI_MAX_NAME, "%s%s", graph->scope, name);
    if (length < 0 || length >= GANI_MAX_NAME) {
        return gani_error(graph->ctx, GAN_ERR_LIMIT, "name \"%s\" is longer than %d bytes", full, GANI_MAX_NAME - 1);
    }
    return GAN_OK;
}

/* Appends a leaf of the given full name. */
static gan_tensor gani_add_leaf(gan_graph *graph, int op, const char *full, gan_shape shape, int param, const gani_attr *attr) {
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
    if (status == GAN_OK &&
        !gani_grow(graph->ctx, &block, &graph->input_capacity, graph->input_count + 1, sizeof *graph->inputs)) {
        status = GAN_ERR_MEMORY;
    }
    graph->inputs = (float **)block;
    float *data = status == GAN_OK ? (float *)gani_calloc(graph->ctx, gan_shape_count(shape), sizeof *data) : NULL;
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
    const gani_node *node = &graph->nodes[input.id > 0 && input.id < graph->node_count ? input.id : 0];
    return input.id > 0 && node->op == GANI_OP_INPUT ? graph->inputs[node->attr.i[0]] : NULL;
}

/* Index of the parameter in the store, which gets it if it is new. */
static gan_status gani_param_index(gan_graph *graph, const char *full, gan_shape shape, gan_param_kind kind, gan_init init, int *index) {
    gan_params *params = graph->params;
    *index = gani_params_index(params, full);
    if (*index < 0) {
        *index = params->count;
        gan_status status = gani_check_shape(graph->ctx, &shape);
        return status != GAN_OK ? gani_prefix_error(graph->ctx, status, full) : gani_params_add(params, full, shape, kind, init);
    }
    const gani_param *param = &params->items[*index];
    if (!gani_shape_equal(&param->shape, &shape)) {
        const gani_shape_text had = gani_print_shape(&param->shape), asked = gani_print_shape(&shape);
        return gani_error(graph->ctx, GAN_ERR_SHAPE, "parameter \"%s\" exists with shape %s, asked for is %s", full, had.text, asked.text);
    }
    if (param->kind != kind) {
        return gani_error(graph->ctx, GAN_ERR_ARGUMENT, "parameter \"%s\" exists as another kind", full);
    }
    return GAN_OK;
}

/* Room in graph->param_nodes for every parameter of the store; new entries are 0. */
static gan_status gani_reserve_param_nodes(gan_graph *graph) {
    const int old = graph->param_node_capacity;
    void *block = graph->param_nodes;
    int reserved = gani_grow(graph->ctx, &block, &graph->param_node_capacity, graph->params->count, sizeof *graph->param_nodes);
    graph->param_nodes = (int *)block;
    for (int i = old; i < graph->param_node_capacity; i++) {
        graph->param_nodes[i] = 0;
    }
    return reserved ? GAN_OK : GAN_ERR_MEMORY;
}

GAN_API gan_tensor gan_param(gan_graph *graph, const char *name, gan_shape shape, gan_param_kind kind, gan_init init) {
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

/* ============================================================================
 * >>planner  5.4  DEAD CODE, SHARING, FUSION, MEMORY; RUNNING
 *
 * Holds:  programs: planning and running.
 * Uses:   >>nodes  >>ops        Knows nothing of: how the graph was built.
 * ========================================================================= */

/* Where a value lives. */
typedef enum gani_place_kind {
    GANI_PLACE_NONE,
    GANI_PLACE_ARENA, /* at: offset in bytes */
    GANI_PLACE_PARAM, /* at: index in the store */
    GANI_PLACE_INPUT  /* at: index in graph->inputs */
} gani_place_kind;

typedef struct gani_place {
    gani_place_kind kind;
    size_t at;
} gani_place;

/* One op of a program. */
typedef struct gani_step {
    gani_node node;   /* copy of the graph's node; source_first is an index into the program's tables */
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
    const float **source_data; /* the places as addresses, for the arena at `bound` */
    int source_count;
    const unsigned char *bound;
    gani_output *outputs;
    int output_count;
    gan_program_info info;
};

static float *gani_place_data(const gan_graph *graph, const gani_place *place) {
    switch (place->kind) {
    case GANI_PLACE_ARENA:
        return (float *)(void *)(graph->arena + place->at);
    case GANI_PLACE_PARAM:
        return graph->params->items[place->at].data;
    case GANI_PLACE_INPUT:
        return graph->inputs[place->at];
    case GANI_PLACE_NONE:
    default:
        return NULL;
    }
}

/* Marks what the outputs and the pending effects need. needed [node_count], zero on entry. */
static void gani_mark_needed(const gan_graph *graph, const gani_output *outputs, int output_count, unsigned char *needed) {
    for (int i = 0; i < output_count; i++) {
        needed[outputs[i].id] = 1;
    }
    for (int i = 0; i < graph->effect_count; i++) {
        needed[graph->effects[i]] = 1;
    }
    for (int id = graph->node_count - 1; id > 0; id--) {
        const gani_node *node = &graph->nodes[id];
        for (int k = 0; k < node->source_count && needed[id]; k++) {
            needed[gani_source(graph, node, k).id] = 1;
        }
    }
    needed[0] = 0;
}

/* Gives every needed node its place; returns the bytes of arena. */
static size_t gani_place_nodes(const gan_graph *graph, const unsigned char *needed, gani_place *places) {
    size_t top = 0;
    for (int id = 1; id < graph->node_count; id++) {
        const gani_node *node = &graph->nodes[id];
        const unsigned flags = graph->ops[node->op].flags;
        if (!needed[id]) {
            continue;
        }
        if (flags & GANI_FLAG_VIEW) {
            places[id] = places[gani_source(graph, node, 0).id];
        } else if (node->param >= 0) {
            places[id].kind = GANI_PLACE_PARAM;
            places[id].at = (size_t)node->param;
        } else if (flags & GANI_FLAG_LEAF) {
            places[id].kind = GANI_PLACE_INPUT;
            places[id].at = (size_t)node->attr.i[0];
        } else {
            places[id].kind = GANI_PLACE_ARENA;
            places[id].at = top;
            top += gani_round_up(gan_shape_count(node->shape) * sizeof(float), GANI_ALIGN);
        }
    }
    return top;
}

static void gani_add_step(gan_program *program, int id, const gani_place *places) {
    gan_graph *graph = program->graph;
    gani_step *step = &program->steps[program->step_count++];
    step->node = graph->nodes[id];
    step->place = places[id];
    for (int k = 0; k < step->node.source_count; k++) {
        const int source = gani_source(graph, &graph->nodes[id], k).id;
        program->source_places[program->source_count + k] = places[source];
        program->source_shapes[program->source_count + k] = graph->nodes[source].shape;
    }
    step->node.source_first = program->source_count;
    program->source_count += step->node.source_count;
    const gani_op_row *row = &graph->ops[step->node.op];
    const gan_shape *shapes = program->source_shapes + step->node.source_first;
    const size_t workspace = row->workspace ? row->workspace(graph->ctx, &step->node, shapes) : 0;
    program->info.ops++;
    program->info.multiply_adds += row->multiply_adds ? row->multiply_adds(&step->node, shapes) : 0.0;
    program->info.workspace_bytes = workspace > program->info.workspace_bytes ? workspace : program->info.workspace_bytes;
}

static gan_status gani_reserve_arena(gan_graph *graph, size_t bytes) {
    if (bytes > graph->arena_bytes) {
        unsigned char *arena = (unsigned char *)gani_alloc(graph->ctx, bytes);
        if (!arena) {
            return GAN_ERR_MEMORY;
        }
        gani_free(graph->ctx, graph->arena);
        graph->arena = arena;
        graph->arena_bytes = bytes;
    }
    return GAN_OK;
}

static gan_status gani_plan(gan_program *program, unsigned char *needed, gani_place *places) {
    gan_graph *graph = program->graph;
    gani_mark_needed(graph, program->outputs, program->output_count, needed);
    program->info.arena_bytes = gani_place_nodes(graph, needed, places);
    for (int id = 1; id < graph->node_count; id++) {
        if (needed[id] && graph->ops[graph->nodes[id].op].run) {
            gani_add_step(program, id, places);
        }
    }
    for (int i = 0; i < program->output_count; i++) {
        program->outputs[i].place = places[program->outputs[i].id];
    }
    if (gani_reserve_arena(graph, program->info.arena_bytes) != GAN_OK ||
        !gani_workspace(graph->ctx, program->info.workspace_bytes)) {
        return GAN_ERR_MEMORY;
    }
    return GAN_OK;
}

static gan_status gani_program_begin(gan_program *program, const char *name, const gan_tensor *outputs, int count) {
    gan_graph *graph = program->graph;
    gan_context *ctx = graph->ctx;
    const size_t nodes = (size_t)graph->node_count, sources = (size_t)graph->source_count + 1;
    program->name = gani_strdup(ctx, name);
    program->steps = (gani_step *)gani_calloc(ctx, nodes, sizeof *program->steps);
    program->source_places = (gani_place *)gani_calloc(ctx, sources, sizeof *program->source_places);
    program->source_shapes = (gan_shape *)gani_calloc(ctx, sources, sizeof *program->source_shapes);
    program->source_data = (const float **)gani_calloc(ctx, sources, sizeof *program->source_data);
    program->outputs = (gani_output *)gani_calloc(ctx, (size_t)count + 1, sizeof *program->outputs);
    if (!program->name || !program->steps || !program->source_places || !program->source_shapes || !program->source_data ||
        !program->outputs) {
        return GAN_ERR_MEMORY;
    }
    for (int i = 0; i < count; i++) {
        if (outputs[i].id <= 0 || outputs[i].id >= graph->node_count) {
            return gani_error(ctx, GAN_ERR_ARGUMENT, "program \"%s\": output %d is not a tensor of this graph", name, i);
        }
        program->outputs[i].id = outputs[i].id;
    }
    program->output_count = count;
    unsigned char *needed = (unsigned char *)gani_calloc(ctx, nodes, sizeof *needed);
    gani_place *places = (gani_place *)gani_calloc(ctx, nodes, sizeof *places);
    gan_status status = needed && places ? gani_plan(program, needed, places) : GAN_ERR_MEMORY;
    gani_free(ctx, needed);
    gani_free(ctx, places);
    return status;
}

GAN_API gan_status gan_program_create(gan_program **out, gan_graph *graph, const char *name, const gan_tensor *outputs, int count) {
    *out = NULL;
    if (graph->status != GAN_OK) {
        return gan_graph_status(graph);
    }
    gan_program *program = (gan_program *)gani_calloc(graph->ctx, 1, sizeof *program);
    if (!program) {
        return GAN_ERR_MEMORY;
    }
    program->graph = graph;
    graph->program_count++;
    gan_status status = gani_program_begin(program, name, outputs, count);
    if (status != GAN_OK) {
        gan_program_destroy(program);
        return status;
    }
    graph->effect_count = 0;
    *out = program;
    return GAN_OK;
}

GAN_API void gan_program_destroy(gan_program *program) {
    if (program) {
        gan_context *ctx = program->graph->ctx;
        program->graph->program_count--;
        gani_free(ctx, program->name);
        gani_free(ctx, program->steps);
        gani_free(ctx, program->source_places);
        gani_free(ctx, program->source_shapes);
        gani_free(ctx, program->source_data);
        gani_free(ctx, program->outputs);
        gani_free(ctx, program);
    }
}

static gan_status gani_run_step(const gan_program *program, const gani_step *step) {
    gan_graph *graph = program->graph;
    gani_run run;
    run.node = &step->node;
    run.source = program->source_data + step->node.source_first;
    run.source_shape = program->source_shapes + step->node.source_first;
    run.out = gani_place_data(graph, &step->place);
    run.seed = graph->params->seed;
    run.step = graph->params->step;
    for (int k = 0; k < 2; k++) {
        const int also = step->node.attr.i[GANI_ATTR_ALSO + k];
        const int effect = (graph->ops[step->node.op].flags & GANI_FLAG_EFFECT) != 0;
        run.also[k] = effect && also > 0 ? graph->params->items[also - 1].data : NULL;
    }
    gan_status status = graph->ops[step->node.op].run(graph->ctx, &run);
    return status == GAN_OK ? GAN_OK : gani_prefix_error(graph->ctx, status, gani_node_label(graph, &step->node));
}

GAN_API gan_status gan_program_run(gan_program *program) {
    gan_graph *graph = program->graph;
    gan_status status = GAN_OK;
    for (int i = 0; i < program->source_count; i++) {
        program->source_data[i] = gani_place_data(graph, &program->source_places[i]);
    }
    gani_float_mode mode = gani_flush_denormals();
    for (int i = 0; i < program->step_count && status == GAN_OK; i++) {
        status = gani_run_step(program, &program->steps[i]);
    }
    gani_restore_float_mode(mode);
    return status;
}

GAN_API const float *gan_program_output(const gan_program *program, gan_tensor output) {
    for (int i = 0; i < program->output_count; i++) {
        if (program->outputs[i].id == output.id) {
            return gani_place_data(program->graph, &program->outputs[i].place);
        }
    }
    return NULL;
}

GAN_API gan_program_info gan_program_get_info(const gan_program *program) {
    return program->info;
}

/* ============================================================================
 * >>layers  6.1  NETWORKS' BUILDING BLOCKS OVER OPS
 * ========================================================================= */

/* ============================================================================
 * >>losses  6.2  LOSSES OVER OPS
 * ========================================================================= */

/* ============================================================================
 * >>optimisers  6.3  UPDATES OVER OPS
 * ========================================================================= */

/* ============================================================================
 * >>images  7.1  PGM, PPM, PAM, PNG; RESIZING, GRIDS
 * ========================================================================= */

/* ============================================================================
 * >>datasets  7.2  FOLDERS, LISTS, IDX, DRAWN DIGITS
 * ========================================================================= */

/* ============================================================================
 * >>checkpoints  7.3  SAFETENSORS
 * ========================================================================= */

/* ============================================================================
 * >>models  8.1  THE MODEL TABLE, TRAINING, SAMPLING
 * ========================================================================= */

/* ============================================================================
 * >>gan  8.2  GENERATIVE ADVERSARIAL NETS (Goodfellow et al. 2014, arXiv:1406.2661)
 * ========================================================================= */

/* ============================================================================
 * >>dcgan  8.3  DCGAN (Radford, Metz, Chintala 2015, arXiv:1511.06434)
 * ========================================================================= */

#endif /* !GANI_INSTANCE */
#endif /* GAN_IMPLEMENTATION */

/* MIT License
 *
 * Copyright (c) 2026 the gan.h authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
 * documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
 * rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
 * permit persons to whom the Software is furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or substantial portions of
 * the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
 * WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS
 * OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 * OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
