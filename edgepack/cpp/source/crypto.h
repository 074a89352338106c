// OpenSSL's libcrypto, loaded when something is to be checked: a device whose policy asks for nothing needs none.

#ifndef EDGEPACK_CRYPTO_H_
#define EDGEPACK_CRYPTO_H_

#include <string>

namespace edgepack {

// Returns a function of libcrypto. Throws Refusal (EDGEPACK_TOOLCHAIN_ERROR): ``what`` cannot be checked here.
void* crypto_function(const char* name, const std::string& what);

template <typename Function>
void find_crypto(Function** function, const char* name, const std::string& what) {
  *function = reinterpret_cast<Function*>(crypto_function(name, what));
}

}  // namespace edgepack

#endif  // EDGEPACK_CRYPTO_H_
