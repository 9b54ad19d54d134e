/* Fails one read of WAL with EIO. Preloaded into PostgreSQL by ci/hazards/read-error-in-crash-recovery.
 *
 * FAIL_PREAD is the number of the read, counted from 1 in each process. FAIL_PREAD_LOG is a file to which a line is
 * appended when the read fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long reads;

static int fails(int fd)
{
	const char *nth = getenv("FAIL_PREAD");
	const char *log = getenv("FAIL_PREAD_LOG");
	char link[64], path[4096];
	ssize_t len;
	int out;

	if (nth == NULL || log == NULL)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof path - 1);
	if (len < 0)
		return 0;
	path[len] = 0;
	if (strstr(path, "/pg_wal/0") == NULL || ++reads != atol(nth))
		return 0;
	out = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (out >= 0) {
		dprintf(out, "read %ld of pid %ld failed: %s\n", reads, (long) getpid(), path);
		close(out);
	}
	return 1;
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
	static ssize_t (*next)(int, void *, size_t, off64_t);

	if (fails(fd)) {
		errno = EIO;
		return -1;
	}
	if (next == NULL)
		next = (ssize_t (*)(int, void *, size_t, off64_t)) dlsym(RTLD_NEXT, "pread64");
	return next(fd, buf, len, offset);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	return pread64(fd, buf, len, offset);
}
