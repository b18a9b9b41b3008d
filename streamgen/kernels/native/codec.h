// What the codec's decoder is made of: convolutions in floats, one after the other, and an LSTM over 8-bit weights.
//
//     x ─ join ─ elu ─ product ─ elu ─ product ─ + x ─ …     a stage: convolution, upsampling or residual block
//          ↑ behind what the stage remembers of its input
//
// Rules: a row's result does not depend on how many are made at once, on the streams beside it or on the threads.
#pragma once
#include <mutex>

#include "matrix.h"

namespace {

INLINE F elu(F x) { return where_negative(x, sub(exponential(smaller(x, all(0.f))), all(1.f)), x); }
struct Elu {
  MEMBER F operator()(F x) const { return elu(x); }
};
struct Same {
  MEMBER F operator()(F x) const { return x; }
};

// Call f on vectors of some floats, the last one filled up.
template <class Function> void map(const float* from, int64_t count, float* to, Function&& f) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, f(load(from + i)));
  if (i == count) return;
  float rest[LANES] = {};
  memcpy(rest, from + i, size_t(count - i) * sizeof(float));
  store(rest, f(load(rest)));
  memcpy(to + i, rest, size_t(count - i) * sizeof(float));
}

struct Finish {  // of a product's row: + bias, elu, + what is added
  const float* bias;
  bool elu;
  const float* added;
  int64_t added_stride;
};

// A few outputs of row after row: their weights lie row by row.
void times_plain(const Matrix& m, Span rows, const float* x, int64_t stride, const Finish& finish, float* out) {
  constexpr int SUMS = 4;
  const float* weights = reinterpret_cast<const float*>(m.tiles);
  for (int r = rows.start; r < rows.stop; ++r)
    for (int o = 0; o < m.outputs; ++o) {
      const float *row = x + r * stride, *w = weights + size_t(o) * m.inputs;
      F sums[SUMS] = {all(0.f), all(0.f), all(0.f), all(0.f)};
      int k = 0;
      for (; k + LANES <= m.inputs; k += LANES) sums[k / LANES % SUMS] = fma(load(row + k), load(w + k), sums[k / LANES % SUMS]);
      float y = sum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
      for (; k < m.inputs; ++k) y += row[k] * w[k];
      if (finish.bias) y += finish.bias[o];
      if (finish.elu) map(&y, 1, &y, Elu());
      out[size_t(r) * m.outputs + o] = finish.added ? y + finish.added[r * finish.added_stride + o] : y;
    }
}

// A thread's part of rows, `stride` apart, times a matrix of floats: out [rows][outputs of the caller].
void times_floats(int t, int threads, const Matrix& m, const float* x, int64_t stride, int rows, const Finish& finish,
                  int outputs, float* out) {
  if (m.outputs < TILE) return times_plain(m, share(t, threads, rows), x, stride, finish, out);
  constexpr int CHUNK = 4 * FLOAT_ROWS, NEAR = 1 << 19;
  const int chunks = (rows + CHUNK - 1) / CHUNK;
  const bool by_rows = m.tile_bytes() * size_t(m.count()) <= NEAR;  // what a thread reads again and again: weights or rows
  const Span mine = share(t, threads, m.count() * chunks);
  alignas(64) float product[FLOAT_ROWS * TILE];
  for (int unit = mine.start; unit < mine.stop; ++unit) {
    const int tile = by_rows ? unit % m.count() : unit / chunks, chunk = by_rows ? unit / m.count() : unit % chunks;
    const int column = tile * TILE, end = std::min((chunk + 1) * CHUNK, rows);
    for (int r = chunk * CHUNK; r < end;) {
      const int passes = (end - r + FLOAT_ROWS - 1) / FLOAT_ROWS, done = (end - r + passes - 1) / passes;
      times_float_tile(m, tile, x + r * stride, stride, done, product);
      for (int i = 0; i < done; ++i, ++r)
        for (int c = 0; c < TILE && column + c < outputs; c += LANES) {
          const int width = std::min(outputs - column - c, LANES);
          F y = load(product + i * TILE + c);
          if (finish.bias) y = add(y, load(finish.bias + column + c));
          if (finish.elu) y = elu(y);
          float* to = out + size_t(r) * outputs + column + c;
          const float* added = finish.added ? finish.added + r * finish.added_stride + column + c : nullptr;
          if (width == LANES) {
            store(to, added ? add(y, load(added)) : y);
            continue;
          }
          store(product + i * TILE + c, y);
          for (int k = 0; k < width; ++k) to[k] = product[i * TILE + c + k] + (added ? added[k] : 0.f);
        }
    }
  }
}

// ------------------------------------------------------------------------------------------- stages of convolutions

struct Stage {
  Matrix first, second;  // second: of a residual block, pointwise
  const float *bias, *second_bias;
  float* context;  // [streams, kernel - 1, inputs]: the newest inputs, of an elu'd one after its elu; updated
  int32_t kernel, inputs, outputs, stride, left;  // left: of a residual block, where the kernel's middle lies; else -1
  int32_t elu;     // before it
};

// Runs stages, each on the outputs of the one before it, in memory of its own.
class Chain {
 public:
  // x [streams, steps, inputs of the first stage]; out: as many steps as the strides make of them
  void run(Pool& pool, const Stage* stages, int count, const float* x, int streams, int steps, float* out) {
    std::lock_guard<std::mutex> alone(turn_);
    size_t most = 0, n = size_t(steps);
    for (int i = 0; i < count; ++i) {
      const Stage& s = stages[i];
      const int widest = std::max(s.outputs, s.second.inputs);
      most = std::max({most, (n + size_t(s.kernel) - 1) * size_t(s.inputs), n * size_t(widest)});
      n *= size_t(s.stride);
    }
    most *= size_t(streams);
    joined_.of(most), activated_.of(most), inner_.of(most), between_[0].of(most), between_[1].of(most);
    pool.run([&](int t) {
      const float* from = x;
      for (int i = 0, now = steps; i < count; now *= stages[i].stride, ++i) {
        float* to = i + 1 == count ? out : between_[i % 2].get();
        stage(pool, t, stages[i], from, streams, now, to);
        from = to;
      }
    });
  }

 private:
  void stage(Pool& pool, int t, const Stage& s, const float* x, int streams, int steps, float* out) {
    const bool residual = s.left >= 0;
    const int64_t held = int64_t(s.kernel - 1) * s.inputs, news = int64_t(steps) * s.inputs, whole = held + news;
    const int64_t first = news * t / pool.threads, last = news * (t + 1) / pool.threads;
    for (int b = 0; b < streams; ++b) {
      float *joined = joined_.get() + b * whole, *activated = activated_.get() + b * whole;
      const float *from = x + b * news, *context = s.context + b * held;
      if (t == 0 && held) map(context, held, joined, Same());
      if (t == 0 && residual) map(context, held, activated, Elu());
      if (s.elu) map(from + first, last - first, joined + held + first, Elu());
      else map(from + first, last - first, joined + held + first, Same());
      if (residual) map(from + first, last - first, activated + held + first, Elu());
    }
    pool.meet();
    const int inner = s.second.inputs;  // its row's width between the two products
    for (int b = 0; b < streams; ++b) {
      const float *joined = joined_.get() + b * whole, *read = residual ? activated_.get() + b * whole : joined;
      if (t == 0 && held) memcpy(s.context + b * held, joined + news, size_t(held) * sizeof(float));
      const int width = residual ? inner : s.outputs;
      float* to = (residual ? inner_.get() : out) + int64_t(b) * steps * width;
      times_floats(t, pool.threads, s.first, read, s.inputs, steps, {s.bias, residual, nullptr, 0}, width, to);
    }
    pool.meet();
    if (!residual) return;
    for (int b = 0; b < streams; ++b) {
      const float* shortcut = joined_.get() + b * whole + int64_t(s.left) * s.inputs;
      times_floats(t, pool.threads, s.second, inner_.get() + int64_t(b) * steps * inner, inner, steps,
                   {s.second_bias, false, shortcut, s.inputs}, s.outputs, out + int64_t(b) * steps * s.outputs);
    }
    pool.meet();
  }

  Buffer<float> joined_, activated_, inner_, between_[2];
  std::mutex turn_;
};

// --------------------------------------------------------------------------------------------------------- the LSTM

constexpr int GATES = 4;

// One step of an LSTM's TILE units from their gates' sums [GATES][streams][TILE] and what drives them; pointers are at the
// step's and the units' place in tensors of [streams, steps, …].
void advance(const float* sums, const float* driven, int streams, int steps, int width, float* cell, float* out) {
  for (int b = 0; b < streams; ++b)
    for (int i = 0; i < TILE; i += LANES) {
      const float* drive = driven + size_t(b) * steps * GATES * width + i;
      F g[GATES];
      for (int k = 0; k < GATES; ++k) g[k] = add(load(sums + (size_t(k) * streams + b) * TILE + i), load(drive + k * width));
      float* c = cell + size_t(b) * width + i;
      const F now = fma(sigmoid(g[0]), tanh_of(g[2]), mul(sigmoid(g[1]), load(c)));
      store(c, now);
      store(out + size_t(b) * steps * width + i, mul(sigmoid(g[3]), tanh_of(now)));
    }
}

// An LSTM over some steps of some streams: driven [streams, steps, 4 · width] is what does not depend on the past.
// A tile of `again` holds one gate of 32 units; its four gates lie side by side.
void run_lstm(Pool& pool, const Matrix& again, const float* driven, int streams, int steps, float* hidden, float* cell,
              float* out) {
  const int width = again.inputs;
  std::vector<QuantisedBuffer> buffers(size_t(pool.threads));
  std::vector<Buffer<float>> gates(size_t(pool.threads));
  for (auto& buffer : buffers) buffer.of(size_t(streams), width);
  for (auto& gate : gates) gate.of(size_t(streams) * GATES * TILE);
  pool.run([&](int t) {
    const Span blocks = share(t, pool.threads, width / TILE);
    const Quantised rows = buffers[size_t(t)].of(size_t(streams), width);
    float* sums = gates[size_t(t)].get();  // [GATES][streams][TILE]
    const int count = blocks.stop - blocks.start;
    // to and fro: where a share is a little more than the core's cache holds, most of it is still there on the way back
    const auto at = [&](int step, int i) { return step % 2 ? blocks.stop - 1 - i : blocks.start + i; };
    for (int step = 0; step < steps; ++step) {
      for (int b = 0; b < streams; ++b) {
        const Quantised to = rows.from(b);
        const float* past = step ? out + (size_t(b) * steps + step - 1) * width : hidden + size_t(b) * width;
        quantise(past, width, to.bytes, to.scales, to.negative_sums);
      }
      for (int i = 0; i < count; ++i) {
        const int block = at(step, i), next = i + 1 < count ? at(step, i + 1) : at(step + 1, 0);
        times_tiles<GATES>(again.bits, again.from(GATES * block), again.from(GATES * next), rows, streams, sums);
        advance(sums, driven + size_t(step) * GATES * width + block * TILE, streams, steps, width, cell + block * TILE,
                out + size_t(step) * width + block * TILE);
      }
      pool.meet();
    }
  });
  for (int b = 0; b < streams; ++b)
    memcpy(hidden + size_t(b) * width, out + (size_t(b) * steps + steps - 1) * width, size_t(width) * sizeof(float));
}

}  // namespace
