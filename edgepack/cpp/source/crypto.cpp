#include "crypto.h"

#include <dlfcn.h>
#include <stddef.h>

#include <memory>
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

struct Crypto {
  void* (*read_key)(void**, const unsigned char**, long);
  void (*free_key)(void*);
  void* (*new_context)();
  void (*free_context)(void*);
  const void* (*hashes[3])();  // in the order of Hash
  int (*digest)(const void*, size_t, unsigned char*, unsigned int*, const void*, void*);
  int (*init)(void*, void**, const void*, void*, void*);
  int (*verify)(void*, const unsigned char*, size_t, const unsigned char*, size_t);
  void (*forget_errors)();
};

Crypto open_crypto() {
  Crypto crypto{};
  const char* what = "signatures";
  find_crypto(&crypto.read_key, "d2i_PUBKEY", what);
  find_crypto(&crypto.free_key, "EVP_PKEY_free", what);
  find_crypto(&crypto.new_context, "EVP_MD_CTX_new", what);
  find_crypto(&crypto.free_context, "EVP_MD_CTX_free", what);
  find_crypto(&crypto.hashes[0], "EVP_sha256", what);
  find_crypto(&crypto.hashes[1], "EVP_sha384", what);
  find_crypto(&crypto.hashes[2], "EVP_sha512", what);
  find_crypto(&crypto.digest, "EVP_Digest", what);
  find_crypto(&crypto.init, "EVP_DigestVerifyInit", what);
  find_crypto(&crypto.verify, "EVP_DigestVerify", what);
  find_crypto(&crypto.forget_errors, "ERR_clear_error", what);
  return crypto;
}

const Crypto& crypto() {
  static std::mutex mutex;
  static const Crypto* opened = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (!opened) opened = new Crypto(open_crypto());
  return *opened;
}

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// SubjectPublicKeyInfo of ECDSA keys and of Ed25519 keys: what follows the sequences' own bytes (RFC 5480, RFC 8410).
constexpr std::string_view kEcdsa("\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", 9), kEd25519("\x30\x05\x06\x03\x2b\x65\x70", 7);

bool is_ed25519(const std::string& key) { return key.size() == 44 && key.compare(2, kEd25519.size(), kEd25519) == 0; }
bool is_ecdsa(const std::string& key) { return std::string_view(key).substr(0, 16).find(kEcdsa) != key.npos; }

}  // namespace

std::string digest(Hash hash, std::string_view data) {
  const Crypto& c = crypto();
  unsigned char out[64];
  unsigned int size = 0;
  if (c.digest(data.data(), data.size(), out, &size, c.hashes[static_cast<size_t>(hash)](), nullptr) != 1)
    refuse(EDGEPACK_TOOLCHAIN_ERROR, "signatures cannot be checked here: libcrypto failed", "free some memory");
  return std::string(reinterpret_cast<char*>(out), size);
}

bool verifies(const std::string& key, const std::string& signature, std::string_view message, Hash hash) {
  const Crypto& c = crypto();
  bool plain = is_ed25519(key);  // it hashes by itself
  if (!plain && !is_ecdsa(key)) return false;
  const unsigned char* place = bytes_of(key);
  std::unique_ptr<void, void (*)(void*)> loaded(c.read_key(nullptr, &place, static_cast<long>(key.size())), c.free_key);
  std::unique_ptr<void, void (*)(void*)> context(c.new_context(), c.free_context);
  const void* kind = plain ? nullptr : c.hashes[static_cast<size_t>(hash)]();
  bool good = loaded && place == bytes_of(key) + key.size() && context &&
              c.init(context.get(), nullptr, kind, nullptr, loaded.get()) == 1 &&
              c.verify(context.get(), bytes_of(signature), signature.size(), bytes_of(message), message.size()) == 1;
  c.forget_errors();
  return good;
}

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
