// Checks a document against a type, by the rules and with the words of edgepack/base/documents.py. The types are made
// from edgepack's dataclasses (facts.h).

#ifndef EDGEPACK_SCHEMA_H_
#define EDGEPACK_SCHEMA_H_

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "json.h"

namespace edgepack {

struct Type;

struct Field {
  const char* name;
  const Type* type;
  bool required;
};

struct Type {
  enum Kind : uint8_t { kAny, kRecord, kLiteral, kUnion, kList, kTuple, kTable, kInteger, kBool, kText, kFloat };

  Kind kind;
  bool optional;             // of a union: null is taken too
  const char* expected;      // of a union: what it takes, in words
  const Type* const* parts;  // of a union and a tuple; of a list and a table: one
  size_t count;
  const Field* fields;  // of a record
  size_t field_count;
  const char* const* words;  // of a literal
  size_t word_count;
};

// Throws Refusal (EDGEPACK_CONFIG_ERROR), which begins with ``where`` and names the place inside the document.
void check_type(const Type& type, const Value& value, const std::string& where);

}  // namespace edgepack

#endif  // EDGEPACK_SCHEMA_H_
