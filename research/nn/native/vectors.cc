// Products of few rows with a weight: decoding, bound by reading the weight.
//
// Each thread reads one part of the weight from its beginning to its end, several rows at once. All
// is float32, or bfloat16 with sums in float32; a result is float32.

#include <algorithm>

#include "tiles.h"

namespace research {

constexpr int kRows = 8;   // of x, at once, and of the weight
constexpr int kBlock = 32;  // rows of a weight that all rows of x see before the next are read

// What comes next, into the second cache: the first has no room for eight rows more.
inline void fetch(const void* at) { _mm_prefetch((const char*)at, _MM_HINT_T1); }

// Values of a vector, and the sums to which a row of x adds its products with kRows rows of w.
struct OfFloat32 {
  using Value = float;
  static constexpr long kValues = kLanes, kVectors = 1;
  __m512 w[kRows];
  void load(const Value* at, long N) {
    for (int p = 0; p < kRows; p++) {
      w[p] = _mm512_loadu_ps(at + p * N);
      fetch(at + (kRows + p) * N);
    }
  }
  void add(const Value* x, float* sums) const {
    __m512 a = _mm512_load_ps(sums);
    for (int p = 0; p < kRows; p++) a = _mm512_fmadd_ps(_mm512_set1_ps(x[p]), w[p], a);
    _mm512_store_ps(sums, a);
  }
  static void order(__m512*) {}
  static __m512 multiply_add(const Value* x, const Value* y, __m512 sum) {
    return _mm512_fmadd_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(y), sum);
  }
};

// Rows of bfloat16 in pairs. The instructions that pair them work inside quarters of a vector, so
// that the 32 sums are of the columns 0-3, 8-11, 16-19, 24-27, 4-7, 12-15, 20-23 and 28-31.
struct OfBFloat16 {
  using Value = uint16_t;
  static constexpr long kValues = 2 * kLanes, kVectors = 2;
  __m512i low[kRows / 2], high[kRows / 2];
  void load(const Value* at, long N) {
    for (int p = 0; p < kRows; p += 2) {
      const __m512i even = _mm512_loadu_si512(at + p * N);
      const __m512i odd = _mm512_loadu_si512(at + (p + 1) * N);
      fetch(at + (kRows + p) * N);
      fetch(at + (kRows + p + 1) * N);
      low[p / 2] = _mm512_unpacklo_epi16(even, odd);
      high[p / 2] = _mm512_unpackhi_epi16(even, odd);
    }
  }
  void add(const Value* x, float* sums) const {
    __m512 a = _mm512_load_ps(sums), b = _mm512_load_ps(sums + kLanes);
    const word* pairs = reinterpret_cast<const word*>(x);
    for (int p = 0; p < kRows / 2; p++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32(pairs[p]);
      a = _mm512_dpbf16_ps(a, pair, (__m512bh)low[p]);
      b = _mm512_dpbf16_ps(b, pair, (__m512bh)high[p]);
    }
    _mm512_store_ps(sums, a);
    _mm512_store_ps(sums + kLanes, b);
  }
  static void order(__m512* sums) {
    const __m512i one = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i two = _mm512_add_epi32(one, _mm512_set1_epi32(8));
    const __m512 a = sums[0], b = sums[1];
    sums[0] = _mm512_permutex2var_ps(a, one, b);
    sums[1] = _mm512_permutex2var_ps(a, two, b);
  }
  static __m512 multiply_add(const Value* x, const Value* y, __m512 sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(x), (__m512bh)_mm512_loadu_si512(y));
  }
};

// sums[M][N] = x[M][K] w[K][N], over the rows from `first` to `last` of w.
template <typename Type, int M, typename Value = typename Type::Value>
void columns(const Value* x, const Value* w, float* sums, long first, long last, long K, long N) {
  std::fill_n(sums, M * N, 0.0f);
  Type rows;
  for (long k = first; k < last; k += kRows) {
    for (long c = 0; c < N; c += Type::kValues) {
      rows.load(w + k * N + c, N);
      for (int m = 0; m < M; m++) rows.add(x + m * K + k, sums + m * N + c);
    }
  }
}

// y[size] = the sum of sums[parts][size], in the order of the columns.
template <typename Type>
void add_parts(const float* sums, float* y, long parts, long size) {
  for (long c = 0; c < size; c += Type::kValues) {
    __m512 total[Type::kVectors];
    for (int v = 0; v < Type::kVectors; v++) {
      total[v] = _mm512_load_ps(sums + c + v * kLanes);
      for (long part = 1; part < parts; part++)
        total[v] = _mm512_add_ps(total[v], _mm512_load_ps(sums + part * size + c + v * kLanes));
    }
    Type::order(total);
    for (int v = 0; v < Type::kVectors; v++) _mm512_storeu_ps(y + c + v * kLanes, total[v]);
  }
}

// y[M][N] = x[M][K] w[N][K] transposed, for the rows from `first` to `last` of w: dot products.
template <typename Type, int M, typename Value = typename Type::Value>
void dots(const Value* x, const Value* w, float* y, long first, long last, long K, long N) {
  constexpr int R = M > 4 ? 2 : 4;  // rows of w at once, as the registers allow
  for (long r = first; r < last; r += R) {
    __m512 sums[R][M];
    for (auto& row : sums)
      for (auto& sum : row) sum = _mm512_setzero_ps();
    const Value* at[R];
    for (int i = 0; i < R; i++) at[i] = w + std::min(r + i, last - 1) * K;
    for (long k = 0; k < K; k += Type::kValues) {
      for (int i = 0; i < R; i++) fetch(at[i] + k + R * K);
      for (int m = 0; m < M; m++)
        for (int i = 0; i < R; i++)
          sums[i][m] = Type::multiply_add(x + m * K + k, at[i] + k, sums[i][m]);
    }
    for (int i = 0; i < R && r + i < last; i++)
      for (int m = 0; m < M; m++) y[m * N + r + i] = _mm512_reduce_add_ps(sums[i][m]);
  }
}

template <typename Type, int M, typename Value = typename Type::Value>
void multiply_rows(ffi::ThreadPool& pool, bool transposed, const void* of_x, const void* of_w,
                   float* y, long K, long N) {
  const auto x = static_cast<const Value*>(of_x), w = static_cast<const Value*>(of_w);
  const long threads = pool.num_threads(), of = transposed ? N : K;
  const long size = std::max(64l, (of / threads + kRows - 1) / kRows * kRows);
  const long parts = (of + size - 1) / size;
  Scratch scratch(transposed ? 0 : parts * M * N * 4);
  float* sums = scratch.take<float>(transposed ? 0 : parts * M * N);
  parallel_for(pool, parts, [&](long i) {
    const long first = i * size, last = std::min(of, first + size);
    if (transposed) dots<Type, M>(x, w, y, first, last, K, N);
    else columns<Type, M>(x, w, sums + i * M * N, first, last, K, N);
  });
  if (!transposed) add_parts<Type>(sums, y, parts, M * N);
}

// y[M][N] = x[M][K] w[N][K] transposed, of more rows than are multiplied at once.
template <typename Type>
void multiply_many(long M, ffi::ThreadPool& pool, const void* of_x, const void* of_w, float* y,
                   long K, long N) {
  using Value = typename Type::Value;
  const auto x = static_cast<const Value*>(of_x), w = static_cast<const Value*>(of_w);
  parallel_for(pool, (N + kBlock - 1) / kBlock, [&](long i) {
    const long first = i * kBlock, last = std::min(N, first + kBlock);
    for (long m = 0; m < M; m += kRows) {
      // The last rows are multiplied with their neighbours, some of them twice.
      const long row = std::min(m, M - kRows);
      dots<Type, kRows>(x + row * K, w, y + row * N, first, last, K, N);
    }
  });
}

template <typename Type>
void multiply_all(long M, ffi::ThreadPool& pool, bool transposed, const void* x, const void* w,
                  float* y, long K, long N) {
  constexpr decltype(&multiply_rows<Type, 1>) of_rows[kRows] = {
      multiply_rows<Type, 1>, multiply_rows<Type, 2>, multiply_rows<Type, 3>,
      multiply_rows<Type, 4>, multiply_rows<Type, 5>, multiply_rows<Type, 6>,
      multiply_rows<Type, 7>, multiply_rows<Type, 8>};
  if (M > kRows) multiply_many<Type>(M, pool, x, w, y, K, N);
  else of_rows[M - 1](pool, transposed, x, w, y, K, N);
}

ffi::Error Vectors(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                   ffi::ResultBuffer<ffi::F32> y, bool transposed) {
  const long M = x.dimensions()[0], K = x.dimensions()[1];
  const long N = w.dimensions()[transposed ? 0 : 1];
  const bool narrow = x.element_type() == ffi::BF16;
  const auto multiply = narrow ? multiply_all<OfBFloat16> : multiply_all<OfFloat32>;
  multiply(M, pool, transposed, x.untyped_data(), w.untyped_data(), y->typed_data(), K, N);
  return ffi::Error::Success();
}

}  // namespace research

XLA_FFI_DEFINE_HANDLER_SYMBOL(Vectors, research::Vectors,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()               // x (M, K)
                                  .Arg<xla::ffi::AnyBuffer>()               // w (K, N) or (N, K)
                                  .Ret<xla::ffi::Buffer<xla::ffi::F32>>()  // y (M, N)
                                  .Attr<bool>("transposed"));
