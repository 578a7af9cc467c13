// softmax(q k / sqrt(K)) v and its gradient, without ever storing the scores.
//
// Flash attention (Dao et al., 2022) on tiles of 64 queries and 64 keys. All scores are kept
// transposed, S[key][query], so that the lanes of a vector are queries: the softmax's maxima, sums
// and corrections are then vertical, and no sum within a vector is ever needed. Tiles that a causal
// mask, a window or the documents hide are skipped, and those that they leave whole are not masked.
//
// Arrays are (batch, position, head, value), read and written where they lie.

#include <algorithm>
#include <cmath>
#include <limits>

#include "tiles.h"

namespace research {

constexpr int T = 64;          // queries, or keys, of a tile
constexpr int kVectors = T / kLanes;
constexpr float kLog2E = 1.4426950408889634f;

struct Shape {
  long B, L, M, H, G, K;
  bool causal;
  long window;  // 0 for none
  long q_tiles() const { return (L + T - 1) / T; }
  long k_tiles() const { return (M + T - 1) / T; }
};

// Copies tile `i` of one head to [T][K], rows past the end being zero.
template <typename V>
void gather(V* to, const V* from, long stride, long i, long length, long K) {
  for (long r = 0; r < T; r++) {
    const long row = i * T + r;
    if (row < length) std::copy_n(from + row * stride, K, to + r * K);
    else std::fill_n(to + r * K, K, V(0));
  }
}

// The other way: float32 [T][K], times a factor, to where the rows of tile `i` lie.
template <typename Type>
void scatter(typename Type::Value* to, long stride, const float* from, long i, long length, long K,
             float factor) {
  for (long r = 0; r < T && i * T + r < length; r++)
    for (long c = 0; c < K; c += kLanes)
      Type::store(to + (i * T + r) * stride + c,
                  _mm512_mul_ps(_mm512_loadu_ps(from + r * K + c), _mm512_set1_ps(factor)));
}

// Multiplies 16 columns of [K][T] by a factor each.
inline void scale(float* columns, long K, __m512 factor) {
  for (long r = 0; r < K; r++)
    _mm512_storeu_ps(columns + r * T, _mm512_mul_ps(_mm512_loadu_ps(columns + r * T), factor));
}

// What can be seen between a tile of queries and one of keys.
class Visibility {
 public:
  enum Kind { kNothing, kSome, kAll };

  Visibility(const Shape& s, const int* of_queries, const int* of_keys)
      : s_(s), of_queries_(of_queries), of_keys_(of_keys) {}

  Kind of(long i, long j) const {
    const long q0 = i * T, q1 = std::min(s_.L, q0 + T) - 1;
    const long k0 = j * T, k1 = std::min(s_.M, k0 + T) - 1;
    if (s_.causal && k0 > q1) return kNothing;
    if (s_.window && (k0 >= q1 + s_.window || q0 >= k1 + s_.window)) return kNothing;
    bool all = k1 == k0 + T - 1 && !(s_.causal && k1 > q0);
    if (s_.window) all &= q1 - k0 < s_.window && k1 - q0 < s_.window;
    if (of_queries_) {
      const auto [qlow, qhigh] = std::minmax_element(of_queries_ + q0, of_queries_ + q1 + 1);
      const auto [klow, khigh] = std::minmax_element(of_keys_ + k0, of_keys_ + k1 + 1);
      if (*qlow > *khigh || *klow > *qhigh || *qhigh <= 0) return kNothing;
      all &= *qlow == *khigh && *klow == *qhigh && *qlow > 0;
    }
    return all ? kAll : kSome;
  }

  // Of key k, and the 16 queries from q on.
  __mmask16 lanes(long q, long k) const {
    if (k >= s_.M) return 0;
    const __m512i query = _mm512_add_epi32(
        _mm512_set1_epi32(q), _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    __mmask16 seen = _mm512_cmplt_epi32_mask(query, _mm512_set1_epi32(s_.L));
    if (s_.causal) seen &= _mm512_cmpge_epi32_mask(query, _mm512_set1_epi32(k));
    if (s_.window) {
      const __m512i distance = _mm512_abs_epi32(_mm512_sub_epi32(query, _mm512_set1_epi32(k)));
      seen &= _mm512_cmplt_epi32_mask(distance, _mm512_set1_epi32(s_.window));
    }
    if (of_queries_) {
      const __m512i segment = _mm512_maskz_loadu_epi32(seen, of_queries_ + q);
      seen &= _mm512_cmpeq_epi32_mask(segment, _mm512_set1_epi32(of_keys_[k]));
      seen &= _mm512_cmpgt_epi32_mask(segment, _mm512_setzero_si512());
    }
    return seen;
  }

 private:
  const Shape& s_;
  const int *of_queries_, *of_keys_;
};

// One tile, [T][K], packed as an operand of the products.
template <typename Type>
struct Packing {
  using Value = typename Type::Value;
  static constexpr int kPairs = T / Type::kValues;  // words along the positions of a tile

  // B with positions as lanes and words along K: [K / values][T].
  static void lanes(word* to, const Value* tile, long K) {
    const int words = K / Type::kValues;
    transpose(to, T, reinterpret_cast<const word*>(tile), words, T, words);
  }
  // B with K as lanes and words along positions: [T / values][K].
  static void pairs(word* to, const Value* tile, long K) { pair_rows(Type{}, to, tile, T, K); }
  // A with rows along K and words along positions: [K][T / values].
  static void rows(word* to, const Value* tile, long K, word* paired) {
    pairs(paired, tile, K);
    transpose(to, kPairs, paired, K, kPairs, K);
  }
};

template <typename Type, typename Value = typename Type::Value>
void forward(const Shape& s, const Visibility& visibility, const Value* q, const Value* k,
             const Value* v, Value* y, float* normalizer) {
  using Pack = Packing<Type>;
  const long K = s.K, words = K / Type::kValues, tile_words = T * words;
  Scratch scratch((2 * s.k_tiles() + 4) * tile_words * 4 + 2 * T * T * 4 + 2 * T * K * 4 + 4096);
  word* keys = scratch.take<word>(s.k_tiles() * tile_words);
  word* values = scratch.take<word>(s.k_tiles() * tile_words);
  word* queries = scratch.take<word>(tile_words);
  word* paired = scratch.take<word>(tile_words);
  Value* tile = scratch.take<Value>(T * K);
  float* scores = scratch.take<float>(T * T);
  word* weights = scratch.take<word>(T * T);
  float* out = scratch.take<float>(K * T);
  float* rows = scratch.take<float>(T * K);

  for (long j = 0; j < s.k_tiles(); j++) {
    gather(reinterpret_cast<Value*>(keys + j * tile_words), k, s.G * K, j, s.M, K);
    gather(tile, v, s.G * K, j, s.M, K);
    Pack::rows(values + j * tile_words, tile, K, paired);
  }
  const __m512 factor = _mm512_set1_ps(kLog2E / std::sqrt(float(K)));
  for (long i = 0; i < s.q_tiles(); i++) {
    gather(tile, q, s.H * K, i, s.L, K);
    Pack::lanes(queries, tile, K);
    std::fill_n(out, K * T, 0.0f);
    __m512 largest[kVectors], total[kVectors];
    for (int n = 0; n < kVectors; n++) {
      largest[n] = _mm512_set1_ps(std::numeric_limits<float>::lowest());
      total[n] = _mm512_setzero_ps();
    }
    for (long j = 0; j < s.k_tiles(); j++) {
      const auto kind = visibility.of(i, j);
      if (kind == Visibility::kNothing) continue;
      multiply<Type>(scores, T, keys + j * tile_words, words, queries, T, T, T, words, false);
      for (int n = 0; n < kVectors; n++) {
        float* column = scores + n * kLanes;
        __mmask16 seen[T];
        __m512 top = largest[n];
        for (int r = 0; r < T; r++) {
          seen[r] = kind == Visibility::kAll ? 0xffff
                                             : visibility.lanes(i * T + n * kLanes, j * T + r);
          const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(column + r * T), factor);
          _mm512_storeu_ps(column + r * T, x);
          top = _mm512_mask_max_ps(top, seen[r], top, x);
        }
        const __m512 correction = exp2(_mm512_sub_ps(largest[n], top));
        __m512 sum = _mm512_mul_ps(total[n], correction);
        for (int r = 0; r < T; r += 2) {
          __m512 p[2];
          for (int e = 0; e < 2; e++) {
            p[e] = exp2(_mm512_sub_ps(_mm512_loadu_ps(column + (r + e) * T), top));
            p[e] = _mm512_maskz_mov_ps(seen[r + e], p[e]);
            sum = _mm512_add_ps(sum, p[e]);
          }
          Type::store_pair(weights + n * kLanes, T, r, p[0], p[1]);
        }
        if (_mm512_cmpneq_ps_mask(top, largest[n])) scale(out + n * kLanes, K, correction);
        largest[n] = top;
        total[n] = sum;
      }
      multiply<Type>(out, T, values + j * tile_words, Pack::kPairs, weights, T, K, T, Pack::kPairs,
                     true);
    }
    alignas(64) float sums[T], tops[T];
    for (int n = 0; n < kVectors; n++) {
      // A query that sees nothing has the total 0, and so the result 0.
      const __mmask16 any = _mm512_cmpneq_ps_mask(total[n], _mm512_setzero_ps());
      scale(out + n * kLanes, K, _mm512_maskz_div_ps(any, _mm512_set1_ps(1.0f), total[n]));
      _mm512_store_ps(sums + n * kLanes, total[n]);
      _mm512_store_ps(tops + n * kLanes, largest[n]);
    }
    transpose(reinterpret_cast<word*>(rows), K, reinterpret_cast<const word*>(out), T, K, T);
    scatter<Type>(y, s.H * K, rows, i, s.L, K, 1.0f);
    for (long r = 0; r < T && i * T + r < s.L; r++)
      normalizer[i * T + r] = sums[r] > 0 ? tops[r] + std::log2(sums[r]) : 0.0f;
  }
}

// The gradient of the R = H / G query heads that share one key/value head.
template <typename Type, typename Value = typename Type::Value>
void backward(const Shape& s, const Visibility& visibility, const Value* q, const Value* k,
              const Value* v, const Value* y, const float* normalizer, const Value* dy, Value* dq,
              Value* dk, Value* dv) {
  using Pack = Packing<Type>;
  const long K = s.K, words = K / Type::kValues, tile_words = T * words, R = s.H / s.G;
  const long queries = s.q_tiles() * T, keys = s.k_tiles() * T;
  Scratch scratch((4 * s.q_tiles() + 5) * tile_words * 4 + (queries + 2 * keys + T) * K * 4 +
                  2 * queries * 4 + 5 * T * T * 4 + 8192);
  word* q_lanes = scratch.take<word>(s.q_tiles() * tile_words);
  word* q_pairs = scratch.take<word>(s.q_tiles() * tile_words);
  word* dy_lanes = scratch.take<word>(s.q_tiles() * tile_words);
  word* dy_pairs = scratch.take<word>(s.q_tiles() * tile_words);
  Value* tile = scratch.take<Value>(T * K);
  Value* k_tile = scratch.take<Value>(T * K);
  Value* v_tile = scratch.take<Value>(T * K);
  word* k_rows = scratch.take<word>(tile_words);
  word* paired = scratch.take<word>(tile_words);
  float* dq_sums = scratch.take<float>(queries * K);  // [tile][K][T]
  float* dk_sums = scratch.take<float>(keys * K);     // [tile][T][K]
  float* dv_sums = scratch.take<float>(keys * K);
  float* rows = scratch.take<float>(T * K);
  float* delta = scratch.take<float>(queries);  // dy · y
  float* normalizers = scratch.take<float>(queries);
  float* scores = scratch.take<float>(T * T);
  float* dweights = scratch.take<float>(T * T);
  Value* p_rows = scratch.take<Value>(T * T);
  Value* ds_rows = scratch.take<Value>(T * T);
  word* ds_pairs = scratch.take<word>(T * T);

  const float root = 1.0f / std::sqrt(float(K));
  const __m512 factor = _mm512_set1_ps(kLog2E * root);
  std::fill_n(dk_sums, keys * K, 0.0f);
  std::fill_n(dv_sums, keys * K, 0.0f);
  for (long h = 0; h < R; h++) {
    const long head = h * K;
    std::fill_n(dq_sums, queries * K, 0.0f);
    for (long i = 0; i < s.q_tiles(); i++) {
      gather(tile, q + head, s.H * K, i, s.L, K);
      Pack::lanes(q_lanes + i * tile_words, tile, K);
      Pack::pairs(q_pairs + i * tile_words, tile, K);
      gather(tile, dy + head, s.H * K, i, s.L, K);
      Pack::lanes(dy_lanes + i * tile_words, tile, K);
      Pack::pairs(dy_pairs + i * tile_words, tile, K);
      for (long r = 0; r < T; r++) {
        const long row = i * T + r;
        __m512 sum = _mm512_setzero_ps();
        for (long c = 0; row < s.L && c < K; c += kLanes)
          sum = _mm512_fmadd_ps(Type::load(tile + r * K + c),
                                Type::load(y + head + row * s.H * K + c), sum);
        delta[row] = _mm512_reduce_add_ps(sum);
        normalizers[row] = row < s.L ? normalizer[h * s.L + row] : 0.0f;
      }
    }
    for (long j = 0; j < s.k_tiles(); j++) {
      gather(k_tile, k, s.G * K, j, s.M, K);
      gather(v_tile, v, s.G * K, j, s.M, K);
      Pack::rows(k_rows, k_tile, K, paired);
      const word* k_words = reinterpret_cast<const word*>(k_tile);
      const word* v_words = reinterpret_cast<const word*>(v_tile);
      for (long i = 0; i < s.q_tiles(); i++) {
        const auto kind = visibility.of(i, j);
        if (kind == Visibility::kNothing) continue;
        multiply<Type>(scores, T, k_words, words, q_lanes + i * tile_words, T, T, T, words, false);
        multiply<Type>(dweights, T, v_words, words, dy_lanes + i * tile_words, T, T, T, words,
                       false);
        for (int n = 0; n < kVectors; n++) {
          const long lane = i * T + n * kLanes;
          const __m512 base = _mm512_load_ps(normalizers + lane), d = _mm512_load_ps(delta + lane);
          for (int r = 0; r < T; r += 2) {
            __m512 ds[2];
            for (int e = 0; e < 2; e++) {
              const int at = (r + e) * T + n * kLanes;
              __m512 p = exp2(_mm512_fmsub_ps(_mm512_load_ps(scores + at), factor, base));
              if (kind == Visibility::kSome)
                p = _mm512_maskz_mov_ps(visibility.lanes(lane, j * T + r + e), p);
              ds[e] = _mm512_mul_ps(p, _mm512_sub_ps(_mm512_load_ps(dweights + at), d));
              Type::store(p_rows + at, p);
              Type::store(ds_rows + at, ds[e]);
            }
            Type::store_pair(ds_pairs + n * kLanes, T, r, ds[0], ds[1]);
          }
        }
        const word* p_words = reinterpret_cast<const word*>(p_rows);
        const word* ds_words = reinterpret_cast<const word*>(ds_rows);
        multiply<Type>(dv_sums + j * T * K, K, p_words, Pack::kPairs, dy_pairs + i * tile_words, K,
                       T, K, Pack::kPairs, true);
        multiply<Type>(dk_sums + j * T * K, K, ds_words, Pack::kPairs, q_pairs + i * tile_words, K,
                       T, K, Pack::kPairs, true);
        multiply<Type>(dq_sums + i * T * K, T, k_rows, Pack::kPairs, ds_pairs, T, K, T,
                       Pack::kPairs, true);
      }
    }
    for (long i = 0; i < s.q_tiles(); i++) {
      transpose(reinterpret_cast<word*>(rows), K,
                reinterpret_cast<const word*>(dq_sums + i * T * K), T, K, T);
      scatter<Type>(dq + head, s.H * K, rows, i, s.L, K, root);
    }
  }
  for (long j = 0; j < s.k_tiles(); j++) {
    scatter<Type>(dk, s.G * K, dk_sums + j * T * K, j, s.M, K, root);
    scatter<Type>(dv, s.G * K, dv_sums + j * T * K, j, s.M, K, 1.0f);
  }
}

using Any = ffi::AnyBuffer;
using Segments = ffi::Buffer<ffi::S32>;

// Whatever axes stand before L, such as that of a `vmap`, count rows.
Shape shape_of(Any q, Any k, bool causal, int64_t window) {
  const auto of_q = q.dimensions(), of_k = k.dimensions();
  const size_t at = of_q.size() - 3;
  long rows = 1;
  for (size_t axis = 0; axis < at; axis++) rows *= of_q[axis];
  return {rows, of_q[at], of_k[at], of_q[at + 1], of_k[at + 1], of_q[at + 2], causal, window};
}

template <typename Type>
void forward_all(ffi::ThreadPool pool, const Shape& s, Any q, Any k, Any v, const int* of_queries,
                 const int* of_keys, void* y, float* normalizer) {
  using Value = typename Type::Value;
  auto at = [](Any& x, long offset) { return static_cast<const Value*>(x.untyped_data()) + offset; };
  parallel_for(pool, s.B * s.H, [&](long n) {
    const long b = n / s.H, h = n % s.H, g = h / (s.H / s.G);
    const Visibility visibility(s, of_queries ? of_queries + b * s.L : nullptr,
                                of_queries ? of_keys + b * s.M : nullptr);
    const long of_q = (b * s.L * s.H + h) * s.K, of_k = (b * s.M * s.G + g) * s.K;
    forward<Type>(s, visibility, at(q, of_q), at(k, of_k), at(v, of_k),
                  static_cast<Value*>(y) + of_q, normalizer + n * s.L);
  });
}

template <typename Type>
void backward_all(ffi::ThreadPool pool, const Shape& s, Any q, Any k, Any v, const int* of_queries,
                  const int* of_keys, Any y, const float* normalizer, Any dy, void* dq, void* dk,
                  void* dv) {
  using Value = typename Type::Value;
  auto at = [](Any& x, long offset) { return static_cast<const Value*>(x.untyped_data()) + offset; };
  parallel_for(pool, s.B * s.G, [&](long n) {
    const long b = n / s.G, g = n % s.G, h = g * (s.H / s.G);
    const Visibility visibility(s, of_queries ? of_queries + b * s.L : nullptr,
                                of_queries ? of_keys + b * s.M : nullptr);
    const long of_q = (b * s.L * s.H + h) * s.K, of_k = (b * s.M * s.G + g) * s.K;
    backward<Type>(s, visibility, at(q, of_q), at(k, of_k), at(v, of_k), at(y, of_q),
                   normalizer + (b * s.H + h) * s.L, at(dy, of_q), static_cast<Value*>(dq) + of_q,
                   static_cast<Value*>(dk) + of_k, static_cast<Value*>(dv) + of_k);
  });
}

// Without documents, the segments are empty arrays.
const int* pointer(Segments& s) { return s.element_count() ? s.typed_data() : nullptr; }

ffi::Error Forward(ffi::ThreadPool pool, Any q, Any k, Any v, Segments of_queries,
                   Segments of_keys, ffi::Result<Any> y, ffi::ResultBuffer<ffi::F32> normalizer,
                   bool causal, int64_t window) {
  const Shape s = shape_of(q, k, causal, window);
  const auto run = q.element_type() == ffi::BF16 ? forward_all<BFloat16> : forward_all<Float32>;
  run(pool, s, q, k, v, pointer(of_queries), pointer(of_keys), y->untyped_data(),
      normalizer->typed_data());
  return ffi::Error::Success();
}

ffi::Error Backward(ffi::ThreadPool pool, Any q, Any k, Any v, Segments of_queries,
                    Segments of_keys, Any y, ffi::Buffer<ffi::F32> normalizer, Any dy,
                    ffi::Result<Any> dq, ffi::Result<Any> dk, ffi::Result<Any> dv, bool causal,
                    int64_t window) {
  const Shape s = shape_of(q, k, causal, window);
  const auto run = q.element_type() == ffi::BF16 ? backward_all<BFloat16> : backward_all<Float32>;
  run(pool, s, q, k, v, pointer(of_queries), pointer(of_keys), y, normalizer.typed_data(), dy,
      dq->untyped_data(), dk->untyped_data(), dv->untyped_data());
  return ffi::Error::Success();
}

}  // namespace research

XLA_FFI_DEFINE_HANDLER_SYMBOL(AttentionForward, research::Forward,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<research::Any>()       // q (B, L, H, K)
                                  .Arg<research::Any>()       // k (B, M, G, K)
                                  .Arg<research::Any>()       // v (B, M, G, K)
                                  .Arg<research::Segments>()  // of queries (B, L), or empty
                                  .Arg<research::Segments>()  // of keys (B, M), or empty
                                  .Ret<research::Any>()       // y (B, L, H, K)
                                  .Ret<xla::ffi::Buffer<xla::ffi::F32>>()  // (B, H, L), log2
                                  .Attr<bool>("causal")
                                  .Attr<int64_t>("window"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(AttentionBackward, research::Backward,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<research::Any>()
                                  .Arg<research::Any>()
                                  .Arg<research::Any>()
                                  .Arg<research::Segments>()
                                  .Arg<research::Segments>()
                                  .Arg<research::Any>()  // y
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Arg<research::Any>()  // dy
                                  .Ret<research::Any>()  // dq
                                  .Ret<research::Any>()  // dk
                                  .Ret<research::Any>()  // dv
                                  .Attr<bool>("causal")
                                  .Attr<int64_t>("window"));
