#include "schema.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "text.h"

namespace edgepack {

namespace {

// Where a value stands: in what, and there under which key or at which index. Put into words for errors only.
struct Place {
  const Place* outer;
  std::string_view key;
  size_t index;
};

std::string words(const Place& place) {
  if (!place.outer) return std::string(place.key);
  std::string before = words(*place.outer);
  return place.key.data() ? before + ": " + std::string(place.key) : before + "[" + std::to_string(place.index) + "]";
}

[[noreturn]] void wrong(const Place& place, const std::string& expected, const Value& value) {
  refuse(EDGEPACK_CONFIG_ERROR, words(place) + ": expected " + expected + ", found " + show(value),
         "write " + expected + " there");
}

void check(const Type& type, const Value& value, const Place& place);

const Field* field_of(const Type& type, std::string_view key) {
  for (size_t i = 0; i < type.field_count; ++i)
    if (type.fields[i].name == key) return &type.fields[i];
  return nullptr;
}

std::string known(const Type& type) {
  std::vector<std::string> names;
  for (size_t i = 0; i < type.field_count; ++i) names.emplace_back(type.fields[i].name);
  std::sort(names.begin(), names.end());
  return "known: " + joined(names);
}

void check_record(const Type& type, const Value& value, const Place& place) {
  if (value.kind != Value::kTable) wrong(place, "a table", value);
  for (const std::string& key : value.keys) {
    if (field_of(type, key)) continue;
    Value shown;
    shown.kind = Value::kText;
    shown.text = key;
    refuse(EDGEPACK_CONFIG_ERROR, words(place) + ": unknown key " + show(shown), known(type));
  }
  for (size_t i = 0; i < value.keys.size(); ++i)
    check(*field_of(type, value.keys[i])->type, value.items[i], {&place, value.keys[i], 0});
  for (size_t i = 0; i < type.field_count; ++i)
    if (type.fields[i].required && !value.find(type.fields[i].name))
      refuse(EDGEPACK_CONFIG_ERROR, words(place) + ": the key " + repr(std::string_view(type.fields[i].name)) + " is missing",
             std::string("add ") + type.fields[i].name + " = ...");
}

void check_literal(const Type& type, const Value& value, const Place& place) {
  std::vector<std::string> allowed;
  for (size_t i = 0; i < type.word_count; ++i) {
    if (value.kind == Value::kText && value.text == type.words[i]) return;
    allowed.emplace_back(type.words[i]);
  }
  refuse(EDGEPACK_CONFIG_ERROR, words(place) + ": " + show(value) + " is not one of the allowed values",
         "known: " + joined(allowed));
}

void check_union(const Type& type, const Value& value, const Place& place) {
  if (value.kind == Value::kNull && type.optional) return;
  if (type.count == 1) return check(*type.parts[0], value, place);
  for (size_t i = 0; i < type.count; ++i) {
    try {
      return check(*type.parts[i], value, place);
    } catch (const Refusal&) {
      continue;
    }
  }
  wrong(place, type.expected, value);
}

void check_items(const Type& type, const Value& value, const Place& place) {
  if (value.kind != Value::kList) wrong(place, "a list", value);
  bool tuple = type.kind == Type::kTuple;
  if (tuple && value.items.size() != type.count)
    refuse(EDGEPACK_CONFIG_ERROR, words(place) + ": expected " + std::to_string(type.count) + " values, found " +
                                      std::to_string(value.items.size()));
  for (size_t i = 0; i < value.items.size(); ++i)
    check(*type.parts[tuple ? i : 0], value.items[i], {&place, std::string_view(), i});
}

void check(const Type& type, const Value& value, const Place& place) {
  switch (type.kind) {
    case Type::kAny: return;
    case Type::kRecord: return check_record(type, value, place);
    case Type::kLiteral: return check_literal(type, value, place);
    case Type::kUnion: return check_union(type, value, place);
    case Type::kList:
    case Type::kTuple: return check_items(type, value, place);
    case Type::kTable:
      if (value.kind != Value::kTable) wrong(place, "a table", value);
      for (size_t i = 0; i < value.items.size(); ++i) check(*type.parts[0], value.items[i], {&place, value.keys[i], 0});
      return;
    case Type::kInteger:
      if (value.kind != Value::kInteger) wrong(place, "a whole number", value);
      return;
    case Type::kBool:
      if (value.kind != Value::kBool) wrong(place, "true or false", value);
      return;
    case Type::kText:
      if (value.kind != Value::kText) wrong(place, "text", value);
      return;
    case Type::kFloat:
      if (value.kind != Value::kFloat && value.kind != Value::kInteger) wrong(place, "a number", value);
      return;
  }
}

}  // namespace

void check_type(const Type& type, const Value& value, const std::string& where) {
  check(type, value, {nullptr, where, 0});
}

}  // namespace edgepack
