// Matrices in tiles, rows in bytes, and their products.
//
// A matrix is tiles of 32 outputs; a tile is groups of 32 inputs: 32 bfloat16 scales, then 128 bytes for each of BITS
//     4 bits   4 × 128 bytes   byte [output][i]: input 8j + i in the low nibble, 8j + 4 + i in the high one
//     6 bits   the same of the low 4 bits, then 2 × 128: byte [output][i]: bits 4 and 5 of inputs 16j + {0,4,8,12} + i
//     8 bits   8 × 128 bytes   byte [output][i]: input 4j + i
//     16, 32   no groups, no scales: bfloat16 or float [input][output]; with AMX, see below, halves of floats
//     HALF, BFLOAT, FLOAT   the same, of a decoder's weights as they are; for floats.h
// A weight is (byte - zero) · scale, zero = 2^(BITS - 1). Rows are rounded to signed bytes, a float32 scale a group.
//
// Rules: a product is summed in one order, whatever rows are beside it and whichever thread has the tile.
#pragma once
#include <vector>

#include "threads.h"

namespace {

constexpr int TILE = 32, GROUP = 32;
constexpr int HALF = 1, BFLOAT = 2, FLOAT = 3;  // in the place of bits: float16, bfloat16, float32
constexpr int ROWS_AT_ONCE = LANES == 16 ? 6 : 4;  // of quantised rows: what the registers hold
constexpr int TOGETHER = 4;         // tiles that are read side by side
constexpr int FETCH_AHEAD = 2048;   // bytes
constexpr int SUBTILE = 2 * LANES;  // outputs in two vectors
constexpr int SUBTILES = TILE / SUBTILE;

struct Tiles {  // some, `stride` bytes apart
  const uint8_t* first = nullptr;
  size_t stride = 0;
};

struct Matrix {
  const uint8_t* tiles;
  int32_t outputs, inputs, bits;  // outputs: a multiple of TILE; or fewer, of floats that lie row by row
  int count() const { return outputs / TILE; }
  int groups() const { return inputs / GROUP; }
  size_t tile_bytes() const {
    if (bits <= FLOAT) return size_t(inputs) * TILE * (bits == FLOAT ? 4 : 2);
    return bits >= 16 ? size_t(inputs) * TILE * size_t(bits) / 8 : size_t(groups()) * (2 * TILE + 128 * size_t(bits));
  }
  const uint8_t* tile(int i) const { return tiles + size_t(i) * tile_bytes(); }
  Tiles from(int i) const { return {tile(i), tile_bytes()}; }
};

struct Quantised {  // rows of signed bytes, and for each group its scale and the negative sum of its bytes
  int8_t* bytes;
  float* scales;
  int32_t* negative_sums;
  int width;
  int groups() const { return width / GROUP; }
  Quantised from(int row) const {
    return {bytes + size_t(row) * width, scales + size_t(row) * groups(), negative_sums + size_t(row) * groups(), width};
  }
};

class QuantisedBuffer {
 public:
  Quantised of(size_t rows, int width) {
    return {bytes_.of(rows * width), scales_.of(rows * width / GROUP), sums_.of(rows * width / GROUP), width};
  }

 private:
  Buffer<int8_t> bytes_;
  Buffer<float> scales_;
  Buffer<int32_t> sums_;
};

APART void quantise(const float* x, int count, int8_t* bytes, float* scales, int32_t* negative_sums) {
  for (int g = 0; g < count / GROUP; ++g, x += GROUP, bytes += GROUP) {
    F top = magnitude(load(x));
    for (int k = LANES; k < GROUP; k += LANES) top = larger(top, magnitude(load(x + k)));
    const float most = largest(top), inverse = most > 1e-30f ? 127.f / most : 0.f;
    I total = all_int(0);
    for (int k = 0; k < GROUP; k += LANES) {
      const I rounded = nearest(mul(load(x + k), all(inverse)));
      store_int8(bytes + k, rounded);
      total = add_int(total, rounded);
    }
    scales[g] = most / 127.f;
    negative_sums[g] = -sum_int(total);
  }
}

// B rows times T tiles, a group of each in turn, since memory gives more to several streams than to one. What is
// multiplied after them is fetched already while they end. out: tile t's row b at [t * out_rows + b][TILE].
template <int BITS, int B, int T>
APART void times_tiles(const Tiles& tiles, const Tiles& then, const Quantised& rows, float* out, int out_rows) {
  constexpr int BYTES = 2 * TILE + 128 * BITS, AHEAD = (FETCH_AHEAD + BYTES - 1) / BYTES;
  F sums[T][SUBTILES][B][2];
  for (auto& tile : sums)
    for (auto& sub : tile)
      for (auto& row : sub) row[0] = row[1] = all(0.f);
  const int groups = rows.groups();
  const int8_t* bytes = rows.bytes;
  for (int g = 0; g < groups; ++g, bytes += GROUP) {
    const bool ends = g + AHEAD >= groups;
    const Tiles& ahead = ends ? then : tiles;
    for (int t = 0; t < T; ++t) {
      const uint8_t* w = tiles.first + t * tiles.stride + size_t(g) * BYTES;
      const uint8_t* next = ahead.first + t * ahead.stride + size_t(g + AHEAD - (ends ? groups : 0)) * BYTES;
      for (int i = 0; i < BYTES; i += 64) fetch(next + i);
      for (int s = 0; s < SUBTILES; ++s) {
        const uint8_t* p = w + 2 * TILE + s * SUBTILE * 4;
        int32_t start[B];
        for (int b = 0; b < B; ++b) start[b] = rows.negative_sums[b * groups + g] * (1 << (BITS - 1));
        Dot<BITS> left[B], right[B];
        for (int b = 0; b < B; ++b) left[b] = right[b] = Dot<BITS>(start[b]);
        auto both = [&](int quad, Q q0, Q q1) {
          for (int b = 0; b < B; ++b) {
            const Q x = all_quads(quad_of(bytes + size_t(b) * rows.width + 4 * quad));
            left[b].add(q0, x);
            right[b].add(q1, x);
          }
        };
        if constexpr (BITS == 8) {
          for (int j = 0; j < 8; ++j) both(j, load_quads(p + 128 * j), load_quads(p + 128 * j + 4 * LANES));
        } else if constexpr (BITS == 4) {
          for (int j = 0; j < 4; ++j) {
            const Q v0 = load_quads(p + 128 * j), v1 = load_quads(p + 128 * j + 4 * LANES);
            both(2 * j, low_nibbles(v0), low_nibbles(v1));
            both(2 * j + 1, high_nibbles(v0), high_nibbles(v1));
          }
        } else {
          for (int j = 0; j < 2; ++j) {
            const uint8_t *n = p + 256 * j, *two = p + 512 + 128 * j;
            const Q t0 = load_quads(two), t1 = load_quads(two + 4 * LANES);
            Q v0 = load_quads(n), v1 = load_quads(n + 4 * LANES);
            both(4 * j, with_pair<0>(low_nibbles(v0), t0), with_pair<0>(low_nibbles(v1), t1));
            both(4 * j + 1, with_pair<1>(high_nibbles(v0), t0), with_pair<1>(high_nibbles(v1), t1));
            v0 = load_quads(n + 128), v1 = load_quads(n + 128 + 4 * LANES);
            both(4 * j + 2, with_pair<2>(low_nibbles(v0), t0), with_pair<2>(low_nibbles(v1), t1));
            both(4 * j + 3, with_pair<3>(high_nibbles(v0), t0), with_pair<3>(high_nibbles(v1), t1));
          }
        }
        const uint16_t* scales = reinterpret_cast<const uint16_t*>(w) + s * SUBTILE;
        const F w0 = load(scales), w1 = load(scales + LANES);
        for (int b = 0; b < B; ++b) {
          const F row = all(rows.scales[b * groups + g]);
          sums[t][s][b][0] = fma(floats(left[b].sums()), mul(w0, row), sums[t][s][b][0]);
          sums[t][s][b][1] = fma(floats(right[b].sums()), mul(w1, row), sums[t][s][b][1]);
        }
      }
    }
  }
  for (int t = 0; t < T; ++t)
    for (int s = 0; s < SUBTILES; ++s)
      for (int b = 0; b < B; ++b) {
        store(out + (t * out_rows + b) * TILE + s * SUBTILE, sums[t][s][b][0]);
        store(out + (t * out_rows + b) * TILE + s * SUBTILE + LANES, sums[t][s][b][1]);
      }
}

template <int BITS, int T, int B = ROWS_AT_ONCE>
void times_tiles(const Tiles& tiles, const Tiles& then, const Quantised& rows, int some, float* out, int out_rows) {
  if (some == B) return times_tiles<BITS, B, T>(tiles, then, rows, out, out_rows);
  if constexpr (B > 1) times_tiles<BITS, T, B - 1>(tiles, then, rows, some, out, out_rows);
}

template <int BITS, int T>
void times_all_rows(const Tiles& tiles, const Tiles& then, const Quantised& rows, int count, float* out) {
  for (int b = 0; b < count;) {
    const int passes = (count - b + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, some = (count - b + passes - 1) / passes;
    times_tiles<BITS, T>(tiles, passes > 1 ? tiles : then, rows.from(b), some, out + b * TILE, count);
    b += some;
  }
}

template <int T>
void times_tiles(int bits, const Tiles& tiles, const Tiles& then, const Quantised& rows, int count, float* out) {
  switch (bits) {
    case 4: times_all_rows<4, T>(tiles, then, rows, count, out); break;
    case 6: times_all_rows<6, T>(tiles, then, rows, count, out); break;
    default: times_all_rows<8, T>(tiles, then, rows, count, out);
  }
}

// Rows times the tiles of a span; take(tile, out) gets [count][TILE]. `out` holds TOGETHER of those; `then` is what this
// thread multiplies next.
template <class Take>
void multiply(const Matrix& m, Span tiles, const Tiles& then, const Quantised& rows, int count, float* out, Take&& take) {
  for (int i = tiles.start; i < tiles.stop;) {
    const int together = tiles.stop - i < TOGETHER ? 1 : TOGETHER;
    const Tiles next = i + together < tiles.stop ? m.from(i + together) : then;
    if (together == 1) times_tiles<1>(m.bits, m.from(i), next, rows, count, out);
    else times_tiles<TOGETHER>(m.bits, m.from(i), next, rows, count, out);
    for (int t = 0; t < together; ++t, ++i) take(i, static_cast<const float*>(out + size_t(t) * count * TILE));
  }
}

// R float32 rows, `stride` apart, times one tile of floats or bfloat16s: out [R][TILE].
constexpr int FLOAT_ROWS = LANES == 16 ? 12 : 4;
template <class Weight, int R>
APART void times_float_tile(const Weight* w, int inputs, const float* x, int64_t stride, float* out) {
  for (int s = 0; s < SUBTILES; ++s) {
    F left[R], right[R];
    for (int r = 0; r < R; ++r) left[r] = right[r] = all(0.f);
    const Weight* p = w + s * SUBTILE;
    for (int k = 0; k < inputs; ++k, p += TILE) {
      fetch(reinterpret_cast<const uint8_t*>(p) + FETCH_AHEAD);
      const F w0 = load(p), w1 = load(p + LANES);
      for (int r = 0; r < R; ++r) {
        const F one = all(x[r * stride + k]);
        left[r] = fma(w0, one, left[r]);
        right[r] = fma(w1, one, right[r]);
      }
    }
    for (int r = 0; r < R; ++r) {
      store(out + r * TILE + s * SUBTILE, left[r]);
      store(out + r * TILE + s * SUBTILE + LANES, right[r]);
    }
  }
}

template <class Weight, int R = FLOAT_ROWS>
void times_float_tile(const Weight* w, int inputs, const float* x, int64_t stride, int rows, float* out) {
  if (rows == R) return times_float_tile<Weight, R>(w, inputs, x, stride, out);
  if constexpr (R > 1) times_float_tile<Weight, R - 1>(w, inputs, x, stride, rows, out);
}

void times_float_tile(const Matrix& m, int tile, const float* x, int64_t stride, int rows, float* out) {
  if (m.bits == 16) return times_float_tile(reinterpret_cast<const uint16_t*>(m.tile(tile)), m.inputs, x, stride, rows, out);
  times_float_tile(reinterpret_cast<const float*>(m.tile(tile)), m.inputs, x, stride, rows, out);
}

uint16_t to_bf16(float x) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
uint16_t to_bf16_upwards(float x) {  // of x >= 0: never less
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return uint16_t((bits + 0xFFFF) >> 16);
}
float from_bf16(uint16_t half) {
  const uint32_t bits = uint32_t(half) << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

#if defined(STREAMGEN_AMX)
// A float is the sum of two bfloat16s, but for 2^-17 of it; a product of two floats is three of those, which the processor
// multiplies 16 rows by 16 outputs at once. A tile is blocks of 32 inputs (or as many as there are), each of two halves of 16
// outputs: [input / 2][output][2] of the larger parts, then of 32 bits the same of the smaller ones.
constexpr int SPLIT_ROWS = 32, SPLIT_DEPTH = 32;

bool splits(int inputs) { return inputs % SPLIT_DEPTH == 0 || (inputs < SPLIT_DEPTH && inputs % 2 == 0); }

void pack_split(const float* const* rows, int inputs, int bits, uint8_t* out) {
  const int depth = std::min(inputs, SPLIT_DEPTH), part = depth * TILE, half = part * bits / 16;
  for (int k = 0; k < inputs; ++k)
    for (int o = 0; o < TILE; ++o) {
      uint8_t* to = out + size_t(k / depth) * 2 * half + o / 16 * half + k % depth / 2 * 64 + o % 16 * 4 + k % 2 * 2;
      const uint16_t larger = to_bf16(rows[o][k]), smaller = to_bf16(rows[o][k] - from_bf16(larger));
      memcpy(to, &larger, 2);
      if (bits == 32) memcpy(to + part, &smaller, 2);
    }
}

// Floats as their two parts; as many are written as a vector has more.
void split(const float* x, size_t count, uint16_t* larger, uint16_t* smaller) {
  for (size_t i = 0; i < count; i += LANES) {
    const __mmask16 wanted = count - i < size_t(LANES) ? __mmask16((1u << (count - i)) - 1) : __mmask16(0xFFFF);
    const F value = _mm512_maskz_loadu_ps(wanted, x + i);
    const __m256bh whole = _mm512_cvtneps_pbh(value);
    _mm256_storeu_si256((__m256i*)(larger + i), (__m256i)whole);
    const F rest = sub(value, load(larger + i));
    _mm256_storeu_si256((__m256i*)(smaller + i), (__m256i)_mm512_cvtneps_pbh(rest));
  }
}

class SplitTiles {  // what the processor is told of its tiles, as long as this lives
 public:
  explicit SplitTiles(int depth) {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } told;
    for (int i = 0; i < 8; ++i) told.bytes[i] = uint16_t(i < 6 ? 64 : 2 * depth), told.rows[i] = uint8_t(i == 4 || i == 5 ? depth / 2 : 16);
    _tile_loadconfig(&told);
  }
  ~SplitTiles() { _tile_release(); }
};

// SPLIT_ROWS rows, `stride` apart, times one tile: out [SPLIT_ROWS][TILE].
template <int BITS>
APART void times_split_tile(const uint8_t* w, int inputs, const uint16_t* larger, const uint16_t* smaller, int64_t stride, float* out) {
  const int depth = std::min(inputs, SPLIT_DEPTH), part = depth * TILE, half = part * BITS / 16;
  const auto products = [] {
    _tile_dpbf16ps(0, 6, 4); _tile_dpbf16ps(1, 6, 5); _tile_dpbf16ps(2, 7, 4); _tile_dpbf16ps(3, 7, 5);
  };
  _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
  for (int k = 0; k < inputs; k += depth, w += 2 * half) {
    _tile_loadd(6, larger + k, 2 * stride); _tile_loadd(7, larger + 16 * stride + k, 2 * stride);
    if (BITS == 32) {
      _tile_loadd(4, w + part, 64); _tile_loadd(5, w + half + part, 64);
      products();
    }
    _tile_loadd(4, w, 64); _tile_loadd(5, w + half, 64);
    products();
    _tile_loadd(6, smaller + k, 2 * stride); _tile_loadd(7, smaller + 16 * stride + k, 2 * stride);
    products();
  }
  _tile_stored(0, out, 4 * TILE); _tile_stored(1, out + 16, 4 * TILE);
  _tile_stored(2, out + 16 * TILE, 4 * TILE); _tile_stored(3, out + 16 * TILE + 16, 4 * TILE);
}
#endif

// ------------------------------------------------------------------------------------------------------ packing

// The lowest and highest whole number of a weight. 8 bits keep to ±127, for which AVX2 has room.
Span whole_numbers(int bits) { return bits == 8 ? Span{-127, 127} : Span{-(1 << (bits - 1)), (1 << (bits - 1)) - 1}; }

float squared_error(const float* w, float scale, F low, F high) {
  const F inverse = all(1.f / scale), step = all(scale);
  F error = all(0.f);
  for (int k = 0; k < GROUP; k += LANES) {
    const F x = load(w + k), q = floats(nearest(smaller(larger(mul(x, inverse), low), high)));
    const F off = sub(x, mul(q, step));
    error = fma(off, off, error);
  }
  return sum(error);
}

// The scale of a group with the least squared error among some; with few bits clipping the largest weight pays, and the
// sign decides on which side the one more whole number lies.
uint16_t best_scale(const float* w, int bits) {
  F top = magnitude(load(w));
  for (int k = LANES; k < GROUP; k += LANES) top = larger(top, magnitude(load(w + k)));
  const float most = std::max(largest(top), 1e-30f);
  const Span range = whole_numbers(bits);
  uint16_t best = to_bf16(most / range.stop);
  if (bits == 8) return best;
  const F low = all(float(range.start)), high = all(float(range.stop));
  float least = squared_error(w, from_bf16(best), low, high);
  for (int i = 0; i < 10; ++i)
    for (float sign : {1.f, -1.f}) {
      const uint16_t scale = to_bf16(sign * most * (0.70f + 0.05f * float(i)) / float(-range.start));
      const float error = squared_error(w, from_bf16(scale), low, high);
      if (error < least) least = error, best = scale;
    }
  return best;
}

// One output's group of inputs into its tile. `group` is where the tile's group begins.
void pack_group(const float* w, int bits, int output, uint8_t* group) {
  const uint16_t scale = best_scale(w, bits);
  memcpy(group + 2 * output, &scale, 2);
  const Span range = whole_numbers(bits);
  const float inverse = 1.f / from_bf16(scale);
  uint8_t q[GROUP];
  for (int k = 0; k < GROUP; ++k)
    q[k] = uint8_t(std::min(std::max(int(std::nearbyint(w[k] * inverse)), range.start), range.stop) + (1 << (bits - 1)));
  uint8_t* p = group + 2 * TILE + 4 * output;
  for (int i = 0; i < 4; ++i) {
    if (bits == 8) {
      for (int j = 0; j < 8; ++j) p[128 * j + i] = q[4 * j + i];
      continue;
    }
    for (int j = 0; j < 4; ++j) p[128 * j + i] = uint8_t((q[8 * j + i] & 15) | (q[8 * j + 4 + i] & 15) << 4);
    for (int j = 0; bits == 6 && j < 2; ++j) {
      const uint8_t* four = q + 16 * j + i;
      p[512 + 128 * j + i] = uint8_t(four[0] >> 4 | four[4] >> 4 << 2 | four[8] >> 4 << 4 | four[12] >> 4 << 6);
    }
  }
}

void pack_tile(const float* const* rows, int inputs, int bits, uint8_t* out) {
#if defined(STREAMGEN_AMX)
  if (bits >= 16 && splits(inputs)) return pack_split(rows, inputs, bits, out);
#endif
  if (bits >= 16) {
    for (int at = 0; at < inputs * TILE; ++at) {
      const float weight = rows[at % TILE][at / TILE];
      const uint16_t half = to_bf16(weight);
      if (bits == 16) memcpy(out + 2 * at, &half, 2);
      if (bits == 32) memcpy(out + 4 * at, &weight, 4);
    }
    return;
  }
  for (int g = 0; g < inputs / GROUP; ++g, out += 2 * TILE + 128 * bits)
    for (int o = 0; o < TILE; ++o) pack_group(rows[o] + g * GROUP, bits, o, out);
}

}  // namespace
