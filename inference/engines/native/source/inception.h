// The inception network: stretched cutouts to 192 numbers each.
//
// Images are (S, S, channels): the 1x1 convolutions that begin every branch are one product over pixels.
#pragma once

#include "network.h"

// Lanes of a block's width, 16, 8 or 4 channels.
template <int W>
using Channels = float __attribute__((ext_vector_type(W)));

template <int W>
INLINE Channels<W> load_channels(const float *from) {
    Channels<W> x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
}

template <int W>
INLINE void store_channels(float *to, Channels<W> x) {
    __builtin_memcpy(to, &x, sizeof x);
}

// A convolution of K by K, then ReLU: image with a margin of 2, (S + 4, S + 4, W), to (S, S, `channels`), of which W
// are written. As many pixels at a time as registers hold.
template <int S, int W, int K>
static void convolve(const float *padded, const float *weights, const float *bias, float *out, int channels) {
    constexpr int ACROSS = S + 4, MARGIN = (5 - K) / 2, PIECE = TILE_PANELS > 1 || W < 16 || S < 16 ? S : 4;
    const Channels<W> start = load_channels<W>(bias), zero = {};
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x += PIECE) {
            Channels<W> sums[PIECE];
#pragma unroll
            for (int i = 0; i < PIECE; i++) sums[i] = start;
            for (int tap = 0; tap < K * K; tap++) {
                const float *pixels = padded + ((y + MARGIN + tap / K) * ACROSS + x + MARGIN + tap % K) * W;
                for (int input = 0; input < W; input++) {
                    const Channels<W> weight = load_channels<W>(weights + (tap * W + input) * W);
#pragma unroll
                    for (int i = 0; i < PIECE; i++)
                        sums[i] = __builtin_elementwise_fma(weight, (Channels<W>)pixels[i * W + input], sums[i]);
                }
            }
            for (int i = 0; i < PIECE; i++)
                store_channels<W>(out + (y * S + x + i) * channels, sums[i] > 0 ? sums[i] : zero);
        }
}

// A block for n images: (n, S, S, inputs) to (n, S, S, W per branch): 1x1, 3x3, 5x5 unless BRANCHES is 3, and the mean
// of 3x3 pixels (nine of them everywhere: zeros count at the border).
template <int S, int W, int BRANCHES>
static void run_inception_block(const Weights &weights, int block, Workspace &space, int n, const float *images,
                                int inputs, float *out) {
    constexpr int CHANNELS = BRANCHES * W, ACROSS = S + 4, STARTS = (CHANNELS + LANES - 1) / LANES * LANES;
    float *starts = space.starts;
    const Dense shared = weights.shared[block];
    multiply(images, inputs, n * S * S, shared.weights, shared.bias, inputs, STARTS,
             [=](int row, int column, Floats x) { store(starts + row * STARTS + column, relu(x)); });
    float *to_3x3 = space.padded[0], *to_5x5 = space.padded[1], *to_pool = space.padded[2];
    for (int i = 0; i < 3; i++) __builtin_memset(space.padded[i], 0, ACROSS * ACROSS * W * sizeof(float));
    for (int image = 0; image < n; image++) {
        float *to = out + image * S * S * CHANNELS;
        for (int pixel = 0; pixel < S * S; pixel++) {
            const float *from = starts + (image * S * S + pixel) * STARTS;
            const int inside = ((pixel / S + 2) * ACROSS + pixel % S + 2) * W;
            __builtin_memcpy(to + pixel * CHANNELS, from, W * sizeof(float));
            __builtin_memcpy(to_3x3 + inside, from + W, W * sizeof(float));
            if constexpr (BRANCHES == 4) __builtin_memcpy(to_5x5 + inside, from + 2 * W, W * sizeof(float));
            __builtin_memcpy(to_pool + inside, from + (BRANCHES - 1) * W, W * sizeof(float));
        }
        convolve<S, W, 3>(to_3x3, weights.wide_3x3[block], weights.wide_3x3_bias[block], to + W, CHANNELS);
        if constexpr (BRANCHES == 4)
            convolve<S, W, 5>(to_5x5, weights.wide_5x5[block], weights.wide_5x5_bias[block], to + 2 * W, CHANNELS);
        for (int pixel = 0; pixel < S * S; pixel++) {
            Channels<W> total = {};
            for (int tap = 0; tap < 9; tap++)
                total += load_channels<W>(to_pool +
                                          ((pixel / S + 1 + tap / 3) * ACROSS + pixel % S + 1 + tap % 3) * W);
            store_channels<W>(to + pixel * CHANNELS + (BRANCHES - 1) * W, total * (1.0f / 9));
        }
    }
}

// The mean of 2x2 pixels: (n, S, S, channels) to (n, S / 2, S / 2, channels).
static void halve(const float *images, int n, int side, int channels, float *out) {
    for (int image = 0; image < n; image++)
        for (int y = 0; y < side; y += 2)
            for (int x = 0; x < side; x += 2, out += channels) {
                const float *above = images + ((image * side + y) * side + x) * channels, *below = above + side * channels;
                for (int c = 0; c < channels; c += LANES)
                    store(out + c, ((load(above + c) + load(above + channels + c)) +
                                    (load(below + c) + load(below + channels + c))) * all(0.25f));
            }
}

// A 1x1 convolution from 5 bands to 32 channels, ReLU, and the mean of 2x2 pixels: (5, 32, 32) to (16, 16, 32).
static void begin_inception(const Weights &weights, const float (&bands)[BANDS][PIXELS], float *out) {
    for (int y = 0; y < SIDE; y += 2)
        for (int x = 0; x < SIDE; x += 2, out += 32)
            for (int c = 0; c < 32; c += LANES) {
                Floats total = all(0);
                for (int corner = 0; corner < 4; corner++) {
                    const int pixel = (y + corner / 2) * SIDE + x + corner % 2;
                    Floats value = load(weights.first_bias + c);
                    for (int band = 0; band < BANDS; band++)
                        value = multiply_add(all(bands[band][pixel]), load(weights.first + band * 32 + c), value);
                    total += relu(value);
                }
                store(out + c, total * all(0.25f));
            }
}

// Stretched cutouts to (n, 192), the 12 channels of 4x4 pixels; n at most IMAGES_TOGETHER.
static void run_inception(const Weights &weights, Workspace &space, const float (*stretched)[BANDS][PIXELS], int n,
                          float *out) {
    float *one = space.image[0], *two = space.image[1];
    for (int image = 0; image < n; image++) begin_inception(weights, stretched[image], one + image * 256 * 32);
    run_inception_block<16, 16, 4>(weights, 0, space, n, one, 32, two);  // (n, 16, 16, 64)
    run_inception_block<16, 16, 4>(weights, 1, space, n, two, 64, one);  // (n, 16, 16, 64)
    halve(one, n, 16, 64, two);                                          // (n, 8, 8, 64)
    run_inception_block<8, 8, 4>(weights, 2, space, n, two, 64, one);    // (n, 8, 8, 32)
    run_inception_block<8, 8, 4>(weights, 3, space, n, one, 32, two);    // (n, 8, 8, 32)
    halve(two, n, 8, 32, one);                                           // (n, 4, 4, 32)
    run_inception_block<4, 4, 3>(weights, 4, space, n, one, 32, out);    // (n, 4, 4, 12)
}
