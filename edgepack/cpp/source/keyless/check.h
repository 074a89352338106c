// Checks a keyless signature by a trusted root, offline, in the order of Sigstore's client specification (4). By the rules
// and with the words of edgepack/trust/keyless/check.py; signatures and paths of certificates are checked by libcrypto.

#ifndef EDGEPACK_KEYLESS_CHECK_H_
#define EDGEPACK_KEYLESS_CHECK_H_

#include "certificate.h"
#include "line.h"
#include "trusted_root.h"

namespace edgepack::keyless {

// Who signed, and when at the latest.
struct Checked {
  Identity identity;
  Moment at;
};

// Returns who made a signature and when; ``message`` is what its payload's envelope signs. Throws NotCounted that says why
// it counts for nothing.
Checked check_keyless(const Keyless& signature, const std::string& message, const TrustedRoot& root);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_CHECK_H_
