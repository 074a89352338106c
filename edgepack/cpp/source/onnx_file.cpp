#include "onnx_file.h"

#include <stdint.h>

#include <vector>

#include "error.h"
#include "facts.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
constexpr int kMostVarintBytes = 10;

struct Piece {
  uint64_t number;
  int kind;
  uint64_t value, end;  // places in the file
};

// A message that is being read: what it is, and the place and the end of what is left of it.
struct Level {
  std::string_view kind;
  uint64_t place, end;
};

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  // Reads the field at a place of a message that ends there, and goes behind it.
  Piece next(uint64_t* place, uint64_t end) const {
    Piece field = read(*place, end);
    *place = field.end;
    return field;
  }

  std::string text(const Piece& field) const { return backslash_replaced(raw(field)); }
  std::string_view raw(const Piece& field) const { return bytes_.substr(field.value, field.end - field.value); }

  [[noreturn]] void damaged(const std::string& words) const {
    refuse(EDGEPACK_COMPILE_ERROR, name_ + ": " + words, facts::kOtherFiles);
  }

 private:
  Piece read(uint64_t tag, uint64_t end) const {
    uint64_t place = tag, key = varint(&place, end);
    Piece field{key >> 3, static_cast<int>(key & 7), place, place};
    if (key > UINT32_MAX)
      damaged("not an ONNX file: a field of the number " + std::to_string(field.number) + " at byte " + std::to_string(tag));
    if (field.number == 0) damaged("not an ONNX file: a field without a number at byte " + std::to_string(tag));
    uint64_t size = 0;
    if (field.kind == kVarint) {
      varint(&place, end);
      size = place - field.value;
    } else if (field.kind == kBytes) {
      size = varint(&place, end);
      field.value = place;
    } else if (field.kind == kFixed64 || field.kind == kFixed32) {
      size = field.kind == kFixed64 ? 8 : 4;
    } else {
      damaged("not an ONNX file: wire type " + std::to_string(field.kind) + " at byte " + std::to_string(tag));
    }
    if (size > end - field.value)
      damaged("the ONNX file is truncated or damaged: the field at byte " + std::to_string(tag) + " needs " +
              std::to_string(size - (end - field.value)) + " bytes more");
    field.end = field.value + size;
    return field;
  }

  // Reads the number at a place, and goes behind it.
  uint64_t varint(uint64_t* place, uint64_t end) const {
    uint64_t number = 0;
    for (int count = 0; count < kMostVarintBytes; ++count, ++*place) {
      if (*place >= end)
        damaged("the ONNX file is truncated or damaged: a number is cut at byte " + std::to_string(*place));
      uint64_t byte = static_cast<unsigned char>(bytes_[*place]);
      if (count == kMostVarintBytes - 1 && byte > 1) {  // beyond the 64th bit
        ++*place;
        break;
      }
      number |= (byte & 0x7f) << (7 * count);
      if (byte < 0x80) return ++*place, number;
    }
    damaged("not an ONNX file: a number of more than 64 bits before byte " + std::to_string(*place));
  }

  std::string_view bytes_;
  const std::string& name_;
};

// The kind of what a field of a message of some kind holds; empty for what is not looked at.
std::string_view kind_inside(std::string_view message, uint64_t number) {
  for (const facts::OnnxField& row : facts::kOnnxFields)
    if (message == row.message && number == row.number) return row.holds;
  return {};
}

void add_location(const Reader& reader, const Piece& entry, std::set<std::string>* found) {
  std::string_view key, value;
  for (uint64_t place = entry.value; place < entry.end;) {
    Piece field = reader.next(&place, entry.end);
    if (field.kind == kBytes && field.number == 1) key = reader.raw(field);
    if (field.kind == kBytes && field.number == 2) value = reader.raw(field);
  }
  if (key == "location") found->insert(backslash_replaced(value));
}

}  // namespace

bool Named::may_end_the_process() const {
  bool branches = false;
  for (const char* name : facts::kBranches) branches = branches || operators.count(name);
  return branches && operators.count(facts::kDequantize);
}

Named read_named(std::string_view bytes, const std::string& name) {
  Reader reader(bytes, name);
  if (bytes.empty()) reader.damaged(name + " is empty");
  Named found;
  std::vector<Level> levels{{"model", 0, bytes.size()}};
  while (!levels.empty()) {
    Level& level = levels.back();
    if (level.place >= level.end) {
      levels.pop_back();
      continue;
    }
    Piece field = reader.next(&level.place, level.end);
    std::string_view kind = field.kind == kBytes ? kind_inside(level.kind, field.number) : "";
    if (kind == "operator") {
      found.operators.insert(reader.text(field));
    } else if (kind == "place" || kind == "place of weights") {
      add_location(reader, field, kind == "place" ? &found.others : &found.weights);
    } else if (!kind.empty()) {
      if (levels.size() == facts::kMostLevels)
        reader.damaged("not an ONNX file: more than " + std::to_string(facts::kMostLevels) + " messages lie in each other");
      levels.push_back({kind, field.value, field.end});
    }
  }
  return found;
}

}  // namespace edgepack
