// cuSPARSE as far as CuPy calls it for the product of a sparse and a dense array, and for sorting the
// entries of a row: loops over the entries, with sums in double.
#include "common.h"

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 3, NOT_SUPPORTED = 10 };
enum { OP_N, OP_T, OP_C };
enum { INDEX_32 = 2, INDEX_64 = 3 };
enum { R_32F = 0, R_64F = 1, C_32F = 4, C_64F = 5 };

struct Sparse {
    enum Format { CSR, CSC, COO } format;
    long rows, cols, nnz;
    const void *major, *minor;     // offsets (or rows of COO), and indices
    const void *values;
    int major_type, minor_type, type;
};
struct Dense {
    long rows, cols, ld;
    void *values;
    int type, order = 1;           // 1: columns are contiguous
};
struct SparseVector {
    long nnz;
    const void *indices;
    void *values;
    int index_type, type;
};

long index_at(const void *p, long i, int type)
{
    return type == INDEX_64 ? ((const long *)p)[i] : ((const int *)p)[i];
}

// C = alpha op(A) op(B) + beta C, entry by entry of A
template <class T> int multiply(const Sparse &a, int oa, const Dense &b, int ob, T alpha, T beta, Dense &c)
{
    auto at = [](const Dense &m, long i, long j) { return m.order == 1 ? i + j * m.ld : i * m.ld + j; };
    std::vector<wide<T>> sum(size_t(c.rows) * c.cols);
    auto add = [&](long i, long j, T v) {
        if (oa) std::swap(i, j);
        if (oa == OP_C) v = conjugate(v);
        for (long p = 0; p < c.cols; ++p) {
            T w = ((const T *)b.values)[ob ? at(b, p, j) : at(b, j, p)];
            if (ob == OP_C) w = conjugate(w);
            sum[i * c.cols + p] += wide<T>(v) * wide<T>(w);
        }
    };
    const T *v = (const T *)a.values;
    if (a.format == Sparse::COO) {
        for (long e = 0; e < a.nnz; ++e) add(index_at(a.major, e, a.major_type), index_at(a.minor, e, a.minor_type), v[e]);
    } else {
        for (long r = 0; r < (a.format == Sparse::CSR ? a.rows : a.cols); ++r)
            for (long e = index_at(a.major, r, a.major_type); e < index_at(a.major, r + 1, a.major_type); ++e) {
                const long k = index_at(a.minor, e, a.minor_type);
                a.format == Sparse::CSR ? add(r, k, v[e]) : add(k, r, v[e]);
            }
    }
    for (long i = 0; i < c.rows; ++i)
        for (long p = 0; p < c.cols; ++p) {
            T &y = ((T *)c.values)[at(c, i, p)];
            y = T(wide<T>(alpha) * sum[i * c.cols + p] + (beta == T(0) ? wide<T>(0) : wide<T>(beta) * wide<T>(y)));
        }
    return SUCCESS;
}

int product(const Sparse &a, int oa, const Dense &b, int ob, const void *alpha, const void *beta, Dense &c)
{
    Open open;
    switch (a.type) {
    case R_32F: return multiply(a, oa, b, ob, *(const float *)alpha, *(const float *)beta, c);
    case R_64F: return multiply(a, oa, b, ob, *(const double *)alpha, *(const double *)beta, c);
    case C_32F: return multiply(a, oa, b, ob, *(const c32 *)alpha, *(const c32 *)beta, c);
    case C_64F: return multiply(a, oa, b, ob, *(const c64 *)alpha, *(const c64 *)beta, c);
    }
    return NOT_SUPPORTED;
}

// Sort entries by two keys; p, if there is one, follows.
int sort_entries(int nnz, int *first, int *second, int *p)
{
    Open open;
    std::vector<std::tuple<int, int, int>> entries;
    for (int e = 0; e < nnz; ++e) entries.push_back({first[e], second[e], p ? p[e] : 0});
    std::stable_sort(entries.begin(), entries.end(), [](auto &a, auto &b) {
        return std::make_pair(std::get<0>(a), std::get<1>(a)) < std::make_pair(std::get<0>(b), std::get<1>(b));
    });
    int unused;
    for (int e = 0; e < nnz; ++e) std::tie(first[e], second[e], p ? p[e] : unused) = entries[e];
    return SUCCESS;
}

}  // namespace

extern "C" {

int cusparseCreate(void **h) { *h = new Handle; return SUCCESS; }
int cusparseDestroy(Handle *h) { delete h; return SUCCESS; }
int cusparseGetVersion(void *, int *v) { *v = 12500; return SUCCESS; }
int cusparseSetStream(Handle *h, void *s) { h->stream = s; return SUCCESS; }
int cusparseGetStream(Handle *h, void **s) { *s = h->stream; return SUCCESS; }
int cusparseSetPointerMode(Handle *h, int m) { h->pointer_mode = m; return SUCCESS; }
int cusparseGetPointerMode(Handle *h, int *m) { *m = h->pointer_mode; return SUCCESS; }
const char *cusparseGetErrorName(int) { return "CUSPARSE_STATUS_NOT_SUPPORTED"; }
const char *cusparseGetErrorString(int) { return "the emulated device has no stand-in"; }

int cusparseCreateMatDescr(void **d) { *d = new int; return SUCCESS; }
int cusparseDestroyMatDescr(void *d) { delete (int *)d; return SUCCESS; }
int cusparseSetMatType(void *, int) { return SUCCESS; }
int cusparseSetMatIndexBase(void *, int base) { return base ? NOT_SUPPORTED : SUCCESS; }
int cusparseSetMatFillMode(void *, int) { return SUCCESS; }
int cusparseSetMatDiagType(void *, int) { return SUCCESS; }

int cusparseCreateCsr(Sparse **d, long rows, long cols, long nnz, void *offsets, void *indices, void *values, int to, int ti, int, int type)
{
    *d = new Sparse{Sparse::CSR, rows, cols, nnz, offsets, indices, values, to, ti, type};
    return SUCCESS;
}
int cusparseCreateCsc(Sparse **d, long rows, long cols, long nnz, void *offsets, void *indices, void *values, int to, int ti, int, int type)
{
    *d = new Sparse{Sparse::CSC, rows, cols, nnz, offsets, indices, values, to, ti, type};
    return SUCCESS;
}
int cusparseCreateCoo(Sparse **d, long rows, long cols, long nnz, void *i, void *j, void *values, int ti, int, int type)
{
    *d = new Sparse{Sparse::COO, rows, cols, nnz, i, j, values, ti, ti, type};
    return SUCCESS;
}
int cusparseDestroySpMat(Sparse *d) { delete d; return SUCCESS; }
int cusparseCreateDnVec(Dense **d, long size, void *values, int type)
{
    *d = new Dense{size, 1, std::max(size, 1L), values, type};
    return SUCCESS;
}
int cusparseDestroyDnVec(Dense *d) { delete d; return SUCCESS; }
int cusparseCreateDnMat(Dense **d, long rows, long cols, long ld, void *values, int type, int order)
{
    *d = new Dense{rows, cols, ld, values, type, order};
    return SUCCESS;
}
int cusparseDestroyDnMat(Dense *d) { delete d; return SUCCESS; }
int cusparseCreateSpVec(SparseVector **d, long, long nnz, void *indices, void *values, int ti, int, int type)
{
    *d = new SparseVector{nnz, indices, values, ti, type};
    return SUCCESS;
}
int cusparseDestroySpVec(SparseVector *d) { delete d; return SUCCESS; }

int cusparseSpMV_bufferSize(Handle *, int, const void *, Sparse *, Dense *, const void *, Dense *, int, int, size_t *size)
{
    *size = 16;
    return SUCCESS;
}
int cusparseSpMV(Handle *, int op, const void *alpha, Sparse *a, Dense *x, const void *beta, Dense *y, int, int, void *)
{
    return product(*a, op, *x, OP_N, alpha, beta, *y);
}
int cusparseSpMM_bufferSize(Handle *, int, int, const void *, Sparse *, Dense *, const void *, Dense *, int, int, size_t *size)
{
    *size = 16;
    return SUCCESS;
}
int cusparseSpMM(Handle *, int oa, int ob, const void *alpha, Sparse *a, Dense *b, const void *beta, Dense *c, int, int, void *)
{
    return product(*a, oa, *b, ob, alpha, beta, *c);
}

int cusparseCreateIdentityPermutation(Handle *, int n, int *p)
{
    Open open;
    for (int i = 0; i < n; ++i) p[i] = i;
    return SUCCESS;
}
int cusparseXcsrsort_bufferSizeExt(Handle *, int, int, int, const int *, const int *, size_t *size)
{
    *size = 16;
    return SUCCESS;
}
int cusparseXcsrsort(Handle *, int m, int, int, void *, const int *offsets, int *indices, int *p, void *)
{
    Open open;
    for (int r = 0; r < m; ++r) {
        std::vector<std::pair<int, int>> row;
        for (int e = offsets[r]; e < offsets[r + 1]; ++e) row.push_back({indices[e], p[e]});
        std::stable_sort(row.begin(), row.end(), [](auto &a, auto &b) { return a.first < b.first; });
        for (int e = offsets[r]; e < offsets[r + 1]; ++e) std::tie(indices[e], p[e]) = row[e - offsets[r]];
    }
    return SUCCESS;
}
int cusparseXcsr2coo(Handle *, const int *offsets, int, int m, int *rows, int)
{
    Open open;
    for (int r = 0; r < m; ++r)
        for (int e = offsets[r]; e < offsets[r + 1]; ++e) rows[e] = r;
    return SUCCESS;
}
int cusparseXcoo2csr(Handle *, const int *rows, int nnz, int m, int *offsets, int)
{
    Open open;
    for (int r = 0, e = 0; r <= m; ++r) {
        while (e < nnz && rows[e] < r) ++e;
        offsets[r] = e;
    }
    return SUCCESS;
}
int cusparseXcoosort_bufferSizeExt(Handle *, int, int, int, const int *, const int *, size_t *size)
{
    *size = 16;
    return SUCCESS;
}
int cusparseXcoosortByRow(Handle *, int, int, int nnz, int *rows, int *cols, int *p, void *)
{
    return sort_entries(nnz, rows, cols, p);
}
int cusparseXcoosortByColumn(Handle *, int, int, int nnz, int *rows, int *cols, int *p, void *)
{
    return sort_entries(nnz, cols, rows, p);
}
int cusparseGather(Handle *, Dense *from, SparseVector *to)
{
    Open open;
    const size_t size = to->type == R_32F ? 4 : to->type == C_64F ? 16 : 8;
    for (long e = 0; e < to->nnz; ++e)
        memcpy((char *)to->values + e * size, (char *)from->values + index_at(to->indices, e, to->index_type) * size, size);
    return SUCCESS;
}

}  // extern "C"
