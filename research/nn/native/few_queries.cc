// Attention of few queries, as in decoding: what a cache holds is read once, row by row.
//
// All sums are float32, of keys and values that may be bfloat16. What is added to the scores says
// who sees whom as well: -inf hides, and a query that sees nothing gets zeros.

#include <algorithm>
#include <limits>

#include "tiles.h"

namespace research {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

struct Cached {
  long L, M, H, G, K;
  float scale;  // of the scores, times log2(e)
};

// One query of one head: `added` are M numbers, `scores` has room for M, padded to whole vectors.
template <typename Type, typename Value = typename Type::Value>
void look(const Cached& s, const Value* q, const Value* k, const Value* v, const float* added,
          float* scores, Value* y) {
  constexpr float kLog2E = 1.4426950408889634f;
  const long stride = s.G * s.K, padded = (s.M + kLanes - 1) / kLanes * kLanes;
  float largest = kHidden;
  for (long m = 0; m < s.M; m++) {
    scores[m] = kHidden;
    if (added[m] == kHidden) continue;
    __m512 sum = _mm512_setzero_ps();
    for (long c = 0; c < s.K; c += kLanes)
      sum = _mm512_fmadd_ps(Type::load(q + c), Type::load(k + m * stride + c), sum);
    scores[m] = _mm512_reduce_add_ps(sum) * s.scale + added[m] * kLog2E;
    largest = std::max(scores[m], largest);  // in this order it may be NaN
  }
  std::fill(scores + s.M, scores + padded, kHidden);
  const bool any = largest != kHidden;
  __m512 total = _mm512_setzero_ps();
  for (long m = 0; any && m < padded; m += kLanes) {
    const __m512 x = _mm512_sub_ps(_mm512_loadu_ps(scores + m), _mm512_set1_ps(largest));
    const __m512 p = exp2(_mm512_max_ps(_mm512_set1_ps(-200.0f), x));
    _mm512_storeu_ps(scores + m, p);
    total = _mm512_add_ps(total, p);
  }
  const __m512 share = _mm512_set1_ps(any ? 1.0f / _mm512_reduce_add_ps(total) : 0.0f);
  for (long c = 0; c < s.K; c += kLanes) {
    __m512 sum = _mm512_setzero_ps();
    for (long m = 0; any && m < s.M; m++)
      sum = _mm512_fmadd_ps(_mm512_set1_ps(scores[m]), Type::load(v + m * stride + c), sum);
    Type::store(y + c, _mm512_mul_ps(sum, share));
  }
}

using Any = ffi::AnyBuffer;

// An index into an axis that has one entry for all.
inline long of(int64_t size, long i) { return size == 1 ? 0 : i; }

template <typename Type, typename Value = typename Type::Value>
void look_all(ffi::ThreadPool& pool, const Cached& s, long B, const void* of_q, const void* of_k,
              const void* of_v, ffi::Buffer<ffi::F32>& added, void* of_y) {
  const auto q = static_cast<const Value*>(of_q), k = static_cast<const Value*>(of_k);
  const auto v = static_cast<const Value*>(of_v);
  const auto y = static_cast<Value*>(of_y);
  const auto sizes = added.dimensions();  // (B or 1, H or 1, L, M)
  parallel_for(pool, B * s.G, [&](long n) {
    const long b = n / s.G, g = n % s.G, R = s.H / s.G, cached = (b * s.M * s.G + g) * s.K;
    Scratch scratch((s.M + kLanes) * 4);
    float* scores = scratch.take<float>(s.M + kLanes);
    for (long h = g * R; h < (g + 1) * R; h++) {
      const long first = (of(sizes[0], b) * sizes[1] + of(sizes[1], h)) * s.L * s.M;
      for (long l = 0; l < s.L; l++) {
        const long at = ((b * s.L + l) * s.H + h) * s.K;
        look<Type>(s, q + at, k + cached, v + cached, added.typed_data() + first + l * s.M, scores,
                   y + at);
      }
    }
  });
}

ffi::Error FewQueries(ffi::ThreadPool pool, Any q, Any k, Any v, ffi::Buffer<ffi::F32> added,
                      ffi::Result<Any> y, float scale) {
  const auto of_q = q.dimensions(), of_k = k.dimensions();
  const Cached s{of_q[1], of_k[1], of_q[2], of_k[2], of_q[3], scale * 1.4426950408889634f};
  const auto look = q.element_type() == ffi::BF16 ? look_all<BFloat16> : look_all<Float32>;
  look(pool, s, of_q[0], q.untyped_data(), k.untyped_data(), v.untyped_data(), added,
       y->untyped_data());
  return ffi::Error::Success();
}

}  // namespace research

XLA_FFI_DEFINE_HANDLER_SYMBOL(FewQueries, research::FewQueries,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<research::Any>()                    // q (B, L, H, K)
                                  .Arg<research::Any>()                    // k (B, M, G, K)
                                  .Arg<research::Any>()                    // v (B, M, G, K)
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()  // added to the scores
                                  .Ret<research::Any>()                    // y (B, L, H, K)
                                  .Attr<float>("scale"));
