// libedgepack for C++17: handles that free themselves, and exceptions. Header only, over the C interface of edgepack.h.
//
//   edgepack::Bundle bundle("model.edgepack");
//   edgepack::LoadedModel model = bundle.load();
//   edgepack::Outputs outputs = model.run({edgepack::input("image", pixels, {1, 3, 224, 224})});
//   const float* scores = outputs[0].as<float>();  // valid until the next run of this model
#ifndef EDGEPACK_HPP_
#define EDGEPACK_HPP_

#include <edgepack.h>

#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace edgepack {

// What a call of the library refused: the message is what(), and the hint is what to do.
class Error : public std::runtime_error {
 public:
  explicit Error(edgepack_status status) : std::runtime_error(edgepack_message()), status_(status), hint_(edgepack_hint()) {}

  edgepack_status status() const { return status_; }
  const char* kind() const { return edgepack_status_name(status_); }
  const std::string& hint() const { return hint_; }

 private:
  edgepack_status status_;
  std::string hint_;
};

inline void require(edgepack_status status) {
  if (status != EDGEPACK_OK) throw Error(status);
}

// Half precision as it lies in memory, for models that take or give float16.
struct Half {
  uint16_t bits;
};

template <typename Number>
constexpr edgepack_dtype dtype_of() {
  if constexpr (std::is_same_v<Number, bool>) return EDGEPACK_BOOL;
  if constexpr (std::is_same_v<Number, int8_t>) return EDGEPACK_INT8;
  if constexpr (std::is_same_v<Number, int16_t>) return EDGEPACK_INT16;
  if constexpr (std::is_same_v<Number, int32_t>) return EDGEPACK_INT32;
  if constexpr (std::is_same_v<Number, int64_t>) return EDGEPACK_INT64;
  if constexpr (std::is_same_v<Number, uint8_t>) return EDGEPACK_UINT8;
  if constexpr (std::is_same_v<Number, uint16_t>) return EDGEPACK_UINT16;
  if constexpr (std::is_same_v<Number, uint32_t>) return EDGEPACK_UINT32;
  if constexpr (std::is_same_v<Number, uint64_t>) return EDGEPACK_UINT64;
  if constexpr (std::is_same_v<Number, Half>) return EDGEPACK_FLOAT16;
  if constexpr (std::is_same_v<Number, float>) return EDGEPACK_FLOAT32;
  if constexpr (std::is_same_v<Number, double>) return EDGEPACK_FLOAT64;
}

// An input: numbers in C order that stay where they are until run() is back.
struct Input {
  std::string name;
  edgepack_dtype dtype;
  std::vector<int64_t> shape;
  const void* data;
  size_t bytes;
};

template <typename Number>
Input input(std::string name, const Number* data, size_t count, std::vector<int64_t> shape) {
  return {std::move(name), dtype_of<Number>(), std::move(shape), data, count * sizeof(Number)};
}

template <typename Number>
Input input(std::string name, const std::vector<Number>& values, std::vector<int64_t> shape) {
  return input(std::move(name), values.data(), values.size(), std::move(shape));
}

// An output; its memory is the model's, until the next run.
class Output {
 public:
  explicit Output(const edgepack_tensor& tensor) : tensor_(tensor), shape_(tensor.shape, tensor.shape + tensor.ndim) {}

  const char* name() const { return tensor_.name; }
  edgepack_dtype dtype() const { return tensor_.dtype; }
  const std::vector<int64_t>& shape() const { return shape_; }
  size_t count() const { return tensor_.bytes / edgepack_dtype_bytes(tensor_.dtype); }
  size_t bytes() const { return tensor_.bytes; }
  const void* data() const { return tensor_.data; }

  template <typename Number>
  const Number* as() const {
    if (dtype_of<Number>() != tensor_.dtype)
      throw std::invalid_argument(std::string("the output ") + tensor_.name + " is " + edgepack_dtype_name(tensor_.dtype));
    return static_cast<const Number*>(tensor_.data);
  }

 private:
  edgepack_tensor tensor_;
  std::vector<int64_t> shape_;
};

using Outputs = std::vector<Output>;

struct Options {
  int threads = 0;       // 0: the engine's own choice
  int batch = 1;         // how many samples most calls have
  int allow_native = 0;  // machine code in a bundle: 1 may run, -1 may not, 0 as the settings of this device say
  std::string engine;    // only this one; "" for the bundle's order of preference

  edgepack_options plain() const {
    return {sizeof(edgepack_options), threads, batch, allow_native, engine.empty() ? nullptr : engine.c_str()};
  }
};

// A bundle in its engine, for one thread at a time.
class LoadedModel {
 public:
  LoadedModel(edgepack_model* model, size_t outputs) : model_(model, edgepack_unload), outputs_(outputs) {}

  Outputs run(const std::vector<Input>& inputs) {
    std::vector<edgepack_tensor> given;
    for (const Input& in : inputs)
      given.push_back({in.name.c_str(), in.dtype, static_cast<int>(in.shape.size()), in.shape.data(), in.data, in.bytes});
    std::vector<edgepack_tensor> found(outputs_);
    require(edgepack_run(model_.get(), given.data(), given.size(), found.data(), found.size()));
    return Outputs(found.begin(), found.end());
  }

  // The same loaded model for another thread.
  LoadedModel another() {
    edgepack_model* made = nullptr;
    require(edgepack_another(model_.get(), &made));
    return LoadedModel(made, outputs_);
  }

  std::string engine() const { return edgepack_engine(model_.get()); }
  std::string engine_version() const { return edgepack_engine_version(model_.get()); }
  std::string notes() const { return edgepack_notes(model_.get()); }
  edgepack_model* get() const { return model_.get(); }

 private:
  std::unique_ptr<edgepack_model, void (*)(edgepack_model*)> model_;
  size_t outputs_;
};

// The outcome of the golden vectors.
class Verification {
 public:
  explicit Verification(edgepack_verification* found) : found_(found, edgepack_free_verification) {}

  bool passed() const { return edgepack_passed(found_.get()); }
  size_t samples() const { return edgepack_samples(found_.get()); }
  std::string engine() const { return edgepack_verified_by(found_.get()); }
  std::string note() const { return edgepack_verification_note(found_.get()); }
  size_t size() const { return edgepack_distance_count(found_.get()); }
  const edgepack_distance& operator[](size_t index) const { return *edgepack_distance_at(found_.get(), index); }

 private:
  std::unique_ptr<edgepack_verification, void (*)(edgepack_verification*)> found_;
};

// A bundle whose every byte was checked.
class Bundle {
 public:
  explicit Bundle(const std::string& path) : bundle_(opened(path), edgepack_close) {}

  std::string name() const { return edgepack_name(bundle_.get()); }
  std::string version() const { return edgepack_bundle_version(bundle_.get()); }
  std::string target() const { return edgepack_target(bundle_.get()); }
  std::string precision() const { return edgepack_precision(bundle_.get()); }
  std::string manifest_json() const { return edgepack_manifest_json(bundle_.get()); }
  size_t input_count() const { return edgepack_input_count(bundle_.get()); }
  size_t output_count() const { return edgepack_output_count(bundle_.get()); }
  const edgepack_tensor_info& input(size_t index) const { return *edgepack_input(bundle_.get(), index); }
  const edgepack_tensor_info& output(size_t index) const { return *edgepack_output(bundle_.get(), index); }
  std::vector<std::string> classes() const {
    std::vector<std::string> all;
    for (size_t i = 0; i < edgepack_class_count(bundle_.get()); ++i) all.emplace_back(edgepack_class(bundle_.get(), i));
    return all;
  }

  LoadedModel load(const Options& options = {}) const {
    edgepack_options plain = options.plain();
    edgepack_model* model = nullptr;
    require(edgepack_load(bundle_.get(), &plain, &model));
    return LoadedModel(model, output_count());
  }

  Verification verify(const Options& options = {}) const {
    edgepack_options plain = options.plain();
    edgepack_verification* found = nullptr;
    require(edgepack_verify(bundle_.get(), &plain, &found));
    return Verification(found);
  }

 private:
  static edgepack_bundle* opened(const std::string& path) {
    edgepack_bundle* bundle = nullptr;
    require(edgepack_open(path.c_str(), &bundle));
    return bundle;
  }

  std::unique_ptr<edgepack_bundle, void (*)(edgepack_bundle*)> bundle_;
};

}  // namespace edgepack

#endif  // EDGEPACK_HPP_
