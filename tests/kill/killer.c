/*
 * killer.c - run a command, follow its progress, and at a chosen moment kill it
 *
 *   killer [--stage FILE] [--at SECONDS | --staged SECONDS | --final SECONDS]
 *          [--do COMMAND] -- PROGRAM...
 *
 * PROGRAM reports `--progress json` on its standard error; other lines pass through.
 * Staged means: FILE (or a file in the folder FILE) holds data. Final means: the event
 * "merge" is over; what follows is the final check and the rename.
 *   --at S      SIGKILL S seconds after the start
 *   --staged S  SIGKILL S seconds after the first staged byte
 *   --final S   SIGKILL S seconds after the final part began
 *   --do C      not SIGKILL: once staged, run C in a shell, then let PROGRAM go on
 * Prints one line: `killed PHASE SHARE`, PHASE before, merge or final, SHARE of the
 * merge in 0..1; or `ended STATUS STAGED FINAL END`, the three in seconds since the
 * start (-1: never); a signal N counts as status 128+N.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *stage, *action;
static double at = -1.0, staged_after = -1.0, final_after = -1.0;

static double began, staged = -1.0, final = -1.0, share;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - began;
}

static bool holds_data(const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0)
        return false;
    if (!S_ISDIR(s.st_mode))
        return s.st_blocks > 0;
    bool found = false;
    DIR *dir = opendir(path);
    const struct dirent *e;
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        found = stat(inner, &s) == 0 && S_ISREG(s.st_mode) && s.st_blocks > 0;
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

/** One line of the program's standard error. */
static void line_read(const char *line)
{
    char event[32];
    unsigned long long done, total;
    if (sscanf(line, "{\"event\":\"%31[^\"]\",\"done\":%llu,\"total\":%llu", event,
               &done, &total) != 3) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    if (strcmp(event, "merge") == 0)
        share = total > 0 ? (double)done / (double)total : 0.0;
    if (share >= 1.0 && final < 0.0)
        final = now();
}

/** Read what is there; false at the end of the stream. */
static bool lines_read(int fd)
{
    static char buf[65536];
    static size_t n;
    const ssize_t got = read(fd, buf + n, sizeof buf - 1 - n);
    if (got <= 0)
        return got < 0 && errno == EINTR;
    n += (size_t)got;
    char *start = buf, *end;
    while ((end = memchr(start, '\n', n - (size_t)(start - buf))) != NULL) {
        *end = '\0';
        line_read(start);
        start = end + 1;
    }
    n -= (size_t)(start - buf);
    memmove(buf, start, n);
    if (n == sizeof buf - 1)
        n = 0;
    return true;
}

static bool due(void)
{
    if (action != NULL)
        return staged >= 0.0;
    if (final_after >= 0.0)
        return final >= 0.0 && now() >= final + final_after;
    if (staged_after >= 0.0)
        return staged >= 0.0 && now() >= staged + staged_after;
    return at >= 0.0 && now() >= at;
}

static pid_t start(char **argv, int *err_fd)
{
    int ends[2];
    if (pipe(ends) != 0)
        exit(99);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    *err_fd = ends[0];
    return pid;
}

/** Follow the program until it ends; true when it was killed. */
static bool follow(pid_t pid, int fd)
{
    bool acted = false;
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, 1) > 0 && !lines_read(fd))
            return false;
        if (staged < 0.0 && stage != NULL && holds_data(stage))
            staged = now();
        if (acted || !due())
            continue;
        acted = true;
        if (action == NULL)
            return kill(pid, SIGKILL) == 0;
        if (system(action) != 0)
            fprintf(stderr, "killer: '%s' failed\n", action);
    }
}

int main(int argc, char **argv)
{
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--stage") == 0)
            stage = argv[i + 1];
        else if (strcmp(argv[i], "--do") == 0)
            action = argv[i + 1];
        else if (strcmp(argv[i], "--at") == 0)
            at = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--staged") == 0)
            staged_after = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--final") == 0)
            final_after = strtod(argv[i + 1], NULL);
        else
            return 99;
    }
    if (i + 1 >= argc)
        return 99;
    began = now();
    int fd, status;
    const pid_t pid = start(argv + i + 1, &fd);
    if (pid < 0)
        return 99;
    const bool killed = follow(pid, fd);
    const double end = now();
    waitpid(pid, &status, 0);
    if (killed && WIFSIGNALED(status)) {
        const char *phase = final >= 0.0 ? "final" : staged >= 0.0 ? "merge" : "before";
        printf("killed %s %.3f\n", phase, share);
    } else {
        const int code =
            WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        printf("ended %d %.3f %.3f %.3f\n", code, staged, final, end);
    }
    return 0;
}
