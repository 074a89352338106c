// The C interface: handles around the library's own objects, and exceptions turned into a status and words.

#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "bundle.h"
#include "error.h"
#include "facts.h"
#include "model.h"
#include "text.h"
#include "verify.h"

using edgepack::Bundle;
using edgepack::Refusal;
namespace facts = edgepack::facts;

namespace {

thread_local std::string last_message, last_hint;

edgepack_status remember(edgepack_status status, const std::string& message, const std::string& hint) {
  last_message = message;
  last_hint = hint.empty() ? facts::kKinds[status - 1].hint : hint;
  return status;
}

// Runs what may throw; nothing leaves a C function but a status.
template <typename Work>
edgepack_status guarded(Work work) {
  try {
    work();
    return EDGEPACK_OK;
  } catch (const Refusal& refusal) {
    return remember(refusal.kind, refusal.message, refusal.hint);
  } catch (const std::bad_alloc&) {
    return remember(EDGEPACK_ERROR, "not enough memory", "free some memory");
  } catch (const std::exception& error) {
    return remember(EDGEPACK_ERROR, error.what(), "");
  } catch (...) {  // nothing else is thrown; were it, the caller's program must not end by it
    return remember(EDGEPACK_ERROR, "an internal error without words", "");
  }
}

// A spec in the form of the C interface; it points into itself.
struct Info {
  explicit Info(const edgepack::TensorSpec& spec) : name(spec.name) {
    for (const edgepack::Extent& extent : spec.shape) {
      names.push_back(extent.name);
      shape.push_back(extent.free() ? -1 : extent.size);
    }
    for (size_t i = 0; i < names.size(); ++i) dimensions.push_back(spec.shape[i].free() ? names[i].c_str() : nullptr);
    bool unknown = shape.size() == 1 && names[0] == "...";
    info = {name.c_str(), static_cast<edgepack_dtype>(facts::dtype_of(spec.dtype)),
            unknown ? -1 : static_cast<int>(shape.size()), shape.data(), dimensions.data()};
  }
  Info(const Info&) = delete;

  std::string name;
  std::vector<std::string> names;
  std::vector<int64_t> shape;
  std::vector<const char*> dimensions;
  edgepack_tensor_info info;
};

using Infos = std::vector<std::unique_ptr<Info>>;

Infos infos_of(const std::vector<edgepack::TensorSpec>& specs) {
  Infos made;
  for (const edgepack::TensorSpec& spec : specs) made.push_back(std::make_unique<Info>(spec));
  return made;
}

edgepack::LoadOptions options_of(const edgepack_options* given) {
  edgepack::LoadOptions made;
  if (!given) return made;
  if (given->size < sizeof(edgepack_options))
    edgepack::refuse(EDGEPACK_CONFIG_ERROR, "the options are of another version of edgepack.h",
                     "set size = sizeof(edgepack_options), and compile with the header of this library");
  if (given->threads < 0 || given->batch < 0)
    edgepack::refuse(EDGEPACK_CONFIG_ERROR, "threads and batch cannot be negative", "write 0 for the default");
  made.threads = given->threads;
  made.batch = given->batch ? given->batch : 1;
  made.allow_native = given->allow_native;
  if (given->engine) made.engine = given->engine;
  return made;
}

void run_model(edgepack::LoadedModel& model, const edgepack_tensor* inputs, size_t input_count, edgepack_tensor* outputs,
               size_t output_count) {
  std::vector<edgepack::NamedTensor> given;
  for (size_t i = 0; i < input_count; ++i) {
    const edgepack_tensor& tensor = inputs[i];
    if (!tensor.name || !edgepack_dtype_bytes(tensor.dtype) || tensor.ndim < 0 || (tensor.ndim && !tensor.shape))
      edgepack::refuse(EDGEPACK_DATA_ERROR, "input " + std::to_string(i) + " has no name, dtype or shape");
    given.push_back({tensor.name, {tensor.dtype, {tensor.shape, tensor.shape + tensor.ndim}, tensor.data, tensor.bytes}});
  }
  const std::vector<edgepack::TensorSpec>& specs = model.manifest().outputs;
  if (output_count != specs.size())
    edgepack::refuse(EDGEPACK_DATA_ERROR, "room for " + std::to_string(output_count) + " outputs was given; the model has " +
                                              std::to_string(specs.size()));
  const std::vector<edgepack::TensorView>& found = model.run(given);
  for (size_t i = 0; i < found.size(); ++i)
    outputs[i] = {specs[i].name.c_str(), static_cast<edgepack_dtype>(found[i].dtype), static_cast<int>(found[i].shape.size()),
                  found[i].shape.data(), found[i].data, found[i].bytes};
}

}  // namespace

struct edgepack_bundle {
  explicit edgepack_bundle(std::shared_ptr<const Bundle> opened)
      : bundle(std::move(opened)), inputs(infos_of(bundle->manifest.inputs)), outputs(infos_of(bundle->manifest.outputs)) {}

  std::shared_ptr<const Bundle> bundle;
  Infos inputs, outputs;
};

struct edgepack_model {
  std::unique_ptr<edgepack::LoadedModel> model;
  std::string notes;
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

struct edgepack_verification {
  edgepack::Verification found;
  std::vector<edgepack_distance> distances;
};

const char* edgepack_version(void) { return facts::kVersion; }
const char* edgepack_message(void) { return last_message.c_str(); }
const char* edgepack_hint(void) { return last_hint.c_str(); }

const char* edgepack_status_name(edgepack_status status) {
  size_t count = sizeof facts::kKinds / sizeof facts::kKinds[0];
  if (status == EDGEPACK_OK) return "ok";
  return status > 0 && static_cast<size_t>(status) <= count ? facts::kKinds[status - 1].name : "unknown";
}

int edgepack_exit_code(edgepack_status status) {
  size_t count = sizeof facts::kKinds / sizeof facts::kKinds[0];
  if (status == EDGEPACK_OK) return 0;
  return status > 0 && static_cast<size_t>(status) <= count ? facts::kKinds[status - 1].exit_code : 1;
}

const char* edgepack_dtype_name(edgepack_dtype dtype) {
  return dtype >= EDGEPACK_BOOL && dtype <= EDGEPACK_FLOAT64 ? facts::kDtypes[dtype].name : "unknown";
}

size_t edgepack_dtype_bytes(edgepack_dtype dtype) {
  return dtype >= EDGEPACK_BOOL && dtype <= EDGEPACK_FLOAT64 ? facts::kDtypes[dtype].bytes : 0;
}

// --- bundles ---

edgepack_status edgepack_open(const char* path, edgepack_bundle** out) {
  *out = nullptr;
  return guarded([&] {
    if (!path) edgepack::refuse(EDGEPACK_BUNDLE_ERROR, "no path of a bundle was given", "give the path of a .edgepack file");
    *out = new edgepack_bundle(edgepack::open_bundle(path));
  });
}

void edgepack_close(edgepack_bundle* bundle) { delete bundle; }

const char* edgepack_name(const edgepack_bundle* bundle) { return bundle->bundle->manifest.name.c_str(); }
const char* edgepack_bundle_version(const edgepack_bundle* bundle) { return bundle->bundle->manifest.version.c_str(); }
const char* edgepack_target(const edgepack_bundle* bundle) { return bundle->bundle->manifest.target.c_str(); }
const char* edgepack_precision(const edgepack_bundle* bundle) { return bundle->bundle->manifest.precision.c_str(); }
const char* edgepack_manifest_sha256(const edgepack_bundle* bundle) { return bundle->bundle->manifest_sha256.c_str(); }
const char* edgepack_manifest_json(const edgepack_bundle* bundle) { return bundle->bundle->manifest_text.c_str(); }
size_t edgepack_class_count(const edgepack_bundle* bundle) { return bundle->bundle->manifest.classes.size(); }
const char* edgepack_class(const edgepack_bundle* bundle, size_t index) {
  const auto& classes = bundle->bundle->manifest.classes;
  return index < classes.size() ? classes[index].c_str() : nullptr;
}
size_t edgepack_input_count(const edgepack_bundle* bundle) { return bundle->inputs.size(); }
size_t edgepack_output_count(const edgepack_bundle* bundle) { return bundle->outputs.size(); }
const edgepack_tensor_info* edgepack_input(const edgepack_bundle* bundle, size_t index) {
  return index < bundle->inputs.size() ? &bundle->inputs[index]->info : nullptr;
}
const edgepack_tensor_info* edgepack_output(const edgepack_bundle* bundle, size_t index) {
  return index < bundle->outputs.size() ? &bundle->outputs[index]->info : nullptr;
}

// --- models ---

edgepack_status edgepack_load(edgepack_bundle* bundle, const edgepack_options* options, edgepack_model** out) {
  *out = nullptr;
  return guarded([&] {
    auto made = std::make_unique<edgepack_model>();
    made->model = edgepack::load_model(bundle->bundle, options_of(options));
    made->notes = edgepack::joined(made->model->notes(), "\n");
    *out = made.release();
  });
}

edgepack_status edgepack_another(edgepack_model* model, edgepack_model** out) {
  *out = nullptr;
  return guarded([&] {
    auto made = std::make_unique<edgepack_model>();
    made->model = model->model->another();
    made->notes = model->notes;
    *out = made.release();
  });
}

void edgepack_unload(edgepack_model* model) { delete model; }

const char* edgepack_engine(const edgepack_model* model) { return model->model->engine().c_str(); }
const char* edgepack_engine_version(const edgepack_model* model) { return model->model->engine_version().c_str(); }
const char* edgepack_notes(const edgepack_model* model) { return model->notes.c_str(); }

edgepack_status edgepack_run(edgepack_model* model, const edgepack_tensor* inputs, size_t input_count,
                             edgepack_tensor* outputs, size_t output_count) {
  if (model->busy.test_and_set(std::memory_order_acquire))
    return remember(EDGEPACK_CONFIG_ERROR, "the model was called by two threads at once",
                    "give each thread a handle of its own by edgepack_another()");
  edgepack_status status = guarded([&] { run_model(*model->model, inputs, input_count, outputs, output_count); });
  model->busy.clear(std::memory_order_release);
  return status;
}

// --- verification ---

edgepack_status edgepack_verify(edgepack_bundle* bundle, const edgepack_options* options, edgepack_verification** out) {
  *out = nullptr;
  return guarded([&] {
    auto made = std::make_unique<edgepack_verification>();
    made->found = edgepack::verify_bundle(bundle->bundle, options_of(options));
    for (const edgepack::Distance& d : made->found.distances)
      made->distances.push_back({d.name.c_str(), d.way.c_str(), d.batch, d.passed, d.sqnr_db, d.least_sqnr_db, d.cosine,
                                 d.max_abs, d.mismatch, d.nonfinite, d.note.c_str()});
    *out = made.release();
  });
}

void edgepack_free_verification(edgepack_verification* verification) { delete verification; }
int edgepack_passed(const edgepack_verification* verification) { return verification->found.passed; }
size_t edgepack_samples(const edgepack_verification* verification) { return verification->found.samples; }
const char* edgepack_verified_by(const edgepack_verification* verification) { return verification->found.engine.c_str(); }
const char* edgepack_verification_note(const edgepack_verification* verification) { return verification->found.note.c_str(); }
size_t edgepack_distance_count(const edgepack_verification* verification) { return verification->distances.size(); }
const edgepack_distance* edgepack_distance_at(const edgepack_verification* verification, size_t index) {
  return index < verification->distances.size() ? &verification->distances[index] : nullptr;
}
