// The vision transformer: stretched cutouts to 192 numbers each.
#pragma once

#include "network.h"

// One row of 192 less its mean, over its standard deviation, 16 numbers at a time to `use`.
template <class Use>
INLINE void normalise(const float *row, Use use) {
    constexpr int PARTS = WIDTH / LANES;
    Floats x[PARTS], total = all(0);
    for (int i = 0; i < PARTS; i++) total += x[i] = load(row + i * LANES);
    const Floats mean = all(sum(total) / WIDTH);
    Floats squares = all(0);
    for (int i = 0; i < PARTS; i++) {
        x[i] -= mean;
        squares = multiply_add(x[i], x[i], squares);
    }
    const Floats scale = all(1.0f / __builtin_sqrtf(sum(squares) / WIDTH + NORM_EPSILON));
    for (int i = 0; i < PARTS; i++) use(i * LANES, x[i] * scale);
}

// The scores of 16 patches' queries for token J and the following: sums over 32 of queries (32, 16) times keys.
template <int J>
INLINE void score_keys(const float *queries, const float *keys, Floats (&scores)[TOKENS]) {
    constexpr int AT_ONCE = TILE_PANELS > 1 ? TOKENS : TILE_ROWS;
    constexpr int COUNT = TOKENS - J < AT_ONCE ? TOKENS - J : AT_ONCE;
    Floats found[COUNT];
#pragma unroll
    for (int j = 0; j < COUNT; j++) found[j] = all(0);
    for (int d = 0; d < HEAD_WIDTH; d++) {
        const Floats query = load(queries + d * LANES);
#pragma unroll
        for (int j = 0; j < COUNT; j++) found[j] = multiply_add(query, all(keys[(J + j) * 3 * WIDTH + d]), found[j]);
    }
    for (int j = 0; j < COUNT; j++) scores[J + j] = found[j];
    if constexpr (J + COUNT < TOKENS) score_keys<J + COUNT>(queries, keys, scores);
}

// The means of 17 values for tokens I and the following, 16 columns: shares (17 tokens, `SHARES`) times values.
constexpr int SHARES = 32;  // 17 queries, to a whole line
template <int I, int LAST, class Use>
INLINE void mix_values(const float *shares, const float *values, Use use) {
    constexpr int AT_ONCE = TILE_PANELS > 1 ? TOKENS : TILE_ROWS;
    constexpr int COUNT = LAST - I < AT_ONCE ? LAST - I : AT_ONCE;
    Floats found[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) found[i] = all(0);
    for (int j = 0; j < TOKENS; j++) {
        const Floats value = load(values + j * 3 * WIDTH);
#pragma unroll
        for (int i = 0; i < COUNT; i++) found[i] = multiply_add(all(shares[j * SHARES + I + i]), value, found[i]);
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) use(I + i, found[i]);
    if constexpr (I + COUNT < LAST) mix_values<I + COUNT, LAST>(shares, values, use);
}

// Attention within one galaxy: qkv (17, 3 * 192) to (ASKING, 192), where ASKING is 16 without the class token; 16 columns
// of a token at a time to `use`.
// The queries of 16 patches are the lanes of a vector, so that the softmax over keys needs no sum over lanes.
template <int ASKING, class Use>
static void attend(const float *qkv, Use use) {
    for (int head = 0; head < HEADS; head++) {
        const float *queries = qkv + head * HEAD_WIDTH, *keys = queries + WIDTH, *values = keys + WIDTH;
        alignas(64) float turned[HEAD_WIDTH][LANES], shares[TOKENS][SHARES];
        for (int half = 0; half < HEAD_WIDTH; half += LANES) {
            Floats block[LANES];
            for (int i = 0; i < LANES; i++) block[i] = load(queries + i * 3 * WIDTH + half);
            transpose(block);
            for (int i = 0; i < LANES; i++) store(turned[half + i], block[i]);
        }
        Floats scores[TOKENS];
        score_keys<0>(turned[0], keys, scores);
        Floats most = scores[0], total = all(0);
        for (int j = 1; j < TOKENS; j++) most = larger(most, scores[j]);
        for (int j = 0; j < TOKENS; j++) total += scores[j] = exponential(scores[j] - most);
        const Floats share = all(1.0f) / total;
        for (int j = 0; j < TOKENS; j++) store(shares[j], scores[j] * share);
        if constexpr (ASKING == TOKENS) {
            // The class token asks alone: its 17 scores are the lanes of two vectors.
            const float *query = queries + PATCHES * 3 * WIDTH;
            const Floats low = load(query), high = load(query + LANES);
            Floats first = all(0);
            float last = 0;
            for (int j = 0; j < TOKENS; j++) {
                const float *key = keys + j * 3 * WIDTH;
                const float score = sum(multiply_add(high, load(key + LANES), low * load(key)));
                if (j < LANES) first[j] = score;
                else last = score;
            }
            float highest = largest(first);
            highest = last > highest ? last : highest;
            first = exponential(first - all(highest));
            last = exponential(all(last - highest))[0];
            const float part = 1.0f / (sum(first) + last);
            for (int j = 0; j < LANES; j++) shares[j][PATCHES] = first[j] * part;
            shares[LANES][PATCHES] = last * part;
        }
        for (int half = 0; half < HEAD_WIDTH; half += LANES)
            mix_values<0, ASKING>(shares[0], values + half,
                                  [=](int token, Floats x) { use(token, head * HEAD_WIDTH + half, x); });
    }
}

// The convolution branch of one galaxy's 16 patches, added to them: 48 groups of 4 -> 16 -> 4 with SiLU between.
// Patches are the lanes; four groups are read and written together.
static void add_convolution(float *patches, const float *expand, const float *expand_bias, const float *reduce,
                            const float *reduce_bias) {
    for (int column = 0; column < WIDTH; column += LANES) {
        Floats inputs[LANES], outputs[LANES];
        for (int i = 0; i < LANES; i++) inputs[i] = load(patches + i * WIDTH + column);
        transpose(inputs);
        for (int g = 0; g < LANES; g += GROUP_INPUTS) {
            Floats *in = inputs + g, out[GROUP_INPUTS];
            for (int o = 0; o < GROUP_INPUTS; o++) out[o] = all(reduce_bias[column + g + o]);
            const int group = (column + g) / GROUP_INPUTS;
            for (int h = group * GROUP_HIDDEN; h < (group + 1) * GROUP_HIDDEN; h++) {
                const float *to = expand + h * GROUP_INPUTS, *from = reduce + h * GROUP_INPUTS;
                Floats hidden = all(expand_bias[h]);
#pragma unroll
                for (int i = 0; i < GROUP_INPUTS; i++) hidden = multiply_add(in[i], all(to[i]), hidden);
                hidden = silu(hidden);
#pragma unroll
                for (int o = 0; o < GROUP_INPUTS; o++) out[o] = multiply_add(hidden, all(from[o]), out[o]);
            }
            for (int o = 0; o < GROUP_INPUTS; o++) outputs[g + o] = out[o];
        }
        transpose(outputs);
        for (int i = 0; i < LANES; i++) {
            float *patch = patches + i * WIDTH + column;
            store(patch, load(patch) + outputs[i]);
        }
    }
}

// Stretched cutouts (n, 5, 32, 32) to tokens (n, 17, 192), n at most TOGETHER.
static void embed_patches(const Weights &weights, Workspace &space, int n, float *tokens) {
    for (int galaxy = 0; galaxy < n; galaxy++)
        for (int patch = 0; patch < PATCHES; patch++) {
            float *row = space.patches + (galaxy * PATCHES + patch) * PATCH_INPUTS;
            const int corner = patch / 4 * PATCH * SIDE + patch % 4 * PATCH;
            for (int band = 0; band < BANDS; band++)
                for (int y = 0; y < PATCH; y++)
                    __builtin_memcpy(row + (band * PATCH + y) * PATCH,
                                     &space.stretched[galaxy][band][corner + y * SIDE], PATCH * sizeof(float));
        }
    const float *position = weights.position;
    multiply(space.patches, PATCH_INPUTS, n * PATCHES, weights.patch.weights, weights.patch.bias, PATCH_INPUTS, WIDTH,
             [=](int row, int column, Floats x) {
                 const int galaxy = row / PATCHES, patch = row % PATCHES;
                 store(tokens + (galaxy * TOKENS + patch) * WIDTH + column, x + load(position + patch * WIDTH + column));
             });
    for (int galaxy = 0; galaxy < n; galaxy++)
        __builtin_memcpy(tokens + (galaxy * TOKENS + PATCHES) * WIDTH, weights.class_token, WIDTH * sizeof(float));
}

enum { QKV, PROJECTION, EXPAND, REDUCE };

template <class Precision>
INLINE Layer layer_of(const Weights &weights, const Dense &dense, const float *scale, int block, int which, int inputs,
                      int outputs) {
    Layer layer = {Precision::weights_at(dense.weights, (long)block * inputs * outputs), dense.bias + block * outputs,
                   nullptr, {}};
    if constexpr (sizeof(typename Precision::Input) == 1) {
        layer.scale = scale + block * outputs;
        const float *ranges = weights.ranges + block * LANES;
        layer.range = {ranges[which], (int)ranges[4 + which]};
    }
    return layer;
}

// One block for n galaxies' tokens, in place: x += attention(norm(x)) + convolution(x), x += perceptron(norm(x)).
// IS_LAST: what is averaged next is all that counts. Patches (n, 16, 192) move together, and the perceptron ends with
// the average of its hidden layer, (n, 768) in `pooled_hidden`.
template <class Precision, bool IS_LAST>
static void run_block(const Weights &weights, Workspace &space, int block, int n, float *tokens, float *pooled_hidden) {
    typedef typename Precision::Input Input;
    constexpr int ASKING = IS_LAST ? PATCHES : TOKENS;
    const Layer qkv = layer_of<Precision>(weights, weights.qkv, weights.qkv_scale, block, QKV, WIDTH, 3 * WIDTH);
    const Layer projection =
        layer_of<Precision>(weights, weights.projection, weights.projection_scale, block, PROJECTION, WIDTH, WIDTH);
    const Layer expand =
        layer_of<Precision>(weights, weights.expand, weights.expand_scale, block, EXPAND, WIDTH, HIDDEN);
    Input *normed = (Input *)space.normed, *mixed = (Input *)space.mixed;
    auto normalise_for = [=](const Layer &layer, int rows) {
        for (int row = 0; row < rows; row++)
            normalise(tokens + row * WIDTH,
                      [&](int column, Floats x) { Precision::put(normed + row * WIDTH + column, x, layer); });
    };
    normalise_for(qkv, n * TOKENS);
    float *asked = space.qkv;
    Precision::apply(normed, n * TOKENS, qkv, WIDTH, 3 * WIDTH,
                     [=](int row, int column, Floats x) { store(asked + row * 3 * WIDTH + column, x); });
    if constexpr (IS_LAST)
        for (int galaxy = 1; galaxy < n; galaxy++)
            __builtin_memmove(tokens + galaxy * PATCHES * WIDTH, tokens + galaxy * TOKENS * WIDTH,
                              PATCHES * WIDTH * sizeof(float));
    for (int galaxy = 0; galaxy < n; galaxy++) {
        Input *to = mixed + galaxy * ASKING * WIDTH;
        attend<ASKING>(asked + galaxy * TOKENS * 3 * WIDTH, [&](int token, int column, Floats x) {
            Precision::put(to + token * WIDTH + column, x, projection);
        });
        add_convolution(tokens + galaxy * ASKING * WIDTH, weights.group_expand + block * HIDDEN * GROUP_INPUTS,
                        weights.group_expand_bias + block * HIDDEN,
                        weights.group_reduce + block * HIDDEN * GROUP_INPUTS,
                        weights.group_reduce_bias + block * WIDTH);
    }
    auto add = [=](int row, int column, Floats x) {
        float *token = tokens + row * WIDTH + column;
        store(token, load(token) + x);
    };
    Precision::apply(mixed, n * ASKING, projection, WIDTH, WIDTH, add);
    normalise_for(expand, n * ASKING);
    if constexpr (!IS_LAST) {
        const Layer reduce =
            layer_of<Precision>(weights, weights.reduce, weights.reduce_scale, block, REDUCE, HIDDEN, WIDTH);
        Input *hidden = (Input *)space.hidden;
        Precision::apply(normed, n * ASKING, expand, WIDTH, HIDDEN, [&](int row, int column, Floats x) {
            Precision::put(hidden + row * HIDDEN + column, gelu(x), reduce);
        });
        Precision::apply(hidden, n * ASKING, reduce, HIDDEN, WIDTH, add);
    } else {
        float *hidden = space.hidden;
        Precision::apply(normed, n * ASKING, expand, WIDTH, HIDDEN,
                         [=](int row, int column, Floats x) { store(hidden + row * HIDDEN + column, gelu(x)); });
        for (int galaxy = 0; galaxy < n; galaxy++)
            for (int column = 0; column < HIDDEN; column += LANES) {
                Floats total = all(0);
                for (int patch = 0; patch < PATCHES; patch++)
                    total += load(hidden + (galaxy * PATCHES + patch) * HIDDEN + column);
                store(pooled_hidden + galaxy * HIDDEN + column, total * all(1.0f / PATCHES));
            }
    }
}

// Tokens (n, 17, 192) to `from_encoder` (n, 192), n at most MOST_GALAXIES.
template <class Precision>
static void run_encoder(const Weights &weights, Workspace &space, int n) {
    for (int block = 0; block < DEPTH_OF_ENCODER; block++)
        for (int first = 0; first < n; first += TOGETHER) {
            const int count = n - first < TOGETHER ? n - first : TOGETHER;
            float *tokens = space.tokens + first * TOKENS * WIDTH, *pooled = space.pooled_hidden + first * HIDDEN;
            if (block < DEPTH_OF_ENCODER - 1) {
                run_block<Precision, false>(weights, space, block, count, tokens, pooled);
                continue;
            }
            run_block<Precision, true>(weights, space, block, count, tokens, pooled);
            for (int galaxy = 0; galaxy < count; galaxy++)
                for (int column = 0; column < WIDTH; column += LANES) {
                    Floats total = all(0);
                    for (int patch = 0; patch < PATCHES; patch++)
                        total += load(tokens + (galaxy * PATCHES + patch) * WIDTH + column);
                    store(space.from_encoder + (first + galaxy) * WIDTH + column, total * all(1.0f / PATCHES));
                }
        }
    const Dense reduce = weights.pooled_reduce;
    float *pooled = space.from_encoder;
    multiply(space.pooled_hidden, HIDDEN, n, reduce.weights, reduce.bias, HIDDEN, WIDTH,
             [=](int row, int column, Floats x) {
                 float *to = pooled + row * WIDTH + column;
                 store(to, load(to) + x);
             });
    for (int galaxy = 0; galaxy < n; galaxy++) {
        float *row = pooled + galaxy * WIDTH;
        normalise(row, [=](int column, Floats x) { store(row + column, x); });
    }
}
