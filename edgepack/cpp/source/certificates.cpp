#include "certificates.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <memory>

#include "base64.h"
#include "crypto.h"
#include "error.h"
#include "facts.h"
#include "file.h"
#include "policy.h"

namespace edgepack {

namespace {

// openssl/obj_mac.h, x509v3.h and x509_vfy.h, which these numbers have had since OpenSSL 1.1.1.
constexpr int kCommonName = 13, kKeyUsage = 83, kBasicConstraints = 87;
constexpr uint32_t kDigitalSignature = 0x80, kKeyCertSign = 0x04, kIsAuthority = 0x10, kInvalid = 0x80;
constexpr unsigned long kPartialChain = 0x80000;
constexpr int kSecurityLevel = 2;  // 112 bits: RSA of 2048 bits and more, no SHA-1

struct X509 {
  void* (*read)(void**, const unsigned char**, long);
  void (*free)(void*);
  int (*extension)(const void*, int, int);
  void* (*extension_at)(const void*, int);
  int (*is_critical)(const void*);
  uint32_t (*flags)(void*);
  uint32_t (*usage)(void*);
  void* (*subject)(const void*);
  int (*name_index)(const void*, int, int);
  void* (*name_entry)(const void*, int);
  void* (*entry_text)(const void*);
  int (*to_utf8)(unsigned char**, const void*);
  void (*free_text)(void*, const char*, int);
  void* (*key)(const void*);
  int (*write_key)(const void*, unsigned char**);
  const void* (*begins)(const void*);
  const void* (*ends)(const void*);
  int (*to_tm)(const void*, tm*);
  void* (*new_store)();
  void (*free_store)(void*);
  int (*add)(void*, void*);
  void* (*new_context)();
  void (*free_context)(void*);
  int (*init)(void*, void*, void*, void*);
  void* (*parameters)(void*);
  void (*set_time)(void*, time_t);
  int (*set_flags)(void*, unsigned long);
  void (*set_depth)(void*, int);
  void (*set_level)(void*, int);
  int (*verify)(void*);
  void* (*chain)(void*);
  void* (*new_list)();
  int (*push)(void*, const void*);
  int (*size)(const void*);
  void* (*item)(const void*, int);
  void (*free_list)(void*);
  void (*forget_errors)();
};

X509 open_x509() {
  X509 x{};
  const char* what = "certificates";
  find_crypto(&x.read, "d2i_X509", what);
  find_crypto(&x.free, "X509_free", what);
  find_crypto(&x.extension, "X509_get_ext_by_NID", what);
  find_crypto(&x.extension_at, "X509_get_ext", what);
  find_crypto(&x.is_critical, "X509_EXTENSION_get_critical", what);
  find_crypto(&x.flags, "X509_get_extension_flags", what);
  find_crypto(&x.usage, "X509_get_key_usage", what);
  find_crypto(&x.subject, "X509_get_subject_name", what);
  find_crypto(&x.name_index, "X509_NAME_get_index_by_NID", what);
  find_crypto(&x.name_entry, "X509_NAME_get_entry", what);
  find_crypto(&x.entry_text, "X509_NAME_ENTRY_get_data", what);
  find_crypto(&x.to_utf8, "ASN1_STRING_to_UTF8", what);
  find_crypto(&x.free_text, "CRYPTO_free", what);
  find_crypto(&x.key, "X509_get0_pubkey", what);
  find_crypto(&x.write_key, "i2d_PUBKEY", what);
  find_crypto(&x.begins, "X509_get0_notBefore", what);
  find_crypto(&x.ends, "X509_get0_notAfter", what);
  find_crypto(&x.to_tm, "ASN1_TIME_to_tm", what);
  find_crypto(&x.new_store, "X509_STORE_new", what);
  find_crypto(&x.free_store, "X509_STORE_free", what);
  find_crypto(&x.add, "X509_STORE_add_cert", what);
  find_crypto(&x.new_context, "X509_STORE_CTX_new", what);
  find_crypto(&x.free_context, "X509_STORE_CTX_free", what);
  find_crypto(&x.init, "X509_STORE_CTX_init", what);
  find_crypto(&x.parameters, "X509_STORE_CTX_get0_param", what);
  find_crypto(&x.set_time, "X509_VERIFY_PARAM_set_time", what);
  find_crypto(&x.set_flags, "X509_VERIFY_PARAM_set_flags", what);
  find_crypto(&x.set_depth, "X509_VERIFY_PARAM_set_depth", what);
  find_crypto(&x.set_level, "X509_VERIFY_PARAM_set_auth_level", what);
  find_crypto(&x.verify, "X509_verify_cert", what);
  find_crypto(&x.chain, "X509_STORE_CTX_get0_chain", what);
  find_crypto(&x.new_list, "OPENSSL_sk_new_null", what);
  find_crypto(&x.push, "OPENSSL_sk_push", what);
  find_crypto(&x.size, "OPENSSL_sk_num", what);
  find_crypto(&x.item, "OPENSSL_sk_value", what);
  find_crypto(&x.free_list, "OPENSSL_sk_free", what);
  find_crypto(&x.forget_errors, "ERR_clear_error", what);
  return x;
}

using Owned = std::unique_ptr<void, void (*)(void*)>;

// What of OpenSSL fails for want of memory: nothing was checked then.
void* there(void* made) {
  if (!made) refuse(EDGEPACK_TOOLCHAIN_ERROR, "certificates cannot be checked here: libcrypto failed", "free some memory");
  return made;
}

Owned read_certificate(const X509& x, const std::string& der) {
  const unsigned char* place = reinterpret_cast<const unsigned char*>(der.data());
  const unsigned char* end = place + der.size();
  Owned made(x.read(nullptr, &place, static_cast<long>(der.size())), x.free);
  if (place != end) made.reset();
  return made;
}

bool has(const X509& x, const void* certificate, int extension) { return x.extension(certificate, extension, -1) >= 0; }

// The one common name of a certificate; nothing where there is none, or several.
std::optional<std::string> common_name(const X509& x, const void* certificate) {
  void* subject = x.subject(certificate);
  int index = x.name_index(subject, kCommonName, -1);
  if (index < 0 || x.name_index(subject, kCommonName, index) >= 0) return std::nullopt;
  unsigned char* text = nullptr;
  int size = x.to_utf8(&text, x.entry_text(x.name_entry(subject, index)));
  if (size < 0) return std::nullopt;
  std::string name(reinterpret_cast<char*>(text), static_cast<size_t>(size));
  x.free_text(text, "", 0);
  return name;
}

// A certificate's key as SubjectPublicKeyInfo (DER); "" for one that cannot be read.
std::string key_bytes(const X509& x, const void* certificate) {
  void* key = x.key(certificate);
  unsigned char* der = nullptr;
  int size = key ? x.write_key(key, &der) : -1;
  if (size <= 0) return "";
  std::string text(reinterpret_cast<char*>(der), static_cast<size_t>(size));
  x.free_text(der, "", 0);
  return text;
}

// The key of a signer's certificate; nothing where it is an authority's, or not for signatures.
std::optional<PublicKey> key_of(const X509& x, void* leaf, const std::optional<std::string>& name) {
  uint32_t flags = x.flags(leaf);
  if (flags & (kInvalid | kIsAuthority) || !has(x, leaf, kKeyUsage) || !(x.usage(leaf) & kDigitalSignature)) return std::nullopt;
  return name ? key_of_der(*name, key_bytes(x, leaf)) : std::nullopt;
}

// Whether a certificate may issue others, and says so as it must (RFC 5280, 4.2.1.3 and 4.2.1.9).
bool may_issue(const X509& x, void* certificate) {
  int place = x.extension(certificate, kBasicConstraints, -1);
  uint32_t flags = x.flags(certificate);
  return place >= 0 && x.is_critical(x.extension_at(certificate, place)) && (flags & kIsAuthority) && !(flags & kInvalid) &&
         has(x, certificate, kKeyUsage) && (x.usage(certificate) & kKeyCertSign);
}

std::optional<int64_t> seconds_of(const X509& x, const void* time) {
  tm parts{};
  if (x.to_tm(time, &parts) != 1) return std::nullopt;
  return static_cast<int64_t>(timegm(&parts));
}

// Whether every certificate of a chain holds at a moment, its first and its last second counted (RFC 5280, 4.1.2.5).
bool holds(const X509& x, const void* chain, int64_t moment) {
  for (int i = 0; i < x.size(chain); ++i) {
    std::optional<int64_t> first = seconds_of(x, x.begins(x.item(chain, i))), last = seconds_of(x, x.ends(x.item(chain, i)));
    if (!first || !last || moment < *first || moment > *last) return false;
  }
  return true;
}

// The key of who issued ``leaf``, where a path leads from it to a certificate in the store that holds at a moment.
std::optional<std::string> issuer_of(const X509& x, void* leaf, void* others, void* store, int64_t moment) {
  // To OpenSSL a certificate is over in its last second: a path that is over at the moment is looked for just before.
  for (int64_t before : {0, 1}) {
    Owned context(there(x.new_context()), x.free_context);
    if (x.init(context.get(), store, leaf, others) != 1) return std::nullopt;
    void* parameters = x.parameters(context.get());
    x.set_time(parameters, static_cast<time_t>(moment - before));
    x.set_flags(parameters, kPartialChain);  // whoever is in the folder is an authority, its own issuer or not
    x.set_depth(parameters, static_cast<int>(facts::kMostChainDepth));
    x.set_level(parameters, kSecurityLevel);
    if (x.verify(context.get()) != 1) continue;
    void* chain = x.chain(context.get());
    for (int i = 1; i < x.size(chain); ++i)
      if (!may_issue(x, x.item(chain, i))) return std::nullopt;
    if (x.size(chain) < 2 || !holds(x, chain, moment)) return std::nullopt;
    return key_bytes(x, x.item(chain, 1));
  }
  return std::nullopt;
}

bool is_vouched_for(const X509& x, void* leaf, void* others, void* store, std::optional<int64_t> now) {
  std::optional<int64_t> moment = now ? now : seconds_of(x, x.begins(leaf));
  if (moment && !now) ++*moment;
  return moment && issuer_of(x, leaf, others, store, *moment);
}

const X509& x509() {
  static const X509 x = open_x509();
  return x;
}

}  // namespace

std::vector<std::string> read_authorities(const std::string& folder) {
  std::vector<std::string> files = pem_files(folder, "authorities", "put their certificates there"), found;
  for (const std::string& file : files) refuse_writable(folder + "/" + file);
  for (const std::string& file : files) {
    std::string path = folder + "/" + file, text;
    if (!read_small(path, facts::kMostAuthorityBytes, &text))
      refuse(EDGEPACK_CONFIG_ERROR, path + " holds no certificates in PEM: " + strerror(errno));
    size_t place = 0, before = found.size();
    while (std::optional<std::string> der = next_pem(text, "CERTIFICATE", &place)) found.push_back(*der);
    if (found.size() == before || text.find("-----BEGIN CERTIFICATE-----", place) != text.npos)
      refuse(EDGEPACK_CONFIG_ERROR, path + " holds no certificates in PEM");
  }
  if (found.empty())
    refuse(EDGEPACK_CONFIG_ERROR, folder + " holds no certificate of an authority", "put NAME.pem there");
  return found;
}

bool is_certificate(const std::string& der) {
  const X509& x = x509();
  bool good = read_certificate(x, der) != nullptr;
  x.forget_errors();
  return good;
}

std::optional<PublicKey> signing_key(const std::string& der, const std::string& name) {
  const X509& x = x509();
  Owned leaf = read_certificate(x, der);
  std::optional<PublicKey> found;
  if (leaf) found = key_of(x, leaf.get(), name);
  x.forget_errors();
  return found;
}

std::string key_in(const std::string& der) {
  const X509& x = x509();
  Owned held = read_certificate(x, der);
  std::string found = held ? key_bytes(x, held.get()) : "";
  x.forget_errors();
  return found;
}

std::optional<std::pair<int64_t, int64_t>> validity(const std::string& der) {
  const X509& x = x509();
  Owned held = read_certificate(x, der);
  std::optional<int64_t> first, last;
  if (held) first = seconds_of(x, x.begins(held.get())), last = seconds_of(x, x.ends(held.get()));
  x.forget_errors();
  if (!first || !last) return std::nullopt;
  return std::pair<int64_t, int64_t>{*first, *last};
}

std::optional<std::string> issuer_key(const std::string& leaf, const std::vector<std::string>& between,
                                      const std::string& authority, int64_t moment) {
  const X509& x = x509();
  Owned store(there(x.new_store()), x.free_store), others(there(x.new_list()), x.free_list);
  Owned held = read_certificate(x, leaf), root = read_certificate(x, authority);
  std::vector<Owned> loaded;
  for (const std::string& der : between)
    if (Owned made = read_certificate(x, der)) loaded.push_back(std::move(made));
  for (const Owned& each : loaded) x.push(others.get(), each.get());
  std::optional<std::string> found;
  if (held && root && x.add(store.get(), root.get()) == 1)
    found = issuer_of(x, held.get(), others.get(), store.get(), moment);
  x.forget_errors();
  return found;
}

std::vector<PublicKey> certified_keys(const std::vector<std::string>& certificates, const std::vector<std::string>& authorities,
                                      std::optional<int64_t> now, const std::vector<std::string>& names) {
  const X509& x = x509();
  Owned store(there(x.new_store()), x.free_store), others(there(x.new_list()), x.free_list);
  for (const std::string& der : authorities) {
    Owned authority = read_certificate(x, der);
    if (!authority || x.add(store.get(), authority.get()) != 1)
      refuse(EDGEPACK_CONFIG_ERROR, "a certificate of an authority cannot be read", "put NAME.pem there");
  }
  std::vector<Owned> loaded;
  for (const std::string& der : certificates)
    if (Owned made = read_certificate(x, der)) loaded.push_back(std::move(made));
  for (const Owned& each : loaded) x.push(others.get(), each.get());
  std::vector<PublicKey> found;
  for (const Owned& leaf : loaded) {
    std::optional<PublicKey> key = key_of(x, leaf.get(), common_name(x, leaf.get()));
    if (!key || (!names.empty() && std::find(names.begin(), names.end(), key->name) == names.end())) continue;
    bool known = std::any_of(found.begin(), found.end(), [&](const PublicKey& k) { return k.id == key->id; });
    if (!known && is_vouched_for(x, leaf.get(), others.get(), store.get(), now)) found.push_back(*key);
  }
  x.forget_errors();
  return found;
}

}  // namespace edgepack
