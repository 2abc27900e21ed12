// What the stand-ins for NVIDIA's libraries share: handles, the gate, LAPACK, element types.
//
// Matrices are column-major, as in BLAS. Every entry point that touches arrays holds an Open, which
// makes device memory accessible while it lives. LAPACK is SciPy's: Python hands over the addresses
// of its routines (libraries/__init__.py), here called with Fortran's arguments.
#pragma once
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

typedef std::complex<float> c32;
typedef std::complex<double> c64;

static int (*nnm_gate)(int);
static std::map<std::string, void *> nnm_routines;

extern "C" void nnm_set_gate(int (*gate)(int)) { nnm_gate = gate; }
extern "C" void nnm_set_routine(const char *name, void *address) { nnm_routines[name] = address; }

// How often arrays were touched since the last time it was asked.
static long nnm_count;
extern "C" long nnm_entries(void) { const long n = nnm_count; nnm_count = 0; return n; }

struct Open {
    Open() { ++nnm_count; nnm_gate(1); }
    ~Open() { nnm_gate(0); }
};

struct Handle { void *stream = nullptr; int pointer_mode = 0, math_mode = 0; };

template <class T> struct Real { typedef T type; };
template <class T> struct Real<std::complex<T>> { typedef T type; };
template <class T> using real_of = typename Real<T>::type;
template <class T> constexpr bool is_complex = !std::is_same_v<T, real_of<T>>;
template <class T> constexpr char letter = std::is_same_v<T, float> ? 's' : std::is_same_v<T, double> ? 'd'
                                         : std::is_same_v<T, c32> ? 'c' : 'z';

template <class T> T conjugate(T v)
{
    if constexpr (is_complex<T>) return std::conj(v);
    else return v;
}
// Sums are kept in double, whatever the elements are.
template <class T> using wide = std::conditional_t<is_complex<T>, c64, double>;

// Call the LAPACK routine of a type: lapack<float>("potrf", &uplo, &n, a, &lda, &info).
template <class T, class... A> void lapack(const char *name, A... arguments)
{
    void *found = nnm_routines[letter<T> + std::string(name)];
    if (!found) {
        fprintf(stderr, "the emulated device was not given LAPACK's %c%s\n", letter<T>, name);
        abort();
    }
    ((void (*)(A...))found)(arguments...);
}
