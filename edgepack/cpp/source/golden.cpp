#include "golden.h"

#include <string.h>

#include <algorithm>
#include <cmath>

#include "error.h"
#include "facts.h"
#include "schema.h"
#include "text.h"

namespace edgepack {

namespace {

struct Problem {
  std::string words;
};

[[noreturn]] void wrong(const std::string& words) { throw Problem{words}; }

// Takes a number without leading zeros, of at most ``digits``, and the slash behind it.
bool take_number(std::string_view* text, size_t digits, size_t* number) {
  size_t slash = text->find('/');
  if (slash == text->npos || slash == 0 || slash > digits || ((*text)[0] == '0' && slash > 1)) return false;
  *number = 0;
  for (char c : text->substr(0, slash)) {
    if (c < '0' || c > '9') return false;
    *number = *number * 10 + static_cast<size_t>(c - '0');
  }
  text->remove_prefix(slash + 1);
  return true;
}

bool take_word(std::string_view* text, std::string_view word) {
  if (text->substr(0, word.size()) != word) return false;
  text->remove_prefix(word.size());
  return true;
}

// The arrays of an archive, sorted into what they are.
struct Sorted {
  std::map<size_t, Arrays> inputs, outputs, answers;
  std::map<size_t, Array> orders;
  bool has_tolerance = false;
  Array tolerance;
};

void sort_in(const std::string& member, const Array& array, Sorted* into) {
  std::string_view name = member;
  if (name.size() < 5 || name.substr(name.size() - 4) != ".npy") wrong(repr(first(member, 80)) + " does not belong there");
  name.remove_suffix(4);
  size_t number = 0;
  if (name == "tolerance") {
    into->has_tolerance = true;
    into->tolerance = array;
    return;
  }
  bool input = take_word(&name, "input/"), output = !input && take_word(&name, "output/");
  if ((input || output) && take_number(&name, 6, &number) && !name.empty()) {
    (input ? into->inputs : into->outputs)[number][std::string(name)] = array;
  } else if (!input && !output && take_word(&name, "batch/") && take_number(&name, 3, &number) && name == "samples") {
    into->orders[number] = array;
  } else if (!input && !output && take_word(&name, "output/") && !name.empty()) {
    into->answers[number][std::string(name)] = array;
  } else {
    wrong(repr(first(member, 80)) + " does not belong there");
  }
}

template <typename Values>
bool counts_from_zero(const std::map<size_t, Values>& found) {
  return found.empty() || found.rbegin()->first + 1 == found.size();
}

std::vector<Arrays> listed(const std::map<size_t, Arrays>& found) {
  std::vector<Arrays> all;
  for (const auto& [number, arrays] : found) all.push_back(arrays);
  return all;
}

bool same_names(const Arrays& a, const Arrays& b) {
  auto same = [](const auto& x, const auto& y) { return x.first == y.first; };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), same);
}

std::vector<size_t> order_of(const Array& array, size_t samples) {
  size_t count = array.count();
  if (array.dtype != EDGEPACK_INT64 || array.shape.size() != 1 || count < 2 || count > facts::kMostAtOnce)
    wrong("a batch does not list its samples");
  std::vector<size_t> order;
  for (size_t i = 0; i < count; ++i) {
    int64_t number;
    memcpy(&number, array.data->data() + 8 * i, 8);
    if (number < 0 || static_cast<uint64_t>(number) >= samples) wrong("a batch lists samples that are not there");
    order.push_back(static_cast<size_t>(number));
  }
  return order;
}

std::map<std::string, Tolerance> tolerance_of(const Array& array) {
  std::string where = std::string(facts::kGolden) + ": tolerance";
  Value document;
  try {
    document = read_json({array.data->data(), array.data->size()});
  } catch (const JsonProblem& problem) {
    refuse(EDGEPACK_CONFIG_ERROR, where + ": not valid JSON: " + problem.words);
  }
  check_type(facts::kTolerancesType, document, where);
  std::map<std::string, Tolerance> found;
  const Value& outputs = *document.find("outputs");
  for (size_t i = 0; i < outputs.keys.size(); ++i) {
    const Value& item = outputs.items[i];
    const Value* zero_within = item.find("zero_within");
    found[outputs.keys[i]] = {item.find("sqnr_db")->as_double(), item.find("max_abs")->as_double(),
                              item.find("mismatch")->as_double(), zero_within ? zero_within->as_double() : 0.0};
  }
  return found;
}

Golden assemble(const Sorted& sorted) {
  Golden golden;
  if (sorted.has_tolerance) golden.tolerance = tolerance_of(sorted.tolerance);
  auto same_number = [](const auto& a, const auto& b) { return a.first == b.first; };
  bool same = sorted.inputs.size() == sorted.outputs.size() &&
              std::equal(sorted.inputs.begin(), sorted.inputs.end(), sorted.outputs.begin(), same_number);
  if (sorted.inputs.empty() || !counts_from_zero(sorted.inputs) || !same)
    wrong("inputs and outputs are not of the same samples");
  if (!counts_from_zero(sorted.orders) || !counts_from_zero(sorted.answers) || sorted.orders.size() != sorted.answers.size())
    wrong("the batches do not have samples and outputs");
  golden.inputs = listed(sorted.inputs);
  golden.outputs = listed(sorted.outputs);
  for (const auto& [number, answer] : sorted.answers)
    golden.batches.push_back({order_of(sorted.orders.at(number), golden.inputs.size()), answer});
  for (const Arrays& sample : golden.inputs)
    if (!same_names(sample, golden.inputs[0])) wrong("the samples do not have the same names");
  for (const Arrays& sample : golden.outputs)
    if (!same_names(sample, golden.outputs[0])) wrong("the samples do not have the same names");
  for (const GoldenBatch& batch : golden.batches)
    if (!same_names(batch.outputs, golden.outputs[0])) wrong("the samples do not have the same names");
  auto same_key = [](const auto& a, const auto& b) { return a.first == b.first; };
  const Arrays& names = golden.outputs[0];
  if (sorted.has_tolerance && (golden.tolerance.size() != names.size() ||
                               !std::equal(names.begin(), names.end(), golden.tolerance.begin(), same_key)))
    wrong("the tolerance is not of these outputs");
  return golden;
}

// --- whether the vectors are of this model, and say something ---

size_t elements(const Golden& golden, const std::string& name) {
  size_t count = 0;
  for (const Arrays& sample : golden.outputs) count += sample.at(name).count();
  return count;
}

void check_answer(const Arrays& answer, const std::vector<TensorSpec>& outputs) {
  for (const auto& [name, array] : answer) {
    const facts::Dtype& dtype = facts::kDtypes[array.dtype];
    std::vector<double> values = dtype.kind == 'f' ? doubles(array.view()) : std::vector<double>();
    auto finite = [](double v) { return std::isfinite(v); };
    if (!values.empty() && std::none_of(values.begin(), values.end(), finite))
      wrong("the fp32 model's output " + repr(name) + " has no finite value for a sample");
    for (const TensorSpec& spec : outputs)
      if (spec.name == name && spec.dtype != dtype.name)
        wrong("the output " + repr(name) + " is " + dtype.name + ", the model's is " + spec.dtype);
  }
}

void check_references(const Golden& golden, const std::vector<TensorSpec>& outputs) {
  for (const Arrays& sample : golden.inputs)
    for (const auto& [name, array] : sample)
      if (!array.count()) wrong("an input holds no values");
  size_t any = 0;
  for (const auto& [name, array] : golden.outputs[0]) any += elements(golden, name);
  if (!any) wrong("no output has a value");
  for (const Arrays& answer : golden.outputs) check_answer(answer, outputs);
  for (const GoldenBatch& batch : golden.batches) check_answer(batch.outputs, outputs);
}

std::string general(double number) {  // as Python's format(number, ".4g")
  char text[40];
  snprintf(text, sizeof text, "%.4g", number);
  return text;
}

// What a tolerance allows beyond the policy, in words; "" where it keeps it.
std::string too_wide(const Tolerance& allowed, const std::string& precision, size_t count) {
  for (const facts::Tolerance& most : facts::kTolerances) {
    if (precision != most.precision) continue;
    double spare = count && precision != "fp32" ? 1.0 / static_cast<double>(count) : 0.0;
    double mismatch = std::min(facts::kMostOfFew, most.mismatch + spare);
    if (!(most.sqnr_db - facts::kRounded <= allowed.sqnr_db && allowed.sqnr_db <= facts::kHighestSqnrDb))
      return "an SQNR of " + general(allowed.sqnr_db) + " dB, where " + precision + " needs " + general(most.sqnr_db);
    if (!(0 <= allowed.max_abs && allowed.max_abs <= most.max_abs))
      return "differences of " + general(allowed.max_abs) + " from zero, where " + precision + " may have " +
             general(most.max_abs);
    if (!(0 <= allowed.mismatch && allowed.mismatch <= mismatch + facts::kRounded))
      return general(100 * allowed.mismatch) + " % of decisions to differ, where " + general(100 * mismatch) + " % may";
    if (!(0 <= allowed.zero_within && allowed.zero_within <= most.zero_within))
      return "values up to " + general(allowed.zero_within) + " to count as zero, where " + general(most.zero_within) +
             " may";
    return "";
  }
  return "anything";
}

template <typename Specs>
bool are_of(const Arrays& arrays, const Specs& specs) {
  return arrays.size() == specs.size() &&
         std::all_of(specs.begin(), specs.end(), [&](const TensorSpec& spec) { return arrays.count(spec.name) > 0; });
}

void check_golden(const Golden& golden, const Bundle& bundle) {
  const Manifest& manifest = bundle.manifest;
  std::string subject = "the golden vectors of " + bundle.path();
  if (golden.tolerance.empty())
    refuse(EDGEPACK_BUNDLE_ERROR, subject + " have no tolerances",
           "pack the bundle again with 'edgepack build' or 'edgepack pack'");
  if (!are_of(golden.inputs[0], manifest.inputs) || !are_of(golden.outputs[0], manifest.outputs))
    refuse(EDGEPACK_BUNDLE_ERROR, subject + " are of a model with other inputs or outputs");
  std::set<std::string> batched = batched_inputs(manifest.inputs);
  try {
    for (const Arrays& sample : golden.inputs) in_order(feeds_of(sample), manifest.inputs);
    for (const GoldenBatch& batch : golden.batches)
      if (!batched.empty()) in_order(feeds_of(joined(golden, batch.samples, batched)), manifest.inputs);
  } catch (const Refusal& refusal) {
    refuse(EDGEPACK_BUNDLE_ERROR, subject + " do not fit the model: " + refusal.message);
  } catch (const Problem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, subject + " do not fit the model: " + problem.words);
  }
  try {
    check_references(golden, manifest.outputs);
  } catch (const Problem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, subject + " say nothing: " + problem.words);
  }
  for (const auto& [name, allowed] : golden.tolerance)
    if (std::string wide = too_wide(allowed, manifest.precision, elements(golden, name)); !wide.empty())
      refuse(EDGEPACK_BUNDLE_ERROR, subject + " allow the output " + repr(name) + " " + wide,
             "the bundle was changed, or made by another version: build it again");
}

double half(uint16_t bits) {  // IEEE 754 binary16
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 31  ? fraction ? NAN : INFINITY
                : exponent == 0 ? std::ldexp(fraction, -24)
                                : std::ldexp(fraction + 1024, exponent - 25);
  return bits >> 15 ? -size : size;
}

template <typename Number>
std::vector<double> converted(const TensorView& array) {
  std::vector<double> values(array.bytes / sizeof(Number));
  for (size_t i = 0; i < values.size(); ++i) {
    Number number;
    memcpy(&number, static_cast<const char*>(array.data) + i * sizeof number, sizeof number);
    values[i] = static_cast<double>(number);
  }
  return values;
}

}  // namespace

Golden read_golden(const Bundle& bundle) {
  std::string data = read_member(bundle, facts::kGolden);
  Golden golden;
  try {
    Sorted sorted;
    std::set<std::string> seen;
    for (const auto& [name, array] : read_npz(data)) {
      if (!seen.insert(name).second) wrong(repr(first(name, 80)) + " is there twice");
      sort_in(name, array, &sorted);
    }
    golden = assemble(sorted);
  } catch (const Problem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, std::string(facts::kGolden) + " does not hold golden vectors: " + problem.words);
  } catch (const NpzProblem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, std::string(facts::kGolden) + " does not hold golden vectors: " + problem.words);
  } catch (const Refusal& refusal) {
    if (refusal.kind != EDGEPACK_CONFIG_ERROR) throw;
    refuse(EDGEPACK_BUNDLE_ERROR, std::string(facts::kGolden) + ": " + refusal.message, "build the bundle again");
  }
  check_golden(golden, bundle);
  return golden;
}

std::set<std::string> batched_inputs(const std::vector<TensorSpec>& inputs) {
  std::set<std::string> elsewhere{"..."}, found;
  for (const TensorSpec& spec : inputs)
    for (size_t i = 1; i < spec.shape.size(); ++i)
      if (spec.shape[i].free()) elsewhere.insert(spec.shape[i].name);
  for (const TensorSpec& spec : inputs)
    if (!spec.shape.empty() && spec.shape[0].batch() && !elsewhere.count(spec.shape[0].name)) found.insert(spec.name);
  return found;
}

Arrays joined(const Golden& golden, const std::vector<size_t>& samples, const std::set<std::string>& batched) {
  Arrays made = golden.inputs[samples[0]];
  for (const std::string& name : batched) {
    const Array& one = made.at(name);
    Array whole{one.dtype, one.shape, nullptr};
    size_t bytes = 0;
    whole.shape[0] = 0;
    for (size_t sample : samples) {
      const Array& part = golden.inputs[sample].at(name);
      bool same = part.dtype == one.dtype && part.shape.size() == one.shape.size() &&
                  std::equal(part.shape.begin() + 1, part.shape.end(), one.shape.begin() + 1);
      if (!same) wrong("the samples of a batch have different shapes");
      whole.shape[0] += part.shape[0];
      bytes += part.data->size();
    }
    whole.data = std::make_shared<Buffer>(bytes);
    size_t filled = 0;
    for (size_t sample : samples) {
      const Buffer& part = *golden.inputs[sample].at(name).data;
      if (part.size()) memcpy(whole.data->data() + filled, part.data(), part.size());
      filled += part.size();
    }
    made[name] = whole;
  }
  return made;
}

std::vector<NamedTensor> feeds_of(const Arrays& arrays) {
  std::vector<NamedTensor> feeds;
  for (const auto& [name, array] : arrays) feeds.push_back({name, array.view()});
  return feeds;
}

std::vector<double> doubles(const TensorView& array) {
  switch (array.dtype) {
    case EDGEPACK_BOOL:
    case EDGEPACK_UINT8: return converted<uint8_t>(array);
    case EDGEPACK_INT8: return converted<int8_t>(array);
    case EDGEPACK_INT16: return converted<int16_t>(array);
    case EDGEPACK_INT32: return converted<int32_t>(array);
    case EDGEPACK_INT64: return converted<int64_t>(array);
    case EDGEPACK_UINT16: return converted<uint16_t>(array);
    case EDGEPACK_UINT32: return converted<uint32_t>(array);
    case EDGEPACK_UINT64: return converted<uint64_t>(array);
    case EDGEPACK_FLOAT32: return converted<float>(array);
    case EDGEPACK_FLOAT64: return converted<double>(array);
    default: break;
  }
  std::vector<double> values(array.bytes / 2);
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    memcpy(&bits, static_cast<const char*>(array.data) + 2 * i, 2);
    values[i] = half(bits);
  }
  return values;
}

}  // namespace edgepack
