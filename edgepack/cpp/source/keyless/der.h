// Reads DER (ITU-T X.690): what of certificates and timestamps OpenSSL's libcrypto is not asked for. By the rules and
// with the words of edgepack/trust/keyless/der.py.

#ifndef EDGEPACK_KEYLESS_DER_H_
#define EDGEPACK_KEYLESS_DER_H_

#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

namespace edgepack::keyless {

// Why a keyless signature counts for nothing. Others may be there that count.
struct NotCounted {
  std::string words;
};

[[noreturn]] inline void counts_not(std::string words) { throw NotCounted{std::move(words)}; }

enum Tag : uint8_t {
  kBool = 0x01, kInteger = 0x02, kBits = 0x03, kOctets = 0x04, kOid = 0x06, kUtf8 = 0x0C, kTime = 0x18, kSequence = 0x30,
  kSet = 0x31, kExplicit0 = 0xA0, kExplicit3 = 0xA3,
};

// One element: its tag, its content, and the bytes of both with the length. It points into what was read.
struct Element {
  uint8_t tag;
  std::string_view content, whole;

  // Returns the content of an element that has the tag. Throws NotCounted.
  std::string_view of(uint8_t tag) const;

  // Returns the elements inside an element that has the tag. Throws NotCounted.
  std::vector<Element> children(uint8_t tag) const;
};

// Returns the one element that the bytes are. Throws NotCounted for anything else.
Element read_der(std::string_view data);

// Returns an element's bytes.
std::string write_der(uint8_t tag, std::string_view content);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_DER_H_
