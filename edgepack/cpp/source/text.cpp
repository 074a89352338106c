#include "text.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "facts.h"

namespace edgepack {

namespace {

bool continues(std::string_view text, size_t place, uint8_t low = 0x80, uint8_t high = 0xBF) {
  if (place >= text.size()) return false;
  uint8_t byte = static_cast<uint8_t>(text[place]);
  return byte >= low && byte <= high;
}

// How many bytes from ``place`` on belong to one malformed sequence, and why (Unicode 15, table 3-7).
struct Malformed {
  size_t bytes;
  const char* why;  // nullptr for a good one, whose length is ``bytes``
};

Malformed inspect(std::string_view text, size_t place) {
  uint8_t lead = static_cast<uint8_t>(text[place]);
  if (lead < 0x80) return {1, nullptr};
  if (lead < 0xC2 || lead > 0xF4) return {1, "invalid start byte"};
  size_t wanted = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < wanted; ++i) {
    if (place + i >= text.size()) return {i, "unexpected end of data"};
    if (!continues(text, place + i, i == 1 ? low : 0x80, i == 1 ? high : 0xBF)) return {i, "invalid continuation byte"};
  }
  return {wanted, nullptr};
}

bool printable(uint32_t character) {
  size_t low = 0, high = sizeof facts::kUnprintable / sizeof facts::kUnprintable[0];
  while (low < high) {  // the ranges are sorted
    size_t middle = (low + high) / 2;
    if (character > facts::kUnprintable[middle][1]) {
      low = middle + 1;
    } else if (character < facts::kUnprintable[middle][0]) {
      high = middle;
    } else {
      return false;
    }
  }
  return true;
}

void append_escape(std::string* out, uint32_t character) {
  char text[16];
  const char* form = character < 0x100 ? "\\x%02x" : character < 0x10000 ? "\\u%04x" : "\\U%08x";
  snprintf(text, sizeof text, form, character);
  *out += text;
}

std::string quoted(std::string_view text, bool ascii) {
  bool single = text.find('\'') != text.npos, twice = text.find('"') != text.npos;
  char quote = single && !twice ? '"' : '\'';
  std::string out(1, quote);
  for (size_t place = 0; place < text.size();) {
    Decoded found = decode_at(text, place);
    uint32_t c = found.character;
    if (c == static_cast<uint32_t>(quote) || c == '\\') {
      out += {'\\', static_cast<char>(c)};
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (!printable(c) || (ascii && c >= 0x80)) {
      append_escape(&out, c);
    } else {
      out += text.substr(place, found.bytes);
    }
    place += found.bytes;
  }
  return out + quote;
}

}  // namespace

Decoded decode_at(std::string_view text, size_t place) {
  uint8_t lead = static_cast<uint8_t>(text[place]);
  if (lead == 0xED && continues(text, place + 1, 0xA0) && continues(text, place + 2)) {  // half a surrogate pair
    uint32_t high = static_cast<uint8_t>(text[place + 1]) & 0x3Fu, low = static_cast<uint8_t>(text[place + 2]) & 0x3Fu;
    return {0xD000u | high << 6 | low, 3, true};
  }
  Malformed found = inspect(text, place);
  if (found.why) return {lead, 1, false};
  if (found.bytes == 1) return {lead, 1, true};
  uint32_t character = lead & (0xFFu >> (found.bytes + 1));
  for (size_t i = 1; i < found.bytes; ++i) character = character << 6 | (static_cast<uint8_t>(text[place + i]) & 0x3Fu);
  return {character, found.bytes, true};
}

void append_utf8(std::string* text, uint32_t c) {
  auto byte = [&](uint32_t value) { text->push_back(static_cast<char>(value)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xC0 | c >> 6), byte(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F));
  } else {
    byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 0x3F)), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F));
  }
}

std::string utf8_problem(std::string_view bytes) {
  for (size_t place = 0; place < bytes.size();) {
    Malformed found = inspect(bytes, place);
    if (found.why) {
      char words[120];
      if (found.bytes == 1) {
        snprintf(words, sizeof words, "'utf-8' codec can't decode byte 0x%02x in position %zu: %s",
                 static_cast<unsigned>(static_cast<uint8_t>(bytes[place])), place, found.why);
      } else {
        snprintf(words, sizeof words, "'utf-8' codec can't decode bytes in position %zu-%zu: %s", place,
                 place + found.bytes - 1, found.why);
      }
      return words;
    }
    place += found.bytes;
  }
  return "";
}

std::string backslash_replaced(std::string_view bytes) {
  std::string out;
  for (size_t place = 0; place < bytes.size();) {
    Malformed found = inspect(bytes, place);
    for (size_t i = 0; found.why && i < found.bytes; ++i) append_escape(&out, static_cast<uint8_t>(bytes[place + i]));
    if (!found.why) out += bytes.substr(place, found.bytes);
    place += found.bytes;
  }
  return out;
}

size_t length(std::string_view text) {
  size_t count = 0;
  for (size_t place = 0; place < text.size(); ++count) place += decode_at(text, place).bytes;
  return count;
}

std::string first(std::string_view text, size_t most) {
  size_t place = 0;
  for (size_t count = 0; count < most && place < text.size(); ++count) place += decode_at(text, place).bytes;
  return std::string(text.substr(0, place));
}

std::string repr(std::string_view text) { return quoted(text, false); }
std::string ascii_repr(std::string_view text) { return quoted(text, true); }

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char buffer[40];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific).ptr;
  std::string text(buffer, end);
  size_t mark = text.find('e');
  int exponent = atoi(text.c_str() + mark + 1);
  std::string sign = text[0] == '-' ? "-" : "", digits;
  for (char c : text.substr(0, mark)) digits += c >= '0' && c <= '9' ? std::string(1, c) : "";
  if (exponent < -4 || exponent >= 16) {  // as Python's float.__repr__ chooses
    std::string tail = digits.size() > 1 ? "." + digits.substr(1) : "";
    snprintf(buffer, sizeof buffer, "e%+03d", exponent);
    return sign + digits[0] + tail + buffer;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string ascii_json(std::string_view text) {
  std::string out = "\"";
  for (size_t place = 0; place < text.size();) {
    Decoded found = decode_at(text, place);
    uint32_t c = found.character;
    place += found.bytes;
    static constexpr char kFrom[] = "\"\\\n\r\t\f\b", kTo[] = "\"\\nrtfb";
    const char* named = c < 0x80 && c ? strchr(kFrom, static_cast<char>(c)) : nullptr;
    char escape[16];
    if (named) {
      out += {'\\', kTo[named - kFrom]};
    } else if (c >= 0x20 && c < 0x7F) {
      out += static_cast<char>(c);
    } else if (c < 0x10000) {
      snprintf(escape, sizeof escape, "\\u%04x", c);
      out += c == 0x7F ? std::string(1, '\x7F') : escape;
    } else {
      snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
      out += escape;
    }
  }
  return out + "\"";
}

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) out += (i ? std::string(separator) : "") + words[i];
  return out;
}

}  // namespace edgepack
