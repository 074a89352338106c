// Text as Python shows it, so that both loaders say the same words: UTF-8 by code points, repr() of strings and numbers.

#ifndef EDGEPACK_TEXT_H_
#define EDGEPACK_TEXT_H_

#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

namespace edgepack {

// Text holds UTF-8, where half a surrogate pair, which JSON can spell, is encoded as if it were a character.
struct Decoded {
  uint32_t character;
  size_t bytes;  // 1 for a byte that is not UTF-8, which is then its own character
  bool good;
};

Decoded decode_at(std::string_view text, size_t place);
void append_utf8(std::string* text, uint32_t character);

// What is wrong with bytes that are not UTF-8, in the words of Python's codec; empty where they are.
std::string utf8_problem(std::string_view bytes);

// Text of bytes that may not be UTF-8: what is not is written as \xNN.
std::string backslash_replaced(std::string_view bytes);

size_t length(std::string_view text);                   // in characters
std::string first(std::string_view text, size_t most);  // at most so many characters

std::string repr(std::string_view text);        // 'as Python', with escapes for what cannot be printed
std::string ascii_repr(std::string_view text);  // the same, with escapes for all but ASCII
std::string repr(double number);                // the shortest decimal that is read as the same number

std::string ascii_json(std::string_view text);   // as Python's json writes it, in quotes and in ASCII

std::string joined(const std::vector<std::string>& words, std::string_view separator = ", ");

}  // namespace edgepack

#endif  // EDGEPACK_TEXT_H_
