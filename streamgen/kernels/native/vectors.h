// The vector operations that the step is written in, once for each instruction set it is compiled for.
//
//     F   LANES floats        I   LANES 32-bit integers        Q   4 · LANES bytes, a quad for each lane
//     load of 16-bit numbers reads bfloat16, of Half float16
//     fetch       asks for a line of memory that is read soon; fetch_far for one that is read later
//     Dot<BITS>   sums of products of quads: unsigned weights below 2^BITS times signed bytes
//
// Rules: every operation rounds as IEEE says and in the order written (no fused product but `fma`), so a result depends
// on nothing but its inputs. Nothing here knows what is computed.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(_MSC_VER)
#define INLINE static __forceinline
#define MEMBER __forceinline
#define APART __declspec(noinline)
#else
#define INLINE static inline __attribute__((always_inline))
#define MEMBER inline __attribute__((always_inline))
#define APART __attribute__((noinline))
#endif

struct Half {
  uint16_t bits;
};

INLINE int32_t quad_of(const int8_t* bytes) {
  int32_t quad;
  memcpy(&quad, bytes, 4);
  return quad;
}

#if defined(STREAMGEN_AVX512)  // ------------------------------------------------ AVX-512 F, BW, VL, VNNI
#include <immintrin.h>
constexpr int LANES = 16;
typedef __m512 F;
typedef __m512i I;
typedef __m512i Q;
INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
INLINE void store(float* p, F x) { _mm512_storeu_ps(p, x); }
INLINE F all(float x) { return _mm512_set1_ps(x); }
INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
INLINE F divide(F a, F b) { return _mm512_div_ps(a, b); }
INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
INLINE F larger(F a, F b) { return _mm512_max_ps(a, b); }
INLINE F smaller(F a, F b) { return _mm512_min_ps(a, b); }
INLINE F magnitude(F a) { return _mm512_abs_ps(a); }
INLINE F where_negative(F x, F yes, F no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), no, yes);
}
INLINE float sum(F a) { return _mm512_reduce_add_ps(a); }
INLINE float largest(F a) { return _mm512_reduce_max_ps(a); }
INLINE I all_int(int32_t x) { return _mm512_set1_epi32(x); }
INLINE I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
INLINE int32_t sum_int(I a) { return _mm512_reduce_add_epi32(a); }
INLINE I nearest(F a) { return _mm512_cvtps_epi32(a); }
INLINE F floats(I a) { return _mm512_cvtepi32_ps(a); }
INLINE F two_to(I n) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23)); }
INLINE F load(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
INLINE F load(const Half* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
INLINE F load_int8(const int8_t* p) { return floats(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
INLINE void store_int8(int8_t* p, I a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a)); }
INLINE Q load_quads(const uint8_t* p) { return _mm512_loadu_si512(p); }
INLINE Q all_quads(int32_t quad) { return _mm512_set1_epi32(quad); }
INLINE Q low_nibbles(Q q) { return _mm512_and_si512(q, _mm512_set1_epi8(15)); }
INLINE Q high_nibbles(Q q) { return _mm512_and_si512(_mm512_srli_epi16(q, 4), _mm512_set1_epi8(15)); }
template <int PAIR> MEMBER Q with_pair(Q nibbles, Q pairs) {  // bits 2 · PAIR and up of each byte become bits 4 and 5
  Q at4 = PAIR < 2 ? _mm512_slli_epi16(pairs, 4 - 2 * PAIR) : _mm512_srli_epi16(pairs, 2 * PAIR - 4);
  return _mm512_ternarylogic_epi32(nibbles, at4, _mm512_set1_epi8(0x30), 0xF8);  // nibbles | (at4 & 0x30)
}
INLINE void fetch(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
INLINE void fetch_far(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
template <int BITS> struct Dot {
  static constexpr bool corrected = true;  // by -zero · sum of the bytes
  I total;
  Dot() = default;
  MEMBER explicit Dot(int32_t start) : total(all_int(start)) {}
  MEMBER void add(Q weights, Q bytes) { total = _mm512_dpbusd_epi32(total, weights, bytes); }
  MEMBER I sums() const { return total; }
};

#elif defined(STREAMGEN_AVX2)  // ------------------------------------------------- AVX2 and FMA; AVX-VNNI where compiled for it
#include <immintrin.h>
constexpr int LANES = 8;
typedef __m256 F;
typedef __m256i I;
typedef __m256i Q;
INLINE F load(const float* p) { return _mm256_loadu_ps(p); }
INLINE void store(float* p, F x) { _mm256_storeu_ps(p, x); }
INLINE F all(float x) { return _mm256_set1_ps(x); }
INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
INLINE F divide(F a, F b) { return _mm256_div_ps(a, b); }
INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
INLINE F larger(F a, F b) { return _mm256_max_ps(a, b); }
INLINE F smaller(F a, F b) { return _mm256_min_ps(a, b); }
INLINE F magnitude(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a); }
INLINE F where_negative(F x, F yes, F no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}
INLINE float sum(F a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
INLINE float largest(F a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
INLINE I all_int(int32_t x) { return _mm256_set1_epi32(x); }
INLINE I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
INLINE int32_t sum_int(I a) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
INLINE I nearest(F a) { return _mm256_cvtps_epi32(a); }
INLINE F floats(I a) { return _mm256_cvtepi32_ps(a); }
INLINE F two_to(I n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
INLINE F load(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
INLINE F load(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
INLINE F load_int8(const int8_t* p) { return floats(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
INLINE void store_int8(int8_t* p, I a) {
  __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(words, words));
}
INLINE Q load_quads(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
INLINE Q all_quads(int32_t quad) { return _mm256_set1_epi32(quad); }
INLINE Q low_nibbles(Q q) { return _mm256_and_si256(q, _mm256_set1_epi8(15)); }
INLINE Q high_nibbles(Q q) { return _mm256_and_si256(_mm256_srli_epi16(q, 4), _mm256_set1_epi8(15)); }
template <int PAIR> MEMBER Q with_pair(Q nibbles, Q pairs) {
  Q at4 = PAIR < 2 ? _mm256_slli_epi16(pairs, 4 - 2 * PAIR) : _mm256_srli_epi16(pairs, 2 * PAIR - 4);
  return _mm256_or_si256(nibbles, _mm256_and_si256(at4, _mm256_set1_epi8(0x30)));
}
INLINE void fetch(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
INLINE void fetch_far(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
#if defined(__AVXVNNI__)
template <int BITS> struct Dot {
  static constexpr bool corrected = true;
  I total;
  Dot() = default;
  MEMBER explicit Dot(int32_t start) : total(all_int(start)) {}
  MEMBER void add(Q weights, Q bytes) { total = _mm256_dpbusd_avx_epi32(total, weights, bytes); }
  MEMBER I sums() const { return total; }
};
#else
// _mm256_maddubs_epi16 adds two products in 16 bits: what they can hold decides how often the sums are widened.
template <int BITS> struct Dot {
  static constexpr bool corrected = true;
  I total;
  Dot() = default;
  MEMBER explicit Dot(int32_t start) : total(all_int(start)) {}
  MEMBER void add(Q weights, Q bytes) {
    total = _mm256_add_epi32(total, _mm256_madd_epi16(_mm256_maddubs_epi16(weights, bytes), _mm256_set1_epi16(1)));
  }
  MEMBER I sums() const { return total; }
};
template <> struct Dot<4> {  // eight sums of 2 · 15 · 127, as many as a group has, fit 16 bits
  static constexpr bool corrected = true;
  I narrow, start_;
  Dot() = default;
  MEMBER explicit Dot(int32_t start) : narrow(_mm256_setzero_si256()), start_(all_int(start)) {}
  MEMBER void add(Q weights, Q bytes) { narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(weights, bytes)); }
  MEMBER I sums() const { return _mm256_add_epi32(start_, _mm256_madd_epi16(narrow, _mm256_set1_epi16(1))); }
};
template <> struct Dot<8> {  // 2 · 255 · 127 would not fit: signed weights, their signs moved to the bytes
  static constexpr bool corrected = false;
  I total;
  Dot() = default;
  MEMBER explicit Dot(int32_t) : total(_mm256_setzero_si256()) {}
  MEMBER void add(Q weights, Q bytes) {
    Q w = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
    I pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(bytes, w));
    total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  MEMBER I sums() const { return total; }
};
#endif

#else  // ------------------------------------------------------------------------- any processor; NEON's dot product on ARM
#if defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif
constexpr int LANES = 4;
struct F { float v[LANES]; };
struct I { int32_t v[LANES]; };
struct Q { uint8_t v[4 * LANES]; };
#define EACH for (int i = 0; i < LANES; ++i)
INLINE F load(const float* p) { F r; memcpy(r.v, p, sizeof r.v); return r; }
INLINE void store(float* p, F x) { memcpy(p, x.v, sizeof x.v); }
INLINE F all(float x) { F r; EACH r.v[i] = x; return r; }
INLINE F add(F a, F b) { EACH a.v[i] += b.v[i]; return a; }
INLINE F sub(F a, F b) { EACH a.v[i] -= b.v[i]; return a; }
INLINE F mul(F a, F b) { EACH a.v[i] *= b.v[i]; return a; }
INLINE F divide(F a, F b) { EACH a.v[i] /= b.v[i]; return a; }
INLINE F fma(F a, F b, F c) { EACH c.v[i] += a.v[i] * b.v[i]; return c; }  // in two roundings
INLINE F larger(F a, F b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
INLINE F smaller(F a, F b) { EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
INLINE F magnitude(F a) { EACH a.v[i] = std::fabs(a.v[i]); return a; }
INLINE F where_negative(F x, F yes, F no) { EACH no.v[i] = x.v[i] < 0 ? yes.v[i] : no.v[i]; return no; }
INLINE float sum(F a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
INLINE float largest(F a) { return std::max(std::max(a.v[0], a.v[2]), std::max(a.v[1], a.v[3])); }
INLINE I all_int(int32_t x) { I r; EACH r.v[i] = x; return r; }
INLINE I add_int(I a, I b) { EACH a.v[i] += b.v[i]; return a; }
INLINE int32_t sum_int(I a) { return a.v[0] + a.v[1] + a.v[2] + a.v[3]; }
INLINE I nearest(F a) { I r; EACH r.v[i] = int32_t(std::nearbyint(a.v[i])); return r; }
INLINE F floats(I a) { F r; EACH r.v[i] = float(a.v[i]); return r; }
INLINE F two_to(I n) { EACH n.v[i] = int32_t(uint32_t(n.v[i] + 127) << 23); F r; memcpy(&r, &n, sizeof r); return r; }
INLINE F load(const uint16_t* p) { I r; EACH r.v[i] = int32_t(uint32_t(p[i]) << 16); F f; memcpy(&f, &r, sizeof f); return f; }
#if defined(__ARM_FP16_FORMAT_IEEE)
INLINE F load(const Half* p) { __fp16 h[LANES]; memcpy(h, p, sizeof h); F r; EACH r.v[i] = h[i]; return r; }
#else
INLINE F load(const Half* p) {  // of numbers: one below 2^-14 is what it has beyond 2^-14, had it that too
  F r;
  EACH {
    const uint32_t h = p[i].bits, rest = (h & 0x7FFF) << 13, sign = (h & 0x8000) << 16, tiny = rest < (1u << 23) ? ~0u : 0u;
    const uint32_t whole = rest + (112u << 23), shifted = rest + (113u << 23);
    float x;
    memcpy(&x, &shifted, 4);
    x -= 6.103515625e-05f;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = sign | (bits & tiny) | (whole & ~tiny);
    memcpy(&r.v[i], &bits, 4);
  }
  return r;
}
#endif
INLINE F load_int8(const int8_t* p) { F r; EACH r.v[i] = float(p[i]); return r; }
INLINE void store_int8(int8_t* p, I a) { EACH p[i] = int8_t(a.v[i]); }
#undef EACH
#define EACH for (int i = 0; i < 4 * LANES; ++i)
INLINE Q load_quads(const uint8_t* p) { Q r; memcpy(r.v, p, sizeof r.v); return r; }
INLINE Q all_quads(int32_t quad) { Q r; for (int i = 0; i < LANES; ++i) memcpy(r.v + 4 * i, &quad, 4); return r; }
INLINE Q low_nibbles(Q q) { EACH q.v[i] &= 15; return q; }
INLINE Q high_nibbles(Q q) { EACH q.v[i] >>= 4; return q; }
template <int PAIR> MEMBER Q with_pair(Q nibbles, Q pairs) {
  EACH nibbles.v[i] = uint8_t(nibbles.v[i] | (((pairs.v[i] >> (2 * PAIR)) & 3) << 4));
  return nibbles;
}
#undef EACH
INLINE void fetch(const uint8_t*) {}
INLINE void fetch_far(const uint8_t*) {}
#if defined(__ARM_FEATURE_DOTPROD)
template <int BITS> struct Dot {  // of signed bytes: 8-bit weights lose their offset, smaller ones are signed as they are
  static constexpr bool corrected = BITS < 8;
  int32x4_t total;
  Dot() = default;
  MEMBER explicit Dot(int32_t start) : total(vdupq_n_s32(corrected ? start : 0)) {}
  MEMBER void add(Q weights, Q bytes) {
    uint8x16_t w = vld1q_u8(weights.v);
    if (BITS == 8) w = veorq_u8(w, vdupq_n_u8(128));
    total = vdotq_s32(total, vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(vld1q_u8(bytes.v)));
  }
  MEMBER I sums() const { I r; vst1q_s32(r.v, total); return r; }
};
#else
template <int BITS> struct Dot {
  static constexpr bool corrected = true;
  I total;
  Dot() = default;
  MEMBER explicit Dot(int32_t start) : total(all_int(start)) {}
  MEMBER void add(Q weights, Q bytes) {
    for (int i = 0; i < LANES; ++i)
      for (int k = 0; k < 4; ++k) total.v[i] += int32_t(weights.v[4 * i + k]) * int8_t(bytes.v[4 * i + k]);
  }
  MEMBER I sums() const { return total; }
};
#endif
#endif

// ---------------------------------------------------------------------------------- functions of vectors
INLINE F exponential(F x) {  // 2e-7 relative; Cephes' expf
  x = larger(x, all(-87.f));
  I n = nearest(mul(x, all(1.44269504f)));
  F r = fma(floats(n), all(-0.693359375f), x);
  r = fma(floats(n), all(2.12194440e-4f), r);
  F p = all(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = fma(p, r, all(c));
  return mul(fma(p, mul(r, r), add(r, all(1.f))), two_to(n));
}
INLINE F sigmoid(F x) { return divide(all(1.f), add(all(1.f), exponential(smaller(sub(all(0.f), x), all(80.f))))); }
INLINE F tanh_of(F x) { return sub(mul(all(2.f), sigmoid(add(x, x))), all(1.f)); }
INLINE F gelu(F x) {  // erf by Abramowitz and Stegun 7.1.26, 1.5e-7
  F z = mul(magnitude(x), all(0.70710678f)), t = divide(all(1.f), fma(all(0.3275911f), z, all(1.f)));
  F y = all(1.061405429f);
  for (float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) y = fma(y, t, all(c));
  F erf = sub(all(1.f), mul(mul(y, t), exponential(sub(all(0.f), mul(z, z)))));
  return mul(mul(all(0.5f), x), add(all(1.f), where_negative(x, sub(all(0.f), erf), erf)));
}
