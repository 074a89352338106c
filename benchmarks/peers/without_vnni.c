/* Preloaded, it hides AVX-512, VNNI and AMX from the engines of a process: they run the kernels of an AVX2 machine, at
 * the speed of this CPU. It is no emulation: Linux makes CPUID fault (arch_prctl(2), ARCH_SET_CPUID; the CPU must have
 * cpuid_fault), and the handler answers with the feature bits cleared. Bits: Intel Software Developer's Manual, volume 2,
 * CPUID, leaf 7. What was loaded before this library, the dynamic linker with its choice of memcpy, has seen them.
 *
 *   cc -O2 -shared -fPIC -o without_vnni.so without_vnni.c
 *   LD_PRELOAD=./without_vnni.so python ...
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

/* Leaf 7, subleaf 0. EBX: AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL. ECX: AVX512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
 * EDX: AVX512 4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8. */
static const uint32_t EBX = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const uint32_t ECX = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const uint32_t EDX = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;
/* Leaf 7, subleaf 1. EAX: AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; all of EDX (AVX-VNNI-INT8 and others). */
static const uint32_t EAX1 = 1u << 4 | 1u << 5 | 1u << 21 | 1u << 23;

static struct sigaction before;

static void answer(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *code = (const uint8_t *)registers[REG_RIP];
  if (code[0] != 0x0f || code[1] != 0xa2) { /* not CPUID: a real fault, which the next attempt brings to its handler */
    sigaction(SIGSEGV, &before, NULL);
    return;
  }
  uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX], a, b, c, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(subleaf));
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (leaf == 7 && subleaf == 0) {
    b &= ~EBX;
    c &= ~ECX;
    d &= ~EDX;
  } else if (leaf == 7 && subleaf == 1) {
    a &= ~EAX1;
    d = 0;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &before);
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
    perror("without_vnni: this CPU or kernel cannot make CPUID fault");
    exit(3); /* measuring with VNNI what is labelled without it would be a lie */
  }
}
