#include "verify.h"

#include <string.h>

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "error.h"
#include "facts.h"
#include "golden.h"
#include "text.h"

namespace edgepack {

namespace {

struct Measures {
  double sqnr_db, cosine, max_abs;  // the first is NaN without a difference or a signal
};

double largest(const std::vector<double>& values) {
  double most = 0;
  for (double value : values) most = std::max(most, std::abs(value));
  return most;
}

// Both are divided by their largest magnitude first, so that no square overflows; SQNR and cosine do not change.
Measures measure(const std::vector<double>& expected, const std::vector<double>& found) {
  double scale = std::max(largest(expected), largest(found));
  if (scale == 0) return {NAN, 1, 0};
  double signal = 0, noise = 0, other = 0, product = 0, most = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    double a = expected[i] / scale, b = found[i] / scale;
    signal += a * a, other += b * b, product += a * b, noise += (a - b) * (a - b);
    most = std::max(most, std::abs(a - b));
  }
  double norms = std::sqrt(signal) * std::sqrt(other);
  double cosine = norms > 0 ? std::clamp(product / norms, -1.0, 1.0) : 0;
  double max_abs = std::min(most * scale, DBL_MAX);
  if (noise == 0 || signal == 0) return {NAN, signal > 0 ? cosine : 0, max_abs};
  return {10 * (std::log10(signal) - std::log10(noise)), cosine, max_abs};
}

std::string shape_words(const std::vector<int64_t>& shape) {  // as Python writes a tuple
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

// An output over some samples: what was expected, what was found.
struct Pair {
  const Array* expected;
  Array found;
};

std::string problem_of(const std::vector<Pair>& pairs) {
  for (const auto& [expected, found] : pairs) {
    if (found.shape != expected->shape)
      return "its shape is " + shape_words(found.shape) + ", the fp32 model's is " + shape_words(expected->shape);
    if (found.dtype != expected->dtype)
      return std::string("its dtype is ") + facts::kDtypes[found.dtype].name + ", the fp32 model's is " +
             facts::kDtypes[expected->dtype].name;
  }
  return "";
}

// Truth values and whole numbers of 32 bits and more are choices, of which an SQNR says nothing.
bool is_decision(int dtype) {
  const facts::Dtype& kind = facts::kDtypes[dtype];
  return kind.kind == 'b' || (kind.kind != 'f' && kind.bytes >= 4);
}

std::string general(double number, int digits) {
  char text[40];
  snprintf(text, sizeof text, "%.*g", digits, number);
  return text;
}

void compare_decision(const std::vector<Pair>& pairs, const Tolerance& allowed, Distance* out) {
  size_t differing = 0, total = 0;
  std::vector<double> first, second;
  for (const auto& [expected, found] : pairs) {
    size_t width = facts::kDtypes[found.dtype].bytes;
    for (size_t i = 0; i < found.data->size(); i += width, ++total)
      differing += memcmp(expected->data->data() + i, found.data->data() + i, width) != 0;
    for (double value : doubles(expected->view())) first.push_back(value);
    for (double value : doubles(found.view())) second.push_back(value);
  }
  Measures found = measure(first, second);
  out->mismatch = total ? static_cast<double>(differing) / static_cast<double>(total) : 0;
  out->sqnr_db = out->least_sqnr_db = NAN;
  out->cosine = found.cosine;
  out->max_abs = found.max_abs;
  out->passed = out->mismatch <= allowed.mismatch;
  out->note = "compared by equality: " + std::to_string(differing) + " of " + std::to_string(total) + " differ, " +
              general(100 * allowed.mismatch, 4) + " % may";
}

void compare_signal(const std::vector<Pair>& pairs, const Tolerance& allowed, Distance* out) {
  std::vector<double> first, second;
  for (const auto& [expected, found] : pairs) {
    std::vector<double> a = doubles(expected->view()), b = doubles(found.view());
    for (size_t i = 0; i < a.size(); ++i) {
      bool finite = std::isfinite(a[i]) && std::isfinite(b[i]);
      if (finite) first.push_back(a[i]), second.push_back(b[i]);
      if (!finite && !(std::isnan(a[i]) && std::isnan(b[i])) && a[i] != b[i]) ++out->nonfinite;
    }
  }
  Measures found = measure(first, second);
  out->sqnr_db = found.sqnr_db;
  out->cosine = found.cosine;
  out->max_abs = found.max_abs;
  out->mismatch = NAN;
  out->passed = out->nonfinite == 0;
  if (out->nonfinite) out->note = std::to_string(out->nonfinite) + " values are NaN or infinite in one of the two only";
  bool zero = std::all_of(first.begin(), first.end(), [](double v) { return v == 0; });
  if (found.max_abs > 0 && zero) {  // no signal: the ratio has no meaning
    if (out->note.empty())
      out->note = "the fp32 output is all zero: the largest difference is " + general(found.max_abs, 3) + ", " +
                  general(allowed.max_abs, 3) + " is allowed";
    out->passed = out->passed && found.max_abs <= allowed.max_abs;
  } else if (!std::isnan(found.sqnr_db) && largest(first) <= allowed.zero_within &&
             found.max_abs <= facts::kSteps * allowed.zero_within) {
    if (out->note.empty())
      out->note = "the fp32 output is nearly zero, at most " + general(largest(first), 3) + ": the largest difference is " +
                  general(found.max_abs, 3);
  } else if (!std::isnan(found.sqnr_db)) {
    out->passed = out->passed && found.sqnr_db >= allowed.sqnr_db;
  }
}

Distance distance(const std::string& name, const std::vector<Pair>& pairs, const Tolerance& allowed) {
  Distance made{};
  made.name = name;
  made.batch = 1;
  made.least_sqnr_db = allowed.sqnr_db;
  made.sqnr_db = made.mismatch = NAN;
  made.note = problem_of(pairs);
  if (!made.note.empty()) return made;
  if (is_decision(pairs[0].expected->dtype)) {
    compare_decision(pairs, allowed, &made);
  } else {
    compare_signal(pairs, allowed, &made);
  }
  return made;
}

Array copied(const TensorView& view) {
  Array made{view.dtype, view.shape, std::make_shared<Buffer>(view.bytes)};
  if (view.bytes) memcpy(made.data->data(), view.data, view.bytes);
  return made;
}

using Pairs = std::map<std::string, std::vector<Pair>>;

void run_sample(LoadedModel& model, const Arrays& inputs, const Arrays& expected, Pairs* into) {
  const std::vector<TensorView>& outputs = model.run(feeds_of(inputs));
  const std::vector<TensorSpec>& specs = model.manifest().outputs;
  for (size_t i = 0; i < specs.size(); ++i)
    (*into)[specs[i].name].push_back({&expected.at(specs[i].name), copied(outputs[i])});
}

std::vector<Distance> compared(const Pairs& pairs, const Golden& golden, int batch) {
  std::vector<Distance> found;
  for (const auto& [name, outputs] : pairs) {
    found.push_back(distance(name, outputs, golden.tolerance.at(name)));
    found.back().batch = batch;
  }
  return found;
}

void add_note(std::string* note, const std::string& words) {
  if (!words.empty() && note->find(words) == note->npos) *note += (note->empty() ? "" : "; ") + words;
}

// Runs all vectors, those at once too; an engine that refuses several at once is not wrong, and the note says so.
Verification run_golden(LoadedModel& model, const Golden& golden) {
  Verification found;
  found.engine = model.engine();
  found.engine_version = model.engine_version();
  found.samples = golden.inputs.size();
  Pairs alone;
  for (size_t i = 0; i < golden.inputs.size(); ++i) run_sample(model, golden.inputs[i], golden.outputs[i], &alone);
  found.distances = compared(alone, golden, 1);
  std::set<std::string> batched = batched_inputs(model.manifest().inputs);
  for (const GoldenBatch& batch : golden.batches) {
    if (batched.empty()) break;
    int size = static_cast<int>(batch.samples.size());
    try {
      Pairs together;
      run_sample(model, joined(golden, batch.samples, batched), batch.outputs, &together);
      for (Distance& distance : compared(together, golden, size)) found.distances.push_back(std::move(distance));
    } catch (const Refusal& refusal) {
      if (refusal.kind != EDGEPACK_DATA_ERROR && refusal.kind != EDGEPACK_COMPILE_ERROR) throw;
      add_note(&found.note, std::to_string(size) + " samples at once are refused: " + refusal.message);
    }
  }
  for (const std::string& line : model.notes()) add_note(&found.note, line);
  return found;
}

struct Way {
  std::string title;
  LoadOptions options;
};

// How else the bundle may be run here: the engine loaded for the batch of the golden vectors, and the engines that stand
// in for it, unless the device would have to build them first.
std::vector<Way> other_ways(const LoadedModel& model, const Golden& golden, const LoadOptions& options) {
  const std::vector<Payload>& payloads = model.manifest().payloads;
  std::vector<Way> ways;
  const facts::Engine* engine = facts::engine_of(model.engine());
  if (engine->fixes_batch && has_free_batch(model.manifest().inputs) && !golden.batches.empty() && options.batch == 1) {
    LoadOptions own = options;
    own.batch = static_cast<int>(golden.batches[0].samples.size());
    own.only = static_cast<int>(model.payload());
    ways.push_back({"loaded for " + std::to_string(own.batch), own});
  }
  for (size_t i = model.payload() + 1; options.engine.empty() && i < payloads.size(); ++i) {
    const facts::Engine* other = facts::engine_of(payloads[i].backend);
    if (!other || (other->built_on_device && payloads[i].key.empty())) continue;
    LoadOptions own = options;
    own.only = static_cast<int>(i);
    ways.push_back({payloads[i].backend, own});
  }
  return ways;
}

}  // namespace

Verification verify_bundle(std::shared_ptr<const Bundle> bundle, const LoadOptions& options) {
  std::unique_ptr<LoadedModel> model = load_model(bundle, options);
  Golden golden = read_golden(*bundle);
  Verification found = run_golden(*model, golden);
  std::vector<Way> ways = other_ways(*model, golden, options);
  model.reset();
  for (const Way& way : ways) {
    try {
      Verification other = run_golden(*load_model(bundle, way.options), golden);
      for (Distance& distance : other.distances) {
        distance.way = way.title;
        found.distances.push_back(std::move(distance));
      }
      add_note(&found.note, other.note);
    } catch (const Refusal& refusal) {
      if (refusal.kind != EDGEPACK_TOOLCHAIN_ERROR && refusal.kind != EDGEPACK_COMPILE_ERROR) throw;
    }
  }
  for (const Distance& distance : found.distances) found.passed = found.passed && distance.passed;
  return found;
}

}  // namespace edgepack
