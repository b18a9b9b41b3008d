// MusicGen's decoder step on a CPU, whole: few rows, weights read once. Its numbers are one of two kinds:
//
//     bytes    weights of 4, 6 or 8 bits, rows rounded to bytes for them, keys and values of 8 bits
//     floats   weights as they are, in as few bytes as hold them without loss; nothing is rounded but by float32 itself
//
//     x ─ norm ─ quantise ─ qkv ─ attention │ quantise ─ out ─ + │ norm … ─ ffn_in ─ gelu │ quantise ─ ffn_out ─ + │ …
//         each thread all rows, its heads   ↑ meet             ↑ meet     its columns   ↑ meet                 ↑ meet
//
// Rules: threads split outputs and heads, never a sum, so a result depends neither on their number nor on the rows
// beside it. Tensors are the caller's, who keeps them alive. Whoever calls holds the decoder's lock; a pool has its own.
#include <system_error>
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
#include "attention.h"
#include "codec.h"
#include "floats.h"

namespace {

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
  int32_t width, heads, ffn, layers, positions, relu, exact;  // positions: a multiple of BLOCK; relu: 0 is gelu; exact: floats
};

struct Row {
  uint8_t* memory;
  const float *text_keys, *text_values;  // [layers, heads, text_length, head width]
  int32_t text_length, past;             // past: vectors before this one in its memory
};

// ------------------------------------------------------------------------------------------- the two kinds of numbers

struct Bytes {
  using Rows = Quantised;
  using Buffer = QuantisedBuffer;
  template <int W> using Memory = ByteMemory<W>;
};
struct Floats {
  using Rows = FloatRows;
  using Buffer = FloatBuffer;
  template <int W> using Memory = FloatMemory<W>;
};

// A normalised row, as it is multiplied; `own` is room for it.
void normalise(const float* x, int width, const Norm& norm, float* own, const Quantised& to) {
  normalise(x, width, norm, own);
  quantise(own, width, to.bytes, to.scales, to.negative_sums);
}
void normalise(const float* x, int width, const Norm& norm, float*, const FloatRows& to) { normalise(x, width, norm, to.x); }

// Rows [count][width] as they are multiplied; a thread makes some columns of them ready.
Quantised rows_of(float*, int width, int count, QuantisedBuffer& buffer) { return buffer.of(size_t(count), width); }
FloatRows rows_of(float* from, int width, int, FloatBuffer&) { return {from, width}; }
void make_ready(const float* from, const Quantised& rows, int count, Span columns) {
  for (int b = 0; b < count; ++b) {
    const Quantised to = rows.from(b);
    const int g = columns.start / GROUP;
    quantise(from + size_t(b) * rows.width + columns.start, columns.stop - columns.start, to.bytes + columns.start, to.scales + g,
             to.negative_sums + g);
  }
}
void make_ready(const float*, const FloatRows&, int, Span) {}

// ------------------------------------------------------------------------------------------------------- the decoder

class AnyDecoder {
 public:
  explicit AnyDecoder(const Shape& shape) : shape(shape), layers(size_t(shape.layers)) {}
  virtual ~AnyDecoder() = default;
  virtual void step(Pool& pool, const Row* rows, int count, const float* x, const int32_t* wanted, int wanted_count, float* out,
                    float* seen) = 0;

  const Shape shape;
  std::vector<Layer> layers;
  Norm last_norm{};
  Matrix heads{};
};

template <class Numbers> class Decoder : public AnyDecoder {
 public:
  explicit Decoder(const Shape& shape)
      : AnyDecoder(shape), head_width(shape.width / shape.heads), heads_together(std::max(1, TILE / head_width)) {}
  void step(Pool& pool, const Row* rows, int count, const float* x, const int32_t* wanted, int wanted_count, float* out,
            float* seen) override;

 private:
  using Rows = typename Numbers::Rows;
  using Buffer_ = typename Numbers::Buffer;
  template <int W> using Memory = typename Numbers::template Memory<W>;
  struct Scratch {  // one thread's
    Buffer_ rows;
    Buffer<float> normed, projected, tile, scores;
  };

  template <int W> void run(Pool& pool, int t);
  template <int W> void self_attention(Pool& pool, int t, int layer);
  template <int W> void cross_attention(Pool& pool, int t, int layer);
  void feed_forward(Pool& pool, int t, int layer);
  void project(Pool& pool, int t);
  void show(Pool& pool, int t, int layer);
  Rows normed(Pool& pool, int t, const int* which, int count, const Norm& norm);
  void add_product(Pool& pool, int t, const Matrix& m, const Tiles& then, float* from, int width, const int* which, int count);
  Tiles own_tiles(Pool& pool, int t, const Matrix& m, int head_parts = 0) const;
  template <int W> Memory<W> memory(int row, int layer, int head) const {
    const size_t p = size_t(shape.positions);
    return {rows_[row].memory + (size_t(layer) * shape.heads + head) * p * Memory<W>::POSITION, p};
  }
  Span own_heads(int t, int threads) const {
    const Span blocks = share(t, threads, shape.heads / heads_together);
    return {blocks.start * heads_together, blocks.stop * heads_together};
  }

  const int head_width, heads_together;
  const Row* rows_ = nullptr;
  int count_ = 0, text_count_ = 0, wanted_count_ = 0;
  float *logits_ = nullptr, *seen_ = nullptr;
  std::vector<int> text_rows_, wanted_;
  Buffer<float> x_, attended_, inner_;
  Buffer_ shared_rows_, columns_;
  std::vector<Scratch> scratch_;
};

// A thread's first tiles of a matrix: of its heads, with so many parts each, or of its share.
template <class N> Tiles Decoder<N>::own_tiles(Pool& pool, int t, const Matrix& m, int head_parts) const {
  const int own = head_parts ? own_heads(t, pool.threads).start * head_parts * head_width / TILE : share(t, pool.threads, m.count()).start;
  return m.from(own);
}

// Normalised rows of x, `which` or all.
template <class N> typename N::Rows Decoder<N>::normed(Pool& pool, int t, const int* which, int count, const Norm& norm) {
  Scratch& own = scratch_[size_t(t)];
  const int width = shape.width;
  const bool together = count > EACH_FOR_ITSELF;
  const Rows rows = (together ? shared_rows_ : own.rows).of(size_t(count), width);
  const Span mine = together ? share(t, pool.threads, count) : Span{0, count};
  for (int b = mine.start; b < mine.stop; ++b)
    normalise(x_.get() + size_t(which ? which[b] : b) * width, width, norm, own.normed.get(), rows.from(b));
  if (together) pool.meet();
  return rows;
}

// x += rows [count][width] times a matrix.
template <class N>
void Decoder<N>::add_product(Pool& pool, int t, const Matrix& m, const Tiles& then, float* from, int width, const int* which, int count) {
  multiply(m, share(t, pool.threads, m.count()), then, rows_of(from, width, count, columns_), count, scratch_[size_t(t)].tile.get(),
           [&](int tile, const float* out) {
             for (int b = 0; b < count; ++b) {
               float* to = x_.get() + size_t(which ? which[b] : b) * shape.width + tile * TILE;
               for (int i = 0; i < TILE; i += LANES) store(to + i, add(load(to + i), load(out + b * TILE + i)));
             }
           });
}

template <class N>
template <int W>
void Decoder<N>::self_attention(Pool& pool, int t, int index) {
  const Layer& layer = layers[size_t(index)];
  Scratch& own = scratch_[size_t(t)];
  const Span heads = own_heads(t, pool.threads);
  const int width = 3 * W * (heads.stop - heads.start), first = 3 * W * heads.start / TILE;
  const Rows rows = normed(pool, t, nullptr, count_, layer.attention_norm);
  const Span tiles{first, 3 * W * heads.stop / TILE};
  multiply(layer.qkv, tiles, own_tiles(pool, t, layer.out), rows, count_, own.tile.get(), [&](int tile, const float* out) {
    for (int b = 0; b < count_; ++b)
      memcpy(own.projected.get() + size_t(b) * width + (tile - first) * TILE, out + b * TILE, TILE * sizeof(float));
  });
  const auto of_head = [&](int b, int h) { return own.projected.get() + size_t(b) * width + 3 * W * (h - heads.start); };
  for (int b = 0; b < count_; ++b)  // all before any attends: a prefill's vectors see each other
    for (int h = heads.start; h < heads.stop; ++h)
      remember(memory<W>(b, index, h), rows_[b].past, of_head(b, h) + W, of_head(b, h) + 2 * W);
  for (int b = 0; b < count_; ++b)
    for (int h = heads.start; h < heads.stop; ++h) {
      const bool row_ends = h + 1 == heads.stop;
      const Memory<W> next = memory<W>(row_ends ? std::min(b + 1, count_ - 1) : b, index, row_ends ? heads.start : h + 1);
      attend(memory<W>(b, index, h), rows_[b].past + 1, reinterpret_cast<const uint8_t*>(next.keys), of_head(b, h), own.scores.get(),
             attended_.get() + size_t(b) * shape.width + h * W);
    }
  make_ready(attended_.get(), rows_of(attended_.get(), shape.width, count_, columns_), count_, {heads.start * W, heads.stop * W});
  pool.meet();
  const Tiles then = text_count_ ? own_tiles(pool, t, layer.cross_query, 1) : own_tiles(pool, t, layer.ffn_in);
  add_product(pool, t, layer.out, then, attended_.get(), shape.width, nullptr, count_);
  pool.meet();
}

template <class N>
template <int W>
void Decoder<N>::cross_attention(Pool& pool, int t, int index) {
  const Layer& layer = layers[size_t(index)];
  Scratch& own = scratch_[size_t(t)];
  const Span heads = own_heads(t, pool.threads);
  const int width = W * (heads.stop - heads.start), first = W * heads.start / TILE;
  const Rows rows = normed(pool, t, text_rows_.data(), text_count_, layer.cross_norm);
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
  make_ready(attended_.get(), rows_of(attended_.get(), shape.width, text_count_, columns_), text_count_, {heads.start * W, heads.stop * W});
  pool.meet();
  add_product(pool, t, layer.cross_out, own_tiles(pool, t, layer.ffn_in), attended_.get(), shape.width, text_rows_.data(), text_count_);
  pool.meet();
}

template <class N>
void Decoder<N>::feed_forward(Pool& pool, int t, int index) {
  const Layer& layer = layers[size_t(index)];
  const Span tiles = share(t, pool.threads, layer.ffn_in.count());
  const Rows rows = normed(pool, t, nullptr, count_, layer.ffn_norm);
  const Tiles then = own_tiles(pool, t, layer.ffn_out);
  multiply(layer.ffn_in, tiles, then, rows, count_, scratch_[size_t(t)].tile.get(), [&](int tile, const float* out) {
    for (int b = 0; b < count_; ++b)
      for (int i = 0; i < TILE; i += LANES) {
        const F y = load(out + b * TILE + i);
        store(inner_.get() + size_t(b) * shape.ffn + tile * TILE + i, shape.relu ? larger(y, all(0.f)) : gelu(y));
      }
  });
  make_ready(inner_.get(), rows_of(inner_.get(), shape.ffn, count_, columns_), count_, {tiles.start * TILE, tiles.stop * TILE});
  pool.meet();
  const bool last = index + 1 == shape.layers;
  const Tiles next = last ? own_tiles(pool, t, heads) : own_tiles(pool, t, layers[size_t(index) + 1].qkv, 3);
  add_product(pool, t, layer.ffn_out, next, inner_.get(), shape.ffn, nullptr, count_);
  pool.meet();
}

template <class N>
void Decoder<N>::project(Pool& pool, int t) {
  const Rows rows = normed(pool, t, wanted_.data(), wanted_count_, last_norm);
  const Tiles then = own_tiles(pool, t, layers[0].qkv, 3);
  multiply(heads, share(t, pool.threads, heads.count()), then, rows, wanted_count_, scratch_[size_t(t)].tile.get(), [&](int tile, const float* out) {
             for (int b = 0; b < wanted_count_; ++b)
               memcpy(logits_ + size_t(b) * heads.outputs + tile * TILE, out + b * TILE, TILE * sizeof(float));
           });
}

template <class N>
template <int W>
void Decoder<N>::run(Pool& pool, int t) {
  for (int i = 0; i < shape.layers; ++i) {
    if (seen_) show(pool, t, i);
    self_attention<W>(pool, t, i);
    if (text_count_) cross_attention<W>(pool, t, i);
    feed_forward(pool, t, i);
  }
  if (seen_) show(pool, t, shape.layers);
  if (wanted_count_) project(pool, t);
}

// What a layer reads, or what comes of the last norm: a thread's rows of it.
template <class N>
void Decoder<N>::show(Pool& pool, int t, int layer) {
  const Span mine = share(t, pool.threads, count_);
  for (int b = mine.start; b < mine.stop; ++b) {
    const float* x = x_.get() + size_t(b) * shape.width;
    float* to = seen_ + (size_t(layer) * count_ + b) * shape.width;
    if (layer < shape.layers) memcpy(to, x, size_t(shape.width) * sizeof(float));
    else normalise(x, shape.width, last_norm, to);
  }
}

template <class N>
void Decoder<N>::step(Pool& pool, const Row* rows, int count, const float* x, const int32_t* wanted, int wanted_count,
                      float* out, float* seen) {
  const size_t n = size_t(count), width = size_t(shape.width), inner = size_t(shape.ffn);
  rows_ = rows, count_ = count, wanted_count_ = wanted_count, logits_ = out, seen_ = seen;
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
  shared_rows_.of(n, shape.width), rows_of(nullptr, std::max(shape.width, shape.ffn), count, columns_);
  if (scratch_.size() < size_t(pool.threads)) scratch_ = std::vector<Scratch>(size_t(pool.threads));
  for (auto& own : scratch_) {
    own.rows.of(n, shape.width);
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

// Which builds this processor and system can run, a bit each: 1 the portable one, 2 AVX2, 4 AVX-VNNI, 8 AVX-512 VNNI, 16 with
// AMX beside it. Some that have AVX-512 VNNI have no AVX-VNNI.
EXPORT int streamgen_processor() {
#if (defined(__x86_64__) || defined(__i386__)) && !defined(_MSC_VER)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 1;
  unsigned a = 7, b, c = 1, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const int narrow = 1 | 2 | (a >> 4 & 1) * 4;  // leaf 7.1, EAX bit 4: AVX-VNNI
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512vnni"))
    return narrow;
  return narrow | 8 | (multiplies_tiles() ? 16 : 0);
#elif defined(_M_X64)
  int info[4];
  __cpuid(info, 1);
  if (!(info[2] >> 27 & 1) || !(info[2] >> 12 & 1)) return 1;  // OSXSAVE, FMA
  const uint64_t kept = _xgetbv(0);
  __cpuidex(info, 7, 0);
  if ((kept & 6) != 6 || !(info[1] >> 5 & 1)) return 1;
  const bool wide = (kept & 0xE0) == 0xE0 && info[1] >> 30 & 1 && info[1] >> 31 & 1 && info[2] >> 11 & 1;
  __cpuidex(info, 7, 1);
  return 1 | 2 | (info[0] >> 4 & 1) * 4 | (wide ? 8 : 0);
#else
  return 1;
#endif
}

// Null where the system starts no so many.
EXPORT void* streamgen_pool(int32_t threads) {
  try {
    return new Pool(threads);
  } catch (const std::system_error&) {
    return nullptr;
  }
}
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

EXPORT void* streamgen_decoder(const Shape* shape) {
  AnyDecoder* made = shape->exact ? static_cast<AnyDecoder*>(new Decoder<Floats>(*shape)) : new Decoder<Bytes>(*shape);
  return made;
}
EXPORT void streamgen_decoder_end(void* decoder) { delete static_cast<AnyDecoder*>(decoder); }

// matrices: qkv, out, cross query, cross out, ffn in, ffn out (tiles null where there is none); norms: weight and bias of
// attention, cross and ffn.
EXPORT void streamgen_decoder_layer(void* decoder, int32_t index, const Matrix* matrices, const float* const* norms) {
  static_cast<AnyDecoder*>(decoder)->layers[size_t(index)] = {
      matrices[0], matrices[1], matrices[2], matrices[3], matrices[4], matrices[5],
      {norms[0], norms[1]}, {norms[2], norms[3]}, {norms[4], norms[5]}};
}
EXPORT void streamgen_decoder_heads(void* decoder, const Matrix* heads, const float* weight, const float* bias) {
  static_cast<AnyDecoder*>(decoder)->heads = *heads;
  static_cast<AnyDecoder*>(decoder)->last_norm = {weight, bias};
}

// x: float32 [count, width], positions added; logits: float32 [wanted_count, outputs of the heads]; seen: null, or room for
// what each layer reads and what comes of the last norm, float32 [layers + 1, count, width].
EXPORT void streamgen_step(void* pool, void* decoder, const Row* rows, int32_t count, const float* x, const int32_t* wanted,
                           int32_t wanted_count, float* logits, float* seen) {
  static_cast<AnyDecoder*>(decoder)->step(*static_cast<Pool*>(pool), rows, count, x, wanted, wanted_count, logits, seen);
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
