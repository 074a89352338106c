#include "npz.h"

#include <string.h>

#include <algorithm>

#include "../include/edgepack.h"
#include "facts.h"
#include "sha256.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr size_t kEndBytes = 22, kCentralBytes = 46, kLocalBytes = 30, kMostHeader = 10000, kNpyAlignment = 64;
constexpr uint64_t kMax32 = 0xFFFFFFFF;

[[noreturn]] void wrong(const std::string& words) { throw NpzProblem{words}; }

uint64_t number(std::string_view data, size_t place, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(data[place + static_cast<size_t>(i)]);
  return value;
}
void put(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> 8 * i));
}

// Reads "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }", which is a Python literal.
class Header {
 public:
  Header(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  void read(std::string* descr, bool* fortran, std::vector<int64_t>* shape) {
    bool seen[3] = {};
    take('{');
    while (!at('}')) {
      std::string key = quoted();
      take(':');
      int place = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      if (place == 3 || seen[place]) fail();
      seen[place] = true;
      if (place == 0) *descr = quoted();
      if (place == 1) *fortran = truth();
      if (place == 2) *shape = sizes();
      if (!at('}')) take(',');
    }
    take('}');
    skip();
    if (place_ != text_.size() || !seen[0] || !seen[1] || !seen[2]) fail();
  }

 private:
  [[noreturn]] void fail() const { wrong(repr(name_) + " has a damaged header"); }
  void skip() {
    while (place_ < text_.size() && strchr(" \t\n\r", text_[place_]) && text_[place_]) ++place_;
  }
  bool at(char c) {
    skip();
    return place_ < text_.size() && text_[place_] == c;
  }
  void take(char c) {
    if (!at(c)) fail();
    ++place_;
  }
  bool word(std::string_view expected) {
    skip();
    if (text_.substr(place_, expected.size()) != expected) return false;
    place_ += expected.size();
    return true;
  }
  bool truth() {
    if (word("True")) return true;
    if (!word("False")) fail();
    return false;
  }
  std::string quoted() {
    skip();
    char quote = place_ < text_.size() ? text_[place_] : '\0';
    if (quote != '\'' && quote != '"') fail();
    size_t end = text_.find(quote, place_ + 1);
    if (end == text_.npos) fail();
    std::string found(text_.substr(place_ + 1, end - place_ - 1));
    place_ = end + 1;
    return found;
  }
  std::vector<int64_t> sizes() {
    std::vector<int64_t> found;
    take('(');
    while (!at(')')) {
      int64_t size = 0;
      size_t begin = place_;
      for (; place_ < text_.size() && text_[place_] >= '0' && text_[place_] <= '9'; ++place_)
        if (__builtin_mul_overflow(size, int64_t{10}, &size) || __builtin_add_overflow(size, text_[place_] - '0', &size)) fail();
      if (begin == place_) fail();
      found.push_back(size);
      if (!at(')')) take(',');
    }
    take(')');
    return found;
  }

  std::string_view text_;
  const std::string& name_;
  size_t place_ = 0;
};

// "<f4", "|b1": little-endian numbers, as facts::kDtypes has them; -1 for others.
int dtype_of_descr(const std::string& descr) {
  if (descr.size() != 3) return -1;
  for (int place = 0; place <= EDGEPACK_FLOAT64; ++place) {
    const facts::Dtype& dtype = facts::kDtypes[place];
    bool order = descr[0] == '<' || (dtype.bytes == 1 && (descr[0] == '|' || descr[0] == '>' || descr[0] == '=')) || descr[0] == '=';
    if (order && descr[1] == dtype.kind && static_cast<size_t>(descr[2] - '0') == dtype.bytes) return place;
  }
  return -1;
}

struct Entry {
  std::string name;
  uint64_t size, offset;
  uint32_t crc32;
};

std::vector<Entry> entries_of(std::string_view file) {
  if (file.size() < kEndBytes) wrong("it is not a zip archive");
  std::string_view end = file.substr(file.size() - kEndBytes);
  if (end.substr(0, 4) != "PK\5\6") wrong("it is not a zip archive, or has a comment");
  uint64_t count = number(end, 10, 2), size = number(end, 12, 4), place = number(end, 16, 4);
  if (place == kMax32 || count == 0xFFFF) wrong("it is too large");
  if (place > file.size() - kEndBytes || size != file.size() - kEndBytes - place) wrong("its directory is damaged");
  std::vector<Entry> found;
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view fixed = file.substr(std::min<uint64_t>(place, file.size()), kCentralBytes);
    if (fixed.size() < kCentralBytes || fixed.substr(0, 4) != "PK\1\2") wrong("its directory is damaged");
    uint64_t name = number(fixed, 28, 2), rest = number(fixed, 30, 2) + number(fixed, 32, 2);
    Entry entry{std::string(file.substr(std::min<uint64_t>(place + kCentralBytes, file.size()), name)), number(fixed, 24, 4),
                number(fixed, 42, 4), static_cast<uint32_t>(number(fixed, 16, 4))};
    if (number(fixed, 8, 2) & 1) wrong(repr(entry.name) + " is encrypted");
    if (number(fixed, 10, 2) || number(fixed, 20, 4) != entry.size) wrong(repr(entry.name) + " is compressed");
    if (entry.size == kMax32 || entry.offset == kMax32) wrong("it is too large");
    place += kCentralBytes + name + rest;
    found.push_back(std::move(entry));
  }
  return found;
}

std::string_view content_of(std::string_view file, const Entry& entry) {
  if (entry.offset > file.size() || file.size() - entry.offset < kLocalBytes) wrong(repr(entry.name) + " is not there");
  std::string_view local = file.substr(entry.offset, kLocalBytes);
  uint64_t begin = entry.offset + kLocalBytes + number(local, 26, 2) + number(local, 28, 2);
  bool same = local.substr(0, 4) == "PK\3\4" && file.substr(entry.offset + kLocalBytes, number(local, 26, 2)) == entry.name;
  if (!same || begin > file.size() || file.size() - begin < entry.size) wrong(repr(entry.name) + " is not there");
  std::string_view content = file.substr(begin, entry.size);
  if (crc32(content) != entry.crc32) wrong("Bad CRC-32 for file " + repr(entry.name));
  return content;
}

}  // namespace

size_t Array::count() const {
  size_t count = 1;
  for (int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

Array read_npy(std::string_view file, const std::string& name) {
  if (file.size() < 10 || file.substr(0, 6) != std::string_view("\x93NUMPY", 6)) wrong(repr(name) + " is not a .npy file");
  if (file[6] != 1 || file[7] != 0) wrong(repr(name) + " has a different version of .npy");
  size_t header = number(file, 8, 2);
  if (header > kMostHeader || file.size() - 10 < header) wrong(repr(name) + " has a damaged header");
  std::string descr;
  bool fortran = false;
  Array made;
  Header(file.substr(10, header), name).read(&descr, &fortran, &made.shape);
  made.dtype = dtype_of_descr(descr);
  if (fortran || made.dtype < 0) wrong(repr(name) + " is not a plain array of numbers");
  size_t bytes = facts::kDtypes[made.dtype].bytes;
  bool none = std::count(made.shape.begin(), made.shape.end(), 0) > 0;
  for (int64_t size : made.shape)
    if (!none && __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) wrong(repr(name) + " is too large");
  if ((none ? 0 : bytes) != file.size() - 10 - header) wrong(repr(name) + " does not hold the shape it states");
  made.data = std::make_shared<Buffer>(none ? 0 : bytes);
  if (made.data->size()) memcpy(made.data->data(), file.data() + 10 + header, made.data->size());
  return made;
}

std::vector<std::pair<std::string, Array>> read_npz(std::string_view file) {
  std::vector<std::pair<std::string, Array>> arrays;
  for (const Entry& entry : entries_of(file)) arrays.emplace_back(entry.name, read_npy(content_of(file, entry), entry.name));
  return arrays;
}

std::string write_npy(const TensorView& array) {
  const facts::Dtype& dtype = facts::kDtypes[array.dtype];
  std::string shape = "(";
  for (int64_t size : array.shape) shape += std::to_string(size) + (array.shape.size() == 1 ? "," : ", ");
  if (array.shape.size() > 1) shape.resize(shape.size() - 2);
  std::string header = std::string("{'descr': '") + (dtype.bytes == 1 ? '|' : '<') + dtype.kind + std::to_string(dtype.bytes) +
                       "', 'fortran_order': False, 'shape': " + shape + "), }";
  header.append((kNpyAlignment - (10 + header.size() + 1) % kNpyAlignment) % kNpyAlignment, ' ');
  header += '\n';
  std::string out("\x93NUMPY\1\0", 8);
  put(&out, header.size(), 2);
  out += header;
  return out.append(static_cast<const char*>(array.data), array.bytes);
}

std::string write_npz(const std::vector<std::pair<std::string, TensorView>>& arrays) {
  std::string out, directory;
  for (const auto& [name, array] : arrays) {
    std::string content = write_npy(array), member = name + ".npy", fields;
    uint32_t date = 1 << 5 | 1;  // 1980-01-01
    put(&fields, 20, 2), put(&fields, 0x800, 2), put(&fields, 0, 4), put(&fields, date, 2);
    put(&fields, crc32(content), 4), put(&fields, content.size(), 4), put(&fields, content.size(), 4);
    put(&fields, member.size(), 2), put(&fields, 0, 2);
    directory += "PK\1\2";
    put(&directory, 3 << 8 | 20, 2);
    directory += fields;
    put(&directory, 0, 6), put(&directory, 0100644u << 16, 4), put(&directory, out.size(), 4);
    directory += member;
    out += "PK\3\4" + fields + member + content;
  }
  if (out.size() + directory.size() > kMax32 || arrays.size() >= 0xFFFF) wrong("it is too large");
  std::string end = "PK\5\6";
  put(&end, 0, 4), put(&end, arrays.size(), 2), put(&end, arrays.size(), 2), put(&end, directory.size(), 4);
  put(&end, out.size(), 4), put(&end, 0, 2);
  return out + directory + end;
}

}  // namespace edgepack
