// AstroMAE from cutouts and magnitudes to redshifts, for one thread. What each layer is, and how the weights were
// folded: inference/engines/folded.py. A galaxy's tokens stay in the caches from the patches to its 192 features.
//
// Nothing here allocates, throws, locks or calls a library: Python gives every thread its workspace.
#include "inception.h"
#include "transformer.h"

namespace {

// Cutouts (n, 5, 32, 32) [nanomaggy / pixel] through asinh(pixel / softening), which keeps bright centres small.
void stretch(const Weights &weights, const float *images, int n, float (*out)[BANDS][PIXELS]) {
    for (int galaxy = 0; galaxy < n; galaxy++)
        for (int band = 0; band < BANDS; band++) {
            const Floats scale = all(weights.inverse_softening[band]);
            for (int pixel = 0; pixel < PIXELS; pixel += LANES)
                store(out[galaxy][band] + pixel, arcsinh(load(images + (galaxy * BANDS + band) * PIXELS + pixel) * scale));
        }
}

// A dense layer with a ReLU behind it, to rows that begin `stride` numbers apart.
void run_dense(const float *rows, int inputs, int n, Dense layer, int outputs, float *out, int stride) {
    multiply(rows, inputs, n, layer.weights, layer.bias, inputs, outputs,
             [=](int row, int column, Floats x) { store(out + row * stride + column, relu(x)); });
}

// Three branches of 1,104, 1,104 and 1,024 features, joined, to one redshift: n galaxies.
void run_heads(const Weights &weights, Workspace &space, const float *magnitudes, int n, float *redshifts) {
    float *one = space.features[0], *two = space.features[1], *joined = space.joined;
    run_dense(space.from_encoder, WIDTH, n, weights.encoder[0], IMAGE_FEATURES, one, IMAGE_FEATURES);
    run_dense(one, IMAGE_FEATURES, n, weights.encoder[1], IMAGE_FEATURES, joined, FEATURES);
    run_dense(space.from_inception, WIDTH, n, weights.inception[0], IMAGE_FEATURES, one, IMAGE_FEATURES);
    run_dense(one, IMAGE_FEATURES, n, weights.inception[1], IMAGE_FEATURES, joined + IMAGE_FEATURES, FEATURES);
    for (int galaxy = 0; galaxy < n; galaxy++)
        for (int i = 0; i < LANES; i++)
            space.magnitudes[galaxy * LANES + i] =
                i < BANDS ? magnitudes[galaxy * BANDS + i] - weights.magnitude_center[i] : 0;
    run_dense(space.magnitudes, LANES, n, weights.magnitudes[0], MAGNITUDE_FEATURES, one, MAGNITUDE_FEATURES);
    run_dense(one, MAGNITUDE_FEATURES, n, weights.magnitudes[1], MAGNITUDE_FEATURES, two, MAGNITUDE_FEATURES);
    run_dense(two, MAGNITUDE_FEATURES, n, weights.magnitudes[2], MAGNITUDE_FEATURES, one, MAGNITUDE_FEATURES);
    run_dense(one, MAGNITUDE_FEATURES, n, weights.magnitudes[3], MAGNITUDE_FEATURES, two, MAGNITUDE_FEATURES);
    run_dense(two, MAGNITUDE_FEATURES, n, weights.magnitudes[4], MAGNITUDE_FEATURES, joined + 2 * IMAGE_FEATURES,
              FEATURES);
    run_dense(joined, FEATURES, n, weights.join, MAGNITUDE_FEATURES, one, MAGNITUDE_FEATURES);
    for (int galaxy = 0; galaxy < n; galaxy++) {
        Floats total = all(0);
        for (int k = 0; k < MAGNITUDE_FEATURES; k += LANES)
            total = multiply_add(load(one + galaxy * MAGNITUDE_FEATURES + k), load(weights.last + k), total);
        redshifts[galaxy] = sum(total) + weights.last_bias[0];
    }
}

}  // namespace

extern "C" {

long workspace_bytes() { return sizeof(Workspace); }

int most_galaxies() { return MOST_GALAXIES; }

int num_weights() { return sizeof(Weights) / sizeof(const float *); }

// images (n, 5, 32, 32), magnitudes (n, 5) and redshifts (n), n at most `most_galaxies()`; `space` on a line of 64 B.
void predict(const Weights *weights, const float *images, const float *magnitudes, int n, float *redshifts,
             Workspace *space) {
    for (int first = 0; first < n; first += TOGETHER) {
        const int count = n - first < TOGETHER ? n - first : TOGETHER;
        stretch(*weights, images + (long)first * BANDS * PIXELS, count, space->stretched);
        embed_patches(*weights, *space, count, space->tokens + first * TOKENS * WIDTH);
        for (int image = 0; image < count; image += IMAGES_TOGETHER)
            run_inception(*weights, *space, space->stretched + image,
                          count - image < IMAGES_TOGETHER ? count - image : IMAGES_TOGETHER,
                          space->from_inception + (first + image) * WIDTH);
    }
    // Only weights in 8 bits have ranges.
    if (weights->ranges) run_encoder<Int8>(*weights, *space, n);
    else run_encoder<Fp32>(*weights, *space, n);
    run_heads(*weights, *space, magnitudes, n, redshifts);
}
}
