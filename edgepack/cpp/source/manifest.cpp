#include "manifest.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "error.h"
#include "facts.h"
#include "layout.h"
#include "preprocessing.h"
#include "schema.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr size_t kMostVersion = 200, kMostAxes = 64;
constexpr uint64_t kMostValues = uint64_t{1} << 48;  // more than a machine addresses

bool alphanumeric(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// Letters, digits and ``others``, the first a letter or digit; at most 100.
bool is_word(const std::string& text, const char* others) {
  if (text.empty() || text.size() > 100 || !alphanumeric(text[0])) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) { return alphanumeric(c) || (c && std::strchr(others, c)); });
}
bool is_name(const std::string& text) { return is_word(text, "._-"); }

bool is_sha256(const std::string& text) {
  auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), digit);
}

// --- text that would act on a terminal ---

bool acts(uint32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0xD800 && c < 0xE000); }

bool holds_control(std::string_view text) {
  for (size_t place = 0; place < text.size();) {
    Decoded found = decode_at(text, place);
    if (acts(found.character)) return true;
    place += found.bytes;
  }
  return false;
}

// Looks at texts in the order of edgepack's own reader, which is that of a stack: what was met last comes first.
void check_strings(const Value& document, const std::string& where) {
  struct Item {
    const Value* value;
    const std::string* key;
  };
  std::vector<Item> pending{{&document, nullptr}};
  while (!pending.empty()) {
    Item item = pending.back();
    pending.pop_back();
    const std::string* text = item.key ? item.key : item.value->kind == Value::kText ? &item.value->text : nullptr;
    if (text && holds_control(*text))
      refuse(EDGEPACK_BUNDLE_ERROR, where + ": " + facts::kManifest + " holds text with control characters: " +
                                        ascii_repr(first(*text, 60)));
    if (item.key) continue;
    for (const std::string& key : item.value->keys) pending.push_back({nullptr, &key});
    for (const Value& inner : item.value->items) pending.push_back({&inner, nullptr});
  }
}

void check_format(const Value& document, const std::string& where) {
  const Value* found = document.kind == Value::kTable ? document.find("format") : nullptr;
  if (!found || found->kind != Value::kInteger || found->truth || found->magnitude < 1)
    refuse(EDGEPACK_BUNDLE_ERROR, where + ": " + facts::kManifest + " does not say which format it has");
  if (found->magnitude > facts::kFormat)
    refuse(EDGEPACK_BUNDLE_ERROR,
           where + " has bundle format " + std::to_string(found->magnitude) + "; this edgepack reads up to " +
               std::to_string(facts::kFormat),
           facts::kUpgrade);
}

// --- from the document, whose types were checked, to the manifest ---

std::string text_of(const Value& table, const char* key) {
  const Value* found = table.find(key);
  return found && found->kind == Value::kText ? found->text : "";
}

std::vector<std::string> texts_of(const Value& table, const char* key) {
  std::vector<std::string> found;
  if (const Value* list = table.find(key))
    for (const Value& item : list->items) found.push_back(item.text);
  return found;
}

Pairs pairs_of(const Value& table, const char* key) {
  Pairs found;
  if (const Value* inner = table.find(key))
    for (size_t i = 0; i < inner->keys.size(); ++i) found.emplace_back(inner->keys[i], inner->items[i].text);
  return found;
}

int64_t extent_of(const Value& value) {  // what is beyond any array is refused before it is used
  if (value.magnitude > uint64_t{INT64_MAX}) return INT64_MAX;
  return static_cast<int64_t>(value.magnitude);
}

std::vector<TensorSpec> tensors_of(const Value& document, const char* key) {
  std::vector<TensorSpec> found;
  for (const Value& item : document.find(key)->items) {
    TensorSpec spec{text_of(item, "name"), text_of(item, "dtype"), {}};
    for (const Value& size : item.find("shape")->items)
      spec.shape.push_back(size.kind == Value::kText ? Extent{-1, size.text} : Extent{extent_of(size), ""});
    found.push_back(std::move(spec));
  }
  return found;
}

std::vector<Payload> payloads_of(const Value& document) {
  std::vector<Payload> found;
  for (const Value& item : document.find("payloads")->items)
    found.push_back({text_of(item, "backend"), text_of(item, "device"), text_of(item, "precision"), text_of(item, "entry"),
                     texts_of(item, "files"), pairs_of(item, "key")});
  return found;
}

Manifest convert(const Value& document) {
  Manifest made;
  made.name = text_of(document, "name");
  made.version = text_of(document, "version");
  made.target = text_of(document, "target");
  made.precision = text_of(document, "precision");
  made.inputs = tensors_of(document, "inputs");
  made.outputs = tensors_of(document, "outputs");
  made.classes = texts_of(document, "classes");
  const Value& needs = *document.find("requirements");
  made.arch = text_of(needs, "arch");
  made.isa = texts_of(needs, "isa");
  made.engine = pairs_of(needs, "engine");
  made.toolchain = pairs_of(document, "toolchain");
  made.payloads = payloads_of(document);
  for (const Value& item : document.find("files")->items)
    made.files.push_back({text_of(item, "path"), text_of(item, "sha256"), item.find("size_bytes")->magnitude});
  return made;
}

// --- what types cannot say; each function throws the first problem ---

struct Problem {
  std::string words;
};

void check_tensors(const std::string& what, const std::vector<TensorSpec>& tensors, const Value& document) {
  if (tensors.empty()) throw Problem{what + " is empty"};
  std::set<std::string> seen;
  for (const TensorSpec& tensor : tensors)
    if (!seen.insert(tensor.name).second) throw Problem{what + ": " + repr(tensor.name) + " is listed twice"};
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = tensors[i];
    std::string place = what + ": " + tensor.name + ": ";
    if (!facts::is_dtype(tensor.dtype)) throw Problem{place + "the dtype " + repr(tensor.dtype) + " is not one of numpy's numbers"};
    unsigned __int128 values = 1;
    bool zero = false, large = tensor.shape.size() > kMostAxes;
    for (const Value& size : document.find(what.c_str())->items[i].find("shape")->items) {
      if (size.kind != Value::kInteger) continue;
      if (size.truth || size.magnitude < (what == "inputs")) throw Problem{place + "a dimension is negative or empty"};
      zero = zero || !size.magnitude;
      if (values <= kMostValues) values *= size.magnitude ? size.magnitude : 1;
    }
    if (large || (!zero && values > kMostValues)) throw Problem{place + "larger than any array"};
  }
}

void check_files(const Manifest& manifest, const Value& document) {
  const std::vector<Value>& items = document.find("files")->items;
  if (manifest.files.size() + 2 > facts::kMemberLimit)
    throw Problem{"files: more than " + std::to_string(facts::kMemberLimit - 2)};
  std::vector<std::string> names;
  for (size_t i = 0; i < manifest.files.size(); ++i) {
    const FileEntry& entry = manifest.files[i];
    if (auto problem = name_problem(entry.path)) throw Problem{"files: " + repr(first(entry.path, 80)) + " " + *problem};
    if (entry.path == facts::kManifest || entry.path == facts::kSignature)
      throw Problem{"files: " + repr(entry.path) + " cannot list itself"};
    if (!is_sha256(entry.sha256)) throw Problem{"files: " + entry.path + ": not a sha256"};
    if (items[i].find("size_bytes")->truth) throw Problem{"files: " + entry.path + ": the size is negative"};
    names.push_back(entry.path);
  }
  if (auto problem = names_problem(names)) throw Problem{"files: " + *problem};
  for (const char* name : {facts::kGolden, facts::kSbom})
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw Problem{std::string("files: ") + name + " is missing"};
}

bool starts(const std::string& text, const std::string& with) { return text.compare(0, with.size(), with) == 0; }

void check_payloads(const Manifest& manifest) {
  std::set<std::string> files, used;
  for (const FileEntry& entry : manifest.files) files.insert(entry.path);
  if (manifest.payloads.empty()) throw Problem{"payloads is empty"};
  for (const Payload& payload : manifest.payloads) {
    if (!is_name(payload.backend))
      throw Problem{"payloads: " + repr(first(payload.backend, 80)) + " is not a backend's name"};
    std::set<std::string> seen;
    for (const std::string& name : payload.files)
      if (!seen.insert(name).second)
        throw Problem{"payloads: " + payload.backend + ": " + repr(first(name, 80)) + " is listed twice"};
    if (!seen.count(payload.entry))
      throw Problem{"payloads: the entry " + repr(first(payload.entry, 80)) + " is not one of its files"};
    for (const std::string& name : payload.files)
      if (!starts(name, facts::kModelFolder) || !files.count(name))
        throw Problem{"payloads: " + repr(first(name, 80)) + " is not one of the files in " + facts::kModelFolder};
    used.insert(seen.begin(), seen.end());
  }
  for (const std::string& name : files) {
    bool other = name == facts::kGolden || name == facts::kSbom || name == facts::kLayers || name == facts::kTuning;
    if (!used.count(name) && !starts(name, facts::kTaskFolder) && !other)
      throw Problem{"files: " + repr(first(name, 80)) + " belongs to no payload"};
  }
}

void check_binding(const Manifest& manifest) {
  bool data = false;
  for (const Payload& payload : manifest.payloads) {
    if (!facts::engine_of(payload.backend)) continue;
    if (data && is_native(payload)) throw Problem{"payloads: native code stands behind a payload of data"};
    data = data || !is_native(payload);
  }
  for (const Payload& payload : manifest.payloads)
    if (facts::engine_of(payload.backend) && is_native(payload) && manifest.arch.empty() && payload.key.empty())
      throw Problem{"payloads: " + payload.backend + " is native code, and the requirements name no machine for it"};
  for (const Payload& payload : manifest.payloads)
    if (payload.precision != manifest.precision)
      throw Problem{"payloads: " + payload.backend + " is " + payload.precision + ", the bundle " + manifest.precision};
  static const std::string kHost = "host-";
  std::string engine = starts(manifest.target, kHost) ? manifest.target.substr(kHost.size()) : "";
  if (facts::engine_of(engine) && manifest.payloads[0].backend != engine)
    throw Problem{"the target is " + manifest.target + ", the payload is for " + first(manifest.payloads[0].backend, 80)};
}

void check_head(const Manifest& manifest, const Value& document) {
  if (!is_name(manifest.name)) throw Problem{repr(manifest.name) + " is not a bundle's name"};
  if (!is_word(manifest.version, "._+-")) throw Problem{repr(manifest.version) + " is not a version"};
  if (!is_name(manifest.target)) throw Problem{repr(manifest.target) + " is not a target's id"};
  for (const char* what : {"source", "calibration"}) {
    const Value* digest = document.find(std::string(what) + "_sha256");
    if (digest->kind == Value::kText && !is_sha256(digest->text))
      throw Problem{std::string(what) + "_sha256 is not a sha256"};
  }
  for (const Pairs* pairs : {&manifest.engine, &manifest.toolchain})
    for (const auto& [package, version] : *pairs)
      if (length(version) > kMostVersion)
        throw Problem{"the version of " + first(package, 80) + " has " + std::to_string(length(version)) + " characters"};
}

void check_manifest(const Manifest& manifest, const Value& document) {
  check_head(manifest, document);
  check_tensors("inputs", manifest.inputs, document);
  check_tensors("outputs", manifest.outputs, document);
  check_files(manifest, document);
  check_payloads(manifest);
  check_binding(manifest);
  for (const Value& count : document.find("layers")->items)
    if (count.truth) throw Problem{"layers: a count is negative"};
  if (auto problem = preprocessing_problem(*document.find("preprocessing"))) throw Problem{first(*problem, 400)};
  const Value* task = document.find("task");
  if (task && task->kind == Value::kTable && !facts::is_task(text_of(*task, "kind")))
    throw Problem{first("task: unknown task " + repr(first(text_of(*task, "kind"), 80)), 400)};
}

std::string suffix_of(const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1);
  size_t dot = name.rfind('.');
  return dot == name.npos || dot == 0 || dot + 1 == name.size() ? "" : name.substr(dot);
}

}  // namespace

bool is_native(const Payload& payload) {
  const facts::Engine* engine = facts::engine_of(payload.backend);
  std::string suffix = suffix_of(payload.entry);
  return !engine || suffix.empty() || suffix != engine->portable;
}

Manifest read_manifest(std::string_view text, const std::string& where) {
  Value document;
  std::string place = where + ": " + facts::kManifest;
  try {
    document = read_json(text);
  } catch (const JsonProblem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, place + " is not valid JSON: " + problem.words);
  }
  check_format(document, where);
  check_strings(document, where);
  try {
    check_type(facts::kManifestType, document, place);
  } catch (const Refusal& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, first(problem.message, 400),
           std::string("made by another version of edgepack, or damaged: ") + facts::kUpgrade);
  }
  Manifest manifest = convert(document);
  try {
    check_manifest(manifest, document);
  } catch (const Problem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, place + ": " + problem.words, "build the bundle again");
  }
  return manifest;
}

}  // namespace edgepack
