// Products of small tiles in AVX-512, for float32 and for bfloat16 with sums in float32.
//
// Everything is counted in 32-bit words: one float, or a pair of bfloat16 values that the processor
// multiplies and adds in one lane. In a product C = A B, summed over k, a word of A holds the
// values (k, k+1) of one row, a word of B those of one column:
//
//   A[m][w]  rows of words, as values lie in memory anyway
//   B[w][n]  lanes are columns: made by `pair_rows` from [k][n], or by `transpose` from [n][w]
#pragma once

#include <immintrin.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

#if !defined(__AVX512BF16__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "these kernels need AVX-512 with bfloat16"
#endif

namespace research {

namespace ffi = xla::ffi;

using word = uint32_t;

constexpr int kLanes = 16;

// c + a * b, of words that hold one float.
struct Float32 {
  static constexpr int kValues = 1;  // in a word
  using Value = float;
  static __m512 multiply_add(__m512i a, __m512i b, __m512 c) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), c);
  }
  static __m512 load(const Value* p) { return _mm512_loadu_ps(p); }
  static void store(Value* p, __m512 x) { _mm512_storeu_ps(p, x); }
  // Rows k and k + 1 of B, for k even.
  static void store_pair(word* to, int ld, int k, __m512 even, __m512 odd) {
    _mm512_storeu_ps(to + k * ld, even);
    _mm512_storeu_ps(to + (k + 1) * ld, odd);
  }
};

// c + a0 * b0 + a1 * b1, of words that hold two bfloat16 values.
struct BFloat16 {
  static constexpr int kValues = 2;
  using Value = uint16_t;
  static __m512 multiply_add(__m512i a, __m512i b, __m512 c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
  }
  static __m512 load(const Value* p) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static void store(Value* p, __m512 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x));
  }
  static void store_pair(word* to, int ld, int k, __m512 even, __m512 odd) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    _mm512_storeu_si512(to + k / 2 * ld, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
};

inline __m512i load_words(const word* p) { return _mm512_loadu_si512(p); }

// Four rows of C and V vectors of its columns, all in registers.
template <typename T, int V>
inline void multiply_strip(float* c, int ldc, const word* a, long lda, const word* b, int ldb,
                           int words, bool accumulate) {
  __m512 sums[4][V];
  for (int i = 0; i < 4; i++)
    for (int v = 0; v < V; v++)
      sums[i][v] = accumulate ? _mm512_loadu_ps(c + i * ldc + v * kLanes) : _mm512_setzero_ps();
  for (int w = 0; w < words; w++) {
    __m512i columns[V];
    for (int v = 0; v < V; v++) columns[v] = load_words(b + w * ldb + v * kLanes);
    for (int i = 0; i < 4; i++) {
      const __m512i value = _mm512_set1_epi32(a[i * lda + w]);
      for (int v = 0; v < V; v++) sums[i][v] = T::multiply_add(value, columns[v], sums[i][v]);
    }
  }
  for (int i = 0; i < 4; i++)
    for (int v = 0; v < V; v++) _mm512_storeu_ps(c + i * ldc + v * kLanes, sums[i][v]);
}

// C[m][n] (+)= A[m][words] B[words][n]; m is a multiple of 4 and n of 16.
template <typename T>
void multiply(float* c, int ldc, const word* a, long lda, const word* b, int ldb, int m, int n,
              int words, bool accumulate) {
  for (int j = 0; j < n; j += 64) {
    for (int i = 0; i < m; i += 4) {
      float* to = c + i * ldc + j;
      const word* rows = a + i * lda;
      switch (n - j) {
        case 16: multiply_strip<T, 1>(to, ldc, rows, lda, b + j, ldb, words, accumulate); break;
        case 32: multiply_strip<T, 2>(to, ldc, rows, lda, b + j, ldb, words, accumulate); break;
        case 48: multiply_strip<T, 3>(to, ldc, rows, lda, b + j, ldb, words, accumulate); break;
        default: multiply_strip<T, 4>(to, ldc, rows, lda, b + j, ldb, words, accumulate);
      }
    }
  }
}

// to[16][ldto] = from[16][ldfrom] transposed, in four rounds that each exchange half of the lanes.
inline void transpose_16(word* to, int ldto, const word* from, int ldfrom) {
  __m512i x[16], y[16];
  for (int i = 0; i < 16; i++) x[i] = load_words(from + i * ldfrom);
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // x[i + j]: column 4 * lane + j of rows i to i + 3
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  for (int j = 0; j < 4; j++) {
    const __m512i low = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88);
    const __m512i high = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
    const __m512i low_2 = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);
    const __m512i high_2 = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
    _mm512_storeu_si512(to + j * ldto, _mm512_shuffle_i32x4(low, low_2, 0x88));
    _mm512_storeu_si512(to + (4 + j) * ldto, _mm512_shuffle_i32x4(high, high_2, 0x88));
    _mm512_storeu_si512(to + (8 + j) * ldto, _mm512_shuffle_i32x4(low, low_2, 0xdd));
    _mm512_storeu_si512(to + (12 + j) * ldto, _mm512_shuffle_i32x4(high, high_2, 0xdd));
  }
}

// to[columns][rows] = from[rows][columns] transposed, of words; both are multiples of 16.
inline void transpose(word* to, int ldto, const word* from, int ldfrom, int rows, int columns) {
  for (int i = 0; i < rows; i += 16)
    for (int j = 0; j < columns; j += 16)
      transpose_16(to + j * ldto + i, ldto, from + i * ldfrom + j, ldfrom);
}

// to[k / values][n]: a word holds the values of neighbouring rows k, as B wants them.
inline void pair_rows(Float32, word* to, const float* from, int rows, int n) {
  for (int i = 0; i < rows * n; i += kLanes)
    _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
}
inline void pair_rows(BFloat16, word* to, const uint16_t* from, int rows, int n) {
  for (int k = 0; k < rows; k += 2) {
    for (int j = 0; j < n; j += kLanes) {
      const uint16_t* at = from + k * n + j;
      const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)at));
      const __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(at + n)));
      _mm512_storeu_si512(to + (k / 2) * n + j,
                          _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
}

// 2^x: a polynomial in the fraction of x, relative error below 2e-7.
inline __m512 exp2(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, whole);  // in [-1/2, 1/2]
  __m512 y = _mm512_set1_ps(1.5403530e-4f);  // ln(2)^n / n!, from n = 6
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.3333558e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.6181291e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5504109e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4022651e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9314718e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, whole);
}

// Calls work(i) for i in [0, count) on the threads of XLA, of which the caller is one.
//
// The caller takes whatever nobody has begun, so that it never waits for a thread that is not
// there: all of them may be callers of such a loop themselves.
template <typename Work>
void parallel_for(ffi::ThreadPool& pool, long count, const Work& work) {
  struct Progress {
    std::atomic<long> next{0}, done{0};
  };
  auto progress = std::make_shared<Progress>();
  auto take = [progress, count, &work] {  // `work` is only touched while the caller waits
    for (long i; (i = progress->next.fetch_add(1)) < count;) {
      work(i);
      progress->done.fetch_add(1, std::memory_order_release);
    }
  };
  const long helpers = std::min<long>(count, pool.num_threads()) - 1;
  for (long i = 0; i < helpers; i++) pool.Schedule([take] { take(); });
  take();
  for (int spins = 0; progress->done.load(std::memory_order_acquire) < count; spins++) {
    if (spins < 1000) _mm_pause();
    else std::this_thread::yield();
  }
}

// Memory of one thread that it keeps for its next task, handed out piece by piece.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    thread_local std::vector<char> memory;
    if (memory.size() < bytes + 64) memory.resize(bytes + 64);
    next_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~63ull);
  }
  template <typename V>
  V* take(size_t count) {
    V* piece = reinterpret_cast<V*>(next_);
    next_ += (count * sizeof(V) + 63) & ~63ull;
    return piece;
  }

 private:
  char* next_;
};

}  // namespace research
