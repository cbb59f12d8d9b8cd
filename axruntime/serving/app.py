"""The routes of a server: the Open Inference Protocol over REST, `/metrics`, and a page at `/`."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.model import Model
from axforge.axruntime.serving.batching import Batcher
from axforge.axruntime.serving.limits import Refused, ServingLimits, sentence_of
from axforge.axruntime.serving.metrics import ServingMetrics
from axforge.axruntime.serving.protocol import JSON_LENGTH, read_request, write_response
from axforge.axruntime.serving.served import PictureService, Served, TensorForm, TensorService, Ticket

VERSION = "1"
#: What the page may do: run its own script and talk to its own server, nothing else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src blob: data:; media-src blob:"
)
_PAGE = Path(__file__).with_name("page.html")
#: Requests that are read, prepared or answered at once; most of their threads wait for the engine.
_REQUESTS = 16
Handler = Callable[[Request], Awaitable[Response]]


def application(model: Model, limits: ServingLimits | None = None) -> Starlette:
    """The service of a model: under its name the network alone, and, if it has a pipeline, that under NAME-pipeline.

    The model stays open when the service ends. Raises AxforgeError for a pipeline that does not fit the network.
    """
    return InferenceServer(model, limits or ServingLimits()).starlette()


class InferenceServer:
    """The handlers of all routes, and what they share."""

    def __init__(self, model: Model, limits: ServingLimits) -> None:
        self._limits, self._metrics = limits, ServingMetrics()
        self._batcher = Batcher(model.run, limits, self._metrics, model.frames_at_once)
        services: list[Served] = [TensorService(model, self._batcher, limits)]
        if model.descriptor is not None:
            services.insert(0, PictureService(model, self._batcher, limits))
        self._services = {service.name: service for service in services}
        self._pool = ThreadPoolExecutor(_REQUESTS + (os.cpu_count() or 1), thread_name_prefix="axforge-requests")
        self._under_way = 0

    def starlette(self) -> Starlette:
        """The application."""
        found = [Route("/", self._page), Route("/metrics", self._figures), Route("/v2", self._about)]
        found += [Route(f"/v2/health/{word}", self._well) for word in ("live", "ready")]
        for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found += [Route(prefix, self._metadata), Route(f"{prefix}/ready", self._ready)]
            found.append(Route(f"{prefix}/infer", self._infer, methods=["POST"]))
        return Starlette(
            routes=found,
            lifespan=self._lifespan,
            exception_handlers={
                Refused: _refused,
                AxforgeError: _mistaken,
                HTTPException: _not_found,
                Exception: _broken,
            },
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Answer what is under way, then end."""
        self._batcher.close()
        self._pool.shutdown()

    async def _page(self, request: Request) -> Response:
        return Response(_PAGE.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    async def _figures(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": self._metrics.content_type})

    async def _about(self, request: Request) -> Response:
        from axforge import __version__

        return _json({"name": "axforge", "version": __version__, "extensions": ["binary_tensor_data"], "models": list(self._services)})

    async def _well(self, request: Request) -> Response:
        return _json({request.url.path.rpartition("/")[2]: True})

    async def _ready(self, request: Request) -> Response:
        return _json({"name": self._service(request).name, "ready": True})

    async def _metadata(self, request: Request) -> Response:
        service = self._service(request)
        said = {"name": service.name, "versions": [VERSION], "platform": "axforge_axmodel"}
        return _json({**said, "inputs": _forms(service.inputs), "outputs": _forms(service.outputs)})

    def _service(self, request: Request) -> Served:
        name, version = request.path_params["model"], request.path_params.get("version", VERSION)
        if name not in self._services:
            raise Refused(404, f"There is no model '{name[:80]}'. There are: {', '.join(self._services)}.")
        if version != VERSION:
            raise Refused(404, f"{name} has no version '{version[:20]}'. It has version {VERSION}.")
        return self._services[name]

    async def _infer(self, request: Request) -> Response:
        service, start = self._service(request), time.monotonic()
        status = "500"
        try:
            response = await self._answered(service, request, start + self._limits.seconds)
            status = "200"
            return response
        except Refused as e:
            status = str(e.status)
            raise
        except AxforgeError:
            status = "400"
            raise
        finally:
            self._metrics.requests.labels(service.name, status).inc()
            self._metrics.seconds.labels(service.name).observe(time.monotonic() - start)

    async def _answered(self, service: Served, request: Request, deadline: float) -> Response:
        if self._under_way >= self._limits.waiting:
            raise Refused(429, f"{self._under_way} requests are under way, and at most {self._limits.waiting} may be. Try again later.")
        self._under_way += 1
        try:
            try:
                body = await asyncio.wait_for(self._body(request), deadline - time.monotonic())
            except TimeoutError:
                raise Refused(408, f"The body did not come within {self._limits.seconds:g} s.") from None
            ticket = Ticket(deadline)
            json_length = request.headers.get(JSON_LENGTH)
            work = asyncio.get_running_loop().run_in_executor(self._pool, self._worked, service, body, json_length, ticket)
            return await self._awaited(work, request, ticket)
        finally:
            self._under_way -= 1

    async def _body(self, request: Request) -> bytes:
        """The body. Raises Refused for one that is too large, before it is read where its length is announced."""
        most = self._limits.request_bytes
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "Compressed requests are not taken. Send the body as it is.")
        length = request.headers.get("Content-Length", "")
        too_large = Refused(413, f"The request is too large: at most {most:,} bytes are taken.")
        if length.isdecimal() and (len(length) > 18 or int(length) > most):
            raise too_large
        parts: list[bytes] = []
        try:
            async for part in request.stream():
                parts.append(part)
                most -= len(part)
                if most < 0:
                    raise too_large
        except ClientDisconnect:
            raise Refused(499, "The client has gone.") from None
        return b"".join(parts)

    async def _awaited(self, work: "asyncio.Future[Response]", request: Request, ticket: Ticket) -> Response:
        """The answer of `work`, unless the client goes or its time is over: then its frames are taken out of the queue."""
        gone = asyncio.ensure_future(_gone(request))
        try:
            both: set[asyncio.Future[Response] | asyncio.Future[None]] = {work, gone}
            await asyncio.wait(both, timeout=ticket.deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if work.done():
            return work.result()
        ticket.cancel()
        work.add_done_callback(lambda late: late.exception())  # nobody else asks for it
        if gone.done() and not gone.cancelled():
            raise Refused(499, "The client has gone.")
        raise Refused(503, f"There was no answer within {self._limits.seconds:g} s. Try again later, or send fewer frames at once.")

    def _worked(self, service: Served, body: bytes, json_length: str | None, ticket: Ticket) -> Response:
        request = read_request(body, json_length)
        answer = service.infer(request, ticket)
        self._metrics.frames.labels(service.name).inc(answer.frames)
        for step, seconds in answer.seconds.items():
            self._metrics.steps.labels(service.name, step).observe(seconds)
        times = {f"{step.replace('-', '_')}_ms": round(1000 * seconds, 3) for step, seconds in answer.seconds.items()}
        content, headers = write_response(service.name, request, answer.outputs, times)
        return Response(content, headers=headers)


async def _gone(request: Request) -> None:
    """Returns when the client hangs up. (The body has been read, so nothing else can come.)"""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _forms(forms: Sequence[TensorForm]) -> list[dict[str, object]]:
    return [{"name": form.name, "datatype": form.datatype, "shape": list(form.shape)} for form in forms]


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    status, sentence = (error.status, error.sentence) if isinstance(error, Refused) else (400, str(error))
    response = _json({"error": sentence}, status)
    if status in (429, 503):
        response.headers["Retry-After"] = "1"
    return response


async def _mistaken(request: Request, error: Exception) -> Response:
    return _json({"error": sentence_of(error) if isinstance(error, AxforgeError) else str(error)}, 400)


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    if status == 405:
        return _json({"error": f"{request.method} is not answered here."}, status)
    return _json({"error": f"There is nothing at {request.url.path[:200]}. The protocol is below /v2, a page to try it at /."}, status)


async def _broken(request: Request, error: Exception) -> Response:
    return _json({"error": "The server has failed at this request; its log says how."}, 500)
