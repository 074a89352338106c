// A line of the signature's member: a keyless Sigstore bundle, by the rules and with the words of
// edgepack/trust/keyless/bundle.py. None of what it says is believed.

#ifndef EDGEPACK_KEYLESS_LINE_H_
#define EDGEPACK_KEYLESS_LINE_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

namespace edgepack::keyless {

// That an entry is in a log's tree (RFC 6962, 2.1.1); ``root`` is what it should come to.
struct Proof {
  uint64_t index, size;
  std::vector<std::string> hashes;
  std::string root, checkpoint;
};

// An entry of a log; ``integrated`` is in seconds since 1970, and nothing without ``promise``.
struct Entry {
  std::string log_id, kind, version, body;
  uint64_t index;
  Proof proof;
  std::optional<uint64_t> integrated;
  std::optional<std::string> promise;
};

// A keyless signature, decoded; ``certificate`` is DER.
struct Keyless {
  std::string payload, signature, certificate;
  Entry entry;
  std::vector<std::string> timestamps;
};

// Returns what a line without its end holds. Throws Refusal (EDGEPACK_TRUST_ERROR) for anything but the one form of it.
Keyless read_line(const std::string& line, const std::string& where);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_LINE_H_
