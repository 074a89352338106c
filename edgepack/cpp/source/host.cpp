#include "host.h"

#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "facts.h"
#include "file.h"

namespace edgepack {

namespace {

constexpr size_t kMostBytes = 16 << 20;  // /proc/cpuinfo of hundreds of cores is some hundred kB

std::string trimmed(const std::string& text) {
  size_t begin = text.find_first_not_of(" \t\n\r"), end = text.find_last_not_of(" \t\n\r");
  return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

std::set<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::set<std::string> found;
  for (std::string word; stream >> word;) found.insert(word);
  return found;
}

int cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

void read_processors(Host* host) {
  std::string text;
  if (!read_small("/proc/cpuinfo", kMostBytes, &text)) return;
  std::istringstream lines(text);
  std::set<std::string> common;
  bool any = false;
  for (std::string line; std::getline(lines, line);) {
    size_t colon = line.find(':');
    if (colon == line.npos) continue;
    std::string key = trimmed(line.substr(0, colon)), value = trimmed(line.substr(colon + 1));
    if (key == "model name" && host->cpu.empty()) host->cpu = value;
    if (key != "flags" && key != "Features") continue;
    std::set<std::string> here = words_of(value), both;
    if (any) std::set_intersection(common.begin(), common.end(), here.begin(), here.end(), std::inserter(both, both.end()));
    common = any ? both : here;
    any = true;
  }
  for (const char* flag : facts::kFlags)
    if (common.count(flag)) host->isa.emplace_back(flag);
}

Host read_host() {
  Host host;
  utsname names;
  std::string machine = uname(&names) == 0 ? names.machine : "";
  host.arch = machine == "arm64" ? "aarch64" : machine == "amd64" ? "x86_64" : machine;
  host.cores = cores();
  read_processors(&host);
  std::string board;
  if (host.cpu.empty() && read_small("/proc/device-tree/model", 256, &board)) host.cpu = trimmed(board.c_str());
  if (host.cpu.empty()) host.cpu = host.arch;
  return host;
}

// Beyond 18 digits all parts of a version are as large.
std::vector<uint64_t> numbers_of(const std::string& version) {
  std::vector<uint64_t> numbers;
  for (size_t place = 0; place < version.size() && version[place] >= '0' && version[place] <= '9';) {
    uint64_t value = 0;
    size_t digits = 0;
    for (; place < version.size() && version[place] >= '0' && version[place] <= '9'; ++place, ++digits)
      value = digits < 18 ? value * 10 + static_cast<uint64_t>(version[place] - '0') : value;
    numbers.push_back(digits <= 18 ? value : 1000000000000000000u);
    if (place >= version.size() || version[place] != '.') break;
    ++place;
  }
  return numbers;
}

}  // namespace

bool Host::has(const std::string& flag) const { return std::find(isa.begin(), isa.end(), flag) != isa.end(); }

const Host& this_host() {
  static const Host host = read_host();
  return host;
}

bool is_older(const std::string& version, const std::string& oldest) {
  std::vector<uint64_t> found = numbers_of(version), least = numbers_of(oldest);
  size_t width = std::max(found.size(), least.size());
  found.resize(width), least.resize(width);
  return found < least;
}

std::string environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

}  // namespace edgepack
