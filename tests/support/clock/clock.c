/* A wall clock that is wrong by so many seconds, for a program that loads this first (LD_PRELOAD).

   How many is a signed 64-bit number in the file that TEST_CLOCK names, and may change at any time:
   then the clock steps. The monotonic clock stays as it is. Covers what Rust's library, librdkafka
   and OpenSSL ask for the time, and the one wait of theirs that ends at a time of the wall clock.

   Not libfaketime: that asks the dynamic linker while the program is loaded, which gives the
   program's own allocator memory to free that is not of it. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t right = 0;
static const volatile int64_t *ahead = &right;

__attribute__((constructor)) static void look(void) {
  const char *path = getenv("TEST_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED)
    abort();
  close(file);
  ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (syscall(SYS_clock_gettime, clock, now))
    return -1;
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
    now->tv_sec += *ahead;
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec at;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &at);
  now->tv_sec = at.tv_sec;
  now->tv_usec = at.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (now)
    *now = at.tv_sec;
  return at.tv_sec;
}

/* The kernel's clock is right; glibc's types of C11 are those of POSIX. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
                  const struct timespec *restrict until) {
  struct timespec kernel = *until;
  kernel.tv_sec -= *ahead;
  switch (pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex,
                                 CLOCK_REALTIME, &kernel)) {
  case 0:
    return thrd_success;
  case ETIMEDOUT:
    return thrd_timedout;
  default:
    return thrd_error;
  }
}
