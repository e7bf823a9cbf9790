#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""weir beside nginx and HAProxy: the same load (wrk -t1 -c64), one after the other in every round.

    bench/compare.py [--build build-release] [--rounds 5] [--seconds 4]

Ratios are taken within a round and their median is told, so that what else the machine does hits both alike.
"""
import pathlib
import statistics
import subprocess

from common import Contestant, answers, arguments, connects, free_port, hub, machine, until, version, wrk, write_section

SLOTS = (1, 4, 16, 64)


def weir(build, kind, slots):
    c = Contestant(f"weir, {kind}, {slots} slot{'s' * (slots > 1)}")
    at = hub(build, c, "--admin", "off", workers=kind)
    c.start("worker", f"{build}/bench/hello_worker", at["workers"], str(slots))
    c.url = f"http://{at['listen']}/hello"
    return c


def weir_h1(build, kind, slots):
    """A worker by reverse HTTP/1.1, a connection for each slot."""
    c = Contestant(f"weir, {kind}, {slots} connections of HTTP/1.1")
    at = hub(build, c, "--admin", "off", workers=kind)
    where = at["workers"] if kind == "unix" else at["workers"].rsplit(":", 1)[1]
    c.start("worker", f"{build}/bench/hello_server", where, str(slots))
    c.url = f"http://{at['listen']}/hello"
    return c


def weir_zmq(build, slots):
    c = Contestant(f"weir, ZeroMQ ipc (unix), {slots} slot{'s' * (slots > 1)}")
    at = hub(build, c, "--admin", "off", "--zmq", f"ipc://{c.dir}/z")
    c.start("worker", f"{build}/bench/hello_worker", at["zmq"].replace("ipc:", "ipc+zmq:"), str(slots))
    c.url = f"http://{at['listen']}/hello"
    return c


def upstream(build, c, kind):
    server = c.start("worker", f"{build}/bench/hello_server", f"unix:{c.dir}/up" if kind == "unix" else "0",
                     stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline().split()[1])
    return f"unix:{c.dir}/up" if kind == "unix" else f"127.0.0.1:{port}"


def alone(build):
    c = Contestant("hello_server alone, tcp")
    c.url = f"http://{upstream(build, c, 'tcp')}/hello"
    return c


def nginx(build, kind):
    c = Contestant(f"nginx proxy_pass, {kind}")
    up, port = upstream(build, c, kind), free_port()
    temp = "\n".join(f"  {m}_temp_path {c.dir}/{m};" for m in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = f"""worker_processes 1; master_process off; daemon off; pid {c.dir}/pid; error_log {c.dir}/err crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000;
{temp}
  upstream up {{ server {up}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""
    pathlib.Path(f"{c.dir}/conf").write_text(conf)
    c.start("hub", "nginx", "-p", c.dir, "-c", f"{c.dir}/conf")
    until(lambda: connects(port), "nginx listens")
    c.url = f"http://127.0.0.1:{port}/hello"
    return c


def haproxy(build, kind, one):
    c = Contestant(f"HAProxy, {kind}{', maxconn 1' if one else ''}")
    up, port = upstream(build, c, kind), free_port()
    server = up.replace("unix:", "unix@")
    conf = f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
  http-reuse always
listen front
  bind 127.0.0.1:{port}
  server up {server} {'maxconn 1' if one else ''}
"""
    pathlib.Path(f"{c.dir}/conf").write_text(conf)
    c.start("hub", "haproxy", "-f", f"{c.dir}/conf", "-db")
    until(lambda: connects(port), "HAProxy listens")
    c.url = f"http://127.0.0.1:{port}/hello"
    return c


def run(make, seconds):
    c = make()
    try:
        until(lambda: answers(c.url), f"{c.name} answers")
        before = c.cpu()
        result = wrk(c.url, seconds)
        after = c.cpu()
    finally:
        c.stop()
    result["cpu"] = {role: (after[role] - before[role]) * 1e5 / result["total"] for role in before}
    return c.name, result


def table(results, rounds, seconds):
    med = statistics.median
    lines = [f"{machine()}; {version('nginx')}, {version('haproxy')}, {version('wrk')}. "
             f"{rounds} rounds of {seconds} s each, `wrk -t1 -c64 --latency`.",
             "Rates are medians with (lowest to highest); the ratio is the median of the rounds' ratios to nginx over the "
             "same kind of socket. CPU: seconds per 100,000 requests.", "",
             "| path | requests/s | ratio | p50 ms | p99 ms | errors | CPU hub | CPU worker |", "|---|---|---|---|---|---|---|---|"]
    for name, runs in results.items():
        rates = [r["rate"] for r in runs]
        kind = "unix" if "unix" in name else "tcp"
        peer = [r["rate"] for r in results[f"nginx proxy_pass, {kind}"]]
        ratio = med(a / b for a, b in zip(rates, peer))
        cpu = lambda role: f"{med(r['cpu'][role] for r in runs):.2f}" if role in runs[0]["cpu"] else ""
        lines.append(f"| {name} | {med(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {ratio:.2f} | "
                     f"{med(r['p50'] for r in runs):.2f} | {med(r['p99'] for r in runs):.2f} | "
                     f"{sum(r['errors'] for r in runs)} | {cpu('hub')} | {cpu('worker')} |")
    one = [r["rate"] for r in results["HAProxy, unix, maxconn 1"]]
    ours = [r["rate"] for r in results["weir, unix, 1 slot"]]
    lines += ["", f"At one slot, beside the same queueing before one HTTP/1.1 connection (HAProxy maxconn 1): "
                  f"{med(a / b for a, b in zip(ours, one)):.2f} x."]
    return "\n".join(lines)


def main():
    args = arguments(__doc__, rounds=5, seconds=4)
    build = args.build
    makers = [lambda: alone(build)]
    for kind in ("unix", "tcp"):
        makers.append(lambda kind=kind: nginx(build, kind))
        makers += [lambda kind=kind, n=n: weir(build, kind, n) for n in SLOTS]
        makers.append(lambda kind=kind: weir_h1(build, kind, 64))
        makers.append(lambda kind=kind: haproxy(build, kind, False))
    makers += [lambda n=n: weir_zmq(build, n) for n in (1, 16, 64)]
    makers.append(lambda: haproxy(build, "unix", True))
    results = {}
    for i in range(args.rounds):
        for make in makers:
            name, result = run(make, args.seconds)
            results.setdefault(name, []).append(result)
            print(f"round {i + 1}: {name:34} {result['rate']:10,.0f}/s  p99 {result['p99']:.2f} ms", flush=True)
    text = table(results, args.rounds, args.seconds)
    print("\n" + text)
    write_section("compare", "## The hop to a worker: hello\n\n" + text)


if __name__ == "__main__":
    main()
