"""gRPC clients by hand, over plain sockets: what no library lets a client do, and what a client that behaves gets meanwhile.

Alone it is one of the hostile ones, against an engramd that runs already:

    grpc_clients.py hold PORT PATH CONNECTIONS CALLS SECONDS [REQUEST_HEX]   calls whose answers nobody takes, again and again
    grpc_clients.py keep PORT CONNECTIONS STREAMS SECONDS                    streams that say something and ask for nothing
    grpc_clients.py unfinished PORT CONNECTIONS SECONDS [CALLS BYTES]        requests that are never whole
    grpc_clients.py flood PORT WHAT SECONDS                                  frames: endless_block, block_in_morsels,
                                                                             rapid_reset, resets_paid_for_by_old_streams, pings, settings,
                                                                             padded_data, whole_calls (none settled)
"""
import contextlib
import itertools
import select
import socket
import ssl
import struct
import sys
import threading
import time
import zlib

LOOKUP = "/engram.v1.Lookup/Lookup"
STREAM = "/engram.v1.Lookup/LookupStream"
ATTACH = "/engram.v1.Lookup/Attach"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\0\0\0\0\2\x08\1"
# A cancel of a batch that there is not.
CANCEL = bytes.fromhex("109f8d063001")
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
# What HTTP/2 lets a side send before it was told more.
FIRST_WINDOW = 65535


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, payload):
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def rows_request(set_id, layer, ids, batch_id=1):
    """A LookupRequest of row ids of one layer."""
    layer_ids = b"\x08" + varint(layer) + field(2, struct.pack(f"<{len(ids)}I", *ids))
    return field(1, set_id.encode()) + b"\x10" + varint(batch_id) + field(3, layer_ids)


def first_words(layer, words=8):
    """How row 0 of a synthetic layer begins (proto/FORMATS.md)."""
    def mix(value):
        mask = (1 << 64) - 1
        value = (value + 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    return b"".join(struct.pack("<Q", mix((layer << 48) ^ (word << 40))) for word in range(words))


def connect(address, timeout, tls):
    """To a port of this machine or a Unix socket's path; `tls`: an ssl.SSLContext."""
    if isinstance(address, int):
        connected = socket.create_connection(("127.0.0.1", address), timeout)
    else:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(timeout)
        connected.connect(address)
    return connected if tls is None else tls.wrap_socket(connected, server_hostname="localhost")


def call_head(path):
    """A call's header block."""
    name = path.encode()
    return b"\x83\x86\x04" + bytes([len(name)]) + name + b"\x41\x01x\x5f\x10application/grpc\x40\x02te\x08trailers"


class Connection:
    """One HTTP/2 connection. `window`: what it takes of each answer; `settles`: whether it acknowledges the settings; None: before they come."""

    def __init__(self, address, window=None, timeout=5.0, tls=None, settles=True):
        self.socket = connect(address, timeout, tls)
        self.next_stream = 1
        self.buffer = b""
        self.streams = []
        settings = b"" if window is None else struct.pack(">HI", 4, window)
        out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings)
        if settles is None:
            out += frame(SETTINGS, 1, 0)
        if window is None:
            out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))  # of the connection
        self.socket.sendall(out)
        if settles:
            # The server's come first of all, and are to be acknowledged when they are there.
            while len(self.buffer) < 9:
                got = self.socket.recv(1 << 16)
                if not got:
                    raise ConnectionResetError("closed by the other side")
                self.buffer += got
            self.socket.sendall(frame(SETTINGS, 1, 0))

    def close(self):
        self.socket.close()

    def call(self, path, body=None, announced=None, end=False):
        """Begins a call, with a message where there is a `body`; returns its stream."""
        head = call_head(path)
        stream = self.next_stream
        self.next_stream += 2
        out = frame(HEADERS, 4, stream, head)
        if body is not None:
            out += self.message(stream, body, announced, end)
        self.socket.sendall(out)
        return stream

    @staticmethod
    def message(stream, body, announced=None, end=False):
        """The frames of a message, or of the beginning of one of `announced` bytes."""
        data = b"\0" + struct.pack(">I", len(body) if announced is None else announced) + body
        pieces = [data[at:at + 16000] for at in range(0, len(data), 16000)]
        return b"".join(frame(DATA, int(end and piece is pieces[-1]), stream, piece) for piece in pieces)

    def drop_input(self):
        """Takes what is there and looks at none of it; raises OSError where the connection is gone."""
        self.socket.setblocking(False)
        try:
            while True:
                if not self.socket.recv(1 << 20):
                    raise ConnectionResetError("closed by the other side")
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(5)

    def drop_ready_input(self):
        """Takes what is there without a look, where reading does not block; raises OSError where the connection is gone."""
        try:
            if not self.socket.recv(1 << 16):
                raise ConnectionResetError("closed by the other side")
        except (BlockingIOError, ssl.SSLWantReadError):
            pass

    def frames(self):
        """Those that are whole in what came, as (kind, flags, stream, payload)."""
        while len(self.buffer) >= 9:
            end = 9 + int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < end:
                return
            one = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big"), self.buffer[9:end]
            self.buffer = self.buffer[end:]
            yield one

    def answer(self, stream, seconds):
        """The first message of the stream as it came, framed, or what there was of it at the end; raises OSError."""
        end = time.monotonic() + seconds
        data = b""
        while True:
            for kind, flags, of, payload in self.frames():
                if kind == GOAWAY:
                    raise ConnectionResetError("GOAWAY")
                if kind == PING and not flags & 1:
                    self.socket.sendall(frame(PING, 1, 0, payload))
                if of != stream:
                    continue
                if kind == DATA:
                    data += payload
                    if len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
                        return data
                if kind == RST or flags & 1 and kind in (DATA, HEADERS):
                    return data
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer")
            self.socket.settimeout(left)
            got = self.socket.recv(1 << 16)
            if not got:
                raise ConnectionResetError("closed by the other side")
            self.buffer += got


class Flood:
    """Frames again and again on one connection, until engramd ends it."""

    def __init__(self, connection):
        self.connection = connection
        self.sent = 0
        connection.socket.setblocking(False)

    def go_on(self, frames):
        """Sends more of it, as much as is taken at once; False: it was ended."""
        left = memoryview(frames)
        try:
            while left:
                try:
                    done = self.connection.socket.send(left)
                    self.sent += done
                    left = left[done:]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    select.select([self.connection.socket], [self.connection.socket], [], 1)
                self.connection.drop_ready_input()
        except OSError:
            return False
        return True


class Impatient(threading.Thread):
    """Calls with as much metadata as a call may have, none of whose answers is waited for; a connection that is ended is opened anew."""

    def __init__(self, address, path, end):
        super().__init__()
        self.address, self.path, self.end = address, path, end
        self.calls = 0

    def run(self):
        # Literals, whose values have 800 bytes.
        head = call_head(self.path) + b"".join(b"\x00\x02x%d\x7f" % number + varint(800 - 127) + b"v" * 800 for number in range(8))
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError), contextlib.closing(Connection(self.address)) as connection:
                flood = Flood(connection)
                for first in range(1, 1 << 20, 96):
                    streams = range(first, first + 96, 2)
                    if time.monotonic() > self.end or not flood.go_on(b"".join(frame(HEADERS, 5, stream, head) for stream in streams)):
                        break
                    self.calls += len(streams)


# Each makes the frames of one round from the round's number.
def endless_block(number):
    """A header field of a gigabyte, of which a piece comes at a time."""
    if number == 0:
        # A literal whose value has 2^30 bytes.
        return frame(HEADERS, 0, 1, b"\x00\x01x\x7f" + varint((1 << 30) - 127))
    return frame(CONTINUATION, 0, 1, bytes(16000))


def block_in_morsels(number):
    return endless_block(0) + frame(CONTINUATION, 0, 1, bytes(16000)) if number == 0 else frame(CONTINUATION, 0, 1, b"x") * 1000


def rapid_reset(number):
    head = call_head(HEALTH)
    streams = range(1 + 200 * number, 1 + 200 * (number + 1), 2)
    return b"".join(frame(HEADERS, 4, stream, head) + frame(RST, 0, stream, b"\0\0\0\x08") for stream in streams)


def resets_paid_for_by_old_streams(number):
    """As rapid_reset, with header blocks of a stream that was there before for each call."""
    head = call_head(HEALTH)
    streams = range(1 + 200 * number, 1 + 200 * (number + 1), 2)
    return b"".join(frame(HEADERS, 4, stream, head) + frame(HEADERS, 4, 1, head) * 4 + frame(RST, 0, stream, b"\0\0\0\x08")
                    for stream in streams)


def pings(_):
    return frame(PING, 0, 0, bytes(8)) * 1000


def settings(_):
    return frame(SETTINGS, 0, 0) * 1000


def padded_data(number):
    begin = frame(HEADERS, 4, 1, call_head(STREAM)) if number == 0 else b""
    return begin + frame(DATA, 8, 1, b"\0") * 1000


def window_updates(_):
    """More room, byte by byte, for answers that nobody asked for."""
    return frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 2000


def whole_calls(number):
    head = call_head("/a/b")
    return b"".join(frame(HEADERS, 5, stream, head) for stream in range(1 + 200 * number, 1 + 200 * (number + 1), 2))


FLOODS = {one.__name__: one for one in (endless_block, block_in_morsels, rapid_reset, resets_paid_for_by_old_streams, pings, settings,
                                        padded_data, window_updates, whole_calls)}


def compressed_call(path, megabytes):
    """A call, of stream 1, whose message of zeros becomes a thousand times as large as it is sent."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([packer.compress(bytes(1 << 20)) for _ in range(megabytes)]) + packer.flush()
    head = call_head(path) + b"\x00\x0dgrpc-encoding\x04gzip"
    data = b"\1" + struct.pack(">I", len(body)) + body
    pieces = [data[at:at + 16000] for at in range(0, len(data), 16000)]
    return frame(HEADERS, 4, 1, head) + b"".join(frame(DATA, int(piece is pieces[-1]), 1, piece) for piece in pieces)


class SlowUpload:
    """Requests of a connection that come as fast as the windows allow, and never come to their ends."""

    def __init__(self, connection, calls, sent, announced=4 << 20, path=LOOKUP):
        self.connection = connection
        self.connection_window = FIRST_WINDOW
        self.windows, self.left = {}, {}
        for _ in range(calls):
            stream = connection.call(path, b"", announced=announced)
            self.windows[stream], self.left[stream] = FIRST_WINDOW - 5, sent
            self.connection_window -= 5

    def go_on(self):
        """Sends what may be sent now; raises OSError where the connection is gone."""
        self.connection.socket.setblocking(False)
        try:
            while True:
                got = self.connection.socket.recv(1 << 16)
                if not got:
                    raise ConnectionResetError("closed by the other side")
                self.connection.buffer += got
        except BlockingIOError:
            pass
        finally:
            self.connection.socket.settimeout(1)
        for kind, _, stream, payload in self.connection.frames():
            if kind == WINDOW_UPDATE and stream == 0:
                self.connection_window += int.from_bytes(payload, "big")
            elif kind == WINDOW_UPDATE and stream in self.windows:
                self.windows[stream] += int.from_bytes(payload, "big")
            elif kind in (RST, HEADERS):
                self.left.pop(stream, None)
        out = []
        for stream, left in self.left.items():
            while (size := min(16000, left, self.windows[stream], self.connection_window)) > 0:
                out.append(frame(DATA, 0, stream, bytes(size)))
                left -= size
                self.windows[stream] -= size
                self.connection_window -= size
            self.left[stream] = left
        self.connection.socket.sendall(b"".join(out))


def healthy(address, seconds=2.0):
    """One health check, by a connection of its own as a probe's: whether it was answered SERVING in time."""
    try:
        connection = Connection(address, timeout=seconds)
    except OSError:
        return False
    try:
        return connection.answer(connection.call(HEALTH, b"", end=True), seconds) == SERVING
    except OSError:
        return False
    finally:
        connection.close()


def looks_up(connection, set_id, layer=1, seconds=5.0):
    """One unary lookup of row 0: whether the row came, as it is."""
    try:
        data = connection.answer(connection.call(LOOKUP, rows_request(set_id, layer, [0]), end=True), seconds)
    except OSError:
        return False
    return first_words(layer) in data


class Hostile:
    """Several connections that are opened again where engramd closed them."""

    def __init__(self, port, connections, window=None):
        self.port, self.window = port, window
        self.connections = [None] * connections

    def each(self, act):
        """act(connection, is_new) for each of them."""
        for at, connection in enumerate(self.connections):
            is_new = connection is None
            try:
                if is_new:
                    connection = self.connections[at] = Connection(self.port, self.window, timeout=1)
                act(connection, is_new)
                if not hasattr(connection, "upload"):
                    connection.drop_input()
            except OSError:
                if connection is not None:
                    connection.close()
                self.connections[at] = None

    def close(self):
        for connection in self.connections:
            if connection is not None:
                connection.close()


def hold_once(hostile, path, body, calls):
    """Calls whose answers nobody takes."""
    hostile.each(lambda connection, _: [connection.call(path, body, end=path != STREAM) for _ in range(calls)])


def keep_once(hostile, streams):
    """Streams that say that they live."""
    def act(connection, is_new):
        if is_new:
            connection.streams = [connection.call(STREAM, CANCEL) for _ in range(streams)]
        else:
            connection.socket.sendall(b"".join(connection.message(stream, CANCEL) for stream in connection.streams))

    hostile.each(act)


def leave_unfinished(hostile, calls=100, sent=48000, path=LOOKUP):
    """Requests of which a part comes, at once or, where that is more than the windows take, bit by bit."""
    def act(connection, is_new):
        if sent > FIRST_WINDOW:
            if is_new:
                connection.upload = SlowUpload(connection, calls, sent, path=path)
            connection.upload.go_on()
        elif is_new:
            for _ in range(calls):
                connection.call(path, bytes(sent), announced=4 << 20)

    hostile.each(act)


def main(words):
    kind, port, numbers = words[0], int(words[1]), words[2:]
    if kind == "hold":
        path, connections, calls, seconds = numbers[0], int(numbers[1]), int(numbers[2]), float(numbers[3])
        body = bytes.fromhex(numbers[4]) if len(numbers) > 4 else b""
        hostile = Hostile(port, connections, window=0)
        once = lambda: hold_once(hostile, path, body, calls)
    elif kind == "keep":
        hostile, seconds = Hostile(port, int(numbers[0])), float(numbers[2])
        once = lambda: keep_once(hostile, int(numbers[1]))
    elif kind == "flood":
        end = time.monotonic() + float(numbers[1])
        while time.monotonic() < end:
            with contextlib.closing(Connection(port, settles=numbers[0] != "whole_calls")) as connection:
                flood, rounds = Flood(connection), itertools.count()
                while time.monotonic() < end and flood.go_on(FLOODS[numbers[0]](next(rounds))):
                    pass
        return
    else:
        hostile, seconds = Hostile(port, int(numbers[0])), float(numbers[1])
        once = lambda: leave_unfinished(hostile, *map(int, numbers[2:4]))
    with contextlib.closing(hostile):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            once()
            time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1:])
