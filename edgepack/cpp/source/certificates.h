// Certificates of an own authority, by the rules of edgepack/trust/chain.py. Paths are built and checked by OpenSSL's
// libcrypto, loaded when it is needed.

#ifndef EDGEPACK_CERTIFICATES_H_
#define EDGEPACK_CERTIFICATES_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "signature.h"

namespace edgepack {

// Returns the authorities (DER) in a folder's .pem files. Throws Refusal (EDGEPACK_CONFIG_ERROR) where there is none.
std::vector<std::string> read_authorities(const std::string& folder);

// Whether this is a certificate (DER) and nothing behind it.
bool is_certificate(const std::string& der);

// Returns the key of a certificate that is for digital signatures and no authority's; nothing for any other.
std::optional<PublicKey> signing_key(const std::string& der, const std::string& name);

// Returns the key (SubjectPublicKeyInfo, DER) of a certificate; "" where it cannot be read.
std::string key_in(const std::string& der);

// Returns the first and the last second (since 1970) in which a certificate holds; nothing where that cannot be read.
std::optional<std::pair<int64_t, int64_t>> validity(const std::string& der);

// Returns the key (SubjectPublicKeyInfo, DER) of who issued a certificate, where a path leads from it over ``between`` to
// ``authority`` that holds at a time in seconds since 1970; nothing where none does.
std::optional<std::string> issuer_key(const std::string& leaf, const std::vector<std::string>& between,
                                      const std::string& authority, int64_t moment);

// Returns the keys that one of the authorities vouches for at a time in seconds since 1970, or, without one, when each
// certificate began. ``certificates`` (DER) are a stranger's: what is anything but a signer's, with one of ``names``
// where there are any, counts for nothing. Throws Refusal (EDGEPACK_TOOLCHAIN_ERROR) without libcrypto.
std::vector<PublicKey> certified_keys(const std::vector<std::string>& certificates, const std::vector<std::string>& authorities,
                                      std::optional<int64_t> now, const std::vector<std::string>& names);

}  // namespace edgepack

#endif  // EDGEPACK_CERTIFICATES_H_
