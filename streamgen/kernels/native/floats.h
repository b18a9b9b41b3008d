// Rows of floats times a decoder's weights as they are: few rows, every weight read once and widened on the way.
//
//     weights   float16, bfloat16 or float32, [input][output] in tiles of 32 outputs
//     products  float32: weights are widened without loss, so in which of the three they lie changes no bit
//
// Rules: an output is summed over its inputs in one order, PIECE by PIECE, whatever rows are beside it and whichever thread
// has the tile.
#pragma once
#include "matrix.h"

namespace {

struct FloatRows {
  float* x;
  int width;
  FloatRows from(int row) const { return {x + size_t(row) * width, width}; }
};

class FloatBuffer {
 public:
  FloatRows of(size_t rows, int width) { return {x_.of(rows * size_t(width)), width}; }

 private:
  Buffer<float> x_;
};

constexpr int VECTORS = TILE / LANES;                            // of a tile's outputs
constexpr int SUMS = LANES == 16 ? 24 : LANES == 8 ? 12 : 16;   // vectors that the registers hold beside what is multiplied
constexpr int FEW_FLOAT_ROWS = LANES == 16 ? 4 : SUMS / VECTORS, MOST_FLOAT_ROWS = LANES == 16 ? 8 : FEW_FLOAT_ROWS;
constexpr int PIECE = 256;  // inputs that are summed apart: sums of sums lose less than one long sum

// How many of some rows are multiplied at once: few, as many as there are; of more, in as few kinds of passes as do.
constexpr int rows_at_once(int count) { return count >= MOST_FLOAT_ROWS ? MOST_FLOAT_ROWS : std::min(count, FEW_FLOAT_ROWS); }
constexpr int tiles_beside(int rows) { return std::min(std::max(SUMS / (VECTORS * rows), 1), TOGETHER); }

// B rows times T tiles, side by side; see times_tiles.
template <class Weight, int B, int T>
APART void times_weights(const Tiles& tiles, const Tiles& then, const FloatRows& rows, float* out, int out_rows) {
  constexpr int INPUT = TILE * int(sizeof(Weight)), AHEAD = FETCH_AHEAD / INPUT;  // bytes of an input; inputs
  const int inputs = rows.width;
  for (int i = 0; i < inputs;) {
    const bool first = i == 0;
    const int stop = std::min(i + PIECE, inputs);
    F sums[T][VECTORS][B];
    for (auto& tile : sums)
      for (auto& vector : tile)
        for (auto& row : vector) row = all(0.f);
    while (i < stop) {
      const bool ends = i >= inputs - AHEAD;
      const int until = ends ? stop : std::min(stop, inputs - AHEAD);
      const Tiles& ahead = ends ? then : tiles;
      const int64_t offset = int64_t(AHEAD - (ends ? inputs : 0)) * INPUT;
      for (; i < until; ++i)
        for (int t = 0; t < T; ++t) {
          const Weight* w = reinterpret_cast<const Weight*>(tiles.first + t * tiles.stride) + size_t(i) * TILE;
          const uint8_t* next = ahead.first + t * ahead.stride + int64_t(i) * INPUT + offset;
          for (int at = 0; at < INPUT; at += 64) fetch(next + at);
          for (int v = 0; v < VECTORS; ++v) {
            const F weight = load(w + v * LANES);
            for (int b = 0; b < B; ++b) sums[t][v][b] = fma(weight, all(rows.x[b * inputs + i]), sums[t][v][b]);
          }
        }
    }
    for (int t = 0; t < T; ++t)
      for (int v = 0; v < VECTORS; ++v)
        for (int b = 0; b < B; ++b) {
          float* to = out + (t * out_rows + b) * TILE + v * LANES;
          store(to, first ? sums[t][v][b] : add(load(to), sums[t][v][b]));
        }
  }
}

template <class Weight, int B = MOST_FLOAT_ROWS>
void times_weights(const Tiles& tiles, const Tiles& then, const FloatRows& rows, int some, int together, float* out, int out_rows) {
  if (some == B) {
    constexpr int T = tiles_beside(B);
    if (together == T) return times_weights<Weight, B, T>(tiles, then, rows, out, out_rows);
    return times_weights<Weight, B, 1>(tiles, then, rows, out, out_rows);
  }
  if constexpr (B > 1) times_weights<Weight, rows_at_once(B - 1)>(tiles, then, rows, some, together, out, out_rows);
}

template <class Weight, class Take>
void multiply_floats(const Matrix& m, Span tiles, const Tiles& then, const FloatRows& rows, int count, float* out, Take&& take) {
  const int beside = rows_at_once(count) == count ? tiles_beside(count) : 1;  // else a tile is read again, from the core's cache
  for (int i = tiles.start; i < tiles.stop;) {
    const int together = tiles.stop - i < beside ? 1 : beside;
    const Tiles own = m.from(i), next = i + together < tiles.stop ? m.from(i + together) : then;
    for (int b = 0, some; b < count; b += some) {
      some = rows_at_once(count - b);
      times_weights<Weight>(own, b + some < count ? own : next, rows.from(b), some, together, out + b * TILE, count);
    }
    for (int t = 0; t < together; ++t, ++i) take(i, static_cast<const float*>(out + size_t(t) * count * TILE));
  }
}

// As of quantised rows.
template <class Take>
void multiply(const Matrix& m, Span tiles, const Tiles& then, const FloatRows& rows, int count, float* out, Take&& take) {
  if (!count) return;
  switch (m.bits) {
    case HALF: return multiply_floats<Half>(m, tiles, then, rows, count, out, take);
    case BFLOAT: return multiply_floats<uint16_t>(m, tiles, then, rows, count, out, take);
    default: multiply_floats<float>(m, tiles, then, rows, count, out, take);
  }
}

}  // namespace
