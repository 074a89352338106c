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

// Returns the key of a PEM text. Throws Refusal (EDGEPACK_CONFIG_ERROR), which begins with ``where``.
PublicKey key_of_pem(const std::string& name, const std::string& text, const std::string& where);

// Whether a signature (DER) is this key's over a message.
bool is_signed_by(const PublicKey& key, const std::string& signature, const std::string& message);

// Reads "2026-12-01T00:00:00Z" as seconds since 1970. Throws Refusal (EDGEPACK_TRUST_ERROR).
int64_t seconds_of(const std::string& text, const std::string& where);

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
