// MusicGen's decoder step on a CPU, whole: few rows, weights of 4, 6 or 8 bits read once, keys and values of 8 bits.
//
//     x ─ norm ─ quantise ─ qkv ─ attention │ quantise ─ out ─ + │ norm … ─ ffn_in ─ gelu │ quantise ─ ffn_out ─ + │ …
//         each thread all rows, its heads   ↑ meet             ↑ meet     its columns   ↑ meet                 ↑ meet
//
// A row's memory is, for each layer and head, keys and values of all positions and their bfloat16 scales:
//     keys [position / 16][quad][position % 16][4]   values [position][width]   key scales, value scales [position]
//
// Rules: threads split outputs and heads, never a sum, so a result depends neither on their number nor on the rows
// beside it. Tensors are the caller's, who keeps them alive. Whoever calls holds the decoder's lock; a pool has its own.
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(_MSC_VER)
#include <intrin.h>
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif
#include "codec.h"

namespace {

constexpr int BLOCK = 16;           // positions whose keys lie together
constexpr float FAINT = 25.f;  // e^-25 of the loudest changes no sum of floats; times its scale it may be subnormal, which is slow
constexpr int EACH_FOR_ITSELF = 8;  // up to so many rows every thread normalises all: cheaper than meeting

// --------------------------------------------------------------------------------------------------- the decoder

struct Norm {
  const float *weight, *bias;
};

APART void normalise(const float* x, int width, const Norm& norm, float* out) {
  F total = all(0.f), squares = all(0.f);
  for (int i = 0; i < width; i += LANES) total = add(total, load(x + i));
  const F mean = all(sum(total) / float(width));
  for (int i = 0; i < width; i += LANES) {
    const F off = sub(load(x + i), mean);
    squares = fma(off, off, squares);
  }
  const F rate = all(1.f / std::sqrt(sum(squares) / float(width) + 1e-5f));
  for (int i = 0; i < width; i += LANES)
    store(out + i, fma(mul(sub(load(x + i), mean), rate), load(norm.weight + i), load(norm.bias + i)));
}

struct Layer {
  Matrix qkv, out, cross_query, cross_out, ffn_in, ffn_out;  // qkv: a head's queries, keys, values, then the next head's
  Norm attention_norm, cross_norm, ffn_norm;
};

struct Shape {
  int32_t width, heads, ffn, layers, positions, relu;  // positions: a multiple of BLOCK; relu: 0 is gelu
};

struct Row {
  uint8_t* memory;
  const float *text_keys, *text_values;  // [layers, heads, text_length, head width]
  int32_t text_length, past;             // past: vectors before this one in its memory
};

struct HeadMemory {
  uint8_t* keys;
  int8_t* values;
  uint16_t *key_scales, *value_scales;
};

// 127ths of the largest, rounded up to a bfloat16: bytes [W], and what they are multiples of.
template <int W> uint16_t to_bytes(const float* x, int8_t* bytes) {
  F top = magnitude(load(x));
  for (int i = LANES; i < W; i += LANES) top = larger(top, magnitude(load(x + i)));
  const uint16_t scale = to_bf16_upwards(std::max(largest(top), 1e-30f) / 127.f);
  const F inverse = all(1.f / from_bf16(scale));
  for (int i = 0; i < W; i += LANES) store_int8(bytes + i, nearest(mul(load(x + i), inverse)));
  return scale;
}

template <int W> void remember(const HeadMemory& m, int at, const float* key, const float* value) {
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
template <int W> float score(const HeadMemory& m, int count, const Query<W>& query, float* scores) {
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
APART void attend(const HeadMemory& m, int count, const uint8_t* then, const float* q, float* scores, float* out) {
  const Query<W> query(q);
  const F top = all(score<W>(m, count, query, scores));
  F total = all(0.f);
  for (int i = 0; i < count; i += LANES) {
    const F below = sub(load(scores + i), top);
    const F e = where_negative(add(below, all(FAINT)), all(0.f), exponential(below));
    total = add(total, e);
    store(scores + i, mul(e, load(m.value_scales + i)));
  }
  constexpr int N = W / LANES;
  F even[N], odd[N];  // two chains of sums: one would wait for itself
  for (int i = 0; i < N; ++i) even[i] = odd[i] = all(0.f);
  const int8_t* v = m.values;
  int at = 0;
  for (; at + 2 <= count; at += 2, v += 2 * W, then += 2 * W) {
    for (int i = 0; i < 2 * W; i += 64) fetch(reinterpret_cast<const uint8_t*>(v) + FETCH_AHEAD + i), fetch_far(then + i);
    const F one = all(scores[at]), two = all(scores[at + 1]);
    for (int i = 0; i < N; ++i) {
      even[i] = fma(one, load_int8(v + i * LANES), even[i]);
      odd[i] = fma(two, load_int8(v + W + i * LANES), odd[i]);
    }
  }
  if (at < count)
    for (int i = 0; i < N; ++i) even[i] = fma(all(scores[at]), load_int8(v + i * LANES), even[i]);
  const F rate = all(1.f / sum(total));
  for (int i = 0; i < N; ++i) store(out + i * LANES, mul(add(even[i], odd[i]), rate));
}

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

struct Scratch {  // one thread's
  QuantisedBuffer quantised;
  Buffer<float> normed, projected, tile, scores;
};

class Decoder {
 public:
  explicit Decoder(const Shape& shape) : shape(shape), layers(size_t(shape.layers)) {
    head_width = shape.width / shape.heads;
    heads_together = std::max(1, TILE / head_width);
  }
  void step(Pool& pool, const Row* rows, int count, const float* x, const int32_t* wanted, int wanted_count, float* out);

  const Shape shape;
  std::vector<Layer> layers;
  Norm last_norm{};
  Matrix heads{};

 private:
  template <int W> void run(Pool& pool, int t);
  template <int W> void self_attention(Pool& pool, int t, int layer);
  template <int W> void cross_attention(Pool& pool, int t, int layer);
  void feed_forward(Pool& pool, int t, int layer);
  void project(Pool& pool, int t);
  Quantised normed(Pool& pool, int t, const int* which, int count, const Norm& norm);
  void quantise_columns(const float* from, int width, int count, Span columns);
  void add_product(Pool& pool, int t, const Matrix& m, const Tiles& then, int width, const int* which, int count);
  Tiles own_tiles(Pool& pool, int t, const Matrix& m, int head_parts = 0) const;
  template <int W> HeadMemory memory(int row, int layer, int head) const;
  Span own_heads(int t, int threads) const {
    const Span blocks = share(t, threads, shape.heads / heads_together);
    return {blocks.start * heads_together, blocks.stop * heads_together};
  }

  int head_width, heads_together;
  const Row* rows_ = nullptr;
  int count_ = 0, text_count_ = 0, wanted_count_ = 0;
  float* logits_ = nullptr;
  std::vector<int> text_rows_, wanted_;
  Buffer<float> x_, attended_, inner_;
  QuantisedBuffer shared_rows_, columns_;
  std::vector<Scratch> scratch_;
};

// A thread's first tiles of a matrix: of its heads, with so many parts each, or of its share.
Tiles Decoder::own_tiles(Pool& pool, int t, const Matrix& m, int head_parts) const {
  const int own = head_parts ? own_heads(t, pool.threads).start * head_parts * head_width / TILE : share(t, pool.threads, m.count()).start;
  return m.from(own);
}

template <int W> HeadMemory Decoder::memory(int row, int layer, int head) const {
  const size_t p = size_t(shape.positions);
  uint8_t* at = rows_[row].memory + (size_t(layer) * shape.heads + head) * p * (2 * W + 4);
  uint16_t* scales = reinterpret_cast<uint16_t*>(at + 2 * p * W);
  return {at, reinterpret_cast<int8_t*>(at + p * W), scales, scales + p};
}

// Normalised and quantised rows of x, `which` or all.
Quantised Decoder::normed(Pool& pool, int t, const int* which, int count, const Norm& norm) {
  Scratch& own = scratch_[size_t(t)];
  const int width = shape.width;
  const bool together = count > EACH_FOR_ITSELF;
  const Quantised rows = (together ? shared_rows_ : own.quantised).of(size_t(count), width);
  const Span mine = together ? share(t, pool.threads, count) : Span{0, count};
  for (int b = mine.start; b < mine.stop; ++b) {
    normalise(x_.get() + size_t(which ? which[b] : b) * width, width, norm, own.normed.get());
    const Quantised to = rows.from(b);
    quantise(own.normed.get(), width, to.bytes, to.scales, to.negative_sums);
  }
  if (together) pool.meet();
  return rows;
}

void Decoder::quantise_columns(const float* from, int width, int count, Span columns) {
  const Quantised rows = columns_.of(size_t(count), width);
  for (int b = 0; b < count; ++b) {
    const Quantised to = rows.from(b);
    const int g = columns.start / GROUP;
    quantise(from + size_t(b) * width + columns.start, columns.stop - columns.start, to.bytes + columns.start, to.scales + g,
             to.negative_sums + g);
  }
}

// x += quantised columns times a matrix.
void Decoder::add_product(Pool& pool, int t, const Matrix& m, const Tiles& then, int width, const int* which, int count) {
  multiply(m, share(t, pool.threads, m.count()), then, columns_.of(size_t(count), width), count, scratch_[size_t(t)].tile.get(),
           [&](int tile, const float* out) {
             for (int b = 0; b < count; ++b) {
               float* to = x_.get() + size_t(which ? which[b] : b) * shape.width + tile * TILE;
               for (int i = 0; i < TILE; i += LANES) store(to + i, add(load(to + i), load(out + b * TILE + i)));
             }
           });
}

template <int W> void Decoder::self_attention(Pool& pool, int t, int index) {
  const Layer& layer = layers[size_t(index)];
  Scratch& own = scratch_[size_t(t)];
  const Span heads = own_heads(t, pool.threads);
  const int width = 3 * W * (heads.stop - heads.start), first = 3 * W * heads.start / TILE;
  const Quantised rows = normed(pool, t, nullptr, count_, layer.attention_norm);
  const Span tiles{first, 3 * W * heads.stop / TILE};
  multiply(layer.qkv, tiles, own_tiles(pool, t, layer.out), rows, count_, own.tile.get(), [&](int tile, const float* out) {
    for (int b = 0; b < count_; ++b)
      memcpy(own.projected.get() + size_t(b) * width + (tile - first) * TILE, out + b * TILE, TILE * sizeof(float));
  });
  const auto of_head = [&](int b, int h) { return own.projected.get() + size_t(b) * width + 3 * W * (h - heads.start); };
  for (int b = 0; b < count_; ++b)  // all before any attends: a prefill's vectors see each other
    for (int h = heads.start; h < heads.stop; ++h)
      remember<W>(memory<W>(b, index, h), rows_[b].past, of_head(b, h) + W, of_head(b, h) + 2 * W);
  for (int b = 0; b < count_; ++b)
    for (int h = heads.start; h < heads.stop; ++h) {
      const bool row_ends = h + 1 == heads.stop;
      const HeadMemory next = memory<W>(row_ends ? std::min(b + 1, count_ - 1) : b, index, row_ends ? heads.start : h + 1);
      attend<W>(memory<W>(b, index, h), rows_[b].past + 1, next.keys, of_head(b, h), own.scores.get(),
                attended_.get() + size_t(b) * shape.width + h * W);
    }
  quantise_columns(attended_.get(), shape.width, count_, {heads.start * W, heads.stop * W});
  pool.meet();
  const Tiles then = text_count_ ? own_tiles(pool, t, layer.cross_query, 1) : own_tiles(pool, t, layer.ffn_in);
  add_product(pool, t, layer.out, then, shape.width, nullptr, count_);
  pool.meet();
}

template <int W> void Decoder::cross_attention(Pool& pool, int t, int index) {
  const Layer& layer = layers[size_t(index)];
  Scratch& own = scratch_[size_t(t)];
  const Span heads = own_heads(t, pool.threads);
  const int width = W * (heads.stop - heads.start), first = W * heads.start / TILE;
  const Quantised rows = normed(pool, t, text_rows_.data(), text_count_, layer.cross_norm);
  multiply(layer.cross_query, {first, W * heads.stop / TILE}, own_tiles(pool, t, layer.cross_out), rows, text_count_,
           own.tile.get(), [&](int tile, const float* out) {
             for (int b = 0; b < text_count_; ++b)
               memcpy(own.projected.get() + size_t(b) * width + (tile - first) * TILE, out + b * TILE, TILE * sizeof(float));
           });
  for (int b = 0; b < text_count_; ++b) {
    const Row& row = rows_[text_rows_[size_t(b)]];
    for (int h = heads.start; h < heads.stop; ++h) {
      const size_t at = (size_t(index) * shape.heads + h) * size_t(row.text_length) * W;
      attend_to_text<W>(row.text_keys + at, row.text_values + at, row.text_length,
                        own.projected.get() + size_t(b) * width + W * (h - heads.start), own.scores.get(),
                        attended_.get() + size_t(b) * shape.width + h * W);
    }
  }
  quantise_columns(attended_.get(), shape.width, text_count_, {heads.start * W, heads.stop * W});
  pool.meet();
  add_product(pool, t, layer.cross_out, own_tiles(pool, t, layer.ffn_in), shape.width, text_rows_.data(), text_count_);
  pool.meet();
}

void Decoder::feed_forward(Pool& pool, int t, int index) {
  const Layer& layer = layers[size_t(index)];
  const Span tiles = share(t, pool.threads, layer.ffn_in.count());
  const Quantised rows = normed(pool, t, nullptr, count_, layer.ffn_norm);
  const Tiles then = own_tiles(pool, t, layer.ffn_out);
  multiply(layer.ffn_in, tiles, then, rows, count_, scratch_[size_t(t)].tile.get(), [&](int tile, const float* out) {
    for (int b = 0; b < count_; ++b)
      for (int i = 0; i < TILE; i += LANES) {
        const F y = load(out + b * TILE + i);
        store(inner_.get() + size_t(b) * shape.ffn + tile * TILE + i, shape.relu ? larger(y, all(0.f)) : gelu(y));
      }
  });
  quantise_columns(inner_.get(), shape.ffn, count_, {tiles.start * TILE, tiles.stop * TILE});
  pool.meet();
  const bool last = index + 1 == shape.layers;
  const Tiles next = last ? own_tiles(pool, t, heads) : own_tiles(pool, t, layers[size_t(index) + 1].qkv, 3);
  add_product(pool, t, layer.ffn_out, next, shape.ffn, nullptr, count_);
  pool.meet();
}

void Decoder::project(Pool& pool, int t) {
  const Quantised rows = normed(pool, t, wanted_.data(), wanted_count_, last_norm);
  const Tiles then = own_tiles(pool, t, layers[0].qkv, 3);
  multiply(heads, share(t, pool.threads, heads.count()), then, rows, wanted_count_, scratch_[size_t(t)].tile.get(), [&](int tile, const float* out) {
             for (int b = 0; b < wanted_count_; ++b)
               memcpy(logits_ + size_t(b) * heads.outputs + tile * TILE, out + b * TILE, TILE * sizeof(float));
           });
}

template <int W> void Decoder::run(Pool& pool, int t) {
  for (int i = 0; i < shape.layers; ++i) {
    self_attention<W>(pool, t, i);
    if (text_count_) cross_attention<W>(pool, t, i);
    feed_forward(pool, t, i);
  }
  if (wanted_count_) project(pool, t);
}

void Decoder::step(Pool& pool, const Row* rows, int count, const float* x, const int32_t* wanted, int wanted_count,
                   float* out) {
  const size_t n = size_t(count), width = size_t(shape.width), inner = size_t(shape.ffn);
  rows_ = rows, count_ = count, wanted_count_ = wanted_count, logits_ = out;
  wanted_.assign(wanted, wanted + wanted_count);
  text_rows_.clear();
  size_t longest = size_t(shape.positions);
  for (int b = 0; b < count; ++b) {
    longest = std::max(longest, size_t(rows[b].text_length));
    if (layers[0].cross_query.tiles && rows[b].text_length) text_rows_.push_back(b);
  }
  text_count_ = int(text_rows_.size());
  memcpy(x_.of(n * width), x, n * width * sizeof(float));
  attended_.of(n * width), inner_.of(n * inner);
  shared_rows_.of(n, shape.width), columns_.of(n, std::max(shape.width, shape.ffn));
  if (scratch_.size() < size_t(pool.threads)) scratch_ = std::vector<Scratch>(size_t(pool.threads));
  for (auto& own : scratch_) {
    own.quantised.of(n, shape.width);
    own.normed.of(width), own.projected.of(n * 3 * width), own.tile.of(n * TILE * TOGETHER), own.scores.of(longest + BLOCK);
  }
  pool.run([&](int t) {
    switch (head_width) {
      case 16: run<16>(pool, t); break;
      case 32: run<32>(pool, t); break;
      case 64: run<64>(pool, t); break;
      default: run<128>(pool, t);
    }
  });
}

}  // namespace

// -------------------------------------------------------------------------------------------------------- C's names

#if defined(__linux__) && defined(__x86_64__)
// Whether the processor multiplies tiles of bfloat16s and the system lets this process use them, which it wants to be asked.
bool multiplies_tiles() {
  constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  unsigned a = 7, b, c = 0, d, more = 7, one = 1;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const bool tiles = (d >> 24 & 1) && (d >> 22 & 1);
  __asm__("cpuid" : "+a"(more), "=b"(b), "+c"(one), "=d"(d));
  return tiles && (more >> 5 & 1) && !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
}
#else
[[maybe_unused]] bool multiplies_tiles() { return false; }
#endif

// What this processor and system can run: 0 the portable build, 1 AVX2, 2 AVX-VNNI, 3 AVX-512 VNNI, 4 with AMX beside it.
EXPORT int streamgen_processor() {
#if (defined(__x86_64__) || defined(__i386__)) && !defined(_MSC_VER)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    return multiplies_tiles() ? 4 : 3;
  unsigned a = 7, b, c = 1, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return a >> 4 & 1 ? 2 : 1;  // leaf 7.1, EAX bit 4: AVX-VNNI
#elif defined(_M_X64)
  int info[4];
  __cpuid(info, 1);
  if (!(info[2] >> 27 & 1) || !(info[2] >> 12 & 1)) return 0;  // OSXSAVE, FMA
  const uint64_t kept = _xgetbv(0);
  __cpuidex(info, 7, 0);
  if ((kept & 6) != 6 || !(info[1] >> 5 & 1)) return 0;
  if ((kept & 0xE0) == 0xE0 && info[1] >> 30 & 1 && info[1] >> 31 & 1 && info[2] >> 11 & 1) return 3;
  __cpuidex(info, 7, 1);
  return info[0] >> 4 & 1 ? 2 : 1;
#else
  return 0;
#endif
}

EXPORT void* streamgen_pool(int32_t threads) { return new Pool(threads); }
EXPORT void streamgen_pool_end(void* pool) { delete static_cast<Pool*>(pool); }

EXPORT int64_t streamgen_packed_bytes(int32_t outputs, int32_t inputs, int32_t bits) {
  const Matrix m{nullptr, outputs, inputs, bits};
  return int64_t(m.count()) * int64_t(m.tile_bytes());
}

// Pack float32 [n, inputs] into tiles: output i is row order[i], or zeros where that is -1.
EXPORT void streamgen_pack(void* pool, const float* weight, const int32_t* order, int32_t outputs, int32_t inputs,
                           int32_t bits, uint8_t* out) {
  const std::vector<float> zeros(size_t(inputs), 0.f);
  const Matrix m{out, outputs, inputs, bits};
  Pool& threads = *static_cast<Pool*>(pool);
  threads.run([&](int t) {
    const Span mine = share(t, threads.threads, m.count());
    for (int tile = mine.start; tile < mine.stop; ++tile) {
      const float* rows[TILE];
      for (int o = 0; o < TILE; ++o) {
        const int32_t from = order[tile * TILE + o];
        rows[o] = from < 0 ? zeros.data() : weight + size_t(from) * inputs;
      }
      pack_tile(rows, inputs, bits, out + size_t(tile) * m.tile_bytes());
    }
  });
}

// Ask for huge pages under memory that has not been written: without them the weights are read a third slower.
EXPORT void streamgen_use_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__)
  const uintptr_t page = uintptr_t(2) << 20, first = (uintptr_t(memory) + page - 1) / page * page;
  const uintptr_t stop = (uintptr_t(memory) + uintptr_t(bytes)) / page * page;
  if (stop > first) madvise(reinterpret_cast<void*>(first), stop - first, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

EXPORT void* streamgen_decoder(const Shape* shape) { return new Decoder(*shape); }
EXPORT void streamgen_decoder_end(void* decoder) { delete static_cast<Decoder*>(decoder); }

// matrices: qkv, out, cross query, cross out, ffn in, ffn out (tiles null where there is none); norms: weight and bias of
// attention, cross and ffn.
EXPORT void streamgen_decoder_layer(void* decoder, int32_t index, const Matrix* matrices, const float* const* norms) {
  static_cast<Decoder*>(decoder)->layers[size_t(index)] = {
      matrices[0], matrices[1], matrices[2], matrices[3], matrices[4], matrices[5],
      {norms[0], norms[1]}, {norms[2], norms[3]}, {norms[4], norms[5]}};
}
EXPORT void streamgen_decoder_heads(void* decoder, const Matrix* heads, const float* weight, const float* bias) {
  static_cast<Decoder*>(decoder)->heads = *heads;
  static_cast<Decoder*>(decoder)->last_norm = {weight, bias};
}

// x: float32 [count, width], positions added; logits: float32 [wanted_count, outputs of the heads].
EXPORT void streamgen_step(void* pool, void* decoder, const Row* rows, int32_t count, const float* x, const int32_t* wanted,
                           int32_t wanted_count, float* logits) {
  static_cast<Decoder*>(decoder)->step(*static_cast<Pool*>(pool), rows, count, x, wanted, wanted_count, logits);
}

// out: float32 [rows, outputs]; bias: of all outputs of the matrix, padded, or null. With weights of floats: elu after it,
// and what is added then, rows `added_stride` apart, or null.
EXPORT void streamgen_multiply(void* pool, const Matrix* matrix, const float* x, int64_t stride, int32_t rows,
                               const float* bias, int32_t outputs, int32_t elu, const float* added, int64_t added_stride,
                               float* out) {
  Pool& threads = *static_cast<Pool*>(pool);
  const Matrix& m = *matrix;
  if (m.bits >= 16) {
    const Finish finish{bias, elu != 0, added, added_stride, rows};
    return threads.run([&](int t) { times_floats(t, threads.threads, m, {x, stride, rows, rows, rows}, finish, outputs, out); });
  }
  QuantisedBuffer buffer;
  const Quantised rounded = buffer.of(size_t(rows), m.inputs);
  threads.run([&](int t) {
    std::vector<float> product(size_t(rows) * TILE * TOGETHER);
    times_bytes(threads, t, m, x, stride, rows, bias, outputs, rounded, product.data(), out);
  });
}

// out may be x.
EXPORT void streamgen_elu(const float* x, int64_t count, float* out) { map(x, count, out, Elu()); }

EXPORT void* streamgen_chain() { return new Chain; }
EXPORT void streamgen_chain_end(void* chain) { delete static_cast<Chain*>(chain); }

// memories: of each state, of `rows` streams each; x: float32 [states * rows, steps, inputs of the first stage].
EXPORT void streamgen_decode(void* pool, void* chain, const Stage* stages, int32_t count, float* const* memories,
                             int32_t states, int32_t rows, const float* x, int32_t steps, float* out) {
  static_cast<Chain*>(chain)->run(*static_cast<Pool*>(pool), stages, count, {memories, rows}, x, states * rows, steps, out);
}

EXPORT void streamgen_lstm(void* pool, const Matrix* again, const float* driven, int32_t streams, int32_t steps,
                           float* hidden, float* cell, float* out) {
  Pool& threads = *static_cast<Pool*>(pool);
  std::vector<float*> pasts, cells;
  for (int b = 0; b < streams; ++b) pasts.push_back(hidden + size_t(b) * again->inputs), cells.push_back(cell + size_t(b) * again->inputs);
  threads.run([&](int t) {
    LstmScratch own;
    run_lstm(threads, t, *again, driven, streams, steps, pasts.data(), cells.data(), own, out);
  });
}

// Only read some memory: the limit that a step is held against.
EXPORT float streamgen_read(void* pool, const float* memory, int64_t count) {
  Pool& threads = *static_cast<Pool*>(pool);
  std::vector<float> sums(size_t(threads.threads));
  threads.run([&](int t) {
    const int64_t lines = count / 64, first = lines * t / threads.threads, stop = lines * (t + 1) / threads.threads;
    F parts[4] = {all(0.f), all(0.f), all(0.f), all(0.f)};
    for (int64_t line = first; line < stop; ++line) {
      const float* p = memory + 64 * line;
      for (int i = 0; i < 256; i += 64) fetch(reinterpret_cast<const uint8_t*>(p) + FETCH_AHEAD + i);
      for (int i = 0; i < 64; i += LANES) parts[i / LANES % 4] = larger(parts[i / LANES % 4], load(p + i));
    }
    sums[size_t(t)] = sum(add(add(parts[0], parts[1]), add(parts[2], parts[3])));
  });
  float total = 0;
  for (float s : sums) total += s;
  return total;
}
