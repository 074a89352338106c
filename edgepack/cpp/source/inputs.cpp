#include "inputs.h"

#include <map>

#include "error.h"
#include "facts.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr size_t kMostTelling = 32;

// Exporters make up other names of free sizes: DynamicDimension.0, unk__6, s77, floor(width/2).
bool tells(const std::string& name) {
  if (name == "...") return true;
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (name.empty() || name.size() > kMostTelling || name == "None" || !letter(name[0])) return false;
  for (char c : name)
    if (!letter(c) && c != '_' && c != '-') return false;
  return true;
}

bool any_rank(const TensorSpec& spec) {
  for (const Extent& extent : spec.shape)
    if (extent.free() && extent.name == "...") return true;
  return false;
}

std::string problem(const TensorSpec& spec, const TensorView& given) {
  if (given.dtype != facts::dtype_of(spec.dtype))
    return std::string("has type ") + facts::kDtypes[given.dtype].name + ", not " + spec.dtype;
  if (!any_rank(spec)) {
    if (given.shape.size() != spec.shape.size())
      return "has " + std::to_string(given.shape.size()) + " dimensions, shape " + show_shape(given.shape) + ", not " +
             std::to_string(spec.shape.size());
    for (size_t i = 0; i < spec.shape.size(); ++i)
      if (!spec.shape[i].free() && spec.shape[i].size != given.shape[i])
        return "has shape " + show_shape(given.shape) + ", not " + show_shape(spec.shape);
  }
  size_t bytes = facts::kDtypes[given.dtype].bytes;
  for (int64_t size : given.shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes))
      return "has the impossible shape " + show_shape(given.shape);
  if (bytes != given.bytes || (bytes && !given.data))
    return "has " + std::to_string(given.data ? given.bytes : 0) + " bytes; its shape needs " + std::to_string(bytes);
  return "";
}

using Sizes = std::map<std::string, std::pair<int64_t, std::string>>;

// Says when a named dimension has one size here and another in an input before.
std::string disagreement(const TensorSpec& spec, const TensorView& given, Sizes* sizes) {
  for (size_t i = 0; !any_rank(spec) && i < spec.shape.size(); ++i) {
    const Extent& extent = spec.shape[i];
    if (!extent.free() || extent.name.empty() || extent.name == "?") continue;
    auto [before, added] = sizes->emplace(extent.name, std::pair(given.shape[i], spec.name));
    const auto& [size, where] = before->second;
    if (!added && size != given.shape[i])
      return "has " + extent.name + " = " + std::to_string(given.shape[i]) + ", but " + repr(where) + " has " + extent.name +
             " = " + std::to_string(size);
  }
  return "";
}

std::string expected(const std::vector<TensorSpec>& inputs) {
  std::vector<std::string> all;
  for (const TensorSpec& spec : inputs) all.push_back(spec.name + ": " + spec.dtype + " " + show_shape(spec.shape));
  return "the model takes " + joined(all);
}

}  // namespace

std::string show_shape(const std::vector<Extent>& shape) {
  std::vector<std::string> sizes;
  for (const Extent& extent : shape)
    sizes.push_back(!extent.free() ? std::to_string(extent.size) : tells(extent.name) ? extent.name : "any");
  return "[" + joined(sizes) + "]";
}

std::string show_shape(const std::vector<int64_t>& shape) {
  std::vector<std::string> sizes;
  for (int64_t size : shape) sizes.push_back(std::to_string(size));
  return "[" + joined(sizes) + "]";
}

std::vector<TensorView> in_order(const std::vector<NamedTensor>& given, const std::vector<TensorSpec>& inputs) {
  std::map<std::string, const TensorView*> found;
  for (const NamedTensor& tensor : given)
    if (!found.emplace(tensor.name, &tensor.value).second)
      refuse(EDGEPACK_DATA_ERROR, "the input " + repr(tensor.name) + " is given twice", expected(inputs));
  std::vector<std::string> missing, unknown;
  for (const TensorSpec& spec : inputs)
    if (!found.count(spec.name)) missing.push_back(spec.name);
  for (const NamedTensor& tensor : given) {
    bool known = false;
    for (const TensorSpec& spec : inputs) known = known || spec.name == tensor.name;
    if (!known) unknown.push_back(tensor.name);
  }
  if (!missing.empty()) refuse(EDGEPACK_DATA_ERROR, "missing inputs: " + joined(missing), expected(inputs));
  if (!unknown.empty()) refuse(EDGEPACK_DATA_ERROR, "unknown inputs: " + joined(unknown), expected(inputs));
  std::vector<TensorView> ordered;
  Sizes sizes;
  for (const TensorSpec& spec : inputs) {
    const TensorView& value = *found[spec.name];
    std::string wrong = problem(spec, value);
    if (wrong.empty()) wrong = disagreement(spec, value, &sizes);
    if (!wrong.empty()) refuse(EDGEPACK_DATA_ERROR, "input " + repr(spec.name) + " " + wrong, expected(inputs));
    ordered.push_back(value);
  }
  return ordered;
}

}  // namespace edgepack
