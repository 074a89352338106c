// Certificates of an own authority, by the rules of edgepack/trust/chain.py. Paths are built and checked by OpenSSL's
// libcrypto, loaded when it is needed.

#ifndef EDGEPACK_CERTIFICATES_H_
#define EDGEPACK_CERTIFICATES_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

#include "signature.h"

namespace edgepack {

// Returns the authorities (DER) in a folder's .pem files. Throws Refusal (EDGEPACK_CONFIG_ERROR) where there is none.
std::vector<std::string> read_authorities(const std::string& folder);

// Returns the keys that one of the authorities vouches for at a time in seconds since 1970, or, without one, when each
// certificate began. ``certificates`` (DER) are a stranger's: what is anything but a signer's, with one of ``names``
// where there are any, counts for nothing. Throws Refusal (EDGEPACK_TOOLCHAIN_ERROR) without libcrypto.
std::vector<PublicKey> certified_keys(const std::vector<std::string>& certificates, const std::vector<std::string>& authorities,
                                      std::optional<int64_t> now, const std::vector<std::string>& names);

}  // namespace edgepack

#endif  // EDGEPACK_CERTIFICATES_H_
