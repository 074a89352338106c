// The program edgepack-run: what libedgepack does, from a shell, for boards without Python.
//
//   edgepack-run check BUNDLE...                      is each a whole bundle?
//   edgepack-run inspect BUNDLE                       print the manifest
//   edgepack-run verify BUNDLE [--json]               run the golden vectors
//   edgepack-run run BUNDLE --input X.npz --out Y.npz
//   --threads N, --batch N, --engine NAME, --allow-native, --no-native
//
// Exit codes are those of edgepack: 0 done, 2 usage or not a bundle, 3 an engine is missing, 5 damaged or wrong outputs.

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "../include/edgepack.h"
#include "npz.h"
#include "text.h"

namespace {

struct Words {
  std::string command;
  std::vector<std::string> bundles;
  std::string input, output, engine;
  bool json = false;
  edgepack_options options{sizeof(edgepack_options), 0, 0, 0, nullptr};
};

int usage() {
  fprintf(stderr,
          "usage: edgepack-run check BUNDLE...\n"
          "       edgepack-run inspect BUNDLE\n"
          "       edgepack-run verify BUNDLE [--json]\n"
          "       edgepack-run run BUNDLE --input X.npz --out Y.npz\n"
          "options: --threads N, --batch N, --engine NAME, --allow-native, --no-native, --version\n");
  return 2;
}

int failed(edgepack_status status) {
  fprintf(stderr, "error: %s\nhint: %s\n", edgepack_message(), edgepack_hint());
  return edgepack_exit_code(status);
}

int failed(const std::string& message, const char* hint) {
  fprintf(stderr, "error: %s\nhint: %s\n", message.c_str(), hint);
  return 2;
}

bool take_number(const char* text, int* number) {
  char* end = nullptr;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (!*text || *end || errno || value < 1 || value > 65536) return false;
  *number = static_cast<int>(value);
  return true;
}

bool read_words(int count, char** given, Words* words) {
  if (count < 2) return false;
  words->command = given[1];
  for (int i = 2; i < count; ++i) {
    std::string word = given[i];
    const char* value = i + 1 < count ? given[i + 1] : nullptr;
    if (word == "--json") {
      words->json = true;
    } else if (word == "--allow-native" || word == "--no-native") {
      words->options.allow_native = word == "--allow-native" ? 1 : -1;
    } else if (word.compare(0, 2, "--") != 0) {
      words->bundles.push_back(word);
    } else if (!value) {
      return false;
    } else {
      ++i;
      if (word == "--input") {
        words->input = value;
      } else if (word == "--out") {
        words->output = value;
      } else if (word == "--engine") {
        words->engine = value;
      } else if (word == "--threads") {
        if (!take_number(value, &words->options.threads)) return false;
      } else if (word != "--batch" || !take_number(value, &words->options.batch)) {
        return false;
      }
    }
  }
  if (!words->engine.empty()) words->options.engine = words->engine.c_str();
  return !words->bundles.empty();
}

int check(const Words& words) {
  int worst = 0;
  for (const std::string& path : words.bundles) {
    edgepack_bundle* bundle = nullptr;
    edgepack_status status = edgepack_open(path.c_str(), &bundle);
    if (status) {
      worst = failed(status);
    } else {
      printf("%s: %s %s for %s, %s\n", path.c_str(), edgepack_name(bundle), edgepack_bundle_version(bundle),
             edgepack_target(bundle), edgepack_precision(bundle));
    }
    edgepack_close(bundle);
  }
  return worst;
}

int inspect(edgepack_bundle* bundle) {
  fputs(edgepack_manifest_json(bundle), stdout);
  return 0;
}

std::string json_text(const char* text) {
  std::string out = "\"";
  for (const char* c = text; *c; ++c) {
    if (*c == '"' || *c == '\\') out += '\\';
    if (static_cast<unsigned char>(*c) < 0x20) {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", *c);
      out += escape;
    } else {
      out += *c;
    }
  }
  return out + "\"";
}

std::string json_number(double number) { return std::isfinite(number) ? edgepack::repr(number) : "null"; }

// The document that 'edgepack verify --json' prints, as far as this library measures.
void print_json(const edgepack_verification* found) {
  printf("{\n \"passed\": %s,\n \"outputs\": [", edgepack_passed(found) ? "true" : "false");
  for (size_t i = 0; i < edgepack_distance_count(found); ++i) {
    const edgepack_distance& d = *edgepack_distance_at(found, i);
    printf("%s\n  {\"name\": %s, \"sqnr_db\": %s, \"cosine\": %s, \"max_abs\": %s, \"tolerance_sqnr_db\": %s, \"passed\": %s, "
           "\"mismatch\": %s, \"nonfinite\": %lld, \"note\": %s, \"batch\": %d, \"way\": %s}",
           i ? "," : "", json_text(d.name).c_str(), json_number(d.sqnr_db).c_str(), json_number(d.cosine).c_str(),
           json_number(d.max_abs).c_str(), json_number(d.least_sqnr_db).c_str(), d.passed ? "true" : "false",
           json_number(d.mismatch).c_str(), static_cast<long long>(d.nonfinite), *d.note ? json_text(d.note).c_str() : "null",
           d.batch, json_text(d.way).c_str());
  }
  const char* note = edgepack_verification_note(found);
  printf("\n ],\n \"samples\": %zu,\n \"engine\": %s,\n \"note\": %s\n}\n", edgepack_samples(found),
         json_text(edgepack_verified_by(found)).c_str(), *note ? json_text(note).c_str() : "null");
}

void print_lines(const edgepack_verification* found) {
  printf("%s: %zu golden vectors on %s\n", edgepack_passed(found) ? "passed" : "failed", edgepack_samples(found),
         edgepack_verified_by(found));
  for (size_t i = 0; i < edgepack_distance_count(found); ++i) {
    const edgepack_distance& d = *edgepack_distance_at(found, i);
    printf("  %s", d.name);
    if (d.batch > 1) printf(", %d at once", d.batch);
    if (*d.way) printf(", %s", d.way);
    printf(": %s", d.passed ? "passed" : "failed");
    if (std::isfinite(d.sqnr_db)) printf(", SQNR %.1f dB (at least %.1f)", d.sqnr_db, d.least_sqnr_db);
    printf(*d.note ? " (%s)\n" : "\n", d.note);
  }
  if (*edgepack_verification_note(found)) printf("  note: %s\n", edgepack_verification_note(found));
}

int verify(edgepack_bundle* bundle, const Words& words) {
  edgepack_verification* found = nullptr;
  if (edgepack_status status = edgepack_verify(bundle, &words.options, &found)) return failed(status);
  words.json ? print_json(found) : print_lines(found);
  bool passed = edgepack_passed(found);
  edgepack_free_verification(found);
  return passed ? 0 : edgepack_exit_code(EDGEPACK_VERIFICATION_ERROR);
}

int run_with(edgepack_bundle* bundle, edgepack_model* model, const Words& words) {
  std::ifstream file(words.input, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) return failed("cannot read " + words.input, "check the path");
  std::vector<std::pair<std::string, edgepack::Array>> arrays;
  try {
    arrays = edgepack::read_npz(content.str());
  } catch (const edgepack::NpzProblem& problem) {
    return failed(words.input + " does not hold arrays: " + problem.words, "write it with numpy.savez");
  }
  std::vector<std::string> names;
  for (const auto& [name, array] : arrays) names.push_back(name.substr(0, name.rfind(".npy")));
  std::vector<edgepack_tensor> inputs, outputs(edgepack_output_count(bundle));
  for (size_t i = 0; i < arrays.size(); ++i) {
    const edgepack::Array& array = arrays[i].second;
    inputs.push_back({names[i].c_str(), static_cast<edgepack_dtype>(array.dtype), static_cast<int>(array.shape.size()),
                      array.shape.data(), array.data->data(), array.data->size()});
  }
  if (edgepack_status status = edgepack_run(model, inputs.data(), inputs.size(), outputs.data(), outputs.size()))
    return failed(status);
  std::vector<std::pair<std::string, edgepack::TensorView>> found;
  for (const edgepack_tensor& t : outputs)
    found.push_back({t.name, {t.dtype, {t.shape, t.shape + t.ndim}, t.data, t.bytes}});
  std::string archive = edgepack::write_npz(found);
  std::string next = words.output + ".tmp";
  std::ofstream out(next, std::ios::binary);
  if (!out.write(archive.data(), static_cast<std::streamsize>(archive.size())).flush() ||
      rename(next.c_str(), words.output.c_str())) {
    remove(next.c_str());
    return failed("cannot write " + words.output, "check the folder and its free space");
  }
  fprintf(stderr, "run by %s %s\n", edgepack_engine(model), edgepack_engine_version(model));
  if (*edgepack_notes(model)) fprintf(stderr, "%s\n", edgepack_notes(model));
  return 0;
}

int run(edgepack_bundle* bundle, const Words& words) {
  edgepack_model* model = nullptr;
  if (edgepack_status status = edgepack_load(bundle, &words.options, &model)) return failed(status);
  int code = run_with(bundle, model, words);
  edgepack_unload(model);
  return code;
}

}  // namespace

int main(int count, char** given) {
  if (count == 2 && strcmp(given[1], "--version") == 0) return printf("edgepack-run %s\n", edgepack_version()), 0;
  Words words;
  if (!read_words(count, given, &words)) return usage();
  if (words.command == "check") return check(words);
  bool known = words.command == "inspect" || words.command == "verify" || words.command == "run";
  if (!known || words.bundles.size() != 1) return usage();
  if (words.command == "run" && (words.input.empty() || words.output.empty())) return usage();
  edgepack_bundle* bundle = nullptr;
  if (edgepack_status status = edgepack_open(words.bundles[0].c_str(), &bundle)) return failed(status);
  int code = words.command == "inspect" ? inspect(bundle)
             : words.command == "verify" ? verify(bundle, words)
                                         : run(bundle, words);
  edgepack_close(bundle);
  return code;
}
