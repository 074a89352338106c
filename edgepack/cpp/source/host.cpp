#include "host.h"

#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/utsname.h>

#ifdef __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

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

// On aarch64 the kernel tells each process what all its cores have: /proc/cpuinfo is of the machine, which an emulator
// is not. The names are those of Linux, arch/arm64/include/uapi/asm/hwcap.h.
std::set<std::string> told_by_kernel() {
  std::set<std::string> found;
#ifdef __aarch64__
  struct Flag {
    const char* name;
    unsigned long first, second;  // bits of AT_HWCAP and of AT_HWCAP2
  };
  static constexpr Flag kKnown[] = {
      {"asimd", HWCAP_ASIMD, 0},     {"fphp", HWCAP_FPHP, 0},         {"asimdhp", HWCAP_ASIMDHP, 0},
      {"asimddp", HWCAP_ASIMDDP, 0}, {"asimdfhm", HWCAP_ASIMDFHM, 0}, {"sve", HWCAP_SVE, 0},
      {"sve2", 0, HWCAP2_SVE2},      {"svei8mm", 0, HWCAP2_SVEI8MM},  {"svebf16", 0, HWCAP2_SVEBF16},
      {"i8mm", 0, HWCAP2_I8MM},      {"bf16", 0, HWCAP2_BF16},        {"sme", 0, 1UL << 23},
      {"sme2", 0, 1UL << 37},
  };
  unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  for (const Flag& flag : kKnown)
    if ((first & flag.first) | (second & flag.second)) found.insert(flag.name);
#endif
  return found;
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
  if (host->arch == "aarch64") common = told_by_kernel();
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
