// The product of rows with packed weights, and what follows it while the result is in registers.
#pragma once

#include "vector.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A tile of the result fills the registers: 6 rows of 16 columns are 12 of AVX2's 16, next to two of weights and one of
// rows; 8 rows of 48 columns are 24 of AVX-512's 32; 6 of 16 are 24 of NEON's 32.
#if defined(__AVX512F__)
constexpr int TILE_ROWS = 8, TILE_PANELS = 3;
#else
constexpr int TILE_ROWS = 6, TILE_PANELS = 1;
#endif

// Inputs that are summed before the next rows are read, so that a panel of weights, 48 kB, stays in a near cache while
// all rows pass by. Measured: 192 and 384 cost more for the unfinished sums than they gain. The order of the sum is
// that without this limit.
constexpr int DEPTH = 768;

// The most rows of a product that has more inputs than that: those of the heads.
constexpr int DEEP_ROWS = 128;

// Sums `inputs` products for each number of a tile: (TILE_ROWS, inputs) times (inputs, PANELS * 16).
// Weights are panels of 16 columns, (inputs, 16) each, `panel` numbers from one to the next.
template <int PANELS>
INLINE void add_products(const float *rows, long stride, const float *weights, long panel, int inputs,
                         Floats (&tile)[TILE_ROWS][PANELS]) {
    for (int k = 0; k < inputs; k++) {
        Floats columns[PANELS];
#pragma unroll
        for (int p = 0; p < PANELS; p++) columns[p] = load(weights + p * panel + k * LANES);
#pragma unroll
        for (int r = 0; r < TILE_ROWS; r++) {
            const Floats input = all(rows[r * stride + k]);
#pragma unroll
            for (int p = 0; p < PANELS; p++) tile[r][p] = multiply_add(input, columns[p], tile[r][p]);
        }
    }
}

// The columns of one to three panels for all rows.
template <int PANELS, class Use>
static void multiply_panels(const float *rows, long stride, int num_rows, const float *weights, const float *bias,
                            int inputs, int column, Use use) {
    const long panel = (long)inputs * LANES;
    alignas(64) float unfinished[DEEP_ROWS + TILE_ROWS][PANELS][LANES];
    for (int from = 0; from < inputs; from += DEPTH) {
        const int depth = inputs - from < DEPTH ? inputs - from : DEPTH;
        const bool is_first = from == 0, is_last = from + depth == inputs;
        for (int row = 0; row < num_rows; row += TILE_ROWS) {
            Floats tile[TILE_ROWS][PANELS];
#pragma unroll
            for (int r = 0; r < TILE_ROWS; r++)
#pragma unroll
                for (int p = 0; p < PANELS; p++)
                    tile[r][p] = is_first ? load(bias + column + p * LANES) : load(unfinished[row + r][p]);
            add_products<PANELS>(rows + row * stride + from, stride, weights + from * LANES, panel, depth, tile);
            if (!is_last) {
#pragma unroll
                for (int r = 0; r < TILE_ROWS; r++)
#pragma unroll
                    for (int p = 0; p < PANELS; p++) store(unfinished[row + r][p], tile[r][p]);
                continue;
            }
#pragma unroll
            for (int r = 0; r < TILE_ROWS; r++)
                if (row + r < num_rows)
#pragma unroll
                    for (int p = 0; p < PANELS; p++) use(row + r, column + p * LANES, tile[r][p]);
        }
    }
}

// rows (num_rows, inputs) times weights (inputs, outputs) plus bias (outputs), 16 columns of a row at a time to `use`.
//
// Weights are packed: (outputs / 16, inputs, 16). A row begins `stride` numbers behind the one before it. Up to
// TILE_ROWS - 1 rows behind the last are read and their results dropped: the memory must be there.
template <class Use>
static void multiply(const float *rows, long stride, int num_rows, const float *weights, const float *bias, int inputs,
                     int outputs, Use use) {
    int column = 0;
    for (; column + TILE_PANELS * LANES <= outputs; column += TILE_PANELS * LANES)
        multiply_panels<TILE_PANELS>(rows, stride, num_rows, weights + (long)column * inputs, bias, inputs, column, use);
    for (; column < outputs; column += LANES)
        multiply_panels<1>(rows, stride, num_rows, weights + (long)column * inputs, bias, inputs, column, use);
}

// ------------------------------------------------------------------------------------------------------- in 8 bits

typedef uint8_t Bytes __attribute__((ext_vector_type(16)));

// Inputs are 0 ... 255 and weights -63 ... 63, 7 bits: AVX2 adds two products in 16 bits, and 2 * 255 * 63 just fits. So
// every instruction set finds the same whole numbers.
struct Range {
    float inverse_step;  // of the inputs: x is near (code - zero) / inverse_step
    int zero;
};

INLINE void store_codes(uint8_t *to, Floats x, Range range) {
    const Floats rounded = multiply_add(x, all(range.inverse_step), all(12582912.0f));  // see `exponential`
    Ints code = (Ints)rounded - 0x4b400000 + range.zero;
    code = code < 0 ? (Ints)0 : code;
    code = code > 255 ? (Ints)255 : code;
    const Bytes bytes = __builtin_convertvector(code, Bytes);
    __builtin_memcpy(to, &bytes, sizeof bytes);
}

// Rows of a tile in 8 bits: with AVX2 a product needs two registers on its way to a sum, and of 6 rows two sums were
// written to memory and read again in every step. Measured: the engine with 3, 4 and 5 rows is 1.07, 1.11 and 1.11 times
// as fast as with 6, and 4 divide the rows of 16 galaxies.
#if defined(__AVX512F__)
constexpr int CODE_ROWS = TILE_ROWS;
#else
constexpr int CODE_ROWS = 4;
#endif

// Adds to each of 16 sums four inputs times its four weights, which are (16, 4).
INLINE Ints add_four_products(Ints sums, int32_t inputs, const int8_t *weights) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(inputs), _mm512_loadu_si512(weights));
#elif defined(__AVX2__)
    typedef int32_t Half __attribute__((ext_vector_type(8)));
    const __m256i four = _mm256_set1_epi32(inputs), one = _mm256_set1_epi16(1);
    const __m256i low = _mm256_loadu_si256((const __m256i_u *)weights);
    const __m256i high = _mm256_loadu_si256((const __m256i_u *)(weights + 32));
    sums.lo += (Half)_mm256_madd_epi16(_mm256_maddubs_epi16(four, low), one);
    sums.hi += (Half)_mm256_madd_epi16(_mm256_maddubs_epi16(four, high), one);
    return sums;
#else
    for (int column = 0; column < LANES; column++)
        for (int k = 0; k < 4; k++) sums[column] += (int32_t)(inputs >> 8 * k & 255) * weights[4 * column + k];
    return sums;
#endif
}

// As `multiply`, of codes with weights packed as (outputs / 16, inputs / 4, 16, 4); a sum times `scale` plus `bias`, both
// (outputs), is the result. Inputs are whole fours, and few enough for a panel to stay in the first cache.
template <int PANELS, class Use>
static void multiply_code_panels(const uint8_t *rows, long stride, int num_rows, const int8_t *weights,
                                 const float *scale, const float *bias, int inputs, int column, Use use) {
    const long panel = (long)inputs * LANES;
    for (int row = 0; row < num_rows; row += CODE_ROWS) {
        Ints tile[CODE_ROWS][PANELS];
#pragma unroll
        for (int r = 0; r < CODE_ROWS; r++)
#pragma unroll
            for (int p = 0; p < PANELS; p++) tile[r][p] = (Ints)0;
        for (int k = 0; k < inputs; k += 4) {
#pragma unroll
            for (int r = 0; r < CODE_ROWS; r++) {
                int32_t four;
                __builtin_memcpy(&four, rows + (row + r) * stride + k, sizeof four);
#pragma unroll
                for (int p = 0; p < PANELS; p++)
                    tile[r][p] = add_four_products(tile[r][p], four, weights + p * panel + k * LANES);
            }
        }
#pragma unroll
        for (int r = 0; r < CODE_ROWS; r++)
            if (row + r < num_rows)
#pragma unroll
                for (int p = 0; p < PANELS; p++) {
                    const int from = column + p * LANES;
                    use(row + r, from,
                        multiply_add(__builtin_convertvector(tile[r][p], Floats), load(scale + from), load(bias + from)));
                }
    }
}

template <class Use>
static void multiply_codes(const uint8_t *rows, long stride, int num_rows, const int8_t *weights, const float *scale,
                           const float *bias, int inputs, int outputs, Use use) {
    int column = 0;
    for (; column + TILE_PANELS * LANES <= outputs; column += TILE_PANELS * LANES)
        multiply_code_panels<TILE_PANELS>(rows, stride, num_rows, weights + (long)column * inputs, scale, bias, inputs,
                                          column, use);
    for (; column < outputs; column += LANES)
        multiply_code_panels<1>(rows, stride, num_rows, weights + (long)column * inputs, scale, bias, inputs, column,
                                use);
}
