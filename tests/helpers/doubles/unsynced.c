// Loaded before libc (LD_PRELOAD): notes what would be on the disk if the power went now.
//
// At each fsync, a file's bytes are copied to $UNSYNCED/data/INODE, and the names below $UNSYNCED_ROOT are written to
// $UNSYNCED/names: journals of file systems keep the order of what happens to names, and a flush of one file flushes all
// that happened before it. A file that was never flushed has no copy.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *names;
static int busy;

static int note(const char *path, const struct stat *status, int kind, struct FTW *place) {
  char target[4096] = "";
  (void)place;
  if (kind == FTW_SL) {
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
  }
  fprintf(names, "%c\t%lu\t%o\t%s\t%s\n", kind == FTW_SL ? 'l' : kind == FTW_D ? 'd' : 'f', (unsigned long)status->st_ino,
          (unsigned)(status->st_mode & 07777), path, target);
  return 0;
}

static void copy(int file, unsigned long inode) {
  char path[4096], piece[65536];
  snprintf(path, sizeof path, "%s/data/%lu", getenv("UNSYNCED"), inode);
  int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  off_t offset = 0;
  ssize_t count;
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  int in = open(path, O_RDONLY);
  while ((count = pread(in, piece, sizeof piece, offset)) > 0) {
    if (write(out, piece, (size_t)count) != count) abort();
    offset += count;
  }
  close(in);
  close(out);
}

static void flushed(int file) {
  char path[4096], made[4096];
  struct stat status;
  if (!getenv("UNSYNCED") || busy || fstat(file, &status)) return;
  busy = 1;
  if (S_ISREG(status.st_mode)) {
    copy(file, (unsigned long)status.st_ino);
    fcntl(file, F_DUPFD_CLOEXEC, 100);  // stays open, so that no other file gets the number
  }
  snprintf(path, sizeof path, "%s/names", getenv("UNSYNCED"));
  snprintf(made, sizeof made, "%s/names.new", getenv("UNSYNCED"));
  names = fopen(made, "w");
  nftw(getenv("UNSYNCED_ROOT"), note, 8, FTW_PHYS);
  fclose(names);
  rename(made, path);
  busy = 0;
}

#define FLUSH(NAME)                                                     \
  int NAME(int file) {                                                  \
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #NAME);           \
    int done = real(file);                                              \
    if (done == 0) flushed(file);                                       \
    return done;                                                        \
  }

FLUSH(fsync)
FLUSH(fdatasync)
