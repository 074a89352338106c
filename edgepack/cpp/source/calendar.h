// Times as documents write them, in seconds since 1970.

#ifndef EDGEPACK_CALENDAR_H_
#define EDGEPACK_CALENDAR_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <string_view>

namespace edgepack {

// Returns the time "YYYYMMDDhhmmss" in UTC; nothing for what is none.
std::optional<int64_t> seconds_at(std::string_view digits);

// Returns the fourteen digits of "YYYY-MM-DDThh:mm:ss"; "" for anything else.
std::string digits_of(std::string_view text);

// Returns a time as "YYYY-MM-DDThh:mm:ssZ".
std::string as_text(int64_t seconds);

}  // namespace edgepack

#endif  // EDGEPACK_CALENDAR_H_
