// The signature of a bundle: a DSSE envelope with an in-toto statement over every file, by the rules and with the words of
// edgepack/trust (envelope.py, keys.py, statement.py). ECDSA itself is done by OpenSSL's libcrypto, loaded when it is needed.

#ifndef EDGEPACK_SIGNATURE_H_
#define EDGEPACK_SIGNATURE_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

#include "bundle.h"

namespace edgepack {

// An ECDSA key on P-256. The id is the sha256 of its PEM text.
struct PublicKey {
  std::string name, der, id;
};

// Returns the keys of a folder's .pem files, by name, each key once. Throws Refusal.
std::vector<PublicKey> read_keys(const std::string& folder);

// What the signer says; times are seconds since 1970.
struct Signed {
  std::string signed_at, expires;  // as they are written; "" for none
  std::optional<int64_t> signed_time, expires_time;
};

struct Signers {
  std::vector<std::string> names;
  std::string payload;  // of the envelope, which they have signed
};

// Returns which of the trusted keys signed the bundle. Throws Refusal (EDGEPACK_TRUST_ERROR) for a damaged envelope.
Signers signers(const Bundle& bundle, const std::vector<PublicKey>& trusted);

// Returns what a statement says that is over this bundle, every file of it and no other. Throws Refusal.
Signed check_statement(const Bundle& bundle, const std::string& payload);

}  // namespace edgepack

#endif  // EDGEPACK_SIGNATURE_H_
