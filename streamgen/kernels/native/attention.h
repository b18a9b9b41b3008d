// Attention of one head: to its own past, of which keys and values are kept in bytes or as they are, and to a text.
//
// A row's memory is, for each layer and head, keys and values of all positions, and of bytes their bfloat16 scales:
//     bytes    keys [position / 16][quad][position % 16][4]   values [position][width]   key scales, value scales [position]
//     floats   keys [position / 16][width][position % 16]     values [position][width]
//
// Rules: a result depends on one row's memory alone. Where a position was never written nothing is read that counts.
#pragma once
#include "matrix.h"

namespace {

constexpr int BLOCK = 16;  // positions whose keys lie together
constexpr float FAINT = 25.f;  // e^-25 of the loudest changes no sum of floats; times its scale it may be subnormal, which is slow
constexpr float FAINT_FLOAT = 60.f;  // of values as they are: e^-60 times all but the faintest is a number of full precision

template <int W> struct ByteMemory {  // a head's, for so many positions, in bytes
  static constexpr size_t POSITION = 2 * W + 4;
  uint8_t* keys;
  int8_t* values;
  uint16_t *key_scales, *value_scales;
  ByteMemory(uint8_t* at, size_t positions)
      : keys(at), values(reinterpret_cast<int8_t*>(at + positions * W)),
        key_scales(reinterpret_cast<uint16_t*>(at + positions * 2 * W)), value_scales(key_scales + positions) {}
};

template <int W> struct FloatMemory {  // the same in floats
  static constexpr size_t POSITION = 2 * W * sizeof(float);
  float *keys, *values;
  FloatMemory(uint8_t* at, size_t positions) : keys(reinterpret_cast<float*>(at)), values(keys + positions * W) {}
};

INLINE F widened(const int8_t* p) { return load_int8(p); }
INLINE F widened(const float* p) { return load(p); }

// The sums [W] of `count` positions' values, each times its score. `then` is fetched meanwhile.
template <int W, class Value>
INLINE void add_values(const Value* v, int count, const uint8_t* then, const float* scores, F* sums) {
  constexpr int N = W / LANES, PAIR = 2 * W * int(sizeof(Value));  // vectors; bytes of two positions
  F even[N], odd[N];  // two chains of sums: one would wait for itself
  for (int i = 0; i < N; ++i) even[i] = odd[i] = all(0.f);
  int at = 0;
  for (; at + 2 <= count; at += 2, v += 2 * W, then += PAIR) {
    for (int i = 0; i < PAIR; i += 64) fetch(reinterpret_cast<const uint8_t*>(v) + FETCH_AHEAD + i), fetch_far(then + i);
    const F one = all(scores[at]), two = all(scores[at + 1]);
    for (int i = 0; i < N; ++i) {
      even[i] = fma(one, widened(v + i * LANES), even[i]);
      odd[i] = fma(two, widened(v + W + i * LANES), odd[i]);
    }
  }
  if (at < count)
    for (int i = 0; i < N; ++i) even[i] = fma(all(scores[at]), widened(v + i * LANES), even[i]);
  for (int i = 0; i < N; ++i) sums[i] = add(even[i], odd[i]);
}

// ------------------------------------------------------------------------------------------------------ of bytes

// 127ths of the largest, rounded up to a bfloat16: bytes [W], and what they are multiples of.
template <int W> uint16_t to_bytes(const float* x, int8_t* bytes) {
  F top = magnitude(load(x));
  for (int i = LANES; i < W; i += LANES) top = larger(top, magnitude(load(x + i)));
  const uint16_t scale = to_bf16_upwards(std::max(largest(top), 1e-30f) / 127.f);
  const F inverse = all(1.f / from_bf16(scale));
  for (int i = 0; i < W; i += LANES) store_int8(bytes + i, nearest(mul(load(x + i), inverse)));
  return scale;
}

template <int W> void remember(const ByteMemory<W>& m, int at, const float* key, const float* value) {
  int8_t bytes[W];
  m.key_scales[at] = to_bytes<W>(key, bytes);
  uint8_t* k = m.keys + size_t(at / BLOCK) * BLOCK * W + (at % BLOCK) * 4;
  for (int i = 0; i < W; i += 4) {
    const uint32_t quad = uint32_t(quad_of(bytes + i)) ^ 0x80808080u;  // plus 128 each: the keys' zero
    memcpy(k + size_t(i) * BLOCK, &quad, 4);
  }
  m.value_scales[at] = to_bytes<W>(value, m.values + size_t(at) * W);
}

// A query in two bytes a number: one alone is most of what 8-bit attention loses, and the second costs no memory.
template <int W> struct Query {
  int8_t coarse[W], fine[W];
  int32_t start[2];  // of the sums: the keys' zero is 128
  float scale;
  explicit Query(const float* q) {
    F top = magnitude(load(q));
    for (int i = LANES; i < W; i += LANES) top = larger(top, magnitude(load(q + i)));
    scale = std::max(largest(top), 1e-30f) / 127.f;
    const F step = all(scale), finer = all(254.f / scale);
    I sums[2] = {all_int(0), all_int(0)};
    for (int i = 0; i < W; i += LANES) {
      const I c = nearest(divide(load(q + i), step));
      const F left = mul(sub(load(q + i), mul(floats(c), step)), finer);
      const I f = nearest(smaller(larger(left, all(-127.f)), all(127.f)));
      store_int8(coarse + i, c), store_int8(fine + i, f);
      sums[0] = add_int(sums[0], c), sums[1] = add_int(sums[1], f);
    }
    for (int k = 0; k < 2; ++k) start[k] = -128 * sum_int(sums[k]);
    scale /= std::sqrt(float(W));
  }
};

// Scores of `count` positions, padded with -1e30 to a whole block; returns the largest. The values, which are read next,
// are fetched beside the keys: two streams of memory give more than one.
template <int W> float score(const ByteMemory<W>& m, int count, const Query<W>& query, float* scores) {
  const int blocks = (count + BLOCK - 1) / BLOCK;
  F top = all(-1e30f);
  for (int b = 0; b < blocks; ++b) {
    const uint8_t* keys = m.keys + size_t(b) * BLOCK * W;
    const uint8_t* values = reinterpret_cast<const uint8_t*>(m.values) + size_t(b) * BLOCK * W;
    for (int i = 0; i < BLOCK * W; i += 64) fetch(keys + 2 * BLOCK * W + i), fetch_far(values + i);
    for (int s = 0; s < BLOCK; s += LANES) {
      Dot<8> coarse(query.start[0]), fine(query.start[1]);
      for (int j = 0; j < W / 4; ++j) {
        const Q k = load_quads(keys + j * 4 * BLOCK + 4 * s);
        coarse.add(k, all_quads(quad_of(query.coarse + 4 * j)));
        fine.add(k, all_quads(quad_of(query.fine + 4 * j)));
      }
      const F both = fma(floats(fine.sums()), all(1.f / 254.f), floats(coarse.sums()));
      const F scaled = mul(both, mul(all(query.scale), load(m.key_scales + b * BLOCK + s)));
      store(scores + b * BLOCK + s, scaled);
    }
    for (int i = count; i < (b + 1) * BLOCK; ++i) scores[i] = -1e30f;
    for (int s = 0; s < BLOCK; s += LANES) top = larger(top, load(scores + b * BLOCK + s));
  }
  return largest(top);
}

// What a query attends to among `count` positions. `then`: the keys that are scored next, fetched meanwhile.
template <int W>
APART void attend(const ByteMemory<W>& m, int count, const uint8_t* then, const float* q, float* scores, float* out) {
  const Query<W> query(q);
  const F top = all(score<W>(m, count, query, scores));
  F total = all(0.f);
  for (int i = 0; i < count; i += LANES) {
    const F below = sub(load(scores + i), top);
    const F e = where_negative(add(below, all(FAINT)), all(0.f), exponential(below));
    total = add(total, e);
    store(scores + i, mul(e, load(m.value_scales + i)));
  }
  F sums[W / LANES];
  add_values<W>(m.values, count, then, scores, sums);
  const F rate = all(1.f / sum(total));
  for (int i = 0; i < W / LANES; ++i) store(out + i * LANES, mul(sums[i], rate));
}

// ----------------------------------------------------------------------------------------------------- of floats

template <int W> void remember(const FloatMemory<W>& m, int at, const float* key, const float* value) {
  float* k = m.keys + size_t(at / BLOCK) * BLOCK * W + at % BLOCK;
  for (int i = 0; i < W; ++i) k[i * BLOCK] = key[i];
  memcpy(m.values + size_t(at) * W, value, W * sizeof(float));
}

// As of bytes. Four sums a vector of positions: one would wait for itself.
template <int W> float score(const FloatMemory<W>& m, int count, const float* query, float* scores) {
  const int blocks = (count + BLOCK - 1) / BLOCK;
  const F rate = all(1.f / std::sqrt(float(W)));
  F top = all(-1e30f);
  for (int b = 0; b < blocks; ++b) {
    const float *keys = m.keys + size_t(b) * BLOCK * W, *values = m.values + size_t(b) * BLOCK * W;
    for (int s = 0; s < BLOCK; s += LANES) {
      F sums[4];
      for (auto& one : sums) one = all(0.f);
      for (int j = 0; j < W; j += 4) {
        for (int i = j; s == 0 && i < j + 4; ++i) {
          fetch(reinterpret_cast<const uint8_t*>(keys + (2 * W + i) * BLOCK));
          fetch_far(reinterpret_cast<const uint8_t*>(values + i * BLOCK));
        }
        for (int i = 0; i < 4; ++i) sums[i] = fma(all(query[j + i]), load(keys + (j + i) * BLOCK + s), sums[i]);
      }
      store(scores + b * BLOCK + s, mul(add(add(sums[0], sums[1]), add(sums[2], sums[3])), rate));
    }
    for (int i = count; i < (b + 1) * BLOCK; ++i) scores[i] = -1e30f;
    for (int s = 0; s < BLOCK; s += LANES) top = larger(top, load(scores + b * BLOCK + s));
  }
  return largest(top);
}

template <int W>
APART void attend(const FloatMemory<W>& m, int count, const uint8_t* then, const float* q, float* scores, float* out) {
  const F top = all(score<W>(m, count, q, scores));
  F total = all(0.f);
  for (int i = 0; i < count; i += LANES) {
    const F below = sub(load(scores + i), top);
    const F e = where_negative(add(below, all(FAINT_FLOAT)), all(0.f), exponential(below));
    total = add(total, e);
    store(scores + i, e);
  }
  F sums[W / LANES];
  add_values<W>(m.values, count, then, scores, sums);
  const F whole = all(sum(total));
  for (int i = 0; i < W / LANES; ++i) store(out + i * LANES, divide(sums[i], whole));
}

// ------------------------------------------------------------------------------------------------------- to a text

template <int W>
APART void attend_to_text(const float* keys, const float* values, int count, const float* q, float* scores, float* out) {
  float most = -1e30f;
  for (int t = 0; t < count; ++t) {
    F dot = all(0.f);
    for (int i = 0; i < W; i += LANES) dot = fma(load(q + i), load(keys + size_t(t) * W + i), dot);
    scores[t] = sum(dot) / std::sqrt(float(W));
    most = std::max(most, scores[t]);
  }
  for (int t = count; t < count + LANES; ++t) scores[t] = -1e30f;
  F rows[W / LANES], total = all(0.f);
  for (auto& row : rows) row = all(0.f);
  for (int t = 0; t < count; t += LANES) {
    const F e = exponential(sub(load(scores + t), all(most)));
    total = add(total, e);
    store(scores + t, e);
  }
  for (int t = 0; t < count; ++t)
    for (int i = 0; i < W / LANES; ++i) rows[i] = fma(all(scores[t]), load(values + size_t(t) * W + i * LANES), rows[i]);
  const F whole = all(sum(total));
  for (int i = 0; i < W / LANES; ++i) store(out + i * LANES, divide(rows[i], whole));
}

}  // namespace
