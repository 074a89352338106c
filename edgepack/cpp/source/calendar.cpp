#include "calendar.h"

#include <time.h>

namespace edgepack {

// (The calendar of days: H. Hinnant, chrono-compatible algorithms).
std::optional<int64_t> seconds_at(std::string_view digits) {
  if (digits.size() != 14 || digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
  auto number = [&](size_t begin, size_t size) {
    int found = 0;
    for (char c : digits.substr(begin, size)) found = 10 * found + (c - '0');
    return found;
  };
  int year = number(0, 4), month = number(4, 2), day = number(6, 2), hour = number(8, 2), minute = number(10, 2);
  int second = number(12, 2);
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > kDays[month - 1] + (leap && month == 2)) return std::nullopt;
  if (hour > 23 || minute > 59 || second > 59) return std::nullopt;
  int64_t y = year - (month <= 2), era = y / 400, of_era = y - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  int64_t days = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
  return ((days * 24 + hour) * 60 + minute) * 60 + second;
}

std::string digits_of(std::string_view text) {
  static constexpr std::string_view kForm = "0000-00-00T00:00:00";
  std::string digits;
  if (text.size() != kForm.size()) return digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (kForm[i] == '0') digits += text[i];
    if (kForm[i] != '0' && text[i] != kForm[i]) return "";
  }
  return digits;
}

std::string as_text(int64_t seconds) {
  char text[40];
  tm parts{};
  time_t moment = static_cast<time_t>(seconds);
  gmtime_r(&moment, &parts);
  return std::string(text, strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

}  // namespace edgepack
