#include "signature.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "base64.h"
#include "calendar.h"
#include "crypto.h"
#include "error.h"
#include "facts.h"
#include "policy.h"
#include "schema.h"
#include "sha256.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr char kAgain[] = "sign the bundle again with 'edgepack sign'";
constexpr char kForged[] = "the signature is another bundle's, or the bundle was changed after it was signed: get it again";
constexpr char kKind[] = "make one with 'edgepack keygen', or with: openssl ecparam -name prime256v1 -genkey -noout";
constexpr size_t kMostKeyBytes = 64 << 10, kDerBytes = 91;
// SubjectPublicKeyInfo of an uncompressed point on P-256 (RFC 5480), up to the point's coordinates.
constexpr char kDerHead[] =
    "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";

bool ends(const std::string& text, const std::string& with) {
  return text.size() >= with.size() && text.compare(text.size() - with.size(), with.size(), with) == 0;
}

// --- keys ---

std::string key_name(const std::string& file) {
  for (const char* suffix : {".key.pem", ".pub.pem", ".pem"})
    if (ends(file, suffix) && file.size() > strlen(suffix)) return file.substr(0, file.size() - strlen(suffix));
  return file;
}

PublicKey read_key(const std::string& path, const std::string& file) {
  std::string text;
  if (!read_small(path, kMostKeyBytes, &text))
    refuse(EDGEPACK_CONFIG_ERROR, path + " cannot be read: " + strerror(errno), kKind);
  return key_of_pem(key_name(file), text, path);
}

// --- the envelope ---

[[noreturn]] void damaged(const std::string& where, const std::string& words) {
  refuse(EDGEPACK_TRUST_ERROR, first(where + ": " + facts::kSignature + " cannot be read: " + words, 4000), kAgain);
}

// The JSON of what says whose the signatures are; nothing where a certificate is no base64, or there are none, or too many.
std::optional<std::string> read_material(const Value& material, const std::string& keyid, std::vector<std::string>* held) {
  const Value* chain = material.find("x509CertificateChain");
  if (!chain) return "{\"publicKey\":{\"hint\":" + ascii_json(keyid) + "},\"tlogEntries\":[]}";
  std::string listed;
  for (const Value& certificate : chain->find("certificates")->items) {
    std::optional<std::string> der = from_base64(certificate.find("rawBytes")->text);
    if (!der || std::find(held->begin(), held->end(), *der) != held->end()) return std::nullopt;
    listed += (listed.empty() ? "" : ",") + std::string("{\"rawBytes\":\"") + to_base64(*der) + "\"}";
    held->push_back(*der);
  }
  if (held->empty() || held->size() > facts::kMostCertificates) return std::nullopt;
  return "{\"x509CertificateChain\":{\"certificates\":[" + listed + "]},\"tlogEntries\":[]}";
}

}  // namespace

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0, end; begin <= text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
  }
  return lines;
}

bool is_keyless(const std::string& line) {
  try {
    Value found = read_json(line);
    const Value* material = found.kind == Value::kTable ? found.find("verificationMaterial") : nullptr;
    return material && material->kind == Value::kTable && material->find("certificate");
  } catch (const JsonProblem&) {
    return false;
  }
}

// It is written again from what was read, and compared.
Envelope read_key_envelope(const std::string& text, const std::string& where) {
  Value found;
  try {
    found = read_json(text);
    check_type(facts::kEnvelopeType, found, where + ": " + facts::kSignature);
  } catch (const JsonProblem& problem) {
    damaged(where, where + ": " + facts::kSignature + ": not valid JSON: " + problem.words);
  } catch (const Refusal& refusal) {
    damaged(where, refusal.message);
  }
  const Value& dsse = *found.find("dsseEnvelope");
  const std::vector<Value>& signatures = dsse.find("signatures")->items;
  std::optional<std::string> payload = from_base64(dsse.find("payload")->text);
  Envelope made;
  bool whole = payload && !signatures.empty() && signatures.size() <= facts::kMostSignatures;
  std::string listed;
  for (const Value& signature : signatures) {
    const std::string &id = signature.find("keyid")->text, &sig = signature.find("sig")->text;
    std::optional<std::string> bytes = from_base64(sig);
    whole = whole && bytes && made.signatures.emplace(id, *bytes).second;
    listed += (listed.empty() ? "" : ",") + std::string("{\"keyid\":") + ascii_json(id) + ",\"sig\":" + ascii_json(sig) + "}";
  }
  std::string again;
  std::optional<std::string> material;
  if (whole)
    material = read_material(*found.find("verificationMaterial"), signatures[0].find("keyid")->text, &made.certificates);
  if (material)
    again = std::string("{\"mediaType\":\"") + facts::kMediaType + "\",\"verificationMaterial\":" + *material +
            ",\"dsseEnvelope\":{\"payload\":\"" + to_base64(*payload) + "\",\"payloadType\":\"" + facts::kPayloadType + "\",\"signatures\":[" + listed + "]}}\n";
  if (!whole || again != text)
    refuse(EDGEPACK_TRUST_ERROR, where + ": " + facts::kSignature + " is not in the form that 'edgepack sign' writes", kAgain);
  made.payload = *payload;
  return made;
}

}  // namespace

Envelope read_envelope(const std::string& text, const std::string& where) {
  std::vector<std::string> lines = lines_of(text);
  if (lines.size() - 1 > 1 + facts::kMostSignatures)
    refuse(EDGEPACK_TRUST_ERROR,
           where + ": " + facts::kSignature + " has more than " + std::to_string(facts::kMostSignatures) + " keyless signatures",
           "sign it anew with --replace");
  bool keys = !is_keyless(lines[0]);
  Envelope made;
  if (keys) made = read_key_envelope(lines.size() > 1 ? lines[0] + "\n" : text, where);
  made.keys = keys;
  for (size_t i = keys; i + 1 < lines.size(); ++i)
    made.keyless.push_back(keyless::read_line(lines[i], where + ": " + facts::kSignature));
  if (text.empty() || text.back() != '\n' || std::set<std::string>(lines.begin(), lines.end()).size() != lines.size())
    refuse(EDGEPACK_TRUST_ERROR, where + ": " + facts::kSignature + " is not in the form that 'edgepack sign' writes",
           "sign it anew with --replace");
  if (made.keyless.size() > facts::kMostSignatures)
    refuse(EDGEPACK_TRUST_ERROR,
           "a bundle has at most " + std::to_string(facts::kMostSignatures) + " keyless signatures, each once",
           "sign it anew with --replace");
  return made;
}

namespace {

// --- the statement ---

struct Unreadable {};

const Value& member(const Value& table, const char* key, Value::Kind kind) {
  const Value* found = table.kind == Value::kTable ? table.find(key) : nullptr;
  if (!found || found->kind != kind) throw Unreadable{};
  return *found;
}

std::string from_hex(const std::string& text) {
  std::string out;
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    if (digit(text[i]) < 0 || digit(text[i + 1]) < 0) throw Unreadable{};
    out += static_cast<char>(digit(text[i]) << 4 | digit(text[i + 1]));
  }
  if (text.size() % 2) throw Unreadable{};
  return out;
}

std::map<std::string, std::string> file_digests(const Bundle& bundle) {
  std::map<std::string, std::string> all{{facts::kManifest, bundle.manifest_sha256}};
  for (const FileEntry& entry : bundle.manifest.files) all[entry.path] = entry.sha256;
  return all;
}

// Whether the statement is over these files; throws Unreadable, or Refusal for what it says otherwise.
const Value* check_files(const Value& document, const Bundle& bundle, const std::string& where) {
  if (member(document, "_type", Value::kText).text != facts::kStatementType ||
      member(document, "predicateType", Value::kText).text != facts::kPredicateType)
    refuse(EDGEPACK_TRUST_ERROR, where + " is of a different kind", kForged);
  const Value& subjects = member(document, "subject", Value::kList);
  if (subjects.items.size() != 1) throw Unreadable{};
  const Value& predicate = member(document, "predicate", Value::kTable);
  const Value& resources = member(predicate, "resources", Value::kList);
  std::map<std::string, std::string> named;
  Sha256 over_all;
  bool whole = true;
  for (const Value& resource : resources.items) {
    const std::string& digest = member(resource, "digest", Value::kText).text;
    whole = whole && member(resource, "algorithm", Value::kText).text == "sha256";
    whole = whole && named.emplace(member(resource, "name", Value::kText).text, digest).second;
    std::string bytes = from_hex(digest);
    over_all.update(bytes.data(), bytes.size());
  }
  const Value& subject = member(subjects.items[0], "digest", Value::kTable);
  whole = whole && member(subject, "sha256", Value::kText).text == over_all.hex();
  whole = whole && member(member(predicate, "serialization", Value::kTable), "method", Value::kText).text == "files";
  if (!whole) refuse(EDGEPACK_TRUST_ERROR, where + " contradicts itself", kForged);
  std::map<std::string, std::string> here = file_digests(bundle), all = named;
  all.insert(here.begin(), here.end());
  for (const auto& [name, digest] : all) {
    auto said = named.find(name), is = here.find(name);
    if (said != named.end() && is != here.end() && said->second == is->second) continue;
    const char* how = said == named.end() ? "is not in it" : is == here.end() ? "is not here" : "is another";
    refuse(EDGEPACK_TRUST_ERROR, where + " covers other files: " + repr(first(name, 80)) + " " + how, kForged);
  }
  return predicate.find("edgepack");
}

}  // namespace

PublicKey key_of_pem(const std::string& name, const std::string& text, const std::string& where) {
  if (text.find("PRIVATE KEY") != text.npos)
    refuse(EDGEPACK_CONFIG_ERROR, where + " holds a private key", "give the public one, NAME.pub.pem");
  size_t place = 0;
  std::optional<std::string> der = next_pem(text, "PUBLIC KEY", &place);
  if (!der && !place) refuse(EDGEPACK_CONFIG_ERROR, where + " is not a public key", kKind);
  std::optional<PublicKey> key = key_of_der(name, der.value_or(""));
  if (!key) refuse(EDGEPACK_CONFIG_ERROR, where + " is not an ECDSA key on P-256", kKind);
  return *key;
}

std::optional<PublicKey> key_of_der(const std::string& name, const std::string& der) {
  std::string head(kDerHead, sizeof kDerHead - 1);
  if (der.size() != kDerBytes || der.compare(0, head.size(), head) != 0) return std::nullopt;
  return PublicKey{name, der, sha256(to_pem(der, "PUBLIC KEY"))};
}

bool is_signed_by(const PublicKey& key, const std::string& signature, const std::string& message) {
  return verifies(key.der, signature, message);
}

int64_t seconds_of(const std::string& text, const std::string& where) {
  std::optional<int64_t> found;
  if (ends(text, "Z")) found = seconds_at(digits_of(std::string_view(text).substr(0, text.size() - 1)));
  if (!found)
    refuse(EDGEPACK_TRUST_ERROR, where + ": " + repr(first(text, 40)) + " is not a time such as 2026-12-01T00:00:00Z", kForged);
  return *found;
}

std::vector<std::string> pem_files(const std::string& folder, const std::string& what, const std::string& hint) {
  DIR* opened = opendir(folder.c_str());
  if (!opened) refuse(EDGEPACK_CONFIG_ERROR, "the folder of " + what + " " + folder + " cannot be read: " + strerror(errno), hint);
  std::vector<std::string> files;
  while (const dirent* entry = readdir(opened))
    if (ends(entry->d_name, ".pem") && strlen(entry->d_name) > 4) files.emplace_back(entry->d_name);
  closedir(opened);
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<PublicKey> read_keys(const std::string& folder) {
  std::vector<std::string> files = pem_files(folder, "trusted keys", "put NAME.pub.pem files there");
  std::vector<PublicKey> keys;
  for (const std::string& file : files) {
    std::string path = folder + "/" + file;
    refuse_writable(path);
    PublicKey key = read_key(path, file);
    bool known = std::any_of(keys.begin(), keys.end(), [&](const PublicKey& k) { return k.id == key.id; });
    if (!known) keys.push_back(std::move(key));
  }
  return keys;
}

std::string pre_authentication(const std::string& payload) {
  std::string kind = facts::kPayloadType;
  return "DSSEv1 " + std::to_string(kind.size()) + " " + kind + " " + std::to_string(payload.size()) + " " + payload;
}

std::vector<std::string> signers(const Envelope& envelope, const std::vector<PublicKey>& trusted) {
  std::string message = pre_authentication(envelope.payload);
  std::vector<std::string> names;
  for (const PublicKey& key : trusted) {
    auto signature = envelope.signatures.find(key.id);
    if (signature != envelope.signatures.end() && is_signed_by(key, signature->second, message)) names.push_back(key.name);
  }
  return names;
}

Signed check_statement(const Bundle& bundle, const std::string& payload) {
  std::string where = bundle.path() + ": the signed statement";
  Value document;
  const Value* about = nullptr;
  try {
    document = read_json(payload);
    about = check_files(document, bundle, where);
  } catch (const JsonProblem& problem) {
    refuse(EDGEPACK_TRUST_ERROR, where + " cannot be read: " + first(problem.words, 200), kForged);
  } catch (const Unreadable&) {
    refuse(EDGEPACK_TRUST_ERROR, where + " cannot be read: something in it is missing or of another type", kForged);
  }
  Signed found;
  if (!about || about->kind == Value::kNull) return found;
  try {
    check_type(facts::kSignedType, *about, where);
  } catch (const Refusal& refusal) {
    refuse(EDGEPACK_TRUST_ERROR, first(refusal.message, 400), facts::kUpgrade);
  }
  auto text = [&](const char* key) {
    const Value* value = about->find(key);
    return value && value->kind == Value::kText ? value->text : "";
  };
  std::string golden = text("golden_sha256");
  bool given = about->find("golden_sha256") && about->find("golden_sha256")->kind == Value::kText;
  if (given && golden != file_digests(bundle)[facts::kGolden])
    refuse(EDGEPACK_TRUST_ERROR, where + " was verified with other golden vectors", kForged);
  found.signed_at = text("signed_at");
  found.expires = text("expires");
  bool ends_some_time = about->find("expires") && about->find("expires")->kind == Value::kText;
  if (!found.signed_at.empty()) found.signed_time = seconds_of(found.signed_at, bundle.path() + ": signed_at");
  if (ends_some_time) found.expires_time = seconds_of(found.expires, bundle.path() + ": expires");
  return found;
}

}  // namespace edgepack
