/* What the supervisors supervise: tells when it began, may write lines, answers every request with 200.
 *   --births FILE   append "NAME PID NANOSECONDS" (CLOCK_MONOTONIC, taken first of all)
 *   --name NAME --port PORT
 *   --lines N       write N numbered lines of 100 bytes to stdout, then append "NAME:wrote FIRST_NS LAST_NS"
 *   --notify-fd N   write a line break there once it listens (s6)
 *   --ignore-term   only KILL ends it
 * Anything else is passed over. Two may listen on one port, so that a copy too many stays to be counted. */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void leave(int number) {
    (void)number;
    _exit(0);
}

static void tell(const char *path, const char *name, const char *what, long long a, long long b) {
    char line[256];
    int length = snprintf(line, sizeof line, "%s%s %lld %lld\n", name, what, a, b);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, length) != length) _exit(3);
    close(fd);
}

static void serve(int listener) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    for (;;) {
        char request[8192], answer[512];
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        struct timeval limit = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ssize_t got = read(fd, request, sizeof request - 1);
        if (got > 0) {
            request[got] = 0;
            const char *body = strncmp(request, "GET /slots", 10) ? "{\"status\":\"ok\"}" : "[]";
            int length = snprintf(answer, sizeof answer, "%sContent-Length: %zu\r\n\r\n%s", head, strlen(body), body);
            if (write(fd, answer, length) < 0) got = 0;
        }
        close(fd);
    }
}

int main(int argc, char **argv) {
    long long born = now_ns();
    const char *births = NULL, *name = "child";
    int port = 0, notify = -1, stubborn = 0;
    long lines = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--births")) births = value;
        if (!strcmp(argv[i], "--name")) name = value;
        if (!strcmp(argv[i], "--port")) port = atoi(value);
        if (!strcmp(argv[i], "--lines")) lines = atol(value);
        if (!strcmp(argv[i], "--notify-fd")) notify = atoi(value);
        if (!strcmp(argv[i], "--ignore-term")) stubborn = 1;
    }
    signal(SIGTERM, stubborn ? SIG_IGN : leave);
    signal(SIGINT, stubborn ? SIG_IGN : leave);
    if (births) tell(births, name, "", getpid(), born);
    if (lines) {
        char line[101];
        long long first = now_ns();
        for (long i = 0; i < lines; i++) {
            int head = snprintf(line, sizeof line, "bench-line %s %ld ", name, i);
            memset(line + head, 'x', 99 - head);
            line[99] = '\n';
            for (int at = 0; at < 100;) {
                ssize_t wrote = write(1, line + at, 100 - at);
                if (wrote < 0) _exit(4);
                at += wrote;
            }
        }
        if (births) tell(births, name, ":wrote", first, now_ns());
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) _exit(1);
    if (notify >= 0 && write(notify, "\n", 1) == 1) close(notify);
    serve(listener);
}
