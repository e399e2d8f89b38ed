"""Clients that behave, while somebody else does not."""
import contextlib
import threading
import time

import grpc_clients as clients


class Others:
    """A probe and two clients, again and again on threads of their own until the block ends."""

    def __init__(self, address, set_id):
        self.address, self.set_id = address, set_id
        self.stop = threading.Event()
        self.counts = {"health": [0, 0], "lookup": [0, 0], "new lookup": [0, 0]}
        self.threads = [threading.Thread(target=self.run, args=one) for one in (
            ("health", lambda: clients.healthy(address)),
            ("lookup", self.look_up_again),
            ("new lookup", self.look_up_anew))]
        self.connection = clients.Connection(address)

    def look_up_again(self):
        return clients.looks_up(self.connection, self.set_id)

    def look_up_anew(self):
        try:
            connection = clients.Connection(self.address)
        except OSError:
            return False
        with contextlib.closing(connection):
            return clients.looks_up(connection, self.set_id)

    def run(self, what, act):
        while not self.stop.is_set():
            self.counts[what][0 if act() else 1] += 1
            time.sleep(0.02)

    def rounds(self):
        """How often the one that was looked at least was served or not."""
        return min(sum(counts) for counts in self.counts.values())

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.connection.close()
