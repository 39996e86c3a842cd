//! cuBLAS: matrix products, with the checks that the library makes and those that it leaves to the hardware.
//!
//! Scalars are on the host. Types that the documentation of cublasGemmEx does not list together are refused.

#include "driver.h"
#include "gemm.h"

#include <cstdio>
#include <mutex>
#include <set>

using cublasStatus = int;

enum : cublasStatus {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_NOT_SUPPORTED = 15,
};

struct Handle {
    int device;
    CUstream stream;
    int math_mode;
};

namespace {

using emulator::Factor;
using emulator::Product;
using emulator::Rounding;
using emulator::Type;

constexpr int MATH_MODE_TF32 = 3;
constexpr int OPERATION_NONE = 0, OPERATION_CONJUGATE_TRANSPOSE = 2;
constexpr int COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_64F = 70, COMPUTE_64F_PEDANTIC = 71;
constexpr int COMPUTE_32F_FAST_TF32 = 77;
constexpr int F32 = int(Type::F32), F64 = int(Type::F64), BF16 = int(Type::BF16);

std::mutex mutex;  // products share their buffers
std::set<Handle*> handles;

/// What all calls have in common.
struct Call {
    const char* function;
    Handle* handle;
    int transpose_a, transpose_b, m, n, k;
    const void* alpha;
    int type_a, lda, type_b, ldb;
    const void* beta;
    int type_c, ldc, batch, compute;
};

size_t bytes_of(int type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }

/// Whether the library multiplies these types.
bool is_supported(const Call& call) {
    if (call.type_a != call.type_b) return false;
    switch (call.compute) {
        case COMPUTE_64F: case COMPUTE_64F_PEDANTIC: return call.type_a == F64 && call.type_c == F64;
        case COMPUTE_32F_FAST_TF32: return call.type_a == F32 && call.type_c == F32;
        case COMPUTE_32F: case COMPUTE_32F_PEDANTIC:
            if (call.type_a == F32) return call.type_c == F32;
            return call.type_a == BF16 && (call.type_c == F32 || call.type_c == BF16);
        default: return false;
    }
}

cublasStatus refuse(const Call& call, cublasStatus status, const char* why) {
    fprintf(stderr, "cuda emulator: %s refused: %s\n", call.function, why);
    return status;
}

/// Columns are `stride` apart: the elements from the first to the last.
size_t extent(int64_t rows, int64_t columns, int64_t stride, int type) {
    return rows == 0 || columns == 0 ? 0 : size_t((columns - 1) * stride + rows) * bytes_of(type);
}

cublasStatus check(const Call& call) {
    {
        std::lock_guard<std::mutex> guard(mutex);
        if (handles.count(call.handle) == 0) return refuse(call, CUBLAS_STATUS_NOT_INITIALIZED, "no such handle");
    }
    emulator::check_stream(call.function, call.handle->stream);
    // Where none is current the runtime library takes device 0.
    int device = std::max(emulator::current_device(), 0);
    if (device != call.handle->device) {
        emulator::fail(call.function, "the device that is current in this thread is not the handle's");
    }
    if (call.m < 0 || call.n < 0 || call.k < 0 || call.batch < 0) {
        return refuse(call, CUBLAS_STATUS_INVALID_VALUE, "a size is negative");
    }
    for (int operation : {call.transpose_a, call.transpose_b}) {
        if (operation < OPERATION_NONE || operation > OPERATION_CONJUGATE_TRANSPOSE) {
            return refuse(call, CUBLAS_STATUS_INVALID_VALUE, "an operation is none of N, T, C");
        }
    }
    if (call.lda < std::max(1, call.transpose_a ? call.k : call.m) ||
        call.ldb < std::max(1, call.transpose_b ? call.n : call.k) || call.ldc < std::max(1, call.m)) {
        return refuse(call, CUBLAS_STATUS_INVALID_VALUE, "columns overlap: lda, ldb or ldc is too small");
    }
    if (call.alpha == nullptr || call.beta == nullptr) {
        return refuse(call, CUBLAS_STATUS_INVALID_VALUE, "alpha or beta is null");
    }
    if (!is_supported(call)) {
        return refuse(call, CUBLAS_STATUS_NOT_SUPPORTED, "these types are not multiplied, or are not emulated");
    }
    return CUBLAS_STATUS_SUCCESS;
}

double scalar(const Call& call, const void* address) {
    bool is_double = call.compute == COMPUTE_64F || call.compute == COMPUTE_64F_PEDANTIC;
    return is_double ? *static_cast<const double*>(address) : double(*static_cast<const float*>(address));
}

void check_operand(const Call& call, const char* name, const void* address, size_t bytes, int type) {
    emulator::check_device(call.function, name, address, bytes);
    if (bytes > 0 && reinterpret_cast<uintptr_t>(address) % bytes_of(type) != 0) {
        emulator::fail(call.function, std::string(name) + " is not aligned to its elements");
    }
}

/// One product; the operands' places are checked here.
void multiply(const Call& call, const void* a, const void* b, void* c) {
    Product product{call.m, call.n, call.k, scalar(call, call.alpha), scalar(call, call.beta),
                    Type(call.type_a), Type(call.type_c), Rounding::None};
    bool tf32 = call.compute == COMPUTE_32F_FAST_TF32 ||
                (call.compute == COMPUTE_32F && call.handle->math_mode == MATH_MODE_TF32);
    if (tf32 && call.type_a == F32) product.rounding = Rounding::Tf32;
    if (product.scale != 0) {
        size_t bytes_a = call.transpose_a ? extent(call.k, call.m, call.lda, call.type_a)
                                          : extent(call.m, call.k, call.lda, call.type_a);
        size_t bytes_b = call.transpose_b ? extent(call.n, call.k, call.ldb, call.type_b)
                                          : extent(call.k, call.n, call.ldb, call.type_b);
        check_operand(call, "A", a, bytes_a, call.type_a);
        check_operand(call, "B", b, bytes_b, call.type_b);
    }
    check_operand(call, "C", c, extent(call.m, call.n, call.ldc, call.type_c), call.type_c);
    std::lock_guard<std::mutex> guard(mutex);
    product.compute({a, call.lda, call.transpose_a != 0}, {b, call.ldb, call.transpose_b != 0}, c, call.ldc);
}

void trace(const Call& call) {
    if (!emulator::traces()) return;
    fprintf(stderr, "cuda emulator: %s %c%c %d x %d x %d, types %d to %d, batch %d, compute %d\n", call.function,
            call.transpose_a ? 'T' : 'N', call.transpose_b ? 'T' : 'N', call.m, call.n, call.k, call.type_a,
            call.type_c, call.batch, call.compute);
}

const void* offset(const void* address, int64_t elements, int type) {
    return static_cast<const char*>(address) + elements * int64_t(bytes_of(type));
}

cublasStatus strided(const Call& call, const void* a, long long stride_a, const void* b, long long stride_b, void* c,
                     long long stride_c) {
    if (cublasStatus status = check(call)) return status;
    trace(call);
    for (int i = 0; i < call.batch; ++i) {
        void* result = const_cast<void*>(offset(c, i * stride_c, call.type_c));
        multiply(call, offset(a, i * stride_a, call.type_a), offset(b, i * stride_b, call.type_b), result);
    }
    return CUBLAS_STATUS_SUCCESS;
}

/// The arrays of addresses are in device memory too.
cublasStatus batched(const Call& call, const void* const* a, const void* const* b, void* const* c) {
    if (cublasStatus status = check(call)) return status;
    trace(call);
    if (call.m == 0 || call.n == 0) return CUBLAS_STATUS_SUCCESS;
    size_t bytes = size_t(call.batch) * sizeof(void*);
    emulator::check_device(call.function, "the array of the addresses of A", a, bytes);
    emulator::check_device(call.function, "the array of the addresses of B", b, bytes);
    emulator::check_device(call.function, "the array of the addresses of C", c, bytes);
    for (int i = 0; i < call.batch; ++i) multiply(call, a[i], b[i], c[i]);
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

API cublasStatus cublasCreate_v2(Handle** handle) {
    *handle = new Handle{std::max(emulator::current_device(), 0), nullptr, 0};
    std::lock_guard<std::mutex> guard(mutex);
    handles.insert(*handle);
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasDestroy_v2(Handle* handle) {
    std::lock_guard<std::mutex> guard(mutex);
    if (handles.erase(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasSetStream_v2(Handle* handle, CUstream stream) {
    emulator::check_stream(__func__, stream);
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasGetStream_v2(Handle* handle, CUstream* stream) {
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasSetWorkspace_v2(Handle*, void* workspace, size_t bytes) {
    emulator::check_device(__func__, "the workspace", workspace, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasSetMathMode(Handle* handle, int mode) {
    handle->math_mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasGetMathMode(Handle* handle, int* mode) {
    *mode = handle->math_mode;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasSetPointerMode_v2(Handle*, int mode) {
    if (mode != 0) emulator::not_emulated("cublasSetPointerMode_v2 with scalars on the device");
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasGetPointerMode_v2(Handle*, int* mode) {
    *mode = 0;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasGetVersion_v2(Handle*, int* version) {
    *version = 130100;
    return CUBLAS_STATUS_SUCCESS;
}

API cublasStatus cublasGemmStridedBatchedEx(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k,
                                            const void* alpha, const void* a, int type_a, int lda, long long stride_a,
                                            const void* b, int type_b, int ldb, long long stride_b, const void* beta,
                                            void* c, int type_c, int ldc, long long stride_c, int batch, int compute,
                                            int) {
    Call call{__func__, handle, transpose_a, transpose_b, m, n, k, alpha, type_a, lda, type_b, ldb, beta, type_c, ldc,
              batch, compute};
    return strided(call, a, stride_a, b, stride_b, c, stride_c);
}

API cublasStatus cublasGemmEx(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha,
                              const void* a, int type_a, int lda, const void* b, int type_b, int ldb, const void* beta,
                              void* c, int type_c, int ldc, int compute, int) {
    Call call{__func__, handle, transpose_a, transpose_b, m, n, k, alpha, type_a, lda, type_b, ldb, beta, type_c, ldc,
              1, compute};
    return strided(call, a, 0, b, 0, c, 0);
}

API cublasStatus cublasGemmBatchedEx(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k,
                                     const void* alpha, const void* const* a, int type_a, int lda, const void* const* b,
                                     int type_b, int ldb, const void* beta, void* const* c, int type_c, int ldc,
                                     int batch, int compute, int) {
    Call call{__func__, handle, transpose_a, transpose_b, m, n, k, alpha, type_a, lda, type_b, ldb, beta, type_c, ldc,
              batch, compute};
    return batched(call, a, b, c);
}

#define GEMM(letter, T, TYPE, COMPUTE)                                                                                 \
    API cublasStatus cublas##letter##gemm_v2(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k,    \
                                             const T* alpha, const T* a, int lda, const T* b, int ldb, const T* beta,  \
                                             T* c, int ldc) {                                                          \
        Call call{__func__, handle, transpose_a, transpose_b, m, n, k, alpha, TYPE, lda, TYPE, ldb, beta, TYPE, ldc,   \
                  1, COMPUTE};                                                                                         \
        return strided(call, a, 0, b, 0, c, 0);                                                                        \
    }                                                                                                                  \
    API cublasStatus cublas##letter##gemmStridedBatched(                                                               \
        Handle* handle, int transpose_a, int transpose_b, int m, int n, int k, const T* alpha, const T* a, int lda,    \
        long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c, int ldc, long long stride_c, \
        int batch) {                                                                                                   \
        Call call{__func__, handle, transpose_a, transpose_b, m, n, k, alpha, TYPE, lda, TYPE, ldb, beta, TYPE, ldc,   \
                  batch, COMPUTE};                                                                                     \
        return strided(call, a, stride_a, b, stride_b, c, stride_c);                                                   \
    }                                                                                                                  \
    API cublasStatus cublas##letter##gemmBatched(Handle* handle, int transpose_a, int transpose_b, int m, int n,       \
                                                 int k, const T* alpha, const T* const* a, int lda,                    \
                                                 const T* const* b, int ldb, const T* beta, T* const* c, int ldc,      \
                                                 int batch) {                                                          \
        Call call{__func__, handle, transpose_a, transpose_b, m, n, k, alpha, TYPE, lda, TYPE, ldb, beta, TYPE, ldc,   \
                  batch, COMPUTE};                                                                                     \
        return batched(call, reinterpret_cast<const void* const*>(a), reinterpret_cast<const void* const*>(b),         \
                       reinterpret_cast<void* const*>(c));                                                             \
    }
GEMM(S, float, F32, COMPUTE_32F)
GEMM(D, double, F64, COMPUTE_64F)

API const char* cublasGetStatusString(cublasStatus status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "success";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
        case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality requested is not supported";
        default: return "unknown status";
    }
}

#define NOT_EMULATED(name) \
    API void name() { emulator::not_emulated(#name); }

NOT_EMULATED(cublasDasum_v2)
NOT_EMULATED(cublasDgemv_v2)
NOT_EMULATED(cublasGemmGroupedBatchedEx)
NOT_EMULATED(cublasHgemm)
NOT_EMULATED(cublasHgemmStridedBatched)
NOT_EMULATED(cublasSasum_v2)
NOT_EMULATED(cublasSgemv_v2)
NOT_EMULATED(cublasLtCreate)
NOT_EMULATED(cublasLtDestroy)
NOT_EMULATED(cublasLtMatmul)
NOT_EMULATED(cublasLtMatmulAlgoGetHeuristic)
NOT_EMULATED(cublasLtMatmulDescCreate)
NOT_EMULATED(cublasLtMatmulDescDestroy)
NOT_EMULATED(cublasLtMatmulDescSetAttribute)
NOT_EMULATED(cublasLtMatmulPreferenceCreate)
NOT_EMULATED(cublasLtMatmulPreferenceDestroy)
NOT_EMULATED(cublasLtMatmulPreferenceSetAttribute)
NOT_EMULATED(cublasLtMatrixLayoutCreate)
NOT_EMULATED(cublasLtMatrixLayoutDestroy)
NOT_EMULATED(cublasLtMatrixLayoutSetAttribute)
