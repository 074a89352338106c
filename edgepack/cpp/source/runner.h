// What an engine offers: its version on this machine, and a loaded model that runs.

#ifndef EDGEPACK_RUNNER_H_
#define EDGEPACK_RUNNER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "buffer.h"
#include "manifest.h"

namespace edgepack {

// What an engine said when it would not run or load; its own words.
struct EngineProblem {
  std::string words;
};

// A loaded model for one thread at a time. Inputs and outputs are in the manifest's order.
class Runner {
 public:
  virtual ~Runner() = default;
  // Outputs are valid until the next call. Throws EngineProblem.
  virtual void run(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) = 0;
  // Another runner of the same loaded model, for another thread.
  virtual std::unique_ptr<Runner> another() = 0;
};

struct EngineOptions {
  int threads = 0;  // 0: the engine's own choice
  int batch = 1;
  bool as_written = false;  // compute the graph as it stands, without the engine's own rewriting
};

// A payload whose files are read on demand, each compared with the manifest.
struct Compiled {
  const Manifest& manifest;
  const Payload& payload;
  std::string device;
  std::function<std::shared_ptr<Buffer>(const std::string& name)> read;

  std::string folder() const { return payload.entry.substr(0, payload.entry.rfind('/') + 1); }
};

struct Driver {
  const char* name;
  // Its version here; "" where a bundle brings the engine. Throws Refusal where it is not installed.
  std::string (*version)();
  // Throws Refusal (EDGEPACK_COMPILE_ERROR where the engine refuses the files) or EngineProblem.
  std::unique_ptr<Runner> (*load)(const Compiled& compiled, const EngineOptions& options);
};

// The driver of an engine; nullptr for one that this library does not run.
const Driver* driver_of(const std::string& engine);

// --- what drivers share ---

// Loads the first library that is there: of the environment variable, else by its names. Throws Refusal.
void* open_library(const char* title, const char* variable, const std::vector<std::string>& names);
void* symbol_of(void* library, const char* title, const char* name);

// An engine's own message on one line, shortened.
std::string engine_words(const std::string& message);

// Refuses files whose inputs or outputs are not those that were promised.
void check_names(const Compiled& compiled, const char* kind, std::vector<std::string> found,
                 const std::vector<TensorSpec>& promised);
void check_output_type(const Compiled& compiled, const TensorSpec& promised, int dtype);

// Whether the first extent of every input, and no other, is free and has one name.
bool has_free_batch(const std::vector<TensorSpec>& inputs);

}  // namespace edgepack

#endif  // EDGEPACK_RUNNER_H_
