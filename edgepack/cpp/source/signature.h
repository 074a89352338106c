// The signature of a bundle: a DSSE envelope with an in-toto statement over every file, by the rules and with the words of
// edgepack/trust (envelope.py, keys.py, statement.py). ECDSA itself is done by OpenSSL's libcrypto, loaded when it is needed.

#ifndef EDGEPACK_SIGNATURE_H_
#define EDGEPACK_SIGNATURE_H_

#include <stdint.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bundle.h"
#include "keyless/line.h"

namespace edgepack {

// An ECDSA key on P-256. The id is the sha256 of its PEM text.
struct PublicKey {
  std::string name, der, id;
};

// Returns the key of a PEM text. Throws Refusal (EDGEPACK_CONFIG_ERROR), which begins with ``where``.
PublicKey key_of_pem(const std::string& name, const std::string& text, const std::string& where);

// Returns the key of a SubjectPublicKeyInfo (DER); nothing for another kind of key.
std::optional<PublicKey> key_of_der(const std::string& name, const std::string& der);

// Whether a signature (DER) is this key's over a message.
bool is_signed_by(const PublicKey& key, const std::string& signature, const std::string& message);

// Reads "2026-12-01T00:00:00Z" as seconds since 1970. Throws Refusal (EDGEPACK_TRUST_ERROR).
int64_t seconds_of(const std::string& text, const std::string& where);

// Returns the names of a folder's .pem files, sorted. Throws Refusal where it cannot be read: it is that of ``what``.
std::vector<std::string> pem_files(const std::string& folder, const std::string& what, const std::string& hint);

// Returns the keys of a folder's .pem files, by name, each key once. Throws Refusal.
std::vector<PublicKey> read_keys(const std::string& folder);

// What the signer says; times are seconds since 1970.
struct Signed {
  std::string signed_at, expires;  // as they are written; "" for none
  std::optional<int64_t> signed_time, expires_time;
};

// What a bundle's signatures hold: what was signed by keys, signatures by the ids of their keys, and certificates (DER);
// ``keys`` says whether there is any of these. Keyless signatures are each over a payload of their own.
struct Envelope {
  bool keys = false;
  std::string payload;
  std::map<std::string, std::string> signatures;
  std::vector<std::string> certificates;
  std::vector<keyless::Keyless> keyless;
};

// Returns what DSSE's envelope signs (pre-authentication encoding; secure-systems-lab/dsse, protocol.md 1.0).
std::string pre_authentication(const std::string& payload);

// Reads the signatures of a bundle. Throws Refusal (EDGEPACK_TRUST_ERROR) for anything but the one form of them.
Envelope read_envelope(const std::string& text, const std::string& where);

// Returns the names of those of the trusted keys that signed.
std::vector<std::string> signers(const Envelope& envelope, const std::vector<PublicKey>& trusted);

// Returns what a statement says that is over this bundle, every file of it and no other. Throws Refusal.
Signed check_statement(const Bundle& bundle, const std::string& payload);

}  // namespace edgepack

#endif  // EDGEPACK_SIGNATURE_H_
