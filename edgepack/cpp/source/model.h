// Loads a bundle: asks this device's policy, looks at this machine, and gives the first payload that can run to its engine.

#ifndef EDGEPACK_MODEL_H_
#define EDGEPACK_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "bundle.h"
#include "inputs.h"
#include "runner.h"

namespace edgepack {

struct LoadOptions {
  int threads = 0;
  int batch = 1;
  int allow_native = 0;  // 1 may run, -1 may not, 0 as this device says
  std::string engine;    // "" for the bundle's order of preference
  int only = -1;         // the place of the one payload to try
};

class LoadedModel {
 public:
  LoadedModel(std::shared_ptr<const Bundle> bundle, size_t payload, std::string version, std::vector<std::string> skipped,
              std::string chosen, std::unique_ptr<Runner> runner);

  const Manifest& manifest() const { return bundle_->manifest; }
  size_t payload() const { return payload_; }
  const std::string& engine() const { return manifest().payloads[payload_].backend; }
  const std::string& engine_version() const { return version_; }
  // Lines for who reads the answers: engines that were passed over and why, and how this one was loaded.
  std::vector<std::string> notes() const;

  // Returns the outputs in the manifest's order, valid until the next call. Throws Refusal.
  const std::vector<TensorView>& run(const std::vector<NamedTensor>& inputs);
  std::unique_ptr<LoadedModel> another() const;

 private:
  std::shared_ptr<const Bundle> bundle_;
  size_t payload_;
  std::string version_;
  std::vector<std::string> skipped_;
  std::string chosen_;
  std::unique_ptr<Runner> runner_;
  std::vector<TensorView> outputs_;
};

// Throws Refusal.
std::unique_ptr<LoadedModel> load_model(std::shared_ptr<const Bundle> bundle, const LoadOptions& options);

}  // namespace edgepack

#endif  // EDGEPACK_MODEL_H_
