#include "preprocessing.h"

#include <algorithm>

#include "facts.h"
#include "text.h"

namespace edgepack {

namespace {

// A table of a preprocessing with its defaults, which are those of the dataclass.
struct Made {
  const Value& table;

  const Value* given(const char* key) const {
    const Value* found = table.find(key);
    return found && found->kind != Value::kNull ? found : nullptr;
  }
  std::string text(const char* key, const char* otherwise) const {
    const Value* found = given(key);
    return found ? found->text : otherwise;
  }
  bool truth(const char* key, bool otherwise) const {
    const Value* found = given(key);
    return found ? found->truth : otherwise;
  }
  double number(const char* key, double otherwise) const {
    const Value* found = given(key);
    return found ? found->as_double() : otherwise;
  }
  std::vector<double> numbers(const char* key, double otherwise) const {
    const Value* found = given(key);
    if (!found) return {otherwise, otherwise, otherwise};
    std::vector<double> values;
    for (const Value& item : found->items) values.push_back(item.as_double());
    return values;
  }
};

std::string whole(const Value& value) { return (value.truth ? "-" : "") + std::to_string(value.magnitude); }

bool within(const Value& value, uint64_t least, uint64_t most) {
  return !value.truth && value.magnitude >= least && value.magnitude <= most;
}

bool all_are(const std::vector<double>& values, double wanted) {
  return !values.empty() && std::all_of(values.begin(), values.end(), [&](double v) { return v == wanted; });
}

std::string pair(const Value& value) { return "(" + whole(value.items[0]) + ", " + whole(value.items[1]) + ")"; }

std::optional<std::string> sides(const Made& made) {
  std::vector<const Value*> all;
  for (const char* key : {"resize", "crop"})
    if (const Value* found = made.given(key)) all.push_back(&found->items[0]), all.push_back(&found->items[1]);
  if (const Value* found = made.given("resize_short")) all.push_back(found);
  for (const Value* side : all)
    if (!within(*side, 1, facts::kMostPixelsASide)) return "a side of " + whole(*side) + " pixels";
  return std::nullopt;
}

std::optional<std::string> crop(const Made& made) {
  const Value *crop = made.given("crop"), *resize = made.given("resize"), *short_side = made.given("resize_short");
  if (!crop) return std::nullopt;
  auto larger = [](const Value& a, const Value& b) { return a.magnitude > b.magnitude; };  // all are in 1..most here
  if (resize && (larger(crop->items[0], resize->items[0]) || larger(crop->items[1], resize->items[1])))
    return "the crop " + pair(*crop) + " is larger than resize " + pair(*resize);
  if (short_side && (larger(crop->items[0], *short_side) || larger(crop->items[1], *short_side)))
    return "the crop " + pair(*crop) + " is larger than resize_short = " + whole(*short_side);
  return std::nullopt;
}

std::optional<std::string> letterbox(const Made& made) {
  bool boxed = made.truth("letterbox", false);
  if (made.text("resampler", "pillow") == "opencv" && made.text("interpolation", "bilinear") == "lanczos")
    return "OpenCV's lanczos is not known";
  if (boxed && (!made.given("resize") || made.given("crop"))) return "letterbox needs resize, and no crop";
  if (const Value* pad = made.given("pad"); pad && !within(*pad, 0, facts::kMostPad)) return "pad = " + whole(*pad);
  if (const Value* stride = made.given("stride"); stride && (!boxed || !within(*stride, 1, facts::kMostPixelsASide)))
    return "stride = " + whole(*stride);
  if (const Value* least = made.given("least_width");
      least && (!made.given("stride") || !within(*least, 1, facts::kMostPixelsASide)))
    return "least_width = " + whole(*least);
  if (made.truth("fixed_height", false) && !(boxed && made.truth("scale_up", true)))
    return "fixed_height goes with letterbox and scale_up";
  return std::nullopt;
}

std::optional<std::string> pixels(const Made& made) {
  std::string color = made.text("color", "RGB");
  size_t channels = color == "L" ? 1 : 3;
  std::vector<double> mean = made.numbers("mean", 0), deviation = made.numbers("std", 1);
  for (const auto& [key, values] : {std::pair("mean", mean), std::pair("std", deviation)})
    if (values.size() != channels && !(channels == 1 && (all_are(values, 0) || all_are(values, 1))))
      return std::string(key) + " has " + std::to_string(values.size()) + " numbers, " + color + " has " +
             std::to_string(channels) + " channels";
  double scale = made.number("scale", 1);
  if (!(scale > 0) || !std::all_of(deviation.begin(), deviation.end(), [](double v) { return v > 0; }))
    return "std and scale must be greater than 0";
  bool plain = scale == 1 && std::all_of(mean.begin(), mean.end(), [](double v) { return v == 0; }) && all_are(deviation, 1);
  if (made.text("dtype", "float32") == "uint8" && !plain) return "dtype uint8 cannot hold scaled or normalised pixels";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> preprocessing_problem(const Value& table) {
  if (table.kind != Value::kTable) return std::nullopt;
  Made made{table};
  std::optional<std::string> problem;
  if (made.given("resize") && made.given("resize_short")) problem = "both resize and resize_short are given";
  for (auto check : {sides, crop, letterbox, pixels})
    if (!problem) problem = check(made);
  if (!problem) return std::nullopt;
  return "preprocessing: " + *problem;
}

}  // namespace edgepack
