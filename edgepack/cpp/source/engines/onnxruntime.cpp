// ONNX Runtime by its C interface. OrtApi is a table of functions that only ever grows at its end, so that a function's
// place in it is its identity: the places below are those of onnxruntime_c_api.h, version 18 of the interface (ONNX
// Runtime 1.18), which onnxruntime_c_api.cc asserts (AddFreeDimensionOverrideByName 124, ...FromFilesInMemory 279).

#include <stdlib.h>

#include <mutex>
#include <set>

#include "../error.h"
#include "../facts.h"
#include "../host.h"
#include "../onnx_file.h"
#include "../text.h"
#include "drivers.h"

namespace edgepack {

namespace {

constexpr char kTitle[] = "ONNX Runtime", kVariable[] = "EDGEPACK_ONNXRUNTIME_LIBRARY";
constexpr uint32_t kInterface = 18;
constexpr int kFatal = 4, kDisableAll = 0, kDeviceAllocator = 0, kMemoryDefault = 0, kTensor = 1;

struct OrtStatus;
struct OrtEnv;
struct OrtSessionOptions;
struct OrtSession;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorInfo;
struct OrtRunOptions;
struct OrtApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

// ONNXTensorElementDataType by the names of numpy, in its order from 1; nullptr for what no manifest holds.
constexpr const char* kElements[] = {"float32", "uint8",   "int8",   "uint16", "int16",  "int32",  "int64",
                                     nullptr,   "bool",    "float16", "float64", "uint32", "uint64"};

int dtype_of_element(int element) {
  constexpr int kCount = sizeof kElements / sizeof kElements[0];
  return element >= 1 && element <= kCount && kElements[element - 1] ? facts::dtype_of(kElements[element - 1]) : -1;
}

int element_of_dtype(int dtype) {
  for (size_t i = 0; i < sizeof kElements / sizeof kElements[0]; ++i)
    if (kElements[i] && facts::dtype_of(kElements[i]) == dtype) return static_cast<int>(i) + 1;
  return 0;
}

struct Api {
  const void* const* table = nullptr;
  OrtEnv* env = nullptr;
  OrtMemoryInfo* memory = nullptr;
  OrtAllocator* allocator = nullptr;
  std::string version;

  template <typename Function>
  Function at(int place) const {
    return reinterpret_cast<Function>(const_cast<void*>(table[place]));
  }

  // Calls a function that returns a status; throws EngineProblem with its message.
  template <typename... Arguments>
  void call(int place, Arguments... arguments) const {
    OrtStatus* status = at<OrtStatus* (*)(Arguments...)>(place)(arguments...);
    if (!status) return;
    std::string words = at<const char* (*)(const OrtStatus*)>(2)(status);
    at<void (*)(OrtStatus*)>(93)(status);
    throw EngineProblem{words};
  }

  template <typename Object>
  void release(int place, Object* object) const {
    if (object) at<void (*)(Object*)>(place)(object);
  }
};

enum Place {
  kCreateEnv = 3,
  kDisableTelemetryEvents = 6,
  kCreateSessionFromArray = 8,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetSessionLogSeverityLevel = 22,
  kSetSessionGraphOptimizationLevel = 23,
  kSetIntraOpNumThreads = 24,
  kSessionGetInputCount = 30,
  kSessionGetOutputCount = 31,
  kSessionGetOutputTypeInfo = 34,
  kSessionGetInputName = 36,
  kSessionGetOutputName = 37,
  kCreateTensorWithDataAsOrtValue = 49,
  kIsTensor = 50,
  kGetTensorMutableData = 51,
  kCastTypeInfoToTensorInfo = 55,
  kGetOnnxTypeFromTypeInfo = 56,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kCreateCpuMemoryInfo = 69,
  kAllocatorFree = 76,
  kGetAllocatorWithDefaultOptions = 78,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseTypeInfo = 98,
  kReleaseTensorInfo = 99,
  kReleaseSessionOptions = 100,
  kAddSessionConfigEntry = 130,
  kAddExternalInitializersFromFilesInMemory = 279,
};

Api open_api() {
  if (environment("EDGEPACK_ENGINE_TELEMETRY") != "1") setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  void* library = open_library(kTitle, kVariable, {"libonnxruntime.so.1", "libonnxruntime.so"});
  auto base = reinterpret_cast<const OrtApiBase* (*)()>(symbol_of(library, kTitle, "OrtGetApiBase"))();
  Api api;
  api.table = base->get_api(kInterface);
  api.version = base->get_version();
  if (!api.table)
    refuse(EDGEPACK_TOOLCHAIN_ERROR, std::string(kTitle) + " " + api.version + " is too old", "install 1.20 or newer");
  try {
    api.call(kCreateEnv, kFatal, "edgepack", &api.env);
    if (environment("EDGEPACK_ENGINE_TELEMETRY") != "1") api.call(kDisableTelemetryEvents, const_cast<const OrtEnv*>(api.env));
    api.call(kCreateCpuMemoryInfo, kDeviceAllocator, kMemoryDefault, &api.memory);
    api.call(kGetAllocatorWithDefaultOptions, &api.allocator);
  } catch (const EngineProblem& problem) {
    refuse(EDGEPACK_TOOLCHAIN_ERROR, std::string(kTitle) + " does not start: " + engine_words(problem.words));
  }
  return api;
}

// The engine is a fact about the process: libraries that own threads are not unloaded.
const Api& api() {
  static std::mutex mutex;
  static const Api* opened = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (!opened) opened = new Api(open_api());
  return *opened;
}

// A session with the memory that its weights may lie in.
struct Session {
  ~Session() { api().release(kReleaseSession, session); }

  OrtSession* session = nullptr;
  std::vector<std::shared_ptr<Buffer>> files;
  std::vector<TensorSpec> inputs, outputs;
};

std::vector<std::string> names_of(const OrtSession* session, Place count_place, Place name_place) {
  size_t count = 0;
  api().call(count_place, session, &count);
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    api().call(name_place, session, i, api().allocator, &name);
    names.emplace_back(name);
    api().call(kAllocatorFree, api().allocator, static_cast<void*>(name));
  }
  return names;
}

// Returns the type of an output by its place; -1 for a sequence or text.
int output_dtype(const OrtSession* session, size_t place) {
  OrtTypeInfo* type = nullptr;
  api().call(kSessionGetOutputTypeInfo, session, place, &type);
  int kind = 0, element = 0;
  const OrtTensorInfo* tensor = nullptr;
  api().call(kGetOnnxTypeFromTypeInfo, const_cast<const OrtTypeInfo*>(type), &kind);
  if (kind == kTensor) {
    api().call(kCastTypeInfoToTensorInfo, const_cast<const OrtTypeInfo*>(type), &tensor);
    if (tensor) api().call(kGetTensorElementType, tensor, &element);
  }
  api().release(kReleaseTypeInfo, type);
  return dtype_of_element(element);
}

void check_session(const Session& session, const Compiled& compiled) {
  check_names(compiled, "inputs", names_of(session.session, kSessionGetInputCount, kSessionGetInputName), session.inputs);
  std::vector<std::string> outputs = names_of(session.session, kSessionGetOutputCount, kSessionGetOutputName);
  check_names(compiled, "outputs", outputs, session.outputs);
  for (size_t i = 0; i < outputs.size(); ++i)
    for (const TensorSpec& spec : session.outputs)
      if (spec.name == outputs[i]) check_output_type(compiled, spec, output_dtype(session.session, i));
}

class OnnxRuntimeRunner : public Runner {
 public:
  explicit OnnxRuntimeRunner(std::shared_ptr<const Session> session) : session_(std::move(session)) {
    for (const TensorSpec& spec : session_->inputs) input_names_.push_back(spec.name.c_str());
    for (const TensorSpec& spec : session_->outputs) output_names_.push_back(spec.name.c_str());
  }
  ~OnnxRuntimeRunner() override { drop(&results_); }

  void run(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) override {
    drop(&results_);
    std::vector<OrtValue*> values;
    try {
      for (const TensorView& input : inputs) values.push_back(value_of(input));
      results_.assign(output_names_.size(), nullptr);
      api().call(kRun, session_->session, static_cast<const OrtRunOptions*>(nullptr), input_names_.data(),
                 const_cast<const OrtValue* const*>(values.data()), values.size(), output_names_.data(),
                 output_names_.size(), results_.data());
    } catch (...) {
      drop(&values);
      throw;
    }
    drop(&values);
    outputs->clear();
    for (size_t i = 0; i < results_.size(); ++i) outputs->push_back(view_of(results_[i], session_->outputs[i]));
  }

  std::unique_ptr<Runner> another() override { return std::make_unique<OnnxRuntimeRunner>(session_); }

 private:
  static void drop(std::vector<OrtValue*>* values) {
    for (OrtValue* value : *values) api().release(kReleaseValue, value);
    values->clear();
  }

  static OrtValue* value_of(const TensorView& input) {
    static char nothing;
    void* data = input.bytes ? const_cast<void*>(input.data) : &nothing;
    OrtValue* value = nullptr;
    api().call(kCreateTensorWithDataAsOrtValue, const_cast<const OrtMemoryInfo*>(api().memory), data, input.bytes,
               input.shape.data(), input.shape.size(), element_of_dtype(input.dtype), &value);
    return value;
  }

  static TensorView view_of(OrtValue* value, const TensorSpec& spec) {
    int is_tensor = 0, element = 0;
    if (value) api().call(kIsTensor, const_cast<const OrtValue*>(value), &is_tensor);
    if (!is_tensor) throw EngineProblem{"the output " + repr(spec.name) + " is not a tensor"};
    OrtTensorInfo* info = nullptr;
    api().call(kGetTensorTypeAndShape, const_cast<const OrtValue*>(value), &info);
    const OrtTensorInfo* known = info;
    TensorView view;
    size_t axes = 0;
    api().call(kGetTensorElementType, known, &element);
    api().call(kGetDimensionsCount, known, &axes);
    view.shape.resize(axes);
    api().call(kGetDimensions, known, view.shape.data(), axes);
    api().release(kReleaseTensorInfo, info);
    view.dtype = dtype_of_element(element);
    if (view.dtype != facts::dtype_of(spec.dtype)) throw EngineProblem{"the output " + repr(spec.name) + " has another type"};
    view.bytes = facts::kDtypes[view.dtype].bytes;
    for (int64_t size : view.shape) view.bytes *= static_cast<size_t>(size);
    void* data = nullptr;
    api().call(kGetTensorMutableData, value, &data);
    view.data = data;
    return view;
  }

  std::shared_ptr<const Session> session_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<OrtValue*> results_;
};

// A file's name as the graph has it.
std::string name_in_graph(const Compiled& compiled, const std::string& file) {
  std::string folder = compiled.folder();
  return file.compare(0, folder.size(), folder) == 0 ? file.substr(folder.size()) : file;
}

// A graph in memory has no folder: what else it names ONNX Runtime would look for where the program was started. That
// holds for tensors within branches even of files that are given in memory (tried: 1.20.1, 1.24.1, 1.31.1).
void refuse_other_files(const Compiled& compiled, const Named& named) {
  std::set<std::string> strange = named.weights;
  for (const std::string& file : compiled.payload.files)
    if (file != compiled.payload.entry) strange.erase(name_in_graph(compiled, file));
  std::string words;
  if (!strange.empty())
    words = " reads weights from " + repr(first(*strange.begin(), 80)) + ", which is not one of its files";
  else if (!named.others.empty())
    words = " reads what is not a weight of its main graph from " + repr(first(*named.others.begin(), 80));
  else
    return;
  refuse(EDGEPACK_COMPILE_ERROR, compiled.payload.entry + words, facts::kOtherFiles);
}

// Weights beside the graph are given to the engine in memory, by the names that the graph has for them.
void add_weights(OrtSessionOptions* options, const Compiled& compiled, Session* session) {
  std::vector<std::string> names;
  std::vector<char*> data;
  std::vector<size_t> sizes;
  for (const std::string& file : compiled.payload.files) {
    if (file == compiled.payload.entry) continue;
    session->files.push_back(compiled.read(file));
    names.push_back(name_in_graph(compiled, file));
    data.push_back(session->files.back()->data());
    sizes.push_back(session->files.back()->size());
  }
  std::vector<const char*> pointers;
  for (const std::string& name : names) pointers.push_back(name.c_str());
  if (!names.empty())
    api().call(kAddExternalInitializersFromFilesInMemory, options, pointers.data(), data.data(),
               const_cast<const size_t*>(sizes.data()), names.size());
}

std::unique_ptr<Runner> load(const Compiled& compiled, const EngineOptions& options) {
  if (compiled.device != "CPU")
    refuse(EDGEPACK_TOOLCHAIN_ERROR, "this ONNX Runtime has no " + compiled.device + "; libedgepack uses its CPU",
           "give a bundle for the CPU");
  auto session = std::make_shared<Session>();
  session->inputs = compiled.manifest.inputs;
  session->outputs = compiled.manifest.outputs;
  std::shared_ptr<Buffer> graph = compiled.read(compiled.payload.entry);
  Named named = read_named({graph->data(), graph->size()}, name_in_graph(compiled, compiled.payload.entry));
  refuse_other_files(compiled, named);
  OrtSessionOptions* settings = nullptr;
  api().call(kCreateSessionOptions, &settings);
  try {
    api().call(kSetSessionLogSeverityLevel, settings, kFatal);
    if (options.threads) api().call(kSetIntraOpNumThreads, settings, options.threads);
    if (options.as_written) api().call(kSetSessionGraphOptimizationLevel, settings, kDisableAll);
    if (named.may_end_the_process()) api().call(kAddSessionConfigEntry, settings, facts::kLeftOut[0], facts::kLeftOut[1]);
    add_weights(settings, compiled, session.get());
    api().call(kCreateSessionFromArray, const_cast<const OrtEnv*>(api().env), static_cast<const void*>(graph->data()),
               graph->size(), const_cast<const OrtSessionOptions*>(settings), &session->session);
  } catch (...) {
    api().release(kReleaseSessionOptions, settings);
    throw;
  }
  api().release(kReleaseSessionOptions, settings);
  check_session(*session, compiled);
  return std::make_unique<OnnxRuntimeRunner>(session);
}

std::string version() { return api().version; }

}  // namespace

const Driver kOnnxRuntime{"onnxruntime", version, load};

}  // namespace edgepack
