"""The load generators of the benchmarks: what they count must be what happened, or every figure is wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.load import post, run_load, run_open_loop
from benchmarks.world import cpu_seconds, processes_of, tree_cpu_seconds

REQUEST = post("/", b"{}", {})
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """A thread for each connection, which answers a request as it is told to."""

    def __init__(self, answer: Callable[[int], list[bytes]]) -> None:
        self.connections = 0
        self.requests = 0
        self._answer = answer
        self._counting = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            heard = b""
            while part := connection.recv(65536):
                heard += part
                while len(heard) >= len(REQUEST):
                    assert heard.startswith(REQUEST)
                    heard = heard[len(REQUEST) :]
                    with self._counting:
                        self.requests += 1
                        number = self.requests
                    for octets in self._answer(number):
                        connection.sendall(octets)


@contextmanager
def serving(answer: Callable[[int], list[bytes]]) -> Iterator[tuple[Server, str]]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        server = Server(answer)
        thread = threading.Thread(target=server.serve, args=[listener])
        thread.start()
        try:
            yield server, f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def at_once(number: int) -> list[bytes]:
    return [ANSWER]


def test_so_many_requests_are_sent_and_no_more_on_connections_that_are_kept_or_not() -> None:
    with serving(at_once) as (server, address):
        load = run_load(address, REQUEST, connections=4, seconds=60, requests=50)
        assert (load.requests, server.requests, server.connections) == (50, 50, 4)
        load = run_load(address, REQUEST, connections=4, seconds=60, requests=50, keeps=False)
        assert (load.requests, server.requests, server.connections) == (50, 100, 54)
        assert 0 < load.p50 <= load.p99 <= load.p999 <= load.seconds
        assert load.cpu_seconds > 0


def test_an_answer_may_come_in_pieces() -> None:
    def in_pieces(number: int) -> list[bytes]:
        return [ANSWER[index : index + 1] for index in range(len(ANSWER))]

    with serving(in_pieces) as (server, address):
        assert run_load(address, REQUEST, connections=2, seconds=60, requests=10).requests == 10
        run_open_loop(address, REQUEST, connections=2, seconds=0.1, per_second=100)
        assert server.requests == 20


def refuse_one(number: int) -> list[bytes]:
    return [ANSWER.replace(b"200 OK", b"503 No") if number == 5 else ANSWER]


def test_a_rate_with_refusals_in_it_is_no_rate() -> None:
    with serving(refuse_one) as (_, address), pytest.raises(RuntimeError, match="503 No"):
        run_load(address, REQUEST, connections=2, seconds=60, requests=10)


def test_an_open_loop_says_what_was_refused() -> None:
    with serving(refuse_one) as (_, address):
        load = run_open_loop(address, REQUEST, connections=2, seconds=0.1, per_second=100)
    assert load.refused == {"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}": 1}


def test_who_would_have_come_while_the_server_stood_still_is_counted() -> None:
    """One connection, 20 requests due within 0.2 s, and the first is answered after 0.5 s. Who measures from when a
    request could be sent sees one that waited; all of them did."""

    def stand_still(number: int) -> list[bytes]:
        if number == 1:
            time.sleep(0.5)  # what is measured
        return [ANSWER]

    with serving(stand_still) as (server, address):
        load = run_open_loop(address, REQUEST, connections=1, seconds=0.2, per_second=100)
    assert server.requests == load.requests == 20
    assert load.p50 > 0.3
    assert load.p999 >= 0.5


def test_an_open_loop_keeps_to_its_rate_and_uses_all_connections() -> None:
    with serving(at_once) as (server, address):
        load = run_open_loop(address, REQUEST, connections=8, seconds=0.5, per_second=200)
    assert (load.requests, server.requests, server.connections) == (100, 100, 8)
    assert load.seconds >= 99 / 200


def test_processor_time_is_that_of_all_processes_and_of_those_that_have_ended(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    (tmp_path / "burn.py").write_text(burn)
    (tmp_path / "burn_and_stay.py").write_text(f"{burn}print('burnt', flush=True)\ninput()\n")
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, 'burn.py'])\n"
        "subprocess.run([sys.executable, 'burn_and_stay.py'])\n"
    )
    command = [sys.executable, "parent.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == b"burnt\n"
        assert len(processes_of(parent.pid)) == 2
        assert tree_cpu_seconds(parent.pid) >= 0.58  # the first one in hundredths
        assert cpu_seconds(parent.pid) < 0.3
        parent.stdin.write(b"\n")
        parent.stdin.close()
    assert parent.returncode == 0
