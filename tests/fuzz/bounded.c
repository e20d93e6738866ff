/*
 * bounded.c - hostile files through the program: one line, little time and memory
 *
 *   bounded WSURG MEMORY FOLDER...
 *
 * Runs `WSURG inspect FILE` on every file. The exit must be 0 or 3, and 3 for a file
 * called 9-*; a refusal is one line of error. At most 2 s of processor time, and,
 * unless MEMORY is 0, twice the file's size and MEMORY MiB.
 */
#define _DEFAULT_SOURCE // wait4

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 2 };

static long n_files, n_bad;

static void complain(const char *file, const char *what, long found)
{
    printf("%s: %s: %ld\n", file, what, found);
    n_bad++;
}

/** Lines of @p text that begin as errors do. */
static int error_lines(const char *text)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, "wsurg: error:")) != NULL; p++)
        n += p == text || p[-1] == '\n';
    return n;
}

static void judge(const char *file, long allowance, int status, const char *text,
                  const struct rusage *use)
{
    const char *name = strrchr(file, '/') + 1;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    const long seconds = use->ru_utime.tv_sec + use->ru_stime.tv_sec;
    struct stat st;
    if (code != 3 && (code != 0 || strncmp(name, "9-", 2) == 0))
        complain(file, "exit", code);
    if (code == 3 && error_lines(text) != 1)
        complain(file, "lines of error", error_lines(text));
    if (seconds >= SECONDS)
        complain(file, "seconds", seconds);
    if (allowance > 0 && stat(file, &st) == 0 &&
        use->ru_maxrss > 2 * (long)(st.st_size / 1024) + allowance * 1024)
        complain(file, "KiB of memory", use->ru_maxrss);
}

static void run(const char *wsurg, long allowance, const char *file)
{
    char text[4096] = "";
    size_t have = 0;
    ssize_t n;
    int out[2], status = 0;
    struct rusage use;
    if (pipe(out) != 0)
        exit(2);
    const pid_t child = fork();
    if (child == 0) {
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        close(out[0]);
        close(out[1]);
        execl(wsurg, wsurg, "inspect", file, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    while (child > 0 && have < sizeof text - 1 &&
           (n = read(out[0], text + have, sizeof text - 1 - have)) > 0)
        have += (size_t)n;
    close(out[0]);
    if (child < 0 || wait4(child, &status, 0, &use) != child)
        exit(2);
    judge(file, allowance, status, text, &use);
    n_files++;
}

int main(int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        struct dirent **names;
        const int n = scandir(argv[i], &names, NULL, alphasort);
        for (int k = 0; k < n; k++) {
            char file[4096];
            snprintf(file, sizeof file, "%s/%s", argv[i], names[k]->d_name);
            if (names[k]->d_name[0] != '.')
                run(argv[1], strtol(argv[2], NULL, 10), file);
            free(names[k]);
        }
        if (n >= 0)
            free(names);
    }
    printf("%ld files, %ld complaints\n", n_files, n_bad);
    return n_bad > 0 || n_files == 0;
}
