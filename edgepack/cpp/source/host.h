// What this machine is: architecture and instruction set, by edgepack/device/host.py.

#ifndef EDGEPACK_HOST_H_
#define EDGEPACK_HOST_H_

#include <string>
#include <vector>

namespace edgepack {

struct Host {
  std::string arch, cpu;
  std::vector<std::string> isa;  // sorted; what every core has
  int cores;

  bool has(const std::string& flag) const;
  // Whether int8 multiply-adds clip at 16 bits: VPMADDUBSW on x86 without VNNI (Intel SDM, volume 2).
  bool saturates() const { return arch == "x86_64" && !has("avx512_vnni") && !has("avx_vnni"); }
};

const Host& this_host();

// Whether a version is older than another, by the numbers that both begin with; trailing zeros do not count.
bool is_older(const std::string& version, const std::string& oldest);

// The value of an environment variable; "" where it is not set.
std::string environment(const char* name);

}  // namespace edgepack

#endif  // EDGEPACK_HOST_H_
