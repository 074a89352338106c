// The certificate of a keyless signature: who it was made for, by which word, and that a certificate log has it. By the
// rules and with the words of edgepack/trust/keyless/certificate.py.

#ifndef EDGEPACK_KEYLESS_CERTIFICATE_H_
#define EDGEPACK_KEYLESS_CERTIFICATE_H_

#include <string>
#include <string_view>
#include <vector>

#include "../signature.h"
#include "der.h"
#include "trusted_root.h"

namespace edgepack::keyless {

// Who signed: an address or a workflow's name, and the issuer that says so, both compared letter by letter.
struct Identity {
  std::string identity, issuer;

  std::string shown() const { return identity + " (" + issuer + ")"; }
  bool operator==(const Identity& other) const { return identity == other.identity && issuer == other.issuer; }
};

// An extension of a certificate; its parts point into the certificate.
struct Extension {
  std::string_view oid, value, whole;
};

// Returns the extensions of a certificate (DER). Throws NotCounted, also where one stands twice.
std::vector<Extension> extensions_of(std::string_view certificate);

// Whether a certificate says that its key is for this use and, where ``alone``, for no other; the use as DER has it.
bool is_for(std::string_view certificate, std::string_view use, bool alone);

// Returns whom a certificate is for. Throws NotCounted where it does not say so, or says two things.
Identity identity_of(std::string_view certificate);

// Returns the key of a certificate that is for signing code. Throws NotCounted.
PublicKey key_of(const std::string& certificate, const Identity& identity);

// Returns the key of who issued a certificate, where one authority vouches for it at each moment. Throws NotCounted.
std::string issuer_at(const std::string& certificate, const std::vector<Authority>& authorities,
                      const std::vector<Moment>& moments);

// Throws NotCounted where none of the certificate logs has signed that it has the certificate.
void check_logged(const std::string& certificate, const std::string& issuer, const std::vector<LogKey>& logs);

}  // namespace edgepack::keyless

#endif  // EDGEPACK_KEYLESS_CERTIFICATE_H_
