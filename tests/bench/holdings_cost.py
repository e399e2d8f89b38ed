#!/usr/bin/env python3
"""What Holdings streams cost an engramd: memory and CPU time, for more and more clients, each with a connection of its own.

    holdings_cost.py --target HOST:PORT --pid PID [--counts 0,250,500,1000] [--seconds 20] [--set ID]
"""
import argparse
import os
import selectors
import socket
import struct
import time

METHOD = "/engram.v1.Lookup/Holdings"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def hello(set_id):
    headers = b"".join(header(name, value) for name, value in (
        (":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", "engramd"),
        ("content-type", "application/grpc"), ("te", "trailers")))
    message = b"\x0a" + bytes([len(set_id)]) + set_id.encode() if set_id else b""
    data = b"\x00" + struct.pack(">I", len(message)) + message
    return (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, headers) + frame(0, 0, 1, data))


class Client:
    def __init__(self, place, greeting):
        self.socket = socket.create_connection(place)
        self.socket.sendall(greeting)
        self.socket.setblocking(False)
        self.rest = b""
        self.untaken = 0
        self.messages = 0

    def read(self):
        """False: it has ended."""
        try:
            got = self.socket.recv(65536)
        except BlockingIOError:
            return True
        if not got:
            return False
        self.rest += got
        while len(self.rest) >= 9:
            length = int.from_bytes(self.rest[:3], "big")
            if len(self.rest) < 9 + length:
                break
            kind, flags = self.rest[3], self.rest[4]
            self.take(kind, flags, self.rest[9:9 + length])
            self.rest = self.rest[9 + length:]
            if kind in (3, 7):
                return False
        return True

    def take(self, kind, flags, payload):
        if kind == 0:
            self.messages += 1
            self.untaken += len(payload)
            if self.untaken > 16384:
                grant = struct.pack(">I", self.untaken)
                self.socket.send(frame(8, 0, 0, grant) + frame(8, 0, 1, grant))
                self.untaken = 0
        elif kind == 4 and not flags & 1:
            self.socket.send(frame(4, 1, 0))
        elif kind == 6 and not flags & 1:
            self.socket.send(frame(6, 1, 0, payload))


def usage(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        words = file.read().rsplit(")", 1)[1].split()
    cpu = (int(words[11]) + int(words[12])) / TICKS_PER_S
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
    return cpu, rss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--counts", default="0,250,500,1000")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--set", default="")
    flags = parser.parse_args()
    host, port = flags.target.rsplit(":", 1)
    selector = selectors.DefaultSelector()
    clients = []
    print("| streams | CPU s a second | of it a stream, us | RssAnon, MiB | messages a second |\n|---|---|---|---|---|")
    for count in (int(word) for word in flags.counts.split(",")):
        while len(clients) < count:
            client = Client((host, int(port)), hello(flags.set))
            selector.register(client.socket, selectors.EVENT_READ, client)
            clients.append(client)
        for seconds in (3, flags.seconds):
            begin, messages, before = time.monotonic(), sum(client.messages for client in clients), usage(flags.pid)
            while (left := begin + seconds - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if not key.data.read():
                        raise SystemExit(f"a stream of {count} ended")
        passed, after = time.monotonic() - begin, usage(flags.pid)
        cpu = (after[0] - before[0]) / passed
        told = (sum(client.messages for client in clients) - messages) / passed
        print(f"| {count} | {cpu:.4f} | {1e6 * cpu / max(count, 1):.1f} | {after[1] / 1024:.1f} | {told:.0f} |", flush=True)


main()
