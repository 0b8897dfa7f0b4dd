"""What the Celery stories share: the broker under test, workers that can be killed, what tasks left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

DIRECTORY = os.environ.setdefault("TASKS_DIRECTORY", tempfile.mkdtemp(prefix="leveret-celery-"))
HERE = os.path.dirname(os.path.abspath(__file__))


def eventually(condition, what, seconds=60.0):
    """Waits for a condition and gives what it gave."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)
    return value


def restart_broker():
    """kill -9 of the broker, and its start on the same port and directory: asked of who runs this."""
    print("restart the broker", flush=True)
    assert sys.stdin.readline() == "restarted\n"


def times(name):
    """When tasks left a trace of this name."""
    try:
        with open(os.path.join(DIRECTORY, str(name))) as file:
            return [float(line.split()[0]) for line in file]
    except FileNotFoundError:
        return []


class Worker:
    """A worker, its pool included, as a process group."""

    def __init__(self, name, *options, pool=2):
        self.name = f"{name}@localhost"
        self.log = os.path.join(DIRECTORY, f"{name}-{time.monotonic_ns()}.log")
        command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-n", self.name, "-c", str(pool)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, "-l", "INFO", *options],
                cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )

    def said(self, text):
        with open(self.log) as log:
            return text in log.read()

    def wait_ready(self):
        eventually(lambda: self.said(" ready.") or self.process.poll() is not None, f"{self.name} is ready")
        assert self.process.poll() is None, open(self.log).read()
        return self

    def kill(self):
        """SIGKILL to the worker and its pool: no goodbye to the broker."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """A warm shutdown: what is begun is finished and acknowledged."""
        self.process.terminate()
        assert self.process.wait(60) == 0, open(self.log).read()

    def __enter__(self):
        return self.wait_ready()

    def __exit__(self, kind, *_):
        if kind and os.path.exists(self.log):
            sys.stderr.write(open(self.log).read()[-20000:])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
