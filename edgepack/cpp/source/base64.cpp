#include "base64.h"

#include <stdint.h>
#include <string.h>

#include <algorithm>

namespace edgepack {

namespace {

constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string to_base64(const std::string& data) {
  std::string out;
  for (size_t i = 0; i < data.size(); i += 3) {
    uint32_t group = 0;
    size_t bytes = std::min<size_t>(3, data.size() - i);
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < bytes ? static_cast<uint8_t>(data[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += j <= bytes ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

std::optional<std::string> from_base64(const std::string& text) {
  std::string out;
  uint32_t group = 0;
  size_t digits = 0;
  for (char c : text) {
    if (c == '=') break;
    const char* place = c ? strchr(kDigits, c) : nullptr;
    if (!place) return std::nullopt;
    group = group << 6 | static_cast<uint32_t>(place - kDigits);
    if (++digits % 4 == 0) {
      for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>(group >> shift);
      group = 0;
    }
  }
  size_t left = digits % 4;
  if (left == 2) out += static_cast<char>(group >> 4);
  if (left == 3) out += static_cast<char>(group >> 10), out += static_cast<char>(group >> 2);
  if (to_base64(out) != text) return std::nullopt;
  return out;
}

std::string to_pem(const std::string& data, const std::string& kind) {
  std::string text = to_base64(data), out = "-----BEGIN " + kind + "-----\n";
  for (size_t i = 0; i < text.size(); i += 64) out += text.substr(i, 64) + "\n";
  return out + "-----END " + kind + "-----\n";
}

std::optional<std::string> next_pem(const std::string& text, const std::string& kind, size_t* place) {
  const std::string begins = "-----BEGIN " + kind + "-----", ends = "-----END " + kind + "-----";
  size_t begin = text.find(begins, *place);
  size_t end = begin == text.npos ? text.npos : text.find(ends, begin + begins.size());
  if (end == text.npos) return std::nullopt;
  *place = end + ends.size();
  std::string body;
  for (char c : text.substr(begin + begins.size(), end - begin - begins.size()))
    if (!c || !strchr(" \t\r\n", c)) body += c;
  return from_base64(body);
}

}  // namespace edgepack
