// OpenVINO by its C interface, libopenvino_c. Structures and functions are those of openvino/c/*.h (2025.0 and newer).
//
// An inference is always started and waited for: on one thread the synchronous call of OpenVINO 2026.4 loses the error
// when a layer does not take its shape, and returns memory that nobody wrote; the asynchronous one tells.

#include <algorithm>
#include <mutex>

#include "../error.h"
#include "../facts.h"
#include "../text.h"
#include "drivers.h"

namespace edgepack {

namespace {

constexpr char kTitle[] = "OpenVINO", kVariable[] = "EDGEPACK_OPENVINO_LIBRARY";

struct OvCore;
struct OvModel;
struct OvCompiled;
struct OvRequest;
struct OvTensor;
struct OvPort;
struct OvShape {
  int64_t rank;
  int64_t* sizes;
};
struct OvDimension {
  int64_t least, most;
};
struct OvPartialShape {
  OvDimension rank;
  OvDimension* sizes;
};
struct OvVersion {
  const char *number, *description;
};

// ov_element_type_e by the names of numpy; nullptr for what no manifest holds.
constexpr const char* kElements[] = {nullptr, "bool",  nullptr, "float16", "float32", "float64", nullptr,
                                     "int8",  "int16", "int32", "int64",   nullptr,   nullptr,   nullptr,
                                     nullptr, nullptr, "uint8", "uint16",  "uint32",  "uint64"};
// The second name of an input whose integers are computed in float32 somewhere, which holds them up to kExact.
constexpr char kFloat32Suffix[] = "/whole numbers up to 2^24";
constexpr int32_t kExact = 1 << 24;
constexpr int kBytes = 16;  // the element type of raw weights: u8

int dtype_of_element(int element) {
  constexpr int kCount = sizeof kElements / sizeof kElements[0];
  return element >= 0 && element < kCount && kElements[element] ? facts::dtype_of(kElements[element]) : -1;
}

int element_of_dtype(int dtype) {
  for (size_t i = 0; i < sizeof kElements / sizeof kElements[0]; ++i)
    if (kElements[i] && facts::dtype_of(kElements[i]) == dtype) return static_cast<int>(i);
  return 0;
}

// Functions return 0 or what is wrong; the words of the last error come from ov_get_last_err_msg.
struct Api {
  int (*get_version)(OvVersion*);
  int (*core_create)(OvCore**);
  int (*read_model)(const OvCore*, const char*, size_t, const OvTensor*, OvModel**);
  int (*compile_model)(const OvCore*, const OvModel*, const char*, size_t, OvCompiled**, ...);
  int (*get_property)(const OvCore*, const char*, const char*, char**);
  int (*reshape)(const OvModel*, const char**, const OvPartialShape*, size_t);
  int (*partial_shape)(int64_t, const int64_t*, OvPartialShape*);
  void (*partial_shape_free)(OvPartialShape*);
  void (*model_free)(OvModel*);
  int (*inputs_size)(const OvCompiled*, size_t*);
  int (*outputs_size)(const OvCompiled*, size_t*);
  int (*input_by_name)(const OvCompiled*, const char*, OvPort**);
  int (*output_by_name)(const OvCompiled*, const char*, OvPort**);
  int (*port_type)(const OvPort*, int*);
  void (*port_free)(OvPort*);
  int (*create_request)(const OvCompiled*, OvRequest**);
  void (*compiled_free)(OvCompiled*);
  int (*set_tensor)(OvRequest*, const char*, const OvTensor*);
  int (*get_tensor)(const OvRequest*, const char*, OvTensor**);
  int (*start)(OvRequest*);
  int (*wait)(OvRequest*);
  void (*request_free)(OvRequest*);
  int (*tensor_create)(int, OvShape, void*, OvTensor**);
  int (*tensor_shape)(const OvTensor*, OvShape*);
  int (*tensor_type)(const OvTensor*, int*);
  int (*tensor_data)(const OvTensor*, void**);
  int (*tensor_bytes)(const OvTensor*, size_t*);
  void (*tensor_free)(OvTensor*);
  int (*shape_free)(OvShape*);
  void (*text_free)(const char*);
  const char* (*last_error)();

  std::string version;
  OvCore* core = nullptr;

  void check(int status) const {
    if (!status) return;
    const char* words = last_error();
    throw EngineProblem{words && *words ? words : "status " + std::to_string(status)};
  }
};

Api open_api() {
  void* library = open_library(kTitle, kVariable, {"libopenvino_c.so"});
  Api api{};
  auto find = [&](auto* function, const char* name) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(symbol_of(library, kTitle, name));
  };
  find(&api.get_version, "ov_get_openvino_version");
  find(&api.core_create, "ov_core_create");
  find(&api.read_model, "ov_core_read_model_from_memory_buffer");
  find(&api.compile_model, "ov_core_compile_model");
  find(&api.get_property, "ov_core_get_property");
  find(&api.reshape, "ov_model_reshape");
  find(&api.partial_shape, "ov_partial_shape_create_static");
  find(&api.partial_shape_free, "ov_partial_shape_free");
  find(&api.model_free, "ov_model_free");
  find(&api.inputs_size, "ov_compiled_model_inputs_size");
  find(&api.outputs_size, "ov_compiled_model_outputs_size");
  find(&api.input_by_name, "ov_compiled_model_input_by_name");
  find(&api.output_by_name, "ov_compiled_model_output_by_name");
  find(&api.port_type, "ov_port_get_element_type");
  find(&api.port_free, "ov_output_const_port_free");
  find(&api.create_request, "ov_compiled_model_create_infer_request");
  find(&api.compiled_free, "ov_compiled_model_free");
  find(&api.set_tensor, "ov_infer_request_set_tensor");
  find(&api.get_tensor, "ov_infer_request_get_tensor");
  find(&api.start, "ov_infer_request_start_async");
  find(&api.wait, "ov_infer_request_wait");
  find(&api.request_free, "ov_infer_request_free");
  find(&api.tensor_create, "ov_tensor_create_from_host_ptr");
  find(&api.tensor_shape, "ov_tensor_get_shape");
  find(&api.tensor_type, "ov_tensor_get_element_type");
  find(&api.tensor_data, "ov_tensor_data");
  find(&api.tensor_bytes, "ov_tensor_get_byte_size");
  find(&api.tensor_free, "ov_tensor_free");
  find(&api.shape_free, "ov_shape_free");
  find(&api.text_free, "ov_free");
  find(&api.last_error, "ov_get_last_err_msg");
  OvVersion version{};
  try {
    api.check(api.get_version(&version));
    api.version = version.number;
    api.check(api.core_create(&api.core));
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

struct TensorFree {
  void operator()(OvTensor* tensor) const { api().tensor_free(tensor); }
};
using OwnTensor = std::unique_ptr<OvTensor, TensorFree>;

OwnTensor tensor_of(int element, std::vector<int64_t> shape, void* data) {
  static char nothing[64];
  OvTensor* made = nullptr;
  OvShape sizes{static_cast<int64_t>(shape.size()), shape.data()};
  api().check(api().tensor_create(element, sizes, data ? data : nothing, &made));
  return OwnTensor(made);
}

// A model compiled for one batch, or for any, with the memory that its weights may lie in.
struct Network {
  ~Network() {
    if (compiled) api().compiled_free(compiled);
  }
  OvCompiled* compiled = nullptr;
  std::vector<std::shared_ptr<Buffer>> files;
};

// What is needed to compile a payload again for other batches than the first.
struct Source {
  std::shared_ptr<Buffer> graph, weights;
  std::vector<TensorSpec> inputs, outputs;
  std::string device, precision;
  int threads;
};

bool offers(const std::string& device, const std::string& capability) {
  char* value = nullptr;
  api().check(api().get_property(api().core, device.c_str(), "OPTIMIZATION_CAPABILITIES", &value));
  std::string all = value ? value : "";
  api().text_free(value);
  for (size_t place = 0; (place = all.find(capability, place)) != all.npos; place += capability.size()) {
    auto letter = [&](size_t i) { return i < all.size() && (isalnum(static_cast<unsigned char>(all[i])) || all[i] == '_'); };
    if ((place == 0 || !letter(place - 1)) && !letter(place + capability.size())) return true;
  }
  return false;
}

// The type that is computed in: what the bundle asks for where the device has it, else float32 (engines/openvino of
// edgepack says why nothing in between). An int8 model's other layers are float32 on a CPU, float16 on a GPU.
std::string computed_in(const Source& source) {
  std::string wanted = source.precision == "int8" ? source.device == "CPU" ? "fp32" : "fp16" : source.precision;
  if (wanted == "fp16" && offers(source.device, "FP16")) return "f16";
  if (wanted == "bf16" && offers(source.device, "BF16")) return "bf16";
  return "f32";
}

bool is_npu(const std::string& device) { return device.substr(0, device.find('.')) == "NPU"; }

// Fixes the batch; false where a layer does not take it.
bool fix_batch(const OvModel* model, const Source& source, int batch) {
  std::vector<const char*> names;
  std::vector<OvPartialShape> shapes;
  bool good = true;
  for (const TensorSpec& spec : source.inputs) {
    std::vector<int64_t> sizes{batch};
    for (size_t i = 1; i < spec.shape.size(); ++i) sizes.push_back(spec.shape[i].size);
    OvPartialShape shape{};
    good = good && !api().partial_shape(static_cast<int64_t>(sizes.size()), sizes.data(), &shape);
    names.push_back(spec.name.c_str());
    shapes.push_back(shape);
  }
  good = good && !api().reshape(model, names.data(), shapes.data(), names.size());
  for (OvPartialShape& shape : shapes)
    if (shape.sizes) api().partial_shape_free(&shape);
  return good;
}

// Compiles for ``batch``; for any where it is 0. Returns nothing where a layer does not take that batch.
std::shared_ptr<Network> compile(const Source& source, int batch) {
  auto network = std::make_shared<Network>();
  network->files = {source.graph, source.weights};
  OwnTensor weights;
  if (source.weights) {
    std::vector<int64_t> size{static_cast<int64_t>(source.weights->size())};
    weights = tensor_of(kBytes, size, source.weights->data());
  }
  OvModel* read = nullptr;
  api().check(api().read_model(api().core, source.graph->data(), source.graph->size(), weights.get(), &read));
  std::unique_ptr<OvModel, void (*)(OvModel*)> model(read, api().model_free);
  if (batch && !fix_batch(read, source, batch)) return nullptr;
  std::string type = computed_in(source), threads = std::to_string(source.threads);
  const char* device = source.device.c_str();
  if (is_npu(source.device)) {  // an NPU computes in what its compiler chooses
    api().check(api().compile_model(api().core, read, device, 2, &network->compiled, "PERFORMANCE_HINT", "LATENCY"));
  } else if (source.device == "CPU" && source.threads) {
    api().check(api().compile_model(api().core, read, device, 6, &network->compiled, "PERFORMANCE_HINT", "LATENCY",
                                    "INFERENCE_PRECISION_HINT", type.c_str(), "INFERENCE_NUM_THREADS", threads.c_str()));
  } else {
    api().check(api().compile_model(api().core, read, device, 4, &network->compiled, "PERFORMANCE_HINT", "LATENCY",
                                    "INFERENCE_PRECISION_HINT", type.c_str()));
  }
  return network;
}

// A request of a network, with the tensors of its last call.
class Request {
 public:
  Request(std::shared_ptr<const Network> network, const Source& source) : network_(std::move(network)), source_(source) {
    api().check(api().create_request(network_->compiled, &request_));
  }
  ~Request() {
    results_.clear();
    api().request_free(request_);
  }
  Request(const Request&) = delete;

  void run(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) {
    results_.clear();
    std::vector<OwnTensor> given;
    for (size_t i = 0; i < inputs.size(); ++i) {
      void* data = inputs[i].bytes ? const_cast<void*>(inputs[i].data) : nullptr;
      given.push_back(tensor_of(element_of_dtype(inputs[i].dtype), inputs[i].shape, data));
      api().check(api().set_tensor(request_, source_.inputs[i].name.c_str(), given.back().get()));
    }
    api().check(api().start(request_));
    api().check(api().wait(request_));
    outputs->clear();
    for (const TensorSpec& spec : source_.outputs) outputs->push_back(result(spec));
  }

 private:
  TensorView result(const TensorSpec& spec) {
    OvTensor* found = nullptr;
    api().check(api().get_tensor(request_, spec.name.c_str(), &found));
    results_.emplace_back(found);
    OvShape shape{};
    int element = 0;
    void* data = nullptr;
    TensorView view;
    api().check(api().tensor_shape(found, &shape));
    view.shape.assign(shape.sizes, shape.sizes + shape.rank);
    api().shape_free(&shape);
    api().check(api().tensor_type(found, &element));
    api().check(api().tensor_bytes(found, &view.bytes));
    if (view.bytes) api().check(api().tensor_data(found, &data));
    view.dtype = dtype_of_element(element);
    if (view.dtype != facts::dtype_of(spec.dtype)) throw EngineProblem{"the output " + repr(spec.name) + " has another type"};
    view.data = data;
    return view;
  }

  std::shared_ptr<const Network> network_;
  const Source& source_;
  OvRequest* request_ = nullptr;
  std::vector<OwnTensor> results_;
};

// The model loaded for one batch, and for all others when the first one comes; shared by all runners of it.
struct Shared {
  Source source;
  int batch = 0;  // 0: any
  std::shared_ptr<const Network> fixed, general;
  std::vector<bool> exact;  // of each input: whether its integers are computed in 32 bits, not in float32
  std::mutex mutex;

  std::shared_ptr<const Network> for_any() {
    std::lock_guard<std::mutex> lock(mutex);
    if (!general) general = compile(source, 0);
    return general;
  }
};

// OpenVINO computes 64-bit integers in 32 bits, and some of any size in float32, without a word: what these do not hold is
// refused (engines/openvino/range32.py of edgepack).
template <typename Integer>
bool find_beyond(const TensorView& view, Integer lowest, Integer highest, std::string* found) {
  const Integer* values = static_cast<const Integer*>(view.data);
  size_t count = view.bytes / sizeof(Integer);
  if (!count) return false;
  auto [least, most] = std::minmax_element(values, values + count);
  if (*most > highest) return *found = std::to_string(*most), true;
  if (*least < lowest) return *found = std::to_string(*least), true;
  return false;
}

void refuse_beyond(const TensorSpec& spec, const TensorView& view, bool exact) {
  int64_t highest = exact ? INT32_MAX : kExact, lowest = exact ? INT32_MIN : -kExact;
  bool is_beyond = false;
  std::string found;
  if (spec.dtype == "int64") is_beyond = find_beyond<int64_t>(view, lowest, highest, &found);
  if (spec.dtype == "uint64") is_beyond = find_beyond<uint64_t>(view, 0, static_cast<uint64_t>(highest), &found);
  if (spec.dtype == "int32" && !exact) is_beyond = find_beyond<int32_t>(view, -kExact, kExact, &found);
  if (spec.dtype == "uint32" && !exact) is_beyond = find_beyond<uint32_t>(view, 0, kExact, &found);
  if (is_beyond)
    refuse(EDGEPACK_DATA_ERROR,
           "input " + repr(spec.name) + " holds " + found + ", and " + kTitle + " computes its " + spec.dtype + " in " +
               (exact ? "32 bits" : "float32"),
           "give numbers of at most " + std::to_string(highest) + " either way, or use a target with ONNX Runtime");
}

class OpenVinoRunner : public Runner {
 public:
  explicit OpenVinoRunner(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), first_(std::make_unique<Request>(shared_->fixed, shared_->source)) {}

  void run(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) override {
    for (size_t i = 0; i < inputs.size(); ++i) refuse_beyond(shared_->source.inputs[i], inputs[i], shared_->exact[i]);
    bool other = false;
    for (const TensorView& input : inputs) other = other || (shared_->batch && input.shape[0] != shared_->batch);
    if (!other) return first_->run(inputs, outputs);
    if (!any_) any_ = std::make_unique<Request>(shared_->for_any(), shared_->source);
    any_->run(inputs, outputs);
  }

  std::unique_ptr<Runner> another() override { return std::make_unique<OpenVinoRunner>(shared_); }

 private:
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<Request> first_, any_;
};

// Returns the type of a port by its name; throws where the model has none of that name.
int port_dtype(const Compiled& compiled, const Network& network, const TensorSpec& spec, bool output) {
  OvPort* port = nullptr;
  auto find = output ? api().output_by_name : api().input_by_name;
  if (find(network.compiled, spec.name.c_str(), &port))
    refuse(EDGEPACK_COMPILE_ERROR, compiled.payload.entry + " has no " + (output ? "output " : "input ") + repr(spec.name),
           "the compiled files are of another model: compile it again");
  int element = 0;
  int status = api().port_type(port, &element);
  api().port_free(port);
  api().check(status);
  return dtype_of_element(element);
}

bool has_input(const Network& network, const std::string& name) {
  OvPort* port = nullptr;
  if (api().input_by_name(network.compiled, name.c_str(), &port)) return false;
  api().port_free(port);
  return true;
}

void check_network(const Compiled& compiled, const Network& network) {
  size_t inputs = 0, outputs = 0;
  api().check(api().inputs_size(network.compiled, &inputs));
  api().check(api().outputs_size(network.compiled, &outputs));
  if (inputs != compiled.manifest.inputs.size() || outputs != compiled.manifest.outputs.size())
    refuse(EDGEPACK_COMPILE_ERROR,
           compiled.payload.entry + " has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
               " outputs, not " + std::to_string(compiled.manifest.inputs.size()) + " and " +
               std::to_string(compiled.manifest.outputs.size()),
           "the compiled files are of another model: compile it again");
  for (const TensorSpec& spec : compiled.manifest.inputs) port_dtype(compiled, network, spec, false);
  for (const TensorSpec& spec : compiled.manifest.outputs)
    check_output_type(compiled, spec, port_dtype(compiled, network, spec, true));
}

std::unique_ptr<Runner> load(const Compiled& compiled, const EngineOptions& options) {
  auto shared = std::make_shared<Shared>();
  Source& source = shared->source;
  source.graph = compiled.read(compiled.payload.entry);
  for (const std::string& file : compiled.payload.files)
    if (file != compiled.payload.entry) source.weights = compiled.read(file);
  source.inputs = compiled.manifest.inputs;
  source.outputs = compiled.manifest.outputs;
  source.device = compiled.device;
  source.precision = compiled.payload.precision;
  source.threads = options.threads;
  if (has_free_batch(source.inputs)) shared->fixed = compile(source, options.batch);
  if (shared->fixed) shared->batch = options.batch;
  if (!shared->fixed) shared->fixed = shared->general = compile(source, 0);
  check_network(compiled, *shared->fixed);
  for (const TensorSpec& spec : source.inputs)
    shared->exact.push_back(!has_input(*shared->fixed, spec.name + kFloat32Suffix));
  return std::make_unique<OpenVinoRunner>(shared);
}

std::string version() { return api().version; }

}  // namespace

const Driver kOpenVino{"openvino", version, load};

}  // namespace edgepack
