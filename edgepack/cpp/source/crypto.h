// OpenSSL's libcrypto, loaded when something is to be checked: a device whose policy asks for nothing needs none.

#ifndef EDGEPACK_CRYPTO_H_
#define EDGEPACK_CRYPTO_H_

#include <string>
#include <string_view>

namespace edgepack {

enum class Hash { kSha256, kSha384, kSha512 };

std::string digest(Hash hash, std::string_view data);

// Whether a signature is that of a key (SubjectPublicKeyInfo, DER) of ECDSA, with this hash and as DER has it, or of
// Ed25519 over a message. A key of another kind, or that cannot be read, has signed nothing.
bool verifies(const std::string& key, const std::string& signature, std::string_view message, Hash hash = Hash::kSha256);

// Returns a function of libcrypto. Throws Refusal (EDGEPACK_TOOLCHAIN_ERROR): ``what`` cannot be checked here.
void* crypto_function(const char* name, const std::string& what);

template <typename Function>
void find_crypto(Function** function, const char* name, const std::string& what) {
  *function = reinterpret_cast<Function*>(crypto_function(name, what));
}

}  // namespace edgepack

#endif  // EDGEPACK_CRYPTO_H_
