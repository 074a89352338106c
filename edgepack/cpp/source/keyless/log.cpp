#include "log.h"

#include <algorithm>
#include <initializer_list>

#include "../base64.h"
#include "../crypto.h"
#include "../json.h"
#include "../sha256.h"
#include "../text.h"
#include "der.h"

namespace edgepack::keyless {

namespace {

constexpr size_t kKeyHintBytes = 4, kMostNoteCharacters = 16 << 10, kHashBytes = 32;
constexpr char kOther[] = "its log entry is of another signature", kCurve[] = "PKIX_ECDSA_P256_SHA_256";
constexpr std::string_view kDash = "\u2014 ";  // before each signature of a note (C2SP signed-note)
constexpr uint64_t kLastSecond = 253402300799;  // of the year 9999

using Keys = std::vector<LogKey>;

std::string hex(std::string_view bytes) {
  std::string out;
  for (char c : bytes) {
    out += "0123456789abcdef"[static_cast<uint8_t>(c) >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

std::string hashed(std::string_view data) { return digest(Hash::kSha256, data); }

std::string bytes_of(const std::string& spelled) {
  std::optional<std::string> found = from_base64(spelled);
  if (!found) counts_not("it is not base64 in its one form");
  return *found;
}

// --- what an entry says ---

// Whether a value is a table of these members and no others.
bool holds(const Value* table, size_t count) { return table && table->kind == Value::kTable && table->keys.size() == count; }

bool says(const Value* table, const char* key, const std::string& text) {
  const Value* found = table && table->kind == Value::kTable ? table->find(key) : nullptr;
  return found && found->kind == Value::kText && found->text == text;
}

const Value* within(const Value* table, const char* key) {
  return table && table->kind == Value::kTable ? table->find(key) : nullptr;
}

// Whether an entry of Rekor 1 is of this payload, signature and certificate. The hash of the envelope, which is in it too,
// is over JSON in a form that nobody can tell afterwards.
bool is_dsse(const Value* spec, const Keyless& given, const std::string&) {
  const Value *payload = within(spec, "payloadHash"), *listed = within(spec, "signatures");
  if (!holds(payload, 2) || !says(payload, "algorithm", "sha256") || !says(payload, "value", hex(hashed(given.payload)))) return false;
  if (!listed || listed->kind != Value::kList || listed->items.size() != 1) return false;
  const Value* one = &listed->items[0];
  return holds(one, 2) && says(one, "signature", to_base64(given.signature)) &&
         says(one, "verifier", to_base64(to_pem(given.certificate, "CERTIFICATE")));
}

// Whether an entry of Rekor 2 is of what was signed, the signature and the certificate.
bool is_hashed(const Value* spec, const Keyless& given, const std::string& message) {
  const Value* record = within(spec, "hashedRekordV002");
  const Value *data = within(record, "data"), *signature = within(record, "signature"), *by = within(signature, "verifier");
  const Value* certificate = within(by, "x509Certificate");
  return holds(record, 2) && holds(data, 2) && holds(signature, 2) && holds(by, 2) && holds(certificate, 1) &&
         says(data, "algorithm", "SHA2_256") && says(data, "digest", to_base64(hashed(message))) &&
         says(signature, "content", to_base64(given.signature)) && says(by, "keyDetails", kCurve) &&
         says(certificate, "rawBytes", to_base64(given.certificate));
}

void check_body(const Keyless& given, const std::string& message) {
  const Entry& entry = given.entry;
  auto* expected = entry.kind == "dsse" && entry.version == "0.0.1"           ? is_dsse
                   : entry.kind == "hashedrekord" && entry.version == "0.0.2" ? is_hashed
                                                                             : nullptr;
  if (!expected)
    counts_not("its log entry is of the kind " + repr(first(entry.kind, 20)) + " " + repr(first(entry.version, 20)) +
               ", which is not read");
  Value body;
  try {
    body = read_json(entry.body);
  } catch (const JsonProblem&) {
    counts_not(kOther);
  }
  bool same = says(&body, "kind", entry.kind) && says(&body, "apiVersion", entry.version);
  if (!same || !expected(within(&body, "spec"), given, message)) counts_not(kOther);
}

// --- that the log has it ---

// The hash that the tree has by a proof that ``leaf`` is in it (RFC 9162, 2.1.3.2).
std::string root_of(const std::string& leaf, const Proof& proof) {
  if (proof.index >= proof.size) counts_not("the inclusion proof is for no entry of the tree");
  uint64_t node = proof.index, last = proof.size - 1;
  std::string found = hashed(std::string(1, '\0') + leaf);
  for (const std::string& each : proof.hashes) {
    if (each.size() != kHashBytes || last == 0) counts_not("the inclusion proof has hashes of another tree");
    if (node & 1 || node == last) {
      found = hashed("\1" + each + found);
      while (!(node & 1) && node) node >>= 1, last >>= 1;
    } else {
      found = hashed("\1" + found + each);
    }
    node >>= 1, last >>= 1;
  }
  if (last) counts_not("the inclusion proof has too few hashes");
  return found;
}

bool is_by(const std::string& signature, const std::string& message, const Keys& keys) {
  if (signature.size() < kKeyHintBytes) return false;
  std::string rest = signature.substr(kKeyHintBytes);
  return std::any_of(keys.begin(), keys.end(), [&](const LogKey& key) {
    return key.id.compare(0, kKeyHintBytes, signature, 0, kKeyHintBytes) == 0 && verifies(key.key, rest, message);
  });
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> found;
  for (size_t begin = 0, end; begin <= text.size(); begin = end + 1) {
    end = std::min(text.find(at, begin), text.size());
    found.push_back(text.substr(begin, end - begin));
  }
  return found;
}

// The name and the signature in a line of a note, "DASH NAME BASE64"; nothing where the line is of another form.
std::optional<std::pair<std::string, std::string>> signature_in(const std::string& line) {
  if (line.compare(0, kDash.size(), kDash) != 0) return std::nullopt;
  std::vector<std::string> words = split(line.substr(kDash.size()), ' ');
  if (words.size() != 2 || words[0].empty() || words[1].empty()) return std::nullopt;
  return std::pair{words[0], words[1]};
}

// Size and hash of the tree of a checkpoint that a log of ``keys`` signed.
std::pair<uint64_t, std::string> read_checkpoint(const std::string& note, const Keys& keys) {
  size_t blank = note.find("\n\n");
  std::string text = note.substr(0, blank), signatures = blank == note.npos ? "" : note.substr(blank + 2);
  std::vector<std::string> lines = split(text, '\n');
  bool readable = length(note) <= kMostNoteCharacters && lines.size() >= 3 && !lines[0].empty() && !signatures.empty() &&
                  signatures.back() == '\n';
  if (!readable) counts_not("the log's checkpoint cannot be read");
  bool form = true, by = false;
  std::string name = lines[0].substr(0, lines[0].find(" - "));  // a log names itself; Rekor 1 adds its tree's number
  std::vector<std::string> named;
  for (const std::string& line : split(signatures.substr(0, signatures.size() - 1), '\n')) {
    auto found = signature_in(line);
    form = form && found;
    if (found && found->first == name) named.push_back(bytes_of(found->second));
  }
  for (const std::string& signature : named) by = by || (form && is_by(signature, text + "\n", keys));
  if (!by) counts_not("the log's checkpoint is not signed by it");
  if (lines[1].empty() || lines[1].size() > 19 || lines[1].find_first_not_of("0123456789") != lines[1].npos)
    counts_not("the log's checkpoint has no size");
  return {std::stoull(lines[1]), bytes_of(lines[2])};
}

void check_inclusion(const Entry& entry, const Keys& keys) {
  const Proof& proof = entry.proof;
  auto [size, root] = read_checkpoint(proof.checkpoint, keys);
  if (size != proof.size || root != proof.root)
    counts_not("the log's checkpoint is of another tree than the inclusion proof");
  if (root_of(entry.body, proof) != root) counts_not("the inclusion proof does not lead to the log's checkpoint");
}

// The time that a log of ``keys`` signed: over canonical JSON (RFC 8785) of four members.
std::optional<Moment> time_of(const Entry& entry, const Keys& keys) {
  if (!entry.promise || !entry.integrated) return std::nullopt;
  if (*entry.integrated > kLastSecond) counts_not("the time of its log entry is none");
  std::string message = "{\"body\":\"" + to_base64(entry.body) + "\",\"integratedTime\":" + std::to_string(*entry.integrated) +
                        ",\"logID\":\"" + hex(entry.log_id) + "\",\"logIndex\":" + std::to_string(entry.index) + "}";
  bool signed_by = std::any_of(keys.begin(), keys.end(),
                               [&](const LogKey& key) { return verifies(key.key, *entry.promise, message); });
  if (!signed_by) counts_not("the time of its log entry is not signed by the log");
  return static_cast<Moment>(*entry.integrated) * kSecond;
}

}  // namespace

std::optional<Moment> check_entry(const Keyless& signature, const std::string& message, const std::vector<LogKey>& logs) {
  const Entry& entry = signature.entry;
  Keys keys;
  for (const LogKey& log : logs)
    if (log.id == entry.log_id) keys.push_back(log);
  if (keys.empty()) counts_not("its log " + first(hex(entry.log_id), 16) + " is none that is trusted");
  check_body(signature, message);
  check_inclusion(entry, keys);
  return time_of(entry, keys);
}

}  // namespace edgepack::keyless
