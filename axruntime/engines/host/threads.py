"""A small pool of threads that run one native program together.

Workers are Python threads that sleep on a lock between frames and hold no interpreter lock while they run. A pool serves one frame at
a time; who finds it taken runs alone, which gives the same result. After a fork the child starts workers of its own.
"""

import os
import threading
from collections.abc import Callable


class Pool:
    """`threads - 1` workers, started when first used."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.reset()

    def reset(self) -> None:
        """No workers and fresh locks; after a fork the old ones belong to the parent."""
        self._pid = os.getpid()
        self._taken = threading.Lock()
        self._wake: list[threading.Lock] = []
        self._jobs: list[Callable[[int, int], None] | None] = []
        self._workers: list[threading.Thread] = []

    def run(self, job: Callable[[int, int], None]) -> None:
        """Calls job(thread, threads) once on every thread; the threads meet inside `job`, so its return means that all are done."""
        if self._pid != os.getpid():
            self.reset()
        if self.threads == 1 or not self._taken.acquire(blocking=False):
            job(0, 1)
            return
        try:
            self._start()
            for i, lock in enumerate(self._wake):
                self._jobs[i] = job
                lock.release()
            job(0, self.threads)
        finally:
            self._taken.release()

    def _start(self) -> None:
        while len(self._workers) < self.threads - 1:
            lock = threading.Lock()
            lock.acquire()
            self._wake.append(lock)
            self._jobs.append(None)
            worker = threading.Thread(target=self._work, args=(len(self._workers), lock), daemon=True, name="aipu-host")
            self._workers.append(worker)
            worker.start()

    def _work(self, index: int, lock: threading.Lock) -> None:
        jobs = self._jobs
        while True:
            lock.acquire()
            job, jobs[index] = jobs[index], None
            if job is None:
                return
            job(index + 1, self.threads)
            # a sleeping worker holds on to nothing of the frame
            job = None

    def close(self) -> None:
        """Ends the workers and waits for them."""
        if self._pid != os.getpid():
            return
        with self._taken:
            for i, lock in enumerate(self._wake):
                self._jobs[i] = None
                lock.release()
            for worker in self._workers:
                if worker is not threading.current_thread():
                    worker.join()
            self._wake, self._jobs, self._workers = [], [], []
