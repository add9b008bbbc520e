"""The page over HTTP, for this machine only: static files, and the answers of a desk behind a token."""

from __future__ import annotations

import contextlib
import ctypes
import json
import secrets
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from molifold.workbench.desk import Desk

#: Names under which this machine calls itself; any other in a Host header is somebody else's page (DNS rebinding).
LOCAL = ("127.0.0.1", "localhost", "[::1]")
STATIC = {"views.js": "text/javascript", "views.css": "text/css"}
#: A page of ours loads nothing from elsewhere and runs no script but its own.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cache-Control": "no-store"}  # fmt: skip
#: Bytes of a question.
LONGEST = 1_000_000
#: The parameter of mallopt (malloc.h), and its value in bytes.
M_MMAP_THRESHOLD, LARGE = -3, 262_144


def application(desk: Desk, *, token: str | None = None, hosts: Sequence[str] = ()) -> Starlette:
    """The web application of a desk; ``token`` (default: a new one) is in ``app.state.token``.

    Args:
        desk: answers.
        token: what every question must carry.
        hosts: further names under which it may be reached, for a reverse proxy.
    """
    token = token or secrets.token_urlsafe(24)
    allowed = {*LOCAL, *hosts}

    def refused(request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if _name(host) not in allowed:
            return JSONResponse({"error": f"host {host!r} is not this machine; name it with --host"}, 403, HEADERS)
        origin = request.headers.get("origin")
        if origin is not None and _name(origin.partition("://")[2]) not in allowed:
            return JSONResponse({"error": f"origin {origin!r} may not ask here"}, 403, HEADERS)
        return None

    async def page(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        if not secrets.compare_digest(request.query_params.get("token", ""), token):
            return HTMLResponse("<p>Open the address that molifold printed: it carries a token.</p>", 403, HEADERS)
        return HTMLResponse(_static("page.html").decode(), headers=HEADERS)

    async def static(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        name = request.path_params["name"]
        if name not in STATIC:
            return JSONResponse({"error": "no such file"}, 404, HEADERS)
        return Response(_static(name), media_type=STATIC[name], headers={**HEADERS, "Cache-Control": "no-cache"})

    async def ask(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        if not secrets.compare_digest(request.headers.get("x-molifold-token", ""), token):
            return JSONResponse({"error": "wrong token; open the address that molifold printed"}, 403, HEADERS)
        if int(request.headers.get("content-length", 0)) > LONGEST:
            return JSONResponse({"error": "question too long"}, 413, HEADERS)
        try:
            arguments: dict[str, Any] = json.loads(await request.body() or b"{}")
            block = await run_in_threadpool(desk.answer, request.path_params["question"], arguments)
        except KeyError as error:
            return JSONResponse({"error": str(error.args[0])}, 404, HEADERS)
        except (ValueError, TypeError, OSError) as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)
        return Response(block, media_type="application/octet-stream", headers=HEADERS)

    app = Starlette(routes=[
        Route("/", page), Route("/{name:str}", static), Route("/api/{question:str}", ask, methods=["POST"]),
    ])  # fmt: skip
    app.state.token = token
    return app


def serve(
    desk: Desk, *, port: int = 6060, hosts: Sequence[str] = (), token: str | None = None, tell: Any = print
) -> None:
    """Serve until interrupted, on 127.0.0.1 only; the next free port is taken when ``port`` is not."""
    import socket

    import uvicorn

    give_back_freed_arrays()
    app = application(desk, hosts=hosts, token=token)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for candidate in (*range(port, port + 20), 0):
            try:
                listener.bind(("127.0.0.1", candidate))
                break
            except OSError:
                continue
        listener.listen(128)
        tell(f"http://127.0.0.1:{listener.getsockname()[1]}/?token={app.state.token}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[listener])


def give_back_freed_arrays() -> None:
    """Whatever is large goes back to the system when it is freed, for the whole process, where glibc is the allocator.

    It does so by itself only at first: with every large block that is freed the size from which on it does grows
    (mallopt(3), up to 32 MB), and a server with several threads ends up with 100 MB of what columns left behind.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another system
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def _name(host: str) -> str:
    return host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host


def _static(name: str) -> bytes:
    return files("molifold.workbench").joinpath("static", name).read_bytes()
