"""Starts an engramd with the arguments that a deployment gives it, moved to a scratch directory and to free ports."""
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import grpc

import programs

START_SECONDS = 60
TOKENS = 2000  # of one lookup
SERVING = b"\x08\x01"  # HealthCheckResponse.status


class Place:
    """A scratch directory with what deployments mount: a small table set, certificates, a directory for sockets."""

    def __init__(self, scratch, engram, engramd, token_map, tokens):
        self.scratch, self.engram, self.engramd = scratch, engram, engramd
        self.tokens = os.path.join(scratch, "tokens.i32")
        with open(tokens, "rb") as source, open(self.tokens, "wb") as some:
            some.write(source.read(4 * TOKENS))
        self.table_set, self.tls, self.sockets = (os.path.join(scratch, name) for name in ("set", "tls", "sockets"))
        programs.pack_synthetic(engram, "deepseek-v4.1-flash", 500, token_map, self.table_set)
        os.mkdir(self.sockets)
        self._make_certificates()

    def _make_certificates(self):
        """ca.crt, and tls.crt with tls.key for localhost, as a kubernetes.io/tls secret holds them."""
        os.mkdir(self.tls)
        run = lambda *words: subprocess.run(["openssl", *words], check=True, cwd=self.tls, stderr=subprocess.DEVNULL)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test CA")
        run("req", *key, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=engram")
        with open(os.path.join(self.tls, "extensions"), "w", encoding="ascii") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        run("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tls.crt",
            "-days", "2", "-extfile", "extensions")

    def start(self, arguments):
        return Engramd(self, arguments)


class Engramd:
    def __init__(self, place, arguments):
        self.place, self.ports = place, {}  # a deployment's ports, and which they are here
        self.state = tempfile.mkdtemp(dir=place.scratch)  # as each pod has one, empty
        self.arguments = [moved for word in arguments for moved in self._moved(word)]
        self.log_path = self.state + ".log"
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([place.engramd, *self.arguments], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)

    def _moved(self, word):
        """A deployment's argument, as it is given here."""
        flag, _, value = word.partition("=")
        if flag in ("--rdma-device", "--rdma-read"):
            return []  # there is no such device here
        if flag == "--table-set":
            return [f"{flag}={self.place.table_set}"]
        value = value.replace("/run/engram/", self.place.sockets + "/").replace("/etc/engram/tls/", self.place.tls + "/")
        if flag == "--state-dir":
            value = self.state
        port = re.fullmatch(r"(0\.0\.0\.0|127\.0\.0\.1):(\d+)", value)
        if port:
            self.ports.setdefault(int(port.group(2)), programs.free_port())
            value = f"{port.group(1)}:{self.ports[int(port.group(2))]}"
        return [f"{flag}={value}" if value else flag]

    def get(self, port, path):
        """(status, text) of a deployment's port; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def probe(self, probe, ports):
        """Whether a container's probe passes; `ports` are the container's by their names."""
        if "httpGet" in probe:
            port = probe["httpGet"]["port"]
            return self.get(ports.get(port, port), probe["httpGet"]["path"])[0] == 200
        if "grpc" in probe:
            return self._is_serving(probe["grpc"]["port"], probe["grpc"]["service"])
        program, *words = probe["exec"]["command"]
        moved = [word for given in words for word in self._moved(given)]
        return subprocess.run([self._program(program), *moved], check=False, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0

    def _program(self, path):
        return {"/usr/bin/engram": self.place.engram, "/usr/bin/engramd": self.place.engramd}[path]

    def _is_serving(self, port, service):
        request = bytes([0x0a, len(service)]) + service.encode()  # HealthCheckRequest.service
        with grpc.insecure_channel(f"127.0.0.1:{self.ports[port]}") as channel:
            try:
                return channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=5) == SERVING
            except grpc.RpcError:
                return False

    def wait_for(self, check):
        """Whether `check` came true in time, while engramd ran."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if check():
                return True
            time.sleep(0.05)
        return False

    def targets(self):
        """What a client calls the addresses that rows are served at."""
        for flag, _, value in (word.partition("=") for word in self.arguments):
            if flag == "--shm-socket":
                yield f"shm:{value}"
            elif flag == "--listen":
                yield "grpc:" + value.replace("0.0.0.0:", "localhost:" if self._speaks_tls() else "127.0.0.1:")

    def _speaks_tls(self):
        return any(word.startswith("--tls-cert") for word in self.arguments)

    def has_partition(self):
        return any(word.startswith("--partition=") for word in self.arguments)

    def lookup(self, target):
        words = [self.place.engram, "lookup", "--target", target, "--token-ids", self.place.tokens, "--output", "-", "--attach-timeout", "10s"]
        if self._speaks_tls() and "unix:" not in target and target.startswith("grpc:"):
            tls = self.place.tls
            words += ["--tls-ca", f"{tls}/ca.crt", "--tls-cert", f"{tls}/tls.crt", "--tls-key", f"{tls}/tls.key"]
        return subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode

    def log(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def stop(self, seconds):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
