// The kernels of the native engine one by one, for tests that compare each with numpy.
#include "../inference/engines/native/source/engine.cpp"

extern "C" {

void test_multiply(const float *rows, int stride, int num_rows, const float *weights, const float *bias, int inputs,
                   int outputs, float *out) {
    multiply(rows, stride, num_rows, weights, bias, inputs, outputs,
             [=](int row, int column, Floats x) { store(out + row * outputs + column, x); });
}

void test_function(int which, const float *x, int n, float *out) {
    for (int i = 0; i < n; i += LANES) {
        const Floats in = load(x + i);
        store(out + i, which == 0   ? exponential(in)
                       : which == 1 ? logarithm(in)
                       : which == 2 ? arcsinh(in)
                       : which == 3 ? silu(in)
                                    : gelu(in));
    }
}

void test_transpose(const float *square, float *out) {
    Floats rows[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = load(square + i * LANES);
    transpose(rows);
    for (int i = 0; i < LANES; i++) store(out + i * LANES, rows[i]);
}

void test_normalise(const float *row, float *out) {
    normalise(row, [=](int column, Floats x) { store(out + column, x); });
}

void test_attend(const float *qkv, float *mixed) {
    attend<TOKENS>(qkv, [=](int token, int column, Floats x) { store(mixed + token * WIDTH + column, x); });
}

void test_codes(const float *x, int n, float inverse_step, int zero, uint8_t *out) {
    for (int i = 0; i < n; i += LANES) store_codes(out + i, load(x + i), {inverse_step, zero});
}

void test_multiply_codes(const uint8_t *rows, int stride, int num_rows, const int8_t *weights, const float *scale,
                         const float *bias, int inputs, int outputs, float *out) {
    multiply_codes(rows, stride, num_rows, weights, scale, bias, inputs, outputs,
                   [=](int row, int column, Floats x) { store(out + row * outputs + column, x); });
}

void test_groups(float *patches, const float *expand, const float *expand_bias, const float *reduce,
                 const float *reduce_bias) {
    add_convolution(patches, expand, expand_bias, reduce, reduce_bias);
}

void test_convolve(int side, int size, const float *padded, const float *weights, const float *bias, float *out) {
    if (side == 16 && size == 3) convolve<16, 16, 3>(padded, weights, bias, out, 16);
    if (side == 16 && size == 5) convolve<16, 16, 5>(padded, weights, bias, out, 16);
    if (side == 8 && size == 5) convolve<8, 8, 5>(padded, weights, bias, out, 8);
    if (side == 4 && size == 3) convolve<4, 4, 3>(padded, weights, bias, out, 4);
}

void test_halve(const float *images, int n, int side, int channels, float *out) {
    halve(images, n, side, channels, out);
}

// Weights one behind the other, and where each begins [bytes].
void test_network(const char *packed, const long *starts, int num_arrays, const float *images, const float *magnitudes,
                  int n, float *redshifts) {
    static Workspace space;
    static const void *weights[sizeof(Weights) / sizeof(void *)];
    for (int i = 0; i < num_arrays; i++) weights[i] = packed + starts[i];
    predict((const Weights *)weights, images, magnitudes, n, redshifts, &space);
}
}
