// A strict JSON reader for documents from anybody: UTF-8, limits on size, depth, entries and numbers, no key twice.

#ifndef EDGEPACK_JSON_H_
#define EDGEPACK_JSON_H_

#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

namespace edgepack {

struct Value {
  enum Kind : uint8_t { kNull, kBool, kInteger, kFloat, kText, kList, kTable };

  Kind kind = kNull;
  bool truth = false;     // of a bool; of an integer: it is negative
  uint64_t magnitude = 0;  // of an integer, without its sign
  double number = 0;
  std::string text;
  std::vector<Value> items;         // of a list, and the values of a table
  std::vector<std::string> keys{};  // of a table, in the document's order

  const Value* find(std::string_view key) const;
  bool is_integer(uint64_t value) const { return kind == kInteger && !truth && magnitude == value; }
  double as_double() const;
};

// What is wrong with a document, in words that complete "not valid JSON: ...".
struct JsonProblem {
  std::string words;
};

// Returns what a document holds. Throws JsonProblem; its words are those of Python 3.11's json and of base/documents.py.
Value read_json(std::string_view bytes);

// A value as Python shows it, cut to 60 characters.
std::string show(const Value& value);

}  // namespace edgepack

#endif  // EDGEPACK_JSON_H_
