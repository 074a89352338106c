// The table of contents of a bundle, checked by the rules and with the words of edgepack/bundle/manifest.py.

#ifndef EDGEPACK_MANIFEST_H_
#define EDGEPACK_MANIFEST_H_

#include <stdint.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../include/edgepack.h"
#include "json.h"

namespace edgepack {

// An extent with a name is free; "?" is one without a name, and a first one that begins with "*" a length, no batch.
struct Extent {
  int64_t size;
  std::string name;
  bool free() const { return size < 0; }
  bool batch() const { return free() && name.rfind('*', 0) != 0; }
};

struct TensorSpec {
  std::string name, dtype;
  std::vector<Extent> shape;
};

struct FileEntry {
  std::string path, sha256;
  uint64_t size_bytes;
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Payload {
  std::string backend, device, precision, entry;
  std::vector<std::string> files;
  Pairs key;
};

struct Manifest {
  std::string name, version, target, precision;
  std::vector<TensorSpec> inputs, outputs;
  std::vector<std::string> classes;
  std::string arch;  // "" where any will do
  std::vector<std::string> isa;
  Pairs engine, toolchain;
  std::vector<Payload> payloads;
  std::vector<FileEntry> files;
};

// Throws Refusal (EDGEPACK_BUNDLE_ERROR); ``where`` names the bundle in it.
Manifest read_manifest(std::string_view text, const std::string& where);

// Whether a payload is code for a machine: whatever its engine does not compile when it loads it.
bool is_native(const Payload& payload);

}  // namespace edgepack

#endif  // EDGEPACK_MANIFEST_H_
