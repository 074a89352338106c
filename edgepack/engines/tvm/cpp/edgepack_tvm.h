// Runs a model compiled by edgepack for TVM: one header, the C library and dlopen, no exceptions, no Python.
//
//   edgepack::Model model;
//   if (!model.load("folder")) { puts(model.error()); return 1; }
//   memcpy(model.input(0).data, pixels, model.input(0).bytes);
//   if (!model.run()) { puts(model.error()); return 1; }
//   const float* scores = (const float*)model.output(0).data;   // valid until the next run
//
// "folder" holds model.so, interface.txt, libtvm_ffi.so and libtvm_runtime.so. A batch is run sample by sample; a model
// whose batch() is "free" takes any extents that are -1 in its inputs: give them by resize(). The structures are those of
// tvm/ffi/c_api.h (apache-tvm-ffi 0.1) and dlpack/dlpack.h. A model is for one thread.

#ifndef EDGEPACK_TVM_H_
#define EDGEPACK_TVM_H_

#include <dlfcn.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace edgepack {

// One input or output. An extent of an output that the model decides while running is -1 before the first run, and so
// is one of an input that is free, before resize().
struct Tensor {
  char name[256];
  char dtype[16];
  int64_t shape[32];
  int ndim;
  size_t bytes;
  void* data;
};

namespace detail {

struct Any {
  int32_t type_index;
  uint32_t padding;
  union {
    int64_t integer;
    void* pointer;
    const char* text;
  };
};
struct Bytes {
  const char* data;
  size_t size;
};
struct Sequence {
  Any* data;
  int64_t size;
};
struct DLTensor {
  void* data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DLManaged {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManaged*);
};

enum { kInt = 1, kBool = 2, kText = 8, kFunction = 68, kTensor = 70, kArray = 71, kFirstObject = 64 };
enum { kHeaderBytes = 24, kAlignment = 64, kCpu = 1, kPooled = 2, kBigCores = 1 };

inline const char* at(void* object) { return static_cast<const char*>(object) + kHeaderBytes; }

}  // namespace detail

class Model {
 public:
  Model() { error_[0] = 0; }
  ~Model() { close(); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Loads the folder; threads 0 takes what interface.txt says, but no more than there are cores, or one for each core
  // where that says 0.
  bool load(const char* folder, int threads = 0) {
    close();
    if (!read_interface(folder)) return false;
    if (threads <= 0) threads = threads_ < cores() ? threads_ : cores();
    if (threads > 0) {
      char number[16];
      snprintf(number, sizeof number, "%d", threads);
      setenv("TVM_NUM_THREADS", number, 1);
    }
    setenv("TVM_BIND_THREADS", "0", 0);
    setenv("TVM_THREAD_POOL_SPIN_COUNT", "2000", 0);  // else a core burns for tenths of a second after every run
    void* ffi = open(folder, "libtvm_ffi.so");
    if (!ffi || !open(folder, "libtvm_runtime.so")) return false;
    if (!symbol(ffi, "TVMFFIFunctionGetGlobal", &get_global_) || !symbol(ffi, "TVMFFIFunctionCall", &call_) ||
        !symbol(ffi, "TVMFFIObjectDecRef", &release_) || !symbol(ffi, "TVMFFIErrorMoveFromRaised", &raised_) ||
        !symbol(ffi, "TVMFFITensorFromDLPack", &from_dlpack_))
      return false;
    return start(folder) && make_inputs();
  }

  // Computes the outputs from the inputs.
  bool run() {
    for (int i = 0; i < inputs_count_; ++i)
      if (!arguments_[i].pointer) return fail("the input %s has no shape yet", tensors_[i].name);
    detail::Any result = {};
    if (!call(main_, arguments_, inputs_count_, &result)) return false;
    if (result_.type_index >= detail::kFirstObject) release_(result_.pointer);
    result_ = result;
    return read_outputs();
  }

  // Gives an input its extents, where interface.txt leaves some free; its numbers are zero afterwards.
  bool resize(int index, const int64_t* shape) {
    Tensor& tensor = tensors_[index];
    for (int axis = 0; axis < tensor.ndim; ++axis)
      if (shape[axis] < 0 || (!free_batch() && shape[axis] != tensor.shape[axis]))
        return fail("the input %s does not take this shape", tensor.name);
    size_t bytes = width(tensor.dtype);
    for (int axis = 0; axis < tensor.ndim; ++axis)
      if (__builtin_mul_overflow(bytes, static_cast<size_t>(shape[axis]), &bytes))
        return fail("the input %s is too large", tensor.name);
    memcpy(tensor.shape, shape, static_cast<size_t>(tensor.ndim) * sizeof *shape);
    tensor.bytes = bytes;
    return make_input(index);
  }

  bool free_batch() const { return strcmp(batch_, "free") == 0; }
  const char* batch() const { return batch_; }  // "fixed", "looped" (one sample at a time) or "free"
  int inputs() const { return inputs_count_; }
  int outputs() const { return outputs_count_; }
  Tensor& input(int index) { return tensors_[index]; }
  const Tensor& output(int index) const { return tensors_[inputs_count_ + index]; }
  const char* error() const { return error_; }

  void close() {
    if (!release_) return;
    if (result_.type_index >= detail::kFirstObject) release_(result_.pointer);
    for (int i = 0; i < inputs_count_; ++i) {
      if (arguments_ && arguments_[i].pointer) release_(arguments_[i].pointer);
      free(tensors_[i].data);
    }
    void* held[] = {main_, machine_, library_, load_, member_};
    for (void* object : held)
      if (object) release_(object);
    free(tensors_);
    free(managed_);
    free(arguments_);
    tensors_ = nullptr;
    managed_ = nullptr;
    arguments_ = nullptr;
    main_ = machine_ = library_ = load_ = member_ = nullptr;
    result_ = {};
    inputs_count_ = outputs_count_ = 0;
    release_ = nullptr;
  }

 private:
  using Any = detail::Any;

  bool fail(const char* format, ...) {
    va_list words;
    va_start(words, format);
    vsnprintf(error_, sizeof error_, format, words);
    va_end(words);
    return false;
  }

  static int cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
  }

  // Loads a library for all that follow; the one already in the process under this name, where there is one: a process
  // has one TVM runtime.
  void* open(const char* folder, const char* name) {
    char path[4096];
    if (void* known = dlopen(name, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD)) return known;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    void* found = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!found) fail("%s", dlerror());
    return found;
  }

  template <typename Function>
  bool symbol(void* library, const char* name, Function* out) {
    *out = reinterpret_cast<Function>(dlsym(library, name));
    return *out || fail("libtvm_ffi.so has no %s", name);
  }

  bool read_interface(const char* folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/interface.txt", folder);
    FILE* file = fopen(path, "r");
    if (!file) return fail("cannot open %s", path);
    char line[1024];
    bool good = fgets(line, sizeof line, file) && strcmp(line, "edgepack-tvm 1\n") == 0;
    while (good && fgets(line, sizeof line, file)) {
      line[strcspn(line, "\n")] = 0;
      if (strncmp(line, "threads ", 8) == 0) threads_ = atoi(line + 8);
      if (strncmp(line, "batch ", 6) == 0) snprintf(batch_, sizeof batch_, "%.15s", line + 6);
      if (strncmp(line, "needs ", 6) == 0 && !give(line + 6)) { fclose(file); return false; }
      if (strncmp(line, "input ", 6) == 0) good = outputs_count_ == 0 && add_tensor(line + 6), inputs_count_ += good;
      if (strncmp(line, "output ", 7) == 0) good = add_tensor(line + 7), outputs_count_ += good;
    }
    fclose(file);
    return (good && outputs_count_ > 0) || fail("%s is damaged or of another version", path);
  }

  // Asks Linux for what the code needs: AMX's tile registers (arch/x86/include/uapi/asm/prctl.h: ARCH_REQ_XCOMP_PERM).
  bool give(const char* what) {
#ifdef __x86_64__
    if (strcmp(what, "amx") == 0 && syscall(SYS_arch_prctl, 0x1023, 18) == 0) return true;
#endif
    return fail("the model needs %s, which this processor or its Linux does not give", what);
  }

  // Reads "float32 1,3,224,224 name".
  bool add_tensor(const char* text) {
    int count = inputs_count_ + outputs_count_;
    Tensor* grown = static_cast<Tensor*>(realloc(tensors_, (count + 1) * sizeof(Tensor)));
    if (!grown) return false;
    tensors_ = grown;
    Tensor& tensor = tensors_[count];
    memset(&tensor, 0, sizeof tensor);
    char shape[768];
    if (sscanf(text, "%15s %767s %255[^\n]", tensor.dtype, shape, tensor.name) != 3) return false;
    tensor.bytes = width(tensor.dtype);
    if (!tensor.bytes) return false;
    for (char* next = shape; strcmp(shape, "-") != 0 && *next && tensor.ndim < 32;) {
      int64_t extent = *next == '?' ? -1 : strtoll(next, nullptr, 10);
      tensor.shape[tensor.ndim++] = extent;
      tensor.bytes *= extent < 0 ? 0 : static_cast<size_t>(extent);
      next += strcspn(next, ",");
      next += *next == ',';
    }
    return true;
  }

  static size_t width(const char* dtype) {
    if (strcmp(dtype, "bool") == 0) return 1;
    const char* digits = dtype + strcspn(dtype, "0123456789");
    int bits = atoi(digits);
    return bits == 8 || bits == 16 || bits == 32 || bits == 64 ? bits / 8 : 0;
  }

  static uint8_t code(const char* dtype) {
    return dtype[0] == 'b' ? 6 : dtype[0] == 'f' ? 2 : dtype[0] == 'u' ? 1 : 0;
  }

  bool start(const char* folder) {
    using namespace detail;
    char path[4096];
    snprintf(path, sizeof path, "%s/model.so", folder);
    void* configure = nullptr;
    if (!global("ffi.ModuleLoadFromFile", &load_) || !global("ffi.ModuleGetFunction", &member_)) return false;
    if (!global("runtime.config_threadpool", &configure)) return false;
    Any library = {}, made = {}, none = {};
    Any file[] = {text(path)};
    if (!call(load_, file, 1, &library)) return false;
    library_ = library.pointer;
    void* loader = nullptr;
    if (!member(library, "vm_load_executable", &loader) || !call(loader, nullptr, 0, &made)) return false;
    machine_ = made.pointer;
    void* initialize = nullptr;
    Any device[] = {integer(kCpu), integer(0), integer(kPooled)};
    if (!member(made, "vm_initialization", &initialize) || !call(initialize, device, 3, &none)) return false;
    bool found = member(made, "main", &main_);
    void* done[] = {configure, loader, initialize};
    for (void* object : done) release_(object);
    return found;
  }

  bool make_inputs() {
    using namespace detail;
    arguments_ = static_cast<Any*>(calloc(inputs_count_ + 1, sizeof(Any)));
    managed_ = static_cast<DLManaged*>(calloc(inputs_count_ + 1, sizeof(DLManaged)));
    if (!arguments_ || !managed_) return fail("not enough memory for the inputs");
    for (int i = 0; i < inputs_count_; ++i)
      if (!has_free_extent(tensors_[i]) && !make_input(i)) return false;
    return true;
  }

  static bool has_free_extent(const Tensor& tensor) {
    for (int axis = 0; axis < tensor.ndim; ++axis)
      if (tensor.shape[axis] < 0) return true;
    return false;
  }

  bool make_input(int index) {
    using namespace detail;
    Tensor& tensor = tensors_[index];
    if (arguments_[index].pointer) release_(arguments_[index].pointer);
    arguments_[index] = {};
    free(tensor.data);
    size_t rounded = (tensor.bytes + kAlignment) / kAlignment * kAlignment;
    tensor.data = aligned_alloc(kAlignment, rounded);
    if (!tensor.data) return fail("not enough memory for the input %s", tensor.name);
    memset(tensor.data, 0, rounded);
    managed_[index].tensor = {tensor.data, kCpu, 0, tensor.ndim, code(tensor.dtype),
                              static_cast<uint8_t>(8 * width(tensor.dtype)), 1, tensor.shape, nullptr, 0};
    void* object = nullptr;
    if (from_dlpack_(&managed_[index], kAlignment, 1, &object)) return explain();
    arguments_[index].type_index = kTensor;
    arguments_[index].pointer = object;
    return true;
  }

  bool read_outputs() {
    using namespace detail;
    for (int i = 0; i < outputs_count_; ++i) {
      void* object = result_.pointer;
      if (result_.type_index == kArray) {
        const Sequence* items = reinterpret_cast<const Sequence*>(at(object));
        if (i >= items->size) return fail("the model returned %d outputs", static_cast<int>(items->size));
        object = items->data[i].pointer;
      } else if (result_.type_index != kTensor || outputs_count_ != 1) {
        return fail("the model returned an object of type %d", result_.type_index);
      }
      const DLTensor* found = reinterpret_cast<const DLTensor*>(at(object));
      Tensor& tensor = tensors_[inputs_count_ + i];
      tensor.ndim = found->ndim < 32 ? found->ndim : 32;
      tensor.bytes = found->bits / 8;
      for (int axis = 0; axis < tensor.ndim; ++axis) {
        tensor.shape[axis] = found->shape[axis];
        tensor.bytes *= static_cast<size_t>(found->shape[axis]);
      }
      tensor.data = static_cast<char*>(found->data) + found->byte_offset;
    }
    return true;
  }

  static Any integer(int64_t value) {
    Any any = {};
    any.type_index = detail::kInt;
    any.integer = value;
    return any;
  }
  static Any text(const char* value) {
    Any any = {};
    any.type_index = detail::kText;
    any.text = value;
    return any;
  }

  bool global(const char* name, void** out) {
    detail::Bytes key = {name, strlen(name)};
    if (get_global_(&key, out)) return explain();
    return *out || fail("the runtime has no function %s", name);
  }

  bool member(const Any& module, const char* name, void** out) {
    Any yes = {};
    yes.type_index = detail::kBool;
    yes.integer = 1;
    Any arguments[] = {module, text(name), yes}, found = {};
    if (!call(member_, arguments, 3, &found)) return false;
    if (found.type_index != detail::kFunction) return fail("model.so has no function %s", name);
    *out = found.pointer;
    return true;
  }

  bool call(void* function, Any* arguments, int count, Any* result) {
    return call_(function, arguments, count, result) == 0 || explain();
  }

  bool explain() {
    void* raised = nullptr;
    raised_(&raised);
    if (!raised) return fail("TVM failed without a message");
    const detail::Bytes* words = reinterpret_cast<const detail::Bytes*>(detail::at(raised));
    fail("%.*s: %.*s", static_cast<int>(words[0].size), words[0].data, static_cast<int>(words[1].size), words[1].data);
    release_(raised);
    return false;
  }

  int (*get_global_)(const detail::Bytes*, void**) = nullptr;
  int (*call_)(void*, Any*, int32_t, Any*) = nullptr;
  int (*release_)(void*) = nullptr;
  void (*raised_)(void**) = nullptr;
  int (*from_dlpack_)(detail::DLManaged*, int32_t, int32_t, void**) = nullptr;
  void *load_ = nullptr, *member_ = nullptr, *library_ = nullptr, *machine_ = nullptr, *main_ = nullptr;
  Tensor* tensors_ = nullptr;
  detail::DLManaged* managed_ = nullptr;
  Any* arguments_ = nullptr;
  Any result_ = {};
  int inputs_count_ = 0, outputs_count_ = 0, threads_ = 0;
  char batch_[16] = "fixed";
  char error_[2048];
};

}  // namespace edgepack

#endif  // EDGEPACK_TVM_H_
