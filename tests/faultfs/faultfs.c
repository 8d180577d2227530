/* A disk that fails when told to: preloaded before libc, it stands between a process and its reads, writes, flushes, opens and
 * links of the files below one folder. Nothing fails until faultfs_arm() is called (from Python through ctypes).
 *
 *   faultfs_arm(folder, operation, n, error, lasting)
 *     operation: 'r' read, pread; 'w' write, pwrite, ftruncate; 's' fsync, fdatasync; 'o' open; 'l' link
 *     n:         the n-th such operation from now on fails, the first is 1
 *     error:     errno to fail with; 0, for writes: half is written, and the next write finds the disk full
 *     lasting:   every later one fails as well, until faultfs_disarm()
 *   faultfs_disarm() gives the number of operations that failed.
 *   faultfs_spoil(path, offset, error)
 *     every pread of that byte of the file that has the path now fails, under whatever name, until an offset of -1 is given.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static char folder[PATH_MAX];
static char operation;
static long left;
static int error_number, lasting, failed, half_written;

EXPORT void faultfs_arm(const char *below, char which, long n, int error, int for_ever)
{
    snprintf(folder, sizeof folder, "%s/", below);
    operation = which;
    left = n;
    error_number = error;
    lasting = for_ever;
    failed = half_written = 0;
}

EXPORT int faultfs_disarm(void)
{
    operation = 0;
    return failed;
}

static struct stat spoilt;
static long spoilt_at = -1;
static int spoilt_error;

EXPORT void faultfs_spoil(const char *path, long offset, int error)
{
    spoilt_at = stat(path, &spoilt) == 0 ? offset : -1;
    spoilt_error = error;
}

static int is_spoilt(int fd, off_t from, size_t count)
{
    struct stat found;
    return spoilt_at >= from && spoilt_at < from + (off_t)count && fstat(fd, &found) == 0 &&
           found.st_ino == spoilt.st_ino && found.st_dev == spoilt.st_dev;
}

static int is_ours(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int fails_now(void)
{
    left--;
    if (left > 0 || (left < 0 && !lasting))
        return 0;
    failed++;
    return 1;
}

static int fails(char which, int fd)
{
    return operation == which && is_ours(fd) && fails_now();
}

/* The bytes to write: all, or fewer where the disk fails; -1 with errno where nothing can be. */
static ssize_t room(int fd, size_t count)
{
    if (operation == 'w' && half_written && is_ours(fd)) {
        half_written = 0;
        errno = ENOSPC;
        return -1;
    }
    if (!fails('w', fd))
        return (ssize_t)count;
    if (error_number == 0) {
        half_written = 1;
        return (ssize_t)(count / 2);
    }
    errno = error_number;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

EXPORT ssize_t write(int fd, const void *data, size_t count)
{
    ssize_t fits = room(fd, count);
    return fits <= 0 ? fits : REAL(write)(fd, data, (size_t)fits);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t count, off_t at)
{
    ssize_t fits = room(fd, count);
    return fits <= 0 ? fits : REAL(pwrite)(fd, data, (size_t)fits, at);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at)
{
    ssize_t fits = room(fd, count);
    return fits <= 0 ? fits : REAL(pwrite64)(fd, data, (size_t)fits, at);
}

#define FAIL_IF(condition)                                   \
    if (condition) {                                         \
        errno = error_number ? error_number : EIO;           \
        return -1;                                           \
    }

EXPORT ssize_t read(int fd, void *data, size_t count)
{
    FAIL_IF(fails('r', fd))
    return REAL(read)(fd, data, count);
}

#define PREAD(name, offset_type)                                                \
    EXPORT ssize_t name(int fd, void *data, size_t count, offset_type at)       \
    {                                                                           \
        if (is_spoilt(fd, at, count)) {                                         \
            errno = spoilt_error;                                               \
            return -1;                                                          \
        }                                                                       \
        FAIL_IF(fails('r', fd))                                                 \
        return REAL(name)(fd, data, count, at);                                 \
    }

PREAD(pread, off_t)
PREAD(pread64, off64_t)

EXPORT int ftruncate(int fd, off_t length)
{
    FAIL_IF(fails('w', fd))
    return REAL(ftruncate)(fd, length);
}

EXPORT int ftruncate64(int fd, off64_t length)
{
    FAIL_IF(fails('w', fd))
    return REAL(ftruncate64)(fd, length);
}

EXPORT int fsync(int fd)
{
    FAIL_IF(fails('s', fd))
    return REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
    FAIL_IF(fails('s', fd))
    return REAL(fdatasync)(fd);
}

static int names(char which, const char *path)
{
    return operation == which && strncmp(path, folder, strlen(folder)) == 0 && fails_now();
}

#define MODE(flags, last)                                    \
    mode_t mode = 0;                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                   \
        va_list more;                                        \
        va_start(more, last);                                \
        mode = va_arg(more, mode_t);                         \
        va_end(more);                                        \
    }

EXPORT int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    FAIL_IF(names('o', path))
    return REAL(open)(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
    MODE(flags, flags)
    FAIL_IF(names('o', path))
    return REAL(open64)(path, flags, mode);
}

EXPORT int link(const char *from, const char *to)
{
    FAIL_IF(names('l', to))
    return REAL(link)(from, to);
}

EXPORT int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    FAIL_IF(names('l', to))
    return REAL(linkat)(from_directory, from, to_directory, to, flags);
}
