"""Connections of a process after a stop, in a process of its own: a stop cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

# A worker waits for a peer that says nothing.
_WAITING = """
import os, signal, socket, threading
from common import interruption

listener = socket.create_server(("127.0.0.1", 0), backlog=64)
given = socket.create_connection(listener.getsockname())
for each in (listener, given):
    os.set_inheritable(each.fileno(), True)  # as those that the caller of the program left open
local, _ = socket.socketpair()  # AF_UNIX
begun = threading.Event()

def work():
    waiting = socket.create_connection(listener.getsockname(), timeout=120)
    begun.set()
    print("worker:", waiting.recv(1))

def is_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True

interruption.listen()
interruption.working()
try:
    with interruption.workers(2, "test") as pool:
        pool.submit(work)
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    again = socket.create_connection(listener.getsockname())  # what is cleaned up connects again
    print("open:", is_open(given), is_open(local), is_open(again))
interruption.finished(130)
"""


def test_workers_are_woken_and_what_comes_after_connects_again():
    done = subprocess.run([sys.executable, "-c", _WAITING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "worker: b''\nopen: True True True\n"
    assert done.stderr == ""


# The second signal comes when the thread that shuts down connections has just begun.
_AT_ONCE = """
import os, signal, sys, threading
from common import interruption

def second(frame, event, _argument):
    if event == "return" and frame.f_code.co_name == "_disconnect_until":
        sys.setprofile(None)
        raise KeyboardInterrupt

interruption.listen()
interruption.working()
try:
    with interruption.workers(1, "test"):
        sys.setprofile(second)
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    left = [each for each in threading.enumerate() if each.name == "disconnect"]
    for each in left:
        each.join(5)
    print("cut:", any(each.is_alive() for each in left))
"""


def test_what_comes_after_two_signals_at_once_connects_again():
    done = subprocess.run([sys.executable, "-c", _AT_ONCE], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("cut: False\n", "")


# The main thread does not wait for its pool: a second signal came while it did.
_LEFT = """
import os, signal, socket
from concurrent.futures import ThreadPoolExecutor
from common import interruption

listener = socket.create_server(("127.0.0.1", 0))
interruption.listen()
interruption.working()
pool = ThreadPoolExecutor(1)
pool.submit(lambda: socket.create_connection(listener.getsockname(), timeout=120).recv(1))
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    interruption.finished(130)
"""


def test_threads_that_are_left_behind_do_not_hold_up_the_end():
    subprocess.run([sys.executable, "-c", _LEFT], timeout=60, check=True)
