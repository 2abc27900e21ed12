# The addresses of LAPACK's functions. Cython compares the C signature of each when this module is imported.
from scipy.linalg.cython_blas cimport ctrsm, dtrsm, strsm, ztrsm
from scipy.linalg.cython_lapack cimport (
    cgbsv, cgees, cgesv, cgetrf, ctrsyl, dgbsv, dgees, dgesv, dgetrf, dtrsyl, sgbsv, sgees, sgesv, sgetrf, strsyl,
    zgbsv, zgees, zgesv, zgetrf, ztrsyl,
)

ctypedef void (*lapack_trsm)(char *, char *, char *, char *, int *, int *, void *, void *, int *, void *,
                             int *) noexcept nogil
ctypedef void (*lapack_getrf)(int *, int *, void *, int *, int *, int *) noexcept nogil
ctypedef void (*lapack_gesv)(int *, int *, void *, int *, int *, void *, int *, int *) noexcept nogil
ctypedef void (*lapack_gbsv)(int *, int *, int *, int *, void *, int *, int *, void *, int *, int *) noexcept nogil
ctypedef void (*lapack_gees_real)(char *, char *, void *, int *, void *, int *, int *, void *, void *, void *,
                                  int *, void *, int *, void *, int *) noexcept nogil
ctypedef void (*lapack_gees_complex)(char *, char *, void *, int *, void *, int *, int *, void *, void *,
                                     int *, void *, int *, void *, void *, int *) noexcept nogil
ctypedef void (*lapack_trsyl)(char *, char *, int *, int *, int *, void *, int *, void *, int *, void *, int *,
                              void *, int *) noexcept nogil

cdef extern from "plan/lapack.h":
    ctypedef struct lapack_table "nnm_lapack_table":
        lapack_trsm trsm[4]
        lapack_getrf getrf[4]
        lapack_gesv gesv[4]
        lapack_gbsv gbsv[4]
        lapack_gees_real gees_real[2]
        lapack_gees_complex gees_complex[2]
        lapack_trsyl trsyl[4]
    lapack_table lapack "nnm_lapack"

lapack.trsm[0], lapack.trsm[1] = <lapack_trsm>strsm, <lapack_trsm>dtrsm
lapack.trsm[2], lapack.trsm[3] = <lapack_trsm>ctrsm, <lapack_trsm>ztrsm
lapack.getrf[0], lapack.getrf[1] = <lapack_getrf>sgetrf, <lapack_getrf>dgetrf
lapack.getrf[2], lapack.getrf[3] = <lapack_getrf>cgetrf, <lapack_getrf>zgetrf
lapack.gesv[0], lapack.gesv[1] = <lapack_gesv>sgesv, <lapack_gesv>dgesv
lapack.gesv[2], lapack.gesv[3] = <lapack_gesv>cgesv, <lapack_gesv>zgesv
lapack.gbsv[0], lapack.gbsv[1] = <lapack_gbsv>sgbsv, <lapack_gbsv>dgbsv
lapack.gbsv[2], lapack.gbsv[3] = <lapack_gbsv>cgbsv, <lapack_gbsv>zgbsv
lapack.gees_real[0], lapack.gees_real[1] = <lapack_gees_real>sgees, <lapack_gees_real>dgees
lapack.gees_complex[0], lapack.gees_complex[1] = <lapack_gees_complex>cgees, <lapack_gees_complex>zgees
lapack.trsyl[0], lapack.trsyl[1] = <lapack_trsyl>strsyl, <lapack_trsyl>dtrsyl
lapack.trsyl[2], lapack.trsyl[3] = <lapack_trsyl>ctrsyl, <lapack_trsyl>ztrsyl
