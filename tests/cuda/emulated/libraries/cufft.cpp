// cuFFT by its definition: sums of n terms for each of n results, in double, axis after axis.
//
// Layouts are those of cufftMakePlanMany: element (i0, ..., ir) of transform b is at
// ((i0 * embed[1] + i1) * embed[2] + ...) * stride + b * dist. Without embeddings the data is packed.
// As cuFFT may, a complex-to-real transform of several axes destroys its input.
#include "common.h"

namespace {

enum { SUCCESS = 0, INVALID_PLAN = 1, INVALID_VALUE = 4, NOT_SUPPORTED = 16 };
enum { C2C = 0x29, R2C = 0x2a, C2R = 0x2c, Z2Z = 0x69, D2Z = 0x6a, Z2D = 0x6c };
enum { FORWARD = -1, INVERSE = 1 };

struct Layout {
    std::vector<long> embed;
    long stride, dist;
};
struct Plan {
    std::vector<long> n;
    Layout in, out;
    int type;
    long batch;
};

std::map<int, Plan> plans;
int last;

// Transform along one axis of a packed array, in place.
void dft(std::vector<c64> &x, const std::vector<long> &shape, size_t axis, int sign)
{
    const long n = shape[axis];
    long inner = 1, outer = 1;
    for (size_t k = 0; k < axis; ++k) outer *= shape[k];
    for (size_t k = axis + 1; k < shape.size(); ++k) inner *= shape[k];
    std::vector<c64> root(n), line(n);
    for (long k = 0; k < n; ++k) {
        const long double angle = sign * 2.0L * 3.14159265358979323846264338327950288L * k / n;
        root[k] = {double(std::cos(angle)), double(std::sin(angle))};
    }
    for (long o = 0; o < outer; ++o)
        for (long i = 0; i < inner; ++i) {
            c64 *first = x.data() + o * n * inner + i;
            for (long k = 0; k < n; ++k) {
                c64 sum = 0;
                for (long j = 0; j < n; ++j) sum += first[j * inner] * root[j * k % n];
                line[k] = sum;
            }
            for (long k = 0; k < n; ++k) first[k * inner] = line[k];
        }
}

// Visit the elements of a packed array of this shape with their places in a layout.
template <class F> void visit(const std::vector<long> &shape, const Layout &layout, long b, F f)
{
    long count = 1;
    for (long s : shape) count *= s;
    for (long k = 0; k < count; ++k) {
        long rest = k, place = 0, scale = 1;
        for (size_t axis = shape.size(); axis-- > 0;) {
            place += rest % shape[axis] * scale;
            rest /= shape[axis];
            scale *= layout.embed[axis];
        }
        f(k, place * layout.stride + b * layout.dist);
    }
}

std::vector<long> halved(std::vector<long> n)
{
    n.back() = n.back() / 2 + 1;
    return n;
}

template <class R> int execute(const Plan &p, void *in, void *out, int kind, int sign)
{
    Open open;
    typedef std::complex<R> C;
    const size_t rank = p.n.size();
    const std::vector<long> half = halved(p.n);
    for (long b = 0; b < p.batch; ++b) {
        long count = 1;
        const std::vector<long> &shape = kind == C2R ? half : p.n;
        for (long s : shape) count *= s;
        std::vector<c64> x(count);
        if (kind == R2C) visit(shape, p.in, b, [&](long k, long at) { x[k] = ((const R *)in)[at]; });
        else visit(shape, p.in, b, [&](long k, long at) { x[k] = c64(((const C *)in)[at]); });
        if (kind == C2R) {
            for (size_t axis = 0; axis + 1 < rank; ++axis) dft(x, shape, axis, sign);
            // along the last axis the missing half is the conjugate of the given one
            const long n = p.n.back(), h = half.back();
            std::vector<c64> whole(count / h * n);
            for (long line = 0; line < count / h; ++line)
                for (long k = 0; k < n; ++k)
                    whole[line * n + k] = k < h ? (k == 0 || 2 * k == n ? c64(x[line * h + k].real()) : x[line * h + k])
                                                : std::conj(x[line * h + n - k]);
            dft(whole, p.n, rank - 1, sign);
            visit(p.n, p.out, b, [&](long k, long at) { ((R *)out)[at] = R(whole[k].real()); });
            if (rank > 1 && in != out)
                visit(half, p.in, b, [&](long, long at) { ((C *)in)[at] = C(R(NAN), R(NAN)); });
            continue;
        }
        for (size_t axis = 0; axis < rank; ++axis) dft(x, p.n, axis, sign);
        if (kind == C2C) visit(p.n, p.out, b, [&](long k, long at) { ((C *)out)[at] = C(x[k]); });
        else {
            const long n = p.n.back(), h = half.back();
            visit(half, p.out, b, [&](long k, long at) { ((C *)out)[at] = C(x[k / h * n + k % h]); });
        }
    }
    return SUCCESS;
}

int run(int plan, void *in, void *out, int type, int sign)
{
    const auto found = plans.find(plan);
    if (found == plans.end()) return INVALID_PLAN;
    if (found->second.type != type) return INVALID_VALUE;
    const bool twofold = type & 0x40;
    const int kind = type & ~0x40;
    return twofold ? execute<double>(found->second, in, out, kind, sign) : execute<float>(found->second, in, out, kind, sign);
}

template <class I>
int make(int plan, int rank, const I *n, const I *inembed, long istride, long idist, const I *onembed, long ostride,
         long odist, int type, long batch, size_t *work)
{
    if (!plans.count(plan) || rank < 1 || rank > 3 || batch < 1) return INVALID_VALUE;
    Plan p;
    p.n.assign(n, n + rank);
    const std::vector<long> half = halved(p.n);
    const int kind = type & ~0x40;
    auto layout = [&](const I *embed, long stride, long dist, const std::vector<long> &packed) {
        Layout made{packed, 1, 1};
        for (long s : packed) made.dist *= s;
        if (embed) made = {std::vector<long>(embed, embed + rank), stride, dist};
        return made;
    };
    p.in = layout(inembed, istride, idist, kind == C2R ? half : p.n);
    p.out = layout(onembed, ostride, odist, kind == R2C ? half : p.n);
    p.type = type;
    p.batch = batch;
    plans[plan] = p;
    *work = 0;
    return SUCCESS;
}

}  // namespace

extern "C" {

int cufftCreate(int *plan) { *plan = ++last; plans[last] = {}; return SUCCESS; }
int cufftDestroy(int plan) { return plans.erase(plan) ? SUCCESS : INVALID_PLAN; }
int cufftGetVersion(int *v) { *v = 12000; return SUCCESS; }
int cufftSetStream(int, void *) { return SUCCESS; }
int cufftSetAutoAllocation(int, int) { return SUCCESS; }
int cufftSetWorkArea(int, void *) { return SUCCESS; }

int cufftMakePlan1d(int plan, int n, int type, int batch, size_t *work)
{
    return make<int>(plan, 1, &n, nullptr, 1, 0, nullptr, 1, 0, type, batch, work);
}
int cufftMakePlanMany(int plan, int rank, int *n, int *inembed, int istride, int idist, int *onembed, int ostride,
                      int odist, int type, int batch, size_t *work)
{
    return make<int>(plan, rank, n, inembed, istride, idist, onembed, ostride, odist, type, batch, work);
}

int cufftExecC2C(int plan, void *in, void *out, int sign) { return run(plan, in, out, C2C, sign); }
int cufftExecZ2Z(int plan, void *in, void *out, int sign) { return run(plan, in, out, Z2Z, sign); }
int cufftExecR2C(int plan, void *in, void *out) { return run(plan, in, out, R2C, FORWARD); }
int cufftExecD2Z(int plan, void *in, void *out) { return run(plan, in, out, D2Z, FORWARD); }
int cufftExecC2R(int plan, void *in, void *out) { return run(plan, in, out, C2R, INVERSE); }
int cufftExecZ2D(int plan, void *in, void *out) { return run(plan, in, out, Z2D, INVERSE); }

}  // extern "C"
