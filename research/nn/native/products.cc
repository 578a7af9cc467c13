// Products of bfloat16 matrices by the matrix instructions (AMX) of Intel's servers.
//
// A tile is 16 rows of 16 words, and an instruction multiplies two and adds to a third. Both
// operands are first laid out as the tiles that the instruction reads, two side by side, so that
// neither has to be transposed before, whichever way it lies. A block of 32 x 32 results stays in
// four tiles while k runs; sums are float32, and the result is rounded once, where it is written.

#include "tiles.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define RESEARCH_MATRIX_TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdlib>

namespace research {

constexpr long kSide = 32;            // rows, columns and values of k of a block
constexpr long kTileWords = 16 * 16;  // 1 KB
constexpr long kStepWords = 2 * kTileWords;
constexpr long kChunk = 64;  // steps of 32 values of k between which sums go to memory

// A matrix of bfloat16 as it lies in memory; what lies outside of it is zero.
struct Matrix {
  const uint16_t* data;
  long rows, columns;
};

// The first n of lanes.
inline uint32_t first(long n, long lanes) {
  return n <= 0 ? 0 : n >= lanes ? uint32_t((1ull << lanes) - 1) : (1u << n) - 1;
}

// to[r][w]: 16 rows of 32 values, words as they lie.
inline void take_rows(word* to, const Matrix& m, long row, long column) {
  const uint32_t mask = first(m.columns - column, 32);
  for (long r = 0; r < 16; r++) {
    const uint16_t* at = m.data + (row + r) * m.columns + column;
    const bool there = row + r < m.rows;
    _mm512_store_si512(to + r * 16, _mm512_maskz_loadu_epi16(there ? mask : 0, there ? at : m.data));
  }
}

// to[p][c]: 16 columns of 32 values, a word holds those of two neighbouring rows.
inline void take_columns(word* to, const Matrix& m, long row, long column) {
  const __mmask16 mask = first(m.columns - column, 16);
  auto half = [&](long r) {
    const bool there = r < m.rows;
    const uint16_t* at = there ? m.data + r * m.columns + column : m.data;
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there ? mask : 0, at));
  };
  for (long p = 0; p < 16; p++) {
    const __m512i even = half(row + 2 * p), odd = half(row + 2 * p + 1);
    _mm512_store_si512(to + p * 16, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
  }
}

// Rows `i` to i + 31 of the first operand, or columns of the second, for `steps` times 32 values
// of k: per step two tiles. `inner`: whether k runs along the rows of memory.
template <bool kFirst>
void lay_out(word* to, const Matrix& m, bool inner, long i, long k, long steps) {
  alignas(64) word turned[kTileWords];
  for (long step = 0; step < steps; step++, k += kSide) {
    for (long half = 0; half < kSide; half += 16, to += kTileWords) {
      word* made = inner == kFirst ? to : turned;
      if (inner) take_rows(made, m, i + half, k);
      else take_columns(made, m, k, i + half);
      if (made == turned) transpose_16(to, 16, turned, 16);
    }
  }
}

#ifdef RESEARCH_MATRIX_TILES

struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// c[32][32] = a b, over so many steps.
inline void multiply_block(float* c, const word* a, const word* b, long steps) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (long step = 0; step < steps; step++, a += kStepWords, b += kStepWords) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTileWords, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kTileWords, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, 128);
  _tile_stored(1, c + 16, 128);
  _tile_stored(2, c + 16 * kSide, 128);
  _tile_stored(3, c + 16 * kSide + 16, 128);
}

// Where a block's sums go: (M, N), rounded to bfloat16 or added to what a chunk before left.
struct Result {
  void* data;
  const float* bias;  // (N,), or null
  long M, N;
  bool narrow;

  void write(const float* c, long row, long column, bool add) const {
    for (long j = 0; j < kSide && column + j < N; j += kLanes) {
      const __mmask16 mask = first(N - column - j, kLanes);
      const __m512 more =
          bias && !add ? _mm512_maskz_loadu_ps(mask, bias + column + j) : _mm512_setzero_ps();
      for (long r = 0; r < kSide && row + r < M; r++) {
        const long at = (row + r) * N + column + j;
        __m512 sum = _mm512_add_ps(_mm512_load_ps(c + r * kSide + j), more);
        if (narrow) {
          _mm256_mask_storeu_epi16(static_cast<uint16_t*>(data) + at, mask,
                                   (__m256i)_mm512_cvtneps_pbh(sum));
        } else {
          float* to = static_cast<float*>(data) + at;
          if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, to));
          _mm512_mask_storeu_ps(to, mask, sum);
        }
      }
    }
  }
};

struct Free {
  void operator()(word* memory) const { std::free(memory); }
};

inline long blocks(long n) { return (n + kSide - 1) / kSide; }

// False where there is no memory for the panels of b.
bool multiply_matrices(ffi::ThreadPool& pool, const Matrix& a, bool a_inner, const Matrix& b,
                       bool b_inner, const Result& y) {
  const long K = a_inner ? a.columns : a.rows, steps = blocks(K);
  const long chunk = y.narrow ? steps : std::min(steps, kChunk);
  const long rows = blocks(y.M), columns = blocks(y.N), threads = pool.num_threads();
  // The blocks of rows of one task share each panel of b; enough tasks keep all threads busy.
  const long tall = std::clamp(rows / (2 * threads), 1l, std::max(1l, 8 * kChunk / chunk));
  const long bands = (rows + tall - 1) / tall;
  const long parts = std::clamp(4 * threads / bands, 1l, std::max(1l, columns / 4));
  const long wide = (columns + parts - 1) / parts;
  const size_t bytes = columns * chunk * kStepWords * sizeof(word);
  const std::unique_ptr<word, Free> panels(static_cast<word*>(std::aligned_alloc(64, bytes)));
  if (!panels) return false;

  for (long begin = 0; begin < steps; begin += chunk) {
    const long some = std::min(chunk, steps - begin);
    parallel_for(pool, columns, [&](long j) {
      lay_out<false>(panels.get() + j * some * kStepWords, b, b_inner, j * kSide, begin * kSide, some);
    });
    parallel_for(pool, bands * parts, [&](long task) {
      const long i0 = task / parts * tall, i1 = std::min(rows, i0 + tall);
      const long j0 = task % parts * wide, j1 = std::min(columns, j0 + wide);
      Scratch scratch(tall * some * kStepWords * sizeof(word) + kSide * kSide * sizeof(float));
      word* own = scratch.take<word>(tall * some * kStepWords);
      float* c = scratch.take<float>(kSide * kSide);
      for (long i = i0; i < i1; i++)
        lay_out<true>(own + (i - i0) * some * kStepWords, a, a_inner, i * kSide, begin * kSide, some);
      const Configuration configuration;
      _tile_loadconfig(&configuration);
      for (long j = j0; j < j1; j++) {
        for (long i = i0; i < i1; i++) {
          multiply_block(c, own + (i - i0) * some * kStepWords,
                         panels.get() + j * some * kStepWords, some);
          y.write(c, i * kSide, j * kSide, begin > 0);
        }
      }
      _tile_release();
    });
  }
  return true;
}

#endif

ffi::Error Product(ffi::ThreadPool pool, ffi::Buffer<ffi::BF16> a, ffi::Buffer<ffi::BF16> b,
                   ffi::Buffer<ffi::F32> bias, ffi::Result<ffi::AnyBuffer> y, bool a_transposed,
                   bool b_transposed) {
#ifdef RESEARCH_MATRIX_TILES
  auto matrix = [](auto& x) {
    return Matrix{static_cast<const uint16_t*>(x.untyped_data()), x.dimensions()[0],
                  x.dimensions()[1]};
  };
  const Result result{y->untyped_data(), bias.element_count() ? bias.typed_data() : nullptr,
                      y->dimensions()[0], y->dimensions()[1], y->element_type() == ffi::BF16};
  if (multiply_matrices(pool, matrix(a), !a_transposed, matrix(b), b_transposed, result))
    return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "no memory to lay out a matrix in tiles");
#else
  return ffi::Error(ffi::ErrorCode::kUnimplemented, "this processor has no matrix instructions");
#endif
}

}  // namespace research

// Whether this process may use the matrix instructions: Linux has to be asked, once.
extern "C" bool research_matrix_tiles() {
#ifdef RESEARCH_MATRIX_TILES
  constexpr long kAskPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
#else
  return false;
#endif
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(Product, research::Product,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::BF16>>()  // a (M, K) or (K, M)
                                  .Arg<xla::ffi::Buffer<xla::ffi::BF16>>()  // b (K, N) or (N, K)
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()   // bias (N,), or empty
                                  .Ret<xla::ffi::AnyBuffer>()  // y (M, N), float32 or bfloat16
                                  .Attr<bool>("a_transposed")
                                  .Attr<bool>("b_transposed"));
