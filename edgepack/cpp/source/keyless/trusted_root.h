// The trusted root of a Sigstore instance: whose certificates, logs and timestamps count, and of which time. By the rules
// of edgepack/trust/keyless/trusted_root.py.

#ifndef EDGEPACK_KEYLESS_TRUSTED_ROOT_H_
#define EDGEPACK_KEYLESS_TRUSTED_ROOT_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace edgepack::keyless {

using Moment = int64_t;  // microseconds since 1970
constexpr Moment kSecond = 1000000;

// Returns the second that a moment is in.
constexpr int64_t seconds_of(Moment moment) { return moment / kSecond - (moment % kSecond < 0); }

// When something counts: from ``start`` to ``end``, both counted; nothing is for ever.
struct Period {
  Moment start;
  std::optional<Moment> end;

  bool holds(Moment moment) const { return start <= moment && (!end || moment <= *end); }
};

// The key of a log (SubjectPublicKeyInfo, DER; of any kind) and the log's id.
struct LogKey {
  std::string id, key;
  Period period;
};

// An authority's certificates (DER): the one that issues (or stamps) first, its own issuer last.
struct Authority {
  std::vector<std::string> certificates;
  Period period;
};

struct TrustedRoot {
  std::vector<LogKey> logs;
  std::vector<Authority> authorities;
  std::vector<LogKey> certificate_logs;
  std::vector<Authority> timestamp_authorities;
};

// Returns the trusted root in a file. Throws Refusal (EDGEPACK_CONFIG_ERROR, or EDGEPACK_STORAGE_ERROR where others may
// write it).
TrustedRoot read_trusted_root(const std::string& path);

// Returns the moment of a calendar's time, "YYYYMMDDhhmmss" and a part of a second; nothing for what is none.
std::optional<Moment> moment_of(std::string_view digits, std::string_view fraction);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_TRUSTED_ROOT_H_
