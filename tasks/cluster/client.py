"""The scheduler of a Dask cluster as seen from here."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, TypeVar

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.cluster.messages import Answer, Failed, Job
from axforge.tasks.project.progress import Channel, Message

#: Seconds to wait for a scheduler to answer, and for a first or another worker to appear.
CONNECT, NO_WORKER = 10, 60

A = TypeVar("A", bound=Answer)
J = TypeVar("J", bound=Job)


class Future(Protocol):
    """What is used of a future of Dask."""

    status: str

    def result(self) -> object:
        """The answer of the job, waited for."""

    def exception(self) -> BaseException:
        """What the job raised."""

    def done(self) -> bool:
        """Whether the job has ended."""

    def add_done_callback(self, function: Callable[[object], None]) -> None:
        """Call a function when the job has ended."""


class Cluster:
    """A connection. Each job is one call of a function of tasks.cluster.worker; a worker that is lost has its jobs done by another."""

    def __init__(self, address: str, channel: Channel) -> None:
        try:
            import distributed  # an optional package, slow to load
        except ImportError as error:
            fix = "Install it: python -m pip install 'axforge[cluster]'"
            raise AxforgeError("Working on a cluster needs the package distributed.", fix=fix) from error
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what a user must know is reported below, in sentences
        self.address, self.run, self._channel = address, uuid.uuid4().hex, channel
        self._lost = (OSError, TimeoutError, distributed.comm.CommClosedError)
        try:
            self._client = distributed.Client(address, timeout=CONNECT, name="axforge", set_as_default=False)
        except (*self._lost, ValueError) as error:
            raise AxforgeError(
                f"No scheduler answers there ({error or type(error).__name__}).",
                where=address,
                fix="Start one with `dask scheduler`, give the address that it prints, or leave cluster= (and AXFORGE_CLUSTER) away.",
            ) from error
        self._client.subscribe_topic(f"axforge-{self.run}", self._hear)

    def slots(self) -> int:
        """How many jobs it can do at once, at least 1."""
        try:
            return max(1, sum(self._client.nthreads().values()))
        except self._lost as error:
            raise self._gone() from error

    def submit(self, function: Callable[[J], Answer], job: J, name: str) -> "Future":
        """Send a job; returns what `result` takes. name: of the job on the scheduler; a job that is there already is not done again."""
        try:
            return self._client.submit(function, msgspec.structs.replace(job, topic=f"axforge-{self.run}"), key=name)
        except self._lost as error:
            raise self._gone() from error

    def result(self, future: "Future", what: str, kind: type[A]) -> A:
        """Wait for a job and return its answer. Raises AxforgeError for what a user can fix; what else the worker raised passes."""
        self._wait(future, what)
        if future.status == "error":
            error = future.exception()
            if type(error).__name__ == "KilledWorker":
                raise AxforgeError(
                    f"Each worker that was given {what} ended without an answer.",
                    where=self.address,
                    fix="Look into the workers' logs; too little memory is the usual cause.",
                )
            raise error
        if future.status != "finished":
            raise self._gone()
        answer = future.result()
        if isinstance(answer, Failed):
            raise AxforgeError(answer.error, where=f"worker {answer.worker}")
        assert isinstance(answer, kind)
        return answer

    def _wait(self, future: "Future", what: str) -> None:
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        alone_since: float | None = None
        while not ended.wait(1) and not future.done():
            try:
                workers = self._client.nthreads()
            except self._lost as error:
                raise self._gone() from error
            alone_since = None if workers else alone_since or time.monotonic()
            if alone_since is not None and time.monotonic() - alone_since > NO_WORKER:
                raise AxforgeError(
                    f"The cluster has had no worker for {NO_WORKER} s, and {what} waits for one.",
                    where=self.address,
                    fix=f"Start workers: dask worker {self.address} --nthreads 1",
                )

    def _hear(self, event: tuple[float, Message]) -> None:
        """Pass on what a worker reports."""
        _, (model, stage, done, total, note) = event
        if model:
            self._channel.relay(model, stage, done, total, note)
        else:
            self._channel.say(note)

    def _gone(self) -> AxforgeError:
        return AxforgeError(
            "The cluster's scheduler has gone.",
            where=self.address,
            fix="Stages that were finished are in the cache. Start it again and repeat the command, or leave cluster= away.",
        )


@lru_cache
def cluster_at(address: str, channel: Channel) -> Cluster:
    """The connection of this process to a scheduler, whose reports of progress go to `channel`."""
    return Cluster(address, channel)
