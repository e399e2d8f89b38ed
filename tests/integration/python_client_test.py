"""A client in plain grpcio and protobuf, made from lookup.proto alone: what any language does without our SDK.

Rows are checked against the synthetic rule of proto/FORMATS.md, written out here once more.
"""
import importlib
import os
import queue
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

import grpc

# In the runfiles folder, where a test begins: engram, engramd, protoc, lookup.proto, the token map.
ENGRAM, ENGRAMD, PROTOC, PROTO, TOKEN_MAP = sys.argv[1:6]
SERVICE = "/engram.v1.Lookup/"
WAIT_S = 60
MASK = (1 << 64) - 1


def mix(v):
    v = (v + 0x9E3779B97F4A7C15) & MASK
    v = ((v ^ (v >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    v = ((v ^ (v >> 27)) * 0x94D049BB133111EB) & MASK
    return v ^ (v >> 31)


def synthetic_row(layer, row, row_bytes):
    words = [mix((layer << 48) ^ (word << 40) ^ row) for word in range((row_bytes + 7) // 8)]
    return struct.pack(f"<{len(words)}Q", *words)[:row_bytes]


def compile_proto(directory):
    subprocess.run([PROTOC, f"--proto_path={os.path.dirname(PROTO)}", f"--python_out={directory}", PROTO], check=True)
    sys.path.insert(0, directory)
    return importlib.import_module("lookup_pb2")


def start_engramd(table_set):
    process = subprocess.Popen([ENGRAMD, "--table-set", table_set, "--listen", "127.0.0.1:0"],
                               stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    log = ""
    for line in process.stdout:
        log += line
        listening = re.search(r"listening on (\S+)", line)
        if listening:
            return process, listening.group(1)
    raise RuntimeError(f"engramd does not serve:\n{log}")


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.pb = compile_proto(scratch.name)
        table_set = os.path.join(scratch.name, "set")
        subprocess.run([ENGRAM, "pack", "--synthetic", "--family", "deepseek-v4.1-flash", "--rows-per-head", "500",
                        "--token-map", TOKEN_MAP, "--output", table_set], check=True, stdout=subprocess.DEVNULL)
        engramd, address = start_engramd(table_set)
        cls.addClassCleanup(stop, engramd)
        cls.channel = grpc.insecure_channel(address)
        cls.addClassCleanup(cls.channel.close)
        cls.set = cls.unary("Describe", cls.pb.DescribeResponse)(cls.pb.DescribeRequest(), timeout=WAIT_S).table_sets[0]

    @classmethod
    def unary(cls, method, response):
        return cls.channel.unary_unary(SERVICE + method, request_serializer=lambda m: m.SerializeToString(),
                                       response_deserializer=response.FromString)

    @classmethod
    def stream(cls, requests):
        call = cls.channel.stream_stream(SERVICE + "LookupStream",
                                         request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=cls.pb.LookupResponse.FromString)
        return call(requests, timeout=WAIT_S)

    def batch(self, batch_id, rows, wide=False):
        """`rows` random row ids of every layer; at times as 64 bits."""
        chance = random.Random(batch_id)
        request = self.pb.LookupRequest(table_set_id=self.set.id, batch_id=batch_id)
        for served in self.set.layers:
            ids = [chance.randrange(served.rows) for _ in range(rows)]
            request.layers.add(layer=served.layer, row_ids64=ids if wide else [], row_ids32=[] if wide else ids)
        return request

    def check_rows(self, request, rows):
        """`rows` by layer, against the rule."""
        self.assertEqual(sorted(rows), [layer.layer for layer in request.layers])
        widths = {served.layer: served.row_bytes for served in self.set.layers}
        for layer in request.layers:
            ids = list(layer.row_ids32) + list(layer.row_ids64)
            expected = b"".join(synthetic_row(layer.layer, row, widths[layer.layer]) for row in ids)
            self.assertTrue(rows[layer.layer] == expected, f"batch {request.batch_id}, layer {layer.layer}")

    def collect(self, responses, requests):
        """Takes messages until every one of `requests` has ended; rows by batch and layer."""
        rows = {request.batch_id: {} for request in requests}
        places = {}
        open_batches = set(rows)
        while open_batches:
            message = next(responses)
            self.assertIn(message.batch_id, open_batches)
            self.assertEqual((message.code, message.message), (0, ""))
            self.assertEqual(message.table_set_id, self.set.id)
            for run in message.layers:
                key = (message.batch_id, run.layer)
                self.assertEqual(run.first_row, places.get(key, 0))
                places[key] = run.first_row + len(run.rows) // 264
                rows[message.batch_id][run.layer] = rows[message.batch_id].get(run.layer, b"") + run.rows
            if message.last:
                open_batches.remove(message.batch_id)
        return rows

    def test_a_unary_lookup(self):
        lookup = self.unary("Lookup", self.pb.LookupResponse)
        for batch_id, (rows, wide) in enumerate([(1, False), (300, True), (2000, False)]):
            request = self.batch(batch_id, rows, wide)
            response = lookup(request, timeout=WAIT_S)
            self.assertEqual((response.table_set_id, response.batch_id), (self.set.id, batch_id))
            self.check_rows(request, {layer.layer: layer.rows for layer in response.layers})

    def test_a_unary_lookup_that_is_wrong(self):
        lookup = self.unary("Lookup", self.pb.LookupResponse)
        request = self.batch(1, 3)
        request.layers[0].row_ids32[1] = self.set.layers[0].rows
        with self.assertRaises(grpc.RpcError) as raised:
            lookup(request, timeout=WAIT_S)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("outside the table", raised.exception.details())
        with self.assertRaises(grpc.RpcError) as raised:
            lookup(self.batch(2, 9000), timeout=WAIT_S)
        self.assertIn("LookupStream", raised.exception.details())

    def test_many_batches_on_one_stream(self):
        requests = [self.batch(batch_id, rows, batch_id % 2 == 1)
                    for batch_id, rows in enumerate([1, 6000, 48, 1, 2500, 7, 24, 3])]
        responses = self.stream(iter(requests))
        rows = self.collect(responses, requests)
        for request in requests:
            self.check_rows(request, rows[request.batch_id])
        self.assertEqual(list(responses), [])
        self.assertEqual(responses.code(), grpc.StatusCode.OK)

    def test_one_batch_after_the_other_and_a_wrong_one_between(self):
        asked = queue.Queue()
        responses = self.stream(iter(asked.get, None))
        for batch_id in range(1, 40):
            request = self.batch(batch_id, 5)
            if batch_id % 10 == 0:
                request.layers[0].layer = 2
            asked.put(request)
            if batch_id % 10 == 0:
                message = next(responses)
                self.assertEqual((message.batch_id, message.code), (batch_id, grpc.StatusCode.INVALID_ARGUMENT.value[0]))
                self.assertIn("has no layer 2", message.message)
            else:
                self.check_rows(request, self.collect(responses, [request])[batch_id])
        asked.put(None)
        self.assertEqual(list(responses), [])

    def test_tokens_give_the_rows_of_their_sequence(self):
        # The same tokens in one request, and with their lookback in another.
        ids = [random.Random(1).randrange(100_000) for _ in range(30)]
        whole = self.pb.LookupRequest(table_set_id=self.set.id, batch_id=1)
        whole.tokens.token_ids.extend(ids)
        tail = self.pb.LookupRequest(table_set_id=self.set.id, batch_id=2)
        tail.tokens.token_ids.extend(ids[7:])
        tail.tokens.sequence_tokens.append(20)
        tail.tokens.sequence_lookback.append(3)
        rows = self.collect(self.stream(iter([whole, tail])), [whole, tail])
        for served in self.set.layers:
            token_bytes = served.columns * served.row_bytes
            self.assertEqual(len(rows[1][served.layer]), 30 * token_bytes)
            self.assertTrue(rows[2][served.layer] == rows[1][served.layer][10 * token_bytes:])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
