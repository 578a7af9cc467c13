// Counts the calls that change what lies under a folder, and at one of them ends the process, as a
// kill would, or makes it and all later ones fail, as a full or a broken disk would.
//
// Preloaded into a process, which calls `faults_arm` and `faults_disarm`. Each call is a point; a
// write is two, before it and with half of it done. Calls are made one at a time, and logged as
// "name TAB path TAB path" when they are done, so that the log is what the disk was told, in order.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int armed;
static char folder[PATH_MAX];
static long at, point;  // the point where it happens, 0 for none, and the one that was reached
static int failure;     // the errno of what happens, 0 for death
static int journal = -1;

void faults_arm(const char *under, long when, int error, const char *log) {
  snprintf(folder, sizeof folder, "%s", under);
  at = when, failure = error, point = 0;
  journal = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  armed = 1;
}

long faults_disarm(void) {
  pthread_mutex_lock(&lock);
  armed = 0;
  close(journal);
  pthread_mutex_unlock(&lock);
  return point;
}

// The absolute path of `name` in the open folder `base`, or of the open file `base` without one.
static const char *locate(int base, const char *name, char *path) {
  char link[64];
  if (!armed) return NULL;
  if (name && name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    if (base == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", base);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    snprintf(path + length, PATH_MAX - length, "%s%s", name ? "/" : "", name ? name : "");
  }
  size_t length = strlen(folder);
  int inside = !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
  return inside ? path : NULL;
}

static void note(const char *mark, const char *call, const char *one, const char *two) {
  int kept = errno;
  dprintf(journal, "%s%s\t%s\t%s\n", mark, call, one ? one : "", two ? two : "");
  errno = kept;
}

// Counts a point, and says whether the call has to fail there; does not return where it kills.
static int stops(const char *call, const char *one, const char *two) {
  point++;
  if (!at || point < at) return 0;
  if (point == at) note("!", call, one, two);
  if (!failure) kill(getpid(), SIGKILL), pause();
  if (failure == ENOSPC && (!strcmp(call, "unlink") || !strcmp(call, "rmdir"))) return 0;
  errno = failure;
  return 1;
}

static long done(long result, const char *call, const char *one, const char *two) {
  if (result >= 0) note("", call, one, two);
  return result;
}

#define MAKE(call, one, two, system)                                                    \
  const char *first = one, *second = two;                                               \
  if (!first && !second) return system;                                                 \
  pthread_mutex_lock(&lock);                                                            \
  long result = stops(call, first, second) ? -1 : done(system, call, first, second);    \
  pthread_mutex_unlock(&lock);                                                          \
  return result

#define MODE(flags)                                                    \
  mode_t mode = 0;                                                     \
  if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {       \
    va_list rest;                                                      \
    va_start(rest, flags);                                             \
    mode = va_arg(rest, mode_t);                                       \
    va_end(rest);                                                      \
  }

static int opens(int base, const char *name, int flags, mode_t mode) {
  char a[PATH_MAX];
  if (!(flags & (O_CREAT | O_TRUNC))) return syscall(SYS_openat, base, name, flags, mode);
  MAKE(flags & O_TRUNC ? "truncate" : "create", locate(base, name, a), NULL,
       syscall(SYS_openat, base, name, flags, mode));
}

static ssize_t put(int file, const struct iovec *parts, int count, off_t place) {
  return place < 0 ? syscall(SYS_writev, file, parts, count)
                   : syscall(SYS_pwritev, file, parts, count, place, 0L);
}

// Half of what `parts` hold.
static ssize_t put_half(int file, const struct iovec *parts, int count, off_t place) {
  size_t half = 0;
  struct iovec some[count];
  for (int i = 0; i < count; i++) half += parts[i].iov_len;
  half /= 2;
  for (int i = 0; i < count; i++) {
    some[i] = parts[i];
    if (some[i].iov_len > half) some[i].iov_len = half;
    half -= some[i].iov_len;
  }
  return put(file, some, count, place);
}

static ssize_t writes(int file, const struct iovec *parts, int count, off_t place) {
  char a[PATH_MAX];
  const char *path = locate(file, NULL, a);
  if (!path) return put(file, parts, count, place);
  pthread_mutex_lock(&lock);
  ssize_t result;
  if (stops("write", path, NULL)) {
    result = -1;
  } else if (at && point + 1 == at) {
    result = done(put_half(file, parts, count, place), "write", path, NULL);
    if (stops("write", path, NULL) && result == 0) result = -1;
  } else {
    point++;
    result = done(put(file, parts, count, place), "write", path, NULL);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static int removes(int base, const char *name, int flags) {
  char a[PATH_MAX];
  MAKE(flags & AT_REMOVEDIR ? "rmdir" : "unlink", locate(base, name, a), NULL,
       syscall(SYS_unlinkat, base, name, flags));
}

static int renames(int from, const char *name, int to, const char *other, unsigned flags) {
  char a[PATH_MAX], b[PATH_MAX];
  MAKE("rename", locate(from, name, a), locate(to, other, b),
       syscall(SYS_renameat2, from, name, to, other, flags));
}

static int syncs(int file, long call) {
  char a[PATH_MAX];
  MAKE("fsync", locate(file, NULL, a), NULL, syscall(call, file));
}

int openat(int base, const char *name, int flags, ...) {
  MODE(flags)
  return opens(base, name, flags, mode);
}
int openat64(int base, const char *name, int flags, ...) {
  MODE(flags)
  return opens(base, name, flags, mode);
}
int open(const char *name, int flags, ...) {
  MODE(flags)
  return opens(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
  MODE(flags)
  return opens(AT_FDCWD, name, flags, mode);
}
int creat(const char *name, mode_t mode) {
  return opens(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

ssize_t write(int file, const void *bytes, size_t size) {
  if (!armed) return syscall(SYS_write, file, bytes, size);
  return writes(file, &(struct iovec){(void *)bytes, size}, 1, -1);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
  return writes(file, parts, count, -1);
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t place) {
  return writes(file, parts, count, place);
}
ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t place) {
  return writes(file, parts, count, place);
}
ssize_t pwrite(int file, const void *bytes, size_t size, off_t place) {
  return writes(file, &(struct iovec){(void *)bytes, size}, 1, place);
}
ssize_t pwrite64(int file, const void *bytes, size_t size, off_t place) {
  return pwrite(file, bytes, size, place);
}

int mkdirat(int base, const char *name, mode_t mode) {
  char a[PATH_MAX];
  MAKE("mkdir", locate(base, name, a), NULL, syscall(SYS_mkdirat, base, name, mode));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int linkat(int from, const char *name, int to, const char *other, int flags) {
  char a[PATH_MAX];
  MAKE("create", locate(to, other, a), NULL, syscall(SYS_linkat, from, name, to, other, flags));
}
int link(const char *name, const char *other) {
  return linkat(AT_FDCWD, name, AT_FDCWD, other, 0);
}
int symlinkat(const char *target, int base, const char *name) {
  char a[PATH_MAX];
  MAKE("create", locate(base, name, a), NULL, syscall(SYS_symlinkat, target, base, name));
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int unlinkat(int base, const char *name, int flags) { return removes(base, name, flags); }
int unlink(const char *name) { return removes(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return removes(AT_FDCWD, name, AT_REMOVEDIR); }

int renameat2(int from, const char *name, int to, const char *other, unsigned flags) {
  return renames(from, name, to, other, flags);
}
int renameat(int from, const char *name, int to, const char *other) {
  return renames(from, name, to, other, 0);
}
int rename(const char *name, const char *other) {
  return renames(AT_FDCWD, name, AT_FDCWD, other, 0);
}

int truncate(const char *name, off_t size) {
  char a[PATH_MAX];
  MAKE("truncate", locate(AT_FDCWD, name, a), NULL, syscall(SYS_truncate, name, size));
}
int truncate64(const char *name, off_t size) { return truncate(name, size); }
int ftruncate(int file, off_t size) {
  char a[PATH_MAX];
  MAKE("truncate", locate(file, NULL, a), NULL, syscall(SYS_ftruncate, file, size));
}
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }
int fallocate(int file, int how, off_t place, off_t size) {
  char a[PATH_MAX];
  MAKE("truncate", locate(file, NULL, a), NULL, syscall(SYS_fallocate, file, how, place, size));
}
int fallocate64(int file, int how, off_t place, off_t size) {
  return fallocate(file, how, place, size);
}

int fsync(int file) { return syncs(file, SYS_fsync); }
int fdatasync(int file) { return syncs(file, SYS_fdatasync); }
