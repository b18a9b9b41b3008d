// What the codec's decoder is made of: convolutions in floats, one after the other, and LSTMs over 8-bit weights.
//
//     x ─ join ─ elu ─ product ─ elu ─ product ─ + x ─ …     a stage: convolution, upsampling, residual block or LSTM
//          ↑ behind what the stage remembers of its input
//
//     the first stages   all streams in one product, for there the weights are what takes time
//     the last ones      stream after stream, a piece of its time after the other, which stays in the core's cache
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

struct Rows {  // `count` of them, `stride` apart; of every `pitch` the first `steps` are wanted, and lie together in what comes out
  const float* x;
  int64_t stride;
  int count, pitch, steps;
  int place(int r) const { return r % pitch < steps ? r / pitch * steps + r % pitch : -1; }
};

struct Finish {  // of a product's row: + bias, elu, + what is added: rows `added_stride` apart, `added_pitch` for each `steps`
  const float* bias;
  bool elu;
  const float* added;
  int64_t added_stride;
  int added_pitch;
  const float* of(const Rows& rows, int r) const {
    return added ? added + (int64_t(r / rows.pitch) * added_pitch + r % rows.pitch) * added_stride : nullptr;
  }
};

// A few outputs of row after row: their weights lie row by row.
void times_plain(const Matrix& m, Span span, const Rows& rows, const Finish& finish, float* out) {
  constexpr int SUMS = 4;
  const float* weights = reinterpret_cast<const float*>(m.tiles);
  for (int r = span.start; r < span.stop; ++r) {
    const int place = rows.place(r);
    if (place < 0) continue;
    const float* added = finish.of(rows, r);
    for (int o = 0; o < m.outputs; ++o) {
      const float *row = rows.x + r * rows.stride, *w = weights + size_t(o) * m.inputs;
      F sums[SUMS] = {all(0.f), all(0.f), all(0.f), all(0.f)};
      int k = 0;
      for (; k + LANES <= m.inputs; k += LANES) sums[k / LANES % SUMS] = fma(load(row + k), load(w + k), sums[k / LANES % SUMS]);
      float y = sum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
      for (; k < m.inputs; ++k) y += row[k] * w[k];
      if (finish.bias) y += finish.bias[o];
      if (finish.elu) map(&y, 1, &y, Elu());
      out[size_t(place) * m.outputs + o] = added ? y + added[o] : y;
    }
  }
}

// A product's row of one tile on its way out.
INLINE void finish_row(const float* product, int column, int outputs, const Finish& finish, const float* added, float* out) {
  for (int c = 0; c < TILE && column + c < outputs; c += LANES) {
    const int width = std::min(outputs - column - c, LANES);
    F y = load(product + c);
    if (finish.bias) y = add(y, load(finish.bias + column + c));
    if (finish.elu) y = elu(y);
    float* to = out + column + c;
    if (width == LANES) {
      store(to, added ? add(y, load(added + column + c)) : y);
      continue;
    }
    float rest[LANES];
    store(rest, y);
    for (int k = 0; k < width; ++k) to[k] = rest[k] + (added ? added[column + c + k] : 0.f);
  }
}

#if defined(STREAMGEN_AMX)
// As `times_floats`, where the processor multiplies tiles.
void times_split(int t, int threads, const Matrix& m, const Rows& rows, const Finish& finish, int outputs, float* out) {
  constexpr int NEAR = 1 << 19;
  static thread_local Buffer<uint16_t> larger, smaller;
  const int chunks = (rows.count + SPLIT_ROWS - 1) / SPLIT_ROWS, count = m.count();
  const bool by_rows = m.tile_bytes() * size_t(count) <= NEAR;
  const Span mine = share(t, threads, count * chunks);
  if (mine.start == mine.stop) return;
  const int first = by_rows ? mine.start / count * SPLIT_ROWS : 0;
  const int last = by_rows ? std::min(((mine.stop - 1) / count + 1) * SPLIT_ROWS, rows.count) : rows.count;
  const size_t floats = size_t(last - first - 1) * size_t(rows.stride) + size_t(m.inputs);
  const size_t room = floats + size_t(SPLIT_ROWS) * size_t(rows.stride) + LANES;  // a last block reads beyond the last row
  split(rows.x + first * rows.stride, floats, larger.of(room), smaller.of(room));
  const SplitTiles tiles(std::min(m.inputs, SPLIT_DEPTH));
  alignas(64) float product[SPLIT_ROWS * TILE];
  for (int unit = mine.start; unit < mine.stop; ++unit) {
    const int tile = by_rows ? unit % count : unit / chunks, chunk = by_rows ? unit / count : unit % chunks;
    const int start = chunk * SPLIT_ROWS;
    const int64_t at = (start - first) * rows.stride;
    (m.bits == 16 ? times_split_tile<16> : times_split_tile<32>)(m.tile(tile), m.inputs, larger.get() + at, smaller.get() + at,
                                                                  rows.stride, product);
    for (int r = start; r < std::min(start + SPLIT_ROWS, rows.count); ++r) {
      const int place = rows.place(r);
      if (place < 0) continue;
      finish_row(product + (r - start) * TILE, tile * TILE, outputs, finish, finish.of(rows, r), out + size_t(place) * outputs);
    }
  }
}
#endif

// A thread's part of rows times a matrix of floats: out [rows that are wanted][outputs of the caller].
void times_floats(int t, int threads, const Matrix& m, const Rows& rows, const Finish& finish, int outputs, float* out) {
  if (m.outputs < TILE) return times_plain(m, share(t, threads, rows.count), rows, finish, out);
#if defined(STREAMGEN_AMX)
  if (splits(m.inputs)) return times_split(t, threads, m, rows, finish, outputs, out);
#endif
  constexpr int CHUNK = 4 * FLOAT_ROWS, NEAR = 1 << 19;
  const int chunks = (rows.count + CHUNK - 1) / CHUNK;
  const bool by_rows = m.tile_bytes() * size_t(m.count()) <= NEAR;  // what a thread reads again and again: weights or rows
  const Span mine = share(t, threads, m.count() * chunks);
  alignas(64) float product[FLOAT_ROWS * TILE];
  for (int unit = mine.start; unit < mine.stop; ++unit) {
    const int tile = by_rows ? unit % m.count() : unit / chunks, chunk = by_rows ? unit / m.count() : unit % chunks;
    const int end = std::min((chunk + 1) * CHUNK, rows.count);
    for (int r = chunk * CHUNK; r < end;) {
      const int passes = (end - r + FLOAT_ROWS - 1) / FLOAT_ROWS, done = (end - r + passes - 1) / passes;
      times_float_tile(m, tile, rows.x + r * rows.stride, rows.stride, done, product);
      for (int i = 0; i < done; ++i, ++r) {
        const int place = rows.place(r);
        if (place < 0) continue;
        finish_row(product + i * TILE, tile * TILE, outputs, finish, finish.of(rows, r), out + size_t(place) * outputs);
      }
    }
  }
}

// A thread's part of rows times a matrix of bytes, the rows rounded by all threads: out [rows][outputs of the caller].
void times_bytes(Pool& pool, int t, const Matrix& m, const float* x, int64_t stride, int rows, const float* bias, int outputs,
                 const Quantised& rounded, float* product, float* out) {
  const Span own = share(t, pool.threads, rows), tiles = share(t, pool.threads, m.count());
  for (int r = own.start; r < own.stop; ++r) {
    const Quantised to = rounded.from(r);
    quantise(x + r * stride, m.inputs, to.bytes, to.scales, to.negative_sums);
  }
  pool.meet();
  multiply(m, tiles, {}, rounded, rows, product, [&](int tile, const float* sums) {
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < TILE && tile * TILE + c < outputs; ++c)
        out[size_t(r) * outputs + tile * TILE + c] = sums[r * TILE + c] + (bias ? bias[tile * TILE + c] : 0.f);
  });
}

// --------------------------------------------------------------------------------------------------------- the LSTM

constexpr int GATES = 4;

struct LstmScratch {  // one thread's
  QuantisedBuffer rounded;
  Buffer<float> gates;
};

// One step of an LSTM's TILE units from their gates' sums [GATES][streams][TILE] and what drives them; `driven` and `out` are
// at the step's and the units' place in tensors of [streams, steps, …].
void advance(const float* sums, const float* driven, int streams, int steps, int width, float* const* cells, int unit, float* out) {
  for (int b = 0; b < streams; ++b)
    for (int i = 0; i < TILE; i += LANES) {
      const float* drive = driven + size_t(b) * steps * GATES * width + i;
      F g[GATES];
      for (int k = 0; k < GATES; ++k) g[k] = add(load(sums + (size_t(k) * streams + b) * TILE + i), load(drive + k * width));
      float* c = cells[b] + unit + i;
      const F now = fma(sigmoid(g[0]), tanh_of(g[2]), mul(sigmoid(g[1]), load(c)));
      store(c, now);
      store(out + size_t(b) * steps * width + i, mul(sigmoid(g[3]), tanh_of(now)));
    }
}

// An LSTM over some steps of some streams: driven [streams, steps, 4 · width] is what does not depend on the past; hidden and
// cells [streams][width] are updated. A tile of `again` holds one gate of 32 units; its four gates lie side by side.
void run_lstm(Pool& pool, int t, const Matrix& again, const float* driven, int streams, int steps, float* const* hidden,
              float* const* cells, LstmScratch& own, float* out) {
  const int width = again.inputs;
  const Span blocks = share(t, pool.threads, width / TILE);
  const Quantised rows = own.rounded.of(size_t(streams), width);
  float* sums = own.gates.of(size_t(streams) * GATES * TILE);  // [GATES][streams][TILE]
  const int count = blocks.stop - blocks.start;
  // to and fro: where a share is a little more than the core's cache holds, most of it is still there on the way back
  const auto at = [&](int step, int i) { return step % 2 ? blocks.stop - 1 - i : blocks.start + i; };
  for (int step = 0; step < steps; ++step) {
    for (int b = 0; b < streams; ++b) {
      const Quantised to = rows.from(b);
      const float* past = step ? out + (size_t(b) * steps + step - 1) * width : hidden[b];
      quantise(past, width, to.bytes, to.scales, to.negative_sums);
    }
    for (int i = 0; i < count; ++i) {
      const int block = at(step, i), next = i + 1 < count ? at(step, i + 1) : at(step + 1, 0);
      times_tiles<GATES>(again.bits, again.from(GATES * block), again.from(GATES * next), rows, streams, sums);
      advance(sums, driven + size_t(step) * GATES * width + block * TILE, streams, steps, width, cells, block * TILE,
              out + size_t(step) * width + block * TILE);
    }
    pool.meet();
  }
  const size_t first = size_t(blocks.start) * TILE, own_width = size_t(count) * TILE;
  for (int b = 0; b < streams; ++b)
    memcpy(hidden[b] + first, out + (size_t(b) * steps + steps - 1) * width + first, own_width * sizeof(float));
}

// ------------------------------------------------------------------------------------------------ stages, one by one

enum Kind { CONVOLUTION, LSTM, LAST_LSTM };  // the last of a stack: what the stack was given is added to it

struct Stage {
  Matrix first, second;  // second: of a residual block, pointwise; of an LSTM, for its last outputs
  const float *bias, *second_bias;
  int64_t at, second_at;  // floats of a row's memory before this stage's: its newest inputs, of an elu'd one after its elu;
                          // or its last outputs and, at the second place, its cells
  int32_t kernel, inputs, outputs, stride, left;  // left: of a residual block, where the kernel's middle lies; else -1
  int32_t elu;     // before it
  int32_t kind;
};

struct Memories {  // of states, each of so many rows: [rows, what a stage remembers] stage after stage
  float* const* of;
  int rows;
  float* at(int64_t before, int64_t size, int row) const { return of[row / rows] + rows * before + row % rows * size; }
};

// Runs stages, each on the outputs of the one before it, in memory of its own.
class Chain {
 public:
  // x [streams, steps, inputs of the first stage]; out: as many steps as the strides make of them
  void run(Pool& pool, const Stage* stages, int count, const Memories& memories, const float* x, int streams, int steps, float* out) {
    std::lock_guard<std::mutex> alone(turn_);
    if (scratch_.size() < size_t(pool.threads)) scratch_ = std::vector<Scratch>(size_t(pool.threads));
    const int heavy = first_light(stages, count), light = count - heavy;
    const int between = steps * rate(stages, heavy), outputs = rate(stages + heavy, light) * width(stages[count - 1]);
    const int group = std::min(streams, std::max(1, FEW_FLOATS / most(stages, heavy, steps)));
    const int pieces = light ? std::max(1, int(int64_t(between) * most(stages + heavy, light, 1) / NEAR_FLOATS)) : 0;
    make_room(stages, heavy, group, steps);
    make_room(stages + heavy, light, 1, pieces ? (between + pieces - 1) / pieces : 0);
    const int inputs = light ? stages[heavy].inputs : outputs;
    float* handed = light && heavy ? handed_.of(size_t(streams) * between * inputs) : out;
    pool.run([&](int t) {
      for (int b = 0; heavy && b < streams; b += group)
        through(pool, t, stages, heavy, memories, b, x + size_t(b) * steps * stages[0].inputs, std::min(group, streams - b), steps,
                handed + size_t(b) * between * inputs);
      const float* from = heavy ? handed : x;
      for (int b = 0; b < streams; ++b)
        for (int i = 0; i < pieces; ++i) {
          const Span part = share(i, pieces, between);
          const size_t before = size_t(b) * between + part.start;
          through(pool, t, stages + heavy, light, memories, b, from + before * inputs, 1, part.stop - part.start, out + before * outputs);
        }
    });
  }

 private:
  static constexpr int LIGHT = 1 << 17;       // weights that stay in the core's cache beside what they are multiplied by
  static constexpr int NEAR_FLOATS = 1 << 15;  // between two stages: a stream's piece, where its weights are light
  static constexpr int FEW_FLOATS = 1 << 19;   // the same of all streams together, where they are not
  struct Scratch {
    LstmScratch lstm;
    Buffer<float> tile;
    Buffer<float*> hidden, cells;
  };

  static int width(const Stage& s) { return s.outputs / s.stride; }
  static int rate(const Stage* stages, int count) {
    int steps = 1;
    for (int i = 0; i < count; ++i) steps *= stages[i].stride;
    return steps;
  }
  // The most floats of a stream between two stages, for so many steps into the first.
  static int most(const Stage* stages, int count, int steps) {
    int found = 1;
    for (int i = 0; i < count; ++i) found = std::max(found, (steps *= stages[i].stride) * width(stages[i]));
    return found;
  }
  static int first_light(const Stage* stages, int count) {
    while (count && stages[count - 1].kind == CONVOLUTION && stages[count - 1].inputs * stages[count - 1].kernel * stages[count - 1].outputs <= LIGHT) --count;
    return count;
  }

  void make_room(const Stage* stages, int count, int streams, int steps) {
    size_t floats = 0, n = size_t(steps);
    for (int i = 0; i < count; n *= size_t(stages[i++].stride)) {
      const Stage& s = stages[i];
      const int widest = std::max({s.outputs, s.second.inputs, s.first.outputs});
      floats = std::max({floats, (n + size_t(s.kernel) - 1) * size_t(s.inputs), n * size_t(widest)});
      if (s.kind == CONVOLUTION) continue;
      rounded_.of(size_t(streams) * n, s.inputs);
      for (auto& own : scratch_) own.tile.of(size_t(streams) * n * TILE * TOGETHER);
    }
    floats *= size_t(streams);
    joined_.of(floats), activated_.of(floats), inner_.of(floats);
    for (auto& buffer : between_) buffer.of(floats);
    for (auto& own : scratch_) own.hidden.of(size_t(streams)), own.cells.of(size_t(streams));
  }

  // Run stages on some streams, the first of which is row `row` of the memories.
  void through(Pool& pool, int t, const Stage* stages, int count, const Memories& memories, int row, const float* x, int streams,
               int steps, float* out) {
    const float *from = x, *stack = nullptr;
    for (int i = 0; i < count; steps *= stages[i++].stride) {
      const Stage& s = stages[i];
      if (s.kind != CONVOLUTION && !stack) stack = from;
      float* to = out;
      for (int k = 0; i + 1 < count && (k == 0 || to == from || to == stack); ++k) to = between_[k].get();
      if (s.kind == CONVOLUTION) convolve(pool, t, s, memories, row, from, streams, steps, to);
      else recur(pool, t, s, memories, row, from, stack, streams, steps, to);
      if (s.kind != LSTM) stack = nullptr;
      from = to;
    }
  }

  void convolve(Pool& pool, int t, const Stage& s, const Memories& memories, int row, const float* x, int streams, int steps, float* out) {
    const bool residual = s.left >= 0;
    const int pitch = steps + s.kernel - 1;
    const int64_t held = int64_t(s.kernel - 1) * s.inputs, news = int64_t(steps) * s.inputs, whole = held + news;
    const int64_t first = news * t / pool.threads, last = news * (t + 1) / pool.threads;
    for (int b = 0; b < streams; ++b) {
      float *joined = joined_.get() + b * whole, *activated = activated_.get() + b * whole;
      const float *from = x + b * news, *context = memories.at(s.at, held, row + b);
      if (t == 0 && held) map(context, held, joined, Same());
      if (t == 0 && residual) map(context, held, activated, Elu());
      if (s.elu) map(from + first, last - first, joined + held + first, Elu());
      else map(from + first, last - first, joined + held + first, Same());
      if (residual) map(from + first, last - first, activated + held + first, Elu());
    }
    pool.meet();
    for (int b = 0; t == 0 && held && b < streams; ++b)
      memcpy(memories.at(s.at, held, row + b), joined_.get() + b * whole + news, size_t(held) * sizeof(float));
    const int inner = s.second.inputs;  // its row's width between the two products
    const Rows rows{residual ? activated_.get() : joined_.get(), s.inputs, streams * pitch - s.kernel + 1, pitch, steps};
    times_floats(t, pool.threads, s.first, rows, {s.bias, residual, nullptr, 0, 0}, residual ? inner : s.outputs,
                 residual ? inner_.get() : out);
    pool.meet();
    if (!residual) return;
    const float* shortcut = joined_.get() + int64_t(s.left) * s.inputs;
    times_floats(t, pool.threads, s.second, {inner_.get(), inner, streams * steps, steps, steps},
                 {s.second_bias, false, shortcut, s.inputs, pitch}, s.outputs, out);
    pool.meet();
  }

  void recur(Pool& pool, int t, const Stage& s, const Memories& memories, int row, const float* x, const float* stack, int streams,
             int steps, float* out) {
    Scratch& own = scratch_[size_t(t)];
    const int width = s.inputs, rows = streams * steps;
    float **hidden = own.hidden.get(), **cells = own.cells.get();
    for (int b = 0; b < streams; ++b) hidden[b] = memories.at(s.at, width, row + b), cells[b] = memories.at(s.second_at, width, row + b);
    float* driven = inner_.get();
    times_bytes(pool, t, s.first, x, width, rows, s.bias, GATES * width, rounded_.of(size_t(rows), width), own.tile.get(), driven);
    pool.meet();
    run_lstm(pool, t, s.second, driven, streams, steps, hidden, cells, own.lstm, out);
    if (s.kind != LAST_LSTM) return;
    pool.meet();  // others may still read their last outputs
    const int64_t floats = int64_t(rows) * width, first = floats * t / pool.threads, last = floats * (t + 1) / pool.threads;
    for (int64_t i = first; i < last; ++i) out[i] += stack[i];
    pool.meet();
  }

  Buffer<float> joined_, activated_, inner_, between_[3], handed_;
  QuantisedBuffer rounded_;
  std::vector<Scratch> scratch_;
  std::mutex turn_;
};

}  // namespace
