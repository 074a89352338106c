// Answers of timestamp authorities (RFC 3161): when a signature was there already. By the rules and with the words of
// edgepack/trust/keyless/timestamp.py.

#ifndef EDGEPACK_KEYLESS_TIMESTAMP_H_
#define EDGEPACK_KEYLESS_TIMESTAMP_H_

#include <optional>
#include <string>
#include <vector>

#include "trusted_root.h"

namespace edgepack::keyless {

// Returns when one of the authorities stamped ``message``; nothing where none of them signed the answer. Throws NotCounted
// for an answer that cannot be read, or that a trusted authority gave for something else.
std::optional<Moment> stamped_at(const std::string& answer, const std::string& message,
                                 const std::vector<Authority>& authorities);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_TIMESTAMP_H_
