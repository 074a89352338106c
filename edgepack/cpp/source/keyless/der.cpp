#include "der.h"

#include <stdio.h>

namespace edgepack::keyless {

namespace {

constexpr size_t kMostLengthBytes = 3;

// Takes the first element off: a tag of one byte, a definite length in its shortest form.
Element take(std::string_view* data) {
  if (data->size() < 2 || (static_cast<uint8_t>((*data)[0]) & 0x1F) == 0x1F) counts_not("it ends too early, or has a long tag");
  auto byte = [&](size_t place) { return static_cast<uint8_t>((*data)[place]); };
  size_t length = byte(1), begin = 2;
  if (length >= 0x80) {
    size_t size = length - 0x80;
    begin += size;
    length = 0;
    bool fits = size > 0 && size <= kMostLengthBytes;
    for (size_t i = 2; fits && i < begin && i < data->size(); ++i) length = length << 8 | byte(i);
    if (!fits || length < (size == 1 ? 0x80 : size_t{1} << 8 * (size - 1)))
      counts_not("a length is not in its shortest form, or too large");
  }
  if (begin > data->size() || length > data->size() - begin) counts_not("it ends too early");
  Element found{byte(0), data->substr(begin, length), data->substr(0, begin + length)};
  data->remove_prefix(begin + length);
  return found;
}

}  // namespace

std::string_view Element::of(uint8_t wanted) const {
  if (tag != wanted) {
    char words[64];
    snprintf(words, sizeof words, "tag 0x%02x stands in the place of 0x%02x", tag, wanted);
    counts_not(words);
  }
  return content;
}

std::vector<Element> Element::children(uint8_t wanted) const {
  std::string_view data = of(wanted);
  std::vector<Element> found;
  while (!data.empty()) found.push_back(take(&data));
  return found;
}

Element read_der(std::string_view data) {
  Element found = take(&data);
  if (!data.empty()) counts_not(std::to_string(data.size()) + " bytes follow");
  return found;
}

std::string write_der(uint8_t tag, std::string_view content) {
  std::string length;
  for (size_t left = content.size(); left; left >>= 8) length.insert(length.begin(), static_cast<char>(left));
  if (content.size() < 0x80) {
    length = std::string(1, static_cast<char>(content.size()));
  } else {
    length.insert(length.begin(), static_cast<char>(0x80 + length.size()));
  }
  return std::string(1, static_cast<char>(tag)) + length + std::string(content);
}

}  // namespace edgepack::keyless
