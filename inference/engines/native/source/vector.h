// Sixteen floats at a time, in the compiler's own vector type: one AVX-512 register, two of AVX2, four of NEON.
//
// Multiply-adds are written out and the compiler may not join others (-ffp-contract=off), and sums over lanes have one
// order: the same numbers come out with every instruction set.
#pragma once

#include <stdint.h>

#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE static INLINE_MEMBER

constexpr int LANES = 16;

typedef float Floats __attribute__((ext_vector_type(16)));
typedef float AnywhereFloats __attribute__((ext_vector_type(16), aligned(4)));
typedef int32_t Ints __attribute__((ext_vector_type(16)));

INLINE Floats load(const float *from) { return *(const AnywhereFloats *)from; }
INLINE void store(float *to, Floats x) { *(AnywhereFloats *)to = x; }
INLINE Floats all(float x) { return (Floats)x; }
INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return __builtin_elementwise_fma(a, b, c); }
INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
INLINE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
INLINE Floats relu(Floats x) { return larger(x, all(0)); }

INLINE float sum(Floats x) {
    auto eight = x.lo + x.hi;
    auto four = eight.lo + eight.hi;
    auto two = four.lo + four.hi;
    return two.x + two.y;
}

INLINE float largest(Floats x) {
    float found = x[0];
    for (int i = 1; i < LANES; i++) found = x[i] > found ? x[i] : found;
    return found;
}

// e^x, relative error below 2e-7: x = n ln 2 + r, a polynomial of r (Cephes' expf, S. Moshier), n into the exponent.
INLINE Floats exponential(Floats x) {
    x = larger(smaller(x, all(88.0f)), all(-87.0f));
    const Floats rounder = all(12582912.0f);  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const Floats rounded = multiply_add(x, all(1.44269504f), rounder);
    const Ints exponent = (Ints)rounded - (Ints)rounder;
    const Floats n = rounded - rounder;
    Floats r = multiply_add(n, all(-0.693359375f), x);
    r = multiply_add(n, all(2.12194440e-4f), r);
    Floats p = all(1.9875691500e-4f);
    p = multiply_add(p, r, all(1.3981999507e-3f));
    p = multiply_add(p, r, all(8.3334519073e-3f));
    p = multiply_add(p, r, all(4.1665795894e-2f));
    p = multiply_add(p, r, all(1.6666665459e-1f));
    p = multiply_add(p, r, all(5.0000001201e-1f));
    p = multiply_add(r * r, p, r + all(1.0f));
    return p * (Floats)((exponent + 127) << 23);
}

// ln x for normal x > 0, relative error below 2e-7 (Cephes' logf).
INLINE Floats logarithm(Floats x) {
    const Ints bits = (Ints)x;
    const Ints exponent = (bits - 0x3f3504f3) >> 23;  // x = 2^exponent * m with sqrt(1/2) <= m < sqrt(2)
    const Floats m = (Floats)(bits - (exponent << 23));
    const Floats e = __builtin_convertvector(exponent, Floats);
    const Floats t = m - all(1.0f), z = t * t;
    Floats p = all(7.0376836292e-2f);
    p = multiply_add(p, t, all(-1.1514610310e-1f));
    p = multiply_add(p, t, all(1.1676998740e-1f));
    p = multiply_add(p, t, all(-1.2420140846e-1f));
    p = multiply_add(p, t, all(1.4249322787e-1f));
    p = multiply_add(p, t, all(-1.6668057665e-1f));
    p = multiply_add(p, t, all(2.0000714765e-1f));
    p = multiply_add(p, t, all(-2.4999993993e-1f));
    p = multiply_add(p, t, all(3.3333331174e-1f));
    p = p * t * z;
    p = multiply_add(e, all(-2.12194440e-4f), p);
    p = multiply_add(z, all(-0.5f), p);
    return multiply_add(e, all(0.693359375f), t + p);
}

// asinh as the folded network has it: sign(x) ln(|x| + sqrt(x^2 + 1)).
INLINE Floats arcsinh(Floats x) {
    const Floats size = __builtin_elementwise_abs(x);
    const Floats stretched = logarithm(size + __builtin_elementwise_sqrt(multiply_add(size, size, all(1.0f))));
    return (Floats)((Ints)stretched | ((Ints)x & (Ints)(int32_t)0x80000000));
}

// x / (1 + e^-x)
INLINE Floats silu(Floats x) { return x / (all(1.0f) + exponential(-x)); }

// x/2 (1 + erf(x / sqrt 2)); erf is the quotient of two polynomials that XLA and Eigen use, on -4 ... 4.
INLINE Floats gelu(Floats x) {
    const Floats t = larger(smaller(x * all(0.70710678118f), all(4.0f)), all(-4.0f));
    const Floats z = t * t;
    Floats above = all(-2.72614225801306e-10f);
    above = multiply_add(above, z, all(2.77068142495902e-08f));
    above = multiply_add(above, z, all(-2.10102402082508e-06f));
    above = multiply_add(above, z, all(-5.69250639462346e-05f));
    above = multiply_add(above, z, all(-7.34990630326855e-04f));
    above = multiply_add(above, z, all(-2.95459980854025e-03f));
    above = multiply_add(above, z, all(-1.60960333262415e-02f));
    Floats below = all(-1.45660718464996e-05f);
    below = multiply_add(below, z, all(-2.13374055278905e-04f));
    below = multiply_add(below, z, all(-1.68282697438203e-03f));
    below = multiply_add(below, z, all(-7.37332916720468e-03f));
    below = multiply_add(below, z, all(-1.42647390514189e-02f));
    const Floats half = x * all(0.5f);
    return multiply_add(half, t * above / below, half);
}

// Rows of 16 numbers become columns. Interleaving row i with row i + 8, four times, is a transposition.
INLINE void transpose(Floats rows[16]) {
    Floats other[16];
    auto interleave = [](const Floats *from, Floats *to) __attribute__((always_inline)) {
        for (int i = 0; i < 8; i++) {
            to[2 * i] = __builtin_shufflevector(from[i], from[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22,
                                                7, 23);
            to[2 * i + 1] = __builtin_shufflevector(from[i], from[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29,
                                                    14, 30, 15, 31);
        }
    };
    interleave(rows, other), interleave(other, rows), interleave(rows, other), interleave(other, rows);
}
