// Base64 in its one form, as DSSE's envelopes and PEM files hold it.

#ifndef EDGEPACK_BASE64_H_
#define EDGEPACK_BASE64_H_

#include <optional>
#include <string>

namespace edgepack {

std::string to_base64(const std::string& data);

// Returns the bytes of base64 in its one form; nothing for any other text.
std::optional<std::string> from_base64(const std::string& text);

// Returns the text of a PEM file, with lines of 64 digits.
std::string to_pem(const std::string& data, const std::string& kind);

// Returns the bytes between a PEM file's lines ``-----BEGIN KIND-----`` and ``-----END KIND-----``, from ``*place`` on,
// which is moved behind them; nothing where there are none, or they are no base64.
std::optional<std::string> next_pem(const std::string& text, const std::string& kind, size_t* place);

}  // namespace edgepack

#endif  // EDGEPACK_BASE64_H_
