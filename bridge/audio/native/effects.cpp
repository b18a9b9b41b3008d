// What the session's signal path computes for every sample, in loops that a compiler makes vectors of.
//
//     sections   filters of second order, one after the other           pulses   a few taps, far apart
//     network    a reverb's delay lines                                 compress level ─► reduction ─► gain
//     ramp       a gain that goes evenly in dB                          limit    true peaks ─► envelope ─► gain
//
// Rules: rows of samples lie whole behind each other, `count` apart unless said otherwise; states are the caller's and
// mean what they mean in the numpy beside each call, which is the slow twin. Every sum has one order, no product is
// fused: whatever the chunks and the instruction set, the same bits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
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
  Lanes& operator+=(const Lanes& other) {
    for (int i = 0; i < LANES; ++i) of[i] += other.of[i];
    return *this;
  }
};
INLINE Lanes operator*(float size, Lanes x) {
  for (int i = 0; i < LANES; ++i) x.of[i] *= size;
  return x;
}
#else
typedef float Lanes __attribute__((vector_size(4 * LANES)));
#endif

namespace {

constexpr double ROUNDER = 6755399441055744.0;  // 1.5 · 2^52: what is added to it loses its fraction
constexpr double LN2 = 0.693147180559945309417, LOG2_10 = 3.32192809488736234787;
constexpr double NOTHING = 1e-100;  // a filter's state that no float will ever show; smaller ones would be slow

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

// 2^x for |x| < 1000, within 3e-16 of it.
INLINE double two_to(double x) {
  const double shifted = x + ROUNDER, rest = (x - (shifted - ROUNDER)) * LN2;
  double sum = 1.0 / 479001600;
  sum = sum * rest + 1.0 / 39916800;
  sum = sum * rest + 1.0 / 3628800;
  sum = sum * rest + 1.0 / 362880;
  sum = sum * rest + 1.0 / 40320;
  sum = sum * rest + 1.0 / 5040;
  sum = sum * rest + 1.0 / 720;
  sum = sum * rest + 1.0 / 120;
  sum = sum * rest + 1.0 / 24;
  sum = sum * rest + 1.0 / 6;
  sum = sum * rest + 0.5;
  sum = sum * rest + 1.0;
  sum = sum * rest + 1.0;
  return of_bits(bits_of(sum) + (bits_of(shifted) << 52));
}

// log2 x for normal x > 0, within 1e-15 of it: x = 2^e · m with m around 1, and log m a series in (m − 1) / (m + 1).
INLINE double log2_of(double x) {
  const int64_t bits = bits_of(x);
  const uint64_t up = uint64_t(bits) + 0x00095F619980C433;  // carries into the exponent from √2 on
  const int64_t exponent = int64_t(up >> 52) - 1023;
  const double m = of_bits(bits - exponent * (int64_t(1) << 52));
  const double whole = of_bits(exponent + bits_of(ROUNDER)) - ROUNDER;
  const double s = (m - 1.0) / (m + 1.0), q = s * s;
  double sum = 1.0 / 21;
  sum = sum * q + 1.0 / 19;
  sum = sum * q + 1.0 / 17;
  sum = sum * q + 1.0 / 15;
  sum = sum * q + 1.0 / 13;
  sum = sum * q + 1.0 / 11;
  sum = sum * q + 1.0 / 9;
  sum = sum * q + 1.0 / 7;
  sum = sum * q + 1.0 / 5;
  sum = sum * q + 1.0 / 3;
  sum = sum * q + 1.0;
  return whole + s * sum * (2.0 / LN2);
}

// Eight signals by Hadamard's matrix.
template <int WIDTH> INLINE void rotate(float (&x)[8][WIDTH]) {
  for (int span = 1; span < 8; span *= 2)
    for (int low = 0; low < 8; ++low) {
      if (low & span) continue;
      for (int i = 0; i < WIDTH; ++i) {
        const float a = x[low][i], b = x[low + span][i];
        x[low][i] = a + b, x[low + span][i] = a - b;
      }
    }
}

// Run eight delay lines over `count` samples, no more than the shortest holds; early and out have rows `stride` apart.
void run_lines(float* held, int64_t size, const int64_t* lines, const float* gains, float damping, const float* early,
               float* out, int64_t stride, int64_t count) {
  constexpr int WIDTH = 16;
  const float eighth = 1.f / std::sqrt(8.f);
  std::vector<float> all(8 * (count + WIDTH));
  const int64_t apart = count + WIDTH;
  for (int line = 0; line < 8; ++line) {
    const float* from = held + line * size + size - lines[line] - 1;
    float* end = all.data() + line * apart;
    const float gain = gains[line];
    for (int64_t at = 0; at < count; ++at) end[at] = (from[at + 1] - (from[at + 1] - from[at]) * damping) * gain;
    memmove(held + line * size, held + line * size + count, (size - count) * sizeof(float));
  }
  for (int64_t at = 0; at < count; at += WIDTH) {
    const int64_t some = std::min<int64_t>(WIDTH, count - at);
    float x[8][WIDTH], y[8][WIDTH], in[2][WIDTH] = {};
    for (int line = 0; line < 8; ++line) memcpy(x[line], all.data() + line * apart + at, sizeof x[line]);
    for (int row = 0; row < 2; ++row) memcpy(in[row], early + row * stride + at, some * sizeof(float));
    for (int i = 0; i < WIDTH; ++i) {
      y[0][i] = (x[0][i] - x[1][i] + x[2][i] - x[3][i] + x[4][i] + x[5][i] - x[6][i] - x[7][i]) * eighth;
      y[1][i] = (x[0][i] + x[1][i] - x[2][i] - x[3][i] - x[4][i] + x[5][i] + x[6][i] - x[7][i]) * eighth;
    }
    for (int row = 0; row < 2; ++row) memcpy(out + row * stride + at, y[row], some * sizeof(float));
    rotate<WIDTH>(x);
    for (int line = 0; line < 8; ++line) {
      for (int i = 0; i < WIDTH; ++i) {
        const float back = x[line][i] * eighth + in[line / 4][i];
        y[line][i] = std::fabs(back) < 1e-30f ? 0.f : back;
      }
      memcpy(held + line * size + size - count + at, y[line], some * sizeof(float));
    }
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
      Lanes x;
      memcpy(&x, audio + at + tap, sizeof x);
      for (int phase = 0; phase < PHASES; ++phase) total[phase] += taps[tap * PHASES + phase] * x;
    }
    for (int phase = 0; phase < PHASES; ++phase) memcpy(sums[phase] + at, &total[phase], sizeof(Lanes));
  }
  for (int i = 0; i < GROUP; ++i) {
    plain[4 * i] = std::fabs(audio[HALF_TAPS - 1 + i]);
    for (int phase = 0; phase < 3; ++phase) plain[4 * i + phase + 1] = std::fabs(sums[phase][i]);
    for (int phase = 0; phase < 4; ++phase) filtered[4 * i + phase] = std::fabs(sums[phase + 3][i]);
  }
}

void highest_near(const float* quarters, int64_t places, float near, float* peaks) {
  for (int64_t place = 0; place < places; ++place)
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

// Add to out[i] the sum of sizes[k] · audio[newest − delays[k] + i] over all k, in their order.
EXPORT void streamgen_pulses(const float* audio, int64_t newest, const int64_t* delays, const float* sizes, int32_t pulses,
                             float* out, int64_t count) {
  for (int32_t pulse = 0; pulse < pulses; ++pulse) {
    const float* from = audio + newest - delays[pulse];
    const float size = sizes[pulse];
    for (int64_t at = 0; at < count; ++at) out[at] += size * from[at];
  }
}

// --------------------------------------------------------------------------------------------------------- reverb

// Run eight delay lines: held [8, size], gains [8], early and out [2, count].
EXPORT void streamgen_network(float* held, int64_t size, const int64_t* lines, const float* gains, float damping,
                              const float* early, float* out, int64_t count) {
  const int64_t most = *std::min_element(lines, lines + 8);
  for (int64_t at = 0; at < count; at += most)
    run_lines(held, size, lines, gains, damping, early + at, out + at, count, std::min(most, count - at));
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
  std::vector<double> levels(count);
  double* level = levels.data();
  for (int64_t at = 0; at < count; ++at) {
    const float peak = std::max(std::max(std::fabs(in[at]), std::fabs(in[count + at])), 1e-6f);
    const double over = log2_of(peak) * (20.0 / LOG2_10) - c.threshold_db;
    const double bent = std::min(std::max(over + width / 2, 0.0), width);
    level[at] = part * (bent * bent / (2 * width) + std::max(over - width / 2, 0.0));
  }
  double held = c.held_db, reduction = c.reduction_db, highest = 0.0;
  for (int64_t at = 0; at < count; ++at) {
    held = std::max(level[at], held * c.release);
    if (held < 1e-6) held = 0.0;
    reduction = (1.0 - c.attack) * held + c.attack * reduction;
    highest = std::max(highest, reduction);
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
  for (int64_t at = 0; at < count; ++at) {
    const float factor = float(two_to((from_db + step_db * double(done + at + 1)) * (LOG2_10 / 20)));
    for (int32_t row = 0; row < rows; ++row) out[row * stride + at] = in[row * stride + at] * factor;
  }
}

// Highest level of any row around each of `places` samples where it is above `near`, else 0: see limiter.py. Rows of
// places + 2 · HALF_TAPS + 1 samples, `stride` apart; whatever lies below `harmless` interpolates to less than `near`.
// Returns whether any is above it.
EXPORT int32_t streamgen_true_peaks(const float* audio, int64_t stride, int32_t rows, int64_t places, const float* taps,
                                    float harmless, float near, float* peaks) {
  const int64_t groups = (places + 1 + GROUP - 1) / GROUP, length = places + 2 * HALF_TAPS + 1;
  std::vector<float> quarters(2 * 4 * GROUP * groups), loudest(groups + 5 + 2);
  float *plain = quarters.data(), *filtered = plain + 4 * GROUP * groups;
  memset(peaks, 0, places * sizeof(float));
  for (int32_t row = 0; row < rows; ++row, audio += stride) {
    for (int64_t piece = 0; piece < groups + 4; ++piece) {
      float highest = 0.f;
      for (int64_t at = piece * GROUP; at < std::min((piece + 1) * GROUP, length); ++at)
        highest = std::max(highest, std::fabs(audio[at]));
      loudest[piece + 1] = highest;
    }
    bool any = false;
    for (int64_t group = 0; group < groups; ++group) {  // with its neighbours: a parabola looks one point beyond
      float highest = 0.f;
      for (int64_t piece = group; piece < std::min(group + 7, groups + 6); ++piece) highest = std::max(highest, loudest[piece]);
      float *at = plain + 4 * GROUP * group, *beside = filtered + 4 * GROUP * group;
      if (highest < harmless) {
        memset(at, 0, 4 * GROUP * sizeof(float));
        memset(beside, 0, 4 * GROUP * sizeof(float));
        continue;
      }
      any = true;
      if ((group + 1) * GROUP + TAPS <= length) {
        interpolate(audio + group * GROUP, taps, at, beside);
      } else {
        float last[GROUP + TAPS] = {};
        memcpy(last, audio + group * GROUP, (length - group * GROUP) * sizeof(float));
        interpolate(last, taps, at, beside);
      }
    }
    if (!any) continue;
    highest_near(plain, places, near, peaks);
    highest_near(filtered, places, near, peaks);
  }
  return std::any_of(peaks, peaks + places, [](float peak) { return peak > 0.f; });
}

struct Envelope {
  int64_t *released, *held, *averaged;  // the newest hold − 1, width − 1, width − 1
  int64_t released_log, release, hold, width;
};

// From the peaks around `count` samples to the gain of those that come out now, 1 below the ceiling. Returns whether
// nothing is being taken away, and nothing is about to be.
EXPORT int32_t streamgen_envelope(Envelope* one, const float* peaks, double ceiling, float* gain, int64_t count) {
  const int64_t hold = one->hold, width = one->width;
  std::vector<int64_t> memory(count + hold - 1 + 2 * (count + width - 1));
  int64_t *released = memory.data(), *held = released + count + hold - 1, *averaged = held + count + width - 1;
  memcpy(released, one->released, (hold - 1) * sizeof(int64_t));
  memcpy(held, one->held, (width - 1) * sizeof(int64_t));
  memcpy(averaged, one->averaged, (width - 1) * sizeof(int64_t));
  int64_t log = one->released_log;
  for (int64_t at = 0; at < count; ++at) {
    int64_t needed = NO_LOG;
    if (peaks[at] > ceiling)
      needed = std::max(int64_t(std::ceil(log2_of(1.0 - ceiling / double(peaks[at])) * double(LOG_UNIT))), NO_LOG);
    log = std::max(needed, log - one->release);
    if (log < NO_LOG) log = NO_LOG;
    released[hold - 1 + at] = log > NO_LOG ? int64_t(std::ceil(two_to(double(log) / double(LOG_UNIT)) * UNIT)) : 0;
  }
  one->released_log = log;
  memcpy(one->released, released + count, (hold - 1) * sizeof(int64_t));
  int64_t span = 1, length = count + hold - 1;
  for (; 2 * span <= hold; length -= span, span *= 2)
    for (int64_t at = 0; at < length - span; ++at) released[at] = std::max(released[at], released[at + span]);
  for (int64_t at = 0; at < count; ++at) held[width - 1 + at] = std::max(released[at], released[at + hold - span]);
  int64_t sum = 0, total = 0;
  for (int64_t at = 0; at < width - 1; ++at) sum += held[at], total += averaged[at];
  for (int64_t at = 0; at < count; ++at) {
    sum += held[width - 1 + at];
    averaged[width - 1 + at] = sum;
    total += sum;
    gain[at] = float(1.0 - double(total) / (UNIT * double(width) * double(width)));
    sum -= held[at];
    total -= averaged[at];
  }
  memcpy(one->held, held + count, (width - 1) * sizeof(int64_t));
  memcpy(one->averaged, averaged + count, (width - 1) * sizeof(int64_t));
  const auto none = [](const int64_t* values, int64_t length) {
    return std::all_of(values, values + length, [](int64_t value) { return value == 0; });
  };
  return log == NO_LOG && none(one->released, hold - 1) && none(one->held, width - 1) && none(one->averaged, width - 1);
}
