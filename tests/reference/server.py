"""A server in a thread, on a free port, for tests that speak HTTP with it."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from maskwright.serving.app import application
from maskwright.serving.settings import ServeOptions


@contextmanager
def serving(models: Mapping[str, Any], **options: Any) -> Iterator[httpx.Client]:
    """A client of a server of these models."""
    app = application(models, ServeOptions(**options))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
