/* A TEST DOUBLE of the CUDA runtime, not CUDA: device memory is host memory, work runs at once in the caller.
 *
 * What the tests need of the behaviour: errors without a driver or memory, streams that record graphs and replay them,
 * and leaks that can be counted. The environment says what the device is. Signatures as in cuda_runtime_api.h.
 */
#include <stdlib.h>
#include <string.h>

typedef struct {
    int kind; /* 0 copy, 1 callback */
    void *to;
    const void *from;
    size_t size;
    void (*call)(void *);
    void *argument;
} Step;

typedef struct {
    int capturing;
    int count;
    Step steps[256];
} Stream;

static long live = 0;
static int last_error = 0;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int failed(int code) {
    last_error = code;
    return code;
}

long double_live(void) { return live; }

int cudaGetDeviceCount(int *count) {
    *count = (int)number("DOUBLE_CUDA_DEVICES", 1);
    return number("DOUBLE_CUDA_DRIVER", 12060) ? 0 : failed(35); /* cudaErrorInsufficientDriver */
}
int cudaDriverGetVersion(int *version) { *version = (int)number("DOUBLE_CUDA_DRIVER", 12060); return 0; }
int cudaRuntimeGetVersion(int *version) { *version = (int)number("DOUBLE_CUDA_RUNTIME", 12060); return 0; }
int cudaGetDeviceProperties(char *properties, int device) {
    const char *name = getenv("DOUBLE_CUDA_NAME");
    (void)device;
    memset(properties, 0, 1024);
    strncpy(properties, name ? name : "Orin (test double)", 255);
    return 0;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    long sm = number("DOUBLE_CUDA_SM", 87);
    (void)device;
    *value = (int)(attribute == 75 ? sm / 10 : sm % 10);
    return 0;
}
int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *free_bytes = (size_t)number("DOUBLE_CUDA_FREE", 4000000000L);
    *total = 8000000000UL;
    return 0;
}
static int take(void **address, size_t size) {
    if ((long)size > number("DOUBLE_CUDA_LARGEST", 1L << 40)) return failed(2); /* cudaErrorMemoryAllocation */
    *address = malloc(size);
    live += 1;
    return 0;
}
static int give(void *address) {
    free(address);
    live -= 1;
    return 0;
}
int cudaMalloc(void **address, size_t size) { return take(address, size); }
int cudaMallocHost(void **address, size_t size) { return take(address, size); }
int cudaFree(void *address) { return give(address); }
int cudaFreeHost(void *address) { return give(address); }
int cudaStreamCreate(void **stream) {
    *stream = calloc(1, sizeof(Stream));
    live += 1;
    return 0;
}
int cudaStreamDestroy(void *stream) { return give(stream); }
int cudaStreamSynchronize(void *stream) { return ((Stream *)stream)->capturing ? failed(900) : 0; }

static int issue(Stream *stream, Step step) {
    if (stream->capturing) {
        stream->steps[stream->count++] = step;
    } else if (step.kind == 0) {
        memcpy(step.to, step.from, step.size);
    } else {
        step.call(step.argument);
    }
    return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    Step step = {0, to, from, size, 0, 0};
    if (kind != 1 && kind != 2) return failed(21); /* cudaErrorInvalidMemcpyDirection */
    return issue(stream, step);
}
/* What the TensorRT double calls to put its engine's work on a stream. */
int double_enqueue(void *stream, void (*call)(void *), void *argument) {
    Step step = {1, 0, 0, 0, call, argument};
    return issue(stream, step);
}
int cudaStreamBeginCapture(void *stream, int mode) {
    (void)mode;
    if (number("DOUBLE_CUDA_NO_CAPTURE", 0)) return failed(900); /* cudaErrorStreamCaptureUnsupported */
    ((Stream *)stream)->capturing = 1;
    ((Stream *)stream)->count = 0;
    return 0;
}
int cudaStreamEndCapture(void *stream, void **graph) {
    Stream *recorded = stream;
    Stream *copy;
    if (!recorded->capturing) return failed(901);
    recorded->capturing = 0;
    if (number("DOUBLE_CUDA_BAD_CAPTURE", 0)) return failed(901); /* cudaErrorStreamCaptureInvalidated */
    copy = malloc(sizeof(Stream));
    memcpy(copy, recorded, sizeof(Stream));
    *graph = copy;
    live += 1;
    return 0;
}
int cudaGraphInstantiateWithFlags(void **launchable, void *graph, unsigned long long flags) {
    (void)flags;
    *launchable = malloc(sizeof(Stream));
    memcpy(*launchable, graph, sizeof(Stream));
    live += 1;
    return 0;
}
int cudaGraphLaunch(void *launchable, void *stream) {
    Stream *graph = launchable;
    int i;
    for (i = 0; i < graph->count; i++) issue(stream, graph->steps[i]);
    return 0;
}
int cudaGraphDestroy(void *graph) { return give(graph); }
int cudaGraphExecDestroy(void *launchable) { return give(launchable); }
int cudaGetLastError(void) {
    int code = last_error;
    last_error = 0;
    return code;
}
const char *cudaGetErrorString(int code) {
    switch (code) {
    case 0: return "no error";
    case 2: return "out of memory";
    case 35: return "CUDA driver version is insufficient for CUDA runtime version";
    case 900: return "operation not permitted when stream is capturing";
    case 901: return "operation failed due to a previous error during capture";
    default: return "some error";
    }
}
