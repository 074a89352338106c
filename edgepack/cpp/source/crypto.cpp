#include "crypto.h"

#include <dlfcn.h>

#include <mutex>

#include "error.h"

namespace edgepack {

namespace {

void* open_libcrypto() {
  static std::mutex mutex;
  static void* library = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  for (const char* name : {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"})
    if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  return library;
}

}  // namespace

void* crypto_function(const char* name, const std::string& what) {
  void* library = open_libcrypto();
  if (!library)
    refuse(EDGEPACK_TOOLCHAIN_ERROR, what + " cannot be checked here: OpenSSL's libcrypto.so.3 is not installed",
           "install libssl3 (Debian) or openssl-libs");
  void* found = dlsym(library, name);
  if (!found)
    refuse(EDGEPACK_TOOLCHAIN_ERROR, what + " cannot be checked here: libcrypto has no " + name,
           "install OpenSSL 1.1.1 or newer");
  return found;
}

}  // namespace edgepack
