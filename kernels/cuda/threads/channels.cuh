/* Walks of [M,C] tensors (channels contiguous) by threads that keep their channels from row to row, so that what is
 * known per channel stays in registers and sums over rows need no index.
 *
 * A thread owns Pack::COUNT neighbouring channels: 16 bytes of them where C and the addresses allow it (wide), else
 * one. A block owns a tile of channels, up to 256 bytes of every row, and `span` consecutive rows of which it takes
 * `rows` at a time. Blocks of one span are neighbours, so that whole rows are in flight together. */
#ifndef EXCON_KERNELS_CUDA_CHANNELS_CUH
#define EXCON_KERNELS_CUDA_CHANNELS_CUH

#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"

/* Runs the statements with the constant NAME = true or false. */
#define WITH_FLAG(flag, NAME, ...)                                                                                     \
    do {                                                                                                               \
        if (flag) {                                                                                                    \
            constexpr bool NAME = true;                                                                                \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            constexpr bool NAME = false;                                                                               \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

/* What a thread loads at once. Kept as it was loaded until it is used, which takes half the registers for bf16. */
template <typename T, bool WIDE> struct Pack {
    static constexpr int COUNT = 1;
    typedef T Raw;
};
template <> struct Pack<float, true> {
    static constexpr int COUNT = Lanes<float>::COUNT;
    typedef float4 Raw;
};
template <> struct Pack<bf16, true> {
    static constexpr int COUNT = Lanes<bf16>::COUNT;
    typedef uint4 Raw;
};

/* Channels of a thread, for the host. */
static inline int pack_count(DType type, bool wide) {
    return !wide ? 1 : type == DTYPE_BF16 ? (int)Lanes<bf16>::COUNT : (int)Lanes<float>::COUNT;
}

/* From base + at; nothing is read unless READ. */
template <typename T, bool WIDE, bool READ = true>
static __device__ __forceinline__ typename Pack<T, WIDE>::Raw pack_load(const T *base, int64_t at) {
    typedef typename Pack<T, WIDE>::Raw Raw;
    if constexpr (READ)
        return *reinterpret_cast<const Raw *>(base + at);
    else
        return Raw();
}

template <typename T, bool WIDE>
static __device__ __forceinline__ void pack_floats(const typename Pack<T, WIDE>::Raw &raw, float *out) {
    const T *elements = reinterpret_cast<const T *>(&raw);
    if constexpr (WIDE)
        lanes_load(elements, out);
    else
        out[0] = element_load(elements);
}

/* One store of 16 bytes to global memory. nvcc takes assignments apart and now and then fails to join them again. */
static __device__ __forceinline__ void vector_store(float *at, const float in[4]) {
    __stwb(reinterpret_cast<float4 *>(at), make_float4(in[0], in[1], in[2], in[3]));
}

static __device__ __forceinline__ void vector_store(bf16 *at, const float in[8]) {
    __stwb(reinterpret_cast<uint4 *>(at), make_uint4(bf16_bits(in[0], in[1]), bf16_bits(in[2], in[3]),
                                                     bf16_bits(in[4], in[5]), bf16_bits(in[6], in[7])));
}

template <typename T, bool WIDE> static __device__ __forceinline__ void pack_store(T *at, const float *in) {
    if constexpr (WIDE)
        vector_store(at, in);
    else
        element_store(at, in[0]);
}

/* COUNT per-channel numbers from `at`, 16-byte aligned if there is more than one. */
template <int COUNT> static __device__ __forceinline__ void channels_load(const float *at, float *out) {
    if constexpr (COUNT == 1)
        out[0] = *at;
    else
        for (int i = 0; i < COUNT; i += 4)
            lanes_load(at + i, out + i);
}

typedef struct Tiling {
    int64_t M, span;            /* rows of the tensor; of a block, the last excepted */
    int C, count;               /* channels; of a thread */
    unsigned tiles, tile, rows; /* tiles of a row; threads across a tile; rows a block takes at a time */
} Tiling;

/* The tiling without a span. */
static inline Tiling tiling_across(int64_t M, int C, int count) {
    const int64_t groups = C / count, widest = count > 1 ? 16 : 64, tiles = ceil_div(groups, widest);
    const int64_t tile = ceil_div(groups, tiles);
    return Tiling{M, 0, C, count, (unsigned)tiles, (unsigned)tile, (unsigned)(BLOCK / tile)};
}

/* A thread takes at most about `longest` rows, not fewer than `shortest`, and the grid is a whole number of times what
 * the device holds at once, `resident` blocks per multiprocessor, so that none idles at the end. */
static inline Tiling tiling_of(const Device *device, int64_t M, int C, int count, int resident, int64_t shortest,
                               int64_t longest) {
    Tiling t = tiling_across(M, C, count);
    const int64_t steps = ceil_div(M, t.rows), wave = (int64_t)cuda_of(device)->multiprocessors * resident;
    const int64_t waves = ceil_div(ceil_div(steps, longest) * t.tiles, wave);
    const int64_t run = ceil_div(steps * t.tiles, (waves > 0 ? waves : 1) * wave);
    t.span = (run > shortest ? run : shortest) * t.rows;
    return t;
}

static inline int64_t tiling_spans(const Tiling *t) {
    return ceil_div(t->M, t->span);
}

static inline unsigned tiling_blocks(const Tiling *t) {
    return (unsigned)(tiling_spans(t) * t->tiles);
}

/* Where a thread walks: elements at, at + stride, ..., `steps` of them. */
typedef struct ChannelWalk {
    int64_t at;
    int stride, steps;
    int64_t span;           /* which span of rows */
    int channel;            /* the thread's first */
    int tile_channel, wide; /* the tile's first channel and how many it has (the last tile may reach beyond C) */
    bool active;
} ChannelWalk;

static __device__ __forceinline__ ChannelWalk channel_walk(const Tiling &t) {
    const unsigned across = threadIdx.x % t.tile, down = threadIdx.x / t.tile;
    ChannelWalk w;
    w.span = blockIdx.x / t.tiles;
    w.wide = (int)t.tile * t.count;
    w.tile_channel = (int)(blockIdx.x % t.tiles) * w.wide;
    w.channel = w.tile_channel + (int)across * t.count;
    w.active = down < t.rows && w.channel < t.C;
    const int64_t first = w.span * t.span + down, left = t.M - w.span * t.span;
    const int64_t span = left < t.span ? left : t.span;
    w.at = first * t.C + w.channel;
    w.stride = (int)t.rows * t.C;
    w.steps = w.active && down < span ? (int)((unsigned)(span - down - 1) / t.rows) + 1 : 0;
    return w;
}

template <int N> struct Rows { static constexpr int COUNT = N; };

/* visit(Rows<n>, at) for every row of the walk, n = UNROLL of them at a time while there are so many: at, at + stride,
 * ... A visit loads its rows before it stores any, so that the loads overlap. */
template <int UNROLL, typename Visit>
static __device__ __forceinline__ void walk_rows(const ChannelWalk &w, const Visit &visit) {
    int64_t at = w.at;
    int left = w.steps;
    for (; left >= UNROLL; left -= UNROLL, at += (int64_t)UNROLL * w.stride)
        visit(Rows<UNROLL>(), at);
    for (; left > 0; left--, at += w.stride)
        visit(Rows<1>(), at);
}

#endif
