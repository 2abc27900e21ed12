// The 16-bit formats as far as CuPy's float16 and bfloat16 classes need them: storage, and
// conversion from and to float. CuPy computes in float.
#pragma once

struct __half_raw { unsigned short x; };
struct half {
    unsigned short bits;
    half() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    half(T v) : bits(nnm_bits<unsigned short>(_Float16(v))) {}
    explicit half(__half_raw v) : bits(v.x) {}
    operator float() const { return float(nnm_bits<_Float16>(bits)); }
    operator __half_raw() const { return {bits}; }
};
typedef half __half;
inline float __half2float(half v) { return v; }
inline half __float2half(float v) { return v; }
inline half __float2half_rn(float v) { return v; }
inline unsigned short __half_as_ushort(half v) { return v.bits; }
inline half __ushort_as_half(unsigned short v) { return half(__half_raw{v}); }

struct __nv_bfloat16_raw { unsigned short x; };
struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float v)                          // to nearest, ties to even; NaN stays NaN
    {
        const unsigned u = nnm_bits<unsigned>(v);
        bits = v == v ? (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16) : 0x7fff;
    }
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T> && !std::is_same_v<T, float>>>
    explicit __nv_bfloat16(T v) : __nv_bfloat16(float(v)) {}
    explicit __nv_bfloat16(__nv_bfloat16_raw v) : bits(v.x) {}
    operator float() const { return nnm_bits<float>(unsigned(bits) << 16); }
    operator __nv_bfloat16_raw() const { return {bits}; }
};
