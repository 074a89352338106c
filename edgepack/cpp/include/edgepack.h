/* libedgepack: opens edgepack's bundles and runs them, from C and whatever calls C.
 *
 * Every byte of a bundle is checked before an engine sees one, by the rules of edgepack's own loader and with its words.
 * The engine (ONNX Runtime, OpenVINO, or the TVM runtime that a bundle brings) is a shared library of this machine,
 * loaded when a bundle needs it.
 *
 * Errors: functions return a status, EDGEPACK_OK or another; edgepack_message() and edgepack_hint() are then what
 * happened and what to do, for the thread that called. No function ends the process or prints.
 *
 * Threads: different handles may be used by different threads at once. One handle is for one thread at a time: a model
 * that is called while it runs refuses with EDGEPACK_CONFIG_ERROR. edgepack_another() gives a second handle of the same
 * loaded model, which shares its weights, for another thread.
 */
#ifndef EDGEPACK_H_
#define EDGEPACK_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEPACK_API __attribute__((visibility("default")))

/* The kinds of edgepack's errors; edgepack_exit_code() is what its programs end with. */
typedef enum {
  EDGEPACK_OK = 0,
  EDGEPACK_ERROR = 1,               /* something else went wrong */
  EDGEPACK_CONFIG_ERROR = 2,        /* an option or a setting of this device is wrong */
  EDGEPACK_DATA_ERROR = 3,          /* the inputs given cannot be used */
  EDGEPACK_BUNDLE_ERROR = 4,        /* not a bundle, or of a format that this version does not read */
  EDGEPACK_TOOLCHAIN_ERROR = 5,     /* an engine is not installed or too old, or the machine is another one */
  EDGEPACK_COMPILE_ERROR = 6,       /* the engine refused the model */
  EDGEPACK_VERIFICATION_ERROR = 7,  /* the outputs are not those of the model */
  EDGEPACK_INTEGRITY_ERROR = 8,     /* the contents of a bundle do not match its manifest */
  EDGEPACK_TRUST_ERROR = 9,         /* the policy of this device does not let the bundle in */
  EDGEPACK_STORAGE_ERROR = 10       /* a file cannot be read or written */
} edgepack_status;

typedef enum {
  EDGEPACK_BOOL,
  EDGEPACK_INT8,
  EDGEPACK_INT16,
  EDGEPACK_INT32,
  EDGEPACK_INT64,
  EDGEPACK_UINT8,
  EDGEPACK_UINT16,
  EDGEPACK_UINT32,
  EDGEPACK_UINT64,
  EDGEPACK_FLOAT16,
  EDGEPACK_FLOAT32,
  EDGEPACK_FLOAT64
} edgepack_dtype;

typedef struct edgepack_bundle edgepack_bundle;
typedef struct edgepack_model edgepack_model;
typedef struct edgepack_verification edgepack_verification;

/* What a model takes or gives. An extent that is free is -1, and dimensions[axis] is its name; else that is NULL.
   ndim is -1 where not even the number of axes is known. */
typedef struct {
  const char* name;
  edgepack_dtype dtype;
  int ndim;
  const int64_t* shape;
  const char* const* dimensions;
} edgepack_tensor_info;

/* Numbers in C order, in this machine's byte order. bytes is the size of data. */
typedef struct {
  const char* name;
  edgepack_dtype dtype;
  int ndim;
  const int64_t* shape;
  const void* data;
  size_t bytes;
} edgepack_tensor;

/* How to load. Set size = sizeof(edgepack_options) and the rest to zero for the defaults. */
typedef struct {
  size_t size;
  int threads;        /* 0: the engine's own choice */
  int batch;          /* how many samples most calls have; 0 is 1. OpenVINO is loaded for this batch, and for others too */
  int allow_native;   /* machine code in a bundle: 1 may run, -1 may not, 0 as the settings of this device say */
  const char* engine; /* only this one of the bundle's payloads ("onnxruntime"); NULL: in its order of preference */
} edgepack_options;

/* How far one output is from the fp32 model's. Figures that have no meaning for it are NaN. */
typedef struct {
  const char* name;
  const char* way;  /* "" for the engine that is preferred, else which other one, or how it was loaded */
  int batch;        /* how many samples were run at once */
  int passed;
  double sqnr_db;
  double least_sqnr_db;
  double cosine;
  double max_abs;
  double mismatch;
  int64_t nonfinite;
  const char* note; /* "" for none */
} edgepack_distance;

/* --- errors and versions --- */

EDGEPACK_API const char* edgepack_version(void); /* "0.1.0" */
EDGEPACK_API const char* edgepack_message(void); /* of the last call in this thread that failed */
EDGEPACK_API const char* edgepack_hint(void);
EDGEPACK_API const char* edgepack_status_name(edgepack_status status); /* "IntegrityError" */
EDGEPACK_API int edgepack_exit_code(edgepack_status status);
EDGEPACK_API const char* edgepack_dtype_name(edgepack_dtype dtype); /* "float32" */
EDGEPACK_API size_t edgepack_dtype_bytes(edgepack_dtype dtype);

/* --- bundles --- */

/* Checks a bundle from its first byte to its last. The policy of this device is asked when it is loaded. */
EDGEPACK_API edgepack_status edgepack_open(const char* path, edgepack_bundle** out);
EDGEPACK_API void edgepack_close(edgepack_bundle* bundle);

EDGEPACK_API const char* edgepack_name(const edgepack_bundle* bundle);
EDGEPACK_API const char* edgepack_bundle_version(const edgepack_bundle* bundle);
EDGEPACK_API const char* edgepack_target(const edgepack_bundle* bundle);
EDGEPACK_API const char* edgepack_precision(const edgepack_bundle* bundle);
EDGEPACK_API const char* edgepack_manifest_sha256(const edgepack_bundle* bundle); /* identifies the contents */
EDGEPACK_API const char* edgepack_manifest_json(const edgepack_bundle* bundle);   /* the whole table of contents */
EDGEPACK_API size_t edgepack_class_count(const edgepack_bundle* bundle);
EDGEPACK_API const char* edgepack_class(const edgepack_bundle* bundle, size_t index); /* NULL beyond the last */
EDGEPACK_API size_t edgepack_input_count(const edgepack_bundle* bundle);
EDGEPACK_API size_t edgepack_output_count(const edgepack_bundle* bundle);
EDGEPACK_API const edgepack_tensor_info* edgepack_input(const edgepack_bundle* bundle, size_t index);
EDGEPACK_API const edgepack_tensor_info* edgepack_output(const edgepack_bundle* bundle, size_t index);

/* --- models --- */

/* Loads the first payload that this machine can run. The bundle may be closed afterwards. options may be NULL. */
EDGEPACK_API edgepack_status edgepack_load(edgepack_bundle* bundle, const edgepack_options* options,
                                           edgepack_model** out);
EDGEPACK_API edgepack_status edgepack_another(edgepack_model* model, edgepack_model** out);
EDGEPACK_API void edgepack_unload(edgepack_model* model);

EDGEPACK_API const char* edgepack_engine(const edgepack_model* model);         /* "onnxruntime" */
EDGEPACK_API const char* edgepack_engine_version(const edgepack_model* model); /* "1.31.1"; "" where it is unknown */
EDGEPACK_API const char* edgepack_notes(const edgepack_model* model); /* lines: engines passed over, and why; "" for none */

/* Computes the outputs, in the order of edgepack_output(). inputs are given by name, each once. What outputs point to is
   the model's, and valid until the next call with this handle. */
EDGEPACK_API edgepack_status edgepack_run(edgepack_model* model, const edgepack_tensor* inputs, size_t input_count,
                                          edgepack_tensor* outputs, size_t output_count);

/* --- verification --- */

/* Runs the bundle's golden vectors and compares the outputs with the fp32 model's: on the engine that is preferred here,
   and on the others that stand in for it. EDGEPACK_OK says that it was done; edgepack_passed() how it ended. */
EDGEPACK_API edgepack_status edgepack_verify(edgepack_bundle* bundle, const edgepack_options* options,
                                             edgepack_verification** out);
EDGEPACK_API void edgepack_free_verification(edgepack_verification* verification);
EDGEPACK_API int edgepack_passed(const edgepack_verification* verification);
EDGEPACK_API size_t edgepack_samples(const edgepack_verification* verification);
EDGEPACK_API const char* edgepack_verified_by(const edgepack_verification* verification); /* the engine */
EDGEPACK_API const char* edgepack_verification_note(const edgepack_verification* verification); /* "" for none */
EDGEPACK_API size_t edgepack_distance_count(const edgepack_verification* verification);
EDGEPACK_API const edgepack_distance* edgepack_distance_at(const edgepack_verification* verification, size_t index);

#ifdef __cplusplus
}
#endif

#endif /* EDGEPACK_H_ */
