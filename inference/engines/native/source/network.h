// The shapes of AstroMAE, its weights as they lie in the packed file, and the memory to compute in.
#pragma once

#include "product.h"

constexpr int BANDS = 5, SIDE = 32, PIXELS = SIDE * SIDE;
constexpr int PATCH = 8, PATCHES = 16, PATCH_INPUTS = BANDS * PATCH * PATCH;
constexpr int TOKENS = PATCHES + 1;  // the class token is the last
constexpr int WIDTH = 192, HEADS = 6, HEAD_WIDTH = 32, HIDDEN = 768, DEPTH_OF_ENCODER = 12;
constexpr int GROUPS = 48, GROUP_INPUTS = 4, GROUP_HIDDEN = 16;
constexpr int IMAGE_FEATURES = 1104;  // 1,096 and zeros to whole panels
constexpr int MAGNITUDE_FEATURES = 1024;
constexpr int FEATURES = 2 * IMAGE_FEATURES + MAGNITUDE_FEATURES;
constexpr float NORM_EPSILON = 1e-6f;

// Galaxies of one call: the heads' 41 MB of weights are read once for all of them.
constexpr int MOST_GALAXIES = 128;
// Galaxies that pass one transformer block together. Measured: 8 and 32 were slower by some percent, since with fewer
// its 1.8 MB of weights stream by more often, and with more the activations leave the second cache.
constexpr int TOGETHER = 16;
// Galaxies whose images pass the inception network together.
constexpr int IMAGES_TOGETHER = 4;

struct Dense {
    const float *weights;  // (outputs / 16, inputs, 16)
    const float *bias;     // (outputs)
};

// The packed weights; inference/engines/native/pack.py lists the same names in the same order.
struct Weights {
    const float *inverse_softening;  // (16), five bands and zeros
    const float *magnitude_center;   // (16)
    Dense patch;                     // 320 -> 192
    const float *position;           // (16, 192), with the bias of the patches
    const float *class_token;        // (192)
    // Each of twelve blocks, one behind the other.
    Dense qkv;                   // 192 -> 576, the scale of the scores in the queries
    Dense projection;            // 192 -> 192
    const float *group_expand;   // (12, 48, 16, 4)
    const float *group_expand_bias;  // (12, 48, 16)
    const float *group_reduce;   // (12, 48, 16, 4)
    const float *group_reduce_bias;  // (12, 192)
    Dense expand;                // 192 -> 768
    Dense reduce;                // 768 -> 192, of the first eleven
    Dense pooled_reduce;         // 768 -> 192, of the last block, behind the average
    const float *first;          // (5, 32), a 1x1 convolution
    const float *first_bias;     // (32)
    Dense shared[5];             // the 1x1 convolutions of a block, merged
    const float *wide_3x3[5], *wide_3x3_bias[5];  // (3, 3, inputs, outputs)
    const float *wide_5x5[4], *wide_5x5_bias[4];
    Dense encoder[2];            // 192 -> 1104 -> 1104
    Dense inception[2];          // 192 -> 1104 -> 1104
    Dense magnitudes[5];         // 16 -> 1024 -> ... -> 1024
    Dense join;                  // 3232 -> 1024
    const float *last;           // (1024)
    const float *last_bias;      // (16), the first counts
    // In 8 bits only, where the weights of qkv, projection, expand and reduce are codes: per block, what an output's sum
    // is worth, and the ranges of the four layers' inputs as (12, 16): four inverse steps, four zeros, nothing.
    const float *qkv_scale, *projection_scale, *expand_scale, *reduce_scale, *ranges;
};

// How the dense layers of the transformer compute: what their inputs are stored as, and the product.
struct Layer {
    const void *weights;
    const float *bias, *scale;
    Range range;
};

struct Fp32 {
    typedef float Input;
    static INLINE_MEMBER void put(Input *to, Floats x, const Layer &) { store(to, x); }
    template <class Use>
    static INLINE_MEMBER void apply(const Input *rows, int n, const Layer &layer, int inputs, int outputs, Use use) {
        multiply(rows, inputs, n, (const float *)layer.weights, layer.bias, inputs, outputs, use);
    }
    static const void *weights_at(const float *weights, long numbers) { return weights + numbers; }
};

struct Int8 {
    typedef uint8_t Input;
    static INLINE_MEMBER void put(Input *to, Floats x, const Layer &layer) { store_codes(to, x, layer.range); }
    template <class Use>
    static INLINE_MEMBER void apply(const Input *rows, int n, const Layer &layer, int inputs, int outputs, Use use) {
        multiply_codes(rows, inputs, n, (const int8_t *)layer.weights, layer.scale, layer.bias, inputs, outputs, use);
    }
    static const void *weights_at(const float *weights, long numbers) { return (const int8_t *)weights + numbers; }
};

// What one thread computes in. Rows beyond the counted ones are read by products (see `multiply`) and never used.
struct Workspace {
    alignas(64) float stretched[TOGETHER][BANDS][PIXELS];
    float tokens[(MOST_GALAXIES * TOKENS + TILE_ROWS) * WIDTH];
    float from_inception[(MOST_GALAXIES + TILE_ROWS) * WIDTH];
    float from_encoder[(MOST_GALAXIES + TILE_ROWS) * WIDTH];
    float pooled_hidden[(MOST_GALAXIES + TILE_ROWS) * HIDDEN];
    union {
        float patches[(TOGETHER * PATCHES + TILE_ROWS) * PATCH_INPUTS];
        struct {
            float normed[(TOGETHER * TOKENS + TILE_ROWS) * WIDTH];
            float qkv[(TOGETHER * TOKENS + TILE_ROWS) * 3 * WIDTH];
            float mixed[(TOGETHER * TOKENS + TILE_ROWS) * WIDTH];
            float hidden[(TOGETHER * TOKENS + TILE_ROWS) * HIDDEN];
        };
        struct {
            float image[2][(IMAGES_TOGETHER * 256 + TILE_ROWS) * 64];
            float starts[(IMAGES_TOGETHER * 256 + TILE_ROWS) * 64];
            float padded[3][20 * 20 * 16];
        };
        struct {
            float magnitudes[(MOST_GALAXIES + TILE_ROWS) * LANES];
            float features[2][(MOST_GALAXIES + TILE_ROWS) * IMAGE_FEATURES];
            float joined[(MOST_GALAXIES + TILE_ROWS) * FEATURES];
        };
    };
};
