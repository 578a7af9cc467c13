// Activations x Φ(x) and x σ(g(x)) and their gradients, in one pass over the memory.
//
// Φ is the normal distribution: GELU as it is defined (Hendrycks & Gimpel, 2016). σ(g(x)) with
// g(x) = a x + b x³ is the logistic function: GELU by tanh, CLIP's quick GELU, and swish.

#include <algorithm>

#include "tiles.h"

namespace research {

constexpr long kPart = 1 << 14;  // values that a thread takes at once

inline __m512 constant(float x) { return _mm512_set1_ps(x); }

// Where the operand is NaN, so is the result.
inline __m512 at_most(float bound, __m512 x) { return _mm512_min_ps(constant(bound), x); }
inline __m512 at_least(float bound, __m512 x) { return _mm512_max_ps(constant(bound), x); }

struct Normal {
  // Φ(-|x|) = e^(-x²/2) t P(t), t = 1 / (1 + 0.3 |x|): P was fitted to relative errors of 1.5e-7.
  // What has no weight any more, beyond 16, is left out, so that infinity is no problem.
  struct At {
    __m512 size, density, tail;  // min(|x|, 16), e^(-x²/2), Φ(-|x|)
    explicit At(__m512 x) {
      size = at_most(16.0f, _mm512_abs_ps(x));
      const __m512 square = _mm512_mul_ps(size, size);
      density = exp2(_mm512_mul_ps(square, constant(-0.72134752f)));  // log2(e) / 2
      const __m512 below = _mm512_fmadd_ps(size, constant(0.3f), constant(1.0f));
      const __m512 t = _mm512_div_ps(constant(1.0f), below);
      __m512 p = constant(0.035674761f);
      p = _mm512_fmadd_ps(p, t, constant(-0.157203026f));
      p = _mm512_fmadd_ps(p, t, constant(0.206353404f));
      p = _mm512_fmadd_ps(p, t, constant(-0.0536835469f));
      p = _mm512_fmadd_ps(p, t, constant(0.128561573f));
      p = _mm512_fmadd_ps(p, t, constant(0.0999135089f));
      p = _mm512_fmadd_ps(p, t, constant(0.120753953f));
      p = _mm512_fmadd_ps(p, t, constant(0.119629299f));
      tail = _mm512_mul_ps(density, _mm512_mul_ps(p, t));
    }
  };
  __m512 value(__m512 x) const {
    const At at(x);
    return _mm512_fnmadd_ps(at.size, at.tail, at_least(0.0f, x));
  }
  __m512 slope(__m512 x) const {
    const At at(x);
    const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
    const __m512 above = _mm512_sub_ps(constant(1.0f), at.tail);
    const __m512 below = _mm512_mask_mov_ps(above, negative, at.tail);  // Φ(x)
    const __m512 more = _mm512_mul_ps(_mm512_mul_ps(at.size, constant(0.39894228f)), at.density);
    return _mm512_mask_sub_ps(_mm512_add_ps(below, more), negative, below, more);
  }
};

struct Logistic {
  float linear, cubic;
  struct At {
    __m512 square, power, share;  // x², e^-g, σ(g)
  };
  At at(__m512 x) const {
    const __m512 square = at_most(1e12f, _mm512_mul_ps(x, x));
    const __m512 g = _mm512_mul_ps(x, _mm512_fmadd_ps(square, constant(cubic), constant(linear)));
    const __m512 exponent = _mm512_mul_ps(g, constant(-1.44269504f));  // log2(e)
    const __m512 power = exp2(at_least(-120.0f, at_most(120.0f, exponent)));
    return {square, power, _mm512_div_ps(constant(1.0f), _mm512_add_ps(power, constant(1.0f)))};
  }
  __m512 value(__m512 x) const { return _mm512_mul_ps(x, at(x).share); }
  __m512 slope(__m512 x) const {
    const At here = at(x);
    const __m512 steep = _mm512_fmadd_ps(here.square, constant(3.0f * cubic), constant(linear));
    // Not 1 - σ: of that, nothing but its rounding is left where x is large.
    const __m512 rest = _mm512_mul_ps(x, _mm512_mul_ps(here.power, here.share));
    return _mm512_mul_ps(here.share, _mm512_fmadd_ps(rest, steep, constant(1.0f)));
  }
};

// work(i) for every vector of 16 values that begins at i; the last one may overlap its neighbour.
template <typename Work>
void for_vectors(ffi::ThreadPool& pool, long count, const Work& work) {
  parallel_for(pool, (count + kPart - 1) / kPart, [&](long part) {
    const long end = std::min(count, (part + 1) * kPart);
    for (long i = part * kPart; i < end; i += kLanes) work(std::min(i, count - kLanes));
  });
}

template <typename Type, typename Function>
void activate(ffi::ThreadPool& pool, const Function& function, const void* from, void* to,
              long count) {
  const auto x = static_cast<const typename Type::Value*>(from);
  const auto y = static_cast<typename Type::Value*>(to);
  for_vectors(pool, count, [&](long i) { Type::store(y + i, function.value(Type::load(x + i))); });
}

template <typename Type, typename Function>
void descend(ffi::ThreadPool& pool, const Function& function, const void* of_x, const void* of_dy,
             void* to, long count) {
  const auto x = static_cast<const typename Type::Value*>(of_x);
  const auto dy = static_cast<const typename Type::Value*>(of_dy);
  const auto dx = static_cast<typename Type::Value*>(to);
  for_vectors(pool, count, [&](long i) {
    Type::store(dx + i, _mm512_mul_ps(Type::load(dy + i), function.slope(Type::load(x + i))));
  });
}

// work(type, function), as the values and the attributes are.
template <typename Work>
ffi::Error choose(ffi::DataType type, bool normal, float linear, float cubic, const Work& work) {
  const auto of_type = [&](auto values) {
    if (normal) work(values, Normal{});
    else work(values, Logistic{linear, cubic});
  };
  if (type == ffi::BF16) of_type(BFloat16{});
  else of_type(Float32{});
  return ffi::Error::Success();
}

ffi::Error Activation(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                      bool normal, float linear, float cubic) {
  return choose(x.element_type(), normal, linear, cubic, [&](auto type, auto function) {
    activate<decltype(type)>(pool, function, x.untyped_data(), y->untyped_data(),
                             x.element_count());
  });
}

ffi::Error ActivationBackward(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                              ffi::Result<ffi::AnyBuffer> dx, bool normal, float linear,
                              float cubic) {
  return choose(x.element_type(), normal, linear, cubic, [&](auto type, auto function) {
    descend<decltype(type)>(pool, function, x.untyped_data(), dy.untyped_data(), dx->untyped_data(),
                            x.element_count());
  });
}

}  // namespace research

XLA_FFI_DEFINE_HANDLER_SYMBOL(Activation, research::Activation,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()  // x
                                  .Ret<xla::ffi::AnyBuffer>()  // y
                                  .Attr<bool>("normal")
                                  .Attr<float>("linear")
                                  .Attr<float>("cubic"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ActivationBackward, research::ActivationBackward,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()  // x
                                  .Arg<xla::ffi::AnyBuffer>()  // dy
                                  .Ret<xla::ffi::AnyBuffer>()  // dx
                                  .Attr<bool>("normal")
                                  .Attr<float>("linear")
                                  .Attr<float>("cubic"));
