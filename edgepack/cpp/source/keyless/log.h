// Entries of a transparency log: that a log has one, as its signed checkpoint says, and that it is of this signature. By
// the rules and with the words of edgepack/trust/keyless/log.py.

#ifndef EDGEPACK_KEYLESS_LOG_H_
#define EDGEPACK_KEYLESS_LOG_H_

#include <optional>
#include <string>
#include <vector>

#include "line.h"
#include "trusted_root.h"

namespace edgepack::keyless {

// Returns when the log took the entry, where it has signed that time. Throws NotCounted when none of the logs has this
// entry, or it is of another signature. ``message`` is what was signed.
std::optional<Moment> check_entry(const Keyless& signature, const std::string& message, const std::vector<LogKey>& logs);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_LOG_H_
