#include "certificate.h"

#include <algorithm>
#include <optional>
#include <set>

#include "../certificates.h"
#include "../crypto.h"
#include "../text.h"

namespace edgepack::keyless {

namespace {

// Identifiers as DER has them: Fulcio's 1.3.6.1.4.1.57264.1 (fulcio/docs/oid-info.md), 2.5.29 and RFC 6962's own.
constexpr std::string_view kFulcio("\x2b\x06\x01\x04\x01\x83\xbf\x30\x01", 9);
constexpr std::string_view kNames("\x55\x1d\x11", 3), kUses("\x55\x1d\x25", 3);
constexpr std::string_view kStamps("\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x02", 10);
constexpr std::string_view kCodeSigning("\x2b\x06\x01\x05\x05\x07\x03\x03", 8);
constexpr uint8_t kMail = 0x81, kUri = 0x86;
constexpr char kNobody[] = "its certificate does not say whose it is";
constexpr int kSha256 = 4;  // RFC 5246, 7.4.1.4.1

std::string fulcio(char last) { return std::string(kFulcio) + last; }

std::vector<Element> parts_of_tbs(std::string_view certificate) {
  std::vector<Element> whole = read_der(certificate).children(kSequence);
  if (whole.empty()) counts_not("it ends too early");
  return whole[0].children(kSequence);
}

std::optional<Extension> find(const std::vector<Extension>& all, std::string_view oid) {
  for (const Extension& each : all)
    if (each.oid == oid) return each;
  return std::nullopt;
}

std::string utf8(std::string_view text) {
  if (!utf8_problem(text).empty()) counts_not("not UTF-8");
  return std::string(text);
}

std::string der_text(std::string_view data) { return utf8(read_der(data).of(kUtf8)); }

// A subject's alternative name: an address, a URI, or of Fulcio's own kind.
std::string name_of(const Element& name) {
  if (name.tag == kMail || name.tag == kUri) {
    if (std::any_of(name.content.begin(), name.content.end(), [](char c) { return c & 0x80; })) counts_not("not ASCII");
    return std::string(name.content);
  }
  std::vector<Element> parts = name.children(kExplicit0);
  if (parts.size() != 2 || parts[0].of(kOid) != fulcio(7)) counts_not("another kind of name");
  return der_text(parts[1].of(kExplicit0));
}

// The one issuer that the certificate names, in the newer extension, the older one, or both.
std::string issuer_in(const std::vector<Extension>& all) {
  std::set<std::string> texts;
  if (std::optional<Extension> older = find(all, fulcio(1))) texts.insert(utf8(older->value));
  if (std::optional<Extension> newer = find(all, fulcio(8))) texts.insert(der_text(newer->value));
  if (texts.size() != 1) counts_not("no issuer, or two");
  return *texts.begin();
}

// --- signed certificate timestamps (RFC 6962, 3.2 and 3.3) ---

struct Bytes {
  std::string_view left;

  std::string_view take(size_t size) {
    if (size > left.size()) counts_not("it ends too early");
    std::string_view found = left.substr(0, size);
    left.remove_prefix(size);
    return found;
  }
  uint64_t number(size_t size) {
    uint64_t found = 0;
    for (char c : take(size)) found = found << 8 | static_cast<uint8_t>(c);
    return found;
  }
  Bytes vector() { return {take(number(2))}; }
};

struct Stamp {
  uint64_t version, milliseconds, hash;
  std::string_view log_id, time, extensions;
  std::string signature;
};

std::vector<Stamp> stamps_of(std::string_view certificate) {
  std::vector<Stamp> found;
  std::optional<Extension> held = find(extensions_of(certificate), kStamps);
  if (!held) return found;
  Bytes outer{read_der(held->value).of(kOctets)}, list = outer.vector();
  if (!outer.left.empty()) counts_not("bytes follow");
  while (!list.left.empty()) {
    Bytes one = list.vector();
    Stamp made{};
    made.version = one.number(1);
    made.log_id = one.take(32);
    made.time = one.left.substr(0, 8);
    made.milliseconds = one.number(8);
    made.extensions = one.vector().left;
    made.hash = one.number(1);
    one.take(1);  // the kind of key, which the log's key has
    made.signature = std::string(one.vector().left);
    if (!one.left.empty()) counts_not("bytes follow");
    found.push_back(std::move(made));
  }
  return found;
}

// What was signed before the certificate held its timestamps: all that it says but these.
std::string precertificate(std::string_view certificate) {
  std::string kept, all;
  for (const Extension& each : extensions_of(certificate))
    if (each.oid != kStamps) kept += each.whole;
  for (const Element& part : parts_of_tbs(certificate))
    all += part.tag == kExplicit3 ? write_der(kExplicit3, write_der(kSequence, kept)) : std::string(part.whole);
  return write_der(kSequence, all);
}

std::string big_endian(uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}

bool is_stamped(const std::string& certificate, const std::string& issuer, const Stamp& stamp, const LogKey& log) {
  if (stamp.version != 0 || stamp.hash != kSha256) return false;
  std::string body = precertificate(certificate);
  std::string message = std::string(2, '\0') + std::string(stamp.time) + std::string("\0\1", 2) + digest(Hash::kSha256, issuer) +
                        big_endian(body.size(), 3) + body + big_endian(stamp.extensions.size(), 2) + std::string(stamp.extensions);
  return verifies(log.key, stamp.signature, message);
}

}  // namespace

std::vector<Extension> extensions_of(std::string_view certificate) {
  std::vector<Extension> found;
  for (const Element& part : parts_of_tbs(certificate)) {
    if (part.tag != kExplicit3) continue;
    std::vector<Element> inside = part.children(kExplicit3);
    if (inside.size() != 1) counts_not("it has no list of extensions");
    for (const Element& each : inside[0].children(kSequence)) {
      std::vector<Element> parts = each.children(kSequence);
      bool good = parts.size() == 2 || (parts.size() == 3 && parts[1].tag == kBool);
      if (!good || find(found, parts[0].of(kOid))) counts_not("an extension cannot be read, or stands twice");
      found.push_back({parts[0].content, parts.back().of(kOctets), each.whole});
    }
  }
  return found;
}

bool is_for(std::string_view certificate, std::string_view use, bool alone) {
  try {
    std::optional<Extension> held = find(extensions_of(certificate), kUses);
    if (!held) return false;
    std::vector<Element> uses = read_der(held->value).children(kSequence);
    bool named = std::any_of(uses.begin(), uses.end(), [&](const Element& each) { return each.of(kOid) == use; });
    return named && (!alone || uses.size() == 1);
  } catch (const NotCounted&) {
    return false;
  }
}

Identity identity_of(std::string_view certificate) {
  Identity found;
  try {
    std::vector<Extension> all = extensions_of(certificate);
    std::optional<Extension> names = find(all, kNames);
    if (!names) counts_not(kNobody);
    for (const Stamp& stamp : stamps_of(certificate))
      if (stamp.version != 0) counts_not(kNobody);
    std::vector<Element> listed = read_der(names->value).children(kSequence);
    if (listed.size() == 1) found = {name_of(listed[0]), issuer_in(all)};
  } catch (const NotCounted&) {
    counts_not(kNobody);
  }
  if (found.identity.empty() || found.issuer.empty()) counts_not(kNobody);
  return found;
}

PublicKey key_of(const std::string& certificate, const Identity& identity) {
  std::optional<PublicKey> key = signing_key(certificate, identity.identity);
  if (!key || !is_for(certificate, kCodeSigning, false))
    counts_not("its certificate is not for signing code with a key on P-256");
  return *key;
}

std::string issuer_at(const std::string& certificate, const std::vector<Authority>& authorities,
                      const std::vector<Moment>& moments) {
  for (const Authority& authority : authorities) {
    std::vector<std::string> between(authority.certificates.begin(), authority.certificates.end() - 1);
    std::optional<std::string> issuer;
    for (Moment moment : moments) {
      std::optional<std::string> by;
      if (authority.period.holds(moment))
        by = issuer_key(certificate, between, authority.certificates.back(), seconds_of(moment));
      if (!by) {
        issuer.reset();
        break;
      }
      if (!issuer) issuer = by;
    }
    if (issuer) return *issuer;
  }
  counts_not("no trusted authority vouches for its certificate at the time that it was logged");
}

void check_logged(const std::string& certificate, const std::string& issuer, const std::vector<LogKey>& logs) {
  constexpr uint64_t kMostMilliseconds = 253402300799999;  // of the year 9999
  std::vector<Stamp> stamps;
  try {
    stamps = stamps_of(certificate);
  } catch (const NotCounted&) {
    stamps.clear();
  }
  for (const Stamp& stamp : stamps)
    for (const LogKey& log : logs)
      if (stamp.milliseconds <= kMostMilliseconds && log.id == stamp.log_id &&
          log.period.holds(static_cast<Moment>(stamp.milliseconds) * 1000) && is_stamped(certificate, issuer, stamp, log))
        return;
  counts_not("no trusted log of certificates has signed that it has its certificate");
}

}  // namespace edgepack::keyless
