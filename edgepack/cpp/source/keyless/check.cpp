#include "check.h"

#include <algorithm>

#include "../certificates.h"
#include "log.h"
#include "timestamp.h"

namespace edgepack::keyless {

Checked check_keyless(const Keyless& signature, const std::string& message, const TrustedRoot& root) {
  const std::string& leaf = signature.certificate;
  if (!is_certificate(leaf)) counts_not("its certificate cannot be read");
  Identity by = identity_of(leaf);
  if (!is_signed_by(key_of(leaf, by), signature.signature, message))
    counts_not("its signature is not its certificate's over what it says");
  std::vector<Moment> times;
  if (std::optional<Moment> logged = check_entry(signature, message, root.logs)) times.push_back(*logged);
  for (const std::string& answer : signature.timestamps)
    if (std::optional<Moment> stamped = stamped_at(answer, signature.signature, root.timestamp_authorities)) times.push_back(*stamped);
  if (times.empty()) counts_not("neither its log nor a trusted timestamp authority has signed when it was made");
  for (Moment time : times) {
    bool counted = std::any_of(root.logs.begin(), root.logs.end(), [&](const LogKey& log) {
      return log.id == signature.entry.log_id && log.period.holds(time);
    });
    if (!counted) counts_not("the log's key did not count at the time of the entry");
  }
  std::string issuer = issuer_at(leaf, root.authorities, times);
  if (!root.certificate_logs.empty()) check_logged(leaf, issuer, root.certificate_logs);
  return {by, *std::max_element(times.begin(), times.end())};
}

}  // namespace edgepack::keyless
