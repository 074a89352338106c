#include "model.h"

#include <algorithm>
#include <cstring>

#include "error.h"
#include "facts.h"
#include "host.h"
#include "policy.h"
#include "sha256.h"
#include "text.h"

namespace edgepack {

namespace {

const char* title_of(const std::string& engine) {
  const facts::Engine* found = facts::engine_of(engine);
  return found ? found->title : engine.c_str();
}

void check_machine(const Manifest& manifest) {
  const Host& host = this_host();
  if (!manifest.arch.empty() && manifest.arch != host.arch)
    refuse(EDGEPACK_TOOLCHAIN_ERROR,
           manifest.name + " was built for " + manifest.arch + " (" + manifest.target + "); this machine is " + host.arch,
           "run it on " + manifest.target + ", or build a bundle for this machine");
  std::vector<std::string> missing;
  for (const std::string& flag : manifest.isa)
    if (!host.has(flag)) missing.push_back(flag);
  if (!missing.empty())
    refuse(EDGEPACK_TOOLCHAIN_ERROR,
           manifest.name + " needs the instructions " + joined(missing) + " that this CPU (" + host.cpu + ") does not have",
           "build a bundle for this machine: its profile lists the instruction set");
}

// Returns the engine's version here; throws Refusal where it is missing, too old, or none that this library runs.
std::string usable_version(const Payload& payload, const Manifest& manifest) {
  const facts::Engine* engine = facts::engine_of(payload.backend);
  if (!engine)
    refuse(EDGEPACK_TOOLCHAIN_ERROR, "this edgepack has no backend " + repr(payload.backend), facts::kUpgrade);
  const Driver* driver = driver_of(payload.backend);
  if (!driver || !payload.key.empty())
    refuse(EDGEPACK_TOOLCHAIN_ERROR,
           std::string("libedgepack does not run ") + engine->title + ", which has no C interface",
           "run it with edgepack's Python package, or build a bundle for another engine");
  if (engine->self_contained) {
    for (const auto& [name, version] : manifest.toolchain)
      if (name.find(payload.backend) != name.npos) return version;
    return "";
  }
  std::string found = driver->version();
  for (const auto& [package, needed] : manifest.engine)
    if (package == payload.backend && is_older(found, needed))
      refuse(EDGEPACK_TOOLCHAIN_ERROR, package + " " + found + " is older than the " + needed + " that the bundle needs",
             "install " + package + " " + needed + " or newer");
  return found;
}

std::shared_ptr<Buffer> read_payload(const Bundle& bundle, const std::string& name) {
  const auto& files = bundle.manifest.files;
  auto entry = std::find_if(files.begin(), files.end(), [&](const FileEntry& e) { return e.path == name; });
  const Member& member = bundle.members.at(name);
  auto buffer = std::make_shared<Buffer>(member.size_bytes);
  size_t filled = 0;
  bundle.file->pieces(member.offset, member.size_bytes, [&](std::string_view piece) {
    memcpy(buffer->data() + filled, piece.data(), piece.size());
    filled += piece.size();
  });
  // The digest is of the very bytes that the engine gets, so that nobody can change the file in between.
  if (filled != member.size_bytes || sha256({buffer->data(), filled}) != entry->sha256)
    refuse(EDGEPACK_INTEGRITY_ERROR, bundle.path() + ": the contents of " + repr(name) + " do not match the manifest");
  return buffer;
}

// The options for one payload: a GPU's int8 graph is not given to CPU kernels that clip its sums.
EngineOptions own_options(const Manifest& manifest, const Payload& payload, const LoadOptions& options, std::string* chosen,
                          std::string* device) {
  EngineOptions own;
  own.threads = options.threads;
  own.batch = options.batch;
  *device = payload.device;
  if (payload.backend != facts::kReference || manifest.payloads[0].backend == facts::kReference) return own;
  *device = "CPU";
  own.as_written = payload.precision == "int8" && this_host().saturates();
  if (own.as_written)
    *chosen = "int8 kernels of this CPU clip sums at 16 bits, so the graph is computed in float as it is written";
  return own;
}

// Returns the one refusal to tell: that of an engine or by us, else everything that this machine lacks.
Refusal none_left(const std::vector<Refusal>& passed_over) {
  for (auto refusal = passed_over.rbegin(); refusal != passed_over.rend(); ++refusal)
    if (refusal->kind != EDGEPACK_TOOLCHAIN_ERROR) return *refusal;
  std::vector<std::string> all;
  for (const Refusal& refusal : passed_over) all.push_back(refusal.message);
  return {EDGEPACK_TOOLCHAIN_ERROR, joined(all, "; "), passed_over[0].hint};
}

bool is_asked_for(const Manifest& manifest, size_t place, const LoadOptions& options) {
  if (options.only >= 0) return static_cast<size_t>(options.only) == place;
  return options.engine.empty() || manifest.payloads[place].backend == options.engine;
}

std::unique_ptr<LoadedModel> try_payload(const std::shared_ptr<const Bundle>& bundle, size_t place, bool native,
                                         const LoadOptions& options, const std::vector<std::string>& skipped) {
  const Manifest& manifest = bundle->manifest;
  const Payload& payload = manifest.payloads[place];
  if (is_native(payload) && facts::engine_of(payload.backend) && !native) throw native_refusal(manifest);
  std::string version = usable_version(payload, manifest), chosen, device;
  EngineOptions own = own_options(manifest, payload, options, &chosen, &device);
  Compiled compiled{manifest, payload, device, [&](const std::string& name) { return read_payload(*bundle, name); }};
  try {
    auto runner = driver_of(payload.backend)->load(compiled, own);
    return std::make_unique<LoadedModel>(bundle, place, version, skipped, chosen, std::move(runner));
  } catch (const EngineProblem& problem) {
    refuse(EDGEPACK_COMPILE_ERROR,
           std::string(title_of(payload.backend)) + " refused " + payload.entry + ": " + engine_words(problem.words));
  }
}

}  // namespace

LoadedModel::LoadedModel(std::shared_ptr<const Bundle> bundle, size_t payload, std::string version,
                         std::vector<std::string> skipped, std::string chosen, std::unique_ptr<Runner> runner)
    : bundle_(std::move(bundle)),
      payload_(payload),
      version_(std::move(version)),
      skipped_(std::move(skipped)),
      chosen_(std::move(chosen)),
      runner_(std::move(runner)) {}

std::vector<std::string> LoadedModel::notes() const {
  std::vector<std::string> lines;
  for (const std::string& reason : skipped_) lines.push_back("not used: " + reason);
  if (!skipped_.empty()) lines.push_back("run by " + engine() + " instead");
  if (!chosen_.empty()) lines.push_back(chosen_);
  return lines;
}

const std::vector<TensorView>& LoadedModel::run(const std::vector<NamedTensor>& inputs) {
  std::vector<TensorView> ordered = in_order(inputs, manifest().inputs);
  try {
    runner_->run(ordered, &outputs_);
  } catch (const EngineProblem& problem) {
    std::vector<std::string> shapes;
    for (size_t i = 0; i < ordered.size(); ++i)
      shapes.push_back(manifest().inputs[i].name + " " + show_shape(ordered[i].shape));
    const std::string words = engine_words(problem.words);
    const bool outside = words.find("out of data bounds") != std::string::npos;  // a Gather whose table has no such row
    refuse(EDGEPACK_DATA_ERROR,
           std::string(title_of(engine())) + " could not run these inputs (" + joined(shapes) + "): " + words,
           outside ? "a number is that of no row of a table inside the model; token ids must be those of its own tokenizer"
                   : "the model may be fixed to other shapes inside, such as a batch of 1");
  }
  return outputs_;
}

std::unique_ptr<LoadedModel> LoadedModel::another() const {
  try {
    return std::make_unique<LoadedModel>(bundle_, payload_, version_, skipped_, chosen_, runner_->another());
  } catch (const EngineProblem& problem) {
    refuse(EDGEPACK_ERROR, std::string(title_of(engine())) + " gives no second request: " + engine_words(problem.words));
  }
}

std::unique_ptr<LoadedModel> load_model(std::shared_ptr<const Bundle> bundle, const LoadOptions& options) {
  const Manifest& manifest = bundle->manifest;
  bool native = may_run(*bundle, options.allow_native);
  check_machine(manifest);
  std::vector<Refusal> passed_over;
  std::vector<std::string> skipped;
  for (size_t place = 0; place < manifest.payloads.size(); ++place) {
    if (!is_asked_for(manifest, place, options)) continue;
    try {
      return try_payload(bundle, place, native, options, skipped);
    } catch (const Refusal& refusal) {
      bool next = refusal.kind == EDGEPACK_TOOLCHAIN_ERROR || refusal.kind == EDGEPACK_COMPILE_ERROR ||
                  refusal.kind == EDGEPACK_CONFIG_ERROR;
      if (!next) throw;
      passed_over.push_back(refusal);
      skipped.push_back(refusal.message);
    }
  }
  if (passed_over.empty())
    refuse(EDGEPACK_CONFIG_ERROR, manifest.name + " has no payload for " + options.engine,
           "leave the engine out, or see what the bundle holds with 'edgepack inspect'");
  throw none_left(passed_over);
}

}  // namespace edgepack
