/* SPDX-License-Identifier: Apache-2.0 */
/* The program `weir`: finds the command's row and runs it. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

const struct cli_command cli_commands[] = {
    {.name = "hub",
     .usage = "[options]",
     .help = "accept clients and workers, queue and dispatch",
     .detail =
         "Runs a hub in the foreground until SIGTERM or SIGINT, then drains; a second signal ends it at "
         "once.\n"
         "Every option is also a key of the configuration file and an environment variable; an option wins\n"
         "over the environment, the environment over the file.",
     .config = true,
     .run = cmd_hub},
    {.name = "work",
     .usage = "SERVICE[,SERVICE] [options] (-- COMMAND [ARG...] | --http URL | --builtin NAME)",
     .help = "make a worker of a command, an HTTP server, or a directory",
     .detail =
         "A command runs once for each job, in a process group of its own: CGI/1.1 variables, the request's\n"
         "body on stdin, the answer from stdout, stderr in the log. Exit status 0 is 200 unless the output\n"
         "begins with CGI header fields (Content-Type, Status, Location, Weir-Forward); another status is "
         "500\n"
         "with the end of stderr. When the client leaves, the group gets SIGTERM, then SIGKILL.\n"
         "With --http each job is asked of a server, and its answer streamed back. A path that begins with\n"
         "the service's name is taken without it by --builtin file.\n"
         "Until SIGTERM or SIGINT, which let running jobs finish; a second signal ends them.",
     .options = work_options,
     .run = cmd_work},
    {.name = "pub",
     .usage = "TOPIC [MESSAGE] [options]",
     .help = "publish a message",
     .detail = "The message is MESSAGE or, without it, all of standard input. When this ends with 0 the hub "
               "has it\n"
               "stored for all who have subscribed to TOPIC.",
     .options = pub_options,
     .run = cmd_pub},
    {.name = "sub",
     .usage = "TOPIC SUBSCRIPTION [options]",
     .help = "subscribe, and print messages as they come",
     .detail = "Several commands with one SUBSCRIPTION share its messages. It stays when the command ends, "
               "and goes on\n"
               "to gather messages, unless --delete is given. Until SIGTERM or SIGINT, or --count or --wait "
               "say so.\n"
               "With --ack explicit a message is acknowledged when it has been written; if that fails, or "
               "the command\n"
               "dies before, it comes again, here or to others. Exit status 4: fewer than --count messages "
               "have come.",
     .options = sub_options,
     .run = cmd_sub},
    {.name = "check",
     .usage = "[options]",
     .help = "check a configuration and print what it amounts to",
     .detail =
         "Reads options, environment and file as `weir hub` would and prints the whole configuration on\n"
         "stdout in the file's form, or what is wrong on stderr (exit status 2).",
     .config = true,
     .run = cmd_check},
    {.name = "status",
     .usage = "[options]",
     .help = "show a hub's services, workers and jobs",
     .options = status_options,
     .run = cmd_status},
    {.name = "jobs",
     .usage = "[list|show|result|cancel|retry|purge] [ID...] [options]",
     .help = "look at a hub's durable jobs, and change them",
     .detail = "list is the default. show, result, cancel and retry take ids. result prints the stored "
               "answer's body; its\n"
               "exit status is 1 when the job has not ended (--wait waits), or its answer's status is 400 or "
               "more.\n"
               "retry queues dead jobs again. purge drops ended ones (--state says which).",
     .options = jobs_options,
     .run = cmd_jobs},
    {.name = "bench",
     .usage = "URL [options]",
     .help = "load an HTTP server and measure it",
     .detail =
         "URL is http://HOST[:PORT]/PATH or unix:SOCKET:/PATH; each {n} in PATH is replaced by a counter.\n"
         "Closed loop: each connection sends its next request when it has its answer. Open loop (--rate):\n"
         "requests are due at fixed or random times, and latency counts from when a request was due, not\n"
         "from when it could be sent. Exit status 1 when a request failed or was answered 4xx or 5xx.",
     .options = bench_options,
     .run = cmd_bench},
    {.name = "demo",
     .usage = "primes [N] [options]",
     .help = "run a whole pipeline on this machine",
     .detail =
         "primes: starts a hub and workers of two stages, asks it over HTTP about every odd number below N\n"
         "(default 1000000), and counts the primes. With --serve it keeps running for you to try.",
     .options = demo_options,
     .run = cmd_demo},
    {.name = "demo-worker",
     .usage = "primes|divide [options]",
     .help = "one worker of the demo",
     .options = demo_worker_options,
     .hidden = true,
     .run = cmd_demo_worker},
    {.name = "help",
     .usage = "[COMMAND]",
     .help = "show how a command is used",
     .options = help_options,
     .run = cmd_help},
    {.name = "version", .usage = "", .help = "show the version", .run = cmd_version},
    {0},
};

const struct cli_command *cli_command_find(const char *name) {
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (strcmp(c->name, name) == 0) return c;
    }
    return NULL;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        help_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) name = "version";
    struct cli cli = {.command = cli_command_find(name), .argc = argc - 1, .argv = argv + 1};
    if (!cli.command) {
        fprintf(stderr, "weir: there is no command \"%s\"; try: weir help\n", name);
        return CLI_USAGE;
    }
    int status = cli.command->run(&cli);
    cli_fini(&cli);
    return status;
}
