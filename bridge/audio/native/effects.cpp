// What the session's signal path computes for every sample, in loops that a compiler makes vectors of.
//
//     sections   filters of second order, one after the other           pulses   a few taps, far apart
//     network    a reverb's delay lines                                 compress level ─► reduction ─► gain
//     ramp       a gain that goes evenly in dB                          limit    true peaks ─► envelope ─► gain
//
// Rules: rows of samples lie whole behind each other, `count` apart unless said otherwise; states are the caller's and
// mean what they mean in the numpy beside each call, which is the slow twin. Every sum has one order, no product is
// fused: whatever the chunks and the instruction set, the same bits.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")  // results stay; nobody asks for exceptions, and they forbid vectors
#endif
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>
#if defined(_MSC_VER)
#define EXPORT extern "C" __declspec(dllexport)
#define INLINE static __forceinline
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
#if defined(_MSC_VER)
struct Lanes {
  float of[LANES];
};
#define EACH(OPERATOR)                                                   \
  INLINE Lanes operator OPERATOR(Lanes a, const Lanes& b) {              \
    for (int i = 0; i < LANES; ++i) a.of[i] = a.of[i] OPERATOR b.of[i];  \
    return a;                                                            \
  }
EACH(+) EACH(-) EACH(*)
#else
typedef float Lanes __attribute__((vector_size(4 * LANES)));
#endif

namespace {

constexpr double ROUNDER = 6755399441055744.0;  // 1.5 · 2^52: what is added to it loses its fraction
constexpr double LN2 = 0.693147180559945309417, LOG2_10 = 3.32192809488736234787;
constexpr double NOTHING = 1e-100;  // a filter's state that no float will ever show; smaller ones would be slow

INLINE Lanes load(const float* from) {
  Lanes x;
  memcpy(&x, from, sizeof x);
  return x;
}

INLINE void store(float* to, Lanes x) { memcpy(to, &x, sizeof x); }

INLINE Lanes all(float x) {
  float same[LANES];
  for (int i = 0; i < LANES; ++i) same[i] = x;
  return load(same);
}

// By value, which compilers make no branch of.
INLINE double larger(double a, double b) { return a < b ? b : a; }
INLINE double smaller(double a, double b) { return b < a ? b : a; }

// The highest magnitude: as whole numbers, which compilers compare side by side.
INLINE float loudest_of(const float* samples, int64_t count) {
  int32_t highest = 0;
  for (int64_t at = 0; at < count; ++at) {
    int32_t bits;
    memcpy(&bits, samples + at, 4);
    bits &= 0x7FFFFFFF;
    highest = bits > highest ? bits : highest;
  }
  float level;
  memcpy(&level, &highest, 4);
  return level;
}

INLINE int64_t bits_of(double x) {
  int64_t bits;
  memcpy(&bits, &x, 8);
  return bits;
}

INLINE double of_bits(int64_t bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}

// A polynomial's value by Horner's rule, the highest power's coefficient first.
INLINE double polynomial(double, double sum) { return sum; }
template <class... Rest> INLINE double polynomial(double x, double sum, double next, Rest... rest) {
  return polynomial(x, sum * x + next, rest...);
}

// 2^x for |x| < 1000, within 3e-16 of it.
INLINE double two_to(double x) {
  const double shifted = x + ROUNDER, rest = (x - (shifted - ROUNDER)) * LN2;
  const double factor = polynomial(rest, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                   1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0);
  return of_bits(bits_of(factor) + (bits_of(shifted) << 52));
}

// log2 x for normal x > 0, within 1e-15 of it: x = 2^e · m with m around 1, and log m a series in (m − 1) / (m + 1).
INLINE double log2_of(double x) {
  const int64_t bits = bits_of(x);
  const uint64_t up = uint64_t(bits) + 0x00095F619980C433;  // carries into the exponent from √2 on
  const int64_t exponent = int64_t(up >> 52) - 1023;
  const double m = of_bits(bits - exponent * (int64_t(1) << 52));
  const double whole = of_bits(exponent + bits_of(ROUNDER)) - ROUNDER;
  const double s = (m - 1.0) / (m + 1.0), q = s * s;
  const double series = polynomial(q, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5,
                                   1.0 / 3, 1.0);
  return whole + s * series * (2.0 / LN2);
}

// ------------------------------------------------------------------------------------------------ a reverb's lines

struct Lines {
  float* held;  // [8, size], the newest last
  int64_t size;
  const int64_t* lengths;
  const float* gains;
  float damping;
};

INLINE void run_some(const float* ends, int64_t apart, const float* left, const float* right, float* out_left,
                     float* out_right, float* back) {
  const Lanes eighth = all(1.f / std::sqrt(8.f)), faint = all(1e-20f);
  Lanes x[8];
  for (int line = 0; line < 8; ++line) x[line] = load(ends + line * apart);
  store(out_left, (x[0] - x[1] + x[2] - x[3] + x[4] + x[5] - x[6] - x[7]) * eighth);
  store(out_right, (x[0] + x[1] - x[2] - x[3] - x[4] + x[5] + x[6] - x[7]) * eighth);
  for (int span = 1; span < 8; span *= 2)  // Hadamard's matrix of eight
    for (int low = 0; low < 8; ++low) {
      if (low & span) continue;
      const Lanes a = x[low], b = x[low + span];
      x[low] = a + b, x[low + span] = a - b;
    }
  const Lanes in[2] = {load(left), load(right)};
  for (int line = 0; line < 8; ++line)  // what nobody hears any more becomes 0: numbers that small are slow
    store(back + line * apart, ((x[line] * eighth + in[line / 4]) + faint) - faint);
}

// Run over `count` samples, no more than the shortest holds; early and out have rows `stride` apart.
void run_lines(const Lines& lines, const float* early, float* out, int64_t stride, int64_t count) {
  const int64_t apart = count + LANES, size = lines.size;
  const std::unique_ptr<float[]> memory(new float[16 * apart]);
  float *ends = memory.get(), *back = ends + 8 * apart;
  const Lanes damping = all(lines.damping);
  for (int line = 0; line < 8; ++line) {
    const float* from = lines.held + line * size + size - lines.lengths[line] - 1;
    float* end = ends + line * apart;
    const Lanes gain = all(lines.gains[line]);
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) {
      const Lanes now = load(from + at + 1), before = load(from + at);
      store(end + at, (now - (now - before) * damping) * gain);
    }
    for (; at < count; ++at)
      end[at] = (from[at + 1] - (from[at + 1] - from[at]) * lines.damping) * lines.gains[line];
  }
  int64_t at = 0;
  for (; at + LANES <= count; at += LANES)
    run_some(ends + at, apart, early + at, early + stride + at, out + at, out + stride + at, back + at);
  if (at < count) {
    const int64_t rest = count - at;
    float in[2][LANES] = {}, made[2][LANES];
    for (int row = 0; row < 2; ++row) memcpy(in[row], early + row * stride + at, rest * sizeof(float));
    for (int line = 0; line < 8; ++line) memset(ends + line * apart + count, 0, LANES * sizeof(float));
    run_some(ends + at, apart, in[0], in[1], made[0], made[1], back + at);
    for (int row = 0; row < 2; ++row) memcpy(out + row * stride + at, made[row], rest * sizeof(float));
  }
  for (int line = 0; line < 8; ++line) {
    float* held = lines.held + line * size;
    memmove(held, held + count, (size - count) * sizeof(float));
    memcpy(held + size - count, back + line * apart, count * sizeof(float));
  }
}

// ------------------------------------------------------------------------------------------------------- the limiter

constexpr int HALF_TAPS = 32, TAPS = 2 * HALF_TAPS, PHASES = 7, GROUP = 16;
constexpr int64_t LOG_UNIT = 1 << 24, NO_LOG = -30 * LOG_UNIT;
constexpr double UNIT = 1 << 30;

// What lies around GROUP intervals: row 0 the samples and quarters between them, row 1 as a converter leaves them.
void interpolate(const float* audio, const float* taps, float* plain, float* filtered) {
  float sums[PHASES][GROUP];
  for (int at = 0; at < GROUP; at += LANES) {
    Lanes total[PHASES] = {};
    for (int tap = 0; tap < TAPS; ++tap) {
      const Lanes x = load(audio + at + tap);
      for (int phase = 0; phase < PHASES; ++phase) total[phase] = total[phase] + all(taps[tap * PHASES + phase]) * x;
    }
    for (int phase = 0; phase < PHASES; ++phase) store(sums[phase] + at, total[phase]);
  }
  for (int i = 0; i < GROUP; ++i) {
    plain[4 * i] = std::fabs(audio[HALF_TAPS - 1 + i]);
    for (int phase = 0; phase < 3; ++phase) plain[4 * i + phase + 1] = std::fabs(sums[phase][i]);
    for (int phase = 0; phase < 4; ++phase) filtered[4 * i + phase] = std::fabs(sums[phase + 3][i]);
  }
}

// Raise the peaks of places first … end to what stands above `near` around each, with a parabola through tops.
void raise_peaks(const float* quarters, int64_t first, int64_t end, float near, float* peaks) {
  for (int64_t place = first; place < end; ++place)
    for (int64_t at = 4 * place + 2; at < 4 * place + 6; ++at) {
      const float low = quarters[at - 1], top = quarters[at], right = quarters[at + 1];
      if (top <= near) continue;
      float peak = top;
      if (top >= low && top >= right) {
        const float rise = (right - low) * (right - low) / (8.f * std::max(2.f * top - low - right, 1e-12f));
        peak = top + std::min(rise, top);
      }
      peaks[place] = std::max(peaks[place], peak);
    }
}

}  // namespace

// -------------------------------------------------------------------------------------------------------- filters

// Filter [rows, count] in place; coefficients [sections, 5], state [rows, 2 · sections + 2]: see filters.py.
EXPORT void streamgen_sections(const double* coefficients, int32_t sections, double* state, int32_t rows,
                               double* samples, int64_t count) {
  const int32_t size = 2 * sections + 2;
  for (int32_t section = 0; section < sections; ++section) {
    const double b0 = coefficients[5 * section], b1 = coefficients[5 * section + 1], b2 = coefficients[5 * section + 2];
    const double a1 = coefficients[5 * section + 3], a2 = coefficients[5 * section + 4];
    int32_t row = 0;
    for (; row + 2 <= rows; row += 2) {  // two side by side hide each other's delays
      double *left = samples + row * count, *right = left + count;
      double *s = state + row * size + 2 * section, *t = s + size;
      double x1 = s[0], x2 = s[1], y1 = s[2], y2 = s[3], u1 = t[0], u2 = t[1], v1 = t[2], v2 = t[3];
      for (int64_t at = 0; at < count; ++at) {
        const double x = left[at], u = right[at];
        const double y = (b0 * x + b1 * x1 + b2 * x2 - a2 * y2) - a1 * y1;
        const double v = (b0 * u + b1 * u1 + b2 * u2 - a2 * v2) - a1 * v1;
        x2 = x1, x1 = x, y2 = y1, y1 = y, u2 = u1, u1 = u, v2 = v1, v1 = v;
        left[at] = y, right[at] = v;
      }
      s[0] = x1, s[1] = x2, t[0] = u1, t[1] = u2;
      if (section + 1 == sections) s[2] = y1, s[3] = y2, t[2] = v1, t[3] = v2;
    }
    for (; row < rows; ++row) {
      double *only = samples + row * count, *s = state + row * size + 2 * section;
      double x1 = s[0], x2 = s[1], y1 = s[2], y2 = s[3];
      for (int64_t at = 0; at < count; ++at) {
        const double x = only[at], y = (b0 * x + b1 * x1 + b2 * x2 - a2 * y2) - a1 * y1;
        x2 = x1, x1 = x, y2 = y1, y1 = y;
        only[at] = y;
      }
      s[0] = x1, s[1] = x2;
      if (section + 1 == sections) s[2] = y1, s[3] = y2;
    }
  }
  for (int32_t i = 0; i < rows * size; ++i)
    if (std::fabs(state[i]) < NOTHING) state[i] = 0.0;
}

// Add the squares of [rows, count] to a sum, sample by sample.
EXPORT double streamgen_power(const double* samples, int32_t rows, int64_t count, double sum) {
  for (int64_t at = 0; at < count; ++at)
    for (int32_t row = 0; row < rows; ++row) sum += samples[row * count + at] * samples[row * count + at];
  return sum;
}

// out[row, i] = the sum of sizes[row, k] · audio[row, newest − delays[row, k] + i] over all k, in their order; audio
// [rows, newest + count], out [rows, count].
EXPORT void streamgen_pulses(const float* audio, int32_t rows, int64_t newest, const int64_t* delays, const float* sizes,
                             int32_t pulses, float* out, int64_t count) {
  for (int32_t row = 0; row < rows; ++row, audio += newest + count, delays += pulses, sizes += pulses, out += count) {
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) {
      Lanes sum = all(0.f);
      for (int32_t pulse = 0; pulse < pulses; ++pulse)
        sum = sum + all(sizes[pulse]) * load(audio + newest - delays[pulse] + at);
      store(out + at, sum);
    }
    for (; at < count; ++at) {
      float sum = 0.f;
      for (int32_t pulse = 0; pulse < pulses; ++pulse) sum += sizes[pulse] * audio[newest - delays[pulse] + at];
      out[at] = sum;
    }
  }
}

// What of mono [length] an average over 2^steps samples leaves, [length − 2^steps + 1]: sums over 2, 4, 8 … samples.
EXPORT void streamgen_without_bass(const float* mono, int64_t length, int32_t steps, float* out) {
  const std::unique_ptr<float[]> sums(new float[length]);
  float* sum = sums.get();
  memcpy(sum, mono, length * sizeof(float));
  const int64_t span = int64_t(1) << steps, count = length - span + 1;
  for (int64_t half = 1, left = length - 1; half < span; half *= 2, left -= half)
    for (int64_t at = 0; at < left; ++at) sum[at] += sum[at + half];
  for (int64_t at = 0; at < count; ++at) out[at] = mono[at + span / 2] - sum[at] / float(span);
}

// --------------------------------------------------------------------------------------------------------- reverb

// Run eight delay lines: held [8, size], gains [8], early and out [2, count].
EXPORT void streamgen_network(float* held, int64_t size, const int64_t* lines, const float* gains, float damping,
                              const float* early, float* out, int64_t count) {
  const int64_t most = *std::min_element(lines, lines + 8);
  const Lines all_lines{held, size, lines, gains, damping};
  for (int64_t at = 0; at < count; at += most)
    run_lines(all_lines, early + at, out + at, count, std::min(most, count - at));
}

// -------------------------------------------------------------------------------------------------------- dynamics

struct Compressor {
  double threshold_db, ratio, knee_db, makeup_db;
  double attack, release;  // what is left after a sample of the way to a higher reduction, of a reduction let go
  double held_db, reduction_db;
};

// Turn [2, count] down; returns the highest reduction in dB.
EXPORT double streamgen_compress(Compressor* one, const float* in, float* out, int64_t count) {
  const Compressor c = *one;
  const double width = std::max(c.knee_db, 1e-3), part = 1.0 - 1.0 / c.ratio;
  const std::unique_ptr<double[]> levels(new double[count]);
  double* level = levels.get();
  for (int64_t at = 0; at < count; ++at) {
    const double peak = larger(larger(std::fabs(in[at]), std::fabs(in[count + at])), 1e-6);
    const double over = log2_of(peak) * (20.0 / LOG2_10) - c.threshold_db;
    const double bent = smaller(larger(over + width / 2, 0.0), width);
    level[at] = part * (bent * bent / (2 * width) + larger(over - width / 2, 0.0));
  }
  double held = c.held_db, reduction = c.reduction_db, highest = 0.0;
  for (int64_t at = 0; at < count; ++at) {
    held = larger(level[at], held * c.release);
    if (held < 1e-6) held = 0.0;
    reduction = (1.0 - c.attack) * held + c.attack * reduction;
    highest = larger(highest, reduction);
    level[at] = reduction;
  }
  one->held_db = held, one->reduction_db = reduction < NOTHING ? 0.0 : reduction;
  for (int64_t at = 0; at < count; ++at) {
    const float factor = float(two_to((c.makeup_db - level[at]) * (LOG2_10 / 20)));
    out[at] = in[at] * factor, out[count + at] = in[count + at] * factor;
  }
  return highest;
}

// Turn rows of `count`, `stride` apart, up or down by what goes from `from_db` by `step_db` a sample, `done` of which
// came before.
EXPORT void streamgen_ramp(const float* in, int64_t stride, int32_t rows, double from_db, double step_db, int64_t done,
                           float* out, int64_t count) {
  const std::unique_ptr<float[]> memory(new float[count]);
  float* factors = memory.get();
  const double first = double(done + 1);
  for (int32_t at = 0; at < int32_t(count); ++at)
    factors[at] = float(two_to((from_db + step_db * (first + double(at))) * (LOG2_10 / 20)));
  for (int32_t row = 0; row < rows; ++row, in += stride, out += stride)
    for (int64_t at = 0; at < count; ++at) out[at] = in[at] * factors[at];
}

// Highest level of any row around each of `places` samples where it is above `near`, else 0: see limiter.py. Rows of
// places + 2 · HALF_TAPS + 1 samples, `stride` apart; whatever lies below `harmless` interpolates to less than `near`.
// Returns whether any is above it.
EXPORT int32_t streamgen_true_peaks(const float* audio, int64_t stride, int32_t rows, int64_t places, const float* taps,
                                    float harmless, float near, float* peaks) {
  const int64_t groups = (places + 1 + GROUP - 1) / GROUP, length = places + 2 * HALF_TAPS + 1;
  constexpr int64_t EACH_GROUP = 4 * GROUP, REACH = TAPS / GROUP + 1;  // pieces of audio that a group looks at
  const std::unique_ptr<float[]> memory(new float[2 * EACH_GROUP * (groups + 1)]);
  float *plain = memory.get(), *filtered = plain + EACH_GROUP * (groups + 1);
  std::vector<float> loudest(groups + REACH + 1);  // of each piece, one of silence before the first
  bool any = false;
  memset(peaks, 0, places * sizeof(float));
  for (int32_t row = 0; row < rows; ++row, audio += stride) {
    for (int64_t piece = 0; piece * GROUP < length && piece < groups + REACH - 1; ++piece)
      loudest[piece + 1] = loudest_of(audio + piece * GROUP, std::min<int64_t>(GROUP, length - piece * GROUP));
    for (int64_t group = 0; group < groups; ++group) {
      float *at = plain + EACH_GROUP * group, *beside = filtered + EACH_GROUP * group;
      // with its neighbours, for a parabola looks one point beyond
      if (loudest_of(&loudest[group], std::min<int64_t>(REACH + 2, groups + REACH + 1 - group)) < harmless) {
        memset(at, 0, EACH_GROUP * sizeof(float));
        memset(beside, 0, EACH_GROUP * sizeof(float));
      } else if ((group + 1) * GROUP + TAPS <= length) {
        interpolate(audio + group * GROUP, taps, at, beside);
      } else {
        float last[GROUP + TAPS] = {};
        memcpy(last, audio + group * GROUP, (length - group * GROUP) * sizeof(float));
        interpolate(last, taps, at, beside);
      }
    }
    for (const float* quarters : {plain, filtered})
      for (int64_t group = 0; group < groups; ++group) {
        if (loudest_of(quarters + EACH_GROUP * group, EACH_GROUP) <= near) continue;
        any = true;  // the last two quarters of an interval are the next place's, so a group has one before its own
        raise_peaks(quarters, std::max<int64_t>(group * GROUP - 1, 0), std::min((group + 1) * GROUP, places), near, peaks);
      }
  }
  return any;
}

struct Envelope {
  int64_t *released, *held, *averaged;  // the newest hold − 1, width − 1, width − 1
  int64_t released_log, release, hold, width;
};

// From the peaks around `count` samples to the gain of those that come out now, 1 below the ceiling. Returns whether
// nothing is being taken away, and nothing is about to be.
EXPORT int32_t streamgen_envelope(Envelope* one, const float* peaks, double ceiling, float* gain, int64_t count) {
  const int64_t hold = one->hold, width = one->width, before = hold - 1;
  const std::unique_ptr<double[]> log_memory(new double[count]);
  const std::unique_ptr<int32_t[]> peak_memory(new int32_t[count + before]);
  const std::unique_ptr<int64_t[]> sum_memory(new int64_t[2 * (count + width - 1)]);
  double* logs = log_memory.get();
  int32_t* released = peak_memory.get();
  int64_t *held = sum_memory.get(), *averaged = held + count + width - 1;
  double log = double(one->released_log);
  const double release = double(one->release), nothing = double(NO_LOG);
  for (int64_t at = 0; at < count; ++at) {
    log = std::max(log - release, nothing);
    if (peaks[at] > ceiling)
      log = std::max(log, std::ceil(log2_of(1.0 - ceiling / double(peaks[at])) * double(LOG_UNIT)));
    logs[at] = log;
  }
  one->released_log = int64_t(log);
  for (int64_t at = 0; at < before; ++at) released[at] = int32_t(one->released[at]);
  for (int64_t at = 0; at < count; ++at) {
    const double part = std::ceil(two_to(logs[at] / double(LOG_UNIT)) * UNIT);
    released[before + at] = int32_t(logs[at] > nothing ? part : 0.0);
  }
  for (int64_t at = 0; at < before; ++at) one->released[at] = released[count + at];
  int64_t span = 1, length = count + before;
  for (; 2 * span <= hold; length -= span, span *= 2)
    for (int64_t at = 0; at < length - span; ++at) released[at] = std::max(released[at], released[at + span]);
  memcpy(held, one->held, (width - 1) * sizeof(int64_t));
  memcpy(averaged, one->averaged, (width - 1) * sizeof(int64_t));
  for (int64_t at = 0; at < count; ++at) held[width - 1 + at] = std::max(released[at], released[at + hold - span]);
  int64_t sum = 0, total = 0;
  for (int64_t at = 0; at < width - 1; ++at) sum += held[at], total += averaged[at];
  const double whole = UNIT * double(width) * double(width);
  for (int64_t at = 0; at < count; ++at) {
    sum += held[width - 1 + at];
    averaged[width - 1 + at] = sum;
    total += sum;
    gain[at] = float(1.0 - double(total) / whole);
    sum -= held[at];
    total -= averaged[at];
  }
  memcpy(one->held, held + count, (width - 1) * sizeof(int64_t));
  memcpy(one->averaged, averaged + count, (width - 1) * sizeof(int64_t));
  const auto none = [](const int64_t* values, int64_t length) {
    return std::all_of(values, values + length, [](int64_t value) { return value == 0; });
  };
  return log == nothing && none(one->released, before) && none(one->held, width - 1) && none(one->averaged, width - 1);
}
