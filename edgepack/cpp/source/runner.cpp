#include "runner.h"

#include <dlfcn.h>

#include <algorithm>
#include <set>

#include "engines/drivers.h"
#include "error.h"
#include "facts.h"
#include "host.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr size_t kWordsCharacters = 800;
constexpr char kOtherModel[] = "the compiled files are of another model: compile it again";

}  // namespace

const Driver* driver_of(const std::string& engine) {
  for (const Driver* driver : {&kOnnxRuntime, &kOpenVino, &kTvm})
    if (engine == driver->name) return driver;
  return nullptr;
}

void* open_library(const char* title, const char* variable, const std::vector<std::string>& names) {
  std::string given = environment(variable);
  std::string hint = "put " + names[0] + " where the system's loader finds it, or set " + variable + " to its path";
  if (!given.empty()) {
    if (void* library = dlopen(given.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    refuse(EDGEPACK_TOOLCHAIN_ERROR, std::string(title) + " does not load: " + engine_words(dlerror()),
           std::string("correct ") + variable);
  }
  for (const std::string& name : names)
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  std::string why = engine_words(dlerror());
  bool missing = why.find("No such file") != why.npos;
  refuse(EDGEPACK_TOOLCHAIN_ERROR,
         std::string(title) + (missing ? " is not installed" : " is installed but does not load: " + why), hint);
}

void* symbol_of(void* library, const char* title, const char* name) {
  void* found = dlsym(library, name);
  if (!found)
    refuse(EDGEPACK_TOOLCHAIN_ERROR, std::string(title) + " here has no " + name, "install a newer version of it");
  return found;
}

std::string engine_words(const std::string& message) {
  std::string words;
  for (char c : backslash_replaced(message)) {  // names in a damaged file may be no text
    bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
    if (!space) words += c;
    if (space && !words.empty() && words.back() != ' ') words += ' ';
  }
  while (!words.empty() && words.back() == ' ') words.pop_back();
  return length(words) <= kWordsCharacters ? words : first(words, kWordsCharacters - 3) + "...";
}

void check_names(const Compiled& compiled, const char* kind, std::vector<std::string> found,
                 const std::vector<TensorSpec>& promised) {
  std::vector<std::string> wanted;
  for (const TensorSpec& spec : promised) wanted.push_back(spec.name);
  std::sort(wanted.begin(), wanted.end());
  std::sort(found.begin(), found.end());
  if (found != wanted)
    refuse(EDGEPACK_COMPILE_ERROR,
           compiled.payload.entry + " has the " + kind + " " + joined(found) + ", not " + joined(wanted), kOtherModel);
}

void check_output_type(const Compiled& compiled, const TensorSpec& promised, int dtype) {
  if (dtype >= 0 && promised.dtype != facts::kDtypes[dtype].name)
    refuse(EDGEPACK_COMPILE_ERROR,
           compiled.payload.entry + " returns " + repr(promised.name) + " as " + facts::kDtypes[dtype].name + ", not as " +
               promised.dtype,
           kOtherModel);
}

bool has_free_batch(const std::vector<TensorSpec>& inputs) {
  std::set<std::string> names;
  for (const TensorSpec& spec : inputs) {
    if (spec.shape.empty() || !spec.shape[0].batch()) return false;
    names.insert(spec.shape[0].name);
    for (size_t i = 1; i < spec.shape.size(); ++i)
      if (spec.shape[i].free()) return false;
  }
  return names.size() == 1;
}

}  // namespace edgepack
