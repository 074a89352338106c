#include "line.h"

#include <set>

#include "../base64.h"
#include "../error.h"
#include "../facts.h"
#include "../schema.h"
#include "../text.h"
#include "der.h"

namespace edgepack::keyless {

namespace {

constexpr char kAgain[] = "sign again, or get the signature again";
constexpr uint64_t kMostNumber = (uint64_t{1} << 63) - 1;

const std::string& text(const Value& table, const char* key) { return table.find(key)->text; }

// The value of a member that may be left out, or null.
const Value* given(const Value& table, const char* key) {
  const Value* found = table.find(key);
  return found && found->kind != Value::kNull ? found : nullptr;
}

std::string text_or(const Value& table, const char* key, const char* otherwise) {
  const Value* found = given(table, key);
  return found ? found->text : otherwise;
}

std::vector<Value> list_of(const Value* table, const char* key) {
  const Value* found = table ? given(*table, key) : nullptr;
  return found ? found->items : std::vector<Value>();
}

std::string bytes_of(const std::string& spelled) {
  std::optional<std::string> found = from_base64(spelled);
  if (!found) counts_not("it is not base64 in its one form");
  return *found;
}

// A whole number that protobuf's JSON has as a text.
uint64_t number_of(const std::string& spelled) {
  bool digits = !spelled.empty() && spelled.find_first_not_of("0123456789") == spelled.npos;
  uint64_t found = digits && spelled.size() <= 19 ? std::stoull(spelled) : kMostNumber + 1;
  if (found > kMostNumber) counts_not(repr(first(spelled, 30)) + " is not a whole number of 63 bits");
  if (spelled.size() > 1 && spelled[0] == '0') counts_not(repr(first(spelled, 30)) + " begins with 0");
  return found;
}

const Value& one(const std::vector<Value>& values, const char* what) {
  if (values.size() != 1)
    counts_not("it has " + std::to_string(values.size()) + " values for its " + what + "; exactly 1 is read");
  return values[0];
}

Entry entry_of(const Value& entry) {
  const Value &inclusion = *entry.find("inclusionProof"), &kind = *entry.find("kindVersion");
  std::vector<Value> hashes = list_of(&inclusion, "hashes");
  if (hashes.size() > facts::kMostHashes)
    counts_not("an inclusion proof has at most " + std::to_string(facts::kMostHashes) + " hashes");
  Entry made;
  if (const Value* promise = given(entry, "inclusionPromise")) made.promise = bytes_of(text(*promise, "signedEntryTimestamp"));
  made.log_id = bytes_of(text(*entry.find("logId"), "keyId"));
  made.kind = text(kind, "kind");
  made.version = text(kind, "version");
  made.body = bytes_of(text(entry, "canonicalizedBody"));
  made.index = number_of(text_or(entry, "logIndex", "0"));
  made.proof.index = number_of(text_or(inclusion, "logIndex", "0"));
  made.proof.size = number_of(text(inclusion, "treeSize"));
  for (const Value& hash : hashes) made.proof.hashes.push_back(bytes_of(hash.text));
  made.proof.root = bytes_of(text(inclusion, "rootHash"));
  made.proof.checkpoint = text(*inclusion.find("checkpoint"), "envelope");
  if (const Value* time = given(entry, "integratedTime"); time && made.promise) made.integrated = number_of(time->text);
  return made;
}

// --- the one form of a line ---

// A member with a text; ``last`` says whether a comma follows.
std::string said(const char* key, const std::string& value, const char* after = ",") {
  return std::string("\"") + key + "\":" + ascii_json(value) + after;
}

std::string texts_of(const std::vector<Value>& items, const char* key) {
  std::string listed;
  for (const Value& item : items)
    listed += (listed.empty() ? "" : ",") + (key ? "{" + said(key, text(item, key), "}") : ascii_json(item.text));
  return "[" + listed + "]";
}

std::string write_entry(const Value& entry) {
  const Value &inclusion = *entry.find("inclusionProof"), &kind = *entry.find("kindVersion");
  std::string out = "{\"logId\":{" + said("keyId", text(*entry.find("logId"), "keyId"), "},");
  out += "\"kindVersion\":{" + said("kind", text(kind, "kind")) + said("version", text(kind, "version"), "},");
  out += said("canonicalizedBody", text(entry, "canonicalizedBody"));
  out += "\"inclusionProof\":{" + said("rootHash", text(inclusion, "rootHash")) + said("treeSize", text(inclusion, "treeSize"));
  out += "\"checkpoint\":{" + said("envelope", text(*inclusion.find("checkpoint"), "envelope"), "},");
  out += said("logIndex", text_or(inclusion, "logIndex", "0")) + "\"hashes\":" + texts_of(list_of(&inclusion, "hashes"), nullptr);
  out += "}," + said("logIndex", text_or(entry, "logIndex", "0"), "");
  if (const Value* time = given(entry, "integratedTime")) out += "," + said("integratedTime", time->text, "");
  if (const Value* promise = given(entry, "inclusionPromise"))
    out += ",\"inclusionPromise\":{" + said("signedEntryTimestamp", text(*promise, "signedEntryTimestamp"), "}");
  return out + "}";
}

std::string write_line(const Value& document, const Value& entry, const Value& signature) {
  const Value &material = *document.find("verificationMaterial"), &dsse = *document.find("dsseEnvelope");
  std::string out = "{" + said("mediaType", text(document, "mediaType")) + "\"verificationMaterial\":{\"certificate\":{";
  out += said("rawBytes", text(*material.find("certificate"), "rawBytes"), "},") + "\"tlogEntries\":[" + write_entry(entry) + "]";
  if (const Value* stamps = given(material, "timestampVerificationData"))
    out += ",\"timestampVerificationData\":{\"rfc3161Timestamps\":" +
           texts_of(list_of(stamps, "rfc3161Timestamps"), "signedTimestamp") + "}";
  out += "},\"dsseEnvelope\":{" + said("payload", text(dsse, "payload")) + said("payloadType", text(dsse, "payloadType"));
  return out + "\"signatures\":[{" + said("sig", text(signature, "sig")) + "\"keyid\":\"\"}]}}";
}

Keyless decode(const Value& document, const std::string& line, bool* same) {
  const Value &material = *document.find("verificationMaterial"), &dsse = *document.find("dsseEnvelope");
  if (text(document, "mediaType") != facts::kMediaType || text(dsse, "payloadType") != facts::kPayloadType)
    counts_not("it is of another kind");
  const Value& signature = one(dsse.find("signatures")->items, "signature");
  const Value& entry = one(material.find("tlogEntries")->items, "log entry");
  std::vector<Value> stamps = list_of(given(material, "timestampVerificationData"), "rfc3161Timestamps");
  std::set<std::string> different;
  for (const Value& stamp : stamps) different.insert(text(stamp, "signedTimestamp"));
  if (stamps.size() > facts::kMostTimestamps || different.size() != stamps.size())
    counts_not("it has more than " + std::to_string(facts::kMostTimestamps) + " timestamps, or one twice");
  std::string plain = write_line(document, entry, signature);
  if (plain.size() > facts::kMostLineBytes)
    counts_not("it has " + std::to_string(plain.size()) + " bytes; at most " + std::to_string(facts::kMostLineBytes) + " are read");
  *same = plain == line;
  Keyless made;
  made.payload = bytes_of(text(dsse, "payload"));
  made.signature = bytes_of(text(signature, "sig"));
  made.certificate = bytes_of(text(*material.find("certificate"), "rawBytes"));
  made.entry = entry_of(entry);
  for (const Value& stamp : stamps) made.timestamps.push_back(bytes_of(text(stamp, "signedTimestamp")));
  return made;
}

[[noreturn]] void unreadable(const std::string& message, const std::string& hint) {
  // As Python's error of a document, which has that kind's own hint where there is no other.
  refuse(EDGEPACK_TRUST_ERROR, first(message, 400), hint.empty() ? facts::kKinds[EDGEPACK_CONFIG_ERROR - 1].hint : hint);
}

}  // namespace

Keyless read_line(const std::string& line, const std::string& where) {
  Value document;
  try {
    document = read_json(line);
    check_type(facts::kKeylessType, document, where);
  } catch (const JsonProblem& problem) {
    unreadable(where + ": not valid JSON: " + problem.words, "write it again with the tool that made it");
  } catch (const Refusal& refusal) {
    unreadable(refusal.message, refusal.hint);
  }
  bool same = false;
  Keyless made;
  try {
    made = decode(document, line, &same);
  } catch (const NotCounted& problem) {
    unreadable(where + ": " + problem.words, kAgain);
  }
  if (!same) unreadable(where + " is not in the form that 'edgepack sign --attach' writes", "");
  return made;
}

}  // namespace edgepack::keyless
